-- Rounding once to the minor unit, and shares of days.
BEGIN;
SELECT plan(66);

-- amount, decimals, half away from zero, half to even
SELECT is(billing.round_amount(amount::numeric, decimals, mode)::text, expected, format('%s to %s decimals, %s', amount, decimals, mode))
FROM (VALUES
	('0.005', 2, '0.01', '0.00'),
	('0.015', 2, '0.02', '0.02'),
	('0.025', 2, '0.03', '0.02'),
	('-0.005', 2, '-0.01', '0.00'),
	('-0.015', 2, '-0.02', '-0.02'),
	('-0.025', 2, '-0.03', '-0.02'),
	('2.344999999999999999999999', 2, '2.34', '2.34'),
	('2.345000000000000000000001', 2, '2.35', '2.35'),
	('-2.345000000000000000000001', 2, '-2.35', '-2.35'),
	('1', 2, '1.00', '1.00'),
	('0', 2, '0.00', '0.00'),
	('0.5', 0, '1', '0'),
	('1.5', 0, '2', '2'),
	('2.5', 0, '3', '2'),
	('-0.5', 0, '-1', '0'),
	('-1.5', 0, '-2', '-2'),
	('-2.5', 0, '-3', '-2'),
	('99.5', 0, '100', '100'),
	('1.0005', 3, '1.001', '1.000'),
	('1.0015', 3, '1.002', '1.002'),
	('-1.0025', 3, '-1.003', '-1.002'),
	('999.9995', 3, '1000.000', '1000.000'),
	('123456789012345678901234567890.125', 2, '123456789012345678901234567890.13', '123456789012345678901234567890.12')
) AS c (amount, decimals, half_up, half_even), LATERAL (VALUES ('half_up', half_up), ('half_even', half_even)) AS m (mode, expected);

-- The decimals of the currency
SELECT is(billing.round_amount(1234.56789, y.minor_unit)::text, expected, 'in ' || y.currency)
FROM (VALUES ('JPY', '1235'), ('EUR', '1234.57'), ('BHD', '1234.568'), ('CLF', '1234.5679')) AS c (currency, expected)
JOIN billing.currency y USING (currency);

-- Shares
SELECT is(billing.round_amount(billing.prorate(amount::numeric, days, of_days), 2)::text, expected, format('%s of %s days of %s', days, of_days, amount))
FROM (VALUES
	('100', 10, 30, '33.33'),
	('200', 10, 30, '66.67'),
	('-100', 10, 30, '-33.33'),
	('125', 14, 31, '56.45'),
	('250', 17, 31, '137.10'),
	('0.01', 15, 30, '0.01'),
	('0.01', 14, 30, '0.00'),
	('100', 0, 30, '0.00'),
	('100', 30, 30, '100.00')
) AS c (amount, days, of_days, expected);
SELECT is(billing.prorate(100, 31, 31)::text, '100', 'the whole is untouched');
-- Half of 0.01 is a tie; half of 2^31 parts of it more or less is none, however it is divided
SELECT is(billing.round_amount(billing.prorate(0.01, 1073741824, 2147483647), 2)::text, '0.01', 'just above a tie');
SELECT is(billing.round_amount(billing.prorate(0.01, 1073741823, 2147483647), 2)::text, '0.00', 'just below a tie');
-- The days of a month share its price: what is lost by rounding is less than half a cent a day
SELECT ok(abs(100 - sum(billing.round_amount(billing.prorate(100, 1, 31), 2))) < 31 * 0.005, 'thirty-one days make about a month') FROM generate_series(1, 31);

SELECT throws_ok(statement, code, NULL, statement)
FROM (VALUES
	($$SELECT billing.round_amount(1, 2, 'half_down')$$, 'ZB001'),
	($$SELECT billing.round_amount('NaN', 2)$$, 'ZB001'),
	($$SELECT billing.prorate(1, 31, 30)$$, 'ZB001')
) AS c (statement, code);

SELECT * FROM finish();
ROLLBACK;
