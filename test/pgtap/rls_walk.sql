-- A walk through the catalog: every table that people may write, with every row that another entity has. Neither a key that is taken
-- nor a row that is referred to tells that it is there: the answer is the one for an entity that does not exist.
BEGIN;
SELECT * FROM no_plan();
\ir ../lib/everything.sql
\ir ../lib/persons.sql
SELECT pg_temp.hire('eve');
SELECT billing.grant_duty('yen', 'eve', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager,accountant}'::text[]) d;
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset

CREATE TEMP TABLE writable AS
SELECT c.oid, c.relname, (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns
FROM pg_class c
WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity AND has_table_privilege('billing_user', c.oid, 'INSERT');
SELECT cmp_ok((SELECT count(*) FROM writable), '>', 8::bigint, 'there are tables that people write');

-- What eve is told when she inserts a row of an entity, given as JSON
CREATE FUNCTION pg_temp.answer(of_table text, columns text, given jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('eve', format('INSERT INTO billing.%I (%s) SELECT %2$s FROM jsonb_populate_record(NULL::billing.%1$I, %3$L)', of_table, columns, given));
$$;
-- Up to three rows of another entity from every table, as they are, and the same of an entity that does not exist
CREATE TEMP TABLE taken (relname name, columns text, given jsonb);
DO $$
DECLARE
	w record;
BEGIN
	FOR w IN SELECT * FROM writable LOOP
		EXECUTE format('INSERT INTO taken SELECT %L, %L, to_jsonb(t) FROM billing.%I t WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = %L) LIMIT 3', w.relname, w.columns, w.relname, 'acme');
	END LOOP;
END $$;
SELECT cmp_ok((SELECT count(DISTINCT relname) FROM taken), '>', 7::bigint, 'most of which have rows of another entity');
SELECT is(pg_temp.answer(relname, columns, given), pg_temp.answer(relname, columns, given || '{"entity_id": 99999}'), relname || ': a key that another entity has taken is not told from one that nobody has')
FROM taken ORDER BY relname;
SELECT matches(pg_temp.answer(relname, columns, given), '^ZB003 person "eve" does not hold the duty \w+ in entity "\?"$', relname || ': the duty is asked for first') FROM taken ORDER BY relname;
-- The same for what she refers to: rows of her own entity that name keys of the other one
SELECT is(pg_temp.told('eve', format('INSERT INTO billing.billing_account (entity_id, code, customer_id, currency) SELECT entity_id, %L, %s, %L FROM billing.legal_entity', 'walk', id, 'JPY')),
	pg_temp.told('eve', format('INSERT INTO billing.billing_account (entity_id, code, customer_id, currency) SELECT entity_id, %L, %s, %L FROM billing.legal_entity', 'walk', 999999999, 'JPY')), 'a customer of another entity is referred to as one that is not there')
FROM (SELECT replace(pg_temp.told('eve', 'SELECT 1'), '1', customer_id::text) AS id FROM billing.customer WHERE entity_id = :acme LIMIT 1) c;
-- Changing rows of others changes none, and says so alike
SELECT is(pg_temp.told('eve', format('UPDATE billing.%I SET entity_id = entity_id WHERE entity_id = %s', relname, e)), '0', format('%s: no row of entity %s is changed', relname, e))
FROM writable, unnest(ARRAY[:acme, 99999]) e WHERE has_column_privilege('billing_user', oid, 'entity_id', 'UPDATE') ORDER BY relname, e;
-- Sequences: nobody reads or sets what they stand at
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace IN ('billing'::regnamespace, 'billing_internal'::regnamespace)
	AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('billing_user', c.oid, 'SELECT') OR has_sequence_privilege('billing_user', c.oid, 'UPDATE') END$$, 'no sequence is read or set');
-- What the planner guesses of others' rows is not to be had either: its statistics hide them
SELECT is(pg_temp.must('eve', $$SELECT count(*) FROM pg_stats s JOIN pg_class c ON c.oid = format('%I.%I', s.schemaname, s.tablename)::regclass WHERE s.schemaname = 'billing' AND c.relrowsecurity$$), '0', 'no statistics');
SELECT * FROM finish();
ROLLBACK;
