/*
 * invoicing_validate.c
 *		Validates drafts, one or all of an entity: raises what stands against each,
 *		and moves it on.
 *
 * What stands against a document is decided in invoicing_problems.c.  Drafts
 * are taken in slices, so that memory does not grow with their number.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "workflow/workflow.h"

/* Drafts validated by one set of statements. */
#define SLICE_DOCUMENTS 5000

/* What becomes of drafts: the order of the counts below. */
enum
{
	HELD,
	APPROVED,
	PENDING,
	OUTCOMES
};

/* $1 entity: the drafts of all accounts, in the order in which they are locked */
static BillingStatement list_drafts = {
	"SELECT document_id FROM billing.document"
	" WHERE entity_id = $1 AND kind IN ('invoice', 'credit_note') AND state = 'draft'"
	" ORDER BY document_id",
	1,
	{ INT4OID },
	NULL
};

/*
 * $1 entity, $2 documents in their order: those that are drafts still, locked one
 * after the other, so that two validations share them out
 */
static BillingStatement lock_drafts = {
	"SELECT array_agg(d.document_id) FROM unnest($2) q (document_id)"
	" CROSS JOIN LATERAL (SELECT * FROM billing.document o WHERE o.entity_id = $1"
	"  AND o.document_id = q.document_id OFFSET 0 FOR NO KEY UPDATE) d"
	" WHERE d.kind IN ('invoice', 'credit_note') AND d.state = 'draft'",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 drafts.  Every finding becomes an exception of its document,
 * once per version; the answer is who is held, who is approved by the entity's
 * limit, and who waits for a person.
 */
static BillingStatement validate = {
	"WITH checked AS MATERIALIZED (SELECT * FROM billing_internal.draft_problems($1, $2)"
	"), raised AS ("
	" INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)"
	" SELECT $1, k.kind, format('D%s version %s', c.document_id, c.version), c.account, c.document_id,"
	"  c.problems[n][2], now() + make_interval(days => k.deadline_days)"
	" FROM checked c CROSS JOIN LATERAL generate_subscripts(c.problems, 1) n"
	" JOIN billing.exception_kind k ON k.kind = c.problems[n][1]"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING"
	") SELECT array_agg(document_id) FILTER (WHERE action = 'hold'),"
	"  array_agg(document_id) FILTER (WHERE action = 'auto_approve'),"
	"  array_agg(document_id) FILTER (WHERE action = 'submit')"
	" FROM checked",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* Validate those of some documents that are drafts, and count what became of them. */
static void
validate_drafts(int32 entity_id, Datum documents, int64 *counts)
{
	static const char *const actions[OUTCOMES] = { "hold", "auto_approve", "submit" };
	Datum values[2] = { Int32GetDatum(entity_id), documents };
	Datum sets[OUTCOMES];
	bool none[OUTCOMES];

	billing_core_run(&validate, values, NULL, false);
	for (int i = 0; i < OUTCOMES; i++)
		sets[i] = billing_core_value_copy(0, i, false, -1, &none[i]);
	for (int i = 0; i < OUTCOMES; i++)
	{
		if (none[i])
			continue;
		counts[i] += billing_invoicing_count(sets[i]);
		/* before, because a policy may find something against what is submitted */
		if (i != HELD)
			billing_invoicing_close_findings(entity_id, sets[i], "validated");
		billing_workflow_advance(entity_id, sets[i], actions[i], NULL, true);
	}
}

/* The same for those that nobody else has validated, or is about to. */
static void
validate_slice(int32 entity_id, Datum documents, int64 *counts)
{
	Datum values[2] = { Int32GetDatum(entity_id), documents };
	bool none;

	billing_core_run(&lock_drafts, values, NULL, false);
	values[1] = billing_core_value_copy(0, 0, false, -1, &none);
	if (!none)
		validate_drafts(entity_id, values[1], counts);
}

/* Validate one document, which must be a draft. */
static void
validate_one(int32 entity_id, const char *reference, int64 *counts)
{
	Datum documents = billing_invoicing_one(billing_invoicing_find(entity_id, reference));

	validate_drafts(entity_id, documents, counts);
	/* refused, with the reason */
	if (counts[HELD] + counts[APPROVED] + counts[PENDING] == 0)
		billing_workflow_advance(entity_id, documents, "submit", NULL, true);
}

/* Open a cursor over the drafts there are now. */
static Portal
open_drafts(int32 entity_id)
{
	Datum values[1] = { Int32GetDatum(entity_id) };
	Portal portal;

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	portal = billing_core_open(&list_drafts, values, NULL);
	PopActiveSnapshot();
	return portal;
}

/* The next documents of a cursor as bigint[]; false at its end. */
static bool
next_documents(Portal portal, MemoryContext context, Datum *documents)
{
	MemoryContext old;
	Datum *ids;
	uint64 count;

	SPI_cursor_fetch(portal, true, SLICE_DOCUMENTS);
	count = SPI_processed;
	if (count > 0)
	{
		old = MemoryContextSwitchTo(context);
		ids = palloc(count * sizeof(Datum));
		for (uint64 i = 0; i < count; i++)
			ids[i] = billing_core_value(i, 0, NULL);
		*documents = PointerGetDatum(construct_array(ids, (int) count, INT8OID, sizeof(int64),
													 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
	return count > 0;
}

/* Validate all drafts of an entity, slice by slice. */
static void
validate_all(int32 entity_id, int64 *counts)
{
	MemoryContext slice =
		AllocSetContextCreate(CurrentMemoryContext, "billing validation", ALLOCSET_DEFAULT_SIZES);
	Portal portal = open_drafts(entity_id);
	Datum documents;

	while (next_documents(portal, slice, &documents))
	{
		MemoryContext old = MemoryContextSwitchTo(slice);

		CHECK_FOR_INTERRUPTS();
		SPI_connect();
		validate_slice(entity_id, documents, counts);
		SPI_finish();
		MemoryContextSwitchTo(old);
		MemoryContextReset(slice);
	}
	SPI_cursor_close(portal);
	MemoryContextDelete(slice);
}

PG_FUNCTION_INFO_V1(billing_invoicing_validate);

/*
 * billing.validate_invoices(entity text, invoice text)
 * RETURNS TABLE (approved bigint, pending bigint, on_hold bigint)
 *
 * All drafts of the entity, or one.
 */
Datum
billing_invoicing_validate(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *reference = billing_core_arg_optional_code(fcinfo, 1, "invoice");
	int64 counts[OUTCOMES] = { 0, 0, 0 };
	Datum result[3];
	bool nulls[3] = { false, false, false };
	TupleDesc descriptor;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("validate_invoices must return a row")));
	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	if (reference != NULL)
		validate_one(entity_id, reference, counts);
	else
		validate_all(entity_id, counts);
	SPI_finish();
	result[0] = Int64GetDatum(counts[APPROVED]);
	result[1] = Int64GetDatum(counts[PENDING]);
	result[2] = Int64GetDatum(counts[HELD]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), result, nulls)));
}
