/*
 * usage_cells.c
 *		What the usage of accounts comes to in periods, read account by account:
 *		the cells of the roll-ups, and what the events after the watermark add.
 *
 * All that is read is read in one snapshot, in which both together are complete.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/scan.h"
#include "miscadmin.h"
#include "usage/usage.h"
#include "usage/usage_measure.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"

/* A cell, wherever it comes from. */
typedef struct Cell
{
	int64 account_id;
	int64 meter_id;
	int64 item_id;
	DateADT month;
	char *dimensions;
	text *sample;
	struct varlena *days;
	bool recomputed;
} Cell;

/* A meter, as far as measuring asks. */
typedef struct Meter
{
	int64 meter_id;
	BillingMeasureTerms terms; /* without the period */
} Meter;

struct BillingUsageSource
{
	int32 entity_id;
	MemoryContext context; /* of all that it keeps */
	MemoryContext period;  /* of what one period needs */
	BillingScan rollups;
	BillingScan meters;
	char *zone;
	int nknown;
	int size;
	Meter *known;
	int ntail;
	Cell *tail; /* sorted by account, meter and item */
};

/* The columns that are read, by position. */
enum
{
	ROLLUP_MONTH,
	ROLLUP_DIMENSIONS,
	ROLLUP_SAMPLE,
	ROLLUP_DAYS
};
static const char *const rollup_columns[] = { "month", "dimensions", "sample", "days" };

enum
{
	METER_AGGREGATION,
	METER_PERCENTILE,
	METER_TIME_UNIT,
	METER_SCALE,
	METER_ROUNDING
};
static const char *const meter_columns[] = { "aggregation", "percentile", "time_unit",
											 "quantity_scale", "quantity_rounding" };

static const char *const entity_columns[] = { "time_zone" };

