-- Approvals: what is asked of whom for a document, what each person said, and who stands in for whom.
--
-- A document that comes into the state pending_approval gets a request for every level of the policy that matches it; all of them
-- carry the document's version, so that what was said of one version never counts for another. A request keeps the level as it
-- was, because policies change. Like documents, requests are written by the million in a run and have no foreign keys to them.

CREATE TABLE billing.approval_request (
	entity_id        integer     NOT NULL,
	request_id       bigserial,
	document_id      bigint      NOT NULL,
	document_version integer     NOT NULL,
	policy_entity_id integer     NOT NULL,
	policy_id        bigint      NOT NULL,
	level_no         integer     NOT NULL,
	stage            smallint    NOT NULL,
	state            text        NOT NULL,
	approver         text        NOT NULL,
	duty             text,
	person_id        integer,
	min_limit        boolean     NOT NULL,
	needed           smallint,
	amount           billing.amount,
	currency         text        NOT NULL,
	document_amount  billing.amount NOT NULL,
	facts            jsonb       NOT NULL DEFAULT '{}',
	deadline_after   interval,
	escalate_to      text,
	opened_at        timestamptz,
	deadline         timestamptz,
	reminded_at      timestamptz,
	escalated_at     timestamptz,
	closed_at        timestamptz,
	CONSTRAINT approval_request_pkey PRIMARY KEY (entity_id, request_id),
	CONSTRAINT approval_request_once UNIQUE (entity_id, document_id, document_version, level_no),
	CONSTRAINT approval_request_state_known CHECK (state IN ('waiting', 'open', 'approved', 'rejected', 'void')),
	CONSTRAINT approval_request_approver_known CHECK (approver IN ('duty', 'person', 'contract_owner', 'manager')),
	CONSTRAINT approval_request_duty_named CHECK ((approver = 'duty') = (duty IS NOT NULL)),
	CONSTRAINT approval_request_needed_positive CHECK (needed > 0),
	CONSTRAINT approval_request_closed_completely CHECK ((state IN ('approved', 'rejected', 'void')) = (closed_at IS NOT NULL)),
	CONSTRAINT approval_request_opened CHECK (state NOT IN ('open', 'approved') OR opened_at IS NOT NULL)
);
CREATE INDEX approval_request_under_way ON billing.approval_request (entity_id, document_id) WHERE state IN ('waiting', 'open');
CREATE INDEX approval_request_open ON billing.approval_request (entity_id, duty, opened_at) WHERE state = 'open';
CREATE INDEX approval_request_due ON billing.approval_request (deadline) WHERE state = 'open';
COMMENT ON TABLE billing.approval_request IS
	'What is asked for a document that waits for approval: one row per level of the policy that matched it';
