/*
 * workflow_define.h
 *		What every change of an entity's state machine begins and ends with, and
 *		the checks of its arguments: private to the room.
 */
#ifndef BILLING_WORKFLOW_DEFINE_H
#define BILLING_WORKFLOW_DEFINE_H

#include "workflow/workflow_state.h"

/* workflow_state_change.c */
extern void billing_workflow_begin_change(FunctionCallInfo fcinfo, WorkflowMachine *machine);
extern void billing_workflow_end_change(const WorkflowMachine *machine);
extern void billing_workflow_check_name(const char *value, const char *name);
extern void billing_workflow_check_guard(const char *guard);
extern void billing_workflow_check_own_name(const WorkflowMachine *machine, const char *action);
extern void billing_workflow_read_deadline(FunctionCallInfo fcinfo, int argno, WorkflowEdge *edge);

#endif /* BILLING_WORKFLOW_DEFINE_H */
