/*
 * core_calendar.c
 *		Cuts time into billing periods, always counted from the anchor and never
 *		from the period before: 31 January, 28 February, 31 March.
 *
 * Period n of an anchor begins at anchor + n intervals; a day that the month
 * does not have becomes its last.  Periods are half-open.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

/* Far enough for any contract, and nothing overflows. */
#define MAX_PERIOD 1000000

/* Months of an interval of that unit, or 0 for units of days. */
static int32
months_of(const char *unit)
{
	if (strcmp(unit, "month") == 0)
		return 1;
	if (strcmp(unit, "quarter") == 0)
		return 3;
	if (strcmp(unit, "year") == 0)
		return 12;
	return 0;
}

/* Days of an interval of that unit, or 0 for units of months. */
static int32
days_of(const char *unit)
{
	if (strcmp(unit, "day") == 0)
		return 1;
	if (strcmp(unit, "week") == 0)
		return 7;
	return 0;
}

/* Refuse an interval that is none. */
void
billing_core_check_interval(const char *unit, int32 count)
{
	if (months_of(unit) == 0 && days_of(unit) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("interval unit \"%s\" does not exist", unit),
						errhint("Use day, week, month, quarter or year.")));
	if (count < 1 || count > 1000)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("interval count must be between 1 and 1000"),
						errdetail("It is %d.", count), errhint("Use a larger unit.")));
}

/* Months since the year 0, for counting in months. */
static int64
month_number(DateADT date, int *day)
{
	int year;
	int month;

	j2date(date + POSTGRES_EPOCH_JDATE, &year, &month, day);
	return (int64) year * 12 + (month - 1);
}

/* The first day of period n; refuses what no calendar holds. */
DateADT
billing_core_period_start(DateADT anchor, const char *unit, int32 count, int64 n)
{
	int64 result;
	int day;

	if (n > MAX_PERIOD || n < -MAX_PERIOD)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("billing period is out of range"),
				 errdetail("It would be number " INT64_FORMAT " of the anchor.", n),
				 errhint("Use dates within a million intervals of the anchor.")));
	if (months_of(unit) == 0)
		result = (int64) anchor + n * count * days_of(unit);
	else
	{
		int64 months = month_number(anchor, &day) + n * count * months_of(unit);
		int64 year = months >= 0 ? months / 12 : -((11 - months) / 12);
		int month = (int) (months - year * 12) + 1;
		int last;

		if (year < -4000 || year > 5000000)
			ereport(ERROR, (errcode(ERRCODE_BILLING_OUT_OF_RANGE),
							errmsg("billing period is out of range"),
							errhint("Use dates that a calendar knows.")));
		last = day_tab[isleap((int) year)][month - 1];
		result = (int64) date2j((int) year, month, Min(day, last)) - POSTGRES_EPOCH_JDATE;
	}
	if (result < DATETIME_MIN_JULIAN - POSTGRES_EPOCH_JDATE ||
		result >= DATE_END_JULIAN - POSTGRES_EPOCH_JDATE)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("billing period is out of range"),
				 errhint("Use dates that a calendar knows.")));
	return (DateADT) result;
}

/* The number of the period that a date lies in: start(n) <= date < start(n + 1). */
int64
billing_core_period_index(DateADT anchor, const char *unit, int32 count, DateADT date)
{
	int64 n;

	if (months_of(unit) == 0)
	{
		int64 length = (int64) count * days_of(unit);
		int64 days = (int64) date - anchor;

		n = days >= 0 ? days / length : -((length - 1 - days) / length);
	}
	else
	{
		int64 length = (int64) count * months_of(unit);
		int day;
		int64 months = month_number(date, &day) - month_number(anchor, &day);

		/* the month decides up to one; the day decides the rest */
		n = months >= 0 ? months / length : -((length - 1 - months) / length);
		if (billing_core_period_start(anchor, unit, count, n) > date)
			n--;
		else if (billing_core_period_start(anchor, unit, count, n + 1) <= date)
			n++;
	}
	return n;
}

PG_FUNCTION_INFO_V1(billing_core_sql_period_start);
PG_FUNCTION_INFO_V1(billing_core_sql_period_index);

/* billing.period_start(anchor date, unit text, count integer, n bigint) RETURNS date */
Datum
billing_core_sql_period_start(PG_FUNCTION_ARGS)
{
	DateADT anchor = billing_core_arg_date(fcinfo, 0, "anchor");
	char *unit = billing_core_arg_code(fcinfo, 1, "interval unit");
	int32 count = billing_core_arg_int(fcinfo, 2, "interval count", 1, 1000);

	billing_core_check_interval(unit, count);
	if (PG_ARGISNULL(3))
		PG_RETURN_NULL();
	PG_RETURN_DATEADT(billing_core_period_start(anchor, unit, count, PG_GETARG_INT64(3)));
}

/*
 * billing.period_index(anchor date, unit text, count integer, day date) RETURNS bigint
 *
 * The inverse: which period a day lies in; 0 is the one that begins at the anchor.
 */
Datum
billing_core_sql_period_index(PG_FUNCTION_ARGS)
{
	DateADT anchor = billing_core_arg_date(fcinfo, 0, "anchor");
	char *unit = billing_core_arg_code(fcinfo, 1, "interval unit");
	int32 count = billing_core_arg_int(fcinfo, 2, "interval count", 1, 1000);
	DateADT date = billing_core_arg_date(fcinfo, 3, "day");

	billing_core_check_interval(unit, count);
	PG_RETURN_INT64(billing_core_period_index(anchor, unit, count, date));
}
