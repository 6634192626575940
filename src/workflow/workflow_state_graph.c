/*
 * workflow_state_graph.c
 *		Whether a state machine can strand a document or lets one become effective
 *		without an approval: searches of its graph, and the path that shows it.
 *
 * Every search visits a state once, so it ends after as many steps as there are
 * states and transitions, of which the loader takes a bounded number.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "workflow/workflow_state.h"

#define NOT_REACHED (-2)
#define BEGINS_HERE (-1)

/* Which states a search has reached, each from which other. */
typedef struct Search
{
	int came_from[WORKFLOW_MAX_STATES];
	int order[WORKFLOW_MAX_STATES];
	int count;
} Search;

/* Begin at a state. */
static void
begin_at(Search *search, int state, int came_from)
{
	if (search->came_from[state] != NOT_REACHED)
		return;
	search->came_from[state] = came_from;
	search->order[search->count++] = state;
}

/* Begin with nothing reached. */
static void
clear(Search *search)
{
	search->count = 0;
	for (int i = 0; i < WORKFLOW_MAX_STATES; i++)
		search->came_from[i] = NOT_REACHED;
}

/* Follow transitions forward, or against their direction; approvals may be left out. */
static void
spread(const WorkflowMachine *machine, Search *search, bool forward, bool with_approvals)
{
	for (int next = 0; next < search->count; next++)
	{
		const char *here = machine->states[search->order[next]].name;

		for (int i = 0; i < machine->nedges; i++)
		{
			const WorkflowEdge *edge = &machine->edges[i];
			const char *near = forward ? edge->from : edge->to;
			const char *far = forward ? edge->to : edge->from;

			if (strcmp(near, here) == 0 && (with_approvals || !edge->approves))
				begin_at(search, billing_workflow_state_index(machine, far), search->order[next]);
		}
	}
}

/* The states on the way to one, from where the search began: "draft > approved". */
static char *
path_to(const WorkflowMachine *machine, const Search *search, int state)
{
	StringInfoData path;
	int way[WORKFLOW_MAX_STATES];
	int length = 0;

	for (int at = state; at >= 0 && length < WORKFLOW_MAX_STATES; at = search->came_from[at])
		way[length++] = at;
	initStringInfo(&path);
	while (length-- > 0)
		appendStringInfo(&path, "%s%s", path.len > 0 ? " > " : "",
						 machine->states[way[length]].name);
	return path.data;
}

/* Whether a state is of a stage. */
static bool
is_stage(const WorkflowMachine *machine, int state, const char *stage)
{
	return strcmp(machine->states[state].stage, stage) == 0;
}

/* All that can be reached from where documents begin. */
static void
search_from_start(const WorkflowMachine *machine, Search *search, bool with_approvals)
{
	clear(search);
	for (int i = 0; i < machine->nstates; i++)
	{
		if (is_stage(machine, i, "start"))
			begin_at(search, i, BEGINS_HERE);
	}
	spread(machine, search, true, with_approvals);
}

/* A transition to or from a state that is not there. */
static char *
find_loose_end(const WorkflowMachine *machine, char **path)
{
	for (int i = 0; i < machine->nedges; i++)
	{
		const WorkflowEdge *edge = &machine->edges[i];
		bool from_is_there = billing_workflow_state_index(machine, edge->from) >= 0;

		if (from_is_there && billing_workflow_state_index(machine, edge->to) >= 0)
			continue;
		*path = psprintf("%s > %s", edge->from, edge->to);
		return psprintf("action %s %s a state that is not there", edge->action,
						from_is_there ? "leads to" : "starts from");
	}
	return NULL;
}

/* A state to which no way leads: the path is what leads to it, as far back as there is something. */
static char *
find_unreachable(const WorkflowMachine *machine, const Search *from_start, char **path)
{
	for (int i = 0; i < machine->nstates; i++)
	{
		Search back;
		StringInfoData way;
		int at;

		if (from_start->came_from[i] != NOT_REACHED)
			continue;
		clear(&back);
		begin_at(&back, i, BEGINS_HERE);
		spread(machine, &back, false, true);
		initStringInfo(&way);
		for (at = back.order[back.count - 1]; at >= 0; at = back.came_from[at])
			appendStringInfo(&way, "%s%s", way.len > 0 ? " > " : "", machine->states[at].name);
		*path = way.data;
		return psprintf("state %s cannot be reached", machine->states[i].name);
	}
	return NULL;
}

/* A state that a document can come to, and from which it neither takes effect nor comes to an end. */
static char *
find_stranded(const WorkflowMachine *machine, const Search *from_start, char **path)
{
	Search to_end;

	clear(&to_end);
	for (int i = 0; i < machine->nstates; i++)
	{
		if (machine->states[i].is_final || is_stage(machine, i, "effective"))
			begin_at(&to_end, i, BEGINS_HERE);
	}
	spread(machine, &to_end, false, true);
	for (int i = 0; i < machine->nstates; i++)
	{
		if (to_end.came_from[i] != NOT_REACHED)
			continue;
		*path = path_to(machine, from_start, i);
		return psprintf("a document in state %s would never come to an end",
						machine->states[i].name);
	}
	return NULL;
}

/* That no document can become what it was made for. */
static char *
find_no_effect(const WorkflowMachine *machine, const Search *from_start, char **path)
{
	for (int i = 0; i < from_start->count; i++)
	{
		if (is_stage(machine, from_start->order[i], "effective"))
			return NULL;
	}
	*path = path_to(machine, from_start, from_start->order[from_start->count - 1]);
	return psprintf("no document of kind %s could be issued, applied or posted", machine->kind);
}

/* A way to where only an approval leads that passes none. */
static char *
find_way_around(const WorkflowMachine *machine, char **path)
{
	Search unapproved;

	search_from_start(machine, &unapproved, false);
	for (int i = 0; i < unapproved.count; i++)
	{
		int state = unapproved.order[i];

		if (!is_stage(machine, state, "approved") && !is_stage(machine, state, "effective"))
			continue;
		*path = path_to(machine, &unapproved, state);
		return psprintf("a document could come to state %s without an approval",
						machine->states[state].name);
	}
	return NULL;
}

/*
 * What is wrong with a machine, or NULL; path is the way that shows it, and
 * is_way_around tells whether segregation of duties is what would suffer.
 */
char *
billing_workflow_find_problem(const WorkflowMachine *machine, char **path, bool *is_way_around)
{
	Search from_start;
	char *problem = find_loose_end(machine, path);

	*is_way_around = false;
	if (problem != NULL)
		return problem;
	problem = find_way_around(machine, path);
	*is_way_around = problem != NULL;
	if (problem != NULL)
		return problem;
	search_from_start(machine, &from_start, true);
	problem = find_no_effect(machine, &from_start, path);
	if (problem == NULL)
		problem = find_unreachable(machine, &from_start, path);
	if (problem == NULL)
		problem = find_stranded(machine, &from_start, path);
	return problem;
}

PG_FUNCTION_INFO_V1(billing_workflow_machine_problem);

/* billing_internal.machine_problem(entity integer, kind text) RETURNS text: NULL where all is well */
Datum
billing_workflow_machine_problem(PG_FUNCTION_ARGS)
{
	WorkflowMachine machine;
	char *kind = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char *path = NULL;
	char *problem;
	bool is_way_around;
	text *result = NULL;
	MemoryContext caller = CurrentMemoryContext;

	SPI_connect();
	billing_workflow_load(&machine, PG_GETARG_INT32(0), kind);
	problem = billing_workflow_find_problem(&machine, &path, &is_way_around);
	if (problem != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = cstring_to_text(psprintf("%s: %s", problem, path));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
