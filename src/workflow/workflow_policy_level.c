/*
 * workflow_policy_level.c
 *		Reads the levels of an approval policy from JSON, and writes them as rows.
 *
 * A level is an object, such as {"duty": "approver", "needed": 2} or
 * {"person": "bob", "stage": 1, "deadline": "2 days", "escalate_to": "admin"}.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/decimal.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "workflow/workflow_policy.h"

#define MAX_LEVELS 50
#define MAX_NEEDED 1000

typedef struct Level
{
	int no;
	int stage;
	int needed; /* 0: all */
	char *approver;
	char *duty;
	char *person;
	char *escalate_to;
	Interval *deadline;
	bool min_limit;
} Level;

static const char *const known_keys[] = { "stage",	"needed",	"approver",	   "duty",
										  "person", "deadline", "escalate_to", "min_limit" };

static BillingStatement duty_by_name = {
	"SELECT 1::bigint FROM billing.duty WHERE $1 IS NOT NULL AND duty = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

static BillingStatement person_by_code = {
	"SELECT person_id::bigint FROM billing.person WHERE $1 IS NOT NULL AND code = $2",
	2,
	{ INT4OID, TEXTOID },
	NULL
};

/*
 * $1 entity, $2 policy, $3 number, $4 stage, $5 needed, $6 approver, $7 duty, $8 limit, $9 person,
 * $10 deadline, $11 escalate to
 */
static BillingStatement insert_level = {
	"INSERT INTO billing.approval_level (entity_id, policy_id, level_no, stage, needed, approver,"
	" duty, min_limit, person_id, deadline, escalate_to)"
	" SELECT $1, $2, $3, $4, nullif($5, 0), $6, $7, $8,"
	" (SELECT p.person_id FROM billing.person p WHERE p.code = $9), $10, $11",
	11,
	{ INT4OID, INT8OID, INT4OID, INT4OID, INT4OID, TEXTOID, TEXTOID, BOOLOID, TEXTOID, INTERVALOID,
	  TEXTOID },
	NULL
};

/* Refuse a level. */
BILLING_NORETURN static void
refuse_level(int no, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("level %d %s", no, problem),
					errhint("%s", hint)));
}

/* Refuse keys that mean nothing: a slip of the pen would be a level that asks for less. */
static void
check_keys(int no, JsonbContainer *object)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		bool is_known = token != WJB_KEY;

		for (int i = 0; i < (int) lengthof(known_keys) && !is_known; i++)
			is_known = value.val.string.len == (int) strlen(known_keys[i]) &&
					   memcmp(value.val.string.val, known_keys[i], value.val.string.len) == 0;
		if (!is_known)
			refuse_level(no, "has an unknown key",
						 "A level has stage, needed, approver, duty, person, deadline, "
						 "escalate_to and min_limit.");
	}
}

