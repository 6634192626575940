/*
 * workflow_state_change.c
 *		How an entity's state machine is changed: who may, one at a time, and nothing
 *		stays that could strand a document.  Also the changes of single transitions.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "workflow/workflow.h"
#include "workflow/workflow_define.h"

/* The longest name of a state or action. */
#define MAX_NAME_LENGTH 63

/* $1 kind, $2 action: whether functions take it by themselves, or it is an approval */
static BillingStatement builtin_action = {
	"SELECT bool_or(t.guard = 'system' OR t.approves), min(t.from_state)"
	" FROM billing.transition t WHERE t.kind = $1 AND t.action = $2 HAVING count(*) > 0",
	2,
	{ TEXTOID, TEXTOID },
	NULL
};

/* $1 kind, $2 action */
static BillingStatement builtin_edge = {
	"SELECT t.to_state, t.duty, t.guard, t.function_name FROM billing.transition t"
	" WHERE t.kind = $1 AND t.action = $2 ORDER BY t.from_state LIMIT 1",
	2,
	{ TEXTOID, TEXTOID },
	NULL
};

/*
 * Begin a change: entity and kind are the first arguments.  Nobody else takes
 * documents of the entity on meanwhile, so that what is found out about them stays true.
 */
void
billing_workflow_begin_change(FunctionCallInfo fcinfo, WorkflowMachine *machine)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *kind = billing_core_arg_code(fcinfo, 1, "kind of document");

	billing_core_require_admin(entity_id);
	SPI_connect();
	billing_workflow_hold(entity_id, true);
	billing_workflow_load(machine, entity_id, kind);
}

/* End a change: as it is now, the machine must not strand a document nor lead around an approval. */
void
billing_workflow_end_change(const WorkflowMachine *machine)
{
	WorkflowMachine changed;
	char *path = NULL;
	bool is_way_around;
	char *problem;

	billing_workflow_load(&changed, machine->entity_id, machine->kind);
	problem = billing_workflow_find_problem(&changed, &path, &is_way_around);
	if (problem != NULL)
		ereport(ERROR, (errcode(is_way_around ? ERRCODE_BILLING_SEGREGATION_OF_DUTIES
											  : ERRCODE_BILLING_CONFLICT),
						errmsg("%s", problem), errdetail("The path is: %s.", path),
						is_way_around
							? errhint("Lead it through an approval.")
							: errhint("Every state needs a way to it, and a way on to an end.")));
	SPI_finish();
}

/* Refuse a name that is not lower-case letters, digits and underscores. */
void
billing_workflow_check_name(const char *value, const char *name)
{
	size_t length = strlen(value);

	if (length <= MAX_NAME_LENGTH && value[0] >= 'a' && value[0] <= 'z' &&
		strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789_") == length)
		return;
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
					errmsg("%s \"%s\" is not a plain name", name, value),
					errhint("Use at most %d lower-case letters, digits and underscores, "
							"beginning with a letter.",
							MAX_NAME_LENGTH)));
}

/* Refuse a guard that an entity cannot set. */
void
billing_workflow_check_guard(const char *guard)
{
	if (guard == NULL || strcmp(guard, "independent") == 0 || strcmp(guard, "maker") == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("guard \"%s\" cannot be set", guard),
			 errhint("Use independent for a person other than the maker, maker for the "
					 "maker alone, or null.")));
}

/* Refuse an entity's own action under the name of one that approves, or that functions take by themselves. */
void
billing_workflow_check_own_name(const WorkflowMachine *machine, const char *action)
{
	Datum values[2] = { CStringGetTextDatum(machine->kind), CStringGetTextDatum(action) };

	if (billing_core_run(&builtin_action, values, NULL, false) == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_BILLING_DUPLICATE_CODE),
					errmsg("action %s of documents of kind %s is built in", action, machine->kind),
					errdetail("It leads on from state %s.", billing_core_text_value(0, 1)),
					errhint("Choose another name.")));
}

