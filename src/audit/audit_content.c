/*
 * audit_content.c
 *		The digest of what a document consists of: rows of lines and taxes, which
 *		an audit record covers by it.
 *
 * The bytes of a row are the number of its columns in 4 bytes and the columns as
 * fields: see audit_canonical.c.  The digest is the SHA-256 of the rows in their
 * order.  A writer that has the rows at hand appends them itself.
 */
#include "pg_compat.h"

#include "audit/audit.h"
#include "core/core.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

/* Append a row. */
void
billing_audit_append_row(StringInfo bytes, const Oid *types, const Datum *values, const bool *nulls,
						 int count)
{
	int i;

	pq_sendint32(bytes, count);
	for (i = 0; i < count; i++)
		billing_audit_append_value(bytes, types[i], values[i], nulls[i]);
}

PG_FUNCTION_INFO_V1(billing_audit_rows_add);
PG_FUNCTION_INFO_V1(billing_audit_rows_end);

/* billing_internal.rows_digest_add(internal, VARIADIC "any") RETURNS internal */
Datum
billing_audit_rows_add(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	StringInfo bytes;
	int i;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("this function is a step of an aggregate"),
						errhint("It is not called by hand.")));
	if (PG_ARGISNULL(0))
	{
		context = MemoryContextSwitchTo(context);
		bytes = makeStringInfo();
		MemoryContextSwitchTo(context);
	}
	else
		bytes = (StringInfo) PG_GETARG_POINTER(0);
	pq_sendint32(bytes, PG_NARGS() - 1);
	for (i = 1; i < PG_NARGS(); i++)
		billing_audit_append_value(bytes, get_fn_expr_argtype(fcinfo->flinfo, i),
								   PG_GETARG_DATUM(i), PG_ARGISNULL(i));
	PG_RETURN_POINTER(bytes);
}

/* billing_internal.rows_digest_end(internal) RETURNS bytea: that of no rows is the SHA-256 of nothing */
Datum
billing_audit_rows_end(PG_FUNCTION_ARGS)
{
	bytea *digest = palloc(VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	StringInfo bytes = PG_ARGISNULL(0) ? NULL : (StringInfo) PG_GETARG_POINTER(0);

	SET_VARSIZE(digest, VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	billing_audit_sha256(bytes == NULL ? "" : bytes->data, bytes == NULL ? 0 : bytes->len,
						 (uint8 *) VARDATA(digest));
	PG_RETURN_BYTEA_P(digest);
}
