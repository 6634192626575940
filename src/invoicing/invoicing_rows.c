/*
 * invoicing_rows.c
 *		Writes the rows of a run's documents, table by table, many at once below
 *		SQL: documents, lines, taxes, steps and messages, and last, when they have
 *		numbers, invoices and audit records.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "audit/audit.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "core/core.h"
#include "core/json.h"
#include "core/write.h"
#include "invoicing/invoicing_document.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* The columns of each table, in the order in which rows give their values. */
static const char *const document_columns[] = { "entity_id",  "document_id", "kind",   "state",
												"version",	  "maker_id",	 "amount", "currency",
												"created_at", "state_since" };
static const char *const line_columns[] = {
	"entity_id",
	"invoice_id",
	"line_no",
	"kind",
	"item_id",
	"version_id",
	"charge_seq",
	"charge_date",
	"period_start",
	"period_end",
	"description",
	"quantity",
	"events",
	"dimensions",
	"tariff",
	"days",
	"of_days",
	"exact_amount",
	"amount",
	"tax_code_id",
	"tax_category",
	"tax_rate",
	"reverses_invoice_id",
	"reverses_line_no",
	"discarded",
};
static const char *const tax_columns[] = { "entity_id", "invoice_id",		"tax_no", "category",
										   "rate",		"exemption_reason", "base",	  "tax" };
static const char *const step_columns[] = { "entity_id", "document_id", "version",
											"action",	 "from_state",	"to_state",
											"actor_id",	 "happened_at", "time_in_state" };
static const char *const invoice_columns[] = {
	"entity_id", "invoice_id", "run_id",   "account_id", "currency",	"billing_date",
	"net",		 "tax",		   "total",	   "series",	 "fiscal_year", "sequence",
	"number",	 "issue_date", "due_date", "seller",	 "buyer",
};

static const char *const message_columns[] = { "entity_id",	  "message_id", "type",
											   "document_id", "version",	"transaction_id",
											   "created_at" };

/* What becomes a message. */
static BillingStatement read_types = {
	"SELECT kind, action, type FROM billing.outbox_type WHERE kind IN ('invoice', 'credit_note')",
	0,
	{ 0 },
	NULL
};

/* A row while its values are set, one after the other. */
typedef struct Row
{
	BillingWriter *writer;
	MemoryContext caller;
	int count;
	Datum values[32];
	bool nulls[32];
} Row;

/* Begin a row, in the memory of the writer. */
static void
begin_row(Row *row)
{
	row->caller = MemoryContextSwitchTo(row->writer->rows_context);
	row->count = 0;
}

/* Set the next value. */
static void
put(Row *row, Datum value, bool isnull)
{
	row->values[row->count] = value;
	row->nulls[row->count++] = isnull;
}

/* A value that is known, a number or a pointer that may be missing, an id, a text. */
#define PUT(row, value) put(row, value, false)
#define PUT_OR_NULL(row, value) put(row, value, (value) == (Datum) 0)
#define PUT_ID(row, value) put(row, Int64GetDatum(value), (value) == 0)

static void
put_text(Row *row, const char *value)
{
	put(row, value != NULL ? CStringGetTextDatum(value) : (Datum) 0, value == NULL);
}

/* Write the row. */
static void
end_row(Row *row)
{
	MemoryContextSwitchTo(row->caller);
	Assert(row->count == row->writer->count);
	(void) billing_core_write_row(row->writer, row->values, row->nulls);
}

/* The headers. */
static void
write_headers(const BillingMaking *making, Datum maker, Datum now)
{
	Row row = { .writer = billing_core_begin_write("document", document_columns,
												   lengthof(document_columns), NULL) };
	int i;

	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];

		begin_row(&row);
		PUT(&row, Int32GetDatum(making->run->entity_id));
		PUT(&row, Int64GetDatum(document->document_id));
		put_text(&row, billing_document_kind(document));
		put_text(&row, billing_document_state(document));
		PUT(&row, Int32GetDatum(document->nsteps));
		PUT(&row, maker);
		PUT(&row, document->total);
		put_text(&row, making->derivation.parties[document->party].currency);
		PUT(&row, now);
		PUT(&row, now);
		end_row(&row);
	}
	(void) billing_core_end_write(row.writer);
}

