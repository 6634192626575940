-- The type billing.usage_days: its text, what is refused, sums and replacements by day, equality, and the aggregates.
BEGIN;
SET LOCAL search_path = public;
SELECT plan(182);

-- ---- text ----

CREATE TEMP TABLE shape (id serial, given text, canonical text, name text);
INSERT INTO shape (given, canonical, name) VALUES
	('{}', '{}', 'no day'),
	(' { } ', '{}', 'blanks around nothing'),
	('{"2026-07-01":{"events":3,"quantity":"12.5"}}', '{"2026-07-01":{"events":3,"quantity":"12.5"}}', 'one day'),
	(E'\n{ "2026-07-01" :\t{ "quantity" : 12.50 , "events" : 3 }\r\n}', '{"2026-07-01":{"events":3,"quantity":"12.5"}}',
		'blanks, another order of keys, a trailing zero, a number without quotes'),
	('{"2026-07-01":{"events":0,"quantity":"0"}}', '{"2026-07-01":{"events":0,"quantity":"0"}}', 'an empty day is kept'),
	('{"2026-07-01":{"events":-2,"quantity":"-0.000"}}', '{"2026-07-01":{"events":-2,"quantity":"0"}}', 'negative events, and no minus before 0'),
	('{"2026-07-01":{"events":1,"quantity":"-0.10"},"2026-07-03":{"events":1,"quantity":"100"}}',
		'{"2026-07-01":{"events":1,"quantity":"-0.1"},"2026-07-03":{"events":1,"quantity":"100"}}', 'two days'),
	('{"1999-12-31":{"events":1,"quantity":"1"},"2000-01-01":{"events":1,"quantity":"1"}}',
		'{"1999-12-31":{"events":1,"quantity":"1"},"2000-01-01":{"events":1,"quantity":"1"}}', 'days before 2000'),
	('{"1900-01-01":{"events":1,"quantity":"1"},"2999-12-31":{"events":1,"quantity":"1"}}',
		'{"1900-01-01":{"events":1,"quantity":"1"},"2999-12-31":{"events":1,"quantity":"1"}}', 'the first and the last day there is'),
	('{"2024-02-29":{"events":1,"quantity":"1"}}', '{"2024-02-29":{"events":1,"quantity":"1"}}', 'a leap day'),
	('{"2026-07-01":{"events":999999999999999999,"quantity":"999999999999999999"}}',
		'{"2026-07-01":{"events":999999999999999999,"quantity":"999999999999999999"}}', '18 digits'),
	('{"2026-07-01":{"events":1,"quantity":"1000000000000000000"}}',
		'{"2026-07-01":{"events":1,"quantity":"1000000000000000000"}}', '19 digits'),
	('{"2026-07-01":{"events":1,"quantity":"0.000000000000000001"}}',
		'{"2026-07-01":{"events":1,"quantity":"0.000000000000000001"}}', '18 decimals'),
	('{"2026-07-01":{"events":1,"quantity":"-0.0000000000000000010"}}',
		'{"2026-07-01":{"events":1,"quantity":"-0.000000000000000001"}}', '19 decimals, the last a zero'),
	('{"2026-07-01":{"events":1,"quantity":"0.0000000000000000001"}}',
		'{"2026-07-01":{"events":1,"quantity":"0.0000000000000000001"}}', '19 decimals'),
	('{"2026-07-01":{"events":1,"quantity":"' || repeat('9', 100) || '.' || repeat('9', 100) || '"}}',
		'{"2026-07-01":{"events":1,"quantity":"' || repeat('9', 100) || '.' || repeat('9', 100) || '"}}', 'as many digits as there may be'),
	('{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"}}',
		'{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"}}', 'a level'),
	('{"2026-07-02":{"level":-2.50,"last_at":"2026-07-02T08:00:00.250Z","first_at":"2026-07-02T08:00:00.000001Z","quantity":"7200","events":1}}',
		'{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00.000001Z","last_at":"2026-07-02T08:00:00.25Z","level":"-2.5"}}',
		'fractions of a second, any order of keys'),
	('{"2026-07-02":{"events":1,"quantity":"0","first_at":"2026-07-01T10:00:00Z","last_at":"2026-07-03T11:59:59.999999Z","level":"1"}}',
		'{"2026-07-02":{"events":1,"quantity":"0","first_at":"2026-07-01T10:00:00Z","last_at":"2026-07-03T11:59:59.999999Z","level":"1"}}',
		'the day of a far time zone');
