/*
 * worker_cron.c
 *		Has pg_cron run the tasks, a job for each, where no worker does.
 *
 * pg_cron is an extension that may be there or not, here or in another
 * database, so its functions are called by name at run time.  The functions run
 * as their caller: pg_cron runs a job as the role that scheduled it, and
 * billing_owner cannot log in.  It starts jobs at full minutes of GMT and does
 * not make up for those it missed, so a job asks whether its task is due.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "core/core.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/worker_private.h"

/* Our jobs in this database: the caller's, by their row-level security, or those of all roles. */
#define OUR_JOBS                                                            \
	" j.database = current_database() AND j.jobname LIKE 'billing\\_erp %'" \
	" AND j.command LIKE 'CALL billing.%'"

static BillingStatement may_use_cron = {
	"SELECT has_schema_privilege('cron', 'USAGE')", 0, { 0 }, NULL
};

/* pg_cron takes a job of the same name and role for the same job; what is as it should be stays untouched */
static BillingStatement put_jobs = {
	"SELECT cron.schedule(w.job, w.schedule, w.command) FROM billing_internal.wanted_job w"
	" WHERE NOT EXISTS (SELECT FROM cron.job j WHERE" OUR_JOBS " AND j.username = current_user"
	"  AND j.jobname = w.job::name AND j.schedule = w.schedule AND j.command = w.command)",
	0,
	{ 0 },
	NULL
};

/* of tasks that were disabled, or are no more */
static BillingStatement drop_unwanted_jobs = {
	"SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE" OUR_JOBS
	" AND j.username = current_user"
	" AND NOT EXISTS (SELECT FROM billing_internal.wanted_job w WHERE w.job::name = j.jobname)",
	0,
	{ 0 },
	NULL
};

static BillingStatement list_jobs = {
	"SELECT 'pg_cron', j.jobname::text, j.schedule, j.command FROM cron.job j WHERE" OUR_JOBS
	" AND j.username = current_user ORDER BY j.jobname",
	0,
	{ 0 },
	NULL
};

static BillingStatement drop_jobs = {
	"WITH dropped AS MATERIALIZED (SELECT j.*, cron.unschedule(j.jobid) FROM cron.job j WHERE" OUR_JOBS
	") SELECT 'pg_cron', jobname::text, schedule, command FROM dropped ORDER BY jobname, username",
	0,
	{ 0 },
	NULL
};

/* What takes our jobs back where pg_cron is */
#define DROP_CALL                                                             \
	"format('SELECT cron.unschedule(jobid) FROM cron.job WHERE database = %L" \
	" AND jobname ~ ''^billing_erp ''', current_database())"

/*
 * What to call there: first what takes back jobs that are there, then a job for
 * each, then one in that database that purges what pg_cron notes about them.  The
 * name of a job is one of its role, whatever the database.
 */
static BillingStatement list_calls = {
	"SELECT 'pg_cron elsewhere', job, schedule, command FROM ("
	" SELECT 1 AS place, NULL AS job, NULL AS schedule, " DROP_CALL " AS command"
	" UNION ALL SELECT 2, n.job, w.schedule,"
	"  format('SELECT cron.schedule_in_database(%L, %L, %L, %L, %L)', n.job, w.schedule, w.command,"
	"   current_database(), current_user)"
	"  FROM billing_internal.wanted_job w,"
	"  LATERAL (SELECT format('%s in %s', w.job, current_database()) AS job) n"
	" UNION ALL SELECT 3, n.job, '0 0 * * *',"
	"  format('SELECT cron.schedule(%L, %L, %L)', n.job, '0 0 * * *',"
	"   format('DELETE FROM cron.job_run_details WHERE (database = %L AND command LIKE %L"
	" OR command LIKE %L) AND end_time < now() - interval %L', current_database(),"
	"   'CALL billing.%', 'DELETE FROM cron.job_run_details%', w.keep_days || ' days'))"
	"  FROM billing.worker_status w,"
	"  LATERAL (SELECT format('billing_erp purge of %s', current_database()) AS job) n"
	"  WHERE w.task = 'purge_task_runs'"
	") c ORDER BY place, job",
	0,
	{ 0 },
	NULL
};

static BillingStatement list_drop_calls = {
	"SELECT 'pg_cron elsewhere', NULL::text, NULL::text, " DROP_CALL
	" UNION ALL SELECT 'pg_cron elsewhere', NULL, NULL,"
	" format('SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = %L',"
	"  format('billing_erp purge of %s', current_database()))",
	0,
	{ 0 },
	NULL
};

/* Where pg_cron is. */
typedef enum Place
{
	NOWHERE,
	ELSEWHERE,
	HERE
} Place;

/* Find pg_cron; the name of its database where it is in another one. */
static Place
find_cron(const char **database)
{
	/* only the preloaded library defines it */
	*database = GetConfigOption("cron.database_name", true, false);
	if (*database == NULL)
		return NOWHERE;
	if (strcmp(*database, get_database_name(MyDatabaseId)) != 0)
		return ELSEWHERE;
	return OidIsValid(get_extension_oid("pg_cron", true)) ? HERE : NOWHERE;
}

