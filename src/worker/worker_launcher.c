/*
 * worker_launcher.c
 *		Settings, and the launcher: keeps one worker per database that
 *		billing_erp.databases names.
 *
 * It starts a worker that is missing, again after a pause where it died, and
 * ends one whose database is no longer named.  It runs only where the library
 * is preloaded, and never on a standby.
 */
#include "pg_compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"
#include "worker/worker.h"
#include "worker/worker_private.h"

/* A launcher that ended comes back after so many seconds. */
#define LAUNCHER_RESTART 5
/* A worker that lived for so many seconds was in order. */
#define GOOD_LIFE 60
/* The longest pause after workers that died at once, in seconds. */
#define LONGEST_PAUSE 300

/* One database, as the launcher sees it. */
typedef struct Watched
{
	char name[NAMEDATALEN];
	bool wanted;					/* is named in the setting */
	BackgroundWorkerHandle *handle; /* NULL while there is no worker */
	TimestampTz started;
	TimestampTz next_start; /* not before */
	int short_lives;		/* workers in a row that died at once */
	const char *trouble;	/* why there is no worker, as it was logged */
} Watched;

static const char no_database[] = "the database does not exist";
static const char no_owner[] = "role \"billing_owner\" does not exist";
static const char no_slot[] = "there is no free slot for a background worker";

static char *databases = NULL;
int billing_worker_interval = 10;

static List *watched = NIL;

/* Check hook of billing_erp.databases: a list of names, in double quotes where they need them. */
static bool
check_databases(char **newval, void **extra, GucSource source)
{
	char *copy = pstrdup(*newval);
	List *names = NIL;
	bool valid = SplitIdentifierString(copy, ',', &names);

	(void) extra;
	(void) source;
	list_free(names);
	pfree(copy);
	if (!valid)
		GUC_check_errdetail("It must be a list of database names, separated by commas.");
	return valid;
}

