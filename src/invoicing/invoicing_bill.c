/*
 * invoicing_bill.c
 *		Bills entitled − billed of a slice of accounts: documents with their lines,
 *		taxes, steps and exceptions, and when the accounts are due again.
 *
 * Everything is read in one snapshot, made in memory, and then written; the
 * numbers come last.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_document.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "workflow/workflow.h"

/*
 * $1 entity, $2 invoices.  An event may carry the amount that its source
 * expects; rating it alone, at the price that was applied, must give that
 * amount, to the meter's tolerance.
 */
static BillingStatement compare_expected = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, k.kind, u.source || ' ' || u.event_key, a.code,"
	"  format('event %s of %s: its source expects %s, the price gives %s', u.event_key, u.source,"
	"   u.expected_amount, coalesce(u.amount::text, 'no amount')),"
	"  jsonb_build_object('source', u.source, 'id', u.event_key, 'meter', m.code, 'quantity', u.quantity,"
	"   'expected_amount', u.expected_amount, 'rated_amount', u.amount, 'difference',"
	"   u.expected_amount - u.amount, 'tariff', l.tariff::jsonb, 'invoice', 'D' || l.invoice_id),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM billing.invoice_line l"
	" CROSS JOIN LATERAL (SELECT i.account_id, i.meter_id, CASE WHEN i.own_usage THEN i.item_id"
	"   ELSE 0 END AS usage_item FROM billing.contract_item i"
	"  WHERE i.entity_id = $1 AND i.item_id = l.item_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT m.code, m.expected_tolerance FROM billing.meter m"
	"  WHERE m.entity_id = $1 AND m.meter_id = i.meter_id OFFSET 0) m"
	" CROSS JOIN LATERAL (SELECT e.source, e.event_key, e.quantity, e.expected_amount,"
	"   billing_internal.try_rate(l.tariff, e.quantity, 1, nullif(l.dimensions, '')::jsonb) AS amount"
	"  FROM billing_internal.counted_events($1, i.account_id, i.usage_item, i.meter_id,"
	"   l.period_start, l.period_end) e"
	"  WHERE e.expected_amount IS NOT NULL AND e.dimensions = l.dimensions OFFSET 0) u"
	" CROSS JOIN LATERAL (SELECT a.code FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id = i.account_id OFFSET 0) a"
	" JOIN billing.exception_kind k ON k.kind = 'pricing_discrepancy'"
	" WHERE l.entity_id = $1 AND l.invoice_id = ANY ($2) AND l.kind = 'charge' AND l.events > 0"
	" AND (u.amount IS NULL OR abs(u.amount - u.expected_amount) > m.expected_tolerance)"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 accounts: whether the source of any of their events expects an amount */
static BillingStatement expects_amounts = {
	"SELECT FROM billing.usage_event WHERE entity_id = $1 AND account_id = ANY ($2)"
	" AND expected_amount IS NOT NULL LIMIT 1",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 accounts, $3 through date, $4 when due again, $5 how far their usage is billed */
static BillingStatement move_watermarks = {
	"INSERT INTO billing.account_watermark AS w (entity_id, account_id, billed_through, next_due,"
	"  usage_billed_to) SELECT $1, n.account_id, $3, n.next_due, n.usage_billed_to"
	" FROM unnest($2, $4, $5) AS n (account_id, next_due, usage_billed_to)"
	" ON CONFLICT ON CONSTRAINT account_watermark_pkey DO UPDATE SET"
	"  billed_through = greatest(w.billed_through, excluded.billed_through),"
	"  next_due = excluded.next_due, usage_billed_to = excluded.usage_billed_to",
	5,
	{ INT4OID, INT8ARRAYOID, DATEOID, DATEARRAYOID, DATEARRAYOID },
	NULL
};

/* $1 currencies, $2 totals, $3 totals by currency so far */
static BillingStatement add_amounts = {
	"SELECT jsonb_object_agg(a.currency, a.total) FROM (SELECT s.currency, sum(s.total) AS total"
	" FROM (SELECT currency, total FROM unnest($1, $2) AS n (currency, total) UNION ALL"
	"  SELECT key, value::numeric FROM jsonb_each_text($3)) s GROUP BY s.currency) a",
	3,
	{ TEXTARRAYOID, NUMERICARRAYOID, JSONBOID },
	NULL
};

/* The accounts are billed through the day. */
static void
move_on(const BillingMaking *making)
{
	const BillingDerivation *derivation = &making->derivation;
	int count = derivation->nparties;
	Datum *columns[3];
	bool *nulls[3];
	Datum values[5];
	int i;

	for (i = 0; i < 3; i++)
	{
		columns[i] = palloc(sizeof(Datum) * Max(count, 1));
		nulls[i] = palloc0(sizeof(bool) * Max(count, 1));
	}
	for (i = 0; i < count; i++)
	{
		const BillingParty *party = &derivation->parties[i];

		columns[0][i] = Int64GetDatum(party->account_id);
		columns[1][i] = DateADTGetDatum(party->next_due);
		nulls[1][i] = party->next_due == DATEVAL_NOEND;
		columns[2][i] = DateADTGetDatum(party->usage_billed_to);
		nulls[2][i] = party->usage_billed_to == DATEVAL_NOBEGIN;
	}
	values[0] = Int32GetDatum(making->run->entity_id);
	values[1] = billing_invoicing_array(columns[0], NULL, count, INT8OID);
	values[2] = DateADTGetDatum(making->run->through);
	values[3] = billing_invoicing_array(columns[1], nulls[1], count, DATEOID);
	values[4] = billing_invoicing_array(columns[2], nulls[2], count, DATEOID);
	billing_core_run(&move_watermarks, values, NULL, false);
}

/* The sums of the documents by currency; parties with the same currency follow each other as a rule. */
static void
add_to_amounts(const BillingMaking *making, BillingSlice *slice)
{
	Datum *currencies = palloc(sizeof(Datum) * making->ndocuments);
	Datum *totals = palloc(sizeof(Datum) * making->ndocuments);
	const char *last = NULL;
	Datum values[3];
	bool isnull;
	int count = 0;
	int i;

	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];
		const char *currency = making->derivation.parties[document->party].currency;

		if (last != NULL && strcmp(last, currency) == 0)
		{
			totals[count - 1] =
				DirectFunctionCall2(numeric_add, totals[count - 1], document->total);
			continue;
		}
		last = currency;
		currencies[count] = CStringGetTextDatum(currency);
		totals[count++] = document->total;
	}
	values[0] = billing_invoicing_array(currencies, NULL, count, TEXTOID);
	values[1] = billing_invoicing_array(totals, NULL, count, NUMERICOID);
	values[2] = slice->amounts;
	billing_core_run(&add_amounts, values, NULL, true);
	slice->amounts = billing_core_value_copy(0, 0, false, -1, &isnull);
}

