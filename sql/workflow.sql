-- The life of a document: which action leads from which state to which, who may take it, and what happens to that which
-- cannot go on.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;

-- States and actions are rows. A guard says more than the duty: independent is another person than the maker, within their
-- limit; maker is the maker alone; system is an action that only the functions take.
SELECT from_state, action, to_state, duty, guard FROM billing.transition WHERE kind = 'invoice' ORDER BY from_state, action;
SELECT state, is_final FROM billing.document_state WHERE kind = 'credit_note' ORDER BY state;

BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_bob', 'Bob'), billing.add_person('regress_cid', 'Cid');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_bob LOGIN IN ROLE billing_user;
CREATE ROLE regress_cid LOGIN IN ROLE billing_user;
SELECT billing.add_login(p, p) FROM unnest('{regress_ada,regress_bob,regress_cid}'::text[]) p;
SELECT billing.grant_duty('regress_acme', 'regress_ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('regress_acme', 'regress_bob', 'approver', approval_limit => 100),
	billing.grant_duty('regress_acme', 'regress_cid', 'approver');
-- A customer without an address, a product without a tax code, and an account that needs a purchase order: 10 × 25 a month.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.add_customer('regress_acme', 'c1', 'Customer'),
	billing.add_account('regress_acme', 'a1', 'c1', 'EUR', purchase_order_required => true),
	billing.add_product('regress_acme', 'seat', 'Seat'),
	billing.create_contract('regress_acme', 'k1', 'a1', '2026-01-01'),
	billing.add_item('regress_acme', 'k1', 'seats', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "25"}');
CALL billing.run_billing('regress_acme', '2026-01-31');
SELECT kind, state, net, tax, total, maker FROM billing.invoice_overview;

-- Validation finds everything that is missing, at once, and puts the document on hold.
SELECT * FROM billing.validate_invoices('regress_acme');
SELECT kind, severity, owner_duty, subject, detail, is_overdue FROM billing.open_exception ORDER BY kind;
-- Nothing can be done with it but to mend it or to drop it.
\set VERBOSITY terse
SELECT billing.approve_invoice('regress_acme', reference) FROM billing.invoice_overview;
SELECT billing.issue_invoice('regress_acme', reference) FROM billing.invoice_overview;
\set VERBOSITY default

-- Mend the causes. A tax code is found when a document is drafted, so this one is dropped, and billed anew.
UPDATE billing.customer SET address = 'Street 1', country = 'DE';
UPDATE billing.billing_account SET purchase_order = 'PO 4711';
SELECT billing.add_tax_code('regress_acme', 'standard', 'S', 'Standard rate'),
	billing.add_tax_rate('regress_acme', 'standard', 19, '2021-01-01');
UPDATE billing.product SET tax_code_id = (SELECT tax_code_id FROM billing.tax_code);
SELECT billing.discard_invoice('regress_acme', reference, 'had no tax code') FROM billing.invoice_overview;
SELECT count(*) AS open FROM billing.open_exception;
CALL billing.run_billing('regress_acme', '2026-01-31');
SELECT * FROM billing.validate_invoices('regress_acme');
SELECT state, net, tax, total FROM billing.invoice_overview ORDER BY reference;

-- It is beyond the entity's limit for automatic approval, which is 0, so a person decides: not its maker, not Bob up to 100.
\set VERBOSITY terse
SELECT billing.approve_invoice('regress_acme', reference) FROM billing.invoice_overview WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION regress_bob;
SELECT billing.approve_invoice('regress_acme', reference) FROM billing.invoice_overview WHERE state = 'pending_approval';
\set VERBOSITY default
-- Cid may. A rejection says why; that is an exception of its own.
SET SESSION AUTHORIZATION regress_cid;
SELECT billing.reject_invoice('regress_acme', reference, NULL) FROM billing.invoice_overview WHERE state = 'pending_approval';
SELECT billing.reject_invoice('regress_acme', reference, 'is it ten seats?') FROM billing.invoice_overview WHERE state = 'pending_approval';
SELECT kind, owner_duty, subject, detail FROM billing.open_exception;
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.release_invoice('regress_acme', reference, 'it is ten') FROM billing.invoice_overview WHERE state = 'on_hold';
SELECT * FROM billing.validate_invoices('regress_acme');
SELECT count(*) AS open FROM billing.open_exception;
SET SESSION AUTHORIZATION regress_cid;
SELECT billing.approve_invoice('regress_acme', reference, 'agreed') FROM billing.invoice_overview WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.issue_invoices('regress_acme');

-- The life of both documents, step by step.
SELECT dense_rank() OVER (ORDER BY s.document_id) AS document, s.version, s.action, s.from_state, s.to_state, p.code AS actor, s.reason
	FROM billing.document_step s LEFT JOIN billing.person p ON p.person_id = s.actor_id ORDER BY s.document_id, s.version;

-- What no document waits for is resolved by hand, once, by the duty that owns it.
SELECT billing.add_meter('regress_acme', 'calls', 'Calls');
SELECT * FROM billing.ingest_usage('regress_acme', '[{"id": "1", "source": "s", "type": "calls", "subject": "nobody", "time": "2026-01-05T10:00:00Z", "data": {"quantity": 1}}]');
SELECT billing.resolve_exception('regress_acme', exception_id, 'a test event') FROM billing.open_exception;
SELECT count(*) AS open FROM billing.open_exception;
SELECT x.kind, x.state, p.code AS resolved_by, x.resolution FROM billing.exception x JOIN billing.person p ON p.person_id = x.resolved_by
	WHERE x.document_id IS NULL;
SELECT billing.resolve_exception('regress_acme', 0, 'there is none');
RESET SESSION AUTHORIZATION;
SELECT bool_and(violations = 0) AS clean FROM billing.verify('regress_acme');
ROLLBACK;
