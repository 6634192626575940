# Tasks without a background worker: procedures that commit as they go, in sessions that die, and the real pg_cron.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sharedir = `"$ENV{PG_CONFIG}" --sharedir`;
chomp $sharedir;
my $has_cron = -e "$sharedir/extension/pg_cron.control";

my $node = PostgreSQL::Test::Cluster->new('jobs');
$node->init;
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nlog_statement = none\n");
# billing_erp is not preloaded; pg_cron connects as its jobs' roles, as it does by default, but through the socket
$node->append_conf('postgresql.conf', <<"CONF") if $has_cron;
shared_preload_libraries = 'pg_cron'
cron.database_name = 'shop'
cron.host = '@{[ $node->host ]}'
CONF
$node->start;

sub sql { return $node->safe_psql('shop', @_) }
sub as_operator { return $node->safe_psql('shop', $_[0], extra_params => [ '-U', 'operator' ]) }

# SQLSTATE and message of a statement that fails
sub error_of
{
	my ($database, $statement, $user) = @_;
	my (undef, undef, $error) = $node->psql($database, "\\set VERBOSITY verbose\n$statement", extra_params => [ '-U', $user // $node->{_superuser} // 'postgres' ]);
	return $error =~ /(?:ERROR|WARNING|NOTICE):\s+(\w{5}: [^\n]*)/ ? $1 : $error;
}

sub soon
{
	my ($query, $expected, $name) = @_;
	return ok($node->poll_query_until('shop', $query, $expected), $name);
}

# Tasks in the order of their names: one that writes, one that fails, one that takes as long as there is a row in public.hold,
# and one that writes. What the extension brings is left out at first.
$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql(<<'SQL');
CREATE EXTENSION billing_erp CASCADE;
CREATE ROLE operator LOGIN IN ROLE billing_owner;
CREATE ROLE stranger LOGIN;
SELECT count(billing.set_task(task, enabled => false)) FROM billing.worker_status;
CREATE TABLE public.trace (task text, transaction xid8 DEFAULT pg_current_xact_id(), login name DEFAULT session_user, actor text);
CREATE TABLE public.hold (held boolean);
GRANT SELECT, INSERT ON public.trace, public.hold TO billing_owner;
CREATE FUNCTION billing_internal.test_first() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC INSERT INTO public.trace (task, actor) VALUES ('a_first', billing.current_actor()); END;
CREATE FUNCTION billing_internal.test_fail() RETURNS void LANGUAGE SQL BEGIN ATOMIC SELECT 1 / count(*) FROM public.hold WHERE NOT held; END;
CREATE FUNCTION billing_internal.test_slow() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC SELECT pg_sleep(CASE WHEN EXISTS (SELECT FROM public.hold) THEN 600 ELSE 0 END); END;
CREATE FUNCTION billing_internal.test_last() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC INSERT INTO public.trace (task, actor) VALUES ('d_last', billing.current_actor()); END;
SET ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('a_first', 'test_first', '10 minutes', 'writes'), ('b_fail', 'test_fail', '1 hour', 'fails'),
	('c_slow', 'test_slow', '1 hour', 'takes long'), ('d_last', 'test_last', '1 day', 'writes');
INSERT INTO billing.task_state (task) SELECT task FROM billing.task ON CONFLICT DO NOTHING;
SQL
my $log = "SELECT string_agg(format('%s %s', task, coalesce(outcome, '-')), ', ' ORDER BY started_at) FROM billing.task_run WHERE task ~ '^[a-d]_'";
my $health = "SELECT string_agg(format('%s %s', task, state), ', ' ORDER BY task) FROM billing.job_health WHERE task ~ '^[a-d]_'";

# ----------------------------------------------------------------------------------------------------------------------
# By hand. The session dies in the middle of a task: what was done before it stands.

is(sql($health), 'a_first never ran, b_fail never ran, c_slow never ran, d_last never ran', 'nothing runs by itself');
as_operator('BEGIN; CALL billing.run_due_jobs(); ROLLBACK');
is(sql('SELECT count(*) FROM public.trace') . sql($log), '0', 'in a transaction block everything is taken back with it');

sql('INSERT INTO public.hold VALUES (true)');
my ($out, $error) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XqAt', '-h', $node->host, '-p', $node->port, '-U', 'operator', '-d', 'shop', '-c', 'CALL billing.run_due_jobs()' ],
	'>', \$out, '2>', \$error);
soon("SELECT count(*) FROM pg_stat_activity WHERE usename = 'operator' AND wait_event = 'PgSleep'", '1', 'a task takes long');
is(sql($log), 'a_first done, b_fail failed, c_slow -', 'those before it have ended, and it has begun: others see it');
is(sql('SELECT DISTINCT login, actor FROM public.trace'), 'operator|system', 'a task acts as the system, whoever runs it');
is(sql($health), 'a_first ok, b_fail failing, c_slow running, d_last never ran', 'their health is told');
like(sql("SELECT advice FROM billing.job_health WHERE task = 'c_slow'"), qr/^nothing; it is run by process \d+$/, 'with the process');
is(error_of('shop', "CALL billing.run_job('c_slow')", 'operator'), '00000: task "c_slow" is being run by another process', 'nobody else runs it');
is(sql("SELECT outcome FROM billing.run_worker_once(everything => true) WHERE task = 'c_slow'"), 'busy', 'nor waits for it');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'operator'");
$session->finish;
like($error, qr/WARNING:  billing_erp task "b_fail" failed\nDETAIL:  22012: division by zero/, 'the failure was told at once');
is(sql("SELECT state, last_error, attempts FROM billing.job_health WHERE task = 'c_slow'"), 'failing|the process that ran it died|1', 'a process that died is known');
is(sql("SELECT count(*) FROM billing.task_run WHERE task = 'c_slow' AND ended_at IS NULL"), '1', 'by a start without an end');
sql('DELETE FROM public.hold; DELETE FROM public.trace');
as_operator('CALL billing.run_due_jobs()');
is(sql("SELECT state, attempts FROM billing.job_health WHERE task = 'c_slow'"), 'ok|0', 'it is taken up again');
is(sql("SELECT string_agg(coalesce(outcome, '-'), ' ' ORDER BY started_at) FROM billing.task_run WHERE task = 'c_slow'"), '- done', 'the log has both');
as_operator('CALL billing.run_due_jobs(everything => true)');
is(sql('SELECT count(DISTINCT transaction) = count(*) FROM public.trace'), 't', 'each task has a transaction of its own');
is(error_of('shop', 'CALL billing.run_due_jobs()', 'stranger'), '42501: permission denied for schema billing', 'others do not call it');

# Whatever the caller's settings are. A procedure cannot pin them for itself: it would not be allowed to commit.
sql(<<'SQL');
CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA trap TO PUBLIC;
CREATE FUNCTION trap.stolen(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'a trap'; END $$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.stolen);
CREATE TABLE trap.task_state (task text);
ALTER ROLE operator SET search_path = trap, pg_catalog;
SQL
is(as_operator("CALL billing.run_job('a_first'); SELECT count(*) FROM pg_catalog.pg_class WHERE false"), '0', 'a search_path of traps is not followed');
sql('ALTER ROLE operator RESET search_path');

# ----------------------------------------------------------------------------------------------------------------------
# Without pg_cron in the database

$node->safe_psql('postgres', q{CREATE DATABASE "sh'o""p%"});
my $odd = q{sh'o"p%};
$node->safe_psql($odd, 'CREATE EXTENSION billing_erp CASCADE');
is(sql("SELECT string_agg(DISTINCT how, ' ') FROM billing.schedule_jobs()"), 'cron systemd', 'cron and systemd are told what to do');

# The line does it, as the shell that cron starts understands it
my $line = as_operator("SELECT command FROM billing.schedule_jobs() WHERE how = 'cron'");
$line =~ s/^\* \* \* \* \* //;
$line =~ s/\\%/%/g;
$ENV{PGHOST} = $node->host;
sql("SET ROLE billing_owner; UPDATE billing.task_state SET last_start = NULL, attempts = 0 WHERE task = 'a_first'; DELETE FROM billing.task_run");
is(system('sh', '-c', $line), 0, 'the line for cron is a command');
is(sql($log), 'a_first done', 'that runs what is due');

SKIP:
{
	skip 'pg_cron is not installed', 1 unless $has_cron;

	# Elsewhere: what is returned there makes the jobs, again and again, and takes them back
	is($node->safe_psql($odd, 'SELECT DISTINCT how FROM billing.schedule_jobs()'), 'pg_cron elsewhere', 'pg_cron in another database is found');
	like(error_of($odd, 'SELECT count(*) FROM billing.schedule_jobs()'), qr/^00000: pg_cron is in database "shop"$/, 'and named');
	sql('CREATE EXTENSION pg_cron');
	my $calls = $node->safe_psql($odd, q{SELECT string_agg(command, E';\n') FROM billing.schedule_jobs()});
	sql($calls) for 1 .. 2;
	is(sql(q{SELECT count(*) FROM cron.job WHERE database = $$sh'o"p%$$ AND jobname ~ ' in sh'}),
		$node->safe_psql($odd, 'SELECT count(*) FROM billing_internal.wanted_job'), 'the calls make the jobs');
	is(sql('SELECT count(*) FROM cron.job WHERE database = current_database()'), '1', 'and one that purges, in their own database');
	sql($node->safe_psql($odd, q{SELECT string_agg(command, E';\n') FROM billing.unschedule_jobs()}));
	is(sql('SELECT count(*) FROM cron.job'), '0', 'and take them back');

	# Who may
	is(error_of('shop', 'SELECT * FROM billing.schedule_jobs()', 'operator'), 'ZB003: role "operator" may not use pg_cron', 'a role needs pg_cron');
	is(error_of('shop', 'SET ROLE billing_owner; SELECT * FROM billing.schedule_jobs()'),
		'ZB001: role "billing_owner" cannot own a job of pg_cron, because it cannot log in', 'and a login');
	is(error_of('shop', 'SET ROLE stranger; SELECT * FROM billing.schedule_jobs()'), '42501: permission denied for schema billing', 'and must be let in');
	sql('GRANT billing_user TO stranger');
	is(error_of('shop', 'SET ROLE stranger; SELECT * FROM billing.schedule_jobs()'), 'ZB003: role "stranger" is not a member of billing_owner', 'as one that may run tasks');
	sql('GRANT USAGE ON SCHEMA cron TO operator');

	# Here
	my $jobs = 'SELECT xmin, j.* FROM cron.job j ORDER BY jobid';
	my $rows = as_operator('SELECT * FROM billing.schedule_jobs()');
	is($rows, join("\n", map { "pg_cron|billing_erp $_" }
			q{a_first|*/10 * * * *|CALL billing.run_job('a_first', if_due => true)}, q{b_fail|0 * * * *|CALL billing.run_job('b_fail', if_due => true)},
			q{c_slow|0 * * * *|CALL billing.run_job('c_slow', if_due => true)}, q{d_last|0 0 * * *|CALL billing.run_job('d_last', if_due => true)},
			q{run_due_jobs|*/10 * * * *|CALL billing.run_due_jobs()}, q{run_slices|* * * * *|CALL billing.run_slices()}),
		'a job for each enabled task, one for what was missed, and one for billing runs');
	is(sql('SELECT string_agg(DISTINCT format(\'%s %s %s\', username, database, active), \' \') FROM cron.job'), 'operator shop t', 'of who scheduled them, in this database');
	my $before = sql($jobs);
	is(as_operator('SELECT * FROM billing.schedule_jobs()'), $rows, 'again, the same');
	is(sql($jobs), $before, 'which changes nothing');
	sql(q{SELECT cron.schedule('billing_erp report', '0 5 * * *', 'SELECT 1')});
	as_operator(q{SELECT cron.schedule('billing_erp my own', '0 5 * * *', 'SELECT 1')});
	sql(q{SELECT billing.set_task('a_first', run_every => '10 seconds'), billing.set_task('b_fail', enabled => false), billing.set_task('verify', enabled => true), billing.set_task('start_due_runs', enabled => true);
		SET ROLE billing_owner; DELETE FROM billing.task_state WHERE task = 'c_slow'; DELETE FROM billing.task WHERE task = 'c_slow'});
	as_operator('SELECT * FROM billing.schedule_jobs()');
	is(sql(q{SELECT string_agg(format('%s %s', jobname, schedule), ', ' ORDER BY jobname) FROM cron.job WHERE jobname NOT IN ('billing_erp report', 'billing_erp my own')}),
		'billing_erp a_first * * * * *, billing_erp d_last 0 0 * * *, billing_erp run_due_jobs */10 * * * *, billing_erp run_slices * * * * *, billing_erp start_due_runs * * * * *, billing_erp verify 0 0 * * *',
		'the jobs follow the tasks: one was changed, one disabled, one is gone, two came');
	is(sql(q{SELECT count(*) FROM cron.job WHERE command = 'SELECT 1'}), '2', 'and jobs of others stay');
	is(sql('SELECT count(DISTINCT jobid) FROM cron.job WHERE jobname = \'billing_erp a_first\' AND jobid = (SELECT min(jobid) FROM cron.job)'), '1', 'a changed job is the same job');

	# What pg_cron notes is purged, as far as it is ours, old, and the caller's. A job that could not be started has no times.
	sql(<<'SQL');
INSERT INTO cron.job_run_details (runid, jobid, database, username, command, status, start_time, end_time) VALUES
	(-9, 1, 'shop', 'operator', 'CALL billing.run_job(''a'')', 'failed', NULL, NULL),
	(-8, 1, 'shop', 'operator', 'CALL billing.run_job(''a'')', 'succeeded', now() - interval '9 days', now() - interval '9 days'),
	(-7, 1, 'shop', 'operator', 'CALL billing.run_due_jobs()', 'failed', now() - interval '8 days', NULL),
	(-6, 1, 'shop', 'operator', 'CALL billing.run_job(''a'')', 'succeeded', now() - interval '8 days', now() - interval '6 days'),
	(-5, 1, 'shop', 'operator', 'SELECT 1', 'succeeded', now() - interval '9 days', now() - interval '9 days'),
	(-4, 1, 'shop', 'postgres', 'CALL billing.run_job(''a'')', 'succeeded', now() - interval '9 days', now() - interval '9 days'),
	(-3, 1, 'other', 'operator', 'CALL billing.run_job(''a'')', 'succeeded', now() - interval '9 days', now() - interval '9 days'),
	(-2, 1, 'shop', 'operator', 'CALL billing.run_job(''a'')', 'failed', NULL, NULL);
SQL
	as_operator(q{CALL billing.run_job('purge_task_runs')});
	is(sql('SELECT string_agg(runid::text, \' \' ORDER BY runid) FROM cron.job_run_details WHERE runid < 0'), '-6 -5 -4 -3 -2', 'run details of a week ago are purged');
	sql(q{CREATE ROLE second LOGIN IN ROLE billing_owner});
	$node->safe_psql('shop', q{CALL billing.run_job('purge_task_runs')}, extra_params => [ '-U', 'second' ]);
	is(sql(q{SELECT string_agg(outcome, ' ') FROM billing.task_run WHERE task = 'purge_task_runs'}), 'done done', 'who may not use pg_cron purges the log alone');

	# ------------------------------------------------------------------------------------------------------------------
	# pg_cron starts jobs at full minutes: this waits for one. An entity lets its billing runs start by themselves, and go on to
	# issue; it was forgotten for a while: 10 × 2.00 a month in January, February and March 2025, tax 19 %.

	sql(<<'SQL');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Pacific/Kiritimati', 'KI'), billing.add_person('ada', 'Ada'), billing.add_login('ada', session_user);
SELECT billing.grant_duty('acme', 'ada', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.add_tax_code('acme', 'std', 'S', 'Standard'), billing.add_tax_rate('acme', 'std', 19, '2007-01-01'),
	billing.add_customer('acme', 'c1', 'Customer', 'Street 1', '10115', 'Berlin', 'DE'), billing.add_account('acme', 'a1', 'c1', 'EUR'),
	billing.add_product('acme', 'seat', 'Seat', tax_code => 'std'), billing.create_contract('acme', 'k', 'a1', '2025-01-01', '2025-04-01'),
	billing.add_item('acme', 'k', 'seats', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "2"}');
UPDATE billing.legal_entity SET auto_approve_limit = 100 WHERE code = 'acme';
SELECT billing.set_billing_policy('acme', automatic_phase => 'issue');
SQL
	sql(q{DELETE FROM public.trace; SET ROLE billing_owner; DELETE FROM billing.task_run; UPDATE billing.task_state SET last_start = NULL, attempts = 0});
	soon(q{SELECT count(*) > 0 FROM billing.task_run WHERE task = 'a_first' AND outcome = 'done'}, 't', 'pg_cron runs a task');
	is(sql(q{SELECT DISTINCT run_by FROM billing.task_run}), 'operator', 'as who scheduled it');
	is(sql(q{SELECT DISTINCT login, actor FROM public.trace}), 'operator|system', 'for the system');
	soon(q{SELECT count(*) > 0 FROM billing.billing_run WHERE finished_at IS NOT NULL}, 't', 'a billing run started by itself, and ended');
	is(sql(q{SELECT p.code, r.phase, r.through_date = (r.started_at AT TIME ZONE 'Pacific/Kiritimati')::date, r.documents, r.issued
		FROM billing.billing_run r JOIN billing.person p ON p.person_id = r.started_by}), 'system|issue|t|3|3', 'through the day that the entity had, for the system');
	is(sql(q{SELECT string_agg(format('%s %s %s %s', number, state, billing_date, total), ', ' ORDER BY billing_date) FROM billing.invoice_overview}),
		'INV-' . join(', INV-', map { sql(q{SELECT fiscal_year FROM billing.number_series WHERE series = 'INV'}) . "-00000$_ issued 2025-0$_-01 23.80" } 1 .. 3),
		'all that was missed is billed, once');
	is(sql(q{SELECT outcome, run_by FROM billing.task_run WHERE task = 'start_due_runs'}), 'done|operator', 'the log has it');
	is(sql('SELECT count(*) FROM billing.verify() WHERE violations <> 0'), '0', 'the books balance');
	soon(q{SELECT bool_and(status = 'succeeded') FROM cron.job_run_details WHERE runid > 0 AND end_time IS NOT NULL}, 't', 'pg_cron calls it a success');
	is(sql(q{SELECT count(*) FROM billing.task_run r WHERE task = 'a_first' AND NOT EXISTS (SELECT FROM cron.job_run_details d WHERE d.job_pid = r.process_id)}), '0',
		'the log names the processes of pg_cron');
	is(as_operator('CALL billing.run_due_jobs(everything => true); SELECT count(*) FROM billing.billing_run'), '1', 'one run a day');

	is(as_operator('SELECT count(*), min(how), min(job) FROM billing.unschedule_jobs()'), '6|pg_cron|billing_erp a_first', 'the jobs are taken back');
	is(as_operator('SELECT count(*) FROM billing.unschedule_jobs()'), '0', 'once');
	is(sql(q{SELECT string_agg(jobname, ', ' ORDER BY jobname) FROM cron.job}), 'billing_erp my own, billing_erp report', 'none of ours is left');
	as_operator('SELECT * FROM billing.schedule_jobs()');
	is(sql('SELECT count(*) FROM billing.unschedule_jobs()'), '6', 'a superuser takes back those of all roles');
}

$node->stop('fast');
done_testing();
