/*
 * usage_levels.c
 *		The aggregate usage_levels(): the events of a meter that keeps a level,
 *		as days with the area under the level and the last level.
 *
 * On each day the events count in the order of their moments, and at one
 * moment in the order of their ids; each level holds until the next event or
 * the end of the local day.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "usage/usage_private.h"

#define FIRST_SIZE 4

PG_FUNCTION_INFO_V1(billing_usage_levels_step);
PG_FUNCTION_INFO_V1(billing_usage_levels_combine);
PG_FUNCTION_INFO_V1(billing_usage_levels_serialize);
PG_FUNCTION_INFO_V1(billing_usage_levels_deserialize);
PG_FUNCTION_INFO_V1(billing_usage_levels_final);

typedef struct LevelEvent
{
	DateADT day;
	bool counts; /* else only the day is named */
	TimestampTz at;
	int64 event_id;
	BillingUsageNumber level;
} LevelEvent;

typedef struct LevelState
{
	char *zone_name;
	pg_tz *zone;
	int64 nevents;
	int64 size;
	LevelEvent *events;
} LevelState;

/* Start in the current memory context. */
static LevelState *
start(const char *zone_name, int64 size)
{
	LevelState *state = palloc(sizeof(LevelState));

	state->zone = billing_usage_zone(zone_name);
	state->zone_name = pstrdup(zone_name);
	state->nevents = 0;
	state->size = Max(size, FIRST_SIZE);
	state->events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(LevelEvent) * state->size);
	return state;
}

/* Add a copy of an event in the current memory context. */
static void
add_event(LevelState *state, const LevelEvent *event)
{
	LevelEvent *slot;

	if (state->nevents == state->size)
	{
		state->size *= 2;
		state->events = repalloc_huge(state->events, sizeof(LevelEvent) * state->size);
	}
	slot = &state->events[state->nevents++];
	*slot = *event;
	if (event->counts)
		slot->level = billing_usage_number_copy(&event->level);
}

/* The order in which events count; what only names a day comes first. */
static int
compare_events(const void *a, const void *b)
{
	const LevelEvent *x = (const LevelEvent *) a;
	const LevelEvent *y = (const LevelEvent *) b;

	if (x->day != y->day)
		return x->day < y->day ? -1 : 1;
	if (x->counts != y->counts)
		return x->counts ? 1 : -1;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return (x->event_id > y->event_id) - (x->event_id < y->event_id);
}

/* Work out a day from its events, which are in order. */
static void
finish_day(BillingUsageDayList *list, const LevelEvent *events, int64 nevents, pg_tz *zone)
{
	BillingUsageDay *day = billing_usage_list_day(list, events[0].day);
	TimestampTz begins = billing_usage_midnight(day->day, zone);
	TimestampTz ends = billing_usage_midnight(day->day + 1, zone);

	for (int64 i = 0; i < nevents; i++)
	{
		/* a day that was fixed in another time zone keeps its events */
		TimestampTz at = Max(begins, Min(ends, events[i].at));
		TimestampTz until = i + 1 < nevents ? Max(begins, Min(ends, events[i + 1].at)) : ends;
		BillingUsageNumber area;

		if (!events[i].counts)
			continue;
		if (day->level == NULL)
		{
			day->level = palloc(sizeof(BillingUsageLevel));
			day->level->first_at = at;
		}
		day->level->last_at = at;
		day->level->level = events[i].level;
		area = billing_usage_number_for(&events[i].level, until - at);
		billing_usage_number_add(&day->quantity, &area);
		day->events++;
	}
}

/*
 * billing_internal.usage_levels_step(internal, date, timestamptz, bigint,
 * numeric, text) RETURNS internal: a row without a moment, id or level only
 * names its day
 */
Datum
billing_usage_levels_step(PG_FUNCTION_ARGS)
{
	MemoryContext aggregate = billing_usage_aggregate_context(fcinfo);
	LevelState *state = PG_ARGISNULL(0) ? NULL : (LevelState *) PG_GETARG_POINTER(0);
	LevelEvent event = { 0 };
	MemoryContext caller;

	if (PG_ARGISNULL(1))
	{
		if (state == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(state);
	}
	event.day = PG_GETARG_DATEADT(1);
	event.counts = !PG_ARGISNULL(2) && !PG_ARGISNULL(3) && !PG_ARGISNULL(4);
	if (event.counts)
	{
		event.at = PG_GETARG_TIMESTAMPTZ(2);
		event.event_id = PG_GETARG_INT64(3);
		billing_usage_number_set(&event.level, PG_GETARG_NUMERIC(4));
	}

	caller = MemoryContextSwitchTo(aggregate);
	if (state == NULL)
		state = start(PG_ARGISNULL(5) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(5)), 0);
	add_event(state, &event);
	MemoryContextSwitchTo(caller);
	PG_RETURN_POINTER(state);
}

