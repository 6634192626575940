/*
 * contract_amend.c
 *		Changing and ending what was agreed, from any day on, also a past one.
 *
 * Nothing is overwritten: the versions that a change touches are superseded, and
 * what stays of them is recorded again beside what is new.  What follows for
 * invoices is found by the next billing run.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "rating/rating.h"
#include "utils/builtins.h"

/* $1 entity, $2 contract, $3 item: against other amendments, not against runs that bill it */
static BillingStatement lock_item = {
	"SELECT item_id, charge FROM billing.contract_item"
	" WHERE entity_id = $1 AND contract_id = $2 AND code = $3 FOR NO KEY UPDATE",
	3,
	{ INT4OID, INT8OID, TEXTOID },
	NULL
};

/* $1 entity, $2 item, $3 day: the versions that reach beyond the day */
static BillingStatement supersede = {
	"WITH old AS (UPDATE billing.contract_item_version SET superseded_at = now()"
	" WHERE entity_id = $1 AND item_id = $2 AND superseded_at IS NULL"
	" AND (valid_to IS NULL OR valid_to > $3) RETURNING version_id)"
	" SELECT array_agg(version_id) FROM old",
	3,
	{ INT4OID, INT8OID, DATEOID },
	NULL
};

/* $1 entity, $2 superseded versions, $3 day, $4 reason, $5 item: what lies before the day stays */
static BillingStatement keep_before = {
	"INSERT INTO billing.contract_item_version (entity_id, item_id, account_id, meter_id,"
	" own_usage, valid_from, valid_to, quantity, tariff, price_book_id, recorded_by, reason)"
	" SELECT entity_id, item_id, account_id, meter_id, own_usage, valid_from, $3, quantity, tariff,"
	" price_book_id, billing_internal.actor_id(), $4"
	" FROM billing.contract_item_version"
	" WHERE entity_id = $1 AND item_id = $5 AND version_id = ANY ($2) AND valid_from < $3",
	5,
	{ INT4OID, INT8ARRAYOID, DATEOID, TEXTOID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 superseded versions, $3 day, $4 reason, $5 quantity, $6 tariff,
 * $7 price book, $8 item: from the day on every version has the new terms; what was
 * scheduled to change later still changes in what is not named here
 */
static BillingStatement change_from = {
	"INSERT INTO billing.contract_item_version (entity_id, item_id, account_id, meter_id,"
	" own_usage, valid_from, valid_to, quantity, tariff, price_book_id, recorded_by, reason)"
	" SELECT entity_id, item_id, account_id, meter_id, own_usage, greatest(valid_from, $3), valid_to,"
	" coalesce($5, quantity),"
	" CASE WHEN $6 IS NULL AND $7 IS NULL THEN tariff ELSE $6::billing.tariff END,"
	" CASE WHEN $6 IS NULL AND $7 IS NULL THEN price_book_id ELSE $7 END,"
	" billing_internal.actor_id(), $4"
	" FROM billing.contract_item_version WHERE entity_id = $1 AND item_id = $8"
	" AND version_id = ANY ($2)",
	8,
	{ INT4OID, INT8ARRAYOID, DATEOID, TEXTOID, NUMERICOID, JSONBOID, INT8OID, INT8OID },
	NULL
};

/* a day before the first empties the term */
static BillingCall end_contract = {
	"contract_manager",
	3,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "contract", ARG_REFERENCE, false, &billing_contract_by_code },
	  { "day", ARG_DATE, false, NULL } },
	{ "UPDATE billing.contract SET end_date = greatest($3, start_date)"
	  " WHERE entity_id = $1 AND contract_id = $2",
	  0,
	  { 0 },
	  NULL }
};

/* An item under amendment. */
typedef struct Amendment
{
	int32 entity_id;
	int64 contract_id;
	int64 item_id;
	char *charge;
	DateADT day;
	char *reason;	  /* or NULL */
	Datum superseded; /* bigint[]: the versions that reach beyond the day */
} Amendment;

