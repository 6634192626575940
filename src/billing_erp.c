/*
 * billing_erp.c
 *		The module: its magic block and its start.
 *
 * Every room starts itself; this file only knows their order, which is the
 * order of the room list in the Makefile.
 */
#include "pg_compat.h"

#include "audit/audit.h"
#include "core/core.h"
#include "rating/rating.h"
#include "utils/guc.h"
#include "worker/worker.h"
#include "workflow/workflow.h"

BILLING_MODULE_MAGIC("0.1.0");

PGDLLEXPORT void _PG_init(void);

/* Start the rooms: settings, hooks, and the launcher where the library is preloaded. */
void
_PG_init(void)
{
	billing_core_init();
	billing_audit_init();
	billing_rating_init();
	billing_workflow_init();
	billing_worker_init();
	MarkGUCPrefixReserved("billing_erp");
}
