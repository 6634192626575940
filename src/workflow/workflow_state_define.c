/*
 * workflow_state_define.c
 *		An entity's own states: put between the built-in ones, taken out again, and
 *		optional ones turned off and on.
 *
 * A change is written first and then searched as a whole: what could strand a
 * document, or lead around an approval, is refused with the path that shows it.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "workflow/workflow_define.h"

/* $1 entity, $2 kind, $3 state, $4 off, $5 action, $6 is before, $7 description */
static BillingStatement write_state = {
	"INSERT INTO billing.entity_state AS s (entity_id, kind, state, is_off, action, is_before, description)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7)"
	" ON CONFLICT (entity_id, kind, state) DO UPDATE SET is_off = $4, action = coalesce($5, s.action),"
	" is_before = $6, description = coalesce(nullif($7, '-'), s.description)",
	7,
	{ INT4OID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, BOOLOID, TEXTOID },
	NULL
};

/* $1 entity, $2 kind, $3 state: how many documents stand there, and one of them */
static BillingStatement count_documents = {
	"SELECT count(*), min(document_id) FROM billing.document"
	" WHERE entity_id = $1 AND kind = $2 AND state = $3",
	3,
	{ INT4OID, TEXTOID, TEXTOID },
	NULL
};

/* $1 entity, $2 kind, $3 state: every row that leads to or from it goes */
static BillingStatement end_rows = {
	"UPDATE billing.entity_transition o SET ended_at = now()"
	" WHERE o.entity_id = $1 AND o.kind = $2 AND o.ended_at IS NULL"
	" AND (o.from_state = $3 OR o.to_state = $3 OR EXISTS (SELECT FROM billing.transition t"
	"  WHERE t.kind = o.kind AND t.from_state = o.from_state AND t.action = o.action"
	"  AND t.to_state = $3))",
	3,
	{ INT4OID, TEXTOID, TEXTOID },
	NULL
};

/* $1 kind, $2 state */
static BillingStatement builtin_state = {
	"SELECT is_optional FROM billing.document_state WHERE kind = $1 AND state = $2",
	2,
	{ TEXTOID, TEXTOID },
	NULL
};

/* Write that a state is on or off. */
static void
set_state(const WorkflowMachine *machine, const char *state, bool is_off, const char *action,
		  bool is_before, const char *description)
{
	Datum values[7];
	char nulls[8] = "       ";

	values[0] = Int32GetDatum(machine->entity_id);
	values[1] = CStringGetTextDatum(machine->kind);
	values[2] = CStringGetTextDatum(state);
	values[3] = BoolGetDatum(is_off);
	values[4] = action == NULL ? (Datum) 0 : CStringGetTextDatum(action);
	nulls[4] = action == NULL ? 'n' : ' ';
	values[5] = BoolGetDatum(is_before);
	values[6] = CStringGetTextDatum(description == NULL ? "-" : description);
	billing_core_run(&write_state, values, nulls, false);
}

/* Refuse to turn a state off in which documents stand. */
static void
check_empty(const WorkflowMachine *machine, const char *state)
{
	Datum values[3];
	int64 count;

	values[0] = Int32GetDatum(machine->entity_id);
	values[1] = CStringGetTextDatum(machine->kind);
	values[2] = CStringGetTextDatum(state);
	billing_core_run_latest(&count_documents, values, NULL);
	count = DatumGetInt64(billing_core_value(0, 0, NULL));
	if (count > 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg(INT64_FORMAT " documents of kind %s are in state %s", count,
							   machine->kind, state),
						errdetail("One of them is document D" INT64_FORMAT ".",
								  DatumGetInt64(billing_core_value(0, 1, NULL))),
						errhint("Take them on first.")));
}

/* Let what drops a document before or after a state drop it there too. */
static void
copy_drops(const WorkflowMachine *machine, const char *state, const char *neighbour)
{
	for (int i = 0; i < machine->nedges; i++)
	{
		WorkflowEdge edge = machine->edges[i];

		if (strcmp(edge.from, neighbour) != 0 || edge.to == NULL || edge.guard != NULL ||
			!billing_workflow_is_stage(machine, edge.to, "dropped"))
			continue;
		edge.from = pstrdup(state);
		billing_workflow_put(machine, &edge);
	}
}

