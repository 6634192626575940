# The server process that bills, takes usage in or issues is killed at moments of chance; after recovery the same is done again,
# and nothing is lost, double or half. BILLING_SEED repeats a sequence of moments.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{BILLING_SEED} // 20260101;
srand $seed;
note "seed $seed";

my $accounts = 5100;    # more than a billing run takes in one transaction
my $rounds   = 4;       # kills of each kind of work

my $node = PostgreSQL::Test::Cluster->new('kill');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'billing_erp'
restart_after_crash = on
fsync = on
synchronous_commit = on
log_statement = none
CONF
$node->start;
my $sql = sub { $node->safe_psql('postgres', $_[0]) };

$sql->(<<"SQL");
CREATE EXTENSION billing_erp CASCADE;
CREATE ROLE ada LOGIN IN ROLE billing_user;
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'UTC', 'DE');
SELECT billing.add_person('ada', 'Ada'), billing.add_login('ada', 'ada');
SELECT billing.grant_duty('acme', 'ada', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 1000000;
SET SESSION AUTHORIZATION ada;
SELECT billing.add_tax_code('acme', 'std', 'S', 'Standard'), billing.add_tax_rate('acme', 'std', 10, '2007-01-01'),
	billing.add_customer('acme', 'c', 'Customer', 'Street 1', '1', 'X', 'DE'), billing.add_product('acme', 'seat', 'Seat', tax_code => 'std'), billing.add_meter('acme', 'calls', 'Calls');
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT c.entity_id, 'a' || n, c.customer_id, 'EUR' FROM billing.customer c, generate_series(1, $accounts) n;
SELECT billing.create_contract('acme', 'a' || n, 'a' || n, '2026-01-01'), billing.add_item('acme', 'a' || n, 'i', 'seat', 'recurring', n, '{"model": "per_unit", "unit": 1}'),
	billing.add_item('acme', 'a' || n, 'u', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": "0.5"}', meter => 'calls') FROM generate_series(1, $accounts) n;
RESET SESSION AUTHORIZATION;
ANALYZE;
SQL

my $kills = 0;

# Start a statement as ada and kill its process after so many seconds; true if it was still at work
sub kill_during
{
	my ($statement, $after) = @_;
	my ($in, $out, $error) = ("SELECT 'process ' || pg_backend_pid();\n$statement;\n\\q\n", '', '');
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-U', 'ada', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$error, IPC::Run::timeout(180));
	$psql->pump until $out =~ /process (\d+)\n/;
	my $pid = $1;
	my $end = time + $after;
	while (time < $end && $psql->pumpable) { $psql->pump_nb; sleep 0.005 }
	my $killed = $psql->pumpable && kill 9, $pid;
	$psql->finish;
	if ($killed)
	{
		$kills++;
		$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'the server did not come back';
	}
	note sprintf '%s after %.3f s: %s', $killed ? 'killed' : 'ended before it was killed', $after, substr($statement, 0, 60);
	return $killed;
}

my $clean = "SELECT string_agg(format('%s: %s', invariant, example), '; ') FROM billing.verify('acme') WHERE violations <> 0";
my $half = "SELECT count(*) FROM billing.invoice i FULL JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
	WHERE i.invoice_id IS NULL OR d.document_id IS NULL OR NOT EXISTS (SELECT FROM billing.invoice_line l WHERE l.entity_id = i.entity_id AND l.invoice_id = i.invoice_id)
	OR NOT EXISTS (SELECT FROM billing.document_step s WHERE s.entity_id = d.entity_id AND s.document_id = d.document_id AND s.version = d.version)";

# ----------------------------------------------------------------------------------------------------------------------
# Taking in usage: 20 deliveries of 3000 events, each again and again until it is answered

my @batches = map { my $b = $_; "SELECT accepted + duplicate FROM billing.ingest_usage('acme', (SELECT jsonb_agg(jsonb_build_object('id', '$b-' || n, 'source', 's', 'type', 'calls', 'subject', 'a' || n,
	'time', '2026-01-15T12:00:00Z', 'data', jsonb_build_object('quantity', n % 7))) FROM generate_series(1, 3000) n))" } 1 .. 20;
my $killed = 0;
for my $round (1 .. $rounds)
{
	$killed++ if kill_during(join(";\n", @batches), 0.05 + rand 1.5);
	is($sql->('SELECT count(*) % 3000 FROM billing.usage_event'), '0', 'no delivery is half taken in');
	is($sql->("SELECT coalesce(sum((after ->> 'accepted')::int), 0) FROM billing.audit_log WHERE object_type = 'usage'"), $sql->('SELECT count(*) FROM billing.usage_event'), 'what is taken in is on record');
}
cmp_ok($killed, '>', 0, "usage was killed while it was taken in ($killed of $rounds)");
$sql->('SET SESSION AUTHORIZATION ada; ' . join('; ', @batches));
is($sql->('SELECT count(*), count(DISTINCT event_key), sum(quantity) FROM billing.usage_event'), join('|', 60000, 60000, 20 * eval { my $s = 0; $s += $_ % 7 for 1 .. 3000; $s }), 'delivered again, every event is there once');
is($sql->('SELECT count(*) FROM billing.exception'), '0', 'and none was taken for a conflict');

