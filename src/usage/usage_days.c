/*
 * usage_days.c
 *		The type billing.usage_days: how days are stored, read, listed and put
 *		together, and when two values are equal.
 *
 * Its text and binary form are made by usage_days_io.c.
 */
#include "pg_compat.h"

#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "usage/usage_private.h"

/* the first byte of the stored form */
#define STORED_VERSION 1

#define LIST_FIRST_SIZE 4

PG_FUNCTION_INFO_V1(billing_usage_days_eq);
PG_FUNCTION_INFO_V1(billing_usage_days_ne);
PG_FUNCTION_INFO_V1(billing_usage_days_hash);
PG_FUNCTION_INFO_V1(billing_usage_days_hash_extended);
PG_FUNCTION_INFO_V1(billing_usage_days_add);
PG_FUNCTION_INFO_V1(billing_usage_days_replace);
PG_FUNCTION_INFO_V1(billing_usage_days_rows);

/* Begin to read a stored value, detoasted or with a short header. */
void
billing_usage_read(BillingUsageReader *reader, const struct varlena *stored)
{
	int64 ndays;

	reader->cursor = (const uint8 *) VARDATA_ANY(stored);
	reader->end = reader->cursor + VARSIZE_ANY_EXHDR(stored);
	reader->day = 0;
	if (reader->cursor == reader->end || *reader->cursor++ != STORED_VERSION)
		ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("stored usage days are of an unknown version"),
				errhint("Update the library of billing_erp to the version that wrote them."));
	ndays = billing_usage_get_integer(reader);
	reader->left = (int32) ndays;
}

/*
 * Read the next day; false after the last.  A level lives in the reader until
 * the next call, numerics in the current memory context.
 */
bool
billing_usage_next(BillingUsageReader *reader, BillingUsageDay *day)
{
	bool has_level;
	int64 head;

	if (reader->left <= 0)
		return false;
	reader->left--;

	/* the distance from the day before, and whether there is a level */
	head = billing_usage_get_integer(reader);
	has_level = (head & 1) != 0;
	reader->day += (DateADT) (head >> 1);
	day->day = reader->day;
	day->events = billing_usage_get_integer(reader);
	billing_usage_get_number(reader, &day->quantity);
	day->level = NULL;
	if (has_level)
	{
		int64 noon = day->day * USECS_PER_DAY + USECS_PER_DAY / 2;

		reader->level.first_at = noon + billing_usage_get_integer(reader);
		reader->level.last_at = reader->level.first_at + billing_usage_get_integer(reader);
		billing_usage_get_number(reader, &reader->level.level);
		day->level = &reader->level;
	}
	return true;
}

/* Does a day say nothing? */
bool
billing_usage_day_is_empty(const BillingUsageDay *day)
{
	return day->events == 0 && day->level == NULL && billing_usage_number_is_zero(&day->quantity);
}

/* Make an empty list in the current memory context. */
BillingUsageDayList *
billing_usage_list(int32 size)
{
	BillingUsageDayList *list = palloc(sizeof(BillingUsageDayList));

	list->ndays = 0;
	list->recent = 0;
	list->size = Max(size, LIST_FIRST_SIZE);
	list->days = palloc(sizeof(BillingUsageDay) * list->size);
	return list;
}

/* Make room for a day at an index; it is empty. */
static BillingUsageDay *
insert_day(BillingUsageDayList *list, int32 at, DateADT day)
{
	BillingUsageDay *slot;

	if (list->ndays == list->size)
	{
		list->size *= 2;
		list->days = repalloc(list->days, sizeof(BillingUsageDay) * list->size);
	}
	slot = &list->days[at];
	memmove(slot + 1, slot, sizeof(BillingUsageDay) * (list->ndays - at));
	list->ndays++;
	memset(slot, 0, sizeof(*slot));
	slot->day = day;
	return slot;
}

/*
 * Find a day of a list, or add it as an empty one.  Days come mostly in order
 * or many times in a row.
 */
BillingUsageDay *
billing_usage_list_day(BillingUsageDayList *list, DateADT day)
{
	int32 low = 0;
	int32 high = list->ndays;

	if (list->recent < list->ndays && list->days[list->recent].day == day)
		return &list->days[list->recent];
	if (list->ndays == 0 || list->days[list->ndays - 1].day < day)
		low = list->ndays;
	while (low < high)
	{
		int32 middle = (low + high) / 2;

		if (list->days[middle].day < day)
			low = middle + 1;
		else
			high = middle;
	}
	list->recent = low;
	if (low < list->ndays && list->days[low].day == day)
		return &list->days[low];
	billing_core_check_date(day, "usage day");
	return insert_day(list, low, day);
}

