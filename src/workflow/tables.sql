-- Documents and their states, and the queue of what could not be processed.
--
-- Documents and steps have no foreign keys. A billing run writes them by the million, in one statement with what they refer to, or
-- for rows that are never deleted nor given another key (entity, person, currency, state): the checks, one query for each row and
-- key, took longer than all the rest. billing.verify() looks for orphans.

CREATE TYPE billing.condition;

CREATE FUNCTION billing_internal.condition_in(cstring) RETURNS billing.condition
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_condition_in';
COMMENT ON FUNCTION billing_internal.condition_in(cstring) IS
	'Input of billing.condition: parses the text once and compiles it';

CREATE FUNCTION billing_internal.condition_out(billing.condition) RETURNS cstring
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_condition_out';
COMMENT ON FUNCTION billing_internal.condition_out(billing.condition) IS
	'Output of billing.condition: the canonical text';

CREATE FUNCTION billing_internal.condition_recv(internal) RETURNS billing.condition
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_condition_recv';
COMMENT ON FUNCTION billing_internal.condition_recv(internal) IS
	'Binary input of billing.condition: a version byte and the text, parsed like text input';

CREATE FUNCTION billing_internal.condition_send(billing.condition) RETURNS bytea
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_condition_send';
COMMENT ON FUNCTION billing_internal.condition_send(billing.condition) IS
	'Binary output of billing.condition: a version byte and the canonical text';

CREATE TYPE billing.condition (
	INPUT = billing_internal.condition_in,
	OUTPUT = billing_internal.condition_out,
	RECEIVE = billing_internal.condition_recv,
	SEND = billing_internal.condition_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = extended
);
COMMENT ON TYPE billing.condition IS
	'A condition over named fields, such as amount >= 10000 and risk = ''high'': a small language without SQL, parsed when it is written and stored compiled';

CREATE TYPE billing.document_facts AS (
	kind             text,
	amount           numeric,
	currency         text,
	discount_percent numeric,
	margin_percent   numeric,
	payment_days     integer,
	segment          text,
	risk             text,
	categories       text[],
	is_first         boolean,
	backdated_days   integer,
	score            numeric,
	maker            text,
	contract         text
);
COMMENT ON TYPE billing.document_facts IS
	'What conditions of approval policies can ask about a document; what is not known is null';
COMMENT ON COLUMN billing.document_facts.kind IS 'Kind of document';
COMMENT ON COLUMN billing.document_facts.amount IS 'Size of its amount, in the entity''s currency at the day''s rate; null where there is no rate';
COMMENT ON COLUMN billing.document_facts.currency IS 'The document''s own currency';
COMMENT ON COLUMN billing.document_facts.discount_percent IS 'Discount off the list price; null as long as nothing says what that is';
COMMENT ON COLUMN billing.document_facts.margin_percent IS 'Margin over cost; null as long as nothing says what that is';
COMMENT ON COLUMN billing.document_facts.payment_days IS 'Days from issue to due date';
COMMENT ON COLUMN billing.document_facts.segment IS 'Segment of the customer';
COMMENT ON COLUMN billing.document_facts.risk IS 'Risk of the customer';
COMMENT ON COLUMN billing.document_facts.categories IS 'Codes of the products that it is about, each once';
COMMENT ON COLUMN billing.document_facts.is_first IS 'Whether nothing was issued to the account before';
COMMENT ON COLUMN billing.document_facts.backdated_days IS 'Days from the earliest day that it is about to the day on which it was made; 0 where that is not in the past';
COMMENT ON COLUMN billing.document_facts.score IS 'How far its amount is from what the account was billed before; null where that is not known';
COMMENT ON COLUMN billing.document_facts.maker IS 'Code of the person who made it';
COMMENT ON COLUMN billing.document_facts.contract IS 'Code of its contract; null where it is about none or several';

CREATE TABLE billing.document_kind (
	kind           text CONSTRAINT document_kind_pkey PRIMARY KEY,
	facts_function text NOT NULL,
	description    text NOT NULL
);
COMMENT ON TABLE billing.document_kind IS 'The kinds of documents, and where what policies ask about them comes from';
COMMENT ON COLUMN billing.document_kind.kind IS 'Name of the kind';
COMMENT ON COLUMN billing.document_kind.facts_function IS 'Function of billing_internal that gives the facts of documents: (entity integer, documents bigint[]) RETURNS TABLE (document_id bigint, facts billing.document_facts)';
COMMENT ON COLUMN billing.document_kind.description IS 'What it is';

