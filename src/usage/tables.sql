-- usage: the type billing.usage_days and what a measure gives.

CREATE TYPE billing.usage_days;

CREATE FUNCTION billing_internal.usage_days_in(cstring)
RETURNS billing.usage_days
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_in';
COMMENT ON FUNCTION billing_internal.usage_days_in(cstring) IS
    'Input of billing.usage_days: a JSON object of days, validated.';

CREATE FUNCTION billing_internal.usage_days_out(billing.usage_days)
RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_out';
COMMENT ON FUNCTION billing_internal.usage_days_out(billing.usage_days) IS
    'Output of billing.usage_days: canonical JSON.';

CREATE FUNCTION billing_internal.usage_days_recv(internal)
RETURNS billing.usage_days
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_recv';
COMMENT ON FUNCTION billing_internal.usage_days_recv(internal) IS
    'Binary input of billing.usage_days: a version byte and the JSON text, validated like text input.';

CREATE FUNCTION billing_internal.usage_days_send(billing.usage_days)
RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_send';
COMMENT ON FUNCTION billing_internal.usage_days_send(billing.usage_days) IS
    'Binary output of billing.usage_days: a version byte and the canonical JSON text.';

CREATE TYPE billing.usage_days (
    INPUT = billing_internal.usage_days_in,
    OUTPUT = billing_internal.usage_days_out,
    RECEIVE = billing_internal.usage_days_recv,
    SEND = billing_internal.usage_days_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = int4,
    STORAGE = extended
);
COMMENT ON TYPE billing.usage_days IS
    'Usage by local day: events and quantity, and for meters that keep a level also its moments and the last level; written as JSON, stored compactly.';

CREATE FUNCTION billing_internal.usage_days_eq(billing.usage_days, billing.usage_days)
RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_eq';
COMMENT ON FUNCTION billing_internal.usage_days_eq(billing.usage_days, billing.usage_days) IS
    'Are two values the same usage on the same days?';

CREATE FUNCTION billing_internal.usage_days_ne(billing.usage_days, billing.usage_days)
RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_ne';
COMMENT ON FUNCTION billing_internal.usage_days_ne(billing.usage_days, billing.usage_days) IS
    'Do two values differ on any day?';

CREATE FUNCTION billing_internal.usage_days_hash(billing.usage_days)
RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_hash';
COMMENT ON FUNCTION billing_internal.usage_days_hash(billing.usage_days) IS
    'Hash of usage days, for DISTINCT, EXCEPT and hash joins.';

CREATE FUNCTION billing_internal.usage_days_hash_extended(billing.usage_days, bigint)
RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_usage_days_hash_extended';
COMMENT ON FUNCTION billing_internal.usage_days_hash_extended(billing.usage_days, bigint) IS
    'Seeded 64-bit hash of usage days, for hash partitioning.';

