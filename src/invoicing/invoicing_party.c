/*
 * invoicing_party.c
 *		Reads the accounts that are derived, with how far each was billed, and the
 *		entity that bills them.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/scan.h"
#include "invoicing/invoicing_entry.h"
#include "utils/array.h"
#include "utils/builtins.h"

enum
{
	ACCOUNT_CODE,
	ACCOUNT_CURRENCY,
	ACCOUNT_CUSTOMER,
	ACCOUNT_TAX_CODE,
	ACCOUNT_TERMS,
	ACCOUNT_NEEDS_ORDER,
	ACCOUNT_ORDER
};
static const char *const account_columns[] = {
	"code",			 "currency",		   "customer_id",
	"tax_code_id",	 "payment_terms_days", "purchase_order_required",
	"purchase_order"
};

static const char *const watermark_columns[] = { "billed_through" };

enum
{
	ENTITY_CURRENCY,
	ENTITY_ZONE,
	ENTITY_ROUNDING
};
static const char *const entity_columns[] = { "currency", "time_zone", "rounding_mode" };

/* $1 currency */
static BillingStatement read_currency = {
	"SELECT minor_unit::integer FROM billing.currency WHERE currency = $1", 1, { TEXTOID }, NULL
};

/* For qsort and bsearch */
static int
compare_ids(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* The ids of an array, sorted. */
int64 *
billing_invoicing_ids(Datum array, int *count)
{
	Datum *elements;
	bool *nulls;
	int64 *ids;
	int n;
	int i;

	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &n);
	ids = palloc(sizeof(int64) * Max(n, 1));
	*count = 0;
	for (i = 0; i < n; i++)
	{
		if (!nulls[i])
			ids[(*count)++] = DatumGetInt64(elements[i]);
	}
	qsort(ids, *count, sizeof(int64), compare_ids);
	return ids;
}

/* The entity's own terms; false where it does not exist. */
static bool
read_biller(BillingDerivation *derivation)
{
	BillingBiller *biller = &derivation->biller;
	Datum key = Int32GetDatum(biller->entity_id);
	BillingScan scan;
	bool found;

	billing_core_scan_open(&scan, "legal_entity", "legal_entity_pkey", 1, false, entity_columns,
						   lengthof(entity_columns), derivation->snapshot);
	billing_core_scan_find(&scan, &key);
	found = billing_core_scan_next(&scan);
	if (found)
	{
		biller->currency = TextDatumGetCString(billing_scan_value(&scan, ENTITY_CURRENCY));
		biller->time_zone = TextDatumGetCString(billing_scan_value(&scan, ENTITY_ZONE));
		biller->half_even = strcmp(TextDatumGetCString(billing_scan_value(&scan, ENTITY_ROUNDING)),
								   "half_even") == 0;
	}
	billing_core_scan_close(&scan);
	return found;
}

/* The decimals of a currency. */
static int32
minor_unit_of(const BillingDerivation *derivation, const char *currency)
{
	Datum value = CStringGetTextDatum(currency);
	int32 minor_unit;

	SPI_connect();
	billing_core_run_at(&read_currency, &value, NULL, derivation->snapshot);
	minor_unit = DatumGetInt32(billing_core_value(0, 0, NULL));
	SPI_finish();
	billing_core_check_minor_unit(minor_unit);
	return minor_unit;
}

/* Read an account; false where it does not exist. */
static bool
read_account(const BillingDerivation *derivation, BillingScan *scan, BillingParty *party,
			 const BillingParty *before)
{
	Datum keys[2] = { Int32GetDatum(derivation->biller.entity_id),
					  Int64GetDatum(party->account_id) };

	billing_core_scan_find(scan, keys);
	if (!billing_core_scan_next(scan))
		return false;
	party->code = TextDatumGetCString(billing_scan_value(scan, ACCOUNT_CODE));
	party->currency = TextDatumGetCString(billing_scan_value(scan, ACCOUNT_CURRENCY));
	party->customer_id = DatumGetInt64(billing_scan_value(scan, ACCOUNT_CUSTOMER));
	if (!billing_scan_isnull(scan, ACCOUNT_TAX_CODE))
		party->tax_code_id = DatumGetInt64(billing_scan_value(scan, ACCOUNT_TAX_CODE));
	party->payment_terms_days = DatumGetInt32(billing_scan_value(scan, ACCOUNT_TERMS));
	party->needs_purchase_order = DatumGetBool(billing_scan_value(scan, ACCOUNT_NEEDS_ORDER));
	if (!billing_scan_isnull(scan, ACCOUNT_ORDER))
		party->purchase_order = TextDatumGetCString(billing_scan_value(scan, ACCOUNT_ORDER));
	party->minor_unit = before != NULL && strcmp(before->currency, party->currency) == 0
							? before->minor_unit
							: minor_unit_of(derivation, party->currency);
	return true;
}

/* How far an account was billed, and therefore is derived. */
static void
read_watermark(const BillingDerivation *derivation, BillingScan *scan, BillingParty *party,
			   DateADT through)
{
	Datum keys[2] = { Int32GetDatum(derivation->biller.entity_id),
					  Int64GetDatum(party->account_id) };

	billing_core_scan_find(scan, keys);
	party->was_billed = billing_core_scan_next(scan);
	party->billed_through =
		party->was_billed ? DatumGetDateADT(billing_scan_value(scan, 0)) : DATEVAL_NOBEGIN;
	party->through = Max(through, party->billed_through);
}

/*
 * Begin to derive accounts of an entity through a day, or through the day each
 * was billed where that is later or the day is DATEVAL_NOBEGIN.  Those that are
 * not among `changed` only have what fell due after they were billed; where
 * `changed` is NULL all are derived whole.
 */
void
billing_invoicing_begin_derivation(BillingDerivation *derivation, int32 entity_id,
								   const int64 *accounts, int count, DateADT through,
								   const int64 *changed, int nchanged, Snapshot snapshot)
{
	int64 *ids = palloc(sizeof(int64) * Max(count, 1));
	BillingScan account_scan;
	BillingScan watermark_scan;
	int i;

	memset(derivation, 0, sizeof(BillingDerivation));
	derivation->biller.entity_id = entity_id;
	derivation->snapshot = snapshot;
	derivation->parties = palloc0(sizeof(BillingParty) * Max(count, 1));
	if (!read_biller(derivation))
		return;
	memcpy(ids, accounts, sizeof(int64) * count);
	qsort(ids, count, sizeof(int64), compare_ids);
	billing_core_scan_open(&account_scan, "billing_account", "billing_account_pkey", 2, false,
						   account_columns, lengthof(account_columns), snapshot);
	billing_core_scan_open(&watermark_scan, "account_watermark", "account_watermark_pkey", 2, false,
						   watermark_columns, lengthof(watermark_columns), snapshot);
	for (i = 0; i < count; i++)
	{
		BillingParty *party = &derivation->parties[derivation->nparties];

		if (i > 0 && ids[i] == ids[i - 1])
			continue;
		memset(party, 0, sizeof(BillingParty));
		party->account_id = ids[i];
		if (!read_account(derivation, &account_scan, party,
						  derivation->nparties > 0 ? party - 1 : NULL))
			continue;
		party->is_changed = changed == NULL ||
							bsearch(&ids[i], changed, nchanged, sizeof(int64), compare_ids) != NULL;
		read_watermark(derivation, &watermark_scan, party, through);
		derivation->nparties++;
	}
	billing_core_scan_close(&account_scan);
	billing_core_scan_close(&watermark_scan);
	pfree(ids);
}