COMMENT ON COLUMN billing.approval_request.entity_id IS 'The entity';
COMMENT ON COLUMN billing.approval_request.request_id IS 'Key within the entity';
COMMENT ON COLUMN billing.approval_request.document_id IS 'The document';
COMMENT ON COLUMN billing.approval_request.document_version IS 'The version that is decided upon: the step that brought it into pending_approval';
COMMENT ON COLUMN billing.approval_request.policy_entity_id IS 'The entity whose policy matched: the document''s own, or a parent';
COMMENT ON COLUMN billing.approval_request.policy_id IS 'The policy that matched';
COMMENT ON COLUMN billing.approval_request.level_no IS 'The policy''s level that asks';
COMMENT ON COLUMN billing.approval_request.stage IS 'Stages follow each other, the levels of one stage are asked at once';
COMMENT ON COLUMN billing.approval_request.state IS 'waiting: its stage has not come; open: waits for people; approved; rejected; void: the document was changed, recalled or dropped';
COMMENT ON COLUMN billing.approval_request.approver IS 'Who is asked: duty, person, contract_owner or manager';
COMMENT ON COLUMN billing.approval_request.duty IS 'The duty whose holders are asked';
COMMENT ON COLUMN billing.approval_request.person_id IS 'The person who is asked: named, the contract''s owner or the maker''s manager; null where there was none, so that only an escalation helps';
COMMENT ON COLUMN billing.approval_request.min_limit IS 'Whether the approver''s own limit must cover the amount';
COMMENT ON COLUMN billing.approval_request.needed IS 'How many approvals are needed; null while open: of all who are there to ask';
COMMENT ON COLUMN billing.approval_request.amount IS 'The document''s amount without its sign in the entity''s currency, at the rate of the day on which it was asked; null where there is no rate, so that only approvers without a limit do';
COMMENT ON COLUMN billing.approval_request.currency IS 'The document''s currency';
COMMENT ON COLUMN billing.approval_request.document_amount IS 'The document''s amount in that currency';
COMMENT ON COLUMN billing.approval_request.facts IS 'What the policy looked at; a later version whose facts are the same and whose amount is not larger keeps the approvals';
COMMENT ON COLUMN billing.approval_request.deadline_after IS 'How long after it is opened it is escalated; null for never';
COMMENT ON COLUMN billing.approval_request.escalate_to IS 'Duty whose holders may decide as well after the deadline';
COMMENT ON COLUMN billing.approval_request.opened_at IS 'When its stage came';
COMMENT ON COLUMN billing.approval_request.deadline IS 'When it is escalated';
COMMENT ON COLUMN billing.approval_request.reminded_at IS 'When those who are asked were reminded: half way to the deadline';
COMMENT ON COLUMN billing.approval_request.escalated_at IS 'When it was escalated';
COMMENT ON COLUMN billing.approval_request.closed_at IS 'When it was approved, rejected or void';

CREATE TABLE billing.approval_decision (
	entity_id         integer     NOT NULL,
	request_id        bigint      NOT NULL,
	person_id         integer     NOT NULL CONSTRAINT approval_decision_person_fkey REFERENCES billing.person,
	on_behalf_of      integer     CONSTRAINT approval_decision_on_behalf_of_fkey REFERENCES billing.person,
	document_id       bigint      NOT NULL,
	document_version  integer     NOT NULL,
	given_for_version integer     NOT NULL,
	decision          text        NOT NULL,
	counts            boolean     NOT NULL,
	is_escalation     boolean     NOT NULL DEFAULT false,
	reason            text,
	decided_at        timestamptz NOT NULL DEFAULT now(),
	login             name        NOT NULL DEFAULT session_user,
	login_person_id   integer     NOT NULL CONSTRAINT approval_decision_login_person_fkey REFERENCES billing.person,
	CONSTRAINT approval_decision_pkey PRIMARY KEY (entity_id, request_id, person_id),
	CONSTRAINT approval_decision_request_fkey FOREIGN KEY (entity_id, request_id) REFERENCES billing.approval_request,
	CONSTRAINT approval_decision_known CHECK (decision IN ('approve', 'reject')),
	CONSTRAINT approval_decision_for_another CHECK (on_behalf_of <> person_id)
);
-- Four eyes, whatever the functions do: a person counts once for a version of a document, and so does whoever stands behind them
CREATE UNIQUE INDEX approval_decision_person_once ON billing.approval_decision (entity_id, document_id, document_version, person_id)
	WHERE counts;
CREATE UNIQUE INDEX approval_decision_mandate_once
	ON billing.approval_decision (entity_id, document_id, document_version, (coalesce(on_behalf_of, person_id))) WHERE counts;
COMMENT ON TABLE billing.approval_decision IS
	'What each person said: a row for every open request of the stage that they could decide, of which exactly one counts';
