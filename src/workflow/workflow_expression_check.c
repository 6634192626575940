/*
 * workflow_expression_check.c
 *		Refuses what a condition cannot mean: unknown fields, and operands of the
 *		wrong type.
 *
 * A field of which only the name is known has any type; what becomes of it is
 * decided when the condition is given its set of fields.
 */
#include "pg_compat.h"

#include "lib/stringinfo.h"
#include "utils/varlena.h"

#include "workflow/workflow_expression.h"

/* a name further away than this is no slip of the pen */
#define NEAR_DISTANCE 3

static const char *
type_name(BillingType type)
{
	switch (type)
	{
		case BILLING_TYPE_NUMBER:
			return "a number";
		case BILLING_TYPE_TEXT:
			return "a text";
		case BILLING_TYPE_BOOLEAN:
			return "true or false";
		case BILLING_TYPE_LIST:
			return "a list";
		case BILLING_TYPE_ANY:
			break;
	}
	return "a value";
}

/* Name the field that is nearest to what was written, or all of them. */
static char *
suggest_field(const BillingFieldSet *fields, const char *name)
{
	const char *nearest = NULL;
	int distance = NEAR_DISTANCE + 1;
	StringInfoData all;

	initStringInfo(&all);
	for (int i = 0; i < fields->nfields; i++)
	{
		const char *known = fields->fields[i].name;
		int away = varstr_levenshtein_less_equal(name, (int) strlen(name), known,
												 (int) strlen(known), 1, 1, 1, distance, true);

		if (away < distance)
		{
			distance = away;
			nearest = known;
		}
		appendStringInfo(&all, "%s%s", i == 0 ? "" : ", ", known);
	}
	if (nearest != NULL)
		return psprintf("Perhaps you mean \"%s\". The fields are: %s.", nearest, all.data);
	return psprintf("The fields are: %s.", all.data);
}

/* Give a field its type. */
static void
check_field(const BillingReader *reader, BillingNode *node)
{
	const BillingFieldSet *fields = reader->fields;

	node->type = BILLING_TYPE_ANY;
	if (fields == NULL)
		return;
	for (int i = 0; i < fields->nfields; i++)
	{
		if (strcmp(fields->fields[i].name, node->value) == 0)
		{
			node->type = fields->fields[i].type;
			return;
		}
	}
	billing_workflow_refuse_condition(reader, node->from, node->length,
									  suggest_field(fields, node->value),
									  "unknown field \"%s\" of %s", node->value, fields->what);
}

/* Refuse an operand that is of another type than it must be. */
static void
require_type(const BillingReader *reader, const BillingNode *operand, BillingType type,
			 const char *what)
{
	if (operand->type == type || operand->type == BILLING_TYPE_ANY)
		return;
	billing_workflow_refuse_condition(
		reader, operand->from, operand->length,
		operand->type == BILLING_TYPE_LIST
			? "Ask whether a text is in the list, such as 'hardware' "
			  "in categories."
			: "Numbers are calculated and compared with numbers, "
			  "'texts' with 'texts'; and, or and not join conditions.",
		"%s must be %s, not %s", what, type_name(type), type_name(operand->type));
}

static void
require_type_of_all(const BillingReader *reader, const BillingNode *node, BillingType type,
					const char *what)
{
	for (const BillingNode *operand = node->first; operand != NULL; operand = operand->next)
		require_type(reader, operand, type, what);
}

/* Refuse operands that are not of one type, or not of one that has an order. */
static void
check_comparison(const BillingReader *reader, const BillingNode *node, bool ordered)
{
	BillingType type = BILLING_TYPE_ANY;

	for (const BillingNode *operand = node->first; operand != NULL; operand = operand->next)
	{
		if (type == BILLING_TYPE_ANY)
			type = operand->type;
		if (operand->type == BILLING_TYPE_LIST)
			require_type(reader, operand, BILLING_TYPE_TEXT, "what is compared");
		if (operand->type == BILLING_TYPE_BOOLEAN && ordered)
			billing_workflow_refuse_condition(reader, operand->from, operand->length,
											  "Compare it with = or <>, or write the condition "
											  "alone.",
											  "true and false have no order");
	}
	require_type_of_all(reader, node, type, "what is compared with it");
}

/* Check a node whose operands are there, and find its type. */
void
billing_workflow_check_node(const BillingReader *reader, BillingNode *node)
{
	node->type = BILLING_TYPE_BOOLEAN;
	switch (node->code)
	{
		case BILLING_OP_FIELD:
			check_field(reader, node);
			break;
		case BILLING_OP_NEGATE:
		case BILLING_OP_ADD:
		case BILLING_OP_SUBTRACT:
		case BILLING_OP_MULTIPLY:
		case BILLING_OP_DIVIDE:
			node->type = BILLING_TYPE_NUMBER;
			require_type_of_all(reader, node, BILLING_TYPE_NUMBER, "what is calculated with");
			break;
		case BILLING_OP_EQUAL:
		case BILLING_OP_UNEQUAL:
		case BILLING_OP_IN:
			check_comparison(reader, node, false);
			break;
		case BILLING_OP_LESS:
		case BILLING_OP_LESS_EQUAL:
		case BILLING_OP_GREATER:
		case BILLING_OP_GREATER_EQUAL:
		case BILLING_OP_BETWEEN:
			check_comparison(reader, node, true);
			break;
		case BILLING_OP_IN_LIST:
			require_type(reader, node->first, BILLING_TYPE_TEXT, "what is in a list");
			require_type(reader, node->last, BILLING_TYPE_LIST, "what follows in");
			break;
		case BILLING_OP_IS_TRUE:
		case BILLING_OP_IS_FALSE:
		case BILLING_OP_NOT:
		case BILLING_OP_AND:
		case BILLING_OP_OR:
			require_type_of_all(reader, node, BILLING_TYPE_BOOLEAN, "a condition");
			break;
		case BILLING_OP_IS_NULL:
		case BILLING_OP_NUMBER:
		case BILLING_OP_TEXT:
		case BILLING_OP_TRUE:
		case BILLING_OP_FALSE:
		case BILLING_STEP_JUMP_IF_FALSE:
		case BILLING_STEP_JUMP_IF_TRUE:
			break;
	}
}
