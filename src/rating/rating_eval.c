/*
 * rating_eval.c
 *		rate() in integers: the fast path, exact wherever it answers.
 *
 * What does not fit, and all that is refused, is left to rating_exact.c, so
 * that an error is raised in one place.  rating.h has the definitions.
 */
#include "pg_compat.h"

#include "utils/builtins.h"

#include "rating/rating_private.h"

PG_FUNCTION_INFO_V1(billing_rating_rate_tariff);
PG_FUNCTION_INFO_V1(billing_rating_rate_matrix);
PG_FUNCTION_INFO_V1(billing_rating_rate_with_numeric);

/* up to here, walking along the tiers is faster than halving them */
#define LINEAR_SEARCH_TIERS 8

/* A quantity of at most 18 digits, and the number of its events. */
typedef struct FastUsage
{
	int64 value;
	int scale;
	int64 events;
} FastUsage;

/*
 * Find the first tier whose bound is not below the quantity, which is finer than
 * the bounds by factor.  Multiplying in 128 bits is faster than dividing in 64.
 */
static inline int
find_tier(const BillingTariff *tariff, int64 quantity, int64 factor)
{
	int low = 0;
	int high = tariff->ntiers - 1;

	if (high < LINEAR_SEARCH_TIERS)
	{
		while (low < high && (int128) tariff->tiers[low].up_to * factor < quantity)
			low++;
		return low;
	}
	while (low < high)
	{
		int middle = (low + high) / 2;

		if ((int128) tariff->tiers[middle].up_to * factor < quantity)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Multiply by 10^digits; most amounts fit 64 bits, and then the product fits 128. */
static inline bool
raise_amount(int128 *amount, int digits)
{
	int64 small = (int64) *amount;

	if (small != *amount)
		return billing_core_decimal_raise(amount, digits);
	*amount = (int128) small * billing_core_decimal_power[digits];
	return true;
}

/* Rate a quantity of zero. */
static inline void
rate_zero(const BillingTariff *tariff, BillingDecimal *amount)
{
	amount->scale = tariff->price_scale;
	amount->value = 0;
	if (tariff->zero_usage == BILLING_ZERO_FIRST_TIER)
		amount->value = tariff->tiers[0].flat;
	else if (tariff->zero_usage == BILLING_ZERO_ONE_PACKAGE)
		amount->value = tariff->tiers[0].unit;
}

/* Rate a quantity by the tiers: one lookup and one multiplication. */
static inline bool
rate_tiers(const BillingTariff *tariff, const FastUsage *usage, BillingDecimal *amount)
{
	int64 part = usage->value;
	int64 factor = 1;
	int finer = usage->scale - tariff->quantity_scale;
	int index;
	const BillingTier *tier;
	int128 base;

	/* bring the quantity to the tariff's scale, or remember how much finer it is */
	if (finer < 0)
	{
		int64 coarser = billing_core_decimal_power[-finer];

		if (part > PG_INT64_MAX / coarser || part < -(PG_INT64_MAX / coarser))
			return false;
		part *= coarser;
		finer = 0;
	}
	else
		factor = billing_core_decimal_power[finer];

	index = find_tier(tariff, part, factor);
	tier = &tariff->tiers[index];
	/* the bound before is below the quantity, so raising it cannot overflow */
	if ((tariff->flags & BILLING_TARIFF_CUMULATIVE) != 0 && index > 0)
		part -= tariff->tiers[index - 1].up_to * factor;

	base = tier->base;
	if (tier->block == 0)
	{
		amount->scale = tariff->price_scale + tariff->quantity_scale + finer;
		if (finer > 0 && !raise_amount(&base, finer))
			return false;
		amount->value = base + (int128) part * tier->unit;
	}
	else
	{
		int64 block = tier->block;

		if (finer > 0)
		{
			if (block > PG_INT64_MAX / factor)
				return false;
			block *= factor;
		}
		amount->scale = tariff->price_scale + tariff->quantity_scale;
		amount->value = (int128) (part / block + (part % block != 0)) * tier->unit;
		if (!raise_amount(&amount->value, tariff->quantity_scale))
			return false;
		amount->value += base;
	}
	return true;
}

/* Subtract the free units. */
static bool
charge_free_units(const BillingTariff *tariff, FastUsage *usage)
{
	const BillingTerm *term = billing_rating_term(tariff, BILLING_TERM_FREE_UNITS);
	BillingDecimal left = { usage->value, usage->scale };

	if (term == NULL || usage->value <= 0)
		return true;
	if (!billing_core_decimal_add(&left, (BillingDecimal){ -term->value, term->scale }))
		return false;
	if (left.value < 0)
		left.value = 0;
	if (left.value >= billing_core_decimal_power[BILLING_DECIMAL_DIGITS])
		return false;
	usage->value = (int64) left.value;
	usage->scale = left.scale;
	return true;
}

/* Lower an amount to a limit, or raise it to one. */
static bool
limit_amount(BillingDecimal *amount, const BillingTerm *term, bool lower)
{
	BillingDecimal limit;

	if (term == NULL)
		return true;
	limit = (BillingDecimal){ term->value, term->scale };
	if (!billing_core_decimal_align(amount, &limit))
		return false;
	if (lower ? amount->value > limit.value : amount->value < limit.value)
		amount->value = limit.value;
	return true;
}

/* Add what is priced per event. */
static bool
charge_events(const BillingTariff *tariff, const FastUsage *usage, BillingDecimal *amount)
{
	const BillingTerm *fixed = billing_rating_term(tariff, BILLING_TERM_FIXED);
	const BillingTerm *free_events = billing_rating_term(tariff, BILLING_TERM_FREE_EVENTS);
	const BillingTerm *event_min = billing_rating_term(tariff, BILLING_TERM_EVENT_MIN);
	const BillingTerm *event_max = billing_rating_term(tariff, BILLING_TERM_EVENT_MAX);
	int64 paid = usage->events;

	if (free_events != NULL)
		paid = paid > free_events->value ? paid - free_events->value : 0;
	if (fixed != NULL &&
		!billing_core_decimal_add(amount,
								  (BillingDecimal){ (int128) fixed->value * paid, fixed->scale }))
		return false;
	if (event_min == NULL && event_max == NULL)
		return true;
	if (usage->events > 1 || (usage->events == 0 && usage->value != 0))
		return false;
	if (paid == 0)
		return true;
	return limit_amount(amount, event_min, false) && limit_amount(amount, event_max, true);
}

/* Rate by the model and its per-event prices. */
static inline bool
rate_model(const BillingTariff *tariff, const FastUsage *usage, BillingDecimal *amount)
{
	const uint8 per_event = (1 << BILLING_TERM_FIXED) | (1 << BILLING_TERM_FREE_EVENTS) |
							(1 << BILLING_TERM_EVENT_MIN) | (1 << BILLING_TERM_EVENT_MAX);

	if ((tariff->flags & BILLING_TARIFF_FAST) == 0)
		return false;
	if (usage->value < 0 && (tariff->flags & BILLING_TARIFF_LINEAR) == 0)
		return false;
	if (usage->value == 0)
		rate_zero(tariff, amount);
	else if (!rate_tiers(tariff, usage, amount))
		return false;
	return (tariff->terms & per_event) == 0 || charge_events(tariff, usage, amount);
}

/* Rate with free units and limits; false where that does not fit or is not allowed. */
static pg_noinline bool
rate_with_terms(const BillingTariff *tariff, const BillingTariff *cell, FastUsage usage,
				BillingDecimal *amount)
{
	const BillingTerm *free_amount;

	if (!charge_free_units(tariff, &usage))
		return false;
	if (cell == NULL ? !rate_model(tariff, &usage, amount)
					 : !rate_with_terms(cell, NULL, usage, amount))
		return false;
	free_amount = billing_rating_term(tariff, BILLING_TERM_FREE_AMOUNT);
	if (free_amount != NULL && amount->value > 0)
	{
		if (!billing_core_decimal_add(amount,
									  (BillingDecimal){ -free_amount->value, free_amount->scale }))
			return false;
		if (amount->value < 0)
			amount->value = 0;
	}
	return limit_amount(amount, billing_rating_term(tariff, BILLING_TERM_MINIMUM), false) &&
		   limit_amount(amount, billing_rating_term(tariff, BILLING_TERM_MAXIMUM), true);
}

/*
 * Rate a quantity: the exact amount, not rounded, without trailing zeros.
 *
 * Raises ERRCODE_BILLING_NOT_RATEABLE where the tariff has no amount for it.
 */
Datum
billing_rating_rate(const BillingTariff *tariff, const BillingTariff *cell,
					const BillingUsage *usage)
{
	FastUsage fast;
	BillingDecimal amount;

	if (likely(billing_core_decimal_decode(usage->quantity, &fast.value, &fast.scale)))
	{
		fast.events = usage->events_given ? usage->events : (fast.value != 0);
		if (likely(fast.events >= 0) &&
			(tariff->terms == 0 && cell == NULL ? rate_model(tariff, &fast, &amount)
												: rate_with_terms(tariff, cell, fast, &amount)))
			return billing_core_decimal_encode(amount.value, amount.scale);
	}
	return NumericGetDatum(billing_rating_rate_exact(tariff, cell, usage, NULL, NULL));
}

/* Read the events argument, which may be null. */
static inline void
read_events(FunctionCallInfo fcinfo, int argument, BillingUsage *usage)
{
	usage->events_given = !PG_ARGISNULL(argument);
	usage->events = usage->events_given ? PG_GETARG_INT64(argument) : 0;
}

/*
 * billing.rate(tariff billing.tariff, quantity numeric,
 *     events bigint DEFAULT NULL) RETURNS numeric
 */
Datum
billing_rating_rate_tariff(PG_FUNCTION_ARGS)
{
	BillingTariffBuffer buffer;
	const BillingTariff *tariff;
	const BillingTariff *cell = NULL;
	BillingUsage usage;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	tariff = billing_rating_fetch(fcinfo->flinfo, PG_GETARG_DATUM(0), &buffer);
	usage.quantity = PG_GETARG_DATUM(1);
	read_events(fcinfo, 2, &usage);
	if (tariff->model == BILLING_MODEL_MATRIX)
		cell = billing_rating_pick(tariff, NULL);
	return billing_rating_rate(tariff, cell, &usage);
}

/*
 * billing.rate(tariff billing.tariff, quantity numeric, dimensions jsonb,
 *     events bigint DEFAULT NULL) RETURNS numeric
 */
Datum
billing_rating_rate_matrix(PG_FUNCTION_ARGS)
{
	BillingTariffBuffer buffer;
	const BillingTariff *tariff;
	const BillingTariff *cell = NULL;
	BillingUsage usage;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	tariff = billing_rating_fetch(fcinfo->flinfo, PG_GETARG_DATUM(0), &buffer);
	usage.quantity = PG_GETARG_DATUM(1);
	read_events(fcinfo, 3, &usage);
	if (tariff->model == BILLING_MODEL_MATRIX)
		cell = billing_rating_pick(tariff, PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	return billing_rating_rate(tariff, cell, &usage);
}

/*
 * billing_internal.rate_exact(tariff billing.tariff, quantity numeric,
 *     events bigint) RETURNS numeric
 */
Datum
billing_rating_rate_with_numeric(PG_FUNCTION_ARGS)
{
	BillingTariffBuffer buffer;
	const BillingTariff *tariff;
	BillingUsage usage;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	tariff = billing_rating_fetch(fcinfo->flinfo, PG_GETARG_DATUM(0), &buffer);
	usage.quantity = PG_GETARG_DATUM(1);
	read_events(fcinfo, 2, &usage);
	PG_RETURN_NUMERIC(
		billing_rating_rate_exact(tariff, billing_rating_pick(tariff, NULL), &usage, NULL, NULL));
}
