/*
 * workflow_expression_write.c
 *		Writes the tree of a condition down: its canonical text, with no more
 *		parentheses than it needs, and its operations in postfix order.
 */
#include "pg_compat.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "workflow/workflow_expression.h"

/* How tightly what a node is written as binds; see condition.h. */
typedef enum Binding
{
	BINDS_OR,
	BINDS_AND,
	BINDS_NOT,
	BINDS_IS,
	BINDS_COMPARISON,
	BINDS_RANGE,
	BINDS_SUM,
	BINDS_PRODUCT,
	BINDS_SIGN,
	BINDS_PRIMARY
} Binding;

static const struct
{
	Binding binding;
	Binding left;  /* what the first operand must bind at least */
	Binding right; /* and the others */
	const char *symbol;
} forms[] = {
	[BILLING_OP_NUMBER] = { BINDS_PRIMARY, 0, 0, NULL },
	[BILLING_OP_TEXT] = { BINDS_PRIMARY, 0, 0, NULL },
	[BILLING_OP_TRUE] = { BINDS_PRIMARY, 0, 0, NULL },
	[BILLING_OP_FALSE] = { BINDS_PRIMARY, 0, 0, NULL },
	[BILLING_OP_FIELD] = { BINDS_PRIMARY, 0, 0, NULL },
	[BILLING_OP_NEGATE] = { BINDS_SIGN, BINDS_SIGN, BINDS_SIGN, "-" },
	[BILLING_OP_ADD] = { BINDS_SUM, BINDS_SUM, BINDS_PRODUCT, " + " },
	[BILLING_OP_SUBTRACT] = { BINDS_SUM, BINDS_SUM, BINDS_PRODUCT, " - " },
	[BILLING_OP_MULTIPLY] = { BINDS_PRODUCT, BINDS_PRODUCT, BINDS_SIGN, " * " },
	[BILLING_OP_DIVIDE] = { BINDS_PRODUCT, BINDS_PRODUCT, BINDS_SIGN, " / " },
	[BILLING_OP_EQUAL] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " = " },
	[BILLING_OP_UNEQUAL] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " <> " },
	[BILLING_OP_LESS] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " < " },
	[BILLING_OP_LESS_EQUAL] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " <= " },
	[BILLING_OP_GREATER] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " > " },
	[BILLING_OP_GREATER_EQUAL] = { BINDS_COMPARISON, BINDS_RANGE, BINDS_RANGE, " >= " },
	[BILLING_OP_IN] = { BINDS_RANGE, BINDS_SUM, BINDS_SUM, " in (" },
	[BILLING_OP_IN_LIST] = { BINDS_RANGE, BINDS_SUM, BINDS_SUM, " in " },
	[BILLING_OP_BETWEEN] = { BINDS_RANGE, BINDS_SUM, BINDS_SUM, " between " },
	[BILLING_OP_IS_NULL] = { BINDS_IS, BINDS_IS, BINDS_IS, " is null" },
	[BILLING_OP_IS_TRUE] = { BINDS_IS, BINDS_IS, BINDS_IS, " is true" },
	[BILLING_OP_IS_FALSE] = { BINDS_IS, BINDS_IS, BINDS_IS, " is false" },
	[BILLING_OP_NOT] = { BINDS_NOT, BINDS_NOT, BINDS_NOT, "not " },
	[BILLING_OP_AND] = { BINDS_AND, BINDS_NOT, BINDS_NOT, " and " },
	[BILLING_OP_OR] = { BINDS_OR, BINDS_AND, BINDS_AND, " or " },
};

typedef struct Writer
{
	StringInfoData text;
	BillingOp ops[BILLING_CONDITION_MAX_NODES];
	int nops;
} Writer;

static int write_node(Writer *writer, const BillingNode *node);

/* Whether "not" is written inside of its operand: is not null, not in, not between. */
static bool
is_inner_not(const BillingNode *node)
{
	if (node->code != BILLING_OP_NOT)
		return false;
	switch (node->first->code)
	{
		case BILLING_OP_IN:
		case BILLING_OP_IN_LIST:
		case BILLING_OP_BETWEEN:
		case BILLING_OP_IS_NULL:
		case BILLING_OP_IS_TRUE:
		case BILLING_OP_IS_FALSE:
			return true;
		default:
			return false;
	}
}

