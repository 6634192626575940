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
	'Runs every enabled task that is due, or all enabled tasks, once and here, in one transaction: done, failed or busy, where another process runs it; then what waits of billing runs in the background; for members of billing_owner';

-- The procedures commit, so they run as their caller; what they do, the three steps below do.
CREATE OR REPLACE PROCEDURE billing.run_due_jobs(everything boolean DEFAULT false)
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_run_due_jobs';
COMMENT ON PROCEDURE billing.run_due_jobs(boolean) IS
	'Runs every enabled task that is due, or all enabled tasks, each in transactions of its own; a failure stops no other task; then bills what waits of billing runs in the background; for members of billing_owner';

CREATE OR REPLACE PROCEDURE billing.run_job(task text, if_due boolean DEFAULT false)
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_run_job';
COMMENT ON PROCEDURE billing.run_job(text, boolean) IS
	'Runs one task now, or only if it is enabled and due, in transactions of its own; for members of billing_owner';

CREATE OR REPLACE PROCEDURE billing.run_slices()
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_run_slices';
COMMENT ON PROCEDURE billing.run_slices() IS
	'Bills what waits of billing runs in the background, a transaction for each slice, until nobody else is needed: where no worker serves the database, or to help one; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing_internal.due_tasks(everything boolean) RETURNS SETOF text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_due_tasks';
COMMENT ON FUNCTION billing_internal.due_tasks(boolean) IS
	'Step of billing.run_due_jobs(): the enabled tasks that are due, or all that are enabled';

CREATE OR REPLACE FUNCTION billing_internal.claim_task(task text, which integer) RETURNS timestamptz
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_claim_task';
COMMENT ON FUNCTION billing_internal.claim_task(text, integer) IS
	'Step of running a task: records its start and returns it, null where another process runs it or it is not wanted: 0 what is due, 1 or will be in a moment, 2 what is enabled, 3 any';

CREATE OR REPLACE FUNCTION billing_internal.perform_task(task text, started timestamptz) RETURNS boolean
	STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_perform_task';
COMMENT ON FUNCTION billing_internal.perform_task(text, timestamptz) IS
	'Step of running a task: does it and records its end; whether it went well, null where another process has claimed it since';

CREATE OR REPLACE FUNCTION billing_internal.claim_slice() RETURNS text
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_claim_slice';
COMMENT ON FUNCTION billing_internal.claim_slice() IS
	'Step of billing.run_slices(): takes a slice of a billing run on, and returns which, null where there is none';

CREATE OR REPLACE FUNCTION billing_internal.bill_claimed_slice() RETURNS boolean
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_bill_claimed_slice';
COMMENT ON FUNCTION billing_internal.bill_claimed_slice() IS
	'Step of billing.run_slices(): bills the slice that was taken on last; whether it went well';

CREATE OR REPLACE FUNCTION billing_internal.purge_task_runs() RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_purge_task_runs';
COMMENT ON FUNCTION billing_internal.purge_task_runs() IS
	'Task purge_task_runs: deletes what is older than the days for which each task''s log is kept, and what pg_cron noted about our jobs of whoever calls';

CREATE OR REPLACE FUNCTION billing.set_task(
	task text, run_every interval DEFAULT NULL, enabled boolean DEFAULT NULL, keep_days integer DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_set_task';
COMMENT ON FUNCTION billing.set_task(text, interval, boolean, integer) IS
	'Changes how often a task runs, whether it runs by itself, or how many days its log is kept; null leaves that as it is; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing.reset_task(task text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_reset_task';
COMMENT ON FUNCTION billing.reset_task(text) IS
	'Takes back what billing.set_task() decided about a task; for members of billing_owner';

CREATE OR REPLACE FUNCTION billing_internal.cron_schedule(run_every interval) RETURNS text
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_cron_schedule';
COMMENT ON FUNCTION billing_internal.cron_schedule(interval) IS
	'The schedule of cron for a task that runs at an interval: as often, or oftener where cron has no such times';

-- Both run as their caller, who must be allowed to use pg_cron and becomes the owner of the jobs.
CREATE OR REPLACE FUNCTION billing.schedule_jobs() RETURNS TABLE (how text, job text, schedule text, command text)
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_schedule_jobs';
COMMENT ON FUNCTION billing.schedule_jobs() IS
	'Has pg_cron run every enabled task, and returns the jobs; calling it again follows what was enabled, disabled or changed. Where pg_cron is in another database it returns the calls to be made there, where it is not, the lines for cron and the units for systemd; for members of billing_owner who may use pg_cron';

CREATE OR REPLACE FUNCTION billing.unschedule_jobs() RETURNS TABLE (how text, job text, schedule text, command text)
	SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_worker_unschedule_jobs';
COMMENT ON FUNCTION billing.unschedule_jobs() IS
	'Takes back billing.schedule_jobs() and returns the jobs that there were: the caller''s, to a superuser those of all roles';
