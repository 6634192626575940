# Random streams of events, in random order and random batches, some rolled up and some not: measure() gives what the
# definitions in usage_oracle.py give, for all eight aggregations. The streams have voids, several months, ties, changes
# of the clock, large and fine numbers.
#
#   USAGE_SEED=n      repeats a run; the seed is printed
#   USAGE_STREAMS=n   how many streams, 150 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use FindBin;
use JSON::PP;
use Test::More;

my $seed    = $ENV{USAGE_SEED}    // 20240229;
my $streams = $ENV{USAGE_STREAMS} // 150;
my $batches = 4;
srand($seed);
note("seed $seed, $streams streams");

my @aggregations = qw(sum count max min latest unique_count time_weighted percentile);
# Where the clock changes at one, two or three o'clock, by half an hour, at midnight (twice, or never), and nowhere; and
# days about which it does. Samoa had no 30 December 2011.
my @places = (
	['Europe/Rome', 2026, 3, 29], ['Europe/Rome', 2026, 10, 25], ['America/New_York', 2026, 11, 1],
	['America/Havana', 2026, 11, 1], ['America/Havana', 2026, 3, 8], ['America/Sao_Paulo', 2018, 11, 4],
	['America/Sao_Paulo', 2019, 2, 17], ['Australia/Lord_Howe', 2026, 4, 5], ['Asia/Kolkata', 2024, 2, 29],
	['UTC', 2023, 2, 28], ['Pacific/Apia', 2011, 12, 30], ['Europe/London', 2026, 12, 31]);
my $hour = 3_600_000_000;
my $day  = 24 * $hour;

sub pick   { return $_[ int rand @_ ] }
sub chance { return rand() < $_[0] }
sub digits { return join '', map { int rand 10 } 1 .. $_[0] }

# Days since 1970 of a date (Fliegel and Van Flandern), and the date of them
sub days_of
{
	my ($y, $m, $d) = @_;
	my $a = int((14 - $m) / 12);
	$y += 4800 - $a;
	$m += 12 * $a - 3;
	return $d + int((153 * $m + 2) / 5) + 365 * $y + int($y / 4) - int($y / 100) + int($y / 400) - 32045 - 2440588;
}

sub date_of
{
	my @parts = gmtime($_[0] * 86400);
	return sprintf '%04d-%02d-%02d', $parts[5] + 1900, $parts[4] + 1, $parts[3];
}

sub value
{
	my $kind = rand;
	my $text =
		  $kind < 0.30 ? int rand 4
		: $kind < 0.60 ? int(rand 1000) . '.' . digits(1 + int rand 4)
		: $kind < 0.75 ? digits(1 + int rand 8) . '.' . digits(1 + int rand 12)
		: $kind < 0.85 ? '1' . digits(int rand 35)
		: $kind < 0.90 ? '0.' . ('0' x int rand 25) . '1'
		: $kind < 0.95 ? '99999999999999999' . pick('8', '9', '8.5', '9.999')
		: int rand 1_000_000;
	$text =~ s/^0+(?=\d)//;
	return (chance(0.2) ? '-' : '') . $text;
}

# ---- streams: events, some of them voids of others, in batches; a void comes with or after what it takes back ----

my $next_id = 1;

sub stream
{
	my ($zone, @about) = @{ pick(@places) };
	my $middle = days_of(@about);
	my $spread = pick(1, 3, 20, 60);
	my @values = map { value() } 1 .. 1 + int rand 12;
	my @events;
	for (1 .. pick(0, 1, 2, 3, 5, 10, 20, 21, 40))
	{
		my $at = ($middle - $spread + int rand(2 * $spread + 1)) * $day;
		my $kind = rand;
		$at =
			  $kind < 0.2 && @events ? pick(@events)->{at}
			: $kind < 0.5 ? $at + $hour / 2 * int rand 48
			: $kind < 0.6 ? $at + $hour / 2 * int(rand 48) + pick(-1, 1)
			: $at + int rand $day;
		push @events, { id => $next_id++, at => $at, value => pick(@values), name => pick('', 'ann', 'Ann', 'bob', "\x{e9}ve", '10'),
			corrects => undef, batch => int rand $batches };
	}
	for my $event (grep { chance(0.2) } @events)
	{
		my %void = (%$event, id => $next_id++, corrects => $event->{id});
		$void{batch} = $event->{batch} + int rand($batches - $event->{batch});
		push @events, \%void;
	}
	# the order of the ids is not the order in time
	my @ids = map { $_->{id} } @events;
	my %new;
	@new{@ids} = sort { rand() <=> 0.5 } @ids;
	for (@events)
	{
		$_->{id} = $new{ $_->{id} };
		$_->{corrects} = $new{ $_->{corrects} } if defined $_->{corrects};
	}
	return { zone => $zone, middle => $middle, spread => $spread, events => \@events };
}