/* $1 entity, $2 accounts */
static BillingStatement read_tail = {
	"SELECT account_id, item_id, meter_id, month, dimensions, sample, days, recomputed"
	" FROM billing_internal.usage_tail($1, $2)",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* By account, meter and item */
static int
compare_keys(const Cell *a, const Cell *b)
{
	if (a->account_id != b->account_id)
		return a->account_id < b->account_id ? -1 : 1;
	if (a->meter_id != b->meter_id)
		return a->meter_id < b->meter_id ? -1 : 1;
	if (a->item_id != b->item_id)
		return a->item_id < b->item_id ? -1 : 1;
	return 0;
}

/* For qsort: the tail */
static int
compare_tail(const void *a, const void *b)
{
	return compare_keys(a, b);
}

/* For qsort: cells of one period by group, the older month first */
static int
compare_group(const void *a, const void *b)
{
	const Cell *x = a;
	const Cell *y = b;
	int order = strcmp(x->dimensions, y->dimensions);

	if (order != 0)
		return order;
	return x->month < y->month ? -1 : x->month > y->month;
}

/* Keep a cell of the tail; false where it has no days. */
static bool
read_tail_cell(uint64 row, Cell *cell)
{
	bool isnull;
	Datum sample;
	Datum days = billing_core_value(row, 6, &isnull);

	if (isnull)
		return false;
	cell->days = PG_DETOAST_DATUM_COPY(days);
	cell->account_id = DatumGetInt64(billing_core_value(row, 0, NULL));
	cell->item_id = DatumGetInt64(billing_core_value(row, 1, NULL));
	cell->meter_id = DatumGetInt64(billing_core_value(row, 2, NULL));
	cell->month = DatumGetDateADT(billing_core_value(row, 3, NULL));
	cell->dimensions = TextDatumGetCString(billing_core_value(row, 4, NULL));
	sample = billing_core_value(row, 5, &isnull);
	cell->sample = isnull ? NULL : DatumGetTextPCopy(sample);
	cell->recomputed = DatumGetBool(billing_core_value(row, 7, NULL));
	return true;
}

/* Read what is not rolled up yet. */
static void
read_whole_tail(BillingUsageSource *source, const int64 *accounts, int count, Snapshot snapshot)
{
	Datum *ids = palloc(sizeof(Datum) * Max(count, 1));
	Datum values[2];
	MemoryContext caller;
	uint64 rows;
	uint64 i;

	for (i = 0; i < (uint64) count; i++)
		ids[i] = Int64GetDatum(accounts[i]);
	values[0] = Int32GetDatum(source->entity_id);
	values[1] = PointerGetDatum(
		construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	SPI_connect();
	rows = billing_core_run_at(&read_tail, values, NULL, snapshot);
	caller = MemoryContextSwitchTo(source->context);
	source->ntail = 0;
	source->tail = MemoryContextAllocHuge(source->context, sizeof(Cell) * Max(rows, 1));
	for (i = 0; i < rows; i++)
	{
		if (read_tail_cell(i, &source->tail[source->ntail]))
			source->ntail++;
	}
	MemoryContextSwitchTo(caller);
	SPI_finish();
	qsort(source->tail, source->ntail, sizeof(Cell), compare_tail);
}

/* The entity's time zone. */
static char *
read_zone(int32 entity_id, Snapshot snapshot)
{
	BillingScan scan;
	Datum key = Int32GetDatum(entity_id);
	char *zone = NULL;

	billing_core_scan_open(&scan, "legal_entity", "legal_entity_pkey", 1, false, entity_columns,
						   lengthof(entity_columns), snapshot);
	billing_core_scan_find(&scan, &key);
	if (billing_core_scan_next(&scan))
		zone = TextDatumGetCString(billing_scan_value(&scan, 0));
	billing_core_scan_close(&scan);
	return zone;
}

/* Begin to read the usage of some accounts, in the current memory context. */
BillingUsageSource *
billing_usage_open(int32 entity_id, const int64 *accounts, int count, Snapshot snapshot)
{
	BillingUsageSource *source = palloc0(sizeof(BillingUsageSource));

	source->entity_id = entity_id;
	source->context = CurrentMemoryContext;
	source->period =
		AllocSetContextCreate(CurrentMemoryContext, "usage of a period", ALLOCSET_DEFAULT_SIZES);
	read_whole_tail(source, accounts, count, snapshot);
	source->zone = read_zone(entity_id, snapshot);
	billing_core_scan_open(&source->rollups, "usage_rollup", "usage_rollup_pkey", 5, true,
						   rollup_columns, lengthof(rollup_columns), snapshot);
	billing_core_scan_open(&source->meters, "meter", "meter_pkey", 2, false, meter_columns,
						   lengthof(meter_columns), snapshot);
	source->size = 8;
	source->known = palloc(sizeof(Meter) * source->size);
	return source;
}

/* Read a meter that is not known yet. */
static Meter *
read_meter(BillingUsageSource *source, int64 meter_id)
{
	BillingScan *scan = &source->meters;
	Datum keys[2] = { Int32GetDatum(source->entity_id), Int64GetDatum(meter_id) };
	MemoryContext caller = MemoryContextSwitchTo(source->context);
	Meter *meter;

	if (source->nknown == source->size)
	{
		source->size *= 2;
		source->known = repalloc(source->known, sizeof(Meter) * source->size);
	}
	meter = &source->known[source->nknown];
	memset(meter, 0, sizeof(Meter));
	billing_core_scan_find(scan, keys);
	if (!billing_core_scan_next(scan))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("meter " INT64_FORMAT " does not exist", meter_id)));
	meter->meter_id = meter_id;
	billing_usage_set_aggregation(&meter->terms,
								  TextDatumGetCString(billing_scan_value(scan, METER_AGGREGATION)),
								  source->zone,
								  DatumGetNumeric(billing_scan_value(scan, METER_PERCENTILE)),
								  TextDatumGetCString(billing_scan_value(scan, METER_ROUNDING)));
	meter->terms.time_unit = DatumGetInt32(billing_scan_value(scan, METER_TIME_UNIT));
	meter->terms.has_scale = !billing_scan_isnull(scan, METER_SCALE);
	if (meter->terms.has_scale)
		meter->terms.scale = DatumGetInt16(billing_scan_value(scan, METER_SCALE));
	source->nknown++;
	MemoryContextSwitchTo(caller);
	return meter;
}

/* A meter, read at its first use. */
static Meter *
find_meter(BillingUsageSource *source, int64 meter_id)
{
	int i;

	for (i = 0; i < source->nknown; i++)
	{
		if (source->known[i].meter_id == meter_id)
			return &source->known[i];
	}
	return read_meter(source, meter_id);
}

/* The first day of a day's month. */
static DateADT
month_of(DateADT day)
{
	int year;
	int month;
	int day_of_month;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &day_of_month);
	return day - day_of_month + 1;
}

/* Cells of one period, while they are gathered. */
typedef struct Cells
{
	int count;
	int size;
	Cell *cells;
} Cells;