/* Find and lock the item, ask for the duty, and supersede what reaches beyond the day. */
static void
begin_amendment(FunctionCallInfo fcinfo, int reason_argno, Amendment *amendment)
{
	char *contract;
	char *item;
	Datum values[3];
	bool isnull;

	amendment->entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_core_require_duty(amendment->entity_id, "contract_manager");
	contract = billing_core_arg_code(fcinfo, 1, "contract");
	item = billing_core_arg_code(fcinfo, 2, "item");
	amendment->day = billing_core_arg_date(fcinfo, 3, "day");
	amendment->reason = billing_core_arg_optional_text(fcinfo, reason_argno, "reason");
	amendment->contract_id =
		billing_core_lookup(amendment->entity_id, contract, "contract", &billing_contract_by_code);
	values[0] = Int32GetDatum(amendment->entity_id);
	values[1] = Int64GetDatum(amendment->contract_id);
	values[2] = CStringGetTextDatum(item);
	if (billing_core_run(&lock_item, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("item \"%s\" does not exist in contract \"%s\"", item, contract),
						errhint("billing.contract_term lists the items.")));
	amendment->item_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	amendment->charge = billing_core_text_value(0, 1);
	values[1] = Int64GetDatum(amendment->item_id);
	values[2] = DateADTGetDatum(amendment->day);
	billing_core_run(&supersede, values, NULL, false);
	amendment->superseded = billing_core_value_copy(0, 0, false, -1, &isnull);
	if (isnull)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("item \"%s\" has ended by that day", item),
						errhint("billing.contract_term lists its terms.")));
}

/* Record again what lies before the day. */
static void
keep_what_was(Amendment *amendment)
{
	Datum values[5];

	values[0] = Int32GetDatum(amendment->entity_id);
	values[1] = amendment->superseded;
	values[2] = DateADTGetDatum(amendment->day);
	values[3] = amendment->reason != NULL ? CStringGetTextDatum(amendment->reason) : (Datum) 0;
	values[4] = Int64GetDatum(amendment->item_id);
	billing_core_run(&keep_before, values, amendment->reason != NULL ? NULL : "   n ", false);
}

PG_FUNCTION_INFO_V1(billing_contract_change_item);
PG_FUNCTION_INFO_V1(billing_contract_end_item);
PG_FUNCTION_INFO_V1(billing_contract_end);

/*
 * billing.change_item(entity, contract, item, valid_from, quantity, tariff, price_book, reason)
 * RETURNS void
 */
Datum
billing_contract_change_item(PG_FUNCTION_ARGS)
{
	Amendment amendment;
	Numeric quantity = billing_core_arg_optional_numeric(fcinfo, 4, "quantity");
	char *price_book = billing_core_arg_optional_code(fcinfo, 6, "price book");
	Datum values[8];
	char nulls[9] = "        ";

	if (quantity == NULL && PG_ARGISNULL(5) && price_book == NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("nothing is changed"),
						errhint("Give a quantity, a tariff or a price book.")));
	if (!PG_ARGISNULL(5) && price_book != NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("an item has either a tariff or a price book"),
						errhint("Give one of the two.")));
	SPI_connect();
	begin_amendment(fcinfo, 7, &amendment);
	if (quantity != NULL && strcmp(amendment.charge, "usage") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("usage has no agreed quantity"),
				 errhint("Leave quantity out: the meter measures it.")));
	values[0] = Int32GetDatum(amendment.entity_id);
	values[1] = amendment.superseded;
	values[2] = DateADTGetDatum(amendment.day);
	values[3] = amendment.reason != NULL ? CStringGetTextDatum(amendment.reason) : (Datum) 0;
	values[4] = quantity != NULL ? NumericGetDatum(quantity) : (Datum) 0;
	values[5] = PG_GETARG_DATUM(5);
	values[6] = (Datum) 0;
	values[7] = Int64GetDatum(amendment.item_id);
	nulls[3] = amendment.reason != NULL ? ' ' : 'n';
	nulls[4] = quantity != NULL ? ' ' : 'n';
	nulls[5] = PG_ARGISNULL(5) ? 'n' : ' ';
	nulls[6] = price_book == NULL ? 'n' : ' ';
	if (price_book != NULL)
	{
		int64 price_book_id = billing_core_lookup(amendment.entity_id, price_book, "price book",
												  &billing_rating_price_book);

		billing_contract_check_currency(amendment.entity_id, amendment.contract_id, price_book_id);
		values[6] = Int64GetDatum(price_book_id);
	}
	if (strcmp(amendment.charge, "one_time") != 0)
		keep_what_was(&amendment);
	billing_core_run(&change_from, values, nulls, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.end_item(entity, contract, item, day, reason) RETURNS void */
Datum
billing_contract_end_item(PG_FUNCTION_ARGS)
{
	Amendment amendment;

	SPI_connect();
	begin_amendment(fcinfo, 4, &amendment);
	keep_what_was(&amendment);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.end_contract(entity, contract, day) RETURNS void */
Datum
billing_contract_end(PG_FUNCTION_ARGS)
{
	SPI_connect();
	billing_core_call(fcinfo, &end_contract);
	SPI_finish();
	PG_RETURN_VOID();
}
