-- What stands against a document, and how unusual an amount is: tables of cases, worked out by hand.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(92);

-- ---------------------------------------------------------------------------------------------------------------------
-- anomaly_score: 0.6745 × (amount − median) ÷ MAD, the usual deviation MAD ÷ 0.6745 being at least 1 % of the median and 0.01

CREATE TEMP TABLE scores (amount text, history text, expected text, why text);
INSERT INTO scores VALUES
	('120', '{100,110,120,130,140}', '0.0000', 'the median itself'),
	-- deviations 20 10 0 10 20, MAD 10: 0.6745 × 80 ÷ 10
	('200', '{100,110,120,130,140}', '5.3960', 'above'),
	('40', '{100,110,120,130,140}', '-5.3960', 'below'),
	('200', '{140,100,130,110,120}', '5.3960', 'in whatever order'),
	('200.00', '{100.0,110.000,120,130,140}', '5.3960', 'with whatever zeros'),
	-- of four values the median is 25, the deviations 15 5 5 15, MAD 10: 0.6745 × 35 ÷ 10 = 2.36075
	('60', '{10,20,30,40}', '2.3608', 'an even number; a tie rounds away from zero'),
	('-10', '{10,20,30,40}', '-2.3608', 'below zero too'),
	-- median 3, MAD 3: 0.6745 ÷ 3 = 0.22483, 0.6745 × 2 ÷ 3 = 0.44967
	('4', '{0,3,6}', '0.2248', 'rounded down'),
	('5', '{0,3,6}', '0.4497', 'rounded up'),
	-- all alike: the usual deviation is 1 % of 50
	('50', '{50,50,50}', '0.0000', 'always the same'),
	('50.01', '{50,50,50}', '0.0200', 'a cent more than always'),
	('51', '{50,50,50}', '2.0000', 'two per cent more than always'),
	('60', '{50,50,50,50,50,90}', '20.0000', 'more than half are alike'),
	-- MAD 0.68 ÷ 0.6745 is more than 1 % of 100: 0.6745 × 3.4 ÷ 0.68; 0.67 ÷ 0.6745 is less: 3.4 ÷ 1
	('103.40', '{99.32,100,100.68}', '3.3725', 'a deviation just above the floor'),
	('103.40', '{99.33,100,100.67}', '3.4000', 'a deviation just below the floor'),
	('103', '{99.3255,100,100.6745}', '3.0000', 'a deviation at the floor'),
	('0.05', '{0,0,0}', '5.0000', 'nothing was ever billed: the floor is a cent'),
	-- median -100, deviations 0 10 10
	('0', '{-100,-110,-90}', '6.7450', 'credits'),
	-- median 2, MAD 1: 0.6745 × 3
	('5', '{1,NULL,2,3}', '2.0235', 'nulls are not counted'),
	('5', '{1,NULL,NULL,3}', NULL, 'two values are no history'),
	('5', '{1,3}', NULL, 'nor are these'),
	('5', '{}', NULL, 'nor is none'),
	('5', NULL, NULL, 'nor is null'),
	(NULL, '{1,2,3}', NULL, 'no amount'),
	-- median 2e26, MAD 1e26: 0.6745 × 97e26 ÷ 1e26
	('9900000000000000000000000000', '{100000000000000000000000000,200000000000000000000000000,300000000000000000000000000}', '65.4265', 'large amounts'),
	('0.000000000004', '{0.000000000001,0.000000000002,0.000000000003}', '0.0000', 'amounts that nobody can pay');
SELECT is(billing.anomaly_score(amount::numeric, history::numeric[])::text, expected, format('score of %s after %s: %s', amount, history, why)) FROM scores;
SELECT throws_ok(format('SELECT billing.anomaly_score(%L, %L)', amount, history), code, NULL, format('%s after %s is refused', left(amount, 10), left(history, 20)))
FROM (VALUES ('NaN', '{1,2,3}', 'ZB001'), ('Infinity', '{1,2,3}', 'ZB001'), ('1e41', '{1,2,3}', 'ZB012'), ('1e-41', '{1,2,3}', 'ZB012'), ('1', '{1,2,NaN}', 'ZB001'),
	('1', '{1,2,-Infinity}', 'ZB001'), ('1', '{1,2,1e131071}', 'ZB012'), ('1', '{{1,2},{3,4}}', 'ZB001')) v (amount, history, code);

-- ---------------------------------------------------------------------------------------------------------------------
-- invoice_problems

