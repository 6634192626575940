-- A changed price, meter or rounding is one row, whoever is concerned; when a run opens it becomes a row of every account that may have
-- been billed by what was before, and of no other.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(55);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('beta', 'Beta', 'EUR', 'UTC', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('beta'), pg_temp.stock('beta');
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', b, b, 'EUR') FROM unnest('{list,other}'::text[]) b$$),
	pg_temp.must('ada', $$SELECT billing.add_product('acme', 'desk', 'Desk', tax_code => 'std'), billing.add_meter('acme', 'bytes', 'Bytes')$$);
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset

-- The shared changes since this was last asked: book product from..end, in their order
CREATE FUNCTION pg_temp.shared() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT concat_ws(' ', s.reason, b.code, p.code, m.code, s.first_day || '..' || coalesce(s.end_day::text, ''))
		FROM billing.shared_change s LEFT JOIN billing.price_book b USING (entity_id, price_book_id)
		LEFT JOIN billing.product p USING (entity_id, product_id) LEFT JOIN billing.meter m USING (entity_id, meter_id)
		ORDER BY s.entity_id, s.change_id;
	PERFORM set_config('role', 'billing_owner', true);
	DELETE FROM billing.shared_change;
	PERFORM set_config('role', 'none', true);
END $$;
SELECT is_empty('SELECT pg_temp.shared()', 'what was set up concerns nobody');

-- Which days have another price, as set_price() and plain statements leave it
CREATE TEMP TABLE priced (no serial, what text, statement text, noted text[]);
INSERT INTO priced (what, statement, noted) VALUES
	('a first price', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('10'), '2026-01-01')$$, '{price list seat 2026-01-01..}'),
	('a price from a day on: the one before ends there', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('11'), '2027-01-01')$$,
		'{price list seat 2027-01-01..,price list seat 2027-01-01..}'),
	('a price of some days', $$SELECT billing.set_price('acme', 'other', 'seat', pg_temp.each('11'), '2026-03-01', '2026-04-01')$$, '{price other seat 2026-03-01..2026-04-01}'),
	('days that have a price', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('12'), '2026-05-01', '2026-06-01')$$, '{}'),
	('another tariff', $$UPDATE billing.price SET tariff = pg_temp.each('9')::billing.tariff WHERE valid_from = '2026-01-01'$$, '{price list seat 2026-01-01..2027-01-01}'),
	('the same tariff', $$UPDATE billing.price SET tariff = '{"unit": "9.0", "model": "per_unit"}' WHERE valid_from = '2026-01-01'$$, '{}'),
	('an earlier first day', $$UPDATE billing.price SET valid_from = '2025-12-01' WHERE valid_from = '2026-01-01'$$, '{price list seat 2025-12-01..2026-01-01}'),
	('a later first day', $$UPDATE billing.price SET valid_from = '2025-12-15' WHERE valid_from = '2025-12-01'$$, '{price list seat 2025-12-01..2025-12-15}'),
	('an earlier end', $$UPDATE billing.price SET valid_to = '2026-12-01' WHERE valid_from = '2025-12-15'$$, '{price list seat 2026-12-01..2027-01-01}'),
	('no end', $$UPDATE billing.price SET valid_to = NULL WHERE valid_from = '2026-03-01'$$, '{price other seat 2026-04-01..}'),
	('an end again', $$UPDATE billing.price SET valid_to = '2026-05-01' WHERE valid_from = '2026-03-01'$$, '{price other seat 2026-05-01..}'),
	('both ends', $$UPDATE billing.price SET valid_from = '2026-02-01', valid_to = '2026-04-01' WHERE valid_from = '2026-03-01'$$, '{price other seat 2026-02-01..2026-05-01}'),
	('another product: both', $$UPDATE billing.price SET product_id = (SELECT product_id FROM billing.product WHERE code = 'desk') WHERE valid_from = '2026-02-01'$$,
		'{price other desk 2026-02-01..2026-04-01,price other seat 2026-02-01..2026-04-01}'),
	('two prices at once: one row from the first day to the last', $$UPDATE billing.price SET tariff = pg_temp.each('13')::billing.tariff WHERE price_book_id = (SELECT price_book_id FROM billing.price_book WHERE code = 'list')$$,
		'{price list seat 2025-12-15..}'),
	('no price', $$UPDATE billing.price SET tariff = pg_temp.each('14')::billing.tariff WHERE valid_from = '1999-01-01'$$, '{}');
CREATE FUNCTION pg_temp.priced(statement text) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.told('ada', statement);
	RETURN coalesce(array_agg(s), '{}') FROM pg_temp.shared() s;
END $$;
SELECT is(pg_temp.priced(statement), noted, what) FROM priced ORDER BY no;
SELECT is(pg_temp.try('rea', $$UPDATE billing.price SET tariff = pg_temp.each('1')::billing.tariff WHERE valid_from = '2027-01-01'$$), 'ZB003', 'without the duty');
SELECT is_empty('SELECT pg_temp.shared()', 'nothing was changed');

