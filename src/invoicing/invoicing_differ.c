/*
 * invoicing_differ.c
 *		Entitled − billed, as the lines that settle it: a charge for what was not
 *		billed, and, where what was billed is no longer right, its credit and a new
 *		charge.
 *
 * Of an account that has not changed since it was billed, all that is entitled
 * is new.  Of one that has, the charges that stand are read and compared.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "core/scan.h"
#include "invoicing/invoicing_entry.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"

/* A charge that was billed and not discarded. */
typedef struct Stand
{
	int party;
	int64 item_id;
	DateADT period_start;
	DateADT period_end;
	char *dimensions;
	int32 charge_seq;
	bool stands;  /* it was not credited, and fell due by the day that is derived */
	bool settled; /* it is what is entitled */
	int64 invoice_id;
	int32 line_no;
	int64 version_id;
	DateADT charge_date;
	Datum quantity;
	bool has_events;
	int64 events;
	Datum tariff;
	int32 days;
	int32 of_days;
	Datum exact_amount;
	Datum amount;
	char *description;
	int64 tax_code_id;
	char *tax_category;
	Datum tax_rate;
} Stand;

typedef struct Stands
{
	int count;
	int size;
	Stand *stands;
} Stands;

enum
{
	LINE_INVOICE,
	LINE_NO,
	LINE_VERSION,
	LINE_SEQ,
	LINE_DATE,
	LINE_FROM,
	LINE_TO,
	LINE_DESCRIPTION,
	LINE_QUANTITY,
	LINE_EVENTS,
	LINE_DIMENSIONS,
	LINE_TARIFF,
	LINE_DAYS,
	LINE_OF_DAYS,
	LINE_EXACT,
	LINE_AMOUNT,
	LINE_TAX_CODE,
	LINE_CATEGORY,
	LINE_RATE
};
static const char *const line_columns[] = {
	"invoice_id",	"line_no",	   "version_id",   "charge_seq", "charge_date",
	"period_start", "period_end",  "description",  "quantity",	 "events",
	"dimensions",	"tariff",	   "days",		   "of_days",	 "exact_amount",
	"amount",		"tax_code_id", "tax_category", "tax_rate",
};

/* By item, period and group. */
static int
compare_stretch(int64 item_a, DateADT from_a, DateADT to_a, const char *dimensions_a, int64 item_b,
				DateADT from_b, DateADT to_b, const char *dimensions_b)
{
	if (item_a != item_b)
		return item_a < item_b ? -1 : 1;
	if (from_a != from_b)
		return from_a < from_b ? -1 : 1;
	if (to_a != to_b)
		return to_a < to_b ? -1 : 1;
	return strcmp(dimensions_a, dimensions_b);
}

static int
compare_stands_stretch(const Stand *a, const Stand *b)
{
	return compare_stretch(a->item_id, a->period_start, a->period_end, a->dimensions, b->item_id,
						   b->period_start, b->period_end, b->dimensions);
}

/* For qsort: stands by stretch and number */
static int
compare_stands(const void *a, const void *b)
{
	const Stand *x = a;
	const Stand *y = b;
	int order = compare_stands_stretch(x, y);

	if (order != 0)
		return order;
	return x->charge_seq < y->charge_seq ? -1 : x->charge_seq > y->charge_seq;
}

/* For qsort: in the order of the lines of a document */
static int
compare_entries(const void *a, const void *b)
{
	const BillingEntry *x = a;
	const BillingEntry *y = b;
	int order;

	if (x->party != y->party)
		return x->party < y->party ? -1 : 1;
	if (x->billing_date != y->billing_date)
		return x->billing_date < y->billing_date ? -1 : 1;
	if (x->item_id != y->item_id)
		return x->item_id < y->item_id ? -1 : 1;
	if (x->period_start != y->period_start)
		return x->period_start < y->period_start ? -1 : 1;
	order = strcmp(x->dimensions, y->dimensions);
	if (order != 0)
		return order;
	if (x->is_credit != y->is_credit)
		return x->is_credit ? -1 : 1;
	if (x->charge_seq != y->charge_seq)
		return x->charge_seq < y->charge_seq ? -1 : 1;
	return x->period_end < y->period_end ? -1 : x->period_end > y->period_end;
}

/* A copy of a value of the current row, 0 where it is null. */
static Datum
copy_of(const BillingScan *scan, int column)
{
	return billing_scan_isnull(scan, column)
			   ? (Datum) 0
			   : PointerGetDatum(PG_DETOAST_DATUM_COPY(billing_scan_value(scan, column)));
}

