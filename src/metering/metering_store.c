/*
 * metering_store.c
 *		Stores resolved events once, and finds out what became of those that
 *		were not stored.
 *
 * The unique key decides, not a look beforehand: a session that sends the same
 * key at the same time is waited for, and the statement that follows sees what
 * it did.  Events come sorted by key, so that sessions never wait in a circle.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "core/core.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

/*
 * $1 entity, $2 keys, $3 contents, $4 ids, $5 days.  The elements come out of unnest in the order of
 * the arrays: of two with one key, the first stays.
 */
static BillingStatement insert_keys = {
	"INSERT INTO billing.usage_key (entity_id, key, content, event_id, usage_date)"
	" SELECT $1, k.* FROM unnest($2, $3, $4, $5) k ON CONFLICT (entity_id, key) DO NOTHING"
	" RETURNING event_id",
	5,
	{ INT4OID, UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, DATEARRAYOID },
	NULL
};

/* $1 entity, $2 to $16 columns */
static BillingStatement insert_events = {
	"INSERT INTO billing.usage_event (entity_id, event_id, source, event_key, event_type, subject,"
	" account_id, item_id, meter_id, occurred_at, usage_date, quantity, dimensions, sample,"
	" expected_amount, data, content)"
	" SELECT $1, e.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
	" $17) e",
	17,
	{ INT4OID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
	  INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, DATEARRAYOID, NUMERICARRAYOID, TEXTARRAYOID,
	  TEXTARRAYOID, NUMERICARRAYOID, JSONBARRAYOID, UUIDARRAYOID },
	NULL
};

/* The same for the rows of a correction; $18 the rows that they stand in place of, $19 the correction */
static BillingStatement insert_corrected = {
	"INSERT INTO billing.usage_event (entity_id, event_id, source, event_key, event_type, subject,"
	" account_id, item_id, meter_id, occurred_at, usage_date, quantity, dimensions, sample,"
	" expected_amount, data, content, corrects_event_id, correction_id)"
	" SELECT $1, e.*, $19 FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,"
	" $16, $17, $18) e",
	19,
	{ INT4OID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
	  INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, DATEARRAYOID, NUMERICARRAYOID, TEXTARRAYOID,
	  TEXTARRAYOID, NUMERICARRAYOID, JSONBARRAYOID, UUIDARRAYOID, INT8ARRAYOID, INT8OID },
	NULL
};

/* $1 entity, $2 keys */
static BillingStatement find_stored = {
	"SELECT k.position::integer, f.event_id, f.content"
	" FROM unnest($2) WITH ORDINALITY k (key, position)"
	" CROSS JOIN LATERAL (SELECT e.event_id, e.content FROM billing.usage_key e"
	"  WHERE e.entity_id = $1 AND e.key = k.key LIMIT 1) f",
	2,
	{ INT4OID, UUIDARRAYOID },
	NULL
};

enum
{
	COLUMN_ID,
	COLUMN_SOURCE,
	COLUMN_KEY,
	COLUMN_TYPE,
	COLUMN_SUBJECT,
	COLUMN_ACCOUNT,
	COLUMN_ITEM,
	COLUMN_METER,
	COLUMN_TIME,
	COLUMN_DAY,
	COLUMN_QUANTITY,
	COLUMN_DIMENSIONS,
	COLUMN_SAMPLE,
	COLUMN_EXPECTED,
	COLUMN_DATA,
	COLUMN_CONTENT,
	COLUMNS,
	COLUMN_CORRECTS = COLUMNS, /* of a correction's rows alone */
	CORRECTED_COLUMNS
};

static const Oid column_types[CORRECTED_COLUMNS] = {
	INT8OID, TEXTOID,	 TEXTOID, TEXTOID, TEXTOID,	   INT8OID,	 INT8OID, INT8OID, TIMESTAMPTZOID,
	DATEOID, NUMERICOID, TEXTOID, TEXTOID, NUMERICOID, JSONBOID, UUIDOID, INT8OID
};

/* Whether the event can become a row. */
static bool
is_storable(const BillingUsageEvent *event)
{
	return event->outcome == USAGE_PENDING && event->problem == NULL && event->account_id != 0 &&
		   event->meter_id != 0 && event->month == USAGE_MONTH_OPEN && event->late_days == 0;
}

/* The sequence that events get their ids from. */
Oid
billing_metering_event_sequence(void)
{
	return get_relname_relid("usage_event_event_id_seq", get_namespace_oid("billing", false));
}

