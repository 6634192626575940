-- Work in the background: what is done, how often, and how it went.
-- A worker does it where the server preloads billing_erp and billing_erp.databases names the database; pg_cron may do it
-- instead, or a person, as here: billing.run_worker_once() does whatever is due.
SHOW billing_erp.worker_interval;
BEGIN;

-- What the extension brings. Nothing has run in this database.
SELECT task, enabled, run_every, due_at, is_due, runs FROM billing.worker_status
	WHERE task IN ('replay_usage', 'verify') ORDER BY task;

-- An administrator decides otherwise: verification twice a day, and all else by hand.
SELECT billing.set_task('verify', run_every => '12 hours');
SELECT count(billing.set_task(task, enabled => false)) > 0 AS disabled FROM billing.worker_status WHERE task <> 'verify';
SELECT task, enabled, run_every, is_due FROM billing.worker_status
	WHERE task IN ('replay_usage', 'verify') ORDER BY task;

-- It is due, since it never ran; then it is not.
SELECT task, outcome, error FROM billing.run_worker_once();
SELECT task, outcome, error FROM billing.run_worker_once();
SELECT task, is_due, due_at = last_start + interval '12 hours' AS due_in_12_hours, runs, failures, last_error
	FROM billing.worker_status WHERE task = 'verify';

-- It kept what it found, here for the installation itself, which is entity 0.
SELECT entity_id, invariant, violations FROM billing.verification WHERE entity_id = 0;

-- Every decision is audited.
SELECT action, object_id, after -> 'run_every' AS run_every, after -> 'enabled' AS enabled
	FROM billing.audit_log WHERE object_type = 'task_setting' AND object_id = 'verify';

-- Five tasks: one that notes who acts, one that breaks after it wrote something, one whose function is not there, one
-- that has the wrong kind of function, and one after them.
SELECT billing.set_task('verify', enabled => false);
CREATE TABLE public.trace (task text, actor text, runs_as name);
GRANT INSERT ON public.trace TO billing_owner;
CREATE FUNCTION billing_internal.test_first() RETURNS void LANGUAGE SQL
BEGIN ATOMIC
	INSERT INTO public.trace VALUES ('first', billing.current_actor(), current_user);
END;
CREATE FUNCTION billing_internal.test_broken() RETURNS void LANGUAGE SQL
BEGIN ATOMIC
	INSERT INTO public.trace VALUES ('broken', billing.current_actor(), current_user);
	SELECT 1 / (SELECT count(*) FROM public.trace WHERE task = 'none');
END;
CREATE FUNCTION billing_internal.test_wrong(integer) RETURNS void LANGUAGE SQL
BEGIN ATOMIC
	SELECT 1;
END;
CREATE FUNCTION billing_internal.test_last() RETURNS void LANGUAGE SQL
BEGIN ATOMIC
	INSERT INTO public.trace VALUES ('last', billing.current_actor(), current_user);
END;
GRANT SELECT ON public.trace TO billing_owner;
SET ROLE billing_owner;
INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('test_1', 'test_first', '1 hour', 'notes who acts'),
	('test_2', 'test_broken', '1 hour', 'breaks'),
	('test_3', 'test_missing', '1 hour', 'is missing'),
	('test_4', 'test_wrong', '1 hour', 'takes an argument'),
	('test_5', 'test_last', '1 hour', 'comes last');
INSERT INTO billing.task_state (task) SELECT task FROM billing.task WHERE task LIKE 'test%';
RESET ROLE;

-- A task that fails takes back what it wrote and stops no other. All of them run as the system.
SELECT task, outcome, error FROM billing.run_worker_once();
SELECT task, actor, runs_as FROM public.trace;
SELECT billing.current_actor();

-- What failed is tried again after a minute, then after two, four, ...; what went well, when its hour has passed.
SELECT task, is_due, due_at - last_start AS due_after, runs, failures, attempts, left(last_error, 5) AS last_error
	FROM billing.worker_status WHERE task LIKE 'test%' ORDER BY task;
SELECT task, outcome FROM billing.run_worker_once(everything => true);
SELECT task, is_due, due_at - last_start AS due_after, runs, failures, attempts
	FROM billing.worker_status WHERE task LIKE 'test%' ORDER BY task;

-- When the cause is mended, the next run puts all in order.
CREATE OR REPLACE FUNCTION billing_internal.test_broken() RETURNS void LANGUAGE SQL
BEGIN ATOMIC
	INSERT INTO public.trace VALUES ('mended', billing.current_actor(), current_user);
END;
SELECT billing.set_task('test_3', enabled => false), billing.set_task('test_4', enabled => false);
SELECT task, outcome FROM billing.run_worker_once(everything => true);
SELECT task, enabled, is_due, runs, failures, attempts, last_failure IS NOT NULL AS failed_once, last_error
	FROM billing.worker_status WHERE task = 'test_2';

-- Back to what the extension says.
SELECT billing.reset_task('verify');
SELECT task, enabled, run_every FROM billing.worker_status WHERE task = 'verify';
ROLLBACK;

-- What is refused.
SELECT billing.set_task('nothing', '1 hour');
SELECT billing.set_task('verify');
SELECT billing.set_task('verify', '0');
SELECT billing.set_task('verify', '-1 day');
SELECT billing.set_task('verify', '367 days');
SELECT billing.set_task(NULL, '1 hour');
SELECT billing.reset_task('');
UPDATE billing.task SET run_every = '1 second';
DELETE FROM billing.task_state;

-- Others see which tasks there are; how they went may tell of entities that are not theirs.
CREATE ROLE regress_worker_clerk LOGIN IN ROLE billing_user;
SET SESSION AUTHORIZATION regress_worker_clerk;
SELECT task FROM billing.task WHERE task = 'verify';
SELECT count(*) FROM billing.worker_status;
SELECT * FROM billing.run_worker_once();
SELECT billing.set_task('verify', '1 hour');
SELECT billing.schedule_jobs();
RESET SESSION AUTHORIZATION;
DROP ROLE regress_worker_clerk;

-- Where no worker runs, pg_cron does it: billing.schedule_jobs() gives it a job for each enabled task. Here it is not installed, and
-- what cron or systemd is to be told is returned.
SET client_min_messages = warning;
SELECT how, replace(job, current_database(), 'shop') AS job, schedule, left(command, 20) AS command FROM billing.schedule_jobs();
SELECT * FROM billing.unschedule_jobs();
RESET client_min_messages;

-- Or nothing at all runs by itself, and somebody calls this procedure now and then: it does what is due, each task in
-- transactions of its own, and leaves a row for each run in the log.
BEGIN;
SELECT count(billing.set_task(task, enabled => false)) > 0 AS disabled FROM billing.worker_status WHERE task <> 'verify';
CALL billing.run_due_jobs();
SELECT task, outcome, error, run_by = session_user AS by_us, ended_at > started_at AS took_time FROM billing.task_run;
SELECT task, state, overdue_by, attempts, last_error, advice FROM billing.job_health WHERE task IN ('verify', 'roll_up_usage') ORDER BY task DESC;
ROLLBACK;
