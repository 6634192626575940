/*
 * core_try.c
 *		Takes a step in a subtransaction, so that its failure takes back nothing
 *		else and can be kept.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "core/core.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Take a step.  NULL, or the error that took it back, in the caller's memory.
 * Who cancels a query means all of it: that error is raised again.  So may the
 * caller do with others, by ReThrowError().  Never without having ended the inner
 * transaction: the outer one would stay open behind the client's back, with its
 * locks, and break the session at the next ROLLBACK.
 */
ErrorData *
billing_core_try(void (*step)(void *), void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(argument);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}
