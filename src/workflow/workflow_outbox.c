/*
 * workflow_outbox.c
 *		Writes messages to the outbox, in the transaction in which something
 *		happened, and deletes those that nobody needs any more.
 *
 * What becomes a message is a row of billing.outbox_type.  Who reads them is the
 * business of workflow_outbox_read.c.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "workflow/workflow.h"

/* Messages deleted by one statement. */
#define PURGE_BATCH 10000

/* Days that messages are kept at least, for who wants to read them again. */
static int keep_days = 30;

/* $1 entity, $2 documents, $3 the action that they have just taken */
static BillingStatement send_steps = {
	"INSERT INTO billing.outbox (entity_id, type, document_id, version)"
	" SELECT $1, o.type, d.document_id, d.version FROM unnest($2) AS q (document_id)"
	" CROSS JOIN LATERAL (SELECT d.document_id, d.kind, d.version FROM billing.document d"
	"  WHERE d.entity_id = $1 AND d.document_id = q.document_id OFFSET 0) d"
	" JOIN billing.outbox_type o ON o.kind = d.kind AND o.action = $3",
	3,
	{ INT4OID, INT8ARRAYOID, TEXTOID },
	NULL
};

/* the detail may name people: it is read where it can be erased */
#define SEND_EXCEPTIONS                                                                 \
	"INSERT INTO billing.outbox (entity_id, type, document_id, payload)"                \
	" SELECT n.entity_id, o.type, n.document_id, jsonb_build_object('exception',"       \
	"  n.exception_id, 'kind', n.kind, 'subject', n.subject, 'raised_at', n.raised_at," \
	"  'deadline', n.deadline) FROM new_rows n JOIN billing.outbox_type o"              \
	"  ON o.kind = 'exception' AND o.action = 'raise'"

static BillingStatement send_raised = { SEND_EXCEPTIONS " WHERE n.state = 'open'", 0, { 0 }, NULL };

static BillingStatement send_raised_again = {
	SEND_EXCEPTIONS
	" JOIN old_rows w ON w.entity_id = n.entity_id AND w.exception_id = n.exception_id"
	" WHERE n.state = 'open' AND w.state <> 'open'",
	0,
	{ 0 },
	NULL
};

/*
 * $1 days, $2 how many of each entity, the first ones: where none of them may go,
 * none behind them is looked at.  Up to the place that the slowest consumer of the
 * entity has confirmed; without a consumer by age alone.
 */
static BillingStatement purge = {
	"DELETE FROM billing.outbox WHERE ctid = ANY (ARRAY("
	" SELECT m.ctid FROM billing.legal_entity e"
	" CROSS JOIN LATERAL (SELECT o.ctid, o.transaction_id, o.message_id, o.created_at"
	"  FROM billing.outbox o WHERE o.entity_id = e.entity_id"
	"  ORDER BY o.transaction_id, o.message_id LIMIT $2) m"
	" WHERE m.created_at < now() - make_interval(days => $1)"
	"  AND NOT EXISTS (SELECT FROM billing.outbox_consumer c WHERE c.entity_id = e.entity_id"
	"   AND c.ended_at IS NULL AND (c.epoch, c.transaction_id, c.message_id)"
	"   < (billing_internal.outbox_epoch(m.message_id), m.transaction_id, m.message_id))))",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* for each entity and consumer whose oldest message waits for too long, once until it has caught up */
static BillingStatement complain = {
	"INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT w.entity_id, k.kind, 'consumer ' || w.consumer, w.consumer,"
	"  format('%s%s messages wait for consumer %s, the oldest since %s',"
	"   CASE WHEN w.waiting >= 10000 THEN 'at least ' ELSE '' END, w.waiting, w.consumer,"
	"   to_char(w.oldest_waiting AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')),"
	"  jsonb_build_object('consumer', w.consumer, 'waiting', w.waiting, 'oldest_waiting',"
	"   w.oldest_waiting, 'description', w.description),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM billing.outbox_lag w JOIN billing.exception_kind k ON k.kind = 'outbox_not_read'"
	" WHERE w.is_late ORDER BY w.entity_id, w.consumer"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE SET state = 'open', resolved_at = NULL,"
	"  resolved_by = NULL, resolution = NULL, detail = excluded.detail, payload = excluded.payload,"
	"  raised_at = now(), deadline = excluded.deadline WHERE x.state = 'resolved'",
	0,
	{ 0 },
	NULL
};

static BillingStatement calm_down = {
	"UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = 0,"
	" resolution = CASE WHEN w.ended_at IS NULL THEN 'the consumer reads again'"
	"  ELSE 'the consumer was taken back' END FROM billing.outbox_lag w"
	" WHERE x.kind = 'outbox_not_read' AND x.state = 'open' AND x.entity_id = w.entity_id"
	" AND x.subject = w.consumer AND NOT w.is_late",
	0,
	{ 0 },
	NULL
};

/* Define the room's settings. */
void
billing_workflow_init(void)
{
	DefineCustomIntVariable("billing_erp.outbox_keep_days",
							"Days that messages of the outbox are kept at least.",
							"Older ones are deleted when every consumer has confirmed them.",
							&keep_days, 30, 1, 36500, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/*
 * Write messages about documents (a Datum of bigint[]) that have just taken an
 * action, where that is one that others are told of.  Between SPI_connect() and
 * SPI_finish().
 */
void
billing_workflow_send(int32 entity_id, Datum document_ids, const char *action)
{
	Datum values[3];

	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = CStringGetTextDatum(action);
	billing_core_run(&send_steps, values, NULL, false);
}

/*
 * Run the statement of a statement trigger, which reads the transition tables and
 * inserts messages, as the tables' owner.  Rows of a dump bring their messages
 * with them.
 */
void
billing_workflow_send_rows(FunctionCallInfo fcinfo, BillingStatement *statement)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("this function is a trigger"),
				 errhint("It is not called by hand.")));
	if (billing_core_restoring)
		return;
	SPI_connect();
	if (SPI_register_trigger_data((TriggerData *) fcinfo->context) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("could not read the changed rows of table \"%s\"",
						RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation))));
	(void) billing_core_run_privileged(statement, NULL, NULL, false);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_workflow_send_exceptions);
PG_FUNCTION_INFO_V1(billing_workflow_purge_outbox);

/*
 * billing_internal.send_exceptions() RETURNS trigger, AFTER INSERT OR UPDATE STATEMENT with the
 * transition tables new_rows and, of an update, old_rows
 */
Datum
billing_workflow_send_exceptions(PG_FUNCTION_ARGS)
{
	bool is_update = CALLED_AS_TRIGGER(fcinfo) &&
					 TRIGGER_FIRED_BY_UPDATE(((TriggerData *) fcinfo->context)->tg_event);

	billing_workflow_send_rows(fcinfo, is_update ? &send_raised_again : &send_raised);
	PG_RETURN_POINTER(NULL);
}

/* billing_internal.purge_outbox() RETURNS void */
Datum
billing_workflow_purge_outbox(PG_FUNCTION_ARGS)
{
	Datum values[2] = { Int32GetDatum(keep_days), Int32GetDatum(PURGE_BATCH) };

	(void) fcinfo;
	SPI_connect();
	billing_core_run(&calm_down, NULL, NULL, false);
	billing_core_run(&complain, NULL, NULL, false);
	do
		CHECK_FOR_INTERRUPTS();
	while (billing_core_run(&purge, values, NULL, false) > 0);
	SPI_finish();
	PG_RETURN_VOID();
}
