/*
 * invoicing_run.c
 *		Opening, cancelling and closing a billing run, and how a session does one
 *		in the foreground: slices of accounts, a transaction each.
 *
 * Whatever moment a run breaks off at, what it committed stands and the next run
 * bills the rest: a run writes entitled − billed and nothing else.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "executor/spi.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "usage/usage.h"
#include "utils/builtins.h"

/* The steps that a run takes as the tables' owner; each asks for the duty itself. */
static const char open_run_call[] = "SELECT billing_internal.open_run($1, $2, $3)";
static const char run_slice_call[] = "SELECT billing_internal.run_slice($1, $2, $3)";
static const char close_run_call[] = "SELECT billing_internal.close_run($1, $2)";

/* $1 options: the first that is not known, or an empty row */
static BillingStatement read_options = {
	"SELECT (SELECT min(key) FROM jsonb_object_keys($1) AS key WHERE key NOT IN ('phase', 'slice')),"
	" coalesce($1 ->> 'phase', 'draft'), coalesce($1 ->> 'slice', '5000')",
	1,
	{ JSONBOID },
	NULL
};

/* $1 entity, $2 through date, $3 phase, $4 whether in the background, $5 who */
static BillingStatement open_run = {
	"INSERT INTO billing.billing_run (entity_id, through_date, phase, is_background, started_by)"
	" VALUES ($1, $2, $3, $4, $5) RETURNING run_id",
	5,
	{ INT4OID, DATEOID, TEXTOID, BOOLOID, INT4OID },
	NULL
};

/*
 * $1 entity, $2 run, $3 through date, $4 accounts of a slice.  Due is who has a
 * charge that falls due by the day, and who changed since they were billed last;
 * parked accounts are left out.
 */
static BillingStatement cut_slices = {
	"WITH due AS ("
	" SELECT account_id FROM billing.account_watermark"
	"  WHERE entity_id = $1 AND next_due <= $3 AND parked_at IS NULL"
	" UNION SELECT account_id FROM billing.account_change c WHERE entity_id = $1"
	"  AND NOT EXISTS (SELECT FROM billing.account_watermark p WHERE p.entity_id = $1"
	"   AND p.account_id = c.account_id AND p.parked_at IS NOT NULL)"
	"), slice AS ("
	" INSERT INTO billing.run_slice (entity_id, run_id, slice_no, account_ids)"
	" SELECT $1, $2, s.slice_no, array_agg(s.account_id ORDER BY s.account_id)"
	" FROM (SELECT account_id, (row_number() OVER (ORDER BY account_id) - 1) / $4 + 1 AS slice_no FROM due) s"
	" GROUP BY s.slice_no RETURNING 1"
	") UPDATE billing.billing_run SET slices = (SELECT count(*) FROM slice)"
	" WHERE entity_id = $1 AND run_id = $2",
	4,
	{ INT4OID, INT8OID, DATEOID, INT4OID },
	NULL
};

/* $1 entity, $2 run */
static BillingStatement find_run = {
	"SELECT through_date, phase, started_by, slices, cancelled_at IS NOT NULL FROM billing.billing_run"
	" WHERE entity_id = $1 AND run_id = $2 AND finished_at IS NULL",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 run: added up once, so that workers do not wait for each other's counts */
static BillingStatement close_run = {
	"WITH run AS (UPDATE billing.billing_run r SET finished_at = clock_timestamp(),"
	"  accounts = s.accounts, documents = s.documents, issued = s.issued, held = s.held,"
	"  lines = s.lines, exceptions = s.exceptions, parked = s.parked"
	"  FROM (SELECT coalesce(sum(accounts), 0) AS accounts, coalesce(sum(documents), 0) AS documents,"
	"   coalesce(sum(issued), 0) AS issued, coalesce(sum(held), 0) AS held, coalesce(sum(lines), 0) AS lines,"
	"   coalesce(sum(exceptions), 0) AS exceptions, coalesce(sum(parked), 0) AS parked"
	"   FROM billing.run_slice WHERE entity_id = $1 AND run_id = $2) s"
	"  WHERE r.entity_id = $1 AND r.run_id = $2 AND r.finished_at IS NULL RETURNING r.*)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT entity_id, 'run', 'billing_run', run_id::text, to_jsonb(run) FROM run",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 run */
static BillingStatement cancel_run = {
	"WITH run AS (UPDATE billing.billing_run SET cancelled_at = now()"
	" WHERE entity_id = $1 AND run_id = $2 AND finished_at IS NULL AND cancelled_at IS NULL"
	" RETURNING entity_id, run_id)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id)"
	" SELECT entity_id, 'cancel', 'billing_run', run_id::text FROM run",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* What a caller asked for. */
typedef struct RunOptions
{
	char *phase;
	int32 slice;
} RunOptions;

/* Read the options, or raise ERRCODE_BILLING_INVALID_ARGUMENT.  Inside SPI. */
static void
parse_options(Jsonb *json, RunOptions *options)
{
	Datum values[1] = { JsonbPGetDatum(json) };
	char *unknown;
	char *size;
	char *end;
	long accounts;

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("options must be an object"),
				 errhint("Give one such as {\"phase\": \"issue\"}.")));
	billing_core_run(&read_options, values, NULL, true);
	unknown = billing_core_text_value(0, 0);
	options->phase = billing_core_text_value(0, 1);
	size = billing_core_text_value(0, 2);
	billing_core_check_code(options->phase, "phase");
	billing_core_check_code(size, "slice");
	if (unknown != NULL)
	{
		billing_core_check_code(unknown, "option");
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("option \"%s\" is not known", unknown), errhint("Use phase or slice.")));
	}
	if (strcmp(options->phase, "draft") != 0 && strcmp(options->phase, "validate") != 0 &&
		strcmp(options->phase, "issue") != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("phase \"%s\" is not known", options->phase),
						errhint("Use draft, validate or issue.")));
	errno = 0;
	accounts = strtol(size, &end, 10);
	if (errno != 0 || *end != '\0' || end == size || accounts < 1 || accounts > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("slice must be between 1 and 100000 accounts"),
				 errdetail("It is %s.", size), errhint("Leave it out: 5000 is a good size.")));
	options->slice = (int32) accounts;
}

