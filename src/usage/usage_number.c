/*
 * usage_number.c
 *		Exact numbers of usage: integers with a scale while they have at most 18
 *		digits, numeric beyond that.
 *
 * A number owns its numeric: it is allocated in the context that was current
 * when the number was made, and freed when the number changes.
 */
#include "pg_compat.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "core/core.h"
#include "core/decimal.h"
#include "usage/usage_private.h"

/* seconds are given in microseconds */
#define MICROSECOND_SCALE 6

/* Does an integer of that scale fit a small number? */
static inline bool
fits(int128 value, int scale)
{
	const int64 limit = billing_core_decimal_power[BILLING_DECIMAL_DIGITS];

	return value < limit && value > -limit && scale <= BILLING_DECIMAL_DIGITS;
}

/* Make a number of an integer and its scale, at most 63. */
static void
set_decimal(BillingUsageNumber *number, int128 value, int scale)
{
	while (scale > 0 && !fits(value, scale) && value % 10 == 0)
	{
		value /= 10;
		scale--;
	}
	if (fits(value, scale))
	{
		number->as.value = (int64) value;
		number->scale = scale;
		return;
	}
	number->as.big = DatumGetNumeric(billing_core_decimal_encode(value, scale));
	number->scale = BILLING_USAGE_BIG;
}

/* Make a number of a numeric, which is copied if it must be kept. */
void
billing_usage_number_set(BillingUsageNumber *number, Numeric value)
{
	int scale;

	if (billing_core_decimal_decode(NumericGetDatum(value), &number->as.value, &scale))
	{
		number->scale = scale;
		return;
	}
	if (numeric_is_nan(value) || numeric_is_inf(value))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("a usage quantity must be a finite number"),
				errhint("Neither NaN nor infinity can be billed."));
	number->as.big =
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value)));
	number->scale = BILLING_USAGE_BIG;
}

/*
 * Read a plain decimal, such as -12.50: no exponent, no leading zeros, at most
 * BILLING_USAGE_MAX_DIGITS on each side of the point.  False where it is none.
 */
bool
billing_usage_number_parse(BillingUsageNumber *number, const char *text, int length)
{
	const char *end = text + length;
	const char *digits = text;
	const char *point = NULL;
	const char *c;
	int64 value = 0;
	char *copy;

	if (digits < end && *digits == '-')
		digits++;
	for (c = digits; c < end; c++)
	{
		if (*c == '.' && point == NULL)
			point = c;
		else if (*c < '0' || *c > '9')
			return false;
		else if (c - digits - (point != NULL) < BILLING_DECIMAL_DIGITS)
			value = value * 10 + (*c - '0');
	}
	c = point != NULL ? point : end;
	if (c == digits || c - digits > BILLING_USAGE_MAX_DIGITS || (*digits == '0' && c - digits > 1))
		return false;
	if (point != NULL && (end - point == 1 || end - point - 1 > BILLING_USAGE_MAX_DIGITS))
		return false;
	if (end - digits - (point != NULL) <= BILLING_DECIMAL_DIGITS)
	{
		number->as.value = digits == text ? value : -value;
		number->scale = point != NULL ? (int) (end - point) - 1 : 0;
		return true;
	}
	copy = pnstrdup(text, length);
	billing_usage_number_set(number,
							 DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(copy),
																 ObjectIdGetDatum(InvalidOid),
																 Int32GetDatum(-1))));
	pfree(copy);
	return true;
}

/* The number as a numeric without trailing zeros, which is the caller's. */
Numeric
billing_usage_number_numeric(const BillingUsageNumber *number)
{
	Numeric result;

	if (number->scale != BILLING_USAGE_BIG)
		return DatumGetNumeric(billing_core_decimal_encode(number->as.value, number->scale));
	result = palloc(VARSIZE(number->as.big));
	memcpy(result, number->as.big, VARSIZE(number->as.big));
	return result;
}

/* The number in decimal notation, without trailing zeros. */
char *
billing_usage_number_text(const BillingUsageNumber *number)
{
	if (number->scale != BILLING_USAGE_BIG)
		return billing_core_decimal_text(number->as.value, number->scale);
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number->as.big)));
}

