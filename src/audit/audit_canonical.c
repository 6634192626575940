/*
 * audit_canonical.c
 *		The canonical bytes of values and of an audit record: the same whatever
 *		the settings, the platform and the way in which a number was written.
 *
 * All integers are big-endian.  A field is its length in 4 bytes and its bytes,
 * 0xffffffff for null.  Integers, transactions and times (microseconds since
 * 2000-01-01 UTC) take 8 bytes, text is UTF-8, a number is its decimal text
 * without trailing zeros after the point.  A JSON value is a byte for its type
 * and its content:
 *
 *	n t f              null, true, false
 *	# length text      a number
 *	" length text      a string
 *	[ count values     an array
 *	{ count pairs      an object: of each key its length and text, then the value;
 *	                   in the order of jsonb: shorter keys first, then by bytes
 *
 * A record is the byte 0, which RFC 6962 puts before a leaf of a Merkle tree,
 * the version of the layout, and its columns as fields in the table's order.
 */
#include "pg_compat.h"

#include "access/transam.h"
#include "audit/audit.h"
#include "catalog/pg_type.h"
#include "core/decimal.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#define NULL_LENGTH 0xffffffffU
/* The byte before a leaf's content, RFC 6962 paragraph 2.1. */
#define LEAF_PREFIX 0

/* Append a text as a field. */
void
billing_audit_append_text(StringInfo bytes, const char *text, int length)
{
	const char *utf8 = text;

	if (GetDatabaseEncoding() != PG_UTF8 && GetDatabaseEncoding() != PG_SQL_ASCII)
	{
		utf8 = pg_server_to_any(text, length, PG_UTF8);
		if (utf8 != text)
			length = strlen(utf8);
	}
	enlargeStringInfo(bytes, length + 4);
	pq_writeint32(bytes, length);
	memcpy(bytes->data + bytes->len, utf8, length);
	bytes->len += length;
	bytes->data[bytes->len] = '\0';
}

/* Append a 64-bit integer as a field. */
static void
append_integer(StringInfo bytes, int64 value)
{
	enlargeStringInfo(bytes, 12);
	pq_writeint32(bytes, 8);
	pq_writeint64(bytes, value);
}

/* The decimal text of a number of at most 18 digits without trailing zeros; its length. */
static int
number_text(int64 mantissa, int scale, char *text)
{
	char digits[MAXINT8LEN + 1];
	char *start = text;
	int length;

	while (scale > 0 && mantissa % 10 == 0)
	{
		mantissa /= 10;
		scale--;
	}
	if (mantissa < 0)
	{
		*text++ = '-';
		mantissa = -mantissa;
	}
	length = pg_lltoa(mantissa, digits);
	if (length <= scale)
	{
		*text++ = '0';
		*text++ = '.';
		memset(text, '0', scale - length);
		text += scale - length;
		memcpy(text, digits, length);
		return text + length - start;
	}
	memcpy(text, digits, length - scale);
	text += length - scale;
	if (scale > 0)
	{
		*text++ = '.';
		memcpy(text, digits + length - scale, scale);
		text += scale;
	}
	return text - start;
}

/* Append a number as a field. */
void
billing_audit_append_number(StringInfo bytes, Numeric number)
{
	/* a sign, a point, and as many zeros before 18 digits as a scale can have */
	char text[2 * BILLING_DECIMAL_DIGITS + MAXINT8LEN + 3];
	int64 mantissa;
	int scale;

	if (billing_core_decimal_decode(NumericGetDatum(number), &mantissa, &scale) && scale >= 0 &&
		scale <= BILLING_DECIMAL_DIGITS)
		billing_audit_append_text(bytes, text, number_text(mantissa, scale, text));
	else
	{
		char *slow = numeric_normalize(number);

		billing_audit_append_text(bytes, slow, strlen(slow));
		pfree(slow);
	}
}

static void append_container(StringInfo bytes, JsonbContainer *container);

/* Append an element of a container, whose content begins at a place. */
static void
append_element(StringInfo bytes, JEntry entry, char *content, uint32 offset, uint32 length)
{
	if (JBE_ISSTRING(entry))
	{
		appendStringInfoCharMacro(bytes, '"');
		billing_audit_append_text(bytes, content + offset, length);
	}
	else if (JBE_ISNUMERIC(entry))
	{
		appendStringInfoCharMacro(bytes, '#');
		billing_audit_append_number(bytes, (Numeric) (content + INTALIGN(offset)));
	}
	else if (JBE_ISCONTAINER(entry))
		append_container(bytes, (JsonbContainer *) (content + INTALIGN(offset)));
	else
		appendStringInfoCharMacro(bytes, JBE_ISBOOL_TRUE(entry)	   ? 't'
										 : JBE_ISBOOL_FALSE(entry) ? 'f'
																   : 'n');
}

