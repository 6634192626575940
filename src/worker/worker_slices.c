/*
 * worker_slices.c
 *		Billing slices of background runs in a session that is no worker: by hand,
 *		from cron, by pg_cron.
 *
 * A claim outlives the transaction that makes it, and must not outlive the one
 * that bills the slice: it is dropped when that ends, either way.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "core/core.h"
#include "invoicing/invoicing.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "worker/worker_private.h"

/* A slice that this session has claimed. */
typedef struct Claim
{
	BillingWork work;
	bool is_billed; /* in the transaction that is open */
	struct Claim *previous;
} Claim;

static Claim *claims = NULL;

/* Drop the claims of a transaction that has ended; of an aborted one all, because nobody goes on with them. */
static void
drop_at_end(XactEvent event, void *arg)
{
	Claim **place = &claims;

	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	while (*place != NULL)
	{
		Claim *claim = *place;

		if (event == XACT_EVENT_ABORT || claim->is_billed)
		{
			billing_invoicing_drop_claim(&claim->work);
			*place = claim->previous;
			pfree(claim);
		}
		else
			place = &claim->previous;
	}
}

/* Remember a claim until it is dropped. */
static void
remember(const BillingWork *work)
{
	static bool registered = false;
	Claim *claim = MemoryContextAllocZero(TopMemoryContext, sizeof(Claim));

	if (!registered)
		RegisterXactCallback(drop_at_end, NULL);
	registered = true;
	claim->work = *work;
	claim->previous = claims;
	claims = claim;
}

/* The step that may fail. */
static void
bill(void *work)
{
	billing_invoicing_bill_claimed(work);
}

PG_FUNCTION_INFO_V1(billing_worker_claim_slice);
PG_FUNCTION_INFO_V1(billing_worker_bill_claimed_slice);

/* billing_internal.claim_slice() RETURNS text: its description, or null where there is none */
Datum
billing_worker_claim_slice(PG_FUNCTION_ARGS)
{
	BillingWork work;
	int32 actor;
	bool claimed;

	(void) fcinfo;
	billing_core_require_admin(0);
	actor = billing_core_enter_system();
	claimed = billing_invoicing_claim_slice(&work);
	billing_core_leave_system(actor);
	if (!claimed)
		PG_RETURN_NULL();
	remember(&work);
	PG_RETURN_TEXT_P(cstring_to_text(work.description));
}

/* billing_internal.bill_claimed_slice() RETURNS boolean: whether it went well */
Datum
billing_worker_bill_claimed_slice(PG_FUNCTION_ARGS)
{
	Claim *claim = claims;
	ErrorData *error;
	int32 actor;

	(void) fcinfo;
	billing_core_require_admin(0);
	if (claim == NULL || claim->is_billed)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("this session has not claimed a slice of a billing run"),
						errhint("CALL billing.run_slices() claims and bills them.")));
	claim->is_billed = true;
	actor = billing_core_enter_system();
	error = billing_core_try(bill, &claim->work);
	if (error != NULL)
	{
		char *text = billing_worker_describe(error);

		billing_invoicing_fail_claimed(&claim->work, text);
		ereport(WARNING, (errmsg("billing_erp could not do %s", claim->work.description),
						  errdetail_internal("%s", text)));
	}
	billing_core_leave_system(actor);
	PG_RETURN_BOOL(error == NULL);
}
