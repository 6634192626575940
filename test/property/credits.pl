# Random parts of random invoices are credited, some drafts are dropped, until nothing is left: at every moment no more is credited than was
# billed, and in the end the credit notes of an invoice add up to it to the cent, line by line and tax by tax. The sums are worked out
# here, in whole minor units.
use strict;
use warnings;
use Test::More;

my $rounds = 0 + ($ENV{CREDIT_INVOICES} // 9);
my $seed = $ENV{CREDIT_SEED} // 20261121;
srand($seed);
diag("seed $seed") if $ENV{CREDIT_SEED};

# One statement per line of answer; an error ends the test unless it is expected
sub ask
{
	my ($sql) = @_;
	open(my $in, '>', "$ENV{TMPDIR}/credits.$$.sql") or die $!;
	print $in "\\set VERBOSITY sqlstate\n$sql;\n";
	close $in;
	my $answer = `psql -XqAt -f '$ENV{TMPDIR}/credits.$$.sql' 2>&1`;
	chomp $answer;
	return $answer;
}
$ENV{TMPDIR} //= '/tmp';

sub minor { my ($amount, $scale) = @_; my ($sign, $whole, $part) = $amount =~ /^(-?)(\d+)(?:\.(\d+))?$/ or die "no amount: $amount"; $part //= ''; die "$amount is finer than $scale" if length(($part =~ s/0+$//r)) > $scale; $part = substr($part . '0' x 20, 0, $scale); return 0 + "$sign$whole$part"; }

my $as = "SET SESSION AUTHORIZATION credits_$$;\n";
ask(<<"SQL") =~ /ERROR/ and die;
CREATE ROLE credits_$$ LOGIN IN ROLE billing_user;
SELECT billing.add_person('ada', 'Ada'), billing.add_login('ada', 'credits_$$');
SELECT billing.create_entity('eur', 'Eur', 'EUR', 'UTC'), billing.create_entity('jpy', 'Jpy', 'JPY', 'UTC', rounding_mode => 'half_even'), billing.create_entity('bhd', 'Bhd', 'BHD', 'UTC');
SELECT billing.grant_duty(e, 'ada', d, '2020-01-01') FROM unnest('{eur,jpy,bhd}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 1e12, zero_invoices = 'issue';
SELECT billing.set_approval_policy(e, 'all', 'credit_note', NULL, NULL, outcome => 'automatic', valid_from => '2026-01-01') FROM unnest('{eur,jpy,bhd}'::text[]) e;
SET SESSION AUTHORIZATION credits_$$;
SELECT billing.add_tax_code(e, 't' || r, 'S', 'T'), billing.add_tax_rate(e, 't' || r, r::numeric, '2007-01-01'), billing.add_product(e, 'p' || r, 'P', tax_code => 't' || r) FROM unnest('{eur,jpy,bhd}'::text[]) e, unnest('{7,19,8.875}'::text[]) r;
SELECT billing.add_customer(e, 'c', 'C', 'Street 1', '1', 'City', 'DE') FROM unnest('{eur,jpy,bhd}'::text[]) e
SQL

my %scale = (eur => 2, jpy => 0, bhd => 3);
my @entities = sort keys %scale;
my ($credited, $refused, $dropped) = (0, 0, 0);
for my $round (1 .. $rounds)
{
	my $entity = $entities[ $round % 3 ];
	my $scale = $scale{$entity};
	my $items = join ', ', map {
		my $tax = (qw(7 19 8.875))[ int(rand 3) ];
		my $quantity = 1 + int(rand 12);
		my $unit = sprintf('%d.%04d', rand 300, rand 10000);
		"billing.add_item('$entity', 'k$round', 'i$_', 'p$tax', 'one_time', $quantity, '{\"model\": \"per_unit\", \"unit\": \"$unit\"}')"
	} 1 .. 1 + int(rand 5);
	my $currency = uc $entity;
	my $made = ask("${as}SELECT billing.add_account('$entity', 'a$round', 'c', '$currency'), billing.create_contract('$entity', 'k$round', 'a$round', '2026-01-01'), $items;\n"
		. "CALL billing.run_billing('$entity', '2026-01-01', '{\"phase\": \"issue\"}')");
	die $made if $made =~ /ERROR/;
	my $number = ask("${as}SELECT number FROM billing.invoice_overview WHERE entity = '$entity' AND account = 'a$round'");
	next if $number eq '';    # nothing but zeros
	my %line = map { my ($no, $amount, $quantity) = split /\|/; ($no => { left => minor($amount, $scale), quantity => 0 + $quantity, q => 0 + $quantity }) }
		split /\n/, ask("${as}SELECT line_no, amount, trim_scale(quantity) FROM billing.credit_status('$entity', '$number')");
	for my $step (1 .. 40)
	{
		my @open = grep { $line{$_}{left} > 0 } sort { $a <=> $b } keys %line;
		last unless @open;
		my %ask;
		for my $no (grep { rand() < 0.6 } @open)
		{
			my $l = $line{$no};
			my $kind = rand;
			if ($kind < 0.5)
			{
				my $minor = 1 + int(rand($l->{left} * 1.15));
				$ask{$no} = { json => sprintf('"amount": "%s"', decimal($minor, $scale)), minor => $minor };
			}
			elsif ($kind < 0.85 && $l->{q} > 0)
			{
				my $quantity = 1 + int(rand($l->{q} + 0.3));
				$ask{$no} = { json => "\"quantity\": $quantity", quantity => $quantity };
			}
			else { $ask{$no} = { json => '', all => 1 }; }
		}
		%ask = (map { $_ => { json => '', all => 1 } } @open) if $step == 40;
		next unless %ask;
		my $too_much = grep { ($ask{$_}{minor} // 0) > $line{$_}{left} || ($ask{$_}{quantity} // 0) > $line{$_}{q} } keys %ask;
		my $lines = join ', ', map { "{\"line\": $_" . ($ask{$_}{json} && ", $ask{$_}{json}") . '}' } sort keys %ask;
		my $answer = ask("${as}SELECT billing.credit_invoice('$entity', '$number', 'goodwill', '[$lines]')");
		if ($answer =~ /ERROR:\s+ZB013/)
		{
			# more than is left; or a quantity that is worth more than amounts have left, or nothing
			$refused++;
			fail("refused without need: $lines of $number") unless $too_much || grep { defined $ask{$_}{quantity} } keys %ask;
			next;
		}
		die "$answer: $lines of $number" unless $answer =~ /^D\d+$/;
		ok(0, "more than is left was credited: $lines of $number") if $too_much;
		my @made = map { [ split /\|/ ] } split /\n/, ask("${as}SELECT l.reverses_line_no, l.amount, trim_scale(l.quantity) FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id) WHERE i.reference = '$answer'");
		if (rand() < 0.25)
		{
			die if ask("${as}SELECT billing.discard_invoice('$entity', '$answer', 'dropped')") =~ /ERROR/;
			$dropped++;
			next;
		}
		$credited++;
		for my $m (@made)
		{
			my $l = $line{ $m->[0] };
			my $asked = $ask{ $m->[0] };
			my $minor = -minor($m->[1], $scale);
			is($minor, $asked->{minor}, "$answer credits what was asked for") if defined $asked->{minor} && $minor != $asked->{minor};
			is($minor, $l->{left}, "$answer credits the rest") if $asked->{all} && $minor != $l->{left};
			$l->{left} -= $minor;
			$l->{q} += 0 + $m->[2];
			fail("$answer credits too much of line $m->[0] of $number") if $l->{left} < 0 || $l->{q} < 0;
		}
	}
	is(join(' ', map { $line{$_}{left} } sort keys %line), join(' ', map { 0 } keys %line), "nothing is left of $number");
	is(ask("${as}SELECT coalesce(string_agg(v, ', '), 'nothing') FROM (SELECT format('%s at %s: %s and %s', t.category, t.rate, sum(t.base), sum(t.tax)) AS v FROM billing.invoice_tax t"
			. " JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.entity = '$entity' AND o.account = 'a$round' AND o.state <> 'discarded' GROUP BY t.category, t.rate HAVING sum(t.base) <> 0 OR sum(t.tax) <> 0) s"),
		'nothing', "$number and its credit notes come to nothing, tax by tax");
	if ($round % 2)
	{
		ask("${as}SELECT billing.validate_invoices('$entity'); SELECT billing.issue_invoices('$entity')");
		is(ask("${as}SELECT state FROM billing.invoice_overview WHERE number = '$number' AND entity = '$entity'"), 'credited', "$number is credited");
	}
}
is(ask("SELECT count(*) FROM billing.verify() WHERE violations <> 0"), '0', 'nothing is broken');
cmp_ok($credited, '>', 2 * $rounds, "there were credits ($credited), refusals ($refused) and dropped drafts ($dropped)");
my $again = ask("${as}CALL billing.run_billing('eur', '2026-01-01'); CALL billing.run_billing('jpy', '2026-01-01'); CALL billing.run_billing('bhd', '2026-01-01');\nSELECT count(*) FROM billing.invoice_overview WHERE kind = 'invoice' AND state = 'draft'");
is($again, '0', 'no run bills again what was credited');
unlink "$ENV{TMPDIR}/credits.$$.sql";
done_testing();

sub decimal { my ($minor, $scale) = @_; return $minor unless $scale; my $text = '0' x ($scale + 1) . $minor; $text =~ /^0*(\d+?)(\d{$scale})$/; return "$1.$2"; }
