/*
 * invoicing_auto.c
 *		Billing runs that start by themselves: when an entity is due for one, by its
 *		policy and in its own time zone.
 *
 * A run bills everything that fell due by its day, so after days without a
 * server one run makes up for all of them.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/*
 * Entities where something is due today, in the order of their ids, and no such
 * run through today has been opened.  What is shared by accounts is not known to
 * concern one before a run is opened.
 */
static BillingStatement find_due = {
	"SELECT p.entity_id, e.code, l.moment::date, jsonb_build_object('phase', p.automatic_phase)"
	" FROM billing.billing_policy p"
	" JOIN billing.legal_entity e ON e.entity_id = p.entity_id"
	" CROSS JOIN LATERAL (SELECT now() AT TIME ZONE e.time_zone AS moment) l"
	" WHERE p.automatic_phase IS NOT NULL AND l.moment::time >= p.automatic_from"
	" AND NOT EXISTS (SELECT FROM billing.billing_run r WHERE r.entity_id = p.entity_id"
	"  AND r.is_background AND r.started_by = 0 AND r.through_date >= l.moment::date)"
	" AND (EXISTS (SELECT FROM billing.account_watermark w WHERE w.entity_id = p.entity_id"
	"   AND w.next_due <= l.moment::date AND w.parked_at IS NULL)"
	"  OR EXISTS (SELECT FROM billing.account_change c WHERE c.entity_id = p.entity_id"
	"   AND NOT EXISTS (SELECT FROM billing.account_watermark w WHERE w.entity_id = p.entity_id"
	"    AND w.account_id = c.account_id AND w.parked_at IS NOT NULL))"
	"  OR EXISTS (SELECT FROM billing.shared_change s WHERE s.entity_id = p.entity_id))"
	" ORDER BY p.entity_id",
	0,
	{ 0 },
	NULL
};

/* A run to open. */
typedef struct DueRun
{
	int32 entity_id;
	char *entity;
	DateADT through;
	Jsonb *options;
} DueRun;

/* The runs to open, in the caller's memory; their number. */
static int
find_due_runs(DueRun **runs)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext spi_context;
	int count;
	int i;

	SPI_connect();
	spi_context = CurrentMemoryContext;
	count = (int) billing_core_run(&find_due, NULL, NULL, true);
	*runs = MemoryContextAllocZero(context, sizeof(DueRun) * (count + 1));
	for (i = 0; i < count; i++)
	{
		DueRun *run = &(*runs)[i];
		Datum options;
		bool isnull;

		run->entity_id = DatumGetInt32(billing_core_value(i, 0, NULL));
		run->entity = billing_core_text_value(i, 1);
		run->through = DatumGetDateADT(billing_core_value(i, 2, NULL));
		options = billing_core_value_copy(i, 3, false, -1, &isnull);
		MemoryContextSwitchTo(context);
		run->options = DatumGetJsonbP(options);
		MemoryContextSwitchTo(spi_context);
	}
	SPI_finish();
	return count;
}

/* The step that may fail. */
static void
open_due_run(void *argument)
{
	DueRun *run = argument;

	(void) billing_invoicing_open_run(run->entity_id, run->through, run->options, true);
}

PG_FUNCTION_INFO_V1(billing_invoicing_start_due_runs);

/*
 * billing_internal.start_due_runs() RETURNS void
 *
 * An entity whose run cannot be opened does not stop the others.  Where it is the
 * only one left, its error is raised, so that the task is known to fail.
 */
Datum
billing_invoicing_start_due_runs(PG_FUNCTION_ARGS)
{
	int32 actor = billing_core_save_actor();
	DueRun *runs;
	int count;
	int opened = 0;
	int i;

	(void) fcinfo;
	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	count = find_due_runs(&runs);
	for (i = 0; i < count; i++)
	{
		ErrorData *error;

		CHECK_FOR_INTERRUPTS();
		error = billing_core_try(open_due_run, &runs[i]);
		if (error == NULL)
			opened++;
		else if (opened == 0 && i == count - 1)
			ReThrowError(error);
		else
			ereport(WARNING,
					(errmsg("could not start the billing run of entity \"%s\"", runs[i].entity),
					 errdetail_internal("%s", error->message)));
	}
	if (opened > 0)
		(void) billing_core_wake_worker();
	billing_core_restore_actor(actor);
	PG_RETURN_VOID();
}
