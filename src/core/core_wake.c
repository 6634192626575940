/*
 * core_wake.c
 *		The lock that makes a background worker the only one of its database, and
 *		how to wake whoever holds it.
 *
 * A room that writes work for the worker wakes it without knowing it; where there
 * is no worker, or it misses the call, the work waits for its next look.
 */
#include "pg_compat.h"

#include "access/xact.h"
#include "core/core.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"

/* No user can take an advisory lock of this class: theirs are of the classes 1 and 2. */
#define LOCK_CLASS 0xb111

/* The worker to wake at the end of the transaction, or 0. */
static int sleeper = 0;

/* The tag of the database's lock. */
static LOCKTAG
worker_lock(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, LOCK_CLASS);
	return tag;
}

/* The process that holds the lock, or 0. */
static int
find_worker(void)
{
	LOCKTAG tag = worker_lock();
	LockData *all = GetLockStatusData();
	int pid = 0;
	int i;

	for (i = 0; i < all->nelements && pid == 0; i++)
	{
		LockInstanceData *lock = &all->locks[i];

		if (memcmp(&lock->locktag, &tag, sizeof(tag)) == 0 &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			pid = lock->pid;
	}
	return pid;
}

/*
 * Set the worker's latch once what it is to see is committed.  A worker that has
 * ended meanwhile is not missed: the next one looks as soon as it starts.
 */
static void
wake_at_commit(XactEvent event, void *arg)
{
	PGPROC *process;

	(void) arg;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	process = event == XACT_EVENT_COMMIT && sleeper != 0 ? BackendPidGetProc(sleeper) : NULL;
	if (process != NULL)
		SetLatch(&process->procLatch);
	sleeper = 0;
}

/* Start the file: its transaction callback. */
void
billing_core_wake_init(void)
{
	RegisterXactCallback(wake_at_commit, NULL);
}

/*
 * Take the lock that only one worker of a database holds, until its process
 * ends; false where another one has it.  Like an advisory lock it outlives
 * transactions and their failures.
 */
bool
billing_core_become_only_worker(void)
{
	LOCKTAG tag = worker_lock();

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Have the worker of this database look for work as soon as this transaction has
 * committed.  False where there is none.
 */
bool
billing_core_wake_worker(void)
{
	sleeper = find_worker();
	return sleeper != 0;
}
