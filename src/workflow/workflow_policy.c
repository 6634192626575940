/*
 * workflow_policy.c
 *		Sets and ends approval policies.  A change is a new version; versions stay.
 *
 * The levels of a policy are read in workflow_policy_level.c, which policy a
 * document gets is decided in workflow_policy_match.c.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "utils/builtins.h"
#include "workflow/condition.h"
#include "workflow/workflow_policy.h"

BillingStatement billing_workflow_document_kind = {
	"SELECT 1::bigint FROM billing.document_kind WHERE $1 IS NOT NULL AND kind = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity: nobody else changes its policies meanwhile */
static BillingStatement lock_policies = {
	"SELECT 1 FROM billing.legal_entity WHERE entity_id = $1 FOR NO KEY UPDATE",
	1,
	{ INT4OID },
	NULL
};

/*
 * $1 entity, $2 code, $3 first day, $4 day after the last: versions that begin
 * inside of the new one, or outlast it
 */
static BillingStatement find_obstacle = {
	"SELECT to_char(valid_from, 'YYYY-MM-DD') FROM billing.approval_policy"
	" WHERE entity_id = $1 AND code = $2 AND superseded_at IS NULL"
	" AND daterange(valid_from, valid_to) && daterange($3, $4)"
	" AND (valid_from > $3 OR ($4 IS NOT NULL AND (valid_to IS NULL OR valid_to > $4)))"
	" ORDER BY valid_from LIMIT 1",
	4,
	{ INT4OID, TEXTOID, DATEOID, DATEOID },
	NULL
};

/* $1 entity, $2 code, $3 kind: another kind that the policy is about */
static BillingStatement find_other_kind = {
	"SELECT kind FROM billing.approval_policy WHERE entity_id = $1 AND code = $2 AND kind <> $3"
	" AND superseded_at IS NULL LIMIT 1",
	3,
	{ INT4OID, TEXTOID, TEXTOID },
	NULL
};

/* $1 entity, $2 code, $3 first day, $4 day after the last: what is valid then ends, or never was */
static BillingStatement replace_versions = {
	"UPDATE billing.approval_policy SET"
	" superseded_at = CASE WHEN valid_from >= $3 THEN now() END,"
	" valid_to = CASE WHEN valid_from >= $3 THEN valid_to ELSE $3 END"
	" WHERE entity_id = $1 AND code = $2 AND superseded_at IS NULL"
	" AND daterange(valid_from, valid_to) && daterange($3, $4)",
	4,
	{ INT4OID, TEXTOID, DATEOID, DATEOID },
	NULL
};

/* $1 entity, $2 code, $3 day: what was to begin then never did, what began before ends with it */
static BillingStatement end_versions = {
	"UPDATE billing.approval_policy SET"
	" superseded_at = CASE WHEN valid_from >= $3 THEN now() END,"
	" valid_to = CASE WHEN valid_from >= $3 THEN valid_to ELSE $3 END"
	" WHERE entity_id = $1 AND code = $2 AND superseded_at IS NULL"
	" AND (valid_to IS NULL OR valid_to > $3)",
	3,
	{ INT4OID, TEXTOID, DATEOID },
	NULL
};

/* $1 entity, $2 code, $3 kind, $4 condition, $5 priority, $6 from, $7 to, $8 outcome, $9 why, $10 who */
static BillingStatement insert_policy = {
	"INSERT INTO billing.approval_policy (entity_id, code, kind, condition, priority, valid_from,"
	" valid_to, outcome, description, recorded_by)"
	" VALUES ($1, $2, $3, $4::billing.condition, $5, $6, $7, $8, $9, nullif($10, -1))"
	" RETURNING policy_id",
	10,
	{ INT4OID, TEXTOID, TEXTOID, TEXTOID, INT4OID, DATEOID, DATEOID, TEXTOID, TEXTOID, INT4OID },
	NULL
};

/* $1 entity, $2 code, $3 day, $4 why */
static BillingStatement record_end = {
	"INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" VALUES ($1, 'end_policy', 'approval_policy', $2, jsonb_build_object('day', $3), $4)",
	4,
	{ INT4OID, TEXTOID, DATEOID, TEXTOID },
	NULL
};

/* An optional date, or today in the entity. */
static DateADT
date_or_today(FunctionCallInfo fcinfo, int argno, const char *name, int32 entity_id)
{
	bool isnull;
	DateADT date = billing_core_arg_optional_date(fcinfo, argno, name, &isnull);

	return isnull ? billing_core_entity_today(entity_id) : date;
}

