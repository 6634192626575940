/*
 * masterdata_change.c
 *		Notes what the next billing run is to look at again: for the triggers of all
 *		rooms, and of the tables that everybody's amounts depend on.
 *
 * Which changes alter what is owed, each trigger's statement decides; whose, the
 * run that spreads them (billing_internal.spread_changes()).
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "utils/rel.h"

/*
 * How a quantity comes from events that are there already.  value_field, filter and group_by act
 * on events to come.
 */
static BillingStatement note_meters = {
	"INSERT INTO billing.shared_change (entity_id, reason, meter_id)"
	" SELECT n.entity_id, 'meter', n.meter_id FROM new_rows n"
	" JOIN old_rows o ON o.entity_id = n.entity_id AND o.meter_id = n.meter_id"
	" WHERE (n.aggregation, n.quantity_scale, n.quantity_rounding, n.percentile, n.time_unit)"
	" IS DISTINCT FROM"
	" (o.aggregation, o.quantity_scale, o.quantity_rounding, o.percentile, o.time_unit)",
	0,
	{ 0 },
	NULL
};

/* How amounts are rounded, and when a level's day begins; what is printed alters no amount. */
static BillingStatement note_entities = {
	"INSERT INTO billing.shared_change (entity_id, reason)"
	" SELECT n.entity_id, 'entity' FROM new_rows n JOIN old_rows o ON o.entity_id = n.entity_id"
	" WHERE (n.rounding_mode, n.time_zone) IS DISTINCT FROM (o.rounding_mode, o.time_zone)",
	0,
	{ 0 },
	NULL
};

static BillingStatement note_currencies = {
	"INSERT INTO billing.shared_change (entity_id, reason)"
	" SELECT l.entity_id, 'currency' FROM billing.legal_entity l WHERE EXISTS ("
	"SELECT FROM new_rows n JOIN old_rows o ON o.currency = n.currency"
	" WHERE n.minor_unit <> o.minor_unit)",
	0,
	{ 0 },
	NULL
};

/*
 * Run the statement of a statement trigger, which reads the transition tables and
 * inserts what is to be noted.  As the tables' owner and past row-level security:
 * whoever changes something, it is noted for all whom it concerns.  Rows of a dump
 * bring what was noted with them.  A kept plan belongs to one table and event.
 */
void
billing_masterdata_note_change(FunctionCallInfo fcinfo, BillingStatement *statement, Datum *values)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("this function is a trigger"),
				 errhint("It is not called by hand.")));
	if (billing_core_restoring)
		return;
	SPI_connect();
	if (SPI_register_trigger_data(trigger) < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not read the changed rows of table \"%s\"",
							   RelationGetRelationName(trigger->tg_relation))));
	(void) billing_core_run_privileged(statement, values, NULL, false);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(billing_masterdata_note_shared_change);

/*
 * billing_internal.note_shared_change() RETURNS trigger, AFTER UPDATE STATEMENT with the transition
 * tables old_rows and new_rows; argument: the reason, meter, entity or currency, as the table
 */
Datum
billing_masterdata_note_shared_change(PG_FUNCTION_ARGS)
{
	const char *reason =
		CALLED_AS_TRIGGER(fcinfo) ? ((TriggerData *) fcinfo->context)->tg_trigger->tgargs[0] : "";

	billing_masterdata_note_change(fcinfo,
								   strcmp(reason, "meter") == 0	   ? &note_meters
								   : strcmp(reason, "entity") == 0 ? &note_entities
																   : &note_currencies,
								   NULL);
	PG_RETURN_POINTER(NULL);
}
