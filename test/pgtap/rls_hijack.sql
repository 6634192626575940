-- Nobody makes the extension run their code as its owner, or count wrong, by what they put into their search_path: functions,
-- operators, casts, temporary tables and types of the same names.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(13);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'L', 'EUR'), billing.set_price('acme', 'list', 'seat', pg_temp.each('12.5'), '2026-01-01'),
	billing.create_contract('acme', 'k', 'a1', '2026-01-15', anchor => '2026-01-01'), billing.add_item('acme', 'k', 'i', 'seat', 'recurring', 10, price_book => 'list'),
	billing.add_item('acme', 'k', 'u', 'seat', 'usage', tariff => pg_temp.each('0.125'), meter => 'calls')$$);
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id": "1", "source": "s", "type": "calls", "subject": "a1", "time": "2026-01-20T12:00:00Z", "data": {"quantity": 8, "expected_amount": 1}}]')$$);

-- A schema of traps: every one notes as whom it was sprung, and answers wrong
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO PUBLIC;
CREATE TABLE evil.sprung (as_whom name DEFAULT current_user, trap text);
GRANT ALL ON evil.sprung TO PUBLIC;
CREATE FUNCTION evil.trap(name text) RETURNS void LANGUAGE sql AS $$ INSERT INTO evil.sprung (trap) VALUES (name) $$;
DO $$
DECLARE
	o record;
	n integer := 0;
BEGIN
	-- Operators that the extension's statements use, for all types that they meet there
	FOR o IN SELECT DISTINCT op.oprname, op.oprleft::regtype AS l, op.oprright::regtype AS r, op.oprresult::regtype AS result
		FROM pg_operator op
		WHERE op.oprnamespace = 'pg_catalog'::regnamespace AND op.oprname IN ('=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '->', '->>', '~', '@>', '&&')
		AND op.oprleft IN ('integer'::regtype, 'bigint'::regtype, 'text'::regtype, 'numeric'::regtype, 'date'::regtype, 'jsonb'::regtype, 'name'::regtype, 'boolean'::regtype, 'timestamptz'::regtype, 'oid'::regtype, 'smallint'::regtype)
		AND op.oprright IN ('integer'::regtype, 'bigint'::regtype, 'text'::regtype, 'numeric'::regtype, 'date'::regtype, 'jsonb'::regtype, 'name'::regtype, 'boolean'::regtype, 'timestamptz'::regtype, 'oid'::regtype, 'smallint'::regtype, 'integer[]'::regtype)
	LOOP
		n := n + 1;
		EXECUTE format('CREATE FUNCTION evil.op%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', n, o.l, o.r, o.result, format('BEGIN PERFORM evil.trap(%L); RETURN NULL; END', o.oprname));
		EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.op%s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, n, o.l, o.r);
	END LOOP;
	-- Functions that they call
	FOR o IN SELECT DISTINCT ON (p.proname, pg_get_function_identity_arguments(p.oid)) p.proname, p.oid, pg_get_function_identity_arguments(p.oid) AS arguments, p.prorettype::regtype AS result
		FROM pg_proc p
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.proname IN ('now', 'round', 'abs', 'lower', 'length', 'octet_length', 'format', 'concat_ws', 'to_jsonb', 'extract', 'lpad', 'daterange', 'isfinite',
			'numeric_eq', 'int4eq', 'texteq', 'timezone', 'date', 'substr', 'scale', 'generate_series', 'to_char', 'nextval')
		AND NOT p.proretset AND p.provariadic = 0 AND p.proname <> 'concat_ws'
		AND (SELECT bool_and(t::regtype::text !~ '^(any|internal|cstring)') IS NOT FALSE FROM unnest(p.proargtypes) t)
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', o.proname, o.arguments, o.result, format('BEGIN PERFORM evil.trap(%L); RETURN NULL; END', o.proname));
	END LOOP;
END $$;
SELECT cmp_ok((SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace), '>', 100::bigint, 'there are many traps');

-- Temporary tables and a type with the names of ours, full of lies
CREATE FUNCTION pg_temp.lay_tables() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	t text;
BEGIN
	FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind IN ('r', 'p') LOOP
		EXECUTE format('CREATE TEMP TABLE %I (LIKE billing.%1$I)', t);
		EXECUTE format('GRANT ALL ON pg_temp.%I TO PUBLIC', t);
	END LOOP;
	CREATE TEMP TABLE pg_class (x int);
	CREATE TEMP TABLE pg_proc (x int);
END $$;
SELECT pg_temp.lay_tables();

-- What a statement gives a person with a search_path
CREATE FUNCTION pg_temp.on_path(path text, person text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	before text := current_setting('search_path');
BEGIN
	EXECUTE pg_catalog.format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	EXECUTE 'SET LOCAL search_path = ' || path;
	IF pg_catalog.starts_with(statement, 'SELECT') THEN
		EXECUTE statement INTO answer;
	ELSE
		EXECUTE statement;
	END IF;
	PERFORM pg_catalog.set_config('search_path', before, true);
	RESET SESSION AUTHORIZATION;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) SQLERRM;
