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
#include "core/scan.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "workflow/workflow.h"

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

/* $1 rows of the list of changes */
static BillingStatement take_changes = {
	"DELETE FROM billing.account_change WHERE ctid = ANY ($1)", 1, { TIDARRAYOID }, NULL
};

enum
{
	CHANGE_USAGE_FROM
};
static const char *const change_columns[] = { "usage_from" };

enum
{
	WATERMARK_NEXT_DUE,
	WATERMARK_USAGE_BILLED_TO,
	WATERMARK_PARKED
};
static const char *const watermark_columns[] = { "next_due", "usage_billed_to", "parked_at" };

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

/* Accounts of a slice while they are sorted out. */
typedef struct Sorting
{
	int32 entity_id;
	DateADT through;
	BillingScan changes;
	BillingScan watermarks;
	int ngone; /* rows of the list of changes */
	int size;
	Datum *gone;
	int ndue;
	Datum *due;
	int nchanged;
	Datum *changed;
} Sorting;

/* Note a row of the list that is to be taken off it. */
static void
take_off(Sorting *sorting, const ItemPointerData *tid)
{
	ItemPointer copy = palloc(sizeof(ItemPointerData));

	ItemPointerCopy(tid, copy);
	if (sorting->ngone == sorting->size)
	{
		sorting->size *= 2;
		sorting->gone = repalloc_huge(sorting->gone, sizeof(Datum) * sorting->size);
	}
	sorting->gone[sorting->ngone++] = PointerGetDatum(copy);
}

/*
 * What is to be done with an account: nothing where it is put aside, or neither
 * due nor changed.  Late usage counts where its days may have been billed.
 */
static void
sort_account(Sorting *sorting, Datum account)
{
	Datum keys[2] = { Int32GetDatum(sorting->entity_id), account };
	BillingScan *scan = &sorting->watermarks;
	bool any = false;
	DateADT usage_from = DATEVAL_NOEND;
	bool changed;

	billing_core_scan_find(&sorting->changes, keys);
	while (billing_core_scan_next(&sorting->changes))
	{
		take_off(sorting, &sorting->changes.slot->tts_tid);
		if (billing_scan_isnull(&sorting->changes, CHANGE_USAGE_FROM))
			any = true;
		else
			usage_from =
				Min(usage_from,
					DatumGetDateADT(billing_scan_value(&sorting->changes, CHANGE_USAGE_FROM)));
	}
	billing_core_scan_find(scan, keys);
	if (!billing_core_scan_next(scan) || !billing_scan_isnull(scan, WATERMARK_PARKED))
		return;
	changed =
		any || (!billing_scan_isnull(scan, WATERMARK_USAGE_BILLED_TO) &&
				usage_from < DatumGetDateADT(billing_scan_value(scan, WATERMARK_USAGE_BILLED_TO)));
	if (changed)
		sorting->changed[sorting->nchanged++] = account;
	if (changed ||
		(!billing_scan_isnull(scan, WATERMARK_NEXT_DUE) &&
		 DatumGetDateADT(billing_scan_value(scan, WATERMARK_NEXT_DUE)) <= sorting->through))
		sorting->due[sorting->ndue++] = account;
}

/*
 * Sort locked accounts out, and take what changed off the list before anything
 * is derived: what is committed after this moment stays on it for the next run,
 * whether this one sees it or not.
 */
static void
sort_out(const BillingRun *run, Datum accounts, Datum *due, Datum *changed)
{
	Sorting sorting = { .entity_id = run->entity_id, .through = run->through, .size = 1024 };
	Datum *ids;
	Datum gone;
	int count;
	int i;

	deconstruct_array(DatumGetArrayTypeP(accounts), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, NULL, &count);
	sorting.gone = palloc(sizeof(Datum) * sorting.size);
	sorting.due = palloc(sizeof(Datum) * Max(count, 1));
	sorting.changed = palloc(sizeof(Datum) * Max(count, 1));
	PushActiveSnapshot(GetTransactionSnapshot());
	billing_core_scan_open(&sorting.changes, "account_change", "account_change_by_account", 2,
						   false, change_columns, lengthof(change_columns), GetActiveSnapshot());
	billing_core_scan_open(&sorting.watermarks, "account_watermark", "account_watermark_pkey", 2,
						   false, watermark_columns, lengthof(watermark_columns),
						   GetActiveSnapshot());
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sort_account(&sorting, ids[i]);
	}
	billing_core_scan_close(&sorting.changes);
	billing_core_scan_close(&sorting.watermarks);
	PopActiveSnapshot();
	if (sorting.ngone > 0)
	{
		gone = billing_invoicing_array(sorting.gone, NULL, sorting.ngone, TIDOID);
		billing_core_run(&take_changes, &gone, NULL, false);
	}
	*due = billing_invoicing_array(sorting.due, NULL, sorting.ndue, INT8OID);
	*changed = billing_invoicing_array(sorting.changed, NULL, sorting.nchanged, INT8OID);
}

/* Bill accounts that are locked. */
static void
bill(const BillingRun *run, Datum accounts, BillingSlice *slice)
{
	Datum due;
	Datum changed;

	sort_out(run, accounts, &due, &changed);
	if (billing_invoicing_count(due) > 0)
		billing_invoicing_write(run, due, changed, slice);
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

	/* rows that are written below SQL violate constraints in its words */
	if (error != NULL)
		billing_core_translate_error(error);
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
