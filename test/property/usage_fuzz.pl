# Damaged usage days, as text and in the binary format: each is accepted as a value that works, or refused with ZB001 or
# ZB012 (class 22 for what is no text), and the server lives on.
#
#   USAGE_SEED=n   repeats a run; the seed is printed
#   USAGE_FUZZ=n   how many damaged texts, 10000 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Test::More;

my $seed  = $ENV{USAGE_SEED} // 20240229;
my $count = $ENV{USAGE_FUZZ} // 10000;
srand($seed);
note("seed $seed, $count texts");

my @valid = (
	'{}',
	'{"2026-07-01":{"events":3,"quantity":"12.5"}}',
	'{"2026-07-01":{"events":-3,"quantity":-12.5},"2026-07-02":{"quantity":"999999999999999999","events":0}}',
	'{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T09:00:00.25Z","level":"2"}}',
	'{"1999-12-31":{"events":1,"quantity":"123456789012345678901234567890.123456789"},"2024-02-29":{"level":0.5,"events":1,'
		. '"quantity":"1","last_at":"2024-02-29T23:59:59.999999Z","first_at":"2024-02-28T23:00:00Z"},"2999-12-31":{"events":7,"quantity":"0"}}',
);
my @pieces = ('{', '}', '[', ']', ',', ':', '"', '\\', '\u0000', 'null', '-', '.', 'e', '0', '9', '1e9', '00', '-0', '9' x 19, '9' x 101,
	'0.' . '0' x 99 . '1', 'NaN', '"NaN"', 'Infinity', '"events":', '"quantity":"1",', '"level":1,', '"2026-07-01":', '{"2026-07-01":{',
	'2026-02-30', '0000-00-00', '9999-99-99', 'T24:00:00Z', 'T23:59:60Z', '.1234567Z', "\t", "\x01", "\xc3\xa9", ' ', '7' x 1000);

sub pick { return $_[ int rand @_ ] }

sub damage
{
	my ($text) = @_;
	for (1 .. 1 + int rand 3)
	{
		my $at = int rand(1 + length $text);
		my $what = rand;
		if ($what < 0.25) { substr($text, $at, 1 + int rand 3) = '' if $at < length $text }
		elsif ($what < 0.50) { substr($text, $at, 0) = pick(@pieces) }
		elsif ($what < 0.70) { substr($text, $at, 1) = pick('0' .. '9') if $at < length $text }
		elsif ($what < 0.80) { substr($text, $at, 1) = chr(32 + int rand 95) if $at < length $text }
		elsif ($what < 0.88) { $text = substr($text, 0, $at) }
		elsif ($what < 0.94)
		{
			my $other = pick(@valid);
			substr($text, $at, 0) = substr($other, int rand length $other, 1 + int rand 40);
		}
		else { substr($text, $at, 0) = substr($text, int rand($at + 1), 1 + int rand 60) }
	}
	return $text;
}

sub copy_text
{
	my ($text) = @_;
	my %escape = ("\\" => "\\\\", "\t" => "\\t", "\n" => "\\n", "\r" => "\\r");
	$text =~ s/([\\\t\n\r])/$escape{$1}/g;
	return $text;
}

