/*
 * worker_jobs.c
 *		Running tasks without a worker: by hand, from cron, by pg_cron.
 *
 * The procedures run as their caller, because only such a procedure may commit;
 * they take the same steps as the worker, through functions that run as
 * billing_owner and ask who calls.  A task acts as the system, whoever started it,
 * because what it does does not depend on that.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "worker/worker_private.h"

/* The task that starts billing runs, and with them work that is no task. */
#define STARTS_RUNS "start_due_runs"

/* The steps, whatever the search_path of the caller. */
static const char list_call[] = "SELECT billing_internal.due_tasks($1)";
static const char claim_call[] = "SELECT billing_internal.claim_task($1, $2)";
static const char perform_call[] = "SELECT billing_internal.perform_task($1, $2)";

static const char claim_slice_call[] = "SELECT billing_internal.claim_slice()";
static const char bill_slice_call[] = "SELECT billing_internal.bill_claimed_slice()";

/* Take a step between SPI_connect() and SPI_finish(); how many rows it gave. */
static uint64
take_step(const char *call, int nargs, Oid *types, Datum *values)
{
	if (SPI_execute_with_args(call, nargs, types, values, NULL, false, 0) != SPI_OK_SELECT)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("a step of running tasks could not be taken"),
						errdetail("The step is: %s", call)));
	return SPI_processed;
}

/* Run a task in two transactions, or within the caller's; false where it was not to be claimed. */
static bool
run_task(const char *task, BillingClaim which, bool atomic)
{
	Oid claim_types[2] = { TEXTOID, INT4OID };
	Oid perform_types[2] = { TEXTOID, TIMESTAMPTZOID };
	Datum values[2];
	bool lost = true;

	values[0] = CStringGetTextDatum(task);
	values[1] = Int32GetDatum(which);
	if (take_step(claim_call, 2, claim_types, values) > 0)
		values[1] = billing_core_value_copy(0, 0, FLOAT8PASSBYVAL, sizeof(TimestampTz), &lost);
	/* what takes the process down from here on is known as such */
	if (!atomic)
		SPI_commit();
	if (lost)
		return false;
	(void) take_step(perform_call, 2, perform_types, values);
	if (!atomic)
		SPI_commit();
	return true;
}

/* Bill a slice of a background run in two transactions, or within the caller's; false where there is none. */
static bool
run_slice(bool atomic)
{
	bool none = true;

	if (take_step(claim_slice_call, 0, NULL, NULL) > 0)
		(void) billing_core_value(0, 0, &none);
	if (!atomic)
		SPI_commit();
	if (none)
		return false;
	(void) take_step(bill_slice_call, 0, NULL, NULL);
	if (!atomic)
		SPI_commit();
	return true;
}

/* Bill the slices of background runs until there is none that nobody else bills. */
static void
run_slices(bool atomic)
{
	do
	{
		CHECK_FOR_INTERRUPTS();
	} while (run_slice(atomic));
}

/* Whether a procedure is called inside a transaction block, or from a function. */
static bool
is_atomic(FunctionCallInfo fcinfo)
{
	return fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		   castNode(CallContext, fcinfo->context)->atomic;
}

PG_FUNCTION_INFO_V1(billing_worker_run_due_jobs);
PG_FUNCTION_INFO_V1(billing_worker_run_job);
PG_FUNCTION_INFO_V1(billing_worker_run_slices);
PG_FUNCTION_INFO_V1(billing_worker_run_once);
PG_FUNCTION_INFO_V1(billing_worker_due_tasks);
PG_FUNCTION_INFO_V1(billing_worker_claim_task);
PG_FUNCTION_INFO_V1(billing_worker_perform_task);

/*
 * CALL billing.run_due_jobs(everything boolean)
 *
 * The tasks, one of which may start billing runs, then the slices of such runs.
 * Commits after every step, unless it is called inside a transaction block.
 */
Datum
billing_worker_run_due_jobs(PG_FUNCTION_ARGS)
{
	bool atomic = is_atomic(fcinfo);
	bool everything = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	Oid types[1] = { BOOLOID };
	Datum values[1] = { BoolGetDatum(everything) };
	char **tasks;
	uint64 count;
	uint64 i;

	billing_core_require_admin(0);
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	count = take_step(list_call, 1, types, values);
	tasks = palloc(sizeof(char *) * (count + 1));
	for (i = 0; i < count; i++)
		tasks[i] = billing_core_text_value(i, 0);
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) run_task(tasks[i], everything ? CLAIM_ENABLED : CLAIM_DUE, atomic);
	}
	run_slices(atomic);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * CALL billing.run_job(task text, if_due boolean)
 *
 * Runs one task: in any case, or if it is enabled and due.  The one that starts
 * billing runs goes on to bill them, because nobody else might for a while.
 */
Datum
billing_worker_run_job(PG_FUNCTION_ARGS)
{
	bool atomic = is_atomic(fcinfo);
	char *task = billing_core_arg_code(fcinfo, 0, "task");
	bool if_due = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);

	billing_core_require_admin(0);
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	if (run_task(task, if_due ? CLAIM_SOON : CLAIM_ANY, atomic))
	{
		if (strcmp(task, STARTS_RUNS) == 0)
			run_slices(atomic);
	}
	else if (!if_due)
		ereport(NOTICE, (errmsg("task \"%s\" is being run by another process", task)));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * CALL billing.run_slices()
 *
 * Does the work of a run worker, until nothing is left of it.
 */
