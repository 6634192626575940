/*
 * invoicing_problems.c
 *		What stands against a document: what it lacks, and the bounds of its entity
 *		that it exceeds.
 *
 * A billing run and validation apart ask the same function.  What is done about
 * a document is billing_internal.invoice_action()'s business.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_bounds.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"

/* A document has at most one problem of each of these. */
#define MAX_PROBLEMS 9

/* The arguments of billing_internal.invoice_problems(), by position. */
enum
{
	ARG_KIND,
	ARG_TOTAL,
	ARG_CURRENCY,
	ARG_LINES,
	ARG_UNTAXED,
	ARG_UNTAXED_SINCE,
	ARG_NEEDS_TAX_ID,
	ARG_ADDRESS,
	ARG_COUNTRY,
	ARG_TAX_ID,
	ARG_ACCOUNT,
	ARG_PURCHASE_ORDER_MISSING,
	ARG_HOLD_ZERO,
	ARG_UNPRICED,
	ARG_MAX_AMOUNT,
	ARG_MAX_LINES,
	ARG_MAX_SCORE,
	ARG_HISTORY,
	ARG_RELEASED
};

/* What was found so far: kind, detail, kind, detail, ... */
typedef struct Problems
{
	int count;
	Datum texts[2 * MAX_PROBLEMS];
} Problems;

/* A text as format() has it: nothing where it is not known. */
#define TEXT(string) ((string) == NULL ? "" : (string))
/* A text argument, NULL where it is null. */
#define TEXT_ARG(n) (PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n)))
/* Whether a boolean argument is true: what is not known is no problem. */
#define TRUE_ARG(n) (!PG_ARGISNULL(n) && PG_GETARG_BOOL(n))

/* Add a finding. */
static void add(Problems *problems, const char *kind, const char *format, ...)
	pg_attribute_printf(3, 4);

static void
add(Problems *problems, const char *kind, const char *format, ...)
{
	StringInfoData detail;

	initStringInfo(&detail);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&detail, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&detail, needed);
	}
	problems->texts[2 * problems->count] = CStringGetTextDatum(kind);
	problems->texts[2 * problems->count + 1] =
		PointerGetDatum(cstring_to_text_with_len(detail.data, detail.len));
	problems->count++;
	pfree(detail.data);
}

/* A number as it is stored. */
static char *
number_text(Numeric value)
{
	return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value)));
}

/* A number without the zeros at its end. */
static char *
trimmed_text(Numeric value)
{
	return number_text(
		DatumGetNumeric(DirectFunctionCall1(numeric_trim_scale, NumericGetDatum(value))));
}

/* A number with as many decimals as another one, and so many at least. */
static char *
rounded_text(Numeric value, Numeric like, int32 least)
{
	int32 scale = DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(like)));

	return number_text(DatumGetNumeric(DirectFunctionCall2(numeric_round, NumericGetDatum(value),
														   Int32GetDatum(Max(scale, least)))));
}

/* A date as ISO 8601 has it, whatever the session's settings. */
static char *
date_text(DateADT date)
{
	char buffer[MAXDATELEN + 1];
	struct pg_tm tm;

	if (DATE_NOT_FINITE(date))
		EncodeSpecialDate(date, buffer);
	else
	{
		j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
		EncodeDateOnly(&tm, USE_ISO_DATES, buffer);
	}
	return pstrdup(buffer);
}

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

static Numeric
absolute(Numeric value)
{
	return DatumGetNumeric(DirectFunctionCall1(numeric_abs, NumericGetDatum(value)));
}

