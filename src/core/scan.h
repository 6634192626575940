/*
 * scan.h
 *		Look-ups by key in the extension's own tables, below SQL.
 */
#ifndef BILLING_SCAN_H
#define BILLING_SCAN_H

#include "pg_compat.h"

#include "access/skey.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

/* Columns of an index that can be searched for. */
#define BILLING_SCAN_KEYS 6

typedef struct BillingScan
{
	struct RelationData *table;
	struct RelationData *index;
	struct IndexScanDescData *scan;
	TupleTableSlot *slot;
	ScanKeyData keys[BILLING_SCAN_KEYS];
	int nkeys;
	AttrNumber *columns; /* of the names it was opened with */
} BillingScan;

/* core_scan.c */
extern void billing_core_scan_open(BillingScan *scan, const char *table, const char *index,
								   int nkeys, bool from_last, const char *const *columns,
								   int ncolumns, Snapshot snapshot);
extern void billing_core_scan_find(BillingScan *scan, const Datum *keys);
extern bool billing_core_scan_next(BillingScan *scan);
extern void billing_core_scan_close(BillingScan *scan);

/* The value of the n-th column that the scan was opened with. */
static inline Datum
billing_scan_value(const BillingScan *scan, int n)
{
	return scan->slot->tts_values[scan->columns[n] - 1];
}

static inline bool
billing_scan_isnull(const BillingScan *scan, int n)
{
	return scan->slot->tts_isnull[scan->columns[n] - 1];
}

#endif /* BILLING_SCAN_H */
