/*
 * audit_trigger.c
 *		The triggers of the audit: one completes each record that a statement
 *		inserts; the other writes the records of master data that people edit.
 *
 * The second reads the rows of the statement from the transition tables, and
 * plans nothing: an added contract item is three rows of three tables.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "audit/audit_private.h"
#include "core/core.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/tuplestore.h"

/* The trigger's data, or an error for a call by hand. */
static TriggerData *
trigger_of(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("this function is a trigger"),
				 errhint("It is not called by hand.")));
	return (TriggerData *) fcinfo->context;
}

/* Read a transition table from its beginning, beside whoever else reads it. */
static int
open_rows(Tuplestorestate *rows)
{
	int pointer = tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND);

	tuplestore_select_read_pointer(rows, pointer);
	tuplestore_rescan(rows);
	return pointer;
}

/* The next row, its columns at hand; false at the end. */
static bool
next_row(Tuplestorestate *rows, int pointer, TupleTableSlot *slot)
{
	tuplestore_select_read_pointer(rows, pointer);
	if (!tuplestore_gettupleslot(rows, true, false, slot))
		return false;
	slot_getallattrs(slot);
	return true;
}

/* Find the columns that an update changed; false where there are none. */
static bool
find_changes(TupleDesc descriptor, TupleTableSlot *before, TupleTableSlot *after, bool *changed)
{
	bool any = false;
	int i;

	for (i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		changed[i] =
			!attribute->attisdropped &&
			(before->tts_isnull[i] != after->tts_isnull[i] ||
			 (!before->tts_isnull[i] && !datum_image_eq(before->tts_values[i], after->tts_values[i],
														attribute->attbyval, attribute->attlen)));
		any |= changed[i];
	}
	return any;
}

/* Write the records of rows that were inserted or deleted: all that they have. */
static void
record_rows(BillingAuditedTable *table, Tuplestorestate *rows, const char *action, bool is_after)
{
	BillingAuditWriter *writer = billing_audit_begin_write();
	TupleTableSlot *slot = MakeSingleTupleTableSlot(table->descriptor, &TTSOpsMinimalTuple);
	MemoryContext per_row =
		AllocSetContextCreate(CurrentMemoryContext, "audited row", ALLOCSET_DEFAULT_SIZES);
	text *action_text = cstring_to_text(action);
	int pointer = open_rows(rows);

	while (next_row(rows, pointer, slot))
	{
		MemoryContext memory = MemoryContextSwitchTo(per_row);
		Jsonb *json = billing_audit_row_json(table, slot, NULL);

		billing_audit_write(writer, billing_audit_row_entity(table, slot), action_text,
							table->object_type, billing_audit_key_text(table, slot),
							is_after ? NULL : json, is_after ? json : NULL, NULL);
		MemoryContextSwitchTo(memory);
		MemoryContextReset(per_row);
	}
	ExecDropSingleTupleTableSlot(slot);
	billing_audit_end_write(writer);
}

/* Write the records of rows that were updated: of what changed, the old and the new values, and the key. */
static void
record_updates(BillingAuditedTable *table, Tuplestorestate *old_rows, Tuplestorestate *new_rows)
{
	BillingAuditWriter *writer = NULL;
	TupleTableSlot *before = MakeSingleTupleTableSlot(table->descriptor, &TTSOpsMinimalTuple);
	TupleTableSlot *after = MakeSingleTupleTableSlot(table->descriptor, &TTSOpsMinimalTuple);
	MemoryContext per_row =
		AllocSetContextCreate(CurrentMemoryContext, "audited row", ALLOCSET_DEFAULT_SIZES);
	bool *changed = palloc(sizeof(bool) * table->descriptor->natts);
	text *action = cstring_to_text("update");
	int old_pointer = open_rows(old_rows);
	int new_pointer = open_rows(new_rows);

	/* both have the rows in the order in which they were updated */
	while (next_row(old_rows, old_pointer, before) && next_row(new_rows, new_pointer, after))
	{
		MemoryContext memory;

		if (!find_changes(table->descriptor, before, after, changed))
			continue;
		if (writer == NULL)
			writer = billing_audit_begin_write();
		if (table->key >= 0)
			changed[table->key] = true;
		memory = MemoryContextSwitchTo(per_row);
		billing_audit_write(writer, billing_audit_row_entity(table, after), action,
							table->object_type, billing_audit_key_text(table, after),
							billing_audit_row_json(table, before, changed),
							billing_audit_row_json(table, after, changed), NULL);
		MemoryContextSwitchTo(memory);
		MemoryContextReset(per_row);
	}
	ExecDropSingleTupleTableSlot(before);
	ExecDropSingleTupleTableSlot(after);
	if (writer != NULL)
		billing_audit_end_write(writer);
}

/*
 * Refuse rows of a dump that nobody prepared the database for: their records come
 * with them, and those made here would be in their way.  What pg_dump writes, and
 * hardly anybody else, switches row_security off.
 */
static void
refuse_restore(Relation table)
{
	if (!row_security)
		ereport(ERROR, (errcode(ERRCODE_BILLING_RESTORE_STATE),
						errmsg("table \"%s\" is not written while row_security is off",
							   RelationGetRelationName(table)),
						errhint("To restore a dump, call billing.pre_restore() in the new database "
								"first. Else SET row_security = on.")));
}

PG_FUNCTION_INFO_V1(billing_audit_complete);
PG_FUNCTION_INFO_V1(billing_audit_rows);

/* billing_internal.complete_audit_record() RETURNS trigger, BEFORE INSERT ROW on audit_log; a restored record stays as it is */
Datum
billing_audit_complete(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	Datum values[BILLING_AUDIT_COLUMNS];
	bool nulls[BILLING_AUDIT_COLUMNS];

	if (billing_core_restoring)
		PG_RETURN_POINTER(trigger->tg_trigtuple);
	heap_deform_tuple(trigger->tg_trigtuple, descriptor, values, nulls);
	billing_audit_complete_values(values, nulls);
	PG_RETURN_POINTER(heap_form_tuple(descriptor, values, nulls));
}

/*
 * billing_internal.audit_rows() RETURNS trigger, AFTER STATEMENT with transition
 * tables old_rows and new_rows; arguments: see billing_audit_describe()
 */
Datum
billing_audit_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	BillingAuditedTable *table;

	if (billing_core_restoring)
		PG_RETURN_POINTER(NULL);
	refuse_restore(trigger->tg_relation);
	SPI_connect();
	table = billing_audit_describe(trigger);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		record_rows(table, trigger->tg_newtable, "insert", true);
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		record_updates(table, trigger->tg_oldtable, trigger->tg_newtable);
	else
		record_rows(table, trigger->tg_oldtable, "delete", false);
	SPI_finish();
	PG_RETURN_POINTER(NULL);
}
