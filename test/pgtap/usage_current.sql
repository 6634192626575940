-- What the running billing period comes to so far: periods, terms, prices, aggregations, groups, forecasts. Every figure is worked
-- out by hand; the day asked about is 10 July 2026 unless the case says otherwise, so 10 of 31 days of July are over.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(57);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('yen', 'Yen', 'JPY', 'Asia/Tokyo', 'JP');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('yen'), pg_temp.stock('yen', 'JPY');

-- A contract with one usage item; an account of its own, called like the contract
CREATE FUNCTION pg_temp.contract(name text, tariff text, starts date DEFAULT '2026-07-01', meter text DEFAULT 'calls', entity text DEFAULT 'acme',
	currency text DEFAULT 'EUR', ends text DEFAULT 'NULL', unit text DEFAULT 'month') RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT billing.add_account(%1$L, %2$L, ''c1'', %6$L), billing.create_contract(%1$L, %2$L, %2$L, %3$L, %7$s, interval_unit => %8$L),
		billing.add_item(%1$L, %2$L, ''use'', ''seat'', ''usage'', tariff => %4$L, meter => %5$L)', entity, name, starts, tariff, meter, currency, ends, unit));
$$;
-- Usage of a subject: moments in local time, with data
CREATE SEQUENCE pg_temp.event;
CREATE FUNCTION pg_temp.use(subject text, at text, data text DEFAULT '1', meter text DEFAULT 'calls', entity text DEFAULT 'acme') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('app', format('SELECT accepted FROM billing.ingest_usage(%L, jsonb_build_object(''id'', %L, ''source'', ''s'', ''type'', %L, ''subject'', %L, ''time'', %L, ''data'', %L::jsonb))',
		entity, nextval('pg_temp.event'), meter, subject,
		to_char(at::timestamp AT TIME ZONE CASE entity WHEN 'yen' THEN 'Asia/Tokyo' ELSE 'Europe/Berlin' END AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
		CASE WHEN data ~ '^\{' THEN data ELSE format('{"quantity": %s}', data) END));
$$;
-- from..to quantity/events amount currency, forecast quantity amount, problem; as the reader sees it
CREATE FUNCTION pg_temp.now_of(account text, day date DEFAULT '2026-07-10', entity text DEFAULT 'acme') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('rea', format($q$SELECT string_agg(concat_ws(' ', dimensions, to_char(period_start, 'MM-DD') || '..' || to_char(period_end, 'MM-DD'),
		trim_scale(quantity) || '/' || events, amount, currency || ',', trim_scale(forecast_quantity), forecast_amount, problem), '; ' ORDER BY item, period_start, dimensions::text)
		FROM billing.current_usage(%L, %L, as_of => %L)$q$, entity, account, day));
$$;

-- A graduated price: 1000 at 0.10, more at 0.05. 600 + 700 + 50 through 10 July: 100 + 350 × 0.05 = 117.50.
-- Forecast 1350 × 31 / 10 = 4185: 100 + 3185 × 0.05 = 259.25.
SELECT pg_temp.contract('graduated', '{"model": "graduated", "tiers": [{"up_to": 1000, "unit": "0.10"}, {"up_to": null, "unit": "0.05"}]}');
SELECT is(pg_temp.now_of('graduated'), '07-01..08-01 0/0 0.00 EUR, 0 0.00', 'before the first event');
SELECT pg_temp.use('graduated', '2026-07-01 00:00', '600'), pg_temp.use('graduated', '2026-07-05 12:00', '700'),
	pg_temp.use('graduated', '2026-07-10 23:59:59', '50'), pg_temp.use('graduated', '2026-07-11 00:00', '1000'), pg_temp.use('graduated', '2026-06-30 23:59:59', '5000');
SELECT is(pg_temp.now_of('graduated'), '07-01..08-01 1350/3 117.50 EUR, 4185 259.25', 'the days through the one asked about, of the period');
SELECT is(pg_temp.now_of('graduated', '2026-07-11'), '07-01..08-01 2350/4 167.50 EUR, 6622.727273 381.14', 'a day later: 2350, 100 + 1350 × 0.05; forecast 2350 × 31 / 11 = 6622.727273, 100 + 5622.727273 × 0.05 = 381.136364');
SELECT is(pg_temp.now_of('graduated', '2026-07-01'), '07-01..08-01 600/1 60.00 EUR, 18600 980.00', 'on the first day: 600 × 31 = 18600, 100 + 17600 × 0.05');
SELECT is(pg_temp.now_of('graduated', '2026-07-31'), '07-01..08-01 2350/4 167.50 EUR, 2350 167.50', 'on the last day the forecast is what there is');
SELECT is(pg_temp.now_of('graduated', '2026-08-01'), '08-01..09-01 0/0 0.00 EUR, 0 0.00', 'the next period begins anew');
SELECT is(pg_temp.now_of('graduated', '2026-06-30'), NULL, 'before the contract there is no period');
SELECT is(pg_temp.told('rea', $$SELECT concat_ws(' ', contract, item, meter, coalesce(dimensions::text, 'none')) FROM billing.current_usage('acme', 'graduated', as_of => '2026-07-10')$$),
	'graduated use calls none', 'whose usage it is');
SELECT is(pg_temp.use('graduated', to_char(now() AT TIME ZONE 'Europe/Berlin', 'YYYY-MM-DD'), '3'), '1', 'an event of today');
SELECT ok(pg_temp.told('rea', $$SELECT quantity >= 3 FROM billing.current_usage('acme', 'graduated')$$)::boolean, 'without a day it is today');
-- The same from roll-ups
SELECT billing_internal.restored_usage();
SELECT ok((SELECT count(*) > 0 FROM billing.usage_rollup) AND NOT EXISTS (SELECT FROM billing.usage_event e JOIN billing.usage_watermark w USING (entity_id) WHERE e.event_id > w.after_event_id),
	'all is rolled up');
SELECT is(pg_temp.now_of('graduated'), '07-01..08-01 1350/3 117.50 EUR, 4185 259.25', 'roll-ups say the same');
SELECT pg_temp.use('graduated', '2026-07-09 08:00', '-350');
SELECT is(pg_temp.now_of('graduated'), '07-01..08-01 1000/4 100.00 EUR, 3100 205.00', 'roll-ups and a tail: 1350 − 350');

-- Anniversary periods: from 31 January, so 28 February to 31 March has 31 days; on 5 March 6 are over. 12 × 31 / 6 = 62.
SELECT pg_temp.contract('anniversary', '{"model": "per_unit", "unit": "0.5"}', '2026-01-31');
SELECT pg_temp.use('anniversary', '2026-02-27 23:59', '100'), pg_temp.use('anniversary', '2026-02-28 00:00', '10'), pg_temp.use('anniversary', '2026-03-05 09:00', '2');
SELECT is(pg_temp.now_of('anniversary', '2026-03-05'), '02-28..03-31 12/2 6.00 EUR, 62 31.00', 'from the anniversary');
SELECT is(pg_temp.now_of('anniversary', '2026-02-27'), '01-31..02-28 100/1 50.00 EUR, 100 50.00', 'to the day before the next');
-- A contract that begins and ends within its period: the anchor is its start, 5 days in all, 2 over. 4 × 5 / 2 = 10.
SELECT pg_temp.contract('short', '{"model": "per_unit", "unit": "1"}', '2026-07-09', ends => $$'2026-07-14'$$);
SELECT pg_temp.use('short', '2026-07-09 10:00', '4');
SELECT is(pg_temp.now_of('short'), '07-09..07-14 4/1 4.00 EUR, 10 10.00', 'a contract of five days');
SELECT is(pg_temp.now_of('short', '2026-07-13'), '07-09..07-14 4/1 4.00 EUR, 4 4.00', 'on its last day');
SELECT is(pg_temp.now_of('short', '2026-07-14'), NULL, 'and over');
SELECT pg_temp.contract('weekly', '{"model": "per_unit", "unit": "1"}', '2026-07-01', unit => 'week');
SELECT pg_temp.use('weekly', '2026-07-08 10:00', '6'), pg_temp.use('weekly', '2026-07-07 10:00', '1');
SELECT is(pg_temp.now_of('weekly'), '07-08..07-15 6/1 6.00 EUR, 14 14.00', 'weeks: 3 of 7 days, 6 × 7 / 3 = 14');

-- Terms that change within the period: a line before and a line after. 3 × 17 / 6 = 8.5 at 2.
SELECT pg_temp.contract('amended', '{"model": "per_unit", "unit": "1"}');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'amended', 'use', '2026-07-15', tariff => '{"model": "per_unit", "unit": "2"}')$$);
SELECT pg_temp.use('amended', '2026-07-14 10:00', '5'), pg_temp.use('amended', '2026-07-15 10:00', '3');
SELECT is(pg_temp.now_of('amended', '2026-07-20'), '07-01..07-15 5/1 5.00 EUR, 5 5.00; 07-15..08-01 3/1 6.00 EUR, 8.5 17.00', 'each with its price; the first is over');
SELECT is(pg_temp.now_of('amended', '2026-07-14'), '07-01..07-15 5/1 5.00 EUR, 5 5.00', 'terms to come are not shown yet');
SELECT pg_temp.must('ada', $$SELECT billing.end_item('acme', 'amended', 'use', '2026-07-20')$$);
SELECT is(pg_temp.now_of('amended', '2026-07-20'), NULL, 'an item that has ended is not current');

