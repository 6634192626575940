/*
 * invoicing_bill.c
 *		Bills a slice of accounts: writes entitled − billed as draft invoices, with
 *		their lines, taxes, steps, audit records and exceptions, in three statements.
 *
 * What is entitled and what was billed is decided in functions.sql; this file
 * writes the difference.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing.h"
#include "utils/builtins.h"

/* $1 entity, $2 account to begin after, $3 how many: accounts with contracts, by key */
static BillingStatement next_accounts = {
	"SELECT array_agg(account_id ORDER BY account_id), count(*), max(account_id)"
	" FROM (SELECT a.account_id FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id > $2 AND EXISTS (SELECT FROM billing.contract_item i"
	"   WHERE i.entity_id = a.entity_id AND i.account_id = a.account_id)"
	"  ORDER BY a.account_id LIMIT $3) slice",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/*
 * $1 entity, $2 accounts, $3 through date.  Locks every account against other
 * runs, in the order of their keys.  The row is written even where the watermark
 * stays: whoever comes later with a snapshot from before must fail, and not bill
 * by what was then.
 */
static BillingStatement lock_accounts = {
	"INSERT INTO billing.account_watermark AS w (entity_id, account_id, billed_through)"
	" SELECT $1, account_id, $3 FROM unnest($2) AS account_id ORDER BY account_id"
	" ON CONFLICT (entity_id, account_id)"
	" DO UPDATE SET billed_through = greatest(w.billed_through, excluded.billed_through)",
	3,
	{ INT4OID, INT8ARRAYOID, DATEOID },
	NULL
};

/*
 * $1 entity, $2 run, $3 accounts, $4 through date, $5 maker.  The difference is
 * sorted once, into documents and their lines; after that nothing is joined
 * but what could not be billed.
 */
static BillingStatement write_drafts = {
	"WITH diff AS MATERIALIZED ("
	" SELECT * FROM billing_internal.difference($1, $3, $4)"
	"), line AS MATERIALIZED ("
	" SELECT n.*, max(n.new_id) OVER (PARTITION BY n.account_id, n.currency, n.billing_date) AS invoice_id"
	" FROM (SELECT o.*, CASE WHEN o.line_no = 1"
	"   THEN nextval('billing.document_document_id_seq'::regclass) END AS new_id"
	"  FROM (SELECT d.*, row_number() OVER (PARTITION BY d.account_id, d.currency, d.billing_date"
	"    ORDER BY d.item_id, d.period_start, d.dimensions, d.kind DESC, d.charge_seq) AS line_no"
	"   FROM diff d WHERE d.amount IS NOT NULL) o) n"
	"), tax AS MATERIALIZED ("
	" SELECT g.*, CASE WHEN g.tax_category IS NULL THEN 0"
	"  ELSE billing.round_amount(g.base * g.tax_rate * 0.01, g.minor_unit, g.rounding_mode) END AS tax"
	" FROM (SELECT invoice_id, account_id, currency, billing_date, minor_unit, rounding_mode,"
	"   tax_category, tax_rate, CASE WHEN tax_category IS NOT NULL THEN exemption_reason END"
	"   AS exemption_reason, sum(amount) AS base FROM line"
	"  GROUP BY invoice_id, account_id, currency, billing_date, minor_unit, rounding_mode,"
	"   tax_category, tax_rate, 9) g"
	"), total AS MATERIALIZED ("
	" SELECT invoice_id, account_id, currency, billing_date, sum(base) AS net, sum(tax) AS tax"
	" FROM tax GROUP BY invoice_id, account_id, currency, billing_date ORDER BY invoice_id"
	"), document AS ("
	" INSERT INTO billing.document (entity_id, document_id, kind, state, maker_id, amount, currency)"
	" SELECT $1, invoice_id, CASE WHEN net + tax < 0 THEN 'credit_note' ELSE 'invoice' END, 'draft',"
	"  $5, net + tax, currency FROM total"
	"), invoice AS ("
	" INSERT INTO billing.invoice (entity_id, invoice_id, run_id, account_id, currency,"
	"  billing_date, net, tax, total)"
	" SELECT $1, invoice_id, $2, account_id, currency, billing_date, net, tax, net + tax FROM total"
	"), invoice_line AS ("
	" INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id,"
	"  charge_seq, charge_date, period_start, period_end, description, quantity, events, dimensions, tariff,"
	"  days, of_days, exact_amount, amount, tax_code_id, tax_category, tax_rate,"
	"  reverses_invoice_id, reverses_line_no)"
	" SELECT $1, invoice_id, line_no, kind, item_id, version_id, charge_seq, charge_date,"
	"  period_start, period_end, description, quantity, events, dimensions, tariff, days, of_days,"
	"  exact_amount,"
	"  amount, tax_code_id, tax_category, tax_rate, reverses_invoice_id, reverses_line_no FROM line"
	"), invoice_tax AS ("
	" INSERT INTO billing.invoice_tax (entity_id, invoice_id, tax_no, category, rate,"
	"  exemption_reason, base, tax)"
	" SELECT $1, invoice_id, row_number() OVER (PARTITION BY invoice_id"
	"   ORDER BY tax_category, tax_rate DESC, exemption_reason),"
	"  tax_category, tax_rate, exemption_reason, base, tax FROM tax WHERE tax_category IS NOT NULL"
	"), step AS ("
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id)"
	" SELECT $1, invoice_id, 1, 'draft', 'draft', $5 FROM total"
	"), audit AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT $1, 'draft', CASE WHEN net + tax < 0 THEN 'credit_note' ELSE 'invoice' END,"
	"  invoice_id::text, jsonb_build_object('state', 'draft', 'version', 1, 'run', $2,"
	"   'account', account_id, 'billing_date', billing_date, 'currency', currency, 'net', net,"
	"   'tax', tax, 'total', net + tax) FROM total"
	"), mended AS ("
	" UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $5,"
	"  resolution = 'billed by run ' || $2"
	" FROM diff d WHERE x.entity_id = $1 AND x.state = 'open' AND d.amount IS NOT NULL"
	" AND d.kind = 'charge' AND x.kind IN ('missing_price', 'rating_failed')"
	" AND x.dedupe_key = billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions)"
	"), unbilled AS ("
	" INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, k.kind, billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions),"
	"  a.code,"
	"  CASE WHEN d.tariff IS NULL THEN format('item %s of contract %s has no price on %s',"
	"    i.code, c.code, d.period_start)"
	"   ELSE format('item %s of contract %s, %s to %s: %s', i.code, c.code, d.period_start,"
	"    d.period_end - 1, billing_internal.charge_problem(d.tariff, d.quantity, d.events,"
	"     d.dimensions)) END,"
	"  jsonb_build_object('account_id', d.account_id, 'billing_date', d.billing_date, 'contract',"
	"   c.code, 'item', i.code, 'period_start', d.period_start, 'period_end', d.period_end,"
	"   'quantity', d.quantity, 'dimensions', nullif(d.dimensions, '')::jsonb, 'tariff', d.tariff::jsonb),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM diff d CROSS JOIN LATERAL (SELECT i.code, i.contract_id FROM billing.contract_item i"
	"  WHERE i.entity_id = $1 AND i.item_id = d.item_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT c.code FROM billing.contract c WHERE c.entity_id = $1"
	"  AND c.contract_id = i.contract_id OFFSET 0) c"
	" CROSS JOIN LATERAL (SELECT a.code FROM billing.billing_account a WHERE a.entity_id = $1"
	"  AND a.account_id = d.account_id OFFSET 0) a"
	" JOIN billing.exception_kind k"
	"  ON k.kind = CASE WHEN d.tariff IS NULL THEN 'missing_price' ELSE 'rating_failed' END"
	" WHERE d.amount IS NULL"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE SET state = 'open', resolved_at = NULL,"
	"  resolved_by = NULL, resolution = NULL, detail = excluded.detail, payload = excluded.payload,"
	"  raised_at = now(), deadline = excluded.deadline"
	" WHERE x.state = 'resolved'"
	" RETURNING 1"
	") SELECT (SELECT count(*) FROM total), (SELECT count(*) FROM diff WHERE amount IS NOT NULL),"
	" (SELECT count(*) FROM unbilled), (SELECT array_agg(invoice_id) FROM total)",
	5,
	{ INT4OID, INT8OID, INT8ARRAYOID, DATEOID, INT4OID },
	NULL
};

