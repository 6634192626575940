/*
 * write.h
 *		Rows into a table and its indexes, below SQL.
 */
#ifndef BILLING_WRITE_H
#define BILLING_WRITE_H

#include "pg_compat.h"

#include "access/attnum.h"

/* Whether a column's type is a domain, and what checking it has prepared. */
typedef struct BillingDomain
{
	bool is_domain;
	void *extra;
} BillingDomain;

typedef struct BillingWriter
{
	struct RelationData *table;
	int count;					/* of the values of a row */
	AttrNumber *attributes;		/* for each value, where it goes */
	bool may_conflict;			/* a unique index that has a row already is no error */
	bool fires;					/* the table has triggers that are not the extension's own */
	bool has_generated;			/* it has columns that are computed from others */
	MemoryContext rows_context; /* reset when rows have been written */
	struct EState *estate;
	struct ResultRelInfo *result;
	struct TransitionCaptureState *capture;
	struct TupleTableSlot **slots;
	int gathered;
	BillingDomain *domains;
} BillingWriter;

/* core_write.c */
extern bool billing_core_is_plain(Oid table);
extern BillingWriter *billing_core_begin_plain_write(Oid table, Oid parent,
													 const char *const *names, int count);
extern BillingWriter *billing_core_begin_write(const char *table, const char *const *names,
											   int count, const char *done);
extern bool billing_core_write_row(BillingWriter *writer, const Datum *values, const bool *nulls);
extern bool billing_core_end_write(BillingWriter *writer);

#endif /* BILLING_WRITE_H */
