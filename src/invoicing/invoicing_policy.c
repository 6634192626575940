/*
 * invoicing_policy.c
 *		What an entity decides about its billing runs: what holds a document up for
 *		a person, and how far runs go by themselves.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "utils/array.h"
#include "utils/builtins.h"

/* Where the arguments stand that can be taken back, and the one that names them. */
#define ARGUMENT_REMOVE 7

static const struct
{
	const char *name;
	int argno;
} removable[] = {
	{ "max_amount", 1 },
	{ "max_lines", 2 },
	{ "max_score", 3 },
	{ "automatic_phase", 5 },
};

static BillingCall set_policy = {
	NULL,
	8,
	{ { "entity", ARG_ENTITY, false, NULL },
	  { "maximal amount", ARG_NUMERIC, true, NULL },
	  { "maximal number of lines", ARG_INTEGER, true, NULL },
	  { "maximal score", ARG_NUMERIC, true, NULL },
	  { "number of invoices compared", ARG_INTEGER, true, NULL },
	  { "phase of automatic runs", ARG_CODE, true, NULL },
	  { "start of automatic runs", ARG_ANY, true, NULL },
	  { "bounds to remove", ARG_ANY, true, NULL } },
	{ "INSERT INTO billing.billing_policy AS p (entity_id, max_amount, max_lines, max_score, history,"
	  " automatic_phase, automatic_from)"
	  " VALUES ($1, $2, $3, $4, coalesce($5, 12), $6, coalesce($7, '00:00'))"
	  " ON CONFLICT (entity_id) DO UPDATE SET"
	  " max_amount = CASE WHEN 'max_amount' = ANY ($8) THEN NULL"
	  "  ELSE coalesce($2, p.max_amount) END,"
	  " max_lines = CASE WHEN 'max_lines' = ANY ($8) THEN NULL ELSE coalesce($3, p.max_lines) END,"
	  " max_score = CASE WHEN 'max_score' = ANY ($8) THEN NULL ELSE coalesce($4, p.max_score) END,"
	  " history = coalesce($5, p.history),"
	  " automatic_phase = CASE WHEN 'automatic_phase' = ANY ($8) THEN NULL"
	  "  ELSE coalesce($6, p.automatic_phase) END,"
	  " automatic_from = coalesce($7, p.automatic_from)",
	  0,
	  { 0 },
	  NULL }
};

/* Refuse a name that is no bound, and a bound that is set in the same call. */
static void
check_removal(FunctionCallInfo fcinfo, const char *name)
{
	for (int i = 0; i < (int) lengthof(removable); i++)
	{
		if (strcmp(name, removable[i].name) != 0)
			continue;
		if (!PG_ARGISNULL(removable[i].argno))
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("bound \"%s\" cannot be set and removed at once", name),
							errhint("Give it a value, or name it under remove.")));
		return;
	}
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					errmsg("bound \"%s\" cannot be removed", name),
					errhint("Use max_amount, max_lines, max_score or automatic_phase.")));
}

/* Check the names of what is to be taken back. */
static void
check_removals(FunctionCallInfo fcinfo)
{
	ArrayType *names;
	Datum *elements;
	bool *nulls;
	int count;

	if (PG_ARGISNULL(ARGUMENT_REMOVE))
		return;
	names = PG_GETARG_ARRAYTYPE_P(ARGUMENT_REMOVE);
	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char *name;

		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
							errmsg("the name of a bound to remove must not be null"),
							errhint("Leave it out of the list.")));
		name = TextDatumGetCString(elements[i]);
		billing_core_check_code(name, "the name of a bound to remove");
		check_removal(fcinfo, name);
	}
}

PG_FUNCTION_INFO_V1(billing_invoicing_set_policy);

/*
 * billing.set_billing_policy(entity text, max_amount numeric, max_lines integer,
 *     max_score numeric, history integer, automatic_phase text, automatic_from time,
 *     remove text[]) RETURNS void
 *
 * Null leaves a decision as it is: a bound that protects must not go because
 * somebody set another one.
 */
Datum
billing_invoicing_set_policy(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(billing_core_arg_entity(fcinfo, 0));
	check_removals(fcinfo);
	SPI_connect();
	(void) billing_core_call(fcinfo, &set_policy);
	SPI_finish();
	PG_RETURN_VOID();
}
