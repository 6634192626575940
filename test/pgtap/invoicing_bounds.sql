-- Safety bounds: what an entity decides about its runs, what is held up by it, and what a person lets go.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(66);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.staff('other'), pg_temp.stock('acme');

-- ---------------------------------------------------------------------------------------------------------------------
-- The policy

CREATE FUNCTION pg_temp.policy(of_entity text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', coalesce(max_amount::text, '-'), coalesce(max_lines::text, '-'), coalesce(max_score::text, '-'), history,
		coalesce(automatic_phase, '-'), to_char(automatic_from, 'HH24:MI'))
	FROM billing.billing_policy JOIN billing.legal_entity e USING (entity_id) WHERE e.code = of_entity;
$$;
SELECT is(pg_temp.policy('acme'), NULL, 'nothing is decided at first');
SELECT is(pg_temp.try('ada', $$SELECT billing.set_billing_policy('acme', 100)$$), 'ZB003', 'a policy is for admins, not for billers');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_billing_policy('acme', 1000.50)$$), '', 'an admin sets a bound');
SELECT is(pg_temp.policy('acme'), '1000.50 - - 12 - 00:00', 'and no other');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', max_lines => 40, max_score => 3.5, history => 6)$$);
SELECT is(pg_temp.policy('acme'), '1000.50 40 3.5 6 - 00:00', 'the next bounds leave the first as it is');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', automatic_phase => 'validate', automatic_from => '06:30')$$);
SELECT is(pg_temp.policy('acme'), '1000.50 40 3.5 6 validate 06:30', 'runs start by themselves at half past six');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', max_lines => 50, remove => '{max_amount,automatic_phase}')$$);
SELECT is(pg_temp.policy('acme'), '- 50 3.5 6 - 06:30', 'what is named is taken back, the rest stays');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme')$$);
SELECT is(pg_temp.policy('acme'), '- 50 3.5 6 - 06:30', 'nothing said, nothing changed');
SELECT is(pg_temp.policy('other'), NULL, 'another entity decides for itself');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_billing_policy('acme', max_score => 3, remove => '{max_score}')$$),
	'ZB001 bound "max_score" cannot be set and removed at once', 'set and taken back at once is no decision');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_billing_policy('acme', remove => '{history}')$$), 'ZB001 bound "history" cannot be removed', 'the history has no end');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_billing_policy('acme', remove => '{NULL}')$$), 'ZB001', 'nor has null');
SELECT is(pg_temp.try('adm', format('SELECT billing.set_billing_policy(''acme'', %s)', arguments)), 'ZB001', arguments || ' is refused')
FROM unnest('{max_amount => -0.01,max_lines => 0,max_score => 0.49,history => 2,history => 101,automatic_phase => ''send'',automatic_from => ''24:00''}'::text[]) arguments;
-- plain DML is for admins too, and is recorded
SELECT is(pg_temp.try('adm', $$UPDATE billing.billing_policy SET max_amount = 7 WHERE entity_id = billing_internal.entity_id('acme')$$), '1', 'an admin may write the row itself');
SELECT results_eq($$SELECT action, before ->> 'max_amount', after ->> 'max_amount' FROM billing.audit_log a JOIN billing.legal_entity e USING (entity_id)
	WHERE e.code = 'acme' AND object_type = 'billing_policy' ORDER BY audit_id DESC LIMIT 1$$, $$VALUES ('update', NULL, '7')$$, 'and the audit log tells');

-- ---------------------------------------------------------------------------------------------------------------------
-- What is held up, and what is not. Tax is 19 % throughout, and documents up to 5000.00 EUR are approved without a person.

SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 1000, 3, history => 6, remove => '{max_score}')$$);
UPDATE billing.legal_entity SET auto_approve_limit = 5000 WHERE code = 'acme';
-- one-time charges of an account, so many of such a price
CREATE FUNCTION pg_temp.charge(account text, unit text, items integer DEFAULT 1, currency text DEFAULT 'EUR', order_required boolean DEFAULT false)
RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT billing.add_account(''acme'', %1$L, ''c1'', %2$L, purchase_order_required => %3$L), billing.create_contract(''acme'', %1$L, %1$L, ''2026-01-01'')',
		account, currency, order_required));
	SELECT pg_temp.must('ada', format('SELECT billing.add_item(''acme'', %1$L, ''i'' || n, ''seat'', ''one_time'', 1, %2$L) FROM generate_series(1, %3$s) n', account, pg_temp.each(unit), items));
