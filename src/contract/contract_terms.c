/*
 * contract_terms.c
 *		Reads the terms of accounts as they are known now: items, their versions,
 *		and the contracts that these are cut to.
 */
#include "pg_compat.h"

#include "contract/contract.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "utils/datum.h"

/* The columns that are read, by position. */
enum
{
	ITEM_ID,
	ITEM_CONTRACT,
	ITEM_CHARGE,
	ITEM_TIMING,
	ITEM_PRODUCT,
	ITEM_METER,
	ITEM_OWN_USAGE
};
static const char *const item_columns[] = { "item_id",	  "contract_id", "charge",	 "timing",
											"product_id", "meter_id",	 "own_usage" };

enum
{
	CONTRACT_START,
	CONTRACT_END,
	CONTRACT_ANCHOR,
	CONTRACT_UNIT,
	CONTRACT_COUNT
};
static const char *const contract_columns[] = { "start_date", "end_date", "anchor", "interval_unit",
												"interval_count" };

enum
{
	VERSION_ID,
	VERSION_FROM,
	VERSION_TO,
	VERSION_QUANTITY,
	VERSION_TARIFF,
	VERSION_BOOK,
	VERSION_SUPERSEDED
};
static const char *const version_columns[] = { "version_id",   "valid_from", "valid_to",
											   "quantity",	   "tariff",	 "price_book_id",
											   "superseded_at" };

const char *const billing_contract_charge_names[] = { "recurring", "usage", "one_time" };

/* Whether a text is a word. */
static bool
is_word(Datum value, const char *word)
{
	text *string = DatumGetTextPP(value);

	return VARSIZE_ANY_EXHDR(string) == strlen(word) &&
		   memcmp(VARDATA_ANY(string), word, strlen(word)) == 0;
}

/* What kind of charge an item makes. */
static BillingChargeKind
charge_of(Datum value)
{
	if (is_word(value, "recurring"))
		return BILLING_RECURRING;
	return is_word(value, "usage") ? BILLING_USAGE : BILLING_ONE_TIME;
}

/* A day of the current row, or another where it is null. */
static DateADT
day_of(const BillingScan *scan, int column, DateADT otherwise)
{
	return billing_scan_isnull(scan, column) ? otherwise
											 : DatumGetDateADT(billing_scan_value(scan, column));
}

/* An id of the current row, 0 where it is null. */
static int64
id_of(const BillingScan *scan, int column)
{
	return billing_scan_isnull(scan, column) ? 0 : DatumGetInt64(billing_scan_value(scan, column));
}

/* Begin to read the terms of accounts in a snapshot. */
void
billing_contract_open_terms(BillingTermsReader *reader, int32 entity_id, Snapshot snapshot)
{
	reader->entity_id = entity_id;
	billing_core_scan_open(&reader->items, "contract_item", "contract_item_by_account", 2, false,
						   item_columns, lengthof(item_columns), snapshot);
	billing_core_scan_open(&reader->contracts, "contract", "contract_pkey", 2, false,
						   contract_columns, lengthof(contract_columns), snapshot);
	billing_core_scan_open(&reader->versions, "contract_item_version",
						   "contract_item_version_current", 2, false, version_columns,
						   lengthof(version_columns), snapshot);
	reader->count = 0;
	reader->size = 16;
	reader->terms = palloc(sizeof(BillingTerms) * reader->size);
	reader->nitems = 0;
	reader->items_size = 16;
	reader->item_ids = palloc(sizeof(int64) * reader->items_size);
}

/* The terms of the contract's periods; those of the term before where it has the same contract. */
static void
read_contract(BillingTermsReader *reader, BillingTerms *terms)
{
	BillingScan *scan = &reader->contracts;
	Datum keys[2] = { Int32GetDatum(reader->entity_id), Int64GetDatum(terms->contract_id) };
	BillingTermDays *days = &terms->days;

	if (reader->count > 0 && reader->terms[reader->count - 1].contract_id == terms->contract_id)
	{
		const BillingTermDays *known = &reader->terms[reader->count - 1].days;

		days->start_date = known->start_date;
		days->end_date = known->end_date;
		days->anchor = known->anchor;
		days->count = known->count;
		memcpy(days->unit, known->unit, sizeof(days->unit));
		return;
	}
	billing_core_scan_find(scan, keys);
	if (!billing_core_scan_next(scan))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("contract " INT64_FORMAT " does not exist", terms->contract_id)));
	days->start_date = DatumGetDateADT(billing_scan_value(scan, CONTRACT_START));
	days->end_date = day_of(scan, CONTRACT_END, DATEVAL_NOEND);
	days->anchor = DatumGetDateADT(billing_scan_value(scan, CONTRACT_ANCHOR));
	days->count = DatumGetInt32(billing_scan_value(scan, CONTRACT_COUNT));
	text_to_cstring_buffer(DatumGetTextPP(billing_scan_value(scan, CONTRACT_UNIT)), days->unit,
						   sizeof(days->unit));
	billing_core_check_interval(days->unit, days->count);
}

