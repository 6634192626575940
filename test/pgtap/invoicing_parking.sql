-- Parking: an account that cannot be billed is put aside with its error, the others of the slice are billed, and after the cause
-- is mended it is billed as if nothing had been.
--
-- Three causes that the interface does not let through: a contract whose periods have no length (spoiled), a line that is there
-- already, but which a run through that day does not see (hidden), and a rule of the site's own, no invoice above 500.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(72);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
UPDATE billing.legal_entity SET auto_approve_limit = 1000 WHERE code = 'acme';
ALTER TABLE billing.contract DROP CONSTRAINT contract_interval_count_in_range;
ALTER TABLE billing.invoice ADD CONSTRAINT house_limit CHECK (net <= 500);

-- An account with a contract of so many seats at 10 a month in advance from a day
CREATE FUNCTION pg_temp.subscribe(account text, seats integer, first_day date DEFAULT '2026-01-01') RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, %2$L),
		billing.add_item('acme', %1$L, 'seats', 'seat', 'recurring', %3$L, pg_temp.each('10'))$q$, account, first_day, seats));
$$;
-- A line of March that an account seems to have been charged already: no run before April sees it
CREATE FUNCTION pg_temp.hide_line(account text, from_day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id, charge_seq, charge_date, period_start, period_end,
		description, quantity, tariff, days, of_days, exact_amount, amount)
	SELECT i.entity_id, -i.item_id, 1, 'charge', i.item_id, v.version_id, 1, '2027-12-31', from_day, (from_day + interval '1 month')::date,
		'hidden', 1, v.tariff, 1, 1, 10, 10
	FROM billing.contract_item i JOIN billing.contract_item_version v USING (entity_id, item_id) JOIN billing.billing_account a ON a.account_id = i.account_id
	WHERE a.code = account AND v.superseded_at IS NULL AND v.valid_to IS NULL;
	RESET session_replication_role;
END $$;
-- A contract whose periods have no length
CREATE FUNCTION pg_temp.spoil(account text, months integer DEFAULT 0) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE billing.contract c SET interval_count = months WHERE c.code = account;
	RESET session_replication_role;
END $$;
-- Both as it was
CREATE FUNCTION pg_temp.mend(account text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.spoil(account, 1);
	SET LOCAL session_replication_role = replica;
	DELETE FROM billing.invoice_line l USING billing.contract_item i, billing.billing_account a
	WHERE l.invoice_id < 0 AND i.item_id = l.item_id AND a.account_id = i.account_id AND a.code = account;
	RESET session_replication_role;
END $$;
CREATE FUNCTION pg_temp.run(through date, options text DEFAULT '{"phase": "issue"}') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('CALL billing.run_billing(%L, %L, %L)', 'acme', through, options));
$$;
-- What the last run says of itself: accounts looked at, documents, issued, parked
CREATE FUNCTION pg_temp.said() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s accounts, %s documents, %s issued, %s parked', accounts, documents, issued, parked)
	FROM billing.billing_run WHERE finished_at IS NOT NULL ORDER BY run_id DESC LIMIT 1;
$$;
CREATE FUNCTION pg_temp.parked() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT a.code::text FROM billing.account_watermark w JOIN billing.billing_account a USING (entity_id, account_id) WHERE w.parked_at IS NOT NULL ORDER BY 1;
$$;
CREATE FUNCTION pg_temp.exceptions(in_state text DEFAULT 'open') RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s: %s %s', subject, payload ->> 'sqlstate', payload ->> 'message') FROM billing.exception
	WHERE kind = 'account_parked' AND state = in_state ORDER BY subject COLLATE "C";