/* Put a state onto one transition: after its action, or before it. */
static void
put_onto(const WorkflowMachine *machine, const WorkflowEdge *edge, const WorkflowEdge *own,
		 const char *state, bool is_before)
{
	WorkflowEdge way_in = is_before ? *own : *edge;
	WorkflowEdge way_on = is_before ? *edge : *own;
	WorkflowEdge gone = *edge;

	way_in.from = edge->from;
	way_in.to = pstrdup(state);
	way_on.from = pstrdup(state);
	way_on.to = edge->to;
	if (is_before)
	{
		gone.to = NULL;
		billing_workflow_put(machine, &gone);
	}
	billing_workflow_put(machine, &way_in);
	billing_workflow_put(machine, &way_on);
}

/* Put a state between two others, and return whether it stands before their action. */
static bool
put_between(const WorkflowMachine *machine, const WorkflowEdge *own, const char *state,
			const char *after, const char *before)
{
	bool found = false;
	bool is_before = false;

	for (int i = 0; i < machine->nedges; i++)
	{
		const WorkflowEdge *edge = &machine->edges[i];

		if (strcmp(edge->from, after) != 0 || strcmp(edge->to, before) != 0 ||
			strcmp(edge->own_state, "none") == 0)
			continue;
		is_before = strcmp(edge->own_state, "before") == 0;
		put_onto(machine, edge, own, state, is_before);
		found = true;
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				 errmsg("no state can be put between %s and %s", after, before),
				 errdetail("No action leads from one to the other that lets an entity do so."),
				 errhint("billing.state_machine() shows the ways; column own_state says where.")));
	copy_drops(machine, state, after);
	copy_drops(machine, state, before);
	return is_before;
}

/* Turn an optional state on again. */
static void
turn_on(const WorkflowMachine *machine, const char *state)
{
	Datum values[3];

	values[0] = Int32GetDatum(machine->entity_id);
	values[1] = CStringGetTextDatum(machine->kind);
	values[2] = CStringGetTextDatum(state);
	billing_core_run(&end_rows, values, NULL, false);
	set_state(machine, state, false, NULL, false, NULL);
}

/* Whether a state is one of billing.document_state, and whether that is optional. */
static bool
is_builtin(const WorkflowMachine *machine, const char *state, bool *is_optional)
{
	Datum values[2] = { CStringGetTextDatum(machine->kind), CStringGetTextDatum(state) };
	bool found = billing_core_run(&builtin_state, values, NULL, false) > 0;

	*is_optional = found && DatumGetBool(billing_core_value(0, 0, NULL));
	return found;
}

/* Take an own state out: what led to it leads on, or what led on starts where it was led to from. */
static void
take_out(const WorkflowMachine *machine, const WorkflowState *state)
{
	const WorkflowEdge *onward =
		state->is_before ? NULL : billing_workflow_edge(machine, state->name, state->action);
	Datum values[3];

	values[0] = Int32GetDatum(machine->entity_id);
	values[1] = CStringGetTextDatum(machine->kind);
	values[2] = CStringGetTextDatum(state->name);
	billing_core_run(&end_rows, values, NULL, false);
	for (int i = 0; i < machine->nedges; i++)
	{
		const WorkflowEdge *in = &machine->edges[i];
		WorkflowEdge moved = *in;

		if (strcmp(in->to, state->name) != 0 || strcmp(in->from, state->name) == 0)
			continue;
		if (onward != NULL)
		{
			moved.to = onward->to;
			billing_workflow_put(machine, &moved);
		}
		for (int j = 0;
			 state->is_before && strcmp(in->action, state->action) == 0 && j < machine->nedges; j++)
		{
			moved = machine->edges[j];
			if (strcmp(moved.from, state->name) != 0 ||
				billing_workflow_is_stage(machine, moved.to, "dropped"))
				continue;
			moved.from = in->from;
			billing_workflow_put(machine, &moved);
		}
	}
	set_state(machine, state->name, true, NULL, state->is_before, NULL);
}

