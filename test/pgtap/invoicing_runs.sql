-- Runs as a whole: cancelled ones, options, days that are past, periods that were missed, drafts that are made again, and
-- amendments in between.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(51);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
UPDATE billing.legal_entity SET auto_approve_limit = 1000 WHERE code = 'acme';
-- a to d with 1, 2, 3 and 4 seats at 31 a month in advance from January
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
	billing.add_item('acme', %1$L, 'seats', 'seat', 'recurring', %2$L, pg_temp.each('31'))$q$, a, n))
FROM unnest('{a,b,c,d}'::text[]) WITH ORDINALITY AS x (a, n);

CREATE FUNCTION pg_temp.run(through date, options text DEFAULT '{"phase": "issue"}') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('CALL billing.run_billing(%L, %L, %L)', 'acme', through, options));
$$;
CREATE FUNCTION pg_temp.last_run() RETURNS bigint LANGUAGE sql AS $$ SELECT max(run_id) FROM billing.billing_run $$;
CREATE FUNCTION pg_temp.said() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s slices, %s accounts, %s documents, %s issued', slices, accounts, documents, issued) FROM billing.billing_run WHERE run_id = pg_temp.last_run();
$$;
CREATE FUNCTION pg_temp.issued(after_number bigint DEFAULT 0) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s %s', i.series, i.sequence, a.code, i.billing_date, i.net, i.total) FROM billing.invoice i JOIN billing.billing_account a USING (entity_id, account_id)
	WHERE i.sequence > after_number ORDER BY i.series, i.sequence;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Cancelled after its first slice: that one stands, and another run bills the rest

CREATE TEMP TABLE opened AS
SELECT pg_temp.must('ada', $$SELECT billing_internal.open_run('acme', '2026-01-15', '{"phase": "issue", "slice": 1}')$$)::bigint AS run;
GRANT SELECT ON opened TO PUBLIC;
SELECT is(pg_temp.must('ada', format($$SELECT billing_internal.run_slice('acme', %s, 1)$$, run)), '4', 'a slice for each of four accounts') FROM opened;
SELECT is(pg_temp.try(p, format($$SELECT billing.cancel_run('acme', %s)$$, run)), e, p || ' may not cancel it') FROM opened, (VALUES ('rea', 'ZB003'), ('bob', 'ZB003'), ('adm', 'ZB003'), ('nob', 'ZB002')) AS c (p, e);
SELECT is(pg_temp.try('ada', format($$SELECT billing.cancel_run('acme', %s)$$, run)), '', 'a biller may') FROM opened;
SELECT is(pg_temp.try('ada', format($$SELECT billing.cancel_run('acme', %s)$$, run)), '', 'as often as they like') FROM opened;
SELECT is((SELECT count(*) FROM billing.audit_log WHERE action = 'cancel' AND object_type = 'billing_run'), 1::bigint, 'which is recorded once');
SELECT is(pg_temp.must('ada', format($$SELECT billing_internal.run_slice('acme', %s, 2)$$, run)), '0', 'the next slice is not begun') FROM opened;
SELECT is(pg_temp.must('ada', format($$SELECT billing_internal.close_run('acme', %s)$$, run)), run::text, 'it ends') FROM opened;
SELECT is(pg_temp.said(), '4 slices, 1 accounts, 1 documents, 1 issued', 'and tells what it did');
SELECT results_eq($$SELECT cancelled_at IS NOT NULL, finished_at IS NOT NULL FROM billing.billing_run$$, $$VALUES (true, true)$$, 'cancelled and finished');
SELECT is(pg_temp.told('ada', format($$SELECT billing.cancel_run('acme', %s)$$, run)), format('ZB002 billing run %s is not open', run), 'what has ended is not cancelled') FROM opened;
SELECT is(pg_temp.try('ada', $$SELECT billing.cancel_run('acme', -1)$$), 'ZB002', 'nor what never was');
SELECT is(pg_temp.try('ada', $$SELECT billing.cancel_run('acme', NULL)$$), 'ZB001', 'nor null');
SELECT results_eq('SELECT pg_temp.issued()', ARRAY['INV 1 a 2026-01-01 31.00 36.89'], 'one invoice is there');
SELECT pg_temp.run('2026-01-15', '{"phase": "issue", "slice": 2}');
SELECT is(pg_temp.said(), '2 slices, 3 accounts, 3 documents, 3 issued', 'another run bills the rest');
SELECT results_eq('SELECT pg_temp.issued(1)', ARRAY['INV 2 b 2026-01-01 62.00 73.78', 'INV 3 c 2026-01-01 93.00 110.67', 'INV 4 d 2026-01-01 124.00 147.56'], 'with the next numbers');

