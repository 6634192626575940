/*
 * audit_personal.c
 *		Keeps what tells of a person out of the audit log, and lets it be proved
 *		as long as it is kept, and erased without a trace in the log.
 *
 * The log has a commitment: {"personal": "<hex>"}, the SHA-256 of a salt of 32
 * random bytes and the canonical bytes of the value.  Salt and value stand in
 * billing.audit_personal.  Without the salt nobody can find the value by trying
 * all that it might be.
 */
#include "pg_compat.h"

#include "audit/audit_private.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#define SALT_LENGTH 32

/* $1 entity, $2 commitment, $3 customer, $4 field, $5 salt, $6 value */
static BillingStatement keep_value = {
	"INSERT INTO billing.audit_personal (entity_id, commitment, customer_id, field, salt, value)"
	" VALUES ($1, $2, $3, $4, $5, $6)",
	6,
	{ INT4OID, BYTEAOID, INT8OID, TEXTOID, BYTEAOID, JSONBOID },
	NULL
};

/* Some bytes as a bytea. */
static Datum
bytes_datum(const void *bytes, int length)
{
	return PointerGetDatum(cstring_to_text_with_len((const char *) bytes, length));
}

/* The commitment of a value under a salt. */
static void
commit_to(const uint8 *salt, Jsonb *value, uint8 *commitment)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendBinaryStringInfo(&bytes, (const char *) salt, SALT_LENGTH);
	billing_audit_append_json(&bytes, value);
	billing_audit_sha256(bytes.data, bytes.len, commitment);
	pfree(bytes.data);
}

/* What stands in the log for a value: {"personal": "<hex>"}. */
static Jsonb *
stand_in(const uint8 *commitment)
{
	char hex[2 * BILLING_AUDIT_HASH_LENGTH + 1];

	(void) hex_encode((const char *) commitment, BILLING_AUDIT_HASH_LENGTH, hex);
	hex[2 * BILLING_AUDIT_HASH_LENGTH] = '\0';
	return DatumGetJsonbP(
		DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"personal\": \"%s\"}", hex))));
}

/* Put a value that tells of a customer aside, and return what stands for it.  Inside SPI. */
Jsonb *
billing_audit_conceal(int32 entity_id, int64 subject, const char *field, Jsonb *value)
{
	uint8 salt[SALT_LENGTH];
	uint8 commitment[BILLING_AUDIT_HASH_LENGTH];
	MemoryContext memory = CurrentMemoryContext;
	Datum values[6];

	if (!pg_strong_random(salt, SALT_LENGTH))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not draw random bytes for the audit log")));
	commit_to(salt, value, commitment);
	values[0] = Int32GetDatum(entity_id);
	values[1] = bytes_datum(commitment, BILLING_AUDIT_HASH_LENGTH);
	values[2] = Int64GetDatum(subject);
	values[3] = CStringGetTextDatum(field);
	values[4] = bytes_datum(salt, SALT_LENGTH);
	values[5] = JsonbPGetDatum(value);
	billing_core_run(&keep_value, values, NULL, false);
	MemoryContextSwitchTo(memory);
	return stand_in(commitment);
}

PG_FUNCTION_INFO_V1(billing_audit_commitment);

/* billing_internal.audit_commitment(salt bytea, value jsonb) RETURNS bytea */
Datum
billing_audit_commitment(PG_FUNCTION_ARGS)
{
	bytea *salt = PG_GETARG_BYTEA_PP(0);
	bytea *result = palloc(VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);

	if (VARSIZE_ANY_EXHDR(salt) != SALT_LENGTH)
		PG_RETURN_NULL();
	SET_VARSIZE(result, VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	commit_to((const uint8 *) VARDATA_ANY(salt), PG_GETARG_JSONB_P(1), (uint8 *) VARDATA(result));
	PG_RETURN_BYTEA_P(result);
}
