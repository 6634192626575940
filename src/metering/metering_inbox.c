/*
 * metering_inbox.c
 *		The third door: rows that COPY wrote into billing.usage_inbox become
 *		events or exceptions.
 *
 * A row leaves the inbox in the transaction in which it becomes something else.
 * Rows that another drain holds are left to it.  The inbox is read and emptied
 * below SQL, because that is where the time of a bulk load goes.  Whether the
 * sender was allowed to send is decided here; a row whose entity nobody knows,
 * or whose sender does not belong there, stays, with the reason.
 */
#include "pg_compat.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/hashfn.h"
#include "core/core.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* What is read at once; it is sorted by key as a whole, so that drains do not wait in a circle. */
#define CHUNK_ROWS 100000
#define CHUNK_BYTES (64 * 1024 * 1024)

/* What is kept of the entity that a row names. */
#define MAX_ENTITY_LENGTH (2 * BILLING_MAX_CODE_LENGTH)

/* Local days begin on a quarter of an hour everywhere: senders are asked for once in each. */
#define QUARTER_HOUR (15 * 60 * USECS_PER_SEC)

/* The columns of billing.usage_inbox, in the order of tables.sql. */
enum
{
	COLUMN_ENTITY,
	COLUMN_SOURCE,
	COLUMN_ID,
	COLUMN_TYPE,
	COLUMN_SUBJECT,
	COLUMN_TIME,
	COLUMN_DATA,
	COLUMN_SENT_BY,
	COLUMN_RECEIVED_AT,
	COLUMN_REFUSED,
	COLUMNS
};

/* $1 code of the entity, $2 login of the sender, $3 when it was sent */
static BillingStatement find_sender = {
	"SELECT e.entity_id, l.person_id,"
	" EXISTS (SELECT FROM billing.duty_assignment a WHERE a.entity_id = e.entity_id"
	"  AND a.person_id = l.person_id AND daterange(a.valid_from, a.valid_to)"
	"  @> ($3 AT TIME ZONE e.time_zone)::date),"
	" EXISTS (SELECT FROM billing.duty_assignment a WHERE a.entity_id = e.entity_id"
	"  AND a.person_id = l.person_id AND a.duty IN ('biller', 'application')"
	"  AND daterange(a.valid_from, a.valid_to) @> ($3 AT TIME ZONE e.time_zone)::date)"
	" FROM (VALUES (1)) one (row) LEFT JOIN billing.legal_entity e ON e.code = $1"
	" LEFT JOIN billing.person_login l ON l.role_name = $2",
	3,
	{ TEXTOID, TEXTOID, TIMESTAMPTZOID },
	NULL
};

/* What is decided about a sender in an entity during a quarter of an hour. */
typedef struct Sender
{
	BillingUsageText entity;
	BillingUsageText login;
	int64 quarter;
	int32 entity_id;	 /* 0 where the rows are refused */
	const char *refusal; /* why they are refused, or NULL */
	const char *problem; /* why they are not allowed, or NULL */
	struct Sender *next;
} Sender;

/* A row that was taken out of the inbox. */
typedef struct Row
{
	BillingUsageFields fields;
	const Sender *sender;
	TimestampTz received_at;
	int32 position;
} Row;

/* The counts of an entity, for its audit record. */
typedef struct EntityCounts
{
	int32 entity_id;
	BillingUsageCounts counts;
	struct EntityCounts *next;
} EntityCounts;

#define SENDER_BUCKETS 256

/* A drain under way. */
typedef struct Drain
{
	Relation inbox;
	TableScanDesc scan;
	TupleTableSlot *slot;
	const char *entity; /* the only one whose rows are wanted, or NULL */
	bool retry;			/* look at refused rows again */
	int64 most;			/* rows that may still be taken */
	bool at_end;
	MemoryContext chunk_context;
	Row *rows; /* of the chunk */
	int32 count;
	int32 refused;
	Sender *senders[SENDER_BUCKETS]; /* of the whole drain */
	EntityCounts *entities;
} Drain;

/* Whether two texts are the same. */
static bool
same_text(BillingUsageText a, BillingUsageText b)
{
	return a.length == b.length && memcmp(a.bytes, b.bytes, a.length) == 0;
}

/* A copy of a text that lives as long as the drain. */
static BillingUsageText
keep_text(BillingUsageText text)
{
	BillingUsageText copy;

	copy.bytes = pnstrdup(text.bytes, text.length);
	copy.length = text.length;
	return copy;
}

