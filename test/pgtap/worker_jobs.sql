-- Running tasks without a worker, the log of their runs, and how their health is judged.
BEGIN;
SELECT plan(51);
\ir ../lib/persons.sql

-- Four tasks of our own, and no others: one that writes, one that breaks after it wrote, one that comes last, one not due
SELECT count(billing.set_task(task, enabled => false)) > 0 AS disabled FROM billing.worker_status;
CREATE TABLE public.trace (task text, actor text, runs_as text);
CREATE TABLE public.broken (cause text);
INSERT INTO public.broken VALUES ('cable');
GRANT SELECT, INSERT ON public.trace, public.broken TO billing_owner;
CREATE FUNCTION billing_internal.jobs_first() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC INSERT INTO public.trace VALUES ('a_first', billing.current_actor(), current_user); END;
CREATE FUNCTION billing_internal.jobs_broken() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC
		INSERT INTO public.trace VALUES ('b_broken', billing.current_actor(), current_user);
		SELECT 1 / (1 - count(*)) FROM public.broken;
	END;
CREATE FUNCTION billing_internal.jobs_last() RETURNS void LANGUAGE SQL
	BEGIN ATOMIC INSERT INTO public.trace VALUES ('c_last', billing.current_actor(), current_user); END;
SET LOCAL ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('a_first', 'jobs_first', '1 hour', 'comes first'), ('b_broken', 'jobs_broken', '1 hour', 'breaks'),
	('c_last', 'jobs_last', '1 hour', 'comes last'), ('d_later', 'jobs_last', '1 hour', 'is not due');
INSERT INTO billing.task_state (task, last_start, last_end)
	VALUES ('a_first', NULL, NULL), ('b_broken', NULL, NULL), ('c_last', NULL, NULL), ('d_later', clock_timestamp(), clock_timestamp());
RESET ROLE;
-- How they ran: task, outcome, SQLSTATE of the error, whether an end is known
CREATE FUNCTION pg_temp.log() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s', task, outcome, left(error, 5), ended_at >= started_at) FROM billing.task_run WHERE task ~ '^[a-d]_' ORDER BY task, started_at;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- run_due_jobs() in a transaction block

SET LOCAL client_min_messages = error;
SELECT lives_ok('CALL billing.run_due_jobs()', 'a task that fails is not an error of the call');
SELECT results_eq('SELECT task, actor, runs_as FROM public.trace', $$VALUES ('a_first', 'system', 'billing_owner'), ('c_last', 'system', 'billing_owner')$$,
	'the others went on; what failed took back what it wrote; all as the system');
SELECT results_eq('SELECT * FROM pg_temp.log()', $$VALUES ('a_first done  t'), ('b_broken failed 22012 t'), ('c_last done  t')$$, 'each run is in the log');
SELECT is((SELECT string_agg(DISTINCT format('%s %s', run_by, process_id), ', ') FROM billing.task_run WHERE task ~ '^[a-d]_'), format('%s %s', session_user, pg_backend_pid()), 'with who ran it, and where');
SELECT results_eq($$SELECT s.task FROM billing.task_run r JOIN billing.task_state s ON s.task = r.task AND s.last_start = r.started_at AND s.last_end = r.ended_at ORDER BY 1$$,
	$$VALUES ('a_first'), ('b_broken'), ('c_last')$$, 'at the times that the state has');
SELECT results_eq($$SELECT task, attempts, failures::int, runs::int FROM billing.worker_status WHERE task ~ '^[a-c]_' ORDER BY 1$$,
	$$VALUES ('a_first', 0, 0, 1), ('b_broken', 1, 1, 1), ('c_last', 0, 0, 1)$$, 'the failure is counted');
SELECT lives_ok('CALL billing.run_due_jobs()', 'again');
SELECT is((SELECT count(*) FROM public.trace), 2::bigint, 'nothing is due any more, not even what failed: not for a minute');
SELECT lives_ok('CALL billing.run_due_jobs(everything => true)', 'everything');
SELECT results_eq('SELECT task, count(*)::int FROM public.trace GROUP BY task ORDER BY task', $$VALUES ('a_first', 2), ('c_last', 3)$$, 'runs what is enabled, due or not');
SELECT is(billing.current_actor(), NULL, 'the caller is who they were');

