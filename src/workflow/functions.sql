-- Exceptions, and the checks of documents' lives.

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
			WHERE t.kind = s.kind AND t.from_state = s.from_state AND t.action = s.action AND t.to_state = s.to_state))
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
	LEFT JOIN billing.document_state t ON t.kind = d.kind AND t.state = d.state
	LEFT JOIN billing.person p ON p.person_id = d.maker_id
	LEFT JOIN billing.currency y ON y.currency = d.currency
	LEFT JOIN billing.legal_entity l ON l.entity_id = d.entity_id
	WHERE t.state IS NULL OR p.person_id IS NULL OR y.currency IS NULL OR l.entity_id IS NULL OR s.by_nobody IS DISTINCT FROM false
	UNION ALL
	SELECT 'nobody approved a document of their own making', count(*),
		min(format('document D%s', d.document_id))
	FROM billing.document_step s
	JOIN billing.document d USING (entity_id, document_id)
	WHERE (entity IS NULL OR d.entity_id = entity) AND s.action = 'approve' AND s.actor_id = d.maker_id;
END;
COMMENT ON FUNCTION billing_internal.verify_workflow(integer) IS
	'Checks of the documents'' lives: steps, states, and who approved';
