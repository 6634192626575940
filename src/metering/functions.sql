-- Taking usage in, taking up what was quarantined, and the checks.
--
-- The statements behind ingest and replay look up many keys in tables that may have been empty when the statement was planned:
-- they keep to the indexes, however the plan was made.

CREATE OR REPLACE FUNCTION billing.ingest_usage(entity text, events jsonb)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_ingest_usage';
COMMENT ON FUNCTION billing.ingest_usage(text, jsonb) IS
	'Takes in usage: an array of CloudEvents 1.0 (id, source, type = meter, subject = billing account, time, data), each once; what cannot be taken becomes an exception; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing.ingest_usage(entity text, source text[], id text[], type text[], subject text[],
	"time" timestamptz[], data jsonb[] DEFAULT NULL)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_ingest_usage_columns';
COMMENT ON FUNCTION billing.ingest_usage(text, text[], text[], text[], text[], timestamptz[], jsonb[]) IS
	'Takes in usage whose attributes come in arrays, one element an event; source may have one for all; otherwise as with JSON; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing.drain_usage_inbox(entity text DEFAULT NULL, most integer DEFAULT 100000)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_drain_usage_inbox';
COMMENT ON FUNCTION billing.drain_usage_inbox(text, integer) IS
	'Takes in what waits in billing.usage_inbox, at most so many rows: of one entity, which needs the duty biller or application; or of all, for members of billing_owner, refused rows once more';

CREATE OR REPLACE FUNCTION billing_internal.drain_inboxes() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_drain_inboxes';
COMMENT ON FUNCTION billing_internal.drain_inboxes() IS
	'Takes in what waits in billing.usage_inbox, of all entities; a task of the worker';

CREATE OR REPLACE FUNCTION billing.replay_usage(entity text)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_replay_usage';
COMMENT ON FUNCTION billing.replay_usage(text) IS
	'Takes in again the events in quarantine: those whose account or meter was unknown, and those that did not fit their meter; resolves the exceptions of those that are accepted; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing_internal.replay_all_usage() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_replay_all_usage';
COMMENT ON FUNCTION billing_internal.replay_all_usage() IS
	'Takes in again, for every entity, the waiting events whose account and meter exist by now; a task of the worker';

CREATE OR REPLACE FUNCTION billing.set_usage_policy(
	entity text, late_after_days integer DEFAULT NULL, late_action text DEFAULT NULL, correction_limit numeric DEFAULT NULL,
	suggestion_threshold numeric DEFAULT NULL, retention_months integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_set_usage_policy';
COMMENT ON FUNCTION billing.set_usage_policy(text, integer, text, numeric, numeric, integer) IS
	'Decides about the usage of an entity, all at once: when an event is late and whether it is then billed or held, what is corrected without approval, from which confidence a suggested subject is applied, how many months are kept; null is what holds where nothing is decided; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.add_usage_alias(
	entity text, alias text, account text DEFAULT NULL, contract text DEFAULT NULL, item text DEFAULT NULL,
	valid_from date DEFAULT NULL, valid_to date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_add_alias';
COMMENT ON FUNCTION billing.add_usage_alias(text, text, text, text, text, date, date) IS
	'Has events with a subject count for a billing account, or for a contract item with usage of its own, from a day to the day before another; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.end_usage_alias(entity text, alias text, day date) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_end_alias';
COMMENT ON FUNCTION billing.end_usage_alias(text, text, date) IS
	'Ends an alias with the day before the given one, which may be past; what was already taken in stays where it is; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing_internal.knows_subject(entity integer, subject text) RETURNS boolean
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM billing.billing_account a WHERE a.entity_id = entity AND a.code = subject)
		OR EXISTS (SELECT FROM billing.usage_alias a WHERE a.entity_id = entity AND a.alias = subject)
		OR (EXISTS (SELECT FROM billing.contract_item i WHERE i.entity_id = entity AND i.own_usage)
			AND (SELECT count(*) = 1
				FROM generate_series(2, length(subject) - 1) AS n
				JOIN billing.contract c ON c.entity_id = entity AND c.code = left(subject, n - 1)
				JOIN billing.contract_item i ON i.entity_id = entity AND i.contract_id = c.contract_id
					AND i.code = substr(subject, n + 1) AND i.own_usage
				WHERE substr(subject, n, 1) = '/'));
END;
COMMENT ON FUNCTION billing_internal.knows_subject(integer, text) IS
	'Whether events with a subject find an account or a contract item, on some day at least';

CREATE OR REPLACE FUNCTION billing.release_usage(
	entity text, reason text, subject text DEFAULT NULL, exceptions bigint[] DEFAULT NULL)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_release_usage';
