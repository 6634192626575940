-- The language of conditions: what is understood, how it is written canonically, what it is for the facts of a document, and what is
-- refused, where and with which hint.
BEGIN;
SELECT plan(183);

-- Facts of a document; a null for what is not known
CREATE FUNCTION pg_temp.facts() RETURNS billing.document_facts LANGUAGE sql AS $$
	SELECT ROW('invoice', 812.50, 'EUR', 12.5, NULL, 30, 'public', 'high', '{hardware,it''s}', true, 3, NULL, 'ada', 'c-1')::billing.document_facts
$$;

-- What a condition is for them
CREATE FUNCTION pg_temp.is(condition text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce(billing_internal.condition_holds(billing.check_condition(condition)::billing.condition, pg_temp.facts())::text, 'null');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

CREATE TEMP TABLE holds (n serial, condition text, expected text);
INSERT INTO holds (condition, expected) VALUES
	-- comparisons of numbers
	('amount = 812.5', 'true'), ('amount = 812.500', 'true'), ('amount <> 812.5', 'false'), ('amount != 812.5', 'false'),
	('amount > 812.49', 'true'), ('amount >= 812.5', 'true'), ('amount < 812.5', 'false'), ('amount <= 812.5', 'true'),
	('-1 < -0.5', 'true'), ('payment_days = 30', 'true'), ('1000 > amount', 'true'),
	('12345678901234567890123456789012345678 = 12345678901234567890123456789012345679', 'false'),
	('0.0000000000000000000000000000000000001 > 0', 'true'),
	-- of texts, byte by byte
	('risk = ''high''', 'true'), ('risk = ''High''', 'false'), ('segment > ''private''', 'true'), ('segment < ''publicly''', 'true'),
	('''a'' < ''B''', 'false'), ('''it''''s'' in categories', 'true'), ('''é'' > ''z''', 'true'),
	-- of booleans
	('is_first', 'true'), ('is_first = true', 'true'), ('is_first <> true', 'false'), ('is_first = (amount > 1)', 'true'), ('not is_first', 'false'),
	-- nulls
	('margin_percent < 10', 'null'), ('not margin_percent < 10', 'null'), ('margin_percent is null', 'true'), ('margin_percent is not null', 'false'),
	('amount is null', 'false'), ('margin_percent = margin_percent', 'null'), ('margin_percent + 1 is null', 'true'), ('(margin_percent < 1) is null', 'true'),
	('margin_percent < 1 is null', 'true'), ('(amount > 1) is true', 'true'), ('(margin_percent > 1) is true', 'false'),
	('(margin_percent > 1) is not true', 'true'), ('is_first is false', 'false'), ('(margin_percent > 1) is not false', 'true'),
	-- three values: and, or, not
	('margin_percent > 1 and amount > 1', 'null'), ('margin_percent > 1 and amount < 1', 'false'), ('amount < 1 and margin_percent > 1', 'false'),
	('margin_percent > 1 and score > 1', 'null'), ('margin_percent > 1 or amount > 1', 'true'), ('amount > 1 or margin_percent > 1', 'true'),
	('margin_percent > 1 or amount < 1', 'null'), ('margin_percent > 1 or score > 1', 'null'), ('true and true', 'true'), ('true or false', 'true'), ('not false', 'true'),
	-- what binds tighter
	('true or true and false', 'true'), ('(true or true) and false', 'false'), ('not false and false', 'false'), ('not (false and false)', 'true'),
	('not amount < 1 or false', 'true'), ('1 + 2 * 3 = 7', 'true'), ('(1 + 2) * 3 = 9', 'true'), ('10 - 2 - 3 = 5', 'true'), ('16 / 4 / 2 = 2', 'true'),
	('2 * 3 - -1 = 7', 'true'), ('-amount * 2 = -1625', 'true'), ('- - 5 = 5', 'true'), ('amount between 800 and 813 and is_first', 'true'),
	('1 + 1 between 1 + 1 and 1 * 2', 'true'), ('1 in (2) = false', 'true'), ('not 1 in (2)', 'true'),
	-- arithmetic is exact; a quotient has 12 decimals, half away from zero; what cannot be computed is null
	('0.1 + 0.2 = 0.3', 'true'), ('1 / 3 = 0.333333333333', 'true'), ('2 / 3 = 0.666666666667', 'true'), ('-2 / 3 = -0.666666666667', 'true'),
	('1 / 2000000000000 = 0.000000000001', 'true'), ('-1 / 2000000000000 = -0.000000000001', 'true'), ('1 / 2000000000001 = 0', 'true'),
	('1 / 0 = 1', 'null'), ('1 / (amount - amount) > 0', 'null'), ('0 / 5 = 0', 'true'), ('amount * discount_percent / 100 = 101.5625', 'true'),
	('amount - amount * discount_percent / 100 >= 710.9375', 'true'),
	('99999999999999999999999999999999999999 * 99999999999999999999999999999999999999 = 9999999999999999999999999999999999999800000000000000000000000000000000000000 / 100 + 1', 'ZB017 invalid condition: number of more than 38 digits'),
	('99999999999999999999 * 99999999999999999999 * 1000000000000 > 99999999999999999999999999999999999999', 'true'),
	('99999999999999999999999999999999999999 * 99999999999999999999999999999999999999 * 99999999999999999999999999999999999999 > 0', 'null'),
	('99999999999999999999999999999999999999 * 10 / 3 / 10 = 33333333333333333333333333333333333333', 'true'),
	-- in, between
	('risk in (''low'', ''high'')', 'true'), ('risk not in (''low'', ''high'')', 'false'), ('amount in (1, 812.5, 3)', 'true'), ('amount in (-812.5)', 'false'),
	('margin_percent in (1)', 'null'), ('margin_percent not in (1)', 'null'), ('is_first in (true)', 'true'),
	('''hardware'' in categories', 'true'), ('''soft'' in categories', 'false'), ('''soft'' not in categories', 'true'), ('risk in categories', 'false'), ('categories is null', 'false'),
	('amount between 812.5 and 812.5', 'true'), ('amount between 900 and 800', 'false'), ('amount not between 900 and 1000', 'true'),
	('margin_percent between 1 and 2', 'null'), ('amount between 900 and margin_percent', 'false'), ('risk between ''a'' and ''i''', 'true');
SELECT is(pg_temp.is(condition), expected, condition) FROM holds ORDER BY n;

-- The canonical text, which stands for the condition wherever it is written; it is its own canonical text
CREATE TEMP TABLE written (n serial, given text, expected text);
INSERT INTO written (given, expected) VALUES
	('amount>=0010000.500', 'amount >= 10000.5'),
	(E' amount\t>\n1 ', 'amount > 1'),
	('((amount)) > ((1))', 'amount > 1'),
	('NOT (amount > 1 AND is_first)', 'not (amount > 1 and is_first)'),
	('not amount is null', 'amount is not null'),
	('not (amount in (1,2))', 'amount not in (1, 2)'),
	('amount != 1', 'amount <> 1'),
	('(amount > 1 or amount < 0) or is_first', 'amount > 1 or amount < 0 or is_first'),
	('amount > 1 and (amount < 5 or is_first)', 'amount > 1 and (amount < 5 or is_first)'),
	('(amount - 1) - (2 - 1) > -(-(3))', 'amount - 1 - (2 - 1) > 3'),
	('(amount * 2) / (3 * 4) > 1', 'amount * 2 / (3 * 4) > 1'),
	('-(amount + 1) < 0', '-(amount + 1) < 0'),
	('(not is_first) is null', '(not is_first) is null'),
	('(amount is null) is true', 'amount is null is true'),
	('(amount = 1) = is_first', '(amount = 1) = is_first'),
	('amount between (1) and (2 + 3)', 'amount between 1 and 2 + 3'),
	('(''a''in categories)=is_first', '''a'' in categories = is_first'),
	('0.0 = -0', '0 = 0');
SELECT is(billing.check_condition(given), expected, 'written: ' || given) FROM written ORDER BY n;
SELECT is_empty('SELECT expected FROM written WHERE billing.check_condition(expected) <> expected OR expected::billing.condition::text <> expected', 'the canonical text is its own canonical text');
SELECT is_empty($$SELECT condition FROM holds WHERE expected !~ '^ZB' AND billing.check_condition(billing.check_condition(condition)) <> billing.check_condition(condition)$$, 'that of every condition above');

-- What is refused: the message, where, and the hint
CREATE FUNCTION pg_temp.refusal(condition text, OUT told text, OUT place text, OUT hint text) LANGUAGE plpgsql AS $$
BEGIN
	told := 'accepted ' || billing.check_condition(condition);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS place = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	told := SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE TEMP TABLE refused (n serial, condition text, told text, place text);
INSERT INTO refused (condition, told, place) VALUES
	('amont > 5', 'unknown field "amont" of a document', 'position 1: "amont"'),
	('Amount > 5', 'unknown field "Amount" of a document', 'position 1: "Amount"'),
	('amount > 5 and payload.weight > 3', 'unknown field "payload.weight" of a document', 'position 16: "payload.weight"'),
	('risk > 5', 'what is compared with it must be a text, not a number', 'position 8: "5"'),
	('amount = ''x''', 'what is compared with it must be a number, not a text', 'position 10: "''x''"'),
	('amount', 'not a condition', 'position 1: "amount"'),
	('risk + 1 > 2', 'what is calculated with must be a number, not a text', 'position 1: "risk"'),
	('amount and is_first', 'a condition must be true or false, not a number', 'position 1: "amount"'),
	('not risk', 'a condition must be true or false, not a text', 'position 5: "risk"'),
	('is_first > false', 'true and false have no order', 'position 1: "is_first"'),
	('is_first between false and true', 'true and false have no order', 'position 1: "is_first"'),
	('categories = ''x''', 'what is compared must be a text, not a list', 'position 1: "categories"'),
	('categories in (''x'')', 'what is compared must be a text, not a list', 'position 1: "categories"'),
	('5 in categories', 'what is in a list must be a text, not a number', 'position 1: "5"'),
	('''x'' in risk', 'what follows in must be a list, not a text', 'position 8: "risk"'),
	('risk in (''x'', 5)', 'what is compared with it must be a text, not a number', 'position 15: "5"'),
	('amount is true', 'a condition must be true or false, not a number', 'position 1: "amount"'),
	('amount = null', 'expected a value', 'position 10: "null"'),
	('amount < 1 < 2', 'expected and, or or the end', 'position 12: "<"'),
	('amount > 1 is_first', 'expected and, or or the end', 'position 12: "is_first"'),
	('amount >', 'expected a value', 'position 9, the end of the text'),
	('', 'expected a value', 'position 1, the end of the text'),
	('(amount > 1', 'expected )', 'position 12, the end of the text'),
	('amount > 1)', 'expected and, or or the end', 'position 11: ")"'),
	('amount in ()', 'expected a constant', 'position 12: ")"'),
	('amount in (payment_days)', 'expected a constant', 'position 12: "payment_days"'),
	('amount in 5', 'expected (', 'position 11: "5"'),
	('amount not 5', 'expected in or between', 'position 12: "5"'),
	('amount between 1', 'expected and', 'position 17, the end of the text'),
	('amount is 5', 'expected null, true or false', 'position 11: "5"'),
	('amount > 1.2.3', 'malformed number', 'position 10: "1.2."'),
	('amount > 1e5', 'malformed number', 'position 10: "1e"'),
	('amount > .5', 'unexpected character', 'position 10: "."'),
	('risk = "high"', 'unexpected character', 'position 8: """'),
	('risk = ''high', 'text without end', 'position 8: "''high"'),
	(E'risk = ''a\nb''', 'unprintable character in a text', 'position 8: "''a"'),
	('é = 1', 'unexpected character', 'position 1: "é"'),
	('risk = ''é'' and amont > 1', 'unknown field "amont" of a document', 'position 16: "amont"'),
	('amount > 1; DROP TABLE billing.person', 'unexpected character', 'position 11: ";"'),
	('EXISTS (SELECT 1)', 'unknown field "EXISTS" of a document', 'position 1: "EXISTS"'),
	('amount::text = ''1''', 'unexpected character', 'position 7: ":"'),
	('pg_sleep(10) > 1', 'unknown field "pg_sleep" of a document', 'position 1: "pg_sleep"'),
	('amount > 1 -- x', 'unknown field "x" of a document', 'position 15: "x"');
SELECT is(row(x.told, regexp_replace(x.place, '^At |\.$', '', 'g'), x.hint <> '')::text, row('ZB017 invalid condition: ' || r.told, r.place, true)::text, 'refused: ' || r.condition)
FROM refused r, pg_temp.refusal(r.condition) x ORDER BY r.n;
SELECT matches(hint, '^Perhaps you mean "amount"\. The fields are: kind, amount, .*, contract\.$', 'the hint names the nearest field and all others') FROM pg_temp.refusal('amont > 5');
SELECT matches(hint, '^The fields are: ', 'or only all of them') FROM pg_temp.refusal('supercalifragilistic > 5');

-- Bounds
SELECT is(told, 'ZB017 invalid condition: longer than 2000 bytes', 'at most 2000 bytes') FROM pg_temp.refusal('amount > 1' || repeat(' ', 1991));
SELECT is(billing.check_condition('amount > 1' || repeat(' ', 1990)), 'amount > 1', '2000 of them are right');
SELECT is(told, 'ZB017 invalid condition: longer than 2000 bytes when it is written with its blanks', 'written with its blanks too')
FROM pg_temp.refusal('amount in (' || repeat('111,', 480) || '1)');
SELECT is(told, 'ZB017 invalid condition: more than 500 parts', 'at most 500 parts') FROM pg_temp.refusal('amount in (' || repeat('1,', 600) || '1)');
SELECT is(told, 'ZB017 invalid condition: nested more than 32 levels deep', 'at most 32 levels of parentheses') FROM pg_temp.refusal(repeat('(', 33) || 'is_first' || repeat(')', 33));
SELECT is(billing.check_condition(repeat('(', 32) || 'is_first' || repeat(')', 32)), 'is_first', '32 are right');
SELECT is(told, 'ZB017 invalid condition: nested more than 32 levels deep', 'of not') FROM pg_temp.refusal(repeat('not ', 33) || 'is_first');
SELECT is(told, 'ZB017 invalid condition: nested more than 32 levels deep', 'of signs') FROM pg_temp.refusal(repeat('-', 33) || 'amount > 1');
SELECT is(told, 'ZB017 invalid condition: name longer than 100 bytes', 'names have at most 100 bytes') FROM pg_temp.refusal(repeat('x', 101) || ' > 1');
SELECT is(pg_temp.is(repeat('1 + ', 200) || '0 = 200'), 'true', 'a long sum is no deep one');

-- The type by itself knows no fields, and takes any name; where they are used, they are known or refused
SELECT is('payload.weight > 3 and  order_no = ''7'''::billing.condition::text, 'payload.weight > 3 and order_no = ''7''', 'the type takes any fields');
SELECT throws_ok($$SELECT 'payload.weight + ''x'' > 3'::billing.condition$$, 'ZB017', NULL, 'but not what cannot be whatever they are');
SELECT is(billing_internal.condition_holds('payload.weight > 3', NULL), NULL, 'nothing is known about no document');
SELECT throws_ok($$SELECT billing_internal.condition_holds('payload.weight > 3', pg_temp.facts())$$, 'ZB017', 'invalid condition: unknown field "payload.weight" of a document', 'a field that there is not');
SELECT throws_ok($$SELECT billing.check_condition('amount > 1', 'no-such')$$, 'ZB002', NULL, 'nor a kind that there is not');
SELECT is(billing.check_condition(NULL), NULL, 'nothing is nothing');

-- Binary: a version byte and the text, both ways
SELECT is(billing_internal.condition_send('amount>1'), '\x01'::bytea || 'amount > 1'::bytea, 'the binary form');
CREATE TEMP TABLE kept AS SELECT condition::billing.condition FROM holds WHERE expected !~ '^ZB';
CREATE TEMP TABLE seen AS SELECT condition::text FROM kept;
SELECT set_eq('SELECT condition FROM seen', $$SELECT billing.check_condition(condition) FROM holds WHERE expected !~ '^ZB'$$, 'stored and read again');

SELECT * FROM finish();
ROLLBACK;
