/*
 * invoicing_label.c
 *		What a line says, and how it is taxed: products, tax codes and their rates,
 *		each read once.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "core/scan.h"
#include "invoicing/invoicing_entry.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"

typedef struct Product
{
	int64 product_id;
	char *name;
	int64 tax_code_id;
} Product;

typedef struct TaxCode
{
	int64 tax_code_id;
	char *category;
	char *exemption_reason;
} TaxCode;

typedef struct TaxRate
{
	int64 tax_code_id;
	DateADT valid_from;
	DateADT valid_to;
	Datum rate;
} TaxRate;

struct BillingLabels
{
	int32 entity_id;
	MemoryContext context;
	BillingScan products;
	HTAB *known;
	int ncodes;
	TaxCode *codes;
	int nrates;
	TaxRate *rates;
};

enum
{
	PRODUCT_NAME,
	PRODUCT_TAX_CODE
};
static const char *const product_columns[] = { "name", "tax_code_id" };

enum
{
	CODE_ID,
	CODE_CATEGORY,
	CODE_REASON
};
static const char *const code_columns[] = { "tax_code_id", "category", "exemption_reason" };

enum
{
	RATE_CODE,
	RATE_FROM,
	RATE_TO,
	RATE_RATE
};
static const char *const rate_columns[] = { "tax_code_id", "valid_from", "valid_to", "rate" };

/* Read the entity's tax codes: there are few. */
static void
read_codes(BillingLabels *labels, Snapshot snapshot)
{
	Datum key = Int32GetDatum(labels->entity_id);
	BillingScan scan;
	int size = 16;

	labels->codes = palloc(sizeof(TaxCode) * size);
	billing_core_scan_open(&scan, "tax_code", "tax_code_pkey", 1, false, code_columns,
						   lengthof(code_columns), snapshot);
	billing_core_scan_find(&scan, &key);
	while (billing_core_scan_next(&scan))
	{
		TaxCode *code;

		if (labels->ncodes == size)
			labels->codes = repalloc(labels->codes, sizeof(TaxCode) * (size *= 2));
		code = &labels->codes[labels->ncodes++];
		code->tax_code_id = DatumGetInt64(billing_scan_value(&scan, CODE_ID));
		code->category = TextDatumGetCString(billing_scan_value(&scan, CODE_CATEGORY));
		code->exemption_reason = billing_scan_isnull(&scan, CODE_REASON)
									 ? NULL
									 : TextDatumGetCString(billing_scan_value(&scan, CODE_REASON));
	}
	billing_core_scan_close(&scan);
}

/* Read the rates of its tax codes. */
static void
read_rates(BillingLabels *labels, Snapshot snapshot)
{
	Datum key = Int32GetDatum(labels->entity_id);
	BillingScan scan;
	int size = 16;

	labels->rates = palloc(sizeof(TaxRate) * size);
	billing_core_scan_open(&scan, "tax_rate", "tax_rate_pkey", 1, false, rate_columns,
						   lengthof(rate_columns), snapshot);
	billing_core_scan_find(&scan, &key);
	while (billing_core_scan_next(&scan))
	{
		TaxRate *rate;

		if (labels->nrates == size)
			labels->rates = repalloc(labels->rates, sizeof(TaxRate) * (size *= 2));
		rate = &labels->rates[labels->nrates++];
		rate->tax_code_id = DatumGetInt64(billing_scan_value(&scan, RATE_CODE));
		rate->valid_from = DatumGetDateADT(billing_scan_value(&scan, RATE_FROM));
		rate->valid_to = billing_scan_isnull(&scan, RATE_TO)
							 ? DATEVAL_NOEND
							 : DatumGetDateADT(billing_scan_value(&scan, RATE_TO));
		rate->rate = datumCopy(billing_scan_value(&scan, RATE_RATE), false, -1);
	}
	billing_core_scan_close(&scan);
}

/* Begin to label lines, in the current memory context. */
BillingLabels *
billing_invoicing_open_labels(const BillingDerivation *derivation)
{
	BillingLabels *labels = palloc0(sizeof(BillingLabels));
	HASHCTL control = { 0 };

	labels->entity_id = derivation->biller.entity_id;
	labels->context = CurrentMemoryContext;
	control.keysize = sizeof(int64);
	control.entrysize = sizeof(Product);
	control.hcxt = CurrentMemoryContext;
	labels->known = hash_create("products", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	billing_core_scan_open(&labels->products, "product", "product_pkey", 2, false, product_columns,
						   lengthof(product_columns), derivation->snapshot);
	read_codes(labels, derivation->snapshot);
	read_rates(labels, derivation->snapshot);
	return labels;
}

/* A product, read at its first use. */
static const Product *
find_product(BillingLabels *labels, int64 product_id)
{
	Datum keys[2] = { Int32GetDatum(labels->entity_id), Int64GetDatum(product_id) };
	BillingScan *scan = &labels->products;
	MemoryContext caller;
	Product *product;
	bool found;

	product = hash_search(labels->known, &product_id, HASH_ENTER, &found);
	if (found)
		return product;
	product->name = "";
	product->tax_code_id = 0;
	billing_core_scan_find(scan, keys);
	if (!billing_core_scan_next(scan))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("product " INT64_FORMAT " does not exist", product_id)));
	caller = MemoryContextSwitchTo(labels->context);
	product->name = TextDatumGetCString(billing_scan_value(scan, PRODUCT_NAME));
	if (!billing_scan_isnull(scan, PRODUCT_TAX_CODE))
		product->tax_code_id = DatumGetInt64(billing_scan_value(scan, PRODUCT_TAX_CODE));
	MemoryContextSwitchTo(caller);
	return product;
}

