/*
 * rating_exact.c
 *		Rating with numeric, step by step: for quantities and tariffs that do
 *		not fit integers, for rate_breakdown(), and as the second opinion that
 *		tests compare rate() with.
 *
 * It uses none of the amounts that rating_compile.c works out beforehand.  All
 * refusals of a quantity are here.  rating.h has the definitions.
 */
#include "pg_compat.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "rating/rating_private.h"

/*
 * numeric rounds products beyond 16383 decimals and ends at 131072 digits;
 * quantities within these bounds stay clear of both.
 */
#define MAX_QUANTITY_DECIMALS 16000
#define TOO_LARGE_QUANTITY "1e100000"

/* One rating: where its steps go, and what it sums up to. */
typedef struct Rating
{
	BillingLineSink sink;
	void *context;
	int64 events;
	Numeric amount;
} Rating;

static Numeric
call2(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

static int
sign(Numeric a)
{
	return compare(a, int64_to_numeric(0));
}

static Numeric
make(int64 value, int scale)
{
	return DatumGetNumeric(billing_core_decimal_encode(value, scale));
}

/* Show a numeric in an error, shortened. */
static char *
show(Numeric value)
{
	char *text = numeric_normalize(value);

	return strlen(text) <= 60 ? text : psprintf("%.60s...", text);
}

/* Take a step: add its amount and hand it to the sink. */
static void
step(Rating *rating, BillingLine *line)
{
	rating->amount = call2(numeric_add, rating->amount, line->amount);
	if (rating->sink != NULL)
		rating->sink(line, rating->context);
}

/* Take a step that only changes the amount. */
static void
adjust(Rating *rating, Numeric amount, const char *note)
{
	BillingLine line = { .amount = amount, .note = note };

	step(rating, &line);
}

/* Refuse quantities that numeric could not compute with exactly. */
static void
check_quantity(Numeric quantity)
{
	Numeric too_large;

	if (numeric_is_nan(quantity) || numeric_is_inf(quantity))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("quantity is not a finite number"),
				errdetail("The quantity is %s.", show(quantity)),
				errhint("Rate a finite quantity."));

	too_large =
		DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(TOO_LARGE_QUANTITY),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(quantity))) >
			MAX_QUANTITY_DECIMALS ||
		compare(DatumGetNumeric(DirectFunctionCall1(numeric_abs, NumericGetDatum(quantity))),
				too_large) >= 0)
		ereport(ERROR, errcode(ERRCODE_BILLING_OUT_OF_RANGE),
				errmsg("quantity has too many digits"),
				errdetail("A quantity is below %s and has at most %d decimals.", TOO_LARGE_QUANTITY,
						  MAX_QUANTITY_DECIMALS),
				errhint("Round the quantity."));
}

/* How many events there are: as given, or as follows from the quantity. */
static int64
count_events(const BillingUsage *usage, Numeric quantity)
{
	if (!usage->events_given)
		return sign(quantity) == 0 ? 0 : 1;
	if (usage->events < 0)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("events is negative"),
				errdetail("The number of events is %lld.", (long long) usage->events),
				errhint("Pass the number of events that the quantity is the sum of."));
	return usage->events;
}

/* Count started blocks, exactly. */
static Numeric
started_blocks(Numeric part, Numeric block)
{
	Numeric blocks = call2(numeric_div_trunc, part, block);

	if (compare(call2(numeric_mul, blocks, block), part) < 0)
		blocks = call2(numeric_add, blocks, int64_to_numeric(1));
	return blocks;
}

