/*
 * workflow_approval_delegate.c
 *		Who stands in for whom, from a date to a date, who is absent, and who is
 *		whose manager.
 *
 * What is written here gives nobody a right by itself: it is looked at when
 * somebody decides (billing.approval_candidate), where the delegate's own duties,
 * the maker and everybody who has spoken already count.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "utils/builtins.h"
#include "workflow/workflow.h"

/* $1 entity, $2 code */
static BillingStatement person_by_code = {
	"SELECT person_id::bigint FROM billing.person WHERE $1 IS NOT NULL AND code = $2 AND person_id <> 0",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement duty_by_name = {
	"SELECT 1::bigint FROM billing.duty WHERE $1 IS NOT NULL AND duty = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1, $2 persons: nobody else delegates from or to them meanwhile */
static BillingStatement lock_persons = {
	"SELECT 1 FROM billing.person WHERE person_id IN ($1, $2) ORDER BY person_id FOR NO KEY UPDATE",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* $1 entity, $2 from whom, $3 to whom, $4 first day, $5 day after the last: whoever the delegate delegates to, and so on */
static BillingStatement find_loop = {
	"WITH RECURSIVE reached (person_id) AS (SELECT $3 UNION"
	" SELECT g.to_person FROM reached r JOIN billing.delegation g ON g.entity_id = $1"
	"  AND g.from_person = r.person_id AND daterange(g.valid_from, g.valid_to) && daterange($4, $5))"
	" SELECT 1 FROM reached WHERE person_id = $2",
	5,
	{ INT4OID, INT4OID, INT4OID, DATEOID, DATEOID },
	NULL
};

/* $1 entity, $2 from whom, $3 to whom, $4 duty, $5 amount, $6 first day, $7 day after the last, $8 reason */
static BillingStatement insert_delegation = {
	"INSERT INTO billing.delegation (entity_id, from_person, to_person, duty, max_amount, valid_from,"
	" valid_to, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING delegation_id",
	8,
	{ INT4OID, INT4OID, INT4OID, TEXTOID, NUMERICOID, DATEOID, DATEOID, TEXTOID },
	NULL
};

/* $1 entity, $2 delegation */
static BillingStatement find_delegation = {
	"SELECT from_person, to_person FROM billing.delegation WHERE entity_id = $1 AND delegation_id = $2"
	" FOR NO KEY UPDATE",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 delegation, $3 day */
static BillingStatement end_delegation = {
	"UPDATE billing.delegation SET valid_to = greatest(valid_from, $3)"
	" WHERE entity_id = $1 AND delegation_id = $2 AND valid_to > $3",
	3,
	{ INT4OID, INT8OID, DATEOID },
	NULL
};

/* $1 entity, $2 person, $3 first day, $4 day after the last, $5 reason */
static BillingStatement insert_absence = {
	"INSERT INTO billing.absence (entity_id, person_id, valid_from, valid_to, reason)"
	" VALUES ($1, $2, $3, $4, $5) RETURNING absence_id",
	5,
	{ INT4OID, INT4OID, DATEOID, DATEOID, TEXTOID },
	NULL
};

/* $1 entity, $2 person, $3 day */
static BillingStatement end_absence = {
	"UPDATE billing.absence SET valid_to = greatest(valid_from, $3)"
	" WHERE entity_id = $1 AND person_id = $2 AND valid_to > $3",
	3,
	{ INT4OID, INT4OID, DATEOID },
	NULL
};

/* $1 entity, $2 person, $3 manager */
static BillingStatement set_manager = {
	"INSERT INTO billing.reporting_line (entity_id, person_id, manager_id) VALUES ($1, $2, $3)"
	" ON CONFLICT ON CONSTRAINT reporting_line_pkey DO UPDATE SET manager_id = excluded.manager_id",
	3,
	{ INT4OID, INT4OID, INT4OID },
	NULL
};

static BillingStatement drop_manager = {
	"DELETE FROM billing.reporting_line WHERE entity_id = $1 AND person_id = $2",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* Refuse what gives the admin who does it a right of their own. */
static void
refuse_self(int32 person_id, const char *what)
{
	if (billing_core_is_installation_admin() ||
		(person_id != billing_core_actor_person() && person_id != billing_core_login_person()))
		return;
	ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES), errmsg("nobody %s", what),
					errhint("Ask another person with the duty admin.")));
}

/*
 * The person that a call is about: the actor, or whom an admin names.  An actor
 * must hold something in the entity, or they would not see it.
 */
static int32
subject_of(FunctionCallInfo fcinfo, int argno, int32 entity_id)
{
	char *code = billing_core_arg_optional_code(fcinfo, argno, "person");
	int32 actor = billing_core_actor_person();
	int32 person_id;

	if (code == NULL)
	{
		static const char *const any[] = { "approver",		"biller",	 "contract_manager",
										   "price_manager", "collector", "accountant",
										   "admin",			"reader",	 "auditor",
										   "application" };

		billing_core_require_any_duty(entity_id, any, lengthof(any));
		return actor;
	}
	person_id = (int32) billing_core_lookup(entity_id, code, "person", &person_by_code);
	if (person_id != actor)
		billing_core_require_admin(entity_id);
	return person_id;
}

/* The days of a call: both given, in their order. */
static void
read_days(FunctionCallInfo fcinfo, int argno, Datum *first, Datum *end)
{
	DateADT valid_from = billing_core_arg_date(fcinfo, argno, "first day");
	DateADT valid_to = billing_core_arg_date(fcinfo, argno + 1, "day after the last");

	if (valid_to <= valid_from)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("day after the last must be later than the first day"),
						errhint("For one day give the day and the next.")));
	*first = DateADTGetDatum(valid_from);
	*end = DateADTGetDatum(valid_to);
}

