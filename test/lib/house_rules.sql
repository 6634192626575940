-- The rules of the house over the catalog, as temporary views: rule_<name>(offender) lists what breaks a rule.
-- test/pgtap/house_rules.sql asks that all are empty; house_rules_can_fail.sql shows that each finds an offender.

-- Tables without legal entity: what is true for the whole installation. Everything else is business data.
CREATE TEMP TABLE reference_table (name text PRIMARY KEY);
INSERT INTO reference_table VALUES
	('billing.currency'),
	('billing.person'),
	('billing.person_login'),
	('billing.duty'),
	('billing.duty_conflict'),
	('billing.document_kind'),
	('billing.document_state'),
	('billing.transition'),
	('billing.exception_kind'),
	('billing.outbox_type'),
	('billing.credit_reason'),
	-- a moment in the life of the database
	('billing.outbox_restore'),
	('billing.task'),
	('billing.task_setting'),
	('billing.task_state'),
	('billing.task_run'),
	-- says by code for which entity a row is, and may be wrong; without row-level security, which COPY FROM refuses
	('billing.usage_inbox');

-- Tables that people may change by plain INSERT and UPDATE where their duty allows. All others are documents, which only
-- functions write.
CREATE TEMP TABLE master_data (name text PRIMARY KEY);
INSERT INTO master_data VALUES
	('billing.legal_entity'),
	('billing.tax_code'),
	('billing.tax_rate'),
	('billing.customer'),
	('billing.exchange_rate'),
	('billing.billing_account'),
	('billing.product'),
	('billing.meter'),
	('billing.usage_policy'),
	('billing.billing_policy'),
	('billing.price_book'),
	('billing.price');

-- Tables into which people may insert whatever they have to send, and which they cannot read.
CREATE TEMP TABLE inbox (name text PRIMARY KEY);
INSERT INTO inbox VALUES
	('billing.usage_inbox');

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
WHERE e.extname = 'billing_erp' AND d.deptype = 'e';

CREATE TEMP VIEW member_table AS
SELECT c.oid AS table_oid, format('%s.%s', n.nspname, c.relname) AS name, c.relrowsecurity, c.relforcerowsecurity, c.relacl,
	(SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'entity_id' AND NOT a.attisdropped)
		AS entity_column
FROM member m
JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f');

CREATE TEMP VIEW member_function AS
SELECT p.*
FROM member m
JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid;

-- Every object has a comment: whatever the extension owns, and the columns of its tables, views and composite types.
-- Exempt are sequences, which belong to a column, and what PostgreSQL makes by itself beside a type: its array, its
-- multirange, the row type of a table.
CREATE TEMP VIEW rule_comments AS
SELECT pg_catalog.pg_describe_object(m.classid, m.objid, 0) AS offender
FROM member m
LEFT JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
LEFT JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
WHERE c.relkind IS DISTINCT FROM 'S'
AND NOT coalesce(t.typcategory = 'A' OR t.typtype = 'm'
	OR (t.typtype = 'c' AND (SELECT k.relkind FROM pg_catalog.pg_class k WHERE k.oid = t.typrelid) <> 'c'), false)
-- the comment of a composite type is stored for the type
AND c.relkind IS DISTINCT FROM 'c'
AND coalesce(pg_catalog.obj_description(m.objid, m.classid::regclass::name), '') = ''
UNION ALL
SELECT pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, a.attrelid, a.attnum)
FROM (SELECT c.oid FROM member m
	JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
	WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')
	UNION
	SELECT t.typrelid FROM member m
	JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
	WHERE t.typtype = 'c') r
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE coalesce(pg_catalog.col_description(a.attrelid, a.attnum), '') = ''
UNION ALL
SELECT 'schema ' || n.nspname
FROM pg_catalog.pg_namespace n
WHERE n.nspname = 'billing' AND coalesce(pg_catalog.obj_description(n.oid, 'pg_namespace'), '') = '';

