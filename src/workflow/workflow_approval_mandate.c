/*
 * workflow_approval_mandate.c
 *		Whether the actor may decide about a document that has requests, for which
 *		of them, and in whose place; and what keeps that true until the transaction
 *		ends: the rows of the duty and the delegation stay locked.
 *
 * Who may decide what is a row of billing.approval_candidate; this file finds the
 * actor's, tells them what stands against it, and counts daily limits.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"
#include "workflow/workflow_approval.h"

#define NOBODY (-1)

/*
 * $1 entity, $2 document, $3 actor.  What can be done first, then in their own
 * right first; a mandate of another is taken as a whole, that of one person.
 */
static BillingStatement find_candidates = {
	"SELECT c.request_id, coalesce(c.on_behalf_of, -1), c.assignment_id, c.delegation_id,"
	" c.is_escalation, c.obstacle, c.amount FROM billing.approval_candidate c"
	" WHERE c.entity_id = $1 AND c.document_id = $2 AND c.person_id = $3"
	" ORDER BY c.obstacle IS NOT NULL, c.on_behalf_of NULLS FIRST, c.request_id, c.is_escalation,"
	"  c.assignment_id, c.delegation_id",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 document, $3 actor, $4 login's person: who made it, and who of the two has spoken through the other */
static BillingStatement find_login_conflict = {
	"SELECT d.maker_id IN ($3, $4), EXISTS (SELECT FROM billing.approval_decision s"
	"  WHERE s.entity_id = $1 AND s.document_id = $2 AND s.document_version = d.version AND s.counts"
	"  AND ($4 IN (s.person_id, s.on_behalf_of) AND $4 <> $3"
	"   OR $3 = s.login_person_id AND $3 <> s.person_id))"
	" FROM billing.document d WHERE d.entity_id = $1 AND d.document_id = $2",
	4,
	{ INT4OID, INT8OID, INT4OID, INT4OID },
	NULL
};

/* $1 entity, $2 assignment: in force still; whoever takes it away waits */
static BillingStatement lock_assignment = {
	"SELECT a.daily_limit, a.person_id, (now() AT TIME ZONE e.time_zone)::date"
	" FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	" WHERE a.entity_id = $1 AND a.assignment_id = $2"
	" AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date"
	" FOR SHARE OF a",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 delegation */
static BillingStatement lock_delegation = {
	"SELECT 1 FROM billing.delegation g JOIN billing.legal_entity e USING (entity_id)"
	" WHERE g.entity_id = $1 AND g.delegation_id = $2"
	" AND daterange(g.valid_from, g.valid_to) @> (now() AT TIME ZONE e.time_zone)::date"
	" FOR SHARE OF g",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 documents, $3 actor, $4 action: the assignments under which they
 * decide about documents without requests; null where one was taken away
 */
static BillingStatement find_assignments = {
	"SELECT a.assignment_id FROM (SELECT DISTINCT t.duty FROM billing.document d"
	"  JOIN billing_internal.transition_of($1) t"
	"   ON t.kind = d.kind AND t.from_state = d.state AND t.action = $4 AND t.guard = 'independent'"
	"  WHERE d.entity_id = $1 AND d.document_id = ANY ($2)) n"
	" JOIN billing.legal_entity e ON e.entity_id = $1"
	" LEFT JOIN billing.duty_assignment a ON a.entity_id = $1 AND a.person_id = $3 AND a.duty = n.duty"
	"  AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date",
	4,
	{ INT4OID, INT8ARRAYOID, INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 documents: their size in the entity's currency, null where one is in another */
static BillingStatement sum_documents = {
	"SELECT CASE WHEN bool_and(d.currency = e.currency) THEN sum(abs(d.amount)) END"
	" FROM billing.document d JOIN billing.legal_entity e USING (entity_id)"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 person, $3 day, $4 amount, $5 limit: a row where that much is left; two at once wait for each other */
static BillingStatement count_amount = {
	"INSERT INTO billing.approved_on_day AS o (entity_id, person_id, day, amount)"
	" SELECT $1, $2, $3, $4 WHERE $4 <= $5"
	" ON CONFLICT ON CONSTRAINT approved_on_day_pkey DO UPDATE SET amount = o.amount + excluded.amount"
	" WHERE o.amount + excluded.amount <= $5 RETURNING 1",
	5,
	{ INT4OID, INT4OID, DATEOID, NUMERICOID, NUMERICOID },
	NULL
};

/* The code of the person who acts, for messages. */
static const char *
actor_name(void)
{
	const char *person = billing_core_person_code(billing_core_actor_person());

	return person != NULL ? person : "?";
}

/* Raise for somebody who is nowhere asked. */
static void
refuse_stranger(int64 document_id, const char *action)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
					errmsg("person \"%s\" is not asked to %s the document", actor_name(), action),
					errdetail("It is document D" INT64_FORMAT ".", document_id),
					errhint("billing.open_approvals says for whom it waits.")));
}

/* Raise for what stands against the actor's decision. */
static void
refuse_obstacle(int64 document_id, const char *action, const char *obstacle)
{
	static const struct
	{
		const char *obstacle;
		const char *message;
		const char *hint;
	} answers[] = {
		{ "maker", "person \"%s\" cannot %s a document of their own making",
		  "Another person who is asked can." },
		{ "mandate of the maker", "person \"%s\" cannot %s a document in place of its maker",
		  "Another person who is asked can." },
		{ "decided", "person \"%s\" cannot %s a document that they have decided about already",
		  "Every person counts once, also as a delegate and through one: another person who is asked "
		  "can." },
		{ "absent", "person \"%s\" cannot %s a document while they are absent",
		  "End the absence with billing.end_absence(), or leave it to others." },
		{ "conflict", "person \"%s\" cannot %s a document because of another duty that they hold",
		  "billing.duty_conflict lists what cannot be combined; another person who is asked can." },
		{ "limit", "person \"%s\" cannot %s a document beyond their limit",
		  "Another approver with a higher limit can." },
		{ "not needed", "person \"%s\" cannot %s a document that needs no more of them",
		  "It waits for others: billing.open_approvals says for whom." },
		{ "day", "person \"%s\" cannot %s a document beyond the limit of a day",
		  "Another approver can, or the same one tomorrow." },
	};

	for (size_t i = 0; i < lengthof(answers); i++)
	{
		if (strcmp(answers[i].obstacle, obstacle) == 0)
			ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
							errmsg(answers[i].message, actor_name(), action),
							errdetail("It is document D" INT64_FORMAT ".", document_id),
							errhint("%s", answers[i].hint)));
	}
	refuse_stranger(document_id, action);
}

/* Raise for an approval that nobody waits for. */
void
billing_workflow_refuse_surplus(int64 document_id, const char *action)
{
	refuse_obstacle(document_id, action, "not needed");
}

/* Count an amount against a day's limit, or raise. */
static void
count_against_day(int32 entity_id, int64 document_id, Datum person, Datum day, Datum amount,
				  bool no_amount, Datum limit)
{
	Datum values[5];

	values[0] = Int32GetDatum(entity_id);
	values[1] = person;
	values[2] = day;
	values[3] = amount;
	values[4] = limit;
	if (no_amount || billing_core_run(&count_amount, values, NULL, false) == 0)
		refuse_obstacle(document_id, "approve", "day");
}

/*
 * Keep an assignment as it is until the transaction ends, and count the amount
 * against its daily limit, if it has one; whether it has.
 */
static bool
hold_assignment(int32 entity_id, int64 document_id, Datum assignment, bool counts, Datum amount,
				bool no_amount)
{
	Datum values[2] = { Int32GetDatum(entity_id), assignment };
	Datum limit;
	Datum person;
	Datum day;
	bool unlimited;

	if (billing_core_run(&lock_assignment, values, NULL, false) == 0)
		refuse_stranger(document_id, "decide about");
	limit = billing_core_value_copy(0, 0, false, -1, &unlimited);
	person = billing_core_value(0, 1, NULL);
	day = billing_core_value(0, 2, NULL);
	if (counts && !unlimited)
		count_against_day(entity_id, document_id, person, day, amount, no_amount, limit);
	return !unlimited;
}

/* Keep a delegation as it is until the transaction ends. */
static void
hold_delegation(int32 entity_id, int64 document_id, Datum delegation, const char *action)
{
	Datum values[2] = { Int32GetDatum(entity_id), delegation };

	if (billing_core_run(&lock_delegation, values, NULL, false) == 0)
		refuse_stranger(document_id, action);
}

/*
 * Refuse the maker, and a person who has spoken through this login, or through
 * whom this login has.
 */
static void
check_login(int32 entity_id, int64 document_id, const char *action)
{
	Datum values[4];

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = Int32GetDatum(billing_core_login_person());
	if (billing_core_run(&find_login_conflict, values, NULL, false) == 0)
		return;
	if (DatumGetBool(billing_core_value(0, 0, NULL)))
		refuse_obstacle(document_id, action, "maker");
	if (DatumGetBool(billing_core_value(0, 1, NULL)))
		refuse_obstacle(document_id, action, "decided");
}

/* A row of the actor's candidates, kept while its locks are taken. */
typedef struct Candidate
{
	int64 request_id;
	Datum assignment;
	Datum delegation;
	bool by_assignment;
	bool by_delegation;
	bool is_escalation;
} Candidate;

/*
 * Find what the actor can decide of a document that is locked, or raise.  Call
 * between SPI_connect() and SPI_finish().
 */
void
billing_workflow_find_mandate(int32 entity_id, int64 document_id, const char *action,
							  bool is_approval, BillingMandate *mandate)
{
	Datum values[3];
	Candidate *candidates;
	uint64 count;
	int ncandidates = 0;
	Datum amount;
	bool no_amount;
	int64 assignment = 0;
	bool counted = !is_approval;

	check_login(entity_id, document_id, action);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = Int32GetDatum(billing_core_actor_person());
	count = billing_core_run(&find_candidates, values, NULL, false);
	if (count == 0)
		refuse_stranger(document_id, action);
	if (billing_core_text_value(0, 5) != NULL)
		refuse_obstacle(document_id, action, billing_core_text_value(0, 5));
	mandate->on_behalf_of = DatumGetInt32(billing_core_value(0, 1, NULL));
	amount = billing_core_value_copy(0, 6, false, -1, &no_amount);
	candidates = palloc(sizeof(Candidate) * count);
	for (uint64 i = 0; i < count; i++)
	{
		Candidate *candidate = &candidates[ncandidates];
		bool isnull;

		if (billing_core_text_value(i, 5) != NULL ||
			DatumGetInt32(billing_core_value(i, 1, NULL)) != mandate->on_behalf_of)
			continue;
		candidate->request_id = DatumGetInt64(billing_core_value(i, 0, NULL));
		if (ncandidates > 0 && candidates[ncandidates - 1].request_id == candidate->request_id)
			continue;
		candidate->assignment = billing_core_value(i, 2, &isnull);
		candidate->by_assignment = !isnull;
		candidate->delegation = billing_core_value(i, 3, &isnull);
		candidate->by_delegation = !isnull;
		candidate->is_escalation = DatumGetBool(billing_core_value(i, 4, NULL));
		ncandidates++;
	}
	mandate->requests = palloc(sizeof(int64) * ncandidates);
	mandate->escalates = palloc(sizeof(bool) * ncandidates);
	mandate->nrequests = ncandidates;
	for (int i = 0; i < ncandidates; i++)
	{
		Candidate *candidate = &candidates[i];

		if (candidate->by_assignment && DatumGetInt64(candidate->assignment) != assignment)
		{
			/* the amount counts once, whatever the number of requests */
			if (hold_assignment(entity_id, document_id, candidate->assignment, !counted, amount,
								no_amount))
				counted = true;
			assignment = DatumGetInt64(candidate->assignment);
		}
		if (candidate->by_delegation)
			hold_delegation(entity_id, document_id, candidate->delegation, action);
		mandate->requests[i] = candidate->request_id;
		mandate->escalates[i] = candidate->is_escalation;
	}
}

/*
 * The same for documents without requests, which whoever holds the duty approves:
 * the duty stays as it is until the transaction ends, and the documents count
 * against the limit of the day.
 */
void
billing_workflow_hold_duty(int32 entity_id, Datum document_ids, const char *action)
{
	Datum values[4];
	Datum *assignments;
	uint64 count;
	Datum amount;
	bool no_amount;
	bool isnull;
	int64 first;
	ArrayType *array = DatumGetArrayTypeP(document_ids);

	if (billing_core_actor_person() == BILLING_SYSTEM_PERSON ||
		ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) == 0)
		return;
	memcpy(&first, ARR_DATA_PTR(array), sizeof(first));
	values[0] = Int32GetDatum(entity_id);
	values[1] = document_ids;
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = CStringGetTextDatum(action);
	billing_core_run(&sum_documents, values, NULL, false);
	amount = billing_core_value_copy(0, 0, false, -1, &no_amount);
	count = billing_core_run(&find_assignments, values, NULL, false);
	assignments = palloc(sizeof(Datum) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		assignments[i] = billing_core_value(i, 0, &isnull);
		if (isnull)
			refuse_stranger(first, action);
	}
	for (uint64 i = 0; i < count; i++)
		(void) hold_assignment(entity_id, first, assignments[i], true, amount, no_amount);
}
