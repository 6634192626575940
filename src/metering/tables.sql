-- Usage events: every delivery that was accepted, once, as it was sent and as it was resolved.

-- No foreign keys to account and meter: checking them row by row takes half the time of an ingest. Both are found in the same
-- transaction, their rows are never deleted and their ids never change, and billing.verify() looks for orphans.
CREATE TABLE billing.usage_event (
	entity_id       integer          NOT NULL,
	event_id        bigserial,
	source          text COLLATE "C" NOT NULL,
	event_key       text COLLATE "C" NOT NULL,
	event_type      text             NOT NULL,
	subject         text             NOT NULL,
	account_id      bigint           NOT NULL,
	meter_id        bigint           NOT NULL,
	occurred_at     timestamptz      NOT NULL,
	usage_date      date             NOT NULL,
	quantity        billing.quantity NOT NULL,
	expected_amount billing.amount,
	data            jsonb,
	content_hash    bytea            NOT NULL,
	ingested_at     timestamptz      NOT NULL DEFAULT now(),
	transaction_id  xid8             NOT NULL DEFAULT pg_current_xact_id(),
	CONSTRAINT usage_event_pkey PRIMARY KEY (entity_id, event_id),
	CONSTRAINT usage_event_once UNIQUE (entity_id, source, event_key)
);
CREATE INDEX usage_event_by_account ON billing.usage_event (entity_id, account_id, meter_id, usage_date) INCLUDE (quantity);
COMMENT ON TABLE billing.usage_event IS
	'Usage as it was delivered: one row per accepted CloudEvent; rows are never changed';
COMMENT ON COLUMN billing.usage_event.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_event.event_id IS 'Key within the entity';
COMMENT ON COLUMN billing.usage_event.source IS 'Attribute source of the event: who sent it';
COMMENT ON COLUMN billing.usage_event.event_key IS 'Attribute id of the event: unique for its source, so that a second delivery is recognised';
COMMENT ON COLUMN billing.usage_event.event_type IS 'Attribute type of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.subject IS 'Attribute subject of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.account_id IS 'The billing account that the subject named';
COMMENT ON COLUMN billing.usage_event.meter_id IS 'The meter that the type named';
COMMENT ON COLUMN billing.usage_event.occurred_at IS 'Attribute time of the event, to the microsecond';
COMMENT ON COLUMN billing.usage_event.usage_date IS 'The day on which it happened, in the entity''s time zone';
COMMENT ON COLUMN billing.usage_event.quantity IS 'What the meter took from it: the number in its value field, or 1; negative for a correction';
COMMENT ON COLUMN billing.usage_event.expected_amount IS 'What the source expects the event to cost, where its data says so';
COMMENT ON COLUMN billing.usage_event.data IS 'Attribute data of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.content_hash IS 'SHA-256 of type, subject, time and data: the same for another delivery of the same event';
COMMENT ON COLUMN billing.usage_event.ingested_at IS 'When it was accepted';
COMMENT ON COLUMN billing.usage_event.transaction_id IS 'The transaction that accepted it';

SELECT billing_internal.protect('billing.usage_event', 'append_only');