SELECT is(given::billing.usage_days::text, canonical, 'text: ' || name) FROM shape ORDER BY id;
SELECT is(canonical::billing.usage_days::text, canonical, 'again: ' || name) FROM shape ORDER BY id;
SELECT ok(given::billing.usage_days OPERATOR(billing.=) canonical::billing.usage_days
	AND NOT given::billing.usage_days OPERATOR(billing.<>) canonical::billing.usage_days
	AND billing_internal.usage_days_hash(given::billing.usage_days) = billing_internal.usage_days_hash(canonical::billing.usage_days)
	AND billing_internal.usage_days_hash_extended(given::billing.usage_days, 7)
		= billing_internal.usage_days_hash_extended(canonical::billing.usage_days, 7), 'equal: ' || name)
FROM shape ORDER BY id;
SELECT is((SELECT count(*) FROM (SELECT FROM shape GROUP BY canonical::billing.usage_days) d)::int, (SELECT count(DISTINCT canonical) FROM shape)::int,
	'different texts are different values');

SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL datestyle = 'German, DMY';
SELECT is('{"2026-07-02":{"events":1,"quantity":"0","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00.5Z","level":"1"}}'::billing.usage_days::text,
	'{"2026-07-02":{"events":1,"quantity":"0","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00.5Z","level":"1"}}',
	'the text does not depend on settings');
RESET timezone;
RESET datestyle;

SELECT ok(pg_column_size(billing_internal.usage_days('2026-07-01'::date + i, 1000 + i, i * 12.25)) BETWEEN 100 AND 250,
	'a month takes about six bytes a day')
FROM generate_series(0, 30) i;

-- ---- what is refused ----

CREATE FUNCTION pg_temp.state_of(given text, OUT state text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	message := given::billing.usage_days::text;
	state := 'valid';
EXCEPTION WHEN OTHERS THEN
	state := SQLSTATE;
	message := SQLERRM;
END $$;
CREATE TEMP TABLE hostile (id serial, given text, expected text);
INSERT INTO hostile (given, expected) VALUES
	('', 'an opening brace'),
	('null', 'an opening brace'),
	('[]', 'an opening brace'),
	('{', 'a day in quotes'),
	('{}}', 'nothing after the closing brace'),
	('{},', 'nothing after the closing brace'),
	('{"2026-07-01"', 'a colon'),
	('{"2026-07-01}', 'a closing quote'),
	('{2026-07-01:{"events":1,"quantity":"1"}}', 'a day in quotes'),
	('{"2026-7-1":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"2026-02-29":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"1900-02-29":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"2026-00-01":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"2026-13-01":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"2026-01-00":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"0000-01-01":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"infinity":{"events":1,"quantity":"1"}}', 'a day, such as "2026-07-01"'),
	('{"2026-07-01":{"events":1,"quantity":"1"}', 'a comma or a closing brace'),
	('{"2026-07-01":{"events":1,"quantity":"1"},}', 'a day in quotes'),
	('{"2026-07-01":{"events":1,"quantity":"1"},"2026-07-01":{"events":1,"quantity":"1"}}', 'the days in order, each once'),
	('{"2026-07-02":{"events":1,"quantity":"1"},"2026-07-01":{"events":1,"quantity":"1"}}', 'the days in order, each once'),
	('{"2026-07-01":null}', 'an opening brace'),
	('{"2026-07-01":{}}', 'a key in quotes'),
	('{"2026-07-01":{"events":1}}', 'events and quantity in each day'),
	('{"2026-07-01":{"quantity":"1"}}', 'events and quantity in each day'),
	('{"2026-07-01":{"events":1,"quantity":"1","events":2}}', 'each key once'),
	('{"2026-07-01":{"events":1,"quantity":"1","price":"2"}}', 'events, quantity, first_at, last_at or level'),
	('{"2026-07-01":{"event":1,"quantity":"1"}}', 'events, quantity, first_at, last_at or level'),
	('{"2026-07-01":{"events":1.5,"quantity":"1"}}', 'a whole number of at most 18 digits'),
	('{"2026-07-01":{"events":1000000000000000000,"quantity":"1"}}', 'a whole number of at most 18 digits'),
	('{"2026-07-01":{"events":"1","quantity":"1"}}', 'a whole number without quotes'),
	('{"2026-07-01":{"events":null,"quantity":"1"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":null}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":""}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"NaN"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"Infinity"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"1e5"}}', 'a closing quote'),
	('{"2026-07-01":{"events":1,"quantity":"--1"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"-"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"."}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":".5"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"5."}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"1.2.3"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"007"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":" 1"}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"1}}', 'a closing quote'),
	('{"2026-07-01":{"events":1,"quantity":' || repeat('9', 101) || '}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":0.' || repeat('9', 101) || '}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":' || repeat('9', 1000000) || '}}', 'a plain decimal number of at most 100 digits before and after the point'),
	('{"2026-07-01":{"events":1,"quantity":"1","level":"1"}}', 'first_at, last_at and level together'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:00Z","last_at":"2026-07-01T08:00:00Z"}}', 'first_at, last_at and level together'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:01Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'first_at not after last_at'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-04T08:00:00Z","last_at":"2026-07-04T08:00:00Z","level":"1"}}', 'first_at and last_at on their day'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-06-29T08:00:00Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'first_at and last_at on their day'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T24:00:00Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:60:00Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:60Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:00+02:00","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:00.Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01T08:00:00.1234567Z","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":"2026-07-01","last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	('{"2026-07-01":{"events":1,"quantity":"1","first_at":5,"last_at":"2026-07-01T08:00:00Z","level":"1"}}', 'a moment in UTC, such as "2026-07-01T08:00:00Z"'),
	(repeat('{"2026-07-01":', 100000), 'events, quantity, first_at, last_at or level');
