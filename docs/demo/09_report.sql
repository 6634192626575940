-- What there is to see
\pset footer off
\echo 'Invoices by company and state:'
SELECT entity, currency, kind, state, count(*) AS documents, sum(net) AS net, sum(tax) AS tax, sum(total) AS total
FROM billing.invoice_overview GROUP BY entity, currency, kind, state ORDER BY entity, kind, state;
\echo 'The largest:'
SELECT entity, number, kind, account, customer_name, billing_date, net, tax, total, currency
FROM (SELECT *, row_number() OVER (PARTITION BY entity ORDER BY total DESC) AS place FROM billing.invoice_overview WHERE state = 'issued') i
WHERE place <= 3 ORDER BY entity, place;

SET SESSION AUTHORIZATION ruth;
\echo 'One of them explained, by a person who audits:'
\pset format wrapped
\pset columns 124
\pset null ''
SELECT x.line_no AS line, x.step, x.explanation, x.quantity, x.unit_price, x.amount
FROM (SELECT number FROM billing.invoice_overview WHERE entity = 'tsubame' AND account = 't-007' AND state = 'issued' LIMIT 1) i,
	LATERAL billing.explain_invoice('tsubame', i.number) x;
\pset format aligned
\echo 'Open exceptions:'
SELECT entity, kind, severity, owner_duty, count(*) AS open, left(min(detail), 70) AS example
FROM billing.open_exception GROUP BY entity, kind, severity, owner_duty ORDER BY entity, kind;
\echo 'Everything recomputed by billing.verify():'
SELECT count(*) AS invariants, count(*) FILTER (WHERE violations = 0) AS hold, coalesce(sum(violations), 0) AS violations FROM billing.verify();
SELECT * FROM billing.verify() WHERE violations > 0;