-- Prices from a book; without a price; a quantity that the price cannot rate
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'List', 'EUR'), billing.set_price('acme', 'list', 'seat', '{"model": "per_unit", "unit": "0.2"}', '2026-07-01', '2026-08-01'),
	billing.add_account('acme', 'book', 'c1', 'EUR'), billing.create_contract('acme', 'book', 'book', '2026-07-01'), billing.add_item('acme', 'book', 'use', 'seat', 'usage', price_book => 'list', meter => 'calls')$$);
SELECT pg_temp.use('book', '2026-07-05 10:00', '10'), pg_temp.use('book', '2026-08-05 10:00', '10');
SELECT is(pg_temp.now_of('book'), '07-01..08-01 10/1 2.00 EUR, 31 6.20', 'the price of the book');
SELECT is(pg_temp.now_of('book', '2026-08-10'), '08-01..09-01 10/1 EUR, 31 there is no price on 2026-08-01', 'no price, no amount');
SELECT pg_temp.contract('negative', '{"model": "graduated", "tiers": [{"up_to": null, "unit": "1"}]}');
SELECT pg_temp.use('negative', '2026-07-05 10:00', '-1');
SELECT ok(pg_temp.now_of('negative') ~ '^07-01..08-01 -1/1 EUR, -3.1 .*negative', 'what a price cannot rate says why: ' || pg_temp.now_of('negative'));
-- Yen have no decimals: 3 × 0.5 = 1.5, half away from zero 2; 9.3 × 0.5 = 4.65, so 5
SELECT pg_temp.contract('yen', '{"model": "per_unit", "unit": "0.5"}', entity => 'yen', currency => 'JPY');
SELECT pg_temp.use('yen', '2026-07-01 00:00', '3', entity => 'yen'), pg_temp.use('yen', '2026-06-30 23:59', '3', entity => 'yen');
SELECT is(pg_temp.now_of('yen', entity => 'yen'), '07-01..08-01 3/1 2 JPY, 9.3 5', 'amounts are rounded like lines, days are those of the entity');
-- 1 % of each event, at least 2: 100 is 2, 500 is 5; forecast 7 × 31 / 10 = 21.70
SELECT pg_temp.contract('single', '{"model": "percentage", "rate": "1", "event_min": "2"}');
SELECT pg_temp.use('single', '2026-07-05 10:00', '100'), pg_temp.use('single', '2026-07-06 10:00', '500'), pg_temp.use('single', '2026-07-11 10:00', '900');
SELECT is(pg_temp.now_of('single'), '07-01..08-01 600/2 7.00 EUR, 1860 21.70', 'a price of single events rates them one by one');
-- 0.30 for each event: 3 events so far, 9.3 by the end of the month are 9
SELECT pg_temp.contract('fixed', '{"model": "percentage", "rate": "0", "fixed": "0.30"}');
SELECT pg_temp.use('fixed', '2026-07-0' || d || ' 10:00', '1') FROM generate_series(1, 3) d;
SELECT is(pg_temp.now_of('fixed'), '07-01..08-01 3/3 0.90 EUR, 9.3 2.70', 'events are extended to whole ones');

