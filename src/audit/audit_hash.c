/*
 * audit_hash.c
 *		The SHA-256 of an audit record's canonical bytes.
 *
 * One context and one buffer serve a process as long as it lives: records are
 * written by the million.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "audit/audit.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/typcache.h"

/* A buffer that grew larger than this is given back. */
#define KEPT_BUFFER (64 * 1024)

/* The process' context; it belongs to a resource owner that is never released. */
static pg_cryptohash_ctx *
sha256_context(void)
{
	static pg_cryptohash_ctx *context = NULL;
	static ResourceOwner keeper = NULL;

	if (context == NULL)
	{
		ResourceOwner owner = CurrentResourceOwner;
		MemoryContext memory = MemoryContextSwitchTo(TopMemoryContext);

		if (keeper == NULL)
			keeper = ResourceOwnerCreate(NULL, "billing_erp SHA-256");
		CurrentResourceOwner = keeper;
		context = pg_cryptohash_create(PG_SHA256);
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(memory);
	}
	return context;
}

/* The SHA-256 of some bytes. */
void
billing_audit_sha256(const void *bytes, size_t length, uint8 *hash)
{
	pg_cryptohash_ctx *context = sha256_context();

	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (const uint8 *) bytes, length) < 0 ||
		pg_cryptohash_final(context, hash, PG_SHA256_DIGEST_LENGTH) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute a SHA-256 for the audit log")));
}

/* The SHA-256 of a record, given its columns up to the hash. */
void
billing_audit_record_sha256(const Datum *values, const bool *nulls, uint8 *hash)
{
	static StringInfoData bytes;

	if (bytes.data == NULL)
	{
		MemoryContext memory = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&bytes);
		MemoryContextSwitchTo(memory);
	}
	resetStringInfo(&bytes);
	billing_audit_append_record(&bytes, values, nulls);
	billing_audit_sha256(bytes.data, bytes.len, hash);
	if (bytes.maxlen > KEPT_BUFFER)
	{
		pfree(bytes.data);
		bytes.data = NULL;
	}
}

/* The columns of a record given as a row of billing.audit_log. */
static void
deform(HeapTupleHeader row, Datum *values, bool *nulls)
{
	TupleDesc descriptor =
		lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	HeapTupleData tuple;

	if (descriptor->natts != BILLING_AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("table \"audit_log\" does not have the columns that the library knows"),
				 errhint("Update the extension, or install its library anew.")));
	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	heap_deform_tuple(&tuple, descriptor, values, nulls);
	ReleaseTupleDesc(descriptor);
}

PG_FUNCTION_INFO_V1(billing_audit_record_hash);
PG_FUNCTION_INFO_V1(billing_audit_record_bytes);

/* billing_internal.audit_hash(record billing.audit_log) RETURNS bytea */
Datum
billing_audit_record_hash(PG_FUNCTION_ARGS)
{
	Datum values[BILLING_AUDIT_COLUMNS];
	bool nulls[BILLING_AUDIT_COLUMNS];
	bytea *hash = palloc(VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);

	deform(PG_GETARG_HEAPTUPLEHEADER(0), values, nulls);
	SET_VARSIZE(hash, VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	billing_audit_record_sha256(values, nulls, (uint8 *) VARDATA(hash));
	PG_RETURN_BYTEA_P(hash);
}

/* billing_internal.audit_bytes(record billing.audit_log) RETURNS bytea: what the hash is made of */
Datum
billing_audit_record_bytes(PG_FUNCTION_ARGS)
{
	Datum values[BILLING_AUDIT_COLUMNS];
	bool nulls[BILLING_AUDIT_COLUMNS];
	StringInfoData bytes;

	deform(PG_GETARG_HEAPTUPLEHEADER(0), values, nulls);
	initStringInfo(&bytes);
	billing_audit_append_record(&bytes, values, nulls);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(bytes.data, bytes.len));
}
