/*
 * metering_key.c
 *		Takes the keys of events below SQL: into billing.usage_key go those that
 *		nobody has.
 *
 * The unique index decides.  Keys go in without a look beforehand while
 * duplicates are rare, after one where they are not.  Where the index finds that
 * somebody else has a key, or is about to, the whole slice is rolled back and left
 * to INSERT ... ON CONFLICT, which waits; nothing waits here, so that sessions
 * never wait in a circle.
 */
#include "pg_compat.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "core/core.h"
#include "core/write.h"
#include "executor/executor.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

/* A transaction with more subtransactions than this slows down everybody's snapshots. */
#define MOST_SUBTRANSACTIONS 60

/* Slices without a duplicate after which the next goes in without a look; at most, at least. */
#define LEAST_CLEAN_SLICES 4
#define MOST_CLEAN_SLICES 1024

static const char *const column_names[] = { "entity_id", "key", "content", "event_id",
											"usage_date" };

/* How duplicates were found in this session so far. */
static int clean_slices = LEAST_CLEAN_SLICES;
static int clean_slices_needed = LEAST_CLEAN_SLICES;

/* Whether this transaction may have one subtransaction more. */
static bool
may_begin_subtransaction(void)
{
	static FullTransactionId transaction;
	static int begun = 0;

	if (!FullTransactionIdEquals(transaction, GetTopFullTransactionId()))
	{
		transaction = GetTopFullTransactionId();
		begun = 0;
	}
	return begun++ < MOST_SUBTRANSACTIONS;
}

/* Whether the event has the same key as the one before it, which goes first. */
static bool
is_repeat(BillingUsageEvent **events, int32 i)
{
	return i > 0 && memcmp(events[i]->key_hash, events[i - 1]->key_hash, UUID_LEN) == 0;
}

/*
 * Look which keys are there, and mark in there[] those that are; false where
 * one is being written by a transaction that is not over.
 */
static bool
look_up_keys(Relation table, int32 entity_id, BillingUsageEvent **events, int32 count, bool *there)
{
	Relation index = index_open(get_relname_relid("usage_key_pkey", RelationGetNamespace(table)),
								AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData keys[2];
	bool clear = true;
	int32 i;

	InitDirtySnapshot(dirty);
	scan = billing_begin_index_scan(table, index, &dirty, 2);
	for (i = 0; i < count && clear; i++)
	{
		pg_uuid_t key;

		CHECK_FOR_INTERRUPTS();
		memcpy(key.data, events[i]->key_hash, UUID_LEN);
		ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(entity_id));
		ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&key));
		index_rescan(scan, keys, 2, NULL, 0);
		there[i] = index_getnext_slot(scan, ForwardScanDirection, slot);
		clear =
			!there[i] || (!TransactionIdIsValid(dirty.xmin) && !TransactionIdIsValid(dirty.xmax));
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	return clear;
}

/* Write the keys that are not there; false where the index finds one that is. */
static bool
write_keys(Oid table, int32 entity_id, BillingUsageEvent **events, int32 count, const bool *there)
{
	BillingWriter *writer =
		billing_core_begin_plain_write(table, InvalidOid, column_names, lengthof(column_names));
	bool nulls[lengthof(column_names)] = { false };
	bool written = true;
	int32 i;

	if (writer == NULL)
		return false;
	writer->may_conflict = true;
	for (i = 0; i < count && written; i++)
	{
		Datum values[lengthof(column_names)];

		if (there[i] || is_repeat(events, i))
			continue;
		values[0] = Int32GetDatum(entity_id);
		values[1] = UUIDPGetDatum((pg_uuid_t *) events[i]->key_hash);
		values[2] = UUIDPGetDatum((pg_uuid_t *) events[i]->hash);
		values[3] = Int64GetDatum(events[i]->event_id);
		values[4] = DateADTGetDatum(events[i]->usage_date);
		written = billing_core_write_row(writer, values, nulls);
	}
	return billing_core_end_write(writer) && written;
}

/* The same in a subtransaction, which is rolled back where one is there. */
static bool
try_keys(Oid table, int32 entity_id, BillingUsageEvent **events, int32 count, const bool *there)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	volatile bool written = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		written = write_keys(table, entity_id, events, count, there);
		if (written)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		ReThrowError(error);
	return written;
}

/* Remember whether there were duplicates, for the next slice. */
static void
learn(bool looked, bool clean)
{
	if (clean)
		clean_slices++;
	else
	{
		/* a look in vain costs less than a slice in vain */
		if (!looked)
			clean_slices_needed = Min(2 * clean_slices_needed, MOST_CLEAN_SLICES);
		clean_slices = 0;
	}
}

/*
 * Take the keys that are free: the events that get theirs are accepted.  The
 * events are sorted by key.  False, and nothing is done, where it is left to SQL.
 */
bool
billing_metering_take_keys(int32 entity_id, BillingUsageEvent **events, int32 count, int32 *taken)
{
	Oid table = get_relname_relid("usage_key", get_namespace_oid("billing", false));
	bool *there = palloc0(sizeof(bool) * (count + 1));
	bool look = clean_slices < clean_slices_needed;
	bool clear = true;
	int32 i;

	/* in a snapshot that stays, a key that is there but cannot be seen is an error, which SQL raises */
	if (IsolationUsesXactSnapshot() || !may_begin_subtransaction())
		return false;
	*taken = 0;
	if (look)
	{
		Relation relation = table_open(table, AccessShareLock);

		clear = look_up_keys(relation, entity_id, events, count, there);
		table_close(relation, NoLock);
	}
	if (!clear || !try_keys(table, entity_id, events, count, there))
	{
		learn(look, false);
		return false;
	}
	for (i = 0; i < count; i++)
	{
		if (there[i] || is_repeat(events, i))
			continue;
		events[i]->outcome = USAGE_ACCEPTED;
		(*taken)++;
	}
	learn(look, *taken == count);
	return true;
}
