/*
 * metering_form.c
 *		What stays the same when people and programs write a name in their own
 *		way: its form without case, separators and leading zeros, and how much of
 *		two forms is alike.
 *
 * The measure is the number of trigrams that both have, divided by the number
 * that at least one has, in ten-thousandths, rounded down.
 */
#include "pg_compat.h"

#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "metering/metering.h"
#include "utils/builtins.h"
#include "utils/formatting.h"

/* Between two numbers; a separator between anything else is left out. */
#define BETWEEN_NUMBERS ' '

/* Ten to the fourth: what is all alike. */
#define ALIKE 10000

/* The text in lower case; what is ASCII alone needs no locale. */
static char *
fold(BillingUsageText text)
{
	char *folded = palloc(text.length + 1);
	int i;

	for (i = 0; i < text.length; i++)
	{
		if (IS_HIGHBIT_SET(text.bytes[i]))
			return str_tolower(text.bytes, text.length, DEFAULT_COLLATION_OID);
		folded[i] = pg_ascii_tolower((unsigned char) text.bytes[i]);
	}
	folded[text.length] = '\0';
	return folded;
}

static bool
is_digit(pg_wchar c)
{
	return c >= '0' && c <= '9';
}

/* What is neither a letter nor a digit; beyond ASCII all are letters. */
static bool
is_separator(pg_wchar c)
{
	return c < 0x80 && !is_digit(c) && !(c >= 'a' && c <= 'z');
}

/*
 * Cut the characters of a folded text into the forms: compact without
 * separators, usual also without leading zeros, and the numbers alone.
 */
static void
reduce(BillingUsageForm *form, const pg_wchar *chars, int count)
{
	pg_wchar before = 0;
	int i;

	for (i = 0; i < count; i++)
	{
		pg_wchar c = chars[i];
		bool begins = is_digit(c) && (i == 0 || !is_digit(chars[i - 1]));

		if (is_separator(c))
			continue;
		if (begins && is_digit(before))
		{
			form->compact[form->compact_length++] = BETWEEN_NUMBERS;
			form->usual[form->usual_length++] = BETWEEN_NUMBERS;
		}
		form->compact[form->compact_length++] = c;
		before = c;
		if (begins && form->numbers_length > 0)
			form->numbers[form->numbers_length++] = BETWEEN_NUMBERS;
		if (begins)
		{
			/* the last zero of a number stays, if nothing else does */
			while (c == '0' && i + 1 < count && is_digit(chars[i + 1]))
				form->compact[form->compact_length++] = c = chars[++i];
		}
		form->usual[form->usual_length++] = c;
		if (is_digit(c))
			form->numbers[form->numbers_length++] = c;
	}
}

static int
compare_trigrams(const void *a, const void *b)
{
	uint64 first = *(const uint64 *) a;
	uint64 second = *(const uint64 *) b;

	return first < second ? -1 : first > second;
}

/* Gather the distinct trigrams of the usual form, two blanks before it and one behind. */
static void
cut_trigrams(BillingUsageForm *form)
{
	uint64 trigram = ((uint64) ' ' << 21) | ' ';
	int distinct = 0;
	int i;

	for (i = 0; i <= form->usual_length; i++)
	{
		uint64 next = i < form->usual_length ? form->usual[i] : ' ';

		/* a character has at most 21 bits in UTF-8 */
		trigram = (trigram << 21 | next) & (((uint64) 1 << 63) - 1);
		form->trigrams[i] = trigram;
	}
	qsort(form->trigrams, form->usual_length + 1, sizeof(uint64), compare_trigrams);
	for (i = 0; i <= form->usual_length; i++)
	{
		if (i == 0 || form->trigrams[i] != form->trigrams[i - 1])
			form->trigrams[distinct++] = form->trigrams[i];
	}
	form->trigram_count = distinct;
}

