-- Contracts and their items: what is refused, and what amendments make of the versions of an item's terms.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(83);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme'), pg_temp.staff('other');
SELECT pg_temp.stock('acme'), pg_temp.stock('other');
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'L', 'EUR'), billing.add_price_book('acme', 'usd', 'L', 'USD'), billing.add_account('acme', 'dollar', 'c1', 'USD')$$);

-- Contracts
SELECT is(pg_temp.try('ada', statement), code, statement)
FROM (VALUES
	($$SELECT billing.create_contract('acme', 'k1', 'a1', '2026-01-01')$$, ''),
	($$SELECT billing.create_contract('other', 'k1', 'a1', '2026-01-01')$$, ''),
	($$SELECT billing.create_contract('acme', 'k1', 'a1', '2026-01-01')$$, 'ZB009'),
	($$SELECT billing.create_contract('acme', 'k2', 'a9', '2026-01-01')$$, 'ZB002'),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '2026-01-01', '2025-12-31')$$, 'ZB001'),
	($$SELECT billing.create_contract('acme', 'empty', 'a1', '2026-01-01', '2026-01-01')$$, ''),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '2026-01-01', interval_unit => 'decade')$$, 'ZB001'),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '2026-01-01', interval_count => 0)$$, 'ZB001'),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '2026-01-01', interval_count => 1001)$$, 'ZB001'),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '1899-12-31')$$, 'ZB012'),
	($$SELECT billing.create_contract('acme', 'k2', 'a1', '3000-01-01')$$, 'ZB012'),
	($$SELECT billing.create_contract('acme', 'quarterly', 'a1', '2026-01-01', interval_unit => 'quarter', anchor => '2025-12-31')$$, ''),
	($$SELECT billing.create_contract('acme', 'dollars', 'dollar', '2026-01-01')$$, '')
) AS c (statement, code);
SELECT results_eq('SELECT code::text, currency, anchor FROM billing.contract ORDER BY contract_id',
	$$VALUES ('k1', 'EUR', '2026-01-01'::date), ('k1', 'EUR', '2026-01-01'), ('empty', 'EUR', '2026-01-01'), ('quarterly', 'EUR', '2025-12-31'), ('dollars', 'USD', '2026-01-01')$$,
	'currency comes from the account, the anchor is the first day unless given');

