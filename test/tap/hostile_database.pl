# A database full of traps: what its owner, a tenant with CREATE, put into public before the extension came and after, in temporary
# schemas, in settings. The same work gives the same rows as in a quiet database, no trap is sprung as the owner of the
# tables, and nobody has more rights than before.
use strict;
use warnings;

use Cwd qw(getcwd);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $everything = slurp_file(getcwd() . '/test/lib/everything.sql');

# A cluster with a database that a tenant owns
sub cluster
{
	my ($name) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', "timezone = 'UTC'\nshared_preload_libraries = 'billing_erp'\nlog_statement = none\n");
	$node->start;
	$node->safe_psql('postgres', 'CREATE ROLE tenant LOGIN; CREATE DATABASE shop OWNER tenant');
	return $node;
}

# SQLSTATE of a statement that a role runs, or nothing
sub told
{
	my ($node, $role, $statement) = @_;
	my (undef, undef, $error) = $node->psql('shop', "\\set VERBOSITY verbose\n$statement", extra_params => [ '-U', $role ]);
	return $error =~ /(?:ERROR|FATAL):\s+(\w{5}):/ ? $1 : $error =~ /\S/ ? $error : '';
}

# Whether two texts have the same lines; if not, the first few that only one has
sub same_lines
{
	my ($got, $expected, $name) = @_;
	my %count;
	$count{$_}++ for split /\n/, $got;
	$count{$_}-- for split /\n/, $expected;
	my @odd = map { ($count{$_} > 0 ? '+ ' : '- ') . $_ } grep { $count{$_} != 0 } sort keys %count;
	return ok(!@odd, $name) || diag(join "\n", @odd > 12 ? (@odd[ 0 .. 11 ], '...') : @odd);
}

# Functions and operators that match better than what the server has, for the types that the extension's statements use.
# They note as whom they run, and answer right, so that what the tenant's own statements give stays the same.
my $traps = <<'SQL';
CREATE TABLE public.sprung (as_whom name DEFAULT current_user, trap text);
GRANT ALL ON public.sprung TO PUBLIC;
CREATE FUNCTION public.spring(name text) RETURNS void LANGUAGE sql AS 'INSERT INTO public.sprung (trap) VALUES ($1)';
DO $do$
DECLARE
	o record;
	n integer := 0;
	types CONSTANT regtype[] := '{integer,bigint,text,numeric,date,jsonb,name,boolean,timestamptz,smallint,interval}';
BEGIN
	FOR o IN SELECT op.oprname, op.oprleft::regtype AS l, op.oprright::regtype AS r, op.oprresult::regtype AS result, op.oprcode
		FROM pg_operator op
		WHERE op.oprnamespace = 'pg_catalog'::regnamespace AND op.oprname IN ('=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '->', '->>', '~')
		AND op.oprleft = ANY (types) AND op.oprright = ANY (types)
	LOOP
		n := n + 1;
		EXECUTE format('CREATE FUNCTION public.op%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', n, o.l, o.r, o.result,
			format('BEGIN PERFORM public.spring(%L); RETURN pg_catalog.%I($1, $2); END', o.oprname, o.oprcode));
		EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.op%s, LEFTARG = %s, RIGHTARG = %s)', o.oprname, n, o.l, o.r);
	END LOOP;
	-- what takes "any", or any number of arguments, is beaten by a function of just these types
	FOR o IN SELECT f.name, string_agg(a.type::text, ', ' ORDER BY a.place) AS arguments, string_agg('$' || a.place, ', ' ORDER BY a.place) AS parameters, f.result
		FROM (VALUES ('format', 'text', 'text text'), ('format', 'text', 'text bigint'), ('format', 'text', 'text integer'), ('format', 'text', 'text text text'), ('format', 'text', 'text bigint integer'),
			('format', 'text', 'text text text text'), ('concat_ws', 'text', 'text text text'), ('concat', 'text', 'text text'), ('jsonb_build_object', 'jsonb', 'text text text text'),
			('jsonb_build_object', 'jsonb', 'text text text integer'), ('to_jsonb', 'jsonb', 'text'), ('to_jsonb', 'jsonb', 'integer'), ('round', 'numeric', 'numeric smallint'), ('lower', 'date', 'daterange'),
			('length', 'integer', 'name'), ('left', 'text', 'name integer'), ('now', 'timestamptz', ''), ('greatest_of', 'integer', 'integer integer')) AS f (name, result, types),
			LATERAL unnest(string_to_array(f.types, ' ')::regtype[]) WITH ORDINALITY AS a (type, place)
		GROUP BY f.name, f.result, f.types
	LOOP
		EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', o.name, o.arguments, o.result,
			format('BEGIN PERFORM public.spring(%L); RETURN pg_catalog.%I(%s); END', o.name, CASE o.name WHEN 'greatest_of' THEN 'int4larger' ELSE o.name END, o.parameters));
	END LOOP;
