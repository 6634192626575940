/*
 * usage.h
 *		What usage events add up to: by day, rolled up, measured over periods; and
 *		which usage comes after its period was billed.
 *
 * Other rooms read quantities in SQL, by billing_internal.usage_cells() and
 * billing_internal.measure(), or here, of many accounts one after the other.
 */
#ifndef BILLING_USAGE_H
#define BILLING_USAGE_H

#include "pg_compat.h"

#include "utils/date.h"
#include "utils/numeric.h"
#include "utils/snapshot.h"

/* usage_rollup.c: before the usage of many accounts is read */
extern void billing_usage_roll_up_apart(int32 entity_id);

/* usage_late.c: in the transaction that opens a billing run, before it looks for what is due */
extern void billing_usage_open_run(int32 entity_id, DateADT through);

/* What the usage of a period comes to, for one combination of group keys. */
typedef struct BillingUsageGroup
{
	char *dimensions; /* JSON text; empty without group keys */
	Numeric quantity;
	int64 events;
} BillingUsageGroup;

/* usage_cells.c: all usage of some accounts, complete in a snapshot */
typedef struct BillingUsageSource BillingUsageSource;

extern BillingUsageSource *billing_usage_open(int32 entity_id, const int64 *accounts, int count,
											  Snapshot snapshot);
extern int billing_usage_measure(BillingUsageSource *source, int64 account_id, int64 item_id,
								 int64 meter_id, DateADT from, DateADT to,
								 BillingUsageGroup **groups);
extern void billing_usage_close(BillingUsageSource *source);

#endif /* BILLING_USAGE_H */
