# Launcher and workers in a server of their own: they start, run tasks, survive kills, follow the settings, and end.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# ----------------------------------------------------------------------------------------------------------------------

my $node = PostgreSQL::Test::Cluster->new('worker');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'billing_erp'
billing_erp.worker_interval = 1s
restart_after_crash = on
log_statement = none
CONF
$node->start;

my $workers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp worker'";

sub sql { return $node->safe_psql(@_) }

# Wait until a query gives a result; a server that is just restarting is asked again
sub soon
{
	my ($database, $query, $expected, $name) = @_;
	my $good = $node->poll_query_until($database, $query, $expected);
	ok($good, $name);
	return $good;
}

sub follow
{
	my ($databases) = @_;
	sql('postgres', "ALTER SYSTEM SET billing_erp.databases = '$databases'");
	$node->reload;
	return;
}

sub worker_of
{
	my ($database) = @_;
	return sql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'billing_erp worker' AND datname = '$database'");
}

# A worker other than the one with that pid
sub new_worker
{
	my ($database, $old, $name) = @_;
	return soon('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'billing_erp worker'"
		. " AND datname = '$database' AND pid <> $old", 't', $name);
}

sub log_count
{
	my ($pattern) = @_;
	my $log = slurp_file($node->logfile);
	my $count = () = $log =~ /$pattern/g;
	return $count;
}

# Ticks that come from now on
sub ticks
{
	my ($name) = @_;
	my $now = sql('shop', 'SELECT clock_timestamp()');
	return soon('shop', "SELECT count(*) > 0 FROM public.tick WHERE ticked_at > '$now'", 't', $name);
}

sub stands_still
{
	my ($name) = @_;
	# whatever was on its way has arrived after two intervals
	sleep 2.2;
	my $before = sql('shop', 'SELECT count(*) FROM public.tick');
	sleep 2.2;
	is(sql('shop', 'SELECT count(*) FROM public.tick'), $before, $name);
	return;
}

soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp launcher'", '1',
	'a preloaded library starts the launcher');
is(sql('postgres', $workers), '0', 'no database is named, no worker runs');

# Three tasks: one that ticks, one that fails, one that takes as long as there is a row in public.hold, all before
# anything runs; what the extension brings is left out.
sql('postgres', 'CREATE DATABASE shop');
sql('shop', <<'SQL');
CREATE EXTENSION billing_erp CASCADE;
SELECT count(billing.set_task(task, enabled => false)) FROM billing.worker_status;
CREATE TABLE public.tick (
	ticked_at timestamptz DEFAULT clock_timestamp(), pid integer DEFAULT pg_backend_pid(), session name DEFAULT session_user,
	runs_as name DEFAULT current_user, actor text, superuser text DEFAULT current_setting('is_superuser'));
CREATE TABLE public.hold (held boolean);
GRANT SELECT, INSERT ON public.tick, public.hold TO billing_owner;
CREATE FUNCTION billing_internal.test_tick() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC INSERT INTO public.tick (actor) VALUES (billing.current_actor()); END;
CREATE FUNCTION billing_internal.test_fail() RETURNS void LANGUAGE SQL BEGIN ATOMIC SELECT 1 / count(*) FROM public.hold WHERE NOT held; END;
CREATE FUNCTION billing_internal.test_slow() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM public.hold) THEN 600 ELSE 0 END); END;
CREATE FUNCTION billing_internal.test_escape() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN RESET SESSION AUTHORIZATION; END $$;
SET ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('a_fail', 'test_fail', '1 hour', 'fails'),
	('b_escape', 'test_escape', '1 hour', 'would become superuser'),
	('tick', 'test_tick', '1 second', 'ticks');
INSERT INTO billing.task_state (task) SELECT task FROM billing.task ON CONFLICT DO NOTHING;
SQL

# ----------------------------------------------------------------------------------------------------------------------
# Reload brings a database in, and its tasks run as nobody but billing_owner

follow('shop');
soon('postgres', $workers, '1', 'a database that is named by a reload gets a worker');
ticks('its tasks run');
is(sql('shop', 'SELECT DISTINCT session, runs_as, actor, superuser FROM public.tick'), 'billing_owner|billing_owner|system|off',
	'as billing_owner, who is no superuser, for the person system');