/* The text of a value of the current row, NULL where it is null. */
static char *
text_of(const BillingScan *scan, int column)
{
	return billing_scan_isnull(scan, column)
			   ? NULL
			   : TextDatumGetCString(billing_scan_value(scan, column));
}

/* Take the current row over. */
static void
read_line(const BillingScan *scan, Stand *stand)
{
	stand->invoice_id = DatumGetInt64(billing_scan_value(scan, LINE_INVOICE));
	stand->line_no = DatumGetInt32(billing_scan_value(scan, LINE_NO));
	stand->version_id = DatumGetInt64(billing_scan_value(scan, LINE_VERSION));
	stand->charge_seq = DatumGetInt32(billing_scan_value(scan, LINE_SEQ));
	stand->charge_date = DatumGetDateADT(billing_scan_value(scan, LINE_DATE));
	stand->period_start = DatumGetDateADT(billing_scan_value(scan, LINE_FROM));
	stand->period_end = DatumGetDateADT(billing_scan_value(scan, LINE_TO));
	stand->description = text_of(scan, LINE_DESCRIPTION);
	stand->quantity = copy_of(scan, LINE_QUANTITY);
	stand->has_events = !billing_scan_isnull(scan, LINE_EVENTS);
	stand->events = stand->has_events ? DatumGetInt64(billing_scan_value(scan, LINE_EVENTS)) : 0;
	stand->dimensions = text_of(scan, LINE_DIMENSIONS);
	stand->tariff = copy_of(scan, LINE_TARIFF);
	stand->days = DatumGetInt32(billing_scan_value(scan, LINE_DAYS));
	stand->of_days = DatumGetInt32(billing_scan_value(scan, LINE_OF_DAYS));
	stand->exact_amount = copy_of(scan, LINE_EXACT);
	stand->amount = copy_of(scan, LINE_AMOUNT);
	stand->tax_code_id = billing_scan_isnull(scan, LINE_TAX_CODE)
							 ? 0
							 : DatumGetInt64(billing_scan_value(scan, LINE_TAX_CODE));
	stand->tax_category = text_of(scan, LINE_CATEGORY);
	stand->tax_rate = copy_of(scan, LINE_RATE);
}

/* Room for another one. */
static Stand *
add_stand(Stands *stands)
{
	if (stands->count == stands->size)
	{
		stands->size = stands->size == 0 ? 64 : 2 * stands->size;
		stands->stands = stands->stands == NULL
							 ? palloc(sizeof(Stand) * stands->size)
							 : repalloc_huge(stands->stands, sizeof(Stand) * stands->size);
	}
	return &stands->stands[stands->count++];
}

/* Whether a line was credited by a document that was not discarded. */
static bool
is_credited(BillingScan *credits, int32 entity_id, const Stand *stand)
{
	Datum keys[3] = { Int32GetDatum(entity_id), Int64GetDatum(stand->invoice_id),
					  Int32GetDatum(stand->line_no) };

	billing_core_scan_find(credits, keys);
	return billing_core_scan_next(credits);
}

/* Read what was billed of the accounts that have changed. */
static void
read_stands(const BillingDerivation *derivation, Stands *stands)
{
	int32 entity_id = derivation->biller.entity_id;
	BillingScan lines;
	BillingScan credits;
	int i;
	int n;

	billing_core_scan_open(&lines, "invoice_line", "invoice_line_charged_once", 2, false,
						   line_columns, lengthof(line_columns), derivation->snapshot);
	billing_core_scan_open(&credits, "invoice_line", "invoice_line_credited_once", 3, false, NULL,
						   0, derivation->snapshot);
	for (i = 0; i < derivation->nparties; i++)
	{
		const BillingParty *party = &derivation->parties[i];

		for (n = 0; n < party->nitems; n++)
		{
			Datum keys[2] = { Int32GetDatum(entity_id), Int64GetDatum(party->items[n]) };

			billing_core_scan_find(&lines, keys);
			while (billing_core_scan_next(&lines))
			{
				Stand *stand = add_stand(stands);

				CHECK_FOR_INTERRUPTS();
				memset(stand, 0, sizeof(Stand));
				stand->party = i;
				stand->item_id = party->items[n];
				read_line(&lines, stand);
				stand->stands = stand->charge_date <= party->through &&
								!is_credited(&credits, entity_id, stand);
			}
		}
	}
	billing_core_scan_close(&lines);
	billing_core_scan_close(&credits);
	qsort(stands->stands, stands->count, sizeof(Stand), compare_stands);
}

