-- What the eight aggregations make of events: cases worked out by hand, rounding, what is refused, and parallel = serial.
BEGIN;
SET LOCAL search_path = public;
SELECT plan(147);

-- Events in sets; a row of weight -1 takes one back. From them the cells, as roll-ups keep them.
CREATE TABLE event (set text, event_id bigserial, at timestamptz, value text, weight int DEFAULT 1, zone text DEFAULT 'UTC');
CREATE FUNCTION pg_temp.sums(s text) RETURNS TABLE (days billing.usage_days, sample text, recomputed boolean) LANGUAGE sql AS $$
	SELECT billing_internal.usage_days((at AT TIME ZONE zone)::date, weight, weight * value::numeric), '', false
	FROM event WHERE set = s GROUP BY date_trunc('month', at AT TIME ZONE zone);
$$;
CREATE FUNCTION pg_temp.samples(s text) RETURNS TABLE (days billing.usage_days, sample text, recomputed boolean) LANGUAGE sql AS $$
	SELECT billing_internal.usage_days((at AT TIME ZONE zone)::date, weight, 0), value, false
	FROM event WHERE set = s GROUP BY date_trunc('month', at AT TIME ZONE zone), value;
$$;
CREATE FUNCTION pg_temp.levels(s text) RETURNS TABLE (days billing.usage_days, sample text, recomputed boolean) LANGUAGE sql AS $$
	SELECT billing_internal.usage_levels((at AT TIME ZONE zone)::date, at, event_id, value::numeric, zone), '', false
	FROM event WHERE set = s GROUP BY date_trunc('month', at AT TIME ZONE zone);
