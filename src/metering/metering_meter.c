/*
 * metering_meter.c
 *		Finds the meters of the types in a batch and makes their definitions ready
 *		to read events.
 *
 * Each distinct type is looked up once, and its paths are parsed once.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"

/* $1 entity, $2 types */
static BillingStatement find_meters = {
	"SELECT s.position::integer, m.meter_id, m.aggregation, m.value_field, m.filter, m.group_by"
	" FROM unnest($2) WITH ORDINALITY s (type, position)"
	" JOIN billing.meter m ON m.entity_id = $1 AND m.code = s.type",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/* Order events by their types. */
static int
compare_types(const void *a, const void *b)
{
	return billing_metering_compare_texts(&(*(BillingUsageEvent *const *) a)->type,
										  &(*(BillingUsageEvent *const *) b)->type);
}

/* Order group keys as jsonb orders the keys of an object: short ones first. */
static int
compare_keys(const void *a, const void *b)
{
	const char *first = ((const BillingUsageKey *) a)->name;
	const char *second = ((const BillingUsageKey *) b)->name;
	size_t lengths[2] = { strlen(first), strlen(second) };

	if (lengths[0] != lengths[1])
		return lengths[0] < lengths[1] ? -1 : 1;
	return strcmp(first, second);
}

/* Where a text of the definition says that a value is. */
static BillingUsagePlace
place_of(char *text, bool is_path)
{
	BillingUsagePlace place = { text, (int) strlen(text), NULL };

	if (is_path)
		place.path = billing_masterdata_parse_path(text);
	return place;
}

/* Make group keys ready. */
static void
compile_keys(BillingUsageMeter *meter, ArrayType *group_by)
{
	Datum *keys;
	int i;

	deconstruct_array(group_by, TEXTOID, -1, false, TYPALIGN_INT, &keys, NULL, &meter->key_count);
	for (i = 0; i < meter->key_count; i++)
	{
		BillingUsageKey *key = &meter->keys[i];
		StringInfoData label;
		char *path;

		key->name = TextDatumGetCString(keys[i]);
		billing_masterdata_split_group_key(key->name, &path);
		key->place = place_of(path != NULL ? path : key->name, path != NULL);
		initStringInfo(&label);
		escape_json(&label, key->name);
		appendStringInfoString(&label, ": ");
		key->label = label.data;
	}
	qsort(meter->keys, meter->key_count, sizeof(BillingUsageKey), compare_keys);
}

/* Make a definition ready, in the current memory context; filter and group_by may be NULL. */
void
billing_metering_compile(BillingUsageMeter *meter, const char *aggregation, const char *value_field,
						 const char *filter, ArrayType *group_by)
{
	meter->take = strcmp(aggregation, "count") == 0			 ? TAKE_ONE
				  : strcmp(aggregation, "unique_count") == 0 ? TAKE_SAMPLE
															 : TAKE_NUMBER;
	if (meter->take != TAKE_ONE)
		meter->value = place_of(pstrdup(value_field), billing_masterdata_is_path(value_field));
	if (filter != NULL)
		meter->filter = billing_masterdata_parse_path(filter);
	if (group_by != NULL)
		compile_keys(meter, group_by);
}

/* Look up the meters of types; meters[i] belongs to element i, from 1, and is zero if unknown. */
static BillingUsageMeter *
find_meters_of(int32 entity_id, BillingUsageColumn *types, int32 count)
{
	MemoryContext caller = CurrentMemoryContext;
	BillingUsageMeter *meters = palloc0(sizeof(BillingUsageMeter) * (count + 1));
	Datum values[2];
	uint64 found;
	uint64 row;

	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(types, count, TEXTOID);
	SPI_connect();
	found = billing_core_run(&find_meters, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		BillingUsageMeter *meter = &meters[DatumGetInt32(billing_core_value(row, 0, NULL))];
		bool ungrouped;
		Datum group_by = billing_core_value_copy(row, 5, false, -1, &ungrouped);
		MemoryContext old;

		meter->meter_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		old = MemoryContextSwitchTo(caller);
		billing_metering_compile(meter, billing_core_text_value(row, 2),
								 billing_core_text_value(row, 3), billing_core_text_value(row, 4),
								 ungrouped ? NULL : DatumGetArrayTypeP(group_by));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return meters;
}

/*
 * Find the meters of the distinct types, and read what they take from the
 * events.  The list of events is sorted by type on the way.
 */
void
billing_metering_resolve_meters(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn types = billing_metering_column(count);
	BillingUsageReader *reader = billing_metering_reader();
	BillingUsageMeter *meters;
	int32 distinct = 0;
	int32 i;

	qsort(events, count, sizeof(*events), compare_types);
	for (i = 0; i < count; i++)
	{
		if (i == 0 || compare_types(&events[i], &events[i - 1]) != 0)
			types.values[distinct++] = billing_metering_text(events[i]->type);
		events[i]->scratch = distinct;
	}
	meters = find_meters_of(entity_id, &types, distinct);
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		billing_metering_read(reader, &meters[events[i]->scratch], events[i]);
	}
}
