-- Usage events: every delivery that was accepted, once, as it was sent and as it was resolved.

-- What decides whether an event was seen before, whatever its time: one narrow row an event, with one index. It stays when the
-- month of the event is detached, so that a late duplicate is still recognised.
CREATE TABLE billing.usage_key (
	entity_id  integer NOT NULL,
	key        uuid    NOT NULL,
	content    uuid    NOT NULL,
	event_id   bigint  NOT NULL,
	usage_date date    NOT NULL,
	CONSTRAINT usage_key_pkey PRIMARY KEY (entity_id, key)
);
COMMENT ON TABLE billing.usage_key IS
	'The keys of all events that were ever accepted: one row an event, and the keys that corrections take; rows are never changed';
COMMENT ON COLUMN billing.usage_key.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_key.key IS 'The first 128 bits of the SHA-256 of the event''s source and id: billing_internal.usage_key_of(source, id)';
COMMENT ON COLUMN billing.usage_key.content IS 'The first 128 bits of the SHA-256 of its type, subject, time and data: another delivery with the same is a duplicate, with another a conflict; all zeros where an event was taken back and nothing stands in its place';
COMMENT ON COLUMN billing.usage_key.event_id IS 'The event; under billing_internal.usage_void_key() the row that stands in place of one that was taken back';
COMMENT ON COLUMN billing.usage_key.usage_date IS 'Its day, which says in which month it is';

-- The partitions are made at run time by metering_month.c, each with a primary key (entity_id, event_id) and an index by account,
-- meter and day. The table itself has none: pg_dump writes the indexes of every partition, and a partition that is attached to
-- the table which CREATE EXTENSION has made would have them already.
-- No foreign keys to account, item and meter: checking them row by row takes half the time of an ingest. They are found in the
-- same transaction, their rows are never deleted and their ids never change, and billing.verify() looks for orphans.
CREATE TABLE billing.usage_event (
	entity_id         integer          NOT NULL,
	event_id          bigserial,
	source            text COLLATE "C" NOT NULL,
	event_key         text COLLATE "C" NOT NULL,
	event_type        text             NOT NULL,
	subject           text             NOT NULL,
	account_id        bigint           NOT NULL,
	item_id           bigint           NOT NULL DEFAULT 0,
	meter_id          bigint           NOT NULL,
	occurred_at       timestamptz      NOT NULL,
	usage_date        date             NOT NULL,
	weight            smallint         NOT NULL DEFAULT 1,
	quantity          billing.quantity,
	dimensions        text             NOT NULL DEFAULT '',
	sample            text             NOT NULL DEFAULT '',
	expected_amount   billing.amount,
	data              jsonb,
	content           uuid             NOT NULL,
	corrects_event_id bigint,
	correction_id     bigint,
	ingested_at       timestamptz      NOT NULL DEFAULT now(),
	transaction_id    xid8             NOT NULL DEFAULT pg_current_xact_id(),
	CONSTRAINT usage_event_weight_known CHECK (weight IN (1, -1))
) PARTITION BY RANGE (usage_date);
COMMENT ON TABLE billing.usage_event IS
	'Usage as it was delivered: one row per accepted CloudEvent, in a partition per month; rows are never changed';
