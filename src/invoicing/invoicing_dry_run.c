/*
 * invoicing_dry_run.c
 *		What a billing run would do, without doing it: the sums of its documents and
 *		the exceptions that it would raise, slice by slice of accounts.
 *
 * Every account is derived anew and compared with all that was billed: what
 * comes out does not depend on the lists by which a run finds what is due.  Only
 * reads, so that it works on a standby.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Columns of billing_internal.dry_run_rows(). */
#define ROW_COLUMNS 10

/* $1 entity, $2 account to begin after, $3 how many: those with contracts, by key, not put aside */
static BillingStatement next_accounts = {
	"SELECT array_agg(account_id ORDER BY account_id), max(account_id)"
	" FROM (SELECT a.account_id FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id > $2 AND EXISTS (SELECT FROM billing.contract_item i"
	"   WHERE i.entity_id = a.entity_id AND i.account_id = a.account_id OFFSET 0)"
	"  AND NOT EXISTS (SELECT FROM billing.account_watermark w WHERE w.entity_id = a.entity_id"
	"   AND w.account_id = a.account_id AND w.parked_at IS NOT NULL OFFSET 0)"
	"  ORDER BY a.account_id LIMIT $3) slice",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity: the accounts that a run leaves out */
static BillingStatement list_parked = {
	"SELECT 'exception', 'account_parked', NULL, NULL::bigint, NULL::bigint, NULL::numeric,"
	" NULL::numeric, NULL::numeric, a.code::text, coalesce(x.detail, format('account %s is put aside', a.code))"
	" FROM billing.account_watermark w"
	" JOIN billing.billing_account a ON a.entity_id = $1 AND a.account_id = w.account_id"
	" LEFT JOIN billing.exception x ON x.entity_id = $1 AND x.kind = 'account_parked'"
	"  AND x.dedupe_key = 'account ' || w.account_id AND x.state = 'open'"
	" WHERE w.entity_id = $1 AND w.parked_at IS NOT NULL",
	1,
	{ INT4OID },
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

/*
 * $1 entity, $2 accounts, $3 through date, $4 whether any event expects an
 * amount.  The rows of invoicing_bill.c up to where they would be written, added
 * up; a document has no id yet.  An amount that no column takes is refused here too.
 */
static BillingStatement add_up = {
	"WITH diff AS MATERIALIZED ("
	" SELECT * FROM billing_internal.difference($1, $2, $3, NULL)"
	"), tax AS MATERIALIZED ("
	" SELECT g.*, CASE WHEN g.tax_category IS NULL THEN 0"
	"  ELSE billing.round_amount(g.base * g.tax_rate * 0.01, g.minor_unit, g.rounding_mode) END AS tax"
	" FROM (SELECT account_id, currency, billing_date, minor_unit, rounding_mode, tax_category, tax_rate,"
	"   CASE WHEN tax_category IS NOT NULL THEN exemption_reason END AS exemption_reason,"
	"   sum(amount::billing.amount) AS base, count(*) AS lines, min(charge_date) AS since FROM diff"
	"  WHERE amount IS NOT NULL"
	"  GROUP BY account_id, currency, billing_date, minor_unit, rounding_mode, tax_category, tax_rate, 8) g"
	"), total AS MATERIALIZED ("
	" SELECT account_id, currency, billing_date, sum(base) AS net, sum(tax) AS tax,"
	"  (sum(base) + sum(tax))::billing.amount AS total,"
	"  CASE WHEN sum(base) + sum(tax) < 0 THEN 'credit_note' ELSE 'invoice' END AS kind,"
	"  sum(lines)::bigint AS lines,"
	"  coalesce(sum(lines) FILTER (WHERE tax_category IS NULL), 0)::bigint AS untaxed,"
	"  min(since) FILTER (WHERE tax_category IS NULL) AS untaxed_since,"
	"  bool_or(tax_category IN ('AE', 'K')) IS TRUE AS needs_tax_id"
	" FROM tax GROUP BY account_id, currency, billing_date"
	"), terms AS MATERIALIZED ("
	" SELECT * FROM billing_internal.invoice_terms($1, $2)"
	"), charge AS MATERIALIZED ("
	" SELECT d.*, i.code AS item, c.code AS contract, t.account, i.meter_id, i.usage_item FROM diff d"
	" JOIN terms t USING (account_id)"
	" CROSS JOIN LATERAL (SELECT i.code, i.contract_id, i.meter_id,"
	"   CASE WHEN i.own_usage THEN i.item_id ELSE 0 END AS usage_item FROM billing.contract_item i"
	"  WHERE i.entity_id = $1 AND i.item_id = d.item_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT c.code FROM billing.contract c WHERE c.entity_id = $1"
	"  AND c.contract_id = i.contract_id OFFSET 0) c"
	" WHERE d.kind = 'charge' AND (d.amount IS NULL OR ($4 AND d.events > 0))"
	"), missing AS MATERIALIZED ("
	" SELECT d.account_id, d.account, d.billing_date,"
	"  CASE WHEN d.tariff IS NULL THEN 'missing_price' ELSE 'rating_failed' END AS problem,"
	"  CASE WHEN d.tariff IS NULL THEN format('item %s of contract %s has no price on %s',"
	"    d.item, d.contract, d.period_start)"
	"   ELSE format('item %s of contract %s, %s to %s: %s', d.item, d.contract, d.period_start,"
	"    d.period_end - 1, billing_internal.charge_problem(d.tariff, d.quantity, d.events,"
	"     d.dimensions)) END AS detail"
	" FROM charge d WHERE d.amount IS NULL"
	"), inspected AS MATERIALIZED ("
	" SELECT a.account, billing_internal.invoice_problems("
	"   t.kind, t.total, t.currency, t.lines, t.untaxed, t.untaxed_since, t.needs_tax_id,"
	"   a.address, a.country, a.tax_id, a.account, a.purchase_order_missing, a.hold_zero, m.detail,"
	"   a.max_amount, a.max_lines, a.max_score, a.history, false) AS problems"
	" FROM total t JOIN terms a USING (account_id)"
	" LEFT JOIN (SELECT account_id, billing_date, min(detail) AS detail FROM missing"
	"  GROUP BY account_id, billing_date) m USING (account_id, billing_date)"
	") SELECT 'documents', kind, currency, count(*), sum(lines)::bigint, sum(net), sum(tax), sum(total),"
	"  NULL, NULL FROM total GROUP BY kind, currency"
	" UNION ALL"
	" SELECT 'due', NULL, currency, count(*) FILTER (WHERE amount IS NULL),"
	"  count(amount), coalesce(sum(amount), 0), NULL, NULL, NULL, NULL"
	"  FROM diff WHERE charge_date <= $3 GROUP BY currency"
	" UNION ALL"
	" SELECT 'exception', problem, NULL, NULL, NULL, NULL, NULL, NULL, account, detail FROM missing"
	" UNION ALL"
	" SELECT 'exception', i.problems[n][1], NULL, NULL, NULL, NULL, NULL, NULL, i.account, i.problems[n][2]"
	"  FROM inspected i CROSS JOIN LATERAL generate_subscripts(i.problems, 1) AS n"
	" UNION ALL"
	" SELECT 'exception', 'pricing_discrepancy', NULL, NULL, NULL, NULL, NULL, NULL, d.account,"
	"  format('event %s of %s: its source expects %s, the price gives %s', u.event_key, u.source,"
	"   u.expected_amount, coalesce(u.amount::text, 'no amount'))"
	" FROM charge d"
	" CROSS JOIN LATERAL (SELECT m.expected_tolerance FROM billing.meter m"
	"  WHERE m.entity_id = $1 AND m.meter_id = d.meter_id OFFSET 0) m"
	" CROSS JOIN LATERAL (SELECT e.source, e.event_key, e.expected_amount,"
	"   billing_internal.try_rate(d.tariff, e.quantity, 1, nullif(d.dimensions, '')::jsonb) AS amount"
	"  FROM billing_internal.counted_events($1, d.account_id, d.usage_item, d.meter_id,"
	"   d.period_start, d.period_end) e"
	"  WHERE e.expected_amount IS NOT NULL AND e.dimensions = d.dimensions OFFSET 0) u"
	" WHERE $4 AND d.amount IS NOT NULL"
	"  AND (u.amount IS NULL OR abs(u.amount - u.expected_amount) > m.expected_tolerance)"
	"  AND NOT EXISTS (SELECT FROM billing.exception x WHERE x.entity_id = $1"
	"   AND x.kind = 'pricing_discrepancy' AND x.dedupe_key = u.source || ' ' || u.event_key)",
	4,
	{ INT4OID, INT8ARRAYOID, DATEOID, BOOLOID },
	NULL
};

/* $1 entity, $2 account */
static BillingStatement code_of = {
	"SELECT code FROM billing.billing_account WHERE entity_id = $1 AND account_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* What is asked, and where the answer goes. */
typedef struct DryRun
{
	int32 entity_id;
	DateADT through;
	ReturnSetInfo *result;
} DryRun;

/* Add the rows of the last statement to the answer. */
static void
keep_rows(DryRun *run)
{
	Datum values[ROW_COLUMNS];
	bool nulls[ROW_COLUMNS];
	uint64 rows = SPI_processed;

	for (uint64 row = 0; row < rows; row++)
	{
		for (int column = 0; column < ROW_COLUMNS; column++)
			values[column] = billing_core_value(row, column, &nulls[column]);
		tuplestore_putvalues(run->result->setResult, run->result->setDesc, values, nulls);
	}
}

/* Add up what accounts would be billed. */
static void
add_up_accounts(DryRun *run, Datum accounts)
{
	Datum values[4];

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = accounts;
	values[2] = DateADTGetDatum(run->through);
	SPI_connect();
	values[3] = BoolGetDatum(billing_core_run(&expects_amounts, values, NULL, true) > 0);
	(void) billing_core_run(&add_up, values, NULL, true);
	keep_rows(run);
	SPI_finish();
}

/* Some accounts that are to be added up. */
typedef struct Attempt
{
	DryRun *run;
	Datum accounts;
} Attempt;

/* The step that may fail. */
static void
add_up_step(void *argument)
{
	Attempt *attempt = argument;

	add_up_accounts(attempt->run, attempt->accounts);
}

/* The same in a subtransaction; NULL, or the error of one of the accounts. */
static ErrorData *
try_to_add_up(DryRun *run, Datum accounts)
{
	Attempt attempt = { run, accounts };
	ErrorData *error = billing_core_try(add_up_step, &attempt);

	if (error != NULL && !billing_invoicing_can_park(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* Tell that a run would put an account aside. */
static void
keep_parked(DryRun *run, Datum account, const ErrorData *error)
{
	Datum args[2] = { Int32GetDatum(run->entity_id), account };
	Datum values[ROW_COLUMNS] = { 0 };
	bool nulls[ROW_COLUMNS];
	char *code;

	SPI_connect();
	(void) billing_core_run(&code_of, args, NULL, true);
	code = billing_core_text_value(0, 0);
	SPI_finish();
	memset(nulls, true, sizeof(nulls));
	nulls[0] = nulls[1] = nulls[8] = nulls[9] = false;
	values[0] = CStringGetTextDatum("exception");
	values[1] = CStringGetTextDatum("account_parked");
	values[8] = CStringGetTextDatum(code);
	values[9] =
		CStringGetTextDatum(psprintf("account %s could not be billed: %s", code, error->message));
	tuplestore_putvalues(run->result->setResult, run->result->setDesc, values, nulls);
}

/* Add up accounts; one that fails does not stop the others: they are halved until it is alone. */
static void
add_up_or_park(DryRun *run, Datum *accounts, int count)
{
	ErrorData *error;

	CHECK_FOR_INTERRUPTS();
	error =
		try_to_add_up(run, PointerGetDatum(construct_array(accounts, count, INT8OID, sizeof(int64),
														   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
	if (error == NULL)
		return;
	if (count == 1)
		keep_parked(run, accounts[0], error);
	else
	{
		add_up_or_park(run, accounts, count / 2);
		add_up_or_park(run, accounts + count / 2, count - count / 2);
	}
	FreeErrorData(error);
}

/* The accounts after one, at most a slice of them; false at the end. */
static bool
next_slice(DryRun *run, int64 *after, Datum **accounts, int *count)
{
	Datum values[3];
	Datum ids;
	bool none;

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(*after);
	values[2] = Int32GetDatum(BILLING_SLICE_SIZE);
	SPI_connect();
	(void) billing_core_run(&next_accounts, values, NULL, true);
	ids = billing_core_value_copy(0, 0, false, -1, &none);
	if (!none)
		*after = DatumGetInt64(billing_core_value(0, 1, NULL));
	SPI_finish();
	if (none)
		return false;
	deconstruct_array(DatumGetArrayTypeP(ids), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, accounts, NULL, count);
	return true;
}

PG_FUNCTION_INFO_V1(billing_invoicing_dry_run_rows);

/*
 * billing_internal.dry_run_rows(entity integer, through date)
 * RETURNS TABLE (what text, kind text, currency text, documents bigint, lines bigint,
 *     net numeric, tax numeric, total numeric, subject text, detail text)
 *
 * what is documents, exception, or due: what of the charges of contracts through
 * the day is not billed, and, under documents, how many of them have no amount.
 */
Datum
billing_invoicing_dry_run_rows(PG_FUNCTION_ARGS)
{
	MemoryContext slice;
	DryRun run;
	Datum values[1];
	Datum *accounts;
	int count;
	int64 after = 0;

	run.entity_id = PG_GETARG_INT32(0);
	run.through = PG_GETARG_DATEADT(1);
	InitMaterializedSRF(fcinfo, 0);
	run.result = (ReturnSetInfo *) fcinfo->resultinfo;
	values[0] = Int32GetDatum(run.entity_id);
	SPI_connect();
	(void) billing_core_run(&list_parked, values, NULL, true);
	keep_rows(&run);
	SPI_finish();
	slice = AllocSetContextCreate(CurrentMemoryContext, "billing dry run", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(slice);
		bool any = next_slice(&run, &after, &accounts, &count);

		if (any)
			add_up_or_park(&run, accounts, count);
		MemoryContextSwitchTo(old);
		MemoryContextReset(slice);
		if (!any)
			break;
	}
	MemoryContextDelete(slice);
	return (Datum) 0;
}
