/*
 * metering_exception.c
 *		Puts events that were not stored into the queue of exceptions, and takes
 *		those out of it that need nobody any more.
 *
 * An exception is about one content under one key: its dedupe_key is
 * source|id|hash, a | or \ in the source escaped by \.  An event that waits for
 * its account or meter is waiting as long as its exception is open.  Lookups by
 * key run past row-level security, for the reason that metering_resolve.c gives.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#define KIND_CONFLICT "usage_conflict"
#define KIND_MALFORMED "usage_malformed"
#define KIND_SUBJECT "usage_unknown_subject"
#define KIND_METER "usage_unknown_meter"
#define KIND_NOT_ALLOWED "usage_not_allowed"
#define KIND_LATE "usage_late"
#define KIND_CLOSED "usage_month_closed"
/* what waits for a decision or a mend, and is taken in afterwards */
#define WAITING_KINDS "'" KIND_SUBJECT "', '" KIND_METER "', '" KIND_LATE "', '" KIND_CLOSED "'"
#define MOST_KINDS 4

static const char *const waiting_kinds[MOST_KINDS] = { KIND_SUBJECT, KIND_METER, KIND_LATE,
													   KIND_CLOSED };

/*
 * $1 entity, $2 kinds, $3 dedupe keys, $4 subjects, $5 details, $6 payloads, $7 ids of the stored
 * events that conflict.  The same is raised once, and rows are written in one order by all sessions.
 */