COMMENT ON COLUMN billing.usage_event.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_event.event_id IS 'Key within the entity; grows with the order of arrival';
COMMENT ON COLUMN billing.usage_event.source IS 'Attribute source of the event: who sent it';
COMMENT ON COLUMN billing.usage_event.event_key IS 'Attribute id of the event: unique for its source, so that a second delivery is recognised';
COMMENT ON COLUMN billing.usage_event.event_type IS 'Attribute type of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.subject IS 'Attribute subject of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.account_id IS 'The billing account that the subject named, or that its contract item belongs to';
COMMENT ON COLUMN billing.usage_event.item_id IS 'The contract item that the subject named; 0 where it named the account: then it counts for the account''s item with the meter';
COMMENT ON COLUMN billing.usage_event.meter_id IS 'The meter that the type named';
COMMENT ON COLUMN billing.usage_event.occurred_at IS 'Attribute time of the event, to the microsecond';
COMMENT ON COLUMN billing.usage_event.usage_date IS 'The day on which it happened, in the entity''s time zone';
COMMENT ON COLUMN billing.usage_event.weight IS '1 for an event; -1 for the row that takes the event corrects_event_id back';
COMMENT ON COLUMN billing.usage_event.quantity IS 'What the meter took from it: the number that its value_field finds, or 1; negative for a correction; null where the meter''s filter leaves it out';
COMMENT ON COLUMN billing.usage_event.dimensions IS 'Values of the meter''s group keys, as JSON text; empty without group keys';
COMMENT ON COLUMN billing.usage_event.sample IS 'The value that a unique count counts once; empty for other meters';
COMMENT ON COLUMN billing.usage_event.expected_amount IS 'What the source expects the event to cost, where its data says so';
COMMENT ON COLUMN billing.usage_event.data IS 'Attribute data of the event, as it was sent';
COMMENT ON COLUMN billing.usage_event.content IS 'The first 128 bits of the SHA-256 of type, subject, time and data: the same for another delivery of the same event';
COMMENT ON COLUMN billing.usage_event.corrects_event_id IS 'The event that this row takes back, or replaces';
COMMENT ON COLUMN billing.usage_event.correction_id IS 'The correction that wrote this row';
COMMENT ON COLUMN billing.usage_event.ingested_at IS 'When it was accepted';
COMMENT ON COLUMN billing.usage_event.transaction_id IS 'The transaction that accepted it: roll-ups read those before a horizon';

-- What an entity decided about its usage. Without a row, or with a null in it, nothing was decided.
CREATE TABLE billing.usage_policy (
	entity_id            integer NOT NULL CONSTRAINT usage_policy_entity_fkey REFERENCES billing.legal_entity,
	late_after_days      integer,
	late_action          text    NOT NULL DEFAULT 'bill',
	correction_limit     billing.amount,
	suggestion_threshold numeric,
	retention_months     integer,
	CONSTRAINT usage_policy_pkey PRIMARY KEY (entity_id),
	CONSTRAINT usage_policy_late_after_days_in_range CHECK (late_after_days BETWEEN 0 AND 3660),
	CONSTRAINT usage_policy_late_action_known CHECK (late_action IN ('bill', 'hold')),
	CONSTRAINT usage_policy_hold_says_when CHECK (late_action = 'bill' OR late_after_days IS NOT NULL),
	CONSTRAINT usage_policy_correction_limit_not_negative CHECK (correction_limit >= 0),
	CONSTRAINT usage_policy_suggestion_threshold_in_range CHECK (suggestion_threshold BETWEEN 0.5 AND 1),
	CONSTRAINT usage_policy_retention_months_in_range CHECK (retention_months BETWEEN 1 AND 1200)
);
COMMENT ON TABLE billing.usage_policy IS
	'What an entity decided about its usage: when it is late, what is corrected without approval, how long it is kept';
COMMENT ON COLUMN billing.usage_policy.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_policy.late_after_days IS 'An event is late that arrives more than so many days after its own day; null: none is';
COMMENT ON COLUMN billing.usage_policy.late_action IS 'bill: late events are taken in, and the next run bills them; hold: they wait as exceptions of kind usage_late until billing.release_usage()';
COMMENT ON COLUMN billing.usage_policy.correction_limit IS 'Corrections of billed usage up to this amount need no approval, in the entity''s currency; null: none needs one';
COMMENT ON COLUMN billing.usage_policy.suggestion_threshold IS 'Confidence from which a suggested subject is applied by itself, from 0.5 to 1; null: never';
COMMENT ON COLUMN billing.usage_policy.retention_months IS 'For how many whole months before the present one usage events are kept; null: for ever';

