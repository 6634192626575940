/*
 * core_restore.c
 *		Before and after a dump is restored into a database.
 *
 * CREATE EXTENSION makes triggers before pg_restore loads the rows.  Between
 * the two calls they let every row pass as it is; without the calls they refuse
 * the first one.
 */
#include "pg_compat.h"

#include "commands/dbcommands.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* Write or take back the setting for this database, and for this session. */
static void
set_restoring(bool restoring)
{
	char *sql;

	if (!superuser_arg(GetSessionUserId()))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only a superuser may restore the billing data"),
						errhint("Restore as the superuser that created the extension.")));
	if (billing_core_restoring == restoring)
		ereport(ERROR, (errcode(ERRCODE_BILLING_RESTORE_STATE),
						restoring ? errmsg("database is being restored already")
								  : errmsg("database is not being restored"),
						errhint("The order is CREATE EXTENSION, billing.pre_restore(), "
								"pg_restore, billing.post_restore().")));
	sql = psprintf(restoring ? "ALTER DATABASE %s SET billing_erp.restoring = on"
							 : "ALTER DATABASE %s RESET billing_erp.restoring",
				   quote_identifier(get_database_name(MyDatabaseId)));
	SPI_connect();
	billing_core_execute(sql);
	SPI_finish();
	SetConfigOption("billing_erp.restoring", restoring ? "on" : "off", PGC_SUSET, PGC_S_SESSION);
}

PG_FUNCTION_INFO_V1(billing_core_pre_restore);
PG_FUNCTION_INFO_V1(billing_core_post_restore);

/* billing.pre_restore() RETURNS void: sessions that start from now on take rows as they come */
Datum
billing_core_pre_restore(PG_FUNCTION_ARGS)
{
	set_restoring(true);
	PG_RETURN_VOID();
}

/* billing.post_restore() RETURNS void: guard the tables again */
Datum
billing_core_post_restore(PG_FUNCTION_ARGS)
{
	set_restoring(false);
	PG_RETURN_VOID();
}
