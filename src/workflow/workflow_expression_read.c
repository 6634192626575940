/*
 * workflow_expression_read.c
 *		Cuts the text of a condition into tokens, and says where it is wrong.
 *
 * What the tokens mean is left to workflow_expression_parse.c.
 */
#include "pg_compat.h"

#include <stdarg.h>

#include "mb/pg_wchar.h"

#include "workflow/workflow_expression.h"

/* how much of the text an error shows */
#define SHOWN_BYTES 40

static const char *const keywords[] = { "or",	"and",	 "not", "is",	  "null",
										"true", "false", "in",	"between" };

static const char *const symbols[] = { "<=", ">=", "<>", "!=", "<", ">", "=",
									   "+",	 "-",  "*",	 "/",  "(", ")", "," };

/* Refuse the condition; the detail says where, in characters from 1. */
void
billing_workflow_refuse_condition(const BillingReader *reader, const char *from, int length,
								  const char *hint, const char *format, ...)
{
	char problem[256];
	int position = pg_mbstrlen_with_len(reader->text, (int) (from - reader->text)) + 1;
	int shown = pg_mbcliplen(from, Max(length, 0), SHOWN_BYTES);
	va_list args;

	va_start(args, format);
	vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_INVALID_CONDITION), errmsg("invalid condition: %s", problem),
			 length > 0 ? errdetail("At position %d: \"%.*s\"%s.", position, shown, from,
									shown < length ? "..." : "")
						: errdetail("At position %d, the end of the text.", position),
			 errhint("%s", hint)));
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Names are written in ASCII, and are told apart by case. */
static bool
begins_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* The length of a name such as amount or payload.weight. */
static int
name_length(const char *from, const char *end)
{
	const char *cursor = from;

	for (;;)
	{
		while (cursor < end && (begins_name(*cursor) || is_digit(*cursor)))
			cursor++;
		if (end - cursor < 2 || *cursor != '.' || !begins_name(cursor[1]))
			return (int) (cursor - from);
		cursor++;
	}
}

/* Take a name, or a keyword, which is recognised in any case. */
static void
take_word(BillingReader *reader)
{
	reader->length = name_length(reader->from, reader->end);
	reader->token = TOKEN_NAME;
	for (int i = 0; i < (int) lengthof(keywords); i++)
	{
		if ((int) strlen(keywords[i]) == reader->length &&
			pg_strncasecmp(reader->from, keywords[i], reader->length) == 0)
		{
			reader->token = TOKEN_KEYWORD;
			strlcpy(reader->word, keywords[i], sizeof(reader->word));
		}
	}
	if (reader->length > BILLING_CONDITION_MAX_NAME)
		billing_workflow_refuse_condition(reader, reader->from, reader->length,
										  "Fields have short names.", "name longer than %d bytes",
										  BILLING_CONDITION_MAX_NAME);
}

/* Take a number: digits, and a point between digits. */
static void
take_number(BillingReader *reader)
{
	const char *cursor = reader->from;
	int digits = 0;

	while (
		cursor < reader->end &&
		(is_digit(*cursor) || (*cursor == '.' && cursor + 1 < reader->end && is_digit(cursor[1]) &&
							   memchr(reader->from, '.', cursor - reader->from) == NULL)))
		digits += *cursor++ != '.';
	reader->length = (int) (cursor - reader->from);
	reader->token = TOKEN_NUMBER;
	if (cursor < reader->end && (begins_name(*cursor) || *cursor == '.'))
		billing_workflow_refuse_condition(reader, reader->from, reader->length + 1,
										  "Write digits with at most one decimal point, such as "
										  "10000 or 0.5.",
										  "malformed number");
	if (digits > BILLING_CONDITION_MAX_DIGITS)
		billing_workflow_refuse_condition(reader, reader->from, reader->length,
										  "Numbers are exact, but not endless.",
										  "number of more than %d digits",
										  BILLING_CONDITION_MAX_DIGITS);
}

/* Take a text in single quotes; a quote inside is doubled. */
static void
take_text(BillingReader *reader)
{
	const char *cursor = reader->from + 1;

	for (;; cursor++)
	{
		if (cursor >= reader->end)
			billing_workflow_refuse_condition(reader, reader->from,
											  (int) (reader->end - reader->from),
											  "Close it with a single quote; a quote inside a "
											  "text is written twice.",
											  "text without end");
		if ((unsigned char) *cursor < 0x20 || *cursor == 0x7F)
			billing_workflow_refuse_condition(reader, reader->from, (int) (cursor - reader->from),
											  "Leave line ends and control characters out.",
											  "unprintable character in a text");
		if (*cursor != '\'')
			continue;
		if (cursor + 1 >= reader->end || cursor[1] != '\'')
			break;
		cursor++;
	}
	reader->length = (int) (cursor + 1 - reader->from);
	reader->token = TOKEN_TEXT;
}

/* Go to the next token. */
void
billing_workflow_next_token(BillingReader *reader)
{
	reader->from += reader->length;
	while (reader->from < reader->end && strchr(" \t\n\r", *reader->from) != NULL)
		reader->from++;
	reader->length = 0;
	reader->word[0] = '\0';
	if (reader->from >= reader->end)
		reader->token = TOKEN_END;
	else if (begins_name(*reader->from))
		take_word(reader);
	else if (is_digit(*reader->from))
		take_number(reader);
	else if (*reader->from == '\'')
		take_text(reader);
	else
	{
		for (int i = 0; i < (int) lengthof(symbols) && reader->length == 0; i++)
		{
			int length = (int) strlen(symbols[i]);

			if (reader->end - reader->from >= length &&
				memcmp(reader->from, symbols[i], length) == 0)
			{
				reader->token = TOKEN_SYMBOL;
				reader->length = length;
				strlcpy(reader->word, symbols[i], sizeof(reader->word));
			}
		}
		if (reader->length == 0)
			billing_workflow_refuse_condition(
				reader, reader->from, pg_mblen(reader->from),
				*reader->from == '"' ? "Texts stand in single quotes."
									 : "A condition has fields, numbers, 'texts', "
									   "comparisons, and, or, not, in, between, is null, "
									   "+ - * / and parentheses.",
				"unexpected character");
	}
}
