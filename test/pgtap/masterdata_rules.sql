-- What master data may be: codes, tax codes and their rates over time, accounts, products, meters; by function and by SQL.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(131);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'USD', 'America/New_York');
SELECT pg_temp.staff('acme'), pg_temp.staff('other');
SELECT pg_temp.stock('acme'), pg_temp.stock('other');

-- Entities
SELECT is(pg_temp.try(NULL, statement), code, statement)
FROM (VALUES
	($$SELECT billing.create_entity('acme', 'Again', 'EUR', 'Europe/Berlin')$$, 'ZB009'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'Europe/Atlantis')$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', '<+03>-03')$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'posix/../../etc/passwd')$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'XBT', 'Europe/Berlin')$$, 'ZB002'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'Europe/Berlin', 'Germany')$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'Europe/Berlin', 'DE', 0)$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'Europe/Berlin', 'DE', 13)$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'Europe/Berlin', 'DE', 1, 'up')$$, 'ZB001'),
	($$SELECT billing.create_entity('e', 'E', 'EUR', 'UTC', 'DE', 12, 'half_even')$$, ''),
	($$UPDATE billing.legal_entity SET auto_approve_limit = -1 WHERE code = 'e'$$, '23514'),
	($$UPDATE billing.legal_entity SET auto_approve_limit = 'NaN' WHERE code = 'e'$$, '23514'),
	($$UPDATE billing.legal_entity SET zero_invoices = 'drop' WHERE code = 'e'$$, '23514'),
	($$UPDATE billing.legal_entity SET auto_approve_limit = 5 WHERE code = 'e'$$, '1')
) AS c (statement, code);
SELECT is(pg_temp.try('adm', $$UPDATE billing.legal_entity SET city = 'Ulm' WHERE code = 'acme'$$), '1', 'an admin edits the entity');
SELECT is(pg_temp.try('adm', $$UPDATE billing.legal_entity SET time_zone = 'UTC'$$), '42501', 'but not what carries its history');
SELECT is(pg_temp.try('adm', $$UPDATE billing.legal_entity SET entity_id = 99$$), '42501', 'nor its key');

-- Codes are compared byte by byte, printable, 1 to 128 bytes, without blanks at the ends
SELECT is(pg_temp.try('ada', format('SELECT billing.add_product(%L, %L, %L)', 'acme', code, 'P')), expected, format('code %L', left(code, 20)))
FROM (VALUES
	('a', ''), ('A', ''), ('seat', 'ZB009'), ('Seat', ''), ('two words', ''), ('naïve ünïcode ✓', ''), ('it''s', ''), ('back\slash', ''), ('%s', ''), ('"; DROP TABLE billing.product; --', ''),
	(repeat('x', 128), ''), (repeat('x', 129), 'ZB001'), (repeat('ü', 64), ''), (repeat('ü', 65), 'ZB001'),
	('', 'ZB001'), (' ', 'ZB001'), (' a', 'ZB001'), ('a ', 'ZB001'), (E'a\tb', 'ZB001'), (E'a\nb', 'ZB001'), (E'\x01', 'ZB001'), (E'a\x7f', 'ZB001')
) AS c (code, expected);
SELECT is(pg_temp.try('ada', format('INSERT INTO billing.product (entity_id, code, name) SELECT entity_id, %L, %L FROM billing.legal_entity WHERE code = %L', code, 'P', 'acme')), '23514', format('SQL is bound by the same rule: %L', left(code, 20)))
FROM (VALUES (repeat('y', 129)), (''), (' a'), ('a '), (E'a\nb'), (E'a\x7f')) AS c (code);

