# Damaged tariffs, as text, as jsonb and in the binary format: each is accepted as a tariff that works, or refused with
# ZB005 or an error of class 22, and the server lives on.
#
#   RATING_SEED=n  repeats a run; the seed is printed
#   RATING_FUZZ=n  how many damaged texts, 6000 by default
use strict;
use warnings;

use File::Temp qw(tempfile);
use Test::More;

my $seed  = $ENV{RATING_SEED} // 20240229;
my $count = $ENV{RATING_FUZZ} // 6000;
srand($seed);
note("seed $seed, $count texts");

my @valid = (
	'{"model":"per_unit","unit":"0.05"}',
	'{"model":"graduated","tiers":[{"up_to":1000,"unit":"0.10","flat":"2"},{"up_to":null,"unit":"0.01"}]}',
	'{"model":"volume","tiers":[{"up_to":10.5,"unit":1e2,"block":5},{"up_to":20,"flat":"-3"},{"up_to":null,"unit":0}]}',
	'{"model":"stairstep","tiers":[{"up_to":5,"flat":"100"},{"up_to":null,"flat":"150"}],"zero_usage":"first_tier"}',
	'{"model":"package","package_size":100,"package_price":"5","zero_usage":"one_package","free_units":3}',
	'{"model":"percentage","rate":"2.9","fixed":"0.30","event_min":"1.75","event_max":"12","free_events":2}',
	'{"model":"graduated_percentage","tiers":[{"up_to":1000,"rate":"1","flat":"200"},{"up_to":null,"rate":"0.5"}]}',
	'{"model":"dynamic","minimum":"5","maximum":"50","free_amount":"1.5"}',
	'{"model":"matrix","dimensions":["region","size"],"cells":[{"match":{"region":"eu","size":"\u00fc"},"tariff":'
		. '{"model":"per_unit","unit":"1"}},{"match":{"region":"eu"},"tariff":{"model":"package","package_size":2,'
		. '"package_price":1}}],"default":{"model":"dynamic","free_units":1}}',
);
my @pieces = ('{', '}', '[', ']', ',', ':', '"', '\\', '\u0000', '\ud800', '\u00e9', 'null', 'true', '-', '.', 'e', '0', '9',
	'1e9999999999', '-0', '00', '0.0000000000001', '999999999999999999', '1000000000000000000', '1e18', 'NaN', '"NaN"',
	'Infinity', '"unit":', '"tiers":[', '"model":"matrix",', '"up_to":null', '{"up_to":1,"unit":1},', "\t", "\x01", ' ',
	'[[[[[[[[[[', '{"a":{"a":{"a":{"a":', '"' . 'x' x 300 . '"', '7' x 1000, '/*', '#', "'");

sub pick { return $_[ int rand @_ ] }

