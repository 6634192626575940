/*
 * rating_matrix.c
 *		Picks the cell of a matrix that an event's dimensions select.
 *
 * The first cell that matches is used; a dimension that the event lacks
 * matches only cells that do not name it.
 */
#include "pg_compat.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "rating/rating_private.h"

/* an event's value that no cell names */
#define VALUE_UNKNOWN (-2)
#define SHOWN_BYTES 40

/* Find a value among those of a dimension, which are sorted as strcmp() does. */
static int32
find_value(const BillingTariff *tariff, const BillingDimension *dimension, const char *value,
		   int length)
{
	int low = 0;
	int high = dimension->nvalues - 1;

	while (low <= high)
	{
		int middle = (low + high) / 2;
		const int32 *stored = billing_rating_at(tariff, dimension->value_offsets[middle]);
		int order = memcmp(value, stored + 1, Min(length, *stored));

		if (order == 0)
			order = length - *stored;
		if (order == 0)
			return middle;
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return VALUE_UNKNOWN;
}

/* The text of an event's value for a dimension; NULL when it has none. */
static const char *
event_value(const Jsonb *dimensions, const char *name, int name_length, int *length)
{
	JsonbValue value;
	char *text;

	if (dimensions == NULL || getKeyJsonValueFromContainer((JsonbContainer *) &dimensions->root,
														   name, name_length, &value) == NULL)
		return NULL;
	switch (value.type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			*length = value.val.string.len;
			return value.val.string.val;
		case jbvNumeric:
			text = numeric_normalize(value.val.numeric);
			*length = (int) strlen(text);
			return text;
		case jbvBool:
			*length = value.val.boolean ? 4 : 5;
			return value.val.boolean ? "true" : "false";
		default:
			ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					errmsg("dimension \"%.*s\" is not a single value", name_length, name),
					errdetail("An array or an object is no value of a dimension."),
					errhint("Give a string, a number or a boolean."));
	}
}

/* Refuse an event that no cell matches, naming its dimensions. */
BILLING_NORETURN static void
refuse_event(const BillingTariff *tariff, const Jsonb *dimensions)
{
	const BillingMatrix *matrix = billing_rating_matrix(tariff);
	const int32 *offsets = billing_rating_at(tariff, matrix->dimensions_offset);
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < matrix->ndimensions; i++)
	{
		const BillingDimension *dimension = billing_rating_at(tariff, offsets[i]);
		const int32 *name = billing_rating_at(tariff, dimension->name_offset);
		int length = 0;
		const char *value = event_value(dimensions, (const char *) (name + 1), *name, &length);

		appendStringInfo(&list, "%s\"%.*s\" is ", i == 0 ? "" : ", ", *name, (char *) (name + 1));
		if (value == NULL)
			appendStringInfoString(&list, "not given");
		else
			appendStringInfo(&list, "\"%.*s\"",
							 Min(length, pg_mbcliplen(value, length, SHOWN_BYTES)), value);
	}
	ereport(ERROR, errcode(ERRCODE_BILLING_NOT_RATEABLE),
			errmsg("no cell of the matrix tariff matches: dimension %s", list.data),
			errdetail("The tariff has %d cells and no default.", matrix->ncells),
			errhint("Pass the dimensions of the event, or give the tariff a cell or a default."));
}

/*
 * Pick the tariff of the cell that the dimensions select.
 *
 * NULL for a tariff that is not a matrix; dimensions may be NULL, which is an
 * event without any.
 */
const BillingTariff *
billing_rating_pick(const BillingTariff *tariff, const Jsonb *dimensions)
{
	const BillingMatrix *matrix;
	const int32 *offsets;
	int32 values[BILLING_TARIFF_MAX_DIMENSIONS];

	if (tariff->model != BILLING_MODEL_MATRIX)
		return NULL;
	if (dimensions != NULL && !JB_ROOT_IS_OBJECT(dimensions))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("dimensions are not a JSON object"),
				errdetail("A matrix tariff finds each dimension by its name."),
				errhint("Pass an object such as {\"region\": \"eu\"}."));

	matrix = billing_rating_matrix(tariff);
	offsets = billing_rating_at(tariff, matrix->dimensions_offset);
	for (int i = 0; i < matrix->ndimensions; i++)
	{
		const BillingDimension *dimension = billing_rating_at(tariff, offsets[i]);
		const int32 *name = billing_rating_at(tariff, dimension->name_offset);
		int length = 0;
		const char *value = event_value(dimensions, (const char *) (name + 1), *name, &length);

		values[i] = value == NULL ? VALUE_UNKNOWN : find_value(tariff, dimension, value, length);
	}
	for (int cell = 0; cell < matrix->ncells; cell++)
	{
		const int32 *match = &matrix->cells[matrix->ncells + cell * matrix->ndimensions];
		int i = 0;

		while (i < matrix->ndimensions && (match[i] == BILLING_MATRIX_ANY || match[i] == values[i]))
			i++;
		if (i == matrix->ndimensions)
			return billing_rating_at(tariff, matrix->cells[cell]);
	}
	if (matrix->default_offset == 0)
		refuse_event(tariff, dimensions);
	return billing_rating_at(tariff, matrix->default_offset);
}
