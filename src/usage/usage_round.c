/*
 * usage_round.c
 *		Divides a measured quantity by its unit of time and rounds it, once and
 *		exactly: the quotient is never made where it has no end.
 */
#include "pg_compat.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "core/decimal.h"
#include "usage/usage_measure.h"

#define CALL2(function, a, b) \
	DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)))

/* Does a remainder of a magnitude take the quotient to the next one? */
static inline bool
goes_up(BillingUsageRounding rounding, bool any, bool half)
{
	return rounding == BILLING_ROUND_UP ? any : rounding == BILLING_ROUND_NEAREST && half;
}

/* 10^digits, which may be negative */
static Numeric
power_of_ten(int digits)
{
	int128 one = 1;

	if (digits < 0)
		return DatumGetNumeric(billing_core_decimal_encode(one, -digits));
	billing_core_decimal_raise(&one, digits);
	return DatumGetNumeric(billing_core_decimal_encode(one, 0));
}

/* With integers; false where they are too small. */
static bool
round_small(const BillingUsageNumber *number, int32 divisor, int32 scale,
			BillingUsageRounding rounding, Numeric *result)
{
	int128 rest = number->as.value < 0 ? -(int128) number->as.value : number->as.value;
	int128 by = divisor;
	int128 quotient;

	if (scale >= number->scale ? !billing_core_decimal_raise(&rest, scale - number->scale)
							   : !billing_core_decimal_raise(&by, number->scale - scale))
		return false;
	quotient = rest / by;
	rest -= quotient * by;
	if (goes_up(rounding, rest > 0, rest * 2 >= by))
		quotient++;
	if (number->as.value < 0)
		quotient = -quotient;
	if (scale < 0 && !billing_core_decimal_raise(&quotient, -scale))
		return false;
	*result = DatumGetNumeric(billing_core_decimal_encode(quotient, Max(scale, 0)));
	return true;
}

/*
 * number / divisor, rounded to that many decimals (negative: to tens, hundreds,
 * ...): to the nearest, half away from zero, or away from or toward zero.
 */
Numeric
billing_usage_round(const BillingUsageNumber *number, int32 divisor, int32 scale,
					BillingUsageRounding rounding)
{
	Numeric value;
	Numeric magnitude;
	Numeric by = int64_to_numeric(divisor);
	Numeric quotient;
	Numeric rest;
	Numeric zero = int64_to_numeric(0);
	Numeric twice;

	if (number->scale != BILLING_USAGE_BIG && round_small(number, divisor, scale, rounding, &value))
		return value;

	value = billing_usage_number_numeric(number);
	magnitude = DatumGetNumeric(
		DirectFunctionCall1(numeric_abs,
							NumericGetDatum(CALL2(numeric_mul, value, power_of_ten(scale)))));
	quotient = CALL2(numeric_div_trunc, magnitude, by);
	rest = CALL2(numeric_sub, magnitude, CALL2(numeric_mul, quotient, by));
	twice = CALL2(numeric_add, rest, rest);
	if (goes_up(rounding,
				DatumGetBool(
					DirectFunctionCall2(numeric_gt, NumericGetDatum(rest), NumericGetDatum(zero))),
				DatumGetBool(
					DirectFunctionCall2(numeric_ge, NumericGetDatum(twice), NumericGetDatum(by)))))
		quotient = CALL2(numeric_add, quotient, int64_to_numeric(1));
	if (DatumGetBool(
			DirectFunctionCall2(numeric_lt, NumericGetDatum(value), NumericGetDatum(zero))))
		quotient = CALL2(numeric_sub, zero, quotient);
	return DatumGetNumeric(
		DirectFunctionCall1(numeric_trim_scale,
							NumericGetDatum(CALL2(numeric_mul, quotient, power_of_ten(-scale)))));
}