/* The forms of a text, in the current memory context; one of separators alone has no trigrams. */
BillingUsageForm *
billing_metering_form(BillingUsageText text)
{
	BillingUsageForm *form = palloc0(sizeof(BillingUsageForm));
	char *folded = fold(text);
	int length = (int) strlen(folded);
	pg_wchar *chars = palloc(sizeof(pg_wchar) * (length + 1));
	int count = pg_mb2wchar_with_len(folded, chars, length);

	form->text = text;
	form->folded.bytes = folded;
	form->folded.length = length;
	form->compact = palloc(sizeof(pg_wchar) * (2 * count + 1));
	form->usual = palloc(sizeof(pg_wchar) * (2 * count + 1));
	form->numbers = palloc(sizeof(pg_wchar) * (2 * count + 1));
	reduce(form, chars, count);
	form->trigrams = palloc(sizeof(uint64) * (form->usual_length + 1));
	if (form->usual_length > 0)
		cut_trigrams(form);
	return form;
}

/* Whether two stretches of characters are the same. */
static bool
are_same(const pg_wchar *a, int a_length, const pg_wchar *b, int b_length)
{
	return a_length == b_length && memcmp(a, b, sizeof(pg_wchar) * a_length) == 0;
}

/* In what two forms differ at most. */
BillingUsageLikeness
billing_metering_likeness(const BillingUsageForm *a, const BillingUsageForm *b)
{
	if (billing_metering_compare_texts(&a->text, &b->text) == 0)
		return LIKE_IDENTICAL;
	if (billing_metering_compare_texts(&a->folded, &b->folded) == 0)
		return LIKE_BUT_CASE;
	if (are_same(a->compact, a->compact_length, b->compact, b->compact_length))
		return LIKE_BUT_SEPARATORS;
	if (are_same(a->usual, a->usual_length, b->usual, b->usual_length))
		return LIKE_BUT_ZEROS;
	if (are_same(a->numbers, a->numbers_length, b->numbers, b->numbers_length))
		return LIKE_SIMILAR;
	return LIKE_OTHER_NUMBERS;
}

/* How much is alike of two forms that have so many trigrams in common. */
int32
billing_metering_similarity(const BillingUsageForm *a, const BillingUsageForm *b, int common)
{
	int all = a->trigram_count + b->trigram_count - common;

	return all == 0 ? 0 : common * ALIKE / all;
}

PG_FUNCTION_INFO_V1(billing_metering_usual_form);
PG_FUNCTION_INFO_V1(billing_metering_alike);

/*
 * The form of an argument, of which at most 256 bytes count, as in a subject.
 */
static BillingUsageForm *
arg_form(FunctionCallInfo fcinfo, int argno)
{
	text *value = PG_GETARG_TEXT_PP(argno);
	BillingUsageText part;

	part.bytes = VARDATA_ANY(value);
	part.length = pg_mbcliplen(part.bytes, (int) VARSIZE_ANY_EXHDR(value), BILLING_USAGE_MAX_NAME);
	return billing_metering_form(part);
}

/*
 * billing_internal.usual_form(name text) RETURNS text
 *
 * In lower case, without separators but a blank between two numbers, and
 * without leading zeros: ACME-007 and Acme 7 both give acme7.
 */
Datum
billing_metering_usual_form(PG_FUNCTION_ARGS)
{
	BillingUsageForm *form = arg_form(fcinfo, 0);
	char *result = palloc(form->usual_length * MAX_MULTIBYTE_CHAR_LEN + 1);
	int length = pg_wchar2mb_with_len(form->usual, result, form->usual_length);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(result, length));
}

/* billing_internal.alike(a text, b text) RETURNS numeric: from 0 to 1, with 4 decimals */
Datum
billing_metering_alike(PG_FUNCTION_ARGS)
{
	BillingUsageForm *a = arg_form(fcinfo, 0);
	BillingUsageForm *b = arg_form(fcinfo, 1);
	int common = 0;
	int i = 0;
	int j = 0;

	while (i < a->trigram_count && j < b->trigram_count)
	{
		int order = compare_trigrams(&a->trigrams[i], &b->trigrams[j]);

		common += order == 0;
		i += order <= 0;
		j += order >= 0;
	}
	PG_RETURN_NUMERIC(billing_metering_confidence(billing_metering_similarity(a, b, common)));
}
