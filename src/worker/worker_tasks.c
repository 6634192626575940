/*
 * worker_tasks.c
 *		The steps of running a task, which the worker takes in transactions of
 *		their own, and billing.run_worker_once(), which takes them in one.
 *
 * Whoever runs a task holds its row of billing.task_state locked from before
 * the task's first statement until its transaction ends.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "worker/worker_private.h"

/* The part of an error's text that is kept. */
#define MAX_ERROR_LENGTH 4000

/* $1 whether those that are not due are wanted too */
static BillingStatement list_tasks = {
	"SELECT task FROM billing.worker_status WHERE enabled AND ($1 OR is_due) ORDER BY task",
	1,
	{ BOOLOID },
	NULL
};

/* $1 task: no row where another process runs it */
static BillingStatement lock_state = {
	"SELECT 1 FROM billing.task_state WHERE task = $1 FOR UPDATE SKIP LOCKED", 1, { TEXTOID }, NULL
};

/* $1 task, $2 the start that the caller recorded: no row where another process started it since */
static BillingStatement lock_started = {
	"SELECT 1 FROM billing.task_state WHERE task = $1 AND last_start = $2 FOR UPDATE SKIP LOCKED",
	2,
	{ TEXTOID, TIMESTAMPTZOID },
	NULL
};

/* $1 task, $2 whether it need not be due */
static BillingStatement start_task = {
	"UPDATE billing.task_state r SET last_start = clock_timestamp(), attempts = r.attempts + 1"
	" FROM billing.worker_status w WHERE r.task = $1 AND w.task = r.task AND w.enabled"
	" AND ($2 OR w.is_due) RETURNING r.last_start",
	2,
	{ TEXTOID, BOOLOID },
	NULL
};

/* $1 task, $2 error or null */
static BillingStatement end_task = {
	"UPDATE billing.task_state SET last_end = c.now, last_duration = c.now - last_start,"
	" runs = runs + 1, last_error = $2,"
	" failures = failures + CASE WHEN $2 IS NULL THEN 0 ELSE 1 END,"
	" last_failure = CASE WHEN $2 IS NULL THEN last_failure ELSE c.now END,"
	" attempts = CASE WHEN $2 IS NULL THEN 0 ELSE attempts END"
	" FROM (SELECT clock_timestamp() AS now) c WHERE task = $1 RETURNING last_duration",
	2,
	{ TEXTOID, TEXTOID },
	NULL
};

/* $1 task */
static BillingStatement find_function = {
	"SELECT t.function_name, p.oid FROM billing.task t LEFT JOIN pg_proc p"
	" ON p.pronamespace = 'billing_internal'::regnamespace AND p.proname = t.function_name"
	" AND p.pronargs = 0 AND p.prorettype = 'void'::regtype AND p.prokind = 'f'"
	" WHERE t.task = $1",
	1,
	{ TEXTOID },
	NULL
};

/* The names of the enabled tasks that are due, or of all enabled tasks, in the caller's memory. */
List *
billing_worker_list(bool everything)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;
	List *tasks = NIL;
	Datum values[1];
	uint64 count;
	uint64 i;

	values[0] = BoolGetDatum(everything);
	SPI_connect();
	count = billing_core_run(&list_tasks, values, NULL, true);
	spi_context = MemoryContextSwitchTo(context);
	for (i = 0; i < count; i++)
		tasks = lappend(tasks, TextDatumGetCString(billing_core_value(i, 0, NULL)));
	MemoryContextSwitchTo(spi_context);
	SPI_finish();
	return tasks;
}

/*
 * Lock a task and record that it starts, and when.  False where another process
 * runs it, and where it has stopped being due since it was listed.
 */
bool
billing_worker_claim(const char *task, bool everything, TimestampTz *started)
{
	Datum values[2];
	bool claimed;

	values[0] = CStringGetTextDatum(task);
	values[1] = BoolGetDatum(everything);
	SPI_connect();
	/* a statement of its own: the second one sees what a process before us recorded */
	claimed = billing_core_run(&lock_state, values, NULL, false) > 0 &&
			  billing_core_run(&start_task, values, NULL, false) > 0;
	if (claimed)
		*started = DatumGetTimestampTz(billing_core_value(0, 0, NULL));
	SPI_finish();
	return claimed;
}

