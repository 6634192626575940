/*
 * metering_suggest.c
 *		Suggests what an unknown subject means, with a confidence and the reason
 *		in words, and applies by itself what reaches the entity's threshold.
 *
 * An applied suggestion is an alias like any other; the next replay takes in
 * what waits for it.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "metering/metering.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Subjects that one pass over the names of an entity compares. */
#define SUBJECTS_AT_ONCE 1000

/* $1 entity, $2 accounts, $3 items or 0: their codes, in the same order */
static BillingStatement find_codes = {
	"SELECT a.code, c.code, i.code FROM unnest($2, $3) WITH ORDINALITY t (account_id, item_id, n)"
	" JOIN billing.billing_account a ON a.entity_id = $1 AND a.account_id = t.account_id"
	" LEFT JOIN billing.contract_item i ON i.entity_id = $1 AND i.item_id = t.item_id"
	" LEFT JOIN billing.contract c ON c.entity_id = $1 AND c.contract_id = i.contract_id"
	" ORDER BY t.n",
	3,
	{ INT4OID, INT8ARRAYOID, INT8ARRAYOID },
	NULL
};

static BillingStatement find_thresholds = {
	"SELECT entity_id, ceil(suggestion_threshold * 10000)::integer FROM billing.usage_policy"
	" WHERE suggestion_threshold IS NOT NULL ORDER BY entity_id",
	0,
	{ 0 },
	NULL
};

/* $1 entity, $2 the last subject seen, $3 how many */
static BillingStatement find_unknown = {
	"SELECT u.subject FROM (SELECT DISTINCT x.subject COLLATE \"C\" AS subject"
	"  FROM billing.exception x WHERE x.entity_id = $1 AND x.state = 'open'"
	"  AND x.kind = 'usage_unknown_subject' AND x.subject COLLATE \"C\" > $2) u"
	" WHERE NOT billing_internal.knows_subject($1, u.subject) ORDER BY u.subject LIMIT $3",
	3,
	{ INT4OID, TEXTOID, INT4OID },
	NULL
};

/* $1 entity, $2 aliases, $3 accounts, $4 items or 0, $5 confidences, $6 reasons, $7 the system */
static BillingStatement apply = {
	"WITH new AS (INSERT INTO billing.usage_alias"
	"  (entity_id, alias, account_id, item_id, origin, confidence, recorded_by)"
	"  SELECT $1, s.alias, s.account_id, nullif(s.item_id, 0), 'suggestion', s.confidence, $7"
	"  FROM unnest($2, $3, $4, $5) s (alias, account_id, item_id, confidence)"
	"  ON CONFLICT DO NOTHING RETURNING alias_id, alias, confidence)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" SELECT $1, 'suggest', 'usage_alias', n.alias_id,"
	" jsonb_build_object('alias', n.alias, 'confidence', n.confidence), s.reason"
	" FROM new n JOIN unnest($2, $6) s (alias, reason) ON s.alias = n.alias",
	7,
	{ INT4OID, TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, NUMERICARRAYOID, TEXTARRAYOID, INT4OID },
	NULL
};

/* Ten-thousandths as a number with four decimals. */
Numeric
billing_metering_confidence(int32 score)
{
	return int64_div_fast_to_numeric(score, 4);
}

/* The same as text. */
static char *
decimals(int32 score)
{
	return DatumGetCString(
		DirectFunctionCall1(numeric_out, NumericGetDatum(billing_metering_confidence(score))));
}

