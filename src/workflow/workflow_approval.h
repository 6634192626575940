/*
 * workflow_approval.h
 *		What the files about approvals share: the requests of a document's stage,
 *		who has spoken for which, and who may.
 */
#ifndef BILLING_WORKFLOW_APPROVAL_H
#define BILLING_WORKFLOW_APPROVAL_H

#include "pg_compat.h"

/* Of everybody who is there to ask. */
#define BILLING_NEEDED_ALL 0

/* An open request of the stage at hand. */
typedef struct BillingRequest
{
	int64 request_id;
	int needed;		/* BILLING_NEEDED_ALL, or how many */
	int given;		/* how many approvals count for it */
	bool escalated; /* one of them came after the deadline, from whom it was escalated to */
} BillingRequest;

/* What one person said: for which requests of the stage it could count, and does. */
typedef struct BillingVoice
{
	int32 person_id;
	bool *can;		 /* by request */
	bool *escalates; /* by request: only because the deadline has passed */
	int counts_for;	 /* a request, or -1 */
} BillingVoice;

/* workflow_approval_match.c */
extern void billing_workflow_match_voices(BillingRequest *requests, int nrequests,
										  BillingVoice *voices, int nvoices);

/* workflow_approval_mandate.c */
typedef struct BillingMandate
{
	int64 *requests; /* the open requests that the actor can decide */
	bool *escalates;
	int nrequests;
	int32 on_behalf_of; /* -1: in their own right */
} BillingMandate;

extern void billing_workflow_find_mandate(int32 entity_id, int64 document_id, const char *action,
										  bool is_approval, BillingMandate *mandate);
extern void billing_workflow_refuse_surplus(int64 document_id, const char *action);

/* workflow_approval_decide.c */
extern bool billing_workflow_decide(int32 entity_id, int64 document_id, const char *action,
									const char *reason);

/* workflow_approval_settle.c */
extern bool billing_workflow_settle(int32 entity_id, int64 document_id, int32 voice_of);

#endif /* BILLING_WORKFLOW_APPROVAL_H */