/* Put an event into row i of the columns. */
static void
fill_row(BillingUsageColumn *columns, int32 i, const BillingUsageEvent *event)
{
	columns[COLUMN_ID].values[i] = Int64GetDatum(event->event_id);
	columns[COLUMN_SOURCE].values[i] = billing_metering_text(event->source);
	columns[COLUMN_KEY].values[i] = billing_metering_text(event->key);
	columns[COLUMN_TYPE].values[i] = billing_metering_text(event->type);
	columns[COLUMN_SUBJECT].values[i] = billing_metering_text(event->subject);
	columns[COLUMN_ACCOUNT].values[i] = Int64GetDatum(event->account_id);
	columns[COLUMN_ITEM].values[i] = Int64GetDatum(event->item_id);
	columns[COLUMN_METER].values[i] = Int64GetDatum(event->meter_id);
	columns[COLUMN_TIME].values[i] = TimestampTzGetDatum(event->occurred_at);
	columns[COLUMN_DAY].values[i] = DateADTGetDatum(event->usage_date);
	columns[COLUMN_QUANTITY].values[i] = NumericGetDatum(event->quantity);
	columns[COLUMN_QUANTITY].nulls[i] = event->quantity == NULL;
	columns[COLUMN_DIMENSIONS].values[i] = billing_metering_text(event->dimensions);
	columns[COLUMN_SAMPLE].values[i] = billing_metering_text(event->sample);
	columns[COLUMN_EXPECTED].values[i] = NumericGetDatum(event->expected);
	columns[COLUMN_EXPECTED].nulls[i] = event->expected == NULL;
	columns[COLUMN_DATA].values[i] = JsonbPGetDatum(event->data);
	columns[COLUMN_DATA].nulls[i] = event->data == NULL;
	columns[COLUMN_CONTENT].values[i] = billing_metering_uuid(event->hash);
	columns[COLUMN_CORRECTS].values[i] = Int64GetDatum(event->corrects_id);
	columns[COLUMN_CORRECTS].nulls[i] = event->corrects_id == 0;
}

/*
 * Give the events their ids.  The transaction gets its own id first, so that no
 * id of an event is older than its transaction: the roll-ups' tail is found by that.
 */
void
billing_metering_number(BillingUsageEvent **events, int32 count)
{
	Oid sequence = billing_metering_event_sequence();
	int32 i;

	(void) GetTopFullTransactionId();
	for (i = 0; i < count; i++)
		events[i]->event_id = nextval_internal(sequence, false);
}

/*
 * Take the keys that are free: the events that get theirs are accepted; returns
 * how many that were.  For where it cannot be done below SQL.
 */
static int32
insert_free_keys(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn keys = billing_metering_column(count);
	BillingUsageColumn contents = billing_metering_column(count);
	BillingUsageColumn ids = billing_metering_column(count);
	BillingUsageColumn days = billing_metering_column(count);
	Datum values[5];
	uint64 taken;
	uint64 row;
	int32 i;

	for (i = 0; i < count; i++)
	{
		keys.values[i] = billing_metering_uuid(events[i]->key_hash);
		contents.values[i] = billing_metering_uuid(events[i]->hash);
		ids.values[i] = Int64GetDatum(events[i]->event_id);
		days.values[i] = DateADTGetDatum(events[i]->usage_date);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&keys, count, UUIDOID);
	values[2] = billing_metering_array(&contents, count, UUIDOID);
	values[3] = billing_metering_array(&ids, count, INT8OID);
	values[4] = billing_metering_array(&days, count, DATEOID);
	SPI_connect();
	taken = billing_core_run(&insert_keys, values, NULL, false);
	/* the rows come in the order of the events */
	for (row = 0, i = 0; row < taken; i++)
	{
		if (events[i]->event_id != DatumGetInt64(billing_core_value(row, 0, NULL)))
			continue;
		events[i]->outcome = USAGE_ACCEPTED;
		row++;
	}
	SPI_finish();
	return (int32) taken;
}

/*
 * Write events that have an id; all of them belong to one correction, or to none.
 * What cannot be written below SQL is left to it.
 */
void
billing_metering_insert(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	bool corrected = count > 0 && events[0]->correction_id != 0;
	BillingUsageEvent **left = palloc(sizeof(*left) * (count + 1));
	BillingUsageColumn columns[CORRECTED_COLUMNS];
	Datum values[CORRECTED_COLUMNS + 2];
	int32 i;

	memcpy(left, events, sizeof(*left) * count);
	if (billing_metering_write_events(entity_id, left, &count))
		return;
	for (i = 0; i < CORRECTED_COLUMNS; i++)
		columns[i] = billing_metering_column(count);
	for (i = 0; i < count; i++)
		fill_row(columns, i, left[i]);
	values[0] = Int32GetDatum(entity_id);
	for (i = 0; i < (corrected ? CORRECTED_COLUMNS : COLUMNS); i++)
		values[i + 1] = billing_metering_array(&columns[i], count, column_types[i]);
	if (corrected)
		values[i + 1] = Int64GetDatum(events[0]->correction_id);
	SPI_connect();
	(void) billing_core_run(corrected ? &insert_corrected : &insert_events, values, NULL, false);
	SPI_finish();
}