/* Read a deadline: null leaves what is there, 0 removes it. */
void
billing_workflow_read_deadline(FunctionCallInfo fcinfo, int argno, WorkflowEdge *edge)
{
	Interval *value;

	if (PG_ARGISNULL(argno))
		return;
	value = PG_GETARG_INTERVAL_P(argno);
	if (value->month < 0 || value->day < 0 || value->time < 0 || value->month > 1200 ||
		value->day > 36500 || value->time > INT64CONST(36500) * USECS_PER_DAY)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("deadline must be between nothing and a hundred years"),
						errhint("Give it as an interval such as 5 days.")));
	edge->has_deadline = value->month != 0 || value->day != 0 || value->time != 0;
	edge->deadline = IntervalPGetDatum(value);
}

/* Whether an action is the entity's own: none of that name is built in. */
static bool
is_own_action(const WorkflowMachine *machine, const WorkflowEdge *edge)
{
	Datum values[2] = { CStringGetTextDatum(machine->kind), CStringGetTextDatum(edge->action) };

	return edge->is_own && billing_core_run(&builtin_action, values, NULL, false) == 0;
}

/* Refuse what would take something away from a transition that comes with the extension. */
static void
check_builtin_kept(const WorkflowEdge *edge, const char *to, const char *duty, const char *guard)
{
	bool stricter = guard != NULL && edge->guard == NULL && strcmp(guard, "independent") == 0;

	if ((to == NULL || strcmp(to, edge->to) == 0) &&
		(duty == NULL || strcmp(duty, edge->duty) == 0) &&
		(guard == NULL || stricter || (edge->guard != NULL && strcmp(guard, edge->guard) == 0)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
			 errmsg("action %s from state %s is built in", edge->action, edge->from),
			 errdetail("It leads to %s, needs the duty %s and has the guard %s.", edge->to,
					   edge->duty, edge->guard != NULL ? edge->guard : "none"),
			 errhint("An entity may set its deadline, and the guard independent where there is "
					 "none; add_state() puts a state onto its way.")));
}

/* Fill in a new transition from what is built in under the name of its action; false: nothing is. */
static bool
inherit(const WorkflowMachine *machine, WorkflowEdge *edge)
{
	Datum values[2] = { CStringGetTextDatum(machine->kind), CStringGetTextDatum(edge->action) };
	char *to;

	if (billing_core_run(&builtin_action, values, NULL, false) == 0)
		return false;
	if (DatumGetBool(billing_core_value(0, 0, NULL)))
		billing_workflow_check_own_name(machine, edge->action);
	billing_core_run(&builtin_edge, values, NULL, false);
	to = billing_core_text_value(0, 0);
	if (edge->to != NULL && strcmp(edge->to, to) != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("action %s leads to %s", edge->action, to),
						errhint("Choose another name for one that leads elsewhere.")));
	edge->to = to;
	edge->duty = billing_core_text_value(0, 1);
	edge->guard = billing_core_text_value(0, 2);
	edge->function_name = billing_core_text_value(0, 3);
	return true;
}

/* Whether only built-in transitions may lead to or from a state. */
static bool
is_closed(const WorkflowMachine *machine, const char *state)
{
	return billing_workflow_is_stage(machine, state, "effective") ||
		   billing_workflow_is_stage(machine, state, "dropped");
}

/* Refuse a new transition between states that are not there, or not for an entity to join. */
static void
check_new(const WorkflowMachine *machine, const WorkflowEdge *edge, bool is_inherited)
{
	if (edge->to == NULL || edge->duty == NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("%s must not be null", edge->to == NULL ? "state after it" : "duty"),
						errhint("A new action needs both.")));
	(void) billing_workflow_state(machine, edge->from);
	(void) billing_workflow_state(machine, edge->to);
	if (is_closed(machine, edge->from) ||
		billing_workflow_is_stage(machine, edge->to, "effective") ||
		(is_closed(machine, edge->to) && !is_inherited))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_CONFLICT),
				 errmsg("an entity cannot lead documents from %s to %s by %s", edge->from, edge->to,
						edge->action),
				 errdetail("Only built-in actions lead to or from states in which a document "
						   "has taken effect, or never will."),
				 errhint("Lead it to a state before that, or name the built-in action.")));
}