my (@streams, @queries);
for my $number (0 .. $streams - 1)
{
	my $stream = stream();
	push @streams, $stream;
	for my $aggregation (@aggregations)
	{
		for (1 .. 3)
		{
			my $start = $stream->{middle} - int(rand(1.5 * $stream->{spread} + 2));
			push @queries, { stream => $number, aggregation => $aggregation, start => date_of($start),
				end => date_of($start + pick(0, 1, 1, 2, 7, 28, 31, 90)),
				percentile => pick(undef, '95', '50', '99.9', '0.001', '100', digits(2) . '.' . digits(6) . '1'),
				unit => pick(undef, 1, 7, 60, 3600, 86400), scale => pick(undef, undef, 0, 1, 4, -2),
				rounding => pick(undef, 'nearest', 'up', 'down') };
		}
	}
}

# ---- the oracle ----

my ($asked, $asked_path) = tempfile(SUFFIX => '.json', UNLINK => 1);
print $asked JSON::PP->new->ascii->encode({ streams => \@streams, queries => \@queries });
close $asked;
open my $oracle, '-|', "python3 $FindBin::Bin/usage_oracle.py < $asked_path" or die "python3: $!";
my @expected = map { chomp; (split /\|/, $_, 2)[1] } <$oracle>;
close $oracle;
is($?, 0, 'the oracle runs');
is(scalar @expected, scalar @queries, 'the oracle answers every query');

# ---- the database: batch by batch into roll-ups, the last batch stays a tail ----

sub copy_rows { return join('', map { join("\t", map { defined $_ ? $_ : '\N' } @$_) . "\n" } @_) . "\\.\n" }