SELECT is((SELECT array[state, message] FROM pg_temp.state_of(given)), array['ZB001', 'invalid usage days: expected ' || expected],
	'refused: ' || left(given, 60))
FROM hostile ORDER BY id;
SELECT throws_ok($$ SELECT '{"1899-12-31":{"events":1,"quantity":"1"}}'::billing.usage_days $$, 'ZB012', 'usage day is out of range',
	'a day before 1900 is refused');
SELECT is((SELECT count(*) FROM shape, generate_series(0, length(given) - 1) n, pg_temp.state_of(left(given, n))
	WHERE length(given) < 300 AND state <> 'ZB001' AND btrim(left(given, n), E' \t\r\n') <> btrim(given, E' \t\r\n')), 0::bigint,
	'no valid text is valid when it is cut short');

-- ---- add ----

CREATE FUNCTION pg_temp.added(a text, b text) RETURNS text LANGUAGE sql AS $$
	SELECT billing_internal.usage_days_add(a::billing.usage_days, b::billing.usage_days)::text;
$$;
CREATE TEMP TABLE addition (id serial, a text, b text, sum text, name text);
INSERT INTO addition (a, b, sum, name) VALUES
	('{}', '{}', '{}', 'nothing and nothing'),
	('{"2026-07-01":{"events":1,"quantity":"2"}}', '{}', '{"2026-07-01":{"events":1,"quantity":"2"}}', 'nothing is added'),
	('{"2026-07-01":{"events":1,"quantity":"2.25"}}', '{"2026-07-01":{"events":2,"quantity":"0.75"}}',
		'{"2026-07-01":{"events":3,"quantity":"3"}}', 'the same day'),
	('{"2026-07-02":{"events":1,"quantity":"1"}}', '{"2026-07-01":{"events":1,"quantity":"1"},"2026-07-03":{"events":1,"quantity":"1"}}',
		'{"2026-07-01":{"events":1,"quantity":"1"},"2026-07-02":{"events":1,"quantity":"1"},"2026-07-03":{"events":1,"quantity":"1"}}',
		'days before and after'),
	('{"2026-07-01":{"events":1,"quantity":"5"},"2026-07-02":{"events":1,"quantity":"5"}}', '{"2026-07-01":{"events":-1,"quantity":"-5"}}',
		'{"2026-07-02":{"events":1,"quantity":"5"}}', 'a day that comes to nothing is dropped'),
	('{"2026-07-01":{"events":1,"quantity":"5"}}', '{"2026-07-01":{"events":-1,"quantity":"-4"}}',
		'{"2026-07-01":{"events":0,"quantity":"1"}}', 'no event but a quantity is kept'),
	('{"2026-07-01":{"events":1,"quantity":"5"}}', '{"2026-07-01":{"events":-3,"quantity":"-7.5"}}',
		'{"2026-07-01":{"events":-2,"quantity":"-2.5"}}', 'below zero'),
	('{"2026-07-01":{"events":1,"quantity":"999999999999999999"}}', '{"2026-07-01":{"events":1,"quantity":"1"}}',
		'{"2026-07-01":{"events":2,"quantity":"1000000000000000000"}}', 'beyond 18 digits'),
	('{"2026-07-01":{"events":1,"quantity":"1000000000000000000"}}', '{"2026-07-01":{"events":1,"quantity":"-1"}}',
		'{"2026-07-01":{"events":2,"quantity":"999999999999999999"}}', 'and back'),
	('{"2026-07-01":{"events":1,"quantity":"999999999999999999"}}', '{"2026-07-01":{"events":1,"quantity":"0.000000000000000001"}}',
		'{"2026-07-01":{"events":2,"quantity":"999999999999999999.000000000000000001"}}', 'the widest and the finest'),
	('{"2026-07-01":{"events":1,"quantity":"123456789012345678901234567890.5"}}', '{"2026-07-01":{"events":1,"quantity":"-123456789012345678901234567890"}}',
		'{"2026-07-01":{"events":2,"quantity":"0.5"}}', 'large ones cancel'),
	('{"2026-07-01":{"events":0,"quantity":"0"}}', '{"2026-07-02":{"events":0,"quantity":"0"}}', '{}', 'empty days are dropped'),
	('{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"}}',
		'{"2026-07-03":{"events":1,"quantity":"3600","first_at":"2026-07-03T08:00:00Z","last_at":"2026-07-03T08:00:00Z","level":"1"}}',
		'{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"},'
		|| '"2026-07-03":{"events":1,"quantity":"3600","first_at":"2026-07-03T08:00:00Z","last_at":"2026-07-03T08:00:00Z","level":"1"}}',
		'levels of different days');
