/*
 * workflow_expression_number.c
 *		Numbers of conditions: integers with a scale where they fit, numeric where
 *		they do not, with the same result.
 *
 * condition.h says what a quotient is, and which numbers are null.
 */
#include "pg_compat.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "workflow/condition.h"

/* an integer value stays below 2^125, and its scale at most this */
#define FAST_SCALE 60
#define FAST_LIMIT ((int128) 1 << 125)
/* decimals that a number from outside may have, so that sums and products of all of them stay exact */
#define FIELD_SCALE 60

static const BillingValue null_value = { .type = BILLING_TYPE_ANY };

/* A number that fits. */
static inline BillingValue
fast_number(int128 number, int scale)
{
	return (BillingValue){ .type = BILLING_TYPE_NUMBER, .number = number, .scale = (int16) scale };
}

static Numeric
call_numeric(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/* A power of ten as numeric. */
static Numeric
power_of_ten(int exponent)
{
	char text[140];

	snprintf(text, sizeof(text), "1e%d", exponent);
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
											   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static Numeric
absolute(Numeric number)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_abs, NumericGetDatum(number)));
}

static bool
is_less(Numeric a, Numeric b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(a), NumericGetDatum(b)));
}

/* A numeric as a value, or null where it is too large or no number. */
static BillingValue
wide_number(Numeric number)
{
	BillingValue value = { .type = BILLING_TYPE_NUMBER, .wide = number };
	int64 mantissa;
	int scale;

	if (billing_core_decimal_decode(NumericGetDatum(number), &mantissa, &scale))
		return fast_number(mantissa, scale);
	if (numeric_is_nan(number) || !is_less(absolute(number), power_of_ten(100)))
		return null_value;
	return value;
}

/* The value of a numeric that is not null. */
BillingValue
billing_workflow_number(Datum numeric)
{
	int64 mantissa;
	int scale;
	BillingValue value;

	if (likely(billing_core_decimal_decode(numeric, &mantissa, &scale)))
		return fast_number(mantissa, scale);
	value = wide_number(DatumGetNumeric(numeric));
	if (value.wide != NULL &&
		DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(value.wide))) >
			FIELD_SCALE)
		return null_value;
	return value;
}

/* Any number as numeric. */
static Numeric
as_numeric(const BillingValue *value)
{
	if (value->wide != NULL)
		return value->wide;
	return DatumGetNumeric(billing_core_decimal_encode(value->number, value->scale));
}

static inline bool
fits(int128 number)
{
	return number < FAST_LIMIT && number > -FAST_LIMIT;
}

/* Add in integers; false where that does not fit. */
static bool
add_fast(const BillingValue *a, const BillingValue *b, int sign, BillingValue *result)
{
	BillingDecimal left = { a->number, a->scale };
	BillingDecimal right = { b->number * sign, b->scale };

	if (!billing_core_decimal_add(&left, right) || !fits(left.value))
		return false;
	*result = fast_number(left.value, left.scale);
	return true;
}

static bool
multiply_fast(const BillingValue *a, const BillingValue *b, BillingValue *result)
{
	int128 product;

	if (a->scale + b->scale > FAST_SCALE ||
		__builtin_mul_overflow(a->number, b->number, &product) || !fits(product))
		return false;
	*result = fast_number(product, a->scale + b->scale);
	return true;
}

/* Divide, rounded half away from zero; the divisor is not zero. */
static bool
divide_fast(const BillingValue *a, const BillingValue *b, BillingValue *result)
{
	int128 dividend = a->number;
	int128 divisor = b->number;
	int digits = BILLING_CONDITION_QUOTIENT_SCALE + b->scale - a->scale;
	bool negative = (dividend < 0) != (divisor < 0);
	uint128 quotient;

	if (digits >= 0 ? !billing_core_decimal_raise(&dividend, digits)
					: !billing_core_decimal_raise(&divisor, -digits))
		return false;
	dividend = dividend < 0 ? -dividend : dividend;
	divisor = divisor < 0 ? -divisor : divisor;
	quotient = ((uint128) dividend * 2 + (uint128) divisor) / ((uint128) divisor * 2);
	if (quotient >= (uint128) FAST_LIMIT)
		return false;
	*result = fast_number(negative ? -(int128) quotient : (int128) quotient,
						  BILLING_CONDITION_QUOTIENT_SCALE);
	return true;
}

