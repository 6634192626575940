/*
 * metering_resolve.c
 *		Finds the billing account of a subject and the meter of a type, and reads
 *		the quantity that the meter takes from an event's data.
 *
 * Each distinct subject and type of a batch is looked up once.  The lookups by
 * key name the entity, in which the duty was asked for, and run past row-level
 * security: its condition would keep the planner from seeing that the key is
 * unique, and without statistics it then reads the whole entity for each.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

/* $1 entity, $2 subjects */
static BillingStatement find_accounts = {
	"SELECT s.position::integer, f.account_id FROM unnest($2) WITH ORDINALITY s (subject, position)"
	" CROSS JOIN LATERAL (SELECT a.account_id FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.code = s.subject LIMIT 1) f",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 types */
static BillingStatement find_meters = {
	"SELECT s.position::integer, m.meter_id, m.aggregation = 'count', m.value_field"
	" FROM unnest($2) WITH ORDINALITY s (type, position)"
	" JOIN billing.meter m ON m.entity_id = $1 AND m.code = s.type",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/* $1 entity */
static BillingStatement find_time_zone = {
	"SELECT time_zone FROM billing.legal_entity WHERE entity_id = $1", 1, { INT4OID }, NULL
};

/* A meter as far as reading an event needs it. */
typedef struct Meter
{
	int64 meter_id;
	bool counts;
	char *value_field;
} Meter;

/* Compare two texts byte by byte. */
static int
compare_texts(const BillingUsageText *a, const BillingUsageText *b)
{
	int result = memcmp(a->bytes, b->bytes, Min(a->length, b->length));

	return result != 0 ? result : a->length - b->length;
}

static int
compare_subjects(const void *a, const void *b)
{
	return compare_texts(&(*(BillingUsageEvent *const *) a)->subject,
						 &(*(BillingUsageEvent *const *) b)->subject);
}

static int
compare_types(const void *a, const void *b)
{
	return compare_texts(&(*(BillingUsageEvent *const *) a)->type,
						 &(*(BillingUsageEvent *const *) b)->type);
}

/*
 * Find the accounts of the distinct subjects, and give them to the events.  The
 * list of events is sorted by subject on the way.
 */
static void
resolve_accounts(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn subjects = billing_metering_column(count);
	int64 *accounts;
	Datum values[2];
	int32 distinct = 0;
	uint64 found;
	uint64 row;
	int32 i;

	qsort(events, count, sizeof(*events), compare_subjects);
	for (i = 0; i < count; i++)
	{
		if (i == 0 || compare_texts(&events[i]->subject, &events[i - 1]->subject) != 0)
			subjects.values[distinct++] = billing_metering_text(events[i]->subject);
		events[i]->scratch = distinct;
	}
	accounts = palloc0(sizeof(int64) * (distinct + 1));
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&subjects, distinct, TEXTOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_accounts, values, NULL, false);
	for (row = 0; row < found; row++)
		accounts[DatumGetInt32(billing_core_value(row, 0, NULL))] =
			DatumGetInt64(billing_core_value(row, 1, NULL));
	SPI_finish();
	for (i = 0; i < count; i++)
		events[i]->account_id = accounts[events[i]->scratch];
}

/* Look up the meters of types; meters[i] belongs to element i, from 1, and is zero if unknown. */
static Meter *
find_meters_of(int32 entity_id, BillingUsageColumn *types, int32 count)
{
	Meter *meters = palloc0(sizeof(Meter) * (count + 1));
	Datum values[2];
	uint64 found;
	uint64 row;

	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(types, count, TEXTOID);
	SPI_connect();
	found = billing_core_run(&find_meters, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		Meter *meter = &meters[DatumGetInt32(billing_core_value(row, 0, NULL))];

		meter->meter_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		meter->counts = DatumGetBool(billing_core_value(row, 2, NULL));
		meter->value_field = billing_core_text_value(row, 3);
	}
	SPI_finish();
	return meters;
}

/* Read the quantity that a meter takes from an event, or say why there is none. */
static void
read_quantity(BillingUsageEvent *event, const Meter *meter)
{
	JsonbValue buffer;
	JsonbValue *value = NULL;

	event->meter_id = meter->meter_id;
	if (meter->meter_id == 0)
		return;
	if (meter->counts)
	{
		event->quantity = int64_to_numeric(1);
		return;
	}
	if (event->data != NULL)
		value = getKeyJsonValueFromContainer(&event->data->root, meter->value_field,
											 strlen(meter->value_field), &buffer);
	if (value == NULL || value->type == jbvNull)
		event->problem = psprintf("data.%s is missing", meter->value_field);
	else if (!billing_metering_scan_number(value, BILLING_USAGE_QUANTITY_DIGITS, &event->quantity))
		event->problem = psprintf("data.%s is not a number in range", meter->value_field);
}

/* Find the meters of the distinct types, and read the quantities. */
static void
resolve_meters(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn types = billing_metering_column(count);
	Meter *meters;
	int32 distinct = 0;
	int32 i;

	qsort(events, count, sizeof(*events), compare_types);
	for (i = 0; i < count; i++)
	{
		if (i == 0 || compare_texts(&events[i]->type, &events[i - 1]->type) != 0)
			types.values[distinct++] = billing_metering_text(events[i]->type);
		events[i]->scratch = distinct;
	}
	meters = find_meters_of(entity_id, &types, distinct);
	for (i = 0; i < count; i++)
		read_quantity(events[i], &meters[events[i]->scratch]);
}

/* The time zone in which the entity's days begin. */
static pg_tz *
time_zone_of(int32 entity_id)
{
	Datum values[1] = { Int32GetDatum(entity_id) };
	char *name = NULL;
	pg_tz *zone;

	SPI_connect();
	if (billing_core_run(&find_time_zone, values, NULL, false) > 0)
		name = billing_core_text_value(0, 0);
	SPI_finish();
	zone = name != NULL ? pg_tzset(name) : NULL;
	if (zone == NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("time zone \"%s\" of the entity is not known to the server",
							   name != NULL ? name : ""),
						errhint("Install the time zone data that the server had when the entity "
								"was created.")));
	return zone;
}

/* The day on which the event happened, where the entity is. */
static void
find_day(BillingUsageEvent *event, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (timestamp2tm(event->occurred_at, &offset, &tm, &fsec, NULL, zone) != 0)
		event->problem = billing_metering_problem("time", "is out of range");
	else
		event->usage_date = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

/*
 * Resolve well-formed events.  One whose account or meter is not there keeps
 * 0 for it; one whose data does not fit its meter gets a problem.
 */
void
billing_metering_resolve(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageEvent **order = palloc(sizeof(*order) * (count + 1));
	pg_tz *zone = time_zone_of(entity_id);
	int32 wellformed = 0;
	int32 i;

	for (i = 0; i < count; i++)
	{
		if (events[i]->outcome == USAGE_PENDING)
		{
			find_day(events[i], zone);
			order[wellformed++] = events[i];
		}
	}
	if (wellformed == 0)
		return;
	resolve_accounts(entity_id, order, wellformed);
	resolve_meters(entity_id, order, wellformed);
}
