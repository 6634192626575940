-- From what meters measure to lines: group keys, matrix prices, items with usage of their own, levels that carry over, late
-- events and what is taken back after it was billed.
BEGIN;
SELECT plan(36);

SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Rome');
SELECT billing.add_person('ann', 'Ann');
SELECT billing.add_login('ann', session_user);
SELECT billing.grant_duty('acme', 'ann', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.add_tax_code('acme', 'vat', 'S', 'Value added tax');
SELECT billing.add_tax_rate('acme', 'vat', 20, '2020-01-01');
SELECT billing.add_customer('acme', 'c', 'Customer');
SELECT billing.add_account('acme', a, 'c', 'EUR') FROM unnest('{a1,a2,a3,a4}'::text[]) a;
SELECT billing.add_product('acme', 'p', 'Usage', tax_code => 'vat');
SELECT billing.add_meter('acme', 'traffic', 'Traffic', 'sum', 'gb', group_by => '{region}');
SELECT billing.add_meter('acme', 'calls', 'Calls', 'count');
SELECT billing.add_meter('acme', 'seats', 'Seats', 'time_weighted', 'level', time_unit => 3600);
SELECT billing.add_meter('acme', 'bandwidth', 'Bandwidth', 'percentile', 'mbit');
SELECT billing.add_meter('acme', 'api', 'Requests that did not fail', 'count', filter => '$.status < 500');
SELECT billing.add_meter('acme', 'users', 'Users', 'unique_count', 'user', quantity_scale => 0);
SELECT billing.add_meter('acme', 'kwh', 'Energy', 'sum', '$.reading.kwh', quantity_scale => 0, quantity_rounding => 'up');

SELECT billing.create_contract('acme', 'k' || n, 'a' || n, '2026-01-01') FROM generate_series(1, 4) n;
SELECT billing.add_item('acme', 'k1', 'traffic', 'p', 'usage', meter => 'traffic', tariff => '{"model":"matrix","dimensions":["region"],
	"cells":[{"match":{"region":"eu"},"tariff":{"model":"per_unit","unit":"0.10"}},
		{"match":{"region":"us"},"tariff":{"model":"per_unit","unit":"0.20"}}],"default":{"model":"per_unit","unit":"0.30"}}');
SELECT billing.add_item('acme', 'k1', m, 'p', 'usage', meter => m, tariff => format('{"model":"per_unit","unit":"%s"}', u)::jsonb)
FROM (VALUES ('seats', '0.01'), ('bandwidth', '2'), ('api', '1'), ('users', '5'), ('kwh', '0.5')) v (m, u);
-- two sites count for themselves, and what names the account for a third item
SELECT billing.add_item('acme', 'k2', i, 'p', 'usage', meter => 'calls', tariff => '{"model":"per_unit","unit":"1"}', own_usage => i <> 'rest')
FROM unnest('{site-1,site-2,rest}'::text[]) i;
-- group keys that were never used: the price for no usage is due once
SELECT billing.add_item('acme', 'k3', 'traffic', 'p', 'usage', meter => 'traffic',
	tariff => '{"model":"per_unit","unit":"1","minimum":"9"}');

-- a price of single events, where the meter adds them up and where it does not; and a matrix that has no price for nothing
SELECT billing.add_meter('acme', 'peak', 'Peak', 'max', 'mbit'), billing.add_meter('acme', 'fee', 'Payments', 'sum', 'amount');
SELECT billing.add_item('acme', 'k4', m, 'p', 'usage', meter => m, tariff => '{"model":"percentage","rate":"100","event_min":"3"}')
FROM unnest('{peak,fee}'::text[]) m;
SELECT billing.add_item('acme', 'k4', 'traffic', 'p', 'usage', meter => 'traffic', tariff => '{"model":"matrix","dimensions":["region"],
	"cells":[{"match":{"region":"eu"},"tariff":{"model":"per_unit","unit":"1"}}]}');

CREATE FUNCTION pg_temp.event(id text, type text, data jsonb, at text, subject text DEFAULT 'a1') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'source', '/s', 'type', type, 'subject', subject, 'time', at, 'data', data);
$$;
CREATE FUNCTION pg_temp.ingest(VARIADIC events jsonb[]) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage('acme', to_jsonb(events));
$$;
-- What an account owes for the month, by item: dimensions quantity events amount
CREATE FUNCTION pg_temp.owed(account text, item text, through date DEFAULT '2026-02-01') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', d.dimensions, trim_scale(d.quantity), d.events, trim_scale(d.exact_amount)), ', ' ORDER BY d.period_start, d.dimensions::text)
	FROM billing.entitlement('acme', account, through) d WHERE d.item = owed.item;
