-- Invoices as people ask for them.

CREATE OR REPLACE VIEW billing.invoice_overview WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	i.reference,
	i.number,
	d.kind,
	d.state,
	a.code AS account,
	c.code AS customer,
	c.name AS customer_name,
	i.billing_date,
	i.issue_date,
	i.due_date,
	i.currency,
	i.net,
	i.tax,
	i.total,
	p.code AS maker,
	d.created_at,
	d.state_since,
	(SELECT count(*) FROM billing.exception x
		WHERE x.entity_id = i.entity_id AND x.document_id = i.invoice_id AND x.state = 'open') AS open_exceptions,
	i.entity_id,
	i.invoice_id
FROM billing.invoice i
JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
JOIN billing.legal_entity e ON e.entity_id = i.entity_id
JOIN billing.billing_account a ON a.entity_id = i.entity_id AND a.account_id = i.account_id
JOIN billing.customer c ON c.entity_id = a.entity_id AND c.customer_id = a.customer_id
LEFT JOIN billing.person p ON p.person_id = d.maker_id;
COMMENT ON VIEW billing.invoice_overview IS 'Invoices and credit notes with their state and parties';
COMMENT ON COLUMN billing.invoice_overview.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.invoice_overview.reference IS 'What API functions call it before it has a number';
COMMENT ON COLUMN billing.invoice_overview.number IS 'Legal number, null until it is issued';
COMMENT ON COLUMN billing.invoice_overview.kind IS 'invoice or credit_note';
COMMENT ON COLUMN billing.invoice_overview.state IS 'State now; billing.document_state explains each';
COMMENT ON COLUMN billing.invoice_overview.account IS 'Code of the billing account';
COMMENT ON COLUMN billing.invoice_overview.customer IS 'Code of the customer';
COMMENT ON COLUMN billing.invoice_overview.customer_name IS 'Name of the customer as it is now';
COMMENT ON COLUMN billing.invoice_overview.billing_date IS 'Day on which its charges fell due';
COMMENT ON COLUMN billing.invoice_overview.issue_date IS 'Day of issue';
COMMENT ON COLUMN billing.invoice_overview.due_date IS 'Day by which it is to be paid';
COMMENT ON COLUMN billing.invoice_overview.currency IS 'Currency of the amounts';
COMMENT ON COLUMN billing.invoice_overview.net IS 'Sum of the lines';
COMMENT ON COLUMN billing.invoice_overview.tax IS 'Sum of the taxes';
COMMENT ON COLUMN billing.invoice_overview.total IS 'Net and tax';
COMMENT ON COLUMN billing.invoice_overview.maker IS 'Code of the person who made it';
COMMENT ON COLUMN billing.invoice_overview.created_at IS 'When it was made';
COMMENT ON COLUMN billing.invoice_overview.state_since IS 'When it came into its state';
COMMENT ON COLUMN billing.invoice_overview.open_exceptions IS 'How many exceptions it waits for';
COMMENT ON COLUMN billing.invoice_overview.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.invoice_overview.invoice_id IS 'Key of the document within the entity';

CREATE OR REPLACE VIEW billing.run_progress WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	r.run_id,
	r.through_date,
	r.phase,
	CASE
		WHEN r.finished_at IS NULL THEN CASE WHEN r.cancelled_at IS NULL THEN 'running' ELSE 'stopping' END
		WHEN r.cancelled_at IS NOT NULL THEN 'cancelled'
		WHEN s.failed > 0 THEN 'incomplete'
		ELSE 'finished'
	END AS state,
	r.is_background,
	r.slices,
	s.done AS slices_done,
	s.failed AS slices_failed,
	CASE WHEN r.slices > 0 THEN round(s.done * 100.0 / r.slices, 1) WHEN r.finished_at IS NOT NULL THEN 100.0 END AS per_cent,
	s.accounts,
	s.documents,
	s.issued,
	s.held,
	s.lines,
	s.exceptions,
	s.parked,
	(SELECT jsonb_object_agg(a.currency, a.total)
		FROM (
			SELECT m.key AS currency, sum(m.value::numeric) AS total
			FROM billing.run_slice x
			CROSS JOIN LATERAL jsonb_each_text(x.amounts) m
			WHERE x.entity_id = r.entity_id AND x.run_id = r.run_id
			GROUP BY m.key
		) a) AS amounts,
	round(s.documents / nullif(extract(epoch FROM t.until - r.started_at), 0), 1) AS documents_per_second,
	r.started_at,
	CASE WHEN r.finished_at IS NULL AND r.cancelled_at IS NULL AND s.done > 0
		THEN r.started_at + (t.until - r.started_at) * (r.slices::double precision / s.done) END AS estimated_end,
	r.finished_at,
	s.error,
	r.entity_id
