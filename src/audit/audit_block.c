/*
 * audit_block.c
 *		A block of the sealed audit log: its canonical bytes, its hash, and how it
 *		comes from and goes to billing.audit_block.
 *
 * The bytes are the byte 2, which is neither a leaf's nor a node's, the version
 * of the layout, and the columns from entity_id to note as fields in the
 * table's order: see audit_canonical.c.  The leaves are covered by the root.
 */
#include "pg_compat.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define BLOCK_PREFIX 2
#define HASH BILLING_AUDIT_HASH_LENGTH

/* $1 entity */
static BillingStatement last_block = { "SELECT" BILLING_AUDIT_BLOCK_COLUMNS
									   " FROM billing.audit_block WHERE entity_id = $1"
									   " ORDER BY block_no DESC LIMIT 1",
									   1,
									   { INT4OID },
									   NULL };

static BillingStatement insert_block = {
	"INSERT INTO billing.audit_block (" BILLING_AUDIT_BLOCK_COLUMNS ", leaves)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
	16,
	{ INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, BYTEAOID, BYTEAOID, XID8OID, INT8OID, INT4OID,
	  TIMESTAMPTZOID, TEXTOID, INT2OID, BYTEAOID, INT4OID, BYTEAOID },
	NULL
};

/* Some bytes as a bytea. */
static Datum
bytes_datum(const void *bytes, int64 length)
{
	return PointerGetDatum(cstring_to_text_with_len((const char *) bytes, length));
}

/* Append a text, null where it is NULL. */
static void
append_text(StringInfo bytes, const char *text)
{
	billing_audit_append_value(bytes, TEXTOID, text == NULL ? (Datum) 0 : CStringGetTextDatum(text),
							   text == NULL);
}

/* The hash that a block must have. */
void
billing_audit_block_hash(const BillingAuditBlock *block, uint8 *hash)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendStringInfoCharMacro(&bytes, BLOCK_PREFIX);
	appendStringInfoCharMacro(&bytes, (char) block->layout);
	billing_audit_append_value(&bytes, INT4OID, Int32GetDatum(block->entity_id), false);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum(block->block_no), false);
	append_text(&bytes, block->kind);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum(block->after), false);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum(block->through), false);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum(block->count), false);
	billing_audit_append_value(&bytes, BYTEAOID, bytes_datum(block->root, HASH), false);
	billing_audit_append_value(&bytes, BYTEAOID, bytes_datum(block->previous, HASH),
							   !block->has_previous);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum((int64) block->horizon), false);
	billing_audit_append_value(&bytes, INT8OID, Int64GetDatum(block->system_identifier), false);
	billing_audit_append_value(&bytes, INT4OID, Int32GetDatum(block->timeline), false);
	billing_audit_append_value(&bytes, TIMESTAMPTZOID, TimestampTzGetDatum(block->sealed_at),
							   false);
	append_text(&bytes, block->note);
	billing_audit_sha256(bytes.data, bytes.len, hash);
	pfree(bytes.data);
}

/* Copy a hash of a row; false where it is null or none. */
static bool
fetch_hash(uint64 row, int column, uint8 *hash)
{
	bool isnull;
	Datum value = billing_core_value(row, column, &isnull);

	memset(hash, 0, HASH);
	if (isnull || VARSIZE_ANY_EXHDR(DatumGetByteaPP(value)) != HASH)
		return false;
	memcpy(hash, VARDATA_ANY(DatumGetByteaPP(value)), HASH);
	return true;
}