/* A line of a document. */
static void
put_line(Row *row, const BillingMaking *making, const BillingDocument *document, int n)
{
	const BillingEntry *entry = &making->entries.entries[document->first + n];

	PUT(row, Int32GetDatum(making->run->entity_id));
	PUT(row, Int64GetDatum(document->document_id));
	PUT(row, Int32GetDatum(n + 1));
	put_text(row, entry->is_credit ? "credit" : "charge");
	PUT(row, Int64GetDatum(entry->item_id));
	PUT(row, Int64GetDatum(entry->version_id));
	PUT(row, Int32GetDatum(entry->charge_seq));
	PUT(row, DateADTGetDatum(entry->charge_date));
	PUT(row, DateADTGetDatum(entry->period_start));
	PUT(row, DateADTGetDatum(entry->period_end));
	put_text(row, entry->description);
	PUT(row, entry->quantity);
	put(row, Int64GetDatum(entry->events), !entry->has_events);
	put_text(row, entry->dimensions);
	PUT(row, entry->tariff);
	PUT(row, Int32GetDatum(entry->days));
	PUT(row, Int32GetDatum(entry->of_days));
	PUT(row, entry->exact_amount);
	PUT(row, entry->amount);
	PUT_ID(row, entry->tax_code_id);
	put_text(row, entry->tax_category);
	PUT_OR_NULL(row, entry->tax_rate);
	PUT_ID(row, entry->reverses_invoice_id);
	put(row, Int32GetDatum(entry->reverses_line_no), !entry->is_credit);
	PUT(row, BoolGetDatum(false));
}

static void
write_lines(const BillingMaking *making)
{
	Row row = { .writer = billing_core_begin_write("invoice_line", line_columns,
												   lengthof(line_columns), NULL) };
	int i;
	int n;

	for (i = 0; i < making->ndocuments; i++)
	{
		for (n = 0; n < making->documents[i].count; n++)
		{
			begin_row(&row);
			put_line(&row, making, &making->documents[i], n);
			end_row(&row);
		}
	}
	(void) billing_core_end_write(row.writer);
}

static void
write_taxes(const BillingMaking *making)
{
	Row row = { .writer = billing_core_begin_write("invoice_tax", tax_columns,
												   lengthof(tax_columns), NULL) };
	int i;
	int n;

	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];

		/* those without a category come last */
		for (n = 0; n < document->ntaxes && document->taxes[n].category != NULL; n++)
		{
			const BillingTax *tax = &document->taxes[n];

			begin_row(&row);
			PUT(&row, Int32GetDatum(making->run->entity_id));
			PUT(&row, Int64GetDatum(document->document_id));
			PUT(&row, Int32GetDatum(n + 1));
			put_text(&row, tax->category);
			PUT(&row, tax->rate);
			put_text(&row, tax->exemption_reason);
			PUT(&row, tax->base);
			PUT(&row, tax->tax);
			end_row(&row);
		}
	}
	(void) billing_core_end_write(row.writer);
}

static void
write_steps(const BillingMaking *making, Datum actor, Datum now)
{
	Row row = { .writer = billing_core_begin_write("document_step", step_columns,
												   lengthof(step_columns), NULL) };
	Interval no_time = { 0 };
	int i;
	int n;

	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];

		for (n = 0; n < document->nsteps; n++)
		{
			const BillingStep *step = &document->steps[n];

			begin_row(&row);
			PUT(&row, Int32GetDatum(making->run->entity_id));
			PUT(&row, Int64GetDatum(document->document_id));
			PUT(&row, Int32GetDatum(n + 1));
			put_text(&row, step->action);
			put_text(&row, step->from_state);
			put_text(&row, step->to_state);
			PUT(&row, actor);
			PUT(&row, now);
			put(&row, IntervalPGetDatum(&no_time), n == 0);
			end_row(&row);
		}
	}
	(void) billing_core_end_write(row.writer);
}

/* A message about each document whose last step is one that others are told of. */
static void
write_messages(const BillingMaking *making, Datum now)
{
	Oid sequence = get_relname_relid("outbox_message_id_seq", get_namespace_oid("billing", false));
	Row row = { .writer = billing_core_begin_write("outbox", message_columns,
												   lengthof(message_columns), NULL) };
	int types = (int) billing_core_run(&read_types, NULL, NULL, true);
	char *known[3][32];
	int i;
	int n;

	types = Min(types, (int) lengthof(known[0]));
	for (i = 0; i < types; i++)
	{
		for (n = 0; n < 3; n++)
			known[n][i] = billing_core_text_value(i, n);
	}
	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];
		const char *kind = billing_document_kind(document);
		const char *action = document->steps[document->nsteps - 1].action;

		for (n = 0; n < types; n++)
		{
			if (strcmp(known[0][n], kind) == 0 && strcmp(known[1][n], action) == 0)
				break;
		}
		if (n == types)
			continue;
		begin_row(&row);
		PUT(&row, Int32GetDatum(making->run->entity_id));
		PUT(&row, Int64GetDatum(nextval_internal(sequence, false)));
		put_text(&row, known[2][n]);
		PUT(&row, Int64GetDatum(document->document_id));
		PUT(&row, Int32GetDatum(document->nsteps));
		PUT(&row, FullTransactionIdGetDatum(GetTopFullTransactionId()));
		PUT(&row, now);
		end_row(&row);
	}
	(void) billing_core_end_write(row.writer);
}

