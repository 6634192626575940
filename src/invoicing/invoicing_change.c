/*
 * invoicing_change.c
 *		Which accounts a run is to look at again, as far as invoices decide it: those
 *		whose documents were discarded; and how far back usage and prices may have
 *		been billed.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "masterdata/masterdata.h"
#include "usage/usage.h"

/* of a line, nothing changes but whether it was discarded */
static BillingStatement note_discards = {
	"INSERT INTO billing.account_change (entity_id, account_id, reason)"
	" SELECT DISTINCT i.entity_id, i.account_id, 'discard' FROM new_rows n"
	" JOIN billing.invoice i ON i.entity_id = n.entity_id AND i.invoice_id = n.invoice_id",
	0,
	{ 0 },
	NULL
};

/*
 * $1 entity, $2 through date.  A run through a wrong day, which was undone, would
 * make all usage late for ever: the day comes back to what any account was billed
 * through, and runs that are not finished may still bill.
 */
static BillingStatement lower_billed_through = {
	"UPDATE billing.usage_watermark w SET billed_through = b.billed_through"
	" FROM (SELECT greatest($2,"
	"   (SELECT max(a.billed_through) FROM billing.account_watermark a WHERE a.entity_id = $1),"
	"   (SELECT max(r.through_date) FROM billing.billing_run r"
	"    WHERE r.entity_id = $1 AND r.finished_at IS NULL)) AS billed_through"
	"  FROM billing.usage_watermark u WHERE u.entity_id = $1 AND u.billed_through > $2) b"
	" WHERE w.entity_id = $1 AND w.billed_through > b.billed_through",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/*
 * Complete the list of the accounts to be looked at again, for a run that is being
 * opened; see usage_late.c.  The list was made by the former billed_through; only
 * then that day may come back.  Runs that are opened and roll-ups wait for our
 * lock, so that whatever was billed is in a finished run, and seen, or in one that
 * is not finished.  Not in a snapshot from before the lock.
 */
void
billing_invoicing_complete_changes(int32 entity_id, DateADT through)
{
	Datum values[2];

	billing_usage_open_run(entity_id, through);
	if (IsolationUsesXactSnapshot())
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(through);
	SPI_connect();
	(void) billing_core_run(&lower_billed_through, values, NULL, false);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_invoicing_note_discard);

/*
 * billing_internal.note_discard() RETURNS trigger, AFTER UPDATE STATEMENT on invoice_line with the
 * transition table new_rows
 */
Datum
billing_invoicing_note_discard(PG_FUNCTION_ARGS)
{
	billing_masterdata_note_change(fcinfo, &note_discards, NULL);
	PG_RETURN_POINTER(NULL);
}
