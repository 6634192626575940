/*
 * workflow_expression_parse.c
 *		From the text of a condition to its stored form: the one way in, for input,
 *		receive and the functions that take a text.
 *
 * A descent along the grammar in condition.h builds a tree, with bounds on the
 * length, the depth and the number of nodes.  Types and names are checked in
 * workflow_expression_check.c as the nodes are made, workflow_expression_write.c
 * writes the tree down.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "workflow/workflow_expression.h"

static BillingNode *parse_or(BillingReader *reader);
static BillingNode *parse_not(BillingReader *reader);
static BillingNode *parse_sum(BillingReader *reader);

/* Whether the token at hand is a keyword or a symbol. */
static bool
at_word(const BillingReader *reader, const char *word)
{
	return (reader->token == TOKEN_KEYWORD || reader->token == TOKEN_SYMBOL) &&
		   strcmp(reader->word, word) == 0;
}

/* Take a keyword or a symbol if it is at hand. */
static bool
accept(BillingReader *reader, const char *word)
{
	if (!at_word(reader, word))
		return false;
	billing_workflow_next_token(reader);
	return true;
}

/* Refuse the token at hand. */
BILLING_NORETURN static void
refuse_token(const BillingReader *reader, const char *expected, const char *hint)
{
	billing_workflow_refuse_condition(reader, reader->from, reader->length, hint, "expected %s",
									  expected);
}

/* Take a keyword or a symbol that must come. */
static void
expect(BillingReader *reader, const char *word, const char *hint)
{
	if (!accept(reader, word))
		refuse_token(reader, word, hint);
}

/* Make a node, within the bounds. */
static BillingNode *
new_node(BillingReader *reader, BillingOpCode code, const char *from, int length)
{
	BillingNode *node = palloc0(sizeof(BillingNode));

	if (++reader->nnodes > BILLING_CONDITION_MAX_NODES)
		billing_workflow_refuse_condition(reader, from, length,
										  "Split the policy into several of the same levels.",
										  "more than %d parts", BILLING_CONDITION_MAX_NODES);
	node->code = code;
	node->from = from;
	node->length = length;
	return node;
}

/* Hang an operand on a node, which then reaches to the operand's end. */
static void
add_operand(BillingNode *node, BillingNode *operand)
{
	if (node->last == NULL)
		node->first = operand;
	else
		node->last->next = operand;
	node->last = operand;
	node->noperands++;
	if (operand->from < node->from)
	{
		node->length += (int) (node->from - operand->from);
		node->from = operand->from;
	}
	if (operand->from + operand->length > node->from + node->length)
		node->length = (int) (operand->from + operand->length - node->from);
}

/* Make a node of two operands. */
static BillingNode *
new_pair(BillingReader *reader, BillingOpCode code, BillingNode *left, BillingNode *right)
{
	BillingNode *node = new_node(reader, code, left->from, left->length);

	add_operand(node, left);
	add_operand(node, right);
	billing_workflow_check_node(reader, node);
	return node;
}

/* One level deeper, for whatever nests. */
static void
enter(BillingReader *reader)
{
	check_stack_depth();
	if (++reader->depth > BILLING_CONDITION_MAX_DEPTH)
		billing_workflow_refuse_condition(reader, reader->from, reader->length,
										  "Write it flatter, or split it into several policies.",
										  "nested more than %d levels deep",
										  BILLING_CONDITION_MAX_DEPTH);
}

static void
leave(BillingReader *reader)
{
	reader->depth--;
}

/* The canonical text of a number: no needless zeros. */
static char *
number_text(const char *from, int length)
{
	const char *end = from + length;

	while (end - from > 1 && from[0] == '0' && from[1] != '.')
		from++;
	if (memchr(from, '.', end - from) != NULL)
	{
		while (end[-1] == '0')
			end--;
		if (end[-1] == '.')
			end--;
	}
	return pnstrdup(from, end - from);
}