/* Turn an optional state off: what led to it skips it, or goes with it. */
static void
turn_off(const WorkflowMachine *machine, const WorkflowState *state)
{
	for (int i = 0; i < machine->nedges; i++)
	{
		WorkflowEdge edge = machine->edges[i];
		bool leads_in = strcmp(edge.to, state->name) == 0;

		if (!leads_in && strcmp(edge.from, state->name) != 0)
			continue;
		edge.to = leads_in && strcmp(edge.from, state->name) != 0 ? state->skip_to : NULL;
		if (edge.to != NULL && strcmp(edge.to, edge.from) == 0)
			edge.to = NULL;
		billing_workflow_put(machine, &edge);
	}
	set_state(machine, state->name, true, NULL, false, "turned off");
}

/* The arguments of a new state's own transition. */
static void
read_own(FunctionCallInfo fcinfo, WorkflowEdge *own)
{
	memset(own, 0, sizeof(*own));
	own->action = billing_core_arg_code(fcinfo, 5, "action");
	billing_workflow_check_name(own->action, "action");
	own->duty = billing_core_arg_code(fcinfo, 6, "duty");
	own->guard = billing_core_arg_optional_code(fcinfo, 7, "guard");
	billing_workflow_check_guard(own->guard);
	billing_workflow_read_deadline(fcinfo, 8, own);
	own->description = billing_core_arg_optional_text(fcinfo, 9, "description");
	if (own->description == NULL)
		own->description = own->action;
	own->own_state = "after";
	own->function_name = "take_action";
}

PG_FUNCTION_INFO_V1(billing_workflow_add_state);
PG_FUNCTION_INFO_V1(billing_workflow_drop_state);

/*
 * billing.add_state(entity, kind, state, after, before, action, duty, guard, deadline interval,
 *                   description) RETURNS void
 *
 * A state of the entity's own between two others, or with the first three
 * arguments alone an optional one that was turned off.
 */
Datum
billing_workflow_add_state(PG_FUNCTION_ARGS)
{
	WorkflowMachine machine;
	WorkflowEdge own;
	char *state = billing_core_arg_code(fcinfo, 2, "state");
	char *after = billing_core_arg_optional_code(fcinfo, 3, "state before it");
	char *before;
	bool is_optional;
	bool is_before;

	billing_workflow_begin_change(fcinfo, &machine);
	if (billing_workflow_state_index(&machine, state) >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_DUPLICATE_CODE),
				 errmsg("documents of kind %s have a state \"%s\" already", machine.kind, state),
				 errhint("Choose another name.")));
	if (is_builtin(&machine, state, &is_optional) && after == NULL)
		turn_on(&machine, state);
	else
	{
		read_own(fcinfo, &own);
		billing_workflow_check_name(state, "state");
		if (is_optional || after == NULL)
			after = billing_core_arg_code(fcinfo, 3, "state before it");
		before = billing_core_arg_code(fcinfo, 4, "state after it");
		(void) billing_workflow_state(&machine, after);
		(void) billing_workflow_state(&machine, before);
		billing_workflow_check_own_name(&machine, own.action);
		is_before = put_between(&machine, &own, state, after, before);
		set_state(&machine, state, false, own.action, is_before, own.description);
	}
	billing_workflow_end_change(&machine);
	PG_RETURN_VOID();
}

/* billing.drop_state(entity, kind, state) RETURNS void: an own one, or an optional one */
Datum
billing_workflow_drop_state(PG_FUNCTION_ARGS)
{
	WorkflowMachine machine;
	WorkflowState *state;
	char *name = billing_core_arg_code(fcinfo, 2, "state");

	billing_workflow_begin_change(fcinfo, &machine);
	state = billing_workflow_state(&machine, name);
	if (!state->is_own && !state->is_optional)
		ereport(ERROR, (errcode(ERRCODE_BILLING_CONFLICT),
						errmsg("state %s of documents of kind %s cannot be turned off", name,
							   machine.kind),
						errdetail("The functions that move such documents rely on it."),
						errhint("Those that can be are optional in billing.document_state.")));
	check_empty(&machine, name);
	if (state->is_own)
		take_out(&machine, state);
	else
		turn_off(&machine, state);
	billing_workflow_end_change(&machine);
	PG_RETURN_VOID();
}