-- A document of three lines and 119.00 EUR without fault, but for what is said
CREATE FUNCTION pg_temp.problems(kind text DEFAULT 'invoice', total numeric DEFAULT 119.00, currency text DEFAULT 'EUR', lines bigint DEFAULT 3, untaxed bigint DEFAULT 0,
	untaxed_since date DEFAULT NULL, needs_tax_id boolean DEFAULT false, address text DEFAULT 'Street 1', country text DEFAULT 'DE', tax_id text DEFAULT NULL,
	account text DEFAULT 'a1', purchase_order_missing boolean DEFAULT false, hold_zero boolean DEFAULT true, unpriced text DEFAULT NULL, max_amount numeric DEFAULT NULL,
	max_lines integer DEFAULT NULL, max_score numeric DEFAULT NULL, history numeric[] DEFAULT NULL, released boolean DEFAULT false) RETURNS text LANGUAGE sql AS $$
	SELECT (SELECT string_agg(p[n][1] || ': ' || p[n][2], '; ' ORDER BY p[n][1], n) FROM generate_subscripts(p, 1) n)
	FROM billing_internal.invoice_problems(kind, total, currency, lines, untaxed, untaxed_since, needs_tax_id, address, country, tax_id, account,
		purchase_order_missing, hold_zero, unpriced, max_amount, max_lines, max_score, history, released) p