/* A day, or today in the entity. */
static Datum
day_or_today(FunctionCallInfo fcinfo, int argno, int32 entity_id)
{
	bool isnull;
	DateADT day = billing_core_arg_optional_date(fcinfo, argno, "day", &isnull);

	return DateADTGetDatum(isnull ? billing_core_entity_today(entity_id) : day);
}

/*
 * Write a delegation: values as insert_delegation has them.  One that leads back
 * to where it began is refused, by whatever way.
 */
static int64
delegate(Datum *values, const char *nulls)
{
	Datum persons[2] = { values[1], values[2] };
	Datum loop[5] = { values[0], values[1], values[2], values[5], values[6] };

	if (DatumGetInt32(values[1]) == DatumGetInt32(values[2]))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("nobody delegates to themselves"), errhint("Name another person.")));
	billing_core_run_privileged(&lock_persons, persons, NULL, false);
	if (billing_core_run_latest(&find_loop, loop, NULL) > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_BILLING_CONFLICT),
			 errmsg("person \"%s\" has delegated to the delegator, themselves or through others",
					pstrdup(billing_core_person_code(DatumGetInt32(values[2])))),
			 errhint("End that delegation first with billing.end_delegation().")));
	billing_core_run(&insert_delegation, values, nulls, false);
	return DatumGetInt64(billing_core_value(0, 0, NULL));
}

PG_FUNCTION_INFO_V1(billing_workflow_delegate);
PG_FUNCTION_INFO_V1(billing_workflow_end_delegation);
PG_FUNCTION_INFO_V1(billing_workflow_set_absence);
PG_FUNCTION_INFO_V1(billing_workflow_end_absence);
PG_FUNCTION_INFO_V1(billing_workflow_set_manager);

/*
 * billing.delegate(entity text, to_person text, valid_from date, valid_to date, duty text,
 *                  max_amount numeric, reason text, from_person text) RETURNS bigint
 */
Datum
billing_workflow_delegate(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *to = billing_core_arg_code(fcinfo, 1, "delegate");
	char *duty = billing_core_arg_optional_code(fcinfo, 4, "duty");
	Numeric amount = billing_core_arg_optional_numeric(fcinfo, 5, "largest amount");
	char *reason = billing_core_arg_optional_text(fcinfo, 6, "reason");
	Datum values[8];
	char nulls[9] = "        ";
	int64 delegation;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(subject_of(fcinfo, 7, entity_id));
	values[2] =
		Int32GetDatum((int32) billing_core_lookup(entity_id, to, "person", &person_by_code));
	if (DatumGetInt32(values[1]) != billing_core_actor_person())
		refuse_self(DatumGetInt32(values[2]), "delegates the rights of another to themselves");
	if (duty != NULL)
		(void) billing_core_lookup(entity_id, duty, "duty", &duty_by_name);
	values[3] = duty != NULL ? CStringGetTextDatum(duty) : (Datum) 0;
	values[4] = amount != NULL ? NumericGetDatum(amount) : (Datum) 0;
	read_days(fcinfo, 2, &values[5], &values[6]);
	values[7] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	nulls[3] = duty == NULL ? 'n' : ' ';
	nulls[4] = amount == NULL ? 'n' : ' ';
	nulls[7] = reason == NULL ? 'n' : ' ';
	SPI_connect();
	delegation = delegate(values, nulls);
	SPI_finish();
	PG_RETURN_INT64(delegation);
}

