/*
 * pg_compat.h
 *		The only file that knows server versions.
 *
 * Everything that differs between PostgreSQL 15, 17 and 18 is given one name
 * here; each entry says which server change made it necessary.
 */
#ifndef BILLING_PG_COMPAT_H
#define BILLING_PG_COMPAT_H

#include "postgres.h"

#include "fmgr.h"

#if PG_VERSION_NUM < 150000
#error "billing_erp needs PostgreSQL 15 or later"
#endif

/* varlena macros moved out of postgres.h in 16 */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18 lets a module say its name and version (PG_MODULE_MAGIC_EXT) */
#if PG_VERSION_NUM >= 180000
#define BILLING_MODULE_MAGIC(release) PG_MODULE_MAGIC_EXT(.name = "billing_erp", .version = release)
#else
#define BILLING_MODULE_MAGIC(release) PG_MODULE_MAGIC
#endif

/* 18 replaced the attribute pg_attribute_noreturn() by the prefix pg_noreturn */
#if PG_VERSION_NUM >= 180000
#define BILLING_NORETURN pg_noreturn
#else
#define BILLING_NORETURN pg_attribute_noreturn()
#endif

/*
 * 17 lets a worker connect as a role that cannot log in; before, it connects as
 * the bootstrap superuser and takes the role on itself
 */
#if PG_VERSION_NUM >= 170000
#define BILLING_WORKER_ROLE(role) (role)
#define BILLING_WORKER_FLAGS BGWORKER_BYPASS_ROLELOGINCHECK
#else
#define BILLING_WORKER_ROLE(role) InvalidOid
#define BILLING_WORKER_FLAGS 0
#endif

/* 17 lets a module name what it waits for */
#if PG_VERSION_NUM >= 170000
#include "utils/wait_event.h"
#define billing_wait_event(name) WaitEventExtensionNew(name)
#else
#define billing_wait_event(name) PG_WAIT_EXTENSION
#endif

/* 16 lets an index insertion know that only summarizing indexes need it */
#if PG_VERSION_NUM >= 160000
#define billing_insert_index_tuples(result, slot, estate, no_error, conflict) \
	list_free(ExecInsertIndexTuples(result, slot, estate, false, no_error, conflict, NIL, false))
#else
#define billing_insert_index_tuples(result, slot, estate, no_error, conflict) \
	list_free(ExecInsertIndexTuples(result, slot, estate, false, no_error, conflict, NIL))
#endif

/* 18 counts what index scans do */
#if PG_VERSION_NUM >= 180000
#define billing_begin_index_scan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, NULL, keys, 0)
#else
#define billing_begin_index_scan(table, index, snapshot, keys) \
	index_beginscan(table, index, snapshot, keys, 0)
#endif

#endif /* BILLING_PG_COMPAT_H */