/* Append an operation that stands in the text from at to here. */
static void
append_op(Writer *writer, const BillingNode *node, int first, int at)
{
	BillingOp *op = &writer->ops[writer->nops];

	memset(op, 0, sizeof(*op));
	op->code = (uint8) node->code;
	op->type = (uint8) node->type;
	op->count = (uint16) node->noperands;
	op->first = (uint16) first;
	op->at = (uint16) at;
	op->length = (uint16) (writer->text.len - at);
	writer->nops++;
}

/* Write an operand, in parentheses where it binds too loosely; returns its depth. */
static int
write_operand(Writer *writer, const BillingNode *operand, Binding needed)
{
	Binding binding = forms[is_inner_not(operand) ? operand->first->code : operand->code].binding;
	int depth;

	if (binding >= needed)
		return write_node(writer, operand);
	appendStringInfoChar(&writer->text, '(');
	depth = write_node(writer, operand);
	appendStringInfoChar(&writer->text, ')');
	return depth;
}

/* What stands before an operand but the first. */
static const char *
separator(const BillingNode *node, int index)
{
	if (node->code == BILLING_OP_IN)
		return index == 1 ? " in (" : ", ";
	if (node->code == BILLING_OP_BETWEEN && index == 2)
		return " and ";
	return forms[node->code].symbol;
}

/* Write an operation with its operands; negative where "not" is written inside of it. */
static int
write_operation(Writer *writer, const BillingNode *node, bool negative)
{
	int depth = 1;
	int index = 0;

	if (node->code == BILLING_OP_NOT || node->code == BILLING_OP_NEGATE)
		appendStringInfoString(&writer->text, forms[node->code].symbol);
	for (const BillingNode *operand = node->first; operand != NULL; operand = operand->next)
	{
		int below;

		if (index == 1 && (node->code == BILLING_OP_IN || node->code == BILLING_OP_IN_LIST ||
						   node->code == BILLING_OP_BETWEEN))
			appendStringInfoString(&writer->text, negative ? " not" : "");
		if (index > 0)
			appendStringInfoString(&writer->text, separator(node, index));
		below = write_operand(writer, operand,
							  index == 0 ? forms[node->code].left : forms[node->code].right);
		depth = Max(depth, index + below);
		index++;
	}
	if (node->code == BILLING_OP_IN)
		appendStringInfoChar(&writer->text, ')');
	else if (forms[node->code].binding == BINDS_IS)
		appendStringInfo(&writer->text, negative ? " is not%s" : " is%s",
						 forms[node->code].symbol + strlen(" is"));
	return depth;
}

/* Write a node; returns how many values wait at once while it is evaluated. */
static int
write_node(Writer *writer, const BillingNode *node)
{
	int first = writer->nops;
	int at = writer->text.len;
	int depth = 1;

	check_stack_depth();
	if (node->value != NULL)
		appendStringInfoString(&writer->text, node->value);
	else if (is_inner_not(node))
	{
		depth = write_operation(writer, node->first, true);
		append_op(writer, node->first, first, at);
	}
	else
		depth = write_operation(writer, node, false);
	append_op(writer, node, first, at);
	return depth;
}

/* Lay out the stored form. */
BillingCondition *
billing_workflow_write_condition(const BillingReader *reader, BillingNode *root)
{
	Writer *writer = palloc(sizeof(Writer));
	BillingCondition *condition;
	Size size;
	int depth;

	initStringInfo(&writer->text);
	writer->nops = 0;
	depth = write_node(writer, root);
	if (writer->text.len > BILLING_CONDITION_MAX_TEXT)
		billing_workflow_refuse_condition(reader, reader->end, 0,
										  "Split the policy into several of the same levels.",
										  "longer than %d bytes when it is written with its blanks",
										  BILLING_CONDITION_MAX_TEXT);
	size = offsetof(BillingCondition, ops) + sizeof(BillingOp) * writer->nops + writer->text.len;
	condition = palloc0(size);
	SET_VARSIZE(condition, size);
	condition->format = BILLING_CONDITION_FORMAT;
	condition->nops = (uint16) writer->nops;
	condition->depth = (uint16) depth;
	condition->ntext = (uint16) writer->text.len;
	memcpy(condition->ops, writer->ops, sizeof(BillingOp) * writer->nops);
	memcpy(&condition->ops[writer->nops], writer->text.data, writer->text.len);
	return condition;
}
