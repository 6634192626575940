-- The billing run: entitled minus billed, as drafts
SET SESSION AUTHORIZATION bea;
\pset footer off
\echo 'What the run will write for one account (nothing is written yet):'
SELECT billing_date, contract, item, quantity, amount, currency FROM billing.preview_invoice('quillwerk', 'q-008', '2026-11-01');

CALL billing.run_billing('nimbus', '2026-11-01');
CALL billing.run_billing('quillwerk', '2026-11-01');
CALL billing.run_billing('tsubame', '2026-11-01');
\echo '... and again, which finds nothing left to bill:'
CALL billing.run_billing('nimbus', '2026-11-01');

SELECT e.code AS entity, r.run_id AS run, r.through_date, r.accounts, r.documents, r.lines, r.exceptions,
	round(extract(epoch FROM r.finished_at - r.started_at), 2) AS seconds
FROM billing.billing_run r JOIN billing.legal_entity e USING (entity_id) ORDER BY r.run_id;
