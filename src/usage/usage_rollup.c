/*
 * usage_rollup.c
 *		Moves events into the roll-ups: by entity, in slices, in the transaction
 *		that moves the watermark.
 *
 * usage_watermark.c says how far they may be moved, and why.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "usage/usage.h"
#include "usage/usage_watermark.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* So many ids are merged by one set of statements: what bounds memory. */
#define SLICE_IDS 1000000

/* So many slices of an entity the worker merges in one transaction; it goes on the next time. */
#define WORKER_SLICES 10

static const char *const roll_up_duties[] = { "biller", "application" };
static const char *const rebuild_duties[] = { "biller", "admin" };

/* $1 entity, $2 watermark, $3 bound */
static BillingStatement find_first = {
	"SELECT e.event_id FROM billing.usage_event e WHERE e.entity_id = $1 AND e.event_id > $2"
	" AND e.event_id <= $3 ORDER BY e.event_id LIMIT 1",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* $1 entity, $2 the watermark, $3 the next one */
static BillingStatement merge_range = {
	"SELECT billing_internal.add_usage_sums($1, $2, $3)"
	" + CASE WHEN EXISTS (SELECT FROM billing.meter m WHERE m.entity_id = $1"
	"   AND m.aggregation IN ('latest', 'time_weighted'))"
	"  THEN billing_internal.add_usage_levels($1, $2, $3) ELSE 0 END,"
	" billing_internal.count_usage_sources($1, $2, $3)",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* $1 entity, $2 why its roll-up failed */
static BillingStatement write_error = {
	"INSERT INTO billing.usage_watermark (entity_id, error) VALUES ($1, $2)"
	" ON CONFLICT ON CONSTRAINT usage_watermark_pkey DO UPDATE SET error = excluded.error",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement entities = {
	"SELECT entity_id FROM billing.legal_entity ORDER BY entity_id", 0, { 0 }, NULL
};

/* $1 entity, $2 watermark */
static BillingStatement rebuild_months = {
	"SELECT billing_internal.rebuild_usage_month($1, m.month, $2)"
	" FROM billing_internal.usage_months() m ORDER BY m.month",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity */
static BillingStatement count_cells = {
	"SELECT count(*) FROM billing.usage_rollup WHERE entity_id = $1", 1, { INT4OID }, NULL
};

/* $1 entity, $2 cells, $3 watermark */
static BillingStatement audit_rebuild = {
	"INSERT INTO billing.audit_log (entity_id, action, object_type, after)"
	" VALUES ($1, 'rebuild', 'usage_rollup',"
	"  jsonb_build_object('cells', $2, 'through_event_id', $3))",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/*
 * Merge the events after the watermark up to a bound, in slices, and move the
 * watermark.  Stops early after so many slices.
 */
static int64
merge_up_to(BillingUsageWatermark *mark, int64 bound, int slices)
{
	int64 merged = 0;
	Datum values[3];

	values[0] = Int32GetDatum(mark->entity_id);
	while (mark->after < bound && slices-- > 0)
	{
		int64 first;

		CHECK_FOR_INTERRUPTS();
		values[1] = Int64GetDatum(mark->after);
		values[2] = Int64GetDatum(bound);
		if (billing_core_run(&find_first, values, NULL, false) == 0)
		{
			mark->after = bound;
			break;
		}
		/* ids of other entities may lie between */
		first = DatumGetInt64(billing_core_value(0, 0, NULL));
		mark->after = bound - first < SLICE_IDS ? bound : first + SLICE_IDS - 1;
		values[1] = Int64GetDatum(first - 1);
		values[2] = Int64GetDatum(mark->after);
		(void) billing_core_run(&merge_range, values, NULL, false);
		merged += DatumGetInt64(billing_core_value(0, 0, NULL));
		billing_usage_note_late(mark, first - 1, mark->after);
	}
	return merged;
}

/* Whether an entity has events after its watermark that this statement sees. */
static bool
has_tail(const BillingUsageWatermark *mark)
{
	Datum values[3];

	values[0] = Int32GetDatum(mark->entity_id);
	values[1] = Int64GetDatum(mark->after);
	values[2] = Int64GetDatum(PG_INT64_MAX);
	return billing_core_run(&find_first, values, NULL, false) > 0;
}

/*
 * Roll up an entity as far as the horizon allows, and return how many events
 * were merged.  0 where another session is at it.
 */
static int64
roll_up(int32 entity_id, int slices)
{
	BillingUsageHorizon horizon;
	BillingUsageWatermark mark;
	int64 merged = 0;

	SPI_connect();
	/* before the lock gives this transaction a number, which bounds its own horizon */
	billing_usage_read_horizon(&horizon);
	if (!billing_usage_lock_watermark(entity_id, false, &mark) || !has_tail(&mark))
	{
		SPI_finish();
		return 0;
	}
	/* where nobody is writing, what was planned before goes no further than what is read now */
	if (horizon.next <= horizon.xmin && horizon.last_id > mark.after)
	{
		mark.planned = true;
		mark.next = horizon.next;
		mark.next_id = horizon.last_id;
	}
	if (mark.planned && mark.next <= horizon.xmin)
	{
		merged = merge_up_to(&mark, mark.next_id, slices);
		mark.planned = mark.after < mark.next_id;
	}
	if (!mark.planned && horizon.last_id > mark.after)
	{
		mark.planned = true;
		mark.next = horizon.next;
		mark.next_id = horizon.last_id;
	}
	billing_usage_save_watermark(&mark);
	SPI_finish();
	return merged;
}

/* Note why the roll-up of an entity failed. */
static void
note_error(int32 entity_id, const ErrorData *error)
{
	Datum values[2];

	ereport(WARNING, (errmsg("could not roll up the usage of entity %d: %s", entity_id,
							 error->message != NULL ? error->message : "no message"),
					  error->detail != NULL ? errdetail("%s", error->detail) : 0));
	values[0] = Int32GetDatum(entity_id);
	values[1] =
		CStringGetTextDatum(psprintf("%s: %s", unpack_sql_state(error->sqlerrcode),
									 error->message != NULL ? error->message : "no message"));
	SPI_connect();
	(void) billing_core_run(&write_error, values, NULL, false);
	SPI_finish();
}

/* The step that may fail. */
static void
roll_up_step(void *entity_id)
{
	(void) roll_up(*(int32 *) entity_id, WORKER_SLICES);
}

/*
 * Roll up an entity in a subtransaction, so that its failure takes back nothing
 * else: it is noted, and readers see all usage in any case.
 */
void
billing_usage_roll_up_apart(int32 entity_id)
{
	ErrorData *error = billing_core_try(roll_up_step, &entity_id);

	if (error != NULL)
	{
		note_error(entity_id, error);
		FreeErrorData(error);
	}
}

/* The ids of all entities, in the caller's memory. */
static int32 *
list_entities(uint64 *count)
{
	int32 *ids;
	uint64 i;

	SPI_connect();
	*count = billing_core_run(&entities, NULL, NULL, false);
	ids = SPI_palloc(sizeof(int32) * (*count + 1));
	for (i = 0; i < *count; i++)
		ids[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
	SPI_finish();
	return ids;
}

PG_FUNCTION_INFO_V1(billing_usage_roll_up);
PG_FUNCTION_INFO_V1(billing_usage_roll_up_all);
PG_FUNCTION_INFO_V1(billing_usage_rebuild);
PG_FUNCTION_INFO_V1(billing_usage_restored);

/*
 * billing.roll_up_usage(entity text) RETURNS bigint
 *
 * The number of events merged; 0 where another session is at it, and while open
 * transactions may still add events.  Raises ZB003 without the duty.
 */
Datum
billing_usage_roll_up(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);

	billing_core_require_any_duty(entity_id, roll_up_duties, lengthof(roll_up_duties));
	PG_RETURN_INT64(roll_up(entity_id, PG_INT32_MAX));
}

/* billing_internal.roll_up_usage() RETURNS void */
Datum
billing_usage_roll_up_all(PG_FUNCTION_ARGS)
{
	uint64 count;
	int32 *ids = list_entities(&count);
	uint64 i;

	(void) fcinfo;
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		billing_usage_roll_up_apart(ids[i]);
	}
	PG_RETURN_VOID();
}

/*
 * billing.rebuild_usage_rollup(entity text) RETURNS bigint
 *
 * The number of cells after.  The watermark stays: the same events are in, and
 * readers go on.  Raises ZB003 without the duty.
 */
Datum
billing_usage_rebuild(PG_FUNCTION_ARGS)
{
	BillingUsageWatermark mark;
	Datum values[3];
	int64 cells;

	values[0] = Int32GetDatum(billing_core_arg_entity(fcinfo, 0));
	billing_core_require_any_duty(DatumGetInt32(values[0]), rebuild_duties,
								  lengthof(rebuild_duties));
	SPI_connect();
	(void) billing_usage_lock_watermark(DatumGetInt32(values[0]), true, &mark);
	values[1] = Int64GetDatum(mark.after);
	(void) billing_core_run(&rebuild_months, values, NULL, false);
	(void) billing_core_run(&count_cells, values, NULL, false);
	cells = DatumGetInt64(billing_core_value(0, 0, NULL));
	values[1] = Int64GetDatum(cells);
	values[2] = Int64GetDatum(mark.after);
	(void) billing_core_run(&audit_rebuild, values, NULL, false);
	SPI_finish();
	PG_RETURN_INT64(cells);
}

/*
 * billing_internal.restored_usage() RETURNS void
 *
 * Every event that is there has been committed, in another cluster, whose
 * transactions have nothing to do with those of this one: whatever the
 * watermark planned, all ids drawn so far are rolled up.
 */
Datum
billing_usage_restored(PG_FUNCTION_ARGS)
{
	uint64 count;
	int32 *ids = list_entities(&count);
	int64 last_id = billing_usage_last_event_id();
	uint64 i;

	(void) fcinfo;
	SPI_connect();
	for (i = 0; i < count; i++)
	{
		BillingUsageWatermark mark;

		CHECK_FOR_INTERRUPTS();
		if (!billing_usage_lock_watermark(ids[i], true, &mark))
			continue;
		(void) merge_up_to(&mark, last_id, PG_INT32_MAX);
		mark.planned = false;
		billing_usage_save_watermark(&mark);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
