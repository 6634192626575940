/*
 * workflow.h
 *		The state machine of documents, for one document or a set.
 */
#ifndef BILLING_WORKFLOW_H
#define BILLING_WORKFLOW_H

#include "pg_compat.h"

#include "core/core.h"
#include "fmgr.h"
#include "utils/array.h"

/* workflow_engine.c */
extern void billing_workflow_hold(int32 entity_id, bool alone);
extern void billing_workflow_advance(int32 entity_id, Datum document_ids, const char *action,
									 const char *reason, bool by_function);
extern void billing_workflow_move(int32 entity_id, Datum document_ids, const char *action,
								  const char *reason);
extern void billing_workflow_expect_version(FunctionCallInfo fcinfo, int argno, int32 entity_id,
											int64 document_id);

/* workflow_approval_decide.c */
extern void billing_workflow_route(int32 entity_id, Datum document_ids, const char *action,
								   const char *reason, Datum *plain, Datum *moving);
extern bool billing_workflow_is_decided(int32 entity_id, int64 document_id, const char *action,
										const char *reason, bool *is_asked);
extern Datum billing_workflow_set_of(int64 document_id);

/* workflow_approval_mandate.c */
extern void billing_workflow_hold_duty(int32 entity_id, Datum document_ids, const char *action);

/* workflow_approval_open.c */
extern void billing_workflow_open_requests(int32 entity_id, Datum document_ids);
extern void billing_workflow_follow(int32 entity_id, Datum document_ids);
extern void billing_workflow_ask_again(int32 entity_id, Datum document_ids);

/* workflow_outbox.c */
extern void billing_workflow_init(void);
extern void billing_workflow_send(int32 entity_id, Datum document_ids, const char *action);
extern void billing_workflow_send_rows(FunctionCallInfo fcinfo, BillingStatement *statement);

#endif /* BILLING_WORKFLOW_H */
