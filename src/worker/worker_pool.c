/*
 * worker_pool.c
 *		The run workers of a database: its worker keeps as many alive as there are
 *		slices to bill, up to a limit, and ends them when it ends.
 *
 * Where none can be started, the worker bills itself, so that a run always ends.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "worker/worker_private.h"

/* One run worker. */
typedef struct RunWorker
{
	BackgroundWorkerHandle *handle; /* NULL while there is none */
	TimestampTz started;
	bool has_ended; /* and the work that it was started for may not be done */
} RunWorker;

int billing_worker_run_workers = 2;

/*
 * $1 how many are enough: a row for each slice of an open background run that is not done, those at work
 * included, and one for a run that only has to be closed
 */
static BillingStatement list_slices = {
	"SELECT FROM billing.billing_run r LEFT JOIN billing.run_slice s ON s.entity_id = r.entity_id"
	" AND s.run_id = r.run_id AND s.state = 'pending' AND r.cancelled_at IS NULL"
	" WHERE r.finished_at IS NULL AND r.is_background LIMIT $1",
	1,
	{ INT4OID },
	NULL
};

static BillingWorkerStart own_start;
static RunWorker pool[BILLING_MAX_RUN_WORKERS];

/* Define the setting. */
void
billing_worker_pool_init(void)
{
	DefineCustomIntVariable(
		"billing_erp.run_workers",
		"Background workers that bill the slices of billing runs, per database.",
		"They exist while there are slices to bill, and each takes a slot of "
		"max_worker_processes; with 0, or without a free slot, the database's worker "
		"bills the slices itself.",
		&billing_worker_run_workers, 2, 0, BILLING_MAX_RUN_WORKERS, PGC_SIGHUP, 0, NULL, NULL,
		NULL);
}

/* End the run workers when this process ends: the next worker would not know them. */
static void
end_run_workers(int code, Datum arg)
{
	int i;

	(void) code;
	(void) arg;
	for (i = 0; i < BILLING_MAX_RUN_WORKERS; i++)
	{
		if (pool[i].handle != NULL)
			TerminateBackgroundWorker(pool[i].handle);
	}
}

/* Start the file, in a worker that was started so. */
void
billing_worker_begin_runs(const BillingWorkerStart *start)
{
	own_start = *start;
	before_shmem_exit(end_run_workers, (Datum) 0);
}

/* How much there is to do, in slices; counted up to the most workers. */
static int
count_slices(void)
{
	Datum values[1] = { Int32GetDatum(BILLING_MAX_RUN_WORKERS) };
	int count;

	billing_worker_begin();
	SPI_connect();
	count = (int) billing_core_run(&list_slices, values, NULL, true);
	SPI_finish();
	billing_worker_commit();
	return count;
}

/* Take note of the run workers that have ended; how many are there. */
static int
count_run_workers(void)
{
	int alive = 0;
	int i;

	for (i = 0; i < BILLING_MAX_RUN_WORKERS; i++)
	{
		pid_t pid;

		if (pool[i].handle == NULL)
			continue;
		if (GetBackgroundWorkerPid(pool[i].handle, &pid) != BGWH_STOPPED)
		{
			alive++;
			continue;
		}
		pfree(pool[i].handle);
		pool[i].handle = NULL;
		pool[i].has_ended = true;
	}
	return alive;
}

/* Start the run worker of a number; false where there is no slot for it. */
static bool
start(int number)
{
	BackgroundWorker worker;
	BillingWorkerStart message = own_start;
	MemoryContext context;
	bool registered;

	billing_worker_describe_process(&worker, "billing_worker_run_main", "billing_erp run worker");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "billing_erp run worker for %s",
			 billing_worker_database);
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	message.number = number;
	memcpy(worker.bgw_extra, &message, sizeof(message));
	context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker, &pool[number].handle);
	MemoryContextSwitchTo(context);
	pool[number].started = GetCurrentTimestamp();
	return registered;
}

/* Say, once until one can be started again, that no run worker can be started. */
static void
report(bool started)
{
	static bool reported = false;

	if (!started && !reported)
		ereport(WARNING, (errmsg("could not start a billing_erp run worker for database \"%s\"",
								 billing_worker_database),
						  errdetail("There is no free slot for a background worker."),
						  errhint("Consider increasing max_worker_processes, or reduce "
								  "billing_erp.run_workers.")));
	reported = !started;
}

/*
 * Whether a run worker may be started.  One that ended while there was work
 * comes back at the next look: what ended it may end it again.
 */
static bool
may_start(const RunWorker *worker)
{
	return worker->handle == NULL &&
		   (!worker->has_ended || TimestampDifferenceExceeds(worker->started, GetCurrentTimestamp(),
															 billing_worker_interval * 1000));
}

/*
 * Start the run workers that are missing, in a worker that is outside of a
 * transaction.  True where there are slices and no run worker to bill them.
 */
bool
billing_worker_tend_runs(void)
{
	int alive = count_run_workers();
	int slices = count_slices();
	int wanted = Min(slices, billing_worker_run_workers);
	int i;

	for (i = 0; i < BILLING_MAX_RUN_WORKERS; i++)
	{
		/* those that ended in order are not missed */
		if (alive >= wanted)
			pool[i].has_ended = false;
		else if (i < billing_worker_run_workers && may_start(&pool[i]))
		{
			bool started = start(i);

			report(started);
			if (!started)
				break;
			pool[i].has_ended = false;
			alive++;
		}
	}
	return slices > 0 && alive == 0;
}
