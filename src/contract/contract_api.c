/*
 * contract_api.c
 *		Making contracts and adding items to them.
 *
 * What the terms are worth is the business of rating, when they are due that of
 * invoicing.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "rating/rating.h"
#include "utils/builtins.h"

/* The arguments of billing.add_item(), by position. */
enum
{
	ITEM_CHARGE = 4,
	ITEM_QUANTITY = 5,
	ITEM_TARIFF = 6,
	ITEM_PRICE_BOOK = 7,
	ITEM_TIMING = 8,
	ITEM_METER = 9,
	ITEM_OWN_USAGE = 12
};

BillingStatement billing_contract_by_code = {
	"SELECT contract_id FROM billing.contract WHERE entity_id = $1 AND code = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingCall create_contract = {
	"contract_manager",
	8,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "contract", ARG_CODE, false, NULL },
	  { "account", ARG_REFERENCE, false, &billing_masterdata_account },
	  { "first day", ARG_DATE, false, NULL },
	  { "day after the last", ARG_DATE, true, NULL },
	  { "interval unit", ARG_CODE, false, NULL },
	  { "interval count", ARG_INTEGER, false, NULL },
	  { "anchor", ARG_DATE, true, NULL } },
	{ "INSERT INTO billing.contract (entity_id, code, account_id, currency, start_date, end_date,"
	  " interval_unit, interval_count, anchor)"
	  " SELECT $1, $2, account_id, currency, $4, $5, $6, $7, coalesce($8, $4)"
	  " FROM billing.billing_account WHERE entity_id = $1 AND account_id = $3",
	  0,
	  { 0 },
	  NULL }
};

/* a one-time charge is due on the first day of its terms, which last that day */
static BillingCall add_item = {
	"contract_manager",
	13,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "contract", ARG_REFERENCE, false, &billing_contract_by_code },
	  { "item", ARG_CODE, false, NULL },
	  { "product", ARG_REFERENCE, false, &billing_masterdata_product },
	  { "charge", ARG_CODE, false, NULL },
	  { "quantity", ARG_NUMERIC, true, NULL },
	  { "tariff", ARG_ANY, true, NULL },
	  { "price book", ARG_REFERENCE, true, &billing_rating_price_book },
	  { "timing", ARG_CODE, true, NULL },
	  { "meter", ARG_REFERENCE, true, &billing_masterdata_meter },
	  { "first day", ARG_DATE, true, NULL },
	  { "day after the last", ARG_DATE, true, NULL },
	  { "own usage", ARG_BOOLEAN, false, NULL } },
	{ "WITH item AS ("
	  " INSERT INTO billing.contract_item (entity_id, contract_id, code, account_id, product_id,"
	  " charge, timing, meter_id, own_usage)"
	  " SELECT $1, c.contract_id, $3, c.account_id, $4, $5,"
	  " coalesce($9, CASE WHEN $5 = 'usage' THEN 'arrears' ELSE 'advance' END), $10, $13"
	  " FROM billing.contract c WHERE c.entity_id = $1 AND c.contract_id = $2"
	  " RETURNING *)"
	  " INSERT INTO billing.contract_item_version (entity_id, item_id, account_id, meter_id,"
	  " own_usage, valid_from, valid_to, quantity, tariff, price_book_id, recorded_by)"
	  " SELECT $1, i.item_id, i.account_id, i.meter_id, i.own_usage, coalesce($11, c.start_date),"
	  " CASE WHEN $5 = 'one_time' THEN coalesce($11, c.start_date) + 1 ELSE $12 END,"
	  " $6, $7::billing.tariff, $8, billing_internal.actor_id()"
	  " FROM item i JOIN billing.contract c ON c.entity_id = $1 AND c.contract_id = $2",
	  0,
	  { 0 },
	  NULL }
};

