/*
 * workflow_policy_match.c
 *		Finds the policy of a document: of those of its kind, the first by priority
 *		whose condition holds.
 *
 * Where the amount is not known, because there is no exchange rate, policies that
 * ask for it might hold.  Then all that could be the first one are considered,
 * and the strictest of them counts.
 */
#include "pg_compat.h"

#include "utils/builtins.h"

#include "workflow/workflow_policy.h"

/* beyond this, a key says no more than "very large" */
#define LARGEST_KEY (INT64CONST(1) << 61)

/* The facts of a document as keys. */
typedef struct Document
{
	const BillingCompiledSet *compiled;
	const BillingValue *facts;
	int64 keys[BILLING_FACT_COUNT];
	bool known[BILLING_FACT_COUNT];
} Document;

/* The key of a number; false where it has none. */
static bool
key_of(const BillingValue *value, int64 *key)
{
	int128 number = value->number;
	int128 rest = 0;

	if (value->wide != NULL)
		return false;
	if (value->scale <= BILLING_KEY_SCALE)
		number *= billing_core_decimal_power[BILLING_KEY_SCALE - value->scale];
	else if (value->scale - BILLING_KEY_SCALE <= BILLING_DECIMAL_DIGITS)
	{
		int64 unit = billing_core_decimal_power[value->scale - BILLING_KEY_SCALE];

		rest = number % unit;
		number /= unit;
		if (rest < 0)
			number--;
	}
	else
		return false;
	if (number > LARGEST_KEY || number < -LARGEST_KEY)
		*key = number > 0 ? PG_INT64_MAX - 1 : PG_INT64_MIN + 1;
	else
		*key = (int64) number * 2 + (rest != 0);
	return true;
}

/* Make the facts that are asked for keys; false where one has none. */
static bool
make_keys(Document *document)
{
	for (int slot = 0; slot < BILLING_FACT_COUNT; slot++)
	{
		const BillingValue *value = &document->facts[slot];

		document->known[slot] = value->type != BILLING_TYPE_ANY;
		document->keys[slot] = 0;
		if (value->type == BILLING_TYPE_BOOLEAN)
			document->keys[slot] = value->boolean;
		else if (value->type == BILLING_TYPE_TEXT)
			document->keys[slot] =
				billing_workflow_constant(&document->compiled->constants, value->text);
		else if (value->type == BILLING_TYPE_NUMBER && !key_of(value, &document->keys[slot]))
			return false;
	}
	return true;
}

/* Whether a list has a constant. */
static bool
has_constant(const Document *document, const BillingTest *test)
{
	const BillingValue *list = &document->facts[test->slot];
	BillingText wanted = document->compiled->constants.texts[test->constant];

	for (int i = 0; i < list->nitems; i++)
	{
		if (list->items[i].length == wanted.length &&
			memcmp(list->items[i].data, wanted.data, wanted.length) == 0)
			return true;
	}
	return false;
}

/* Whether a test passes that is none of a range. */
static bool
passes(const Document *document, const BillingTest *test)
{
	bool known = document->known[test->slot];
	BillingValue value;

	if (test->kind == BILLING_TEST_NULL)
		return known == test->negated;
	if (test->kind == BILLING_TEST_LIST)
		return known && has_constant(document, test) != test->negated;
	value = billing_workflow_evaluate_op(document->compiled->policies[test->policy].program,
										 test->op, document->facts);
	return value.type == BILLING_TYPE_BOOLEAN && value.boolean != test->negated;
}

/* Follow a decision to its end; tests of ranges take no branch. */
static int32
decide(const Document *document, int32 at)
{
	while (at >= 0)
	{
		const BillingTest *test = &document->compiled->tests[at];
		int64 key = document->keys[test->slot];
		bool passed;

		if (likely(test->kind == BILLING_TEST_RANGE))
			passed = document->known[test->slot] &
					 (((key >= test->low) & (key <= test->high)) ^ test->negated);
		else
			passed = passes(document, test);
		at = test->next[passed];
	}
	return at;
}

/* The first policy whose condition the evaluator finds true, or -1. */
static int
first_evaluated(const BillingCompiledSet *compiled, int first, int end, const BillingValue *facts)
{
	for (int i = first; i < end; i++)
	{
		const BillingProgram *program = compiled->policies[i].program;
		BillingValue value;

		if (program == NULL)
			return i;
		value = billing_workflow_evaluate(program, facts);
		if (value.type == BILLING_TYPE_BOOLEAN && value.boolean)
			return i;
	}
	return -1;
}

/* The policies of a kind; false where there are none. */
bool
billing_workflow_policies_of(const BillingCompiledSet *compiled, BillingText kind, int *first,
							 int *end)
{
	const BillingPolicy *policies = compiled->policies;
	int at = 0;

	while (at < compiled->npolicies && (policies[at].kind_length != kind.length ||
										memcmp(policies[at].kind, kind.data, kind.length) != 0))
		at = policies[at].next_kind;
	if (at >= compiled->npolicies)
		return false;
	*first = at;
	*end = policies[at].next_kind;
	return true;
}

