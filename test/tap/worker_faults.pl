# Background billing runs in a server where things go wrong: slots run out, memory runs out, processes are ended by every
# signal, databases vanish, the server crashes, the settings change, a standby takes over. Every run ends all the same, and
# every account is billed once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

$PostgreSQL::Test::Utils::timeout_default = 60;

my $begun    = time;
my $accounts = 60;

my $node = PostgreSQL::Test::Cluster->new('faults');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'billing_erp'
billing_erp.worker_interval = 1s
max_worker_processes = 8
max_logical_replication_workers = 0
restart_after_crash = on
log_statement = none
datestyle = 'German'
CONF
$node->start;

sub sql { return $node->safe_psql(@_) }

# Wait until a query gives a result; a server that is just restarting is asked again
sub soon
{
	my ($database, $query, $expected, $name) = @_;
	my $good = $node->poll_query_until($database, $query, $expected);
	ok($good, $name);
	return $good;
}

sub set
{
	my ($name, $value) = @_;
	sql('postgres', "ALTER SYSTEM SET billing_erp.$name = '$value'");
	$node->reload;
	return;
}

sub pids
{
	my ($kind, $database) = @_;
	return split /\n/, sql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'billing_erp $kind'"
		. (defined $database ? " AND datname = '$database'" : '') . ' ORDER BY pid');
}

# When as many run workers as that are held up inside of a slice, none of them one of those pids
sub soon_held
{
	my ($database, $count, $name, @not) = @_;
	my $others = join ',', 0, @not;
	return soon('postgres', "SELECT count(*), count(DISTINCT query) FROM pg_stat_activity WHERE backend_type = 'billing_erp run worker'"
		. " AND datname = '$database' AND wait_event = 'PgSleep' AND pid NOT IN ($others)", "$count|$count", $name);
}

sub log_count
{
	my ($pattern) = @_;
	my $log = slurp_file($node->logfile);
	my $count = () = $log =~ /$pattern/g;
	return $count;
}

# Start a background run that bills every account for one month more, in slices of so many accounts
sub start_run
{
	my ($database, $size) = @_;
	return sql($database, qq(SET SESSION AUTHORIZATION bench_biller;
		SELECT billing.start_run('bench', (date '2026-01-01' + make_interval(months => count(*)::integer))::date, '{"slice": $size}')
		FROM billing.billing_run));
}

