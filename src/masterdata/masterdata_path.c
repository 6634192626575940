/*
 * masterdata_path.c
 *		What a meter's definition may say: SQL/JSON paths, predicates and group
 *		keys.
 *
 * A path is refused that cannot give the same answer for every event (a
 * variable, a method that knows the time zone) or an inexact one (double()), and
 * a predicate that is none: a filter of it would leave out everything.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Methods that are exact and depend on nothing but the data. */
static const char *const methods[] = { "type",	  "size",	  "abs",   "floor",
									   "ceiling", "keyvalue", "number" };

/* Whether an error is about the text that was to be a path, and not about the server. */
static bool
is_about_text(int sqlstate)
{
	int category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_DATA_EXCEPTION ||
		   category == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
		   category == ERRCODE_FEATURE_NOT_SUPPORTED || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Parse a path, or return NULL where it is none.  Parsing takes no locks and
 * holds no resources beside memory, so its errors may be caught without a
 * subtransaction.
 */
static JsonPath *
parse_path(const char *path)
{
	MemoryContext context = CurrentMemoryContext;
	JsonPath *volatile parsed = NULL;

	PG_TRY();
	{
		parsed = billing_masterdata_parse_path(path);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (!is_about_text(error->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return parsed;
}

/* Pass over a text in quotes of a path's canonical form; at is behind the first quote. */
static const char *
skip_quoted(const char *at)
{
	while (*at != '\0' && *at != '"')
		at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
	return *at == '"' ? at + 1 : at;
}

/* Whether the letters at the beginning of a text, up to the first other byte, name a method. */
static bool
is_method(const char *at)
{
	size_t length = strcspn(at, "(");
	int i;

	for (i = 0; i < (int) lengthof(methods); i++)
	{
		if (strlen(methods[i]) == length && memcmp(methods[i], at, length) == 0)
			return true;
	}
	return false;
}

/*
 * Whether a path has no variables and no methods but those above.  In its
 * canonical form every name and text stands in quotes: ."a" is a member, .a() a
 * method, $"a" a variable.
 */
static bool
is_calculation(JsonPath *path)
{
	const char *at = DatumGetCString(DirectFunctionCall1(jsonpath_out, PointerGetDatum(path)));

	while (*at != '\0')
	{
		if (at[0] == '"')
			at = skip_quoted(at + 1);
		else if (at[0] == '$' && at[1] == '"')
			return false;
		else if (at[0] == '.' && at[1] >= 'a' && at[1] <= 'z' && !is_method(at + 1))
			return false;
		else
			at++;
	}
	return true;
}

/* Whether a text is a path that a meter may use; if so, it is parsed. */
static bool
is_valid_path(const char *text, JsonPath **path)
{
	if (strlen(text) > BILLING_METER_MAX_PATH)
		return false;
	*path = parse_path(text);
	return *path != NULL && is_calculation(*path);
}

/* Whether a path answers true or false, and does not find values. */
static bool
is_predicate(JsonPath *path)
{
	JsonPathItem root;

	jspInit(&root, path);
	if (jspHasNext(&root))
		return false;
	switch (root.type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiNot:
		case jpiIsUnknown:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiExists:
		case jpiStartsWith:
		case jpiLikeRegex:
			return true;
		default:
			return false;
	}
}

/*
 * Split a group key at its first =: "region" is the field of that name,
 * "size=$.spec.size" a path under a name.  The key is changed; path is NULL for
 * a field.
 */
void
billing_masterdata_split_group_key(char *key, char **path)
{
	*path = strchr(key, '=');
	if (*path != NULL)
		*(*path)++ = '\0';
}

/* Whether a group key is a name that a dimension of a tariff can have, with a path or without. */
static bool
is_group_key(char *key)
{
	JsonPath *parsed;
	char *path;
	size_t length;
	size_t i;

	billing_masterdata_split_group_key(key, &path);
	length = strlen(key);
	if (length == 0 || length > BILLING_METER_MAX_KEY_NAME || key[0] == ' ' ||
		key[length - 1] == ' ')
		return false;
	for (i = 0; i < length; i++)
	{
		if ((unsigned char) key[i] < 0x20 || key[i] == 0x7f)
			return false;
	}
	return path == NULL || (billing_masterdata_is_path(path) && is_valid_path(path, &parsed));
}

/*
 * Whether a text that stands for a value is a path, and not the name of a field:
 * every path that looks at the data has a $, wherever it begins.
 */
bool
billing_masterdata_is_path(const char *text)
{
	return strchr(text, '$') != NULL;
}

/* Parse a path that is_json_path() has passed. */
JsonPath *
billing_masterdata_parse_path(const char *path)
{
	return DatumGetJsonPathP(DirectFunctionCall1(jsonpath_in, CStringGetDatum(path)));
}

PG_FUNCTION_INFO_V1(billing_masterdata_is_json_path);
PG_FUNCTION_INFO_V1(billing_masterdata_is_json_predicate);
PG_FUNCTION_INFO_V1(billing_masterdata_are_group_keys);

/* billing_internal.is_json_path(path text) RETURNS boolean */
Datum
billing_masterdata_is_json_path(PG_FUNCTION_ARGS)
{
	JsonPath *path;

	PG_RETURN_BOOL(is_valid_path(text_to_cstring(PG_GETARG_TEXT_PP(0)), &path));
}

/* billing_internal.is_json_predicate(path text) RETURNS boolean */
Datum
billing_masterdata_is_json_predicate(PG_FUNCTION_ARGS)
{
	JsonPath *path;

	PG_RETURN_BOOL(is_valid_path(text_to_cstring(PG_GETARG_TEXT_PP(0)), &path) &&
				   is_predicate(path));
}

/* billing_internal.are_group_keys(keys text[]) RETURNS boolean */
Datum
billing_masterdata_are_group_keys(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(0);
	char *names[BILLING_METER_MAX_KEYS];
	Datum *keys;
	bool *nulls;
	int count;
	int i;
	int j;

	if (ARR_NDIM(array) != 1)
		PG_RETURN_BOOL(false);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &keys, &nulls, &count);
	if (count == 0 || count > BILLING_METER_MAX_KEYS)
		PG_RETURN_BOOL(false);
	for (i = 0; i < count; i++)
	{
		if (nulls[i])
			PG_RETURN_BOOL(false);
		names[i] = TextDatumGetCString(keys[i]);
		if (!is_group_key(names[i]))
			PG_RETURN_BOOL(false);
		for (j = 0; j < i; j++)
		{
			if (strcmp(names[i], names[j]) == 0)
				PG_RETURN_BOOL(false);
		}
	}
	PG_RETURN_BOOL(true);
}
