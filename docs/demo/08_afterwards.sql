-- Afterwards: causes are mended, usage comes late, a contract changes backwards
\pset footer off
SET SESSION AUTHORIZATION carla;
\o /dev/null
-- t-007 gets its address, and n-031, whose usage came before its contract, becomes a customer.
UPDATE billing.customer SET address = '7 Harbour Street' WHERE code = 't-007';
SELECT billing.add_customer('nimbus', 'n-031', 'Birch Mobility Ltd', '31 Market Street', '11147', 'Springfield', 'US'),
	billing.add_account('nimbus', 'n-031', 'n-031', 'USD'),
	billing.create_contract('nimbus', 'n-031-c', 'n-031', '2026-10-28', anchor => '2026-10-01'),
	billing.add_item('nimbus', 'n-031-c', 'transfer', 'transfer', 'usage', price_book => 'public', meter => 'transfer.gb');
-- q-003 had more seats from the 17th on; it is said in November.
SELECT billing.change_item('quillwerk', 'q-003-c', 'seats', '2026-10-17', quantity + 20, reason => 'order of 15 October was lost')
FROM billing.contract_term WHERE contract = 'q-003-c' AND item = 'seats';
\o
SET SESSION AUTHORIZATION feed;
\echo 'Quarantined usage of n-031 is taken again; one event of 30 October comes late:'
SELECT accepted, duplicate, conflicting, quarantined FROM billing.replay_usage('nimbus');
SELECT accepted FROM billing.ingest_usage('nimbus', jsonb_build_array(demo.cloud_event('/metering/us-east', 'late-1', 'transfer.gb', 'n-002',
	'2026-10-30 23:59', 'America/Chicago', '{"quantity": 600}')));

SET SESSION AUTHORIZATION bea;
SELECT count(billing.release_invoice(entity, reference, 'address added')) AS released FROM billing.invoice_overview WHERE state = 'on_hold' AND account = 't-007';
CALL billing.run_billing('nimbus', '2026-11-01');
CALL billing.run_billing('quillwerk', '2026-11-01');
SELECT entity, sum(approved) AS approved, sum(pending) AS pending, sum(on_hold) AS on_hold
FROM (SELECT e.code AS entity, v.* FROM billing.legal_entity e, LATERAL billing.validate_invoices(e.code) v) v GROUP BY entity ORDER BY entity;
SET SESSION AUTHORIZATION dana;
SELECT count(billing.approve_invoice(entity, reference)) AS approved_by_dana FROM billing.invoice_overview WHERE state = 'pending_approval';
SET SESSION AUTHORIZATION bea;
SELECT code AS entity, billing.issue_invoices(code) AS issued FROM billing.legal_entity ORDER BY code;
\echo 'What was billed wrongly is credited in full and charged anew:'
SELECT i.number, l.line_no AS line, l.kind, l.description, l.quantity, l.amount, i.currency
FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id)
WHERE i.invoice_id IN (SELECT x.invoice_id FROM billing.invoice_line x WHERE x.entity_id = i.entity_id AND x.kind = 'credit')
ORDER BY i.entity_id, i.number, l.line_no;