-- Meters and entities
SELECT pg_temp.must('ada', $$UPDATE billing.meter SET filter = '$.ok == true', value_field = 'n', name = 'N'$$), pg_temp.must('adm', $$UPDATE billing.legal_entity SET name = 'Acme Ltd', zero_invoices = 'issue' WHERE code = 'acme'$$);
SELECT is_empty('SELECT pg_temp.shared()', 'what acts on events to come, or is printed');
SELECT is(pg_temp.try('ada', $$UPDATE billing.meter SET quantity_scale = 2$$), '42501', 'nobody changes how a meter measures, or an entity rounds');
GRANT UPDATE ON billing.meter, billing.legal_entity TO billing_user;
SELECT pg_temp.must('ada', $$UPDATE billing.meter SET quantity_scale = 2 WHERE code = 'bytes'$$);
SELECT results_eq('SELECT pg_temp.shared()', $$VALUES ('meter bytes')$$, 'but where somebody may, it is noted');
SELECT pg_temp.must('adm', $$UPDATE billing.legal_entity SET rounding_mode = 'half_even' WHERE code = 'acme'$$);
SELECT results_eq('SELECT pg_temp.shared()', $$VALUES ('entity')$$, 'how amounts are rounded');
SELECT pg_temp.must('adm', $$UPDATE billing.legal_entity SET time_zone = 'UTC' WHERE code = 'acme'$$), pg_temp.must('adm', $$UPDATE billing.legal_entity SET time_zone = time_zone$$);
SELECT results_eq('SELECT pg_temp.shared()', $$VALUES ('entity')$$, 'the time zone, where it is another');
SELECT set_config('role', 'billing_owner', true);
UPDATE billing.currency SET minor_unit = minor_unit + 1 WHERE currency = 'EUR';
RESET ROLE;
SELECT results_eq($$SELECT count(*), count(DISTINCT entity_id) FROM billing.shared_change$$, $$SELECT count(*), count(*) FROM billing.legal_entity$$, 'a minor unit concerns every entity');
SELECT results_eq('SELECT DISTINCT pg_temp.shared()', $$VALUES ('currency')$$, 'and is called so');
SELECT is(pg_temp.try('ada', $$INSERT INTO billing.shared_change (entity_id, reason) SELECT entity_id, 'entity' FROM billing.legal_entity$$), '42501', 'nobody writes the list');

