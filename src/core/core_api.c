/*
 * core_api.c
 *		Setting an installation up: entities, persons, their logins and duties.
 *
 * A member of billing_owner begins; from the first admin on, an entity grants
 * its own duties.  Nobody grants a duty to themselves, and nobody may hold two
 * duties that conflict on the same day.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"

static BillingStatement person_by_code = {
	"SELECT person_id::bigint FROM billing.person WHERE $1 IS NOT NULL AND code = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 code: also a person who holds no duty yet, and whom the actor therefore does not see */
static BillingStatement any_person = {
	"SELECT person_id FROM billing.person WHERE code = $1", 1, { TEXTOID }, NULL
};

static BillingStatement duty_by_name = {
	"SELECT 1::bigint FROM billing.duty WHERE $1 IS NOT NULL AND duty = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement currency_by_code = {
	"SELECT 1::bigint FROM billing.currency WHERE $1 IS NOT NULL AND currency = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement zone_by_name = {
	"SELECT 1 FROM pg_timezone_names WHERE name = $1", 1, { TEXTOID }, NULL
};

static BillingCall create_entity = {
	NULL,
	7,
	{ { "entity", ARG_CODE, false, NULL },
	  { "name", ARG_TEXT, false, NULL },
	  { "currency", ARG_CODE, false, NULL },
	  { "time zone", ARG_CODE, false, NULL },
	  { "country", ARG_CODE, true, NULL },
	  { "fiscal year start", ARG_INTEGER, false, NULL },
	  { "rounding mode", ARG_CODE, false, NULL } },
	{ "INSERT INTO billing.legal_entity (code, name, currency, time_zone, country,"
	  " fiscal_year_start, rounding_mode) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	  0,
	  { 0 },
	  NULL }
};

static BillingCall add_person = {
	NULL,
	2,
	{ { "person", ARG_CODE, false, NULL }, { "name", ARG_TEXT, false, NULL } },
	{ "INSERT INTO billing.person (code, name) VALUES ($1, $2)", 0, { 0 }, NULL }
};

static BillingCall add_login = {
	NULL,
	2,
	{ { "person", ARG_REFERENCE, false, &person_by_code }, { "role", ARG_CODE, false, NULL } },
	{ "INSERT INTO billing.person_login (person_id, role_name) VALUES ($1::integer, $2::name)",
	  0,
	  { 0 },
	  NULL }
};

/* $1 person: nobody else grants to the person meanwhile */
static BillingStatement lock_person = {
	"SELECT 1 FROM billing.person WHERE person_id = $1 FOR NO KEY UPDATE", 1, { INT8OID }, NULL
};

/* $1 entity, $2 person, $3 duty, $4 from, $5 to */
static BillingStatement find_conflict = {
	"SELECT a.duty, c.reason FROM billing.duty_assignment a JOIN billing.duty_conflict c"
	" ON (c.duty, c.conflict_duty) IN ((a.duty, $3), ($3, a.duty))"
	" WHERE a.entity_id = $1 AND a.person_id = $2"
	" AND daterange(a.valid_from, a.valid_to) && daterange($4, $5) ORDER BY a.duty LIMIT 1",
	5,
	{ INT4OID, INT8OID, TEXTOID, DATEOID, DATEOID },
	NULL
};

static BillingStatement insert_duty = {
	"INSERT INTO billing.duty_assignment"
	" (entity_id, person_id, duty, valid_from, valid_to, approval_level, approval_limit, daily_limit)"
	" VALUES ($1, $2::integer, $3, $4, $5, $6, $7, $8)",
	8,
	{ INT4OID, INT8OID, TEXTOID, DATEOID, DATEOID, INT4OID, NUMERICOID, NUMERICOID },
	NULL
};

/* what has not begun by that day is taken back as a whole: it ends when it begins */
static BillingStatement end_duty = {
	"UPDATE billing.duty_assignment SET valid_to = greatest($4, valid_from)"
	" WHERE entity_id = $1 AND person_id = $2 AND duty = $3"
	" AND (valid_to IS NULL OR valid_to > $4)",
	4,
	{ INT4OID, INT8OID, TEXTOID, DATEOID },
	NULL
};

/* Whether a name is among those of the server's time zones; it reads all their files. */
static bool
is_listed_zone(const char *name)
{
	Datum values[1] = { CStringGetTextDatum(name) };
	bool found;

	SPI_connect();
	found = billing_core_run(&zone_by_name, values, NULL, true) > 0;
	SPI_finish();
	return found;
}

/*
 * Refuse a time zone that the server does not know.  What has digits may be a
 * rule of POSIX, such as "X1", instead of a name.
 */
static void
check_time_zone(const char *name)
{
	pg_tz *zone = pg_tzset(name);

	if (zone == NULL || !pg_tz_acceptable(zone) ||
		(strpbrk(name, "0123456789") != NULL && !is_listed_zone(name)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("time zone \"%s\" does not exist", name),
						errhint("Use an IANA name such as Europe/Rome; "
								"SELECT name FROM pg_timezone_names lists them.")));
}

PG_FUNCTION_INFO_V1(billing_core_create_entity);
PG_FUNCTION_INFO_V1(billing_core_add_person);
PG_FUNCTION_INFO_V1(billing_core_add_login);
PG_FUNCTION_INFO_V1(billing_core_grant_duty);
PG_FUNCTION_INFO_V1(billing_core_revoke_duty);