/* billing.end_delegation(entity text, delegation bigint, day date) RETURNS void: by either of the two, or an admin */
Datum
billing_workflow_end_delegation(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	int32 actor = billing_core_actor_person();
	Datum values[3];
	bool found;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("delegation must not be null"),
				 errhint("billing.delegation lists them.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = day_or_today(fcinfo, 2, entity_id);
	if (DatumGetDateADT(values[2]) < billing_core_entity_today(entity_id))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("a delegation does not end in the past"),
				 errdetail("What was decided under it stands."), errhint("Leave the day out.")));
	SPI_connect();
	found = billing_core_run(&find_delegation, values, NULL, false) > 0;
	if (found && actor != DatumGetInt32(billing_core_value(0, 0, NULL)) &&
		actor != DatumGetInt32(billing_core_value(0, 1, NULL)))
		billing_core_require_admin(entity_id);
	if (!found || billing_core_run(&end_delegation, values, NULL, false) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("delegation " INT64_FORMAT " does not last longer than that",
							   PG_GETARG_INT64(1)),
						errhint("billing.delegation lists them.")));
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing.set_absence(entity text, valid_from date, valid_to date, delegate text, reason text,
 *                     person text) RETURNS bigint
 *
 * With a delegate it is a delegation for the same days as well.
 */
Datum
billing_workflow_set_absence(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *to = billing_core_arg_optional_code(fcinfo, 3, "delegate");
	char *reason = billing_core_arg_optional_text(fcinfo, 4, "reason");
	Datum values[8];
	Datum absent[5];
	int64 absence;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(subject_of(fcinfo, 5, entity_id));
	read_days(fcinfo, 1, &values[5], &values[6]);
	values[7] = reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0;
	absent[0] = values[0];
	absent[1] = values[1];
	absent[2] = values[5];
	absent[3] = values[6];
	absent[4] = values[7];
	SPI_connect();
	billing_core_run(&insert_absence, absent, reason == NULL ? "    n" : NULL, false);
	absence = DatumGetInt64(billing_core_value(0, 0, NULL));
	if (to != NULL)
	{
		values[2] =
			Int32GetDatum((int32) billing_core_lookup(entity_id, to, "person", &person_by_code));
		if (DatumGetInt32(values[1]) != billing_core_actor_person())
			refuse_self(DatumGetInt32(values[2]), "delegates the rights of another to themselves");
		(void) delegate(values, reason == NULL ? "   nn  n" : "   nn   ");
	}
	SPI_finish();
	PG_RETURN_INT64(absence);
}

/* billing.end_absence(entity text, day date, person text) RETURNS void: they are back on that day (today) */
Datum
billing_workflow_end_absence(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	Datum values[3];
	uint64 ended;

	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(subject_of(fcinfo, 2, entity_id));
	values[2] = day_or_today(fcinfo, 1, entity_id);
	SPI_connect();
	ended = billing_core_run(&end_absence, values, NULL, false);
	SPI_finish();
	if (ended == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("no absence lasts longer than that"),
				 errhint("billing.absence lists them.")));
	PG_RETURN_VOID();
}

/* billing.set_manager(entity text, person text, manager text) RETURNS void: null for nobody */
Datum
billing_workflow_set_manager(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *person = billing_core_arg_code(fcinfo, 1, "person");
	char *manager = billing_core_arg_optional_code(fcinfo, 2, "manager");
	Datum values[3];

	billing_core_require_admin(entity_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] =
		Int32GetDatum((int32) billing_core_lookup(entity_id, person, "person", &person_by_code));
	if (manager != NULL)
	{
		values[2] = Int32GetDatum(
			(int32) billing_core_lookup(entity_id, manager, "person", &person_by_code));
		refuse_self(DatumGetInt32(values[2]), "makes themselves the manager of another");
	}
	SPI_connect();
	billing_core_run(manager != NULL ? &set_manager : &drop_manager, values, NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}