/* A constant: number, text, true or false. */
static BillingNode *
parse_constant(BillingReader *reader)
{
	BillingNode *node;

	if (reader->token == TOKEN_NUMBER)
	{
		node = new_node(reader, BILLING_OP_NUMBER, reader->from, reader->length);
		node->value = number_text(reader->from, reader->length);
		node->type = BILLING_TYPE_NUMBER;
	}
	else if (reader->token == TOKEN_TEXT)
	{
		node = new_node(reader, BILLING_OP_TEXT, reader->from, reader->length);
		node->value = pnstrdup(reader->from, reader->length);
		node->type = BILLING_TYPE_TEXT;
	}
	else if (at_word(reader, "true") || at_word(reader, "false"))
	{
		node = new_node(reader, at_word(reader, "true") ? BILLING_OP_TRUE : BILLING_OP_FALSE,
						reader->from, reader->length);
		node->value = pstrdup(reader->word);
		node->type = BILLING_TYPE_BOOLEAN;
	}
	else
		return NULL;
	billing_workflow_next_token(reader);
	return node;
}

/* A constant, a field, or something in parentheses. */
static BillingNode *
parse_primary(BillingReader *reader)
{
	BillingNode *node = parse_constant(reader);

	if (node != NULL)
		return node;
	if (reader->token == TOKEN_NAME)
	{
		node = new_node(reader, BILLING_OP_FIELD, reader->from, reader->length);
		node->value = pnstrdup(reader->from, reader->length);
		billing_workflow_check_node(reader, node);
		billing_workflow_next_token(reader);
		return node;
	}
	if (accept(reader, "("))
	{
		enter(reader);
		node = parse_or(reader);
		leave(reader);
		expect(reader, ")", "Close the parenthesis.");
		return node;
	}
	if (at_word(reader, "null"))
		refuse_token(reader, "a value",
					 "Nothing equals null: write \"is null\" or \"is not null\".");
	refuse_token(reader, "a value",
				 "Write a field, a number, a 'text', true, false or something in parentheses.");
}

/* A sign; that of a number becomes part of it. */
static BillingNode *
parse_sign(BillingReader *reader)
{
	const char *from = reader->from;
	int length = reader->length;
	BillingNode *operand;
	BillingNode *node;

	if (!accept(reader, "-"))
		return parse_primary(reader);
	enter(reader);
	operand = parse_sign(reader);
	leave(reader);
	if (operand->code == BILLING_OP_NUMBER)
	{
		operand->length += (int) (operand->from - from);
		operand->from = from;
		operand->value = strcmp(operand->value, "0") == 0 ? operand->value
						 : operand->value[0] == '-'		  ? operand->value + 1
														  : psprintf("-%s", operand->value);
		return operand;
	}
	node = new_node(reader, BILLING_OP_NEGATE, from, length);
	add_operand(node, operand);
	billing_workflow_check_node(reader, node);
	return node;
}

static BillingNode *
parse_product(BillingReader *reader)
{
	BillingNode *node = parse_sign(reader);

	for (;;)
	{
		if (accept(reader, "*"))
			node = new_pair(reader, BILLING_OP_MULTIPLY, node, parse_sign(reader));
		else if (accept(reader, "/"))
			node = new_pair(reader, BILLING_OP_DIVIDE, node, parse_sign(reader));
		else
			return node;
	}
}

static BillingNode *
parse_sum(BillingReader *reader)
{
	BillingNode *node = parse_product(reader);

	for (;;)
	{
		if (accept(reader, "+"))
			node = new_pair(reader, BILLING_OP_ADD, node, parse_product(reader));
		else if (accept(reader, "-"))
			node = new_pair(reader, BILLING_OP_SUBTRACT, node, parse_product(reader));
		else
			return node;
	}
}

