/*
 * audit_proof.c
 *		What an auditor takes out of the house: the head of a chain, and the proof
 *		that a record is in it.
 *
 * Both are JSON with hashes in hex, so that they can be kept in any file and
 * checked with sha256sum.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#define HASH BILLING_AUDIT_HASH_LENGTH

/* $1 entity, $2 record: the record as a row of the log */
static BillingStatement find_record = {
	"SELECT a.hash, billing_internal.audit_bytes(a), a.hash = billing_internal.audit_hash(a)"
	" FROM billing.audit_log a WHERE a.entity_id = $1 AND a.audit_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 record */
static BillingStatement find_block = {
	"SELECT" BILLING_AUDIT_BLOCK_COLUMNS ", leaves FROM billing.audit_block"
	" WHERE entity_id = $1 AND after_audit_id < $2 AND through_audit_id >= $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 after, $3 record: how many of the block come before it */
static BillingStatement count_before = {
	"SELECT count(*) FROM billing.audit_log WHERE entity_id = $1 AND audit_id > $2 AND audit_id < $3",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* Append "name": "hex of some bytes". */
static void
append_hex(StringInfo json, const char *name, const void *bytes, int length)
{
	appendStringInfo(json, "\"%s\": \"", name);
	enlargeStringInfo(json, 2 * length + 1);
	json->len += hex_encode(bytes, length, json->data + json->len);
	appendStringInfoCharMacro(json, '"');
}

/* Append "name": "text", null where it is NULL. */
static void
append_text(StringInfo json, const char *name, const char *text)
{
	appendStringInfo(json, "\"%s\": ", name);
	if (text == NULL)
		appendStringInfoString(json, "null");
	else
		escape_json(json, text);
}

/* Append the members that say what a block is. */
static void
append_block(StringInfo json, const BillingAuditBlock *block)
{
	appendStringInfo(json, "\"block\": " INT64_FORMAT ", ", block->block_no);
	append_text(json, "kind", block->kind);
	appendStringInfo(json,
					 ", \"entity_id\": %d, \"after\": " INT64_FORMAT ", \"through\": " INT64_FORMAT
					 ", \"records\": " INT64_FORMAT ", ",
					 block->entity_id, block->after, block->through, block->count);
	append_hex(json, "root", block->root, HASH);
	appendStringInfoString(json, ", ");
	if (block->has_previous)
		append_hex(json, "previous", block->previous, HASH);
	else
		append_text(json, "previous", NULL);
	appendStringInfo(json,
					 ", \"horizon\": \"" UINT64_FORMAT "\", \"system\": \"" INT64_FORMAT
					 "\", \"timeline\": %d, \"sealed_at\": \"" INT64_FORMAT "\", ",
					 block->horizon, block->system_identifier, block->timeline,
					 (int64) block->sealed_at);
	append_text(json, "note", block->note);
	appendStringInfo(json, ", \"layout\": %d, ", block->layout);
	append_hex(json, "hash", block->hash, HASH);
}

/* The text as jsonb, in the memory that was current at the call of the function. */
static Datum
as_jsonb(const StringInfo json)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json->data));
}

/* Append the inclusion path of a leaf, from below. */
static void
append_path(StringInfo json, const BillingAuditBlock *block, int64 index)
{
	uint8 path[64 * HASH];
	bool is_left[64];
	int length = billing_audit_tree_path(block->leaves, block->count, index, path, is_left);
	int i;

	appendStringInfoString(json, "\"path\": [");
	for (i = 0; i < length; i++)
	{
		appendStringInfoString(json, i > 0 ? ", {" : "{");
		append_hex(json, is_left[i] ? "left" : "right", path + i * HASH, HASH);
		appendStringInfoCharMacro(json, '}');
	}
	appendStringInfoString(json, "], ");
}

