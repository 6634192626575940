/*
 * rating_try.c
 *		Rating that reports instead of raising, for statements that rate many
 *		items: one that cannot be rated must not stop the others.
 *
 * Rating takes no locks and holds no resources beside memory, so its errors may
 * be caught without a subtransaction.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "core/decimal.h"
#include "rating/rating.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

/*
 * What an invoice may hold: a quantity as billing.quantity, and of an amount so
 * much that a million of them, taxed, are still a billing.amount.
 */
#define QUANTITY_BOUND "1e36"
#define AMOUNT_BOUND "1e20"

/* Whether an error speaks of the price or the quantity, not of the server. */
static bool
is_rating_error(int sqlstate)
{
	return sqlstate == ERRCODE_BILLING_NOT_RATEABLE || sqlstate == ERRCODE_BILLING_OUT_OF_RANGE ||
		   sqlstate == ERRCODE_BILLING_INVALID_ARGUMENT ||
		   sqlstate == ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
}

/* Whether a number is below a bound in size. */
static bool
is_below(Datum number, const char *bound)
{
	int64 mantissa;
	int scale;
	Datum limit;

	if (billing_core_decimal_decode(number, &mantissa, &scale))
		return true;
	limit = DirectFunctionCall3(numeric_in, CStringGetDatum(bound), ObjectIdGetDatum(InvalidOid),
								Int32GetDatum(-1));
	return DatumGetBool(
		DirectFunctionCall2(numeric_lt, DirectFunctionCall1(numeric_abs, number), limit));
}