-- Functions are written in C or SQL.
CREATE TEMP VIEW rule_languages AS
SELECT f.oid::regprocedure::text AS offender
FROM member_function f
JOIN pg_catalog.pg_language l ON l.oid = f.prolang
WHERE l.lanname NOT IN ('c', 'internal', 'sql');

-- Every SECURITY DEFINER function pins its search_path.
CREATE TEMP VIEW rule_definer_path AS
SELECT f.oid::regprocedure::text AS offender
FROM member_function f
WHERE f.prosecdef AND NOT coalesce(f.proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false);

-- SQL functions have a parsed body (BEGIN ATOMIC or RETURN): its names are bound at CREATE EXTENSION, whatever the
-- search_path of a caller.
CREATE TEMP VIEW rule_atomic_bodies AS
SELECT f.oid::regprocedure::text AS offender
FROM member_function f
JOIN pg_catalog.pg_language l ON l.oid = f.prolang
WHERE l.lanname = 'sql' AND f.prosqlbody IS NULL;

-- A table has entity_id, or is listed as reference table; a listed one exists and has none.
CREATE TEMP VIEW rule_entity_or_reference AS
SELECT t.name AS offender
FROM member_table t
WHERE t.entity_column IS NULL AND t.name NOT IN (SELECT r.name FROM reference_table r)
UNION ALL
SELECT r.name || ' is listed as reference table'
FROM reference_table r
WHERE NOT EXISTS (SELECT FROM member_table t WHERE t.name = r.name AND t.entity_column IS NULL);

-- A business table has a primary key, of a partitioned table each partition, and entity_id leads it and every other unique
-- index and exclusion constraint. The code of a legal entity is unique in the installation: it is the root.
CREATE TEMP VIEW rule_keys_led_by_entity AS
SELECT c.oid::regclass || ' has no primary key' AS offender
FROM member_table t
CROSS JOIN LATERAL (SELECT p.relid AS oid FROM pg_catalog.pg_partition_tree(t.table_oid) p WHERE p.isleaf
	UNION SELECT t.table_oid WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = t.table_oid)) c
WHERE t.entity_column IS NOT NULL
AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p')
UNION ALL
SELECT i.indexrelid::regclass::text
FROM member_table t
JOIN pg_catalog.pg_index i ON i.indrelid = t.table_oid
WHERE t.entity_column IS NOT NULL AND (i.indisunique OR i.indisexclusion) AND i.indkey[0] <> t.entity_column
AND NOT (t.name = 'billing.legal_entity' AND i.indisunique AND i.indnatts = 1
	AND i.indkey[0] = (SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.table_oid AND a.attname = 'code'));

-- A foreign key from one business table to another is led by entity_id on both sides; an entity's parent is another one.
CREATE TEMP VIEW rule_foreign_keys_led_by_entity AS
SELECT format('%s of %s', k.conname, t.name) AS offender
FROM member_table t
JOIN pg_catalog.pg_constraint k ON k.conrelid = t.table_oid AND k.contype = 'f'
JOIN member_table r ON r.table_oid = k.confrelid
WHERE t.entity_column IS NOT NULL AND r.entity_column IS NOT NULL
AND (k.conkey[1] <> t.entity_column OR k.confkey[1] <> r.entity_column)
AND NOT (t.name = 'billing.legal_entity' AND r.name = 'billing.legal_entity')
UNION ALL
SELECT format('%s of %s sets columns null', k.conname, t.name)
FROM member_table t
JOIN pg_catalog.pg_constraint k ON k.conrelid = t.table_oid AND k.contype = 'f'
WHERE k.confdeltype IN ('n', 'd') OR k.confupdtype <> 'a';

-- A business table has row-level security, enabled and forced, with a policy; so has each of its partitions.
CREATE TEMP VIEW rule_row_security AS
SELECT c.oid::regclass::text AS offender
FROM member_table t
JOIN pg_catalog.pg_class c ON c.oid = t.table_oid
	OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(t.table_oid) p)
