-- The audit log, and the triggers that keep it.

CREATE TABLE billing.audit_log (
	entity_id      integer     NOT NULL,
	audit_id       bigserial,
	recorded_at    timestamptz NOT NULL DEFAULT now(),
	transaction_id xid8        NOT NULL DEFAULT pg_current_xact_id(),
	actor          text,
	login          name        NOT NULL DEFAULT session_user,
	action         text        NOT NULL,
	object_type    text        NOT NULL,
	object_id      text,
	before         jsonb,
	after          jsonb,
	reason         text,
	hash           bytea       NOT NULL DEFAULT '',
	CONSTRAINT audit_log_pkey PRIMARY KEY (entity_id, audit_id),
	CONSTRAINT audit_log_hash_is_sha256 CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_log_by_object ON billing.audit_log (entity_id, object_type, object_id);
COMMENT ON TABLE billing.audit_log IS
	'Who did what, when and why: one record per action on a document and per edited row of master data; records are never changed';
COMMENT ON COLUMN billing.audit_log.entity_id IS 'The entity concerned; 0 is the installation itself';
COMMENT ON COLUMN billing.audit_log.audit_id IS 'Key within the entity';
COMMENT ON COLUMN billing.audit_log.recorded_at IS 'When the transaction began';
COMMENT ON COLUMN billing.audit_log.transaction_id IS 'The transaction';
COMMENT ON COLUMN billing.audit_log.actor IS 'Code of the person who acted; null for a database administrator who is no person';
COMMENT ON COLUMN billing.audit_log.login IS 'The session user';
COMMENT ON COLUMN billing.audit_log.action IS 'What was done, such as insert, update, issue';
COMMENT ON COLUMN billing.audit_log.object_type IS 'Kind of document, or name of the table';
COMMENT ON COLUMN billing.audit_log.object_id IS 'Key of the document or row within the entity';
COMMENT ON COLUMN billing.audit_log.before IS 'The row or document before, null where it did not exist';
COMMENT ON COLUMN billing.audit_log.after IS 'The row or document after';
COMMENT ON COLUMN billing.audit_log.reason IS 'Why, as the actor said';
COMMENT ON COLUMN billing.audit_log.hash IS 'SHA-256 of the record''s canonical bytes';

CREATE FUNCTION billing_internal.complete_audit_record() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_complete';
COMMENT ON FUNCTION billing_internal.complete_audit_record() IS
	'Row trigger of the audit log: adds actor, login, time, transaction and hash';

CREATE FUNCTION billing_internal.audit_rows() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_rows';
COMMENT ON FUNCTION billing_internal.audit_rows() IS
	'Statement trigger: writes an audit record for every row that a statement inserted, updated or deleted';

CREATE FUNCTION billing_internal.audit_table(table_name regclass, object_type text, key text) RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_table';
COMMENT ON FUNCTION billing_internal.audit_table(regclass, text, text) IS
	'Has every edited row of a table audited; install scripts call it';

SELECT billing_internal.protect('billing.audit_log', 'append_only');

CREATE TRIGGER b_complete BEFORE INSERT ON billing.audit_log
	FOR EACH ROW EXECUTE FUNCTION billing_internal.complete_audit_record();

SELECT billing_internal.audit_table('billing.legal_entity', 'legal_entity', 'entity_id');
SELECT billing_internal.audit_table('billing.person', 'person', 'person_id');
SELECT billing_internal.audit_table('billing.person_login', 'person_login', 'role_name');
SELECT billing_internal.audit_table('billing.duty_assignment', 'duty_assignment', 'assignment_id');