SELECT billing_internal.protect('billing.usage_policy', 'master', 'admin');
SELECT billing_internal.audit_table('billing.usage_policy', 'usage_policy', 'entity_id');
-- Rows of months that were closed once; a month without one is open.
CREATE TABLE billing.usage_month (
	entity_id   integer NOT NULL CONSTRAINT usage_month_entity_fkey REFERENCES billing.legal_entity,
	month       date    NOT NULL,
	state       text    NOT NULL,
	events      bigint,
	digest      bytea,
	closed_at   timestamptz,
	closed_by   integer CONSTRAINT usage_month_closed_by_fkey REFERENCES billing.person,
	reopened_at timestamptz,
	reopened_by integer CONSTRAINT usage_month_reopened_by_fkey REFERENCES billing.person,
	detached_at timestamptz,
	CONSTRAINT usage_month_pkey PRIMARY KEY (entity_id, month),
	CONSTRAINT usage_month_is_first_day CHECK (isfinite(month) AND month = date_trunc('month', month)::date),
	CONSTRAINT usage_month_state_known CHECK (state IN ('open', 'closed', 'detached')),
	CONSTRAINT usage_month_closed_completely CHECK (
		(state <> 'open') = (events IS NOT NULL) AND (state <> 'open') = (digest IS NOT NULL)
		AND (state = 'open' OR state = 'detached' OR (closed_at IS NOT NULL AND closed_by IS NOT NULL))),
	CONSTRAINT usage_month_detached_completely CHECK ((state = 'detached') = (detached_at IS NOT NULL)),
	CONSTRAINT usage_month_digest_is_sha256 CHECK (octet_length(digest) = 32)
);
CREATE INDEX usage_month_detached ON billing.usage_month (month) WHERE state = 'detached';
COMMENT ON TABLE billing.usage_month IS
	'Months of usage that were closed, opened again or detached; a month without a row is open';
COMMENT ON COLUMN billing.usage_month.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_month.month IS 'First day of the month; events belong to it by their usage_date';
COMMENT ON COLUMN billing.usage_month.state IS 'open: takes events in again; closed: takes nothing in; detached: its events are no longer in billing.usage_event';
COMMENT ON COLUMN billing.usage_month.events IS 'How many events it had when it was closed';
COMMENT ON COLUMN billing.usage_month.digest IS 'SHA-256 of its events, as billing_internal.usage_month_digest() computes it';
COMMENT ON COLUMN billing.usage_month.closed_at IS 'When it was closed';
COMMENT ON COLUMN billing.usage_month.closed_by IS 'Who closed it';
COMMENT ON COLUMN billing.usage_month.reopened_at IS 'When it was last opened again';
COMMENT ON COLUMN billing.usage_month.reopened_by IS 'Who opened it; the audit log says why';
COMMENT ON COLUMN billing.usage_month.detached_at IS 'When its partition was detached';

SELECT billing_internal.protect('billing.usage_month', 'document');
SELECT billing_internal.protect('billing.usage_key', 'append_only');
SELECT billing_internal.protect('billing.usage_event', 'append_only');

-- What senders call an account or a contract item that has another name here. A row is never deleted, and changes in nothing but
-- its end; one that ends before it began, so that its days are none, was a mistake.
CREATE TABLE billing.usage_alias (
	entity_id   integer          NOT NULL,
	alias_id    bigserial,
	alias       text COLLATE "C" NOT NULL,
	account_id  bigint           NOT NULL,
	item_id     bigint,
	valid_from  date,
	valid_to    date,
	origin      text             NOT NULL DEFAULT 'person',
	confidence  numeric,
	recorded_at timestamptz      NOT NULL DEFAULT now(),
	recorded_by integer          NOT NULL CONSTRAINT usage_alias_recorded_by_fkey REFERENCES billing.person,
	CONSTRAINT usage_alias_pkey PRIMARY KEY (entity_id, alias_id),
	CONSTRAINT usage_alias_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account,
	CONSTRAINT usage_alias_item_fkey FOREIGN KEY (entity_id, item_id) REFERENCES billing.contract_item,
	CONSTRAINT usage_alias_length CHECK (octet_length(alias) BETWEEN 1 AND 256),
	CONSTRAINT usage_alias_dates_in_range CHECK (
		(valid_from IS NULL OR valid_from BETWEEN '1900-01-01' AND '2999-12-31')
		AND (valid_to IS NULL OR valid_to BETWEEN '1900-01-01' AND '2999-12-31')),
	CONSTRAINT usage_alias_ends_after_start CHECK (valid_from <= valid_to),
	CONSTRAINT usage_alias_origin_known CHECK (origin IN ('person', 'suggestion')),
	CONSTRAINT usage_alias_suggestion_has_confidence CHECK ((origin = 'suggestion') = (confidence IS NOT NULL)),
	CONSTRAINT usage_alias_confidence_in_range CHECK (confidence >= 0 AND confidence <= 1 AND scale(confidence) <= 4),
	CONSTRAINT usage_alias_one_target_a_day EXCLUDE USING gist (
		entity_id WITH =, alias WITH =, daterange(valid_from, valid_to) WITH &&)
);
CREATE INDEX usage_alias_by_alias ON billing.usage_alias (entity_id, alias);
COMMENT ON TABLE billing.usage_alias IS
	'Other names under which events name a billing account or a contract item: one target per name and day';
