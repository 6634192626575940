/*
 * worker_run.c
 *		Bills the slices of background runs: a run worker one after the other until
 *		none is left, the database's worker one at a time between its tasks.
 *
 * Which slice is next, and what billing it means, is decided by the room
 * invoicing.  Each slice is claimed, billed, and where it failed recorded, in
 * transactions of their own; the claim is a lock, which goes with the process.
 */
#include "pg_compat.h"

#include "invoicing/invoicing.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "worker/worker_private.h"

/* Claim a slice, unless there is none, or nothing to work for any more. */
static bool
claim(BillingWork *work)
{
	char *version = NULL;
	bool claimed;

	billing_worker_begin();
	claimed = billing_worker_look(&version) == READY && billing_invoicing_claim_slice(work);
	billing_worker_commit();
	return claimed;
}

/* Bill the claimed slice. */
static void
bill(const void *work)
{
	billing_invoicing_bill_claimed(work);
}

/* Record that the claimed slice could not be billed. */
static void
record_failure(const BillingWork *work, const char *error)
{
	ereport(WARNING, (errmsg("billing_erp could not do %s in database \"%s\"", work->description,
							 billing_worker_database),
					  errdetail_internal("%s", error)));
	billing_worker_begin();
	billing_invoicing_fail_claimed(work, error);
	billing_worker_commit();
}

/* Bill one slice, outside of a transaction.  False where there is none to bill. */
bool
billing_worker_bill_next(void)
{
	BillingWork work;
	char *error;

	if (!claim(&work))
		return false;
	pgstat_report_activity(STATE_RUNNING, work.description);
	error = billing_worker_try(bill, &work);
	if (error != NULL)
		record_failure(&work, error);
	billing_invoicing_drop_claim(&work);
	pgstat_report_stat(true);
	return true;
}

/* The process of a run worker: ends where nothing is left to bill, or the setting wants fewer of them. */
void
billing_worker_run_main(Datum arg)
{
	BillingWorkerStart message;
	MemoryContext context;
	bool go_on = true;

	(void) arg;
	billing_worker_connect(&message);
	context =
		AllocSetContextCreate(TopMemoryContext, "billing_erp run worker", ALLOCSET_DEFAULT_SIZES);
	while (go_on)
	{
		CHECK_FOR_INTERRUPTS();
		billing_worker_follow_settings();
		MemoryContextSwitchTo(context);
		go_on = message.number < billing_worker_run_workers && billing_worker_bill_next();
		MemoryContextReset(context);
	}
}
