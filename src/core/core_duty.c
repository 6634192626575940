/*
 * core_duty.c
 *		What the actor may do: duties of a person in a legal entity, from a date
 *		to a date, and the entities whose rows they may see.
 *
 * Where a session acts for somebody, the login's own person must hold the duty
 * application in the same entity: an application cannot reach further than it
 * was let in, whomever it acts for.  The system, person 0, goes on with what a
 * person began.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* $1 entity, $2 the acting person, $3 the login's person, $4 the duty */
static BillingStatement holds_duty = {
	"SELECT 1 FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	" WHERE entity_id = $1 AND a.person_id = $2 AND a.duty = $4"
	" AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date"
	" AND ($2 = $3 OR $3 = 0 OR EXISTS (SELECT FROM billing.duty_assignment p"
	"   WHERE p.entity_id = a.entity_id AND p.person_id = $3 AND p.duty = 'application'"
	"   AND daterange(p.valid_from, p.valid_to) @> (now() AT TIME ZONE e.time_zone)::date))",
	4,
	{ INT4OID, INT4OID, INT4OID, TEXTOID },
	NULL
};

/* $1 the acting person, $2 the login's person */
static BillingStatement entities_of = {
	"SELECT coalesce(array_agg(DISTINCT entity_id), '{}')"
	" FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	" WHERE a.person_id = $1"
	" AND daterange(a.valid_from, a.valid_to) @> (now() AT TIME ZONE e.time_zone)::date"
	" AND ($1 = $2 OR $2 = 0 OR EXISTS (SELECT FROM billing.duty_assignment p"
	"   WHERE p.entity_id = a.entity_id AND p.person_id = $2 AND p.duty = 'application'"
	"   AND daterange(p.valid_from, p.valid_to) @> (now() AT TIME ZONE e.time_zone)::date))",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* entity 0 stands for the installation: the audit of persons and currencies */
static BillingStatement all_entities = {
	"SELECT array_agg(entity_id) || 0 FROM billing.legal_entity", 0, { 0 }, NULL
};

/* an entity that the actor does not see has no name for them */
static BillingStatement name_of_entity = {
	"SELECT code FROM billing.legal_entity WHERE entity_id = $1", 1, { INT4OID }, NULL
};

/* Refuse to work in a database that is being restored, and for a session that is nobody. */
static void
require_actor(int32 actor)
{
	if (billing_core_restoring)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_RESTORE_STATE), errmsg("database is being restored"),
				 errhint("Call billing.post_restore() when the restore has ended.")));
	if (actor < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_ACTOR),
						errmsg("session user \"%s\" is nobody's login",
							   GetUserNameFromId(GetSessionUserId(), false)),
						errhint("Give the role to a person with billing.add_login().")));
}

/* Whether the actor holds a duty in an entity today, in the entity's time zone. */
bool
billing_core_has_duty(int32 entity_id, const char *duty)
{
	int32 actor = billing_core_actor_person();
	Datum values[4];
	bool holds;

	if (actor == BILLING_SYSTEM_PERSON)
		return true;
	if (actor < 0)
		return false;
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(actor);
	values[2] = Int32GetDatum(billing_core_login_person());
	values[3] = CStringGetTextDatum(duty);
	SPI_connect();
	holds = billing_core_run_privileged(&holds_duty, values, NULL, true) > 0;
	SPI_finish();
	return holds;
}

/* Raise ERRCODE_BILLING_DUTY_REQUIRED, naming person, duty and entity. */
static void
raise_duty_required(int32 entity_id, const char *duty)
{
	Datum values[1] = { Int32GetDatum(entity_id) };
	const char *person = billing_core_person_code(billing_core_actor_person());
	char *entity = NULL;

	SPI_connect();
	if (billing_core_run(&name_of_entity, values, NULL, true) > 0)
		entity = billing_core_text_value(0, 0);
	SPI_finish();
	ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
					errmsg("person \"%s\" does not hold the duty %s in entity \"%s\"",
						   person != NULL ? person : "?", duty, entity != NULL ? entity : "?"),
					errhint("A person with the duty admin can grant it with "
							"billing.grant_duty().")));
}

