/*
 * metering_resolve.c
 *		Finds what an event is about: its meter and quantity
 *		(metering_meter.c), and whose usage it is (metering_subject.c).
 *
 * Each distinct subject and type of a batch is looked up once.  The lookups by
 * key name the entity, in which the duty was asked for, and run past row-level
 * security: its condition would keep the planner from seeing that the key is
 * unique, and without statistics it then reads the whole entity for each.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/*
 * Resolve well-formed events.  One whose account or meter is not there keeps
 * 0 for it; one whose data does not fit its meter gets a problem.
 */
void
billing_metering_resolve(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	BillingUsageEvent **order = palloc(sizeof(*order) * (count + 1));
	int32 wellformed = 0;
	int32 i;

	for (i = 0; i < count; i++)
	{
		if (events[i]->outcome == USAGE_PENDING)
			order[wellformed++] = events[i];
	}
	if (wellformed == 0)
		return;
	billing_metering_resolve_meters(entity_id, order, wellformed);
	billing_metering_resolve_subjects(entity_id, order, wellformed);
}
