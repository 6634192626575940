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
SELECT billing.grant_duty('dinar', 'bob', 'accountant');
SELECT billing.set_task('verify', run_every => '12 hours');
SELECT billing.add_outbox_consumer('acme', 'ledger', 'books what is issued', warn_after => '2 hours');
SELECT billing.set_usage_policy('yen', correction_limit => 0);
SELECT billing.set_usage_policy('acme', late_after_days => 3660, correction_limit => 100, suggestion_threshold => 0.9, retention_months => 120);
SELECT billing.set_billing_policy('acme', 1000000, 10000, 1000, 6, 'validate', '06:30'), billing.set_billing_policy('yen', max_lines => 500);
SELECT billing.set_parent_entity('yen', 'acme');
SELECT billing.set_approval_policy('acme', 'large', 'invoice', 'amount >= 1000000 and (risk = ''high'' or ''seat'' in categories)',
	'[{"duty": "approver", "needed": 2, "deadline": "2 days", "escalate_to": "admin"}, {"person": "bob"}]', 10, '2020-01-01', reason => 'two pairs of eyes'),
	billing.set_approval_policy('acme', 'large', 'invoice', 'amount >= 2000000', '[{"duty": "approver"}]', 10, '2026-01-01');
-- States of their own, and documents that are asked for, one of them in such a state
SELECT billing.add_state(e, 'contract_amendment', 'board', 'pending_approval', 'approved', 'pass_board', 'accountant', deadline => '10 days'),
	billing.drop_state(e, 'contract_amendment', 'legal_review') FROM unnest('{acme,yen,dinar}'::text[]) e;
UPDATE billing.legal_entity SET zero_invoices = 'issue', city = 'Bärlin' WHERE code = 'acme';

SET SESSION AUTHORIZATION ada;
SELECT billing.add_tax_code(e, 'std', 'S', 'Standard'), billing.add_tax_rate(e, 'std', 10, '2007-01-01'), billing.add_tax_code(e, 'ae', 'AE', 'Reverse', 'reverse charge'),
	billing.add_tax_rate(e, 'ae', 0, '2007-01-01'), billing.add_customer(e, 'c1', E'Customer "1"\n\\ with a tab\t', 'Street 1', '10115', 'Berlin', 'DE'),
	billing.add_product(e, 'seat', 'Seat', tax_code => 'std'), billing.add_product(e, 'call', 'Call', tax_code => 'std'), billing.add_meter(e, 'calls', 'Calls'),
	billing.add_meter(e, 'cores', 'Cores', 'max', '$.vm.cores', '!exists($.test)', '{region,"size=$.\"vm\".size"}', 2, 'up', 99.5, 3600),
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
SELECT billing.add_usage_alias(e, 'no one', 'issued', valid_to => '2030-01-01') FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.ingest_usage(e, (SELECT jsonb_agg(jsonb_build_object('id', 'vm' || n, 'source', 'switch', 'type', 'cores', 'subject', 'issued', 'time', '2026-02-01T10:00:00Z', 'data', d)) FROM (VALUES
	(1, '{"vm": {"cores": 4, "size": "xl"}, "region": "E\t\"U\""}'::jsonb), (2, '{"test": true}')) v (n, d))) FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.expect_usage(e, 'switch', '1 hour', '15 minutes', note => 'ask the operator'), billing.record_heartbeat(e, 'switch', '2026-02-20T10:00:00Z') FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.resolve_exception('yen', exception_id, 'not ours') FROM billing.open_exception WHERE entity = 'yen' AND kind = 'usage_unknown_subject' ORDER BY exception_id LIMIT 1;