$$;
-- The lines that stand, and the credits: kind description amount
CREATE FUNCTION pg_temp.lines(account text, item text, after_id bigint DEFAULT 0) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', l.kind, l.description, l.amount), '; ' ORDER BY l.period_start, l.dimensions, l.kind DESC)
	FROM billing.invoice_line l JOIN billing.contract_item i USING (entity_id, item_id) JOIN billing.billing_account a USING (entity_id, account_id)
	WHERE a.code = lines.account AND i.code = lines.item AND l.invoice_id > after_id;
$$;

SELECT is(pg_temp.ingest(
	pg_temp.event('t1', 'traffic', '{"gb": 10, "region": "eu"}', '2026-01-05T10:00:00Z'),
	pg_temp.event('t2', 'traffic', '{"gb": 5.5, "region": "eu"}', '2026-01-31T22:59:59Z'),
	pg_temp.event('t3', 'traffic', '{"gb": 7, "region": "us"}', '2026-01-07T10:00:00Z'),
	pg_temp.event('t4', 'traffic', '{"gb": 2, "region": "ap"}', '2026-01-08T10:00:00Z'),
	pg_temp.event('t5', 'traffic', '{"gb": 100, "region": "eu"}', '2026-01-31T23:00:00Z')), '5/0/0/0', 'usage by region');
-- 10 + 5.5 of eu at 0.10, the fifth event is in February by Rome's clock; 7 of us at 0.20; 2 elsewhere at 0.30
SELECT is(pg_temp.owed('a1', 'traffic'),
	'{"region": "ap"} 2 1 0.6, {"region": "eu"} 15.5 2 1.55, {"region": "us"} 7 1 1.4', 'a line for each region, at the price of its cell');
SELECT is(pg_temp.ingest(
	pg_temp.event('c1', 'calls', NULL, '2026-01-05T10:00:00Z', 'k2/site-1'), pg_temp.event('c2', 'calls', NULL, '2026-01-06T10:00:00Z', 'k2/site-1'),
	pg_temp.event('c3', 'calls', NULL, '2026-01-07T10:00:00Z', 'k2/site-1'), pg_temp.event('c4', 'calls', NULL, '2026-01-08T10:00:00Z', 'k2/site-2'),
	pg_temp.event('c5', 'calls', NULL, '2026-01-09T10:00:00Z', 'a2'), pg_temp.event('c6', 'calls', NULL, '2026-01-10T10:00:00Z', 'a2')),
	'6/0/0/0', 'usage of items and of the account');
SELECT is(pg_temp.owed('a2', 'site-1'), '3 3 3', 'an item is charged for its own usage');
SELECT is(pg_temp.owed('a2', 'site-2'), '1 1 1', 'and so is the other');
SELECT is(pg_temp.owed('a2', 'rest'), '2 2 2', 'what named the account is charged by the item for that');
-- a level of 10 from local midnight of the 16th: 16 days x 24 hours x 10 = 3840 hours; in February 28 x 24 x 10 = 6720
SELECT is(pg_temp.ingest(pg_temp.event('s1', 'seats', '{"level": 10}', '2026-01-15T23:00:00Z')), '1/0/0/0', 'a level');
SELECT is(pg_temp.owed('a1', 'seats', '2026-03-01'), '3840 1 38.4, 6720 0 67.2', 'carries over into the month without events');
-- of 20 samples the 19th
SELECT is((SELECT accepted FROM billing.ingest_usage('acme', (SELECT jsonb_agg(pg_temp.event('b' || n, 'bandwidth', jsonb_build_object('mbit', n),
	format('2026-01-%s:00:00Z', to_char(n, 'FM00') || 'T10'))) FROM generate_series(1, 20) n))), 20::bigint, 'samples');
