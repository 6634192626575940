/*
 * invoicing_life.c
 *		Approving, rejecting, releasing and discarding invoices and credit notes.
 *
 * Which step is possible from which state is decided by the workflow room.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "masterdata/masterdata.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "workflow/workflow.h"

/* $1 entity, $2 number or reference */
static BillingStatement find_invoice = {
	"SELECT invoice_id FROM billing.invoice WHERE entity_id = $1 AND number = $2"
	" UNION ALL SELECT invoice_id FROM billing.invoice WHERE entity_id = $1"
	" AND invoice_id = CASE WHEN $2 ~ '^D[0-9]{1,18}$' THEN substr($2, 2)::bigint END",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 documents, $3 actor, $4 resolution: nothing stands against them any more */
static BillingStatement resolve_findings = {
	"UPDATE billing.exception SET state = 'resolved', resolved_at = now(), resolved_by = $3,"
	" resolution = $4 WHERE entity_id = $1 AND document_id = ANY ($2) AND state = 'open'",
	4,
	{ INT4OID, INT8ARRAYOID, INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 document, $3 reason */
static BillingStatement raise_rejected = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)"
	" SELECT $1, k.kind, format('D%s version %s', d.document_id, d.version), a.code, d.document_id, $3,"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM billing.document d JOIN billing.invoice i"
	"  ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id"
	" JOIN billing.billing_account a ON a.entity_id = d.entity_id AND a.account_id = i.account_id"
	" JOIN billing.exception_kind k ON k.kind = 'approval_rejected'"
	" WHERE d.entity_id = $1 AND d.document_id = $2",
	3,
	{ INT4OID, INT8OID, TEXTOID },
	NULL
};

/*
 * $1 entity, $2 document: the lock that billing runs take on an account, taken as
 * they take it, so that none credits a line that is being or was discarded
 */
static BillingStatement lock_account = {
	"UPDATE billing.account_watermark w SET billed_through = w.billed_through FROM billing.invoice i"
	" WHERE i.entity_id = $1 AND i.invoice_id = $2"
	" AND w.entity_id = i.entity_id AND w.account_id = i.account_id",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 document: a document that credits a line of it, and is not dropped itself */
static BillingStatement credited_by = {
	"SELECT 'D' || l.invoice_id FROM billing.invoice_line l WHERE l.entity_id = $1"
	" AND l.reverses_invoice_id = $2 AND l.invoice_id <> $2 AND l.kind = 'credit' AND NOT l.discarded"
	" LIMIT 1",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 document: another one that charges anew what this one credits.
 * Without the credit both charges would stand.
 */
static BillingStatement charged_anew_by = {
	"SELECT 'D' || n.invoice_id FROM billing.invoice_line c"
	" JOIN billing.invoice_line n ON n.entity_id = c.entity_id AND n.item_id = c.item_id"
	"  AND n.period_start = c.period_start AND n.period_end = c.period_end"
	"  AND n.dimensions = c.dimensions"
	"  AND n.charge_seq > c.charge_seq AND n.kind = 'charge' AND NOT n.discarded"
	" WHERE c.entity_id = $1 AND c.invoice_id = $2 AND c.kind = 'credit' AND n.invoice_id <> $2"
	" AND NOT EXISTS (SELECT FROM billing.invoice_line r WHERE r.entity_id = n.entity_id"
	"  AND r.reverses_invoice_id = n.invoice_id AND r.reverses_line_no = n.line_no"
	"  AND r.kind = 'credit' AND NOT r.discarded) LIMIT 1",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 document: the account was billed through the last day on which a
 * charge fell due that still stands, so that a run through a wrong day can be undone
 */
static BillingStatement lower_watermark = {
	"UPDATE billing.account_watermark w SET billed_through = least(w.billed_through, coalesce("
	"  (SELECT max(l.charge_date) FROM billing.contract_item i JOIN billing.invoice_line l"
	"   ON l.entity_id = i.entity_id AND l.item_id = i.item_id"
	"   WHERE i.entity_id = w.entity_id AND i.account_id = w.account_id AND NOT l.discarded),"
	"  '1900-01-01'))"
	" FROM billing.invoice v WHERE v.entity_id = $1 AND v.invoice_id = $2"
	" AND w.entity_id = v.entity_id AND w.account_id = v.account_id",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 document */
static BillingStatement discard_lines = {
	"UPDATE billing.invoice_line SET discarded = true WHERE entity_id = $1 AND invoice_id = $2"
	" AND NOT discarded",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* An argument of a statement that is an array; nulls may be NULL. */
Datum
billing_invoicing_array(Datum *values, bool *nulls, int count, Oid type)
{
	int dims[1] = { count };
	int lower_bounds[1] = { 1 };
	int16 length;
	bool by_value;
	char align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(
		construct_md_array(values, nulls, 1, dims, lower_bounds, type, length, by_value, align));
}

/* An array of one id. */
Datum
billing_invoicing_one(int64 document_id)
{
	Datum element = Int64GetDatum(document_id);

	return PointerGetDatum(
		construct_array(&element, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* How many ids an array has. */
int64
billing_invoicing_count(Datum ids)
{
	ArrayType *array = DatumGetArrayTypeP(ids);

	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

/* The document that a number or reference names, or ERRCODE_BILLING_UNKNOWN_CODE. */
int64
billing_invoicing_find(int32 entity_id, const char *reference)
{
	Datum values[2] = { Int32GetDatum(entity_id), CStringGetTextDatum(reference) };

	if (billing_core_run(&find_invoice, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("invoice \"%s\" does not exist", reference),
						errhint("Use its number, or before it is issued its reference, "
								"such as D123.")));
	return DatumGetInt64(billing_core_value(0, 0, NULL));
}

/* Close what was open against documents. */
void
billing_invoicing_close_findings(int32 entity_id, Datum ids, const char *resolution)
{
	Datum values[4];

	values[0] = Int32GetDatum(entity_id);
	values[1] = ids;
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = CStringGetTextDatum(resolution);
	billing_core_run(&resolve_findings, values, NULL, false);
}

/* Lock the account of a document as billing runs do. */
void
billing_invoicing_lock_account(int32 entity_id, int64 document_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };

	billing_core_run(&lock_account, values, NULL, false);
}

/* Drop a document that was not issued. */
void
billing_invoicing_discard_one(int32 entity_id, int64 document_id, const char *reason)
{
	Datum ids = billing_invoicing_one(document_id);
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };

	billing_core_run(&lock_account, values, NULL, false);
	billing_workflow_advance(entity_id, ids, "discard", reason, false);
	if (billing_core_run(&credited_by, values, NULL, false) > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("a line of the invoice is credited by another document"),
						errdetail("It is document %s.", billing_core_text_value(0, 0)),
						errhint("Discard that one first, or issue both.")));
	if (billing_core_run(&charged_anew_by, values, NULL, false) > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("what the document credits is charged anew by another document"),
						errdetail("It is document %s.", billing_core_text_value(0, 0)),
						errhint("Discard that one first, or issue both.")));
	billing_core_run(&discard_lines, values, NULL, false);
	billing_core_run(&lower_watermark, values, NULL, false);
	billing_invoicing_close_findings(entity_id, ids, "the document was discarded");
}

/* The arguments that decisions share: entity, invoice, reason, version. */
static int64
begin_decision(FunctionCallInfo fcinfo, int32 *entity_id, char **reason)
{
	char *reference = billing_core_arg_code(fcinfo, 1, "invoice");

	*entity_id = billing_core_arg_entity(fcinfo, 0);
	*reason = billing_core_arg_optional_text(fcinfo, 2, "reason");
	SPI_connect();
	return billing_invoicing_find(*entity_id, reference);
}

PG_FUNCTION_INFO_V1(billing_invoicing_account_id);
PG_FUNCTION_INFO_V1(billing_invoicing_invoice_id);
PG_FUNCTION_INFO_V1(billing_invoicing_approve);
PG_FUNCTION_INFO_V1(billing_invoicing_reject);
PG_FUNCTION_INFO_V1(billing_invoicing_release);
PG_FUNCTION_INFO_V1(billing_invoicing_discard);

/* billing_internal.account_id(entity text, account text) RETURNS bigint */
Datum
billing_invoicing_account_id(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);

	PG_RETURN_INT64(billing_core_lookup(entity_id, billing_core_arg_code(fcinfo, 1, "account"),
										"account", &billing_masterdata_account));
}

/* billing_internal.invoice_id(entity text, invoice text) RETURNS bigint */
Datum
billing_invoicing_invoice_id(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *reference = billing_core_arg_code(fcinfo, 1, "invoice");
	int64 invoice_id;

	SPI_connect();
	invoice_id = billing_invoicing_find(entity_id, reference);
	SPI_finish();
	PG_RETURN_INT64(invoice_id);
}

/* billing.approve_invoice(entity text, invoice text, reason text, version integer) RETURNS void */
Datum
billing_invoicing_approve(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	char *reason;
	int64 document_id = begin_decision(fcinfo, &entity_id, &reason);

	billing_workflow_expect_version(fcinfo, 3, entity_id, document_id);
	billing_workflow_advance(entity_id, billing_invoicing_one(document_id), "approve", reason,
							 false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.reject_invoice(entity text, invoice text, reason text, version integer) RETURNS void: the reason is a must */
Datum
billing_invoicing_reject(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	char *reason;
	int64 document_id = begin_decision(fcinfo, &entity_id, &reason);
	Datum values[3];

	reason = billing_core_arg_text(fcinfo, 2, "reason");
	billing_workflow_expect_version(fcinfo, 3, entity_id, document_id);
	billing_workflow_advance(entity_id, billing_invoicing_one(document_id), "reject", reason,
							 false);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = CStringGetTextDatum(reason);
	billing_core_run(&raise_rejected, values, NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.release_invoice(entity text, invoice text, reason text, version integer) RETURNS void */
Datum
billing_invoicing_release(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	char *reason;
	int64 document_id = begin_decision(fcinfo, &entity_id, &reason);

	billing_workflow_expect_version(fcinfo, 3, entity_id, document_id);
	billing_workflow_advance(entity_id, billing_invoicing_one(document_id), "release", reason,
							 false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.discard_invoice(entity text, invoice text, reason text, version integer) RETURNS void */
Datum
billing_invoicing_discard(PG_FUNCTION_ARGS)
{
	int32 entity_id;
	char *reason;
	int64 document_id = begin_decision(fcinfo, &entity_id, &reason);

	billing_invoicing_lock_account(entity_id, document_id);
	billing_workflow_expect_version(fcinfo, 3, entity_id, document_id);
	billing_invoicing_discard_one(entity_id, document_id, reason);
	SPI_finish();
	PG_RETURN_VOID();
}
