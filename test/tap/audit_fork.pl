# A chain of audit blocks goes on after a restore from a dump, a failover and a recovery from a backup, with a block that marks the
# break; a digest from before is still in it, unless what it saw was lost.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('first');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "log_min_messages = fatal\n");
$node->start;

sub sql { my ($server, $database, $query) = @_; return $server->safe_psql($database, "SET client_min_messages = error; $query") }

# Every chain as kinds with notes, and what is wrong
my $chain = q(SELECT string_agg(kind || coalesce(' (' || note || ')', ''), ', ' ORDER BY block_no) FROM billing.audit_block WHERE entity_id = 1);
my $wrong = q(SELECT coalesce(string_agg(invariant || ': ' || example, '; ' ORDER BY invariant), 'nothing') FROM billing.verify_audit('acme'%s) WHERE violations > 0);
sub wrong { my ($server, $database, $digest) = @_; return sql($server, $database, sprintf($wrong, defined $digest ? ", '$digest'" : '')) }
sub work { my ($server, $database, $text) = @_; return sql($server, $database, "UPDATE billing.legal_entity SET city = '$text' WHERE code = 'acme'; SELECT billing.seal_audit('acme')") }

sql($node, 'postgres', q(CREATE EXTENSION billing_erp CASCADE; SELECT billing.create_entity('acme', 'Acme', 'EUR', 'UTC')));
# many transactions, so that those of another cluster have lower numbers
sql($node, 'postgres', 'CREATE TABLE public.t (i int); DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO public.t VALUES (i); COMMIT; END LOOP; END $$');
sql($node, 'postgres', 'DROP TABLE public.t');
is(work($node, 'postgres', 'one'), '2', 'a first block');
sql($node, 'postgres', q(UPDATE billing.legal_entity SET city = 'unsealed'));
my $digest = sql($node, 'postgres', q(SELECT billing.audit_digest('acme')));

# ----------------------------------------------------------------------------------------------------------------------
# A dump, restored into another cluster, whose transactions count anew

my $dump = $node->basedir . '/dump';
command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'a dump');
my $other = PostgreSQL::Test::Cluster->new('second');
$other->init;
$other->append_conf('postgresql.conf', "log_min_messages = fatal\n");
$other->start;
sql($other, 'postgres', 'CREATE DATABASE restored');
sql($other, 'restored', 'CREATE EXTENSION billing_erp CASCADE');
sql($other, 'restored', 'SELECT billing.pre_restore()');
command_ok([ 'pg_restore', '--exit-on-error', '--section=data', '--section=post-data', '-d', $other->connstr('restored'), $dump ], 'it is restored');
sql($other, 'restored', 'SELECT billing.post_restore()');
cmp_ok(sql($other, 'restored', 'SELECT pg_current_xact_id()::text::bigint'), '<', sql($node, 'postgres', 'SELECT max(transaction_id::text::bigint) FROM billing.audit_log'),
	'whose transactions have lower numbers');
is(sql($other, 'restored', $chain), 'seal, fork (restored from a dump)', 'a fork marks the restore');
is(work($other, 'restored', 'two'), '2', 'what was not sealed is sealed with what is new');
is(sql($other, 'restored', $chain), 'seal, fork (restored from a dump), seal', 'and the chain goes on, without another fork');
is(wrong($other, 'restored', $digest), 'nothing', 'the digest from before is in it');
is(sql($other, 'restored', q(SELECT count(*) FROM billing.audit_log WHERE object_type = 'table')), '0', 'neither extension nor restore recorded themselves');
$other->stop;

# ----------------------------------------------------------------------------------------------------------------------
# A failover: the standby is promoted, with all that was there

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
is(work($node, 'postgres', 'three'), '2', 'the first server goes on');
$digest = sql($node, 'postgres', q(SELECT billing.audit_digest('acme')));
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
is(wrong($standby, 'postgres', $digest), 'nothing', 'a standby verifies');
$standby->promote;
is(work($standby, 'postgres', 'four'), '1', 'the standby goes on');
is(sql($standby, 'postgres', $chain), 'seal, seal, fork (another timeline goes on: failover, or recovery to a point in time), seal', 'with a fork');
is(wrong($standby, 'postgres', $digest), 'nothing', 'and nothing lost');
$standby->stop;

# ----------------------------------------------------------------------------------------------------------------------
# An old backup is taken into use: what came after it is lost, which the digest shows

my $late = sql($node, 'postgres', q(SELECT billing.audit_digest('acme')));
my $old = PostgreSQL::Test::Cluster->new('old');
$old->init_from_backup($node, 'base', has_streaming => 1);
$old->append_conf('postgresql.conf', "primary_conninfo = ''\nlog_min_messages = fatal\n");
$old->start;
$old->promote;
is(wrong($old, 'postgres'), 'nothing', 'the old backup is sound by itself');
is(wrong($old, 'postgres', $late), 'the audit digest kept outside is in the chain: block 2 is missing', 'but is not all that there was');
is(work($old, 'postgres', 'five'), '2', 'it goes on');
like(wrong($old, 'postgres', $late), qr/^the audit digest kept outside is in the chain: block 2 has another hash$/, 'with other blocks than the digest says');
$old->stop;
$node->stop;

done_testing();
