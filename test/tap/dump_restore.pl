# A dump of a database with everything in it, restored in every way that pg_dump and pg_restore offer, is the same database and
# goes on; restored wrongly, it fails loudly.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = $ENV{TESTDATADIR} || PostgreSQL::Test::Utils::tempdir();

my $node = PostgreSQL::Test::Cluster->new('source');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nshared_preload_libraries = 'billing_erp'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION billing_erp CASCADE');
command_ok([ 'psql', '-Xq', '-d', $node->connstr('source'), '-f', 'test/lib/everything.sql' ], 'a database with everything in it');

# One line per table and sequence of the extension: name, rows, hash of its rows
my $fingerprint = <<'SQL';
-- but for the marks that a restore leaves in the chains of audit blocks
SELECT format('SELECT %L, count(*), md5(string_agg(t::text, E''\n'' ORDER BY t::text COLLATE "C")) FROM %s t WHERE (to_jsonb(t) ->> ''kind'') IS DISTINCT FROM ''fork''',
	c.oid::regclass, c.oid::regclass)
FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')
AND c.relkind IN ('r', 'p') AND c.oid NOT IN ('billing.task_state'::regclass, 'billing.task_run'::regclass)
UNION ALL
SELECT format('SELECT %L, last_value, is_called::text FROM %s', s.oid::regclass, s.oid::regclass)
FROM pg_class s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype = 'a' AND d.refclassid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = d.refobjid
WHERE s.relkind = 'S' AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('billing', 'billing_internal'))
ORDER BY 1
SQL

sub fingerprint_of
{
	my ($server, $database) = @_;
	return join "\n", map { $server->safe_psql($database, "SET datestyle = iso; $_") } split /\n/, $server->safe_psql($database, $fingerprint);
}

my $before = fingerprint_of($node, 'source');
my @tables = grep { /^billing\./ && !/_seq\|/ } split /\n/, $before;
cmp_ok(scalar @tables, '>', 30, 'there are tables to compare');
my @empty = map { /^(\S+)\|0\|/ ? $1 : () } @tables;
is("@empty", '', 'none of which is empty');
cmp_ok(scalar(grep { /_seq\|/ } split /\n/, $before), '>', 20, 'and sequences');
is($node->safe_psql('source', 'SELECT string_agg(DISTINCT state, \' \' ORDER BY state) FROM billing.document WHERE kind IN (\'invoice\', \'credit_note\', \'usage_correction\')'),
	$node->safe_psql('source', 'SELECT string_agg(DISTINCT state, \' \' ORDER BY state) FROM (SELECT state FROM billing.document_state WHERE stage = \'start\' AND kind = \'invoice\''
		. ' UNION SELECT to_state FROM billing.transition WHERE kind IN (\'invoice\', \'credit_note\', \'usage_correction\') AND function_name IS NOT NULL) s'), 'there are documents in every state that a function leads to');
my $clean = 'SELECT count(*) FILTER (WHERE violations <> 0), min(invariant || \': \' || example) FILTER (WHERE violations <> 0) FROM billing.verify()';
is($node->safe_psql('source', $clean), '0|', 'nothing is broken in it');

command_ok([ 'pg_dump', '-Fc', '-f', "$dir/all.dump", '-d', $node->connstr('source') ], 'pg_dump -Fc');
command_ok([ 'pg_dump', '-Fd', '-j', '2', '-f', "$dir/all.dir", '-d', $node->connstr('source') ], 'pg_dump -Fd');
command_ok([ 'pg_dump', '-Fp', '-f', "$dir/all.sql", '-d', $node->connstr('source') ], 'pg_dump -Fp');
command_ok([ 'pg_dump', '-Fp', '--inserts', '-f', "$dir/inserts.sql", '-d', $node->connstr('source') ], 'pg_dump --inserts');
command_ok([ 'pg_dump', '-s', '-f', "$dir/schema.sql", '-d', $node->connstr('source') ], 'pg_dump -s');
command_ok([ 'pg_dump', '-Fc', '-a', '-f', "$dir/data.dump", '-d', $node->connstr('source') ], 'pg_dump -a');
is(fingerprint_of($node, 'source'), $before, 'dumping changes nothing');

