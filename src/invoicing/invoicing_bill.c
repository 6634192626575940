/*
 * invoicing_bill.c
 *		Writes entitled − billed of a slice of accounts: documents with their lines,
 *		taxes, steps and exceptions, in one statement.
 *
 * What is entitled and what was billed is decided in functions.sql, what stands
 * against a document in invoicing_problem.c; this file writes the difference.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "utils/builtins.h"

/*
 * $1 entity, $2 run, $3 accounts, $4 through date, $5 maker, $6 those of the
 * accounts that have changed, $7 phase, $8 amounts by currency so far.  The difference is sorted once, into
 * documents and their lines; after that nothing is joined but accounts and what
 * could not be billed.  Every document goes straight into the last state that
 * the phase leads it to: the steps on the way are those of billing.transition.
 */
static BillingStatement write_drafts = {
	"WITH diff AS MATERIALIZED ("
	" SELECT * FROM billing_internal.difference($1, $3, $4, $6)"
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
	"   AS exemption_reason, sum(amount) AS base, count(*) AS lines, min(charge_date) AS since FROM line"
	"  GROUP BY invoice_id, account_id, currency, billing_date, minor_unit, rounding_mode,"
	"   tax_category, tax_rate, 9) g"
	"), total AS MATERIALIZED ("
	" SELECT invoice_id, account_id, currency, billing_date, sum(base) AS net, sum(tax) AS tax,"
	"  sum(base) + sum(tax) AS total,"
	"  CASE WHEN sum(base) + sum(tax) < 0 THEN 'credit_note' ELSE 'invoice' END AS kind,"
	"  sum(lines) AS lines, coalesce(sum(lines) FILTER (WHERE tax_category IS NULL), 0) AS untaxed,"
	"  min(since) FILTER (WHERE tax_category IS NULL) AS untaxed_since,"
	"  bool_or(tax_category IN ('AE', 'K')) IS TRUE AS needs_tax_id"
	" FROM tax GROUP BY invoice_id, account_id, currency, billing_date"
	"), missing AS MATERIALIZED ("
	" SELECT d.*, k.kind AS problem, k.deadline_days, i.code AS item, c.code AS contract, a.code AS account,"
	"  CASE WHEN d.tariff IS NULL THEN format('item %s of contract %s has no price on %s',"
	"    i.code, c.code, d.period_start)"
	"   ELSE format('item %s of contract %s, %s to %s: %s', i.code, c.code, d.period_start,"
	"    d.period_end - 1, billing_internal.charge_problem(d.tariff, d.quantity, d.events,"
	"     d.dimensions)) END AS detail"
	" FROM (SELECT * FROM diff WHERE amount IS NULL) d"
	" CROSS JOIN LATERAL (SELECT i.code, i.contract_id FROM billing.contract_item i"
	"  WHERE i.entity_id = $1 AND i.item_id = d.item_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT c.code FROM billing.contract c WHERE c.entity_id = $1"
	"  AND c.contract_id = i.contract_id OFFSET 0) c"
	" CROSS JOIN LATERAL (SELECT a.code FROM billing.billing_account a WHERE a.entity_id = $1"
	"  AND a.account_id = d.account_id OFFSET 0) a"
	" JOIN billing.exception_kind k"
	"  ON k.kind = CASE WHEN d.tariff IS NULL THEN 'missing_price' ELSE 'rating_failed' END"
	/* joined as it is, it would be looked up for each account among all totals */
	"), terms AS MATERIALIZED ("
	" SELECT * FROM billing_internal.invoice_terms($1, $3)"
	"), inspected AS MATERIALIZED ("
	" SELECT t.*, a.account, a.approval_limit, CASE WHEN $7 <> 'draft' THEN billing_internal.invoice_problems("
	"   t.kind, t.total, t.currency, t.lines::bigint, t.untaxed::bigint, t.untaxed_since, t.needs_tax_id,"
	"   a.address, a.country, a.tax_id, a.account, a.purchase_order_missing, a.hold_zero,"
	"   (SELECT min(m.detail) FROM missing m WHERE m.account_id = t.account_id"
	"     AND m.billing_date = t.billing_date),"
	"   a.max_amount, a.max_lines, a.max_score, a.history, false) END AS problems"
	" FROM total t JOIN terms a USING (account_id)"
	"), judged AS MATERIALIZED ("
	" SELECT t.*, s.action AS first_action, s.to_state AS first_state, n.action AS last_action,"
	"  n.to_state AS last_state, coalesce(n.to_state, s.to_state, 'draft') AS state,"
	"  1 + (s.action IS NOT NULL)::integer + (n.action IS NOT NULL)::integer AS version,"
	"  coalesce(n.action, s.action, 'draft') AS action"
	" FROM inspected t"
	" LEFT JOIN billing.transition s ON $7 <> 'draft' AND s.kind = t.kind AND s.from_state = 'draft'"
	"  AND s.action = billing_internal.invoice_action(t.problems, t.total, t.approval_limit, false)"
	" LEFT JOIN billing.transition n ON $7 = 'issue' AND s.to_state = 'approved' AND n.kind = t.kind"
	"  AND n.from_state = s.to_state AND n.action = 'issue'"
	"), document AS ("
	" INSERT INTO billing.document (entity_id, document_id, kind, state, version, maker_id, amount, currency)"
	" SELECT $1, invoice_id, kind, state, version, $5, total, currency FROM judged"
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
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, from_state, to_state,"
	"  actor_id, time_in_state)"
	" SELECT $1, j.invoice_id, s.version, s.action, s.from_state, s.to_state, $5,"
	"  CASE WHEN s.version > 1 THEN interval '0' END FROM judged j"
	" CROSS JOIN LATERAL (VALUES (1, 'draft', NULL, 'draft'),"
	"  (2, j.first_action, 'draft', j.first_state), (3, j.last_action, j.first_state, j.last_state))"
	"  AS s (version, action, from_state, to_state) WHERE s.action IS NOT NULL"
	"), mended AS ("
	" UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $5,"
	"  resolution = 'billed by run ' || $2"
	" FROM diff d WHERE x.entity_id = $1 AND x.state = 'open' AND d.amount IS NOT NULL"
	" AND d.kind = 'charge' AND x.kind IN ('missing_price', 'rating_failed')"
	" AND x.dedupe_key = billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions)"
	"), unbilled AS ("
	" INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, d.problem, billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions),"
	"  d.account, d.detail,"
	"  jsonb_build_object('account_id', d.account_id, 'billing_date', d.billing_date, 'contract',"
	"   d.contract, 'item', d.item, 'period_start', d.period_start, 'period_end', d.period_end,"
	"   'quantity', d.quantity, 'dimensions', nullif(d.dimensions, '')::jsonb, 'tariff', d.tariff::jsonb),"
	"  now() + make_interval(days => d.deadline_days)"
	" FROM missing d"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE SET state = 'open', resolved_at = NULL,"
	"  resolved_by = NULL, resolution = NULL, detail = excluded.detail, payload = excluded.payload,"
	"  raised_at = now(), deadline = excluded.deadline"
	" WHERE x.state = 'resolved'"
	" RETURNING 1"
	"), again AS ("
	" INSERT INTO billing.account_change (entity_id, account_id, reason)"
	" SELECT DISTINCT $1, account_id, 'unbilled charge' FROM missing"
	"), raised AS ("
	" INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)"
	" SELECT $1, k.kind, format('D%s version 1', j.invoice_id), j.account, j.invoice_id,"
	"  j.problems[n][2], now() + make_interval(days => k.deadline_days)"
	" FROM judged j CROSS JOIN LATERAL generate_subscripts(j.problems, 1) AS n"
	" JOIN billing.exception_kind k ON k.kind = j.problems[n][1]"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING"
	") SELECT count(*), count(*) FILTER (WHERE state = 'issued'), count(*) FILTER (WHERE problems IS NOT NULL),"
	" (SELECT count(*) FROM diff WHERE amount IS NOT NULL), (SELECT count(*) FROM unbilled),"
	" array_agg(invoice_id), array_agg(kind), array_agg(account_id), array_agg(currency),"
	" array_agg(billing_date), array_agg(net), array_agg(tax), array_agg(state), array_agg(version),"
	" array_agg(action),"
	" (SELECT jsonb_object_agg(a.currency, a.total) FROM (SELECT s.currency, sum(s.total) AS total"
	"  FROM (SELECT currency, total FROM judged UNION ALL"
	"   SELECT key, value::numeric FROM jsonb_each_text($8)) s GROUP BY s.currency) a)"
	" FROM (SELECT * FROM judged ORDER BY billing_date, invoice_id) j",
	8,
	{ INT4OID, INT8OID, INT8ARRAYOID, DATEOID, INT4OID, INT8ARRAYOID, TEXTOID, JSONBOID },
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

/* $1 entity, $2 accounts: whether the source of any of their events expects an amount */
static BillingStatement expects_amounts = {
	"SELECT FROM billing.usage_event WHERE entity_id = $1 AND account_id = ANY ($2)"
	" AND expected_amount IS NOT NULL LIMIT 1",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* Take what write_drafts answers; false where it made no document. */
static bool
read_answer(BillingSlice *slice, BillingDocuments *documents)
{
	Datum *arrays[] = { &documents->ids,		&documents->kinds,	&documents->accounts,
						&documents->currencies, &documents->dates,	&documents->nets,
						&documents->taxes,		&documents->states, &documents->versions,
						&documents->actions };
	bool isnull;
	size_t i;

	slice->documents += DatumGetInt64(billing_core_value(0, 0, NULL));
	slice->issued += DatumGetInt64(billing_core_value(0, 1, NULL));
	slice->held += DatumGetInt64(billing_core_value(0, 2, NULL));
	slice->lines += DatumGetInt64(billing_core_value(0, 3, NULL));
	slice->exceptions += DatumGetInt64(billing_core_value(0, 4, NULL));
	if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0)
		return false;
	for (i = 0; i < lengthof(arrays); i++)
		*arrays[i] = billing_core_value_copy(0, 5 + i, false, -1, &isnull);
	slice->amounts = billing_core_value_copy(0, 5 + i, false, -1, &isnull);
	return true;
}

/*
 * Write entitled − billed of locked accounts as documents, in the states that
 * the run's phase leads them to, with all but their own rows, which have the
 * numbers and are for billing_invoicing_insert().
 */
bool
billing_invoicing_write(const BillingRun *run, Datum accounts, Datum changed, BillingSlice *slice,
						BillingDocuments *documents)
{
	Datum values[8];
	bool any;

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(run->run_id);
	values[2] = accounts;
	values[3] = DateADTGetDatum(run->through);
	values[4] = Int32GetDatum(billing_core_actor_person());
	values[5] = changed;
	values[6] = CStringGetTextDatum(run->phase);
	values[7] = slice->amounts;
	billing_core_run(&write_drafts, values, NULL, false);
	any = read_answer(slice, documents);
	values[1] = accounts;
	if (any && billing_core_run(&expects_amounts, values, NULL, false) > 0)
	{
		values[1] = documents->ids;
		slice->exceptions += billing_core_run(&compare_expected, values, NULL, false);
	}
	return any;
}
