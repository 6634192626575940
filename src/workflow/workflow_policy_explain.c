/*
 * workflow_policy_explain.c
 *		Says in words why a document gets the policy that it gets: what each
 *		policy before it asks, and the values that it was asked of.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "workflow/workflow_policy.h"

/* $1 entity, $2 reference, such as D12 */
static BillingStatement find_document = {
	"SELECT d.document_id, d.kind, k.facts_function FROM billing.document d"
	" JOIN billing.document_kind k ON k.kind = d.kind WHERE d.entity_id = $1 AND d.document_id ="
	" CASE WHEN $2 ~ '^[A-Z][0-9]{1,18}$' THEN substr($2, 2)::bigint END",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity: also of one that the actor does not see, whose policies are inherited */
static BillingStatement entity_code = {
	"SELECT code FROM billing.legal_entity WHERE entity_id = $1", 1, { INT4OID }, NULL
};

/* What an explanation goes through. */
typedef struct Explanation
{
	const BillingProgram *program;
	const BillingValue *facts;
	StringInfo out;
} Explanation;

static void explain_op(Explanation *explanation, int op, bool wanted);

/* A value as people write it. */
static char *
value_text(const BillingValue *value)
{
	StringInfoData list;

	switch (value->type)
	{
		case BILLING_TYPE_NUMBER:
			return billing_workflow_number_text(value);
		case BILLING_TYPE_TEXT:
			return psprintf("'%.*s'", value->text.length, value->text.data);
		case BILLING_TYPE_BOOLEAN:
			return pstrdup(value->boolean ? "true" : "false");
		case BILLING_TYPE_LIST:
			initStringInfo(&list);
			for (int i = 0; i < value->nitems; i++)
				appendStringInfo(&list, "%s'%.*s'", i == 0 ? "" : ", ", value->items[i].length,
								 value->items[i].data);
			return value->nitems == 0 ? pstrdup("empty") : list.data;
		default:
			return pstrdup("not known");
	}
}

/* Name each field inside of an operation once, with its value. */
static void
append_values(Explanation *explanation, int op)
{
	const BillingCondition *condition = explanation->program->condition;
	uint64 named = 0;

	for (int i = condition->ops[op].first; i <= op; i++)
	{
		int slot = explanation->program->steps[explanation->program->first_step[i]].operand;

		if (condition->ops[i].code != BILLING_OP_FIELD || (named & (UINT64CONST(1) << slot)) != 0)
			continue;
		appendStringInfo(explanation->out, "%s%s is %s", named == 0 ? ": " : ", ",
						 billing_workflow_facts.fields[slot].name,
						 value_text(&explanation->facts[slot]));
		named |= UINT64CONST(1) << slot;
	}
}

/* Begin another part of the text. */
static void
begin_part(Explanation *explanation)
{
	if (explanation->out->len > 0)
		appendStringInfoString(explanation->out, "; ");
}

/* Explain the operands that are not as they should be. */
static void
explain_operands(Explanation *explanation, int op, bool wanted)
{
	const BillingOp *ops = explanation->program->condition->ops;
	int operands[BILLING_CONDITION_MAX_NODES];
	int count = ops[op].count;
	int at = op - 1;

	for (int i = count - 1; i >= 0; i--)
	{
		operands[i] = at;
		at = ops[at].first - 1;
	}
	for (int i = 0; i < count; i++)
	{
		BillingValue value =
			billing_workflow_evaluate_op(explanation->program, operands[i], explanation->facts);

		if (value.type != BILLING_TYPE_BOOLEAN || value.boolean != wanted)
			explain_op(explanation, operands[i], wanted);
	}
}

/* Whether "not" is part of how its operand is written: not in, is not null. */
static bool
is_inner_not(const BillingOp *ops, int op)
{
	return ops[op].code == BILLING_OP_NOT && ops[op].at == ops[op - 1].at;
}

/* Explain why an operation is not what is wanted: true, or, under a "not", false. */
static void
explain_op(Explanation *explanation, int op, bool wanted)
{
	const BillingCondition *condition = explanation->program->condition;
	const BillingOp *operation = &condition->ops[op];

	check_stack_depth();
	if (operation->code == BILLING_OP_AND || operation->code == BILLING_OP_OR)
		explain_operands(explanation, op, wanted);
	else if (operation->code == BILLING_OP_NOT && !is_inner_not(condition->ops, op))
		explain_op(explanation, op - 1, !wanted);
	else
	{
		begin_part(explanation);
		appendStringInfo(explanation->out, "%s%.*s", wanted ? "" : "not ", operation->length,
						 billing_condition_text(condition) + operation->at);
		append_values(explanation, op);
	}
}

/* Why a condition is not true. */
static char *
why_not(const BillingProgram *program, const BillingValue *facts)
{
	StringInfoData out;
	Explanation explanation = { program, facts, &out };

	initStringInfo(&out);
	explain_op(&explanation, program->condition->nops - 1, true);
	return out.data;
}

/* A policy's row: whether its condition holds, and why it is or is not the document's policy. */
static void
put_policy(ReturnSetInfo *result, const BillingPolicy *policy, const BillingValue *facts,
		   int position, bool is_found, bool is_behind, bool is_cautious)
{
	static const char *const outcomes[] = { "automatic", "levels", "forbid" };
	const BillingCondition *condition = policy->program == NULL ? NULL : policy->program->condition;
	BillingValue value = { .type = BILLING_TYPE_BOOLEAN, .boolean = true };
	Datum entity[1] = { Int32GetDatum(policy->entry->entity_id) };
	Datum values[9] = { 0 };
	bool nulls[9] = { false };
	const char *why;

	if (condition != NULL)
		value = billing_workflow_evaluate(policy->program, facts);
	(void) billing_core_run_privileged(&entity_code, entity, NULL, true);
	values[0] = Int32GetDatum(position);
	values[1] = CStringGetTextDatum(policy->code);
	values[2] = CStringGetTextDatum(billing_core_text_value(0, 0));
	values[3] = Int32GetDatum(policy->entry->priority);
	values[4] = condition == NULL
					? CStringGetTextDatum("always")
					: PointerGetDatum(cstring_to_text_with_len(billing_condition_text(condition),
															   condition->ntext));
	values[5] = CStringGetTextDatum(outcomes[policy->entry->outcome]);
	nulls[6] = value.type != BILLING_TYPE_BOOLEAN;
	values[6] = BoolGetDatum(!nulls[6] && value.boolean);
	values[7] = BoolGetDatum(is_found);
	if (nulls[6] || !value.boolean)
		why = why_not(policy->program, facts);
	else
		why = is_behind ? "it holds, but comes after the policy that counts" : "it holds";
	if (is_found && is_cautious)
		why = psprintf("the amount is not known, and this is the strictest policy that could hold: "
					   "%s",
					   why);
	values[8] = CStringGetTextDatum(why);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* A row for each policy of the document's kind. */
static void
put_policies(ReturnSetInfo *result, const BillingCompiledSet *compiled, const char *kind,
			 BillingValue *facts, bool known)
{
	BillingText wanted = { kind, (int) strlen(kind) };
	int first;
	int end;
	int found;
	bool is_cautious;

	if (!billing_workflow_policies_of(compiled, wanted, &first, &end))
		return;
	found = billing_workflow_first_policy(compiled, wanted, facts, known);
	is_cautious = !known || facts[BILLING_FACT_AMOUNT].type == BILLING_TYPE_ANY;
	for (int i = first; i < end; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_policy(result, &compiled->policies[i], facts, i - first + 1, i == found,
				   found >= 0 && i > found, is_cautious);
	}
}

PG_FUNCTION_INFO_V1(billing_workflow_explain_policy);

/*
 * billing.explain_policy(entity text, document text)
 * RETURNS TABLE ("position" integer, policy text, policy_entity text, priority integer,
 *     condition text, outcome text, holds boolean, counts boolean, why text)
 */
Datum
billing_workflow_explain_policy(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32 entity_id;
	char *reference;
	Datum values[2];
	int64 document_id;
	char *kind;
	char *function;
	BillingCompiledSet *compiled;
	BillingValue facts[BILLING_FACT_COUNT];
	Datum row;
	bool known;

	InitMaterializedSRF(fcinfo, 0);
	entity_id = billing_core_arg_entity(fcinfo, 0);
	reference = billing_core_arg_code(fcinfo, 1, "document");
	compiled = billing_workflow_compile_policies(
		billing_workflow_load_policies(entity_id, billing_core_entity_today(entity_id)));
	SPI_connect();
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(reference);
	if (billing_core_run(&find_document, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("document \"%s\" does not exist", reference),
						errhint("Use its reference, such as D12 of an invoice.")));
	document_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	kind = billing_core_text_value(0, 1);
	function = billing_core_text_value(0, 2);
	memset(facts, 0, sizeof(facts));
	known = billing_workflow_find_facts(entity_id, document_id, function, &row);
	if (known)
		billing_workflow_read_facts(row, compiled->slots, facts);
	put_policies(result, compiled, kind, facts, known);
	SPI_finish();
	PG_RETURN_NULL();
}