/* The first of the stands of a charge's stretch, or where it would be. */
static int
find_stretch(const Stands *stands, const BillingCharge *charge)
{
	int low = 0;
	int high = stands->count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		const Stand *stand = &stands->stands[middle];

		if (compare_stretch(stand->item_id, stand->period_start, stand->period_end,
							stand->dimensions, charge->item_id, charge->period_start,
							charge->period_end, charge->dimensions) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * What was billed for a charge's stretch: the last number that was given, and the
 * charge that can be what is entitled, or NULL.  Where the document that credited
 * a charge was discarded after the days were charged anew, both charges stand:
 * only the last can be it.
 */
static Stand *
find_stand(const Stands *stands, const BillingCharge *charge, int32 *last_seq)
{
	Stand *found = NULL;
	int i;

	*last_seq = 0;
	for (i = find_stretch(stands, charge); i < stands->count; i++)
	{
		Stand *stand = &stands->stands[i];

		if (compare_stretch(stand->item_id, stand->period_start, stand->period_end,
							stand->dimensions, charge->item_id, charge->period_start,
							charge->period_end, charge->dimensions) != 0)
			break;
		*last_seq = stand->charge_seq;
		if (stand->stands)
			found = stand;
	}
	return found;
}

/* Room for another line. */
static BillingEntry *
add_entry(BillingEntries *entries)
{
	BillingEntry *entry;

	if (entries->count == entries->size)
	{
		entries->size = entries->size == 0 ? 1024 : 2 * entries->size;
		entries->entries =
			entries->entries == NULL
				? MemoryContextAllocHuge(CurrentMemoryContext, sizeof(BillingEntry) * entries->size)
				: repalloc_huge(entries->entries, sizeof(BillingEntry) * entries->size);
	}
	entry = &entries->entries[entries->count++];
	memset(entry, 0, sizeof(BillingEntry));
	return entry;
}

/* The line of a charge. */
static BillingEntry *
enter_charge(const BillingCharge *charge, Datum amount, BillingEntries *entries)
{
	BillingEntry *entry = add_entry(entries);

	entry->party = charge->party;
	entry->billing_date = charge->charge_date;
	entry->charge = charge->charge;
	entry->contract_id = charge->contract_id;
	entry->item_id = charge->item_id;
	entry->version_id = charge->version_id;
	entry->charge_seq = 1;
	entry->charge_date = charge->charge_date;
	entry->period_start = charge->period_start;
	entry->period_end = charge->period_end;
	entry->days = charge->days;
	entry->of_days = charge->of_days;
	entry->quantity = charge->quantity;
	entry->has_events = charge->has_events;
	entry->events = charge->events;
	entry->dimensions = charge->dimensions;
	entry->tariff = charge->tariff;
	entry->exact_amount = charge->exact_amount;
	entry->amount = amount;
	return entry;
}

/* A number with the other sign. */
static Datum
negative(Datum value)
{
	return DirectFunctionCall1(numeric_uminus, value);
}

/* The line that credits a charge. */
static void
enter_credit(const BillingDerivation *derivation, const Stand *stand, BillingEntries *entries)
{
	BillingEntry *entry = add_entry(entries);

	entry->party = stand->party;
	entry->is_credit = true;
	entry->billing_date = derivation->parties[stand->party].through;
	entry->item_id = stand->item_id;
	entry->version_id = stand->version_id;
	entry->charge_seq = stand->charge_seq;
	entry->charge_date = stand->charge_date;
	entry->period_start = stand->period_start;
	entry->period_end = stand->period_end;
	entry->days = stand->days;
	entry->of_days = stand->of_days;
	entry->quantity = negative(stand->quantity);
	entry->has_events = stand->has_events;
	entry->events = stand->events;
	entry->dimensions = stand->dimensions;
	entry->tariff = stand->tariff;
	entry->exact_amount = negative(stand->exact_amount);
	entry->amount = negative(stand->amount);
	entry->description = stand->description;
	entry->tax_code_id = stand->tax_code_id;
	entry->tax_category = stand->tax_category;
	entry->tax_rate = stand->tax_rate;
	entry->reverses_invoice_id = stand->invoice_id;
	entry->reverses_line_no = stand->line_no;
}

/* Whether two numbers that are known are equal. */
static bool
is_equal(Datum a, Datum b)
{
	return DatumGetBool(DirectFunctionCall2(numeric_eq, a, b));
}

/* The items of which anything that was billed is no longer right, sorted. */
typedef struct Items
{
	int count;
	int size;
	int64 *items;
} Items;

static void
add_item(Items *items, int64 item_id)
{
	if (items->count > 0 && items->items[items->count - 1] == item_id)
		return;
	if (items->count == items->size)
	{
		items->size = items->size == 0 ? 64 : 2 * items->size;
		items->items = items->items == NULL ? palloc(sizeof(int64) * items->size)
											: repalloc(items->items, sizeof(int64) * items->size);
	}
	items->items[items->count++] = item_id;
}

/* For qsort and bsearch */
static int
compare_ids(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* The charge's amount as it is printed; 0 where it cannot be rated. */
static Datum
printed_amount(const BillingDerivation *derivation, const BillingCharge *charge)
{
	if (charge->exact_amount == (Datum) 0)
		return (Datum) 0;
	return NumericGetDatum(billing_core_round(DatumGetNumeric(charge->exact_amount),
											  derivation->parties[charge->party].minor_unit,
											  derivation->biller.half_even));
}

/* Compare the charge of a changed account with what was billed. */
static void
compare_charge(Stands *stands, BillingCharge *charge, Datum amount, Items *corrected,
			   BillingEntries *entries)
{
	int32 last_seq;
	Stand *stand = find_stand(stands, charge, &last_seq);
	BillingEntry *entry;

	if (stand != NULL)
	{
		/* what cannot be rated now leaves what was billed as it is */
		stand->settled = amount == (Datum) 0;
		if (amount != (Datum) 0 && is_equal(amount, stand->amount) &&
			is_equal(charge->quantity, stand->quantity))
		{
			stand->settled = true;
			return;
		}
		add_item(corrected, charge->item_id);
	}
	entry = enter_charge(charge, amount, entries);
	/* a charge that was ever billed for these days, even if it was credited since, makes this one a correction */
	entry->charge_seq = last_seq + 1;
}

/* Corrections are billed on the day that is derived, not on the days that they are for. */
static void
date_corrections(const BillingDerivation *derivation, const Items *corrected,
				 BillingEntries *entries)
{
	int i;

	for (i = 0; i < entries->count; i++)
	{
		BillingEntry *entry = &entries->entries[i];

		if (!entry->is_credit && derivation->parties[entry->party].is_changed &&
			(entry->charge_seq > 1 ||
			 (corrected->count > 0 && bsearch(&entry->item_id, corrected->items, corrected->count,
											  sizeof(int64), compare_ids) != NULL)))
			entry->billing_date = derivation->parties[entry->party].through;
	}
}

/* Derive the lines that settle the difference, sorted as they are numbered. */
void
billing_invoicing_differ(BillingDerivation *derivation, BillingEntries *entries)
{
	BillingLabels *labels;
	BillingCharges charges;
	Stands stands = { 0 };
	Items corrected = { 0 };
	int i;

	memset(entries, 0, sizeof(BillingEntries));
	billing_invoicing_entitle(derivation, &charges);
	read_stands(derivation, &stands);
	labels = billing_invoicing_open_labels(derivation);
	for (i = 0; i < charges.count; i++)
	{
		BillingCharge *charge = &charges.charges[i];
		const BillingParty *party = &derivation->parties[charge->party];
		Datum amount = printed_amount(derivation, charge);
		int before = entries->count;

		CHECK_FOR_INTERRUPTS();
		if (party->is_changed)
			compare_charge(&stands, charge, amount, &corrected, entries);
		else
			(void) enter_charge(charge, amount, entries);
		if (entries->count > before)
			billing_invoicing_label_charge(labels, party, charge->product_id,
										   &entries->entries[before]);
	}
	for (i = 0; i < stands.count; i++)
	{
		if (!stands.stands[i].stands || stands.stands[i].settled)
			continue;
		enter_credit(derivation, &stands.stands[i], entries);
		billing_invoicing_label_credit(labels, &entries->entries[entries->count - 1]);
		add_item(&corrected, stands.stands[i].item_id);
	}
	billing_invoicing_close_labels(labels);
	if (corrected.count > 0)
		qsort(corrected.items, corrected.count, sizeof(int64), compare_ids);
	date_corrections(derivation, &corrected, entries);
	if (entries->count > 0)
		qsort(entries->entries, entries->count, sizeof(BillingEntry), compare_entries);
}
