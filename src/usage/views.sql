-- Feeds: who sends, who has fallen silent; then the functions that read this view.

CREATE OR REPLACE VIEW billing.usage_completeness WITH (security_invoker = true) AS
WITH tail AS (
	SELECT l.entity_id, t.source, t.events, t.recent_events, t.last_arrival_at, t.last_event_at
	FROM billing.legal_entity l
	LEFT JOIN billing.usage_watermark w ON w.entity_id = l.entity_id
	CROSS JOIN LATERAL (
		SELECT e.source, count(*) AS events,
			count(*) FILTER (WHERE date_bin('1 hour', e.ingested_at, 'epoch') >= date_bin('1 hour', now(), 'epoch') - interval '23 hours')
				AS recent_events,
			max(e.ingested_at) AS last_arrival_at, max(least(e.occurred_at, e.ingested_at)) AS last_event_at
		FROM billing.usage_event e
		WHERE e.entity_id = l.entity_id
			-- the upper bound tells the planner that the range is small
			AND e.event_id > coalesce(w.after_event_id, 0) AND e.event_id < 9223372036854775807
			AND e.weight = 1 AND e.correction_id IS NULL
		GROUP BY e.source
	) t
), arrival AS (
	SELECT a.entity_id, a.source, sum(a.recent_events)::bigint AS recent_events,
		max(a.last_arrival_at) AS last_arrival_at, max(a.last_event_at) AS last_event_at
	FROM (
		SELECT t.entity_id, t.source, t.recent_events, t.last_arrival_at, t.last_event_at FROM tail t
		UNION ALL
		SELECT s.entity_id, s.source, 0, s.last_arrival_at, s.last_event_at FROM billing.usage_source_state s
		UNION ALL
		SELECT h.entity_id, h.source, h.events, NULL, NULL FROM billing.usage_source_hour h
		WHERE h.hour >= date_bin('1 hour', now(), 'epoch') - interval '23 hours'
	) a
	GROUP BY a.entity_id, a.source
), signal AS (
	SELECT entity_id, source, s.expected_every, s.grace, s.note, s.expected_since,
		a.last_event_at, a.last_arrival_at, coalesce(a.recent_events, 0) AS recent_events,
		h.through, h.recorded_at AS last_heartbeat_at,
		greatest(h.through, a.last_event_at) AS complete_through,
		greatest(h.recorded_at, a.last_arrival_at) AS last_sign_at
	FROM billing.usage_source s
	FULL JOIN arrival a USING (entity_id, source)
	FULL JOIN billing.usage_heartbeat h USING (entity_id, source)
)
SELECT
	l.code AS entity,
	g.source,
	CASE
		WHEN g.expected_every IS NULL THEN 'unexpected'
		WHEN g.complete_through IS NULL THEN 'never'
		WHEN g.complete_through >= now() - g.expected_every - g.grace THEN 'ok'
		WHEN g.last_sign_at >= now() - g.expected_every - g.grace THEN 'lagging'
		ELSE 'silent'
	END AS state,
	g.complete_through,
	CASE WHEN g.complete_through > now() THEN interval '0' ELSE now() - g.complete_through END AS lag,
	g.last_event_at,
	g.last_arrival_at,
	g.recent_events AS events_last_day,
	g.through AS heartbeat_through,
	g.last_heartbeat_at,
	g.expected_every,
	g.grace,
	g.expected_since,
	g.note,
	g.entity_id
FROM signal g
JOIN billing.legal_entity l USING (entity_id)
WHERE g.expected_every IS NOT NULL OR g.last_sign_at >= now() - interval '30 days';
COMMENT ON VIEW billing.usage_completeness IS
	'Each source of usage that is expected, or that sent within the last 30 days, and up to when its usage is complete. State ok: complete up to at most expected_every and grace ago. lagging: sent something within that time, but what it sent does not reach so far. silent: sent nothing within that time. never: expected, and nothing ever came. unexpected: sends, and nobody said that it would';
COMMENT ON COLUMN billing.usage_completeness.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.usage_completeness.source IS 'The source, as its events name it';
COMMENT ON COLUMN billing.usage_completeness.state IS 'ok, lagging, silent, never or unexpected: see the comment of the view';
COMMENT ON COLUMN billing.usage_completeness.complete_through IS 'The later of the last event''s time and the moment that the last heartbeat gave; null where nothing ever came';
COMMENT ON COLUMN billing.usage_completeness.lag IS 'How long ago that is';
COMMENT ON COLUMN billing.usage_completeness.last_event_at IS 'The latest time of an accepted event, without corrections; one ahead of its arrival counts as its arrival';
COMMENT ON COLUMN billing.usage_completeness.last_arrival_at IS 'When an event of it was last accepted';
COMMENT ON COLUMN billing.usage_completeness.events_last_day IS 'How many events were accepted from it in the running hour and the 23 before';
COMMENT ON COLUMN billing.usage_completeness.heartbeat_through IS 'Up to when its last heartbeat says that it has sent everything';
COMMENT ON COLUMN billing.usage_completeness.last_heartbeat_at IS 'When that heartbeat came';
COMMENT ON COLUMN billing.usage_completeness.expected_every IS 'How often it is expected to send; null for an unexpected source';
COMMENT ON COLUMN billing.usage_completeness.grace IS 'How much later than that is no cause for alarm';
COMMENT ON COLUMN billing.usage_completeness.expected_since IS 'Since when it is expected';
COMMENT ON COLUMN billing.usage_completeness.note IS 'What people should know about it';
COMMENT ON COLUMN billing.usage_completeness.entity_id IS 'Key of the entity';
GRANT SELECT ON billing.usage_completeness TO billing_user;

CREATE OR REPLACE FUNCTION billing.check_usage_completeness(entity text, through_date date)
	RETURNS TABLE (source text, state text, complete_through timestamptz, missing interval, last_arrival_at timestamptz, note text)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C ROWS 10 AS 'MODULE_PATHNAME', 'billing_usage_check_completeness';
COMMENT ON FUNCTION billing.check_usage_completeness(text, date) IS
	'The expected sources whose usage is not complete through a day, the day included, in the entity''s time zone: neither a heartbeat nor an event says that they are past its end. Ask before the billing run of that day';

