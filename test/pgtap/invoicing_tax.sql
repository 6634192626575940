-- Tax: per category and rate on the sum of the lines, rounded once; which rate; what a document must have to be issued.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(137);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('even', 'Even', 'EUR', 'Europe/Berlin', 'DE', rounding_mode => 'half_even'),
	billing.create_entity('yen', 'Yen', 'JPY', 'Asia/Tokyo', 'JP'), billing.create_entity('even-yen', 'Yen', 'JPY', 'Asia/Tokyo', 'JP', rounding_mode => 'half_even'),
	billing.create_entity('dinar', 'Dinar', 'BHD', 'Asia/Bahrain', 'BH');
UPDATE billing.legal_entity SET zero_invoices = 'issue' WHERE code = 'even';
CREATE TEMP TABLE entities (entity, currency) AS VALUES ('acme', 'EUR'), ('even', 'EUR'), ('yen', 'JPY'), ('even-yen', 'JPY'), ('dinar', 'BHD');
SELECT pg_temp.staff(entity) FROM entities;
SELECT pg_temp.must('ada', format($q$SELECT
	billing.add_tax_code(%1$L, 's19', 'S', 'S'), billing.add_tax_rate(%1$L, 's19', 19, '2007-01-01', '2026-03-01'), billing.add_tax_rate(%1$L, 's19', 21, '2026-03-01'),
	billing.add_tax_code(%1$L, 's7', 'S', 'S'), billing.add_tax_rate(%1$L, 's7', 7, '2007-01-01'), billing.add_tax_code(%1$L, 's19b', 'S', 'S'), billing.add_tax_rate(%1$L, 's19b', 19, '2007-01-01'),
	billing.add_tax_code(%1$L, 's10', 'S', 'S'), billing.add_tax_rate(%1$L, 's10', 10, '2007-01-01'), billing.add_tax_code(%1$L, 's8.25', 'S', 'S'), billing.add_tax_rate(%1$L, 's8.25', 8.25, '2007-01-01'),
	billing.add_tax_code(%1$L, 'z', 'Z', 'Z'), billing.add_tax_rate(%1$L, 'z', 0, '2007-01-01'),
	billing.add_tax_code(%1$L, 'e1', 'E', 'E', 'reason one'), billing.add_tax_rate(%1$L, 'e1', 0, '2007-01-01'), billing.add_tax_code(%1$L, 'e2', 'E', 'E', 'reason two'), billing.add_tax_rate(%1$L, 'e2', 0, '2007-01-01'),
	billing.add_tax_code(%1$L, 'ae', 'AE', 'AE', 'reverse charge'), billing.add_tax_rate(%1$L, 'ae', 0, '2007-01-01'), billing.add_tax_code(%1$L, 'k', 'K', 'K', 'intra-community supply'), billing.add_tax_rate(%1$L, 'k', 0, '2007-01-01'),
	billing.add_tax_code(%1$L, 'g', 'G', 'G', 'export'), billing.add_tax_rate(%1$L, 'g', 0, '2007-01-01'), billing.add_tax_code(%1$L, 'o', 'O', 'O', 'out of scope'), billing.add_tax_rate(%1$L, 'o', 0, '2007-01-01'),
	billing.add_tax_code(%1$L, 'no-rate', 'S', 'S'), billing.add_tax_code(%1$L, 'old', 'S', 'S'), billing.add_tax_rate(%1$L, 'old', 5, '2007-01-01', '2026-01-01'),
	billing.add_customer(%1$L, 'c', 'C', 'Street 1', '1', 'X', 'DE'), billing.add_customer(%1$L, 'with-id', 'C', 'Street 1', '1', 'X', 'AT', 'ATU1'),
	billing.add_customer(%1$L, 'no-address', 'C', country => 'DE'), billing.add_customer(%1$L, 'no-country', 'C', 'Street 1')$q$, entity)) FROM entities;
SELECT pg_temp.must('ada', format('SELECT billing.add_product(%L, t.code, t.code, tax_code => t.code) FROM billing.tax_code t JOIN billing.legal_entity e USING (entity_id) WHERE e.code = %1$L', entity)) FROM entities;

