/*
 * invoicing_retention.c
 *		Takes months of usage out of the way when they have served their turn.
 *
 * It lives with the invoices, because what was billed decides whether events may
 * leave: everything that came for the month is billed, and a later correction of
 * prices or contracts finds all it needs in the roll-ups.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "metering/metering.h"
#include "miscadmin.h"

/* $1 first day of the month */
static BillingStatement find_obstacles = {
	"SELECT format('Entity \"%s\": %s.', e.code, o.obstacle), count(*) OVER ()"
	" FROM billing_internal.usage_month_obstacles($1) o"
	" JOIN billing.legal_entity e USING (entity_id) ORDER BY e.code, o.obstacle LIMIT 1",
	1,
	{ DATEOID },
	NULL
};

/* The months that have a partition and lie outside of the retention of all that have events in them */
static BillingStatement find_expired = {
	"SELECT month FROM billing_internal.expired_usage_months() ORDER BY month", 0, { 0 }, NULL
};

/* What stands in the way of detaching a month, as of now, or NULL. */
static char *
obstacle_of(int32 month, int64 *count)
{
	Datum values[1] = { DateADTGetDatum(billing_metering_first_day(month)) };
	char *obstacle = NULL;

	SPI_connect();
	if (billing_core_run_latest(&find_obstacles, values, NULL) > 0)
	{
		obstacle = billing_core_text_value(0, 0);
		*count = DatumGetInt64(billing_core_value(0, 1, NULL));
	}
	SPI_finish();
	return obstacle;
}

PG_FUNCTION_INFO_V1(billing_invoicing_detach_usage_month);
PG_FUNCTION_INFO_V1(billing_invoicing_detach_usage_months);

/* billing.detach_usage_month(month date) RETURNS bigint: how many events went */
Datum
billing_invoicing_detach_usage_month(PG_FUNCTION_ARGS)
{
	int32 month;
	int64 count = 0;
	char *obstacle;

	billing_core_require_admin(0);
	month = billing_metering_month_of(billing_core_arg_date(fcinfo, 0, "month"));
	billing_metering_lock_month_of_all(month);
	if (!OidIsValid(billing_metering_partition(month)))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_TRANSITION),
				 errmsg("usage of %s has no partition", billing_metering_month_name(month)),
				 errhint("It was detached already, or never had an event; billing.usage_month "
						 "says which.")));
	obstacle = obstacle_of(month, &count);
	if (obstacle != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_TRANSITION),
				 errmsg("usage of %s cannot be detached yet", billing_metering_month_name(month)),
				 count == 1
					 ? errdetail_internal("%s", obstacle)
					 : errdetail("%s " INT64_FORMAT " such obstacles in all.", obstacle, count),
				 errhint("A month is detached when every entity has closed and billed it, and "
						 "nothing about it waits; billing_internal.usage_month_obstacles() lists "
						 "what is missing.")));
	PG_RETURN_INT64(billing_metering_detach_month(month));
}

/* billing_internal.detach_usage_months() RETURNS void: those outside of the retention that may go */
Datum
billing_invoicing_detach_usage_months(PG_FUNCTION_ARGS)
{
	int32 *months;
	uint64 count;
	uint64 i;

	SPI_connect();
	count = billing_core_run(&find_expired, NULL, NULL, false);
	months = SPI_palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
		months[i] = billing_metering_month_of(DatumGetDateADT(billing_core_value(i, 0, NULL)));
	SPI_finish();
	for (i = 0; i < count; i++)
	{
		int64 obstacles = 0;

		CHECK_FOR_INTERRUPTS();
		/* asked first without the locks, because most of the time something stands in the way */
		if (obstacle_of(months[i], &obstacles) != NULL)
			continue;
		billing_metering_lock_month_of_all(months[i]);
		if (obstacle_of(months[i], &obstacles) == NULL)
			(void) billing_metering_detach_month(months[i]);
	}
	PG_RETURN_VOID();
}
