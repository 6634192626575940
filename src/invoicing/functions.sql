-- What is entitled, what was billed, and the difference; then the life of the documents that bill it.
--
-- The queries below touch many tables and are planned for few rows: compiling them would take longer than running them.

CREATE OR REPLACE FUNCTION billing_internal.account_id(entity text, account text) RETURNS bigint
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_account_id';
COMMENT ON FUNCTION billing_internal.account_id(text, text) IS
	'The id of a billing account; raises ZB002 where it does not exist';

CREATE OR REPLACE FUNCTION billing_internal.invoice_id(entity text, invoice text) RETURNS bigint
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_invoice_id';
COMMENT ON FUNCTION billing_internal.invoice_id(text, text) IS
	'The id of an invoice by number or reference; raises ZB002 where it does not exist';

-- The first three are plain STABLE queries, so that the planner sees through them into the statements that use them. Each
-- table that grows with the accounts is cut down to the accounts in question by itself, by an array and an index, before it
-- is joined: then every join is a hash join of small sides, whatever the planner believes of tables that were never analyzed.
-- What is MATERIALIZED holds function calls that would otherwise run again wherever their result is used. Rows are looked up one by
-- one, LATERAL ... OFFSET 0, where a plan that was made while a table was small would read much of it when it has grown.

CREATE OR REPLACE FUNCTION billing_internal.entitlement(entity integer, accounts bigint[], through date, changed bigint[])
	RETURNS TABLE (
		account_id bigint, item_id bigint, version_id bigint, product_id bigint, charge text, charge_date date,
		period_start date, period_end date, days integer, of_days integer,
		quantity numeric, events bigint, dimensions text, tariff billing.tariff, exact_amount numeric)
	STABLE ROWS 10000
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_entitlement';
COMMENT ON FUNCTION billing_internal.entitlement(integer, bigint[], date, bigint[]) IS
	'What accounts owe by their contracts for all that falls due through a day, or through the day they were billed if that is later; of accounts that have not changed since they were billed, where those that have are given, only what fell due after that; the amount is null where there is no price or it cannot rate the quantity';

CREATE OR REPLACE FUNCTION billing_internal.charge_key(item_id bigint, period_start date, period_end date, dimensions text) RETURNS text
	LANGUAGE SQL STABLE PARALLEL SAFE
RETURN 'item ' || item_id || ', ' || to_char(period_start, 'YYYY-MM-DD') || ' to ' || to_char(period_end - 1, 'YYYY-MM-DD')
	|| CASE WHEN dimensions = '' THEN '' ELSE ' ' || dimensions END;
COMMENT ON FUNCTION billing_internal.charge_key(bigint, date, date, text) IS
	'What the exception about a charge that could not be billed is known by';

CREATE OR REPLACE FUNCTION billing_internal.charge_problem(
	tariff billing.tariff, quantity numeric, events bigint, dimensions text) RETURNS text
	LANGUAGE SQL STABLE PARALLEL SAFE
RETURN coalesce(
	CASE WHEN events > 1 AND billing_internal.prices_events(tariff)
		THEN 'it prices single events: the meter must add them up without rounding, and all of them must be there and within its range' END,
	billing_internal.rating_error(tariff, quantity, events, nullif(dimensions, '')::jsonb));
COMMENT ON FUNCTION billing_internal.charge_problem(billing.tariff, numeric, bigint, text) IS
	'Why a price cannot rate what a charge measured';

CREATE OR REPLACE FUNCTION billing_internal.difference(entity integer, accounts bigint[], through date, changed bigint[])
	RETURNS TABLE (
		account_id bigint, currency text, kind text, billing_date date, item_id bigint, version_id bigint, charge text,
		charge_seq integer, charge_date date, period_start date, period_end date, days integer, of_days integer,
		quantity numeric, events bigint, dimensions text, tariff billing.tariff, exact_amount numeric, amount numeric, description text,
		tax_code_id bigint, tax_category text, tax_rate numeric, exemption_reason text,
		reverses_invoice_id bigint, reverses_line_no integer, minor_unit integer, rounding_mode text)
	STABLE ROWS 10000
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_difference';
COMMENT ON FUNCTION billing_internal.difference(integer, bigint[], date, bigint[]) IS
	'Entitled − billed, as the lines that settle it, of accounts that have not changed since they were billed only for what fell due after that: a charge for what was not billed, and, where what was billed is no longer right, its credit and a new charge';

CREATE OR REPLACE FUNCTION billing.preview_invoice(entity text, account text, through_date date)
	RETURNS TABLE (
		billing_date date, kind text, contract text, item text, description text, period_start date, period_end date,
		quantity numeric, amount numeric, currency text, tax_category text, tax_rate numeric, problem text)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(preview_invoice.entity) AS entity_id,
			billing_internal.account_id(preview_invoice.entity, preview_invoice.account) AS account_id,
			billing_internal.checked_date(preview_invoice.through_date, 'through date') AS through
	)
	SELECT d.billing_date, d.kind, c.code, i.code, d.description, d.period_start, d.period_end,
		d.quantity, d.amount, d.currency, d.tax_category, d.tax_rate,
		CASE
			WHEN d.tariff IS NULL THEN 'there is no price on ' || d.period_start
			WHEN d.amount IS NULL THEN billing_internal.charge_problem(d.tariff, d.quantity, d.events, d.dimensions)
		END
	FROM asked q
	CROSS JOIN LATERAL billing_internal.difference(q.entity_id, ARRAY[q.account_id], q.through, NULL) d
	JOIN billing.contract_item i ON i.entity_id = q.entity_id AND i.item_id = d.item_id
	JOIN billing.contract c ON c.entity_id = q.entity_id AND c.contract_id = i.contract_id
	-- asked first, even where nothing is found: it refuses who may not ask
	WHERE (SELECT count(*) FROM asked) = 1
	ORDER BY d.billing_date, d.item_id, d.period_start, d.dimensions, d.kind DESC;
END;
COMMENT ON FUNCTION billing.preview_invoice(text, text, date) IS
	'The lines that a billing run through a day would write for an account; writes nothing';

CREATE OR REPLACE FUNCTION billing.entitlement(entity text, account text, through_date date)
	RETURNS TABLE (
		contract text, item text, charge text, charge_date date, period_start date, period_end date,
		quantity numeric, events bigint, tariff billing.tariff, days integer, of_days integer, exact_amount numeric, currency text,
		dimensions jsonb)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(entitlement.entity) AS entity_id,
			billing_internal.account_id(entitlement.entity, entitlement.account) AS account_id,
			billing_internal.checked_date(entitlement.through_date, 'through date') AS through
	)
	SELECT c.code, i.code, d.charge, d.charge_date, d.period_start, d.period_end,
		d.quantity, d.events, d.tariff, d.days, d.of_days, d.exact_amount, c.currency, nullif(d.dimensions, '')::jsonb
	FROM asked q
	CROSS JOIN LATERAL billing_internal.entitlement(q.entity_id, ARRAY[q.account_id], q.through, NULL) d
	JOIN billing.contract_item i ON i.entity_id = q.entity_id AND i.item_id = d.item_id
	JOIN billing.contract c ON c.entity_id = q.entity_id AND c.contract_id = i.contract_id
	WHERE (SELECT count(*) FROM asked) = 1
	ORDER BY d.charge_date, d.item_id, d.period_start, d.dimensions;
END;
COMMENT ON FUNCTION billing.entitlement(text, text, date) IS
	'What an account owes by its contracts, prices and usage for all that falls due through a day, or through the day it was billed if that is later, whether billed or not';

CREATE OR REPLACE PROCEDURE billing.run_billing(entity text, through_date date, options jsonb DEFAULT '{}')
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_run_billing';
COMMENT ON PROCEDURE billing.run_billing(text, date, jsonb) IS
	'Bills entitled − billed of every account that is due, for all that falls due through a day: commits after every slice of accounts, and running it again does only what is left; options: phase (draft, validate or issue: how far it takes its documents), slice (accounts in a transaction); needs the duty biller';

