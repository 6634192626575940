/*
 * workflow_approval_settle.c
 *		Whether a stage has all the approvals that it needs; if so the next one
 *		is opened, until one waits for people or none is left.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"
#include "workflow/workflow_approval.h"

/* $1 entity, $2 document: the open requests; 0 stands for all */
static BillingStatement read_requests = {
	"SELECT r.request_id, coalesce(r.needed, 0)::integer FROM billing.approval_request r"
	" WHERE r.entity_id = $1 AND r.document_id = $2 AND r.state = 'open' ORDER BY r.level_no",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 document: what was said for them, in the order in which it was said, $3 last */
static BillingStatement read_voices = {
	"SELECT s.person_id, s.request_id, s.is_escalation FROM billing.approval_decision s"
	" JOIN billing.approval_request r ON r.entity_id = s.entity_id AND r.request_id = s.request_id"
	" WHERE r.entity_id = $1 AND r.document_id = $2 AND r.state = 'open' AND s.decision = 'approve'"
	" ORDER BY s.person_id = $3, s.decided_at, s.person_id",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 document, $3 requests and $4 persons in pairs: what does not count any more, before what counts */
static BillingStatement unmark = {
	"UPDATE billing.approval_decision s SET counts = false FROM billing.approval_request r"
	" WHERE r.entity_id = $1 AND r.document_id = $2 AND r.state = 'open'"
	" AND s.entity_id = r.entity_id AND s.request_id = r.request_id AND s.counts"
	" AND NOT EXISTS (SELECT FROM unnest($3, $4) AS v (request_id, person_id)"
	"  WHERE v.request_id = s.request_id AND v.person_id = s.person_id)",
	4,
	{ INT4OID, INT8OID, INT8ARRAYOID, INT4ARRAYOID },
	NULL
};

/* the same arguments */
static BillingStatement mark = {
	"UPDATE billing.approval_decision s SET counts = true FROM unnest($3, $4) AS v (request_id, person_id)"
	" WHERE s.entity_id = $1 AND s.document_id = $2 AND s.request_id = v.request_id"
	" AND s.person_id = v.person_id AND NOT s.counts",
	4,
	{ INT4OID, INT8OID, INT8ARRAYOID, INT4ARRAYOID },
	NULL
};

/* $1 entity, $2 document, $3 request: whether somebody is there who has not said anything */
static BillingStatement anybody_left = {
	"SELECT EXISTS (SELECT FROM billing.approval_candidate c WHERE c.entity_id = $1"
	" AND c.document_id = $2 AND c.request_id = $3 AND c.obstacle IS NULL AND NOT c.is_escalation)",
	3,
	{ INT4OID, INT8OID, INT8OID },
	NULL
};

/* $1 entity, $2 requests, $3 how many each had */
static BillingStatement close_stage = {
	"UPDATE billing.approval_request r SET state = 'approved', closed_at = now(),"
	" needed = coalesce(r.needed, v.given::smallint)"
	" FROM unnest($2, $3) AS v (request_id, given)"
	" WHERE r.entity_id = $1 AND r.request_id = v.request_id",
	3,
	{ INT4OID, INT8ARRAYOID, INT4ARRAYOID },
	NULL
};

/* $1 entity, $2 document: nothing where no stage is left */
static BillingStatement open_stage = {
	"UPDATE billing.approval_request r SET state = 'open', opened_at = now(),"
	" deadline = now() + r.deadline_after"
	" WHERE r.entity_id = $1 AND r.document_id = $2 AND r.state = 'waiting'"
	" AND r.stage = (SELECT min(w.stage) FROM billing.approval_request w WHERE w.entity_id = $1"
	"  AND w.document_id = $2 AND w.state = 'waiting')",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* The stage at hand. */
typedef struct Stage
{
	int32 entity_id;
	int64 document_id;
	BillingRequest *requests;
	int nrequests;
	BillingVoice *voices;
	int nvoices;
} Stage;

/* The place of a request in the stage. */
static int
place_of(const Stage *stage, int64 request_id)
{
	for (int r = 0; r < stage->nrequests; r++)
	{
		if (stage->requests[r].request_id == request_id)
			return r;
	}
	return -1;
}

/* Read the open requests, and what was said; last, whoever speaks now. */
static void
read_stage(Stage *stage, int32 voice_of)
{
	Datum values[3];
	uint64 count;

	values[0] = Int32GetDatum(stage->entity_id);
	values[1] = Int64GetDatum(stage->document_id);
	values[2] = Int32GetDatum(voice_of);
	count = billing_core_run(&read_requests, values, NULL, false);
	stage->nrequests = (int) count;
	stage->requests = palloc0(sizeof(BillingRequest) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		stage->requests[i].request_id = DatumGetInt64(billing_core_value(i, 0, NULL));
		stage->requests[i].needed = DatumGetInt32(billing_core_value(i, 1, NULL));
	}
	count = billing_core_run(&read_voices, values, NULL, false);
	stage->nvoices = 0;
	stage->voices = palloc0(sizeof(BillingVoice) * (count + 1));
	for (uint64 i = 0; i < count; i++)
	{
		int32 person_id = DatumGetInt32(billing_core_value(i, 0, NULL));
		int request = place_of(stage, DatumGetInt64(billing_core_value(i, 1, NULL)));
		BillingVoice *voice = &stage->voices[stage->nvoices];

		if (request < 0)
			continue;
		if (stage->nvoices > 0 && voice[-1].person_id == person_id)
			voice--;
		else
		{
			stage->nvoices++;
			voice->person_id = person_id;
			voice->can = palloc0(sizeof(bool) * stage->nrequests);
			voice->escalates = palloc0(sizeof(bool) * stage->nrequests);
		}
		voice->can[request] = true;
		voice->escalates[request] = DatumGetBool(billing_core_value(i, 2, NULL));
	}
}

/* Write down which of what was said counts. */
static void
write_counts(const Stage *stage)
{
	Datum *requests = palloc(sizeof(Datum) * (stage->nvoices + 1));
	Datum *persons = palloc(sizeof(Datum) * (stage->nvoices + 1));
	Datum values[4];
	int count = 0;

	for (int v = 0; v < stage->nvoices; v++)
	{
		if (stage->voices[v].counts_for < 0)
			continue;
		requests[count] = Int64GetDatum(stage->requests[stage->voices[v].counts_for].request_id);
		persons[count++] = Int32GetDatum(stage->voices[v].person_id);
	}
	values[0] = Int32GetDatum(stage->entity_id);
	values[1] = Int64GetDatum(stage->document_id);
	values[2] = PointerGetDatum(
		construct_array(requests, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = PointerGetDatum(
		construct_array(persons, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	billing_core_run(&unmark, values, NULL, false);
	billing_core_run(&mark, values, NULL, false);
}

/*
 * Whether a request has what it needs.  Where all are asked, nobody may be left
 * who is there, unless somebody to whom it was escalated stands in for them.
 */
static bool
is_served(const Stage *stage, const BillingRequest *request)
{
	Datum values[3];

	if (request->needed != BILLING_NEEDED_ALL)
		return request->given >= request->needed;
	if (request->given == 0)
		return false;
	if (request->escalated)
		return true;
	values[0] = Int32GetDatum(stage->entity_id);
	values[1] = Int64GetDatum(stage->document_id);
	values[2] = Int64GetDatum(request->request_id);
	billing_core_run(&anybody_left, values, NULL, false);
	return !DatumGetBool(billing_core_value(0, 0, NULL));
}

/* Close the requests of a stage that has all it needs. */
static void
end_stage(const Stage *stage)
{
	Datum *requests = palloc(sizeof(Datum) * (stage->nrequests + 1));
	Datum *given = palloc(sizeof(Datum) * (stage->nrequests + 1));
	Datum values[3];

	for (int r = 0; r < stage->nrequests; r++)
	{
		requests[r] = Int64GetDatum(stage->requests[r].request_id);
		given[r] = Int32GetDatum(stage->requests[r].given);
	}
	values[0] = Int32GetDatum(stage->entity_id);
	values[1] = PointerGetDatum(construct_array(requests, stage->nrequests, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(
		construct_array(given, stage->nrequests, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	billing_core_run(&close_stage, values, NULL, false);
}

/* Whether a person's voice counts in the stage. */
static bool
counts(const Stage *stage, int32 person_id)
{
	for (int v = 0; v < stage->nvoices; v++)
	{
		if (stage->voices[v].person_id == person_id)
			return stage->voices[v].counts_for >= 0;
	}
	return false;
}

/*
 * Go as far through the stages of a locked document as what was said allows; true
 * where nothing is left to be asked.  voice_of is the person who has just spoken,
 * or -1: they are refused where nobody waited for them.
 */
bool
billing_workflow_settle(int32 entity_id, int64 document_id, int32 voice_of)
{
	Stage stage = { 0 };
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(document_id) };

	stage.entity_id = entity_id;
	stage.document_id = document_id;
	for (;;)
	{
		bool served = true;

		CHECK_FOR_INTERRUPTS();
		read_stage(&stage, voice_of);
		if (stage.nrequests == 0)
		{
			if (billing_core_run(&open_stage, values, NULL, false) == 0)
				return true;
			continue;
		}
		billing_workflow_match_voices(stage.requests, stage.nrequests, stage.voices, stage.nvoices);
		if (voice_of >= 0 && !counts(&stage, voice_of))
			billing_workflow_refuse_surplus(document_id, "approve");
		write_counts(&stage);
		for (int r = 0; r < stage.nrequests && served; r++)
			served = is_served(&stage, &stage.requests[r]);
		if (!served)
			return false;
		end_stage(&stage);
		voice_of = -1;
	}
}
