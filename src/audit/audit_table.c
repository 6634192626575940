/*
 * audit_table.c
 *		Has every edited row of a table audited, while the install script runs.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Create the statement trigger for one event; transition tables allow one event each. */
static void
create_trigger(const char *table, const char *event, const char *transition, const char *arguments)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "CREATE TRIGGER z_audit_%s AFTER %s ON %s REFERENCING %s"
					 " FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.audit_rows(%s)",
					 event, event, table, transition, arguments);
	billing_core_execute(sql.data);
	pfree(sql.data);
}

/* The trigger's arguments as a list of literals. */
static char *
argument_list(const char *object_type, const char *key, const char *subject, ArrayType *personal)
{
	StringInfoData list;
	Datum *columns;
	int count;
	int i;

	initStringInfo(&list);
	appendStringInfo(&list, "%s, %s", quote_literal_cstr(object_type), quote_literal_cstr(key));
	if (subject == NULL || personal == NULL)
		return list.data;
	appendStringInfo(&list, ", %s", quote_literal_cstr(subject));
	deconstruct_array(personal, TEXTOID, -1, false, TYPALIGN_INT, &columns, NULL, &count);
	for (i = 0; i < count; i++)
		appendStringInfo(&list, ", %s", quote_literal_cstr(TextDatumGetCString(columns[i])));
	return list.data;
}

PG_FUNCTION_INFO_V1(billing_audit_table);

/*
 * billing_internal.audit_table(table_name regclass, object_type text, key text,
 *                              subject text, personal text[]) RETURNS void
 */
Datum
billing_audit_table(PG_FUNCTION_ARGS)
{
	Oid table = PG_GETARG_OID(0);
	char *arguments =
		argument_list(text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(2)),
					  PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
					  PG_ARGISNULL(4) ? NULL : PG_GETARG_ARRAYTYPE_P(4));
	char *name;

	SPI_connect();
	name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
	create_trigger(name, "insert", "NEW TABLE AS new_rows", arguments);
	create_trigger(name, "update", "OLD TABLE AS old_rows NEW TABLE AS new_rows", arguments);
	create_trigger(name, "delete", "OLD TABLE AS old_rows", arguments);
	SPI_finish();
	PG_RETURN_VOID();
}
