/*
 * invoicing_issue.c
 *		Issuing what was approved, one document or all, and the guard that keeps an
 *		issued invoice as it is.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "executor/spi.h"
#include "invoicing/invoicing_private.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "workflow/workflow.h"

/* $1 entity, $2 through date or null, $3 how many: locked, so that nobody discards one meanwhile */
static BillingStatement find_approved = {
	"SELECT array_agg(document_id) FROM (SELECT d.document_id FROM billing.document d"
	" JOIN billing_internal.transition_of($1) t ON t.kind = d.kind AND t.from_state = d.state AND t.action = 'issue'"
	" JOIN billing.invoice i ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id"
	" WHERE d.entity_id = $1 AND d.kind IN ('invoice', 'credit_note')"
	" AND d.state NOT IN ('issued', 'paid', 'discarded')"
	" AND ($2 IS NULL OR i.billing_date <= $2)"
	" ORDER BY d.document_id LIMIT $3 FOR NO KEY UPDATE OF d) approved",
	3,
	{ INT4OID, DATEOID, INT4OID },
	NULL
};

/* Issue a set of approved documents: states first, numbers last. */
static void
issue(int32 entity_id, Datum ids)
{
	billing_workflow_advance(entity_id, ids, "issue", NULL, true);
	billing_invoicing_settle_credits(entity_id, ids);
	billing_invoicing_number(entity_id, ids);
}

PG_FUNCTION_INFO_V1(billing_invoicing_issue_one);
PG_FUNCTION_INFO_V1(billing_invoicing_issue_all);
PG_FUNCTION_INFO_V1(billing_invoicing_guard_issued);

/* billing.issue_invoice(entity text, invoice text, version integer) RETURNS text: its number */
Datum
billing_invoicing_issue_one(PG_FUNCTION_ARGS)
{
	static BillingStatement number_of = {
		"SELECT number FROM billing.invoice WHERE entity_id = $1 AND invoice_id = $2",
		2,
		{ INT4OID, INT8OID },
		NULL
	};
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *reference = billing_core_arg_code(fcinfo, 1, "invoice");
	Datum values[2];
	char *result;

	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(billing_invoicing_find(entity_id, reference));
	billing_workflow_expect_version(fcinfo, 2, entity_id, DatumGetInt64(values[1]));
	issue(entity_id, billing_invoicing_one(DatumGetInt64(values[1])));
	billing_core_run(&number_of, values, NULL, false);
	result = billing_core_text_value(0, 0);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/*
 * billing.issue_invoices(entity text, through_date date) RETURNS bigint: how many
 *
 * All approved documents, or those billed on or before the day.
 */
Datum
billing_invoicing_issue_all(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	bool no_date;
	DateADT through = billing_core_arg_optional_date(fcinfo, 1, "through date", &no_date);
	Datum values[3];
	Datum ids;
	bool none;
	int64 issued = 0;

	billing_core_require_duty(entity_id, "biller");
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(through);
	values[2] = Int32GetDatum(BILLING_SLICE_SIZE);
	SPI_connect();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		billing_core_run(&find_approved, values, no_date ? " n " : NULL, false);
		ids = billing_core_value_copy(0, 0, false, -1, &none);
		if (none)
			break;
		issue(entity_id, ids);
		issued += billing_invoicing_count(ids);
		pfree(DatumGetPointer(ids));
	}
	SPI_finish();
	PG_RETURN_INT64(issued);
}

/*
 * billing_internal.guard_issued() RETURNS trigger, BEFORE UPDATE ROW
 *
 * The argument names the one column whose being null ('number') or alone
 * changing ('discarded') makes an update right.
 */
Datum
billing_invoicing_guard_issued(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	const char *column = trigger->tg_trigger->tgargs[0];
	int place = SPI_fnumber(descriptor, column);
	bool allowed = true;
	bool isnull;
	int i;

	if (billing_core_restoring || creating_extension)
		PG_RETURN_POINTER(trigger->tg_newtuple);
	if (strcmp(column, "number") == 0)
	{
		(void) heap_getattr(trigger->tg_trigtuple, place, descriptor, &isnull);
		allowed = isnull;
	}
	for (i = 1; i <= descriptor->natts && strcmp(column, "discarded") == 0; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i - 1);
		bool old_null;
		bool new_null;
		Datum before = heap_getattr(trigger->tg_trigtuple, i, descriptor, &old_null);
		Datum after = heap_getattr(trigger->tg_newtuple, i, descriptor, &new_null);

		if (i == place || attribute->attisdropped)
			continue;
		if (old_null != new_null ||
			(!old_null && !datumIsEqual(before, after, attribute->attbyval, attribute->attlen)))
			allowed = false;
	}
	if (!allowed)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_IMMUTABLE), errmsg("an issued invoice never changes"),
				 errhint("Correct it by a credit note: amend the contract, price or usage "
						 "and run billing again.")));
	PG_RETURN_POINTER(trigger->tg_newtuple);
}
