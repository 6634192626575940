-- The billing run: entitled minus billed, as drafts
SET SESSION AUTHORIZATION bea;
\pset footer off
\echo 'What the run will write for one account (nothing is written yet):'
SELECT billing_date, contract, item, quantity, amount, currency FROM billing.preview_invoice('quillwerk', 'q-008', '2026-11-01');

\echo 'And for all of them, without writing anything:'
SELECT e.code AS entity, d.kind, d.currency, d.documents, d.lines, d.net, d.tax, d.total
FROM billing.legal_entity e CROSS JOIN LATERAL billing.dry_run(e.code, '2026-11-01') d WHERE d.what = 'documents' ORDER BY e.code, d.kind;

CALL billing.run_billing('nimbus', '2026-11-01');
CALL billing.run_billing('quillwerk', '2026-11-01');
CALL billing.run_billing('tsubame', '2026-11-01');
\echo '... and again, which finds nothing left to bill:'
CALL billing.run_billing('nimbus', '2026-11-01');

SELECT entity, run_id AS run, through_date, state, slices, accounts, documents, lines, exceptions, parked, amounts
FROM billing.run_progress ORDER BY run_id;
