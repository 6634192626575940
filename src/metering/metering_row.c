/*
 * metering_row.c
 *		Events as rows of their months' partitions, written below SQL.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "core/core.h"
#include "core/write.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"
#include "utils/xid8.h"

/* The columns of billing.usage_event, in the order in which fill_row() gives their values. */
static const char *const column_names[] = {
	"entity_id",		 "event_id",	  "source",		 "event_key",		"event_type", "subject",
	"account_id",		 "item_id",		  "meter_id",	 "occurred_at",		"usage_date", "weight",
	"quantity",			 "dimensions",	  "sample",		 "expected_amount", "data",		  "content",
	"corrects_event_id", "correction_id", "ingested_at", "transaction_id",
};

#define COLUMNS lengthof(column_names)

/* What is the same for all rows of a transaction. */
typedef struct Common
{
	int32 entity_id;
	TimestampTz now;
	FullTransactionId transaction;
} Common;

/* The values of an event's row. */
static void
fill_row(const Common *common, const BillingUsageEvent *event, Datum *values, bool *nulls)
{
	int i = 0;

	memset(nulls, false, sizeof(bool) * COLUMNS);
	values[i++] = Int32GetDatum(common->entity_id);
	values[i++] = Int64GetDatum(event->event_id);
	values[i++] = billing_metering_text(event->source);
	values[i++] = billing_metering_text(event->key);
	values[i++] = billing_metering_text(event->type);
	values[i++] = billing_metering_text(event->subject);
	values[i++] = Int64GetDatum(event->account_id);
	values[i++] = Int64GetDatum(event->item_id);
	values[i++] = Int64GetDatum(event->meter_id);
	values[i++] = TimestampTzGetDatum(event->occurred_at);
	values[i++] = DateADTGetDatum(event->usage_date);
	values[i++] = Int16GetDatum(1);
	nulls[i] = event->quantity == NULL;
	values[i++] = NumericGetDatum(event->quantity);
	values[i++] = billing_metering_text(event->dimensions);
	values[i++] = billing_metering_text(event->sample);
	nulls[i] = event->expected == NULL;
	values[i++] = NumericGetDatum(event->expected);
	nulls[i] = event->data == NULL;
	values[i++] = JsonbPGetDatum(event->data);
	values[i++] = billing_metering_uuid(event->hash);
	nulls[i] = event->corrects_id == 0;
	values[i++] = Int64GetDatum(event->corrects_id);
	nulls[i] = event->correction_id == 0;
	values[i++] = Int64GetDatum(event->correction_id);
	values[i++] = TimestampTzGetDatum(common->now);
	values[i++] = FullTransactionIdGetDatum(common->transaction);
}

/* Write events of one month; false where that is left to SQL. */
static bool
write_month(const Common *common, Oid parent, BillingUsageEvent **events, int32 count)
{
	Oid partition = billing_metering_partition(billing_metering_month_of(events[0]->usage_date));
	BillingWriter *writer =
		OidIsValid(partition)
			? billing_core_begin_plain_write(partition, parent, column_names, COLUMNS)
			: NULL;
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	int32 i;

	if (writer == NULL)
		return false;
	for (i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(writer->rows_context);

		fill_row(common, events[i], values, nulls);
		MemoryContextSwitchTo(old);
		(void) billing_core_write_row(writer, values, nulls);
	}
	(void) billing_core_end_write(writer);
	return true;
}

/*
 * Write events that have an id, in the order in which they come, and take those
 * that were written off the list; whether that were all.  Rows of a correction
 * are accepted with the weight 1, as all.
 */
bool
billing_metering_write_events(int32 entity_id, BillingUsageEvent **events, int32 *count)
{
	Oid parent = get_relname_relid("usage_event", get_namespace_oid("billing", false));
	Common common = { entity_id, GetCurrentTransactionStartTimestamp(), GetTopFullTransactionId() };
	int32 left = 0;
	int32 from = 0;

	if (!billing_core_is_plain(parent))
		return *count == 0;
	while (from < *count)
	{
		int32 month = billing_metering_month_of(events[from]->usage_date);
		int32 to = from + 1;

		while (to < *count && billing_metering_month_of(events[to]->usage_date) == month)
			to++;
		if (!write_month(&common, parent, events + from, to - from))
		{
			memmove(events + left, events + from, sizeof(*events) * (to - from));
			left += to - from;
		}
		from = to;
	}
	*count = left;
	return left == 0;
}
