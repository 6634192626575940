-- What is entitled, and what differs from what was billed, said in SQL: an oracle for the C code that derives it account by account.
-- Plain joins of whole sets, which share with that code the calendar, the measuring of usage, and the rating of a quantity, and
-- nothing else.
--
-- \i test/lib/oracle.sql        as superuser, in a database with billing_erp
CREATE SCHEMA oracle;

-- The charges of a term that fall due after one day, from the first where null, and on or before another
CREATE FUNCTION oracle.due_periods(
	charge text, timing text, anchor date, interval_unit text, interval_count integer, start_date date, end_date date,
	valid_from date, valid_to date, after date, through date)
	RETURNS TABLE (charge_date date, period_start date, period_end date, of_days integer)
	LANGUAGE SQL STABLE ROWS 2
AS $$
	SELECT d.charge_date, d.period_start, d.period_end, d.of_days
	FROM (
		SELECT $8, $8, $8 + 1, 1 WHERE $1 = 'one_time' AND ($8 < $9) IS NOT FALSE
		UNION ALL
		SELECT CASE WHEN $2 = 'advance' THEN greatest(p.whole_start, $6) ELSE least(p.whole_end, $7) END,
			greatest(p.whole_start, $6, $8), least(p.whole_end, $7, $9), p.whole_end - p.whole_start
		FROM (
			SELECT billing.period_start($3, $4, $5, n) AS whole_start, billing.period_start($3, $4, $5, n + 1) AS whole_end
			FROM generate_series(billing.period_index($3, $4, $5, $8),
				billing.period_index($3, $4, $5, greatest($8, least($9 - 1, $11)))) n
		) p
		WHERE $1 <> 'one_time' AND ($8 < $9) IS NOT FALSE
	) d (charge_date, period_start, period_end, of_days)
	WHERE (d.charge_date > $10) IS NOT FALSE AND d.charge_date <= $11
$$;

