/*
 * metering_hash.c
 *		What an event says, as SHA-256: two deliveries with the same hash are the
 *		same event.
 *
 * Content is the type, the subject, the moment and the data, compared by value:
 * the order of keys, white space, the time's offset and trailing zeros of a
 * number do not count, 1 and "1" differ.  Layout: the byte 1 (version), type and
 * subject, the moment (microseconds since 2000-01-01 UTC, 8 bytes), then the
 * data as tokens in jsonb's own order: a kind byte, texts preceded by their
 * length in 4 bytes, numbers in numeric's wire format without display scale.
 * Big-endian.
 */
#include "pg_compat.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#define LAYOUT_VERSION 1
/* first bytes of the keys that corrections take: no source is long enough for its length to begin so */
#define VOID_KEY 'V'
#define CONTENT_KEY 'R'
/* the wire format of numeric is four int16 (digits, weight, sign, display scale), then the digits */
#define NUMERIC_SCALE_OFFSET 6

/* Append a text with its length. */
static void
append_text(StringInfo bytes, const char *text, int length)
{
	pq_sendint32(bytes, length);
	appendBinaryStringInfo(bytes, text, length);
}

/* Append a number, the same bytes for 1 and 1.00. */
static void
append_number(StringInfo bytes, Numeric number)
{
	bytea *wire = DatumGetByteaP(DirectFunctionCall1(numeric_send, NumericGetDatum(number)));

	memset(VARDATA(wire) + NUMERIC_SCALE_OFFSET, 0, sizeof(int16));
	append_text(bytes, VARDATA(wire), VARSIZE(wire) - VARHDRSZ);
	pfree(wire);
}

/* Append a scalar, after a byte that says its kind. */
static void
append_scalar(StringInfo bytes, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			appendStringInfoChar(bytes, 's');
			append_text(bytes, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfoChar(bytes, 'n');
			append_number(bytes, value->val.numeric);
			break;
		case jbvBool:
			appendStringInfoChar(bytes, value->val.boolean ? 't' : 'f');
			break;
		default:
			appendStringInfoChar(bytes, '0');
			break;
	}
}

/* Append a container and all below it; the iterator keeps its own stack. */
static void
append_container(StringInfo bytes, JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue value;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		switch (token)
		{
			case WJB_BEGIN_OBJECT:
				appendStringInfoChar(bytes, '{');
				break;
			case WJB_END_OBJECT:
				appendStringInfoChar(bytes, '}');
				break;
			case WJB_BEGIN_ARRAY:
				appendStringInfoChar(bytes, '[');
				break;
			case WJB_END_ARRAY:
				appendStringInfoChar(bytes, ']');
				break;
			default:
				append_scalar(bytes, &value);
				break;
		}
	}
}

/* Append what makes two deliveries the same event. */
static void
append_content(StringInfo bytes, const BillingUsageEvent *event)
{
	appendStringInfoChar(bytes, LAYOUT_VERSION);
	append_text(bytes, event->type.bytes, event->type.length);
	append_text(bytes, event->subject.bytes, event->subject.length);
	pq_sendint64(bytes, event->occurred_at);
	if (event->data != NULL)
		append_container(bytes, &event->data->root);
}

/* Digest the bytes; the context serves one digest after the other. */
static void
digest(pg_cryptohash_ctx *context, StringInfo bytes, uint8 *hash)
{
	if (pg_cryptohash_init(context) < 0 ||
		pg_cryptohash_update(context, (uint8 *) bytes->data, bytes->len) < 0 ||
		pg_cryptohash_final(context, hash, BILLING_USAGE_HASH_LENGTH) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not compute SHA-256 of a usage event")));
}

/* A context for the digests of a batch; pg_cryptohash_free() ends it. */
pg_cryptohash_ctx *
billing_metering_hash_begin(void)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	if (context == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION), errmsg("could not set up SHA-256")));
	return context;
}

/* Hash what a well-formed event says. */
void
billing_metering_hash_content(pg_cryptohash_ctx *context, BillingUsageEvent *event)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	append_content(&bytes, event);
	digest(context, &bytes, event->hash);
	pfree(bytes.data);
}

/* Hash an event that cannot be read: all of it, as it came. */
void
billing_metering_hash_payload(pg_cryptohash_ctx *context, BillingUsageEvent *event)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendStringInfoChar(&bytes, LAYOUT_VERSION);
	if (event->payload.type == jbvBinary)
		append_container(&bytes, event->payload.val.binary.data);
	else
		append_scalar(&bytes, &event->payload);
	digest(context, &bytes, event->hash);
	pfree(bytes.data);
}

/* Hash what names an event: the lengths keep source and id apart. */
void
billing_metering_hash_key(pg_cryptohash_ctx *context, BillingUsageEvent *event)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	append_text(&bytes, event->source.bytes, event->source.length);
	append_text(&bytes, event->key.bytes, event->key.length);
	digest(context, &bytes, event->key_hash);
	pfree(bytes.data);
}