/* Find out whether the sender may send for the entity. */
static void
judge_sender(Sender *sender, TimestampTz received_at)
{
	MemoryContext context = CurrentMemoryContext;
	char *entity = pnstrdup(sender->entity.bytes, sender->entity.length);
	char *login = pnstrdup(sender->login.bytes, sender->login.length);
	Datum values[3];
	bool no_entity;
	bool nobody;
	bool belongs;
	bool allowed;

	values[0] = billing_metering_text(sender->entity);
	values[1] = billing_metering_text(sender->login);
	values[2] = TimestampTzGetDatum(received_at);
	SPI_connect();
	(void) billing_core_run_privileged(&find_sender, values, NULL, false);
	sender->entity_id = DatumGetInt32(billing_core_value(0, 0, &no_entity));
	(void) billing_core_value(0, 1, &nobody);
	belongs = DatumGetBool(billing_core_value(0, 2, NULL));
	allowed = DatumGetBool(billing_core_value(0, 3, NULL));
	SPI_finish();
	MemoryContextSwitchTo(context);
	if (sender->entity.length == 0)
		sender->refusal = "entity is missing";
	else if (no_entity)
		sender->refusal = psprintf("entity \"%s\" does not exist", entity);
	else if (nobody)
		sender->refusal = psprintf("login \"%s\" is nobody's login", login);
	else if (!belongs)
		sender->refusal = psprintf("login \"%s\" had no duty in entity \"%s\"", login, entity);
	else if (!allowed)
		sender->problem =
			psprintf("login \"%s\" sent it without the duty biller or application", login);
	if (sender->refusal != NULL)
		sender->entity_id = 0;
}

/* What is decided about the sender of a row. */
static const Sender *
find_sender_of(Drain *drain, BillingUsageText entity, BillingUsageText login,
			   TimestampTz received_at)
{
	int64 quarter = received_at / QUARTER_HOUR;
	uint32 hash = hash_bytes((const unsigned char *) entity.bytes, entity.length) ^
				  hash_bytes((const unsigned char *) login.bytes, login.length) ^
				  hash_bytes((const unsigned char *) &quarter, sizeof(quarter));
	Sender **bucket = &drain->senders[hash % SENDER_BUCKETS];
	Sender *sender;

	for (sender = *bucket; sender != NULL; sender = sender->next)
	{
		if (sender->quarter == quarter && same_text(sender->entity, entity) &&
			same_text(sender->login, login))
			return sender;
	}
	sender = palloc0(sizeof(Sender));
	sender->entity = keep_text(entity);
	sender->login = keep_text(login);
	sender->quarter = quarter;
	judge_sender(sender, received_at);
	sender->next = *bucket;
	*bucket = sender;
	return sender;
}

/* A column of the row as a text inside of it; without bytes where it is null. */
static BillingUsageText
text_of(const Datum *values, const bool *nulls, int column)
{
	BillingUsageText result = { NULL, 0 };
	text *value;

	if (nulls[column])
		return result;
	value = DatumGetTextPP(values[column]);
	result.bytes = VARDATA_ANY(value);
	result.length = VARSIZE_ANY_EXHDR(value);
	return result;
}

/* Whether the row under the scan could be taken out of the inbox; if not, somebody else has it. */
static bool
take_out(Drain *drain)
{
	TM_FailureData failure;
	TM_Result result =
		table_tuple_delete(drain->inbox, &drain->slot->tts_tid, GetCurrentCommandId(true),
						   drain->scan->rs_snapshot, InvalidSnapshot, false, &failure, false);

	return result == TM_Ok;
}

/* Put a row back that was taken out, with the reason why it is refused. */
static void
put_back(Drain *drain, HeapTuple tuple, const char *reason)
{
	Datum values[COLUMNS] = { 0 };
	bool nulls[COLUMNS] = { false };
	bool replaced[COLUMNS] = { false };

	values[COLUMN_REFUSED] = CStringGetTextDatum(reason);
	replaced[COLUMN_REFUSED] = true;
	simple_heap_insert(drain->inbox, heap_modify_tuple(tuple, RelationGetDescr(drain->inbox),
													   values, nulls, replaced));
	drain->refused++;
}

/*
 * Take the row under the scan into the chunk, if it is wanted and nobody else
 * has it; returns its size.  In the memory of the chunk.
 */
