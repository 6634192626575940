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
	client_address text,
	application    text,
	correlation_id text,
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
COMMENT ON COLUMN billing.audit_log.client_address IS 'Network address of the client; local for a socket of the server''s machine, null for a background process';
COMMENT ON COLUMN billing.audit_log.application IS 'The session''s application_name';
COMMENT ON COLUMN billing.audit_log.correlation_id IS 'The request that the transaction served, as the application called it with billing.set_correlation()';
COMMENT ON COLUMN billing.audit_log.hash IS 'SHA-256 of the record''s canonical bytes: a leaf of the Merkle tree of RFC 6962';

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

CREATE FUNCTION billing_internal.audit_table(
	table_name regclass, object_type text, key text, subject text DEFAULT NULL, personal text[] DEFAULT NULL) RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_audit_table';
COMMENT ON FUNCTION billing_internal.audit_table(regclass, text, text, text, text[]) IS
	'Has every edited row of a table audited; columns that tell of a person, the customer in the column subject, stand aside in billing.audit_personal; install scripts call it';

CREATE TABLE billing.audit_personal (
	entity_id   integer NOT NULL,
	commitment  bytea   NOT NULL,
	customer_id bigint  NOT NULL,
	field       text    NOT NULL,
	salt        bytea   NOT NULL,
	value       jsonb   NOT NULL,
	CONSTRAINT audit_personal_pkey PRIMARY KEY (entity_id, commitment),
	CONSTRAINT audit_personal_hashes_are_sha256 CHECK (octet_length(commitment) = 32 AND octet_length(salt) = 32)
);
CREATE INDEX audit_personal_by_customer ON billing.audit_personal (entity_id, customer_id);
COMMENT ON TABLE billing.audit_personal IS
	'What the audit log knows of customers as persons: the log has a commitment to each value, so that the value can be erased and the log still be proved';
COMMENT ON COLUMN billing.audit_personal.entity_id IS 'The entity whose customer it is';
COMMENT ON COLUMN billing.audit_personal.commitment IS 'What stands in the log: SHA-256 of the salt and the canonical bytes of the value';
COMMENT ON COLUMN billing.audit_personal.customer_id IS 'The customer';
COMMENT ON COLUMN billing.audit_personal.field IS 'The column that had the value';
COMMENT ON COLUMN billing.audit_personal.salt IS '32 random bytes, without which nobody can try out what the value was';
COMMENT ON COLUMN billing.audit_personal.value IS 'The value';
SELECT billing_internal.protect('billing.audit_personal', 'queue');

SELECT billing_internal.protect('billing.audit_log', 'append_only');

-- Blocks of the audit log: a chain per entity, each block the root of a Merkle tree over its records.
CREATE TABLE billing.audit_block (
	entity_id         integer     NOT NULL,
	block_no          bigint      NOT NULL,
	kind              text        NOT NULL,
	after_audit_id    bigint      NOT NULL,
	through_audit_id  bigint      NOT NULL,
	record_count      bigint      NOT NULL,
	root              bytea       NOT NULL,
	previous_hash     bytea,
	horizon           xid8        NOT NULL,
	system_identifier bigint      NOT NULL,
	timeline          integer     NOT NULL,
	sealed_at         timestamptz NOT NULL,
	note              text,
	layout            smallint    NOT NULL,
	hash              bytea       NOT NULL,
	leaves            bytea       NOT NULL,
	CONSTRAINT audit_block_pkey PRIMARY KEY (entity_id, block_no),
	CONSTRAINT audit_block_kind_known CHECK (kind IN ('seal', 'fork')),
	CONSTRAINT audit_block_ids_ascend CHECK (through_audit_id >= after_audit_id),
	CONSTRAINT audit_block_first_has_no_previous CHECK ((block_no = 1) = (previous_hash IS NULL)),
	CONSTRAINT audit_block_hashes_are_sha256 CHECK (octet_length(hash) = 32 AND octet_length(root) = 32 AND octet_length(previous_hash) = 32),
	CONSTRAINT audit_block_leaf_for_each_record CHECK (octet_length(leaves) = 32 * record_count)
);
-- hashes do not compress
ALTER TABLE billing.audit_block ALTER COLUMN leaves SET STORAGE EXTERNAL;
COMMENT ON TABLE billing.audit_block IS
	'Seals of the audit log: each covers the records of a range of ids by the root of a Merkle tree, and the block before by its hash';
