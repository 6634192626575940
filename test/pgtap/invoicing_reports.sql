-- What a run would do, what it did, and how far it is. Tax is 19 %; figures worked out by hand.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(53);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('other');
UPDATE billing.legal_entity SET auto_approve_limit = 500 WHERE code = 'acme';

-- a1: 10 seats at 5.00 in advance, and calls; a2: 3 seats at 100.00; po: one seat, without its purchase order; usd: 7 seats at 2.00 USD;
-- bare: an item without a price beside one seat at 1.00
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'List', 'EUR'),
	billing.add_account('acme', 'a2', 'c1', 'EUR'), billing.add_account('acme', 'po', 'c1', 'EUR', purchase_order_required => true),
	billing.add_account('acme', 'usd', 'c1', 'USD'), billing.add_account('acme', 'bare', 'c1', 'EUR'), billing.add_account('acme', 'idle', 'c1', 'EUR')$$);
SELECT pg_temp.must('ada', format($q$SELECT billing.create_contract('acme', %1$L, %1$L, '2026-01-01'), billing.add_item('acme', %1$L, 'seats', 'seat', 'recurring', %2$s, %3$L)$q$, account, seats, pg_temp.each(unit)))
FROM (VALUES ('a1', 10, '5'), ('a2', 3, '100'), ('po', 1, '5'), ('usd', 7, '2'), ('bare', 1, '1')) v (account, seats, unit);
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'bare', 'extra', 'seat', 'recurring', 1, price_book => 'list'),
	billing.add_item('acme', 'a1', 'calls', 'seat', 'usage', tariff => '{"model": "graduated", "tiers": [{"up_to": 10, "unit": "0.10"}, {"up_to": null, "unit": "0.05"}]}', meter => 'calls')$$);
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id":"1","source":"s","type":"calls","subject":"a1","time":"2026-01-05T10:00:00Z","data":{"quantity":30}},
	{"id":"2","source":"s","type":"calls","subject":"a1","time":"2026-01-06T10:00:00Z","data":{"quantity":2, "expected_amount": "0.30"}}]')$$);

-- ---------------------------------------------------------------------------------------------------------------------
-- The dry run

CREATE FUNCTION pg_temp.sums(through date) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s: %s + %s = %s', documents, kind, lines, currency, net, tax, total) FROM billing.dry_run('acme', through) WHERE what = 'documents';
$$;
CREATE FUNCTION pg_temp.warnings(through date) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s, %s: %s', kind, subject, detail) FROM billing.dry_run('acme', through) WHERE what = 'exception';
$$;
CREATE TEMP TABLE counted AS SELECT (SELECT count(*) FROM billing.document) AS documents, (SELECT count(*) FROM billing.exception) AS exceptions,
	(SELECT count(*) FROM billing.audit_log) AS records, (SELECT last_value FROM billing.document_document_id_seq) AS last_id;
-- 50.00 300.00 5.00 1.00, and 9.50 57.00 0.95 0.19 of tax
SELECT results_eq($$SELECT pg_temp.sums('2026-01-01')$$, $$VALUES ('4 invoice 4 EUR: 356.00 + 67.64 = 423.64'), ('1 invoice 1 USD: 14.00 + 2.66 = 16.66')$$, 'the first day of all contracts');
SELECT results_eq($$SELECT pg_temp.warnings('2026-01-01')$$, $$VALUES
	('missing_price, bare: it is incomplete: item extra of contract bare has no price on 2026-01-01'),
	('missing_price, bare: item extra of contract bare has no price on 2026-01-01'),
	('missing_purchase_order, po: account po requires a purchase order')$$, 'what could not be billed, and what would be on hold');
-- February too, and on 1 February the calls of January: 10 × 0.10 + 22 × 0.05 = 2.10; of the two calls alone 0.20
SELECT results_eq($$SELECT pg_temp.sums('2026-02-01')$$, $$VALUES ('8 invoice 9 EUR: 714.10 + 135.68 = 849.78'), ('2 invoice 2 USD: 28.00 + 5.32 = 33.32')$$,
	'two months: 712.00 and 2.10; tax 2 × 67.64 and, of 52.10 instead of 50.00, 9.90 instead of 9.50');
SELECT results_eq($$SELECT w FROM pg_temp.warnings('2026-02-01') w WHERE w LIKE 'pricing%'$$,
	$$VALUES ('pricing_discrepancy, a1: event 2 of s: its source expects 0.30, the price gives 0.2')$$, 'what a source expects is compared');
