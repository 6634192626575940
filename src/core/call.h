/*
 * call.h
 *		An API function as a row: what its arguments are, which duty it needs,
 *		and the one statement that does it.
 *
 * Most functions of the interface check their arguments, find things by code,
 * ask for a duty and write a row.  Declaring them keeps every one of them
 * checked in the same way.  The argument at position 0 is always the entity.
 */
#ifndef BILLING_CALL_H
#define BILLING_CALL_H

#include "core/core.h"

#define BILLING_MAX_CALL_ARGS 20

typedef enum BillingArgKind
{
	ARG_ENTITY,	   /* text -> integer: the entity's id */
	ARG_CODE,	   /* text, checked as a code */
	ARG_TEXT,	   /* text, checked as a text */
	ARG_DATE,	   /* date, finite */
	ARG_NUMERIC,   /* numeric, finite */
	ARG_INTEGER,   /* integer */
	ARG_BOOLEAN,   /* boolean */
	ARG_REFERENCE, /* text -> bigint: the id of what the code names, found by lookup */
	ARG_ANY		   /* any other type, passed on as it is */
} BillingArgKind;

typedef struct BillingArg
{
	const char *name; /* as people call it, for messages */
	BillingArgKind kind;
	bool optional;			  /* null is passed on */
	BillingStatement *lookup; /* ARG_REFERENCE: $1 entity id, $2 code, returns the id */
} BillingArg;

typedef struct BillingCall
{
	const char *duty; /* needed in the entity; NULL: the caller has checked */
	int nargs;
	BillingArg args[BILLING_MAX_CALL_ARGS];
	BillingStatement statement; /* nargs and argtypes follow from the arguments */
} BillingCall;

extern int32 billing_core_call_entity(FunctionCallInfo fcinfo, BillingCall *call);
extern uint64 billing_core_call(FunctionCallInfo fcinfo, BillingCall *call);
extern int64 billing_core_lookup(int32 entity_id, const char *code, const char *name,
								 BillingStatement *lookup);

#endif /* BILLING_CALL_H */