/*
 * $1 entity, $2 invoices.  An event may carry the amount that its source
 * expects; rating it alone, at the price that was applied, must give that
 * amount, to the meter's tolerance.
 */
static BillingStatement compare_expected = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, k.kind, u.source || ' ' || u.event_key, a.code,"
	"  format('event %s of %s: its source expects %s, the price gives %s', u.event_key, u.source,"
	"   u.expected_amount, coalesce(u.amount::text, 'no amount')),"
	"  jsonb_build_object('source', u.source, 'id', u.event_key, 'meter', m.code, 'quantity', u.quantity,"
	"   'expected_amount', u.expected_amount, 'rated_amount', u.amount, 'difference',"
	"   u.expected_amount - u.amount, 'tariff', l.tariff::jsonb, 'invoice', 'D' || l.invoice_id),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM billing.invoice_line l"
	" CROSS JOIN LATERAL (SELECT i.account_id, i.meter_id, CASE WHEN i.own_usage THEN i.item_id"
	"   ELSE 0 END AS usage_item FROM billing.contract_item i"
	"  WHERE i.entity_id = $1 AND i.item_id = l.item_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT m.code, m.expected_tolerance FROM billing.meter m"
	"  WHERE m.entity_id = $1 AND m.meter_id = i.meter_id OFFSET 0) m"
	" CROSS JOIN LATERAL (SELECT e.source, e.event_key, e.quantity, e.expected_amount,"
	"   billing_internal.try_rate(l.tariff, e.quantity, 1, nullif(l.dimensions, '')::jsonb) AS amount"
	"  FROM billing_internal.counted_events($1, i.account_id, i.usage_item, i.meter_id,"
	"   l.period_start, l.period_end) e"
	"  WHERE e.expected_amount IS NOT NULL AND e.dimensions = l.dimensions OFFSET 0) u"
	" CROSS JOIN LATERAL (SELECT a.code FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id = i.account_id OFFSET 0) a"
	" JOIN billing.exception_kind k ON k.kind = 'pricing_discrepancy'"
	" WHERE l.entity_id = $1 AND l.invoice_id = ANY ($2) AND l.kind = 'charge' AND l.events > 0"
	" AND (u.amount IS NULL OR abs(u.amount - u.expected_amount) > m.expected_tolerance)"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* Write the drafts of locked accounts and count what was written. */