/* What follows "in": constants in parentheses, or a field that is a list. */
static BillingNode *
parse_in(BillingReader *reader, BillingNode *value)
{
	const char *hint = "Write constants in parentheses, such as risk in ('high', 'medium'), or a "
					   "field that is a list, such as 'hardware' in categories.";
	BillingNode *node;

	if (reader->token == TOKEN_NAME)
		return new_pair(reader, BILLING_OP_IN_LIST, value, parse_primary(reader));
	node = new_node(reader, BILLING_OP_IN, value->from, value->length);
	add_operand(node, value);
	expect(reader, "(", hint);
	do
	{
		bool negative = accept(reader, "-");
		BillingNode *item = NULL;

		if (!negative || reader->token == TOKEN_NUMBER)
			item = parse_constant(reader);
		if (item == NULL)
			refuse_token(reader, "a constant", hint);
		if (negative && strcmp(item->value, "0") != 0)
			item->value = psprintf("-%s", item->value);
		add_operand(node, item);
	} while (accept(reader, ","));
	node->length = (int) (reader->from + reader->length - node->from);
	expect(reader, ")", hint);
	billing_workflow_check_node(reader, node);
	return node;
}

/* Turn a node round, where "not" stood before in or between, or after is. */
static BillingNode *
negate(BillingReader *reader, BillingNode *operand)
{
	BillingNode *node = new_node(reader, BILLING_OP_NOT, operand->from, operand->length);

	add_operand(node, operand);
	billing_workflow_check_node(reader, node);
	return node;
}

static BillingNode *
parse_range(BillingReader *reader)
{
	BillingNode *node = parse_sum(reader);
	bool negative = accept(reader, "not");

	if (accept(reader, "in"))
		node = parse_in(reader, node);
	else if (accept(reader, "between"))
	{
		BillingNode *range = new_node(reader, BILLING_OP_BETWEEN, node->from, node->length);

		add_operand(range, node);
		add_operand(range, parse_sum(reader));
		expect(reader, "and", "A range is written: between 1000 and 5000.");
		add_operand(range, parse_sum(reader));
		billing_workflow_check_node(reader, range);
		node = range;
	}
	else if (negative)
		refuse_token(reader, "in or between", "Here not is followed by in or between.");
	else
		return node;
	return negative ? negate(reader, node) : node;
}

/* The comparison at hand, or BILLING_OP_NOT for none. */
static BillingOpCode
comparison_at(const BillingReader *reader)
{
	static const struct
	{
		const char *symbol;
		BillingOpCode code;
	} comparisons[] = {
		{ "=", BILLING_OP_EQUAL },			{ "<>", BILLING_OP_UNEQUAL },
		{ "!=", BILLING_OP_UNEQUAL },		{ "<", BILLING_OP_LESS },
		{ "<=", BILLING_OP_LESS_EQUAL },	{ ">", BILLING_OP_GREATER },
		{ ">=", BILLING_OP_GREATER_EQUAL },
	};

	for (int i = 0; i < (int) lengthof(comparisons); i++)
	{
		if (at_word(reader, comparisons[i].symbol))
			return comparisons[i].code;
	}
	return BILLING_OP_NOT;
}

static BillingNode *
parse_comparison(BillingReader *reader)
{
	BillingNode *node = parse_range(reader);
	BillingOpCode code = comparison_at(reader);

	if (code == BILLING_OP_NOT)
		return node;
	billing_workflow_next_token(reader);
	node = new_pair(reader, code, node, parse_range(reader));
	if (comparison_at(reader) != BILLING_OP_NOT)
		refuse_token(reader, "and, or or the end",
					 "Comparisons are not chained: write a < b and b < c.");
	return node;
}

