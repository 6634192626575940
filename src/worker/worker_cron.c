/*
 * worker_cron.c
 *		Has pg_cron run the tasks, where the library is not preloaded.
 *
 * pg_cron is an extension that may be there or not, so its functions are called
 * by name at run time.  The functions run as their caller: pg_cron runs a job
 * as the role that scheduled it, and billing_owner cannot log in.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "worker/worker_private.h"

/* pg_cron takes a job of the same name and role for the same job */
static BillingStatement schedule = { "SELECT cron.schedule('billing_erp_worker', '* * * * *',"
									 " 'SELECT count(*) FROM billing.run_worker_once()')",
									 0,
									 { 0 },
									 NULL };

/* its row-level security shows the caller's jobs, and all jobs to a superuser */
static BillingStatement unschedule = {
	"SELECT count(cron.unschedule(j.jobid)) FROM cron.job j"
	" WHERE j.jobname = 'billing_erp_worker' AND j.database = current_database()",
	0,
	{ 0 },
	NULL
};

/* Refuse to go on where pg_cron is not in this database. */
static void
require_cron(void)
{
	if (OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
			 errmsg("extension pg_cron is not installed in this database"),
			 errdetail("pg_cron lives in the one database that cron.database_name names."),
			 errhint("Install it there, or preload billing_erp and name this database in "
					 "billing_erp.databases, or call billing.run_worker_once() every minute from "
					 "outside.")));
}

/* Refuse to make a job that pg_cron could never run, because its role cannot log in. */
static void
require_login(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may_login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!may_login)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("role \"%s\" cannot own a job of pg_cron, because it cannot log in",
							   GetUserNameFromId(GetUserId(), false)),
						errhint("Use RESET ROLE first.")));
}

/* Run one of the statements and return its number. */
static int64
call_cron(BillingStatement *statement)
{
	int64 number = 0;

	billing_core_require_admin(0);
	require_cron();
	require_login();
	SPI_connect();
	if (billing_core_run(statement, NULL, NULL, false) > 0)
		number = DatumGetInt64(billing_core_value(0, 0, NULL));
	SPI_finish();
	return number;
}

PG_FUNCTION_INFO_V1(billing_worker_schedule_jobs);
PG_FUNCTION_INFO_V1(billing_worker_unschedule_jobs);

/* billing.schedule_jobs() RETURNS bigint: the id of the job */
Datum
billing_worker_schedule_jobs(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64(call_cron(&schedule));
}

/* billing.unschedule_jobs() RETURNS bigint: how many jobs there were */
Datum
billing_worker_unschedule_jobs(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64(call_cron(&unschedule));
}