$$;
-- account: state, total, and what stands against it now
CREATE FUNCTION pg_temp.stand(of_account text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s%s', o.state, o.total, (SELECT string_agg(', ' || x.kind || ': ' || x.detail, '' ORDER BY x.kind) FROM billing.exception x
		WHERE x.entity_id = o.entity_id AND x.document_id = o.invoice_id AND x.state = 'open'))
	FROM billing.invoice_overview o WHERE o.entity = 'acme' AND o.account = of_account AND o.state <> 'discarded' ORDER BY o.invoice_id;
$$;
-- the latest document of an account
CREATE FUNCTION pg_temp.of(of_account text) RETURNS text LANGUAGE sql AS $$
	SELECT reference FROM billing.invoice_overview WHERE entity = 'acme' AND account = of_account ORDER BY invoice_id DESC LIMIT 1;
$$;
CREATE FUNCTION pg_temp.validated(account text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT format(''%%s approved, %%s pending, %%s on hold'', approved, pending, on_hold) FROM billing.validate_invoices(''acme'', %L)', pg_temp.of(account)));
$$;
CREATE FUNCTION pg_temp.release(account text) RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT billing.release_invoice(''acme'', %L, ''looked at'')', pg_temp.of(account)));
$$;

SELECT pg_temp.charge('small', '100'), pg_temp.charge('big', '1000'), pg_temp.charge('edge', '840.34'), pg_temp.charge('cent', '840.35'), pg_temp.charge('many', '1', 4),
	pg_temp.charge('few', '1', 3), pg_temp.charge('usd', '1000000', currency => 'USD'), pg_temp.charge('both', '2000', order_required => true),
	pg_temp.charge('po', '200', order_required => true);
SELECT pg_temp.bill('acme', '2026-01-01');
SELECT is(pg_temp.validated(), '3 approved, 1 pending, 5 on hold', 'nine documents');
SELECT is(pg_temp.stand(account), expected, account || ': ' || why) FROM (VALUES
	('small', 'approved 119.00', 'within all bounds'),
	('big', 'on_hold 1190.00, amount_bound: the total of 1190.00 EUR is beyond the bound of 1000', 'beyond the amount, though within the limit of approval'),
	('edge', 'approved 1000.00', 'a bound is not beyond itself: 840.34 and 159.66 of tax'),
	('cent', 'on_hold 1000.02, amount_bound: the total of 1000.02 EUR is beyond the bound of 1000', '840.35 and 159.67 of tax are'),
	('many', 'on_hold 4.76, lines_bound: it has 4 lines, beyond the bound of 3', 'too many lines'),
	('few', 'approved 3.57', 'as many as may be'),
	('usd', 'pending_approval 1190000.00', 'another currency is not compared, and waits for an approver as ever'),
	('both', 'on_hold 2380.00, amount_bound: the total of 2380.00 EUR is beyond the bound of 1000, missing_purchase_order: account both requires a purchase order', 'all that is wrong is told at once'),
	('po', 'on_hold 238.00, missing_purchase_order: account po requires a purchase order', 'lacks something')
) v (account, expected, why);

-- A person lets one pass: another one approves it
SELECT pg_temp.release('big'), pg_temp.release('many'), pg_temp.release('both');
SELECT is(pg_temp.validated(), '0 approved, 2 pending, 1 on hold', 'what was released is validated again');
SELECT is(pg_temp.stand('big'), 'pending_approval 1190.00', 'what a person let pass is not held up again, nor approved without a person');
SELECT is(pg_temp.stand('many'), 'pending_approval 4.76', 'nor is the other');
SELECT is(pg_temp.stand('both'), 'on_hold 2380.00, amount_bound: the total of 2380.00 EUR is beyond the bound of 1000, missing_purchase_order: account both requires a purchase order, missing_purchase_order: account both requires a purchase order',
	'what it lacks it still lacks, and the bound is not raised anew');
SELECT pg_temp.must('ada', $$UPDATE billing.billing_account SET purchase_order = 'PO-1' WHERE code IN ('both', 'po') AND entity_id = billing_internal.entity_id('acme')$$);
SELECT pg_temp.release('both');
SELECT is(pg_temp.validated('both'), '0 approved, 1 pending, 0 on hold', 'when it lacks nothing any more, it goes to an approver');
SELECT is(pg_temp.stand('both'), 'pending_approval 2380.00', 'and nothing stands against it');
SELECT is((SELECT string_agg(DISTINCT x.resolution, ',') FROM billing.exception x WHERE x.document_id = substr(pg_temp.of('both'), 2)::bigint), 'validated', 'the bound is resolved with the rest');

-- Released from something else, a document meets the bounds that are set by then
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 200)$$);
SELECT pg_temp.must('ada', $$UPDATE billing.billing_account SET purchase_order = NULL WHERE code = 'po' AND entity_id = billing_internal.entity_id('acme')$$);
SELECT pg_temp.release('po');
SELECT is(pg_temp.validated('po'), '0 approved, 0 pending, 1 on hold', 'a bound that nobody has looked at yet holds it');
SELECT is(pg_temp.stand('po'), 'on_hold 238.00, amount_bound: the total of 238.00 EUR is beyond the bound of 200, missing_purchase_order: account po requires a purchase order, missing_purchase_order: account po requires a purchase order',
	'beside what it lacks');
