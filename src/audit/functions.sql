-- The hash of a record, and its check.

CREATE OR REPLACE FUNCTION billing_internal.audit_hash(
	entity_id integer, audit_id bigint, recorded_at timestamptz, transaction_id xid8, actor text, login name,
	action text, object_type text, object_id text, before jsonb, after jsonb, reason text) RETURNS bytea
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_record_hash';
COMMENT ON FUNCTION billing_internal.audit_hash(integer, bigint, timestamptz, xid8, text, name, text, text, text, jsonb, jsonb, text) IS
	'SHA-256 of the canonical bytes of an audit record';

CREATE OR REPLACE FUNCTION billing_internal.verify_audit(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'audit records match their hashes', count(*), min(format('audit record %s', a.audit_id))
	FROM billing.audit_log a
	WHERE (entity IS NULL OR a.entity_id = entity)
		AND a.hash <> billing_internal.audit_hash(
			a.entity_id, a.audit_id, a.recorded_at, a.transaction_id, a.actor, a.login, a.action, a.object_type,
			a.object_id, a.before, a.after, a.reason);
END;
COMMENT ON FUNCTION billing_internal.verify_audit(integer) IS
	'Checks of the audit log: every record still has its hash';