INSERT INTO billing.exchange_rate (entity_id, from_currency, to_currency, valid_from, rate) SELECT entity_id, 'USD', currency, '2026-01-01', 0.123456789012 FROM billing.legal_entity WHERE code IN ('acme', 'yen');
UPDATE billing.customer SET segment = 'public', risk = 'high';
CALL billing.run_billing('acme', '2026-02-28');
CALL billing.run_billing('yen', '2026-02-28');
CALL billing.run_billing('dinar', '2026-02-28');
SELECT billing.validate_invoices(entity, reference) FROM billing.invoice_overview WHERE account NOT IN ('draft', 'discarded');
SELECT billing.discard_invoice(entity, reference, 'not wanted') FROM billing.invoice_overview WHERE account = 'discarded';
SELECT billing.take_action(e, billing.request_document(e, 'contract_amendment', 'contract issued', 100, 'EUR', '{"seats": 12}', 'more'), 'submit') FROM unnest('{acme,yen,dinar}'::text[]) e;
SET SESSION AUTHORIZATION bob;
SELECT billing.take_action(l.code, 'R' || d.document_id, 'approve', reason => 'fine') FROM billing.document d JOIN billing.legal_entity l USING (entity_id) WHERE d.kind = 'contract_amendment';
SELECT billing.approve_invoice(entity, reference, 'fine') FROM billing.invoice_overview WHERE account IN ('issued', 'approved') AND state = 'pending_approval';
SELECT billing.reject_invoice(entity, reference, 'odd') FROM (SELECT * FROM billing.invoice_overview WHERE account = 'pending' AND state = 'pending_approval' ORDER BY reference LIMIT 1) i;
SET SESSION AUTHORIZATION ada;
SELECT billing.issue_invoice(entity, reference) FROM billing.invoice_overview WHERE account = 'issued';
-- Two approvals are asked for: one is there, of one document, and both, of another; a day's limit, a delegate, an absence, a manager
RESET SESSION AUTHORIZATION;
SELECT billing.add_person('cat', 'Cat'), billing.grant_duty('yen', 'cat', 'approver', daily_limit => 1000000);
SELECT billing.set_approval_policy('yen', 'amendments', 'contract_amendment', NULL, '[{"duty": "approver", "needed": 2, "min_limit": false, "deadline": "2 days", "escalate_to": "admin"}]');
SELECT billing.delegate('yen', 'cat', '2026-01-01', '2026-02-01', 'approver', 500, 'a month off', 'bob'), billing.set_absence('yen', '2026-01-01', '2026-02-01', reason => 'a month off', person => 'bob'),
	billing.set_manager('yen', 'ada', 'bob'), billing.set_contract_owner('yen', 'issued', 'bob');
SET SESSION AUTHORIZATION ada;
SELECT billing.take_action('yen', billing.request_document('yen', 'contract_amendment', subject, 5000, 'JPY', '{}', 'more'), 'submit') FROM unnest('{one,two}'::text[]) subject;
SET SESSION AUTHORIZATION bob;
SELECT billing.decide('yen', array_agg(document), 'approve', 'fine') FROM billing.my_approvals WHERE entity = 'yen';
SET SESSION AUTHORIZATION app;
-- one transaction, as act_as() ends with it; but no COMMIT, as files take all of this back
SELECT billing.act_as('cat') \; SELECT billing.decide('yen', array_agg(document), 'approve') FROM (SELECT document FROM billing.my_approvals WHERE entity = 'yen' ORDER BY document_id LIMIT 1) d \; SELECT billing.act_as(NULL);
-- Credit notes by hand: one issued, one that waits; and a reason of the house
RESET SESSION AUTHORIZATION;
SET ROLE billing_owner;
INSERT INTO billing.credit_reason (reason_code, is_concession, rebills, voids, description) VALUES ('jubilee', true, false, false, 'a present');
RESET ROLE;
SET SESSION AUTHORIZATION ada;
SELECT billing.credit_invoice('dinar', number, 'jubilee', '[{"line": 1, "amount": "1.005"}]', 'fifty years') FROM (SELECT number FROM billing.invoice_overview WHERE entity = 'dinar' AND state = 'issued' ORDER BY invoice_id LIMIT 1) i;
SELECT billing.validate_invoices('dinar', reference) FROM billing.invoice_overview WHERE entity = 'dinar' AND kind = 'credit_note';
SET SESSION AUTHORIZATION bob;
SELECT billing.approve_invoice('dinar', reference) FROM billing.invoice_overview WHERE entity = 'dinar' AND kind = 'credit_note' AND state = 'pending_approval';
SET SESSION AUTHORIZATION ada;
SELECT billing.issue_invoices('dinar');
SELECT billing.void_invoice('dinar', number, note => 'twice') FROM (SELECT number FROM billing.invoice_overview WHERE entity = 'dinar' AND kind = 'invoice' AND state = 'issued' ORDER BY invoice_id DESC LIMIT 1) i;
-- What was billed is no longer right: a credit and a re-charge, a credit note
SELECT billing.change_item(e, 'issued', 'seats', '2026-02-10', 12, reason => 'more'), billing.end_contract(e, 'approved', '2026-02-15') FROM unnest('{acme,yen,dinar}'::text[]) e;
SELECT billing.ingest_usage('acme', '[{"id": "late", "source": "switch", "type": "calls", "subject": "issued", "time": "2026-02-02T10:00:00Z", "data": {"quantity": "2.5"}}]');
INSERT INTO billing.usage_inbox (entity, source, id, type, subject, time, data) VALUES
	('acme', 'switch', 'posted', 'calls', 'nobody', '2026-02-03T10:00:00Z', '{"quantity": 1}'), ('nowhere', 'switch', 'lost', 'calls', 'issued', '2026-02-03T10:00:00Z', NULL);
