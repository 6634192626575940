-- usage: what events add up to, by day and by period.

CREATE OR REPLACE FUNCTION billing_internal.usage_days_add(a billing.usage_days, b billing.usage_days)
	RETURNS billing.usage_days
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_add';
COMMENT ON FUNCTION billing_internal.usage_days_add(billing.usage_days, billing.usage_days) IS
	'The sum of two values day by day, without days that come to nothing; refuses two levels of one day, which cannot be added';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_replace(a billing.usage_days, b billing.usage_days)
	RETURNS billing.usage_days
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_replace';
COMMENT ON FUNCTION billing_internal.usage_days_replace(billing.usage_days, billing.usage_days) IS
	'The days of a, with those of b in the place of the same days; an empty day of b takes the day away';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_rows(days billing.usage_days)
	RETURNS TABLE (day date, events bigint, quantity numeric, first_at timestamptz, last_at timestamptz, level numeric)
	IMMUTABLE STRICT PARALLEL SAFE ROWS 31
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_rows';
COMMENT ON FUNCTION billing_internal.usage_days_rows(billing.usage_days) IS
	'The days of a value as rows';

-- usage_days(): sums by day.

CREATE OR REPLACE FUNCTION billing_internal.usage_days_step(internal, date, bigint, numeric) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_step';
COMMENT ON FUNCTION billing_internal.usage_days_step(internal, date, bigint, numeric) IS
	'Step of billing_internal.usage_days()';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_combine(internal, internal) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_combine';
COMMENT ON FUNCTION billing_internal.usage_days_combine(internal, internal) IS
	'Puts the states of two processes together for billing_internal.usage_days()';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_serialize(internal) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_serialize';
COMMENT ON FUNCTION billing_internal.usage_days_serialize(internal) IS
	'Writes the state of billing_internal.usage_days() for another process';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_deserialize(bytea, internal) RETURNS internal
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_deserialize';
COMMENT ON FUNCTION billing_internal.usage_days_deserialize(bytea, internal) IS
	'Reads the state of billing_internal.usage_days() of another process';

CREATE OR REPLACE FUNCTION billing_internal.usage_days_final(internal) RETURNS billing.usage_days
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_days_final';
COMMENT ON FUNCTION billing_internal.usage_days_final(internal) IS
	'Result of billing_internal.usage_days()';