/* billing_internal.usage_levels_combine(internal, internal) RETURNS internal */
Datum
billing_usage_levels_combine(PG_FUNCTION_ARGS)
{
	MemoryContext caller = MemoryContextSwitchTo(billing_usage_aggregate_context(fcinfo));
	LevelState *state = PG_ARGISNULL(0) ? NULL : (LevelState *) PG_GETARG_POINTER(0);
	LevelState *other = PG_ARGISNULL(1) ? NULL : (LevelState *) PG_GETARG_POINTER(1);

	if (other != NULL)
	{
		if (state == NULL)
			state = start(other->zone_name, other->nevents);
		for (int64 i = 0; i < other->nevents; i++)
			add_event(state, &other->events[i]);
	}
	MemoryContextSwitchTo(caller);
	if (state == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(state);
}

/* billing_internal.usage_levels_serialize(internal) RETURNS bytea */
Datum
billing_usage_levels_serialize(PG_FUNCTION_ARGS)
{
	LevelState *state = (LevelState *) PG_GETARG_POINTER(0);
	StringInfoData out;

	billing_usage_aggregate_context(fcinfo);
	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	billing_usage_put_text(&out, state->zone_name);
	billing_usage_put_integer(&out, state->nevents);
	for (int64 i = 0; i < state->nevents; i++)
	{
		const LevelEvent *event = &state->events[i];

		billing_usage_put_integer(&out, (int64) event->day * 2 + (event->counts ? 1 : 0));
		if (!event->counts)
			continue;
		billing_usage_put_integer(&out, event->at);
		billing_usage_put_integer(&out, event->event_id);
		billing_usage_put_number(&out, &event->level);
	}
	SET_VARSIZE(out.data, out.len);
	PG_RETURN_BYTEA_P((bytea *) out.data);
}

/* billing_internal.usage_levels_deserialize(bytea, internal) RETURNS internal */
Datum
billing_usage_levels_deserialize(PG_FUNCTION_ARGS)
{
	BillingUsageReader reader;
	LevelState *state;
	char *zone_name;
	int64 nevents;

	billing_usage_aggregate_context(fcinfo);
	billing_usage_get_bytes(&reader, PG_GETARG_BYTEA_PP(0));
	zone_name = billing_usage_get_text(&reader);
	nevents = billing_usage_get_integer(&reader);
	state = start(zone_name, nevents);
	while (nevents-- > 0)
	{
		LevelEvent event = { 0 };
		int64 head = billing_usage_get_integer(&reader);

		event.day = (DateADT) (head >> 1);
		event.counts = (head & 1) != 0;
		if (event.counts)
		{
			event.at = billing_usage_get_integer(&reader);
			event.event_id = billing_usage_get_integer(&reader);
			billing_usage_get_number(&reader, &event.level);
		}
		add_event(state, &event);
	}
	PG_RETURN_POINTER(state);
}

/*
 * billing_internal.usage_levels_final(internal) RETURNS billing.usage_days:
 * a day whose events only name it is there, and empty; null without rows
 */
Datum
billing_usage_levels_final(PG_FUNCTION_ARGS)
{
	LevelState *state;
	BillingUsageDayList *list;
	int64 first = 0;

	billing_usage_aggregate_context(fcinfo);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (LevelState *) PG_GETARG_POINTER(0);
	list = billing_usage_list(0);

	/* the order of the events in the state means nothing: sort them in place */
	qsort(state->events, state->nevents, sizeof(LevelEvent), compare_events);
	while (first < state->nevents)
	{
		int64 next = first + 1;

		CHECK_FOR_INTERRUPTS();
		while (next < state->nevents && state->events[next].day == state->events[first].day)
			next++;
		finish_day(list, &state->events[first], next - first, state->zone);
		first = next;
	}
	PG_RETURN_POINTER(billing_usage_pack(list));
}
