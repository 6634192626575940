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

/* Decode a stored numeric, whatever init() found. */
static bool
decode_layout(struct varlena *stored, int64 *mantissa, int *scale)
{
	const int64 limit = billing_core_decimal_power[BILLING_DECIMAL_DIGITS] - 1;
	bool negative;
	int weight;
	int ndigits;
	const char *digits;
	int16 digit;
	int64 value = 0;
	int step = NUM_BASE;
	int decimals;

	if (!read_layout(stored, &negative, &weight, &ndigits, &digits))
		return false;
	if (ndigits == 0)
	{
		*mantissa = 0;
		*scale = 0;
		return true;
	}
	if (ndigits > 6 || weight > 4 || weight < -5)
		return false;

	/* all but the last; four digits of base 10000 always fit */
	for (int i = 0; i < ndigits - 1; i++)
	{
		memcpy(&digit, digits + i * sizeof(int16), sizeof(digit));
		if (i >= 4 && value > (limit - digit) / NUM_BASE)
			return false;
		value = value * NUM_BASE + digit;
	}

	/* of the last, drop the decimals that are zero, so that they cost no room */
	memcpy(&digit, digits + (ndigits - 1) * sizeof(int16), sizeof(digit));
	decimals = (ndigits - 1 - weight) * NUM_BASE_DIGITS;
	if (decimals > 0)
	{
		while (step > 10 && digit % 10 == 0)
		{
			digit /= 10;
			step /= 10;
			decimals--;
		}
	}
	if (ndigits >= 5 && value > (limit - digit) / step)
		return false;
	value = value * step + digit;

	if (decimals < 0)
	{
		if (value > limit / billing_core_decimal_power[-decimals])
			return false;
		value *= billing_core_decimal_power[-decimals];
		decimals = 0;
	}
	if (decimals > BILLING_DECIMAL_DIGITS)
		return false;
	*mantissa = negative ? -value : value;
	*scale = decimals;
	return true;
}

/* Divide by a constant, in 64 bits where that does, and return the remainder. */
static inline int
cut(uint128 *rest, uint32 divisor)
{
	int remainder;

	if (*rest <= PG_UINT64_MAX)
	{
		uint64 low = (uint64) *rest;

		remainder = (int) (low % divisor);
		*rest = low / divisor;
	}
	else
	{
		remainder = (int) (*rest % divisor);
		*rest /= divisor;
	}
	return remainder;
}

/* Encode as a stored numeric without trailing zeros; scale at most 63. */
static Datum
encode_layout(int128 value, int scale)
{
	uint128 rest = value < 0 ? -(uint128) value : (uint128) value;
	int16 digits[NUM_MAX_DIGITS]; /* least significant first */
	int ndigits = 0;
	int lowest = 0;
	int weight = -((scale + NUM_BASE_DIGITS - 1) / NUM_BASE_DIGITS);
	int partial = scale % NUM_BASE_DIGITS;
	int dscale = 0;
	uint16 header;
	char *result;
	char *cursor;
	Size size;
	uint64 low;

	switch (partial)
	{
		case 1:
			digits[ndigits++] = (int16) (cut(&rest, 10) * 1000);
			break;
		case 2:
			digits[ndigits++] = (int16) (cut(&rest, 100) * 100);
			break;
		case 3:
			digits[ndigits++] = (int16) (cut(&rest, 1000) * 10);
			break;
	}

	/* 128-bit division is slow: cut off four digits of base 10000 at a time */
	while (rest > PG_UINT64_MAX)
	{
		uint64 chunk = (uint64) (rest % (uint64) billing_core_decimal_power[16]);

		rest /= (uint64) billing_core_decimal_power[16];
		for (int i = 0; i < 4; i++)
		{
			digits[ndigits++] = (int16) (chunk % NUM_BASE);
			chunk /= NUM_BASE;
		}
	}
	for (low = (uint64) rest; low != 0; low /= NUM_BASE)
		digits[ndigits++] = (int16) (low % NUM_BASE);

	/* both ends of the stored digits are nonzero */
	while (ndigits > 0 && digits[ndigits - 1] == 0)
		ndigits--;
	while (lowest < ndigits && digits[lowest] == 0)
		lowest++;
	if (ndigits == lowest)
	{
		header = NUM_SHORT;
		ndigits = lowest = 0;
	}
	else
	{
		int last = digits[lowest];
		int top_weight = weight + ndigits - 1;

		dscale = -(weight + lowest) * NUM_BASE_DIGITS;
		if (dscale > 0)
		{
			for (; last % 10 == 0; last /= 10)
				dscale--;
		}
		else
			dscale = 0;
		header = NUM_SHORT | (value < 0 ? NUM_SHORT_NEGATIVE : 0) |
				 (dscale << NUM_SHORT_SCALE_SHIFT) | (top_weight < 0 ? NUM_SHORT_WEIGHT_SIGN : 0) |
				 (top_weight & NUM_SHORT_WEIGHT_MASK);
	}

	size = VARHDRSZ + sizeof(uint16) + (ndigits - lowest) * sizeof(int16);
	result = palloc(size);
	SET_VARSIZE(result, size);
	memcpy(result + VARHDRSZ, &header, sizeof(header));
	cursor = result + VARHDRSZ + sizeof(header);
	for (int i = ndigits - 1; i >= lowest; i--)
	{
		memcpy(cursor, &digits[i], sizeof(int16));
		cursor += sizeof(int16);
	}
	return PointerGetDatum(result);
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
		{ "-1.5", -15, 1 },
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
 * Decode a numeric into mantissa * 10^-scale, without trailing zeros.
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
