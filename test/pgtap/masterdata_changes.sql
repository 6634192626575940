-- The list of what the next billing run looks at again: every change that may alter what an account owes leaves a row in its own
-- transaction, and nothing else does.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(16);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- What was written since this was last asked: account and reason, in the order of writing
CREATE SEQUENCE pg_temp.asked MINVALUE 0;
CREATE FUNCTION pg_temp.changed() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT format('%s %s', coalesce(a.code, c.account_id::text), concat_ws(' ', c.reason, c.usage_from))
		FROM billing.account_change c LEFT JOIN billing.billing_account a USING (entity_id, account_id)
		WHERE c.change_id > (SELECT last_value FROM pg_temp.asked) ORDER BY c.change_id;
	PERFORM setval('pg_temp.asked', coalesce(max(change_id), 0)) FROM billing.account_change;
END $$;

-- Contracts
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k1', 'a1', '2026-01-01')$$);
SELECT is_empty('SELECT pg_temp.changed()', 'a contract without items owes nothing');
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'k1', 'i', 'seat', 'recurring', 10, pg_temp.each('12.50'))$$);
SELECT results_eq('SELECT pg_temp.changed()', $$VALUES ('a1 terms')$$, 'a new item');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k1', 'i', '2026-02-01', 20)$$);
SELECT results_eq('SELECT pg_temp.changed()', $$VALUES ('a1 terms'), ('a1 terms'), ('a1 terms')$$, 'an amendment: what it ends, what it keeps, what is new');
SELECT is(pg_temp.try('ada', $$SELECT billing.change_item('acme', 'k1', 'j', '2026-02-01', 20)$$), 'ZB002', 'no such item');
SELECT is(pg_temp.try('ada', $$SELECT billing.change_item('acme', 'k1', 'i', '2026-02-01', 20, pg_temp.each('1'), 'no-book')$$), 'ZB001', 'terms that contradict each other');
SELECT is(pg_temp.try('rea', $$SELECT billing.change_item('acme', 'k1', 'i', '2026-02-01', 20)$$), 'ZB003', 'without the duty');
SELECT is_empty('SELECT pg_temp.changed()', 'what failed changed nothing');
SELECT pg_temp.must('ada', $$SELECT billing.end_item('acme', 'k1', 'i', '2026-06-01')$$);
SELECT results_eq('SELECT DISTINCT pg_temp.changed()', $$VALUES ('a1 terms')$$, 'the end of an item');
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'k1', '2026-05-01')$$);
SELECT results_eq('SELECT pg_temp.changed()', $$VALUES ('a1 contract')$$, 'the end of a contract');

-- One row for each account of a statement, however many contracts it wrote
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'a2', 'c1', 'EUR'), billing.create_contract('acme', 'k2', 'a2', '2026-01-01'), billing.create_contract('acme', 'k3', 'a2', '2026-01-01')$$);
SET LOCAL ROLE billing_owner;
UPDATE billing.contract SET end_date = '2027-01-01' WHERE code IN ('k1', 'k2', 'k3');
RESET ROLE;
SELECT results_eq('SELECT pg_temp.changed() ORDER BY 1', $$VALUES ('a1 contract'), ('a2 contract')$$, 'one row for an account, however many of its contracts a statement changed');
SET LOCAL ROLE billing_owner;
UPDATE billing.contract SET end_date = '2027-01-01' WHERE code = 'k4';
RESET ROLE;
SELECT is_empty('SELECT pg_temp.changed()', 'a statement that changed no row');

-- What does not alter what is owed
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'L', 'EUR'), billing.set_price('acme', 'list', 'seat', pg_temp.each('10'), '2026-01-01')$$),
	pg_temp.must('ada', $$UPDATE billing.billing_account SET payment_terms_days = 14, code = 'a2' WHERE code = 'a2'$$),
	pg_temp.must('ada', $$UPDATE billing.customer SET city = 'Bonn'$$), pg_temp.must('ada', $$UPDATE billing.product SET name = 'Place'$$),
	pg_temp.must('ada', $$UPDATE billing.meter SET filter = '$.ok == true'$$), pg_temp.must('adm', $$UPDATE billing.legal_entity SET name = 'Acme Ltd'$$);
SELECT is_empty('SELECT pg_temp.changed()', 'particulars, the tax of what comes, what a meter takes from events to come, a price that nobody uses');

-- The list belongs to the functions
SELECT is(pg_temp.try('ada', $$INSERT INTO billing.account_change (entity_id, account_id, reason) SELECT entity_id, 1, 'x' FROM billing.legal_entity$$), '42501', 'nobody writes it');
SELECT is(pg_temp.try('ada', $$DELETE FROM billing.account_change$$), '42501', 'nor empties it');
SELECT is(pg_temp.try(NULL, $$DELETE FROM billing.account_change$$), 'ZB010', 'not even a superuser by accident');
SELECT is(pg_temp.told('nob', $$SELECT count(*) FROM billing.account_change$$), '0', 'and who has no duty in the entity sees none of it');
SELECT * FROM finish();
ROLLBACK;