/* Append the pairs of an object. */
static void
append_pairs(StringInfo bytes, JsonbContainer *object, uint32 count)
{
	char *content = (char *) (object->children + 2 * count);
	uint32 key_offset = 0;
	uint32 value_offset = getJsonbOffset(object, count);
	uint32 i;

	for (i = 0; i < count; i++)
	{
		uint32 key_length = getJsonbLength(object, i);
		uint32 value_length = getJsonbLength(object, count + i);

		billing_audit_append_text(bytes, content + key_offset, key_length);
		append_element(bytes, object->children[count + i], content, value_offset, value_length);
		key_offset += key_length;
		value_offset += value_length;
	}
}

/* Append an array or object. */
static void
append_container(StringInfo bytes, JsonbContainer *container)
{
	uint32 count = JsonContainerSize(container);
	uint32 offset = 0;
	uint32 i;

	check_stack_depth();
	if (!JsonContainerIsScalar(container))
	{
		appendStringInfoCharMacro(bytes, JsonContainerIsObject(container) ? '{' : '[');
		pq_sendint32(bytes, count);
	}
	if (JsonContainerIsObject(container))
	{
		append_pairs(bytes, container, count);
		return;
	}
	for (i = 0; i < count; i++)
	{
		uint32 length = getJsonbLength(container, i);

		append_element(bytes, container->children[i], (char *) (container->children + count),
					   offset, length);
		offset += length;
	}
}

/* Append a JSON value, without a length. */
void
billing_audit_append_json(StringInfo bytes, Jsonb *json)
{
	append_container(bytes, &json->root);
}

/* Append a JSON value as a field. */
static void
append_json_field(StringInfo bytes, Jsonb *json)
{
	int place = bytes->len;
	uint32 length;

	pq_sendint32(bytes, 0);
	billing_audit_append_json(bytes, json);
	length = pg_hton32((uint32) (bytes->len - place - 4));
	memcpy(bytes->data + place, &length, 4);
}

/* Append a value of any type as a field; a domain is its base type, what is not known here its text. */
void
billing_audit_append_value(StringInfo bytes, Oid type, Datum value, bool isnull)
{
	if (isnull)
	{
		pq_sendint32(bytes, NULL_LENGTH);
		return;
	}
	switch (type)
	{
		case BOOLOID:
			append_integer(bytes, DatumGetBool(value) ? 1 : 0);
			break;
		case INT2OID:
			append_integer(bytes, DatumGetInt16(value));
			break;
		case INT4OID:
			append_integer(bytes, DatumGetInt32(value));
			break;
		case DATEOID:
			append_integer(bytes, DatumGetDateADT(value));
			break;
		case INT8OID:
		case XID8OID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			append_integer(bytes, DatumGetInt64(value));
			break;
		case NUMERICOID:
			billing_audit_append_number(bytes, DatumGetNumeric(value));
			break;
		case JSONBOID:
			append_json_field(bytes, DatumGetJsonbP(value));
			break;
		case BYTEAOID:
		{
			bytea *content = DatumGetByteaPP(value);

			pq_sendint32(bytes, VARSIZE_ANY_EXHDR(content));
			appendBinaryStringInfo(bytes, VARDATA_ANY(content), VARSIZE_ANY_EXHDR(content));
			break;
		}
		case TEXTOID:
		case VARCHAROID:
		{
			text *string = DatumGetTextPP(value);

			billing_audit_append_text(bytes, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			break;
		}
		default:
		{
			Oid base = getBaseType(type);
			Oid output;
			bool is_varlena;
			char *string;

			if (base != type)
			{
				billing_audit_append_value(bytes, base, value, false);
				return;
			}
			getTypeOutputInfo(type, &output, &is_varlena);
			string = OidOutputFunctionCall(output, value);
			billing_audit_append_text(bytes, string, strlen(string));
			break;
		}
	}
}

/* Append one column of a record as a field. */
static void
append_column(StringInfo bytes, BillingAuditColumn column, Datum value)
{
	switch (column)
	{
		case AUDIT_ENTITY_ID:
			append_integer(bytes, DatumGetInt32(value));
			break;
		case AUDIT_AUDIT_ID:
		case AUDIT_RECORDED_AT:
			append_integer(bytes, DatumGetInt64(value));
			break;
		case AUDIT_TRANSACTION_ID:
			append_integer(bytes, U64FromFullTransactionId(DatumGetFullTransactionId(value)));
			break;
		case AUDIT_LOGIN:
			billing_audit_append_text(bytes, NameStr(*DatumGetName(value)),
									  strlen(NameStr(*DatumGetName(value))));
			break;
		case AUDIT_BEFORE:
		case AUDIT_AFTER:
			append_json_field(bytes, DatumGetJsonbP(value));
			break;
		default:
		{
			text *string = DatumGetTextPP(value);

			billing_audit_append_text(bytes, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			break;
		}
	}
}

/* Append a record, given its columns up to the hash. */
void
billing_audit_append_record(StringInfo bytes, const Datum *values, const bool *nulls)
{
	int i;

	appendStringInfoCharMacro(bytes, LEAF_PREFIX);
	appendStringInfoCharMacro(bytes, BILLING_AUDIT_LAYOUT);
	for (i = 0; i < AUDIT_HASH; i++)
	{
		if (nulls[i])
			pq_sendint32(bytes, NULL_LENGTH);
		else
			append_column(bytes, (BillingAuditColumn) i, values[i]);
	}
}
