/*
 * invoicing_derive.c
 *		What is entitled and what differs from what was billed, as rows.
 *
 * A billing run takes the same from memory.  Both read past row-level security,
 * so they answer only for entities that the actor may see.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "funcapi.h"
#include "invoicing/invoicing_entry.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/* The ids of an argument, sorted; NULL where it is null. */
static int64 *
arg_ids(FunctionCallInfo fcinfo, int argno, int *count)
{
	*count = 0;
	if (PG_ARGISNULL(argno))
		return NULL;
	return billing_invoicing_ids(PG_GETARG_DATUM(argno), count);
}

/*
 * Begin what the arguments (entity integer, accounts bigint[], through date,
 * changed bigint[]) ask for; false where there is nothing to derive.
 */
static bool
begin(FunctionCallInfo fcinfo, BillingDerivation *derivation)
{
	int64 *accounts;
	int64 *changed;
	int naccounts;
	int nchanged;

	InitMaterializedSRF(fcinfo, 0);
	accounts = arg_ids(fcinfo, 1, &naccounts);
	changed = arg_ids(fcinfo, 3, &nchanged);
	if (PG_ARGISNULL(0) || accounts == NULL || !billing_core_sees_entity(PG_GETARG_INT32(0)))
		return false;
	billing_invoicing_begin_derivation(derivation, PG_GETARG_INT32(0), accounts, naccounts,
									   PG_ARGISNULL(2) ? DATEVAL_NOBEGIN : PG_GETARG_DATEADT(2),
									   changed, nchanged, GetActiveSnapshot());
	return true;
}

/* A number that may be unknown, a text that may be missing, an id that may not be set. */
static void
set_datum(Datum *values, bool *nulls, int column, Datum value)
{
	values[column] = value;
	nulls[column] = value == (Datum) 0;
}

static void
set_text(Datum *values, bool *nulls, int column, const char *value)
{
	nulls[column] = value == NULL;
	values[column] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

static void
set_id(Datum *values, bool *nulls, int column, int64 value)
{
	nulls[column] = value == 0;
	values[column] = Int64GetDatum(value);
}

PG_FUNCTION_INFO_V1(billing_invoicing_entitlement);
PG_FUNCTION_INFO_V1(billing_invoicing_difference);

/*
 * billing_internal.entitlement(entity integer, accounts bigint[], through date, changed bigint[])
 * RETURNS TABLE (account_id bigint, item_id bigint, version_id bigint, product_id bigint,
 *     charge text, charge_date date, period_start date, period_end date, days integer,
 *     of_days integer, quantity numeric, events bigint, dimensions text, tariff billing.tariff,
 *     exact_amount numeric)
 */
Datum
billing_invoicing_entitlement(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	BillingDerivation derivation;
	BillingCharges charges;
	int i;

	if (!begin(fcinfo, &derivation))
		return (Datum) 0;
	billing_invoicing_entitle(&derivation, &charges);
	for (i = 0; i < charges.count; i++)
	{
		const BillingCharge *charge = &charges.charges[i];
		bool nulls[15] = { false };
		Datum values[15];

		values[0] = Int64GetDatum(derivation.parties[charge->party].account_id);
		values[1] = Int64GetDatum(charge->item_id);
		values[2] = Int64GetDatum(charge->version_id);
		values[3] = Int64GetDatum(charge->product_id);
		values[4] = CStringGetTextDatum(billing_contract_charge_names[charge->charge]);
		values[5] = DateADTGetDatum(charge->charge_date);
		values[6] = DateADTGetDatum(charge->period_start);
		values[7] = DateADTGetDatum(charge->period_end);
		values[8] = Int32GetDatum(charge->days);
		values[9] = Int32GetDatum(charge->of_days);
		values[10] = charge->quantity;
		values[11] = Int64GetDatum(charge->events);
		nulls[11] = !charge->has_events;
		values[12] = CStringGetTextDatum(charge->dimensions);
		set_datum(values, nulls, 13, charge->tariff);
		set_datum(values, nulls, 14, charge->exact_amount);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* A line that settles a difference, as a row. */
static void
put_entry(ReturnSetInfo *result, const BillingDerivation *derivation, const BillingEntry *entry)
{
	const BillingParty *party = &derivation->parties[entry->party];
	bool nulls[28] = { false };
	Datum values[28];

	values[0] = Int64GetDatum(party->account_id);
	values[1] = CStringGetTextDatum(party->currency);
	values[2] = CStringGetTextDatum(entry->is_credit ? "credit" : "charge");
	values[3] = DateADTGetDatum(entry->billing_date);
	values[4] = Int64GetDatum(entry->item_id);
	values[5] = Int64GetDatum(entry->version_id);
	set_text(values, nulls, 6,
			 entry->is_credit ? NULL : billing_contract_charge_names[entry->charge]);
	values[7] = Int32GetDatum(entry->charge_seq);
	values[8] = DateADTGetDatum(entry->charge_date);
	values[9] = DateADTGetDatum(entry->period_start);
	values[10] = DateADTGetDatum(entry->period_end);
	values[11] = Int32GetDatum(entry->days);
	values[12] = Int32GetDatum(entry->of_days);
	values[13] = entry->quantity;
	values[14] = Int64GetDatum(entry->events);
	nulls[14] = !entry->has_events;
	values[15] = CStringGetTextDatum(entry->dimensions);
	set_datum(values, nulls, 16, entry->tariff);
	set_datum(values, nulls, 17, entry->exact_amount);
	set_datum(values, nulls, 18, entry->amount);
	set_text(values, nulls, 19, entry->description);
	set_id(values, nulls, 20, entry->tax_code_id);
	set_text(values, nulls, 21, entry->tax_category);
	set_datum(values, nulls, 22, entry->tax_rate);
	set_text(values, nulls, 23, entry->exemption_reason);
	set_id(values, nulls, 24, entry->reverses_invoice_id);
	values[25] = Int32GetDatum(entry->reverses_line_no);
	nulls[25] = !entry->is_credit;
	values[26] = Int32GetDatum(party->minor_unit);
	values[27] = CStringGetTextDatum(derivation->biller.half_even ? "half_even" : "half_up");
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * billing_internal.difference(entity integer, accounts bigint[], through date, changed bigint[])
 * RETURNS TABLE (account_id bigint, currency text, kind text, billing_date date, item_id bigint,
 *     version_id bigint, charge text, charge_seq integer, charge_date date, period_start date,
 *     period_end date, days integer, of_days integer, quantity numeric, events bigint,
 *     dimensions text, tariff billing.tariff, exact_amount numeric, amount numeric,
 *     description text, tax_code_id bigint, tax_category text, tax_rate numeric,
 *     exemption_reason text, reverses_invoice_id bigint, reverses_line_no integer,
 *     minor_unit integer, rounding_mode text)
 */
Datum
billing_invoicing_difference(PG_FUNCTION_ARGS)
{
	BillingDerivation derivation;
	BillingEntries entries;
	int i;

	if (!begin(fcinfo, &derivation))
		return (Datum) 0;
	billing_invoicing_differ(&derivation, &entries);
	for (i = 0; i < entries.count; i++)
		put_entry((ReturnSetInfo *) fcinfo->resultinfo, &derivation, &entries.entries[i]);
	return (Datum) 0;
}