/* A number of its own in the current memory context. */
BillingUsageNumber
billing_usage_number_copy(const BillingUsageNumber *number)
{
	BillingUsageNumber copy = *number;

	if (number->scale == BILLING_USAGE_BIG)
		copy.as.big = billing_usage_number_numeric(number);
	return copy;
}

bool
billing_usage_number_is_zero(const BillingUsageNumber *number)
{
	/* zero is small */
	return number->scale != BILLING_USAGE_BIG && number->as.value == 0;
}

/* -1, 0 or 1 */
int
billing_usage_number_compare(const BillingUsageNumber *a, const BillingUsageNumber *b)
{
	Numeric x;
	Numeric y;
	int result;

	if (a->scale != BILLING_USAGE_BIG && b->scale != BILLING_USAGE_BIG)
	{
		BillingDecimal p = { .value = a->as.value, .scale = a->scale };
		BillingDecimal q = { .value = b->as.value, .scale = b->scale };

		/* 36 digits always fit */
		if (a->scale == b->scale || billing_core_decimal_align(&p, &q))
			return (p.value > q.value) - (p.value < q.value);
	}
	x = billing_usage_number_numeric(a);
	y = billing_usage_number_numeric(b);
	result =
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(x), NumericGetDatum(y)));
	pfree(x);
	pfree(y);
	return result;
}

/* Add with numeric. */
static void
add_big(BillingUsageNumber *sum, const BillingUsageNumber *addend)
{
	Numeric x = billing_usage_number_numeric(sum);
	Numeric y = billing_usage_number_numeric(addend);
	Numeric result =
		DatumGetNumeric(DirectFunctionCall2(numeric_add, NumericGetDatum(x), NumericGetDatum(y)));

	if (sum->scale == BILLING_USAGE_BIG)
		pfree(sum->as.big);
	billing_usage_number_set(sum, result);
	pfree(x);
	pfree(y);
	pfree(result);
}

/* Add a number to a sum, whose numeric, if it needs one, is in the current context. */
void
billing_usage_number_add(BillingUsageNumber *sum, const BillingUsageNumber *addend)
{
	if (likely(sum->scale != BILLING_USAGE_BIG && addend->scale != BILLING_USAGE_BIG))
	{
		BillingDecimal a = { .value = sum->as.value, .scale = sum->scale };
		BillingDecimal b = { .value = addend->as.value, .scale = addend->scale };

		/* two numbers below 10^18 */
		if (likely(a.scale == b.scale))
		{
			int64 total = sum->as.value + addend->as.value;

			if (likely(fits(total, sum->scale)))
			{
				sum->as.value = total;
				return;
			}
		}
		if (billing_core_decimal_add(&a, b))
		{
			set_decimal(sum, a.value, a.scale);
			return;
		}
	}
	add_big(sum, addend);
}

/* A level times a time in seconds, given in microseconds. */
BillingUsageNumber
billing_usage_number_for(const BillingUsageNumber *level, int64 microseconds)
{
	BillingUsageNumber result;
	Datum seconds;

	if (likely(level->scale != BILLING_USAGE_BIG))
	{
		/* below 2^60 * 2^63 */
		set_decimal(&result, (int128) level->as.value * microseconds,
					level->scale + MICROSECOND_SCALE);
		return result;
	}
	seconds = billing_core_decimal_encode(microseconds, MICROSECOND_SCALE);
	billing_usage_number_set(&result,
							 DatumGetNumeric(DirectFunctionCall2(numeric_mul,
																 NumericGetDatum(level->as.big),
																 seconds)));
	return result;
}

/* Add two numbers of events; as the quantities, they have at most 18 digits. */
int64
billing_usage_add_events(int64 a, int64 b)
{
	const int64 limit = billing_core_decimal_power[BILLING_DECIMAL_DIGITS];
	int64 sum;

	if (pg_add_s64_overflow(a, b, &sum) || sum >= limit || sum <= -limit)
		ereport(ERROR, errcode(ERRCODE_BILLING_OUT_OF_RANGE),
				errmsg("the number of events is out of range"),
				errdetail("Events are counted up to %d digits.", BILLING_DECIMAL_DIGITS),
				errhint("Check where the counts come from."));
	return sum;
}
