/*
 * core_verify.c
 *		billing.verify(): runs the checks of all rooms, like fsck.
 *
 * A room's checks are the function billing_internal.verify_<room>(entity_id),
 * which returns one row per invariant.  They are found in the catalog, so a new
 * room is verified without anybody remembering to say so.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

static BillingStatement find_checks = {
	"SELECT quote_ident(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
	" JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
	" WHERE n.nspname = 'billing_internal' AND p.proname LIKE 'verify\\_%'"
	" AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')"
	" ORDER BY p.oid",
	0,
	{ 0 },
	NULL
};

PG_FUNCTION_INFO_V1(billing_core_verify);

/*
 * billing.verify(entity text) RETURNS TABLE (invariant text, violations bigint, example text)
 *
 * One row per invariant; all is well where violations is 0 everywhere.  NULL
 * checks every entity that the actor may see.
 */
Datum
billing_core_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	bool one_entity = !PG_ARGISNULL(0);
	Datum argument[1] = { Int32GetDatum(one_entity ? billing_core_arg_entity(fcinfo, 0) : 0) };
	Oid argtype[1] = { INT4OID };
	char **checks;
	uint64 count;
	uint64 i;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	SPI_connect();
	count = billing_core_run(&find_checks, NULL, NULL, true);
	checks = palloc(sizeof(char *) * (count + 1));
	for (i = 0; i < count; i++)
		checks[i] = psprintf("SELECT invariant, violations, example FROM billing_internal.%s($1)",
							 billing_core_text_value(i, 0));
	for (i = 0; i < count; i++)
	{
		uint64 row;

		CHECK_FOR_INTERRUPTS();
		if (SPI_execute_with_args(checks[i], 1, argtype, argument, one_entity ? NULL : "n", true,
								  0) != SPI_OK_SELECT)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
					 errmsg("a check could not be run"), errdetail("The check is: %s", checks[i])));
		for (row = 0; row < SPI_processed; row++)
		{
			Datum values[3];
			bool nulls[3];
			int column;

			for (column = 0; column < 3; column++)
				values[column] = billing_core_value(row, column, &nulls[column]);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	SPI_finish();
	return (Datum) 0;
}
