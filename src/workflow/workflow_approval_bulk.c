/*
 * workflow_approval_bulk.c
 *		Deciding about many documents in one call: each by the function that its
 *		kind has for it, each in a subtransaction, so that a refusal stops none of
 *		the others and is recorded.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"
#include "workflow/workflow_approval.h"

/* Documents of one call. */
#define MOST_DOCUMENTS 10000

/* $1 entity, $2 reference, $3 action: the document, and who takes the action */
static BillingStatement find_document = {
	"SELECT d.document_id, d.kind, d.version, t.function_name FROM billing.document d"
	" LEFT JOIN billing_internal.transition_of($1) t"
	"  ON t.kind = d.kind AND t.from_state = d.state AND t.action = $3 AND t.guard = 'independent'"
	" WHERE d.entity_id = $1"
	" AND d.document_id = CASE WHEN $2 ~ '^[A-Z][0-9]{1,18}$' THEN substr($2, 2)::bigint END"
	" AND billing_internal.document_reference(d.kind, d.document_id) = $2",
	3,
	{ INT4OID, TEXTOID, TEXTOID },
	NULL
};

/* $1 entity, $2 document, $3 the version before: what it came to */
static BillingStatement find_outcome = {
	"SELECT CASE WHEN version > $3 THEN state ELSE 'recorded' END FROM billing.document"
	" WHERE entity_id = $1 AND document_id = $2",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 reference, $3 decision, $4 SQLSTATE, $5 message, $6 reason, $7 the document where there is one */
static BillingStatement record_refusal = {
	"INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" SELECT $1, 'refused_' || $3, coalesce((SELECT d.kind FROM billing.document d"
	"  WHERE d.entity_id = $1 AND d.document_id = $7), 'document'), coalesce($7::text, $2),"
	"  jsonb_build_object('sqlstate', $4, 'message', $5), $6",
	7,
	{ INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID },
	NULL
};

/* One decision of a call. */
typedef struct Decision
{
	int32 entity_id;
	Datum entity;
	Datum reference;
	const char *action;
	char *reason;
	Datum version;
	bool any_version;
	int64 document_id; /* -1: there is none */
	char *outcome;
} Decision;

/* Call the function that takes the action for the document's kind. */
static void
call_function(const Decision *decision, const char *function)
{
	bool is_general = strcmp(function, "take_action") == 0;
	Datum values[5];
	Oid types[5] = { TEXTOID, TEXTOID, TEXTOID, INT4OID, TEXTOID };
	char nulls[6] = "     ";
	char *sql;

	values[0] = decision->entity;
	values[1] = decision->reference;
	values[2] = decision->reason != NULL ? CStringGetTextDatum(decision->reason) : (Datum) 0;
	values[3] = decision->version;
	values[4] = CStringGetTextDatum(decision->action);
	nulls[2] = decision->reason == NULL ? 'n' : ' ';
	nulls[3] = decision->any_version ? 'n' : ' ';
	sql = is_general ? "SELECT billing.take_action($1, $2, $5, $4, $3)"
					 : psprintf("SELECT billing.%s($1, $2, $3, $4)", quote_identifier(function));
	if (SPI_execute_with_args(sql, is_general ? 5 : 4, types, values, nulls, false, 0) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not call billing.%s()", function)));
}

/* The step that may fail. */
static void
decide_step(void *argument)
{
	Decision *decision = argument;
	Datum values[3];
	Datum version;
	char *function;
	char *outcome;

	SPI_connect();
	values[0] = Int32GetDatum(decision->entity_id);
	values[1] = decision->reference;
	values[2] = CStringGetTextDatum(decision->action);
	if (billing_core_run(&find_document, values, NULL, false) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE),
				 errmsg("document \"%s\" does not exist", TextDatumGetCString(decision->reference)),
				 errhint("billing.my_approvals lists what waits for you.")));
	decision->document_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	version = billing_core_value(0, 2, NULL);
	function = billing_core_text_value(0, 3);
	if (function != NULL)
		call_function(decision, function);
	else /* refused, saying what can be done */
		billing_workflow_advance(decision->entity_id,
								 billing_workflow_set_of(decision->document_id), decision->action,
								 decision->reason, false);
	values[1] = Int64GetDatum(decision->document_id);
	values[2] = version;
	billing_core_run(&find_outcome, values, NULL, false);
	outcome = billing_core_text_value(0, 0);
	SPI_finish();
	decision->outcome = outcome;
}

/* Keep a refusal. */
static void
keep_refusal(const Decision *decision, const ErrorData *error)
{
	Datum values[7];
	char nulls[8] = "       ";

	values[0] = Int32GetDatum(decision->entity_id);
	values[1] = decision->reference;
	values[2] = CStringGetTextDatum(decision->action);
	values[3] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[4] = CStringGetTextDatum(error->message);
	values[5] = decision->reason != NULL ? CStringGetTextDatum(decision->reason) : (Datum) 0;
	values[6] = Int64GetDatum(decision->document_id);
	nulls[5] = decision->reason == NULL ? 'n' : ' ';
	nulls[6] = decision->document_id < 0 ? 'n' : ' ';
	SPI_connect();
	billing_core_run(&record_refusal, values, nulls, false);
	SPI_finish();
}

/* A row of the result. */
typedef struct Answer
{
	int64 key; /* the order in which the documents are locked */
	int place; /* the order in which they were given */
	Datum values[4];
	bool nulls[4];
} Answer;

/* Decide about one document, and say what it came to. */
static void
decide_one(Decision *decision, Answer *answer)
{
	ErrorData *error = billing_core_try(decide_step, decision);

	answer->values[0] = decision->reference;
	answer->nulls[0] = answer->nulls[1] = false;
	answer->nulls[2] = answer->nulls[3] = error == NULL;
	if (error == NULL)
		answer->values[1] = CStringGetTextDatum(decision->outcome);
	else
	{
		const char *state = unpack_sql_state(error->sqlerrcode);

		if (strncmp(state, "ZB", 2) != 0)
			ReThrowError(error);
		answer->values[1] = CStringGetTextDatum("refused");
		answer->values[2] = CStringGetTextDatum(state);
		answer->values[3] = CStringGetTextDatum(error->message);
		keep_refusal(decision, error);
		FreeErrorData(error);
	}
}

/* By document, so that two calls that name the same ones in another order do not deadlock. */
static int
compare_keys(const void *a, const void *b)
{
	const Answer *x = a;
	const Answer *y = b;

	return x->key != y->key ? (x->key < y->key ? -1 : 1) : x->place - y->place;
}

/* As they were given. */
static int
compare_places(const void *a, const void *b)
{
	return ((const Answer *) a)->place - ((const Answer *) b)->place;
}

/* The elements of an array argument, none of them null. */
static Datum *
read_array(FunctionCallInfo fcinfo, int argno, const char *name, Oid type, int *count)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(argno);
	Datum *elements;

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array) ||
		ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > MOST_DOCUMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("%s must be a list without nulls of at most %d", name, MOST_DOCUMENTS),
				 errhint("Call the function several times for more.")));
	if (type == TEXTOID)
		deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, count);
	else
		deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT, &elements, NULL,
						  count);
	return elements;
}

