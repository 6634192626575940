/*
 * rating_events.c
 *		The aggregate rate_events(): rates the events of a period one by one
 *		where the tariff bounds what an event costs, and their sum otherwise.
 *
 * With bounds, a period is worked out as the price of each event (free units
 * taken off the first events), and then the period's free_amount, minimum and
 * maximum on the sum of the prices.
 */
#include "pg_compat.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "rating/rating_private.h"

PG_FUNCTION_INFO_V1(billing_rating_rate_events_step);
PG_FUNCTION_INFO_V1(billing_rating_rate_events_final);

#define EVENT_BOUNDS ((1 << BILLING_TERM_EVENT_MIN) | (1 << BILLING_TERM_EVENT_MAX))
#define EVENT_TERMS (EVENT_BOUNDS | (1 << BILLING_TERM_FIXED))
#define PERIOD_TERMS \
	((1 << BILLING_TERM_FREE_AMOUNT) | (1 << BILLING_TERM_MINIMUM) | (1 << BILLING_TERM_MAXIMUM))

typedef struct EventsState
{
	MemoryContext context;
	BillingTariff *tariff;
	bool bounded; /* priced event by event */
	int64 events;
	Numeric quantity; /* of all events */
	/* bounded only */
	int64 free_events;
	Numeric free_units;		   /* left */
	Numeric charges;		   /* what the events cost */
	BillingTariff *per_event;  /* prices an event */
	BillingTariff *free_event; /* prices an event that is free */
	BillingTariff *per_period; /* free_amount, minimum and maximum on the sum */
} EventsState;

/* Make a tariff of one model with some of the terms of another tariff. */
static BillingTariff *
derive(const BillingTariff *tariff, BillingModel model, int terms)
{
	BillingDraft draft;
	BillingTier tier = tariff->tiers[0];

	memset(&draft, 0, sizeof(draft));
	draft.model = model;
	draft.ntiers = 1;
	draft.tiers = &tier;
	if (model == BILLING_MODEL_DYNAMIC)
	{
		tier.unit = 1;
		tier.unit_scale = tier.flat_scale = 0;
	}
	for (int kind = 0; kind < BILLING_TERM_COUNT; kind++)
	{
		const BillingTerm *term = billing_rating_term(tariff, (BillingTermKind) kind);

		if (term == NULL || (terms & (1 << kind)) == 0)
			continue;
		draft.term_given[kind] = true;
		draft.terms[kind] = *term;
	}
	return billing_rating_compile(&draft);
}

/* Start with the tariff of the first event. */
static EventsState *
start(const BillingTariff *tariff)
{
	EventsState *state = palloc0(sizeof(EventsState));
	const BillingTerm *term;

	state->context = CurrentMemoryContext;
	state->tariff = memcpy(palloc(VARSIZE(tariff)), tariff, VARSIZE(tariff));
	state->bounded = (tariff->terms & EVENT_BOUNDS) != 0;
	state->quantity = int64_to_numeric(0);
	if (!state->bounded)
		return state;
	state->charges = int64_to_numeric(0);
	term = billing_rating_term(tariff, BILLING_TERM_FREE_EVENTS);
	state->free_events = term == NULL ? 0 : term->value;
	term = billing_rating_term(tariff, BILLING_TERM_FREE_UNITS);
	state->free_units =
		term == NULL ? int64_to_numeric(0)
					 : DatumGetNumeric(billing_core_decimal_encode(term->value, term->scale));
	state->per_event = derive(tariff, BILLING_MODEL_PERCENTAGE, EVENT_TERMS);
	state->free_event = derive(tariff, BILLING_MODEL_PERCENTAGE, 0);
	state->per_period = derive(tariff, BILLING_MODEL_DYNAMIC, PERIOD_TERMS);
	return state;
}

/* Replace a running number, which lives as long as the aggregate. */
static void
keep(const EventsState *state, Numeric *target, Numeric value)
{
	Numeric copy = MemoryContextAlloc(state->context, VARSIZE(value));

	memcpy(copy, value, VARSIZE(value));
	pfree(*target);
	*target = copy;
}

static Numeric
call2(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/* Price one event, after taking off its free units. */
static void
add_event(EventsState *state, Numeric quantity)
{
	BillingUsage usage = { .events_given = true, .events = 1 };
	const BillingTariff *tariff =
		state->events < state->free_events ? state->free_event : state->per_event;
	Numeric used;

	/* refuses what cannot be rated, before free units hide it */
	usage.quantity = NumericGetDatum(quantity);
	billing_rating_rate(state->per_event, NULL, &usage);

	used = call2(numeric_smaller, quantity, state->free_units);
	usage.quantity = NumericGetDatum(call2(numeric_sub, quantity, used));
	keep(state, &state->free_units, call2(numeric_sub, state->free_units, used));
	keep(state, &state->charges,
		 call2(numeric_add, state->charges,
			   DatumGetNumeric(billing_rating_rate(tariff, NULL, &usage))));
}

/*
 * billing_internal.rate_events_step(internal, billing.tariff, numeric)
 * RETURNS internal: adds an event; an event without a quantity is none.
 */
Datum
billing_rating_rate_events_step(PG_FUNCTION_ARGS)
{
	EventsState *state = PG_ARGISNULL(0) ? NULL : (EventsState *) PG_GETARG_POINTER(0);
	BillingTariffBuffer buffer;
	const BillingTariff *tariff;
	MemoryContext aggregate;
	Numeric quantity;

	if (!AggCheckCallContext(fcinfo, &aggregate))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("rate_events_step is called outside an aggregate"),
				errhint("Use the aggregate billing.rate_events()."));
	if (PG_ARGISNULL(2))
	{
		if (state == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(state);
	}
	if (PG_ARGISNULL(1))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("tariff is null"),
				errdetail("An event with a quantity has no tariff to rate it by."),
				errhint("Leave out events without a price, or find their price first."));

	tariff = billing_rating_fetch(fcinfo->flinfo, PG_GETARG_DATUM(1), &buffer);
	if (state == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(aggregate);

		state = start(tariff);
		MemoryContextSwitchTo(caller);
	}
	else if (VARSIZE(tariff) != VARSIZE(state->tariff) ||
			 memcmp(tariff, state->tariff, VARSIZE(tariff)) != 0)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("events of one group have different tariffs"),
				errdetail("Free units and limits hold for one tariff."),
				errhint("Group the events by their price."));

	quantity = PG_GETARG_NUMERIC(2);
	if (state->bounded)
		add_event(state, quantity);
	else
		keep(state, &state->quantity, call2(numeric_add, state->quantity, quantity));
	state->events++;
	PG_RETURN_POINTER(state);
}

/* billing_internal.rate_events_final(internal) RETURNS numeric */
Datum
billing_rating_rate_events_final(PG_FUNCTION_ARGS)
{
	EventsState *state = PG_ARGISNULL(0) ? NULL : (EventsState *) PG_GETARG_POINTER(0);
	BillingUsage usage = { .events_given = true };

	if (state == NULL)
		PG_RETURN_NULL();
	usage.events = state->events;
	usage.quantity = NumericGetDatum(state->bounded ? state->charges : state->quantity);
	if (state->bounded)
		return billing_rating_rate(state->per_period, NULL, &usage);
	return billing_rating_rate(state->tariff, billing_rating_pick(state->tariff, NULL), &usage);
}
