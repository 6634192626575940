# Billing runs of 20 000 contracts are broken off more than fifty times: the postmaster, run workers, the database's worker and
# sessions are killed at random moments, and processes end at named crash points. What is billed in the end is, row for row,
# what an undisturbed twin of the database bills: nothing lost, double or half, and the numbers have no gap at any moment.
#
# BILLING_TEST_SEED chooses other moments and another order.
use strict;
use warnings;

use File::Compare;
use IPC::Run qw(start);
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $accounts = $ENV{BILLING_TEST_ACCOUNTS} || 20_000;
my $seed     = $ENV{BILLING_TEST_SEED}     || 20261121;
my $begun    = time;
my $dir      = PostgreSQL::Test::Utils::tempdir();
srand($seed);
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('run_kills');
$node->init;
my $crash_conf = $node->data_dir . '/crash.conf';
$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'billing_erp'
billing_erp.databases = 'killed'
billing_erp.worker_interval = 1s
restart_after_crash = on
shared_buffers = 128MB
max_wal_size = 2GB
# the tables grow from nothing: their statistics are to keep up
autovacuum_naptime = 2s
log_statement = none
include_if_exists = '$crash_conf'
CONF
$node->start;

sub sql { return $node->safe_psql(@_) }

# The same in the database that is disturbed; a server that is just restarting is asked again
sub killed
{
	my ($query) = @_;
	for (1 .. 300)
	{
		my ($status, $out, $error) = $node->psql('killed', $query);
		return $out if $status == 0;
		die "$query: $error" if $status != 2;
		sleep 0.1;
	}
	die 'the server does not come back';
}

# ----------------------------------------------------------------------------------------------------------------------
# The accounts: each with seats in advance and usage in arrears. Some customers have no address, so that their invoices are
# held, and what is above 600 waits for an approver.

sql('postgres', 'CREATE DATABASE twin');
sql('twin', "CREATE EXTENSION billing_erp CASCADE;\n\\set accounts $accounts\n\\i test/lib/load_accounts.sql\nCALL load.usage('2026-01-01');\n");
sql('twin', <<'SQL');
UPDATE billing.legal_entity SET auto_approve_limit = 600;
SET session_replication_role = replica;
UPDATE billing.customer SET address = NULL WHERE customer_id % 97 = 5;
RESET session_replication_role;
SELECT count(billing.set_task(task, enabled => false)) FROM billing.worker_status;

-- what must never be seen: a document without its lines, amounts, steps, audit record or number
CREATE VIEW public.half AS
SELECT d.document_id, d.state
FROM billing.document d
LEFT JOIN billing.invoice i ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id
LEFT JOIN (SELECT invoice_id, sum(amount) AS net FROM billing.invoice_line GROUP BY invoice_id) l ON l.invoice_id = d.document_id
LEFT JOIN (SELECT document_id, count(*) AS steps FROM billing.document_step GROUP BY document_id) s ON s.document_id = d.document_id
LEFT JOIN (SELECT object_id, count(*) AS records FROM billing.audit_log WHERE object_type IN ('invoice', 'credit_note') GROUP BY object_id) r
	ON r.object_id = d.document_id::text
WHERE i.total IS DISTINCT FROM d.amount OR i.net IS DISTINCT FROM l.net OR s.steps IS DISTINCT FROM d.version
	OR (d.state = 'issued') IS DISTINCT FROM (i.number IS NOT NULL) OR r.records IS DISTINCT FROM 1;

-- series whose numbers are not 1, 2, ... up to the last that was given, without a gap; a unique index refuses doubles
CREATE VIEW public.gap AS
SELECT coalesce(n.series, i.series) AS series, n.last_number, i.numbers
FROM billing.number_series n
FULL JOIN (SELECT series, fiscal_year, count(*) AS numbers, min(sequence) AS first, max(sequence) AS last
	FROM billing.invoice WHERE number IS NOT NULL GROUP BY series, fiscal_year) i USING (series, fiscal_year)
