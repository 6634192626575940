/*
 * worker_main.c
 *		The worker of one database: at every interval, runs what is due, each
 *		task in transactions of its own.
 *
 * Its session user is billing_owner, which is no superuser.  An error of a task
 * is recorded and hurts nothing else; any other error ends the process, and the
 * launcher starts a new one.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "core/core.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker_private.h"

/* The class of the advisory lock of a database's only worker. */
#define LOCK_CLASS 0xb111

/* What a worker finds in its database. */
typedef enum Condition
{
	UNKNOWN,
	NO_EXTENSION,
	OTHER_VERSION,
	RESTORING,
	READY
} Condition;

static BillingStatement look_around = {
	"SELECT e.extversion, EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d"
	" ON d.oid = s.setdatabase WHERE d.datname = current_database() AND s.setrole = 0"
	" AND 'billing_erp.restoring=on' = ANY (s.setconfig))"
	" FROM pg_extension e WHERE e.extname = 'billing_erp'",
	0,
	{ 0 },
	NULL
};

static char *database_name;

/* Who the process is outside of its transactions. */
static Oid outer_user;
static int outer_context;

/*
 * Begin a transaction as billing_owner.  SECURITY_LOCAL_USERID_CHANGE keeps any
 * code that is reached from becoming another user.
 */
static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	GetUserIdAndSecContext(&outer_user, &outer_context);
	SetUserIdAndSecContext(billing_core_owner(), outer_context | SECURITY_LOCAL_USERID_CHANGE);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit it, deferred triggers included, before the user changes back. */
static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(outer_user, outer_context);
}

/* Settings of the server or the database that are meant for people do not reach the tasks. */
static void
override_settings(void)
{
	static const char *const settings[][2] = { { "search_path", "pg_catalog, pg_temp" },
											   { "default_transaction_isolation",
												 "read committed" },
											   { "row_security", "on" },
											   { "statement_timeout", "0" },
											   { "lock_timeout", "0" },
											   { "idle_in_transaction_session_timeout", "0" },
											   { "transaction_timeout", "0" } };
	size_t i;

	for (i = 0; i < lengthof(settings); i++)
	{
		/* not every server has every timeout */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/*
 * Take the lock that only one worker of a database holds, until it ends.  Like
 * an advisory lock it outlives transactions and their failures; no user can
 * take it, because theirs are of the classes 1 and 2.
 */
static bool
become_only_worker(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Connect, and become billing_owner; false where the database has a worker. */
static bool
connect_to_database(void)
{
	BillingWorkerStart message;
	bool alone;

	memcpy(&message, MyBgworkerEntry->bgw_extra, sizeof(message));
	BackgroundWorkerInitializeConnectionByOid(message.database, BILLING_WORKER_ROLE(message.owner),
											  BILLING_WORKER_FLAGS);
	override_settings();
	StartTransactionCommand();
	database_name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	alone = become_only_worker();
	if (GetSessionUserId() != message.owner)
		SetConfigOption("session_authorization", "billing_owner", PGC_SUSET, PGC_S_SESSION);
	CommitTransactionCommand();
	billing_core_become_system();
	return alone;
}

/* See whether there is something to work for. */
static Condition
look(char **version)
{
	Condition condition = NO_EXTENSION;

	SPI_connect();
	if (billing_core_run(&look_around, NULL, NULL, true) > 0)
	{
		*version = billing_core_text_value(0, 0);
		if (DatumGetBool(billing_core_value(0, 1, NULL)))
			condition = RESTORING;
		else if (strcmp(*version, BILLING_WORKER_VERSION) != 0)
			condition = OTHER_VERSION;
		else
			condition = READY;
	}
	SPI_finish();
	return condition;
}

/* Say, once per change, what the worker does. */
static void
report(Condition condition, const char *version)
{
	static Condition reported = UNKNOWN;

	if (condition == reported)
		return;
	reported = condition;
	switch (condition)
	{
		case NO_EXTENSION:
			ereport(LOG,
					(errmsg("billing_erp worker waits: database \"%s\" does not have the extension",
							database_name)));
			break;
		case OTHER_VERSION:
			ereport(
				WARNING,
				(errmsg("billing_erp worker waits: extension in database \"%s\" has version %s, "
						"library has %s",
						database_name, version, BILLING_WORKER_VERSION),
				 errhint("Run ALTER EXTENSION billing_erp UPDATE, or restart the server with the "
						 "library of that version.")));
			break;
		case RESTORING:
			ereport(LOG, (errmsg("billing_erp worker waits: database \"%s\" is being restored",
								 database_name)));
			break;
		default:
			ereport(LOG,
					(errmsg("billing_erp worker is at work in database \"%s\"", database_name)));
	}
}

/* The tasks that are due now, in the caller's memory. */
static List *
find_work(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *tasks = NIL;
	char *version = NULL;
	Condition condition;

	begin();
	condition = look(&version);
	report(condition, version);
	/* the setting of the database reaches new sessions only */
	if (billing_core_restoring != (condition == RESTORING))
		SetConfigOption("billing_erp.restoring", condition == RESTORING ? "on" : "off", PGC_SUSET,
						PGC_S_OVERRIDE);
	MemoryContextSwitchTo(context);
	if (condition == READY)
		tasks = billing_worker_list(false);
	commit();
	MemoryContextSwitchTo(context);
	return tasks;
}

/*
 * Run a task that this process has claimed.  NULL, or its error: its transaction
 * is aborted then.
 */
static char *
run_claimed(const char *task, TimestampTz started)
{
	MemoryContext context = CurrentMemoryContext;
	char *volatile error = NULL;

	PG_TRY();
	{
		begin();
		if (billing_worker_hold(task, started))
		{
			billing_worker_call(task);
			billing_worker_record(task, NULL);
		}
		commit();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = billing_worker_describe(CopyErrorData());
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

/*
 * Run a task, unless another process does.  Its start is committed first, so
 * that a task which takes the process down is known as such.
 */
static void
run(const char *task)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz started = 0;
	bool claimed;
	char *error;

	pgstat_report_activity(STATE_RUNNING, task);
	begin();
	claimed = billing_worker_claim(task, false, &started);
	commit();
	MemoryContextSwitchTo(context);
	if (!claimed)
		return;
	error = run_claimed(task, started);
	if (error == NULL)
		return;
	ereport(WARNING,
			(errmsg("billing_erp task \"%s\" failed in database \"%s\"", task, database_name),
			 errdetail_internal("%s", error)));
	begin();
	if (billing_worker_hold(task, started))
		billing_worker_record(task, error);
	commit();
	MemoryContextSwitchTo(context);
}

/* Run what is due, then tell the statistics. */
static void
run_due_tasks(void)
{
	List *tasks;
	ListCell *cell;

	pgstat_report_activity(STATE_RUNNING, "looking for due tasks");
	tasks = find_work();
	foreach (cell, tasks)
	{
		CHECK_FOR_INTERRUPTS();
		run(lfirst(cell));
	}
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* The worker's process. */
void
billing_worker_main(Datum arg)
{
	MemoryContext context;
	uint32 wait_event;

	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!connect_to_database())
	{
		ereport(LOG, (errmsg("%s ends: the database has a worker", MyBgworkerEntry->bgw_name)));
		proc_exit(1);
	}
	wait_event = billing_wait_event("BillingWorkerMain");
	context = AllocSetContextCreate(TopMemoryContext, "billing_erp worker", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(context);
		run_due_tasks();
		MemoryContextReset(context);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 billing_worker_interval * 1000L, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
