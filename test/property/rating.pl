# rate(), rate_exact(), rate_breakdown() and rate_events() against the definitions of docs/rating.md, worked out here
# with rational numbers: random tariffs of every model and modifier, random quantities from 1e-30 to 1e40.
#
#   RATING_SEED=n     repeats a run; the seed is printed
#   RATING_CASES=n    how many tariffs, 1000 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Math::BigInt;
use Math::BigRat;
use Test::More;

my $seed  = $ENV{RATING_SEED}  // 20240229;
my $cases = $ENV{RATING_CASES} // 1000;
srand($seed);
note("seed $seed, $cases tariffs");

my @models = qw(per_unit graduated volume stairstep package percentage graduated_percentage dynamic matrix);
my $zero   = Math::BigRat->new(0);

sub rat    { return Math::BigRat->new($_[0]) }
sub pick   { return $_[ int rand @_ ] }
sub chance { return rand() < $_[0] }
sub least  { return $_[0] < $_[1] ? $_[0] : $_[1] }
sub most   { return $_[0] > $_[1] ? $_[0] : $_[1] }

# ---- random tariffs: a hash that is both written as JSON and rated by the oracle; numbers are strings ----

sub digits { return join '', map { int rand 10 } 1 .. $_[0] }

# A number of at most 18 digits and 12 decimals; mostly small, so that most tariffs fit integers
sub number
{
	my (%is) = @_;
	my $decimals = chance(0.3) ? 0 : chance(0.8) ? 1 + int rand 4 : 1 + int rand 12;
	my $whole    = chance(0.05) ? 1 + int rand(18 - $decimals) : 1 + int rand least(4, 18 - $decimals);
	my $text     = digits($whole);
	$text =~ s/^0+(?=\d)//;
	$text .= '.' . digits($decimals) if $decimals;
	$text = '-' . $text if !$is{positive} && !$is{unsigned} && chance(0.15);
	return number(%is) if $is{positive} && rat($text) == 0;
	return $text;
}

sub tiers
{
	my ($model) = @_;
	my %seen;
	my $count = chance(0.1) ? 20 + int rand 40 : 1 + int rand 6;
	my @bounds = sort { rat($a) <=> rat($b) }
		grep { !$seen{ rat($_)->bstr }++ } map { number(positive => 1) } 2 .. $count;
	my @tiers;
	for my $up_to (@bounds, undef)
	{
		my %tier = (up_to => $up_to);
		my $price = $model eq 'graduated_percentage' ? 'rate' : 'unit';
		$tier{flat}   = number() if $model eq 'stairstep' || chance(0.4);
		$tier{$price} = number() if $model ne 'stairstep' && (!defined $tier{flat} || chance(0.8));
		$tier{block}  = number(positive => 1) if $model =~ /^(graduated|volume)$/ && defined $tier{unit} && chance(0.15);
		push @tiers, \%tier;
	}
	return \@tiers;
}

