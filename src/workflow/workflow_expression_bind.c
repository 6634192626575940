/*
 * workflow_expression_bind.c
 *		Makes a stored condition ready for a set of fields: names become slots,
 *		constants values, and what cannot matter any more is jumped over.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "core/errors.h"
#include "workflow/condition.h"

typedef struct Binder
{
	BillingProgram *program;
	const BillingFieldSet *fields;
	int nconstants;
} Binder;

static void bind_op(Binder *binder, int index);

/* The place of a field among those of the set. */
static int
find_slot(const BillingFieldSet *fields, const char *name, int length)
{
	for (int i = 0; i < fields->nfields; i++)
	{
		if ((int) strlen(fields->fields[i].name) == length &&
			memcmp(fields->fields[i].name, name, length) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_INVALID_CONDITION),
			 errmsg("invalid condition: unknown field \"%.*s\" of %s", length, name, fields->what),
			 errhint("billing.check_condition() lists the fields.")));
}

/* The value of a number's canonical text. */
static BillingValue
number_constant(const char *text, int length)
{
	Datum number = DirectFunctionCall3(numeric_in, CStringGetDatum(pnstrdup(text, length)),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

	return billing_workflow_number(number);
}

/* The value of a quoted text: doubled quotes are single ones. */
static BillingValue
text_constant(const char *text, int length)
{
	BillingValue value = { .type = BILLING_TYPE_TEXT };
	char *data = palloc(length);

	for (int i = 1; i < length - 1; i++)
	{
		data[value.text.length++] = text[i];
		if (text[i] == '\'')
			i++;
	}
	value.text.data = data;
	return value;
}

/* The value of a constant. */
static BillingValue
constant_of(const BillingOp *op, const char *text)
{
	if (op->code == BILLING_OP_NUMBER)
		return number_constant(text, op->length);
	if (op->code == BILLING_OP_TEXT)
		return text_constant(text, op->length);
	return (BillingValue){ .type = BILLING_TYPE_BOOLEAN, .boolean = op->code == BILLING_OP_TRUE };
}

/* Append a step and return its number. */
static int
append_step(Binder *binder, uint8 code, uint16 count, int32 operand)
{
	BillingProgram *program = binder->program;
	BillingStep *step = &program->steps[program->nsteps];

	step->code = code;
	step->count = count;
	step->operand = operand;
	return program->nsteps++;
}

/* The operands of an operation, in their order. */
static int *
operands_of(const BillingCondition *condition, int index)
{
	int count = condition->ops[index].count;
	int *operands = palloc(sizeof(int) * Max(count, 1));
	int at = index - 1;

	for (int i = count - 1; i >= 0; i--)
	{
		operands[i] = at;
		at = condition->ops[at].first - 1;
	}
	return operands;
}

/* and, or: after each operand, the rest is jumped over if it cannot matter. */
static void
bind_joined(Binder *binder, int index, const int *operands)
{
	const BillingOp *op = &binder->program->condition->ops[index];
	int *jumps = palloc(sizeof(int) * op->count);

	bind_op(binder, operands[0]);
	for (int i = 1; i < op->count; i++)
	{
		jumps[i] = append_step(binder,
							   op->code == BILLING_OP_AND ? BILLING_STEP_JUMP_IF_FALSE
														  : BILLING_STEP_JUMP_IF_TRUE,
							   1, 0);
		bind_op(binder, operands[i]);
		append_step(binder, op->code, 2, 0);
	}
	for (int i = 1; i < op->count; i++)
		binder->program->steps[jumps[i]].operand = binder->program->nsteps;
}

/* Bind an operation with its operands. */
static void
bind_op(Binder *binder, int index)
{
	BillingProgram *program = binder->program;
	const BillingOp *op = &program->condition->ops[index];
	const char *text = billing_condition_text(program->condition) + op->at;

	check_stack_depth();
	program->first_step[index] = program->nsteps;
	if (op->code == BILLING_OP_FIELD)
	{
		int slot = find_slot(binder->fields, text, op->length);

		program->slots |= UINT64CONST(1) << slot;
		append_step(binder, BILLING_OP_FIELD, 0, slot);
	}
	else if (op->code <= BILLING_OP_FALSE)
	{
		program->constants[binder->nconstants] = constant_of(op, text);
		append_step(binder, BILLING_OP_NUMBER, 0, binder->nconstants++);
	}
	else
	{
		int *operands = operands_of(program->condition, index);

		if (op->code == BILLING_OP_AND || op->code == BILLING_OP_OR)
			bind_joined(binder, index, operands);
		else
		{
			for (int i = 0; i < op->count; i++)
				bind_op(binder, operands[i]);
			append_step(binder, op->code, op->count, 0);
		}
		pfree(operands);
	}
	program->end_step[index] = program->nsteps;
}

/*
 * Bind a condition; palloc'd in the current context, and good as long as the
 * condition.  Raises ERRCODE_BILLING_INVALID_CONDITION for an unknown field.
 */
BillingProgram *
billing_workflow_bind_condition(const BillingCondition *condition, const BillingFieldSet *fields)
{
	Binder binder;
	BillingProgram *program = palloc0(sizeof(BillingProgram));
	int nops = condition->nops;

	Assert(fields->nfields <= 64);
	program->condition = condition;
	/* a step for each operation, and for each operand of and and or another two */
	program->steps = palloc(sizeof(BillingStep) * (nops * 3 + 1));
	program->constants = palloc(sizeof(BillingValue) * (nops + 1));
	program->results = palloc(sizeof(BillingValue) * (condition->depth + 1));
	program->stack = palloc(sizeof(BillingValue *) * (condition->depth + 1));
	program->first_step = palloc(sizeof(int) * (nops + 1));
	program->end_step = palloc(sizeof(int) * (nops + 1));
	binder.program = program;
	binder.fields = fields;
	binder.nconstants = 0;
	bind_op(&binder, nops - 1);
	return program;
}
