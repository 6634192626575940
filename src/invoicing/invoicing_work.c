/*
 * invoicing_work.c
 *		How a background worker takes slices of open runs, one after the other.
 *
 * A claim is a lock of the process that outlives its transactions: it is gone
 * with the process, however that ends, and the slice is there for the next one.
 * The attempt is counted and committed before the work begins, so that a slice
 * that takes the server down is given up and does not do so for ever.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"

/* No user can take an advisory lock of this class: theirs are of the classes 1 and 2. */
#define LOCK_CLASS 0xb112

/* A slice is given up after so many attempts. */
#define MOST_ATTEMPTS 3

/* So many candidates are looked at before a process gives up for the moment. */
#define MOST_CANDIDATES 200

/*
 * Open background runs of which nothing is left to do, or which are to stop; and
 * those in the foreground whose session has not noticed for long that it was
 * cancelled, because it is gone.
 */
static BillingStatement ended_runs = {
	"SELECT r.entity_id, r.run_id FROM billing.billing_run r"
	" WHERE r.finished_at IS NULL AND CASE WHEN NOT r.is_background"
	"   THEN r.cancelled_at < now() - interval '10 minutes'"
	"  ELSE r.cancelled_at IS NOT NULL OR NOT EXISTS (SELECT FROM billing.run_slice s"
	"   WHERE s.entity_id = r.entity_id AND s.run_id = r.run_id AND s.state = 'pending') END"
	" ORDER BY r.entity_id, r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED",
	0,
	{ 0 },
	NULL
};

/* $1 how many: slices that wait, of the runs that began first; what failed comes last, to give its cause time to pass */
static BillingStatement pending_slices = {
	"SELECT s.entity_id, s.run_id, s.slice_no, r.slices FROM billing.billing_run r"
	" CROSS JOIN LATERAL (SELECT * FROM billing.run_slice s WHERE s.entity_id = r.entity_id"
	"  AND s.run_id = r.run_id AND s.state = 'pending' ORDER BY s.attempts, s.slice_no LIMIT $1) s"
	" WHERE r.finished_at IS NULL AND r.is_background AND r.cancelled_at IS NULL"
	" ORDER BY r.started_at, r.entity_id, r.run_id, s.attempts, s.slice_no LIMIT $1",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 run, $3 slice, $4 most attempts, $5 process: none where it has been done, or was given up */
static BillingStatement begin_attempt = {
	"UPDATE billing.run_slice SET attempts = attempts + 1, started_at = clock_timestamp(),"
	" worker_pid = $5, state = CASE WHEN attempts >= $4 THEN 'failed' ELSE state END,"
	" error = CASE WHEN attempts >= $4 THEN coalesce(error, 'the process ended') ELSE error END,"
	" ended_at = CASE WHEN attempts >= $4 THEN clock_timestamp() ELSE ended_at END"
	" WHERE entity_id = $1 AND run_id = $2 AND slice_no = $3 AND state = 'pending' RETURNING state",
	5,
	{ INT4OID, INT8OID, INT4OID, INT4OID, INT4OID },
	NULL
};

/* $1 entity, $2 run, $3 slice */
static BillingStatement bill_slice = {
	"SELECT billing_internal.run_slice(e.code, $2, $3) FROM billing.legal_entity e WHERE e.entity_id = $1",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 run, $3 slice, $4 error, $5 most attempts */
static BillingStatement fail_attempt = {
	"UPDATE billing.run_slice SET error = $4, ended_at = clock_timestamp(),"
	" state = CASE WHEN attempts >= $5 THEN 'failed' ELSE state END"
	" WHERE entity_id = $1 AND run_id = $2 AND slice_no = $3 AND state = 'pending'",
	5,
	{ INT4OID, INT8OID, INT4OID, TEXTOID, INT4OID },
	NULL
};

/* The lock of a slice. */
static LOCKTAG
lock_of(const BillingWork *work)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) work->run_id, (uint32) work->slice_no,
						 LOCK_CLASS);
	return tag;
}

/* Close the runs whose last slice has ended. */
static void
close_ended_runs(void)
{
	uint64 count = billing_core_run(&ended_runs, NULL, NULL, false);
	BillingRun *runs = palloc0(sizeof(BillingRun) * (count + 1));
	uint64 i;

	for (i = 0; i < count; i++)
	{
		runs[i].entity_id = DatumGetInt32(billing_core_value(i, 0, NULL));
		runs[i].run_id = DatumGetInt64(billing_core_value(i, 1, NULL));
	}
	for (i = 0; i < count; i++)
		billing_invoicing_close_run(&runs[i]);
}

