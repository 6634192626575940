/*
 * invoicing_missing.c
 *		The exceptions of a billing run: charges that cannot be billed, those that
 *		now can, and what stands against its documents.
 *
 * There are few of them as a rule; each kind is read and written by one statement
 * for a slice.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_document.h"
#include "rating/rating.h"
#include "utils/builtins.h"

/* Of missing charges: $2 items, $3 period starts, $4 ends, $5 quantities, $6 events, $7 dimensions, $8 tariffs */
#define MISSING_CHARGES                                                                       \
	"unnest($2::bigint[], $3::date[], $4::date[], $5::numeric[], $6::bigint[], $7::text[],"   \
	" $8::text[]) WITH ORDINALITY AS m (item_id, period_start, period_end, quantity, events," \
	" dimensions, tariff, place)"                                                             \
	" CROSS JOIN LATERAL (SELECT i.code, i.contract_id FROM billing.contract_item i"          \
	"  WHERE i.entity_id = $1 AND i.item_id = m.item_id OFFSET 0) i"                          \
	" CROSS JOIN LATERAL (SELECT c.code FROM billing.contract c WHERE c.entity_id = $1"       \
	"  AND c.contract_id = i.contract_id OFFSET 0) c"

static BillingStatement describe = {
	"SELECT CASE WHEN m.tariff IS NULL THEN format('item %s of contract %s has no price on %s',"
	"   i.code, c.code, m.period_start)"
	"  ELSE format('item %s of contract %s, %s to %s: %s', i.code, c.code, m.period_start,"
	"   m.period_end - 1, billing_internal.charge_problem(m.tariff::billing.tariff, m.quantity,"
	"    m.events, m.dimensions)) END FROM " MISSING_CHARGES " ORDER BY m.place",
	8,
	{ INT4OID, INT8ARRAYOID, DATEARRAYOID, DATEARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	  TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* The same, and $9 accounts, $10 their codes, $11 billing dates, $12 details */
static BillingStatement raise_charges = {
	"WITH missing AS (SELECT m.*, i.code AS item, c.code AS contract, ($9::bigint[])[m.place] AS account_id,"
	"  ($10::text[])[m.place] AS account, ($11::date[])[m.place] AS billing_date,"
	"  ($12::text[])[m.place] AS detail FROM " MISSING_CHARGES "),"
	" unbilled AS ("
	"  INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	"  SELECT $1, k.kind, billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions),"
	"   d.account, d.detail,"
	"   jsonb_build_object('account_id', d.account_id, 'billing_date', d.billing_date, 'contract',"
	"    d.contract, 'item', d.item, 'period_start', d.period_start, 'period_end', d.period_end,"
	"    'quantity', d.quantity, 'dimensions', nullif(d.dimensions, '')::jsonb, 'tariff', d.tariff::jsonb),"
	"   now() + make_interval(days => k.deadline_days)"
	"  FROM missing d JOIN billing.exception_kind k"
	"   ON k.kind = CASE WHEN d.tariff IS NULL THEN 'missing_price' ELSE 'rating_failed' END"
	"  ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE SET state = 'open', resolved_at = NULL,"
	"   resolved_by = NULL, resolution = NULL, detail = excluded.detail, payload = excluded.payload,"
	"   raised_at = now(), deadline = excluded.deadline"
	"  WHERE x.state = 'resolved' RETURNING 1),"
	" again AS (INSERT INTO billing.account_change (entity_id, account_id, reason)"
	"  SELECT DISTINCT $1, account_id, 'unbilled charge' FROM missing)"
	" SELECT count(*) FROM unbilled",
	12,
	{ INT4OID, INT8ARRAYOID, DATEARRAYOID, DATEARRAYOID, NUMERICARRAYOID, INT8ARRAYOID,
	  TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TEXTARRAYOID, DATEARRAYOID, TEXTARRAYOID },
	NULL
};

/* $1 entity: whether any charge waits */
static BillingStatement any_waits = {
	"SELECT FROM billing.exception WHERE entity_id = $1 AND state = 'open'"
	" AND kind IN ('missing_price', 'rating_failed') LIMIT 1",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 items, $3 period starts, $4 ends, $5 dimensions of charges that are billed, $6 who, $7 run */
static BillingStatement settle = {
	"UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $6,"
	" resolution = 'billed by run ' || $7"
	" FROM unnest($2, $3, $4, $5) AS d (item_id, period_start, period_end, dimensions)"
	" WHERE x.entity_id = $1 AND x.state = 'open' AND x.kind IN ('missing_price', 'rating_failed')"
	" AND x.dedupe_key = billing_internal.charge_key(d.item_id, d.period_start, d.period_end, d.dimensions)",
	7,
	{ INT4OID, INT8ARRAYOID, DATEARRAYOID, DATEARRAYOID, TEXTARRAYOID, INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 documents, $3 accounts, $4 kinds, $5 details */
static BillingStatement raise_problems = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)"
	" SELECT $1, k.kind, format('D%s version 1', p.document_id), p.account, p.document_id,"
	"  p.detail, now() + make_interval(days => k.deadline_days)"
	" FROM unnest($2, $3, $4, $5) AS p (document_id, account, kind, detail)"
	" JOIN billing.exception_kind k ON k.kind = p.kind"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING",
	5,
	{ INT4OID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* The arguments $1 to $8 for the charges without an amount. */
static void
fill_missing(const BillingMaking *making, Datum *arguments)
{
	int count = making->entries.count - making->nlines;
	Datum *columns[7];
	bool *nulls[7];
	static const Oid types[7] = {
		INT8OID, DATEOID, DATEOID, NUMERICOID, INT8OID, TEXTOID, TEXTOID
	};
	int i;
	int n;

	for (n = 0; n < 7; n++)
	{
		columns[n] = palloc(sizeof(Datum) * count);
		nulls[n] = palloc0(sizeof(bool) * count);
	}
	for (i = 0; i < count; i++)
	{
		const BillingEntry *entry = &making->entries.entries[making->nlines + i];

		columns[0][i] = Int64GetDatum(entry->item_id);
		columns[1][i] = DateADTGetDatum(entry->period_start);
		columns[2][i] = DateADTGetDatum(entry->period_end);
		columns[3][i] = entry->quantity;
		columns[4][i] = Int64GetDatum(entry->events);
		nulls[4][i] = !entry->has_events;
		columns[5][i] = CStringGetTextDatum(entry->dimensions);
		nulls[6][i] = entry->tariff == (Datum) 0;
		if (!nulls[6][i])
			columns[6][i] = CStringGetTextDatum(
				billing_rating_text((const BillingTariff *) DatumGetPointer(entry->tariff)));
	}
	arguments[0] = Int32GetDatum(making->run->entity_id);
	for (n = 0; n < 7; n++)
		arguments[1 + n] = billing_invoicing_array(columns[n], nulls[n], count, types[n]);
}

/* The document that a charge would be on, or NULL. */
static BillingDocument *
document_of(const BillingMaking *making, const BillingEntry *entry)
{
	int low = 0;
	int high = making->ndocuments;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		const BillingDocument *document = &making->documents[middle];

		if (document->party < entry->party ||
			(document->party == entry->party && document->billing_date < entry->billing_date))
			low = middle + 1;
		else
			high = middle;
	}
	if (low < making->ndocuments && making->documents[low].party == entry->party &&
		making->documents[low].billing_date == entry->billing_date)
		return &making->documents[low];
	return NULL;
}

/* Say of each charge without an amount why, and of each document what it lacks. */
void
billing_invoicing_describe_missing(BillingMaking *making)
{
	int count = making->entries.count - making->nlines;
	Datum arguments[8];
	int i;

	if (count == 0)
		return;
	fill_missing(making, arguments);
	billing_core_run(&describe, arguments, NULL, true);
	for (i = 0; i < count; i++)
	{
		BillingEntry *entry = &making->entries.entries[making->nlines + i];
		BillingDocument *document = document_of(making, entry);

		/* it has no line that could say it otherwise */
		entry->description = billing_core_text_value(i, 0);
		if (document != NULL &&
			(document->unpriced == NULL || strcmp(entry->description, document->unpriced) < 0))
			document->unpriced = entry->description;
	}
}

/* Raise the charges without an amount; they are looked at again by the next run.  Returns how many are new. */
int64
billing_invoicing_raise_missing(BillingMaking *making)
{
	int count = making->entries.count - making->nlines;
	Datum arguments[12];
	Datum *columns[4];
	int i;
	int n;

	if (count == 0)
		return 0;
	fill_missing(making, arguments);
	for (n = 0; n < 4; n++)
		columns[n] = palloc(sizeof(Datum) * count);
	for (i = 0; i < count; i++)
	{
		const BillingEntry *entry = &making->entries.entries[making->nlines + i];
		const BillingParty *party = &making->derivation.parties[entry->party];

		columns[0][i] = Int64GetDatum(party->account_id);
		columns[1][i] = CStringGetTextDatum(party->code);
		columns[2][i] = DateADTGetDatum(entry->billing_date);
		columns[3][i] = CStringGetTextDatum(entry->description);
	}
	arguments[8] = billing_invoicing_array(columns[0], NULL, count, INT8OID);
	arguments[9] = billing_invoicing_array(columns[1], NULL, count, TEXTOID);
	arguments[10] = billing_invoicing_array(columns[2], NULL, count, DATEOID);
	arguments[11] = billing_invoicing_array(columns[3], NULL, count, TEXTOID);
	billing_core_run(&raise_charges, arguments, NULL, false);
	return DatumGetInt64(billing_core_value(0, 0, NULL));
}

/* Resolve the exceptions of charges that are billed now. */
void
billing_invoicing_settle_missing(BillingMaking *making)
{
	static const Oid types[4] = { INT8OID, DATEOID, DATEOID, TEXTOID };
	Datum arguments[7];
	Datum *columns[4];
	int count = 0;
	int i;
	int n;

	arguments[0] = Int32GetDatum(making->run->entity_id);
	if (making->nlines == 0 || billing_core_run(&any_waits, arguments, NULL, false) == 0)
		return;
	for (n = 0; n < 4; n++)
		columns[n] = palloc(sizeof(Datum) * making->nlines);
	for (i = 0; i < making->nlines; i++)
	{
		const BillingEntry *entry = &making->entries.entries[i];

		if (entry->is_credit)
			continue;
		columns[0][count] = Int64GetDatum(entry->item_id);
		columns[1][count] = DateADTGetDatum(entry->period_start);
		columns[2][count] = DateADTGetDatum(entry->period_end);
		columns[3][count++] = CStringGetTextDatum(entry->dimensions);
	}
	for (n = 0; n < 4; n++)
		arguments[1 + n] = billing_invoicing_array(columns[n], NULL, count, types[n]);
	arguments[5] = Int32GetDatum(billing_core_actor_person());
	arguments[6] = Int64GetDatum(making->run->run_id);
	billing_core_run(&settle, arguments, NULL, false);
}

/* Raise what stands against documents; their rows are written. */
void
billing_invoicing_raise_problems(BillingMaking *making)
{
	static const Oid types[4] = { INT8OID, TEXTOID, TEXTOID, TEXTOID };
	Datum arguments[5];
	Datum *columns[4];
	int size = 64;
	int count = 0;
	int i;
	int n;

	for (n = 0; n < 4; n++)
		columns[n] = palloc(sizeof(Datum) * size);
	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];
		Datum *texts;
		int ntexts;

		if (document->problems == NULL)
			continue;
		deconstruct_array(document->problems, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL,
						  &ntexts);
		for (n = 0; n < ntexts; n += 2)
		{
			if (count == size)
			{
				int c;

				size *= 2;
				for (c = 0; c < 4; c++)
					columns[c] = repalloc(columns[c], sizeof(Datum) * size);
			}
			columns[0][count] = Int64GetDatum(document->document_id);
			columns[1][count] =
				CStringGetTextDatum(making->derivation.parties[document->party].code);
			columns[2][count] = texts[n];
			columns[3][count++] = texts[n + 1];
		}
	}
	if (count == 0)
		return;
	arguments[0] = Int32GetDatum(making->run->entity_id);
	for (n = 0; n < 4; n++)
		arguments[1 + n] = billing_invoicing_array(columns[n], NULL, count, types[n]);
	billing_core_run(&raise_problems, arguments, NULL, false);
}
