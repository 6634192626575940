-- Bill = entitled − billed: what amendments, corrected prices, late usage and dropped documents make of what was billed.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(104);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'L', 'EUR'), billing.set_price('acme', 'list', 'seat', pg_temp.each('10'), '2026-01-01')$$);

-- Each case: 10 seats at 12.50 a month in advance from 1 January, billed through 1 February (2 × 125), issued; then a change,
-- and a run through 10 February. Expected: the lines of the new document, and its figures (19 % tax).
CREATE TEMP TABLE cases (name text, item text, change text, document text, lines text[]);
INSERT INTO cases VALUES
	('more', NULL, $$SELECT billing.change_item('acme', 'more', 'i', '2026-01-15', 20)$$, 'invoice 193.55 + 36.77 = 230.32',
		'{2026-01-01 credit 31/31 i × -10: -125.00,2026-01-01 charge 14/31 i × 10: 56.45,2026-01-15 charge 17/31 i × 20: 137.10,2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 20: 250.00}'),
	('fewer', NULL, $$SELECT billing.change_item('acme', 'fewer', 'i', '2026-02-01', 4)$$, 'credit_note -75.00 + -14.25 = -89.25',
		'{2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 4: 50.00}'),
	('cheaper', NULL, $$SELECT billing.change_item('acme', 'cheaper', 'i', '2026-01-01', tariff => pg_temp.each('12.49'))$$, 'credit_note -0.20 + -0.04 = -0.24',
		'{2026-01-01 credit 31/31 i × -10: -125.00,2026-01-01 charge 31/31 i × 10: 124.90,2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 10: 124.90}'),
	('later', NULL, $$SELECT billing.change_item('acme', 'later', 'i', '2026-03-01', 99)$$, NULL, NULL),
	('item-ended', NULL, $$SELECT billing.end_item('acme', 'item-ended', 'i', '2026-01-11')$$, 'credit_note -209.68 + -39.84 = -249.52',
		'{2026-01-01 credit 31/31 i × -10: -125.00,2026-01-01 charge 10/31 i × 10: 40.32,2026-02-01 credit 28/28 i × -10: -125.00}'),
	('contract-ended', NULL, $$SELECT billing.end_contract('acme', 'contract-ended', '2026-02-15')$$, 'credit_note -62.50 + -11.88 = -74.38',
		'{2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 14/28 i × 10: 62.50}'),
	('never-was', NULL, $$SELECT billing.end_contract('acme', 'never-was', '2025-01-01')$$, 'credit_note -250.00 + -47.50 = -297.50',
		'{2026-01-01 credit 31/31 i × -10: -125.00,2026-02-01 credit 28/28 i × -10: -125.00}'),
	('twice', NULL, $$SELECT billing.change_item('acme', 'twice', 'i', '2026-02-01', 4), billing.change_item('acme', 'twice', 'i', '2026-02-01', 12)$$, 'invoice 25.00 + 4.75 = 29.75',
		'{2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 12: 150.00}'),
	('and-back', NULL, $$SELECT billing.change_item('acme', 'and-back', 'i', '2026-02-01', 4), billing.change_item('acme', 'and-back', 'i', '2026-02-01', 10)$$, NULL, NULL),
	('other-price', NULL, $$SELECT billing.change_item('acme', 'other-price', 'i', '2026-02-01', tariff => '{"model": "graduated", "tiers": [{"up_to": 4, "unit": "20"}, {"up_to": null, "unit": "10"}]}')$$, 'invoice 15.00 + 2.85 = 17.85',
		'{2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 10: 140.00}'),
	-- 10 × 10 from the price book
	('book', $$'recurring', 10, price_book => 'list'$$, $$SELECT 1$$, NULL, NULL),
	('to-book', NULL, $$SELECT billing.change_item('acme', 'to-book', 'i', '2026-02-01', price_book => 'list')$$, 'credit_note -25.00 + -4.75 = -29.75',
		'{2026-02-01 credit 28/28 i × -10: -125.00,2026-02-01 charge 28/28 i × 10: 100.00}'),
	('arrears', $$'recurring', 10, pg_temp.each('12.50'), timing => 'arrears'$$, $$SELECT billing.change_item('acme', 'arrears', 'i', '2026-01-16', 5)$$, 'credit_note -32.26 + -6.13 = -38.39',
		'{2026-01-01 credit 31/31 i × -10: -125.00,2026-01-01 charge 15/31 i × 10: 60.48,2026-01-16 charge 16/31 i × 5: 32.26}'),
	('once', $$'one_time', 10, pg_temp.each('12.50'), valid_from => '2026-01-20'$$, $$SELECT billing.change_item('acme', 'once', 'i', '2026-01-01', 8)$$, 'credit_note -25.00 + -4.75 = -29.75',
		'{2026-01-20 credit 1/1 i × -10: -125.00,2026-01-20 charge 1/1 i × 8: 100.00}'),
	('once-ended', $$'one_time', 10, pg_temp.each('12.50'), valid_from => '2026-01-20'$$, $$SELECT billing.end_item('acme', 'once-ended', 'i', '2026-01-01')$$, 'credit_note -125.00 + -23.75 = -148.75',
		'{2026-01-20 credit 1/1 i × -10: -125.00}');
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'), billing.add_item('acme', %1$L, 'i', 'seat', %2$s)$q$,
	name, coalesce(item, $$'recurring', 10, pg_temp.each('12.50')$$))) FROM cases;