/* An open run, or ERRCODE_BILLING_UNKNOWN_CODE.  Inside SPI. */
void
billing_invoicing_find_run(int32 entity_id, int64 run_id, BillingRun *run)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(run_id) };

	if (billing_core_run(&find_run, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("billing run " INT64_FORMAT " is not open", run_id),
						errhint("Start one with CALL billing.run_billing().")));
	run->entity_id = entity_id;
	run->run_id = run_id;
	run->through = DatumGetDateADT(billing_core_value(0, 0, NULL));
	run->phase = billing_core_text_value(0, 1);
	run->started_by = DatumGetInt32(billing_core_value(0, 2, NULL));
	run->slices = DatumGetInt32(billing_core_value(0, 3, NULL));
	run->cancelled = DatumGetBool(billing_core_value(0, 4, NULL));
}

/* Record that a run has ended.  Inside SPI. */
void
billing_invoicing_close_run(const BillingRun *run)
{
	Datum values[2] = { Int32GetDatum(run->entity_id), Int64GetDatum(run->run_id) };

	billing_core_crash_point("run_closing");
	billing_core_run(&close_run, values, NULL, false);
}

/* Open a run of an entity as whoever acts, cut into slices. */
int64
billing_invoicing_open_run(int32 entity_id, DateADT through, Jsonb *json, bool background)
{
	RunOptions options;
	Datum values[5];
	int64 run_id;

	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	parse_options(json, &options);
	/*
	 * First, as long as this transaction has no number that holds the horizon back.  It only saves
	 * time, and is no reason for a serialization failure.
	 */
	if (!IsolationUsesXactSnapshot())
		billing_usage_roll_up_apart(entity_id);
	/* the list of what changed is complete after this */
	billing_invoicing_complete_changes(entity_id, through);
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(through);
	values[2] = CStringGetTextDatum(options.phase);
	values[3] = BoolGetDatum(background);
	values[4] = Int32GetDatum(billing_core_actor_person());
	billing_core_run(&open_run, values, NULL, false);
	run_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	values[1] = Int64GetDatum(run_id);
	values[2] = DateADTGetDatum(through);
	values[3] = Int32GetDatum(options.slice);
	billing_core_run(&cut_slices, values, NULL, false);
	billing_core_crash_point("run_opened");
	SPI_finish();
	return run_id;
}

