/*
 * metering_release.c
 *		Lets in events that are held because they were late.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "metering/metering.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define RELEASING_DUTY "biller"

/* $1 entity, $2 the last exception seen, $3 subject or null, $4 exceptions or null */
static BillingStatement take_held = {
	"SELECT x.exception_id, x.payload, x.raised_at, true FROM billing.exception x"
	" WHERE x.entity_id = $1 AND x.state = 'open' AND x.kind = 'usage_late' AND x.exception_id > $2"
	" AND ($3 IS NULL OR x.subject = $3) AND ($4 IS NULL OR x.exception_id = ANY ($4))"
	" ORDER BY x.exception_id LIMIT 10000 FOR UPDATE OF x SKIP LOCKED",
	4,
	{ INT4OID, INT8OID, TEXTOID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 exceptions: one that is nothing to be released */
static BillingStatement find_stranger = {
	"SELECT n.id FROM unnest($2) n (id) WHERE NOT EXISTS (SELECT FROM billing.exception x"
	" WHERE x.entity_id = $1 AND x.exception_id = n.id AND x.kind = 'usage_late') LIMIT 1",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 reason, $3 subject or null, $4 exceptions or null, $5 to $8 counts */
static BillingStatement write_audit = {
	"INSERT INTO billing.audit_log (entity_id, action, object_type, after, reason)"
	" VALUES ($1, 'release', 'usage', jsonb_strip_nulls(jsonb_build_object('subject', $3,"
	" 'exceptions', to_jsonb($4), 'accepted', $5, 'duplicate', $6, 'conflicting', $7,"
	" 'quarantined', $8)), $2)",
	8,
	{ INT4OID, TEXTOID, TEXTOID, INT8ARRAYOID, INT8OID, INT8OID, INT8OID, INT8OID },
	NULL
};

/* Refuse to release what is not there, or was never held. */
static void
check_exceptions(int32 entity_id, Datum exceptions)
{
	Datum values[2] = { Int32GetDatum(entity_id), exceptions };

	if (array_contains_nulls(DatumGetArrayTypeP(exceptions)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("exceptions must not contain null"),
						errhint("billing.open_exception lists those of kind usage_late.")));
	SPI_connect();
	if (billing_core_run(&find_stranger, values, NULL, false) > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("exception " INT64_FORMAT " holds no late usage",
							   DatumGetInt64(billing_core_value(0, 0, NULL))),
						errhint("billing.open_exception lists those of kind usage_late.")));
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_metering_release_usage);

/*
 * billing.release_usage(entity text, reason text, subject text, exceptions bigint[])
 *     RETURNS TABLE (accepted bigint, duplicate bigint, conflicting bigint, quarantined bigint)
 *
 * What another session releases at the same time is not counted here.
 */
Datum
billing_metering_release_usage(PG_FUNCTION_ARGS)
{
	BillingUsageWaiting waiting = { &take_held, { 0 }, NULL };
	BillingUsageCounts counts = { 0 };
	Datum values[8];
	char nulls[] = "        ";
	char *reason;
	char *subject;
	int32 entity_id;

	InitMaterializedSRF(fcinfo, 0);
	entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_core_require_duty(entity_id, RELEASING_DUTY);
	reason = billing_core_arg_text(fcinfo, 1, "reason");
	subject = billing_core_arg_optional_text(fcinfo, 2, "subject");
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(reason);
	values[2] = subject != NULL ? CStringGetTextDatum(subject) : (Datum) 0;
	values[3] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	nulls[2] = subject != NULL ? ' ' : 'n';
	nulls[3] = PG_ARGISNULL(3) ? 'n' : ' ';
	if (!PG_ARGISNULL(3))
		check_exceptions(entity_id, values[3]);
	waiting.values[0] = values[2];
	waiting.values[1] = values[3];
	waiting.nulls = nulls;
	billing_metering_take_in(entity_id, &waiting, &counts);
	values[4] = Int64GetDatum(counts.accepted);
	values[5] = Int64GetDatum(counts.duplicate);
	values[6] = Int64GetDatum(counts.conflicting);
	values[7] = Int64GetDatum(counts.quarantined);
	SPI_connect();
	(void) billing_core_run(&write_audit, values, nulls, false);
	SPI_finish();
	return billing_metering_return_counts(fcinfo, &counts);
}
