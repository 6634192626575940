/*
 * usage_codec.c
 *		Integers, numbers and texts as bytes: for the stored form of
 *		billing.usage_days and for the states of aggregates between processes.
 *
 * An integer is written in groups of seven bits, the lowest first, with its
 * sign in the lowest bit; small ones take one byte.
 */
#include "pg_compat.h"

#include "utils/builtins.h"

#include "core/decimal.h"
#include "usage/usage_private.h"

#define GROUP_BITS 7
#define GROUP_MORE 0x80
#define INTEGER_MAX_BITS 64

/* Refuse stored bytes that cannot be. */
BILLING_NORETURN static void
refuse_bytes(void)
{
	ereport(ERROR, errcode(ERRCODE_DATA_CORRUPTED), errmsg("stored usage days are damaged"),
			errhint("Rebuild the roll-ups of usage, and look for the cause in the storage."));
}

/* Append an integer. */
void
billing_usage_put_integer(StringInfo out, int64 value)
{
	uint64 rest = ((uint64) value << 1) ^ (uint64) (value < 0 ? -1 : 0);
	uint8 groups[INTEGER_MAX_BITS / GROUP_BITS + 1];
	int ngroups = 0;

	do
	{
		groups[ngroups++] = (uint8) ((rest & (GROUP_MORE - 1)) | GROUP_MORE);
		rest >>= GROUP_BITS;
	} while (rest != 0);
	groups[ngroups - 1] &= GROUP_MORE - 1;
	appendBinaryStringInfo(out, (const char *) groups, ngroups);
}

/* Append a number: its scale and its integer without trailing zeros, or its numeric. */
void
billing_usage_put_number(StringInfo out, const BillingUsageNumber *number)
{
	int64 value;
	int scale = number->scale;

	if (number->scale == BILLING_USAGE_BIG)
	{
		int length = (int) VARSIZE(number->as.big) - VARHDRSZ;

		billing_usage_put_integer(out, BILLING_USAGE_BIG);
		billing_usage_put_integer(out, length);
		appendBinaryStringInfo(out, VARDATA(number->as.big), length);
		return;
	}
	value = number->as.value;
	while (scale > 0 && value % 10 == 0)
	{
		value /= 10;
		scale--;
	}
	billing_usage_put_integer(out, scale);
	billing_usage_put_integer(out, value);
}

/* Append a text that ends with a zero byte. */
void
billing_usage_put_text(StringInfo out, const char *text)
{
	int length = (int) strlen(text);

	billing_usage_put_integer(out, length);
	appendBinaryStringInfo(out, text, length);
}

/* Read an integer. */
int64
billing_usage_get_integer(BillingUsageReader *reader)
{
	uint64 value = 0;

	for (int shift = 0; shift < INTEGER_MAX_BITS; shift += GROUP_BITS)
	{
		uint8 group;

		if (unlikely(reader->cursor >= reader->end))
			refuse_bytes();
		group = *reader->cursor++;
		value |= (uint64) (group & (GROUP_MORE - 1)) << shift;
		if ((group & GROUP_MORE) == 0)
			return (int64) ((value >> 1) ^ (~(value & 1) + 1));
	}
	refuse_bytes();
}

/* Read a length that fits what is left. */
static int
get_length(BillingUsageReader *reader)
{
	int64 length = billing_usage_get_integer(reader);

	if (length < 0 || length > reader->end - reader->cursor)
		refuse_bytes();
	return (int) length;
}

/* Read a number; a numeric is made in the current memory context. */
void
billing_usage_get_number(BillingUsageReader *reader, BillingUsageNumber *number)
{
	int64 scale = billing_usage_get_integer(reader);
	int length;

	if (likely(scale >= 0 && scale <= BILLING_DECIMAL_DIGITS))
	{
		number->scale = (int32) scale;
		number->as.value = billing_usage_get_integer(reader);
		return;
	}
	if (scale != BILLING_USAGE_BIG)
		refuse_bytes();
	length = get_length(reader);
	number->scale = BILLING_USAGE_BIG;
	number->as.big = palloc(VARHDRSZ + length);
	SET_VARSIZE(number->as.big, VARHDRSZ + length);
	memcpy(VARDATA(number->as.big), reader->cursor, length);
	reader->cursor += length;
}

/* Read a text into the current memory context. */
char *
billing_usage_get_text(BillingUsageReader *reader)
{
	int length = get_length(reader);
	char *text = pnstrdup((const char *) reader->cursor, length);

	reader->cursor += length;
	return text;
}

/* Begin to read the bytes that an aggregate wrote. */
void
billing_usage_get_bytes(BillingUsageReader *reader, bytea *bytes)
{
	reader->cursor = (const uint8 *) VARDATA_ANY(bytes);
	reader->end = reader->cursor + VARSIZE_ANY_EXHDR(bytes);
	reader->left = 0;
	reader->day = 0;
}
