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

/* A text argument; the empty text where it is null, as format() has it. */
#define TEXT_ARG(n) (PG_ARGISNULL(n) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(n)))
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
find_gaps(FunctionCallInfo fcinfo, Problems *problems)
{
	bool no_address = PG_ARGISNULL(ARG_ADDRESS);
	bool no_country = PG_ARGISNULL(ARG_COUNTRY);

	if (!PG_ARGISNULL(ARG_UNTAXED) && PG_GETARG_INT64(ARG_UNTAXED) > 0)
		add(problems, "missing_tax_code",
			INT64_FORMAT " of " INT64_FORMAT " lines have no tax code with a rate on %s",
			PG_GETARG_INT64(ARG_UNTAXED), PG_ARGISNULL(ARG_LINES) ? 0 : PG_GETARG_INT64(ARG_LINES),
			PG_ARGISNULL(ARG_UNTAXED_SINCE) ? "" : date_text(PG_GETARG_DATEADT(ARG_UNTAXED_SINCE)));
	if (no_address || no_country)
		add(problems, "missing_customer_data", "the customer has no %s%s%s",
			no_address ? "address" : "", no_address && no_country ? ", " : "",
			no_country ? "country" : "");
	else if (TRUE_ARG(ARG_NEEDS_TAX_ID) && PG_ARGISNULL(ARG_TAX_ID))
		add(problems, "missing_customer_data",
			"the customer has no tax id, which reverse charge and intra-community supply need");
	if (TRUE_ARG(ARG_PURCHASE_ORDER_MISSING))
		add(problems, "missing_purchase_order", "account %s requires a purchase order",
			TEXT_ARG(ARG_ACCOUNT));
	if (!PG_ARGISNULL(ARG_UNPRICED))
		add(problems, "missing_price", "it is incomplete: %s", TEXT_ARG(ARG_UNPRICED));
}

/* Whether the document is an invoice, and not a credit note. */
static bool
is_invoice(FunctionCallInfo fcinfo)
{
	text *kind;

	if (PG_ARGISNULL(ARG_KIND))
		return false;
	kind = PG_GETARG_TEXT_PP(ARG_KIND);
	return VARSIZE_ANY_EXHDR(kind) == strlen("invoice") &&
		   memcmp(VARDATA_ANY(kind), "invoice", strlen("invoice")) == 0;
}

/*
 * Whether the account was ever billed like that.  Of a credit note only the size
 * is compared, with that of invoices, and only a larger one is odd.
 */
static void
find_anomaly(FunctionCallInfo fcinfo, Problems *problems, Numeric total, bool invoice)
{
	Numeric bound = billing_core_arg_numeric(fcinfo, ARG_MAX_SCORE, "maximal score");
	Numeric zero = int64_to_numeric(0);
	BillingScore found;

	if (!billing_invoicing_score(invoice ? total : absolute(total),
								 PG_GETARG_ARRAYTYPE_P(ARG_HISTORY), &found))
		return;
	if (compare(absolute(found.score), bound) <= 0 || (!invoice && compare(found.score, zero) < 0))
		return;
	add(problems, "amount_anomaly",
		"the %s of %s %s is %s times the usual deviation of %s %s the median %s of the last %d "
		"invoices",
		invoice ? "total" : "credit", number_text(invoice ? total : absolute(total)),
		TEXT_ARG(ARG_CURRENCY), trimmed_text(absolute(found.score)),
		rounded_text(found.deviation, total, 2), compare(found.score, zero) < 0 ? "below" : "above",
		rounded_text(found.median, total, 0), found.count);
}

/* The bounds that the entity has set, where no person has let the document pass. */
static void
find_excess(FunctionCallInfo fcinfo, Problems *problems, Numeric total, bool invoice)
{
	if (total != NULL && !PG_ARGISNULL(ARG_MAX_AMOUNT))
	{
		Numeric bound = billing_core_arg_numeric(fcinfo, ARG_MAX_AMOUNT, "maximal amount");

		if (compare(absolute(total), bound) > 0)
			add(problems, "amount_bound", "the total of %s %s is beyond the bound of %s",
				number_text(total), TEXT_ARG(ARG_CURRENCY), number_text(bound));
	}
	if (!PG_ARGISNULL(ARG_LINES) && !PG_ARGISNULL(ARG_MAX_LINES) &&
		PG_GETARG_INT64(ARG_LINES) > PG_GETARG_INT32(ARG_MAX_LINES))
		add(problems, "lines_bound", "it has " INT64_FORMAT " lines, beyond the bound of %d",
			PG_GETARG_INT64(ARG_LINES), PG_GETARG_INT32(ARG_MAX_LINES));
	if (total != NULL && !PG_ARGISNULL(ARG_MAX_SCORE) && !PG_ARGISNULL(ARG_HISTORY))
		find_anomaly(fcinfo, problems, total, invoice);
}

/* Whether an invoice asks for money. */
static void
find_not_positive(FunctionCallInfo fcinfo, Problems *problems, Numeric total)
{
	int sign = compare(total, int64_to_numeric(0));

	if (sign < 0 || (sign == 0 && TRUE_ARG(ARG_HOLD_ZERO)))
		add(problems, "not_positive", "the total is %s %s", number_text(total),
			TEXT_ARG(ARG_CURRENCY));
}

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
	Numeric total = billing_core_arg_optional_numeric(fcinfo, ARG_TOTAL, "total");
	bool invoice = is_invoice(fcinfo);
	Problems problems;
	int dims[2];
	int lower_bounds[2] = { 1, 1 };

	problems.count = 0;
	find_gaps(fcinfo, &problems);
	if (invoice && total != NULL)
		find_not_positive(fcinfo, &problems, total);
	if (!TRUE_ARG(ARG_RELEASED))
		find_excess(fcinfo, &problems, total, invoice);
	if (problems.count == 0)
		PG_RETURN_NULL();
	Assert(problems.count <= MAX_PROBLEMS);
	dims[0] = problems.count;
	dims[1] = 2;
	PG_RETURN_ARRAYTYPE_P(construct_md_array(problems.texts, NULL, 2, dims, lower_bounds, TEXTOID,
											 -1, false, TYPALIGN_INT));
}
