-- What waits for whom, and what waits for the actor.

GRANT EXECUTE ON FUNCTION billing_internal.document_reference(text, bigint) TO billing_user;

CREATE OR REPLACE VIEW billing.open_approvals WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	billing_internal.document_reference(d.kind, d.document_id) AS document,
	d.kind,
	d.amount,
	d.currency,
	m.code AS maker,
	r.stage,
	r.level_no AS level,
	CASE WHEN r.approver = 'duty' THEN r.duty ELSE coalesce(p.code, 'nobody (' || r.approver || ')') END AS waits_for,
	(SELECT count(*) FROM billing.approval_decision s
		WHERE s.entity_id = r.entity_id AND s.request_id = r.request_id AND s.counts) AS approvals,
	r.needed,
	r.opened_at AS since,
	r.deadline,
	coalesce(r.deadline < now(), false) AS is_overdue,
	CASE WHEN r.escalated_at IS NOT NULL THEN r.escalate_to END AS escalated_to,
	r.reminded_at,
	d.version,
	r.entity_id,
	r.document_id,
	r.request_id
FROM billing.approval_request r
JOIN billing.document d ON d.entity_id = r.entity_id AND d.document_id = r.document_id
JOIN billing.legal_entity e ON e.entity_id = r.entity_id
LEFT JOIN billing.person m ON m.person_id = d.maker_id
LEFT JOIN billing.person p ON p.person_id = r.person_id
WHERE r.state = 'open';
COMMENT ON VIEW billing.open_approvals IS 'What waits for whose approval, since when, and by when it should be decided';
COMMENT ON COLUMN billing.open_approvals.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.open_approvals.document IS 'Reference of the document, as billing.decide() takes it';
COMMENT ON COLUMN billing.open_approvals.kind IS 'Kind of document';
COMMENT ON COLUMN billing.open_approvals.amount IS 'What is decided upon';
COMMENT ON COLUMN billing.open_approvals.currency IS 'Its currency';
COMMENT ON COLUMN billing.open_approvals.maker IS 'Who made it';
COMMENT ON COLUMN billing.open_approvals.stage IS 'Stage of the policy';
COMMENT ON COLUMN billing.open_approvals.level IS 'Level of the policy';
COMMENT ON COLUMN billing.open_approvals.waits_for IS 'The duty whose holders are asked, or the person; nobody: the contract has no owner, or the maker no manager';
COMMENT ON COLUMN billing.open_approvals.approvals IS 'How many approvals it has';
COMMENT ON COLUMN billing.open_approvals.needed IS 'How many it needs; null for all who are there';
COMMENT ON COLUMN billing.open_approvals.since IS 'Since when it waits';
COMMENT ON COLUMN billing.open_approvals.deadline IS 'By when it should be decided; null for no deadline';
COMMENT ON COLUMN billing.open_approvals.is_overdue IS 'Whether that has passed';
COMMENT ON COLUMN billing.open_approvals.escalated_to IS 'The duty whose holders may decide as well because it has';
COMMENT ON COLUMN billing.open_approvals.reminded_at IS 'When whoever is asked was reminded';
COMMENT ON COLUMN billing.open_approvals.version IS 'Version of the document';
COMMENT ON COLUMN billing.open_approvals.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.open_approvals.document_id IS 'Key of the document';
COMMENT ON COLUMN billing.open_approvals.request_id IS 'Key of the request';

CREATE OR REPLACE VIEW billing.my_approvals WITH (security_invoker = true) AS
SELECT
	o.entity,
	o.document,
	o.kind,
	o.amount,
	o.currency,
	o.maker,
	o.level,
	o.since,
	o.deadline,
	o.is_overdue,
	c.is_escalation,
	b.code AS on_behalf_of,
	o.version,
	o.entity_id,
	o.document_id,
	o.request_id
FROM billing.approval_candidate c
JOIN billing.open_approvals o ON o.entity_id = c.entity_id AND o.request_id = c.request_id
JOIN billing.person i ON i.person_id = c.person_id
LEFT JOIN billing.person b ON b.person_id = c.on_behalf_of
WHERE c.obstacle IS NULL AND i.code = (SELECT billing.current_actor());
COMMENT ON VIEW billing.my_approvals IS 'What the actor may decide now, in their own right or in another''s place';
COMMENT ON COLUMN billing.my_approvals.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.my_approvals.document IS 'Reference of the document, as billing.decide() takes it';
COMMENT ON COLUMN billing.my_approvals.kind IS 'Kind of document';
COMMENT ON COLUMN billing.my_approvals.amount IS 'What is decided upon';
COMMENT ON COLUMN billing.my_approvals.currency IS 'Its currency';
COMMENT ON COLUMN billing.my_approvals.maker IS 'Who made it';
COMMENT ON COLUMN billing.my_approvals.level IS 'Level of the policy';
COMMENT ON COLUMN billing.my_approvals.since IS 'Since when it waits';
COMMENT ON COLUMN billing.my_approvals.deadline IS 'By when it should be decided';
COMMENT ON COLUMN billing.my_approvals.is_overdue IS 'Whether that has passed';
COMMENT ON COLUMN billing.my_approvals.is_escalation IS 'Whether it came because others let the deadline pass';
COMMENT ON COLUMN billing.my_approvals.on_behalf_of IS 'In whose place the actor decides; null for their own right';
COMMENT ON COLUMN billing.my_approvals.version IS 'Version of the document: billing.decide() refuses a later one that was not seen';
COMMENT ON COLUMN billing.my_approvals.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.my_approvals.document_id IS 'Key of the document';
COMMENT ON COLUMN billing.my_approvals.request_id IS 'Key of the request';