-- Each case is a document of 1 January 2026 with one-time lines 'tax code amount'; expected: its taxes, then net + tax = total, then
-- what validation finds
CREATE TEMP TABLE cases (entity text, name text, customer text, lines text, taxes text, figures text, findings text);
INSERT INTO cases VALUES
	('acme', 'one rate', 'c', 's19 100', 'S 19% of 100.00 = 19.00', '100.00 + 19.00 = 119.00', NULL),
	('acme', 'rounded once', 'c', 's19 0.13, s19 0.13, s19 0.13', 'S 19% of 0.39 = 0.07', '0.39 + 0.07 = 0.46', NULL),
	('acme', 'two codes of one rate are one tax', 'c', 's19 0.13, s19b 0.13', 'S 19% of 0.26 = 0.05', '0.26 + 0.05 = 0.31', NULL),
	('acme', 'mixed', 'c', 's19 10.01, s19 20.02, s7 9.99, z 5, e1 1, e2 2, o 3', 'E 0% of 1.00 = 0.00 reason one, E 0% of 2.00 = 0.00 reason two, O 0% of 3.00 = 0.00 out of scope, S 19% of 30.03 = 5.71, S 7% of 9.99 = 0.70, Z 0% of 5.00 = 0.00', '51.02 + 6.41 = 57.43', NULL),
	('acme', 'with a rebate', 'c', 's19 100, s19 -0.50, s7 -10', 'S 19% of 99.50 = 18.91, S 7% of -10.00 = -0.70', '89.50 + 18.21 = 107.71', NULL),
	('acme', 'a tie', 'c', 's10 0.25', 'S 10% of 0.25 = 0.03', '0.25 + 0.03 = 0.28', NULL),
	('even', 'a tie', 'c', 's10 0.25', 'S 10% of 0.25 = 0.02', '0.25 + 0.02 = 0.27', NULL),
	('even', 'a tie of a line', 'c', 's10 0.125', 'S 10% of 0.12 = 0.01', '0.12 + 0.01 = 0.13', NULL),
	('acme', 'a tie of a line', 'c', 's10 0.125', 'S 10% of 0.13 = 0.01', '0.13 + 0.01 = 0.14', NULL),
	('acme', 'a broken rate', 'c', 's8.25 19.99', 'S 8.25% of 19.99 = 1.65', '19.99 + 1.65 = 21.64', NULL),
	('yen', 'no decimals', 'c', 's10 105, s7 99.5', 'S 10% of 105 = 11, S 7% of 100 = 7', '205 + 18 = 223', NULL),
	('even-yen', 'no decimals', 'c', 's10 105, s7 98.5', 'S 10% of 105 = 10, S 7% of 98 = 7', '203 + 17 = 220', NULL),
	('dinar', 'three decimals', 'c', 's10 1.2345, s7 0.0005', 'S 10% of 1.235 = 0.124, S 7% of 0.001 = 0.000', '1.236 + 0.124 = 1.360', NULL),
	('acme', 'credit', 'c', 's19 -0.50', 'S 19% of -0.50 = -0.10', '-0.50 + -0.10 = -0.60', NULL),
	('acme', 'reverse charge', 'with-id', 'ae 100', 'AE 0% of 100.00 = 0.00 reverse charge', '100.00 + 0.00 = 100.00', NULL),
	('acme', 'reverse charge without a tax id', 'c', 'ae 100', 'AE 0% of 100.00 = 0.00 reverse charge', '100.00 + 0.00 = 100.00', 'missing_customer_data'),
	('acme', 'intra-community supply', 'with-id', 'k 100', 'K 0% of 100.00 = 0.00 intra-community supply', '100.00 + 0.00 = 100.00', NULL),
	('acme', 'intra-community supply without a tax id', 'c', 'k 100', 'K 0% of 100.00 = 0.00 intra-community supply', '100.00 + 0.00 = 100.00', 'missing_customer_data'),
	('acme', 'one line under reverse charge', 'c', 's19 100, ae 1', 'AE 0% of 1.00 = 0.00 reverse charge, S 19% of 100.00 = 19.00', '101.00 + 19.00 = 120.00', 'missing_customer_data'),
	('acme', 'export', 'c', 'g 100', 'G 0% of 100.00 = 0.00 export', '100.00 + 0.00 = 100.00', NULL),
	('acme', 'no rate', 'c', 'no-rate 100', NULL, '100.00 + 0 = 100.00', 'missing_tax_code'),
	('acme', 'no rate any more', 'c', 'old 100', NULL, '100.00 + 0 = 100.00', 'missing_tax_code'),
	('acme', 'one line without a rate', 'c', 's19 100, old 100', 'S 19% of 100.00 = 19.00', '200.00 + 19.00 = 219.00', 'missing_tax_code'),
	('acme', 'no address', 'no-address', 's19 100', 'S 19% of 100.00 = 19.00', '100.00 + 19.00 = 119.00', 'missing_customer_data'),
	('acme', 'no country', 'no-country', 's19 100', 'S 19% of 100.00 = 19.00', '100.00 + 19.00 = 119.00', 'missing_customer_data'),
	('acme', 'everything at once', 'no-country', 'no-rate 0', NULL, '0.00 + 0 = 0.00', 'missing_customer_data, missing_tax_code, not_positive'),
	('acme', 'nothing', 'c', 's19 0', 'S 19% of 0.00 = 0.00', '0.00 + 0.00 = 0.00', 'not_positive'),
	('even', 'nothing', 'c', 's19 0', 'S 19% of 0.00 = 0.00', '0.00 + 0.00 = 0.00', NULL),
	('acme', 'one against the other', 'c', 's19 1, s19 -1', 'S 19% of 0.00 = 0.00', '0.00 + 0.00 = 0.00', 'not_positive'),
	('acme', 'tax alone', 'c', 's19 1, z -1', 'S 19% of 1.00 = 0.19, Z 0% of -1.00 = 0.00', '0.00 + 0.19 = 0.19', NULL),
	('acme', 'purchase order', 'c', 's19 1', 'S 19% of 1.00 = 0.19', '1.00 + 0.19 = 1.19', NULL);
