# A superuser changes the audit log, its blocks and the documents in a thousand ways, and computes hashes anew where that helps:
# billing.verify_audit() and billing.verify() find every one, the verifier outside of the server finds those of the log too, and
# what was not changed raises no alarm.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $mutations = $ENV{TAMPERING} // 1000;
srand(4711);

my $node = PostgreSQL::Test::Cluster->new('tampering');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nlog_statement = none\nlog_min_messages = fatal\nTimeZone = UTC\nDateStyle = ISO\n");
$node->start;
my $dir = $node->basedir . '/export';
mkdir $dir or die $!;

sub sql { return $node->safe_psql('postgres', "SET client_min_messages = error; $_[0]") }

# ----------------------------------------------------------------------------------------------------------------------
# The verifier outside, from its source

my $verifier = "$dir/audit_verify";
command_ok([ 'cc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', $verifier, 'test/tools/audit_verify.c', '-lcrypto' ], 'the verifier builds');

# ----------------------------------------------------------------------------------------------------------------------
# Two entities whose records alternate, documents, four blocks, and records that wait

sql('CREATE EXTENSION billing_erp CASCADE; CREATE ROLE ada LOGIN IN ROLE billing_user; CREATE ROLE bob LOGIN IN ROLE billing_user');
sql(q{SELECT billing.create_entity(e, 'Entity', 'EUR', 'Europe/Berlin', 'DE') FROM unnest('{other,acme}'::text[]) e;
	SELECT billing.add_person(p, p), billing.add_login(p, p) FROM unnest('{ada,bob}'::text[]) p;
	SELECT billing.grant_duty(e, 'ada', d, '2020-01-01') FROM unnest('{other,acme}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
	UPDATE billing.legal_entity SET auto_approve_limit = 1000000});
sql(q{SET SESSION AUTHORIZATION ada;
	SELECT billing.add_tax_code(e, 'std', 'S', 'Standard'), billing.add_tax_rate(e, 'std', 19, '2007-01-01'), billing.add_product(e, 'seat', 'Seat', tax_code => 'std')
	FROM unnest('{acme,other}'::text[]) e;
	SELECT billing.add_customer('acme', 'c' || n, E'Customer "\\\\ü\t' || n, 'Street 1', '10115', 'Berlin', 'DE'), billing.add_customer('other', 'c' || n, 'Other ' || n),
		billing.add_account('acme', 'a' || n, 'c' || n, 'EUR'), billing.create_contract('acme', 'a' || n, 'a' || n, '2026-01-01'),
		billing.add_item('acme', 'a' || n, 'i', 'seat', 'recurring', n, ('{"model": "per_unit", "unit": "' || n || '.50"}')::jsonb)
	FROM generate_series(1, 12) n});
sub seal { return sql('SELECT billing.seal_audit()') }
cmp_ok(seal(), '>', 60, 'a first block');
sql(q{SET SESSION AUTHORIZATION ada; UPDATE billing.customer SET city = 'Potsdam' WHERE code LIKE 'c_'; UPDATE billing.customer SET city = NULL WHERE code = 'c3'});
cmp_ok(seal(), '>', 9, 'a second');
sql(q{SET SESSION AUTHORIZATION ada; CALL billing.run_billing('acme', '2026-03-01')});
sql(q{SET SESSION AUTHORIZATION ada; SELECT billing.validate_invoices('acme'); SELECT billing.issue_invoices('acme')});
cmp_ok(seal(), '>', 20, 'a third');
sql(q{SET SESSION AUTHORIZATION ada; SELECT billing.add_product('acme', 'p' || n, 'P') FROM generate_series(1, 9) n});
is(seal(), '9', 'a fourth');
sql(q{SET SESSION AUTHORIZATION ada; SELECT billing.add_product('acme', 'q' || n, 'Q') FROM generate_series(1, 3) n});
my $entity = sql(q{SELECT entity_id FROM billing.legal_entity WHERE code = 'acme'});
my $digest = sql(q{SELECT billing.audit_digest('acme')});
append_to_file("$dir/digest", "$digest\n");
is(sql("SELECT string_agg(block_no::text, ' ' ORDER BY block_no) FROM billing.audit_block WHERE entity_id = $entity"), '1 2 3 4', 'four blocks');

# ----------------------------------------------------------------------------------------------------------------------
# What an attacker needs: the hashes, worked out here from their description and not with the extension's functions

sql(<<'SQL');
CREATE FUNCTION public.field(v bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT coalesce(int4send(length(v)) || v, '\xffffffff') $$;
CREATE FUNCTION public.field(v text) RETURNS bytea LANGUAGE sql AS $$ SELECT public.field(convert_to(v, 'UTF8')) $$;
CREATE FUNCTION public.field(v bigint) RETURNS bytea LANGUAGE sql AS $$ SELECT public.field(int8send(v)) $$;
CREATE FUNCTION public.field(v timestamptz) RETURNS bytea LANGUAGE sql AS $$ SELECT public.field((extract(epoch FROM v) * 1000000 - 946684800000000)::bigint) $$;
CREATE FUNCTION public.block_hash(b billing.audit_block) RETURNS bytea LANGUAGE sql AS $$
	SELECT sha256('\x0202' || public.field(b.entity_id::bigint) || public.field(b.block_no) || public.field(b.kind) || public.field(b.after_audit_id)
		|| public.field(b.through_audit_id) || public.field(b.record_count) || public.field(b.root) || public.field(b.previous_hash)
		|| public.field(b.horizon::text::bigint) || public.field(b.system_identifier) || public.field(b.timeline::bigint) || public.field(b.sealed_at)
		|| public.field(b.note)) $$;
-- RFC 6962, 2.1, as it is written there
CREATE FUNCTION public.mth(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	n integer := coalesce(cardinality(leaves), 0);
	k integer := 1;
BEGIN
	IF n = 0 THEN RETURN sha256(''); END IF;
	IF n = 1 THEN RETURN leaves[1]; END IF;
	WHILE k * 2 < n LOOP k := k * 2; END LOOP;
	RETURN sha256('\x01' || public.mth(leaves[1:k]) || public.mth(leaves[k + 1:n]));
END $$;
CREATE FUNCTION public.rehash(entity integer, id bigint) RETURNS void LANGUAGE sql AS $$
	UPDATE billing.audit_log a SET hash = billing_internal.audit_hash(a) WHERE entity_id = entity AND audit_id = id $$;
-- Make blocks, roots and links anew from a block on
CREATE FUNCTION public.rechain(entity integer, first bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	b billing.audit_block;
	hashes bytea[];
BEGIN
	FOR b IN SELECT * FROM billing.audit_block WHERE entity_id = entity AND block_no >= first ORDER BY block_no LOOP
		SELECT array_agg(hash ORDER BY audit_id) INTO hashes FROM billing.audit_log
		WHERE entity_id = entity AND audit_id > b.after_audit_id AND audit_id <= b.through_audit_id;
		b.record_count := coalesce(cardinality(hashes), 0);
		b.root := public.mth(hashes);
		b.leaves := coalesce((SELECT string_agg(h, '' ORDER BY o) FROM unnest(hashes) WITH ORDINALITY u (h, o)), '');
		b.previous_hash := (SELECT hash FROM billing.audit_block WHERE entity_id = entity AND block_no = b.block_no - 1);
		b.hash := public.block_hash(b);
		UPDATE billing.audit_block SET record_count = b.record_count, root = b.root, leaves = b.leaves, previous_hash = b.previous_hash, hash = b.hash
		WHERE entity_id = entity AND block_no = b.block_no;
	END LOOP;
END $$;
CREATE FUNCTION public.export(entity integer, prefix text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT * FROM billing.audit_log WHERE entity_id = %s ORDER BY audit_id) TO %L', entity, prefix || '.log');
	EXECUTE format('COPY (SELECT entity_id, block_no, kind, after_audit_id, through_audit_id, record_count, root, previous_hash, horizon, system_identifier,
		timeline, sealed_at, note, layout, hash FROM billing.audit_block WHERE entity_id = %s ORDER BY block_no) TO %L', entity, prefix || '.blocks');
END $$;
-- Change something as nobody can stop a superuser from it, see what is found, and take it back
CREATE FUNCTION public.tamper(change text, digest jsonb, entity integer, prefix text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	changed bigint;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE change;
	GET DIAGNOSTICS changed = ROW_COUNT;
	SET LOCAL session_replication_role = origin;
	IF prefix IS NULL THEN
		SELECT string_agg(format('%s: %s, %s', invariant, violations, example), '; ') INTO answer FROM billing.verify('acme') WHERE violations > 0;
	ELSE
		SELECT string_agg(format('%s: %s, %s', invariant, violations, example), '; ') INTO answer FROM billing.verify_audit('acme', digest) WHERE violations > 0;
		PERFORM public.export(entity, prefix);
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'ZZ999', MESSAGE = CASE WHEN changed = 0 THEN 'changed nothing' ELSE coalesce(answer, 'not found') END;
EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
	RETURN SQLERRM;
END $$;
SQL

# The description is right: it gives the hashes and roots that are there
is(sql('SELECT count(*) FROM billing.audit_block b WHERE hash <> public.block_hash(b)'), '0', 'hashes of blocks are as described');
is(sql('SELECT count(*) FROM billing.audit_block b WHERE root <> public.mth(ARRAY(SELECT hash FROM billing.audit_log a
	WHERE a.entity_id = b.entity_id AND a.audit_id > b.after_audit_id AND a.audit_id <= b.through_audit_id ORDER BY audit_id))'), '0', 'roots are those of RFC 6962');
is(sql(q(SELECT encode(public.mth('{}'), 'hex'))), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'that of no leaves is the one that everybody knows');

# ----------------------------------------------------------------------------------------------------------------------
# A thousand changes

my $end = sql("SELECT max(through_audit_id) FROM billing.audit_block WHERE entity_id = $entity");
my @ids = split /\n/, sql("SELECT audit_id FROM billing.audit_log WHERE entity_id = $entity AND audit_id <= $end ORDER BY audit_id");
my %taken = map { $_ => 1 } split /\n/, sql('SELECT audit_id FROM billing.audit_log WHERE entity_id = ' . $entity);
my @free = grep { !$taken{$_} } 1 .. $end;

sub any { return $_[ int rand @_ ] }
sub this { my ($id) = @_; return "WHERE entity_id = $entity AND audit_id = $id" }

# A change of a record's content
sub edit
{
	my ($id) = @_;
	my $set = any(
		q{recorded_at = recorded_at + interval '1 microsecond'}, q{recorded_at = recorded_at - interval '1 year'},
		q{transaction_id = ((transaction_id::text::bigint) + 1)::text::xid8}, q{actor = 'mallory'}, q{actor = CASE WHEN actor IS NULL THEN '' END},
		q{login = 'mallory'}, q{action = action || ' '}, q{object_type = upper(object_type)}, q{object_id = coalesce(object_id, '') || '0'},
		q{before = CASE WHEN before IS NULL THEN '{}'::jsonb END}, q{after = coalesce(after, '{}') || '{"net": 0.01}'}, q{after = '[1]'},
		q{reason = coalesce(reason, '') || 'x'}, q{client_address = '10.0.0.1'}, q{application = NULL}, q{application = 'x'}, q{correlation_id = 'r'},
		q{object_id = CASE WHEN object_id IS NULL THEN '' END});
	return "UPDATE billing.audit_log SET $set " . this($id)
		. ($set eq 'application = NULL' ? ' AND application IS NOT NULL' : '');
}

# A change of a block's columns
sub edit_block
{
	my ($block) = @_;
	my $set = any('after_audit_id = after_audit_id - 1', 'through_audit_id = through_audit_id + 1', q{root = set_byte(root, 5, get_byte(root, 5) # 16)},
		q{horizon = ((horizon::text::bigint) + 1)::text::xid8}, 'system_identifier = system_identifier # 1', 'timeline = timeline + 1',
		q{sealed_at = sealed_at + interval '1 second'}, q{note = 'x'}, q{kind = 'fork'}, q{hash = set_byte(hash, 31, get_byte(hash, 31) # 1)},
		$block > 1 ? q{previous_hash = sha256('x')} : q{note = ''});
	return "UPDATE billing.audit_block SET $set WHERE entity_id = $entity AND block_no = $block";
}

my %kinds = (
	'a record' => sub { edit(any(@ids)) },
	'a record with its hash' => sub { my $id = any(@ids); edit($id) . "; SELECT public.rehash($entity, $id)" },
	'a hash' => sub { my $byte = int rand 32; "UPDATE billing.audit_log SET hash = set_byte(hash, $byte, get_byte(hash, $byte) # 128) " . this(any(@ids)) },
	'a deleted record' => sub { 'DELETE FROM billing.audit_log ' . this(any(@ids)) },
	'deleted records' => sub { my $id = any(@ids); 'DELETE FROM billing.audit_log ' . "WHERE entity_id = $entity AND audit_id BETWEEN $id AND $id + 5" },
	'a forged record' => sub {
		my $id = any(@free);
		"INSERT INTO billing.audit_log SELECT entity_id, $id, recorded_at, transaction_id, actor, login, action, object_type, object_id, before, after, reason,"
			. " client_address, application, correlation_id, hash FROM billing.audit_log " . this(any(@ids)) . "; SELECT public.rehash($entity, $id)";
	},
	'a moved record' => sub { my $id = any(@free); "UPDATE billing.audit_log SET audit_id = $id " . this(any(@ids)) . "; SELECT public.rehash($entity, $id)" },
	'a record of another entity' => sub { my $id = any(@ids); "UPDATE billing.audit_log SET entity_id = 0 " . this($id) . "; SELECT public.rehash(0, $id)" },
	'a block' => sub { edit_block(any(1 .. 4)) },
	'a block with its hash' => sub { my $block = any(1 .. 4); edit_block($block) . "; UPDATE billing.audit_block b SET hash = public.block_hash(b) WHERE entity_id = $entity AND block_no = $block" },
	'a deleted block' => sub { "DELETE FROM billing.audit_block WHERE entity_id = $entity AND block_no = " . any(1 .. 4) },
	'no blocks' => sub { "DELETE FROM billing.audit_block WHERE entity_id = $entity" },
	'the whole chain anew' => sub { my $id = any(@ids); edit($id) . "; SELECT public.rehash($entity, $id); SELECT public.rechain($entity, 1)" },
	'a deleted record and the chain anew' => sub { 'DELETE FROM billing.audit_log ' . this(any(@ids)) . "; SELECT public.rechain($entity, 1)" },
);
my @kinds = sort keys %kinds;
my (%tried, @missed, @missed_outside, @nothing);
my @changes = map { my $kind = $kinds[ $_ % @kinds ]; [ $kind, $kinds{$kind}->() ] } 0 .. $mutations - 1;

# A hash that was "computed anew" for a block whose own hash was changed is the old one: nothing was changed
for my $change (@changes)
{
	$change->[1] = "UPDATE billing.audit_block SET note = 'y', hash = sha256('y') WHERE entity_id = $entity AND block_no = 2"
		if $change->[0] eq 'a block with its hash' && $change->[1] =~ /SET hash = set_byte/;
}

my $script = "SET client_min_messages = error;\n";
for my $n (0 .. $#changes)
{
	$script .= "SELECT public.tamper(\$change\$$changes[$n][1]\$change\$, '$digest', $entity, '$dir/$n');\n";
}
my @found = split /\n/, $node->safe_psql('postgres', $script);
is(scalar @found, $mutations, 'every change was tried');
for my $n (0 .. $#changes)
{
	my ($kind, $change) = @{ $changes[$n] };
	$tried{$kind}++;
	push @nothing, "$kind: $change" if $found[$n] eq 'changed nothing';
	push @missed, "$kind: $change" if $found[$n] eq 'not found';
	my $output = `$verifier $dir/$n.log $dir/$n.blocks $dir/digest 2>&1`;
	push @missed_outside, "$kind: $change: $output" if $? >> 8 == 0;
	unlink "$dir/$n.log", "$dir/$n.blocks";
}
is("@nothing", '', 'every change changed something');
is(join("\n", @missed), '', "all $mutations are found inside");
is(join("\n", @missed_outside), '', "all $mutations are found outside");
is(scalar keys %tried, scalar @kinds, 'of every kind');

# The first record that does not match is named
my $middle = $ids[ @ids / 2 ];
my $next = $ids[ @ids / 2 + 1 ];
like(sql("SELECT public.tamper(\$\$UPDATE billing.audit_log SET actor = 'mallory' " . this($middle) . "; SELECT public.rehash($entity, $middle)\$\$, '$digest', $entity, '$dir/x')"),
	qr/those that were sealed: 1, audit record $middle is not the one/, 'a changed record is named');
like(sql("SELECT public.tamper(\$\$DELETE FROM billing.audit_log " . this($middle) . "\$\$, '$digest', $entity, '$dir/x')"),
	qr/those that were sealed: 1, an audit record before $next is missing/, 'a deleted one by the next');

# Who makes everything anew is found by the digest alone: that is what it is for
is(sql("SELECT public.tamper(\$\$UPDATE billing.audit_log SET actor = 'mallory' " . this($middle) . "; SELECT public.rehash($entity, $middle); SELECT public.rechain($entity, 1)\$\$, NULL, $entity, '$dir/x')"),
	'not found', 'the whole chain made anew is not found without a digest');

# ----------------------------------------------------------------------------------------------------------------------
# Documents: amounts, parties, numbers, days, states

my $invoice = sql("SELECT min(invoice_id) FROM billing.invoice WHERE entity_id = $entity AND number IS NOT NULL");
my @documents = (
	"UPDATE billing.invoice_line SET amount = amount + 1 WHERE entity_id = $entity AND invoice_id = $invoice AND line_no = 1",
	"UPDATE billing.invoice_line SET quantity = quantity + 1 WHERE entity_id = $entity AND invoice_id = $invoice AND line_no = 1",
	"UPDATE billing.invoice_line SET tax_rate = 7 WHERE entity_id = $entity AND invoice_id = $invoice AND line_no = 1",
	"DELETE FROM billing.invoice_line WHERE entity_id = $entity AND invoice_id = $invoice AND line_no = 1",
	"UPDATE billing.invoice SET net = net - 1, total = total - 1 WHERE entity_id = $entity AND invoice_id = $invoice",
	"UPDATE billing.invoice_tax SET tax = tax + 1 WHERE entity_id = $entity AND invoice_id = $invoice",
	"DELETE FROM billing.invoice WHERE entity_id = $entity AND invoice_id = $invoice",
	"UPDATE billing.invoice SET number = 'INV-1' WHERE entity_id = $entity AND invoice_id = $invoice",
	"UPDATE billing.invoice SET due_date = due_date + 1000 WHERE entity_id = $entity AND invoice_id = $invoice",
	"UPDATE billing.document SET state = 'draft' WHERE entity_id = $entity AND document_id = $invoice",
	"DELETE FROM billing.document_step WHERE entity_id = $entity AND document_id = $invoice",
);
for my $change (@documents)
{
	my $answer = sql("SELECT public.tamper(\$\$$change\$\$, NULL, $entity, NULL)");
	unlike($answer, qr/^(not found|changed nothing)/, $change) or diag($answer);
}

# ----------------------------------------------------------------------------------------------------------------------
# No false alarm: nothing was changed after all, and the log goes on

is(sql(q{SELECT coalesce(sum(violations), 0) FROM billing.verify_audit()}), '0', 'what is there is sound');
for my $round (1 .. 20)
{
	sql(qq{SET SESSION AUTHORIZATION ada; SELECT billing.add_product('acme', 'r$round' || n, 'R') FROM generate_series(1, 1 + $round % 3) n});
	seal() if $round % 2;
	last if sql("SELECT coalesce(sum(violations), 0) FROM billing.verify_audit('acme', '$digest')") ne '0';
}
is(sql("SELECT coalesce(sum(violations), 0) FROM billing.verify_audit('acme', '$digest')"), '0', 'and stays so while records and blocks are added');
sql("SELECT public.export($entity, '$dir/sound')");
command_ok([ $verifier, "$dir/sound.log", "$dir/sound.blocks", "$dir/digest" ], 'the verifier outside finds nothing either');

# A proof that is kept outside says the same, with nothing but SHA-256
my $proof = sql("SELECT billing.audit_proof('acme', $middle)");
is(sql(qq{WITH RECURSIVE p AS (SELECT '$proof'::jsonb AS j),
	step AS (SELECT 0 AS n, sha256(decode(j ->> 'bytes', 'hex')) AS node FROM p
		UNION ALL SELECT n + 1, CASE WHEN j -> 'path' -> n ? 'left' THEN sha256('\\x01' || decode(j -> 'path' -> n ->> 'left', 'hex') || node)
			ELSE sha256('\\x01' || node || decode(j -> 'path' -> n ->> 'right', 'hex')) END FROM step, p WHERE n < jsonb_array_length(j -> 'path'))
	SELECT encode(node, 'hex') = (SELECT j -> 'sealed' ->> 'root' FROM p) FROM step ORDER BY n DESC LIMIT 1}), 't', 'an inclusion path leads to the root');
is(sql(qq{SELECT count(*) FROM billing.audit_log a, LATERAL (SELECT billing.audit_proof('acme', a.audit_id) AS j) p WHERE a.entity_id = $entity AND a.audit_id <= $end
	AND (SELECT bool_or(true) FROM billing.audit_block b WHERE b.entity_id = $entity AND b.block_no = (j -> 'sealed' ->> 'block')::bigint
		AND encode(b.root, 'hex') = j -> 'sealed' ->> 'root' AND a.audit_id > b.after_audit_id AND a.audit_id <= b.through_audit_id) IS NULL}), '0', 'every record has a proof, in its block');

$node->stop;
done_testing();
