-- A rule that cannot fail proves nothing: an offender for each rule of test/lib/house_rules.sql, and the rule finds it.
BEGIN;
\ir ../lib/house_rules.sql
SELECT plan(36);

-- What each offender is called in its rule's list
CREATE FUNCTION pg_temp.finds(rule text, offender text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	found boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM rule_%s r WHERE strpos(r.offender, $1) > 0)', rule) INTO found USING offender;
	RETURN ok(found, format('%s finds %s', rule, offender));
END $$;

-- Comments: a table without one, its column, a function, a type, a view's column, an operator
CREATE TABLE billing.bare_table (entity_id integer, bare_column text);
ALTER EXTENSION billing_erp ADD TABLE billing.bare_table;
CREATE FUNCTION billing.bare_function() RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
ALTER EXTENSION billing_erp ADD FUNCTION billing.bare_function();
CREATE TYPE billing.bare_type AS ENUM ('a');
ALTER EXTENSION billing_erp ADD TYPE billing.bare_type;
CREATE TYPE billing.bare_pair AS (bare_member text);
ALTER EXTENSION billing_erp ADD TYPE billing.bare_pair;
CREATE VIEW billing.bare_view AS SELECT 1 AS shown;
ALTER EXTENSION billing_erp ADD VIEW billing.bare_view;
CREATE OPERATOR billing.### (FUNCTION = pg_catalog.int4pl, LEFTARG = integer, RIGHTARG = integer);
ALTER EXTENSION billing_erp ADD OPERATOR billing.### (integer, integer);
COMMENT ON SCHEMA billing IS NULL;
SELECT pg_temp.finds('comments', 'table billing.bare_table');
SELECT pg_temp.finds('comments', 'column bare_column of table billing.bare_table');
SELECT pg_temp.finds('comments', 'function billing.bare_function()');
SELECT pg_temp.finds('comments', 'type billing.bare_type');
SELECT pg_temp.finds('comments', 'type billing.bare_pair');
SELECT pg_temp.finds('comments', 'column bare_member of composite type billing.bare_pair');
SELECT pg_temp.finds('comments', 'column shown of view billing.bare_view');
SELECT pg_temp.finds('comments', 'operator billing.###');
SELECT pg_temp.finds('comments', 'schema billing');

-- Languages, pinned paths, bodies, symbols
CREATE FUNCTION billing.in_plpgsql() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
ALTER EXTENSION billing_erp ADD FUNCTION billing.in_plpgsql();
CREATE FUNCTION billing.unpinned() RETURNS integer LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT 1; END;
ALTER EXTENSION billing_erp ADD FUNCTION billing.unpinned();
CREATE FUNCTION billing.pinned_elsewhere() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = billing, pg_temp
	BEGIN ATOMIC SELECT 1; END;
ALTER EXTENSION billing_erp ADD FUNCTION billing.pinned_elsewhere();
CREATE FUNCTION billing.text_body() RETURNS integer LANGUAGE sql AS 'SELECT 1';
ALTER EXTENSION billing_erp ADD FUNCTION billing.text_body();
CREATE FUNCTION billing.foreign_symbol(internal, integer) RETURNS internal LANGUAGE c IMMUTABLE
	AS '$libdir/btree_gist', 'gbt_int4_consistent';
ALTER EXTENSION billing_erp ADD FUNCTION billing.foreign_symbol(internal, integer);
SELECT pg_temp.finds('languages', 'billing.in_plpgsql()');
SELECT pg_temp.finds('definer_path', 'billing.unpinned()');
SELECT pg_temp.finds('definer_path', 'billing.pinned_elsewhere()');
SELECT pg_temp.finds('atomic_bodies', 'billing.text_body()');
SELECT pg_temp.finds('symbols', 'billing.foreign_symbol(internal,integer)');

