/*
 * invoicing_credit.c
 *		Credit notes by hand: a part of an invoice, or all of it, is taken back, for
 *		good or to be charged anew.
 *
 * How much is left of a line, and which tax goes with a part, is decided in
 * functions_credit.sql.  Here are the locks under which that is asked, and what is
 * written.  The account is locked as billing runs lock it, so that what is left
 * stays what it is until the credit note is there.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* What is to be credited, and why. */
typedef struct Credit
{
	int32 entity_id;
	int64 invoice_id;
	char *reference; /* as the caller names the invoice */
	char *reason;
	char *note;	  /* or NULL */
	Jsonb *lines; /* or NULL for all that is left */
	bool is_void;
	bool rebills;
} Credit;

/* $1 entity, $2 reason */
static BillingStatement find_reason = {
	"SELECT rebills, voids FROM billing.credit_reason WHERE $1 IS NOT NULL AND reason_code = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 invoice: locked after its account */
static BillingStatement lock_invoice = {
	"SELECT d.kind, d.state, EXISTS (SELECT FROM billing_internal.transition_of($1) t"
	" WHERE t.kind = d.kind AND t.from_state = d.state AND t.action = 'credit')"
	" FROM (SELECT kind, state FROM billing.document WHERE entity_id = $1 AND document_id = $2"
	"  FOR NO KEY UPDATE) d",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 lines */
static BillingStatement check_lines = {
	"SELECT billing_internal.credits_problem($1)", 1, { JSONBOID }, NULL
};

/* $1 entity, $2 invoice, $3 lines or null, $4 whether it is to be charged anew */
#define PLAN                                                                                  \
	"SELECT line_no, amount, quantity, problem FROM billing_internal.credit_plan($1, $2, $3)" \
	" WHERE NOT $4 UNION ALL"                                                                 \
	" SELECT line_no, amount, quantity, problem FROM billing_internal.rebill_plan($1, $2)"    \
	" WHERE $4"

static BillingStatement check_plan = { "SELECT count(*), min(problem) FROM (" PLAN ") p",
									   4,
									   { INT4OID, INT8OID, JSONBOID, BOOLOID },
									   NULL };

/* The same, and $5 reason, $6 note, $7 whether it voids the invoice, $8 maker */
static BillingStatement write_note = {
	"WITH origin AS MATERIALIZED ("
	" SELECT i.account_id, i.currency, y.minor_unit::integer AS minor_unit, e.rounding_mode,"
	"  (now() AT TIME ZONE e.time_zone)::date AS today,"
	"  nextval('billing.document_document_id_seq'::regclass) AS new_id"
	" FROM billing.invoice i JOIN billing.currency y ON y.currency = i.currency"
	" JOIN billing.legal_entity e ON e.entity_id = i.entity_id"
	" WHERE i.entity_id = $1 AND i.invoice_id = $2"
	"), line AS MATERIALIZED ("
	" SELECT l.*, row_number() OVER (ORDER BY p.line_no) AS new_no, -p.amount AS new_amount,"
	"  -p.quantity AS new_quantity FROM (" PLAN ") p"
	" JOIN billing.invoice_line l ON l.entity_id = $1 AND l.invoice_id = $2 AND l.line_no = p.line_no"
	"), tax AS MATERIALIZED ("
	" SELECT g.*, o.*, -billing_internal.credit_taxes($1, $2, o.new_id, g.category, g.rate, -g.base,"
	"   o.minor_unit, o.rounding_mode) AS tax,"
	"  (SELECT string_agg(DISTINCT t.exemption_reason, '; ') FROM billing.invoice_tax t"
	"   WHERE t.entity_id = $1 AND t.invoice_id = $2 AND t.category = g.category"
	"   AND t.rate = g.rate) AS exemption_reason"
	" FROM (SELECT tax_category AS category, tax_rate AS rate, sum(new_amount) AS base FROM line"
	"  GROUP BY tax_category, tax_rate) g CROSS JOIN origin o"
	"), total AS MATERIALIZED ("
	" SELECT new_id, account_id, currency, today, sum(base) AS net, sum(coalesce(tax, 0)) AS tax,"
	"  sum(base) + sum(coalesce(tax, 0)) AS total FROM tax"
	" GROUP BY new_id, account_id, currency, today"
	"), document AS ("
	" INSERT INTO billing.document (entity_id, document_id, kind, state, maker_id, amount, currency)"
	" SELECT $1, new_id, 'credit_note', 'draft', $8, total, currency FROM total"
	"), step AS ("
	" INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id,"
	"  reason) SELECT $1, new_id, 1, 'draft', 'draft', $8, $6 FROM total"
	"), invoice AS ("
	" INSERT INTO billing.invoice (entity_id, invoice_id, account_id, currency, billing_date, net, tax,"
	"  total) SELECT $1, new_id, account_id, currency, today, net, tax, total FROM total"
	"), credit_note AS ("
	" INSERT INTO billing.credit_note (entity_id, invoice_id, credits_invoice_id, reason_code, is_void,"
	"  rebills, note) SELECT $1, new_id, $2, $5, $7, $4, $6 FROM total"
	"), invoice_line AS ("
	" INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id,"
	"  charge_seq, charge_date, period_start, period_end, description, quantity, events, dimensions,"
	"  tariff, days, of_days, exact_amount, amount, tax_code_id, tax_category, tax_rate,"
	"  reverses_invoice_id, reverses_line_no)"
	" SELECT $1, o.new_id, l.new_no, CASE WHEN $4 THEN 'credit' ELSE 'adjustment' END, l.item_id,"
	"  l.version_id, l.charge_seq, l.charge_date, l.period_start, l.period_end, l.description,"
	"  l.new_quantity, l.events, l.dimensions, l.tariff, l.days, l.of_days,"
	"  CASE WHEN $4 THEN -l.exact_amount ELSE l.new_amount END, l.new_amount, l.tax_code_id,"
	"  l.tax_category, l.tax_rate, $2, l.line_no FROM line l CROSS JOIN origin o"
	"), invoice_tax AS ("
	" INSERT INTO billing.invoice_tax (entity_id, invoice_id, tax_no, category, rate, exemption_reason,"
	"  base, tax) SELECT $1, new_id, row_number() OVER (ORDER BY category, rate DESC), category, rate,"
	"  exemption_reason, base, tax FROM tax WHERE category IS NOT NULL"
	"), again AS ("
	" INSERT INTO billing.account_change (entity_id, account_id, reason)"
	" SELECT $1, account_id, 'credit' FROM total WHERE $4"
	"), audit AS ("
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after, reason)"
	" SELECT $1, 'draft', 'credit_note', new_id::text, jsonb_build_object('state', 'draft', 'version', 1,"
	"  'account', account_id, 'credits', 'D' || $2, 'reason_code', $5, 'void', $7, 'rebill', $4,"
	"  'currency', currency, 'net', net, 'tax', tax, 'total', total), $6 FROM total"
	") SELECT 'D' || new_id, total < 0 FROM total",
	8,
	{ INT4OID, INT8OID, JSONBOID, BOOLOID, TEXTOID, TEXTOID, BOOLOID, INT4OID },
	NULL
};

/* $1 entity, $2 documents that are being issued: the invoices that they credit, locked in their order */
static BillingStatement lock_credited = {
	"SELECT count(*) FROM (SELECT d.document_id FROM billing.document d WHERE d.entity_id = $1"
	" AND d.document_id IN (SELECT n.credits_invoice_id FROM unnest($2) AS q (document_id)"
	"  CROSS JOIN LATERAL (SELECT * FROM billing.credit_note o WHERE o.entity_id = $1"
	"   AND o.invoice_id = q.document_id OFFSET 0) n)"
	" ORDER BY d.document_id FOR NO KEY UPDATE) locked",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * The same: those of which issued documents have now taken back all, and the
 * others.  An invoice in a state that knows no crediting stays in it.
 */
static BillingStatement sort_credited = {
	"WITH origin AS MATERIALIZED (SELECT DISTINCT n.credits_invoice_id AS invoice_id"
	"  FROM billing.credit_note n WHERE n.entity_id = $1 AND n.invoice_id = ANY ($2)),"
	" judged AS (SELECT o.invoice_id, NOT EXISTS (SELECT FROM billing_internal.credit_left($1, o.invoice_id) f"
	"   WHERE f.left_amount <> 0) AND NOT EXISTS (SELECT FROM billing.credit_note n"
	"   JOIN billing.document d ON d.entity_id = n.entity_id AND d.document_id = n.invoice_id"
	"   LEFT JOIN billing_internal.state_of($1) s ON s.kind = d.kind AND s.state = d.state"
	"   WHERE n.entity_id = $1 AND n.credits_invoice_id = o.invoice_id"
	"   AND coalesce(s.stage, '') NOT IN ('effective', 'dropped')) AS is_wholly FROM origin o)"
	" SELECT array_agg(j.invoice_id ORDER BY j.invoice_id) FILTER (WHERE j.is_wholly),"
	"  array_agg(j.invoice_id ORDER BY j.invoice_id) FILTER (WHERE NOT j.is_wholly)"
	" FROM judged j JOIN billing.document d ON d.entity_id = $1 AND d.document_id = j.invoice_id"
	" JOIN billing_internal.transition_of($1) t ON t.kind = d.kind AND t.from_state = d.state"
	"  AND t.action = CASE WHEN j.is_wholly THEN 'credit' ELSE 'credit_partly' END",
	2,
	{ INT4OID, INT8ARRAYOID },
	NULL
};

/*
 * The arguments that all of them have: entity, invoice, reason, and after some of
 * its own the note.  Leaves SPI connected, and the invoice and its account locked.
 */
static char *
begin_credit(FunctionCallInfo fcinfo, int note_argno, Credit *credit, bool *creditable)
{
	Datum values[2];
	char *kind;

	memset(credit, 0, sizeof(*credit));
	credit->entity_id = billing_core_arg_entity(fcinfo, 0);
	billing_core_require_duty(credit->entity_id, "biller");
	credit->reference = billing_core_arg_code(fcinfo, 1, "invoice");
	credit->reason = billing_core_arg_code(fcinfo, 2, "reason code");
	credit->note = billing_core_arg_optional_text(fcinfo, note_argno, "note");
	SPI_connect();
	credit->invoice_id = billing_invoicing_find(credit->entity_id, credit->reference);
	billing_invoicing_lock_account(credit->entity_id, credit->invoice_id);
	values[0] = Int32GetDatum(credit->entity_id);
	values[1] = Int64GetDatum(credit->invoice_id);
	billing_core_run(&lock_invoice, values, NULL, false);
	kind = billing_core_text_value(0, 0);
	*creditable = DatumGetBool(billing_core_value(0, 2, NULL));
	if (strcmp(kind, "invoice") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_TRANSITION),
				 errmsg("document \"%s\" is no invoice", credit->reference),
				 errdetail("Its kind is %s.", kind),
				 errhint("A credit note is not credited; bill again what it credited wrongly.")));
	return billing_core_text_value(0, 1);
}

