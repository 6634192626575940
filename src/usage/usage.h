/*
 * usage.h
 *		What usage events add up to: by day, rolled up, measured over periods; and
 *		which usage comes after its period was billed.
 *
 * Other rooms read quantities in SQL: billing_internal.usage_cells() and
 * billing_internal.measure().
 */
#ifndef BILLING_USAGE_H
#define BILLING_USAGE_H

#include "pg_compat.h"

#include "utils/date.h"

/* usage_rollup.c: before the usage of many accounts is read */
extern void billing_usage_roll_up_apart(int32 entity_id);

/* usage_late.c: in the transaction that opens a billing run, before it looks for what is due */
extern void billing_usage_open_run(int32 entity_id, DateADT through);

#endif /* BILLING_USAGE_H */
