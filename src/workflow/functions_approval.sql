-- Approvals: who may decide, deciding about many, standing in for others, escalation, and the checks.

-- In their own right or in another's place. Every bound of a decision is here but the limit of a day, which is counted when somebody
-- decides: the functions read these rows under the lock of the document.
CREATE OR REPLACE VIEW billing.approval_candidate WITH (security_invoker = true) AS
WITH mandate AS NOT MATERIALIZED (
	SELECT r.entity_id, r.document_id, r.request_id, a.person_id, a.duty, a.assignment_id, a.approval_limit, w.is_escalation
	FROM billing.approval_request r
	JOIN billing.legal_entity e ON e.entity_id = r.entity_id
	CROSS JOIN LATERAL (VALUES
		(r.duty, false),
		(CASE WHEN r.escalated_at IS NOT NULL THEN r.escalate_to END, true)) AS w (duty, is_escalation)
	JOIN billing.duty_assignment a ON a.entity_id = r.entity_id AND a.duty = w.duty
		AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date
	WHERE r.state = 'open'
	UNION ALL
	SELECT r.entity_id, r.document_id, r.request_id, r.person_id, NULL, a.assignment_id, a.approval_limit, false
	FROM billing.approval_request r
	JOIN billing.legal_entity e ON e.entity_id = r.entity_id
	LEFT JOIN billing.duty_assignment a ON a.entity_id = r.entity_id AND a.person_id = r.person_id AND a.duty = 'approver'
		AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date
	WHERE r.state = 'open' AND r.person_id IS NOT NULL
), candidate AS NOT MATERIALIZED (
	SELECT m.entity_id, m.document_id, m.request_id, m.person_id, NULL::integer AS on_behalf_of, m.duty, m.assignment_id, m.approval_limit,
		m.is_escalation, NULL::bigint AS delegation_id, NULL::numeric AS max_amount
	FROM mandate m
	UNION ALL
	SELECT m.entity_id, m.document_id, m.request_id, g.to_person, m.person_id, m.duty, m.assignment_id, m.approval_limit,
		m.is_escalation, g.delegation_id, g.max_amount
	FROM mandate m
	JOIN billing.legal_entity e ON e.entity_id = m.entity_id
	JOIN billing.delegation g ON g.entity_id = m.entity_id AND g.from_person = m.person_id
		AND (g.duty IS NULL OR g.duty = m.duty)
		AND daterange(g.valid_from, g.valid_to) @> (now() AT TIME ZONE e.time_zone)::date
)
SELECT
	c.entity_id,
	c.document_id,
	c.request_id,
	c.person_id,
	c.on_behalf_of,
	c.assignment_id,
	c.delegation_id,
	c.is_escalation,
	r.amount,
	CASE
		WHEN c.person_id = d.maker_id THEN 'maker'
		WHEN c.on_behalf_of = d.maker_id THEN 'mandate of the maker'
		WHEN EXISTS (
			SELECT FROM billing.approval_decision s
			WHERE s.entity_id = r.entity_id AND s.document_id = r.document_id AND s.document_version = r.document_version AND s.counts
				AND (s.person_id IN (c.person_id, c.on_behalf_of) OR s.on_behalf_of IN (c.person_id, c.on_behalf_of)))
			THEN 'decided'
		WHEN EXISTS (
			SELECT FROM billing.absence b
			WHERE b.entity_id = c.entity_id AND b.person_id = c.person_id
				AND daterange(b.valid_from, b.valid_to) @> (now() AT TIME ZONE e.time_zone)::date)
			THEN 'absent'
		-- whoever is asked by name holds what they hold; auditors and applications decide nothing, and a delegate combines nothing
		WHEN EXISTS (
			SELECT FROM billing.duty_assignment h
			WHERE h.entity_id = c.entity_id AND h.person_id = c.person_id
				AND daterange(h.valid_from, h.valid_to) @> (now() AT TIME ZONE e.time_zone)::date
				AND (h.duty IN ('auditor', 'application') AND c.duty IS NULL
					OR c.on_behalf_of IS NOT NULL AND EXISTS (
						SELECT FROM billing.duty_conflict x
						WHERE (x.duty, x.conflict_duty) IN (
							(h.duty, coalesce(c.duty, 'approver')), (coalesce(c.duty, 'approver'), h.duty)))))
			THEN 'conflict'
		WHEN r.min_limit AND (c.assignment_id IS NULL
			OR c.approval_limit IS NOT NULL AND coalesce(c.approval_limit < r.amount, true)) THEN 'limit'
		WHEN c.max_amount IS NOT NULL AND coalesce(c.max_amount < r.amount, true) THEN 'limit'
	END AS obstacle
