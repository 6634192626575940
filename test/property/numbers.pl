# Thirty-two sessions issue documents of four series at once, two entities' invoices and credit notes, one to three in a
# transaction, some of all four series; one transaction in ten is rolled back, some to a savepoint. In the end the numbers of
# each series are 1 to the counter, without a gap or a double, whatever was tried and taken back.
#
#   NUMBERS_SEED=n        repeats the choices; the seed is printed
#   NUMBERS_DOCUMENTS=n   documents of a series, 500 by default
use strict;
use warnings;

use File::Temp qw(tempdir);
use IPC::Run qw(run);
use Test::More;

my $seed      = $ENV{NUMBERS_SEED}      // 20261121;
my $documents = $ENV{NUMBERS_DOCUMENTS} // 500;
my $sessions  = 32;
my $role      = "numbers_biller_$$";
my $dir       = tempdir(CLEANUP => 1);
note("seed $seed, $documents documents of a series");

sub sql
{
	my ($statements) = @_;
	my ($out, $err) = ('', '');
	run([ qw(psql -XqAt -v ON_ERROR_STOP=1) ], '<', \$statements, '>', \$out, '2>', \$err) or die "$statements: $err";
	chomp $out;
	return $out;
}

# An account with a negative price gets credit notes, one with a positive price invoices
sql(<<"SQL");
SET client_min_messages = warning;
CREATE ROLE $role LOGIN IN ROLE billing_user;
SELECT billing.add_person('numbers', 'Numbers'), billing.add_login('numbers', '$role');
SELECT billing.create_entity(e, e, 'EUR', 'UTC', 'DE') FROM unnest('{e1,e2}'::text[]) e;
SELECT billing.grant_duty(e, 'numbers', d) FROM unnest('{e1,e2}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 1000 WHERE code IN ('e1', 'e2');
SET SESSION AUTHORIZATION $role;
SELECT billing.add_tax_code(e, 'std', 'S', 'Standard'), billing.add_tax_rate(e, 'std', 19, '2021-01-01'), billing.add_product(e, 'seat', 'Seat', tax_code => 'std')
FROM unnest('{e1,e2}'::text[]) e;
INSERT INTO billing.customer (entity_id, code, name, address, postal_code, city, country)
SELECT billing_internal.entity_id(e), 'c', 'Customer', 'Street 1', '10115', 'Berlin', 'DE' FROM unnest('{e1,e2}'::text[]) e;
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT entity_id, s || n, customer_id, 'EUR' FROM billing.customer, unnest('{INV,CN}'::text[]) s, generate_series(1, $documents) n;
RESET SESSION AUTHORIZATION;
SET ROLE billing_owner;
INSERT INTO billing.contract (entity_id, code, account_id, currency, start_date, anchor, interval_unit, interval_count)
SELECT entity_id, code, account_id, 'EUR', '2026-01-01', '2026-01-01', 'month', 1 FROM billing.billing_account;
INSERT INTO billing.contract_item (entity_id, contract_id, code, account_id, product_id, charge, timing)
SELECT c.entity_id, c.contract_id, 'seats', c.account_id, p.product_id, 'recurring', 'advance' FROM billing.contract c JOIN billing.product p USING (entity_id);
INSERT INTO billing.contract_item_version (entity_id, item_id, account_id, valid_from, quantity, tariff, recorded_by)
SELECT i.entity_id, i.item_id, i.account_id, '2026-01-01', 1,
	jsonb_build_object('model', 'per_unit', 'unit', CASE WHEN c.code LIKE 'CN%' THEN -5 ELSE 7 END)::billing.tariff, 1
FROM billing.contract_item i JOIN billing.contract c USING (entity_id, contract_id);
RESET ROLE;
SET SESSION AUTHORIZATION $role;
CALL billing.run_billing('e1', '2026-01-15', '{"phase": "validate"}');
CALL billing.run_billing('e2', '2026-01-15', '{"phase": "validate"}');
RESET SESSION AUTHORIZATION;
-- what is left to issue, and how often what was taken back had taken a number
CREATE TABLE public.waiting AS
SELECT entity, CASE kind WHEN 'invoice' THEN 'INV' ELSE 'CN' END AS series, reference FROM billing.invoice_overview WHERE state = 'approved';
CREATE INDEX ON public.waiting (entity, series);
CREATE SEQUENCE public.taken_back;
GRANT ALL ON public.waiting, public.taken_back TO $role;
-- issue some of a series that nobody else is at, and count them
CREATE FUNCTION public.issue_some(of_entity text, of_series text, most integer) RETURNS bigint LANGUAGE sql AS \$\$
	WITH mine AS (DELETE FROM public.waiting WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM public.waiting WHERE entity = of_entity AND series = of_series LIMIT most FOR UPDATE SKIP LOCKED)) RETURNING entity, reference)
	SELECT count(billing.issue_invoice(entity, reference)) FROM mine \$\$;
