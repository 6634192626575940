/*
 * invoicing_entitle.c
 *		What accounts are entitled to be charged: a function of contracts, prices
 *		and usage, derived account by account.
 *
 * First all that falls due is gathered, then the usage of it is measured, and
 * last every charge is priced, rated and prorated.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_entry.h"
#include "miscadmin.h"
#include "rating/rating.h"
#include "usage/usage.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* $1 entity, $2 account, $3 item, $4 meter, $5 from, $6 to, $7 dimensions, $8 tariff, $9 events */
static BillingStatement rate_events = {
	"SELECT billing_internal.try_rate_counted($1, $2, $3, $4, $5, $6, $7, $8::text::billing.tariff, $9)",
	9,
	{ INT4OID, INT8OID, INT8OID, INT8OID, DATEOID, DATEOID, TEXTOID, TEXTOID, INT8OID },
	NULL
};

/* Room for another charge. */
static BillingCharge *
add_charge(BillingCharges *charges)
{
	if (charges->count == charges->size)
	{
		charges->size = charges->size == 0 ? 1024 : 2 * charges->size;
		charges->charges =
			charges->charges == NULL
				? MemoryContextAllocHuge(CurrentMemoryContext,
										 sizeof(BillingCharge) * charges->size)
				: repalloc_huge(charges->charges, sizeof(BillingCharge) * charges->size);
	}
	return &charges->charges[charges->count++];
}

/* The charges of a term that fall due; usage is measured later. */
static void
gather_charges(const BillingParty *party, int number, const BillingTerms *terms,
			   BillingCharges *charges)
{
	BillingDuePeriods periods;
	BillingDue due;

	billing_contract_begin_due(&periods, &terms->days,
							   party->is_changed ? DATEVAL_NOBEGIN : party->billed_through,
							   party->through);
	while (billing_contract_next_charge(&periods, &due))
	{
		BillingCharge *charge = add_charge(charges);

		charge->party = number;
		charge->charge = terms->charge;
		charge->contract_id = terms->contract_id;
		charge->item_id = terms->item_id;
		charge->version_id = terms->version_id;
		charge->product_id = terms->product_id;
		charge->meter_id = terms->meter_id;
		charge->usage_item = terms->usage_item;
		charge->charge_date = due.due;
		charge->period_start = due.from;
		charge->period_end = due.to;
		charge->of_days = due.of_days;
		charge->days = terms->charge == BILLING_RECURRING ? due.to - due.from : due.of_days;
		charge->quantity = terms->quantity;
		charge->has_events = false;
		charge->events = 0;
		charge->dimensions = "";
		charge->price_book_id = terms->price_book_id;
		charge->tariff = terms->tariff;
		charge->exact_amount = (Datum) 0;
	}
}

/* When an account is due again, and before which day its usage may have been billed. */
static void
look_ahead(BillingParty *party, const BillingTerms *terms)
{
	const BillingTermDays *days = &terms->days;
	DateADT day;

	if (billing_contract_due_after(days, party->through, &day))
		party->next_due = Min(party->next_due, day);
	if (terms->charge == BILLING_USAGE)
	{
		/* the end of the last period that has ended */
		day =
			days->end_date <= party->through
				? days->end_date
				: billing_core_period_start(days->anchor, days->unit, days->count,
											billing_core_period_index(days->anchor, days->unit,
																	  days->count, party->through));
		party->usage_billed_to = Max(party->usage_billed_to, Min(day, days->end_date));
	}
}

/* Gather what falls due of all accounts. */
static void
gather_all(BillingDerivation *derivation, BillingCharges *charges)
{
	BillingTermsReader reader;
	int i;
	int n;

	billing_contract_open_terms(&reader, derivation->biller.entity_id, derivation->snapshot);
	for (i = 0; i < derivation->nparties; i++)
	{
		BillingParty *party = &derivation->parties[i];

		CHECK_FOR_INTERRUPTS();
		billing_contract_read_terms(&reader, party->account_id);
		party->next_due = DATEVAL_NOEND;
		party->usage_billed_to = DATEVAL_NOBEGIN;
		for (n = 0; n < reader.count; n++)
		{
			gather_charges(party, i, &reader.terms[n], charges);
			if (!DATE_NOT_FINITE(party->through))
				look_ahead(party, &reader.terms[n]);
		}
		if (party->is_changed)
		{
			party->nitems = reader.nitems;
			party->items = palloc(sizeof(int64) * Max(reader.nitems, 1));
			memcpy(party->items, reader.item_ids, sizeof(int64) * reader.nitems);
		}
	}
	billing_contract_close_terms(&reader);
}

/* A charge for each group that was used, one for none where nothing was. */
static void
add_measured(const BillingCharge *charge, const BillingUsageGroup *groups, int ngroups,
			 BillingCharges *measured)
{
	bool any = false;
	int i;

	for (i = 0; i <= ngroups; i++)
	{
		BillingCharge *added;

		if (i == ngroups && any)
			break;
		if (i < ngroups && groups[i].events == 0 && billing_core_is_zero(groups[i].quantity))
			continue;
		added = add_charge(measured);
		*added = *charge;
		added->has_events = true;
		any = true;
		if (i == ngroups)
			added->quantity = NumericGetDatum(int64_to_numeric(0));
		else
		{
			added->quantity =
				PointerGetDatum(PG_DETOAST_DATUM_COPY(NumericGetDatum(groups[i].quantity)));
			added->events = groups[i].events;
			added->dimensions =
				groups[i].dimensions[0] == '\0' ? "" : pstrdup(groups[i].dimensions);
		}
	}
}