-- The other aggregations
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'n', 'Number', 'count'), billing.add_meter('acme', 'max', 'Max', 'max'), billing.add_meter('acme', 'min', 'Min', 'min'),
	billing.add_meter('acme', 'latest', 'Latest', 'latest'), billing.add_meter('acme', 'users', 'Users', 'unique_count', 'user'), billing.add_meter('acme', 'p50', 'Median', 'percentile', percentile => 50),
	billing.add_meter('acme', 'disk', 'GB hours', 'time_weighted', time_unit => 3600), billing.add_meter('acme', 'tens', 'Tens', quantity_scale => -1, quantity_rounding => 'up')$$);
SELECT pg_temp.contract(m, '{"model": "per_unit", "unit": "0.01"}', meter => m) FROM unnest('{n,max,min,latest,p50,tens}'::text[]) m;
SELECT pg_temp.use(m, '2026-07-0' || d || ' 10:00', (ARRAY[5, 9, 7, 7])[d]::text, m) FROM unnest('{n,max,min,latest,p50,tens}'::text[]) m, generate_series(1, 4) d;
SELECT pg_temp.use(m, '2026-07-11 10:00', '1', m) FROM unnest('{n,max,min,latest,p50,tens}'::text[]) m;
SELECT is(pg_temp.now_of('n'), '07-01..08-01 4/4 0.04 EUR, 12 0.12', 'count: 4 × 31 / 10 = 12.4 is 12 events');
SELECT is(pg_temp.now_of('max'), '07-01..08-01 9/4 0.09 EUR, 9 0.09', 'the largest stands');
SELECT is(pg_temp.now_of('min'), '07-01..08-01 5/4 0.05 EUR, 5 0.05', 'the smallest stands');
SELECT is(pg_temp.now_of('latest'), '07-01..08-01 7/4 0.07 EUR, 7 0.07', 'the latest stands');
SELECT is(pg_temp.now_of('p50'), '07-01..08-01 7/4 0.07 EUR, 7 0.07', 'the second of 5, 7, 7, 9 stands');
SELECT is(pg_temp.now_of('tens'), '07-01..08-01 30/4 0.30 EUR, 90 0.90', '28 is up to 30; 30 × 31 / 10 = 93 is 90, to the nearest ten');
SELECT pg_temp.contract('users', '{"model": "per_unit", "unit": "2"}', meter => 'users');
SELECT pg_temp.use('users', '2026-07-0' || d || ' 10:00', format('{"user": "%s"}', u), 'users') FROM (VALUES (1, 'ann'), (2, 'bob'), (3, 'ann'), (9, 'cid')) AS v (d, u);
SELECT is(pg_temp.now_of('users'), '07-01..08-01 3/4 6.00 EUR, 3 6.00', 'three users, who stand');
SELECT is(pg_temp.now_of('users', '2026-07-08'), '07-01..08-01 2/3 4.00 EUR, 2 4.00', 'two, the day before the third came');
-- 10 GB since 15 June, 20 GB from noon of 10 July: 9.5 days × 24 × 10 + 0.5 × 24 × 20 = 2280 + 240 = 2520; to the end 21 × 24 × 20 more: 12600
SELECT pg_temp.contract('disk', '{"model": "per_unit", "unit": "0.01"}', '2026-06-01', 'disk');
SELECT pg_temp.use('disk', '2026-06-15 00:00', '10', 'disk');
SELECT is(pg_temp.now_of('disk', '2026-07-09'), '07-01..08-01 2160/0 21.60 EUR, 7440 74.40', 'a level is carried into the period, and on to its end');
SELECT pg_temp.use('disk', '2026-07-10 12:00', '20', 'disk');
SELECT is(pg_temp.now_of('disk'), '07-01..08-01 2520/1 25.20 EUR, 12600 126.00', 'a new level, until midnight so far');
SELECT billing_internal.restored_usage();
SELECT is(pg_temp.now_of('disk'), '07-01..08-01 2520/1 25.20 EUR, 12600 126.00', 'roll-ups say the same');
SELECT is(pg_temp.now_of('users'), '07-01..08-01 3/4 6.00 EUR, 3 6.00', 'of users too');
SELECT is(pg_temp.now_of('p50'), '07-01..08-01 7/4 0.07 EUR, 7 0.07', 'and of the median');