CREATE TABLE billing.document_state (
	kind        text    NOT NULL,
	state       text    NOT NULL,
	is_final    boolean NOT NULL,
	stage       text    NOT NULL,
	is_optional boolean NOT NULL DEFAULT false,
	skip_to     text,
	description text    NOT NULL,
	CONSTRAINT document_state_pkey PRIMARY KEY (kind, state),
	CONSTRAINT document_state_stage_known CHECK (stage IN ('start', 'open', 'approved', 'effective', 'dropped')),
	CONSTRAINT document_state_skipped_is_optional CHECK (skip_to IS NULL OR is_optional),
	CONSTRAINT document_state_skip_to_fkey FOREIGN KEY (kind, skip_to) REFERENCES billing.document_state
);
COMMENT ON TABLE billing.document_state IS 'The states that a kind of document can be in; billing.entity_state has what an entity adds or turns off';
COMMENT ON COLUMN billing.document_state.kind IS 'Kind of document';
COMMENT ON COLUMN billing.document_state.state IS 'State';
COMMENT ON COLUMN billing.document_state.is_final IS 'Whether nothing leads out of it';
COMMENT ON COLUMN billing.document_state.stage IS 'start: where it begins; open: not approved yet; approved: nothing but carrying it out is missing; effective: it was issued, applied or posted; dropped: it never will be';
COMMENT ON COLUMN billing.document_state.is_optional IS 'Whether an entity may turn it off';
COMMENT ON COLUMN billing.document_state.skip_to IS 'Where the actions lead that led to it, if it is turned off; null: there are none of them then';
COMMENT ON COLUMN billing.document_state.description IS 'What it means';

CREATE TABLE billing.transition (
	kind        text NOT NULL,
	from_state  text NOT NULL,
	action      text NOT NULL,
	to_state    text NOT NULL,
	duty        text NOT NULL CONSTRAINT transition_duty_fkey REFERENCES billing.duty,
	guard       text,
	deadline    interval,
	approves    boolean NOT NULL DEFAULT false,
	own_state   text NOT NULL DEFAULT 'after',
	function_name text,
	description text NOT NULL,
	CONSTRAINT transition_pkey PRIMARY KEY (kind, from_state, action),
	CONSTRAINT transition_from_state_fkey FOREIGN KEY (kind, from_state) REFERENCES billing.document_state,
	CONSTRAINT transition_to_state_fkey FOREIGN KEY (kind, to_state) REFERENCES billing.document_state,
	CONSTRAINT transition_guard_known CHECK (guard IN ('independent', 'maker', 'system')),
	CONSTRAINT transition_deadline_positive CHECK (deadline > interval '0'),
	CONSTRAINT transition_approval_guarded CHECK (NOT approves OR coalesce(guard IN ('independent', 'system'), false)),
	CONSTRAINT transition_own_state_known CHECK (own_state IN ('after', 'before', 'none'))
);
COMMENT ON TABLE billing.transition IS
	'The state machine: which action leads from which state to which, and who may take it; whatever is not here is refused';
COMMENT ON COLUMN billing.transition.kind IS 'Kind of document';
COMMENT ON COLUMN billing.transition.from_state IS 'State before';
COMMENT ON COLUMN billing.transition.action IS 'What is done';
COMMENT ON COLUMN billing.transition.to_state IS 'State after';
COMMENT ON COLUMN billing.transition.duty IS 'Duty that the actor needs in the document''s entity';
COMMENT ON COLUMN billing.transition.guard IS 'independent: the actor is not the maker and the amount is within their limit; maker: the actor is the maker; system: taken by the functions, never asked for; null: none';
COMMENT ON COLUMN billing.transition.deadline IS 'How long a document may wait in the state before for this action, until an exception is raised; null: as long as it takes';
COMMENT ON COLUMN billing.transition.approves IS 'Whether it is the approval: no document becomes effective but through one of these';
COMMENT ON COLUMN billing.transition.own_state IS 'Where an entity may put a state of its own on the way: after the action, before it, or none';
COMMENT ON COLUMN billing.transition.function_name IS 'Function of schema billing that takes it; null: none yet';
COMMENT ON COLUMN billing.transition.description IS 'What it means';

-- What an entity has otherwise. Rows are not deleted: a step of last year followed what was in force then.