CREATE FUNCTION oracle.entitlement(entity integer, accounts bigint[], through date, changed bigint[])
	RETURNS TABLE (
		account_id bigint, item_id bigint, version_id bigint, product_id bigint, charge text, charge_date date,
		period_start date, period_end date, days integer, of_days integer,
		quantity numeric, events bigint, dimensions text, tariff billing.tariff, exact_amount numeric)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH item AS MATERIALIZED (
		SELECT i.account_id, i.item_id, i.contract_id, i.charge, i.timing, i.product_id, i.meter_id,
			CASE WHEN i.own_usage THEN i.item_id ELSE 0 END AS usage_item
		FROM unnest(accounts) AS a (account_id)
		CROSS JOIN LATERAL (SELECT * FROM billing.contract_item o
			WHERE o.entity_id = entity AND o.account_id = a.account_id OFFSET 0) i
	), term AS MATERIALIZED (
		-- the terms of each item as known now, cut to the contract's own
		SELECT
			i.account_id, i.item_id, v.version_id, i.charge, i.timing, i.product_id, i.meter_id, i.usage_item,
			c.anchor, c.interval_unit, c.interval_count, c.start_date, c.end_date,
			greatest(v.valid_from, c.start_date) AS valid_from,
			least(v.valid_to, c.end_date) AS valid_to,
			v.quantity, v.tariff, v.price_book_id,
			greatest(through, w.billed_through) AS through_date,
			-- what fell due by this day is billed and as it should be; null where that is to be looked at again
			CASE WHEN changed IS NOT NULL AND h.account_id IS NULL THEN w.billed_through END AS settled_day
		FROM item i
		CROSS JOIN LATERAL (SELECT * FROM billing.contract o
			WHERE o.entity_id = entity AND o.contract_id = i.contract_id OFFSET 0) c
		CROSS JOIN LATERAL (SELECT * FROM billing.contract_item_version o
			WHERE o.entity_id = entity AND o.item_id = i.item_id AND (o.superseded_at IS NULL) IS TRUE OFFSET 0) v
		LEFT JOIN LATERAL (SELECT o.billed_through FROM billing.account_watermark o
			WHERE o.entity_id = entity AND o.account_id = i.account_id OFFSET 0) w ON true
		LEFT JOIN unnest(changed) AS h (account_id) ON h.account_id = i.account_id
	), due AS MATERIALIZED (
		SELECT p.account_id, p.item_id, p.version_id, p.charge, p.product_id, p.meter_id, p.usage_item, p.quantity, p.tariff, p.price_book_id,
			(p.due).charge_date, (p.due).period_start, (p.due).period_end, (p.due).of_days
		FROM (
			SELECT t.*, oracle.due_periods(t.charge, t.timing, t.anchor, t.interval_unit, t.interval_count,
				t.start_date, t.end_date, t.valid_from, t.valid_to, t.settled_day, t.through_date) AS due
			FROM term t
		) p
	), used AS MATERIALIZED (
		-- the stretches that usage is due for, and how their meters measure it
		SELECT s.*, row_number() OVER () AS stretch_no,
			m.aggregation, m.percentile, m.time_unit, m.quantity_scale::integer AS quantity_scale, m.quantity_rounding,
			billing_internal.usage_month_of(s.period_start) AS first_month
		FROM due s
		JOIN billing.meter m ON m.entity_id = entity AND m.meter_id = s.meter_id
		WHERE s.charge = 'usage'
	), cell AS MATERIALIZED (
		SELECT c.account_id, c.item_id, c.meter_id, c.month, c.dimensions, c.sample, c.days, c.recomputed
		FROM billing_internal.usage_cells(entity, ARRAY(SELECT DISTINCT u.account_id FROM used u)) c
	), usage AS MATERIALIZED (
		SELECT g.stretch_no, g.dimensions, (g.measured).quantity, (g.measured).events
		FROM (
			SELECT u.stretch_no, c.dimensions,
				billing_internal.measure(c.days, c.sample, c.recomputed, u.aggregation, u.period_start, u.period_end,
					(SELECT e.time_zone FROM billing.legal_entity e WHERE e.entity_id = entity),
					u.percentile, u.time_unit, u.quantity_scale, u.quantity_rounding) AS measured
			FROM used u
			JOIN cell c ON c.account_id = u.account_id AND c.meter_id = u.meter_id AND c.item_id = u.usage_item
				-- a level carries over from any month before
				AND c.month < u.period_end AND (c.month >= u.first_month OR u.aggregation = 'time_weighted')
			GROUP BY u.stretch_no, c.dimensions
		) g
	), measured AS MATERIALIZED (
		SELECT s.account_id, s.item_id, s.version_id, s.charge, s.product_id, s.meter_id, s.usage_item, s.charge_date,
			s.period_start, s.period_end, s.of_days, s.tariff, s.price_book_id, s.quantity, NULL::bigint AS events, '' AS dimensions
		FROM due s
		WHERE s.charge <> 'usage'
		UNION ALL
		-- a line for each combination of group keys that was used, one for none where nothing was
		SELECT u.account_id, u.item_id, u.version_id, u.charge, u.product_id, u.meter_id, u.usage_item, u.charge_date,
			u.period_start, u.period_end, u.of_days, u.tariff, u.price_book_id, coalesce(q.quantity, 0), coalesce(q.events, 0), coalesce(q.dimensions, '')
		FROM used u
		LEFT JOIN usage q ON q.stretch_no = u.stretch_no AND (q.quantity <> 0 OR q.events <> 0)
	), priced AS MATERIALIZED (
		SELECT m.account_id, m.item_id, m.version_id, m.product_id, m.charge, m.meter_id, m.usage_item, m.charge_date, m.period_start, m.period_end,
			CASE WHEN m.charge = 'recurring' THEN m.period_end - m.period_start ELSE m.of_days END AS days,
			m.of_days, m.quantity, m.events, m.dimensions, coalesce(m.tariff, b.tariff) AS tariff
		FROM measured m
		-- the prices of a book and product do not overlap: there is one at most
		LEFT JOIN billing.price b ON b.entity_id = entity AND b.price_book_id = ANY (ARRAY(SELECT DISTINCT o.price_book_id FROM measured o))
			AND b.price_book_id = m.price_book_id AND b.product_id = m.product_id
			AND b.valid_from <= m.period_start AND (m.period_start < b.valid_to) IS NOT FALSE
	), rated AS MATERIALIZED (
		SELECT p.*, CASE
				WHEN p.events > 1 AND billing_internal.prices_events(p.tariff) THEN
					billing_internal.try_rate_counted(entity, p.account_id, p.usage_item, p.meter_id, p.period_start, p.period_end,
						p.dimensions, p.tariff, p.events)
				ELSE coalesce(billing_internal.try_rate(p.tariff, p.quantity, p.events, nullif(p.dimensions, '')::jsonb),
					-- without usage no cell of a matrix is asked for
					CASE WHEN p.events = 0 AND p.quantity = 0 AND p.tariff IS NOT NULL THEN 0 END)
			END AS amount
		FROM priced p
	)
	SELECT r.account_id, r.item_id, r.version_id, r.product_id, r.charge, r.charge_date, r.period_start, r.period_end, r.days, r.of_days,
		r.quantity, r.events, r.dimensions, r.tariff,
		billing.prorate(r.amount, r.days, r.of_days)
	FROM rated r
	-- without usage there is nothing to bill, unless the price says so
	WHERE r.events IS DISTINCT FROM 0 OR r.amount IS DISTINCT FROM 0;
