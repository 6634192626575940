/*
 * metering_heap.c
 *		Writes rows of usage below SQL: many at once into the pages of a table,
 *		then into its indexes, as COPY does.
 *
 * Constraints hold as in an INSERT.  What else an INSERT would do (triggers,
 * rules, columns that are not known here) sends the caller back to SQL.
 */
#include "pg_compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "core/core.h"
#include "executor/executor.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* Rows that go into the pages at once. */
#define ROWS_AT_ONCE 500

/* Whether a table has triggers for INSERT beside the guard that every table has. */
static bool
has_triggers(Relation table)
{
	int i;

	for (i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		Trigger *trigger = &table->trigdesc->triggers[i];

		if (TRIGGER_FOR_INSERT(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
			strcmp(trigger->tgname, "a_guard_writes") != 0)
			return true;
	}
	return false;
}

/* Whether nothing happens when rows are written into a table but that they are there. */
static bool
is_plain(Relation table)
{
	return !has_triggers(table) && table->rd_rules == NULL;
}

/* The same, for a table that rows are not written into but belong to. */
bool
billing_metering_is_plain(Oid table)
{
	Relation relation = table_open(table, RowExclusiveLock);
	bool plain = is_plain(relation);

	table_close(relation, NoLock);
	return plain;
}

/*
 * Find the columns of a table by name: attributes[i] is the number of names[i].
 * False where it has others.
 */
static bool
map_columns(Relation table, const char *const *names, int count, AttrNumber *attributes)
{
	TupleDesc descriptor = RelationGetDescr(table);
	int known = 0;
	int i;
	int n;

	for (i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (attribute->attisdropped)
			continue;
		for (n = 0; n < count && strcmp(NameStr(attribute->attname), names[n]) != 0; n++)
			;
		if (n == count || attribute->attgenerated != '\0')
			return false;
		attributes[n] = i + 1;
		known++;
	}
	return known == count;
}

/*
 * Begin to write into a table; NULL where that is left to SQL.  The columns are
 * named in the order in which the rows will give their values.
 */
BillingUsageWriter *
billing_metering_begin_write(Oid table, Oid parent, const char *const *names, int count)
{
	BillingUsageWriter *writer = palloc0(sizeof(BillingUsageWriter));
	Relation relation = table_open(table, RowExclusiveLock);
	int i;

	writer->attributes = palloc(sizeof(AttrNumber) * count);
	if (!is_plain(relation) || !map_columns(relation, names, count, writer->attributes) ||
		(OidIsValid(parent) &&
		 (!relation->rd_rel->relispartition || get_partition_parent(table, true) != parent)))
	{
		table_close(relation, NoLock);
		return NULL;
	}
	writer->table = relation;
	writer->count = count;
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, relation, 0, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->slots = palloc0(sizeof(TupleTableSlot *) * ROWS_AT_ONCE);
	for (i = 0; i < ROWS_AT_ONCE; i++)
		writer->slots[i] = table_slot_create(relation, NULL);
	writer->rows_context =
		AllocSetContextCreate(CurrentMemoryContext, "usage rows", ALLOCSET_DEFAULT_SIZES);
	return writer;
}

/* Check what the types of the columns demand of a value: those of the domains. */
static void
check_domains(BillingUsageWriter *writer, TupleTableSlot *slot)
{
	TupleDesc descriptor = slot->tts_tupleDescriptor;
	int i;

	if (writer->domains == NULL)
	{
		writer->domains = palloc0(sizeof(BillingUsageDomain) * descriptor->natts);
		for (i = 0; i < descriptor->natts; i++)
			writer->domains[i].is_domain =
				!TupleDescAttr(descriptor, i)->attisdropped &&
				lookup_type_cache(TupleDescAttr(descriptor, i)->atttypid, 0)->typtype ==
					TYPTYPE_DOMAIN;
	}
	for (i = 0; i < descriptor->natts; i++)
	{
		if (writer->domains[i].is_domain)
			domain_check(slot->tts_values[i], slot->tts_isnull[i],
						 TupleDescAttr(descriptor, i)->atttypid, &writer->domains[i].extra,
						 writer->estate->es_query_cxt);
	}
}

/*
 * Write the rows that were gathered.  False where a unique index has one of them
 * already, or has one whose transaction is not over: then the rows are in the
 * table all the same, and the caller rolls back.
 */
static bool
flush(BillingUsageWriter *writer)
{
	bool conflict = false;
	int i;

	if (writer->gathered == 0)
		return true;
	table_multi_insert(writer->table, writer->slots, writer->gathered, GetCurrentCommandId(true), 0,
					   NULL);
	for (i = 0; i < writer->gathered; i++)
	{
		bool conflicts = false;

		CHECK_FOR_INTERRUPTS();
		billing_insert_index_tuples(writer->result, writer->slots[i], writer->estate,
									writer->may_conflict, &conflicts);
		conflict |= conflicts;
		ResetPerTupleExprContext(writer->estate);
		ExecClearTuple(writer->slots[i]);
		if (conflict)
			break;
	}
	for (; i < writer->gathered; i++)
		ExecClearTuple(writer->slots[i]);
	writer->gathered = 0;
	MemoryContextReset(writer->rows_context);
	return !conflict;
}

/* Add a row; false as flush() says.  In the memory of rows_context the values live long enough. */
bool
billing_metering_write_row(BillingUsageWriter *writer, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = writer->slots[writer->gathered];
	int i;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	for (i = 0; i < writer->count; i++)
	{
		slot->tts_values[writer->attributes[i] - 1] = values[i];
		slot->tts_isnull[writer->attributes[i] - 1] = nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(writer->table);
	check_domains(writer, slot);
	if (writer->table->rd_att->constr != NULL)
		ExecConstraints(writer->result, slot, writer->estate);
	if (writer->table->rd_rel->relispartition)
		ExecPartitionCheck(writer->result, slot, writer->estate, true);
	ResetPerTupleExprContext(writer->estate);
	if (++writer->gathered < ROWS_AT_ONCE)
		return true;
	return flush(writer);
}

/* Write what is left and end; false as flush() says.  The lock stays until the transaction ends. */
bool
billing_metering_end_write(BillingUsageWriter *writer)
{
	bool done = flush(writer);
	int i;

	for (i = 0; i < ROWS_AT_ONCE; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->result);
	FreeExecutorState(writer->estate);
	table_close(writer->table, NoLock);
	MemoryContextDelete(writer->rows_context);
	return done;
}
