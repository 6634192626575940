-- Billing after a month of usage was detached: from the roll-ups as before; a price of single events cannot be applied to days
-- whose events are gone, not even where some of the period's events are there.
BEGIN;
SELECT plan(9);

SELECT billing.create_entity('acme', 'Acme', 'EUR', 'UTC');
SELECT billing.add_person('ann', 'Ann');
SELECT billing.add_login('ann', session_user);
SELECT billing.grant_duty('acme', 'ann', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager,accountant}'::text[]) d;
SELECT billing.add_tax_code('acme', 'vat', 'S', 'Value added tax'), billing.add_tax_rate('acme', 'vat', 20, '2020-01-01');
SELECT billing.add_customer('acme', 'c', 'Customer'), billing.add_account('acme', 'a', 'c', 'EUR'), billing.add_product('acme', 'p', 'Usage', tax_code => 'vat');
SELECT billing.add_meter('acme', 'm', 'Meter'), billing.create_contract('acme', 'k', 'a', '2026-01-15');
SELECT billing.add_item('acme', 'k', 'i', 'p', 'usage', meter => 'm', tariff => '{"model":"per_unit","unit":"1"}');
SELECT accepted FROM billing.ingest_usage('acme', '{s}', '{1,2,3,4}', '{m,m,m,m}', '{a,a,a,a}',
	'{2026-01-20T00:00Z,2026-01-25T00:00Z,2026-02-03T00:00Z,2026-02-04T00:00Z}', array_fill('{"quantity":50}'::jsonb, ARRAY[4]));
CALL billing.run_billing('acme', '2026-02-15');
SELECT is((SELECT string_agg(quantity || ' ' || amount, ', ') FROM billing.invoice_line), '200 200.00', 'four events of 50, half of them in January');
SELECT billing_internal.restored_usage();
-- A correction that waits for a second person would find its events gone.
SAVEPOINT correction;
SELECT billing.set_usage_policy('acme', correction_limit => 0);
SELECT is((SELECT state FROM billing.void_usage('acme', 's', '{1}', 'sent by mistake')), 'pending_approval', 'a correction waits');
SELECT billing.close_usage('acme', '2026-01-01');
SELECT is((SELECT string_agg(obstacle, '; ') FROM billing_internal.usage_month_obstacles('2026-01-01')), '1 corrections of usage wait for approval', 'and is in the way of detaching');
ROLLBACK TO correction;
SELECT billing.close_usage('acme', '2026-01-01');
SELECT billing.detach_usage_month('2026-01-01');
SELECT is_empty($$SELECT * FROM billing.preview_invoice('acme', 'a', '2026-02-15')$$, 'what was billed stands when January is detached');
SELECT billing.change_item('acme', 'k', 'i', '2026-01-15', tariff => '{"model":"per_unit","unit":"1.10"}');
SELECT is((SELECT string_agg(kind || ' ' || amount, ', ' ORDER BY kind) FROM billing.preview_invoice('acme', 'a', '2026-02-15')), 'charge 220.00, credit -200.00',
	'another price is applied to the roll-ups of all days');
SELECT billing.change_item('acme', 'k', 'i', '2026-01-15', tariff => '{"model":"percentage","rate":"100","event_min":"2"}');
SELECT is((SELECT string_agg(concat_ws(' ', kind, quantity, amount, problem), ', ' ORDER BY kind) FROM billing.preview_invoice('acme', 'a', '2026-02-15')),
	'charge 200 it prices single events: the meter must add them up without rounding, and all of them must be there and within its range',
	'a price of single events is refused, and nothing is credited');
CALL billing.run_billing('acme', '2026-02-15');
SELECT is((SELECT string_agg(kind || ' ' || state, ', ') FROM billing.exception WHERE kind = 'rating_failed'), 'rating_failed open', 'somebody is told');
SELECT is_empty($$SELECT * FROM billing.verify('acme') WHERE violations > 0$$, 'and nothing is broken');

-- What was rolled up and then taken back leaves no day behind in the report, whether its void is rolled up or not.
SELECT billing.add_meter('acme', 'peak', 'Peak', 'max');
SELECT accepted FROM billing.ingest_usage('acme', '{s}', '{5}', '{peak}', '{a}', '{2026-02-05T00:00Z}', array_fill('{"quantity":5}'::jsonb, ARRAY[1]));
SELECT billing_internal.restored_usage();
SELECT state FROM billing.void_usage('acme', 's', '{5}', 'sent by mistake');
SELECT is_empty($$SELECT * FROM billing.usage_daily WHERE meter = 'peak'$$, 'an event that was taken back is no day of usage');

SELECT * FROM finish();
ROLLBACK;
