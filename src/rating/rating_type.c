/*
 * rating_type.c
 *		The SQL type billing.tariff: input, output, send, receive, equality,
 *		hash and the casts to and from jsonb.
 */
#include "pg_compat.h"

#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "rating/rating_private.h"

/* The binary form is this byte and the canonical text. */
#define BINARY_VERSION 1

PG_FUNCTION_INFO_V1(billing_rating_tariff_in);
PG_FUNCTION_INFO_V1(billing_rating_tariff_out);
PG_FUNCTION_INFO_V1(billing_rating_tariff_recv);
PG_FUNCTION_INFO_V1(billing_rating_tariff_send);
PG_FUNCTION_INFO_V1(billing_rating_tariff_eq);
PG_FUNCTION_INFO_V1(billing_rating_tariff_ne);
PG_FUNCTION_INFO_V1(billing_rating_tariff_hash);
PG_FUNCTION_INFO_V1(billing_rating_tariff_hash_extended);
PG_FUNCTION_INFO_V1(billing_rating_tariff_from_jsonb);
PG_FUNCTION_INFO_V1(billing_rating_tariff_to_jsonb);

/* Start the room. */
void
billing_rating_init(void)
{
	billing_core_decimal_init();
}

/* Compare two stored tariffs; a canonical text has one compiled form. */
static bool
tariffs_are_equal(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	struct varlena *b = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1));
	bool result = VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
				  memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return result;
}

/* The canonical text of an argument. */
static char *
argument_text(FunctionCallInfo fcinfo)
{
	BillingTariffBuffer buffer;

	return billing_rating_text(billing_rating_fetch(NULL, PG_GETARG_DATUM(0), &buffer));
}

/*
 * Refuse a jsonb whose text would be too long before writing it: a number of
 * a few bytes, such as 1e131071, can be a very long text.
 */
static void
check_jsonb_size(Jsonb *json)
{
	JsonbIterator *iterator = JsonbIteratorInit(&json->root);
	JsonbValue value;
	JsonbIteratorToken token;
	Size size = VARSIZE(json);

	while (size <= BILLING_TARIFF_MAX_TEXT &&
		   (token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		char *text;

		if ((token != WJB_VALUE && token != WJB_ELEM) || value.type != jbvNumeric)
			continue;
		text =
			DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
		size += strlen(text);
		pfree(text);
	}
	if (size > BILLING_TARIFF_MAX_TEXT)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
				errmsg("invalid tariff: longer than %d bytes", BILLING_TARIFF_MAX_TEXT),
				errdetail("The jsonb value has at least %zu bytes.", size),
				errhint("Split the price into several tariffs."));
}

/* billing_internal.tariff_in(cstring) RETURNS billing.tariff */
Datum
billing_rating_tariff_in(PG_FUNCTION_ARGS)
{
	char *text = PG_GETARG_CSTRING(0);

	PG_RETURN_POINTER(billing_rating_parse(text, strlen(text)));
}

/* billing_internal.tariff_out(billing.tariff) RETURNS cstring */
Datum
billing_rating_tariff_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(argument_text(fcinfo));
}

/* billing_internal.tariff_recv(internal) RETURNS billing.tariff */
Datum
billing_rating_tariff_recv(PG_FUNCTION_ARGS)
{
	StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
	int version = message->cursor < message->len ? pq_getmsgbyte(message) : 0;
	int length;
	char *text;

	if (version != BINARY_VERSION)
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_TARIFF),
				errmsg("invalid tariff: unknown binary version %d", version),
				errdetail("The binary form is a byte %d and the JSON text.", BINARY_VERSION),
				errhint("Send the tariff as text."));
	text = pq_getmsgtext(message, message->len - message->cursor, &length);
	PG_RETURN_POINTER(billing_rating_parse(text, length));
}

/* billing_internal.tariff_send(billing.tariff) RETURNS bytea */
Datum
billing_rating_tariff_send(PG_FUNCTION_ARGS)
{
	char *text = argument_text(fcinfo);
	StringInfoData message;

	pq_begintypsend(&message);
	pq_sendbyte(&message, BINARY_VERSION);
	pq_sendtext(&message, text, (int) strlen(text));
	PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}

/* billing_internal.tariff_eq(billing.tariff, billing.tariff) RETURNS boolean */
Datum
billing_rating_tariff_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(tariffs_are_equal(fcinfo));
}

/* billing_internal.tariff_ne(billing.tariff, billing.tariff) RETURNS boolean */
Datum
billing_rating_tariff_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!tariffs_are_equal(fcinfo));
}

/* billing_internal.tariff_hash(billing.tariff) RETURNS integer */
Datum
billing_rating_tariff_hash(PG_FUNCTION_ARGS)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	uint32 hash =
		hash_bytes((const unsigned char *) VARDATA_ANY(stored), (int) VARSIZE_ANY_EXHDR(stored));

	PG_FREE_IF_COPY(stored, 0);
	PG_RETURN_UINT32(hash);
}

/* billing_internal.tariff_hash_extended(billing.tariff, bigint) RETURNS bigint */
Datum
billing_rating_tariff_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *stored = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	uint64 hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(stored),
									  (int) VARSIZE_ANY_EXHDR(stored), PG_GETARG_INT64(1));

	PG_FREE_IF_COPY(stored, 0);
	PG_RETURN_UINT64(hash);
}

/* billing_internal.tariff_from_jsonb(jsonb) RETURNS billing.tariff */
Datum
billing_rating_tariff_from_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	char *text;

	check_jsonb_size(json);
	text = JsonbToCString(NULL, &json->root, VARSIZE(json));
	PG_RETURN_POINTER(billing_rating_parse(text, strlen(text)));
}

/* billing_internal.tariff_to_jsonb(billing.tariff) RETURNS jsonb */
Datum
billing_rating_tariff_to_jsonb(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(argument_text(fcinfo)));
}
