/*
 * metering_fields.c
 *		Events that come in columns: the second door, where callers bind arrays,
 *		and what the inbox holds.
 *
 * They are checked as those that come as JSON.  The CloudEvent that an exception
 * keeps is put together only for an event that cannot be taken.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"

/* Add a text to the object that is being put together, unless it is null. */
static void
push_text(JsonbParseState **state, const char *name, const char *bytes, int length)
{
	JsonbValue value;

	if (bytes == NULL)
		return;
	value.type = jbvString;
	value.val.string.val = unconstify(char *, name);
	value.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &value);
	value.val.string.val = unconstify(char *, bytes);
	value.val.string.len = length;
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* Add the data to the object: a container, or a scalar, which is no data that can be taken. */
static void
push_data(JsonbParseState **state, Jsonb *data)
{
	JsonbValue value;

	if (data == NULL)
		return;
	value.type = jbvString;
	value.val.string.val = "data";
	value.val.string.len = strlen("data");
	pushJsonbValue(state, WJB_KEY, &value);
	if (!JB_ROOT_IS_SCALAR(data) || !JsonbExtractScalar(&data->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &data->root;
		value.val.binary.len = VARSIZE(data) - VARHDRSZ;
	}
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* The fields as a CloudEvent; those that are null are left out. */
static Jsonb *
fields_to_event(const BillingUsageFields *fields)
{
	JsonbParseState *state = NULL;
	char time[MAXDATELEN + 1];
	int utc = 0;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_text(&state, "specversion", "1.0", 3);
	push_text(&state, "id", fields->id.bytes, fields->id.length);
	push_text(&state, "source", fields->source.bytes, fields->source.length);
	push_text(&state, "type", fields->type.bytes, fields->type.length);
	push_text(&state, "subject", fields->subject.bytes, fields->subject.length);
	if (fields->has_time)
	{
		JsonEncodeDateTime(time, TimestampTzGetDatum(fields->time), TIMESTAMPTZOID, &utc);
		push_text(&state, "time", time, strlen(time));
	}
	push_data(&state, fields->data);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The event as it came, complete: what an exception keeps. */
Jsonb *
billing_metering_payload(const BillingUsageEvent *event)
{
	JsonbValue payload = event->payload;
	BillingUsageFields fields;

	if (!event->in_columns)
		return JsonbValueToJsonb(&payload);
	fields.id = event->key;
	fields.source = event->source;
	fields.type = event->type;
	fields.subject = event->subject;
	fields.has_time = true;
	fields.time = event->occurred_at;
	fields.data = event->data;
	return fields_to_event(&fields);
}

/* Check a text that must be there and take it into the event; says what is wrong, or NULL. */
static const char *
read_text(const char *name, BillingUsageText value, BillingUsageText *text)
{
	const char *problem = value.bytes == NULL ? billing_metering_problem(name, "is missing")
											  : billing_metering_check_name(name, value);

	if (problem == NULL)
		*text = value;
	return problem;
}

/* Take the data into the event, a JSON null as none; says what is wrong, or NULL. */
static const char *
read_data(Jsonb *data, BillingUsageEvent *event)
{
	JsonbValue scalar;

	if (data == NULL || (JB_ROOT_IS_SCALAR(data) && JsonbExtractScalar(&data->root, &scalar) &&
						 scalar.type == jbvNull))
		return NULL;
	if (!JB_ROOT_IS_OBJECT(data))
		return billing_metering_problem("data", "is not an object");
	event->data = data;
	return billing_metering_check_data(event, VARSIZE(data) - VARHDRSZ);
}

/* Check all fields and take them into the event; says what is wrong with the first bad one, or NULL. */
static const char *
read_event(const BillingUsageFields *fields, BillingUsageEvent *event)
{
	const char *problem;

	if ((problem = read_text("id", fields->id, &event->key)) != NULL ||
		(problem = read_text("source", fields->source, &event->source)) != NULL ||
		(problem = read_text("type", fields->type, &event->type)) != NULL ||
		(problem = read_text("subject", fields->subject, &event->subject)) != NULL)
		return problem;
	if (!fields->has_time)
		return billing_metering_problem("time", "is missing");
	if (TIMESTAMP_NOT_FINITE(fields->time))
		return billing_metering_problem("time", "is infinite");
	event->occurred_at = fields->time;
	return read_data(fields->data, event);
}

/* How many bytes an event has. */
int64
billing_metering_fields_size(const BillingUsageFields *fields)
{
	return (int64) fields->id.length + fields->source.length + fields->type.length +
		   fields->subject.length + (fields->data != NULL ? VARSIZE(fields->data) : 0);
}

/* Read an event out of its fields, which must live as long, and hash it. */
void
billing_metering_read_fields(BillingUsageEvent *event, const BillingUsageFields *fields,
							 pg_cryptohash_ctx *context)
{
	Jsonb *payload;

	event->problem = read_event(fields, event);
	billing_metering_hash_key(context, event);
	if (event->problem == NULL)
	{
		event->in_columns = true;
		billing_metering_hash_content(context, event);
		return;
	}
	event->outcome = USAGE_MALFORMED;
	payload = fields_to_event(fields);
	event->payload.type = jbvBinary;
	event->payload.val.binary.data = &payload->root;
	event->payload.val.binary.len = VARSIZE(payload) - VARHDRSZ;
	billing_metering_hash_payload(context, event);
}

/* An argument of the second door: a column of the events. */
typedef struct Column
{
	const char *name;
	Oid type;
	bool optional;	 /* may be null as a whole */
	bool repeatable; /* may have one element for all events */
	int count;
	Datum *values;
	bool *nulls;
} Column;

/* Take an array argument apart. */
static void
read_column(FunctionCallInfo fcinfo, int argno, Column *column)
{
	ArrayType *array;

	if (PG_ARGISNULL(argno))
	{
		if (column->optional)
			return;
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be null", column->name),
						errhint("Give an array with an element for each event.")));
	}
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must be an array of one dimension", column->name),
						errdetail("It has %d dimensions.", ARR_NDIM(array)),
						errhint("Give an array with an element for each event.")));
	deconstruct_array(array, column->type,
					  column->type == TIMESTAMPTZOID ? (int) sizeof(TimestampTz) : -1,
					  column->type == TIMESTAMPTZOID,
					  column->type == TIMESTAMPTZOID ? TYPALIGN_DOUBLE : TYPALIGN_INT,
					  &column->values, &column->nulls, &column->count);
}

