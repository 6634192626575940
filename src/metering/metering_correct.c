/*
 * metering_correct.c
 *		Takes events back, puts others in their place, and brings in events of the
 *		past: as new rows, each of which names the correction that wrote it.
 *
 * billing.usage_key decides, as it does for what arrives: whoever takes the void
 * key of a row takes the row back, so that it happens once, whatever races.  Who
 * may correct, and what needs a second person, is decided by the room usage.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/cryptohash.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

/* $1 entity, $2 keys, $3 contents, $4 rows that stand there, $5 their days */
static BillingStatement take_keys = {
	"INSERT INTO billing.usage_key (entity_id, key, content, event_id, usage_date)"
	" SELECT $1, k.* FROM unnest($2, $3, $4, $5) k ON CONFLICT (entity_id, key) DO NOTHING",
	5,
	{ INT4OID, UUIDARRAYOID, UUIDARRAYOID, INT8ARRAYOID, DATEARRAYOID },
	NULL
};

/* $1 entity, $2 events, $3 their days, $4 ids of the rows that take them back, $5 correction */
static BillingStatement take_back = {
	"INSERT INTO billing.usage_event (entity_id, event_id, source, event_key, event_type, subject,"
	" account_id, item_id, meter_id, occurred_at, usage_date, weight, quantity, dimensions, sample,"
	" expected_amount, data, content, corrects_event_id, correction_id)"
	" SELECT $1, v.void_id, e.source, e.event_key, e.event_type, e.subject, e.account_id, e.item_id,"
	"  e.meter_id, e.occurred_at, e.usage_date, -1, e.quantity, e.dimensions, e.sample,"
	"  e.expected_amount, e.data, e.content, e.event_id, $5"
	" FROM unnest($2, $3, $4) v (event_id, usage_date, void_id)"
	" CROSS JOIN LATERAL (SELECT o.* FROM billing.usage_event o WHERE o.entity_id = $1"
	"  AND o.event_id = v.event_id AND o.usage_date = v.usage_date AND o.weight = 1 LIMIT 1) e",
	5,
	{ INT4OID, INT8ARRAYOID, DATEARRAYOID, INT8ARRAYOID, INT8OID },
	NULL
};

/* How people call an event. */
static char *
name_of(const BillingUsageEvent *event)
{
	return psprintf("\"%.*s\" of source \"%.*s\"", event->key.length, event->key.bytes,
					event->source.length, event->source.bytes);
}

/* Refuse a correction because one of its events cannot be read or does not fit. */
static void
refuse_event(const BillingUsageEvent *event, const char *problem)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					errmsg("event %s cannot be taken in: %s",
						   event->key.length > 0 ? name_of(event)
												 : psprintf("number %d", event->position + 1),
						   problem),
					errdetail("A correction is carried out as a whole or not at all."),
					errhint("Correct the event, or what it lacks, and call again.")));
}

/* Refuse a correction because of what stands there already. */
static void
refuse_standing(const BillingUsageEvent *event, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT), errmsg("event %s %s", name_of(event), what),
					errdetail("A correction is carried out as a whole or not at all."),
					errhint("%s", hint)));
}

/* Refuse a correction of what never was. */
static void
refuse_unknown(const BillingUsageEvent *event, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
					errmsg("usage event %s does not exist", name_of(event)), errhint("%s", hint)));
}

/* Refuse to change a month that is closed or detached. */
static void
refuse_month(const BillingUsageEvent *event, BillingUsageMonth month)
{
	if (month == USAGE_MONTH_CLOSED)
		refuse_standing(event, "lies in a month that is closed",
						"Open the month again with billing.reopen_usage(), or bill the difference "
						"by other means.");
	if (month == USAGE_MONTH_DETACHED)
		refuse_standing(event, "lies in a month that was detached",
						"Bill or credit the difference by other means.");
}