SELECT pg_temp.bill('acme', '2026-02-01');
SELECT is(pg_temp.issue('acme'), '27', 'two documents of each, but one in arrears and of what is charged once');
SELECT is((SELECT sum(net) FROM billing.invoice_overview WHERE account = 'more'), 250::numeric, 'ten seats for two months');
SELECT pg_temp.must('ada', change) FROM cases;
SELECT pg_temp.bill('acme', '2026-02-10');
CREATE FUNCTION pg_temp.new_lines(of_account text, from_state text DEFAULT 'draft') RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(format('%s %s %s/%s %s × %s: %s', to_char(l.period_start, 'YYYY-MM-DD'), l.kind, l.days, l.of_days, i.code, l.quantity, l.amount) ORDER BY l.line_no)
	FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) JOIN billing.contract_item i USING (entity_id, item_id)
	WHERE o.account = of_account AND o.state = from_state;
$$;
CREATE FUNCTION pg_temp.new_document(of_account text, in_state text DEFAULT 'draft') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s + %s = %s', kind, net, tax, total), '; ' ORDER BY invoice_id) FROM billing.invoice_overview WHERE account = of_account AND state = in_state;
$$;
SELECT is(pg_temp.new_document(name), document, name || ': the document') FROM cases;
SELECT is(pg_temp.new_lines(name), lines, name || ': its lines') FROM cases;
SELECT is((SELECT array_agg(DISTINCT billing_date) FROM billing.invoice_overview WHERE state = 'draft'), '{2026-02-10}'::date[], 'corrections bear the day of the run');
SELECT is_empty($$SELECT l.* FROM billing.invoice_line l LEFT JOIN billing.invoice_line r ON r.entity_id = l.entity_id AND r.invoice_id = l.reverses_invoice_id AND r.line_no = l.reverses_line_no
	WHERE l.kind = 'credit' AND (r.amount IS DISTINCT FROM -l.amount OR r.description <> l.description)$$, 'a credit is the charge that it names, with the other sign');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- Dropped, it is billed anew, to the same figures
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', reference)) FROM billing.invoice_overview WHERE state = 'draft';
SELECT is_empty('SELECT b FROM pg_temp.broken() b WHERE b !~ ''^billed = entitled''', 'but for that nothing is broken');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_document(name), document, name || ': the same document again') FROM cases;
SELECT is(pg_temp.new_lines(name), lines, name || ': the same lines') FROM cases;
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT pg_temp.issue('acme');