CREATE TABLE billing.entity_state (
	entity_id   integer      NOT NULL CONSTRAINT entity_state_entity_fkey REFERENCES billing.legal_entity,
	kind        text         NOT NULL,
	state       billing.code NOT NULL,
	is_off      boolean      NOT NULL DEFAULT false,
	action      text,
	is_before   boolean      NOT NULL DEFAULT false,
	description text         NOT NULL,
	CONSTRAINT entity_state_pkey PRIMARY KEY (entity_id, kind, state),
	CONSTRAINT entity_state_description_length CHECK (octet_length(description) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.entity_state IS
	'The states that an entity adds to a kind of document, and those of billing.document_state that it turns off; written by billing.add_state() and billing.drop_state()';
COMMENT ON COLUMN billing.entity_state.entity_id IS 'The entity';
COMMENT ON COLUMN billing.entity_state.kind IS 'Kind of document';
COMMENT ON COLUMN billing.entity_state.state IS 'State';
COMMENT ON COLUMN billing.entity_state.is_off IS 'Whether no document can be in it';
COMMENT ON COLUMN billing.entity_state.action IS 'The entity''s own action that leads on from it, or into it where is_before; null for one of billing.document_state';
COMMENT ON COLUMN billing.entity_state.is_before IS 'Whether it stands before the built-in action on its way, not after it';
COMMENT ON COLUMN billing.entity_state.description IS 'What it means';

CREATE TABLE billing.entity_transition (
	entity_id     integer      NOT NULL CONSTRAINT entity_transition_entity_fkey REFERENCES billing.legal_entity,
	transition_id bigserial,
	kind          text         NOT NULL,
	from_state    text         NOT NULL,
	action        billing.code NOT NULL,
	to_state      text,
	duty          text         NOT NULL CONSTRAINT entity_transition_duty_fkey REFERENCES billing.duty,
	guard         text,
	deadline      interval,
	approves      boolean      NOT NULL DEFAULT false,
	own_state     text         NOT NULL DEFAULT 'after',
	function_name text,
	description   text         NOT NULL,
	set_at        timestamptz  NOT NULL DEFAULT now(),
	ended_at      timestamptz,
	CONSTRAINT entity_transition_pkey PRIMARY KEY (entity_id, transition_id),
	CONSTRAINT entity_transition_guard_known CHECK (guard IN ('independent', 'maker', 'system')),
	CONSTRAINT entity_transition_deadline_positive CHECK (deadline > interval '0'),
	CONSTRAINT entity_transition_approval_guarded CHECK (NOT approves OR coalesce(guard IN ('independent', 'system'), false)),
	CONSTRAINT entity_transition_own_state_known CHECK (own_state IN ('after', 'before', 'none')),
	CONSTRAINT entity_transition_description_length CHECK (octet_length(description) BETWEEN 1 AND 10000)
);
CREATE UNIQUE INDEX entity_transition_in_force ON billing.entity_transition (entity_id, kind, from_state, action) WHERE ended_at IS NULL;
COMMENT ON TABLE billing.entity_transition IS
	'What an entity has instead of, or beside, rows of billing.transition; written by billing.add_state(), billing.drop_state(), billing.set_transition() and billing.drop_transition()';
COMMENT ON COLUMN billing.entity_transition.entity_id IS 'The entity';
COMMENT ON COLUMN billing.entity_transition.transition_id IS 'Key within the entity';
COMMENT ON COLUMN billing.entity_transition.kind IS 'Kind of document';
COMMENT ON COLUMN billing.entity_transition.from_state IS 'State before';
COMMENT ON COLUMN billing.entity_transition.action IS 'What is done';
COMMENT ON COLUMN billing.entity_transition.to_state IS 'State after; null: the entity does not have the transition';
COMMENT ON COLUMN billing.entity_transition.duty IS 'Duty that the actor needs in the document''s entity';
COMMENT ON COLUMN billing.entity_transition.guard IS 'As in billing.transition';
COMMENT ON COLUMN billing.entity_transition.deadline IS 'How long a document may wait for the action until an exception is raised; null: as long as it takes';
COMMENT ON COLUMN billing.entity_transition.approves IS 'As in billing.transition: an entity''s own transition never is';
COMMENT ON COLUMN billing.entity_transition.own_state IS 'As in billing.transition';
COMMENT ON COLUMN billing.entity_transition.function_name IS 'Function of schema billing that takes it; null: none yet';
COMMENT ON COLUMN billing.entity_transition.description IS 'What it means';
COMMENT ON COLUMN billing.entity_transition.set_at IS 'Since when it is in force';
COMMENT ON COLUMN billing.entity_transition.ended_at IS 'Until when; null: it still is';

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
CREATE INDEX document_under_way ON billing.document (entity_id, kind, state) WHERE state NOT IN ('issued', 'paid', 'discarded');
COMMENT ON TABLE billing.document IS
	'The header that every kind of document has: its state, its maker and the amount that is decided upon';
COMMENT ON COLUMN billing.document.entity_id IS 'The entity';
COMMENT ON COLUMN billing.document.document_id IS 'Key within the entity; the invoice or correction has the same';
COMMENT ON COLUMN billing.document.kind IS 'Kind of document, of billing.document_state';
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

CREATE TABLE billing.document_request (
	entity_id   integer NOT NULL,
	document_id bigint  NOT NULL,
	subject     text    NOT NULL,
	payload     jsonb   NOT NULL,
	CONSTRAINT document_request_pkey PRIMARY KEY (entity_id, document_id),
	CONSTRAINT document_request_document_fkey FOREIGN KEY (entity_id, document_id) REFERENCES billing.document,
	CONSTRAINT document_request_subject_length CHECK (octet_length(subject) BETWEEN 1 AND 10000),
	CONSTRAINT document_request_payload_is_object CHECK (jsonb_typeof(payload) = 'object' AND octet_length(payload::text) <= 1000000)
);
COMMENT ON TABLE billing.document_request IS
	'What was asked for with billing.request_document(): documents of kinds that are carried out outside of billing_erp as yet';
COMMENT ON COLUMN billing.document_request.entity_id IS 'The entity';
COMMENT ON COLUMN billing.document_request.document_id IS 'The document';
COMMENT ON COLUMN billing.document_request.subject IS 'What it is about, such as a contract or invoice';
COMMENT ON COLUMN billing.document_request.payload IS 'What is to be done, in the words of the application';

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

-- The approval matrix: which documents need whom. A change is a new row; rows stay for the audit and for documents under way.

CREATE TABLE billing.approval_policy (
	entity_id     integer      NOT NULL CONSTRAINT approval_policy_entity_fkey REFERENCES billing.legal_entity,
	policy_id     bigserial,
	code          billing.code NOT NULL,
	kind          text         NOT NULL CONSTRAINT approval_policy_kind_fkey REFERENCES billing.document_kind,
	condition     billing.condition,
	priority      integer      NOT NULL DEFAULT 100,
	valid_from    date         NOT NULL,
	valid_to      date,
	outcome       text         NOT NULL DEFAULT 'levels',
	description   text,
	recorded_at   timestamptz  NOT NULL DEFAULT now(),
	recorded_by   integer      CONSTRAINT approval_policy_recorded_by_fkey REFERENCES billing.person,
	superseded_at timestamptz,
	CONSTRAINT approval_policy_pkey PRIMARY KEY (entity_id, policy_id),
	CONSTRAINT approval_policy_outcome_known CHECK (outcome IN ('levels', 'automatic', 'forbid')),
	CONSTRAINT approval_policy_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT approval_policy_not_empty CHECK (valid_from < valid_to),
	CONSTRAINT approval_policy_description_length CHECK (octet_length(description) BETWEEN 1 AND 10000),
	CONSTRAINT approval_policy_no_overlap EXCLUDE USING gist (
		entity_id WITH =, code WITH =, daterange(valid_from, valid_to) WITH &&) WHERE (superseded_at IS NULL)
);
COMMENT ON TABLE billing.approval_policy IS
	'Which documents need which approvals: of the policies of a kind, the first by priority whose condition holds';
COMMENT ON COLUMN billing.approval_policy.entity_id IS 'The entity';
COMMENT ON COLUMN billing.approval_policy.policy_id IS 'Key within the entity, of this version';
COMMENT ON COLUMN billing.approval_policy.code IS 'What people call the policy; its versions share it';
COMMENT ON COLUMN billing.approval_policy.kind IS 'The kind of documents that it is about';
COMMENT ON COLUMN billing.approval_policy.condition IS 'What must hold of a document; null for every document';
COMMENT ON COLUMN billing.approval_policy.priority IS 'Lower ones are asked first; of equal ones, the first in the alphabet';
COMMENT ON COLUMN billing.approval_policy.valid_from IS 'First day, in the entity''s time zone';
COMMENT ON COLUMN billing.approval_policy.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.approval_policy.outcome IS 'levels: its levels approve; automatic: approved without a person; forbid: cannot be approved';
COMMENT ON COLUMN billing.approval_policy.description IS 'Why it is so, as whoever set it said';
COMMENT ON COLUMN billing.approval_policy.recorded_at IS 'When this version was set';
COMMENT ON COLUMN billing.approval_policy.recorded_by IS 'Who set it, and does not approve with it alone; null where whoever did so is nobody''s login';
COMMENT ON COLUMN billing.approval_policy.superseded_at IS 'When it was taken back before it could end: another version has its days';

CREATE TABLE billing.approval_level (
	entity_id   integer  NOT NULL,
	policy_id   bigint   NOT NULL,
	level_no    integer  NOT NULL,
	stage       smallint NOT NULL,
	needed      smallint,
	approver    text     NOT NULL,
	duty        text     CONSTRAINT approval_level_duty_fkey REFERENCES billing.duty,
	min_limit   boolean  NOT NULL DEFAULT false,
	person_id   integer  CONSTRAINT approval_level_person_fkey REFERENCES billing.person,
	deadline    interval,
	escalate_to text     CONSTRAINT approval_level_escalate_to_fkey REFERENCES billing.duty,
	CONSTRAINT approval_level_pkey PRIMARY KEY (entity_id, policy_id, level_no),
	CONSTRAINT approval_level_policy_fkey FOREIGN KEY (entity_id, policy_id) REFERENCES billing.approval_policy,
	CONSTRAINT approval_level_numbers_positive CHECK (level_no > 0 AND stage > 0 AND needed > 0),
	CONSTRAINT approval_level_approver_known CHECK (approver IN ('duty', 'person', 'contract_owner', 'manager')),
	CONSTRAINT approval_level_duty_given CHECK ((approver = 'duty') = (duty IS NOT NULL)),
	CONSTRAINT approval_level_person_given CHECK ((approver = 'person') = (person_id IS NOT NULL)),
	CONSTRAINT approval_level_one_person_needed CHECK (approver = 'duty' OR needed = 1),
	CONSTRAINT approval_level_deadline_positive CHECK (deadline > '0'),
	CONSTRAINT approval_level_escalates_after_deadline CHECK (escalate_to IS NULL OR deadline IS NOT NULL)
);
COMMENT ON TABLE billing.approval_level IS
	'The approvals that a policy asks for; stages follow one another, levels of one stage are asked at once';
COMMENT ON COLUMN billing.approval_level.entity_id IS 'The entity of the policy';
COMMENT ON COLUMN billing.approval_level.policy_id IS 'The version of the policy';
COMMENT ON COLUMN billing.approval_level.level_no IS 'Position in the policy, from 1';
COMMENT ON COLUMN billing.approval_level.stage IS 'Stage: it begins when the one before is approved';
COMMENT ON COLUMN billing.approval_level.needed IS 'How many must approve; null for all who could';
COMMENT ON COLUMN billing.approval_level.approver IS 'duty: whoever holds a duty; person: a certain person; contract_owner: who owns the contract; manager: the manager of the maker';
COMMENT ON COLUMN billing.approval_level.duty IS 'The duty, where the approver is one';
COMMENT ON COLUMN billing.approval_level.min_limit IS 'Whether the approver''s own limit must cover the amount';
COMMENT ON COLUMN billing.approval_level.person_id IS 'The person, where the approver is one';
COMMENT ON COLUMN billing.approval_level.deadline IS 'Within which time it should be decided; null for none';
COMMENT ON COLUMN billing.approval_level.escalate_to IS 'The duty that decides after the deadline; null for nobody else';

SELECT billing_internal.protect('billing.document_kind', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.document_state', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.transition', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.entity_state', 'document');
SELECT billing_internal.protect('billing.entity_transition', 'document');
SELECT billing_internal.protect('billing.document', 'document');
SELECT billing_internal.protect('billing.document_request', 'append_only');
SELECT billing_internal.protect('billing.document_step', 'append_only');
SELECT billing_internal.protect('billing.exception_kind', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.exception', 'document');
SELECT billing_internal.protect('billing.approval_policy', 'document');
SELECT billing_internal.protect('billing.approval_level', 'append_only');

SELECT billing_internal.audit_table('billing.approval_policy', 'approval_policy', 'policy_id');
SELECT billing_internal.audit_table('billing.approval_level', 'approval_level', 'policy_id');
SELECT billing_internal.audit_table('billing.entity_state', 'entity_state', 'state');
SELECT billing_internal.audit_table('billing.entity_transition', 'entity_transition', 'transition_id');
