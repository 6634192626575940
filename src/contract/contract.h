/*
 * contract.h
 *		How other rooms find a contract by code, read the terms of accounts, and
 *		learn what falls due by them.
 */
#ifndef BILLING_CONTRACT_H
#define BILLING_CONTRACT_H

#include "core/call.h"
#include "core/scan.h"
#include "utils/date.h"

extern BillingStatement billing_contract_by_code;

/* contract_api.c */
extern void billing_contract_check_currency(int32 entity_id, int64 contract_id,
											int64 price_book_id);

/*
 * The days of a term: what an item's version and its contract have in common,
 * from valid_from to before valid_to, in billing periods that are counted from
 * the anchor.  A day that is not set is the widest there is.
 */
typedef struct BillingTermDays
{
	bool one_time;
	bool in_advance;
	DateADT anchor;
	char unit[16];
	int32 count;
	DateADT start_date;
	DateADT end_date;
	DateADT valid_from;
	DateADT valid_to;
} BillingTermDays;

/* One charge of a term: when it falls due, the days it is for, and how many its whole period has. */
typedef struct BillingDue
{
	DateADT due;
	DateADT from;
	DateADT to;
	int32 of_days;
} BillingDue;

/* What is left of an enumeration of charges. */
typedef struct BillingDuePeriods
{
	BillingTermDays term;
	int64 next;
	int64 last;
	DateADT after;
	DateADT through;
} BillingDuePeriods;

/* contract_due.c */
extern void billing_contract_begin_due(BillingDuePeriods *periods, const BillingTermDays *term,
									   DateADT after, DateADT through);
extern bool billing_contract_next_charge(BillingDuePeriods *periods, BillingDue *charge);
extern bool billing_contract_due_after(const BillingTermDays *term, DateADT through, DateADT *day);

typedef enum BillingChargeKind
{
	BILLING_RECURRING,
	BILLING_USAGE,
	BILLING_ONE_TIME
} BillingChargeKind;

extern const char *const billing_contract_charge_names[];

/* A term of an account's item, as known now, cut to its contract; ids that are not set are 0. */
typedef struct BillingTerms
{
	int64 account_id;
	int64 contract_id;
	int64 item_id;
	int64 version_id;
	int64 product_id;
	int64 meter_id;
	int64 usage_item; /* whose usage it charges for: its own, or 0, the account's */
	int64 price_book_id;
	BillingChargeKind charge;
	BillingTermDays days;
	Datum quantity; /* numeric; 0 for usage */
	Datum tariff;	/* 0 where a price book has the price */
} BillingTerms;

/* Reads the terms of accounts, one account after the other. */
typedef struct BillingTermsReader
{
	int32 entity_id;
	BillingScan items;
	BillingScan contracts;
	BillingScan versions;
	int count;
	int size;
	BillingTerms *terms; /* of the account that was read last */
	int nitems;
	int items_size;
	int64 *item_ids; /* all its items, also those that have no terms any more */
} BillingTermsReader;

/* contract_terms.c */
extern void billing_contract_open_terms(BillingTermsReader *reader, int32 entity_id,
										Snapshot snapshot);
extern void billing_contract_read_terms(BillingTermsReader *reader, int64 account_id);
extern void billing_contract_close_terms(BillingTermsReader *reader);

#endif /* BILLING_CONTRACT_H */
