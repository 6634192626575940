/*
 * workflow_facts.c
 *		The fields of billing.document_facts that conditions may name, and how a
 *		row of them becomes values.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/typcache.h"

#include "core/call.h"
#include "workflow/condition.h"
#include "workflow/workflow_policy.h"

/* in the order of the columns of billing.document_facts */
static const BillingField facts[] = {
	{ "kind", BILLING_TYPE_TEXT },
	{ "amount", BILLING_TYPE_NUMBER },
	{ "currency", BILLING_TYPE_TEXT },
	{ "discount_percent", BILLING_TYPE_NUMBER },
	{ "margin_percent", BILLING_TYPE_NUMBER },
	{ "payment_days", BILLING_TYPE_NUMBER },
	{ "segment", BILLING_TYPE_TEXT },
	{ "risk", BILLING_TYPE_TEXT },
	{ "categories", BILLING_TYPE_LIST },
	{ "is_first", BILLING_TYPE_BOOLEAN },
	{ "backdated_days", BILLING_TYPE_NUMBER },
	{ "score", BILLING_TYPE_NUMBER },
	{ "maker", BILLING_TYPE_TEXT },
	{ "contract", BILLING_TYPE_TEXT },
};

const BillingFieldSet billing_workflow_facts = { "a document", lengthof(facts), facts };

static inline BillingText
text_of(Datum datum)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(datum);

	return (BillingText){ VARDATA_ANY(stored), (int) VARSIZE_ANY_EXHDR(stored) };
}

/* The texts of an array that are not null. */
static void
read_list(Datum datum, BillingValue *value)
{
	Datum *elements;
	bool *nulls;
	int count;
	BillingText *items;

	deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &count);
	items = palloc(sizeof(BillingText) * (count + 1));
	value->type = BILLING_TYPE_LIST;
	value->nitems = 0;
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			items[value->nitems++] = text_of(elements[i]);
	}
	value->items = items;
}

/* Turn a column into a value. */
static void
read_column(Datum datum, Oid type, BillingValue *value)
{
	switch (type)
	{
		case NUMERICOID:
			*value = billing_workflow_number(datum);
			break;
		case INT4OID:
			value->type = BILLING_TYPE_NUMBER;
			value->number = DatumGetInt32(datum);
			value->scale = 0;
			value->wide = NULL;
			break;
		case TEXTOID:
			value->type = BILLING_TYPE_TEXT;
			value->text = text_of(datum);
			break;
		case BOOLOID:
			value->type = BILLING_TYPE_BOOLEAN;
			value->boolean = DatumGetBool(datum);
			break;
		case TEXTARRAYOID:
			read_list(datum, value);
			break;
		default:
			break;
	}
}

/*
 * Read a row of billing.document_facts into values, one for each field: those in
 * slots, the others become null.
 */
void
billing_workflow_read_facts(Datum row, uint64 slots, BillingValue *values)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(row);
	TupleDesc descriptor =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;
	Datum columns[lengthof(facts)];
	bool nulls[lengthof(facts)];

	if (descriptor->natts != (int) lengthof(facts))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("type billing.document_facts has %d columns, this library reads %d",
							   descriptor->natts, (int) lengthof(facts)),
						errhint("Install the library that belongs to the extension's version.")));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, descriptor, columns, nulls);
	for (int i = 0; i < (int) lengthof(facts); i++)
	{
		values[i].type = BILLING_TYPE_ANY;
		if (!nulls[i] && (slots & (UINT64CONST(1) << i)) != 0)
			read_column(columns[i], TupleDescAttr(descriptor, i)->atttypid, &values[i]);
	}
	ReleaseTupleDesc(descriptor);
}

PG_FUNCTION_INFO_V1(billing_workflow_check_condition);
PG_FUNCTION_INFO_V1(billing_workflow_condition_holds);

/*
 * billing.check_condition(condition text, kind text DEFAULT NULL) RETURNS text
 *
 * The condition as it would be stored, or ERRCODE_BILLING_INVALID_CONDITION.  All
 * kinds have the same facts.
 */
Datum
billing_workflow_check_condition(PG_FUNCTION_ARGS)
{
	char *source;
	BillingCondition *condition;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(1))
		(void) billing_core_lookup(0, billing_core_arg_code(fcinfo, 1, "kind"), "kind of document",
								   &billing_workflow_document_kind);
	source = text_to_cstring(PG_GETARG_TEXT_PP(0));
	condition = billing_workflow_parse_condition(source, strlen(source), &billing_workflow_facts);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(billing_condition_text(condition), condition->ntext));
}

/*
 * billing_internal.condition_holds(condition billing.condition,
 *     facts billing.document_facts) RETURNS boolean
 *
 * True, false or null.
 */
Datum
billing_workflow_condition_holds(PG_FUNCTION_ARGS)
{
	const BillingCondition *condition;
	BillingProgram *program;
	BillingValue values[lengthof(facts)];
	BillingValue result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	condition = billing_workflow_fetch_condition(PG_GETARG_DATUM(0));
	program = billing_workflow_bind_condition(condition, &billing_workflow_facts);
	billing_workflow_read_facts(PG_GETARG_DATUM(1), program->slots, values);
	result = billing_workflow_evaluate(program, values);
	if (result.type != BILLING_TYPE_BOOLEAN)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(result.boolean);
}
