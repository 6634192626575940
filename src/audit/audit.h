/*
 * audit.h
 *		The audit log: what it takes to write a record, and its hash.
 *
 * A room writes records by inserting into billing.audit_log; the log's own
 * trigger adds who, when, from where and the hash.  A writer that puts many
 * rows into the pages at once, past the trigger, completes them itself.
 */
#ifndef BILLING_AUDIT_H
#define BILLING_AUDIT_H

#include "pg_compat.h"

#include "access/transam.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#define BILLING_AUDIT_HASH_LENGTH 32

/* The version of the canonical bytes: their second byte, and a column of the blocks. */
#define BILLING_AUDIT_LAYOUT 2

/* The columns of billing.audit_log in their order in the table; those up to the hash enter it. */
typedef enum BillingAuditColumn
{
	AUDIT_ENTITY_ID,
	AUDIT_AUDIT_ID,
	AUDIT_RECORDED_AT,
	AUDIT_TRANSACTION_ID,
	AUDIT_ACTOR,
	AUDIT_LOGIN,
	AUDIT_ACTION,
	AUDIT_OBJECT_TYPE,
	AUDIT_OBJECT_ID,
	AUDIT_BEFORE,
	AUDIT_AFTER,
	AUDIT_REASON,
	AUDIT_CLIENT_ADDRESS,
	AUDIT_APPLICATION,
	AUDIT_CORRELATION_ID,
	AUDIT_HASH
} BillingAuditColumn;

#define BILLING_AUDIT_COLUMNS (AUDIT_HASH + 1)

/* audit_canonical.c */
extern void billing_audit_append_text(StringInfo bytes, const char *text, int length);
extern void billing_audit_append_number(StringInfo bytes, Numeric number);
extern void billing_audit_append_json(StringInfo bytes, Jsonb *json);
extern void billing_audit_append_value(StringInfo bytes, Oid type, Datum value, bool isnull);
extern void billing_audit_append_record(StringInfo bytes, const Datum *values, const bool *nulls);

/* audit_content.c */
extern void billing_audit_append_row(StringInfo bytes, const Oid *types, const Datum *values,
									 const bool *nulls, int count);

/* audit_hash.c */
extern void billing_audit_sha256(const void *bytes, size_t length, uint8 *hash);
extern void billing_audit_record_sha256(const Datum *values, const bool *nulls, uint8 *hash);

/* audit_complete.c */
extern void billing_audit_init(void);
extern void billing_audit_complete_values(Datum *values, bool *nulls);

/* audit_write.c: many records at once, past the trigger; what is added need not outlive the call */
typedef struct BillingAuditWriter BillingAuditWriter;

extern BillingAuditWriter *billing_audit_begin_write(void);
extern void billing_audit_write(BillingAuditWriter *writer, int32 entity_id, text *action,
								text *object_type, text *object_id, Jsonb *before, Jsonb *after,
								text *reason);
extern void billing_audit_end_write(BillingAuditWriter *writer);

#endif /* BILLING_AUDIT_H */
