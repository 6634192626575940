/*
 * invoicing_entry.h
 *		What is entitled, what was billed, and the difference, of the accounts of
 *		a slice: as arrays in memory, read account by account in one snapshot.
 *
 * Ids that are not set are 0, numbers that are not known are 0 as Datums.
 */
#ifndef BILLING_INVOICING_ENTRY_H
#define BILLING_INVOICING_ENTRY_H

#include "contract/contract.h"
#include "utils/date.h"
#include "utils/snapshot.h"

/* An account that is derived. */
typedef struct BillingParty
{
	int64 account_id;
	bool is_changed; /* everything is derived anew and compared with what was billed */
	bool was_billed;
	DateADT billed_through;
	DateADT through; /* the later of that and the day that is asked for */
	char *code;
	char *currency;
	int32 minor_unit;
	int64 customer_id;
	int64 tax_code_id;
	int32 payment_terms_days;
	bool needs_purchase_order;
	char *purchase_order;	 /* or NULL */
	DateADT next_due;		 /* after it is billed; DATEVAL_NOEND for never */
	DateADT usage_billed_to; /* DATEVAL_NOBEGIN without usage */
	int nitems;
	int64 *items; /* of a changed account, all of them */
} BillingParty;

/* The entity, as far as deriving asks. */
typedef struct BillingBiller
{
	int32 entity_id;
	char *currency;
	char *time_zone;
	bool half_even;
} BillingBiller;

/* What is derived: accounts of an entity through a day. */
typedef struct BillingDerivation
{
	BillingBiller biller;
	Snapshot snapshot;
	int nparties;
	BillingParty *parties; /* sorted by account */
} BillingDerivation;

/* A charge that is entitled. */
typedef struct BillingCharge
{
	int party;
	BillingChargeKind charge;
	int64 contract_id;
	int64 item_id;
	int64 version_id;
	int64 product_id;
	int64 meter_id;
	int64 usage_item;
	DateADT charge_date;
	DateADT period_start;
	DateADT period_end;
	int32 days;
	int32 of_days;
	Datum quantity;
	bool has_events;
	int64 events;
	char *dimensions;
	int64 price_book_id;
	Datum tariff;		/* 0 without a price */
	Datum exact_amount; /* 0 where it cannot be rated */
} BillingCharge;

typedef struct BillingCharges
{
	int count;
	int size;
	BillingCharge *charges;
} BillingCharges;

/* A line that settles a difference: a charge, or the credit of one. */
typedef struct BillingEntry
{
	int party;
	bool is_credit;
	DateADT billing_date;
	BillingChargeKind charge; /* of a charge */
	int64 contract_id;		  /* of a charge */
	int64 item_id;
	int64 version_id;
	int32 charge_seq;
	DateADT charge_date;
	DateADT period_start;
	DateADT period_end;
	int32 days;
	int32 of_days;
	Datum quantity;
	bool has_events;
	int64 events;
	char *dimensions;
	Datum tariff;
	Datum exact_amount;
	Datum amount; /* 0 where it cannot be rated */
	char *description;
	int64 tax_code_id;
	char *tax_category; /* or NULL */
	Datum tax_rate;		/* 0 where there is no category */
	char *exemption_reason;
	int64 reverses_invoice_id;
	int32 reverses_line_no;
} BillingEntry;

typedef struct BillingEntries
{
	int count;
	int size;
	BillingEntry
		*entries; /* sorted as lines are numbered: by account, billing date, item, period ... */
} BillingEntries;

/* invoicing_party.c */
extern int64 *billing_invoicing_ids(Datum array, int *count);
extern void billing_invoicing_begin_derivation(BillingDerivation *derivation, int32 entity_id,
											   const int64 *accounts, int count, DateADT through,
											   const int64 *changed, int nchanged,
											   Snapshot snapshot);

/* invoicing_entitle.c */
extern void billing_invoicing_entitle(BillingDerivation *derivation, BillingCharges *charges);

/* invoicing_differ.c */
extern void billing_invoicing_differ(BillingDerivation *derivation, BillingEntries *entries);

/* invoicing_label.c: what a charge says and how it is taxed */
typedef struct BillingLabels BillingLabels;

extern BillingLabels *billing_invoicing_open_labels(const BillingDerivation *derivation);
extern void billing_invoicing_label_charge(BillingLabels *labels, const BillingParty *party,
										   int64 product_id, BillingEntry *entry);
extern void billing_invoicing_label_credit(BillingLabels *labels, BillingEntry *entry);
extern void billing_invoicing_close_labels(BillingLabels *labels);

#endif /* BILLING_INVOICING_ENTRY_H */
