-- Tasks: when they are due, running them by hand or by pg_cron, settings.

CREATE OR REPLACE FUNCTION billing_internal.library_version() RETURNS text
	STABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_library_version';
COMMENT ON FUNCTION billing_internal.library_version() IS
	'The version of the loaded library: a worker waits while it differs from the extension''s';

CREATE OR REPLACE FUNCTION billing_internal.task_due_at(
	last_start timestamptz, last_end timestamptz, attempts integer, run_every interval) RETURNS timestamptz
	LANGUAGE SQL STABLE
RETURN CASE
	WHEN last_start IS NULL THEN '-infinity'
	WHEN attempts = 0 THEN last_start + run_every
	-- Its process died: once at once, then with growing pauses, so that a task that crashes the server leaves it time.
	WHEN attempts = 1 AND (last_end IS NULL OR last_end < last_start) THEN last_start
	ELSE last_start + least(run_every, interval '1 minute' * (1 << least(attempts - 1, 10)))
END;
COMMENT ON FUNCTION billing_internal.task_due_at(timestamptz, timestamptz, integer, interval) IS
	'When a task is to start again; -infinity where it never ran; after failures, at growing distance up to its interval';
GRANT EXECUTE ON FUNCTION billing_internal.task_due_at(timestamptz, timestamptz, integer, interval) TO billing_user;

CREATE OR REPLACE FUNCTION billing_internal.record_verification() RETURNS void
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	INSERT INTO billing.verification (entity_id, invariant, violations, example)
	SELECT e.entity_id, v.invariant, v.violations, v.example
	FROM billing.legal_entity e CROSS JOIN LATERAL billing.verify(e.code) v
	UNION ALL
	SELECT 0, v.invariant, v.violations, v.example
	FROM billing_internal.verify_audit(0) v;
END;
COMMENT ON FUNCTION billing_internal.record_verification() IS
	'Task verify: runs billing.verify() for every entity and keeps what it found';

CREATE OR REPLACE FUNCTION billing.run_worker_once(everything boolean DEFAULT false)
	RETURNS TABLE (task text, outcome text, duration interval, error text)
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_run_once';
COMMENT ON FUNCTION billing.run_worker_once(boolean) IS
	'Runs every enabled task that is due, or all enabled tasks, once and here, in one transaction: done, failed or busy, where another process runs it; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.set_task(
	task text, run_every interval DEFAULT NULL, enabled boolean DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_set_task';
COMMENT ON FUNCTION billing.set_task(text, interval, boolean) IS
	'Changes how often a task runs, or whether it runs by itself; null leaves that as it is; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.reset_task(task text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_reset_task';
COMMENT ON FUNCTION billing.reset_task(text) IS
	'Takes back what billing.set_task() decided about a task; for members of billing_owner';

-- Both run as their caller, who must be allowed to use pg_cron and becomes the owner of the job.
CREATE OR REPLACE FUNCTION billing.schedule_jobs() RETURNS bigint
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_schedule_jobs';
COMMENT ON FUNCTION billing.schedule_jobs() IS
	'Has pg_cron call billing.run_worker_once() every minute and returns the job''s id: for servers that do not preload billing_erp; for members of billing_owner who may use pg_cron';

CREATE OR REPLACE FUNCTION billing.unschedule_jobs() RETURNS bigint
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_unschedule_jobs';
COMMENT ON FUNCTION billing.unschedule_jobs() IS
	'Takes back billing.schedule_jobs() and returns how many jobs there were';