/* Approve or reject, with a reason for the latter. */
static const char *
read_decision(FunctionCallInfo fcinfo, char **reason)
{
	char *decision = billing_core_arg_code(fcinfo, 2, "decision");

	if (strcmp(decision, "approve") != 0 && strcmp(decision, "reject") != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("decision \"%s\" is not known", decision),
						errhint("Use approve or reject.")));
	*reason = strcmp(decision, "reject") == 0 ? billing_core_arg_text(fcinfo, 3, "reason")
											  : billing_core_arg_optional_text(fcinfo, 3, "reason");
	return decision;
}

PG_FUNCTION_INFO_V1(billing_workflow_decide_many);

/*
 * billing.decide(entity text, documents text[], decision text, reason text, versions integer[])
 * RETURNS TABLE (document text, outcome text, error text, message text)
 */
Datum
billing_workflow_decide_many(PG_FUNCTION_ARGS)
{
	Decision decision = { 0 };
	Datum *documents;
	Datum *versions = NULL;
	Answer *answers;
	ReturnSetInfo *result;
	int count;
	int nversions;

	decision.entity_id = billing_core_arg_entity(fcinfo, 0);
	decision.entity = PG_GETARG_DATUM(0);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("documents must not be null"),
				 errhint("Give a list of references, such as {D1,D2}.")));
	documents = read_array(fcinfo, 1, "documents", TEXTOID, &count);
	for (int i = 0; i < count; i++)
		billing_core_check_code(TextDatumGetCString(documents[i]), "document");
	decision.action = read_decision(fcinfo, &decision.reason);
	if (!PG_ARGISNULL(4))
	{
		versions = read_array(fcinfo, 4, "versions", INT4OID, &nversions);
		if (nversions != count)
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("there must be as many versions as documents"),
							errdetail("There are %d documents and %d versions.", count, nversions),
							errhint("Leave versions out, or give one for each document.")));
	}
	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	answers = palloc0(sizeof(Answer) * (count + 1));
	for (int i = 0; i < count; i++)
	{
		answers[i].place = i;
		answers[i].key = strtoll(TextDatumGetCString(documents[i]) + 1, NULL, 10);
	}
	qsort(answers, count, sizeof(Answer), compare_keys);
	for (int i = 0; i < count; i++)
	{
		int place = answers[i].place;

		CHECK_FOR_INTERRUPTS();
		decision.reference = documents[place];
		decision.any_version = versions == NULL;
		decision.version = versions != NULL ? versions[place] : (Datum) 0;
		decision.document_id = -1;
		decide_one(&decision, &answers[i]);
	}
	qsort(answers, count, sizeof(Answer), compare_places);
	for (int i = 0; i < count; i++)
		tuplestore_putvalues(result->setResult, result->setDesc, answers[i].values,
							 answers[i].nulls);
	return (Datum) 0;
}