SELECT is(pg_temp.owed('a1', 'bandwidth'), '19 20 38', 'the 95th percentile of 20 samples is the 19th');
SELECT is(pg_temp.ingest(
	pg_temp.event('r1', 'api', '{"status": 200}', '2026-01-05T10:00:00Z'), pg_temp.event('r2', 'api', '{"status": 404}', '2026-01-05T10:00:00Z'),
	pg_temp.event('r3', 'api', '{"status": 503}', '2026-01-05T10:00:00Z')), '3/0/0/0', 'requests');
SELECT is(pg_temp.owed('a1', 'api'), '2 2 2', 'what the filter leaves out is stored and not charged');
SELECT is(pg_temp.ingest(
	pg_temp.event('u1', 'users', '{"user": "bo"}', '2026-01-05T10:00:00Z'), pg_temp.event('u2', 'users', '{"user": "bo"}', '2026-01-20T10:00:00Z'),
	pg_temp.event('u3', 'users', '{"user": "cy"}', '2026-01-05T10:00:00Z')), '3/0/0/0', 'users');
SELECT is(pg_temp.owed('a1', 'users'), '2 3 10', 'a user counts once in a month');
SELECT is(pg_temp.ingest(
	pg_temp.event('e1', 'kwh', '{"reading": {"kwh": "10.25"}}', '2026-01-05T10:00:00Z'),
	pg_temp.event('e2', 'kwh', '{"reading": {"kwh": 0.5}}', '2026-01-06T10:00:00Z')), '2/0/0/0', 'readings below a path');
SELECT is(pg_temp.owed('a1', 'kwh'), '11 2 5.5', 'the sum is rounded up, not its parts');
SELECT is(pg_temp.owed('a3', 'traffic'), '0 0 9', 'without usage the minimum is due once');

SELECT is((SELECT count(*) FROM billing.preview_invoice('acme', 'a1', '2026-02-01')), 8::bigint, 'preview shows a line per region and item');
CALL billing.run_billing('acme', '2026-02-01');
SELECT is(pg_temp.lines('a1', 'traffic'), 'charge Usage, region ap, 2026-01-01 to 2026-01-31 0.60; charge Usage, region eu, 2026-01-01 to 2026-01-31 1.55; '
	|| 'charge Usage, region us, 2026-01-01 to 2026-01-31 1.40', 'lines say which region they are for');
SELECT is((SELECT count(*) FROM billing.preview_invoice('acme', 'a1', '2026-02-01')), 0::bigint, 'after the run nothing is left');
SELECT is((SELECT string_agg(concat_ws(' ', x.step, x.explanation), '; ' ORDER BY x.step)
	FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id) CROSS JOIN LATERAL billing.explain_invoice('acme', i.reference) x
	WHERE l.line_no = x.line_no AND l.dimensions = '{"region": "eu"}' AND x.step IN ('usage', 'rounding')),
	'rounding 1.55 to 2 decimals of EUR, half away from zero; usage 2 events of meter traffic from 2026-01-01 to 2026-01-31: the events add up to the quantity',
	'the explanation measures the line''s region alone');
SELECT is((SELECT string_agg(concat_ws(' ', x.id, x.quantity, x.counted, x.note), '; ' ORDER BY x.id)
	FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id) JOIN billing.contract_item t USING (entity_id, item_id)
	CROSS JOIN LATERAL billing.explain_usage('acme', i.reference, l.line_no) x WHERE t.code = 'api'),
	'r1 1 t; r2 1 t; r3 f is left out by the meter''s filter', 'the events behind a line, and why one does not count');

