/*
 * usage_measure.c
 *		The aggregate measure(): from the cells of an account, item, meter and
 *		group of dimensions to the quantity of a period.
 *
 * This file reads what is asked for and takes the rows; samples are counted by
 * usage_measure_sample.c, levels by usage_measure_time.c, and usage_round.c
 * rounds last.  What is asked for is the same in all rows of a group; it is
 * read from the first that has days.
 */
#include "pg_compat.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "core/core.h"
#include "usage/usage_measure.h"

/* decimals of a time-weighted quantity in units that need not divide it */
#define QUOTIENT_SCALE 12
#define MAX_SCALE 30
#define DEFAULT_PERCENTILE 95

/* arguments of the step */
enum
{
	ARG_STATE,
	ARG_DAYS,
	ARG_SAMPLE,
	ARG_RECOMPUTED,
	ARG_AGGREGATION,
	ARG_PERIOD_START,
	ARG_PERIOD_END,
	ARG_TIME_ZONE,
	ARG_PERCENTILE,
	ARG_TIME_UNIT,
	ARG_SCALE,
	ARG_ROUNDING
};

static const char *const aggregation_names[] = { "sum",			  "count",	   "max",
												 "min",			  "latest",	   "unique_count",
												 "time_weighted", "percentile" };
static const char *const rounding_names[] = { "nearest", "up", "down" };

PG_FUNCTION_INFO_V1(billing_usage_measure_step);
PG_FUNCTION_INFO_V1(billing_usage_measure_combine);
PG_FUNCTION_INFO_V1(billing_usage_measure_serialize);
PG_FUNCTION_INFO_V1(billing_usage_measure_deserialize);
PG_FUNCTION_INFO_V1(billing_usage_measure_final);

/* Does the measure count samples? */
static inline bool
has_samples(BillingAggregation aggregation)
{
	return aggregation == BILLING_AGGREGATION_MAX || aggregation == BILLING_AGGREGATION_MIN ||
		   aggregation == BILLING_AGGREGATION_PERCENTILE ||
		   aggregation == BILLING_AGGREGATION_UNIQUE_COUNT;
}

/* Does the measure need days with levels? */
static inline bool
has_levels(BillingAggregation aggregation)
{
	return aggregation == BILLING_AGGREGATION_LATEST ||
		   aggregation == BILLING_AGGREGATION_TIME_WEIGHTED;
}

/* Find a name in a list; names what it should be where it is not there. */
static int
find_name(const char *const *names, int nnames, const char *name, const char *what)
{
	StringInfoData known;

	for (int i = 0; i < nnames; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	initStringInfo(&known);
	for (int i = 0; i < nnames; i++)
		appendStringInfo(&known, "%s%s", i == 0 ? "" : ", ", names[i]);
	ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
			errmsg("%s \"%s\" does not exist", what, name), errhint("Use one of %s.", known.data));
}

/* Set the percentile, or take the default where it is NULL. */
static void
set_percentile(BillingUsageNumber *percentile, Numeric value)
{
	BillingUsageNumber none = { .as.value = 0, .scale = 0 };
	BillingUsageNumber all = { .as.value = 100, .scale = 0 };

	percentile->as.value = DEFAULT_PERCENTILE;
	percentile->scale = 0;
	if (value == NULL)
		return;
	billing_usage_number_set(percentile, value);
	if (percentile->scale == BILLING_USAGE_BIG ||
		billing_usage_number_compare(percentile, &none) <= 0 ||
		billing_usage_number_compare(percentile, &all) > 0)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("a percentile must be above 0 and at most 100"),
				errdetail("It is %s.", billing_usage_number_text(percentile)),
				errhint("Use 95 for the 95th percentile."));
}

/*
 * Set how usage is measured, in the current memory context; zone, percentile and
 * rounding may be NULL.
 */
