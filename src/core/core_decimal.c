/*
 * core_decimal.c
 *		Decodes a numeric into int64 and scale, and encodes int128 and scale.
 *
 * Reads and writes numeric's stored layout, which pg_upgrade keeps fixed.
 * billing_core_decimal_init() verifies that on samples; on a server with
 * another layout nothing "fits", and values are encoded through their text.
 */
#include "pg_compat.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "core/decimal.h"

/* the stored layout of numeric: a header of one or two words, then digits */
#define NUM_BASE 10000
#define NUM_BASE_DIGITS 4
#define NUM_KIND_MASK 0xC000
#define NUM_NEGATIVE 0x4000
#define NUM_SHORT 0x8000
#define NUM_SPECIAL 0xC000
#define NUM_SHORT_NEGATIVE 0x2000
#define NUM_SHORT_SCALE_SHIFT 7
#define NUM_SHORT_SCALE_MAX 63
#define NUM_SHORT_WEIGHT_SIGN 0x0040
#define NUM_SHORT_WEIGHT_MASK 0x003F

/* an int128 has at most 39 decimal digits, so it makes at most 11 of these */
#define NUM_MAX_DIGITS 12

/* raising stops below this, so that a few additions cannot overflow */
#define RAISE_MAX_DIGITS 36

const int64 billing_core_decimal_power[BILLING_DECIMAL_DIGITS + 1] = {
	INT64CONST(1),
	INT64CONST(10),
	INT64CONST(100),
	INT64CONST(1000),
	INT64CONST(10000),
	INT64CONST(100000),
	INT64CONST(1000000),
	INT64CONST(10000000),
	INT64CONST(100000000),
	INT64CONST(1000000000),
	INT64CONST(10000000000),
	INT64CONST(100000000000),
	INT64CONST(1000000000000),
	INT64CONST(10000000000000),
	INT64CONST(100000000000000),
	INT64CONST(1000000000000000),
	INT64CONST(10000000000000000),
	INT64CONST(100000000000000000),
	INT64CONST(1000000000000000000)
};

/* filled by init; zero until then, which makes raise() answer "does not fit" */
static int128 raise_power[RAISE_MAX_DIGITS + 1];
static int128 raise_limit[RAISE_MAX_DIGITS + 1];
static bool layout_is_known = false;

/* Read a stored numeric's sign, weight and digits; false for NaN and infinities. */
static inline bool
read_layout(struct varlena *stored, bool *negative, int *weight, int *ndigits, const char **digits)
{
	const char *data = VARDATA_ANY(stored);
	int size = VARSIZE_ANY_EXHDR(stored);
	uint16 header;

	/* a short varlena is not aligned, hence memcpy */
	memcpy(&header, data, sizeof(header));
	if (header & NUM_SHORT)
	{
		if ((header & NUM_KIND_MASK) == NUM_SPECIAL)
			return false;
		*negative = (header & NUM_SHORT_NEGATIVE) != 0;
		*weight = header & NUM_SHORT_WEIGHT_MASK;
		if (header & NUM_SHORT_WEIGHT_SIGN)
			*weight |= ~NUM_SHORT_WEIGHT_MASK;
		*digits = data + sizeof(uint16);
		*ndigits = (size - (int) sizeof(uint16)) / (int) sizeof(int16);
	}
	else
	{
		int16 long_weight;

		*negative = (header & NUM_KIND_MASK) == NUM_NEGATIVE;
		memcpy(&long_weight, data + sizeof(uint16), sizeof(long_weight));
		*weight = long_weight;
		*digits = data + 2 * sizeof(uint16);
		*ndigits = (size - 2 * (int) sizeof(uint16)) / (int) sizeof(int16);
	}
	return true;
}

/*
 * Decode five or six digits of base 10000, of which the outer ones may be partly
 * zeros: what has at most 18 decimal digits fits.
 */
static bool
decode_long(const char *digits, int ndigits, int64 *value, int *decimals)
{
	const int64 limit = billing_core_decimal_power[BILLING_DECIMAL_DIGITS] - 1;
	int64 result = 0;
	int step = NUM_BASE;
	int16 digit;

	for (int i = 0; i < ndigits - 1; i++)
	{
		memcpy(&digit, digits + i * sizeof(int16), sizeof(digit));
		if (result > (limit - digit) / NUM_BASE)
			return false;
		result = result * NUM_BASE + digit;
	}

	/* of the last, drop the decimals that are zero */
	memcpy(&digit, digits + (ndigits - 1) * sizeof(int16), sizeof(digit));
	while (*decimals > 0 && step > 10 && digit % 10 == 0)
	{
		digit /= 10;
		step /= 10;
		(*decimals)--;
	}
	if (result > (limit - digit) / step)
		return false;
	*value = result * step + digit;
	return true;
}

