/*
 * core_spi.c
 *		The one way to run SQL from C: statements prepared once per session,
 *		parameters bound by type, results checked.
 *
 * Every SQL function that reaches this code is SECURITY DEFINER with a pinned
 * search_path, so operators and functions in the texts mean pg_catalog's.
 */
#include "pg_compat.h"

#include "catalog/pg_authid.h"
#include "core/core.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Prepare a statement at its first use in this session. */
static void
prepare(BillingStatement *statement)
{
	SPIPlanPtr plan;

	if (statement->plan != NULL)
		return;
	plan = SPI_prepare(statement->sql, statement->nargs, statement->argtypes);
	if (plan == NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not prepare an internal statement: %s",
							   SPI_result_code_string(SPI_result)),
						errdetail("The statement is: %s", statement->sql)));
	SPI_keepplan(plan);
	statement->plan = plan;
}

/* What a violated constraint means to a caller of the interface. */
static int
billing_error_of(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_UNIQUE_VIOLATION:
			return ERRCODE_BILLING_DUPLICATE_CODE;
		case ERRCODE_EXCLUSION_VIOLATION:
			return ERRCODE_BILLING_CONFLICT;
		case ERRCODE_FOREIGN_KEY_VIOLATION:
			return ERRCODE_BILLING_UNKNOWN_CODE;
		case ERRCODE_CHECK_VIOLATION:
		case ERRCODE_NOT_NULL_VIOLATION:
			return ERRCODE_BILLING_INVALID_ARGUMENT;
		case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
		case ERRCODE_DATETIME_VALUE_OUT_OF_RANGE:
			return ERRCODE_BILLING_OUT_OF_RANGE;
		default:
			return sqlstate;
	}
}

/* Make a constraint's error an error of the interface. */
void
billing_core_translate_error(ErrorData *error)
{
	if (billing_error_of(error->sqlerrcode) != error->sqlerrcode)
	{
		error->sqlerrcode = billing_error_of(error->sqlerrcode);
		if (error->hint == NULL)
			error->hint = error->constraint_name == NULL ? pstrdup("Check the values given.")
						  : error->table_name == NULL
							  ? psprintf("See the rule \"%s\".", error->constraint_name)
							  : psprintf("See the rule \"%s\" of table \"%s\".",
										 error->constraint_name, error->table_name);
	}
}

/* Raise a constraint's error again, as an error of the interface. */
static void
raise_translated(MemoryContext context)
{
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	billing_core_translate_error(error);
	FlushErrorState();
	ReThrowError(error);
}

/* Run a statement in a snapshot, or in the one that is due where that is InvalidSnapshot. */
static uint64
run_in_snapshot(BillingStatement *statement, Datum *values, const char *nulls, Snapshot snapshot,
				bool read_only)
{
	MemoryContext context = CurrentMemoryContext;
	volatile int result = 0;

	prepare(statement);
	PG_TRY();
	{
		result = SPI_execute_snapshot(statement->plan, values, nulls, snapshot, InvalidSnapshot,
									  read_only, true, 0);
	}
	PG_CATCH();
	{
		raise_translated(context);
	}
	PG_END_TRY();
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("could not run an internal statement: %s", SPI_result_code_string(result)),
				 errdetail("The statement is: %s", statement->sql)));
	return SPI_processed;
}

/*
 * Run a statement and return the number of rows it processed; the rows are in
 * SPI_tuptable.  A writing statement sees what earlier ones of the same
 * function wrote and what others have committed meanwhile.  Violated
 * constraints surface as errors of class ZB.
 */
uint64
billing_core_run(BillingStatement *statement, Datum *values, const char *nulls, bool read_only)
{
	return run_in_snapshot(statement, values, nulls, InvalidSnapshot, read_only);
}

/*
 * The same, seeing what is committed by now even where the transaction keeps to
 * one snapshot: for a check under a lock that is to hold whoever had it before.
 */