WHERE (i.numbers, i.first, i.last) IS DISTINCT FROM (n.last_number, 1::bigint, n.last_number);

-- accounts that a run through a day would still look at
CREATE FUNCTION public.due(through date) RETURNS bigint LANGUAGE sql STABLE AS $$
	SELECT count(*) FROM (SELECT account_id FROM billing.account_watermark WHERE next_due <= through
		UNION SELECT account_id FROM billing.account_change) d $$;

-- what came of it, without what depends on the order in which it was written
CREATE VIEW public.billed_lines AS
SELECT a.code AS account, i.billing_date, l.line_no, t.code AS item, l.kind, l.charge_seq, l.charge_date, l.period_start, l.period_end, l.quantity, l.events,
	l.dimensions, l.days, l.of_days, l.exact_amount, l.amount, l.tax_category, l.tax_rate, l.description, l.discarded, l.tariff::text AS tariff
FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id) JOIN billing.billing_account a USING (entity_id, account_id)
JOIN billing.contract_item t USING (entity_id, item_id);
CREATE VIEW public.billed_invoices AS
SELECT a.code AS account, i.billing_date, d.kind, d.state, d.version, i.currency, i.net, i.tax, i.total, i.series, i.number IS NOT NULL AS has_number,
	(SELECT string_agg(format('%s %s %s %s', x.category, x.rate, x.base, x.tax), ', ' ORDER BY x.tax_no) FROM billing.invoice_tax x
		WHERE x.entity_id = i.entity_id AND x.invoice_id = i.invoice_id) AS taxes,
	(SELECT string_agg(format('%s %s', s.action, s.to_state), ', ' ORDER BY s.version) FROM billing.document_step s
		WHERE s.entity_id = i.entity_id AND s.document_id = i.invoice_id) AS steps,
	(SELECT string_agg(x.kind || ' ' || x.state, ', ' ORDER BY x.kind) FROM billing.exception x
		WHERE x.entity_id = i.entity_id AND x.document_id = i.invoice_id) AS exceptions
FROM billing.invoice i JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
JOIN billing.billing_account a ON a.entity_id = i.entity_id AND a.account_id = i.account_id;
CREATE VIEW public.watermarks AS
SELECT a.code AS account, w.billed_through, w.next_due, w.usage_billed_to, w.parked_at
FROM billing.account_watermark w JOIN billing.billing_account a USING (entity_id, account_id);
VACUUM ANALYZE;
SQL
sql('postgres', 'CREATE DATABASE killed TEMPLATE twin');
# a sequence in a copied database may fall back in a crash, until a checkpoint has come
sql('postgres', 'CHECKPOINT');
note sprintf '%d accounts are there after %.1f s', $accounts, time - $begun;

# ----------------------------------------------------------------------------------------------------------------------
# What goes on, and how it is disturbed

my @months = ('2026-01-01', '2026-02-01', '2026-03-01', '2026-04-01', '2026-05-01', '2026-06-01', '2026-07-01', '2026-08-01');
my @changed;      # the months before whose runs something changed
my $month  = 0;
my $broken = 0;

# Before the second month: some have fewer seats since January, so that they get credits, some end, and usage comes late
sub change_something
{
	my ($database) = @_;
	sql($database, <<'SQL');
SET SESSION AUTHORIZATION bench_biller;
BEGIN;
SELECT count(billing.change_item('bench', 'contract-' || n, 'seats', '2026-01-11', 1)) FROM generate_series(30, 130) n;
SELECT count(billing.end_contract('bench', 'contract-' || n, '2026-01-21')) FROM generate_series(200, 260) n;
SELECT * FROM billing.ingest_usage('bench', (SELECT jsonb_agg(jsonb_build_object('id', 'late-' || n, 'source', '/late', 'type', 'api.calls',
	'subject', 'account-' || n, 'time', '2026-01-20T10:00:00Z', 'data', jsonb_build_object('quantity', n))) FROM generate_series(300, 400) n));
COMMIT;
SQL
	return;
}