/* Hash what names the place of a row that took another's place, or of the row that took it back. */
void
billing_metering_hash_void_key(pg_cryptohash_ctx *context, const BillingUsageEvent *event,
							   int64 event_id, uint8 *hash)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendStringInfoChar(&bytes, VOID_KEY);
	append_text(&bytes, event->source.bytes, event->source.length);
	append_text(&bytes, event->key.bytes, event->key.length);
	pq_sendint64(&bytes, event_id);
	digest(context, &bytes, hash);
	pfree(bytes.data);
}

/* Hash what names a content that a correction has brought in under an event's source and id. */
void
billing_metering_hash_content_key(pg_cryptohash_ctx *context, const BillingUsageEvent *event,
								  uint8 *hash)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendStringInfoChar(&bytes, CONTENT_KEY);
	append_text(&bytes, event->source.bytes, event->source.length);
	append_text(&bytes, event->key.bytes, event->key.length);
	appendBinaryStringInfo(&bytes, (const char *) event->hash, UUID_LEN);
	digest(context, &bytes, hash);
	pfree(bytes.data);
}

/* A text argument as a text inside a larger value. */
static BillingUsageText
text_of(text *value)
{
	BillingUsageText result = { VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value) };

	return result;
}

PG_FUNCTION_INFO_V1(billing_metering_content);
PG_FUNCTION_INFO_V1(billing_metering_key_of);
PG_FUNCTION_INFO_V1(billing_metering_void_key);
PG_FUNCTION_INFO_V1(billing_metering_content_key);

/*
 * billing_internal.usage_content(event_type text, subject text, occurred_at timestamptz,
 *     data jsonb) RETURNS uuid
 *
 * The first 128 bits of the hash that an event with this content has; data may be NULL.
 */
Datum
billing_metering_content(PG_FUNCTION_ARGS)
{
	BillingUsageEvent event = { 0 };
	pg_cryptohash_ctx *context;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	event.type = text_of(PG_GETARG_TEXT_PP(0));
	event.subject = text_of(PG_GETARG_TEXT_PP(1));
	event.occurred_at = PG_GETARG_TIMESTAMPTZ(2);
	event.data = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	context = billing_metering_hash_begin();
	billing_metering_hash_content(context, &event);
	pg_cryptohash_free(context);
	return billing_metering_uuid(event.hash);
}

/*
 * billing_internal.usage_key_of(source text, event_key text) RETURNS uuid
 *
 * What billing.usage_key calls the event with this source and id.
 */
Datum
billing_metering_key_of(PG_FUNCTION_ARGS)
{
	BillingUsageEvent event = { 0 };
	pg_cryptohash_ctx *context;

	event.source = text_of(PG_GETARG_TEXT_PP(0));
	event.key = text_of(PG_GETARG_TEXT_PP(1));
	context = billing_metering_hash_begin();
	billing_metering_hash_key(context, &event);
	pg_cryptohash_free(context);
	return billing_metering_uuid(event.key_hash);
}

/*
 * billing_internal.usage_void_key(source text, event_key text, event_id bigint) RETURNS uuid
 *
 * What billing.usage_key calls the place of the row event_id, which has this
 * source and id, after it was taken back.
 */
Datum
billing_metering_void_key(PG_FUNCTION_ARGS)
{
	BillingUsageEvent event = { 0 };
	uint8 hash[BILLING_USAGE_HASH_LENGTH];
	pg_cryptohash_ctx *context;

	event.source = text_of(PG_GETARG_TEXT_PP(0));
	event.key = text_of(PG_GETARG_TEXT_PP(1));
	context = billing_metering_hash_begin();
	billing_metering_hash_void_key(context, &event, PG_GETARG_INT64(2), hash);
	pg_cryptohash_free(context);
	return billing_metering_uuid(hash);
}

/*
 * billing_internal.usage_content_key(source text, event_key text, content uuid) RETURNS uuid
 *
 * What billing.usage_key calls a content that replaced the event with this source
 * and id.
 */
Datum
billing_metering_content_key(PG_FUNCTION_ARGS)
{
	BillingUsageEvent event = { 0 };
	uint8 hash[BILLING_USAGE_HASH_LENGTH];
	pg_cryptohash_ctx *context;

	event.source = text_of(PG_GETARG_TEXT_PP(0));
	event.key = text_of(PG_GETARG_TEXT_PP(1));
	memcpy(event.hash, PG_GETARG_UUID_P(2)->data, UUID_LEN);
	context = billing_metering_hash_begin();
	billing_metering_hash_content_key(context, &event, hash);
	pg_cryptohash_free(context);
	return billing_metering_uuid(hash);
}
