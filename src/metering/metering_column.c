/*
 * metering_column.c
 *		Makes columns of a batch into the array parameters of a statement.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "metering/metering.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

/* Room for a column of so many values, none of them null yet. */
BillingUsageColumn
billing_metering_column(int32 count)
{
	BillingUsageColumn column;

	column.values = palloc(sizeof(Datum) * (count + 1));
	column.nulls = palloc0(sizeof(bool) * (count + 1));
	return column;
}

/* The column as an array. */
Datum
billing_metering_array(BillingUsageColumn *column, int32 count, Oid element_type)
{
	int dims[1] = { count };
	int lower_bounds[1] = { 1 };
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(element_type, &length, &by_value, &align);
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1, dims, lower_bounds,
											  element_type, length, by_value, align));
}

/* A text inside a larger value as a text of its own. */
Datum
billing_metering_text(BillingUsageText text)
{
	return PointerGetDatum(cstring_to_text_with_len(text.bytes, text.length));
}

/* Compare two texts byte by byte. */
int
billing_metering_compare_texts(const BillingUsageText *a, const BillingUsageText *b)
{
	int result = memcmp(a->bytes, b->bytes, Min(a->length, b->length));

	return result != 0 ? result : a->length - b->length;
}

/* The first 128 bits of a hash. */
Datum
billing_metering_uuid(const uint8 *hash)
{
	pg_uuid_t *uuid = palloc(sizeof(pg_uuid_t));

	memcpy(uuid->data, hash, UUID_LEN);
	return UUIDPGetDatum(uuid);
}
