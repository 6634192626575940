/*
 * metering_check.c
 *		Compares what was stored of an event with what its meter takes from its
 *		data.
 *
 * A check of all events asks for the same few meters over and over: they are
 * made ready once for each call site.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "metering/metering.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"

/* So many definitions are kept; then all are forgotten. */
#define MAX_DEFINITIONS 100

/* The arguments that define a meter. */
enum
{
	ARG_AGGREGATION,
	ARG_VALUE_FIELD,
	ARG_FILTER,
	ARG_GROUP_BY,
	DEFINING_ARGS
};

/* A meter that was made ready, and the arguments it was made of. */
typedef struct Definition
{
	NullableDatum args[DEFINING_ARGS];
	BillingUsageMeter meter;
} Definition;

/* What a call site keeps. */
typedef struct Kept
{
	MemoryContext context;
	BillingUsageReader *reader;
	List *definitions;
} Kept;

/* Whether a definition was made of the arguments of this call. */
static bool
is_made_of(const Definition *definition, FunctionCallInfo fcinfo)
{
	int i;

	for (i = 0; i < DEFINING_ARGS; i++)
	{
		if (definition->args[i].isnull != PG_ARGISNULL(i) ||
			(!PG_ARGISNULL(i) &&
			 !datum_image_eq(definition->args[i].value, PG_GETARG_DATUM(i), false, -1)))
			return false;
	}
	return true;
}

/* Make the meter of this call ready. */
static Definition *
define(FunctionCallInfo fcinfo)
{
	Definition *definition = palloc0(sizeof(Definition));
	int i;

	for (i = 0; i < DEFINING_ARGS; i++)
	{
		definition->args[i].isnull = PG_ARGISNULL(i);
		if (!PG_ARGISNULL(i))
			definition->args[i].value = PointerGetDatum(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(i)));
	}
	definition->meter.meter_id = 1;
	billing_metering_compile(&definition->meter,
							 text_to_cstring(PG_GETARG_TEXT_PP(ARG_AGGREGATION)),
							 text_to_cstring(PG_GETARG_TEXT_PP(ARG_VALUE_FIELD)),
							 PG_ARGISNULL(ARG_FILTER)
								 ? NULL
								 : text_to_cstring(PG_GETARG_TEXT_PP(ARG_FILTER)),
							 PG_ARGISNULL(ARG_GROUP_BY) ? NULL
														: PG_GETARG_ARRAYTYPE_P(ARG_GROUP_BY));
	return definition;
}

/* Begin to keep, in the memory of the call site. */
static Kept *
begin(FunctionCallInfo fcinfo)
{
	MemoryContext context =
		AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "usage definitions", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Kept *kept = palloc0(sizeof(Kept));

	kept->context = context;
	kept->reader = billing_metering_reader();
	fcinfo->flinfo->fn_extra = kept;
	MemoryContextSwitchTo(old);
	return kept;
}

/* The meter that the arguments define. */
static const BillingUsageMeter *
meter_of(FunctionCallInfo fcinfo, Kept **kept)
{
	MemoryContext old;
	Definition *definition;
	ListCell *cell;

	*kept = fcinfo->flinfo->fn_extra;
	if (*kept != NULL && list_length((*kept)->definitions) >= MAX_DEFINITIONS)
	{
		MemoryContextDelete((*kept)->context);
		*kept = fcinfo->flinfo->fn_extra = NULL;
	}
	if (*kept == NULL)
		*kept = begin(fcinfo);
	foreach (cell, (*kept)->definitions)
	{
		definition = lfirst(cell);
		if (is_made_of(definition, fcinfo))
			return &definition->meter;
	}
	old = MemoryContextSwitchTo((*kept)->context);
	definition = define(fcinfo);
	(*kept)->definitions = lappend((*kept)->definitions, definition);
	MemoryContextSwitchTo(old);
	return &definition->meter;
}

/* Whether a text argument, null or not, is this text. */
static bool
is_text(FunctionCallInfo fcinfo, int argno, BillingUsageText expected)
{
	text *value;

	if (PG_ARGISNULL(argno))
		return false;
	value = PG_GETARG_TEXT_PP(argno);
	return (int) VARSIZE_ANY_EXHDR(value) == expected.length &&
		   memcmp(VARDATA_ANY(value), expected.bytes, expected.length) == 0;
}

PG_FUNCTION_INFO_V1(billing_metering_is_measured);

/*
 * billing_internal.is_measured(aggregation text, value_field text, filter text,
 *     group_by text[], data jsonb, quantity numeric, dimensions text, sample text)
 *     RETURNS boolean
 *
 * filter, group_by, data and quantity may be NULL; without a definition NULL.
 */
Datum
billing_metering_is_measured(PG_FUNCTION_ARGS)
{
	BillingUsageEvent event = { 0 };
	Kept *kept;
	const BillingUsageMeter *meter;

	if (PG_ARGISNULL(ARG_AGGREGATION) || PG_ARGISNULL(ARG_VALUE_FIELD))
		PG_RETURN_NULL();
	meter = meter_of(fcinfo, &kept);
	event.data = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	event.dimensions.bytes = event.sample.bytes = "";
	billing_metering_read(kept->reader, meter, &event);
	if (event.problem != NULL || (event.quantity == NULL) != PG_ARGISNULL(5))
		PG_RETURN_BOOL(false);
	if (event.quantity != NULL &&
		!DatumGetBool(
			DirectFunctionCall2(numeric_eq, NumericGetDatum(event.quantity), PG_GETARG_DATUM(5))))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(is_text(fcinfo, 6, event.dimensions) && is_text(fcinfo, 7, event.sample));
}
