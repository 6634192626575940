/*
 * invoicing_content.c
 *		The digest of a document's lines and taxes that its first audit record
 *		has: what billing_internal.document_digest() computes from their rows.
 */
#include "pg_compat.h"

#include "audit/audit.h"
#include "catalog/pg_type.h"
#include "common/sha2.h"
#include "core/core.h"
#include "invoicing/invoicing_document.h"
#include "rating/rating.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* The columns of a line and of a tax, in the order of the digest. */
#define LINE_COLUMNS 22
#define TAX_COLUMNS 6

static const Oid line_types[LINE_COLUMNS] = { INT4OID,	  TEXTOID,	  INT8OID, INT8OID, INT4OID,
											  DATEOID,	  DATEOID,	  DATEOID, TEXTOID, NUMERICOID,
											  INT8OID,	  TEXTOID,	  TEXTOID, INT4OID, INT4OID,
											  NUMERICOID, NUMERICOID, INT8OID, TEXTOID, NUMERICOID,
											  INT8OID,	  INT4OID };
static const Oid tax_types[TAX_COLUMNS] = { INT4OID, TEXTOID,	 NUMERICOID,
											TEXTOID, NUMERICOID, NUMERICOID };

/* A row while its values are set. */
typedef struct Row
{
	int count;
	Datum values[LINE_COLUMNS];
	bool nulls[LINE_COLUMNS];
} Row;

static void
put(Row *row, Datum value, bool isnull)
{
	row->values[row->count] = value;
	row->nulls[row->count++] = isnull;
}

static void
put_text(Row *row, const char *value)
{
	put(row, value != NULL ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

/* Write the text of a tariff, to be kept. */
static void
write_text(BillingTariffTexts *known, int i, Datum tariff)
{
	MemoryContext caller = MemoryContextSwitchTo(known->context);
	char *text = billing_rating_text((const BillingTariff *) DatumGetPointer(tariff));

	known->tariffs[i] = tariff;
	known->texts[i] = CStringGetTextDatum(text);
	pfree(text);
	MemoryContextSwitchTo(caller);
}

/* The text of a tariff; most lines have one of a few that were asked for just before. */
static Datum
text_of(BillingTariffTexts *known, Datum tariff)
{
	int i;

	for (i = 0; i < BILLING_TARIFF_TEXTS; i++)
	{
		if (known->tariffs[i] == tariff)
			return known->texts[i];
	}
	i = known->next++ % BILLING_TARIFF_TEXTS;
	if (known->tariffs[i] != (Datum) 0)
		pfree(DatumGetPointer(known->texts[i]));
	write_text(known, i, tariff);
	return known->texts[i];
}

/* A line's values. */
static void
put_line(Row *row, const BillingEntry *entry, int line_no, Datum tariff)
{
	row->count = 0;
	put(row, Int32GetDatum(line_no), false);
	put_text(row, entry->is_credit ? "credit" : "charge");
	put(row, Int64GetDatum(entry->item_id), false);
	put(row, Int64GetDatum(entry->version_id), false);
	put(row, Int32GetDatum(entry->charge_seq), false);
	put(row, DateADTGetDatum(entry->charge_date), false);
	put(row, DateADTGetDatum(entry->period_start), false);
	put(row, DateADTGetDatum(entry->period_end), false);
	put_text(row, entry->description);
	put(row, entry->quantity, false);
	put(row, Int64GetDatum(entry->events), !entry->has_events);
	put_text(row, entry->dimensions);
	put(row, tariff, false);
	put(row, Int32GetDatum(entry->days), false);
	put(row, Int32GetDatum(entry->of_days), false);
	put(row, entry->exact_amount, false);
	put(row, entry->amount, false);
	put(row, Int64GetDatum(entry->tax_code_id), entry->tax_code_id == 0);
	put_text(row, entry->tax_category);
	put(row, entry->tax_rate, entry->tax_rate == (Datum) 0);
	put(row, Int64GetDatum(entry->reverses_invoice_id), !entry->is_credit);
	put(row, Int32GetDatum(entry->reverses_line_no), !entry->is_credit);
}

/* A tax's values. */
static void
put_tax(Row *row, const BillingTax *tax, int tax_no)
{
	row->count = 0;
	put(row, Int32GetDatum(tax_no), false);
	put_text(row, tax->category);
	put(row, tax->rate, false);
	put_text(row, tax->exemption_reason);
	put(row, tax->base, false);
	put(row, tax->tax, false);
}

/* The digest of a document, in hex; the tariff that was written last is kept for the next. */
char *
billing_invoicing_content(const BillingMaking *making, const BillingDocument *document,
						  StringInfo bytes, BillingTariffTexts *known)
{
	uint8 parts[2 * PG_SHA256_DIGEST_LENGTH];
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	char *hex = palloc(2 * PG_SHA256_DIGEST_LENGTH + 1);
	Row row;
	int i;

	resetStringInfo(bytes);
	for (i = 0; i < document->count; i++)
	{
		const BillingEntry *entry = &making->entries.entries[document->first + i];

		put_line(&row, entry, i + 1, text_of(known, entry->tariff));
		billing_audit_append_row(bytes, line_types, row.values, row.nulls, LINE_COLUMNS);
	}
	billing_audit_sha256(bytes->data, bytes->len, parts);
	resetStringInfo(bytes);
	for (i = 0; i < document->ntaxes && document->taxes[i].category != NULL; i++)
	{
		put_tax(&row, &document->taxes[i], i + 1);
		billing_audit_append_row(bytes, tax_types, row.values, row.nulls, TAX_COLUMNS);
	}
	billing_audit_sha256(bytes->data, bytes->len, parts + PG_SHA256_DIGEST_LENGTH);
	billing_audit_sha256(parts, sizeof(parts), digest);
	hex_encode((char *) digest, sizeof(digest), hex);
	hex[2 * PG_SHA256_DIGEST_LENGTH] = '\0';
	return hex;
}