WHERE t.entity_column IS NOT NULL
AND NOT (c.relrowsecurity AND c.relforcerowsecurity
	AND EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid));

-- A month of usage, attached or detached, is protected as the table itself: key, row-level security with the same policy, guard, owner;
-- nobody else has a right to it; and it is no member of the extension, so that a dump has its definition and its rows.
CREATE TEMP VIEW rule_usage_months AS
SELECT m.oid::regclass::text AS offender
FROM (SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits i WHERE i.inhparent = 'billing.usage_event'::regclass
	UNION
	SELECT c.oid FROM pg_catalog.pg_class c
	WHERE c.relnamespace = 'billing_internal'::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'usage\_event\_%') o
JOIN pg_catalog.pg_class m ON m.oid = o.oid
WHERE NOT (m.relrowsecurity AND m.relforcerowsecurity
	AND m.relowner = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'billing_owner')
	AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.relacl) a WHERE a.grantee <> m.relowner)
	AND NOT EXISTS (SELECT FROM member e WHERE e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = m.oid)
	AND pg_catalog.obj_description(m.oid, 'pg_class') <> ''
	AND EXISTS (SELECT FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_policy q ON q.polname = p.polname AND q.polcmd = p.polcmd
		AND pg_catalog.pg_get_expr(q.polqual, q.polrelid) = pg_catalog.pg_get_expr(p.polqual, p.polrelid)
		WHERE p.polrelid = m.oid AND q.polrelid = 'billing.usage_event'::regclass)
	AND EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_trigger q ON q.tgname = t.tgname AND q.tgfoid = t.tgfoid
		AND q.tgargs = t.tgargs AND q.tgtype = t.tgtype AND t.tgenabled = 'O'
		WHERE t.tgrelid = m.oid AND q.tgrelid = 'billing.usage_event'::regclass AND q.tgname = 'a_guard_writes')
	AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = m.oid AND k.conname = 'usage_event_guarded' AND k.convalidated)
	AND EXISTS (SELECT FROM pg_catalog.pg_constraint k
		WHERE k.conrelid = m.oid AND k.contype = 'p' AND k.conkey = ARRAY(SELECT a.attnum FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = m.oid AND a.attname IN ('entity_id', 'event_id') ORDER BY a.attname)));

-- Every table is marked for pg_dump, and so is every sequence of its columns.
CREATE TEMP VIEW rule_marked_for_dump AS
SELECT pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, r.oid, 0) AS offender
FROM (SELECT t.table_oid AS oid FROM member_table t
	UNION
	SELECT c.oid FROM member m
	JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid AND c.relkind = 'S'
	UNION
	SELECT d.objid FROM member_table t
	JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.table_oid
		AND d.classid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
	JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S') r
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'billing_erp' AND r.oid = ANY (e.extconfig));

-- Who may write what, from the privileges of tables and of columns.
CREATE TEMP VIEW write_privilege AS
SELECT t.name, a.privilege_type, a.grantee
FROM member_table t, LATERAL pg_catalog.aclexplode(t.relacl) a
WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
UNION ALL
SELECT t.name, a.privilege_type, a.grantee
FROM member_table t
JOIN pg_catalog.pg_attribute c ON c.attrelid = t.table_oid, LATERAL pg_catalog.aclexplode(c.attacl) a
WHERE a.privilege_type IN ('INSERT', 'UPDATE');

-- Nobody but billing_owner writes a document; master data may be inserted and updated, never deleted by others.
CREATE TEMP VIEW rule_document_writes AS
SELECT DISTINCT format('%s by %s on %s', w.privilege_type, CASE w.grantee WHEN 0 THEN 'PUBLIC' ELSE w.grantee::regrole::text END, w.name)
	AS offender
