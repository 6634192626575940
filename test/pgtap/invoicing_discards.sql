-- Dropped documents: what was charged, credited and charged anew never leaves two charges of the same days standing, and a run
-- through a wrong day can be undone.
BEGIN;
\ir ../lib/persons.sql
SELECT no_plan();
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k', 'a1', '2026-01-01'),
	billing.add_item('acme', 'k', 'i', 'seat', 'recurring', 10, pg_temp.each('10'))$$);

-- The reference of the n-th document of the entity
CREATE FUNCTION pg_temp.document(n integer) RETURNS text LANGUAGE sql AS $$
	SELECT reference FROM billing.invoice_overview WHERE entity = 'acme' ORDER BY invoice_id OFFSET n - 1 LIMIT 1;
$$;
CREATE FUNCTION pg_temp.discard(n integer) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try('ada', format('SELECT billing.discard_invoice(''acme'', %L, ''a test'')', pg_temp.document(n)));
$$;

-- January is charged (1: 100), credited (2), and charged again (3: 100)
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'k', '2026-01-01')$$);
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'k', '2027-01-01')$$);
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT results_eq($$SELECT pg_temp.lines('acme')$$, ARRAY[
	'2026-01-01 charge 31/31 i × 10: 100.00', '2026-01-01 credit 31/31 i × -10: -100.00', '2026-01-01 charge 31/31 i × 10: 100.00'],
	'charged, credited, charged again');
SELECT is(pg_temp.discard(1), 'ZB013', 'a charge that is credited elsewhere is not dropped');
SELECT is(pg_temp.discard(2), 'ZB013', 'nor is a credit whose days are charged again');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');

-- From the last to the first it goes
SELECT is(pg_temp.discard(3), '', 'the last is dropped');
SELECT is(pg_temp.discard(2), '', 'then the credit');
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT results_eq($$SELECT pg_temp.lines('acme')$$, ARRAY['2026-01-01 charge 31/31 i × 10: 100.00'], 'the first charge stands alone, and a run adds nothing');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');

-- Should two charges ever stand, the earlier is credited: here the credit between them is dropped past the functions
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'k', '2026-01-01')$$);
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'k', '2027-01-01')$$);
SELECT pg_temp.bill('acme', '2026-01-15');
SET LOCAL ROLE billing_owner;
UPDATE billing.invoice_line l SET discarded = true
FROM billing.invoice_overview o WHERE o.reference = pg_temp.document(4) AND l.invoice_id = o.invoice_id;
RESET ROLE;
SELECT results_eq($$SELECT example FROM billing.verify('acme') WHERE violations > 0 AND invariant = 'no period is billed twice'$$,
	ARRAY[format('%s line 1', pg_temp.document(5))], 'two charges of the same days are found');
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT results_eq($$SELECT violations FROM billing.verify('acme') WHERE invariant ~ 'billed twice|entitled'$$, ARRAY[0::bigint, 0], 'and settled by the next run');
SELECT results_eq($$SELECT sum(amount) FROM billing.invoice_line WHERE NOT discarded$$, ARRAY[100.00], 'January is billed once');

-- A run through a wrong year
SELECT billing.create_entity('late', 'Late', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('late'), pg_temp.stock('late');
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('late', 'k', 'a1', '2026-01-01'),
	billing.add_item('late', 'k', 'i', 'seat', 'recurring', 10, pg_temp.each('10'))$$);
SELECT pg_temp.bill('late', '2026-01-01');
SELECT pg_temp.bill('late', '2062-02-01');
SELECT results_eq($$SELECT count(*) FROM billing.invoice_overview WHERE entity = 'late'$$, ARRAY[434::bigint], '36 years and two months at once');
SELECT pg_temp.must('ada', $$SELECT count(billing.discard_invoice('late', reference, 'a wrong year'))
	FROM billing.invoice_overview WHERE entity = 'late' AND billing_date > '2026-01-01'$$);
SELECT pg_temp.bill('late', '2026-03-01');
SELECT results_eq($$SELECT billing_date FROM billing.invoice_overview WHERE entity = 'late' AND state = 'draft' ORDER BY 1$$,
	ARRAY['2026-01-01', '2026-02-01', '2026-03-01']::date[], 'dropped, and the next run goes through its own day');
SELECT is_empty($$SELECT pg_temp.broken('late')$$, 'every invariant holds');

SELECT * FROM finish();
ROLLBACK;
