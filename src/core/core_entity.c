/*
 * core_entity.c
 *		Finds a legal entity by its code, and what day it is there.
 *
 * An entity that the actor may not see and one that does not exist are told
 * apart by nobody.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"

static BillingStatement find_entity = {
	"SELECT entity_id FROM billing.legal_entity WHERE code = $1", 1, { TEXTOID }, NULL
};

static BillingStatement today_there = {
	"SELECT (now() AT TIME ZONE time_zone)::date FROM billing.legal_entity WHERE entity_id = $1",
	1,
	{ INT4OID },
	NULL
};

/* The id of an entity that the actor may see, or ERRCODE_BILLING_UNKNOWN_CODE. */
int32
billing_core_entity_id(const char *code)
{
	Datum values[1];
	int32 entity_id = 0;
	bool found;

	values[0] = CStringGetTextDatum(code);
	SPI_connect();
	found = billing_core_run(&find_entity, values, NULL, true) > 0;
	if (found)
		entity_id = DatumGetInt32(billing_core_value(0, 0, NULL));
	SPI_finish();
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("entity \"%s\" does not exist", code),
						errdetail("No entity of that code is visible to the actor."),
						errhint("SELECT code FROM billing.legal_entity lists those that are.")));
	return entity_id;
}

/* The entity that an argument names. */
int32
billing_core_arg_entity(FunctionCallInfo fcinfo, int argno)
{
	return billing_core_entity_id(billing_core_arg_code(fcinfo, argno, "entity"));
}

/* Today in the entity's time zone, at the transaction's start. */
DateADT
billing_core_entity_today(int32 entity_id)
{
	Datum values[1];
	DateADT today = 0;

	values[0] = Int32GetDatum(entity_id);
	SPI_connect();
	if (billing_core_run(&today_there, values, NULL, true) > 0)
		today = DatumGetDateADT(billing_core_value(0, 0, NULL));
	SPI_finish();
	return today;
}

PG_FUNCTION_INFO_V1(billing_core_find_entity);

/* billing_internal.entity_id(entity text) RETURNS integer */
Datum
billing_core_find_entity(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(billing_core_arg_entity(fcinfo, 0));
}
