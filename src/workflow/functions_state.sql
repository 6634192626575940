-- An entity's own states, documents that are asked for, what can be done with a document and by whom, what is overdue.

CREATE OR REPLACE FUNCTION billing.add_state(
	entity text, kind text, state text, after text DEFAULT NULL, before text DEFAULT NULL, action text DEFAULT NULL,
	duty text DEFAULT NULL, guard text DEFAULT NULL, deadline interval DEFAULT NULL, description text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_add_state';
COMMENT ON FUNCTION billing.add_state(text, text, text, text, text, text, text, text, interval, text) IS
	'Puts a state of the entity''s own between two others: what led on from the first leads to it, and the action leads on, to those with the duty; with the first three arguments turns an optional state on again; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.drop_state(entity text, kind text, state text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_drop_state';
COMMENT ON FUNCTION billing.drop_state(text, text, text) IS
	'Takes a state of the entity''s own out again, or turns an optional one off, where no document is in it; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.set_transition(
	entity text, kind text, from_state text, action text, to_state text DEFAULT NULL, duty text DEFAULT NULL,
	guard text DEFAULT NULL, deadline interval DEFAULT NULL, description text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_set_transition';
COMMENT ON FUNCTION billing.set_transition(text, text, text, text, text, text, text, interval, text) IS
	'Makes or changes an action of the entity''s own; of a built-in one it sets the deadline (0: none), or the guard independent where there is none; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.drop_transition(entity text, kind text, from_state text, action text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_drop_transition';
COMMENT ON FUNCTION billing.drop_transition(text, text, text, text) IS
	'Drops an action of the entity''s own, or what it set for a built-in one; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.state_machine(entity text)
	RETURNS TABLE (kind text, from_state text, action text, to_state text, duty text, guard text, deadline interval,
		is_own boolean, own_state text, function_name text, description text)
	LANGUAGE SQL STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT t.kind, t.from_state, t.action, t.to_state, t.duty, t.guard, t.deadline,
		NOT EXISTS (
			SELECT FROM billing.transition b
			WHERE b.kind = t.kind AND b.from_state = t.from_state AND b.action = t.action AND b.to_state = t.to_state
				AND b.guard IS NOT DISTINCT FROM t.guard AND b.deadline IS NOT DISTINCT FROM t.deadline),
		t.own_state, t.function_name, t.description
	FROM (SELECT billing_internal.entity_id(state_machine.entity) AS entity_id) e
	CROSS JOIN LATERAL billing_internal.transition_of(e.entity_id) t
	ORDER BY t.kind, t.from_state, t.action;
END;
COMMENT ON FUNCTION billing.state_machine(text) IS
	'The transitions of an entity''s documents: the built-in ones and its own';

-- Documents are called D12, U12 or R12: invoices and credit notes, corrections of usage, what was asked for
CREATE OR REPLACE FUNCTION billing_internal.document_reference(kind text, document bigint) RETURNS text
	LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN kind IN ('invoice', 'credit_note') THEN 'D' WHEN kind = 'usage_correction' THEN 'U' ELSE 'R' END || document;
COMMENT ON FUNCTION billing_internal.document_reference(text, bigint) IS
	'What people call a document before it has a number';

CREATE OR REPLACE FUNCTION billing_internal.document_id(entity integer, reference text) RETURNS bigint
	STABLE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_document_id';
COMMENT ON FUNCTION billing_internal.document_id(integer, text) IS
	'The document of an entity that a reference names; raises ZB002 otherwise';

CREATE OR REPLACE FUNCTION billing.request_document(
	entity text, kind text, subject text, amount numeric, currency text, payload jsonb DEFAULT '{}', reason text DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_request';
COMMENT ON FUNCTION billing.request_document(text, text, text, numeric, text, jsonb, text) IS
	'Asks for a contract amendment, price change, write-off, refund, milestone, journal or reopening of a period, and returns its reference; billing.take_action() takes it on; needs the duty of whoever submits it';

CREATE OR REPLACE FUNCTION billing.take_action(
	entity text, document text, action text, version integer DEFAULT NULL, reason text DEFAULT NULL) RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_take_action';
COMMENT ON FUNCTION billing.take_action(text, text, text, integer, text) IS
	'Takes an action of billing.state_machine() that has no function of its own, and returns the state after it; needs the duty that the action needs';

CREATE OR REPLACE FUNCTION billing.available_actions(entity text, document text)
	RETURNS TABLE (action text, is_allowed boolean, obstacle text, explanation text, to_state text, duty text, guard text,
		function_name text, deadline timestamptz, version integer)
	LANGUAGE SQL STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH asked AS (
		SELECT d.*, e.id AS of_entity, e.currency AS books, e.today
		FROM (
			SELECT l.entity_id AS id, l.currency::text AS currency, (now() AT TIME ZONE l.time_zone)::date AS today
			FROM billing.legal_entity l
			WHERE l.entity_id = billing_internal.entity_id(available_actions.entity)
		) e
		JOIN billing.document d ON d.entity_id = e.id
			AND d.document_id = billing_internal.document_id(e.id, available_actions.document)
	), found AS (
		SELECT string_agg(DISTINCT x.kind, ', ' ORDER BY x.kind) AS kinds
		FROM asked a
		JOIN billing.exception x ON x.entity_id = a.entity_id AND x.document_id = a.document_id AND x.state = 'open'
		JOIN billing.exception_kind k ON k.kind = x.kind AND k.severity = 'error'
	), wanted AS (
		-- what a policy asks for: who is asked decides, whatever the duty
		SELECT bool_or(true) AS is_asked,
			bool_or(c.person_id = billing_internal.actor_id() AND c.obstacle IS NULL) AS is_mine,
			min(c.obstacle) FILTER (WHERE c.person_id = billing_internal.actor_id()) AS obstacle
		FROM asked a
		JOIN billing.approval_request r ON r.entity_id = a.entity_id AND r.document_id = a.document_id
			AND r.document_version = a.version AND r.state = 'open'
		LEFT JOIN billing.approval_candidate c ON c.entity_id = r.entity_id AND c.request_id = r.request_id
	), machine AS (
		SELECT t.*, a.state = t.from_state AS is_now, a.state_since + t.deadline AS due
		FROM asked a
		CROSS JOIN LATERAL billing_internal.transition_of(a.of_entity) t
		WHERE t.kind = a.kind
	), offered AS (
		SELECT m.action, bool_or(m.is_now) AS is_now,
			min(m.to_state) FILTER (WHERE m.is_now) AS to_state, min(m.duty) FILTER (WHERE m.is_now) AS duty,
			min(m.guard) FILTER (WHERE m.is_now) AS guard, min(m.function_name) FILTER (WHERE m.is_now) AS function_name,
			min(m.due) FILTER (WHERE m.is_now) AS due, string_agg(m.from_state, ', ' ORDER BY m.from_state) AS from_states
		FROM machine m
		GROUP BY m.action
	), judged AS (
		SELECT o.*, a.version,
			CASE
				WHEN NOT o.is_now AND f.kinds IS NOT NULL AND a.state = 'on_hold' THEN 'exception'
				WHEN NOT o.is_now THEN 'state'
				WHEN o.function_name IS NULL THEN 'function'
				WHEN o.guard = 'independent'
					AND a.maker_id IN (billing_internal.actor_id(), billing_internal.session_person_id())
					AND (w.is_asked OR billing.has_duty(available_actions.entity, o.duty)) THEN 'own_making'
				WHEN w.is_asked AND o.action IN ('approve', 'reject') THEN
					CASE WHEN NOT coalesce(w.is_mine, false) THEN 'request' END
				WHEN NOT billing.has_duty(available_actions.entity, o.duty) THEN 'duty'
				WHEN o.guard = 'maker' AND a.maker_id <> billing_internal.actor_id() THEN 'other_maker'
				WHEN o.guard = 'independent' AND NOT EXISTS (
					SELECT FROM billing.duty_assignment g
					WHERE g.entity_id = a.entity_id AND g.person_id = billing_internal.actor_id() AND g.duty = o.duty
						AND daterange(g.valid_from, g.valid_to) @> a.today
						AND (g.approval_limit IS NULL OR (a.books = a.currency AND g.approval_limit >= abs(a.amount)))) THEN 'limit'
			END AS obstacle,
			f.kinds, w.obstacle AS against
		FROM offered o
		CROSS JOIN asked a
		CROSS JOIN found f
		CROSS JOIN wanted w
	)
	SELECT j.action, j.obstacle IS NULL, j.obstacle,
		CASE j.obstacle
			WHEN 'exception' THEN 'open exceptions stand against the document: ' || j.kinds
			WHEN 'state' THEN 'can be done in state ' || j.from_states
			WHEN 'function' THEN 'no function does it as yet'
			WHEN 'duty' THEN 'needs the duty ' || j.duty
			WHEN 'request' THEN coalesce('you are asked, but: ' || j.against, 'a policy asks others')
			WHEN 'own_making' THEN 'nobody decides about a document of their own making'
			WHEN 'other_maker' THEN 'only its maker can'
			WHEN 'limit' THEN 'the amount is beyond your limit'
		END,
		j.to_state, j.duty, j.guard, j.function_name, j.due, j.version
	FROM judged j
	ORDER BY j.obstacle IS NOT NULL, j.is_now DESC, j.action;
END;
COMMENT ON FUNCTION billing.available_actions(text, text) IS
	'What the actor may do with a document now, and why not the rest: state, exception, function, duty, request (a policy asks others), own_making, other_maker or limit';

CREATE OR REPLACE FUNCTION billing.cycle_times(entity text, since date DEFAULT NULL)
	RETURNS TABLE (kind text, state text, left_by text, steps bigint, median interval, ninth_decile interval, longest interval)
	LANGUAGE SQL STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.kind, s.from_state, s.action, count(*),
		percentile_disc(0.5) WITHIN GROUP (ORDER BY s.time_in_state),
		percentile_disc(0.9) WITHIN GROUP (ORDER BY s.time_in_state),
		max(s.time_in_state)
	FROM billing.legal_entity l
	JOIN billing.document_step s ON s.entity_id = l.entity_id
	JOIN billing.document d ON d.entity_id = s.entity_id AND d.document_id = s.document_id
	WHERE l.entity_id = billing_internal.entity_id(cycle_times.entity) AND s.time_in_state IS NOT NULL
		AND (since IS NULL OR s.happened_at >= billing_internal.checked_date(since, 'day')::timestamp AT TIME ZONE l.time_zone)
	GROUP BY d.kind, s.from_state, s.action
	ORDER BY d.kind, s.from_state, s.action;
END;
COMMENT ON FUNCTION billing.cycle_times(text, date) IS
	'How long an entity''s documents stood in each state until which action: median, ninth decile and longest, since a day or ever';

-- One exception for each time that a document waits too long, closed when it goes on
CREATE OR REPLACE FUNCTION billing_internal.raise_overdue_documents() RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	UPDATE billing.exception x
	SET state = 'resolved', resolved_at = now(), resolved_by = 0, resolution = 'the document went on'
	FROM billing.document d
	WHERE x.kind = 'document_overdue' AND x.state = 'open'
		AND d.entity_id = x.entity_id AND d.document_id = x.document_id
		AND x.dedupe_key <> format('D%s version %s', d.document_id, d.version);

	INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)
	SELECT o.entity_id, k.kind, format('D%s version %s', o.document_id, o.version),
		billing_internal.document_reference(o.kind, o.document_id), o.document_id,
		format('%s waits in state %s for %s since %s', o.kind, o.state, o.actions, to_char(o.state_since AT TIME ZONE o.time_zone, 'YYYY-MM-DD HH24:MI')),
		now() + make_interval(days => k.deadline_days)
	FROM (
		SELECT d.entity_id, d.document_id, d.version, d.kind, d.state, d.state_since, l.time_zone,
			string_agg(format('%s by %s', t.action, t.duty), ', ' ORDER BY t.action) AS actions
		FROM billing.legal_entity l
		CROSS JOIN LATERAL billing_internal.transition_of(l.entity_id) t
		JOIN billing.document d ON d.entity_id = l.entity_id AND d.kind = t.kind AND d.state = t.from_state
			AND d.state NOT IN ('issued', 'paid', 'discarded')
		WHERE t.deadline IS NOT NULL AND d.state_since + t.deadline < now()
		GROUP BY d.entity_id, d.document_id, d.version, d.kind, d.state, d.state_since, l.time_zone
	) o
	JOIN billing.exception_kind k ON k.kind = 'document_overdue'
	ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING;
END;
COMMENT ON FUNCTION billing_internal.raise_overdue_documents() IS
	'Task overdue_documents: raises one exception for a document that waits longer than the deadline of an action, and closes it when the document goes on';