/* Take a block from a row of BILLING_AUDIT_BLOCK_COLUMNS, without its leaves; its texts are in the current memory. */
void
billing_audit_fetch_block(BillingAuditBlock *block, uint64 row)
{
	bool isnull;
	Datum value;

	memset(block, 0, sizeof(BillingAuditBlock));
	block->block_no = DatumGetInt64(billing_core_value(row, 0, NULL));
	block->kind = billing_core_text_value(row, 1);
	block->after = DatumGetInt64(billing_core_value(row, 2, NULL));
	block->through = DatumGetInt64(billing_core_value(row, 3, NULL));
	block->count = DatumGetInt64(billing_core_value(row, 4, NULL));
	(void) fetch_hash(row, 5, block->root);
	block->has_previous = fetch_hash(row, 6, block->previous);
	block->horizon =
		U64FromFullTransactionId(DatumGetFullTransactionId(billing_core_value(row, 7, NULL)));
	block->system_identifier = DatumGetInt64(billing_core_value(row, 8, NULL));
	block->timeline = DatumGetInt32(billing_core_value(row, 9, NULL));
	block->sealed_at = DatumGetTimestampTz(billing_core_value(row, 10, NULL));
	value = billing_core_value(row, 11, &isnull);
	block->note = isnull ? NULL : TextDatumGetCString(value);
	block->layout = DatumGetInt16(billing_core_value(row, 12, NULL));
	(void) fetch_hash(row, 13, block->hash);
	block->entity_id = DatumGetInt32(billing_core_value(row, 14, NULL));
}

/* The last block of an entity, or one with number 0 and false.  Inside SPI. */
bool
billing_audit_last_block(int32 entity_id, BillingAuditBlock *block)
{
	Datum values[1];

	values[0] = Int32GetDatum(entity_id);
	memset(block, 0, sizeof(BillingAuditBlock));
	block->entity_id = entity_id;
	if (billing_core_run(&last_block, values, NULL, false) == 0)
		return false;
	billing_audit_fetch_block(block, 0);
	return true;
}

/* Begin a block that follows another, on this server, without records yet. */
void
billing_audit_chain(const BillingAuditBlock *previous, BillingAuditBlock *block)
{
	memset(block, 0, sizeof(BillingAuditBlock));
	block->entity_id = previous->entity_id;
	block->block_no = previous->block_no + 1;
	block->kind = "seal";
	block->after = block->through = previous->through;
	block->has_previous = previous->block_no > 0;
	memcpy(block->previous, previous->hash, HASH);
	block->horizon = previous->horizon;
	block->system_identifier = (int64) GetSystemIdentifier();
	block->timeline = (int32) GetWALInsertionTimeLine();
	block->layout = BILLING_AUDIT_LAYOUT;
}

/* Close a block, with the root of its leaves and its hash, and write it.  Inside SPI. */
void
billing_audit_insert_block(BillingAuditBlock *block)
{
	Datum values[16];
	char nulls[17] = "                ";

	block->sealed_at = GetCurrentTimestamp();
	billing_audit_tree_of(block->leaves, block->count, block->root);
	billing_audit_block_hash(block, block->hash);
	values[0] = Int64GetDatum(block->block_no);
	values[1] = CStringGetTextDatum(block->kind);
	values[2] = Int64GetDatum(block->after);
	values[3] = Int64GetDatum(block->through);
	values[4] = Int64GetDatum(block->count);
	values[5] = bytes_datum(block->root, HASH);
	values[6] = bytes_datum(block->previous, HASH);
	values[7] = FullTransactionIdGetDatum(FullTransactionIdFromU64(block->horizon));
	values[8] = Int64GetDatum(block->system_identifier);
	values[9] = Int32GetDatum(block->timeline);
	values[10] = TimestampTzGetDatum(block->sealed_at);
	values[11] = block->note == NULL ? (Datum) 0 : CStringGetTextDatum(block->note);
	values[12] = Int16GetDatum(block->layout);
	values[13] = bytes_datum(block->hash, HASH);
	values[14] = Int32GetDatum(block->entity_id);
	values[15] = bytes_datum(block->leaves, block->count * HASH);
	nulls[6] = block->has_previous ? ' ' : 'n';
	nulls[11] = block->note == NULL ? 'n' : ' ';
	billing_core_run(&insert_block, values, nulls, false);
	pfree(DatumGetPointer(values[15]));
}
