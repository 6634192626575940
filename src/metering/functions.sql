-- Taking usage in, taking up what was quarantined, and the checks.
--
-- The statements behind ingest and replay look up many keys in tables that may have been empty when the statement was planned:
-- they keep to the indexes, however the plan was made.

CREATE OR REPLACE FUNCTION billing.ingest_usage(entity text, events jsonb)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, unknown bigint, malformed bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_ingest_usage';
COMMENT ON FUNCTION billing.ingest_usage(text, jsonb) IS
	'Takes in usage: an array of CloudEvents 1.0 (id, source, type = meter, subject = billing account, time, data), each once; what cannot be taken becomes an exception; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing.replay_usage(entity text)
	RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, unknown bigint, malformed bigint)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_replay_usage';
COMMENT ON FUNCTION billing.replay_usage(text) IS
	'Takes in again the events in quarantine: those whose account or meter was unknown, and those that did not fit their meter; resolves the exceptions of those that are accepted; needs the duty biller or application';

CREATE OR REPLACE FUNCTION billing_internal.replay_all_usage() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_replay_all_usage';
COMMENT ON FUNCTION billing_internal.replay_all_usage() IS
	'Takes in again, for every entity, the waiting events whose account and meter exist by now; a task of the worker';

CREATE OR REPLACE FUNCTION billing_internal.usage_content_hash(
	event_type text, subject text, occurred_at timestamptz, data jsonb) RETURNS bytea
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_content_hash';
COMMENT ON FUNCTION billing_internal.usage_content_hash(text, text, timestamptz, jsonb) IS
	'SHA-256 of what a usage event says: its type, subject, time and data, compared by value';

CREATE OR REPLACE FUNCTION billing_internal.usage_number(value jsonb) RETURNS numeric
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_metering_usage_number';
COMMENT ON FUNCTION billing_internal.usage_number(jsonb) IS
	'The number that a value in an event''s data stands for: a JSON number, or a text that holds one; null where it is none';

CREATE OR REPLACE FUNCTION billing_internal.verify_metering(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'usage events match their hashes', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND e.content_hash <> billing_internal.usage_content_hash(e.event_type, e.subject, e.occurred_at, e.data)
	UNION ALL
	SELECT 'usage events count on their local day', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	JOIN billing.legal_entity l USING (entity_id)
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND e.usage_date <> (e.occurred_at AT TIME ZONE l.time_zone)::date
	UNION ALL
	SELECT 'usage quantities and expected amounts come from the events'' data', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	WHERE (entity IS NULL OR e.entity_id = entity)
		AND (e.expected_amount IS DISTINCT FROM billing_internal.usage_number(e.data -> 'expected_amount')
			OR (e.quantity <> 1 AND NOT EXISTS (
				SELECT FROM jsonb_each(e.data) d WHERE billing_internal.usage_number(d.value) = e.quantity)))
	UNION ALL
	SELECT 'usage events have an account and a meter', count(*), min(format('usage event %s', e.event_id))
	FROM billing.usage_event e
	LEFT JOIN billing.billing_account a USING (entity_id, account_id)
	LEFT JOIN billing.meter m USING (entity_id, meter_id)
	WHERE (entity IS NULL OR e.entity_id = entity) AND (a.account_id IS NULL OR m.meter_id IS NULL)
	UNION ALL
	SELECT 'usage exceptions keep their events', count(*), min(format('exception %s', x.exception_id))
	FROM billing.exception x
	WHERE (entity IS NULL OR x.entity_id = entity) AND x.kind LIKE 'usage\_%' AND x.payload IS NULL;
END;
COMMENT ON FUNCTION billing_internal.verify_metering(integer) IS
	'Checks of usage: hashes, days, quantities, accounts and meters, and the payloads of exceptions';
