/*
 * metering_version.c
 *		What stands under an event's source and id now: the event that was accepted
 *		first, what a correction has put in its place, or nothing.
 *
 * billing.usage_key leads from one to the next: the event's key names the row
 * that was accepted, the void key of a row the one that stands in its place.
 * Lookups by key run past row-level security, for the reason that
 * metering_resolve.c gives.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "core/core.h"
#include "metering/metering.h"
#include "utils/uuid.h"

/* $1 entity, $2 sources, $3 ids: the last row in the place of each, and whose it is */
static BillingStatement find_versions = {
	"WITH RECURSIVE version AS ("
	" SELECT n.position, n.source, n.event_key, f.event_id, f.content, f.usage_date, 1 AS depth"
	" FROM unnest($2, $3) WITH ORDINALITY n (source, event_key, position)"
	" CROSS JOIN LATERAL (SELECT k.event_id, k.content, k.usage_date FROM billing.usage_key k"
	"  WHERE k.entity_id = $1"
	"  AND k.key = billing_internal.usage_key_of(n.source, n.event_key) LIMIT 1) f"
	" UNION ALL"
	" SELECT v.position, v.source, v.event_key, f.event_id, f.content, f.usage_date, v.depth + 1"
	" FROM version v CROSS JOIN LATERAL (SELECT k.event_id, k.content, k.usage_date"
	"  FROM billing.usage_key k WHERE k.entity_id = $1"
	"  AND k.key = billing_internal.usage_void_key(v.source, v.event_key, v.event_id) LIMIT 1) f"
	"), last AS ("
	" SELECT DISTINCT ON (v.position) v.* FROM version v ORDER BY v.position, v.depth DESC"
	") SELECT l.position::integer, l.event_id, l.content, l.usage_date, coalesce(f.account_id, 0),"
	" coalesce(f.meter_id, 0)"
	" FROM last l LEFT JOIN LATERAL (SELECT e.account_id, e.meter_id FROM billing.usage_event e"
	"  WHERE e.entity_id = $1 AND e.event_id = l.event_id AND e.usage_date = l.usage_date"
	"  LIMIT 1) f ON true",
	3,
	{ INT4OID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 keys of contents */
static BillingStatement find_contents = {
	"SELECT k.position::integer, f.event_id FROM unnest($2) WITH ORDINALITY k (key, position)"
	" CROSS JOIN LATERAL (SELECT e.event_id FROM billing.usage_key e"
	"  WHERE e.entity_id = $1 AND e.key = k.key LIMIT 1) f",
	2,
	{ INT4OID, UUIDARRAYOID },
	NULL
};

/* What stands under the source and id of each event, in the order of the events. */
BillingUsageVersion *
billing_metering_versions(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	static const uint8 nothing[UUID_LEN] = { 0 };
	BillingUsageVersion *versions = palloc0(sizeof(*versions) * (count + 1));
	BillingUsageColumn sources = billing_metering_column(count);
	BillingUsageColumn keys = billing_metering_column(count);
	Datum values[3];
	uint64 found;
	uint64 row;
	int32 i;

	for (i = 0; i < count; i++)
	{
		sources.values[i] = billing_metering_text(events[i]->source);
		keys.values[i] = billing_metering_text(events[i]->key);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&sources, count, TEXTOID);
	values[2] = billing_metering_array(&keys, count, TEXTOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_versions, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		BillingUsageVersion *version =
			&versions[DatumGetInt32(billing_core_value(row, 0, NULL)) - 1];

		version->event_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		memcpy(version->content, DatumGetUUIDP(billing_core_value(row, 2, NULL))->data, UUID_LEN);
		version->usage_date = DatumGetDateADT(billing_core_value(row, 3, NULL));
		version->account_id = DatumGetInt64(billing_core_value(row, 4, NULL));
		version->meter_id = DatumGetInt64(billing_core_value(row, 5, NULL));
		version->taken_back = memcmp(version->content, nothing, UUID_LEN) == 0;
	}
	SPI_finish();
	return versions;
}

/*
 * Of events that contradict what was accepted first under their source and id,
 * recognise those that say what a correction has put in its place: they are
 * duplicates of that.
 */
void
billing_metering_recognise(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageEvent **asked = palloc(sizeof(*asked) * (count + 1));
	BillingUsageColumn keys = billing_metering_column(count);
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	Datum values[2];
	int32 asks = 0;
	uint64 found;
	uint64 row;
	int32 i;

	for (i = 0; i < count; i++)
	{
		uint8 hash[BILLING_USAGE_HASH_LENGTH];

		if (events[i]->outcome != USAGE_CONFLICTING)
			continue;
		billing_metering_hash_content_key(context, events[i], hash);
		keys.values[asks] = billing_metering_uuid(hash);
		asked[asks++] = events[i];
	}
	pg_cryptohash_free(context);
	if (asks == 0)
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&keys, asks, UUIDOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_contents, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		BillingUsageEvent *event = asked[DatumGetInt32(billing_core_value(row, 0, NULL)) - 1];

		event->stored_id = DatumGetInt64(billing_core_value(row, 1, NULL));
		event->outcome = USAGE_DUPLICATE;
	}
	SPI_finish();
}
