-- Credit notes by hand: how much, of which line, with which tax, who, in which state, and what the next billing run makes of it.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(97);

SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- Three lines, two tax rates. In January:
--   1  books   3 × 33.35 =  100.05   7 %
--   2  seats  10 ×  5.00 =   50.00  19 %
--   3  help    7 ×  1.43 =   10.01  19 %
-- net 160.06; tax 7 % of 100.05 = 7.0035, 7.00; 19 % of 60.01 = 11.4019, 11.40; total 178.46
SELECT pg_temp.must('ada', $$SELECT billing.add_tax_code('acme', 'low', 'S', 'Reduced'), billing.add_tax_rate('acme', 'low', 7, '2007-01-01'),
	billing.add_product('acme', 'book', 'Book', tax_code => 'low'), billing.add_product('acme', 'help', 'Help', tax_code => 'std'),
	billing.create_contract('acme', 'k', 'a1', '2026-01-01'),
	billing.add_item('acme', 'k', 'books', 'book', 'recurring', 3, pg_temp.each('33.35')),
	billing.add_item('acme', 'k', 'seats', 'seat', 'recurring', 10, pg_temp.each('5')),
	billing.add_item('acme', 'k', 'help', 'help', 'recurring', 7, pg_temp.each('1.43'))$$);
