-- Who sees what: a person of one entity finds nothing of another through any table, view or function, in whatever role, by
-- whatever trick; and writes no document past the functions.
BEGIN;
SELECT * FROM no_plan();
\ir ../lib/everything.sql
\ir ../lib/persons.sql

-- eve has every duty that goes together, in yen only
SELECT pg_temp.hire('eve');
SELECT billing.grant_duty('yen', 'eve', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager,accountant}'::text[]) d;
SELECT entity_id AS yen FROM billing.legal_entity WHERE code = 'yen' \gset
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset

-- ---------------------------------------------------------------------------------------------------------------------
-- Tables and views, all that there are

CREATE TEMP TABLE relation AS
SELECT c.oid, c.relname, c.relkind, format('%I.%I', n.nspname, c.relname) AS name,
	EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'entity_id' AND NOT a.attisdropped) AS has_entity
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('billing', 'billing_internal') AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition;
CREATE FUNCTION pg_temp.rows_of(person text, name text, condition text DEFAULT 'true') RETURNS bigint LANGUAGE sql AS $$
	SELECT pg_temp.must(person, format('SELECT count(*) FROM %s t WHERE %s', name, condition))::bigint;
$$;
SELECT cmp_ok((SELECT count(*) FROM relation WHERE has_entity), '>', 25::bigint, 'there are relations to look at');
SELECT is(pg_temp.rows_of('eve', name, 'entity_id <> ' || :yen), 0::bigint, name || ': nothing of another entity')
FROM relation WHERE has_entity ORDER BY name;
SELECT is(pg_temp.rows_of('eve', name, 'entity_id = ' || :yen), (SELECT pg_temp.rows_of(NULL, name, 'entity_id = ' || :yen)), name || ': all of their own')
FROM relation WHERE has_entity ORDER BY name;
SELECT cmp_ok((SELECT count(*) FROM relation WHERE has_entity AND pg_temp.rows_of('eve', name) > 0), '>', 20::bigint, 'which is something');
-- What has no entity_id belongs to no entity, or has a rule of its own
SELECT set_eq($$SELECT relname::text FROM relation WHERE NOT has_entity$$,
	'{currency,person,person_login,duty,duty_conflict,document_kind,document_state,transition,exception_kind,outbox_type,outbox_restore,credit_reason,task,task_setting,task_state,task_run,worker_status,job_health,wanted_job,usage_inbox,inbox_refused}'::text[], 'these have no entity');
SELECT is(pg_temp.must('eve', $$SELECT string_agg(code, ' ' ORDER BY code) FROM billing.person$$), 'ada app bob cat eve system', 'persons are seen by whom they share an entity with');
SELECT is(pg_temp.must('eve', $$SELECT count(*) FROM billing.task_state$$), '0', 'how tasks went is for administrators');
SELECT is(pg_temp.must('eve', format('SELECT count(*) FROM billing.%I', v)), '0', v || ' too') FROM unnest('{task_run,worker_status,job_health}'::text[]) v;
SELECT is_empty($$SELECT relname FROM relation WHERE relkind IN ('r', 'p') AND has_entity AND relname IN (SELECT relname FROM pg_class WHERE NOT (relrowsecurity AND relforcerowsecurity))$$, 'row-level security is forced everywhere');
-- What is behind a partitioned table is reached through it alone
SELECT is(pg_temp.try('eve', format('SELECT count(*) FROM %s', oid::regclass)), '42501', oid::regclass || ': through its parent only') FROM pg_class WHERE relispartition AND relkind = 'r' ORDER BY relname;
-- Somebody without a duty, and somebody who is nobody's login
SELECT pg_temp.hire('nob');
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('stray')); END $$;
SELECT is(pg_temp.rows_of(p, name), 0::bigint, format('%s: nothing for %s', name, p))
FROM relation, unnest('{nob,stray}'::text[]) p WHERE has_entity ORDER BY name;
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN', pg_temp.role_of('public')); END $$;
SELECT matches(pg_temp.told('public', format('SELECT count(*) FROM %s', name)), '^42501', name || ': not for everybody') FROM relation ORDER BY name;
SELECT is(pg_temp.try('public', 'SELECT billing.my_entities()'), '42501', 'nor the functions');

-- ---------------------------------------------------------------------------------------------------------------------
-- Functions: another entity is not told apart from one that does not exist

CREATE TEMP TABLE call AS
SELECT p.oid::regprocedure::text AS name, p.prokind, format('%s billing.%I(%s)', CASE p.prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, p.proname,
	'%L' || coalesce((SELECT string_agg(', ' || CASE format_type(t, NULL)
		WHEN 'text' THEN CASE WHEN p.proname = 'change_item' AND p.proargnames[o] = 'price_book' THEN 'NULL' ELSE quote_literal(CASE WHEN p.proargnames[o] IN ('duty') THEN 'reader' WHEN p.proargnames[o] IN ('invoice') THEN 'D1' WHEN p.proargnames[o] = 'charge' THEN 'recurring' WHEN p.proargnames[o] = 'account' THEN 'issued' ELSE 'ada' END) END
		WHEN 'date' THEN quote_literal('2026-01-01') WHEN 'numeric' THEN '1' WHEN 'integer' THEN '1' WHEN 'bigint' THEN '1' WHEN 'boolean' THEN 'false' WHEN 'jsonb' THEN quote_literal('[]') ELSE 'NULL' END, '' ORDER BY o)
		FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, o) WHERE o > 1), '')) AS statement
