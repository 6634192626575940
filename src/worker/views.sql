-- What runs in the background, and how it goes.

CREATE OR REPLACE VIEW billing.worker_status WITH (security_invoker = true) AS
SELECT t.task,
	coalesce(s.enabled, t.enabled) AS enabled,
	coalesce(s.run_every, t.run_every) AS run_every,
	d.due_at,
	coalesce(s.enabled, t.enabled) AND d.due_at <= clock_timestamp() AS is_due,
	r.attempts > 0 AND (r.last_end IS NULL OR r.last_end < r.last_start) AS is_unfinished,
	r.last_start,
	r.last_end,
	r.last_duration,
	r.runs,
	r.failures,
	r.attempts,
	r.last_failure,
	r.last_error,
	coalesce(s.keep_days, t.keep_days) AS keep_days,
	t.description
FROM billing.task t
JOIN billing.task_state r ON r.task = t.task
LEFT JOIN billing.task_setting s ON s.task = t.task,
LATERAL (SELECT billing_internal.task_due_at(
	r.last_start, r.last_end, r.attempts, coalesce(s.run_every, t.run_every)) AS due_at) d;
COMMENT ON VIEW billing.worker_status IS
	'The background tasks, when they are due and how they went; shows rows to members of billing_owner only';
COMMENT ON COLUMN billing.worker_status.task IS 'Name of the task';
COMMENT ON COLUMN billing.worker_status.enabled IS 'Whether it runs by itself';
COMMENT ON COLUMN billing.worker_status.run_every IS 'From start to start';
COMMENT ON COLUMN billing.worker_status.due_at IS 'When it is to start next; -infinity where it never ran';
COMMENT ON COLUMN billing.worker_status.is_due IS 'Whether the next pass of a worker starts it';
COMMENT ON COLUMN billing.worker_status.is_unfinished IS 'Whether it runs now, or its process died while it ran';
COMMENT ON COLUMN billing.worker_status.last_start IS 'When it was last started';
COMMENT ON COLUMN billing.worker_status.last_end IS 'When it last ended';
COMMENT ON COLUMN billing.worker_status.last_duration IS 'How long the last run that ended took';
COMMENT ON COLUMN billing.worker_status.runs IS 'Runs that ended, well or not';
COMMENT ON COLUMN billing.worker_status.failures IS 'Runs that failed';
COMMENT ON COLUMN billing.worker_status.attempts IS 'Starts since the last success';
COMMENT ON COLUMN billing.worker_status.last_failure IS 'When it last failed';
COMMENT ON COLUMN billing.worker_status.last_error IS 'Why the last run failed; null where it succeeded';
COMMENT ON COLUMN billing.worker_status.keep_days IS 'How many days the log of its runs is kept';
COMMENT ON COLUMN billing.worker_status.description IS 'What it does';

GRANT SELECT ON billing.worker_status TO billing_user;

