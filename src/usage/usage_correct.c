/*
 * usage_correct.c
 *		Corrections of usage as documents: who may ask for one, whether it is carried
 *		out at once or waits for a second person.
 *
 * How events are taken back and replaced is decided by metering_correct.c, what
 * that is worth by usage_effect.c, what a second person says by usage_approve.c.  A correction is carried out to find that; what
 * has to wait is undone.  The corrections of an entity are made one after the
 * other, so that the same call at the same time makes one document.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/cryptohash.h"
#include "core/core.h"
#include "funcapi.h"
#include "usage/usage_correct.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "workflow/workflow.h"
#include "utils/resowner.h"

/* How many events one correction may touch. */
#define MAX_CORRECTED 10000

/* By BillingUsageCorrectionKind */
const char *const billing_usage_correction_kinds[] = { "void", "replace", "backfill" };

/* $1 entity */
static BillingStatement lock_entity = {
	"SELECT 1 FROM billing.legal_entity WHERE entity_id = $1 FOR NO KEY UPDATE",
	1,
	{ INT4OID },
	NULL
};

/* $1 source, $2 ids: what a call for taking events back has asked for, as it is kept */
static BillingStatement make_payload = {
	"SELECT jsonb_build_object('source', $1, 'ids', to_jsonb($2))",
	2,
	{ TEXTOID, TEXTARRAYOID },
	NULL
};

#define DIGEST \
	"encode(substr(sha256(convert_to(concat_ws(E'\\n', $2, $3, $4), 'UTF8')), 1, 16), 'hex')::uuid"

/* $1 entity, $2 kind, $3 reason, $4 payload: the correction that the same call has made */
static BillingStatement find_same = {
	"SELECT c.reference, d.state, c.events + c.already_done, c.effect, c.currency"
	" FROM billing.usage_correction c JOIN billing.document d"
	"  ON d.entity_id = c.entity_id AND d.document_id = c.correction_id"
	" WHERE c.entity_id = $1 AND c.digest = " DIGEST " AND d.state <> 'rejected'"
	" ORDER BY c.correction_id DESC LIMIT 1",
	4,
	{ INT4OID, TEXTOID, TEXTOID, JSONBOID },
	NULL
};

/* $1 entity, $2 effect, $3 its currency, $4 periods that cannot be rated */
static BillingStatement is_small = {
	"SELECT p.correction_limit IS NULL OR ($4 = 0 AND ($2 = 0"
	"  OR (e.currency = $3 AND abs($2) <= p.correction_limit)))"
	" FROM billing.legal_entity e LEFT JOIN billing.usage_policy p USING (entity_id)"
	" WHERE e.entity_id = $1",
	4,
	{ INT4OID, NUMERICOID, TEXTOID, INT8OID },
	NULL
};

/*
 * $1 entity, $2 kind, $3 reason, $4 payload, $5 correction, $6 state, $7 action, $8 maker,
 * $9 effect, $10 currency, $11 periods that cannot be rated, $12 events, $13 events already done,
 * $14 the rows in whose place others are put
 */
