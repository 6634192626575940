-- The approval matrix as people read it.

CREATE OR REPLACE VIEW billing.approval_policies WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	p.kind,
	p.priority,
	p.code AS policy,
	coalesce(p.condition::text, 'always') AS condition,
	p.outcome,
	l.levels,
	p.valid_from,
	p.valid_to,
	p.superseded_at IS NULL AND p.valid_from <= t.today AND (p.valid_to IS NULL OR p.valid_to > t.today) AS is_valid,
	p.description,
	p.recorded_at,
	m.code AS recorded_by,
	p.superseded_at,
	p.entity_id,
	p.policy_id
FROM billing.approval_policy p
JOIN billing.legal_entity e USING (entity_id)
CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE e.time_zone)::date AS today) t
LEFT JOIN billing.person m ON m.person_id = p.recorded_by
LEFT JOIN LATERAL (
	SELECT string_agg(
		CASE v.approver
			WHEN 'duty' THEN format('%s%s', CASE WHEN v.needed IS NULL THEN 'all ' WHEN v.needed > 1 THEN v.needed || ' of ' END, v.duty)
			WHEN 'person' THEN q.code::text
			WHEN 'contract_owner' THEN 'the contract''s owner'
			ELSE 'the maker''s manager' END
		|| CASE WHEN v.min_limit THEN ' within their limit' ELSE '' END
		|| CASE WHEN v.deadline IS NOT NULL THEN format(' within %s', v.deadline) ELSE '' END
		|| CASE WHEN v.escalate_to IS NOT NULL THEN format(', then %s', v.escalate_to) ELSE '' END,
		CASE WHEN v.stage IS DISTINCT FROM v.previous_stage THEN '; then ' ELSE ' and ' END ORDER BY v.stage, v.level_no) AS levels
	FROM (
		SELECT x.*, lag(x.stage) OVER (ORDER BY x.stage, x.level_no) AS previous_stage
		FROM billing.approval_level x
		WHERE x.entity_id = p.entity_id AND x.policy_id = p.policy_id
	) v
	LEFT JOIN billing.person q ON q.person_id = v.person_id
) l ON true;
COMMENT ON VIEW billing.approval_policies IS 'The approval policies of the entities that one works in, every version, in the order in which they are asked within kind and priority';
COMMENT ON COLUMN billing.approval_policies.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.approval_policies.kind IS 'Kind of documents';
COMMENT ON COLUMN billing.approval_policies.priority IS 'Lower ones are asked first';
COMMENT ON COLUMN billing.approval_policies.policy IS 'What API functions call the policy';
COMMENT ON COLUMN billing.approval_policies.condition IS 'What must hold of a document';
COMMENT ON COLUMN billing.approval_policies.outcome IS 'levels, automatic or forbid';
COMMENT ON COLUMN billing.approval_policies.levels IS 'Who approves: "and" joins those who are asked at once, "then" those who follow';
COMMENT ON COLUMN billing.approval_policies.valid_from IS 'First day';
COMMENT ON COLUMN billing.approval_policies.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.approval_policies.is_valid IS 'Whether it holds today';
COMMENT ON COLUMN billing.approval_policies.description IS 'Why it is so, as whoever set it said';
COMMENT ON COLUMN billing.approval_policies.recorded_at IS 'When this version was set';
COMMENT ON COLUMN billing.approval_policies.recorded_by IS 'Who set it';
COMMENT ON COLUMN billing.approval_policies.superseded_at IS 'When it was taken back before it could end';
COMMENT ON COLUMN billing.approval_policies.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.approval_policies.policy_id IS 'Key of the version';