is(sql('shop', "SELECT task, runs, failures, left(last_error, 23) FROM billing.worker_status WHERE task = 'a_fail'"),
	'a_fail|1|1|22012: division by zero', 'an error is recorded, and stops no other task');
like(sql('shop', "SELECT last_error FROM billing.worker_status WHERE task = 'b_escape'"), qr/^42501: cannot set parameter/,
	'a task cannot become another user');
is(log_count(qr/WARNING:  billing_erp task "a_fail" failed in database "shop"/), 1, 'the error is in the log');
is(sql('postgres', "SELECT bool_and(wait_event_type IN ('Extension', 'Timeout', 'IO', 'LWLock')) FROM pg_stat_activity"
	. " WHERE backend_type = 'billing_erp launcher'"), 't', 'the launcher sleeps');
is(sql('shop', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = " . worker_of('shop')), '1',
	'a failed task leaves the worker its lock');

# ----------------------------------------------------------------------------------------------------------------------
# Kills

sql('shop', <<'SQL');
INSERT INTO public.hold VALUES (true);
SET ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES ('slow', 'test_slow', '1 hour', 'takes long');
INSERT INTO billing.task_state (task) VALUES ('slow');
SQL
soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp worker' AND query = 'slow'"
	. " AND state = 'active' AND wait_event = 'PgSleep'", '1', 'a task is being run');
is(sql('shop', "SELECT is_unfinished, attempts, runs FROM billing.worker_status WHERE task = 'slow'"), 't|1|0', 'and known to be');
is(sql('shop', "SELECT outcome FROM billing.run_worker_once(everything => true) WHERE task = 'slow'"), 'busy',
	'nobody else runs it at the same time');

my $pid = worker_of('shop');
sql('shop', 'DELETE FROM public.hold');
kill 'KILL', $pid;
new_worker('shop', $pid, 'a killed worker comes back, after the server recovered');
soon('shop', "SELECT runs, attempts, last_error IS NULL, is_unfinished FROM billing.worker_status WHERE task = 'slow'", '1|0|t|f',
	'what it was running is run again, though its hour has not passed');
ticks('and work goes on');

$pid = worker_of('shop');
sql('postgres', "SELECT pg_terminate_backend($pid)");
new_worker('shop', $pid, 'a terminated worker comes back');
ticks('and works');

$pid = worker_of('shop');
my $launcher = sql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'billing_erp launcher'");
sql('postgres', "SELECT pg_terminate_backend($launcher)");
soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp launcher' AND pid <> $launcher", '1',
	'a terminated launcher comes back');
new_worker('shop', $pid, 'with a new worker');
is(sql('postgres', $workers), '1', 'and only one');
ticks('which works');

# ----------------------------------------------------------------------------------------------------------------------
# Databases come and go; each matter is logged once

follow('shop, nowhere, "Second"');
soon('shop', "SELECT count(*) > 3 FROM public.tick WHERE ticked_at > now() - interval '1 minute'", 't', 'time passes');
sleep 3;
is(log_count(qr/WARNING:  could not start a billing_erp worker for database "nowhere"/), 1, 'a missing database is logged once');
sql('postgres', 'CREATE DATABASE "Second"');
soon('postgres', $workers, '2', 'a database that is created gets its worker');
sleep 2;
is(log_count(qr/billing_erp worker waits: database "Second" does not have the extension/), 1, 'which waits for the extension');
sql('Second', 'CREATE EXTENSION billing_erp CASCADE');
soon('Second', "SELECT runs > 0 FROM billing.worker_status WHERE task = 'verify'", 't', 'and then works');
my $started = time;
sql('Second', 'DROP EXTENSION billing_erp');
cmp_ok(time - $started, '<', 10, 'the extension can be dropped while the worker is there');
$pid = worker_of('Second');
sql('Second', 'CREATE EXTENSION billing_erp');
soon('Second', "SELECT runs > 0 FROM billing.worker_status WHERE task = 'verify'", 't', 'and created again');
is(worker_of('Second'), $pid, 'by the same worker');

sql('Second', "UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'billing_erp'");
$node->wait_for_log(qr/extension in database "Second" has version 0\.0\.1, library has/);
ok(1, 'a worker does nothing with an extension of another version, and says so');

