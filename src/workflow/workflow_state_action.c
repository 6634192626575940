/*
 * workflow_state_action.c
 *		Documents that no room carries out as yet: asking for one, and taking any
 *		action that is not the business of a function of its own.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* $1 entity, $2 reference such as R12 */
static BillingStatement find_document = {
	"SELECT d.document_id FROM billing.document d WHERE d.entity_id = $1"
	" AND d.document_id = CASE WHEN $2 ~ '^[DUR][0-9]{1,18}$' THEN substr($2, 2)::bigint END"
	" AND billing_internal.document_reference(d.kind, d.document_id) = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 document, $3 action: the function that takes it now */
static BillingStatement find_function = {
	"SELECT t.function_name FROM billing.document d JOIN billing_internal.transition_of($1) t"
	" ON t.kind = d.kind AND t.from_state = d.state AND t.action = $3"
	" WHERE d.entity_id = $1 AND d.document_id = $2",
	3,
	{ INT4OID, INT8OID, TEXTOID },
	NULL
};

/* $1 entity, $2 document */
static BillingStatement find_state = {
	"SELECT state FROM billing.document WHERE entity_id = $1 AND document_id = $2",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 kind: where it begins, and the duty for what people do with it there */
static BillingStatement find_start = {
	"SELECT s.state, min(t.duty) FROM billing.document_state s"
	" JOIN billing.transition t ON t.kind = s.kind AND t.from_state = s.state AND t.guard IS NULL"
	"  AND t.function_name = 'take_action'"
	" WHERE $1 IS NOT NULL AND s.kind = $2 AND s.stage = 'start' GROUP BY s.state",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement find_currency = {
	"SELECT FROM billing.currency WHERE currency = $1", 1, { TEXTOID }, NULL
};

/* $1 entity, $2 kind, $3 state, $4 maker, $5 subject, $6 amount, $7 currency, $8 payload, $9 reason */
static BillingStatement insert_request = {
	"WITH document AS ("
	" INSERT INTO billing.document (entity_id, kind, state, maker_id, amount, currency)"
	" VALUES ($1, $2, $3, $4, $6, $7) RETURNING document_id"
	"), request AS ("
	" INSERT INTO billing.document_request (entity_id, document_id, subject, payload)"
	" SELECT $1, document_id, $5, $8 FROM document"
	"), step AS ("
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id, reason)"
	" SELECT $1, document_id, 1, 'request', $3, $4, $9 FROM document"
	"), audit AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" SELECT $1, 'request', $2, document_id::text, jsonb_build_object('state', $3, 'version', 1,"
	"  'subject', $5, 'amount', $6, 'currency', $7, 'payload', $8), $9 FROM document"
	") SELECT billing_internal.document_reference($2, document_id) FROM document",
	9,
	{ INT4OID, TEXTOID, TEXTOID, INT4OID, TEXTOID, NUMERICOID, TEXTOID, JSONBOID, TEXTOID },
	NULL
};

/* The document that a reference names, or ERRCODE_BILLING_UNKNOWN_CODE. */
static int64
find(int32 entity_id, const char *reference)
{
	Datum values[2] = { Int32GetDatum(entity_id), CStringGetTextDatum(reference) };

	if (billing_core_run(&find_document, values, NULL, false) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE),
				 errmsg("document \"%s\" does not exist", reference),
				 errhint("Use its reference: D12 of an invoice, U12 of a correction of usage, "
						 "R12 of what billing.request_document() returned.")));
	return DatumGetInt64(billing_core_value(0, 0, NULL));
}

/* Refuse an action that a function takes with more than a step; the engine refuses what is not possible at all. */
static void
check_generic(int32 entity_id, int64 document_id, const char *action)
{
	Datum values[3];
	char *function_name;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(document_id);
	values[2] = CStringGetTextDatum(action);
	if (billing_core_run(&find_function, values, NULL, false) == 0)
		return;
	function_name = billing_core_text_value(0, 0);
	if (function_name != NULL && strcmp(function_name, "take_action") != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_TRANSITION),
						errmsg("action %s has a function of its own", action),
						errhint("Call billing.%s().", function_name)));
}