/* Charge a part of the quantity by the tier that it is in. */
static void
charge_tier(Rating *rating, const BillingTariff *tariff, int index, Numeric part)
{
	const BillingTier *tier = &tariff->tiers[index];
	BillingLine line = { .tier = index + 1, .quantity = part };

	line.from_quantity =
		index == 0 ? int64_to_numeric(0) : make(tier[-1].up_to, tier[-1].up_to_scale);
	if (!BILLING_TIER_IS_OPEN(tier))
		line.up_to = make(tier->up_to, tier->up_to_scale);
	line.flat = make(tier->flat, tier->flat_scale);
	if (tariff->model == BILLING_MODEL_STAIRSTEP)
	{
		line.amount = line.flat;
		step(rating, &line);
		return;
	}
	line.unit_price = make(tier->unit, tier->unit_scale);
	if (tier->block == 0)
		line.amount = call2(numeric_mul, part, line.unit_price);
	else
	{
		Numeric block = make(tier->block, tier->block_scale);
		Numeric blocks = started_blocks(part, block);

		line.amount = call2(numeric_mul, blocks, line.unit_price);
		line.note = psprintf("started blocks of %s: %s", show(block), show(blocks));
	}
	line.amount = call2(numeric_add, line.amount, line.flat);
	step(rating, &line);
}

/* Rate a quantity of zero. */
static void
rate_zero(Rating *rating, const BillingTariff *tariff)
{
	const BillingTier *tier = &tariff->tiers[0];
	Numeric zero = int64_to_numeric(0);
	BillingLine line = { .tier = 1, .from_quantity = zero, .quantity = zero };

	if (tariff->zero_usage == BILLING_ZERO_FIRST_TIER)
	{
		line.flat = line.amount = make(tier->flat, tier->flat_scale);
		line.note = "no usage: the flat of the first tier";
	}
	else if (tariff->zero_usage == BILLING_ZERO_ONE_PACKAGE)
	{
		line.unit_price = line.amount = make(tier->unit, tier->unit_scale);
		line.note = "no usage: one package";
	}
	else
	{
		line = (BillingLine){ .quantity = zero, .amount = zero, .note = "no usage" };
	}
	step(rating, &line);
}

/* Rate a quantity by the tiers, one after the other. */
static void
rate_tiers(Rating *rating, const BillingTariff *tariff, Numeric quantity)
{
	Numeric lower = int64_to_numeric(0);

	for (int i = 0; i < tariff->ntiers; i++)
	{
		const BillingTier *tier = &tariff->tiers[i];
		bool last = BILLING_TIER_IS_OPEN(tier);
		Numeric up_to = last ? NULL : make(tier->up_to, tier->up_to_scale);

		last = last || compare(quantity, up_to) <= 0;
		if ((tariff->flags & BILLING_TARIFF_CUMULATIVE) != 0)
			charge_tier(rating, tariff, i, call2(numeric_sub, last ? quantity : up_to, lower));
		else if (last)
			charge_tier(rating, tariff, i, quantity);
		if (last)
			return;
		lower = up_to;
	}
}

/* Lower or raise the amount to a limit. */
static void
limit_amount(Rating *rating, const BillingTariff *tariff, BillingTermKind kind, bool lower)
{
	const BillingTerm *term = billing_rating_term(tariff, kind);
	Numeric limit;
	int order;

	if (term == NULL)
		return;
	limit = make(term->value, term->scale);
	order = compare(rating->amount, limit);
	if (lower ? order > 0 : order < 0)
		adjust(rating, call2(numeric_sub, limit, rating->amount), billing_rating_term_names[kind]);
}

/* Refuse bounds per event where the cost of each event is not known. */
static void
check_event_bounds(const Rating *rating, Numeric quantity)
{
	if (rating->events == 1 || (rating->events == 0 && sign(quantity) == 0))
		return;
	ereport(ERROR, errcode(ERRCODE_BILLING_NOT_RATEABLE),
			errmsg("event_min and event_max bound one event, but this is the sum of %lld",
				   (long long) rating->events),
			errdetail("The quantity is %s.", show(quantity)),
			errhint("Rate the events with the aggregate billing.rate_events()."));
}

