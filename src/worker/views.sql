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
COMMENT ON COLUMN billing.worker_status.description IS 'What it does';

GRANT SELECT ON billing.worker_status TO billing_user;
