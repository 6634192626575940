/*
 * contract.h
 *		How other rooms find a contract by code.
 */
#ifndef BILLING_CONTRACT_H
#define BILLING_CONTRACT_H

#include "core/call.h"

extern BillingStatement billing_contract_by_code;

/* contract_api.c */
extern void billing_contract_check_currency(int32 entity_id, int64 contract_id,
											int64 price_book_id);

#endif /* BILLING_CONTRACT_H */
