# Backends are killed in the middle of taking in usage, billing, validating and issuing, and the call is repeated until it
# ends by itself: what is there then is what an undisturbed twin of the database has, nothing lost, double or half.
#
# BILLING_TEST_SEED chooses other moments. 8 000 accounts are two slices of a billing run.
use strict;
use warnings;

use IPC::Run qw(start);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $accounts = 8_000;
my $seed     = $ENV{BILLING_TEST_SEED} || 20260201;
my $begun    = time;

my $node = PostgreSQL::Test::Cluster->new('kill');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
autovacuum = off
log_statement = none
max_wal_size = 2GB
CONF
$node->start;

# ----------------------------------------------------------------------------------------------------------------------
# The accounts: the first 1 000 since January, with usage; some of them were billed for January and have ended since, so
# that they get a credit; some customers have no address, so that their invoices are held.

sub build
{
	my ($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, <<"SQL");
CREATE EXTENSION billing_erp CASCADE;
CREATE ROLE kill_biller LOGIN IN ROLE billing_user;
SELECT billing.create_entity('e', 'Entity', 'EUR', 'Europe/Berlin', 'DE'), billing.add_person('biller', 'Biller'),
	billing.add_login('biller', 'kill_biller');
SELECT billing.grant_duty('e', 'biller', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 20;
SET SESSION AUTHORIZATION kill_biller;
SELECT billing.add_tax_code('e', 'std', 'S', 'Standard'), billing.add_tax_rate('e', 'std', 19, '2021-01-01'),
	billing.add_product('e', 'seat', 'Seat', tax_code => 'std'), billing.add_product('e', 'call', 'Call', tax_code => 'std'),
	billing.add_meter('e', 'calls', 'Calls');
INSERT INTO billing.customer (entity_id, code, name, address, postal_code, city, country)
SELECT billing_internal.entity_id('e'), 'c' || n, 'Customer ' || n, CASE WHEN n % 50 <> 7 THEN 'Street ' || n END, '10115', 'Berlin', 'DE'
FROM generate_series(1, $accounts) n;
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT entity_id, 'a' || substr(code, 2), customer_id, 'EUR' FROM billing.customer;
RESET SESSION AUTHORIZATION;
SQL

	# the contracts in bulk, as the owner of the tables
	$node->safe_psql($database, <<'SQL');
SET ROLE billing_owner;
INSERT INTO billing.contract (entity_id, code, account_id, currency, start_date, anchor, interval_unit, interval_count)
SELECT a.entity_id, 'k' || substr(a.code, 2), a.account_id, 'EUR', s.day, s.day, 'month', 1
FROM billing.billing_account a
CROSS JOIN LATERAL (SELECT CASE WHEN substr(a.code, 2)::integer <= 1000 THEN date '2026-01-01' ELSE '2026-02-01' END AS day) s;
INSERT INTO billing.contract_item (entity_id, contract_id, code, account_id, product_id, charge, timing, meter_id)
SELECT c.entity_id, c.contract_id, i.code, c.account_id, p.product_id, i.charge, i.timing, m.meter_id
FROM billing.contract c
CROSS JOIN (VALUES ('seats', 'seat', 'recurring', 'advance'), ('calls', 'call', 'usage', 'arrears')) i (code, product, charge, timing)
JOIN billing.product p ON p.code = i.product
LEFT JOIN billing.meter m ON i.charge = 'usage'
WHERE i.charge <> 'usage' OR c.start_date = '2026-01-01';
INSERT INTO billing.contract_item_version (entity_id, item_id, account_id, meter_id, valid_from, quantity, tariff, recorded_by)
SELECT i.entity_id, i.item_id, i.account_id, i.meter_id, c.start_date,
	CASE WHEN i.charge <> 'usage' THEN 1 + substr(c.code, 2)::integer % 6 END,
	CASE WHEN i.charge <> 'usage' THEN '{"model": "per_unit", "unit": "3.33"}'
		ELSE '{"model": "graduated", "tiers": [{"up_to": 10, "unit": "0.5"}, {"up_to": null, "unit": "0.0125"}]}' END::billing.tariff, 1
FROM billing.contract_item i JOIN billing.contract c USING (entity_id, contract_id);
RESET ROLE;

-- batch b of the usage: four events for each of the first 1 000 accounts
CREATE FUNCTION public.batch(b integer) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_agg(jsonb_build_object('id', format('%s-%s-%s', b, n, e), 'source', '/kill', 'type', 'calls', 'subject', 'a' || n,
		'time', format('2026-01-%sT10:00:00Z', 10 + b), 'data', jsonb_build_object('quantity', (n * 37 + e * 11 + b) % 97 / 4.0)))
	FROM generate_series(1, 1000) n, generate_series(1, 4) e $$;

-- what must never be seen: a document without its lines, amounts, steps or number
CREATE VIEW public.half AS
SELECT d.document_id, d.state
FROM billing.document d
LEFT JOIN billing.invoice i ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id
LEFT JOIN (SELECT invoice_id, sum(amount) AS net FROM billing.invoice_line GROUP BY invoice_id) l ON l.invoice_id = d.document_id
LEFT JOIN (SELECT document_id, count(*) AS steps FROM billing.document_step GROUP BY document_id) s ON s.document_id = d.document_id
LEFT JOIN (SELECT object_id, count(*) AS records FROM billing.audit_log WHERE object_type IN ('invoice', 'credit_note') GROUP BY object_id) r
	ON r.object_id = d.document_id::text
WHERE i.total IS DISTINCT FROM d.amount OR i.net IS DISTINCT FROM l.net OR s.steps IS DISTINCT FROM d.version
	OR (d.state = 'issued') IS DISTINCT FROM (i.number IS NOT NULL)
	OR r.records IS DISTINCT FROM d.version + (d.state = 'issued')::integer;

-- what is there, without what depends on the order in which it was written
CREATE VIEW public.fingerprint AS
SELECT format('%s %s: %s, %s', kind, state, count(*), sum(amount)) AS line FROM billing.document GROUP BY kind, state
UNION ALL
SELECT format('lines: %s, %s', count(*), md5(string_agg(format('%s %s %s %s %s %s %s %s %s', c.code, t.code, l.kind, l.charge_seq, l.period_start,
	l.period_end, l.quantity, l.events, l.amount), E'\n' ORDER BY c.code, t.code, l.period_start, l.period_end, l.kind, l.charge_seq)))
FROM billing.invoice_line l JOIN billing.contract_item t USING (entity_id, item_id) JOIN billing.contract c USING (entity_id, contract_id)
UNION ALL
SELECT format('invoices: %s, %s', count(*), md5(string_agg(format('%s %s %s %s', a.code, i.billing_date, i.tax, i.total), E'\n'
	ORDER BY a.code, i.billing_date, i.total)))
FROM billing.invoice i JOIN billing.billing_account a USING (entity_id, account_id)
UNION ALL
SELECT format('events: %s, %s, %s', count(*), sum(quantity), md5(string_agg(event_key || ' ' || quantity, ' ' ORDER BY event_key))) FROM billing.usage_event
UNION ALL
SELECT format('exceptions %s %s: %s', kind, state, count(*)) FROM billing.exception GROUP BY kind, state
UNION ALL
SELECT format('steps %s: %s', action, count(*)) FROM billing.document_step GROUP BY action
UNION ALL
SELECT format('audit %s %s: %s', object_type, action, count(*)) FROM billing.audit_log
WHERE object_type IN ('invoice', 'credit_note') GROUP BY object_type, action
UNION ALL
SELECT format('numbers %s: %s to %s, %s of them, last %s', i.series, min(i.sequence), max(i.sequence), count(*), min(n.last_number))
FROM billing.invoice i JOIN billing.number_series n USING (entity_id, series, fiscal_year) GROUP BY i.series;
ANALYZE;

-- January of the accounts that are there already, and what became of some of them
SET SESSION AUTHORIZATION kill_biller;
CALL billing.run_billing('e', '2026-01-15');
SELECT * FROM billing.validate_invoices('e');
SELECT billing.issue_invoices('e');
SELECT billing.end_contract('e', 'k' || n, '2026-01-16') FROM generate_series(1, 100) n;
SELECT billing.change_item('e', 'k' || n, 'seats', '2026-01-11', 9) FROM generate_series(101, 200) n;
RESET SESSION AUTHORIZATION;
VACUUM ANALYZE;
SQL
	return;
}

# The calls, and how each is disturbed: by a kill, by one as soon as a slice is committed, by an immediate stop of the server
my @calls = (
	[ 'ingest of a first batch',  'SELECT * FROM billing.ingest_usage($$e$$, public.batch(1))', 'kill' ],
	[ 'ingest of a second batch', 'SELECT * FROM billing.ingest_usage($$e$$, public.batch(2))', 'kill' ],
	[ 'billing run',              'CALL billing.run_billing($$e$$, $$2026-02-01$$)',           'kill', 'slice', 'stop', 'kill' ],
	[ 'validation',               'SELECT * FROM billing.validate_invoices($$e$$)',            'kill', 'kill' ],
	[ 'issue',                    'SELECT billing.issue_invoices($$e$$)',                      'kill', 'kill' ],
);

# A call under way in the database: psql, its output, and the backend
sub begin_call
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $psql = start(
		[
			'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('killed'), '-c', 'SET SESSION AUTHORIZATION kill_biller',
			'-c', 'SELECT pg_backend_pid()', '-c', $sql, '-c', q(SELECT 'ended')
		],
		'>', \$out, '2>', \$err);
	$psql->pump until $out =~ /^(\d+)\n/ || !$psql->pumpable;
	$out =~ /^(\d+)\n/ or die "psql said nothing: $err";
	return { psql => $psql, pid => $1, out => \$out, err => \$err };
}