/* The state of a document. */
static char *
state_of(int32 entity_id, int64 document_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };

	billing_core_run(&find_state, values, NULL, false);
	return billing_core_text_value(0, 0);
}

PG_FUNCTION_INFO_V1(billing_workflow_document_id);
PG_FUNCTION_INFO_V1(billing_workflow_request);
PG_FUNCTION_INFO_V1(billing_workflow_take_action);

/* billing_internal.document_id(entity integer, reference text) RETURNS bigint */
Datum
billing_workflow_document_id(PG_FUNCTION_ARGS)
{
	char *reference = billing_core_arg_code(fcinfo, 1, "document");
	int64 document_id;

	SPI_connect();
	document_id = find(PG_GETARG_INT32(0), reference);
	SPI_finish();
	PG_RETURN_INT64(document_id);
}

/*
 * billing.request_document(entity, kind, subject, amount numeric, currency, payload jsonb, reason)
 * RETURNS text: its reference
 *
 * For whoever holds the duty for what people do with such a document at its start.
 */
Datum
billing_workflow_request(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *kind = billing_core_arg_code(fcinfo, 1, "kind of document");
	char *reason = billing_core_arg_optional_text(fcinfo, 6, "reason");
	Datum values[9];
	char nulls[10] = "         ";
	char *reference;

	values[0] = Int32GetDatum(entity_id);
	values[1] = CStringGetTextDatum(kind);
	values[4] = CStringGetTextDatum(billing_core_arg_text(fcinfo, 2, "subject"));
	values[5] = NumericGetDatum(billing_core_arg_numeric(fcinfo, 3, "amount"));
	values[6] = CStringGetTextDatum(billing_core_arg_code(fcinfo, 4, "currency"));
	values[7] = JsonbPGetDatum(billing_core_arg_json(fcinfo, 5, "payload"));
	values[8] = reason == NULL ? (Datum) 0 : CStringGetTextDatum(reason);
	nulls[8] = reason == NULL ? 'n' : ' ';
	SPI_connect();
	if (billing_core_run(&find_start, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("nobody asks for documents of kind \"%s\"", kind),
						errhint("Kinds that can be asked for are contract_amendment, price_change, "
								"write_off, refund, milestone, journal and period_reopening.")));
	values[2] = CStringGetTextDatum(billing_core_text_value(0, 0));
	values[3] = Int32GetDatum(billing_core_actor_person());
	billing_core_require_duty(entity_id, billing_core_text_value(0, 1));
	if (billing_core_run(&find_currency, &values[6], NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("currency \"%s\" does not exist", TextDatumGetCString(values[6])),
						errhint("billing.currency lists them.")));
	billing_core_run(&insert_request, values, nulls, false);
	reference = billing_core_text_value(0, 0);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(reference));
}

/*
 * billing.take_action(entity, document, action, version integer, reason) RETURNS text: the state after it
 */
Datum
billing_workflow_take_action(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *reference = billing_core_arg_code(fcinfo, 1, "document");
	char *action = billing_core_arg_code(fcinfo, 2, "action");
	char *reason = billing_core_arg_optional_text(fcinfo, 4, "reason");
	int64 document_id;
	Datum id;
	char *state;

	SPI_connect();
	document_id = find(entity_id, reference);
	id = Int64GetDatum(document_id);
	billing_workflow_hold(entity_id, false);
	billing_workflow_expect_version(fcinfo, 3, entity_id, document_id);
	check_generic(entity_id, document_id, action);
	billing_workflow_advance(entity_id,
							 PointerGetDatum(construct_array(&id, 1, INT8OID, sizeof(int64),
															 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
							 action, reason, false);
	state = state_of(entity_id, document_id);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(state));
}
