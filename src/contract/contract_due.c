/*
 * contract_due.c
 *		When the charges of a term fall due, and which days each is for.
 *
 * A term is what an item's version and its contract have in common: days from
 * valid_from to before valid_to (open where null), in billing periods that are
 * counted from the anchor.  In advance a charge falls due when its period begins,
 * but not before the contract does; in arrears when it ends, at the latest with
 * the contract.  What is charged once falls due on the first day.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* A term, as both functions are given it; dates that are null are the widest there are. */
typedef struct Term
{
	bool one_time;
	bool in_advance;
	DateADT anchor;
	char unit[16];
	int32 count;
	DateADT start_date;
	DateADT end_date;
	DateADT valid_from;
	DateADT valid_to;
} Term;

/* One charge of it. */
typedef struct Charge
{
	DateADT due;
	DateADT from;
	DateADT to;
	int32 of_days;
} Charge;

/* What is left of an enumeration of charges. */
typedef struct DuePeriods
{
	Term term;
	int64 next;
	int64 last;
	DateADT after;
	DateADT through;
} DuePeriods;

/* Read a term from the arguments; false where it has no day, or an argument is missing.  Refuses an interval that is none. */
static bool
read_term(FunctionCallInfo fcinfo, Term *term)
{
	int i;

	for (i = 0; i < 8; i++)
	{
		if (i != 6 && PG_ARGISNULL(i))
			return false;
	}
	term->one_time = VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)) == strlen("one_time") &&
					 memcmp(VARDATA_ANY(PG_GETARG_TEXT_PP(0)), "one_time", strlen("one_time")) == 0;
	term->in_advance = *VARDATA_ANY(PG_GETARG_TEXT_PP(1)) == 'a' &&
					   VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == strlen("advance") &&
					   memcmp(VARDATA_ANY(PG_GETARG_TEXT_PP(1)), "advance", strlen("advance")) == 0;
	term->anchor = PG_GETARG_DATEADT(2);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(3), term->unit, sizeof(term->unit));
	term->count = PG_GETARG_INT32(4);
	billing_core_check_interval(term->unit, term->count);
	term->start_date = PG_GETARG_DATEADT(5);
	term->end_date = PG_ARGISNULL(6) ? DATEVAL_NOEND : PG_GETARG_DATEADT(6);
	term->valid_from = PG_GETARG_DATEADT(7);
	term->valid_to = PG_ARGISNULL(8) ? DATEVAL_NOEND : PG_GETARG_DATEADT(8);
	return term->valid_from < term->valid_to;
}

/* The charge of the term's period n; of the term where it is charged once. */
static void
charge_of(const Term *term, int64 n, Charge *charge)
{
	DateADT start;
	DateADT end;

	if (term->one_time)
	{
		charge->due = charge->from = term->valid_from;
		charge->to = term->valid_from + 1;
		charge->of_days = 1;
		return;
	}
	start = billing_core_period_start(term->anchor, term->unit, term->count, n);
	end = billing_core_period_start(term->anchor, term->unit, term->count, n + 1);
	charge->due = term->in_advance ? Max(start, term->start_date) : Min(end, term->end_date);
	charge->from = Max(Max(start, term->start_date), term->valid_from);
	charge->to = Min(Min(end, term->end_date), term->valid_to);
	charge->of_days = end - start;
}

/* The number of the period that a day lies in. */
static int64
index_of(const Term *term, DateADT day)
{
	return billing_core_period_index(term->anchor, term->unit, term->count, day);
}

/* Begin to enumerate what falls due; false where there is nothing. */
static bool
begin_enumeration(FunctionCallInfo fcinfo, DuePeriods *periods)
{
	DateADT last_day;

	if (!read_term(fcinfo, &periods->term) || PG_ARGISNULL(10))
		return false;
	periods->after = PG_ARGISNULL(9) ? DATEVAL_NOBEGIN : PG_GETARG_DATEADT(9);
	periods->through = PG_GETARG_DATEADT(10);
	if (periods->term.one_time)
	{
		periods->next = periods->last = 0;
		return true;
	}
	last_day =
		Min(periods->term.valid_to == DATEVAL_NOEND ? DATEVAL_NOEND : periods->term.valid_to - 1,
			periods->through);
	periods->next = index_of(&periods->term, Max(periods->term.valid_from, periods->after));
	periods->last = index_of(&periods->term, Max(periods->term.valid_from, last_day));
	return true;
}

PG_FUNCTION_INFO_V1(billing_contract_due_periods);
PG_FUNCTION_INFO_V1(billing_contract_next_due);

/*
 * billing_internal.due_periods(charge text, timing text, anchor date, interval_unit text,
 *     interval_count integer, start_date date, end_date date, valid_from date, valid_to date,
 *     after date, through date)
 * RETURNS TABLE (charge_date date, period_start date, period_end date, of_days integer)
 *
 * The charges that fall due after one day (from the first where null) and on or
 * before another.
 */
Datum
billing_contract_due_periods(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	DuePeriods *periods;
	Charge charge;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext caller;
		TupleDesc descriptor;

		context = SRF_FIRSTCALL_INIT();
		caller = MemoryContextSwitchTo(context->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
			ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
							errmsg("due_periods must return rows")));
		context->tuple_desc = BlessTupleDesc(descriptor);
		periods = palloc0(sizeof(DuePeriods));
		periods->last = -1;
		if (!begin_enumeration(fcinfo, periods))
			periods->next = 0;
		context->user_fctx = periods;
		MemoryContextSwitchTo(caller);
	}
	context = SRF_PERCALL_SETUP();
	periods = context->user_fctx;
	while (periods->next <= periods->last)
	{
		CHECK_FOR_INTERRUPTS();
		charge_of(&periods->term, periods->next++, &charge);
		if (charge.due > periods->after && charge.due <= periods->through)
		{
			Datum values[4] = { DateADTGetDatum(charge.due), DateADTGetDatum(charge.from),
								DateADTGetDatum(charge.to), Int32GetDatum(charge.of_days) };
			bool nulls[4] = { false, false, false, false };

			SRF_RETURN_NEXT(context,
							HeapTupleGetDatum(heap_form_tuple(context->tuple_desc, values, nulls)));
		}
	}
	SRF_RETURN_DONE(context);
}

/*
 * billing_internal.next_due(charge text, timing text, anchor date, interval_unit text,
 *     interval_count integer, start_date date, end_date date, valid_from date, valid_to date,
 *     through date) RETURNS date
 *
 * The first day after another on which a charge falls due, or NULL.
 */
Datum
billing_contract_next_due(PG_FUNCTION_ARGS)
{
	Term term;
	Charge charge;
	DateADT through;
	int64 n = 0;

	if (!read_term(fcinfo, &term) || PG_ARGISNULL(9))
		PG_RETURN_NULL();
	through = PG_GETARG_DATEADT(9);
	if (!term.one_time)
		n = index_of(&term, Max(term.valid_from, through));
	/* the period that the day lies in, or else the one after it */
	for (;; n++)
	{
		charge_of(&term, n, &charge);
		if (charge.from >= charge.to)
			PG_RETURN_NULL();
		if (charge.due > through)
			PG_RETURN_DATEADT(charge.due);
		if (term.one_time)
			PG_RETURN_NULL();
	}
}
