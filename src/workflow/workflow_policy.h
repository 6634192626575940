/*
 * workflow_policy.h
 *		Approval policies: the set that holds for an entity, compiled so that a
 *		document is matched against all of them in about a microsecond.
 *
 * A set is loaded once (workflow_policy_load.c) into one value, which travels as
 * a parameter and so reaches parallel workers; whoever matches compiles it once
 * per statement (workflow_policy_compile.c) and runs it for every document
 * (workflow_policy_match.c).
 */
#ifndef BILLING_WORKFLOW_POLICY_H
#define BILLING_WORKFLOW_POLICY_H

#include "pg_compat.h"

#include "core/core.h"
#include "nodes/pg_list.h"
#include "workflow/condition.h"

/* the columns of billing.document_facts that the code itself asks for */
#define BILLING_FACT_KIND 0
#define BILLING_FACT_AMOUNT 1
#define BILLING_FACT_COUNT 14

typedef enum BillingOutcome
{
	BILLING_OUTCOME_AUTOMATIC,
	BILLING_OUTCOME_LEVELS,
	BILLING_OUTCOME_FORBID
} BillingOutcome;

/* What a policy is in a loaded set; offsets count from the start of the set. */
typedef struct BillingPolicyEntry
{
	int64 policy_id;
	int32 entity_id;
	int32 strength; /* how many approvals it asks for */
	int32 outcome;	/* BillingOutcome */
	int32 kind_at;	/* texts end with a zero byte */
	int32 code_at;
	int32 rate_at;		/* from the document's entity's currency to the policy's; 0: the same */
	int32 condition_at; /* 0: always */
	int32 priority;
} BillingPolicyEntry;

/* A loaded set: policies by kind, then in the order in which they are asked. */
typedef struct BillingPolicySet
{
	int32 vl_len_; /* varlena header, do not touch directly */
	int32 npolicies;
	uint64 hash[2]; /* of all that follows */
	BillingPolicyEntry policies[FLEXIBLE_ARRAY_MEMBER];
} BillingPolicySet;

/*
 * A fact is tested as a key: a number as twice its whole part at this many
 * decimals, plus 1 where there are more decimals; a text as its number among the
 * constants of the set, or -1; a boolean as 0 or 1.
 */
#define BILLING_KEY_SCALE 6

/* Where a decision ends: with policy number n, or with none. */
#define BILLING_FOUND(n) (-1 - (n))
#define BILLING_NOT_FOUND PG_INT32_MIN

typedef enum BillingTestKind
{
	BILLING_TEST_RANGE,	 /* a key lies in a range */
	BILLING_TEST_LIST,	 /* a list has a constant */
	BILLING_TEST_NULL,	 /* a field is null */
	BILLING_TEST_GENERAL /* whatever else: the evaluator says */
} BillingTestKind;

/*
 * One test of a decision.  It passes where what it asks is true, or, negated,
 * false; what is null never passes.
 */
typedef struct BillingTest
{
	int64 low;
	int64 high;
	int32 next[2]; /* where to go: not passed, passed */
	uint8 kind;
	uint8 slot;
	bool negated;
	int16 op; /* the operation of the condition that it stands for */
	int32 policy;
	int32 constant; /* BILLING_TEST_LIST */
} BillingTest;

/* A policy, ready to be asked. */
typedef struct BillingPolicy
{
	const BillingPolicyEntry *entry;
	const char *kind;
	int kind_length;
	int next_kind; /* the number of the first policy of the next kind */
	const char *code;
	const BillingProgram *program; /* NULL: always */
	int32 first_test;
	bool has_rate; /* its amounts are in another currency than the document's entity's */
	BillingValue rate;
} BillingPolicy;

/* The texts that the policies of a set compare fields with, sorted. */
typedef struct BillingConstants
{
	int count;
	BillingText *texts;
} BillingConstants;

typedef struct BillingCompiledSet
{
	const BillingPolicySet *set;
	int npolicies;
	BillingPolicy *policies;
	BillingConstants constants;
	BillingTest *tests; /* of all policies: where one fails, the next of its kind begins */
	uint64 slots;		/* fields that any of them reads */
} BillingCompiledSet;

/* workflow_policy.c: finds a kind of document */
extern BillingStatement billing_workflow_document_kind;

/* workflow_policy_level.c */
extern List *billing_workflow_read_levels(FunctionCallInfo fcinfo, int argno, const char *outcome);
extern void billing_workflow_write_levels(int32 entity_id, int64 policy_id, List *levels);

/* workflow_policy_load.c */
extern BillingPolicySet *billing_workflow_load_policies(int32 entity_id, DateADT day);

/* workflow_policy_apply.c */
extern bool billing_workflow_find_facts(int32 entity_id, int64 document_id, const char *function,
										Datum *facts);

/* workflow_policy_compile.c */
extern BillingCompiledSet *billing_workflow_compile_policies(const BillingPolicySet *set);
extern int32 billing_workflow_constant(const BillingConstants *constants, BillingText wanted);

/* workflow_policy_match.c: policies are numbered as in the set */
extern bool billing_workflow_policies_of(const BillingCompiledSet *compiled, BillingText kind,
										 int *first, int *end);
extern void billing_workflow_convert_amount(const BillingPolicy *policy, BillingValue *facts);
extern int billing_workflow_first_policy(const BillingCompiledSet *compiled, BillingText kind,
										 BillingValue *facts, bool known);

#endif /* BILLING_WORKFLOW_POLICY_H */
