# Whatever happens between billing runs, in whatever order, is found by the next one, though it looks only at accounts that are
# due or on the list of changes: random amendments, prices, usage (late and early), corrections of usage, changed meters,
# rounding, and discarded documents, with runs through random days, forth and back. After each run billing.verify() finds
# billed = entitled; in the end, what was billed for each item and period is what a single run bills in another
# entity that went through the same, but for the runs. Before each run test/lib/oracle.sql says in SQL what is entitled and what
# differs from what was billed, and that is what the C code says, to the last decimal.
#
#   CHANGES_SEED=n       repeats a run; the seed is printed
#   CHANGES_ENTITIES=n   how many entities, each of 10 accounts with a sequence of their own; 12 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Test::More;

my $seed     = $ENV{CHANGES_SEED}     // 20261121;
my $entities = $ENV{CHANGES_ENTITIES} // 12;
my $accounts = 10;
my $role     = "changes_biller_$$";
srand($seed);
note("seed $seed, $entities entities, " . $entities * $accounts . ' sequences');

sub pick { return $_[ int rand @_ ] }

# A day of 2026, mostly the first of a month or a day beside it
sub day
{
	my ($from, $to) = @_;
	my $month = $from + int rand($to - $from + 1);
	return sprintf '2026-%02d-%02d', $month, rand() < 0.5 ? 1 : 1 + int rand 28;
}
sub quote  { my ($text) = @_; $text =~ s/'/''/g; return "'$text'" }
sub amount { return sprintf '%d.%02d', rand 30, rand 100 }

sub tariff
{
	return rand() < 0.6
		? sprintf('{"model": "per_unit", "unit": "%s"}', amount())
		: sprintf('{"model": "graduated", "tiers": [{"up_to": %d, "unit": "%s"}, {"up_to": null, "unit": "%s"}]}', 1 + rand 20, amount(), amount());
}

# ----------------------------------------------------------------------------------------------------------------------
# What may happen. Statements have :e for the entity. What is refused is refused in both entities, and nothing comes of it.

my $events = 0;
my %items;       # by account: how many it has
my %sent;        # by account: the ids that were sent

sub items
{
	my ($account, $name) = @_;
	my @price = rand() < 0.5 ? ('price_book => ' . quote(pick('list', 'other'))) : ('tariff => ' . quote(tariff()));
	my $from  = rand() < 0.7 ? '' : ', valid_from => ' . quote(day(1, 5));
	my $until = rand() < 0.85 ? '' : ', valid_to => ' . quote(day(4, 8));
	return pick(
		"SELECT billing.add_item(:e, '$account', '$name', 'seat', 'recurring', " . (1 + int rand 9) . ", @price, timing => '" . pick('advance', 'arrears') . "'$from$until)",
		"SELECT billing.add_item(:e, '$account', '$name', 'call', 'usage', @price, meter => '" . pick('calls', 'peak') . "'$from$until)",
		"SELECT billing.add_item(:e, '$account', '$name', 'seat', 'one_time', " . (1 + int rand 9) . ", @price$from)");
}

sub event
{
	my ($account, $id) = @_;
	return sprintf '{"id": "%s", "source": "/s", "type": "%s", "subject": "%s", "time": "%sT%02d:30:00Z", "data": {"quantity": %s}}',
		$id, pick('calls', 'calls', 'peak'), $account, day(1, 7), rand 24, amount();
}

sub send_usage
{
	my ($account) = @_;
	my @ids = map { 'u' . ++$events } 1 .. 1 + int rand 3;
	push @{ $sent{$account} }, @ids;
	return 'SELECT accepted FROM billing.ingest_usage(:e, ' . quote('[' . join(', ', map { event($account, $_) } @ids) . ']') . ')';
}

sub account_change
{
	my ($account) = @_;
	my $item = 'i' . (1 + int rand $items{$account});
	my $what = rand;
	return "SELECT billing.change_item(:e, '$account', '$item', '" . day(1, 7) . "', quantity => " . (int rand 9) . ')' if $what < 0.2;
	return "SELECT billing.change_item(:e, '$account', '$item', '" . day(1, 7) . "', " . pick('tariff => ' . quote(tariff()), 'price_book => ' . quote(pick('list', 'other'))) . ')'
		if $what < 0.35;
	return "SELECT billing.end_item(:e, '$account', '$item', '" . day(1, 7) . q{')} if $what < 0.42;
	return "SELECT billing.end_contract(:e, '$account', '" . day(3, 8) . q{')} if $what < 0.46;
	return items($account, 'i' . ++$items{$account}) if $what < 0.53;
	my $ids = $sent{$account} || [];
	return send_usage($account) if $what < 0.82 || !@$ids;
	my $id = pick(@$ids);
	return "SELECT state FROM billing.void_usage(:e, '/s', '{$id}', 'a test')" if $what < 0.91;
	return 'SELECT state FROM billing.replace_usage(:e, ' . quote('[' . event($account, $id) . ']') . q{, 'a test')};
}

sub shared_change
{
	my $book = pick('list', 'other');
	my $mine = 'WHERE entity_id = billing_internal.entity_id(:e)';
	return pick(
		"SELECT billing.set_price(:e, '$book', '" . pick('seat', 'call') . q(', ) . quote(tariff()) . ", '" . day(1, 7) . q{')},
		"UPDATE billing.price SET tariff = " . quote(tariff()) . " $mine AND price_id = (SELECT price_id FROM billing.price $mine ORDER BY price_id OFFSET " . int(rand 4) . ' LIMIT 1)',
		"UPDATE billing.price SET tariff = " . quote(tariff()) . " $mine AND price_id = (SELECT price_id FROM billing.price $mine ORDER BY price_id OFFSET " . int(rand 4) . ' LIMIT 1)',
		"UPDATE billing.meter SET quantity_scale = " . pick('NULL', 0, 1) . ", quantity_rounding = '" . pick('nearest', 'up', 'down') . "' WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = :e) AND code = '" . pick('calls', 'peak') . q('),
		"UPDATE billing.meter SET quantity_scale = " . pick('NULL', 0, 1) . ", quantity_rounding = '" . pick('nearest', 'up', 'down') . "' WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = :e) AND code = '" . pick('calls', 'peak') . q('),
		'SELECT billing.roll_up_usage(:e) >= 0',
		# as superuser
		"!UPDATE billing.legal_entity SET rounding_mode = '" . pick('half_up', 'half_even') . q{' WHERE code = :e});
}

# ----------------------------------------------------------------------------------------------------------------------
# The script: entity x<n> with runs, entity y<n> without but for one at the end

my ($script, $path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
my @history;    # by entity: what was done, to be shown where it went wrong

sub both
{
	my ($n, $statement) = @_;
	my $as_superuser = $statement =~ s/^!//;
	print $script "RESET SESSION AUTHORIZATION;\n" if $as_superuser;
	for my $entity ("x$n", "y$n")
	{
		(my $text = $statement) =~ s/:e\b/'$entity'/g;
		print $script "SELECT 'told', '$entity', public.told(" . quote($text) . ");\n";
	}
	print $script "SET SESSION AUTHORIZATION $role;\n" if $as_superuser;
	push @{ $history[$n] }, $statement;
	return;
}

open my $oracle, '<', 'test/lib/oracle.sql' or die "oracle.sql: $!";
print $script "SET client_min_messages = error;\n", <$oracle>;
close $oracle;
print $script <<"SQL";
CREATE ROLE $role LOGIN IN ROLE billing_user;
SELECT billing.add_person('changes', 'Changes'), billing.add_login('changes', '$role');
-- nobody may change how a meter measures, but for a DBA who grants it
GRANT UPDATE (quantity_scale, quantity_rounding) ON billing.meter TO $role;
-- what a statement gives, or its error; what failed leaves nothing behind
CREATE FUNCTION public.told(statement text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	answer text;
BEGIN
	IF statement ~ '^SELECT' THEN
		EXECUTE statement INTO answer;
	ELSE
		EXECUTE statement;
		GET DIAGNOSTICS answer = ROW_COUNT;
	END IF;
	RETURN coalesce(answer, '');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END \$\$;
-- discard some of the documents that are not issued, the newest first; which may be refused
CREATE FUNCTION public.discard_some(of_entity text, share float8) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	document text;
	n bigint := 0;
BEGIN
	FOR document IN SELECT reference FROM billing.invoice_overview WHERE entity = of_entity AND number IS NULL AND state <> 'discarded' ORDER BY invoice_id DESC LOOP
		CONTINUE WHEN random() > share;
		n := n + (public.told(format('SELECT billing.discard_invoice(%L, %L, ''a test'')', of_entity, document)) = '')::integer;
	END LOOP;
	RETURN n;
END \$\$;
SELECT setseed(@{[ ($seed % 1000) / 1000 ]});
SQL

for my $n (1 .. $entities)
{
	%sent = ();
	my $limit = pick(0, 50, 100000);
	print $script "RESET SESSION AUTHORIZATION;\n";
	print $script "SELECT billing.create_entity('$_', 'Entity', 'EUR', 'Europe/Berlin', 'DE');\n",
		"SELECT billing.grant_duty('$_', 'changes', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;\n",
		"UPDATE billing.legal_entity SET auto_approve_limit = $limit WHERE code = '$_';\n" for "x$n", "y$n";
	print $script "SET SESSION AUTHORIZATION $role;\n";
	both($n, $_) for (
		q(SELECT billing.add_tax_code(:e, 'std', 'S', 'Standard'), billing.add_tax_rate(:e, 'std', 19, '2007-01-01'), billing.add_customer(:e, 'c', 'Customer', 'Street 1', '10115', 'Berlin', 'DE')),
		q(SELECT billing.add_product(:e, 'seat', 'Seat', tax_code => 'std'), billing.add_product(:e, 'call', 'Call', tax_code => 'std')),
		q(SELECT billing.add_meter(:e, 'calls', 'Calls'), billing.add_meter(:e, 'peak', 'Peak', 'max')),
		q(SELECT billing.add_price_book(:e, b, b, 'EUR') FROM unnest('{list,other}'::text[]) b));
	both($n, "SELECT billing.set_price(:e, '$_->[0]', '$_->[1]', " . quote(tariff()) . q{, '2020-01-01')})
		for [qw(list seat)], [qw(list call)], [qw(other seat)], [qw(other call)];
	for my $account (map { "a$_" } 1 .. $accounts)
	{
		my $start = day(1, 2);
		my $anchor = rand() < 0.7 ? '' : q{, anchor => '2025-12-} . (1 + int rand 31) . q(');
		both($n, "SELECT billing.add_account(:e, '$account', 'c', 'EUR'), billing.create_contract(:e, '$account', '$account', '$start', interval_unit => '"
			. pick(qw(month month month week quarter)) . "'$anchor)");
		both($n, items($account, "i$_")) for 1 .. 2;
		$items{$account} = 2;
		both($n, send_usage($account)) if rand() < 0.5;
	}
	my $last = '2026-01-01';
	for my $round (1 .. 5)
	{
		for my $account (map { "a$_" } 1 .. $accounts)
		{
			both($n, account_change($account)) while rand() < 0.5;
		}
		both($n, shared_change()) while rand() < 0.6;
		my $through = day(1, 7);
		$last = $through if $through gt $last;
		my $phase = pick('draft', 'validate', 'issue');
		my $size  = pick(1, 2, 3, 100);
		push @{ $history[$n] }, "run through $through to $phase, slices of $size";
		my $some = join ', ', map { "'a$_'" } grep { rand() < 0.4 } 1 .. $accounts;
		print $script <<"SQL";
RESET SESSION AUTHORIZATION;
SELECT 'oracle', 'x$n', $round, q.* FROM (
	SELECT d FROM billing.legal_entity e, oracle.entitlement_differs(e.entity_id, '$through') d WHERE e.code = 'x$n'
	UNION ALL
	SELECT d FROM billing.legal_entity e, oracle.difference_differs(e.entity_id, '$through', NULL) d WHERE e.code = 'x$n'
	UNION ALL
	SELECT d FROM billing.legal_entity e, oracle.difference_differs(e.entity_id, '$through', (
		SELECT coalesce(array_agg(a.account_id), '{}') FROM billing.billing_account a
		WHERE a.entity_id = e.entity_id AND a.code IN (NULL@{[ $some ? ", $some" : '' ]}))) d WHERE e.code = 'x$n') q LIMIT 3;
SELECT 'compared', 'x$n', count(*) FROM billing.legal_entity e, billing.billing_account a,
	billing_internal.difference(e.entity_id, ARRAY[a.account_id], '$through', NULL) d WHERE e.code = 'x$n' AND a.entity_id = e.entity_id;
SET SESSION AUTHORIZATION $role;
SQL
		print $script "CALL billing.run_billing('x$n', '$through', '{\"phase\": \"$phase\", \"slice\": $size}');\n",
			"SELECT 'broken', 'x$n', $round, invariant || ': ' || example FROM billing.verify('x$n') WHERE violations > 0;\n";
		next if rand() < 0.6;
		my $share = pick(0.3, 0.6, 1);
		push @{ $history[$n] }, "discard $share of what is not issued";
		print $script "SELECT 'discarded', 'x$n', public.discard_some('x$n', $share);\n";
	}
	print $script <<"SQL";
CALL billing.run_billing('x$n', '$last');
CALL billing.run_billing('y$n', '$last');
SELECT 'broken', e, 'end', invariant || ': ' || example FROM unnest('{x$n,y$n}'::text[]) e, billing.verify(e) WHERE violations > 0;
SELECT 'counts', 'x$n', (SELECT count(*) FROM billing.account_change JOIN billing.legal_entity l USING (entity_id) WHERE l.code = 'x$n' AND reason <> 'unbilled charge'),
	count(*), count(*) FILTER (WHERE kind = 'credit'), count(*) FILTER (WHERE discarded) FROM billing.invoice_line JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'x$n';
WITH net AS (
	SELECT e.code AS entity, c.code || ' ' || i.code AS item, l.period_start, l.period_end, sum(l.amount) AS amount, sum(l.quantity) AS quantity
	FROM billing.invoice_line l JOIN billing.legal_entity e USING (entity_id) JOIN billing.contract_item i USING (entity_id, item_id) JOIN billing.contract c USING (entity_id, contract_id)
	WHERE e.code IN ('x$n', 'y$n') AND NOT l.discarded
	GROUP BY 1, 2, 3, 4
	HAVING sum(l.amount) <> 0 OR sum(l.quantity) <> 0
)
SELECT 'differs', 'x$n', coalesce(x.item, y.item), coalesce(x.period_start, y.period_start), coalesce(x.period_end, y.period_end), x.amount, y.amount, x.quantity, y.quantity
FROM (SELECT * FROM net WHERE entity = 'x$n') x FULL JOIN (SELECT * FROM net WHERE entity = 'y$n') y USING (item, period_start, period_end)
WHERE x.amount IS DISTINCT FROM y.amount OR x.quantity IS DISTINCT FROM y.quantity;
SQL
}
print $script "RESET SESSION AUTHORIZATION;\nDROP OWNED BY $role;\nDROP ROLE $role;\n";
close $script;
rename $path, $ENV{CHANGES_SCRIPT} or die $! if $ENV{CHANGES_SCRIPT};
$path = $ENV{CHANGES_SCRIPT} if $ENV{CHANGES_SCRIPT};

# ----------------------------------------------------------------------------------------------------------------------

my (%wrong, %last_told);
my ($told, $refused, $otherwise, $discarded, $lines, $credits, $dropped, $waiting, $compared) = (0) x 9;
open my $psql, '-|', 'psql', '-XqAt', '-F', '|', '-v', 'ON_ERROR_STOP=1', '-f', $path or die "psql: $!";
while (my $line = <$psql>)
{
	chomp $line;
	my ($what, $entity, @rest) = split /\|/, $line, -1;
	next unless defined $entity && $entity =~ /^([xy])(\d+)$/;
	my ($side, $n) = ($1, $2);
	if ($what eq 'told')
	{
		$told++;
		$refused++ if $rest[0] =~ /^[0-9A-Z]{5} /;
		# y follows x: both are told the same, but for their names
		(my $plain = $rest[0]) =~ s/\b[xy]$n\b/e/g;
		$plain =~ s/\b\d+\b//g;
		if ($side eq 'x') { $last_told{$n} = $plain }
		elsif ($last_told{$n} ne $plain && $plain !~ /^$/)
		{
			$otherwise++;
			push @{ $wrong{$n} }, "told otherwise: $last_told{$n} / $plain";
		}
	}
	elsif ($what eq 'discarded') { $discarded += $rest[0] }
	elsif ($what eq 'compared')  { $compared  += $rest[0] }
	elsif ($what eq 'counts')
	{
		$waiting += $rest[0];
		$lines   += $rest[1];
		$credits += $rest[2];
		$dropped += $rest[3];
	}
	else { push @{ $wrong{$n} }, $line }
}
close $psql;
is($?, 0, 'the statements run');
is($otherwise, 0, 'both entities are told the same');
is(join(' ', map { "x$_" } sort { $a <=> $b } keys %wrong), '', 'after each run billed = entitled, and in the end it is what one run bills');
for my $n ((sort { $a <=> $b } keys %wrong)[ 0 .. 1 ])
{
	last unless defined $n;
	diag join "\n", "x$n:", @{ $wrong{$n} }[ 0 .. ($#{ $wrong{$n} } < 9 ? $#{ $wrong{$n} } : 9) ], @{ $history[$n] };
}
is($waiting, 0, 'the last run leaves nothing on the list of changes');
note("$told statements, of which $refused were refused; $lines lines, of which $credits are credits and $dropped were dropped with $discarded documents");
cmp_ok($refused, '<', $told / 5, 'most statements are taken');
cmp_ok($credits, '>', $lines / 20, 'credits are frequent enough');
cmp_ok($dropped, '>', $lines / 50, 'and dropped lines');
cmp_ok($compared, '>', $lines / 3, 'what is to be billed was compared with what SQL says of it');
done_testing();
