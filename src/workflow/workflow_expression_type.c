/*
 * workflow_expression_type.c
 *		The SQL type billing.condition: input, output, send and receive.
 */
#include "pg_compat.h"

#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "workflow/workflow_expression.h"

/* The binary form is this byte and the canonical text. */
#define BINARY_VERSION 1

/* Get at a stored condition, aligned. */
const BillingCondition *
billing_workflow_fetch_condition(Datum stored)
{
	struct varlena *datum = (struct varlena *) DatumGetPointer(stored);
	const BillingCondition *condition;

	if (VARATT_IS_4B_U(datum) && datum == (struct varlena *) INTALIGN(datum))
		condition = (const BillingCondition *) datum;
	else
		condition = (const BillingCondition *) pg_detoast_datum_copy(datum);
	if (condition->format != BILLING_CONDITION_FORMAT)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("a stored condition has format %d, this library reads %d",
							   condition->format, BILLING_CONDITION_FORMAT),
						errdetail("The condition was written by another version of the extension."),
						errhint("Install the library that belongs to the extension's version.")));
	return condition;
}

PG_FUNCTION_INFO_V1(billing_workflow_condition_in);
PG_FUNCTION_INFO_V1(billing_workflow_condition_out);
PG_FUNCTION_INFO_V1(billing_workflow_condition_recv);
PG_FUNCTION_INFO_V1(billing_workflow_condition_send);

/* billing_internal.condition_in(cstring) RETURNS billing.condition */
Datum
billing_workflow_condition_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);

	PG_RETURN_POINTER(billing_workflow_parse_condition(text, strlen(text), NULL));
}

/* billing_internal.condition_out(billing.condition) RETURNS cstring */
Datum
billing_workflow_condition_out(PG_FUNCTION_ARGS)
{
	const BillingCondition *condition = billing_workflow_fetch_condition(PG_GETARG_DATUM(0));

	PG_RETURN_CSTRING(pnstrdup(billing_condition_text(condition), condition->ntext));
}

/* billing_internal.condition_recv(internal) RETURNS billing.condition */
Datum
billing_workflow_condition_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int version = message->cursor < message->len ? pq_getmsgbyte(message) : 0;
	int length;
	char *text;

	if (version != BINARY_VERSION)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_CONDITION),
						errmsg("invalid condition: unknown binary version %d", version),
						errdetail("The binary form is a byte %d and the text.", BINARY_VERSION),
						errhint("Send the condition as text.")));
	text = pq_getmsgtext(message, message->len - message->cursor, &length);
	PG_RETURN_POINTER(billing_workflow_parse_condition(text, length, NULL));
}

/* billing_internal.condition_send(billing.condition) RETURNS bytea */
Datum
billing_workflow_condition_send(PG_FUNCTION_ARGS)
{
	const BillingCondition *condition = billing_workflow_fetch_condition(PG_GETARG_DATUM(0));
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbyte(&message, BINARY_VERSION);
	pq_sendtext(&message, billing_condition_text(condition), condition->ntext);
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}