static int64
take_row(Drain *drain, MemoryContext drain_context)
{
	HeapTuple tuple;
	Datum values[COLUMNS];
	bool nulls[COLUMNS];
	BillingUsageText entity;
	BillingUsageText login;
	const Sender *sender;
	const char *refusal;
	Row *row = &drain->rows[drain->count];
	MemoryContext old;
	bool isnull;

	/* most rows that are not wanted are known by this */
	(void) slot_getattr(drain->slot, COLUMN_REFUSED + 1, &isnull);
	if (!isnull && !drain->retry)
		return 0;
	tuple = ExecCopySlotHeapTuple(drain->slot);
	heap_deform_tuple(tuple, RelationGetDescr(drain->inbox), values, nulls);
	entity = text_of(values, nulls, COLUMN_ENTITY);
	login = text_of(values, nulls, COLUMN_SENT_BY);
	if (drain->entity != NULL && (entity.length != (int) strlen(drain->entity) ||
								  memcmp(entity.bytes, drain->entity, entity.length) != 0))
	{
		heap_freetuple(tuple);
		return 0;
	}
	row->received_at = DatumGetTimestampTz(values[COLUMN_RECEIVED_AT]);
	old = MemoryContextSwitchTo(drain_context);
	/* so much of it is enough to tell that no code is that long */
	if (entity.length > MAX_ENTITY_LENGTH)
		entity.length = pg_mbcliplen(entity.bytes, entity.length, MAX_ENTITY_LENGTH);
	sender = find_sender_of(drain, entity, login, row->received_at);
	MemoryContextSwitchTo(old);
	row->sender = sender;
	row->position = drain->count;
	row->fields.id = text_of(values, nulls, COLUMN_ID);
	row->fields.source = text_of(values, nulls, COLUMN_SOURCE);
	row->fields.type = text_of(values, nulls, COLUMN_TYPE);
	row->fields.subject = text_of(values, nulls, COLUMN_SUBJECT);
	row->fields.has_time = !nulls[COLUMN_TIME];
	row->fields.time = row->fields.has_time ? DatumGetTimestampTz(values[COLUMN_TIME]) : 0;
	row->fields.data = nulls[COLUMN_DATA] ? NULL : DatumGetJsonbP(values[COLUMN_DATA]);
	refusal = billing_metering_fields_size(&row->fields) > BILLING_USAGE_MAX_EVENT
				  ? "the event is too large"
				  : sender->refusal;
	if (take_out(drain))
	{
		if (refusal != NULL)
			put_back(drain, tuple, refusal);
		else
			drain->count++;
	}
	return tuple->t_len + billing_metering_fields_size(&row->fields);
}

/* Read rows into the chunk until it is full, or there are none left. */
static void
read_chunk(Drain *drain, MemoryContext drain_context)
{
	int32 room = (int32) Min(drain->most, CHUNK_ROWS);
	int64 bytes = 0;

	drain->rows = palloc(sizeof(Row) * (room + 1));
	drain->count = 0;
	drain->refused = 0;
	while (drain->count + drain->refused < room && bytes < CHUNK_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		if (!table_scan_getnextslot(drain->scan, ForwardScanDirection, drain->slot))
		{
			drain->at_end = true;
			break;
		}
		bytes += take_row(drain, drain_context);
	}
	ExecClearTuple(drain->slot);
	drain->most -= drain->count + drain->refused;
}

/* Order rows by entity, then as they came. */
static int
compare_rows(const void *a, const void *b)
{
	const Row *first = a;
	const Row *second = b;

	if (first->sender->entity_id != second->sender->entity_id)
		return first->sender->entity_id < second->sender->entity_id ? -1 : 1;
	if (first->received_at != second->received_at)
		return first->received_at < second->received_at ? -1 : 1;
	return first->position - second->position;
}

/* Take rows of one entity in as events. */
static void
ingest_rows(const Row *rows, int32 count, BillingUsageCounts *counts)
{
	BillingUsageBatch batch;
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	int32 i;

	batch.entity_id = rows[0].sender->entity_id;
	batch.count = count;
	batch.events = palloc0(sizeof(BillingUsageEvent) * count);
	for (i = 0; i < count; i++)
	{
		BillingUsageEvent *event = &batch.events[i];

		event->position = i;
		billing_metering_read_fields(event, &rows[i].fields, context);
		event->arrived_at = rows[i].received_at;
		if (rows[i].sender->problem != NULL)
		{
			event->outcome = USAGE_NOT_ALLOWED;
			event->problem = rows[i].sender->problem;
		}
	}
	pg_cryptohash_free(context);
	billing_metering_ingest(&batch, counts);
}

/* The counts of an entity in this drain. */
static BillingUsageCounts *
counts_of(Drain *drain, int32 entity_id, MemoryContext drain_context)
{
	EntityCounts *each;

	for (each = drain->entities; each != NULL; each = each->next)
	{
		if (each->entity_id == entity_id)
			return &each->counts;
	}
	each = MemoryContextAllocZero(drain_context, sizeof(EntityCounts));
	each->entity_id = entity_id;
	each->next = drain->entities;
	drain->entities = each;
	return &each->counts;
}