FROM pg_proc p
WHERE p.pronamespace = 'billing'::regnamespace AND p.proargnames[1] = 'entity' AND p.proargtypes[0] = 'text'::regtype AND p.proname <> 'create_entity';
SELECT cmp_ok((SELECT count(*) FROM call), '>', 30::bigint, 'there are functions to call');
SELECT is(replace(pg_temp.told('eve', format(statement, 'acme')), 'acme', 'nowhere'), pg_temp.told('eve', format(statement, 'nowhere')), name) FROM call ORDER BY name;
SELECT matches(pg_temp.told('eve', format(statement, 'acme')), '^ZB002', name || ' finds no such entity') FROM call ORDER BY name;
SELECT is(pg_temp.try('eve', format('SELECT count(*) FROM billing.explain_invoice(%L, %L)', 'yen', reference)), 'ZB002', 'nor a document of another by its reference in their own') FROM billing.invoice_overview WHERE entity = 'acme' LIMIT 1;
SELECT is(pg_temp.try('eve', format('SELECT billing.resolve_exception(%L, %s, %L)', 'yen', exception_id, 'x')), 'ZB002', 'nor an exception by its id') FROM billing.open_exception WHERE entity = 'acme' LIMIT 1;
SELECT is(pg_temp.must('eve', 'SELECT sum(violations) FROM billing.verify()'), '0', 'verify() looks at what they may see');
SET LOCAL session_replication_role = replica;
UPDATE billing.invoice SET net = net + 1, total = total + 1 WHERE entity_id = :acme;
SET LOCAL session_replication_role = origin;
SELECT is(pg_temp.must('eve', 'SELECT sum(violations) FROM billing.verify()'), '0', 'and tells nothing of others'' troubles');
SELECT cmp_ok((SELECT sum(violations) FROM billing.verify()), '>', 0::numeric, 'of which an administrator hears');
-- A row of another entity that is written by its id: neither its code nor its being there is told
SELECT is(pg_temp.told('eve', format('INSERT INTO billing.product (entity_id, code, name) VALUES (%s, %L, %L)', e, 'x', 'X')), 'ZB003 person "eve" does not hold the duty price_manager in entity "?"', 'entity ' || e)
FROM unnest(ARRAY[:acme, 99999, 0, -1]) AS e;

-- ---------------------------------------------------------------------------------------------------------------------
-- Writing: documents by the functions alone

SELECT is(pg_temp.try('eve', format(statement, name)), '42501', format(statement, name))
FROM relation r, unnest('{DELETE FROM %s,TRUNCATE %s,LOCK TABLE %s IN EXCLUSIVE MODE}'::text[]) statement
WHERE r.relkind IN ('r', 'p') AND (statement !~ 'LOCK' OR NOT has_table_privilege('billing_user', r.oid, 'UPDATE')) ORDER BY r.name, statement;
SELECT is(pg_temp.try('eve', format('UPDATE %s SET entity_id = entity_id', name)), '42501', 'UPDATE ' || name)
FROM relation r WHERE r.relkind IN ('r', 'p') AND has_entity AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND t.tgname = 'b_guard_duty') ORDER BY r.name;
SELECT is(pg_temp.try('eve', format('INSERT INTO %s DEFAULT VALUES', name)), '42501', 'INSERT INTO ' || name)
FROM relation r WHERE r.relkind IN ('r', 'p') AND NOT has_any_column_privilege('billing_user', r.oid, 'INSERT') ORDER BY r.name;
SELECT is_empty($$SELECT r.name, p FROM relation r, unnest('{TRIGGER,REFERENCES,TRUNCATE,DELETE}'::text[]) p WHERE has_table_privilege('billing_user', r.oid, p)$$, 'nobody makes triggers or references on the tables');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'billing'::regnamespace AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('billing_user', c.oid, 'UPDATE') END$$, 'nobody sets back a sequence');
SELECT is(pg_temp.try('eve', $$SELECT setval('billing.document_document_id_seq', 1)$$), '42501', 'not even by hand');
SELECT is(pg_temp.try('eve', statement), '42501', statement)
FROM unnest('{ALTER TABLE billing.invoice DISABLE TRIGGER ALL,ALTER TABLE billing.invoice DISABLE ROW LEVEL SECURITY,DROP POLICY entity_isolation ON billing.invoice,CREATE TABLE billing.mine (),CREATE TABLE billing_internal.mine (),"CREATE FUNCTION billing.mine() RETURNS int LANGUAGE sql RETURN 1",DROP EXTENSION billing_erp,SET session_replication_role = replica,SET ROLE billing_owner,COMMENT ON TABLE billing.invoice IS NULL}'::text[]) statement;
CREATE FUNCTION pg_temp.without_row_security() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of('eve'));
	SET LOCAL row_security = off;
	RETURN (SELECT count(*) FROM billing.invoice);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.without_row_security(), '42501', 'row_security may be switched off, but shows no more: it is refused');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'billing_internal'::regnamespace AND has_function_privilege('billing_user', p.oid, 'EXECUTE')
	AND p.proname NOT IN ('entity_id', 'open_run', 'run_slice', 'close_run', 'task_due_at', 'usage_moment', 'guard_row', 'document_reference', 'reveal_personal', 'tariff_in', 'tariff_out', 'tariff_recv', 'tariff_send', 'tariff_from_jsonb', 'tariff_to_jsonb', 'tariff_eq', 'tariff_ne', 'tariff_hash', 'tariff_hash_extended', 'is_json_path', 'is_json_predicate', 'are_group_keys', 'usage_cells', 'usage_tail', 'usage_levels_of_day', 'usage_month_of', 'usage_days', 'usage_days_rows', 'usage_levels')$$,
	'of the internal functions only these are for people');