/* Why a guess may be right, in words. */
static char *
reason_of(const BillingUsageGuess *guess)
{
	const char *kind = guess->kind == 'a'	? "account"
					   : guess->kind == 'i' ? "contract item"
											: "alias";
	StringInfoData reason;

	initStringInfo(&reason);
	switch (guess->likeness)
	{
		case LIKE_IDENTICAL:
			appendStringInfo(&reason, "is the %s \"%s\"", kind, guess->text.bytes);
			break;
		case LIKE_BUT_CASE:
			appendStringInfo(&reason, "differs from the %s \"%s\" only in case", kind,
							 guess->text.bytes);
			break;
		case LIKE_BUT_SEPARATORS:
			appendStringInfo(&reason, "differs from the %s \"%s\" only in separators or case", kind,
							 guess->text.bytes);
			break;
		case LIKE_BUT_ZEROS:
			appendStringInfo(&reason,
							 "differs from the %s \"%s\" only in leading zeros, separators or case",
							 kind, guess->text.bytes);
			break;
		case LIKE_SIMILAR:
			appendStringInfo(&reason, "is similar to the %s \"%s\": %s", kind, guess->text.bytes,
							 decimals(guess->similarity));
			break;
		case LIKE_OTHER_NUMBERS:
			appendStringInfo(&reason, "is similar to the %s \"%s\": %s, but has other numbers",
							 kind, guess->text.bytes, decimals(guess->similarity));
			break;
	}
	if (guess->ended != DATEVAL_NOEND)
		appendStringInfo(&reason, ", which ended on %s",
						 DatumGetCString(
							 DirectFunctionCall1(date_out, DateADTGetDatum(guess->ended))));
	if (guess->rivals > 1)
		appendStringInfo(&reason, "; one of %d targets that are at least as likely", guess->rivals);
	return reason.data;
}

/* Put the guesses into the result, with the codes of their targets. */
static void
return_guesses(FunctionCallInfo fcinfo, int32 entity_id, const BillingUsageGuesses *guesses)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingUsageColumn accounts = billing_metering_column(guesses->count);
	BillingUsageColumn items = billing_metering_column(guesses->count);
	Datum values[6];
	int32 i;
	int column;

	for (i = 0; i < guesses->count; i++)
	{
		accounts.values[i] = Int64GetDatum(guesses->best[i].account_id);
		items.values[i] = Int64GetDatum(guesses->best[i].item_id);
	}
	values[0] = Int32GetDatum(entity_id);
	values[1] = billing_metering_array(&accounts, guesses->count, INT8OID);
	values[2] = billing_metering_array(&items, guesses->count, INT8OID);
	SPI_connect();
	if (billing_core_run(&find_codes, values, NULL, false) != (uint64) guesses->count)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("a suggested account or contract item is not there"),
						errhint("Run billing.verify().")));
	for (i = 0; i < guesses->count; i++)
	{
		const BillingUsageGuess *guess = &guesses->best[i];
		bool nulls[6] = { false };

		values[0] = CStringGetTextDatum(guess->kind == 'a'	 ? "account"
										: guess->kind == 'i' ? "item"
															 : "alias");
		for (column = 0; column < 3; column++)
			values[column + 1] = billing_core_value(i, column, &nulls[column + 1]);
		values[4] = NumericGetDatum(billing_metering_confidence(guess->confidence));
		values[5] = CStringGetTextDatum(reason_of(guess));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	SPI_finish();
}

/* Read up to so many subjects that nobody knows, after the given one. */
static int32
read_unknown(int32 entity_id, BillingUsageText *subjects, const char *after)
{
	Datum values[3] = { Int32GetDatum(entity_id), CStringGetTextDatum(after),
						Int32GetDatum(SUBJECTS_AT_ONCE) };
	uint64 found;
	uint64 row;

	SPI_connect();
	found = billing_core_run_privileged(&find_unknown, values, NULL, false);
	for (row = 0; row < found; row++)
	{
		subjects[row].bytes = billing_core_text_value(row, 0);
		subjects[row].length = (int) strlen(subjects[row].bytes);
	}
	SPI_finish();
	return (int32) found;
}