-- Late usage of a region that was billed, and of a new one
SELECT is(pg_temp.ingest(
	pg_temp.event('t6', 'traffic', '{"gb": 3, "region": "us"}', '2026-01-09T10:00:00Z'),
	pg_temp.event('t7', 'traffic', '{"gb": 1, "region": "sa"}', '2026-01-09T10:00:00Z')), '2/0/0/0', 'late usage');
SELECT is((SELECT string_agg(concat_ws(' ', kind, description, amount), '; ' ORDER BY description, kind DESC) FROM billing.preview_invoice('acme', 'a1', '2026-02-10')),
	'charge Usage, region sa, 2026-01-01 to 2026-01-31 0.30; credit Usage, region us, 2026-01-01 to 2026-01-31 -1.40; charge Usage, region us, 2026-01-01 to 2026-01-31 2.00',
	'only the region that changed is credited and charged anew');
CALL billing.run_billing('acme', '2026-02-10');
SELECT is((SELECT count(*) FROM billing.preview_invoice('acme', 'a1', '2026-02-10')), 0::bigint, 'and the run settles it');

-- What is taken back after it was billed
SELECT is((SELECT concat_ws(' ', state, events, already_done) FROM billing.void_usage('acme', '/s', '{t4,r1}', 'sent by mistake')), 'applied 2 0', 'two events are taken back');
SELECT is((SELECT string_agg(concat_ws(' ', kind, description, amount), '; ' ORDER BY description, kind DESC) FROM billing.preview_invoice('acme', 'a1', '2026-02-10')),
	'credit Usage, 2026-01-01 to 2026-01-31 -2.00; charge Usage, 2026-01-01 to 2026-01-31 1.00; credit Usage, region ap, 2026-01-01 to 2026-01-31 -0.60',
	'a region without usage is credited, and not charged anew');
CALL billing.run_billing('acme', '2026-02-10');
SELECT is((SELECT count(*) FROM billing.preview_invoice('acme', 'a1', '2026-02-10')), 0::bigint, 'once');
SELECT is((SELECT string_agg(concat_ws(' ', x.id, x.quantity, x.counted, x.note), '; ' ORDER BY x.occurred_at, x.note NULLS LAST)
	FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id)
	CROSS JOIN LATERAL billing.explain_usage('acme', i.reference, l.line_no) x WHERE l.kind = 'charge' AND l.dimensions = '{"region": "ap"}'),
	't4 -2 f takes back an event of the same source and id; t4 2 f was taken back', 'the explanation shows what was taken back');
SELECT is_empty($$SELECT * FROM billing.verify('acme') WHERE violations > 0$$, 'nothing is broken');

-- Prices of single events: 2 is below the minimum of 3, 5 is not. A maximum is no sum of events, so it has no such price.
SELECT is(pg_temp.ingest(
	pg_temp.event('f1', 'fee', '{"amount": 2}', '2026-01-05T10:00:00Z', 'a4'), pg_temp.event('f2', 'fee', '{"amount": 5}', '2026-01-06T10:00:00Z', 'a4'),
	pg_temp.event('p1', 'peak', '{"mbit": 2}', '2026-01-05T10:00:00Z', 'a4'), pg_temp.event('p2', 'peak', '{"mbit": 2}', '2026-01-06T10:00:00Z', 'a4')),
	'4/0/0/0', 'events with prices of their own');
SELECT is(pg_temp.owed('a4', 'fee'), '7 2 8', 'are rated one by one where the meter adds them up');
SELECT is(pg_temp.owed('a4', 'peak'), '2 2', 'and not at all where it does not');
SELECT is(pg_temp.owed('a4', 'traffic'), NULL, 'without usage no cell of a matrix is asked for');
CALL billing.run_billing('acme', '2026-02-10');
SELECT is((SELECT string_agg(concat_ws(': ', item, problem), '; ') FROM billing.preview_invoice('acme', 'a4', '2026-02-10')),
	'peak: it prices single events: the meter must add them up without rounding, and all of them must be there and within its range', 'what cannot be rated is left, with the reason');
SELECT is_empty($$SELECT * FROM billing.verify('acme') WHERE violations > 0$$, 'and has its exception');

SELECT * FROM finish();
ROLLBACK;
