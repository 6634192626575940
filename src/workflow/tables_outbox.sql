-- The outbox: what other systems are told, written in the transaction in which it happened. A row is narrow, and there is one for every
-- issued invoice; what a message about a document says is put together when it is read.

CREATE TABLE billing.outbox_type (
	type             text CONSTRAINT outbox_type_pkey PRIMARY KEY,
	kind             text NOT NULL,
	action           text NOT NULL,
	payload_function text,
	description      text NOT NULL,
	CONSTRAINT outbox_type_once UNIQUE (kind, action)
);
COMMENT ON TABLE billing.outbox_type IS 'What becomes a message of the outbox: steps of documents, exceptions, alerts';
COMMENT ON COLUMN billing.outbox_type.type IS 'What the message is called, such as invoice.issued';
COMMENT ON COLUMN billing.outbox_type.kind IS 'Kind of document; exception, or usage_alert';
COMMENT ON COLUMN billing.outbox_type.action IS 'The step of the document; raise for others';
COMMENT ON COLUMN billing.outbox_type.payload_function IS 'Function of billing_internal that gives the content of documents when messages are read: (entity integer, documents bigint[]) returns table (document_id bigint, payload jsonb)';
COMMENT ON COLUMN billing.outbox_type.description IS 'What happened';

CREATE TABLE billing.outbox (
	entity_id      integer     NOT NULL,
	message_id     bigserial,
	type           text        NOT NULL,
	document_id    bigint,
	version        integer,
	transaction_id xid8        NOT NULL DEFAULT pg_current_xact_id(),
	created_at     timestamptz NOT NULL DEFAULT now(),
	payload        jsonb,
	CONSTRAINT outbox_pkey PRIMARY KEY (entity_id, transaction_id, message_id)
);
COMMENT ON TABLE billing.outbox IS 'Messages to other systems, written in the transaction in which it happened; billing.read_outbox() gives them in an order that loses none';
COMMENT ON COLUMN billing.outbox.entity_id IS 'The entity';
COMMENT ON COLUMN billing.outbox.message_id IS 'Never given twice: what a receiver knows a repeated message by';
COMMENT ON COLUMN billing.outbox.type IS 'What happened; billing.outbox_type explains each';
COMMENT ON COLUMN billing.outbox.document_id IS 'The document it is about, if any';
COMMENT ON COLUMN billing.outbox.version IS 'The document''s version after the step';
COMMENT ON COLUMN billing.outbox.transaction_id IS 'The transaction that wrote it: read when all transactions that began before have ended';
COMMENT ON COLUMN billing.outbox.created_at IS 'When that transaction began';
COMMENT ON COLUMN billing.outbox.payload IS 'What it says; null where that is put together from the document and its step';

CREATE TABLE billing.outbox_consumer (
	entity_id      integer     NOT NULL CONSTRAINT outbox_consumer_entity_fkey REFERENCES billing.legal_entity,
	code           text        NOT NULL,
	description    text,
	warn_after     interval    NOT NULL,
	epoch          integer     NOT NULL,
	transaction_id xid8        NOT NULL,
	message_id     bigint      NOT NULL,
	created_at     timestamptz NOT NULL DEFAULT now(),
	confirmed_at   timestamptz,
	ended_at       timestamptz,
	CONSTRAINT outbox_consumer_pkey PRIMARY KEY (entity_id, code),
	CONSTRAINT outbox_consumer_warn_after_in_range CHECK (warn_after > interval '0' AND warn_after <= interval '1 year')
);
COMMENT ON TABLE billing.outbox_consumer IS 'Who reads the outbox, and what they have confirmed';
COMMENT ON COLUMN billing.outbox_consumer.entity_id IS 'The entity';
COMMENT ON COLUMN billing.outbox_consumer.code IS 'What the reader is called';
COMMENT ON COLUMN billing.outbox_consumer.description IS 'What it does with the messages, and whom to ask';
COMMENT ON COLUMN billing.outbox_consumer.warn_after IS 'A message that waits longer for it raises an exception of kind outbox_not_read';
COMMENT ON COLUMN billing.outbox_consumer.epoch IS 'How often the database had been restored from a dump before the last confirmed message was written';
COMMENT ON COLUMN billing.outbox_consumer.transaction_id IS 'Transaction of the last confirmed message';
COMMENT ON COLUMN billing.outbox_consumer.message_id IS 'Key of the last confirmed message';
COMMENT ON COLUMN billing.outbox_consumer.created_at IS 'When it was added';
COMMENT ON COLUMN billing.outbox_consumer.confirmed_at IS 'When it last confirmed anything';
COMMENT ON COLUMN billing.outbox_consumer.ended_at IS 'When it was taken back: nothing is kept for it any more';

-- The numbers of transactions begin anew where a dump is restored. Keys of messages go on.
CREATE TABLE billing.outbox_restore (
	first_message_id bigint CONSTRAINT outbox_restore_pkey PRIMARY KEY,
	restored_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE billing.outbox_restore IS 'When this database was restored from a dump: messages from before come before all later ones, whatever their transactions';
COMMENT ON COLUMN billing.outbox_restore.first_message_id IS 'Messages with a lower key are from before';
COMMENT ON COLUMN billing.outbox_restore.restored_at IS 'When';

SELECT billing_internal.protect('billing.outbox_type', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.outbox', 'queue');
SELECT billing_internal.protect('billing.outbox_consumer', 'document');
SELECT billing_internal.protect('billing.outbox_restore', 'append_only');

CREATE FUNCTION billing_internal.send_exceptions() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_send_exceptions';
COMMENT ON FUNCTION billing_internal.send_exceptions() IS
	'Statement trigger: writes a message to the outbox for every exception that a statement raised, or raised again';

CREATE TRIGGER z_send_message AFTER INSERT ON billing.exception REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.send_exceptions();
CREATE TRIGGER z_send_message_again AFTER UPDATE ON billing.exception REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.send_exceptions();
