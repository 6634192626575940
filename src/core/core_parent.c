/*
 * core_parent.c
 *		Which entity stands above which: a tree, in which what an entity did not
 *		decide for itself is decided by the next one above.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "utils/builtins.h"

/* entities above an entity, at most */
#define MAX_DEPTH 20

/* Nobody else changes the tree meanwhile: two changes could close a circle together. */
static BillingStatement lock_tree = {
	"SELECT entity_id FROM billing.legal_entity ORDER BY entity_id FOR NO KEY UPDATE",
	0,
	{ 0 },
	NULL
};

/* $1 entity: the one above it now */
static BillingStatement find_parent = {
	"SELECT parent_id FROM billing.legal_entity WHERE entity_id = $1 AND parent_id IS NOT NULL",
	1,
	{ INT4OID },
	NULL
};

/* $1 entity, $2 the one to be above it: whether that is below it, and how many would be in a line */
static BillingStatement measure_line = {
	"WITH RECURSIVE above AS ("
	" SELECT $2 AS entity_id, 1 AS n"
	" UNION ALL SELECT e.parent_id, a.n + 1 FROM above a"
	" JOIN billing.legal_entity e ON e.entity_id = a.entity_id"
	" WHERE e.parent_id IS NOT NULL AND a.n < 100),"
	" below AS ("
	" SELECT $1 AS entity_id, 1 AS n"
	" UNION ALL SELECT e.entity_id, b.n + 1 FROM below b"
	" JOIN billing.legal_entity e ON e.parent_id = b.entity_id WHERE b.n < 100)"
	" SELECT $1 IN (SELECT a.entity_id FROM above a),"
	" (SELECT max(a.n) FROM above a) + (SELECT max(b.n) FROM below b)",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* $1 entity, $2 parent */
static BillingStatement set_parent = {
	"UPDATE billing.legal_entity SET parent_id = $2 WHERE entity_id = $1",
	2,
	{ INT4OID, INT4OID },
	NULL
};

/* Whoever takes an entity out of a group administers the group's head too. */
static void
require_admin_of_parent(int32 entity_id)
{
	Datum values[1] = { Int32GetDatum(entity_id) };

	if (billing_core_run_privileged_latest(&find_parent, values, NULL) > 0)
		billing_core_require_admin(DatumGetInt32(billing_core_value(0, 0, NULL)));
}

/* Refuse a circle, and a line that is too long. */
static void
check_line(int32 entity_id, int32 parent_id)
{
	Datum values[2] = { Int32GetDatum(entity_id), Int32GetDatum(parent_id) };

	(void) billing_core_run_privileged_latest(&measure_line, values, NULL);
	if (DatumGetBool(billing_core_value(0, 0, NULL)))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_CONFLICT), errmsg("an entity cannot stand above itself"),
				 errdetail("The entity that is to be the parent is the entity or stands below it."),
				 errhint("Take the parent out of its group first: "
						 "billing.set_parent_entity(parent, NULL).")));
	if (DatumGetInt32(billing_core_value(0, 1, NULL)) > MAX_DEPTH)
		ereport(ERROR, (errcode(ERRCODE_BILLING_OUT_OF_RANGE),
						errmsg("more than %d entities would stand one above the other", MAX_DEPTH),
						errhint("Give the entity a parent that is nearer to the head.")));
}

PG_FUNCTION_INFO_V1(billing_core_set_parent_entity);

/* billing.set_parent_entity(entity text, parent text) RETURNS void; null: stands alone */
Datum
billing_core_set_parent_entity(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	bool alone = PG_ARGISNULL(1);
	int32 parent_id = 0;
	Datum values[2];

	billing_core_require_admin(entity_id);
	if (!alone)
	{
		parent_id = billing_core_entity_id(billing_core_arg_code(fcinfo, 1, "parent"));
		billing_core_require_admin(parent_id);
	}
	SPI_connect();
	(void) billing_core_run_privileged(&lock_tree, NULL, NULL, false);
	require_admin_of_parent(entity_id);
	if (!alone)
		check_line(entity_id, parent_id);
	values[0] = Int32GetDatum(entity_id);
	values[1] = Int32GetDatum(parent_id);
	(void) billing_core_run(&set_parent, values, alone ? " n" : NULL, false);
	SPI_finish();
	PG_RETURN_VOID();
}
