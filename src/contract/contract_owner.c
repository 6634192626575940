/*
 * contract_owner.c
 *		Whose contract it is: whom policies ask that ask the contract's owner.
 *
 * An admin says so, not a contract manager, who would choose who approves the
 * billing of their own contracts.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "utils/builtins.h"

/* $1 entity, $2 code */
static BillingStatement person_by_code = {
	"SELECT person_id::bigint FROM billing.person WHERE $1 IS NOT NULL AND code = $2 AND person_id <> 0",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 contract, $3 owner */
static BillingStatement set_owner = {
	"UPDATE billing.contract SET owner_id = $3 WHERE entity_id = $1 AND contract_id = $2",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

PG_FUNCTION_INFO_V1(billing_contract_set_owner);

/* billing.set_contract_owner(entity text, contract text, person text) RETURNS void: null for nobody */
Datum
billing_contract_set_owner(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *contract = billing_core_arg_code(fcinfo, 1, "contract");
	char *person = billing_core_arg_optional_code(fcinfo, 2, "person");
	Datum values[3];

	billing_core_require_admin(entity_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(
		billing_core_lookup(entity_id, contract, "contract", &billing_contract_by_code));
	if (person != NULL)
	{
		values[2] = Int32GetDatum(
			(int32) billing_core_lookup(entity_id, person, "person", &person_by_code));
		if (!billing_core_is_installation_admin() &&
			(DatumGetInt32(values[2]) == billing_core_actor_person() ||
			 DatumGetInt32(values[2]) == billing_core_login_person()))
			ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
							errmsg("nobody makes themselves the owner of a contract"),
							errhint("Ask another person with the duty admin.")));
	}
	SPI_connect();
	billing_core_run(&set_owner, values, person == NULL ? "  n" : NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}