# When the newest run has ended, and has billed every account once
sub soon_billed
{
	my ($database, $name) = @_;
	soon($database, 'SELECT count(*) FROM billing.billing_run WHERE finished_at IS NULL', '0', "$name: the run ends");
	is(sql($database, 'SELECT count(*), count(DISTINCT account_id) FROM billing.invoice
			WHERE billing_date = (SELECT through_date FROM billing.billing_run ORDER BY run_id DESC LIMIT 1)'),
		"$accounts|$accounts", "$name: every account is billed once");
	return;
}

# Something about the slices of the newest run
sub slices
{
	my ($database, $what) = @_;
	return sql($database, "SELECT $what FROM billing.run_slice WHERE run_id = (SELECT max(run_id) FROM billing.billing_run)");
}

# ----------------------------------------------------------------------------------------------------------------------
# Two databases alike; what writes documents waits while there is a row in public.hold and as many
# documents as it says, takes a while where there is one
# in public.slow, and wants a lot of memory where there is one in public.hungry.

sql('postgres', 'CREATE DATABASE shop');
sql('shop', "CREATE EXTENSION billing_erp CASCADE;\n\\set accounts $accounts\n\\i test/lib/load_accounts.sql\n");
sql('shop', <<'SQL');
SELECT count(billing.set_task(task, enabled => false)) FROM billing.worker_status;
CREATE TABLE public.hold (documents bigint DEFAULT 0);
CREATE TABLE public.slow (slow boolean);
CREATE TABLE public.hungry (hungry boolean);
CREATE TABLE public.tick (ticked_at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION billing_internal.test_tick() RETURNS void LANGUAGE SQL BEGIN ATOMIC INSERT INTO public.tick DEFAULT VALUES; END;
CREATE FUNCTION public.disturb() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM public.hold WHERE documents <= (SELECT count(*) FROM billing.document)) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
	IF EXISTS (SELECT FROM public.slow) THEN
		PERFORM pg_sleep(0.15);
	END IF;
	IF EXISTS (SELECT FROM public.hungry) THEN
		PERFORM octet_length(repeat('x', 256 * 1024 * 1024));
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER disturb BEFORE INSERT ON billing.document FOR EACH STATEMENT EXECUTE FUNCTION public.disturb();
GRANT SELECT, INSERT ON public.hold, public.slow, public.hungry, public.tick TO billing_owner;
SQL
sql('postgres', 'CREATE DATABASE second TEMPLATE shop');

# ----------------------------------------------------------------------------------------------------------------------
# Two databases at once, two run workers each; a cluster whose slots are all taken

sql($_, 'INSERT INTO public.hold DEFAULT VALUES') for qw(shop second);
start_run($_, 6) for qw(shop second);
is(sql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%run worker')), '0', 'no database is named, nobody bills');
set('databases', 'shop, second');
soon_held($_, 2, "$_: two run workers, each in a slice of its own") for qw(shop second);
is(sql('postgres', q(SELECT string_agg(query || ' ' || state, '; ' ORDER BY query) FROM pg_stat_activity
		WHERE backend_type = 'billing_erp run worker' AND datname = 'shop')),
	'billing run 1: slice 1 of 10 active; billing run 1: slice 2 of 10 active', 'pg_stat_activity shows what they are at');

sql('shop', 'DELETE FROM public.hold');
soon_billed('shop', 'beside another database');
is(sql('shop', q(SELECT count(*), count(*) FILTER (WHERE description ~ '^Seat, \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d$')
		FROM billing.invoice_line)), "$accounts|$accounts", 'whatever the server\'s datestyle, workers write days as sessions do');
soon('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop' AND backend_type = 'billing_erp run worker'), '0',
	'run workers end with the run');
is(slices('shop', 'count(*), count(DISTINCT worker_pid) <= 2, bool_and(attempts = 1)'), '10|t|t', 'two processes did it, each slice at the first attempt');
is(slices('second', "count(*) FILTER (WHERE state <> 'pending')"), '0', 'the other database is where it was');

# 8 slots: the launcher, two workers, and five run workers of the second database, which wants ten
set('run_workers', 10);
soon_held('second', 5, 'more run workers after a reload, up to max_worker_processes');
my ($worker) = pids('worker', 'shop');
start_run('shop', 6);
soon_billed('shop', 'without a free slot');
is(slices('shop', 'DISTINCT worker_pid'), $worker, 'without a free slot: by the worker of the database');
is(log_count(qr/WARNING:  could not start a billing_erp run worker for database "$_"/), 1, "$_: the missing slot is in the log once") for qw(shop second);
sql('second', 'DELETE FROM public.hold');
soon_billed('second', 'with all slots');
set('databases', 'shop');
soon('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'second'), '0', 'a database that is no longer named keeps no process');

# ----------------------------------------------------------------------------------------------------------------------
# How many: fewer after a reload, and none at all

sql('shop', 'INSERT INTO public.hold DEFAULT VALUES');
set('run_workers', 3);
start_run('shop', 5);
soon_held('shop', 3, 'three run workers');
set('run_workers', 1);
my @three = pids('run worker', 'shop');
is(scalar @three, 3, 'a smaller number interrupts no slice');
sql('shop', 'DELETE FROM public.hold');
soon_billed('shop', 'with fewer run workers');
is(join(' ', sort { $a <=> $b } values %{ { map { split /\|/ } split /\n/, slices('shop', 'worker_pid, count(*) OVER (PARTITION BY worker_pid)') } }),
	'1 1 10', 'those that are too many end after their slice');

set('run_workers', 0);
sql('shop', <<'SQL');
INSERT INTO public.slow VALUES (true);
SET ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES ('tick', 'test_tick', '1 second', 'ticks');
INSERT INTO billing.task_state (task) VALUES ('tick');
SQL
start_run('shop', 3);
soon_billed('shop', 'without run workers');
is(slices('shop', 'DISTINCT worker_pid'), (pids('worker', 'shop'))[0], 'without run workers: by the worker');
cmp_ok(sql('shop', 'SELECT count(*) FROM public.tick'), '>=', 2, 'which runs its tasks in between');
sql('shop', q(DELETE FROM public.slow; SELECT billing.set_task('tick', enabled => false)));

# A run begins at once, however long the interval
set('run_workers', 2);
set('worker_interval', '1h');
my $started = time;
start_run('shop', 6);
soon_billed('shop', 'with an interval of an hour');
cmp_ok(time - $started, '<', 20, 'it began at once');
set('worker_interval', '1s');

# ----------------------------------------------------------------------------------------------------------------------
# Signals. What held a slice is gone with its process, and the slice is billed by another.

sub disturbed
{
	my ($name, $size, $disturb) = @_;
	sql('shop', 'INSERT INTO public.hold DEFAULT VALUES');
	start_run('shop', $size);
	soon_held('shop', 2, "$name: a run is under way");
	$disturb->($name);
	sql('shop', 'DELETE FROM public.hold');
	soon_billed('shop', $name);
	return;
}

disturbed('SIGINT', 10, sub {
	my ($name) = @_;
	my @old = pids('run worker', 'shop');
	kill 'INT', $old[0];
	soon('shop', q(SELECT count(*) FROM billing.run_slice WHERE left(error, 5) = '57014' AND attempts = 1 AND state = 'pending'), '1',
		"$name to a run worker: the attempt fails, says why, and is to be made again");
	soon_held('shop', 2, "$name to a run worker: both are at work");
	is(join(' ', pids('run worker', 'shop')), "@old", "$name to a run worker: it goes on");
});
disturbed('SIGTERM', 10, sub {
	my ($name) = @_;
	my @old = pids('run worker', 'shop');
	kill 'TERM', $old[0];
	soon_held('shop', 1, "$name to a run worker: another comes", @old);
	is(scalar(grep { $_ == $old[1] } pids('run worker', 'shop')), 1, "$name to a run worker: the other one goes on");

	@old = (pids('run worker', 'shop'), pids('worker', 'shop'));
	kill 'TERM', $old[-1];
	soon_held('shop', 2, "$name to the worker: its run workers go with it, others come", @old);
});
disturbed('SIGTERM to the launcher', 10, sub {
	my ($name) = @_;
	my @old = (pids('run worker', 'shop'), pids('launcher'));
	kill 'TERM', $old[-1];
	soon_held('shop', 2, "$name: worker and run workers go with it, others come", @old);
	is(scalar(pids('worker', 'shop')), 1, "$name: there is one worker again");
});

for my $kind ('run worker', 'worker', 'launcher')
{
	disturbed("SIGQUIT to a $kind", 10, sub {
		my ($name) = @_;
		my @old = (pids('run worker', 'shop'), pids($kind));
		my $position = -s $node->logfile;
		kill 'QUIT', $old[-1];
		$node->wait_for_log(qr/database system is ready to accept connections/, $position);
		soon_held('shop', 2, "$name: after recovery the run goes on by itself", @old);
	});
}

# ----------------------------------------------------------------------------------------------------------------------
# Memory: that of a run worker does not grow from slice to slice

set('run_workers', 1);

# What all memory contexts of the process hold, when it is held up at so many documents
sub memory_at
{
	my ($pid, $documents) = @_;
	sql('shop', "UPDATE public.hold SET documents = $documents");
	soon('shop', "SELECT count(*) FROM pg_stat_activity, billing.run_slice s WHERE pid = $pid AND wait_event = 'PgSleep' AND s.worker_pid = pid"
		. " AND s.state = 'pending' AND s.attempts = 1 AND (SELECT count(*) FROM billing.document) = $documents", '1', "at $documents documents");
	my $position = -s $node->logfile;
	sql('postgres', "SELECT pg_log_backend_memory_contexts($pid)");
	$node->wait_for_log(qr/\[$pid\] LOG:  Grand total: \d+ bytes/, $position);
	return slurp_file($node->logfile, $position) =~ /\[$pid\] LOG:  Grand total: (\d+) bytes/ ? $1 : 0;
}

my $documents = sql('shop', 'SELECT count(*) FROM billing.document');
sql('shop', 'INSERT INTO public.hold DEFAULT VALUES');
start_run('shop', 1);
soon_held('shop', 1, 'a run of small slices');
my ($flat) = pids('run worker', 'shop');
my $early = memory_at($flat, $documents + 10);
my $late  = memory_at($flat, $documents + 55);
cmp_ok($late, '<', $early * 1.02, "memory after 55 slices is that after 10 ($early)");
sql('shop', 'DELETE FROM public.hold');
soon_billed('shop', 'in small slices');

# and where there is none
sql('shop', 'INSERT INTO public.hold DEFAULT VALUES; INSERT INTO public.hungry VALUES (true)');
start_run('shop', 20);
soon_held('shop', 1, 'a run worker is under way');
my ($hungry) = pids('run worker', 'shop');
my ($size) = slurp_file("/proc/$hungry/status") =~ /^VmSize:\s+(\d+) kB/m;
system_or_bail('prlimit', "--pid=$hungry", '--as=' . ($size * 1024 + 64 * 1024 * 1024) . ':');
sql('shop', 'DELETE FROM public.hold');
soon('shop', 'SELECT count(*) FROM billing.billing_run WHERE finished_at IS NULL', '0', 'a run whose worker is out of memory ends');
is(slices('shop', 'count(*), min(state), min(attempts), min(left(error, 20))'), '3|failed|3|53200: out of memory', 'its slices failed three times, and say why');
is(log_count(qr/WARNING:  billing_erp could not do .*\n.*DETAIL:  53200: out of memory/), 9, 'each failure is in the log');

sql('shop', 'DELETE FROM public.hungry');
sql('shop', q(SET SESSION AUTHORIZATION bench_biller; SELECT billing.start_run('bench', max(through_date)) FROM billing.billing_run));
soon_billed('shop', 'when there is memory again');

# ----------------------------------------------------------------------------------------------------------------------
# An upgrade of the extension: run workers do nothing while it has another version than the library

set('run_workers', 2);
sql('shop', 'INSERT INTO public.hold DEFAULT VALUES');
start_run('shop', 10);
soon_held('shop', 2, 'another version: a run is under way');
my $version = sql('shop', q(SELECT extversion FROM pg_extension WHERE extname = 'billing_erp'));
my $update = 'UPDATE pg_extension SET extversion = %s WHERE extname = $$billing_erp$$';
sql('shop', sprintf $update, '$$0.0.1$$');
sql('shop', 'DELETE FROM public.hold');
soon('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'billing_erp run worker'), '0', 'another version: run workers end after their slice');
$node->wait_for_log(qr/extension in database "shop" has version 0\.0\.1, library has/);
is(slices('shop', q(string_agg(state, ' ' ORDER BY state))), 'done done pending pending pending pending', 'another version: the run waits');
sql('shop', sprintf $update, "'$version'");
soon_billed('shop', 'with the version of the library again');

# ----------------------------------------------------------------------------------------------------------------------
# A database vanishes between the launcher's decision to start a worker for it and the worker's start: the postmaster, which
# starts processes, is stopped in between.

sql('postgres', 'CREATE DATABASE passing');
my $session = $node->background_psql('postgres');
my ($launcher) = pids('launcher');
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
my $stopped;
END { kill 'CONT', $stopped if $stopped }

# How often the launcher has gone to sleep
sub naps
{
	my ($naps) = slurp_file("/proc/$launcher/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $naps;
}

$session->query(q(ALTER SYSTEM SET billing_erp.databases = 'shop, passing'));
my $naps = naps();
$stopped = $postmaster;
kill 'STOP', $postmaster;
kill 'HUP', $launcher;
my $until = time + 20;
sleep 0.05 while naps() == $naps && time < $until;
$session->query('DROP DATABASE passing');
kill 'CONT', $postmaster;
undef $stopped;
$session->quit;
$node->wait_for_log(qr/WARNING:  could not start a billing_erp worker for database "passing"/);
# three more tries
sleep 0.2 for 1 .. 16;
is(log_count(qr/WARNING:  could not start a billing_erp worker for database "passing"/), 1, 'a database that vanishes is in the log once');
is(log_count(qr/FATAL:  database \d+ does not exist/), 1, 'and once as what its worker found');
is((pids('launcher'))[0], $launcher, 'the launcher goes on');

# The other way round: a database is dropped under its run workers
sql('second', 'INSERT INTO public.hold DEFAULT VALUES');
set('databases', 'shop, second');
start_run('second', 10);
soon_held('second', 2, 'a run in another database');
sql('postgres', 'DROP DATABASE second WITH (FORCE)');
is(sql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'billing_erp%worker' AND datname <> 'shop')), '0',
	'a database can be dropped by force in the middle of a run');
is((pids('launcher'))[0], $launcher, 'the launcher goes on again');
set('databases', 'shop');

# ----------------------------------------------------------------------------------------------------------------------
# A standby: nobody bills, everybody reads; promoted in the middle of a run, it bills the rest

sql('shop', 'ANALYZE');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
sql('shop', 'INSERT INTO public.hold DEFAULT VALUES');
start_run('shop', 10);
soon_held('shop', 2, 'a run on the primary');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'billing_erp%')), '0', 'no process of billing_erp on a standby');

