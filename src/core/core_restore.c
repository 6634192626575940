/*
 * core_restore.c
 *		Before and after a dump is restored into a database.
 *
 * CREATE EXTENSION makes triggers and foreign keys before pg_restore loads the
 * rows, in any order.  Between the two calls no trigger fires, so that every row
 * is taken as it comes; the second call looks for rows that refer to none, and
 * lets every room mend what a dump cannot carry, such as numbers of transactions.
 * Without the calls the first row is refused.
 *
 * A room's part are the functions billing_internal.restoring_<room>(), before the
 * rows come, and restored_<room>(), when the guards stand again; they take and
 * return nothing.  They are found in the catalog and run in the order of the rooms.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

/* What holds while a database is being restored: billing_erp.restoring comes first. */
static const char *const settings[][3] = {
	{ "billing_erp.restoring", "on", "off" },
	{ "session_replication_role", "replica", "origin" },
};

/* For every foreign key of the extension's tables: its name, its table, and a query for a row that violates it. */
static BillingStatement foreign_keys = {
	"SELECT c.conname::text, f.relname::text,"
	" format('SELECT 1 FROM %I.%I f WHERE %s AND NOT EXISTS (SELECT FROM %I.%I p WHERE %s) LIMIT 1',"
	"  fn.nspname, f.relname,"
	"  string_agg(format('f.%I IS NOT NULL', fa.attname), ' AND '), pn.nspname, p.relname,"
	"  string_agg(format('p.%I = f.%I', pa.attname, fa.attname), ' AND '))"
	" FROM pg_constraint c"
	" JOIN pg_class f ON f.oid = c.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace"
	" JOIN pg_class p ON p.oid = c.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace"
	" JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = f.oid AND d.deptype = 'e'"
	"  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')"
	" CROSS JOIN unnest(c.conkey, c.confkey) AS k (f, p)"
	" JOIN pg_attribute fa ON fa.attrelid = f.oid AND fa.attnum = k.f"
	" JOIN pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum = k.p"
	" WHERE c.contype = 'f' AND c.conparentid = 0"
	" GROUP BY c.oid, c.conname, f.relname, fn.nspname, p.relname, pn.nspname ORDER BY 2, 1",
	0,
	{ 0 },
	NULL
};

/* $1 restoring or restored */
static BillingStatement find_steps = {
	"SELECT quote_ident(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
	" JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'"
	" WHERE n.nspname = 'billing_internal' AND p.proname LIKE $1 || '\\_%' AND p.pronargs = 0"
	" AND p.prorettype = 'void'::regtype"
	" AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')"
	" ORDER BY p.oid",
	1,
	{ TEXTOID },
	NULL
};

/* Refuse a restore of which some rows are missing. */
static void
check_foreign_keys(void)
{
	uint64 count = billing_core_run(&foreign_keys, NULL, NULL, true);
	char **names = palloc(sizeof(char *) * (3 * count + 1));
	uint64 i;

	for (i = 0; i < 3 * count; i++)
		names[i] = billing_core_text_value(i / 3, i % 3);
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (billing_core_execute(names[3 * i + 2]) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_BILLING_RESTORE_STATE),
					 errmsg("table \"%s\" refers to rows that were not restored", names[3 * i + 1]),
					 errdetail("Some of its rows violate the foreign key \"%s\".", names[3 * i]),
					 errhint("Restore what is missing and call billing.post_restore() again.")));
	}
}

/* Have every room take its step: make way for the rows, or mend what it could not dump. */
static void
run_steps(const char *step)
{
	Datum value = CStringGetTextDatum(step);
	uint64 count = billing_core_run(&find_steps, &value, NULL, true);
	char **names = palloc(sizeof(char *) * (count + 1));
	uint64 i;

	for (i = 0; i < count; i++)
		names[i] = billing_core_text_value(i, 0);
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		(void) billing_core_execute(psprintf("SELECT billing_internal.%s()", names[i]));
	}
}

/* Go on only for a superuser, in a database that is not, or is, being restored. */
static void
check_state(bool restoring)
{
	if (!superuser_arg(GetSessionUserId()))
		ereport(ERROR, (errcode(ERRCODE_BILLING_DUTY_REQUIRED),
						errmsg("only a superuser may restore the billing data"),
						errhint("Restore as the superuser that created the extension.")));
	if (billing_core_restoring != restoring)
		ereport(ERROR, (errcode(ERRCODE_BILLING_RESTORE_STATE),
						restoring ? errmsg("database is not being restored")
								  : errmsg("database is being restored already"),
						errhint("The order is CREATE EXTENSION, billing.pre_restore(), "
								"pg_restore, billing.post_restore().")));
}

/* Write or take back the settings for this database, and for this session. */
static void
set_restoring(bool restoring)
{
	char *database = get_database_name(MyDatabaseId);
	size_t i;

	for (i = 0; i < lengthof(settings); i++)
	{
		const char *name = settings[i][0];

		if (restoring)
			billing_core_execute(psprintf("ALTER DATABASE %s SET %s = %s",
										  quote_identifier(database), name, settings[i][1]));
		else
			billing_core_execute(
				psprintf("ALTER DATABASE %s RESET %s", quote_identifier(database), name));
		SetConfigOption(name, settings[i][restoring ? 1 : 2], PGC_SUSET, PGC_S_SESSION);
	}
}

PG_FUNCTION_INFO_V1(billing_core_pre_restore);
PG_FUNCTION_INFO_V1(billing_core_post_restore);

/* billing.pre_restore() RETURNS void: sessions that start from now on take rows as they come */
Datum
billing_core_pre_restore(PG_FUNCTION_ARGS)
{
	check_state(false);
	SPI_connect();
	set_restoring(true);
	run_steps("restoring");
	SPI_finish();
	PG_RETURN_VOID();
}

/* billing.post_restore() RETURNS void: guard the tables again; raises ZB011 where rows are missing */
Datum
billing_core_post_restore(PG_FUNCTION_ARGS)
{
	check_state(true);
	SPI_connect();
	check_foreign_keys();
	set_restoring(false);
	run_steps("restored");
	SPI_finish();
	PG_RETURN_VOID();
}