# ----------------------------------------------------------------------------------------------------------------------
# Billing runs: through February, advance and arrears

$killed = 0;
for my $round (1 .. $rounds)
{
	$killed++ if kill_during("CALL billing.run_billing('acme', '2026-02-01')", 0.02 + rand(1.0) * $round / 2);
	is($sql->($half), '0', 'no document is half written');
	is($sql->('SELECT count(*) FROM (SELECT FROM billing.invoice_line GROUP BY entity_id, item_id, period_start HAVING count(*) > 1) d'), '0', 'nothing is billed twice');
}
cmp_ok($killed, '>', 0, "runs were killed ($killed of $rounds)");
$sql->("SET SESSION AUTHORIZATION ada; CALL billing.run_billing('acme', '2026-02-01')");
# n and n again for the months, and for those with usage 20 × 0.5 × (n mod 7), also where that is nothing
my ($lines, $net) = (0, 0);
for my $n (1 .. $accounts)
{
	$lines += 2;
	$net += 2 * $n;
	next unless $n <= 3000;
	$lines++;
	$net += 10 * ($n % 7);
}
is($sql->('SELECT count(*), sum(amount) FROM billing.invoice_line'), "$lines|$net.00", 'done again, exactly what is owed is billed');
is($sql->('SELECT count(*) FROM billing.invoice'), 2 * $accounts, 'one document per account and day');
is($sql->($clean), '', 'nothing is broken');
is($sql->('SELECT count(*) FROM billing.billing_run WHERE finished_at IS NOT NULL'), $rounds - $killed + 1, 'runs that did not end are on record as such');

# ----------------------------------------------------------------------------------------------------------------------
# Validating and issuing

$killed = 0;
for my $round (1 .. $rounds)
{
	$killed++ if kill_during("SELECT billing.validate_invoices('acme');\nSELECT billing.issue_invoices('acme', '2026-01-31');\nSELECT billing.issue_invoices('acme')", 0.05 + rand(0.8) * $round);
	is($sql->($half), '0', 'no step is half taken');
	is($sql->("SELECT coalesce(max(s.last_number), 0) = count(i.number) AND count(i.number) = coalesce(max(i.sequence), 0) FROM billing.invoice i LEFT JOIN billing.number_series s USING (entity_id)"), 't', 'numbers have no gap');
}
cmp_ok($killed, '>', 0, "issues were killed ($killed of $rounds)");
$sql->("SET SESSION AUTHORIZATION ada; SELECT billing.validate_invoices('acme'); SELECT billing.issue_invoices('acme')");
is($sql->('SELECT count(*), count(DISTINCT number), min(sequence), max(sequence) FROM billing.invoice'), join('|', 2 * $accounts, 2 * $accounts, 1, 2 * $accounts), 'done again, all are issued, under numbers without a gap');
is($sql->('SELECT count(*), count(DISTINCT document_id) FROM billing.document_step WHERE action = \'issue\''), join('|', 2 * $accounts, 2 * $accounts), 'each once');
is($sql->("SELECT count(*), count(DISTINCT object_id) FROM billing.audit_log WHERE action = 'number'"), join('|', 2 * $accounts, 2 * $accounts), 'each on record once');
is($sql->($clean), '', 'nothing is broken');

# ----------------------------------------------------------------------------------------------------------------------
# The whole server at once, in the middle of a correction

$sql->("SET SESSION AUTHORIZATION ada; SELECT count(billing.change_item('acme', 'a' || n, 'i', '2026-02-01', n + 1)) FROM generate_series(1, 300) n");
my ($in, $out, $error) = ("CALL billing.run_billing('acme', '2026-02-01');\n", '', '');
my $psql = IPC::Run::start([ 'psql', '-XAtq', '-U', 'ada', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$error);
sleep 0.2 + rand 0.5;
$node->stop('immediate');
$psql->finish;
$node->start;
is($sql->($half), '0', 'an immediate shutdown leaves nothing half');
$sql->("SET SESSION AUTHORIZATION ada; CALL billing.run_billing('acme', '2026-02-01')");
is($sql->("SELECT sum(l.amount) FROM billing.invoice_line l JOIN billing.document d ON d.entity_id = l.entity_id AND d.document_id = l.invoice_id WHERE d.state = 'draft'"), '300.00', 'run again, one more for each that changed is billed, once');
is($sql->($clean), '', 'nothing is broken');

done_testing();