# The SQLSTATE and message of a statement that fails
sub error_of
{
	my ($server, $database, $sql) = @_;
	my ($status, $out, $error) = $server->psql($database, "\\set VERBOSITY verbose\n$sql", on_error_stop => 1);
	$error =~ s/.*?ERROR:\s*//s;
	return $error;
}

# An empty database with the extension, ready to be restored into
sub prepare
{
	my ($server, $database) = @_;
	$server->safe_psql('postgres', "CREATE DATABASE $database");
	$server->safe_psql($database, 'CREATE EXTENSION billing_erp CASCADE');
	$server->safe_psql($database, 'SELECT billing.pre_restore()');
	return;
}

# The months of usage are no part of what CREATE EXTENSION makes: for the data alone they are made first
sub make_months
{
	my ($server, $database) = @_;
	$server->safe_psql($database, "SELECT billing.make_usage_months('2024-01-01', (current_date + interval '3 months')::date)");
	return;
}

# After a restore: what is expected of the database
sub is_restored
{
	my ($server, $database, $how) = @_;
	like(error_of($server, $database, "SELECT billing.create_entity('new', 'New', 'EUR', 'UTC')"), qr/^ZB011/, "$how: until post_restore() nothing can be done");
	like(error_of($server, $database, "SET SESSION AUTHORIZATION ada; CALL billing.run_billing('acme', '2026-03-05')"), qr/^ZB011/, "$how: nor billed") if $server == $node;
	$server->safe_psql($database, 'SELECT billing.post_restore()');
	my %there = map { $_ => 1 } split /\n/, fingerprint_of($server, $database);
	is(join("\n", grep { !delete $there{$_} } split /\n/, $before), join("\n", sort keys %there), "$how: every table and sequence is the same");
	is($server->safe_psql($database, $clean), '0|', "$how: nothing is broken");
	return;
}

# Billing goes on: new rows get new ids and the next numbers, and the guards stand again
sub goes_on
{
	my ($server, $database, $how) = @_;
	my $numbers = "SELECT string_agg(format('%s %s %s', entity_id, series, last_number), ', ' ORDER BY entity_id, series) FROM billing.number_series";
	my $next = $server->safe_psql($database, "SELECT string_agg(format('%s %s %s', entity_id, series, last_number + (entity_id = 1 AND series = 'INV')::int), ', ' ORDER BY entity_id, series) FROM billing.number_series");
	my $last = $server->safe_psql($database, 'SELECT max(document_id) FROM billing.document');
	$server->safe_psql($database, <<'SQL');
SET SESSION AUTHORIZATION ada;
SELECT billing.add_account('acme', 'new', 'c1', 'EUR'), billing.create_contract('acme', 'new', 'new', '2026-03-10', '2026-03-11'),
	billing.add_item('acme', 'new', 'i', 'seat', 'one_time', 1, '{"model": "per_unit", "unit": "5"}');
CALL billing.run_billing('acme', '2026-03-10');
SELECT billing.validate_invoices('acme', reference) FROM billing.invoice_overview WHERE account = 'new';
SET SESSION AUTHORIZATION bob;
SELECT billing.approve_invoice('acme', reference) FROM billing.invoice_overview WHERE account = 'new';
SET SESSION AUTHORIZATION ada;
SELECT billing.issue_invoice('acme', reference) FROM billing.invoice_overview WHERE account = 'new';
SQL
	is($server->safe_psql($database, "SELECT bool_and(invoice_id > $last), min(state) FROM billing.invoice_overview WHERE account = 'new'"), 't|issued', "$how: billing goes on with new ids");
	is($server->safe_psql($database, $numbers), $next, "$how: and the next number");
	is($server->safe_psql($database, $clean), '0|', "$how: and nothing is broken");
	like(error_of($server, $database, "UPDATE billing.invoice SET tax = 0"), qr/^ZB010/, "$how: the guards stand again");
	like(error_of($server, $database, 'SELECT billing.post_restore()'), qr/^ZB011/, "$how: post_restore() is for once");
	return;
}

