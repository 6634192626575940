/*
 * core_json.c
 *		Builds JSON objects of known keys: as jsonb_build_object() does, without a
 *		look at the types of its arguments.
 *
 * What is added must stay until the object is made.
 */
#include "pg_compat.h"

#include "core/json.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

/* Begin an object. */
void
billing_core_json_begin(BillingJson *json)
{
	json->state = NULL;
	(void) pushJsonbValue(&json->state, WJB_BEGIN_OBJECT, NULL);
}

/* Add a key and its value. */
static void
add(BillingJson *json, const char *key, JsonbValue *value)
{
	JsonbValue name;

	name.type = jbvString;
	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	(void) pushJsonbValue(&json->state, WJB_KEY, &name);
	(void) pushJsonbValue(&json->state, WJB_VALUE, value);
}

/* Add a text. */
void
billing_core_json_text(BillingJson *json, const char *key, const char *value)
{
	JsonbValue string;

	string.type = value == NULL ? jbvNull : jbvString;
	if (value != NULL)
	{
		string.val.string.val = unconstify(char *, value);
		string.val.string.len = strlen(value);
	}
	add(json, key, &string);
}

/* Add a number. */
void
billing_core_json_number(BillingJson *json, const char *key, Numeric value)
{
	JsonbValue number;

	number.type = value == NULL ? jbvNull : jbvNumeric;
	if (value != NULL)
		number.val.numeric = value;
	add(json, key, &number);
}

/* Add a whole number. */
void
billing_core_json_integer(BillingJson *json, const char *key, int64 value)
{
	billing_core_json_number(json, key, int64_to_numeric(value));
}

/* Add a date, as ISO 8601 has it. */
void
billing_core_json_date(BillingJson *json, const char *key, DateADT value)
{
	char buffer[MAXDATELEN + 1];
	struct pg_tm tm;

	j2date(value + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	EncodeDateOnly(&tm, USE_ISO_DATES, buffer);
	billing_core_json_text(json, key, pstrdup(buffer));
}

/* The object. */
Jsonb *
billing_core_json_end(BillingJson *json)
{
	return JsonbValueToJsonb(pushJsonbValue(&json->state, WJB_END_OBJECT, NULL));
}
