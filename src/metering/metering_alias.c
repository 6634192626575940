/*
 * metering_alias.c
 *		Other names under which events name an account or a contract item: given
 *		by people, from a day to a day, and ended by them.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "contract/contract.h"
#include "core/call.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "metering/metering.h"
#include "utils/builtins.h"

/* The arguments of billing.add_usage_alias(), by position. */
enum
{
	ALIAS_NAME = 1,
	ALIAS_ACCOUNT = 2,
	ALIAS_CONTRACT = 3,
	ALIAS_ITEM = 4
};

/* either $3, or $4 and $5; what they name has been checked */
static BillingCall add_alias = {
	"contract_manager",
	7,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "alias", ARG_ANY, false, NULL },
	  { "account", ARG_REFERENCE, true, &billing_masterdata_account },
	  { "contract", ARG_REFERENCE, true, &billing_contract_by_code },
	  { "item", ARG_CODE, true, NULL },
	  { "first day", ARG_DATE, true, NULL },
	  { "day after the last", ARG_DATE, true, NULL } },
	{ "INSERT INTO billing.usage_alias (entity_id, alias, account_id, item_id, valid_from, valid_to,"
	  " recorded_by) SELECT $1, $2, coalesce($3, i.account_id), i.item_id, $6, $7,"
	  " billing_internal.actor_id() FROM (SELECT 1) one LEFT JOIN billing.contract_item i"
	  " ON i.entity_id = $1 AND i.contract_id = $4 AND i.code = $5",
	  0,
	  { 0 },
	  NULL }
};

/* $1 entity, $2 contract, $3 item */
static BillingStatement find_item = { "SELECT own_usage FROM billing.contract_item"
									  " WHERE entity_id = $1 AND contract_id = $2 AND code = $3",
									  3,
									  { INT4OID, INT8OID, TEXTOID },
									  NULL };

/* $1 entity, $2 alias */
static BillingStatement find_alias = {
	"SELECT 1 FROM billing.usage_alias WHERE entity_id = $1 AND alias = $2 LIMIT 1",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 alias, $3 day: whatever reaches beyond the day; what began later never was */
static BillingStatement end_alias = {
	"UPDATE billing.usage_alias SET valid_to = greatest($3, valid_from)"
	" WHERE entity_id = $1 AND alias = $2 AND (valid_to IS NULL OR valid_to > $3)"
	" AND (valid_from = valid_to) IS NOT TRUE",
	3,
	{ INT4OID, TEXTOID, DATEOID },
	NULL
};

/* What an event may have as its subject, or ZB001. */
char *
billing_metering_arg_subject(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char *subject;
	const char *c;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s must not be null", name),
				 errhint("Give the subject that events have.")));
	subject = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (subject[0] == '\0' || strlen(subject) > BILLING_USAGE_MAX_NAME)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must have 1 to %d bytes", name, BILLING_USAGE_MAX_NAME),
						errdetail("It has %zu.", strlen(subject)),
						errhint("Give the subject that events have.")));
	for (c = subject; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("%s contains a control character", name),
							errhint("No event has such a subject.")));
	}
	return subject;
}

/* Refuse anything but an account, or a contract and its item with usage of its own. */
static void
check_target(FunctionCallInfo fcinfo, int32 entity_id)
{
	char *contract = billing_core_arg_optional_code(fcinfo, ALIAS_CONTRACT, "contract");
	char *item = billing_core_arg_optional_code(fcinfo, ALIAS_ITEM, "item");
	Datum values[3];

	if ((contract == NULL) != (item == NULL) || PG_ARGISNULL(ALIAS_ACCOUNT) == (item == NULL))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("an alias is of an account, or of an item of a contract"),
						errhint("Give account, or contract and item.")));
	if (item == NULL)
		return;
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(
		billing_core_lookup(entity_id, contract, "contract", &billing_contract_by_code));
	values[2] = CStringGetTextDatum(item);
	if (billing_core_run(&find_item, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("item \"%s\" does not exist in contract \"%s\"", item, contract),
						errhint("billing.contract_term lists the items.")));
	if (!DatumGetBool(billing_core_value(0, 0, NULL)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("item \"%s\" has no usage of its own", item),
						errdetail("It charges for the usage that names the account."),
						errhint("Name the account, or add an item with own_usage => true.")));
}

PG_FUNCTION_INFO_V1(billing_metering_add_alias);
PG_FUNCTION_INFO_V1(billing_metering_end_alias);

/*
 * billing.add_usage_alias(entity text, alias text, account text, contract text, item text,
 *                         valid_from date, valid_to date) RETURNS void
 *
 * Raises ZB013 where the alias has another target on one of the days, or the
 * item no usage of its own.
 */
Datum
billing_metering_add_alias(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_call_entity(fcinfo, &add_alias);

	SPI_connect();
	(void) billing_metering_arg_subject(fcinfo, ALIAS_NAME, "alias");
	check_target(fcinfo, entity_id);
	billing_core_call(fcinfo, &add_alias);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.end_usage_alias(entity text, alias text, day date) RETURNS void */
Datum
billing_metering_end_alias(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *alias;
	Datum values[3];
	bool is_known;

	billing_core_require_duty(entity_id, "contract_manager");
	alias = billing_metering_arg_subject(fcinfo, ALIAS_NAME, "alias");
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(alias);
	values[2] = DateADTGetDatum(billing_core_arg_date(fcinfo, 2, "day"));
	SPI_connect();
	is_known = billing_core_run(&find_alias, values, NULL, false) > 0;
	if (!is_known)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("alias \"%s\" does not exist", alias),
						errhint("billing.usage_alias lists the aliases.")));
	if (billing_core_run(&end_alias, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("alias \"%s\" has ended by that day", alias),
						errhint("billing.usage_alias lists its days.")));
	SPI_finish();
	PG_RETURN_VOID();
}