/* Bring the amount to the currency of the policies of a kind, which share one. */
void
billing_workflow_convert_amount(const BillingPolicy *policy, BillingValue *facts)
{
	if (policy->has_rate)
		facts[BILLING_FACT_AMOUNT] =
			billing_workflow_arithmetic(BILLING_OP_MULTIPLY, &facts[BILLING_FACT_AMOUNT],
										&policy->rate);
}

/* Whether one policy asks for more than another. */
static bool
is_stricter(const BillingPolicyEntry *a, const BillingPolicyEntry *b)
{
	if (a->outcome != b->outcome)
		return a->outcome > b->outcome;
	return a->strength > b->strength;
}

/*
 * The strictest of the policies that could be the first: those whose condition is
 * not known, because of the amount or because nothing is known, and the first one
 * that holds.
 */
static int
strictest_policy(const BillingCompiledSet *compiled, int first, int end, const BillingValue *facts,
				 bool known)
{
	int best = -1;
	bool found = false;

	for (int i = first; i < end && !found; i++)
	{
		const BillingPolicy *policy = &compiled->policies[i];
		bool possible = policy->program == NULL;

		found = possible;
		if (!possible)
		{
			BillingValue value = billing_workflow_evaluate(policy->program, facts);

			found = value.type == BILLING_TYPE_BOOLEAN && value.boolean;
			possible = found || (value.type == BILLING_TYPE_ANY &&
								 (!known || (policy->program->slots &
											 (UINT64CONST(1) << BILLING_FACT_AMOUNT)) != 0));
		}
		if (possible && (best < 0 || is_stricter(policy->entry, compiled->policies[best].entry)))
			best = i;
	}
	return best;
}

/*
 * The policy of a document: its number in the set, or -1.  Without known, nothing
 * but the kind is.  The amount is converted in place.
 */
int
billing_workflow_first_policy(const BillingCompiledSet *compiled, BillingText kind,
							  BillingValue *facts, bool known)
{
	Document document;
	int first;
	int end;
	int32 found;

	if (!billing_workflow_policies_of(compiled, kind, &first, &end))
		return -1;
	billing_workflow_convert_amount(&compiled->policies[first], facts);
	if (!known || facts[BILLING_FACT_AMOUNT].type == BILLING_TYPE_ANY)
		return strictest_policy(compiled, first, end, facts, known);
	document.compiled = compiled;
	document.facts = facts;
	if (!make_keys(&document))
		return first_evaluated(compiled, first, end, facts);
	found = decide(&document, compiled->policies[first].first_test);
	return found == BILLING_NOT_FOUND ? -1 : -1 - found;
}

/* The set as it was compiled at the last call of this expression. */
static const BillingCompiledSet *
compiled_set(FmgrInfo *flinfo, Datum stored)
{
	struct varlena *datum = PG_DETOAST_DATUM(stored);
	BillingPolicySet head;
	BillingCompiledSet *compiled = flinfo->fn_extra;
	MemoryContext caller;
	BillingPolicySet *copy;

	/* in a row it may lie at any multiple of four */
	memcpy(&head, datum, offsetof(BillingPolicySet, policies));
	if (compiled != NULL && VARSIZE(compiled->set) == VARSIZE(datum) &&
		compiled->set->hash[0] == head.hash[0] && compiled->set->hash[1] == head.hash[1])
		return compiled;
	caller = MemoryContextSwitchTo(flinfo->fn_mcxt);
	copy = palloc(VARSIZE(datum));
	memcpy(copy, datum, VARSIZE(datum));
	compiled = billing_workflow_compile_policies(copy);
	flinfo->fn_extra = compiled;
	MemoryContextSwitchTo(caller);
	return compiled;
}

PG_FUNCTION_INFO_V1(billing_workflow_find_policy);

/*
 * billing_internal.first_policy(policies bytea, kind text, facts billing.document_facts)
 * RETURNS integer
 *
 * The number in billing_internal.policy_set() of the policy that a document gets,
 * from 0, or null.  Null facts are facts that could not be found.
 */
Datum
billing_workflow_find_policy(PG_FUNCTION_ARGS)
{
	const BillingCompiledSet *compiled;
	BillingValue facts[BILLING_FACT_COUNT];
	text *kind;
	BillingText wanted;
	int found;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	compiled = compiled_set(fcinfo->flinfo, PG_GETARG_DATUM(0));
	kind = PG_GETARG_TEXT_PP(1);
	wanted = (BillingText){ VARDATA_ANY(kind), (int) VARSIZE_ANY_EXHDR(kind) };
	if (PG_ARGISNULL(2))
		memset(facts, 0, sizeof(facts));
	else
		billing_workflow_read_facts(PG_GETARG_DATUM(2), compiled->slots, facts);
	found = billing_workflow_first_policy(compiled, wanted, facts, !PG_ARGISNULL(2));
	if (found < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(found);
}
