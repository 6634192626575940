/*
 * core_settings.c
 *		Starts the room and defines its settings.
 */
#include "pg_compat.h"

#include "core/core.h"
#include "utils/guc.h"

/* Set for a database between billing.pre_restore() and billing.post_restore(). */
bool billing_core_restoring = false;

/* Define the room's settings and its transaction callbacks. */
void
billing_core_init(void)
{
	DefineCustomBoolVariable("billing_erp.restoring",
							 "Whether this database is being restored from a dump.",
							 "Set by billing.pre_restore() and reset by billing.post_restore(): "
							 "while it is on, rows are taken as they come and no function of "
							 "the extension writes.",
							 &billing_core_restoring, false, PGC_SUSET, 0, NULL, NULL, NULL);
	billing_core_actor_init();
	billing_core_wake_init();
	billing_core_crash_init();
}
