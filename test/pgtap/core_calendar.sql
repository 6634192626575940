-- How time is cut into billing periods: counted from the anchor, half-open, a day that a month lacks becomes its last.
BEGIN;
SELECT plan(57);

-- The first day of period n
SELECT is(billing.period_start(anchor::date, unit, count, n), expected::date, format('%s + %s × %s %s', anchor, n, count, unit))
FROM (VALUES
	('2026-01-31', 'month', 1, 0, '2026-01-31'),
	('2026-01-31', 'month', 1, 1, '2026-02-28'),
	('2026-01-31', 'month', 1, 2, '2026-03-31'),
	('2026-01-31', 'month', 1, 3, '2026-04-30'),
	('2026-01-31', 'month', 1, 13, '2027-02-28'),
	('2026-01-31', 'month', 1, 25, '2028-02-29'),
	('2026-01-31', 'month', 1, -1, '2025-12-31'),
	('2026-01-31', 'month', 1, -2, '2025-11-30'),
	('2026-01-31', 'month', 1, -11, '2025-02-28'),
	('2026-01-30', 'month', 1, 1, '2026-02-28'),
	('2026-01-29', 'month', 1, 1, '2026-02-28'),
	('2028-01-29', 'month', 1, 1, '2028-02-29'),
	('2028-01-30', 'month', 1, 1, '2028-02-29'),
	('2026-01-28', 'month', 1, 1, '2026-02-28'),
	('2026-02-28', 'month', 1, 1, '2026-03-28'),
	('2024-02-29', 'month', 1, 12, '2025-02-28'),
	('2024-02-29', 'year', 1, 1, '2025-02-28'),
	('2024-02-29', 'year', 1, 4, '2028-02-29'),
	('2024-02-29', 'year', 4, 1, '2028-02-29'),
	('2096-02-29', 'year', 4, 1, '2100-02-28'),
	('2096-02-29', 'year', 8, 1, '2104-02-29'),
	('2000-02-29', 'year', 100, 4, '2400-02-29'),
	('2024-02-29', 'year', 1, -4, '2020-02-29'),
	('2024-02-29', 'year', 1, -124, '1900-02-28'),
	('2026-11-30', 'quarter', 1, 1, '2027-02-28'),
	('2026-11-30', 'quarter', 1, 2, '2027-05-30'),
	('2026-01-15', 'quarter', 1, -1, '2025-10-15'),
	('2026-01-15', 'month', 3, -1, '2025-10-15'),
	('2026-12-31', 'month', 2, 1, '2027-02-28'),
	('2026-03-01', 'week', 1, -1, '2026-02-22'),
	('2026-03-01', 'week', 2, 3, '2026-04-12'),
	('2026-12-31', 'day', 1, 1, '2027-01-01'),
	('2026-12-31', 'day', 30, 2, '2027-03-01')
) AS c (anchor, unit, count, n, expected);

-- The period that a day lies in
SELECT is(billing.period_index(anchor::date, unit, count, day::date), n::bigint, format('%s of %s %s from %s', day, count, unit, anchor))
FROM (VALUES
	('2026-01-31', 'month', 1, '2026-01-31', 0),
	('2026-01-31', 'month', 1, '2026-01-30', -1),
	('2026-01-31', 'month', 1, '2026-02-27', 0),
	('2026-01-31', 'month', 1, '2026-02-28', 1),
	('2026-01-31', 'month', 1, '2026-03-30', 1),
	('2026-01-31', 'month', 1, '2026-03-31', 2),
	('2024-02-29', 'year', 1, '2025-02-27', 0),
	('2024-02-29', 'year', 1, '2025-02-28', 1),
	('2024-02-29', 'year', 1, '2028-02-28', 3),
	('2024-02-29', 'year', 1, '2028-02-29', 4),
	('2026-01-15', 'quarter', 1, '2026-04-14', 0),
	('2026-01-15', 'quarter', 1, '2025-10-14', -2),
	('2026-03-01', 'week', 2, '2026-02-28', -1),
	('2026-03-01', 'week', 2, '2026-02-14', -2),
	('2026-03-01', 'day', 1, '2026-02-28', -1)
) AS c (anchor, unit, count, day, n);

-- Every day lies in the period that its number says, for all anchors that months lack, also before them
SELECT is(count(*), 0::bigint, 'every day from 1996 to 2034 is inside its period')
FROM (VALUES ('month', 1), ('month', 5), ('quarter', 1), ('year', 1), ('week', 1), ('day', 7)) AS i (u, c),
	unnest('{2012-02-29,2012-01-31,2013-01-30,2013-03-29,2014-11-30,2016-12-31}'::date[]) AS anchor,
	generate_series(0, 14000, 13) AS step,
	LATERAL (SELECT date '1996-01-01' + step AS day) d,
	LATERAL (SELECT billing.period_index(anchor, u, c, day) AS n) p
WHERE NOT (billing.period_start(anchor, u, c, n) <= day AND day < billing.period_start(anchor, u, c, n + 1));
SELECT is(count(*), 0::bigint, 'no period of a month is shorter than 28 or longer than 31 days')
FROM unnest('{2012-02-29,2012-01-31,2013-01-30}'::date[]) AS anchor, generate_series(-400, 400) AS n
WHERE billing.period_start(anchor, 'month', 1, n + 1) - billing.period_start(anchor, 'month', 1, n) NOT BETWEEN 28 AND 31;

-- What is no interval
SELECT throws_ok(statement, code, NULL, statement)
FROM (VALUES
	($$SELECT billing.period_start('2026-01-01', 'hour', 1, 1)$$, 'ZB001'),
	($$SELECT billing.period_start('2026-01-01', 'month', 0, 1)$$, 'ZB001'),
	($$SELECT billing.period_start('2026-01-01', 'month', 1001, 1)$$, 'ZB001'),
	($$SELECT billing.period_start('-infinity', 'month', 1, 1)$$, 'ZB001'),
	($$SELECT billing.period_start('2026-01-01', 'year', 1000, 999999)$$, 'ZB012'),
	($$SELECT billing.period_start('2026-01-01', 'month', 1, 9223372036854775807)$$, 'ZB012'),
	($$SELECT billing.period_index('2026-01-01', 'month', 1, 'infinity')$$, 'ZB001')
) AS c (statement, code);

SELECT * FROM finish();
ROLLBACK;
