# Sixteen writers send usage through the three doors at once, the same keys again and again, one in twenty with another payload,
# while the server is killed ten times; who gets no answer sends again. In the end every key is stored once, every other
# payload is in the queue of conflicts, and sending it all once more changes nothing.
#
# BILLING_TEST_SEED chooses other events and moments.
use strict;
use warnings;

use IPC::Run qw(start run);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my ($writers, $batches, $size, $keys, $kills) = (16, 12, 150, 9_000, 10);
my $seed  = $ENV{BILLING_TEST_SEED} || 20260301;
my $begun = time;
my $dir   = PostgreSQL::Test::Utils::tempdir();

my $node = PostgreSQL::Test::Cluster->new('writers');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'billing_erp'
billing_erp.databases = 'writers'
max_connections = 60
log_statement = none
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE writers');

# What each writer is to send, batch by batch: some payload of some key; variant 0 is what most say about it
$node->safe_psql('writers', <<"SQL");
CREATE EXTENSION billing_erp CASCADE;
CREATE ROLE writers_feed LOGIN IN ROLE billing_user;
SELECT billing.create_entity('e', 'Entity', 'EUR', 'Europe/Berlin', 'DE'), billing.add_person('feed', 'Feed'), billing.add_login('feed', 'writers_feed');
SELECT billing.grant_duty('e', 'feed', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
SET SESSION AUTHORIZATION writers_feed;
SELECT billing.add_customer('e', 'c', 'Customer'), billing.add_meter('e', 'calls', 'Calls', 'sum', 'n');
SELECT billing.add_account('e', 'a' || n, 'c', 'EUR') FROM generate_series(0, 99) n;
RESET SESSION AUTHORIZATION;
SELECT setseed(($seed % 1000) / 1000.0);
CREATE TABLE public.plan AS
SELECT w AS writer, b AS batch, n, (random() * ($keys - 1))::integer AS key, CASE WHEN random() < 0.05 THEN 1 + (random() * 2)::integer ELSE 0 END AS variant
FROM generate_series(1, $writers) w, generate_series(1, $batches) b, generate_series(1, $size) n;
CREATE INDEX ON public.plan (writer, batch);
GRANT SELECT ON public.plan TO writers_feed;
CREATE VIEW public.event AS
SELECT writer, batch, n, '/feed/' || key % 3 AS source, 'k' || key AS id, 'calls'::text AS type, 'a' || key % 100 AS subject,
	timestamptz '2026-06-15 00:00Z' + key * interval '7 minutes' AS "time", jsonb_build_object('n', key % 7 + 1, 'variant', variant) AS data
FROM public.plan;
GRANT SELECT ON public.event TO writers_feed;
CREATE FUNCTION public.json_batch(w integer, b integer) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT jsonb_agg(jsonb_build_object('id', id, 'source', source, 'type', type, 'subject', subject, 'time', "time", 'data', data) ORDER BY n)
	FROM public.event WHERE writer = w AND batch = b;
\$\$;
CREATE FUNCTION public.send_arrays(w integer, b integer) RETURNS bigint LANGUAGE sql AS \$\$
	SELECT (billing.ingest_usage('e', array_agg(source ORDER BY n), array_agg(id ORDER BY n), array_agg(type ORDER BY n), array_agg(subject ORDER BY n),
		array_agg("time" ORDER BY n), array_agg(data ORDER BY n))).accepted
	FROM public.event WHERE writer = w AND batch = b;
\$\$;
SQL
# the sequences of a crashed server may fall back to the last checkpoint
$node->safe_psql('writers', 'CHECKPOINT');

my @columns = ('-c', 'SET SESSION AUTHORIZATION writers_feed');
my @doors = qw(json arrays inbox);

# How a writer sends a batch: what psql is to do
sub commands
{
	my ($writer, $batch) = @_;
	my $door = $doors[ $writer % 3 ];
	return (@columns, '-c', "SELECT accepted FROM billing.ingest_usage('e', public.json_batch($writer, $batch))") if $door eq 'json';
	return (@columns, '-c', "SELECT public.send_arrays($writer, $batch)") if $door eq 'arrays';
	return (@columns, '-c', "\\copy billing.usage_inbox (entity, source, id, type, subject, time, data) from '$dir/$writer.$batch'",
		'-c', "SELECT accepted FROM billing.drain_usage_inbox('e', 5000)");
}
for my $writer (grep { $doors[ $_ % 3 ] eq 'inbox' } 1 .. $writers)
{
	for my $batch (1 .. $batches)
	{
		$node->safe_psql('writers', qq(\\copy (SELECT 'e', source, id, type, subject, time, data FROM public.event WHERE writer = $writer AND batch = $batch ORDER BY n) to '$dir/$writer.$batch'));
	}
}
note sprintf 'everything is prepared after %.1f s', time - $begun;

# A writer: every batch until there is an answer; then all of it again, until it is told to stop
sub write_usage
{
	my ($writer) = @_;
	my ($retries, $sent, $round) = (0, 0, 0);
	while (!$round || !-e "$dir/stop")
	{
		for my $batch (1 .. $batches)
		{
			last if $round && -e "$dir/stop";
			my $out = '';
			until (run [ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('writers'), commands($writer, $batch) ], '>', \$out, '2>>', "$dir/errors.$writer")
			{
				$retries++;
				sleep 0.1 + rand 0.2;
			}
			$sent++;
		}
		$round++;
	}
	append_to_file("$dir/done.$writer", "$sent $retries\n");
	return;
}

my @writers;
for my $writer (1 .. $writers)
{
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0)
	{
		write_usage($writer);
		POSIX::_exit(0);
	}
	push @writers, $pid;
}

# ----------------------------------------------------------------------------------------------------------------------
# Kills: by turns all processes at once, the postmaster first, and an immediate stop

