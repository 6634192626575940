/*
 * metering_scan.c
 *		Reads moments (RFC 3339) and numbers out of events.
 *
 * The server's own input functions raise errors and take more than the
 * standards allow ("now", "infinity", "NaN"); an event that cannot be read must
 * not stop the others.
 */
#include "pg_compat.h"

#include "core/decimal.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"

/* A number in a text is at most this long. */
#define MAX_NUMBER_LENGTH 100
/* Digits that a quantity or amount may have after its decimal point. */
#define MAX_FRACTION_DIGITS 40

/* What is still to be read of a text. */
typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

/* Read exactly so many digits. */
static bool
scan_digits(Cursor *cursor, int count, int *value)
{
	*value = 0;
	while (count-- > 0)
	{
		if (cursor->at == cursor->end || *cursor->at < '0' || *cursor->at > '9')
			return false;
		*value = *value * 10 + (*cursor->at++ - '0');
	}
	return true;
}

/* Read one character out of a set. */
static bool
scan_one_of(Cursor *cursor, const char *set)
{
	if (cursor->at == cursor->end || *cursor->at == '\0' || strchr(set, *cursor->at) == NULL)
		return false;
	cursor->at++;
	return true;
}

/* Read full-date: a day of the Gregorian calendar from year 1 on, as days since 2000-01-01. */
static bool
scan_date(Cursor *cursor, int64 *day)
{
	int year;
	int month;
	int mday;

	if (!scan_digits(cursor, 4, &year) || !scan_one_of(cursor, "-") ||
		!scan_digits(cursor, 2, &month) || !scan_one_of(cursor, "-") ||
		!scan_digits(cursor, 2, &mday))
		return false;
	if (year < 1 || month < 1 || month > 12 || mday < 1 ||
		mday > day_tab[isleap(year) ? 1 : 0][month - 1])
		return false;
	*day = (int64) date2j(year, month, mday) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* Read time-secfrac: digits beyond the microsecond are cut off. */
static bool
scan_fraction(Cursor *cursor, int64 *microseconds)
{
	int64 unit = USECS_PER_SEC / 10;
	int digit;

	*microseconds = 0;
	if (!scan_one_of(cursor, "."))
		return true;
	if (!scan_digits(cursor, 1, &digit))
		return false;
	do
	{
		*microseconds += digit * unit;
		unit /= 10;
	} while (scan_digits(cursor, 1, &digit));
	return true;
}

/* Read time-offset, in minutes east of UTC. */
static bool
scan_offset(Cursor *cursor, int *minutes)
{
	bool west = false;
	int hours;

	*minutes = 0;
	if (scan_one_of(cursor, "Zz"))
		return true;
	if (scan_one_of(cursor, "-"))
		west = true;
	else if (!scan_one_of(cursor, "+"))
		return false;
	if (!scan_digits(cursor, 2, &hours) || !scan_one_of(cursor, ":") ||
		!scan_digits(cursor, 2, minutes))
		return false;
	if (hours > 23 || *minutes > 59)
		return false;
	*minutes = (hours * 60 + *minutes) * (west ? -1 : 1);
	return true;
}

/*
 * Read a moment as RFC 3339 writes it: 2026-07-31T22:00:00.5+02:00.  The offset
 * is required; second 60 is a leap second and begins the next minute.
 */
bool
billing_metering_scan_time(BillingUsageText text, TimestampTz *moment)
{
	Cursor cursor = { text.bytes, text.bytes + text.length };
	int64 day;
	int64 microseconds;
	int hour;
	int minute;
	int second;
	int offset;

	if (!scan_date(&cursor, &day) || !scan_one_of(&cursor, "Tt ") ||
		!scan_digits(&cursor, 2, &hour) || !scan_one_of(&cursor, ":") ||
		!scan_digits(&cursor, 2, &minute) || !scan_one_of(&cursor, ":") ||
		!scan_digits(&cursor, 2, &second) || !scan_fraction(&cursor, &microseconds) ||
		!scan_offset(&cursor, &offset) || cursor.at != cursor.end)
		return false;
	if (hour > 23 || minute > 59 || second > 60)
		return false;
	*moment = ((day * 24 + hour) * 60 + minute - offset) * 60 * USECS_PER_SEC +
			  second * USECS_PER_SEC + microseconds;
	return true;
}

/* Pass over digits and say how many there were. */
static int
skip_digits(Cursor *cursor)
{
	const char *start = cursor->at;

	while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9')
		cursor->at++;
	return (int) (cursor->at - start);
}

/* Whether a text is a number as JSON writes one, with an exponent of at most three digits. */
static bool
is_number(BillingUsageText text)
{
	Cursor cursor = { text.bytes, text.bytes + text.length };
	int digits;

	if (text.length > MAX_NUMBER_LENGTH)
		return false;
	(void) scan_one_of(&cursor, "-");
	if (skip_digits(&cursor) == 0)
		return false;
	if (scan_one_of(&cursor, ".") && skip_digits(&cursor) == 0)
		return false;
	if (scan_one_of(&cursor, "eE"))
	{
		(void) scan_one_of(&cursor, "+-");
		digits = skip_digits(&cursor);
		if (digits == 0 || digits > 3)
			return false;
	}
	return cursor.at == cursor.end;
}

/* Whether a number has at most so many digits before its decimal point, and not too many after it. */
static bool
is_in_range(Numeric number, int whole_digits)
{
	char bound[BILLING_USAGE_QUANTITY_DIGITS + 2];
	Datum limit;
	Datum size;
	int64 mantissa;
	int scale;

	if (billing_core_decimal_decode(NumericGetDatum(number), &mantissa, &scale))
		return true;
	if (numeric_is_nan(number) || numeric_is_inf(number))
		return false;
	memset(bound, '0', sizeof(bound));
	bound[0] = '1';
	bound[whole_digits + 1] = '\0';
	limit = DirectFunctionCall3(numeric_in, CStringGetDatum(bound), ObjectIdGetDatum(InvalidOid),
								Int32GetDatum(-1));
	size = DirectFunctionCall1(numeric_abs, NumericGetDatum(number));
	if (!DatumGetBool(DirectFunctionCall2(numeric_lt, size, limit)))
		return false;
	return DatumGetInt32(DirectFunctionCall1(numeric_min_scale, NumericGetDatum(number))) <=
		   MAX_FRACTION_DIGITS;
}

/* Read a number: a JSON number, or a text that holds one; exact, and below 10^whole_digits in size. */
bool
billing_metering_scan_number(const JsonbValue *value, int whole_digits, Numeric *number)
{
	if (value->type == jbvNumeric)
		*number = value->val.numeric;
	else if (value->type == jbvString)
	{
		BillingUsageText text = { value->val.string.val, value->val.string.len };
		char copy[MAX_NUMBER_LENGTH + 1];

		if (!is_number(text))
			return false;
		memcpy(copy, text.bytes, text.length);
		copy[text.length] = '\0';
		*number =
			DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(copy),
												ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	else
		return false;
	return is_in_range(*number, whole_digits);
}

PG_FUNCTION_INFO_V1(billing_metering_usage_moment);
PG_FUNCTION_INFO_V1(billing_metering_usage_number);

/*
 * billing_internal.usage_moment(time text) RETURNS timestamptz
 *
 * The moment that an event's time stands for, or NULL where it is none.
 */
Datum
billing_metering_usage_moment(PG_FUNCTION_ARGS)
{
	text *bytes = PG_GETARG_TEXT_PP(0);
	BillingUsageText time = { VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes) };
	TimestampTz moment;

	if (!billing_metering_scan_time(time, &moment))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(moment);
}

/*
 * billing_internal.usage_number(value jsonb) RETURNS numeric
 *
 * The number that a value in an event's data stands for, or NULL where it is none.
 */
Datum
billing_metering_usage_number(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	JsonbValue value;
	Numeric number;

	if (!JB_ROOT_IS_SCALAR(json) || !JsonbExtractScalar(&json->root, &value) ||
		!billing_metering_scan_number(&value, BILLING_USAGE_QUANTITY_DIGITS, &number))
		PG_RETURN_NULL();
	PG_RETURN_NUMERIC(DatumGetNumeric(datumCopy(NumericGetDatum(number), false, -1)));
}