$$;
CREATE FUNCTION pg_temp.asked(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SELECT pg_temp.problems(%s)', arguments) INTO answer;
	RETURN answer;
END $$;
CREATE TEMP TABLE cases (arguments text, expected text);
INSERT INTO cases VALUES
	('', NULL),
	-- what a document lacks
	('untaxed => 2, untaxed_since => ''2026-01-31''', 'missing_tax_code: 2 of 3 lines have no tax code with a rate on 2026-01-31'),
	('address => NULL', 'missing_customer_data: the customer has no address'),
	('country => NULL', 'missing_customer_data: the customer has no country'),
	('address => NULL, country => NULL', 'missing_customer_data: the customer has no address, country'),
	('needs_tax_id => true', 'missing_customer_data: the customer has no tax id, which reverse charge and intra-community supply need'),
	('needs_tax_id => true, tax_id => ''DE1''', NULL),
	('needs_tax_id => true, country => NULL', 'missing_customer_data: the customer has no country'),
	('purchase_order_missing => true', 'missing_purchase_order: account a1 requires a purchase order'),
	('unpriced => ''item x of contract y has no price on 2026-01-01''', 'missing_price: it is incomplete: item x of contract y has no price on 2026-01-01'),
	-- what an invoice comes to
	('total => -0.01', 'not_positive: the total is -0.01 EUR'),
	('total => 0.00', 'not_positive: the total is 0.00 EUR'),
	('total => 0.00, hold_zero => false', NULL),
	('total => -1.00, hold_zero => false', 'not_positive: the total is -1.00 EUR'),
	('total => -100, currency => ''JPY'', kind => ''credit_note''', NULL),
	('total => 0.00, kind => ''credit_note''', NULL),
	-- the bound on the amount
	('max_amount => 119', NULL),
	('max_amount => 118.99', 'amount_bound: the total of 119.00 EUR is beyond the bound of 118.99'),
	('max_amount => 0', 'amount_bound: the total of 119.00 EUR is beyond the bound of 0'),
	('max_amount => 100, total => -100.01, kind => ''credit_note''', 'amount_bound: the total of -100.01 EUR is beyond the bound of 100'),
	('max_amount => 100, total => -100.00, kind => ''credit_note''', NULL),
	('max_amount => 118, released => true', NULL),
	('max_amount => 118, released => NULL', 'amount_bound: the total of 119.00 EUR is beyond the bound of 118'),
	-- the bound on the lines
	('max_lines => 3', NULL),
	('max_lines => 2', 'lines_bound: it has 3 lines, beyond the bound of 2'),
	('max_lines => 2147483647, lines => 2147483648', 'lines_bound: it has 2147483648 lines, beyond the bound of 2147483647'),
	('max_lines => 2, released => true', NULL),
	-- the bound on the score: median 120, deviations 10 5 0 0 5 10, MAD 5, 5 ÷ 0.6745 = 7.4129, 0.6745 × 1114.56 ÷ 5 = 150.35414
	('total => 1234.56, max_score => 3.5, history => ''{110.00,115.00,120.00,120.00,125.00,130.00}''',
		'amount_anomaly: the total of 1234.56 EUR is 150.3541 times the usual deviation of 7.41 above the median 120.00 of the last 6 invoices'),
	-- 0.6745 × -20 ÷ 5 = -2.698
	('total => 100.00, max_score => 2.6979, history => ''{110.00,115.00,120.00,120.00,125.00,130.00}''',
		'amount_anomaly: the total of 100.00 EUR is 2.698 times the usual deviation of 7.41 below the median 120.00 of the last 6 invoices'),
	('total => 100.00, max_score => 2.698, history => ''{110.00,115.00,120.00,120.00,125.00,130.00}''', NULL),
	('total => 1234.56, max_score => 3.5, history => ''{110.00,115.00}''', NULL),
	('total => 1234.56, max_score => 3.5, history => ''{}''', NULL),
	('total => 1234.56, max_score => 3.5', NULL),
	('total => 1234.56, history => ''{110.00,115.00,120.00}''', NULL),
	('total => 1234.56, max_score => 3.5, history => ''{110.00,115.00,120.00}'', released => true', NULL),
	-- (1000 − 500) ÷ 5; yen have no decimals
	('total => 1000, currency => ''JPY'', max_score => 3.5, history => ''{500,500,500}''',
		'amount_anomaly: the total of 1000 JPY is 100 times the usual deviation of 5.00 above the median 500 of the last 3 invoices'),
	-- a credit is compared by its size, and a small one is nothing odd: (150 − 100) ÷ 1
	('total => -150.00, kind => ''credit_note'', max_score => 3.5, history => ''{100.00,100.00,100.00}''',
		'amount_anomaly: the credit of 150.00 EUR is 50 times the usual deviation of 1.00 above the median 100.00 of the last 3 invoices'),
	('total => -1.00, kind => ''credit_note'', max_score => 3.5, history => ''{100.00,100.00,100.00}''', NULL),
	-- several at once
	('total => 0.00, lines => 9, untaxed => 9, untaxed_since => ''2026-02-28'', address => NULL, purchase_order_missing => true, unpriced => ''x'', max_lines => 8',
		'lines_bound: it has 9 lines, beyond the bound of 8; missing_customer_data: the customer has no address; missing_price: it is incomplete: x; '
		|| 'missing_purchase_order: account a1 requires a purchase order; missing_tax_code: 9 of 9 lines have no tax code with a rate on 2026-02-28; not_positive: the total is 0.00 EUR'),
	('total => 9.00, max_amount => 8, max_lines => 2, max_score => 3, history => ''{1,1,1}''',
		'amount_anomaly: the total of 9.00 EUR is 800 times the usual deviation of 0.01 above the median 1.00 of the last 3 invoices; '
		|| 'amount_bound: the total of 9.00 EUR is beyond the bound of 8; lines_bound: it has 3 lines, beyond the bound of 2'),
	-- what is not known is no problem
	('kind => NULL, total => NULL, currency => NULL, lines => NULL, untaxed => NULL, needs_tax_id => NULL, tax_id => NULL, account => NULL, purchase_order_missing => NULL, hold_zero => NULL, max_amount => 1, max_lines => 1, max_score => 1, history => ''{1,2,3}'', released => NULL', NULL);
SELECT is(pg_temp.asked(arguments), expected, 'problems of ' || coalesce(nullif(arguments, ''), 'nothing')) FROM cases;
SELECT is((SELECT count(*) FROM cases), 41::bigint, 'all of them');
SELECT throws_ok(format('SELECT pg_temp.problems(%s)', arguments), code, NULL, arguments || ' is refused')
FROM (VALUES ('total => ''NaN''', 'ZB001'), ('total => ''-Infinity''', 'ZB001'), ('total => 1e100', 'ZB012'), ('max_amount => ''NaN''', 'ZB001'),
	('max_score => ''Infinity'', history => ''{1,2,3}''', 'ZB001'), ('max_score => 1, history => ''{{1,2},{3,4}}''', 'ZB001'), ('max_score => 1, history => ''{1,2,NaN}''', 'ZB001')) v (arguments, code);
SET LOCAL datestyle = 'German, DMY';
SELECT is(pg_temp.problems(untaxed => 1, untaxed_since => '2026-01-31'), 'missing_tax_code: 1 of 3 lines have no tax code with a rate on 2026-01-31', 'whatever the date style is');
RESET datestyle;

-- What is done about them
SELECT is(billing_internal.invoice_action(problems::text[], total, bound, released), expected, format('%s, %s within %s, released %s: %s', problems, total, bound, released, expected))
FROM (VALUES ('{{a,b}}', 5.0, 10.0, false, 'hold'), (NULL, 10, 10, false, 'auto_approve'), (NULL, -10, 10, false, 'auto_approve'), (NULL, 10.01, 10, false, 'submit'),
	(NULL, 10, NULL, false, 'submit'), (NULL, 5, 10, true, 'submit'), ('{{a,b}}', 5, 10, true, 'hold')) v (problems, total, bound, released, expected);
-- every kind has a row that says whose work it is
SELECT is((SELECT string_agg(kind || ' ' || owner_duty, ', ' ORDER BY kind) FROM billing.exception_kind WHERE kind ~ 'bound|anomaly'),
	'amount_anomaly biller, amount_bound biller, lines_bound biller', 'bounds are the biller''s business');

SELECT * FROM finish();
ROLLBACK;
