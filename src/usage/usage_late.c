/*
 * usage_late.c
 *		Puts accounts on the list of what the next billing run looks at again, when
 *		usage comes for a period that may be billed already.
 *
 * An event is late where the period that it belongs to was due by the latest day
 * through which a run was opened: usage_watermark.billed_through.  Whoever rolls
 * events up notes the late ones; those that are not rolled up yet, the next run
 * notes when it opens.  That nothing gets lost depends on the order of three things:
 * an event's commit, the roll-up that takes it in, and the opening of a run.
 *
 * 1. Roll-ups and openings of an entity exclude each other, by the lock of its
 *	  usage_watermark.  A roll-up that finds it locked does nothing; an opening waits.
 * 2. The roll-up came after the opening: it reads the new billed_through in the row
 *	  that it locked, and notes what is late for that run too.
 * 3. The roll-up came before the opening: it notes by the former billed_through, and
 *	  not what the run is going to bill.  It had seen every event that it merged
 *	  committed, and the run's slices begin after the opening: they see the events.
 *	  Where the slices belong to the opening's own transaction (CALL in a transaction
 *	  block) the lock is held until they are done.  Where that transaction keeps to
 *	  one snapshot, from before the roll-up, the lock is a serialization failure.
 * 4. The event is committed, and no roll-up has taken it in: the next opening, or a
 *	  roll-up before it, notes it by a billed_through that covers every run that
 *	  could have missed it.
 *
 * Whose terms are amended meanwhile is noted by the amendment (contract_change.c):
 * a run that takes that row away sees the amendment, which was committed after the
 * note was looked for, and so it sees the events.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "usage/usage.h"
#include "usage/usage_watermark.h"

/* $1 entity, $2 and $3 the events after one and up to another, $4 the day billed through */
static BillingStatement note_late = {
	"INSERT INTO billing.account_change (entity_id, account_id, reason, usage_from)"
	" SELECT $1, l.account_id, 'usage', l.usage_from"
	" FROM billing_internal.late_usage($1, $2, $3, $4) l",
	4,
	{ INT4OID, INT8OID, INT8OID, DATEOID },
	NULL
};

/* $1 entity, $2 the day billed through or null: see billing_internal.spread_changes() */
static BillingStatement spread_changes = {
	"SELECT billing_internal.spread_changes($1, $2)"
	" WHERE EXISTS (SELECT FROM billing.shared_change WHERE entity_id = $1)",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* $1 entity, $2 through date */
static BillingStatement raise_billed_through = {
	"UPDATE billing.usage_watermark SET billed_through = $2 WHERE entity_id = $1",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* Note the accounts of late events in a range of ids; the watermark is locked.  Inside SPI. */
void
billing_usage_note_late(const BillingUsageWatermark *mark, int64 after, int64 through)
{
	Datum values[4];

	if (!mark->billed)
		return;
	values[0] = Int32GetDatum(mark->entity_id);
	values[1] = Int64GetDatum(after);
	values[2] = Int64GetDatum(through);
	values[3] = DateADTGetDatum(mark->billed_through);
	(void) billing_core_run(&note_late, values, NULL, false);
}

/*
 * Complete the list of the accounts to be looked at again, for a run that is being
 * opened: late usage that is not rolled up, and what changed for many accounts at
 * once.  What falls due for the first time through this run's own day is no news.
 *
 * The caller commits before the run's first slice, or bills in this transaction.
 */
void
billing_usage_open_run(int32 entity_id, DateADT through)
{
	BillingUsageWatermark mark;
	Datum values[2];

	SPI_connect();
	if (!billing_usage_lock_watermark(entity_id, true, &mark))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not open a billing run because another transaction made "
							   "the entity's watermark meanwhile"),
						errhint("Run it again.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(mark.billed_through);
	(void) billing_core_run(&spread_changes, values, mark.billed ? NULL : " n", false);
	billing_usage_note_late(&mark, mark.after, PG_INT64_MAX);
	if (!mark.billed || mark.billed_through < through)
	{
		values[1] = DateADTGetDatum(through);
		(void) billing_core_run(&raise_billed_through, values, NULL, false);
	}
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_usage_complete_changes);

/* billing_internal.complete_changes(entity integer, through date) RETURNS void */
Datum
billing_usage_complete_changes(PG_FUNCTION_ARGS)
{
	billing_usage_open_run(PG_GETARG_INT32(0), PG_GETARG_DATEADT(1));
	PG_RETURN_VOID();
}