sub tariff
{
	my (%not) = @_;
	my $model = pick(grep { !$not{$_} } @models);
	my %t = (model => $model);

	$t{unit} = number() if $model eq 'per_unit';
	$t{tiers} = tiers($model) if $model =~ /graduated|volume|stairstep/;
	if ($model eq 'package')
	{
		$t{package_size}  = number(positive => 1);
		$t{package_price} = number();
	}
	if ($model eq 'percentage')
	{
		$t{rate}  = number();
		$t{fixed} = number() if chance(0.6);
		if (chance(0.4))
		{
			my ($low, $high) = sort { rat($a) <=> rat($b) } number(unsigned => 1), number(unsigned => 1);
			$t{event_min} = $low if chance(0.7);
			$t{event_max} = $high if chance(0.7);
		}
		$t{free_events} = int rand 5
			if (defined $t{event_min} || defined $t{event_max} || rat($t{fixed} // 0) != 0) && chance(0.3);
	}
	if ($model eq 'matrix')
	{
		$t{dimensions} = ['region', 'size'];
		my @cells = ({ region => 'eu', size => 'xl' }, { region => 'eu' }, { size => 's' }, { region => "\x{fc}ber\"" });
		$t{cells} = [ map { { match => $_, tariff => tariff(matrix => 1) } } grep { chance(0.7) } @cells ];
		$t{cells} = [ { match => { size => '3' }, tariff => tariff(matrix => 1) } ] unless @{ $t{cells} };
		$t{default} = tariff(matrix => 1);
	}
	$t{free_units}  = number(unsigned => 1) if chance(0.2);
	$t{free_amount} = number(unsigned => 1) if chance(0.2);
	my ($low, $high) = sort { rat($a) <=> rat($b) } number(unsigned => 1), number(unsigned => 1);
	$t{minimum} = $low  if chance(0.2);
	$t{maximum} = $high if chance(0.2);
	$t{zero_usage} = pick('none', $t{tiers} ? 'first_tier' : (), $model eq 'package' ? 'one_package' : ())
		if chance(0.4);
	return \%t;
}

# Write it, in any order of keys, numbers as they are or in quotes
sub json
{
	my ($value, $key) = @_;
	return 'null' unless defined $value;
	if (ref $value eq 'HASH')
	{
		return '{' . join(pick(',', ' , '),
			map { string($_) . ':' . json($value->{$_}, $_) } sort { rand() <=> 0.5 } keys %$value) . '}';
	}
	return '[' . join(',', map { json($_) } @$value) . ']' if ref $value eq 'ARRAY';
	return $value if defined $key && $value =~ /^-?\d+(\.\d+)?$/ && $key !~ /region|size$/ && chance(0.5);
	return $value if defined $key && $key eq 'package_size';
	return string($value);
}

sub string
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([^\x20-\x7e])/sprintf '\u%04x', ord $1/ge;
	return '"' . $text . '"';
}

# A quantity: zero, a bound, next to a bound, plain, very fine, very large
sub quantity
{
	my ($t, $signed) = @_;
	my @bounds = grep { defined } map { $_->{up_to} } @{ $t->{tiers} // [] };
	my $kind = rand();
	my $text =
		  $kind < 0.10 ? '0'
		: $kind < 0.35 && @bounds ? pick(@bounds)
		: $kind < 0.50 && @bounds ? (rat(pick(@bounds)) + rat(pick('0.5', '-0.001', '0.0000000000001', '1')))->numify_exact
		: $kind < 0.60 ? number(unsigned => 1)
		: $kind < 0.70 ? digits(1 + int rand 6) . '.' . digits(1 + int rand 20)
		: $kind < 0.75 ? '0.' . ('0' x int rand 29) . '1'
		: $kind < 0.80 ? '1' . digits(int rand 40)
		: digits(1 + int rand 6);
	$text = '0' if rat($text) < 0;
	$text = '-' . $text if $signed && chance(0.3);
	return $text;
}

# All these numbers are decimal fractions
sub Math::BigRat::numify_exact
{
	my ($value) = @_;
	my $scaled = $value * Math::BigRat->new('1e30');
	my $text = $scaled->numerator->copy->babs->bstr;
	$text = ('0' x (31 - length $text)) . $text if length $text < 31;
	substr($text, -30, 0) = '.';
	return ($value < 0 ? '-' : '') . $text;
}

# ---- the oracle ----

sub ceiling { return rat(-((-$_[0])->bfloor)) }

# What of a tier is charged for a part of the quantity
sub tier_amount
{
	my ($tier, $part) = @_;
	my $unit = defined $tier->{rate} ? rat($tier->{rate}) / 100 : rat($tier->{unit} // 0);
	my $count = defined $tier->{block} ? ceiling($part / rat($tier->{block})) : $part;
	return $count * $unit + rat($tier->{flat} // 0);
}

# The model's amount of a quantity, without prices per event; undef where it has none
sub model_amount
{
	my ($t, $q) = @_;
	my $model = $t->{model};
	my $usage = $t->{zero_usage} // 'none';

	return $q if $model eq 'dynamic';
	return $q * rat($t->{unit}) if $model eq 'per_unit';
	return $q * rat($t->{rate}) / 100 if $model eq 'percentage';
	return undef if $q < 0;
	if ($q == 0)
	{
		return rat($t->{tiers}[0]{flat} // 0) if $usage eq 'first_tier';
		return rat($t->{package_price}) if $usage eq 'one_package';
		return $zero;
	}
	return ceiling($q / rat($t->{package_size})) * rat($t->{package_price}) if $model eq 'package';
	my ($sum, $lower) = ($zero, $zero);
	for my $tier (@{ $t->{tiers} })
	{
		my $upper = defined $tier->{up_to} ? rat($tier->{up_to}) : undef;
		my $holds = !defined $upper || $q <= $upper;
		if ($model eq 'stairstep') { return rat($tier->{flat}) if $holds }
		elsif ($model eq 'volume') { return tier_amount($tier, $q) if $holds }
		else
		{
			$sum += tier_amount($tier, ($holds ? $q : $upper) - $lower);
			return $sum if $holds;
			$lower = $upper;
		}
	}
	die 'no tier holds it';
}

sub event_bound
{
	my ($t, $amount) = @_;
	$amount = most($amount, rat($t->{event_min})) if defined $t->{event_min};
	$amount = least($amount, rat($t->{event_max})) if defined $t->{event_max};
	return $amount;
}

sub free_of { my ($value, $free) = @_; return $value <= 0 ? $value : most($value - rat($free // 0), $zero) }

sub limits
{
	my ($t, $amount) = @_;
	$amount = free_of($amount, $t->{free_amount});
	$amount = most($amount, rat($t->{minimum})) if defined $t->{minimum};
	$amount = least($amount, rat($t->{maximum})) if defined $t->{maximum};
	return $amount;
}

# The amount, or undef where it is refused
sub oracle
{
	my ($t, $q, $events, $dimensions) = @_;
	$q = rat($q);
	$events //= $q == 0 ? 0 : 1;
	$q = free_of($q, $t->{free_units});

	my $amount;
	if ($t->{model} eq 'matrix')
	{
		my ($cell) = grep {
			my $match = $_->{match};
			!grep { ($dimensions->{$_} // '') ne $match->{$_} } keys %$match
		} @{ $t->{cells} };
		$amount = oracle($cell ? $cell->{tariff} : $t->{default}, $q->numify_exact, $events, {});
		return undef unless defined $amount;
		return limits($t, $amount);
	}
	my $bounded = defined $t->{event_min} || defined $t->{event_max};
	return undef if $bounded && ($q < 0 || $events > 1 || ($events == 0 && $q != 0));
	$amount = model_amount($t, $q);
	return undef unless defined $amount;
	my $paid = most($events - ($t->{free_events} // 0), 0);
	$amount += rat($t->{fixed} // 0) * $paid;
	$amount = event_bound($t, $amount) if $bounded && $paid > 0;
	return limits($t, $amount);
}

# A period with bounds on events, event by event
sub events_oracle
{
	my ($t, @quantities) = @_;
	my ($sum, $free, $n) = ($zero, rat($t->{free_units} // 0), 0);
	for my $q (map { rat($_) } @quantities)
	{
		my $used = least($q, $free);
		my $amount = ($q - $used) * rat($t->{rate}) / 100;
		$free -= $used;
		$amount = event_bound($t, $amount + rat($t->{fixed} // 0)) if ++$n > ($t->{free_events} // 0);
		$sum += $amount;
	}
	return limits($t, $sum);
}

# ---- one run of all cases ----

my ($file, $script) = tempfile(SUFFIX => '.sql', UNLINK => 1);
binmode $file, ':utf8';
my (@cases, @periods);

for (1 .. $cases)
{
	my $t = tariff();
	my $linear = $t->{model} =~ /^(per_unit|dynamic)$/ || ($t->{model} eq 'percentage'
		&& !defined $t->{event_min} && !defined $t->{event_max});
	for (1 .. 4)
	{
		my %case = (tariff => $t, json => json($t), quantity => quantity($t, $linear));
		$case{events} = pick(0, 1, 2, 5, 1_000_000_007) if chance(0.3);
		$case{dimensions} = pick({}, { region => 'eu' }, { region => 'eu', size => 'xl' }, { size => 's' }, { size => '3' },
			{ region => "\x{fc}ber\"" }, { region => 'eux', size => 'x' }) if $t->{model} eq 'matrix' && chance(0.7);
		$case{expected} = oracle(@case{qw(tariff quantity events)}, $case{dimensions} // {});
		push @cases, \%case if defined $case{expected};
	}
}
for (1 .. $cases / 10)
{
	my $t = tariff(map { $_ => 1 } grep { $_ ne 'percentage' } @models);
	$t->{event_min} //= '0.5' unless defined $t->{event_max};
	my @quantities = map { number(unsigned => 1) } 1 .. 1 + int rand 8;
	push @periods, { json => json($t), quantities => \@quantities, expected => events_oracle($t, @quantities) };
}

sub copy_text { my ($text) = @_; return '\N' unless defined $text; $text =~ s/\\/\\\\/g; return $text }

print $file "SET client_encoding = 'UTF8';\n";
print $file "CREATE TEMP TABLE test_case (id int, tariff text, quantity numeric, events bigint, dimensions jsonb);\n";
print $file "COPY test_case FROM STDIN;\n";
print $file join("\t", $_, copy_text($cases[$_]{json}), $cases[$_]{quantity}, $cases[$_]{events} // '\N',
	copy_text($cases[$_]{dimensions} ? json($cases[$_]{dimensions}) : undef)), "\n" for 0 .. $#cases;
print $file "\\.\n";
print $file "CREATE TEMP TABLE test_period (id int, tariff text, quantities numeric[]);\nCOPY test_period FROM STDIN;\n";
print $file join("\t", $_, copy_text($periods[$_]{json}), '{' . join(',', @{ $periods[$_]{quantities} }) . '}'), "\n"
	for 0 .. $#periods;
print $file "\\.\n";
print $file <<'SQL';
SELECT 'case', id,
    CASE WHEN dimensions IS NULL THEN billing.rate(t, quantity, events)
        ELSE billing.rate(t, quantity, dimensions, events) END,
    CASE WHEN dimensions IS NULL THEN billing_internal.rate_exact(t, quantity, events)
        ELSE billing.rate(t, quantity, dimensions, events) END,
    (SELECT trim_scale(sum(amount)) FROM billing.rate_breakdown(t, quantity, coalesce(dimensions, '{}'), events)),
    t::text::billing.tariff OPERATOR(billing.=) t
        AND t::jsonb::billing.tariff OPERATOR(billing.=) t
        AND t::text::billing.tariff::text = t::text
        AND billing_internal.tariff_hash(t::text::billing.tariff) = billing_internal.tariff_hash(t)
FROM test_case, LATERAL (SELECT tariff::billing.tariff AS t OFFSET 0) compiled
ORDER BY id;
SELECT 'period', p.id, billing.rate_events(p.tariff::billing.tariff, q ORDER BY n)
FROM test_period p, LATERAL unnest(p.quantities) WITH ORDINALITY u (q, n)
GROUP BY p.id, p.tariff
ORDER BY p.id;
SQL
close $file;

my (%wrong, %seen);
$wrong{$_} = 0 for qw(rate rate_exact rate_breakdown canonical rate_events);
my $shown = 0;

sub wrong
{
	my ($kind, $case, $got) = @_;
	$wrong{$kind}++;
	diag("$kind: $case->{json} quantity ", $case->{quantity} // "@{$case->{quantities}}", ' events ',
		$case->{events} // 'null', ' dimensions ', $case->{dimensions} ? json($case->{dimensions}) : 'null',
		": got $got, expected ", $case->{expected}->bstr) if $shown++ < 10;
}

open my $psql, '-|', 'psql', '-XqAt', '-F', '|', '-v', 'ON_ERROR_STOP=1', '-f', $script or die "psql: $!";
while (my $line = <$psql>)
{
	chomp $line;
	my ($kind, $id, $rate, $exact, $sum, $canonical) = split /\|/, $line;
	if ($kind eq 'period')
	{
		$seen{period}++;
		wrong('rate_events', $periods[$id], $rate) if rat($rate) != $periods[$id]{expected};
		next;
	}
	$seen{case}++;
	my $case = $cases[$id];
	wrong('rate', $case, $rate) if rat($rate) != $case->{expected} || $rate =~ /\.\d*0$/;
	wrong('rate_exact', $case, $exact) if $exact ne $rate;
	wrong('rate_breakdown', $case, $sum) if $sum ne $rate;
	wrong('canonical', $case, $canonical) if $canonical ne 't';
}
close $psql;
is($?, 0, 'the statements run');
is($seen{case}, scalar @cases, 'every case has a result');
is($seen{period}, scalar @periods, 'every period has a result');
is($wrong{rate}, 0, 'rate() is what the definitions say, without trailing zeros');
is($wrong{rate_exact}, 0, 'rate_exact() gives the same value and scale');
is($wrong{rate_breakdown}, 0, 'the rows of rate_breakdown() sum to it');
is($wrong{canonical}, 0, 'the canonical text and jsonb give the same tariff, text and hash');
is($wrong{rate_events}, 0, 'rate_events() is what the definitions say, event by event');
done_testing();