SELECT pg_temp.must('ada', $$UPDATE billing.billing_account SET purchase_order = 'PO-1' WHERE code = 'po' AND entity_id = billing_internal.entity_id('acme')$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 100, 1)$$);
SELECT pg_temp.release('po');
SELECT is(pg_temp.validated('po'), '0 approved, 1 pending, 0 on hold', 'once a person has looked, a tighter bound does not hold it either');
-- Made anew, a document is another one
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 1000, 3)$$);
SELECT pg_temp.must('bob', format('SELECT billing.reject_invoice(''acme'', %L, ''wrong'')', pg_temp.of('big')));
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(''acme'', %L)', pg_temp.of('big')));
SELECT pg_temp.bill('acme', '2026-01-01');
SELECT is(pg_temp.validated('big'), '0 approved, 0 pending, 1 on hold', 'what is discarded and billed again is looked at again');
SELECT is(pg_temp.try('ada', format('SELECT billing.issue_invoice(''acme'', %L)', pg_temp.of('big'))), 'ZB007', 'what is on hold is not issued');
SELECT is(pg_temp.try('bob', format('SELECT billing.release_invoice(''acme'', %L)', pg_temp.of('big'))), 'ZB003', 'an approver does not release');

-- A credit is bounded by its size
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '3', 'what was approved goes out');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 999.99)$$);
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'edge', '2026-01-01'), billing.end_contract('acme', 'small', '2026-01-01')$$);
SELECT pg_temp.bill('acme', '2026-01-31');
SELECT is(pg_temp.validated(), '1 approved, 0 pending, 1 on hold', 'two credit notes');
SELECT results_eq($$SELECT pg_temp.stand('edge')$$, $$VALUES ('issued 1000.00'), ('on_hold -1000.00, amount_bound: the total of -1000.00 EUR is beyond the bound of 999.99')$$, 'the large one is held');
SELECT results_eq($$SELECT pg_temp.stand('small')$$, $$VALUES ('issued 119.00'), ('approved -119.00')$$, 'the small one is not');

-- ---------------------------------------------------------------------------------------------------------------------
-- The account's own history: 10 a month and 1.90 of tax

SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', history => 6, remove => '{max_amount,max_lines}')$$);
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'hist', 'c1', 'EUR'), billing.create_contract('acme', 'hist', 'hist', '2025-01-01'),
	billing.add_item('acme', 'hist', 'seats', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "1"}')$$);
CREATE FUNCTION pg_temp.next(through date) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.bill('acme', through);
	SELECT pg_temp.validated('hist');
