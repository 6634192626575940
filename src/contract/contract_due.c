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

#include "contract/contract.h"
#include "core/core.h"
#include "miscadmin.h"

/* The charge of the term's period n; of the term where it is charged once. */
static void
charge_of(const BillingTermDays *term, int64 n, BillingDue *charge)
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
index_of(const BillingTermDays *term, DateADT day)
{
	return billing_core_period_index(term->anchor, term->unit, term->count, day);
}

/*
 * Begin to enumerate the charges of a term that fall due after one day (from the
 * first where that is DATEVAL_NOBEGIN) and on or before another.
 */
void
billing_contract_begin_due(BillingDuePeriods *periods, const BillingTermDays *term, DateADT after,
						   DateADT through)
{
	DateADT last_day;

	periods->term = *term;
	periods->after = after;
	periods->through = through;
	periods->next = 0;
	periods->last = term->one_time ? 0 : -1;
	if (term->one_time || term->valid_from >= term->valid_to)
		return;
	last_day = Min(term->valid_to == DATEVAL_NOEND ? DATEVAL_NOEND : term->valid_to - 1, through);
	periods->next = index_of(term, Max(term->valid_from, after));
	periods->last = index_of(term, Max(term->valid_from, last_day));
}

/* The next of them; false where there is none. */
bool
billing_contract_next_charge(BillingDuePeriods *periods, BillingDue *charge)
{
	while (periods->next <= periods->last && periods->term.valid_from < periods->term.valid_to)
	{
		CHECK_FOR_INTERRUPTS();
		charge_of(&periods->term, periods->next++, charge);
		if (charge->due > periods->after && charge->due <= periods->through)
			return true;
	}
	return false;
}

/* The first day after another on which a charge of a term falls due; false where there is none. */
bool
billing_contract_due_after(const BillingTermDays *term, DateADT through, DateADT *day)
{
	BillingDue charge;
	int64 n = 0;

	if (term->valid_from >= term->valid_to)
		return false;
	if (!term->one_time)
		n = index_of(term, Max(term->valid_from, through));
	/* the period that the day lies in, or else the one after it */
	for (;; n++)
	{
		charge_of(term, n, &charge);
		if (charge.from >= charge.to)
			return false;
		*day = charge.due;
		if (charge.due > through)
			return true;
		if (term->one_time)
			return false;
	}
}