-- ---------------------------------------------------------------------------------------------------------------------
-- Options

SELECT is(pg_temp.told('ada', format($$CALL billing.run_billing('acme', '2026-01-15', %L)$$, o)), e, 'options ' || o) FROM (VALUES
	('[]', 'ZB001 options must be an object'), ('"issue"', 'ZB001 options must be an object'),
	('{"phases": "issue"}', 'ZB001 option "phases" is not known'), ('{"phase": "ISSUE"}', 'ZB001 phase "ISSUE" is not known'),
	('{"phase": "approve"}', 'ZB001 phase "approve" is not known'), ('{"slice": 0}', 'ZB001 slice must be between 1 and 100000 accounts'),
	('{"slice": 100001}', 'ZB001 slice must be between 1 and 100000 accounts'), ('{"slice": "many"}', 'ZB001 slice must be between 1 and 100000 accounts')) AS c (o, e);
SELECT is(pg_temp.told('ada', format($$CALL billing.run_billing('acme', '2026-01-15', %L)$$, o)), '0', 'options ' || o)
FROM unnest(ARRAY['{}', '{"phase": null}', '{"slice": 100000}', '{"slice": "7", "phase": "validate"}']) o;

-- ---------------------------------------------------------------------------------------------------------------------
-- A day that is past, and periods that were missed

SELECT pg_temp.run('2025-06-01');
SELECT is(pg_temp.said(), '0 slices, 0 accounts, 0 documents, 0 issued', 'a run through a day that is past has nothing to do');
SELECT results_eq('SELECT DISTINCT billed_through, next_due FROM billing.account_watermark', $$VALUES (date '2026-01-15', date '2026-02-01')$$, 'and takes nobody back');
SELECT pg_temp.run('2026-04-10');
SELECT is(pg_temp.said(), '1 slices, 4 accounts, 12 documents, 12 issued', 'three periods that were missed are billed at once');
SELECT results_eq('SELECT pg_temp.issued(4)', ARRAY[
	'INV 5 a 2026-02-01 31.00 36.89', 'INV 6 b 2026-02-01 62.00 73.78', 'INV 7 c 2026-02-01 93.00 110.67', 'INV 8 d 2026-02-01 124.00 147.56',
	'INV 9 a 2026-03-01 31.00 36.89', 'INV 10 b 2026-03-01 62.00 73.78', 'INV 11 c 2026-03-01 93.00 110.67', 'INV 12 d 2026-03-01 124.00 147.56',
	'INV 13 a 2026-04-01 31.00 36.89', 'INV 14 b 2026-04-01 62.00 73.78', 'INV 15 c 2026-04-01 93.00 110.67', 'INV 16 d 2026-04-01 124.00 147.56'],
	'each at its own day, and numbered in that order');
SELECT pg_temp.run('2026-04-10');
SELECT is(pg_temp.said(), '0 slices, 0 accounts, 0 documents, 0 issued', 'once');

-- ---------------------------------------------------------------------------------------------------------------------
-- Drafts that are discarded are made again, as often as wanted

SELECT pg_temp.run('2026-05-01', '{}');
SELECT is(pg_temp.said(), '1 slices, 4 accounts, 4 documents, 0 issued', 'drafts of May');
SELECT pg_temp.must('ada', format($$SELECT billing.discard_invoice('acme', %L, 'a test')$$, reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND state = 'draft' AND account IN ('a', 'b');
SELECT pg_temp.run('2026-05-01', '{}');
SELECT is(pg_temp.said(), '1 slices, 2 accounts, 2 documents, 0 issued', 'two are made again');
SELECT pg_temp.must('ada', format($$SELECT billing.discard_invoice('acme', %L, 'a test')$$, reference)) FROM billing.invoice_overview WHERE entity = 'acme' AND state = 'draft';
-- one of them with other terms
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'd', 'seats', '2026-05-01', 5)$$);
SELECT pg_temp.run('2026-05-01');
SELECT is(pg_temp.said(), '1 slices, 4 accounts, 4 documents, 4 issued', 'then all of them, to issued');
SELECT results_eq('SELECT pg_temp.issued(16)', ARRAY['INV 17 a 2026-05-01 31.00 36.89', 'INV 18 b 2026-05-01 62.00 73.78', 'INV 19 c 2026-05-01 93.00 110.67', 'INV 20 d 2026-05-01 155.00 184.45'],
	'what was discarded took no number, and the last terms count');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE entity = 'acme' AND state = 'discarded'), 6::bigint, 'six were discarded');

