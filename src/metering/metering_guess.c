/*
 * metering_guess.c
 *		Compares subjects that nothing is named by with the names of accounts and
 *		contract items and with the aliases that people gave, and keeps the best.
 *
 * All names of the entity stream past an index of the subjects' trigrams, so
 * memory grows with the subjects, not with the accounts.  pg_trgm, where it is
 * installed, measures again what is merely similar.
 */
#include "pg_compat.h"

#include <math.h>

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* How many names are read at once, and how many guesses are kept while it is not known which is best. */
#define PAGE 5000
#define KEPT 20

/* What is less alike is no guess. */
#define LEAST_SIMILARITY 3000
/* Two guesses that are no further apart cannot be told from each other without a person. */
#define MARGIN 1000

/* $1 entity, $2 the last account seen, $3 how many */
static BillingStatement account_names = {
	"SELECT 'a'::\"char\", a.account_id, a.code::text, a.account_id, 0::bigint, 'infinity'::date"
	" FROM billing.billing_account a WHERE a.entity_id = $1 AND a.account_id > $2"
	" ORDER BY a.account_id LIMIT $3",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 the last item seen, $3 how many */
static BillingStatement item_names = {
	"SELECT 'i'::\"char\", i.item_id, c.code || '/' || i.code, i.account_id, i.item_id,"
	" 'infinity'::date FROM billing.contract_item i JOIN billing.contract c"
	" ON c.entity_id = i.entity_id AND c.contract_id = i.contract_id"
	" WHERE i.entity_id = $1 AND i.item_id > $2 AND i.own_usage ORDER BY i.item_id LIMIT $3",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* $1 entity, $2 the last alias seen, $3 how many: what people gave and did not take back at once */
static BillingStatement alias_names = {
	"SELECT 'x'::\"char\", a.alias_id, a.alias, a.account_id, coalesce(a.item_id, 0),"
	" coalesce(a.valid_to, 'infinity') FROM billing.usage_alias a"
	" WHERE a.entity_id = $1 AND a.alias_id > $2 AND a.origin = 'person'"
	" AND (a.valid_from = a.valid_to) IS NOT TRUE ORDER BY a.alias_id LIMIT $3",
	3,
	{ INT4OID, INT8OID, INT4OID },
	NULL
};

/* a function in C can only be the work of a superuser, whoever made it a member of the extension */
static BillingStatement find_pg_trgm = {
	"SELECT p.oid FROM pg_extension x JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass"
	" AND d.refobjid = x.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'"
	" JOIN pg_proc p ON p.oid = d.objid JOIN pg_language l ON l.oid = p.prolang"
	" WHERE x.extname = 'pg_trgm' AND l.lanname = 'c' AND p.proname = 'similarity'"
	" AND p.proargtypes = '25 25' AND p.prorettype = 'float4'::regtype",
	0,
	{ 0 },
	NULL
};

/* One trigram of one subject. */
typedef struct Posting
{
	uint64 trigram;
	int32 subject;
} Posting;

/* The subjects and the index of their trigrams. */
typedef struct Search
{
	MemoryContext context; /* for what is kept */
	DateADT today;
	int32 count;
	BillingUsageGuesses *subjects;
	Posting *postings;
	int32 posting_count;
	int32 *common; /* by subject: trigrams in common with the name at hand */
	int32 *touched;
} Search;

static int
compare_postings(const void *a, const void *b)
{
	const Posting *first = a;
	const Posting *second = b;

	if (first->trigram != second->trigram)
		return first->trigram < second->trigram ? -1 : 1;
	return first->subject - second->subject;
}

/* Order guesses: the best first, and of equals always the same. */
static int
compare_guesses(const void *a, const void *b)
{
	const BillingUsageGuess *first = a;
	const BillingUsageGuess *second = b;

	if (first->score != second->score)
		return first->score > second->score ? -1 : 1;
	if (first->kind != second->kind)
		return first->kind - second->kind;
	if (first->account_id != second->account_id)
		return first->account_id < second->account_id ? -1 : 1;
	return first->item_id < second->item_id ? -1 : first->item_id > second->item_id;
}

/* Make the subjects ready to be compared. */
static Search *
begin_search(int32 entity_id, BillingUsageText *subjects, int32 count)
{
	Search *search = palloc0(sizeof(Search));
	int32 i;
	int j;

	search->context = CurrentMemoryContext;
	search->today = billing_core_entity_today(entity_id);
	search->count = count;
	search->subjects = palloc0(sizeof(BillingUsageGuesses) * (count + 1));
	search->common = palloc0(sizeof(int32) * (count + 1));
	search->touched = palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
	{
		search->subjects[i].form = billing_metering_form(subjects[i]);
		search->subjects[i].best = palloc(sizeof(BillingUsageGuess) * (KEPT + 1));
		search->posting_count += search->subjects[i].form->trigram_count;
	}
	search->postings = palloc(sizeof(Posting) * (search->posting_count + 1));
	search->posting_count = 0;
	for (i = 0; i < count; i++)
	{
		for (j = 0; j < search->subjects[i].form->trigram_count; j++)
		{
			search->postings[search->posting_count].trigram = search->subjects[i].form->trigrams[j];
			search->postings[search->posting_count++].subject = i;
		}
	}
	qsort(search->postings, search->posting_count, sizeof(Posting), compare_postings);
	return search;
}

/* What a guess is worth by its likeness; an alias that has ended is worth half. */
static int32
score_of(const BillingUsageGuess *guess)
{
	int32 score = 0;

	switch (guess->likeness)
	{
		case LIKE_IDENTICAL:
			score = 10000;
			break;
		case LIKE_BUT_CASE:
			score = 9500;
			break;
		case LIKE_BUT_SEPARATORS:
			score = 9200;
			break;
		case LIKE_BUT_ZEROS:
			score = 9000;
			break;
		case LIKE_SIMILAR:
			score = guess->similarity * 8 / 10;
			break;
		case LIKE_OTHER_NUMBERS:
			score = guess->similarity * 4 / 10;
			break;
	}
	return guess->ended == DATEVAL_NOEND ? score : score / 2;
}

/* Keep a guess if it is among the best of its subject; each target is kept once. */
static void
keep(Search *search, BillingUsageGuesses *subject, const BillingUsageGuess *guess)
{
	int32 place;
	int32 i;

	if (subject->count == KEPT && compare_guesses(&subject->best[KEPT - 1], guess) <= 0)
		return;
	for (place = 0; place < subject->count; place++)
	{
		if (subject->best[place].account_id == guess->account_id &&
			subject->best[place].item_id == guess->item_id)
			break;
	}
	if (place < subject->count && compare_guesses(&subject->best[place], guess) <= 0)
		return;
	if (place == KEPT)
		place--;
	if (place == subject->count)
		subject->count++;
	for (i = place; i > 0 && compare_guesses(guess, &subject->best[i - 1]) < 0; i--)
		subject->best[i] = subject->best[i - 1];
	subject->best[i] = *guess;
	subject->best[i].text.bytes =
		MemoryContextStrdup(search->context, pnstrdup(guess->text.bytes, guess->text.length));
}

/* Count the trigrams that a name has in common with each subject; how many subjects have any. */
static int32
count_common(Search *search, const BillingUsageForm *form)
{
	int32 touched = 0;
	int i;

	for (i = 0; i < form->trigram_count; i++)
	{
		int32 low = 0;
		int32 high = search->posting_count;

		while (low < high)
		{
			int32 middle = low + (high - low) / 2;

			if (search->postings[middle].trigram < form->trigrams[i])
				low = middle + 1;
			else
				high = middle;
		}
		for (; low < search->posting_count && search->postings[low].trigram == form->trigrams[i];
			 low++)
		{
			int32 subject = search->postings[low].subject;

			if (search->common[subject]++ == 0)
				search->touched[touched++] = subject;
		}
	}
	return touched;
}

/* Compare a name with the subjects. */
static void
compare_name(Search *search, BillingUsageGuess *guess)
{
	BillingUsageForm *form = billing_metering_form(guess->text);
	int32 touched = count_common(search, form);
	int32 i;

	for (i = 0; i < touched; i++)
	{
		int32 number = search->touched[i];
		BillingUsageGuesses *subject = &search->subjects[number];

		guess->similarity =
			billing_metering_similarity(form, subject->form, search->common[number]);
		search->common[number] = 0;
		/* what is not the same in its usual form is worth eight tenths at most */
		if (guess->similarity < LEAST_SIMILARITY ||
			(subject->count == KEPT && guess->similarity < 10000 &&
			 guess->similarity * 8 / 10 < subject->best[KEPT - 1].score))
			continue;
		guess->likeness = billing_metering_likeness(form, subject->form);
		guess->score = score_of(guess);
		keep(search, subject, guess);
	}
}

/* Compare all names that a statement gives, page by page. */
static void
compare_names(Search *search, BillingStatement *statement, int32 entity_id)
{
	MemoryContext page =
		AllocSetContextCreate(CurrentMemoryContext, "names of subjects", ALLOCSET_DEFAULT_SIZES);
	Datum values[3] = { Int32GetDatum(entity_id), Int64GetDatum(0), Int32GetDatum(PAGE) };
	int64 last = 0;
	uint64 found;
	uint64 row;

	do
	{
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		values[1] = Int64GetDatum(last);
		SPI_connect();
		found = billing_core_run_privileged(statement, values, NULL, false);
		old = MemoryContextSwitchTo(page);
		for (row = 0; row < found; row++)
		{
			text *name = DatumGetTextPP(billing_core_value(row, 2, NULL));
			BillingUsageGuess guess = { 0 };

			last = DatumGetInt64(billing_core_value(row, 1, NULL));
			guess.kind = DatumGetChar(billing_core_value(row, 0, NULL));
			guess.text.bytes = VARDATA_ANY(name);
			guess.text.length = (int) VARSIZE_ANY_EXHDR(name);
			guess.account_id = DatumGetInt64(billing_core_value(row, 3, NULL));
			guess.item_id = DatumGetInt64(billing_core_value(row, 4, NULL));
			guess.ended = DatumGetDateADT(billing_core_value(row, 5, NULL));
			if (guess.ended > search->today)
				guess.ended = DATEVAL_NOEND;
			compare_name(search, &guess);
		}
		MemoryContextSwitchTo(old);
		SPI_finish();
		MemoryContextReset(page);
	} while (found == PAGE);
	MemoryContextDelete(page);
}

/* Measure what is merely similar by pg_trgm, if it is there. */
static void
measure_by_pg_trgm(Search *search)
{
	Oid function = InvalidOid;
	int32 i;
	int32 j;

	SPI_connect();
	if (billing_core_run(&find_pg_trgm, NULL, NULL, false) > 0)
		function = DatumGetObjectId(billing_core_value(0, 0, NULL));
	SPI_finish();
	if (!OidIsValid(function))
		return;
	for (i = 0; i < search->count; i++)
	{
		Datum subject = billing_metering_text(search->subjects[i].form->text);

		for (j = 0; j < search->subjects[i].count; j++)
		{
			BillingUsageGuess *guess = &search->subjects[i].best[j];
			float4 similarity; /* float: what pg_trgm gives, a likeness of names */

			if (guess->likeness < LIKE_SIMILAR)
				continue;
			similarity =
				DatumGetFloat4(OidFunctionCall2Coll(function, DEFAULT_COLLATION_OID, subject,
													billing_metering_text(guess->text)));
			guess->similarity = (int32) rint(similarity * 10000.0);
			guess->score = score_of(guess);
		}
	}
}

/*
 * Put the guesses of a subject in order.  Of several that are as good only one
 * can be right, so each is believed in so much less: its confidence is its
 * score divided by how many targets have at least that score.
 */
static void
rank(BillingUsageGuesses *subject)
{
	int32 i;
	int32 j;

	qsort(subject->best, subject->count, sizeof(BillingUsageGuess), compare_guesses);
	for (i = 0; i < subject->count; i = j)
	{
		for (j = i + 1; j < subject->count && subject->best[j].score == subject->best[i].score; j++)
			;
		for (int32 k = i; k < j; k++)
		{
			subject->best[k].rivals = j;
			subject->best[k].confidence = subject->best[k].score / j;
		}
	}
	subject->count = Min(subject->count, BILLING_USAGE_GUESSES);
}

/* Guess what subjects mean: one answer for each, in the same order. */
BillingUsageGuesses *
billing_metering_guess(int32 entity_id, BillingUsageText *subjects, int32 count)
{
	Search *search = begin_search(entity_id, subjects, count);
	int32 i;

	compare_names(search, &account_names, entity_id);
	compare_names(search, &item_names, entity_id);
	compare_names(search, &alias_names, entity_id);
	measure_by_pg_trgm(search);
	for (i = 0; i < count; i++)
		rank(&search->subjects[i]);
	return search->subjects;
}

/* Whether another target is about as good as the best. */
bool
billing_metering_is_ambiguous(const BillingUsageGuesses *guesses)
{
	return guesses->count > 1 && guesses->best[1].score + MARGIN > guesses->best[0].score;
}