-- Overdue is what should have started long ago. What runs is known by its process: a worker that was killed leaves a start
-- without an end, and so does a task that takes long.
CREATE OR REPLACE VIEW billing.job_health WITH (security_invoker = true) AS
WITH task AS (
	SELECT w.*, l.process_id, l.process_id IS NOT NULL AS is_running,
		w.enabled AND isfinite(w.due_at)
			AND w.due_at < clock_timestamp() - greatest(3 * w.run_every, interval '5 minutes') AS is_overdue
	FROM billing.worker_status w
	LEFT JOIN billing.task_run l ON w.is_unfinished AND l.task = w.task AND l.started_at = w.last_start
		AND EXISTS (
			SELECT FROM pg_catalog.pg_stat_activity a
			-- who may not see when a process began takes it for the same
			WHERE a.pid = l.process_id AND a.datname = current_database() AND (a.backend_start <= l.started_at) IS NOT FALSE)
), judged AS (
	SELECT t.*, CASE
			WHEN t.is_running THEN 'running'
			WHEN NOT t.enabled THEN 'disabled'
			WHEN t.last_start IS NULL THEN 'never ran'
			WHEN t.attempts > 0 THEN 'failing'
			WHEN t.is_overdue THEN 'overdue'
			ELSE 'ok'
		END AS state
	FROM task t
)
SELECT j.task,
	j.state,
	CASE j.state
		WHEN 'running' THEN j.last_start
		WHEN 'failing' THEN (
			-- the first run after the last one that went well
			SELECT min(r.started_at)
			FROM billing.task_run r
			WHERE r.task = j.task AND r.started_at > coalesce(
				(SELECT max(g.started_at) FROM billing.task_run g WHERE g.task = j.task AND g.outcome = 'done'), '-infinity'))
		WHEN 'overdue' THEN j.due_at
		WHEN 'ok' THEN j.last_end
	END AS since,
	CASE WHEN j.enabled THEN j.due_at END AS due_at,
	CASE WHEN j.is_overdue THEN clock_timestamp() - j.due_at END AS overdue_by,
	j.attempts,
	CASE WHEN j.state = 'failing' AND j.is_unfinished THEN 'the process that ran it died' ELSE j.last_error END AS last_error,
	CASE j.state
		WHEN 'ok' THEN 'nothing'
		WHEN 'running' THEN format('nothing; it is run by process %s', j.process_id)
		WHEN 'disabled' THEN format('nothing, if that is meant; else SELECT billing.set_task(%L, enabled => true)', j.task)
		WHEN 'failing' THEN CASE WHEN j.is_unfinished
			THEN format('read the log of the server; it is taken up again by itself, or now with CALL billing.run_job(%L)', j.task)
			ELSE format('mend what last_error says; it is tried again by itself, or now with CALL billing.run_job(%L)', j.task) END
		ELSE 'see that something runs the tasks: a worker (billing_erp.databases), pg_cron (SELECT * FROM billing.schedule_jobs()), or CALL billing.run_due_jobs()'
	END AS advice
FROM judged j;
COMMENT ON VIEW billing.job_health IS
	'What is overdue, failing or running of the background tasks, and what to do about it; shows rows to members of billing_owner only';
COMMENT ON COLUMN billing.job_health.task IS 'Name of the task';
COMMENT ON COLUMN billing.job_health.state IS 'running, disabled, never ran, failing (its last run failed or died), overdue (due for more than three intervals and five minutes), or ok';
COMMENT ON COLUMN billing.job_health.since IS 'ok: when it last ended; running: when it started; failing: its first run since it last went well; overdue: when it was due';
COMMENT ON COLUMN billing.job_health.due_at IS 'When it is to start next; -infinity where it never ran, null where it is disabled';
COMMENT ON COLUMN billing.job_health.overdue_by IS 'Since when it should have started, where that is more than three intervals and five minutes ago';
COMMENT ON COLUMN billing.job_health.attempts IS 'Starts since the last success';
COMMENT ON COLUMN billing.job_health.last_error IS 'Why the last run failed; null where it succeeded';
COMMENT ON COLUMN billing.job_health.advice IS 'What to do';

GRANT SELECT ON billing.job_health TO billing_user;

-- A job for each task, so that a long one delays no other; one that bills runs in the background; and one for all, which makes up
-- soon for what was missed while the server was down, and for what failed.
CREATE OR REPLACE VIEW billing_internal.wanted_job WITH (security_invoker = true) AS
SELECT 'billing_erp ' || w.task AS job,
	billing_internal.cron_schedule(w.run_every) AS schedule,
	format('CALL billing.run_job(%L, if_due => true)', w.task) AS command
FROM billing.worker_status w
WHERE w.enabled
UNION ALL
VALUES ('billing_erp run_due_jobs', '*/10 * * * *', 'CALL billing.run_due_jobs()'),
	('billing_erp run_slices', '* * * * *', 'CALL billing.run_slices()');
COMMENT ON VIEW billing_internal.wanted_job IS
	'The jobs that pg_cron is to have: one for each enabled task, one for billing runs, and one for what was missed';
COMMENT ON COLUMN billing_internal.wanted_job.job IS 'Name of the job';
COMMENT ON COLUMN billing_internal.wanted_job.schedule IS 'Its times, in GMT';
COMMENT ON COLUMN billing_internal.wanted_job.command IS 'What it calls';
