# Random conditions against PostgreSQL's own evaluation of the same expression in SQL: what billing says of it, what its canonical
# text says, and what a set of policies makes of it must agree for every row of random facts, nulls among them.
#
#   CONDITION_SEED=n   repeats a run; the seed is printed
#   CONDITION_COUNT=n  how many conditions, 600 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Test::More;

my $seed  = $ENV{CONDITION_SEED} // 20261121;
my $count = $ENV{CONDITION_COUNT} // 600;
srand($seed);
note("seed $seed, $count conditions");

sub pick { return $_[ int rand @_ ] }

# Each gives a pair: the condition, and the same in SQL over a row f of facts
my @numbers = qw(amount discount_percent margin_percent payment_days backdated_days score);
my @texts   = qw(segment risk contract currency);
my @words   = ("'a'", "'b'", "'high'", "'it''s'", "''", "'Z'");

sub constant
{
	my $digits = pick(1, 1, 2, 3, 5, 9, 19, 30);
	my $number = join '', map { int rand 10 } 1 .. $digits;
	$number .= '.' . join '', map { int rand 10 } 1 .. pick(1, 2, 4, 7) if rand() < 0.4;
	$number = pick(0, 1, 2, 10, 100, 30, 5) if rand() < 0.4;
	return $number;
}

sub number
{
	my ($depth) = @_;
	my $kind = $depth <= 0 ? rand 0.6 : rand;
	if ($kind < 0.3) { my $n = constant(); return [ $n, "($n)::numeric" ] }
	if ($kind < 0.6) { my $field = pick(@numbers); return [ $field, "((f).$field)::numeric" ] }
	if ($kind < 0.67) { my $a = number($depth - 1); return [ "-($a->[0])", "(-$a->[1])" ] }
	my ($a, $b) = (number($depth - 1), number($depth - 1));
	my $operator = pick('+', '-', '*', '/');
	my $text = "($a->[0]) $operator ($b->[0])";
	return [ $text, "pg_temp.quotient($a->[1], $b->[1])" ] if $operator eq '/';
	return [ $text, "pg_temp.bounded($a->[1] $operator $b->[1])" ];
}

sub text
{
	my $field = pick(@texts);
	return rand() < 0.7 ? [ $field, "((f).$field COLLATE \"C\")" ] : do { my $w = pick(@words); [ $w, "($w COLLATE \"C\")" ] };
}

sub boolean
{
	my ($depth) = @_;
	my $kind = $depth <= 0 ? rand 0.62 : rand;
	my $compare = pick('=', '<>', '<', '<=', '>', '>=');
	if ($kind < 0.25) { my ($a, $b) = (number(2), number(1)); return [ "$a->[0] $compare $b->[0]", "($a->[1] $compare $b->[1])" ] }
	if ($kind < 0.35) { my ($a, $b) = (text(), text()); return [ "$a->[0] $compare $b->[0]", "($a->[1] $compare $b->[1])" ] }
	if ($kind < 0.40) { return [ 'is_first', '((f).is_first)' ] }
	if ($kind < 0.45) { my $w = pick(@words); return [ "$w in categories", "($w = ANY ((f).categories))" ] }
	if ($kind < 0.50)
	{
		my ($a, @b) = (text(), map { pick(@words) } 1 .. 1 + int rand 3);
		my ($not, $list) = (pick('', 'not '), join ', ', @b);
		return [ "$a->[0] ${not}in ($list)", "($a->[1] ${not}IN ($list))" ];
	}
	if ($kind < 0.54)
	{
		my ($a, @b) = (number(1), map { constant() } 1 .. 1 + int rand 3);
		return [ "$a->[0] in (" . join(', ', @b) . ')', "($a->[1] IN (" . join(', ', @b) . '))' ];
	}
	if ($kind < 0.58)
	{
		my ($a, $b, $c) = (number(1), number(1), number(1));
		my $not = pick('', 'not ');
		return [ "$a->[0] ${not}between $b->[0] and $c->[0]", "($a->[1] ${not}BETWEEN $b->[1] AND $c->[1])" ];
	}
	if ($kind < 0.62)
	{
		my ($not, $a) = (pick('', 'not '), rand() < 0.5 ? number(1) : text());
		return [ "($a->[0]) is ${not}null", "($a->[1] IS ${not}NULL)" ];
	}
	if ($kind < 0.70) { my $a = boolean($depth - 1); return [ "not ($a->[0])", "(NOT $a->[1])" ] }
	if ($kind < 0.74)
	{
		my ($a, $is) = (boolean($depth - 1), pick('is true', 'is false', 'is not true', 'is not false', 'is null'));
		return [ "($a->[0]) $is", "($a->[1] $is)" ];
	}
	my @parts = map { boolean($depth - 1) } 1 .. 2 + int rand 2;
	my $word = pick('and', 'or');
	return [ join(" $word ", map { "($_->[0])" } @parts), '(' . join(" $word ", map { $_->[1] } @parts) . ')' ];
}