CREATE OR REPLACE FUNCTION billing.start_run(entity text, through_date date, options jsonb DEFAULT '{}') RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_start_run';
COMMENT ON FUNCTION billing.start_run(text, date, jsonb) IS
	'Starts a billing run in the background and returns its id: what billing.run_billing() does, by as many workers as billing_erp.run_workers says; billing.run_progress shows how far it is; needs the duty biller';

CREATE OR REPLACE FUNCTION billing_internal.start_due_runs() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_start_due_runs';
COMMENT ON FUNCTION billing_internal.start_due_runs() IS
	'Task start_due_runs: starts a billing run through today, by the clock of the entity, where its policy lets runs start by themselves, something is due, and none was started today';

CREATE OR REPLACE FUNCTION billing.cancel_run(entity text, run_id bigint) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_cancel_run';
COMMENT ON FUNCTION billing.cancel_run(text, bigint) IS
	'Has a billing run stop after the slices at work; what it billed stands, the next run bills the rest; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.retry_parked(entity text, account text DEFAULT NULL) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_retry_parked';
COMMENT ON FUNCTION billing.retry_parked(text, text) IS
	'Lets the next billing run try again an account that runs have put aside because it could not be billed, or all of them, and returns how many; needs the duty biller';

CREATE OR REPLACE FUNCTION billing_internal.open_run(entity text, through_date date, options jsonb) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_open';
COMMENT ON FUNCTION billing_internal.open_run(text, date, jsonb) IS
	'Step of billing.run_billing(): rolls up the usage that waits for it, records that a run begins, and cuts the accounts that are due into slices';
GRANT EXECUTE ON FUNCTION billing_internal.open_run(text, date, jsonb) TO billing_user;

-- Without bitmap scans no terms are looked up by array in the GiST index of the constraint that keeps them apart, which takes ten times as
-- long as the other index.
CREATE OR REPLACE FUNCTION billing_internal.run_slice(entity text, run_id bigint, slice_no integer) RETURNS bigint
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off SET enable_nestloop = off SET enable_bitmapscan = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_run_slice';
COMMENT ON FUNCTION billing_internal.run_slice(text, bigint, integer) IS
	'Step of billing.run_billing(): bills a slice and returns how many there are, 0 where the run was cancelled';
GRANT EXECUTE ON FUNCTION billing_internal.run_slice(text, bigint, integer) TO billing_user;

CREATE OR REPLACE FUNCTION billing_internal.close_run(entity text, run_id bigint) RETURNS bigint
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_close';
COMMENT ON FUNCTION billing_internal.close_run(text, bigint) IS
	'Step of billing.run_billing(): records that a run has ended';
GRANT EXECUTE ON FUNCTION billing_internal.close_run(text, bigint) TO billing_user;

