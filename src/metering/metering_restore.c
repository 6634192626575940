/*
 * metering_restore.c
 *		What metering looks after when a dump has been restored.
 *
 * The partitions of usage events are no members of the extension: a dump of the
 * data alone does not make them, and what should have gone into them is lost
 * unless somebody says so.  Every key leads to an event, except where the month
 * was detached.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "metering/metering.h"

static BillingStatement find_lost = {
	"SELECT k.usage_date FROM billing.usage_key k WHERE NOT EXISTS (SELECT FROM billing.usage_event e"
	"  WHERE e.entity_id = k.entity_id AND e.event_id = k.event_id)"
	" AND NOT EXISTS (SELECT FROM billing.usage_month m WHERE m.entity_id = k.entity_id"
	"  AND m.month = date_trunc('month', k.usage_date)::date AND m.state = 'detached')"
	" ORDER BY k.usage_date LIMIT 1",
	0,
	{ 0 },
	NULL
};

PG_FUNCTION_INFO_V1(billing_metering_restored);

/* billing_internal.restored_metering() RETURNS void: raises ZB011 where events are missing */
Datum
billing_metering_restored(PG_FUNCTION_ARGS)
{
	char *month;

	SPI_connect();
	if (billing_core_run(&find_lost, NULL, NULL, true) > 0)
	{
		month = billing_metering_month_name(
			billing_metering_month_of(DatumGetDateADT(billing_core_value(0, 0, NULL))));
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_RESTORE_STATE),
				 errmsg("usage events of %s were not restored", month),
				 errdetail("Rows of billing.usage_key have no event in billing.usage_event."),
				 errhint("Make the months with billing.make_usage_months(), restore the tables "
						 "billing_internal.usage_event_* and call billing.post_restore() again.")));
	}
	SPI_finish();
	PG_RETURN_VOID();
}