FROM candidate c
JOIN billing.approval_request r ON r.entity_id = c.entity_id AND r.request_id = c.request_id AND r.state = 'open'
JOIN billing.document d ON d.entity_id = r.entity_id AND d.document_id = r.document_id
JOIN billing.legal_entity e ON e.entity_id = r.entity_id
WHERE EXISTS (
	SELECT FROM billing.duty_assignment h
	WHERE h.entity_id = c.entity_id AND h.person_id = c.person_id
		AND daterange(h.valid_from, h.valid_to) @> (now() AT TIME ZONE e.time_zone)::date);
COMMENT ON VIEW billing.approval_candidate IS
	'Who is asked by an open request, in their own right or in another''s place, and what stands against their decision today';
COMMENT ON COLUMN billing.approval_candidate.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.approval_candidate.document_id IS 'The document';
COMMENT ON COLUMN billing.approval_candidate.request_id IS 'The request';
COMMENT ON COLUMN billing.approval_candidate.person_id IS 'Who is asked';
COMMENT ON COLUMN billing.approval_candidate.on_behalf_of IS 'In whose place, where it is not in their own right';
COMMENT ON COLUMN billing.approval_candidate.assignment_id IS 'The duty under which they are asked, of which the limit is';
COMMENT ON COLUMN billing.approval_candidate.delegation_id IS 'The delegation, if it is one';
COMMENT ON COLUMN billing.approval_candidate.is_escalation IS 'Whether they are asked because the deadline has passed';
COMMENT ON COLUMN billing.approval_candidate.amount IS 'What the limits are compared with, in the entity''s currency; null where there was no rate';
COMMENT ON COLUMN billing.approval_candidate.obstacle IS 'Null: they may decide. maker, mandate of the maker, decided (every person counts once), absent, conflict (of duties), limit';

