/*
 * core_money.c
 *		Rounds an exact amount, once, to a currency's minor unit, and prorates.
 *
 * All arithmetic is decimal.  A share of an amount (days of a period) may have
 * no finite decimal form; it is divided with enough digits that rounding the
 * quotient equals rounding the fraction.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "core/decimal.h"
#include "utils/builtins.h"

/* The widest amount that is computed with, as digits before the point, one of them for the sign. */
#define MAX_WHOLE_DIGITS 41

/* The most decimals that a currency has. */
#define MAX_MINOR_UNIT 6

/* numeric functions by their short names; all take and give Numeric */
#define CALL1(function, a) DatumGetNumeric(DirectFunctionCall1(function, NumericGetDatum(a)))
#define CALL2(function, a, b) \
	DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)))
#define ROUNDED(function, a, digits) \
	DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), Int32GetDatum(digits)))

/* -1, 0 or 1 */
static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/*
 * Round to the minor unit: half away from zero, or half to even.
 *
 * Half to even (ISO 80000-1, B.3 rule A): where the amount lies exactly between
 * two printable ones, the one whose last digit is even.  numeric_round() rounds
 * half away from zero, so only such a tie can differ, and then by one unit.
 */
Numeric
billing_core_round(Numeric amount, int32 minor_unit, bool half_even)
{
	Numeric away = ROUNDED(numeric_round, amount, minor_unit);
	Numeric toward;
	Numeric down;
	Numeric up;
	Numeric scaled;

	if (!half_even)
		return away;
	toward = ROUNDED(numeric_trunc, amount, minor_unit);
	if (compare(away, toward) == 0)
		return away;
	/* a tie is as far from the truncated amount as from the rounded one */
	down = CALL2(numeric_sub, amount, toward);
	up = CALL2(numeric_sub, away, amount);
	if (compare(down, up) != 0)
		return away;
	scaled =
		ROUNDED(numeric_trunc,
				CALL2(numeric_mul, toward,
					  CALL2(numeric_power, int64_to_numeric(10), int64_to_numeric(minor_unit))),
				0);
	if (compare(CALL2(numeric_mod, scaled, int64_to_numeric(2)), int64_to_numeric(0)) == 0)
		return toward;
	return away;
}

/* An amount that was computed: finite, with as many decimals as computing gave it. */
static Numeric
arg_computed(FunctionCallInfo fcinfo, int argno)
{
	Numeric value = PG_GETARG_NUMERIC(argno);
	int64 mantissa;
	int scale;
	char *text;

	if (billing_core_decimal_decode(NumericGetDatum(value), &mantissa, &scale))
		return value;
	if (numeric_is_nan(value) || numeric_is_inf(value))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("amount must be a finite number"),
						errhint("Neither NaN nor infinity can be billed.")));
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
	if (strcspn(text, ".") > MAX_WHOLE_DIGITS)
		ereport(ERROR, (errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("amount is out of range"),
						errdetail("At most %d digits before the decimal point are taken.",
								  MAX_WHOLE_DIGITS - 1),
						errhint("Check the unit of the number.")));
	pfree(text);
	return value;
}

/* Refuse a number of decimals that no currency has. */
void
billing_core_check_minor_unit(int32 minor_unit)
{
	if (minor_unit < 0 || minor_unit > MAX_MINOR_UNIT)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("minor unit must be between 0 and %d", MAX_MINOR_UNIT),
						errdetail("It is %d.", minor_unit),
						errhint("Correct the currency's minor unit.")));
}

/* Whether a number is zero. */
bool
billing_core_is_zero(Numeric value)
{
	int64 mantissa;
	int scale;

	if (billing_core_decimal_decode(NumericGetDatum(value), &mantissa, &scale))
		return mantissa == 0;
	return compare(value, int64_to_numeric(0)) == 0;
}

/*
 * amount × days ÷ of_days, to 30 decimals at least, with of_days above zero.  It
 * is below 2^31, so a quotient that is not itself a tie differs from any tie at a
 * minor unit of up to 6 decimals by more than 1/(2 × 2^31 × 10^6) of the amount's
 * last decimal; 30 further decimals cannot blur that.
 */
Numeric
billing_core_prorate_by(Numeric amount, int32 days, int32 of_days)
{
	Numeric product = CALL2(numeric_mul, amount, int64_to_numeric(days));
	char scale[64];

	/* numeric_div() keeps at least the decimals of its operands */
	snprintf(scale, sizeof(scale), "%d.%040d", of_days, 0);
	return CALL1(numeric_trim_scale,
				 CALL2(numeric_div, product,
					   DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(scale),
														   ObjectIdGetDatum(InvalidOid),
														   Int32GetDatum(-1)))));
}

PG_FUNCTION_INFO_V1(billing_core_round_amount);
PG_FUNCTION_INFO_V1(billing_core_prorate);

/*
 * billing.round_amount(amount numeric, minor_unit integer, mode text) RETURNS numeric
 *
 * mode is half_up or half_even; minor_unit the currency's decimals, 0 to 6.
 * What could not be rated, a null amount, stays null.
 */
Datum
billing_core_round_amount(PG_FUNCTION_ARGS)
{
	Numeric amount;
	int32 minor_unit = billing_core_arg_int(fcinfo, 1, "minor unit", 0, MAX_MINOR_UNIT);
	char *mode = billing_core_arg_code(fcinfo, 2, "rounding mode");

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	amount = arg_computed(fcinfo, 0);
	if (strcmp(mode, "half_up") != 0 && strcmp(mode, "half_even") != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("rounding mode \"%s\" does not exist", mode),
						errhint("Use half_up (half away from zero) or half_even.")));
	PG_RETURN_NUMERIC(billing_core_round(amount, minor_unit, strcmp(mode, "half_even") == 0));
}

/*
 * billing.prorate(amount numeric, days integer, of_days integer) RETURNS numeric
 *
 * The share of an amount that falls to some of its days.  A null amount stays null.
 */
Datum
billing_core_prorate(PG_FUNCTION_ARGS)
{
	Numeric amount;
	int32 of_days = billing_core_arg_int(fcinfo, 2, "days of the whole", 1, PG_INT32_MAX);
	int32 days = billing_core_arg_int(fcinfo, 1, "days", 0, of_days);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	amount = arg_computed(fcinfo, 0);
	if (days == of_days)
		PG_RETURN_NUMERIC(amount);
	PG_RETURN_NUMERIC(billing_core_prorate_by(amount, days, of_days));
}
