/*
 * workflow_expression_eval.c
 *		What a condition is for the values of its fields.
 *
 * A machine with a stack of pointers: fields and constants are pushed where they
 * lie, only results are written.  It never raises an error.
 */
#include "pg_compat.h"

#include "workflow/condition.h"

static const BillingValue null_value = { .type = BILLING_TYPE_ANY };

#define IS_NULL(value) ((value)->type == BILLING_TYPE_ANY)

static inline BillingValue
boolean_value(bool boolean)
{
	return (BillingValue){ .type = BILLING_TYPE_BOOLEAN, .boolean = boolean };
}

/* Compare texts byte by byte. */
static inline int
compare_texts(BillingText a, BillingText b)
{
	int result = memcmp(a.data, b.data, Min(a.length, b.length));

	return result != 0 ? result : a.length - b.length;
}

/* Compare two values of one type; false where they cannot be compared. */
static inline bool
compare(const BillingValue *a, const BillingValue *b, int *result)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case BILLING_TYPE_NUMBER:
			*result = billing_workflow_compare_numbers(a, b);
			return true;
		case BILLING_TYPE_TEXT:
			*result = compare_texts(a->text, b->text);
			return true;
		case BILLING_TYPE_BOOLEAN:
			*result = (int) a->boolean - (int) b->boolean;
			return true;
		default:
			return false;
	}
}

/* = <> < <= > >= */
static inline BillingValue
compare_values(uint8 code, const BillingValue *a, const BillingValue *b)
{
	int order;

	if (!compare(a, b, &order))
		return null_value;
	switch (code)
	{
		case BILLING_OP_EQUAL:
			return boolean_value(order == 0);
		case BILLING_OP_UNEQUAL:
			return boolean_value(order != 0);
		case BILLING_OP_LESS:
			return boolean_value(order < 0);
		case BILLING_OP_LESS_EQUAL:
			return boolean_value(order <= 0);
		case BILLING_OP_GREATER:
			return boolean_value(order > 0);
		default:
			return boolean_value(order >= 0);
	}
}

/* Two values joined by and (absorbing is false) or or (true). */
static inline BillingValue
join(const BillingValue *a, const BillingValue *b, bool absorbing)
{
	if ((a->type == BILLING_TYPE_BOOLEAN && a->boolean == absorbing) ||
		(b->type == BILLING_TYPE_BOOLEAN && b->boolean == absorbing))
		return boolean_value(absorbing);
	if (a->type != BILLING_TYPE_BOOLEAN || b->type != BILLING_TYPE_BOOLEAN)
		return null_value;
	return boolean_value(!absorbing);
}

/* value in (constants) */
static BillingValue
is_among(const BillingValue **values, int count)
{
	int order;

	if (IS_NULL(values[0]))
		return null_value;
	for (int i = 1; i < count; i++)
	{
		if (compare(values[0], values[i], &order) && order == 0)
			return boolean_value(true);
	}
	return boolean_value(false);
}

/* value in list; elements of a list are not null */
static BillingValue
is_in_list(const BillingValue *value, const BillingValue *list)
{
	if (value->type != BILLING_TYPE_TEXT || list->type != BILLING_TYPE_LIST)
		return null_value;
	for (int i = 0; i < list->nitems; i++)
	{
		if (compare_texts(value->text, list->items[i]) == 0)
			return boolean_value(true);
	}
	return boolean_value(false);
}

/* One operation on its operands. */
static BillingValue
operate(const BillingStep *step, const BillingValue **operands)
{
	const BillingValue zero = { .type = BILLING_TYPE_NUMBER };
	const BillingValue *a = operands[0];
	BillingValue low;
	BillingValue high;

	switch (step->code)
	{
		case BILLING_OP_NEGATE:
			return billing_workflow_arithmetic(BILLING_OP_SUBTRACT, &zero, a);
		case BILLING_OP_ADD:
		case BILLING_OP_SUBTRACT:
		case BILLING_OP_MULTIPLY:
		case BILLING_OP_DIVIDE:
			return billing_workflow_arithmetic(step->code, a, operands[1]);
		case BILLING_OP_IN:
			return is_among(operands, step->count);
		case BILLING_OP_IN_LIST:
			return is_in_list(a, operands[1]);
		case BILLING_OP_BETWEEN:
			low = compare_values(BILLING_OP_GREATER_EQUAL, a, operands[1]);
			high = compare_values(BILLING_OP_LESS_EQUAL, a, operands[2]);
			return join(&low, &high, false);
		case BILLING_OP_IS_NULL:
			return boolean_value(IS_NULL(a));
		case BILLING_OP_IS_TRUE:
			return boolean_value(a->type == BILLING_TYPE_BOOLEAN && a->boolean);
		case BILLING_OP_IS_FALSE:
			return boolean_value(a->type == BILLING_TYPE_BOOLEAN && !a->boolean);
		case BILLING_OP_NOT:
			return a->type == BILLING_TYPE_BOOLEAN ? boolean_value(!a->boolean) : null_value;
		case BILLING_OP_AND:
			return join(a, operands[1], false);
		case BILLING_OP_OR:
			return join(a, operands[1], true);
		default:
			return compare_values(step->code, a, operands[1]);
	}
}

/* Run steps, which leave one value. */
static BillingValue
run_steps(const BillingProgram *program, int from, int to, const BillingValue *values)
{
	const BillingValue **stack = program->stack;
	int top = 0;
	int at = from;

	while (at < to)
	{
		const BillingStep *step = &program->steps[at++];

		switch (step->code)
		{
			case BILLING_OP_FIELD:
				stack[top++] = &values[step->operand];
				break;
			case BILLING_OP_NUMBER:
				stack[top++] = &program->constants[step->operand];
				break;
			case BILLING_STEP_JUMP_IF_FALSE:
			case BILLING_STEP_JUMP_IF_TRUE:
				if (stack[top - 1]->type == BILLING_TYPE_BOOLEAN &&
					stack[top - 1]->boolean == (step->code == BILLING_STEP_JUMP_IF_TRUE))
					at = step->operand;
				break;
			default:
				top -= step->count;
				program->results[top] = operate(step, &stack[top]);
				stack[top] = &program->results[top];
				top++;
				break;
		}
	}
	return *stack[0];
}

/* The value of the condition: true, false or null. */
BillingValue
billing_workflow_evaluate(const BillingProgram *program, const BillingValue *values)
{
	return run_steps(program, 0, program->nsteps, values);
}

/* The value of one of its operations with what it is made of, for explaining. */
BillingValue
billing_workflow_evaluate_op(const BillingProgram *program, int op, const BillingValue *values)
{
	return run_steps(program, program->first_step[op], program->end_step[op], values);
}