END $do$;
-- and aggregates, types and domains
CREATE AGGREGATE public.count(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE DOMAIN public.amount AS integer;
CREATE TYPE public.tariff AS (x integer);
SQL

# What came of the work: no ids, no times, and nothing of what begins today
my $outcome = <<'SQL';
SELECT 'invoice', e.code, a.code, d.kind, d.state, i.billing_date::text, i.net, i.tax, i.total, i.number FROM billing.invoice i
	JOIN billing.document d ON d.entity_id OPERATOR(pg_catalog.=) i.entity_id AND d.document_id OPERATOR(pg_catalog.=) i.invoice_id
	JOIN billing.legal_entity e ON e.entity_id OPERATOR(pg_catalog.=) i.entity_id
	JOIN billing.billing_account a ON a.entity_id OPERATOR(pg_catalog.=) i.entity_id AND a.account_id OPERATOR(pg_catalog.=) i.account_id
	WHERE a.code::text OPERATOR(pg_catalog.<>) 'running' ORDER BY 1, 2, 3, 4, 5, 6, 7, 8;
SELECT 'line', l.entity_id, l.kind, l.period_start::text, l.quantity, l.exact_amount, l.amount, l.tariff::text FROM billing.invoice_line l ORDER BY 1, 2, 3, 4, 5, 6, 7, 8;
SELECT 'step', s.entity_id, s.action, s.to_state, pg_catalog.count(*) FROM billing.document_step s GROUP BY 2, 3, 4 ORDER BY 2, 3, 4;
SELECT 'exception', x.entity_id, x.kind, x.state, x.detail, pg_catalog.count(*) FROM billing.exception x WHERE x.kind OPERATOR(pg_catalog.<>) 'usage_source_silent' GROUP BY 2, 3, 4, 5 ORDER BY 2, 3, 4, 5;
SELECT 'audit', l.entity_id, l.action, l.object_type, l.actor, pg_catalog.count(*) FROM billing.audit_log l WHERE l.entity_id OPERATOR(pg_catalog.<>) 0 GROUP BY 2, 3, 4, 5 ORDER BY 2, 3, 4, 5;
SELECT 'verify', v.invariant, v.violations FROM billing.verify() v ORDER BY 2;
SQL

# Who has which rights to what belongs to the extension
my $rights = <<'SQL';
SELECT c.oid::regclass::text, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity, a.grantee::regrole, a.privilege_type
	FROM pg_class c LEFT JOIN LATERAL aclexplode(c.relacl) a ON true WHERE c.relnamespace IN ('billing'::regnamespace, 'billing_internal'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relname !~ '^usage_event_' ORDER BY 1, 5, 6;
SELECT p.oid::regprocedure::text, p.proowner::regrole, p.prosecdef, p.proconfig::text, a.grantee::regrole FROM pg_proc p LEFT JOIN LATERAL aclexplode(p.proacl) a ON true
	WHERE p.pronamespace IN ('billing'::regnamespace, 'billing_internal'::regnamespace) ORDER BY 1, 5;
SELECT n.nspname, n.nspowner::regrole, a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname ~ '^billing' ORDER BY 1, 3, 4;
SQL

my $quiet = cluster('quiet');
$quiet->safe_psql('shop', 'CREATE EXTENSION billing_erp CASCADE');
my $rights_there = $quiet->safe_psql('shop', $rights);
$quiet->safe_psql('shop', $everything);
my $quiet_rows = $quiet->safe_psql('shop', "SET search_path = pg_catalog; $outcome");
cmp_ok(scalar(split(/\n/, $quiet_rows)), '>', 150, 'there is something to compare');
$quiet->stop;

# ---------------------------------------------------------------------------------------------------------------------
# The traps are laid before the extension is created

my $hostile = cluster('hostile');
$hostile->safe_psql('shop', "SET SESSION AUTHORIZATION tenant; $traps");
cmp_ok($hostile->safe_psql('shop', q{SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace}), '>', 100, 'there are many traps');

# A schema that was prepared for the extension
$hostile->safe_psql('shop', q{SET SESSION AUTHORIZATION tenant; CREATE SCHEMA billing; CREATE FUNCTION billing.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$});
is(told($hostile, 'postgres', 'CREATE EXTENSION billing_erp CASCADE'), 'ZB016', 'a schema that a tenant filled beforehand is refused');
$hostile->safe_psql('shop', 'DROP FUNCTION billing.format(text, text)');
is(told($hostile, 'postgres', 'CREATE EXTENSION billing_erp CASCADE'), 'ZB016', 'and one that a tenant owns');
$hostile->safe_psql('shop', 'ALTER SCHEMA billing OWNER TO postgres; GRANT CREATE ON SCHEMA billing TO tenant');
is(told($hostile, 'postgres', 'CREATE EXTENSION billing_erp CASCADE'), 'ZB016', 'and one in which a tenant may create');
$hostile->safe_psql('shop', 'DROP SCHEMA billing; TRUNCATE public.sprung');

$hostile->safe_psql('shop', 'SET search_path = public, pg_catalog; CREATE EXTENSION billing_erp CASCADE');
is($hostile->safe_psql('shop', q{
	SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, 0) || ' uses ' || pg_describe_object(d.refclassid, d.refobjid, 0), E'\n')
	FROM pg_depend d JOIN pg_depend m ON m.classid = d.classid AND m.objid = d.objid AND m.deptype = 'e' AND m.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')
	WHERE (d.refclassid = 'pg_proc'::regclass AND d.refobjid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner = 'tenant'::regrole))
		OR (d.refclassid = 'pg_operator'::regclass AND d.refobjid IN (SELECT oid FROM pg_operator WHERE oprnamespace = 'public'::regnamespace AND oprowner = 'tenant'::regrole))
		OR (d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typowner = 'tenant'::regrole))}), '', 'nothing of the extension uses what a tenant has put there');