my ($handle, $file) = tempfile(SUFFIX => '.sql', UNLINK => 1);
print $handle <<'SQL';
SET client_min_messages = warning;
SET search_path = pg_catalog;
-- What condition.h says of a quotient and of large numbers, with whole numbers that PostgreSQL divides exactly
CREATE FUNCTION pg_temp.bounded(a numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN abs(a) < 1e100 THEN a END';
CREATE FUNCTION pg_temp.quotient(a numeric, b numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS
	$$SELECT pg_temp.bounded(CASE WHEN b <> 0 THEN sign(a) * sign(b) * div(abs(a) * 1e12 * 2 + abs(b), abs(b) * 2) * 1e-12 END)$$;
SELECT setseed(0.5);
CREATE TEMP TABLE fact AS
SELECT n, ROW('invoice',
	CASE WHEN random() < 0.9 THEN CASE WHEN random() < 0.1 THEN 1e25 + n WHEN random() < 0.2 THEN (random() * 10)::int ELSE round((random() * 20000)::numeric, (random() * 9)::int) END END,
	(ARRAY['EUR', 'USD'])[1 + n % 2], CASE WHEN random() < 0.8 THEN round((random() * 100)::numeric, 2) END,
	CASE WHEN random() < 0.5 THEN round((random() * 200 - 100)::numeric, 20) END, CASE WHEN random() < 0.8 THEN (random() * 90)::int END,
	(ARRAY['a', 'b', 'it''s', NULL, ''])[1 + (random() * 4)::int], (ARRAY['high', 'low', 'Z', NULL])[1 + (random() * 3)::int],
	CASE WHEN random() < 0.8 THEN (ARRAY['a', 'b', 'it''s'])[1:(random() * 3)::int] END,
	CASE WHEN random() < 0.8 THEN random() < 0.5 END, CASE WHEN random() < 0.8 THEN (random() * 40)::int END,
	CASE WHEN random() < 0.8 THEN round((random() * 10 - 3)::numeric, 8) END, 'ada', CASE WHEN random() < 0.8 THEN 'b' END)::billing.document_facts AS f
FROM generate_series(1, 120) n;
CREATE TEMP TABLE condition (n int, condition text, wrong bigint, unlike bigint, true_for bigint, null_for bigint);
SQL
for my $n (1 .. $count)
{
	my $pair = boolean(3);
	redo if length $pair->[0] > 1500;
	(my $quoted = $pair->[0]) =~ s/'/''/g;
	print $handle "INSERT INTO condition SELECT $n, '$quoted', count(*) FILTER (WHERE billed IS DISTINCT FROM asked),\n",
		"\tcount(*) FILTER (WHERE canonical IS DISTINCT FROM asked), count(*) FILTER (WHERE asked), count(*) FILTER (WHERE asked IS NULL)\n",
		"FROM (SELECT $pair->[1] AS asked, billing_internal.condition_holds(c, f) AS billed, billing_internal.condition_holds(t, f) AS canonical\n",
		"\tFROM fact, (SELECT '$quoted'::billing.condition AS c, ('$quoted'::billing.condition)::text::billing.condition AS t OFFSET 0) x) y;\n";
}

# The same as policies of an entity, fifty at a time: the first that holds
print $handle <<'SQL';
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin');
CREATE FUNCTION pg_temp.try_policies(of_first int, of_last int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	c record;
	set bytea;
	wrong bigint;
BEGIN
	FOR c IN SELECT x.n, x.condition FROM condition x WHERE x.n BETWEEN of_first AND of_last ORDER BY x.n LOOP
		PERFORM billing.set_approval_policy('acme', 'p' || c.n, 'invoice', c.condition, '[{"duty": "approver"}]', c.n, '2020-01-01');
	END LOOP;
	set := billing_internal.policy_set((SELECT entity_id FROM billing.legal_entity WHERE code = 'acme'), '2020-06-01');
	SELECT count(*) INTO wrong
	FROM fact
	WHERE (f).amount IS NOT NULL AND (of_first + billing_internal.first_policy(set, 'invoice', f)) IS DISTINCT FROM
		(SELECT min(x.n) FROM condition x WHERE x.n BETWEEN of_first AND of_last AND billing_internal.condition_holds(x.condition::billing.condition, f));
	PERFORM billing.end_approval_policy('acme', 'p' || x.n, '2020-01-01') FROM condition x WHERE x.n BETWEEN of_first AND of_last;
	RETURN wrong;
END $$;
\pset tuples_only on
\pset format unaligned
SELECT 'result|' || count(*) || '|' || coalesce(sum(wrong), 0) || '|' || coalesce(sum(unlike), 0) || '|' || (sum(true_for) > 1000) || '|' || (sum(null_for) > 1000) FROM condition;
SELECT 'wrong|' || condition FROM condition WHERE wrong + unlike > 0 LIMIT 3;
SQL
for (my $first = 1; $first <= $count; $first += 5)
{
	printf $handle "SELECT 'policies|%d|' || pg_temp.try_policies(%d, %d);\n", $first, $first, $first + 4;
}
close $handle;

my $out = `psql -Xq -v ON_ERROR_STOP=1 -f '$file' 2>&1`;
is($?, 0, 'all conditions were understood by both') or diag(substr $out, -3000);
like($out, qr/^result\|$count\|0\|0\|true\|true$/m, 'and are what PostgreSQL says, as written and in their canonical form; many are true, and many null')
	or diag(join "\n", grep { /^(result|wrong)/ } split /\n/, $out);
my @wrong = grep { /^policies\|\d+\|/ && !/\|0$/ } split /\n/, $out;
is("@wrong", '', 'a set of policies finds the first that holds');
is(scalar(grep { /^policies\|\d+\|0$/ } split /\n/, $out), int(($count + 4) / 5), 'each of them');
done_testing();