SELECT is(pg_temp.added(a, b), sum, 'add: ' || name) FROM addition ORDER BY id;
SELECT is(pg_temp.added(b, a), sum, 'add, the other way round: ' || name) FROM addition ORDER BY id;
SELECT throws_ok($$ SELECT billing_internal.usage_days_add(d, d)
	FROM (SELECT '{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"}}'::billing.usage_days) x (d) $$,
	'ZB013', 'usage days with a level cannot be added', 'two levels of one day have no sum');
SELECT throws_ok($$ SELECT billing_internal.usage_days_add(d, d)
	FROM (SELECT ('{"2026-07-02":{"events":1,"quantity":"' || repeat('9', 100) || '"}}')::billing.usage_days) x (d) $$,
	'ZB012', 'a usage quantity is out of range', 'what the text could not say is not stored');
SELECT throws_ok($$ SELECT billing_internal.usage_days_add(d, d)
	FROM (SELECT '{"2026-07-02":{"events":999999999999999999,"quantity":"1"}}'::billing.usage_days) x (d) $$,
	'ZB012', 'the number of events is out of range', 'nor are more events');
SELECT is(billing_internal.usage_days_add(NULL, '{}')::text, NULL, 'null is added to nothing');

-- ---- replace ----

SELECT is(billing_internal.usage_days_replace(a::billing.usage_days, b::billing.usage_days)::text, result, 'replace: ' || name)
FROM (VALUES
	('{}', '{}', '{}', 'nothing by nothing'),
	('{"2026-07-01":{"events":1,"quantity":"5"},"2026-07-02":{"events":2,"quantity":"6"}}', '{"2026-07-02":{"events":7,"quantity":"8"}}',
		'{"2026-07-01":{"events":1,"quantity":"5"},"2026-07-02":{"events":7,"quantity":"8"}}', 'one day of two'),
	('{"2026-07-02":{"events":2,"quantity":"6"}}', '{"2026-07-01":{"events":7,"quantity":"8"},"2026-07-03":{"events":9,"quantity":"1"}}',
		'{"2026-07-01":{"events":7,"quantity":"8"},"2026-07-02":{"events":2,"quantity":"6"},"2026-07-03":{"events":9,"quantity":"1"}}', 'other days'),
	('{"2026-07-01":{"events":1,"quantity":"5"},"2026-07-02":{"events":2,"quantity":"6"}}', '{"2026-07-01":{"events":0,"quantity":"0"}}',
		'{"2026-07-02":{"events":2,"quantity":"6"}}', 'an empty day takes the day away'),
	('{"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T08:00:00Z","level":"2"}}',
		'{"2026-07-02":{"events":1,"quantity":"1","first_at":"2026-07-02T09:00:00Z","last_at":"2026-07-02T09:00:00Z","level":"3"}}',
		'{"2026-07-02":{"events":1,"quantity":"1","first_at":"2026-07-02T09:00:00Z","last_at":"2026-07-02T09:00:00Z","level":"3"}}', 'a level')
) c (a, b, result, name);