/* Append the record: its id, its bytes and its hash. */
static void
append_record(StringInfo json, int32 entity_id, int64 audit_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(audit_id) };
	bytea *hash;
	bytea *bytes;

	if (billing_core_run(&find_record, values, NULL, true) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("audit record " INT64_FORMAT " does not exist", audit_id),
						errhint("billing.audit_trail lists the records of your entities.")));
	hash = DatumGetByteaPP(billing_core_value(0, 0, NULL));
	bytes = DatumGetByteaPP(billing_core_value(0, 1, NULL));
	if (!DatumGetBool(billing_core_value(0, 2, NULL)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("audit record " INT64_FORMAT " does not have its hash", audit_id),
						errhint("It was changed; billing.verify_audit() lists what is broken.")));
	appendStringInfo(json, "{\"audit_id\": " INT64_FORMAT ", ", audit_id);
	append_hex(json, "bytes", VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	appendStringInfoString(json, ", ");
	append_hex(json, "leaf", VARDATA_ANY(hash), VARSIZE_ANY_EXHDR(hash));
}

/* Find the block of a record, with its leaves; refuse where there is none yet. */
static void
block_of(int32 entity_id, int64 audit_id, BillingAuditBlock *block)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(audit_id) };
	bytea *leaves;

	if (billing_core_run(&find_block, values, NULL, true) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("audit record " INT64_FORMAT " is not sealed yet", audit_id),
						errhint("Call billing.seal_audit() when the transactions that were running "
								"beside it have ended.")));
	billing_audit_fetch_block(block, 0);
	leaves = DatumGetByteaPCopy(billing_core_value(0, 15, NULL));
	block->leaves = (uint8 *) VARDATA(leaves);
	block->leaves_length = VARSIZE(leaves) - VARHDRSZ;
}

PG_FUNCTION_INFO_V1(billing_audit_proof);
PG_FUNCTION_INFO_V1(billing_audit_digest);

/* billing.audit_proof(entity text, audit_id bigint) RETURNS jsonb */
Datum
billing_audit_proof(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	MemoryContext memory = CurrentMemoryContext;
	BillingAuditBlock block;
	StringInfoData json;
	Datum values[3];
	int64 audit_id;
	int64 index;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("audit id must not be null"),
				 errhint("billing.audit_trail lists the records of your entities.")));
	audit_id = PG_GETARG_INT64(1);
	initStringInfo(&json);
	SPI_connect();
	append_record(&json, entity_id, audit_id);
	block_of(entity_id, audit_id, &block);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(block.after);
	values[2] = Int64GetDatum(audit_id);
	(void) billing_core_run(&count_before, values, NULL, true);
	index = DatumGetInt64(billing_core_value(0, 0, NULL));
	if (block.leaves_length != block.count * HASH || index >= block.count)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("block " INT64_FORMAT " does not have the leaves of its records",
							   block.block_no),
						errhint("It was changed; billing.verify_audit() lists what is broken.")));
	appendStringInfo(&json, ", \"index\": " INT64_FORMAT ", ", index);
	append_path(&json, &block, index);
	appendStringInfoString(&json, "\"sealed\": {");
	append_block(&json, &block);
	appendStringInfoString(&json, "}}");
	SPI_finish();
	MemoryContextSwitchTo(memory);
	PG_RETURN_DATUM(as_jsonb(&json));
}

/* billing.audit_digest(entity text) RETURNS jsonb: null where nothing is sealed yet */
Datum
billing_audit_digest(PG_FUNCTION_ARGS)
{
	int32 entity_id = PG_ARGISNULL(0) ? 0 : billing_core_arg_entity(fcinfo, 0);
	MemoryContext memory = CurrentMemoryContext;
	BillingAuditBlock block;
	StringInfoData json;
	bool is_there;

	if (PG_ARGISNULL(0))
		billing_core_require_admin(0);
	initStringInfo(&json);
	SPI_connect();
	is_there = billing_audit_last_block(entity_id, &block);
	if (is_there)
	{
		appendStringInfoCharMacro(&json, '{');
		append_block(&json, &block);
		appendStringInfoCharMacro(&json, '}');
	}
	SPI_finish();
	MemoryContextSwitchTo(memory);
	if (!is_there)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(as_jsonb(&json));
}