/* Room for another cell. */
static Cell *
add_cell(Cells *cells)
{
	if (cells->count == cells->size)
	{
		cells->size = cells->size == 0 ? 16 : 2 * cells->size;
		cells->cells = cells->cells == NULL
						   ? palloc(sizeof(Cell) * cells->size)
						   : repalloc_huge(cells->cells, sizeof(Cell) * cells->size);
	}
	return &cells->cells[cells->count++];
}

/* The cells of the roll-ups with these keys from a month on, before a day. */
static void
gather_rollups(BillingUsageSource *source, const Cell *key, DateADT first_month, DateADT to,
			   Cells *cells)
{
	BillingScan *scan = &source->rollups;
	Datum keys[5] = { Int32GetDatum(source->entity_id), Int64GetDatum(key->account_id),
					  Int64GetDatum(key->meter_id), Int64GetDatum(key->item_id),
					  DateADTGetDatum(first_month) };

	billing_core_scan_find(scan, keys);
	while (billing_core_scan_next(scan))
	{
		DateADT month = DatumGetDateADT(billing_scan_value(scan, ROLLUP_MONTH));
		Cell *cell;

		if (month >= to)
			break;
		CHECK_FOR_INTERRUPTS();
		cell = add_cell(cells);
		cell->month = month;
		cell->dimensions = TextDatumGetCString(billing_scan_value(scan, ROLLUP_DIMENSIONS));
		cell->sample = DatumGetTextPCopy(billing_scan_value(scan, ROLLUP_SAMPLE));
		cell->days = PG_DETOAST_DATUM_COPY(billing_scan_value(scan, ROLLUP_DAYS));
		cell->recomputed = false;
	}
}

/* The cells of the tail with these keys from a month on, before a day. */
static void
gather_tail(BillingUsageSource *source, const Cell *key, DateADT first_month, DateADT to,
			Cells *cells)
{
	int low = 0;
	int high = source->ntail;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (compare_keys(&source->tail[middle], key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < source->ntail && compare_keys(&source->tail[low], key) == 0; low++)
	{
		if (source->tail[low].month >= first_month && source->tail[low].month < to)
			*add_cell(cells) = source->tail[low];
	}
}

/* What the cells from one to before another, of one group, come to. */
static void
measure_group(const Meter *meter, DateADT from, DateADT to, const Cell *cells, int count,
			  BillingUsageGroup *group)
{
	BillingMeasure *measure = billing_usage_start_measure(CurrentMemoryContext);
	int i;

	measure->terms = meter->terms;
	measure->terms.period_start = from;
	measure->terms.period_end = to;
	for (i = 0; i < count; i++)
		billing_usage_add_cell(measure, cells[i].days, cells[i].sample, cells[i].recomputed);
	group->quantity = billing_usage_finish_measure(measure, &group->events);
	group->dimensions = cells[0].dimensions;
}

/*
 * Measure what an account used by a meter, for an item or, where that is 0, for
 * the account, from a day to before another: one element of *groups for each
 * combination of group keys, in their order.  They stay until the next call.
 */
int
billing_usage_measure(BillingUsageSource *source, int64 account_id, int64 item_id, int64 meter_id,
					  DateADT from, DateADT to, BillingUsageGroup **groups)
{
	Meter *meter = find_meter(source, meter_id);
	Cell key = { .account_id = account_id, .meter_id = meter_id, .item_id = item_id };
	/* a level carries over from any month before */
	DateADT first_month = meter->terms.aggregation == BILLING_AGGREGATION_TIME_WEIGHTED
							  ? DATEVAL_NOBEGIN
							  : month_of(from);
	Cells cells = { 0 };
	MemoryContext caller;
	int ngroups = 0;
	int i;
	int n;

	MemoryContextReset(source->period);
	caller = MemoryContextSwitchTo(source->period);
	gather_rollups(source, &key, first_month, to, &cells);
	gather_tail(source, &key, first_month, to, &cells);
	qsort(cells.cells, cells.count, sizeof(Cell), compare_group);
	*groups = palloc(sizeof(BillingUsageGroup) * Max(cells.count, 1));
	for (i = 0; i < cells.count; i = n)
	{
		for (n = i + 1;
			 n < cells.count && strcmp(cells.cells[n].dimensions, cells.cells[i].dimensions) == 0;
			 n++)
			;
		measure_group(meter, from, to, cells.cells + i, n - i, &(*groups)[ngroups++]);
	}
	MemoryContextSwitchTo(caller);
	return ngroups;
}

/* End it. */
void
billing_usage_close(BillingUsageSource *source)
{
	billing_core_scan_close(&source->rollups);
	billing_core_scan_close(&source->meters);
	MemoryContextDelete(source->period);
}
