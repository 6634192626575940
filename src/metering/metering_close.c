/*
 * metering_close.c
 *		Closes a month of an entity's usage, so that nothing comes in any more
 *		and its events can be proved unchanged, and opens it again.
 *
 * Accountants do it: closing is theirs, and whoever feeds usage does not decide
 * by when it must have come.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/core.h"
#include "funcapi.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#define CLOSING_DUTY "accountant"
#define FETCHED_EVENTS 10000

/*
 * $1 entity, $2 first day, $3 day after the last: an event a line, as a JSON array, in the order of
 * the ids.  The content stands for type, subject, time and data.
 */
static BillingStatement read_events = {
	"SELECT jsonb_build_array(e.event_id, e.source, e.event_key, e.content, e.account_id, e.item_id,"
	" e.meter_id, e.usage_date, e.weight, e.quantity, e.dimensions, e.sample, e.expected_amount,"
	" e.corrects_event_id, e.correction_id)::text FROM billing.usage_event e"
	" WHERE e.entity_id = $1 AND e.usage_date >= $2 AND e.usage_date < $3 ORDER BY e.event_id",
	3,
	{ INT4OID, DATEOID, DATEOID },
	NULL
};

/* $1 entity, $2 first day of the month */
static BillingStatement read_state = {
	"SELECT state FROM billing.usage_month WHERE entity_id = $1 AND month = $2",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* $1 entity, $2 month, $3 events, $4 digest, $5 actor */
static BillingStatement write_closed = {
	"WITH done AS (INSERT INTO billing.usage_month"
	" (entity_id, month, state, events, digest, closed_at, closed_by)"
	" VALUES ($1, $2, 'closed', $3, $4, now(), $5) ON CONFLICT (entity_id, month) DO UPDATE"
	" SET state = 'closed', events = $3, digest = $4, closed_at = now(), closed_by = $5"
	" RETURNING entity_id, month, events, digest)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT entity_id, 'close', 'usage_month', to_char(month, 'YYYY-MM'),"
	" jsonb_build_object('state', 'closed', 'events', events, 'digest', encode(digest, 'hex'))"
	" FROM done",
	5,
	{ INT4OID, DATEOID, INT8OID, BYTEAOID, INT4OID },
	NULL
};

/* $1 entity, $2 month, $3 reason, $4 actor */
static BillingStatement write_reopened = {
	"WITH before AS (SELECT * FROM billing.usage_month WHERE entity_id = $1 AND month = $2),"
	" done AS (UPDATE billing.usage_month SET state = 'open', events = NULL, digest = NULL,"
	" closed_at = NULL, closed_by = NULL, reopened_at = now(), reopened_by = $4"
	" WHERE entity_id = $1 AND month = $2 RETURNING entity_id, month)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, before, after, reason)"
	" SELECT d.entity_id, 'reopen', 'usage_month', to_char(d.month, 'YYYY-MM'),"
	" jsonb_build_object('state', 'closed', 'events', b.events, 'digest', encode(b.digest, 'hex')),"
	" '{\"state\": \"open\"}', $3 FROM done d, before b",
	4,
	{ INT4OID, DATEOID, TEXTOID, INT4OID },
	NULL
};

/* Hash one line of a month. */
static void
hash_line(pg_cryptohash_ctx *context, Datum line)
{
	text *bytes = DatumGetTextPP(line);

	if (pg_cryptohash_update(context, (const uint8 *) VARDATA_ANY(bytes),
							 VARSIZE_ANY_EXHDR(bytes)) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) "\n", 1) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute a hash: %s", pg_cryptohash_error(context)),
						errhint("Check the server's OpenSSL.")));
}

/*
 * The SHA-256 of the events of a month, a line each, and how many there are, as
 * the active snapshot sees them.
 */
static bytea *
digest_month(int32 entity_id, int32 month, int64 *events)
{
	bytea *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	Datum values[3];
	Portal portal;

	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(billing_metering_first_day(month));
	values[2] = DateADTGetDatum(billing_metering_first_day(month + 1));
	*events = 0;
	SPI_connect();
	portal = billing_core_open(&read_events, values, NULL);
	if (pg_cryptohash_init(context) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute a hash: %s", pg_cryptohash_error(context)),
						errhint("Check the server's OpenSSL.")));
	for (;;)
	{
		uint64 row;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCHED_EVENTS);
		for (row = 0; row < SPI_processed; row++)
			hash_line(context, billing_core_value(row, 0, NULL));
		*events += SPI_processed;
		if (SPI_processed == 0)
			break;
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	if (pg_cryptohash_final(context, (uint8 *) VARDATA(digest), PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute a hash: %s", pg_cryptohash_error(context)),
						errhint("Check the server's OpenSSL.")));
	pg_cryptohash_free(context);
	SPI_finish();
	return digest;
}

