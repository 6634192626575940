-- All that the extension is, as text: what make updatecheck compares. Without oids and without the order of columns'
-- creation, which an update cannot choose.
SET search_path = pg_catalog;

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_depend d
JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
WHERE e.extname = 'billing_erp' AND d.deptype = 'e';

CREATE TEMP VIEW member_relation AS
SELECT c.*
FROM member m
JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid;

SELECT line FROM (
	SELECT format('%s: %s', pg_describe_object(m.classid, m.objid, 0), obj_description(m.objid, m.classid::regclass::name))
	FROM member m
	UNION ALL
	SELECT format('function %s %s owner %s: %s', p.oid::regprocedure, p.proacl, p.proowner::regrole,
		CASE p.prokind WHEN 'a' THEN (SELECT a::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END)
	FROM member m
	JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	UNION ALL
	SELECT format('relation %s %s owner %s %s rls %s %s: %s', r.oid::regclass, r.relacl, r.relowner::regrole, r.reloptions,
		r.relrowsecurity, r.relforcerowsecurity, CASE r.relkind WHEN 'v' THEN pg_get_viewdef(r.oid) END)
	FROM member_relation r
	UNION ALL
	SELECT format('column %s.%s %s not null %s default %s %s: %s', r.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod),
		a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attacl, col_description(a.attrelid, a.attnum))
	FROM member_relation r
	JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE r.relkind <> 'S'
	UNION ALL
	SELECT format('constraint %s of %s: %s', k.conname, k.conrelid::regclass, pg_get_constraintdef(k.oid))
	FROM member_relation r
	JOIN pg_constraint k ON k.conrelid = r.oid
	UNION ALL
	SELECT format('constraint %s of %s: %s', k.conname, k.contypid::regtype, pg_get_constraintdef(k.oid))
	FROM member m
	JOIN pg_constraint k ON m.classid = 'pg_type'::regclass AND k.contypid = m.objid
	UNION ALL
	SELECT format('index %s', pg_get_indexdef(i.indexrelid))
	FROM member_relation r
	JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT format('trigger %s', pg_get_triggerdef(t.oid))
	FROM member_relation r
	JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT format('policy %s on %s %s %s for %s using %s check %s', p.polname, r.oid::regclass, p.polcmd, p.polpermissive,
		p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
	FROM member_relation r
	JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL
	SELECT format('enum %s %s %s', t.oid::regtype, row_number() OVER (PARTITION BY t.oid ORDER BY v.enumsortorder), v.enumlabel)
	FROM member m
	JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	JOIN pg_enum v ON v.enumtypid = t.oid
	UNION ALL
	SELECT format('dump %s %s', x.config::regclass, x.condition)
	FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS x (config, condition)
	WHERE e.extname = 'billing_erp'
	UNION ALL
	SELECT format('schema %s %s owner %s', n.nspname, n.nspacl, n.nspowner::regrole)
	FROM pg_namespace n
	WHERE n.nspname LIKE 'billing%'
) c (line)
ORDER BY line COLLATE "C";
