/*
 * workflow.h
 *		The state machine of documents, for one document or a set.
 */
#ifndef BILLING_WORKFLOW_H
#define BILLING_WORKFLOW_H

#include "pg_compat.h"

#include "utils/array.h"

/* workflow_engine.c */
extern void billing_workflow_advance(int32 entity_id, Datum document_ids, const char *action,
									 const char *reason, bool by_function);

#endif /* BILLING_WORKFLOW_H */
