/*
 * masterdata.h
 *		How other rooms find customers, accounts, products and meters by code,
 *		read a meter's definition, and note what alters what accounts owe.
 */
#ifndef BILLING_MASTERDATA_H
#define BILLING_MASTERDATA_H

#include "core/call.h"
#include "utils/jsonpath.h"

/* What a meter may have: group keys, bytes of the name of one, bytes of a path. */
#define BILLING_METER_MAX_KEYS 8
#define BILLING_METER_MAX_KEY_NAME 63
#define BILLING_METER_MAX_PATH 1000

extern BillingStatement billing_masterdata_customer;
extern BillingStatement billing_masterdata_account;
extern BillingStatement billing_masterdata_product;
extern BillingStatement billing_masterdata_meter;
extern BillingStatement billing_masterdata_tax_code;
extern BillingStatement billing_masterdata_currency;

/* masterdata_path.c */
extern bool billing_masterdata_is_path(const char *text);
extern JsonPath *billing_masterdata_parse_path(const char *path);
extern void billing_masterdata_split_group_key(char *key, char **path);

/* masterdata_change.c: for triggers that note what the next billing run is to look at again */
extern void billing_masterdata_note_change(FunctionCallInfo fcinfo, BillingStatement *statement,
										   Datum *values);

#endif /* BILLING_MASTERDATA_H */