COMMENT ON COLUMN billing.approval_decision.entity_id IS 'The entity';
COMMENT ON COLUMN billing.approval_decision.request_id IS 'The request';
COMMENT ON COLUMN billing.approval_decision.person_id IS 'Who decided';
COMMENT ON COLUMN billing.approval_decision.on_behalf_of IS 'Whose delegate they were, if they had no right of their own';
COMMENT ON COLUMN billing.approval_decision.document_id IS 'The document';
COMMENT ON COLUMN billing.approval_decision.document_version IS 'The version of the document for which it counts';
COMMENT ON COLUMN billing.approval_decision.given_for_version IS 'The version of the document that they saw: an earlier one where nothing of weight was changed since';
COMMENT ON COLUMN billing.approval_decision.decision IS 'approve or reject';
COMMENT ON COLUMN billing.approval_decision.counts IS 'Whether it counts for this request: a person who can decide several counts for one';
COMMENT ON COLUMN billing.approval_decision.is_escalation IS 'Whether they could decide because the deadline had passed';
COMMENT ON COLUMN billing.approval_decision.reason IS 'Why, as they said';
COMMENT ON COLUMN billing.approval_decision.decided_at IS 'When the transaction began';
COMMENT ON COLUMN billing.approval_decision.login IS 'The session user';
COMMENT ON COLUMN billing.approval_decision.login_person_id IS 'Whose login that is: the application, where one acted for them';

CREATE TABLE billing.delegation (
	entity_id     integer     NOT NULL CONSTRAINT delegation_entity_fkey REFERENCES billing.legal_entity,
	delegation_id bigserial,
	from_person   integer     NOT NULL CONSTRAINT delegation_from_person_fkey REFERENCES billing.person,
	to_person     integer     NOT NULL CONSTRAINT delegation_to_person_fkey REFERENCES billing.person,
	duty          text        CONSTRAINT delegation_duty_fkey REFERENCES billing.duty,
	max_amount    billing.amount,
	valid_from    date        NOT NULL,
	valid_to      date        NOT NULL,
	reason        text,
	CONSTRAINT delegation_pkey PRIMARY KEY (entity_id, delegation_id),
	CONSTRAINT delegation_to_another CHECK (from_person <> to_person),
	CONSTRAINT delegation_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT delegation_ends_after_start CHECK (valid_from <= valid_to),
	CONSTRAINT delegation_amount_not_negative CHECK (max_amount >= 0),
	CONSTRAINT delegation_reason_length CHECK (octet_length(reason) <= 10000)
);
CREATE INDEX delegation_by_giver ON billing.delegation (entity_id, from_person);
CREATE INDEX delegation_by_taker ON billing.delegation (entity_id, to_person);
COMMENT ON TABLE billing.delegation IS
	'Who may decide in whose place, from a date to a date; what was delegated cannot be delegated on';
COMMENT ON COLUMN billing.delegation.entity_id IS 'The entity';
COMMENT ON COLUMN billing.delegation.delegation_id IS 'Key within the entity';
COMMENT ON COLUMN billing.delegation.from_person IS 'Who delegates';
COMMENT ON COLUMN billing.delegation.to_person IS 'Who decides in their place';
COMMENT ON COLUMN billing.delegation.duty IS 'For requests to holders of this duty only; null for all requests, also those to the person by name';
COMMENT ON COLUMN billing.delegation.max_amount IS 'Largest amount, in the entity''s currency; null for no bound beside the delegator''s own limit';
COMMENT ON COLUMN billing.delegation.valid_from IS 'First day, in the entity''s time zone';
COMMENT ON COLUMN billing.delegation.valid_to IS 'Day after the last; equal to valid_from where it was taken back before it began';
COMMENT ON COLUMN billing.delegation.reason IS 'Why, as the person said';