Datum
billing_worker_run_slices(PG_FUNCTION_ARGS)
{
	bool atomic = is_atomic(fcinfo);

	billing_core_require_admin(0);
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	run_slices(atomic);
	SPI_finish();
	PG_RETURN_VOID();
}

/* Run one task of billing.run_worker_once() and put its row into the result. */
static void
run_one(const char *task, bool everything, ReturnSetInfo *result)
{
	Datum values[4] = { 0 };
	bool nulls[4] = { false, false, true, true };
	TimestampTz started = 0;
	char *error = NULL;

	values[0] = CStringGetTextDatum(task);
	if (billing_worker_claim(task, everything, &started) &&
		billing_worker_perform(task, started, &error))
	{
		values[1] = CStringGetTextDatum(error == NULL ? "done" : "failed");
		values[2] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
										TimestampTzGetDatum(started));
		nulls[2] = false;
		nulls[3] = error == NULL;
		if (error != NULL)
			values[3] = CStringGetTextDatum(error);
	}
	else
		values[1] = CStringGetTextDatum("busy");
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Bill the slices of background runs, with a row for each that ends the transaction done or failed. */
static void
run_all_slices(ReturnSetInfo *result)
{
	Datum values[4] = { 0 };
	bool nulls[4] = { false, false, false, true };
	bool none;

	SPI_connect();
	for (;;)
	{
		TimestampTz started = GetCurrentTimestamp();

		CHECK_FOR_INTERRUPTS();
		(void) take_step(claim_slice_call, 0, NULL, NULL);
		values[0] = billing_core_value_copy(0, 0, false, -1, &none);
		if (none)
			break;
		(void) take_step(bill_slice_call, 0, NULL, NULL);
		values[1] =
			CStringGetTextDatum(DatumGetBool(billing_core_value(0, 0, NULL)) ? "done" : "failed");
		values[2] = DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(GetCurrentTimestamp()),
										TimestampTzGetDatum(started));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
}

/*
 * billing.run_worker_once(everything boolean)
 * RETURNS TABLE (task text, outcome text, duration interval, error text)
 *
 * One row per enabled task that is due, or per enabled task, then one per slice
 * of a background run, all of them in the caller's transaction.
 */
Datum
billing_worker_run_once(PG_FUNCTION_ARGS)
{
	bool everything = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
	int32 actor = billing_core_save_actor();
	List *tasks;
	ListCell *cell;

	billing_core_require_admin(0);
	InitMaterializedSRF(fcinfo, 0);
	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	tasks = billing_worker_list(everything);
	foreach (cell, tasks)
	{
		CHECK_FOR_INTERRUPTS();
		run_one(lfirst(cell), everything, (ReturnSetInfo *) fcinfo->resultinfo);
	}
	run_all_slices((ReturnSetInfo *) fcinfo->resultinfo);
	billing_core_restore_actor(actor);
	return (Datum) 0;
}

/* billing_internal.due_tasks(everything boolean) RETURNS SETOF text */
Datum
billing_worker_due_tasks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32 actor = billing_core_save_actor();
	bool nulls[1] = { false };
	List *tasks;
	ListCell *cell;

	billing_core_require_admin(0);
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	tasks = billing_worker_list(!PG_ARGISNULL(0) && PG_GETARG_BOOL(0));
	billing_core_restore_actor(actor);
	foreach (cell, tasks)
	{
		Datum values[1] = { CStringGetTextDatum(lfirst(cell)) };

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/*
 * billing_internal.claim_task(task text, which integer) RETURNS timestamptz
 *
 * Its start, or null where another process runs it or it is not to be run.
 */
Datum
billing_worker_claim_task(PG_FUNCTION_ARGS)
{
	char *task = billing_core_arg_code(fcinfo, 0, "task");
	int32 which = billing_core_arg_int(fcinfo, 1, "claim", CLAIM_DUE, CLAIM_ANY);
	int32 actor = billing_core_save_actor();
	TimestampTz started = 0;
	bool claimed;

	billing_core_require_admin(0);
	billing_worker_check_task(task);
	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	claimed = billing_worker_claim_if(task, (BillingClaim) which, &started);
	billing_core_restore_actor(actor);
	if (!claimed)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(started);
}

/*
 * billing_internal.perform_task(task text, started timestamptz) RETURNS boolean
 *
 * Whether it went well; null where another process has claimed it since.
 */
Datum
billing_worker_perform_task(PG_FUNCTION_ARGS)
{
	char *task = billing_core_arg_code(fcinfo, 0, "task");
	int32 actor = billing_core_save_actor();
	char *error = NULL;
	bool performed;

	billing_core_require_admin(0);
	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	performed = billing_worker_perform(task, PG_GETARG_TIMESTAMPTZ(1), &error);
	billing_core_restore_actor(actor);
	if (!performed)
		PG_RETURN_NULL();
	if (error != NULL)
		ereport(WARNING,
				(errmsg("billing_erp task \"%s\" failed", task), errdetail_internal("%s", error),
				 errhint("See billing.job_health and billing.task_run.")));
	PG_RETURN_BOOL(error == NULL);
}
