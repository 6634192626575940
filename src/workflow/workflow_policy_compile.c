/*
 * workflow_policy_compile.c
 *		Turns the conditions of a set of policies into decisions: tests of one
 *		field each, and where to go from there.
 *
 * To find the first policy that holds, false and null are the same.  So "and",
 * "or" and "not" dissolve into jumps (a "not" goes down to the tests, which
 * three-valued logic allows), and nearly every test is whether an integer lies in
 * a range.  The policies of a kind make one decision.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "workflow/workflow_policy.h"

/* numbers of tests are integers of this many decimals; what does not fit is a general test */
#define KEY_LIMIT (INT64CONST(1) << 60)

typedef struct Compiler
{
	BillingCompiledSet *compiled;
	BillingPolicy *policy;
	int32 number; /* of the policy */
	int ntests;
} Compiler;

static int32 compile_op(Compiler *compiler, int op, bool negated, int32 if_passed, int32 if_not);

static int
compare_texts(const void *a, const void *b)
{
	const BillingText *left = a;
	const BillingText *right = b;

	if (left->length != right->length)
		return left->length < right->length ? -1 : 1;
	return memcmp(left->data, right->data, left->length);
}

/* The number of a text among the constants, or -1. */
int32
billing_workflow_constant(const BillingConstants *constants, BillingText wanted)
{
	const BillingText *found =
		bsearch(&wanted, constants->texts, constants->count, sizeof(BillingText), compare_texts);

	return found == NULL ? -1 : (int32) (found - constants->texts);
}

/* The step of an operation that is a field or a constant. */
static const BillingStep *
step_of(const BillingProgram *program, int op)
{
	return &program->steps[program->first_step[op]];
}

static bool
is_field(const BillingProgram *program, int op, BillingType type)
{
	return program->condition->ops[op].code == BILLING_OP_FIELD &&
		   billing_workflow_facts.fields[step_of(program, op)->operand].type == type;
}

static const BillingValue *
constant_of(const BillingProgram *program, int op, BillingType type)
{
	const BillingValue *value;

	if (program->condition->ops[op].code > BILLING_OP_FALSE)
		return NULL;
	value = &program->constants[step_of(program, op)->operand];
	return value->type == type ? value : NULL;
}

/* The operand before another one. */
static int
operand_before(const BillingProgram *program, int op)
{
	return program->condition->ops[op].first - 1;
}

/* A constant as a key: twice the number with BILLING_KEY_SCALE decimals. */
static bool
constant_key(const BillingProgram *program, int op, int64 *key)
{
	const BillingValue *value = constant_of(program, op, BILLING_TYPE_NUMBER);
	int128 number;

	if (value == NULL || value->wide != NULL || value->scale > BILLING_KEY_SCALE)
		return false;
	number = value->number;
	if (!billing_core_decimal_raise(&number, BILLING_KEY_SCALE - value->scale) ||
		number > KEY_LIMIT || number < -KEY_LIMIT)
		return false;
	*key = (int64) number * 2;
	return true;
}

/* The range of keys that a comparison with a constant asks for. */
static void
set_range(BillingTest *test, uint8 code, int64 key)
{
	bool equality = code == BILLING_OP_EQUAL || code == BILLING_OP_UNEQUAL;

	test->kind = BILLING_TEST_RANGE;
	test->low = PG_INT64_MIN;
	test->high = PG_INT64_MAX;
	if (code == BILLING_OP_UNEQUAL)
		test->negated = !test->negated;
	if (equality || code == BILLING_OP_GREATER_EQUAL)
		test->low = key;
	if (equality || code == BILLING_OP_LESS_EQUAL)
		test->high = key;
	if (code == BILLING_OP_GREATER)
		test->low = key + 1;
	if (code == BILLING_OP_LESS)
		test->high = key - 1;
}

