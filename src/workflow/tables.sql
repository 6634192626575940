-- Documents and their states, and the queue of what could not be processed.
--
-- Documents and steps have no foreign keys. A billing run writes them by the million, in one statement with what they refer to, or
-- for rows that are never deleted nor given another key (entity, person, currency, state): the checks, one query for each row and
-- key, took longer than all the rest. billing.verify() looks for orphans.

CREATE TABLE billing.document_state (
	kind        text    NOT NULL,
	state       text    NOT NULL,
	is_final    boolean NOT NULL,
	description text    NOT NULL,
	CONSTRAINT document_state_pkey PRIMARY KEY (kind, state)
);
COMMENT ON TABLE billing.document_state IS 'The states that a kind of document can be in';
COMMENT ON COLUMN billing.document_state.kind IS 'Kind of document';
COMMENT ON COLUMN billing.document_state.state IS 'State';
COMMENT ON COLUMN billing.document_state.is_final IS 'Whether nothing leads out of it';
COMMENT ON COLUMN billing.document_state.description IS 'What it means';

CREATE TABLE billing.transition (
	kind        text NOT NULL,
	from_state  text NOT NULL,
	action      text NOT NULL,
	to_state    text NOT NULL,
	duty        text NOT NULL CONSTRAINT transition_duty_fkey REFERENCES billing.duty,
	guard       text,
	description text NOT NULL,
	CONSTRAINT transition_pkey PRIMARY KEY (kind, from_state, action),
	CONSTRAINT transition_from_state_fkey FOREIGN KEY (kind, from_state) REFERENCES billing.document_state,
	CONSTRAINT transition_to_state_fkey FOREIGN KEY (kind, to_state) REFERENCES billing.document_state,
	CONSTRAINT transition_guard_known CHECK (guard IN ('independent', 'system'))
);
COMMENT ON TABLE billing.transition IS
	'The state machine: which action leads from which state to which, and who may take it; whatever is not here is refused';
COMMENT ON COLUMN billing.transition.kind IS 'Kind of document';
COMMENT ON COLUMN billing.transition.from_state IS 'State before';
COMMENT ON COLUMN billing.transition.action IS 'What is done';
COMMENT ON COLUMN billing.transition.to_state IS 'State after';
COMMENT ON COLUMN billing.transition.duty IS 'Duty that the actor needs in the document''s entity';
COMMENT ON COLUMN billing.transition.guard IS 'independent: the actor is not the maker and the amount is within their limit; system: taken by the functions, never asked for; null: none';
COMMENT ON COLUMN billing.transition.description IS 'What it means';

CREATE TABLE billing.document (
	entity_id   integer        NOT NULL,
	document_id bigserial,
	kind        text           NOT NULL,
	state       text           NOT NULL,
	version     integer        NOT NULL DEFAULT 1,
	maker_id    integer        NOT NULL,
	amount      billing.amount NOT NULL,
	currency    text           NOT NULL,
	created_at  timestamptz    NOT NULL DEFAULT now(),
	state_since timestamptz    NOT NULL DEFAULT now(),
	CONSTRAINT document_pkey PRIMARY KEY (entity_id, document_id)
);
-- Nothing looks for all documents that have ended, and they are the most
CREATE INDEX document_under_way ON billing.document (entity_id, kind, state) WHERE state NOT IN ('issued', 'discarded');
COMMENT ON TABLE billing.document IS
	'The header that every kind of document has: its state, its maker and the amount that is decided upon';
COMMENT ON COLUMN billing.document.entity_id IS 'The entity';
COMMENT ON COLUMN billing.document.document_id IS 'Key within the entity; the invoice or correction has the same';
COMMENT ON COLUMN billing.document.kind IS 'Kind of document: invoice, credit_note or usage_correction';
COMMENT ON COLUMN billing.document.state IS 'Its state now';
COMMENT ON COLUMN billing.document.version IS 'Grows with every step';
COMMENT ON COLUMN billing.document.maker_id IS 'Who made it, and therefore may not approve it';
COMMENT ON COLUMN billing.document.amount IS 'What is decided upon, tax included; negative for a credit note; what a correction of usage is worth, without tax';
COMMENT ON COLUMN billing.document.currency IS 'Currency of the amount';
COMMENT ON COLUMN billing.document.created_at IS 'When it was made';
COMMENT ON COLUMN billing.document.state_since IS 'When it came into its state';

CREATE TABLE billing.document_step (
	entity_id     integer     NOT NULL,
	document_id   bigint      NOT NULL,
	version       integer     NOT NULL,
	action        text        NOT NULL,
	from_state    text,
	to_state      text        NOT NULL,
	actor_id      integer     NOT NULL,
	happened_at   timestamptz NOT NULL DEFAULT now(),
	time_in_state interval,
	reason        text,
	CONSTRAINT document_step_pkey PRIMARY KEY (entity_id, document_id, version)
);
COMMENT ON TABLE billing.document_step IS
	'The life of every document, step by step: the source of cycle times';