void
billing_usage_set_aggregation(BillingMeasureTerms *terms, const char *aggregation, const char *zone,
							  Numeric percentile, const char *rounding)
{
	terms->aggregation =
		find_name(aggregation_names, lengthof(aggregation_names), aggregation, "aggregation");
	if (terms->aggregation == BILLING_AGGREGATION_TIME_WEIGHTED)
	{
		terms->zone_name = pstrdup(zone);
		terms->zone = billing_usage_zone(terms->zone_name);
	}
	if (terms->aggregation == BILLING_AGGREGATION_PERCENTILE)
		set_percentile(&terms->percentile, percentile);
	if (rounding != NULL)
		terms->rounding =
			find_name(rounding_names, lengthof(rounding_names), rounding, "rounding of quantity");
}

/* Read what is asked for into the current memory context. */
static void
read_terms(FunctionCallInfo fcinfo, BillingMeasureTerms *terms)
{
	char *aggregation = billing_core_arg_code(fcinfo, ARG_AGGREGATION, "aggregation");
	char *rounding = billing_core_arg_optional_code(fcinfo, ARG_ROUNDING, "rounding of quantity");

	billing_usage_set_aggregation(terms, aggregation,
								  strcmp(aggregation, "time_weighted") == 0
									  ? billing_core_arg_code(fcinfo, ARG_TIME_ZONE, "time zone")
									  : NULL,
								  PG_ARGISNULL(ARG_PERCENTILE) ? NULL
															   : PG_GETARG_NUMERIC(ARG_PERCENTILE),
								  rounding);
	terms->period_start = billing_core_arg_date(fcinfo, ARG_PERIOD_START, "period start");
	terms->period_end = billing_core_arg_date(fcinfo, ARG_PERIOD_END, "period end");
	if (terms->period_end < terms->period_start)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("the period ends before it starts"),
				errhint("The period end is the day after its last day."));
	terms->time_unit =
		PG_ARGISNULL(ARG_TIME_UNIT)
			? 1
			: billing_core_arg_int(fcinfo, ARG_TIME_UNIT, "unit of time", 1, PG_INT32_MAX);
	terms->has_scale = !PG_ARGISNULL(ARG_SCALE);
	if (terms->has_scale)
		terms->scale = billing_core_arg_int(fcinfo, ARG_SCALE, "decimals of the quantity",
											-MAX_SCALE, MAX_SCALE);
}

/* Add the sum and the events of a row's days in the period. */
static void
add_sums(BillingMeasure *measure, BillingUsageReader *reader)
{
	BillingUsageDay day;

	while (billing_usage_next(reader, &day) && day.day < measure->terms.period_end)
	{
		if (day.day < measure->terms.period_start)
			continue;
		measure->events = billing_usage_add_events(measure->events, day.events);
		if (measure->terms.aggregation == BILLING_AGGREGATION_SUM)
		{
			MemoryContext caller = MemoryContextSwitchTo(measure->context);

			billing_usage_number_add(&measure->sum, &day.quantity);
			MemoryContextSwitchTo(caller);
		}
	}
}

/* Add the events of a row's sample in the period. */
static void
add_samples(BillingMeasure *measure, BillingUsageReader *reader, text *value)
{
	BillingSample sample = { 0 };
	BillingUsageDay day;
	MemoryContext caller;

	while (billing_usage_next(reader, &day) && day.day < measure->terms.period_end)
	{
		if (day.day >= measure->terms.period_start)
			sample.events = billing_usage_add_events(sample.events, day.events);
	}
	if (sample.events == 0)
		return;
	if (value == NULL)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("usage of a meter that counts samples has no sample"),
				errhint("Rebuild the roll-ups of the meter."));
	if (measure->samples.is_text)
		sample.text = text_to_cstring(value);
	else if (!billing_usage_number_parse(&sample.number, VARDATA_ANY(value),
										 (int) VARSIZE_ANY_EXHDR(value)))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("sample \"%s\" is not a number", text_to_cstring(value)),
				errhint("Rebuild the roll-ups of the meter."));
	measure->events = billing_usage_add_events(measure->events, sample.events);
	caller = MemoryContextSwitchTo(measure->context);
	billing_usage_add_sample(&measure->samples, &sample);
	MemoryContextSwitchTo(caller);
}