static void
bill_accounts(int32 entity_id, int64 run_id, Datum accounts, DateADT through, BillingSlice *slice)
{
	Datum values[5];
	Datum invoices;
	bool none;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(run_id);
	values[2] = accounts;
	values[3] = DateADTGetDatum(through);
	values[4] = Int32GetDatum(billing_core_actor_person());
	billing_core_run(&write_drafts, values, NULL, false);
	slice->documents = DatumGetInt64(billing_core_value(0, 0, NULL));
	slice->lines = DatumGetInt64(billing_core_value(0, 1, NULL));
	slice->exceptions = DatumGetInt64(billing_core_value(0, 2, NULL));
	invoices = billing_core_value_copy(0, 3, false, -1, &none);
	if (!none)
	{
		values[1] = invoices;
		slice->exceptions += billing_core_run(&compare_expected, values, NULL, false);
	}
}

/*
 * Bill up to so many accounts that come after one, and say what was done; none
 * are left where slice->accounts is 0.
 */
void
billing_invoicing_bill_slice(int32 entity_id, int64 run_id, DateADT through, int64 after_account,
							 int32 most, BillingSlice *slice)
{
	Datum values[3];
	Datum accounts;
	bool none;

	memset(slice, 0, sizeof(*slice));
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(after_account);
	values[2] = Int32GetDatum(most);
	billing_core_run(&next_accounts, values, NULL, false);
	accounts = billing_core_value_copy(0, 0, false, -1, &none);
	if (none)
		return;
	slice->accounts = DatumGetInt64(billing_core_value(0, 1, NULL));
	slice->last_account = DatumGetInt64(billing_core_value(0, 2, NULL));
	values[1] = accounts;
	values[2] = DateADTGetDatum(through);
	billing_core_run(&lock_accounts, values, NULL, false);
	bill_accounts(entity_id, run_id, accounts, through, slice);
}
