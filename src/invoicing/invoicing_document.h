/*
 * invoicing_document.h
 *		The documents of a slice while a billing run makes them: in memory, until
 *		their rows are written.
 */
#ifndef BILLING_INVOICING_DOCUMENT_H
#define BILLING_INVOICING_DOCUMENT_H

#include "invoicing/invoicing_entry.h"
#include "invoicing/invoicing_private.h"
#include "lib/stringinfo.h"
#include "utils/array.h"

/* Lines of a document that are taxed alike; the category is NULL where they have no tax. */
typedef struct BillingTax
{
	const char *category;
	Datum rate;
	const char *exemption_reason; /* or NULL */
	Datum base;
	Datum tax;
	int lines;
	DateADT since;
} BillingTax;

/* A step that a document takes in the run; an action is NULL where it takes none. */
typedef struct BillingStep
{
	const char *action;
	const char *from_state;
	const char *to_state;
} BillingStep;

/* Its steps: it is made, moved on, and issued. */
#define BILLING_STEPS 3

typedef struct BillingDocument
{
	int64 document_id;
	int party;
	DateADT billing_date;
	int first; /* of its lines among the entries */
	int count;
	int ntaxes;
	BillingTax *taxes; /* in the order in which they are printed */
	Datum net;
	Datum tax;
	Datum total;
	bool is_credit_note;
	const char *unpriced; /* what it lacks, or NULL */
	ArrayType *problems;  /* what stands against it, or NULL */
	int nsteps;
	BillingStep steps[BILLING_STEPS];
	/* of an issued one */
	int64 sequence;
	const char *number;
	DateADT due_date;
	Jsonb *buyer;
} BillingDocument;

typedef struct BillingMaking
{
	const BillingRun *run;
	BillingDerivation derivation;
	BillingEntries entries;
	int nlines; /* entries that have an amount come first */
	int ncustomers;
	struct BillingCustomer *customers; /* for each party */
	int ndocuments;
	BillingDocument *documents; /* by party and billing date */
	/* of the issued ones */
	DateADT issue_date;
	int32 fiscal_year;
	Jsonb *seller;
} BillingMaking;

/* The particulars of a party's customer. */
typedef struct BillingCustomer
{
	const char *code;
	const char *name;
	const char *address;
	const char *postal_code;
	const char *city;
	const char *country;
	const char *tax_id;
} BillingCustomer;

/* The kind of document. */
static inline const char *
billing_document_kind(const BillingDocument *document)
{
	return document->is_credit_note ? "credit_note" : "invoice";
}

/* The state that its last step led to. */
static inline const char *
billing_document_state(const BillingDocument *document)
{
	return document->steps[document->nsteps - 1].to_state;
}

static inline bool
billing_document_is_issued(const BillingDocument *document)
{
	return strcmp(document->steps[document->nsteps - 1].action, "issue") == 0;
}

/* invoicing_document.c */
extern void billing_invoicing_make_documents(BillingMaking *making);

/* invoicing_judge.c */
extern void billing_invoicing_judge(BillingMaking *making);

/* invoicing_missing.c: charges that cannot be billed, and those that now can */
extern void billing_invoicing_describe_missing(BillingMaking *making);
extern int64 billing_invoicing_raise_missing(BillingMaking *making);
extern void billing_invoicing_settle_missing(BillingMaking *making);
extern void billing_invoicing_raise_problems(BillingMaking *making);

/* The texts of some tariffs: those that were asked for last. */
#define BILLING_TARIFF_TEXTS 8

typedef struct BillingTariffTexts
{
	MemoryContext context;
	int next;
	Datum tariffs[BILLING_TARIFF_TEXTS];
	Datum texts[BILLING_TARIFF_TEXTS];
} BillingTariffTexts;

/* invoicing_content.c */
extern char *billing_invoicing_content(const BillingMaking *making, const BillingDocument *document,
									   StringInfo bytes, BillingTariffTexts *known);

/* invoicing_rows.c */
extern void billing_invoicing_write_documents(BillingMaking *making);
extern void billing_invoicing_write_invoices(BillingMaking *making);

/* invoicing_number.c */
extern void billing_invoicing_take_numbers(BillingMaking *making);

#endif /* BILLING_INVOICING_DOCUMENT_H */
