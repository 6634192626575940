/*
 * worker_api.c
 *		What administrators decide about tasks.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/worker_private.h"

/* $1 task */
static BillingStatement find_task = {
	"SELECT 1 FROM billing.task WHERE task = $1", 1, { TEXTOID }, NULL
};

/* $1 task, $2 interval or null, $3 enabled or null, $4 days or null */
static BillingStatement put_setting = {
	"INSERT INTO billing.task_setting AS s (task, run_every, enabled, keep_days)"
	" VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (task) DO UPDATE SET run_every = coalesce(excluded.run_every, s.run_every),"
	" enabled = coalesce(excluded.enabled, s.enabled),"
	" keep_days = coalesce(excluded.keep_days, s.keep_days)",
	4,
	{ TEXTOID, INTERVALOID, BOOLOID, INT4OID },
	NULL
};

/* $1 task */
static BillingStatement drop_setting = {
	"DELETE FROM billing.task_setting WHERE task = $1", 1, { TEXTOID }, NULL
};

/* Go on for a task that exists. */
void
billing_worker_check_task(const char *task)
{
	Datum values[1];
	bool found;

	values[0] = CStringGetTextDatum(task);
	SPI_connect();
	found = billing_core_run(&find_task, values, NULL, true) > 0;
	SPI_finish();
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("task \"%s\" does not exist", task),
				 errhint("SELECT task FROM billing.worker_status lists them.")));
}

/* Go on for a member of billing_owner, and for a task that exists; its name as a value. */
static Datum
arg_task(FunctionCallInfo fcinfo)
{
	char *task = billing_core_arg_code(fcinfo, 0, "task");

	billing_core_require_admin(0);
	billing_worker_check_task(task);
	return CStringGetTextDatum(task);
}

/* Refuse an interval at which nothing can be run, or never is. */
static void
check_run_every(Interval *value)
{
	Interval least = { 0 };
	Interval most = { 0 };

	least.time = USECS_PER_SEC;
	most.day = 366;
	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(value),
										 IntervalPGetDatum(&least))) ||
		DatumGetBool(
			DirectFunctionCall2(interval_gt, IntervalPGetDatum(value), IntervalPGetDatum(&most))))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("interval of a task must be between 1 second and 366 days"),
						errdetail("The value is %s.",
								  DatumGetCString(
									  DirectFunctionCall1(interval_out, IntervalPGetDatum(value)))),
						errhint("To stop a task, call billing.set_task(task, enabled => false).")));
}

PG_FUNCTION_INFO_V1(billing_worker_set_task);
PG_FUNCTION_INFO_V1(billing_worker_reset_task);
PG_FUNCTION_INFO_V1(billing_worker_library_version);

/* billing.set_task(task text, run_every interval, enabled boolean, keep_days integer) RETURNS void */
Datum
billing_worker_set_task(PG_FUNCTION_ARGS)
{
	Datum values[4];
	char nulls[5] = "    ";
	bool decides = false;
	int i;

	values[0] = arg_task(fcinfo);
	for (i = 1; i < 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		nulls[i] = PG_ARGISNULL(i) ? 'n' : ' ';
		decides = decides || !PG_ARGISNULL(i);
	}
	if (!decides)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("nothing is said about the task"),
						errhint("Give an interval, whether it is enabled, or how many days its log "
								"is kept; billing.reset_task() takes back what was decided.")));
	if (!PG_ARGISNULL(1))
		check_run_every(PG_GETARG_INTERVAL_P(1));
	if (!PG_ARGISNULL(3))
		(void) billing_core_arg_int(fcinfo, 3, "number of days", 1, 3660);
	SPI_connect();
	billing_core_run(&put_setting, values, nulls, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.reset_task(task text) RETURNS void: the task runs again as the extension defines it */
Datum
billing_worker_reset_task(PG_FUNCTION_ARGS)
{
	Datum values[1];

	values[0] = arg_task(fcinfo);
	SPI_connect();
	billing_core_run(&drop_setting, values, NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing_internal.library_version() RETURNS text */
Datum
billing_worker_library_version(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_TEXT_P(cstring_to_text(BILLING_WORKER_VERSION));
}
