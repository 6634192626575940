/*
 * usage_measure_time.c
 *		latest and time_weighted: from days that keep a level.
 *
 * A day's own events give its area from the first event on; the time before,
 * and days without events, have the level of the last event before, which may
 * lie before the period.  Before the first level ever it is 0.  Local days
 * have 23, 24 or 25 hours, as the clock says.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "usage/usage_measure.h"

#define FIRST_SIZE 8

/* by day; of one day, what was recomputed comes first */
static int
compare_days(const void *a, const void *b)
{
	const BillingLevelDay *x = (const BillingLevelDay *) a;
	const BillingLevelDay *y = (const BillingLevelDay *) b;

	if (x->day.day != y->day.day)
		return x->day.day < y->day.day ? -1 : 1;
	return (int) y->recomputed - (int) x->recomputed;
}

/* Refuse a day whose levels come from two cells. */
static void
refuse_twice(DateADT day)
{
	ereport(ERROR, errcode(ERRCODE_BILLING_CONFLICT),
			errmsg("levels of several cells cannot be measured together"),
			errdetail("Two cells have levels on %s.",
					  DatumGetCString(DirectFunctionCall1(date_out, DateADTGetDatum(day)))),
			errhint("Measure each item and each group of dimensions on its own, and add the "
					"results."));
}

/* Sort the days and keep one of each: the recomputed one, if there is one. */
static void
settle(BillingLevelDays *list)
{
	int64 kept = 0;

	qsort(list->days, list->ndays, sizeof(BillingLevelDay), compare_days);
	for (int64 i = 0; i < list->ndays; i++)
	{
		const BillingLevelDay *day = &list->days[i];
		const BillingLevelDay *before = kept > 0 ? &list->days[kept - 1] : NULL;

		if (before == NULL || before->day.day != day->day.day)
			list->days[kept++] = *day;
		else if (before->recomputed == day->recomputed)
			refuse_twice(day->day.day);
	}
	list->ndays = kept;
}

/* Add a copy of a day; the list is in the current memory context. */
void
billing_usage_add_level_day(BillingLevelDays *list, const BillingLevelDay *day)
{
	BillingLevelDay *slot;

	if (list->ndays == list->size)
	{
		list->size = list->size == 0 ? FIRST_SIZE : list->size * 2;
		list->days = list->days == NULL
						 ? palloc(sizeof(BillingLevelDay) * list->size)
						 : repalloc_huge(list->days, sizeof(BillingLevelDay) * list->size);
	}
	slot = &list->days[list->ndays++];
	*slot = *day;
	slot->day.quantity = billing_usage_number_copy(&day->day.quantity);
	if (day->day.level != NULL)
	{
		slot->day.level = palloc(sizeof(BillingUsageLevel));
		*slot->day.level = *day->day.level;
		slot->day.level->level = billing_usage_number_copy(&day->day.level->level);
	}
}

/* The last level of the period; days before it do not count. */
static BillingUsageNumber
latest(const BillingLevelDays *list, const BillingMeasureTerms *terms)
{
	BillingUsageNumber result = { .as.value = 0, .scale = 0 };

	for (int64 i = 0; i < list->ndays; i++)
	{
		if (list->days[i].day.day >= terms->period_start && list->days[i].day.level != NULL)
			result = list->days[i].day.level->level;
	}
	return result;
}

/* The area under the level in the period, in level x seconds. */
static BillingUsageNumber
area(const BillingLevelDays *list, const BillingMeasureTerms *terms)
{
	BillingUsageNumber result = { .as.value = 0, .scale = 0 };
	BillingUsageNumber level = result;
	BillingUsageNumber carried;
	TimestampTz covered = billing_usage_midnight(terms->period_start, terms->zone);
	TimestampTz ends = billing_usage_midnight(terms->period_end, terms->zone);

	for (int64 i = 0; i < list->ndays; i++)
	{
		const BillingUsageDay *day = &list->days[i].day;

		if (day->level == NULL)
			continue;
		if (day->day >= terms->period_start)
		{
			carried = billing_usage_number_for(&level, Max(day->level->first_at - covered, 0));
			billing_usage_number_add(&result, &carried);
			billing_usage_number_add(&result, &day->quantity);
			covered = billing_usage_midnight(day->day + 1, terms->zone);
		}
		level = day->level->level;
	}
	carried = billing_usage_number_for(&level, Max(ends - covered, 0));
	billing_usage_number_add(&result, &carried);
	return result;
}

/* What the days come to, and the events that stand in the period. */
BillingUsageNumber
billing_usage_level_result(BillingLevelDays *list, const BillingMeasureTerms *terms, int64 *events)
{
	settle(list);
	for (int64 i = 0; i < list->ndays; i++)
	{
		if (list->days[i].day.day >= terms->period_start)
			*events = billing_usage_add_events(*events, list->days[i].day.events);
	}
	return terms->aggregation == BILLING_AGGREGATION_LATEST ? latest(list, terms)
															: area(list, terms);
}