SELECT pg_temp.bill('acme', '2026-01-05');
CREATE FUNCTION pg_temp.first() RETURNS text LANGUAGE sql STABLE AS $$ SELECT reference FROM billing.invoice_overview WHERE entity = 'acme' AND kind = 'invoice' ORDER BY invoice_id LIMIT 1 $$;
CREATE FUNCTION pg_temp.last(of_kind text DEFAULT 'credit_note') RETURNS text LANGUAGE sql STABLE AS $$ SELECT reference FROM billing.invoice_overview WHERE entity = 'acme' AND kind = of_kind ORDER BY invoice_id DESC LIMIT 1 $$;
-- what a credit gives: amounts of the new document, or the error
CREATE FUNCTION pg_temp.credit(lines text, reason text DEFAULT 'goodwill', invoice text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := pg_temp.told('ada', format('SELECT billing.credit_invoice(''acme'', %L, %L, %L)', coalesce(invoice, pg_temp.first()), reason, lines));
BEGIN
	IF answer !~ '^D[0-9]+$' THEN
		RETURN left(answer, 5);
	END IF;
	RETURN (SELECT format('%s + %s = %s', net, tax, total) FROM billing.invoice_overview WHERE entity = 'acme' AND reference = answer);
END $$;
CREATE FUNCTION pg_temp.state_of(reference text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT state FROM billing.invoice_overview o WHERE entity = 'acme' AND o.reference = state_of.reference $$;
CREATE FUNCTION pg_temp.left_of(invoice text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('rea', format('SELECT string_agg(format(''%%s: %%s of %%s'', line_no, left_amount, trim_scale(left_quantity)), '', '' ORDER BY line_no) FROM billing.credit_status(''acme'', %L)', invoice));
$$;

SELECT is(pg_temp.credit(NULL), 'ZB007', 'a draft is not credited');
SELECT pg_temp.issue('acme');
SELECT is((SELECT format('%s + %s = %s', net, tax, total) FROM billing.invoice_overview), '160.06 + 18.40 = 178.46', 'the invoice is what was worked out by hand');
SELECT is(pg_temp.left_of(pg_temp.first()), '1: 100.05 of 3, 2: 50.00 of 10, 3: 10.01 of 7', 'all of it is left');

-- Who may, and for what ------------------------------------------------------------------------------------------------

SELECT is(pg_temp.try('bob', format($$SELECT billing.credit_invoice('acme', %L, 'goodwill')$$, pg_temp.first())), 'ZB003', 'an approver credits nothing');
SELECT is(pg_temp.try('ada', format($$SELECT billing.credit_invoice('acme', %L, 'because')$$, pg_temp.first())), 'ZB002', 'a reason is one of a list');
SELECT is(pg_temp.try('ada', $$SELECT billing.credit_invoice('acme', 'D0', 'goodwill')$$), 'ZB002', 'an invoice is one that is there');
SELECT is(pg_temp.credit(NULL, 'pricing_error'), 'ZB001', 'what was billed wrongly is charged anew, not given away');
SELECT is(pg_temp.try('ada', format($$SELECT billing.credit_and_rebill('acme', %L, 'goodwill')$$, pg_temp.first())), 'ZB001', 'and what is given away is not charged anew');
SELECT is(pg_temp.try('ada', format($$SELECT billing.void_invoice('acme', %L, 'goodwill')$$, pg_temp.first())), 'ZB001', 'nor is that a reason to void');

SELECT is(pg_temp.credit(lines), 'ZB001', 'a list of lines is refused: ' || lines)
FROM unnest(ARRAY['{}', '[]', '7', '[7]', '[{}]', '[{"line": 0}]', '[{"line": "x"}]', '[{"line": 1.5}]', '[{"line": 1, "price": 1}]', '[{"line": 1, "amount": "x"}]', '[{"line": 1, "amount": -1}]',
	'[{"line": 1, "amount": "NaN"}]', '[{"line": 1, "amount": 1e30}]', '[{"line": 1, "quantity": null}]', '[{"line": 1, "amount": 1, "quantity": 1}]', '[{"line": 1}, {"line": 1}]']) lines;
SELECT is(pg_temp.credit(lines), 'ZB013', 'more than there is, or nothing, is refused: ' || lines)
FROM unnest(ARRAY['[{"line": 4}]', '[{"line": 1, "amount": "100.06"}]', '[{"line": 1, "quantity": "3.01"}]', '[{"line": 1, "amount": 0}]', '[{"line": 1, "quantity": 0}]',
	'[{"line": 1, "amount": "1.001"}]', '[{"line": 1}, {"line": 2, "amount": "50.01"}]', '[{"line": 1, "quantity": "0.0001"}]']) lines;
SELECT is((SELECT count(*) FROM billing.document), 1::bigint, 'and leaves nothing behind');

-- Thirds: books, one by one --------------------------------------------------------------------------------------------
-- 33.35 each: 7 % of 33.35 = 2.3345, 2.33; of 66.70 = 4.669, 4.67, so 2.34 for the second; and 7.00 in all, so 2.33 for the third

SELECT is(pg_temp.credit('[{"line": 1, "quantity": 1}]', 'returned'), '-33.35 + -2.33 = -35.68', 'the first of three');
SELECT is(pg_temp.credit('[{"line": 1, "quantity": "1"}]', 'returned'), '-33.35 + -2.34 = -35.69', 'the second, with what rounding left');
SELECT is(pg_temp.left_of(pg_temp.first()), '1: 33.35 of 1, 2: 50.00 of 10, 3: 10.01 of 7', 'drafts count');
SELECT is(pg_temp.credit('[{"line": 1, "quantity": 2}]', 'returned'), 'ZB013', 'two more are not there');
SELECT is(pg_temp.credit('[{"line": 1, "amount": 33.36}]', 'returned'), 'ZB013', 'nor a cent more than one');

-- Help: 2 of 7 are 10.01 × 2/7 = 2.86; 10.01 × 3/7 = 4.29, so 1.43 for another; 3.00 as an amount; then 10.01 − 2.86 − 1.43 − 3.00 = 2.72 are left.
-- 19 %: 2.86 → 0.5434, 0.54; 4.29 → 0.8151, 0.82 − 0.54 = 0.28; 7.29 → 1.3851, 1.39 − 0.82 = 0.57
SELECT is(pg_temp.credit('[{"line": 3, "quantity": 2}]'), '-2.86 + -0.54 = -3.40', 'two of seven');
SELECT is(pg_temp.credit('[{"line": 3, "quantity": 1}]'), '-1.43 + -0.28 = -1.71', 'another');
SELECT is(pg_temp.credit('[{"line": 3, "amount": "3.00"}]'), '-3.00 + -0.57 = -3.57', 'an amount');
SELECT is(pg_temp.credit('[{"line": 3, "quantity": 4}]'), '-2.72 + -0.51 = -3.23', 'and the rest of the quantity takes the rest of the amount: 10.01 × 19 % = 1.9019, 1.90 − 1.39 = 0.51');
SELECT is(pg_temp.credit('[{"line": 3}]'), 'ZB013', 'then nothing is left of the line');
-- A draft that is dropped gives back what it took
SELECT pg_temp.must('ada', format($$SELECT billing.discard_invoice('acme', %L, 'a slip')$$, pg_temp.last()));
SELECT is(pg_temp.left_of(pg_temp.first()), '1: 33.35 of 1, 2: 50.00 of 10, 3: 2.72 of 4', 'what a dropped draft took is left again');

-- The rest: 33.35 at 7 %: 7.00 − 4.67 = 2.33; 50.00 + 2.72 at 19 %: 11.40 − 1.39 = 10.01
SELECT is(pg_temp.credit(NULL, 'cancelled'), '-86.07 + -12.34 = -98.41', 'all that is left');
SELECT is(pg_temp.credit(NULL), 'ZB013', 'then nothing is');
SELECT is((SELECT format('%s + %s = %s', sum(net), sum(tax), sum(total)) FROM billing.invoice_overview WHERE state <> 'discarded'), '0.00 + 0.00 = 0.00',
	'together the credit notes are the invoice, to the cent, tax and all');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');

-- Their life -----------------------------------------------------------------------------------------------------------

SELECT is((SELECT string_agg(DISTINCT kind || ' ' || state || ' ' || maker, ', ') FROM billing.invoice_overview WHERE kind = 'credit_note' AND state <> 'discarded'), 'credit_note draft ada',
	'a credit note begins as a draft');
UPDATE billing.legal_entity SET auto_approve_limit = 1000;
SELECT is(pg_temp.must('ada', format($$SELECT pending FROM billing.validate_invoices('acme', %L)$$, pg_temp.last())), '1', 'is validated, and waits for a person, however small');
SELECT is((SELECT duty || ' ' || guard FROM billing.transition WHERE kind = 'credit_note' AND action = 'approve'), 'approver independent', 'and its maker is not who approves it');
SELECT is(pg_temp.try('ada', format($$SELECT billing.approve_invoice('acme', %L)$$, pg_temp.last())), 'ZB003', 'is not approved by who has no duty for it');
SELECT pg_temp.must('bob', format($$SELECT billing.approve_invoice('acme', %L)$$, pg_temp.last()));
SELECT is(pg_temp.state_of(pg_temp.first()), 'issued', 'the invoice stays as it is');
SELECT matches(pg_temp.must('ada', format($$SELECT billing.issue_invoice('acme', %L)$$, pg_temp.last())), '^CN-[0-9]+-000001$', 'until it is issued, in a series of its own');
SELECT is((SELECT s.action FROM billing.document_step s JOIN billing.document d USING (entity_id, document_id) WHERE d.kind = 'invoice' ORDER BY s.version DESC LIMIT 1), 'credit_partly',
	'then the invoice is credited in part: other credit notes are drafts');
SELECT is(pg_temp.issue('acme'), '5', 'all are issued');
SELECT is(pg_temp.state_of(pg_temp.first()), 'credited', 'then it is credited');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT version) FROM billing.outbox WHERE type IN ('invoice.credited', 'invoice.partly_credited')), '2 2', 'and others are told');
SELECT is((SELECT payload - 'number' - 'due_date' - 'issue_date' - 'billing_date' FROM billing_internal.invoice_messages((SELECT entity_id FROM billing.legal_entity WHERE code = 'acme'),
	(SELECT array_agg(invoice_id) FROM billing.invoice_overview WHERE reference = pg_temp.last()))), format('{"account": "a1", "customer": "c1", "currency": "EUR", "net": -86.07, "tax": -12.34, "total": -98.41,
	"credits": %s, "reason_code": "cancelled", "void": false, "rebill": false}', (SELECT to_json(number) FROM billing.invoice WHERE reference = pg_temp.first()))::jsonb, 'with what it is about');
SELECT is(pg_temp.credit(NULL), 'ZB007', 'and cannot be credited any more');
SELECT is(pg_temp.credit(NULL, 'goodwill', pg_temp.last()), 'ZB007', 'nor can a credit note');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');
SELECT matches(pg_temp.must('rea', format($$SELECT explanation FROM billing.explain_invoice('acme', %L) WHERE step = 'adjustment' AND line_no = 1$$, pg_temp.last())),
	'^takes back 33.35 of the 100.05 of line 1 of INV-[0-9]+-000001: cancelled$', 'what was credited is explained');

-- The next runs --------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.must('ada', $$SELECT count(*) FROM billing.preview_invoice('acme', 'a1', '2026-01-31')$$), '0', 'what was given away is not billed again');
SELECT pg_temp.bill('acme', '2026-01-31');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE kind = 'invoice'), 1::bigint, 'nor by a run');
SELECT is((SELECT count(*) FROM pg_temp.must('ada', $$SELECT count(*) FROM billing.dry_run('acme', '2026-01-31')$$) c WHERE c = '0'), 1::bigint, 'a dry run knows');

