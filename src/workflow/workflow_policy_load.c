/*
 * workflow_policy_load.c
 *		Which policies hold for the documents of an entity on a day, as one value.
 *
 * For each kind of document the nearest entity counts that has a policy of that
 * kind: the entity itself, its parent, and so on.  A parent's policies bind
 * whoever works in a child, who need not see them: they are read past row-level
 * security.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "workflow/workflow_policy.h"

/*
 * $1 entity, $2 day.  Amounts in a parent's policies are in the parent's
 * currency, hence the rate.
 */
static BillingStatement find_policies = {
	"WITH RECURSIVE chain AS ("
	" SELECT e.entity_id, e.parent_id, e.currency, 0 AS distance FROM billing.legal_entity e"
	" WHERE e.entity_id = $1"
	" UNION ALL"
	" SELECT e.entity_id, e.parent_id, e.currency, c.distance + 1 FROM chain c"
	" JOIN billing.legal_entity e ON e.entity_id = c.parent_id WHERE c.distance < 32),"
	" valid AS ("
	" SELECT p.*, c.currency, c.distance, min(c.distance) OVER (PARTITION BY p.kind) AS nearest"
	" FROM chain c JOIN billing.approval_policy p ON p.entity_id = c.entity_id"
	" WHERE p.superseded_at IS NULL AND p.valid_from <= $2"
	" AND (p.valid_to IS NULL OR p.valid_to > $2))"
	" SELECT v.policy_id, v.entity_id, v.kind, v.code, v.priority, v.outcome, v.condition,"
	" (SELECT coalesce(sum(coalesce(l.needed, 2)), 0)::integer FROM billing.approval_level l"
	"  WHERE l.entity_id = v.entity_id AND l.policy_id = v.policy_id),"
	" CASE WHEN v.currency <> own.currency THEN coalesce("
	"  (SELECT r.rate::text FROM billing.exchange_rate r WHERE r.entity_id = $1"
	"   AND r.from_currency = own.currency AND r.to_currency = v.currency AND r.valid_from <= $2"
	"   ORDER BY r.valid_from DESC LIMIT 1), 'unknown') END"
	" FROM valid v JOIN billing.legal_entity own ON own.entity_id = $1"
	" WHERE v.distance = v.nearest"
	" ORDER BY v.kind COLLATE \"C\", v.priority, v.code COLLATE \"C\", v.policy_id",
	2,
	{ INT4OID, DATEOID },
	NULL
};

/* Append bytes at a multiple of eight; returns where. */
static int32
append(StringInfo out, const void *data, int length)
{
	static const char zeros[8] = { 0 };
	int32 at;

	if (out->len % 8 != 0)
		appendBinaryStringInfo(out, zeros, 8 - out->len % 8);
	at = out->len;
	appendBinaryStringInfo(out, data, length);
	return at;
}

static int32
append_text(StringInfo out, const char *text)
{
	return text == NULL ? 0 : append(out, text, (int) strlen(text) + 1);
}

static BillingOutcome
outcome_of(const char *name)
{
	return strcmp(name, "levels") == 0		? BILLING_OUTCOME_LEVELS
		   : strcmp(name, "automatic") == 0 ? BILLING_OUTCOME_AUTOMATIC
											: BILLING_OUTCOME_FORBID;
}

/* Describe one row of the result. */
static BillingPolicyEntry
read_entry(StringInfo out, uint64 row)
{
	BillingPolicyEntry entry;
	bool isnull;
	Datum condition;

	memset(&entry, 0, sizeof(entry));
	entry.policy_id = DatumGetInt64(billing_core_value(row, 0, NULL));
	entry.entity_id = DatumGetInt32(billing_core_value(row, 1, NULL));
	entry.kind_at = append_text(out, billing_core_text_value(row, 2));
	entry.code_at = append_text(out, billing_core_text_value(row, 3));
	entry.priority = DatumGetInt32(billing_core_value(row, 4, NULL));
	entry.outcome = outcome_of(billing_core_text_value(row, 5));
	entry.strength = DatumGetInt32(billing_core_value(row, 7, NULL));
	entry.rate_at = append_text(out, billing_core_text_value(row, 8));
	condition = billing_core_value(row, 6, &isnull);
	if (!isnull)
	{
		const BillingCondition *stored = billing_workflow_fetch_condition(condition);

		entry.condition_at = append(out, stored, (int) VARSIZE(stored));
	}
	return entry;
}

/* Load the set of an entity; palloc'd in the current context. */
BillingPolicySet *
billing_workflow_load_policies(int32 entity_id, DateADT day)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum values[2] = { Int32GetDatum(entity_id), DateADTGetDatum(day) };
	StringInfoData out;
	BillingPolicySet *set;
	BillingPolicyEntry *entries;
	uint64 count;
	int head;

	SPI_connect();
	count = billing_core_run_privileged(&find_policies, values, NULL, false);
	head = (int) (offsetof(BillingPolicySet, policies) + sizeof(BillingPolicyEntry) * count);
	entries = palloc(sizeof(BillingPolicyEntry) * (count + 1));
	initStringInfo(&out);
	enlargeStringInfo(&out, head);
	memset(out.data, 0, head);
	out.len = head;
	for (uint64 row = 0; row < count; row++)
		entries[row] = read_entry(&out, row);
	set = MemoryContextAlloc(caller, out.len);
	memcpy(set, out.data, out.len);
	memcpy(set->policies, entries, sizeof(BillingPolicyEntry) * count);
	SPI_finish();
	SET_VARSIZE(set, out.len);
	set->npolicies = (int32) count;
	for (int i = 0; i < 2; i++)
		set->hash[i] =
			hash_bytes_extended((unsigned char *) set->policies,
								out.len - (int) offsetof(BillingPolicySet, policies), i + 1);
	return set;
}

PG_FUNCTION_INFO_V1(billing_workflow_policy_set);

/* billing_internal.policy_set(entity integer, day date DEFAULT NULL) RETURNS bytea */
Datum
billing_workflow_policy_set(PG_FUNCTION_ARGS)
{
	DateADT day;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	day = PG_ARGISNULL(1) ? billing_core_entity_today(PG_GETARG_INT32(0)) : PG_GETARG_DATEADT(1);
	PG_RETURN_POINTER(billing_workflow_load_policies(PG_GETARG_INT32(0), day));
}
