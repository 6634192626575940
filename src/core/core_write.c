/*
 * core_write.c
 *		Writes rows below SQL: many at once into the pages of a table, then into
 *		its indexes, as COPY does.
 *
 * Constraints, domains and generated columns hold as in an INSERT; policies and
 * privileges are the caller's business.  The guard that every table has is not
 * asked.  Any other trigger for INSERT fires as in a COPY, row by row; columns
 * that are not named are null.
 */
#include "pg_compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "core/write.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

/* Rows that go into the pages at once. */
#define ROWS_AT_ONCE 500

/* Whether a trigger fires at an INSERT, and is neither the guard nor one whose work the caller has done. */
static bool
counts(const Trigger *trigger, const char *done)
{
	return TRIGGER_FOR_INSERT(trigger->tgtype) && trigger->tgenabled != TRIGGER_DISABLED &&
		   strcmp(trigger->tgname, "a_guard_writes") != 0 &&
		   (done == NULL || strcmp(trigger->tgname, done) != 0);
}

/* Whether a table has triggers for INSERT that count. */
static bool
has_triggers(Relation table, const char *done)
{
	int i;

	for (i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		if (counts(&table->trigdesc->triggers[i], done))
			return true;
	}
	return false;
}

/* Whether nothing happens when rows are written into a table but that they are there. */
bool
billing_core_is_plain(Oid table)
{
	Relation relation = table_open(table, RowExclusiveLock);
	bool plain = !has_triggers(relation, NULL) && relation->rd_rules == NULL;

	table_close(relation, NoLock);
	return plain;
}

/*
 * Find the columns of a table by name: attributes[i] is the number of names[i].
 * Returns how many columns are not named, and none of them generated; -1 where a
 * name is no column.
 */
static int
map_columns(Relation table, const char *const *names, int count, AttrNumber *attributes)
{
	TupleDesc descriptor = RelationGetDescr(table);
	int known = 0;
	int others = 0;
	int i;
	int n;

	for (i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (attribute->attisdropped || attribute->attgenerated != '\0')
			continue;
		for (n = 0; n < count && strcmp(NameStr(attribute->attname), names[n]) != 0; n++)
			;
		if (n == count)
		{
			others++;
			continue;
		}
		attributes[n] = i + 1;
		known++;
	}
	return known == count ? others : -1;
}

/* Which columns have the type of a domain. */
static BillingDomain *
find_domains(TupleDesc descriptor)
{
	BillingDomain *domains = palloc0(sizeof(BillingDomain) * descriptor->natts);
	int i;

	for (i = 0; i < descriptor->natts; i++)
		domains[i].is_domain =
			!TupleDescAttr(descriptor, i)->attisdropped &&
			lookup_type_cache(TupleDescAttr(descriptor, i)->atttypid, 0)->typtype == TYPTYPE_DOMAIN;
	return domains;
}

/* A writer of an open table. */
static BillingWriter *
begin(Relation relation, AttrNumber *attributes, int count)
{
	BillingWriter *writer = palloc0(sizeof(BillingWriter));
	int i;

	writer->table = relation;
	writer->attributes = attributes;
	writer->count = count;
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, relation, 0, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->slots = palloc0(sizeof(TupleTableSlot *) * ROWS_AT_ONCE);
	for (i = 0; i < ROWS_AT_ONCE; i++)
		writer->slots[i] = table_slot_create(relation, NULL);
	writer->rows_context =
		AllocSetContextCreate(CurrentMemoryContext, "rows to write", ALLOCSET_DEFAULT_SIZES);
	writer->domains = find_domains(RelationGetDescr(relation));
	writer->has_generated =
		relation->rd_att->constr != NULL && relation->rd_att->constr->has_generated_stored;
	return writer;
}

/*
 * Begin to write into a table or the partition of a parent, with nothing but the
 * named columns and no triggers; NULL where that is left to SQL.  The columns are
 * named in the order in which the rows will give their values.
 */
