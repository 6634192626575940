/*
 * masterdata.h
 *		How other rooms find customers, accounts, products and meters by code.
 */
#ifndef BILLING_MASTERDATA_H
#define BILLING_MASTERDATA_H

#include "core/call.h"

extern BillingStatement billing_masterdata_customer;
extern BillingStatement billing_masterdata_account;
extern BillingStatement billing_masterdata_product;
extern BillingStatement billing_masterdata_meter;
extern BillingStatement billing_masterdata_tax_code;
extern BillingStatement billing_masterdata_currency;

#endif /* BILLING_MASTERDATA_H */