$$;
-- What an account was billed: date and net
CREATE FUNCTION pg_temp.billed(of_account text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s', billing_date, net) FROM billing.invoice_overview WHERE account = of_account ORDER BY invoice_id;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- One among several

SELECT pg_temp.subscribe('good-1', 1), pg_temp.subscribe('good-2', 2), pg_temp.subscribe('odd', 3), pg_temp.subscribe('good-4', 4), pg_temp.subscribe('good-5', 5);
SELECT pg_temp.spoil('odd');
SELECT is(pg_temp.run('2026-01-15'), '0', 'a run does not fail because an account does');
SELECT is(pg_temp.said(), '5 accounts, 4 documents, 4 issued, 1 parked', 'the others of the slice are billed');
SELECT results_eq('SELECT pg_temp.parked()', ARRAY['odd'], 'the one is put aside');
SELECT results_eq('SELECT pg_temp.exceptions()', ARRAY['odd: ZB001 interval count must be between 1 and 1000'],
	'with an exception that has SQLSTATE and message');
SELECT is((SELECT detail FROM billing.exception WHERE kind = 'account_parked'),
	'account odd could not be billed: interval count must be between 1 and 1000', 'which people can read');
SELECT is((SELECT payload ->> 'detail' FROM billing.exception WHERE kind = 'account_parked'), 'It is 0.', 'and the detail of the error');
SELECT is((SELECT (payload ->> 'run')::bigint FROM billing.exception WHERE kind = 'account_parked'), (SELECT max(run_id) FROM billing.billing_run), 'and the run');
SELECT is((SELECT deadline FROM billing.exception WHERE kind = 'account_parked'), now() + interval '1 day', 'to be mended within a day');
SELECT is_empty($$SELECT pg_temp.billed('odd')$$, 'it was billed nothing');
SELECT is((SELECT count(*) FROM billing.document_step s WHERE NOT EXISTS (SELECT FROM billing.invoice i WHERE i.invoice_id = s.document_id)), 0::bigint, 'what was tried for it is gone');
SELECT results_eq($$SELECT number FROM billing.invoice_overview WHERE entity = 'acme' ORDER BY number$$,
	format($$SELECT 'INV-' || to_char(now() AT TIME ZONE 'Europe/Berlin', 'YYYY') || '-00000%s' || n FROM generate_series(1, 4) n$$, ''), 'and took no number');
SELECT is((SELECT next_due FROM billing.account_watermark w JOIN billing.billing_account a USING (entity_id, account_id) WHERE code = 'odd'), NULL, 'it is not said to be billed through any day: next_due');
SELECT is((SELECT billed_through FROM billing.account_watermark w JOIN billing.billing_account a USING (entity_id, account_id) WHERE code = 'odd'), '1900-01-01', 'nor is billed_through moved');

-- The next runs leave it out, also when it changes
SELECT pg_temp.run('2026-01-16');
SELECT is(pg_temp.said(), '0 accounts, 0 documents, 0 issued, 0 parked', 'the next run leaves it out');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'odd', 'seats', '2026-01-16', 6)$$);
SELECT pg_temp.run('2026-02-01');
SELECT is(pg_temp.said(), '4 accounts, 4 documents, 4 issued, 0 parked', 'also after an amendment, which waits');
SELECT cmp_ok((SELECT count(*) FROM billing.account_change c JOIN billing.billing_account a USING (entity_id, account_id) WHERE code = 'odd'), '>=', 1::bigint, 'on the list of changes');
SELECT is((SELECT count(*) FROM billing.exception WHERE kind = 'account_parked'), 1::bigint, 'there is one exception, not one of each run');

SELECT is_empty('SELECT pg_temp.broken()', 'verify() goes on without it');

-- ---------------------------------------------------------------------------------------------------------------------
-- Who may let it be tried again

SELECT is(pg_temp.try(p, $$SELECT billing.retry_parked('acme')$$), e, p || ' may not retry')
FROM (VALUES ('rea', 'ZB003'), ('bob', 'ZB003'), ('adm', 'ZB003'), ('aud', 'ZB003'), ('nob', 'ZB002')) AS c (p, e);
SELECT is(pg_temp.try('ada', $$SELECT billing.retry_parked('other')$$), 'ZB002', 'no such entity');
SELECT is(pg_temp.try('ada', $$SELECT billing.retry_parked(NULL)$$), 'ZB001', 'no entity');
SELECT is(pg_temp.try('ada', $$SELECT billing.retry_parked('acme', 'nobody')$$), 'ZB002', 'no such account');
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme', 'good-1')$$), '0', 'an account that is not parked');
SELECT results_eq('SELECT pg_temp.parked()', ARRAY['odd'], 'none of that freed it');

