/*
 * core_protect.c
 *		Gives every table the same protection, while the install script runs:
 *		row-level security, grants, the guards against direct writes, and its
 *		mark for pg_dump.  Also makes the roles and hands all objects to their owner.
 *
 * One function does it, so that no table can be protected in another way; a
 * test compares the catalog with these rules.
 */
#include "pg_compat.h"

#include <stdarg.h>

#include "catalog/pg_type.h"
#include "core/core.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* The sequences that belong to a table's columns. */
static BillingStatement sequences_of = {
	"SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
	" FROM pg_depend d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace"
	" WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass"
	" AND d.refobjid = $1 AND d.deptype = 'a' AND c.relkind = 'S'",
	1,
	{ OIDOID },
	NULL
};

static BillingStatement has_entity = {
	"SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = 'entity_id' AND NOT attisdropped",
	1,
	{ OIDOID },
	NULL
};

/*
 * The members of the extension that can have an owner of their own.  A sequence
 * that belongs to a column follows its table, and so do row, array and
 * multirange types, which 17 and later list as members too.
 */
static BillingStatement members = {
	"SELECT i.type, i.identity FROM pg_depend d,"
	" LATERAL pg_identify_object(d.classid, d.objid, 0) i"
	" WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'"
	" AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'billing_erp')"
	" AND i.type = ANY ('{schema,table,view,type,function,procedure,aggregate,operator,"
	"operator class,operator family}')"
	" AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type t"
	"  LEFT JOIN pg_class c ON c.oid = t.typrelid WHERE t.oid = d.objid"
	"  AND (t.typcategory = 'A' OR t.typtype = 'm' OR c.relkind <> 'c')))"
	" ORDER BY i.type, i.identity",
	0,
	{ 0 },
	NULL
};

/* Whether the schema was another's before: as its owner, with the right to create, or with something in it. */
static BillingStatement used_schema = {
	"SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = 'billing'"
	" AND (pg_catalog.pg_get_userbyid(n.nspowner) NOT IN (current_user, 'billing_owner')"
	"  OR EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a"
	"   WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = n.oid)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oprnamespace = n.oid)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_opclass k WHERE k.opcnamespace = n.oid)"
	"  OR EXISTS (SELECT FROM pg_catalog.pg_collation l WHERE l.collnamespace = n.oid))",
	0,
	{ 0 },
	NULL
};

/* Run a command put together from identifiers. */
static void command(const char *format, ...) pg_attribute_printf(1, 2);

static void
command(const char *format, ...)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (;;)
	{
		va_list args;
		int needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	billing_core_execute(sql.data);
	pfree(sql.data);
}

/* The qualified name of a table, quoted as an identifier. */
static char *
table_name(Oid table)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
									  get_rel_name(table));
}

/*
 * Mark a table and the sequences of its columns for pg_dump; the filter leaves
 * seed rows out.  Whoever may insert rows by hand needs the sequences too.
 */
static void
mark_for_dump(Oid table, const char *filter, bool is_master)
{
	char *name = table_name(table);
	Datum values[1];
	uint64 count;
	uint64 i;
	char **sequences;

	values[0] = ObjectIdGetDatum(table);
	count = billing_core_run(&sequences_of, values, NULL, false);
	sequences = palloc(sizeof(char *) * (count + 1));
	for (i = 0; i < count; i++)
		sequences[i] = billing_core_text_value(i, 0);
	command("SELECT pg_catalog.pg_extension_config_dump(%s, %s)", quote_literal_cstr(name),
			quote_literal_cstr(filter));
	for (i = 0; i < count; i++)
	{
		command("SELECT pg_catalog.pg_extension_config_dump(%s, '')",
				quote_literal_cstr(sequences[i]));
		if (is_master)
			command("GRANT USAGE ON SEQUENCE %s TO billing_user", sequences[i]);
	}
}

/* Rows are visible, and writable at all, only in the actor's entities; the owner is not exempt. */
static void
isolate_entities(const char *name)
{
	command("ALTER TABLE %s ENABLE ROW LEVEL SECURITY", name);
	command("ALTER TABLE %s FORCE ROW LEVEL SECURITY", name);
	command("CREATE POLICY entity_isolation ON %s"
			" USING (entity_id = ANY ((SELECT billing.my_entities())::int[]))",
			name);
}