/* Keep the row's days that may bear on the period. */
static void
add_levels(BillingMeasure *measure, BillingUsageReader *reader, bool recomputed)
{
	BillingLevelDay day = { .recomputed = recomputed };
	bool carried = measure->terms.aggregation == BILLING_AGGREGATION_TIME_WEIGHTED;

	while (billing_usage_next(reader, &day.day) && day.day.day < measure->terms.period_end)
	{
		MemoryContext caller;

		if (day.day.day < measure->terms.period_start && !carried)
			continue;
		caller = MemoryContextSwitchTo(measure->context);
		billing_usage_add_level_day(&measure->days, &day);
		MemoryContextSwitchTo(caller);
	}
}

/* Start to measure in a memory context; what is asked for is set before the first cell is added. */
BillingMeasure *
billing_usage_start_measure(MemoryContext context)
{
	BillingMeasure *measure = MemoryContextAllocZero(context, sizeof(BillingMeasure));

	measure->context = context;
	return measure;
}

/* Add a cell: its days, its sample or NULL, and whether its days replace those of other cells. */
void
billing_usage_add_cell(BillingMeasure *measure, const struct varlena *days, text *sample,
					   bool recomputed)
{
	BillingUsageReader reader;

	measure->samples.is_text = measure->terms.aggregation == BILLING_AGGREGATION_UNIQUE_COUNT;
	billing_usage_read(&reader, days);
	if (has_levels(measure->terms.aggregation))
		add_levels(measure, &reader, recomputed);
	else if (recomputed)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("recomputed days have a meaning only for latest and time_weighted"),
				errhint("Give the tail of other meters as what is added."));
	else if (has_samples(measure->terms.aggregation))
		add_samples(measure, &reader, sample);
	else
		add_sums(measure, &reader);
}

/* Read what is asked for. */
static void
read_first_row(FunctionCallInfo fcinfo, BillingMeasure *measure)
{
	MemoryContext caller = MemoryContextSwitchTo(measure->context);

	read_terms(fcinfo, &measure->terms);
	MemoryContextSwitchTo(caller);
}

/*
 * billing_internal.measure_step(internal, billing.usage_days, text, boolean,
 * text, date, date, text, numeric, integer, integer, text) RETURNS internal
 */
Datum
billing_usage_measure_step(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate = billing_usage_aggregate_context(fcinfo);
	BillingMeasure *measure = PG_ARGISNULL(0) ? NULL : (BillingMeasure *) PG_GETARG_POINTER(0);
	bool recomputed = !PG_ARGISNULL(ARG_RECOMPUTED) && PG_GETARG_BOOL(ARG_RECOMPUTED);
	struct varlena *stored;

	if (PG_ARGISNULL(ARG_DAYS))
	{
		if (measure == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(measure);
	}
	if (measure == NULL)
	{
		measure = billing_usage_start_measure(aggregate);
		read_first_row(fcinfo, measure);
	}
	stored = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(ARG_DAYS));
	billing_usage_add_cell(measure, stored,
						   PG_ARGISNULL(ARG_SAMPLE) ? NULL : PG_GETARG_TEXT_PP(ARG_SAMPLE),
						   recomputed);
	PG_FREE_IF_COPY(stored, ARG_DAYS);
	PG_RETURN_POINTER(measure);
}