PG_FUNCTION_INFO_V1(billing_workflow_set_transition);
PG_FUNCTION_INFO_V1(billing_workflow_drop_transition);

/*
 * billing.set_transition(entity, kind, from_state, action, to_state, duty, guard,
 *                        deadline interval, description) RETURNS void
 *
 * Sets the deadline of a transition, or a stricter guard, or makes one of the
 * entity's own.
 */
Datum
billing_workflow_set_transition(PG_FUNCTION_ARGS)
{
	WorkflowMachine machine;
	WorkflowEdge edge = { 0 };
	WorkflowEdge *old;
	char *from = billing_core_arg_code(fcinfo, 2, "state before it");
	char *action = billing_core_arg_code(fcinfo, 3, "action");
	char *to = billing_core_arg_optional_code(fcinfo, 4, "state after it");
	char *duty = billing_core_arg_optional_code(fcinfo, 5, "duty");
	char *guard = billing_core_arg_optional_code(fcinfo, 6, "guard");
	char *description = billing_core_arg_optional_text(fcinfo, 8, "description");

	bool is_inherited = false;

	billing_workflow_begin_change(fcinfo, &machine);
	billing_workflow_check_guard(guard);
	old = billing_workflow_edge(&machine, from, action);
	if (old != NULL)
	{
		edge = *old;
		is_inherited = !is_own_action(&machine, old);
		if (is_inherited)
			check_builtin_kept(old, to, duty, guard);
	}
	else
	{
		billing_workflow_check_name(action, "action");
		edge.from = from;
		edge.action = action;
		edge.own_state = "after";
		edge.function_name = "take_action";
		edge.description = action;
	}
	edge.to = to != NULL ? to : edge.to;
	edge.duty = duty != NULL ? duty : edge.duty;
	edge.guard = guard != NULL ? guard : edge.guard;
	edge.description = description != NULL ? description : edge.description;
	billing_workflow_read_deadline(fcinfo, 7, &edge);
	if (old == NULL)
		is_inherited = inherit(&machine, &edge);
	if (old == NULL || !is_inherited)
		check_new(&machine, &edge, is_inherited);
	billing_workflow_put(&machine, &edge);
	billing_workflow_end_change(&machine);
	PG_RETURN_VOID();
}

/* billing.drop_transition(entity, kind, from_state, action) RETURNS void: one of the entity's own */
Datum
billing_workflow_drop_transition(PG_FUNCTION_ARGS)
{
	WorkflowMachine machine;
	WorkflowEdge *edge;
	char *from = billing_core_arg_code(fcinfo, 2, "state before it");
	char *action = billing_core_arg_code(fcinfo, 3, "action");

	billing_workflow_begin_change(fcinfo, &machine);
	edge = billing_workflow_edge(&machine, from, action);
	if (edge == NULL)
		ereport(ERROR, (errcode(ERRCODE_BILLING_UNKNOWN_CODE),
						errmsg("documents of kind %s have no action \"%s\" from state \"%s\"",
							   machine.kind, action, from),
						errhint("billing.state_machine() lists those of an entity.")));
	if (!edge->is_own || (edge->builtin_to != NULL && strcmp(edge->builtin_to, edge->to) != 0) ||
		(edge->builtin_to == NULL && edge->guard != NULL && !is_own_action(&machine, edge)))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_SEGREGATION_OF_DUTIES),
				 errmsg("action %s from state %s is built in", action, from),
				 errdetail("An entity cannot be without it."),
				 errhint("What add_state() put onto its way is taken out by drop_state().")));
	billing_workflow_end(&machine, edge);
	billing_workflow_end_change(&machine);
	PG_RETURN_VOID();
}
