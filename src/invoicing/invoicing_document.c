/*
 * invoicing_document.c
 *		Puts lines together into documents, one for an account and a billing date,
 *		and adds them up: tax is computed for each category and rate on its summed
 *		base, totals are sums of what is printed.
 */
#include "pg_compat.h"

#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "core/core.h"
#include "core/decimal.h"
#include "invoicing/invoicing_document.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* a + b */
static Datum
sum_of(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_add, a, b);
}

/* -1, 0 or 1 */
static int
compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}

/* Compare texts that may be NULL, which come last. */
static int
compare_texts(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a == NULL) - (b == NULL);
	return strcmp(a, b);
}

/* For qsort: in the order in which taxes are printed */
static int
compare_taxes(const void *a, const void *b)
{
	const BillingTax *x = a;
	const BillingTax *y = b;
	int order = compare_texts(x->category, y->category);

	if (order == 0 && x->category != NULL)
		order = compare(y->rate, x->rate);
	return order != 0 ? order : compare_texts(x->exemption_reason, y->exemption_reason);
}

/* Whether a line is taxed as others are. */
static bool
is_taxed_alike(const BillingTax *tax, const BillingEntry *entry)
{
	if (tax->category == NULL || entry->tax_category == NULL)
		return tax->category == NULL && entry->tax_category == NULL;
	return strcmp(tax->category, entry->tax_category) == 0 &&
		   (tax->rate == entry->tax_rate || compare(tax->rate, entry->tax_rate) == 0) &&
		   compare_texts(tax->exemption_reason, entry->exemption_reason) == 0;
}

/* Add a line to the taxes of its document. */
static void
add_line(BillingDocument *document, int *size, const BillingEntry *entry)
{
	BillingTax *tax;
	int i;

	for (i = 0; i < document->ntaxes && !is_taxed_alike(&document->taxes[i], entry); i++)
		;
	tax = &document->taxes[i];
	if (i < document->ntaxes)
	{
		tax->base = sum_of(tax->base, entry->amount);
		tax->since = Min(tax->since, entry->charge_date);
		tax->lines++;
		return;
	}
	if (document->ntaxes == *size)
	{
		*size *= 2;
		document->taxes = repalloc(document->taxes, sizeof(BillingTax) * *size);
		tax = &document->taxes[i];
	}
	document->ntaxes++;
	tax->category = entry->tax_category;
	tax->rate = entry->tax_rate;
	tax->exemption_reason = entry->tax_category != NULL ? entry->exemption_reason : NULL;
	tax->base = entry->amount;
	tax->lines = 1;
	tax->since = entry->charge_date;
}

/* The tax on a base: base × rate ÷ 100, rounded once. */
static Datum
tax_on(const BillingTax *tax, int32 minor_unit, bool half_even)
{
	Datum exact;

	if (tax->category == NULL)
		return NumericGetDatum(int64_to_numeric(0));
	exact = DirectFunctionCall2(numeric_mul, DirectFunctionCall2(numeric_mul, tax->base, tax->rate),
								billing_core_decimal_encode(1, 2));
	return NumericGetDatum(billing_core_round(DatumGetNumeric(exact), minor_unit, half_even));
}

/* Add a document up. */
static void
add_up(const BillingMaking *making, BillingDocument *document)
{
	const BillingParty *party = &making->derivation.parties[document->party];
	int size = 2;
	int i;

	document->taxes = palloc(sizeof(BillingTax) * size);
	for (i = 0; i < document->count; i++)
		add_line(document, &size, &making->entries.entries[document->first + i]);
	if (document->ntaxes > 1)
		qsort(document->taxes, document->ntaxes, sizeof(BillingTax), compare_taxes);
	for (i = 0; i < document->ntaxes; i++)
	{
		BillingTax *tax = &document->taxes[i];

		tax->tax = tax_on(tax, party->minor_unit, making->derivation.biller.half_even);
		document->net = i == 0 ? tax->base : sum_of(document->net, tax->base);
		document->tax = i == 0 ? tax->tax : sum_of(document->tax, tax->tax);
	}
	document->total = sum_of(document->net, document->tax);
	document->is_credit_note = compare(document->total, NumericGetDatum(int64_to_numeric(0))) < 0;
}

/* For qsort: lines first, in their order, then what has no amount */
static void
part_entries(BillingMaking *making)
{
	BillingEntries *entries = &making->entries;
	BillingEntry *missing = NULL;
	int nmissing = 0;
	int kept = 0;
	int i;

	for (i = 0; i < entries->count; i++)
	{
		if (entries->entries[i].amount != (Datum) 0)
		{
			entries->entries[kept++] = entries->entries[i];
			continue;
		}
		if (missing == NULL)
			missing = MemoryContextAllocHuge(CurrentMemoryContext,
											 sizeof(BillingEntry) * (entries->count - i));
		missing[nmissing++] = entries->entries[i];
	}
	if (nmissing > 0)
		memcpy(entries->entries + kept, missing, sizeof(BillingEntry) * nmissing);
	making->nlines = kept;
}

/* Make the documents of all lines; what has no amount comes after the lines. */
void
billing_invoicing_make_documents(BillingMaking *making)
{
	Oid sequence =
		get_relname_relid("document_document_id_seq", get_namespace_oid("billing", false));
	const BillingEntry *entries;
	BillingDocument *document = NULL;
	int i;

	part_entries(making);
	entries = making->entries.entries;
	making->ndocuments = 0;
	making->documents = MemoryContextAllocHuge(CurrentMemoryContext,
											   sizeof(BillingDocument) * Max(making->nlines, 1));
	for (i = 0; i < making->nlines; i++)
	{
		if (document != NULL && document->party == entries[i].party &&
			document->billing_date == entries[i].billing_date)
		{
			document->count++;
			continue;
		}
		document = &making->documents[making->ndocuments++];
		memset(document, 0, sizeof(BillingDocument));
		document->document_id = nextval_internal(sequence, false);
		document->party = entries[i].party;
		document->billing_date = entries[i].billing_date;
		document->first = i;
		document->count = 1;
	}
	for (i = 0; i < making->ndocuments; i++)
	{
		CHECK_FOR_INTERRUPTS();
		add_up(making, &making->documents[i]);
	}
}
