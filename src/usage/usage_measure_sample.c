/*
 * usage_measure_sample.c
 *		max, min, percentile and unique_count: from samples and the number of
 *		events that stand with each.
 *
 * A sample counts while more events have brought it than were taken back.  The
 * same sample may come in many rows (of months, of the tail); they are put
 * together whenever the set is full, so that it is bounded by the number of
 * different samples.
 */
#include "pg_compat.h"

#include "miscadmin.h"

#include "core/core.h"
#include "core/decimal.h"
#include "usage/usage_measure.h"

#define FIRST_SIZE 8

/* numbers by value */
static int
compare_numbers(const void *a, const void *b)
{
	return billing_usage_number_compare(&((const BillingSample *) a)->number,
										&((const BillingSample *) b)->number);
}

/* texts by their bytes */
static int
compare_texts(const void *a, const void *b)
{
	return strcmp(((const BillingSample *) a)->text, ((const BillingSample *) b)->text);
}

/* Release what a sample owns. */
static void
free_sample(BillingSample *sample)
{
	if (sample->text != NULL)
		pfree(sample->text);
	else if (sample->number.scale == BILLING_USAGE_BIG)
		pfree(sample->number.as.big);
}

/* Sort the set and put equal samples together. */
static void
gather(BillingSampleSet *set)
{
	int (*compare)(const void *, const void *) = set->is_text ? compare_texts : compare_numbers;
	int64 last = 0;
	int64 kept = 0;

	if (set->nsamples == 0)
		return;
	qsort(set->samples, set->nsamples, sizeof(BillingSample), compare);
	for (int64 i = 1; i < set->nsamples; i++)
	{
		BillingSample *sample = &set->samples[i];

		if (compare(&set->samples[last], sample) == 0)
		{
			set->samples[last].events =
				billing_usage_add_events(set->samples[last].events, sample->events);
			free_sample(sample);
		}
		else
			set->samples[++last] = *sample;
	}

	/* what was taken back may still come again: that is another sample then */
	for (int64 i = 0; i <= last; i++)
	{
		if (set->samples[i].events != 0)
			set->samples[kept++] = set->samples[i];
		else
			free_sample(&set->samples[i]);
	}
	set->nsamples = kept;
}

/* Add a copy of a sample; the set is in the current memory context. */
void
billing_usage_add_sample(BillingSampleSet *set, const BillingSample *sample)
{
	BillingSample *slot;

	if (set->nsamples == set->size)
	{
		CHECK_FOR_INTERRUPTS();
		gather(set);
		if (set->size == 0)
		{
			set->size = FIRST_SIZE;
			set->samples = palloc(sizeof(BillingSample) * set->size);
		}
		else if (set->nsamples > set->size / 2)
		{
			set->size *= 2;
			set->samples = repalloc_huge(set->samples, sizeof(BillingSample) * set->size);
		}
	}
	slot = &set->samples[set->nsamples++];
	slot->events = sample->events;
	slot->text = set->is_text ? pstrdup(sample->text) : NULL;
	if (!set->is_text)
		slot->number = billing_usage_number_copy(&sample->number);
}

/* A whole number. */
static BillingUsageNumber
whole(int64 value)
{
	BillingUsageNumber number = { .as.value = value, .scale = 0 };

	return number;
}

/*
 * The place of the percentile among n samples in ascending order, by nearest
 * rank: ceil(p / 100 * n).
 */
static int64
nearest_rank(const BillingUsageNumber *percentile, int64 n)
{
	int128 by = 100;
	int128 product = (int128) percentile->as.value * n;

	/* p has at most 18 decimals */
	billing_core_decimal_raise(&by, percentile->scale);
	return (int64) ((product + by - 1) / by);
}

/* The sample at a place, counting each as often as it occurs. */
static BillingUsageNumber
sample_at(const BillingSampleSet *set, int64 place)
{
	int64 passed = 0;

	for (int64 i = 0; i < set->nsamples; i++)
	{
		passed += Max(set->samples[i].events, 0);
		if (passed >= place)
			return set->samples[i].number;
	}
	return whole(0);
}

/* What the samples of the period come to; 0 without any. */
BillingUsageNumber
billing_usage_sample_result(BillingSampleSet *set, const BillingMeasureTerms *terms)
{
	int64 standing = 0;
	int64 different = 0;

	gather(set);
	for (int64 i = 0; i < set->nsamples; i++)
	{
		if (set->samples[i].events <= 0)
			continue;
		different++;
		standing = billing_usage_add_events(standing, set->samples[i].events);
	}
	switch (terms->aggregation)
	{
		case BILLING_AGGREGATION_UNIQUE_COUNT:
			return whole(different);
		case BILLING_AGGREGATION_MIN:
			return sample_at(set, 1);
		case BILLING_AGGREGATION_MAX:
			return sample_at(set, standing);
		case BILLING_AGGREGATION_PERCENTILE:
			return sample_at(set, nearest_rank(&terms->percentile, standing));
		default:
			return whole(0);
	}
}
