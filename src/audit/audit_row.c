/*
 * audit_row.c
 *		A row of an audited table as JSON: the columns that are wanted, those
 *		that tell of a person hidden behind a commitment.
 */
#include "pg_compat.h"

#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "executor/tuptable.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* The number of a column, from 0; -1 where there is none. */
static int
column_of(TupleDesc descriptor, const char *name)
{
	int number = SPI_fnumber(descriptor, name);

	return number > 0 ? number - 1 : -1;
}

/* Prepare to_jsonb() for a type, which it learns from the expression that calls it. */
static void
prepare_to_json(FmgrInfo *info, Oid type)
{
	Node *argument = (Node *) makeConst(type, -1, InvalidOid, -1, (Datum) 0, true, false);

	fmgr_info(F_TO_JSONB, info);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument), InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL),
					   info);
}

/*
 * Read the trigger's arguments: the table's logical name, its key within the
 * entity, and where it has personal columns, that of the customer and those.
 */
BillingAuditedTable *
billing_audit_describe(TriggerData *trigger)
{
	BillingAuditedTable *table = palloc0(sizeof(BillingAuditedTable));
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	char **arguments = trigger->tg_trigger->tgargs;
	int i;

	table->descriptor = descriptor;
	table->object_type = cstring_to_text(arguments[0]);
	table->key = column_of(descriptor, arguments[1]);
	table->entity = column_of(descriptor, "entity_id");
	table->subject = -1;
	table->personal = palloc0(sizeof(bool) * descriptor->natts);
	table->to_json = palloc0(sizeof(FmgrInfo) * descriptor->natts);
	if (trigger->tg_trigger->tgnargs > 2)
		table->subject = column_of(descriptor, arguments[2]);
	for (i = 3; i < trigger->tg_trigger->tgnargs; i++)
	{
		int column = column_of(descriptor, arguments[i]);

		if (column >= 0 && table->subject >= 0)
			table->personal[column] = true;
	}
	for (i = 0; i < descriptor->natts; i++)
	{
		if (!TupleDescAttr(descriptor, i)->attisdropped)
			prepare_to_json(&table->to_json[i], TupleDescAttr(descriptor, i)->atttypid);
	}
	return table;
}

/* The entity of a row; a table without entity_id belongs to the installation, entity 0. */
int32
billing_audit_row_entity(BillingAuditedTable *table, TupleTableSlot *slot)
{
	return table->entity < 0 || slot->tts_isnull[table->entity]
			   ? 0
			   : DatumGetInt32(slot->tts_values[table->entity]);
}

/* The key of a row as text, NULL where it is null. */
text *
billing_audit_key_text(BillingAuditedTable *table, TupleTableSlot *slot)
{
	Oid output;
	bool is_varlena;

	if (table->key < 0 || slot->tts_isnull[table->key])
		return NULL;
	getTypeOutputInfo(TupleDescAttr(table->descriptor, table->key)->atttypid, &output, &is_varlena);
	return cstring_to_text(OidOutputFunctionCall(output, slot->tts_values[table->key]));
}

/* The JSON of a column that is not null. */
static Jsonb *
column_json(BillingAuditedTable *table, TupleTableSlot *slot, int column)
{
	Jsonb *value = DatumGetJsonbP(FunctionCall1(&table->to_json[column], slot->tts_values[column]));

	if (table->personal[column])
		value = billing_audit_conceal(billing_audit_row_entity(table, slot),
									  DatumGetInt64(slot->tts_values[table->subject]),
									  NameStr(TupleDescAttr(table->descriptor, column)->attname),
									  value);
	return value;
}

/* Append a value to the object that is being built. */
static void
push_value(JsonbParseState **state, Jsonb *json)
{
	JsonbValue value;

	if (JB_ROOT_IS_SCALAR(json))
		(void) JsonbExtractScalar(&json->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &json->root;
		value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
	(void) pushJsonbValue(state, WJB_VALUE, &value);
}

/* The columns of a row that are wanted, or all of them where wanted is NULL. */
Jsonb *
billing_audit_row_json(BillingAuditedTable *table, TupleTableSlot *slot, const bool *wanted)
{
	JsonbParseState *state = NULL;
	JsonbValue value;
	int i;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (i = 0; i < table->descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(table->descriptor, i);

		if (attribute->attisdropped || (wanted != NULL && !wanted[i]))
			continue;
		value.type = jbvString;
		value.val.string.val = NameStr(attribute->attname);
		value.val.string.len = strlen(NameStr(attribute->attname));
		(void) pushJsonbValue(&state, WJB_KEY, &value);
		if (slot->tts_isnull[i])
		{
			value.type = jbvNull;
			(void) pushJsonbValue(&state, WJB_VALUE, &value);
		}
		else
			push_value(&state, column_json(table, slot, i));
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