-- Without a mend it is put aside again
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme', 'odd')$$), '1', 'a biller may');
SELECT is_empty('SELECT pg_temp.parked()', 'it is free');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE action = 'retry' AND object_type = 'billing_account'), 1::bigint, 'which is recorded');
SELECT results_eq('SELECT count(*) FROM pg_temp.exceptions()', ARRAY[1::bigint], 'the exception is open until it is billed');
SELECT pg_temp.run('2026-02-01');
SELECT is(pg_temp.said(), '1 accounts, 0 documents, 0 issued, 1 parked', 'without a mend it is put aside again');
SELECT results_eq('SELECT pg_temp.parked()', ARRAY['odd'], 'it is');
SELECT is((SELECT (payload ->> 'run')::bigint FROM billing.exception WHERE kind = 'account_parked'), (SELECT max(run_id) FROM billing.billing_run), 'the exception names the last run');

-- After the mend: three seats for 1 to 15 January, 3 × 10 × 15/31 = 14.52; six for the other 16 days, 60 × 16/31 = 30.97; six in February
SELECT pg_temp.mend('odd');
SELECT pg_temp.run('2026-02-01');
SELECT is(pg_temp.said(), '0 accounts, 0 documents, 0 issued, 0 parked', 'a mend alone frees nothing');
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme')$$), '1', 'all that are parked: one');
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme')$$), '0', 'once');
SELECT pg_temp.run('2026-02-01');
SELECT is(pg_temp.said(), '1 accounts, 2 documents, 2 issued, 0 parked', 'after the mend it is billed');
SELECT results_eq($$SELECT pg_temp.billed('odd')$$, ARRAY['2026-01-01 45.49', '2026-02-01 60.00'], 'every day that it missed, with the amendment, at the right dates');
SELECT is_empty('SELECT pg_temp.exceptions()', 'the exception is resolved');
SELECT results_eq($$SELECT resolution, resolved_by FROM billing.exception WHERE kind = 'account_parked'$$,
	$$SELECT 'billed by run ' || (SELECT max(run_id) FROM billing.billing_run), (SELECT person_id FROM billing.person WHERE code = 'ada')$$, 'by the run');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');
SELECT pg_temp.run('2026-02-01');
SELECT is(pg_temp.said(), '0 accounts, 0 documents, 0 issued, 0 parked', 'another run writes nothing');

-- The same account can be parked for another reason later: the exception is opened again
SELECT pg_temp.hide_line('odd', '2026-03-01');
SELECT pg_temp.run('2026-03-01');
SELECT is(pg_temp.said(), '5 accounts, 4 documents, 4 issued, 1 parked', 'it fails again in March');
SELECT results_eq('SELECT pg_temp.exceptions()', ARRAY['odd: ZB009 duplicate key value violates unique constraint "invoice_line_charged_once"'], 'for another reason');
SELECT is((SELECT count(*) FROM billing.exception WHERE kind = 'account_parked'), 1::bigint, 'there is one exception');
SELECT is((SELECT state || resolved_at::text FROM billing.exception WHERE kind = 'account_parked'), NULL, 'which is open again: not resolved');
SELECT is((SELECT billed_through FROM billing.account_watermark w JOIN billing.billing_account a USING (entity_id, account_id) WHERE code = 'odd'), '2026-02-01', 'it stays where it was');
SELECT pg_temp.mend('odd');
SELECT pg_temp.must('ada', $$SELECT billing.retry_parked('acme', 'odd')$$);
SELECT pg_temp.run('2026-03-02');
SELECT results_eq($$SELECT pg_temp.billed('odd') OFFSET 2$$, ARRAY['2026-03-01 60.00'], 'and billed for March at the day it fell due');

-- ---------------------------------------------------------------------------------------------------------------------
-- Several among many, for two reasons: accounts m-01 to m-40 from April; 7, 8, 19 and 40 are spoiled, 1 and 33 are too large for
-- the site's rule