/*
 * Give a partition that is made at run time the protection of its parent: its
 * own row-level security and guards.  It is no member of the extension, so that
 * pg_dump takes it with its rows.  Inside SPI, as billing_owner.
 */
void
billing_core_protect_partition(Oid partition, const char *kind)
{
	char *name = table_name(partition);

	isolate_entities(name);
	command("CREATE TRIGGER a_guard_writes BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s"
			" FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.guard_writes(%s)",
			name, quote_literal_cstr(kind));
}

PG_FUNCTION_INFO_V1(billing_core_protect);
PG_FUNCTION_INFO_V1(billing_core_create_roles);
PG_FUNCTION_INFO_V1(billing_core_adopt);

/*
 * billing_internal.protect(table_name regclass, kind text, duty text, dump_filter text)
 * RETURNS void
 *
 * kind is
 *	document     written by the functions only, never deleted
 *	append_only  written by the functions only, never updated either
 *	queue        written by the functions only, which may also delete: derived work lists
 *	master       may be inserted and updated by anybody with the duty
 *	reference    seed rows; changed by members of billing_owner only
 * Works inside CREATE EXTENSION and ALTER EXTENSION UPDATE only.
 */
Datum
billing_core_protect(PG_FUNCTION_ARGS)
{
	Oid table = PG_GETARG_OID(0);
	char *kind = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *duty = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));
	char *filter = PG_ARGISNULL(3) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(3));
	char *name;
	Datum values[1];

	SPI_connect();
	name = table_name(table);
	values[0] = ObjectIdGetDatum(table);
	if (billing_core_run(&has_entity, values, NULL, false) > 0)
		isolate_entities(name);
	if (strcmp(get_namespace_name(get_rel_namespace(table)), "billing") == 0)
		command("GRANT SELECT ON %s TO billing_user", name);
	command("CREATE TRIGGER a_guard_writes BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s"
			" FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.guard_writes(%s)",
			name, quote_literal_cstr(kind));
	if (strcmp(kind, "master") == 0)
	{
		command("GRANT INSERT, UPDATE ON %s TO billing_user", name);
		command("CREATE TRIGGER b_guard_duty BEFORE INSERT OR UPDATE ON %s"
				" FOR EACH ROW EXECUTE FUNCTION billing_internal.guard_duty(%s)",
				name, quote_literal_cstr(duty));
	}
	mark_for_dump(table, filter, strcmp(kind, "master") == 0);
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing_internal.create_roles() RETURNS void
 *
 * Make billing_owner and billing_user where the cluster does not have them yet.  The
 * first that the install script calls: a schema that another role prepared, in the
 * hope that what is in it will run as billing_owner, is refused.
 */
Datum
billing_core_create_roles(PG_FUNCTION_ARGS)
{
	SPI_connect();
	if (billing_core_run(&used_schema, NULL, NULL, true) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				 errmsg("schema \"billing\" is not a new one"),
				 errdetail("Another role owns it or may create in it, or something is in it."),
				 errhint("Drop it, or move what is in it to another schema.")));
	if (!OidIsValid(get_role_oid("billing_owner", true)))
		billing_core_execute("CREATE ROLE billing_owner NOLOGIN");
	if (!OidIsValid(get_role_oid("billing_user", true)))
		billing_core_execute("CREATE ROLE billing_user NOLOGIN");
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * billing_internal.adopt() RETURNS void
 *
 * Hand every object of the extension to billing_owner: the last act of the
 * install script and of every upgrade.
 */
Datum
billing_core_adopt(PG_FUNCTION_ARGS)
{
	uint64 count;
	uint64 i;
	char **kinds;
	char **names;

	SPI_connect();
	count = billing_core_run(&members, NULL, NULL, false);
	kinds = palloc(sizeof(char *) * (count + 1));
	names = palloc(sizeof(char *) * (count + 1));
	for (i = 0; i < count; i++)
	{
		kinds[i] = billing_core_text_value(i, 0);
		names[i] = billing_core_text_value(i, 1);
	}
	for (i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		command("ALTER %s %s OWNER TO billing_owner", kinds[i], names[i]);
	}
	command("ALTER SCHEMA billing OWNER TO billing_owner");
	SPI_finish();
	PG_RETURN_VOID();
}
