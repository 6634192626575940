/*
 * rating_field.c
 *		Reads one field of a tariff: its type, its number, its name; an unknown
 *		key or a wrong value is refused by name.
 *
 * How fields go together is left to rating_validate.c.
 */
#include "pg_compat.h"

#include "rating/rating_private.h"

/* a number longer than this is refused unread */
#define MAX_NUMBER_TEXT 64

const char *const billing_rating_model_names[] = { NULL,		 "per_unit",
												   "graduated",	 "volume",
												   "stairstep",	 "package",
												   "percentage", "graduated_percentage",
												   "dynamic",	 "matrix" };

const char *const billing_rating_term_names[] = { "free_units", "fixed",	 "free_events",
												  "event_min",	"event_max", "free_amount",
												  "minimum",	"maximum" };

const char *const billing_rating_zero_names[] = { "none", "first_tier", "one_package" };

/* Refuse a key that is not in the list; what says where, as in "of a tier". */
void
billing_rating_check_keys(const BillingJson *object, const char *what, const char *const *keys,
						  int nkeys)
{
	for (const BillingJson *child = object->first; child != NULL; child = child->next)
	{
		bool known = false;
		StringInfoData list;

		for (int i = 0; i < nkeys && !known; i++)
			known = strcmp(child->key, keys[i]) == 0;
		if (known)
			continue;
		initStringInfo(&list);
		for (int i = 0; i < nkeys; i++)
			appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ", keys[i]);
		billing_rating_refuse(child, psprintf("is not a key of %s", what),
							  psprintf("The keys are %s.", list.data));
	}
}

/* Get a key that must be there and of one kind (a number may be a string). */
const BillingJson *
billing_rating_require(const BillingJson *object, const char *key, BillingJsonKind kind,
					   const char *hint)
{
	const BillingJson *field = billing_rating_json_get(object, key);

	if (field == NULL)
		billing_rating_refuse(object, psprintf("has no \"%s\"", key), hint);
	if (field->kind != kind && !(kind == BILLING_JSON_NUMBER && field->kind == BILLING_JSON_STRING))
	{
		static const char *const names[] = { "null",	 "a boolean", "a number",
											 "a string", "an array",  "an object" };

		billing_rating_refuse(field, psprintf("is not %s", names[kind]), hint);
	}
	return field;
}

/* Read a string that names something: not empty, without space around it. */
const char *
billing_rating_read_name(const BillingJson *field)
{
	const char *hint = "Names and values of dimensions are strings that are not empty.";
	Size length;

	if (field->kind != BILLING_JSON_STRING)
		billing_rating_refuse(field, "is not a string", hint);
	length = strlen(field->text);
	if (length == 0)
		billing_rating_refuse(field, "is empty", hint);
	if (field->text[0] == ' ' || field->text[length - 1] == ' ')
		billing_rating_refuse(field, "begins or ends with a space", hint);
	return field->text;
}

/* The digits of a number as written, before its range is looked at. */
typedef struct Digits
{
	bool negative;
	bool too_many;
	uint64 mantissa; /* without leading and trailing zeros */
	int ndigits;	 /* of the mantissa */
	int exponent;	 /* the number is mantissa * 10^exponent */
} Digits;

/* Add a digit; zeros are held back until a digit follows that is not zero. */
static void
add_digit(Digits *digits, int *zeros, int digit)
{
	if (digit == 0)
	{
		if (digits->ndigits > 0)
			(*zeros)++;
		return;
	}
	digits->ndigits += *zeros + 1;
	if (digits->ndigits > BILLING_DECIMAL_DIGITS)
	{
		digits->too_many = true;
		*zeros = 0;
		return;
	}
	digits->mantissa =
		digits->mantissa * billing_core_decimal_power[*zeros] * UINT64CONST(10) + (uint64) digit;
	*zeros = 0;
}

