/*
 * invoicing_private.h
 *		What the files of the room share: a run, a slice of it, and the documents
 *		on their way.
 */
#ifndef BILLING_INVOICING_PRIVATE_H
#define BILLING_INVOICING_PRIVATE_H

#include "invoicing/invoicing.h"
#include "utils/date.h"
#include "utils/jsonb.h"

/* Accounts billed in one transaction, and documents moved by one set of statements. */
#define BILLING_SLICE_SIZE 5000

/* A run, as far as its slices need it. */
typedef struct BillingRun
{
	int32 entity_id;
	int64 run_id;
	DateADT through;
	char *phase;
	int32 started_by;
	int32 slices;
	bool cancelled;
} BillingRun;

/* What a slice of a run did. */
typedef struct BillingSlice
{
	int64 accounts;
	int64 documents;
	int64 issued;
	int64 held;
	int64 lines;
	int64 exceptions;
	int64 parked;
	Datum amounts; /* jsonb: the total of its documents by currency */
} BillingSlice;

/* invoicing_run.c */
extern int64 billing_invoicing_open_run(int32 entity_id, DateADT through, Jsonb *options,
										bool background);
extern void billing_invoicing_find_run(int32 entity_id, int64 run_id, BillingRun *run);
extern void billing_invoicing_close_run(const BillingRun *run);

/* invoicing_change.c: in the transaction that opens a run, before it looks for what is due */
extern void billing_invoicing_complete_changes(int32 entity_id, DateADT through);

/* invoicing_slice.c */
extern void billing_invoicing_bill_slice(const BillingRun *run, int32 slice_no);

/* invoicing_park.c */
extern bool billing_invoicing_can_park(int sqlstate);
extern void billing_invoicing_park(const BillingRun *run, int64 account_id, ErrorData *error);
extern void billing_invoicing_settle_parked(const BillingRun *run, Datum accounts);

/* invoicing_bill.c */
extern void billing_invoicing_write(const BillingRun *run, Datum accounts, Datum changed,
									BillingSlice *slice);

/* invoicing_number.c */
extern const char *billing_invoicing_series(bool is_credit_note);
extern void billing_invoicing_number(int32 entity_id, Datum ids);

/* invoicing_life.c */
extern int64 billing_invoicing_find(int32 entity_id, const char *reference);
extern Datum billing_invoicing_one(int64 document_id);
extern Datum billing_invoicing_array(Datum *values, bool *nulls, int count, Oid type);
extern int64 billing_invoicing_count(Datum ids);
extern void billing_invoicing_close_findings(int32 entity_id, Datum ids, const char *resolution);

extern void billing_invoicing_lock_account(int32 entity_id, int64 document_id);
extern void billing_invoicing_discard_one(int32 entity_id, int64 document_id, const char *reason);

/* invoicing_credit.c */
extern void billing_invoicing_settle_credits(int32 entity_id, Datum ids);

#endif /* BILLING_INVOICING_PRIVATE_H */
