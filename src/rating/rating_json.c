/*
 * rating_json.c
 *		Reads the JSON text of a tariff into a tree, once, with bounds on its
 *		size, depth, keys, elements and strings, and refuses duplicate keys.
 *
 * What the values mean is left to rating_field.c and rating_validate.c.  The
 * server's own JSON parser is not used: it keeps the last of duplicate keys,
 * knows no bounds, and its API differs between server versions.
 */
#include "pg_compat.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "rating/rating_private.h"

/* how much of a wrong value an error shows */
#define SHOWN_BYTES 40

typedef struct Reader
{
	const char *text;
	const char *cursor;
	const char *end;
	int depth;
} Reader;

static BillingJson *read_value(Reader *reader, BillingJson *parent, char *key);

/* Shorten a text for an error, at a character boundary. */
static char *
shown(const char *text)
{
	int length = (int) strlen(text);

	if (length <= SHOWN_BYTES)
		return pstrdup(text);
	return psprintf("%.*s...", pg_mbcliplen(text, length, SHOWN_BYTES), text);
}

/* Name a value's place in the text, such as tiers[3].up_to. */
char *
billing_rating_json_path(const BillingJson *value)
{
	char *above;

	if (value->parent == NULL)
		return pstrdup("the tariff");
	if (value->parent->parent == NULL && value->key != NULL)
		return shown(value->key);
	above = value->parent->parent == NULL ? pstrdup("") : billing_rating_json_path(value->parent);
	if (value->key != NULL)
		return psprintf("%s.%s", above, shown(value->key));
	return psprintf("%s[%d]", above, value->index);
}

/* Describe the value that is wrong. */
static char *
describe(const BillingJson *where)
{
	char *path = billing_rating_json_path(where);

	switch (where->kind)
	{
		case BILLING_JSON_NULL:
			return psprintf("%s is null.", path);
		case BILLING_JSON_BOOLEAN:
			return psprintf("%s is a boolean.", path);
		case BILLING_JSON_NUMBER:
			return psprintf("%s is %s.", path, shown(where->text));
		case BILLING_JSON_STRING:
			return psprintf("%s is \"%s\".", path, shown(where->text));
		case BILLING_JSON_ARRAY:
			return psprintf("%s is an array of %d.", path, where->nchildren);
		case BILLING_JSON_OBJECT:
			return psprintf("%s is an object.", path);
	}
	return path;
}

/* Refuse the tariff because of one field; the message and detail name it. */
void
billing_rating_refuse(const BillingJson *where, const char *problem, const char *hint)
{
	ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
			errmsg("invalid tariff: %s %s", billing_rating_json_path(where), problem),
			errdetail("%s", describe(where)), errhint("%s", hint));
}

/* Refuse a text that is not JSON. */
BILLING_NORETURN static void
refuse_syntax(Reader *reader, const BillingJson *parent, const char *expected)
{
	ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
			errmsg("invalid tariff: not valid JSON, expected %s", expected),
			parent == NULL
				? errdetail("At byte %d of the text.", (int) (reader->cursor - reader->text) + 1)
				: errdetail("At byte %d of the text, inside %s.",
							(int) (reader->cursor - reader->text) + 1,
							billing_rating_json_path(parent)),
			errhint("A tariff is a JSON object, such as "
					"{\"model\": \"per_unit\", \"unit\": \"0.05\"}."));
}

static void
skip_space(Reader *reader)
{
	while (reader->cursor < reader->end && (*reader->cursor == ' ' || *reader->cursor == '\t' ||
											*reader->cursor == '\n' || *reader->cursor == '\r'))
		reader->cursor++;
}

/* The next character that is not space, 0 at the end. */
static char
peek(Reader *reader)
{
	skip_space(reader);
	return reader->cursor < reader->end ? *reader->cursor : '\0';
}

static BillingJson *
new_value(BillingJsonKind kind, BillingJson *parent, char *key)
{
	BillingJson *value = palloc0(sizeof(BillingJson));

	value->kind = kind;
	value->parent = parent;
	value->key = key;
	value->index = parent == NULL ? 0 : parent->nchildren;
	return value;
}

/* Read the four digits of a \u escape. */
static pg_wchar
read_hex(Reader *reader, const BillingJson *parent)
{
	pg_wchar code = 0;

	for (int i = 0; i < 4; i++)
	{
		char c = reader->cursor < reader->end ? *reader->cursor : '\0';

		if (c >= '0' && c <= '9')
			code = code * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			code = code * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			code = code * 16 + (c - 'A' + 10);
		else
			refuse_syntax(reader, parent, "four hexadecimal digits after \\u");
		reader->cursor++;
	}
	return code;
}