CREATE OR REPLACE AGGREGATE billing_internal.usage_days(day date, events bigint, quantity numeric) (
	SFUNC = billing_internal.usage_days_step,
	STYPE = internal,
	SSPACE = 256,
	COMBINEFUNC = billing_internal.usage_days_combine,
	SERIALFUNC = billing_internal.usage_days_serialize,
	DESERIALFUNC = billing_internal.usage_days_deserialize,
	FINALFUNC = billing_internal.usage_days_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE billing_internal.usage_days(date, bigint, numeric) IS
	'Events and quantities summed by day, without days that come to nothing; null counts and quantities are 0, rows without a day are none; null without rows';

-- usage_levels(): days of a meter that keeps a level.

CREATE OR REPLACE FUNCTION billing_internal.usage_levels_step(internal, date, timestamptz, bigint, numeric, text)
	RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_levels_step';
COMMENT ON FUNCTION billing_internal.usage_levels_step(internal, date, timestamptz, bigint, numeric, text) IS
	'Step of billing_internal.usage_levels()';

CREATE OR REPLACE FUNCTION billing_internal.usage_levels_combine(internal, internal) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_levels_combine';
COMMENT ON FUNCTION billing_internal.usage_levels_combine(internal, internal) IS
	'Puts the states of two processes together for billing_internal.usage_levels()';

CREATE OR REPLACE FUNCTION billing_internal.usage_levels_serialize(internal) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_levels_serialize';
COMMENT ON FUNCTION billing_internal.usage_levels_serialize(internal) IS
	'Writes the state of billing_internal.usage_levels() for another process';

CREATE OR REPLACE FUNCTION billing_internal.usage_levels_deserialize(bytea, internal) RETURNS internal
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_levels_deserialize';
COMMENT ON FUNCTION billing_internal.usage_levels_deserialize(bytea, internal) IS
	'Reads the state of billing_internal.usage_levels() of another process';

CREATE OR REPLACE FUNCTION billing_internal.usage_levels_final(internal) RETURNS billing.usage_days
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_levels_final';
COMMENT ON FUNCTION billing_internal.usage_levels_final(internal) IS
	'Result of billing_internal.usage_levels()';

CREATE OR REPLACE AGGREGATE billing_internal.usage_levels(
	day date, occurred_at timestamptz, event_id bigint, level numeric, time_zone text) (
	SFUNC = billing_internal.usage_levels_step,
	STYPE = internal,
	SSPACE = 512,
	COMBINEFUNC = billing_internal.usage_levels_combine,
	SERIALFUNC = billing_internal.usage_levels_serialize,
	DESERIALFUNC = billing_internal.usage_levels_deserialize,
	FINALFUNC = billing_internal.usage_levels_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE billing_internal.usage_levels(date, timestamptz, bigint, numeric, text) IS
	'Events of a level in any order, as days: events, area from the first event to the end of the local day in level x seconds, first and last moment, last level; at one moment the highest event_id counts. A row with a null moment, id or level only names its day, which is empty if no other row fills it; null without rows';

-- measure(): the quantity of a period.

CREATE OR REPLACE FUNCTION billing_internal.measure_step(
	internal, billing.usage_days, text, boolean, text, date, date, text, numeric, integer, integer, text) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_measure_step';
COMMENT ON FUNCTION billing_internal.measure_step(
	internal, billing.usage_days, text, boolean, text, date, date, text, numeric, integer, integer, text) IS
	'Step of billing_internal.measure()';

CREATE OR REPLACE FUNCTION billing_internal.measure_combine(internal, internal) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_measure_combine';
COMMENT ON FUNCTION billing_internal.measure_combine(internal, internal) IS
	'Puts the states of two processes together for billing_internal.measure()';

CREATE OR REPLACE FUNCTION billing_internal.measure_serialize(internal) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_measure_serialize';
COMMENT ON FUNCTION billing_internal.measure_serialize(internal) IS
	'Writes the state of billing_internal.measure() for another process';

CREATE OR REPLACE FUNCTION billing_internal.measure_deserialize(bytea, internal) RETURNS internal
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_measure_deserialize';
COMMENT ON FUNCTION billing_internal.measure_deserialize(bytea, internal) IS
	'Reads the state of billing_internal.measure() of another process';

CREATE OR REPLACE FUNCTION billing_internal.measure_final(internal) RETURNS billing.usage_measure
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_measure_final';
COMMENT ON FUNCTION billing_internal.measure_final(internal) IS
	'Result of billing_internal.measure()';

CREATE OR REPLACE AGGREGATE billing_internal.measure(
	days billing.usage_days,
	sample text,
	recomputed boolean,
	aggregation text,
	period_start date,
	period_end date,
	time_zone text,
	percentile numeric,
	time_unit integer,
	quantity_scale integer,
	quantity_rounding text) (
	SFUNC = billing_internal.measure_step,
	STYPE = internal,
	SSPACE = 512,
	COMBINEFUNC = billing_internal.measure_combine,
	SERIALFUNC = billing_internal.measure_serialize,
	DESERIALFUNC = billing_internal.measure_deserialize,
	FINALFUNC = billing_internal.measure_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE billing_internal.measure(
	billing.usage_days, text, boolean, text, date, date, text, numeric, integer, integer, text) IS
	'What the cells of one account, item, meter and group of dimensions come to in the days from period_start to the day before period_end, as the meter aggregates and rounds; recomputed days stand in the place of the same days of other rows; (0, 0) without usage';

-- Feeds: what is expected, heartbeats, and what arrived from whom.

CREATE OR REPLACE FUNCTION billing.expect_usage(
	entity text, source text, every interval, grace interval DEFAULT '0', note text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_expect';
COMMENT ON FUNCTION billing.expect_usage(text, text, interval, interval, text) IS
	'Says that a source of usage sends at least so often, give or take a grace; called again it changes that; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.forget_usage_source(entity text, source text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_forget_source';
COMMENT ON FUNCTION billing.forget_usage_source(text, text) IS
	'Says that a source of usage is not expected any more; resolves its exception; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.record_heartbeat(entity text, source text, through timestamptz) RETURNS timestamptz
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_record_heartbeat';
COMMENT ON FUNCTION billing.record_heartbeat(text, text, timestamptz) IS
	'Says for a source that it has sent all usage before a moment, also where there was none; returns the moment that holds, which never goes back; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing_internal.count_usage_sources(
	entity integer, after_event_id bigint, through_event_id bigint) RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	WITH seen AS MATERIALIZED (
		SELECT e.source, date_bin('1 hour', e.ingested_at, 'epoch') AS hour, count(*) AS events,
			min(e.ingested_at) AS first_arrival_at, max(e.ingested_at) AS last_arrival_at,
			max(least(e.occurred_at, e.ingested_at)) AS last_event_at
		FROM billing.usage_event e
		WHERE e.entity_id = count_usage_sources.entity
			AND e.event_id > count_usage_sources.after_event_id AND e.event_id <= count_usage_sources.through_event_id
			AND e.weight = 1 AND e.correction_id IS NULL
		GROUP BY 1, 2
	), by_hour AS (
		INSERT INTO billing.usage_source_hour AS h (entity_id, source, hour, events)
		SELECT count_usage_sources.entity, s.source, s.hour, s.events
		FROM seen s
		WHERE s.hour > now() - interval '2 days'
		ORDER BY s.source, s.hour
		ON CONFLICT ON CONSTRAINT usage_source_hour_pkey DO UPDATE SET events = h.events + excluded.events
	)
	INSERT INTO billing.usage_source_state AS t
		(entity_id, source, events, first_arrival_at, last_arrival_at, last_event_at)
	SELECT count_usage_sources.entity, s.source, sum(s.events), min(s.first_arrival_at), max(s.last_arrival_at), max(s.last_event_at)
	FROM seen s
	GROUP BY s.source
	ORDER BY s.source
	ON CONFLICT ON CONSTRAINT usage_source_state_pkey DO UPDATE SET
		events = t.events + excluded.events,
		first_arrival_at = least(t.first_arrival_at, excluded.first_arrival_at),
		last_arrival_at = greatest(t.last_arrival_at, excluded.last_arrival_at),
		last_event_at = greatest(t.last_event_at, excluded.last_event_at);
END;
COMMENT ON FUNCTION billing_internal.count_usage_sources(integer, bigint, bigint) IS
	'Step of the roll-up: counts by source the events of a range of ids, each range once';

-- Corrections of usage, and what they are worth.

CREATE OR REPLACE FUNCTION billing.void_usage(entity text, source text, ids text[], reason text)
	RETURNS TABLE (correction text, state text, events bigint, already_done bigint, effect numeric, currency text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_void';
COMMENT ON FUNCTION billing.void_usage(text, text, text[], text) IS
	'Takes usage events back, each by a row that negates it: at once, or where the effect is above the entity''s limit after a second person has approved; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.replace_usage(entity text, events jsonb, reason text)
	RETURNS TABLE (correction text, state text, events bigint, already_done bigint, effect numeric, currency text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_replace';
COMMENT ON FUNCTION billing.replace_usage(text, jsonb, text) IS
	'Puts CloudEvents in place of the usage events with the same source and id, also of those that were taken back: at once, or after approval, as billing.void_usage(); needs the duty biller';

CREATE OR REPLACE FUNCTION billing.backfill_usage(entity text, events jsonb, reason text)
	RETURNS TABLE (correction text, state text, events bigint, already_done bigint, effect numeric, currency text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_backfill';
COMMENT ON FUNCTION billing.backfill_usage(text, jsonb, text) IS
	'Brings in CloudEvents of the past, however late: at once, or after approval, as billing.void_usage(); needs the duty biller';

CREATE OR REPLACE FUNCTION billing.approve_usage_correction(
	entity text, correction text, reason text DEFAULT NULL, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_approve_correction';
COMMENT ON FUNCTION billing.approve_usage_correction(text, text, text, integer) IS
	'Approves a correction of usage that waits, and carries it out; needs the duty approver with a limit for what it is worth, and another person than its maker';

CREATE OR REPLACE FUNCTION billing.reject_usage_correction(
	entity text, correction text, reason text, version integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_reject_correction';
COMMENT ON FUNCTION billing.reject_usage_correction(text, text, text, integer) IS
	'Refuses a correction of usage that waits: nothing is changed; needs the duty approver and another person than its maker';

CREATE OR REPLACE FUNCTION billing_internal.verify_usage_corrections(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'what a correction wrote belongs to one that was carried out', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	LEFT JOIN billing.document d ON d.entity_id = e.entity_id AND d.document_id = e.correction_id
	LEFT JOIN billing.usage_correction c ON c.entity_id = e.entity_id AND c.correction_id = e.correction_id
	WHERE (entity IS NULL OR e.entity_id = entity) AND e.correction_id IS NOT NULL
		AND (c.correction_id IS NULL OR d.kind <> 'usage_correction' OR d.state <> 'applied')
	UNION ALL
	SELECT 'a correction is worth what its document says', count(*), min(coalesce(c.reference, 'D' || d.document_id))
	FROM (SELECT * FROM billing.usage_correction x WHERE entity IS NULL OR x.entity_id = entity) c
	FULL JOIN (SELECT * FROM billing.document x WHERE (entity IS NULL OR x.entity_id = entity) AND x.kind = 'usage_correction') d
		ON d.entity_id = c.entity_id AND d.document_id = c.correction_id
	WHERE c.effect IS DISTINCT FROM d.amount OR c.currency IS DISTINCT FROM d.currency
	UNION ALL
	SELECT 'a correction put something in place of every row that it names', count(*), min(format('%s: usage event %s', c.reference, r.event_id))
	FROM billing.usage_correction c
	JOIN billing.document d ON d.entity_id = c.entity_id AND d.document_id = c.correction_id AND d.state = 'applied'
	CROSS JOIN LATERAL unnest(c.takes_back) AS r (event_id)
	JOIN billing.usage_event e ON e.entity_id = c.entity_id AND e.event_id = r.event_id
	WHERE (entity IS NULL OR c.entity_id = entity)
		AND NOT EXISTS (
			SELECT FROM billing.usage_event w
			WHERE w.entity_id = c.entity_id AND w.correction_id = c.correction_id AND w.corrects_event_id = r.event_id);
END;
COMMENT ON FUNCTION billing_internal.verify_usage_corrections(integer) IS
	'Checks of the corrections of usage: each has its document, and wrote what it says';

-- Roll-ups: making them, making them anew.

CREATE OR REPLACE FUNCTION billing_internal.usage_month_of(day date) RETURNS date
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_month_of';
COMMENT ON FUNCTION billing_internal.usage_month_of(date) IS
	'The first day of a day''s month';

-- What readers of roll-ups call, through views and functions that run as their caller
GRANT EXECUTE ON FUNCTION billing_internal.usage_month_of(date), billing_internal.usage_days(date, bigint, numeric),
	billing_internal.usage_levels(date, timestamptz, bigint, numeric, text), billing_internal.usage_days_rows(billing.usage_days)
	TO billing_user;

-- Groups are hashed, and spill to files where they are more than fit.
CREATE OR REPLACE FUNCTION billing.roll_up_usage(entity text) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off SET work_mem = '64MB' SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_roll_up';
COMMENT ON FUNCTION billing.roll_up_usage(text) IS
	'Merges what no open transaction can add to into the roll-ups, and returns how many events that were; the worker does it every 30 seconds, and readers see all usage in any case; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing.rebuild_usage_rollup(entity text) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_sort = off SET work_mem = '64MB' SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_rebuild';
COMMENT ON FUNCTION billing.rebuild_usage_rollup(text) IS
	'Makes the roll-ups of all months anew whose events are there, and returns how many cells there are now; months whose events were detached keep theirs; for when billing.verify() finds that they differ; needs the duty biller or admin';

CREATE OR REPLACE FUNCTION billing_internal.roll_up_usage() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_seqscan = off SET enable_sort = off SET work_mem = '64MB' SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_roll_up_all';
COMMENT ON FUNCTION billing_internal.roll_up_usage() IS
	'Task roll_up_usage: rolls up the usage of every entity; what fails for one is noted in billing.usage_watermark and stops no other';

CREATE OR REPLACE FUNCTION billing_internal.restored_usage() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET enable_sort = off SET work_mem = '64MB' SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_restored';
COMMENT ON FUNCTION billing_internal.restored_usage() IS
	'Step of billing.post_restore(): rolls up every event there is, because the transactions of another cluster mean nothing in this one';

-- Alerts.

CREATE OR REPLACE FUNCTION billing.add_usage_alert(
	entity text, contract text, item text, quantity numeric DEFAULT NULL, amount numeric DEFAULT NULL) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_add_alert';
COMMENT ON FUNCTION billing.add_usage_alert(text, text, text, numeric, numeric) IS
	'Watches a usage item: its alert is raised, once in each billing period, when the period''s quantity or its amount reaches the threshold; returns the alert; needs the duty biller or contract_manager';

CREATE OR REPLACE FUNCTION billing.end_usage_alert(entity text, alert_id bigint) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_end_alert';
COMMENT ON FUNCTION billing.end_usage_alert(text, bigint) IS
	'Takes an alert back; what it raised stays; needs the duty biller or contract_manager';

CREATE OR REPLACE FUNCTION billing.raise_usage_alerts(entity text) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	SET plan_cache_mode = force_generic_plan
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_raise_alerts';
COMMENT ON FUNCTION billing.raise_usage_alerts(text) IS
	'Raises the alerts whose threshold is reached in the running billing period, in the one before (late usage), or in one that ended since anybody looked, and returns how many that were; the worker does it every minute; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing_internal.raise_usage_alerts() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off
	SET plan_cache_mode = force_generic_plan
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_raise_all_alerts';
COMMENT ON FUNCTION billing_internal.raise_usage_alerts() IS
	'Task usage_alerts: billing.raise_usage_alerts() for every entity';

-- An event's own price needs every event, and a meter that adds them up: what is gone with its month, or measured otherwise,
-- cannot be rated so.
CREATE OR REPLACE FUNCTION billing_internal.try_rate_counted(
	entity integer, account bigint, item bigint, meter bigint, from_day date, to_day date, dimensions text,
	tariff billing.tariff, events bigint) RETURNS numeric
	LANGUAGE SQL STABLE
RETURN (
	SELECT CASE WHEN count(e.event_id) = try_rate_counted.events AND (
				SELECT m.aggregation IN ('sum', 'count') AND m.quantity_scale IS NULL
				FROM billing.meter m
				WHERE m.entity_id = try_rate_counted.entity AND m.meter_id = try_rate_counted.meter)
			THEN billing_internal.try_rate_events(try_rate_counted.tariff, e.quantity ORDER BY e.occurred_at, e.event_id) END
	FROM billing_internal.counted_events(entity, account, item, meter, from_day, to_day) e
	WHERE e.dimensions = try_rate_counted.dimensions);
COMMENT ON FUNCTION billing_internal.try_rate_counted(integer, bigint, bigint, bigint, date, date, text, billing.tariff, bigint) IS
	'Rates usage event by event; null where an event cannot be rated, where not all of the events are there, or where the meter does not simply add them up';
