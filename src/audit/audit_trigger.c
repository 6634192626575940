/*
 * audit_trigger.c
 *		The triggers of the audit: one completes each record with who, when and
 *		its hash; the other writes the records of master data that people edit.
 */
#include "pg_compat.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "audit/audit.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "core/core.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

/* Column numbers, from 0, as in billing.audit_log; the hash follows the hashed columns. */
#define AUDIT_HASH AUDIT_COLUMNS

/* A table without entity_id belongs to the installation, entity 0. */
static const char insert_record[] =
	"INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after)"
	" SELECT coalesce((r ->> 'entity_id')::int, 0), 'insert', $1, r ->> $2, r"
	" FROM (SELECT to_jsonb(n) AS r FROM new_rows n) rows";

static const char update_record[] =
	"INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, before, after)"
	" SELECT coalesce((a.r ->> 'entity_id')::int, 0), 'update', $1, a.r ->> $2, b.r, a.r"
	" FROM (SELECT to_jsonb(o) AS r FROM old_rows o) b JOIN (SELECT to_jsonb(n) AS r FROM new_rows n) a"
	" ON a.r ->> $2 = b.r ->> $2 AND a.r -> 'entity_id' IS NOT DISTINCT FROM b.r -> 'entity_id'"
	" WHERE a.r <> b.r";

static const char delete_record[] =
	"INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, before)"
	" SELECT coalesce((r ->> 'entity_id')::int, 0), 'delete', $1, r ->> $2, r"
	" FROM (SELECT to_jsonb(o) AS r FROM old_rows o) rows";

/* The trigger's data, or an error for a call by hand. */
static TriggerData *
trigger_of(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_BILLING_INVALID_ARGUMENT), errmsg("this function is a trigger"),
				 errhint("It is not called by hand.")));
	return (TriggerData *) fcinfo->context;
}

PG_FUNCTION_INFO_V1(billing_audit_complete);
PG_FUNCTION_INFO_V1(billing_audit_rows);

/*
 * billing_internal.complete_audit_record() RETURNS trigger, BEFORE INSERT ROW on audit_log
 *
 * Nobody can claim to be another, at another time: what the statement says
 * about those is overwritten.  A restored record stays as it is.
 */
Datum
billing_audit_complete(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	TupleDesc descriptor = RelationGetDescr(trigger->tg_relation);
	Datum values[AUDIT_COLUMNS + 1];
	bool nulls[AUDIT_COLUMNS + 1];
	const char *actor;
	NameData session_user;
	HeapTuple row;

	if (billing_core_restoring)
		PG_RETURN_POINTER(trigger->tg_trigtuple);
	heap_deform_tuple(trigger->tg_trigtuple, descriptor, values, nulls);
	actor = billing_core_person_code(billing_core_actor_person());
	namestrcpy(&session_user, GetUserNameFromId(GetSessionUserId(), false));
	values[AUDIT_RECORDED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[AUDIT_TRANSACTION_ID] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[AUDIT_LOGIN] = NameGetDatum(&session_user);
	nulls[AUDIT_RECORDED_AT] = nulls[AUDIT_TRANSACTION_ID] = nulls[AUDIT_LOGIN] = false;
	nulls[AUDIT_ACTOR] = actor == NULL;
	if (actor != NULL)
		values[AUDIT_ACTOR] = CStringGetTextDatum(actor);
	values[AUDIT_HASH] = PointerGetDatum(billing_audit_hash(values, nulls));
	nulls[AUDIT_HASH] = false;
	row = heap_form_tuple(descriptor, values, nulls);
	PG_RETURN_POINTER(row);
}

/*
 * billing_internal.audit_rows() RETURNS trigger, AFTER STATEMENT with transition
 * tables old_rows and new_rows; arguments: the table's name, its key within the entity
 */
Datum
billing_audit_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_of(fcinfo);
	Oid argtypes[2] = { TEXTOID, TEXTOID };
	Datum values[2];
	const char *statement;

	if (billing_core_restoring)
		PG_RETURN_POINTER(NULL);
	statement = TRIGGER_FIRED_BY_INSERT(trigger->tg_event)	 ? insert_record
				: TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? update_record
															 : delete_record;
	values[0] = CStringGetTextDatum(trigger->tg_trigger->tgargs[0]);
	values[1] = CStringGetTextDatum(trigger->tg_trigger->tgargs[1]);
	SPI_connect();
	if (SPI_register_trigger_data(trigger) < 0 ||
		SPI_execute_with_args(statement, 2, argtypes, values, NULL, false, 0) != SPI_OK_INSERT)
		ereport(ERROR, (errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
						errmsg("could not write the audit records of table \"%s\"",
							   RelationGetRelationName(trigger->tg_relation))));
	SPI_finish();
	PG_RETURN_POINTER(NULL);
}