COMMENT ON COLUMN billing.usage_alias.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_alias.alias_id IS 'Key within the entity';
COMMENT ON COLUMN billing.usage_alias.alias IS 'The subject that events have, compared byte by byte';
COMMENT ON COLUMN billing.usage_alias.account_id IS 'The billing account that is meant, or that the item belongs to';
COMMENT ON COLUMN billing.usage_alias.item_id IS 'The contract item that is meant; null where it is the account';
COMMENT ON COLUMN billing.usage_alias.valid_from IS 'First day of the events that it holds for, or null for all before';
COMMENT ON COLUMN billing.usage_alias.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.usage_alias.origin IS 'person: somebody added it; suggestion: the software did, because its confidence reached the entity''s threshold';
COMMENT ON COLUMN billing.usage_alias.confidence IS 'How sure the suggestion was, from 0 to 1';
COMMENT ON COLUMN billing.usage_alias.recorded_at IS 'When it was recorded';
COMMENT ON COLUMN billing.usage_alias.recorded_by IS 'Who recorded it; 0 is the system';

SELECT billing_internal.protect('billing.usage_alias', 'document');
SELECT billing_internal.audit_table('billing.usage_alias', 'usage_alias', 'alias_id');

-- The third door, for COPY, which refuses tables with row-level security: so it has none, and people may insert but not read.
-- It has no entity_id, because a row says by code for which entity it is, and may be wrong; and no key, because nothing refers
-- to a row: it is gone as soon as it has become an event or an exception.
CREATE TABLE billing.usage_inbox (
	entity      text,
	source      text,
	id          text,
	type        text,
	subject     text,
	"time"      timestamptz,
	data        jsonb,
	sent_by     text        NOT NULL DEFAULT session_user,
	received_at timestamptz NOT NULL DEFAULT now(),
	refused     text,
	-- a row that was not sent now comes from a dump
	CONSTRAINT usage_inbox_sent_now CHECK (received_at = now() OR billing_internal.guard_row('usage_inbox'))
);
COMMENT ON TABLE billing.usage_inbox IS
	'Usage events that were sent with COPY and wait to be taken in: billing.drain_usage_inbox() or the worker does it; people may insert into it, and not read it';
COMMENT ON COLUMN billing.usage_inbox.entity IS 'Code of the entity that the event is for';
COMMENT ON COLUMN billing.usage_inbox.source IS 'Attribute source of the event';
COMMENT ON COLUMN billing.usage_inbox.id IS 'Attribute id of the event';
COMMENT ON COLUMN billing.usage_inbox.type IS 'Attribute type of the event: the meter';
COMMENT ON COLUMN billing.usage_inbox.subject IS 'Attribute subject of the event: the billing account';
COMMENT ON COLUMN billing.usage_inbox."time" IS 'Attribute time of the event';
COMMENT ON COLUMN billing.usage_inbox.data IS 'Attribute data of the event';
COMMENT ON COLUMN billing.usage_inbox.sent_by IS 'The login that sent it; nobody can write it';
COMMENT ON COLUMN billing.usage_inbox.received_at IS 'When it was sent; nobody can write it';
COMMENT ON COLUMN billing.usage_inbox.refused IS 'Why it stays: no such entity, or a sender who does not belong there; null while it waits';

-- What protect() does, as far as it fits
CREATE TRIGGER a_guard_writes BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.usage_inbox
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.guard_writes('queue');
GRANT INSERT (entity, source, id, type, subject, "time", data) ON billing.usage_inbox TO billing_user;
SELECT pg_catalog.pg_extension_config_dump('billing.usage_inbox', '');
