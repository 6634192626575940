/*
 * worker_main.c
 *		The worker of one database: at every interval, and when it is woken, runs
 *		what is due, each task in transactions of its own, and sees to it that
 *		background runs are billed.
 *
 * An error of a task is recorded and hurts nothing else; any other error ends
 * the process, and the launcher starts a new one.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "worker/worker_private.h"

/* A task that this process has claimed. */
typedef struct Claim
{
	const char *task;
	TimestampTz started;
} Claim;

/* Say, once per change, what the worker does. */
static void
report(BillingCondition condition, const char *version)
{
	static BillingCondition reported = UNKNOWN;

	if (condition == reported)
		return;
	reported = condition;
	switch (condition)
	{
		case NO_EXTENSION:
			ereport(LOG,
					(errmsg("billing_erp worker waits: database \"%s\" does not have the extension",
							billing_worker_database)));
			break;
		case OTHER_VERSION:
			ereport(
				WARNING,
				(errmsg("billing_erp worker waits: extension in database \"%s\" has version %s, "
						"library has %s",
						billing_worker_database, version, BILLING_WORKER_VERSION),
				 errhint("Run ALTER EXTENSION billing_erp UPDATE, or restart the server with the "
						 "library of that version.")));
			break;
		case RESTORING:
			ereport(LOG, (errmsg("billing_erp worker waits: database \"%s\" is being restored",
								 billing_worker_database)));
			break;
		default:
			ereport(LOG, (errmsg("billing_erp worker is at work in database \"%s\"",
								 billing_worker_database)));
	}
}

/* The tasks that are due now, in the caller's memory; false where the worker has to wait. */
static bool
find_work(List **tasks)
{
	MemoryContext context = CurrentMemoryContext;
	char *version = NULL;
	BillingCondition condition;

	*tasks = NIL;
	billing_worker_begin();
	condition = billing_worker_look(&version);
	report(condition, version);
	/* the setting of the database reaches new sessions only */
	if (billing_core_restoring != (condition == RESTORING))
		SetConfigOption("billing_erp.restoring", condition == RESTORING ? "on" : "off", PGC_SUSET,
						PGC_S_OVERRIDE);
	MemoryContextSwitchTo(context);
	if (condition == READY)
		*tasks = billing_worker_list(false);
	billing_worker_commit();
	return condition == READY;
}

/* Run a task that this process has claimed. */
static void
run_claimed(const void *argument)
{
	const Claim *claim = argument;

	if (!billing_worker_hold(claim->task, claim->started))
		return;
	billing_worker_call(claim->task);
	billing_worker_record(claim->task, NULL);
}

/*
 * Run a task, unless another process does.  Its start is committed first, so
 * that a task which takes the process down is known as such.
 */
static void
run(const char *task)
{
	Claim claim = { task, 0 };
	bool claimed;
	char *error;

	pgstat_report_activity(STATE_RUNNING, task);
	billing_worker_begin();
	claimed = billing_worker_claim(task, false, &claim.started);
	billing_worker_commit();
	if (!claimed)
		return;
	error = billing_worker_try(run_claimed, &claim);
	if (error == NULL)
		return;
	ereport(WARNING, (errmsg("billing_erp task \"%s\" failed in database \"%s\"", task,
							 billing_worker_database),
					  errdetail_internal("%s", error)));
	billing_worker_begin();
	if (billing_worker_hold(task, claim.started))
		billing_worker_record(task, error);
	billing_worker_commit();
}

/*
 * Run what is due, then tell the statistics.  A billing run does not wait for all
 * of it.  True where this process has billed a slice of a run, because nobody
 * else would, and there may be more.
 */
static bool
work(void)
{
	List *tasks;
	ListCell *cell;
	bool billed = false;

	pgstat_report_activity(STATE_RUNNING, "looking for due tasks");
	if (find_work(&tasks))
	{
		foreach (cell, tasks)
		{
			CHECK_FOR_INTERRUPTS();
			(void) billing_worker_tend_runs();
			run(lfirst(cell));
		}
		CHECK_FOR_INTERRUPTS();
		billed = billing_worker_tend_runs() && billing_worker_bill_next();
	}
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
	return billed;
}

/* The worker's process. */
void
billing_worker_main(Datum arg)
{
	BillingWorkerStart message;
	MemoryContext context;
	uint32 wait_event;
	bool alone;

	(void) arg;
	billing_worker_connect(&message);
	billing_worker_begin();
	alone = billing_core_become_only_worker();
	billing_worker_commit();
	if (!alone)
	{
		ereport(LOG, (errmsg("%s ends: the database has a worker", MyBgworkerEntry->bgw_name)));
		proc_exit(1);
	}
	billing_worker_begin_runs(&message);
	wait_event = billing_wait_event("BillingWorkerMain");
	context = AllocSetContextCreate(TopMemoryContext, "billing_erp worker", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		bool go_on;

		billing_worker_follow_settings();
		MemoryContextSwitchTo(context);
		go_on = work();
		MemoryContextReset(context);
		if (!go_on)
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 billing_worker_interval * 1000L, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}
