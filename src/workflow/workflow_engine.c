/*
 * workflow_engine.c
 *		Takes documents, one or many, from state to state: whatever
 *		billing.transition does not allow is refused, whatever happens is a row of
 *		billing.document_step and of the audit log.
 *
 * A set is moved by two statements, whatever its size.  What an action means
 * (a number, a due date) is the business of the document's own room.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* Tells the advisory lock of an entity's state machine from those of users and of other rooms. */
#define MACHINE_LOCK_CLASS 0xb113

/*
 * $1 entity, $2 documents, $3 action, $4 actor, $5 login's person, $6 whether a
 * function takes it.  Locks the documents in the order of their keys, so that two
 * sets cannot deadlock, and tells what stands against the action.
 */
static BillingStatement inspect = {
	"SELECT count(*),"
	" min(d.document_id) FILTER (WHERE t.to_state IS NULL OR (t.guard = 'system' AND NOT $6)),"
	" min(d.document_id) FILTER (WHERE t.guard = 'independent' AND d.maker_id IN ($4, $5)),"
	" min(d.document_id) FILTER (WHERE t.guard = 'independent' AND NOT coalesce("
	"   (SELECT bool_or(a.approval_limit IS NULL"
	"     OR (e.currency = d.currency AND a.approval_limit >= abs(d.amount)))"
	"    FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	"    WHERE a.entity_id = d.entity_id AND a.person_id = $4 AND a.duty = t.duty"
	"    AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date), false)),"
	" min(d.document_id) FILTER (WHERE t.guard = 'maker' AND d.maker_id <> $4),"
	" array_agg(DISTINCT t.duty) FILTER (WHERE t.duty IS NOT NULL)"
	" FROM (SELECT * FROM billing.document WHERE entity_id = $1 AND document_id = ANY ($2)"
	"   ORDER BY document_id FOR NO KEY UPDATE) d"
	" LEFT JOIN billing_internal.transition_of($1) t"
	"   ON t.kind = d.kind AND t.from_state = d.state AND t.action = $3",
	6,
	{ INT4OID, INT8ARRAYOID, TEXTOID, INT4OID, INT4OID, BOOLOID },
	NULL
};

/* $1 entity, $2 documents, $3 action, $4 actor, $5 reason */
static BillingStatement move = {
	"WITH moved AS ("
	" UPDATE billing.document d SET state = t.to_state, version = d.version + 1, state_since = now()"
	" FROM billing_internal.transition_of($1) t, billing.document o"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)"
	" AND o.entity_id = $1 AND o.document_id = ANY ($2) AND o.document_id = d.document_id"
	" AND t.kind = d.kind AND t.from_state = d.state AND t.action = $3"
	" RETURNING d.entity_id, d.document_id, d.kind, d.version, t.from_state, t.to_state,"
	" now() - o.state_since AS time_in_state),"
	" step AS ("
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, from_state,"
	" to_state, actor_id, time_in_state, reason)"
	" SELECT entity_id, document_id, version, $3, from_state, to_state, $4, time_in_state, $5"
	" FROM moved)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, before, after, reason)"
	" SELECT entity_id, $3, kind, document_id::text,"
	" jsonb_build_object('state', from_state, 'version', version - 1),"
	" jsonb_build_object('state', to_state, 'version', version), $5 FROM moved",
	5,
	{ INT4OID, INT8ARRAYOID, TEXTOID, INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 document: its kind, its state, and the actions for which there is a function */
static BillingStatement describe = {
	"SELECT d.kind, d.state,"
	" (SELECT string_agg(t.action, ', ' ORDER BY t.action) FROM billing_internal.transition_of($1) t"
	"  WHERE t.kind = d.kind AND t.from_state = d.state AND t.function_name IS NOT NULL)"
	" FROM billing.document d WHERE d.entity_id = $1 AND d.document_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 document: locked, so that the version stays what it is */
static BillingStatement version_of = {
	"SELECT version, state FROM billing.document WHERE entity_id = $1 AND document_id = $2"
	" FOR NO KEY UPDATE",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * Keep an entity's state machine as it is until the transaction ends, beside
 * others who take its documents on; or alone, to change it.
 */
void
billing_workflow_hold(int32 entity_id, bool alone)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, (uint32) entity_id, MACHINE_LOCK_CLASS);
	(void) LockAcquire(&tag, alone ? ExclusiveLock : ShareLock, false, false);
}

/* Raise for a document whose state has no such action. */
static void
refuse_transition(int32 entity_id, Datum document_id, const char *action)
{
	Datum values[2] = { Int32GetDatum(entity_id), document_id };
	char *kind;
	char *state;
	char *actions;

	billing_core_run(&describe, values, NULL, false);
	kind = billing_core_text_value(0, 0);
	state = billing_core_text_value(0, 1);
	actions = billing_core_text_value(0, 2);
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_TRANSITION),
					errmsg("cannot %s a document of kind %s in state %s", action, kind, state),
					errdetail("It is document D" INT64_FORMAT ".", DatumGetInt64(document_id)),
					actions != NULL ? errhint("What can be done now: %s.", actions)
									: errhint("Nothing leads out of that state.")));
}

/* The code of the person who acts, for messages. */
static const char *
actor_name(void)
{
	const char *person = billing_core_person_code(billing_core_actor_person());

	return person != NULL ? person : "?";
}