/* Charge what is priced per event. */
static void
charge_events(Rating *rating, const BillingTariff *tariff, Numeric quantity)
{
	const BillingTerm *fixed = billing_rating_term(tariff, BILLING_TERM_FIXED);
	const BillingTerm *free_events = billing_rating_term(tariff, BILLING_TERM_FREE_EVENTS);
	int64 paid = rating->events;

	if (free_events != NULL)
		paid = paid > free_events->value ? paid - free_events->value : 0;
	if (fixed != NULL && rating->events > 0)
	{
		BillingLine line = { .quantity = int64_to_numeric(paid),
							 .unit_price = make(fixed->value, fixed->scale),
							 .note = "fixed per event" };

		line.amount = call2(numeric_mul, line.quantity, line.unit_price);
		if (paid < rating->events)
			line.note = psprintf("fixed per event, %lld free", (long long) (rating->events - paid));
		step(rating, &line);
	}
	if (billing_rating_term(tariff, BILLING_TERM_EVENT_MIN) == NULL &&
		billing_rating_term(tariff, BILLING_TERM_EVENT_MAX) == NULL)
		return;
	check_event_bounds(rating, quantity);
	if (paid > 0)
	{
		limit_amount(rating, tariff, BILLING_TERM_EVENT_MIN, false);
		limit_amount(rating, tariff, BILLING_TERM_EVENT_MAX, true);
	}
}

/* Rate by the model and its per-event prices. */
static void
rate_model(Rating *rating, const BillingTariff *tariff, Numeric quantity)
{
	int order = sign(quantity);

	if (order < 0 && (tariff->flags & BILLING_TARIFF_LINEAR) == 0)
		ereport(ERROR, errcode(ERRCODE_BILLING_NOT_RATEABLE),
				errmsg("a %s tariff%s has no amount for a negative quantity",
					   billing_rating_model_names[tariff->model],
					   tariff->model == BILLING_MODEL_PERCENTAGE ? " with event_min or event_max"
																 : ""),
				errdetail("The quantity is %s.", show(quantity)),
				errhint("A correction is the difference of two ratings: with it and without it."));
	if (order == 0)
		rate_zero(rating, tariff);
	else
		rate_tiers(rating, tariff, quantity);
	charge_events(rating, tariff, quantity);
}

/* Rate a quantity: free units, model or cell, and limits, in that order. */
static void
rate_quantity(Rating *rating, const BillingTariff *tariff, const BillingTariff *cell,
			  Numeric quantity)
{
	const BillingTerm *free_units = billing_rating_term(tariff, BILLING_TERM_FREE_UNITS);
	const BillingTerm *free_amount = billing_rating_term(tariff, BILLING_TERM_FREE_AMOUNT);

	if (free_units != NULL && sign(quantity) > 0)
	{
		Numeric used = make(free_units->value, free_units->scale);
		BillingLine line = { .note = "free units" };

		if (compare(quantity, used) < 0)
			used = quantity;
		line.quantity = used;
		line.unit_price = line.amount = int64_to_numeric(0);
		step(rating, &line);
		quantity = call2(numeric_sub, quantity, used);
	}
	if (cell == NULL)
		rate_model(rating, tariff, quantity);
	else
		rate_quantity(rating, cell, NULL, quantity);

	if (free_amount != NULL && sign(rating->amount) > 0)
	{
		Numeric used = make(free_amount->value, free_amount->scale);

		if (compare(rating->amount, used) < 0)
			used = rating->amount;
		adjust(rating, call2(numeric_sub, int64_to_numeric(0), used),
			   billing_rating_term_names[BILLING_TERM_FREE_AMOUNT]);
	}
	limit_amount(rating, tariff, BILLING_TERM_MINIMUM, false);
	limit_amount(rating, tariff, BILLING_TERM_MAXIMUM, true);
}

/*
 * Rate with numeric; each step goes to the sink if there is one.
 *
 * The amount has no trailing zeros, as billing_rating_rate()'s.
 */
Numeric
billing_rating_rate_exact(const BillingTariff *tariff, const BillingTariff *cell,
						  const BillingUsage *usage, BillingLineSink sink, void *context)
{
	Numeric quantity = DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, usage->quantity));
	Rating rating = { .sink = sink, .context = context, .amount = int64_to_numeric(0) };

	check_quantity(quantity);
	rating.events = count_events(usage, quantity);
	rate_quantity(&rating, tariff, cell, quantity);
	return DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(rating.amount)));
}