/* Keep a term. */
static BillingTerms *
add_terms(BillingTermsReader *reader, const BillingTerms *terms)
{
	if (reader->count == reader->size)
	{
		reader->size *= 2;
		reader->terms = repalloc(reader->terms, sizeof(BillingTerms) * reader->size);
	}
	reader->terms[reader->count] = *terms;
	return &reader->terms[reader->count++];
}

/* Keep an item's id. */
static void
add_item(BillingTermsReader *reader, int64 item_id)
{
	if (reader->nitems == reader->items_size)
	{
		reader->items_size *= 2;
		reader->item_ids = repalloc(reader->item_ids, sizeof(int64) * reader->items_size);
	}
	reader->item_ids[reader->nitems++] = item_id;
}

/* The versions of an item that count now. */
static void
read_versions(BillingTermsReader *reader, const BillingTerms *item)
{
	BillingScan *scan = &reader->versions;
	Datum keys[2] = { Int32GetDatum(reader->entity_id), Int64GetDatum(item->item_id) };

	billing_core_scan_find(scan, keys);
	while (billing_core_scan_next(scan))
	{
		BillingTerms *terms;

		if (!billing_scan_isnull(scan, VERSION_SUPERSEDED))
			continue;
		terms = add_terms(reader, item);
		terms->version_id = id_of(scan, VERSION_ID);
		terms->price_book_id = id_of(scan, VERSION_BOOK);
		terms->days.valid_from =
			Max(DatumGetDateADT(billing_scan_value(scan, VERSION_FROM)), terms->days.start_date);
		terms->days.valid_to = Min(day_of(scan, VERSION_TO, DATEVAL_NOEND), terms->days.end_date);
		if (!billing_scan_isnull(scan, VERSION_QUANTITY))
			terms->quantity = datumCopy(billing_scan_value(scan, VERSION_QUANTITY), false, -1);
		if (!billing_scan_isnull(scan, VERSION_TARIFF))
			terms->tariff =
				PointerGetDatum(PG_DETOAST_DATUM_COPY(billing_scan_value(scan, VERSION_TARIFF)));
	}
}

/* Read the terms of an account into reader->terms, in the current memory context. */
void
billing_contract_read_terms(BillingTermsReader *reader, int64 account_id)
{
	BillingScan *scan = &reader->items;
	Datum keys[2] = { Int32GetDatum(reader->entity_id), Int64GetDatum(account_id) };

	reader->count = reader->nitems = 0;
	billing_core_scan_find(scan, keys);
	while (billing_core_scan_next(scan))
	{
		BillingTerms item = { 0 };

		item.account_id = account_id;
		item.item_id = id_of(scan, ITEM_ID);
		add_item(reader, item.item_id);
		item.contract_id = id_of(scan, ITEM_CONTRACT);
		item.product_id = id_of(scan, ITEM_PRODUCT);
		item.meter_id = id_of(scan, ITEM_METER);
		item.charge = charge_of(billing_scan_value(scan, ITEM_CHARGE));
		item.usage_item = DatumGetBool(billing_scan_value(scan, ITEM_OWN_USAGE)) ? item.item_id : 0;
		item.days.one_time = item.charge == BILLING_ONE_TIME;
		item.days.in_advance = is_word(billing_scan_value(scan, ITEM_TIMING), "advance");
		read_contract(reader, &item);
		read_versions(reader, &item);
	}
}

/* End it. */
void
billing_contract_close_terms(BillingTermsReader *reader)
{
	billing_core_scan_close(&reader->items);
	billing_core_scan_close(&reader->contracts);
	billing_core_scan_close(&reader->versions);
	pfree(reader->terms);
	pfree(reader->item_ids);
}
