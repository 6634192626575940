-- What is done to the extension's own objects leaves a record or is refused; what is done to others' leaves none.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(39);
SELECT pg_temp.hire('nob');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');

-- The records that a command leaves; the command is taken back
CREATE FUNCTION pg_temp.recorded(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	last bigint := (SELECT max(audit_id) FROM billing.audit_log);
	answer text;
BEGIN
	BEGIN
		EXECUTE command;
		SELECT string_agg(format('%s %s %s', action, object_type, object_id), ', ' ORDER BY audit_id) INTO answer
		FROM billing.audit_log WHERE audit_id > last AND entity_id = 0;
		RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing');
	EXCEPTION WHEN SQLSTATE 'P0001' THEN
		RETURN SQLERRM;
	END;
END $$;

SELECT is(pg_temp.recorded(command), record, command)
FROM (VALUES
	('ALTER TABLE billing.invoice DISABLE TRIGGER ALL', 'alter table table billing.invoice'),
	('ALTER TABLE billing.invoice DISABLE TRIGGER c_guard_issued', 'alter table table billing.invoice'),
	('ALTER TABLE billing.audit_log DISABLE TRIGGER b_complete', 'alter table table billing.audit_log'),
	('ALTER TABLE billing.invoice DISABLE ROW LEVEL SECURITY', 'alter table table billing.invoice'),
	('ALTER TABLE billing.invoice NO FORCE ROW LEVEL SECURITY', 'alter table table billing.invoice'),
	('DROP TRIGGER a_guard_writes ON billing.invoice', 'drop trigger trigger a_guard_writes on billing.invoice'),
	('DROP POLICY entity_isolation ON billing.invoice', 'drop policy policy entity_isolation on billing.invoice'),
	('ALTER POLICY entity_isolation ON billing.invoice USING (true)', 'alter policy policy entity_isolation on billing.invoice'),
	('CREATE POLICY all_of_them ON billing.invoice USING (true)', 'create policy policy all_of_them on billing.invoice'),
	('CREATE RULE nothing AS ON INSERT TO billing.invoice DO INSTEAD NOTHING', 'create rule rule nothing on billing.invoice'),
	('CREATE TRIGGER mine BEFORE UPDATE ON billing.invoice FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()', 'create trigger trigger mine on billing.invoice'),
	('ALTER FUNCTION billing_internal.guard_writes() SECURITY DEFINER', 'alter function function billing_internal.guard_writes()'),
	('ALTER FUNCTION billing.issue_invoices(text, date) OWNER TO CURRENT_USER', 'alter function function billing.issue_invoices(pg_catalog.text,pg_catalog.date)'),
	('CREATE OR REPLACE FUNCTION billing_internal.guard_row(table_name text) RETURNS boolean LANGUAGE sql AS ''SELECT true''', 'create function function billing_internal.guard_row(pg_catalog.text)'),
	('GRANT UPDATE ON billing.audit_log TO PUBLIC', 'grant table '),
	('GRANT billing_owner TO ' || pg_temp.role_of('nob'), 'nothing'),
	('ALTER TABLE billing.invoice OWNER TO CURRENT_USER', 'alter table table billing.invoice'),
	('ALTER SCHEMA billing_internal OWNER TO CURRENT_USER', 'alter schema schema billing_internal'),
	('CREATE VIEW billing.extra AS SELECT 1 AS one', 'create view view billing.extra'),
	('CREATE TABLE billing.mine (i integer)', 'create table table billing.mine'),
	('COMMENT ON TABLE billing.invoice IS ''x''', 'comment table billing.invoice'),
	('ALTER EXTENSION billing_erp DROP VIEW billing.audit_trail', 'alter extension extension billing_erp'),
	-- others' objects, though they look at ours
	('CREATE TABLE public.mine (i integer)', 'nothing'),
	('CREATE VIEW public.mine AS SELECT * FROM billing.invoice', 'nothing'),
	('CREATE FUNCTION public.mine() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM billing.invoice; END', 'nothing'),
	('CREATE TEMP TABLE invoice (i integer)', 'nothing'),
	('CREATE SCHEMA mine; CREATE TABLE mine.audit_log (i integer); DROP SCHEMA mine CASCADE', 'nothing')
) AS c (command, record);
SELECT matches(pg_temp.recorded('ALTER TABLE billing.invoice DROP CONSTRAINT invoice_total_is_net_and_tax'),
	'alter table table constraint invoice_total_is_net_and_tax on billing.invoice', 'a dropped constraint is named');

-- A session in replica mode fires no trigger; the record is there all the same, with the command, the login and a hash
SET LOCAL session_replication_role = replica;
SELECT is(pg_temp.recorded('ALTER TABLE billing.audit_log DISABLE TRIGGER ALL'), 'alter table table billing.audit_log', 'in replica mode too');
ALTER TABLE billing.document DISABLE TRIGGER a_guard_writes;
SET LOCAL session_replication_role = origin;
ALTER TABLE billing.document ENABLE TRIGGER a_guard_writes;
SELECT is((SELECT array_agg(format('%s %s', login = session_user, hash = billing_internal.audit_hash(a)) ORDER BY audit_id)
	FROM billing.audit_log a WHERE action = 'alter table'), '{"t t","t t"}', 'with login and hash');
SELECT is((SELECT after FROM billing.audit_log WHERE action = 'alter table' ORDER BY audit_id LIMIT 1),
	'{"command": "ALTER TABLE billing.document DISABLE TRIGGER a_guard_writes;"}'::jsonb, 'and the command');

-- A column of the log that its hash does not know is refused, and so is what would empty it
SELECT is(pg_temp.try(NULL, 'ALTER TABLE billing.audit_log ADD COLUMN more text'), 'ZB016', 'the log has the columns that its hash covers');
SELECT is(pg_temp.try(NULL, 'TRUNCATE billing.audit_block'), 'ZB008', 'blocks are not truncated');
SELECT is(pg_temp.try(NULL, 'DELETE FROM billing.audit_block'), 'ZB008', 'nor deleted');
SELECT is(pg_temp.try(NULL, 'TRUNCATE billing.invoice CASCADE'), 'ZB008', 'nor are documents');
SELECT matches(pg_temp.told(NULL, 'DROP TABLE billing.audit_block'), 'extension billing_erp requires it', 'a table is not dropped alone');
SELECT matches(pg_temp.told(NULL, 'DROP EVENT TRIGGER billing_audit_drops'), 'extension billing_erp requires it', 'nor an event trigger');

-- Who has a schema of their own goes on as before; what they are not allowed to do leaves nothing
SELECT format('CREATE SCHEMA own AUTHORIZATION %I', pg_temp.role_of('nob')) \gexec
SELECT is(pg_temp.told('nob', 'CREATE TABLE own.t (i integer)'), '0', 'others make tables');
SELECT is(pg_temp.told('nob', 'DROP TABLE own.t'), '0', 'and drop them');

SELECT * FROM finish();
ROLLBACK;
