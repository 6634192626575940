/*
 * masterdata_erase.c
 *		Erases what is known of a customer as a person: from the customer's row and
 *		from what stands aside of the audit log.
 *
 * The log keeps the commitments, so that every proof still holds.  Issued
 * documents stay as they are: they are kept by law.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "utils/builtins.h"

/* $1 entity, $2 code: against whoever writes about the customer meanwhile */
static BillingStatement lock_customer = {
	"SELECT customer_id FROM billing.customer WHERE entity_id = $1 AND code = $2 FOR NO KEY UPDATE",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 customer: its own audit record has the values once more, which the next statement takes */
static BillingStatement empty_row = {
	"UPDATE billing.customer SET name = 'erased', address = NULL, postal_code = NULL, city = NULL,"
	" tax_id = NULL, registration_id = NULL WHERE entity_id = $1 AND customer_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 customer, $3 reason */
static BillingStatement erase_values = {
	"WITH gone AS (DELETE FROM billing.audit_personal WHERE entity_id = $1 AND customer_id = $2"
	"  RETURNING 1), counted AS (SELECT count(*) AS erased FROM gone),"
	" logged AS (INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	"  SELECT $1, 'erase', 'customer', $2::text, jsonb_build_object('values', erased), $3 FROM counted)"
	" SELECT erased FROM counted",
	3,
	{ INT4OID, INT8OID, TEXTOID },
	NULL
};

PG_FUNCTION_INFO_V1(billing_masterdata_erase);

/*
 * billing.erase_personal_data(entity text, customer text, reason text) RETURNS bigint
 *
 * How many values of the audit log were erased.  Needs the duty admin.
 */
Datum
billing_masterdata_erase(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *customer = billing_core_arg_code(fcinfo, 1, "customer");
	char *reason = billing_core_arg_text(fcinfo, 2, "reason");
	Datum values[3];
	int64 erased;
	int32 actor;

	billing_core_require_duty(entity_id, "admin");
	SPI_connect();
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(customer);
	if (billing_core_run(&lock_customer, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("customer \"%s\" does not exist", customer),
						errhint("billing.customer lists the customers of your entities.")));
	values[1] = billing_core_value(0, 0, NULL);
	/* who erases need not be one who edits customers: the log has the row's change as the system's */
	actor = billing_core_enter_system();
	billing_core_run(&empty_row, values, NULL, false);
	billing_core_leave_system(actor);
	values[2] = CStringGetTextDatum(reason);
	billing_core_run(&erase_values, values, NULL, false);
	erased = DatumGetInt64(billing_core_value(0, 0, NULL));
	SPI_finish();
	PG_RETURN_INT64(erased);
}