SELECT is((SELECT count(*) FROM pg_temp.warnings('2026-02-01')), 7::bigint, 'three a month, and that one');
SELECT is_empty($$SELECT pg_temp.sums('2025-12-31')$$, 'nothing falls due before');
SELECT is_empty($$SELECT * FROM billing.dry_run('other', '2026-02-01')$$, 'nothing is to be billed elsewhere');
SELECT results_eq($$SELECT (SELECT count(*) FROM billing.document), (SELECT count(*) FROM billing.exception), (SELECT count(*) FROM billing.audit_log),
	(SELECT last_value FROM billing.document_document_id_seq)$$, $$SELECT * FROM counted$$, 'nothing was written, and no id used up');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.dry_run('acme', '2026-01-01') WHERE what = 'documents'$$), '2', 'a reader may ask');
SELECT is(pg_temp.try('nob', $$SELECT count(*) FROM billing.dry_run('acme', '2026-01-01')$$), 'ZB002', 'who sees nothing of the entity may not');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.dry_run('acme', NULL)$$), 'ZB001', 'a day must be said');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.dry_run('acme', 'infinity')$$), 'ZB001', 'and be a day');
-- bounds are told as well
SELECT pg_temp.must('adm', $$SELECT billing.set_billing_policy('acme', 300)$$);
SELECT results_eq($$SELECT w FROM pg_temp.warnings('2026-01-01') w WHERE w LIKE 'amount%'$$, $$VALUES ('amount_bound, a2: the total of 357.00 EUR is beyond the bound of 300')$$, 'and what would be beyond a bound');

-- A run does what the dry run said
CREATE TEMP TABLE said AS SELECT * FROM billing.dry_run('acme', '2026-01-01');
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-01-01', '{"phase": "validate"}')$$);
SELECT results_eq($$SELECT kind, currency, documents, net, tax, total FROM said WHERE what = 'documents' ORDER BY 1, 2$$,
	$$SELECT o.kind, o.currency, count(*), sum(o.net), sum(o.tax), sum(o.total) FROM billing.invoice_overview o WHERE o.entity = 'acme' GROUP BY 1, 2 ORDER BY 1, 2$$, 'the documents are those that were said');
SELECT results_eq($$SELECT kind, subject, detail FROM said WHERE what = 'exception' ORDER BY 1, 2, 3$$,
	$$SELECT x.kind, x.subject, x.detail FROM billing.exception x WHERE x.entity_id = billing_internal.entity_id('acme') ORDER BY 1, 2, 3$$, 'and so are the exceptions');
SELECT is_empty($$SELECT pg_temp.sums('2026-01-01')$$, 'then nothing is left');
SELECT results_eq($$SELECT pg_temp.warnings('2026-01-01')$$, $$VALUES ('missing_price, bare: item extra of contract bare has no price on 2026-01-01')$$, 'but what has no price still');
-- A credit: a2 has 1 seat instead of 3 from the first day
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'a2', 'seats', '2026-01-01', 1)$$);
SELECT results_eq($$SELECT pg_temp.sums('2026-01-01')$$, $$VALUES ('1 credit_note 2 EUR: -200.00 + -38.00 = -238.00')$$, 'a credit and a new charge');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'a2', 'seats', '2026-01-01', 3)$$);
SELECT is_empty($$SELECT pg_temp.sums('2026-01-01')$$, 'undone');

-- ---------------------------------------------------------------------------------------------------------------------
-- The report

CREATE FUNCTION pg_temp.report(run bigint, of_section text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s%s: %s%s%s, %s', item, ' ' || currency, coalesce(documents || ' documents ', ''), coalesce(lines || ' lines ', ''),
		concat_ws(' ', amount, 'before ' || before, 'difference ' || difference), explanation)
	FROM billing.run_report('acme', run) WHERE section = of_section;
$$;
CREATE FUNCTION pg_temp.run(n integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT run_id FROM billing.billing_run WHERE entity_id = billing_internal.entity_id('acme') ORDER BY run_id OFFSET n - 1 LIMIT 1;
$$;
SELECT results_eq($$SELECT replace(t, pg_temp.run(1)::text || ':', 'one:') FROM pg_temp.report(pg_temp.run(1), 'run') t$$,
	$$VALUES ('run one: 5 documents 5 lines , through 2026-01-01, to phase validate: 5 accounts, 0 put aside; there is no run before')$$, 'which run it is');
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(1), 'billed')$$, $$VALUES
	('recurring, per_unit EUR: 4 documents 4 lines 356.00, '), ('recurring, per_unit USD: 1 documents 1 lines 14.00, ')$$, 'what it billed, by model and currency');
