-- What falls due when: in advance and in arrears, anchors, intervals, terms that begin or end within a period, one-time
-- charges, usage. Every amount is worked out by hand from 100 a period.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(49);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- Each case has an account and contract of its own; expected is: due from..to days/of exact (2 decimals)
CREATE TEMP TABLE cases (name text, contract text, item text, through date, expected text);
INSERT INTO cases VALUES
	('advance', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-02-28',
		'01-01 01-01..02-01 31/31 100.00; 02-01 02-01..03-01 28/28 100.00'),
	('advance-first-day', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-01-01', '01-01 01-01..02-01 31/31 100.00'),
	('advance-before', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100')$$, '2025-12-31', NULL),
	('arrears', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100'), timing => 'arrears'$$, '2026-02-28', '02-01 01-01..02-01 31/31 100.00'),
	('arrears-on-the-day', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100'), timing => 'arrears'$$, '2026-03-01',
		'02-01 01-01..02-01 31/31 100.00; 03-01 02-01..03-01 28/28 100.00'),
	('arrears-day-before', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100'), timing => 'arrears'$$, '2026-01-31', NULL),
	('begins-within', $$'2026-01-15', anchor => '2026-01-01'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-02-01',
		'01-15 01-15..02-01 17/31 54.84; 02-01 02-01..03-01 28/28 100.00'),
	('before-the-anchor', $$'2026-01-01', anchor => '2026-06-15'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-01-15',
		'01-01 01-01..01-15 14/31 45.16; 01-15 01-15..02-15 31/31 100.00'),
	('anchor-31', $$'2026-01-31'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-03-31',
		'01-31 01-31..02-28 28/28 100.00; 02-28 02-28..03-31 31/31 100.00; 03-31 03-31..04-30 30/30 100.00'),
	('ends-within', $$'2026-01-01', '2026-02-15'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-12-31',
		'01-01 01-01..02-01 31/31 100.00; 02-01 02-01..02-15 14/28 50.00'),
	('ends-within-arrears', $$'2026-01-01', '2026-02-15'$$, $$'recurring', 1, pg_temp.each('100'), timing => 'arrears'$$, '2026-12-31',
		'02-01 01-01..02-01 31/31 100.00; 02-15 02-01..02-15 14/28 50.00'),
	('one-day', $$'2026-02-10', '2026-02-11', anchor => '2026-02-01'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-12-31', '02-10 02-10..02-11 1/28 3.57'),
	('no-day', $$'2026-02-10', '2026-02-10'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-12-31', NULL),
	('quarter', $$'2026-01-01', interval_unit => 'quarter', anchor => '2025-11-30'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-03-01',
		'01-01 01-01..02-28 58/90 64.44; 02-28 02-28..05-30 91/91 100.00'),
	('three-months', $$'2026-01-31', interval_count => 3$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-07-30',
		'01-31 01-31..04-30 89/89 100.00; 04-30 04-30..07-31 92/92 100.00'),
	('leap-year', $$'2024-02-29', '2026-01-01', 'year'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-12-31',
		'02-29 02-29..02-28 365/365 100.00; 02-28 02-28..01-01 307/365 84.11'),
	('fortnight', $$'2026-01-05', interval_unit => 'week', interval_count => 2$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-01-19',
		'01-05 01-05..01-19 14/14 100.00; 01-19 01-19..02-02 14/14 100.00'),
	('daily', $$'2026-02-27', interval_unit => 'day'$$, $$'recurring', 1, pg_temp.each('100')$$, '2026-03-01',
		'02-27 02-27..02-28 1/1 100.00; 02-28 02-28..03-01 1/1 100.00; 03-01 03-01..03-02 1/1 100.00'),
	('item-within', $$'2026-01-01'$$, $$'recurring', 1, pg_temp.each('100'), valid_from => '2026-02-10', valid_to => '2026-03-10'$$, '2026-12-31',
		'02-01 02-10..03-01 19/28 67.86; 03-01 03-01..03-10 9/31 29.03'),
	('item-before-contract', $$'2026-02-01'$$, $$'recurring', 1, pg_temp.each('100'), valid_from => '2026-01-01', valid_to => '2026-02-15'$$, '2026-12-31', '02-01 02-01..02-15 14/28 50.00'),
	('once', $$'2026-01-01'$$, $$'one_time', 1, pg_temp.each('100')$$, '2026-12-31', '01-01 01-01..01-02 1/1 100.00'),
	('once-later', $$'2026-01-01'$$, $$'one_time', 1, pg_temp.each('100'), valid_from => '2026-03-15'$$, '2026-03-15', '03-15 03-15..03-16 1/1 100.00'),
	('once-not-yet', $$'2026-01-01'$$, $$'one_time', 1, pg_temp.each('100'), valid_from => '2026-03-15'$$, '2026-03-14', NULL),
	('nothing', $$'2026-01-01'$$, $$'recurring', 0, pg_temp.each('100')$$, '2026-01-01', '01-01 01-01..02-01 31/31 0.00'),
	('rebate', $$'2026-01-01'$$, $$'recurring', -1, pg_temp.each('100')$$, '2026-01-01', '01-01 01-01..02-01 31/31 -100.00'),
	('usage-none', $$'2026-01-01'$$, $$'usage', tariff => pg_temp.each('100'), meter => 'calls'$$, '2026-03-01', NULL),
	('usage', $$'2026-01-01'$$, $$'usage', tariff => pg_temp.each('100'), meter => 'calls'$$, '2026-03-01', '02-01 01-01..02-01 31/31 200.00; 03-01 02-01..03-01 28/28 300.00'),
	('usage-not-yet', $$'2026-01-01'$$, $$'usage', tariff => pg_temp.each('100'), meter => 'calls'$$, '2026-01-31', NULL),
	('usage-from-within', $$'2026-01-01'$$, $$'usage', tariff => pg_temp.each('100'), meter => 'calls', valid_from => '2026-01-20'$$, '2026-02-01', '02-01 01-20..02-01 31/31 100.00'),
	('usage-minimum', $$'2026-01-01', '2026-02-01'$$, $$'usage', tariff => '{"model": "per_unit", "unit": "100", "minimum": "250"}', meter => 'calls'$$, '2026-03-01', '02-01 01-01..02-01 31/31 250.00');

SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, %2$s), billing.add_item('acme', %1$L, 'i', 'seat', %3$s)$q$, name, contract, item)) FROM cases;
-- Three events of 1 in January, the last of which is at 23:30 UTC on the 31st, and so on 1 February in Berlin; one of 2 in February
SELECT is(pg_temp.must('ada', $$SELECT accepted FROM billing.ingest_usage('acme', (
	SELECT jsonb_agg(jsonb_build_object('id', account || e, 'source', 's', 'type', 'calls', 'subject', account, 'time', at, 'data', jsonb_build_object('quantity', quantity)))
	FROM (VALUES ('2026-01-01T00:00:00+01:00', 1), ('2026-01-31T22:59:59Z', 1), ('2026-01-31T23:30:00Z', 1), ('2026-02-28T22:59:59Z', 2)) AS e (at, quantity),
		unnest('{usage,usage-not-yet,usage-from-within,usage-minimum}'::text[]) AS account))$$), '16', 'usage is taken in');

CREATE FUNCTION pg_temp.due(of_account text, through date) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format($q$SELECT string_agg(format('%%s %%s..%%s %%s/%%s %%s', to_char(charge_date, 'MM-DD'), to_char(period_start, 'MM-DD'), to_char(period_end, 'MM-DD'), days, of_days, round(exact_amount, 2)), '; '
		ORDER BY charge_date, period_start) FROM billing.entitlement('acme', %L, %L)$q$, of_account, through));
$$;
SELECT is(pg_temp.due(name, through), expected, name) FROM cases;

-- Before the run the preview has exactly these lines; the run writes exactly the preview, one document per due date
CREATE TEMP TABLE preview AS
SELECT c.name AS account, c.through, p.* FROM cases c, LATERAL (
	SELECT jsonb_array_elements(coalesce(pg_temp.must('ada', format('SELECT jsonb_agg(p) FROM billing.preview_invoice(%L, %L, %L) p', 'acme', c.name, c.through))::jsonb, '[]')) AS line) p;
SELECT is((SELECT count(*) FROM preview), (SELECT sum(array_length(string_to_array(expected, ';'), 1)) FROM cases)::bigint, 'as many lines as expected');
SELECT is((SELECT count(*) FROM billing.document), 0::bigint, 'a preview writes nothing');
CREATE TEMP TABLE due_dates AS SELECT DISTINCT through FROM cases;
SELECT pg_temp.bill('acme', max(through)) FROM cases;
SELECT results_eq($$SELECT o.account::text, l.period_start, l.period_end, l.quantity::numeric, l.amount::numeric, l.tax_category, l.tax_rate, l.description, o.billing_date
	FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) JOIN preview p
		ON p.account = o.account AND p.line ->> 'period_start' = l.period_start::text AND (p.line ->> 'billing_date')::date = o.billing_date ORDER BY 1, 2$$,
	$$SELECT account, (line ->> 'period_start')::date, (line ->> 'period_end')::date, (line ->> 'quantity')::numeric, (line ->> 'amount')::numeric, line ->> 'tax_category', (line ->> 'tax_rate')::numeric, line ->> 'description', (line ->> 'billing_date')::date
	FROM preview ORDER BY 1, 2$$, 'the run writes what the preview said');
SELECT is((SELECT count(*) FROM billing.preview_invoice('acme', 'advance', '2026-12-31')), 0::bigint, 'then there is nothing left to preview');
SELECT is((SELECT count(*) FROM billing.invoice), (SELECT count(DISTINCT (i.account_id, l.charge_date)) FROM billing.invoice_line l JOIN billing.invoice i USING (entity_id, invoice_id)), 'one document per account and due date');
SELECT is((SELECT count(*) FROM billing.invoice_overview o JOIN billing.billing_account a ON a.entity_id = o.entity_id AND a.code = o.account
	GROUP BY o.account, o.billing_date ORDER BY 1 DESC LIMIT 1), 1::bigint, 'never two');

-- A run through an earlier day than before does not undo, and one through the same day writes nothing
SELECT count(*) AS lines FROM billing.invoice_line \gset
SELECT pg_temp.bill('acme', d::date) FROM unnest('{2026-12-31,2026-01-15,1999-01-01}'::text[]) d;
SELECT is((SELECT count(*) FROM billing.invoice_line), :lines::bigint, 'runs through the same or an earlier day write nothing');
SELECT is((SELECT array_agg(DISTINCT billed_through) FROM billing.account_watermark), '{2026-12-31}'::date[], 'and lower no watermark');
SELECT is(pg_temp.due('advance', '2026-01-01'), pg_temp.due('advance', '2026-12-31'), 'what was billed stays entitled, whatever day is asked for');

-- A missed run catches up: month by month, or at once, is the same
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2027-01-31'), billing.add_item('acme', %1$L, 'i', 'seat', 'recurring', 7, pg_temp.each('1.115'))$q$, a)) FROM unnest('{monthly}'::text[]) a;
SELECT pg_temp.bill('acme', d::date) FROM generate_series(date '2027-01-31', '2028-01-31', interval '26 days') d;
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2027-01-31'), billing.add_item('acme', %1$L, 'i', 'seat', 'recurring', 7, pg_temp.each('1.115'))$q$, a)) FROM unnest('{at-once}'::text[]) a;
SELECT pg_temp.bill('acme', '2028-01-31');
SELECT results_eq($$SELECT billing_date, net::numeric, total::numeric FROM billing.invoice_overview WHERE account = 'monthly' ORDER BY 1$$,
	$$SELECT billing_date, net::numeric, total::numeric FROM billing.invoice_overview WHERE account = 'at-once' ORDER BY 1$$, 'a missed run catches up');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE account = 'at-once'), 13::bigint, 'thirteen months from 31 January to 31 January');