/* Resolve the events of a correction, all of which must fit; none of them is late. */
static void
resolve(BillingUsageBatch *batch, BillingUsageEvent **events)
{
	int32 i;

	for (i = 0; i < batch->count; i++)
	{
		if (batch->events[i].outcome == USAGE_MALFORMED)
			refuse_event(&batch->events[i], batch->events[i].problem);
		batch->events[i].is_admitted = true;
	}
	billing_metering_admit(batch);
	billing_metering_resolve(batch->entity_id, events, batch->count);
	for (i = 0; i < batch->count; i++)
	{
		const BillingUsageEvent *event = &batch->events[i];

		if (event->problem != NULL)
			refuse_event(event, event->problem);
		if (event->account_id == 0)
			refuse_event(event, psprintf("no account, item or alias is called \"%.*s\"",
										 event->subject.length, event->subject.bytes));
		if (event->meter_id == 0)
			refuse_event(event, psprintf("no meter has the code \"%.*s\"", event->type.length,
										 event->type.bytes));
	}
}

/* Whether two events have the same source and id. */
static bool
is_same_key(const BillingUsageEvent *a, const BillingUsageEvent *b)
{
	return memcmp(a->key_hash, b->key_hash, BILLING_USAGE_HASH_LENGTH) == 0;
}

/* Leave out what was named before in the same call; sorted by key. */
static void
drop_repeats(BillingUsageCorrection *correction)
{
	int32 kept = 0;
	int32 i;

	for (i = 0; i < correction->count; i++)
	{
		BillingUsageEvent *event = correction->events[i];

		if (kept == 0 || !is_same_key(event, correction->events[kept - 1]))
		{
			correction->events[kept++] = event;
			continue;
		}
		if (memcmp(event->hash, correction->events[kept - 1]->hash, BILLING_USAGE_HASH_LENGTH) != 0)
			refuse_event(event, "the call has another event with its source and id");
		correction->already_done++;
	}
	correction->count = kept;
}

/* Whether something is to be done about an event, given what stands under its key. */
static bool
is_to_do(const BillingUsageCorrection *correction, const BillingUsageEvent *event,
		 const BillingUsageVersion *version)
{
	bool is_void = correction->kind == USAGE_VOID;

	if (version->event_id == 0)
		refuse_unknown(event, is_void ? "Check source and id; they are compared byte by byte."
									  : "Bring it in with billing.ingest_usage(), or as a "
										"correction if it belongs to the past.");
	if (is_void ? version->taken_back : memcmp(version->content, event->hash, UUID_LEN) == 0)
		return false;
	if (version->account_id == 0)
		refuse_month(event, USAGE_MONTH_DETACHED);
	return true;
}

/* Order by the day of what stands there. */
static int
compare_days(const void *a, const void *b)
{
	DateADT first = ((const BillingUsageVersion *) a)->usage_date;
	DateADT second = ((const BillingUsageVersion *) b)->usage_date;

	return first < second ? -1 : first > second;
}

/*
 * Enter the months of what stands there, in their order, as all who write do.
 * Raises for the first event in one that is not open.
 */
static void
enter_months(const BillingUsageCorrection *correction)
{
	BillingUsageVersion *order = palloc(sizeof(*order) * (correction->count + 1));
	int32 entered = -1;
	int32 i;
	int32 k;

	memcpy(order, correction->versions, sizeof(*order) * correction->count);
	qsort(order, correction->count, sizeof(*order), compare_days);
	for (i = 0; i < correction->count; i++)
	{
		int32 month = billing_metering_month_of(order[i].usage_date);
		BillingUsageMonth state;

		if (month == entered)
			continue;
		entered = month;
		state = billing_metering_enter_month(correction->entity_id, order[i].usage_date);
		for (k = 0; k < correction->count && state != USAGE_MONTH_OPEN; k++)
		{
			if (correction->versions[k].event_id == order[i].event_id)
				refuse_month(correction->events[k], state);
		}
	}
}

/* Find what stands under the keys of events to be taken back or replaced, and leave out what is done. */
static void
find_versions(BillingUsageCorrection *correction)
{
	int32 kept = 0;
	int32 i;

	correction->versions =
		billing_metering_versions(correction->entity_id, correction->events, correction->count);
	for (i = 0; i < correction->count; i++)
	{
		if (!is_to_do(correction, correction->events[i], &correction->versions[i]))
		{
			correction->already_done++;
			continue;
		}
		correction->events[kept] = correction->events[i];
		correction->versions[kept++] = correction->versions[i];
	}
	correction->count = kept;
	enter_months(correction);
}

