# A dry run and a report read only: they work on a standby and in a read-only transaction, and say what a run then does. More
# accounts and drafts than one slice takes: 12 000, of which account k has 1 + k % 50 seats at 12.50 and 19 % of tax.
use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "log_statement = none\nclient_min_messages = warning\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE bench');
$node->safe_psql('bench', 'CREATE EXTENSION billing_erp CASCADE');
$node->safe_psql('bench', "\\set accounts 12000\n\\i $FindBin::Bin/../lib/load_accounts.sql");
$node->safe_psql('bench', "UPDATE billing.billing_account SET purchase_order_required = true WHERE code ~ '^account-(3|6|9|12)000\$'");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

# As whoever bills, on one of the servers
sub asked
{
	my ($server, $sql, $before) = @_;
	$before //= '';
	return $server->safe_psql('bench', "SET SESSION AUTHORIZATION bench_biller; $before $sql");
}

# 240 times 1 to 50 seats: 240 × 1275 × 12.50; of each the tax is 2.375 a seat, rounded up for 25 odd numbers of seats, 240 × (3028.125 + 0.125)
my $sums = 'SELECT documents, lines, net, tax, total FROM billing.dry_run(\'bench\', \'2026-01-01\') WHERE what = \'documents\'';
my $expected = '12000|12000|3825000.00|726780.00|4551780.00';
my $held = 'SELECT kind, subject FROM billing.dry_run(\'bench\', \'2026-01-01\') WHERE what = \'exception\' ORDER BY length(subject), subject';
is(asked($node, $sums), $expected, 'the sums of three slices');
is(asked($node, "$sums; COMMIT", 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;'), $expected, 'in a read-only transaction');
$node->wait_for_catchup($standby);
is($standby->safe_psql('bench', 'SELECT pg_is_in_recovery()'), 't', 'the other server is a standby');
is(asked($standby, $sums), $expected, 'on a standby');
is(asked($standby, $held), join("\n", map { "missing_purchase_order|account-$_" } 3000, 6000, 9000, 12000), 'with what would be on hold');
is($node->safe_psql('bench', 'SELECT count(*) FROM billing.document'), '0', 'nothing is billed by that');

# An account that cannot be billed: on a standby too, the others are told apart from it
$node->safe_psql('bench', <<'SQL');
SET session_replication_role = replica;
ALTER TABLE billing.currency DROP CONSTRAINT currency_minor_unit_in_range;
INSERT INTO billing.currency VALUES ('ODD', '000', 9, 'Odd');
UPDATE billing.billing_account SET currency = 'ODD' WHERE code = 'account-7001';
SQL
$node->wait_for_catchup($standby);
# account-7001 has 2 seats: 25.00 and 4.75 of tax less
is(asked($standby, $sums), '11999|11999|3824975.00|726775.25|4551750.25', 'all but the one that cannot be billed');
is(asked($standby, 'SELECT detail FROM billing.dry_run(\'bench\', \'2026-01-01\') WHERE kind = \'account_parked\''),
	'account account-7001 could not be billed: minor unit must be between 0 and 6', 'which is told with its error');
$node->safe_psql('bench', "SET session_replication_role = replica; UPDATE billing.billing_account SET currency = 'EUR' WHERE code = 'account-7001'");

# The run does it, and validation takes its drafts in slices too
asked($node, "CALL billing.run_billing('bench', '2026-01-01')");
is($node->safe_psql('bench', 'SELECT count(*), sum(net), sum(tax), sum(total) FROM billing.invoice'), '12000|3825000.00|726780.00|4551780.00', 'the run bills what the dry run said');
is(asked($node, 'SELECT * FROM billing.validate_invoices(\'bench\')'), '11996|0|4', 'all drafts are validated');
is($node->safe_psql('bench', 'SELECT kind, count(*) FROM billing.exception GROUP BY kind'), 'missing_purchase_order|4', 'four are on hold');
$node->wait_for_catchup($standby);
is(asked($standby, $sums), '', 'nothing is left to be billed');
is(asked($standby, 'SELECT section, item, documents, lines, amount, explanation FROM billing.run_report(\'bench\', (SELECT max(run_id) FROM billing.run_progress)) WHERE section <> \'run\''),
	"billed|recurring, per_unit|12000|12000|3825000.00|\n"
	. "first pass|approved or issued, and never on hold|11996||99.97|11996 of 12000 documents; 4 were on hold\n"
	. "entitled|all charges through the day||12000|3825000.00|all that can be rated is billed", 'a standby has the report');
is(asked($standby, 'SELECT state, slices, slices_done, per_cent, accounts, documents FROM billing.run_progress'), 'finished|3|3|100.0|12000|12000', 'and knows how far the run is');
$standby->stop('fast');
$node->stop('fast');
done_testing();