-- ---- the aggregate of sums ----

SELECT is(billing_internal.usage_days(day::date, events, quantity)::text,
	'{"2026-06-30":{"events":1,"quantity":"0.3"},"2026-07-01":{"events":2,"quantity":"-1"},"2026-07-04":{"events":1,"quantity":"0"}}',
	'days in any order, nulls are 0, rows without a day are none, a day that comes to nothing is dropped')
FROM (VALUES ('2026-07-01', 1, 1.5), ('2026-06-30', 1, 0.30), ('2026-07-01', 1, -2.5), ('2026-07-04', 1, NULL), (NULL, 5, 5),
	('2026-07-03', 1, 8), ('2026-07-03', NULL, -8), ('2026-07-03', -1, NULL)) v (day, events, quantity);
SELECT is(billing_internal.usage_days(NULL, 1, 1)::text, NULL, 'null without rows');
SELECT is(billing_internal.usage_days('2026-07-01', e, e)::text, '{}', 'nothing where all is taken back') FROM unnest('{1,-1}'::int[]) e;
SELECT throws_ok($$ SELECT billing_internal.usage_days('2026-07-01', 1, 'NaN') $$, 'ZB001', 'a usage quantity must be a finite number', 'NaN is refused');
SELECT throws_ok($$ SELECT billing_internal.usage_days('2026-07-01', 1, '-Infinity') $$, 'ZB001', 'a usage quantity must be a finite number',
	'infinity is refused');
SELECT throws_ok($$ SELECT billing_internal.usage_days('infinity', 1, 1) $$, 'ZB001', 'usage day must be a finite date', 'an endless day is refused');
SELECT throws_ok($$ SELECT billing_internal.usage_days('2026-07-01', 9223372036854775807, 1) $$, 'ZB012', 'the number of events is out of range',
	'too many events are refused');

-- ---- the aggregate of levels ----

-- 1 from 10:00, 3 from 12:00, 5 from 20:00 to midnight in UTC: 2 h x 1 + 8 h x 3 + 4 h x 5 = 46 h = 165600 s
SELECT is(billing_internal.usage_levels('2026-07-02', t::timestamptz, id, level, 'UTC')::text,
	'{"2026-07-02":{"events":3,"quantity":"165600","first_at":"2026-07-02T10:00:00Z","last_at":"2026-07-02T20:00:00Z","level":"5"}}',
	'the area of a day, its events in any order')
FROM (VALUES ('2026-07-02 20:00Z', 1, 5), ('2026-07-02 10:00Z', 3, 1), ('2026-07-02 12:00Z', 2, 3)) v (t, id, level);
-- 7 and then 4 at one moment, 18:00: 6 h x 4 = 86400 s
SELECT is(billing_internal.usage_levels('2026-07-02', '2026-07-02 18:00Z', id, level, 'UTC')::text,
	'{"2026-07-02":{"events":2,"quantity":"86400","first_at":"2026-07-02T18:00:00Z","last_at":"2026-07-02T18:00:00Z","level":"4"}}',
	'at one moment the highest id counts')
