/*
 * usage_alert.c
 *		Alerts at thresholds of quantity or amount: added and ended here, and
 *		raised once for each alert and billing period.
 *
 * That it is once is the primary key's work: whoever raises the same at the
 * same time is waited for and then does nothing.  Raising goes period by period
 * backwards from today's and, in each, through the accounts in slices, so that
 * memory does not grow with the accounts.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* Accounts that one statement measures. */
#define SLICE_ACCOUNTS 500

/* How far back periods are looked at, at most: more than two years of days. */
#define MOST_PERIODS 800

static const char *const alert_duties[] = { "biller", "contract_manager" };
static const char *const raise_duties[] = { "biller", "application" };

/* $1 entity, $2 contract, $3 item: which must charge for usage */
static BillingStatement find_item = { "SELECT item_id, charge = 'usage' FROM billing.contract_item"
									  " WHERE entity_id = $1 AND contract_id = $2 AND code = $3",
									  3,
									  { INT4OID, INT8OID, TEXTOID },
									  NULL };

/* $1 entity, $2 item, $3 quantity or null, $4 amount or null, $5 who */
static BillingStatement insert_alert = {
	"INSERT INTO billing.usage_alert (entity_id, account_id, item_id, threshold_quantity,"
	" threshold_amount, created_by) SELECT $1, account_id, item_id, $3, $4, $5"
	" FROM billing.contract_item WHERE entity_id = $1 AND item_id = $2 RETURNING alert_id",
	5,
	{ INT4OID, INT8OID, NUMERICOID, NUMERICOID, INT4OID },
	NULL
};

/* $1 entity, $2 alert */
static BillingStatement end_alert = {
	"UPDATE billing.usage_alert SET ended_at = now()"
	" WHERE entity_id = $1 AND alert_id = $2 AND ended_at IS NULL",
	2,
	{ INT4OID, INT8OID },
	NULL
};

static BillingStatement entities_with_alerts = {
	"SELECT e.entity_id FROM billing.legal_entity e WHERE EXISTS (SELECT FROM billing.usage_alert a"
	" WHERE a.entity_id = e.entity_id AND a.ended_at IS NULL) ORDER BY e.entity_id",
	0,
	{ 0 },
	NULL
};

/*
 * The alerts of some accounts to look at in the period that lies so many periods before that of a
 * day, with the period: not raised in it yet, and it had not ended when the alert was added.
 * Beyond the period before today's, only if it had not ended when the alerts were last looked at.
 * Every table is cut down to the accounts by itself; OFFSET keeps the last one a look-up by index.
 */
#define ALERTS_TO_LOOK_AT(accounts)                                                              \
	" SELECT a.alert_id, a.item_id, a.account_id, a.threshold_quantity, a.threshold_amount,"     \
	"  p.whole_start, p.whole_end FROM billing.usage_alert a"                                    \
	" JOIN billing.legal_entity l ON l.entity_id = $1"                                           \
	" JOIN billing.contract_item i ON i.entity_id = $1 AND i.account_id = ANY (" accounts ")"    \
	"  AND i.item_id = a.item_id"                                                                \
	" JOIN billing.contract c ON c.entity_id = $1 AND c.account_id = ANY (" accounts ")"         \
	"  AND c.contract_id = i.contract_id"                                                        \
	" CROSS JOIN LATERAL (SELECT"                                                                \
	"  billing.period_start(c.anchor, c.interval_unit, c.interval_count, n) AS whole_start,"     \
	"  billing.period_start(c.anchor, c.interval_unit, c.interval_count, n + 1) AS whole_end"    \
	"  FROM (SELECT billing.period_index(c.anchor, c.interval_unit, c.interval_count, $2) - $3)" \
	"   x (n)) p"                                                                                \
	" WHERE a.entity_id = $1 AND a.account_id = ANY (" accounts ") AND a.ended_at IS NULL"       \
	" AND p.whole_end > (a.created_at AT TIME ZONE l.time_zone)::date"                           \
	" AND p.whole_end > c.start_date AND ($3 <= 1 OR p.whole_end >"                              \
	"  coalesce((SELECT k.checked_on FROM billing.usage_alert_check k WHERE k.entity_id = $1),"  \
	"   '-infinity'))"                                                                           \
	" AND NOT EXISTS (SELECT FROM billing.usage_alert_raised r WHERE r.entity_id = $1"           \
	"  AND r.alert_id = a.alert_id AND r.period_start = p.whole_start OFFSET 0)"

