/*
 * usage_tail.c
 *		The events that are not rolled up yet, as cells: what readers add to the
 *		roll-ups.
 *
 * It is read in the snapshot of the statement that asks, as is the watermark:
 * together with the roll-ups of that snapshot the figures are complete.  Two ways
 * lead to it: a short tail is read whole, by the ids of its events; a long one
 * by account.  Which one is taken changes nothing but the time.  A plan for some
 * hundred partitions takes long to make: it is kept, and made for any accounts.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "usage/usage_watermark.h"
#include "utils/array.h"
#include "utils/date.h"
#include "utils/datetime.h"

/*
 * A tail of at most so many ids, and so many more for each account asked for, is read whole: to look
 * for an account in the indexes of a hundred months takes as long as to read some hundred events.
 */
#define SHORT_TAIL_IDS 1000
#define SHORT_TAIL_IDS_OF_ACCOUNT 50

/* $1 entity: the watermark, or 0, and whether there are meters that keep a level */
static BillingStatement read_watermark = {
	"SELECT coalesce((SELECT w.after_event_id FROM billing.usage_watermark w WHERE w.entity_id = $1), 0),"
	" EXISTS (SELECT FROM billing.meter m WHERE m.entity_id = $1"
	"  AND m.aggregation IN ('latest', 'time_weighted'))",
	1,
	{ INT4OID },
	NULL
};

/*
 * $1 entity, $2 accounts, $3 watermark.  An addition of zero keeps a statement to the other index;
 * IS TRUE has the accounts hashed, because a search in an array of thousands for each row is slow.
 */
#define BY_ID(e)                                                                                   \
	e ".entity_id = $1 AND (" e ".account_id + 0 IN (SELECT x.id FROM unnest($2) x (id))) IS TRUE" \
	  " AND " e ".event_id > $3 AND " e ".event_id < 9223372036854775807"
#define BY_ACCOUNT(e) \
	e ".entity_id = $1 AND " e ".account_id = ANY ($2) AND " e ".event_id + 0 > $3"

#define SUMS(condition)                                                            \
	"SELECT a.account_id, a.item_id, a.meter_id, a.month, a.dimensions, a.sample," \
	" billing_internal.usage_days(a.usage_date, a.events, a.quantity), false"      \
	" FROM billing.usage_addend a WHERE " condition " GROUP BY 1, 2, 3, 4, 5, 6"

/* A day that an event of the tail touches is computed anew from all its events. */
#define LEVELS(condition)                                                                            \
	"SELECT v.account_id, v.item_id, v.meter_id, v.month, v.dimensions, ''::text,"                   \
	" billing_internal.usage_levels(v.usage_date, v.occurred_at, v.event_id, v.level, l.time_zone)," \
	" true"                                                                                          \
	" FROM (SELECT DISTINCT t.account_id, t.meter_id, t.usage_date"                                  \
	"  FROM billing.meter m JOIN billing.usage_event t"                                              \
	"   ON t.entity_id = m.entity_id AND t.meter_id = m.meter_id"                                    \
	"  WHERE m.entity_id = $1 AND m.aggregation IN ('latest', 'time_weighted')"                      \
	"   AND t.quantity IS NOT NULL AND " condition ") d"                                             \
	" CROSS JOIN LATERAL billing_internal.usage_levels_of_day($1, d.account_id, d.meter_id,"         \
	"  d.usage_date, 9223372036854775807) v"                                                         \
	" JOIN billing.legal_entity l ON l.entity_id = $1"                                               \
	" GROUP BY 1, 2, 3, 4, 5, l.time_zone"

#define TAIL_ARGS 3, { INT4OID, INT8ARRAYOID, INT8OID }, NULL

static BillingStatement sums_by_id = { SUMS(BY_ID("a")), TAIL_ARGS };
static BillingStatement sums_by_account = { SUMS(BY_ACCOUNT("a")), TAIL_ARGS };
static BillingStatement levels_by_id = { LEVELS(BY_ID("t")), TAIL_ARGS };
static BillingStatement levels_by_account = { LEVELS(BY_ACCOUNT("t")), TAIL_ARGS };

/* Put the rows of a statement into the result. */
static void
add_rows(BillingStatement *statement, Datum *values, ReturnSetInfo *result)
{
	uint64 count = billing_core_run(statement, values, NULL, true);
	uint64 i;

	for (i = 0; i < count; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_freetuptable(SPI_tuptable);
}

PG_FUNCTION_INFO_V1(billing_usage_tail);
PG_FUNCTION_INFO_V1(billing_usage_month_of);

/*
 * billing_internal.usage_tail(entity integer, accounts bigint[]) RETURNS TABLE
 * (account_id bigint, item_id bigint, meter_id bigint, month date, dimensions text,
 * sample text, days billing.usage_days, recomputed boolean)
 */
Datum
billing_usage_tail(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum values[3];
	int64 tail_ids;
	int64 short_ids;
	bool has_levels;
	bool is_short;

	InitMaterializedSRF(fcinfo, 0);
	values[0] = PG_GETARG_DATUM(0);
	values[1] = PG_GETARG_DATUM(1);
	SPI_connect();
	(void) billing_core_run(&read_watermark, values, NULL, true);
	values[2] = billing_core_value(0, 0, NULL);
	has_levels = DatumGetBool(billing_core_value(0, 1, NULL));
	/* whatever the snapshot sees was numbered by now */
	tail_ids = billing_usage_last_event_id() - DatumGetInt64(values[2]);
	if (tail_ids > 0)
	{
		ArrayType *accounts = PG_GETARG_ARRAYTYPE_P(1);

		short_ids =
			SHORT_TAIL_IDS + SHORT_TAIL_IDS_OF_ACCOUNT *
								 (int64) ArrayGetNItems(ARR_NDIM(accounts), ARR_DIMS(accounts));
		is_short = tail_ids <= short_ids;
		add_rows(is_short ? &sums_by_id : &sums_by_account, values, result);
		if (has_levels)
			add_rows(is_short ? &levels_by_id : &levels_by_account, values, result);
	}
	SPI_finish();
	return (Datum) 0;
}

/* billing_internal.usage_month_of(day date) RETURNS date: the first day of its month */
Datum
billing_usage_month_of(PG_FUNCTION_ARGS)
{
	DateADT day = PG_GETARG_DATEADT(0);
	int year;
	int month;
	int day_of_month;

	if (DATE_NOT_FINITE(day))
		PG_RETURN_DATEADT(day);
	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &day_of_month);
	PG_RETURN_DATEADT(day - day_of_month + 1);
}
