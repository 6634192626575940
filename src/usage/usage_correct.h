/*
 * usage_correct.h
 *		What the files about corrections of usage share.
 */
#ifndef BILLING_USAGE_CORRECT_H
#define BILLING_USAGE_CORRECT_H

#include "metering/metering.h"
#include "utils/array.h"

/* A correction while it is asked for or carried out. */
typedef struct BillingCorrection
{
	BillingUsageCorrection usage;
	BillingUsageBatch batch;
	Datum accounts; /* bigint[]: whose usage changes */
	Datum meters;	/* bigint[]: by which meters, one beside each account */
	Datum days;		/* date[]: on which days, likewise */
	char *currency;
	Numeric effect;
	int64 unrated; /* periods of items whose worth is not known, before or after */
} BillingCorrection;

/* usage_correct.c */
extern const char *const billing_usage_correction_kinds[];
extern void billing_usage_name_events(BillingUsageBatch *batch, text *source, ArrayType *ids);
extern void billing_usage_read_events(BillingUsageBatch *batch, Jsonb *events);
extern void billing_usage_wait_for_corrections(int32 entity_id);

/* usage_effect.c */
extern void billing_usage_prepare(BillingCorrection *correction);
extern void billing_usage_carry_out(BillingCorrection *correction);
extern Datum billing_usage_taken_back(const BillingCorrection *correction);

#endif /* BILLING_USAGE_CORRECT_H */
