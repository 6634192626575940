/*
 * invoicing_run.c
 *		A billing run in the foreground: slices of accounts, a transaction each.
 *
 * Whatever moment a run breaks off at, what it committed stands and the next run
 * bills the rest: a run writes entitled − billed and nothing else.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "executor/spi.h"
#include "invoicing/invoicing.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "usage/usage.h"
#include "utils/builtins.h"

/* Accounts billed in one transaction. */
#define SLICE_ACCOUNTS 5000

/* The steps that a run takes as the tables' owner; each asks for the duty itself. */
static const char open_run_call[] = "SELECT billing_internal.open_run($1, $2)";
static const char run_slice_call[] = "SELECT billing_internal.run_slice($1, $2, $3, $4)";
static const char close_run_call[] = "SELECT billing_internal.close_run($1, $2)";

/* $1 entity, $2 through date, $3 who */
static BillingStatement open_run = {
	"INSERT INTO billing.billing_run (entity_id, through_date, started_by) VALUES ($1, $2, $3)"
	" RETURNING run_id",
	3,
	{ INT4OID, DATEOID, INT4OID },
	NULL
};

/* $1 entity, $2 run */
static BillingStatement find_run = {
	"SELECT through_date FROM billing.billing_run"
	" WHERE entity_id = $1 AND run_id = $2 AND finished_at IS NULL",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 run, then what a slice did */
static BillingStatement count_slice = {
	"UPDATE billing.billing_run SET accounts = accounts + $3, documents = documents + $4,"
	" lines = lines + $5, exceptions = exceptions + $6 WHERE entity_id = $1 AND run_id = $2",
	6,
	{ INT4OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID },
	NULL
};

/* $1 entity, $2 run */
static BillingStatement close_run = {
	"WITH run AS (UPDATE billing.billing_run SET finished_at = clock_timestamp()"
	" WHERE entity_id = $1 AND run_id = $2 RETURNING *)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT entity_id, 'run', 'billing_run', run_id::text, to_jsonb(run) FROM run",
	2,
	{ INT4OID, INT8OID },
	NULL
};

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

PG_FUNCTION_INFO_V1(billing_invoicing_run_billing);
PG_FUNCTION_INFO_V1(billing_invoicing_open_run);
PG_FUNCTION_INFO_V1(billing_invoicing_run_slice);
PG_FUNCTION_INFO_V1(billing_invoicing_close_run);

/*
 * CALL billing.run_billing(entity text, through_date date)
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
	Oid types[4] = { TEXTOID, INT8OID, INT8OID, INT4OID };
	Oid open_types[2] = { TEXTOID, DATEOID };
	Datum values[4];
	int64 run_id;
	int64 after_account = 0;

	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	values[0] = CStringGetTextDatum(entity);
	values[1] = DateADTGetDatum(through);
	run_id = take_step(open_run_call, 2, open_types, values);
	commit_slice(atomic);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(entity);
		values[1] = Int64GetDatum(run_id);
		values[2] = Int64GetDatum(after_account);
		values[3] = Int32GetDatum(SLICE_ACCOUNTS);
		after_account = take_step(run_slice_call, 4, types, values);
		commit_slice(atomic);
		if (after_account == 0)
			break;
	}
	(void) take_step(close_run_call, 2, types, values);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing_internal.open_run(entity text, through_date date) RETURNS bigint */
Datum
billing_invoicing_open_run(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	DateADT through = billing_core_arg_date(fcinfo, 1, "through date");
	Datum values[3];
	int64 run_id;

	billing_core_require_duty(entity_id, "biller");
	/*
	 * First, as long as this transaction has no number that holds the horizon back.  It only saves
	 * time, and is no reason for a serialization failure.
	 */
	if (!IsolationUsesXactSnapshot())
		billing_usage_roll_up_apart(entity_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] = DateADTGetDatum(through);
	values[2] = Int32GetDatum(billing_core_actor_person());
	SPI_connect();
	billing_core_run(&open_run, values, NULL, false);
	run_id = DatumGetInt64(billing_core_value(0, 0, NULL));
	SPI_finish();
	PG_RETURN_INT64(run_id);
}

/* The through date of an open run of the entity. */
static DateADT
through_date_of(int32 entity_id, int64 run_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int64GetDatum(run_id) };

	if (billing_core_run(&find_run, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("billing run " INT64_FORMAT " is not open", run_id),
						errhint("Start one with CALL billing.run_billing().")));
	return DatumGetDateADT(billing_core_value(0, 0, NULL));
}

/*
 * billing_internal.run_slice(entity text, run_id bigint, after_account bigint, most integer)
 * RETURNS bigint: the account to go on after, or 0 where none is left
 */
Datum
billing_invoicing_run_slice(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	int64 run_id = PG_GETARG_INT64(1);
	int32 most = billing_core_arg_int(fcinfo, 3, "number of accounts", 1, PG_INT32_MAX);
	BillingSlice slice;
	Datum values[6];

	billing_core_require_duty(entity_id, "biller");
	SPI_connect();
	billing_invoicing_bill_slice(entity_id, run_id, through_date_of(entity_id, run_id),
								 PG_GETARG_INT64(2), most, &slice);
	if (slice.accounts > 0)
	{
		values[0] = Int32GetDatum(entity_id);
		values[1] = Int64GetDatum(run_id);
		values[2] = Int64GetDatum(slice.accounts);
		values[3] = Int64GetDatum(slice.documents);
		values[4] = Int64GetDatum(slice.lines);
		values[5] = Int64GetDatum(slice.exceptions);
		billing_core_run(&count_slice, values, NULL, false);
	}
	SPI_finish();
	PG_RETURN_INT64(slice.last_account);
}

/* billing_internal.close_run(entity text, run_id bigint) RETURNS bigint: the run */
Datum
billing_invoicing_close_run(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[2];

	billing_core_require_duty(entity_id, "biller");
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	(void) through_date_of(entity_id, PG_GETARG_INT64(1));
	billing_core_run(&close_run, values, NULL, false);
	SPI_finish();
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}
