/*
 * usage_watermark.c
 *		Up to which event the roll-ups are made, and how far they may go.
 *
 * The watermark of an entity is an event id: the events up to it are in the
 * roll-ups, the others are the tail, which readers add.  Ids are no order of
 * commits: a transaction may draw low ids and commit last.  An id becomes the
 * watermark only when nobody can commit an event up to it any more:
 *
 * 1. A transaction gets its own number before it draws ids for its events
 *	  (metering_store.c; the guard of the tables sees to it for every INSERT).
 * 2. We read S, the last id drawn, and then X, the next number of a transaction
 *	  to be handed out.  A transaction with a number from X on got it after S was
 *	  read, and draws ids above S.  So an event up to S belongs to a transaction
 *	  before X.  (pg_snapshot_xmax would be no such bound: it is the last number
 *	  that ended, plus one, and transactions beyond it may be running.)
 * 3. When the xmin of a snapshot has reached X, all transactions before X have
 *	  ended.  Statements from then on see every event up to S that will ever be.
 *
 * So (X, S) is noted in usage_watermark, and once X is reached, at once if
 * nobody is writing, the events after the watermark up to S are merged and S
 * becomes the watermark, in the transaction that merges them.  The row of the
 * watermark is locked meanwhile, so each range of ids is merged once.  An open
 * transaction delays the roll-up, never the figures.
 *
 * A transaction's own events have ids above S: it has a number, which bounds
 * xmin.  Under REPEATABLE READ the snapshot that gives xmin is the one that
 * reads the events; a roll-up that another session did since is a serialization
 * failure at the lock.
 */
#include "pg_compat.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "usage/usage_watermark.h"
#include "utils/fmgroids.h"
#include "utils/xid8.h"

static BillingStatement read_xmin = {
	"SELECT pg_snapshot_xmin(pg_current_snapshot())", 0, { 0 }, NULL
};

#define WATERMARK_COLUMNS " after_event_id, next_before, next_event_id, billed_through"

/* $1 entity: no row where another session has it, or where there is none */
static BillingStatement try_lock = { "SELECT" WATERMARK_COLUMNS " FROM billing.usage_watermark"
									 " WHERE entity_id = $1 FOR UPDATE SKIP LOCKED",
									 1,
									 { INT4OID },
									 NULL };

/* $1 entity */
static BillingStatement wait_for_lock = { "SELECT" WATERMARK_COLUMNS " FROM billing.usage_watermark"
										  " WHERE entity_id = $1 FOR UPDATE",
										  1,
										  { INT4OID },
										  NULL };

/* $1 entity; an insert alone would wait for whoever has the row */
static BillingStatement make_watermark = {
	"INSERT INTO billing.usage_watermark (entity_id) SELECT $1"
	" WHERE NOT EXISTS (SELECT FROM billing.usage_watermark WHERE entity_id = $1)"
	" ON CONFLICT ON CONSTRAINT usage_watermark_pkey DO NOTHING RETURNING" WATERMARK_COLUMNS,
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 watermark, $3 and $4 what is planned or nulls */
static BillingStatement write_watermark = {
	"UPDATE billing.usage_watermark SET after_event_id = $2, next_before = $3, next_event_id = $4,"
	" rolled_up_at = CASE WHEN after_event_id < $2 THEN now() ELSE rolled_up_at END, error = NULL"
	" WHERE entity_id = $1",
	4,
	{ INT4OID, INT8OID, XID8OID, INT8OID },
	NULL
};

/* The last id drawn from the events' sequence. */
int64
billing_usage_last_event_id(void)
{
	LOCAL_FCINFO(call, 1);
	FmgrInfo info;
	Oid user;
	int context;
	Datum last;

	/* the sequence may be read by its owner only */
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(billing_core_owner(), context | SECURITY_LOCAL_USERID_CHANGE);
	fmgr_info(F_PG_SEQUENCE_LAST_VALUE, &info);
	InitFunctionCallInfoData(*call, &info, 1, InvalidOid, NULL, NULL);
	call->args[0].value = ObjectIdGetDatum(billing_metering_event_sequence());
	call->args[0].isnull = false;
	last = FunctionCallInvoke(call);
	SetUserIdAndSecContext(user, context);
	return call->isnull ? 0 : DatumGetInt64(last);
}

/* Read the horizon: in this order, see the head of the file.  Inside SPI. */
void
billing_usage_read_horizon(BillingUsageHorizon *horizon)
{
	(void) billing_core_run(&read_xmin, NULL, NULL, false);
	horizon->xmin =
		U64FromFullTransactionId(DatumGetFullTransactionId(billing_core_value(0, 0, NULL)));
	horizon->last_id = billing_usage_last_event_id();
	horizon->next = U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Take a watermark from the last result. */
static void
fetch_watermark(BillingUsageWatermark *mark)
{
	bool unplanned;
	bool unbilled;

	mark->after = DatumGetInt64(billing_core_value(0, 0, NULL));
	mark->next =
		U64FromFullTransactionId(DatumGetFullTransactionId(billing_core_value(0, 1, &unplanned)));
	mark->next_id = DatumGetInt64(billing_core_value(0, 2, NULL));
	mark->planned = !unplanned;
	mark->billed_through = DatumGetDateADT(billing_core_value(0, 3, &unbilled));
	mark->billed = !unbilled;
}

/*
 * Lock the watermark of an entity, and make it where there is none.  False
 * where another session has it, unless that one is to be waited for.
 */
bool
billing_usage_lock_watermark(int32 entity_id, bool wait, BillingUsageWatermark *mark)
{
	BillingStatement *lock = wait ? &wait_for_lock : &try_lock;
	Datum values[1];

	values[0] = Int32GetDatum(entity_id);
	mark->entity_id = entity_id;
	if (billing_core_run(lock, values, NULL, false) == 0 &&
		billing_core_run(&make_watermark, values, NULL, false) == 0 &&
		(!wait || billing_core_run(lock, values, NULL, false) == 0))
		return false;
	fetch_watermark(mark);
	return true;
}

/* Write a watermark that is locked. */
void
billing_usage_save_watermark(const BillingUsageWatermark *mark)
{
	Datum values[4];

	values[0] = Int32GetDatum(mark->entity_id);
	values[1] = Int64GetDatum(mark->after);
	values[2] = FullTransactionIdGetDatum(FullTransactionIdFromU64(mark->next));
	values[3] = Int64GetDatum(mark->next_id);
	(void) billing_core_run(&write_watermark, values, mark->planned ? NULL : "  nn", false);
}
