/*
 * usage_effect.c
 *		What a correction of usage is worth: what the contract items that it touches
 *		cost after it, less what they cost before, as the next billing run bills it.
 *
 * Both are measured in one snapshot, so that usage which arrives meanwhile does
 * not count.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "usage/usage_correct.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* $1 entity, $2 accounts */
static BillingStatement find_currency = {
	"SELECT min(currency), max(currency) FROM billing.billing_account"
	" WHERE entity_id = $1 AND account_id = ANY ($2)",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 accounts, $3 meters, $4 days */
static BillingStatement measure_value = {
	"SELECT coalesce(sum(amount), 0), count(*) FILTER (WHERE amount IS NULL)"
	" FROM billing_internal.usage_value($1, $2, $3, $4)",
	4,
	{ INT4OID, INT8ARRAYOID, INT8ARRAYOID, DATEARRAYOID },
	NULL
};

/* Note whose usage changes, by which meters, and on which days. */
static void
note_cells(BillingCorrection *correction)
{
	const BillingUsageCorrection *usage = &correction->usage;
	BillingUsageColumn accounts = billing_metering_column(2 * usage->count);
	BillingUsageColumn meters = billing_metering_column(2 * usage->count);
	BillingUsageColumn days = billing_metering_column(2 * usage->count);
	int32 cells = 0;
	int32 i;

	for (i = 0; i < usage->count; i++)
	{
		if (usage->kind != USAGE_BACKFILL)
		{
			accounts.values[cells] = Int64GetDatum(usage->versions[i].account_id);
			meters.values[cells] = Int64GetDatum(usage->versions[i].meter_id);
			days.values[cells++] = DateADTGetDatum(usage->versions[i].usage_date);
		}
		if (usage->kind != USAGE_VOID)
		{
			accounts.values[cells] = Int64GetDatum(usage->events[i]->account_id);
			meters.values[cells] = Int64GetDatum(usage->events[i]->meter_id);
			days.values[cells++] = DateADTGetDatum(usage->events[i]->usage_date);
		}
	}
	correction->accounts = billing_metering_array(&accounts, cells, INT8OID);
	correction->meters = billing_metering_array(&meters, cells, INT8OID);
	correction->days = billing_metering_array(&days, cells, DATEOID);
}

/* The currency of all accounts whose usage changes. */
static char *
currency_of(const BillingCorrection *correction)
{
	Datum values[2] = { Int32GetDatum(correction->usage.entity_id), correction->accounts };
	char *first;
	char *last;

	SPI_connect();
	(void) billing_core_run(&find_currency, values, NULL, false);
	first = billing_core_text_value(0, 0);
	last = billing_core_text_value(0, 1);
	SPI_finish();
	if (strcmp(first, last) != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("the events belong to accounts of different currencies"),
						errdetail("There are %s and %s among them.", first, last),
						errhint("Correct the events of each currency in a call of its own.")));
	return first;
}

/* What the items that are touched cost in a snapshot, with what was written since. */
static Numeric
measure(const BillingCorrection *correction, Snapshot snapshot, int64 *unrated)
{
	Datum values[4] = { Int32GetDatum(correction->usage.entity_id), correction->accounts,
						correction->meters, correction->days };
	Datum amount;

	SPI_connect();
	(void) billing_core_run_at(&measure_value, values, NULL, snapshot);
	amount = billing_core_value_copy(0, 0, false, -1, NULL);
	*unrated = DatumGetInt64(billing_core_value(0, 1, NULL));
	SPI_finish();
	return DatumGetNumeric(amount);
}

/* Find out what the correction has to do, and whom it concerns. */
void
billing_usage_prepare(BillingCorrection *correction)
{
	billing_metering_prepare(&correction->usage, &correction->batch);
	if (correction->usage.count == 0)
		return;
	note_cells(correction);
	correction->currency = currency_of(correction);
}

/* Carry a prepared correction out, and find what it is worth. */
void
billing_usage_carry_out(BillingCorrection *correction)
{
	Snapshot snapshot = RegisterSnapshot(GetTransactionSnapshot());
	int64 unrated_before;
	int64 unrated_after;
	Numeric before = measure(correction, snapshot, &unrated_before);
	Numeric after;

	billing_metering_carry_out(&correction->usage);
	after = measure(correction, snapshot, &unrated_after);
	UnregisterSnapshot(snapshot);
	correction->effect = DatumGetNumeric(
		DirectFunctionCall2(numeric_sub, NumericGetDatum(after), NumericGetDatum(before)));
	correction->unrated = Max(unrated_before, unrated_after);
}

/* The rows in whose place the correction puts others, or none: bigint[], in the order of their keys. */
Datum
billing_usage_taken_back(const BillingCorrection *correction)
{
	const BillingUsageCorrection *usage = &correction->usage;
	int32 count = usage->kind == USAGE_BACKFILL ? 0 : usage->count;
	BillingUsageColumn rows = billing_metering_column(count);
	int32 i;

	for (i = 0; i < count; i++)
		rows.values[i] = Int64GetDatum(usage->versions[i].event_id);
	return billing_metering_array(&rows, count, INT8OID);
}
