/*
 * invoicing_judge.c
 *		How far the documents of a run go: what stands against each, and the steps
 *		that billing.transition lets it take in the run's phase.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "core/scan.h"
#include "invoicing/invoicing_bounds.h"
#include "invoicing/invoicing_document.h"
#include "miscadmin.h"
#include "utils/builtins.h"

/* A row of the state machine. */
typedef struct Transition
{
	const char *kind;
	const char *from_state;
	const char *action;
	const char *to_state;
} Transition;

/* What the entity has decided. */
typedef struct Policy
{
	bool hold_zero;
	Numeric approval_limit;
	Numeric max_amount;
	bool has_max_lines;
	int32 max_lines;
	Numeric max_score;
} Policy;

enum
{
	CUSTOMER_CODE,
	CUSTOMER_NAME,
	CUSTOMER_ADDRESS,
	CUSTOMER_POSTAL_CODE,
	CUSTOMER_CITY,
	CUSTOMER_COUNTRY,
	CUSTOMER_TAX_ID
};
static const char *const customer_columns[] = { "code", "name",	   "address", "postal_code",
												"city", "country", "tax_id" };

/* $1 entity */
static BillingStatement read_policy = {
	"SELECT e.zero_invoices = 'hold', e.auto_approve_limit::numeric, p.max_amount::numeric, p.max_lines,"
	" p.max_score FROM billing.legal_entity e LEFT JOIN billing.billing_policy p USING (entity_id)"
	" WHERE e.entity_id = $1",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity */
static BillingStatement read_transitions = {
	"SELECT kind, from_state, action, to_state FROM billing_internal.transition_of($1)"
	" WHERE kind IN ('invoice', 'credit_note')",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 accounts: the totals of their last invoices */
static BillingStatement read_history = {
	"SELECT account_id, history FROM billing_internal.invoice_terms($1, $2) ORDER BY account_id",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/* A number of the first row, NULL where it is null. */
static Numeric
number_value(int column)
{
	bool isnull;
	Datum value = billing_core_value_copy(0, column, false, -1, &isnull);

	return isnull ? NULL : DatumGetNumeric(value);
}

/* Read what the entity has decided. */
static void
load_policy(const BillingMaking *making, Policy *policy)
{
	Datum value = Int32GetDatum(making->run->entity_id);
	bool isnull;

	billing_core_run(&read_policy, &value, NULL, true);
	policy->hold_zero = DatumGetBool(billing_core_value(0, 0, &isnull)) && !isnull;
	policy->approval_limit = number_value(1);
	policy->max_amount = number_value(2);
	policy->max_lines = DatumGetInt32(billing_core_value(0, 3, &isnull));
	policy->has_max_lines = !isnull;
	policy->max_score = number_value(4);
}

/* Read the entity's state machine. */
static Transition *
load_transitions(const BillingMaking *making, int *count)
{
	Datum value = Int32GetDatum(making->run->entity_id);
	uint64 rows = billing_core_run(&read_transitions, &value, NULL, true);
	Transition *transitions = palloc(sizeof(Transition) * Max(rows, 1));
	uint64 i;

	for (i = 0; i < rows; i++)
	{
		transitions[i].kind = billing_core_text_value(i, 0);
		transitions[i].from_state = billing_core_text_value(i, 1);
		transitions[i].action = billing_core_text_value(i, 2);
		transitions[i].to_state = billing_core_text_value(i, 3);
	}
	*count = (int) rows;
	return transitions;
}

/* The histories of all parties, where a score is bounded; else NULL. */
static ArrayType **
load_histories(const BillingMaking *making, const Policy *policy)
{
	const BillingDerivation *derivation = &making->derivation;
	ArrayType **histories;
	Datum *accounts;
	Datum values[2];
	uint64 rows;
	uint64 i;
	int party = 0;

	if (policy->max_score == NULL)
		return NULL;
	histories = palloc0(sizeof(ArrayType *) * Max(derivation->nparties, 1));
	accounts = palloc(sizeof(Datum) * Max(derivation->nparties, 1));
	for (i = 0; i < (uint64) derivation->nparties; i++)
		accounts[i] = Int64GetDatum(derivation->parties[i].account_id);
	values[0] = Int32GetDatum(making->run->entity_id);
	values[1] = PointerGetDatum(construct_array(accounts, derivation->nparties, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	rows = billing_core_run(&read_history, values, NULL, true);
	for (i = 0; i < rows; i++)
	{
		int64 account_id = DatumGetInt64(billing_core_value(i, 0, NULL));
		bool isnull;
		Datum history;

		while (party < derivation->nparties && derivation->parties[party].account_id < account_id)
			party++;
		if (party == derivation->nparties || derivation->parties[party].account_id != account_id)
			continue;
		history = billing_core_value_copy(i, 1, false, -1, &isnull);
		histories[party] = isnull ? NULL : DatumGetArrayTypeP(history);
	}
	return histories;
}

/* A text of the current row, NULL where it is null. */
static const char *
text_of(const BillingScan *scan, int column)
{
	return billing_scan_isnull(scan, column)
			   ? NULL
			   : TextDatumGetCString(billing_scan_value(scan, column));
}

/* Read the customers of the parties that have documents. */
static void
load_customers(BillingMaking *making)
{
	const BillingDerivation *derivation = &making->derivation;
	BillingScan scan;
	int i;

	making->customers = palloc0(sizeof(BillingCustomer) * Max(derivation->nparties, 1));
	billing_core_scan_open(&scan, "customer", "customer_pkey", 2, false, customer_columns,
						   lengthof(customer_columns), derivation->snapshot);
	for (i = 0; i < making->ndocuments; i++)
	{
		int party = making->documents[i].party;
		BillingCustomer *customer = &making->customers[party];
		Datum keys[2] = { Int32GetDatum(making->run->entity_id),
						  Int64GetDatum(derivation->parties[party].customer_id) };

		if (customer->code != NULL)
			continue;
		billing_core_scan_find(&scan, keys);
		if (!billing_core_scan_next(&scan))
			ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
							errmsg("customer " INT64_FORMAT " does not exist",
								   derivation->parties[party].customer_id)));
		customer->code = text_of(&scan, CUSTOMER_CODE);
		customer->name = text_of(&scan, CUSTOMER_NAME);
		customer->address = text_of(&scan, CUSTOMER_ADDRESS);
		customer->postal_code = text_of(&scan, CUSTOMER_POSTAL_CODE);
		customer->city = text_of(&scan, CUSTOMER_CITY);
		customer->country = text_of(&scan, CUSTOMER_COUNTRY);
		customer->tax_id = text_of(&scan, CUSTOMER_TAX_ID);
	}
	billing_core_scan_close(&scan);
}

/* Look at a document. */
static void
inspect(const BillingMaking *making, const Policy *policy, ArrayType **histories,
		BillingDocument *document)
{
	const BillingParty *party = &making->derivation.parties[document->party];
	const BillingCustomer *customer = &making->customers[document->party];
	bool own_currency = strcmp(party->currency, making->derivation.biller.currency) == 0;
	BillingInspection inspection = { 0 };
	int i;

	inspection.is_invoice = !document->is_credit_note;
	inspection.total = DatumGetNumeric(document->total);
	inspection.currency = party->currency;
	inspection.lines = document->count;
	for (i = 0; i < document->ntaxes; i++)
	{
		const BillingTax *tax = &document->taxes[i];

		if (tax->category == NULL)
		{
			inspection.untaxed = tax->lines;
			inspection.has_untaxed_since = true;
			inspection.untaxed_since = tax->since;
		}
		else if (strcmp(tax->category, "AE") == 0 || strcmp(tax->category, "K") == 0)
			inspection.needs_tax_id = true;
	}
	inspection.address = customer->address;
	inspection.country = customer->country;
	inspection.tax_id = customer->tax_id;
	inspection.account = party->code;
	inspection.purchase_order_missing =
		party->needs_purchase_order && party->purchase_order == NULL;
	inspection.hold_zero = policy->hold_zero;
	inspection.unpriced = document->unpriced;
	inspection.max_amount = own_currency ? policy->max_amount : NULL;
	inspection.has_max_lines = policy->has_max_lines;
	inspection.max_lines = policy->max_lines;
	inspection.max_score = policy->max_score;
	inspection.history = histories != NULL ? histories[document->party] : NULL;
	document->problems = billing_invoicing_inspect(&inspection);
}

/* Have a document take a step, if the state machine has it. */
static bool
take_step(const Transition *transitions, int count, BillingDocument *document, const char *action)
{
	const char *state = billing_document_state(document);
	int i;

	for (i = 0; i < count; i++)
	{
		if (strcmp(transitions[i].action, action) == 0 &&
			strcmp(transitions[i].from_state, state) == 0 &&
			strcmp(transitions[i].kind, billing_document_kind(document)) == 0)
		{
			BillingStep *step = &document->steps[document->nsteps++];

			step->action = transitions[i].action;
			step->from_state = state;
			step->to_state = transitions[i].to_state;
			return true;
		}
	}
	return false;
}

/* Decide what becomes of every document, and read the customers. */
void
billing_invoicing_judge(BillingMaking *making)
{
	bool validates = strcmp(making->run->phase, "draft") != 0;
	bool issues = strcmp(making->run->phase, "issue") == 0;
	Transition *transitions;
	ArrayType **histories = NULL;
	Policy policy = { 0 };
	int ntransitions;
	int i;

	load_policy(making, &policy);
	if (validates)
		histories = load_histories(making, &policy);
	transitions = load_transitions(making, &ntransitions);
	load_customers(making);
	for (i = 0; i < making->ndocuments; i++)
	{
		BillingDocument *document = &making->documents[i];
		const BillingParty *party = &making->derivation.parties[document->party];

		CHECK_FOR_INTERRUPTS();
		document->nsteps = 1;
		document->steps[0].action = "draft";
		document->steps[0].to_state = "draft";
		if (!validates)
			continue;
		inspect(making, &policy, histories, document);
		if (take_step(transitions, ntransitions, document,
					  billing_invoicing_action(document->problems != NULL,
											   DatumGetNumeric(document->total),
											   strcmp(party->currency,
													  making->derivation.biller.currency) == 0
												   ? policy.approval_limit
												   : NULL,
											   false)) &&
			issues)
			(void) take_step(transitions, ntransitions, document, "issue");
	}
}
