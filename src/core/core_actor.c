/*
 * core_actor.c
 *		Who acts: the person behind the session user, or the person whom a pooled
 *		application acts for until the end of its transaction.
 *
 * The actor lives in this process' memory, not in a setting, which anybody
 * could set.  What a person may do is decided in core_duty.c.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define NOBODY (-1)

/* One act_as() in force; the list ends with the transaction. */
typedef struct ActingAs
{
	int32 person_id;
	Oid session_user; /* who acts for the person: nobody else of the same session does */
	bool by_system;	  /* the software itself acts for the person, whoever is logged in */
	SubTransactionId subxact;
	struct ActingAs *previous;
} ActingAs;

static ActingAs *acting_as = NULL;
static bool is_system = false;

static BillingStatement person_of_login = {
	"SELECT person_id FROM billing.person_login WHERE role_name = $1", 1, { NAMEOID }, NULL
};

static BillingStatement person_by_code = {
	"SELECT person_id FROM billing.person WHERE code = $1", 1, { TEXTOID }, NULL
};

static BillingStatement is_application = {
	"SELECT 1 FROM billing.duty_assignment a JOIN billing.legal_entity e USING (entity_id)"
	" WHERE a.person_id = $1 AND a.duty = 'application' AND daterange(a.valid_from, a.valid_to)"
	" @> (now() AT TIME ZONE e.time_zone)::date LIMIT 1",
	1,
	{ INT4OID },
	NULL
};

static BillingStatement person_code = {
	"SELECT code FROM billing.person WHERE person_id = $1", 1, { INT4OID }, NULL
};

/* Forget whom the session acted for when the transaction ends. */
static void
forget_at_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* the list lived in the transaction's memory */
			acting_as = NULL;
			break;
		default:
			break;
	}
}

/* Take back an act_as() whose subtransaction is rolled back. */
static void
follow_subtransaction(SubXactEvent event, SubTransactionId me, SubTransactionId parent,
					  void *arg pg_attribute_unused())
{
	ActingAs *each;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (acting_as != NULL && acting_as->subxact >= me)
			acting_as = acting_as->previous;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (each = acting_as; each != NULL && each->subxact >= me; each = each->previous)
			each->subxact = parent;
	}
}

/* Register the callbacks. */
void
billing_core_actor_init(void)
{
	RegisterXactCallback(forget_at_end, NULL);
	RegisterSubXactCallback(follow_subtransaction, NULL);
}

/* Make this process the software itself: for the background worker only. */
void
billing_core_become_system(void)
{
	is_system = true;
}

/* Whether an act_as() of this session user is in force. */
static bool
acts_for_somebody(void)
{
	return acting_as != NULL && acting_as->session_user == GetSessionUserId();
}

/*
 * The person whose login the session user is, or NOBODY.  A worker is the
 * system, whatever role it runs as, and so is a session that does a worker's
 * work.  Found once per transaction.
 */
int32
billing_core_login_person(void)
{
	static Oid known_user = InvalidOid;
	static TimestampTz known_at = 0;
	static int32 known_person = NOBODY;
	Datum values[1];
	NameData role;
	int32 person_id = NOBODY;

	if (is_system || (acts_for_somebody() && acting_as->by_system))
		return BILLING_SYSTEM_PERSON;
	if (known_person != NOBODY && known_user == GetSessionUserId() &&
		known_at == GetCurrentTransactionStartTimestamp())
		return known_person;
	namestrcpy(&role, GetUserNameFromId(GetSessionUserId(), false));
	values[0] = NameGetDatum(&role);
	SPI_connect();
	if (billing_core_run_privileged(&person_of_login, values, NULL, true) > 0)
		person_id = DatumGetInt32(billing_core_value(0, 0, NULL));
	SPI_finish();
	known_user = GetSessionUserId();
	known_at = GetCurrentTransactionStartTimestamp();
	known_person = person_id;
	return person_id;
}

/* Remember, until the transaction ends, that the session acts for a person. */
static void
act_as(int32 person_id, bool by_system)
{
	ActingAs *entry = MemoryContextAlloc(TopTransactionContext, sizeof(ActingAs));

	entry->person_id = person_id;
	entry->session_user = GetSessionUserId();
	entry->by_system = by_system;
	entry->subxact = GetCurrentSubTransactionId();
	entry->previous = acting_as;
	acting_as = entry;
}

/* The person acted for, or NOBODY: what a procedure carries over its commits. */
int32
billing_core_save_actor(void)
{
	return acts_for_somebody() ? acting_as->person_id : NOBODY;
}

/* Act for that person again, or for nobody: after a commit, or after acting as the system. */
void
billing_core_restore_actor(int32 person_id)
{
	if (person_id != NOBODY || acting_as != NULL)
		act_as(person_id, acts_for_somebody() && acting_as->by_system);
}