/*
 * $1 entity, $2 day, $3 periods back, $4 after this account, $5 so many: the last account of the
 * next slice, and those of the slice that have something to look at.
 */
static BillingStatement next_accounts = {
	"WITH slice AS MATERIALIZED (SELECT DISTINCT s.account_id FROM billing.usage_alert s"
	"  WHERE s.entity_id = $1 AND s.account_id > $4 AND s.ended_at IS NULL"
	"  ORDER BY s.account_id LIMIT $5)"
	" SELECT max(s.account_id), (SELECT array_agg(DISTINCT t.account_id)"
	"  FROM (" ALERTS_TO_LOOK_AT("ARRAY(SELECT account_id FROM slice)") ") t) FROM slice s",
	5,
	{ INT4OID, DATEOID, INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 day, $3 periods back: whether a period so far back, or further, was never looked at */
static BillingStatement reaches_back = {
	"SELECT 1 FROM billing.usage_alert a JOIN billing.legal_entity l ON l.entity_id = a.entity_id"
	" JOIN billing.contract_item i ON i.entity_id = a.entity_id AND i.item_id = a.item_id"
	" JOIN billing.contract c ON c.entity_id = i.entity_id AND c.contract_id = i.contract_id"
	" WHERE a.entity_id = $1 AND a.ended_at IS NULL"
	" AND billing.period_start(c.anchor, c.interval_unit, c.interval_count,"
	"  billing.period_index(c.anchor, c.interval_unit, c.interval_count, $2) - $3 + 1)"
	"  > greatest((a.created_at AT TIME ZONE l.time_zone)::date, c.start_date,"
	"   (SELECT k.checked_on FROM billing.usage_alert_check k WHERE k.entity_id = $1)) LIMIT 1",
	3,
	{ INT4OID, DATEOID, INT4OID },
	NULL
};

/* $1 entity, $2 day, $3 periods back, $4 accounts; all sessions write in the same order */
static BillingStatement raise_alerts = {
	"WITH seen AS MATERIALIZED (SELECT u.item_id, u.currency, sum(u.quantity) AS quantity,"
	"  sum(u.amount) AS amount FROM billing_internal.usage_so_far($1, $4, $2, $3) u"
	"  GROUP BY u.item_id, u.currency), watched AS MATERIALIZED (" ALERTS_TO_LOOK_AT(
		"$4") ")"
			  " INSERT INTO billing.usage_alert_raised (entity_id, alert_id, period_start, period_end,"
			  "  through_date, quantity, amount, currency)"
			  " SELECT $1, w.alert_id, w.whole_start, w.whole_end, least($2, w.whole_end - 1), s.quantity,"
			  "  s.amount, s.currency FROM watched w JOIN seen s ON s.item_id = w.item_id"
			  " WHERE s.quantity >= w.threshold_quantity OR s.amount >= w.threshold_amount"
			  " ORDER BY w.alert_id ON CONFLICT ON CONSTRAINT usage_alert_raised_pkey DO NOTHING",
	4,
	{ INT4OID, DATEOID, INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 day */
static BillingStatement record_check = {
	"INSERT INTO billing.usage_alert_check AS k (entity_id, checked_on) VALUES ($1, $2)"
	" ON CONFLICT ON CONSTRAINT usage_alert_check_pkey DO UPDATE SET checked_on = excluded.checked_on"
	" WHERE k.checked_on < excluded.checked_on",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* new_rows: alerts that were raised */
static BillingStatement send_raised = {
	"INSERT INTO billing.outbox (entity_id, type, payload)"
	" SELECT n.entity_id, o.type, jsonb_build_object('alert', n.alert_id, 'account', a.code,"
	"  'contract', c.code, 'item', i.code, 'period_start', n.period_start, 'period_end', n.period_end,"
	"  'through_date', n.through_date, 'threshold_quantity', u.threshold_quantity,"
	"  'threshold_amount', u.threshold_amount, 'quantity', n.quantity, 'amount', n.amount,"
	"  'currency', n.currency, 'raised_at', n.raised_at)"
	" FROM new_rows n"
	" JOIN billing.usage_alert u ON u.entity_id = n.entity_id AND u.alert_id = n.alert_id"
	" JOIN billing.contract_item i ON i.entity_id = u.entity_id AND i.item_id = u.item_id"
	" JOIN billing.contract c ON c.entity_id = i.entity_id AND c.contract_id = i.contract_id"
	" JOIN billing.billing_account a ON a.entity_id = u.entity_id AND a.account_id = u.account_id"
	" JOIN billing.outbox_type o ON o.kind = 'usage_alert' AND o.action = 'raise'",
	0,
	{ 0 },
	NULL
};

/* Raise what is due in one period, and return how many alerts that were. */
static int64
raise_in_period(int32 entity_id, DateADT today, int32 periods_back)
{
	int64 after = 0;
	int64 raised = 0;
	bool at_end = false;

	while (!at_end)
	{
		Datum values[5];
		bool none;

		CHECK_FOR_INTERRUPTS();
		values[0] = Int32GetDatum(entity_id);
		values[1] = DateADTGetDatum(today);
		values[2] = Int32GetDatum(periods_back);
		values[3] = Int64GetDatum(after);
		values[4] = Int32GetDatum(SLICE_ACCOUNTS);
		SPI_connect();
		billing_core_run(&next_accounts, values, NULL, false);
		after = DatumGetInt64(billing_core_value(0, 0, &at_end));
		values[3] = billing_core_value(0, 1, &none);
		if (!none)
			raised += (int64) billing_core_run(&raise_alerts, values, NULL, false);
		SPI_finish();
	}
	return raised;
}

/* Whether periods so far back are to be looked at: the last two always, for late usage. */
static bool
has_period(int32 entity_id, DateADT today, int32 periods_back)
{
	Datum values[3] = { Int32GetDatum(entity_id), DateADTGetDatum(today),
						Int32GetDatum(periods_back) };
	bool found;

	if (periods_back <= 1)
		return true;
	SPI_connect();
	found = billing_core_run(&reaches_back, values, NULL, false) > 0;
	SPI_finish();
	return found;
}

/* Raise what is due in an entity, and return how many alerts that were. */
static int64
raise_in_entity(int32 entity_id)
{
	DateADT today = billing_core_entity_today(entity_id);
	Datum values[2] = { Int32GetDatum(entity_id), DateADTGetDatum(today) };
	int64 raised = 0;
	int32 back;

	for (back = 0; back < MOST_PERIODS && has_period(entity_id, today, back); back++)
		raised += raise_in_period(entity_id, today, back);
	SPI_connect();
	billing_core_run(&record_check, values, NULL, false);
	SPI_finish();
	return raised;
}

/* The usage item that an alert is to watch; inside SPI. */
static int64
usage_item(int32 entity_id, int64 contract_id, const char *code)
{
	Datum values[3] = { Int32GetDatum(entity_id), Int64GetDatum(contract_id),
						CStringGetTextDatum(code) };

	if (billing_core_run(&find_item, values, NULL, false) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("item \"%s\" does not exist", code),
				 errdetail("No item of that code is in the contract."),
				 errhint("billing.contract_term lists the items of a contract.")));
	if (!DatumGetBool(billing_core_value(0, 1, NULL)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("item \"%s\" does not charge for usage", code),
						errhint("Only usage can reach a threshold.")));
	return DatumGetInt64(billing_core_value(0, 0, NULL));
}

PG_FUNCTION_INFO_V1(billing_usage_add_alert);
PG_FUNCTION_INFO_V1(billing_usage_end_alert);
PG_FUNCTION_INFO_V1(billing_usage_raise_alerts);
PG_FUNCTION_INFO_V1(billing_usage_raise_all_alerts);
PG_FUNCTION_INFO_V1(billing_usage_send_alerts);

/*
 * billing.add_usage_alert(entity text, contract text, item text, quantity numeric, amount numeric)
 * RETURNS bigint
 */
Datum
billing_usage_add_alert(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *contract = billing_core_arg_code(fcinfo, 1, "contract");
	char *item = billing_core_arg_code(fcinfo, 2, "item");
	Numeric quantity = billing_core_arg_optional_numeric(fcinfo, 3, "quantity");
	Numeric amount = billing_core_arg_optional_numeric(fcinfo, 4, "amount");
	int64 contract_id;
	int64 alert_id;
	Datum values[5];
	char nulls[6] = "     ";

	billing_core_require_any_duty(entity_id, alert_duties, lengthof(alert_duties));
	if ((quantity == NULL) == (amount == NULL))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("an alert has either a quantity or an amount"),
						errhint("Give one of the two as its threshold.")));
	contract_id = billing_core_lookup(entity_id, contract, "contract", &billing_contract_by_code);
	SPI_connect();
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(usage_item(entity_id, contract_id, item));
	values[2] = quantity == NULL ? (Datum) 0 : NumericGetDatum(quantity);
	nulls[2] = quantity == NULL ? 'n' : ' ';
	values[3] = amount == NULL ? (Datum) 0 : NumericGetDatum(amount);
	nulls[3] = amount == NULL ? 'n' : ' ';
	values[4] = Int32GetDatum(billing_core_actor_person());
	billing_core_run(&insert_alert, values, nulls, false);
	alert_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	SPI_finish();
	PG_RETURN_INT64(alert_id);
}

/* billing.end_usage_alert(entity text, alert_id bigint) RETURNS void; ZB002 where it does not watch */
Datum
billing_usage_end_alert(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[2];
	uint64 ended;

	billing_core_require_any_duty(entity_id, alert_duties, lengthof(alert_duties));
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("alert must not be null"),
						errhint("Give what billing.add_usage_alert() returned.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	ended = billing_core_run(&end_alert, values, NULL, false);
	SPI_finish();
	if (ended == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("alert " INT64_FORMAT " does not exist", PG_GETARG_INT64(1)),
						errdetail("The entity has none of that number that still watches."),
						errhint("billing.usage_alert lists those that do.")));
	PG_RETURN_VOID();
}

/* billing.raise_usage_alerts(entity text) RETURNS bigint: how many alerts were raised */
Datum
billing_usage_raise_alerts(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);

	billing_core_require_any_duty(entity_id, raise_duties, lengthof(raise_duties));
	PG_RETURN_INT64(raise_in_entity(entity_id));
}

/* billing_internal.raise_usage_alerts() RETURNS void */
Datum
billing_usage_raise_all_alerts(PG_FUNCTION_ARGS)
{
	int32 *entities;
	uint64 count;
	uint64 i;

	(void) fcinfo;
	SPI_connect();
	count = billing_core_run(&entities_with_alerts, NULL, NULL, false);
	entities = SPI_palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		entities[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
	SPI_finish();
	for (i = 0; i < count; i++)
		(void) raise_in_entity(entities[i]);
	PG_RETURN_VOID();
}

/* billing_internal.send_alerts() RETURNS trigger, AFTER INSERT STATEMENT with the transition table new_rows */
Datum
billing_usage_send_alerts(PG_FUNCTION_ARGS)
{
	billing_workflow_send_rows(fcinfo, &send_raised);
	PG_RETURN_POINTER(NULL);
}