-- Groups: a line for each, rated by its cell of a matrix: eu 10 × 0.1, us 20 × 0.2; forecasts × 3.1
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'traffic', 'Traffic', group_by => '{region}')$$);
SELECT pg_temp.contract('matrix', '{"model": "matrix", "dimensions": ["region"], "cells": [{"match": {"region": "eu"}, "tariff": {"model": "per_unit", "unit": "0.1"}}, {"match": {"region": "us"}, "tariff": {"model": "per_unit", "unit": "0.2"}}]}', meter => 'traffic');
SELECT is(pg_temp.now_of('matrix'), '07-01..08-01 0/0 0.00 EUR, 0 0.00', 'no group before the first event');
SELECT pg_temp.use('matrix', '2026-07-02 10:00', format('{"quantity": %s, "region": "%s"}', q, r), 'traffic') FROM (VALUES (4, 'eu'), (6, 'eu'), (20, 'us')) AS v (q, r);
SELECT is(pg_temp.now_of('matrix'), '{"region": "eu"} 07-01..08-01 10/2 1.00 EUR, 31 3.10; {"region": "us"} 07-01..08-01 20/1 4.00 EUR, 62 12.40', 'a line for each group');
SELECT pg_temp.use('matrix', '2026-07-02 10:00', '{"quantity": 1, "region": "mars"}', 'traffic');
SELECT ok(pg_temp.now_of('matrix') ~ '{"region": "mars"} 07-01..08-01 1/1 EUR, 3.1 ', 'a group without a cell has no amount: ' || pg_temp.now_of('matrix'));