/* Refuse an invoice that cannot be credited now. */
static void
refuse_state(const Credit *credit, const char *state, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_TRANSITION),
					errmsg("cannot %s invoice \"%s\" in state %s",
						   credit->is_void ? "void" : "credit", credit->reference, state),
					errhint("%s", hint)));
}

/* Go on only for a reason that is there, and made for what is to be done. */
static void
check_reason(const Credit *credit)
{
	Datum values[2] = { Int32GetDatum(credit->entity_id), CStringGetTextDatum(credit->reason) };
	bool rebills;

	if (billing_core_run(&find_reason, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("reason code \"%s\" does not exist", credit->reason),
						errhint("billing.credit_reason lists those there are.")));
	rebills = DatumGetBool(billing_core_value(0, 0, NULL));
	if (rebills != credit->rebills)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg(rebills ? "reason \"%s\" is one for charging anew"
								: "reason \"%s\" is none for charging anew",
						credit->reason),
				 errhint("%s", rebills
								   ? "Use billing.credit_and_rebill(), or mend the price or the "
									 "contract and run billing."
								   : "Use billing.credit_invoice().")));
	if (credit->is_void && !DatumGetBool(billing_core_value(0, 1, NULL)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("reason \"%s\" is none for voiding an invoice", credit->reason),
						errhint("Use billing.credit_invoice(), or a reason that voids: "
								"billing.credit_reason lists them.")));
}