static BillingStatement write_document = {
	"WITH document AS ("
	" INSERT INTO billing.document (entity_id, document_id, kind, state, maker_id, amount, currency)"
	" VALUES ($1, $5, 'usage_correction', $6, $8, $9, $10)"
	"), step AS ("
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state,"
	"  actor_id, reason) VALUES ($1, $5, 1, $7, $6, $8, $3)"
	"), audit AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" VALUES ($1, $7, 'usage_correction', $5::text, jsonb_build_object('state', $6, 'version', 1,"
	"  'kind', $2, 'events', $12, 'effect', $9, 'currency', $10), $3)"
	") INSERT INTO billing.usage_correction (entity_id, correction_id, kind, reason, events,"
	"  already_done, payload, digest, takes_back, effect, currency, unrated)"
	" VALUES ($1, $5, $2, $3, $12, $13, $4, " DIGEST ", $14, $9, $10, $11)"
	" RETURNING reference",
	14,
	{ INT4OID, TEXTOID, TEXTOID, JSONBOID, INT8OID, TEXTOID, TEXTOID, INT4OID, NUMERICOID, TEXTOID,
	  INT8OID, INT8OID, INT8OID, INT8ARRAYOID },
	NULL
};

/* A correction as a call asks for it. */
typedef struct Request
{
	BillingCorrection correction;
	const char *reason;
	Datum payload;
} Request;

/* Refuse a number of events that no correction has. */
static void
check_count(int64 count, const char *name)
{
	if (count == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be empty", name), errhint("Name at least one event.")));
	if (count > MAX_CORRECTED)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s are too many for one call", name),
						errdetail("There are " INT64_FORMAT "; at most %d are taken.", count,
								  MAX_CORRECTED),
						errhint("Correct them in several calls.")));
}

/* Refuse a missing argument. */
static void
check_given(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be null", name), errhint("Name at least one event.")));
}

/* Refuse what cannot be the source or the id of an event. */
static void
check_name(text *name, const char *what)
{
	const unsigned char *bytes = (const unsigned char *) VARDATA_ANY(name);
	int length = VARSIZE_ANY_EXHDR(name);
	int i;

	if (length == 0 || length > BILLING_USAGE_MAX_NAME)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("%s has %d bytes", what, length),
				 errdetail("An event's has 1 to %d.", BILLING_USAGE_MAX_NAME),
				 errhint("Name the events as they were sent.")));
	for (i = 0; i < length; i++)
	{
		if (bytes[i] < 0x20 || bytes[i] == 0x7f)
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("%s contains a control character", what),
							errhint("Name the events as they were sent.")));
	}
}

/* The batch of events that a source and ids name, of which nothing else is known yet. */
void
billing_usage_name_events(BillingUsageBatch *batch, text *source, ArrayType *ids)
{
	pg_cryptohash_ctx *context = billing_metering_hash_begin();
	Datum *values;
	bool *nulls;
	int count;
	int i;

	deconstruct_array(ids, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
	check_count(count, "ids");
	check_name(source, "source");
	batch->count = count;
	batch->events = palloc0(sizeof(BillingUsageEvent) * (count + 1));
	for (i = 0; i < count; i++)
	{
		BillingUsageEvent *event = &batch->events[i];
		text *id;

		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("an id must not be null"),
					 errhint("Give the ids of the events.")));
		id = DatumGetTextPP(values[i]);
		check_name(id, "an id");
		event->position = i;
		event->source.bytes = VARDATA_ANY(source);
		event->source.length = VARSIZE_ANY_EXHDR(source);
		event->key.bytes = VARDATA_ANY(id);
		event->key.length = VARSIZE_ANY_EXHDR(id);
		billing_metering_hash_key(context, event);
	}
	pg_cryptohash_free(context);
}

/* The batch of events that are given as CloudEvents. */
void
billing_usage_read_events(BillingUsageBatch *batch, Jsonb *events)
{
	billing_metering_parse(batch, events);
	check_count(batch->count, "events");
}

/* One row as the result of a call. */
static void
answer(FunctionCallInfo fcinfo, char *reference, char *state, int64 events, int64 already_done,
	   Numeric effect, char *currency)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum values[6];
	bool nulls[6];

	nulls[0] = reference == NULL;
	values[0] = reference != NULL ? CStringGetTextDatum(reference) : (Datum) 0;
	nulls[1] = state == NULL;
	values[1] = state != NULL ? CStringGetTextDatum(state) : (Datum) 0;
	nulls[2] = nulls[3] = false;
	values[2] = Int64GetDatum(events);
	values[3] = Int64GetDatum(already_done);
	nulls[4] = effect == NULL;
	values[4] = NumericGetDatum(effect);
	nulls[5] = currency == NULL;
	values[5] = currency != NULL ? CStringGetTextDatum(currency) : (Datum) 0;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Whether the same call was made before and not rejected; then that correction is the answer. */