/*
 * Do a worker's work from here on: as the system, and for whomever
 * billing_core_restore_actor() names, as if the system had logged in.  The
 * person acted for before, for billing_core_leave_system(); an error leaves it
 * with its subtransaction.
 */
int32
billing_core_enter_system(void)
{
	int32 person_id = billing_core_save_actor();

	act_as(BILLING_SYSTEM_PERSON, true);
	return person_id;
}

/* Be the session's own login again. */
void
billing_core_leave_system(int32 person_id)
{
	act_as(person_id, false);
}

/* The person who acts now, or -1 where the session user is nobody's login. */
int32
billing_core_actor_person(void)
{
	int32 person_id = billing_core_save_actor();

	return person_id != NOBODY ? person_id : billing_core_login_person();
}

/* Whether the session user may set the installation up: a member of billing_owner. */
bool
billing_core_is_installation_admin(void)
{
	return is_system || has_privs_of_role(GetSessionUserId(), billing_core_owner());
}

/*
 * The code of a person, or NULL.  Remembered until the transaction ends: a
 * session may outlive the extension, and the next one counts persons anew.
 */
const char *
billing_core_person_code(int32 person_id)
{
	static int32 known_person = NOBODY;
	static TimestampTz known_at = 0;
	static char known_code[BILLING_MAX_CODE_LENGTH + 1];
	Datum values[1];
	char *code = NULL;

	if (person_id == NOBODY)
		return NULL;
	if (person_id == known_person && known_at == GetCurrentTransactionStartTimestamp())
		return known_code;
	values[0] = Int32GetDatum(person_id);
	SPI_connect();
	if (billing_core_run_privileged(&person_code, values, NULL, true) > 0)
		code = billing_core_text_value(0, 0);
	SPI_finish();
	if (code == NULL)
		return NULL;
	strlcpy(known_code, code, sizeof(known_code));
	known_at = GetCurrentTransactionStartTimestamp();
	known_person = person_id;
	known_at = GetCurrentTransactionStartTimestamp();
	return known_code;
}

PG_FUNCTION_INFO_V1(billing_core_act_as);
PG_FUNCTION_INFO_V1(billing_core_current_actor);
PG_FUNCTION_INFO_V1(billing_core_actor_id);
PG_FUNCTION_INFO_V1(billing_core_session_person_id);

/*
 * billing.act_as(person text) RETURNS void
 *
 * Act for a person until the end of the transaction; NULL ends it at once.
 * Raises ZB014 where the session user's own person holds the duty application
 * nowhere, ZB002 where the person is unknown.
 */
Datum
billing_core_act_as(PG_FUNCTION_ARGS)
{
	int32 login = billing_core_login_person();
	Datum values[1];
	char *code;
	int32 person_id;

	if (PG_ARGISNULL(0))
	{
		act_as(NOBODY, false);
		PG_RETURN_VOID();
	}
	code = billing_core_arg_code(fcinfo, 0, "person");
	SPI_connect();
	values[0] = Int32GetDatum(login);
	if (login == NOBODY || billing_core_run_privileged(&is_application, values, NULL, true) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_ACTOR),
				 errmsg("session user \"%s\" may not act for another person",
						GetUserNameFromId(GetSessionUserId(), false)),
				 errdetail("Only a login whose person has the duty application may."),
				 errhint("Grant it with billing.grant_duty(entity, person, 'application').")));
	values[0] = CStringGetTextDatum(code);
	if (billing_core_run_privileged(&person_by_code, values, NULL, true) == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("person \"%s\" does not exist", code),
						errhint("Create it with billing.add_person().")));
	person_id = DatumGetInt32(billing_core_value(0, 0, NULL));
	SPI_finish();
	if (person_id == BILLING_SYSTEM_PERSON)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_UNKNOWN_ACTOR), errmsg("nobody may act for the system"),
				 errhint("Name the person whose request is being carried out.")));
	act_as(person_id, false);
	PG_RETURN_VOID();
}

/* billing.current_actor() RETURNS text: the code of the person who acts, or NULL */
Datum
billing_core_current_actor(PG_FUNCTION_ARGS)
{
	const char *code = billing_core_person_code(billing_core_actor_person());

	if (code == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(code));
}

/* billing_internal.actor_id() RETURNS integer: the person who acts, or NULL */
Datum
billing_core_actor_id(PG_FUNCTION_ARGS)
{
	int32 person_id = billing_core_actor_person();

	if (person_id == NOBODY)
		PG_RETURN_NULL();
	PG_RETURN_INT32(person_id);
}

/* billing_internal.session_person_id() RETURNS integer: the login's own person, or NULL */
Datum
billing_core_session_person_id(PG_FUNCTION_ARGS)
{
	int32 person_id = billing_core_login_person();

	if (person_id == NOBODY)
		PG_RETURN_NULL();
	PG_RETURN_INT32(person_id);
}
