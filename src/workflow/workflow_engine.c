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
#include "utils/builtins.h"
#include "workflow/workflow.h"

/*
 * $1 entity, $2 documents, $3 action, $4 actor, $5 login's person.  Locks the
 * documents in the order of their keys, so that two sets cannot deadlock, and
 * tells what stands against the action.
 */
static BillingStatement inspect = {
	"SELECT count(*),"
	" min(d.document_id) FILTER (WHERE t.to_state IS NULL),"
	" min(d.document_id) FILTER (WHERE t.guard = 'independent' AND d.maker_id IN ($4, $5)),"
	" min(d.document_id) FILTER (WHERE t.guard = 'independent' AND NOT coalesce("
	"   (SELECT bool_or(a.approval_limit IS NULL"
	"     OR (e.currency = d.currency AND a.approval_limit >= abs(d.amount)))"
	"    FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	"    WHERE a.entity_id = d.entity_id AND a.person_id = $4 AND a.duty = t.duty"
	"    AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date), false)),"
	" bool_or(t.guard = 'system'),"
	" min(t.duty), max(t.duty)"
	" FROM (SELECT * FROM billing.document WHERE entity_id = $1 AND document_id = ANY ($2)"
	"   ORDER BY document_id FOR NO KEY UPDATE) d"
	" LEFT JOIN billing.transition t"
	"   ON t.kind = d.kind AND t.from_state = d.state AND t.action = $3",
	5,
	{ INT4OID, INT8ARRAYOID, TEXTOID, INT4OID, INT4OID },
	NULL
};

/* $1 entity, $2 documents, $3 action, $4 actor, $5 reason */
static BillingStatement move = {
	"WITH moved AS ("
	" UPDATE billing.document d SET state = t.to_state, version = d.version + 1, state_since = now()"
	" FROM billing.transition t, billing.document o"
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

/* $1 entity, $2 document */
static BillingStatement describe = {
	"SELECT d.kind, d.state,"
	" (SELECT string_agg(t.action, ', ' ORDER BY t.action) FROM billing.transition t"
	"  WHERE t.kind = d.kind AND t.from_state = d.state)"
	" FROM billing.document d WHERE d.entity_id = $1 AND d.document_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

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

/* Raise for a maker who would be their own checker. */
static void
refuse_maker(Datum document_id, const char *action)
{
	const char *person = billing_core_person_code(billing_core_actor_person());

	ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
					errmsg("person \"%s\" cannot %s a document of their own making",
						   person != NULL ? person : "?", action),
					errdetail("It is document D" INT64_FORMAT ".", DatumGetInt64(document_id)),
					errhint("Another person with the duty approver can.")));
}

/* Raise for an amount beyond the approver's limit. */
static void
refuse_limit(Datum document_id, const char *action)
{
	const char *person = billing_core_person_code(billing_core_actor_person());

	ereport(ERROR,
			(errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
			 errmsg("person \"%s\" cannot %s a document beyond their limit",
					person != NULL ? person : "?", action),
			 errdetail("It is document D" INT64_FORMAT
					   ". A limit is an amount in the entity's currency; documents in another "
					   "currency need an approver without a limit.",
					   DatumGetInt64(document_id)),
			 errhint("Another approver with a higher limit can.")));
}

/* Go on only if the actor may take the action on every document of the set. */
static void
check_set(int32 entity_id, Datum document_ids, const char *action, bool by_function)
{
	Datum values[5];
	Datum stuck;
	Datum own;
	Datum beyond;
	bool is_stuck;
	bool is_own;
	bool is_beyond;
	bool system_only;
	bool isnull;
	char *duty;

	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = CStringGetTextDatum(action);
	values[3] = Int32GetDatum(billing_core_actor_person());
	values[4] = Int32GetDatum(billing_core_login_person());
	billing_core_run(&inspect, values, NULL, false);
	if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0)
		return;
	stuck = billing_core_value(0, 1, &isnull);
	is_stuck = !isnull;
	own = billing_core_value(0, 2, &isnull);
	is_own = !isnull;
	beyond = billing_core_value(0, 3, &isnull);
	is_beyond = !isnull;
	system_only = DatumGetBool(billing_core_value(0, 4, &isnull)) && !isnull;
	duty = billing_core_text_value(0, 5);
	if (is_stuck || (system_only && !by_function))
		refuse_transition(entity_id, is_stuck ? stuck : Int64GetDatum(0), action);
	billing_core_require_duty(entity_id, duty);
	if (is_own)
		refuse_maker(own, action);
	if (is_beyond)
		refuse_limit(beyond, action);
}

/*
 * Take an action on a set of documents of one entity (a Datum of bigint[]); all
 * of them or none.  by_function is true for the actions that only functions
 * take, such as submitting what validation has passed.  Call between
 * SPI_connect() and SPI_finish().
 */
void
billing_workflow_advance(int32 entity_id, Datum document_ids, const char *action,
						 const char *reason, bool by_function)
{
	Datum values[5];
	char nulls[6] = "     ";

	check_set(entity_id, document_ids, action, by_function);
	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = CStringGetTextDatum(action);
	values[3] = Int32GetDatum(billing_core_actor_person());
	values[4] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	if (reason == NULL)
		nulls[4] = 'n';
	billing_core_run(&move, values, nulls, false);
}