-- Items with usage of their own, and the one that takes the account's
SELECT pg_temp.contract('fleet', '{"model": "per_unit", "unit": "1"}');
SELECT pg_temp.must('ada', format($$SELECT billing.add_item('acme', 'fleet', %L, 'seat', 'usage', tariff => '{"model": "per_unit", "unit": "10"}', meter => 'calls', own_usage => true)$$, v)) FROM unnest('{van,truck}'::text[]) v;
SELECT pg_temp.use('fleet', '2026-07-02 10:00', '1'), pg_temp.use('fleet/van', '2026-07-02 10:00', '2'), pg_temp.use('fleet/truck', '2026-07-02 10:00', '3');
SELECT is(pg_temp.told('rea', $$SELECT string_agg(item || ' ' || quantity || ' ' || amount, ', ' ORDER BY item) FROM billing.current_usage('acme', 'fleet', as_of => '2026-07-10')$$),
	'truck 3 30.00, use 1 1.00, van 2 20.00', 'each charges for its own');
SELECT is(pg_temp.told('rea', $$SELECT string_agg(item || ' ' || quantity, ', ' ORDER BY item) FROM billing.current_usage('acme', 'fleet', 'fleet', 'van', '2026-07-10')$$), 'van 2', 'one item');
SELECT is(pg_temp.told('rea', $$SELECT string_agg(item || ' ' || quantity, ', ' ORDER BY item) FROM billing.current_usage('acme', 'fleet', item => 'truck', as_of => '2026-07-10')$$), 'truck 3', 'of any contract');
SELECT is(pg_temp.told('rea', $$SELECT count(*) FROM billing.current_usage('acme', 'fleet', 'matrix', as_of => '2026-07-10')$$), '0', 'another account''s contract has none');

-- Who may ask, and for what
SELECT is(pg_temp.try(p, $$SELECT count(*) FROM billing.current_usage('acme', 'graduated', as_of => '2026-07-10')$$), '1', p || ' sees it') FROM unnest('{rea,aud,bob,app}'::text[]) p;
SELECT is(pg_temp.try('nob', $$SELECT count(*) FROM billing.current_usage('acme', 'graduated')$$), 'ZB002', 'who has no duty does not');
SELECT is(pg_temp.try('rea', format('SELECT count(*) FROM billing.current_usage(%s)', a)), 'ZB002', n)
FROM (VALUES ($$'acme', 'nobody'$$, 'an account must exist'), ($$'acme', 'fleet', 'nothing'$$, 'a contract must exist'), ($$'acme', 'fleet', 'fleet', 'bike'$$, 'an item must exist')) AS v (a, n);
SELECT is((SELECT pg_temp.broken() LIMIT 1), NULL, 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