-- February, charged anew: the price of the seats was 4 all along, not 5
SELECT pg_temp.bill('acme', '2026-02-05');
SELECT pg_temp.issue('acme');
SELECT matches(pg_temp.told('ada', format($$SELECT billing.credit_and_rebill('acme', %L, 'wrong_details', 'the address was that of 2024')$$, pg_temp.last('invoice'))), '^D[0-9]+$', 'February is credited');
SELECT is((SELECT format('%s + %s = %s', net, tax, total) FROM billing.invoice_overview WHERE reference = pg_temp.last()), '-160.06 + -18.40 = -178.46', 'all of it');
SELECT is(pg_temp.must('ada', $$SELECT format('%s %s', count(*), sum(amount)) FROM billing.preview_invoice('acme', 'a1', '2026-02-05')$$), '3 160.06', 'and would be charged anew');
SELECT pg_temp.bill('acme', '2026-02-05');
SELECT is((SELECT format('%s %s', state, total) FROM billing.invoice_overview WHERE reference = pg_temp.last('invoice')), 'draft 178.46', 'the next run does');
SELECT is(pg_temp.try('ada', format($$SELECT billing.discard_invoice('acme', %L)$$, pg_temp.last())), 'ZB013', 'then the credit note cannot be dropped');
SELECT is(pg_temp.issue('acme'), '2', 'both are issued');
SELECT is((SELECT string_agg(state, ' ' ORDER BY invoice_id) FROM billing.invoice_overview WHERE kind = 'invoice'), 'credited credited issued', 'of February there is one invoice that counts');
SELECT pg_temp.bill('acme', '2026-02-05');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE state = 'draft'), 0::bigint, 'and none is made again');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');

