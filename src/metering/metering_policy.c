/*
 * metering_policy.c
 *		What an entity decides about its usage: when it is late, what is corrected
 *		without approval, how long it is kept.
 */
#include "pg_compat.h"

#include "core/call.h"
#include "core/core.h"
#include "metering/metering.h"

static BillingCall set_policy = {
	NULL,
	6,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "days after which usage is late", ARG_INTEGER, true, NULL },
	  { "late action", ARG_CODE, true, NULL },
	  { "correction limit", ARG_NUMERIC, true, NULL },
	  { "suggestion threshold", ARG_NUMERIC, true, NULL },
	  { "months of retention", ARG_INTEGER, true, NULL } },
	{ "INSERT INTO billing.usage_policy (entity_id, late_after_days, late_action, correction_limit,"
	  " suggestion_threshold, retention_months) VALUES ($1, $2, coalesce($3, 'bill'), $4, $5, $6)"
	  " ON CONFLICT (entity_id) DO UPDATE SET late_after_days = excluded.late_after_days,"
	  " late_action = excluded.late_action, correction_limit = excluded.correction_limit,"
	  " suggestion_threshold = excluded.suggestion_threshold,"
	  " retention_months = excluded.retention_months",
	  0,
	  { 0 },
	  NULL }
};

PG_FUNCTION_INFO_V1(billing_metering_set_usage_policy);

/*
 * billing.set_usage_policy(entity text, late_after_days integer, late_action text,
 *     correction_limit numeric, suggestion_threshold numeric, retention_months integer)
 *     RETURNS void
 */
Datum
billing_metering_set_usage_policy(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(billing_core_arg_entity(fcinfo, 0));
	SPI_connect();
	(void) billing_core_call(fcinfo, &set_policy);
	SPI_finish();
	PG_RETURN_VOID();
}
