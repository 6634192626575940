/*
 * metering_detach.c
 *		Takes the partition of a month out of billing.usage_event.
 *
 * Whether that may be done is decided by the room that bills (invoicing): here
 * is only how.  The rows of billing.usage_key stay, so that what was detached is
 * still recognised, and the month is marked for every entity, so that nothing
 * comes in for it any more.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"

static BillingStatement all_entities = {
	"SELECT entity_id FROM billing.legal_entity ORDER BY entity_id", 0, { 0 }, NULL
};

/* $1 first day of the month: also for entities that never had an event in it */
static BillingStatement write_detached = {
	"WITH done AS (INSERT INTO billing.usage_month AS m"
	" (entity_id, month, state, events, digest, detached_at)"
	" SELECT entity_id, $1, 'detached', 0, sha256(''), now() FROM billing.legal_entity"
	" ON CONFLICT (entity_id, month) DO UPDATE SET state = 'detached', detached_at = now(),"
	" events = coalesce(m.events, 0), digest = coalesce(m.digest, sha256(''))"
	" RETURNING m.entity_id, m.month, m.events, m.digest), noted AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT entity_id, 'detach', 'usage_month', to_char(month, 'YYYY-MM'), jsonb_build_object("
	" 'state', 'detached', 'events', events, 'digest', encode(digest, 'hex')) FROM done)"
	" SELECT coalesce(sum(events), 0)::bigint FROM done",
	1,
	{ DATEOID },
	NULL
};

/* Lock a month for all entities: nobody writes into it until the transaction ends. */
void
billing_metering_lock_month_of_all(int32 month)
{
	int32 *entities;
	uint64 count;
	uint64 i;

	SPI_connect();
	count = billing_core_run_latest(&all_entities, NULL, NULL);
	entities = SPI_palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		entities[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
	SPI_finish();
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		billing_metering_lock_month(entities[i], month, true);
	}
	pfree(entities);
}

/*
 * Detach a month, which is locked for all entities, and return how many events
 * it has.  Its partition is kept as a table of its own, with its row-level
 * security and guards, until a DBA has archived and dropped it.
 */
int64
billing_metering_detach_month(int32 month)
{
	Datum values[1] = { DateADTGetDatum(billing_metering_first_day(month)) };
	const char *name = billing_metering_partition_name(month);
	int64 events = 0;

	SPI_connect();
	if (billing_core_run(&write_detached, values, NULL, false) > 0)
		events = DatumGetInt64(billing_core_value(0, 0, NULL));
	billing_core_execute(
		psprintf("ALTER TABLE billing.usage_event DETACH PARTITION billing_internal.%s", name));
	billing_core_execute(
		psprintf("ALTER TABLE billing_internal.%s RENAME TO %s_detached", name, name));
	billing_core_execute(psprintf("COMMENT ON TABLE billing_internal.%s_detached IS"
								  " 'The events that billing.usage_event had in %s'",
								  name, billing_metering_month_name(month)));
	SPI_finish();
	return events;
}