-- A concession stands when the charge is replaced: 10 of the seats' 50.00, then 8 seats from the first of February on.
-- Credit 50.00, charge 40.00; of the new charge 30.00 are left.
SELECT is(pg_temp.credit('[{"line": 2, "amount": 10}]', 'service_failure', pg_temp.last('invoice')), '-10.00 + -1.90 = -11.90', 'ten of the seats'' fifty');
SELECT is(pg_temp.try('ada', format($$SELECT billing.credit_and_rebill('acme', %L, 'wrong_details')$$, pg_temp.last('invoice'))), 'ZB013', 'what a person took something of is not charged anew as a whole');
SELECT pg_temp.issue('acme');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k', 'seats', '2026-02-01', quantity => 8, reason => 'two too many')$$);
SELECT pg_temp.bill('acme', '2026-02-05');
SELECT results_eq($$SELECT l.kind, sum(l.amount) FROM billing.invoice_line l JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.state = 'draft' GROUP BY l.kind ORDER BY l.kind$$,
	$$VALUES ('charge', 40.00::numeric), ('credit', -50.00)$$, 'the run credits what it charged');
SELECT pg_temp.issue('acme');
SELECT pg_temp.bill('acme', '2026-03-05');
SELECT is(pg_temp.must('ada', $$SELECT count(*) FROM billing.run_report('acme', (SELECT max(run_id) FROM billing.billing_run)) WHERE section = 'entitled' AND difference <> 0$$), '0', 'a report finds billed what is entitled');
SELECT pg_temp.issue('acme');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');