/* The element of a column that is a text of an event; without bytes where it is null. */
static BillingUsageText
text_at(const Column *column, int32 i)
{
	BillingUsageText result = { NULL, 0 };
	text *value;

	if (column->repeatable && column->count == 1)
		i = 0;
	if (column->nulls[i])
		return result;
	value = DatumGetTextPP(column->values[i]);
	result.bytes = VARDATA_ANY(value);
	result.length = VARSIZE_ANY_EXHDR(value);
	return result;
}

enum
{
	SOURCE,
	ID,
	TYPE,
	SUBJECT,
	TIME,
	DATA,
	COLUMNS
};

/* Check that the columns fit each other, and return how many events they are. */
static int32
count_events(const Column *columns)
{
	int32 count = columns[ID].count;
	int i;

	for (i = 0; i < COLUMNS; i++)
	{
		if (columns[i].count == count || (columns[i].repeatable && columns[i].count == 1) ||
			columns[i].values == NULL)
			continue;
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("arrays must have the same number of elements"),
						errdetail("There are %d in id, and %d in %s.", count, columns[i].count,
								  columns[i].name),
						errhint("Only source may have one element for all events.")));
	}
	if (count > BILLING_USAGE_MAX_EVENTS)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("events are too many for one call"),
				 errdetail("There are %d; at most %d are taken.", count, BILLING_USAGE_MAX_EVENTS),
				 errhint("Send them in several calls.")));
	return count;
}

/*
 * Read a batch out of the arguments from argno on: source, id, type, subject,
 * time, data.  The events point into the arguments.
 */
void
billing_metering_read_columns(FunctionCallInfo fcinfo, int argno, BillingUsageBatch *batch)
{
	Column columns[COLUMNS] = {
		[SOURCE] = { .name = "source", .type = TEXTOID, .repeatable = true },
		[ID] = { .name = "id", .type = TEXTOID },
		[TYPE] = { .name = "type", .type = TEXTOID },
		[SUBJECT] = { .name = "subject", .type = TEXTOID },
		[TIME] = { .name = "time", .type = TIMESTAMPTZOID },
		[DATA] = { .name = "data", .type = JSONBOID, .optional = true },
	};
	pg_cryptohash_ctx *context;
	int32 i;

	for (i = 0; i < COLUMNS; i++)
		read_column(fcinfo, argno + i, &columns[i]);
	batch->count = count_events(columns);
	batch->events = palloc0(sizeof(BillingUsageEvent) * (batch->count + 1));
	context = billing_metering_hash_begin();
	for (i = 0; i < batch->count; i++)
	{
		BillingUsageFields fields;

		CHECK_FOR_INTERRUPTS();
		fields.source = text_at(&columns[SOURCE], i);
		fields.id = text_at(&columns[ID], i);
		fields.type = text_at(&columns[TYPE], i);
		fields.subject = text_at(&columns[SUBJECT], i);
		fields.has_time = !columns[TIME].nulls[i];
		fields.time = fields.has_time ? DatumGetTimestampTz(columns[TIME].values[i]) : 0;
		fields.data = columns[DATA].values == NULL || columns[DATA].nulls[i]
						  ? NULL
						  : DatumGetJsonbP(columns[DATA].values[i]);
		if (billing_metering_fields_size(&fields) > BILLING_USAGE_MAX_EVENT)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("event is too large"),
					 errdetail("Event %d has " INT64_FORMAT " bytes; at most %d are taken.", i + 1,
							   billing_metering_fields_size(&fields), BILLING_USAGE_MAX_EVENT),
					 errhint("Keep such data elsewhere, and send what is to be billed.")));
		batch->events[i].position = i;
		billing_metering_read_fields(&batch->events[i], &fields, context);
	}
	pg_cryptohash_free(context);
}