/* The condition's canonical text, checked against the facts; NULL where none is given. */
static char *
read_condition(FunctionCallInfo fcinfo, int argno)
{
	BillingCondition *condition;
	char *source;

	if (PG_ARGISNULL(argno))
		return NULL;
	source = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	condition = billing_workflow_parse_condition(source, strlen(source), &billing_workflow_facts);
	return pnstrdup(billing_condition_text(condition), condition->ntext);
}

/* Make room for a version that begins on a day, or say what stands in the way; key is entity, code, kind. */
static void
make_room(Datum *key, Datum first_day, Datum end_day, bool is_open)
{
	Datum values[4] = { key[0], key[1], first_day, end_day };
	char nulls[5] = "    ";

	if (is_open)
		nulls[3] = 'n';
	billing_core_run(&lock_policies, key, NULL, false);
	if (billing_core_run_latest(&find_other_kind, key, NULL) > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("policy \"%s\" is about documents of kind %s",
							   TextDatumGetCString(key[1]), billing_core_text_value(0, 0)),
						errhint("Give a policy for another kind a code of its own.")));
	if (billing_core_run_latest(&find_obstacle, values, nulls) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_CONFLICT),
				 errmsg("policy \"%s\" has a version from %s that the new one would cut",
						TextDatumGetCString(key[1]), billing_core_text_value(0, 0)),
				 errdetail("A new version takes the place of what is valid on its first day and "
						   "from then on."),
				 errhint("End the policy with billing.end_approval_policy() first, or give what "
						 "is to hold for some time a code of its own and a lower priority.")));
	billing_core_run(&replace_versions, values, nulls, false);
}

PG_FUNCTION_INFO_V1(billing_workflow_set_policy);
PG_FUNCTION_INFO_V1(billing_workflow_end_policy);

/*
 * billing.set_approval_policy(entity text, policy text, kind text, condition text,
 *     levels jsonb, priority integer, valid_from date, valid_to date, outcome text,
 *     reason text) RETURNS void
 */
Datum
billing_workflow_set_policy(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *outcome;
	char *condition;
	char *reason;
	Datum values[10];
	char nulls[11] = "          ";
	bool is_open;
	List *levels;
	int64 policy_id;

	billing_core_require_admin(entity_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(billing_core_arg_code(fcinfo, 1, "policy"));
	values[2] = CStringGetTextDatum(billing_core_arg_code(fcinfo, 2, "kind"));
	(void) billing_core_lookup(0, TextDatumGetCString(values[2]), "kind of document",
							   &billing_workflow_document_kind);
	condition = read_condition(fcinfo, 3);
	values[4] = Int32GetDatum(billing_core_arg_int(fcinfo, 5, "priority", 0, 1000000));
	values[5] = DateADTGetDatum(date_or_today(fcinfo, 6, "first day", entity_id));
	values[6] =
		DateADTGetDatum(billing_core_arg_optional_date(fcinfo, 7, "day after the last", &is_open));
	outcome = billing_core_arg_code(fcinfo, 8, "outcome");
	reason = billing_core_arg_optional_text(fcinfo, 9, "reason");
	levels = billing_workflow_read_levels(fcinfo, 4, outcome);
	values[3] = condition != NULL ? CStringGetTextDatum(condition) : (Datum) 0;
	values[7] = CStringGetTextDatum(outcome);
	values[8] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	values[9] = Int32GetDatum(billing_core_actor_person());
	nulls[3] = condition != NULL ? ' ' : 'n';
	nulls[6] = is_open ? 'n' : ' ';
	nulls[8] = reason != NULL ? ' ' : 'n';

	SPI_connect();
	make_room(values, values[5], values[6], is_open);
	billing_core_run(&insert_policy, values, nulls, false);
	policy_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	billing_workflow_write_levels(entity_id, policy_id, levels);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.end_approval_policy(entity text, policy text, day date, reason text) RETURNS void */
Datum
billing_workflow_end_policy(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *code;
	char *reason;
	Datum values[4];
	char nulls[5] = "    ";

	billing_core_require_admin(entity_id);
	code = billing_core_arg_code(fcinfo, 1, "policy");
	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(code);
	values[2] = DateADTGetDatum(date_or_today(fcinfo, 2, "day", entity_id));
	reason = billing_core_arg_optional_text(fcinfo, 3, "reason");
	values[3] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[3] = reason != NULL ? ' ' : 'n';
	SPI_connect();
	billing_core_run(&lock_policies, values, NULL, false);
	if (billing_core_run(&end_versions, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("policy \"%s\" does not hold on that day or later", code),
						errhint("billing.approval_policies lists the policies and their days.")));
	billing_core_run(&record_end, values, nulls, false);
	SPI_finish();
	PG_RETURN_VOID();
}