-- ---------------------------------------------------------------------------------------------------------------------
-- Amendments between runs.  a has 2 seats from 16 May: 15 days of 31 of one seat, 15.00, 16 days of two, 32.00, less 31.00; b never
-- was a customer: five months of 62.00 come back.

SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'a', 'seats', '2026-05-16', 2), billing.end_contract('acme', 'b', '2026-01-01')$$);
SELECT pg_temp.run('2026-05-20');
SELECT is(pg_temp.said(), '1 slices, 2 accounts, 2 documents, 2 issued', 'two accounts changed');
SELECT results_eq($$SELECT pg_temp.issued(20) UNION ALL SELECT i FROM pg_temp.issued() i WHERE i LIKE 'CN%' ORDER BY 1$$,
	ARRAY['CN 1 b 2026-05-20 -310.00 -368.90', 'INV 21 a 2026-05-20 16.00 19.04'], 'an invoice and a credit note');
SELECT pg_temp.run('2026-06-01');
SELECT is(pg_temp.said(), '1 slices, 3 accounts, 3 documents, 3 issued', 'in June three are left');
SELECT results_eq($$SELECT pg_temp.issued(21)$$, ARRAY['INV 22 a 2026-06-01 62.00 73.78', 'INV 23 c 2026-06-01 93.00 110.67', 'INV 24 d 2026-06-01 155.00 184.45'], 'with their new terms');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');

-- A run in the foreground whose session is gone is closed by cancelling it, later; one in the background whose starter may bill no more fails and says why
SELECT billing.create_entity('left', 'Left', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('left'), pg_temp.stock('left');
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('left', 'k', 'a1', '2026-01-01'),
	billing.add_item('left', 'k', 'i', 'seat', 'recurring', 10, pg_temp.each('10'))$$);
SELECT pg_temp.must('ada', $$SELECT billing_internal.open_run('left', '2026-01-15', '{}')$$) AS gone \gset
SELECT is(pg_temp.try('ada', format('SELECT billing.cancel_run(''left'', %s)', :'gone')), '', 'the run of a session that is gone is cancelled');
CALL billing.run_slices();
SELECT is((SELECT finished_at FROM billing.billing_run WHERE run_id = :gone), NULL, 'its session may still close it');
SET LOCAL ROLE billing_owner;
UPDATE billing.billing_run SET cancelled_at = cancelled_at - interval '11 minutes' WHERE run_id = :gone;
RESET ROLE;
CALL billing.run_slices();
SELECT isnt((SELECT finished_at FROM billing.billing_run WHERE run_id = :gone), NULL, 'which it does not: it is closed');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE entity = 'left'), 0::bigint, 'nothing was billed');
SELECT pg_temp.must('ada', $$SELECT billing.start_run('left', '2026-01-15')$$) AS lost \gset
SELECT billing.revoke_duty('left', 'ada', d.duty, current_date - 1) FROM (SELECT DISTINCT a.duty FROM billing.duty_assignment a
	JOIN billing.person p USING (person_id) JOIN billing.legal_entity e USING (entity_id) WHERE p.code = 'ada' AND e.code = 'left') d;
SET client_min_messages = error;
CALL billing.run_slices();
RESET client_min_messages;
SELECT matches((SELECT error FROM billing.run_slice WHERE run_id = :lost), '^ZB003: person "ada" does not hold the duty biller', 'who may bill no more bills nothing in the background');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE entity = 'left'), 0::bigint, 'and nothing was billed');

SELECT * FROM finish();
ROLLBACK;