same_lines($hostile->safe_psql('shop', $rights), $rights_there, 'rights and owners are those of a quiet database');

# ---------------------------------------------------------------------------------------------------------------------
# The tenant may create whatever they want, also of the names of our tables, and every session looks there first

$hostile->safe_psql('shop', <<'SQL');
SET search_path = pg_catalog;
GRANT billing_user TO tenant;
DO $$
DECLARE
	t text;
BEGIN
	FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'billing'::regnamespace AND relkind IN ('r', 'p', 'v') LOOP
		EXECUTE format('CREATE TABLE public.%I (LIKE billing.%1$I)', t);
		EXECUTE format('GRANT ALL ON public.%I TO PUBLIC', t);
		EXECUTE format('ALTER TABLE public.%I OWNER TO tenant', t);
	END LOOP;
END $$;
SET SESSION AUTHORIZATION tenant;
CREATE TABLE public.pg_class (x int);
CREATE TABLE public.pg_proc (x int);
SQL
$hostile->safe_psql('postgres', 'ALTER DATABASE shop SET search_path = public, billing, pg_catalog; ALTER DATABASE shop SET transform_null_equals = on; ALTER DATABASE shop SET quote_all_identifiers = on;'
	. q{ ALTER DATABASE shop SET datestyle = 'SQL, DMY'; ALTER DATABASE shop SET intervalstyle = 'sql_standard'; ALTER DATABASE shop SET bytea_output = 'escape'; ALTER DATABASE shop SET extra_float_digits = -15;}
	. q{ ALTER DATABASE shop SET enable_indexscan = off; ALTER DATABASE shop SET plan_cache_mode = force_generic_plan; ALTER DATABASE shop SET check_function_bodies = off; ALTER DATABASE shop SET default_toast_compression = 'pglz'});
