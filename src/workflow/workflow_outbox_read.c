/*
 * workflow_outbox_read.c
 *		Gives the messages of the outbox to their consumers, and remembers how far
 *		each has come.
 *
 * Keys are given before transactions commit, so that "greater than the last one"
 * would lose messages.  A message is given when every transaction that began
 * before its own has ended, by transaction and key: nothing can appear before it
 * any more.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/xid8.h"
#include "workflow/workflow.h"

/* Messages that one call gives at most. */
#define MOST_MESSAGES 100000

/* Columns of billing.read_outbox(). */
#define MESSAGE_COLUMNS 7

static const char *const reader_duties[] = { "application", "admin" };

static BillingCall add_consumer = {
	NULL,
	5,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "consumer", ARG_CODE, false, NULL },
	  { "description", ARG_TEXT, true, NULL },
	  { "from start", ARG_BOOLEAN, false, NULL },
	  { "time until a warning", ARG_ANY, false, NULL } },
	{ "WITH place AS (SELECT (SELECT count(*)::integer FROM billing.outbox_restore) AS epoch,"
	  "  pg_snapshot_xmin(pg_current_snapshot()) AS transaction_id),"
	  " added AS (INSERT INTO billing.outbox_consumer AS c (entity_id, code, description, warn_after,"
	  "  epoch, transaction_id, message_id)"
	  "  SELECT $1, $2, $3, $5, CASE WHEN $4 THEN 0 ELSE p.epoch END,"
	  "   CASE WHEN $4 THEN '0'::xid8 ELSE p.transaction_id END, 0 FROM place p"
	  "  ON CONFLICT ON CONSTRAINT outbox_consumer_pkey DO UPDATE SET description = excluded.description,"
	  "   warn_after = excluded.warn_after, epoch = excluded.epoch, confirmed_at = NULL, ended_at = NULL,"
	  "   transaction_id = excluded.transaction_id, message_id = 0 WHERE c.ended_at IS NOT NULL"
	  "  RETURNING entity_id, code, description, warn_after)"
	  " INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	  " SELECT entity_id, 'add', 'outbox_consumer', code, jsonb_build_object('description',"
	  "  description, 'from_start', $4, 'warn_after', warn_after) FROM added",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall end_consumer = {
	NULL,
	3,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "consumer", ARG_CODE, false, NULL },
	  { "reason", ARG_TEXT, false, NULL } },
	{ "WITH ended AS (UPDATE billing.outbox_consumer SET ended_at = now()"
	  "  WHERE entity_id = $1 AND code = $2 AND ended_at IS NULL RETURNING entity_id, code)"
	  " INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, reason)"
	  " SELECT entity_id, 'end', 'outbox_consumer', code, $3 FROM ended",
	  0,
	  { 0 },
	  NULL }
};

