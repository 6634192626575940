-- Reading the outbox.

CREATE OR REPLACE FUNCTION billing.add_outbox_consumer(
	entity text, consumer text, description text DEFAULT NULL, from_start boolean DEFAULT true, warn_after interval DEFAULT '1 day') RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_add_outbox_consumer';
COMMENT ON FUNCTION billing.add_outbox_consumer(text, text, text, boolean, interval) IS
	'Adds a reader of the outbox: messages are kept until it has confirmed them; from_start: it begins with the oldest message that is kept, otherwise with what comes from now on; a message that waits longer than warn_after raises an exception; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.end_outbox_consumer(entity text, consumer text, reason text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_end_outbox_consumer';
COMMENT ON FUNCTION billing.end_outbox_consumer(text, text, text) IS
	'Takes a reader of the outbox back: nothing is kept for it any more; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.read_outbox(entity text, consumer text, max_messages integer DEFAULT 1000)
	RETURNS TABLE (message_id bigint, bookmark text, type text, created_at timestamptz, document text, version integer, payload jsonb)
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C ROWS 1000 AS 'MODULE_PATHNAME', 'billing_workflow_read_outbox';
COMMENT ON FUNCTION billing.read_outbox(text, text, integer) IS
	'The messages after what a consumer has confirmed, in their order: a message comes when every transaction that began before its own has ended, so that none can appear behind one that was read; they come again until billing.confirm_outbox() has got the bookmark of the last one that was dealt with; needs the duty application or admin';

CREATE OR REPLACE FUNCTION billing.confirm_outbox(entity text, consumer text, bookmark text) RETURNS boolean
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_confirm_outbox';
COMMENT ON FUNCTION billing.confirm_outbox(text, text, text) IS
	'Says that a consumer has dealt with all messages up to the one with the bookmark, and returns whether that is news: it only goes forward; needs the duty application or admin';

CREATE OR REPLACE FUNCTION billing_internal.outbox_epoch(message_id bigint) RETURNS integer
	LANGUAGE SQL STABLE
RETURN (SELECT count(*)::integer FROM billing.outbox_restore r WHERE r.first_message_id <= outbox_epoch.message_id);
COMMENT ON FUNCTION billing_internal.outbox_epoch(bigint) IS
	'How often the database had been restored from a dump before a message was written';

-- One stretch for each time that the database was restored, in order; only the last has transactions that are still under way.
CREATE OR REPLACE FUNCTION billing_internal.outbox_after(
	entity integer, after_epoch integer, after_transaction xid8, after_message bigint, max_messages integer)
	RETURNS TABLE (
		epoch integer, transaction_id xid8, message_id bigint, type text, created_at timestamptz, document_id bigint, version integer,
		payload jsonb)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT b.epoch, m.transaction_id, m.message_id, m.type, m.created_at, m.document_id, m.version, m.payload
	FROM (
		SELECT row_number() OVER (ORDER BY r.first_id)::integer - 1 AS epoch, r.first_id,
			lead(r.first_id, 1, 9223372036854775807) OVER (ORDER BY r.first_id) AS end_id,
			lead(false, 1, true) OVER (ORDER BY r.first_id) AS is_current
		FROM unnest(0::bigint || ARRAY(SELECT o.first_message_id FROM billing.outbox_restore o)) AS r (first_id)
	) b
	CROSS JOIN LATERAL (
		SELECT *
		FROM billing.outbox o
		WHERE o.entity_id = entity
			AND (o.transaction_id, o.message_id) > (
				CASE WHEN b.epoch > after_epoch THEN '0'::xid8 ELSE after_transaction END,
				CASE WHEN b.epoch > after_epoch THEN 0 ELSE after_message END)
			AND o.transaction_id < CASE WHEN b.is_current THEN pg_snapshot_xmin(pg_current_snapshot()) ELSE '18446744073709551615'::xid8 END
			AND o.message_id >= b.first_id AND o.message_id < b.end_id
		ORDER BY o.transaction_id, o.message_id
		LIMIT max_messages
	) m
	WHERE b.epoch >= after_epoch
	ORDER BY b.epoch, m.transaction_id, m.message_id
	LIMIT max_messages;
END;
COMMENT ON FUNCTION billing_internal.outbox_after(integer, integer, xid8, bigint, integer) IS
	'The messages of an entity after a place, as far as no transaction that is still under way can write one before them';

CREATE OR REPLACE FUNCTION billing_internal.purge_outbox() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_purge_outbox';
COMMENT ON FUNCTION billing_internal.purge_outbox() IS
	'Task purge_outbox: deletes messages older than billing_erp.outbox_keep_days that every consumer has confirmed, and raises or resolves exceptions about consumers that do not read';

CREATE OR REPLACE FUNCTION billing_internal.restored_outbox() RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE SQL
BEGIN ATOMIC
	INSERT INTO billing.outbox_restore (first_message_id)
	SELECT q.last_value + 1
	FROM billing.outbox_message_id_seq q
	WHERE q.is_called
	ON CONFLICT ON CONSTRAINT outbox_restore_pkey DO NOTHING;
END;
COMMENT ON FUNCTION billing_internal.restored_outbox() IS
	'After a restore: the transactions of messages are those of another server, and come before all of this one';