sub run
{
	my ($text, @options) = @_;
	my ($file, $path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
	binmode $file;
	print $file $text;
	close $file;
	open my $psql, '-|', "psql -XqAt @options -f $path 2>&1" or die "psql: $!";
	my @lines = <$psql>;
	close $psql;
	chomp @lines;
	return ($?, @lines);
}

sub show { my @bad = @_; return join "\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ] }

# ---- text; what is accepted goes through everything that takes days ----

# pieces may cut a character of several bytes in two: what is no text is not for the type to judge
my @texts = grep { my $copy = $_; utf8::decode($copy) } map { damage(pick(@valid)) } 1 .. $count;
my $texts = join '', map { copy_text($_) . "\n" } @texts;
my ($status, @states) = run(<<"SQL", '-v', 'ON_ERROR_STOP=1');
SET client_encoding = 'UTF8';
CREATE TEMP TABLE damaged (id serial, days text);
COPY damaged (days) FROM STDIN;
$texts\\.
CREATE FUNCTION pg_temp.state_of(given text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	d billing.usage_days;
	m text;
BEGIN
	BEGIN
		d := given::billing.usage_days;
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END;
	IF d::text::billing.usage_days OPERATOR(billing.<>) d OR d::text::billing.usage_days::text <> d::text THEN
		RETURN 'changed by its own text';
	END IF;
	IF (SELECT count(*) FROM billing_internal.usage_days_rows(d)) <> (SELECT count(*) FROM jsonb_object_keys(d::text::jsonb)) THEN
		RETURN 'other days than its text';
	END IF;
	IF billing_internal.usage_days_replace(d, d) OPERATOR(billing.<>) billing_internal.usage_days_replace('{}', d) THEN
		RETURN 'not replaced by itself';
	END IF;
	FOREACH m IN ARRAY '{sum,count,max,min,latest,unique_count,time_weighted,percentile}'::text[] LOOP
		PERFORM billing_internal.measure(d, '7', false, m, '1900-01-01', '2999-12-31', 'Europe/Rome', 95, 3600, 2, 'up');
	END LOOP;
	PERFORM billing_internal.usage_days_add(d, d);
	RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
	-- levels have no sum, and twice the largest number is too large
	RETURN CASE WHEN SQLSTATE IN ('ZB012', 'ZB013') THEN 'valid' ELSE 'using it raised ' || SQLSTATE END;
END \$\$;
SELECT pg_temp.state_of(days) FROM damaged;
SQL
my @bad = grep { !/^(valid|ZB001|ZB012)$/ } @states;
is($status, 0, 'the server lives');
is(scalar @states, scalar @texts, 'every damaged text has an outcome');
is(scalar @bad, 0, 'every outcome is a value that works, ZB001 or ZB012') or diag(show(@bad));
cmp_ok(scalar(grep { $_ eq 'ZB001' } @states), '>', $count / 2, 'most are refused');
cmp_ok(scalar(grep { $_ eq 'valid' } @states), '>', $count / 50, 'some are accepted');

# ---- the binary format: a COPY each ----

my $commands = "CREATE TEMP TABLE binary_days (days billing.usage_days);\n\\set VERBOSITY sqlstate\n";
for (1 .. $count / 20)
{
	my $message = pick("\x01", "\x01", "\x01", "\x00", "\x02", "\xff", '') . damage(pick(@valid));
	substr($message, int rand length $message, 1) = chr int rand 256 if length $message && rand() < 0.5;
	my ($file, $path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
	binmode $file;
	print $file "PGCOPY\n\xff\r\n\0", pack('N N n N', 0, 0, 1, length $message), $message, pack('n', 0xffff);
	close $file;
	$commands .= "\\copy binary_days FROM '$path' (FORMAT binary)\n";
}
# and the valid ones go through it unharmed
my ($kept, $kept_path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
close $kept;
$commands .= "CREATE TEMP TABLE valid_days (days billing.usage_days);\nCREATE TEMP TABLE again (days billing.usage_days);\n";
$commands .= "INSERT INTO valid_days VALUES ('$_');\n" for @valid;
$commands .= "\\copy valid_days TO '$kept_path' (FORMAT binary)\n\\copy again FROM '$kept_path' (FORMAT binary)\n";
$commands .= "SELECT 'again', count(*) FROM (SELECT days FROM again INTERSECT SELECT days FROM valid_days) both_tables;\n";
$commands .= "SELECT 'alive', count(*) FROM binary_days WHERE days::text::billing.usage_days OPERATOR(billing.=) days;\n";
($status, @states) = run($commands);
ok((grep { /^alive\|\d+$/ } @states), 'the server lives after damaged binary messages');
is((grep { /^again\|/ } @states)[0], 'again|' . @valid, 'valid values survive the binary format');
@bad = grep { !/^(alive|again)/ && !/ERROR:\s+(ZB001|ZB012|22...)$/ && !/^CONTEXT:/ } @states;
is(scalar @bad, 0, 'every damaged message is a value, ZB001, ZB012 or class 22') or diag(show(@bad));
done_testing();
