/*
 * invoicing_report.c
 *		What reports ask of C: that the run they are about exists.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"

/* $1 entity, $2 run */
static BillingStatement find_run = {
	"SELECT 1 FROM billing.billing_run WHERE entity_id = $1 AND run_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

PG_FUNCTION_INFO_V1(billing_invoicing_known_run);

/* billing_internal.known_run(entity text, run_id bigint) RETURNS bigint: the run, or ZB002 */
Datum
billing_invoicing_known_run(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[2];
	bool found;

	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("run must not be null"),
						errhint("billing.run_progress lists the runs.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	found = billing_core_run(&find_run, values, NULL, true) > 0;
	SPI_finish();
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("billing run " INT64_FORMAT " does not exist", PG_GETARG_INT64(1)),
						errhint("billing.run_progress lists the runs.")));
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}