# ----------------------------------------------------------------------------------------------------------------------
# Every way to restore

# All at once, into a database that has the extension: the schema is there already, and nothing else is wrong
sub restored_but_for_the_schema
{
	my ($how, @command) = @_;
	my ($out, $error) = ('', '');
	IPC::Run::run([@command], '>', \$out, '2>', \$error);
	my @errors = grep { !/errors ignored on restore: 1$/ } grep { /ERROR|error:/ && !/could not execute query: ERROR|STATEMENT/ || /could not execute query: ERROR/ } split /\n/, $error;
	is(scalar @errors, 1, "$how: one error") or diag($error);
	like($errors[0] // '', qr/schema "billing" already exists/, "$how: the schema is there already");
	return;
}

prepare($node, 'custom');
like(error_of($node, 'custom', 'SELECT billing.pre_restore()'), qr/^ZB011/, 'pre_restore() is for once');
restored_but_for_the_schema('pg_restore', 'pg_restore', '-d', $node->connstr('custom'), "$dir/all.dump");
is_restored($node, 'custom', 'pg_restore');
goes_on($node, 'custom', 'pg_restore');

prepare($node, 'parallel');
restored_but_for_the_schema('pg_restore -j 4', 'pg_restore', '-j', '4', '-d', $node->connstr('parallel'), "$dir/all.dir");
is_restored($node, 'parallel', 'pg_restore -j 4');

for my $plain ([ 'plain', 'all.sql' ], [ 'inserts', 'inserts.sql' ])
{
	my ($database, $file) = @$plain;
	prepare($node, $database);
	restored_but_for_the_schema("psql -f $file", 'psql', '-Xq', '-o', '/dev/null', '-d', $node->connstr($database), '-f', "$dir/$file");
	is_restored($node, $database, $file);
}

# In sections, into an empty database: without any error
for my $case ([ 'sections' ], [ 'jobs', '-j', '4' ], [ 'single', '--single-transaction' ])
{
	my ($database, @options) = @$case;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	command_ok([ 'pg_restore', '--exit-on-error', '--section=pre-data', '-d', $node->connstr($database), "$dir/all.dump" ], "$database: the section before the data makes the extension");
	$node->safe_psql($database, 'SELECT billing.pre_restore()');
	command_ok([ 'pg_restore', '--exit-on-error', '--section=data', '--section=post-data', @options, '-d', $node->connstr($database), "$dir/all.dump" ], "$database: then the data");
	is_restored($node, $database, $database);
}

# The schema alone from one dump, the data alone from another
$node->safe_psql('postgres', 'CREATE DATABASE apart');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr('apart'), '-f', "$dir/schema.sql" ], 'the schema alone makes the extension');
$node->safe_psql('apart', 'SELECT billing.pre_restore()');
command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('apart'), "$dir/data.dump" ], 'then the data');
is_restored($node, 'apart', 'schema, then data');
goes_on($node, 'apart', 'schema, then data');

prepare($node, 'again');
make_months($node, 'again');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/again.dump", '-d', $node->connstr('parallel') ], 'a dump of what was restored');
command_ok([ 'pg_restore', '--exit-on-error', '-a', '-d', $node->connstr('again'), "$dir/again.dump" ], 'is restored, the data alone into what CREATE EXTENSION made');
is_restored($node, 'again', 'twice over');