SELECT pg_temp.subscribe(format('m-%s', lpad(n::text, 2, '0')), CASE WHEN n IN (1, 33) THEN 51 ELSE 1 + n % 3 END, '2026-04-01')
FROM generate_series(1, 40) n;
SELECT pg_temp.spoil(a) FROM unnest('{m-07,m-08,m-19,m-40}'::text[]) a;
SELECT pg_temp.run('2026-04-01');
SELECT is(pg_temp.said(), '45 accounts, 39 documents, 39 issued, 6 parked', 'six of 45 fail, 39 are billed');
SELECT results_eq('SELECT pg_temp.parked()', '{m-01,m-07,m-08,m-19,m-33,m-40}'::text[], 'those six');
SELECT results_eq('SELECT pg_temp.exceptions()', ARRAY[
	'm-01: ZB001 new row for relation "invoice" violates check constraint "house_limit"',
	'm-07: ZB001 interval count must be between 1 and 1000',
	'm-08: ZB001 interval count must be between 1 and 1000',
	'm-19: ZB001 interval count must be between 1 and 1000',
	'm-33: ZB001 new row for relation "invoice" violates check constraint "house_limit"',
	'm-40: ZB001 interval count must be between 1 and 1000'], 'each with its own error');
-- 4 of January, 4 and 2 of February, 4 and 1 of March, 39 of April
SELECT is((SELECT format('%s %s %s', count(*), min(sequence), max(sequence)) FROM billing.invoice WHERE number IS NOT NULL), '54 1 54', 'the numbers have no gap');
SELECT is((SELECT last_number FROM billing.number_series), 54::bigint, 'nor ahead of them');

-- The mend of one cause frees those of that cause only
ALTER TABLE billing.invoice DROP CONSTRAINT house_limit;
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme')$$), '6', 'all are tried again');
SELECT pg_temp.run('2026-04-01', '{"phase": "issue", "slice": 4}');
SELECT is(pg_temp.said(), '6 accounts, 2 documents, 2 issued, 4 parked', 'two are billed, four fail again');
SELECT results_eq('SELECT pg_temp.parked()', '{m-07,m-08,m-19,m-40}'::text[], 'those whose cause is there yet');
SELECT results_eq($$SELECT pg_temp.billed('m-01')$$, ARRAY['2026-04-01 510.00'], 'the large one is billed');
SELECT results_eq($$SELECT slice_no, accounts, documents, parked, state FROM billing.run_slice WHERE run_id = (SELECT max(run_id) FROM billing.billing_run) ORDER BY slice_no$$,
	$$VALUES (1, 4::bigint, 1::bigint, 3::bigint, 'done'), (2, 2::bigint, 1::bigint, 1::bigint, 'done')$$, 'a slice in which accounts fail is done');

-- All of them: nothing but accounts that fail
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme')$$), '4', 'four are tried again');
SELECT pg_temp.run('2026-04-02');
SELECT is(pg_temp.said(), '4 accounts, 0 documents, 0 issued, 4 parked', 'all of a slice fail');
SELECT is((SELECT finished_at IS NOT NULL FROM billing.billing_run ORDER BY run_id DESC LIMIT 1), true, 'and the run ends');

-- A phase that gives no numbers parks all the same, and discarded drafts do not free what is parked
SELECT pg_temp.mend(a) FROM unnest('{m-07,m-08}'::text[]) a;
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme', 'm-07')$$), '1', 'one of those that are mended is freed');
SELECT pg_temp.run('2026-04-02', '{"phase": "draft"}');
SELECT is(pg_temp.said(), '1 accounts, 1 documents, 0 issued, 0 parked', 'it alone gets a draft');
SELECT results_eq('SELECT pg_temp.parked()', '{m-08,m-19,m-40}'::text[], 'what was not asked for stays aside');
SELECT pg_temp.mend(a) FROM unnest('{m-19,m-40}'::text[]) a;
SELECT is(pg_temp.must('ada', $$SELECT billing.retry_parked('acme')$$), '3', 'the last three are freed');
SELECT pg_temp.run('2026-05-01');
-- five of the first and 40 of May, and April of three
SELECT is(pg_temp.said(), '45 accounts, 48 documents, 48 issued, 0 parked', 'all are billed, for April and May');
SELECT results_eq($$SELECT pg_temp.billed('m-08')$$, ARRAY['2026-04-01 30.00', '2026-05-01 30.00'], 'an account that was put aside twice');
SELECT is_empty('SELECT pg_temp.exceptions()', 'no account is parked');
SELECT results_eq('SELECT count(*) FROM pg_temp.exceptions($$resolved$$)', ARRAY[7::bigint], 'seven were');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');

SELECT * FROM finish();
ROLLBACK;