/* Scan a number by the grammar of JSON; false when it is none. */
static bool
scan_number(const char *text, Digits *digits)
{
	const char *cursor = text;
	int zeros = 0;
	int exponent = 0;

	memset(digits, 0, sizeof(*digits));
	if (*cursor == '-')
	{
		digits->negative = true;
		cursor++;
	}
	if (*cursor < '0' || *cursor > '9' ||
		(cursor[0] == '0' && cursor[1] >= '0' && cursor[1] <= '9'))
		return false;
	for (; *cursor >= '0' && *cursor <= '9'; cursor++)
		add_digit(digits, &zeros, *cursor - '0');
	if (*cursor == '.')
	{
		cursor++;
		if (*cursor < '0' || *cursor > '9')
			return false;
		for (; *cursor >= '0' && *cursor <= '9'; cursor++)
		{
			add_digit(digits, &zeros, *cursor - '0');
			digits->exponent--;
		}
	}
	if (*cursor == 'e' || *cursor == 'E')
	{
		bool down;

		cursor++;
		down = *cursor == '-';
		if (*cursor == '-' || *cursor == '+')
			cursor++;
		if (*cursor < '0' || *cursor > '9')
			return false;
		for (; *cursor >= '0' && *cursor <= '9'; cursor++)
			exponent = Min(exponent * 10 + (*cursor - '0'), 10000);
		digits->exponent += down ? -exponent : exponent;
	}
	digits->exponent += zeros;
	return *cursor == '\0';
}

/*
 * Read a number, given as a JSON number or a string, as value * 10^-scale
 * without trailing zeros: at most 12 decimals and 18 digits, so that it fits
 * an int64 with room for one addition.
 */
void
billing_rating_read_number(const BillingJson *field, int sign, int64 *value, int *scale)
{
	const char *hint = "A number is written as 12.5, 1e3 or \"12.5\", with at most 12 decimals "
					   "and 18 digits.";
	Digits digits;

	if (field->kind != BILLING_JSON_NUMBER && field->kind != BILLING_JSON_STRING)
		billing_rating_refuse(field, "is not a number", hint);
	if (strlen(field->text) > MAX_NUMBER_TEXT && field->kind == BILLING_JSON_NUMBER)
		billing_rating_refuse(field, psprintf("is longer than %d characters", MAX_NUMBER_TEXT),
							  hint);
	if (strlen(field->text) > MAX_NUMBER_TEXT || !scan_number(field->text, &digits))
		billing_rating_refuse(field, "is not a number", hint);

	if (digits.ndigits == 0)
		digits.exponent = 0;
	if (-digits.exponent > BILLING_TARIFF_MAX_DECIMALS)
		billing_rating_refuse(field,
							  psprintf("has more than %d decimals", BILLING_TARIFF_MAX_DECIMALS),
							  hint);
	if (digits.too_many || digits.ndigits + Max(digits.exponent, 0) > BILLING_DECIMAL_DIGITS)
		billing_rating_refuse(field, psprintf("has more than %d digits", BILLING_DECIMAL_DIGITS),
							  hint);

	if (digits.ndigits > 0 && digits.negative && sign != BILLING_FIELD_SIGNED)
		billing_rating_refuse(field, "is negative",
							  "Prices may be negative, as a rebate; quantities, bounds and limits "
							  "may not.");
	if (digits.ndigits == 0 && sign == BILLING_FIELD_POSITIVE)
		billing_rating_refuse(field, "is zero", "The value must be above zero.");

	*value = (int64) digits.mantissa * billing_core_decimal_power[Max(digits.exponent, 0)];
	if (digits.negative)
		*value = -*value;
	*scale = Max(-digits.exponent, 0);
}

/* Compare two numbers of a tariff: below, equal or above zero. */
int
billing_rating_compare(int64 a, int a_scale, int64 b, int b_scale)
{
	/* at most 18 digits and 14 decimals, so that 10^32 fits */
	int128 left = (int128) a * billing_core_decimal_power[Max(b_scale - a_scale, 0)];
	int128 right = (int128) b * billing_core_decimal_power[Max(a_scale - b_scale, 0)];

	return left < right ? -1 : left > right ? 1 : 0;
}