COMMENT ON COLUMN billing.audit_block.entity_id IS 'The entity whose records are sealed; 0 is the installation itself';
COMMENT ON COLUMN billing.audit_block.block_no IS 'Number in the entity''s chain, from 1';
COMMENT ON COLUMN billing.audit_block.kind IS 'seal; or fork: from here on another server wrote, after a restore or a failover';
COMMENT ON COLUMN billing.audit_block.after_audit_id IS 'The records after this id belong to the block; the last one of the block before';
COMMENT ON COLUMN billing.audit_block.through_audit_id IS 'Up to and including this id';
COMMENT ON COLUMN billing.audit_block.record_count IS 'How many records there are';
COMMENT ON COLUMN billing.audit_block.root IS 'Root of the Merkle tree of RFC 6962 over the records in the order of their ids';
COMMENT ON COLUMN billing.audit_block.previous_hash IS 'Hash of the block before; null in the first';
COMMENT ON COLUMN billing.audit_block.horizon IS 'The transactions before this one had ended, and with them all that could write a record of the block';
COMMENT ON COLUMN billing.audit_block.system_identifier IS 'The database cluster, as pg_controldata shows it';
COMMENT ON COLUMN billing.audit_block.timeline IS 'The cluster''s timeline: it changes with a failover and a recovery to a point in time';
COMMENT ON COLUMN billing.audit_block.sealed_at IS 'When the block was made';
COMMENT ON COLUMN billing.audit_block.note IS 'Of a fork, what happened';
COMMENT ON COLUMN billing.audit_block.layout IS 'Version of the canonical bytes of records and blocks';
COMMENT ON COLUMN billing.audit_block.hash IS 'SHA-256 of the columns above in canonical bytes';
COMMENT ON COLUMN billing.audit_block.leaves IS 'The hashes of the records, one after the other: they tell which record is not the one that was sealed';
SELECT billing_internal.protect('billing.audit_block', 'append_only');

CREATE TABLE billing.audit_watermark (
	entity_id     integer NOT NULL CONSTRAINT audit_watermark_pkey PRIMARY KEY,
	next_before   xid8,
	next_audit_id bigint,
	CONSTRAINT audit_watermark_planned_together CHECK ((next_before IS NULL) = (next_audit_id IS NULL))
);
COMMENT ON TABLE billing.audit_watermark IS
	'How far the next block of an entity may go, and when; its rows are the locks of the sealer';
COMMENT ON COLUMN billing.audit_watermark.entity_id IS 'The entity';
COMMENT ON COLUMN billing.audit_watermark.next_before IS 'When all transactions before this one have ended, the records up to next_audit_id can be sealed';
COMMENT ON COLUMN billing.audit_watermark.next_audit_id IS 'See next_before';
SELECT billing_internal.protect('billing.audit_watermark', 'queue');

CREATE TRIGGER b_complete BEFORE INSERT ON billing.audit_log
	FOR EACH ROW EXECUTE FUNCTION billing_internal.complete_audit_record();

SELECT billing_internal.audit_table('billing.legal_entity', 'legal_entity', 'entity_id');
SELECT billing_internal.audit_table('billing.person', 'person', 'person_id');
SELECT billing_internal.audit_table('billing.person_login', 'person_login', 'role_name');
SELECT billing_internal.audit_table('billing.duty_assignment', 'duty_assignment', 'assignment_id');