/* Count an attempt at a slice whose lock this process has; false where it is not to be billed. */
static bool
begin(const BillingWork *work)
{
	Datum values[5];

	values[0] = Int32GetDatum(work->entity_id);
	values[1] = Int64GetDatum(work->run_id);
	values[2] = Int32GetDatum(work->slice_no);
	values[3] = Int32GetDatum(MOST_ATTEMPTS);
	values[4] = Int32GetDatum(MyProcPid);
	return billing_core_run(&begin_attempt, values, NULL, false) > 0 &&
		   strcmp(billing_core_text_value(0, 0), "pending") == 0;
}

/* The same, letting go of the lock where it is not, whatever the reason: it would outlive the transaction. */
static bool
begin_or_drop(const BillingWork *work)
{
	volatile bool begun = false;

	PG_TRY();
	{
		begun = begin(work);
	}
	PG_CATCH();
	{
		billing_invoicing_drop_claim(work);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!begun)
		billing_invoicing_drop_claim(work);
	return begun;
}

/*
 * Claim a slice of an open background run of this database, the oldest run first;
 * false where there is none to claim.  Closes the runs that have ended.
 */
bool
billing_invoicing_claim_slice(BillingWork *work)
{
	Datum values[1] = { Int32GetDatum(MOST_CANDIDATES) };
	BillingWork *candidates;
	bool claimed = false;
	uint64 count;
	uint64 i;

	SPI_connect();
	close_ended_runs();
	count = billing_core_run(&pending_slices, values, NULL, false);
	candidates = palloc0(sizeof(BillingWork) * (count + 1));
	for (i = 0; i < count; i++)
	{
		BillingWork *each = &candidates[i];

		each->entity_id = DatumGetInt32(billing_core_value(i, 0, NULL));
		each->run_id = DatumGetInt64(billing_core_value(i, 1, NULL));
		each->slice_no = DatumGetInt32(billing_core_value(i, 2, NULL));
		snprintf(each->description, sizeof(each->description),
				 "billing run " INT64_FORMAT ": slice %d of %d", each->run_id, each->slice_no,
				 DatumGetInt32(billing_core_value(i, 3, NULL)));
	}
	for (i = 0; i < count && !claimed; i++)
	{
		LOCKTAG tag = lock_of(&candidates[i]);

		if (LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_OK)
			continue;
		*work = candidates[i];
		claimed = begin_or_drop(work);
	}
	SPI_finish();
	return claimed;
}

/*
 * Bill the slice that this process has claimed, as the person who started the
 * run; raises what is not an account's own fault.  The step is the one that a
 * session in the foreground takes, with the settings that it brings.
 */
void
billing_invoicing_bill_claimed(const BillingWork *work)
{
	int32 actor = billing_core_save_actor();
	Datum values[3];
	BillingRun run;

	billing_core_crash_point("slice_claimed");
	SPI_connect();
	billing_invoicing_find_run(work->entity_id, work->run_id, &run);
	billing_core_restore_actor(run.started_by);
	values[0] = Int32GetDatum(work->entity_id);
	values[1] = Int64GetDatum(work->run_id);
	values[2] = Int32GetDatum(work->slice_no);
	/* who has lost every duty does not see the entity any more */
	if (billing_core_run(&bill_slice, values, NULL, false) == 0)
		billing_core_require_duty(work->entity_id, "biller");
	billing_core_restore_actor(actor);
	SPI_finish();
}

/* Keep why the attempt failed; after the last one the slice is left to the next run. */
void
billing_invoicing_fail_claimed(const BillingWork *work, const char *error)
{
	Datum values[5];

	values[0] = Int32GetDatum(work->entity_id);
	values[1] = Int64GetDatum(work->run_id);
	values[2] = Int32GetDatum(work->slice_no);
	values[3] = CStringGetTextDatum(error);
	values[4] = Int32GetDatum(MOST_ATTEMPTS);
	SPI_connect();
	billing_core_run(&fail_attempt, values, NULL, false);
	SPI_finish();
}

/* Let go of a slice. */
void
billing_invoicing_drop_claim(const BillingWork *work)
{
	LOCKTAG tag = lock_of(work);

	(void) LockRelease(&tag, ExclusiveLock, true);
}
