/*
 * metering_month.c
 *		The monthly partitions of billing.usage_event: made ahead, and when the
 *		first event of a month arrives.
 *
 * A partition has the row-level security and the guards of its parent, and lives
 * in billing_internal, where nobody but the owner may look.  It is no member of
 * the extension: a dump takes it with its rows.  The month of what was detached
 * is never made again.
 */
#include "pg_compat.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* How far from today an event may be, in days: so many partitions there can be, and no more. */
#define WINDOW_PAST 3660
#define WINDOW_FUTURE 732

/* Months are counted from January 1900. */
#define FIRST_YEAR 1900

/* How many months are made ahead of the present one, and how many one call makes. */
#define MONTHS_AHEAD 3
#define MOST_MONTHS 1200

/* $1 first day of the month: whichever entity had it detached, it is detached for all */
static BillingStatement is_detached = {
	"SELECT 1 FROM billing.usage_month WHERE month = $1 AND state = 'detached' LIMIT 1",
	1,
	{ DATEOID },
	NULL
};

/* The number of the month that a day lies in, counted from January 1900. */
int32
billing_metering_month_of(DateADT day)
{
	int year;
	int month;
	int mday;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
	return (year - FIRST_YEAR) * MONTHS_PER_YEAR + month - 1;
}

/* The first day of a month. */
DateADT
billing_metering_first_day(int32 month)
{
	return date2j(FIRST_YEAR + month / MONTHS_PER_YEAR, month % MONTHS_PER_YEAR + 1, 1) -
		   POSTGRES_EPOCH_JDATE;
}

/* A month as people write it: 2026-02. */
char *
billing_metering_month_name(int32 month)
{
	return psprintf("%04d-%02d", FIRST_YEAR + month / MONTHS_PER_YEAR, month % MONTHS_PER_YEAR + 1);
}

/* The name of a month's partition, without its schema. */
char *
billing_metering_partition_name(int32 month)
{
	return psprintf("usage_event_%04d_%02d", FIRST_YEAR + month / MONTHS_PER_YEAR,
					month % MONTHS_PER_YEAR + 1);
}

/* The partition of a month, or InvalidOid. */
Oid
billing_metering_partition(int32 month)
{
	return get_relname_relid(billing_metering_partition_name(month),
							 get_namespace_oid("billing_internal", false));
}

/* Whether a partition can hold what happened on a day. */
bool
billing_metering_is_in_window(DateADT day)
{
	DateADT today = GetCurrentTimestamp() / USECS_PER_DAY;

	return day >= today - WINDOW_PAST && day <= today + WINDOW_FUTURE;
}

/* Whether a month's partition was detached, as all sessions see it by now. */
static bool
was_detached(int32 month)
{
	Datum values[1] = { DateADTGetDatum(billing_metering_first_day(month)) };
	bool found;

	SPI_connect();
	found = billing_core_run_privileged_latest(&is_detached, values, NULL) > 0;
	SPI_finish();
	return found;
}

/* Make and attach the partition of a month. */
static void
make_partition(int32 month)
{
	const char *name = billing_metering_partition_name(month);

	SPI_connect();
	billing_core_execute(
		psprintf("CREATE TABLE billing_internal.%s"
				 " (LIKE billing.usage_event INCLUDING DEFAULTS INCLUDING CONSTRAINTS)",
				 name));
	/* a dump makes the guard after the rows, so that the rows need one of their own */
	billing_core_execute(psprintf("ALTER TABLE billing_internal.%s ADD CONSTRAINT %s_pkey"
								  " PRIMARY KEY (entity_id, event_id), ADD CONSTRAINT"
								  " usage_event_guarded CHECK (billing_internal.guard_row('%s'))",
								  name, name, name));
	billing_core_execute(psprintf("CREATE INDEX %s_by_account ON billing_internal.%s"
								  " (entity_id, account_id, meter_id, usage_date)",
								  name, name));
	/* a run compares the amounts that sources expect; most events have none */
	billing_core_execute(psprintf("CREATE INDEX %s_expected ON billing_internal.%s"
								  " (entity_id, account_id, meter_id, usage_date)"
								  " WHERE expected_amount IS NOT NULL",
								  name, name));
	billing_core_execute(psprintf("COMMENT ON TABLE billing_internal.%s IS"
								  " 'The events of billing.usage_event in %s'",
								  name, billing_metering_month_name(month)));
	billing_core_protect_partition(billing_metering_partition(month), "append_only");
	billing_core_execute(
		psprintf("ALTER TABLE billing.usage_event ATTACH PARTITION billing_internal.%s"
				 " FOR VALUES FROM ('%s-01') TO ('%s-01')",
				 name, billing_metering_month_name(month), billing_metering_month_name(month + 1)));
	SPI_finish();
}

/*
 * See to it that a month has its partition; false where it was detached.  made
 * counts up where it had none.  Whoever makes or detaches one at the same time
 * is waited for, whether that commits or not.
 */
bool
billing_metering_open_month(int32 month, int32 *made)
{
	if (OidIsValid(billing_metering_partition(month)))
		return true;
	LockRelationOid(get_relname_relid("usage_event", get_namespace_oid("billing", false)),
					ShareUpdateExclusiveLock);
	if (OidIsValid(billing_metering_partition(month)))
		return true;
	if (was_detached(month))
		return false;
	make_partition(month);
	if (made != NULL)
		(*made)++;
	return true;
}

PG_FUNCTION_INFO_V1(billing_metering_make_months);
PG_FUNCTION_INFO_V1(billing_metering_make_coming_months);

/*
 * billing.make_usage_months(from_day date, to_day date) RETURNS integer
 *
 * Also while a dump is being restored: the data alone need their partitions.
 */
Datum
billing_metering_make_months(PG_FUNCTION_ARGS)
{
	int32 from = billing_metering_month_of(billing_core_arg_date(fcinfo, 0, "first day"));
	int32 to = billing_metering_month_of(billing_core_arg_date(fcinfo, 1, "last day"));
	int32 made = 0;
	int32 month;

	if (!billing_core_is_installation_admin())
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
						errmsg("session user \"%s\" is not a member of billing_owner",
							   GetUserNameFromId(GetSessionUserId(), false)),
						errhint("Months are made by the worker, when their first event arrives, "
								"and by the database's administrator.")));
	if (from > to || to - from >= MOST_MONTHS)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("last day must lie in the first day's month or later, and within %d "
						"months",
						MOST_MONTHS),
				 errdetail("The months are %s and %s.", billing_metering_month_name(from),
						   billing_metering_month_name(to)),
				 errhint("Give the days in their order, and make more months by more calls.")));
	for (month = from; month <= to; month++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) billing_metering_open_month(month, &made);
	}
	PG_RETURN_INT32(made);
}

/* billing_internal.make_usage_months() RETURNS void: this month and the next three */
Datum
billing_metering_make_coming_months(PG_FUNCTION_ARGS)
{
	int32 month = billing_metering_month_of(GetCurrentTransactionStartTimestamp() / USECS_PER_DAY);
	int32 last = month + MONTHS_AHEAD;

	for (; month <= last; month++)
		(void) billing_metering_open_month(month, NULL);
	PG_RETURN_VOID();
}