-- Tax codes: the category decides whether there is a reason, and a rate above 0
SELECT is(pg_temp.try('ada', format('SELECT billing.add_tax_code(%L, %L, %L, %L, %L)', 'acme', 't-' || category || coalesce(reason, '-'), category, 'T', reason)), expected, format('category %s with reason %s', category, reason))
FROM (VALUES
	('S', NULL, ''), ('Z', NULL, ''), ('E', 'r', ''), ('AE', 'r', ''), ('K', 'r', ''), ('G', 'r', ''), ('O', 'r', ''),
	('S', 'r', 'ZB001'), ('Z', 'r', 'ZB001'), ('E', NULL, 'ZB001'), ('AE', NULL, 'ZB001'), ('K', NULL, 'ZB001'), ('G', NULL, 'ZB001'), ('O', NULL, 'ZB001'),
	('L', NULL, 'ZB001'), ('M', NULL, 'ZB001'), ('s', NULL, 'ZB001')
) AS c (category, reason, expected);
SELECT is(pg_temp.try('ada', format('SELECT billing.add_tax_rate(%L, %L, %s, %L, %L)', 'acme', code, rate, valid_from, valid_to)), expected, format('rate %s of %s from %s to %s', rate, code, valid_from, valid_to))
FROM (VALUES
	('t-S-', '7', '2020-01-01', '2020-07-01', ''),
	('t-S-', '5', '2020-07-01', '2021-01-01', ''),
	('t-S-', '7', '2021-01-01', NULL, ''),
	('t-S-', '8', '2020-12-31', '2021-01-01', 'ZB013'),
	('t-S-', '8', '2030-01-01', NULL, 'ZB013'),
	('t-S-', '8', '1999-12-31', '2000-01-01', ''),
	('t-S-', '8', '1999-12-30', '1999-12-30', 'ZB001'),
	('t-S-', '8', '1999-12-30', '1999-12-29', 'ZB001'),
	('t-S-', '-1', '1990-01-01', '1991-01-01', 'ZB001'),
	('t-S-', '100.000001', '1990-01-01', '1991-01-01', 'ZB001'),
	('t-S-', '100', '1990-01-01', '1991-01-01', ''),
	('t-S-', '8.1234567', '1992-01-01', '1993-01-01', 'ZB001'),
	('t-S-', '''NaN''', '1992-01-01', '1993-01-01', 'ZB001'),
	('t-Z-', '0', '2020-01-01', NULL, ''),
	('no', '0', '2020-01-01', NULL, 'ZB002')
) AS c (code, rate, valid_from, valid_to, expected);
SELECT pg_temp.must('ada', $$SELECT billing.add_tax_rate('acme', 't-AEr', 5, '2020-01-01')$$);
SELECT bag_eq('SELECT pg_temp.broken()', $$VALUES ('only tax codes of category S have a rate above 0: 1, such as tax code t-AEr')$$, 'a rate above 0 in another category than S is found');

-- Accounts
SELECT is(pg_temp.try('ada', statement), code, statement)
FROM (VALUES
	($$SELECT billing.add_account('acme', 'a2', 'c1', 'EUR', parent_account => 'a1')$$, ''),
	($$SELECT billing.add_account('acme', 'a3', 'c1', 'EUR', parent_account => 'a3')$$, 'ZB002'),
	($$SELECT billing.add_account('acme', 'a3', 'c1', 'EUR', 3651)$$, 'ZB001'),
	($$SELECT billing.add_account('acme', 'a3', 'c1', 'EUR', tax_code => 'no')$$, 'ZB002'),
	($$SELECT billing.add_account('acme', 'a3', 'c1', 'eur')$$, 'ZB002'),
	($$SELECT billing.add_account('acme', 'a3', 'c1', 'EUR', purchase_order => repeat('x', 201))$$, 'ZB001'),
	($$SELECT billing.add_account('acme', 'a1', 'c1', 'EUR')$$, 'ZB009'),
	($$SELECT billing.add_account('other', 'a9', 'c1', 'USD')$$, ''),
	($$UPDATE billing.billing_account SET parent_account_id = account_id WHERE code = 'a1'$$, '23514'),
	($$UPDATE billing.billing_account SET customer_id = 1$$, '42501'),
	($$UPDATE billing.billing_account SET payment_terms_days = 60 WHERE code = 'a1'$$, '2'),
	($$SELECT billing.add_product('acme', 'p', 'P', 'hours')$$, 'ZB001'),
	($$SELECT billing.add_product('acme', 'p', 'P', 'HUR', 'std')$$, ''),
	($$SELECT billing.add_meter('acme', 'm', 'M', 'median')$$, 'ZB001'),
	($$SELECT billing.add_meter('acme', 'm', 'M', 'count')$$, ''),
	($$UPDATE billing.meter SET meter_id = 1$$, '42501'),
	($$SELECT billing.add_price_book('acme', 'b', 'B', 'QQQ')$$, 'ZB002'),
	($$SELECT billing.add_price_book('acme', 'b', 'B', 'EUR')$$, ''),
	($$UPDATE billing.price_book SET currency = 'USD'$$, '42501')
) AS c (statement, code);

