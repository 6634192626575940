/*
 * core_arg.c
 *		Reads the arguments of the API functions and refuses what no caller can
 *		mean: null, empty, endless, infinite, out of range, control characters.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

/* The widest amount or quantity taken from a caller, as decimal digits before the point. */
#define MAX_WHOLE_DIGITS 40
#define MAX_FRACTION_DIGITS 40

/* The years in which business is done; the tables' own rules say the same. */
#define FIRST_YEAR 1900
#define LAST_YEAR 2999

/* Raise for a missing argument. */
static void
refuse_null(const char *name)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s must not be null", name),
					errhint("Give a value for %s.", name)));
}

/* Refuse text that is too long or holds control characters other than line breaks and tabs. */
static void
check_printable(const char *value, const char *name, size_t most, bool lines)
{
	const unsigned char *c;

	if (strlen(value) > most)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s is too long", name),
						errdetail("It has %zu bytes; at most %zu are taken.", strlen(value), most),
						errhint("Shorten it.")));
	for (c = (const unsigned char *) value; *c != '\0'; c++)
	{
		if (*c == 0x7f || (*c < 0x20 && !(lines && (*c == '\n' || *c == '\t' || *c == '\r'))))
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("%s contains a control character", name),
							errdetail("Byte %d is 0x%02x.",
									  (int) (c - (const unsigned char *) value) + 1, *c),
							errhint("Remove it.")));
	}
}

/* Refuse what cannot be a code: empty, too long, blanks at an end, control characters. */
void
billing_core_check_code(const char *value, const char *name)
{
	size_t length = strlen(value);

	if (length == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be empty", name), errhint("Give a code.")));
	check_printable(value, name, BILLING_MAX_CODE_LENGTH, false);
	if (value[0] == ' ' || value[length - 1] == ' ')
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not begin or end with a blank", name),
						errdetail("The value is \"%s\".", value), errhint("Remove the blank.")));
}

/* Refuse what cannot be a name or a reason. */
void
billing_core_check_text(const char *value, const char *name)
{
	if (value[strspn(value, " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s must not be empty", name),
				 errhint("Give a text for %s.", name)));
	check_printable(value, name, BILLING_MAX_TEXT_LENGTH, true);
}

/* Refuse dates at infinity, and those that no business has. */
void
billing_core_check_date(DateADT value, const char *name)
{
	const DateADT first = date2j(FIRST_YEAR, 1, 1) - POSTGRES_EPOCH_JDATE;
	const DateADT last = date2j(LAST_YEAR, 12, 31) - POSTGRES_EPOCH_JDATE;

	if (DATE_NOT_FINITE(value))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must be a finite date", name),
						errhint("Leave an open end null instead.")));
	if (value < first || value > last)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("%s is out of range", name),
				 errhint("Use a date from the year %d to the year %d.", FIRST_YEAR, LAST_YEAR)));
}

/* Refuse NaN, infinity, and numbers with more digits than any business has. */
void
billing_core_check_numeric(Numeric value, const char *name)
{
	char *text;
	char *point;
	size_t whole;
	size_t fraction;

	if (numeric_is_nan(value) || numeric_is_inf(value))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must be a finite number", name),
						errhint("Neither NaN nor infinity can be billed.")));
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
	point = strchr(text, '.');
	whole = point != NULL ? (size_t) (point - text) : strlen(text);
	fraction = point != NULL ? strlen(point + 1) : 0;
	if (whole > MAX_WHOLE_DIGITS || fraction > MAX_FRACTION_DIGITS)
		ereport(ERROR, (errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("%s is out of range", name),
						errdetail("At most %d digits before and %d after the decimal point are "
								  "taken.",
								  MAX_WHOLE_DIGITS, MAX_FRACTION_DIGITS),
						errhint("Check the unit of the number.")));
	pfree(text);
}

/* A code that must be there. */
char *
billing_core_arg_code(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char *value = billing_core_arg_optional_code(fcinfo, argno, name);

	if (value == NULL)
		refuse_null(name);
	return value;
}

/* A code, or NULL. */
char *
billing_core_arg_optional_code(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	billing_core_check_code(value, name);
	return value;
}

/* A text that must be there. */
char *
billing_core_arg_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char *value = billing_core_arg_optional_text(fcinfo, argno, name);

	if (value == NULL)
		refuse_null(name);
	return value;
}

/* A text, or NULL. */
char *
billing_core_arg_optional_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	billing_core_check_text(value, name);
	return value;
}

/* A finite date that must be there. */
DateADT
billing_core_arg_date(FunctionCallInfo fcinfo, int argno, const char *name)
{
	bool isnull;
	DateADT value = billing_core_arg_optional_date(fcinfo, argno, name, &isnull);

	if (isnull)
		refuse_null(name);
	return value;
}

/* A finite date, or null. */
DateADT
billing_core_arg_optional_date(FunctionCallInfo fcinfo, int argno, const char *name, bool *isnull)
{
	DateADT value;

	*isnull = PG_ARGISNULL(argno);
	if (*isnull)
		return 0;
	value = PG_GETARG_DATEADT(argno);
	billing_core_check_date(value, name);
	return value;
}

/* A finite number within bounds that must be there. */
Numeric
billing_core_arg_numeric(FunctionCallInfo fcinfo, int argno, const char *name)
{
	Numeric value = billing_core_arg_optional_numeric(fcinfo, argno, name);

	if (value == NULL)
		refuse_null(name);
	return value;
}

/* A finite number within bounds, or NULL. */
Numeric
billing_core_arg_optional_numeric(FunctionCallInfo fcinfo, int argno, const char *name)
{
	Numeric value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = PG_GETARG_NUMERIC(argno);
	billing_core_check_numeric(value, name);
	return value;
}

/* A required JSON value. */
Jsonb *
billing_core_arg_json(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		refuse_null(name);
	return PG_GETARG_JSONB_P(argno);
}

/* A whole number within bounds that must be there. */
int32
billing_core_arg_int(FunctionCallInfo fcinfo, int argno, const char *name, int32 least, int32 most)
{
	int32 value;

	if (PG_ARGISNULL(argno))
		refuse_null(name);
	value = PG_GETARG_INT32(argno);
	if (value < least || value > most)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must be between %d and %d", name, least, most),
						errdetail("It is %d.", value), errhint("Give a value in the range.")));
	return value;
}

PG_FUNCTION_INFO_V1(billing_core_checked_date);

/* billing_internal.checked_date(value date, name text) RETURNS date: value, or ZB001 */
Datum
billing_core_checked_date(PG_FUNCTION_ARGS)
{
	char *name = PG_ARGISNULL(1) ? "date" : text_to_cstring(PG_GETARG_TEXT_PP(1));

	PG_RETURN_DATEADT(billing_core_arg_date(fcinfo, 0, name));
}
