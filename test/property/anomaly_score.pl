# Random amounts and histories: billing.anomaly_score() gives what the definition in anomaly_oracle.py gives, to the last
# decimal, and the amount is held by a bound if and only if its score is beyond it.
#
#   SCORE_SEED=n    repeats a run; the seed is printed
#   SCORE_CASES=n   how many cases, 3000 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use FindBin;
use Test::More;

my $seed  = $ENV{SCORE_SEED}  // 19930101;
my $cases = $ENV{SCORE_CASES} // 3000;
srand($seed);
note("seed $seed, $cases cases");

sub pick   { return $_[ int rand @_ ] }
sub digits { return join '', map { int rand 10 } 1 .. $_[0] }

# A number with so many decimals at most
sub near
{
	my ($centre, $spread, $decimals) = @_;
	return sprintf "%.${decimals}f", $centre + (rand() - 0.5) * $spread;
}

sub history
{
	my $count    = pick(0, 1, 2, 3, 3, 4, 5, 6, 7, 12, 12, 13, 40, 100);
	my $decimals = pick(0, 2, 2, 2, 3, 12);
	my $centre   = pick(0, 1, 10, 120, 120, 9999.99, 1e6, -50);
	my $spread   = pick(0, 0, 0.02, 1, $centre / 50, $centre);
	my @values   = map { near($centre, $spread, $decimals) } 1 .. $count;
	# a few odd ones among them, and large and fine ones
	$values[ int rand $count ] = near($centre * 10, 5, $decimals) for 1 .. $count / 10;
	@values = map { digits(1 + int rand 26) . '.' . digits(1 + int rand 12) } 1 .. $count if rand() < 0.1;
	return @values;
}

my @cases;
for (1 .. $cases)
{
	my @history = history();
	my $about   = @history ? pick(@history) : '1';
	my $amount =
		  rand() < 0.2 ? $about
		: rand() < 0.3 ? (rand() < 0.5 ? '-' : '') . digits(1 + int rand 20) . '.' . digits(1 + int rand 12)
		: near(substr($about, 0, 12), 10**int(rand 5), pick(0, 2, 2, 4));
	push @cases, [ $amount, @history ];
}

my ($asked, $path) = tempfile(UNLINK => 1);
print $asked join('', map { my ($amount, @history) = @$_; "$amount|@history\n" } @cases);
close $asked;
open my $oracle, '-|', "python3 $FindBin::Bin/anomaly_oracle.py < $path" or die "python3: $!";
chomp(my @expected = <$oracle>);
close $oracle;
is($?, 0, 'the oracle runs');
is(scalar @expected, $cases, 'the oracle answers every case');

my ($script, $script_path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
print $script "CREATE TEMP TABLE asked (id int, amount numeric, history numeric[], bound numeric);\nCOPY asked FROM STDIN;\n";
for my $id (0 .. $#cases)
{
	my ($amount, @history) = @{ $cases[$id] };
	# the score itself is within a bound of its size, and beyond the next smaller one
	my $bound = $expected[$id] =~ /^-?(.*[1-9].*)$/ ? $1 : '0.5';
	print $script join("\t", $id, $amount, '{' . join(',', @history) . '}', $bound), "\n";
}
print $script <<'SQL';
\.
CREATE FUNCTION pg_temp.held(amount numeric, history numeric[], bound numeric) RETURNS boolean LANGUAGE sql AS $$
	SELECT coalesce(billing_internal.invoice_problems('invoice', amount, 'EUR', 1, 0, NULL, false, 'a', 'b', NULL, 'c', false, false, NULL,
		NULL, NULL, bound, history, false)::text ~ 'amount_anomaly', false)
$$;
SELECT id, billing.anomaly_score(amount, history), pg_temp.held(amount, history, bound), pg_temp.held(amount, history, bound - 0.0001)
FROM asked ORDER BY id;
-- the order does not matter, nor do nulls
SELECT 'shuffled', count(*) FROM asked WHERE billing.anomaly_score(amount, history) IS DISTINCT FROM
	billing.anomaly_score(amount, (SELECT array_agg(v ORDER BY random()) || NULL::numeric FROM unnest(history) v));
SQL
close $script;

my ($answers, $wrong, $held, $passed, $above, $below, $shown) = (0) x 7;
my %other;
open my $psql, '-|', 'psql', '-XqAt', '-F', '|', '-v', 'ON_ERROR_STOP=1', '-f', $script_path or die "psql: $!";
while (my $line = <$psql>)
{
	chomp $line;
	my ($id, $got, $at, $beyond) = split /\|/, $line, -1;
	if ($id !~ /^\d+$/)
	{
		$other{$id} = $got;
		next;
	}
	$answers++;
	my $odd = $expected[$id] =~ /[1-9]/;
	$above++ if $odd && $got !~ /^-/;
	$below++ if $odd && $got =~ /^-/;
	$held++ if $at eq 't';
	$passed++ if $odd && $beyond ne 't';
	next if $got eq $expected[$id];
	$wrong++;
	diag("@{ $cases[$id] }: got $got, expected $expected[$id]") if $shown++ < 10;
}
close $psql;
is($?, 0, 'the statements run');
is($answers, $cases, 'every case has an answer');
is($wrong, 0, 'every score is what the definition says');
is($held, 0, 'none is held by a bound of its size');
is($passed, 0, 'each is held by a smaller bound');
cmp_ok($_, '>', $cases / 10, 'scores above and below are frequent enough') for $above, $below;
is($other{shuffled}, 0, 'neither order nor nulls matter');
done_testing();
