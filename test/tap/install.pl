# Installing and removing the extension: by whom, what it leaves, in several databases, again in the same session.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('install');
$node->init;
$node->start;    # without preload

# The SQLSTATE and message of a statement that fails
sub error_of
{
	my ($database, $sql, @options) = @_;
	my ($status, $out, $error) = $node->psql($database, "\\set VERBOSITY verbose\n$sql", on_error_stop => 1, @options);
	return $error =~ /ERROR:\s*(.*)/ ? $1 : 'no error';
}

# ----------------------------------------------------------------------------------------------------------------------
# By whom

$node->safe_psql('postgres', 'CREATE ROLE owner LOGIN CREATEROLE; CREATE DATABASE mine OWNER owner; CREATE DATABASE one; CREATE DATABASE two; CREATE DATABASE three');
like(error_of('mine', 'CREATE EXTENSION billing_erp CASCADE', extra_params => [ '-U', 'owner' ]), qr/^42501/, 'the owner of a database does not create the extension');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname ~ '^billing_'"), '0', 'which leaves no role');
like(error_of('one', 'CREATE EXTENSION billing_erp'), qr/^42704: required extension "btree_gist" is not installed/, 'what it requires is said');
$node->safe_psql('one', 'CREATE EXTENSION billing_erp CASCADE');
is($node->safe_psql('one', "SELECT extversion, nspname, extrelocatable FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'billing_erp'"), '0.1.0|billing|f', 'a superuser does');
is($node->safe_psql('one', "SELECT string_agg(format('%s %s %s %s', rolname, rolsuper, rolcanlogin, rolbypassrls), ', ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^billing_'"),
	'billing_owner f f f, billing_user f f f', 'it makes two roles, which can do nothing by themselves');
is($node->safe_psql('one', 'SELECT count(*) FROM billing.verify() WHERE violations <> 0'), '0', 'nothing is broken in an empty house');
like(error_of('one', 'ALTER EXTENSION billing_erp SET SCHEMA public'), qr/^0A000/, 'it stays in its schema');
like(error_of('one', 'CREATE EXTENSION billing_erp'), qr/^42710/, 'it is created once');
like(error_of('one', 'DROP TABLE billing.invoice CASCADE'), qr/^2BP01/, 'none of its tables is dropped alone');
like(error_of('one', 'SELECT billing_internal.protect(\'pg_catalog.pg_class\', \'document\')', extra_params => [ '-U', 'owner' ]), qr/^42501/, 'nor its makings used by others');

# ----------------------------------------------------------------------------------------------------------------------
# A second database: the same roles, nothing else in common

$node->safe_psql('two', 'CREATE EXTENSION billing_erp CASCADE');
$node->safe_psql('one', "CREATE ROLE ada LOGIN IN ROLE billing_user; SELECT billing.create_entity('acme', 'Acme', 'EUR', 'UTC'); SELECT billing.add_person('ada', 'Ada'), billing.add_login('ada', 'ada'), billing.grant_duty('acme', 'ada', 'reader')");
is($node->safe_psql('one', 'SELECT billing.current_actor(), (SELECT count(*) FROM billing.legal_entity)', extra_params => [ '-U', 'ada' ]), 'ada|1', 'ada reads in the one');
is($node->safe_psql('two', 'SELECT billing.current_actor(), (SELECT count(*) FROM billing.legal_entity)', extra_params => [ '-U', 'ada' ]), '|0', 'in the other she is nobody');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE one');
is($node->safe_psql('copy', 'SELECT count(*) FROM billing.legal_entity', extra_params => [ '-U', 'ada' ]), '1', 'a copy of a database is complete');

# ----------------------------------------------------------------------------------------------------------------------
# Roles: not dropped while they own something; those that are there are used

like(error_of('postgres', "DROP ROLE $_"), qr/^2BP01/, "$_ is needed") for qw(billing_owner billing_user);
$node->safe_psql('two', 'DROP OWNED BY ada');
is($node->safe_psql('one', 'SELECT count(*) FROM billing.legal_entity', extra_params => [ '-U', 'ada' ]), '1', 'dropping what a person owns takes nothing of hers away');
$node->safe_psql('postgres', 'DROP ROLE ada');
is($node->safe_psql('one', 'SELECT count(*) FROM billing.person_login'), '1', 'a login that is dropped is remembered');

# ----------------------------------------------------------------------------------------------------------------------
# Dropped, it leaves its schema and the roles

my $objects = <<'SQL';
SELECT string_agg(what, ', ' ORDER BY what) FROM (
	SELECT c.oid::regclass::text AS what FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ '^billing'
	UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname ~ '^billing'
	UNION ALL SELECT t.oid::regtype::text FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname ~ '^billing'
	UNION ALL SELECT o.oid::regoperator::text FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE n.nspname ~ '^billing'
	UNION ALL SELECT c.castfunc::regprocedure::text FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc WHERE p.proname ~ 'tariff'
	UNION ALL SELECT pol.polname FROM pg_policy pol
	UNION ALL SELECT nspname FROM pg_namespace WHERE nspname ~ '^billing') o
SQL
isnt($node->safe_psql('one', $objects), 'billing', 'there are many objects');
like(error_of('one', 'CREATE VIEW mine AS SELECT * FROM billing.invoice; DROP EXTENSION billing_erp'), qr/^2BP01/, 'it is not dropped while something hangs on it');
$node->safe_psql('one', 'DROP VIEW mine; DROP EXTENSION billing_erp');
is($node->safe_psql('one', $objects), 'billing', 'dropped, it leaves its schema and nothing in it');
is($node->safe_psql('two', 'SELECT count(*) FROM billing.verify() WHERE violations <> 0'), '0', 'in the other database it goes on');
$node->safe_psql('one', 'CREATE EXTENSION billing_erp');
is($node->safe_psql('one', 'SELECT count(*) FROM billing.legal_entity'), '0', 'created again, it is empty');
$node->safe_psql($_, 'DROP EXTENSION billing_erp; DROP SCHEMA billing') for qw(one two copy);
is($node->safe_psql('postgres', 'DROP ROLE billing_owner; DROP ROLE billing_user; SELECT count(*) FROM pg_roles WHERE rolname ~ \'^billing_\''), '0', 'without it anywhere its roles can be dropped');

