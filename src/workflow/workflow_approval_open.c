/*
 * workflow_approval_open.c
 *		What is asked for documents that come into pending_approval: the levels of
 *		the policy that matches each.  A policy may also approve or forbid by itself.
 *
 * Whatever leaves that state, or was changed in it, leaves nothing open behind.
 * What was said of an earlier version holds for the next where the same policy
 * asks, the amount has not risen and nothing of weight was changed.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"
#include "workflow/workflow_approval.h"

/* $1 entity: whether it or a parent has any policy */
static BillingStatement any_policy = {
	"WITH RECURSIVE chain (entity_id, parent_id) AS ("
	" SELECT e.entity_id, e.parent_id FROM billing.legal_entity e WHERE e.entity_id = $1"
	" UNION SELECT e.entity_id, e.parent_id FROM billing.legal_entity e"
	" JOIN chain c ON e.entity_id = c.parent_id)"
	" SELECT EXISTS (SELECT FROM billing.approval_policy p JOIN chain c USING (entity_id)"
	"  WHERE p.superseded_at IS NULL)",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity: whether anything is asked */
static BillingStatement any_request = {
	"SELECT EXISTS (SELECT FROM billing.approval_request WHERE entity_id = $1"
	" AND state IN ('waiting', 'open'))",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 documents: nothing is asked any more of those that are elsewhere, or of another version */
static BillingStatement void_requests = {
	"UPDATE billing.approval_request r SET state = 'void', closed_at = now()"
	" FROM billing.document d WHERE r.entity_id = $1 AND r.document_id = ANY ($2)"
	" AND r.state IN ('waiting', 'open') AND d.entity_id = $1 AND d.document_id = r.document_id"
	" AND (d.state <> 'pending_approval' OR d.version <> r.document_version)",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 documents: of those that wait, which policy asks; one row for
 * each outcome and each function that gives facts
 */
static BillingStatement match = {
	"SELECT p.outcome, k.facts_function, array_agg(d.document_id), array_agg(p.entity_id),"
	" array_agg(p.policy_id), min(p.code)"
	" FROM billing_internal.match_policies($1, (SELECT coalesce(array_agg(o.document_id), '{}')"
	"  FROM billing.document o WHERE o.entity_id = $1 AND o.document_id = ANY ($2)"
	"  AND o.state = 'pending_approval')) m"
	" JOIN billing.approval_policy p ON p.entity_id = m.policy_entity_id AND p.policy_id = m.policy_id"
	" JOIN billing.document d ON d.entity_id = $1 AND d.document_id = m.document_id"
	" JOIN billing.document_kind k ON k.kind = d.kind"
	" GROUP BY p.outcome, k.facts_function, CASE WHEN p.outcome <> 'levels' THEN p.code END",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * $1 entity, $2 documents, $3 entities of their policies, $4 policies; %s is the
 * function that gives facts
 */
static const char *const insert_requests =
	"WITH asked AS MATERIALIZED (SELECT * FROM unnest($2, $3, $4)"
	"  AS q (document_id, policy_entity_id, policy_id)),"
	" level AS (SELECT a.*, l.level_no, l.stage, l.approver, l.duty, l.person_id, l.min_limit,"
	"  l.needed, l.deadline, l.escalate_to,"
	"  l.stage = min(l.stage) OVER (PARTITION BY a.document_id) AS is_first"
	"  FROM asked a JOIN billing.approval_level l"
	"  ON l.entity_id = a.policy_entity_id AND l.policy_id = a.policy_id)"
	" INSERT INTO billing.approval_request (entity_id, document_id, document_version,"
	"  policy_entity_id, policy_id, level_no, stage, state, approver, duty, person_id, min_limit,"
	"  needed, amount, currency, document_amount, facts, deadline_after, escalate_to, opened_at,"
	"  deadline)"
	" SELECT $1, l.document_id, d.version, l.policy_entity_id, l.policy_id, l.level_no, l.stage,"
	"  CASE WHEN l.is_first THEN 'open' ELSE 'waiting' END, l.approver, l.duty,"
	"  CASE l.approver WHEN 'person' THEN l.person_id"
	"   WHEN 'manager' THEN (SELECT r.manager_id FROM billing.reporting_line r"
	"    WHERE r.entity_id = $1 AND r.person_id = d.maker_id)"
	"   WHEN 'contract_owner' THEN (SELECT c.owner_id FROM billing.contract c"
	"    WHERE c.entity_id = $1 AND c.code = (f.facts).contract) END,"
	"  l.min_limit, l.needed, abs((f.facts).amount), d.currency, d.amount,"
	"  coalesce(to_jsonb(f.facts), '{}'), l.deadline, l.escalate_to,"
	"  CASE WHEN l.is_first THEN now() END, CASE WHEN l.is_first THEN now() + l.deadline END"
	" FROM level l JOIN billing.document d ON d.entity_id = $1 AND d.document_id = l.document_id"
	" LEFT JOIN billing_internal.%s($1, $2) f ON f.document_id = l.document_id";

/* $1 entity, $2 documents: what was said of their last version, where nothing of weight has changed */
static BillingStatement carry_over = {
	"WITH carried AS (INSERT INTO billing.approval_decision (entity_id, request_id, person_id,"
	"  on_behalf_of, document_id, document_version, given_for_version, decision, counts,"
	"  is_escalation, reason, decided_at, login, login_person_id)"
	" SELECT n.entity_id, n.request_id, s.person_id, s.on_behalf_of, n.document_id,"
	"  n.document_version, s.given_for_version, s.decision, s.counts, s.is_escalation, s.reason,"
	"  s.decided_at, s.login, s.login_person_id"
	" FROM billing.approval_request n"
	" CROSS JOIN LATERAL (SELECT max(o.document_version) AS version FROM billing.approval_request o"
	"  WHERE o.entity_id = $1 AND o.document_id = n.document_id"
	"  AND o.document_version < n.document_version) p"
	" JOIN billing.approval_request o ON o.entity_id = $1 AND o.document_id = n.document_id"
	"  AND o.document_version = p.version AND o.level_no = n.level_no"
	"  AND o.policy_entity_id = n.policy_entity_id AND o.policy_id = n.policy_id"
	"  AND o.currency = n.currency AND sign(o.document_amount) = sign(n.document_amount)"
	"  AND abs(n.document_amount) <= abs(o.document_amount)"
	"  AND n.amount IS NOT NULL AND o.amount IS NOT NULL"
	"  AND o.facts - '{amount,score,backdated_days,is_first}'::text[]"
	"   = n.facts - '{amount,score,backdated_days,is_first}'::text[]"
	" JOIN billing.approval_decision s ON s.entity_id = $1 AND s.request_id = o.request_id"
	" JOIN billing.document d ON d.entity_id = $1 AND d.document_id = n.document_id"
	" WHERE n.entity_id = $1 AND n.document_id = ANY ($2) AND n.state IN ('waiting', 'open')"
	"  AND d.maker_id <> s.person_id AND d.maker_id IS DISTINCT FROM s.on_behalf_of"
	"  AND NOT EXISTS (SELECT FROM billing.approval_request x WHERE x.entity_id = $1"
	"   AND x.document_id = n.document_id AND x.document_version = p.version AND x.state = 'rejected')"
	" RETURNING document_id)"
	" SELECT DISTINCT document_id FROM carried ORDER BY document_id",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 documents, $3 action: those whose state has the action */
static BillingStatement can_take = {
	"SELECT array_agg(d.document_id) FROM billing.document d"
	" JOIN billing_internal.transition_of($1) t"
	"  ON t.kind = d.kind AND t.from_state = d.state AND t.action = $3"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)",
	3,
	{ INT4OID, INT8ARRAYOID, TEXTOID },
	NULL
};

/* $1 entity, $2 documents, $3 the policy */
static BillingStatement raise_forbidden = {
	"INSERT INTO billing.exception (entity_id, kind, dedupe_key, subject, document_id, detail, deadline)"
	" SELECT $1, k.kind, format('D%s version %s', d.document_id, d.version), $3, d.document_id,"
	"  format('policy \"%s\" forbids it', $3), now() + make_interval(days => k.deadline_days)"
	" FROM billing.document d JOIN billing.exception_kind k ON k.kind = 'approval_forbidden'"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2)"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO NOTHING",
	3,
	{ INT4OID, INT8ARRAYOID, TEXTOID },
	NULL
};

/* What a policy, or several with the same outcome, says about some documents. */
typedef struct Verdict
{
	char *outcome;
	char *facts_function;
	Datum documents;
	Datum policy_entities;
	Datum policies;
	char *policy; /* one that has its own outcome */
} Verdict;

/* Take a step in the name of a policy, where the state of a document has it. */
static void
step_by_policy(int32 entity_id, Datum documents, const char *action, const char *reason)
{
	Datum values[3];
	Datum able;
	bool none;

	values[0] = Int32GetDatum(entity_id);
	values[1] = documents;
	values[2] = CStringGetTextDatum(action);
	billing_core_run(&can_take, values, NULL, false);
	able = billing_core_value_copy(0, 0, false, -1, &none);
	if (!none)
		billing_workflow_move(entity_id, able, action, reason);
}

/* Take over what was said of earlier versions, and go as far as it allows. */
static void
take_over(int32 entity_id, Datum documents)
{
	Datum values[2] = { Int32GetDatum(entity_id), documents };
	uint64 count = billing_core_run_privileged(&carry_over, values, NULL, false);
	int64 *ids = palloc(sizeof(int64) * (count + 1));

	for (uint64 i = 0; i < count; i++)
		ids[i] = DatumGetInt64(billing_core_value(i, 0, NULL));
	for (uint64 i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (billing_workflow_settle(entity_id, ids[i], -1))
			step_by_policy(entity_id, billing_workflow_set_of(ids[i]), "auto_approve",
						   "what was said of the version before holds");
	}
}

/* Ask what the levels of policies say. */
static void
ask_levels(int32 entity_id, const Verdict *verdict)
{
	Datum values[4];
	Oid types[4] = { INT4OID, INT8ARRAYOID, INT4ARRAYOID, INT8ARRAYOID };
	char *sql = psprintf(insert_requests, quote_identifier(verdict->facts_function));

	values[0] = Int32GetDatum(entity_id);
	values[1] = verdict->documents;
	values[2] = verdict->policy_entities;
	values[3] = verdict->policies;
	billing_core_execute_privileged(sql, 4, types, values);
	take_over(entity_id, verdict->documents);
}

/* Do what a policy says. */
static void
carry_out(int32 entity_id, const Verdict *verdict)
{
	Datum values[3];

	if (strcmp(verdict->outcome, "levels") == 0)
		ask_levels(entity_id, verdict);
	else if (strcmp(verdict->outcome, "automatic") == 0)
		step_by_policy(entity_id, verdict->documents, "auto_approve",
					   psprintf("policy \"%s\"", verdict->policy));
	else
	{
		step_by_policy(entity_id, verdict->documents, "forbid",
					   psprintf("policy \"%s\"", verdict->policy));
		values[0] = Int32GetDatum(entity_id);
		values[1] = verdict->documents;
		values[2] = CStringGetTextDatum(verdict->policy);
		billing_core_run(&raise_forbidden, values, NULL, false);
	}
}

/*
 * Ask whom the policies name for those of some documents that wait for approval
 * and of which nothing is asked; one look where there is no policy.  Documents
 * that no policy matches wait for one approver within their limit.  Call between
 * SPI_connect() and SPI_finish().
 */
void
billing_workflow_open_requests(int32 entity_id, Datum document_ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), document_ids };
	Verdict *verdicts;
	uint64 count;
	bool isnull;

	billing_core_run_privileged(&any_policy, values, NULL, false);
	if (!DatumGetBool(billing_core_value(0, 0, NULL)))
		return;
	count = billing_core_run_privileged(&match, values, NULL, false);
	verdicts = palloc(sizeof(Verdict) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		verdicts[i].outcome = billing_core_text_value(i, 0);
		verdicts[i].facts_function = billing_core_text_value(i, 1);
		verdicts[i].documents = billing_core_value_copy(i, 2, false, -1, &isnull);
		verdicts[i].policy_entities = billing_core_value_copy(i, 3, false, -1, &isnull);
		verdicts[i].policies = billing_core_value_copy(i, 4, false, -1, &isnull);
		verdicts[i].policy = billing_core_text_value(i, 5);
	}
	for (uint64 i = 0; i < count; i++)
		carry_out(entity_id, &verdicts[i]);
}

/*
 * After documents took a step: nothing stays open of those that left
 * pending_approval, and those that came there are asked for.
 */
void
billing_workflow_follow(int32 entity_id, Datum document_ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), document_ids };

	billing_core_run(&any_request, values, NULL, false);
	if (DatumGetBool(billing_core_value(0, 0, NULL)))
		billing_core_run(&void_requests, values, NULL, false);
	billing_workflow_open_requests(entity_id, document_ids);
}

/*
 * Documents that wait for approval were changed, and have a new version: what was
 * said is void, but for what holds still, and is asked anew.
 */
void
billing_workflow_ask_again(int32 entity_id, Datum document_ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), document_ids };

	billing_core_run(&void_requests, values, NULL, false);
	billing_workflow_open_requests(entity_id, document_ids);
}