# The processes at work in the data directory
sub left_over
{
	return grep { (readlink("/proc/$_/cwd") // '') eq $node->data_dir } map { m{/(\d+)$} } glob '/proc/[0-9]*';
}

sub kill_server
{
	my ($how) = @_;
	if ($how eq 'stop')
	{
		$node->stop('immediate');
	}
	else
	{
		my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
		my @children = split ' ', `ps -o pid= --ppid $postmaster`;
		kill 'KILL', $postmaster, @children;
		sleep 0.05 while kill 0, $postmaster;
		$node->{_pid} = undef;
	}
	# a process that was started while the others were killed may wait for ever for a lock that one of them held
	for my $try (1 .. 120)
	{
		kill 'KILL', left_over() if $how ne 'stop';
		return if $node->start(fail_ok => 1);
		sleep 0.25;
	}
	die 'the server does not start again';
}

srand($seed);
my @stored;
for my $kill (1 .. $kills)
{
	sleep 0.7 + rand 1.3;
	kill_server($kill % 2 ? 'kill' : 'stop');
	push @stored, $node->safe_psql('writers', 'SELECT count(*) FROM billing.usage_event');
}
note "events stored after each kill: @stored";
note sprintf 'killed %d times after %.1f s', $kills, time - $begun;
append_to_file("$dir/stop", '');
waitpid $_, 0 for @writers;
my $answers = 0;
my $retries = 0;
for my $writer (1 .. $writers)
{
	my ($sent, $again) = -e "$dir/done.$writer" ? split ' ', slurp_file("$dir/done.$writer") : (0, 0);
	cmp_ok($sent, '>=', $batches, "writer $writer got an answer to every batch, through $doors[$writer % 3]");
	$answers += $sent;
	$retries += $again;
}
note sprintf '%d calls were answered, %d were not, after %.1f s', $answers, $retries, time - $begun;
cmp_ok($retries, '>=', $kills, 'writers were disturbed');
cmp_ok($stored[-1], '>', $stored[0], 'and went on');

# ----------------------------------------------------------------------------------------------------------------------

$node->safe_psql('writers', 'SELECT * FROM billing.drain_usage_inbox()');
is($node->safe_psql('writers', 'SELECT count(*) FROM billing.usage_inbox'), '0', 'the inbox is empty');
is($node->safe_psql('writers', 'SELECT count(*), count(DISTINCT event_key) FROM billing.usage_event'),
	$node->safe_psql('writers', 'SELECT count(DISTINCT key), count(DISTINCT key) FROM public.plan'), 'every key is stored, once');
is( $node->safe_psql('writers', <<'SQL'), '', 'keys and events belong together, one to one');
SELECT k.event_id, e.event_id FROM billing.usage_key k
FULL JOIN billing.usage_event e ON e.entity_id = k.entity_id AND e.event_id = k.event_id AND e.usage_date = k.usage_date AND e.content = k.content
	AND billing_internal.usage_key_of(e.source, e.event_key) = k.key
WHERE k.event_id IS NULL OR e.event_id IS NULL LIMIT 5
SQL
my $contents = <<'SQL';
WITH sent AS (SELECT DISTINCT id, data FROM public.event),
stored AS (SELECT event_key AS id, data FROM billing.usage_event),
conflicting AS (SELECT payload #>> '{sent,id}' AS id, payload #> '{sent,data}' AS data FROM billing.exception WHERE kind = 'usage_conflict' AND state = 'open')
SQL
is($node->safe_psql('writers', "$contents (TABLE sent EXCEPT ALL (TABLE stored UNION ALL TABLE conflicting)) LIMIT 5"), '', 'every payload that was sent is the first of its key, or a conflict');
is($node->safe_psql('writers', "$contents (SELECT * FROM (TABLE stored UNION ALL TABLE conflicting) k EXCEPT ALL TABLE sent) LIMIT 5"), '', 'once, and nothing else is there');
is($node->safe_psql('writers', "$contents SELECT count(*) > 500 FROM conflicting"), 't', 'there are conflicts');
is($node->safe_psql('writers', q(SELECT count(*) FROM billing.exception WHERE kind <> 'usage_conflict')), '0', 'and no other exceptions');
is($node->safe_psql('writers', 'SELECT invariant, violations, example FROM billing.verify() WHERE violations > 0'), '', 'verify() is clean');

my $fingerprint = <<'SQL';
SELECT count(*), md5(string_agg(e::text, ' ' ORDER BY event_id)), (SELECT count(*) FROM billing.exception), (SELECT count(*) FROM billing.usage_key) FROM billing.usage_event e
SQL
my $before = $node->safe_psql('writers', $fingerprint);
is( $node->safe_psql(
		'writers', qq(SET SESSION AUTHORIZATION writers_feed;
	SELECT sum(i.accepted), sum(i.quarantined), sum(i.accepted + i.duplicate + i.conflicting + i.quarantined) FROM generate_series(1, $writers) w, generate_series(1, $batches) b,
	LATERAL billing.ingest_usage('e', public.json_batch(w, b)) i)),
	'0|0|' . $writers * $batches * $size,
	'all of it once more: nothing is new');
is($node->safe_psql('writers', $fingerprint), $before, 'and nothing changes');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC/, 'the server recovered each time');
note sprintf '%d deadlocks', scalar(() = $log =~ /deadlock detected/g);
my @errors = grep { /ERROR:/ && !/deadlock detected/ } map { split /\n/, slurp_file($_) } grep { -s } map { "$dir/errors.$_" } 1 .. $writers;
is("@errors", '', 'writers saw no errors but the kills');
$node->stop('fast');
note sprintf '%.1f s', time - $begun;

done_testing();
