-- How far the consumers of the outbox are.

-- Counted as far as anybody wants to know.
CREATE OR REPLACE VIEW billing.outbox_lag WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	c.code AS consumer,
	c.description,
	w.waiting,
	w.oldest_waiting,
	coalesce(now() - w.oldest_waiting > c.warn_after, false) AS is_late,
	c.confirmed_at,
	c.ended_at,
	c.entity_id
FROM billing.outbox_consumer c
JOIN billing.legal_entity e USING (entity_id)
CROSS JOIN LATERAL (
	-- as billing_internal.outbox_after() has it, which is not for everybody to call
	SELECT count(*) AS waiting, min(m.created_at) AS oldest_waiting
	FROM (
		SELECT row_number() OVER (ORDER BY r.first_id) - 1 AS epoch, r.first_id,
			lead(r.first_id, 1, 9223372036854775807) OVER (ORDER BY r.first_id) AS end_id,
			lead(false, 1, true) OVER (ORDER BY r.first_id) AS is_current
		FROM unnest(0::bigint || ARRAY(SELECT o.first_message_id FROM billing.outbox_restore o)) AS r (first_id)
	) b
	CROSS JOIN LATERAL (
		SELECT o.created_at
		FROM billing.outbox o
		WHERE o.entity_id = c.entity_id
			AND (o.transaction_id, o.message_id) > (
				CASE WHEN b.epoch > c.epoch THEN '0'::xid8 ELSE c.transaction_id END, CASE WHEN b.epoch > c.epoch THEN 0 ELSE c.message_id END)
			AND o.transaction_id < CASE WHEN b.is_current THEN pg_snapshot_xmin(pg_current_snapshot()) ELSE '18446744073709551615'::xid8 END
			AND o.message_id >= b.first_id AND o.message_id < b.end_id
		ORDER BY o.transaction_id, o.message_id
		LIMIT 10000
	) m
	WHERE b.epoch >= c.epoch AND c.ended_at IS NULL
) w;
COMMENT ON VIEW billing.outbox_lag IS 'The consumers of the outbox, and how much waits for each';
COMMENT ON COLUMN billing.outbox_lag.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.outbox_lag.consumer IS 'What the reader is called';
COMMENT ON COLUMN billing.outbox_lag.description IS 'What it does with the messages, and whom to ask';
COMMENT ON COLUMN billing.outbox_lag.waiting IS 'Messages that it could read and has not confirmed, counted up to 10000';
COMMENT ON COLUMN billing.outbox_lag.oldest_waiting IS 'When the oldest of them was written';
COMMENT ON COLUMN billing.outbox_lag.is_late IS 'Whether that is longer ago than the consumer should need';
COMMENT ON COLUMN billing.outbox_lag.confirmed_at IS 'When it last confirmed anything';
COMMENT ON COLUMN billing.outbox_lag.ended_at IS 'When it was taken back';
COMMENT ON COLUMN billing.outbox_lag.entity_id IS 'Key of the entity';