CREATE OR REPLACE FUNCTION billing.decide(
	entity text, documents text[], decision text, reason text DEFAULT NULL, versions integer[] DEFAULT NULL)
	RETURNS TABLE (document text, outcome text, error text, message text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_decide_many';
COMMENT ON FUNCTION billing.decide(text, text[], text, text, integer[]) IS
	'Approves or rejects many documents, each checked by itself: the state it came to, recorded (it waits for others), or refused with the error; refusals are kept in the audit log; versions, if given, are those that the caller has seen';

CREATE OR REPLACE FUNCTION billing.delegate(
	entity text, to_person text, valid_from date, valid_to date, duty text DEFAULT NULL, max_amount numeric DEFAULT NULL,
	reason text DEFAULT NULL, from_person text DEFAULT NULL) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_delegate';
COMMENT ON FUNCTION billing.delegate(text, text, date, date, text, numeric, text, text) IS
	'Lets another person decide in the actor''s place, from a day to the day before another, for one duty or all, up to an amount; it cannot be delegated on, and the delegate''s own duties and what they made count; from_person: an admin does it for somebody';

CREATE OR REPLACE FUNCTION billing.end_delegation(entity text, delegation bigint, day date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_end_delegation';
COMMENT ON FUNCTION billing.end_delegation(text, bigint, date) IS
	'Ends a delegation with the day before the given one (today); for either of the two, or an admin';

CREATE OR REPLACE FUNCTION billing.set_absence(
	entity text, valid_from date, valid_to date, delegate text DEFAULT NULL, reason text DEFAULT NULL, person text DEFAULT NULL)
	RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_set_absence';
COMMENT ON FUNCTION billing.set_absence(text, date, date, text, text, text) IS
	'Says that the actor is absent, from a day to the day before another: they decide nothing, nobody waits for them, and the delegate, if one is named, decides in their place; person: an admin does it for somebody';

CREATE OR REPLACE FUNCTION billing.end_absence(entity text, day date DEFAULT NULL, person text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_end_absence';
COMMENT ON FUNCTION billing.end_absence(text, date, text) IS
	'Says that the actor is back on a day (today); a delegation stays; person: an admin does it for somebody';

CREATE OR REPLACE FUNCTION billing.set_manager(entity text, person text, manager text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_set_manager';
COMMENT ON FUNCTION billing.set_manager(text, text, text) IS
	'Says who is a person''s manager in an entity, for approval policies that ask the maker''s manager; null for nobody; needs the duty admin';

-- What somebody is deciding at this moment is left for the next time.
CREATE OR REPLACE FUNCTION billing_internal.escalate_approvals() RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	-- the cause is gone
	UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = 0, resolution = 'decided, or not asked any more'
	WHERE x.kind IN ('approval_overdue', 'approval_nobody') AND x.state = 'open' AND NOT EXISTS (
		SELECT FROM billing.approval_request r
		WHERE r.entity_id = x.entity_id AND r.state = 'open' AND r.request_id = (x.payload ->> 'request')::bigint
			AND (x.kind = 'approval_overdue' OR NOT EXISTS (
				SELECT FROM billing.approval_candidate c
				WHERE c.entity_id = r.entity_id AND c.request_id = r.request_id AND c.obstacle IS NULL)));
	-- half of the time has passed
	WITH due AS MATERIALIZED (
		SELECT r.entity_id, r.request_id
		FROM billing.approval_request r
		WHERE r.state = 'open' AND r.deadline IS NOT NULL AND r.reminded_at IS NULL AND r.escalated_at IS NULL
			AND now() >= r.opened_at + (r.deadline - r.opened_at) / 2
		FOR UPDATE SKIP LOCKED
	), reminded AS (
		UPDATE billing.approval_request r SET reminded_at = now()
		FROM due
		WHERE r.entity_id = due.entity_id AND r.request_id = due.request_id
		RETURNING r.*
	), told AS (
		INSERT INTO billing.outbox (entity_id, type, document_id, version, payload)
		SELECT r.entity_id, o.type, r.document_id, r.document_version,
			jsonb_build_object('level', r.level_no, 'duty', r.duty, 'since', r.opened_at, 'deadline', r.deadline)
		FROM reminded r JOIN billing.outbox_type o ON o.kind = 'approval' AND o.action = 'remind'
	)
	INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)
	SELECT r.entity_id, 'remind', d.kind, r.document_id::text,
		jsonb_build_object('level', r.level_no, 'since', r.opened_at, 'deadline', r.deadline)
	FROM reminded r JOIN billing.document d ON d.entity_id = r.entity_id AND d.document_id = r.document_id;
	-- all of it has
	WITH due AS MATERIALIZED (
		SELECT r.entity_id, r.request_id
		FROM billing.approval_request r
		WHERE r.state = 'open' AND r.deadline <= now() AND r.escalated_at IS NULL
		FOR UPDATE SKIP LOCKED
	), escalated AS (
		UPDATE billing.approval_request r SET escalated_at = now()
		FROM due
		WHERE r.entity_id = due.entity_id AND r.request_id = due.request_id
		RETURNING r.*
	), raised AS (
		INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, payload, deadline)
		SELECT r.entity_id, k.kind, format('request %s', r.request_id), r.duty, r.document_id,
			format('level %s should have been decided by %s%s', r.level_no, r.deadline,
				CASE WHEN r.escalate_to IS NOT NULL THEN format('; %s may decide it as well now', r.escalate_to) END),
			jsonb_build_object('request', r.request_id), now() + make_interval(days => k.deadline_days)
		FROM escalated r JOIN billing.exception_kind k ON k.kind = 'approval_overdue'
		ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING
	)
	INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)
	SELECT r.entity_id, 'escalate', d.kind, r.document_id::text,
		jsonb_build_object('level', r.level_no, 'deadline', r.deadline, 'to', r.escalate_to)
	FROM escalated r JOIN billing.document d ON d.entity_id = r.entity_id AND d.document_id = r.document_id;
	-- nobody is there to decide it
	INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, payload, deadline)
	SELECT r.entity_id, k.kind, format('request %s', r.request_id), coalesce(r.duty, r.approver), r.document_id,
		format('level %s asks %s, and nobody of them can decide it', r.level_no, coalesce(r.duty, r.approver)),
		jsonb_build_object('request', r.request_id), now() + make_interval(days => k.deadline_days)
	FROM billing.approval_request r JOIN billing.exception_kind k ON k.kind = 'approval_nobody'
	WHERE r.state = 'open' AND (r.escalated_at IS NOT NULL OR r.approver <> 'duty') AND NOT EXISTS (
		SELECT FROM billing.approval_candidate c
		WHERE c.entity_id = r.entity_id AND c.request_id = r.request_id AND c.obstacle IS NULL)
	ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE
		SET state = 'open', resolved_at = NULL, resolved_by = NULL, resolution = NULL
		WHERE exception.state = 'resolved';
