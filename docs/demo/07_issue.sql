-- Issue: legal numbers without gaps
SET SESSION AUTHORIZATION bea;
\pset footer off
SELECT code AS entity, billing.issue_invoices(code) AS issued FROM billing.legal_entity ORDER BY code;
SELECT entity, currency, kind, state, count(*) AS documents, sum(net) AS net, sum(tax) AS tax, sum(total) AS total,
	min(number) AS first_number, max(number) AS last_number
FROM billing.invoice_overview GROUP BY entity, currency, kind, state ORDER BY entity, kind, state;
\echo 'What the run of quillwerk did:'
SELECT section, item, currency, documents, lines, amount, explanation
FROM billing.run_report('quillwerk', (SELECT min(run_id) FROM billing.run_progress WHERE entity = 'quillwerk' AND documents > 0));
