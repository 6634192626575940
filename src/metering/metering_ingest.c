/*
 * metering_ingest.c
 *		The doors for usage: what callers send, and what waits in quarantine.
 *
 * Every door makes a batch and goes the same way: resolve, store, raise, settle.
 * A batch is carried in slices, each a handful of statements, so that memory
 * stays flat.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "core/core.h"
#include "funcapi.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

static const char *const ingest_duties[] = { "biller", "application" };

/* $1 entity, $2 action, $3 to $6 counts */
static BillingStatement write_audit = {
	"INSERT INTO billing.audit_log (entity_id, action, object_type, after)"
	" VALUES ($1, $2, 'usage', jsonb_build_object('accepted', $3, 'duplicate', $4,"
	" 'conflicting', $5, 'quarantined', $6))",
	6,
	{ INT4OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 the last exception seen, $3 whether to leave out what would wait on, and what is
 * malformed: that can only be mended by hand, in the meter.  An event that waits for account and
 * meter has two exceptions; both are held, one replays it.  What another session replays is left
 * to it.  Whoever opened a month again decided that what waits for it comes in, late or not; what
 * is held because it was late waits for billing.release_usage().
 */
static BillingStatement take_waiting = {
	"SELECT x.exception_id, x.payload, x.raised_at, x.kind = 'usage_month_closed'"
	" FROM billing.exception x WHERE x.entity_id = $1"
	" AND x.state = 'open' AND x.exception_id > $2 AND (x.kind IN ('usage_unknown_subject',"
	" 'usage_unknown_meter') OR (NOT $3 AND x.kind = 'usage_malformed')"
	"  OR (x.kind = 'usage_month_closed' AND NOT EXISTS (SELECT FROM billing.usage_month m"
	"   JOIN billing.legal_entity l ON l.entity_id = $1 WHERE m.entity_id = $1"
	"   AND m.state <> 'open' AND m.month = date_trunc('month',"
	"    billing_internal.usage_moment(x.payload ->> 'time') AT TIME ZONE l.time_zone)::date)))"
	" AND (NOT $3 OR (billing_internal.knows_subject($1, x.payload ->> 'subject')"
	"  AND EXISTS (SELECT FROM billing.meter m"
	"  WHERE m.entity_id = $1 AND m.code = x.payload ->> 'type')))"
	" ORDER BY x.exception_id LIMIT 10000 FOR UPDATE OF x SKIP LOCKED",
	3,
	{ INT4OID, INT8OID, BOOLOID },
	NULL
};

static BillingStatement entities_that_wait = {
	"SELECT e.entity_id FROM billing.legal_entity e WHERE EXISTS (SELECT FROM billing.exception x"
	" WHERE x.entity_id = e.entity_id AND x.state = 'open'"
	" AND x.kind IN ('usage_unknown_subject', 'usage_unknown_meter', 'usage_malformed',"
	" 'usage_month_closed'))"
	" ORDER BY e.entity_id",
	0,
	{ 0 },
	NULL
};

/*
 * Order by key, as the index of keys has them, and what has the same key by its
 * place in the call.
 */
int
billing_metering_by_key(const void *a, const void *b)
{
	const BillingUsageEvent *first = *(BillingUsageEvent *const *) a;
	const BillingUsageEvent *second = *(BillingUsageEvent *const *) b;
	int result = memcmp(first->key_hash, second->key_hash, UUID_LEN);

	return result != 0 ? result : first->position - second->position;
}

/* How many of the events one set of statements carries. */
static int32
slice_of(BillingUsageEvent **events, int32 count)
{
	int64 bytes = 0;
	int32 i;

	for (i = 0; i < count && i < BILLING_USAGE_SLICE_EVENTS; i++)
	{
		bytes += sizeof(BillingUsageEvent);
		if (events[i]->in_columns)
			bytes += events[i]->data != NULL ? VARSIZE(events[i]->data) : 0;
		else if (events[i]->payload.type == jbvBinary)
			bytes += events[i]->payload.val.binary.len;
		else if (events[i]->payload.type == jbvString)
			bytes += events[i]->payload.val.string.len;
		if (bytes > BILLING_USAGE_SLICE_BYTES && i > 0)
			break;
	}
	return i;
}

/* Take in a batch of events that were read, and add to the counts. */
void
billing_metering_ingest(BillingUsageBatch *batch, BillingUsageCounts *counts)
{
	BillingUsageEvent **events = palloc(sizeof(*events) * (batch->count + 1));
	MemoryContext slice_context;
	MemoryContext old;
	int32 done = 0;
	int32 i;

	billing_metering_admit(batch);
	for (i = 0; i < batch->count; i++)
		events[i] = &batch->events[i];
	qsort(events, batch->count, sizeof(*events), billing_metering_by_key);
	slice_context =
		AllocSetContextCreate(CurrentMemoryContext, "usage slice", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(slice_context);
	while (done < batch->count)
	{
		int32 count = slice_of(events + done, batch->count - done);

		CHECK_FOR_INTERRUPTS();
		billing_metering_resolve(batch->entity_id, events + done, count);
		billing_metering_store(batch->entity_id, events + done, count, counts);
		billing_metering_raise(batch->entity_id, events + done, count);
		billing_metering_settle(batch->entity_id, events + done, count);
		MemoryContextReset(slice_context);
		done += count;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(slice_context);
}

/* Go on only for somebody who may send usage. */
void
billing_metering_require_sender(int32 entity_id)
{
	billing_core_require_any_duty(entity_id, ingest_duties, lengthof(ingest_duties));
}

/* Write the audit record of a call that had events. */
void
billing_metering_audit(int32 entity_id, const char *action, const BillingUsageCounts *counts)
{
	Datum values[6];

	if (counts->accepted + counts->duplicate + counts->conflicting + counts->quarantined == 0)
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(action);
	values[2] = Int64GetDatum(counts->accepted);
	values[3] = Int64GetDatum(counts->duplicate);
	values[4] = Int64GetDatum(counts->conflicting);
	values[5] = Int64GetDatum(counts->quarantined);
	SPI_connect();
	(void) billing_core_run(&write_audit, values, NULL, false);
	SPI_finish();
}

/* Take up to 10 000 waiting events after the given exception, and return it as the last one seen. */
static int32
read_waiting(BillingUsageBatch *batch, int64 *last, const BillingUsageWaiting *waiting)
{
	pg_cryptohash_ctx *context;
	MemoryContext caller = CurrentMemoryContext;
	Datum values[BILLING_USAGE_WAITING_VALUES + 2];
	uint64 found;
	uint64 row;

	values[0] = Int32GetDatum(batch->entity_id);
	values[1] = Int64GetDatum(*last);
	memcpy(values + 2, waiting->values, sizeof(waiting->values));
	SPI_connect();
	/* past row-level security: knows_subject() would ask for the actor's entities for each event */
	found = billing_core_run_privileged(waiting->statement, values, waiting->nulls, false);
	batch->events = MemoryContextAllocZero(caller, sizeof(BillingUsageEvent) * (found + 1));
	batch->count = 0;
	context = billing_metering_hash_begin();
	for (row = 0; row < found; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);
		Jsonb *payload = DatumGetJsonbPCopy(billing_core_value(row, 1, NULL));
		JsonbValue value;

		if (!JB_ROOT_IS_SCALAR(payload) || !JsonbExtractScalar(&payload->root, &value))
		{
			value.type = jbvBinary;
			value.val.binary.data = &payload->root;
			value.val.binary.len = VARSIZE(payload) - VARHDRSZ;
		}
		billing_metering_parse_one(&batch->events[batch->count], &value, context);
		batch->events[batch->count].position = batch->count;
		batch->events[batch->count].arrived_at =
			DatumGetTimestampTz(billing_core_value(row, 2, NULL));
		batch->events[batch->count].is_admitted = DatumGetBool(billing_core_value(row, 3, NULL));
		batch->count++;
		*last = DatumGetInt64(billing_core_value(row, 0, NULL));
		MemoryContextSwitchTo(old);
	}
	pg_cryptohash_free(context);
	SPI_finish();
	return (int32) found;
}

/* Drop the second exception of an event that waits for both its account and its meter. */
static void
drop_repeats(BillingUsageBatch *batch)
{
	BillingUsageEvent **order = palloc(sizeof(*order) * (batch->count + 1));
	BillingUsageEvent *kept = palloc0(sizeof(*kept) * (batch->count + 1));
	int32 count = 0;
	int32 i;

	for (i = 0; i < batch->count; i++)
		order[i] = &batch->events[i];
	qsort(order, batch->count, sizeof(*order), billing_metering_by_key);
	for (i = 0; i < batch->count; i++)
	{
		if (i > 0 && order[i]->key.length == order[i - 1]->key.length &&
			memcmp(order[i]->hash, order[i - 1]->hash, BILLING_USAGE_HASH_LENGTH) == 0 &&
			memcmp(order[i]->key.bytes, order[i - 1]->key.bytes, order[i]->key.length) == 0)
			continue;
		kept[count++] = *order[i];
	}
	batch->events = kept;
	batch->count = count;
}

/* Take in again what waits in an entity, 10 000 events at a time. */
void
billing_metering_take_in(int32 entity_id, const BillingUsageWaiting *waiting,
						 BillingUsageCounts *counts)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "usage replay", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int64 last = 0;
	BillingUsageBatch batch = { entity_id, 0, NULL };

	while (read_waiting(&batch, &last, waiting) > 0)
	{
		drop_repeats(&batch);
		billing_metering_ingest(&batch, counts);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Replay what waits in an entity. */
static void
replay(int32 entity_id, bool resolvable, BillingUsageCounts *counts)
{
	BillingUsageWaiting waiting = { &take_waiting, { BoolGetDatum(resolvable) }, NULL };

	memset(counts, 0, sizeof(*counts));
	billing_metering_settle_corrected(entity_id);
	billing_metering_take_in(entity_id, &waiting, counts);
	if (counts->accepted > 0)
		billing_metering_settle_corrected(entity_id);
	/* the worker asks again and again: what still waits for another day of its alias is no news */
	if (!resolvable || counts->accepted + counts->duplicate + counts->conflicting > 0)
		billing_metering_audit(entity_id, "replay", counts);
}

/* The counts as the one row of the result. */
Datum
billing_metering_return_counts(FunctionCallInfo fcinfo, const BillingUsageCounts *counts)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum values[4];
	bool nulls[4] = { false };

	values[0] = Int64GetDatum(counts->accepted);
	values[1] = Int64GetDatum(counts->duplicate);
	values[2] = Int64GetDatum(counts->conflicting);
	values[3] = Int64GetDatum(counts->quarantined);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(billing_metering_ingest_usage);
PG_FUNCTION_INFO_V1(billing_metering_ingest_usage_columns);
PG_FUNCTION_INFO_V1(billing_metering_replay_usage);
PG_FUNCTION_INFO_V1(billing_metering_replay_all_usage);

/*
 * billing.ingest_usage(entity text, events jsonb) RETURNS TABLE (accepted bigint,
 *     duplicate bigint, conflicting bigint, quarantined bigint)
 *
 * The four counts add up to the number of events.  Raises ZB001 where events is
 * neither an array nor an object, ZB003 without the duty.
 */
Datum
billing_metering_ingest_usage(PG_FUNCTION_ARGS)
{
	BillingUsageBatch batch = { 0 };
	BillingUsageCounts counts = { 0 };

	InitMaterializedSRF(fcinfo, 0);
	batch.entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_metering_require_sender(batch.entity_id);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("events must not be null"),
				 errhint("Give a JSON array of CloudEvents; it may be empty.")));
	billing_metering_parse(&batch, PG_GETARG_JSONB_P(1));
	billing_metering_ingest(&batch, &counts);
	billing_metering_audit(batch.entity_id, "ingest", &counts);
	return billing_metering_return_counts(fcinfo, &counts);
}

/*
 * billing.ingest_usage(entity text, source text[], id text[], type text[], subject text[],
 *     time timestamptz[], data jsonb[]) RETURNS TABLE (accepted bigint, duplicate bigint,
 *     conflicting bigint, quarantined bigint)
 *
 * The same for drivers that bind arrays.  Raises ZB001 where their lengths differ.
 */
Datum
billing_metering_ingest_usage_columns(PG_FUNCTION_ARGS)
{
	BillingUsageBatch batch = { 0 };
	BillingUsageCounts counts = { 0 };

	InitMaterializedSRF(fcinfo, 0);
	batch.entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_metering_require_sender(batch.entity_id);
	billing_metering_read_columns(fcinfo, 1, &batch);
	billing_metering_ingest(&batch, &counts);
	billing_metering_audit(batch.entity_id, "ingest", &counts);
	return billing_metering_return_counts(fcinfo, &counts);
}

/*
 * billing.replay_usage(entity text) RETURNS TABLE (accepted bigint, duplicate bigint,
 *     conflicting bigint, quarantined bigint)
 *
 * What another session replays at the same time is not counted here.
 */
Datum
billing_metering_replay_usage(PG_FUNCTION_ARGS)
{
	BillingUsageCounts counts;
	int32 entity_id;

	InitMaterializedSRF(fcinfo, 0);
	entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_metering_require_sender(entity_id);
	replay(entity_id, false, &counts);
	return billing_metering_return_counts(fcinfo, &counts);
}

/* billing_internal.replay_all_usage() RETURNS void */
Datum
billing_metering_replay_all_usage(PG_FUNCTION_ARGS)
{
	int32 *entities;
	uint64 count;
	uint64 i;

	SPI_connect();
	count = billing_core_run(&entities_that_wait, NULL, NULL, false);
	entities = SPI_palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		entities[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
	SPI_finish();
	for (i = 0; i < count; i++)
	{
		BillingUsageCounts counts;

		CHECK_FOR_INTERRUPTS();
		replay(entities[i], true, &counts);
	}
	PG_RETURN_VOID();
}