# ----------------------------------------------------------------------------------------------------------------------
# Roles and schema that are there before, the schema with a snare in it

$node->safe_psql('three', 'CREATE ROLE billing_owner NOLOGIN; CREATE ROLE billing_user NOLOGIN; CREATE EXTENSION btree_gist; GRANT CREATE ON DATABASE three TO owner');
$node->safe_psql('three', "CREATE SCHEMA billing; CREATE FUNCTION billing.verify(entity text DEFAULT NULL) RETURNS TABLE (invariant text, violations bigint, example text) LANGUAGE sql AS 'SELECT 1::text, 2::bigint, 3::text'", extra_params => [ '-U', 'owner' ]);
like(error_of('three', 'CREATE EXTENSION billing_erp'), qr/^ZB016: schema "billing" is not a new one/, 'a function laid out in its schema is not taken over');
$node->safe_psql('three', 'DROP FUNCTION billing.verify', extra_params => [ '-U', 'owner' ]);
like(error_of('three', 'CREATE EXTENSION billing_erp'), qr/^ZB016: schema "billing" is not a new one/, 'nor is a schema whose owner could put one there while it is created');
$node->safe_psql('three', 'ALTER SCHEMA billing OWNER TO CURRENT_USER; CREATE EXTENSION billing_erp');
is($node->safe_psql('three', "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'billing'"), 'billing_owner', 'an empty one of whoever creates it is taken over whole');
like(error_of('three', 'CREATE TABLE billing.mine ()', extra_params => [ '-U', 'owner' ]), qr/^42501/, 'who made it has no more to say in it');

# ----------------------------------------------------------------------------------------------------------------------
# Dropped and created again in one session, in use before and after; and half-way back

my $use = <<'SQL';
SELECT billing.create_entity('e', 'E', 'EUR', 'UTC');
SELECT billing.add_person(:'who', :'who'), billing.add_login(:'who', session_user), billing.grant_duty('e', :'who', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d LIMIT 1;
SELECT billing.grant_duty('e', :'who', d) FROM unnest('{contract_manager,price_manager}'::text[]) d;
SELECT billing.add_tax_code('e', 's', 'S', 'S'), billing.add_tax_rate('e', 's', 10, '2020-01-01'), billing.add_customer('e', 'c', 'C', 'A', 'B', 'C', 'DE'), billing.add_account('e', 'a', 'c', 'EUR'),
	billing.add_product('e', 'p', 'P', tax_code => 's'), billing.create_contract('e', 'k', 'a', '2026-01-01'), billing.add_item('e', 'k', 'i', 'p', 'recurring', 3, '{"model": "per_unit", "unit": 5}');
CALL billing.run_billing('e', '2026-01-01');
SELECT 'result', billing.current_actor(), o.total, o.maker, (SELECT a.actor FROM billing.audit_log a WHERE a.action = 'draft'), (SELECT sum(violations) FROM billing.verify()) FROM billing.invoice_overview o;
SQL
is(join(' ', grep { /^result/ } split /\n/, $node->safe_psql('three', "\\set who ada\n$use\nDROP EXTENSION billing_erp;\nCREATE EXTENSION billing_erp;\n\\set who zoe\n$use")),
	'result|ada|16.50|ada|ada|0 result|zoe|16.50|zoe|zoe|0', 'another extension in the same session starts from nothing');
is(join(' ', grep { /^result/ } split /\n/, $node->safe_psql('three', "BEGIN;\nDROP EXTENSION billing_erp;\nCREATE EXTENSION billing_erp;\n\\set who eve\n$use\nROLLBACK;\nSELECT 'result', count(*), min(maker) FROM billing.invoice_overview")),
	'result|eve|16.50|eve|eve|0 result|1|zoe', 'rolled back, the old one is there as it was');

# ----------------------------------------------------------------------------------------------------------------------
# A name that must be quoted

$node->safe_psql('postgres', 'CREATE DATABASE "My ""Db"""');
$node->safe_psql('My "Db"', 'CREATE EXTENSION billing_erp CASCADE; SELECT billing.pre_restore(); SELECT billing.post_restore()');
is($node->safe_psql('My "Db"', "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()"), '0', 'a database may have any name');

# ----------------------------------------------------------------------------------------------------------------------
# Without preload the settings are made when the library is loaded: who set one before has set nothing

$node->safe_psql('three', 'CREATE ROLE eve LOGIN IN ROLE billing_user');
for my $options ([ extra_params => [ '-U', 'eve' ] ], [ extra_params => [ '-U', 'eve' ], PGOPTIONS => '-c billing_erp.restoring=on' ])
{
	local $ENV{PGOPTIONS} = { @$options }->{PGOPTIONS} // '';
	my ($status, $out, $error) = $node->psql('three', ($ENV{PGOPTIONS} ? '' : "SET billing_erp.restoring = on;\n") . "SELECT billing.current_actor();\nSHOW billing_erp.restoring", @$options[0, 1]);
	is($out, "\noff", 'restoring is not begun by a setting: ' . ($ENV{PGOPTIONS} || 'SET'));
	like($error, qr{permission denied to set parameter}, 'and that is said');
}

done_testing();