sub damage
{
	my ($text) = @_;
	for (1 .. 1 + int rand 4)
	{
		my $at = int rand(1 + length $text);
		my $what = rand;
		if ($what < 0.25) { substr($text, $at, 1 + int rand 3) = '' if $at < length $text }
		elsif ($what < 0.60) { substr($text, $at, 0) = pick(@pieces) }
		elsif ($what < 0.75) { substr($text, $at, 1) = chr(32 + int rand 95) if $at < length $text }
		elsif ($what < 0.85) { $text = substr($text, 0, $at) }
		elsif ($what < 0.93)
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

sub script
{
	my ($text) = @_;
	my ($file, $path) = tempfile(SUFFIX => '.sql', UNLINK => 1);
	binmode $file;
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

# ---- text and jsonb: one statement that catches the errors ----

my $texts = join '', map { copy_text(damage(pick(@valid))) . "\n" } 1 .. $count;
my ($status, @states) = run(script(<<"SQL"), '-v', 'ON_ERROR_STOP=1');
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE TEMP TABLE damaged (id serial, tariff text);
COPY damaged (tariff) FROM STDIN;
$texts\\.
CREATE FUNCTION pg_temp.state_of_text(tariff text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    t billing.tariff;
    q numeric;
BEGIN
    BEGIN
        t := tariff::billing.tariff;
    EXCEPTION WHEN OTHERS THEN
        RETURN SQLSTATE;
    END;
    IF NOT t::text::billing.tariff OPERATOR(billing.=) t THEN
        RETURN 'changed by its own text';
    END IF;
    FOREACH q IN ARRAY ARRAY[0, 1, 9.5, 1000, 1e25, 1e-25, -1, 'NaN', 'Infinity'] LOOP
        BEGIN
            IF billing.rate(t, q, 1) IS DISTINCT FROM billing_internal.rate_exact(t, q, 1)
                OR billing.rate(t, q, 1) <> (SELECT sum(amount) FROM billing.rate_breakdown(t, q, 1)) THEN
                RETURN 'two results for ' || q;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            IF SQLSTATE !~ '^ZB0(01|06|12)\$' THEN
                RETURN 'rating raised ' || SQLSTATE;
            END IF;
        END;
    END LOOP;
    RETURN 'valid';
END \$\$;
CREATE FUNCTION pg_temp.state_of_jsonb(tariff text) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
    j jsonb;
    t billing.tariff;
BEGIN
    BEGIN
        j := tariff::jsonb;
    EXCEPTION WHEN OTHERS THEN
        RETURN 'valid';
    END;
    t := j::billing.tariff;
    RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END \$\$;
SELECT pg_temp.state_of_text(tariff) FROM damaged UNION ALL SELECT pg_temp.state_of_jsonb(tariff) FROM damaged;
SQL
my @bad = grep { !/^(valid|ZB005|22...)$/ } @states;
is($status, 0, 'the server lives');
is(scalar @states, 2 * $count, 'every damaged text has an outcome');
is(scalar @bad, 0, 'every outcome is a tariff that works, ZB005 or class 22') or diag(join "\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ]);
cmp_ok(scalar(grep { $_ eq 'ZB005' } @states), '>', $count / 2, 'most are refused as invalid tariffs');

# ---- the binary format: a COPY each ----

my $binary = $count / 10;
my $commands = "CREATE TEMP TABLE binary_tariff (tariff billing.tariff);\n\\set VERBOSITY sqlstate\n";
for (1 .. $binary)
{
	my $message = pick("\x01", "\x01", "\x01", "\x00", "\x02", "\xff", '') . damage(pick(@valid));
	substr($message, int rand length $message, 1) = chr int rand 256 if length $message && rand() < 0.5;
	my ($file, $path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
	binmode $file;
	print $file "PGCOPY\n\xff\r\n\0", pack('N N n N', 0, 0, 1, length $message), $message, pack('n', 0xffff);
	close $file;
	$commands .= "\\copy binary_tariff FROM '$path' (FORMAT binary)\n";
}
# and the valid ones go through it unharmed
my ($kept, $kept_path) = tempfile(SUFFIX => '.bin', UNLINK => 1);
close $kept;
$commands .= "CREATE TEMP TABLE valid_tariff (tariff billing.tariff);\nCREATE TEMP TABLE again (tariff billing.tariff);\n";
$commands .= "INSERT INTO valid_tariff VALUES ('$_');\n" for @valid;
$commands .= "\\copy valid_tariff TO '$kept_path' (FORMAT binary)\n\\copy again FROM '$kept_path' (FORMAT binary)\n";
$commands .= "SELECT 'again', count(*) FROM (SELECT tariff FROM again INTERSECT SELECT tariff FROM valid_tariff) both_tables;\n";
$commands .= "SELECT 'alive', count(*) FROM binary_tariff WHERE tariff::text::billing.tariff OPERATOR(billing.=) tariff;\n";
($status, @states) = run(script($commands));
my ($alive) = grep { /^alive\|\d+$/ } @states;
ok(defined $alive, 'the server lives after damaged binary messages');
is((grep { /^again\|/ } @states)[0], 'again|' . @valid, 'valid tariffs survive the binary format');
@bad = grep { !/^(alive|again)/ && !/ERROR:\s+(ZB005|22...)$/ && !/^CONTEXT:/ } @states;
is(scalar @bad, 0, 'every damaged message is a tariff, ZB005 or class 22') or diag(join "\n", @bad[ 0 .. ($#bad < 9 ? $#bad : 9) ]);
done_testing();