BillingWriter *
billing_core_begin_plain_write(Oid table, Oid parent, const char *const *names, int count)
{
	Relation relation = table_open(table, RowExclusiveLock);
	AttrNumber *attributes = palloc(sizeof(AttrNumber) * count);

	if (has_triggers(relation, NULL) || relation->rd_rules != NULL ||
		(relation->rd_att->constr != NULL && relation->rd_att->constr->has_generated_stored) ||
		map_columns(relation, names, count, attributes) != 0 ||
		(OidIsValid(parent) &&
		 (!relation->rd_rel->relispartition || get_partition_parent(table, true) != parent)))
	{
		table_close(relation, NoLock);
		return NULL;
	}
	return begin(relation, attributes, count);
}

/* Leave triggers out whose work is done. */
static void
drop_trigger(ResultRelInfo *result, const char *done)
{
	TriggerDesc *triggers = result->ri_TrigDesc;
	int kept = 0;
	int i;

	for (i = 0; i < triggers->numtriggers; i++)
	{
		if (counts(&triggers->triggers[i], done) ||
			!TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype))
			triggers->triggers[kept++] = triggers->triggers[i];
	}
	triggers->numtriggers = kept;
}

/*
 * Begin to write into a table of the extension, which has the named columns.
 * `done` names a trigger whose work the caller does itself, or is NULL.
 */
BillingWriter *
billing_core_begin_write(const char *table, const char *const *names, int count, const char *done)
{
	Oid oid = get_relname_relid(table, get_namespace_oid("billing", false));
	AttrNumber *attributes = palloc(sizeof(AttrNumber) * count);
	BillingWriter *writer;
	Relation relation;

	if (!OidIsValid(oid))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("table \"billing.%s\" does not exist", table)));
	relation = table_open(oid, RowExclusiveLock);
	if (map_columns(relation, names, count, attributes) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("table \"billing.%s\" does not have the columns it should have", table)));
	writer = begin(relation, attributes, count);
	if (!has_triggers(relation, done))
		return writer;
	writer->fires = true;
	drop_trigger(writer->result, done);
	AfterTriggerBeginQuery();
	writer->capture = MakeTransitionCaptureState(writer->result->ri_TrigDesc, oid, CMD_INSERT);
	ExecBSInsertTriggers(writer->estate, writer->result);
	return writer;
}

/* Check what the types of the columns demand of a value: those of the domains. */
static void
check_domains(BillingWriter *writer, TupleTableSlot *slot)
{
	TupleDesc descriptor = slot->tts_tupleDescriptor;
	int i;

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
flush(BillingWriter *writer)
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
		if (writer->fires)
			ExecARInsertTriggers(writer->estate, writer->result, writer->slots[i], NIL,
								 writer->capture);
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
billing_core_write_row(BillingWriter *writer, const Datum *values, const bool *nulls)
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
	if (writer->fires && !ExecBRInsertTriggers(writer->estate, writer->result, slot))
		return true;
	check_domains(writer, slot);
	if (writer->has_generated)
		ExecComputeStoredGenerated(writer->result, writer->estate, slot, CMD_INSERT);
	if (writer->table->rd_att->constr != NULL)
		ExecConstraints(writer->result, slot, writer->estate);
	if (writer->table->rd_rel->relispartition)
		ExecPartitionCheck(writer->result, slot, writer->estate, true);
	ResetPerTupleExprContext(writer->estate);
	/* a trigger may look at the rows before */
	if (++writer->gathered < ROWS_AT_ONCE && !writer->fires)
		return true;
	return flush(writer);
}

/* Write what is left and end; false as flush() says.  The lock stays until the transaction ends. */
bool
billing_core_end_write(BillingWriter *writer)
{
	bool done = flush(writer);
	int i;

	if (writer->fires)
	{
		ExecASInsertTriggers(writer->estate, writer->result, writer->capture);
		AfterTriggerEndQuery(writer->estate);
	}
	for (i = 0; i < ROWS_AT_ONCE; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->result);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	/* those that triggers opened */
	ExecCloseResultRelations(writer->estate);
	FreeExecutorState(writer->estate);
	table_close(writer->table, NoLock);
	MemoryContextDelete(writer->rows_context);
	return done;
}