$$;
SELECT is(pg_temp.next('2025-01-01'), '1 approved, 0 pending, 0 on hold', 'the first month');
SELECT is(pg_temp.next('2025-02-01'), '1 approved, 0 pending, 0 on hold', 'the second');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '3', 'two invoices, and the credit of before');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'hist', 'seats', '2025-03-01', 100)$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', max_score => 3.5)$$);
SELECT is(pg_temp.next('2025-03-01'), '1 approved, 0 pending, 0 on hold', 'ten times as much after two invoices: no history yet');
SELECT pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$);
-- 11.90 11.90 119.00, and then 119.00 again: median 11.90, MAD 0, usual deviation 0.119: 107.10 ÷ 0.119 = 900
SELECT is(pg_temp.next('2025-04-01'), '0 approved, 0 pending, 1 on hold', 'the same after three');
SELECT results_eq($$SELECT s FROM pg_temp.stand('hist') s WHERE s NOT LIKE 'issued%'$$,
	$$VALUES ('on_hold 119.00, amount_anomaly: the total of 119.00 EUR is 900 times the usual deviation of 0.12 above the median 11.90 of the last 3 invoices')$$, 'with the reason in words');
SELECT pg_temp.release('hist');
SELECT is(pg_temp.validated('hist'), '0 approved, 1 pending, 0 on hold', 'released, an approver has the word');
SELECT is(pg_temp.next('2025-05-01'), '0 approved, 0 pending, 1 on hold', 'what waits is no history');
SELECT pg_temp.release('hist'), pg_temp.validated('hist');
SELECT pg_temp.must('bob', $$SELECT count(billing.approve_invoice('acme', reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND account = 'hist' AND state = 'pending_approval'$$);
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '2', 'both go out');
-- 11.90 11.90 119.00 119.00 119.00: median 119.00
SELECT is(pg_temp.next('2025-06-01'), '1 approved, 0 pending, 0 on hold', 'what is usual by now passes');
SELECT pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$);
-- the last three all are 119.00, and 130.90 is 11.90 ÷ 1.19 = 10 from them
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'hist', 'seats', '2025-07-01', 110)$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', history => 3)$$);
SELECT is(pg_temp.next('2025-07-01'), '0 approved, 0 pending, 1 on hold', 'ten per cent more than always is odd');
SELECT results_eq($$SELECT s FROM pg_temp.stand('hist') s WHERE s NOT LIKE 'issued%'$$,
	$$VALUES ('on_hold 130.90, amount_anomaly: the total of 130.90 EUR is 10 times the usual deviation of 1.19 above the median 119.00 of the last 3 invoices')$$, 'by the last three invoices');
-- far less is odd as well, 113.05 ÷ 1.19 = 95
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(''acme'', %L)', pg_temp.of('hist')));
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'hist', 'seats', '2025-07-01', 5)$$);
SELECT is(pg_temp.next('2025-07-01'), '0 approved, 0 pending, 1 on hold', 'far less than always too');
SELECT results_eq($$SELECT s FROM pg_temp.stand('hist') s WHERE s NOT LIKE 'issued%'$$,
	$$VALUES ('on_hold 5.95, amount_anomaly: the total of 5.95 EUR is 95 times the usual deviation of 1.19 below the median 119.00 of the last 3 invoices')$$, 'with the reason in words again');

-- The history is looked up where a score is bounded, by its index, and nowhere else
CREATE FUNCTION pg_temp.history_plan() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
	entity_id integer := billing_internal.entity_id('acme');
	account_id bigint := billing_internal.account_id('acme', 'hist');
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT t.* FROM billing_internal.invoice_terms(%s, ''{%s}'') t', entity_id, account_id) LOOP
		plan := plan || line || E'\n';
	END LOOP;
	RETURN plan;
END $$;
SET LOCAL enable_seqscan = off;
SELECT matches(pg_temp.history_plan(), 'using invoice_by_account on invoice i \(actual', 'a few invoices are read by the index, for a history of three');
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', remove => '{max_score}')$$);
SELECT matches(pg_temp.history_plan(), 'on invoice i \(never executed\)', 'and none without a bound');
RESET enable_seqscan;
SELECT is(pg_temp.validated(), '0 approved, 0 pending, 0 on hold', 'nothing is left');
SELECT is_empty($$SELECT pg_temp.broken()$$, 'the books balance');

SELECT * FROM finish();
ROLLBACK;
