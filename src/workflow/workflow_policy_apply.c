/*
 * workflow_policy_apply.c
 *		Matches documents of any kinds with the policies of their entity, one
 *		statement for each kind.
 *
 * What is asked about a document comes from a function of the room that it
 * belongs to; billing.document_kind has its name.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "workflow/workflow_policy.h"

/* $1 entity, $2 documents */
static BillingStatement sort_by_kind = {
	"SELECT d.kind, k.facts_function, array_agg(d.document_id) FROM billing.document d"
	" JOIN billing.document_kind k ON k.kind = d.kind"
	" WHERE d.entity_id = $1 AND d.document_id = ANY ($2) GROUP BY d.kind, k.facts_function",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* $1 entity, $2 documents, $3 policies, $4 kind; %s is the function that gives the facts */
static const char match_documents[] =
	"SELECT q.document_id, billing_internal.first_policy($3, $4, f.facts)"
	" FROM unnest($2) AS q (document_id)"
	" LEFT JOIN billing_internal.%s($1, $2) f ON f.document_id = q.document_id";

/* $1 entity, $2 documents */
static const char read_facts[] = "SELECT f.facts FROM billing_internal.%s($1, $2) f";

/* A statement for each facts function, kept for the session. */
typedef struct FactsStatement
{
	const char *form;
	char function[NAMEDATALEN];
	BillingStatement statement;
	struct FactsStatement *next;
} FactsStatement;

static FactsStatement *facts_statements = NULL;

/* Documents of one kind, with the function that knows them. */
typedef struct KindOfDocuments
{
	char *kind;
	char *function;
	Datum documents;
} KindOfDocuments;

/* One of the statements above, of the facts that a function gives. */
static BillingStatement *
facts_statement(const char *form, const char *function, int nargs)
{
	static const Oid types[4] = { INT4OID, INT8ARRAYOID, BYTEAOID, TEXTOID };
	FactsStatement *found = facts_statements;

	while (found != NULL && (found->form != form || strcmp(found->function, function) != 0))
		found = found->next;
	if (found == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		found = palloc0(sizeof(FactsStatement));
		found->form = form;
		strlcpy(found->function, function, sizeof(found->function));
		found->statement.sql = form == match_documents
								   ? psprintf(match_documents, quote_identifier(function))
								   : psprintf(read_facts, quote_identifier(function));
		found->statement.nargs = nargs;
		memcpy(found->statement.argtypes, types, sizeof(Oid) * nargs);
		found->next = facts_statements;
		facts_statements = found;
		MemoryContextSwitchTo(caller);
	}
	return &found->statement;
}

/* The facts of a document; false where there are none.  Between SPI_connect() and SPI_finish(). */
bool
billing_workflow_find_facts(int32 entity_id, int64 document_id, const char *function, Datum *facts)
{
	Datum document = Int64GetDatum(document_id);
	Datum values[2];
	bool isnull;

	values[0] = Int32GetDatum(entity_id);
	values[1] = PointerGetDatum(
		construct_array(&document, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	if (billing_core_run(facts_statement(read_facts, function, 2), values, NULL, false) == 0)
		return false;
	*facts = billing_core_value(0, 0, &isnull);
	return !isnull;
}

/* Add what the last statement found to the result. */
static void
put_matches(ReturnSetInfo *result, const BillingPolicySet *set, uint64 count)
{
	for (uint64 row = 0; row < count; row++)
	{
		Datum values[3];
		bool nulls[3] = { false, false, false };
		bool isnull;
		int found = DatumGetInt32(billing_core_value(row, 1, &isnull));

		if (isnull)
			continue;
		values[0] = billing_core_value(row, 0, NULL);
		values[1] = Int64GetDatum(set->policies[found].policy_id);
		values[2] = Int32GetDatum(set->policies[found].entity_id);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* The documents by kind; in memory that SPI_finish() frees. */
static KindOfDocuments *
documents_by_kind(Datum *values, uint64 *count)
{
	KindOfDocuments *kinds;

	*count = billing_core_run(&sort_by_kind, values, NULL, false);
	kinds = palloc(sizeof(KindOfDocuments) * (*count + 1));
	for (uint64 row = 0; row < *count; row++)
	{
		kinds[row].kind = billing_core_text_value(row, 0);
		kinds[row].function = billing_core_text_value(row, 1);
		kinds[row].documents = billing_core_value_copy(row, 2, false, -1, NULL);
	}
	return kinds;
}

PG_FUNCTION_INFO_V1(billing_workflow_match_policies);

/*
 * billing_internal.match_policies(entity integer, documents bigint[])
 * RETURNS TABLE (document_id bigint, policy_id bigint, policy_entity_id integer)
 */
Datum
billing_workflow_match_policies(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingPolicySet *set;
	KindOfDocuments *kinds;
	uint64 nkinds;
	Datum values[4];

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	set = billing_workflow_load_policies(PG_GETARG_INT32(0),
										 billing_core_entity_today(PG_GETARG_INT32(0)));
	if (set->npolicies == 0)
		PG_RETURN_NULL();
	SPI_connect();
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	kinds = documents_by_kind(values, &nkinds);
	for (uint64 i = 0; i < nkinds; i++)
	{
		values[1] = kinds[i].documents;
		values[2] = PointerGetDatum(set);
		values[3] = CStringGetTextDatum(kinds[i].kind);
		put_matches(result, set,
					billing_core_run(facts_statement(match_documents, kinds[i].function, 4), values,
									 NULL, false));
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_finish();
	PG_RETURN_NULL();
}
