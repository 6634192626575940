/*
 * audit_hash.c
 *		The canonical bytes of an audit record and their SHA-256.
 *
 * Layout: the byte 1 (version of the layout), then every column in the order of
 * the table; integers, time (microseconds since 2000-01-01 UTC) and transaction
 * as 8 bytes, all others as text in UTF-8 or the database's encoding, each
 * preceded by its length in 4 bytes, 0xffffffff for null.  Big-endian.
 */
#include "pg_compat.h"

#include "audit/audit.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define NULL_LENGTH 0xffffffffU

/* Append one column in its canonical form. */
static void
append_column(StringInfo bytes, BillingAuditColumn column, Datum value)
{
	switch (column)
	{
		case AUDIT_ENTITY_ID:
			pq_sendint32(bytes, 8);
			pq_sendint64(bytes, DatumGetInt32(value));
			break;
		case AUDIT_AUDIT_ID:
		case AUDIT_RECORDED_AT:
			pq_sendint32(bytes, 8);
			pq_sendint64(bytes, DatumGetInt64(value));
			break;
		case AUDIT_TRANSACTION_ID:
			pq_sendint32(bytes, 8);
			pq_sendint64(bytes, U64FromFullTransactionId(DatumGetFullTransactionId(value)));
			break;
		case AUDIT_LOGIN:
		{
			const char *name = NameStr(*DatumGetName(value));

			pq_sendint32(bytes, strlen(name));
			appendStringInfoString(bytes, name);
			break;
		}
		case AUDIT_BEFORE:
		case AUDIT_AFTER:
		{
			Jsonb *json = DatumGetJsonbP(value);
			int place = bytes->len;
			uint32 length;

			pq_sendint32(bytes, 0);
			(void) JsonbToCString(bytes, &json->root, VARSIZE(json));
			length = pg_hton32((uint32) (bytes->len - place - 4));
			memcpy(bytes->data + place, &length, 4);
			break;
		}
		default:
		{
			text *string = DatumGetTextPP(value);

			pq_sendint32(bytes, VARSIZE_ANY_EXHDR(string));
			appendBinaryStringInfo(bytes, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			break;
		}
	}
}

/* The SHA-256 of a record, given its columns up to the hash. */
bytea *
billing_audit_hash(const Datum *values, const bool *nulls)
{
	bytea *hash = palloc(VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	pg_cryptohash_ctx *context;
	StringInfoData bytes;
	int i;

	initStringInfo(&bytes);
	appendStringInfoChar(&bytes, 1);
	for (i = 0; i < AUDIT_COLUMNS; i++)
	{
		if (nulls[i])
			pq_sendint32(&bytes, NULL_LENGTH);
		else
			append_column(&bytes, (BillingAuditColumn) i, values[i]);
	}
	SET_VARSIZE(hash, VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	context = pg_cryptohash_create(PG_SHA256);
	if (context == NULL || pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) bytes.data, bytes.len) < 0 ||
		pg_cryptohash_final(context, (uint8 *) VARDATA(hash), BILLING_AUDIT_HASH_LENGTH) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute SHA-256 of an audit record")));
	pg_cryptohash_free(context);
	pfree(bytes.data);
	return hash;
}

PG_FUNCTION_INFO_V1(billing_audit_record_hash);

/*
 * billing_internal.audit_hash(entity_id, audit_id, recorded_at, transaction_id, actor,
 *     login, action, object_type, object_id, before, after, reason) RETURNS bytea
 */
Datum
billing_audit_record_hash(PG_FUNCTION_ARGS)
{
	Datum values[AUDIT_COLUMNS];
	bool nulls[AUDIT_COLUMNS];
	int i;

	for (i = 0; i < AUDIT_COLUMNS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = nulls[i] ? (Datum) 0 : PG_GETARG_DATUM(i);
	}
	PG_RETURN_BYTEA_P(billing_audit_hash(values, nulls));
}