SELECT pg_temp.must('ada', format('SELECT billing.add_account(%L, %L, %L, %L), billing.create_contract(%1$L, %2$L, %2$L, %5$L)', entity, name, customer, currency, '2026-01-01')) FROM cases JOIN entities USING (entity);
SELECT pg_temp.must('ada', format('SELECT billing.add_item(%L, %L, %L, %L, %L, sign(%s::numeric), pg_temp.each(%L))', c.entity, c.name, l.no, split_part(l.line, ' ', 1), 'one_time',
	split_part(l.line, ' ', 2), ltrim(split_part(l.line, ' ', 2), '-')))
FROM cases c, regexp_split_to_table(c.lines, ', ') WITH ORDINALITY AS l (line, no);
SELECT pg_temp.bill(entity, '2026-01-01') FROM entities;
SELECT is((SELECT string_agg(concat_ws(' ', t.category, t.rate || '% of', t.base, '=', t.tax, t.exemption_reason), ', ' ORDER BY t.tax_no) FROM billing.invoice_tax t JOIN billing.invoice_overview o USING (entity_id, invoice_id)
	WHERE o.entity = c.entity AND o.account = c.name), taxes, format('%s, %s: taxes', entity, name)) FROM cases c;
SELECT is((SELECT format('%s + %s = %s', net, tax, total) FROM billing.invoice_overview o WHERE o.entity = c.entity AND o.account = c.name), figures, format('%s, %s: figures', entity, name)) FROM cases c;
SELECT pg_temp.must('ada', format('SELECT billing.validate_invoices(%L)', entity)) FROM entities;
SELECT is((SELECT string_agg(kind, ', ' ORDER BY kind) FROM billing.open_exception x WHERE x.entity = c.entity AND x.subject = c.name), findings, format('%s, %s: findings', entity, name)) FROM cases c;
SELECT is((SELECT state FROM billing.invoice_overview o WHERE o.entity = c.entity AND o.account = c.name), CASE WHEN findings IS NOT NULL THEN 'on_hold' WHEN figures ~ '= 0.00$' THEN 'approved' ELSE 'pending_approval' END, format('%s, %s: state', entity, name)) FROM cases c;
SELECT is((SELECT kind FROM billing.invoice_overview WHERE account = 'credit'), 'credit_note', 'a negative total is a credit note');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- Mended, released and validated again; the tax id is looked at anew
SELECT pg_temp.must('ada', $$UPDATE billing.customer SET tax_id = 'DE1' WHERE code = 'c'$$);
SELECT pg_temp.must('ada', format('SELECT billing.release_invoice(%L, %L)', entity, reference)) FROM billing.invoice_overview WHERE account IN ('reverse charge without a tax id', 'no rate');
SELECT is(pg_temp.must('ada', $$SELECT pending || ' ' || on_hold FROM billing.validate_invoices('acme')$$), '1 1', 'what was mended goes on, what was not is held again');
SELECT is((SELECT count(*) FROM billing.exception WHERE subject = 'no rate' AND kind = 'missing_tax_code'), 2::bigint, 'with a finding of its own');
-- A document of nothing is held once zero invoices are
UPDATE billing.legal_entity SET zero_invoices = 'issue' WHERE code = 'acme';
SELECT pg_temp.must('ada', format('SELECT billing.release_invoice(%L, %L)', entity, reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND account = 'nothing';
SELECT is(pg_temp.must('ada', $$SELECT approved FROM billing.validate_invoices('acme')$$), '1', 'an entity that issues zero invoices lets it pass');

-- The account's tax code goes before that of the product; the rate is that of the day of the charge, also for a correction
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'over', 'c', 'EUR', tax_code => 'z'), billing.create_contract('acme', 'over', 'over', '2026-01-01'), billing.add_item('acme', 'over', 'i', 's19', 'one_time', 1, pg_temp.each('100')),
	billing.add_account('acme', 'rates', 'c', 'EUR'), billing.create_contract('acme', 'rates', 'rates', '2026-02-01'), billing.add_item('acme', 'rates', 'i', 's19', 'recurring', 1, pg_temp.each('100'))$$);