/* The comparison seen from the other side. */
static uint8
mirrored(uint8 code)
{
	switch (code)
	{
		case BILLING_OP_LESS:
			return BILLING_OP_GREATER;
		case BILLING_OP_LESS_EQUAL:
			return BILLING_OP_GREATER_EQUAL;
		case BILLING_OP_GREATER:
			return BILLING_OP_LESS;
		case BILLING_OP_GREATER_EQUAL:
			return BILLING_OP_LESS_EQUAL;
		default:
			return code;
	}
}

/* The number of a text constant. */
static int32
text_key(const BillingCompiledSet *compiled, const BillingProgram *program, int op)
{
	return billing_workflow_constant(&compiled->constants,
									 constant_of(program, op, BILLING_TYPE_TEXT)->text);
}

/* Try to make a comparison a test of a range. */
static bool
test_comparison(const BillingCompiledSet *compiled, const BillingProgram *program, uint8 code,
				int field, int constant, BillingTest *test)
{
	int64 key;

	if (program->condition->ops[field].code != BILLING_OP_FIELD)
		return false;
	test->slot = (uint8) step_of(program, field)->operand;
	if (is_field(program, field, BILLING_TYPE_NUMBER) && constant_key(program, constant, &key))
	{
		set_range(test, code, key);
		return true;
	}
	if (!is_field(program, field, BILLING_TYPE_TEXT) ||
		constant_of(program, constant, BILLING_TYPE_TEXT) == NULL ||
		(code != BILLING_OP_EQUAL && code != BILLING_OP_UNEQUAL))
		return false;
	set_range(test, code, text_key(compiled, program, constant));
	return true;
}

/* Try to make "between" two constants a test of a range. */
static bool
test_between(const BillingProgram *program, int op, BillingTest *test)
{
	int high = op - 1;
	int low = operand_before(program, high);
	int field = operand_before(program, low);

	if (!is_field(program, field, BILLING_TYPE_NUMBER) || !constant_key(program, low, &test->low) ||
		!constant_key(program, high, &test->high))
		return false;
	test->kind = BILLING_TEST_RANGE;
	test->slot = (uint8) step_of(program, field)->operand;
	return true;
}

/* Try to make "constant in field" a test of a list. */
static bool
test_list(const BillingCompiledSet *compiled, const BillingProgram *program, int op,
		  BillingTest *test)
{
	int constant = operand_before(program, op - 1);

	if (constant_of(program, constant, BILLING_TYPE_TEXT) == NULL ||
		!is_field(program, op - 1, BILLING_TYPE_LIST))
		return false;
	test->kind = BILLING_TEST_LIST;
	test->slot = (uint8) step_of(program, op - 1)->operand;
	test->constant = text_key(compiled, program, constant);
	return true;
}

/* Try to make the operation alone a test of a field. */
static bool
test_field(const BillingProgram *program, int op, int field, BillingTestKind kind,
		   BillingTest *test)
{
	if (program->condition->ops[field].code != BILLING_OP_FIELD)
		return false;
	if (op == field && !is_field(program, field, BILLING_TYPE_BOOLEAN))
		return false;
	test->kind = (uint8) kind;
	test->slot = (uint8) step_of(program, field)->operand;
	test->low = test->high = 1;
	return true;
}

/* Make an operation the simplest test there is. */
static bool
make_test(const BillingCompiledSet *compiled, const BillingProgram *program, int op,
		  BillingTest *test)
{
	uint8 code = program->condition->ops[op].code;

	switch (code)
	{
		case BILLING_OP_FIELD:
			return test_field(program, op, op, BILLING_TEST_RANGE, test);
		case BILLING_OP_IS_NULL:
			return test_field(program, op, op - 1, BILLING_TEST_NULL, test);
		case BILLING_OP_BETWEEN:
			return test_between(program, op, test);
		case BILLING_OP_IN_LIST:
			return test_list(compiled, program, op, test);
		case BILLING_OP_EQUAL:
		case BILLING_OP_UNEQUAL:
		case BILLING_OP_LESS:
		case BILLING_OP_LESS_EQUAL:
		case BILLING_OP_GREATER:
		case BILLING_OP_GREATER_EQUAL:
			return test_comparison(compiled, program, code, operand_before(program, op - 1), op - 1,
								   test) ||
				   test_comparison(compiled, program, mirrored(code), op - 1,
								   operand_before(program, op - 1), test);
		default:
			return false;
	}
}