/* Leave out the events of the past that are stored already. */
static void
find_stored(BillingUsageCorrection *correction)
{
	int32 kept = 0;
	int32 i;

	billing_metering_compare(correction->entity_id, correction->events, correction->count);
	for (i = 0; i < correction->count; i++)
	{
		BillingUsageEvent *event = correction->events[i];

		if (event->outcome == USAGE_CONFLICTING)
			refuse_standing(event, "is stored with other content", "Replace it by a correction.");
		if (event->outcome == USAGE_DUPLICATE)
			correction->already_done++;
		else
			correction->events[kept++] = event;
	}
	correction->count = kept;
}

/*
 * Find out what a correction has to do: afterwards its events are those that
 * something is to be done about, and its versions what stands in their place.  An
 * event that is malformed, unknown or cannot be corrected raises an error.
 */
void
billing_metering_prepare(BillingUsageCorrection *correction, BillingUsageBatch *batch)
{
	int32 i;

	correction->entity_id = batch->entity_id;
	correction->count = batch->count;
	correction->already_done = 0;
	correction->versions = NULL;
	correction->events = palloc(sizeof(BillingUsageEvent *) * (batch->count + 1));
	for (i = 0; i < batch->count; i++)
	{
		correction->events[i] = &batch->events[i];
		correction->events[i]->correction_id = correction->correction_id;
	}
	qsort(correction->events, batch->count, sizeof(BillingUsageEvent *), billing_metering_by_key);
	if (correction->kind != USAGE_VOID)
		resolve(batch, correction->events);
	qsort(correction->events, batch->count, sizeof(BillingUsageEvent *), billing_metering_by_key);
	drop_repeats(correction);
	if (correction->kind == USAGE_BACKFILL)
		find_stored(correction);
	else
		find_versions(correction);
	for (i = 0; i < correction->count && correction->kind != USAGE_VOID; i++)
		refuse_month(correction->events[i], correction->events[i]->month);
}

/* Take keys, each for the row that stands there from now on; returns how many were free. */
static uint64
take(int32 entity_id, BillingUsageColumn columns[4], int32 count)
{
	Datum values[5];
	uint64 taken;

	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&columns[0], count, UUIDOID);
	values[2] = billing_metering_array(&columns[1], count, UUIDOID);
	values[3] = billing_metering_array(&columns[2], count, INT8OID);
	values[4] = billing_metering_array(&columns[3], count, DATEOID);
	SPI_connect();
	taken = billing_core_run(&take_keys, values, NULL, false);
	SPI_finish();
	return taken;
}

/* Say what stands in place of each row from now on; somebody else may have been faster. */
static void
take_places(const BillingUsageCorrection *correction, const int64 *void_ids)
{
	static const uint8 nothing[UUID_LEN] = { 0 };
	bool is_void = correction->kind == USAGE_VOID;
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	BillingUsageColumn columns[4];
	int32 i;

	for (i = 0; i < 4; i++)
		columns[i] = billing_metering_column(correction->count);
	for (i = 0; i < correction->count; i++)
	{
		const BillingUsageEvent *event = correction->events[i];
		const BillingUsageVersion *version = &correction->versions[i];
		uint8 hash[BILLING_USAGE_HASH_LENGTH];

		billing_metering_hash_void_key(context, event, version->event_id, hash);
		columns[0].values[i] = billing_metering_uuid(hash);
		columns[1].values[i] = billing_metering_uuid(is_void ? nothing : event->hash);
		columns[2].values[i] = Int64GetDatum(is_void ? void_ids[i] : event->event_id);
		columns[3].values[i] = DateADTGetDatum(is_void ? version->usage_date : event->usage_date);
	}
	pg_cryptohash_free(context);
	if (take(correction->entity_id, columns, correction->count) < (uint64) correction->count)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("an event was taken back by another correction meanwhile"),
						errhint("Look at billing.usage_corrections, and call again.")));
}

/* Make the content of each replacement known, so that its delivery counts as a duplicate. */
static void
take_contents(const BillingUsageCorrection *correction)
{
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	BillingUsageColumn columns[4];
	int32 i;

	for (i = 0; i < 4; i++)
		columns[i] = billing_metering_column(correction->count);
	for (i = 0; i < correction->count; i++)
	{
		const BillingUsageEvent *event = correction->events[i];
		uint8 hash[BILLING_USAGE_HASH_LENGTH];

		billing_metering_hash_content_key(context, event, hash);
		columns[0].values[i] = billing_metering_uuid(hash);
		columns[1].values[i] = billing_metering_uuid(event->hash);
		columns[2].values[i] = Int64GetDatum(event->event_id);
		columns[3].values[i] = DateADTGetDatum(event->usage_date);
	}
	pg_cryptohash_free(context);
	(void) take(correction->entity_id, columns, correction->count);
}