/* Refuse what cannot be credited. */
static void
refuse_plan(const Credit *credit, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_CONFLICT), errmsg("the invoice cannot be credited like that"),
			 errdetail("Invoice \"%s\": %s.", credit->reference, problem),
			 errhint("billing.credit_status() says what is left; drafts of credit notes "
					 "count.")));
}

/* Write the draft of the credit note, and return its reference. */
static Datum
write_credit(const Credit *credit)
{
	Datum values[8];
	char nulls[9] = "        ";
	bool isnull;
	Datum result;

	values[0] = Int32GetDatum(credit->entity_id);
	values[1] = Int64GetDatum(credit->invoice_id);
	values[2] = credit->lines != NULL ? JsonbPGetDatum(credit->lines) : (Datum) 0;
	nulls[2] = credit->lines != NULL ? ' ' : 'n';
	values[3] = BoolGetDatum(credit->rebills);
	values[4] = CStringGetTextDatum(credit->reason);
	values[5] = credit->note != NULL ? CStringGetTextDatum(credit->note) : (Datum) 0;
	nulls[5] = credit->note != NULL ? ' ' : 'n';
	values[6] = BoolGetDatum(credit->is_void);
	values[7] = Int32GetDatum(billing_core_actor_person());
	billing_core_run(&check_plan, values, nulls, false);
	if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0)
		refuse_plan(credit, "nothing is left of it");
	(void) billing_core_value(0, 1, &isnull);
	if (!isnull)
		refuse_plan(credit, billing_core_text_value(0, 1));
	billing_core_run(&write_note, values, nulls, false);
	if (!DatumGetBool(billing_core_value(0, 1, NULL)))
		refuse_plan(credit, "what is to be credited is not above zero");
	result = billing_core_value_copy(0, 0, false, -1, &isnull);
	SPI_finish();
	return result;
}