/* Append a date as ISO 8601 has it, whatever the session's settings. */
static void
append_date(StringInfo text, DateADT date)
{
	char buffer[MAXDATELEN + 1];
	struct pg_tm tm;

	j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	EncodeDateOnly(&tm, USE_ISO_DATES, buffer);
	appendStringInfoString(text, buffer);
}

/* A group key and its value. */
typedef struct Pair
{
	char *key;
	JsonbValue value;
} Pair;

/* For qsort: by key */
static int
compare_pairs(const void *a, const void *b)
{
	return strcmp(((const Pair *) a)->key, ((const Pair *) b)->key);
}

/* Append a value of a group key. */
static void
append_value(StringInfo text, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			appendBinaryStringInfo(text, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoString(text,
								   DatumGetCString(
									   DirectFunctionCall1(numeric_out,
														   NumericGetDatum(value->val.numeric))));
			break;
		case jbvBool:
			appendStringInfoString(text, value->val.boolean ? "true" : "false");
			break;
		case jbvBinary:
			(void) JsonbToCString(text, value->val.binary.data, value->val.binary.len);
			break;
		default:
			appendStringInfoChar(text, '-');
			break;
	}
}

/* Append group keys and their values: ", region eu, size l". */
static void
append_dimensions(StringInfo text, Jsonb *dimensions)
{
	int size = JB_ROOT_COUNT(dimensions);
	Pair *pairs = palloc(sizeof(Pair) * Max(size, 1));
	JsonbIterator *iterator = JsonbIteratorInit(&dimensions->root);
	JsonbIteratorToken token;
	JsonbValue value;
	int count = 0;
	int i;

	if (!JB_ROOT_IS_OBJECT(dimensions))
		return;
	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			pairs[count].key = pnstrdup(value.val.string.val, value.val.string.len);
		else if (token == WJB_VALUE)
			pairs[count++].value = value;
	}
	qsort(pairs, count, sizeof(Pair), compare_pairs);
	for (i = 0; i < count; i++)
	{
		appendStringInfo(text, ", %s ", pairs[i].key);
		append_value(text, &pairs[i].value);
	}
}

/* The tax code of an entity; NULL where there is none. */
static const TaxCode *
find_code(const BillingLabels *labels, int64 tax_code_id)
{
	int i;

	for (i = 0; i < labels->ncodes; i++)
	{
		if (labels->codes[i].tax_code_id == tax_code_id)
			return &labels->codes[i];
	}
	return NULL;
}

/* Tax a charge by the rate of the supply. */
static void
tax_charge(const BillingLabels *labels, BillingEntry *entry)
{
	/* its first day where it is due in advance, its last in arrears, whenever it is billed */
	DateADT day = Min(entry->charge_date, entry->period_end - 1);
	const TaxCode *code = find_code(labels, entry->tax_code_id);
	int i;

	if (code == NULL)
		return;
	entry->exemption_reason = code->exemption_reason;
	for (i = 0; i < labels->nrates; i++)
	{
		const TaxRate *rate = &labels->rates[i];

		if (rate->tax_code_id == entry->tax_code_id && rate->valid_from <= day &&
			day < rate->valid_to)
		{
			entry->tax_category = code->category;
			entry->tax_rate = rate->rate;
			return;
		}
	}
}

/* Say what a charge is for and how it is taxed. */
void
billing_invoicing_label_charge(BillingLabels *labels, const BillingParty *party, int64 product_id,
							   BillingEntry *entry)
{
	const Product *product = find_product(labels, product_id);
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, product->name);
	if (entry->dimensions[0] != '\0')
		append_dimensions(&text,
						  DatumGetJsonbP(
							  DirectFunctionCall1(jsonb_in, CStringGetDatum(entry->dimensions))));
	appendStringInfoString(&text, ", ");
	append_date(&text, entry->period_start);
	if (entry->charge != BILLING_ONE_TIME)
	{
		appendStringInfoString(&text, " to ");
		append_date(&text, entry->period_end - 1);
	}
	entry->description = text.data;
	entry->tax_code_id = party->tax_code_id != 0 ? party->tax_code_id : product->tax_code_id;
	tax_charge(labels, entry);
}

/* A credit says and is taxed as what it credits; the reason is that of the tax code. */
void
billing_invoicing_label_credit(BillingLabels *labels, BillingEntry *entry)
{
	const TaxCode *code = find_code(labels, entry->tax_code_id);

	entry->exemption_reason = code != NULL ? code->exemption_reason : NULL;
}

/* End it. */
void
billing_invoicing_close_labels(BillingLabels *labels)
{
	billing_core_scan_close(&labels->products);
	hash_destroy(labels->known);
}