# The month that is billed; the next one where nothing of it is left
sub through
{
	if (killed("SELECT public.due('$months[$month]')") == 0)
	{
		$month++;
		BAIL_OUT('there are not enough months') if $month > $#months;
		change_something('killed') if $month == 1;
	}
	return $months[$month];
}

# How far the log is, and when a server that crashed is there again
sub log_position { return -s $node->logfile }

sub await_restart
{
	my ($position) = @_;
	$node->wait_for_log(qr/database system is ready to accept connections/, $position);
	return;
}

# A run in the foreground: psql, its output, and the backend
sub begin_call
{
	my ($crash_point) = @_;
	my ($out, $err) = ('', '');
	my $psql = start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('killed'), '-c', 'SET client_min_messages = warning',
			'-c', "SET billing_erp.crash_point = '$crash_point'", '-c', 'SET SESSION AUTHORIZATION bench_biller', '-c', 'SELECT pg_backend_pid()',
			'-c', "CALL billing.run_billing('bench', '" . through() . q[', '{"phase": "issue", "slice": 40}')], '-c', q(SELECT 'ended')
		],
		'>', \$out, '2>', \$err);
	$psql->pump until $out =~ /^(\d+)\n/ || !$psql->pumpable;
	$out =~ /^(\d+)\n/ or die "psql said nothing: $err";
	return { psql => $psql, pid => $1, out => \$out, err => \$err };
}

# Whether the call ends by itself within a time
sub ends_within
{
	my ($call, $seconds) = @_;
	my $until = time + $seconds;
	while (time < $until)
	{
		$call->{psql}->pump_nb;
		return 1 if ${ $call->{out} } =~ /^ended$/m || !$call->{psql}->pumpable;
		sleep 0.002;
	}
	return 0;
}

# An open run in the background; what it has left undone is for the workers
sub begin_run
{
	my $through = through();
	return if killed('SELECT count(*) FROM billing.billing_run WHERE is_background AND finished_at IS NULL') > 0;
	$node->psql('killed', qq(SET SESSION AUTHORIZATION bench_biller;
		SELECT billing.start_run('bench', '$through', '{"phase": "issue", "slice": 40}')), stderr => \my $error);
	return;
}

# A process of that kind which serves the database and is at work, or nothing
sub process
{
	my ($kind) = @_;
	my $until = time + 10;
	while (time < $until)
	{
		my $pid = killed("SELECT pid FROM pg_stat_activity WHERE datname = 'killed' AND backend_type = 'billing_erp $kind' ORDER BY random() LIMIT 1");
		return $pid if $pid;
		begin_run();
		sleep 0.02;
	}
	return;
}

# The processes that a server has started, by its pid
sub children
{
	my ($pid) = @_;
	my @children;
	for my $stat (glob '/proc/[0-9]*/stat')
	{
		open my $file, '<', $stat or next;
		push @children, $1 if <$file> =~ /^(\d+) \(.*\) \S $pid /;
	}
	return @children;
}

# Break it off in one way; true where that hit something
my %disturb = (
	'a session is terminated' => sub {
		my $call = begin_call('');
		return if ends_within($call, 0.1 + rand 0.5);
		my $hit = killed("SELECT pg_terminate_backend($call->{pid})");
		$call->{psql}->finish;
		return $hit eq 't' && ${ $call->{out} } !~ /^ended$/m;
	},
	'a session is killed' => sub {
		my $call = begin_call('');
		return if ends_within($call, 0.1 + rand 0.5);
		my $position = log_position();
		return unless kill 'KILL', $call->{pid};
		$call->{psql}->finish;
		await_restart($position);
		return 1;
	},
	'a run worker is terminated' => sub {
		my $pid = process('run worker') or return;
		sleep rand 0.2;
		return killed("SELECT pg_terminate_backend($pid)") eq 't';
	},
	'a run worker is killed' => sub {
		my $pid = process('run worker') or return;
		sleep rand 0.2;
		my $position = log_position();
		return unless kill 'KILL', $pid;
		await_restart($position);
		return 1;
	},
	'the worker is terminated' => sub {
		begin_run();
		my $pid = process('worker') or return;
		sleep rand 0.2;
		return killed("SELECT pg_terminate_backend($pid)") eq 't';
	},
	# as when the machine stops; what the postmaster has started outlives it for a moment, and may still commit
	'the postmaster is killed' => sub {
		begin_run();
		my $call = begin_call('');
		ends_within($call, 0.1 + rand 0.5);
		my $postmaster = $node->{_pid};
		my @children   = children($postmaster);
		$node->kill9;
		sleep rand 0.05;
		kill 'KILL', @children;
		$call->{psql}->finish;
		sleep 0.01 while grep { kill 0, $_ } @children;
		$node->start;
		return 1;
	});