-- All of it taken back again: the sum of all that was ever billed is what is owed
SELECT pg_temp.must('ada', format('SELECT billing.end_contract(%L, %L, %L)', 'acme', name, '2026-01-01')) FROM cases;
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT pg_temp.issue('acme');
SELECT is((SELECT array_agg(DISTINCT net) FROM (SELECT sum(net) AS net FROM billing.invoice_overview WHERE state = 'issued' GROUP BY account) s), '{0}'::numeric[], 'taken back whole, everything adds up to nothing');
SELECT is_empty($$SELECT account FROM billing.invoice_overview WHERE state = 'issued' GROUP BY account HAVING abs(sum(tax)) > count(*) * 0.005$$, 'and tax to less than what each document rounds');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- Prices: a new one, a corrected one, a missing one
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'p', 'c1', 'EUR'), billing.create_contract('acme', 'p', 'p', '2026-01-01'), billing.add_item('acme', 'p', 'i', 'seat', 'recurring', 2, price_book => 'list')$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT pg_temp.issue('acme');
SELECT is(pg_temp.new_document('p', 'issued'), 'invoice 20.00 + 3.80 = 23.80; invoice 20.00 + 3.80 = 23.80', 'two at ten, for two months');
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('12'), '2026-02-01')$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_lines('p'), '{2026-02-01 credit 28/28 i × -2: -20.00,2026-02-01 charge 28/28 i × 2: 24.00}', 'a new price from February on');
SELECT pg_temp.issue('acme');
SELECT pg_temp.must('ada', $$UPDATE billing.price SET tariff = '{"model": "per_unit", "unit": "9"}' WHERE valid_from = '2026-01-01'$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_lines('p'), '{2026-01-01 credit 31/31 i × -2: -20.00,2026-01-01 charge 31/31 i × 2: 18.00}', 'a corrected price of January');
SELECT is(pg_temp.new_document('p'), 'credit_note -2.00 + -0.38 = -2.38', 'is a credit note');
SELECT is(pg_temp.try('aud', $$UPDATE billing.price SET tariff = '{"model": "per_unit", "unit": "1"}'$$), 'ZB003', 'prices are corrected by a price manager');
SELECT pg_temp.issue('acme');
-- A price that changes within a period does not cut it: the price of the first day counts
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('50'), '2026-02-15')$$);
SELECT is(pg_temp.must('ada', $$SELECT count(*) FROM billing.preview_invoice('acme', 'p', '2026-02-10')$$), '0', 'the price of a stretch is that of its first day');

-- A missing price is an exception, and what else is due on that day waits with it
SELECT pg_temp.must('ada', $$SELECT billing.add_product('acme', 'gadget', 'Gadget', tax_code => 'std'), billing.add_account('acme', 'm', 'c1', 'EUR'), billing.create_contract('acme', 'm', 'm', '2026-01-01', '2026-02-01'),
	billing.add_item('acme', 'm', 'has', 'seat', 'recurring', 1, pg_temp.each('10')), billing.add_item('acme', 'm', 'has-not', 'gadget', 'recurring', 3, price_book => 'list')$$);
SELECT is(pg_temp.must('ada', $$SELECT string_agg(concat_ws(' ', item, amount, problem), ', ' ORDER BY item) FROM billing.preview_invoice('acme', 'm', '2026-01-31')$$), 'has 10.00, has-not there is no price on 2026-01-01', 'the preview says so');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_document('m'), 'invoice 10.00 + 1.90 = 11.90', 'what has a price is drafted');
SELECT is((SELECT format('%s %s %s %s', kind, owner_duty, subject, detail) FROM billing.open_exception WHERE subject = 'm'), 'missing_price price_manager m item has-not of contract m has no price on 2026-01-01', 'what has none is an exception');
SELECT is((SELECT exceptions FROM billing.billing_run ORDER BY run_id DESC LIMIT 1), 1::bigint, 'the run counts it');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is((SELECT count(*) FROM billing.open_exception WHERE subject = 'm'), 1::bigint, 'a second run does not raise it again');
SELECT is(pg_temp.must('ada', $$SELECT on_hold FROM billing.validate_invoices('acme')$$), '1', 'an incomplete document is held');
SELECT is_empty('SELECT pg_temp.broken()', 'an exception explains why billed is not entitled');
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'list', 'gadget', pg_temp.each('1.333'), '2026-01-01')$$);
SET LOCAL datestyle = 'SQL, DMY';
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT pg_temp.bill('acme', '2026-02-10');
RESET datestyle;
SELECT is((SELECT array_agg(format('%s %s', l.amount, l.description) ORDER BY l.item_id) FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.account = 'm'),
	'{"10.00 Seat, 2026-01-01 to 2026-01-31","4.00 Gadget, 2026-01-01 to 2026-01-31"}', 'priced, it is billed, once, and described the same whatever the session''s DateStyle');
SELECT is((SELECT format('%s %s', state, resolution ~ '^billed by run') FROM billing.exception WHERE subject = 'm' AND kind = 'missing_price' AND document_id IS NULL), 'resolved t', 'and the exception is settled');
SELECT pg_temp.must('ada', format('SELECT billing.release_invoice(%L, %L)', 'acme', reference)) FROM billing.invoice_overview WHERE state = 'on_hold';
SELECT is(pg_temp.issue('acme'), '2', 'both are issued');