-- March again: of the seats' 8 × 5.00 = 40.00 another 35.00 are given away, then only 6 were there: 30.00 is charged, 35.00 was taken back
SELECT is(pg_temp.credit('[{"line": 2, "amount": 35}]', 'service_failure', pg_temp.last('invoice')), '-35.00 + -6.65 = -41.65', 'thirty-five of forty');
SELECT is(pg_temp.credit('[{"line": 2, "amount": 6}]', 'service_failure', pg_temp.last('invoice')), 'ZB013', 'of which five are left');
SELECT pg_temp.issue('acme');
SELECT billing_internal.watch_credits();
SELECT is((SELECT count(*) FROM billing.open_exception), 0::bigint, 'nothing is odd about that');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k', 'seats', '2026-03-01', quantity => 6, reason => 'four too many')$$);
SELECT pg_temp.bill('acme', '2026-03-05');
SELECT billing_internal.watch_credits();
SELECT is((SELECT kind || ': ' || regexp_replace(detail, '^item \d+', 'item') FROM billing.open_exception), 'credited_twice: item, 2026-03-01 to 2026-03-31: people took back 35.00, and 30.00 is charged',
	'what was given away and then not entitled is told');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');
SELECT pg_temp.must('ada', format($$SELECT billing.discard_invoice('acme', %L)$$, pg_temp.last()));
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k', 'seats', '2026-03-01', quantity => 8, reason => 'two too few')$$);
SELECT pg_temp.bill('acme', '2026-03-05');
SELECT billing_internal.watch_credits();
SELECT is((SELECT count(*) FROM billing.open_exception), 0::bigint, 'until it is mended');

-- Voiding --------------------------------------------------------------------------------------------------------------

-- March: 100.05 + 40.00 + 10.01 = 150.06; tax 7.00 and 19 % of 50.01 = 9.5019, 9.50; less 35.00 and 6.65: 115.06 + 9.85 = 124.91
SELECT matches(pg_temp.told('ada', format($$SELECT billing.void_invoice('acme', %L, note => 'never sent')$$, pg_temp.last('invoice'))), '^D[0-9]+$', 'March is voided');
SELECT is((SELECT format('%s + %s = %s', net, tax, total) FROM billing.invoice_overview WHERE reference = pg_temp.last()), '-115.06 + -9.85 = -124.91', 'by a credit note for all that is left');
SELECT is(pg_temp.told('ada', format($$SELECT left(billing.void_invoice('acme', %L), 1)$$, pg_temp.last('invoice'))) ~ '^ZB013', true, 'once');
SELECT pg_temp.issue('acme');
SELECT is(pg_temp.state_of(pg_temp.last('invoice')), 'credited', 'it keeps its number, and is credited');
SELECT is((SELECT n.reason_code || ', ' || n.is_void || ', ' || n.note FROM billing.credit_note n JOIN billing.invoice i USING (entity_id, invoice_id) WHERE i.reference = pg_temp.last()), 'void, true, never sent', 'the reason is kept');
SELECT pg_temp.bill('acme', '2026-03-05');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE state = 'draft'), 0::bigint, 'and not billed again');
SELECT pg_temp.bill('acme', '2026-04-05');
SELECT is(pg_temp.told('ada', format($$SELECT billing.void_invoice('acme', %L, 'duplicate', 'see Q2')$$, pg_temp.last('invoice'))), NULL, 'what was not issued');
SELECT is((SELECT s.reason FROM billing.document_step s JOIN billing.document d USING (entity_id, document_id) WHERE d.state = 'discarded' AND s.action = 'discard' ORDER BY s.document_id DESC LIMIT 1),
	'duplicate: see Q2', 'is discarded for the reason');
SELECT is(pg_temp.try('ada', format($$SELECT billing.void_invoice('acme', %L)$$, pg_temp.last('invoice'))), 'ZB007', 'once');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');
SELECT * FROM finish();
ROLLBACK;
