-- A database with everything in it, committed: three entities in three currencies, people with logins, usage and exceptions,
-- contracts that were amended, documents in every state, changed settings. For TAP files; run as superuser, once a cluster.
SET client_min_messages = warning;
\set ON_ERROR_STOP on
\o /dev/null
CREATE ROLE ada LOGIN IN ROLE billing_user;
CREATE ROLE bob LOGIN IN ROLE billing_user;
CREATE ROLE app LOGIN IN ROLE billing_user;
SELECT billing.create_entity('acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.create_entity('yen', 'Yen KK', 'JPY', 'Asia/Tokyo', 'JP', fiscal_year_start => 4),
	billing.create_entity('dinar', 'Dinar WLL', 'BHD', 'Asia/Bahrain', 'BH', rounding_mode => 'half_even');
SELECT billing.add_person(p, initcap(p)), billing.add_login(p, p) FROM unnest('{ada,bob,app}'::text[]) p;
SELECT billing.grant_duty(e, 'ada', d, '2020-01-01') FROM unnest('{acme,yen,dinar}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.grant_duty(e, 'bob', 'approver', approval_limit => NULL), billing.grant_duty(e, 'app', 'application') FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.set_task('verify', run_every => '12 hours');
UPDATE billing.legal_entity SET zero_invoices = 'issue', city = 'Bärlin' WHERE code = 'acme';

SET SESSION AUTHORIZATION ada;
SELECT billing.add_tax_code(e, 'std', 'S', 'Standard'), billing.add_tax_rate(e, 'std', 10, '2007-01-01'), billing.add_tax_code(e, 'ae', 'AE', 'Reverse', 'reverse charge'),
	billing.add_tax_rate(e, 'ae', 0, '2007-01-01'), billing.add_customer(e, 'c1', E'Customer "1"\n\\ with a tab\t', 'Street 1', '10115', 'Berlin', 'DE'),
	billing.add_product(e, 'seat', 'Seat', tax_code => 'std'), billing.add_product(e, 'call', 'Call', tax_code => 'std'), billing.add_meter(e, 'calls', 'Calls'),
	billing.add_price_book(e, 'list', 'List', c), billing.set_price(e, 'list', 'seat', '{"model": "volume", "tiers": [{"up_to": 10, "unit": "9.99"}, {"up_to": null, "unit": "8.88"}]}', '2026-01-01'),
	billing.set_price(e, 'list', 'seat', '{"model": "per_unit", "unit": "7.77"}', '2026-03-01')
FROM (VALUES ('acme', 'EUR'), ('yen', 'JPY'), ('dinar', 'BHD')) AS v (e, c);
SELECT billing.add_account(e, a, 'c1', c, purchase_order_required => a = 'on_hold'), billing.create_contract(e, a, a, '2026-01-31'),
	billing.add_item(e, a, 'seats', 'seat', 'recurring', 7, price_book => 'list'), billing.add_item(e, a, 'once', 'seat', 'one_time', 1, '{"model": "per_unit", "unit": "33.333"}'),
	billing.add_item(e, a, 'calls', 'call', 'usage', tariff => '{"model": "graduated", "tiers": [{"up_to": 10, "unit": "0.5"}, {"up_to": null, "unit": "0.25"}]}', meter => 'calls')
FROM (VALUES ('acme', 'EUR'), ('yen', 'JPY'), ('dinar', 'BHD')) AS v (e, c), unnest('{issued,approved,pending,on_hold,discarded,draft}'::text[]) a;
-- One item has no price, one event no account; one event says what it expects and is disappointed
SELECT billing.add_item('acme', 'draft', 'unpriced', 'call', 'recurring', 1, price_book => 'list');
SELECT billing.ingest_usage(e, (SELECT jsonb_agg(jsonb_build_object('id', a || n, 'source', 'switch', 'type', 'calls', 'subject', a, 'time', '2026-02-01T10:00:00Z', 'data', jsonb_build_object('quantity', n, 'expected_amount', n * 0.5)))
	FROM unnest('{issued,approved,pending,on_hold,discarded,draft,nobody}'::text[]) a, generate_series(1, 15, 7) n)) FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.resolve_exception('yen', exception_id, 'not ours') FROM billing.open_exception WHERE entity = 'yen' AND kind = 'usage_unknown_subject' ORDER BY exception_id LIMIT 1;
CALL billing.run_billing('acme', '2026-02-28');
CALL billing.run_billing('yen', '2026-02-28');
CALL billing.run_billing('dinar', '2026-02-28');
SELECT billing.validate_invoices(entity, reference) FROM billing.invoice_overview WHERE account NOT IN ('draft', 'discarded');
SELECT billing.discard_invoice(entity, reference, 'not wanted') FROM billing.invoice_overview WHERE account = 'discarded';
SET SESSION AUTHORIZATION bob;
SELECT billing.approve_invoice(entity, reference, 'fine') FROM billing.invoice_overview WHERE account IN ('issued', 'approved') AND state = 'pending_approval';
SELECT billing.reject_invoice(entity, reference, 'odd') FROM (SELECT * FROM billing.invoice_overview WHERE account = 'pending' AND state = 'pending_approval' ORDER BY reference LIMIT 1) i;
SET SESSION AUTHORIZATION ada;
SELECT billing.issue_invoice(entity, reference) FROM billing.invoice_overview WHERE account = 'issued';
-- What was billed is no longer right: a credit and a re-charge, a credit note
SELECT billing.change_item(e, 'issued', 'seats', '2026-02-10', 12, reason => 'more'), billing.end_contract(e, 'approved', '2026-02-15') FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.ingest_usage('acme', '[{"id": "late", "source": "switch", "type": "calls", "subject": "issued", "time": "2026-02-02T10:00:00Z", "data": {"quantity": "2.5"}}]');
CALL billing.run_billing('acme', '2026-03-05');
CALL billing.run_billing('yen', '2026-03-05');
CALL billing.run_billing('dinar', '2026-03-05');
RESET SESSION AUTHORIZATION;
SELECT * FROM billing.run_worker_once(true);
\o