END;
COMMENT ON FUNCTION billing_internal.escalate_approvals() IS
	'Task escalate_approvals: reminds of approvals half way to their deadline, escalates each once after it, raises exceptions for what is overdue or can be decided by nobody, and resolves them';

CREATE OR REPLACE FUNCTION billing_internal.verify_approvals(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'an approval request that is closed as approved has the approvals that it needed', count(*),
		min(format('document D%s, level %s', r.document_id, r.level_no))
	FROM billing.approval_request r
	WHERE (entity IS NULL OR r.entity_id = entity) AND r.state = 'approved'
		AND (r.needed IS NULL OR r.needed > (
			SELECT count(DISTINCT s.person_id)
			FROM billing.approval_decision s
			WHERE s.entity_id = r.entity_id AND s.request_id = r.request_id AND s.counts AND s.decision = 'approve'))
	UNION ALL
	SELECT 'a document of which approvals were asked was approved with all of them', count(*), min(format('document D%s', p.document_id))
	FROM billing.document_step p
	JOIN billing.document d ON d.entity_id = p.entity_id AND d.document_id = p.document_id
	JOIN billing.approval_request r ON r.entity_id = p.entity_id AND r.document_id = p.document_id AND r.document_version = p.version - 1
	WHERE (entity IS NULL OR p.entity_id = entity) AND p.from_state = 'pending_approval' AND p.action IN ('approve', 'auto_approve')
		AND r.state <> 'approved'
	UNION ALL
	SELECT 'nobody approved a document that they made, nor in the place of its maker', count(*), min(format('document D%s', s.document_id))
	FROM billing.approval_decision s
	JOIN billing.document d ON d.entity_id = s.entity_id AND d.document_id = s.document_id
	WHERE (entity IS NULL OR s.entity_id = entity) AND d.maker_id IN (s.person_id, s.on_behalf_of, s.login_person_id)
	UNION ALL
	SELECT 'a person counts once among the approvals of a document, also as a delegate and through one', count(*),
		min(format('document D%s', s.document_id))
	FROM billing.approval_decision s
	JOIN billing.approval_decision o ON o.entity_id = s.entity_id AND o.document_id = s.document_id
		AND o.document_version = s.document_version AND o.counts AND (o.request_id, o.person_id) <> (s.request_id, s.person_id)
		AND (o.person_id IN (s.person_id, s.on_behalf_of) OR o.on_behalf_of IN (s.person_id, s.on_behalf_of))
	WHERE (entity IS NULL OR s.entity_id = entity) AND s.counts
	UNION ALL
	SELECT 'approvals are asked of documents that wait for them, and of the version that waits', count(*),
		min(format('document D%s', r.document_id))
	FROM billing.approval_request r
	LEFT JOIN billing.document d ON d.entity_id = r.entity_id AND d.document_id = r.document_id
	WHERE (entity IS NULL OR r.entity_id = entity) AND (d.document_id IS NULL
		OR r.state IN ('waiting', 'open') AND (d.state <> 'pending_approval' OR d.version <> r.document_version))
	UNION ALL
	SELECT 'what a delegate decided was delegated to them, not by a chain', count(*), min(format('document D%s', s.document_id))
	FROM billing.approval_decision s
	JOIN billing.legal_entity e ON e.entity_id = s.entity_id
	WHERE (entity IS NULL OR s.entity_id = entity) AND s.on_behalf_of IS NOT NULL AND NOT EXISTS (
		SELECT FROM billing.delegation g
		WHERE g.entity_id = s.entity_id AND g.from_person = s.on_behalf_of AND g.to_person = s.person_id
			AND (s.decided_at AT TIME ZONE e.time_zone)::date BETWEEN g.valid_from AND g.valid_to);
END;
COMMENT ON FUNCTION billing_internal.verify_approvals(integer) IS
	'Checks of approvals: enough of them, by distinct persons, none by the maker';