/* Go on only if the actor holds the duty in the entity. */
void
billing_core_require_duty(int32 entity_id, const char *duty)
{
	billing_core_require_any_duty(entity_id, &duty, 1);
}

/* Go on only if the actor holds one of the duties; the error names the first. */
void
billing_core_require_any_duty(int32 entity_id, const char *const *duties, int nduties)
{
	int i;

	require_actor(billing_core_actor_person());
	for (i = 0; i < nduties; i++)
	{
		if (billing_core_has_duty(entity_id, duties[i]))
			return;
	}
	raise_duty_required(entity_id, duties[0]);
}

/*
 * Go on for a member of billing_owner, who sets the installation up, and for a
 * person with the duty admin; entity 0 is the installation itself.
 */
void
billing_core_require_admin(int32 entity_id)
{
	if (billing_core_restoring)
		require_actor(BILLING_SYSTEM_PERSON);
	if (billing_core_is_installation_admin())
		return;
	if (entity_id == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
						errmsg("session user \"%s\" is not a member of billing_owner",
							   GetUserNameFromId(GetSessionUserId(), false)),
						errhint("Persons, logins and entities are set up by the database's "
								"administrator.")));
	billing_core_require_duty(entity_id, "admin");
}

/* The entities whose rows the actor may see, as integer[]. */
static Datum
seen_entities(void)
{
	int32 actor = billing_core_actor_person();
	Datum values[2];
	Datum entities;
	bool isnull;
	bool all = actor == BILLING_SYSTEM_PERSON ||
			   (actor == billing_core_login_person() && billing_core_is_installation_admin());

	if (actor < 0 && !all)
		return PointerGetDatum(construct_empty_array(INT4OID));
	SPI_connect();
	if (all)
		billing_core_run_privileged(&all_entities, NULL, NULL, true);
	else
	{
		values[0] = Int32GetDatum(actor);
		values[1] = Int32GetDatum(billing_core_login_person());
		billing_core_run_privileged(&entities_of, values, NULL, true);
	}
	entities = billing_core_value_copy(0, 0, false, -1, &isnull);
	SPI_finish();
	return isnull ? PointerGetDatum(construct_empty_array(INT4OID)) : entities;
}

/* Whether the actor may see the rows of an entity. */
bool
billing_core_sees_entity(int32 entity_id)
{
	Datum *entities;
	int count;
	int i;

	deconstruct_array(DatumGetArrayTypeP(seen_entities()), INT4OID, sizeof(int32), true,
					  TYPALIGN_INT, &entities, NULL, &count);
	for (i = 0; i < count; i++)
	{
		if (DatumGetInt32(entities[i]) == entity_id)
			return true;
	}
	return false;
}

PG_FUNCTION_INFO_V1(billing_core_my_entities);
PG_FUNCTION_INFO_V1(billing_core_holds_duty);
PG_FUNCTION_INFO_V1(billing_core_check_duty);
PG_FUNCTION_INFO_V1(billing_core_check_admin);

/*
 * billing.my_entities() RETURNS integer[]
 *
 * The entities whose rows the actor may see: those where they hold any duty
 * today; all of them for the system and for members of billing_owner.
 */
Datum
billing_core_my_entities(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(seen_entities());
}

/* billing.has_duty(entity text, duty text) RETURNS boolean */
Datum
billing_core_holds_duty(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *duty = billing_core_arg_code(fcinfo, 1, "duty");

	PG_RETURN_BOOL(billing_core_has_duty(entity_id, duty));
}

/*
 * billing_internal.require_duty(entity_id integer, VARIADIC duties text[]) RETURNS void
 *
 * What the SQL functions call first.
 */
Datum
billing_core_check_duty(PG_FUNCTION_ARGS)
{
	ArrayType *array = PG_GETARG_ARRAYTYPE_P(1);
	Datum *elements;
	int count;
	const char **duties;
	int i;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	duties = palloc(sizeof(char *) * (count + 1));
	for (i = 0; i < count; i++)
		duties[i] = TextDatumGetCString(elements[i]);
	billing_core_require_any_duty(PG_GETARG_INT32(0), duties, count);
	PG_RETURN_VOID();
}

/* billing_internal.require_admin(entity_id integer) RETURNS void */
Datum
billing_core_check_admin(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}
