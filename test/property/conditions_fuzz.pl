# Damaged conditions, as text and in the binary format: each is accepted as a condition that works and keeps its canonical text, or
# refused with ZB017 or an error of class 22, within its bounds, and the server lives on. How long the slowest took is told, and
# never a failure; a statement that does not end is one.
#
#   CONDITION_SEED=n  repeats a run; the seed is printed
#   CONDITION_FUZZ=n  how many damaged texts, 10000 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Test::More;

my $seed  = $ENV{CONDITION_SEED} // 20261121;
my $count = $ENV{CONDITION_FUZZ} // 10000;
srand($seed);
note("seed $seed, $count texts");

my @valid = (
	"amount >= 10000",
	"amount between 1000 and 5000 and risk in ('high', 'medium')",
	"not (amount < 100.50 or is_first) and margin_percent is not null",
	"'hardware' in categories or 'it''s' not in categories",
	"(amount - amount * discount_percent / 100) / 3 > 0.000000000001 * -payment_days",
	"segment <> 'pub\x{fc}lic' and (score > 3.5 or score < -3.5) is true",
	"backdated_days not between 1 and 5 or contract in ('a', 'b', 'c') = is_first",
	"amount in (1, -2, 3.5) and not not is_first is false",
	join(' + ', ('amount') x 100) . ' > 99999999999999999999999999999999999999',
	join(' * ', ('amount') x 120) . ' > 1',
	join(' / ', ('(amount + 0.5)') x 60) . ' > 1',
	('(' x 30) . 'is_first' . (')' x 30),
	join(' or ', map { "risk = 'x$_' and amount > $_" } 1 .. 50),
	'amount in (' . join(', ', 1 .. 300) . ')',
);
my @pieces = ('(', ')', '((((((((((((((((((((((((((((((((', 'not ', '-', '--', '/*', '*/', "'", "''", '"', ',', ';', '.', '1e9', '0', '9' x 40,
	'9' x 37 . '.' . '9', '.5', '5.', ' and ', ' or ', ' in ', ' is ', ' is not ', 'null', 'true', 'false', ' between ', '<', '>', '=', '<>', '!=', '>=', '!',
	'+', '*', '/', '/ 0', '%', '^', '::', '$1', '\\', "\t", "\n", "\x01", "\x7f", "\x{fc}", 'amount', 'categories', 'is_first', 'risk', 'a.b.c', 'x' x 120, 'e' x 2000,
	'select', 'pg_sleep(10)', ' ' x 500, "'" . 'x' x 500 . "'", 'NaN', 'Infinity');

sub pick { return $_[ int rand @_ ] }

