/*
 * core_call.c
 *		Carries out API functions that are declared as rows (see call.h).
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "utils/builtins.h"

/* The id that a code stands for in an entity, or ERRCODE_BILLING_UNKNOWN_CODE. */
int64
billing_core_lookup(int32 entity_id, const char *code, const char *name, BillingStatement *lookup)
{
	Datum values[2];
	int64 id = 0;
	bool found;

	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(code);
	SPI_connect();
	found = billing_core_run(lookup, values, NULL, false) > 0;
	if (found)
		id = DatumGetInt64(billing_core_value(0, 0, NULL));
	SPI_finish();
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("%s \"%s\" does not exist", name, code),
						errdetail("No %s of that code is in the entity.", name),
						errhint("Create it first, or check the spelling; codes are compared "
								"byte by byte.")));
	return id;
}

/* The type under which an argument reaches the statement. */
static Oid
parameter_type(FunctionCallInfo fcinfo, BillingArg *arg, int argno)
{
	switch (arg->kind)
	{
		case ARG_ENTITY:
		case ARG_INTEGER:
			return INT4OID;
		case ARG_CODE:
		case ARG_TEXT:
			return TEXTOID;
		case ARG_DATE:
			return DATEOID;
		case ARG_NUMERIC:
			return NUMERICOID;
		case ARG_BOOLEAN:
			return BOOLOID;
		case ARG_REFERENCE:
			return INT8OID;
		case ARG_ANY:
			return get_fn_expr_argtype(fcinfo->flinfo, argno);
	}
	return InvalidOid;
}

/* Check one argument and turn it into the statement's parameter. */
static Datum
parameter_value(FunctionCallInfo fcinfo, BillingArg *arg, int argno, int32 entity_id)
{
	char *code;

	switch (arg->kind)
	{
		case ARG_ENTITY:
			return Int32GetDatum(entity_id);
		case ARG_CODE:
			return CStringGetTextDatum(billing_core_arg_code(fcinfo, argno, arg->name));
		case ARG_TEXT:
			return CStringGetTextDatum(billing_core_arg_text(fcinfo, argno, arg->name));
		case ARG_DATE:
			return DateADTGetDatum(billing_core_arg_date(fcinfo, argno, arg->name));
		case ARG_NUMERIC:
			return NumericGetDatum(billing_core_arg_numeric(fcinfo, argno, arg->name));
		case ARG_REFERENCE:
			code = billing_core_arg_code(fcinfo, argno, arg->name);
			return Int64GetDatum(billing_core_lookup(entity_id, code, arg->name, arg->lookup));
		case ARG_INTEGER:
		case ARG_BOOLEAN:
		case ARG_ANY:
			break;
	}
	if (PG_ARGISNULL(argno))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be null", arg->name),
						errhint("Give a value for %s.", arg->name)));
	return PG_GETARG_DATUM(argno);
}

/* The entity that the call is about, after its duty has been asked for. */
int32
billing_core_call_entity(FunctionCallInfo fcinfo, BillingCall *call)
{
	int32 entity_id;

	if (call->nargs == 0 || call->args[0].kind != ARG_ENTITY)
		return 0;
	entity_id = billing_core_arg_entity(fcinfo, 0);
	if (call->duty != NULL)
		billing_core_require_duty(entity_id, call->duty);
	return entity_id;
}

/*
 * Carry a call out and return how many rows its statement gave; they are in
 * SPI_tuptable.  The caller has connected to SPI.
 */
uint64
billing_core_call(FunctionCallInfo fcinfo, BillingCall *call)
{
	int32 entity_id = billing_core_call_entity(fcinfo, call);
	Datum values[BILLING_MAX_CALL_ARGS];
	char nulls[BILLING_MAX_CALL_ARGS + 1];
	int i;

	for (i = 0; i < call->nargs; i++)
	{
		BillingArg *arg = &call->args[i];

		nulls[i] = ' ';
		values[i] = (Datum) 0;
		if (call->statement.plan == NULL)
			call->statement.argtypes[i] = parameter_type(fcinfo, arg, i);
		if (arg->optional && PG_ARGISNULL(i))
			nulls[i] = 'n';
		else
			values[i] = parameter_value(fcinfo, arg, i, entity_id);
	}
	call->statement.nargs = call->nargs;
	return billing_core_run(&call->statement, values, nulls, false);
}