/* Call one of the steps and return its result. */
static int64
take_step(const char *call, int nargs, Oid *types, Datum *values)
{
	bool isnull;

	if (SPI_execute_with_args(call, nargs, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("a step of the billing run could not be taken"),
						errdetail("The step is: %s", call)));
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

/* Commit what was done so far, and go on as the same person. */
static void
commit_slice(bool atomic)
{
	int32 actor = billing_core_save_actor();

	if (atomic)
		return;
	SPI_commit();
	billing_core_restore_actor(actor);
}

/* Tell how far a run of several slices is, once for each per cent. */
static void
tell_progress(int64 run_id, int64 done, int64 slices)
{
	if (slices > 1 && done * 100 / slices > (done - 1) * 100 / slices)
		ereport(NOTICE, (errmsg("billing run " INT64_FORMAT ": %d %% (slice " INT64_FORMAT
								" of " INT64_FORMAT ")",
								run_id, (int) (done * 100 / slices), done, slices)));
}

PG_FUNCTION_INFO_V1(billing_invoicing_run_billing);
PG_FUNCTION_INFO_V1(billing_invoicing_open);
PG_FUNCTION_INFO_V1(billing_invoicing_run_slice);
PG_FUNCTION_INFO_V1(billing_invoicing_close);
PG_FUNCTION_INFO_V1(billing_invoicing_start_run);
PG_FUNCTION_INFO_V1(billing_invoicing_cancel_run);

/*
 * CALL billing.run_billing(entity text, through_date date, options jsonb)
 *
 * Commits after every slice, unless it is called inside a transaction block.
 */
Datum
billing_invoicing_run_billing(PG_FUNCTION_ARGS)
{
	bool atomic =
		!IsA(fcinfo->context, CallContext) || castNode(CallContext, fcinfo->context)->atomic;
	char *entity = billing_core_arg_code(fcinfo, 0, "entity");
	DateADT through = billing_core_arg_date(fcinfo, 1, "through date");
	Jsonb *options = billing_core_arg_json(fcinfo, 2, "options");
	Oid open_types[3] = { TEXTOID, DATEOID, JSONBOID };
	Oid types[3] = { TEXTOID, INT8OID, INT4OID };
	Datum values[3];
	int64 run_id;
	int64 slices;
	int32 slice_no = 1;

	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	values[0] = CStringGetTextDatum(entity);
	values[1] = DateADTGetDatum(through);
	values[2] = JsonbPGetDatum(options);
	run_id = take_step(open_run_call, 3, open_types, values);
	commit_slice(atomic);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(entity);
		values[1] = Int64GetDatum(run_id);
		values[2] = Int32GetDatum(slice_no);
		slices = take_step(run_slice_call, 3, types, values);
		commit_slice(atomic);
		if (slice_no <= slices)
			tell_progress(run_id, slice_no, slices);
		if (slice_no++ >= slices)
			break;
	}
	(void) take_step(close_run_call, 2, types, values);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing_internal.open_run(entity text, through_date date, options jsonb) RETURNS bigint: the run */
Datum
billing_invoicing_open(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	DateADT through = billing_core_arg_date(fcinfo, 1, "through date");

	PG_RETURN_INT64(billing_invoicing_open_run(entity_id, through,
											   billing_core_arg_json(fcinfo, 2, "options"), false));
}

/*
 * billing_internal.run_slice(entity text, run_id bigint, slice_no integer) RETURNS bigint
 *
 * How many slices the run has, 0 where it was cancelled.
 */
Datum
billing_invoicing_run_slice(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	BillingRun run;

	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	billing_invoicing_find_run(entity_id, PG_GETARG_INT64(1), &run);
	if (!run.cancelled)
		billing_invoicing_bill_slice(&run, PG_GETARG_INT32(2));
	SPI_finish();
	PG_RETURN_INT64(run.cancelled ? 0 : run.slices);
}

/* billing_internal.close_run(entity text, run_id bigint) RETURNS bigint: the run */
Datum
billing_invoicing_close(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	BillingRun run;

	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	billing_invoicing_find_run(entity_id, PG_GETARG_INT64(1), &run);
	billing_invoicing_close_run(&run);
	SPI_finish();
	PG_RETURN_INT64(run.run_id);
}

/*
 * billing.start_run(entity text, through_date date, options jsonb) RETURNS bigint
 *
 * The run, whose slices background workers take once this is committed.
 */
Datum
billing_invoicing_start_run(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	DateADT through = billing_core_arg_date(fcinfo, 1, "through date");
	int64 run_id = billing_invoicing_open_run(entity_id, through,
											  billing_core_arg_json(fcinfo, 2, "options"), true);

	if (!billing_core_wake_worker())
		ereport(NOTICE, (errmsg("no background worker serves this database"),
						 errdetail("The run waits for CALL billing.run_due_jobs()."),
						 errhint("CALL billing.run_billing() does a run in the foreground.")));
	PG_RETURN_INT64(run_id);
}

/* billing.cancel_run(entity text, run_id bigint) RETURNS void */
Datum
billing_invoicing_cancel_run(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[2];
	BillingRun run;

	billing_core_require_duty(entity_id, "biller");
	if (PG_ARGISNULL(1))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("run must not be null"),
						errhint("billing.run_progress lists the runs.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	billing_invoicing_find_run(entity_id, PG_GETARG_INT64(1), &run);
	billing_core_run(&cancel_run, values, NULL, false);
	SPI_finish();
	/* a worker closes it, also where no slice is at work */
	(void) billing_core_wake_worker();
	PG_RETURN_VOID();
}
