/*
 * invoicing_number.c
 *		Writes the documents' own rows and gives legal numbers without gaps, with
 *		the parties' particulars as of that moment.
 *
 * The last statement of a transaction, because whoever holds the row of a series
 * keeps all others of the entity waiting.  Numbers are taken in blocks, one for
 * each series, in the order of their names.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "utils/builtins.h"

/* Of pending (document_id, kind, account_id, series, place): the block of each series. */
#define TAKE_NUMBERS                                                                                            \
	"today AS MATERIALIZED ("                                                                                   \
	" SELECT t.today, extract(year FROM t.today)::integer + (e.fiscal_year_start > 1"                           \
	"   AND extract(month FROM t.today) >= e.fiscal_year_start)::integer AS fiscal_year,"                       \
	"  jsonb_build_object('name', e.name, 'address', e.address, 'postal_code', e.postal_code,"                  \
	"   'city', e.city, 'country', e.country, 'tax_id', e.tax_id,"                                              \
	"   'registration_id', e.registration_id) AS seller"                                                        \
	" FROM billing.legal_entity e CROSS JOIN LATERAL (SELECT"                                                   \
	"  (now() AT TIME ZONE e.time_zone)::date AS today) t WHERE e.entity_id = $1"                               \
	"), needed AS ("                                                                                            \
	" SELECT p.series, count(*) AS numbers FROM pending p WHERE p.series IS NOT NULL GROUP BY 1"                \
	"), block AS ("                                                                                             \
	" INSERT INTO billing.number_series AS s (entity_id, series, fiscal_year, last_number)"                     \
	" SELECT $1, n.series, t.fiscal_year, n.numbers FROM needed n, today t ORDER BY n.series"                   \
	" ON CONFLICT (entity_id, series, fiscal_year)"                                                             \
	"  DO UPDATE SET last_number = s.last_number + excluded.last_number"                                        \
	" RETURNING series, fiscal_year, last_number"                                                               \
	"), numbered AS MATERIALIZED ("                                                                             \
	" SELECT p.document_id, p.series, b.fiscal_year, b.last_number - n.numbers + p.place AS sequence,"          \
	"  t.today AS issue_date, t.today + a.payment_terms_days AS due_date, t.seller,"                            \
	"  jsonb_build_object('account', a.code, 'customer', c.code, 'name', c.name, 'address', c.address,"         \
	"   'postal_code', c.postal_code, 'city', c.city, 'country', c.country, 'tax_id', c.tax_id,"                \
	"   'purchase_order', a.purchase_order) AS buyer,"                                                          \
	"  billing_internal.invoice_number(p.series, b.fiscal_year, b.last_number - n.numbers + p.place) AS number" \
	" FROM pending p CROSS JOIN today t JOIN block b ON b.series = p.series"                                    \
	" JOIN needed n ON n.series = p.series"                                                                     \
	" CROSS JOIN LATERAL (SELECT * FROM billing.billing_account a"                                              \
	"  WHERE a.entity_id = $1 AND a.account_id = p.account_id OFFSET 0) a"                                      \
	" CROSS JOIN LATERAL (SELECT * FROM billing.customer c"                                                     \
	"  WHERE c.entity_id = $1 AND c.customer_id = a.customer_id OFFSET 0) c"                                    \
	")"

/* $1 entity, $2 run, then the documents as arrays: see BillingDocuments */
static BillingStatement insert_documents = {
	"WITH made AS MATERIALIZED ("
	" SELECT * FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS d (document_id, kind,"
	"  account_id, currency, billing_date, net, tax, state, version, action)"
	"), pending AS MATERIALIZED ("
	" SELECT document_id, kind, account_id, CASE kind WHEN 'credit_note' THEN 'CN' ELSE 'INV' END AS series,"
	"  row_number() OVER (PARTITION BY kind ORDER BY billing_date, document_id) AS place"
	" FROM made WHERE state = 'issued'"
	"), " TAKE_NUMBERS ", complete AS MATERIALIZED ("
	" SELECT m.*, n.series, n.fiscal_year, n.sequence, n.number, n.issue_date, n.due_date, n.seller, n.buyer"
	" FROM made m LEFT JOIN numbered n USING (document_id)"
	"), invoice AS ("
	" INSERT INTO billing.invoice (entity_id, invoice_id, run_id, account_id, currency, billing_date,"
	"  net, tax, total, series, fiscal_year, sequence, number, issue_date, due_date, seller, buyer)"
	" SELECT $1, document_id, $2, account_id, currency, billing_date, net, tax, net + tax,"
	"  series, fiscal_year, sequence, number, issue_date, due_date, seller, buyer FROM complete"
	") INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT $1, action, kind, document_id::text,"
	"  CASE WHEN number IS NULL THEN jsonb_build_object('state', state, 'version', version,"
	"   'run', $2, 'account', account_id, 'billing_date', billing_date, 'currency', currency,"
	"   'net', net, 'tax', tax, 'total', net + tax)"
	"  ELSE jsonb_build_object('state', state, 'version', version,"
	"   'run', $2, 'account', account_id, 'billing_date', billing_date, 'currency', currency,"
	"   'net', net, 'tax', tax, 'total', net + tax, 'number', number,"
	"   'issue_date', issue_date, 'due_date', due_date) END"
	" FROM complete",
	12,
	{ INT4OID, INT8OID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, DATEARRAYOID,
	  NUMERICARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 documents that have just been issued */
static BillingStatement number_documents = {
	"WITH pending AS MATERIALIZED ("
	" SELECT d.document_id, d.kind, i.account_id,"
	"  CASE d.kind WHEN 'credit_note' THEN 'CN' ELSE 'INV' END AS series,"
	"  row_number() OVER (PARTITION BY d.kind ORDER BY i.billing_date, d.document_id) AS place"
	" FROM billing.document d"
	" JOIN billing.invoice i ON i.entity_id = $1 AND i.invoice_id = ANY ($2) AND i.invoice_id = d.document_id"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)"
	"), " TAKE_NUMBERS ", written AS ("
	" UPDATE billing.invoice i SET series = n.series, fiscal_year = n.fiscal_year,"
	"  sequence = n.sequence, issue_date = n.issue_date, due_date = n.due_date, seller = n.seller,"
	"  buyer = n.buyer, number = n.number"
	" FROM numbered n WHERE i.entity_id = $1 AND i.invoice_id = ANY ($2) AND i.invoice_id = n.document_id"
	" RETURNING i.invoice_id, i.number, i.issue_date, i.due_date, i.total"
	") INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT $1, 'number', p.kind, w.invoice_id::text, jsonb_build_object('number', w.number,"
	"  'issue_date', w.issue_date, 'due_date', w.due_date, 'total', w.total)"
	" FROM written w JOIN pending p ON p.document_id = w.invoice_id",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* Write the own rows of a run's documents, with numbers where they are issued. */
void
billing_invoicing_insert(const BillingRun *run, const BillingDocuments *documents)
{
	Datum values[12];

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(run->run_id);
	values[2] = documents->ids;
	values[3] = documents->kinds;
	values[4] = documents->accounts;
	values[5] = documents->currencies;
	values[6] = documents->dates;
	values[7] = documents->nets;
	values[8] = documents->taxes;
	values[9] = documents->states;
	values[10] = documents->versions;
	values[11] = documents->actions;
	billing_core_run(&insert_documents, values, NULL, false);
}

/* Give numbers to documents that have just been issued. */
void
billing_invoicing_number(int32 entity_id, Datum ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), ids };

	billing_core_run(&number_documents, values, NULL, false);
}
