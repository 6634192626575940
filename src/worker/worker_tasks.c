/*
 * worker_tasks.c
 *		The steps of running a task: claim it, hold it, call it, record its end.
 *
 * The worker and the procedures take them in transactions of their own,
 * billing.run_worker_once() takes them in one.  Whoever runs a task holds its
 * row of billing.task_state locked from before the task's first statement until
 * its transaction ends.  The log has a row from the claim on.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
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

/*
 * $1 task, $2 which: see BillingClaim, $3 who.  A task that pg_cron starts comes a little early now and
 * then, and would miss its turn.
 */
static BillingStatement start_task = {
	"WITH started AS (UPDATE billing.task_state r"
	"  SET last_start = clock_timestamp(), attempts = r.attempts + 1"
	"  FROM billing.worker_status w WHERE r.task = $1 AND w.task = r.task AND CASE $2"
	"   WHEN 0 THEN w.is_due"
	"   WHEN 1 THEN w.enabled AND clock_timestamp() >="
	"    w.due_at - least(w.run_every / 2, interval '30 seconds')"
	"   WHEN 2 THEN w.enabled ELSE true END"
	"  RETURNING r.task, r.last_start),"
	" logged AS (INSERT INTO billing.task_run (task, started_at, run_by, process_id)"
	"  SELECT task, last_start, $3, pg_backend_pid() FROM started"
	"  ON CONFLICT (task, started_at) DO NOTHING)"
	" SELECT last_start FROM started",
	3,
	{ TEXTOID, INT4OID, TEXTOID },
	NULL
};

/* $1 task, $2 error or null */
static BillingStatement end_task = {
	"WITH ended AS (UPDATE billing.task_state"
	"  SET last_end = c.now, last_duration = c.now - last_start,"
	"  runs = runs + 1, last_error = $2,"
	"  failures = failures + CASE WHEN $2 IS NULL THEN 0 ELSE 1 END,"
	"  last_failure = CASE WHEN $2 IS NULL THEN last_failure ELSE c.now END,"
	"  attempts = CASE WHEN $2 IS NULL THEN 0 ELSE attempts END"
	"  FROM (SELECT clock_timestamp() AS now) c WHERE task = $1"
	"  RETURNING task, last_start, last_end)"
	" UPDATE billing.task_run l SET ended_at = e.last_end, error = $2,"
	" outcome = CASE WHEN $2 IS NULL THEN 'done' ELSE 'failed' END"
	" FROM ended e WHERE l.task = e.task AND l.started_at = e.last_start",
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

/* Who runs tasks in this process, for the log: a worker, or a login. */
static const char *
runner(void)
{
	return billing_core_login_person() == BILLING_SYSTEM_PERSON
			   ? "worker"
			   : GetUserNameFromId(GetSessionUserId(), false);
}

/*
 * Lock a task and record that it starts, and when.  False where another process
 * runs it, and where it is not one of those that are wanted.
 */
bool
billing_worker_claim_if(const char *task, BillingClaim which, TimestampTz *started)
{
	Datum values[3];
	bool claimed;

	values[0] = CStringGetTextDatum(task);
	values[1] = Int32GetDatum(which);
	values[2] = CStringGetTextDatum(runner());
	SPI_connect();
	/* a statement of its own: the second one sees what a process before us recorded */
	claimed = billing_core_run(&lock_state, values, NULL, false) > 0 &&
			  billing_core_run(&start_task, values, NULL, false) > 0;
	if (claimed)
		*started = DatumGetTimestampTz(billing_core_value(0, 0, NULL));
	SPI_finish();
	return claimed;
}

/* The same for a task that is due, or for any enabled task. */
bool
billing_worker_claim(const char *task, bool everything, TimestampTz *started)
{
	return billing_worker_claim_if(task, everything ? CLAIM_ENABLED : CLAIM_DUE, started);
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

/* The step of billing_worker_perform(). */
static void
call_task(void *task)
{
	billing_worker_call(task);
}

/*
 * Run a task that was claimed, and record its end: with its error, where it
 * fails; that takes back nothing else.  False where another process has claimed it since.
 */
bool
billing_worker_perform(const char *task, TimestampTz started, char **error)
{
	ErrorData *data;

	if (!billing_worker_hold(task, started))
		return false;
	data = billing_core_try(call_task, (void *) task);
	*error = data == NULL ? NULL : billing_worker_describe(data);
	billing_worker_record(task, *error);
	return true;
}