/* Make events or exceptions of the chunk's rows. */
static void
process_chunk(Drain *drain, MemoryContext drain_context)
{
	int32 done = 0;

	qsort(drain->rows, drain->count, sizeof(Row), compare_rows);
	while (done < drain->count)
	{
		int32 entity_id = drain->rows[done].sender->entity_id;
		int32 end = done;

		while (end < drain->count && drain->rows[end].sender->entity_id == entity_id)
			end++;
		ingest_rows(drain->rows + done, end - done, counts_of(drain, entity_id, drain_context));
		done = end;
	}
}

/* Begin to read the inbox. */
static void
begin_drain(Drain *drain)
{
	Oid inbox = get_relname_relid("usage_inbox", get_namespace_oid("billing", false));

	drain->inbox = table_open(inbox, RowExclusiveLock);
	if (RelationGetNumberOfAttributes(drain->inbox) != COLUMNS)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("table billing.usage_inbox has other columns than it should"),
						errhint("Run ALTER EXTENSION billing_erp UPDATE.")));
	drain->scan = table_beginscan_strat(drain->inbox, RegisterSnapshot(GetActiveSnapshot()), 0,
										NULL, true, false);
	drain->slot = table_slot_create(drain->inbox, NULL);
}

/* End reading the inbox; the lock stays until the transaction ends. */
static void
end_drain(Drain *drain)
{
	Snapshot snapshot = drain->scan->rs_snapshot;

	ExecDropSingleTupleTableSlot(drain->slot);
	table_endscan(drain->scan);
	UnregisterSnapshot(snapshot);
	table_close(drain->inbox, NoLock);
}

/*
 * Drain the inbox: the rows of one entity, or of all; refused ones only where
 * that is asked for.  Adds to the counts, and writes the audit records.
 */
static void
drain_inbox(const char *entity, bool retry, int64 most, BillingUsageCounts *counts)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "usage drain", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Drain drain = { 0 };
	EntityCounts *each;

	PreventCommandIfReadOnly("drain_usage_inbox()");
	PreventCommandDuringRecovery("drain_usage_inbox()");
	PreventCommandIfParallelMode("drain_usage_inbox()");
	drain.entity = entity;
	drain.retry = retry;
	drain.most = most;
	drain.chunk_context = AllocSetContextCreate(context, "usage chunk", ALLOCSET_DEFAULT_SIZES);
	begin_drain(&drain);
	while (!drain.at_end && drain.most > 0)
	{
		MemoryContextSwitchTo(drain.chunk_context);
		read_chunk(&drain, context);
		process_chunk(&drain, context);
		MemoryContextReset(drain.chunk_context);
	}
	MemoryContextSwitchTo(context);
	end_drain(&drain);
	for (each = drain.entities; each != NULL; each = each->next)
	{
		billing_metering_audit(each->entity_id, "drain", &each->counts);
		counts->accepted += each->counts.accepted;
		counts->duplicate += each->counts.duplicate;
		counts->conflicting += each->counts.conflicting;
		counts->quarantined += each->counts.quarantined;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

PG_FUNCTION_INFO_V1(billing_metering_drain_usage_inbox);
PG_FUNCTION_INFO_V1(billing_metering_drain_inboxes);

/*
 * billing.drain_usage_inbox(entity text, most integer) RETURNS TABLE (accepted bigint,
 *     duplicate bigint, conflicting bigint, quarantined bigint)
 *
 * Without an entity, for members of billing_owner, of all entities, and those
 * that were refused are looked at again.  Refused rows are not counted.  Raises
 * ZB003 without the duty.
 */
Datum
billing_metering_drain_usage_inbox(PG_FUNCTION_ARGS)
{
	BillingUsageCounts counts = { 0 };
	const char *entity = NULL;
	int32 most;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) && !billing_core_is_installation_admin())
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("entity must not be null"),
				 errhint("Only members of billing_owner drain all entities at once.")));
	if (!PG_ARGISNULL(0))
	{
		billing_metering_require_sender(billing_core_arg_entity(fcinfo, 0));
		entity = text_to_cstring(PG_GETARG_TEXT_PP(0));
	}
	most = billing_core_arg_int(fcinfo, 1, "most", 1, PG_INT32_MAX);
	drain_inbox(entity, entity == NULL, most, &counts);
	return billing_metering_return_counts(fcinfo, &counts);
}

/* What one run of the worker's task takes at most: its transaction ends, and has few subtransactions. */
#define MOST_PER_TASK 500000

/* billing_internal.drain_inboxes() RETURNS void */
Datum
billing_metering_drain_inboxes(PG_FUNCTION_ARGS)
{
	BillingUsageCounts counts = { 0 };

	drain_inbox(NULL, false, MOST_PER_TASK, &counts);
	PG_RETURN_VOID();
}
