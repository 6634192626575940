/*
 * rating_price.c
 *		Price books: creating them and pricing products in them.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "rating/rating.h"

BillingStatement billing_rating_price_book = {
	"SELECT price_book_id FROM billing.price_book WHERE entity_id = $1 AND code = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingCall add_price_book = {
	"price_manager",
	4,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "price book", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "currency", ARG_CODE, false, NULL } },
	{ "INSERT INTO billing.price_book (entity_id, code, name, currency) VALUES ($1, $2, $3, $4)",
	  0,
	  { 0 },
	  NULL }
};

#define PRICE_ARGS                                                                      \
	{                                                                                   \
		{ "entity", ARG_ENTITY, false, NULL },                                          \
			{ "price book", ARG_REFERENCE, false, &billing_rating_price_book },         \
			{ "product", ARG_REFERENCE, false, &billing_masterdata_product },           \
			{ "tariff", ARG_ANY, false, NULL }, { "first day", ARG_DATE, false, NULL }, \
		{                                                                               \
			"day after the last", ARG_DATE, true, NULL                                  \
		}                                                                               \
	}

/* the price in force until now, if it has no end of its own, ends where the new one begins */
static BillingCall end_open_price = {
	"price_manager",
	6,
	PRICE_ARGS,
	{ "UPDATE billing.price SET valid_to = $5 WHERE entity_id = $1 AND price_book_id = $2"
	  " AND product_id = $3 AND valid_from < $5 AND valid_to IS NULL"
	  " AND $4::jsonb IS NOT NULL AND ($6::date IS NULL OR $6 > $5)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall insert_price = {
	"price_manager",
	6,
	PRICE_ARGS,
	{ "INSERT INTO billing.price (entity_id, price_book_id, product_id, tariff, valid_from, valid_to)"
	  " VALUES ($1, $2, $3, $4::billing.tariff, $5, $6)",
	  0,
	  { 0 },
	  NULL }
};

PG_FUNCTION_INFO_V1(billing_rating_add_price_book);
PG_FUNCTION_INFO_V1(billing_rating_set_price);

/* billing.add_price_book(entity text, price_book text, name text, currency text) RETURNS void */
Datum
billing_rating_add_price_book(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(3))
		(void) billing_core_lookup(0, billing_core_arg_code(fcinfo, 3, "currency"), "currency",
								   &billing_masterdata_currency);
	SPI_connect();
	billing_core_call(fcinfo, &add_price_book);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing.set_price(entity text, price_book text, product text, tariff jsonb,
 *                   valid_from date, valid_to date) RETURNS void
 *
 * Raises ZB013 where a price with an end of its own, or one that begins on or
 * after the first day, holds some of the days.
 */
Datum
billing_rating_set_price(PG_FUNCTION_ARGS)
{
	SPI_connect();
	billing_core_call(fcinfo, &end_open_price);
	billing_core_call(fcinfo, &insert_price);
	SPI_finish();
	PG_RETURN_VOID();
}