/* Append a copy of a day that comes after all others. */
BillingUsageDay *
billing_usage_list_append(BillingUsageDayList *list, const BillingUsageDay *day)
{
	BillingUsageDay *slot = insert_day(list, list->ndays, day->day);

	slot->events = day->events;
	slot->quantity = billing_usage_number_copy(&day->quantity);
	if (day->level != NULL)
	{
		slot->level = palloc(sizeof(BillingUsageLevel));
		*slot->level = *day->level;
		slot->level->level = billing_usage_number_copy(&day->level->level);
	}
	return slot;
}

/* Leave out the days that say nothing. */
void
billing_usage_list_drop_empty(BillingUsageDayList *list)
{
	int32 kept = 0;

	for (int32 i = 0; i < list->ndays; i++)
	{
		if (!billing_usage_day_is_empty(&list->days[i]))
			list->days[kept++] = list->days[i];
	}
	list->ndays = kept;
	list->recent = 0;
}

/* Read all days of a stored value into a list in the current memory context. */
BillingUsageDayList *
billing_usage_unpack(const struct varlena *stored)
{
	BillingUsageReader reader;
	BillingUsageDayList *list;
	BillingUsageDay day;

	billing_usage_read(&reader, stored);
	list = billing_usage_list(Min(reader.left, 31));
	while (billing_usage_next(&reader, &day))
		billing_usage_list_append(list, &day);
	return list;
}

/* Refuse a number that the type's own text could not say. */
static void
check_number(const BillingUsageNumber *number)
{
	char *text;
	char *digits;
	size_t whole;
	size_t length;

	if (number->scale != BILLING_USAGE_BIG)
		return;
	text = billing_usage_number_text(number);
	digits = text + (*text == '-');
	whole = strcspn(digits, ".");
	length = strlen(digits);
	if (whole > BILLING_USAGE_MAX_DIGITS || length > whole + 1 + BILLING_USAGE_MAX_DIGITS)
		ereport(ERROR, errcode(ERRCODE_BILLING_OUT_OF_RANGE),
				errmsg("a usage quantity is out of range"),
				errdetail("At most %d digits before and after the decimal point are kept.",
						  BILLING_USAGE_MAX_DIGITS),
				errhint("Check the unit of the quantities."));
	pfree(text);
}

/* Append a day after the day before it, or after day 0. */
void
billing_usage_put_day(StringInfo out, const BillingUsageDay *day, DateADT before)
{
	const BillingUsageLevel *level = day->level;

	check_number(&day->quantity);
	billing_usage_put_integer(out, ((int64) day->day - before) * 2 + (level != NULL ? 1 : 0));
	billing_usage_put_integer(out, day->events);
	billing_usage_put_number(out, &day->quantity);
	if (level != NULL)
	{
		int64 noon = day->day * USECS_PER_DAY + USECS_PER_DAY / 2;

		check_number(&level->level);
		billing_usage_put_integer(out, level->first_at - noon);
		billing_usage_put_integer(out, level->last_at - level->first_at);
		billing_usage_put_number(out, &level->level);
	}
}

/* Store a list of days. */
struct varlena *
billing_usage_pack(const BillingUsageDayList *list)
{
	StringInfoData out;
	DateADT before = 0;

	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	appendStringInfoCharMacro(&out, STORED_VERSION);
	billing_usage_put_integer(&out, list->ndays);
	for (int32 i = 0; i < list->ndays; i++)
	{
		billing_usage_put_day(&out, &list->days[i], before);
		before = list->days[i].day;
	}
	SET_VARSIZE(out.data, out.len);
	return (struct varlena *) out.data;
}

/* Refuse to add areas that may overlap. */
static void
refuse_levels(DateADT day)
{
	ereport(ERROR, errcode(ERRCODE_BILLING_CONFLICT),
			errmsg("usage days with a level cannot be added"),
			errdetail("Both have levels on %s.",
					  DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum(day)))),
			errhint("Recompute the day from its events and replace it, or measure each group of "
					"dimensions on its own."));
}

/* Add the days of a list to another, which owns the result in the current memory context. */
void
billing_usage_merge(BillingUsageDayList *into, BillingUsageDayList *from)
{
	for (int32 i = 0; i < from->ndays; i++)
	{
		const BillingUsageDay *day = &from->days[i];
		BillingUsageDay *target;

		CHECK_FOR_INTERRUPTS();
		if (into->ndays == 0 || into->days[into->ndays - 1].day < day->day)
		{
			billing_usage_list_append(into, day);
			continue;
		}
		target = billing_usage_list_day(into, day->day);
		if (target->level != NULL && day->level != NULL)
			refuse_levels(day->day);
		target->events = billing_usage_add_events(target->events, day->events);
		billing_usage_number_add(&target->quantity, &day->quantity);
		if (day->level != NULL)
		{
			target->level = palloc(sizeof(BillingUsageLevel));
			*target->level = *day->level;
			target->level->level = billing_usage_number_copy(&day->level->level);
		}
	}
}