$$;
-- quantity/events
CREATE FUNCTION pg_temp.measure(s text, aggregation text, period_start date, period_end date, percentile numeric DEFAULT NULL,
	time_unit int DEFAULT 1, scale int DEFAULT NULL, rounding text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', (m).quantity, (m).events)
	FROM (SELECT billing_internal.measure(c.days, c.sample, c.recomputed, aggregation, period_start, period_end,
			(SELECT min(zone) FROM event WHERE set = s), percentile, time_unit, scale, rounding) AS m
		FROM (SELECT * FROM pg_temp.sums(s) WHERE aggregation IN ('sum', 'count')
			UNION ALL SELECT * FROM pg_temp.levels(s) WHERE aggregation IN ('latest', 'time_weighted')
			UNION ALL SELECT * FROM pg_temp.samples(s) WHERE aggregation NOT IN ('sum', 'count', 'latest', 'time_weighted')) c) x;
$$;

-- ---- sum and count ----

INSERT INTO event (set, at, value, weight) VALUES
	('sum', '2026-06-30 23:59:59Z', '100', 1),
	('sum', '2026-07-01 00:00Z', '5.25', 1),
	('sum', '2026-07-02 12:00Z', '0.75', 1),
	('sum', '2026-07-31 23:59:59.999999Z', '4', 1),
	('sum', '2026-08-01 00:00Z', '1000', 1),
	-- a correction that the source sent as a negative quantity
	('sum', '2026-07-03 00:00Z', '-30', 1),
	-- an event and the void that takes it back
	('sum', '2026-07-04 00:00Z', '7', 1), ('sum', '2026-07-04 00:00Z', '7', -1);
-- 5.25 + 0.75 + 4 - 30 = -20; events of 1, 2, 3 and 31 July
SELECT is(pg_temp.measure('sum', 'sum', '2026-07-01', '2026-08-01'), '-20/4', 'sum: a month, below zero');
SELECT is(pg_temp.measure('sum', 'sum', '2026-06-01', '2026-07-01'), '100/1', 'sum: the last second of the month before');
SELECT is(pg_temp.measure('sum', 'sum', '2026-06-30', '2026-08-02'), '1080/6', 'sum: over month boundaries');
SELECT is(pg_temp.measure('sum', 'sum', '2026-07-04', '2026-07-05'), '0/0', 'sum: an event that was taken back is none');
SELECT is(pg_temp.measure('sum', 'sum', '2026-07-02', '2026-07-02'), '0/0', 'sum: a period of no day');
SELECT is(pg_temp.measure('sum', 'count', '2026-07-01', '2026-08-01'), '4/4', 'count: events that stand');
SELECT is(pg_temp.measure('sum', 'count', '2026-07-01', '2026-08-01', scale => -1, rounding => 'up'), '10/4', 'count: rounded up to tens');

-- ---- max and min ----

INSERT INTO event (set, at, value, weight) VALUES
	('extreme', '2026-06-30 12:00Z', '50', 1),
	('extreme', '2026-07-01 12:00Z', '9', 1),
	('extreme', '2026-07-02 12:00Z', '10', 1),
	('extreme', '2026-07-03 12:00Z', '12.5', 1),
	('extreme', '2026-07-03 12:00Z', '12.5', -1),
	('extreme', '2026-07-04 12:00Z', '-3', 1),
	('extreme', '2026-07-04 13:00Z', '-3', 1),
	('extreme', '2026-07-05 13:00Z', '-3', -1),
	('extreme', '2026-07-31 12:00Z', '-4', 1),
	('extreme', '2026-07-31 12:00Z', '-4', -1),
	('extreme', '2026-08-01 12:00Z', '-50', 1),
	('below', '2026-07-01 12:00Z', '-2', 1),
	('below', '2026-07-02 12:00Z', '-10', 1),
	('back', '2026-07-01 12:00Z', '5', 1), ('back', '2026-07-01 12:00Z', '5', -1);
SELECT is(pg_temp.measure('extreme', 'max', '2026-07-01', '2026-08-01'), '10/3', 'max: numbers, not texts; a sample taken back is none');
SELECT is(pg_temp.measure('extreme', 'min', '2026-07-01', '2026-08-01'), '-3/3', 'min: one of two equal samples stands');
SELECT is(pg_temp.measure('extreme', 'max', '2026-06-01', '2026-09-01'), '50/5', 'max: over months');
SELECT is(pg_temp.measure('extreme', 'min', '2026-06-01', '2026-09-01'), '-50/5', 'min: over months');
SELECT is(pg_temp.measure('below', 'max', '2026-07-01', '2026-08-01'), '-2/2', 'max: all below zero');
SELECT is(pg_temp.measure('back', a, '2026-07-01', '2026-08-01'), '0/0', a || ': all taken back') FROM unnest('{max,min,percentile,unique_count}'::text[]) a;

-- ---- percentile: 10, 20, 30, ... ----

INSERT INTO event (set, at, value)
SELECT format('%s samples', n), '2026-07-01 12:00Z'::timestamptz + i * interval '1 day', (10 * (1 + (i * 7) % n))::text
FROM unnest('{1,2,10,19,20,21}'::int[]) n, generate_series(0, n - 1) i WHERE n % 7 <> 0
UNION ALL
SELECT '21 samples', '2026-07-01 12:00Z'::timestamptz + i * interval '1 day', (10 * (1 + i))::text FROM generate_series(0, 20) i;
SELECT is(pg_temp.measure(n || ' samples', 'percentile', '2026-07-01', '2026-08-01', p), format('%s/%s', e, n), format('percentile %s of %s samples', p, n))
FROM (VALUES
	(95, 1, 10),	-- 0.95 -> 1
	(95, 2, 20),	-- 1.9 -> 2
	(95, 10, 100),	-- 9.5 -> 10
	(95, 19, 190),	-- 18.05 -> 19
	(95, 20, 190),	-- 19
	(95, 21, 200),	-- 19.95 -> 20
	(95.5, 20, 200),	-- 19.1 -> 20
	(50, 1, 10),	-- 0.5 -> 1
	(50, 2, 10),	-- 1
	(50, 10, 50),	-- 5
	(50, 21, 110),	-- 10.5 -> 11
	(100, 20, 200),
	(99.999999999999, 20, 200),
	(0.0001, 20, 10),
	(5, 20, 10),	-- 1
	(5.1, 20, 20)) v (p, n, e);	-- 1.02 -> 2
SELECT is(pg_temp.measure('20 samples', 'percentile', '2026-07-01', '2026-08-01'), '190/20', 'percentile: 95 where the meter does not say');
INSERT INTO event (set, at, value, weight)
SELECT 'equal', timestamptz '2026-07-01 12:00Z', CASE WHEN i <= 18 THEN '1' ELSE '100' END, 1 FROM generate_series(1, 20) i
UNION ALL SELECT 'one less', '2026-07-01 12:00Z', CASE WHEN i <= 18 THEN '1' ELSE '100' END, CASE WHEN i = 21 THEN -1 ELSE 1 END
FROM generate_series(1, 21) i;
-- 18 x 1, 2 x 100: place 19. Of the other set the third 100 takes one back: 18 x 1, 1 x 100, place ceil(18.05) = 19
SELECT is(pg_temp.measure('equal', 'percentile', '2026-07-01', '2026-08-01'), '100/20', 'percentile: equal samples count each');
SELECT is(pg_temp.measure('one less', 'percentile', '2026-07-01', '2026-08-01'), '100/19', 'percentile: a sample taken back is one less');
SELECT is(pg_temp.measure('equal', 'percentile', '2026-07-01', '2026-08-01', 90), '1/20', 'percentile 90: place 18');
SELECT is(pg_temp.measure('extreme', 'percentile', '2026-07-01', '2026-08-01', 50), '9/3', 'percentile: of -3, 9, 10 the second');

-- ---- unique_count ----

INSERT INTO event (set, at, value, weight) VALUES
	('users', '2026-06-30 12:00Z', 'zoe', 1),
	('users', '2026-07-01 12:00Z', 'ann', 1),
	('users', '2026-07-02 12:00Z', 'bob', 1),
	('users', '2026-07-03 12:00Z', 'ann', 1),
	('users', '2026-07-03 12:00Z', 'ann', -1),
	('users', '2026-07-04 12:00Z', 'eve', 1),
	('users', '2026-07-04 12:00Z', 'eve', -1),
	('users', '2026-07-05 12:00Z', 'Ann', 1),
	('users', '2026-08-01 12:00Z', 'bob', 1),
	('users', '2026-08-02 12:00Z', 'kim', 1);
SELECT is(pg_temp.measure('users', 'unique_count', '2026-07-01', '2026-08-01'), '3/3', 'unique count: ann, bob and Ann; eve was taken back');
SELECT is(pg_temp.measure('users', 'unique_count', '2026-06-01', '2026-09-01'), '5/6', 'unique count: who is there in two months counts once');
SELECT is(pg_temp.measure('users', 'unique_count', '2026-07-03', '2026-07-05'), '0/0', 'unique count: days on which nothing stands');

-- ---- latest ----

INSERT INTO event (set, at, value) VALUES
	('level', '2026-06-30 12:00Z', '8'),
	('level', '2026-07-10 12:00Z', '3'),
	('level', '2026-07-20 12:00Z', '6'),
	('level', '2026-07-20 18:00Z', '4'),
	('level', '2026-07-20 18:00Z', '5');
INSERT INTO event (set, event_id, at, value) VALUES ('level', 0, '2026-07-20 18:00Z', '99');
SELECT is(pg_temp.measure('level', 'latest', '2026-07-01', '2026-08-01'), '5/5', 'latest: of one moment the highest id');
SELECT is(pg_temp.measure('level', 'latest', '2026-07-01', '2026-07-20'), '3/1', 'latest: of the period');
SELECT is(pg_temp.measure('level', 'latest', '2026-07-11', '2026-07-20'), '0/0', 'latest: does not carry over');
SELECT is(pg_temp.measure('level', 'latest', '2026-06-01', '2026-08-01'), '5/6', 'latest: over months');

-- ---- time_weighted: days of level ----

INSERT INTO event (set, at, value) VALUES
	('leap', '2024-02-10 00:00Z', '10'), ('leap', '2024-02-20 12:00Z', '25'),
	('plain', '2023-02-10 00:00Z', '10'), ('plain', '2023-02-20 12:00Z', '25');
-- 10 x 10.5 + 25 x 9.5 days
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-01', '2024-03-01', time_unit => 86400), '342.5/2', 'time-weighted: a February of 29 days');
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-01', '2024-03-01'), '29592000/2', 'in seconds');
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-01', '2024-03-01', time_unit => 3600), '8220/2', 'in hours');
-- 10 x 10.5 + 25 x 8.5
SELECT is(pg_temp.measure('plain', 'time_weighted', '2023-02-01', '2023-03-01', time_unit => 86400), '317.5/2', 'a February of 28 days');
-- 25 x 31
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-03-01', '2024-04-01', time_unit => 86400), '775/0', 'a month without events has the level carried over');
SELECT is(pg_temp.measure('leap', 'time_weighted', '2026-03-01', '2026-04-01', time_unit => 86400), '775/0', 'so has one two years later');
-- 10 x 5.5 + 25 x (9.5 + 14)
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-15', '2024-03-15', time_unit => 86400), '642.5/1', 'over a month boundary');
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-29', '2024-03-01', time_unit => 86400), '25/0', 'the leap day alone');
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-01-01', '2024-02-10', time_unit => 86400), '0/0', 'before the first level it is 0');
-- 10 x 10 + (10 x 12 + 25 x 12) / 24
SELECT is(pg_temp.measure('leap', 'time_weighted', '2024-02-10', '2024-02-21', time_unit => 86400), '117.5/2', 'the period ends on a day with an event');
-- a level below zero: -2 from the 1st, 4 from the 11th: -2 x 10 + 4 x 20
INSERT INTO event (set, at, value) VALUES ('credit', '2026-06-01 00:00Z', '-2'), ('credit', '2026-06-11 00:00Z', '4'), ('credit', '2026-07-01 00:00Z', '0');
SELECT is(pg_temp.measure('credit', 'time_weighted', '2026-06-01', '2026-07-01', time_unit => 86400), '60/2', 'a level below zero');
SELECT is(pg_temp.measure('credit', 'time_weighted', '2026-06-01', '2026-06-11', time_unit => 86400), '-20/1', 'and an area below zero');
SELECT is(pg_temp.measure('credit', 'time_weighted', '2026-07-01', '2026-08-01', time_unit => 86400), '0/1', 'a level of 0 ends it');

-- ---- time_weighted: days of 23 and 25 hours ----

INSERT INTO event (set, at, value, zone) VALUES
	('spring', '2026-03-28 12:00+01', '4', 'Europe/Rome'),
	('spring busy', '2026-03-28 12:00+01', '4', 'Europe/Rome'),
	('spring busy', '2026-03-29 01:00+01', '6', 'Europe/Rome'), ('spring busy', '2026-03-29 03:30+02', '2', 'Europe/Rome'),
	('autumn', '2026-10-24 12:00+02', '4', 'Europe/Rome'),
	('autumn busy', '2026-10-24 12:00+02', '4', 'Europe/Rome'),
	('autumn busy', '2026-10-25 02:30+02', '6', 'Europe/Rome'), ('autumn busy', '2026-10-25 02:30+01', '2', 'Europe/Rome'),
	('year', '2025-12-31 00:00+01', '1', 'Europe/Rome'),
	('twice', '2025-11-01 00:00-04', '1', 'America/Havana'), ('twice busy', '2025-11-01 00:00-04', '1', 'America/Havana'),
	('twice busy', '2025-11-02 00:30-04', '3', 'America/Havana'),
	('skipped', '2018-11-01 00:00-03', '1', 'America/Sao_Paulo'),
	('lost day', '2011-12-28 00:00-10', '1', 'Pacific/Apia');
SELECT is(pg_temp.measure(s, 'time_weighted', a::date, b::date, time_unit => 3600), e, format('time-weighted, %s, %s to %s', s, a, b))
FROM (VALUES
	('spring', '2026-03-29', '2026-03-30', '92/0'),			-- 4 x 23 h
	('spring', '2026-03-28', '2026-03-30', '140/1'),		-- 4 x (12 + 23)
	('spring', '2026-03-28', '2026-03-31', '236/1'),		-- 4 x (12 + 23 + 24)
	('spring busy', '2026-03-29', '2026-03-30', '54/2'),	-- 4 x 1 + 6 x 1.5 + 2 x 20.5
	('autumn', '2026-10-25', '2026-10-26', '100/0'),		-- 4 x 25 h
	('autumn', '2026-10-24', '2026-10-27', '244/1'),		-- 4 x (12 + 25 + 24)
	('autumn busy', '2026-10-25', '2026-10-26', '59/2'),	-- 4 x 2.5 + 6 x 1 + 2 x 21.5
	('year', '2026-03-01', '2026-04-01', '743/0'),			-- 31 x 24 - 1
	('year', '2026-10-01', '2026-11-01', '745/0'),			-- 31 x 24 + 1
	('year', '2026-01-01', '2027-01-01', '8760/0'),			-- 365 x 24
	('twice', '2025-11-02', '2025-11-03', '25/0'),			-- midnight comes twice: the day begins with the first
	('twice', '2025-11-01', '2025-11-02', '24/1'),
	('twice busy', '2025-11-02', '2025-11-03', '74/1'),		-- 1 x 0.5 + 3 x 24.5
	('skipped', '2018-11-04', '2018-11-05', '23/0'),		-- no midnight: the day begins at one
	('skipped', '2018-11-03', '2018-11-04', '24/0'),
	('lost day', '2011-12-30', '2011-12-31', '0/0'),		-- Samoa had no such day
	('lost day', '2011-12-28', '2012-01-01', '72/1')) v (s, a, b, e);

-- ---- recomputed days ----

CREATE FUNCTION pg_temp.tail(aggregation text, tail text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', (m).quantity, (m).events)
	FROM (SELECT billing_internal.measure(d::billing.usage_days, '', r, aggregation, '2026-07-01', '2026-08-01', 'UTC', NULL, 3600, NULL, NULL) AS m
		FROM (SELECT '{"2026-06-30":{"events":1,"quantity":"3600","first_at":"2026-06-30T23:00:00Z","last_at":"2026-06-30T23:00:00Z","level":"1"}}', false
			UNION ALL
			SELECT '{"2026-07-30":{"events":1,"quantity":"172800","first_at":"2026-07-30T00:00:00Z","last_at":"2026-07-30T00:00:00Z","level":"2"},'
				|| '"2026-07-31":{"events":2,"quantity":"360000","first_at":"2026-07-31T00:00:00Z","last_at":"2026-07-31T04:00:00Z","level":"5"}}', false
			UNION ALL
			SELECT tail, true) c (d, r)) x;
$$;
-- 29 days of 1, 48 h of 2 in one day, 100 h
SELECT is(pg_temp.tail('time_weighted'), '844/3', 'no tail: 29 x 24 x 1 + 24 x 2 + 100');
SELECT is(pg_temp.tail('time_weighted', '{"2026-07-31":{"events":3,"quantity":"3600","first_at":"2026-07-31T23:00:00Z","last_at":"2026-07-31T23:00:00Z","level":"1"}}'),
	'791/4', 'a recomputed day stands in the place of the rolled-up one: 696 + 48 + 23 x 2 + 1');
SELECT is(pg_temp.tail('latest', '{"2026-07-31":{"events":3,"quantity":"3600","first_at":"2026-07-31T23:00:00Z","last_at":"2026-07-31T23:00:00Z","level":"1"}}'),
	'1/4', 'also for latest');
SELECT is(pg_temp.tail('time_weighted', '{"2026-07-31":{"events":0,"quantity":"0"}}'), '792/1', 'an empty one takes it away: 696 + 48 + 24 x 2');
SELECT is(pg_temp.tail('latest', '{"2026-07-31":{"events":0,"quantity":"0"}}'), '2/1', 'also for latest');
SELECT is(pg_temp.tail('time_weighted', '{"2026-06-30":{"events":0,"quantity":"0"}}'), '148/3', 'of the time before, too: 48 + 100');
SELECT is(pg_temp.tail('time_weighted', '{"2026-07-16":{"events":1,"quantity":"0","first_at":"2026-07-16T00:00:00Z","last_at":"2026-07-16T00:00:00Z","level":"0"}}'),
	'508/4', 'or is there first: 15 x 24 x 1 + 48 + 100');

-- ---- rounding ----

CREATE FUNCTION pg_temp.rounded(value text, scale int, rounding text) RETURNS text LANGUAGE sql AS $$
	SELECT (billing_internal.measure(format('{"2026-07-01":{"events":1,"quantity":%s}}', value)::billing.usage_days, '', false, 'sum',
		'2026-07-01', '2026-07-02', NULL, NULL, NULL, scale, rounding)).quantity::text;
$$;
SELECT is(array[pg_temp.rounded(v, s, 'nearest'), pg_temp.rounded(v, s, 'up'), pg_temp.rounded(v, s, 'down')], array[n, u, d],
	format('%s to %s decimals: nearest, up, down', left(v, 20), s))
FROM (VALUES
	('2.5', 0, '3', '3', '2'), ('-2.5', 0, '-3', '-3', '-2'), ('2.1', 0, '2', '3', '2'), ('-2.1', 0, '-2', '-3', '-2'),
	('2.4999999999', 0, '2', '3', '2'), ('2', 0, '2', '2', '2'), ('0', 0, '0', '0', '0'), ('0.0001', 0, '0', '1', '0'), ('-0.0001', 0, '0', '-1', '0'),
	('1.005', 2, '1.01', '1.01', '1'), ('-1.005', 2, '-1.01', '-1.01', '-1'), ('1.5', 3, '1.5', '1.5', '1.5'),
	('150', -2, '200', '200', '100'), ('149.99', -2, '100', '200', '100'), ('-150', -2, '-200', '-200', '-100'), ('0.5', -30, '0', '1000000000000000000000000000000', '0'),
	('0.0000000000000000000000000000005', 30, '0.000000000000000000000000000001', '0.000000000000000000000000000001', '0'),
	('123456789012345678901234567890.5', 0, '123456789012345678901234567891', '123456789012345678901234567891', '123456789012345678901234567890'),
	('-123456789012345678901234567890.49', 0, '-123456789012345678901234567890', '-123456789012345678901234567891', '-123456789012345678901234567890'),
	('123456789012345678901234567890.5', -29, '100000000000000000000000000000', '200000000000000000000000000000', '100000000000000000000000000000')
) v (v, s, n, u, d);
SELECT is(pg_temp.rounded('2.50', NULL, NULL), '2.5', 'as it is where the meter does not round');
SELECT is(pg_temp.rounded('2.5', 0, NULL), '3', 'to the nearest where it does not say how');

-- the area under the last second of a day, divided by a unit of time
CREATE FUNCTION pg_temp.quotient(level numeric, time_unit int, scale int, rounding text) RETURNS text LANGUAGE sql AS $$
	SELECT (billing_internal.measure(d, '', false, 'time_weighted', '2026-07-01', '2026-07-02', 'UTC', NULL, time_unit, scale, rounding)).quantity::text
	FROM (SELECT billing_internal.usage_levels('2026-07-01', '2026-07-01 23:59:59Z', 1, level, 'UTC') AS d) x;
$$;
SELECT is(pg_temp.quotient(l, u, s, r), e, format('%s / %s to %s decimals, %s', l, u, s, r))
FROM (VALUES
	(10, 3, NULL, NULL, '3.333333333333'), (20, 3, NULL, NULL, '6.666666666667'), (-20, 3, NULL, NULL, '-6.666666666667'),
	(10, 3, NULL, 'up', '3.333333333333'), (10, 1, NULL, NULL, '10'), (10, 4, NULL, NULL, '2.5'),
	(10, 3, 0, 'nearest', '3'), (10, 3, 0, 'up', '4'), (10, 3, 0, 'down', '3'), (-10, 3, 0, 'up', '-4'), (3, 2, 0, 'nearest', '2'),
	(-3, 2, 0, 'nearest', '-2'), (0, 3, 0, 'up', '0'), (9, 3, 0, 'up', '3'), (20, 3, 2, 'nearest', '6.67'),
	(12345678901234567890, 3, 2, 'nearest', '4115226300411522630'), (12345678901234567891, 3, 2, 'up', '4115226300411522630.34'),
	(1, 2147483647, 12, 'up', '0.000000000466')) v (l, u, s, r, e);

-- ---- nothing ----

SELECT is(array_agg(pg_temp.measure('no such set', a, '2026-07-01', '2026-08-01')), array_fill('0/0'::text, '{8}'), 'no row at all: 0, of 0 events')
FROM unnest('{sum,count,max,min,latest,unique_count,time_weighted,percentile}'::text[]) a;
SELECT is(array_agg((SELECT billing_internal.measure(d::billing.usage_days, '', false, a, '2026-07-01', '2026-08-01', 'UTC', NULL, 1, NULL, NULL)::text
	FROM unnest('{NULL,NULL}'::text[]) d)), array_fill('(0,0)'::text, '{8}'), 'rows without days: the same')
FROM unnest('{sum,count,max,min,latest,unique_count,time_weighted,percentile}'::text[]) a;
SELECT is(array_agg((SELECT billing_internal.measure(d::billing.usage_days, '1', false, a, '2026-07-01', '2026-08-01', 'UTC', NULL, 1, NULL, NULL)::text
	FROM (VALUES ('{}'), ('{"2026-06-30":{"events":1,"quantity":"1"},"2026-08-01":{"events":1,"quantity":"1"}}')) v (d))), array_fill('(0,0)'::text, '{8}'),
	'days outside the period, without a level: the same')
FROM unnest('{sum,count,max,min,latest,unique_count,time_weighted,percentile}'::text[]) a;
SELECT is((SELECT billing_internal.measure(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::text), '(0,0)', 'what is asked for may be null where no days are');

-- ---- what is refused ----

CREATE FUNCTION pg_temp.refused(aggregation text, period_start date, period_end date, zone text DEFAULT 'UTC', percentile numeric DEFAULT 95,
	time_unit int DEFAULT 1, scale int DEFAULT 0, rounding text DEFAULT 'up', sample text DEFAULT '1', recomputed boolean DEFAULT false) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing_internal.measure('{"2026-07-01":{"events":1,"quantity":"1"}}', sample, recomputed, aggregation, period_start, period_end, zone, percentile,
		time_unit, scale, rounding);
	RETURN 'valid';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT is(got, expected, 'refused: ' || expected)
FROM (VALUES
	(pg_temp.refused('average', '2026-07-01', '2026-08-01'), 'ZB001 aggregation "average" does not exist'),
	(pg_temp.refused(NULL, '2026-07-01', '2026-08-01'), 'ZB001 aggregation must not be null'),
	(pg_temp.refused('sum', NULL, '2026-08-01'), 'ZB001 period start must not be null'),
	(pg_temp.refused('sum', '2026-07-01', 'infinity'), 'ZB001 period end must be a finite date'),
	(pg_temp.refused('sum', '2026-07-01', '2026-06-30'), 'ZB001 the period ends before it starts'),
	(pg_temp.refused('time_weighted', '2026-07-01', '2026-08-01', zone => 'Nowhere'), 'ZB001 time zone "Nowhere" does not exist'),
	(pg_temp.refused('time_weighted', '2026-07-01', '2026-08-01', zone => NULL), 'ZB001 time zone must not be null'),
	(pg_temp.refused('percentile', '2026-07-01', '2026-08-01', percentile => 0), 'ZB001 a percentile must be above 0 and at most 100'),
	(pg_temp.refused('percentile', '2026-07-01', '2026-08-01', percentile => 100.01), 'ZB001 a percentile must be above 0 and at most 100'),
	(pg_temp.refused('percentile', '2026-07-01', '2026-08-01', percentile => 'NaN'), 'ZB001 a usage quantity must be a finite number'),
	(pg_temp.refused('sum', '2026-07-01', '2026-08-01', time_unit => 0), 'ZB001 unit of time must be between 1 and 2147483647'),
	(pg_temp.refused('sum', '2026-07-01', '2026-08-01', scale => 31), 'ZB001 decimals of the quantity must be between -30 and 30'),
	(pg_temp.refused('sum', '2026-07-01', '2026-08-01', rounding => 'even'), 'ZB001 rounding of quantity "even" does not exist'),
	(pg_temp.refused('max', '2026-07-01', '2026-08-01', sample => 'seven'), 'ZB001 sample "seven" is not a number'),
	(pg_temp.refused('max', '2026-07-01', '2026-08-01', sample => ''), 'ZB001 sample "" is not a number'),
	(pg_temp.refused('min', '2026-07-01', '2026-08-01', sample => NULL), 'ZB001 usage of a meter that counts samples has no sample'),
	(pg_temp.refused('sum', '2026-07-01', '2026-08-01', recomputed => true), 'ZB001 recomputed days have a meaning only for latest and time_weighted')
) v (got, expected);
SELECT throws_ok($$ SELECT billing_internal.measure(d, '', r, 'latest', '2026-07-01', '2026-08-01', 'UTC', NULL, 1, NULL, NULL)
	FROM (SELECT billing_internal.usage_levels('2026-07-01', '2026-07-01 12:00Z', 1, 1, 'UTC') AS d) x, (VALUES (false), (false)) v (r) $$,
	'ZB013', 'levels of several cells cannot be measured together', 'two cells with a level on one day are refused');
SELECT throws_ok($$ SELECT billing_internal.measure(d, '', r, 'time_weighted', '2026-07-01', '2026-08-01', 'UTC', NULL, 1, NULL, NULL)
	FROM (SELECT billing_internal.usage_levels('2026-07-01', '2026-07-01 12:00Z', 1, 1, 'UTC') AS d) x, (VALUES (true), (true)) v (r) $$,
	'ZB013', 'levels of several cells cannot be measured together', 'so are two recomputed ones');

-- ---- parallel = serial ----

CREATE TABLE many AS
SELECT i AS id, i % 7 AS grp, '2026-06-15'::date + (i * 31) % 60 AS day, '2026-06-15 00:30Z'::timestamptz + ((i * 31) % 60) * interval '1 day' + (i % 1000) * interval '61.000007 s' AS at,
	CASE WHEN i % 11 = 0 THEN -1 ELSE 1 END AS weight,
	CASE WHEN i % 97 = 0 THEN 123456789012345678901234567890.125 * i ELSE (i * 37 % 1001 - 300) / 8.0 END AS value
FROM generate_series(1, 4000) i;
CREATE TABLE many_cells AS
SELECT grp, billing_internal.usage_days(day, weight, weight * value) AS sums,
	billing_internal.usage_levels(day, at, id, CASE WHEN id % 13 > 0 THEN value END, 'Europe/Rome') AS levels
FROM many GROUP BY grp;
CREATE TABLE many_samples AS
SELECT grp, day, trim_scale(value)::text AS sample, billing_internal.usage_days(day, weight, 0) AS days FROM many GROUP BY grp, day, trim_scale(value);
CREATE FUNCTION pg_temp.everything() RETURNS TABLE (what text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT format('%s: %s', grp, billing_internal.usage_days(day, weight, weight * value)) FROM many GROUP BY grp;
	RETURN QUERY SELECT format('%s: %s', grp, billing_internal.usage_levels(day, at, id, CASE WHEN id % 13 > 0 THEN value END, 'Europe/Rome')) FROM many GROUP BY grp;
	RETURN QUERY SELECT format('%s: %s %s', grp,
		billing_internal.measure(sums, NULL, false, 'sum', '2026-07-01', '2026-08-01', NULL, NULL, NULL, NULL, NULL),
		billing_internal.measure(sums, NULL, NULL, 'count', '2026-07-01', '2026-08-01', NULL, NULL, NULL, -1, 'up')) FROM many_cells GROUP BY grp;
	RETURN QUERY SELECT format('%s: %s %s', grp,
		billing_internal.measure(levels, NULL, id = 1, 'latest', '2026-07-01', '2026-08-01', NULL, NULL, NULL, 1, 'down'),
		billing_internal.measure(levels, NULL, id = 1, 'time_weighted', '2026-07-01', '2026-08-01', 'Europe/Rome', NULL, 3600, 4, 'up'))
	FROM (SELECT m.id, m.grp, CASE m.id WHEN 1 THEN '{"2026-07-10":{"events":0,"quantity":"0"}}' ELSE c.levels END AS levels
		FROM many m JOIN many_cells c USING (grp) WHERE m.id <= 7) d GROUP BY grp;
	RETURN QUERY SELECT format('%s: %s %s %s %s', grp,
		billing_internal.measure(days, sample, false, 'max', '2026-07-01', '2026-08-01', NULL, NULL, NULL, NULL, NULL),
		billing_internal.measure(days, sample, false, 'min', '2026-07-01', '2026-08-01', NULL, NULL, NULL, NULL, NULL),
		billing_internal.measure(days, sample, false, 'percentile', '2026-07-01', '2026-08-01', NULL, 87.5, NULL, 2, 'nearest'),
		billing_internal.measure(days, sample, false, 'unique_count', '2026-07-01', '2026-08-01', NULL, NULL, NULL, NULL, NULL)) FROM many_samples GROUP BY grp;
END $$;
CREATE FUNCTION pg_temp.plans() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXPLAIN (COSTS off) SELECT grp, billing_internal.usage_days(day, weight, value), billing_internal.usage_levels(day, at, id, value, 'UTC') FROM many GROUP BY grp;
	RETURN QUERY EXPLAIN (COSTS off) SELECT grp, billing_internal.measure(days, sample, false, 'max', '2026-07-01', '2026-08-01', NULL, NULL, NULL, NULL, NULL) FROM many_samples GROUP BY grp;
END $$;
ANALYZE many;
ANALYZE many_cells;
ANALYZE many_samples;
SET LOCAL max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE serial AS SELECT * FROM pg_temp.everything();
SET LOCAL max_parallel_workers_per_gather = 2;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
-- its name before and since PostgreSQL 16
SELECT set_config(name, 'on', true) FROM unnest('{force_parallel_mode,debug_parallel_query}'::text[]) name WHERE current_setting(name, true) IS NOT NULL;
ALTER TABLE many SET (parallel_workers = 2);
ALTER TABLE many_cells SET (parallel_workers = 2);
ALTER TABLE many_samples SET (parallel_workers = 2);
SELECT is((SELECT count(*) FROM pg_temp.plans() p WHERE p ~ 'Partial .*Aggregate')::int, 2, 'the plans aggregate in parallel');
CREATE TEMP TABLE parallel AS SELECT * FROM pg_temp.everything();
SELECT is((SELECT count(*) FROM serial)::int, 35, 'seven groups of five statements');
SELECT set_eq('SELECT * FROM parallel', 'SELECT * FROM serial', 'parallel equals serial');

SELECT * FROM finish();
ROLLBACK;