FROM (VALUES (12, 4), (11, 7)) v (id, level);
-- 0.5 for the last microsecond of the day
SELECT is(billing_internal.usage_levels('2026-07-02', '2026-07-02 23:59:59.999999Z', 1, 0.5, 'UTC')::text,
	'{"2026-07-02":{"events":1,"quantity":"0.0000005","first_at":"2026-07-02T23:59:59.999999Z","last_at":"2026-07-02T23:59:59.999999Z","level":"0.5"}}',
	'microseconds are exact');
-- a negative level, from midnight: 24 h x -2 = -172800 s
SELECT is(billing_internal.usage_levels('2026-07-02', '2026-07-02 00:00Z', 1, -2, 'UTC')::text,
	'{"2026-07-02":{"events":1,"quantity":"-172800","first_at":"2026-07-02T00:00:00Z","last_at":"2026-07-02T00:00:00Z","level":"-2"}}',
	'a level may be negative');
SELECT is(billing_internal.usage_levels(day::date, t::timestamptz, id, level, 'UTC')::text,
	'{"2026-07-02":{"events":0,"quantity":"0"},"2026-07-03":{"events":1,"quantity":"3600","first_at":"2026-07-03T23:00:00Z","last_at":"2026-07-03T23:00:00Z","level":"1"}}',
	'a row without a level only names its day')
FROM (VALUES ('2026-07-02', '2026-07-02 20:00Z', 1, NULL), ('2026-07-03', '2026-07-03 23:00Z', 2, 1), ('2026-07-03', NULL, 3, 9),
	(NULL, '2026-07-03 23:00Z', 4, 1)) v (day, t, id, level);
SELECT is(billing_internal.usage_levels(NULL, now(), 1, 1, 'UTC')::text, NULL, 'levels: null without rows');
SELECT throws_ok($$ SELECT billing_internal.usage_levels('2026-07-02', '2026-07-02 20:00Z', 1, 1, 'Mars/Olympus') $$,
	'ZB001', 'time zone "Mars/Olympus" does not exist', 'an unknown time zone is refused');
SELECT throws_ok($$ SELECT billing_internal.usage_levels('2026-07-02', '2026-07-02 20:00Z', 1, 1, NULL) $$,
	'ZB001', 'time zone "" does not exist', 'so is none');
SELECT throws_ok($$ SELECT billing_internal.usage_levels('2026-07-02', '2026-07-02 20:00Z', 1, 'NaN', 'UTC') $$,
	'ZB001', 'a usage quantity must be a finite number', 'a level is finite');

-- ---- rows, tables, other forms ----

SELECT results_eq(
	$$ SELECT * FROM billing_internal.usage_days_rows('{"2026-07-01":{"events":3,"quantity":"12.5"},
		"2026-07-02":{"events":1,"quantity":"7200","first_at":"2026-07-02T08:00:00Z","last_at":"2026-07-02T09:00:00Z","level":"2"}}') $$,
	$$ VALUES ('2026-07-01'::date, 3::bigint, 12.5, NULL::timestamptz, NULL::timestamptz, NULL::numeric),
		('2026-07-02', 1, 7200, '2026-07-02 08:00Z', '2026-07-02 09:00Z', 2) $$, 'days as rows');
SELECT is_empty($$ SELECT * FROM billing_internal.usage_days_rows('{}') $$, 'no days, no rows');
SELECT is_empty($$ SELECT * FROM billing_internal.usage_days_rows(NULL) $$, 'null has no rows');
CREATE TEMP TABLE kept (id int, days billing.usage_days);
INSERT INTO kept SELECT 1, billing_internal.usage_days('2026-01-01'::date + i, i, (('1.' || repeat('123456789', 10))::numeric * i)) FROM generate_series(1, 2000) i;
SELECT ok((SELECT pg_column_size(days) > 2000 AND length(days::text) > 100000 AND days::text::billing.usage_days OPERATOR(billing.=) days FROM kept),
	'a value that is stored apart reads back');
SELECT is((SELECT billing_internal.usage_days_send(days) FROM kept) = '\x01'::bytea || convert_to((SELECT days::text FROM kept), 'UTF8'), true,
	'the binary form is a byte and the text');
SELECT is((SELECT count(*) FROM (SELECT days FROM kept UNION SELECT days FROM kept UNION SELECT '{}') u)::int, 2, 'UNION puts equal values together');

SELECT * FROM finish();
ROLLBACK;
