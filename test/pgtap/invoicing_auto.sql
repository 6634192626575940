-- Billing runs that start by themselves: when, through which day, as whom; and their slices billed without a worker.
BEGIN;
SELECT plan(39);
\ir ../lib/persons.sql

-- Two entities whose days are never the same, east and west of the date line, and one without a policy. Each has an account with
-- a recurring item of 10 × 2.00 a month for January to March 2025, in advance: due on the first of each.
SELECT pg_temp.hire_all();
SELECT count(billing.set_task(task, enabled => false)) > 0 AS disabled FROM billing.worker_status WHERE task <> 'start_due_runs';
SELECT billing.create_entity('east', 'East', 'EUR', 'Pacific/Kiritimati', 'KI'), billing.create_entity('west', 'West', 'EUR', 'Etc/GMT+12', 'US'),
	billing.create_entity('none', 'None', 'EUR', 'UTC', 'DE');
SELECT pg_temp.staff(e), pg_temp.stock(e) FROM unnest('{east,west,none}'::text[]) e;
SELECT pg_temp.must('ada', format($$SELECT billing.create_contract(%1$L, 'k', 'a1', '2025-01-01', '2025-04-01'),
	billing.add_item(%1$L, 'k', 'seats', 'seat', 'recurring', 10, pg_temp.each('2'))$$, e))
FROM unnest('{east,west,none}'::text[]) e;
CREATE FUNCTION pg_temp.runs() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s', e.code, r.phase, p.code, CASE WHEN r.finished_at IS NULL THEN 'open' ELSE 'ended' END)
	FROM billing.billing_run r JOIN billing.legal_entity e USING (entity_id) JOIN billing.person p ON p.person_id = r.started_by ORDER BY r.run_id;
$$;
CREATE FUNCTION pg_temp.today(entity text) RETURNS date LANGUAGE sql AS $$
	SELECT (now() AT TIME ZONE e.time_zone)::date FROM billing.legal_entity e WHERE e.code = entity;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- When

SELECT lives_ok('SELECT billing_internal.start_due_runs()', 'without a policy');
SELECT is_empty('SELECT * FROM pg_temp.runs()', 'nothing starts');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_billing_policy('east', automatic_phase => 'issue', automatic_from => '23:59:59.999999')$$), '', 'a policy that begins at the end of the day');
SELECT lives_ok('SELECT billing_internal.start_due_runs()', 'before that');
SELECT is_empty('SELECT * FROM pg_temp.runs()', 'nothing starts either');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_billing_policy('east', automatic_from => '00:00')$$), '', 'one that begins with the day');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_billing_policy('west', automatic_phase => 'validate')$$), '', 'and one that only validates');
UPDATE billing.legal_entity SET auto_approve_limit = 100 WHERE code IN ('east', 'west');
SELECT lives_ok('SELECT billing_internal.start_due_runs()', 'then');
SELECT results_eq('SELECT * FROM pg_temp.runs()', $$VALUES ('east issue system open'), ('west validate system open')$$, 'their runs start, the system''s');
SELECT results_eq('SELECT through_date, is_background FROM billing.billing_run ORDER BY run_id', $$VALUES (pg_temp.today('east'), true), (pg_temp.today('west'), true)$$, 'through today, as each has it');
SELECT isnt(pg_temp.today('east'), pg_temp.today('west'), 'which is not the same day');
SELECT lives_ok('SELECT billing_internal.start_due_runs()', 'again');
SELECT is((SELECT count(*) FROM pg_temp.runs()), 2::bigint, 'there is one run a day');
SELECT is_empty($$SELECT * FROM billing.invoice_overview WHERE entity IN ('east', 'west')$$, 'nothing is billed yet');

-- ---------------------------------------------------------------------------------------------------------------------
-- Without a worker: in run_worker_once(), and in the procedures

SET LOCAL client_min_messages = error;
CREATE TEMP TABLE once AS SELECT * FROM billing.run_worker_once();
SELECT results_eq('SELECT task ~ ''^billing run \d+: slice 1 of 1$'' OR task = ''start_due_runs'', outcome, error, duration > ''0'' FROM once', $$VALUES (true, 'done', NULL, true), (true, 'done', NULL, true), (true, 'done', NULL, true)$$,
	'a row for the task, and one for each slice');
SELECT results_eq('SELECT * FROM pg_temp.runs()', $$VALUES ('east issue system ended'), ('west validate system ended')$$, 'the runs have ended');
-- By hand: 10 × 2.00 = 20.00, and 19 % of it 3.80. What was missed for months is billed once, for the right days.
SELECT results_eq($$SELECT * FROM pg_temp.documents('east')$$, $$VALUES ('invoice issued 2025-01-01 20.00 + 3.80 = 23.80'), ('invoice issued 2025-02-01 20.00 + 3.80 = 23.80'), ('invoice issued 2025-03-01 20.00 + 3.80 = 23.80')$$,
	'each month has its invoice');