-- Whom it concerns. Billed through 1 February 2026; each account has one item.
CREATE TEMP TABLE cases (account text, start_date text, unit text, item text, change text);
INSERT INTO cases VALUES
	('advance', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list'$$, NULL),
	('arrears', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list', timing => 'arrears'$$, NULL),
	('year', '2026-01-01', 'year', $$'seat', 'recurring', 1, price_book => 'list'$$, NULL),
	('once', '2026-01-01', 'month', $$'seat', 'one_time', 1, price_book => 'list', valid_from => '2026-01-20'$$, NULL),
	('usage', '2026-01-01', 'month', $$'seat', 'usage', price_book => 'list', meter => 'calls'$$, NULL),
	-- two stretches in January, due on the 1st
	('amended', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list'$$, $$SELECT billing.change_item('acme', 'amended', 'i', '2026-01-15', 2)$$),
	-- the stretch from 1 June was due on 1 January
	('ahead', '2026-01-01', 'year', $$'seat', 'recurring', 1, price_book => 'list'$$, $$SELECT billing.change_item('acme', 'ahead', 'i', '2026-06-01', 2)$$),
	('ended', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list'$$, $$SELECT billing.end_contract('acme', 'ended', '2026-02-01')$$),
	-- half a month, due when the contract ended
	('short', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list', timing => 'arrears'$$, $$SELECT billing.end_contract('acme', 'short', '2026-01-16')$$),
	-- left the book on 1 February
	('left', '2026-01-01', 'month', $$'seat', 'recurring', 1, price_book => 'list'$$, $$SELECT billing.change_item('acme', 'left', 'i', '2026-02-01', price_book => 'other')$$),
	('to-come', '2026-03-01', 'month', $$'seat', 'recurring', 1, price_book => 'list'$$, NULL),
	('desk', '2026-01-01', 'month', $$'desk', 'recurring', 1, price_book => 'list'$$, NULL),
	('tariff', '2026-01-01', 'month', $$'seat', 'recurring', 1, pg_temp.each('1')$$, NULL);
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, %2$L, interval_unit => %3$L), billing.add_item('acme', %1$L, 'i', %4$s)$q$,
	account, start_date, unit, item)) FROM cases;
SELECT pg_temp.must('ada', change) FROM cases WHERE change IS NOT NULL;

CREATE FUNCTION pg_temp.spread(entity integer, through date, VARIADIC changes text[] DEFAULT '{}') RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	newest bigint := (SELECT max(change_id) FROM billing.account_change);
	written bigint;
BEGIN
	PERFORM set_config('role', 'billing_owner', true);
	INSERT INTO billing.shared_change (entity_id, reason, price_book_id, product_id, first_day, end_day)
	SELECT spread.entity, 'price', b.price_book_id, p.product_id, f[3]::date, nullif(f[4], '')::date
	FROM unnest(changes) c, string_to_array(c, ' ') f
	JOIN billing.price_book b ON b.entity_id = spread.entity AND b.code = f[1]
	JOIN billing.product p ON p.entity_id = spread.entity AND p.code = f[2];
	written := billing_internal.spread_changes(entity, through);
	PERFORM set_config('role', 'none', true);
	IF written <> (SELECT count(*) FROM billing.account_change WHERE change_id > newest) OR EXISTS (SELECT FROM billing.shared_change s WHERE s.entity_id = spread.entity) THEN
		RAISE EXCEPTION '% are not what was written, or something is left', written;
	END IF;
	RETURN (SELECT coalesce(array_agg(a.code ORDER BY a.code COLLATE "C"), '{}') FROM billing.account_change c JOIN billing.billing_account a USING (entity_id, account_id) WHERE c.change_id > newest);
END $$;
CREATE TEMP TABLE spread (what text, through text, change text, accounts text[]);
INSERT INTO spread VALUES
	('for ever from the first day', '2026-02-01', 'list seat 2026-01-01', '{advance,ahead,amended,arrears,ended,left,once,short,usage,year}'),
	('long before', '2026-02-01', 'list seat 1999-01-01', '{advance,ahead,amended,arrears,ended,left,once,short,usage,year}'),
	('until the first day', '2026-02-01', 'list seat 2025-01-01 2026-01-01', '{}'),
	('the first day', '2026-02-01', 'list seat 2026-01-01 2026-01-02', '{advance,ahead,amended,arrears,ended,left,short,usage,year}'),
	('within a month: no stretch begins', '2026-02-01', 'list seat 2026-01-02 2026-01-15', '{}'),
	('where an amendment begins', '2026-02-01', 'list seat 2026-01-02 2026-01-16', '{amended}'),
	('where something is charged once', '2026-02-01', 'list seat 2026-01-20 2026-01-21', '{once}'),
	('from the last day that is billed', '2026-02-01', 'list seat 2026-02-01', '{advance,ahead,amended}'),
	('from the day after: only what was billed ahead', '2026-02-01', 'list seat 2026-02-02', '{ahead}'),
	('ahead, the day itself', '2026-02-01', 'list seat 2026-06-01 2026-06-02', '{ahead}'),
	('ahead, the days before', '2026-02-01', 'list seat 2026-02-02 2026-06-01', '{}'),
	('next year', '2026-02-01', 'list seat 2027-01-01', '{}'),
	('beyond every calendar', '2026-02-01', 'list seat 5000000-01-01', '{}'),
	('through a day before', '2026-01-31', 'list seat 2026-01-01', '{advance,ahead,amended,ended,left,once,short,year}'),
	('through the first day', '2026-01-01', 'list seat 2026-01-01', '{advance,ahead,amended,ended,left,year}'),
	('through the day before the first', '2025-12-31', 'list seat 2026-01-01', '{}'),
	('through March', '2026-03-01', 'list seat 2026-03-01', '{advance,ahead,amended,to-come}'),
	('through a day that no calendar needs', '9999-12-31', 'list seat 4999-01-01', '{}'),
	('no run yet', NULL, 'list seat 2026-01-01', '{}'),
	('another book', '2026-02-01', 'other seat 2026-01-01', '{left}'),
	('another product', '2026-02-01', 'list desk 2026-01-01', '{desk}'),
	('of an item that has left the book', '2026-02-01', 'other seat 2026-01-01 2026-02-01', '{}');
SELECT is(pg_temp.spread(:acme, through::date, change), accounts, what) FROM spread;
SELECT is(pg_temp.spread(:acme, '2026-02-01', 'list desk 2026-01-01', 'list desk 2026-01-01', 'other seat 2026-01-01'), '{desk,left}', 'several changes, a row for each account');
SELECT is(pg_temp.spread(:acme, '2026-02-01'), '{}', 'none');

-- Meters and entities
SELECT pg_temp.must('ada', $$UPDATE billing.meter SET quantity_scale = 3 WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme') AND code = 'calls'$$);
SELECT is(pg_temp.spread(:acme, '2026-02-01'), '{usage}', 'a meter: the accounts with items that it measures');
SELECT pg_temp.must('ada', $$UPDATE billing.meter SET quantity_scale = 4 WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme') AND code = 'calls'$$);
SELECT is(pg_temp.spread(:acme, NULL), '{}', 'nobody was billed');
SELECT pg_temp.must('adm', $$UPDATE billing.legal_entity SET rounding_mode = 'half_up' WHERE code = 'acme'$$);
SELECT is(cardinality(pg_temp.spread(:acme, '2026-02-01')), 13, 'the entity: all accounts with items');
SELECT results_eq($$SELECT DISTINCT reason FROM billing.account_change ORDER BY 1$$, $$VALUES ('contract'), ('entity'), ('meter'), ('price'), ('terms')$$, 'and each says why');
SELECT is_empty($$SELECT * FROM billing.account_change c JOIN billing.legal_entity l USING (entity_id) WHERE l.code = 'beta'$$, 'nothing of it concerns another entity');

SELECT * FROM finish();
ROLLBACK;
