/*
 * usage_measure.h
 *		The state of the aggregate measure(), and its three parts: what is asked
 *		for, samples that are counted, and days that keep a level.
 */
#ifndef BILLING_USAGE_MEASURE_H
#define BILLING_USAGE_MEASURE_H

#include "usage/usage_private.h"

typedef enum BillingAggregation
{
	BILLING_AGGREGATION_SUM,
	BILLING_AGGREGATION_COUNT,
	BILLING_AGGREGATION_MAX,
	BILLING_AGGREGATION_MIN,
	BILLING_AGGREGATION_LATEST,
	BILLING_AGGREGATION_UNIQUE_COUNT,
	BILLING_AGGREGATION_TIME_WEIGHTED,
	BILLING_AGGREGATION_PERCENTILE
} BillingAggregation;

typedef enum BillingUsageRounding
{
	BILLING_ROUND_NEAREST,
	BILLING_ROUND_UP,
	BILLING_ROUND_DOWN
} BillingUsageRounding;

/* What is asked for; the same for all rows of a group. */
typedef struct BillingMeasureTerms
{
	BillingAggregation aggregation;
	DateADT period_start;
	DateADT period_end; /* the day after the last */
	char *zone_name;	/* time_weighted only */
	pg_tz *zone;
	BillingUsageNumber percentile;
	int32 time_unit;
	bool has_scale;
	int32 scale;
	BillingUsageRounding rounding;
} BillingMeasureTerms;

/* A sample and how many events with it stand in the period. */
typedef struct BillingSample
{
	int64 events;
	BillingUsageNumber number; /* all but unique_count */
	char *text;				   /* unique_count */
} BillingSample;

typedef struct BillingSampleSet
{
	bool is_text;
	int64 nsamples;
	int64 size;
	BillingSample *samples;
} BillingSampleSet;

/* A day of a row, as it came. */
typedef struct BillingLevelDay
{
	BillingUsageDay day;
	bool recomputed;
} BillingLevelDay;

typedef struct BillingLevelDays
{
	int64 ndays;
	int64 size;
	BillingLevelDay *days;
} BillingLevelDays;

typedef struct BillingMeasure
{
	MemoryContext context; /* of all that it holds */
	BillingMeasureTerms terms;
	int64 events;			/* net, of the period, but of days with a level */
	BillingUsageNumber sum; /* sum only */
	BillingSampleSet samples;
	BillingLevelDays days;
} BillingMeasure;

/* usage_measure.c */
extern void billing_usage_set_aggregation(BillingMeasureTerms *terms, const char *aggregation,
										  const char *zone, Numeric percentile,
										  const char *rounding);
extern BillingMeasure *billing_usage_start_measure(MemoryContext context);
extern void billing_usage_add_cell(BillingMeasure *measure, const struct varlena *days,
								   text *sample, bool recomputed);
extern Numeric billing_usage_finish_measure(BillingMeasure *measure, int64 *events);

/* usage_measure_sample.c */
extern void billing_usage_add_sample(BillingSampleSet *set, const BillingSample *sample);
extern BillingUsageNumber billing_usage_sample_result(BillingSampleSet *set,
													  const BillingMeasureTerms *terms);

/* usage_measure_time.c */
extern void billing_usage_add_level_day(BillingLevelDays *list, const BillingLevelDay *day);
extern BillingUsageNumber billing_usage_level_result(BillingLevelDays *list,
													 const BillingMeasureTerms *terms,
													 int64 *events);

/* usage_round.c */
extern Numeric billing_usage_round(const BillingUsageNumber *number, int32 divisor, int32 scale,
								   BillingUsageRounding rounding);

#endif /* BILLING_USAGE_MEASURE_H */