-- a1 and usd pass: a1 is approved, usd waits, a2, po and bare are on hold
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(1), 'first pass')$$, $$VALUES
	('approved or issued, and never on hold: 1 documents 20.00, 1 of 5 documents; 3 were on hold')$$, 'how many went through');
SELECT is_empty($$SELECT pg_temp.report(pg_temp.run(1), 'change')$$, 'nobody was billed before');
-- released, validated and approved, they were on hold all the same
SELECT pg_temp.must('ada', $$SELECT count(billing.release_invoice('acme', reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND account = 'a2'$$);
SELECT pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
SELECT pg_temp.must('bob', $$SELECT count(billing.approve_invoice('acme', reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND state = 'pending_approval'$$);
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(1), 'first pass')$$, $$VALUES
	('approved or issued, and never on hold: 2 documents 40.00, 2 of 5 documents; 3 were on hold')$$, 'usd has passed by now, a2 was on hold');
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(1), 'entitled')$$, $$VALUES
	('all charges through the day EUR: 4 lines 356.00 before 356.00 difference 0, all that can be rated is billed; 1 charges have no amount'),
	('all charges through the day USD: 1 lines 14.00 before 14.00 difference 0, all that can be rated is billed')$$, 'what is entitled is billed, but for what has no price');

-- The next month: a1 has 20 seats, usd 14, po none, bare a price of 4.00 from 1 January
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'a1', 'seats', '2026-02-01', 20), billing.change_item('acme', 'usd', 'seats', '2026-02-01', 14),
	billing.end_item('acme', 'po', 'seats', '2026-02-01')$$);
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'list', 'seat', '{"model": "volume", "tiers": [{"up_to": null, "unit": "4"}]}', '2026-01-01')$$);
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-01-31')$$);
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(2), 'billed')$$, $$VALUES
	('recurring, per_unit EUR: 0 documents 0 lines 0 before 356.00 difference -356.00, 100.0 % less'),
	('recurring, volume EUR: 1 documents 1 lines 4.00 before 0 difference 4.00, more than nothing'),
	('recurring, per_unit USD: 0 documents 0 lines 0 before 14.00 difference -14.00, 100.0 % less')$$, 'a run that caught up with a price');
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-01-31')$$);
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-02-01', '{"phase": "validate"}')$$);
-- a1 20 × 5.00, a2 3 × 100.00, bare 1.00 and 4.00, and the calls; usd 14 × 2.00
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(4), 'billed')$$, $$VALUES
	('recurring, per_unit EUR: 3 documents 3 lines 401.00 before 0 difference 401.00, more than nothing'),
	('recurring, volume EUR: 1 documents 1 lines 4.00 before 4.00 difference 0.00, the same'),
	('usage, graduated EUR: 1 documents 1 lines 2.10 before 0 difference 2.10, more than nothing'),
	('recurring, per_unit USD: 1 documents 1 lines 28.00 before 0 difference 28.00, more than nothing')$$, 'compared with the run that billed something, not with the empty one');
SELECT is((SELECT substring(explanation FROM 'compared with run (.*)')::bigint FROM billing.run_report('acme', pg_temp.run(4), false) WHERE section = 'run'), pg_temp.run(2), 'which it says');
-- a1: 102.10 and 19.40 of tax after 59.50; bare: 5.00 and 0.95 after 4.76 of the same January; a2 as before; usd 33.32 after 16.66
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(4), 'change')$$, $$VALUES
	('a1 EUR: 1 documents 121.50 before 59.50 difference 62.00, 104.2 % more than on 2026-01-01'),
	('bare EUR: 1 documents 5.95 before 4.76 difference 1.19, 25.0 % more than on 2026-01-01'),
	('usd USD: 1 documents 33.32 before 16.66 difference 16.66, 100.0 % more than on 2026-01-01')$$, 'the largest changes of accounts');
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(4), 'entitled')$$, $$VALUES
	('all charges through the day EUR: 10 lines 767.10 before 767.10 difference 0, all that can be rated is billed'),
	('all charges through the day USD: 2 lines 42.00 before 42.00 difference 0, all that can be rated is billed')$$, 'all is billed: 360.00 of January, 405.00 and 2.10');