/* Append a test of an operation. */
static int32
append_test(Compiler *compiler, int op, bool negated, int32 if_passed, int32 if_not)
{
	BillingTest *test = &compiler->compiled->tests[compiler->ntests];
	BillingTest general;

	memset(test, 0, sizeof(*test));
	test->kind = BILLING_TEST_GENERAL;
	test->negated = negated;
	test->op = (int16) op;
	test->policy = compiler->number;
	test->next[false] = if_not;
	test->next[true] = if_passed;
	general = *test;
	if (!make_test(compiler->compiled, compiler->policy->program, op, test))
		*test = general;
	return compiler->ntests++;
}

/* "in" of texts: one test for each; the last one knows whether the field is null. */
static int32
compile_in(Compiler *compiler, int op, bool negated, int32 if_passed, int32 if_not)
{
	const BillingProgram *program = compiler->policy->program;
	int count = program->condition->ops[op].count - 1;
	int field = program->condition->ops[op].first;
	int32 entry = BILLING_NOT_FOUND;

	for (int i = 0; i < count; i++)
	{
		if (!is_field(program, field, BILLING_TYPE_TEXT) ||
			constant_of(program, op - 1 - i, BILLING_TYPE_TEXT) == NULL)
			return append_test(compiler, op, negated, if_passed, if_not);
	}
	for (int i = 0; i < count; i++)
	{
		bool last = i == 0;
		BillingTest *test;

		entry = append_test(compiler, op, last && negated, negated && !last ? if_not : if_passed,
							last ? if_not : entry);
		test = &compiler->compiled->tests[entry];
		test->slot = (uint8) step_of(program, field)->operand;
		set_range(test, BILLING_OP_EQUAL, text_key(compiler->compiled, program, op - 1 - i));
	}
	return entry;
}

/* Compile the operands of "and" or "or", the last one first, so that each knows the next. */
static int32
compile_joined(Compiler *compiler, int op, bool negated, int32 if_passed, int32 if_not)
{
	const BillingProgram *program = compiler->policy->program;
	bool all = (program->condition->ops[op].code == BILLING_OP_AND) != negated;
	int count = program->condition->ops[op].count;
	int operand = op - 1;
	int32 entry = compile_op(compiler, operand, negated, if_passed, if_not);

	for (int i = 1; i < count; i++)
	{
		operand = operand_before(program, operand);
		entry = all ? compile_op(compiler, operand, negated, entry, if_not)
					: compile_op(compiler, operand, negated, if_passed, entry);
	}
	return entry;
}

/* Compile an operation; returns where its decision begins. */
static int32
compile_op(Compiler *compiler, int op, bool negated, int32 if_passed, int32 if_not)
{
	check_stack_depth();
	switch (compiler->policy->program->condition->ops[op].code)
	{
		case BILLING_OP_NOT:
			return compile_op(compiler, op - 1, !negated, if_passed, if_not);
		case BILLING_OP_AND:
		case BILLING_OP_OR:
			return compile_joined(compiler, op, negated, if_passed, if_not);
		case BILLING_OP_IN:
			return compile_in(compiler, op, negated, if_passed, if_not);
		default:
			return append_test(compiler, op, negated, if_passed, if_not);
	}
}

/*
 * Compile the decisions, the last policy first, so that each knows where the next
 * one of its kind begins.
 */