my ($script, $path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
binmode $script, ':utf8';
print $script "SET client_encoding = 'UTF8';\n";
print $script <<'SQL';
CREATE TEMP TABLE event (stream int, zone text, batch int, event_id bigint, at timestamptz, day date, value numeric, name text, corrects bigint, weight int);
CREATE TEMP TABLE loaded (stream int, zone text, batch int, event_id bigint, microseconds bigint, value numeric, name text, corrects bigint);
COPY loaded FROM STDIN;
SQL
my @rows;
for my $number (0 .. $#streams)
{
	push @rows, map { [ $number, $streams[$number]{zone}, @$_{qw(batch id at value name corrects)} ] } @{ $streams[$number]{events} };
}
print $script copy_rows(sort { rand() <=> 0.5 } @rows);
print $script "CREATE TEMP TABLE query (id int, stream int, aggregation text, period_start date, period_end date, percentile numeric, unit int, scale int, rounding text);\n";
print $script "COPY query FROM STDIN;\n";
print $script copy_rows(map { [ $_, @{ $queries[$_] }{qw(stream aggregation start end percentile unit scale rounding)} ] } 0 .. $#queries);
my $tail = $batches - 1;
print $script <<"SQL";
INSERT INTO event
SELECT stream, zone, batch, event_id, at, (at AT TIME ZONE zone)::date, value, name, corrects, CASE WHEN corrects IS NULL THEN 1 ELSE -1 END
FROM loaded, LATERAL (SELECT 'epoch'::timestamptz + microseconds * interval '1 microsecond') t (at);
CREATE TEMP TABLE cell (kind text, stream int, month date, sample text, days billing.usage_days, PRIMARY KEY (kind, stream, month, sample));
-- what a batch adds to sums and to counted samples
CREATE FUNCTION pg_temp.added(b int) RETURNS TABLE (kind text, stream int, month date, sample text, days billing.usage_days) LANGUAGE sql AS \$\$
	SELECT k.kind, e.stream, date_trunc('month', e.day)::date, k.sample, billing_internal.usage_days(e.day, e.weight, k.quantity)
	FROM event e, LATERAL (VALUES ('sum', '', e.weight * e.value), ('number', trim_scale(e.value)::text, 0), ('name', e.name, NULL)) k (kind, sample, quantity)
	WHERE e.batch = b
	GROUP BY 1, 2, 3, 4;
\$\$;
-- the days that a batch touches, recomputed from all that came until then
CREATE FUNCTION pg_temp.recomputed(b int) RETURNS TABLE (kind text, stream int, month date, sample text, days billing.usage_days) LANGUAGE sql AS \$\$
	SELECT 'level', e.stream, date_trunc('month', e.day)::date, '', billing_internal.usage_levels(e.day, e.at, e.event_id,
		CASE WHEN e.weight = 1 AND NOT EXISTS (SELECT FROM event v WHERE v.stream = e.stream AND v.corrects = e.event_id AND v.batch <= b) THEN e.value END, e.zone)
	FROM event e
	WHERE e.batch <= b AND (e.stream, e.day) IN (SELECT t.stream, t.day FROM event t WHERE t.batch = b)
	GROUP BY 2, 3;
\$\$;
SQL
for my $batch (0 .. $tail - 1)
{
	print $script "INSERT INTO cell AS c SELECT * FROM pg_temp.added($batch) ON CONFLICT (kind, stream, month, sample)"
		. " DO UPDATE SET days = billing_internal.usage_days_add(c.days, excluded.days);\n";
	print $script "INSERT INTO cell AS c SELECT * FROM pg_temp.recomputed($batch) ON CONFLICT (kind, stream, month, sample)"
		. " DO UPDATE SET days = billing_internal.usage_days_replace(c.days, excluded.days);\n";
}
print $script <<"SQL";
CREATE TEMP TABLE everything AS
SELECT *
FROM (SELECT *, false AS recomputed FROM cell
	UNION ALL SELECT *, false FROM pg_temp.added($tail)
	UNION ALL SELECT *, true FROM pg_temp.recomputed($tail)) c
ORDER BY random();
SELECT q.id, (m).quantity, (m).events
FROM query q, LATERAL (SELECT billing_internal.measure(c.days, c.sample, c.recomputed, q.aggregation, q.period_start, q.period_end,
		(SELECT min(zone) FROM event e WHERE e.stream = q.stream), q.percentile, q.unit, q.scale, q.rounding) AS m
	FROM everything c
	WHERE c.stream = q.stream AND c.kind = CASE WHEN q.aggregation IN ('sum', 'count') THEN 'sum' WHEN q.aggregation = 'unique_count' THEN 'name'
		WHEN q.aggregation IN ('latest', 'time_weighted') THEN 'level' ELSE 'number' END) x
ORDER BY q.id;
-- rolled up at once and in batches are the same; every value is what its text says
SELECT 'rebuilt', count(*) FROM (
	SELECT kind, stream, month, sample, days FROM cell WHERE kind <> 'level' AND days::text <> '{}'
	EXCEPT SELECT k.kind, e.stream, date_trunc('month', e.day)::date, k.sample, billing_internal.usage_days(e.day, e.weight, k.quantity)
	FROM event e, LATERAL (VALUES ('sum', '', e.weight * e.value), ('number', trim_scale(e.value)::text, 0), ('name', e.name, NULL)) k (kind, sample, quantity)
	WHERE e.batch < $tail GROUP BY 1, 2, 3, 4) d;
SELECT 'relevelled', count(*) FROM (
	SELECT stream, month, billing_internal.usage_days_replace('{}', days) FROM cell WHERE kind = 'level'
	EXCEPT SELECT e.stream, date_trunc('month', e.day)::date, billing_internal.usage_days_replace('{}', billing_internal.usage_levels(e.day, e.at, e.event_id,
		CASE WHEN e.weight = 1 AND NOT EXISTS (SELECT FROM event v WHERE v.stream = e.stream AND v.corrects = e.event_id AND v.batch < $tail) THEN e.value END, e.zone))
	FROM event e WHERE e.batch < $tail GROUP BY 1, 2) d;
SELECT 'text', count(*) FROM everything WHERE days::text::billing.usage_days OPERATOR(billing.<>) days OR days::text::billing.usage_days::text <> days::text;
SQL
close $script;

my (%wrong, %asked_for, %other);
my ($answers, $shown) = (0, 0);
$wrong{$_} = 0 for @aggregations;
open my $psql, '-|', 'psql', '-XqAt', '-F', '|', '-v', 'ON_ERROR_STOP=1', '-f', $path or die "psql: $!";
while (my $line = <$psql>)
{
	chomp $line;
	my ($id, $got) = split /\|/, $line, 2;
	if ($id !~ /^\d+$/)
	{
		$other{$id} = $got;
		next;
	}
	my $query = $queries[$id];
	$answers++;
	$asked_for{ $query->{aggregation} }++ if $expected[$id] !~ /^0\|/;
	next if $got eq $expected[$id];
	$wrong{ $query->{aggregation} }++;
	diag(JSON::PP->new->canonical->encode($query), " in $streams[$query->{stream}]{zone}: got $got, expected $expected[$id]") if $shown++ < 10;
}
close $psql;
is($?, 0, 'the statements run');
is($answers, scalar @queries, 'every query has an answer');
is($wrong{$_}, 0, "$_ is what the definition says") for @aggregations;
cmp_ok($asked_for{$_}, '>', $streams / 4, "$_ is more than 0 often enough") for @aggregations;
is($other{rebuilt}, 0, 'cells rolled up in batches equal cells made at once');
is($other{relevelled}, 0, 'also those that keep a level');
is($other{text}, 0, 'every cell is what its text says');
done_testing();
