-- Credit notes by hand.

CREATE OR REPLACE FUNCTION billing_internal.credits_problem(lines jsonb) RETURNS text
	LANGUAGE SQL STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE
		WHEN jsonb_typeof(lines) <> 'array' THEN 'the lines to credit must be a list'
		WHEN jsonb_array_length(lines) NOT BETWEEN 1 AND 10000 THEN 'there must be between 1 and 10000 lines to credit'
		ELSE (
			SELECT min(CASE
				WHEN jsonb_typeof(e.value) <> 'object' THEN format('line %s of the list is no object', e.place)
				WHEN e.value - '{line,amount,quantity}'::text[] <> '{}' THEN format('line %s of the list has other keys than line, amount and quantity', e.place)
				WHEN (e.value ->> 'line' ~ '^[1-9][0-9]{0,8}$') IS NOT TRUE THEN format('line %s of the list names no line', e.place)
				WHEN e.value ? 'amount' AND e.value ? 'quantity' THEN format('line %s of the list has both an amount and a quantity', e.place)
				WHEN e.value ? 'amount' AND (e.value ->> 'amount' ~ '^[0-9]{1,20}([.][0-9]{1,12})?$') IS NOT TRUE
					THEN format('the amount of line %s of the list is no amount', e.place)
				WHEN e.value ? 'quantity' AND (e.value ->> 'quantity' ~ '^[0-9]{1,20}([.][0-9]{1,12})?$') IS NOT TRUE
					THEN format('the quantity of line %s of the list is no quantity', e.place)
				WHEN e.is_again THEN format('line %s of the list names a line again', e.place)
			END)
			FROM (
				SELECT a.value, a.place, row_number() OVER (PARTITION BY a.value -> 'line' ORDER BY a.place) > 1 AS is_again
				FROM jsonb_array_elements(CASE WHEN jsonb_typeof(lines) = 'array' THEN lines ELSE '[]' END) WITH ORDINALITY AS a (value, place)
			) e)
	END;
END;
COMMENT ON FUNCTION billing_internal.credits_problem(jsonb) IS
	'Why a list of lines to credit means nothing, or null';

-- What is left of a charge is what was billed of it, without what people took back of it or of an earlier charge for the same days, which
-- it replaced. Of a charge that was credited, by a run or to be charged anew, nothing is left: there is another charge, or there never was
-- to be one.
CREATE OR REPLACE FUNCTION billing_internal.credit_left(entity integer, invoice bigint)
	RETURNS TABLE (line_no integer, kind text, amount numeric, quantity numeric, left_amount numeric, left_quantity numeric, is_credited boolean)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT l.line_no, l.kind, l.amount, l.quantity,
		CASE WHEN c.is_credited THEN 0
			WHEN l.amount >= 0 THEN greatest(l.amount + coalesce(t.amount, 0), 0) ELSE least(l.amount + coalesce(t.amount, 0), 0) END,
		CASE WHEN c.is_credited THEN 0
			WHEN l.quantity >= 0 THEN greatest(l.quantity + coalesce(t.quantity, 0), 0) ELSE least(l.quantity + coalesce(t.quantity, 0), 0) END,
		c.is_credited
	FROM billing.invoice_line l
	CROSS JOIN LATERAL (
		SELECT EXISTS (
			SELECT FROM billing.invoice_line r
			WHERE r.entity_id = entity AND r.reverses_invoice_id = l.invoice_id AND r.reverses_line_no = l.line_no
				AND r.kind = 'credit' AND NOT r.discarded
			OFFSET 0) AS is_credited
	) c
	CROSS JOIN LATERAL (
		SELECT sum(a.amount) AS amount, sum(a.quantity) AS quantity
		FROM (
			-- the line, and the charges that it stands in for
			SELECT l.invoice_id, l.line_no
			UNION
			SELECT o.invoice_id, o.line_no
			FROM billing.invoice_line o
			WHERE l.kind = 'charge' AND o.entity_id = entity AND o.item_id = l.item_id AND o.period_start = l.period_start
				AND o.period_end = l.period_end AND o.dimensions = l.dimensions AND o.kind = 'charge' AND NOT o.discarded
				AND o.charge_seq < l.charge_seq
		) s
		JOIN billing.credit_note n ON n.entity_id = entity AND n.credits_invoice_id = s.invoice_id
		JOIN billing.invoice_line a ON a.entity_id = entity AND a.invoice_id = n.invoice_id AND a.reverses_line_no = s.line_no
			AND a.kind = 'adjustment' AND NOT a.discarded
	) t
	WHERE l.entity_id = entity AND l.invoice_id = invoice AND l.kind IN ('charge', 'credit');