/* $1 entity, $2 consumer */
static BillingStatement find_consumer = {
	"SELECT epoch, transaction_id, message_id FROM billing.outbox_consumer"
	" WHERE entity_id = $1 AND code = $2 AND ended_at IS NULL",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 the place after which, as epoch, transaction and message, $5 how many */
static BillingStatement list_contents = {
	"SELECT o.payload_function, array_agg(DISTINCT m.document_id)"
	" FROM billing_internal.outbox_after($1, $2, $3, $4, $5) m"
	" JOIN billing.outbox_type o ON o.type = m.type"
	" WHERE m.payload IS NULL AND m.document_id IS NOT NULL AND o.payload_function IS NOT NULL"
	" GROUP BY 1 ORDER BY 1",
	5,
	{ INT4OID, INT4OID, XID8OID, INT8OID, INT4OID },
	NULL
};

/* The same, and $6 the contents of documents by their ids */
static BillingStatement list_messages = {
	"SELECT m.message_id, format('%s.%s.%s', m.epoch, m.transaction_id, m.message_id), m.type,"
	" m.created_at, 'D' || m.document_id, m.version,"
	" coalesce(m.payload, jsonb_build_object('kind', d.kind, 'action', s.action, 'from_state',"
	"  s.from_state, 'to_state', s.to_state, 'actor', p.code, 'happened_at', s.happened_at,"
	"  'reason', s.reason, 'amount', d.amount, 'currency', d.currency)"
	"  || coalesce($6 -> m.document_id::text, '{}'))"
	" FROM billing_internal.outbox_after($1, $2, $3, $4, $5) m"
	" LEFT JOIN LATERAL (SELECT * FROM billing.document d WHERE d.entity_id = $1"
	"  AND d.document_id = m.document_id OFFSET 0) d ON true"
	" LEFT JOIN LATERAL (SELECT * FROM billing.document_step s WHERE s.entity_id = $1"
	"  AND s.document_id = m.document_id AND s.version = m.version OFFSET 0) s ON true"
	" LEFT JOIN billing.person p ON p.person_id = s.actor_id"
	" ORDER BY m.epoch, m.transaction_id, m.message_id",
	6,
	{ INT4OID, INT4OID, XID8OID, INT8OID, INT4OID, JSONBOID },
	NULL
};

/* $1 entity, $2 epoch, $3 transaction, $4 message: whether it is there, and may have been read */
static BillingStatement is_readable = {
	"SELECT 1 FROM billing.outbox o WHERE o.entity_id = $1 AND o.transaction_id = $3"
	" AND o.message_id = $4 AND billing_internal.outbox_epoch(o.message_id) = $2"
	" AND ($2 < (SELECT count(*) FROM billing.outbox_restore)"
	"  OR o.transaction_id < pg_snapshot_xmin(pg_current_snapshot()))",
	4,
	{ INT4OID, INT4OID, XID8OID, INT8OID },
	NULL
};

/* The same, and $5 consumer */
static BillingStatement move_forward = {
	"UPDATE billing.outbox_consumer SET epoch = $2, transaction_id = $3, message_id = $4,"
	" confirmed_at = now() WHERE entity_id = $1 AND code = $5 AND ended_at IS NULL"
	" AND (epoch, transaction_id, message_id) < ($2, $3, $4)",
	5,
	{ INT4OID, INT4OID, XID8OID, INT8OID, TEXTOID },
	NULL
};

/* The same: whether the consumer has passed that place */
static BillingStatement is_passed = {
	"SELECT 1 FROM billing.outbox_consumer WHERE entity_id = $1 AND code = $5"
	" AND (epoch, transaction_id, message_id) >= ($2, $3, $4)",
	5,
	{ INT4OID, INT4OID, XID8OID, INT8OID, TEXTOID },
	NULL
};

/* Raise for a consumer that was not added. */
static void
refuse_consumer(const char *consumer)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
					errmsg("consumer \"%s\" of the outbox does not exist", consumer),
					errhint("Add it with billing.add_outbox_consumer(); billing.outbox_lag lists "
							"those there are.")));
}

/* The arguments that readers share; the consumer's place goes to values[1..3]. */
static int32
begin_reading(FunctionCallInfo fcinfo, char **consumer, Datum *values)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum asked[2];

	billing_core_require_any_duty(entity_id, reader_duties, lengthof(reader_duties));
	*consumer = billing_core_arg_code(fcinfo, 1, "consumer");
	asked[0] = values[0] = Int32GetDatum(entity_id);
	asked[1] = CStringGetTextDatum(*consumer);
	SPI_connect();
	if (billing_core_run(&find_consumer, asked, NULL, true) == 0)
		refuse_consumer(*consumer);
	for (int i = 0; i < 3; i++)
		values[i + 1] = billing_core_value(0, i, NULL);
	return entity_id;
}

/* Add what a function says about documents to an object by document. */
static Datum
add_contents(Datum contents, const char *function, Datum entity_id, Datum documents)
{
	char *sql =
		psprintf("SELECT $3 || coalesce(jsonb_object_agg(c.document_id::text, c.payload), '{}')"
				 " FROM billing_internal.%s($1, $2) c",
				 quote_identifier(function));
	Oid types[3] = { INT4OID, INT8ARRAYOID, JSONBOID };
	Datum values[3] = { entity_id, documents, contents };
	bool isnull;

	if (SPI_execute_with_args(sql, 3, types, values, NULL, true, 1) != SPI_OK_SELECT)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not read the contents of messages"),
						errdetail("The function is billing_internal.%s.", function)));
	return billing_core_value_copy(0, 0, false, -1, &isnull);
}

/* The contents of all documents that the messages after a place are about. */
static Datum
read_contents(Datum *values)
{
	Datum contents = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	uint64 count = billing_core_run(&list_contents, values, NULL, true);
	char **functions = palloc(sizeof(char *) * (count + 1));
	Datum *documents = palloc(sizeof(Datum) * (count + 1));

	for (uint64 i = 0; i < count; i++)
	{
		bool isnull;

		functions[i] = billing_core_text_value(i, 0);
		documents[i] = billing_core_value_copy(i, 1, false, -1, &isnull);
	}
	for (uint64 i = 0; i < count; i++)
		contents = add_contents(contents, functions[i], values[0], documents[i]);
	return contents;
}