-- a call that comes late: 33 calls are 10 × 0.10 + 23 × 0.05 = 2.15, so 2.10 is to be credited and 2.15 charged
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id":"3","source":"s","type":"calls","subject":"a1","time":"2026-01-07T10:00:00Z","data":{"quantity":1}}]')$$);
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(4), 'entitled') LIMIT 1$$, $$VALUES
	('all charges through the day EUR: 10 lines 767.15 before 767.10 difference 0.05, 2 lines are to be billed')$$, 'what came since is told');
SELECT is((SELECT count(*) FROM billing.run_report('acme', pg_temp.run(4), false) WHERE section = 'entitled'), 0::bigint, 'unless nobody wants to know');
-- what is discarded is not billed
SELECT pg_temp.must('bob', $$SELECT billing.reject_invoice('acme', reference, 'wrong') FROM billing.invoice_overview WHERE entity = 'acme' AND account = 'usd' AND billing_date = '2026-02-01'$$);
SELECT pg_temp.must('ada', $$SELECT billing.discard_invoice('acme', reference) FROM billing.invoice_overview WHERE entity = 'acme' AND account = 'usd' AND billing_date = '2026-02-01'$$);
SELECT is_empty($$SELECT * FROM billing.run_report('acme', pg_temp.run(4), false) WHERE currency = 'USD' AND section <> 'change' AND amount <> 0$$, 'what was discarded is not billed');
SELECT results_eq($$SELECT pg_temp.report(pg_temp.run(4), 'entitled') OFFSET 1$$, $$VALUES
	('all charges through the day USD: 1 lines 42.00 before 14.00 difference 28.00, 1 lines are to be billed')$$, 'and is entitled all the same');
SELECT is(pg_temp.try('rea', format('SELECT count(*) FROM billing.run_report(''acme'', %s)', pg_temp.run(4))) ~ '^\d+$', true, 'a reader may ask');
SELECT is(pg_temp.try('nob', format('SELECT count(*) FROM billing.run_report(''acme'', %s)', pg_temp.run(4))), 'ZB002', 'who sees nothing of the entity may not');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.run_report('acme', 0)$$), 'ZB002', 'no such run');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.run_report('acme', NULL)$$), 'ZB001', 'no run');
SELECT is(pg_temp.try('adm', format('SELECT count(*) FROM billing.run_report(''other'', %s)', pg_temp.run(4))), 'ZB002', 'another entity''s run');

-- ---------------------------------------------------------------------------------------------------------------------
-- An account that cannot be billed does not stop the dry run; one that is put aside is told

-- the currency of account odd has more decimals than amounts are rounded to
SELECT is((SELECT count(*) FROM billing.dry_run('acme', '2026-03-01') WHERE what = 'documents'), 2::bigint, 'in March EUR and USD are billed');
CREATE TEMP TABLE march AS SELECT * FROM billing.dry_run('acme', '2026-03-01') WHERE what = 'documents';
SET LOCAL session_replication_role = replica;
ALTER TABLE billing.currency DROP CONSTRAINT currency_minor_unit_in_range;
INSERT INTO billing.currency VALUES ('ODD', '000', 9, 'Odd');
RESET session_replication_role;
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'odd', 'c1', 'ODD'), billing.create_contract('acme', 'odd', 'odd', '2026-01-01'),
	billing.add_item('acme', 'odd', 'seats', 'seat', 'recurring', 1, '{"model": "per_unit", "unit": "1"}')$$);
SELECT results_eq($$SELECT kind, subject, detail FROM billing.dry_run('acme', '2026-03-01') WHERE subject = 'odd'$$,
	$$VALUES ('account_parked', 'odd', 'account odd could not be billed: minor unit must be between 0 and 6')$$, 'an account that cannot be billed is told');
SELECT results_eq($$SELECT * FROM billing.dry_run('acme', '2026-03-01') WHERE what = 'documents'$$, $$SELECT * FROM march$$, 'and changes nothing for the others');
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-03-01')$$);
SELECT results_eq($$SELECT kind, subject, detail FROM billing.dry_run('acme', '2026-03-01')$$,
	$$VALUES ('account_parked', 'odd', 'account odd could not be billed: minor unit must be between 0 and 6')$$, 'also when a run has put it aside');

-- ---------------------------------------------------------------------------------------------------------------------
-- Progress

SELECT results_eq($$SELECT phase, state, is_background, slices, slices_done, slices_failed, per_cent, documents, issued, held, lines, exceptions, parked, estimated_end IS NULL, error
	FROM billing.run_progress WHERE run_id = pg_temp.run(1)$$,
	$$VALUES ('validate', 'finished', false, 1, 1::bigint, 0::bigint, 100.0, 5::bigint, 0::bigint, 3::bigint, 5::bigint, 1::bigint, 0::bigint, true, NULL)$$, 'a run that is done');