# Whoever forgets the months is told before the guards stand again, and makes up for it
prepare($node, 'monthless');
IPC::Run::run([ 'pg_restore', '-a', '-d', $node->connstr('monthless'), "$dir/again.dump" ], '>', \my $ignored, '2>', \my $complaint);
like($complaint, qr/relation "billing_internal.usage_event_2024_01" does not exist/, 'without the months their events find no place');
like(error_of($node, 'monthless', 'SELECT billing.post_restore()'), qr/^ZB011: usage events of 2024-01 were not restored/, 'which post_restore() does not accept');
make_months($node, 'monthless');
for my $month (split /\n/, $node->safe_psql('source', "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'billing.usage_event'::regclass"))
{
	command_ok([ 'pg_restore', '--exit-on-error', '-a', '-t', $month, '-d', $node->connstr('monthless'), "$dir/again.dump" ], "$month is restored by itself");
}
is_restored($node, 'monthless', 'months after the rest');

# A month that was detached is a table of its own, which a dump takes along; its events stay known
is($node->safe_psql('jobs', "SELECT billing.detach_usage_month('2024-01-01')"), '1', 'a month is detached');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/detached.dump", '-d', $node->connstr('jobs') ], 'the database is dumped');
$node->safe_psql('postgres', 'CREATE DATABASE detached');
command_ok([ 'pg_restore', '--exit-on-error', '--section=pre-data', '-d', $node->connstr('detached'), "$dir/detached.dump" ], 'and restored');
$node->safe_psql('detached', 'SELECT billing.pre_restore()');
command_ok([ 'pg_restore', '--exit-on-error', '--section=data', '--section=post-data', '-d', $node->connstr('detached'), "$dir/detached.dump" ], 'with its data');
$node->safe_psql('detached', 'SELECT billing.post_restore()');
is($node->safe_psql('detached', $clean), '0|', 'detached: nothing is broken');
is($node->safe_psql('detached', 'SELECT count(*), min(event_key) FROM billing_internal.usage_event_2024_01_detached'), '1|old', 'the events of the month are there');
is($node->safe_psql('detached', "SELECT relrowsecurity AND relforcerowsecurity AND pg_get_userbyid(relowner) = 'billing_owner' AND relacl IS NULL FROM pg_class WHERE relname = 'usage_event_2024_01_detached'"), 't', 'protected');
like(error_of($node, 'detached', 'DELETE FROM billing_internal.usage_event_2024_01_detached'), qr/^ZB008/, 'and guarded');
is($node->safe_psql('detached', <<'SQL'), "0|1|0|0\n0|0|0|1", 'one of them is still a duplicate, a new one of the month waits');
SET SESSION AUTHORIZATION ada;
SELECT * FROM billing.ingest_usage('dinar', '[{"id": "old", "source": "switch", "type": "calls", "subject": "issued", "time": "2024-01-15T10:00:00Z", "data": {"quantity": "7"}}]');
SELECT * FROM billing.ingest_usage('dinar', '[{"id": "new", "source": "switch", "type": "calls", "subject": "issued", "time": "2024-01-15T10:00:00Z", "data": {"quantity": "7"}}]');
SQL

# ----------------------------------------------------------------------------------------------------------------------
# A cluster that has never seen the extension, nor its people

