/*
 * workflow_state_load.c
 *		Reads the state machine of a kind of document as an entity has it, and writes
 *		what the entity has otherwise.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "workflow/workflow_state.h"

/* $1 entity, $2 kind */
static BillingStatement list_states = {
	"SELECT s.state, s.stage, s.is_final, s.is_own, s.is_optional, s.skip_to, o.action,"
	" coalesce(o.is_before, false)"
	" FROM billing_internal.state_of($1) s LEFT JOIN billing.entity_state o"
	"  ON s.is_own AND o.entity_id = $1 AND o.kind = s.kind AND o.state = s.state"
	" WHERE s.kind = $2 ORDER BY s.stage <> 'start', s.is_own, s.state",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 kind */
static BillingStatement list_transitions = {
	"SELECT t.from_state, t.action, t.to_state, t.duty, t.guard, t.deadline, t.approves, t.own_state,"
	" t.function_name, t.description, o.transition_id IS NOT NULL, b.to_state"
	" FROM billing_internal.transition_of($1) t"
	" LEFT JOIN billing.entity_transition o ON o.entity_id = $1 AND o.kind = t.kind"
	"  AND o.from_state = t.from_state AND o.action = t.action AND o.ended_at IS NULL"
	" LEFT JOIN billing.transition b ON b.kind = t.kind AND b.from_state = t.from_state"
	"  AND b.action = t.action"
	" WHERE t.kind = $2 ORDER BY t.from_state, t.action",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/* $1 entity, $2 kind, $3 state, $4 action */
static BillingStatement end_row = {
	"UPDATE billing.entity_transition SET ended_at = now()"
	" WHERE entity_id = $1 AND kind = $2 AND from_state = $3 AND action = $4 AND ended_at IS NULL",
	4,
	{ INT4OID, TEXTOID, TEXTOID, TEXTOID },
	NULL
};

/*
 * $1 entity, $2 kind, $3 from, $4 action, $5 to, $6 duty, $7 guard, $8 deadline, $9 approves,
 * $10 own state, $11 function, $12 description: unless billing.transition says the same,
 * or there is nothing there to be without
 */
static BillingStatement insert_row = {
	"INSERT INTO billing.entity_transition (entity_id, kind, from_state, action, to_state, duty, guard,"
	" deadline, approves, own_state, function_name, description)"
	" SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12"
	" WHERE NOT EXISTS (SELECT FROM billing.transition t WHERE t.kind = $2 AND t.from_state = $3"
	"  AND t.action = $4 AND t.to_state = $5 AND t.duty = $6 AND t.guard IS NOT DISTINCT FROM $7"
	"  AND t.deadline IS NOT DISTINCT FROM $8)"
	" AND ($5 IS NOT NULL OR EXISTS (SELECT FROM billing.transition t"
	"  WHERE t.kind = $2 AND t.from_state = $3 AND t.action = $4))",
	12,
	{ INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INTERVALOID, BOOLOID, TEXTOID,
	  TEXTOID, TEXTOID },
	NULL
};

/* A boolean of the last result. */
static bool
flag(uint64 row, int column)
{
	return DatumGetBool(billing_core_value(row, column, NULL));
}

/* Refuse a machine that nobody could draw. */
static void
check_size(uint64 count, uint64 most, const char *what)
{
	if (count > most)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_OUT_OF_RANGE), errmsg("there are too many %s", what),
				 errdetail("A kind of document has at most " UINT64_FORMAT ".", most),
				 errhint("Drop those that are not needed.")));
}