/* Read what follows a backslash and append the character to a string. */
static int
read_escape(Reader *reader, const BillingJson *parent, char *target)
{
	char c = reader->cursor < reader->end ? *reader->cursor : '\0';
	pg_wchar code;

	reader->cursor++;
	if (c == '"' || c == '\\' || c == '/')
	{
		*target = c;
		return 1;
	}
	if (c != 'u')
	{
		reader->cursor--;
		refuse_syntax(reader, parent,
					  "an escape of a printable character (\\\", \\\\, \\/ or \\u)");
	}
	code = read_hex(reader, parent);
	if (is_utf16_surrogate_first(code))
	{
		pg_wchar second = 0;

		if (reader->end - reader->cursor >= 2 && reader->cursor[0] == '\\' &&
			reader->cursor[1] == 'u')
		{
			reader->cursor += 2;
			second = read_hex(reader, parent);
		}
		if (!is_utf16_surrogate_second(second))
			refuse_syntax(reader, parent, "the second half of a surrogate pair");
		code = surrogate_pair_to_codepoint(code, second);
	}
	else if (is_utf16_surrogate_second(code))
		refuse_syntax(reader, parent, "the first half of a surrogate pair before the second");
	if (code < 0x20 || code == 0x7F)
		refuse_syntax(reader, parent, "a printable character");

	/* raises an error of class 22 where the server's encoding lacks it */
	pg_unicode_to_server(code, (unsigned char *) target);
	return (int) strlen(target);
}

/* Read a string, the cursor being on its opening quote. */
static char *
read_string(Reader *reader, const BillingJson *parent)
{
	char result[BILLING_TARIFF_MAX_STRING + MAX_UNICODE_EQUIVALENT_STRING + 2];
	int length = 0;

	reader->cursor++;
	for (;;)
	{
		unsigned char c;

		if (reader->cursor >= reader->end)
			refuse_syntax(reader, parent, "a closing quote");
		c = (unsigned char) *reader->cursor;
		if (c == '"')
			break;
		if (c < 0x20 || c == 0x7F)
			refuse_syntax(reader, parent, "a printable character");
		reader->cursor++;
		if (c == '\\')
			length += read_escape(reader, parent, result + length);
		else
			result[length++] = (char) c;
		if (length > BILLING_TARIFF_MAX_STRING)
			refuse_syntax(reader, parent,
						  psprintf("a string of at most %d bytes", BILLING_TARIFF_MAX_STRING));
	}
	reader->cursor++;
	result[length] = '\0';
	return pstrdup(result);
}

/* Read a number and keep it as written; rating_field.c says what it may be. */
static BillingJson *
read_number(Reader *reader, BillingJson *parent, char *key)
{
	BillingJson *value = new_value(BILLING_JSON_NUMBER, parent, key);
	const char *start = reader->cursor;

	while (reader->cursor < reader->end &&
		   ((*reader->cursor >= '0' && *reader->cursor <= '9') || *reader->cursor == '-' ||
			*reader->cursor == '+' || *reader->cursor == '.' || *reader->cursor == 'e' ||
			*reader->cursor == 'E'))
		reader->cursor++;
	value->text = pnstrdup(start, reader->cursor - start);
	return value;
}

/* Read true, false or null. */
static BillingJson *
read_word(Reader *reader, BillingJson *parent, char *key)
{
	static const struct
	{
		const char *word;
		int length;
		BillingJsonKind kind;
	} words[] = { { "null", 4, BILLING_JSON_NULL },
				  { "true", 4, BILLING_JSON_BOOLEAN },
				  { "false", 5, BILLING_JSON_BOOLEAN } };

	for (int i = 0; i < (int) lengthof(words); i++)
	{
		if (reader->end - reader->cursor >= words[i].length &&
			memcmp(reader->cursor, words[i].word, words[i].length) == 0)
		{
			reader->cursor += words[i].length;
			return new_value(words[i].kind, parent, key);
		}
	}
	refuse_syntax(reader, parent, "a value");
}