SELECT is(amounts, '{"EUR": 423.64, "USD": 16.66}', 'what its documents come to') FROM billing.run_progress WHERE run_id = pg_temp.run(1);
SELECT results_eq($$SELECT state, parked FROM billing.run_progress WHERE run_id = pg_temp.run(5)$$, $$VALUES ('finished', 1::bigint)$$, 'one that put an account aside');
-- the accounts were halved until the odd one was alone: what was billed meanwhile and taken back is not counted
SELECT is((SELECT p.amounts FROM billing.run_progress p WHERE run_id = pg_temp.run(5)),
	(SELECT jsonb_object_agg(currency, total) FROM (SELECT i.currency, sum(i.total) AS total FROM billing.invoice i WHERE i.run_id = pg_temp.run(5) GROUP BY i.currency) t),
	'its amounts are those of its documents');
-- Runs in the middle, written by hand: four slices of 100 accounts, ten minutes ago
SET LOCAL session_replication_role = replica;
CREATE FUNCTION pg_temp.under_way(id bigint, states text, finished boolean, cancelled boolean) RETURNS void LANGUAGE sql AS $$
	INSERT INTO billing.billing_run (entity_id, run_id, through_date, started_by, started_at, slices, is_background, finished_at, cancelled_at)
	SELECT billing_internal.entity_id('other'), id, '2026-03-01', 0, now() - interval '10 minutes', 4, true, CASE WHEN finished THEN now() END, CASE WHEN cancelled THEN now() END;
	INSERT INTO billing.run_slice (entity_id, run_id, slice_no, account_ids, state, accounts, documents, lines, error, ended_at)
	SELECT billing_internal.entity_id('other'), id, n, '{}', state, 100 * (state = 'done')::int, 300 * (state = 'done')::int, 600 * (state = 'done')::int,
		CASE WHEN state <> 'done' THEN 'attempt ' || n || ' failed' END, now() + make_interval(secs => n)
	FROM unnest(string_to_array(states, ' ')) WITH ORDINALITY s (state, n);
$$;
SELECT pg_temp.under_way(-1, 'done done pending pending', false, false), pg_temp.under_way(-2, 'done done pending pending', false, true),
	pg_temp.under_way(-3, 'done done done failed', true, false), pg_temp.under_way(-4, 'done pending pending pending', true, true),
	pg_temp.under_way(-5, 'done done done done', true, false), pg_temp.under_way(-6, 'pending pending pending pending', false, false);
RESET session_replication_role;
SELECT results_eq($$SELECT run_id, state, slices_done, slices_failed, per_cent, accounts, documents, lines, error FROM billing.run_progress WHERE entity = 'other' ORDER BY run_id DESC$$, $$VALUES
	(-1::bigint, 'running', 2::bigint, 0::bigint, 50.0, 200::bigint, 600::bigint, 1200::bigint, 'attempt 4 failed'),
	(-2, 'stopping', 2, 0, 50.0, 200, 600, 1200, 'attempt 4 failed'),
	(-3, 'incomplete', 3, 1, 75.0, 300, 900, 1800, 'attempt 4 failed'),
	(-4, 'cancelled', 1, 0, 25.0, 100, 300, 600, 'attempt 4 failed'),
	(-5, 'finished', 4, 0, 100.0, 400, 1200, 2400, NULL),
	(-6, 'running', 0, 0, 0.0, 0, 0, 0, 'attempt 4 failed')$$, 'runs under way');
-- half in ten minutes: the other half takes ten more
SELECT ok(estimated_end BETWEEN now() + interval '10 minutes' AND now() + interval '12 minutes', 'when it will be done') FROM billing.run_progress WHERE run_id = -1;
SELECT is_empty($$SELECT run_id FROM billing.run_progress WHERE entity = 'other' AND run_id < -1 AND estimated_end IS NOT NULL$$, 'only what goes on has an end to come');
SELECT is(documents_per_second, 2.0, '1200 documents in 600 seconds') FROM billing.run_progress WHERE run_id = -5;
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.run_progress WHERE entity = 'other'$$), '6', 'a reader sees the runs of an entity');
SELECT is(pg_temp.try('nob', $$SELECT count(*) FROM billing.run_progress$$), '0', 'others see none');

SELECT * FROM finish();
ROLLBACK;