CREATE OR REPLACE FUNCTION billing_internal.watch_usage_sources() RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	DELETE FROM billing.usage_source_hour h WHERE h.hour < now() - interval '2 days';

	UPDATE billing.usage_source s
	SET failing_since = CASE WHEN c.state = 'ok' THEN NULL ELSE now() END
	FROM billing.usage_completeness c
	WHERE c.entity_id = s.entity_id AND c.source = s.source
		AND CASE WHEN s.failing_since IS NULL THEN c.state <> 'ok' AND s.expected_since + s.expected_every + s.grace < now()
			ELSE c.state = 'ok' END;

	INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, detail, payload, deadline)
	SELECT s.entity_id, k.kind, s.source || '|' || to_char(s.failing_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
		s.source,
		concat_ws('; ',
			CASE c.state WHEN 'never' THEN 'nothing ever came'
				ELSE to_char(c.complete_through AT TIME ZONE 'UTC', '"complete through" YYYY-MM-DD HH24:MI:SS "UTC"') END,
			to_char(c.last_arrival_at AT TIME ZONE 'UTC', '"last arrival" YYYY-MM-DD HH24:MI:SS "UTC"'),
			format('expected every %s, with a grace of %s', s.expected_every, s.grace), s.note),
		jsonb_build_object('source', s.source, 'state', c.state, 'complete_through', c.complete_through, 'last_arrival_at', c.last_arrival_at,
			'expected_every', s.expected_every, 'grace', s.grace),
		now() + make_interval(days => k.deadline_days)
	FROM billing.usage_source s
	JOIN billing.usage_completeness c ON c.entity_id = s.entity_id AND c.source = s.source
	CROSS JOIN billing.exception_kind k
	WHERE s.failing_since IS NOT NULL AND k.kind = 'usage_source_silent'
		AND NOT EXISTS (
			SELECT FROM billing.exception x
			WHERE x.entity_id = s.entity_id AND x.kind = k.kind AND x.subject = s.source AND x.raised_at >= s.failing_since)
	ORDER BY s.entity_id, s.source
	ON CONFLICT ON CONSTRAINT exception_once DO NOTHING;

	UPDATE billing.exception x
	SET state = 'resolved', resolved_at = now(), resolved_by = 0, resolution = 'the source sends again'
	WHERE x.kind = 'usage_source_silent' AND x.state = 'open'
		AND EXISTS (
			SELECT FROM billing.usage_source s
			WHERE s.entity_id = x.entity_id AND s.source = x.subject AND s.failing_since IS NULL);
END;
COMMENT ON FUNCTION billing_internal.watch_usage_sources() IS
	'Task usage_sources: raises one exception for every silence of an expected source, and resolves it when the source keeps up again';

-- Corrections of usage as people ask for them.

CREATE OR REPLACE VIEW billing.usage_corrections WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	c.reference AS correction,
	c.kind,
	d.state,
	c.reason,
	c.events,
	c.already_done,
	c.effect,
	c.currency,
	c.unrated,
	m.code AS maker,
	d.created_at,
	p.code AS approver,
	s.happened_at AS decided_at,
	s.reason AS decision,
	c.payload,
	c.entity_id,
	c.correction_id
FROM billing.usage_correction c
JOIN billing.document d ON d.entity_id = c.entity_id AND d.document_id = c.correction_id
JOIN billing.legal_entity e ON e.entity_id = c.entity_id
LEFT JOIN billing.person m ON m.person_id = d.maker_id
LEFT JOIN billing.document_step s ON s.entity_id = c.entity_id AND s.document_id = c.correction_id AND s.version = 2
LEFT JOIN billing.person p ON p.person_id = s.actor_id;
COMMENT ON VIEW billing.usage_corrections IS 'Corrections of usage, with who asked for them and who decided';
COMMENT ON COLUMN billing.usage_corrections.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.usage_corrections.correction IS 'What API functions call it';
COMMENT ON COLUMN billing.usage_corrections.kind IS 'void, replace or backfill';
COMMENT ON COLUMN billing.usage_corrections.state IS 'pending_approval, applied or rejected';
COMMENT ON COLUMN billing.usage_corrections.reason IS 'Why, as its maker said';
COMMENT ON COLUMN billing.usage_corrections.events IS 'How many events it is about';
COMMENT ON COLUMN billing.usage_corrections.already_done IS 'How many more it was asked for, which were as they should be already';
COMMENT ON COLUMN billing.usage_corrections.effect IS 'By how much it changes what the contract items cost, without tax';
COMMENT ON COLUMN billing.usage_corrections.currency IS 'Currency of the effect';
COMMENT ON COLUMN billing.usage_corrections.unrated IS 'Periods of contract items whose part of the effect is not known';
COMMENT ON COLUMN billing.usage_corrections.maker IS 'Code of the person who asked for it';
COMMENT ON COLUMN billing.usage_corrections.created_at IS 'When';
COMMENT ON COLUMN billing.usage_corrections.approver IS 'Code of the person who approved or rejected it; null where nobody had to, or has';
COMMENT ON COLUMN billing.usage_corrections.decided_at IS 'When that was';
COMMENT ON COLUMN billing.usage_corrections.decision IS 'Why, as that person said';
COMMENT ON COLUMN billing.usage_corrections.payload IS 'What was asked for: source and ids, or the events';
COMMENT ON COLUMN billing.usage_corrections.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.usage_corrections.correction_id IS 'Key within the entity; the document''s id';

-- Roll-ups: what an event adds to which cell, the steps that are made of it, and what readers look at.

CREATE OR REPLACE VIEW billing.usage_addend WITH (security_invoker = true) AS
SELECT e.entity_id, e.event_id, e.account_id, e.meter_id, e.item_id,
	billing_internal.usage_month_of(e.usage_date) AS month,
	e.dimensions,
	CASE m.aggregation WHEN 'sum' THEN '' WHEN 'count' THEN '' WHEN 'unique_count' THEN e.sample
		ELSE trim_scale(e.quantity)::text END COLLATE "C" AS sample,
	e.usage_date,
	e.weight::bigint AS events,
	CASE WHEN m.aggregation NOT IN ('sum', 'count') THEN 0 WHEN e.weight < 0 THEN -e.quantity ELSE e.quantity END::numeric AS quantity
FROM billing.usage_event e
JOIN billing.meter m ON m.entity_id = e.entity_id AND m.meter_id = e.meter_id
WHERE e.quantity IS NOT NULL AND m.aggregation NOT IN ('latest', 'time_weighted');
COMMENT ON VIEW billing.usage_addend IS
	'What each event adds to which cell of the roll-ups, by its own: all meters but those that keep a level, where the order of a day''s events counts';
COMMENT ON COLUMN billing.usage_addend.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_addend.event_id IS 'The event';
COMMENT ON COLUMN billing.usage_addend.account_id IS 'Its billing account';
COMMENT ON COLUMN billing.usage_addend.meter_id IS 'Its meter';
COMMENT ON COLUMN billing.usage_addend.item_id IS 'The contract item that it named; 0 where it named the account';
COMMENT ON COLUMN billing.usage_addend.month IS 'First day of the month of its local day';
COMMENT ON COLUMN billing.usage_addend.dimensions IS 'Values of the meter''s group keys, as JSON text; empty without group keys';
COMMENT ON COLUMN billing.usage_addend.sample IS 'unique_count: the value that is counted once; max, min, percentile: the quantity; empty for other meters';
COMMENT ON COLUMN billing.usage_addend.usage_date IS 'Its local day';
COMMENT ON COLUMN billing.usage_addend.events IS '1; -1 for the row that takes an event back';
COMMENT ON COLUMN billing.usage_addend.quantity IS 'What it adds to the sum; 0 where events are counted by sample';
GRANT SELECT ON billing.usage_addend TO billing_user;

-- The upper bound of a range of ids tells the planner that it is small: it keeps to the index.
CREATE OR REPLACE FUNCTION billing_internal.add_usage_sums(
	entity integer, after_event_id bigint, through_event_id bigint) RETURNS bigint
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	WITH cell AS MATERIALIZED (
		SELECT a.account_id, a.meter_id, a.item_id, a.month, a.dimensions, a.sample,
			billing_internal.usage_days(a.usage_date, a.events, a.quantity) AS days, count(*) AS addends
		FROM billing.usage_addend a
		WHERE a.entity_id = add_usage_sums.entity
			AND a.event_id > add_usage_sums.after_event_id AND a.event_id <= add_usage_sums.through_event_id
		GROUP BY 1, 2, 3, 4, 5, 6
	), merged AS (
		INSERT INTO billing.usage_rollup AS r (entity_id, account_id, meter_id, item_id, month, dimensions, sample, days)
		SELECT add_usage_sums.entity, c.account_id, c.meter_id, c.item_id, c.month, c.dimensions, c.sample, c.days
		FROM cell c
		-- neighbours are read together
		ORDER BY c.account_id, c.meter_id, c.item_id, c.month
		ON CONFLICT ON CONSTRAINT usage_rollup_pkey DO UPDATE SET days = billing_internal.usage_days_add(r.days, excluded.days)
	)
	SELECT coalesce(sum(c.addends), 0)::bigint FROM cell c;
END;
COMMENT ON FUNCTION billing_internal.add_usage_sums(integer, bigint, bigint) IS
	'Step of the roll-up: adds the events of a range of ids to their cells; returns how many there were';

-- A day's levels depend on each other: a day that an event touches is computed anew from all its events. An event that was taken
-- back comes without level, so that a day of which nothing is left is there, empty, and replaces what it was.
CREATE OR REPLACE FUNCTION billing_internal.usage_levels_of_day(
	entity integer, account bigint, meter bigint, day date, through_event_id bigint)
	RETURNS TABLE (account_id bigint, meter_id bigint, item_id bigint, month date, usage_date date, dimensions text,
		occurred_at timestamptz, event_id bigint, level numeric)
	LANGUAGE SQL STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT e.account_id, e.meter_id, e.item_id, billing_internal.usage_month_of(e.usage_date), e.usage_date, e.dimensions,
		e.occurred_at, e.event_id,
		CASE WHEN e.weight = 1 AND count(*) FILTER (WHERE e.weight = -1) OVER (
			PARTITION BY CASE e.weight WHEN 1 THEN e.event_id ELSE e.corrects_event_id END) = 0 THEN e.quantity::numeric END
	FROM billing.usage_event e
	WHERE e.entity_id = usage_levels_of_day.entity AND e.account_id = usage_levels_of_day.account
		AND e.meter_id = usage_levels_of_day.meter AND e.usage_date = usage_levels_of_day.day
		AND e.quantity IS NOT NULL AND e.event_id <= usage_levels_of_day.through_event_id;
END;
COMMENT ON FUNCTION billing_internal.usage_levels_of_day(integer, bigint, bigint, date, bigint) IS
	'The levels that an account''s events of a day set, events up to an id; without level where the event was taken back';

CREATE OR REPLACE FUNCTION billing_internal.add_usage_levels(
	entity integer, after_event_id bigint, through_event_id bigint) RETURNS bigint
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	WITH touched AS MATERIALIZED (
		SELECT e.account_id, e.meter_id, e.usage_date, count(*) AS addends
		FROM billing.meter m
		JOIN billing.usage_event e ON e.entity_id = m.entity_id AND e.meter_id = m.meter_id
		WHERE m.entity_id = add_usage_levels.entity AND m.aggregation IN ('latest', 'time_weighted') AND e.quantity IS NOT NULL
			AND e.event_id > add_usage_levels.after_event_id AND e.event_id <= add_usage_levels.through_event_id
		GROUP BY 1, 2, 3
	), cell AS MATERIALIZED (
		SELECT v.account_id, v.meter_id, v.item_id, v.month, v.dimensions,
			billing_internal.usage_levels(v.usage_date, v.occurred_at, v.event_id, v.level, l.time_zone) AS days
		FROM touched t
		CROSS JOIN LATERAL billing_internal.usage_levels_of_day(
			add_usage_levels.entity, t.account_id, t.meter_id, t.usage_date, add_usage_levels.through_event_id) v
		JOIN billing.legal_entity l ON l.entity_id = add_usage_levels.entity
		GROUP BY 1, 2, 3, 4, 5, l.time_zone
	), merged AS (
		INSERT INTO billing.usage_rollup AS r (entity_id, account_id, meter_id, item_id, month, dimensions, sample, days)
		SELECT add_usage_levels.entity, c.account_id, c.meter_id, c.item_id, c.month, c.dimensions, '', c.days
		FROM cell c
		ORDER BY c.account_id, c.meter_id, c.item_id, c.month
		ON CONFLICT ON CONSTRAINT usage_rollup_pkey DO UPDATE SET days = billing_internal.usage_days_replace(r.days, excluded.days)
	)
	SELECT coalesce(sum(t.addends), 0)::bigint FROM touched t;
END;
COMMENT ON FUNCTION billing_internal.add_usage_levels(integer, bigint, bigint) IS
	'Step of the roll-up: computes the days anew on which an event of a range of ids set a level, or was taken back; returns how many events there were';

-- A charge for usage is due when its period ends, or its contract. Of an account's events with one meter, the earliest belongs to the
-- period that is due first; an event on or after the day billed through belongs to none that was due by then. The terms need not
-- be looked at: where there are none on the day, the run finds nothing.
CREATE OR REPLACE FUNCTION billing_internal.late_usage(
	entity integer, after_event_id bigint, through_event_id bigint, through date)
	RETURNS TABLE (account_id bigint, usage_from date)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH early AS MATERIALIZED (
		SELECT e.account_id, e.meter_id, min(e.usage_date) AS usage_from
		FROM billing.usage_event e
		WHERE e.entity_id = late_usage.entity
			AND e.event_id > late_usage.after_event_id AND e.event_id <= late_usage.through_event_id
			AND e.usage_date < late_usage.through AND e.quantity IS NOT NULL
		GROUP BY 1, 2
	)
	SELECT y.account_id, min(y.usage_from)
	FROM early y
	WHERE EXISTS (
		SELECT FROM billing.contract_item i
		JOIN billing.contract c ON c.entity_id = i.entity_id AND c.contract_id = i.contract_id
		WHERE i.entity_id = late_usage.entity AND i.account_id = y.account_id AND i.meter_id = y.meter_id
			AND least(c.end_date, billing.period_start(c.anchor, c.interval_unit, c.interval_count,
				billing.period_index(c.anchor, c.interval_unit, c.interval_count, y.usage_from) + 1)) <= late_usage.through)
	GROUP BY y.account_id;
END;
COMMENT ON FUNCTION billing_internal.late_usage(integer, bigint, bigint, date) IS
	'The accounts of events in a range of ids, after one and up to another, whose periods were due through a day, each with the first day of such usage';

CREATE OR REPLACE FUNCTION billing_internal.late_tail(entity integer, through date)
	RETURNS TABLE (account_id bigint, usage_from date)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT l.account_id, l.usage_from
	FROM billing_internal.late_usage(entity,
		coalesce((SELECT w.after_event_id FROM billing.usage_watermark w WHERE w.entity_id = late_tail.entity), 0),
		9223372036854775807, through) l;
END;
COMMENT ON FUNCTION billing_internal.late_tail(integer, date) IS
	'The same for all events that are not rolled up yet: what a billing run that opens has to look at again';

CREATE OR REPLACE FUNCTION billing_internal.complete_changes(entity integer, through date) RETURNS void
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_complete_changes';
COMMENT ON FUNCTION billing_internal.complete_changes(integer, date) IS
	'Step of the opening of a billing run through a day: completes billing.account_change by what changed for many accounts at once, and by late usage that is not rolled up yet';

CREATE OR REPLACE FUNCTION billing_internal.expected_usage_cells(
	entity integer, first_day date, end_day date, through_event_id bigint)
	RETURNS TABLE (account_id bigint, meter_id bigint, item_id bigint, month date, dimensions text, sample text, days billing.usage_days)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT a.account_id, a.meter_id, a.item_id, a.month, a.dimensions, a.sample,
		billing_internal.usage_days(a.usage_date, a.events, a.quantity)
	FROM billing.usage_addend a
	WHERE a.entity_id = expected_usage_cells.entity AND a.event_id <= expected_usage_cells.through_event_id
		AND a.usage_date >= expected_usage_cells.first_day AND a.usage_date < expected_usage_cells.end_day
	GROUP BY 1, 2, 3, 4, 5, 6
	UNION ALL
	SELECT v.account_id, v.meter_id, v.item_id, v.month, v.dimensions, '',
		billing_internal.usage_levels(v.usage_date, v.occurred_at, v.event_id, CASE WHEN v.stands THEN v.quantity END, l.time_zone)
	FROM (
		SELECT e.account_id, e.meter_id, e.item_id, billing_internal.usage_month_of(e.usage_date) AS month, e.usage_date,
			e.dimensions, e.occurred_at, e.event_id, e.quantity,
			e.weight = 1 AND count(*) FILTER (WHERE e.weight = -1) OVER (
				PARTITION BY CASE e.weight WHEN 1 THEN e.event_id ELSE e.corrects_event_id END) = 0 AS stands
		FROM billing.usage_event e
		JOIN billing.meter m ON m.entity_id = e.entity_id AND m.meter_id = e.meter_id
		WHERE e.entity_id = expected_usage_cells.entity AND m.aggregation IN ('latest', 'time_weighted') AND e.quantity IS NOT NULL
			AND e.event_id <= expected_usage_cells.through_event_id
			AND e.usage_date >= expected_usage_cells.first_day AND e.usage_date < expected_usage_cells.end_day
	) v
	JOIN billing.legal_entity l ON l.entity_id = expected_usage_cells.entity
	GROUP BY 1, 2, 3, 4, 5, l.time_zone;
END;
COMMENT ON FUNCTION billing_internal.expected_usage_cells(integer, date, date, bigint) IS
	'The cells that the events of some days add up to, events up to an id: what the roll-ups must hold';

CREATE OR REPLACE FUNCTION billing_internal.rebuild_usage_month(entity integer, month date, through_event_id bigint) RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	DELETE FROM billing.usage_rollup r
	WHERE r.entity_id = rebuild_usage_month.entity AND r.month = rebuild_usage_month.month;

	INSERT INTO billing.usage_rollup (entity_id, account_id, meter_id, item_id, month, dimensions, sample, days)
	SELECT rebuild_usage_month.entity, c.account_id, c.meter_id, c.item_id, c.month, c.dimensions, c.sample,
		billing_internal.usage_days_replace('{}', c.days)
	FROM billing_internal.expected_usage_cells(rebuild_usage_month.entity, rebuild_usage_month.month,
		(rebuild_usage_month.month + interval '1 month')::date, rebuild_usage_month.through_event_id) c
	WHERE billing_internal.usage_days_replace('{}', c.days) <> '{}';
END;
COMMENT ON FUNCTION billing_internal.rebuild_usage_month(integer, date, bigint) IS
	'Makes the roll-ups of an entity''s month anew from its events up to an id';

CREATE OR REPLACE FUNCTION billing_internal.usage_tail(entity integer, accounts bigint[])
	RETURNS TABLE (account_id bigint, item_id bigint, meter_id bigint, month date, dimensions text, sample text,
		days billing.usage_days, recomputed boolean)
	STABLE STRICT PARALLEL RESTRICTED COST 1000 ROWS 1000 SET search_path = pg_catalog, pg_temp
	SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_tail';
COMMENT ON FUNCTION billing_internal.usage_tail(integer, bigint[]) IS
	'What the events of some accounts add up to that are not rolled up yet, as cells; where recomputed, days of a level, made anew from all their events';

CREATE OR REPLACE FUNCTION billing_internal.usage_cells(entity integer, accounts bigint[])
	RETURNS TABLE (account_id bigint, item_id bigint, meter_id bigint, month date, dimensions text, sample text,
		days billing.usage_days, recomputed boolean)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT r.account_id, r.item_id, r.meter_id, r.month, r.dimensions, r.sample, r.days, false
	FROM billing.usage_rollup r
	WHERE r.entity_id = usage_cells.entity AND r.account_id = ANY (usage_cells.accounts)
	UNION ALL
	SELECT t.account_id, t.item_id, t.meter_id, t.month, t.dimensions, t.sample, t.days, t.recomputed
	FROM billing_internal.usage_tail(usage_cells.entity, usage_cells.accounts) t;
END;
COMMENT ON FUNCTION billing_internal.usage_cells(integer, bigint[]) IS
	'All usage of some accounts, complete in the snapshot of the statement that calls it: the cells of the roll-ups, what the events after the watermark add to them, and, where recomputed, days anew that replace those of the roll-ups';

-- What readers of roll-ups call, through views and functions that run as their caller
GRANT EXECUTE ON FUNCTION billing_internal.usage_cells(integer, bigint[]), billing_internal.usage_tail(integer, bigint[]),
	billing_internal.usage_levels_of_day(integer, bigint, bigint, date, bigint) TO billing_user;

CREATE OR REPLACE VIEW billing.usage_daily WITH (security_invoker = true) AS
SELECT l.code AS entity, b.code AS account, i.code AS item, m.code AS meter, u.dimensions, u.usage_date AS day,
	sum(u.events)::bigint AS events,
	CASE WHEN m.aggregation IN ('sum', 'count') THEN sum(u.quantity) END AS quantity,
	u.entity_id, u.account_id, u.item_id, u.meter_id
FROM (
	SELECT r.entity_id, r.account_id, r.item_id, r.meter_id, r.dimensions, d.day AS usage_date, d.events, d.quantity
	FROM billing.usage_rollup r
	CROSS JOIN LATERAL billing_internal.usage_days_rows(r.days) d
	UNION ALL
	SELECT e.entity_id, e.account_id, e.item_id, e.meter_id, e.dimensions, e.usage_date, e.weight, e.quantity * e.weight
	FROM billing.legal_entity k
	LEFT JOIN billing.usage_watermark w ON w.entity_id = k.entity_id
	JOIN billing.usage_event e ON e.entity_id = k.entity_id
		AND e.event_id > coalesce(w.after_event_id, 0) AND e.event_id < 9223372036854775807
	WHERE e.quantity IS NOT NULL
) u
JOIN billing.legal_entity l ON l.entity_id = u.entity_id
JOIN billing.billing_account b ON b.entity_id = u.entity_id AND b.account_id = u.account_id
JOIN billing.meter m ON m.entity_id = u.entity_id AND m.meter_id = u.meter_id
LEFT JOIN billing.contract_item i ON i.entity_id = u.entity_id AND i.item_id = u.item_id
GROUP BY u.entity_id, u.account_id, u.item_id, u.meter_id, u.dimensions, u.usage_date, l.code, b.code, i.code, m.code, m.aggregation
HAVING sum(u.events) <> 0 OR (m.aggregation IN ('sum', 'count') AND sum(u.quantity) <> 0);
COMMENT ON VIEW billing.usage_daily IS
	'Usage by account, item, meter, group and local day, up to the last committed event: for reports';
COMMENT ON COLUMN billing.usage_daily.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.usage_daily.account IS 'Code of the billing account';
COMMENT ON COLUMN billing.usage_daily.item IS 'Code of the contract item that the events named; null where they named the account';
COMMENT ON COLUMN billing.usage_daily.meter IS 'Code of the meter';
COMMENT ON COLUMN billing.usage_daily.dimensions IS 'Values of the meter''s group keys, as JSON text; empty without group keys';
COMMENT ON COLUMN billing.usage_daily.day IS 'The local day';
COMMENT ON COLUMN billing.usage_daily.events IS 'How many events stand';
COMMENT ON COLUMN billing.usage_daily.quantity IS 'What they add up to; null for meters whose days do not add up, that is, all but sum and count';
COMMENT ON COLUMN billing.usage_daily.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.usage_daily.account_id IS 'Key of the account';
COMMENT ON COLUMN billing.usage_daily.item_id IS 'Key of the contract item, or 0';
COMMENT ON COLUMN billing.usage_daily.meter_id IS 'Key of the meter';
GRANT SELECT ON billing.usage_daily TO billing_user;

CREATE OR REPLACE FUNCTION billing_internal.usage_months() RETURNS TABLE (month date)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	-- not the name as regclass writes it, which depends on settings
	SELECT to_date(right(c.relname, 7), 'YYYY_MM')
	FROM pg_partition_tree('billing.usage_event'::regclass) p
	JOIN pg_class c ON c.oid = p.relid
	WHERE p.isleaf AND c.relname ~ '^usage_event_[0-9]{4}_[0-9]{2}$';
END;
COMMENT ON FUNCTION billing_internal.usage_months() IS
	'The months whose events are there, and cannot be detached until the transaction ends';

CREATE OR REPLACE FUNCTION billing_internal.verify_usage(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'roll-ups are what their events add up to', count(*),
		min(format('account %s, meter %s, item %s, month %s, entity %s: %s', d.account_id, d.meter_id, d.item_id,
			to_char(d.month, 'YYYY-MM'), l.entity_id, d.fault))
	FROM billing.legal_entity l
	LEFT JOIN billing.usage_watermark w ON w.entity_id = l.entity_id
	CROSS JOIN LATERAL (
		SELECT account_id, meter_id, item_id, month,
			CASE WHEN r.days IS NULL THEN 'missing' WHEN c.days IS NULL THEN 'without events' ELSE 'different' END AS fault
		FROM (
			-- an empty day is no day: an event that was taken back before it was rolled up leaves one
			SELECT h.account_id, h.meter_id, h.item_id, h.month, h.dimensions, h.sample,
				billing_internal.usage_days_replace('{}', h.days) AS days
			FROM billing.usage_rollup h
			WHERE h.entity_id = l.entity_id AND h.month IN (SELECT m.month FROM billing_internal.usage_months() m)
				AND billing_internal.usage_days_replace('{}', h.days) <> '{}'
		) r
		FULL JOIN (
			SELECT x.account_id, x.meter_id, x.item_id, x.month, x.dimensions COLLATE "C" AS dimensions, x.sample COLLATE "C" AS sample,
				billing_internal.usage_days_replace('{}', x.days) AS days
			FROM billing_internal.expected_usage_cells(l.entity_id, '-infinity', 'infinity', coalesce(w.after_event_id, 0)) x
			WHERE billing_internal.usage_days_replace('{}', x.days) <> '{}'
		) c USING (account_id, meter_id, item_id, month, dimensions, sample)
		WHERE r.days IS NULL OR c.days IS NULL OR r.days <> c.days
	) d
	WHERE verify_usage.entity IS NULL OR l.entity_id = verify_usage.entity
	UNION ALL
	SELECT 'the roll-ups of usage end at an event that was numbered', count(*), min(format('entity %s', w.entity_id))
	FROM billing.usage_watermark w
	CROSS JOIN (SELECT coalesce(pg_sequence_last_value('billing.usage_event_event_id_seq'::regclass), 0) AS last_id) s
	WHERE (verify_usage.entity IS NULL OR w.entity_id = verify_usage.entity)
		AND (w.after_event_id > s.last_id OR w.next_event_id > s.last_id)
	UNION ALL
	-- a sequence that hands out ids in advance would break the order that the watermark stands on
	SELECT 'usage events are numbered one by one', count(*), min(s.seqrelid::regclass::text)
	FROM pg_sequence s
	WHERE s.seqrelid = 'billing.usage_event_event_id_seq'::regclass AND (s.seqincrement <> 1 OR s.seqcache <> 1 OR s.seqcycle)
	UNION ALL
	SELECT 'roll-ups have an account and a meter', count(*),
		min(format('account %s, meter %s, entity %s', r.account_id, r.meter_id, r.entity_id))
	FROM billing.usage_rollup r
	LEFT JOIN billing.billing_account a ON a.entity_id = r.entity_id AND a.account_id = r.account_id
	LEFT JOIN billing.meter m ON m.entity_id = r.entity_id AND m.meter_id = r.meter_id
	WHERE (verify_usage.entity IS NULL OR r.entity_id = verify_usage.entity) AND (a.account_id IS NULL OR m.meter_id IS NULL)
	UNION ALL
	SELECT 'usage is rolled up without errors', count(*), min(format('entity %s: %s', w.entity_id, w.error))
	FROM billing.usage_watermark w
	WHERE (verify_usage.entity IS NULL OR w.entity_id = verify_usage.entity) AND w.error IS NOT NULL;
END;
COMMENT ON FUNCTION billing_internal.verify_usage(integer) IS
	'Checks of roll-ups: they hold what the events up to the watermark add up to, for each month whose events are there, and belong to an account and a meter';

-- What a correction is worth: the terms, prices and rating of billing_internal.entitlement() for the periods that certain days
-- lie in, whether they are due or not. A level lasts, so it is worth something in every period from its day to today's.
CREATE OR REPLACE FUNCTION billing_internal.usage_value(entity integer, accounts bigint[], meters bigint[], days date[])
	RETURNS TABLE (
		account_id bigint, item_id bigint, version_id bigint, period_start date, period_end date,
		dimensions text, quantity numeric, events bigint, amount numeric)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH span AS MATERIALIZED (
		SELECT c.account_id, c.meter_id, c.day AS first_day, c.day AS last_day
		FROM unnest(accounts, meters, days) AS c (account_id, meter_id, day)
		JOIN billing.meter m ON m.entity_id = entity AND m.meter_id = c.meter_id AND m.aggregation <> 'time_weighted'
		GROUP BY c.account_id, c.meter_id, c.day
		UNION ALL
		SELECT c.account_id, c.meter_id, min(c.day),
			greatest(max(c.day), (SELECT (now() AT TIME ZONE l.time_zone)::date FROM billing.legal_entity l WHERE l.entity_id = entity))
		FROM unnest(accounts, meters, days) AS c (account_id, meter_id, day)
		JOIN billing.meter m ON m.entity_id = entity AND m.meter_id = c.meter_id AND m.aggregation = 'time_weighted'
		GROUP BY c.account_id, c.meter_id
	), term AS MATERIALIZED (
		SELECT i.account_id, i.item_id, v.version_id, i.product_id, i.meter_id, v.tariff, v.price_book_id,
			CASE WHEN i.own_usage THEN i.item_id ELSE 0 END AS usage_item,
			c.anchor, c.interval_unit, c.interval_count,
			greatest(v.valid_from, c.start_date) AS valid_from, least(v.valid_to, c.end_date) AS valid_to, s.first_day, s.last_day
		FROM span s
		JOIN billing.contract_item i ON i.entity_id = entity AND i.account_id = s.account_id AND i.meter_id = s.meter_id
		JOIN billing.contract c ON c.entity_id = entity AND c.contract_id = i.contract_id
			AND c.start_date <= s.last_day AND (c.end_date IS NULL OR s.first_day < c.end_date)
		JOIN billing.contract_item_version v ON v.entity_id = entity AND v.item_id = i.item_id AND v.superseded_at IS NULL
			AND v.valid_from <= s.last_day AND (v.valid_to IS NULL OR s.first_day < v.valid_to)
	), period AS MATERIALIZED (
		SELECT DISTINCT t.version_id, n
		FROM term t
		CROSS JOIN LATERAL generate_series(
			billing.period_index(t.anchor, t.interval_unit, t.interval_count, greatest(t.first_day, t.valid_from)),
			billing.period_index(t.anchor, t.interval_unit, t.interval_count, least(t.last_day, t.valid_to - 1))) AS n
	), stretch AS MATERIALIZED (
		SELECT w.*, row_number() OVER () AS stretch_no,
			date_trunc('month', w.period_start::timestamp)::date AS first_month, m.aggregation, m.percentile, m.time_unit,
			m.quantity_scale::integer AS quantity_scale, m.quantity_rounding
		FROM (
			SELECT t.account_id, t.item_id, t.version_id, t.product_id, t.meter_id, t.tariff, t.price_book_id, t.usage_item,
				greatest(billing.period_start(t.anchor, t.interval_unit, t.interval_count, p.n), t.valid_from) AS period_start,
				least(billing.period_start(t.anchor, t.interval_unit, t.interval_count, p.n + 1), t.valid_to) AS period_end
			FROM period p
			CROSS JOIN LATERAL (SELECT o.* FROM term o WHERE o.version_id = p.version_id LIMIT 1) t
		) w
		JOIN billing.meter m ON m.entity_id = entity AND m.meter_id = w.meter_id
	), cell AS MATERIALIZED (
		SELECT c.account_id, c.item_id, c.meter_id, c.month, c.dimensions, c.sample, c.days, c.recomputed
		FROM billing_internal.usage_cells(entity, ARRAY(SELECT DISTINCT s.account_id FROM stretch s)) c
	), usage AS MATERIALIZED (
		SELECT g.stretch_no, g.dimensions, (g.measured).quantity, (g.measured).events
		FROM (
			SELECT s.stretch_no, c.dimensions,
				billing_internal.measure(c.days, c.sample, c.recomputed, s.aggregation, s.period_start, s.period_end, l.time_zone,
					s.percentile, s.time_unit, s.quantity_scale, s.quantity_rounding) AS measured
			FROM stretch s
			JOIN billing.legal_entity l ON l.entity_id = entity
			JOIN cell c ON c.account_id = s.account_id AND c.meter_id = s.meter_id AND c.item_id = s.usage_item
				AND c.month < s.period_end AND (c.month >= s.first_month OR s.aggregation = 'time_weighted')
			GROUP BY s.stretch_no, c.dimensions
		) g
	), measured AS MATERIALIZED (
		SELECT s.*, coalesce(u.dimensions, '') AS dimensions, coalesce(u.quantity, 0) AS quantity, coalesce(u.events, 0) AS events,
			coalesce(s.tariff, (
				SELECT b.tariff
				FROM billing.price b
				WHERE b.entity_id = entity AND b.price_book_id = s.price_book_id AND b.product_id = s.product_id
					AND b.valid_from <= s.period_start AND (b.valid_to IS NULL OR s.period_start < b.valid_to)
			)) AS price
		FROM stretch s
		LEFT JOIN usage u ON u.stretch_no = s.stretch_no AND (u.quantity <> 0 OR u.events <> 0)
	), rated AS MATERIALIZED (
		SELECT m.account_id, m.item_id, m.version_id, m.period_start, m.period_end, m.dimensions, m.quantity, m.events,
			CASE
				WHEN m.events > 1 AND billing_internal.prices_events(m.price) THEN
					billing_internal.try_rate_counted(entity, m.account_id, m.usage_item, m.meter_id, m.period_start, m.period_end,
						m.dimensions, m.price, m.events)
				ELSE coalesce(billing_internal.try_rate(m.price, m.quantity, m.events, nullif(m.dimensions, '')::jsonb),
					-- without usage no cell of a matrix is asked for
					CASE WHEN m.events = 0 AND m.quantity = 0 AND m.price IS NOT NULL THEN 0 END)
			END AS amount
		FROM measured m
	)
	SELECT r.account_id, r.item_id, r.version_id, r.period_start, r.period_end, r.dimensions, r.quantity, r.events,
		billing.round_amount(r.amount, y.minor_unit::integer, l.rounding_mode)
	FROM rated r
	JOIN billing.billing_account a ON a.entity_id = entity AND a.account_id = r.account_id
	JOIN billing.currency y ON y.currency = a.currency
	JOIN billing.legal_entity l ON l.entity_id = entity;
END;
COMMENT ON FUNCTION billing_internal.usage_value(integer, bigint[], bigint[], date[]) IS
	'What the usage of accounts by meters costs in the billing periods that days lie in, each account with the meter and the day beside it, rounded as a line of an invoice is; null where there is no price or it cannot rate the quantity';
-- Now: what the running billing periods come to so far.

-- One row per stretch of terms and group of dimensions that a billing run would write a line for, were the period over. The
-- terms and periods are derived as billing_internal.entitlement() derives them. Tail and roll-ups of earlier months are read
-- only for levels, which carry over.
CREATE OR REPLACE FUNCTION billing_internal.usage_so_far(entity integer, accounts bigint[], as_of date, periods_back integer)
	RETURNS TABLE (
		account_id bigint, contract_id bigint, item_id bigint, meter_id bigint, version_id bigint, whole_start date, whole_end date,
		period_start date, period_end date, is_current boolean, dimensions text, quantity numeric, events bigint, tariff billing.tariff,
		exact_amount numeric, amount numeric, currency text, forecast_quantity numeric, forecast_amount numeric)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH item AS MATERIALIZED (
		SELECT i.account_id, i.contract_id, i.item_id, i.product_id, i.own_usage, i.meter_id, c.start_date, c.end_date, c.currency,
			p.whole_start, p.whole_end, least(usage_so_far.as_of, p.whole_end - 1) AS last_day,
			m.aggregation, m.percentile, m.time_unit, m.quantity_scale, m.quantity_rounding
		FROM billing.contract_item i
		JOIN billing.contract c ON c.entity_id = usage_so_far.entity AND c.account_id = ANY (usage_so_far.accounts)
			AND c.contract_id = i.contract_id
		JOIN billing.meter m ON m.entity_id = usage_so_far.entity AND m.meter_id = i.meter_id
		CROSS JOIN LATERAL (
			SELECT billing.period_start(c.anchor, c.interval_unit, c.interval_count, n) AS whole_start,
				billing.period_start(c.anchor, c.interval_unit, c.interval_count, n + 1) AS whole_end
			FROM (SELECT billing.period_index(c.anchor, c.interval_unit, c.interval_count, usage_so_far.as_of)
				- usage_so_far.periods_back) x (n)
		) p
		WHERE i.entity_id = usage_so_far.entity AND i.account_id = ANY (usage_so_far.accounts) AND i.charge = 'usage'
	), term AS MATERIALIZED (
		SELECT s.*, s.valid_to IS NULL OR s.last_day < s.valid_to AS is_current,
			least(s.last_day + 1, s.period_end) AS seen_end,
			coalesce(s.own_tariff, (
				SELECT b.tariff
				FROM billing.price b
				WHERE b.entity_id = usage_so_far.entity AND b.price_book_id = s.price_book_id AND b.product_id = s.product_id
					AND b.valid_from <= s.period_start AND (b.valid_to IS NULL OR s.period_start < b.valid_to)
			)) AS tariff
		FROM (
			SELECT i.*, v.version_id, v.tariff AS own_tariff, v.price_book_id,
				least(v.valid_to, i.end_date) AS valid_to,
				greatest(i.whole_start, i.start_date, v.valid_from) AS period_start,
				least(i.whole_end, i.end_date, v.valid_to) AS period_end
			FROM item i
			JOIN billing.contract_item_version v ON v.entity_id = usage_so_far.entity AND v.item_id = ANY (ARRAY(SELECT o.item_id FROM item o))
				AND v.item_id = i.item_id AND v.superseded_at IS NULL
		) s
		WHERE s.period_start < s.period_end AND s.period_start <= s.last_day
	), cell AS MATERIALIZED (
		SELECT c.account_id, c.item_id, c.meter_id, c.month, c.dimensions, c.sample, c.days, c.recomputed
		FROM billing_internal.usage_cells(usage_so_far.entity, usage_so_far.accounts) c
		WHERE c.month >= (SELECT min(date_trunc('month', t.period_start::timestamp)::date) FROM term t)
			OR c.meter_id = ANY (ARRAY(SELECT t.meter_id FROM term t WHERE t.aggregation = 'time_weighted'))
	), measured AS MATERIALIZED (
		SELECT t.version_id, t.period_start, c.dimensions,
			billing_internal.measure(c.days, c.sample, c.recomputed, t.aggregation, t.period_start, t.seen_end, l.time_zone,
				t.percentile, t.time_unit, t.quantity_scale, t.quantity_rounding) AS seen,
			billing_internal.measure(c.days, c.sample, c.recomputed, t.aggregation, t.period_start, t.period_end, l.time_zone,
				t.percentile, t.time_unit, t.quantity_scale, t.quantity_rounding)
				FILTER (WHERE t.aggregation = 'time_weighted') AS carried
		FROM term t
		JOIN billing.legal_entity l ON l.entity_id = usage_so_far.entity
		JOIN cell c ON c.account_id = t.account_id AND c.meter_id = t.meter_id
			AND c.item_id = CASE WHEN t.own_usage THEN t.item_id ELSE 0 END
			AND c.month < t.period_end
			AND (t.aggregation = 'time_weighted' OR c.month >= date_trunc('month', t.period_start::timestamp)::date)
		GROUP BY t.version_id, t.period_start, c.dimensions
	), line AS MATERIALIZED (
		SELECT t.*, coalesce(m.dimensions, '') AS dimensions,
			coalesce((m.seen).quantity, 0) AS quantity, coalesce((m.seen).events, 0) AS events,
			CASE WHEN t.aggregation = 'time_weighted' THEN (m.carried).quantity END AS carried_quantity,
			t.aggregation IN ('sum', 'count') AND t.seen_end < t.period_end AS is_extended,
			t.period_end - t.period_start AS all_days, t.seen_end - t.period_start AS seen_days
		FROM term t
		LEFT JOIN measured m ON m.version_id = t.version_id AND m.period_start = t.period_start
			AND ((m.seen).quantity <> 0 OR (m.seen).events <> 0 OR (m.carried).quantity <> 0)
	), forecast AS MATERIALIZED (
		SELECT f.*,
			CASE
				WHEN f.is_extended THEN trim_scale(round(f.quantity * f.all_days / f.seen_days, coalesce(f.quantity_scale,
					CASE f.aggregation WHEN 'count' THEN 0 ELSE greatest(scale(f.quantity), 6) END)))
				ELSE coalesce(f.carried_quantity, f.quantity)
			END AS forecast_quantity,
			CASE WHEN f.is_extended THEN round(f.events::numeric * f.all_days / f.seen_days)::bigint ELSE f.events END AS forecast_events,
			nullif(f.dimensions, '')::jsonb AS attributes,
			f.events > 1 AND billing_internal.prices_events(f.tariff) AS by_event
		FROM line f
	), rated AS MATERIALIZED (
		SELECT f.*, CASE
				WHEN f.by_event THEN
					billing_internal.try_rate_counted(usage_so_far.entity, f.account_id, CASE WHEN f.own_usage THEN f.item_id ELSE 0 END,
						f.meter_id, f.period_start, f.seen_end, f.dimensions, f.tariff, f.events)
				ELSE coalesce(billing_internal.try_rate(f.tariff, f.quantity, f.events, f.attributes),
					-- without usage no cell of a matrix is asked for
					CASE WHEN f.events = 0 AND f.quantity = 0 AND f.tariff IS NOT NULL THEN 0 END)
			END AS exact_amount
		FROM forecast f
	)
	SELECT r.account_id, r.contract_id, r.item_id, r.meter_id, r.version_id, r.whole_start, r.whole_end, r.period_start, r.period_end,
		r.is_current, r.dimensions, r.quantity, r.events, r.tariff, r.exact_amount,
		billing.round_amount(r.exact_amount, y.minor_unit::integer, l.rounding_mode), r.currency, r.forecast_quantity,
		billing.round_amount(CASE
				WHEN r.by_event AND r.is_extended THEN r.exact_amount * r.all_days / r.seen_days
				WHEN r.by_event OR r.forecast_quantity = r.quantity THEN r.exact_amount
				ELSE billing_internal.try_rate(r.tariff, r.forecast_quantity, r.forecast_events, r.attributes)
			END, y.minor_unit::integer, l.rounding_mode)
	FROM rated r
	JOIN billing.currency y ON y.currency = r.currency
	JOIN billing.legal_entity l ON l.entity_id = usage_so_far.entity;
END;
COMMENT ON FUNCTION billing_internal.usage_so_far(integer, bigint[], date, integer) IS
	'What the usage items of accounts come to in the billing period that a day lies in, or so many periods before, through that day: quantity, amount, and what they would come to by the end of the period; the amount is null where there is no price or it cannot rate the quantity';

CREATE OR REPLACE FUNCTION billing.current_usage(
	entity text, account text, contract text DEFAULT NULL, item text DEFAULT NULL, as_of date DEFAULT NULL)
	RETURNS TABLE (
		contract text, item text, meter text, dimensions jsonb, period_start date, period_end date, quantity numeric, events bigint,
		amount numeric, currency text, forecast_quantity numeric, forecast_amount numeric, problem text)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off SET enable_seqscan = off
	SET plan_cache_mode = force_generic_plan
	LANGUAGE C ROWS 10 AS 'MODULE_PATHNAME', 'billing_usage_current';
COMMENT ON FUNCTION billing.current_usage(text, text, text, text, date) IS
	'What the usage items of an account, or of one of its contracts, come to in the billing period that today, or another day, lies in: a row per line that the invoice would have, with the usage through that day and its amount, rounded like a line. The forecast extends sums and counts by the days that are left (what the n days so far brought, divided by n, times all days of the period), and lets a time-weighted level stay as it is; the other aggregations stand as they are. For whoever may see the entity';
