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

/* $1 task, $2 interval or null, $3 enabled or null */
static BillingStatement put_setting = {
	"INSERT INTO billing.task_setting AS s (task, run_every, enabled) VALUES ($1, $2, $3)"
	" ON CONFLICT (task) DO UPDATE SET run_every = coalesce(excluded.run_every, s.run_every),"
	" enabled = coalesce(excluded.enabled, s.enabled)",
	3,
	{ TEXTOID, INTERVALOID, BOOLOID },
	NULL
};

/* $1 task */
static BillingStatement drop_setting = {
	"DELETE FROM billing.task_setting WHERE task = $1", 1, { TEXTOID }, NULL
};

/* Go on for a member of billing_owner, and for a task that exists; its name as a value. */
static Datum
arg_task(FunctionCallInfo fcinfo)
{
	char *task = billing_core_arg_code(fcinfo, 0, "task");
	Datum values[1];
	bool found;

	billing_core_require_admin(0);
	values[0] = CStringGetTextDatum(task);
	SPI_connect();
	found = billing_core_run(&find_task, values, NULL, true) > 0;
	SPI_finish();
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("task \"%s\" does not exist", task),
				 errhint("SELECT task FROM billing.worker_status lists them.")));
	return values[0];
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

/* billing.set_task(task text, run_every interval, enabled boolean) RETURNS void */
Datum
billing_worker_set_task(PG_FUNCTION_ARGS)
{
	Datum values[3];
	char nulls[4] = "   ";

	values[0] = arg_task(fcinfo);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("nothing is said about the task"),
						errhint("Give an interval, or whether it is enabled; billing.reset_task() "
								"takes back what was decided.")));
	if (!PG_ARGISNULL(1))
		check_run_every(PG_GETARG_INTERVAL_P(1));
	nulls[1] = PG_ARGISNULL(1) ? 'n' : ' ';
	nulls[2] = PG_ARGISNULL(2) ? 'n' : ' ';
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