END;
COMMENT ON FUNCTION billing_internal.credit_left(integer, bigint) IS
	'The lines of an invoice, and what is left of each to be credited; drafts of credit notes count';

CREATE OR REPLACE FUNCTION billing_internal.credit_plan(entity integer, invoice bigint, lines jsonb)
	RETURNS TABLE (line_no integer, amount numeric, quantity numeric, problem text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH terms AS (
		SELECT y.minor_unit::integer AS minor_unit, e.rounding_mode, i.currency
		FROM billing.invoice i
		JOIN billing.currency y ON y.currency = i.currency
		JOIN billing.legal_entity e ON e.entity_id = i.entity_id
		WHERE i.entity_id = entity AND i.invoice_id = invoice
	), wanted AS (
		SELECT (a.value ->> 'line')::integer AS line_no, (a.value ->> 'amount')::numeric AS amount, (a.value ->> 'quantity')::numeric AS quantity
		FROM jsonb_array_elements(lines) a
		UNION ALL
		SELECT f.line_no, NULL, NULL
		FROM billing_internal.credit_left(entity, invoice) f
		WHERE lines IS NULL AND f.left_amount <> 0
	), found AS (
		SELECT w.line_no, w.amount AS asked_amount, w.quantity AS asked_quantity, t.currency, t.minor_unit,
			f.line_no IS NOT NULL AS is_there, f.amount, f.quantity, f.left_amount, f.left_quantity,
			CASE
				-- the rest, with what remains of its quantity
				WHEN w.amount IS NULL AND w.quantity IS NULL OR w.amount = abs(f.left_amount) OR w.quantity = abs(f.left_quantity) THEN abs(f.left_amount)
				WHEN w.amount IS NOT NULL THEN w.amount
				-- the share of the quantity credited by then, less the share before, so that shares add up
				WHEN f.quantity <> 0 THEN
					billing.round_amount(abs(f.amount) * (abs(f.quantity) - abs(f.left_quantity) + w.quantity) / abs(f.quantity), t.minor_unit, t.rounding_mode)
					- billing.round_amount(abs(f.amount) * (abs(f.quantity) - abs(f.left_quantity)) / abs(f.quantity), t.minor_unit, t.rounding_mode)
			END AS size
		FROM wanted w
		CROSS JOIN terms t
		LEFT JOIN billing_internal.credit_left(entity, invoice) f ON f.line_no = w.line_no
	)
	SELECT f.line_no, round(f.size, f.minor_unit) * sign(f.left_amount),
		CASE WHEN f.size = abs(f.left_amount) THEN f.left_quantity WHEN f.asked_quantity IS NULL THEN 0 ELSE f.asked_quantity * sign(f.quantity) END,
		CASE
			WHEN NOT f.is_there THEN format('the invoice has no line %s that can be credited', f.line_no)
			WHEN f.left_amount = 0 THEN format('nothing is left of line %s', f.line_no)
			WHEN f.asked_quantity > abs(f.left_quantity) THEN format('of line %s a quantity of %s is left, not %s', f.line_no, trim_scale(abs(f.left_quantity)), f.asked_quantity)
			WHEN f.size > abs(f.left_amount) THEN format('of line %s %s %s are left, not %s', f.line_no, abs(f.left_amount), f.currency, f.size)
			WHEN f.size <> round(f.size, f.minor_unit) THEN format('%s is no amount of %s', f.size, f.currency)
			WHEN f.size IS NULL OR f.size <= 0 THEN format('what is to be credited of line %s comes to nothing', f.line_no)
		END
	FROM found f;
END;
COMMENT ON FUNCTION billing_internal.credit_plan(integer, bigint, jsonb) IS
	'How much of which lines of an invoice is to be credited, with the sign of the line, and what speaks against it; all that is left without a list';

CREATE OR REPLACE FUNCTION billing_internal.rebill_plan(entity integer, invoice bigint)
	RETURNS TABLE (line_no integer, amount numeric, quantity numeric, problem text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT f.line_no, f.amount, f.quantity,
		CASE WHEN f.left_amount <> f.amount THEN format('a part of line %s was credited by hand', f.line_no) END
	FROM billing_internal.credit_left(entity, invoice) f
	WHERE f.kind = 'charge' AND NOT f.is_credited;
END;
COMMENT ON FUNCTION billing_internal.rebill_plan(integer, bigint) IS
	'The charges of an invoice that are to be credited so that the next billing run charges anew what is entitled, and what speaks against it';

-- By category and rate: the tax of all that was credited of an invoice by now, less what was credited before; at the end what the
-- invoice has. What a run credited took its own tax along.
CREATE OR REPLACE FUNCTION billing_internal.credit_taxes(entity integer, invoice bigint, except_id bigint, category text, rate numeric, base numeric, minor_unit integer, rounding_mode text)
	RETURNS numeric
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT CASE WHEN c.base + credit_taxes.base = o.base - r.base
			THEN o.tax - billing.round_amount(r.base * credit_taxes.rate * 0.01, credit_taxes.minor_unit, credit_taxes.rounding_mode)
			ELSE billing.round_amount((c.base + credit_taxes.base) * credit_taxes.rate * 0.01, credit_taxes.minor_unit, credit_taxes.rounding_mode)
		END - c.tax
	FROM (
		SELECT coalesce(sum(t.base), 0) AS base, coalesce(sum(t.tax), 0) AS tax
		FROM billing.invoice_tax t
		WHERE t.entity_id = credit_taxes.entity AND t.invoice_id = credit_taxes.invoice AND t.category = credit_taxes.category AND t.rate = credit_taxes.rate
	) o
	CROSS JOIN (
		SELECT -coalesce(sum(t.base), 0) AS base, -coalesce(sum(t.tax), 0) AS tax
		FROM billing.credit_note n
		JOIN billing.document d ON d.entity_id = n.entity_id AND d.document_id = n.invoice_id AND d.state <> 'discarded'
		JOIN billing.invoice_tax t ON t.entity_id = n.entity_id AND t.invoice_id = n.invoice_id
		WHERE n.entity_id = credit_taxes.entity AND n.credits_invoice_id = credit_taxes.invoice AND n.invoice_id <> credit_taxes.except_id
			AND t.category = credit_taxes.category AND t.rate = credit_taxes.rate
	) c
	CROSS JOIN (
		SELECT coalesce(sum(l.amount), 0) AS base
		FROM billing.invoice_line l
		WHERE l.entity_id = credit_taxes.entity AND l.invoice_id = credit_taxes.invoice AND l.tax_category = credit_taxes.category AND l.tax_rate = credit_taxes.rate
			AND EXISTS (
				SELECT FROM billing.invoice_line x
				WHERE x.entity_id = l.entity_id AND x.reverses_invoice_id = l.invoice_id AND x.reverses_line_no = l.line_no
					AND x.kind = 'credit' AND NOT x.discarded
					AND NOT EXISTS (SELECT FROM billing.credit_note n WHERE n.entity_id = x.entity_id AND n.invoice_id = x.invoice_id)
				OFFSET 0)
	) r;
END;
COMMENT ON FUNCTION billing_internal.credit_taxes(integer, bigint, bigint, text, numeric, numeric, integer, text) IS
	'The tax of a part of an invoice that is credited by hand, for a category and rate, so that all parts add up to the invoice''s tax';

CREATE OR REPLACE FUNCTION billing.credit_invoice(entity text, invoice text, reason_code text, lines jsonb DEFAULT NULL, note text DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_credit';
COMMENT ON FUNCTION billing.credit_invoice(text, text, text, jsonb, text) IS
	'Makes the draft of a credit note for an issued invoice and returns its reference: for all that is left of it, or for lines [{"line": 1}, {"line": 2, "amount": "10.00"}, {"line": 3, "quantity": "2"}], amounts without tax; never more than what is left; no billing run bills it again; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.credit_and_rebill(entity text, invoice text, reason_code text, note text DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_credit_and_rebill';
COMMENT ON FUNCTION billing.credit_and_rebill(text, text, text, text) IS
	'Makes the draft of a credit note for all charges of an issued invoice and returns its reference; the next billing run charges anew what is entitled; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.void_invoice(entity text, invoice text, reason_code text DEFAULT 'void', note text DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_void';
COMMENT ON FUNCTION billing.void_invoice(text, text, text, text) IS
	'Voids an invoice: one that was issued and not paid keeps its number and gets the draft of a credit note for all that is left of it, whose reference it returns; one that was not issued is discarded, and the next billing run bills anew what it billed; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.credit_status(entity text, invoice text)
	RETURNS TABLE (
		line_no integer, kind text, description text, quantity numeric, amount numeric, left_quantity numeric, left_amount numeric,
		credit_notes text[])
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT billing_internal.entity_id(credit_status.entity) AS entity_id,
			billing_internal.invoice_id(credit_status.entity, credit_status.invoice) AS invoice_id
	)
	SELECT l.line_no, l.kind, l.description, l.quantity, l.amount, f.left_quantity, f.left_amount,
		ARRAY(
			SELECT DISTINCT coalesce(i.number, i.reference)
			FROM billing.invoice_line r
			JOIN billing.invoice i ON i.entity_id = r.entity_id AND i.invoice_id = r.invoice_id
			WHERE r.entity_id = l.entity_id AND r.reverses_invoice_id = l.invoice_id AND r.reverses_line_no = l.line_no AND NOT r.discarded
				AND r.invoice_id IN (
					SELECT n.invoice_id FROM billing.credit_note n
					WHERE n.entity_id = l.entity_id AND n.credits_invoice_id = l.invoice_id
					UNION
					SELECT o.invoice_id FROM billing.invoice_line o
					WHERE o.entity_id = l.entity_id AND o.reverses_invoice_id = l.invoice_id AND o.reverses_line_no = l.line_no
						AND o.kind = 'credit' AND NOT o.discarded)
			ORDER BY 1)
	FROM asked q
	CROSS JOIN LATERAL billing_internal.credit_left(q.entity_id, q.invoice_id) f
	JOIN billing.invoice_line l ON l.entity_id = q.entity_id AND l.invoice_id = q.invoice_id AND l.line_no = f.line_no
	ORDER BY l.line_no;
END;
COMMENT ON FUNCTION billing.credit_status(text, text) IS
	'The lines of an invoice, what is left of each to be credited, and the credit notes that took the rest back, drafts too';

-- Of the charges for the same days all but the last were credited; with what people took back they come to less than nothing where
-- the last is smaller than that.
CREATE OR REPLACE FUNCTION billing_internal.watch_credits() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE SQL
BEGIN ATOMIC
	WITH given AS (
		SELECT l.entity_id, l.item_id, l.period_start, l.period_end, l.dimensions, sum(l.amount) AS amount
		FROM billing.credit_note n
		JOIN billing.invoice_line l ON l.entity_id = n.entity_id AND l.invoice_id = n.invoice_id
		WHERE l.kind = 'adjustment' AND NOT l.discarded
		GROUP BY l.entity_id, l.item_id, l.period_start, l.period_end, l.dimensions
	), judged AS MATERIALIZED (
		SELECT g.*, billing_internal.charge_key(g.item_id, g.period_start, g.period_end, g.dimensions) AS dedupe_key, c.amount AS charged,
			c.account_id, g.amount < 0 AND g.amount + c.amount < 0 AS is_twice
		FROM given g
		CROSS JOIN LATERAL (
			SELECT coalesce(sum(o.amount) FILTER (WHERE NOT EXISTS (
					SELECT FROM billing.invoice_line r
					WHERE r.entity_id = o.entity_id AND r.reverses_invoice_id = o.invoice_id AND r.reverses_line_no = o.line_no
						AND r.kind = 'credit' AND NOT r.discarded
					OFFSET 0)), 0) AS amount,
				(SELECT i.account_id FROM billing.contract_item i WHERE i.entity_id = g.entity_id AND i.item_id = g.item_id) AS account_id
			FROM billing.invoice_line o
			WHERE o.entity_id = g.entity_id AND o.item_id = g.item_id AND o.period_start = g.period_start AND o.period_end = g.period_end
				AND o.dimensions = g.dimensions AND o.kind = 'charge' AND NOT o.discarded
		) c
	), mended AS (
		UPDATE billing.exception x
		SET state = 'resolved', resolved_at = now(), resolved_by = 0, resolution = 'no more was taken back than is charged'
		FROM judged j
		WHERE x.entity_id = j.entity_id AND x.kind = 'credited_twice' AND x.dedupe_key = j.dedupe_key AND x.state = 'open' AND NOT j.is_twice
	)
	INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, detail, payload, deadline)
	SELECT j.entity_id, k.kind, j.dedupe_key, a.code, format('%s: people took back %s, and %s is charged', j.dedupe_key, -j.amount, j.charged),
		jsonb_build_object('item_id', j.item_id, 'period_start', j.period_start, 'period_end', j.period_end, 'taken_back', -j.amount, 'charged', j.charged),
		now() + make_interval(days => k.deadline_days)
	FROM judged j
	JOIN billing.billing_account a ON a.entity_id = j.entity_id AND a.account_id = j.account_id
	JOIN billing.exception_kind k ON k.kind = 'credited_twice'
	WHERE j.is_twice
	ON CONFLICT ON CONSTRAINT exception_once DO NOTHING;
END;
COMMENT ON FUNCTION billing_internal.watch_credits() IS
	'Task watch_credits: raises an exception where people took back more of a charge than is left of it since a billing run replaced it';

CREATE OR REPLACE FUNCTION billing_internal.verify_credits(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH note AS MATERIALIZED (
		SELECT n.*, d.state, d.kind AS document_kind, i.account_id, i.currency, i.reference
		FROM billing.credit_note n
		LEFT JOIN billing.document d ON d.entity_id = n.entity_id AND d.document_id = n.invoice_id
		LEFT JOIN billing.invoice i ON i.entity_id = n.entity_id AND i.invoice_id = n.invoice_id
		WHERE entity IS NULL OR n.entity_id = entity
	), line AS MATERIALIZED (
		SELECT l.*, n.credits_invoice_id, n.rebills
		FROM note n
		JOIN billing.invoice_line l ON l.entity_id = n.entity_id AND l.invoice_id = n.invoice_id
	), taken AS MATERIALIZED (
		SELECT l.entity_id, l.credits_invoice_id AS invoice_id, l.reverses_line_no AS line_no, sum(l.amount) AS amount, sum(l.quantity) AS quantity,
			bool_or(sign(l.amount) <> -sign(o.amount) OR l.item_id <> o.item_id OR l.period_start <> o.period_start OR l.period_end <> o.period_end
				OR l.dimensions <> o.dimensions OR l.tax_category IS DISTINCT FROM o.tax_category OR l.tax_rate IS DISTINCT FROM o.tax_rate) AS is_other
		FROM line l
		JOIN billing.invoice_line o ON o.entity_id = l.entity_id AND o.invoice_id = l.credits_invoice_id AND o.line_no = l.reverses_line_no
		WHERE l.kind = 'adjustment' AND NOT l.discarded
		GROUP BY l.entity_id, l.credits_invoice_id, l.reverses_line_no
	), tax AS MATERIALIZED (
		SELECT n.entity_id, n.credits_invoice_id, t.category, t.rate, -sum(t.base) AS base, -sum(t.tax) AS tax
		FROM note n
		JOIN billing.invoice_tax t ON t.entity_id = n.entity_id AND t.invoice_id = n.invoice_id
		WHERE n.state <> 'discarded'
		GROUP BY n.entity_id, n.credits_invoice_id, t.category, t.rate
	)
	SELECT 'no more is taken back of a line than was billed', count(*), min(format('D%s line %s', t.invoice_id, t.line_no))
	FROM taken t
	JOIN billing.invoice_line o ON o.entity_id = t.entity_id AND o.invoice_id = t.invoice_id AND o.line_no = t.line_no
	WHERE t.is_other OR abs(t.amount) > abs(o.amount) OR abs(t.quantity) > abs(o.quantity) OR sign(t.quantity) = sign(o.quantity) AND o.quantity <> 0
	UNION ALL
	SELECT 'taxes that people credit of an invoice are no more than its own, and the same where all of it is credited', count(*),
		min(format('D%s', t.credits_invoice_id))
	FROM tax t
	LEFT JOIN (
		SELECT x.entity_id, x.invoice_id, x.category, x.rate, sum(x.base) AS base, sum(x.tax) AS tax
		FROM billing.invoice_tax x
		WHERE entity IS NULL OR x.entity_id = entity
		GROUP BY x.entity_id, x.invoice_id, x.category, x.rate
	) o ON o.entity_id = t.entity_id AND o.invoice_id = t.credits_invoice_id AND o.category = t.category AND o.rate = t.rate
	WHERE (o.base IS NULL OR (t.base = o.base AND t.tax <> o.tax) OR (o.base > 0 AND t.base BETWEEN 0 AND o.base AND t.tax > o.tax))
		-- where a billing run has credited lines of it too, their part is not known apart
		AND NOT EXISTS (
			SELECT FROM billing.invoice_line l
			JOIN billing.invoice_line r ON r.entity_id = l.entity_id AND r.reverses_invoice_id = l.invoice_id AND r.reverses_line_no = l.line_no
				AND r.kind = 'credit' AND NOT r.discarded
			WHERE l.entity_id = t.entity_id AND l.invoice_id = t.credits_invoice_id
				AND NOT EXISTS (SELECT FROM billing.credit_note n WHERE n.entity_id = r.entity_id AND n.invoice_id = r.invoice_id))
	UNION ALL
	SELECT 'a credit note by hand is of one issued invoice, and an adjustment is on such a credit note', count(*), min(o.reference)
	FROM (
		SELECT coalesce(n.reference, 'D' || n.invoice_id) AS reference
		FROM note n
		LEFT JOIN billing.invoice c ON c.entity_id = n.entity_id AND c.invoice_id = n.credits_invoice_id
		WHERE n.document_kind IS DISTINCT FROM 'credit_note' OR c.number IS NULL OR c.account_id IS DISTINCT FROM n.account_id
			OR c.currency IS DISTINCT FROM n.currency
		UNION ALL
		SELECT 'D' || l.invoice_id
		FROM line l
		WHERE l.reverses_invoice_id IS DISTINCT FROM l.credits_invoice_id OR l.kind <> CASE WHEN l.rebills THEN 'credit' ELSE 'adjustment' END
		UNION ALL
		SELECT 'D' || l.invoice_id
		FROM billing.invoice_line l
		WHERE (entity IS NULL OR l.entity_id = entity) AND l.kind = 'adjustment'
			AND NOT EXISTS (SELECT FROM billing.credit_note n WHERE n.entity_id = l.entity_id AND n.invoice_id = l.invoice_id)
	) o
	UNION ALL
	SELECT 'of an invoice that is credited nothing is left', count(*), min('D' || d.document_id)
	FROM billing.document d
	WHERE (entity IS NULL OR d.entity_id = entity) AND d.kind = 'invoice' AND d.state = 'credited'
		AND EXISTS (SELECT FROM billing_internal.credit_left(d.entity_id, d.document_id) f WHERE f.left_amount <> 0);
END;
COMMENT ON FUNCTION billing_internal.verify_credits(integer) IS
	'Checks of credit notes by hand: never more than was billed, by line, tax and invoice';
