/*
 * invoicing_bounds.h
 *		What holds a document up: shared by runs, validation, and who asks.
 */
#ifndef BILLING_INVOICING_BOUNDS_H
#define BILLING_INVOICING_BOUNDS_H

#include "pg_compat.h"

#include "utils/array.h"
#include "utils/date.h"
#include "utils/numeric.h"

/* An amount among earlier ones. */
typedef struct BillingScore
{
	int count;		   /* of the amounts before it */
	Numeric median;	   /* of them */
	Numeric deviation; /* what they usually differ from it */
	Numeric score;	   /* how many times that the amount differs from it */
} BillingScore;

/* A document as it is looked at; what is not known is NULL, a bound that is not set as well. */
typedef struct BillingInspection
{
	bool is_invoice; /* and not a credit note */
	Numeric total;
	const char *currency;
	int64 lines;
	int64 untaxed; /* of them, without a tax */
	bool has_untaxed_since;
	DateADT untaxed_since;
	bool needs_tax_id;
	const char *address;
	const char *country;
	const char *tax_id;
	const char *account;
	bool purchase_order_missing;
	bool hold_zero;
	const char *unpriced; /* what could not be charged */
	Numeric max_amount;
	bool has_max_lines;
	int32 max_lines;
	Numeric max_score;
	ArrayType *history; /* totals of the invoices before, as numeric[] */
	bool released;		/* a person has let it pass */
} BillingInspection;

/* invoicing_problems.c: {{kind, detail}, ...}, or NULL where nothing stands against it */
extern ArrayType *billing_invoicing_inspect(const BillingInspection *document);
extern const char *billing_invoicing_action(bool has_problems, Numeric total, Numeric limit,
											bool released);

/* invoicing_score.c */
extern bool billing_invoicing_score(Numeric amount, ArrayType *history, BillingScore *result);

#endif /* BILLING_INVOICING_BOUNDS_H */