/* Decode a stored numeric, whatever init() found. */
static inline bool
decode_layout(struct varlena *stored, int64 *mantissa, int *scale)
{
	bool negative;
	int weight;
	int ndigits;
	const char *digits;
	int64 value = 0;
	int decimals;

	if (!read_layout(stored, &negative, &weight, &ndigits, &digits) || ndigits > 6)
		return false;
	decimals = ndigits == 0 ? 0 : (ndigits - 1 - weight) * NUM_BASE_DIGITS;
	if (ndigits <= 4)
	{
		for (int i = 0; i < ndigits; i++)
		{
			int16 digit;

			memcpy(&digit, digits + i * sizeof(int16), sizeof(digit));
			value = value * NUM_BASE + digit;
		}
	}
	else if (!decode_long(digits, ndigits, &value, &decimals))
		return false;

	if (decimals < 0)
	{
		if (decimals < -BILLING_DECIMAL_DIGITS ||
			value >= billing_core_decimal_power[BILLING_DECIMAL_DIGITS + decimals])
			return false;
		value *= billing_core_decimal_power[-decimals];
		decimals = 0;
	}
	if (decimals > BILLING_DECIMAL_DIGITS)
	{
		/* at most three zeros of the last digit */
		while (decimals > BILLING_DECIMAL_DIGITS && value % 10 == 0)
		{
			value /= 10;
			decimals--;
		}
		if (decimals > BILLING_DECIMAL_DIGITS)
			return false;
	}
	*mantissa = negative ? -value : value;
	*scale = decimals;
	return true;
}

/*
 * Store digits of base 10000, the least significant first and of that weight,
 * without the zeros around them.
 */
static inline Datum
store_digits(const int16 *digits, int ndigits, int weight, bool negative)
{
	int lowest = 0;
	int dscale = 0;
	uint16 header = NUM_SHORT;
	Size size;
	char *result;
	char *cursor;

	while (ndigits > 0 && digits[ndigits - 1] == 0)
		ndigits--;
	while (lowest < ndigits && digits[lowest] == 0)
		lowest++;
	if (lowest < ndigits)
	{
		int last = digits[lowest];
		int top_weight = weight + ndigits - 1;

		if (weight + lowest < 0)
			dscale = -(weight + lowest) * NUM_BASE_DIGITS - (last % 10 == 0) - (last % 100 == 0) -
					 (last % 1000 == 0);
		header |= (negative ? NUM_SHORT_NEGATIVE : 0) | (dscale << NUM_SHORT_SCALE_SHIFT) |
				  (top_weight < 0 ? NUM_SHORT_WEIGHT_SIGN : 0) |
				  (top_weight & NUM_SHORT_WEIGHT_MASK);
	}

	size = VARHDRSZ + sizeof(uint16) + (ndigits - lowest) * sizeof(int16);
	result = palloc(size);
	SET_VARSIZE(result, size);
	memcpy(result + VARHDRSZ, &header, sizeof(header));
	cursor = result + VARHDRSZ + sizeof(header);
	while (ndigits-- > lowest)
	{
		memcpy(cursor, &digits[ndigits], sizeof(int16));
		cursor += sizeof(int16);
	}
	return PointerGetDatum(result);
}

/* Split an integer of 64 bits into digits of base 10000; returns how many. */
static inline int
split_digits(uint64 value, int16 *digits)
{
	int ndigits = 0;

	for (; value != 0; value /= NUM_BASE)
		digits[ndigits++] = (int16) (value % NUM_BASE);
	return ndigits;
}

/* Encode as a stored numeric without trailing zeros; scale at most 63. */
static Datum
encode_layout(int128 value, int scale)
{
	static const int fill[] = { 1, 1000, 100, 10 };
	const uint64 chunk = (uint64) billing_core_decimal_power[16];
	uint128 rest = value < 0 ? -(uint128) value : (uint128) value;
	int weight = -((scale + NUM_BASE_DIGITS - 1) / NUM_BASE_DIGITS);
	int partial = fill[scale % NUM_BASE_DIGITS];
	int16 digits[NUM_MAX_DIGITS]; /* least significant first */
	int ndigits = 0;

	/* fill up the last digit, which is short of 1 to 3 decimal digits */
	if (likely(rest < PG_UINT64_MAX / 1000))
		return store_digits(digits, split_digits((uint64) rest * partial, digits), weight,
							value < 0);
	if (partial > 1)
	{
		int step = NUM_BASE / partial;

		digits[ndigits++] = (int16) ((int) (rest % step) * partial);
		rest /= step;
	}

	/* 128-bit division is slow: cut off four digits of base 10000 at a time */
	while (rest > PG_UINT64_MAX)
	{
		uint64 low = (uint64) (rest % chunk);

		rest /= chunk;
		for (int i = 0; i < 4; i++)
		{
			digits[ndigits++] = (int16) (low % NUM_BASE);
			low /= NUM_BASE;
		}
	}
	ndigits += split_digits((uint64) rest, digits + ndigits);
	return store_digits(digits, ndigits, weight, value < 0);
}

