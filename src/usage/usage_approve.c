/*
 * usage_approve.c
 *		What a second person says about a correction of usage that waits: it is
 *		carried out, or refused.
 *
 * Nothing was kept of trying it out but what it was about: it is prepared anew
 * from what was asked for, and goes on only if the same events stand there still.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "usage/usage_correct.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* $1 entity, $2 reference */
static BillingStatement find_correction = {
	"SELECT c.correction_id, d.state, c.kind, c.payload, c.takes_back, c.events,"
	" c.payload ->> 'source', ARRAY(SELECT jsonb_array_elements_text(CASE c.kind WHEN 'void'"
	"  THEN c.payload -> 'ids' ELSE '[]' END))"
	" FROM billing.usage_correction c JOIN billing.document d"
	"  ON d.entity_id = c.entity_id AND d.document_id = c.correction_id"
	" WHERE c.entity_id = $1"
	" AND c.correction_id = CASE WHEN $2 ~ '^U[0-9]{1,18}$' THEN substr($2, 2)::bigint END",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 correction, $3 effect, $4 periods that cannot be rated: as it is when it is approved */
static BillingStatement write_effect = {
	"WITH document AS ("
	" UPDATE billing.document SET amount = $3 WHERE entity_id = $1 AND document_id = $2"
	") UPDATE billing.usage_correction SET effect = $3, unrated = $4"
	" WHERE entity_id = $1 AND correction_id = $2",
	4,
	{ INT4OID, INT8OID, NUMERICOID, INT8OID },
	NULL
};

/* Refuse to approve what has become something else than was asked for. */
static void
check_unchanged(const BillingCorrection *correction, int64 events, Datum taken_back)
{
	ArrayType *asked = DatumGetArrayTypeP(taken_back);
	ArrayType *now = DatumGetArrayTypeP(billing_usage_taken_back(correction));

	if (correction->usage.count == events && VARSIZE(asked) == VARSIZE(now) &&
		memcmp(asked, now, VARSIZE(now)) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_CONFLICT),
			 errmsg("the events were corrected or brought in otherwise since this was asked for"),
			 errdetail("It was about " INT64_FORMAT " events, %d of which are as they were then, "
					   "or others stand in their place.",
					   events, correction->usage.count),
			 errhint("Reject it, and have it asked for again.")));
}

/* Carry out what was asked for earlier, as the events are now. */
static void
carry_out_approved(BillingCorrection *correction)
{
	/* the row that find_correction gave; what it holds is needed after SPI_finish() */
	Datum taken_back = billing_core_value_copy(0, 4, false, -1, NULL);
	int64 events = DatumGetInt64(billing_core_value(0, 5, NULL));
	char *kind = billing_core_text_value(0, 2);
	Datum values[4];

	for (correction->usage.kind = USAGE_VOID;
		 strcmp(billing_usage_correction_kinds[correction->usage.kind], kind) != 0;)
		correction->usage.kind++;
	if (correction->usage.kind == USAGE_VOID)
		billing_usage_name_events(&correction->batch,
								  DatumGetTextPP(billing_core_value_copy(0, 6, false, -1, NULL)),
								  DatumGetArrayTypeP(
									  billing_core_value_copy(0, 7, false, -1, NULL)));
	else
		billing_usage_read_events(&correction->batch,
								  DatumGetJsonbP(billing_core_value_copy(0, 3, false, -1, NULL)));
	billing_usage_prepare(correction);
	check_unchanged(correction, events, taken_back);
	billing_usage_carry_out(correction);
	if (correction->usage.count != events)
		check_unchanged(correction, events, taken_back);
	values[0] = Int32GetDatum(correction->usage.entity_id);
	values[1] = Int64GetDatum(correction->usage.correction_id);
	values[2] = NumericGetDatum(correction->effect);
	values[3] = Int64GetDatum(correction->unrated);
	(void) billing_core_run(&write_effect, values, NULL, false);
}

/*
 * Decide about a correction: entity, correction, reason, version.  One that is approved is
 * carried out first, so that the approver's limit holds against what it is worth now.  Where
 * several are asked, it is the last of them who has it carried out.
 */
static void
decide(FunctionCallInfo fcinfo, const char *action, const char *reason, bool approve)
{
	char *reference = billing_core_arg_code(fcinfo, 1, "correction");
	BillingCorrection correction = { 0 };
	Datum values[2];
	Datum id;
	bool is_asked;

	correction.usage.entity_id = billing_core_arg_entity(fcinfo, 0);
	correction.batch.entity_id = correction.usage.entity_id;
	SPI_connect();
	billing_usage_wait_for_corrections(correction.usage.entity_id);
	values[0] = Int32GetDatum(correction.usage.entity_id);
	values[1] = CStringGetTextDatum(reference);
	if (billing_core_run(&find_correction, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("correction \"%s\" does not exist", reference),
						errhint("billing.usage_corrections lists them, such as U123.")));
	id = billing_core_value(0, 0, NULL);
	correction.usage.correction_id = DatumGetInt64(id);
	billing_workflow_expect_version(fcinfo, 3, correction.usage.entity_id,
									correction.usage.correction_id);
	if (!billing_workflow_is_decided(correction.usage.entity_id, correction.usage.correction_id,
									 action, reason, &is_asked))
	{
		SPI_finish();
		return;
	}
	if (!is_asked)
		billing_core_require_duty(correction.usage.entity_id, "approver");
	(void) billing_core_run(&find_correction, values, NULL, false);
	if (approve && strcmp(billing_core_text_value(0, 1), "pending_approval") == 0)
		carry_out_approved(&correction);
	billing_workflow_advance(correction.usage.entity_id,
							 PointerGetDatum(construct_array(&id, 1, INT8OID, sizeof(int64),
															 FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
							 action, reason, false);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_usage_approve_correction);
PG_FUNCTION_INFO_V1(billing_usage_reject_correction);

/* billing.approve_usage_correction(entity text, correction text, reason text, version integer) RETURNS void */
Datum
billing_usage_approve_correction(PG_FUNCTION_ARGS)
{
	decide(fcinfo, "approve", billing_core_arg_optional_text(fcinfo, 2, "reason"), true);
	PG_RETURN_VOID();
}

/* billing.reject_usage_correction(entity text, correction text, reason text, version integer) RETURNS void: the reason is a must */
Datum
billing_usage_reject_correction(PG_FUNCTION_ARGS)
{
	decide(fcinfo, "reject", billing_core_arg_text(fcinfo, 2, "reason"), false);
	PG_RETURN_VOID();
}
