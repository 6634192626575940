/*
 * usage_current.c
 *		What the running billing period of an account comes to so far.
 *
 * The statement that says it is billing_internal.usage_so_far(); here it is
 * prepared once a session, because planning it takes longer than running it.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "funcapi.h"
#include "masterdata/masterdata.h"
#include "utils/builtins.h"

/* The arguments of billing.current_usage(), by position. */
enum
{
	CURRENT_ENTITY,
	CURRENT_ACCOUNT,
	CURRENT_CONTRACT,
	CURRENT_ITEM,
	CURRENT_DAY
};

/* $1 entity, $2 account, $3 day, $4 contract or null, $5 item's code or null */
static BillingStatement current_usage = {
	"SELECT c.code::text, i.code::text, m.code::text, nullif(u.dimensions, '')::jsonb, u.period_start,"
	" u.period_end, u.quantity, u.events, u.amount, u.currency, u.forecast_quantity,"
	" u.forecast_amount, CASE WHEN u.tariff IS NULL THEN 'there is no price on ' || u.period_start"
	"  WHEN u.amount IS NULL THEN coalesce(billing_internal.rating_error(u.tariff, u.quantity,"
	"   u.events, nullif(u.dimensions, '')::jsonb), 'one of the events cannot be rated') END"
	" FROM (SELECT s.*, bool_or(s.is_current) OVER (PARTITION BY s.item_id) AS is_item_current"
	"  FROM billing_internal.usage_so_far($1, ARRAY[$2], $3, 0) s) u"
	" JOIN billing.contract c ON c.entity_id = $1 AND c.contract_id = u.contract_id"
	" JOIN billing.contract_item i ON i.entity_id = $1 AND i.item_id = u.item_id"
	" JOIN billing.meter m ON m.entity_id = $1 AND m.meter_id = u.meter_id"
	" WHERE u.is_item_current AND ($4 IS NULL OR u.contract_id = $4) AND ($5 IS NULL OR i.code = $5)"
	" ORDER BY c.code, i.code, u.period_start, u.dimensions",
	5,
	{ INT4OID, INT8OID, DATEOID, INT8OID, TEXTOID },
	NULL
};

/* $1 entity, $2 item's code, $3 account: any usage item of that code */
static BillingStatement find_item = {
	"SELECT 1 FROM billing.contract_item WHERE entity_id = $1 AND account_id = $2 AND code = $3"
	" AND charge = 'usage' LIMIT 1",
	3,
	{ INT4OID, INT8OID, TEXTOID },
	NULL
};

/* Refuse an item that the account does not have. */
static void
check_item(Datum entity, Datum account, Datum item)
{
	Datum values[3] = { entity, account, item };

	if (billing_core_run(&find_item, values, NULL, true) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("item \"%s\" does not exist", TextDatumGetCString(item)),
						errdetail("No usage item of that code is billed to the account."),
						errhint("billing.contract_term lists the items of an account.")));
}

PG_FUNCTION_INFO_V1(billing_usage_current);

/*
 * billing.current_usage(entity text, account text, contract text, item text, as_of date)
 * RETURNS TABLE (contract text, item text, meter text, dimensions jsonb, period_start date,
 *     period_end date, quantity numeric, events bigint, amount numeric, currency text,
 *     forecast_quantity numeric, forecast_amount numeric, problem text)
 */
Datum
billing_usage_current(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32 entity_id = billing_core_arg_entity(fcinfo, CURRENT_ENTITY);
	char *account = billing_core_arg_code(fcinfo, CURRENT_ACCOUNT, "account");
	char *contract = billing_core_arg_optional_code(fcinfo, CURRENT_CONTRACT, "contract");
	char *item = billing_core_arg_optional_code(fcinfo, CURRENT_ITEM, "item");
	bool is_today;
	DateADT day = billing_core_arg_optional_date(fcinfo, CURRENT_DAY, "day", &is_today);
	Datum values[5];
	char nulls[6] = "     ";
	uint64 count;
	uint64 i;

	InitMaterializedSRF(fcinfo, 0);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(
		billing_core_lookup(entity_id, account, "account", &billing_masterdata_account));
	values[2] = DateADTGetDatum(is_today ? billing_core_entity_today(entity_id) : day);
	nulls[3] = contract == NULL ? 'n' : ' ';
	values[3] = contract == NULL
					? (Datum) 0
					: Int64GetDatum(billing_core_lookup(entity_id, contract, "contract",
														&billing_contract_by_code));
	nulls[4] = item == NULL ? 'n' : ' ';
	values[4] = item == NULL ? (Datum) 0 : CStringGetTextDatum(item);
	SPI_connect();
	if (item != NULL)
		check_item(values[0], values[1], values[4]);
	count = billing_core_run(&current_usage, values, nulls, true);
	for (i = 0; i < count; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	return (Datum) 0;
}
