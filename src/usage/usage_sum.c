/*
 * usage_sum.c
 *		The aggregate usage_days(): events and quantities summed by day.
 *
 * Its state is a list of days; between processes it travels as the stored
 * form.  Rows without a day are none; a null quantity or count is 0.
 */
#include "pg_compat.h"

#include "utils/builtins.h"

#include "core/core.h"
#include "usage/usage_private.h"

PG_FUNCTION_INFO_V1(billing_usage_days_step);
PG_FUNCTION_INFO_V1(billing_usage_days_combine);
PG_FUNCTION_INFO_V1(billing_usage_days_serialize);
PG_FUNCTION_INFO_V1(billing_usage_days_deserialize);
PG_FUNCTION_INFO_V1(billing_usage_days_final);

/* The memory of the aggregate that calls. */
MemoryContext
billing_usage_aggregate_context(FunctionCallInfo fcinfo)
{
	MemoryContext context;

	if (!AggCheckCallContext(fcinfo, &context))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("a step of an aggregate is called outside an aggregate"),
				errhint("Use the aggregate itself."));
	return context;
}

/* billing_internal.usage_days_step(internal, date, bigint, numeric) RETURNS internal */
Datum
billing_usage_days_step(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate = billing_usage_aggregate_context(fcinfo);
	BillingUsageDayList *list =
		PG_ARGISNULL(0) ? NULL : (BillingUsageDayList *) PG_GETARG_POINTER(0);
	BillingUsageNumber quantity;
	BillingUsageDay *day;
	MemoryContext caller;

	if (PG_ARGISNULL(1))
	{
		if (list == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(list);
	}
	if (!PG_ARGISNULL(3))
		billing_usage_number_set(&quantity, PG_GETARG_NUMERIC(3));

	caller = MemoryContextSwitchTo(aggregate);
	if (list == NULL)
		list = billing_usage_list(0);
	day = billing_usage_list_day(list, PG_GETARG_DATEADT(1));
	if (!PG_ARGISNULL(2))
		day->events = billing_usage_add_events(day->events, PG_GETARG_INT64(2));
	if (!PG_ARGISNULL(3))
		billing_usage_number_add(&day->quantity, &quantity);
	MemoryContextSwitchTo(caller);
	PG_RETURN_POINTER(list);
}

/* billing_internal.usage_days_combine(internal, internal) RETURNS internal */
Datum
billing_usage_days_combine(PG_FUNCTION_ARGS)
{
	MemoryContext caller = MemoryContextSwitchTo(billing_usage_aggregate_context(fcinfo));
	BillingUsageDayList *list =
		PG_ARGISNULL(0) ? NULL : (BillingUsageDayList *) PG_GETARG_POINTER(0);
	BillingUsageDayList *other =
		PG_ARGISNULL(1) ? NULL : (BillingUsageDayList *) PG_GETARG_POINTER(1);

	if (other != NULL)
	{
		if (list == NULL)
			list = billing_usage_list(other->ndays);
		billing_usage_merge(list, other);
	}
	MemoryContextSwitchTo(caller);
	if (list == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(list);
}

/* billing_internal.usage_days_serialize(internal) RETURNS bytea */
Datum
billing_usage_days_serialize(PG_FUNCTION_ARGS)
{
	billing_usage_aggregate_context(fcinfo);
	PG_RETURN_BYTEA_P((bytea *) billing_usage_pack((BillingUsageDayList *) PG_GETARG_POINTER(0)));
}

/* billing_internal.usage_days_deserialize(bytea, internal) RETURNS internal */
Datum
billing_usage_days_deserialize(PG_FUNCTION_ARGS)
{
	billing_usage_aggregate_context(fcinfo);
	PG_RETURN_POINTER(billing_usage_unpack((struct varlena *) PG_GETARG_BYTEA_PP(0)));
}

/*
 * billing_internal.usage_days_final(internal) RETURNS billing.usage_days:
 * without the days that add up to nothing; null without rows
 */
Datum
billing_usage_days_final(PG_FUNCTION_ARGS)
{
	BillingUsageDayList kept;

	billing_usage_aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();

	/* the state may be finished more than once: leave it as it is */
	kept = *(BillingUsageDayList *) PG_GETARG_POINTER(0);
	kept.days = memcpy(palloc(sizeof(BillingUsageDay) * Max(kept.ndays, 1)), kept.days,
					   sizeof(BillingUsageDay) * kept.ndays);
	billing_usage_list_drop_empty(&kept);
	PG_RETURN_POINTER(billing_usage_pack(&kept));
}