END $$;
CREATE TEMP TABLE asked (n serial, person text, statement text);
INSERT INTO asked (person, statement) VALUES
	('ada', $$SELECT billing.current_actor()$$),
	('ada', $$SELECT billing.my_entities()$$),
	('ada', $$SELECT billing.has_duty('acme', 'biller')$$),
	('rea', $$SELECT billing.has_duty('acme', 'biller')$$),
	('rea', $$SELECT billing.issue_invoices('acme')$$),
	('ada', $$SELECT billing.round_amount(2.345, 2, 'half_even')$$),
	('ada', $$SELECT billing.prorate(100, 10, 30)$$),
	('ada', $$SELECT billing.period_start('2026-01-31', 'month', 1, 1)$$),
	('ada', $$SELECT billing.rate('{"model": "graduated", "tiers": [{"up_to": 10, "unit": "2"}, {"up_to": null, "unit": "1"}]}'::billing.tariff, 13)$$),
	('ada', $$SELECT pg_catalog.jsonb_agg(p) FROM billing.entitlement('acme', 'a1', '2026-02-01') p$$),
	('ada', $$SELECT pg_catalog.jsonb_agg(p) FROM billing.preview_invoice('acme', 'a1', '2026-02-01') p$$),
	('ada', $$SELECT billing.add_product('acme', 'p2', 'P2')$$),
	('ada', $$SELECT billing.set_price('acme', 'list', 'seat', '{"model": "per_unit", "unit": "12.5"}', '2027-01-01')$$),
	('ada', $$SELECT billing.change_item('acme', 'k', 'i', '2026-01-20', 11)$$),
	('ada', $$SELECT pg_catalog.jsonb_agg(u) FROM billing.ingest_usage('acme', '[{"id": "2", "source": "s", "type": "calls", "subject": "a1", "time": "2026-01-20T12:00:00Z", "data": {"quantity": 8}}]') u$$),
	('ada', $$CALL billing.run_billing('acme', '2026-02-01')$$),
	('ada', $$SELECT pg_catalog.jsonb_agg(v) FROM billing.validate_invoices('acme') v$$),
	('ada', $$SELECT pg_catalog.jsonb_agg(o.total) FROM billing.invoice_overview o$$),
	('ada', $$SELECT pg_catalog.count(*) FROM billing.contract_term$$),
	('ada', $$SELECT pg_catalog.sum(v.violations) FROM billing.verify() v$$),
	('adm', $$SELECT billing.grant_duty('acme', 'nob', 'reader')$$),
	('app', $$SELECT billing.act_as('ada')$$),
	('ada', $$UPDATE billing.customer SET name = 'Hijacked'$$),
	('ada', $$INSERT INTO billing.price_book (entity_id, code, name, currency) SELECT entity_id, 'b2', 'B', 'EUR' FROM billing.legal_entity$$),
	('rea', $$UPDATE billing.customer SET name = 'Hijacked'$$),
	('ada', $$UPDATE billing.invoice SET total = 0$$);
-- Each statement on a quiet path, taken back; then on paths full of traps
CREATE FUNCTION pg_temp.answers(path text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	a record;
	answers text[];
	sprung text[];
BEGIN
	FOR a IN SELECT * FROM asked ORDER BY n LOOP
		answers := answers || coalesce(pg_temp.on_path(path, a.person, a.statement), 'none');
	END LOOP;
	SELECT array_agg(DISTINCT as_whom || ' ' || trap) INTO sprung FROM evil.sprung;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = (SELECT jsonb_build_object('answers', answers, 'sprung', sprung));
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN ARRAY[(SQLERRM::jsonb -> 'answers')::text, SQLERRM::jsonb ->> 'sprung'];
END $$;
CREATE TEMP TABLE quiet AS SELECT pg_temp.answers('pg_catalog') AS a;
SELECT cmp_ok((SELECT count(*) FROM quiet, jsonb_array_elements_text(a[1]::jsonb) e WHERE e ~ '^(ZB003|42501)'), '=', 3::bigint, 'on a quiet path three are refused') ;
SELECT cmp_ok((SELECT count(*) FROM quiet, jsonb_array_elements_text(a[1]::jsonb) e WHERE e ~ '^[0-9A-Z]{5} '), '=', 3::bigint, 'and all else works');
CREATE TEMP TABLE trapped AS
SELECT path, pg_temp.answers(path) AS a FROM unnest('{"evil, pg_catalog","pg_temp, evil, pg_catalog","evil, pg_temp, billing, pg_catalog","pg_temp, billing, billing_internal, pg_catalog"}'::text[]) path;
SELECT is((SELECT string_agg(format('%s: %s, not %s', s.statement, t.e, q.e), E'\n')
		FROM jsonb_array_elements_text(trapped.a[1]::jsonb) WITH ORDINALITY AS t (e, n)
		JOIN jsonb_array_elements_text((SELECT a[1]::jsonb FROM quiet)) WITH ORDINALITY AS q (e, n) USING (n)
		JOIN (SELECT statement, row_number() OVER (ORDER BY n) AS n FROM asked) s USING (n)
		WHERE t.e <> q.e AND s.statement !~ 'now|recorded'),
	NULL, 'the same answers on the path ' || path) FROM trapped;
SELECT is((SELECT string_agg(s, ', ') FROM jsonb_array_elements_text(coalesce(a[2], '[]')::jsonb) s WHERE s ~ ('^(billing_owner|' || session_user || ') ')), NULL, 'no trap was sprung as the owner on the path ' || path) FROM trapped;
-- The traps work: what people write themselves on such a path does fall into them
SELECT matches(pg_temp.on_path('evil, pg_catalog', 'ada', 'SELECT 1 = 1'), '^$|^f', 'an operator of theirs answers wrong to themselves') WHERE pg_temp.on_path('evil, pg_catalog', 'ada', 'SELECT 1 = 1') IS NOT NULL
UNION ALL SELECT pass('an operator of theirs answers null to themselves') WHERE pg_temp.on_path('evil, pg_catalog', 'ada', 'SELECT 1 = 1') IS NULL;
SELECT cmp_ok((SELECT count(*) FROM evil.sprung WHERE trap = '='), '>', 0::bigint, 'and is noted');

SELECT * FROM finish();
ROLLBACK;
