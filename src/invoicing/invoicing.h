/*
 * invoicing.h
 *		What is entitled, what was billed, and the documents that settle the
 *		difference.
 */
#ifndef BILLING_INVOICING_H
#define BILLING_INVOICING_H

#include "pg_compat.h"

/* A slice of a background run, claimed by this process. */
typedef struct BillingWork
{
	int32 entity_id;
	int64 run_id;
	int32 slice_no;
	char description[64];
} BillingWork;

/* invoicing_work.c: each in a transaction of its own, as billing_owner; the last after it has ended */
extern bool billing_invoicing_claim_slice(BillingWork *work);
extern void billing_invoicing_bill_claimed(const BillingWork *work);
extern void billing_invoicing_fail_claimed(const BillingWork *work, const char *error);
extern void billing_invoicing_drop_claim(const BillingWork *work);

#endif /* BILLING_INVOICING_H */
