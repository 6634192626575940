/*
 * invoicing_bounds.h
 *		How unusual an amount is: shared by what holds a document up and what tells.
 */
#ifndef BILLING_INVOICING_BOUNDS_H
#define BILLING_INVOICING_BOUNDS_H

#include "pg_compat.h"

#include "utils/array.h"
#include "utils/numeric.h"

/* An amount among earlier ones. */
typedef struct BillingScore
{
	int count;		   /* of the amounts before it */
	Numeric median;	   /* of them */
	Numeric deviation; /* what they usually differ from it */
	Numeric score;	   /* how many times that the amount differs from it */
} BillingScore;

/* invoicing_score.c */
extern bool billing_invoicing_score(Numeric amount, ArrayType *history, BillingScore *result);

#endif /* BILLING_INVOICING_BOUNDS_H */
