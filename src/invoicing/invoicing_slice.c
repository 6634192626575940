/*
 * invoicing_slice.c
 *		Bills one slice of a run's accounts: locks them, sorts out what is to be
 *		done with each, has it written, and says when they are due again.
 *
 * An account that cannot be billed does not stop the others: the accounts of a
 * failed attempt are halved until the one that fails is alone, and it is parked.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* $1 entity, $2 run, $3 slice: locked, so that nobody bills it at the same time */
static BillingStatement lock_slice = {
	"SELECT account_ids FROM billing.run_slice"
	" WHERE entity_id = $1 AND run_id = $2 AND slice_no = $3 AND state = 'pending' FOR UPDATE",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 accounts: those that no run has seen yet */
static BillingStatement make_watermarks = {
	"INSERT INTO billing.account_watermark (entity_id, account_id, billed_through)"
	" SELECT $1, a.account_id, '1900-01-01' FROM unnest($2) AS a (account_id)"
	" LEFT JOIN LATERAL (SELECT true AS is_there FROM billing.account_watermark o"
	"  WHERE o.entity_id = $1 AND o.account_id = a.account_id OFFSET 0) w ON true"
	" WHERE w.is_there IS NULL ORDER BY a.account_id ON CONFLICT ON CONSTRAINT account_watermark_pkey DO NOTHING",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 accounts: against other runs, in the order of their keys */
static BillingStatement lock_accounts = {
	"SELECT count(*) FROM unnest($2) AS a (account_id)"
	" CROSS JOIN LATERAL (SELECT FROM billing.account_watermark w"
	"  WHERE w.entity_id = $1 AND w.account_id = a.account_id FOR UPDATE) locked",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 locked accounts, $3 through date.  Takes what changed off the
 * list before anything is derived: what is committed after this statement stays
 * on it for the next run, whether this one sees it or not.  Late usage counts
 * where its days may have been billed.
 */
static BillingStatement sort_out = {
	"WITH gone AS (DELETE FROM billing.account_change WHERE ctid = ANY (ARRAY("
	"  SELECT c.ctid FROM unnest($2) AS a (account_id) CROSS JOIN LATERAL (SELECT o.ctid"
	"   FROM billing.account_change o WHERE o.entity_id = $1 AND o.account_id = a.account_id OFFSET 0) c))"
	"  RETURNING account_id, usage_from),"
	" change AS (SELECT g.account_id, bool_or(g.usage_from IS NULL) AS is_any,"
	"  min(g.usage_from) AS usage_from FROM gone g GROUP BY g.account_id),"
	" next AS (SELECT w.account_id, w.next_due,"
	"  coalesce(c.is_any OR c.usage_from < w.usage_billed_to, false) AS is_changed"
	"  FROM unnest($2) AS a (account_id) CROSS JOIN LATERAL (SELECT * FROM billing.account_watermark o"
	"   WHERE o.entity_id = $1 AND o.account_id = a.account_id AND o.parked_at IS NULL OFFSET 0) w"
	"  LEFT JOIN change c ON c.account_id = w.account_id)"
	" SELECT coalesce(array_agg(account_id ORDER BY account_id), '{}'),"
	"  coalesce(array_agg(account_id) FILTER (WHERE is_changed), '{}')"
	" FROM next WHERE is_changed OR next_due <= $3",
	3,
	{ INT4OID, INT8ARRAYOID, DATEOID },
	NULL
};

/* $1 entity, $2 accounts, $3 through date */
static BillingStatement move_watermarks = {
	"INSERT INTO billing.account_watermark AS w (entity_id, account_id, billed_through, next_due,"
	"  usage_billed_to) SELECT $1, account_id, $3, next_due, usage_billed_to"
	" FROM billing_internal.next_due($1, $2, $3) ORDER BY account_id"
	" ON CONFLICT ON CONSTRAINT account_watermark_pkey DO UPDATE SET"
	"  billed_through = greatest(w.billed_through, excluded.billed_through),"
	"  next_due = excluded.next_due, usage_billed_to = excluded.usage_billed_to",
	3,
	{ INT4OID, INT8ARRAYOID, DATEOID },
	NULL
};

/* $1 entity, $2 run, $3 slice, then what it did */
static BillingStatement end_slice = {
	"UPDATE billing.run_slice SET state = 'done', ended_at = clock_timestamp(), account_ids = '{}',"
	" accounts = $4, documents = $5, issued = $6, held = $7, lines = $8, exceptions = $9,"
	" parked = $10, amounts = $11, error = NULL WHERE entity_id = $1 AND run_id = $2 AND slice_no = $3",
	11,
	{ INT4OID, INT8OID, INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID,
	  JSONBOID },
	NULL
};

/* Part of an array of accounts, as an array. */
static Datum
part_of(const Datum *accounts, int count)
{
	return PointerGetDatum(construct_array((Datum *) accounts, count, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Bill accounts that are locked. */
static void
bill(const BillingRun *run, Datum accounts, BillingSlice *slice)
{
	BillingDocuments documents;
	Datum values[3];
	Datum due;
	Datum changed;
	bool isnull;
	bool any;

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = accounts;
	values[2] = DateADTGetDatum(run->through);
	billing_core_run(&sort_out, values, NULL, false);
	due = billing_core_value_copy(0, 0, false, -1, &isnull);
	changed = billing_core_value_copy(0, 1, false, -1, &isnull);
	if (billing_invoicing_count(due) == 0)
		return;
	any = billing_invoicing_write(run, due, changed, slice, &documents);
	values[1] = due;
	billing_core_run(&move_watermarks, values, NULL, false);
	billing_invoicing_settle_parked(run, due);
	billing_core_crash_point("slice_written");
	/* last, because whoever takes a number keeps all others of the entity waiting */
	if (any)
		billing_invoicing_insert(run, &documents);
}

/* Some accounts of a slice, and what was done for them. */
typedef struct Attempt
{
	const BillingRun *run;
	Datum accounts;
	BillingSlice done;
} Attempt;

/* The step that may fail. */
static void
bill_step(void *argument)
{
	Attempt *attempt = argument;

	bill(attempt->run, attempt->accounts, &attempt->done);
}

/* Bill accounts in a subtransaction; NULL, or the error that took it back and is an account's own. */
static ErrorData *
try_to_bill(const BillingRun *run, Datum accounts, BillingSlice *slice)
{
	Attempt attempt = { run, accounts, *slice };
	ErrorData *error = billing_core_try(bill_step, &attempt);

	if (error == NULL)
		*slice = attempt.done;
	else if (!billing_invoicing_can_park(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/*
 * Bill accounts, and park those that cannot be billed.  The recursion is as deep
 * as the accounts can be halved.
 */
static void
bill_or_park(const BillingRun *run, const Datum *accounts, int count, BillingSlice *slice)
{
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	error = try_to_bill(run, part_of(accounts, count), slice);
	if (error == NULL)
		return;
	if (count == 1)
	{
		billing_invoicing_park(run, DatumGetInt64(accounts[0]), error);
		slice->parked++;
	}
	else
	{
		bill_or_park(run, accounts, count / 2, slice);
		bill_or_park(run, accounts + count / 2, count - count / 2, slice);
	}
	FreeErrorData(error);
}

/* Keep what the slice did. */
static void
finish(const BillingRun *run, int32 slice_no, const BillingSlice *slice)
{
	Datum values[11];

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(run->run_id);
	values[2] = Int32GetDatum(slice_no);
	values[3] = Int64GetDatum(slice->accounts);
	values[4] = Int64GetDatum(slice->documents);
	values[5] = Int64GetDatum(slice->issued);
	values[6] = Int64GetDatum(slice->held);
	values[7] = Int64GetDatum(slice->lines);
	values[8] = Int64GetDatum(slice->exceptions);
	values[9] = Int64GetDatum(slice->parked);
	values[10] = slice->amounts;
	billing_core_run(&end_slice, values, NULL, false);
}

/*
 * Bill a slice of a run, as whoever acts; nothing where it is done already.  Call
 * between SPI_connect() and SPI_finish().
 */
void
billing_invoicing_bill_slice(const BillingRun *run, int32 slice_no)
{
	BillingSlice slice = { 0 };
	Datum values[3];
	Datum accounts;
	Datum *ids;
	bool isnull;
	int count;

	slice.amounts = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	billing_core_require_duty(run->entity_id, "biller");
	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(run->run_id);
	values[2] = Int32GetDatum(slice_no);
	if (billing_core_run(&lock_slice, values, NULL, false) == 0)
		return;
	accounts = billing_core_value_copy(0, 0, false, -1, &isnull);
	deconstruct_array(DatumGetArrayTypeP(accounts), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, NULL, &count);
	values[1] = accounts;
	billing_core_run(&make_watermarks, values, NULL, false);
	billing_core_run(&lock_accounts, values, NULL, false);
	billing_core_crash_point("slice_locked");
	slice.accounts = count;
	if (count > 0)
		bill_or_park(run, ids, count, &slice);
	finish(run, slice_no, &slice);
	billing_core_crash_point("slice_numbered");
}
