/*
 * worker_log.c
 *		Keeps the log of tasks short, and what pg_cron notes about our jobs, which
 *		it never deletes itself.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "worker/worker_private.h"

/* the log of a task that is no longer there is kept as long as that of this one */
static BillingStatement purge_log = {
	"DELETE FROM billing.task_run l WHERE l.started_at < now() - make_interval(days => coalesce("
	" (SELECT w.keep_days FROM billing.worker_status w WHERE w.task = l.task),"
	" (SELECT w.keep_days FROM billing.worker_status w WHERE w.task = 'purge_task_runs'), 7))",
	0,
	{ 0 },
	NULL
};

static BillingStatement days_of_details = {
	"SELECT keep_days FROM billing.worker_status WHERE task = 'purge_task_runs'", 0, { 0 }, NULL
};

static BillingStatement may_purge_details = {
	"SELECT CASE WHEN has_schema_privilege('cron', 'USAGE') THEN coalesce("
	" has_table_privilege(to_regclass('cron.job_run_details'), 'SELECT')"
	" AND has_table_privilege(to_regclass('cron.job_run_details'), 'DELETE'), false)"
	" ELSE false END",
	0,
	{ 0 },
	NULL
};

/*
 * $1 days.  Our jobs are known by their commands, because a job that was taken
 * back leaves its details behind.  A job that could not be started has no time;
 * it is as old as those before it.
 */
static BillingStatement purge_details = {
	"WITH ours AS (SELECT d.runid, coalesce(d.end_time, d.start_time) AS time"
	"  FROM cron.job_run_details d WHERE d.database = current_database()"
	"  AND d.command LIKE 'CALL billing.%')"
	" DELETE FROM cron.job_run_details d WHERE d.runid IN (SELECT o.runid FROM ours o"
	"  WHERE coalesce(o.time, (SELECT min(n.time) FROM ours n WHERE n.runid > o.runid))"
	"   < now() - make_interval(days => $1))",
	1,
	{ INT4OID },
	NULL
};

/*
 * Delete what pg_cron noted about our jobs, as the session user: its row-level
 * security lets a role at what its own jobs did, and billing_owner, who cannot
 * log in, has none.
 */
static void
purge_cron_details(int32 days)
{
	Oid user;
	int context;
	Datum values[1] = { Int32GetDatum(days) };

	if (!OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(GetSessionUserId(), context | SECURITY_LOCAL_USERID_CHANGE);
	if (billing_core_run(&may_purge_details, NULL, NULL, true) > 0 &&
		DatumGetBool(billing_core_value(0, 0, NULL)))
		billing_core_run(&purge_details, values, NULL, false);
	SetUserIdAndSecContext(user, context);
}

PG_FUNCTION_INFO_V1(billing_worker_purge_task_runs);

/* billing_internal.purge_task_runs() RETURNS void */
Datum
billing_worker_purge_task_runs(PG_FUNCTION_ARGS)
{
	int32 days = 0;

	(void) fcinfo;
	SPI_connect();
	billing_core_run(&purge_log, NULL, NULL, false);
	if (billing_core_run(&days_of_details, NULL, NULL, true) > 0)
		days = DatumGetInt32(billing_core_value(0, 0, NULL));
	if (days > 0)
		purge_cron_details(days);
	SPI_finish();
	PG_RETURN_VOID();
}