SELECT is(pg_temp.try('eve', format(statement, 'acme')), 'ZB002', statement)
FROM unnest(ARRAY['SELECT billing_internal.entity_id(%L)', 'SELECT billing_internal.open_run(%L, ''2026-01-01'', ''{}'')', 'SELECT billing_internal.run_slice(%L, 1, 1)', 'SELECT billing_internal.close_run(%L, 1)']) statement;

-- ---------------------------------------------------------------------------------------------------------------------
-- Tricks of a reader: a function that leaks, statistics, plans, prepared statements

CREATE TEMP TABLE leaked (value text);
GRANT ALL ON leaked TO PUBLIC;
CREATE FUNCTION pg_temp.leak(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN INSERT INTO leaked VALUES ($1::text); RETURN true; END $$;
SELECT pg_temp.must('eve', format('SELECT count(*) FROM billing.%s WHERE pg_temp.leak(%s)', r, c))
FROM (VALUES ('invoice', 'invoice_id'), ('legal_entity', 'entity_id'), ('invoice_overview', 'invoice_id'), ('contract_term', 'version_id'), ('open_exception', 'exception_id'), ('audit_log', 'audit_id')) AS v (r, c);
SELECT cmp_ok((SELECT count(*) FROM leaked), '>', 50::bigint, 'a function in a condition sees rows');
SELECT is_empty(format('SELECT value FROM leaked WHERE value NOT IN (SELECT invoice_id::text FROM billing.invoice WHERE entity_id = %1$s UNION ALL SELECT version_id::text FROM billing.contract_item_version WHERE entity_id = %1$s UNION ALL SELECT exception_id::text FROM billing.exception WHERE entity_id = %1$s
	UNION ALL SELECT audit_id::text FROM billing.audit_log WHERE entity_id = %1$s UNION ALL SELECT %1$L)', :yen), 'but none that its caller may not');
ANALYZE billing.invoice;
SELECT is(pg_temp.must('eve', $$SELECT count(*) FROM pg_stats s JOIN pg_class c ON c.oid = format('%I.%I', s.schemaname, s.tablename)::regclass WHERE s.schemaname = 'billing' AND c.relrowsecurity$$), '0', 'statistics of such tables show no values');

SET plan_cache_mode = force_generic_plan;
PREPARE totals AS SELECT count(*), coalesce(sum(entity_id), 0) FROM billing.invoice;
PREPARE one AS SELECT count(*) FROM billing.invoice_overview WHERE entity = $1;
SELECT count(*) AS n, sum(entity_id) AS s FROM billing.invoice WHERE entity_id = :yen \gset yen_
SELECT count(*) AS n, sum(entity_id) AS s FROM billing.invoice \gset all_
SELECT pg_temp.role_of('eve') AS eve, pg_temp.role_of('nob') AS nob \gset
EXECUTE totals \gset su_
SET SESSION AUTHORIZATION :"eve";
EXECUTE totals \gset eve_
EXECUTE one('acme') \gset eve_one_
SET SESSION AUTHORIZATION ada;
EXECUTE totals \gset ada_
EXECUTE one('acme') \gset ada_one_
SET SESSION AUTHORIZATION :"nob";
EXECUTE totals \gset nob_
SET SESSION AUTHORIZATION :"eve";
EXECUTE totals \gset eve2_
RESET SESSION AUTHORIZATION;
SELECT is(:su_count::bigint, :all_n::bigint, 'a prepared statement of a superuser sees all');
SELECT is(:eve_count::bigint, :yen_n::bigint, 'run again by eve, hers');
SELECT is(:eve_coalesce::bigint, :yen_s::bigint, 'no others');
SELECT is(:eve_one_count::bigint, 0::bigint, 'and none of a named other');
SELECT is(:ada_count::bigint, :all_n::bigint, 'by ada, who works in all entities, all');
SELECT cmp_ok(:ada_one_count::bigint, '>', 0::bigint, 'by name too');
SELECT is(:nob_count::bigint, 0::bigint, 'by somebody without a duty, none');
SELECT is(:eve2_count::bigint, :yen_n::bigint, 'and by eve again, hers');

SELECT * FROM finish();
ROLLBACK;
