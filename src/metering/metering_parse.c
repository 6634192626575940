/*
 * metering_parse.c
 *		Reads CloudEvents 1.0 out of a jsonb value, in one walk.
 *
 * Decides whether an event is well formed by itself; whether its data fits its
 * meter is decided when the meter is known (metering_resolve.c).
 */
#include "pg_compat.h"

#include "common/cryptohash.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* What is wrong with a field, as a phrase that begins with its name. */
const char *
billing_metering_problem(const char *field, const char *what)
{
	return psprintf("%s %s", field, what);
}

/* The field of an object, or NULL; a JSON null is as good as no field. */
static JsonbValue *
find_field(JsonbContainer *object, const char *name, JsonbValue *buffer)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, name, strlen(name), buffer);

	return value != NULL && value->type != jbvNull ? value : NULL;
}

/* Check a text attribute that is there; says what is wrong, or NULL. */
const char *
billing_metering_check_name(const char *field, BillingUsageText text)
{
	int i;

	if (text.length == 0)
		return billing_metering_problem(field, "is empty");
	if (text.length > BILLING_USAGE_MAX_NAME)
		return psprintf("%s has %d bytes; at most %d are taken", field, text.length,
						BILLING_USAGE_MAX_NAME);
	for (i = 0; i < text.length; i++)
	{
		unsigned char c = (unsigned char) text.bytes[i];

		if (c < 0x20 || c == 0x7f)
			return billing_metering_problem(field, "contains a control character");
	}
	return NULL;
}

/* Read a text attribute that must be there; says what is wrong, or NULL. */
static const char *
read_name(JsonbContainer *object, const char *name, BillingUsageText *text)
{
	JsonbValue buffer;
	JsonbValue *value = find_field(object, name, &buffer);
	BillingUsageText found;
	const char *problem;

	if (value == NULL)
		return billing_metering_problem(name, "is missing");
	if (value->type != jbvString)
		return billing_metering_problem(name, "is not a text");
	found.bytes = value->val.string.val;
	found.length = value->val.string.len;
	problem = billing_metering_check_name(name, found);
	if (problem == NULL)
		*text = found;
	return problem;
}

/* Read when it happened; says what is wrong, or NULL. */
static const char *
read_time(JsonbContainer *object, BillingUsageEvent *event)
{
	JsonbValue buffer;
	JsonbValue *value = find_field(object, "time", &buffer);
	BillingUsageText text;

	if (value == NULL)
		return billing_metering_problem("time", "is missing");
	if (value->type != jbvString)
		return billing_metering_problem("time", "is not a text");
	text.bytes = value->val.string.val;
	text.length = value->val.string.len;
	if (!billing_metering_scan_time(text, &event->occurred_at))
		return billing_metering_problem("time", "is not a moment of RFC 3339 with its offset");
	return NULL;
}

/*
 * Check the data, of so many bytes, and read the amount that the source expects;
 * says what is wrong, or NULL.
 */
const char *
billing_metering_check_data(BillingUsageEvent *event, int length)
{
	JsonbValue buffer;
	JsonbValue *amount;

	if (length > BILLING_USAGE_MAX_DATA)
		return psprintf("data has %d bytes; at most %d are taken", length, BILLING_USAGE_MAX_DATA);
	amount = find_field(&event->data->root, "expected_amount", &buffer);
	if (amount != NULL &&
		!billing_metering_scan_number(amount, BILLING_USAGE_AMOUNT_DIGITS, &event->expected))
		return billing_metering_problem("data.expected_amount", "is not a number in range");
	return NULL;
}

/* Read the data; says what is wrong, or NULL. */
static const char *
read_data(JsonbContainer *object, BillingUsageEvent *event)
{
	JsonbValue buffer;
	JsonbValue *value = find_field(object, "data", &buffer);

	if (value == NULL)
		return NULL;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return billing_metering_problem("data", "is not an object");
	event->data = JsonbValueToJsonb(value);
	return billing_metering_check_data(event, value->val.binary.len);
}

/* Read all attributes of an event; says what is wrong with the first bad one, or NULL. */
static const char *
read_event(JsonbContainer *object, BillingUsageEvent *event)
{
	JsonbValue buffer;
	JsonbValue *version = find_field(object, "specversion", &buffer);
	const char *problem;

	/* id and source first: they name the event in whatever is said about it */
	if ((problem = read_name(object, "id", &event->key)) != NULL ||
		(problem = read_name(object, "source", &event->source)) != NULL)
		return problem;
	if (version != NULL && (version->type != jbvString || version->val.string.len != 3 ||
							memcmp(version->val.string.val, "1.0", 3) != 0))
		return billing_metering_problem("specversion", "is not \"1.0\"");
	if ((problem = read_name(object, "type", &event->type)) != NULL ||
		(problem = read_name(object, "subject", &event->subject)) != NULL ||
		(problem = read_time(object, event)) != NULL)
		return problem;
	return read_data(object, event);
}

/* Read one event and hash it, the whole of it where it is malformed. */
void
billing_metering_parse_one(BillingUsageEvent *event, const JsonbValue *value,
						   pg_cryptohash_ctx *context)
{
	event->payload = *value;
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		event->problem = "event is not an object";
	else
		event->problem = read_event(value->val.binary.data, event);
	/* what has an id may be stored already, even if it cannot be read now */
	billing_metering_hash_key(context, event);
	if (event->problem == NULL)
	{
		billing_metering_hash_content(context, event);
		return;
	}
	event->outcome = USAGE_MALFORMED;
	billing_metering_hash_payload(context, event);
}

/* Read a batch: an array of events, or one event. */
void
billing_metering_parse(BillingUsageBatch *batch, Jsonb *input)
{
	JsonbContainer *events = &input->root;
	pg_cryptohash_ctx *context;
	JsonbIterator *iterator;
	JsonbValue value;

	if (JsonContainerIsScalar(events))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("events must be an array of CloudEvents, or one CloudEvent"),
						errhint("Give a JSON array of objects with id, source, type, subject, "
								"time and data.")));
	batch->count = JsonContainerIsArray(events) ? JsonContainerSize(events) : 1;
	if (batch->count > BILLING_USAGE_MAX_EVENTS)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("events are too many for one call"),
						errdetail("There are %d; at most %d are taken.", batch->count,
								  BILLING_USAGE_MAX_EVENTS),
						errhint("Send them in several calls.")));
	batch->events = palloc0(sizeof(BillingUsageEvent) * (batch->count + 1));
	context = billing_metering_hash_begin();
	if (JsonContainerIsObject(events))
	{
		value.type = jbvBinary;
		value.val.binary.data = events;
		value.val.binary.len = VARSIZE(input) - VARHDRSZ;
		billing_metering_parse_one(&batch->events[0], &value, context);
	}
	else
	{
		int32 position = 0;

		iterator = JsonbIteratorInit(events);
		(void) JsonbIteratorNext(&iterator, &value, true);
		while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
		{
			CHECK_FOR_INTERRUPTS();
			batch->events[position].position = position;
			billing_metering_parse_one(&batch->events[position++], &value, context);
		}
	}
	pg_cryptohash_free(context);
}
