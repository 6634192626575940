-- Validation, and approval by somebody else
SET SESSION AUTHORIZATION bea;
\pset footer off
SELECT e.code AS entity, v.* FROM billing.legal_entity e, LATERAL billing.validate_invoices(e.code) v ORDER BY e.code;
\echo 'What is within the limit of its company is approved. Why the rest of the drafts is on hold:'
SELECT entity, kind, subject, detail FROM billing.open_exception WHERE document_id IS NOT NULL ORDER BY entity, kind, subject, document_id;

\echo 'Bea does not approve what Bea made:'
\set ON_ERROR_STOP off
SELECT billing.approve_invoice(entity, reference) FROM billing.invoice_overview WHERE state = 'pending_approval' ORDER BY reference LIMIT 1;
\echo 'Amir does, up to his limit; the largest of all is beyond it:'
SET SESSION AUTHORIZATION amir;
SELECT billing.approve_invoice(entity, reference) FROM billing.invoice_overview WHERE state = 'pending_approval' ORDER BY abs(total) DESC LIMIT 1;
\set ON_ERROR_STOP on
SELECT entity, count(billing.approve_invoice(entity, reference, 'checked against last month')) AS approved_by_amir
FROM billing.invoice_overview
WHERE state = 'pending_approval' AND abs(total) <= CASE currency WHEN 'JPY' THEN 250000 ELSE 3000 END
GROUP BY entity ORDER BY entity;
SET SESSION AUTHORIZATION dana;
SELECT entity, count(billing.approve_invoice(entity, reference)) AS approved_by_dana
FROM billing.invoice_overview WHERE state = 'pending_approval' GROUP BY entity ORDER BY entity;