/* Put what was used in the place of what is due for usage. */
static void
measure_all(const BillingDerivation *derivation, BillingCharges *charges)
{
	int64 *accounts = palloc(sizeof(int64) * Max(derivation->nparties, 1));
	BillingCharges measured = { 0 };
	BillingUsageSource *source;
	int count = 0;
	int last = -1;
	int i;

	for (i = 0; i < charges->count; i++)
	{
		if (charges->charges[i].charge == BILLING_USAGE && charges->charges[i].party != last)
		{
			last = charges->charges[i].party;
			accounts[count++] = derivation->parties[last].account_id;
		}
	}
	if (count == 0)
		return;
	source =
		billing_usage_open(derivation->biller.entity_id, accounts, count, derivation->snapshot);
	for (i = 0; i < charges->count; i++)
	{
		const BillingCharge *charge = &charges->charges[i];
		BillingUsageGroup *groups;
		int ngroups;

		CHECK_FOR_INTERRUPTS();
		if (charge->charge != BILLING_USAGE)
		{
			*add_charge(&measured) = *charge;
			continue;
		}
		ngroups = billing_usage_measure(source, derivation->parties[charge->party].account_id,
										charge->usage_item, charge->meter_id, charge->period_start,
										charge->period_end, &groups);
		add_measured(charge, groups, ngroups, &measured);
	}
	billing_usage_close(source);
	pfree(charges->charges);
	*charges = measured;
}

/* Rate the single events of a charge; 0 where that cannot be done. */
static Datum
rate_by_event(const BillingDerivation *derivation, const BillingCharge *charge)
{
	Datum values[9];
	Datum amount;
	bool isnull;

	values[0] = Int32GetDatum(derivation->biller.entity_id);
	values[1] = Int64GetDatum(derivation->parties[charge->party].account_id);
	values[2] = Int64GetDatum(charge->usage_item);
	values[3] = Int64GetDatum(charge->meter_id);
	values[4] = DateADTGetDatum(charge->period_start);
	values[5] = DateADTGetDatum(charge->period_end);
	values[6] = CStringGetTextDatum(charge->dimensions);
	values[7] = CStringGetTextDatum(
		billing_rating_text((const BillingTariff *) DatumGetPointer(charge->tariff)));
	values[8] = Int64GetDatum(charge->events);
	SPI_connect();
	billing_core_run_at(&rate_events, values, NULL, derivation->snapshot);
	amount = billing_core_value_copy(0, 0, false, -1, &isnull);
	SPI_finish();
	return isnull ? (Datum) 0 : amount;
}

/* Rate a charge that has a price; 0 where it cannot be rated. */
static Datum
rate_charge(const BillingDerivation *derivation, FmgrInfo *flinfo, const BillingCharge *charge)
{
	Jsonb *dimensions = NULL;
	Datum amount;

	if (charge->has_events && charge->events > 1 &&
		billing_rating_prices_by_event(flinfo, charge->tariff))
		return rate_by_event(derivation, charge);
	if (charge->dimensions[0] != '\0')
		dimensions =
			DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(charge->dimensions)));
	if (billing_rating_try(flinfo, charge->tariff, charge->quantity,
						   charge->has_events ? &charge->events : NULL, dimensions, &amount))
		return amount;
	/* without usage no cell of a matrix is asked for */
	if (charge->has_events && charge->events == 0 &&
		billing_core_is_zero(DatumGetNumeric(charge->quantity)))
		return NumericGetDatum(int64_to_numeric(0));
	return (Datum) 0;
}

/* Whether a charge comes to nothing, because nothing was used and the price does not say otherwise. */
static bool
is_nothing(const BillingCharge *charge, Datum amount)
{
	return charge->has_events && charge->events == 0 && amount != (Datum) 0 &&
		   billing_core_is_zero(DatumGetNumeric(amount));
}

/* Price, rate and prorate all charges; those that come to nothing are dropped. */
static void
rate_all(const BillingDerivation *derivation, BillingCharges *charges)
{
	BillingPrices *prices =
		billing_rating_open_prices(derivation->biller.entity_id, derivation->snapshot);
	FmgrInfo flinfo = { 0 };
	int kept = 0;
	int i;

	flinfo.fn_mcxt = CurrentMemoryContext;
	for (i = 0; i < charges->count; i++)
	{
		BillingCharge *charge = &charges->charges[i];
		Datum amount = (Datum) 0;

		CHECK_FOR_INTERRUPTS();
		if (charge->tariff == (Datum) 0)
			charge->tariff = billing_rating_price_on(prices, charge->price_book_id,
													 charge->product_id, charge->period_start);
		if (charge->tariff != (Datum) 0)
			amount = rate_charge(derivation, &flinfo, charge);
		if (is_nothing(charge, amount))
			continue;
		if (amount != (Datum) 0 && charge->days != charge->of_days)
			amount = NumericGetDatum(
				billing_core_prorate_by(DatumGetNumeric(amount), charge->days, charge->of_days));
		charge->exact_amount = amount;
		charges->charges[kept++] = *charge;
	}
	charges->count = kept;
	billing_rating_close_prices(prices);
}

/*
 * Derive what accounts owe by their contracts.  Also says of each account when it
 * is due again, and of a changed one which items it has.
 */
void
billing_invoicing_entitle(BillingDerivation *derivation, BillingCharges *charges)
{
	memset(charges, 0, sizeof(BillingCharges));
	gather_all(derivation, charges);
	measure_all(derivation, charges);
	rate_all(derivation, charges);
}
