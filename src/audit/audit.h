/*
 * audit.h
 *		The audit log: what it takes to write a record, and its hash.
 *
 * A room writes records by inserting into billing.audit_log; the log's own
 * trigger adds who, when and the hash.
 */
#ifndef BILLING_AUDIT_H
#define BILLING_AUDIT_H

#include "pg_compat.h"

#define BILLING_AUDIT_HASH_LENGTH 32

/* The columns of billing.audit_log that enter its hash, in their order in the table. */
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
	AUDIT_COLUMNS
} BillingAuditColumn;

/* audit_hash.c */
extern bytea *billing_audit_hash(const Datum *values, const bool *nulls);

#endif /* BILLING_AUDIT_H */
