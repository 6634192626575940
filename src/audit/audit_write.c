/*
 * audit_write.c
 *		Writes audit records below SQL: complete, and many at once.
 *
 * The log's own trigger does not fire, for these records are completed here.
 * Who may write is for the caller to know: row-level security is not asked.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "audit/audit.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "core/core.h"
#include "core/write.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* The columns in their order in the table: see BillingAuditColumn. */
static const char *const column_names[] = {
	"entity_id",	  "audit_id",	 "recorded_at",	   "transaction_id", "actor", "login",
	"action",		  "object_type", "object_id",	   "before",		 "after", "reason",
	"client_address", "application", "correlation_id", "hash",
};
StaticAssertDecl(lengthof(column_names) == BILLING_AUDIT_COLUMNS, "every column has its name");

struct BillingAuditWriter
{
	BillingWriter *rows;
	Oid sequence;
};

/* Begin to write; the writer lives in the current memory. */
BillingAuditWriter *
billing_audit_begin_write(void)
{
	BillingAuditWriter *writer = palloc(sizeof(BillingAuditWriter));

	/* before any id is drawn: the sealer finds records by id, among those of a transaction and later */
	(void) GetTopFullTransactionId();
	writer->sequence =
		get_relname_relid("audit_log_audit_id_seq", get_namespace_oid("billing", false));
	writer->rows =
		billing_core_begin_write("audit_log", column_names, lengthof(column_names), "b_complete");
	if (RelationGetDescr(writer->rows->table)->natts != BILLING_AUDIT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("table \"audit_log\" does not have the columns that the library knows"),
				 errhint("Update the extension, or install its library anew.")));
	return writer;
}

/* Set a column, null where there is nothing. */
static void
set(Datum *values, bool *nulls, BillingAuditColumn column, void *value)
{
	values[column] = PointerGetDatum(value);
	nulls[column] = value == NULL;
}

/* A copy of a value, in the memory of the rows; NULL of NULL. */
static void *
copy(const void *value)
{
	return value == NULL ? NULL : PG_DETOAST_DATUM_COPY(PointerGetDatum(value));
}

/* Add a record; what may be NULL is null in the log.  What is added need not outlive the call. */
void
billing_audit_write(BillingAuditWriter *writer, int32 entity_id, text *action, text *object_type,
					text *object_id, Jsonb *before, Jsonb *after, text *reason)
{
	Datum values[BILLING_AUDIT_COLUMNS];
	bool nulls[BILLING_AUDIT_COLUMNS];
	MemoryContext caller = MemoryContextSwitchTo(writer->rows->rows_context);

	values[AUDIT_ENTITY_ID] = Int32GetDatum(entity_id);
	values[AUDIT_AUDIT_ID] = Int64GetDatum(nextval_internal(writer->sequence, false));
	nulls[AUDIT_ENTITY_ID] = nulls[AUDIT_AUDIT_ID] = false;
	set(values, nulls, AUDIT_ACTION, copy(action));
	set(values, nulls, AUDIT_OBJECT_TYPE, copy(object_type));
	set(values, nulls, AUDIT_OBJECT_ID, copy(object_id));
	set(values, nulls, AUDIT_BEFORE, copy(before));
	set(values, nulls, AUDIT_AFTER, copy(after));
	set(values, nulls, AUDIT_REASON, copy(reason));
	billing_audit_complete_values(values, nulls);
	MemoryContextSwitchTo(caller);
	(void) billing_core_write_row(writer->rows, values, nulls);
}

/* Write what is left and end; the lock stays until the transaction ends. */
void
billing_audit_end_write(BillingAuditWriter *writer)
{
	(void) billing_core_end_write(writer->rows);
}