CREATE OPERATOR billing.= (
    FUNCTION = billing_internal.usage_days_eq,
    LEFTARG = billing.usage_days,
    RIGHTARG = billing.usage_days,
    COMMUTATOR = OPERATOR(billing.=),
    NEGATOR = OPERATOR(billing.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel,
    HASHES
);
COMMENT ON OPERATOR billing.= (billing.usage_days, billing.usage_days) IS
    'the same usage on the same days';

CREATE OPERATOR billing.<> (
    FUNCTION = billing_internal.usage_days_ne,
    LEFTARG = billing.usage_days,
    RIGHTARG = billing.usage_days,
    COMMUTATOR = OPERATOR(billing.<>),
    NEGATOR = OPERATOR(billing.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR billing.<> (billing.usage_days, billing.usage_days) IS
    'different usage on some day';

CREATE OPERATOR FAMILY billing.usage_days_hash_ops USING hash;
COMMENT ON OPERATOR FAMILY billing.usage_days_hash_ops USING hash IS
    'Equality of usage days by hash.';

CREATE OPERATOR CLASS billing.usage_days_hash_ops
DEFAULT FOR TYPE billing.usage_days USING hash FAMILY billing.usage_days_hash_ops AS
    OPERATOR 1 billing.=,
    FUNCTION 1 billing_internal.usage_days_hash(billing.usage_days),
    FUNCTION 2 billing_internal.usage_days_hash_extended(billing.usage_days, bigint);
COMMENT ON OPERATOR CLASS billing.usage_days_hash_ops USING hash IS
    'Equality of usage days by hash; they have no order.';

CREATE TYPE billing.usage_measure AS (
    quantity numeric,
    events   bigint
);
COMMENT ON TYPE billing.usage_measure IS 'What a meter measured in a period: the quantity and the events behind it.';
COMMENT ON COLUMN billing.usage_measure.quantity IS 'Measured quantity, aggregated and rounded as the meter says.';
COMMENT ON COLUMN billing.usage_measure.events IS 'Events of the period that stand: those that came less those taken back.';

-- Roll-ups: what the events add up to, by account, meter, item, group and month, day by day.
--
-- No foreign keys, as with the events: billing.verify() looks for orphans. A roll-up may change every cell, so a page has room for
-- the next version of all of its rows.
CREATE TABLE billing.usage_rollup (
	entity_id  integer            NOT NULL,
	account_id bigint             NOT NULL,
	meter_id   bigint             NOT NULL,
	item_id    bigint             NOT NULL,
	month      date               NOT NULL,
	dimensions text COLLATE "C"   NOT NULL,
	sample     text COLLATE "C"   NOT NULL,
	days       billing.usage_days NOT NULL,
	CONSTRAINT usage_rollup_pkey PRIMARY KEY (entity_id, account_id, meter_id, item_id, month, dimensions, sample)
) WITH (fillfactor = 50);
COMMENT ON TABLE billing.usage_rollup IS
	'What usage events add up to, in cells of one account, meter, item, month, group and sample; billing.usage_watermark says which events are in';
COMMENT ON COLUMN billing.usage_rollup.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_rollup.account_id IS 'The billing account of the events';
COMMENT ON COLUMN billing.usage_rollup.meter_id IS 'Their meter';
COMMENT ON COLUMN billing.usage_rollup.item_id IS 'The contract item that they named; 0 where they named the account';
COMMENT ON COLUMN billing.usage_rollup.month IS 'First day of the month in which their local days lie';
COMMENT ON COLUMN billing.usage_rollup.dimensions IS 'Values of the meter''s group keys, as JSON text; empty without group keys';
COMMENT ON COLUMN billing.usage_rollup.sample IS 'unique_count: the value that is counted once; max, min, percentile: the quantity; empty for other meters';
COMMENT ON COLUMN billing.usage_rollup.days IS 'By day: how many events stand, and their sum; for latest and time_weighted the area under the levels, and the last level';

CREATE TABLE billing.usage_watermark (
	entity_id      integer NOT NULL CONSTRAINT usage_watermark_entity_fkey REFERENCES billing.legal_entity,
	after_event_id bigint  NOT NULL DEFAULT 0,
	next_before    xid8,
	next_event_id  bigint,
	rolled_up_at   timestamptz,
	error          text,
	billed_through date,
	CONSTRAINT usage_watermark_pkey PRIMARY KEY (entity_id),
	CONSTRAINT usage_watermark_next_is_whole CHECK ((next_before IS NULL) = (next_event_id IS NULL)),
	CONSTRAINT usage_watermark_grows CHECK (after_event_id >= 0 AND next_event_id >= after_event_id),
	CONSTRAINT usage_watermark_billed_through_finite CHECK (isfinite(billed_through))
) WITH (fillfactor = 50);
COMMENT ON TABLE billing.usage_watermark IS
	'Up to which event the roll-ups of each entity are made: readers add the events after it';
COMMENT ON COLUMN billing.usage_watermark.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_watermark.after_event_id IS 'Events up to this one are in the roll-ups, all of them; those after it are not, none of them';
COMMENT ON COLUMN billing.usage_watermark.next_before IS 'When all transactions before this one have ended, next_event_id may be rolled up to; null while nothing is planned';
COMMENT ON COLUMN billing.usage_watermark.next_event_id IS 'No transaction from next_before on has an event up to this one';
COMMENT ON COLUMN billing.usage_watermark.rolled_up_at IS 'When events were last rolled up';
COMMENT ON COLUMN billing.usage_watermark.error IS 'Why the last roll-up by the worker failed; null where it went well';
COMMENT ON COLUMN billing.usage_watermark.billed_through IS 'The latest day through which a billing run was opened: usage of a period that was due by then has come late; null before the first run';

SELECT billing_internal.protect('billing.usage_rollup', 'queue');
SELECT billing_internal.protect('billing.usage_watermark', 'document');

-- What the feeds are expected to send, and what arrived from each.

CREATE TABLE billing.usage_source (
	entity_id      integer          NOT NULL CONSTRAINT usage_source_entity_fkey REFERENCES billing.legal_entity,
	source         text COLLATE "C" NOT NULL,
	expected_every interval         NOT NULL,
	grace          interval         NOT NULL DEFAULT '0',
	note           text,
	expected_since timestamptz      NOT NULL DEFAULT now(),
	failing_since  timestamptz,
	CONSTRAINT usage_source_pkey PRIMARY KEY (entity_id, source),
	CONSTRAINT usage_source_name_length CHECK (octet_length(source) BETWEEN 1 AND 256),
	CONSTRAINT usage_source_expected_every_sensible CHECK (expected_every BETWEEN interval '1 second' AND interval '366 days'),
	CONSTRAINT usage_source_grace_sensible CHECK (grace BETWEEN interval '0' AND interval '366 days'),
	CONSTRAINT usage_source_note_length CHECK (octet_length(note) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.usage_source IS
	'The sources of usage that are expected to send, and how often; billing.usage_completeness compares them with what arrived';
COMMENT ON COLUMN billing.usage_source.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_source.source IS 'Attribute source of its events';
COMMENT ON COLUMN billing.usage_source.expected_every IS 'How often it sends usage, or a heartbeat where there is none';
COMMENT ON COLUMN billing.usage_source.grace IS 'How much later than that is no cause for alarm';
COMMENT ON COLUMN billing.usage_source.note IS 'What people should know about it, such as whom to call';
COMMENT ON COLUMN billing.usage_source.expected_since IS 'Since when it is expected';
COMMENT ON COLUMN billing.usage_source.failing_since IS 'When the task usage_sources found that it had stopped or fallen behind; null while it keeps up';

CREATE TABLE billing.usage_heartbeat (
	entity_id   integer          NOT NULL CONSTRAINT usage_heartbeat_entity_fkey REFERENCES billing.legal_entity,
	source      text COLLATE "C" NOT NULL,
	through     timestamptz      NOT NULL,
	recorded_at timestamptz      NOT NULL DEFAULT now(),
	recorded_by integer          NOT NULL CONSTRAINT usage_heartbeat_recorded_by_fkey REFERENCES billing.person,
	CONSTRAINT usage_heartbeat_pkey PRIMARY KEY (entity_id, source),
	CONSTRAINT usage_heartbeat_source_length CHECK (octet_length(source) BETWEEN 1 AND 256),
	CONSTRAINT usage_heartbeat_through_finite CHECK (isfinite(through))
);
COMMENT ON TABLE billing.usage_heartbeat IS
	'The last heartbeat of each source: up to when it says it has sent everything, whether there was usage or not';
COMMENT ON COLUMN billing.usage_heartbeat.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_heartbeat.source IS 'The source, as its events name it';
COMMENT ON COLUMN billing.usage_heartbeat.through IS 'All that happened before this moment was sent; never goes back';
COMMENT ON COLUMN billing.usage_heartbeat.recorded_at IS 'When it last said so';
COMMENT ON COLUMN billing.usage_heartbeat.recorded_by IS 'Who called; 0 is the system';

-- Ingest writes neither of these: the roll-up adds a range of events to both, and readers add the tail.
CREATE TABLE billing.usage_source_state (
	entity_id        integer          NOT NULL,
	source           text COLLATE "C" NOT NULL,
	events           bigint           NOT NULL,
	first_arrival_at timestamptz      NOT NULL,
	last_arrival_at  timestamptz      NOT NULL,
	last_event_at    timestamptz      NOT NULL,
	CONSTRAINT usage_source_state_pkey PRIMARY KEY (entity_id, source)
);
COMMENT ON TABLE billing.usage_source_state IS
	'What arrived from each source up to the roll-ups'' watermark; billing.usage_completeness adds what came since';
COMMENT ON COLUMN billing.usage_source_state.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_source_state.source IS 'The source, as its events name it';
COMMENT ON COLUMN billing.usage_source_state.events IS 'Events accepted from it, without corrections';
COMMENT ON COLUMN billing.usage_source_state.first_arrival_at IS 'When the first was accepted';
COMMENT ON COLUMN billing.usage_source_state.last_arrival_at IS 'When the last was accepted';
COMMENT ON COLUMN billing.usage_source_state.last_event_at IS 'The latest time of an event; one ahead of its arrival counts as its arrival';

CREATE TABLE billing.usage_source_hour (
	entity_id integer          NOT NULL,
	source    text COLLATE "C" NOT NULL,
	hour      timestamptz      NOT NULL,
	events    bigint           NOT NULL,
	CONSTRAINT usage_source_hour_pkey PRIMARY KEY (entity_id, source, hour)
);
COMMENT ON TABLE billing.usage_source_hour IS
	'How many events arrived from each source in each hour of the last two days, up to the roll-ups'' watermark';
COMMENT ON COLUMN billing.usage_source_hour.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_source_hour.source IS 'The source, as its events name it';
COMMENT ON COLUMN billing.usage_source_hour.hour IS 'Begin of the hour';
COMMENT ON COLUMN billing.usage_source_hour.events IS 'Events accepted in it, without corrections';

SELECT billing_internal.protect('billing.usage_source', 'queue');
SELECT billing_internal.protect('billing.usage_heartbeat', 'document');
SELECT billing_internal.protect('billing.usage_source_state', 'document');
SELECT billing_internal.protect('billing.usage_source_hour', 'queue');

SELECT billing_internal.audit_table('billing.usage_source', 'usage_source', 'source');

-- Corrections of usage.

CREATE TABLE billing.usage_correction (
	entity_id     integer        NOT NULL,
	correction_id bigint         NOT NULL,
	kind          text           NOT NULL,
	reason        text           NOT NULL,
	events        integer        NOT NULL,
	already_done  integer        NOT NULL,
	payload       jsonb          NOT NULL,
	digest        uuid           NOT NULL,
	takes_back    bigint[]       NOT NULL,
	effect        billing.amount NOT NULL,
	currency      text           NOT NULL CONSTRAINT usage_correction_currency_fkey REFERENCES billing.currency,
	unrated       integer        NOT NULL,
	reference     text           NOT NULL GENERATED ALWAYS AS ('U' || correction_id) STORED,
	CONSTRAINT usage_correction_pkey PRIMARY KEY (entity_id, correction_id),
	CONSTRAINT usage_correction_document_fkey FOREIGN KEY (entity_id, correction_id) REFERENCES billing.document,
	CONSTRAINT usage_correction_kind_known CHECK (kind IN ('void', 'replace', 'backfill'))
);
CREATE INDEX usage_correction_by_digest ON billing.usage_correction (entity_id, digest);
COMMENT ON TABLE billing.usage_correction IS
	'Corrections of usage that people asked for: events taken back, replaced, or brought in from the past; their rows in billing.usage_event name them';
COMMENT ON COLUMN billing.usage_correction.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_correction.correction_id IS 'Key within the entity; the document''s id';
COMMENT ON COLUMN billing.usage_correction.kind IS 'void: events are taken back; replace: others with the same source and id take their place; backfill: events of the past are brought in';
COMMENT ON COLUMN billing.usage_correction.reason IS 'Why, as its maker said';
COMMENT ON COLUMN billing.usage_correction.events IS 'How many events it is about';
COMMENT ON COLUMN billing.usage_correction.already_done IS 'How many more it was asked for, which were as they should be already';
COMMENT ON COLUMN billing.usage_correction.payload IS 'What was asked for: source and ids, or the events';
COMMENT ON COLUMN billing.usage_correction.digest IS 'The first 128 bits of the SHA-256 of kind, reason and payload: the same call again makes no second correction';
COMMENT ON COLUMN billing.usage_correction.takes_back IS 'The rows of billing.usage_event in whose place it puts others; it is not approved if those are not the last ones any more';
COMMENT ON COLUMN billing.usage_correction.effect IS 'By how much it changes what the contract items cost, without tax; while it waits, as of when it was asked for';
COMMENT ON COLUMN billing.usage_correction.currency IS 'Currency of the effect, that of the accounts';
COMMENT ON COLUMN billing.usage_correction.unrated IS 'Periods of contract items that have no price or one that cannot rate the quantity, so that their part of the effect is not known';
COMMENT ON COLUMN billing.usage_correction.reference IS 'What API functions call it: U and its id';

SELECT billing_internal.protect('billing.usage_correction', 'document');

-- Alerts: thresholds of contract items, and the periods in which they were reached.

CREATE TABLE billing.usage_alert (
	entity_id          integer     NOT NULL,
	alert_id           bigserial,
	account_id         bigint      NOT NULL,
	item_id            bigint      NOT NULL,
	threshold_quantity billing.quantity,
	threshold_amount   billing.amount,
	created_at         timestamptz NOT NULL DEFAULT now(),
	created_by         integer     NOT NULL CONSTRAINT usage_alert_created_by_fkey REFERENCES billing.person,
	ended_at           timestamptz,
	CONSTRAINT usage_alert_pkey PRIMARY KEY (entity_id, alert_id),
	CONSTRAINT usage_alert_item_fkey FOREIGN KEY (entity_id, item_id) REFERENCES billing.contract_item,
	CONSTRAINT usage_alert_one_threshold CHECK ((threshold_quantity IS NULL) <> (threshold_amount IS NULL)),
	CONSTRAINT usage_alert_threshold_positive CHECK (coalesce(threshold_quantity, threshold_amount) > 0)
);
CREATE INDEX usage_alert_by_account ON billing.usage_alert (entity_id, account_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX usage_alert_quantity_once ON billing.usage_alert (entity_id, item_id, threshold_quantity) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX usage_alert_amount_once ON billing.usage_alert (entity_id, item_id, threshold_amount) WHERE ended_at IS NULL;
COMMENT ON TABLE billing.usage_alert IS
	'Thresholds of usage items: when the usage of a billing period reaches one, billing.usage_alert_raised says so, once';
COMMENT ON COLUMN billing.usage_alert.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_alert.alert_id IS 'Key within the entity';
COMMENT ON COLUMN billing.usage_alert.account_id IS 'The billing account of the item';
COMMENT ON COLUMN billing.usage_alert.item_id IS 'The contract item';
COMMENT ON COLUMN billing.usage_alert.threshold_quantity IS 'Quantity of a billing period, of all its lines together; or null';
COMMENT ON COLUMN billing.usage_alert.threshold_amount IS 'Amount of a billing period without tax, in the contract''s currency, of all its lines together; or null';
COMMENT ON COLUMN billing.usage_alert.created_at IS 'Since when it watches; periods that had ended by then are not looked at';
COMMENT ON COLUMN billing.usage_alert.created_by IS 'Who added it';
COMMENT ON COLUMN billing.usage_alert.ended_at IS 'When it was taken back; null while it watches';

CREATE TABLE billing.usage_alert_raised (
	entity_id    integer     NOT NULL,
	alert_id     bigint      NOT NULL,
	period_start date        NOT NULL,
	period_end   date        NOT NULL,
	raised_at    timestamptz NOT NULL DEFAULT now(),
	through_date date        NOT NULL,
	quantity     numeric     NOT NULL,
	amount       billing.amount,
	currency     text        NOT NULL CONSTRAINT usage_alert_raised_currency_fkey REFERENCES billing.currency,
	CONSTRAINT usage_alert_raised_pkey PRIMARY KEY (entity_id, alert_id, period_start),
	CONSTRAINT usage_alert_raised_alert_fkey FOREIGN KEY (entity_id, alert_id) REFERENCES billing.usage_alert
);
COMMENT ON TABLE billing.usage_alert_raised IS
	'Alerts that were raised, once for each alert and billing period, whatever became of the usage since; each is a message of the outbox';
COMMENT ON COLUMN billing.usage_alert_raised.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_alert_raised.alert_id IS 'The alert';
COMMENT ON COLUMN billing.usage_alert_raised.period_start IS 'First day of the billing period of the contract';
COMMENT ON COLUMN billing.usage_alert_raised.period_end IS 'Day after its last';
COMMENT ON COLUMN billing.usage_alert_raised.raised_at IS 'When the threshold was found to be reached';
COMMENT ON COLUMN billing.usage_alert_raised.through_date IS 'The day through which the usage was counted then';
COMMENT ON COLUMN billing.usage_alert_raised.quantity IS 'Quantity of the period at that time';
COMMENT ON COLUMN billing.usage_alert_raised.amount IS 'Its amount at that time, without lines that could not be rated; null where none could';
COMMENT ON COLUMN billing.usage_alert_raised.currency IS 'Currency of the amount';

CREATE TABLE billing.usage_alert_check (
	entity_id  integer CONSTRAINT usage_alert_check_pkey PRIMARY KEY CONSTRAINT usage_alert_check_entity_fkey REFERENCES billing.legal_entity,
	checked_on date    NOT NULL
);
COMMENT ON TABLE billing.usage_alert_check IS
	'The last day on which the alerts of an entity were looked at: periods that ended since are looked at once more, however long nobody did';
COMMENT ON COLUMN billing.usage_alert_check.entity_id IS 'The entity';
COMMENT ON COLUMN billing.usage_alert_check.checked_on IS 'The day, in the entity''s time zone';

SELECT billing_internal.protect('billing.usage_alert', 'document');
SELECT billing_internal.protect('billing.usage_alert_raised', 'append_only');
SELECT billing_internal.protect('billing.usage_alert_check', 'document');

SELECT billing_internal.audit_table('billing.usage_alert', 'usage_alert', 'alert_id');

CREATE FUNCTION billing_internal.send_alerts() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_usage_send_alerts';
COMMENT ON FUNCTION billing_internal.send_alerts() IS
	'Statement trigger: writes a message to the outbox for every alert that a statement raised';

CREATE TRIGGER z_send_message AFTER INSERT ON billing.usage_alert_raised REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.send_alerts();
