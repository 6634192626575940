/*
 * invoicing_score.c
 *		How unusual an amount is among earlier ones: a modified z-score, exact.
 *
 * Median and median absolute deviation (MAD) are not moved by the few odd
 * values that they are to find, as mean and standard deviation are.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/decimal.h"
#include "invoicing/invoicing_bounds.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* With fewer values there is nothing that is usual. */
#define LEAST_HISTORY 3

/* Decimals of a score. */
#define SCORE_DECIMALS 4

/* numeric functions by their short names; all take and give Numeric */
#define CALL1(function, a) DatumGetNumeric(DirectFunctionCall1(function, NumericGetDatum(a)))
#define CALL2(function, a, b) \
	DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)))

/* value × 10^-scale */
static Numeric
decimal(int64 value, int scale)
{
	return DatumGetNumeric(billing_core_decimal_encode(value, scale));
}

/* -1, 0 or 1 */
static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* For qsort: by value */
static int
compare_elements(const void *a, const void *b)
{
	return compare(DatumGetNumeric(*(const Datum *) a), DatumGetNumeric(*(const Datum *) b));
}

/* The middle of some values, or the mean of the two in the middle; sorts them. */
static Numeric
median_of(Datum *values, int count)
{
	Numeric upper;

	qsort(values, count, sizeof(Datum), compare_elements);
	upper = DatumGetNumeric(values[count / 2]);
	if (count % 2 == 1)
		return upper;
	return CALL2(numeric_mul, CALL2(numeric_add, DatumGetNumeric(values[count / 2 - 1]), upper),
				 decimal(5, 1));
}

/*
 * a ÷ b, b above zero, rounded half away from zero.  Doubled, so that the whole
 * quotient, which is exact, is cut where the fraction is rounded.
 */
static Numeric
divide(Numeric a, Numeric b)
{
	Numeric doubled = CALL2(numeric_mul, CALL1(numeric_abs, a),
							int64_to_numeric(2 * billing_core_decimal_power[SCORE_DECIMALS]));
	Numeric whole = CALL2(numeric_div_trunc, CALL2(numeric_add, doubled, b),
						  CALL2(numeric_mul, b, int64_to_numeric(2)));
	Numeric size = CALL2(numeric_mul, whole, decimal(1, SCORE_DECIMALS));

	return compare(a, int64_to_numeric(0)) < 0 ? CALL1(numeric_uminus, size) : size;
}

/* The values of a list that are not null, checked. */
static int
known_values(ArrayType *history, Datum **values)
{
	bool *nulls;
	int count;
	int known = 0;

	if (ARR_NDIM(history) > 1)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("history must be a list of amounts, not a table"),
						errdetail("It has %d dimensions.", ARR_NDIM(history)),
						errhint("Give an array of one dimension.")));
	deconstruct_array(history, NUMERICOID, -1, false, TYPALIGN_INT, values, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			continue;
		billing_core_check_numeric(DatumGetNumeric((*values)[i]), "an amount of the history");
		(*values)[known++] = (*values)[i];
	}
	return known;
}

/*
 * Score an amount; false where fewer than three amounts are known before it.
 *
 * 0.6745 × (amount − median) ÷ MAD (B. Iglewicz and D. C. Hoaglin, How to Detect
 * and Handle Outliers, ASQC 1993, section 3.3, who call those beyond 3.5
 * outliers): 0.6745 is the third quartile of the standard normal distribution, so
 * that MAD ÷ 0.6745 estimates the standard deviation.  Invoices are often all
 * but equal, with a MAD of zero or near it: that usual deviation is taken for at
 * least a hundredth of the median, and at least 0.01.
 */
bool
billing_invoicing_score(Numeric amount, ArrayType *history, BillingScore *result)
{
	Datum *values;
	int count = known_values(history, &values);
	Numeric quartile = decimal(6745, 4);
	Numeric least = decimal(1, 2);
	Numeric difference;
	Numeric share;
	Numeric mad;

	if (count < LEAST_HISTORY)
		return false;
	result->count = count;
	result->median = median_of(values, count);
	for (int i = 0; i < count; i++)
		values[i] = NumericGetDatum(
			CALL1(numeric_abs, CALL2(numeric_sub, DatumGetNumeric(values[i]), result->median)));
	mad = median_of(values, count);
	share = CALL2(numeric_mul, CALL1(numeric_abs, result->median), decimal(1, 2));
	if (compare(share, least) > 0)
		least = share;
	difference = CALL2(numeric_sub, amount, result->median);
	if (compare(mad, CALL2(numeric_mul, quartile, least)) > 0)
	{
		result->deviation = divide(mad, quartile);
		result->score = divide(CALL2(numeric_mul, quartile, difference), mad);
	}
	else
	{
		result->deviation = least;
		result->score = divide(difference, least);
	}
	return true;
}

PG_FUNCTION_INFO_V1(billing_invoicing_anomaly_score);

/*
 * billing.anomaly_score(amount numeric, history numeric[]) RETURNS numeric
 *
 * To four decimals, above zero where the amount is more than usual; null where
 * the amount is null or fewer than three amounts are known.  Nulls in the
 * history are not counted.
 */
Datum
billing_invoicing_anomaly_score(PG_FUNCTION_ARGS)
{
	Numeric amount = billing_core_arg_optional_numeric(fcinfo, 0, "amount");
	BillingScore result;

	if (amount == NULL || PG_ARGISNULL(1) ||
		!billing_invoicing_score(amount, PG_GETARG_ARRAYTYPE_P(1), &result))
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(result.score);
}