/*
 * Take the invoices that documents of a set credit to the state of invoices that
 * are credited, in part or wholly.  Between SPI_connect() and SPI_finish(), after
 * the set has been issued.
 */
void
billing_invoicing_settle_credits(int32 entity_id, Datum ids)
{
	Datum values[2] = { Int32GetDatum(entity_id), ids };
	Datum sets[2];
	bool none[2];

	billing_core_run(&lock_credited, values, NULL, false);
	if (DatumGetInt64(billing_core_value(0, 0, NULL)) == 0)
		return;
	billing_core_run(&sort_credited, values, NULL, false);
	for (int i = 0; i < 2; i++)
		sets[i] = billing_core_value_copy(0, i, false, -1, &none[i]);
	if (!none[0])
		billing_workflow_advance(entity_id, sets[0], "credit", NULL, true);
	if (!none[1])
		billing_workflow_advance(entity_id, sets[1], "credit_partly", NULL, true);
}

PG_FUNCTION_INFO_V1(billing_invoicing_credit);
PG_FUNCTION_INFO_V1(billing_invoicing_credit_and_rebill);
PG_FUNCTION_INFO_V1(billing_invoicing_void);

/* billing.credit_invoice(entity text, invoice text, reason_code text, lines jsonb, note text) RETURNS text */
Datum
billing_invoicing_credit(PG_FUNCTION_ARGS)
{
	Credit credit;
	bool creditable;
	char *state = begin_credit(fcinfo, 4, &credit, &creditable);

	check_reason(&credit);
	if (!PG_ARGISNULL(3))
	{
		Datum values[1];
		bool isnull;

		credit.lines = billing_core_arg_json(fcinfo, 3, "lines");
		values[0] = JsonbPGetDatum(credit.lines);
		billing_core_run(&check_lines, values, NULL, false);
		(void) billing_core_value(0, 0, &isnull);
		if (!isnull)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					 errmsg("%s", billing_core_text_value(0, 0)),
					 errhint(
						 "Give [{\"line\": 1}, {\"line\": 2, \"amount\": \"10.00\"}, {\"line\": 3, "
						 "\"quantity\": \"2\"}].")));
	}
	if (!creditable)
		refuse_state(&credit, state,
					 "Only an issued invoice is credited; one that is not issued is "
					 "discarded.");
	PG_RETURN_DATUM(write_credit(&credit));
}

/* billing.credit_and_rebill(entity text, invoice text, reason_code text, note text) RETURNS text */
Datum
billing_invoicing_credit_and_rebill(PG_FUNCTION_ARGS)
{
	Credit credit;
	bool creditable;
	char *state = begin_credit(fcinfo, 3, &credit, &creditable);

	credit.rebills = true;
	check_reason(&credit);
	if (!creditable)
		refuse_state(&credit, state,
					 "Only an issued invoice is credited; one that is not issued is "
					 "discarded, and billed anew.");
	PG_RETURN_DATUM(write_credit(&credit));
}

/*
 * billing.void_invoice(entity text, invoice text, reason_code text, note text) RETURNS text
 *
 * The reference of the credit note, or null where the invoice was discarded.
 */
Datum
billing_invoicing_void(PG_FUNCTION_ARGS)
{
	Credit credit;
	bool creditable;
	char *state = begin_credit(fcinfo, 3, &credit, &creditable);

	credit.is_void = true;
	check_reason(&credit);
	if (strcmp(state, "issued") == 0)
		PG_RETURN_DATUM(write_credit(&credit));
	if (creditable)
		refuse_state(&credit, state, "What is paid is not voided: credit it.");
	billing_invoicing_discard_one(credit.entity_id, credit.invoice_id,
								  credit.note == NULL
									  ? credit.reason
									  : psprintf("%s: %s", credit.reason, credit.note));
	SPI_finish();
	PG_RETURN_NULL();
}
