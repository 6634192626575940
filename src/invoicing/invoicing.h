/*
 * invoicing.h
 *		What the files of the room share: finding documents, and the steps of a run.
 */
#ifndef BILLING_INVOICING_H
#define BILLING_INVOICING_H

#include "core/core.h"

/* What a slice of a run did. */
typedef struct BillingSlice
{
	int64 accounts;
	int64 documents;
	int64 lines;
	int64 exceptions;
	int64 last_account; /* the next slice begins after it */
} BillingSlice;

/* invoicing_bill.c: call between SPI_connect() and SPI_finish() */
extern void billing_invoicing_bill_slice(int32 entity_id, int64 run_id, DateADT through,
										 int64 after_account, int32 most, BillingSlice *slice);

/* invoicing_life.c: the ids of documents as bigint[], a Datum */
extern Datum billing_invoicing_one(int64 document_id);
extern int64 billing_invoicing_find(int32 entity_id, const char *reference);
extern int64 billing_invoicing_count(Datum ids);

#endif /* BILLING_INVOICING_H */
