/*
 * worker_lines.c
 *		What cron or systemd is to be told to have the tasks run every minute, where
 *		neither a worker nor pg_cron does.
 *
 * Database, login and port travel in the environment: there a name needs no
 * quoting but that of the shell or of systemd.
 */
#include "pg_compat.h"

#include "commands/dbcommands.h"
#include "core/core.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "worker/worker_private.h"

#define CALL "psql -X -q -c \"CALL billing.run_due_jobs()\""

/* Refuse a name that cannot stand in a line. */
static const char *
check_name(const char *name)
{
	const char *c;

	for (c = name; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					 errmsg("a name with control characters cannot stand in a line for cron"),
					 errhint("Use pg_cron, or preload billing_erp and name the database in "
							 "billing_erp.databases.")));
	}
	return name;
}

/* A word for the shell in a crontab, where a per cent sign is the end of the line unless escaped. */
static char *
cron_word(const char *name)
{
	StringInfoData word;
	const char *c;

	initStringInfo(&word);
	appendStringInfoChar(&word, '\'');
	for (c = check_name(name); *c != '\0'; c++)
	{
		if (*c == '\'')
			appendStringInfoString(&word, "'\\''");
		else if (*c == '%')
			appendStringInfoString(&word, "\\%");
		else
			appendStringInfoChar(&word, *c);
	}
	appendStringInfoChar(&word, '\'');
	return word.data;
}

/* What stands between double quotes in a unit of systemd. */
static char *
unit_text(const char *name)
{
	StringInfoData text;
	const char *c;

	initStringInfo(&text);
	for (c = check_name(name); *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			appendStringInfoChar(&text, '\\');
		else if (*c == '%')
			appendStringInfoChar(&text, '%');
		appendStringInfoChar(&text, *c);
	}
	return text.data;
}

/* The name of a unit of systemd for a database, as systemd-escape makes it. */
static char *
unit_name(const char *database)
{
	StringInfoData name;
	const char *c;

	initStringInfo(&name);
	appendStringInfoString(&name, "billing_erp-");
	for (c = check_name(database); *c != '\0'; c++)
	{
		if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
			*c == '_' || *c == ':')
			appendStringInfoChar(&name, *c);
		else
			appendStringInfo(&name, "\\x%02x", (unsigned char) *c);
	}
	return name.data;
}

/* Put a row into the result. */
static void
put_row(ReturnSetInfo *result, const char *how, const char *job, const char *schedule,
		const char *command)
{
	Datum values[4];
	bool nulls[4] = { false, false, schedule == NULL, false };

	values[0] = CStringGetTextDatum(how);
	values[1] = CStringGetTextDatum(job);
	values[2] = schedule == NULL ? (Datum) 0 : CStringGetTextDatum(schedule);
	values[3] = CStringGetTextDatum(command);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* The line of a crontab, and the two units of systemd. */
void
billing_worker_return_lines(ReturnSetInfo *result)
{
	const char *database = get_database_name(MyDatabaseId);
	const char *login = GetUserNameFromId(GetSessionUserId(), false);
	const char *port = GetConfigOption("port", false, false);
	char *unit = unit_name(database);

	put_row(result, "cron", "billing_erp", "* * * * *",
			psprintf("* * * * * PGDATABASE=%s PGUSER=%s PGPORT=%s " CALL, cron_word(database),
					 cron_word(login), port));
	put_row(result, "systemd", psprintf("%s.service", unit), NULL,
			psprintf("[Unit]\n"
					 "Description=Background tasks of billing_erp in database %s\n"
					 "After=postgresql.service\n\n"
					 "[Service]\n"
					 "Type=oneshot\n"
					 "Environment=\"PGDATABASE=%s\" \"PGUSER=%s\" PGPORT=%s\n"
					 "ExecStart=" CALL "\n",
					 unit_text(database), unit_text(database), unit_text(login), port));
	put_row(result, "systemd", psprintf("%s.timer", unit), "*-*-* *:*:00",
			psprintf("[Unit]\n"
					 "Description=Every minute: background tasks of billing_erp in database %s\n\n"
					 "[Timer]\n"
					 "OnCalendar=*-*-* *:*:00\n"
					 "AccuracySec=1s\n"
					 "Persistent=true\n\n"
					 "[Install]\n"
					 "WantedBy=timers.target\n",
					 unit_text(database)));
	ereport(NOTICE,
			(errmsg("pg_cron is not in this database"), errdetail("Nothing was scheduled."),
			 errhint("Add the line of cron to the crontab of an account that may log in as %s; or "
					 "write the units to /etc/systemd/system, with User= such an account, and call "
					 "systemctl enable --now with the timer. CREATE EXTENSION pg_cron, and "
					 "billing.schedule_jobs() schedules by itself.",
					 login)));
}