/* Make a numeric of a text that is known to be a number. */
static Datum
numeric_from_text(const char *text)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/* Write value * 10^-scale in decimal notation, without trailing zeros. */
char *
billing_core_decimal_text(int128 value, int scale)
{
	uint128 rest = value < 0 ? -(uint128) value : (uint128) value;
	char buffer[128];
	char *cursor = buffer + sizeof(buffer) - 1;
	int written = 0;

	Assert(scale >= 0 && scale <= NUM_SHORT_SCALE_MAX);
	while (scale > 0 && rest % 10 == 0)
	{
		rest /= 10;
		scale--;
	}
	*cursor = '\0';
	while (rest != 0 || written <= scale)
	{
		if (written == scale && scale > 0)
			*--cursor = '.';
		*--cursor = (char) ('0' + (int) (rest % 10));
		rest /= 10;
		written++;
	}
	if (value < 0)
		*--cursor = '-';
	return pstrdup(cursor);
}

/*
 * Verify the layout on samples and fill the tables.
 *
 * Called by _PG_init; needs neither a database nor a transaction.
 */
void
billing_core_decimal_init(void)
{
	static const struct
	{
		const char *text;
		int64 mantissa;
		int scale;
	} samples[] = {
		{ "0", 0, 0 },
		{ "1", 1, 0 },
		{ "-1.5", -15000, 4 },
		{ "10000", 10000, 0 },
		{ "0.0001", 1, 4 },
		{ "-0.000000000000000001", -1, 18 },
		{ "123456789.123456789", INT64CONST(123456789123456789), 9 },
		{ "-99999999.9999999999", INT64CONST(-999999999999999999), 10 },
		{ "100000000000000000", INT64CONST(100000000000000000), 0 },
	};

	for (int i = 0; i <= RAISE_MAX_DIGITS; i++)
	{
		raise_power[i] = i == 0 ? 1 : raise_power[i - 1] * 10;
		raise_limit[i] = ((int128) 1 << 125) / raise_power[i];
	}

	layout_is_known = true;
	for (int i = 0; i < (int) lengthof(samples); i++)
	{
		Datum expected = numeric_from_text(samples[i].text);
		struct varlena *stored = (struct varlena *) DatumGetPointer(expected);
		Datum encoded = encode_layout(samples[i].mantissa, samples[i].scale);
		int64 mantissa;
		int scale;

		if (!decode_layout(stored, &mantissa, &scale) || mantissa != samples[i].mantissa ||
			scale != samples[i].scale || VARSIZE(DatumGetPointer(encoded)) != VARSIZE(stored) ||
			memcmp(DatumGetPointer(encoded), stored, VARSIZE(stored)) != 0)
			layout_is_known = false;
		pfree(stored);
		pfree(DatumGetPointer(encoded));
	}
	if (!layout_is_known)
		ereport(LOG, errmsg("billing_erp does not know how this server stores numeric"),
				errdetail("Amounts are exact, but rating is slower."));
}

/*
 * Decode a numeric into mantissa * 10^-scale; there may be up to three trailing zeros.
 *
 * False when it has more than 18 digits, a scale above 18, or is not finite.
 */
bool
billing_core_decimal_decode(Datum numeric, int64 *mantissa, int *scale)
{
	struct varlena *stored = (struct varlena *) DatumGetPointer(numeric);
	bool fits;

	if (unlikely(!layout_is_known))
		return false;
	/* a pointer to the toast table counts as short too */
	if (likely(!VARATT_IS_EXTENDED(stored) ||
			   (VARATT_IS_SHORT(stored) && !VARATT_IS_EXTERNAL(stored))))
		return decode_layout(stored, mantissa, scale);

	stored = pg_detoast_datum(stored);
	fits = decode_layout(stored, mantissa, scale);
	pfree(stored);
	return fits;
}

/* Encode value * 10^-scale as a numeric without trailing zeros. */
Datum
billing_core_decimal_encode(int128 value, int scale)
{
	Assert(scale >= 0 && scale <= NUM_SHORT_SCALE_MAX);
	if (likely(layout_is_known))
		return encode_layout(value, scale);
	return numeric_from_text(billing_core_decimal_text(value, scale));
}

/* Multiply by 10^digits; false when the result would not fit. */
bool
billing_core_decimal_raise(int128 *value, int digits)
{
	if (digits == 0 || *value == 0)
		return true;
	if (digits < 0 || digits > RAISE_MAX_DIGITS || *value > raise_limit[digits] ||
		*value < -raise_limit[digits])
		return false;
	*value *= raise_power[digits];
	return true;
}

/* Bring two decimals to the larger scale; false when that does not fit. */
bool
billing_core_decimal_align(BillingDecimal *a, BillingDecimal *b)
{
	if (a->scale < b->scale)
	{
		if (!billing_core_decimal_raise(&a->value, b->scale - a->scale))
			return false;
		a->scale = b->scale;
	}
	else if (b->scale < a->scale)
	{
		if (!billing_core_decimal_raise(&b->value, a->scale - b->scale))
			return false;
		b->scale = a->scale;
	}
	return true;
}

/* Add b to a; false when that does not fit. */
bool
billing_core_decimal_add(BillingDecimal *a, BillingDecimal b)
{
	int128 limit = (int128) 1 << 125;

	if (!billing_core_decimal_align(a, &b))
		return false;
	a->value += b.value;
	return a->value <= limit && a->value >= -limit;
}