/* Count what was made. */
static void
count_documents(const BillingMaking *making, BillingSlice *slice)
{
	int i;

	slice->documents += making->ndocuments;
	slice->lines += making->nlines;
	for (i = 0; i < making->ndocuments; i++)
	{
		if (billing_document_is_issued(&making->documents[i]))
			slice->issued++;
		if (making->documents[i].problems != NULL)
			slice->held++;
	}
	if (making->ndocuments > 0)
		add_to_amounts(making, slice);
}

/* Compare with what the sources of the usage expect. */
static void
compare_with_expected(const BillingMaking *making, Datum accounts, BillingSlice *slice)
{
	Datum values[2] = { Int32GetDatum(making->run->entity_id), accounts };
	Datum *ids;
	int i;

	if (making->ndocuments == 0 || billing_core_run(&expects_amounts, values, NULL, false) == 0)
		return;
	ids = palloc(sizeof(Datum) * making->ndocuments);
	for (i = 0; i < making->ndocuments; i++)
		ids[i] = Int64GetDatum(making->documents[i].document_id);
	values[1] = billing_invoicing_array(ids, NULL, making->ndocuments, INT8OID);
	slice->exceptions += billing_core_run(&compare_expected, values, NULL, false);
}

/* Those that wait for approval now are asked for as the entity's policies say. */
static void
ask_for_approvals(const BillingMaking *making)
{
	Datum *ids = palloc(sizeof(Datum) * Max(making->ndocuments, 1));
	int count = 0;
	int i;

	for (i = 0; i < making->ndocuments; i++)
	{
		if (strcmp(billing_document_state(&making->documents[i]), "pending_approval") == 0)
			ids[count++] = Int64GetDatum(making->documents[i].document_id);
	}
	if (count > 0)
		billing_workflow_open_requests(making->run->entity_id,
									   billing_invoicing_array(ids, NULL, count, INT8OID));
}

/* Derive what is to be billed, and make the documents in memory. */
static void
make(BillingMaking *making, Datum accounts, Datum changed)
{
	int naccounts;
	int nchanged;
	int64 *account_ids = billing_invoicing_ids(accounts, &naccounts);
	int64 *changed_ids = billing_invoicing_ids(changed, &nchanged);

	PushActiveSnapshot(GetTransactionSnapshot());
	billing_invoicing_begin_derivation(&making->derivation, making->run->entity_id, account_ids,
									   naccounts, making->run->through, changed_ids, nchanged,
									   GetActiveSnapshot());
	billing_invoicing_differ(&making->derivation, &making->entries);
	billing_invoicing_make_documents(making);
	billing_invoicing_describe_missing(making);
	billing_invoicing_judge(making);
	PopActiveSnapshot();
}

/*
 * Bill locked accounts: write what differs as documents, in the states that the
 * run's phase leads them to, and move the accounts' watermarks.  Call between
 * SPI_connect() and SPI_finish().
 */
void
billing_invoicing_write(const BillingRun *run, Datum accounts, Datum changed, BillingSlice *slice)
{
	BillingMaking making = { 0 };
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "documents of a slice", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	making.run = run;
	/* before the snapshot: the state machine stays as it is */
	billing_workflow_hold(run->entity_id, false);
	make(&making, accounts, changed);
	billing_invoicing_write_documents(&making);
	billing_invoicing_settle_missing(&making);
	slice->exceptions += billing_invoicing_raise_missing(&making);
	billing_invoicing_raise_problems(&making);
	compare_with_expected(&making, accounts, slice);
	move_on(&making);
	billing_invoicing_settle_parked(run, accounts);
	MemoryContextSwitchTo(caller);
	count_documents(&making, slice);
	MemoryContextSwitchTo(context);
	billing_core_crash_point("slice_written");
	/* last, because whoever takes a number keeps all others of the entity waiting */
	billing_invoicing_take_numbers(&making);
	billing_invoicing_write_invoices(&making);
	ask_for_approvals(&making);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}
