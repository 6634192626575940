/*
 * workflow_approval_decide.c
 *		Approving and rejecting documents that have requests: what the actor says
 *		is recorded, and only the last approval that is needed takes the document
 *		on.  A rejection does so at once.
 *
 * Documents without requests are left to the engine: one approver within their
 * limit.  Who may decide is found in workflow_approval_mandate.c.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"
#include "workflow/workflow_approval.h"

/* $1 entity, $2 documents: in the order in which all others lock them */
static BillingStatement lock_documents = {
	"SELECT 1 FROM billing.document WHERE entity_id = $1 AND document_id = ANY ($2)"
	" ORDER BY document_id FOR NO KEY UPDATE",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 locked documents: those of whose version something is or was
 * asked, and the others.  What waits for an older version stands in the way too.
 */
static BillingStatement split = {
	"SELECT coalesce(array_agg(d.document_id ORDER BY d.document_id) FILTER (WHERE d.is_asked), '{}'),"
	" coalesce(array_agg(d.document_id ORDER BY d.document_id) FILTER (WHERE NOT d.is_asked), '{}')"
	" FROM (SELECT o.document_id, o.state = 'pending_approval' AND EXISTS ("
	"  SELECT FROM billing.approval_request r WHERE r.entity_id = $1 AND r.document_id = o.document_id"
	"  AND (r.state IN ('waiting', 'open') OR r.document_version = o.version)) AS is_asked"
	"  FROM billing.document o WHERE o.entity_id = $1 AND o.document_id = ANY ($2)) d",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 document, $3 actor, $4 decision: what is asked, for which version,
 * whether it has become more than was asked about, and whether the actor said so
 */
static BillingStatement find_asked = {
	"SELECT count(*) FILTER (WHERE r.state IN ('waiting', 'open')),"
	" bool_or(r.state IN ('waiting', 'open') AND r.document_version <> d.version),"
	" bool_or(r.document_version = d.version AND abs(d.amount) > abs(r.document_amount)),"
	" EXISTS (SELECT FROM billing.approval_decision s WHERE s.entity_id = $1 AND s.document_id = $2"
	"  AND s.document_version = d.version AND s.person_id = $3 AND s.counts AND s.decision = $4)"
	" FROM billing.document d JOIN billing.approval_request r"
	"  ON r.entity_id = d.entity_id AND r.document_id = d.document_id"
	" WHERE d.entity_id = $1 AND d.document_id = $2 GROUP BY d.version, d.entity_id, d.document_id",
	4,
	{ INT4OID, INT8OID, INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 document: whether whoever set its policy is the only one who approved it */
static BillingStatement find_lonely = {
	"SELECT EXISTS (SELECT FROM billing.document d JOIN billing.approval_request r"
	"  ON r.entity_id = d.entity_id AND r.document_id = d.document_id AND r.document_version = d.version"
	" JOIN billing.approval_policy p ON p.entity_id = r.policy_entity_id AND p.policy_id = r.policy_id"
	" WHERE d.entity_id = $1 AND d.document_id = $2 AND p.recorded_by IS NOT NULL AND NOT EXISTS ("
	"  SELECT FROM billing.approval_decision s WHERE s.entity_id = $1 AND s.document_id = $2"
	"  AND s.document_version = d.version AND s.counts AND s.person_id <> p.recorded_by))",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 document, $3 requests, $4 whether each is decided after its
 * deadline, $5 actor, $6 in whose place, $7 decision, $8 reason, $9 login's person.
 * A rejection is one of the first request.  The open requests are written, so that
 * of two who speak in snapshots that do not show each other one fails.
 */
static BillingStatement record = {
	"WITH said AS (INSERT INTO billing.approval_decision (entity_id, request_id, person_id, on_behalf_of,"
	"  document_id, document_version, given_for_version, decision, counts, is_escalation, reason,"
	"  login_person_id)"
	" SELECT r.entity_id, r.request_id, $5, $6, r.document_id, r.document_version, r.document_version,"
	"  $7, $7 = 'reject', q.escalates, $8, $9"
	" FROM unnest($3, $4) WITH ORDINALITY AS q (request_id, escalates, n)"
	" JOIN billing.approval_request r ON r.entity_id = $1 AND r.request_id = q.request_id"
	" WHERE $7 = 'approve' OR q.n = 1),"
	" touched AS (UPDATE billing.approval_request SET state = state"
	"  WHERE entity_id = $1 AND document_id = $2 AND state = 'open')"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" SELECT $1, $7 || '_request', d.kind, d.document_id::text, jsonb_build_object('version', d.version,"
	"  'levels', (SELECT jsonb_agg(r.level_no ORDER BY r.level_no) FROM billing.approval_request r"
	"   WHERE r.entity_id = $1 AND r.request_id = ANY ($3)), 'escalated', true = ANY ($4),"
	"  'on_behalf_of', (SELECT p.code FROM billing.person p WHERE p.person_id = $6)), $8"
	" FROM billing.document d WHERE d.entity_id = $1 AND d.document_id = $2",
	9,
	{ INT4OID, INT8OID, INT8ARRAYOID, BOOLARRAYOID, INT4OID, INT4OID, TEXTOID, TEXTOID, INT4OID },
	NULL
};

/* $1 entity, $2 document, $3 the request that was rejected */
static BillingStatement reject = {
	"UPDATE billing.approval_request SET closed_at = now(),"
	" state = CASE WHEN request_id = $3 THEN 'rejected' ELSE 'void' END"
	" WHERE entity_id = $1 AND document_id = $2 AND state IN ('waiting', 'open')",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* Write down what the actor says. */
static void
record_decision(int32 entity_id, int64 document_id, const BillingMandate *mandate,
				const char *decision, const char *reason)
{
	Datum values[9];
	char nulls[10] = "         ";
	Datum *requests = palloc(sizeof(Datum) * mandate->nrequests);
	Datum *escalates = palloc(sizeof(Datum) * mandate->nrequests);

	for (int i = 0; i < mandate->nrequests; i++)
	{
		requests[i] = Int64GetDatum(mandate->requests[i]);
		escalates[i] = BoolGetDatum(mandate->escalates[i]);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = PointerGetDatum(construct_array(requests, mandate->nrequests, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = PointerGetDatum(
		construct_array(escalates, mandate->nrequests, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR));
	values[4] = Int32GetDatum(billing_core_actor_person());
	values[5] = Int32GetDatum(mandate->on_behalf_of);
	values[6] = CStringGetTextDatum(decision);
	values[7] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	values[8] = Int32GetDatum(billing_core_login_person());
	nulls[5] = mandate->on_behalf_of < 0 ? 'n' : ' ';
	nulls[7] = reason == NULL ? 'n' : ' ';
	billing_core_run(&record, values, nulls, false);
}

/* Raise for a document that became more than those who were asked knew. */
static void
refuse_more(int64 document_id)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
					errmsg("the document is worth more than when its approval was asked for"),
					errdetail("It is document D" INT64_FORMAT ".", document_id),
					errhint("Reject it, and have it asked for again.")));
}

/* Refuse an approval by whoever set the policy, and by nobody else. */
static void
refuse_lonely(int32 entity_id, int64 document_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };
	const char *person;

	billing_core_run_privileged(&find_lonely, values, NULL, false);
	if (!DatumGetBool(billing_core_value(0, 0, NULL)))
		return;
	person = billing_core_person_code(billing_core_actor_person());
	ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
					errmsg("person \"%s\" cannot approve alone under a policy that they set",
						   person != NULL ? person : "?"),
					errdetail("It is document D" INT64_FORMAT ".", document_id),
					errhint("Another person who is asked can.")));
}

/*
 * Say something about one document that is locked; true where that decides it.
 * Call between SPI_connect() and SPI_finish().
 */
bool
billing_workflow_decide(int32 entity_id, int64 document_id, const char *action, const char *reason)
{
	bool is_approval = strcmp(action, "approve") == 0;
	const char *decision = is_approval ? "approve" : "reject";
	BillingMandate mandate;
	Datum values[4];
	bool isnull;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = CStringGetTextDatum(decision);
	billing_core_run(&find_asked, values, NULL, false);
	if (is_approval && DatumGetBool(billing_core_value(0, 2, &isnull)) && !isnull)
		refuse_more(document_id);
	if (DatumGetBool(billing_core_value(0, 1, &isnull)) && !isnull)
		billing_workflow_ask_again(entity_id, billing_workflow_set_of(document_id));
	else if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0 &&
			 DatumGetBool(billing_core_value(0, 3, NULL)))
		return true; /* said in this transaction: billing_workflow_is_decided() */
	billing_workflow_find_mandate(entity_id, document_id, action, is_approval, &mandate);
	record_decision(entity_id, document_id, &mandate, decision, reason);
	if (is_approval)
	{
		if (!billing_workflow_settle(entity_id, document_id, billing_core_actor_person()))
			return false;
		refuse_lonely(entity_id, document_id);
		return true;
	}
	values[2] = Int64GetDatum(mandate.requests[0]);
	billing_core_run(&reject, values, NULL, false);
	return true;
}

/* An array of one id. */
Datum
billing_workflow_set_of(int64 document_id)
{
	Datum element = Int64GetDatum(document_id);

	return PointerGetDatum(
		construct_array(&element, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Whether the action is one that approvers take. */
static bool
is_decision(const char *action)
{
	return strcmp(action, "approve") == 0 || strcmp(action, "reject") == 0 ||
		   strcmp(action, "send_back") == 0;
}

/* Split a set by whether something is asked of each document; false where of none. */
static bool
split_set(int32 entity_id, Datum document_ids, Datum *asked, Datum *plain)
{
	Datum values[2] = { Int32GetDatum(entity_id), document_ids };
	ArrayType *array;
	bool isnull;

	billing_workflow_hold(entity_id, false);
	billing_core_run(&lock_documents, values, NULL, false);
	billing_core_run(&split, values, NULL, false);
	*asked = billing_core_value_copy(0, 0, false, -1, &isnull);
	*plain = billing_core_value_copy(0, 1, false, -1, &isnull);
	array = DatumGetArrayTypeP(*asked);
	return ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > 0;
}

/*
 * Of the documents on which somebody takes an action: those that the engine has to
 * check, because nothing is asked of them, and those that take the step.  Whatever
 * is asked of the others is answered here.
 */
void
billing_workflow_route(int32 entity_id, Datum document_ids, const char *action, const char *reason,
					   Datum *plain, Datum *moving)
{
	Datum asked;
	Datum *ids;
	Datum *moves;
	int nasked;
	int nplain;
	int nmoves = 0;

	*plain = document_ids;
	*moving = document_ids;
	if (!is_decision(action) || !split_set(entity_id, document_ids, &asked, plain))
	{
		*plain = document_ids;
		return;
	}
	deconstruct_array(DatumGetArrayTypeP(*plain), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, NULL, &nplain);
	moves = palloc(sizeof(Datum) * (ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(asked)),
												   ARR_DIMS(DatumGetArrayTypeP(asked))) +
									nplain));
	while (nmoves < nplain)
	{
		moves[nmoves] = ids[nmoves];
		nmoves++;
	}
	deconstruct_array(DatumGetArrayTypeP(asked), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, NULL, &nasked);
	for (int i = 0; i < nasked; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (billing_workflow_decide(entity_id, DatumGetInt64(ids[i]), action, reason))
			moves[nmoves++] = ids[i];
	}
	*moving = PointerGetDatum(
		construct_array(moves, nmoves, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * For a room that does something when a document is approved, before it is: say
 * what the actor says, and tell whether that decides it.  True as well where nothing
 * is asked, and the engine will check.
 */
bool
billing_workflow_is_decided(int32 entity_id, int64 document_id, const char *action,
							const char *reason, bool *is_asked)
{
	Datum asked;
	Datum plain;

	*is_asked = split_set(entity_id, billing_workflow_set_of(document_id), &asked, &plain);
	return !*is_asked || billing_workflow_decide(entity_id, document_id, action, reason);
}
