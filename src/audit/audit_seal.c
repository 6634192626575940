/*
 * audit_seal.c
 *		The sealer: puts the records of an entity that nobody can add to any more
 *		into blocks of a chain.
 *
 * Ids are no order of commits: a transaction may draw low ids and commit last.
 * A transaction gets its own number before it draws ids for its records (the
 * guard of the log sees to it for every INSERT, and billing_audit_begin_write()).
 * We read S, the last id drawn, and then X, the next number of a transaction: a
 * record up to S belongs to a transaction before X.  When the xmin of a snapshot
 * has reached X, all of them have ended, and the records up to S are those that
 * will ever be.  Where it has not, (X, S) is noted for the next time, so that an
 * open transaction delays the seal but never keeps a record out of it.  The
 * records are read in the snapshot whose xmin was looked at: the caller's.
 */
#include "pg_compat.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "audit/audit_private.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/xid8.h"

#define HASH BILLING_AUDIT_HASH_LENGTH
/* Records that are fetched at once. */
#define FETCH_RECORDS 1000

/* Up to where records are final. */
typedef struct Horizon
{
	uint64 xmin;
	int64 last_id;
	uint64 next;
} Horizon;

static BillingStatement read_xmin = {
	"SELECT pg_snapshot_xmin(pg_current_snapshot())", 0, { 0 }, NULL
};

/* $1 the sequence: it may be read by its owner only */
static BillingStatement last_id = {
	"SELECT coalesce(pg_sequence_last_value($1::oid::regclass), 0)", 1, { OIDOID }, NULL
};

/* the entities that the actor may see, and the installation where they may see that */
static BillingStatement list_entities = {
	"SELECT e FROM unnest(billing.my_entities()) AS e ORDER BY e", 0, { 0 }, NULL
};

