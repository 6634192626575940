-- Who can do what in an entity: what an auditor asks for.

CREATE OR REPLACE FUNCTION billing.access_report(entity text, unused_days integer DEFAULT 90, ending_days integer DEFAULT 30)
	RETURNS TABLE (person text, name text, duty text, source text, valid_from date, valid_to date, approval_limit numeric,
		logins text[], applications text[], conflicts text[], last_used timestamptz, is_unused boolean, ends_soon boolean)
	LANGUAGE SQL STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	WITH asked AS (
		SELECT l.entity_id, (now() AT TIME ZONE l.time_zone)::date AS today,
			least(greatest(coalesce(access_report.unused_days, 90), 0), 36500) AS unused,
			least(greatest(coalesce(access_report.ending_days, 30), 0), 36500) AS ending
		FROM billing.legal_entity l
		WHERE l.entity_id = billing_internal.entity_id(access_report.entity)
	), held AS (
		-- what ended, or was taken back before it began, is history
		SELECT g.person_id, g.duty, 'duty' AS source, g.valid_from, g.valid_to, g.approval_limit::numeric AS approval_limit
		FROM asked a
		JOIN billing.duty_assignment g ON g.entity_id = a.entity_id
			AND (g.valid_to IS NULL OR g.valid_to > greatest(a.today, g.valid_from))
		UNION ALL
		SELECT g.to_person, coalesce(g.duty, 'approver'), 'delegated by ' || f.code, g.valid_from, g.valid_to, g.max_amount::numeric
		FROM asked a
		JOIN billing.delegation g ON g.entity_id = a.entity_id
			AND (g.valid_to IS NULL OR g.valid_to > greatest(a.today, g.valid_from))
		JOIN billing.person f ON f.person_id = g.from_person
	), login AS (
		SELECT p.person_id, array_agg(p.role_name::text ORDER BY p.role_name) AS roles
		FROM billing.person_login p
		GROUP BY p.person_id
	), application AS (
		-- an application acts for whoever it names
		SELECT array_agg(DISTINCT p.role_name::text ORDER BY p.role_name::text) AS roles
		FROM held h
		JOIN billing.person_login p ON p.person_id = h.person_id
		WHERE h.duty = 'application'
	), watched AS (
		-- the duty that a record of the log was written under: of a document's action, or of a table that people edit
		SELECT t.kind AS object_type, t.action, t.duty FROM billing.transition t
		UNION SELECT o.kind, o.action, o.duty FROM asked a JOIN billing.entity_transition o ON o.entity_id = a.entity_id
		UNION SELECT k.kind, v.action, v.duty
		FROM (VALUES ('invoice'), ('credit_note')) AS k (kind), (VALUES ('draft', 'biller'), ('number', 'biller')) AS v (action, duty)
		UNION SELECT c.relname::text, NULL, split_part(encode(b.tgargs, 'escape'), '\000', 1)
		FROM pg_trigger b
		JOIN pg_class c ON c.oid = b.tgrelid
		WHERE b.tgfoid = 'billing_internal.guard_duty()'::regprocedure
		UNION SELECT v.object_type, NULL, v.duty
		FROM (VALUES ('contract', 'contract_manager'), ('contract_item', 'contract_manager'), ('contract_item_version', 'contract_manager'),
			('duty_assignment', 'admin'), ('entity_state', 'admin'), ('entity_transition', 'admin'), ('billing_run', 'biller')) AS v (object_type, duty)
	), used AS (
		SELECT l.actor, w.duty, max(l.recorded_at) AS at
		FROM asked a
		JOIN billing.audit_log l ON l.entity_id = a.entity_id
		JOIN watched w ON w.object_type = l.object_type AND (w.action IS NULL OR w.action = l.action)
		GROUP BY l.actor, w.duty
		UNION ALL
		SELECT p.code::text, 'application', max(l.recorded_at)
		FROM asked a
		JOIN billing.audit_log l ON l.entity_id = a.entity_id
		JOIN billing.person_login o ON o.role_name = l.login
		JOIN billing.person p ON p.person_id = o.person_id AND p.code::text <> l.actor
		GROUP BY p.code
	)
	SELECT r.*
	FROM (
		SELECT p.code::text AS person, p.name, h.duty, h.source, h.valid_from, h.valid_to, h.approval_limit,
			coalesce(l.roles, '{}'), CASE WHEN h.duty = 'application' THEN '{}' ELSE coalesce(x.roles, '{}') END,
			ARRAY(
				SELECT DISTINCT format('%s: %s', o.duty, c.reason)
				FROM held o
				JOIN billing.duty_conflict c ON (c.duty, c.conflict_duty) IN ((o.duty, h.duty), (h.duty, o.duty))
				WHERE o.person_id = h.person_id AND daterange(o.valid_from, o.valid_to) && daterange(h.valid_from, h.valid_to)
				ORDER BY 1),
			u.at,
			-- reading leaves no record
			CASE WHEN h.duty NOT IN ('reader', 'auditor') THEN h.valid_from <= a.today - a.unused
				AND (u.at IS NULL OR u.at < now() - make_interval(days => a.unused)) END,
			h.valid_to IS NOT NULL AND h.valid_to <= a.today + a.ending
		FROM asked a
		CROSS JOIN held h
		JOIN billing.person p ON p.person_id = h.person_id
		LEFT JOIN login l ON l.person_id = h.person_id
		CROSS JOIN application x
		LEFT JOIN used u ON u.actor = p.code::text AND u.duty = h.duty
		UNION ALL
		-- whom no duty binds: who owns the tables, or is a superuser
		SELECT p.code::text, p.name, CASE WHEN r.rolsuper THEN 'superuser' ELSE 'billing_owner' END, 'role', NULL, NULL, NULL,
			ARRAY[r.rolname::text], '{}', '{}', u.at, NULL, r.rolvaliduntil IS NOT NULL AND r.rolvaliduntil <= now() + make_interval(days => a.ending)
		FROM asked a
		CROSS JOIN pg_roles r
		LEFT JOIN billing.person_login l ON l.role_name = r.rolname
		LEFT JOIN billing.person p ON p.person_id = l.person_id
		LEFT JOIN LATERAL (SELECT max(g.recorded_at) AS at FROM billing.audit_log g WHERE g.entity_id = a.entity_id AND g.login = r.rolname) u ON true
		WHERE r.rolcanlogin AND pg_has_role(r.oid, 'billing_owner', 'MEMBER')
	) r
	ORDER BY r.source = 'role', r.person, r.duty, r.valid_from;
END;
COMMENT ON FUNCTION billing.access_report(text, integer, integer) IS
	'Who can do what in an entity, from when until when, through which logins: duties, delegations, and roles that no duty binds; with conflicts, duties without an action in so many days, and those that end soon';
