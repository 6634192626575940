/*
 * core_scan.c
 *		Look-ups by key in the extension's own tables: an index that is named, not
 *		one that a planner finds.
 *
 * A billing run asks for thousands of accounts one by one; what it asks, and by
 * which index, does not depend on statistics that may be as old as the table.
 * Who calls must be allowed to read the table; row-level security is not asked:
 * the caller answers for the entity, which is the first key of every look-up.
 */
#include "pg_compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/scan.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* The id of a table or index of the extension. */
static Oid
relation_of(const char *name)
{
	Oid oid = get_relname_relid(name, get_namespace_oid("billing", false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("table or index \"billing.%s\" does not exist", name),
				 errhint("Restore what the extension made; a new index of that name will do.")));
	return oid;
}

/* The function that compares a key of an index for equality. */
static RegProcedure
equality_of(Relation index, int key)
{
	switch (TupleDescAttr(RelationGetDescr(index), key)->atttypid)
	{
		case INT4OID:
			return F_INT4EQ;
		case INT8OID:
			return F_INT8EQ;
		case DATEOID:
			return F_DATE_EQ;
		default:
			ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
							errmsg("index \"%s\" does not have the columns it should have",
								   RelationGetRelationName(index))));
	}
}

/*
 * Open a table for look-ups by the first nkeys columns of an index, of the last
 * of them, a date, from a value on where from_last is set, in a snapshot that
 * outlives it.  `columns` are those whose values will be read.
 */
void
billing_core_scan_open(BillingScan *scan, const char *table, const char *index, int nkeys,
					   bool from_last, const char *const *columns, int ncolumns, Snapshot snapshot)
{
	Oid table_oid = relation_of(table);
	AclResult allowed = pg_class_aclcheck(table_oid, GetUserId(), ACL_SELECT);
	int i;

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, table);
	scan->table = table_open(table_oid, AccessShareLock);
	scan->index = index_open(relation_of(index), AccessShareLock);
	if (IndexRelationGetNumberOfKeyAttributes(scan->index) < nkeys)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("index \"%s\" has too few columns", index)));
	scan->slot = table_slot_create(scan->table, NULL);
	scan->nkeys = nkeys;
	for (i = 0; i < nkeys; i++)
		ScanKeyInit(&scan->keys[i], i + 1, BTEqualStrategyNumber, equality_of(scan->index, i),
					(Datum) 0);
	if (from_last)
		ScanKeyInit(&scan->keys[nkeys - 1], nkeys, BTGreaterEqualStrategyNumber, F_DATE_GE,
					(Datum) 0);
	scan->columns = palloc(sizeof(AttrNumber) * Max(ncolumns, 1));
	for (i = 0; i < ncolumns; i++)
	{
		scan->columns[i] = get_attnum(table_oid, columns[i]);
		if (scan->columns[i] == InvalidAttrNumber)
			ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
							errmsg("column \"%s\" of table \"billing.%s\" does not exist",
								   columns[i], table)));
	}
	scan->scan = billing_begin_index_scan(scan->table, scan->index, snapshot, nkeys);
}

/* Begin to look for the rows with these keys. */
void
billing_core_scan_find(BillingScan *scan, const Datum *keys)
{
	int i;

	for (i = 0; i < scan->nkeys; i++)
		scan->keys[i].sk_argument = keys[i];
	index_rescan(scan->scan, scan->keys, scan->nkeys, NULL, 0);
}

/* The next of them, in the order of the index; its values stay until the one after. */
bool
billing_core_scan_next(BillingScan *scan)
{
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
		return false;
	slot_getallattrs(scan->slot);
	return true;
}

/* End it; the locks stay until the transaction ends. */
void
billing_core_scan_close(BillingScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	index_endscan(scan->scan);
	index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
	pfree(scan->columns);
}
