-- From a contract to an issued and explained invoice, and what an amendment makes of it. Bill = entitled − billed.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_bob', 'Bob');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_bob LOGIN IN ROLE billing_user;
SELECT billing.add_login(p, p) FROM unnest('{regress_ada,regress_bob}'::text[]) p;
SELECT billing.grant_duty('regress_acme', 'regress_ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('regress_acme', 'regress_bob', 'approver', approval_limit => 1000);
-- Documents of up to 270 EUR need no approver.
UPDATE billing.legal_entity SET auto_approve_limit = 270 WHERE code = 'regress_acme';

-- 10 seats at 12.50 a month in advance; API calls at 0.10 up to 1000 and 0.01 beyond, with 2 for the first tier, in arrears;
-- 99 once.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.add_tax_code('regress_acme', 'standard', 'S', 'Standard rate'), billing.add_tax_rate('regress_acme', 'standard', 19, '2021-01-01'),
	billing.add_customer('regress_acme', 'c1', 'Customer AG', 'Street 1', '10115', 'Berlin', 'DE'),
	billing.add_account('regress_acme', 'a1', 'c1', 'EUR', payment_terms_days => 14),
	billing.add_product('regress_acme', 'seat', 'Seat', tax_code => 'standard'),
	billing.add_product('regress_acme', 'api', 'API calls', tax_code => 'standard'),
	billing.add_product('regress_acme', 'setup', 'Setup', tax_code => 'standard'),
	billing.add_meter('regress_acme', 'api.calls', 'API calls'),
	billing.add_price_book('regress_acme', 'list', 'List prices', 'EUR'),
	billing.set_price('regress_acme', 'list', 'api',
		'{"model": "graduated", "tiers": [{"up_to": 1000, "unit": "0.10", "flat": "2"}, {"up_to": null, "unit": "0.01"}]}', '2026-01-01'),
	billing.create_contract('regress_acme', 'k1', 'a1', '2026-01-01'),
	billing.add_item('regress_acme', 'k1', 'seats', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "12.50"}'),
	billing.add_item('regress_acme', 'k1', 'api', 'api', 'usage', price_book => 'list', meter => 'api.calls'),
	billing.add_item('regress_acme', 'k1', 'setup', 'setup', 'one_time', 1, '{"model": "per_unit", "unit": "99"}');
SELECT * FROM billing.ingest_usage('regress_acme', '[
	{"id": "1", "source": "s", "type": "api.calls", "subject": "a1", "time": "2026-01-05T10:00:00Z", "data": {"quantity": 900}},
	{"id": "2", "source": "s", "type": "api.calls", "subject": "a1", "time": "2026-01-25T10:00:00Z", "data": {"quantity": 300.5}}]');

-- What is owed through 1 February, whether billed or not: 1200.5 calls are 1000 × 0.10 + 2 + 200.5 × 0.01.
SELECT item, charge, charge_date, period_start, period_end, quantity, events, days, of_days, exact_amount
	FROM billing.entitlement('regress_acme', 'a1', '2026-02-01');
-- What a run would write; then the run. One document per account, currency and billing date.
SELECT billing_date, kind, description, quantity, amount, tax_category, tax_rate, problem
	FROM billing.preview_invoice('regress_acme', 'a1', '2026-02-01');
CALL billing.run_billing('regress_acme', '2026-02-01');
SELECT kind, state, billing_date, net, tax, total FROM billing.invoice_overview ORDER BY billing_date;
-- A second run writes nothing.
CALL billing.run_billing('regress_acme', '2026-02-01');
SELECT through_date, accounts, documents, lines, exceptions FROM billing.billing_run ORDER BY run_id;
SELECT count(*) AS to_bill FROM billing.preview_invoice('regress_acme', 'a1', '2026-02-01');

-- Validate, approve by another person, issue. Numbers have no gaps, per series and fiscal year.
SELECT * FROM billing.validate_invoices('regress_acme');
SET SESSION AUTHORIZATION regress_bob;
SELECT billing.approve_invoice('regress_acme', reference) FROM billing.invoice_overview WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.issue_invoices('regress_acme');
SELECT replace(number, extract(year FROM issue_date)::text, 'YYYY') AS number, kind, state, billing_date, due_date - issue_date AS days_to_pay, total
	FROM billing.invoice_overview ORDER BY number;

-- Any amount is derived again from its sources.
SELECT line_no, step, CASE WHEN step NOT IN ('contract', 'total') THEN explanation END AS explanation, quantity, unit_price, amount
	FROM billing.invoice_overview i, billing.explain_invoice('regress_acme', i.number) WHERE i.billing_date = '2026-02-01';

-- In February it turns out that there are 20 seats since 15 January. What was billed is credited, and charged as it should
-- have been: January in two stretches of 14 and 17 of 31 days.
SELECT billing.change_item('regress_acme', 'k1', 'seats', '2026-01-15', 20, reason => 'ten more since the 15th');
CALL billing.run_billing('regress_acme', '2026-02-10');
SELECT l.line_no, l.kind, l.description, l.quantity, l.days, l.of_days, l.amount
	FROM billing.invoice_line l JOIN billing.invoice_overview i USING (entity_id, invoice_id) WHERE i.state = 'draft' ORDER BY l.line_no;
SELECT kind, state, billing_date, net, tax, total FROM billing.invoice_overview WHERE state = 'draft';

-- A document that was not issued can be dropped: the next run bills anew what it billed.
SELECT billing.discard_invoice('regress_acme', reference, 'to show it') FROM billing.invoice_overview WHERE state = 'draft';
CALL billing.run_billing('regress_acme', '2026-02-10');
SELECT kind, state, billing_date, net, tax, total FROM billing.invoice_overview WHERE billing_date = '2026-02-10' ORDER BY invoice_id;
SELECT * FROM billing.validate_invoices('regress_acme');
SELECT billing.issue_invoices('regress_acme');

-- The contract ended in January after all: February's 20 seats are credited, by a credit note of its own series.
SELECT billing.end_contract('regress_acme', 'k1', '2026-02-01');
CALL billing.run_billing('regress_acme', '2026-02-10');
SELECT * FROM billing.validate_invoices('regress_acme');
SET SESSION AUTHORIZATION regress_bob;
SELECT billing.approve_invoice('regress_acme', reference) FROM billing.invoice_overview WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.issue_invoices('regress_acme');
SELECT replace(number, extract(year FROM issue_date)::text, 'YYYY') AS number, kind, state, billing_date, net, tax, total
	FROM billing.invoice_overview ORDER BY invoice_id;

-- An issued document never changes.
RESET SESSION AUTHORIZATION;
UPDATE billing.invoice SET total = 1, net = 1, tax = 0 WHERE number LIKE 'CN-%';
SET ROLE billing_owner;
UPDATE billing.invoice SET total = 1, net = 1, tax = 0 WHERE number LIKE 'CN-%';
RESET ROLE;
SELECT bool_and(violations = 0) AS clean FROM billing.verify('regress_acme');
SELECT invariant, violations FROM billing.verify('regress_acme') WHERE invariant ~ '^(billed|legal|lines|no period|tax)' ORDER BY invariant COLLATE "C";
ROLLBACK;