/* Put the days of two lists together; where both have a day, it is the second's. */
static BillingUsageDayList *
replace_days(const BillingUsageDayList *days, const BillingUsageDayList *with)
{
	BillingUsageDayList *result = billing_usage_list(days->ndays + with->ndays);
	int32 i = 0;
	int32 j = 0;

	while (i < days->ndays || j < with->ndays)
	{
		CHECK_FOR_INTERRUPTS();
		if (j == with->ndays || (i < days->ndays && days->days[i].day < with->days[j].day))
			billing_usage_list_append(result, &days->days[i++]);
		else
		{
			if (i < days->ndays && days->days[i].day == with->days[j].day)
				i++;
			billing_usage_list_append(result, &with->days[j++]);
		}
	}
	return result;
}

/* Are two values equal?  Equal contents are equal bytes. */
static bool
are_equal(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	struct varlena *b = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1));
	bool result = VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
				  memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return result;
}

/* billing_internal.usage_days_eq(billing.usage_days, billing.usage_days) RETURNS boolean */
Datum
billing_usage_days_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(are_equal(fcinfo));
}

/* billing_internal.usage_days_ne(billing.usage_days, billing.usage_days) RETURNS boolean */
Datum
billing_usage_days_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!are_equal(fcinfo));
}

/* billing_internal.usage_days_hash(billing.usage_days) RETURNS integer */
Datum
billing_usage_days_hash(PG_FUNCTION_ARGS)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	uint32 hash =
		hash_bytes((const unsigned char *) VARDATA_ANY(stored), (int) VARSIZE_ANY_EXHDR(stored));

	PG_FREE_IF_COPY(stored, 0);
	PG_RETURN_UINT32(hash);
}

/* billing_internal.usage_days_hash_extended(billing.usage_days, bigint) RETURNS bigint */
Datum
billing_usage_days_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(stored),
									  (int) VARSIZE_ANY_EXHDR(stored), PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(stored, 0);
	PG_RETURN_UINT64(hash);
}

/*
 * billing_internal.usage_days_add(billing.usage_days, billing.usage_days)
 * RETURNS billing.usage_days: the sum day by day, without empty days
 */
Datum
billing_usage_days_add(PG_FUNCTION_ARGS)
{
	BillingUsageDayList *sum = billing_usage_unpack(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0)));

	billing_usage_merge(sum, billing_usage_unpack(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1))));
	billing_usage_list_drop_empty(sum);
	PG_RETURN_POINTER(billing_usage_pack(sum));
}

/*
 * billing_internal.usage_days_replace(billing.usage_days, billing.usage_days)
 * RETURNS billing.usage_days: the days of the second instead of those of the
 * first; an empty day of the second takes the day away
 */
Datum
billing_usage_days_replace(PG_FUNCTION_ARGS)
{
	BillingUsageDayList *result =
		replace_days(billing_usage_unpack(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0))),
					 billing_usage_unpack(PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1))));

	billing_usage_list_drop_empty(result);
	PG_RETURN_POINTER(billing_usage_pack(result));
}

/*
 * billing_internal.usage_days_rows(billing.usage_days) RETURNS TABLE (day date,
 * events bigint, quantity numeric, first_at timestamptz, last_at timestamptz,
 * level numeric): one row per day
 */
Datum
billing_usage_days_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingUsageReader reader;
	BillingUsageDay day;

	InitMaterializedSRF(fcinfo, 0);
	billing_usage_read(&reader, PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0)));
	while (billing_usage_next(&reader, &day))
	{
		bool has_level = day.level != NULL;
		Datum values[6] = { 0 };
		bool nulls[6] = { false, false, false, !has_level, !has_level, !has_level };

		CHECK_FOR_INTERRUPTS();
		values[0] = DateADTGetDatum(day.day);
		values[1] = Int64GetDatum(day.events);
		values[2] = NumericGetDatum(billing_usage_number_numeric(&day.quantity));
		if (has_level)
		{
			values[3] = TimestampTzGetDatum(day.level->first_at);
			values[4] = TimestampTzGetDatum(day.level->last_at);
			values[5] = NumericGetDatum(billing_usage_number_numeric(&day.level->level));
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}