CREATE TABLE billing.absence (
	entity_id  integer   NOT NULL CONSTRAINT absence_entity_fkey REFERENCES billing.legal_entity,
	absence_id bigserial,
	person_id  integer   NOT NULL CONSTRAINT absence_person_fkey REFERENCES billing.person,
	valid_from date      NOT NULL,
	valid_to   date      NOT NULL,
	reason     text,
	CONSTRAINT absence_pkey PRIMARY KEY (entity_id, absence_id),
	CONSTRAINT absence_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT absence_ends_after_start CHECK (valid_from <= valid_to),
	CONSTRAINT absence_no_overlap EXCLUDE USING gist (
		entity_id WITH =, person_id WITH =, daterange(valid_from, valid_to) WITH &&),
	CONSTRAINT absence_reason_length CHECK (octet_length(reason) <= 10000)
);
COMMENT ON TABLE billing.absence IS
	'When somebody is not there: they decide nothing, and nobody waits for them';
COMMENT ON COLUMN billing.absence.entity_id IS 'The entity';
COMMENT ON COLUMN billing.absence.absence_id IS 'Key within the entity';
COMMENT ON COLUMN billing.absence.person_id IS 'Who is absent';
COMMENT ON COLUMN billing.absence.valid_from IS 'First day, in the entity''s time zone';
COMMENT ON COLUMN billing.absence.valid_to IS 'Day after the last; equal to valid_from where it was taken back before it began';
COMMENT ON COLUMN billing.absence.reason IS 'Why, as somebody said';

CREATE TABLE billing.reporting_line (
	entity_id  integer NOT NULL CONSTRAINT reporting_line_entity_fkey REFERENCES billing.legal_entity,
	person_id  integer NOT NULL CONSTRAINT reporting_line_person_fkey REFERENCES billing.person,
	manager_id integer NOT NULL CONSTRAINT reporting_line_manager_fkey REFERENCES billing.person,
	CONSTRAINT reporting_line_pkey PRIMARY KEY (entity_id, person_id),
	CONSTRAINT reporting_line_to_another CHECK (person_id <> manager_id)
);
COMMENT ON TABLE billing.reporting_line IS 'Who is whose manager in an entity: for policies that ask the maker''s manager';
COMMENT ON COLUMN billing.reporting_line.entity_id IS 'The entity';
COMMENT ON COLUMN billing.reporting_line.person_id IS 'The person';
COMMENT ON COLUMN billing.reporting_line.manager_id IS 'Their manager';

CREATE TABLE billing.approved_on_day (
	entity_id integer        NOT NULL,
	person_id integer        NOT NULL CONSTRAINT approved_on_day_person_fkey REFERENCES billing.person,
	day       date           NOT NULL,
	amount    billing.amount NOT NULL,
	CONSTRAINT approved_on_day_pkey PRIMARY KEY (entity_id, person_id, day),
	CONSTRAINT approved_on_day_not_negative CHECK (amount >= 0)
);
COMMENT ON TABLE billing.approved_on_day IS
	'What was approved in a day under the limit of a person who has a daily limit, by themselves or their delegates';
COMMENT ON COLUMN billing.approved_on_day.entity_id IS 'The entity';
COMMENT ON COLUMN billing.approved_on_day.person_id IS 'Whose limit it counts against';
COMMENT ON COLUMN billing.approved_on_day.day IS 'The day, in the entity''s time zone';
COMMENT ON COLUMN billing.approved_on_day.amount IS 'The sum, in the entity''s currency';

SELECT billing_internal.protect('billing.approval_request', 'document');
SELECT billing_internal.protect('billing.approval_decision', 'document');
SELECT billing_internal.protect('billing.delegation', 'document');
SELECT billing_internal.protect('billing.absence', 'document');
SELECT billing_internal.protect('billing.reporting_line', 'queue');
SELECT billing_internal.protect('billing.approved_on_day', 'document');

SELECT billing_internal.audit_table('billing.delegation', 'delegation', 'delegation_id');
SELECT billing_internal.audit_table('billing.absence', 'absence', 'absence_id');
SELECT billing_internal.audit_table('billing.reporting_line', 'reporting_line', 'person_id');
