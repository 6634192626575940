-- docs/reference.md, line by line, from the comments in the catalog. Variable rooms: JSON, which room creates what.
-- The order is fixed by names in the C collation, so that the text depends on nothing but the extension.
SET search_path = pg_catalog;

WITH room_of AS (
	SELECT r.key AS name, (r.value ->> 0)::int AS position, r.value ->> 1 AS room
	FROM jsonb_each(:'rooms'::jsonb) r
),
member AS (
	SELECT d.classid, d.objid
	FROM pg_depend d
	JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
	WHERE e.extname = 'billing_erp' AND d.deptype = 'e'
),
relation AS (
	SELECT c.oid, format('%s.%s', n.nspname, c.relname) AS name, c.relkind, c.relname,
		obj_description(c.oid, 'pg_class') AS description
	FROM member m
	JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
	JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v')
),
object AS (
	-- types: kind 1
	SELECT format('%s.%s', n.nspname, t.typname) AS name, 1 AS kind, '' AS detail,
		format('| `%s` | %s | %s |', format('%s.%s', n.nspname, t.typname),
			CASE t.typtype WHEN 'd' THEN 'domain over ' || format_type(t.typbasetype, t.typtypmod)
				WHEN 'e' THEN 'one of ' || (SELECT string_agg('`' || v.enumlabel || '`', ', ' ORDER BY v.enumsortorder)
					FROM pg_enum v WHERE v.enumtypid = t.oid)
				WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range' ELSE 'base type' END,
			obj_description(t.oid, 'pg_type')) AS line,
		0 AS line_number
	FROM member m
	JOIN pg_type t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
	JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE t.typcategory <> 'A' AND t.typtype <> 'm'
	AND NOT (t.typtype = 'c' AND (SELECT k.relkind FROM pg_class k WHERE k.oid = t.typrelid) <> 'c')
	UNION ALL
	-- tables: kind 2, views: kind 3
	SELECT r.name, CASE r.relkind WHEN 'v' THEN 3 ELSE 2 END, r.name,
		unnest(ARRAY[format(E'\n#### %s\n', r.name), r.description || E'.\n', '| column | type | |', '|---|---|---|']),
		generate_series(0, 3) - 4
	FROM relation r
	UNION ALL
	SELECT r.name, CASE r.relkind WHEN 'v' THEN 3 ELSE 2 END, r.name,
		format('| `%s` | %s%s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
			CASE WHEN a.attnotnull THEN ', not null' ELSE '' END, col_description(r.oid, a.attnum)),
		a.attnum
	FROM relation r
	JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	-- functions: kind 4 those to call, kind 5 the steps inside, by one line each
	SELECT format('%s.%s', n.nspname, p.proname), CASE n.nspname WHEN 'billing' THEN 4 ELSE 5 END,
		pg_get_function_identity_arguments(p.oid),
		CASE n.nspname WHEN 'billing'
			THEN format(E'\n#### %s\n\n`%s.%s(%s)%s` (%s)\n\n%s.', p.proname, n.nspname, p.proname,
				pg_get_function_arguments(p.oid), coalesce(' → ' || pg_get_function_result(p.oid), ''),
				concat_ws(', ', CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window' END,
					CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
					CASE p.proparallel WHEN 's' THEN 'parallel safe' END),
				obj_description(p.oid, 'pg_proc'))
			ELSE format('- `%s(%s)`: %s', p.proname, pg_get_function_identity_arguments(p.oid),
				obj_description(p.oid, 'pg_proc')) END,
		0
	FROM member m
	JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	JOIN pg_namespace n ON n.oid = p.pronamespace
),
line AS (
	SELECT coalesce(r.position, 99) AS position, o.kind, o.name, o.detail, o.line_number,
		CASE WHEN o.kind IN (1, 2, 3) AND o.line LIKE '|%' THEN replace(o.line, E'\n', ' ') ELSE o.line END AS text,
		coalesce(r.room, 'without a room') AS room
	FROM object o
	LEFT JOIN room_of r ON r.name = o.name
	UNION ALL
	SELECT DISTINCT coalesce(r.position, 99), 0, '', '', 0, E'\n## ' || coalesce(r.room, 'without a room'), ''
	FROM object o
	LEFT JOIN room_of r ON r.name = o.name
	UNION ALL
	SELECT DISTINCT coalesce(r.position, 99), o.kind, '', '', -9,
		E'\n### ' || (ARRAY['Types', 'Tables', 'Views', 'Functions', 'Internal steps'])[o.kind]
			|| CASE o.kind WHEN 1 THEN E'\n\n| type | kind | |\n|---|---|---|' WHEN 5 THEN E'\n' ELSE '' END, ''
	FROM object o
	LEFT JOIN room_of r ON r.name = o.name
	UNION ALL
	SELECT -2, 0, '', '', 0, '# Reference

Every type, table, view, function and setting, by room. Written by `make docs` from the comments in the catalog: change the
comment, not this file.', ''
	UNION ALL
	SELECT -1, 0, '', '', 0, E'\n## Settings\n\n| setting | default | who sets it | |\n|---|---|---|---|', ''
	UNION ALL
	SELECT -1, 1, s.name, '', 0, format('| `%s` | %s | %s | %s |', s.name,
		coalesce(nullif('`' || s.boot_val || coalesce(' ' || s.unit, '') || '`', '``'), 'empty'), s.context,
		concat_ws(' ', s.short_desc, s.extra_desc)), ''
	FROM pg_settings s
	WHERE s.name LIKE 'billing\_erp.%'
)
SELECT l.text
FROM line l
ORDER BY l.position, l.kind, l.name COLLATE "C", l.detail COLLATE "C", l.line_number;
