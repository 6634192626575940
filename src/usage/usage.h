/*
 * usage.h
 *		What usage events add up to: by day, rolled up, measured over periods.
 *
 * Other rooms read quantities in SQL: billing_internal.usage_cells() and
 * billing_internal.measure().
 */
#ifndef BILLING_USAGE_H
#define BILLING_USAGE_H

#include "pg_compat.h"

/* usage_rollup.c: before the usage of many accounts is read */
extern void billing_usage_roll_up_apart(int32 entity_id);

#endif /* BILLING_USAGE_H */