/* What a legal document must have, and what its customer and account must say. */
static void
find_gaps(const BillingInspection *document, Problems *problems)
{
	bool no_address = document->address == NULL;
	bool no_country = document->country == NULL;

	if (document->untaxed > 0)
		add(problems, "missing_tax_code",
			INT64_FORMAT " of " INT64_FORMAT " lines have no tax code with a rate on %s",
			document->untaxed, document->lines,
			document->has_untaxed_since ? date_text(document->untaxed_since) : "");
	if (no_address || no_country)
		add(problems, "missing_customer_data", "the customer has no %s%s%s",
			no_address ? "address" : "", no_address && no_country ? ", " : "",
			no_country ? "country" : "");
	else if (document->needs_tax_id && document->tax_id == NULL)
		add(problems, "missing_customer_data",
			"the customer has no tax id, which reverse charge and intra-community supply need");
	if (document->purchase_order_missing)
		add(problems, "missing_purchase_order", "account %s requires a purchase order",
			TEXT(document->account));
	if (document->unpriced != NULL)
		add(problems, "missing_price", "it is incomplete: %s", document->unpriced);
}

/*
 * Whether the account was ever billed like that.  Of a credit note only the size
 * is compared, with that of invoices, and only a larger one is odd.
 */
static void
find_anomaly(const BillingInspection *document, Problems *problems)
{
	bool invoice = document->is_invoice;
	Numeric total = document->total;
	BillingScore found;

	if (!billing_invoicing_score(invoice ? total : absolute(total), document->history, &found))
		return;
	if (compare(absolute(found.score), document->max_score) <= 0 ||
		(!invoice && compare(found.score, int64_to_numeric(0)) < 0))
		return;
	add(problems, "amount_anomaly",
		"the %s of %s %s is %s times the usual deviation of %s %s the median %s of the last %d "
		"invoices",
		invoice ? "total" : "credit", number_text(invoice ? total : absolute(total)),
		TEXT(document->currency), trimmed_text(absolute(found.score)),
		rounded_text(found.deviation, total, 2),
		compare(found.score, int64_to_numeric(0)) < 0 ? "below" : "above",
		rounded_text(found.median, total, 0), found.count);
}

/* The bounds that the entity has set, where no person has let the document pass. */
static void
find_excess(const BillingInspection *document, Problems *problems)
{
	if (document->total != NULL && document->max_amount != NULL &&
		compare(absolute(document->total), document->max_amount) > 0)
		add(problems, "amount_bound", "the total of %s %s is beyond the bound of %s",
			number_text(document->total), TEXT(document->currency),
			number_text(document->max_amount));
	if (document->has_max_lines && document->lines > document->max_lines)
		add(problems, "lines_bound", "it has " INT64_FORMAT " lines, beyond the bound of %d",
			document->lines, document->max_lines);
	if (document->total != NULL && document->max_score != NULL && document->history != NULL)
		find_anomaly(document, problems);
}

/* Whether an invoice asks for money. */
static void
find_not_positive(const BillingInspection *document, Problems *problems)
{
	int sign = compare(document->total, int64_to_numeric(0));

	if (sign < 0 || (sign == 0 && document->hold_zero))
		add(problems, "not_positive", "the total is %s %s", number_text(document->total),
			TEXT(document->currency));
}

/* Tell what stands against a document: {{kind, detail}, ...}, or NULL. */
ArrayType *
billing_invoicing_inspect(const BillingInspection *document)
{
	Problems problems;
	int dims[2];
	int lower_bounds[2] = { 1, 1 };

	problems.count = 0;
	find_gaps(document, &problems);
	if (document->is_invoice && document->total != NULL)
		find_not_positive(document, &problems);
	if (!document->released)
		find_excess(document, &problems);
	if (problems.count == 0)
		return NULL;
	Assert(problems.count <= MAX_PROBLEMS);
	dims[0] = problems.count;
	dims[1] = 2;
	return construct_md_array(problems.texts, NULL, 2, dims, lower_bounds, TEXTOID, -1, false,
							  TYPALIGN_INT);
}

/*
 * What validation does with a draft: hold it, approve it within the limit, which
 * may be NULL, or submit it to a person.  What a bound held up and a person let
 * go is for another person to approve.
 */