static BillingStatement raise_exceptions = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, detail, payload,"
	" deadline) SELECT DISTINCT ON (i.kind, i.dedupe_key) $1, i.kind, i.dedupe_key, i.subject,"
	" i.detail, CASE WHEN e.event_id IS NULL THEN i.payload ELSE jsonb_build_object("
	" 'sent', i.payload, 'stored', jsonb_build_object('id', e.event_key, 'source', e.source,"
	" 'type', e.event_type, 'subject', e.subject,"
	" 'time', to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),"
	" 'data', e.data)) END, now() + make_interval(days => k.deadline_days)"
	" FROM unnest($2, $3, $4, $5, $6, $7) WITH ORDINALITY"
	" i (kind, dedupe_key, subject, detail, payload, event_id, position)"
	" JOIN billing.exception_kind k ON k.kind = i.kind"
	" LEFT JOIN billing.usage_event e ON e.entity_id = $1 AND e.event_id = i.event_id"
	" ORDER BY i.kind, i.dedupe_key, i.position"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING",
	7,
	{ INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, JSONBARRAYOID,
	  INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 kinds, $3 dedupe keys: what waits again after it had been resolved is open again.
 * Open ones are not locked, so a replay that holds them is not in the way.
 */
static BillingStatement reopen_exceptions = {
	"UPDATE billing.exception x SET state = 'open', resolved_at = NULL, resolved_by = NULL,"
	" resolution = NULL, raised_at = now(), deadline = now() + make_interval(days => k.deadline_days)"
	" FROM billing.exception_kind k WHERE k.kind = x.kind AND x.entity_id = $1"
	" AND x.exception_id IN (SELECT q.exception_id FROM unnest($2, $3) r (kind, dedupe_key)"
	"  CROSS JOIN LATERAL (SELECT y.exception_id FROM billing.exception y WHERE y.entity_id = $1"
	"   AND y.kind = r.kind AND y.dedupe_key = r.dedupe_key AND y.state = 'resolved' LIMIT 1) q"
	"  WHERE r.kind IN (" WAITING_KINDS "))",
	3,
	{ INT4OID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 kinds: those of which something is open */
static BillingStatement find_waiting = {
	"SELECT k.position::integer FROM unnest($2) WITH ORDINALITY k (kind, position)"
	" WHERE EXISTS (SELECT FROM billing.exception x WHERE x.entity_id = $1 AND x.kind = k.kind"
	"  AND x.state = 'open')",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/*
 * $1 entity, $2 actor, $3 kinds, $4 dedupe keys, $5 resolutions.  One that a replay holds is left
 * to it: it comes to the same end.
 * The conditions are put so that a table that was never analyzed is not read for each of the keys.
 */
static BillingStatement resolve_exceptions = {
	"UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $2,"
	" resolution = w.resolution FROM (SELECT f.entity_id, f.exception_id, r.resolution"
	"  FROM unnest($3, $4, $5) r (kind, dedupe_key, resolution)"
	"  CROSS JOIN LATERAL (SELECT q.entity_id, q.exception_id FROM billing.exception q"
	"   WHERE q.entity_id = $1 AND q.kind = r.kind AND q.dedupe_key = r.dedupe_key"
	"   AND coalesce(q.state, '') = 'open' FOR UPDATE SKIP LOCKED) f) w"
	" WHERE x.entity_id = w.entity_id AND x.exception_id = w.exception_id",
	5,
	{ INT4OID, INT4OID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 actor: a malformed event whose corrected version was taken in has served its turn. */
static BillingStatement resolve_corrected = {
	"UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $2,"
	" resolution = 'an event with its source and id was accepted'"
	" FROM (SELECT q.entity_id, q.exception_id FROM billing.exception q"
	"  WHERE q.entity_id = $1 AND q.state = 'open' AND q.kind = '" KIND_MALFORMED "'"
	"  AND (SELECT k.event_id FROM billing.usage_key k WHERE k.entity_id = $1 AND k.key ="
	"   billing_internal.usage_key_of(q.payload ->> 'source', q.payload ->> 'id')) IS NOT NULL"
	"  FOR UPDATE OF q SKIP LOCKED) w"
	" WHERE x.entity_id = w.entity_id AND x.exception_id = w.exception_id",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* Rows of exceptions while they are gathered. */
typedef struct Gathering
{
	BillingUsageColumn kind;
	BillingUsageColumn dedupe_key;
	BillingUsageColumn subject;
	BillingUsageColumn text; /* the detail, or the resolution */
	BillingUsageColumn payload;
	BillingUsageColumn stored_id;
	int32 count;
} Gathering;

/* Room for the rows of so many events. */
static Gathering
begin_gathering(int32 events)
{
	Gathering rows;

	rows.kind = billing_metering_column(MOST_KINDS * events);
	rows.dedupe_key = billing_metering_column(MOST_KINDS * events);
	rows.subject = billing_metering_column(MOST_KINDS * events);
	rows.text = billing_metering_column(MOST_KINDS * events);
	rows.payload = billing_metering_column(MOST_KINDS * events);
	rows.stored_id = billing_metering_column(MOST_KINDS * events);
	rows.count = 0;
	return rows;
}

/* What an exception about the event is known by: source|id|hash. */
static Datum
dedupe_key_of(const BillingUsageEvent *event)
{
	StringInfoData key;
	Datum result;
	int i;

	initStringInfo(&key);
	for (i = 0; i < event->source.length; i++)
	{
		if (event->source.bytes[i] == '|' || event->source.bytes[i] == '\\')
			appendStringInfoChar(&key, '\\');
		appendStringInfoChar(&key, event->source.bytes[i]);
	}
	appendStringInfoChar(&key, '|');
	if (event->key.length > 0)
		appendBinaryStringInfo(&key, event->key.bytes, event->key.length);
	appendStringInfoChar(&key, '|');
	enlargeStringInfo(&key, 2 * BILLING_USAGE_HASH_LENGTH);
	key.len +=
		(int) hex_encode((const char *) event->hash, BILLING_USAGE_HASH_LENGTH, key.data + key.len);
	result = PointerGetDatum(cstring_to_text_with_len(key.data, key.len));
	pfree(key.data);
	return result;
}

/* Gather an exception that is to be raised. */
static void
gather_raise(Gathering *rows, const BillingUsageEvent *event, const char *kind, const char *detail)
{
	int32 i = rows->count++;

	rows->kind.values[i] = CStringGetTextDatum(kind);
	rows->dedupe_key.values[i] = dedupe_key_of(event);
	rows->subject.nulls[i] = event->subject.length == 0;
	if (event->subject.length > 0)
		rows->subject.values[i] = billing_metering_text(event->subject);
	rows->text.values[i] = CStringGetTextDatum(detail);
	rows->payload.values[i] = JsonbPGetDatum(billing_metering_payload(event));
	rows->stored_id.values[i] = Int64GetDatum(event->stored_id);
	rows->stored_id.nulls[i] = event->outcome != USAGE_CONFLICTING;
}

/* Gather the exceptions of one event that was not stored. */
static void
gather_event(Gathering *rows, const BillingUsageEvent *event)
{
	switch (event->outcome)
	{
		case USAGE_CONFLICTING:
			gather_raise(rows, event, KIND_CONFLICT,
						 psprintf("event \"%.*s\" of source \"%.*s\" came again with other content",
								  event->key.length, event->key.bytes, event->source.length,
								  event->source.bytes));
			break;
		case USAGE_MALFORMED:
			gather_raise(rows, event, KIND_MALFORMED, event->problem);
			break;
		case USAGE_NOT_ALLOWED:
			gather_raise(rows, event, KIND_NOT_ALLOWED, event->problem);
			break;
		case USAGE_UNKNOWN:
			if (event->account_id == 0)
				gather_raise(rows, event, KIND_SUBJECT,
							 psprintf("no billing account has the code \"%.*s\"",
									  event->subject.length, event->subject.bytes));
			if (event->meter_id == 0)
				gather_raise(rows, event, KIND_METER,
							 psprintf("no meter has the code \"%.*s\"", event->type.length,
									  event->type.bytes));
			break;
		case USAGE_CLOSED:
			gather_raise(rows, event, KIND_CLOSED,
						 psprintf("usage of %s is %s",
								  billing_metering_month_name(
									  billing_metering_month_of(event->usage_date)),
								  event->month == USAGE_MONTH_DETACHED ? "detached" : "closed"));
			break;
		case USAGE_LATE:
			gather_raise(rows, event, KIND_LATE,
						 psprintf("came %d days after the day on which it happened",
								  event->late_days));
			break;
		default:
			break;
	}
}

/* Raise exceptions for the events that were not stored. */
void
billing_metering_raise(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	Gathering rows = begin_gathering(count);
	Datum values[7];
	int32 i;

	for (i = 0; i < count; i++)
		gather_event(&rows, events[i]);
	if (rows.count == 0)
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&rows.kind, rows.count, TEXTOID);
	values[2] = billing_metering_array(&rows.dedupe_key, rows.count, TEXTOID);
	values[3] = billing_metering_array(&rows.subject, rows.count, TEXTOID);
	values[4] = billing_metering_array(&rows.text, rows.count, TEXTOID);
	values[5] = billing_metering_array(&rows.payload, rows.count, JSONBOID);
	values[6] = billing_metering_array(&rows.stored_id, rows.count, INT8OID);
	SPI_connect();
	if (billing_core_run(&raise_exceptions, values, NULL, false) < (uint64) rows.count)
		(void) billing_core_run_privileged(&reopen_exceptions, values, NULL, false);
	SPI_finish();
}

/* Gather an exception that is to be resolved, if it is open. */
static void
gather_resolution(Gathering *rows, Datum dedupe_key, const char *kind, const char *resolution)
{
	int32 i = rows->count++;

	rows->kind.values[i] = CStringGetTextDatum(kind);
	rows->dedupe_key.values[i] = dedupe_key;
	rows->text.values[i] = CStringGetTextDatum(resolution);
}

/* Why an event waits no more in a kind of exception, or NULL where it may still. */
static const char *
resolution_of(const BillingUsageEvent *event, const char *kind)
{
	switch (event->outcome)
	{
		case USAGE_ACCEPTED:
		case USAGE_DUPLICATE:
			return "the event was accepted";
		case USAGE_CONFLICTING:
			return "raised as " KIND_CONFLICT;
		case USAGE_MALFORMED:
			return "raised as " KIND_MALFORMED;
		case USAGE_CLOSED:
			if (strcmp(kind, KIND_LATE) == 0)
				return "raised as " KIND_CLOSED;
			break;
		case USAGE_LATE:
			if (strcmp(kind, KIND_CLOSED) == 0)
				return "raised as " KIND_LATE;
			break;
		default:
			break;
	}
	if (strcmp(kind, KIND_SUBJECT) == 0 && event->account_id != 0)
		return "the subject is known now";
	if (strcmp(kind, KIND_METER) == 0 && event->meter_id != 0)
		return "the meter exists now";
	return NULL;
}

/* Gather what an event waits for no more, of the kinds in which anything waits. */
static void
gather_settled(Gathering *rows, const BillingUsageEvent *event, const bool *waiting)
{
	Datum dedupe_key = (Datum) 0;
	int kind;

	/* without an id, or with a bad field, it never waited for anything */
	if (event->outcome == USAGE_MALFORMED && event->account_id == 0 && event->meter_id == 0)
		return;
	for (kind = 0; kind < MOST_KINDS; kind++)
	{
		const char *resolution = waiting[kind] ? resolution_of(event, waiting_kinds[kind]) : NULL;

		if (resolution == NULL)
			continue;
		if (dedupe_key == (Datum) 0)
			dedupe_key = dedupe_key_of(event);
		gather_resolution(rows, dedupe_key, waiting_kinds[kind], resolution);
	}
}

/* Find the kinds in which anything of the entity waits; false where nothing does. */
static bool
find_waiting_kinds(int32 entity_id, bool *waiting)
{
	BillingUsageColumn kinds = billing_metering_column(MOST_KINDS);
	Datum values[2];
	uint64 found;
	uint64 row;
	int kind;

	for (kind = 0; kind < MOST_KINDS; kind++)
		kinds.values[kind] = CStringGetTextDatum(waiting_kinds[kind]);
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&kinds, MOST_KINDS, TEXTOID);
	SPI_connect();
	found = billing_core_run(&find_waiting, values, NULL, false);
	for (row = 0; row < found; row++)
		waiting[DatumGetInt32(billing_core_value(row, 0, NULL)) - 1] = true;
	SPI_finish();
	return found > 0;
}

/* Who resolves: what nobody in person does, such as a DBA's call, the system does. */
static int32
resolver(void)
{
	return Max(billing_core_actor_person(), BILLING_SYSTEM_PERSON);
}

/* Resolve what was gathered. */
static void
resolve(int32 entity_id, Gathering *rows)
{
	Datum values[5];

	if (rows->count == 0)
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(resolver());
	values[2] = billing_metering_array(&rows->kind, rows->count, TEXTOID);
	values[3] = billing_metering_array(&rows->dedupe_key, rows->count, TEXTOID);
	values[4] = billing_metering_array(&rows->text, rows->count, TEXTOID);
	SPI_connect();
	(void) billing_core_run_privileged(&resolve_exceptions, values, NULL, false);
	SPI_finish();
}

/* Resolve the exceptions of events that wait for nothing any more. */
void
billing_metering_settle(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	Gathering rows;
	bool waiting[MOST_KINDS] = { false };
	int32 i;

	if (!find_waiting_kinds(entity_id, waiting))
		return;
	rows = begin_gathering(count);
	for (i = 0; i < count; i++)
		gather_settled(&rows, events[i], waiting);
	resolve(entity_id, &rows);
}

/* Resolve that events contradicted what stood under their keys: a correction has put them there. */
void
billing_metering_settle_conflicts(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	Gathering rows = begin_gathering(count);
	int32 i;

	for (i = 0; i < count; i++)
		gather_resolution(&rows, dedupe_key_of(events[i]), KIND_CONFLICT,
						  "a correction put it in place of the other");
	resolve(entity_id, &rows);
}

/* Resolve the exceptions of malformed events that came again in good form. */
void
billing_metering_settle_corrected(int32 entity_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int32GetDatum(resolver()) };

	SPI_connect();
	(void) billing_core_run_privileged(&resolve_corrected, values, NULL, false);
	SPI_finish();
}