static bool
was_asked_before(FunctionCallInfo fcinfo, const Request *request)
{
	const BillingUsageCorrection *usage = &request->correction.usage;
	Datum values[4];
	bool found;

	values[0] = Int32GetDatum(usage->entity_id);
	values[1] = CStringGetTextDatum(billing_usage_correction_kinds[usage->kind]);
	values[2] = CStringGetTextDatum(request->reason);
	values[3] = request->payload;
	SPI_connect();
	found = billing_core_run(&find_same, values, NULL, false) > 0;
	if (found)
		answer(fcinfo, billing_core_text_value(0, 0), billing_core_text_value(0, 1), 0,
			   DatumGetInt64(billing_core_value(0, 2, NULL)),
			   DatumGetNumeric(billing_core_value_copy(0, 3, false, -1, NULL)),
			   billing_core_text_value(0, 4));
	SPI_finish();
	return found;
}

/* Whether the correction may be carried out without a second person. */
static bool
is_within_limit(const BillingCorrection *correction)
{
	Datum values[4];
	bool small;

	values[0] = Int32GetDatum(correction->usage.entity_id);
	values[1] = NumericGetDatum(correction->effect);
	values[2] = CStringGetTextDatum(correction->currency);
	values[3] = Int64GetDatum(correction->unrated);
	SPI_connect();
	(void) billing_core_run(&is_small, values, NULL, false);
	small = DatumGetBool(billing_core_value(0, 0, NULL));
	SPI_finish();
	return small;
}

/*
 * Carry the correction out and say whether it stands; where it has to wait, it is
 * undone.  An error ends the inner transaction before it goes on: it would leave
 * the outer one open.
 */
static bool
try_out(BillingCorrection *correction)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool stands = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		billing_usage_carry_out(correction);
		stands = is_within_limit(correction);
		if (stands)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		ReThrowError(error);
	}
	PG_END_TRY();
	return stands;
}

/* Write the document of a correction, and return its reference. */
static char *
write_down(const Request *request, Datum taken_back, bool stands)
{
	const BillingCorrection *correction = &request->correction;
	const BillingUsageCorrection *usage = &correction->usage;
	Datum values[14];
	char *reference;

	values[0] = Int32GetDatum(usage->entity_id);
	values[1] = CStringGetTextDatum(billing_usage_correction_kinds[usage->kind]);
	values[2] = CStringGetTextDatum(request->reason);
	values[3] = request->payload;
	values[4] = Int64GetDatum(usage->correction_id);
	values[5] = CStringGetTextDatum(stands ? "applied" : "pending_approval");
	values[6] = CStringGetTextDatum(stands ? "apply" : "submit");
	values[7] = Int32GetDatum(billing_core_actor_person());
	values[8] = NumericGetDatum(correction->effect);
	values[9] = CStringGetTextDatum(correction->currency);
	values[10] = Int64GetDatum(correction->unrated);
	values[11] = Int64GetDatum(usage->count);
	values[12] = Int64GetDatum(usage->already_done);
	values[13] = taken_back;
	SPI_connect();
	(void) billing_core_run(&write_document, values, NULL, false);
	reference = billing_core_text_value(0, 0);
	if (!stands)
		billing_workflow_open_requests(usage->entity_id,
									   billing_workflow_set_of(usage->correction_id));
	SPI_finish();
	return reference;
}

/* Have the corrections of an entity come one after the other. */
void
billing_usage_wait_for_corrections(int32 entity_id)
{
	Datum values[1] = { Int32GetDatum(entity_id) };

	SPI_connect();
	(void) billing_core_run(&lock_entity, values, NULL, false);
	SPI_finish();
}

