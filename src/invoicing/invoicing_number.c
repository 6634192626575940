/*
 * invoicing_number.c
 *		Writes the documents' own rows and gives legal numbers without gaps, with
 *		the parties' particulars as of that moment.
 *
 * The last statement of a transaction, because whoever holds the row of a series
 * keeps all others of the entity waiting.  Numbers are taken in blocks, one for
 * each series, in the order of their names.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/json.h"
#include "invoicing/invoicing_document.h"
#include "utils/builtins.h"

/* The number of documents that need one, in each series. */
enum
{
	CREDIT_NOTES, /* in the order of the names of their series */
	INVOICES,
	SERIES
};
static const char *const series_names[SERIES] = { "CN", "INV" };

/* What the documents of one transaction get their numbers from. */
typedef struct Numbers
{
	DateADT today;
	int32 fiscal_year;
	Jsonb *seller;
	int64 next[SERIES];
} Numbers;

/* $1 entity, $2 series in their order, $3 how many numbers of each */
static BillingStatement take_blocks = {
	"WITH today AS MATERIALIZED ("
	" SELECT t.today, extract(year FROM t.today)::integer + (e.fiscal_year_start > 1"
	"   AND extract(month FROM t.today) >= e.fiscal_year_start)::integer AS fiscal_year,"
	"  jsonb_build_object('name', e.name, 'address', e.address, 'postal_code', e.postal_code,"
	"   'city', e.city, 'country', e.country, 'tax_id', e.tax_id,"
	"   'registration_id', e.registration_id) AS seller"
	" FROM billing.legal_entity e CROSS JOIN LATERAL (SELECT"
	"  (now() AT TIME ZONE e.time_zone)::date AS today) t WHERE e.entity_id = $1"
	"), block AS ("
	" INSERT INTO billing.number_series AS s (entity_id, series, fiscal_year, last_number)"
	" SELECT $1, n.series, t.fiscal_year, n.numbers FROM unnest($2, $3) AS n (series, numbers), today t"
	" ORDER BY n.series ON CONFLICT (entity_id, series, fiscal_year)"
	"  DO UPDATE SET last_number = s.last_number + excluded.last_number"
	" RETURNING series, last_number"
	") SELECT t.today, t.fiscal_year, t.seller, b.series, b.last_number FROM block b CROSS JOIN today t",
	3,
	{ INT4OID, TEXTARRAYOID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 documents that have just been issued: in the order of their numbers */
static BillingStatement read_issued = {
	"SELECT d.document_id, d.kind = 'credit_note', a.payment_terms_days, a.code::text, a.purchase_order,"
	" c.code::text, c.name, c.address, c.postal_code, c.city, c.country, c.tax_id, i.total::numeric"
	" FROM unnest($2) AS q (document_id)"
	" CROSS JOIN LATERAL (SELECT * FROM billing.document d"
	"  WHERE d.entity_id = $1 AND d.document_id = q.document_id OFFSET 0) d"
	" CROSS JOIN LATERAL (SELECT * FROM billing.invoice i"
	"  WHERE i.entity_id = $1 AND i.invoice_id = q.document_id OFFSET 0) i"
	" CROSS JOIN LATERAL (SELECT * FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.account_id = i.account_id OFFSET 0) a"
	" CROSS JOIN LATERAL (SELECT * FROM billing.customer c"
	"  WHERE c.entity_id = $1 AND c.customer_id = a.customer_id OFFSET 0) c"
	" ORDER BY i.billing_date, d.document_id",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 documents, $3 kinds, $4 series, $5 sequences, $6 numbers, $7 due dates, $8 buyers, $9 fiscal year, $10 day, $11 seller, $12 totals */
static BillingStatement write_numbers = {
	"WITH numbered AS MATERIALIZED ("
	" SELECT * FROM unnest($2, $3, $4, $5, $6, $7, $8, $12) AS n (document_id, kind, series, sequence, number,"
	"  due_date, buyer, total)"
	"), written AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT $1, 'number', n.kind, n.document_id::text, jsonb_build_object('number', n.number,"
	"  'issue_date', $10, 'due_date', n.due_date, 'total', n.total) FROM numbered n"
	") UPDATE billing.invoice i SET series = n.series, fiscal_year = $9,"
	"  sequence = n.sequence, issue_date = $10, due_date = n.due_date, seller = $11,"
	"  buyer = n.buyer, number = n.number"
	" FROM numbered n WHERE i.entity_id = $1 AND i.invoice_id = ANY ($2) AND i.invoice_id = n.document_id",
	12,
	{ INT4OID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, DATEARRAYOID,
	  JSONBARRAYOID, INT4OID, DATEOID, JSONBOID, NUMERICARRAYOID },
	NULL
};

/* The series of a document. */
const char *
billing_invoicing_series(bool is_credit_note)
{
	return series_names[is_credit_note ? CREDIT_NOTES : INVOICES];
}

/* Take as many numbers of each series as are needed. */
static void
take(int32 entity_id, const int64 *needed, Numbers *numbers)
{
	Datum series[SERIES];
	Datum counts[SERIES];
	Datum values[3];
	bool isnull;
	uint64 rows;
	uint64 i;
	int count = 0;
	int n;

	for (n = 0; n < SERIES; n++)
	{
		if (needed[n] == 0)
			continue;
		series[count] = CStringGetTextDatum(series_names[n]);
		counts[count++] = Int64GetDatum(needed[n]);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = PointerGetDatum(construct_array(series, count, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(
		construct_array(counts, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	rows = billing_core_run(&take_blocks, values, NULL, false);
	if (rows != (uint64) count)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not take numbers of entity %d", entity_id)));
	numbers->today = DatumGetDateADT(billing_core_value(0, 0, NULL));
	numbers->fiscal_year = DatumGetInt32(billing_core_value(0, 1, NULL));
	numbers->seller = DatumGetJsonbP(billing_core_value_copy(0, 2, false, -1, &isnull));
	for (i = 0; i < rows; i++)
	{
		n = strcmp(billing_core_text_value(i, 3), series_names[CREDIT_NOTES]) == 0 ? CREDIT_NOTES
																				   : INVOICES;
		numbers->next[n] = DatumGetInt64(billing_core_value(i, 4, NULL)) - needed[n] + 1;
	}
}

/* The legal number that a place in a series gives. */
static char *
number_text(const Numbers *numbers, bool is_credit_note, int64 sequence)
{
	return psprintf("%s-%d-%06lld", billing_invoicing_series(is_credit_note), numbers->fiscal_year,
					(long long) sequence);
}

/* The particulars of the account and its customer, as they are printed. */
static Jsonb *
buyer_of(const char *account, const char *purchase_order, const BillingCustomer *customer)
{
	BillingJson json;

	billing_core_json_begin(&json);
	billing_core_json_text(&json, "account", account);
	billing_core_json_text(&json, "customer", customer->code);
	billing_core_json_text(&json, "name", customer->name);
	billing_core_json_text(&json, "address", customer->address);
	billing_core_json_text(&json, "postal_code", customer->postal_code);
	billing_core_json_text(&json, "city", customer->city);
	billing_core_json_text(&json, "country", customer->country);
	billing_core_json_text(&json, "tax_id", customer->tax_id);
	billing_core_json_text(&json, "purchase_order", purchase_order);
	return billing_core_json_end(&json);
}

/* For qsort: in the order of their numbers */
static int
compare_places(const void *a, const void *b)
{
	const BillingDocument *x = *(BillingDocument *const *) a;
	const BillingDocument *y = *(BillingDocument *const *) b;

	if (x->billing_date != y->billing_date)
		return x->billing_date < y->billing_date ? -1 : 1;
	return x->document_id < y->document_id ? -1 : x->document_id > y->document_id;
}

/* Give numbers to a run's documents that are issued, before their rows are written. */
void
billing_invoicing_take_numbers(BillingMaking *making)
{
	BillingDocument **issued = palloc(sizeof(BillingDocument *) * Max(making->ndocuments, 1));
	int64 needed[SERIES] = { 0 };
	Numbers numbers = { 0 };
	int count = 0;
	int i;

	for (i = 0; i < making->ndocuments; i++)
	{
		if (!billing_document_is_issued(&making->documents[i]))
			continue;
		issued[count++] = &making->documents[i];
		needed[making->documents[i].is_credit_note ? CREDIT_NOTES : INVOICES]++;
	}
	if (count == 0)
		return;
	qsort(issued, count, sizeof(BillingDocument *), compare_places);
	/* made before whoever waits for the series waits for it */
	for (i = 0; i < count; i++)
		issued[i]->buyer = buyer_of(making->derivation.parties[issued[i]->party].code,
									making->derivation.parties[issued[i]->party].purchase_order,
									&making->customers[issued[i]->party]);
	take(making->run->entity_id, needed, &numbers);
	making->issue_date = numbers.today;
	making->fiscal_year = numbers.fiscal_year;
	making->seller = numbers.seller;
	for (i = 0; i < count; i++)
	{
		bool is_credit_note = issued[i]->is_credit_note;

		issued[i]->sequence = numbers.next[is_credit_note ? CREDIT_NOTES : INVOICES]++;
		issued[i]->number = number_text(&numbers, is_credit_note, issued[i]->sequence);
		issued[i]->due_date =
			numbers.today + making->derivation.parties[issued[i]->party].payment_terms_days;
	}
}

/* A document that was issued apart from a run. */
typedef struct Issued
{
	Datum document_id;
	bool is_credit_note;
	int32 payment_terms_days;
	Jsonb *buyer;
	Datum total;
} Issued;

/* Read the documents, in the order of their numbers. */
static Issued *
read_documents(int32 entity_id, Datum ids, int64 *needed, int *count)
{
	Datum values[2] = { Int32GetDatum(entity_id), ids };
	uint64 rows = billing_core_run(&read_issued, values, NULL, false);
	Issued *issued = palloc(sizeof(Issued) * Max(rows, 1));
	uint64 i;

	for (i = 0; i < rows; i++)
	{
		BillingCustomer customer = { billing_core_text_value(i, 5), billing_core_text_value(i, 6),
									 billing_core_text_value(i, 7), billing_core_text_value(i, 8),
									 billing_core_text_value(i, 9), billing_core_text_value(i, 10),
									 billing_core_text_value(i, 11) };
		bool isnull;

		issued[i].document_id = Int64GetDatum(DatumGetInt64(billing_core_value(i, 0, NULL)));
		issued[i].is_credit_note = DatumGetBool(billing_core_value(i, 1, NULL));
		issued[i].payment_terms_days = DatumGetInt32(billing_core_value(i, 2, NULL));
		issued[i].buyer =
			buyer_of(billing_core_text_value(i, 3), billing_core_text_value(i, 4), &customer);
		issued[i].total = billing_core_value_copy(i, 12, false, -1, &isnull);
		needed[issued[i].is_credit_note ? CREDIT_NOTES : INVOICES]++;
	}
	*count = (int) rows;
	return issued;
}

/* The columns of the documents, as arguments of write_numbers. */
enum
{
	COLUMN_ID,
	COLUMN_KIND,
	COLUMN_SERIES,
	COLUMN_SEQUENCE,
	COLUMN_NUMBER,
	COLUMN_DUE,
	COLUMN_BUYER,
	COLUMN_TOTAL,
	COLUMNS
};

/* Give numbers to documents that have just been issued. */
void
billing_invoicing_number(int32 entity_id, Datum ids)
{
	static const Oid types[COLUMNS] = { INT8OID, TEXTOID, TEXTOID,	INT8OID,
										TEXTOID, DATEOID, JSONBOID, NUMERICOID };
	int64 needed[SERIES] = { 0 };
	Numbers numbers = { 0 };
	Datum *columns[COLUMNS];
	Datum values[12];
	Issued *issued;
	int count;
	int i;

	issued = read_documents(entity_id, ids, needed, &count);
	if (count == 0)
		return;
	take(entity_id, needed, &numbers);
	for (i = 0; i < COLUMNS; i++)
		columns[i] = palloc(sizeof(Datum) * count);
	for (i = 0; i < count; i++)
	{
		bool is_credit_note = issued[i].is_credit_note;
		int64 sequence = numbers.next[is_credit_note ? CREDIT_NOTES : INVOICES]++;

		columns[COLUMN_ID][i] = issued[i].document_id;
		columns[COLUMN_KIND][i] = CStringGetTextDatum(is_credit_note ? "credit_note" : "invoice");
		columns[COLUMN_SERIES][i] = CStringGetTextDatum(billing_invoicing_series(is_credit_note));
		columns[COLUMN_SEQUENCE][i] = Int64GetDatum(sequence);
		columns[COLUMN_NUMBER][i] =
			CStringGetTextDatum(number_text(&numbers, is_credit_note, sequence));
		columns[COLUMN_DUE][i] = DateADTGetDatum(numbers.today + issued[i].payment_terms_days);
		columns[COLUMN_BUYER][i] = JsonbPGetDatum(issued[i].buyer);
		columns[COLUMN_TOTAL][i] = issued[i].total;
	}
	values[0] = Int32GetDatum(entity_id);
	for (i = 0; i < COLUMNS; i++)
		values[i == COLUMN_TOTAL ? 11 : 1 + i] =
			billing_invoicing_array(columns[i], NULL, count, types[i]);
	values[8] = Int32GetDatum(numbers.fiscal_year);
	values[9] = DateADTGetDatum(numbers.today);
	values[10] = JsonbPGetDatum(numbers.seller);
	billing_core_run(&write_numbers, values, NULL, false);
}