my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->append_conf('postgresql.conf', "timezone = 'Asia/Tokyo'\ndatestyle = 'sql, dmy'\n");
$other->start;
is($other->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname ~ '^billing_|^ada'"), '0', 'another cluster has none of the roles');
prepare($other, 'elsewhere');
restored_but_for_the_schema('another cluster, without preload', 'pg_restore', '-d', $other->connstr('elsewhere'), "$dir/all.dump");
$other->safe_psql('postgres', "ALTER SYSTEM SET timezone = 'UTC'; SELECT pg_reload_conf()");
$other->poll_query_until('postgres', "SELECT current_setting('timezone') = 'UTC'");
is_restored($other, 'elsewhere', 'another cluster');
like($other->safe_psql('elsewhere', 'SELECT string_agg(role_name, \' \' ORDER BY role_name) FROM billing.person_login'), qr/^ada app bob$/, 'the logins wait for their roles');
$other->safe_psql('elsewhere', 'CREATE ROLE ada LOGIN IN ROLE billing_user; CREATE ROLE bob LOGIN IN ROLE billing_user');
goes_on($other, 'elsewhere', 'another cluster');

# ----------------------------------------------------------------------------------------------------------------------
# Done wrongly

like(error_of($node, 'source', 'SELECT billing.post_restore()'), qr/^ZB011/, 'post_restore() without pre_restore()');
is(fingerprint_of($node, 'source'), $before, 'changes nothing');

$node->safe_psql('postgres', 'CREATE DATABASE naive');
my ($out, $error) = ('', '');
my $ok = IPC::Run::run([ 'pg_restore', '-d', $node->connstr('naive'), "$dir/all.dump" ], '>', \$out, '2>', \$error);
# the log has the commands by which pg_restore made the extension's objects
ok(!$ok, 'pg_restore without pre_restore() fails');
like($error, qr/billing\.pre_restore\(\)/, 'and says what to do');
is($node->safe_psql('naive', "SELECT string_agg(x, ', ') FROM (" . join(' UNION ALL ', map { /^billing\.(\w+)\|/; "SELECT '$1' AS x WHERE EXISTS (SELECT FROM billing.$1)" }
		grep { !/^billing\.(currency|duty|duty_conflict|document_kind|document_state|transition|exception_kind|outbox_type|credit_reason|task|person|audit_log)\|/ } @tables) . ') t'), '', 'it leaves no table half full');

# Trying again in the same database is possible
$node->safe_psql('naive', 'SELECT billing.pre_restore()');
command_ok([ 'pg_restore', '--exit-on-error', '-a', '-d', $node->connstr('naive'), "$dir/all.dump" ], 'and with it, the data go in after all');
is_restored($node, 'naive', 'at the second attempt');

# Rows that are missing are found before the guards stand again
prepare($node, 'partial');
make_months($node, 'partial');
my ($list) = run_command([ 'pg_restore', '-l', "$dir/all.dump" ]);
append_to_file("$dir/list", join "\n", grep { !/ TABLE DATA billing customer / } split /\n/, $list);
command_ok([ 'pg_restore', '--exit-on-error', '-a', '-L', "$dir/list", '-d', $node->connstr('partial'), "$dir/all.dump" ], 'a restore without one of the tables');
like(error_of($node, 'partial', 'SELECT billing.post_restore()'), qr{^ZB011: table "billing_account" refers to rows that were not restored}, 'is not accepted');
like(error_of($node, 'partial', "SELECT billing.create_entity('new', 'New', 'EUR', 'UTC')"), qr{^ZB011}, 'and nothing can be done in it');
command_ok([ 'pg_restore', '--exit-on-error', '-a', '-t', 'customer', '-d', $node->connstr('partial'), "$dir/all.dump" ], 'until the table is there');
is_restored($node, 'partial', 'in two parts');

# Nobody but a superuser restores, and what is not committed is not begun
$node->safe_psql('postgres', 'CREATE DATABASE rights');
$node->safe_psql('rights', 'CREATE EXTENSION billing_erp CASCADE; CREATE ROLE operator LOGIN IN ROLE billing_owner, billing_user');
like(error_of($node, 'rights', 'SET SESSION AUTHORIZATION operator; SELECT billing.pre_restore()'), qr/^ZB003/, 'pre_restore() is for superusers');
$node->safe_psql('rights', 'BEGIN; SELECT billing.pre_restore(); ROLLBACK');
is($node->safe_psql('rights', 'SHOW billing_erp.restoring'), 'off', 'what is rolled back is not begun');
is($node->safe_psql('rights', 'SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()'), '0', 'and leaves no setting');
is($node->safe_psql('rights', 'BEGIN; SELECT billing.pre_restore(); ROLLBACK; SHOW billing_erp.restoring'), "\noff", 'nor in the session');
like(error_of($node, 'rights', "SET SESSION AUTHORIZATION operator; SET billing_erp.restoring = on"), qr/^42501/, 'nobody else switches the guards off');

done_testing();
