/*
 * audit_complete.c
 *		Completes an audit record with who acts, from where, when, in which
 *		transaction and for which request, and with its hash.
 *
 * Nobody can claim to be another, at another time: what a statement says about
 * those is overwritten.  What is the same for all records of a command is found
 * once and kept in the transaction's memory.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "audit/audit.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* A set_correlation() in force; the list ends with the transaction. */
typedef struct Correlation
{
	text *id; /* NULL: none from here on */
	SubTransactionId subxact;
	struct Correlation *previous;
} Correlation;

/* What the records of a command have in common. */
typedef struct Circumstances
{
	bool valid;
	CommandId command;
	Oid session_user;
	int32 acting_for;
	text *actor; /* NULL: nobody that is known */
	NameData login;
	text *application;
	char application_name[NAMEDATALEN];
} Circumstances;

static Correlation *correlation = NULL;
static Circumstances circumstances;

/* Forget what lived in the transaction's memory. */
static void
forget_at_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			correlation = NULL;
			circumstances.valid = false;
			break;
		default:
			break;
	}
}

/* Take back a set_correlation() whose subtransaction is rolled back. */
static void
follow_subtransaction(SubXactEvent event, SubTransactionId me, SubTransactionId parent,
					  void *arg pg_attribute_unused())
{
	Correlation *each;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (correlation != NULL && correlation->subxact >= me)
			correlation = correlation->previous;
		circumstances.valid = false;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (each = correlation; each != NULL && each->subxact >= me; each = each->previous)
			each->subxact = parent;
	}
}

/* Register the callbacks. */
void
billing_audit_init(void)
{
	RegisterXactCallback(forget_at_end, NULL);
	RegisterSubXactCallback(follow_subtransaction, NULL);
}

/* The client's address, "local" for a socket of this machine; NULL in a background process. */
static text *
client_address(void)
{
	static text *known = NULL;
	static bool is_known = false;
	LOCAL_FCINFO(call, 0);
	Datum address;
	MemoryContext memory;

	if (is_known)
		return known;
	if (MyProcPort != NULL)
	{
		InitFunctionCallInfoData(*call, NULL, 0, InvalidOid, NULL, NULL);
		address = inet_client_addr(call);
		memory = MemoryContextSwitchTo(TopMemoryContext);
		known = call->isnull ? cstring_to_text("local")
							 : DatumGetTextPCopy(DirectFunctionCall1(network_host, address));
		MemoryContextSwitchTo(memory);
	}
	is_known = true;
	return known;
}

/* Find out who acts, once for a command. */
static void
look_around(void)
{
	int32 acting_for = billing_core_save_actor();
	CommandId command = GetCurrentCommandId(false);
	Oid session_user = GetSessionUserId();
	const char *actor;
	MemoryContext memory;

	if (circumstances.valid && circumstances.command == command &&
		circumstances.session_user == session_user && circumstances.acting_for == acting_for &&
		strcmp(circumstances.application_name, application_name) == 0)
		return;
	circumstances.valid = false;
	actor = billing_core_person_code(billing_core_actor_person());
	memory = MemoryContextSwitchTo(TopTransactionContext);
	circumstances.actor = actor == NULL ? NULL : cstring_to_text(actor);
	strlcpy(circumstances.application_name, application_name,
			sizeof(circumstances.application_name));
	circumstances.application =
		application_name[0] == '\0' ? NULL : cstring_to_text(application_name);
	MemoryContextSwitchTo(memory);
	namestrcpy(&circumstances.login, GetUserNameFromId(session_user, false));
	circumstances.command = command;
	circumstances.session_user = session_user;
	circumstances.acting_for = acting_for;
	circumstances.valid = true;
}

/* Set a column to a text that is kept elsewhere. */
static void
set_text(Datum *values, bool *nulls, BillingAuditColumn column, text *value)
{
	values[column] = PointerGetDatum(value);
	nulls[column] = value == NULL;
}

/*
 * Complete the values of a record: BILLING_AUDIT_COLUMNS of them, of which the
 * caller gives entity, id, action, object, before, after and reason.  Texts
 * stay valid until the transaction ends, the hash is palloc'ed.
 */
void
billing_audit_complete_values(Datum *values, bool *nulls)
{
	bytea *hash = palloc(VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);

	look_around();
	values[AUDIT_RECORDED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[AUDIT_TRANSACTION_ID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[AUDIT_LOGIN] = NameGetDatum(&circumstances.login);
	values[AUDIT_HASH] = PointerGetDatum(hash);
	nulls[AUDIT_RECORDED_AT] = nulls[AUDIT_TRANSACTION_ID] = false;
	nulls[AUDIT_LOGIN] = nulls[AUDIT_HASH] = false;
	set_text(values, nulls, AUDIT_ACTOR, circumstances.actor);
	set_text(values, nulls, AUDIT_CLIENT_ADDRESS, client_address());
	set_text(values, nulls, AUDIT_APPLICATION, circumstances.application);
	set_text(values, nulls, AUDIT_CORRELATION_ID, correlation == NULL ? NULL : correlation->id);
	SET_VARSIZE(hash, VARHDRSZ + BILLING_AUDIT_HASH_LENGTH);
	billing_audit_record_sha256(values, nulls, (uint8 *) VARDATA(hash));
}

PG_FUNCTION_INFO_V1(billing_audit_set_correlation);
PG_FUNCTION_INFO_V1(billing_audit_current_correlation);

/*
 * billing.set_correlation(id text) RETURNS void
 *
 * The request that the transaction serves, as the application calls it; every
 * record from here to its end has it.  NULL ends it at once.
 */
Datum
billing_audit_set_correlation(PG_FUNCTION_ARGS)
{
	char *id = billing_core_arg_optional_code(fcinfo, 0, "correlation id");
	MemoryContext memory = MemoryContextSwitchTo(TopTransactionContext);
	Correlation *entry = palloc(sizeof(Correlation));

	entry->id = id == NULL ? NULL : cstring_to_text(id);
	MemoryContextSwitchTo(memory);
	entry->subxact = GetCurrentSubTransactionId();
	entry->previous = correlation;
	correlation = entry;
	PG_RETURN_VOID();
}

/* billing.current_correlation() RETURNS text */
Datum
billing_audit_current_correlation(PG_FUNCTION_ARGS)
{
	if (correlation == NULL || correlation->id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(
		cstring_to_text_with_len(VARDATA_ANY(correlation->id), VARSIZE_ANY_EXHDR(correlation->id)));
}