/* Epoch, transaction and message of a bookmark, to values[1..3]; false for what is none. */
static bool
parse_bookmark(const char *bookmark, Datum *values)
{
	unsigned int epoch;
	unsigned long long transaction;
	long long message;
	int end = 0;

	if (strspn(bookmark, "0123456789.") != strlen(bookmark) || strlen(bookmark) > 50 ||
		sscanf(bookmark, "%9u.%20llu.%18lld%n", &epoch, &transaction, &message, &end) != 3 ||
		bookmark[end] != '\0')
		return false;
	values[1] = Int32GetDatum((int32) epoch);
	values[2] = FullTransactionIdGetDatum(FullTransactionIdFromU64(transaction));
	values[3] = Int64GetDatum(message);
	return true;
}

PG_FUNCTION_INFO_V1(billing_workflow_add_outbox_consumer);
PG_FUNCTION_INFO_V1(billing_workflow_end_outbox_consumer);
PG_FUNCTION_INFO_V1(billing_workflow_read_outbox);
PG_FUNCTION_INFO_V1(billing_workflow_confirm_outbox);

/*
 * billing.add_outbox_consumer(entity text, consumer text, description text, from_start boolean,
 *                             warn_after interval) RETURNS void
 *
 * One that was taken back can be added again.
 */
Datum
billing_workflow_add_outbox_consumer(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(billing_core_arg_entity(fcinfo, 0));
	SPI_connect();
	if (billing_core_call(fcinfo, &add_consumer) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUPLICATE_CODE),
						errmsg("consumer \"%s\" of the outbox exists already",
							   text_to_cstring(PG_GETARG_TEXT_PP(1))),
						errhint("Take it back first with billing.end_outbox_consumer().")));
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.end_outbox_consumer(entity text, consumer text, reason text) RETURNS void */
Datum
billing_workflow_end_outbox_consumer(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(billing_core_arg_entity(fcinfo, 0));
	SPI_connect();
	if (billing_core_call(fcinfo, &end_consumer) == 0)
		refuse_consumer(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing.read_outbox(entity text, consumer text, max_messages integer)
 * RETURNS TABLE (message_id bigint, bookmark text, type text, created_at timestamptz, document text,
 *                version integer, payload jsonb)
 */
Datum
billing_workflow_read_outbox(PG_FUNCTION_ARGS)
{
	int32 most = billing_core_arg_int(fcinfo, 2, "maximal number of messages", 1, MOST_MESSAGES);
	Datum values[6];
	Datum row[MESSAGE_COLUMNS];
	bool nulls[MESSAGE_COLUMNS];
	ReturnSetInfo *result;
	char *consumer;
	uint64 count;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	(void) begin_reading(fcinfo, &consumer, values);
	values[4] = Int32GetDatum(most);
	values[5] = read_contents(values);
	count = billing_core_run(&list_messages, values, NULL, true);
	for (uint64 i = 0; i < count; i++)
	{
		for (int column = 0; column < MESSAGE_COLUMNS; column++)
			row[column] = billing_core_value(i, column, &nulls[column]);
		tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * billing.confirm_outbox(entity text, consumer text, bookmark text) RETURNS boolean
 *
 * Whether the consumer came forward.  A place that it has passed is no error, so
 * that a call may be repeated; one that it cannot have read is.
 */
Datum
billing_workflow_confirm_outbox(PG_FUNCTION_ARGS)
{
	char *bookmark = billing_core_arg_code(fcinfo, 2, "bookmark");
	Datum values[5];
	char *consumer;
	bool moved;

	(void) begin_reading(fcinfo, &consumer, values);
	if (!parse_bookmark(bookmark, values))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("bookmark is none of the outbox"),
				 errdetail("The value is \"%s\".", bookmark),
				 errhint("Give the bookmark of a message that billing.read_outbox() gave.")));
	values[4] = CStringGetTextDatum(consumer);
	moved = billing_core_run(&is_readable, values, NULL, false) > 0 &&
			billing_core_run(&move_forward, values, NULL, false) > 0;
	if (!moved && billing_core_run(&is_passed, values, NULL, false) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE),
				 errmsg("message of bookmark \"%s\" does not exist", bookmark),
				 errdetail("No message that can be read is at that place."),
				 errhint("Give the bookmark of a message that billing.read_outbox() gave.")));
	SPI_finish();
	PG_RETURN_BOOL(moved);
}