/* $1 entity, $2 contract, $3 price book: a row where the currencies differ */
static BillingStatement differing_currency = {
	"SELECT b.currency, c.currency FROM billing.price_book b, billing.contract c"
	" WHERE b.entity_id = $1 AND c.entity_id = $1 AND c.contract_id = $2 AND b.price_book_id = $3"
	" AND b.currency <> c.currency",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* Raise ZB001 for terms that contradict each other. */
static void
refuse_terms(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s", what), errhint("%s", hint)));
}

/* Refuse terms that no item can have. */
static void
check_terms(FunctionCallInfo fcinfo)
{
	char *charge = billing_core_arg_code(fcinfo, ITEM_CHARGE, "charge");
	char *timing = billing_core_arg_optional_code(fcinfo, ITEM_TIMING, "timing");
	bool is_usage = strcmp(charge, "usage") == 0;

	if (!is_usage && strcmp(charge, "recurring") != 0 && strcmp(charge, "one_time") != 0)
		refuse_terms(psprintf("charge \"%s\" does not exist", charge),
					 "Use recurring, usage or one_time.");
	if (timing != NULL && strcmp(timing, "advance") != 0 && strcmp(timing, "arrears") != 0)
		refuse_terms(psprintf("timing \"%s\" does not exist", timing), "Use advance or arrears.");
	if (is_usage && timing != NULL && strcmp(timing, "advance") == 0)
		refuse_terms("usage cannot be charged in advance", "Leave timing out, or say arrears.");
	if (is_usage && PG_ARGISNULL(ITEM_METER))
		refuse_terms("usage needs a meter", "Give the code of the meter that measures it.");
	if (!is_usage && !PG_ARGISNULL(ITEM_METER))
		refuse_terms("only usage has a meter", "Leave meter out, or charge usage.");
	if (!is_usage && !PG_ARGISNULL(ITEM_OWN_USAGE) && PG_GETARG_BOOL(ITEM_OWN_USAGE))
		refuse_terms("only an item that charges usage has usage of its own",
					 "Leave own_usage out, or charge usage.");
	if (is_usage && !PG_ARGISNULL(ITEM_QUANTITY))
		refuse_terms("usage has no agreed quantity", "Leave quantity out: the meter measures it.");
	if (!is_usage && PG_ARGISNULL(ITEM_QUANTITY))
		refuse_terms("quantity must not be null", "Give the quantity to charge.");
	if (PG_ARGISNULL(ITEM_TARIFF) == PG_ARGISNULL(ITEM_PRICE_BOOK))
		refuse_terms("an item has either a tariff or a price book", "Give one of the two.");
}

/* Refuse a price book in another currency than the contract's. */
void
billing_contract_check_currency(int32 entity_id, int64 contract_id, int64 price_book_id)
{
	Datum values[3] = { Int32GetDatum(entity_id), Int64GetDatum(contract_id),
						Int64GetDatum(price_book_id) };

	SPI_connect();
	if (billing_core_run(&differing_currency, values, NULL, false) > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("price book has another currency than the contract"),
						errdetail("The price book is in %s, the contract in %s.",
								  billing_core_text_value(0, 0), billing_core_text_value(0, 1)),
						errhint("Use a price book in the contract's currency.")));
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_contract_create);
PG_FUNCTION_INFO_V1(billing_contract_add_item);

/*
 * billing.create_contract(entity, contract, account, start_date, end_date, interval_unit,
 *                         interval_count, anchor) RETURNS void
 */
Datum
billing_contract_create(PG_FUNCTION_ARGS)
{
	SPI_connect();
	billing_core_call(fcinfo, &create_contract);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing.add_item(entity, contract, item, product, charge, quantity, tariff, price_book, timing,
 *                  meter, valid_from, valid_to, own_usage) RETURNS void
 */
Datum
billing_contract_add_item(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_call_entity(fcinfo, &add_item);
	char *price_book = billing_core_arg_optional_code(fcinfo, ITEM_PRICE_BOOK, "price book");

	check_terms(fcinfo);
	if (price_book != NULL)
		billing_contract_check_currency(entity_id,
										billing_core_lookup(entity_id,
															billing_core_arg_code(fcinfo, 1,
																				  "contract"),
															"contract", &billing_contract_by_code),
										billing_core_lookup(entity_id, price_book, "price book",
															&billing_rating_price_book));
	SPI_connect();
	billing_core_call(fcinfo, &add_item);
	SPI_finish();
	PG_RETURN_VOID();
}