/* Lock a task that was claimed in an earlier transaction, unless another process has claimed it since. */
bool
billing_worker_hold(const char *task, TimestampTz started)
{
	Datum values[2];
	bool held;

	values[0] = CStringGetTextDatum(task);
	values[1] = TimestampTzGetDatum(started);
	SPI_connect();
	held = billing_core_run(&lock_started, values, NULL, false) > 0;
	SPI_finish();
	return held;
}

/* Call the function of a task; whatever it raises is the caller's to catch. */
void
billing_worker_call(const char *task)
{
	LOCAL_FCINFO(call, 0);
	FmgrInfo info;
	Datum values[1];
	Oid function = InvalidOid;
	char *name = NULL;
	bool missing = true;

	values[0] = CStringGetTextDatum(task);
	SPI_connect();
	if (billing_core_run(&find_function, values, NULL, true) > 0)
	{
		name = billing_core_text_value(0, 0);
		function = DatumGetObjectId(billing_core_value(0, 1, &missing));
	}
	SPI_finish();
	if (missing)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("function billing_internal.%s() of task \"%s\" does not exist",
							   name != NULL ? name : "?", task),
						errdetail("A task's function takes no arguments and returns void."),
						errhint("Install the extension's script anew, or update the extension.")));
	fmgr_info(function, &info);
	InitFunctionCallInfoData(*call, &info, 0, InvalidOid, NULL, NULL);
	(void) FunctionCallInvoke(call);
	CommandCounterIncrement();
}

/* Record how a task that this process holds ended; error is NULL where it went well. */
void
billing_worker_record(const char *task, const char *error)
{
	Datum values[2];

	values[0] = CStringGetTextDatum(task);
	values[1] = error == NULL ? (Datum) 0 : CStringGetTextDatum(error);
	SPI_connect();
	billing_core_run(&end_task, values, error == NULL ? " n" : NULL, false);
	SPI_finish();
}

/* An error as it is kept: SQLSTATE, message, detail, hint. */
char *
billing_worker_describe(ErrorData *error)
{
	char *text =
		psprintf("%s: %s%s%s%s%s", unpack_sql_state(error->sqlerrcode),
				 error->message != NULL ? error->message : "no message",
				 error->detail != NULL ? "\nDETAIL: " : "",
				 error->detail != NULL ? error->detail : "", error->hint != NULL ? "\nHINT: " : "",
				 error->hint != NULL ? error->hint : "");

	text[pg_mbcliplen(text, strlen(text), MAX_ERROR_LENGTH)] = '\0';
	return text;
}

/*
 * Call a task's function in a subtransaction, so that its failure takes back
 * nothing else.  NULL, or its error.  A cancelled call by hand is cancelled as
 * a whole.
 */
static char *
call_in_subtransaction(const char *task)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		billing_worker_call(task);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		if (data->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		error = billing_worker_describe(data);
		FreeErrorData(data);
	}
	PG_END_TRY();
	return error;
}

/* Run one task and put its row into the result. */
static void
run_one(const char *task, bool everything, ReturnSetInfo *result)
{
	Datum values[4] = { 0 };
	bool nulls[4] = { false, false, true, true };
	TimestampTz started = 0;
	char *error = NULL;

	values[0] = CStringGetTextDatum(task);
	if (billing_worker_claim(task, everything, &started))
	{
		error = call_in_subtransaction(task);
		billing_worker_record(task, error);
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

PG_FUNCTION_INFO_V1(billing_worker_run_once);

/*
 * billing.run_worker_once(everything boolean)
 * RETURNS TABLE (task text, outcome text, duration interval, error text)
 *
 * One row per enabled task that is due, or per enabled task.  The tasks run as
 * the system, whoever calls, because what they do does not depend on that.
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
	billing_core_restore_actor(actor);
	return (Datum) 0;
}