/* The value under a key, or NULL where it is missing or null. */
static JsonbValue *
value_of(JsonbContainer *object, const char *key)
{
	JsonbValue *value = getKeyJsonValueFromContainer(object, key, (int) strlen(key), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

/* The text under a key, or NULL. */
static char *
text_of(int no, JsonbContainer *object, const char *key)
{
	JsonbValue *value = value_of(object, key);
	char *text;

	if (value == NULL)
		return NULL;
	if (value->type != jbvString)
		refuse_level(no, psprintf("has a %s that is no text", key), "Write it in double quotes.");
	text = pnstrdup(value->val.string.val, value->val.string.len);
	billing_core_check_code(text, psprintf("%s of level %d", key, no));
	return text;
}

/* The whole number under a key, or what it is by default. */
static int
number_of(int no, JsonbContainer *object, const char *key, int otherwise)
{
	JsonbValue *value = value_of(object, key);
	int64 mantissa;
	int scale;

	if (value == NULL)
		return otherwise;
	if (value->type != jbvNumeric ||
		!billing_core_decimal_decode(NumericGetDatum(value->val.numeric), &mantissa, &scale) ||
		scale != 0 || mantissa < 1 || mantissa > MAX_NEEDED)
		refuse_level(no, psprintf("has a %s that is no whole number from 1 to %d", key, MAX_NEEDED),
					 strcmp(key, "needed") == 0 ? "Write how many must approve, \"any\" or \"all\"."
												: "Write a number, such as 1.");
	return (int) mantissa;
}

/* How many must approve: a number, any or all. */
static int
needed_of(int no, JsonbContainer *object)
{
	JsonbValue *value = value_of(object, "needed");

	if (value != NULL && value->type == jbvString)
	{
		char *text = text_of(no, object, "needed");

		if (strcmp(text, "any") == 0)
			return 1;
		if (strcmp(text, "all") == 0)
			return 0;
	}
	return number_of(no, object, "needed", 1);
}

/* An interval that was written as text; what the server does not understand is refused in our words. */
static Interval *
read_interval(int no, char *source)
{
	Interval *volatile result = NULL;
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		result =
			DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(source),
												  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		refuse_level(no, "has a deadline that is no interval",
					 "Write an interval, such as \"2 days\".");
	}
	PG_END_TRY();
	return result;
}

/* The deadline under its key, or NULL. */
static Interval *
deadline_of(int no, JsonbContainer *object)
{
	char *source = text_of(no, object, "deadline");
	Interval *deadline;

	if (source == NULL)
		return NULL;
	deadline = read_interval(no, source);
	if (deadline->month < 0 || deadline->day < 0 || deadline->time < 0 ||
		(deadline->month == 0 && deadline->day == 0 && deadline->time == 0) ||
		deadline->month > 120 || deadline->day > 3660)
		refuse_level(no, "has a deadline that is not above zero and at most ten years",
					 "Write an interval, such as \"2 days\".");
	return deadline;
}

static bool
flag_of(int no, JsonbContainer *object, const char *key, bool otherwise)
{
	JsonbValue *value = value_of(object, key);

	if (value == NULL)
		return otherwise;
	if (value->type != jbvBool)
		refuse_level(no, psprintf("has a %s that is neither true nor false", key),
					 "Write true or false without quotes.");
	return value->val.boolean;
}

/* Find out who approves, and refuse what contradicts itself. */
static void
read_approver(Level *level, JsonbContainer *object)
{
	static const char *const kinds[] = { "duty", "person", "contract_owner", "manager" };
	bool is_known = false;

	level->duty = text_of(level->no, object, "duty");
	level->person = text_of(level->no, object, "person");
	level->approver = text_of(level->no, object, "approver");
	if (level->approver == NULL)
		level->approver = level->person != NULL ? "person" : "duty";
	for (int i = 0; i < (int) lengthof(kinds); i++)
		is_known = is_known || strcmp(level->approver, kinds[i]) == 0;
	if (!is_known)
		refuse_level(level->no, "has an unknown approver",
					 "An approver is duty, person, contract_owner or manager.");
	if ((strcmp(level->approver, "duty") == 0) != (level->duty != NULL) ||
		(strcmp(level->approver, "person") == 0) != (level->person != NULL))
		refuse_level(level->no, "does not say clearly who approves",
					 "Give a duty, or a person, or the approver contract_owner or manager.");
	if (level->duty != NULL)
		(void) billing_core_lookup(0, level->duty, "duty", &duty_by_name);
	if (level->person != NULL)
		(void) billing_core_lookup(0, level->person, "person", &person_by_code);
	if (level->duty == NULL && level->needed != 1)
		refuse_level(level->no, "needs more than the one person it names",
					 "Leave needed out, or give a duty.");
}

static Level *
read_level(int no, JsonbValue *element)
{
	Level *level = palloc0(sizeof(Level));
	JsonbContainer *object;

	if (element->type != jbvBinary || !JsonContainerIsObject(element->val.binary.data))
		refuse_level(no, "is no object", "Write a level as {\"duty\": \"approver\"}.");
	object = element->val.binary.data;
	check_keys(no, object);
	level->no = no;
	level->stage = number_of(no, object, "stage", no);
	level->needed = needed_of(no, object);
	read_approver(level, object);
	level->min_limit = flag_of(no, object, "min_limit",
							   level->duty != NULL && strcmp(level->duty, "approver") == 0);
	level->deadline = deadline_of(no, object);
	level->escalate_to = text_of(no, object, "escalate_to");
	if (level->escalate_to != NULL && level->deadline == NULL)
		refuse_level(no, "escalates without a deadline", "Give a deadline, such as \"2 days\".");
	if (level->escalate_to != NULL)
		(void) billing_core_lookup(0, level->escalate_to, "duty", &duty_by_name);
	return level;
}

/* Read the levels: an array for the outcome levels, nothing for the others. */
List *
billing_workflow_read_levels(FunctionCallInfo fcinfo, int argno, const char *outcome)
{
	bool has_levels = strcmp(outcome, "levels") == 0;
	Jsonb *json = PG_ARGISNULL(argno) ? NULL : PG_GETARG_JSONB_P(argno);
	int count = 0;
	List *levels = NIL;

	if (!has_levels && strcmp(outcome, "automatic") != 0 && strcmp(outcome, "forbid") != 0)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						errmsg("unknown outcome \"%s\"", outcome),
						errhint("An outcome is levels, automatic or forbid.")));
	if (json != NULL && (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json)))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("levels must be a JSON array"),
				 errhint("Write them as [{\"duty\": \"approver\"}].")));
	if (json != NULL)
		count = (int) JB_ROOT_COUNT(json);
	if (has_levels != (count > 0) || count > MAX_LEVELS)
		ereport(ERROR, (errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
						has_levels ? errmsg("a policy needs 1 to %d levels", MAX_LEVELS)
								   : errmsg("a policy of outcome %s has no levels", outcome),
						errhint("Give levels with the outcome levels, and none with the others.")));
	for (int i = 0; i < count; i++)
		levels = lappend(levels, read_level(i + 1, getIthJsonbValueFromContainer(&json->root, i)));
	return levels;
}

/* A text, or null. */
static void
set_text(Datum *values, char *nulls, int at, const char *text)
{
	if (text != NULL)
		values[at] = CStringGetTextDatum(text);
	else
		nulls[at] = 'n';
}

/* Write the levels of a version; between SPI_connect() and SPI_finish(). */
void
billing_workflow_write_levels(int32 entity_id, int64 policy_id, List *levels)
{
	ListCell *cell;

	foreach (cell, levels)
	{
		const Level *level = lfirst(cell);
		Datum values[11] = { 0 };
		char nulls[12] = "           ";

		values[0] = Int32GetDatum(entity_id);
		values[1] = Int64GetDatum(policy_id);
		values[2] = Int32GetDatum(level->no);
		values[3] = Int32GetDatum(level->stage);
		values[4] = Int32GetDatum(level->needed);
		set_text(values, nulls, 5, level->approver);
		set_text(values, nulls, 6, level->duty);
		values[7] = BoolGetDatum(level->min_limit);
		set_text(values, nulls, 8, level->person);
		if (level->deadline != NULL)
			values[9] = IntervalPGetDatum(level->deadline);
		else
			nulls[9] = 'n';
		set_text(values, nulls, 10, level->escalate_to);
		billing_core_run(&insert_level, values, nulls, false);
	}
}
