/*
 * workflow_state.h
 *		The state machine of one kind of document, as one entity has it: private to
 *		the room.
 */
#ifndef BILLING_WORKFLOW_STATE_H
#define BILLING_WORKFLOW_STATE_H

#include "core/core.h"

/* More than any business has; what searches a machine ends soon. */
#define WORKFLOW_MAX_STATES 100
#define WORKFLOW_MAX_EDGES 1000

typedef struct WorkflowState
{
	char *name;
	char *stage;
	bool is_final;
	bool is_own; /* the entity's own, not one of billing.document_state */
	bool is_optional;
	char *skip_to; /* NULL: nowhere */
	char *action;  /* of an own state: the action that came with it */
	bool is_before;
} WorkflowState;

/* A transition. */
typedef struct WorkflowEdge
{
	char *from;
	char *action;
	char *to; /* NULL, for billing_workflow_put() alone: the entity does not have it */
	char *duty;
	char *guard;
	bool has_deadline;
	Datum deadline;
	bool approves;
	char *own_state;
	char *function_name;
	char *description;
	bool is_own;	  /* a row of billing.entity_transition */
	char *builtin_to; /* where billing.transition leads; NULL: it has no such row */
} WorkflowEdge;

typedef struct WorkflowMachine
{
	int32 entity_id;
	char *kind;
	int nstates;
	WorkflowState *states;
	int nedges;
	WorkflowEdge *edges;
} WorkflowMachine;

/* workflow_state_load.c: call between SPI_connect() and SPI_finish() */
extern void billing_workflow_load(WorkflowMachine *machine, int32 entity_id, const char *kind);
extern int billing_workflow_state_index(const WorkflowMachine *machine, const char *name);
extern WorkflowState *billing_workflow_state(const WorkflowMachine *machine, const char *name);
extern WorkflowEdge *billing_workflow_edge(const WorkflowMachine *machine, const char *from,
										   const char *action);
extern bool billing_workflow_is_stage(const WorkflowMachine *machine, const char *name,
									  const char *stage);
extern void billing_workflow_put(const WorkflowMachine *machine, const WorkflowEdge *edge);
extern void billing_workflow_end(const WorkflowMachine *machine, const WorkflowEdge *edge);

/* workflow_state_graph.c: what is wrong with a machine, or NULL */
extern char *billing_workflow_find_problem(const WorkflowMachine *machine, char **path,
										   bool *is_way_around);

#endif /* BILLING_WORKFLOW_STATE_H */