/* What follows a value: is [not] null, true or false. */
static BillingNode *
parse_is(BillingReader *reader)
{
	BillingNode *node = parse_comparison(reader);

	while (accept(reader, "is"))
	{
		bool negative = accept(reader, "not");
		BillingOpCode code = at_word(reader, "null")   ? BILLING_OP_IS_NULL
							 : at_word(reader, "true") ? BILLING_OP_IS_TRUE
													   : BILLING_OP_IS_FALSE;
		BillingNode *test;

		if (!at_word(reader, "null") && !at_word(reader, "true") && !at_word(reader, "false"))
			refuse_token(reader, "null, true or false",
						 "Write is null, is not null, is true or is false.");
		test = new_node(reader, code, node->from, node->length);
		add_operand(test, node);
		test->length = (int) (reader->from + reader->length - test->from);
		billing_workflow_check_node(reader, test);
		billing_workflow_next_token(reader);
		node = negative ? negate(reader, test) : test;
	}
	return node;
}

static BillingNode *
parse_not(BillingReader *reader)
{
	const char *from = reader->from;
	int length = reader->length;
	BillingNode *node;

	if (!accept(reader, "not"))
		return parse_is(reader);
	enter(reader);
	node = new_node(reader, BILLING_OP_NOT, from, length);
	add_operand(node, parse_not(reader));
	leave(reader);
	billing_workflow_check_node(reader, node);
	return node;
}

/* Hang an operand on a node, or, where it is joined by the same keyword, its operands. */
static void
join_operand(BillingNode *node, BillingNode *operand)
{
	BillingNode *inner = operand->first;

	if (operand->code != node->code)
	{
		add_operand(node, operand);
		return;
	}
	while (inner != NULL)
	{
		BillingNode *next = inner->next;

		inner->next = NULL;
		add_operand(node, inner);
		inner = next;
	}
}

/* Operands joined by one keyword become one node. */
static BillingNode *
parse_joined(BillingReader *reader, const char *word, BillingOpCode code,
			 BillingNode *(*parse_operand)(BillingReader *) )
{
	BillingNode *node = parse_operand(reader);
	BillingNode *joined;

	if (!at_word(reader, word))
		return node;
	joined = new_node(reader, code, node->from, node->length);
	join_operand(joined, node);
	while (accept(reader, word))
		join_operand(joined, parse_operand(reader));
	billing_workflow_check_node(reader, joined);
	return joined;
}

static BillingNode *
parse_and(BillingReader *reader)
{
	return parse_joined(reader, "and", BILLING_OP_AND, parse_not);
}

static BillingNode *
parse_or(BillingReader *reader)
{
	return parse_joined(reader, "or", BILLING_OP_OR, parse_and);
}

/* Read the whole text. */
static BillingNode *
parse_text(BillingReader *reader, const char *text, Size length)
{
	BillingNode *root;

	reader->text = reader->from = text;
	reader->end = text + length;
	if (length > BILLING_CONDITION_MAX_TEXT)
		billing_workflow_refuse_condition(reader, text + BILLING_CONDITION_MAX_TEXT, 0,
										  "Split the policy into several of the same levels.",
										  "longer than %d bytes", BILLING_CONDITION_MAX_TEXT);
	billing_workflow_next_token(reader);
	root = parse_or(reader);
	if (reader->token != TOKEN_END)
		refuse_token(reader, "and, or or the end", "Join conditions by and or or.");
	if (root->type != BILLING_TYPE_BOOLEAN && root->type != BILLING_TYPE_ANY)
		billing_workflow_refuse_condition(reader, root->from, root->length,
										  "A condition is true or false: compare the value with "
										  "something, such as amount >= 10000.",
										  "not a condition");
	return root;
}

/*
 * Parse, check and compile; palloc'd in the current context.  With fields, only
 * those are known, and of their types.
 */
BillingCondition *
billing_workflow_parse_condition(const char *text, Size length, const BillingFieldSet *fields)
{
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "billing condition parse",
											   ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);
	BillingReader reader;
	BillingCondition *written;
	BillingCondition *result;

	memset(&reader, 0, sizeof(reader));
	reader.fields = fields;
	written = billing_workflow_write_condition(&reader, parse_text(&reader, text, length));
	MemoryContextSwitchTo(caller);
	result = palloc(VARSIZE(written));
	memcpy(result, written, VARSIZE(written));
	MemoryContextDelete(work);
	return result;
}
