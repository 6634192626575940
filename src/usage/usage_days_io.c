/*
 * usage_days_io.c
 *		The text of billing.usage_days, and its binary form, which is that text.
 *
 * {"2026-07-01":{"events":3,"quantity":"12.5"}}; a day with a level also has
 * "first_at", "last_at" (UTC, such as "2026-07-01T08:00:00Z") and "level".
 * Input takes what output writes, and blanks between the parts, any order of
 * the keys of a day, trailing zeros and unquoted numbers; nothing else.
 */
#include "pg_compat.h"

#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "usage/usage_private.h"

/* The binary form is this byte and the canonical text. */
#define BINARY_VERSION 1

/* in the form of a day and of a moment, 9 is any digit */
#define DAY_FORM "9999-99-99"
#define MOMENT_FORM DAY_FORM "T99:99:99"

/* a level's moments lie near its day, whatever the time zone */
#define DAYS_BEFORE 1
#define DAYS_AFTER 2

PG_FUNCTION_INFO_V1(billing_usage_days_in);
PG_FUNCTION_INFO_V1(billing_usage_days_out);
PG_FUNCTION_INFO_V1(billing_usage_days_recv);
PG_FUNCTION_INFO_V1(billing_usage_days_send);

typedef enum DayKey
{
	KEY_EVENTS,
	KEY_QUANTITY,
	KEY_FIRST_AT,
	KEY_LAST_AT,
	KEY_LEVEL
} DayKey;

static const char *const key_names[] = { "events", "quantity", "first_at", "last_at", "level" };

#define KEY_BIT(key) (1 << (key))
#define KEYS_ALWAYS (KEY_BIT(KEY_EVENTS) | KEY_BIT(KEY_QUANTITY))
#define KEYS_OF_LEVEL (KEY_BIT(KEY_FIRST_AT) | KEY_BIT(KEY_LAST_AT) | KEY_BIT(KEY_LEVEL))

typedef struct Source
{
	const char *text;
	const char *cursor;
} Source;

/* Refuse the text at the place that is read. */
BILLING_NORETURN static void
refuse(const Source *source, const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
			errmsg("invalid usage days: expected %s", expected),
			errdetail("At byte %zu of the text.", (size_t) (source->cursor - source->text) + 1),
			errhint("Usage days are a JSON object, such as "
					"{\"2026-07-01\":{\"events\":3,\"quantity\":\"12.5\"}}."));
}

/* The next character that is not blank; 0 at the end. */
static char
peek(Source *source)
{
	while (*source->cursor == ' ' || *source->cursor == '\t' || *source->cursor == '\n' ||
		   *source->cursor == '\r')
		source->cursor++;
	return *source->cursor;
}

/* Take a character that must come next. */
static void
expect(Source *source, char c, const char *expected)
{
	if (peek(source) != c)
		refuse(source, expected);
	source->cursor++;
}

/* Take text of a form, in which 9 is any digit; false where it is another. */
static bool
take_form(Source *source, const char *form)
{
	const char *c = source->cursor;

	for (; *form != '\0'; form++, c++)
	{
		if (*form == '9' ? (*c < '0' || *c > '9') : *c != *form)
			return false;
	}
	source->cursor = c;
	return true;
}

/* The number in some digits. */
static int
digits(const char *text, int count)
{
	int value = 0;

	while (count-- > 0)
		value = value * 10 + (*text++ - '0');
	return value;
}