FROM billing.billing_run r
JOIN billing.legal_entity e ON e.entity_id = r.entity_id
CROSS JOIN LATERAL (SELECT coalesce(r.finished_at, clock_timestamp()) AS until) t
CROSS JOIN LATERAL (
	SELECT
		count(*) FILTER (WHERE x.state = 'done') AS done,
		count(*) FILTER (WHERE x.state = 'failed') AS failed,
		coalesce(sum(x.accounts), 0)::bigint AS accounts,
		coalesce(sum(x.documents), 0)::bigint AS documents,
		coalesce(sum(x.issued), 0)::bigint AS issued,
		coalesce(sum(x.held), 0)::bigint AS held,
		coalesce(sum(x.lines), 0)::bigint AS lines,
		coalesce(sum(x.exceptions), 0)::bigint AS exceptions,
		coalesce(sum(x.parked), 0)::bigint AS parked,
		(array_agg(x.error ORDER BY x.ended_at DESC NULLS LAST, x.slice_no) FILTER (WHERE x.error IS NOT NULL))[1] AS error
	FROM billing.run_slice x
	WHERE x.entity_id = r.entity_id AND x.run_id = r.run_id
) s;
COMMENT ON VIEW billing.run_progress IS 'Billing runs: how far each is, how fast, and when it will be done';
COMMENT ON COLUMN billing.run_progress.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.run_progress.run_id IS 'The run';
COMMENT ON COLUMN billing.run_progress.through_date IS 'What falls due on or before this day is billed';
COMMENT ON COLUMN billing.run_progress.phase IS 'How far it takes its documents: draft, validate or issue';
COMMENT ON COLUMN billing.run_progress.state IS 'running; stopping: cancelled, slices are still at work; finished; cancelled; incomplete: finished, but slices failed, whose accounts stay due';
COMMENT ON COLUMN billing.run_progress.is_background IS 'Whether background workers do it';
COMMENT ON COLUMN billing.run_progress.slices IS 'Slices of accounts, a transaction each';
COMMENT ON COLUMN billing.run_progress.slices_done IS 'of which are done';
COMMENT ON COLUMN billing.run_progress.slices_failed IS 'and given up after three attempts';
COMMENT ON COLUMN billing.run_progress.per_cent IS 'Slices done, in per cent';
COMMENT ON COLUMN billing.run_progress.accounts IS 'Accounts looked at so far';
COMMENT ON COLUMN billing.run_progress.documents IS 'Invoices and credit notes made so far';
COMMENT ON COLUMN billing.run_progress.issued IS 'of which were issued';
COMMENT ON COLUMN billing.run_progress.held IS 'and put on hold';
COMMENT ON COLUMN billing.run_progress.lines IS 'Lines written so far';
COMMENT ON COLUMN billing.run_progress.exceptions IS 'Charges that could not be billed, and pricing discrepancies';
COMMENT ON COLUMN billing.run_progress.parked IS 'Accounts put aside';
COMMENT ON COLUMN billing.run_progress.amounts IS 'Total of the documents made so far by currency, tax included, such as {"EUR": 119.00}; null before there is any';
COMMENT ON COLUMN billing.run_progress.documents_per_second IS 'Documents made in a second, since it was started';
COMMENT ON COLUMN billing.run_progress.started_at IS 'When it was started';
COMMENT ON COLUMN billing.run_progress.estimated_end IS 'When it will be done if it goes on like this; null before its first slice and after its last';
COMMENT ON COLUMN billing.run_progress.finished_at IS 'When it ended; null while it runs, or where its session broke off';
COMMENT ON COLUMN billing.run_progress.error IS 'Why a slice failed last, if any did';
COMMENT ON COLUMN billing.run_progress.entity_id IS 'Key of the entity';

CREATE OR REPLACE FUNCTION billing_internal.invoice_messages(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, payload jsonb)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT i.invoice_id, jsonb_build_object('number', i.number, 'account', a.code, 'customer', c.code, 'billing_date', i.billing_date,
		'issue_date', i.issue_date, 'due_date', i.due_date, 'currency', i.currency, 'net', i.net, 'tax', i.tax, 'total', i.total)
		|| coalesce((
			SELECT jsonb_build_object('credits', coalesce(o.number, o.reference), 'reason_code', n.reason_code, 'void', n.is_void, 'rebill', n.rebills)
			FROM billing.credit_note n
			JOIN billing.invoice o ON o.entity_id = n.entity_id AND o.invoice_id = n.credits_invoice_id
			WHERE n.entity_id = entity AND n.invoice_id = i.invoice_id), '{}')
	FROM unnest(documents) AS q (document_id)
	CROSS JOIN LATERAL (SELECT * FROM billing.invoice o WHERE o.entity_id = entity AND o.invoice_id = q.document_id OFFSET 0) i
	CROSS JOIN LATERAL (SELECT * FROM billing.billing_account o WHERE o.entity_id = entity AND o.account_id = i.account_id OFFSET 0) a
	CROSS JOIN LATERAL (SELECT * FROM billing.customer o WHERE o.entity_id = entity AND o.customer_id = a.customer_id OFFSET 0) c;
END;
COMMENT ON FUNCTION billing_internal.invoice_messages(integer, bigint[]) IS
	'What messages of the outbox say about invoices and credit notes, beside the step that they are about';
