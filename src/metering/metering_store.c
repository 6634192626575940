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

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "utils/builtins.h"

/* The elements come out of unnest in the order of the arrays: of two with one key, the first stays. */
static BillingStatement insert_events = {
	"INSERT INTO billing.usage_event (entity_id, source, event_key, event_type, subject, account_id,"
	" meter_id, occurred_at, usage_date, quantity, expected_amount, data, content_hash)"
	" SELECT $1, e.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) e"
	" ON CONFLICT (entity_id, source, event_key) DO NOTHING",
	13,
	{ INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	  TIMESTAMPTZARRAYOID, DATEARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, JSONBARRAYOID,
	  BYTEAARRAYOID },
	NULL
};

/* $1 entity, $2 sources, $3 keys */
static BillingStatement find_stored = {
	"SELECT k.position::integer, f.event_id, f.content_hash"
	" FROM unnest($2, $3) WITH ORDINALITY k (source, event_key, position)"
	" CROSS JOIN LATERAL (SELECT e.event_id, e.content_hash FROM billing.usage_event e"
	"  WHERE e.entity_id = $1 AND e.source = k.source AND e.event_key = k.event_key LIMIT 1) f",
	3,
	{ INT4OID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

enum
{
	COLUMN_SOURCE,
	COLUMN_KEY,
	COLUMN_TYPE,
	COLUMN_SUBJECT,
	COLUMN_ACCOUNT,
	COLUMN_METER,
	COLUMN_TIME,
	COLUMN_DAY,
	COLUMN_QUANTITY,
	COLUMN_EXPECTED,
	COLUMN_DATA,
	COLUMN_HASH,
	COLUMNS
};

static const Oid column_types[COLUMNS] = { TEXTOID,	   TEXTOID,	   TEXTOID,		   TEXTOID,
										   INT8OID,	   INT8OID,	   TIMESTAMPTZOID, DATEOID,
										   NUMERICOID, NUMERICOID, JSONBOID,	   BYTEAOID };

/* Whether the event can become a row. */
static bool
is_storable(const BillingUsageEvent *event)
{
	return event->outcome == USAGE_PENDING && event->problem == NULL && event->account_id != 0 &&
		   event->meter_id != 0;
}

/* An event's hash as bytea. */
static Datum
hash_datum(const BillingUsageEvent *event)
{
	bytea *hash = palloc(VARHDRSZ + BILLING_USAGE_HASH_LENGTH);

	SET_VARSIZE(hash, VARHDRSZ + BILLING_USAGE_HASH_LENGTH);
	memcpy(VARDATA(hash), event->hash, BILLING_USAGE_HASH_LENGTH);
	return PointerGetDatum(hash);
}

/* Put an event into row i of the columns. */
static void
fill_row(BillingUsageColumn *columns, int32 i, const BillingUsageEvent *event)
{
	columns[COLUMN_SOURCE].values[i] = billing_metering_text(event->source);
	columns[COLUMN_KEY].values[i] = billing_metering_text(event->key);
	columns[COLUMN_TYPE].values[i] = billing_metering_text(event->type);
	columns[COLUMN_SUBJECT].values[i] = billing_metering_text(event->subject);
	columns[COLUMN_ACCOUNT].values[i] = Int64GetDatum(event->account_id);
	columns[COLUMN_METER].values[i] = Int64GetDatum(event->meter_id);
	columns[COLUMN_TIME].values[i] = TimestampTzGetDatum(event->occurred_at);
	columns[COLUMN_DAY].values[i] = DateADTGetDatum(event->usage_date);
	columns[COLUMN_QUANTITY].values[i] = NumericGetDatum(event->quantity);
	columns[COLUMN_EXPECTED].values[i] = NumericGetDatum(event->expected);
	columns[COLUMN_EXPECTED].nulls[i] = event->expected == NULL;
	columns[COLUMN_DATA].values[i] = JsonbPGetDatum(event->data);
	columns[COLUMN_DATA].nulls[i] = event->data == NULL;
	columns[COLUMN_HASH].values[i] = hash_datum(event);
}

/* Insert the events whose keys are free, and return how many that were. */
static int32
insert(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn columns[COLUMNS];
	Datum values[COLUMNS + 1];
	uint64 inserted;
	int32 i;

	if (count == 0)
		return 0;
	for (i = 0; i < COLUMNS; i++)
		columns[i] = billing_metering_column(count);
	for (i = 0; i < count; i++)
		fill_row(columns, i, events[i]);
	values[0] = Int32GetDatum(entity_id);
	for (i = 0; i < COLUMNS; i++)
		values[i + 1] = billing_metering_array(&columns[i], count, column_types[i]);
	SPI_connect();
	inserted = billing_core_run(&insert_events, values, NULL, false);
	SPI_finish();
	return (int32) inserted;
}

/* Compare events whose keys may be stored with what is stored, and decide upon those. */
static void
compare_with_stored(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn sources = billing_metering_column(count);
	BillingUsageColumn keys = billing_metering_column(count);
	Datum values[3];
	uint64 found;
	uint64 row;
	int32 i;

	if (count == 0)
		return;
	for (i = 0; i < count; i++)
	{
		sources.values[i] = billing_metering_text(events[i]->source);
		keys.values[i] = billing_metering_text(events[i]->key);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&sources, count, TEXTOID);
	values[2] = billing_metering_array(&keys, count, TEXTOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_stored, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		BillingUsageEvent *event = events[DatumGetInt32(billing_core_value(row, 0, NULL)) - 1];
		bytea *hash = DatumGetByteaPP(billing_core_value(row, 2, NULL));

		event->stored_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		event->outcome = memcmp(VARDATA_ANY(hash), event->hash, BILLING_USAGE_HASH_LENGTH) == 0
							 ? USAGE_STORED
							 : USAGE_CONFLICTING;
	}
	SPI_finish();
}

/* Decide upon an event whose key is not stored. */
static void
decide_unstored(BillingUsageEvent *event)
{
	if (event->problem != NULL)
		event->outcome = USAGE_MALFORMED;
	else if (event->account_id == 0 || event->meter_id == 0)
		event->outcome = USAGE_UNKNOWN;
	else
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("usage event \"%.*s\" was neither stored nor found",
							   event->key.length, event->key.bytes),
						errhint("Check the indexes of billing.usage_event with amcheck.")));
}