/* Make aliases of those best guesses that reach the threshold and are not ambiguous. */
static void
apply_guesses(int32 entity_id, int32 threshold, const BillingUsageGuesses *guesses, int32 count)
{
	BillingUsageColumn columns[5];
	Oid types[5] = { TEXTOID, INT8OID, INT8OID, NUMERICOID, TEXTOID };
	Datum values[7];
	int32 rows = 0;
	int32 i;

	for (i = 0; i < 5; i++)
		columns[i] = billing_metering_column(count);
	for (i = 0; i < count; i++)
	{
		const BillingUsageGuess *best = &guesses[i].best[0];

		if (guesses[i].count == 0 || best->confidence < threshold ||
			billing_metering_is_ambiguous(&guesses[i]))
			continue;
		columns[0].values[rows] = billing_metering_text(guesses[i].form->text);
		columns[1].values[rows] = Int64GetDatum(best->account_id);
		columns[2].values[rows] = Int64GetDatum(best->item_id);
		columns[3].values[rows] = NumericGetDatum(billing_metering_confidence(best->confidence));
		columns[4].values[rows++] = CStringGetTextDatum(reason_of(best));
	}
	if (rows == 0)
		return;
	values[0] = Int32GetDatum(entity_id);
	for (i = 0; i < 5; i++)
		values[i + 1] = billing_metering_array(&columns[i], rows, types[i]);
	values[6] = Int32GetDatum(BILLING_SYSTEM_PERSON);
	SPI_connect();
	(void) billing_core_run(&apply, values, NULL, false);
	SPI_finish();
}

/* Go through the unknown subjects of an entity, in slices. */
static void
suggest_for(int32 entity_id, int32 threshold)
{
	MemoryContext slice =
		AllocSetContextCreate(CurrentMemoryContext, "suggestions", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(slice);
	char last[BILLING_USAGE_MAX_NAME + 1] = "";
	int32 count;

	do
	{
		BillingUsageText *subjects = palloc(sizeof(BillingUsageText) * SUBJECTS_AT_ONCE);

		CHECK_FOR_INTERRUPTS();
		count = read_unknown(entity_id, subjects, last);
		if (count == 0)
			break;
		strlcpy(last, subjects[count - 1].bytes, sizeof(last));
		apply_guesses(entity_id, threshold, billing_metering_guess(entity_id, subjects, count),
					  count);
		MemoryContextReset(slice);
	} while (count == SUBJECTS_AT_ONCE);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(slice);
}

PG_FUNCTION_INFO_V1(billing_metering_suggest_subject);
PG_FUNCTION_INFO_V1(billing_metering_apply_suggestions);

/*
 * billing.suggest_subject(entity text, subject text) RETURNS TABLE (kind text, account text,
 *     contract text, item text, confidence numeric, reason text)
 *
 * At most five targets, the best first; none where nothing is similar.
 */
Datum
billing_metering_suggest_subject(PG_FUNCTION_ARGS)
{
	BillingUsageText subject;
	int32 entity_id;

	InitMaterializedSRF(fcinfo, 0);
	entity_id = billing_core_arg_entity(fcinfo, 0);
	subject.bytes = billing_metering_arg_subject(fcinfo, 1, "subject");
	subject.length = (int) strlen(subject.bytes);
	return_guesses(fcinfo, entity_id, billing_metering_guess(entity_id, &subject, 1));
	return (Datum) 0;
}

/* billing_internal.apply_suggestions() RETURNS void: a task, which acts as the system */
Datum
billing_metering_apply_suggestions(PG_FUNCTION_ARGS)
{
	int32 actor = billing_core_save_actor();
	uint64 count;
	uint64 i;
	int32 *entities;
	int32 *thresholds;

	billing_core_restore_actor(BILLING_SYSTEM_PERSON);
	SPI_connect();
	count = billing_core_run(&find_thresholds, NULL, NULL, false);
	entities = SPI_palloc(sizeof(int32) * (count + 1));
	thresholds = SPI_palloc(sizeof(int32) * (count + 1));
	for (i = 0; i < count; i++)
	{
		entities[i] = DatumGetInt32(billing_core_value(i, 0, NULL));
		thresholds[i] = DatumGetInt32(billing_core_value(i, 1, NULL));
	}
	SPI_finish();
	for (i = 0; i < count; i++)
		suggest_for(entities[i], thresholds[i]);
	billing_core_restore_actor(actor);
	PG_RETURN_VOID();
}
