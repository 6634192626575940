/*
 * metering_admit.c
 *		Which months events fall into, and whether those still take them in.
 *
 * Whoever writes into a month of an entity holds a lock on both, shared, until
 * the end of the transaction; whoever closes the month holds it alone.  So the
 * state that is read under the lock stays true.  The lock is no row's: writers
 * do not write for it.
 *
 * Also decides whether an event is late.  An event that may not come in is
 * compared with what is stored all the same: a duplicate is a duplicate.
 */
#include "pg_compat.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "pgtime.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"

/* $1 entity: its time zone, and after how many days usage is held, if it ever is */
static BillingStatement find_rules = {
	"SELECT l.time_zone, p.late_after_days FROM billing.legal_entity l"
	" LEFT JOIN billing.usage_policy p ON p.entity_id = l.entity_id AND p.late_action = 'hold'"
	" WHERE l.entity_id = $1",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 first days of months */
static BillingStatement find_closed = {
	"SELECT month, state = 'detached' FROM billing.usage_month"
	" WHERE entity_id = $1 AND month = ANY ($2) AND state <> 'open'",
	2,
	{ INT4OID, DATEARRAYOID },
	NULL
};

/* What an entity's events are admitted by. */
typedef struct Rules
{
	pg_tz *zone;
	bool holds;			   /* late events wait */
	int32 late_after_days; /* if so */
	DateADT today;		   /* there */
} Rules;

/* The day that a moment lies in, in a time zone; false where no calendar has it. */
static bool
local_day(TimestampTz moment, pg_tz *zone, DateADT *day)
{
	struct pg_tm tm;
	fsec_t fsec;
	int offset;

	if (timestamp2tm(moment, &offset, &tm, &fsec, NULL, zone) != 0)
		return false;
	*day = date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
	return true;
}

/* The rules of an entity. */
static Rules
rules_of(int32 entity_id)
{
	Datum values[1] = { Int32GetDatum(entity_id) };
	Rules rules = { 0 };
	char *name = NULL;

	SPI_connect();
	if (billing_core_run(&find_rules, values, NULL, false) > 0)
	{
		bool isnull;

		name = billing_core_text_value(0, 0);
		rules.late_after_days = DatumGetInt32(billing_core_value(0, 1, &isnull));
		rules.holds = !isnull;
	}
	SPI_finish();
	rules.zone = name != NULL ? pg_tzset(name) : NULL;
	if (rules.zone == NULL ||
		!local_day(GetCurrentTransactionStartTimestamp(), rules.zone, &rules.today))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("time zone \"%s\" of the entity is not known to the server",
							   name != NULL ? name : ""),
						errhint("Install the time zone data that the server had when the entity "
								"was created.")));
	return rules;
}

/* Lock a month of an entity: shared by all who write into it, alone for who closes it. */
void
billing_metering_lock_month(int32 entity_id, int32 month, bool alone)
{
	Oid table = get_relname_relid("usage_month", get_namespace_oid("billing", false));

	LockDatabaseObject(table, entity_id, (uint16) month, alone ? ExclusiveLock : RowExclusiveLock);
}

/* Read which months are not open, as all sessions see them by now. */
static void
read_states(int32 entity_id, Bitmapset *months, BillingUsageMonth *states)
{
	BillingUsageColumn days = billing_metering_column(bms_num_members(months));
	Datum values[2];
	int32 count = 0;
	int month = -1;
	uint64 found;
	uint64 row;

	while ((month = bms_next_member(months, month)) >= 0)
		days.values[count++] = DateADTGetDatum(billing_metering_first_day(month));
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&days, count, DATEOID);
	SPI_connect();
	found = billing_core_run_latest(&find_closed, values, NULL);
	for (row = 0; row < found; row++)
	{
		DateADT day = DatumGetDateADT(billing_core_value(row, 0, NULL));

		states[billing_metering_month_of(day)] = DatumGetBool(billing_core_value(row, 1, NULL))
													 ? USAGE_MONTH_DETACHED
													 : USAGE_MONTH_CLOSED;
	}
	SPI_finish();
}

/*
 * Lock months of an entity, shared, until the end of the transaction, see to it
 * that those that are open have their partitions, and return their states by
 * number.  All sessions lock in the order of the months.
 */
static BillingUsageMonth *
enter_months(int32 entity_id, Bitmapset *months)
{
	BillingUsageMonth *states;
	int last = 0;
	int month = -1;

	while ((month = bms_next_member(months, month)) >= 0)
	{
		billing_metering_lock_month(entity_id, month, false);
		last = month;
	}
	states = palloc0(sizeof(*states) * (last + 1));
	if (bms_is_empty(months))
		return states;
	read_states(entity_id, months, states);
	month = -1;
	while ((month = bms_next_member(months, month)) >= 0)
	{
		if (states[month] == USAGE_MONTH_OPEN && !billing_metering_open_month(month, NULL))
			states[month] = USAGE_MONTH_DETACHED;
	}
	return states;
}

/* Enter the month of one day, for a transaction that writes into it if it is open. */
BillingUsageMonth
billing_metering_enter_month(int32 entity_id, DateADT day)
{
	int32 month = billing_metering_month_of(day);

	return enter_months(entity_id, bms_make_singleton(month))[month];
}

/* Find the day on which the event happened, where the entity is. */
static void
find_day(BillingUsageEvent *event, const Rules *rules)
{
	if (!local_day(event->occurred_at, rules->zone, &event->usage_date))
		event->problem = billing_metering_problem("time", "is out of range");
	else if (!billing_metering_is_in_window(event->usage_date))
		event->problem =
			billing_metering_problem("time", "is more than ten years ago, or two years ahead");
}

/* Find by how many days an event that is to be held was late. */
static void
find_delay(BillingUsageEvent *event, const Rules *rules)
{
	DateADT arrival = rules->today;

	event->late_days = 0;
	if (!rules->holds || event->is_admitted)
		return;
	if (event->arrived_at != 0 && !local_day(event->arrived_at, rules->zone, &arrival))
		return;
	if (arrival - event->usage_date > rules->late_after_days)
		event->late_days = arrival - event->usage_date;
}

/*
 * Find the days of the well-formed events of a batch, whether they are late, and
 * whether their months take them in.
 */
void
billing_metering_admit(BillingUsageBatch *batch)
{
	Rules rules = rules_of(batch->entity_id);
	BillingUsageMonth *states;
	Bitmapset *months = NULL;
	int32 i;

	for (i = 0; i < batch->count; i++)
	{
		BillingUsageEvent *event = &batch->events[i];

		if (event->outcome != USAGE_PENDING)
			continue;
		find_day(event, &rules);
		if (event->problem != NULL)
			continue;
		find_delay(event, &rules);
		event->scratch = billing_metering_month_of(event->usage_date);
		months = bms_add_member(months, event->scratch);
	}
	states = enter_months(batch->entity_id, months);
	for (i = 0; i < batch->count; i++)
	{
		BillingUsageEvent *event = &batch->events[i];

		if (event->outcome == USAGE_PENDING && event->problem == NULL)
			event->month = states[event->scratch];
	}
}
