-- The state machine as an entity has it, documents that are asked for, exceptions, and the checks of documents' lives.

-- Inlined into the statements that use it: not SECURITY DEFINER, no settings
CREATE OR REPLACE FUNCTION billing_internal.transition_of(entity integer)
	RETURNS TABLE (kind text, from_state text, action text, to_state text, duty text, guard text, deadline interval,
		approves boolean, own_state text, function_name text, description text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT t.kind, t.from_state, t.action, t.to_state, t.duty, t.guard, t.deadline, t.approves, t.own_state,
		t.function_name, t.description
	FROM billing.transition t
	WHERE NOT EXISTS (
		SELECT FROM billing.entity_transition o
		WHERE o.entity_id = entity AND o.kind = t.kind AND o.from_state = t.from_state AND o.action = t.action
			AND o.ended_at IS NULL)
	UNION ALL
	SELECT o.kind, o.from_state, o.action::text, o.to_state, o.duty, o.guard, o.deadline, o.approves, o.own_state,
		o.function_name, o.description
	FROM billing.entity_transition o
	WHERE o.entity_id = entity AND o.ended_at IS NULL AND o.to_state IS NOT NULL;
END;
COMMENT ON FUNCTION billing_internal.transition_of(integer) IS
	'The transitions of an entity: those of billing.transition, but for what billing.entity_transition has instead';

CREATE OR REPLACE FUNCTION billing_internal.state_of(entity integer)
	RETURNS TABLE (kind text, state text, stage text, is_final boolean, is_own boolean, is_optional boolean,
		skip_to text, description text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT s.kind, s.state, s.stage, s.is_final, false, s.is_optional, s.skip_to, s.description
	FROM billing.document_state s
	WHERE NOT EXISTS (
		SELECT FROM billing.entity_state o
		WHERE o.entity_id = entity AND o.kind = s.kind AND o.state = s.state AND o.is_off)
	UNION ALL
	SELECT o.kind, o.state::text, 'open', false, true, true, NULL, o.description
	FROM billing.entity_state o
	WHERE o.entity_id = entity AND NOT o.is_off
		AND NOT EXISTS (SELECT FROM billing.document_state s WHERE s.kind = o.kind AND s.state = o.state);
END;
COMMENT ON FUNCTION billing_internal.state_of(integer) IS
	'The states of an entity''s documents: those of billing.document_state that are not turned off, and its own';

CREATE OR REPLACE FUNCTION billing_internal.machine_problem(entity integer, kind text) RETURNS text
	STABLE STRICT
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_machine_problem';
COMMENT ON FUNCTION billing_internal.machine_problem(integer, text) IS
	'Whether an entity''s states could strand a document or lead around an approval, with the path; null where all is well';

CREATE OR REPLACE FUNCTION billing.resolve_exception(entity text, exception_id bigint, resolution text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_resolve_exception';
COMMENT ON FUNCTION billing.resolve_exception(text, bigint, text) IS
	'Closes an exception by hand, saying how; needs the duty that owns its kind';

CREATE OR REPLACE FUNCTION billing_internal.verify_workflow(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH step AS (
		SELECT s.entity_id, s.document_id, s.version, s.from_state, s.to_state, s.action, d.kind,
			d.state, d.version AS document_version,
			lag(s.to_state) OVER life AS previous_state,
			lag(s.version) OVER life AS previous_version,
			lead(s.version) OVER life AS next_version
		FROM billing.document_step s
		JOIN billing.document d USING (entity_id, document_id)
		WHERE entity IS NULL OR s.entity_id = entity
		WINDOW life AS (PARTITION BY s.entity_id, s.document_id ORDER BY s.version)
	)
	SELECT 'every step is a transition that follows the step before', count(*),
		min(format('document D%s, version %s', s.document_id, s.version))
	FROM step s
	WHERE s.from_state IS DISTINCT FROM s.previous_state
		OR s.version <> coalesce(s.previous_version, 0) + 1
		OR (s.from_state IS NOT NULL AND NOT EXISTS (
			SELECT FROM billing.transition t
			WHERE t.kind = s.kind AND t.from_state = s.from_state AND t.action = s.action AND t.to_state = s.to_state)
			AND NOT EXISTS (
			SELECT FROM billing.entity_transition t
			WHERE t.entity_id = s.entity_id AND t.kind = s.kind AND t.from_state = s.from_state AND t.action = s.action
				AND t.to_state = s.to_state))
	UNION ALL
	SELECT 'a document is in the state that its last step led to', count(*),
		min(format('document D%s', d.document_id))
	FROM billing.document d
	LEFT JOIN (SELECT * FROM step WHERE step.next_version IS NULL) s USING (entity_id, document_id)
	WHERE (entity IS NULL OR d.entity_id = entity)
		AND (s.to_state IS DISTINCT FROM d.state OR s.version IS DISTINCT FROM d.version)
	UNION ALL
	SELECT 'steps have their document, and documents a state, a maker and a currency', count(*),
		min(format('document D%s', coalesce(d.document_id, s.document_id)))
	FROM (SELECT * FROM billing.document x WHERE entity IS NULL OR x.entity_id = entity) d
	FULL JOIN (
		SELECT DISTINCT x.entity_id, x.document_id, p.person_id IS NULL AS by_nobody
		FROM billing.document_step x
		LEFT JOIN billing.person p ON p.person_id = x.actor_id
		WHERE entity IS NULL OR x.entity_id = entity
	) s USING (entity_id, document_id)
	LEFT JOIN (
		SELECT NULL::integer AS entity_id, b.kind, b.state FROM billing.document_state b
		UNION ALL
		SELECT o.entity_id, o.kind, o.state FROM billing.entity_state o
		WHERE NOT o.is_off AND NOT EXISTS (SELECT FROM billing.document_state b WHERE b.kind = o.kind AND b.state = o.state)
	) t ON t.kind = d.kind AND t.state = d.state AND coalesce(t.entity_id, d.entity_id) = d.entity_id
	LEFT JOIN billing.person p ON p.person_id = d.maker_id
	LEFT JOIN billing.currency y ON y.currency = d.currency
	LEFT JOIN billing.legal_entity l ON l.entity_id = d.entity_id
	WHERE t.state IS NULL OR p.person_id IS NULL OR y.currency IS NULL OR l.entity_id IS NULL OR s.by_nobody IS DISTINCT FROM false
	UNION ALL
	SELECT 'an entity''s own states strand no document and lead around no approval', count(*),
		min(format('%s of entity %s: %s', m.kind, m.entity_id, m.problem))
	FROM (
		SELECT o.entity_id, o.kind, billing_internal.machine_problem(o.entity_id, o.kind) AS problem
		FROM (
			SELECT x.entity_id, x.kind FROM billing.entity_transition x WHERE x.ended_at IS NULL
			UNION SELECT y.entity_id, y.kind FROM billing.entity_state y
		) o
		WHERE entity IS NULL OR o.entity_id = entity
	) m
	WHERE m.problem IS NOT NULL
	UNION ALL
	SELECT 'nobody approved a document of their own making', count(*),
		min(format('document D%s', d.document_id))
	FROM billing.document_step s
	JOIN billing.document d USING (entity_id, document_id)
	WHERE (entity IS NULL OR d.entity_id = entity) AND s.action = 'approve' AND s.actor_id = d.maker_id;
END;
COMMENT ON FUNCTION billing_internal.verify_workflow(integer) IS
	'Checks of the documents'' lives: steps, states, and who approved';