/* Refuse a role whose jobs could not run: it must log in, run tasks, and use pg_cron. */
static void
require_job_owner(Place place)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool may_login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	char *role = GetUserNameFromId(GetUserId(), false);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!may_login)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("role \"%s\" cannot own a job of pg_cron, because it cannot log in", role),
				 errhint("Use RESET ROLE first.")));
	if (!has_privs_of_role(GetUserId(), billing_core_owner()))
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
						errmsg("role \"%s\" is not a member of billing_owner", role),
						errhint("Use RESET ROLE first, or a role whose jobs may run the tasks.")));
	if (place == HERE && billing_core_run(&may_use_cron, NULL, NULL, true) > 0 &&
		!DatumGetBool(billing_core_value(0, 0, NULL)))
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
						errmsg("role \"%s\" may not use pg_cron", role),
						errhint("GRANT USAGE ON SCHEMA cron TO %s as a superuser.",
								quote_identifier(role))));
}

/* Put the rows of a statement into the result. */
static void
return_rows(BillingStatement *statement, ReturnSetInfo *result)
{
	uint64 count = billing_core_run(statement, NULL, NULL, false);
	uint64 i;
	int column;

	for (i = 0; i < count; i++)
	{
		Datum values[4];
		bool nulls[4];

		for (column = 0; column < 4; column++)
			values[column] = billing_core_value(i, column, &nulls[column]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* Say that it is for the caller to go on, and where. */
static void
tell_elsewhere(const char *database)
{
	ereport(NOTICE, (errmsg("pg_cron is in database \"%s\"", database),
					 errdetail("From here nothing was changed."),
					 errhint("Run the commands there, as a superuser.")));
}

PG_FUNCTION_INFO_V1(billing_worker_schedule_jobs);
PG_FUNCTION_INFO_V1(billing_worker_unschedule_jobs);
PG_FUNCTION_INFO_V1(billing_worker_cron_schedule);

/*
 * billing.schedule_jobs() RETURNS TABLE (how text, job text, schedule text, command text)
 *
 * The jobs as they are now; or, where pg_cron is in another database, the calls
 * that make them; or, where there is none, what cron or systemd is to be told.
 */
Datum
billing_worker_schedule_jobs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *database;
	Place place = find_cron(&database);

	billing_core_require_admin(0);
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	if (place == NOWHERE)
		billing_worker_return_lines(result);
	else
		require_job_owner(place);
	if (place == HERE)
	{
		billing_core_run(&drop_unwanted_jobs, NULL, NULL, false);
		billing_core_run(&put_jobs, NULL, NULL, false);
		return_rows(&list_jobs, result);
	}
	else if (place == ELSEWHERE)
	{
		tell_elsewhere(database);
		return_rows(&list_calls, result);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * billing.unschedule_jobs() RETURNS TABLE (how text, job text, schedule text, command text)
 *
 * The jobs that were there; or, where pg_cron is in another database, the call
 * that takes them back.
 */
Datum
billing_worker_unschedule_jobs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *database;
	Place place = find_cron(&database);

	billing_core_require_admin(0);
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	if (place == NOWHERE)
		ereport(NOTICE, (errmsg("pg_cron is not in this database"),
						 errhint("What cron or systemd was told is to be taken back there.")));
	else
		require_job_owner(place);
	if (place == HERE)
		return_rows(&drop_jobs, result);
	else if (place == ELSEWHERE)
	{
		tell_elsewhere(database);
		return_rows(&list_drop_calls, result);
	}
	SPI_finish();
	return (Datum) 0;
}

/*
 * billing_internal.cron_schedule(run_every interval) RETURNS text
 *
 * The times of cron at which a task of that interval is to be started, or
 * oftener, where no such times have the interval between them: 7 minutes do
 * not divide an hour.  The task itself is run when it is due.
 */
Datum
billing_worker_cron_schedule(PG_FUNCTION_ARGS)
{
	Interval *every = PG_GETARG_INTERVAL_P(0);
	int64 seconds = (int64) every->day * SECS_PER_DAY + every->time / USECS_PER_SEC;
	int64 minutes = seconds / SECS_PER_MINUTE;
	int64 hours = minutes / MINS_PER_HOUR;
	const char *schedule;

	if (every->month != 0 || every->time % USECS_PER_MINUTE != 0 || minutes <= 1)
		schedule = "* * * * *";
	else if (minutes % (HOURS_PER_DAY * MINS_PER_HOUR) == 0)
		schedule = "0 0 * * *";
	else if (minutes % MINS_PER_HOUR == 0)
		schedule = hours > 1 && HOURS_PER_DAY % hours == 0
					   ? psprintf("0 */" INT64_FORMAT " * * *", hours)
					   : "0 * * * *";
	else
		schedule = MINS_PER_HOUR % minutes == 0 ? psprintf("*/" INT64_FORMAT " * * * *", minutes)
												: "* * * * *";
	PG_RETURN_TEXT_P(cstring_to_text(schedule));
}