/* Fill in what launcher and workers have in common. */
void
billing_worker_describe_process(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	strlcpy(worker->bgw_library_name, "billing_erp", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
}

/* Define the room's settings, and register the launcher where the library is preloaded. */
void
billing_worker_init(void)
{
	BackgroundWorker launcher;

	DefineCustomStringVariable(
		"billing_erp.databases",
		"Databases in which background workers run the tasks of billing_erp.",
		"A list of names, separated by commas; a name with capitals stands in "
		"double quotes. It takes effect where shared_preload_libraries names "
		"billing_erp.",
		&databases, "", PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	DefineCustomIntVariable(
		"billing_erp.worker_interval",
		"Time between two looks of a background worker at what is due.",
		"It is also the least pause before a worker that died is started again.",
		&billing_worker_interval, 10, 1, 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	billing_worker_pool_init();
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	billing_worker_describe_process(&launcher, "billing_worker_launcher_main",
									"billing_erp launcher");
	strlcpy(launcher.bgw_name, "billing_erp launcher", sizeof(launcher.bgw_name));
	launcher.bgw_restart_time = LAUNCHER_RESTART;
	RegisterBackgroundWorker(&launcher);
}

/* The entry of a database, made where it is missing. */
static Watched *
watch(const char *name)
{
	MemoryContext context;
	Watched *entry;
	ListCell *cell;

	foreach (cell, watched)
	{
		entry = lfirst(cell);
		if (strcmp(entry->name, name) == 0)
			return entry;
	}
	context = MemoryContextSwitchTo(TopMemoryContext);
	entry = palloc0(sizeof(Watched));
	strlcpy(entry->name, name, sizeof(entry->name));
	watched = lappend(watched, entry);
	MemoryContextSwitchTo(context);
	return entry;
}

/* Bring the list in line with the setting; workers of databases that left it are asked to end. */
static void
follow_setting(void)
{
	char *copy = pstrdup(databases);
	List *names = NIL;
	ListCell *cell;

	foreach (cell, watched)
		((Watched *) lfirst(cell))->wanted = false;
	/* the check hook has made sure that it is well formed */
	(void) SplitIdentifierString(copy, ',', &names);
	foreach (cell, names)
		watch(lfirst(cell))->wanted = true;
	foreach (cell, watched)
	{
		Watched *entry = lfirst(cell);

		if (!entry->wanted && entry->handle != NULL)
			TerminateBackgroundWorker(entry->handle);
		/* the administrator may have mended what was wrong */
		entry->next_start = 0;
		entry->short_lives = 0;
	}
	list_free(names);
	pfree(copy);
}

/* Seconds to wait before a worker is started again. */
static int
pause_after(int short_lives)
{
	int doublings = Min(Max(short_lives - 1, 0), 8);

	return Max(billing_worker_interval, Min(billing_worker_interval << doublings, LONGEST_PAUSE));
}

/* Take note of a worker that has ended. */
static void
bury(Watched *entry, TimestampTz now)
{
	pfree(entry->handle);
	entry->handle = NULL;
	if (TimestampDifferenceExceeds(entry->started, now, GOOD_LIFE * 1000))
		entry->short_lives = 0;
	entry->short_lives++;
	entry->next_start =
		TimestampTzPlusMilliseconds(now, (int64) pause_after(entry->short_lives) * 1000);
}

/*
 * The oid of the row of a shared catalog that has a name, or InvalidOid.  Without
 * a database, neither the indexes nor the caches of the catalogs can be used.
 */
static Oid
find_by_name(Oid catalog, AttrNumber column, const char *name)
{
	Relation relation = table_open(catalog, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid oid = InvalidOid;
	bool isnull;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(relation, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	/* both catalogs begin with the oid */
	if (HeapTupleIsValid(tuple))
		oid = DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(relation), &isnull));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return oid;
}

/* Start a worker; NULL, or what is in the way. */
static const char *
start(Watched *entry)
{
	BackgroundWorker worker;
	BillingWorkerStart message;
	MemoryContext context = CurrentMemoryContext;
	bool registered;

	message.number = 0;
	StartTransactionCommand();
	message.database = find_by_name(DatabaseRelationId, Anum_pg_database_datname, entry->name);
	message.owner = find_by_name(AuthIdRelationId, Anum_pg_authid_rolname, "billing_owner");
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	if (!OidIsValid(message.database))
		return no_database;
	if (!OidIsValid(message.owner))
		return no_owner;
	billing_worker_describe_process(&worker, "billing_worker_main", "billing_erp worker");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "billing_erp worker for %s", entry->name);
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	StaticAssertStmt(sizeof(message) <= BGW_EXTRALEN, "the message must fit into bgw_extra");
	memcpy(worker.bgw_extra, &message, sizeof(message));
	context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &entry->handle);
	MemoryContextSwitchTo(context);
	return registered ? NULL : no_slot;
}

/* Say why a database has no worker, once per reason. */
static void
report(Watched *entry, const char *trouble)
{
	if (trouble != NULL && trouble != entry->trouble)
		ereport(WARNING,
				(errmsg("could not start a billing_erp worker for database \"%s\"", entry->name),
				 errdetail_internal("%s", trouble),
				 trouble == no_slot
					 ? errhint("Consider increasing max_worker_processes.")
					 : errhint("Create the database and the extension, or take the name out of "
							   "billing_erp.databases; it is tried again every %d s.",
							   billing_worker_interval)));
	entry->trouble = trouble;
}

/* Look after one database; the milliseconds until that must be done again, or -1. */
static long
tend(Watched *entry)
{
	TimestampTz now = GetCurrentTimestamp();
	pid_t pid;

	if (entry->handle != NULL)
	{
		if (GetBackgroundWorkerPid(entry->handle, &pid) != BGWH_STOPPED)
			return -1; /* its end sets our latch */
		bury(entry, now);
	}
	if (!entry->wanted)
		return -1;
	if (entry->next_start <= now)
	{
		const char *trouble = start(entry);

		report(entry, trouble);
		entry->started = now;
		if (trouble == NULL)
			return -1;
		entry->next_start =
			TimestampTzPlusMilliseconds(now, (int64) billing_worker_interval * 1000);
	}
	return TimestampDifferenceMilliseconds(now, entry->next_start);
}

/* Look after all databases; the milliseconds until that must be done again, or -1. */
static long
tend_all(void)
{
	long least = -1;
	ListCell *cell;

	foreach (cell, watched)
	{
		Watched *entry = lfirst(cell);
		long timeout = tend(entry);

		if (timeout >= 0 && (least < 0 || timeout < least))
			least = timeout;
		if (!entry->wanted && entry->handle == NULL)
		{
			watched = foreach_delete_current(watched, cell);
			pfree(entry);
		}
	}
	return least;
}

/* End the workers when the launcher ends: the next launcher would not know them. */
static void
end_workers(int code, Datum arg)
{
	ListCell *cell;

	(void) code;
	(void) arg;
	foreach (cell, watched)
	{
		Watched *entry = lfirst(cell);

		if (entry->handle != NULL)
			TerminateBackgroundWorker(entry->handle);
	}
}

/* The launcher's process. */
void
billing_worker_launcher_main(Datum arg)
{
	uint32 wait_event;

	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* no database: the shared catalogs are enough */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	wait_event = billing_wait_event("BillingLauncherMain");
	before_shmem_exit(end_workers, (Datum) 0);
	follow_setting();
	for (;;)
	{
		long timeout;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			follow_setting();
		}
		timeout = tend_all();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
