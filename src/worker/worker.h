/*
 * worker.h
 *		Work in the background: a launcher that keeps one worker per named
 *		database, and the tasks that a worker runs.
 */
#ifndef BILLING_WORKER_H
#define BILLING_WORKER_H

#include "pg_compat.h"

/* worker_launcher.c */
extern void billing_worker_init(void);

#endif /* BILLING_WORKER_H */
