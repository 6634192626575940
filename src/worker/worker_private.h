/*
 * worker_private.h
 *		What the files of the room share: settings, the message from launcher to
 *		worker, and the steps of running a task.
 */
#ifndef BILLING_WORKER_PRIVATE_H
#define BILLING_WORKER_PRIVATE_H

#include "pg_compat.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

/*
 * The version of the SQL that this library works with.  A worker waits while
 * the extension of its database has another one.
 */
#define BILLING_WORKER_VERSION "0.1.0"

/* worker_launcher.c */
extern int billing_worker_interval;

/* What the launcher hands to a worker, in bgw_extra. */
typedef struct BillingWorkerStart
{
	Oid database;
	Oid owner; /* billing_owner */
} BillingWorkerStart;

extern PGDLLEXPORT void billing_worker_launcher_main(Datum arg);
extern PGDLLEXPORT void billing_worker_main(Datum arg);

/* worker_tasks.c: call in a transaction with a snapshot, as billing_owner */
extern List *billing_worker_list(bool everything);
extern bool billing_worker_claim(const char *task, bool everything, TimestampTz *started);
extern bool billing_worker_hold(const char *task, TimestampTz started);
extern void billing_worker_call(const char *task);
extern void billing_worker_record(const char *task, const char *error);
extern char *billing_worker_describe(ErrorData *error);

#endif /* BILLING_WORKER_PRIVATE_H */
