/*
 * condition.h
 *		The type billing.condition: a small language of conditions over named
 *		fields, how it is stored, and how it is evaluated.
 *
 * From the loosest to the tightest, as in SQL:
 *	or   and   not   is [not] null|true|false   = <> != < <= > >= (not chained)
 *	[not] in (literals), [not] in field, [not] between a and b   + -   * /   - (sign)
 *
 * A value is null (not known), a number, a text or a boolean; a field may also
 * be a list of texts, which only "in" and "is null" take.  Logic has three
 * values: "and" is false where one side is false, else null where one is null;
 * "or" likewise with true; "not" of null is null.  Arithmetic, comparisons, in
 * and between give null where what they need is null.  A condition holds only
 * where it is true.
 *
 * Numbers are exact.  A quotient is rounded to 12 decimals, half away from zero;
 * a division by zero, and a number of 10^100 or more, is null.  Texts are
 * compared byte by byte.
 *
 * The type stores the names of fields.  Which there are, and of which type, is
 * a set of fields that whoever uses the condition gives; a value of another type
 * than the condition needs (only possible where it was never checked) is null.
 */
#ifndef BILLING_CONDITION_H
#define BILLING_CONDITION_H

#include "pg_compat.h"

#include "core/decimal.h"
#include "utils/numeric.h"

/* what is stored; another layout gets another number */
#define BILLING_CONDITION_FORMAT 1

#define BILLING_CONDITION_MAX_TEXT 2000
#define BILLING_CONDITION_MAX_DEPTH 32
#define BILLING_CONDITION_MAX_NODES 500
#define BILLING_CONDITION_MAX_DIGITS 38
#define BILLING_CONDITION_MAX_NAME 100
/* a quotient has so many decimals */
#define BILLING_CONDITION_QUOTIENT_SCALE 12

typedef enum BillingType
{
	BILLING_TYPE_ANY, /* not known before it is evaluated; of a value: null */
	BILLING_TYPE_NUMBER,
	BILLING_TYPE_TEXT,
	BILLING_TYPE_BOOLEAN,
	BILLING_TYPE_LIST
} BillingType;

typedef enum BillingOpCode
{
	BILLING_OP_NUMBER,
	BILLING_OP_TEXT,
	BILLING_OP_TRUE,
	BILLING_OP_FALSE,
	BILLING_OP_FIELD,
	BILLING_OP_NEGATE,
	BILLING_OP_ADD,
	BILLING_OP_SUBTRACT,
	BILLING_OP_MULTIPLY,
	BILLING_OP_DIVIDE,
	BILLING_OP_EQUAL,
	BILLING_OP_UNEQUAL,
	BILLING_OP_LESS,
	BILLING_OP_LESS_EQUAL,
	BILLING_OP_GREATER,
	BILLING_OP_GREATER_EQUAL,
	BILLING_OP_IN,		/* the value, then count literals */
	BILLING_OP_IN_LIST, /* the value, then a list */
	BILLING_OP_BETWEEN, /* the value, the lower and the upper bound */
	BILLING_OP_IS_NULL,
	BILLING_OP_IS_TRUE,
	BILLING_OP_IS_FALSE,
	BILLING_OP_NOT,
	BILLING_OP_AND, /* of count operands */
	BILLING_OP_OR,	/* of count operands */
	/* steps of a program only */
	BILLING_STEP_JUMP_IF_FALSE,
	BILLING_STEP_JUMP_IF_TRUE
} BillingOpCode;

/*
 * One operation.  Operations are stored in postfix order: an operation's operands
 * are right before it, so the last operand of operation i is i - 1, and the one
 * before an operand j is first[j] - 1.
 */
typedef struct BillingOp
{
	uint8 code;
	uint8 type;	  /* BillingType of the result, as far as the text tells */
	uint16 count; /* operands */
	uint16 first; /* the first operation of its operands, itself without any */
	uint16 at;	  /* where it stands in the canonical text */
	uint16 length;
	uint16 padding;
} BillingOp;

/*
 * The stored form: this header, nops operations, and the canonical text, in
 * which constants and names are found.  A canonical text has one stored form.
 */
typedef struct BillingCondition
{
	int32 vl_len_; /* varlena header, do not touch directly */
	uint8 format;
	uint8 padding;
	uint16 nops;
	uint16 depth; /* most values that wait at once */
	uint16 ntext;
	BillingOp ops[FLEXIBLE_ARRAY_MEMBER];
} BillingCondition;

/* A field that conditions may name, and its place in an array of values. */
typedef struct BillingField
{
	const char *name;
	BillingType type;
} BillingField;

typedef struct BillingFieldSet
{
	const char *what; /* whose fields they are, for messages */
	int nfields;
	const BillingField *fields;
} BillingFieldSet;

typedef struct BillingText
{
	const char *data;
	int length;
} BillingText;

/* A value; a number that does not fit number and scale is in wide. */
typedef struct BillingValue
{
	uint8 type; /* BillingType; BILLING_TYPE_ANY is null */
	bool boolean;
	int16 scale;
	int32 nitems;
	int128 number;
	Numeric wide; /* NULL: number * 10^-scale */
	BillingText text;
	const BillingText *items;
} BillingValue;

/* An operation made ready for a set of fields: jumps, constants, slots. */
typedef struct BillingStep
{
	uint8 code;
	uint16 count;
	int32 operand; /* slot of a field, constant, or where to jump */
} BillingStep;

typedef struct BillingProgram
{
	const BillingCondition *condition;
	int nsteps;
	BillingStep *steps;
	BillingValue *constants;
	BillingValue *results;		/* of the operations that wait */
	const BillingValue **stack; /* the values that wait */
	int *first_step;			/* of each operation of the condition, with its operands */
	int *end_step;
	uint64 slots; /* bit 1 << slot of each field that it reads */
} BillingProgram;

static inline const char *
billing_condition_text(const BillingCondition *condition)
{
	return (const char *) &condition->ops[condition->nops];
}

/* workflow_expression_parse.c; fields may be NULL: then any name goes */
extern BillingCondition *billing_workflow_parse_condition(const char *text, Size length,
														  const BillingFieldSet *fields);
/* workflow_expression_type.c */
extern const BillingCondition *billing_workflow_fetch_condition(Datum stored);
/* workflow_expression_bind.c */
extern BillingProgram *billing_workflow_bind_condition(const BillingCondition *condition,
													   const BillingFieldSet *fields);
/* workflow_expression_eval.c: values has one for each field of the set */
extern BillingValue billing_workflow_evaluate(const BillingProgram *program,
											  const BillingValue *values);
extern BillingValue billing_workflow_evaluate_op(const BillingProgram *program, int op,
												 const BillingValue *values);
/* workflow_expression_number.c */
extern BillingValue billing_workflow_number(Datum numeric);
extern BillingValue billing_workflow_arithmetic(BillingOpCode code, const BillingValue *a,
												const BillingValue *b);
extern int billing_workflow_compare_numbers(const BillingValue *a, const BillingValue *b);
extern char *billing_workflow_number_text(const BillingValue *value);

/* workflow_facts.c */
extern const BillingFieldSet billing_workflow_facts;
extern void billing_workflow_read_facts(Datum facts, uint64 slots, BillingValue *values);

#endif /* BILLING_CONDITION_H */
