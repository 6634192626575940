/*
 * core_crash.c
 *		Named crash points: places at which a test can have a process end as if it
 *		had been killed there.
 *
 * billing_erp.crash_point names the place, "slice_numbered", or the third time that
 * the process comes by, "slice_numbered:3".  Only a superuser can set it, and it is
 * for the developers' tests: it takes down the server as any kill -9 does.  The
 * points are
 *
 *		run_opened		a run is opened and cut into slices, not committed
 *		slice_claimed	a worker has claimed a slice and committed that
 *		slice_locked	a slice and its accounts are locked, nothing is written
 *		slice_written	documents are written, numbers are not taken
 *		slice_numbered	numbers are taken and the slice is done, not committed
 *		run_closing		the last slice is committed, the run is not closed
 *
 * A new one is one call of billing_core_crash_point() between two writes that must
 * not come apart, a line above, and a case of test/tap/run_kills.pl.
 */
#include "pg_compat.h"

#include <signal.h>

#include "core/core.h"
#include "miscadmin.h"
#include "utils/guc.h"

static char *crash_point = NULL;

/* So often the process came by the point that is set. */
static int passes = 0;

/* Count anew, whatever is set. */
static void
note_crash_point(const char *value, void *extra)
{
	(void) value;
	(void) extra;
	passes = 0;
}

/* Define the setting. */
void
billing_core_crash_init(void)
{
	DefineCustomStringVariable("billing_erp.crash_point",
							   "Place at which a process ends as if it had been killed.",
							   "For tests of the extension.", &crash_point, "", PGC_SUSET,
							   GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL, NULL, note_crash_point, NULL);
}

/* End the process at once, where the setting names this point. */
void
billing_core_crash_point(const char *name)
{
	size_t length;

	if (crash_point == NULL || *crash_point == '\0')
		return;
	length = strlen(name);
	if (strncmp(crash_point, name, length) != 0 ||
		(crash_point[length] != '\0' && crash_point[length] != ':'))
		return;
	if (crash_point[length] == ':' && ++passes < atoi(crash_point + length + 1))
		return;
	kill(MyProcPid, SIGKILL);
}
