/*
 * json.h
 *		JSON objects of known keys, built without SQL.
 */
#ifndef BILLING_JSON_H
#define BILLING_JSON_H

#include "pg_compat.h"

#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

/* An object while its keys are added. */
typedef struct BillingJson
{
	JsonbParseState *state;
} BillingJson;

/* core_json.c: values that are NULL become null */
extern void billing_core_json_begin(BillingJson *json);
extern void billing_core_json_text(BillingJson *json, const char *key, const char *value);
extern void billing_core_json_integer(BillingJson *json, const char *key, int64 value);
extern void billing_core_json_number(BillingJson *json, const char *key, Numeric value);
extern void billing_core_json_date(BillingJson *json, const char *key, DateADT value);
extern Jsonb *billing_core_json_end(BillingJson *json);

#endif /* BILLING_JSON_H */
