/*
 * usage_source.c
 *		Which sources of usage are expected, and the heartbeats by which they say
 *		up to when they have sent everything.
 *
 * What arrived is compared with that in billing.usage_completeness.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "funcapi.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* How far a source's clock may be ahead of the server's, in microseconds. */
#define CLOCK_TOLERANCE (5 * USECS_PER_MINUTE)

static const char *const heartbeat_duties[] = { "biller", "application" };

static BillingCall expect_usage = {
	"biller",
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "source", ARG_TEXT, false, NULL },
	  { "every", ARG_ANY, false, NULL },
	  { "grace", ARG_ANY, false, NULL },
	  { "note", ARG_TEXT, true, NULL } },
	{ "INSERT INTO billing.usage_source AS s (entity_id, source, expected_every, grace, note)"
	  " VALUES ($1, $2, $3, $4, $5) ON CONFLICT ON CONSTRAINT usage_source_pkey DO UPDATE"
	  " SET expected_every = excluded.expected_every, grace = excluded.grace, note = excluded.note",
	  0,
	  { 0 },
	  NULL }
};

/* its exceptions wait for nobody any more */
static BillingCall forget_source = {
	"biller",
	2,
	{ { "entity", ARG_ENTITY, false, NULL }, { "source", ARG_TEXT, false, NULL } },
	{ "WITH forgotten AS (DELETE FROM billing.usage_source WHERE entity_id = $1 AND source = $2"
	  " RETURNING entity_id, source), closed AS ("
	  " UPDATE billing.exception x SET state = 'resolved', resolved_at = now(),"
	  " resolved_by = coalesce(billing_internal.actor_id(), 0),"
	  " resolution = 'the source is not expected any more' FROM forgotten f"
	  " WHERE x.entity_id = f.entity_id AND x.kind = 'usage_source_silent' AND x.subject = f.source"
	  " AND x.state = 'open') SELECT source FROM forgotten",
	  0,
	  { 0 },
	  NULL }
};

/* $1 entity, $2 source, $3 through, $4 who; the later moment holds */
static BillingStatement record_heartbeat = {
	"INSERT INTO billing.usage_heartbeat AS h (entity_id, source, through, recorded_by)"
	" VALUES ($1, $2, $3, $4) ON CONFLICT ON CONSTRAINT usage_heartbeat_pkey DO UPDATE"
	" SET through = greatest(h.through, excluded.through),"
	" recorded_at = greatest(h.recorded_at, excluded.recorded_at),"
	" recorded_by = excluded.recorded_by RETURNING through",
	4,
	{ INT4OID, TEXTOID, TIMESTAMPTZOID, INT4OID },
	NULL
};

/* $1 entity, $2 day: the expected sources of which nothing says that they are past its end */
static BillingStatement find_incomplete = {
	"SELECT c.source, c.state, c.complete_through, q.day_end - c.complete_through,"
	" c.last_arrival_at, c.note FROM (SELECT l.entity_id,"
	"  ($2 + 1)::timestamp AT TIME ZONE l.time_zone AS day_end"
	"  FROM billing.legal_entity l WHERE l.entity_id = $1) q"
	" JOIN billing.usage_completeness c ON c.entity_id = q.entity_id"
	" WHERE c.expected_every IS NOT NULL AND (c.complete_through < q.day_end) IS NOT FALSE"
	" ORDER BY c.source",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* Refuse a moment that nobody can have sent everything up to. */
static void
check_moment(FunctionCallInfo fcinfo, int argno)
{
	TimestampTz moment;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("through must not be null"),
				 errhint("Give the moment up to which the source has sent everything.")));
	moment = PG_GETARG_TIMESTAMPTZ(argno);
	if (TIMESTAMP_NOT_FINITE(moment))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("through must be a finite moment"),
						errhint("Give the moment up to which the source has sent everything.")));
	if (moment > GetCurrentTimestamp() + CLOCK_TOLERANCE)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("through must not lie in the future"),
						errdetail("It is %s.", timestamptz_to_str(moment)),
						errhint("Nobody has sent what did not happen yet. Compare the clocks.")));
}

/* Refuse a source that no event can name. */
static char *
arg_source(FunctionCallInfo fcinfo, int argno)
{
	char *source = billing_core_arg_text(fcinfo, argno, "source");

	if (strlen(source) > BILLING_USAGE_MAX_NAME)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("source is too long"),
						errdetail("It has %zu bytes; at most %d are taken.", strlen(source),
								  BILLING_USAGE_MAX_NAME),
						errhint("Give the attribute source of its events.")));
	return source;
}

PG_FUNCTION_INFO_V1(billing_usage_expect);
PG_FUNCTION_INFO_V1(billing_usage_forget_source);
PG_FUNCTION_INFO_V1(billing_usage_record_heartbeat);
PG_FUNCTION_INFO_V1(billing_usage_check_completeness);

/*
 * billing.expect_usage(entity text, source text, every interval, grace interval, note text)
 * RETURNS void
 */
Datum
billing_usage_expect(PG_FUNCTION_ARGS)
{
	(void) arg_source(fcinfo, 1);
	SPI_connect();
	billing_core_call(fcinfo, &expect_usage);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.forget_usage_source(entity text, source text) RETURNS void; ZB002 where it is not expected */
Datum
billing_usage_forget_source(PG_FUNCTION_ARGS)
{
	uint64 forgotten;

	SPI_connect();
	forgotten = billing_core_call(fcinfo, &forget_source);
	SPI_finish();
	if (forgotten == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("source is not expected"),
						errhint("billing.usage_source lists those that are.")));
	PG_RETURN_VOID();
}

/*
 * billing.record_heartbeat(entity text, source text, through timestamptz) RETURNS timestamptz
 *
 * A call that is repeated, or that comes late, changes nothing but the time of the last sign.
 */
Datum
billing_usage_record_heartbeat(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[4];
	TimestampTz through;

	billing_core_require_any_duty(entity_id, heartbeat_duties, lengthof(heartbeat_duties));
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(arg_source(fcinfo, 1));
	check_moment(fcinfo, 2);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = Int32GetDatum(billing_core_actor_person());
	SPI_connect();
	billing_core_run(&record_heartbeat, values, NULL, false);
	through = DatumGetTimestampTz(billing_core_value(0, 0, NULL));
	SPI_finish();
	PG_RETURN_TIMESTAMPTZ(through);
}

/*
 * billing.check_usage_completeness(entity text, through_date date) RETURNS TABLE (source text,
 *     state text, complete_through timestamptz, missing interval, last_arrival_at timestamptz,
 *     note text)
 */
Datum
billing_usage_check_completeness(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum values[2];
	uint64 count;
	uint64 i;

	InitMaterializedSRF(fcinfo, 0);
	values[0] = Int32GetDatum(billing_core_arg_entity(fcinfo, 0));
	values[1] = DateADTGetDatum(billing_core_arg_date(fcinfo, 1, "through date"));
	SPI_connect();
	count = billing_core_run(&find_incomplete, values, NULL, true);
	for (i = 0; i < count; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}
