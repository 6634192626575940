/*
 * workflow_approval_match.c
 *		Whose approval counts for which request, where one person could speak for
 *		several: everybody counts once, and as many requests as can be are served.
 *
 * A bipartite matching by augmenting paths (Kuhn): who comes later may move who
 * came earlier to another request that they can speak for, but nobody who counts
 * ever ceases to count.  So a person who is not needed is known when they come.
 */
#include "pg_compat.h"

#include "miscadmin.h"
#include "workflow/workflow_approval.h"

/* The approvals that must be there; who is asked along with all others comes on top. */
static int
places(const BillingRequest *request)
{
	return request->needed == BILLING_NEEDED_ALL ? 1 : request->needed;
}

/* Give a person a place, moving others where that helps; whether it could be done. */
static bool
place_voice(BillingRequest *requests, int nrequests, BillingVoice *voices, int nvoices, int voice,
			bool *seen)
{
	check_stack_depth();
	for (int r = 0; r < nrequests; r++)
	{
		bool free;

		if (!voices[voice].can[r] || seen[r])
			continue;
		seen[r] = true;
		free = requests[r].given < places(&requests[r]);
		for (int other = 0; other < nvoices && !free; other++)
		{
			if (voices[other].counts_for != r)
				continue;
			free = place_voice(requests, nrequests, voices, nvoices, other, seen);
			if (free)
				requests[r].given--;
		}
		if (free)
		{
			voices[voice].counts_for = r;
			requests[r].given++;
			return true;
		}
	}
	return false;
}

/*
 * Set counts_for of every voice, given and escalated of every request.  The
 * voices are in the order in which they spoke.
 */
void
billing_workflow_match_voices(BillingRequest *requests, int nrequests, BillingVoice *voices,
							  int nvoices)
{
	bool *seen = palloc(sizeof(bool) * (nrequests + 1));

	for (int r = 0; r < nrequests; r++)
	{
		requests[r].given = 0;
		requests[r].escalated = false;
	}
	for (int v = 0; v < nvoices; v++)
		voices[v].counts_for = -1;
	for (int v = 0; v < nvoices; v++)
	{
		CHECK_FOR_INTERRUPTS();
		memset(seen, 0, sizeof(bool) * nrequests);
		(void) place_voice(requests, nrequests, voices, nvoices, v, seen);
	}
	/* where everybody is asked, everybody who came has a place */
	for (int v = 0; v < nvoices; v++)
	{
		for (int r = 0; r < nrequests && voices[v].counts_for < 0; r++)
		{
			if (voices[v].can[r] && requests[r].needed == BILLING_NEEDED_ALL)
			{
				voices[v].counts_for = r;
				requests[r].given++;
			}
		}
		if (voices[v].counts_for >= 0 && voices[v].escalates[voices[v].counts_for])
			requests[voices[v].counts_for].escalated = true;
	}
	pfree(seen);
}