/* Do what a call has asked for, or put it before a second person. */
static Datum
carry_out(FunctionCallInfo fcinfo, Request *request)
{
	BillingCorrection *correction = &request->correction;
	BillingUsageCorrection *usage = &correction->usage;
	Datum taken_back;
	char *reference;
	bool stands;

	billing_usage_wait_for_corrections(usage->entity_id);
	if (was_asked_before(fcinfo, request))
		return (Datum) 0;
	usage->correction_id = nextval_internal(get_relname_relid("document_document_id_seq",
															  get_namespace_oid("billing", false)),
											false);
	billing_usage_prepare(correction);
	taken_back = billing_usage_taken_back(correction);
	stands = usage->count > 0 && try_out(correction);
	if (usage->count == 0)
	{
		answer(fcinfo, NULL, NULL, 0, usage->already_done, NULL, NULL);
		return (Datum) 0;
	}
	reference = write_down(request, taken_back, stands);
	answer(fcinfo, reference, stands ? "applied" : "pending_approval", usage->count,
		   usage->already_done, correction->effect, correction->currency);
	return (Datum) 0;
}

/* Begin a request: the entity, in which the caller needs the duty biller. */
static void
begin_request(FunctionCallInfo fcinfo, Request *request, BillingUsageCorrectionKind kind)
{
	int32 entity_id;

	InitMaterializedSRF(fcinfo, 0);
	entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_core_require_duty(entity_id, "biller");
	memset(request, 0, sizeof(*request));
	request->correction.usage.kind = kind;
	request->correction.usage.entity_id = entity_id;
	request->correction.batch.entity_id = entity_id;
}

/* Carry out a request whose events are CloudEvents: entity, events, reason. */
static Datum
correct_by_events(FunctionCallInfo fcinfo, BillingUsageCorrectionKind kind)
{
	Request request;
	Jsonb *events;

	begin_request(fcinfo, &request, kind);
	check_given(fcinfo, 1, "events");
	events = PG_GETARG_JSONB_P(1);
	request.reason = billing_core_arg_text(fcinfo, 2, "reason");
	billing_usage_read_events(&request.correction.batch, events);
	request.payload = JsonbPGetDatum(events);
	return carry_out(fcinfo, &request);
}

PG_FUNCTION_INFO_V1(billing_usage_void);
PG_FUNCTION_INFO_V1(billing_usage_replace);
PG_FUNCTION_INFO_V1(billing_usage_backfill);

/*
 * billing.void_usage(entity text, source text, ids text[], reason text) RETURNS TABLE
 *     (correction text, state text, events bigint, already_done bigint, effect numeric,
 *     currency text)
 *
 * The correction is null where there was nothing left to do.
 */
Datum
billing_usage_void(PG_FUNCTION_ARGS)
{
	Request request;
	Datum values[2];
	text *source;

	begin_request(fcinfo, &request, USAGE_VOID);
	source = cstring_to_text(billing_core_arg_text(fcinfo, 1, "source"));
	check_given(fcinfo, 2, "ids");
	request.reason = billing_core_arg_text(fcinfo, 3, "reason");
	billing_usage_name_events(&request.correction.batch, source, PG_GETARG_ARRAYTYPE_P(2));
	values[0] = PointerGetDatum(source);
	values[1] = PG_GETARG_DATUM(2);
	SPI_connect();
	(void) billing_core_run(&make_payload, values, NULL, true);
	request.payload = billing_core_value_copy(0, 0, false, -1, NULL);
	SPI_finish();
	return carry_out(fcinfo, &request);
}

/* billing.replace_usage(entity text, events jsonb, reason text) RETURNS TABLE (as void_usage) */
Datum
billing_usage_replace(PG_FUNCTION_ARGS)
{
	return correct_by_events(fcinfo, USAGE_REPLACE);
}

/* billing.backfill_usage(entity text, events jsonb, reason text) RETURNS TABLE (as void_usage) */
Datum
billing_usage_backfill(PG_FUNCTION_ARGS)
{
	return correct_by_events(fcinfo, USAGE_BACKFILL);
}