-- One task
SELECT lives_ok($$CALL billing.run_job('a_first')$$, 'one task, by name');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'a_first'), 3::bigint, 'is run though it is not due');
SELECT lives_ok($$CALL billing.run_job('a_first', if_due => true)$$, 'or only if it is due');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'a_first'), 3::bigint, 'which it is not');
SET LOCAL ROLE billing_owner;
UPDATE billing.task_state SET last_start = clock_timestamp() - interval '59 minutes 40 seconds', last_end = clock_timestamp(), attempts = 0 WHERE task = 'a_first';
UPDATE billing.task_state SET last_start = clock_timestamp() - interval '59 minutes 20 seconds', last_end = clock_timestamp(), attempts = 0 WHERE task = 'c_last';
RESET ROLE;
SELECT lives_ok($$CALL billing.run_job('a_first', if_due => true)$$, 'due in 20 seconds');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'a_first'), 4::bigint, 'is due: a job of pg_cron may come a little early');
SELECT lives_ok($$CALL billing.run_job('c_last', if_due => true)$$, 'due in 40 seconds');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'c_last'), 3::bigint, 'is not');
SELECT billing.set_task('a_first', enabled => false);
SELECT lives_ok($$CALL billing.run_job('a_first', if_due => true)$$, 'what is disabled');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'a_first'), 4::bigint, 'is not run by a job');
SELECT lives_ok($$CALL billing.run_job('a_first')$$, 'but');
SELECT is((SELECT count(*) FROM public.trace WHERE task = 'a_first'), 5::bigint, 'by who names it');
SELECT throws_ok($$CALL billing.run_job('nothing')$$, 'ZB002', 'task "nothing" does not exist', 'what is not there is refused');
SELECT throws_ok($$CALL billing.run_job(NULL)$$, 'ZB001', NULL, 'a task must be named');
SELECT pg_temp.hire('ada');
SELECT is(pg_temp.told('ada', 'CALL billing.run_due_jobs()'), format('ZB003 session user "%s" is not a member of billing_owner', pg_temp.role_of('ada')), 'others run nothing');
SELECT is(pg_temp.try('ada', $$CALL billing.run_job('a_first')$$), 'ZB003', 'not even one');
SELECT is(pg_temp.try('ada', $$SELECT billing_internal.claim_task('a_first', 3)$$), '42501', 'nor take its steps');

-- ---------------------------------------------------------------------------------------------------------------------
-- Health. Nobody else works here, so what is set stays. An interval of an hour is overdue after three, one of 10 s after 5 min.

CREATE FUNCTION pg_temp.state(of_task text, started interval, ended interval DEFAULT '0', attempts integer DEFAULT 0, error text DEFAULT NULL,
	run_every interval DEFAULT '1 hour') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.set_task(of_task, run_every => state.run_every, enabled => true);
	SET LOCAL ROLE billing_owner;
	UPDATE billing.task_state s SET last_start = clock_timestamp() - started, last_end = clock_timestamp() - started + ended, attempts = state.attempts, last_error = error
		WHERE s.task = of_task;
	RESET ROLE;
	RETURN (SELECT h.state || CASE WHEN h.overdue_by IS NULL THEN '' ELSE ' by ' || to_char(h.overdue_by, 'HH24:MI') END FROM billing.job_health h WHERE h.task = of_task);
END $$;
SELECT is(pg_temp.state('a_first', '1 minute'), 'ok', 'what is not due is in order');
SELECT is(pg_temp.state('a_first', '3 hours 59 minutes'), 'ok', 'due for less than three hours: not overdue');
SELECT is(pg_temp.state('a_first', '4 hours 1 minute'), 'overdue by 03:01', 'due for more: overdue');
SELECT is(pg_temp.state('a_first', '4 minutes 50 seconds', run_every => '10 s'), 'ok', 'an interval of 10 s: not after 4:40');
SELECT is(pg_temp.state('a_first', '5 minutes 20 seconds', run_every => '10 s'), 'overdue by 00:05', 'but after 5:10');
SELECT is(pg_temp.state('a_first', '1 minute', attempts => 1, error => 'XX000: ouch'), 'failing', 'its last run failed');
SELECT is(pg_temp.state('a_first', '1 minute', ended => NULL, attempts => 1), 'failing', 'its process died');
SELECT is(pg_temp.state('a_first', NULL), 'never ran', 'never ran');
SELECT results_eq($$SELECT last_error, attempts, advice LIKE 'mend what last_error says%CALL billing.run_job(''b_broken'')', since = (SELECT min(started_at) FROM billing.task_run WHERE task = 'b_broken')
	FROM billing.job_health WHERE task = 'b_broken'$$, $$VALUES ('22012: division by zero', 2, true, true)$$, 'a failure tells why, since when, and what to do');