# When the call has committed the first slice of a billing run, or a minute has passed
sub await_slice
{
	my ($call, $before) = @_;
	my $until = time + 60;
	my $run = 'SELECT coalesce(max(accounts), 0) FROM billing.billing_run WHERE run_id > ' . $before;
	while (time < $until && !ends_within($call, 0.02))
	{
		last if $node->safe_psql('killed', $run) > 0;
	}
	return;
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

# Make it break off; the server is up again afterwards
sub break_off
{
	my ($call, $how) = @_;
	my $position = -s $node->logfile;
	if ($how eq 'stop')
	{
		$node->stop('immediate');
		$call->{psql}->finish;
		$node->start;
		return;
	}
	kill 'KILL', $call->{pid} or return;
	$call->{psql}->finish;
	$node->wait_for_log(qr/database system is ready to accept connections/, $position);
	return;
}

# ----------------------------------------------------------------------------------------------------------------------

build('twin');
$node->safe_psql('postgres', 'CREATE DATABASE killed TEMPLATE twin');
# a sequence in a copied database may fall back in a crash, until a checkpoint has come
$node->safe_psql('postgres', 'CHECKPOINT');
note sprintf 'the databases are there after %.1f s', time - $begun;

# The twin goes through it undisturbed; that tells how long each call takes
my %seconds;
for my $each (@calls)
{
	my ($name, $sql) = @$each;
	my $started = time;
	$node->safe_psql('twin', "SET SESSION AUTHORIZATION kill_biller; $sql");
	$seconds{$name} = time - $started;
	$node->safe_psql('twin', 'ANALYZE');
}
is($node->safe_psql('twin', 'SELECT count(*) FROM public.half'), '0', 'undisturbed: no document is half');

srand($seed);
note "seed $seed";
my $broken = 0;
for my $each (@calls)
{
	my ($name, $sql, @disturbances) = @$each;
	my $is_done = 0;
	for my $how (@disturbances)
	{
		my $delay = $seconds{$name} * rand(0.6);
		my $last  = $node->safe_psql('killed', 'SELECT max(run_id) FROM billing.billing_run');
		my $call  = begin_call($sql);
		await_slice($call, $last) if $how eq 'slice';
		$delay = 0.01 if $how eq 'slice';
		if (ends_within($call, $delay))
		{
			note sprintf '%s: ended within %.3f s', $name, $delay;
			$call->{psql}->finish;
			$is_done = 1;
			last;
		}
		break_off($call, $how);
		$broken++;
		note sprintf '%s: %s after %.3f of %.3f s, %s documents and %s events stand', $name, $how, $delay, $seconds{$name},
		  split /\|/, $node->safe_psql('killed', 'SELECT (SELECT count(*) FROM billing.document), (SELECT count(*) FROM billing.usage_event)');
		is($node->safe_psql('killed', 'SELECT count(*) FROM public.half'), '0', "$name, $how: no document is half");
	}
	unless ($is_done)
	{
		my ($status, $out, $error) = $node->psql('killed', "SET SESSION AUTHORIZATION kill_biller; $sql");
		is($error, '', "$name: ends when it is repeated");
	}
	$node->safe_psql('killed', 'ANALYZE');
}
note sprintf 'all calls are done after %.1f s', time - $begun;
cmp_ok($broken, '>=', 5, 'calls were broken off');

my $query = 'SELECT line FROM public.fingerprint ORDER BY line COLLATE "C"';
my $expected = $node->safe_psql('twin', $query);
note $expected;
is($node->safe_psql('killed', $query), $expected, 'documents, lines, events, exceptions, steps, audit records and numbers are those of the twin');
is($node->safe_psql($_, 'SELECT invariant, violations, example FROM billing.verify() WHERE violations > 0'), '', "$_: verify() is clean")
  for qw(twin killed);

# Once more: there is nothing left to do
$node->safe_psql('killed', "SET SESSION AUTHORIZATION kill_biller; $_->[1]") for @calls;
is($node->safe_psql('killed', $query), $expected, 'all of it again changes nothing');

my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|terminated by signal (?!9\b)/, 'nothing crashed but what was killed');
$node->stop('fast');
note sprintf '%.1f s', time - $begun;

done_testing();