/* The same quotient with numeric: whole numbers are divided exactly. */
static Numeric
divide_wide(Numeric a, Numeric b)
{
	Numeric two = DatumGetNumeric(DirectFunctionCall1(int4_numeric, Int32GetDatum(2)));
	Numeric zero = DatumGetNumeric(DirectFunctionCall1(int4_numeric, Int32GetDatum(0)));
	Numeric scale = power_of_ten(BILLING_CONDITION_QUOTIENT_SCALE);
	Numeric dividend =
		call_numeric(numeric_mul, call_numeric(numeric_mul, absolute(a), scale), two);
	Numeric divisor = call_numeric(numeric_mul, absolute(b), two);
	Numeric quotient =
		call_numeric(numeric_div_trunc, call_numeric(numeric_add, dividend, absolute(b)), divisor);

	quotient = call_numeric(numeric_mul, quotient, power_of_ten(-BILLING_CONDITION_QUOTIENT_SCALE));
	if (is_less(a, zero) != is_less(b, zero))
		quotient = DatumGetNumeric(DirectFunctionCall1(numeric_uminus, NumericGetDatum(quotient)));
	return quotient;
}

/* Calculate with numeric. */
static pg_noinline BillingValue
calculate_wide(BillingOpCode code, const BillingValue *a, const BillingValue *b)
{
	Numeric left = as_numeric(a);
	Numeric right = as_numeric(b);

	switch (code)
	{
		case BILLING_OP_ADD:
			return wide_number(call_numeric(numeric_add, left, right));
		case BILLING_OP_SUBTRACT:
			return wide_number(call_numeric(numeric_sub, left, right));
		case BILLING_OP_MULTIPLY:
			return wide_number(call_numeric(numeric_mul, left, right));
		default:
			return wide_number(divide_wide(left, right));
	}
}

/* a code b, for + - * /; the values are numbers or null. */
BillingValue
billing_workflow_arithmetic(BillingOpCode code, const BillingValue *a, const BillingValue *b)
{
	BillingValue result;
	bool fast;

	if (a->type != BILLING_TYPE_NUMBER || b->type != BILLING_TYPE_NUMBER)
		return null_value;
	if (code == BILLING_OP_DIVIDE && b->wide == NULL && b->number == 0)
		return null_value;
	if (a->wide != NULL || b->wide != NULL)
		return calculate_wide(code, a, b);
	if (code == BILLING_OP_ADD || code == BILLING_OP_SUBTRACT)
		fast = add_fast(a, b, code == BILLING_OP_ADD ? 1 : -1, &result);
	else if (code == BILLING_OP_MULTIPLY)
		fast = multiply_fast(a, b, &result);
	else
		fast = divide_fast(a, b, &result);
	return fast ? result : calculate_wide(code, a, b);
}

/* Compare two numbers: below, at or above zero. */
int
billing_workflow_compare_numbers(const BillingValue *a, const BillingValue *b)
{
	BillingDecimal left = { a->number, a->scale };
	BillingDecimal right = { b->number, b->scale };

	if (likely(a->wide == NULL && b->wide == NULL &&
			   (a->scale == b->scale || billing_core_decimal_align(&left, &right))))
		return left.value < right.value ? -1 : left.value > right.value;
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(as_numeric(a)),
											 NumericGetDatum(as_numeric(b))));
}

/* A number as people write it, without needless zeros. */
char *
billing_workflow_number_text(const BillingValue *value)
{
	if (value->wide == NULL)
		return billing_core_decimal_text(value->number, value->scale);
	return DatumGetCString(
		DirectFunctionCall1(numeric_out,
							DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value->wide))));
}