/* Raise for a maker who would be their own checker. */
static void
refuse_maker(Datum document_id, const char *action, const char *duty)
{
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
			 errmsg("person \"%s\" cannot %s a document of their own making", actor_name(), action),
			 errdetail("It is document D" INT64_FORMAT ".", DatumGetInt64(document_id)),
			 errhint("Another person with the duty %s can.", duty)));
}

/* Raise for somebody who would take a document out of its maker's hands. */
static void
refuse_other(Datum document_id, const char *action)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
					errmsg("person \"%s\" cannot %s a document that another person made",
						   actor_name(), action),
					errdetail("It is document D" INT64_FORMAT ".", DatumGetInt64(document_id)),
					errhint("Its maker can.")));
}

/* Raise for an amount beyond the approver's limit. */
static void
refuse_limit(Datum document_id, const char *action)
{
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
			 errmsg("person \"%s\" cannot %s a document beyond their limit", actor_name(), action),
			 errdetail("It is document D" INT64_FORMAT
					   ". A limit is an amount in the entity's currency; documents in another "
					   "currency need an approver without a limit.",
					   DatumGetInt64(document_id)),
			 errhint("Another approver with a higher limit can.")));
}

/* Ask for each of the duties, and give the first. */
static char *
require_duties(int32 entity_id, Datum duties)
{
	Datum *elements;
	int count;

	deconstruct_array(DatumGetArrayTypeP(duties), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL,
					  &count);
	for (int i = 0; i < count; i++)
		billing_core_require_duty(entity_id, TextDatumGetCString(elements[i]));
	return TextDatumGetCString(elements[0]);
}

/* Go on only if the actor may take the action on every document of the set. */
static void
check_set(int32 entity_id, Datum document_ids, const char *action, bool by_function)
{
	enum
	{
		STUCK = 1,
		OWN,
		BEYOND,
		OTHERS,
		DUTIES
	};
	Datum values[6];
	Datum found[DUTIES + 1];
	bool none[DUTIES + 1];
	char *duty;

	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = CStringGetTextDatum(action);
	values[3] = Int32GetDatum(billing_core_actor_person());
	values[4] = Int32GetDatum(billing_core_login_person());
	values[5] = BoolGetDatum(by_function);
	billing_core_run(&inspect, values, NULL, false);
	if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0)
		return;
	for (int i = STUCK; i <= DUTIES; i++)
		found[i] = billing_core_value(0, i, &none[i]);
	if (!none[STUCK])
		refuse_transition(entity_id, found[STUCK], action);
	duty = require_duties(entity_id, found[DUTIES]);
	if (!none[OWN])
		refuse_maker(found[OWN], action, duty);
	if (!none[OTHERS])
		refuse_other(found[OTHERS], action);
	if (!none[BEYOND])
		refuse_limit(found[BEYOND], action);
}

/*
 * Go on only if the argument, where it is given, is the version of the document:
 * for a decision upon what the caller has read.  The document stays locked.
 * Call between SPI_connect() and SPI_finish().
 */
void
billing_workflow_expect_version(FunctionCallInfo fcinfo, int argno, int32 entity_id,
								int64 document_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };
	int32 version;

	if (PG_NARGS() <= argno || PG_ARGISNULL(argno))
		return;
	if (billing_core_run(&version_of, values, NULL, false) == 0)
		return;
	version = DatumGetInt32(billing_core_value(0, 0, NULL));
	if (version != PG_GETARG_INT32(argno))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_STALE_VERSION),
				 errmsg("the document has changed since version %d", PG_GETARG_INT32(argno)),
				 errdetail("It is document D" INT64_FORMAT ", now of version %d and in state %s.",
						   document_id, version, billing_core_text_value(0, 1)),
				 errhint("Read it again, then decide.")));
}

/*
 * Take the documents to where the action leads, whoever may: for what a function
 * has decided.  Call between SPI_connect() and SPI_finish().
 */
void
billing_workflow_move(int32 entity_id, Datum document_ids, const char *action, const char *reason)
{
	Datum values[5];
	char nulls[6] = "     ";

	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = CStringGetTextDatum(action);
	values[3] = Int32GetDatum(billing_core_actor_person());
	values[4] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	if (reason == NULL)
		nulls[4] = 'n';
	if (billing_core_run(&move, values, nulls, false) > 0)
	{
		billing_workflow_send(entity_id, document_ids, action);
		billing_workflow_follow(entity_id, document_ids);
	}
}

/*
 * Take an action on a set of documents of one entity (a Datum of bigint[]); all
 * of them or none.  by_function is true for the actions that only functions
 * take, such as submitting what validation has passed.  A document of which
 * approvals are asked moves with the last of them.  Call between SPI_connect()
 * and SPI_finish().
 */
void
billing_workflow_advance(int32 entity_id, Datum document_ids, const char *action,
						 const char *reason, bool by_function)
{
	Datum plain;
	Datum moving;

	billing_workflow_hold(entity_id, false);
	billing_workflow_route(entity_id, document_ids, action, reason, &plain, &moving);
	check_set(entity_id, plain, action, by_function);
	if (strcmp(action, "approve") == 0)
		billing_workflow_hold_duty(entity_id, plain, action);
	billing_workflow_move(entity_id, moving, action, reason);
}