COMMENT ON COLUMN billing.document_step.entity_id IS 'The entity';
COMMENT ON COLUMN billing.document_step.document_id IS 'The document';
COMMENT ON COLUMN billing.document_step.version IS 'The document''s version after the step';
COMMENT ON COLUMN billing.document_step.action IS 'What was done';
COMMENT ON COLUMN billing.document_step.from_state IS 'State before; null where the document was made';
COMMENT ON COLUMN billing.document_step.to_state IS 'State after';
COMMENT ON COLUMN billing.document_step.actor_id IS 'Who did it; 0 is the system';
COMMENT ON COLUMN billing.document_step.happened_at IS 'When the transaction began';
COMMENT ON COLUMN billing.document_step.time_in_state IS 'How long the document had been in the state before';
COMMENT ON COLUMN billing.document_step.reason IS 'Why, as the actor said';

CREATE TABLE billing.exception_kind (
	kind          text     CONSTRAINT exception_kind_pkey PRIMARY KEY,
	severity      text     NOT NULL,
	owner_duty    text     NOT NULL CONSTRAINT exception_kind_owner_duty_fkey REFERENCES billing.duty,
	deadline_days smallint NOT NULL,
	description   text     NOT NULL,
	CONSTRAINT exception_kind_severity_known CHECK (severity IN ('warning', 'error'))
);
COMMENT ON TABLE billing.exception_kind IS 'Why something could not be processed, and whose work that is';
COMMENT ON COLUMN billing.exception_kind.kind IS 'Name of the kind';
COMMENT ON COLUMN billing.exception_kind.severity IS 'error: something waits until it is mended; warning: billing went on';
COMMENT ON COLUMN billing.exception_kind.owner_duty IS 'Who mends it';
COMMENT ON COLUMN billing.exception_kind.deadline_days IS 'Days until it should be mended';
COMMENT ON COLUMN billing.exception_kind.description IS 'What happened, and what to do';

CREATE TABLE billing.exception (
	entity_id    integer     NOT NULL CONSTRAINT exception_entity_fkey REFERENCES billing.legal_entity,
	exception_id bigserial,
	kind         text        NOT NULL CONSTRAINT exception_kind_fkey REFERENCES billing.exception_kind,
	dedupe_key   text        NOT NULL,
	state        text        NOT NULL DEFAULT 'open',
	subject      text,
	document_id  bigint,
	detail       text        NOT NULL,
	payload      jsonb,
	raised_at    timestamptz NOT NULL DEFAULT now(),
	deadline     timestamptz NOT NULL,
	resolved_at  timestamptz,
	resolved_by  integer     CONSTRAINT exception_resolved_by_fkey REFERENCES billing.person,
	resolution   text,
	CONSTRAINT exception_pkey PRIMARY KEY (entity_id, exception_id),
	CONSTRAINT exception_once UNIQUE (entity_id, kind, dedupe_key),
	CONSTRAINT exception_document_fkey FOREIGN KEY (entity_id, document_id) REFERENCES billing.document,
	CONSTRAINT exception_state_known CHECK (state IN ('open', 'resolved')),
	CONSTRAINT exception_resolved_completely CHECK (
		(state = 'resolved') = (resolved_at IS NOT NULL)
		AND (state = 'resolved') = (resolved_by IS NOT NULL)
		AND (state = 'resolved') = (resolution IS NOT NULL))
);
CREATE INDEX exception_open ON billing.exception (entity_id, kind, raised_at) WHERE state = 'open';
CREATE INDEX exception_by_subject ON billing.exception (entity_id, subject) WHERE state = 'open';
CREATE INDEX exception_by_document ON billing.exception (entity_id, document_id) WHERE document_id IS NOT NULL;
COMMENT ON TABLE billing.exception IS
	'What could not be processed, with its payload, until somebody mends the cause; nothing is dropped because it failed';
COMMENT ON COLUMN billing.exception.entity_id IS 'The entity';
COMMENT ON COLUMN billing.exception.exception_id IS 'Key within the entity';
COMMENT ON COLUMN billing.exception.kind IS 'Why';
COMMENT ON COLUMN billing.exception.dedupe_key IS 'What it is about, within its kind: the same thing is raised once';
COMMENT ON COLUMN billing.exception.state IS 'open or resolved';
COMMENT ON COLUMN billing.exception.subject IS 'Whom or what it concerns: a subject, account or document';
COMMENT ON COLUMN billing.exception.document_id IS 'The document that waits for it, if any';
COMMENT ON COLUMN billing.exception.detail IS 'What is wrong, with the values';
COMMENT ON COLUMN billing.exception.payload IS 'The input that could not be processed, complete';
COMMENT ON COLUMN billing.exception.raised_at IS 'When';
COMMENT ON COLUMN billing.exception.deadline IS 'By when it should be mended';
COMMENT ON COLUMN billing.exception.resolved_at IS 'When it was resolved';
COMMENT ON COLUMN billing.exception.resolved_by IS 'Who resolved it; 0 is the system';
COMMENT ON COLUMN billing.exception.resolution IS 'How';

SELECT billing_internal.protect('billing.document_state', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.transition', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.document', 'document');
SELECT billing_internal.protect('billing.document_step', 'append_only');
SELECT billing_internal.protect('billing.exception_kind', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.exception', 'document');