/* The state of a month, by the name that it has in billing.usage_month, under its lock. */
static const char *
state_of(int32 entity_id, int32 month)
{
	Datum values[2] = { Int32GetDatum(entity_id),
						DateADTGetDatum(billing_metering_first_day(month)) };
	char *state = NULL;

	SPI_connect();
	if (billing_core_run_latest(&read_state, values, NULL) > 0)
		state = billing_core_text_value(0, 0);
	SPI_finish();
	return state != NULL ? state : "open";
}

/* Refuse what cannot be done with a month in its state. */
static void
refuse_state(int32 month, const char *state, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_TRANSITION),
					errmsg("usage of %s is %s", billing_metering_month_name(month), state),
					errhint("%s", hint)));
}

/* The entity and the month that a call names, after its duty has been asked for. */
static int32
month_to_decide(FunctionCallInfo fcinfo, int32 *entity_id)
{
	*entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_core_require_duty(*entity_id, CLOSING_DUTY);
	return billing_metering_month_of(billing_core_arg_date(fcinfo, 1, "month"));
}

PG_FUNCTION_INFO_V1(billing_metering_close_usage);
PG_FUNCTION_INFO_V1(billing_metering_reopen_usage);
PG_FUNCTION_INFO_V1(billing_metering_month_digest);

/*
 * billing.close_usage(entity text, month date) RETURNS bigint: how many events it has
 *
 * Waits for those who write into the month; whoever comes after it finds it closed.
 */
Datum
billing_metering_close_usage(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	int32 month = month_to_decide(fcinfo, &entity_id);
	const char *state;
	Datum values[5];
	bytea *digest;
	int64 events;

	if (billing_metering_first_day(month + 1) > billing_core_entity_today(entity_id))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("month %s is not over", billing_metering_month_name(month)),
						errhint("A month is closed from the first day of the next one on, in the "
								"entity's time zone.")));
	billing_metering_lock_month(entity_id, month, true);
	state = state_of(entity_id, month);
	if (strcmp(state, "open") != 0)
		refuse_state(month, state,
					 "A month is closed once, or again after billing.reopen_usage().");
	PushActiveSnapshot(GetLatestSnapshot());
	digest = digest_month(entity_id, month, &events);
	PopActiveSnapshot();
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(billing_metering_first_day(month));
	values[2] = Int64GetDatum(events);
	values[3] = PointerGetDatum(digest);
	values[4] = Int32GetDatum(billing_core_actor_person());
	SPI_connect();
	(void) billing_core_run(&write_closed, values, NULL, false);
	SPI_finish();
	PG_RETURN_INT64(events);
}

/*
 * billing.reopen_usage(entity text, month date, reason text) RETURNS void
 *
 * What came for the month meanwhile waits for billing.replay_usage().
 */
Datum
billing_metering_reopen_usage(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	int32 month = month_to_decide(fcinfo, &entity_id);
	char *reason = billing_core_arg_text(fcinfo, 2, "reason");
	const char *state;
	Datum values[4];

	billing_metering_lock_month(entity_id, month, true);
	state = state_of(entity_id, month);
	if (strcmp(state, "closed") != 0)
		refuse_state(month, state,
					 "Only a month that was closed, and whose events were not "
					 "detached since, is opened again.");
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(billing_metering_first_day(month));
	values[2] = CStringGetTextDatum(reason);
	values[3] = Int32GetDatum(billing_core_actor_person());
	SPI_connect();
	(void) billing_core_run(&write_reopened, values, NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing_internal.usage_month_digest(entity integer, month date, OUT events bigint, OUT digest bytea)
 */
Datum
billing_metering_month_digest(PG_FUNCTION_ARGS)
{
	TupleDesc descriptor;
	Datum values[2];
	bool nulls[2] = { false };
	int64 events;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("a digest is a row of two columns")));
	values[1] = PointerGetDatum(
		digest_month(PG_GETARG_INT32(0), billing_metering_month_of(PG_GETARG_DATEADT(1)), &events));
	values[0] = Int64GetDatum(events);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