-- A run of an entity without accounts, a run by somebody without the duty, a run that is recorded
SELECT billing.create_entity('empty', 'Empty', 'EUR', 'Europe/Berlin');
SELECT billing.grant_duty('empty', 'ada', 'biller');
SELECT is(pg_temp.try('ada', $$CALL billing.run_billing('empty', '2026-01-01')$$), '0', 'an entity without accounts is billed in no time');
SELECT is((SELECT format('%s %s %s %s', accounts, documents, lines, finished_at IS NOT NULL) FROM billing.billing_run r JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'empty'), '0 0 0 t', 'the run is on record');
SELECT is(pg_temp.try('rea', $$CALL billing.run_billing('acme', '2026-01-01')$$), 'ZB003', 'a reader does not bill');
SELECT is((SELECT count(*) FROM billing.billing_run WHERE finished_at IS NULL), 0::bigint, 'no run is left open');
SELECT is(pg_temp.try('ada', format('SELECT billing_internal.run_slice(%L, %s, 1)', 'acme', max(run_id))), 'ZB002', 'a run that has ended bills no more') FROM billing.billing_run;
SELECT is(pg_temp.try('ada', format('SELECT billing_internal.run_slice(%L, %s, 1)', 'acme', max(run_id))), 'ZB002', 'nor one of another entity')
FROM billing.billing_run r JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'empty';

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
