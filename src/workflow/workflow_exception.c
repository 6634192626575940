/*
 * workflow_exception.c
 *		Resolving exceptions by hand.
 *
 * Rooms raise exceptions by inserting rows; what is resolved by a mended cause
 * (replayed usage, a validated invoice) is resolved by the room that raised it.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* $1 entity, $2 exception */
static BillingStatement find_exception = {
	"SELECT k.owner_duty, x.state FROM billing.exception x JOIN billing.exception_kind k USING (kind)"
	" WHERE x.entity_id = $1 AND x.exception_id = $2 FOR UPDATE OF x",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 exception, $3 actor, $4 resolution */
static BillingStatement resolve = {
	"WITH done AS (UPDATE billing.exception SET state = 'resolved', resolved_at = now(),"
	" resolved_by = $3, resolution = $4 WHERE entity_id = $1 AND exception_id = $2"
	" RETURNING entity_id, exception_id, kind)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, before, after, reason)"
	" SELECT entity_id, 'resolve', 'exception', exception_id::text, '{\"state\": \"open\"}',"
	" jsonb_build_object('state', 'resolved', 'kind', kind), $4 FROM done",
	4,
	{ INT4OID, INT8OID, INT4OID, TEXTOID },
	NULL
};

PG_FUNCTION_INFO_V1(billing_workflow_resolve_exception);

/*
 * billing.resolve_exception(entity text, exception_id bigint, resolution text) RETURNS void
 *
 * For the duty that owns the exception's kind.  Resolving again is refused, so
 * that the first resolution stands.
 */
Datum
billing_workflow_resolve_exception(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *resolution = billing_core_arg_text(fcinfo, 2, "resolution");
	Datum values[4];
	char *duty;
	char *state;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("exception must not be null"),
				 errhint("billing.open_exception lists those that are open.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = CStringGetTextDatum(resolution);
	SPI_connect();
	if (billing_core_run(&find_exception, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("exception " INT64_FORMAT " does not exist", PG_GETARG_INT64(1)),
						errhint("billing.open_exception lists those that are open.")));
	duty = billing_core_text_value(0, 0);
	state = billing_core_text_value(0, 1);
	billing_core_require_duty(entity_id, duty);
	if (strcmp(state, "open") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_TRANSITION),
				 errmsg("exception " INT64_FORMAT " is resolved already", PG_GETARG_INT64(1)),
				 errhint("Its row in billing.exception says by whom and how.")));
	billing_core_run(&resolve, values, NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}
