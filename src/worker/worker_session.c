/*
 * worker_session.c
 *		What every process that works in a database shares: how it connects, what
 *		it finds there, and its transactions.
 *
 * The session user is billing_owner, which is no superuser, and the actor is the
 * system.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "core/core.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker_private.h"

static BillingStatement look_around = {
	"SELECT e.extversion, EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d"
	" ON d.oid = s.setdatabase WHERE d.datname = current_database() AND s.setrole = 0"
	" AND 'billing_erp.restoring=on' = ANY (s.setconfig))"
	" FROM pg_extension e WHERE e.extname = 'billing_erp'",
	0,
	{ 0 },
	NULL
};

const char *billing_worker_database = NULL;

/* Who the process is, and where it allocates, outside of its transactions. */
static Oid outer_user;
static int outer_security;
static MemoryContext outer_memory;

/*
 * Begin a transaction as billing_owner.  SECURITY_LOCAL_USERID_CHANGE keeps any
 * code that is reached from becoming another user.
 */
void
billing_worker_begin(void)
{
	outer_memory = CurrentMemoryContext;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	GetUserIdAndSecContext(&outer_user, &outer_security);
	SetUserIdAndSecContext(billing_core_owner(), outer_security | SECURITY_LOCAL_USERID_CHANGE);
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit it, deferred triggers included, before the user changes back. */
void
billing_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(outer_user, outer_security);
	MemoryContextSwitchTo(outer_memory);
}

/*
 * Take a step in a transaction of its own.  NULL, or its error in the caller's
 * memory: the transaction is aborted then.
 */
char *
billing_worker_try(void (*step)(const void *), const void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	char *volatile error = NULL;

	PG_TRY();
	{
		billing_worker_begin();
		step(argument);
		billing_worker_commit();
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(context);
		error = billing_worker_describe(CopyErrorData());
		AbortOutOfAnyTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return error;
}

/* Settings of the server or the database that are meant for people do not reach the work. */
static void
override_settings(void)
{
	static const char *const settings[][2] = { { "search_path", "pg_catalog, pg_temp" },
											   { "default_transaction_isolation",
												 "read committed" },
											   { "row_security", "on" },
											   { "statement_timeout", "0" },
											   { "lock_timeout", "0" },
											   { "idle_in_transaction_session_timeout", "0" },
											   { "transaction_timeout", "0" } };
	size_t i;

	for (i = 0; i < lengthof(settings); i++)
	{
		/* not every server has every timeout */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* Take signals, connect to the database that the message names, and become billing_owner. */
void
billing_worker_connect(BillingWorkerStart *message)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	memcpy(message, MyBgworkerEntry->bgw_extra, sizeof(*message));
	BackgroundWorkerInitializeConnectionByOid(message->database,
											  BILLING_WORKER_ROLE(message->owner),
											  BILLING_WORKER_FLAGS);
	override_settings();
	StartTransactionCommand();
	billing_worker_database =
		MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	if (GetSessionUserId() != message->owner)
		SetConfigOption("session_authorization", "billing_owner", PGC_SUSET, PGC_S_SESSION);
	CommitTransactionCommand();
	billing_core_become_system();
}

/* Take over the settings where the server has read them anew. */
void
billing_worker_follow_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* See, in a transaction, whether there is something to work for. */
BillingCondition
billing_worker_look(char **version)
{
	BillingCondition condition = NO_EXTENSION;

	SPI_connect();
	if (billing_core_run(&look_around, NULL, NULL, true) > 0)
	{
		*version = billing_core_text_value(0, 0);
		if (DatumGetBool(billing_core_value(0, 1, NULL)))
			condition = RESTORING;
		else if (strcmp(*version, BILLING_WORKER_VERSION) != 0)
			condition = OTHER_VERSION;
		else
			condition = READY;
	}
	SPI_finish();
	return condition;
}