const char *
billing_invoicing_action(bool has_problems, Numeric total, Numeric limit, bool released)
{
	if (has_problems)
		return "hold";
	return !released && total != NULL && limit != NULL && compare(absolute(total), limit) <= 0
			   ? "auto_approve"
			   : "submit";
}

/* Whether a text argument is a word. */
static bool
is_word_arg(FunctionCallInfo fcinfo, int argno, const char *word)
{
	return !PG_ARGISNULL(argno) && strcmp(text_to_cstring(PG_GETARG_TEXT_PP(argno)), word) == 0;
}

PG_FUNCTION_INFO_V1(billing_invoicing_next_action);
PG_FUNCTION_INFO_V1(billing_invoicing_problems);

/*
 * billing_internal.invoice_problems(kind text, total numeric, currency text,
 *     lines bigint, untaxed bigint, untaxed_since date, needs_tax_id boolean,
 *     address text, country text, tax_id text, account text,
 *     purchase_order_missing boolean, hold_zero boolean, unpriced text,
 *     max_amount numeric, max_lines integer, max_score numeric, history numeric[],
 *     released boolean) RETURNS text[]
 *
 * {{kind, detail}, ...}, or null where nothing stands against the document.
 */
Datum
billing_invoicing_problems(PG_FUNCTION_ARGS)
{
	BillingInspection document = { 0 };
	ArrayType *problems;

	document.is_invoice = is_word_arg(fcinfo, ARG_KIND, "invoice");
	document.total = billing_core_arg_optional_numeric(fcinfo, ARG_TOTAL, "total");
	document.currency = TEXT_ARG(ARG_CURRENCY);
	document.lines = PG_ARGISNULL(ARG_LINES) ? 0 : PG_GETARG_INT64(ARG_LINES);
	document.untaxed = PG_ARGISNULL(ARG_UNTAXED) ? 0 : PG_GETARG_INT64(ARG_UNTAXED);
	document.has_untaxed_since = !PG_ARGISNULL(ARG_UNTAXED_SINCE);
	if (document.has_untaxed_since)
		document.untaxed_since = PG_GETARG_DATEADT(ARG_UNTAXED_SINCE);
	document.needs_tax_id = TRUE_ARG(ARG_NEEDS_TAX_ID);
	document.address = TEXT_ARG(ARG_ADDRESS);
	document.country = TEXT_ARG(ARG_COUNTRY);
	document.tax_id = TEXT_ARG(ARG_TAX_ID);
	document.account = TEXT_ARG(ARG_ACCOUNT);
	document.purchase_order_missing = TRUE_ARG(ARG_PURCHASE_ORDER_MISSING);
	document.hold_zero = TRUE_ARG(ARG_HOLD_ZERO);
	document.unpriced = TEXT_ARG(ARG_UNPRICED);
	document.max_amount =
		billing_core_arg_optional_numeric(fcinfo, ARG_MAX_AMOUNT, "maximal amount");
	document.has_max_lines = !PG_ARGISNULL(ARG_MAX_LINES);
	if (document.has_max_lines)
		document.max_lines = PG_GETARG_INT32(ARG_MAX_LINES);
	document.max_score = billing_core_arg_optional_numeric(fcinfo, ARG_MAX_SCORE, "maximal score");
	document.history = PG_ARGISNULL(ARG_HISTORY) ? NULL : PG_GETARG_ARRAYTYPE_P(ARG_HISTORY);
	document.released = TRUE_ARG(ARG_RELEASED);
	problems = billing_invoicing_inspect(&document);
	if (problems == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(problems);
}

/*
 * billing_internal.invoice_action(problems text[], total numeric, approval_limit numeric,
 *     released boolean) RETURNS text
 */
Datum
billing_invoicing_next_action(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(
		billing_invoicing_action(!PG_ARGISNULL(0), PG_ARGISNULL(1) ? NULL : PG_GETARG_NUMERIC(1),
								 PG_ARGISNULL(2) ? NULL : PG_GETARG_NUMERIC(2), TRUE_ARG(3))));
}