follow('shop, nowhere');
soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'Second'", '0', 'a database that is no longer named loses its worker');
sql('postgres', 'DROP DATABASE "Second"');
ok(1, 'and can be dropped');

follow('shop, passing');
sql('postgres', 'CREATE DATABASE passing');
soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'passing'", '1', 'another one comes');
sql('postgres', 'DROP DATABASE passing WITH (FORCE)');
sleep 4;
cmp_ok(log_count(qr/WARNING:  could not start a billing_erp worker for database "passing"/), '<=', 2, 'and is dropped by force; no storm follows');
follow('shop');

# ----------------------------------------------------------------------------------------------------------------------
# A worker keeps still while its database is being restored

sql('shop', 'SELECT billing.pre_restore()');
stands_still('nothing is run during a restore');
sql('shop', 'SELECT billing.post_restore()');
ticks('work goes on after it');

# What administrators decided survives dump and restore; how tasks went does not, so that all is due at once.
sql('postgres', 'CREATE DATABASE origin');
sql('origin', q(CREATE EXTENSION billing_erp CASCADE; SELECT billing.set_task('verify', '2 days', false);
	SELECT count(*) FROM billing.run_worker_once()));
my $dump = "$PostgreSQL::Test::Utils::tmp_check/origin.dump";
command_ok([ 'pg_dump', '--format=custom', '--file', $dump, $node->connstr('origin') ], 'a database with tasks is dumped');
sql('postgres', 'CREATE DATABASE copy');
sql('copy', q(CREATE EXTENSION billing_erp CASCADE; SELECT billing.pre_restore();
	SELECT billing.make_usage_months(current_date, (current_date + interval '3 months')::date)));
command_ok([ 'pg_restore', '--data-only', '--exit-on-error', '--dbname', $node->connstr('copy'), $dump ],
	'and restored');
sql('copy', 'SELECT billing.post_restore()');
is(sql('copy', "SELECT run_every, enabled, due_at, runs FROM billing.worker_status WHERE task = 'verify'"),
	'2 days|f|-infinity|0', 'decisions are kept, and every task is due');
is(sql('copy', 'SELECT count(*) FROM billing.task_state'), sql('origin', 'SELECT count(*) FROM billing.task'), 'each has its state');

# A standby has neither launcher nor worker; when it is promoted, both start.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'billing_erp%'"), '0',
	'nothing runs on a standby');
$standby->promote;
ok($standby->poll_query_until('shop', 'SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type LIKE $$billing_erp%$$'),
	'promotion starts launcher and worker');
$standby->stop('fast');

my ($status, $out, $error) = $node->psql('postgres', q(ALTER SYSTEM SET billing_erp.databases = '"shop'));
like($error, qr/invalid value for parameter/, 'a malformed list is refused');

# ----------------------------------------------------------------------------------------------------------------------
# The end: fast, even while a task runs, and nothing stays behind

sql('shop', <<'SQL');
INSERT INTO public.hold VALUES (true);
SET ROLE billing_owner;
UPDATE billing.task_state SET last_start = NULL WHERE task = 'slow';
SQL
soon('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp worker' AND query = 'slow'"
	. " AND wait_event = 'PgSleep'", '1', 'a long task is being run');
my @pids = split /\n/, sql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'billing_erp%'");
is(scalar @pids, 2, 'by one worker, under one launcher');
$started = time;
$node->stop('fast');
cmp_ok(time - $started, '<', 10, 'the server stops fast');
is(scalar(grep { kill 0, $_ } @pids), 0, 'no process stays behind');

my $log = slurp_file($node->logfile);
my @errors = grep { /\b(?:ERROR|FATAL|PANIC):  /
	  && !/terminating (?:background worker|connection|walreceiver)|the database system is |invalid value for parameter/ }
  split /\n/, $log;
is(join("\n", @errors), '', 'no error in the log that was not meant to be there');
like($log, qr/was terminated by signal 9/, 'though there was a kill');

# Without a free slot for it, a worker is asked for again and again, and the log says so once.
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
$node->start;
$node->wait_for_log(qr/there is no free slot for a background worker/);
sleep 3;
is(log_count(qr/there is no free slot for a background worker/), 1, 'a missing slot is logged once');
is(sql('postgres', $workers), '0', 'and the server goes on without a worker');
$node->stop('fast');

done_testing();