END;

CREATE FUNCTION oracle.billed(entity integer, accounts bigint[], through date)
	RETURNS TABLE (
		account_id bigint, item_id bigint, period_start date, period_end date, charge_seq integer, charge_date date,
		invoice_id bigint, line_no integer, version_id bigint, quantity numeric, events bigint, dimensions text, tariff billing.tariff,
		days integer, of_days integer, exact_amount numeric, amount numeric, description text,
		tax_code_id bigint, tax_category text, tax_rate numeric)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH item AS MATERIALIZED (
		SELECT i.account_id, i.item_id
		FROM unnest(accounts) AS a (account_id)
		CROSS JOIN LATERAL (SELECT * FROM billing.contract_item o
			WHERE o.entity_id = entity AND o.account_id = a.account_id OFFSET 0) i
	)
	SELECT i.account_id, l.item_id, l.period_start, l.period_end, l.charge_seq, l.charge_date,
		l.invoice_id, l.line_no, l.version_id, l.quantity, l.events, l.dimensions, l.tariff,
		l.days, l.of_days, l.exact_amount, l.amount, l.description,
		l.tax_code_id, l.tax_category, l.tax_rate
	FROM item i
	CROSS JOIN LATERAL (SELECT * FROM billing.invoice_line o
		WHERE o.entity_id = entity AND o.item_id = i.item_id AND o.kind = 'charge' AND NOT o.discarded OFFSET 0) l
	LEFT JOIN LATERAL (SELECT o.billed_through FROM billing.account_watermark o
		WHERE o.entity_id = entity AND o.account_id = i.account_id OFFSET 0) w ON true
	WHERE l.charge_date <= greatest(through, w.billed_through)
		-- OFFSET keeps it a look-up by index for each line: the credits of all other accounts are not read
		AND NOT EXISTS (
			SELECT FROM billing.invoice_line r
			WHERE r.entity_id = entity AND r.reverses_invoice_id = l.invoice_id AND r.reverses_line_no = l.line_no
				AND r.kind = 'credit' AND NOT r.discarded
			OFFSET 0);
END;

CREATE FUNCTION oracle.dimension_text(dimensions text) RETURNS text
	LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(', ' || d.key || ' ' || coalesce(d.value, '-'), '' ORDER BY d.key COLLATE "C") FROM jsonb_each_text(dimensions::jsonb) d);