/* billing.create_entity(entity, name, currency, time_zone, country, fiscal_year_start, rounding_mode) */
Datum
billing_core_create_entity(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(0);
	check_time_zone(billing_core_arg_code(fcinfo, 3, "time zone"));
	(void) billing_core_lookup(0, billing_core_arg_code(fcinfo, 2, "currency"), "currency",
							   &currency_by_code);
	SPI_connect();
	billing_core_call(fcinfo, &create_entity);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.add_person(person, name) */
Datum
billing_core_add_person(PG_FUNCTION_ARGS)
{
	billing_core_require_admin(0);
	SPI_connect();
	billing_core_call(fcinfo, &add_person);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.add_login(person, role): the role must exist and may belong to one person only */
Datum
billing_core_add_login(PG_FUNCTION_ARGS)
{
	char *role = billing_core_arg_code(fcinfo, 1, "role");
	char *person = billing_core_arg_code(fcinfo, 0, "person");

	billing_core_require_admin(0);
	if (strcmp(person, billing_core_person_code(BILLING_SYSTEM_PERSON)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_ACTOR), errmsg("nobody logs in as the system"),
				 errhint("Name a person, or add one with billing.add_person().")));
	if (!OidIsValid(get_role_oid(role, true)))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_CODE), errmsg("role \"%s\" does not exist", role),
				 errhint("Create it with CREATE ROLE ... LOGIN IN ROLE billing_user.")));
	SPI_connect();
	billing_core_call(fcinfo, &add_login);
	SPI_finish();
	PG_RETURN_VOID();
}

/* The person whom an admin grants a duty to or takes it from, by code. */
static int64
find_person(const char *code)
{
	Datum values[1] = { CStringGetTextDatum(code) };
	int64 person_id = 0;
	bool found;

	SPI_connect();
	found = billing_core_run_privileged(&any_person, values, NULL, false) > 0;
	if (found)
		person_id = DatumGetInt32(billing_core_value(0, 0, NULL));
	SPI_finish();
	if (!found)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("person \"%s\" does not exist", code),
						errhint("A member of billing_owner creates persons with "
								"billing.add_person().")));
	return person_id;
}

/* Refuse a duty that conflicts with another of the person in the same entity and time. */
static void
check_conflict(Datum *values, const char *nulls, const char *person, const char *duty)
{
	if (billing_core_run_latest(&find_conflict, values, nulls) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
					errmsg("person \"%s\" cannot hold the duty %s beside the duty %s", person, duty,
						   billing_core_text_value(0, 0)),
					errdetail("They %s.", billing_core_text_value(0, 1)),
					errhint("Give one of the duties to another person.")));
}

/*
 * billing.grant_duty(entity, person, duty, valid_from date, valid_to date,
 *                    approval_limit numeric, approval_level integer, daily_limit numeric)
 */
Datum
billing_core_grant_duty(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *person = billing_core_arg_code(fcinfo, 1, "person");
	char *duty = billing_core_arg_code(fcinfo, 2, "duty");
	bool no_start;
	bool no_end;
	DateADT valid_from = billing_core_arg_optional_date(fcinfo, 3, "first day", &no_start);
	DateADT valid_to = billing_core_arg_optional_date(fcinfo, 4, "day after the last", &no_end);
	Numeric limit = billing_core_arg_optional_numeric(fcinfo, 5, "approval limit");
	Numeric daily = billing_core_arg_optional_numeric(fcinfo, 7, "daily limit");
	int64 person_id;
	Datum values[8];
	char nulls[9] = "        ";

	billing_core_require_admin(entity_id);
	if (no_start)
		valid_from = billing_core_entity_today(entity_id);
	person_id = find_person(person);
	(void) billing_core_lookup(entity_id, duty, "duty", &duty_by_name);
	if (!billing_core_is_installation_admin() &&
		(person_id == billing_core_actor_person() || person_id == billing_core_login_person()))
		ereport(ERROR, (errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
						errmsg("nobody grants a duty to themselves"),
						errhint("Ask another person with the duty admin.")));
	if (!no_end && valid_to <= valid_from)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("day after the last must be later than the first day"),
						errhint("Leave it null for an open end.")));
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(person_id);
	values[2] = CStringGetTextDatum(duty);
	values[3] = DateADTGetDatum(valid_from);
	values[4] = DateADTGetDatum(valid_to);
	values[5] = PG_ARGISNULL(6)
					? (Datum) 0
					: Int32GetDatum(billing_core_arg_int(fcinfo, 6, "approval level", 1, 100));
	values[6] = limit == NULL ? (Datum) 0 : NumericGetDatum(limit);
	nulls[4] = no_end ? 'n' : ' ';
	nulls[5] = PG_ARGISNULL(6) ? 'n' : ' ';
	nulls[6] = limit == NULL ? 'n' : ' ';
	values[7] = daily == NULL ? (Datum) 0 : NumericGetDatum(daily);
	nulls[7] = daily == NULL ? 'n' : ' ';
	SPI_connect();
	billing_core_run_privileged(&lock_person, &values[1], NULL, false);
	check_conflict(values, nulls, person, duty);
	billing_core_run(&insert_duty, values, nulls, false);
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.revoke_duty(entity, person, duty, day date): the duty ends with the day before */
Datum
billing_core_revoke_duty(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *person = billing_core_arg_code(fcinfo, 1, "person");
	char *duty = billing_core_arg_code(fcinfo, 2, "duty");
	bool no_day;
	DateADT day = billing_core_arg_optional_date(fcinfo, 3, "day", &no_day);
	Datum values[4];
	uint64 ended;

	billing_core_require_admin(entity_id);
	if (no_day)
		day = billing_core_entity_today(entity_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int64GetDatum(find_person(person));
	values[2] = CStringGetTextDatum(duty);
	values[3] = DateADTGetDatum(day);
	SPI_connect();
	ended = billing_core_run(&end_duty, values, NULL, false);
	SPI_finish();
	if (ended == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("person \"%s\" does not hold the duty %s on or after that day",
							   person, duty),
						errhint("billing.duty_assignment lists who holds what.")));
	PG_RETURN_VOID();
}