DELETE FROM public.broken;
SELECT lives_ok($$CALL billing.run_job('b_broken')$$, 'the cause is mended');
SELECT results_eq($$SELECT state, since = (SELECT max(ended_at) FROM billing.task_run WHERE task = 'b_broken'), last_error, attempts, advice
	FROM billing.job_health WHERE task = 'b_broken'$$, $$VALUES ('ok', true, NULL, 0, 'nothing')$$, 'and all is well');
-- What runs is known by its process
SET LOCAL ROLE billing_owner;
UPDATE billing.task_state SET last_start = '2026-01-01 12:00+00', last_end = NULL, attempts = 2 WHERE task = 'c_last';
INSERT INTO billing.task_run (task, started_at, run_by, process_id) VALUES ('c_last', '2026-01-01 12:00+00', 'worker', pg_backend_pid());
RESET ROLE;
SELECT is((SELECT state FROM billing.job_health WHERE task = 'c_last'), 'failing', 'a process that began after the run is another one');
SELECT is((SELECT last_error FROM billing.job_health WHERE task = 'c_last'), 'the process that ran it died', 'and that is what is told');
SET LOCAL ROLE billing_owner;
UPDATE billing.task_state SET last_start = clock_timestamp() WHERE task = 'c_last';
INSERT INTO billing.task_run (task, started_at, run_by, process_id) SELECT 'c_last', last_start, 'worker', pg_backend_pid() FROM billing.task_state WHERE task = 'c_last';
RESET ROLE;
SELECT results_eq($$SELECT state, since = (SELECT last_start FROM billing.task_state WHERE task = 'c_last'), advice FROM billing.job_health WHERE task = 'c_last'$$,
	$$SELECT 'running', true, 'nothing; it is run by process ' || pg_backend_pid()$$, 'one that began before it runs it');
SELECT billing.set_task('c_last', enabled => false), billing.set_task('d_later', enabled => false);
SELECT is((SELECT state FROM billing.job_health WHERE task = 'd_later'), 'disabled', 'what is disabled is called so');
SELECT is((SELECT state FROM billing.job_health WHERE task = 'c_last'), 'running', 'once it does not run any more');
SELECT set_eq('SELECT task FROM billing.job_health', 'SELECT task FROM billing.task', 'every task has its row');

-- ---------------------------------------------------------------------------------------------------------------------
-- The log is kept for as many days as the task says, one of a task that is gone as long as that of the purge

SET LOCAL ROLE billing_owner;
DELETE FROM billing.task_run;
INSERT INTO billing.task_run (task, started_at, ended_at, outcome, run_by, process_id)
SELECT t, now() - d, now() - d, 'done', 'worker', 1
FROM (VALUES ('a_first', interval '8 days'), ('a_first', '6 days 23 hours'), ('d_later', '8 days'), ('d_later', '2 days 1 minute'), ('d_later', '1 day 23 hours'),
	('gone', '8 days'), ('gone', '6 days')) v (t, d);
RESET ROLE;
SELECT billing.set_task('d_later', keep_days => 2);
SELECT results_eq($$SELECT task, keep_days FROM billing.worker_status WHERE task IN ('a_first', 'd_later', 'purge_task_runs', 'verify') ORDER BY 1$$,
	$$VALUES ('a_first', 7), ('d_later', 2), ('purge_task_runs', 7), ('verify', 90)$$, 'a week, but 90 days for what runs once a day');
SELECT lives_ok($$CALL billing.run_job('purge_task_runs')$$, 'a task purges');
SELECT results_eq($$SELECT task, round(extract(epoch FROM now() - started_at) / 86400)::int FROM billing.task_run WHERE task <> 'purge_task_runs' ORDER BY 1$$,
	$$VALUES ('a_first', 7), ('d_later', 2), ('gone', 6)$$, 'what is older');
SELECT is((SELECT outcome FROM billing.task_run WHERE task = 'purge_task_runs'), 'done', 'and is in the log itself');
SELECT throws_ok($$DELETE FROM billing.task_run$$, 'ZB010', NULL, 'by hand nobody deletes');
SELECT throws_ok($$UPDATE billing.task_run SET outcome = 'done'$$, 'ZB010', NULL, 'nor changes');

SELECT * FROM finish();
ROLLBACK;
