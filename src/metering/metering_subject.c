/*
 * metering_subject.c
 *		Finds whose usage an event is: the billing account, or the contract item
 *		with usage of its own, that its subject names.
 *
 * An alias that is valid on the event's day comes first, then the code of an
 * account, then contract/item.  Each distinct subject of a slice is looked up
 * once.  The lookups run past row-level security, for the reason that
 * metering_resolve.c gives.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "utils/builtins.h"

/* $1 entity: whether it has aliases, and items with usage of their own */
static BillingStatement find_kinds = {
	"SELECT EXISTS (SELECT FROM billing.usage_alias a WHERE a.entity_id = $1),"
	" EXISTS (SELECT FROM billing.contract_item i WHERE i.entity_id = $1 AND i.own_usage)",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 subjects */
static BillingStatement find_accounts = {
	"SELECT s.position::integer, f.account_id FROM unnest($2) WITH ORDINALITY s (subject, position)"
	" CROSS JOIN LATERAL (SELECT a.account_id FROM billing.billing_account a"
	"  WHERE a.entity_id = $1 AND a.code = s.subject LIMIT 1) f",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 subjects: every alias that they ever were */
static BillingStatement find_aliases = {
	"SELECT s.position::integer, f.account_id, f.item_id, f.meter_id, f.valid_from, f.valid_to"
	" FROM unnest($2) WITH ORDINALITY s (subject, position)"
	" CROSS JOIN LATERAL (SELECT a.account_id, coalesce(a.item_id, 0) AS item_id,"
	"   coalesce((SELECT i.meter_id FROM billing.contract_item i"
	"    WHERE i.entity_id = $1 AND i.item_id = a.item_id), 0) AS meter_id,"
	"   coalesce(a.valid_from, '-infinity') AS valid_from,"
	"   coalesce(a.valid_to, 'infinity') AS valid_to"
	"  FROM billing.usage_alias a WHERE a.entity_id = $1 AND a.alias = s.subject OFFSET 0) f",
	2,
	{ INT4OID, TEXTARRAYOID },
	NULL
};

/* $1 entity, $2 positions, $3 codes of contracts, $4 codes of items */
static BillingStatement find_items = {
	"SELECT s.position, f.account_id, f.item_id, f.meter_id"
	" FROM unnest($2, $3, $4) s (position, contract, item)"
	" CROSS JOIN LATERAL (SELECT i.account_id, i.item_id, i.meter_id FROM billing.contract c"
	"  JOIN billing.contract_item i ON i.entity_id = $1 AND i.contract_id = c.contract_id"
	"   AND i.code = s.item AND i.own_usage"
	"  WHERE c.entity_id = $1 AND c.code = s.contract LIMIT 1) f",
	4,
	{ INT4OID, INT4ARRAYOID, TEXTARRAYOID, TEXTARRAYOID },
	NULL
};

/* What a subject names; account_id is 0 where it names nothing. */
typedef struct Target
{
	int64 account_id;
	int64 item_id;	/* 0 for an account */
	int64 meter_id; /* of the item */
} Target;

/* What a subject is an alias of, and from which day to before which. */
typedef struct DatedTarget
{
	Target target;
	DateADT valid_from;
	DateADT valid_to;
	int32 next; /* of the same subject; 0 ends the list */
} DatedTarget;

/* The distinct subjects of a slice and what they name; element 0 is not used. */
typedef struct Subjects
{
	int32 entity_id;
	int32 count;
	BillingUsageText *texts;
	Datum array; /* text[] */
	Target *targets;
	int32 *first_alias;
	DatedTarget *aliases;
} Subjects;

static int
compare_subjects(const void *a, const void *b)
{
	return billing_metering_compare_texts(&(*(BillingUsageEvent *const *) a)->subject,
										  &(*(BillingUsageEvent *const *) b)->subject);
}

/* Gather the distinct subjects; event->scratch says which an event has. */
static void
gather_subjects(Subjects *subjects, BillingUsageEvent **events, int32 count)
{
	BillingUsageColumn column = billing_metering_column(count);
	int32 i;

	subjects->texts = palloc(sizeof(BillingUsageText) * (count + 1));
	subjects->count = 0;
	qsort(events, count, sizeof(*events), compare_subjects);
	for (i = 0; i < count; i++)
	{
		if (i == 0 || compare_subjects(&events[i], &events[i - 1]) != 0)
		{
			column.values[subjects->count++] = billing_metering_text(events[i]->subject);
			subjects->texts[subjects->count] = events[i]->subject;
		}
		events[i]->scratch = subjects->count;
	}
	subjects->array = billing_metering_array(&column, subjects->count, TEXTOID);
	subjects->targets = palloc0(sizeof(Target) * (subjects->count + 1));
	subjects->first_alias = palloc0(sizeof(int32) * (subjects->count + 1));
	subjects->aliases = NULL;
}

/* Read account, item and meter from columns 1 to 3 of a row. */
static Target
read_target(uint64 row)
{
	Target target;

	target.account_id = DatumGetInt64(billing_core_value(row, 1, NULL));
	target.item_id = DatumGetInt64(billing_core_value(row, 2, NULL));
	target.meter_id = DatumGetInt64(billing_core_value(row, 3, NULL));
	return target;
}

/* Find the accounts that have the subjects as their codes. */
static void
look_up_accounts(Subjects *subjects)
{
	Datum values[2] = { Int32GetDatum(subjects->entity_id), subjects->array };
	uint64 found;
	uint64 row;

	SPI_connect();
	found = billing_core_run_privileged(&find_accounts, values, NULL, false);
	for (row = 0; row < found; row++)
		subjects->targets[DatumGetInt32(billing_core_value(row, 0, NULL))].account_id =
			DatumGetInt64(billing_core_value(row, 1, NULL));
	SPI_finish();
}

/* Find what the subjects are aliases of, on whatever day. */
static void
look_up_aliases(Subjects *subjects)
{
	Datum values[2] = { Int32GetDatum(subjects->entity_id), subjects->array };
	uint64 found;
	uint64 row;

	SPI_connect();
	found = billing_core_run_privileged(&find_aliases, values, NULL, false);
	subjects->aliases = SPI_palloc(sizeof(DatedTarget) * (found + 1));
	for (row = 0; row < found; row++)
	{
		int32 subject = DatumGetInt32(billing_core_value(row, 0, NULL));
		DatedTarget *alias = &subjects->aliases[row + 1];

		alias->target = read_target(row);
		alias->valid_from = DatumGetDateADT(billing_core_value(row, 4, NULL));
		alias->valid_to = DatumGetDateADT(billing_core_value(row, 5, NULL));
		alias->next = subjects->first_alias[subject];
		subjects->first_alias[subject] = (int32) row + 1;
	}
	SPI_finish();
}

/* Visit the ways to read a subject as contract/item: codes may contain slashes. */
static int32
split_subject(BillingUsageText subject, BillingUsageText *contracts, BillingUsageText *items)
{
	int32 count = 0;
	int i;

	for (i = Max(1, subject.length - 1 - BILLING_MAX_CODE_LENGTH);
		 i < subject.length - 1 && i <= BILLING_MAX_CODE_LENGTH; i++)
	{
		if (subject.bytes[i] != '/')
			continue;
		contracts[count].bytes = subject.bytes;
		contracts[count].length = i;
		items[count].bytes = subject.bytes + i + 1;
		items[count++].length = subject.length - i - 1;
	}
	return count;
}

/*
 * Find the items that subjects name which name no account.  A subject that can
 * be read as two items names neither.
 */
static void
look_up_items(Subjects *subjects)
{
	BillingUsageText contracts[BILLING_MAX_CODE_LENGTH];
	BillingUsageText items[BILLING_MAX_CODE_LENGTH];
	int32 room = subjects->count;
	int32 count = 0;
	int32 subject;
	BillingUsageColumn columns[3];
	Datum values[4];
	uint64 found;
	uint64 row;
	int i;

	for (subject = 1; subject <= subjects->count; subject++)
		room += subjects->targets[subject].account_id != 0
					? 0
					: split_subject(subjects->texts[subject], contracts, items);
	for (i = 0; i < 3; i++)
		columns[i] = billing_metering_column(room);
	for (subject = 1; subject <= subjects->count; subject++)
	{
		int32 splits = subjects->targets[subject].account_id != 0
						   ? 0
						   : split_subject(subjects->texts[subject], contracts, items);

		for (i = 0; i < splits; i++, count++)
		{
			columns[0].values[count] = Int32GetDatum(subject);
			columns[1].values[count] = billing_metering_text(contracts[i]);
			columns[2].values[count] = billing_metering_text(items[i]);
		}
	}
	if (count == 0)
		return;
	values[0] = Int32GetDatum(subjects->entity_id);
	values[1] = billing_metering_array(&columns[0], count, INT4OID);
	values[2] = billing_metering_array(&columns[1], count, TEXTOID);
	values[3] = billing_metering_array(&columns[2], count, TEXTOID);
	SPI_connect();
	found = billing_core_run_privileged(&find_items, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		Target *target = &subjects->targets[DatumGetInt32(billing_core_value(row, 0, NULL))];
		bool is_second = target->item_id != 0;

		*target = read_target(row);
		if (is_second)
			target->account_id = 0;
	}
	SPI_finish();
}

/* What a subject names on a day. */
static const Target *
target_on(const Subjects *subjects, int32 subject, DateADT day)
{
	int32 i;

	for (i = subjects->first_alias[subject]; i != 0; i = subjects->aliases[i].next)
	{
		if (subjects->aliases[i].valid_from <= day && day < subjects->aliases[i].valid_to)
			return &subjects->aliases[i].target;
	}
	return &subjects->targets[subject];
}

/*
 * Give events whose day and meter are known the account and item that their
 * subjects name.  One whose item has another meter gets a problem: nobody would
 * be charged for it.  The list of events is sorted by subject on the way.
 */
void
billing_metering_resolve_subjects(int32 entity_id, BillingUsageEvent **events, int32 count)
{
	Subjects subjects = { .entity_id = entity_id };
	Datum values[1] = { Int32GetDatum(entity_id) };
	bool has_aliases;
	bool has_items;
	int32 i;

	gather_subjects(&subjects, events, count);
	SPI_connect();
	(void) billing_core_run_privileged(&find_kinds, values, NULL, false);
	has_aliases = DatumGetBool(billing_core_value(0, 0, NULL));
	has_items = DatumGetBool(billing_core_value(0, 1, NULL));
	SPI_finish();
	look_up_accounts(&subjects);
	if (has_items)
		look_up_items(&subjects);
	if (has_aliases)
		look_up_aliases(&subjects);
	for (i = 0; i < count; i++)
	{
		const Target *target = target_on(&subjects, events[i]->scratch, events[i]->usage_date);

		if (target->account_id == 0)
			continue;
		events[i]->account_id = target->account_id;
		events[i]->item_id = target->item_id;
		if (target->item_id != 0 && events[i]->meter_id != 0 &&
			target->meter_id != events[i]->meter_id && events[i]->problem == NULL)
			events[i]->problem =
				billing_metering_problem("subject",
										 "names a contract item that another meter measures");
	}
}