-- Rows stay in their entity, and nothing is deleted
SELECT is(pg_temp.try('ada', $$UPDATE billing.product SET entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'other') WHERE code = 'a'$$), 'ZB008', 'a row never moves to another entity');
SELECT is(pg_temp.try('ada', format('INSERT INTO billing.billing_account (entity_id, code, customer_id, currency) SELECT e.entity_id, %L, c.customer_id, %L FROM billing.legal_entity e, billing.customer c JOIN billing.legal_entity f USING (entity_id) WHERE e.code = %L AND f.code = %L', 'x', 'USD', 'other', 'acme')), '23503', 'nor refers to one of another entity');
SELECT is(pg_temp.try(p, format('DELETE FROM billing.%I', t)), CASE WHEN p IS NULL THEN 'ZB008' ELSE '42501' END, format('%s deletes no %s', coalesce(p, 'a superuser'), t))
FROM unnest('{legal_entity,tax_code,tax_rate,customer,billing_account,product,meter,price_book,price}'::text[]) t, unnest(ARRAY['ada', NULL]) p;

-- Prices: at most one on any day; an open one ends where the next begins
SELECT is(pg_temp.try('ada', format('SELECT billing.set_price(%L, %L, %L, %L, %L, %L)', 'acme', 'b', 'p', pg_temp.each(unit), valid_from, valid_to)), expected, format('price %s from %s to %s', unit, valid_from, valid_to))
FROM (VALUES
	('1', '2026-01-01', NULL, ''),
	('2', '2026-07-01', NULL, ''),
	('3', '2026-03-01', NULL, 'ZB013'),
	('3', '2025-01-01', '2026-01-01', ''),
	('3', '2025-06-01', '2025-07-01', 'ZB013'),
	('4', '2026-07-01', NULL, 'ZB013'),
	('4', '2027-01-01', '2027-02-01', ''),
	('5', '2027-01-15', NULL, 'ZB013'),
	('5', '2027-02-01', NULL, ''),
	('6', '2028-01-01', '2028-01-01', 'ZB001'),
	('6', '2028-01-01', '2027-12-31', 'ZB001')
) AS c (unit, valid_from, valid_to, expected);
SELECT results_eq($$SELECT valid_from, valid_to, (tariff::jsonb ->> 'unit')::numeric FROM billing.price ORDER BY valid_from$$,
	$$VALUES ('2025-01-01'::date, '2026-01-01'::date, 3::numeric), ('2026-01-01', '2026-07-01', 1), ('2026-07-01', '2027-01-01', 2), ('2027-01-01', '2027-02-01', 4), ('2027-02-01', NULL, 5)$$,
	'prices follow one another without gap or overlap; what was refused ended none');
SELECT is(pg_temp.try('ada', $$INSERT INTO billing.price (entity_id, price_book_id, product_id, valid_from, tariff) SELECT b.entity_id, b.price_book_id, p.product_id, '2026-02-01', '{"model": "per_unit", "unit": "9"}' FROM billing.price_book b JOIN billing.product p USING (entity_id) WHERE b.code = 'b' AND p.code = 'p'$$), '23P01', 'nor by SQL');
SELECT is(pg_temp.try('ada', $$SELECT billing.set_price('acme', 'b', 'p', '{"model": "per_unit"}', '2031-01-01')$$), 'ZB005', 'a price that is none is refused');

SELECT * FROM finish();
ROLLBACK;