COMMENT ON FUNCTION billing.release_usage(text, text, text, bigint[]) IS
	'Takes in usage that is held because it was late, all of it, or of a subject, or of some exceptions of kind usage_late, and resolves their exceptions; needs the duty biller';

CREATE OR REPLACE FUNCTION billing.make_usage_months(from_day date, to_day date) RETURNS integer
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_make_months';
COMMENT ON FUNCTION billing.make_usage_months(date, date) IS
	'Makes the partitions of billing.usage_event for the months from one day to another, and returns how many were missing; also between pre_restore() and post_restore(), for a dump of the data alone; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing_internal.make_usage_months() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_make_coming_months';
COMMENT ON FUNCTION billing_internal.make_usage_months() IS
	'Makes the partitions of billing.usage_event for this month and the next three; a task of the worker';

CREATE OR REPLACE FUNCTION billing.close_usage(entity text, month date) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_close_usage';
COMMENT ON FUNCTION billing.close_usage(text, date) IS
	'Closes the usage of the month that the day lies in, which must be over, seals its events with a digest and returns how many they are; what comes later for it becomes an exception; needs the duty accountant';

CREATE OR REPLACE FUNCTION billing.reopen_usage(entity text, month date, reason text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_reopen_usage';
COMMENT ON FUNCTION billing.reopen_usage(text, date, text) IS
	'Opens a closed month of usage again; billing.replay_usage() then takes in what came for it meanwhile; needs the duty accountant';

CREATE OR REPLACE FUNCTION billing_internal.usage_month_digest(
	entity integer, month date, OUT events bigint, OUT digest bytea)
	STABLE STRICT
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_month_digest';
COMMENT ON FUNCTION billing_internal.usage_month_digest(integer, date) IS
	'How many events an entity has in a month, and the SHA-256 of them: a line of JSON for each, in the order of their ids';

CREATE OR REPLACE FUNCTION billing_internal.usage_moment("time" text) RETURNS timestamptz
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_usage_moment';
COMMENT ON FUNCTION billing_internal.usage_moment(text) IS
	'The moment that an event''s time stands for (RFC 3339); null where it is none';
GRANT EXECUTE ON FUNCTION billing_internal.usage_moment(text) TO billing_user;

CREATE OR REPLACE FUNCTION billing.suggest_subject(entity text, subject text)
	RETURNS TABLE (kind text, account text, contract text, item text, confidence numeric, reason text)
	STABLE ROWS 5 COST 100000 SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_suggest_subject';
COMMENT ON FUNCTION billing.suggest_subject(text, text) IS
	'What an unknown subject may mean, at most five targets, the best first: found by the name of an account or contract item, or by an earlier alias (kind), with a confidence from 0 to 1 and the reason';

CREATE OR REPLACE FUNCTION billing_internal.apply_suggestions() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET datestyle = ISO SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_apply_suggestions';
COMMENT ON FUNCTION billing_internal.apply_suggestions() IS
	'Makes aliases of unknown subjects whose suggestion reaches the entity''s threshold and has no rival; a task of the worker';

CREATE OR REPLACE FUNCTION billing_internal.usual_form(name text) RETURNS text
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_usual_form';
COMMENT ON FUNCTION billing_internal.usual_form(text) IS
	'What stays of a name in lower case, without separators and leading zeros';

CREATE OR REPLACE FUNCTION billing_internal.alike(a text, b text) RETURNS numeric
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_alike';
COMMENT ON FUNCTION billing_internal.alike(text, text) IS
	'How much of the usual forms of two names is alike: trigrams in both by trigrams in either, from 0 to 1';

CREATE OR REPLACE FUNCTION billing_internal.usage_content(
	event_type text, subject text, occurred_at timestamptz, data jsonb) RETURNS uuid
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_content';
COMMENT ON FUNCTION billing_internal.usage_content(text, text, timestamptz, jsonb) IS
	'The first 128 bits of the SHA-256 of what a usage event says: its type, subject, time and data, compared by value';

CREATE OR REPLACE FUNCTION billing_internal.usage_key_of(source text, event_key text) RETURNS uuid
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_key_of';
COMMENT ON FUNCTION billing_internal.usage_key_of(text, text) IS
	'What billing.usage_key calls an event: the first 128 bits of the SHA-256 of its source and id';

CREATE OR REPLACE FUNCTION billing_internal.usage_void_key(source text, event_key text, event_id bigint) RETURNS uuid
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_void_key';
COMMENT ON FUNCTION billing_internal.usage_void_key(text, text, bigint) IS
	'What billing.usage_key calls the place of a row that was taken back: its event_id is the row that stands there now. Whoever takes this key takes the row back, so that it happens once';

CREATE OR REPLACE FUNCTION billing_internal.usage_content_key(source text, event_key text, content uuid) RETURNS uuid
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_content_key';
COMMENT ON FUNCTION billing_internal.usage_content_key(text, text, uuid) IS
	'What billing.usage_key calls a content that replaced an event''s: another delivery of it is a duplicate';

CREATE OR REPLACE FUNCTION billing_internal.usage_number(value jsonb) RETURNS numeric
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_usage_number';
COMMENT ON FUNCTION billing_internal.usage_number(jsonb) IS
	'The number that a value in an event''s data stands for: a JSON number, or a text that holds one; null where it is none';

CREATE OR REPLACE FUNCTION billing_internal.is_measured(
	aggregation text, value_field text, filter text, group_by text[], data jsonb, quantity numeric, dimensions text, sample text)
	RETURNS boolean
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_is_measured';
COMMENT ON FUNCTION billing_internal.is_measured(text, text, text, text[], jsonb, numeric, text, text) IS
	'Whether a meter of such a definition takes this quantity, these dimensions and this sample from an event''s data';

CREATE OR REPLACE FUNCTION billing_internal.counted_events(
	entity integer, account bigint, item bigint, meter bigint, from_day date, to_day date) RETURNS SETOF billing.usage_event
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT e.*
	FROM billing.usage_event e
	WHERE e.entity_id = entity AND e.account_id = account AND e.item_id = item AND e.meter_id = meter
		AND e.usage_date >= from_day AND e.usage_date < to_day
		AND e.weight = 1 AND e.quantity IS NOT NULL
		AND NOT EXISTS (
			SELECT FROM billing.usage_event v
			WHERE v.entity_id = entity AND v.account_id = account AND v.meter_id = meter AND v.usage_date = e.usage_date
				AND v.weight = -1 AND v.corrects_event_id = e.event_id);
END;
COMMENT ON FUNCTION billing_internal.counted_events(integer, bigint, bigint, bigint, date, date) IS
	'The events of an account, or of an item with usage of its own, that count: neither taken back nor left out by the meter''s filter';

CREATE OR REPLACE FUNCTION billing_internal.restored_metering() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_restored';
COMMENT ON FUNCTION billing_internal.restored_metering() IS
	'Step of billing.post_restore(): raises ZB011 where keys of usage have no events, because the months were not there to be restored into';

CREATE OR REPLACE FUNCTION billing_internal.verify_metering(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'usage events match their hashes', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND e.weight = 1 AND e.content <> billing_internal.usage_content(e.event_type, e.subject, e.occurred_at, e.data)
	UNION ALL
	SELECT 'usage events count on their local day', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	JOIN billing.legal_entity l USING (entity_id)
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND e.usage_date <> (e.occurred_at AT TIME ZONE l.time_zone)::date
	UNION ALL
	-- value_field and filter may change: then the meter's history says what they were
	SELECT 'usage quantities and expected amounts come from the events'' data', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	JOIN billing.meter m USING (entity_id, meter_id)
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND e.weight = 1
		AND (e.expected_amount IS DISTINCT FROM billing_internal.usage_number(e.data -> 'expected_amount')
			OR (NOT billing_internal.is_measured(m.aggregation, m.value_field, m.filter, m.group_by,
					e.data, e.quantity, e.dimensions, e.sample)
				AND NOT EXISTS (
					SELECT FROM billing.audit_log a
					CROSS JOIN LATERAL (
						-- a record has what changed: the rest is as an earlier one left it
						SELECT (array_agg(b.after ->> 'value_field' ORDER BY b.audit_id DESC) FILTER (WHERE b.after ? 'value_field'))[1] AS value_field,
							(array_agg(b.after ->> 'filter' ORDER BY b.audit_id DESC) FILTER (WHERE b.after ? 'filter'))[1] AS filter
						FROM billing.audit_log b
						WHERE b.entity_id = a.entity_id AND b.object_type = 'meter' AND b.object_id = a.object_id AND b.audit_id <= a.audit_id
					) past
					WHERE a.entity_id = e.entity_id AND a.object_type = 'meter' AND a.object_id = e.meter_id::text
						AND billing_internal.is_measured(m.aggregation, past.value_field, past.filter, m.group_by,
							e.data, e.quantity, e.dimensions, e.sample))))
	UNION ALL
	SELECT 'usage events have an account and a meter', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	LEFT JOIN billing.billing_account a USING (entity_id, account_id)
	LEFT JOIN billing.meter m USING (entity_id, meter_id)
	WHERE (entity IS NULL OR e.entity_id = entity) AND (a.account_id IS NULL OR m.meter_id IS NULL)
	UNION ALL
	SELECT 'usage of a contract item is of its account and its meter', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	LEFT JOIN billing.contract_item i USING (entity_id, item_id)
	WHERE (entity IS NULL OR e.entity_id = entity) AND e.item_id <> 0
		AND (i.account_id = e.account_id AND i.meter_id = e.meter_id AND i.own_usage) IS NOT TRUE
	UNION ALL
	SELECT 'usage aliases of contract items lead to the usage that these charge for', count(*), min(format('alias %s', a.alias))
	FROM billing.usage_alias a
	JOIN billing.contract_item i USING (entity_id, item_id)
	WHERE (entity IS NULL OR a.entity_id = entity) AND (i.account_id <> a.account_id OR NOT i.own_usage)
	UNION ALL
	SELECT 'closed months of usage are as they were closed', count(*), min(format('%s of entity %s', to_char(m.month, 'YYYY-MM'), m.entity_id))
	FROM billing.usage_month m
	CROSS JOIN LATERAL billing_internal.usage_month_digest(m.entity_id, m.month) d
	WHERE (entity IS NULL OR m.entity_id = entity) AND m.state = 'closed' AND (d.events, d.digest) IS DISTINCT FROM (m.events, m.digest)
	UNION ALL
	SELECT 'usage exceptions keep their events', count(*), min(format('exception %s', x.exception_id))
	FROM billing.exception x
	WHERE (entity IS NULL OR x.entity_id = entity) AND x.kind LIKE 'usage\_%' AND x.payload IS NULL;
END;
COMMENT ON FUNCTION billing_internal.verify_metering(integer) IS
	'Checks of usage: hashes, days, quantities, accounts and meters, and the payloads of exceptions';

CREATE OR REPLACE FUNCTION billing_internal.verify_metering_corrections(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH correcting AS MATERIALIZED (
		SELECT e.*, k.event_id AS stands_id, k.content AS stands_content
		FROM billing.usage_event e
		LEFT JOIN billing.usage_key k ON k.entity_id = e.entity_id
			AND k.key = billing_internal.usage_void_key(e.source, e.event_key, e.corrects_event_id)
		WHERE (entity IS NULL OR e.entity_id = entity) AND (e.weight = -1 OR e.corrects_event_id IS NOT NULL)
	)
	SELECT 'what takes an event back is like it in all but the sign', count(*), min(format('usage event %s', v.event_id))
	FROM correcting v
	LEFT JOIN billing.usage_event e ON e.entity_id = v.entity_id AND e.event_id = v.corrects_event_id AND e.usage_date = v.usage_date
	WHERE v.weight = -1 AND (
		e.weight IS DISTINCT FROM 1 OR v.correction_id IS NULL
		OR (v.source, v.event_key, v.event_type, v.subject, v.account_id, v.item_id, v.meter_id, v.occurred_at, v.dimensions, v.sample, v.content)
			<> (e.source, e.event_key, e.event_type, e.subject, e.account_id, e.item_id, e.meter_id, e.occurred_at, e.dimensions, e.sample, e.content)
		OR v.quantity IS DISTINCT FROM e.quantity OR v.expected_amount IS DISTINCT FROM e.expected_amount OR v.data IS DISTINCT FROM e.data)
	UNION ALL
	SELECT 'no event is taken back twice', count(*), min(format('usage event %s', t.corrects_event_id))
	FROM (SELECT v.entity_id, v.corrects_event_id, v.weight
		FROM correcting v
		GROUP BY v.entity_id, v.corrects_event_id, v.weight
		HAVING count(*) > 1) t
	UNION ALL
	SELECT 'the key of what was taken back names what stands in its place', count(*), min(format('usage event %s', v.event_id))
	FROM correcting v
	WHERE v.stands_id IS NULL
		OR (v.stands_id <> v.event_id AND (v.weight = 1 OR v.stands_content = '00000000-0000-0000-0000-000000000000'))
		OR (v.weight = 1 AND NOT EXISTS (
			SELECT FROM billing.usage_key k
			WHERE k.entity_id = v.entity_id AND k.content = v.content
				AND k.key = billing_internal.usage_content_key(v.source, v.event_key, v.content)));
END;
COMMENT ON FUNCTION billing_internal.verify_metering_corrections(integer) IS
	'Checks of the rows that corrections wrote: each negates its event exactly, once, and the keys say so';