sub damage
{
	my ($text) = @_;
	for (1 .. 1 + int rand 4)
	{
		my $at = int rand(1 + length $text);
		my $what = rand;
		if ($what < 0.25) { substr($text, $at, 1 + int rand 4) = '' if $at < length $text }
		elsif ($what < 0.60) { substr($text, $at, 0) = pick(@pieces) }
		elsif ($what < 0.70) { substr($text, $at, 1) = chr(32 + int rand 95) if $at < length $text }
		elsif ($what < 0.78) { $text = substr($text, 0, $at) }
		elsif ($what < 0.88) { substr($text, $at, 0) = pick(' and ', ' or ', ' + ', ' ') . pick(@valid) }
		elsif ($what < 0.94) { $text = "not ($text)" }
		else { substr($text, $at, 0) = substr($text, int rand($at + 1), 1 + int rand 80) }
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

sub script
{
	my ($text) = @_;
	my ($file, $path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
	binmode $file, ':utf8';
	print $file $text;
	close $file;
	return $path;
}

sub run
{
	my ($path, @options) = @_;
	open my $psql, '-|', "psql -XqAt @options -f $path 2>&1" or die "psql: $!";
	my @lines = <$psql>;
	close $psql;
	chomp @lines;
	return ($?, @lines);
}

# ---- text: one statement that catches the errors ----

my $texts = join '', map { copy_text(damage(pick(@valid))) . "\n" } 1 .. $count;
my ($status, @states) = run(script(<<"SQL"), '-v', 'ON_ERROR_STOP=1');
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SET statement_timeout = '10min';
CREATE TEMP TABLE damaged (id serial, condition text);
COPY damaged (condition) FROM STDIN;
$texts\\.
CREATE TEMP TABLE fact AS SELECT f FROM (VALUES
	(ROW('invoice', 812.50, 'EUR', 12.5, NULL, 30, 'public', 'high', '{hardware}', true, 3, NULL, 'ada', 'c')::billing.document_facts),
	(ROW('invoice', 99999999999999999999999999.9999, 'EUR', 1e-20, -5, 0, '', NULL, '{}', false, NULL, 1e59, 'ada', 'c')::billing.document_facts),
	(ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::billing.document_facts),
	(ROW('invoice', 'NaN', 'EUR', 'Infinity', '-Infinity', 2147483647, 'x', 'x', '{NULL}', true, -2147483648, 1e130000, 'x', 'x')::billing.document_facts)) v (f);
CREATE TEMP TABLE outcome (state text, took interval);
CREATE FUNCTION pg_temp.state_of(text_of text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	c billing.condition;
	checked text;
BEGIN
	BEGIN
		c := text_of::billing.condition;
	EXCEPTION WHEN OTHERS THEN
		BEGIN
			PERFORM billing.check_condition(text_of);
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE;
		END;
		RETURN 'known by its fields only';
	END;
	IF c::text::billing.condition::text <> c::text THEN
		RETURN 'changed by its own text: ' || c;
	END IF;
	BEGIN
		checked := billing.check_condition(text_of);
	EXCEPTION WHEN OTHERS THEN
		RETURN 'other fields ' || SQLSTATE;
	END;
	IF checked <> c::text THEN
		RETURN 'two canonical texts: ' || c;
	END IF;
	PERFORM billing_internal.condition_holds(c, f) FROM fact;
	RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
	RETURN 'raised ' || SQLSTATE || ' ' || SQLERRM;
END \$\$;
CREATE FUNCTION pg_temp.measure() RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	d record;
	started timestamptz;
	state text;
BEGIN
	FOR d IN SELECT condition FROM damaged LOOP
		started := clock_timestamp();
		state := pg_temp.state_of(d.condition);
		INSERT INTO outcome VALUES (state, clock_timestamp() - started);
	END LOOP;
END \$\$;
SELECT pg_temp.measure();
SELECT 'slowest|' || max(took) || '|' || count(*) FILTER (WHERE took > '50ms') FROM outcome;
SELECT state FROM outcome;
SQL
my ($slowest) = map { /^slowest\|(.*)\|(\d+)$/ ? "$1; $2 took more than 50 ms" : () } @states;
@states = grep { length && !/^slowest/ } @states;
my @bad = grep { !/^(valid|ZB017|other fields ZB017|22...)$/ } @states;
is($status, 0, 'the server lives');
is(scalar @states, $count, 'every damaged text has an outcome');
note('the slowest: ', $slowest // '?');
is(scalar @bad, 0, 'every outcome is a condition that works, ZB017 or class 22') or diag(join "\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ]);
cmp_ok(scalar(grep { /^ZB017$/ } @states), '>', $count / 3, 'many are refused');
cmp_ok(scalar(grep { /^valid$/ } @states), '>', $count / 20, 'and some are right');

# ---- the binary format: a COPY each ----

my $binary = $count / 20;
my $commands = "CREATE TEMP TABLE kept (condition billing.condition);\n\\set VERBOSITY sqlstate\n";
for (1 .. $binary)
{
	my $message = pick("\x01", "\x01", "\x01", "\x00", "\x02", "\xff", '') . damage(pick(@valid));
	utf8::encode($message);
	substr($message, int rand length $message, 1) = chr int rand 256 if length $message && rand() < 0.3;
	my ($file, $path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
	binmode $file;
	print $file "PGCOPY\n\xff\r\n\0", pack('N N n N', 0, 0, 1, length $message), $message, pack('n', 0xffff);
	close $file;
	$commands .= "\\copy kept FROM '$path' (FORMAT binary)\n";
}
my ($sent, $sent_path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
close $sent;
$commands .= "CREATE TEMP TABLE right_one (condition billing.condition);\nCREATE TEMP TABLE again (condition billing.condition);\n";
for my $right (@valid) { (my $quoted = $right) =~ s/'/''/g; $commands .= "INSERT INTO right_one VALUES ('$quoted');\n" }
$commands .= "\\copy right_one TO '$sent_path' (FORMAT binary)\n\\copy again FROM '$sent_path' (FORMAT binary)\n";
$commands .= "SELECT 'again', count(*) FROM (SELECT condition::text FROM again INTERSECT SELECT condition::text FROM right_one) both_tables;\n";
$commands .= "SELECT 'alive', count(*) FROM kept WHERE condition::text::billing.condition::text = condition::text;\n";
($status, @states) = run(script("SET client_encoding = 'UTF8';\n$commands"));
my ($alive) = grep { /^alive\|\d+$/ } @states;
ok(defined $alive, 'the server lives after damaged binary messages');
is((grep { /^again\|/ } @states)[0], 'again|' . @valid, 'valid conditions survive the binary format');
@bad = grep { !/^(alive|again)/ && !/ERROR:\s+(ZB017|22...)$/ && !/^CONTEXT:/ } @states;
is(scalar @bad, 0, 'every damaged message is a condition, ZB017 or class 22') or diag(join "\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ]);
done_testing();