/* Count what became of the events, of which so many were inserted. */
static void
tally(BillingUsageEvent **events, int32 count, int32 inserted, BillingUsageCounts *counts)
{
	int64 stored = 0;
	int32 i;

	for (i = 0; i < count; i++)
	{
		switch (events[i]->outcome)
		{
			case USAGE_STORED:
				stored++;
				break;
			case USAGE_CONFLICTING:
				counts->conflicting++;
				break;
			case USAGE_UNKNOWN:
				counts->unknown++;
				break;
			default:
				counts->malformed++;
				break;
		}
	}
	counts->accepted += inserted;
	counts->duplicate += stored - inserted;
}

/*
 * Store what can be stored, decide what became of every event, and count.  The
 * events are resolved, and sorted by key and then by their place in the call.
 */
void
billing_metering_store(int32 entity_id, BillingUsageEvent **events, int32 count,
					   BillingUsageCounts *counts)
{
	BillingUsageEvent **storable = palloc(sizeof(*storable) * (count + 1));
	BillingUsageEvent **open = palloc(sizeof(*open) * (count + 1));
	int32 storables = 0;
	int32 opens = 0;
	int32 inserted;
	int32 i;

	for (i = 0; i < count; i++)
	{
		if (is_storable(events[i]))
			storable[storables++] = events[i];
	}
	inserted = insert(entity_id, storable, storables);
	for (i = 0; i < count; i++)
	{
		if (inserted == storables && is_storable(events[i]))
			events[i]->outcome = USAGE_STORED;
		else if (events[i]->outcome == USAGE_PENDING)
			open[opens++] = events[i];
	}
	compare_with_stored(entity_id, open, opens);
	for (i = 0; i < opens; i++)
	{
		if (open[i]->outcome == USAGE_PENDING)
			decide_unstored(open[i]);
	}
	tally(events, count, inserted, counts);
}