/*
 * Compare events whose keys may be stored with what is stored, and decide upon
 * those.  What a correction has put in an event's place is known as well.
 */
void
billing_metering_compare(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn keys = billing_metering_column(count);
	Datum values[2];
	uint64 found;
	uint64 row;
	int32 i;

	if (count == 0)
		return;
	for (i = 0; i < count; i++)
		keys.values[i] = billing_metering_uuid(events[i]->key_hash);
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&keys, count, UUIDOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_stored, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		BillingUsageEvent *event = events[DatumGetInt32(billing_core_value(row, 0, NULL)) - 1];
		pg_uuid_t *content = DatumGetUUIDP(billing_core_value(row, 2, NULL));

		event->stored_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		event->outcome =
			memcmp(content->data, event->hash, UUID_LEN) == 0 ? USAGE_DUPLICATE : USAGE_CONFLICTING;
	}
	SPI_finish();
	billing_metering_recognise(entity_id, events, count);
}

/* Decide upon an event whose key is not stored. */
static void
decide_unstored(BillingUsageEvent *event)
{
	if (event->problem != NULL)
		event->outcome = USAGE_MALFORMED;
	else if (event->account_id == 0 || event->meter_id == 0)
		event->outcome = USAGE_UNKNOWN;
	else if (event->month != USAGE_MONTH_OPEN)
		event->outcome = USAGE_CLOSED;
	else if (event->late_days > 0)
		event->outcome = USAGE_LATE;
	else
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("usage event \"%.*s\" was neither stored nor found",
							   event->key.length, event->key.bytes),
						errhint("Check the index of billing.usage_key with amcheck.")));
}

/* Count what became of the events. */
static void
tally(BillingUsageEvent **events, int32 count, BillingUsageCounts *counts)
{
	int32 i;

	for (i = 0; i < count; i++)
	{
		switch (events[i]->outcome)
		{
			case USAGE_ACCEPTED:
				counts->accepted++;
				break;
			case USAGE_DUPLICATE:
				counts->duplicate++;
				break;
			case USAGE_CONFLICTING:
				counts->conflicting++;
				break;
			default:
				counts->quarantined++;
				break;
		}
	}
}

/* Order as the index by account has them, month by month; scratch is the month. */
static int
compare_places(const void *a, const void *b)
{
	const BillingUsageEvent *first = *(BillingUsageEvent *const *) a;
	const BillingUsageEvent *second = *(BillingUsageEvent *const *) b;

	if (first->scratch != second->scratch)
		return first->scratch < second->scratch ? -1 : 1;
	if (first->account_id != second->account_id)
		return first->account_id < second->account_id ? -1 : 1;
	if (first->meter_id != second->meter_id)
		return first->meter_id < second->meter_id ? -1 : 1;
	if (first->usage_date != second->usage_date)
		return first->usage_date < second->usage_date ? -1 : 1;
	return first->position - second->position;
}

/* Store what can be stored. */
static void
store(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageEvent **storable = palloc(sizeof(*storable) * (count + 1));
	BillingUsageEvent **order;
	int32 storables = 0;
	int32 accepted = 0;
	int32 i;

	for (i = 0; i < count; i++)
	{
		if (!is_storable(events[i]))
			continue;
		events[i]->scratch = billing_metering_month_of(events[i]->usage_date);
		storable[storables++] = events[i];
	}
	if (storables == 0)
		return;
	/* ids in the order in which the rows are written, keys in the order of their index */
	order = palloc(sizeof(*order) * storables);
	memcpy(order, storable, sizeof(*order) * storables);
	qsort(order, storables, sizeof(*order), compare_places);
	billing_metering_number(order, storables);
	if (!billing_metering_take_keys(entity_id, storable, storables, &accepted))
		accepted = insert_free_keys(entity_id, storable, storables);
	if (accepted == 0)
		return;
	accepted = 0;
	for (i = 0; i < storables; i++)
	{
		if (order[i]->outcome == USAGE_ACCEPTED)
			order[accepted++] = order[i];
	}
	billing_metering_insert(entity_id, order, accepted);
}

/*
 * Store what can be stored, decide what became of every event, and count.  The
 * events are resolved, and sorted by key and then by their place in the call.
 */
void
billing_metering_store(int32 entity_id, BillingUsageEvent **events, int32 count,
					   BillingUsageCounts *counts)
{
	BillingUsageEvent **open = palloc(sizeof(*open) * (count + 1));
	int32 opens = 0;
	int32 i;

	store(entity_id, events, count);
	for (i = 0; i < count; i++)
	{
		if (events[i]->outcome == USAGE_PENDING)
			open[opens++] = events[i];
	}
	billing_metering_compare(entity_id, open, opens);
	for (i = 0; i < opens; i++)
	{
		if (open[i]->outcome == USAGE_PENDING)
			decide_unstored(open[i]);
	}
	tally(events, count, counts);
}