SELECT results_eq($$SELECT * FROM pg_temp.documents('west')$$, $$VALUES ('invoice approved 2025-01-01 20.00 + 3.80 = 23.80'), ('invoice approved 2025-02-01 20.00 + 3.80 = 23.80'), ('invoice approved 2025-03-01 20.00 + 3.80 = 23.80')$$,
	'issued, or only validated');
SELECT is_empty('SELECT * FROM pg_temp.broken()', 'the books balance');
SELECT is_empty('SELECT * FROM billing.run_worker_once()', 'there is nothing left');

-- The next day finds what came meanwhile: the runs are made a day older
CREATE FUNCTION pg_temp.next_day() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	UPDATE billing.billing_run SET through_date = through_date - 1;
	RESET ROLE;
END $$;
SELECT pg_temp.must('ada', $$SELECT billing.add_item('east', 'k', 'setup', 'seat', 'one_time', 1, pg_temp.each('5'), valid_from => '2025-01-15')$$);
SELECT lives_ok('SELECT billing_internal.start_due_runs()', 'on the same day');
SELECT is((SELECT count(*) FROM pg_temp.runs()), 2::bigint, 'a change waits');
SELECT pg_temp.next_day();
SELECT lives_ok($$CALL billing.run_due_jobs(everything => true)$$, 'on the next day, by the procedure');
SELECT results_eq('SELECT * FROM pg_temp.runs() OFFSET 2', $$VALUES ('east issue system ended')$$, 'it has a run; where nothing is due there is none');
SELECT is((SELECT sum(net) FROM billing.invoice_overview WHERE entity = 'east'), 65::numeric, 'that bills it');

-- ---------------------------------------------------------------------------------------------------------------------
-- A person's background run is billed as theirs, by whoever does it

CREATE TEMP TABLE started AS SELECT pg_temp.must('ada', $$SELECT billing.start_run('none', '2025-02-28', '{"slice": 1}')$$)::bigint AS run_id;
SELECT is(pg_temp.try('ada', 'CALL billing.run_slices()'), 'ZB003', 'a biller does not do it in her session');
SELECT lives_ok('CALL billing.run_slices()', 'an administrator does');
SELECT results_eq($$SELECT * FROM pg_temp.documents('none')$$, $$VALUES ('invoice draft 2025-01-01 20.00 + 3.80 = 23.80'), ('invoice draft 2025-02-01 20.00 + 3.80 = 23.80')$$, 'it is billed');
SELECT results_eq($$SELECT DISTINCT p.code::text FROM billing.document d JOIN billing.legal_entity e USING (entity_id) JOIN billing.person p ON p.person_id = d.maker_id WHERE e.code = 'none'$$, $$VALUES ('ada')$$, 'she is the maker');
SELECT is(billing.current_actor(), NULL, 'the administrator is nobody, as before');
SELECT is(billing_internal.session_person_id(), NULL, 'and logged in as nobody: the system''s part is over');
SELECT is((SELECT finished_at IS NOT NULL FROM billing.billing_run JOIN started USING (run_id)), true, 'the run has ended');

-- She lost the duty meanwhile: the slice fails, which stops nothing, and is given up after three attempts
SELECT pg_temp.must('ada', $$SELECT billing.start_run('none', '2025-04-30')$$);
SELECT billing.revoke_duty('none', 'ada', 'biller');
SELECT lives_ok('CALL billing.run_slices()', 'a slice that fails is no error of the call');
SELECT results_eq($$SELECT s.state, s.attempts, left(s.error, 5) FROM billing.run_slice s WHERE s.error IS NOT NULL$$, $$VALUES ('pending', 1, 'ZB003')$$, 'its error is kept');
SELECT is((SELECT outcome FROM billing.run_worker_once(everything => true) WHERE task ~ '^billing run'), NULL, 'the transaction does not try it again');
SELECT is((SELECT count(*) FROM billing.invoice_overview WHERE entity = 'none'), 2::bigint, 'nothing was billed');
SELECT throws_ok('SELECT billing_internal.bill_claimed_slice()', 'ZB001', 'this session has not claimed a slice of a billing run', 'what was not claimed is not billed');
SELECT is(pg_temp.try('ada', 'SELECT billing_internal.claim_slice()'), '42501', 'claims are not for people');
SELECT is_empty('SELECT * FROM pg_temp.broken()', 'the books balance at the end');

SELECT * FROM finish();
ROLLBACK;