$hostile->safe_psql('shop', 'TRUNCATE public.sprung');
$hostile->safe_psql('shop', $everything);
cmp_ok($hostile->safe_psql('shop', q{SELECT pg_catalog.count(*) FROM public.sprung WHERE as_whom OPERATOR(pg_catalog.=) 'ada'}), '>', 20, 'the traps work: people who write such statements themselves fall into them');
is($hostile->safe_psql('shop', q{SELECT pg_catalog.string_agg(DISTINCT trap, ' ') FROM public.sprung WHERE as_whom OPERATOR(pg_catalog.=) 'billing_owner'}), '', 'none was sprung as the owner of the tables');
same_lines($hostile->safe_psql('shop', "SET search_path = pg_catalog; SET datestyle = iso; SET transform_null_equals = off; $outcome"), $quiet_rows, 'the same work gives the same rows');
is($hostile->safe_psql('shop', q{SET search_path = pg_catalog; SELECT string_agg(relname, ' ') FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relowner = 'tenant'::regrole AND relkind = 'r' AND relname <> 'sprung'
	AND (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM public.%I', relname), false, true, '')))[1]::text <> '0'}), '', 'no row went into a table of the tenant');
same_lines($hostile->safe_psql('shop', "SET search_path = pg_catalog; SET quote_all_identifiers = off; $rights"), $rights_there, 'rights and owners are what they were');

# Temporary tables of a person, under the names of ours
$hostile->safe_psql('shop', <<'SQL');
CREATE ROLE mallory LOGIN IN ROLE billing_user;
SET search_path = pg_catalog;
SELECT billing.add_person('mallory', 'Mallory'), billing.add_login('mallory', 'mallory'), billing.grant_duty('acme', 'mallory', 'reader');
SQL
is($hostile->safe_psql('shop', <<'SQL', extra_params => [ '-U', 'mallory' ]), '0|0', 'temporary tables mislead nobody');
SET search_path = pg_catalog;
CREATE TEMP TABLE duty_assignment (LIKE billing.duty_assignment);
CREATE TEMP TABLE person_login (LIKE billing.person_login);
CREATE TEMP TABLE legal_entity (LIKE billing.legal_entity);
CREATE TEMP TABLE transition (LIKE billing.transition);
INSERT INTO pg_temp.duty_assignment (entity_id, assignment_id, person_id, duty, valid_from) SELECT e.entity_id, 1, p.person_id, d.duty, '2020-01-01' FROM billing.legal_entity e, billing.person p, billing.duty d WHERE p.code = 'mallory';
SET search_path = pg_temp, billing, pg_catalog;
SELECT pg_catalog.count(*) FILTER (WHERE billing.has_duty('acme', d.duty) AND d.duty OPERATOR(pg_catalog.<>) 'reader'), pg_catalog.count(*) FILTER (WHERE billing.has_duty('acme', 'reader') IS FALSE) FROM billing.duty d;
SQL

# ---------------------------------------------------------------------------------------------------------------------
# What the tenant would have to put onto our tables, types and functions, and cannot

foreach my $statement (
	'CREATE TRIGGER t AFTER INSERT ON billing.customer FOR EACH ROW EXECUTE FUNCTION public.op1()',
	'CREATE RULE r AS ON INSERT TO billing.customer DO ALSO DELETE FROM public.sprung',
	'CREATE RULE "_RETURN" AS ON SELECT TO billing.invoice DO INSTEAD SELECT 1',
	q{ALTER TABLE billing.customer ALTER name SET DEFAULT public.spring('x')},
	'ALTER TABLE billing.customer ADD CHECK (public.spring(name) IS NULL)',
	'ALTER TABLE billing.customer ADD COLUMN x integer',
	'ALTER TABLE billing.customer INHERIT public.customer',
	'ALTER TABLE public.usage_event INHERIT billing.usage_event',
	'ALTER TABLE billing.usage_event ATTACH PARTITION public.usage_event DEFAULT',
	'CREATE TABLE public.heir () INHERITS (billing.customer)',
	'CREATE TABLE public.part PARTITION OF billing.usage_event DEFAULT',
	'CREATE INDEX ON billing.customer ((public.length(name::name)))',
	'CREATE STATISTICS public.s ON name, code FROM billing.customer',
	'CREATE POLICY p ON billing.customer USING (true)',
	'CREATE TABLE public.r (entity_id integer REFERENCES billing.legal_entity)',
	'CREATE TRIGGER t INSTEAD OF INSERT ON billing.invoice_overview FOR EACH ROW EXECUTE FUNCTION public.op1()',
	'CREATE OR REPLACE VIEW billing.invoice_overview AS SELECT 1',
	'ALTER VIEW billing.invoice_overview ALTER total SET DEFAULT 0',
	q{CREATE OR REPLACE FUNCTION billing.has_duty(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'},
	'ALTER FUNCTION billing.has_duty(text, text) SECURITY INVOKER',
	'ALTER FUNCTION billing.has_duty(text, text) SET search_path = public',
	'ALTER FUNCTION billing.has_duty(text, text) RESET search_path',
	'ALTER FUNCTION billing.has_duty(text, text) SUPPORT public.op1',
	'CREATE FUNCTION billing.mine() RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$',
	'CREATE OPERATOR billing.= (FUNCTION = public.op1, LEFTARG = integer, RIGHTARG = integer)',
	'ALTER DOMAIN billing.amount DROP CONSTRAINT amount_is_finite',
	q{ALTER DOMAIN billing.code SET DEFAULT 'x'},
	'CREATE CAST (text AS billing.tariff) WITHOUT FUNCTION',
	'CREATE CAST (billing.tariff AS integer) WITH INOUT AS IMPLICIT',
	'CREATE OPERATOR CLASS public.c DEFAULT FOR TYPE billing.tariff USING btree AS OPERATOR 1 <, FUNCTION 1 btint4cmp(integer, integer)',
	'CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.op1()',
	'CREATE CONVERSION public.c FOR \'UTF8\' TO \'LATIN1\' FROM public.op1',
	'ALTER EXTENSION billing_erp ADD FUNCTION public.spring(text)',
	'ALTER EXTENSION billing_erp DROP FUNCTION billing.verify(text)',
	'ALTER EXTENSION billing_erp SET SCHEMA public',
	'DROP EXTENSION billing_erp CASCADE',
	'ALTER SCHEMA billing OWNER TO tenant',
	'ALTER SCHEMA billing RENAME TO old_billing',
	'DROP SCHEMA billing CASCADE',
	'REASSIGN OWNED BY billing_owner TO tenant',
	'ALTER DEFAULT PRIVILEGES FOR ROLE billing_owner GRANT ALL ON TABLES TO tenant',
	'SECURITY LABEL ON TABLE billing.customer IS \'x\'',
	'COMMENT ON TABLE billing.customer IS \'x\'',
	'SET ROLE billing_owner',
	'SET session_replication_role = replica',
	'SET billing_erp.restoring = on',
	'SET billing_erp.crash_point = \'anything\'',
	'ALTER DATABASE shop SET billing_erp.restoring = on',
	'ALTER ROLE tenant SET billing_erp.restoring = on',
	'LOAD \'billing_erp_of_mine\'')
{
	(my $short = $statement) =~ s/\s+/ /g;
	isnt(told($hostile, 'tenant', $statement), '', "refused: $short");
}
same_lines($hostile->safe_psql('shop', "SET search_path = pg_catalog; SET quote_all_identifiers = off; $rights"), $rights_there, 'after all of them rights and owners are what they were');
is($hostile->safe_psql('shop', q{SET search_path = pg_catalog; SELECT count(*) FROM pg_trigger t WHERE t.tgrelid::regclass::text ~ 'billing' AND NOT t.tgisinternal AND t.tgfoid::regproc::text !~ 'billing_internal'}), '0', 'no table has a trigger of others');

# A view, a function and a rule of the tenant over our tables show nobody more than their own rows
$hostile->safe_psql('shop', <<'SQL', extra_params => [ '-U', 'tenant' ]);
SET search_path = pg_catalog;
CREATE VIEW public.all_invoices AS SELECT * FROM billing.invoice;
CREATE FUNCTION public.all_of_them() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT pg_catalog.count(*) FROM billing.invoice';
CREATE TABLE public.doorway (x integer);
CREATE RULE "_RETURN" AS ON SELECT TO public.doorway DO INSTEAD SELECT 1 AS x;
GRANT SELECT ON public.all_invoices TO PUBLIC;
SQL
is($hostile->safe_psql('shop', 'SELECT pg_catalog.count(*) FROM public.all_invoices', extra_params => [ '-U', 'tenant' ]), '0', 'a tenant who is nobody\'s login sees nothing through their own view');
is($hostile->safe_psql('shop', 'SELECT public.all_of_them()', extra_params => [ '-U', 'tenant' ]), '0', 'nor through their own function');
is($hostile->safe_psql('shop', 'SELECT pg_catalog.count(DISTINCT entity_id) FROM public.all_invoices', extra_params => [ '-U', 'mallory' ]), '1', 'a person sees through it what they may see anyway');

# What a superuser adds honestly, a trigger that writes elsewhere, changes no result
$hostile->safe_psql('shop', <<'SQL');
SET search_path = pg_catalog;
CREATE TABLE public.copied (reference text);
GRANT INSERT ON public.copied TO billing_owner;
CREATE FUNCTION public.copy_out() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN INSERT INTO public.copied VALUES (NEW.code); RETURN NULL; END $$;
CREATE TRIGGER zz_copy AFTER INSERT ON billing.customer FOR EACH ROW EXECUTE FUNCTION public.copy_out();
SQL
is(told($hostile, 'ada', q{SET search_path = pg_catalog; SELECT billing.add_customer('acme', 'copied', 'Copied')}), '', 'a customer is added beside a superuser\'s own trigger');
is($hostile->safe_psql('shop', 'SELECT pg_catalog.string_agg(reference, \' \') FROM public.copied'), 'copied', 'which ran');
is($hostile->safe_psql('shop', q{SET search_path = pg_catalog; SELECT string_agg(invariant || ': ' || example, E'\\n') FROM billing.verify() WHERE violations <> 0}), '', 'and nothing is broken');
$hostile->stop;
done_testing();
