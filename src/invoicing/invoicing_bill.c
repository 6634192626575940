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
 * runs, in the order of their keys, whether its watermark moves or not.
 */
static BillingStatement lock_accounts = {
	"INSERT INTO billing.account_watermark AS w (entity_id, account_id, billed_through)"
	" SELECT $1, account_id, $3 FROM unnest($2) AS account_id ORDER BY account_id"
	" ON CONFLICT (entity_id, account_id) DO UPDATE SET billed_through = excluded.billed_through"
	" WHERE w.billed_through < excluded.billed_through",
	3,
	{ INT4OID, INT8ARRAYOID, DATEOID },
	NULL
};

/* $1 entity, $2 run, $3 accounts, $4 through date, $5 maker */
static BillingStatement write_drafts = {
	"WITH diff AS MATERIALIZED ("
	" SELECT * FROM billing_internal.difference($1, $3, $4)"
	"), head AS MATERIALIZED ("
	" SELECT g.*, nextval('billing.document_document_id_seq'::regclass) AS invoice_id"
	" FROM (SELECT account_id, currency, billing_date, sum(amount) AS net"
	"  FROM diff WHERE amount IS NOT NULL GROUP BY account_id, currency, billing_date"
	"  ORDER BY account_id, billing_date) g"
	"), tax AS MATERIALIZED ("
	" SELECT g.invoice_id, g.tax_category, g.tax_rate, g.exemption_reason, g.base,"
	"  row_number() OVER (PARTITION BY g.invoice_id"
	"   ORDER BY g.tax_category, g.tax_rate DESC, g.exemption_reason) AS tax_no,"
	"  billing.round_amount(g.base * g.tax_rate * 0.01, y.minor_unit, e.rounding_mode) AS tax"
	" FROM (SELECT h.invoice_id, h.currency, d.tax_category, d.tax_rate, x.exemption_reason,"
	"   sum(d.amount) AS base"
	"  FROM diff d JOIN head h USING (account_id, currency, billing_date)"
	"  JOIN billing.tax_code x ON x.entity_id = $1 AND x.tax_code_id = d.tax_code_id"
	"  WHERE d.amount IS NOT NULL AND d.tax_category IS NOT NULL"
	"  GROUP BY h.invoice_id, h.currency, d.tax_category, d.tax_rate, x.exemption_reason) g"
	" JOIN billing.currency y ON y.currency = g.currency"
	" JOIN billing.legal_entity e ON e.entity_id = $1"
	"), total AS MATERIALIZED ("
	" SELECT h.*, coalesce(t.tax, 0) AS tax"
	" FROM head h LEFT JOIN (SELECT invoice_id, sum(tax) AS tax FROM tax GROUP BY invoice_id) t"
	"  USING (invoice_id)"
	"), document AS ("
	" INSERT INTO billing.document (entity_id, document_id, kind, state, maker_id, amount, currency)"
	" SELECT $1, invoice_id, CASE WHEN net + tax < 0 THEN 'credit_note' ELSE 'invoice' END, 'draft',"
	"  $5, net + tax, currency FROM total"
	"), invoice AS ("
	" INSERT INTO billing.invoice (entity_id, invoice_id, run_id, account_id, currency,"
	"  billing_date, net, tax, total)"
	" SELECT $1, invoice_id, $2, account_id, currency, billing_date, net, tax, net + tax FROM total"
	"), line AS ("
	" INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id,"
	"  charge_seq, charge_date, period_start, period_end, description, quantity, events, tariff,"
	"  days, of_days, exact_amount, amount, tax_code_id, tax_category, tax_rate,"
	"  reverses_invoice_id, reverses_line_no)"
	" SELECT $1, h.invoice_id, row_number() OVER (PARTITION BY h.invoice_id"
	"   ORDER BY d.item_id, d.period_start, d.kind DESC, d.charge_seq), d.kind, d.item_id,"
	"  d.version_id, d.charge_seq, d.charge_date, d.period_start, d.period_end, d.description,"
	"  d.quantity, d.events, d.tariff, d.days, d.of_days, d.exact_amount, d.amount, d.tax_code_id,"
	"  d.tax_category, d.tax_rate, d.reverses_invoice_id, d.reverses_line_no"
	" FROM diff d JOIN head h USING (account_id, currency, billing_date) WHERE d.amount IS NOT NULL"
	"), invoice_tax AS ("
	" INSERT INTO billing.invoice_tax (entity_id, invoice_id, tax_no, category, rate,"
	"  exemption_reason, base, tax)"
	" SELECT $1, invoice_id, tax_no, tax_category, tax_rate, exemption_reason, base, tax FROM tax"
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
	" AND x.dedupe_key = format('item %s, %s to %s', d.item_id, d.period_start, d.period_end - 1)"
	"), unbilled AS ("
	" INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, k.kind, format('item %s, %s to %s', d.item_id, d.period_start, d.period_end - 1), a.code,"
	"  CASE WHEN d.tariff IS NULL THEN format('item %s of contract %s has no price on %s',"
	"    i.code, c.code, d.period_start)"
	"   ELSE format('item %s of contract %s, %s to %s: %s', i.code, c.code, d.period_start,"
	"    d.period_end - 1, billing_internal.rating_error(d.tariff, d.quantity, d.events)) END,"
	"  jsonb_build_object('account_id', d.account_id, 'billing_date', d.billing_date, 'contract',"
	"   c.code, 'item', i.code, 'period_start', d.period_start, 'period_end', d.period_end,"
	"   'quantity', d.quantity, 'tariff', d.tariff::jsonb),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM diff d JOIN billing.contract_item i ON i.entity_id = $1 AND i.item_id = d.item_id"
	" JOIN billing.contract c ON c.entity_id = $1 AND c.contract_id = i.contract_id"
	" JOIN billing.billing_account a ON a.entity_id = $1 AND a.account_id = d.account_id"
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
	"   u.expected_amount, coalesce(r.amount::text, 'no amount')),"
	"  jsonb_build_object('source', u.source, 'id', u.event_key, 'meter', m.code, 'quantity', u.quantity,"
	"   'expected_amount', u.expected_amount, 'rated_amount', r.amount, 'difference',"
	"   u.expected_amount - r.amount, 'tariff', l.tariff::jsonb, 'invoice', 'D' || l.invoice_id),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM billing.invoice_line l"
	" JOIN billing.contract_item i ON i.entity_id = l.entity_id AND i.item_id = l.item_id"
	" JOIN billing.billing_account a ON a.entity_id = l.entity_id AND a.account_id = i.account_id"
	" JOIN billing.meter m ON m.entity_id = l.entity_id AND m.meter_id = i.meter_id"
	" JOIN billing.usage_event u ON u.entity_id = l.entity_id AND u.account_id = i.account_id"
	"  AND u.meter_id = i.meter_id AND u.usage_date >= l.period_start AND u.usage_date < l.period_end"
	" CROSS JOIN LATERAL (SELECT billing_internal.try_rate(l.tariff, u.quantity, 1) AS amount) r"
	" JOIN billing.exception_kind k ON k.kind = 'pricing_discrepancy'"
	" WHERE l.entity_id = $1 AND l.invoice_id = ANY ($2) AND l.kind = 'charge'"
	" AND u.expected_amount IS NOT NULL"
	" AND (r.amount IS NULL OR abs(r.amount - u.expected_amount) > m.expected_tolerance)"
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