uint64
billing_core_run_latest(BillingStatement *statement, Datum *values, const char *nulls)
{
	return run_in_snapshot(statement, values, nulls, GetLatestSnapshot(), false);
}

/* Run a statement as the owner of the tables and past row-level security. */
static uint64
run_past_policies(BillingStatement *statement, Datum *values, const char *nulls, Snapshot snapshot,
				  bool read_only)
{
	Oid user;
	int context;
	uint64 processed;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(billing_core_owner(),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	processed = run_in_snapshot(statement, values, nulls, snapshot, read_only);
	SetUserIdAndSecContext(user, context);
	return processed;
}

/*
 * The same, seeing what a snapshot sees and what the transaction has written
 * since: two readings in one snapshot differ by the transaction's own writes alone.
 */
uint64
billing_core_run_at(BillingStatement *statement, Datum *values, const char *nulls,
					Snapshot snapshot)
{
	return run_in_snapshot(statement, values, nulls, snapshot, false);
}

/*
 * Run a statement as the owner of the tables and past row-level security: for
 * finding out who acts and what they may see, which the policies themselves
 * ask.  A statement run here is never run by billing_core_run(), because a kept
 * plan does not know the difference.
 */
uint64
billing_core_run_privileged(BillingStatement *statement, Datum *values, const char *nulls,
							bool read_only)
{
	return run_past_policies(statement, values, nulls, InvalidSnapshot, read_only);
}

/* The same, seeing what is committed by now. */
uint64
billing_core_run_privileged_latest(BillingStatement *statement, Datum *values, const char *nulls)
{
	return run_past_policies(statement, values, nulls, GetLatestSnapshot(), false);
}

/* Open a cursor for a statement that reads more rows than fit into memory, in the active snapshot. */
Portal
billing_core_open(BillingStatement *statement, Datum *values, const char *nulls)
{
	prepare(statement);
	return SPI_cursor_open(NULL, statement->plan, values, nulls, true);
}

/* Run a command that was put together from identifiers, never from values. */
uint64
billing_core_execute(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("could not run an internal command: %s", SPI_result_code_string(result)),
				 errdetail("The command is: %s", sql)));
	return SPI_processed;
}

/* The same with values as parameters, as the owner of the tables and past row-level security. */
uint64
billing_core_execute_privileged(const char *sql, int nargs, Oid *types, Datum *values)
{
	Oid user;
	int context;
	int result;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(billing_core_owner(),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	result = SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0);
	SetUserIdAndSecContext(user, context);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("could not run an internal command: %s", SPI_result_code_string(result)),
				 errdetail("The command is: %s", sql)));
	return SPI_processed;
}

/* One value of the last result; row and column count from 0. */
Datum
billing_core_value(uint64 row, int column, bool *isnull)
{
	bool ignored;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1,
						 isnull != NULL ? isnull : &ignored);
}

/* The same, copied to where it outlives SPI_finish(). */
Datum
billing_core_value_copy(uint64 row, int column, bool typbyval, int16 typlen, bool *isnull)
{
	bool null;
	Datum value = billing_core_value(row, column, &null);

	if (isnull != NULL)
		*isnull = null;
	return null ? (Datum) 0 : SPI_datumTransfer(value, typbyval, typlen);
}

/* One value of the last result as text that outlives SPI_finish(), or NULL. */
char *
billing_core_text_value(uint64 row, int column)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1);
	char *copy;

	if (value == NULL)
		return NULL;
	copy = SPI_palloc(strlen(value) + 1);
	strcpy(copy, value);
	return copy;
}

/* The role that owns every object of the extension. */
Oid
billing_core_owner(void)
{
	Oid owner = get_role_oid("billing_owner", true);

	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("role \"billing_owner\" does not exist"),
						errhint("Create it with CREATE ROLE billing_owner NOLOGIN, and make it "
								"the owner of the extension's objects again.")));
	return owner;
}