-- Tables: no entity, no key, keys that begin with something else
CREATE TABLE billing.homeless (homeless_id bigint CONSTRAINT homeless_pkey PRIMARY KEY);
ALTER EXTENSION billing_erp ADD TABLE billing.homeless;
INSERT INTO reference_table VALUES ('billing.gone');
CREATE TABLE billing.badly_keyed (
	id        bigserial CONSTRAINT badly_keyed_pkey PRIMARY KEY,
	entity_id integer   CONSTRAINT badly_keyed_entity REFERENCES billing.legal_entity ON DELETE SET NULL,
	other     bigint    CONSTRAINT badly_keyed_other REFERENCES billing.badly_keyed,
	CONSTRAINT badly_keyed_excluding EXCLUDE USING gist (other WITH =, entity_id WITH =)
);
CREATE UNIQUE INDEX badly_keyed_expression ON billing.badly_keyed (abs(other), entity_id);
ALTER EXTENSION billing_erp ADD TABLE billing.badly_keyed;
ALTER EXTENSION billing_erp ADD SEQUENCE billing.badly_keyed_id_seq;
ALTER TABLE billing.legal_entity ADD CONSTRAINT second_name UNIQUE (name);
SELECT pg_temp.finds('entity_or_reference', 'billing.homeless');
SELECT pg_temp.finds('entity_or_reference', 'billing.gone is listed');
SELECT pg_temp.finds('keys_led_by_entity', 'billing.bare_table has no primary key');
SELECT pg_temp.finds('keys_led_by_entity', 'billing.badly_keyed_pkey');
SELECT pg_temp.finds('keys_led_by_entity', 'billing.badly_keyed_excluding');
SELECT pg_temp.finds('keys_led_by_entity', 'billing.badly_keyed_expression');
SELECT pg_temp.finds('keys_led_by_entity', 'billing.second_name');
SELECT pg_temp.finds('foreign_keys_led_by_entity', 'badly_keyed_other of billing.badly_keyed');
SELECT pg_temp.finds('foreign_keys_led_by_entity', 'badly_keyed_entity of billing.badly_keyed sets columns null');

-- Row-level security: enabled but not forced; a partition without it
CREATE TABLE billing.half_secured (entity_id integer CONSTRAINT half_secured_pkey PRIMARY KEY) PARTITION BY LIST (entity_id);
ALTER EXTENSION billing_erp ADD TABLE billing.half_secured;
ALTER TABLE billing.half_secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON billing.half_secured USING (true);
SELECT pg_temp.finds('row_security', 'billing.half_secured');
ALTER TABLE billing.half_secured FORCE ROW LEVEL SECURITY;
CREATE TABLE billing.open_partition PARTITION OF billing.half_secured DEFAULT;
SELECT pg_temp.finds('row_security', 'billing.open_partition');

-- pg_dump would leave out a table, a sequence
SELECT pg_temp.finds('marked_for_dump', 'table billing.badly_keyed');
SELECT pg_temp.finds('marked_for_dump', 'sequence billing.badly_keyed_id_seq');

-- Privileges
GRANT UPDATE (bare_column) ON billing.bare_table TO billing_user;
GRANT DELETE ON billing.legal_entity TO billing_user;
GRANT INSERT ON billing.homeless TO PUBLIC;
INSERT INTO master_data VALUES ('billing.currency');
SELECT pg_temp.finds('document_writes', 'UPDATE by billing_user on billing.bare_table');
SELECT pg_temp.finds('document_writes', 'DELETE by billing_user on billing.legal_entity');
SELECT pg_temp.finds('document_writes', 'INSERT by PUBLIC on billing.homeless');
SELECT pg_temp.finds('document_writes', 'billing.currency is listed');
SELECT pg_temp.finds('public_execute', 'billing.bare_function()');

-- Views, owners, names, types
SELECT pg_temp.finds('security_invoker', 'view billing.bare_view');
SELECT pg_temp.finds('ownership', 'table billing.bare_table');
ALTER TABLE billing.bare_table ADD CHECK (bare_column <> '');
SELECT pg_temp.finds('constraint_names', 'bare_table_bare_column_check of billing.bare_table');
ALTER TABLE billing.bare_table ADD COLUMN about double precision;
SELECT pg_temp.finds('column_types', 'billing.bare_table.about');

SELECT * FROM finish();
ROLLBACK;
