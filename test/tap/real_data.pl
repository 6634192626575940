# A real cloud bill through the public interface: 700 charges of three providers to 67 accounts at 213 prices. Every figure
# is compared with one worked out here from the CSV file, in exact fractions.
#
# The file lies outside the project (test/run looks for ../shared/data); skipped where it is absent. Its README says what
# to expect: 676 charges are quantity x list price, 24 are not, and 8 are negative.
use strict;
use warnings;

use Encode qw(decode);
use File::Temp qw(tempfile);
use JSON::PP;
use Math::BigInt;
use Math::BigRat;
use Test::More;

my $file = ($ENV{BILLING_REAL_DATA} // '') . '/focus_usage.csv';
plan skip_all => 'the real cloud bill is not here: set BILLING_REAL_DATA to its folder' unless -r $file;

my $through   = '2024-10-01';
my $tax_rate  = '8.875';
my $tolerance = Math::BigRat->new('1/10000000000');
my $json      = JSON::PP->new->canonical;
my @tables    = qw(document invoice invoice_line invoice_tax document_step exception account_watermark number_series
	usage_event contract contract_item contract_item_version);

# ----------------------------------------------------------------------------------------------------------------------
# Helpers

# The records of a CSV text (RFC 4180) as hashes by the names in its first line
sub parse_csv
{
	my ($text) = @_;
	my (@records, @fields);
	while ($text =~ /\G(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\z)/gc)
	{
		my ($quoted, $plain, $end) = ($1, $2, $3);
		$quoted =~ s/""/"/g if defined $quoted;
		push @fields, $quoted // $plain;
		next if $end eq ',';
		push @records, [@fields] if @fields > 1 || $fields[0] ne '';
		@fields = ();
		last if $end eq '';
	}
	my $names = shift @records;
	return map { my %record; @record{@$names} = @$_; \%record } @records;
}

# Run SQL with psql as a login, and return its rows as lists of strings
sub sql
{
	my ($login, $sql) = @_;
	my ($out, $path) = tempfile(UNLINK => 1);
	binmode $out, ':encoding(UTF-8)';
	print $out "SET client_min_messages = warning;\n";
	print $out "SET SESSION AUTHORIZATION $login;\n" if defined $login;
	print $out "$sql\n";
	close $out or die $!;
	open my $pipe, '-|:encoding(UTF-8)', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-F', "\t", '-f', $path or die $!;
	my @rows = map { chomp; [ split /\t/, $_, -1 ] } <$pipe>;
	close $pipe or BAIL_OUT('psql failed');
	return @rows;
}

sub value { my @rows = sql(@_); return $rows[0][0] }

sub quote { my ($text) = @_; $text =~ s/'/''/g; return "'$text'" }

sub rational { return Math::BigRat->new($_[0]) }

# Half away from zero, to hundredths
sub rounded
{
	my ($exact) = @_;
	my $whole = ($exact->copy->babs * 100 + Math::BigRat->new('1/2'))->bfloor;
	my $value = Math::BigRat->new($whole) / 100;
	return $exact < 0 ? -$value : $value;
}

# How many rows the document tables have, and a hash of all that is in them; of the audit log all but the record that a run
# or a delivery took place, which a repetition leaves too
sub state_of_tables
{
	my $sql = join ' UNION ALL ',
	  map { "SELECT '$_', count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM billing.$_ t" } @tables;
	my $audit = q(SELECT 'audit_log', count(*), md5(string_agg(t::text, E'\n' ORDER BY t::text)) FROM billing.audit_log t
		WHERE object_type <> 'billing_run' AND action <> 'ingest');
	return { map { $_->[0] => "$_->[1] rows, $_->[2]" } sql(undef, "$sql UNION ALL $audit") };
}

sub broken { return join '; ', map { join ' ', @$_ } sql(undef, 'SELECT * FROM billing.verify() WHERE violations <> 0') }

# ----------------------------------------------------------------------------------------------------------------------
# What the file says, and what follows from it

open my $in, '<', $file or die "$file: $!";
my $text = do { local $/; decode('UTF-8', scalar <$in>) };
close $in;
my @charges = parse_csv($text);
my (%provider, %account, %price, %used);
for my $charge (@charges)
{
	my $provider = $charge->{ProviderName};
	my $key      = $charge->{SkuPriceId} ne '' ? $charge->{SkuPriceId} : $charge->{SkuId};
	my $account  = $charge->{SubAccountId};
	$charge->{key}   = $key;
	$charge->{rated} = rational($charge->{PricingQuantity}) * rational($charge->{ListUnitPrice});
	$provider{$provider}{currency} = $charge->{BillingCurrency};
	$account{$account} //= { provider => $provider, name => $charge->{SubAccountName}, currency => $charge->{BillingCurrency} };
	$price{"$provider\t$key"}{ $charge->{ListUnitPrice} } = 1;
	push @{ $used{$account}{$key} }, $charge;
}
my @providers = sort keys %provider;
my %by_id = map { $_->{Id} => $_ } @charges;
my %odd   = map { $_->{Id} => $_ } grep { ($_->{rated} - rational($_->{ListCost}))->babs > $tolerance } @charges;

is(scalar @charges,       700, 'the file has 700 charges');
is(scalar @providers,     3,   'of 3 providers');
is(scalar keys %account,  67,  'to 67 accounts');
is(scalar keys %price,    213, 'at 213 price keys');
is(scalar keys %by_id,    700, 'each with an id of its own');
is(scalar(grep { keys %$_ != 1 } values %price), 0, 'a price key has one list price');
is(scalar(grep { $_->{PricingQuantity} =~ /^-/ } @charges), 8, '8 charges are negative corrections');

# Expected lines: the sum of the quantities times the price, rounded once; and the documents that they make
my (%line, %document);
for my $account (sort keys %used)
{
	my $net = rational(0);
	for my $key (sort keys %{ $used{$account} })
	{
		my $quantity = rational(0);
		$quantity += rational($_->{PricingQuantity}) for @{ $used{$account}{$key} };
		my $amount = rounded($quantity * rational($used{$account}{$key}[0]{ListUnitPrice}));
		$line{"$account\t$key"} = { quantity => $quantity, amount => $amount };
		$net += $amount;
	}
	my $tax = rounded($net * rational($tax_rate) / 100);
	$document{$account} = { net => $net, tax => $tax, total => $net + $tax, kind => $net + $tax < 0 ? 'credit_note' : 'invoice' };
}

# ----------------------------------------------------------------------------------------------------------------------
# Loaded through the public interface: the administrator sets up, people with duties do the rest

my $setup = join "\n", map {
	my $entity = quote($_);
	("SELECT billing.create_entity($entity, $entity, " . quote($provider{$_}{currency}) . ", 'UTC', 'US');",
		"SELECT billing.grant_duty($entity, 'biller', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;",
		"SELECT billing.grant_duty($entity, 'approver', 'approver');");
} @providers;
sql(undef, <<"SQL");
CREATE ROLE real_data_biller LOGIN IN ROLE billing_user;
CREATE ROLE real_data_approver LOGIN IN ROLE billing_user;
SELECT billing.add_person(p, initcap(p)), billing.add_login(p, 'real_data_' || p) FROM unnest('{biller,approver}'::text[]) p;
$setup
-- Two providers send invoices of 0.00 as well, the third keeps them back
UPDATE billing.legal_entity SET zero_invoices = 'issue' WHERE code <> 'Microsoft';
SQL

my @load = map {
	my $entity = quote($_);
	("SELECT billing.add_tax_code($entity, 'sales', 'S', 'Sales tax'), billing.add_tax_rate($entity, 'sales', $tax_rate, '2024-01-01');",
		"SELECT billing.add_price_book($entity, 'list', 'List prices', " . quote($provider{$_}{currency}) . ");");
} @providers;
for (sort keys %price)
{
	my ($entity, $key) = map { quote($_) } split /\t/;
	my $tariff = quote($json->encode({ model => 'per_unit', unit => (keys %{ $price{$_} })[0] }));
	push @load, "SELECT billing.add_product($entity, $key, $key, tax_code => 'sales');",
	  "SELECT billing.add_meter($entity, $key, $key);",
	  "SELECT billing.set_price($entity, 'list', $key, $tariff, '2024-09-01');";
}
for my $account (sort keys %account)
{
	my $code   = quote($account);
	my $name   = quote($account{$account}{name} || $account);
	my $entity = quote($account{$account}{provider});
	push @load, "SELECT billing.add_customer($entity, $code, $name, 'Street 1', '10001', 'New York', 'US');",
	  "SELECT billing.add_account($entity, $code, $code, " . quote($account{$account}{currency}) . ');',
	  "SELECT billing.create_contract($entity, $code, $code, '2024-09-01');";
	for my $key (map { quote($_) } sort keys %{ $used{$account} })
	{
		push @load, "SELECT billing.add_item($entity, $code, $key, $key, 'usage', price_book => 'list', meter => $key);";
	}
}
sql('real_data_biller', join "\n", @load);
is(value(undef, 'SELECT count(*) FROM billing.legal_entity'),    3,   'an entity per provider');
is(value(undef, 'SELECT count(*) FROM billing.billing_account'), 67,  'a billing account per sub-account');
is(value(undef, 'SELECT count(*) FROM billing.price'),           213, 'a price per price key');

# Usage as CloudEvents, exact decimals as strings; what each entity answers, added up
sub ingest
{
	my @sum = (0) x 4;
	for my $provider (@providers)
	{
		my @events = map {
			{
				specversion => '1.0',
				id          => $_->{Id},
				source      => $provider,
				type        => $_->{key},
				subject     => $_->{SubAccountId},
				time        => $_->{ChargePeriodStart} =~ s/ (.*)/T$1Z/r,
				data        => { quantity => $_->{PricingQuantity}, expected_amount => $_->{ListCost} },
			}
		} grep { $_->{ProviderName} eq $provider } @charges;
		my ($row) = sql('real_data_biller', 'SELECT accepted, duplicate, conflicting, quarantined FROM billing.ingest_usage('
			. quote($provider) . ', ' . quote($json->encode(\@events)) . ');');
		$sum[$_] += $row->[$_] for 0 .. 3;
	}
	return "@sum";
}
is(ingest(), '700 0 0 0', '700 usage events are accepted');
is(value(undef, 'SELECT count(*) FROM billing.usage_event WHERE quantity < 0'), 8, '8 of them are negative corrections');

# ----------------------------------------------------------------------------------------------------------------------
# Each event rated alone

my ($agree, @wrong) = (0);
for (sql('real_data_biller', <<'SQL'))
SELECT u.event_key, billing.rate(p.tariff, u.quantity), u.quantity, u.expected_amount
FROM billing.usage_event u
JOIN billing.meter m USING (entity_id, meter_id)
JOIN billing.product t ON t.entity_id = u.entity_id AND t.code = m.code
JOIN billing.price p ON p.entity_id = u.entity_id AND p.product_id = t.product_id
SQL
{
	my ($id, $rated, $quantity, $expected) = @$_;
	my $charge = $by_id{$id};
	$agree++ if (rational($rated) - rational($charge->{ListCost}))->babs <= $tolerance;
	push @wrong, $id if rational($rated) != $charge->{rated} || rational($quantity) != rational($charge->{PricingQuantity})
	  || rational($expected) != rational($charge->{ListCost});
}
is($agree, 676, 'rated alone, exactly 676 events give ListCost to 1e-10');
is("@wrong", '', 'every event is rated as quantity x list price, exactly');

# ----------------------------------------------------------------------------------------------------------------------
# The run

my $run = join '', map { 'CALL billing.run_billing(' . quote($_) . ", '$through');\n" } @providers;
sql('real_data_biller', $run);

my (%seen, @bad_figures);
for (sql('real_data_biller', <<'SQL'))
SELECT x.payload ->> 'id', x.payload ->> 'source', x.subject, x.payload ->> 'expected_amount', x.payload ->> 'rated_amount', x.detail
FROM billing.exception x WHERE x.kind = 'pricing_discrepancy' AND x.state = 'open'
SQL
{
	my ($id, $source, $subject, $expected, $rated, $detail) = @$_;
	my $charge = $odd{$id};
	$seen{$id}++;
	my ($told_expected, $told_rated) = $detail =~ /expects (-?[0-9.]+), the price gives (-?[0-9.]+)$/;
	push @bad_figures, "$id: $detail"
	  unless $charge && $source eq $charge->{ProviderName} && $subject eq $charge->{SubAccountId}
	  && defined $told_rated && rational($told_expected) == rational($charge->{ListCost}) && rational($told_rated) == $charge->{rated}
	  && rational($expected) == rational($charge->{ListCost}) && rational($rated) == $charge->{rated};
}
is(scalar keys %odd,  24, 'by the file, 24 charges are not quantity x list price');
is(scalar keys %seen, 24, 'the run raises exactly 24 pricing discrepancies');
is("@bad_figures", '', 'each shows what the source expects and what the price gives');
is(value(undef, "SELECT count(*) FROM billing.exception WHERE kind <> 'pricing_discrepancy'"), 0, 'nothing else is wrong with the bill');

my @differing;
my $lines = 0;
for (sql('real_data_biller', <<'SQL'))
SELECT a.code, i.code, l.quantity, l.amount, l.events, l.period_start, l.period_end
FROM billing.invoice_line l
JOIN billing.contract_item i USING (entity_id, item_id)
JOIN billing.billing_account a ON a.entity_id = i.entity_id AND a.account_id = i.account_id
SQL
{
	my ($account, $key, $quantity, $amount, $events, $start, $end) = @$_;
	my $expected = $line{"$account\t$key"};
	$lines++;
	push @differing, "$account $key" unless $expected && rational($quantity) == $expected->{quantity}
	  && rational($amount) == $expected->{amount} && $events == @{ $used{$account}{$key} } && "$start $end" eq "2024-09-01 $through";
}
is($lines, scalar keys %line, 'a line for each account and price key');
is("@differing", '', 'each line is its quantity times the list price, rounded once');

my @documents = sql('real_data_biller', 'SELECT account, kind, state, billing_date, net, tax, total FROM billing.invoice_overview');
@differing = ();
for (@documents)
{
	my ($account, $kind, $state, $date, $net, $tax, $total) = @$_;
	my $expected = $document{$account};
	push @differing, $account unless $kind eq $expected->{kind} && $state eq 'draft' && $date eq $through
	  && rational($net) == $expected->{net} && rational($tax) == $expected->{tax} && rational($total) == $expected->{total};
}
is(scalar @documents, 67, 'a document for each account');
is("@differing", '', 'each is the sum of its rounded lines, taxed once');
my $credits = grep { $_->{kind} eq 'credit_note' } values %document;
is(scalar(grep { $_->[1] eq 'credit_note' } @documents), $credits, 'an account whose month is negative gets a credit note');
is(broken(), '', 'billing.verify() is clean after the run');

my $before = state_of_tables();
sql('real_data_biller', $run);
is_deeply(state_of_tables(), $before, 'a second run writes nothing');

# ----------------------------------------------------------------------------------------------------------------------
# To issued

my ($approved, $pending, $held) = (0, 0, 0);
for my $provider (@providers)
{
	my ($row) = sql('real_data_biller', 'SELECT approved, pending, on_hold FROM billing.validate_invoices(' . quote($provider) . ');');
	$approved += $row->[0];
	$pending  += $row->[1];
	$held     += $row->[2];
}
# within the limit of 0 are those of 0.00 that may go out
my $zero      = grep { $document{$_}{total} == 0 && $account{$_}{provider} ne 'Microsoft' } keys %document;
my $zero_held = grep { $document{$_}{total} == 0 && $account{$_}{provider} eq 'Microsoft' } keys %document;
is($approved, $zero,                   'what comes to 0.00 needs no approver');
is($held,     $zero_held,              'and is held where the entity does not send such invoices');
is($pending,  67 - $zero - $zero_held, 'the others wait for an approver');
sql('real_data_approver', "SELECT billing.approve_invoice(entity, reference) FROM billing.invoice_overview WHERE state = 'pending_approval';");
my $issued = 0;
$issued += value('real_data_biller', 'SELECT billing.issue_invoices(' . quote($_) . ');') for @providers;
is($issued, 67 - $zero_held, 'all that were approved are issued');
is(value(undef, "SELECT count(*) FROM billing.invoice_overview WHERE state = 'issued' AND number LIKE
	CASE kind WHEN 'credit_note' THEN 'CN-%' ELSE 'INV-%' END"), $issued, 'under legal numbers');
my ($largest) = sort { $document{$b}{total} <=> $document{$a}{total} } keys %document;
is(rational(value('real_data_biller', <<"SQL")), $document{$largest}{total}, 'the largest invoice explains itself to its total');
SELECT e.amount FROM billing.invoice_overview i, billing.explain_invoice(i.entity, i.number) e
WHERE i.account = ${\ quote($largest)} AND e.step = 'total';
SQL
is(broken(), '', 'billing.verify() is clean after the issue');

$before = state_of_tables();
is(ingest(), '0 700 0 0', 'the same file again is 700 duplicates');
sql('real_data_biller', $run);
my $after = state_of_tables();
delete $_->{audit_log} for $before, $after;
is_deeply($after, $before, 'which, with a run after them, change nothing but the audit log');

# ----------------------------------------------------------------------------------------------------------------------
# A month below zero. The corrections in the file are too small for one, so the dearest line of September is taken back in
# October.

my ($dearest) = sort { $line{$b}{amount} <=> $line{$a}{amount} || $a cmp $b } keys %line;
my ($account, $key) = split /\t/, $dearest;
my $provider = quote($account{$account}{provider});
my @taken_back = map {
	{
		id      => "$_->{Id} back",
		source  => $_->{ProviderName},
		type    => $key,
		subject => $account,
		time    => '2024-10-05T00:00:00Z',
		data    => { quantity => "-$_->{PricingQuantity}" },
	}
} grep { $_->{PricingQuantity} !~ /^-/ } @{ $used{$account}{$key} };
my $back = rational(0);
$back += rational($_->{data}{quantity}) for @taken_back;
my $net = rounded($back * rational($used{$account}{$key}[0]{ListUnitPrice}));
my $total = $net + rounded($net * rational($tax_rate) / 100);
sql('real_data_biller', "SELECT billing.ingest_usage($provider, ${\ quote($json->encode(\@taken_back))}); CALL billing.run_billing($provider, '2024-11-01');");
my @credit = sql('real_data_biller', "SELECT account, kind, net, total, open_exceptions FROM billing.invoice_overview WHERE state = 'draft' AND total <> 0");
is(scalar @credit, 1, 'a month below zero gives one document');
is("@{$credit[0]}[0,1,4]", "$account credit_note 0", 'a credit note of the account, not an error');
ok($total < 0 && rational($credit[0][2]) == $net && rational($credit[0][3]) == $total, 'over what was taken back');
sql('real_data_biller', "SELECT billing.validate_invoices($provider);");
sql('real_data_approver', "SELECT billing.approve_invoice(entity, reference) FROM billing.invoice_overview WHERE state = 'pending_approval';");
sql('real_data_biller', "SELECT billing.issue_invoices($provider);");
like(value(undef, "SELECT number FROM billing.invoice_overview WHERE kind = 'credit_note' ORDER BY billing_date DESC LIMIT 1"), qr/^CN-/,
	'it is issued under a number of the credit notes');
is(broken(), '', 'billing.verify() is clean in the end');

done_testing();