# Have the runs that are not finished stop after the slices at work
sub cancel_runs
{
	my ($condition) = @_;
	eval {
		killed("SET SESSION AUTHORIZATION bench_biller;
			SELECT count(billing.cancel_run('bench', run_id)) FROM billing.billing_run WHERE finished_at IS NULL AND cancelled_at IS NULL AND $condition");
		1;
	} or note "no run was cancelled: $@";
	return;
}

# A session that ends at a crash point; what it is to do after the last slice it does soon, because it is cancelled
sub crash_session
{
	my ($point) = @_;
	# so that something is left for it to do
	cancel_runs('is_background');
	my $position = log_position();
	my $call     = begin_call($point);
	if ($point eq 'run_closing')
	{
		ends_within($call, rand 0.5);
		cancel_runs('NOT is_background');
	}
	$call->{psql}->finish;
	return if ${ $call->{out} } =~ /^ended$/m;
	await_restart($position);
	return 1;
}

# A worker, or the session that starts a background run, ends at a crash point
sub crash_worker
{
	my ($point) = @_;
	cancel_runs('is_background') if $point eq 'run_opened';
	my $position = log_position();
	append_to_file($crash_conf, "billing_erp.crash_point = '$point'\n");
	$node->reload;
	my $until = time + 60;
	my $crashed = sub { slurp_file($node->logfile, $position) =~ /terminated by signal 9/ };
	until ($crashed->() || time > $until)
	{
		# it may be this that crashes
		eval { begin_run(); 1 } or note "no run could be started: $@";
		cancel_runs('is_background') if $point eq 'run_closing';
		sleep 0.05;
	}
	unlink $crash_conf;
	kill 'HUP', $node->{_pid};
	# it may come by more than once before the setting is gone
	return $crashed->();
}
$disturb{"a session ends at $_"} = do { my $point = $_; sub { crash_session($point) } }
  for qw(run_opened slice_locked:2 slice_written:3 slice_numbered:2 run_closing);
$disturb{"a worker ends at $_"} = do { my $point = $_; sub { crash_worker($point) } }
  for qw(run_opened slice_claimed:2 slice_locked slice_written:2 slice_numbered:3 run_closing);

my @first = shuffle(
	('a session is terminated') x 8,  ('a session is killed') x 4, ('a run worker is terminated') x 4, ('a run worker is killed') x 3,
	('the worker is terminated') x 2, ('the postmaster is killed') x 3, map { "a session ends at $_" } qw(run_opened slice_locked:2 slice_written:3 slice_numbered:2));
my @second = shuffle(
	('a session is terminated') x 7, ('a session is killed') x 3, ('a run worker is terminated') x 5, ('a run worker is killed') x 3,
	('the worker is terminated') x 2, ('the postmaster is killed') x 3,
	map { "a worker ends at $_" } qw(run_opened slice_claimed:2 slice_locked slice_written:2 slice_numbered:3));

# Bill what is left of a month undisturbed, all in one slice
sub finish_month
{
	my ($database, $n) = @_;
	sql($database, qq(ANALYZE; SET SESSION AUTHORIZATION bench_biller; CALL billing.run_billing('bench', '$months[$n]', '{"phase": "issue", "slice": 100000}')));
	return;
}

# The same while background runs may be open
sub end_month
{
	finish_month('killed', $month);
	is(killed("SELECT public.due('$months[$month]')"), '0', "through $months[$month]: nothing is left to bill");
	return;
}

for my $how (@first, 'a session ends at run_closing', 'the month ends', @second, 'a worker ends at run_closing')
{
	if ($how eq 'the month ends')
	{
		end_month() if $month == 0;
		next;
	}
	my $started = time;
	my $hit     = 0;
	for (1 .. 5)
	{
		last if $hit = $disturb{$how}->();
	}
	ok($hit, $how);
	$broken++ if $hit;
	is(killed('SELECT * FROM public.gap'), '', "$how: the numbers have no gap");
	note sprintf 'through %s: %s after %.2f s; %s documents stand', $months[$month], $how, time - $started, killed('SELECT count(*) FROM billing.document');
}
note sprintf 'the last kill was after %.1f s', time - $begun;
cmp_ok($broken, '>=', 50, 'runs were broken off');

# ----------------------------------------------------------------------------------------------------------------------
# What is left is billed without a disturbance, at last

ok($node->poll_query_until('killed', 'SELECT count(*) FROM billing.billing_run WHERE is_background AND finished_at IS NULL', '0'), 'background runs end by themselves');
end_month();

# The twin goes through the same months undisturbed
for my $n (0 .. $month)
{
	change_something('twin') if $n == 1;
	finish_month('twin', $n);
}

note sprintf 'the twin is there after %.1f s', time - $begun;
for my $database (qw(twin killed))
{
	sql($database, 'VACUUM ANALYZE');
	is(sql($database, 'SELECT count(*) FROM public.half'), '0', "$database: no document is half");
	is(sql($database, 'SELECT * FROM public.gap'), '', "$database: the numbers have no gap");
	is(sql($database, 'SELECT invariant, violations, example FROM billing.verify() WHERE violations > 0'), '', "$database: verify() is clean");
}
note sprintf 'both are verified after %.1f s', time - $begun;
for my $view (qw(billed_lines billed_invoices watermarks))
{
	for my $database (qw(twin killed))
	{
		my $path = "$dir/$view.$database";
		sql($database, "\\copy (SELECT to_jsonb(v) FROM public.$view v ORDER BY account COLLATE \"C\", to_jsonb(v)::text COLLATE \"C\") TO '$path'");
	}
	my $rows = () = slurp_file("$dir/$view.twin") =~ /\n/g;
	cmp_ok($rows, '>=', $accounts, "$view: $rows rows");
	is(compare("$dir/$view.twin", "$dir/$view.killed"), 0, "$view: row for row those of the twin")
	  or diag substr(`diff $dir/$view.twin $dir/$view.killed`, 0, 2000);
}
is(sql('killed', "SELECT count(*) FROM billing.exception WHERE kind = 'account_parked'"), '0', 'no kill was taken for an account\'s own fault');
note sql('killed', q(SELECT format('%s runs, %s of them not finished; %s slices, %s given up, %s of more than one attempt; %s',
	(SELECT count(*) FROM billing.billing_run), (SELECT count(*) FROM billing.billing_run WHERE finished_at IS NULL), count(*),
	count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE attempts > 1),
	(SELECT string_agg(format('%s %s to %s', series, fiscal_year, last_number), ', ') FROM billing.number_series)) FROM billing.run_slice));

# Once more: there is nothing left to do
my $documents = killed('SELECT count(*) FROM billing.document');
killed("SET SESSION AUTHORIZATION bench_biller; CALL billing.run_billing('bench', '$months[$month]', '{\"phase\": \"issue\"}')");
is(killed('SELECT count(*) FROM billing.document'), $documents, 'another run writes nothing');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal (?!9\b)/, 'nothing crashed but what was killed');
$node->stop('fast');
note sprintf '%.1f s', time - $begun;

done_testing();
