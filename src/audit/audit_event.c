/*
 * audit_event.c
 *		Records what is done to the extension's own objects: a guard that is
 *		disabled or dropped, a policy or function that is replaced, a right that is
 *		granted.
 *
 * What belongs to others is not looked at further than that, and the extension's
 * own scripts and restores are left alone.  The records are the installation's,
 * entity 0.
 */
#include "pg_compat.h"

#include "audit/audit.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/extension.h"
#include "core/core.h"
#include "tcop/cmdtag.h"
#include "mb/pg_wchar.h"
#include "tcop/tcopprot.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

/* The part of a command's text that is kept. */
#define MAX_COMMAND_LENGTH 2000

/* An object is ours if it is a member of the extension, belongs to one (a trigger, a policy), or is in our schemas. */
#define OUR_SCHEMAS "('billing', 'billing_internal')"

/* $1 text of the command: a grant has no object, what it is about is in the text */
static BillingStatement list_commands = {
	"SELECT DISTINCT lower(c.command_tag), lower(c.object_type), c.object_identity"
	" FROM pg_event_trigger_ddl_commands() c"
	" WHERE NOT c.in_extension AND (c.schema_name IN " OUR_SCHEMAS
	"  OR (c.object_type = 'schema' AND c.object_identity IN " OUR_SCHEMAS ")"
	"  OR (c.classid IS NULL AND $1 ~ '\\mbilling(_internal|_owner|_user)?\\M')"
	"  OR (c.classid = 'pg_extension'::regclass AND c.object_identity = 'billing_erp')"
	"  OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = c.classid AND d.objid = c.objid"
	"   AND ((d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass"
	"     AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp'))"
	"    OR (d.deptype IN ('a', 'i') AND EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.refclassid"
	"     AND e.objid = d.refobjid AND e.deptype = 'e' AND e.refclassid = 'pg_extension'::regclass"
	"     AND e.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp'))))))",
	1,
	{ TEXTOID },
	NULL
};

/* $1 tag: the same of what was dropped, of which the catalog knows no more */
static BillingStatement list_drops = {
	"SELECT DISTINCT lower($1), o.object_type, o.object_identity"
	" FROM pg_event_trigger_dropped_objects() o"
	" WHERE o.object_type NOT IN ('type', 'extension', 'index', 'toast table', 'default value')"
	" AND (o.schema_name IN " OUR_SCHEMAS
	"  OR (o.object_type IN ('trigger', 'policy', 'rule', 'table constraint')"
	"   AND o.address_names[1] IN " OUR_SCHEMAS "))",
	1,
	{ TEXTOID },
	NULL
};

/* Whether the extension is there, with its log: not while it is being made or dropped. */
static bool
is_there(void)
{
	Oid schema = get_namespace_oid("billing", true);

	return OidIsValid(schema) && OidIsValid(get_relname_relid("audit_log", schema)) &&
		   OidIsValid(get_extension_oid("billing_erp", true));
}

/* The command as the client sent it, shortened. */
static Datum
command_text(void)
{
	const char *text = debug_query_string == NULL ? "" : debug_query_string;

	return PointerGetDatum(
		cstring_to_text_with_len(text, pg_mbcliplen(text, strlen(text), MAX_COMMAND_LENGTH)));
}

/* {"command": the command} */
static Jsonb *
command_json(void)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"command\": ");
	escape_json(&json, TextDatumGetCString(command_text()));
	appendStringInfoCharMacro(&json, '}');
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/*
 * Write a record for each row of the result: action, type and identity of the
 * object.  Past the log's triggers, which may be what was disabled.
 */
static void
record(uint64 count)
{
	SPITupleTable *rows = SPI_tuptable;
	BillingAuditWriter *writer = billing_audit_begin_write();
	Jsonb *after = command_json();
	uint64 i;

	for (i = 0; i < count; i++)
	{
		char *action = SPI_getvalue(rows->vals[i], rows->tupdesc, 1);
		char *type = SPI_getvalue(rows->vals[i], rows->tupdesc, 2);
		char *identity = SPI_getvalue(rows->vals[i], rows->tupdesc, 3);

		billing_audit_write(writer, 0, cstring_to_text(action),
							cstring_to_text(type == NULL ? "object" : type),
							identity == NULL ? NULL : cstring_to_text(identity), NULL, after, NULL);
	}
	billing_audit_end_write(writer);
}

PG_FUNCTION_INFO_V1(billing_audit_event);

/* billing_internal.audit_event() RETURNS event_trigger, on ddl_command_end and sql_drop */
Datum
billing_audit_event(PG_FUNCTION_ARGS)
{
	EventTriggerData *event;
	Datum values[1];
	bool is_drop;
	uint64 count;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("this function is an event trigger"),
						errhint("It is not called by hand.")));
	event = (EventTriggerData *) fcinfo->context;
	if (creating_extension || billing_core_restoring || !is_there())
		PG_RETURN_VOID();
	is_drop = strcmp(event->event, "sql_drop") == 0;
	values[0] = is_drop ? CStringGetTextDatum(GetCommandTagName(event->tag)) : command_text();
	SPI_connect();
	count =
		billing_core_run_privileged(is_drop ? &list_drops : &list_commands, values, NULL, false);
	if (count > 0)
		record(count);
	SPI_finish();
	PG_RETURN_VOID();
}