/* Write the rows that take back what stands; where nothing does, there is none. */
static void
write_voids(const BillingUsageCorrection *correction, const int64 *void_ids)
{
	BillingUsageColumn columns[3];
	Datum values[5];
	int32 rows = 0;
	uint64 written;
	int32 i;

	for (i = 0; i < 3; i++)
		columns[i] = billing_metering_column(correction->count);
	for (i = 0; i < correction->count; i++)
	{
		if (correction->versions[i].taken_back)
			continue;
		columns[0].values[rows] = Int64GetDatum(correction->versions[i].event_id);
		columns[1].values[rows] = DateADTGetDatum(correction->versions[i].usage_date);
		columns[2].values[rows++] = Int64GetDatum(void_ids[i]);
	}
	if (rows == 0)
		return;
	values[0] = Int32GetDatum(correction->entity_id);
	values[1] = billing_metering_array(&columns[0], rows, INT8OID);
	values[2] = billing_metering_array(&columns[1], rows, DATEOID);
	values[3] = billing_metering_array(&columns[2], rows, INT8OID);
	values[4] = Int64GetDatum(correction->correction_id);
	SPI_connect();
	written = billing_core_run_privileged(&take_back, values, NULL, false);
	SPI_finish();
	if (written < (uint64) rows)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("an event that is to be taken back is not there any more"),
						errdetail("Of %d events " UINT64_FORMAT " were found.", rows, written),
						errhint("Its month was detached meanwhile.")));
}

/* Ids for the rows that take events back, after the transaction has its own. */
static int64 *
number_voids(int32 count)
{
	Oid sequence = billing_metering_event_sequence();
	int64 *ids = palloc(sizeof(int64) * (count + 1));
	int32 i;

	(void) GetTopFullTransactionId();
	for (i = 0; i < count; i++)
		ids[i] = nextval_internal(sequence, false);
	return ids;
}

/* Take events back, and put the new ones in their place. */
static void
replace(BillingUsageCorrection *correction)
{
	int64 *void_ids = number_voids(correction->count);
	bool is_void = correction->kind == USAGE_VOID;
	int32 i;

	if (!is_void)
		billing_metering_number(correction->events, correction->count);
	take_places(correction, void_ids);
	write_voids(correction, void_ids);
	if (is_void)
		return;
	take_contents(correction);
	billing_metering_insert(correction->entity_id, correction->events, correction->count);
	for (i = 0; i < correction->count; i++)
		correction->events[i]->outcome = USAGE_ACCEPTED;
}

/* Bring in events of the past; what arrived meanwhile is not brought in again. */
static void
backfill(BillingUsageCorrection *correction)
{
	BillingUsageCounts counts = { 0 };
	int32 kept = 0;
	int32 i;

	billing_metering_store(correction->entity_id, correction->events, correction->count, &counts);
	for (i = 0; i < correction->count; i++)
	{
		if (correction->events[i]->outcome == USAGE_ACCEPTED)
			correction->events[kept++] = correction->events[i];
		else if (correction->events[i]->outcome == USAGE_DUPLICATE)
			correction->already_done++;
		else
			refuse_standing(correction->events[i], "arrived meanwhile with other content",
							"Replace it by a correction.");
	}
	correction->count = kept;
}

/*
 * Write what a prepared correction comes to, under its correction_id.  Raises
 * ZB013 where another correction was faster.
 */
void
billing_metering_carry_out(BillingUsageCorrection *correction)
{
	int32 i;

	if (correction->count == 0)
		return;
	for (i = 0; i < correction->count && correction->kind == USAGE_REPLACE; i++)
		correction->events[i]->corrects_id = correction->versions[i].event_id;
	if (correction->kind == USAGE_BACKFILL)
		backfill(correction);
	else
		replace(correction);
	if (correction->kind != USAGE_VOID)
		billing_metering_settle(correction->entity_id, correction->events, correction->count);
	if (correction->kind == USAGE_REPLACE)
		billing_metering_settle_conflicts(correction->entity_id, correction->events,
										  correction->count);
}
