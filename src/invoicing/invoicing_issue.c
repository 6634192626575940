/*
 * invoicing_issue.c
 *		Issuing: legal numbers without gaps, the parties' particulars as of that
 *		moment, and the guard that keeps an issued invoice as it is.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "executor/spi.h"
#include "invoicing/invoicing.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "workflow/workflow.h"

/* $1 entity, $2 through date or null: locked, so that nobody discards one meanwhile */
static BillingStatement find_approved = {
	"SELECT array_agg(document_id) FROM (SELECT d.document_id FROM billing.document d"
	" JOIN billing.invoice i ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id"
	" WHERE d.entity_id = $1 AND d.kind IN ('invoice', 'credit_note') AND d.state = 'approved'"
	" AND ($2 IS NULL OR i.billing_date <= $2)"
	" ORDER BY d.document_id FOR NO KEY UPDATE OF d) approved",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/*
 * $1 entity, $2 documents.  The last statement of an issue, because whoever
 * holds a series' row keeps all others of the entity waiting: takes a block of
 * numbers for the whole set, and writes numbers, parties and audit records.
 */
static BillingStatement number = {
	"WITH pending AS MATERIALIZED ("
	" SELECT d.document_id, CASE d.kind WHEN 'credit_note' THEN 'CN' ELSE 'INV' END AS series,"
	"  d.kind, i.account_id, t.today, f.fiscal_year,"
	"  row_number() OVER (PARTITION BY d.kind ORDER BY i.billing_date, d.document_id) AS place"
	" FROM billing.document d"
	" JOIN billing.invoice i ON i.entity_id = $1 AND i.invoice_id = ANY ($2) AND i.invoice_id = d.document_id"
	" JOIN billing.legal_entity e ON e.entity_id = d.entity_id"
	" CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE e.time_zone)::date AS today) t"
	" CROSS JOIN LATERAL (SELECT extract(year FROM t.today)::integer + (e.fiscal_year_start > 1"
	"   AND extract(month FROM t.today) >= e.fiscal_year_start)::integer AS fiscal_year) f"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)"
	"), needed AS ("
	" SELECT series, fiscal_year, count(*) AS numbers FROM pending GROUP BY series, fiscal_year"
	"), block AS ("
	" INSERT INTO billing.number_series AS s (entity_id, series, fiscal_year, last_number)"
	" SELECT $1, series, fiscal_year, numbers FROM needed ORDER BY series"
	" ON CONFLICT (entity_id, series, fiscal_year)"
	"  DO UPDATE SET last_number = s.last_number + excluded.last_number"
	" RETURNING series, fiscal_year, last_number"
	"), party AS MATERIALIZED ("
	" SELECT p.document_id, p.kind, p.series, p.fiscal_year, p.today,"
	"  b.last_number - n.numbers + p.place AS sequence,"
	"  p.today + a.payment_terms_days AS due_date,"
	"  jsonb_build_object('name', e.name, 'address', e.address, 'postal_code', e.postal_code,"
	"   'city', e.city, 'country', e.country, 'tax_id', e.tax_id,"
	"   'registration_id', e.registration_id) AS seller,"
	"  jsonb_build_object('account', a.code, 'customer', c.code, 'name', c.name, 'address', c.address,"
	"   'postal_code', c.postal_code, 'city', c.city, 'country', c.country, 'tax_id', c.tax_id,"
	"   'purchase_order', a.purchase_order) AS buyer"
	" FROM pending p JOIN block b USING (series, fiscal_year) JOIN needed n USING (series, fiscal_year)"
	" CROSS JOIN LATERAL (SELECT * FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id = p.account_id OFFSET 0) a"
	" CROSS JOIN LATERAL (SELECT * FROM billing.customer c"
	"  WHERE c.entity_id = $1 AND c.customer_id = a.customer_id OFFSET 0) c"
	" JOIN billing.legal_entity e ON e.entity_id = $1"
	"), numbered AS ("
	" UPDATE billing.invoice i SET series = p.series, fiscal_year = p.fiscal_year,"
	"  sequence = p.sequence, issue_date = p.today, due_date = p.due_date, seller = p.seller,"
	"  buyer = p.buyer,"
	"  number = format('%s-%s-%s', p.series, p.fiscal_year,"
	"   lpad(p.sequence::text, greatest(6, length(p.sequence::text)), '0'))"
	" FROM party p WHERE i.entity_id = $1 AND i.invoice_id = ANY ($2) AND i.invoice_id = p.document_id"
	" RETURNING i.invoice_id, p.kind, i.number, i.issue_date, i.due_date, i.total"
	") INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT $1, 'number', kind, invoice_id::text, jsonb_build_object('number', number,"
	"  'issue_date', issue_date, 'due_date', due_date, 'total', total) FROM numbered",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* Issue a set of approved documents: states first, numbers last. */
static void
issue(int32 entity_id, Datum ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), ids };

	billing_workflow_advance(entity_id, ids, "issue", NULL, true);
	billing_core_run(&number, values, NULL, false);
}

PG_FUNCTION_INFO_V1(billing_invoicing_issue_one);
PG_FUNCTION_INFO_V1(billing_invoicing_issue_all);
PG_FUNCTION_INFO_V1(billing_invoicing_guard_issued);

/* billing.issue_invoice(entity text, invoice text) RETURNS text: its number */
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
	Datum values[2];
	Datum ids;
	bool none;
	int64 issued = 0;

	billing_core_require_duty(entity_id, "biller");
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(through);
	SPI_connect();
	billing_core_run(&find_approved, values, no_date ? " n" : NULL, false);
	ids = billing_core_value_copy(0, 0, false, -1, &none);
	if (!none)
	{
		issue(entity_id, ids);
		issued = billing_invoicing_count(ids);
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
