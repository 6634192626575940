/*
 * usage_private.h
 *		What the events add up to: exact numbers, the type billing.usage_days,
 *		and the measures that are made of it.
 *
 * A cell is the usage of one account, item, meter, month, group of dimensions
 * and sample; billing.usage_days holds it, one entry per local day:
 *
 *   events    how many events stand (a void takes one back)
 *   quantity  the sum of their quantities; with a level, the area under the
 *             day's levels from first_at to the end of the local day, in
 *             level x seconds
 *   level     only of meters that keep one (latest, time_weighted): the last
 *             level of the day, with the moments of the first and last event
 *
 * Stored: a version byte, the number of days, then for each day, ascending and
 * distinct: the distance from the day before, events, quantity and, if it has
 * one, the level.  Integers are written in groups of seven bits, numbers
 * without trailing zeros, so that equal contents are equal bytes.
 */
#ifndef BILLING_USAGE_PRIVATE_H
#define BILLING_USAGE_PRIVATE_H

#include "pg_compat.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "pgtime.h"
#include "utils/date.h"
#include "utils/numeric.h"

/* A number of the type has at most this many digits on each side of the point. */
#define BILLING_USAGE_MAX_DIGITS 100

/*
 * An exact number: value * 10^-scale with at most 18 digits and 18 decimals, or,
 * where that does not fit, a numeric that the number owns.
 */
typedef struct BillingUsageNumber
{
	union
	{
		int64 value;
		Numeric big;
	} as;
	int32 scale; /* BILLING_USAGE_BIG for a numeric */
} BillingUsageNumber;

#define BILLING_USAGE_BIG (-1)

/* The levels of a day that has some. */
typedef struct BillingUsageLevel
{
	TimestampTz first_at;
	TimestampTz last_at;
	BillingUsageNumber level; /* the last one */
} BillingUsageLevel;

/* A day of a cell; without events, quantity and level it is empty. */
typedef struct BillingUsageDay
{
	DateADT day;
	int64 events;
	BillingUsageNumber quantity;
	BillingUsageLevel *level; /* or NULL */
} BillingUsageDay;

/* A growing list of days, sorted by day. */
typedef struct BillingUsageDayList
{
	int32 ndays;
	int32 size;
	int32 recent; /* where the last one was found */
	BillingUsageDay *days;
} BillingUsageDayList;

/* Reads the days of a stored value one by one. */
typedef struct BillingUsageReader
{
	const uint8 *cursor;
	const uint8 *end;
	int32 left;
	DateADT day;
	BillingUsageLevel level; /* of the day just read */
} BillingUsageReader;

/* usage_number.c */
extern void billing_usage_number_set(BillingUsageNumber *number, Numeric value);
extern bool billing_usage_number_parse(BillingUsageNumber *number, const char *text, int length);
extern Numeric billing_usage_number_numeric(const BillingUsageNumber *number);
extern char *billing_usage_number_text(const BillingUsageNumber *number);
extern BillingUsageNumber billing_usage_number_copy(const BillingUsageNumber *number);
extern bool billing_usage_number_is_zero(const BillingUsageNumber *number);
extern int billing_usage_number_compare(const BillingUsageNumber *a, const BillingUsageNumber *b);
extern void billing_usage_number_add(BillingUsageNumber *sum, const BillingUsageNumber *addend);
extern BillingUsageNumber billing_usage_number_for(const BillingUsageNumber *level,
												   int64 microseconds);
extern int64 billing_usage_add_events(int64 a, int64 b);

/* usage_codec.c */
extern void billing_usage_put_integer(StringInfo out, int64 value);
extern void billing_usage_put_number(StringInfo out, const BillingUsageNumber *number);
extern void billing_usage_put_text(StringInfo out, const char *text);
extern int64 billing_usage_get_integer(BillingUsageReader *reader);
extern void billing_usage_get_number(BillingUsageReader *reader, BillingUsageNumber *number);
extern char *billing_usage_get_text(BillingUsageReader *reader);
extern void billing_usage_get_bytes(BillingUsageReader *reader, bytea *bytes);

/* usage_days.c */
extern void billing_usage_read(BillingUsageReader *reader, const struct varlena *stored);
extern bool billing_usage_next(BillingUsageReader *reader, BillingUsageDay *day);
extern BillingUsageDayList *billing_usage_list(int32 size);
extern BillingUsageDay *billing_usage_list_day(BillingUsageDayList *list, DateADT day);
extern BillingUsageDay *billing_usage_list_append(BillingUsageDayList *list,
												  const BillingUsageDay *day);
extern void billing_usage_list_drop_empty(BillingUsageDayList *list);
extern BillingUsageDayList *billing_usage_unpack(const struct varlena *stored);
extern void billing_usage_put_day(StringInfo out, const BillingUsageDay *day, DateADT before);
extern struct varlena *billing_usage_pack(const BillingUsageDayList *list);
extern void billing_usage_merge(BillingUsageDayList *into, BillingUsageDayList *from);
extern bool billing_usage_day_is_empty(const BillingUsageDay *day);

/* usage_sum.c */
extern MemoryContext billing_usage_aggregate_context(FunctionCallInfo fcinfo);

/* usage_moment.c */
extern pg_tz *billing_usage_zone(const char *name);
extern TimestampTz billing_usage_midnight(DateADT day, pg_tz *zone);

#endif /* BILLING_USAGE_PRIVATE_H */