/* billing_internal.measure_combine(internal, internal) RETURNS internal */
Datum
billing_usage_measure_combine(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate = billing_usage_aggregate_context(fcinfo);
	MemoryContext caller = MemoryContextSwitchTo(aggregate);
	BillingMeasure *measure = PG_ARGISNULL(0) ? NULL : (BillingMeasure *) PG_GETARG_POINTER(0);
	BillingMeasure *other = PG_ARGISNULL(1) ? NULL : (BillingMeasure *) PG_GETARG_POINTER(1);

	if (other != NULL)
	{
		if (measure == NULL)
		{
			measure = billing_usage_start_measure(aggregate);
			measure->terms = other->terms;
			measure->terms.percentile = billing_usage_number_copy(&other->terms.percentile);
			if (other->terms.zone_name != NULL)
				measure->terms.zone_name = pstrdup(other->terms.zone_name);
			measure->samples.is_text = other->samples.is_text;
		}
		measure->events = billing_usage_add_events(measure->events, other->events);
		billing_usage_number_add(&measure->sum, &other->sum);
		for (int64 i = 0; i < other->samples.nsamples; i++)
			billing_usage_add_sample(&measure->samples, &other->samples.samples[i]);
		for (int64 i = 0; i < other->days.ndays; i++)
			billing_usage_add_level_day(&measure->days, &other->days.days[i]);
	}
	MemoryContextSwitchTo(caller);
	if (measure == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(measure);
}

/* Append what is asked for. */
static void
put_terms(StringInfo out, const BillingMeasureTerms *terms)
{
	billing_usage_put_integer(out, terms->aggregation);
	billing_usage_put_integer(out, terms->period_start);
	billing_usage_put_integer(out, terms->period_end);
	billing_usage_put_text(out, terms->zone_name != NULL ? terms->zone_name : "");
	billing_usage_put_number(out, &terms->percentile);
	billing_usage_put_integer(out, terms->time_unit);
	billing_usage_put_integer(out, terms->has_scale ? 1 : 0);
	billing_usage_put_integer(out, terms->scale);
	billing_usage_put_integer(out, terms->rounding);
}

/* Read what is asked for. */
static void
get_terms(BillingUsageReader *reader, BillingMeasureTerms *terms)
{
	terms->aggregation = (BillingAggregation) billing_usage_get_integer(reader);
	terms->period_start = (DateADT) billing_usage_get_integer(reader);
	terms->period_end = (DateADT) billing_usage_get_integer(reader);
	terms->zone_name = billing_usage_get_text(reader);
	if (terms->aggregation == BILLING_AGGREGATION_TIME_WEIGHTED)
		terms->zone = billing_usage_zone(terms->zone_name);
	billing_usage_get_number(reader, &terms->percentile);
	terms->time_unit = (int32) billing_usage_get_integer(reader);
	terms->has_scale = billing_usage_get_integer(reader) != 0;
	terms->scale = (int32) billing_usage_get_integer(reader);
	terms->rounding = (BillingUsageRounding) billing_usage_get_integer(reader);
}

/* billing_internal.measure_serialize(internal) RETURNS bytea */
Datum
billing_usage_measure_serialize(PG_FUNCTION_ARGS)
{
	const BillingMeasure *measure = (const BillingMeasure *) PG_GETARG_POINTER(0);
	StringInfoData out;
	DateADT before = 0;

	billing_usage_aggregate_context(fcinfo);
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	put_terms(&out, &measure->terms);
	billing_usage_put_integer(&out, measure->events);
	billing_usage_put_number(&out, &measure->sum);
	billing_usage_put_integer(&out, measure->samples.nsamples);
	for (int64 i = 0; i < measure->samples.nsamples; i++)
	{
		const BillingSample *sample = &measure->samples.samples[i];

		billing_usage_put_integer(&out, sample->events);
		if (measure->samples.is_text)
			billing_usage_put_text(&out, sample->text);
		else
			billing_usage_put_number(&out, &sample->number);
	}
	billing_usage_put_integer(&out, measure->days.ndays);
	for (int64 i = 0; i < measure->days.ndays; i++)
	{
		const BillingLevelDay *day = &measure->days.days[i];

		billing_usage_put_integer(&out, day->recomputed ? 1 : 0);
		billing_usage_put_day(&out, &day->day, before);
		before = day->day.day;
	}
	SET_VARSIZE(out.data, out.len);
	PG_RETURN_BYTEA_P((bytea *) out.data);
}

/* billing_internal.measure_deserialize(bytea, internal) RETURNS internal */
Datum
billing_usage_measure_deserialize(PG_FUNCTION_ARGS)
{
	BillingMeasure *measure = billing_usage_start_measure(CurrentMemoryContext);
	BillingUsageReader reader;
	int64 count;

	billing_usage_aggregate_context(fcinfo);
	billing_usage_get_bytes(&reader, PG_GETARG_BYTEA_PP(0));
	get_terms(&reader, &measure->terms);
	measure->events = billing_usage_get_integer(&reader);
	billing_usage_get_number(&reader, &measure->sum);
	measure->samples.is_text = measure->terms.aggregation == BILLING_AGGREGATION_UNIQUE_COUNT;
	for (count = billing_usage_get_integer(&reader); count > 0; count--)
	{
		BillingSample sample = { .events = billing_usage_get_integer(&reader) };

		if (measure->samples.is_text)
			sample.text = billing_usage_get_text(&reader);
		else
			billing_usage_get_number(&reader, &sample.number);
		billing_usage_add_sample(&measure->samples, &sample);
	}
	for (count = billing_usage_get_integer(&reader); count > 0; count--)
	{
		BillingLevelDay day = { .recomputed = billing_usage_get_integer(&reader) != 0 };

		reader.left = 1;
		billing_usage_next(&reader, &day.day);
		billing_usage_add_level_day(&measure->days, &day);
	}
	PG_RETURN_POINTER(measure);
}

/* Round the measured quantity as asked for. */
static Numeric
finish(const BillingUsageNumber *quantity, const BillingMeasureTerms *terms)
{
	int32 divisor = terms->aggregation == BILLING_AGGREGATION_TIME_WEIGHTED ? terms->time_unit : 1;

	if (terms->has_scale)
		return billing_usage_round(quantity, divisor, terms->scale, terms->rounding);
	if (divisor > 1)
		return billing_usage_round(quantity, divisor, QUOTIENT_SCALE, BILLING_ROUND_NEAREST);
	return billing_usage_number_numeric(quantity);
}

/* What the group comes to, before rounding. */
static BillingUsageNumber
work_out(BillingMeasure *measure, int64 *events)
{
	BillingUsageNumber count;

	*events = measure->events;
	if (has_levels(measure->terms.aggregation))
		return billing_usage_level_result(&measure->days, &measure->terms, events);
	if (has_samples(measure->terms.aggregation))
		return billing_usage_sample_result(&measure->samples, &measure->terms);
	if (measure->terms.aggregation == BILLING_AGGREGATION_SUM)
		return measure->sum;
	count.as.value = measure->events;
	count.scale = 0;
	return count;
}

/* What was added comes to: the quantity, rounded, and the events. */
Numeric
billing_usage_finish_measure(BillingMeasure *measure, int64 *events)
{
	BillingUsageNumber quantity = work_out(measure, events);

	return finish(&quantity, &measure->terms);
}

/* The row type of the result, looked up once per statement. */
static TupleDesc
result_type(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		TupleDesc tupdesc;

		if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
			ereport(ERROR, errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
					errmsg("measure() has no row type"),
					errhint("Install the extension's SQL and library of the same version."));
		fcinfo->flinfo->fn_extra = BlessTupleDesc(CreateTupleDescCopy(tupdesc));
		MemoryContextSwitchTo(caller);
	}
	return (TupleDesc) fcinfo->flinfo->fn_extra;
}

/*
 * billing_internal.measure_final(internal) RETURNS billing.usage_measure:
 * quantity and events; (0, 0) without days
 */
Datum
billing_usage_measure_final(PG_FUNCTION_ARGS)
{
	TupleDesc tupdesc = result_type(fcinfo);
	Datum values[2];
	bool nulls[2] = { false, false };
	int64 events = 0;

	billing_usage_aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		values[0] = NumericGetDatum(int64_to_numeric(0));
	else
		values[0] = NumericGetDatum(
			billing_usage_finish_measure((BillingMeasure *) PG_GETARG_POINTER(0), &events));
	values[1] = Int64GetDatum(events);
	return HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls));
}