# What people and programs read: the same on both
my ($issued) = sql('shop', q(SELECT min(reference) FROM billing.invoice_overview));
for my $query (
	"SELECT * FROM billing.preview_invoice('bench', 'account-1', '2028-01-31')",
	"SELECT * FROM billing.entitlement('bench', 'account-1', '2028-01-31')",
	"SELECT * FROM billing.explain_invoice('bench', '$issued')",
	'SELECT * FROM billing.invoice_overview ORDER BY invoice_id',
	'SELECT * FROM billing.billing_run ORDER BY run_id',
	'SELECT * FROM billing.verify() ORDER BY 1, 2, 3')
{
	my $read = "SET SESSION AUTHORIZATION bench_biller; $query";
	my ($status, $out, $error) = $standby->psql('shop', $read);
	is($error, '', "on a standby: $query");
	ok($out ne '' && $out eq sql('shop', $read), 'with the same result');
}
my (undef, undef, $refused) = $standby->psql('shop', q(SET SESSION AUTHORIZATION bench_biller; SELECT billing.start_run('bench', '2028-01-01')));
like($refused, qr/read-only transaction|during recovery/, 'a run cannot be started there');

$node->stop('immediate');
$standby->promote;
$node = $standby;
soon_held('shop', 2, 'promotion starts the launcher, the worker and its run workers');
sql('shop', 'DELETE FROM public.hold');
soon_billed('shop', 'after promotion');
is(sql('shop', 'SELECT count(*) FROM billing.verify() WHERE violations > 0'), '0', 'after all that verify() finds nothing');
$node->stop('fast');

# ----------------------------------------------------------------------------------------------------------------------

note sprintf '%.1f s', time - $begun;
done_testing();