/* Take a date, such as 2026-07-01. */
static bool
take_date(Source *source, DateADT *result)
{
	const char *text = source->cursor;
	int year;
	int month;
	int day;

	if (!take_form(source, DAY_FORM))
		return false;
	year = digits(text, 4);
	month = digits(text + 5, 2);
	day = digits(text + 8, 2);
	if (year == 0 || month < 1 || month > MONTHS_PER_YEAR || day < 1 ||
		day > day_tab[isleap(year)][month - 1])
	{
		source->cursor = text;
		return false;
	}
	*result = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* Take a quoted moment, such as "2026-07-01T08:00:00.25Z". */
static void
take_moment(Source *source, TimestampTz *result)
{
	const char *expected = "a moment in UTC, such as \"2026-07-01T08:00:00Z\"";
	DateADT day;
	const char *time;
	int64 fraction = 0;
	int64 unit = USECS_PER_SEC;

	expect(source, '"', expected);
	time = source->cursor + strlen("2026-07-01T");
	if (!take_date(source, &day) || !take_form(source, "T99:99:99") || digits(time, 2) > 23 ||
		digits(time + 3, 2) > 59 || digits(time + 6, 2) > 59)
		refuse(source, expected);
	if (*source->cursor == '.')
	{
		for (source->cursor++; *source->cursor >= '0' && *source->cursor <= '9' && unit > 1;
			 source->cursor++)
		{
			unit /= 10;
			fraction += unit * (*source->cursor - '0');
		}
		if (source->cursor[-1] == '.')
			refuse(source, expected);
	}
	if (!take_form(source, "Z\""))
		refuse(source, expected);
	*result = day * USECS_PER_DAY + digits(time, 2) * USECS_PER_HOUR +
			  digits(time + 3, 2) * USECS_PER_MINUTE + digits(time + 6, 2) * USECS_PER_SEC +
			  fraction;
}

/* Take a number, quoted or not. */
static void
take_number(Source *source, BillingUsageNumber *number)
{
	bool quoted = peek(source) == '"';
	const char *start;
	size_t length;

	source->cursor += quoted ? 1 : 0;
	start = source->cursor;
	length = strspn(start, "-.0123456789");
	if (length > INT_MAX || !billing_usage_number_parse(number, start, (int) length))
		refuse(source, psprintf("a plain decimal number of at most %d digits before and after the "
								"point",
								BILLING_USAGE_MAX_DIGITS));
	source->cursor += length;
	if (quoted && *source->cursor++ != '"')
	{
		source->cursor--;
		refuse(source, "a closing quote");
	}
}

/* Take a number of events. */
static void
take_events(Source *source, int64 *events)
{
	BillingUsageNumber number;

	peek(source);
	if (*source->cursor == '"')
		refuse(source, "a whole number without quotes");
	take_number(source, &number);
	if (number.scale != 0)
		refuse(source, "a whole number of at most 18 digits");
	*events = number.as.value;
}

/* Take a key of a day and its colon. */
static DayKey
take_key(Source *source)
{
	expect(source, '"', "a key in quotes");
	for (int key = 0; key < (int) lengthof(key_names); key++)
	{
		size_t length = strlen(key_names[key]);

		if (strncmp(source->cursor, key_names[key], length) == 0 && source->cursor[length] == '"')
		{
			source->cursor += length + 1;
			expect(source, ':', "a colon");
			return (DayKey) key;
		}
	}
	refuse(source, "events, quantity, first_at, last_at or level");
}

/* Refuse a day that lacks a key, or whose moments are of other days. */
static void
check_day(const Source *source, const BillingUsageDay *day, const BillingUsageLevel *level,
		  int keys)
{
	if ((keys & KEYS_ALWAYS) != KEYS_ALWAYS)
		refuse(source, "events and quantity in each day");
	if ((keys & KEYS_OF_LEVEL) == 0)
		return;
	if ((keys & KEYS_OF_LEVEL) != KEYS_OF_LEVEL)
		refuse(source, "first_at, last_at and level together");
	if (level->first_at > level->last_at)
		refuse(source, "first_at not after last_at");
	if (level->first_at < (day->day - DAYS_BEFORE) * USECS_PER_DAY ||
		level->last_at > (day->day + DAYS_AFTER) * USECS_PER_DAY)
		refuse(source, "first_at and last_at on their day");
}

/* Take a day: its date and its object. */
static void
take_day(Source *source, BillingUsageDayList *list)
{
	BillingUsageLevel level = { 0 };
	BillingUsageDay day = { 0 };
	int keys = 0;

	expect(source, '"', "a day in quotes");
	if (!take_date(source, &day.day))
		refuse(source, "a day, such as \"2026-07-01\"");
	expect(source, '"', "a closing quote");
	if (list->ndays > 0 && list->days[list->ndays - 1].day >= day.day)
		refuse(source, "the days in order, each once");
	billing_core_check_date(day.day, "usage day");
	expect(source, ':', "a colon");
	expect(source, '{', "an opening brace");
	do
	{
		DayKey key = take_key(source);

		if ((keys & KEY_BIT(key)) != 0)
			refuse(source, "each key once");
		keys |= KEY_BIT(key);
		if (key == KEY_EVENTS)
			take_events(source, &day.events);
		else if (key == KEY_FIRST_AT || key == KEY_LAST_AT)
			take_moment(source, key == KEY_FIRST_AT ? &level.first_at : &level.last_at);
		else
			take_number(source, key == KEY_QUANTITY ? &day.quantity : &level.level);
	} while (peek(source) == ',' && source->cursor++);
	expect(source, '}', "a comma or a closing brace");
	check_day(source, &day, &level, keys);
	if ((keys & KEYS_OF_LEVEL) != 0)
		day.level = &level;
	billing_usage_list_append(list, &day);
}

/* Parse a text that ends with a zero byte. */
static struct varlena *
parse(const char *text)
{
	Source source = { .text = text, .cursor = text };
	BillingUsageDayList *list = billing_usage_list(0);

	expect(&source, '{', "an opening brace");
	if (peek(&source) != '}')
	{
		do
		{
			CHECK_FOR_INTERRUPTS();
			take_day(&source, list);
		} while (peek(&source) == ',' && source.cursor++);
	}
	expect(&source, '}', "a comma or a closing brace");
	if (peek(&source) != '\0')
		refuse(&source, "nothing after the closing brace");
	return billing_usage_pack(list);
}

/* Append a moment in UTC. */
static void
append_moment(StringInfo out, const char *key, TimestampTz moment)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (timestamp2tm(moment, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("timestamp out of range"));
	appendStringInfo(out, ",\"%s\":\"%04d-%02d-%02dT%02d:%02d:%02d", key, tm.tm_year, tm.tm_mon,
					 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (fsec != 0)
	{
		appendStringInfo(out, ".%06d", (int) fsec);
		while (out->data[out->len - 1] == '0')
			out->data[--out->len] = '\0';
	}
	appendStringInfoString(out, "Z\"");
}

/* Write the canonical text of a stored value. */
static char *
write_text(const struct varlena *stored)
{
	BillingUsageReader reader;
	BillingUsageDay day;
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	billing_usage_read(&reader, stored);
	while (billing_usage_next(&reader, &day))
	{
		int year;
		int month;
		int mday;

		CHECK_FOR_INTERRUPTS();
		j2date(day.day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
		appendStringInfo(&out,
						 "%s\"%04d-%02d-%02d\":{\"events\":" INT64_FORMAT ",\"quantity\":\"%s\"",
						 out.len > 1 ? "," : "", year, month, mday, day.events,
						 billing_usage_number_text(&day.quantity));
		if (day.level != NULL)
		{
			append_moment(&out, "first_at", day.level->first_at);
			append_moment(&out, "last_at", day.level->last_at);
			appendStringInfo(&out, ",\"level\":\"%s\"",
							 billing_usage_number_text(&day.level->level));
		}
		appendStringInfoChar(&out, '}');
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* billing_internal.usage_days_in(cstring) RETURNS billing.usage_days */
Datum
billing_usage_days_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(parse(PG_GETARG_CSTRING(0)));
}

/* billing_internal.usage_days_out(billing.usage_days) RETURNS cstring */
Datum
billing_usage_days_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(write_text(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0))));
}

/* billing_internal.usage_days_recv(internal) RETURNS billing.usage_days */
Datum
billing_usage_days_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int version = message->cursor < message->len ? pq_getmsgbyte(message) : 0;
	int length;

	if (version != BINARY_VERSION)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("invalid usage days: unknown binary version %d", version),
				errdetail("The binary form is a byte %d and the JSON text.", BINARY_VERSION),
				errhint("Send the days as text."));
	PG_RETURN_POINTER(parse(pq_getmsgtext(message, message->len - message->cursor, &length)));
}

/* billing_internal.usage_days_send(billing.usage_days) RETURNS bytea */
Datum
billing_usage_days_send(PG_FUNCTION_ARGS)
{
	char *text = write_text(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0)));
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbyte(&message, BINARY_VERSION);
	pq_sendtext(&message, text, (int) strlen(text));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}