FROM write_privilege w
WHERE w.grantee NOT IN (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'billing_owner')
AND NOT (w.privilege_type IN ('INSERT', 'UPDATE') AND w.name IN (SELECT d.name FROM master_data d))
AND NOT (w.privilege_type = 'INSERT' AND w.name IN (SELECT i.name FROM inbox i))
UNION ALL
SELECT d.name || ' is listed as master data'
FROM master_data d
WHERE NOT EXISTS (SELECT FROM write_privilege w WHERE w.name = d.name
	AND w.grantee NOT IN (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'billing_owner'));

-- PUBLIC may execute nothing that writes: nothing, in fact, that is more than a calculation.
CREATE TEMP VIEW rule_public_execute AS
SELECT f.oid::regprocedure::text AS offender
FROM member_function f, LATERAL pg_catalog.aclexplode(coalesce(f.proacl, pg_catalog.acldefault('f', f.proowner))) a
WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE' AND f.provolatile <> 'i';

-- A view shows what its reader may see; a materialized view cannot do that.
CREATE TEMP VIEW rule_security_invoker AS
SELECT pg_catalog.pg_describe_object(m.classid, m.objid, 0) AS offender
FROM member m
JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
WHERE c.relkind = 'm'
OR (c.relkind = 'v' AND NOT EXISTS (SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) o
	WHERE o.option_name = 'security_invoker' AND o.option_value::boolean));

-- Every object that can have an owner belongs to billing_owner, who is no superuser and cannot log in.
CREATE TEMP VIEW rule_ownership AS
SELECT pg_catalog.pg_describe_object(d.classid, d.objid, 0) AS offender
FROM (SELECT m.classid, m.objid FROM member m
	UNION ALL
	SELECT 'pg_catalog.pg_namespace'::regclass, n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'billing') d
LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_type t ON d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
LEFT JOIN pg_catalog.pg_namespace n ON d.classid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.objid
LEFT JOIN pg_catalog.pg_operator o ON d.classid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.objid
LEFT JOIN pg_catalog.pg_opclass oc ON d.classid = 'pg_catalog.pg_opclass'::regclass AND oc.oid = d.objid
LEFT JOIN pg_catalog.pg_opfamily f ON d.classid = 'pg_catalog.pg_opfamily'::regclass AND f.oid = d.objid
WHERE coalesce(c.relowner, p.proowner, t.typowner, n.nspowner, o.oprowner, oc.opcowner, f.opfowner)
	<> (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'billing_owner')
-- an event trigger's function runs beside every command, as whoever gives it: it stays with a superuser
AND (p.prorettype = 'pg_catalog.event_trigger'::regtype
	AND (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = p.proowner)) IS NOT TRUE
UNION ALL
SELECT 'role ' || r.rolname
FROM pg_catalog.pg_roles r
WHERE r.rolname IN ('billing_owner', 'billing_user')
AND (r.rolsuper OR r.rolcanlogin OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication);

-- Users see the names of constraints: none is one that PostgreSQL had to make up.
CREATE TEMP VIEW rule_constraint_names AS
SELECT format('%s of %s', k.conname, t.name) AS offender
FROM member_table t
JOIN pg_catalog.pg_constraint k ON k.conrelid = t.table_oid AND k.contype IN ('c', 'u', 'f', 'x')
WHERE k.conname ~ '_(check|key|fkey|excl)[0-9]+$' OR k.conname ~ '_(check|excl)$';

-- Ids are bigserial, amounts are exact, moments know their time zone.
CREATE TEMP VIEW rule_column_types AS
SELECT format('%s.%s', t.name, a.attname) AS offender
FROM member_table t
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.table_oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attidentity <> ''
OR a.atttypid IN ('real'::regtype, 'double precision'::regtype, 'money'::regtype, 'timestamp'::regtype, 'timetz'::regtype);

-- C functions are found by a symbol that says whose they are.
CREATE TEMP VIEW rule_symbols AS
SELECT f.oid::regprocedure::text AS offender
FROM member_function f
JOIN pg_catalog.pg_language l ON l.oid = f.prolang
WHERE l.lanname = 'c' AND f.prosrc !~ '^billing_[a-z]';