CREATE FUNCTION oracle.difference(entity integer, accounts bigint[], through date, changed bigint[])
	RETURNS TABLE (
		account_id bigint, currency text, kind text, billing_date date, item_id bigint, version_id bigint, charge text,
		charge_seq integer, charge_date date, period_start date, period_end date, days integer, of_days integer,
		quantity numeric, events bigint, dimensions text, tariff billing.tariff, exact_amount numeric, amount numeric, description text,
		tax_code_id bigint, tax_category text, tax_rate numeric, exemption_reason text,
		reverses_invoice_id bigint, reverses_line_no integer, minor_unit integer, rounding_mode text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH party AS MATERIALIZED (
		SELECT a.account_id, a.currency, a.tax_code_id, y.minor_unit::integer AS minor_unit, e.rounding_mode,
			greatest(through, w.billed_through) AS through_date, changed IS NULL OR h.account_id IS NOT NULL AS is_changed
		FROM unnest(accounts) AS g (account_id)
		CROSS JOIN LATERAL (SELECT * FROM billing.billing_account o
			WHERE o.entity_id = entity AND o.account_id = g.account_id OFFSET 0) a
		JOIN billing.currency y ON y.currency = a.currency
		JOIN billing.legal_entity e ON e.entity_id = entity
		LEFT JOIN LATERAL (SELECT o.billed_through FROM billing.account_watermark o
			WHERE o.entity_id = entity AND o.account_id = g.account_id OFFSET 0) w ON true
		LEFT JOIN unnest(changed) AS h (account_id) ON h.account_id = a.account_id
	), due AS MATERIALIZED (
		SELECT d.*, billing.round_amount(d.exact_amount, p.minor_unit, p.rounding_mode) AS amount, true AS is_last, p.is_changed
		FROM oracle.entitlement(entity, accounts, through, changed) d
		JOIN party p ON p.account_id = d.account_id
	), stands AS MATERIALIZED (
		-- where the document that credited a charge was discarded after the days were charged anew, both charges stand: only
		-- the last can be what is entitled
		SELECT b.*, b.charge_seq = max(b.charge_seq) OVER (PARTITION BY b.item_id, b.period_start, b.period_end, b.dimensions) AS is_last
		-- not coalesce(): under row-level security its result is no key for an index
		FROM oracle.billed(entity, CASE WHEN changed IS NULL THEN accounts ELSE changed END, through) b
	), compared AS MATERIALIZED (
		SELECT
			coalesce(n.account_id, b.account_id) AS account_id,
			n.version_id, n.product_id, n.charge, n.charge_date, n.days, n.of_days, n.quantity, n.events, n.tariff, n.exact_amount, n.amount,
			coalesce(n.is_changed, true) AS is_changed,
			coalesce(n.item_id, b.item_id) AS item_id,
			coalesce(n.period_start, b.period_start) AS period_start,
			coalesce(n.period_end, b.period_end) AS period_end,
			coalesce(n.dimensions, b.dimensions) AS dimensions,
			n.item_id IS NOT NULL AS is_entitled,
			b.item_id IS NOT NULL AS is_billed,
			b.invoice_id AS billed_invoice_id, b.line_no AS billed_line_no, b.charge_seq AS billed_seq,
			b.version_id AS billed_version_id, b.charge_date AS billed_charge_date, b.quantity AS billed_quantity,
			b.events AS billed_events, b.tariff AS billed_tariff, b.days AS billed_days, b.of_days AS billed_of_days,
			b.exact_amount AS billed_exact_amount, b.amount AS billed_amount, b.description AS billed_description,
			b.tax_code_id AS billed_tax_code_id, b.tax_category AS billed_tax_category, b.tax_rate AS billed_tax_rate
		FROM due n
		FULL JOIN stands b
			ON b.item_id = n.item_id AND b.period_start = n.period_start AND b.period_end = n.period_end
			AND b.dimensions = n.dimensions AND b.is_last = n.is_last
		WHERE n.item_id IS NULL OR b.item_id IS NULL
			OR n.amount IS DISTINCT FROM b.amount OR n.quantity <> b.quantity
	), change AS (
		SELECT c.account_id, 'charge' AS kind, c.item_id, c.version_id, c.product_id, c.charge, c.charge_date, c.period_start, c.period_end,
			c.days, c.of_days, c.quantity, c.events, c.dimensions, c.tariff, c.exact_amount, c.amount,
			NULL AS description, NULL::bigint AS tax_code_id, NULL AS tax_category, NULL::numeric AS tax_rate,
			NULL::bigint AS reverses_invoice_id, NULL::integer AS reverses_line_no,
			-- a charge that was ever billed for these days, even if it was credited since, makes this one a correction
			CASE WHEN c.is_changed THEN coalesce((
				SELECT max(l.charge_seq)
				FROM billing.invoice_line l
				WHERE l.entity_id = entity AND l.item_id = c.item_id AND l.period_start = c.period_start
					AND l.period_end = c.period_end AND l.dimensions = c.dimensions AND l.kind = 'charge' AND NOT l.discarded
			), 0) ELSE 0 END + 1 AS charge_seq
		FROM compared c
		WHERE c.is_entitled
		UNION ALL
		SELECT c.account_id, 'credit', c.item_id, c.billed_version_id, NULL, NULL, c.billed_charge_date, c.period_start, c.period_end,
			c.billed_days, c.billed_of_days, -c.billed_quantity, c.billed_events, c.dimensions, c.billed_tariff, -c.billed_exact_amount, -c.billed_amount,
			c.billed_description, c.billed_tax_code_id, c.billed_tax_category, c.billed_tax_rate,
			c.billed_invoice_id, c.billed_line_no, c.billed_seq
		FROM compared c
		-- what cannot be rated now leaves what was billed as it is
		WHERE c.is_billed AND (c.amount IS NOT NULL OR NOT c.is_entitled)
	), corrected AS MATERIALIZED (
		SELECT DISTINCT c.item_id FROM compared c WHERE c.is_billed
	), dated AS MATERIALIZED (
		SELECT h.*, a.currency, a.minor_unit, a.rounding_mode,
			CASE WHEN h.kind = 'charge' AND h.charge_seq = 1 AND o.item_id IS NULL THEN h.charge_date ELSE a.through_date END
				AS billing_date,
			CASE h.kind WHEN 'credit' THEN h.tax_code_id ELSE coalesce(a.tax_code_id, p.tax_code_id) END AS found_tax_code_id,
			p.name AS product_name
		FROM change h
		LEFT JOIN billing.product p ON p.entity_id = entity AND p.product_id = h.product_id
		JOIN party a ON a.account_id = h.account_id
		LEFT JOIN corrected o ON o.item_id = h.item_id
	), taxed AS (
		SELECT x.tax_code_id, x.category, r.rate, r.valid_from, r.valid_to
		FROM billing.tax_code x
		JOIN billing.tax_rate r ON r.entity_id = x.entity_id AND r.tax_code_id = x.tax_code_id
		WHERE x.entity_id = entity
	)
	SELECT d.account_id, d.currency, d.kind, d.billing_date, d.item_id, d.version_id, d.charge,
		d.charge_seq, d.charge_date, d.period_start, d.period_end, d.days, d.of_days,
		d.quantity, d.events, d.dimensions, d.tariff, d.exact_amount, d.amount,
		CASE d.kind
			WHEN 'credit' THEN d.description
			ELSE d.product_name
				|| CASE WHEN d.dimensions = '' THEN '' ELSE oracle.dimension_text(d.dimensions) END
				|| CASE d.charge WHEN 'one_time' THEN format(', %s', d.period_start)
					ELSE format(', %s to %s', d.period_start, d.period_end - 1) END
		END,
		d.found_tax_code_id,
		CASE d.kind WHEN 'credit' THEN d.tax_category ELSE t.category END,
		CASE d.kind WHEN 'credit' THEN d.tax_rate ELSE t.rate END,
		x.exemption_reason,
		d.reverses_invoice_id, d.reverses_line_no, d.minor_unit, d.rounding_mode
	FROM dated d
	LEFT JOIN taxed t ON d.kind = 'charge' AND t.tax_code_id = d.found_tax_code_id
		-- the rate of the supply: its first day where it is due in advance, its last in arrears, whenever it is billed
		AND t.valid_from <= least(d.charge_date, d.period_end - 1)
		AND (t.valid_to IS NULL OR least(d.charge_date, d.period_end - 1) < t.valid_to)
	LEFT JOIN billing.tax_code x ON x.entity_id = entity AND x.tax_code_id = d.found_tax_code_id;
END;

-- Where the two do not say the same: accounts of an entity, derived whole, through a day
CREATE FUNCTION oracle.entitlement_differs(entity integer, through date) RETURNS SETOF text LANGUAGE SQL STABLE AS $$
	WITH account AS (SELECT array_agg(a.account_id) AS ids FROM billing.billing_account a WHERE a.entity_id = $1),
	ours AS (SELECT e.*::text AS said, count(*) FROM account, billing_internal.entitlement($1, ids, $2, NULL) e GROUP BY 1),
	theirs AS (SELECT e.*::text AS said, count(*) FROM account, oracle.entitlement($1, ids, $2, NULL) e GROUP BY 1)
	SELECT format('%s: C %s times, SQL %s times', coalesce(o.said, t.said), coalesce(o.count, 0), coalesce(t.count, 0))
	FROM ours o FULL JOIN theirs t USING (said) WHERE o.count IS DISTINCT FROM t.count
$$;
-- The same of the difference, with some of the accounts taken for changed since they were billed, or all where null
CREATE FUNCTION oracle.difference_differs(entity integer, through date, changed bigint[]) RETURNS SETOF text LANGUAGE SQL STABLE AS $$
	WITH account AS (SELECT array_agg(a.account_id) AS ids FROM billing.billing_account a WHERE a.entity_id = $1),
	ours AS (SELECT d.*::text AS said, count(*) FROM account, billing_internal.difference($1, ids, $2, $3) d GROUP BY 1),
	theirs AS (SELECT d.*::text AS said, count(*) FROM account, oracle.difference($1, ids, $2, $3) d GROUP BY 1)
	SELECT format('%s: C %s times, SQL %s times', coalesce(o.said, t.said), coalesce(o.count, 0), coalesce(t.count, 0))
	FROM ours o FULL JOIN theirs t USING (said) WHERE o.count IS DISTINCT FROM t.count
$$;
