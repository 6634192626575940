/*
 * audit_table.c
 *		Has every edited row of a table audited, while the install script runs.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Create the statement trigger for one event; transition tables allow one event each. */
static void
create_trigger(const char *table, const char *event, const char *transition,
			   const char *object_type, const char *key)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "CREATE TRIGGER z_audit_%s AFTER %s ON %s REFERENCING %s"
					 " FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.audit_rows(%s, %s)",
					 event, event, table, transition, quote_literal_cstr(object_type),
					 quote_literal_cstr(key));
	billing_core_execute(sql.data);
	pfree(sql.data);
}

PG_FUNCTION_INFO_V1(billing_audit_table);

/* billing_internal.audit_table(table_name regclass, object_type text, key text) RETURNS void */
Datum
billing_audit_table(PG_FUNCTION_ARGS)
{
	Oid table = PG_GETARG_OID(0);
	char *object_type = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *key = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *name;

	SPI_connect();
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
	create_trigger(name, "insert", "NEW TABLE AS new_rows", object_type, key);
	create_trigger(name, "update", "OLD TABLE AS old_rows NEW TABLE AS new_rows", object_type, key);
	create_trigger(name, "delete", "OLD TABLE AS old_rows", object_type, key);
	SPI_finish();
	PG_RETURN_VOID();
}
