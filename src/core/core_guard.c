/*
 * core_guard.c
 *		The triggers that keep everybody on the one way in: document tables are
 *		written by the extension's functions, master data by people with the duty.
 *
 * They also make a restore without billing.pre_restore() fail at its first row.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"

/* Whether rows are taken as they come: install script, upgrade script, restore. */
static bool
is_unguarded(void)
{
	return creating_extension || billing_core_restoring;
}

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

/* Refuse a write that no function of the extension does. */
static void
refuse_direct_write(const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_DIRECT_WRITE),
			 errmsg("table \"%s\" is written by the functions of billing_erp only", table),
			 errhint("Call the function for it. To restore a dump, call billing.pre_restore() "
					 "in the new database first.")));
}

/* Refuse a change of what stays as it is. */
static void
refuse_change(const char *verb, const char *table)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_IMMUTABLE),
					errmsg("rows of table \"%s\" are never %s", table, verb),
					errhint("Correct a document by a credit note, other data by a new row.")));
}

/* The entity_id of a row, or 0 for a table without one. */
static int32
entity_of(HeapTuple tuple, TupleDesc descriptor)
{
	int column = SPI_fnumber(descriptor, "entity_id");
	bool isnull;
	Datum value;

	if (column <= 0)
		return 0;
	value = heap_getattr(tuple, column, descriptor, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("entity_id must not be null"),
				 errhint("Give the id of a legal entity.")));
	return DatumGetInt32(value);
}

/*
 * Refuse another key for a row: what refers to it would lose it, and its audit
 * records, which are found by key.
 */
static void
refuse_new_key(Relation table, HeapTuple before, HeapTuple after)
{
	TupleDesc descriptor = RelationGetDescr(table);
	Bitmapset *key = RelationGetIndexAttrBitmap(table, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	int member = -1;

	while ((member = bms_next_member(key, member)) >= 0)
	{
		AttrNumber column = member + FirstLowInvalidHeapAttributeNumber;
		Form_pg_attribute attribute = TupleDescAttr(descriptor, column - 1);
		bool isnull;
		Datum old_value = heap_getattr(before, column, descriptor, &isnull);
		Datum new_value = heap_getattr(after, column, descriptor, &isnull);

		if (isnull || !datumIsEqual(old_value, new_value, attribute->attbyval, attribute->attlen))
			refuse_change("given another key", RelationGetRelationName(table));
	}
	bms_free(key);
}

/*
 * Ask for the duty, once for the rows that one statement writes in one entity.
 * Whoever sets an installation up may edit the entities as their admins may.
 */
static void
require_duty_once(int32 entity_id, const char *duty)
{
	static struct
	{
		TimestampTz transaction;
		CommandId command;
		Oid session_user;
		int32 actor;
		int32 entity_id;
		char duty[NAMEDATALEN];
	} granted;
	TimestampTz transaction = GetCurrentTransactionStartTimestamp();
	CommandId command = GetCurrentCommandId(false);
	int32 actor = billing_core_actor_person();

	if (granted.transaction == transaction && granted.command == command &&
		granted.session_user == GetSessionUserId() && granted.actor == actor &&
		granted.entity_id == entity_id && strcmp(granted.duty, duty) == 0)
		return;
	if (strcmp(duty, "admin") == 0)
		billing_core_require_admin(entity_id);
	else
		billing_core_require_duty(entity_id, duty);
	granted.transaction = transaction;
	granted.command = command;
	granted.session_user = GetSessionUserId();
	granted.actor = actor;
	granted.entity_id = entity_id;
	strlcpy(granted.duty, duty, sizeof(granted.duty));
}

PG_FUNCTION_INFO_V1(billing_core_guard_writes);
PG_FUNCTION_INFO_V1(billing_core_guard_duty);
PG_FUNCTION_INFO_V1(billing_core_guard_row);

/*
 * billing_internal.guard_writes() RETURNS trigger, BEFORE STATEMENT, argument: the kind of table
 *
 * SECURITY INVOKER, because it asks as whom the statement runs.
 */
Datum
billing_core_guard_writes(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	const char *kind = trigger->tg_trigger->tgargs[0];
	const char *table = RelationGetRelationName(trigger->tg_relation);
	bool by_function = GetUserId() == billing_core_owner();

	if (is_unguarded())
		PG_RETURN_POINTER(NULL);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		refuse_change("deleted", table);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) && strcmp(kind, "queue") != 0 &&
		strcmp(kind, "reference") != 0)
		refuse_change("deleted", table);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) && strcmp(kind, "append_only") == 0)
		refuse_change("changed", table);
	if (!by_function && strcmp(kind, "master") != 0)
		refuse_direct_write(table);
	/* before the first row draws an id: no id is older than its transaction (usage_watermark.c) */
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		(void) GetTopFullTransactionId();
	PG_RETURN_POINTER(NULL);
}

/*
 * billing_internal.guard_duty() RETURNS trigger, BEFORE ROW, argument: the duty
 *
 * Whoever writes a row of master data holds the duty in its entity, and a row
 * never moves to another entity nor gets another key.
 */
Datum
billing_core_guard_duty(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	bool is_update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	HeapTuple row = is_update ? trigger->tg_newtuple : trigger->tg_trigtuple;
	int32 entity_id = entity_of(row, descriptor);

	if (is_unguarded())
		PG_RETURN_POINTER(row);
	if (is_update && entity_of(trigger->tg_trigtuple, descriptor) != entity_id)
		refuse_change("moved to another entity", RelationGetRelationName(trigger->tg_relation));
	if (is_update)
		refuse_new_key(trigger->tg_relation, trigger->tg_trigtuple, row);
	require_duty_once(entity_id, trigger->tg_trigger->tgargs[0]);
	PG_RETURN_POINTER(row);
}

/*
 * billing_internal.guard_row(table_name text) RETURNS boolean
 *
 * For the CHECK of a table whose triggers a dump makes after its rows: true where
 * a function of the extension writes, or a restore; raises ZB010 otherwise.  Like
 * a trigger it does nothing for a superuser who says session_replication_role = replica.
 */
Datum
billing_core_guard_row(PG_FUNCTION_ARGS)
{
	if (!is_unguarded() && GetUserId() != billing_core_owner() &&
		SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA)
		refuse_direct_write(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(true);
}