/* $1 entity: no row where another session has it, or where there is none */
static BillingStatement try_lock = {
	"SELECT next_before, next_audit_id FROM billing.audit_watermark"
	" WHERE entity_id = $1 FOR UPDATE SKIP LOCKED",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity */
static BillingStatement make_watermark = {
	"INSERT INTO billing.audit_watermark (entity_id) SELECT $1"
	" WHERE NOT EXISTS (SELECT FROM billing.audit_watermark WHERE entity_id = $1)"
	" ON CONFLICT ON CONSTRAINT audit_watermark_pkey DO NOTHING"
	" RETURNING next_before, next_audit_id",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 and $3 what is planned or nulls */
static BillingStatement plan_next = {
	"UPDATE billing.audit_watermark SET next_before = $2, next_audit_id = $3"
	" WHERE entity_id = $1 AND next_before IS DISTINCT FROM $2",
	3,
	{ INT4OID, XID8OID, INT8OID },
	NULL
};

/* $1 entity, $2 after, $3 through */
static BillingStatement any_record = {
	"SELECT 1 FROM billing.audit_log WHERE entity_id = $1 AND audit_id > $2 AND audit_id <= $3"
	" ORDER BY entity_id, audit_id LIMIT 1",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* $1 entity, $2 after, $3 through */
static BillingStatement read_records = {
	"SELECT audit_id, hash FROM billing.audit_log"
	" WHERE entity_id = $1 AND audit_id > $2 AND audit_id <= $3 ORDER BY entity_id, audit_id",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* The sequence of the log's ids. */
static Oid
log_sequence(void)
{
	return linitial_oid(
		getOwnedSequences(get_relname_relid("audit_log", get_namespace_oid("billing", false))));
}

/* Read the horizon: in this order, see the head of the file. */
static void
read_horizon(Horizon *horizon)
{
	Datum values[1];

	(void) billing_core_run(&read_xmin, NULL, NULL, true);
	horizon->xmin =
		U64FromFullTransactionId(DatumGetFullTransactionId(billing_core_value(0, 0, NULL)));
	values[0] = ObjectIdGetDatum(log_sequence());
	(void) billing_core_run_privileged(&last_id, values, NULL, false);
	horizon->last_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	horizon->next = U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Note up to where the next seal may go when which transactions have ended, or nothing. */
static void
plan(int32 entity_id, const Horizon *horizon)
{
	Datum values[3];

	values[0] = Int32GetDatum(entity_id);
	values[1] =
		FullTransactionIdGetDatum(FullTransactionIdFromU64(horizon == NULL ? 0 : horizon->next));
	values[2] = Int64GetDatum(horizon == NULL ? 0 : horizon->last_id);
	(void) billing_core_run(&plan_next, values, horizon == NULL ? " nn" : NULL, false);
}

/* Up to which id the records of a locked entity are final, and before which transaction; 0: none yet. */
static int64
find_limit(int32 entity_id, const Horizon *horizon, uint64 *before)
{
	bool unplanned;
	uint64 planned =
		U64FromFullTransactionId(DatumGetFullTransactionId(billing_core_value(0, 0, &unplanned)));
	int64 planned_id = unplanned ? 0 : DatumGetInt64(billing_core_value(0, 1, NULL));

	if (horizon->next <= horizon->xmin)
	{
		if (!unplanned)
			plan(entity_id, NULL);
		*before = horizon->next;
		return horizon->last_id;
	}
	if (!unplanned && planned > horizon->xmin)
		return 0;
	plan(entity_id, horizon);
	*before = planned;
	return planned_id;
}

/* Lock an entity; false where another session seals it.  What is planned for it is in the result. */
static bool
lock_entity(int32 entity_id)
{
	Datum values[1];

	values[0] = Int32GetDatum(entity_id);
	return billing_core_run(&try_lock, values, NULL, false) > 0 ||
		   billing_core_run(&make_watermark, values, NULL, false) > 0;
}

/* Add a block that says that another server goes on with the chain. */
static void
add_fork(BillingAuditBlock *last, const char *note)
{
	BillingAuditBlock fork;

	billing_audit_chain(last, &fork);
	fork.kind = "fork";
	fork.note = pstrdup(note);
	fork.horizon = U64FromFullTransactionId(ReadNextFullTransactionId());
	billing_audit_insert_block(&fork);
	*last = fork;
}

/* What made the server another one since the last block, NULL: nothing. */
static char *
what_changed(const BillingAuditBlock *last)
{
	if (last->block_no == 0)
		return NULL;
	if (last->system_identifier != (int64) GetSystemIdentifier())
		return "another database cluster goes on: restored, upgraded or copied";
	if (last->timeline != (int32) GetWALInsertionTimeLine())
		return "another timeline goes on: failover, or recovery to a point in time";
	return NULL;
}

/* Write a block and begin the next. */
static void
close_block(BillingAuditBlock *last, BillingAuditBlock *block, int64 through)
{
	block->through = through;
	billing_audit_insert_block(block);
	*last = *block;
	billing_audit_chain(last, block);
	block->leaves = last->leaves;
}

/*
 * Seal the records of an entity up to an id, which are final; how many.  The
 * leaves are room for those of one block.
 */
static int64
seal_through(BillingAuditBlock *last, int64 through, uint64 before, uint8 *leaves)
{
	BillingAuditBlock block;
	Datum values[3];
	Portal portal;
	int64 sealed = 0;
	int64 newest = 0;
	uint64 i;

	values[0] = Int32GetDatum(last->entity_id);
	values[1] = Int64GetDatum(last->through);
	values[2] = Int64GetDatum(through);
	billing_audit_chain(last, &block);
	block.horizon = before;
	block.leaves = leaves;
	portal = billing_core_open(&read_records, values, NULL);
	for (;;)
	{
		SPITupleTable *rows;
		uint64 count;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_RECORDS);
		rows = SPI_tuptable;
		count = SPI_processed;
		for (i = 0; i < count; i++)
		{
			bool isnull;
			bytea *hash;

			if (block.count == BILLING_AUDIT_BLOCK_RECORDS)
				close_block(last, &block, newest);
			newest = DatumGetInt64(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
			hash = DatumGetByteaPP(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
			memcpy(block.leaves + HASH * block.count++, VARDATA_ANY(hash), HASH);
		}
		SPI_freetuptable(rows);
		sealed += count;
		if (count < FETCH_RECORDS)
			break;
	}
	SPI_cursor_close(portal);
	if (block.count > 0)
		close_block(last, &block, through);
	return sealed;
}

/* Seal what is final of an entity; how many records. */
static int64
seal_entity(int32 entity_id, const Horizon *horizon, uint8 *leaves)
{
	BillingAuditBlock last;
	Datum values[3];
	char *change;
	uint64 before = 0;
	int64 limit;

	if (!lock_entity(entity_id))
		return 0;
	limit = find_limit(entity_id, horizon, &before);
	(void) billing_audit_last_block(entity_id, &last);
	change = what_changed(&last);
	if (change != NULL)
		add_fork(&last, change);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(last.through);
	values[2] = Int64GetDatum(limit);
	if (limit <= last.through || billing_core_run(&any_record, values, NULL, true) == 0)
		return 0;
	return seal_through(&last, limit, before, leaves);
}

/* Seal some entities, or all that the actor may see; how many records. */
static int64
seal(const int32 *entity)
{
	uint8 *leaves = palloc(HASH * BILLING_AUDIT_BLOCK_RECORDS);
	Horizon horizon;
	int32 *entities;
	uint64 count = 1;
	int64 sealed = 0;
	uint64 i;

	/* before anything is written, which would give this transaction a number */
	read_horizon(&horizon);
	if (entity == NULL)
		count = billing_core_run(&list_entities, NULL, NULL, false);
	entities = palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		entities[i] = entity != NULL ? *entity : DatumGetInt32(billing_core_value(i, 0, NULL));
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sealed += seal_entity(entities[i], &horizon, leaves);
	}
	return sealed;
}

PG_FUNCTION_INFO_V1(billing_audit_seal);
PG_FUNCTION_INFO_V1(billing_audit_seal_all);
PG_FUNCTION_INFO_V1(billing_audit_restored);

/* billing.seal_audit(entity text) RETURNS bigint: how many records were sealed */
Datum
billing_audit_seal(PG_FUNCTION_ARGS)
{
	static const char *const duties[] = { "admin", "auditor" };
	int32 entity_id = 0;
	int64 sealed;

	if (PG_ARGISNULL(0))
		billing_core_require_admin(0);
	else
	{
		entity_id = billing_core_arg_entity(fcinfo, 0);
		if (!billing_core_is_installation_admin())
			billing_core_require_any_duty(entity_id, duties, lengthof(duties));
	}
	SPI_connect();
	sealed = seal(PG_ARGISNULL(0) ? NULL : &entity_id);
	SPI_finish();
	PG_RETURN_INT64(sealed);
}

/* billing_internal.seal_audits() RETURNS void: the task */
Datum
billing_audit_seal_all(PG_FUNCTION_ARGS)
{
	SPI_connect();
	(void) seal(NULL);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing_internal.restored_audit() RETURNS void
 *
 * Every chain goes on with a fork; what was planned with the transactions of
 * another cluster is forgotten.
 */
Datum
billing_audit_restored(PG_FUNCTION_ARGS)
{
	uint64 count;
	int32 *entities;
	uint64 i;

	SPI_connect();
	count = billing_core_run(&list_entities, NULL, NULL, false);
	entities = palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		entities[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
	for (i = 0; i < count; i++)
	{
		BillingAuditBlock last;

		plan(entities[i], NULL);
		if (billing_audit_last_block(entities[i], &last))
			add_fork(&last, "restored from a dump");
	}
	SPI_finish();
	PG_RETURN_VOID();
}