ANALYZE;
SQL
is(sql("SELECT string_agg(format('%s %s %s', entity, series, n), ', ' ORDER BY entity, series) FROM (SELECT entity, series, count(*) AS n FROM public.waiting GROUP BY 1, 2) t"),
	"e1 CN $documents, e1 INV $documents, e2 CN $documents, e2 INV $documents", 'so many documents of each series are approved');

# Whoever takes numbers of several series takes them in the order of their names, as the functions for many documents do
my %script = (
	one => <<'SQL',
\set e random(1, 2)
\set s random(0, 1)
\set some random(1, 3)
\set luck random(1, 10)
BEGIN;
SELECT public.issue_some('e' || :e, CASE WHEN :s = 0 THEN 'CN' ELSE 'INV' END, :some) AS issued \gset
\if :luck = 1
SELECT nextval('public.taken_back') WHERE :issued > 0;
ROLLBACK;
\else
COMMIT;
\endif
SQL
	four => <<'SQL',
\set luck random(1, 10)
BEGIN;
SELECT public.issue_some('e1', 'CN', 1) + public.issue_some('e1', 'INV', 1) + public.issue_some('e2', 'CN', 1) + public.issue_some('e2', 'INV', 1) AS issued \gset
\if :luck = 1
SELECT nextval('public.taken_back') WHERE :issued > 0;
ROLLBACK;
\else
COMMIT;
\endif
SQL
	part => <<'SQL');
\set luck random(1, 2)
BEGIN;
SELECT public.issue_some('e1', 'INV', 1) AS first \gset
SAVEPOINT here;
SELECT public.issue_some('e1', 'INV', 2) AS second \gset
\if :luck = 1
SELECT nextval('public.taken_back') WHERE :second > 0;
ROLLBACK TO SAVEPOINT here;
\endif
COMMIT;
SQL
for my $name (keys %script)
{
	open my $file, '>', "$dir/$name.sql" or die $!;
	print $file $script{$name};
	close $file;
}
my $transactions = int($documents * 4 * 0.5 / $sessions) + 1;
my ($out, $err) = ('', '');
ok( run(
		[
			'pgbench', '--no-vacuum', "--client=$sessions", '--jobs=2', "--transactions=$transactions", "--random-seed=$seed", "--username=$role",
			'-f', "$dir/one.sql\@8", '-f', "$dir/four.sql\@1", '-f', "$dir/part.sql\@1"
		],
		'>', \$out, '2>', \$err),
	"$sessions sessions issue, without a deadlock") or diag $err;
unlike($err, qr/ERROR/, 'no statement failed');

my ($left, $back) = split /\|/, sql('SELECT (SELECT count(*) FROM public.waiting), (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.taken_back)');
cmp_ok($back, '>=', $documents * 4 / 100, "numbers were taken back $back times");
cmp_ok($left, '<', $documents * 2, "most are issued, $left are not");

# 1 to the counter, and nothing else
my $check = q(SELECT entity, n.series, n.last_number, count(i.sequence), count(DISTINCT i.sequence), min(i.sequence), max(i.sequence)
	FROM billing.number_series n JOIN billing.invoice i USING (entity_id, series, fiscal_year) JOIN (SELECT entity_id, code AS entity FROM billing.legal_entity) l USING (entity_id)
	GROUP BY 1, 2, 3 ORDER BY 1, 2);

sub check_numbers
{
	my ($when) = @_;
	my @series = split /\n/, sql($check);
	is(scalar @series, 4, "$when: four series");
	for (@series)
	{
		my ($entity, $series, $last, @figures) = split /\|/;
		is("@figures", "$last $last 1 $last", "$when: $entity $series: 1 to $last");
	}
	is(sql("SELECT count(*) FROM billing.invoice WHERE number <> series || '-' || fiscal_year || '-' || lpad(sequence::text, 6, '0')"), '0', "$when: the texts are the numbers'");
	return;
}
check_numbers('under way');

# The rest at once
sql("SET SESSION AUTHORIZATION $role; SELECT billing.issue_invoices(e) FROM unnest('{e1,e2}'::text[]) e");
check_numbers('at the end');
is(sql("SELECT DISTINCT last_number FROM billing.number_series"), $documents, 'each series has as many numbers as there are documents');
is(sql('SELECT invariant, violations FROM billing.verify() WHERE violations > 0'), '', 'verify() is clean');
sql("REVOKE ALL ON public.waiting, public.taken_back FROM $role; DROP OWNED BY $role; DROP ROLE $role");
done_testing();
