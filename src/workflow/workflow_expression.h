/*
 * workflow_expression.h
 *		What the files that read a condition share: the tree between its text and
 *		its stored form, and how it is refused.
 */
#ifndef BILLING_WORKFLOW_EXPRESSION_H
#define BILLING_WORKFLOW_EXPRESSION_H

#include "pg_compat.h"

#include "core/errors.h"
#include "workflow/condition.h"

typedef enum BillingToken
{
	TOKEN_END,
	TOKEN_NUMBER,
	TOKEN_TEXT,
	TOKEN_NAME, /* a field */
	TOKEN_KEYWORD,
	TOKEN_SYMBOL
} BillingToken;

/* Where reading stands: the token at hand lies at from, length bytes. */
typedef struct BillingReader
{
	const char *text;
	const char *end;
	const char *from;
	int length;
	BillingToken token;
	char word[12]; /* of a keyword in lower case, or a symbol */
	int depth;
	int nnodes;
	const BillingFieldSet *fields;
} BillingReader;

/* A node of the tree; operands hang on first and next. */
typedef struct BillingNode
{
	BillingOpCode code;
	BillingType type;
	const char *from; /* in the text as written, for errors */
	int length;
	char *value; /* of a constant or field: its canonical text */
	int noperands;
	struct BillingNode *first;
	struct BillingNode *last;
	struct BillingNode *next;
} BillingNode;

/* workflow_expression_read.c */
extern void billing_workflow_next_token(BillingReader *reader);
BILLING_NORETURN extern void billing_workflow_refuse_condition(const BillingReader *reader,
															   const char *from, int length,
															   const char *hint, const char *format,
															   ...) pg_attribute_printf(5, 6);
/* workflow_expression_check.c */
extern void billing_workflow_check_node(const BillingReader *reader, BillingNode *node);
/* workflow_expression_write.c */
extern BillingCondition *billing_workflow_write_condition(const BillingReader *reader,
														  BillingNode *root);

#endif /* BILLING_WORKFLOW_EXPRESSION_H */