SELECT pg_temp.bill('acme', '2026-03-01');
SELECT is((SELECT tax::numeric FROM billing.invoice_overview WHERE account = 'over'), 0::numeric, 'the account''s tax code counts first');
SELECT is((SELECT array_agg(tax::numeric ORDER BY billing_date) FROM billing.invoice_overview WHERE account = 'rates'), '{19.00,21.00}', '19 % in February, 21 % from March');
SELECT pg_temp.issue('acme');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'rates', 'i', '2026-02-01', 2)$$);
SELECT pg_temp.bill('acme', '2026-03-20');
SELECT results_eq($$SELECT l.kind, l.charge_date, l.amount::numeric, l.tax_rate FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.account = 'rates' AND o.state = 'draft' ORDER BY l.line_no$$,
	$$VALUES ('credit', '2026-02-01'::date, -100.00, 19::numeric), ('charge', '2026-02-01', 200.00, 19), ('credit', '2026-03-01', -100.00, 21), ('charge', '2026-03-01', 200.00, 21)$$,
	'February''s correction of March keeps February''s rate');
SELECT is((SELECT tax::numeric FROM billing.invoice_overview WHERE account = 'rates' AND state = 'draft'), 40.00, '19 + 21');
-- A credit keeps the code that the charge had, whatever the product has now
SELECT pg_temp.must('ada', $$UPDATE billing.product p SET tax_code_id = t.tax_code_id FROM billing.tax_code t WHERE t.entity_id = p.entity_id AND t.code = 's7' AND p.code = 's19'$$);
SELECT pg_temp.issue('acme');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'rates', 'i', '2026-03-01', 1)$$);
SELECT pg_temp.bill('acme', '2026-03-20');
SELECT is((SELECT array_agg(format('%s %s', l.amount, l.tax_rate) ORDER BY l.line_no) FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.account = 'rates' AND o.state = 'draft'),
	'{"-200.00 21","100.00 7"}', 'a credit is taxed as the charge was, a new charge as the product is now');

-- An account that requires a purchase order
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'po', 'c', 'EUR', purchase_order_required => true), billing.create_contract('acme', 'po', 'po', '2026-01-01'), billing.add_item('acme', 'po', 'i', 's7', 'one_time', 1, pg_temp.each('100'))$$);
SELECT pg_temp.bill('acme', '2026-03-20');
SELECT pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
SELECT is((SELECT kind || ' ' || owner_duty FROM billing.open_exception WHERE subject = 'po'), 'missing_purchase_order contract_manager', 'is held without one');
SELECT pg_temp.must('ada', $$UPDATE billing.billing_account SET purchase_order = '4711' WHERE code = 'po'$$);
SELECT pg_temp.must('ada', format('SELECT billing.release_invoice(%L, %L)', 'acme', reference)) FROM billing.invoice_overview WHERE account = 'po';
SELECT pg_temp.issue('acme');
SELECT is((SELECT i.buyer ->> 'purchase_order' FROM billing.invoice i JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.account = 'po'), '4711', 'and bears it when issued');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