/* Write documents with all but what they have when they are numbered. */
void
billing_invoicing_write_documents(BillingMaking *making)
{
	Datum actor = Int32GetDatum(billing_core_actor_person());
	Datum now = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());

	write_headers(making, actor, now);
	write_lines(making);
	write_taxes(making);
	write_steps(making, actor, now);
	write_messages(making, now);
	CommandCounterIncrement();
}

/* The rows of the invoices. */
static void
write_invoices(const BillingMaking *making)
{
	Row row = { .writer = billing_core_begin_write("invoice", invoice_columns,
												   lengthof(invoice_columns), NULL) };
	int i;

	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];
		const BillingParty *party = &making->derivation.parties[document->party];
		bool open = document->number == NULL;

		begin_row(&row);
		PUT(&row, Int32GetDatum(making->run->entity_id));
		PUT(&row, Int64GetDatum(document->document_id));
		PUT(&row, Int64GetDatum(making->run->run_id));
		PUT(&row, Int64GetDatum(party->account_id));
		put_text(&row, party->currency);
		PUT(&row, DateADTGetDatum(document->billing_date));
		PUT(&row, document->net);
		PUT(&row, document->tax);
		PUT(&row, document->total);
		put_text(&row, open ? NULL : billing_invoicing_series(document->is_credit_note));
		put(&row, Int32GetDatum(making->fiscal_year), open);
		put(&row, Int64GetDatum(document->sequence), open);
		put_text(&row, document->number);
		put(&row, DateADTGetDatum(making->issue_date), open);
		put(&row, DateADTGetDatum(document->due_date), open);
		put(&row, JsonbPGetDatum(making->seller), open);
		put(&row, JsonbPGetDatum(document->buyer), open);
		end_row(&row);
	}
	(void) billing_core_end_write(row.writer);
}

/* What the log says of a document: all that is printed on it, its lines and taxes by their digest. */
static Jsonb *
describe(const BillingMaking *making, const BillingDocument *document, const char *content)
{
	const BillingParty *party = &making->derivation.parties[document->party];
	BillingJson json;

	billing_core_json_begin(&json);
	billing_core_json_text(&json, "state", billing_document_state(document));
	billing_core_json_integer(&json, "version", document->nsteps);
	billing_core_json_integer(&json, "run", making->run->run_id);
	billing_core_json_integer(&json, "account", party->account_id);
	billing_core_json_date(&json, "billing_date", document->billing_date);
	billing_core_json_text(&json, "currency", party->currency);
	billing_core_json_number(&json, "net", DatumGetNumeric(document->net));
	billing_core_json_number(&json, "tax", DatumGetNumeric(document->tax));
	billing_core_json_number(&json, "total", DatumGetNumeric(document->total));
	billing_core_json_text(&json, "content", content);
	if (document->number != NULL)
	{
		billing_core_json_text(&json, "number", document->number);
		billing_core_json_date(&json, "issue_date", making->issue_date);
		billing_core_json_date(&json, "due_date", document->due_date);
	}
	return billing_core_json_end(&json);
}

/* An audit record of each document, of its last step. */
static void
write_audit(const BillingMaking *making)
{
	BillingAuditWriter *writer = billing_audit_begin_write();
	BillingTariffTexts known = { .context = CurrentMemoryContext };
	StringInfoData bytes;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "audit record", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller;
	int i;

	initStringInfo(&bytes);
	caller = MemoryContextSwitchTo(context);
	for (i = 0; i < making->ndocuments; i++)
	{
		const BillingDocument *document = &making->documents[i];

		CHECK_FOR_INTERRUPTS();
		billing_audit_write(writer, making->run->entity_id,
							cstring_to_text(document->steps[document->nsteps - 1].action),
							cstring_to_text(billing_document_kind(document)),
							cstring_to_text(psprintf(INT64_FORMAT, document->document_id)), NULL,
							describe(making, document,
									 billing_invoicing_content(making, document, &bytes, &known)),
							NULL);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	billing_audit_end_write(writer);
}

/* Write the invoices of documents that have their numbers, with an audit record each. */
void
billing_invoicing_write_invoices(BillingMaking *making)
{
	write_invoices(making);
	write_audit(making);
	CommandCounterIncrement();
}
