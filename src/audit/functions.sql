-- The hash of a record, and its check.

CREATE OR REPLACE FUNCTION billing.set_correlation(id text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_set_correlation';
COMMENT ON FUNCTION billing.set_correlation(text) IS
	'Says which request of an application the transaction serves: every audit record from here to its end has it; null ends it';

CREATE OR REPLACE FUNCTION billing.current_correlation() RETURNS text
	STABLE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_current_correlation';
COMMENT ON FUNCTION billing.current_correlation() IS
	'What billing.set_correlation() said in this transaction';

CREATE OR REPLACE FUNCTION billing_internal.audit_bytes(record billing.audit_log) RETURNS bytea
	STABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_record_bytes';
COMMENT ON FUNCTION billing_internal.audit_bytes(billing.audit_log) IS
	'The canonical bytes of an audit record; their SHA-256 is its hash';

CREATE OR REPLACE FUNCTION billing_internal.audit_hash(record billing.audit_log) RETURNS bytea
	STABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_record_hash';
COMMENT ON FUNCTION billing_internal.audit_hash(billing.audit_log) IS
	'SHA-256 of the canonical bytes of an audit record';

CREATE OR REPLACE FUNCTION billing.seal_audit(entity text DEFAULT NULL) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_seal';
COMMENT ON FUNCTION billing.seal_audit(text) IS
	'Seals the audit records that are final into the next blocks of their chains, of an entity or, for members of billing_owner, of all; returns how many';

CREATE OR REPLACE FUNCTION billing_internal.seal_audits() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_seal_all';
COMMENT ON FUNCTION billing_internal.seal_audits() IS
	'Task seal_audit: seals the audit records that are final';

-- The commands by which pg_restore makes the extension's objects are on record before its rows come, which have their own record of
-- everything: what a database without any entity has recorded makes way.
CREATE OR REPLACE FUNCTION billing_internal.restoring_audit() RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	DELETE FROM billing.audit_watermark WHERE NOT EXISTS (SELECT FROM billing.legal_entity);
	DELETE FROM billing.audit_block WHERE NOT EXISTS (SELECT FROM billing.legal_entity);
	DELETE FROM billing.audit_log WHERE NOT EXISTS (SELECT FROM billing.legal_entity);
END;
COMMENT ON FUNCTION billing_internal.restoring_audit() IS
	'Step of billing.pre_restore(): drops what was recorded before there was any entity';

CREATE OR REPLACE FUNCTION billing_internal.restored_audit() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_restored';
COMMENT ON FUNCTION billing_internal.restored_audit() IS
	'Step of billing.post_restore(): every chain of audit blocks goes on with a fork';

CREATE OR REPLACE FUNCTION billing.audit_proof(entity text, audit_id bigint) RETURNS jsonb
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_proof';
COMMENT ON FUNCTION billing.audit_proof(text, bigint) IS
	'The proof that an audit record is in its block: its bytes, its leaf, the path to the root, and the block';

CREATE OR REPLACE FUNCTION billing.audit_digest(entity text) RETURNS jsonb
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_digest';
COMMENT ON FUNCTION billing.audit_digest(text) IS
	'The head of an entity''s chain of audit blocks, to be kept outside of the database; null is the installation''s';

CREATE OR REPLACE FUNCTION billing.verify_audit(entity text DEFAULT NULL, digest jsonb DEFAULT NULL)
	RETURNS TABLE (invariant text, violations bigint, example text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_verify';
COMMENT ON FUNCTION billing.verify_audit(text, jsonb) IS
	'Recomputes the hash of every audit record, block and link of an entity, or of all that the actor may see, compares the chain with a digest that was kept outside, and names the first record that does not match';

CREATE OR REPLACE FUNCTION billing_internal.verify_audit(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_verify_internal';
COMMENT ON FUNCTION billing_internal.verify_audit(integer) IS
	'Checks of the audit log, as billing.verify_audit() does them';

CREATE OR REPLACE FUNCTION billing_internal.audit_commitment(salt bytea, value jsonb) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_commitment';
COMMENT ON FUNCTION billing_internal.audit_commitment(bytea, jsonb) IS
	'What stands in the audit log for a value that tells of a person';

CREATE OR REPLACE FUNCTION billing_internal.reveal_personal(entity integer, content jsonb) RETURNS jsonb
	LANGUAGE SQL STABLE
RETURN CASE WHEN content::text LIKE '%{"personal": "%' THEN (
	SELECT jsonb_object_agg(e.key, coalesce(p.value, e.value))
	FROM jsonb_each(content) e
	LEFT JOIN billing.audit_personal p ON p.entity_id = entity AND p.commitment =
		CASE WHEN e.value ->> 'personal' ~ '^[0-9a-f]{64}$' THEN decode(e.value ->> 'personal', 'hex') END)
	ELSE content END;
COMMENT ON FUNCTION billing_internal.reveal_personal(integer, jsonb) IS
	'Puts the values that tell of persons into their places in the content of an audit record; what was erased stays as it is';
GRANT EXECUTE ON FUNCTION billing_internal.reveal_personal(integer, jsonb) TO billing_user;

CREATE OR REPLACE FUNCTION billing_internal.rows_digest_add(internal, VARIADIC "any") RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_rows_add';
COMMENT ON FUNCTION billing_internal.rows_digest_add(internal, "any") IS
	'Step of rows_digest()';

CREATE OR REPLACE FUNCTION billing_internal.rows_digest_end(internal) RETURNS bytea
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_rows_end';
COMMENT ON FUNCTION billing_internal.rows_digest_end(internal) IS
	'Step of rows_digest()';

CREATE OR REPLACE AGGREGATE billing_internal.rows_digest(VARIADIC "any") (
	SFUNC = billing_internal.rows_digest_add, STYPE = internal, FINALFUNC = billing_internal.rows_digest_end, PARALLEL = SAFE);
COMMENT ON AGGREGATE billing_internal.rows_digest(VARIADIC "any") IS
	'SHA-256 of rows in canonical bytes, in the order in which they come: what an audit record knows of a document''s lines and taxes';

CREATE OR REPLACE FUNCTION billing_internal.audit_event() RETURNS event_trigger
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_event';
COMMENT ON FUNCTION billing_internal.audit_event() IS
	'Event trigger: records what is done to the objects of the extension';

CREATE OR REPLACE FUNCTION billing_internal.verify_personal(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'values kept aside are those that the audit log committed to', count(*), min(format('%s of customer %s', p.field, p.customer_id))
	FROM billing.audit_personal p
	WHERE (entity IS NULL OR p.entity_id = entity)
		AND p.commitment IS DISTINCT FROM billing_internal.audit_commitment(p.salt, p.value);
END;
COMMENT ON FUNCTION billing_internal.verify_personal(integer) IS
	'Checks of what the audit log knows of persons: each value has its commitment';

CREATE OR REPLACE FUNCTION billing_internal.verify_guards(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH member AS (
		SELECT c.oid, c.oid::regclass::text AS name, c.relrowsecurity, c.relforcerowsecurity,
			EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'entity_id' AND NOT a.attisdropped) AS has_entity
		FROM pg_depend d
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'billing_erp'
		JOIN pg_class c ON c.oid = d.objid
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND c.relkind IN ('r', 'p')
	), fault AS (
		SELECT m.name || ' has no guard against direct writes' AS what
		FROM member m
		WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = m.oid AND t.tgname = 'a_guard_writes')
		UNION ALL
		SELECT format('trigger %s of %s is disabled', t.tgname, m.name)
		FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid
		WHERE t.tgenabled IN ('D', 'R')
		UNION ALL
		SELECT m.name || ' has no row-level security'
		FROM member m
		WHERE m.has_entity AND NOT (m.relrowsecurity AND m.relforcerowsecurity
			AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = m.oid AND p.polname = 'entity_isolation'))
		UNION ALL
		SELECT 'the audit log does not complete its records'
		WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'billing.audit_log'::regclass AND t.tgname = 'b_complete')
		UNION ALL
		SELECT format('event trigger %s is missing or disabled', n.name)
		FROM (VALUES ('billing_audit_commands'), ('billing_audit_drops')) AS n (name)
		WHERE NOT EXISTS (SELECT FROM pg_event_trigger t WHERE t.evtname = n.name AND t.evtenabled = 'A'))
	SELECT 'the guards of the tables stand', count(*), min(f.what) FROM fault f;
END;
COMMENT ON FUNCTION billing_internal.verify_guards(integer) IS
	'Checks that no trigger, policy or event trigger of the extension is missing or disabled';

CREATE OR REPLACE FUNCTION billing_internal.merkle_root(leaves bytea[]) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_merkle_root';
COMMENT ON FUNCTION billing_internal.merkle_root(bytea[]) IS
	'The root of the Merkle tree of RFC 6962 over the hashes of leaves';

CREATE OR REPLACE FUNCTION billing_internal.merkle_path(leaves bytea[], index integer) RETURNS bytea[]
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_merkle_path';
COMMENT ON FUNCTION billing_internal.merkle_path(bytea[], integer) IS
	'The inclusion path of a leaf, counted from 0, from below, in a Merkle tree of RFC 6962; null where there is no such leaf';
