/*
 * rating_breakdown.c
 *		rate_breakdown(): the steps of a rating as rows, whose amounts sum to
 *		exactly what rate() gives.
 */
#include "pg_compat.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

#include "rating/rating_private.h"

#define BREAKDOWN_COLUMNS 8

PG_FUNCTION_INFO_V1(billing_rating_rate_breakdown);
PG_FUNCTION_INFO_V1(billing_rating_rate_breakdown_matrix);

/* Set a numeric column, without trailing zeros. */
static void
set_numeric(Datum *values, bool *nulls, int column, Numeric value)
{
	nulls[column] = value == NULL;
	if (value != NULL)
		values[column] = DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value));
}

/* Put one step into the result. */
static void
put_line(const BillingLine *line, void *context)
{
	ReturnSetInfo *result = context;
	Datum values[BREAKDOWN_COLUMNS] = { 0 };
	bool nulls[BREAKDOWN_COLUMNS] = { false };

	values[0] = Int32GetDatum(line->tier);
	nulls[0] = line->tier == 0;
	set_numeric(values, nulls, 1, line->from_quantity);
	set_numeric(values, nulls, 2, line->up_to);
	set_numeric(values, nulls, 3, line->quantity);
	set_numeric(values, nulls, 4, line->unit_price);
	set_numeric(values, nulls, 5, line->flat);
	set_numeric(values, nulls, 6, line->amount);
	nulls[7] = line->note == NULL;
	if (line->note != NULL)
		values[7] = CStringGetTextDatum(line->note);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Rate and return the steps; no rows where tariff or quantity is null. */
static Datum
breakdown(FunctionCallInfo fcinfo, const Jsonb *dimensions, int events_argument)
{
	BillingTariffBuffer buffer;
	const BillingTariff *tariff;
	BillingUsage usage;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	tariff = billing_rating_fetch(fcinfo->flinfo, PG_GETARG_DATUM(0), &buffer);
	usage.quantity = PG_GETARG_DATUM(1);
	usage.events_given = !PG_ARGISNULL(events_argument);
	usage.events = usage.events_given ? PG_GETARG_INT64(events_argument) : 0;
	billing_rating_rate_exact(tariff, billing_rating_pick(tariff, dimensions), &usage, put_line,
							  fcinfo->resultinfo);
	return (Datum) 0;
}

/*
 * billing.rate_breakdown(tariff billing.tariff, quantity numeric,
 *     events bigint DEFAULT NULL)
 * RETURNS TABLE (tier integer, from_quantity numeric, up_to numeric,
 *     quantity numeric, unit_price numeric, flat numeric, amount numeric,
 *     note text)
 */
Datum
billing_rating_rate_breakdown(PG_FUNCTION_ARGS)
{
	return breakdown(fcinfo, NULL, 2);
}

/*
 * billing.rate_breakdown(tariff billing.tariff, quantity numeric,
 *     dimensions jsonb, events bigint DEFAULT NULL) RETURNS TABLE (...)
 */
Datum
billing_rating_rate_breakdown_matrix(PG_FUNCTION_ARGS)
{
	return breakdown(fcinfo, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2), 3);
}
