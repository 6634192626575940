/*
 * worker_private.h
 *		What the files of the room share: settings, the message to a worker that
 *		starts, its transactions, and the steps of running a task.
 */
#ifndef BILLING_WORKER_PRIVATE_H
#define BILLING_WORKER_PRIVATE_H

#include "pg_compat.h"

#include "nodes/execnodes.h"
#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"

/*
 * The version of the SQL that this library works with.  A worker waits while
 * the extension of its database has another one.
 */
#define BILLING_WORKER_VERSION "0.1.0"

/* The most run workers of one database. */
#define BILLING_MAX_RUN_WORKERS 64

/* What a worker is told by who starts it, in bgw_extra. */
typedef struct BillingWorkerStart
{
	Oid database;
	Oid owner;	  /* billing_owner */
	int32 number; /* of a run worker, from 0 */
} BillingWorkerStart;

/* What a worker finds in its database. */
typedef enum BillingCondition
{
	UNKNOWN,
	NO_EXTENSION,
	OTHER_VERSION,
	RESTORING,
	READY
} BillingCondition;

/* worker_launcher.c */
extern int billing_worker_interval;
extern void billing_worker_describe_process(BackgroundWorker *worker, const char *function,
											const char *type);
extern PGDLLEXPORT void billing_worker_launcher_main(Datum arg);

/* worker_main.c */
extern PGDLLEXPORT void billing_worker_main(Datum arg);

/* worker_pool.c */
extern int billing_worker_run_workers;
extern void billing_worker_pool_init(void);
extern void billing_worker_begin_runs(const BillingWorkerStart *start);
extern bool billing_worker_tend_runs(void);

/* worker_run.c */
extern bool billing_worker_bill_next(void);
extern PGDLLEXPORT void billing_worker_run_main(Datum arg);

/* worker_session.c */
extern const char *billing_worker_database;
extern void billing_worker_connect(BillingWorkerStart *message);
extern void billing_worker_follow_settings(void);
extern void billing_worker_begin(void);
extern void billing_worker_commit(void);
extern char *billing_worker_try(void (*step)(const void *), const void *argument);
extern BillingCondition billing_worker_look(char **version);

/* Which tasks a claim takes; the statement in worker_tasks.c knows the numbers. */
typedef enum BillingClaim
{
	CLAIM_DUE,	   /* what is enabled and due */
	CLAIM_SOON,	   /* the same, or will be in a moment */
	CLAIM_ENABLED, /* what is enabled */
	CLAIM_ANY
} BillingClaim;

/* worker_lines.c */
extern void billing_worker_return_lines(ReturnSetInfo *result);

/* worker_api.c */
extern void billing_worker_check_task(const char *task);

/* worker_tasks.c: call in a transaction with a snapshot, as billing_owner */
extern List *billing_worker_list(bool everything);
extern bool billing_worker_claim(const char *task, bool everything, TimestampTz *started);
extern bool billing_worker_claim_if(const char *task, BillingClaim which, TimestampTz *started);
extern bool billing_worker_perform(const char *task, TimestampTz started, char **error);
extern bool billing_worker_hold(const char *task, TimestampTz started);
extern void billing_worker_call(const char *task);
extern void billing_worker_record(const char *task, const char *error);
extern char *billing_worker_describe(ErrorData *error);

#endif /* BILLING_WORKER_PRIVATE_H */
