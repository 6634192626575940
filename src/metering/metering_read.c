/*
 * metering_read.c
 *		Takes from an event what its meter measures: a quantity, the values of its
 *		group keys, a value to count once.
 *
 * Nothing in an event's data raises an error here: what does not fit the meter
 * makes the event malformed, with the place that is wrong.  Only a filter may
 * fail in silence, by the rules of SQL/JSON: what cannot be compared is not true.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "lib/stringinfo.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/memutils.h"

/* Whether an error is about the data that a path was applied to, and not about the server. */
static bool
is_about_data(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_DATA_EXCEPTION ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
		   category == ERRCODE_FEATURE_NOT_SUPPORTED || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Apply a path to data by one of the server's functions; says what went wrong,
 * or NULL.  A field that is not there is no error, and nothing is one within a
 * predicate.  Paths take no locks and hold no resources beside memory, so their
 * errors may be caught without a subtransaction.
 */
static const char *
apply_path(BillingUsageReader *reader, PGFunction function, Jsonb *data, JsonPath *path,
		   NullableDatum *result)
{
	LOCAL_FCINFO(fcinfo, 4);
	MemoryContext context = CurrentMemoryContext;
	const char *volatile problem = NULL;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(data);
	fcinfo->args[1].value = PointerGetDatum(path);
	fcinfo->args[2].value = JsonbPGetDatum(reader->nothing);
	fcinfo->args[3].value = BoolGetDatum(false);
	fcinfo->args[0].isnull = fcinfo->args[1].isnull = false;
	fcinfo->args[2].isnull = fcinfo->args[3].isnull = false;
	PG_TRY();
	{
		result->value = function(fcinfo);
		result->isnull = fcinfo->isnull;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_about_data(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		problem = error->message;
	}
	PG_END_TRY();
	return problem;
}

/* What is wrong at a place, as a phrase that begins with it: "data.gb is missing". */
static const char *
problem_at(const BillingUsagePlace *place, const char *what)
{
	return psprintf(place->path != NULL ? "data at %s %s" : "data.%s %s", place->text, what);
}

/*
 * Find the value at a place; *value is NULL where there is none, or a JSON null.
 * Says what is wrong, or NULL.
 */
static const char *
find_value(BillingUsageReader *reader, const BillingUsagePlace *place, Jsonb *data,
		   JsonbValue *buffer, JsonbValue **value)
{
	NullableDatum result;
	const char *problem;
	Jsonb *found;

	if (place->path == NULL)
		*value = getKeyJsonValueFromContainer(&data->root, place->text, place->length, buffer);
	else
	{
		problem = apply_path(reader, jsonb_path_query_array, data, place->path, &result);
		if (problem != NULL)
			return problem_at(place, psprintf("cannot be evaluated: %s", problem));
		found = DatumGetJsonbP(result.value);
		if (JB_ROOT_COUNT(found) > 1)
			return problem_at(place, "is more than one value");
		*value = getIthJsonbValueFromContainer(&found->root, 0);
	}
	if (*value != NULL && (*value)->type == jbvNull)
		*value = NULL;
	return NULL;
}

/* Append a scalar as jsonb writes it, a number without trailing zeros: 1 and 1.0 are one value. */
static void
append_scalar(StringInfo text, const JsonbValue *value)
{
	if (value == NULL)
		appendStringInfoString(text, "null");
	else if (value->type == jbvString)
		escape_json(text, pnstrdup(value->val.string.val, value->val.string.len));
	else if (value->type == jbvNumeric)
		appendStringInfoString(text, numeric_normalize(value->val.numeric));
	else
		appendStringInfoString(text, value->val.boolean ? "true" : "false");
}

/* Whether a value is one value, and not an array or an object. */
static bool
is_single(const JsonbValue *value)
{
	return value == NULL || IsAJsonbScalar(value);
}

/* Read the values of the group keys; says what is wrong, or NULL. */
static const char *
read_dimensions(BillingUsageReader *reader, const BillingUsageMeter *meter, Jsonb *data,
				StringInfo text)
{
	int i;

	for (i = 0; i < meter->key_count; i++)
	{
		const BillingUsageKey *key = &meter->keys[i];
		JsonbValue buffer;
		JsonbValue *value;
		const char *problem = find_value(reader, &key->place, data, &buffer, &value);

		if (problem != NULL)
			return problem;
		if (!is_single(value))
			return problem_at(&key->place, "is not a single value");
		appendStringInfoString(text, i == 0 ? "{" : ", ");
		appendStringInfoString(text, key->label);
		append_scalar(text, value);
	}
	if (meter->key_count > 0)
		appendStringInfoChar(text, '}');
	if (text->len > BILLING_USAGE_MAX_DIMENSIONS)
		return psprintf("group keys have %d bytes; at most %d are taken", text->len,
						BILLING_USAGE_MAX_DIMENSIONS);
	return NULL;
}

/* Read the value that counts once; says what is wrong, or NULL. */
static const char *
read_sample(const BillingUsagePlace *place, const JsonbValue *value, StringInfo text)
{
	if (!is_single(value))
		return problem_at(place, "is not a single value");
	append_scalar(text, value);
	if (text->len > BILLING_USAGE_MAX_SAMPLE)
		return problem_at(place, psprintf("has %d bytes as JSON; at most %d are taken", text->len,
										  BILLING_USAGE_MAX_SAMPLE));
	return NULL;
}

/* Read the quantity, or the value that counts once; says what is wrong, or NULL. */
static const char *
read_value(BillingUsageReader *reader, const BillingUsageMeter *meter, Jsonb *data,
		   Numeric *quantity, StringInfo sample)
{
	JsonbValue buffer;
	JsonbValue *value;
	const char *problem;

	*quantity = NULL;
	if (meter->take == TAKE_ONE)
	{
		*quantity = int64_to_numeric(1);
		return NULL;
	}
	problem = find_value(reader, &meter->value, data, &buffer, &value);
	if (problem != NULL)
		return problem;
	if (value == NULL)
		return problem_at(&meter->value, meter->value.path != NULL ? "has no value" : "is missing");
	if (meter->take == TAKE_SAMPLE)
	{
		*quantity = int64_to_numeric(1);
		return read_sample(&meter->value, value, sample);
	}
	if (!billing_metering_scan_number(value, BILLING_USAGE_QUANTITY_DIGITS, quantity))
		return problem_at(&meter->value, "is not a number in range");
	return NULL;
}

/* Whether the filter lets an event in; says what is wrong, or NULL. */
static const char *
apply_filter(BillingUsageReader *reader, const BillingUsageMeter *meter, Jsonb *data, bool *matches)
{
	NullableDatum result;
	const char *problem;

	*matches = true;
	if (meter->filter == NULL)
		return NULL;
	problem = apply_path(reader, jsonb_path_match, data, meter->filter, &result);
	if (problem != NULL)
		return psprintf("data cannot be evaluated by the meter's filter: %s", problem);
	*matches = !result.isnull && DatumGetBool(result.value);
	return NULL;
}

/* A text out of the scratch memory. */
static BillingUsageText
keep_text(StringInfo text)
{
	BillingUsageText kept = { "", text->len };

	if (text->len > 0)
		kept.bytes = pnstrdup(text->data, text->len);
	return kept;
}

/* Read an event in scratch memory, and keep what was found in the caller's. */
static void
read_in_scratch(BillingUsageReader *reader, const BillingUsageMeter *meter, Jsonb *data,
				BillingUsageEvent *event)
{
	MemoryContext caller = MemoryContextSwitchTo(reader->scratch);
	Numeric quantity = NULL;
	StringInfoData dimensions;
	StringInfoData sample;
	const char *problem;
	bool matches;

	initStringInfo(&dimensions);
	initStringInfo(&sample);
	problem = apply_filter(reader, meter, data, &matches);
	if (problem == NULL && matches)
		problem = read_value(reader, meter, data, &quantity, &sample);
	if (problem == NULL && matches)
		problem = read_dimensions(reader, meter, data, &dimensions);
	MemoryContextSwitchTo(caller);
	if (problem != NULL)
		event->problem = pstrdup(problem);
	else if (matches)
	{
		event->quantity = DatumGetNumeric(datumCopy(NumericGetDatum(quantity), false, -1));
		event->dimensions = keep_text(&dimensions);
		event->sample = keep_text(&sample);
	}
	MemoryContextReset(reader->scratch);
}

/* What reading needs, in the current memory context. */
BillingUsageReader *
billing_metering_reader(void)
{
	BillingUsageReader *reader = palloc(sizeof(BillingUsageReader));

	reader->scratch =
		AllocSetContextCreate(CurrentMemoryContext, "usage event", ALLOCSET_DEFAULT_SIZES);
	reader->nothing = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	return reader;
}

/*
 * Take from an event what the meter measures, or say why that cannot be.  An
 * event that the filter leaves out has no quantity, dimensions and sample.
 */
void
billing_metering_read(BillingUsageReader *reader, const BillingUsageMeter *meter,
					  BillingUsageEvent *event)
{
	Jsonb *data = event->data != NULL ? event->data : reader->nothing;

	event->meter_id = meter->meter_id;
	if (meter->meter_id == 0)
		return;
	if (meter->filter == NULL && meter->key_count == 0 && meter->take != TAKE_SAMPLE &&
		meter->value.path == NULL)
	{
		/* most meters: a field of the data, or none */
		const char *problem = read_value(reader, meter, data, &event->quantity, NULL);

		if (problem != NULL)
			event->problem = problem;
		return;
	}
	read_in_scratch(reader, meter, data, event);
}