/* A rating function called so that its errors come back as a text. */
static bool
call_rating(PGFunction function, FunctionCallInfo fcinfo, Datum *result, char **error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool rated = true;

	PG_TRY();
	{
		fcinfo->isnull = false;
		*result = function(fcinfo);
	}
	PG_CATCH();
	{
		ErrorData *data;

		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		if (!is_rating_error(data->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		*error =
			data->detail != NULL ? psprintf("%s: %s", data->message, data->detail) : data->message;
		rated = false;
	}
	PG_END_TRY();
	return rated;
}

/* Rate by (tariff, quantity, events, dimensions), where dimensions may be null. */
static bool
rate_with_dimensions(FunctionCallInfo fcinfo, Datum *result, char **error)
{
	LOCAL_FCINFO(rate, 4);
	bool rated;

	if (fcinfo->nargs < 4 || PG_ARGISNULL(3))
		return call_rating(billing_rating_rate_tariff, fcinfo, result, error);
	InitFunctionCallInfoData(*rate, fcinfo->flinfo, 4, fcinfo->fncollation, fcinfo->context, NULL);
	rate->args[0] = fcinfo->args[0];
	rate->args[1] = fcinfo->args[1];
	rate->args[2] = fcinfo->args[3];
	rate->args[3] = fcinfo->args[2];
	rated = call_rating(billing_rating_rate_matrix, rate, result, error);
	fcinfo->isnull = rate->isnull;
	return rated;
}

/* Rate a quantity; false where it cannot be rated, or not as a line of an invoice. */
static bool
rate_line(FunctionCallInfo fcinfo, Datum *result, char **error)
{
	if (!rate_with_dimensions(fcinfo, result, error))
		return false;
	if (fcinfo->isnull)
		return true;
	if (!is_below(fcinfo->args[1].value, QUANTITY_BOUND))
		*error = "quantity is out of range: a line of an invoice holds less than 10^36";
	else if (!is_below(*result, AMOUNT_BOUND))
		*error = "amount is out of range: a line of an invoice holds less than 10^20";
	else
		return true;
	return false;
}

/*
 * Rate a quantity, with its number of events where that is not NULL, and the
 * group keys where those are not; false where that cannot be done, or not as a
 * line of an invoice.  flinfo needs no more than a memory context.
 */
bool
billing_rating_try(FmgrInfo *flinfo, Datum tariff, Datum quantity, const int64 *events,
				   Jsonb *dimensions, Datum *amount)
{
	LOCAL_FCINFO(rate, 4);
	char *error;

	InitFunctionCallInfoData(*rate, flinfo, 4, InvalidOid, NULL, NULL);
	rate->args[0].value = tariff;
	rate->args[0].isnull = false;
	rate->args[1].value = quantity;
	rate->args[1].isnull = false;
	rate->args[2].value = events != NULL ? Int64GetDatum(*events) : (Datum) 0;
	rate->args[2].isnull = events == NULL;
	rate->args[3].value = JsonbPGetDatum(dimensions);
	rate->args[3].isnull = dimensions == NULL;
	return rate_line(rate, amount, &error) && !rate->isnull;
}

/* Whether a tariff bounds what one event costs, so that a period is rated event by event. */
bool
billing_rating_prices_by_event(FmgrInfo *flinfo, Datum stored)
{
	BillingTariffBuffer buffer;
	const BillingTariff *tariff = billing_rating_fetch(flinfo, stored, &buffer);

	return (tariff->terms & ((1 << BILLING_TERM_EVENT_MIN) | (1 << BILLING_TERM_EVENT_MAX))) != 0;
}

/* The state of try_rate_events(): that of rate_events(), until an event cannot be rated. */
typedef struct TryEvents
{
	Datum events;
	bool has_events;
	bool failed;
} TryEvents;

PG_FUNCTION_INFO_V1(billing_rating_try_rate);
PG_FUNCTION_INFO_V1(billing_rating_error);
PG_FUNCTION_INFO_V1(billing_rating_prices_events);
PG_FUNCTION_INFO_V1(billing_rating_try_events_step);
PG_FUNCTION_INFO_V1(billing_rating_try_events_final);

/*
 * billing_internal.try_rate(tariff billing.tariff, quantity numeric, events bigint,
 *     dimensions jsonb) RETURNS numeric
 */
Datum
billing_rating_try_rate(PG_FUNCTION_ARGS)
{
	Datum result = (Datum) 0;
	char *error;

	if (!rate_line(fcinfo, &result, &error))
		PG_RETURN_NULL();
	return result;
}

/*
 * billing_internal.rating_error(tariff billing.tariff, quantity numeric, events bigint,
 *     dimensions jsonb) RETURNS text
 */
Datum
billing_rating_error(PG_FUNCTION_ARGS)
{
	Datum result = (Datum) 0;
	char *error;

	if (rate_line(fcinfo, &result, &error))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(error));
}

/* billing_internal.prices_events(tariff billing.tariff) RETURNS boolean */
Datum
billing_rating_prices_events(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(billing_rating_prices_by_event(fcinfo->flinfo, PG_GETARG_DATUM(0)));
}

/* billing_internal.try_rate_events_step(internal, billing.tariff, numeric) RETURNS internal */
Datum
billing_rating_try_events_step(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(step, 3);
	MemoryContext aggregate;
	TryEvents *state;
	char *error;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("try_rate_events_step is called outside an aggregate"),
						errhint("Use the aggregate billing.rate_events().")));
	state = PG_ARGISNULL(0) ? MemoryContextAllocZero(aggregate, sizeof(TryEvents))
							: (TryEvents *) PG_GETARG_POINTER(0);
	if (state->failed)
		PG_RETURN_POINTER(state);
	InitFunctionCallInfoData(*step, fcinfo->flinfo, 3, fcinfo->fncollation, fcinfo->context, NULL);
	step->args[0].value = state->events;
	step->args[0].isnull = !state->has_events;
	step->args[1] = fcinfo->args[1];
	step->args[2] = fcinfo->args[2];
	if (!call_rating(billing_rating_rate_events_step, step, &state->events, &error))
		state->failed = true;
	else
		state->has_events = !step->isnull;
	PG_RETURN_POINTER(state);
}

/* billing_internal.try_rate_events_final(internal) RETURNS numeric */
Datum
billing_rating_try_events_final(PG_FUNCTION_ARGS)
{
	LOCAL_FCINFO(final, 1);
	TryEvents *state = PG_ARGISNULL(0) ? NULL : (TryEvents *) PG_GETARG_POINTER(0);
	Datum result = (Datum) 0;
	char *error;

	if (state == NULL || state->failed || !state->has_events)
		PG_RETURN_NULL();
	InitFunctionCallInfoData(*final, fcinfo->flinfo, 1, fcinfo->fncollation, fcinfo->context, NULL);
	final->args[0].value = state->events;
	final->args[0].isnull = false;
	if (!call_rating(billing_rating_rate_events_final, final, &result, &error) || final->isnull ||
		!is_below(result, AMOUNT_BOUND))
		PG_RETURN_NULL();
	return result;
}