-- A running period that has reached an alert
SELECT billing.add_account(e, 'running', 'c1', c), billing.create_contract(e, 'running', 'running', current_date - 1, interval_unit => 'year'),
	billing.add_item(e, 'running', 'calls', 'call', 'usage', tariff => '{"model": "per_unit", "unit": "0.5"}', meter => 'calls'), billing.add_usage_alert(e, 'running', 'calls', 5)
FROM (VALUES ('acme', 'EUR'), ('yen', 'JPY'), ('dinar', 'BHD')) AS v (e, c);
SELECT billing.ingest_usage(e, jsonb_build_object('id', 'running', 'source', 'switch', 'type', 'calls', 'subject', 'running', 'time', now(), 'data', '{"quantity": 9}'::jsonb)) FROM unnest('{acme,yen,dinar}'::text[]) e;
-- Usage that was wrong: one correction at once, one that a second person turned down
SELECT billing.void_usage('acme', 'switch', '{issued1}', 'a test call');
SELECT billing.void_usage('yen', 'switch', '{issued15}', 'not ours');
SET SESSION AUTHORIZATION bob;
SELECT billing.reject_usage_correction('yen', correction, 'it was') FROM billing.usage_corrections WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION ada;
CALL billing.run_billing('acme', '2026-03-05');
CALL billing.run_billing('yen', '2026-03-05');
CALL billing.run_billing('dinar', '2026-03-05');
-- A month of usage that is closed
SELECT billing.ingest_usage('dinar', '[{"id": "old", "source": "switch", "type": "calls", "subject": "issued", "time": "2024-01-15T10:00:00Z", "data": {"quantity": "7"}}]');
SET SESSION AUTHORIZATION bob;
SELECT billing.close_usage('dinar', '2024-01-01');
RESET SESSION AUTHORIZATION;
-- Events are in the roll-ups, in this transaction too
SELECT billing_internal.restored_usage();
SELECT * FROM billing.run_worker_once(true);
SELECT billing.seal_audit();
-- What came since the last run, and is to be looked at by the next: a price and an amendment of days to come
SET SESSION AUTHORIZATION ada;
SELECT billing.set_price(e, 'list', 'seat', '{"model": "per_unit", "unit": "7.99"}', '2028-01-01'), billing.change_item(e, 'issued', 'seats', '2028-01-01', 13) FROM unnest('{acme,yen,dinar}'::text[]) e;
-- Some usage still waits in the inbox, beside what is refused
SET SESSION AUTHORIZATION app;
INSERT INTO billing.usage_inbox (entity, source, id, type, subject, time, data) VALUES ('yen', 'switch', 'waiting', 'calls', 'issued', '2026-02-03T10:00:00Z', '{"quantity": 1}');
RESET SESSION AUTHORIZATION;
-- As if all that had come from a dump
SELECT billing_internal.restored_outbox();
\o