static void
compile_decisions(BillingCompiledSet *compiled)
{
	Compiler compiler = { .compiled = compiled };
	int room = 1;

	for (int i = 0; i < compiled->npolicies; i++)
		room += compiled->policies[i].program == NULL
					? 0
					: compiled->policies[i].program->condition->nops;
	compiled->tests = palloc(sizeof(BillingTest) * room);
	for (int i = compiled->npolicies - 1; i >= 0; i--)
	{
		BillingPolicy *policy = &compiled->policies[i];
		bool is_last = i + 1 == compiled->npolicies || strcmp(policy->kind, policy[1].kind) != 0;

		compiler.policy = policy;
		compiler.number = i;
		policy->next_kind = is_last ? i + 1 : policy[1].next_kind;
		policy->first_test = BILLING_FOUND(i);
		if (policy->program != NULL)
			policy->first_test =
				compile_op(&compiler, policy->program->condition->nops - 1, false, BILLING_FOUND(i),
						   is_last ? BILLING_NOT_FOUND : policy[1].first_test);
	}
}

/* Give a policy its program, and note the fields that it reads. */
static void
bind_policy(BillingCompiledSet *compiled, const BillingPolicyEntry *entry, BillingPolicy *policy)
{
	const char *base = (const char *) compiled->set;

	policy->entry = entry;
	policy->kind = base + entry->kind_at;
	policy->kind_length = (int) strlen(policy->kind);
	policy->code = base + entry->code_at;
	policy->has_rate = entry->rate_at != 0;
	if (policy->has_rate && strcmp(base + entry->rate_at, "unknown") != 0)
		policy->rate = billing_workflow_number(
			DirectFunctionCall3(numeric_in, CStringGetDatum(base + entry->rate_at),
								ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	if (entry->condition_at == 0)
		return;
	policy->program =
		billing_workflow_bind_condition((const BillingCondition *) (base + entry->condition_at),
										&billing_workflow_facts);
	compiled->slots |= policy->program->slots;
}

/* Collect the texts that are constants; any field may be compared with any of them. */
static void
collect_constants(BillingCompiledSet *compiled)
{
	BillingText *texts;
	int count = 0;
	int distinct = 0;
	int room = 0;

	for (int i = 0; i < compiled->npolicies; i++)
		room += compiled->policies[i].program == NULL
					? 0
					: compiled->policies[i].program->condition->nops;
	texts = palloc(sizeof(BillingText) * (room + 1));
	for (int i = 0; i < compiled->npolicies; i++)
	{
		const BillingProgram *program = compiled->policies[i].program;

		for (int op = 0; program != NULL && op < program->condition->nops; op++)
		{
			if (program->condition->ops[op].code == BILLING_OP_TEXT)
				texts[count++] = constant_of(program, op, BILLING_TYPE_TEXT)->text;
		}
	}
	qsort(texts, count, sizeof(BillingText), compare_texts);
	for (int i = 0; i < count; i++)
	{
		if (distinct == 0 || compare_texts(&texts[i], &texts[distinct - 1]) != 0)
			texts[distinct++] = texts[i];
	}
	compiled->constants.count = distinct;
	compiled->constants.texts = texts;
}

/* Compile a set, which must stay where it is; palloc'd in the current context. */
BillingCompiledSet *
billing_workflow_compile_policies(const BillingPolicySet *set)
{
	BillingCompiledSet *compiled = palloc0(sizeof(BillingCompiledSet));

	compiled->set = set;
	compiled->npolicies = set->npolicies;
	compiled->policies = palloc0(sizeof(BillingPolicy) * (set->npolicies + 1));
	compiled->slots =
		(UINT64CONST(1) << BILLING_FACT_KIND) | (UINT64CONST(1) << BILLING_FACT_AMOUNT);
	for (int i = 0; i < set->npolicies; i++)
		bind_policy(compiled, &set->policies[i], &compiled->policies[i]);
	collect_constants(compiled);
	compile_decisions(compiled);
	return compiled;
}