/* Append a child; children are few enough to check each key against all. */
static void
add_child(BillingJson *parent, BillingJson *child, BillingJson **last)
{
	if (child->key != NULL)
	{
		const BillingJson *same = billing_rating_json_get(parent, child->key);

		if (same != NULL)
			billing_rating_refuse(child, "is given twice", "Give each key once.");
		if (parent->nchildren >= BILLING_TARIFF_MAX_KEYS)
			billing_rating_refuse(parent,
								  psprintf("has more than %d keys", BILLING_TARIFF_MAX_KEYS),
								  "No object of a tariff needs as many.");
	}
	else if (parent->nchildren >= BILLING_TARIFF_MAX_ELEMENTS)
		billing_rating_refuse(parent,
							  psprintf("has more than %d elements", BILLING_TARIFF_MAX_ELEMENTS),
							  "Combine tiers, or split the price into several.");
	if (*last == NULL)
		parent->first = child;
	else
		(*last)->next = child;
	*last = child;
	parent->nchildren++;
}

/* Read an array or an object, the cursor being on its opening bracket. */
static BillingJson *
read_container(Reader *reader, BillingJson *parent, char *key, bool is_object)
{
	BillingJson *value =
		new_value(is_object ? BILLING_JSON_OBJECT : BILLING_JSON_ARRAY, parent, key);
	BillingJson *last = NULL;
	char close = is_object ? '}' : ']';

	if (reader->depth >= BILLING_TARIFF_MAX_DEPTH)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
				errmsg("invalid tariff: nested deeper than %d levels", BILLING_TARIFF_MAX_DEPTH),
				errdetail("At byte %d of the text.", (int) (reader->cursor - reader->text) + 1),
				errhint("The deepest tariff is a matrix whose cells have tiers: six levels."));
	reader->depth++;
	reader->cursor++;
	if (peek(reader) == close)
	{
		reader->cursor++;
		reader->depth--;
		return value;
	}
	for (;;)
	{
		char *child_key = NULL;
		BillingJson *child;

		CHECK_FOR_INTERRUPTS();
		if (is_object)
		{
			if (peek(reader) != '"')
				refuse_syntax(reader, value, "a key in double quotes");
			child_key = read_string(reader, value);
			if (peek(reader) != ':')
				refuse_syntax(reader, value, "a colon after the key");
			reader->cursor++;
		}
		child = read_value(reader, value, child_key);
		add_child(value, child, &last);

		if (peek(reader) == ',')
			reader->cursor++;
		else if (peek(reader) == close)
			break;
		else
			refuse_syntax(reader, value,
						  is_object ? "a comma or a closing brace"
									: "a comma or a closing bracket");
	}
	reader->cursor++;
	reader->depth--;
	return value;
}

/* Read any value; recursion ends at BILLING_TARIFF_MAX_DEPTH. */
static BillingJson *
read_value(Reader *reader, BillingJson *parent, char *key)
{
	char c = peek(reader);
	BillingJson *value;

	check_stack_depth();
	if (c == '{' || c == '[')
		return read_container(reader, parent, key, c == '{');
	if (c == '"')
	{
		value = new_value(BILLING_JSON_STRING, parent, key);
		value->text = read_string(reader, parent);
		return value;
	}
	if (c == '-' || (c >= '0' && c <= '9'))
		return read_number(reader, parent, key);
	return read_word(reader, parent, key);
}

/* Find a key of an object; NULL when it is absent. */
BillingJson *
billing_rating_json_get(const BillingJson *object, const char *key)
{
	for (BillingJson *child = object->first; child != NULL; child = child->next)
	{
		if (strcmp(child->key, key) == 0)
			return child;
	}
	return NULL;
}

/* Parse the text of a tariff in the current memory context. */
BillingJson *
billing_rating_json(const char *text, Size length)
{
	Reader reader;
	BillingJson *value;

	if (length > BILLING_TARIFF_MAX_TEXT)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
				errmsg("invalid tariff: longer than %d bytes", BILLING_TARIFF_MAX_TEXT),
				errdetail("The text has %zu bytes.", length),
				errhint("Split the price into several tariffs."));
	reader.text = reader.cursor = text;
	reader.end = text + length;
	reader.depth = 0;
	if (peek(&reader) != '{')
		refuse_syntax(&reader, NULL, "an opening brace");
	value = read_value(&reader, NULL, NULL);
	skip_space(&reader);
	if (reader.cursor < reader.end)
		refuse_syntax(&reader, NULL, "nothing after the closing brace");
	return value;
}