/* Read the states and transitions of a kind, all of them, or raise ERRCODE_BILLING_UNKNOWN_CODE. */
void
billing_workflow_load(WorkflowMachine *machine, int32 entity_id, const char *kind)
{
	Datum values[2] = { Int32GetDatum(entity_id), CStringGetTextDatum(kind) };
	bool isnull;

	machine->entity_id = entity_id;
	machine->kind = pstrdup(kind);
	machine->nstates = (int) billing_core_run(&list_states, values, NULL, false);
	if (machine->nstates == 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("kind of document \"%s\" does not exist", kind),
						errhint("billing.document_state lists the kinds and their states.")));
	check_size((uint64) machine->nstates, WORKFLOW_MAX_STATES, "states");
	machine->states = palloc0(sizeof(WorkflowState) * machine->nstates);
	for (int i = 0; i < machine->nstates; i++)
	{
		WorkflowState *state = &machine->states[i];

		state->name = billing_core_text_value(i, 0);
		state->stage = billing_core_text_value(i, 1);
		state->is_final = flag(i, 2);
		state->is_own = flag(i, 3);
		state->is_optional = flag(i, 4);
		state->skip_to = billing_core_text_value(i, 5);
		state->action = billing_core_text_value(i, 6);
		state->is_before = flag(i, 7);
	}
	machine->nedges = (int) billing_core_run(&list_transitions, values, NULL, false);
	check_size((uint64) machine->nedges, WORKFLOW_MAX_EDGES, "transitions");
	machine->edges = palloc0(sizeof(WorkflowEdge) * (machine->nedges + 1));
	for (int i = 0; i < machine->nedges; i++)
	{
		WorkflowEdge *edge = &machine->edges[i];

		edge->from = billing_core_text_value(i, 0);
		edge->action = billing_core_text_value(i, 1);
		edge->to = billing_core_text_value(i, 2);
		edge->duty = billing_core_text_value(i, 3);
		edge->guard = billing_core_text_value(i, 4);
		edge->deadline = billing_core_value_copy(i, 5, false, sizeof(Interval), &isnull);
		edge->has_deadline = !isnull;
		edge->approves = flag(i, 6);
		edge->own_state = billing_core_text_value(i, 7);
		edge->function_name = billing_core_text_value(i, 8);
		edge->description = billing_core_text_value(i, 9);
		edge->is_own = flag(i, 10);
		edge->builtin_to = billing_core_text_value(i, 11);
	}
}

/* The place of a state, or -1. */
int
billing_workflow_state_index(const WorkflowMachine *machine, const char *name)
{
	for (int i = 0; i < machine->nstates; i++)
	{
		if (strcmp(machine->states[i].name, name) == 0)
			return i;
	}
	return -1;
}

/* A state by name, or ERRCODE_BILLING_UNKNOWN_CODE. */
WorkflowState *
billing_workflow_state(const WorkflowMachine *machine, const char *name)
{
	int i = billing_workflow_state_index(machine, name);

	if (i < 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("documents of kind %s have no state \"%s\"", machine->kind, name),
						errhint("billing.state_machine() lists the states of an entity.")));
	return &machine->states[i];
}

/* Whether a state is of a stage; an entity's own states are open. */
bool
billing_workflow_is_stage(const WorkflowMachine *machine, const char *name, const char *stage)
{
	int i = billing_workflow_state_index(machine, name);

	return i >= 0 && strcmp(machine->states[i].stage, stage) == 0;
}

/* A transition by its state and action, or NULL. */
WorkflowEdge *
billing_workflow_edge(const WorkflowMachine *machine, const char *from, const char *action)
{
	for (int i = 0; i < machine->nedges; i++)
	{
		if (strcmp(machine->edges[i].from, from) == 0 &&
			strcmp(machine->edges[i].action, action) == 0)
			return &machine->edges[i];
	}
	return NULL;
}

/* End what the entity has of its own for a state and action, so that billing.transition holds again. */
void
billing_workflow_end(const WorkflowMachine *machine, const WorkflowEdge *edge)
{
	Datum values[4];

	values[0] = Int32GetDatum(machine->entity_id);
	values[1] = CStringGetTextDatum(machine->kind);
	values[2] = CStringGetTextDatum(edge->from);
	values[3] = CStringGetTextDatum(edge->action);
	billing_core_run(&end_row, values, NULL, false);
}

/* A text as a parameter. */
static void
set_text(Datum *values, char *nulls, int place, const char *value)
{
	nulls[place] = value == NULL ? 'n' : ' ';
	values[place] = value == NULL ? (Datum) 0 : CStringGetTextDatum(value);
}

/* Let the entity have a transition, whatever it had for that state and action. */
void
billing_workflow_put(const WorkflowMachine *machine, const WorkflowEdge *edge)
{
	Datum values[12];
	char nulls[13] = "            ";

	billing_workflow_end(machine, edge);
	values[0] = Int32GetDatum(machine->entity_id);
	set_text(values, nulls, 1, machine->kind);
	set_text(values, nulls, 2, edge->from);
	set_text(values, nulls, 3, edge->action);
	set_text(values, nulls, 4, edge->to);
	set_text(values, nulls, 5, edge->duty);
	set_text(values, nulls, 6, edge->guard);
	values[7] = edge->deadline;
	nulls[7] = edge->has_deadline ? ' ' : 'n';
	values[8] = BoolGetDatum(edge->approves);
	set_text(values, nulls, 9, edge->own_state);
	set_text(values, nulls, 10, edge->function_name);
	set_text(values, nulls, 11, edge->description);
	billing_core_run(&insert_row, values, nulls, false);
}
