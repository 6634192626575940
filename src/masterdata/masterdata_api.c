/*
 * masterdata_api.c
 *		The functions that create master data, and the lookups by code.
 *
 * Each is a row of call.h.  Master data may be written by plain INSERT and
 * UPDATE too; the tables' own triggers ask for the duty and write the audit
 * record either way.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "masterdata/masterdata.h"

#define LOOKUP(table, key)                                                             \
	{                                                                                  \
		"SELECT " key " FROM billing." table " WHERE entity_id = $1 AND code = $2", 2, \
			{ INT4OID, TEXTOID }, NULL                                                 \
	}

BillingStatement billing_masterdata_customer = LOOKUP("customer", "customer_id");
BillingStatement billing_masterdata_account = LOOKUP("billing_account", "account_id");
BillingStatement billing_masterdata_product = LOOKUP("product", "product_id");
BillingStatement billing_masterdata_meter = LOOKUP("meter", "meter_id");
BillingStatement billing_masterdata_tax_code = LOOKUP("tax_code", "tax_code_id");
BillingStatement billing_masterdata_currency = {
	"SELECT 1::bigint FROM billing.currency WHERE $1 IS NOT NULL AND currency = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingCall add_tax_code = {
	"price_manager",
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "tax code", ARG_CODE, false, NULL },
	  { "category", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "exemption reason", ARG_TEXT, true, NULL } },
	{ "INSERT INTO billing.tax_code (entity_id, code, category, name, exemption_reason)"
	  " VALUES ($1, $2, $3, $4, $5)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_tax_rate = {
	"price_manager",
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "tax code", ARG_REFERENCE, false, &billing_masterdata_tax_code },
	  { "rate", ARG_NUMERIC, false, NULL },
	  { "first day", ARG_DATE, false, NULL },
	  { "day after the last", ARG_DATE, true, NULL } },
	{ "INSERT INTO billing.tax_rate (entity_id, tax_code_id, rate, valid_from, valid_to)"
	  " VALUES ($1, $2, $3, $4, $5)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_exchange_rate = {
	"price_manager",
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "currency", ARG_CODE, false, NULL },
	  { "rate", ARG_NUMERIC, false, NULL },
	  { "first day", ARG_DATE, false, NULL },
	  { "other currency", ARG_CODE, true, NULL } },
	{ "INSERT INTO billing.exchange_rate (entity_id, from_currency, rate, valid_from, to_currency)"
	  " SELECT $1, $2, $3, $4, coalesce($5, e.currency) FROM billing.legal_entity e"
	  " WHERE e.entity_id = $1",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_customer = {
	"contract_manager",
	8,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "customer", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "address", ARG_TEXT, true, NULL },
	  { "postal code", ARG_TEXT, true, NULL },
	  { "city", ARG_TEXT, true, NULL },
	  { "country", ARG_CODE, true, NULL },
	  { "tax id", ARG_TEXT, true, NULL } },
	{ "INSERT INTO billing.customer"
	  " (entity_id, code, name, address, postal_code, city, country, tax_id)"
	  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_account = {
	"contract_manager",
	9,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "account", ARG_CODE, false, NULL },
	  { "customer", ARG_REFERENCE, false, &billing_masterdata_customer },
	  { "currency", ARG_CODE, false, NULL },
	  { "payment terms", ARG_INTEGER, false, NULL },
	  { "parent account", ARG_REFERENCE, true, &billing_masterdata_account },
	  { "tax code", ARG_REFERENCE, true, &billing_masterdata_tax_code },
	  { "purchase order required", ARG_BOOLEAN, false, NULL },
	  { "purchase order", ARG_TEXT, true, NULL } },
	{ "INSERT INTO billing.billing_account (entity_id, code, customer_id, currency,"
	  " payment_terms_days, parent_account_id, tax_code_id, purchase_order_required, purchase_order)"
	  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_product = {
	"price_manager",
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "product", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "unit code", ARG_CODE, false, NULL },
	  { "tax code", ARG_REFERENCE, true, &billing_masterdata_tax_code } },
	{ "INSERT INTO billing.product (entity_id, code, name, unit_code, tax_code_id)"
	  " VALUES ($1, $2, $3, $4, $5)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_meter = {
	"price_manager",
	11,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "meter", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "aggregation", ARG_CODE, false, NULL },
	  { "value field", ARG_TEXT, false, NULL },
	  { "filter", ARG_TEXT, true, NULL },
	  { "group keys", ARG_ANY, true, NULL },
	  { "quantity scale", ARG_INTEGER, true, NULL },
	  { "quantity rounding", ARG_CODE, false, NULL },
	  { "percentile", ARG_NUMERIC, false, NULL },
	  { "time unit", ARG_INTEGER, false, NULL } },
	{ "INSERT INTO billing.meter (entity_id, code, name, aggregation, value_field, filter,"
	  " group_by, quantity_scale, quantity_rounding, percentile, time_unit)"
	  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	  0,
	  { 0 },
	  NULL }
};

/* Carry out a call that returns nothing. */
static Datum
carry_out(FunctionCallInfo fcinfo, BillingCall *call)
{
	SPI_connect();
	billing_core_call(fcinfo, call);
	SPI_finish();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(billing_masterdata_add_tax_code);
PG_FUNCTION_INFO_V1(billing_masterdata_add_tax_rate);
PG_FUNCTION_INFO_V1(billing_masterdata_add_exchange_rate);
PG_FUNCTION_INFO_V1(billing_masterdata_add_customer);
PG_FUNCTION_INFO_V1(billing_masterdata_add_account);
PG_FUNCTION_INFO_V1(billing_masterdata_add_product);
PG_FUNCTION_INFO_V1(billing_masterdata_add_meter);

/* billing.add_tax_code(entity, tax_code, category, name, exemption_reason) */
Datum
billing_masterdata_add_tax_code(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_tax_code);
}

/* billing.add_tax_rate(entity, tax_code, rate, valid_from, valid_to) */
Datum
billing_masterdata_add_tax_rate(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_tax_rate);
}

/* billing.add_exchange_rate(entity, from_currency, rate, valid_from, to_currency) */
Datum
billing_masterdata_add_exchange_rate(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_exchange_rate);
}

/* billing.add_customer(entity, customer, name, address, postal_code, city, country, tax_id) */
Datum
billing_masterdata_add_customer(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_customer);
}

/*
 * billing.add_account(entity, account, customer, currency, payment_terms_days, parent_account,
 *                     tax_code, purchase_order_required, purchase_order)
 */
Datum
billing_masterdata_add_account(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(3))
		(void) billing_core_lookup(0, billing_core_arg_code(fcinfo, 3, "currency"), "currency",
								   &billing_masterdata_currency);
	return carry_out(fcinfo, &add_account);
}

/* billing.add_product(entity, product, name, unit_code, tax_code) */
Datum
billing_masterdata_add_product(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_product);
}

/*
 * billing.add_meter(entity, meter, name, aggregation, value_field, filter, group_by,
 *                   quantity_scale, quantity_rounding, percentile, time_unit)
 */
Datum
billing_masterdata_add_meter(PG_FUNCTION_ARGS)
{
	return carry_out(fcinfo, &add_meter);
}