-- Items
SELECT is(pg_temp.try('ada', format($$SELECT billing.add_item('acme', %s)$$, arguments)), code, arguments)
FROM (VALUES
	($$'k1', 'rec', 'seat', 'recurring', 1, pg_temp.each('1')$$, ''),
	($$'k1', 'rec', 'seat', 'recurring', 1, pg_temp.each('1')$$, 'ZB009'),
	($$'k1', 'arr', 'seat', 'recurring', 1, price_book => 'list', timing => 'arrears'$$, ''),
	($$'k1', 'one', 'seat', 'one_time', 1, pg_temp.each('1'), valid_from => '2026-05-05'$$, ''),
	($$'k1', 'use', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', valid_to => '2026-06-01'$$, ''),
	($$'k1', 'use2', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', valid_from => '2026-05-31'$$, 'ZB013'),
	($$'k1', 'use2', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', valid_from => '2026-06-01'$$, ''),
	($$'k1', 'neg', 'seat', 'recurring', -1, pg_temp.each('1')$$, ''),
	($$'k1', 'x', 'seat', 'recurring', 'NaN', pg_temp.each('1')$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', NULL, pg_temp.each('1')$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'sometimes', 1, pg_temp.each('1')$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, pg_temp.each('1'), 'list'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, '{}'$$, 'ZB005'),
	($$'k1', 'x', 'seat', 'recurring', 1, '[]'$$, 'ZB005'),
	($$'k1', 'x', 'seat', 'recurring', 1, price_book => 'usd'$$, 'ZB013'),
	($$'dollars', 'x', 'seat', 'recurring', 1, price_book => 'usd'$$, ''),
	($$'dollars', 'y', 'seat', 'recurring', 1, price_book => 'list'$$, 'ZB013'),
	($$'k1', 'x', 'seat', 'recurring', 1, price_book => 'none'$$, 'ZB002'),
	($$'k1', 'x', 'none', 'recurring', 1, pg_temp.each('1')$$, 'ZB002'),
	($$'none', 'x', 'seat', 'recurring', 1, pg_temp.each('1')$$, 'ZB002'),
	($$'k1', 'x', 'seat', 'usage', tariff => pg_temp.each('1')$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'usage', 5, pg_temp.each('1'), meter => 'calls'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'none'$$, 'ZB002'),
	($$'k1', 'x', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', timing => 'advance'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, pg_temp.each('1'), meter => 'calls'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, pg_temp.each('1'), timing => 'later'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, pg_temp.each('1'), valid_from => '2026-02-01', valid_to => '2026-02-01'$$, 'ZB001'),
	($$'k1', 'x', 'seat', 'recurring', 1, pg_temp.each('1'), valid_from => '2026-02-01', valid_to => '2026-01-31'$$, 'ZB001')
) AS c (arguments, code);

-- Amendments: what is known now, after each; quantity × unit from to
CREATE FUNCTION pg_temp.terms(of_item text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s×%s %s..%s', quantity, tariff::jsonb ->> 'unit', to_char(valid_from, 'MM-DD'), to_char(valid_to, 'MM-DD')), ' ' ORDER BY valid_from)
	FROM billing.contract_term WHERE contract = 'k2' AND item = of_item;
$$;
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k2', 'a1', '2026-01-01'), billing.add_item('acme', 'k2', 'i', 'seat', 'recurring', 1, pg_temp.each('10')),
	billing.add_item('acme', 'k2', 'o', 'seat', 'one_time', 1, pg_temp.each('10'), valid_from => '2026-03-10')$$);
SELECT is(pg_temp.told('ada', format($$SELECT billing.change_item('acme', 'k2', %s)$$, change)) || pg_temp.terms('i'), terms, change)
FROM (VALUES
	($$'i', '2026-06-01', 2$$, '1×10 01-01..06-01 2×10 06-01..'),
	($$'i', '2026-03-01', tariff => pg_temp.each('9')$$, '1×10 01-01..03-01 1×9 03-01..06-01 2×9 06-01..'),
	($$'i', '2026-09-01', 3$$, '1×10 01-01..03-01 1×9 03-01..06-01 2×9 06-01..09-01 3×9 09-01..'),
	($$'i', '2026-06-01', 5$$, '1×10 01-01..03-01 1×9 03-01..06-01 5×9 06-01..09-01 5×9 09-01..'),
	($$'i', '2025-01-01', 7$$, '7×10 01-01..03-01 7×9 03-01..06-01 7×9 06-01..09-01 7×9 09-01..')
) AS c (change, terms);
SELECT is(pg_temp.told('ada', $$SELECT billing.end_item('acme', 'k2', 'i', '2026-05-01')$$) || pg_temp.terms('i'), '7×10 01-01..03-01 7×9 03-01..05-01', 'an end cuts what reaches beyond it');
SELECT is(pg_temp.try('ada', $$SELECT billing.change_item('acme', 'k2', 'i', '2026-05-01', 1)$$), 'ZB013', 'after its end nothing is left to change');
SELECT is(pg_temp.told('ada', $$SELECT billing.end_item('acme', 'k2', 'i', '2026-02-01')$$) || pg_temp.terms('i'), '7×10 01-01..02-01', 'it can end earlier still');
SELECT is(coalesce(pg_temp.told('ada', $$SELECT billing.end_item('acme', 'k2', 'i', '2025-02-01')$$) || pg_temp.terms('i'), 'none'), 'none', 'before its first day it never was');
SELECT is(pg_temp.told('ada', $$SELECT billing.change_item('acme', 'k2', 'o', '2026-01-01', 4)$$) || pg_temp.terms('o'), '4×10 03-10..03-11', 'a one-time charge changes as a whole');
SELECT is(pg_temp.told('ada', $$SELECT billing.change_item('acme', 'k2', 'o', '2026-01-01', price_book => 'list')$$), '', 'from a price of its own to a price book');
SELECT is((SELECT format('%s %s', tariff, price_book) FROM billing.contract_term WHERE contract = 'k2' AND item = 'o'), ' list', 'which then has the price alone');
SELECT is(pg_temp.try('ada', format($$SELECT billing.change_item('acme', %s)$$, arguments)), code, arguments)
FROM (VALUES
	($$'k1', 'rec', '2026-01-01'$$, 'ZB001'),
	($$'k1', 'rec', '2026-01-01', 1, pg_temp.each('1'), 'list'$$, 'ZB001'),
	($$'k1', 'use', '2026-01-01', 1$$, 'ZB001'),
	($$'k1', 'rec', '2026-01-01', price_book => 'usd'$$, 'ZB013'),
	($$'k1', 'rec', '2026-01-01', tariff => '{}'$$, 'ZB005'),
	($$'k1', 'rec', 'infinity', 1$$, 'ZB001'),
	($$'k1', 'none', '2026-01-01', 1$$, 'ZB002')
) AS c (arguments, code);

-- Items with usage of their own: as many as wanted with one meter, beside the one item for what names the account
SELECT is(pg_temp.try('ada', format($$SELECT billing.add_item('acme', %s)$$, arguments)), code, arguments)
FROM (VALUES
	($$'quarterly', 'own1', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', own_usage => true$$, ''),
	($$'quarterly', 'own2', 'seat', 'usage', tariff => pg_temp.each('2'), meter => 'calls', own_usage => true$$, ''),
	($$'quarterly', 'rest', 'seat', 'usage', tariff => pg_temp.each('3'), meter => 'calls'$$, 'ZB013'),
	($$'quarterly', 'rest', 'seat', 'recurring', 1, pg_temp.each('1'), own_usage => true$$, 'ZB001'),
	($$'quarterly', 'rest', 'seat', 'one_time', 1, pg_temp.each('1'), own_usage => true$$, 'ZB001'),
	($$'quarterly', 'rest', 'seat', 'recurring', 1, pg_temp.each('1'), own_usage => false$$, ''),
	($$'quarterly', 'null', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', own_usage => NULL$$, 'ZB001')
) AS c (arguments, code);
SELECT is((SELECT string_agg(item || ' ' || own_usage, ', ' ORDER BY item) FROM billing.contract_term WHERE contract = 'quarterly'),
	'own1 true, own2 true, rest false', 'the terms show which items have usage of their own');
SELECT is(pg_temp.told('ada', $$SELECT billing.change_item('acme', 'quarterly', 'own1', '2026-07-01', tariff => pg_temp.each('5'))$$), '', 'such an item is amended like any other');
SELECT is((SELECT string_agg(format('%s %s %s', valid_from, v.own_usage, superseded_at IS NULL), ', ' ORDER BY version_id)
	FROM billing.contract_item_version v JOIN billing.contract_item i USING (entity_id, item_id) WHERE i.code = 'own1'),
	'2026-01-01 t f, 2026-01-01 t t, 2026-07-01 t t', 'and every version has usage of its own');
SELECT is(pg_temp.told('ada', $$SELECT billing.end_item('acme', 'quarterly', 'own1', '2026-09-01')$$), '', 'and ends like any other');
SELECT is((SELECT count(*) FROM billing.contract_item_version v JOIN billing.contract_item i USING (entity_id, item_id) WHERE v.own_usage <> i.own_usage), 0::bigint,
	'an item and its versions agree');

-- Nothing was overwritten
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'contract_item_version' AND action = 'delete'), 0::bigint, 'no version was deleted');
SELECT is_empty($$SELECT * FROM billing.audit_log WHERE object_type = 'contract_item_version' AND action = 'update' AND before - 'superseded_at' <> after - 'superseded_at'$$,
	'of a version nothing ever changes but whether it is superseded');
SELECT is(pg_temp.try(p, statement), CASE WHEN p = 'ada' THEN '42501' ELSE code END, coalesce(p, 'a superuser') || ': ' || statement)
FROM (VALUES ('UPDATE billing.contract SET end_date = NULL', 'ZB010'), ('UPDATE billing.contract_item SET code = code', 'ZB010'), ('DELETE FROM billing.contract_item_version', 'ZB008')) AS c (statement, code),
	unnest(ARRAY['ada', NULL]) AS p;
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