CREATE OR REPLACE FUNCTION billing.validate_invoices(entity text, invoice text DEFAULT NULL)
	RETURNS TABLE (approved bigint, pending bigint, on_hold bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off SET enable_nestloop = off
	LANGUAGE C ROWS 1 AS 'MODULE_PATHNAME', 'billing_invoicing_validate';
COMMENT ON FUNCTION billing.validate_invoices(text, text) IS
	'Checks the drafts of an entity, or one: what lacks something goes on hold with exceptions, what is within the entity''s limit is approved, the rest waits for an approver; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.approve_invoice(
	entity text, invoice text, reason text DEFAULT NULL, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_approve';
COMMENT ON FUNCTION billing.approve_invoice(text, text, text, integer) IS
	'Approves a document that waits for it; needs the duty approver with a limit that covers it, and another person than its maker';

CREATE OR REPLACE FUNCTION billing.reject_invoice(
	entity text, invoice text, reason text, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_reject';
COMMENT ON FUNCTION billing.reject_invoice(text, text, text, integer) IS
	'Sends a document that waits for approval back on hold, saying why; needs what approving needs';

CREATE OR REPLACE FUNCTION billing.release_invoice(
	entity text, invoice text, reason text DEFAULT NULL, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_release';
COMMENT ON FUNCTION billing.release_invoice(text, text, text, integer) IS
	'Makes a document on hold a draft again, to be validated anew after the cause was mended; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.discard_invoice(
	entity text, invoice text, reason text DEFAULT NULL, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_discard';
COMMENT ON FUNCTION billing.discard_invoice(text, text, text, integer) IS
	'Drops a document that was not issued: the next billing run bills anew what it billed; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.issue_invoice(entity text, invoice text, version integer DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_issue_one';
COMMENT ON FUNCTION billing.issue_invoice(text, text, integer) IS
	'Issues an approved document and returns its legal number; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.issue_invoices(entity text, through_date date DEFAULT NULL) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_issue_all';
COMMENT ON FUNCTION billing.issue_invoices(text, date) IS
	'Issues all approved documents of an entity, or those billed on or before a day, and returns how many; needs the duty biller';

-- The derivation reads what the line kept, and beside it what its sources say now.
CREATE OR REPLACE FUNCTION billing.explain_invoice(entity text, invoice text)
	RETURNS TABLE (line_no integer, step text, explanation text, quantity numeric, unit_price numeric, amount numeric)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(explain_invoice.entity) AS entity_id,
			billing_internal.invoice_id(explain_invoice.entity, explain_invoice.invoice) AS invoice_id
	), wanted AS MATERIALIZED (
		SELECT i.*, y.minor_unit, e.rounding_mode, e.time_zone
		FROM asked q
		JOIN billing.invoice i ON i.entity_id = q.entity_id AND i.invoice_id = q.invoice_id
		JOIN billing.legal_entity e ON e.entity_id = i.entity_id
		JOIN billing.currency y ON y.currency = i.currency
	), line AS MATERIALIZED (
		SELECT l.*, w.currency, w.minor_unit, w.rounding_mode, w.time_zone,
			c.code AS contract, i.code AS item, i.charge, i.timing, i.account_id, i.meter_id, i.product_id,
			CASE WHEN i.own_usage THEN i.item_id ELSE 0 END AS usage_item,
			v.valid_from, v.valid_to, v.recorded_at, v.superseded_at, v.price_book_id, v.quantity AS agreed_quantity,
			coalesce(l.events > 1 AND billing_internal.prices_events(l.tariff), false) AS by_event
		FROM wanted w
		JOIN billing.invoice_line l ON l.entity_id = w.entity_id AND l.invoice_id = w.invoice_id
		JOIN billing.contract_item i ON i.entity_id = l.entity_id AND i.item_id = l.item_id
		JOIN billing.contract c ON c.entity_id = l.entity_id AND c.contract_id = i.contract_id
		JOIN billing.contract_item_version v ON v.entity_id = l.entity_id AND v.item_id = l.item_id AND v.version_id = l.version_id
	), entitled AS MATERIALIZED (
		-- what the same periods come to now
		SELECT d.item_id, d.period_start, d.period_end, d.dimensions, d.quantity, d.events
		FROM wanted w
		CROSS JOIN LATERAL billing_internal.entitlement(w.entity_id, ARRAY[w.account_id], w.billing_date, NULL) d
		WHERE d.charge = 'usage'
	), told AS (
		SELECT l.line_no, 1 AS place, 0::bigint AS sub, 'contract' AS step,
			format('contract %s, item %s, %s: terms %s valid from %s%s, recorded %s%s',
				l.contract, l.item, l.description, l.version_id, l.valid_from, coalesce(' to ' || l.valid_to - 1, ''),
				to_char(l.recorded_at AT TIME ZONE l.time_zone, 'YYYY-MM-DD HH24:MI:SS'),
				CASE WHEN l.superseded_at IS NOT NULL THEN ', superseded since' ELSE '' END) AS explanation,
			l.quantity, NULL::numeric AS unit_price, NULL::numeric AS amount
		FROM line l
		UNION ALL
		SELECT l.line_no, 2, 0, CASE l.kind WHEN 'credit' THEN 'credit' ELSE 'adjustment' END,
			CASE l.kind WHEN 'credit' THEN format('credits line %s of %s in full%s', l.reverses_line_no, coalesce(r.number, r.reference),
					coalesce(': ' || n.reason_code || ', to be charged anew', ''))
				ELSE format('takes back %s of the %s of line %s of %s: %s', -l.amount, o.amount, l.reverses_line_no,
					coalesce(r.number, r.reference), concat_ws(', ', n.reason_code, n.note)) END,
			l.quantity, NULL, l.amount
		FROM line l
		JOIN billing.invoice r ON r.entity_id = l.entity_id AND r.invoice_id = l.reverses_invoice_id
		JOIN billing.invoice_line o ON o.entity_id = l.entity_id AND o.invoice_id = l.reverses_invoice_id AND o.line_no = l.reverses_line_no
		LEFT JOIN billing.credit_note n ON n.entity_id = l.entity_id AND n.invoice_id = l.invoice_id
		UNION ALL
		SELECT l.line_no, 3, 0, 'price',
			format('%s: %s', coalesce('price book ' || b.code, 'agreed for this item'), l.tariff), NULL, NULL, NULL
		FROM line l
		LEFT JOIN billing.price_book b ON b.entity_id = l.entity_id AND b.price_book_id = l.price_book_id
		WHERE l.kind = 'charge'
		UNION ALL
		SELECT l.line_no, 4, 0, 'usage',
			format('%s events of meter %s from %s to %s: %s',
				l.events, m.code, l.period_start, l.period_end - 1,
				CASE WHEN u.events IS DISTINCT FROM l.events OR u.quantity IS DISTINCT FROM l.quantity
					THEN format('now %s events give %s; the next run settles the difference', coalesce(u.events, 0), coalesce(u.quantity, 0))
					WHEN m.aggregation IN ('sum', 'count') THEN 'the events add up to the quantity'
					ELSE format('their %s is the quantity', replace(m.aggregation, '_', ' ')) END),
			l.quantity, NULL, NULL
		FROM line l
		JOIN billing.meter m ON m.entity_id = l.entity_id AND m.meter_id = l.meter_id
		LEFT JOIN entitled u ON u.item_id = l.item_id AND u.period_start = l.period_start AND u.period_end = l.period_end
			AND u.dimensions = l.dimensions
		WHERE l.kind = 'charge' AND l.charge = 'usage'
		UNION ALL
		SELECT l.line_no, 5, t.place, 'rating',
			concat_ws(', ',
				CASE WHEN t.tier IS NOT NULL THEN format('tier %s: above %s%s', t.tier, t.from_quantity, coalesce(' up to ' || t.up_to, '')) END,
				t.note),
			t.quantity_rated, t.unit_price, t.amount
		FROM line l
		CROSS JOIN LATERAL billing.rate_breakdown(l.tariff, l.quantity, nullif(l.dimensions, '')::jsonb, l.events)
			WITH ORDINALITY AS t (tier, from_quantity, up_to, quantity_rated, unit_price, flat, amount, note, place)
		WHERE l.kind = 'charge' AND NOT l.by_event
		UNION ALL
		SELECT l.line_no, 5, row_number() OVER (PARTITION BY l.line_no ORDER BY e.occurred_at, e.event_id), 'rating',
			format('event %s of %s, %s', e.event_key, e.source, to_char(e.occurred_at AT TIME ZONE l.time_zone, 'YYYY-MM-DD HH24:MI:SS')),
			e.quantity, NULL, billing_internal.try_rate(l.tariff, e.quantity, 1)
		FROM line l
		CROSS JOIN LATERAL billing_internal.counted_events(l.entity_id, l.account_id, l.usage_item, l.meter_id, l.period_start, l.period_end) e
		WHERE l.kind = 'charge' AND l.by_event AND e.dimensions = l.dimensions
		UNION ALL
		SELECT l.line_no, 6, 0, 'proration', format('%s of %s days of the period', l.days, l.of_days), NULL, NULL,
			l.exact_amount
		FROM line l
		WHERE l.kind = 'charge' AND l.days < l.of_days
		UNION ALL
		SELECT l.line_no, 7, 0, 'rounding',
			format('%s to %s decimals of %s, %s', l.exact_amount, l.minor_unit, l.currency,
				CASE l.rounding_mode WHEN 'half_up' THEN 'half away from zero' ELSE 'half to even' END),
			NULL, NULL, l.amount
		FROM line l
		WHERE l.kind = 'charge'
		UNION ALL
		SELECT l.line_no, 8, 0, 'line', l.description, l.quantity, NULL, l.amount
		FROM line l
		UNION ALL
		SELECT NULL, 10, 0, 'net', format('sum of %s lines', count(*)), NULL, NULL, sum(l.amount)
		FROM line l
		UNION ALL
		SELECT NULL, 11, t.tax_no, 'tax',
			format('category %s, %s%% of %s %s%s', t.category, t.rate, t.base, w.currency, coalesce(': ' || t.exemption_reason, '')),
			t.base, t.rate, t.tax
		FROM wanted w
		JOIN billing.invoice_tax t ON t.entity_id = w.entity_id AND t.invoice_id = w.invoice_id
		UNION ALL
		SELECT NULL, 12, 0, 'total', format('%s, %s', coalesce(w.number, w.reference), w.currency), NULL, NULL, w.total
		FROM wanted w
	)
	SELECT t.line_no, t.step, t.explanation, t.quantity, t.unit_price, t.amount
	FROM told t
	WHERE (SELECT count(*) FROM asked) = 1
	ORDER BY t.line_no NULLS LAST, t.place, t.sub;
END;
COMMENT ON FUNCTION billing.explain_invoice(text, text) IS
	'Derives an invoice again, step by step: contract version, price, usage, tiers, proration, rounding, tax; call it with the number or the reference';

-- The events of a line as they are now: what came or was taken back after it was billed shows in ingested_at.
CREATE OR REPLACE FUNCTION billing.explain_usage(entity text, invoice text, line integer DEFAULT NULL)
	RETURNS TABLE (
		line_no integer, source text, id text, occurred_at timestamptz, usage_date date, dimensions jsonb, sample text, quantity numeric,
		counted boolean, note text, ingested_at timestamptz, expected_amount numeric, data jsonb)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(explain_usage.entity) AS entity_id,
			billing_internal.invoice_id(explain_usage.entity, explain_usage.invoice) AS invoice_id
	)
	SELECT l.line_no, e.source, e.event_key, e.occurred_at, e.usage_date, nullif(e.dimensions, '')::jsonb, nullif(e.sample, ''),
		e.weight * e.quantity, e.weight = 1 AND e.quantity IS NOT NULL AND v.event_id IS NULL,
		CASE
			WHEN e.weight = -1 THEN 'takes back an event of the same source and id'
			WHEN v.event_id IS NOT NULL THEN 'was taken back'
			WHEN e.quantity IS NULL THEN 'is left out by the meter''s filter'
			WHEN e.corrects_event_id IS NOT NULL THEN 'replaces an event of the same source and id'
			WHEN e.correction_id IS NOT NULL THEN 'was brought in later by a person'
		END,
		e.ingested_at, e.expected_amount, e.data
	FROM asked q
	JOIN billing.invoice_line l ON l.entity_id = q.entity_id AND l.invoice_id = q.invoice_id
		AND (explain_usage.line IS NULL OR l.line_no = explain_usage.line)
	JOIN billing.contract_item i ON i.entity_id = l.entity_id AND i.item_id = l.item_id
	JOIN billing.usage_event e ON e.entity_id = l.entity_id AND e.account_id = i.account_id AND e.meter_id = i.meter_id
		AND e.item_id = CASE WHEN i.own_usage THEN i.item_id ELSE 0 END AND e.dimensions = l.dimensions
		AND e.usage_date >= l.period_start AND e.usage_date < l.period_end
	LEFT JOIN billing.usage_event v ON v.entity_id = e.entity_id AND v.account_id = e.account_id AND v.meter_id = e.meter_id
		AND v.usage_date = e.usage_date AND v.weight = -1 AND v.corrects_event_id = e.event_id
	WHERE (SELECT count(*) FROM asked) = 1
	ORDER BY l.line_no, e.occurred_at, e.event_id;
END;
COMMENT ON FUNCTION billing.explain_usage(text, text, integer) IS
	'The usage events behind a line of an invoice, or behind all of them, one by one, with those that do not count and why; none where their month was detached';

-- What stands in the way of detaching a month of usage. For each entity with events in it: the month is closed; its events are in
-- the roll-ups; every period of usage that touches it is billed; nothing waits about it; nothing is priced event by event, which the
-- roll-ups could not rate again.
CREATE OR REPLACE FUNCTION billing_internal.usage_month_obstacles(month date)
	RETURNS TABLE (entity_id integer, obstacle text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH used AS MATERIALIZED (
		SELECT e.entity_id, e.account_id, e.meter_id,
			count(*) FILTER (WHERE e.event_id > coalesce(w.after_event_id, 0)) AS not_rolled_up
		FROM billing.usage_event e
		LEFT JOIN billing.usage_watermark w ON w.entity_id = e.entity_id
		WHERE e.usage_date >= month AND e.usage_date < (month + interval '1 month')::date
		GROUP BY e.entity_id, e.account_id, e.meter_id
	), term AS MATERIALIZED (
		-- the terms of usage that touch the month, with the periods that its first and its last day lie in
		SELECT u.entity_id, u.account_id, i.item_id, i.product_id, v.tariff, v.price_book_id,
			billing.period_start(c.anchor, c.interval_unit, c.interval_count,
				billing.period_index(c.anchor, c.interval_unit, c.interval_count, month)) AS period_start,
			least(c.end_date, billing.period_start(c.anchor, c.interval_unit, c.interval_count,
				billing.period_index(c.anchor, c.interval_unit, c.interval_count, (month + interval '1 month')::date - 1) + 1)) AS period_end
		FROM used u
		JOIN billing.contract_item i ON i.entity_id = u.entity_id AND i.account_id = u.account_id AND i.meter_id = u.meter_id AND i.charge = 'usage'
		JOIN billing.contract c ON c.entity_id = i.entity_id AND c.contract_id = i.contract_id
		JOIN billing.contract_item_version v ON v.entity_id = i.entity_id AND v.item_id = i.item_id AND v.superseded_at IS NULL
		WHERE greatest(v.valid_from, c.start_date) < (month + interval '1 month')::date
			AND (least(v.valid_to, c.end_date) > month) IS NOT FALSE
	)
	SELECT DISTINCT u.entity_id, 'the month is not closed'
	FROM used u
	LEFT JOIN billing.usage_month m ON m.entity_id = u.entity_id AND m.month = usage_month_obstacles.month
	WHERE m.state IS DISTINCT FROM 'closed'
	UNION ALL
	SELECT u.entity_id, format('%s of its events are not in the roll-ups yet', sum(u.not_rolled_up))
	FROM used u
	GROUP BY u.entity_id
	HAVING sum(u.not_rolled_up) > 0
	UNION ALL
	SELECT DISTINCT t.entity_id, format('account %s is billed through %s, but has a period of usage that ends on %s',
		quote_ident(a.code), coalesce(to_char(w.billed_through, 'YYYY-MM-DD'), 'no day'), to_char(t.period_end, 'YYYY-MM-DD'))
	FROM term t
	JOIN billing.billing_account a ON a.entity_id = t.entity_id AND a.account_id = t.account_id
	LEFT JOIN billing.account_watermark w ON w.entity_id = t.entity_id AND w.account_id = t.account_id
	WHERE (w.billed_through >= t.period_end) IS NOT TRUE
	UNION ALL
	SELECT DISTINCT t.entity_id, format('item %s of account %s is priced event by event', quote_ident(i.code), quote_ident(a.code))
	FROM term t
	JOIN billing.billing_account a ON a.entity_id = t.entity_id AND a.account_id = t.account_id
	JOIN billing.contract_item i ON i.entity_id = t.entity_id AND i.item_id = t.item_id
	LEFT JOIN billing.price p ON t.tariff IS NULL AND p.entity_id = t.entity_id AND p.price_book_id = t.price_book_id
		AND p.product_id = t.product_id AND p.valid_from < t.period_end AND (p.valid_to > t.period_start) IS NOT FALSE
	WHERE billing_internal.prices_events(coalesce(t.tariff, p.tariff))
	UNION ALL
	SELECT d.entity_id, format('%s corrections of usage wait for approval', count(*))
	FROM billing.document d
	WHERE d.kind = 'usage_correction' AND d.state = 'pending_approval' AND d.entity_id IN (SELECT u.entity_id FROM used u)
	GROUP BY d.entity_id
	UNION ALL
	SELECT x.entity_id, format('%s open exceptions of kind %s are about it', count(*), x.kind)
	FROM billing.exception x
	JOIN billing.legal_entity l ON l.entity_id = x.entity_id
	WHERE x.state = 'open' AND x.kind LIKE 'usage\_%'
		AND date_trunc('month', billing_internal.usage_moment(coalesce(x.payload ->> 'time', x.payload #>> '{sent,time}')) AT TIME ZONE l.time_zone) = usage_month_obstacles.month
	GROUP BY x.entity_id, x.kind;
END;
COMMENT ON FUNCTION billing_internal.usage_month_obstacles(date) IS
	'What stands in the way of detaching the month of usage that begins on a day: nothing where it is closed, rolled up and billed by every entity with events in it';

CREATE OR REPLACE FUNCTION billing_internal.expired_usage_months() RETURNS TABLE (month date)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT p.month
	FROM (
		SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month
		FROM pg_catalog.pg_inherits i
		JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'billing.usage_event'::regclass
	) p
	CROSS JOIN billing.legal_entity l
	LEFT JOIN billing.usage_policy r ON r.entity_id = l.entity_id
	WHERE EXISTS (
		SELECT FROM billing.usage_event e
		WHERE e.entity_id = l.entity_id AND e.usage_date >= p.month AND e.usage_date < (p.month + interval '1 month')::date)
	GROUP BY p.month
	HAVING bool_and(coalesce(
		p.month < date_trunc('month', now() AT TIME ZONE l.time_zone) - make_interval(months => r.retention_months), false));
END;
COMMENT ON FUNCTION billing_internal.expired_usage_months() IS
	'The months of usage, not detached yet, that no entity with events in them keeps any longer';

CREATE OR REPLACE FUNCTION billing.detach_usage_month(month date) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_detach_usage_month';
COMMENT ON FUNCTION billing.detach_usage_month(date) IS
	'Takes the events of the month that the day lies in out of billing.usage_event, when every entity has closed and billed it, and returns how many they are; they stay in billing_internal.usage_event_<year>_<month>_detached; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing_internal.detach_usage_months() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_detach_usage_months';
COMMENT ON FUNCTION billing_internal.detach_usage_months() IS
	'Detaches the months of usage that lie outside of the retention of all entities with events in them, as far as nothing stands in the way; a task of the worker';

CREATE OR REPLACE FUNCTION billing_internal.verify_invoicing(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH line AS MATERIALIZED (
		SELECT l.*, i.account_id, i.currency, i.number, i.reference, y.minor_unit,
			EXISTS (
				SELECT FROM billing.invoice_line r
				WHERE r.entity_id = l.entity_id AND r.reverses_invoice_id = l.invoice_id
					AND r.reverses_line_no = l.line_no AND r.kind = 'credit' AND NOT r.discarded) AS is_credited
		FROM billing.invoice_line l
		JOIN billing.invoice i ON i.entity_id = l.entity_id AND i.invoice_id = l.invoice_id
		JOIN billing.currency y ON y.currency = i.currency
		WHERE entity IS NULL OR l.entity_id = entity
	)
	SELECT 'lines add up to the invoice', count(*), min(i.reference)
	FROM billing.invoice i
	LEFT JOIN (SELECT l.entity_id, l.invoice_id, sum(l.amount) AS net FROM line l GROUP BY l.entity_id, l.invoice_id) s
		USING (entity_id, invoice_id)
	WHERE (entity IS NULL OR i.entity_id = entity) AND i.net IS DISTINCT FROM s.net
	UNION ALL
	SELECT 'tax adds up', count(*), min(i.reference)
	FROM billing.invoice i
	LEFT JOIN (SELECT t.entity_id, t.invoice_id, sum(t.tax) AS tax FROM billing.invoice_tax t GROUP BY t.entity_id, t.invoice_id) s
		USING (entity_id, invoice_id)
	LEFT JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
	WHERE (entity IS NULL OR i.entity_id = entity)
		AND (i.tax <> coalesce(s.tax, 0) OR i.total <> i.net + i.tax OR d.amount IS DISTINCT FROM i.total)
	UNION ALL
	SELECT 'tax is the rate on the sum of its lines, rounded once', count(*), min('D' || coalesce(t.invoice_id, s.invoice_id))
	FROM (
		SELECT x.entity_id, x.invoice_id, x.category, x.rate, sum(x.base) AS base,
			-- by the mode of its day: the entity may have another now; the parts that a person credits share out the invoice's tax
			bool_and(x.tax IN (billing.round_amount(x.base * x.rate * 0.01, y.minor_unit, 'half_up'),
				billing.round_amount(x.base * x.rate * 0.01, y.minor_unit, 'half_even'))
				OR EXISTS (SELECT FROM billing.credit_note n WHERE n.entity_id = x.entity_id AND n.invoice_id = x.invoice_id)) AS is_rounded
		FROM billing.invoice_tax x
		JOIN billing.invoice i ON i.entity_id = x.entity_id AND i.invoice_id = x.invoice_id
		JOIN billing.currency y ON y.currency = i.currency
		WHERE entity IS NULL OR x.entity_id = entity
		GROUP BY x.entity_id, x.invoice_id, x.category, x.rate
	) t
	FULL JOIN (
		SELECT l.entity_id, l.invoice_id, l.tax_category, l.tax_rate, sum(l.amount) AS base
		FROM line l
		WHERE l.tax_category IS NOT NULL
		GROUP BY l.entity_id, l.invoice_id, l.tax_category, l.tax_rate
	) s ON s.entity_id = t.entity_id AND s.invoice_id = t.invoice_id AND s.tax_category = t.category AND s.tax_rate = t.rate
	WHERE t.base IS DISTINCT FROM s.base OR NOT t.is_rounded
	UNION ALL
	SELECT 'a line is its tariff applied to its quantity, prorated and rounded once', count(*),
		min(format('%s line %s', l.reference, l.line_no))
	FROM line l
	WHERE l.kind = 'charge' AND (
		(NOT coalesce(l.events > 1 AND billing_internal.prices_events(l.tariff), false) AND l.exact_amount IS DISTINCT FROM billing.prorate(billing_internal.try_rate(l.tariff, l.quantity, l.events, nullif(l.dimensions, '')::jsonb), l.days, l.of_days))
		OR l.amount NOT IN (billing.round_amount(l.exact_amount, l.minor_unit, 'half_up'), billing.round_amount(l.exact_amount, l.minor_unit, 'half_even')))
	UNION ALL
	SELECT 'a credit is the charge that it reverses, with the other sign', count(*),
		min(format('%s line %s', l.reference, l.line_no))
	FROM line l
	LEFT JOIN billing.invoice_line r ON r.entity_id = l.entity_id AND r.invoice_id = l.reverses_invoice_id AND r.line_no = l.reverses_line_no
	WHERE l.kind = 'credit' AND (
		l.amount IS DISTINCT FROM -r.amount OR l.quantity IS DISTINCT FROM -r.quantity OR r.kind <> 'charge'
		OR l.item_id <> r.item_id OR l.period_start <> r.period_start OR l.period_end <> r.period_end OR l.dimensions <> r.dimensions
		OR l.tax_category IS DISTINCT FROM r.tax_category OR l.tax_rate IS DISTINCT FROM r.tax_rate
		OR (r.discarded AND NOT l.discarded))
	UNION ALL
	SELECT 'no period is billed twice', count(*), min(format('%s line %s', s.reference, s.line_no))
	FROM (
		SELECT l.*, lag(l.period_end) OVER (PARTITION BY l.entity_id, l.item_id, l.dimensions ORDER BY l.period_start, l.period_end, l.charge_seq) AS before
		FROM line l
		WHERE l.kind = 'charge' AND NOT l.discarded AND NOT l.is_credited
	) s
	WHERE s.period_start < s.before
	UNION ALL
	SELECT 'billed = entitled, through the day each account was billed', count(*), min(format('account %s, %s, item %s, %s to %s',
		a.code, d.kind, d.item_id, d.period_start, d.period_end - 1))
	FROM (SELECT w.entity_id, array_agg(w.account_id) AS accounts
		FROM billing.account_watermark w
		-- what could not be derived when it was billed cannot be derived here
		WHERE (entity IS NULL OR w.entity_id = entity) AND w.parked_at IS NULL
		GROUP BY w.entity_id) w
	CROSS JOIN LATERAL billing_internal.difference(w.entity_id, w.accounts, NULL, NULL) d
	JOIN billing.billing_account a ON a.entity_id = w.entity_id AND a.account_id = d.account_id
	WHERE d.amount IS NOT NULL OR NOT EXISTS (
		SELECT FROM billing.exception x
		WHERE x.entity_id = w.entity_id AND x.kind IN ('missing_price', 'rating_failed')
			AND x.dedupe_key = billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions))
	UNION ALL
	SELECT 'legal numbers have no gaps', count(*), min(format('%s-%s', coalesce(n.series, s.series), coalesce(n.fiscal_year, s.fiscal_year)))
	FROM (SELECT * FROM billing.number_series x WHERE entity IS NULL OR x.entity_id = entity) n
	FULL JOIN (
		SELECT i.entity_id, i.series, i.fiscal_year, count(*) AS numbers, count(DISTINCT i.sequence) AS distinct_numbers,
			min(i.sequence) AS first, max(i.sequence) AS last
		FROM billing.invoice i
		WHERE (entity IS NULL OR i.entity_id = entity) AND i.number IS NOT NULL
		GROUP BY i.entity_id, i.series, i.fiscal_year
	) s ON s.entity_id = n.entity_id AND s.series = n.series AND s.fiscal_year = n.fiscal_year
	WHERE s.last IS DISTINCT FROM n.last_number OR s.first IS DISTINCT FROM 1 OR s.numbers IS DISTINCT FROM n.last_number
		OR s.distinct_numbers IS DISTINCT FROM n.last_number
	UNION ALL
	SELECT 'issued documents have a number, and no others', count(*), min(i.reference)
	FROM billing.invoice i
	LEFT JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
	WHERE (entity IS NULL OR i.entity_id = entity) AND (d.state IN ('issued', 'partially_paid', 'paid', 'credited', 'written_off')) IS DISTINCT FROM (i.number IS NOT NULL)
	UNION ALL
	SELECT 'discarded documents bill nothing, and no others are without effect', count(*), min(format('%s line %s', l.reference, l.line_no))
	FROM line l
	LEFT JOIN billing.document d ON d.entity_id = l.entity_id AND d.document_id = l.invoice_id
	WHERE (d.state = 'discarded') IS DISTINCT FROM l.discarded
	UNION ALL
	SELECT 'lines and taxes have their document, lines the terms that they were derived from', count(*), min('D' || o.invoice_id)
	FROM (
		SELECT l.invoice_id
		FROM line l
		LEFT JOIN billing.contract_item_version v ON v.entity_id = l.entity_id AND v.item_id = l.item_id AND v.version_id = l.version_id
		WHERE v.version_id IS NULL
		UNION ALL
		SELECT x.invoice_id
		FROM (
			SELECT l.entity_id, l.invoice_id FROM billing.invoice_line l
			UNION
			SELECT t.entity_id, t.invoice_id FROM billing.invoice_tax t
		) x
		LEFT JOIN billing.invoice i ON i.entity_id = x.entity_id AND i.invoice_id = x.invoice_id
		LEFT JOIN billing.billing_run r ON r.entity_id = i.entity_id AND r.run_id = i.run_id
		LEFT JOIN billing.currency y ON y.currency = i.currency
		LEFT JOIN billing.credit_note n ON n.entity_id = i.entity_id AND n.invoice_id = i.invoice_id
		WHERE (entity IS NULL OR x.entity_id = entity)
			AND (coalesce(r.run_id, n.invoice_id) IS NULL OR (i.run_id IS NULL) <> (n.invoice_id IS NOT NULL) OR y.currency IS NULL)
	) o
	UNION ALL
	SELECT 'every document has its content, and every content its document', count(*),
		min('D' || coalesce(d.document_id, i.invoice_id))
	FROM (SELECT * FROM billing.document x WHERE (entity IS NULL OR x.entity_id = entity) AND x.kind IN ('invoice', 'credit_note')) d
	FULL JOIN (SELECT * FROM billing.invoice x WHERE entity IS NULL OR x.entity_id = entity) i
		ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id
	WHERE d.document_id IS NULL OR i.invoice_id IS NULL OR (d.kind = 'credit_note') <> (i.total < 0)
		OR NOT EXISTS (SELECT FROM billing.invoice_line l WHERE l.entity_id = i.entity_id AND l.invoice_id = i.invoice_id);
END;
COMMENT ON FUNCTION billing_internal.verify_invoicing(integer) IS
	'Checks of invoices: sums, taxes, lines, credits, periods, numbers, and billed = entitled';

CREATE OR REPLACE FUNCTION billing.set_billing_policy(
	entity text, max_amount numeric DEFAULT NULL, max_lines integer DEFAULT NULL, max_score numeric DEFAULT NULL,
	history integer DEFAULT NULL, automatic_phase text DEFAULT NULL, automatic_from time DEFAULT NULL, remove text[] DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_set_policy';
COMMENT ON FUNCTION billing.set_billing_policy(text, numeric, integer, numeric, integer, text, time, text[]) IS
	'Decides about the billing runs of an entity: from which amount, number of lines and anomaly score on a document goes on hold for a person, and how far runs go by themselves from when on; null leaves a decision as it is, and remove takes back those it names: max_amount, max_lines, max_score, automatic_phase; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.anomaly_score(amount numeric, history numeric[]) RETURNS numeric
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_anomaly_score';
COMMENT ON FUNCTION billing.anomaly_score(numeric, numeric[]) IS
	'How many times their usual deviation an amount lies above (or, negative, below) the median of earlier amounts: the modified z-score of Iglewicz and Hoaglin, where the usual deviation is at least 1 % of the median and 0.01; null with fewer than 3 amounts';

CREATE OR REPLACE FUNCTION billing_internal.invoice_problems(
	kind text, total numeric, currency text, lines bigint, untaxed bigint, untaxed_since date, needs_tax_id boolean,
	address text, country text, tax_id text, account text, purchase_order_missing boolean, hold_zero boolean, unpriced text,
	max_amount numeric, max_lines integer, max_score numeric, history numeric[], released boolean) RETURNS text[]
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_problems';
COMMENT ON FUNCTION billing_internal.invoice_problems(
	text, numeric, text, bigint, bigint, date, boolean, text, text, text, text, boolean, boolean, text, numeric, integer, numeric, numeric[], boolean) IS
	'What stands against a document, as {{kind of exception, detail}, ...}, or null: what it lacks, and, unless a person has released it, the bounds that it is beyond';

CREATE OR REPLACE FUNCTION billing_internal.invoice_action(problems text[], total numeric, approval_limit numeric, released boolean) RETURNS text
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_next_action';
COMMENT ON FUNCTION billing_internal.invoice_action(text[], numeric, numeric, boolean) IS
	'What validation does with a draft: hold it, approve it within the limit, or submit it to a person; what a bound held up and a person let go, and what a person credits, is for another person to approve';

-- What is the same for all documents of an account; as the first functions above, a query that the planner sees through. OFFSET makes
-- each of these a look-up by key for every row, and by nothing but the key: they ask tables that may have grown a thousandfold since
-- they were planned, where an array would be compared with every row, and an index of states might look as good as the key. The history is read only where a score is asked for; it asks for the day of issue, and not
-- for the number, whose indexes are of no use to a few accounts.
CREATE OR REPLACE FUNCTION billing_internal.invoice_terms(entity integer, accounts bigint[])
	RETURNS TABLE (
		account_id bigint, account text, address text, country text, tax_id text, purchase_order_missing boolean, hold_zero boolean,
		approval_limit numeric, max_amount numeric, max_lines integer, max_score numeric, history numeric[])
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT a.account_id, a.code, c.address, c.country, c.tax_id, a.purchase_order_required AND a.purchase_order IS NULL, e.zero_invoices = 'hold',
		CASE WHEN a.currency = e.currency THEN e.auto_approve_limit END, CASE WHEN a.currency = e.currency THEN p.max_amount END,
		p.max_lines, p.max_score,
		CASE WHEN p.max_score IS NOT NULL THEN ARRAY(
			SELECT i.total::numeric
			FROM billing.invoice i
			WHERE i.entity_id = entity AND i.account_id = a.account_id AND i.issue_date IS NOT NULL AND i.total >= 0
				AND i.currency = a.currency
			ORDER BY i.billing_date DESC, i.invoice_id DESC
			LIMIT p.history) END
	FROM unnest(accounts) AS q (account_id)
	CROSS JOIN LATERAL (SELECT * FROM billing.billing_account a WHERE a.entity_id = entity AND a.account_id = q.account_id OFFSET 0) a
	CROSS JOIN LATERAL (SELECT * FROM billing.customer c WHERE c.entity_id = entity AND c.customer_id = a.customer_id OFFSET 0) c
	JOIN billing.legal_entity e ON e.entity_id = a.entity_id
	LEFT JOIN billing.billing_policy p ON p.entity_id = a.entity_id;
END;
COMMENT ON FUNCTION billing_internal.invoice_terms(integer, bigint[]) IS
	'What invoice_problems() and invoice_action() ask about accounts: particulars, approval limit and bounds, both only for accounts in the entity''s currency, and the totals of the last issued invoices where a score is bounded';

CREATE OR REPLACE FUNCTION billing_internal.draft_problems(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, version integer, account text, problems text[], action text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH draft AS MATERIALIZED (
		SELECT d.document_id, d.kind, d.version, d.amount, d.currency, i.account_id, i.billing_date
		FROM unnest(documents) AS q (document_id)
		CROSS JOIN LATERAL (
			SELECT * FROM billing.document d WHERE d.entity_id = entity AND d.document_id = q.document_id OFFSET 0
		) d
		CROSS JOIN LATERAL (SELECT * FROM billing.invoice i WHERE i.entity_id = entity AND i.invoice_id = q.document_id OFFSET 0) i
		WHERE d.state = 'draft'
	), terms AS MATERIALIZED (
		SELECT * FROM billing_internal.invoice_terms(entity, ARRAY(SELECT DISTINCT d.account_id FROM draft d))
	), asked AS MATERIALIZED (
		SELECT d.*, t.account, t.address, t.country, t.tax_id, t.purchase_order_missing, t.hold_zero, t.approval_limit,
			t.max_amount, t.max_lines, t.max_score, t.history, l.lines, l.untaxed, l.untaxed_since,
			EXISTS (
				SELECT FROM billing.invoice_tax x
				WHERE x.entity_id = entity AND x.invoice_id = d.document_id AND x.category IN ('AE', 'K')
				OFFSET 0) AS needs_tax_id,
			(
				SELECT min(x.detail)
				FROM (SELECT * FROM billing.exception x WHERE x.entity_id = entity AND x.subject = t.account AND x.state = 'open' OFFSET 0) x
				WHERE x.kind IN ('missing_price', 'rating_failed') AND x.document_id IS NULL
					AND (x.payload ->> 'billing_date')::date = d.billing_date
			) AS unpriced,
			-- what was on hold and is a draft again was released, and its lines are what they were
			d.version > 1 AND EXISTS (
				SELECT FROM (SELECT * FROM billing.exception x WHERE x.entity_id = entity AND x.document_id = d.document_id OFFSET 0) x
				WHERE x.kind IN ('amount_bound', 'lines_bound', 'amount_anomaly')
				OFFSET 0) AS released
		FROM draft d
		JOIN terms t ON t.account_id = d.account_id
		CROSS JOIN LATERAL (
			SELECT count(*) AS lines, count(*) FILTER (WHERE l.tax_category IS NULL) AS untaxed,
				min(l.charge_date) FILTER (WHERE l.tax_category IS NULL) AS untaxed_since
			FROM billing.invoice_line l
			WHERE l.entity_id = entity AND l.invoice_id = d.document_id
		) l
	), checked AS MATERIALIZED (
		SELECT q.document_id, q.version, q.account, q.amount, q.approval_limit, q.released,
			billing_internal.invoice_problems(q.kind, q.amount, q.currency, q.lines, q.untaxed, q.untaxed_since, q.needs_tax_id,
				q.address, q.country, q.tax_id, q.account, q.purchase_order_missing, q.hold_zero, q.unpriced,
				q.max_amount, q.max_lines, q.max_score, q.history, q.released) AS problems
		FROM asked q
	)
	SELECT c.document_id, c.version, c.account, c.problems, billing_internal.invoice_action(c.problems, c.amount, c.approval_limit,
		-- what a person gives away in many small parts is for another person to approve, or for a policy
		c.released OR EXISTS (SELECT FROM billing.credit_note n WHERE n.entity_id = entity AND n.invoice_id = c.document_id OFFSET 0))
	FROM checked c;
END;
COMMENT ON FUNCTION billing_internal.draft_problems(integer, bigint[]) IS
	'What stands against those of some documents that are drafts, and what is to be done with each: hold, auto_approve or submit';

CREATE OR REPLACE FUNCTION billing_internal.dry_run_rows(entity integer, through date)
	RETURNS TABLE (
		what text, kind text, currency text, documents bigint, lines bigint, net numeric, tax numeric, total numeric, subject text, detail text)
	STABLE STRICT
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_dry_run_rows';
COMMENT ON FUNCTION billing_internal.dry_run_rows(integer, date) IS
	'What a billing run through a day would make and raise, by slices of accounts: sums of documents by kind and currency, exceptions, and what is due by currency';

CREATE OR REPLACE FUNCTION billing.dry_run(entity text, through_date date)
	RETURNS TABLE (
		what text, kind text, currency text, documents bigint, lines bigint, net numeric, tax numeric, total numeric, subject text, detail text)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off SET enable_nestloop = off SET enable_bitmapscan = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(dry_run.entity) AS entity_id,
			billing_internal.checked_date(dry_run.through_date, 'through date') AS through
	), found AS MATERIALIZED (
		SELECT r.* FROM asked q CROSS JOIN LATERAL billing_internal.dry_run_rows(q.entity_id, q.through) r WHERE r.what <> 'due'
	)
	SELECT f.what, f.kind, f.currency, sum(f.documents)::bigint, sum(f.lines)::bigint, sum(f.net), sum(f.tax), sum(f.total), NULL, NULL
	FROM found f
	WHERE f.what = 'documents'
	GROUP BY f.what, f.kind, f.currency
	UNION ALL
	SELECT f.what, f.kind, NULL, NULL, NULL, NULL, NULL, NULL, f.subject, f.detail
	FROM found f
	WHERE f.what = 'exception' AND (SELECT count(*) FROM asked) = 1
	ORDER BY 1, 2, 3, 9, 10;
END;
COMMENT ON FUNCTION billing.dry_run(text, date) IS
	'What a billing run through a day would do, without doing it: rows "documents" with the sums by kind and currency, and rows "exception" for all that would stand open against its documents after validation, and for charges and accounts that it could not bill; writes nothing';

CREATE OR REPLACE FUNCTION billing_internal.known_run(entity text, run_id bigint) RETURNS bigint
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_known_run';
COMMENT ON FUNCTION billing_internal.known_run(text, bigint) IS
	'A run of an entity; raises ZB002 where it does not exist';

CREATE OR REPLACE FUNCTION billing_internal.compared(now numeric, before numeric) RETURNS text
	LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN CASE
	WHEN now = before THEN 'the same'
	WHEN before = 0 THEN CASE WHEN now > 0 THEN 'more than nothing' ELSE 'less than nothing' END
	ELSE round(abs(now - before) * 100 / abs(before), 1) || ' % ' || CASE WHEN now > before THEN 'more' ELSE 'less' END
END;
COMMENT ON FUNCTION billing_internal.compared(numeric, numeric) IS
	'An amount compared with an earlier one in words, such as 12.5 % more';

CREATE OR REPLACE FUNCTION billing.run_report(entity text, run_id bigint, with_entitlement boolean DEFAULT true)
	RETURNS TABLE (
		section text, item text, currency text, documents bigint, lines bigint, amount numeric, before numeric, difference numeric, explanation text)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(run_report.entity) AS entity_id, billing_internal.known_run(run_report.entity, run_report.run_id) AS run_id
	), run AS MATERIALIZED (
		-- the run, and the last finished one before it that billed anything
		SELECT r.*, (
				SELECT max(b.run_id) FROM billing.billing_run b
				WHERE b.entity_id = r.entity_id AND b.run_id < r.run_id AND b.finished_at IS NOT NULL AND b.documents > 0
			) AS before_id
		FROM asked q
		JOIN billing.billing_run r ON r.entity_id = q.entity_id AND r.run_id = q.run_id
	), made AS MATERIALIZED (
		SELECT i.entity_id, i.invoice_id, i.run_id, i.account_id, i.currency, i.total, d.state, i.run_id = r.run_id AS is_asked, r.before_id
		FROM run r
		JOIN billing.invoice i ON i.entity_id = r.entity_id AND i.run_id IN (r.run_id, r.before_id)
		JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
	), line AS MATERIALIZED (
		SELECT m.is_asked, m.before_id, m.currency, m.invoice_id, l.tariff, l.amount, i.charge
		FROM made m
		JOIN billing.invoice_line l ON l.entity_id = m.entity_id AND l.invoice_id = m.invoice_id
		JOIN billing.contract_item i ON i.entity_id = l.entity_id AND i.item_id = l.item_id
		WHERE m.state <> 'discarded'
	), model AS MATERIALIZED (
		-- few prices for many lines: each is read once
		SELECT t.tariff, t.tariff::jsonb ->> 'model' AS model FROM (SELECT DISTINCT l.tariff FROM line l) t
	), billed AS (
		SELECT l.charge || ', ' || m.model AS item, l.currency, l.before_id,
			count(DISTINCT l.invoice_id) FILTER (WHERE l.is_asked) AS documents, count(*) FILTER (WHERE l.is_asked) AS lines,
			coalesce(sum(l.amount) FILTER (WHERE l.is_asked), 0) AS amount,
			CASE WHEN l.before_id IS NOT NULL THEN coalesce(sum(l.amount) FILTER (WHERE NOT l.is_asked), 0) END AS before
		FROM line l
		JOIN model m ON m.tariff OPERATOR(billing.=) l.tariff
		GROUP BY l.charge, m.model, l.currency, l.before_id
	), passed AS (
		SELECT count(*) AS documents,
			count(*) FILTER (WHERE s.is_approved AND NOT s.was_held) AS passed,
			count(*) FILTER (WHERE s.was_held) AS held
		FROM made m
		CROSS JOIN LATERAL (
			SELECT bool_or(s.to_state IN ('approved', 'issued')) AS is_approved, bool_or(s.to_state = 'on_hold') AS was_held
			FROM billing.document_step s
			WHERE s.entity_id = m.entity_id AND s.document_id = m.invoice_id
		) s
		WHERE m.is_asked
	), account AS MATERIALIZED (
		SELECT m.entity_id, m.account_id, m.currency, count(*) AS documents, sum(m.total) AS total, min(m.invoice_id) AS first_id
		FROM made m
		WHERE m.is_asked AND m.state <> 'discarded'
		GROUP BY m.entity_id, m.account_id, m.currency
	), change AS (
		SELECT c.entity_id, c.account_id, c.currency, c.documents, c.total, p.total AS before, p.billing_date,
			row_number() OVER (PARTITION BY c.currency ORDER BY abs(c.total - p.total) DESC, c.account_id) AS place
		FROM account c
		CROSS JOIN LATERAL (
			SELECT p.total, p.billing_date
			FROM billing.invoice p
			JOIN billing.document d ON d.entity_id = p.entity_id AND d.document_id = p.invoice_id
			WHERE p.entity_id = c.entity_id AND p.account_id = c.account_id AND p.currency = c.currency
				AND p.invoice_id < c.first_id AND p.total >= 0 AND d.state <> 'discarded'
			ORDER BY p.billing_date DESC, p.invoice_id DESC
			LIMIT 1
		) p
		WHERE c.total <> p.total
	), due AS (
		SELECT d.currency, sum(d.documents)::bigint AS unrated, sum(d.lines)::bigint AS lines, sum(d.net) AS net
		FROM run r
		-- strict: nothing is derived where nobody asks for it
		CROSS JOIN LATERAL billing_internal.dry_run_rows(r.entity_id, CASE WHEN run_report.with_entitlement THEN r.through_date END) d
		WHERE d.what = 'due'
		GROUP BY d.currency
	), stands AS (
		SELECT i.currency, count(*) AS lines, sum(l.amount) AS net
		FROM run r
		-- what a person took back was entitled all the same
		JOIN billing.invoice_line l ON l.entity_id = r.entity_id AND NOT l.discarded AND l.charge_date <= r.through_date AND l.kind <> 'adjustment'
		JOIN billing.invoice i ON i.entity_id = l.entity_id AND i.invoice_id = l.invoice_id
		WHERE run_report.with_entitlement
		GROUP BY i.currency
	), told AS (
		SELECT 1 AS part, 0::bigint AS place, 'run' AS section, 'run ' || r.run_id AS item, NULL AS currency, r.documents, r.lines,
			NULL::numeric AS amount, NULL::numeric AS before, NULL::numeric AS difference,
			format('through %s, to phase %s: %s accounts, %s put aside; %s', r.through_date, r.phase, r.accounts, r.parked,
				coalesce('compared with run ' || r.before_id, 'there is no run before')) AS explanation
		FROM run r
		UNION ALL
		SELECT 2, 0, 'billed', b.item, b.currency, b.documents, b.lines, b.amount, b.before, b.amount - b.before,
			billing_internal.compared(b.amount, b.before)
		FROM billed b
		UNION ALL
		SELECT 3, 0, 'first pass', 'approved or issued, and never on hold', NULL, p.passed, NULL, round(p.passed * 100.0 / p.documents, 2), NULL, NULL,
			format('%s of %s documents; %s were on hold', p.passed, p.documents, p.held)
		FROM passed p
		WHERE p.documents > 0
		UNION ALL
		SELECT 4, c.place, 'change', a.code, c.currency, c.documents, NULL, c.total, c.before, c.total - c.before,
			format('%s than on %s', billing_internal.compared(c.total, c.before), c.billing_date)
		FROM change c
		JOIN billing.billing_account a ON a.entity_id = c.entity_id AND a.account_id = c.account_id
		WHERE c.place <= 10
		UNION ALL
		SELECT 5, 0, 'entitled', 'all charges through the day', coalesce(s.currency, d.currency), NULL, coalesce(s.lines, 0),
			coalesce(s.net, 0) + coalesce(d.net, 0), coalesce(s.net, 0), coalesce(d.net, 0),
			CASE WHEN coalesce(d.lines, 0) = 0 THEN 'all that can be rated is billed' ELSE d.lines || ' lines are to be billed' END
				|| CASE WHEN d.unrated > 0 THEN format('; %s charges have no amount', d.unrated) ELSE '' END
		FROM stands s
		FULL JOIN due d ON d.currency = s.currency
	)
	SELECT t.section, t.item, t.currency, t.documents, t.lines, t.amount, t.before, t.difference, t.explanation
	FROM told t
	WHERE (SELECT count(*) FROM asked) = 1
	ORDER BY t.part, t.currency, t.place, t.item;
END;
COMMENT ON FUNCTION billing.run_report(text, bigint, boolean) IS
	'What a billing run did: what it billed by kind of charge, billing model and currency (amounts without tax), compared with the run before; its first-pass rate, in per cent; the ten largest changes of accounts in each currency against their invoice before (totals with tax); and what contracts, prices and usage as they are now entitle to through its day, compared with what is billed, unless with_entitlement is false, which spares deriving every account';

-- What the audit log knows of a document: its lines and taxes, which never change.

CREATE OR REPLACE FUNCTION billing_internal.document_digest(entity integer, invoice bigint) RETURNS text
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT encode(sha256(
		(SELECT billing_internal.rows_digest(l.line_no, l.kind, l.item_id, l.version_id, l.charge_seq, l.charge_date, l.period_start,
			l.period_end, l.description, l.quantity, l.events, l.dimensions, l.tariff, l.days, l.of_days, l.exact_amount, l.amount,
			l.tax_code_id, l.tax_category, l.tax_rate, l.reverses_invoice_id, l.reverses_line_no ORDER BY l.line_no)
		FROM billing.invoice_line l WHERE l.entity_id = entity AND l.invoice_id = invoice)
		|| (SELECT billing_internal.rows_digest(t.tax_no, t.category, t.rate, t.exemption_reason, t.base, t.tax ORDER BY t.tax_no)
		FROM billing.invoice_tax t WHERE t.entity_id = entity AND t.invoice_id = invoice)), 'hex');
END;
COMMENT ON FUNCTION billing_internal.document_digest(integer, bigint) IS
	'SHA-256 of a document''s lines and taxes in hex: the member "content" of the audit record that made it';

CREATE OR REPLACE FUNCTION billing_internal.verify_documents(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'documents are those that were audited', count(*), min(i.reference)
	FROM billing.audit_log a
	JOIN billing.invoice i ON i.entity_id = a.entity_id AND i.invoice_id::text = a.object_id
	WHERE (entity IS NULL OR a.entity_id = entity) AND a.object_type IN ('invoice', 'credit_note') AND a.after ? 'content'
		AND (a.after ->> 'content' <> billing_internal.document_digest(i.entity_id, i.invoice_id)
			OR (a.after ->> 'account')::bigint <> i.account_id OR a.after ->> 'currency' <> i.currency
			OR (a.after ->> 'billing_date')::date <> i.billing_date OR (a.after ->> 'total')::numeric <> i.total)
	UNION ALL
	SELECT 'documents have the numbers that were audited', count(*), min(i.reference)
	FROM billing.audit_log a
	JOIN billing.invoice i ON i.entity_id = a.entity_id AND i.invoice_id::text = a.object_id
	WHERE (entity IS NULL OR a.entity_id = entity) AND a.object_type IN ('invoice', 'credit_note') AND a.after ? 'number'
		AND (a.after ->> 'number' IS DISTINCT FROM i.number OR (a.after ->> 'issue_date')::date IS DISTINCT FROM i.issue_date
			OR (a.after ->> 'due_date')::date IS DISTINCT FROM i.due_date);
END;
COMMENT ON FUNCTION billing_internal.verify_documents(integer) IS
	'Checks of documents against the sealed log: lines, taxes and header are those whose digest their first record has';