-- A price that cannot rate the quantity is an exception too, and what was billed stays
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'r', 'c1', 'EUR'), billing.create_contract('acme', 'r', 'r', '2026-01-01', '2026-02-01'), billing.add_item('acme', 'r', 'i', 'seat', 'recurring', 1, pg_temp.each('10'))$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT pg_temp.issue('acme');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'r', 'i', '2026-01-01', -5, '{"model": "volume", "tiers": [{"up_to": null, "unit": "1"}]}')$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is((SELECT kind FROM billing.open_exception WHERE subject = 'r'), 'rating_failed', 'what cannot be rated is an exception');
SELECT is(pg_temp.new_document('r'), NULL, 'what was billed is left as it is');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'r', 'i', '2026-01-01', 5)$$);
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_lines('r'), '{2026-01-01 credit 31/31 i × -1: -10.00,2026-01-01 charge 31/31 i × 5: 5.00}', 'until it can');
SELECT is((SELECT count(*) FROM billing.open_exception WHERE subject = 'r'), 0::bigint, 'which settles the exception');
SELECT pg_temp.issue('acme');

-- Usage that comes late, or is taken back
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'u', 'c1', 'EUR'), billing.create_contract('acme', 'u', 'u', '2026-01-01'), billing.add_item('acme', 'u', 'i', 'seat', 'usage',
	tariff => '{"model": "graduated", "tiers": [{"up_to": 10, "unit": "2"}, {"up_to": null, "unit": "1"}]}', meter => 'calls')$$);
CREATE FUNCTION pg_temp.use(id text, quantity numeric, at text DEFAULT '2026-01-20T12:00:00Z') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT concat_ws(''/'', accepted, duplicate) FROM billing.ingest_usage(''acme'', %L)', jsonb_build_object('id', id, 'source', 's', 'type', 'calls', 'subject', 'u', 'time', at, 'data', jsonb_build_object('quantity', quantity))));
$$;
SELECT is(pg_temp.use('1', 8), '1/0', 'eight in January');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT pg_temp.issue('acme');
SELECT is(pg_temp.new_document('u', 'issued'), 'invoice 16.00 + 3.04 = 19.04', 'eight at two');
SELECT is(pg_temp.use('2', 5), '1/0', 'five more come late');
SELECT is(pg_temp.use('2', 5), '0/1', 'and again');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_lines('u'), '{2026-01-01 credit 31/31 i × -8: -16.00,2026-01-01 charge 31/31 i × 13: 23.00}', 'thirteen are ten at two and three at one');
SELECT is(pg_temp.use('3', -4), '1/0', 'four are taken back before it is issued');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE account = 'u' AND state = 'draft'), 2::bigint, 'a draft is billed too: what changed since is a further document');
SELECT is((SELECT net::numeric FROM billing.invoice_overview WHERE account = 'u' AND state = 'draft' ORDER BY invoice_id DESC LIMIT 1), -5::numeric, 'nine are 18, not 23');
SELECT is(pg_temp.try('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', (SELECT reference FROM billing.invoice_overview WHERE account = 'u' AND state = 'draft' ORDER BY invoice_id LIMIT 1))), 'ZB013', 'what another document credits is not dropped');
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', (SELECT reference FROM billing.invoice_overview WHERE account = 'u' AND state = 'draft' ORDER BY invoice_id DESC LIMIT 1)));
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', (SELECT reference FROM billing.invoice_overview WHERE account = 'u' AND state = 'draft')));
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_lines('u'), '{2026-01-01 credit 31/31 i × -8: -16.00,2026-01-01 charge 31/31 i × 9: 18.00}', 'dropped in turn, one document says it all');
SELECT pg_temp.issue('acme');
SELECT is(pg_temp.use('4', -9), '1/0', 'all is taken back');
SELECT pg_temp.bill('acme', '2026-02-10');
SELECT is(pg_temp.new_document('u'), 'credit_note -18.00 + -3.42 = -21.42', 'which is a credit note');
SELECT is((SELECT sum(net) FROM billing.invoice_overview WHERE account = 'u' AND state <> 'discarded'), 0::numeric, 'and leaves nothing');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

SELECT * FROM finish();
ROLLBACK;
