/*
 * invoicing_park.c
 *		Parking: an account that cannot be billed is put aside with its error, and
 *		left out by runs until somebody has mended the cause and asks for it again.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "core/call.h"
#include "core/core.h"
#include "invoicing/invoicing_private.h"
#include "masterdata/masterdata.h"
#include "utils/builtins.h"

/* $1 entity, $2 account, $3 run, $4 SQLSTATE, $5 message, $6 detail or null */
static BillingStatement park = {
	"WITH parked AS (UPDATE billing.account_watermark SET parked_at = now()"
	"  WHERE entity_id = $1 AND account_id = $2 RETURNING account_id)"
	" INSERT INTO billing.exception AS x (entity_id, kind, dedupe_key, subject, detail, payload, deadline)"
	" SELECT $1, k.kind, 'account ' || $2, a.code,"
	"  format('account %s could not be billed: %s', a.code, $5),"
	"  jsonb_build_object('account_id', $2, 'run', $3, 'sqlstate', $4, 'message', $5, 'detail', $6),"
	"  now() + make_interval(days => k.deadline_days)"
	" FROM parked p JOIN billing.billing_account a ON a.entity_id = $1 AND a.account_id = p.account_id"
	" JOIN billing.exception_kind k ON k.kind = 'account_parked'"
	" ON CONFLICT (entity_id, kind, dedupe_key) DO UPDATE SET state = 'open', resolved_at = NULL,"
	"  resolved_by = NULL, resolution = NULL, detail = excluded.detail, payload = excluded.payload,"
	"  raised_at = now(), deadline = excluded.deadline",
	6,
	{ INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID },
	NULL
};

/* $1 entity, $2 accounts that are being billed, $3 who, $4 run */
static BillingStatement settle = {
	"UPDATE billing.exception x SET state = 'resolved', resolved_at = now(), resolved_by = $3,"
	" resolution = 'billed by run ' || $4 WHERE x.entity_id = $1 AND x.kind = 'account_parked'"
	" AND x.state = 'open' AND (x.payload ->> 'account_id')::bigint = ANY ($2)",
	4,
	{ INT4OID, INT8ARRAYOID, INT4OID, INT8OID },
	NULL
};

/* $1 entity, $2 account or null: in the order of the keys, as runs lock them */
static BillingStatement retry = {
	"WITH chosen AS (SELECT account_id FROM billing.account_watermark"
	"  WHERE entity_id = $1 AND parked_at IS NOT NULL AND ($2 IS NULL OR account_id = $2)"
	"  ORDER BY account_id FOR UPDATE),"
	" freed AS (UPDATE billing.account_watermark w SET parked_at = NULL FROM chosen c"
	"  WHERE w.entity_id = $1 AND w.account_id = c.account_id RETURNING w.account_id),"
	" change AS (INSERT INTO billing.account_change (entity_id, account_id, reason)"
	"  SELECT $1, account_id, 'retry of a parked account' FROM freed)"
	" INSERT INTO billing.audit_log (entity_id, action, object_type, object_id)"
	" SELECT $1, 'retry', 'billing_account', account_id::text FROM freed",
	2,
	{ INT4OID, INT8OID },
	NULL
};

/*
 * Whether an error is one account's own, so that the others can do without it.
 * What the machine, the server or another session is to blame for is not.
 */
bool
billing_invoicing_can_park(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_INVALID_TRANSACTION_STATE:
		case ERRCODE_TRANSACTION_ROLLBACK: /* deadlock, serialization failure */
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION: /* cancelled, shut down */
		case ERRCODE_SYSTEM_ERROR:
			return false;
		default:
			return sqlstate != ERRCODE_LOCK_NOT_AVAILABLE &&
				   sqlstate != ERRCODE_INSUFFICIENT_PRIVILEGE &&
				   sqlstate != ERRCODE_BILLING_DUTY_REQUIRED &&
				   sqlstate != ERRCODE_BILLING_RESTORE_STATE &&
				   sqlstate != ERRCODE_BILLING_BROKEN_INSTALLATION;
	}
}

/* Put an account aside. */
void
billing_invoicing_park(const BillingRun *run, int64 account_id, ErrorData *error)
{
	Datum values[6];

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = Int64GetDatum(account_id);
	values[2] = Int64GetDatum(run->run_id);
	values[3] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[4] = CStringGetTextDatum(error->message != NULL ? error->message : "no message");
	values[5] = error->detail != NULL ? CStringGetTextDatum(error->detail) : (Datum) 0;
	billing_core_run(&park, values, error->detail != NULL ? NULL : "     n", false);
}

/* Resolve the exceptions of accounts that can be billed again. */
void
billing_invoicing_settle_parked(const BillingRun *run, Datum accounts)
{
	Datum values[4];

	values[0] = Int32GetDatum(run->entity_id);
	values[1] = accounts;
	values[2] = Int32GetDatum(billing_core_actor_person());
	values[3] = Int64GetDatum(run->run_id);
	billing_core_run(&settle, values, NULL, false);
}

PG_FUNCTION_INFO_V1(billing_invoicing_retry_parked);

/* billing.retry_parked(entity text, account text) RETURNS bigint: how many */
Datum
billing_invoicing_retry_parked(PG_FUNCTION_ARGS)
{
	int32 entity_id = billing_core_arg_entity(fcinfo, 0);
	char *account = billing_core_arg_optional_code(fcinfo, 1, "account");
	Datum values[2];
	int64 count;

	billing_core_require_duty(entity_id, "biller");
	values[0] = Int32GetDatum(entity_id);
	values[1] = (Datum) 0;
	SPI_connect();
	if (account != NULL)
		values[1] = Int64GetDatum(
			billing_core_lookup(entity_id, account, "account", &billing_masterdata_account));
	count = billing_core_run(&retry, values, account != NULL ? NULL : " n", false);
	SPI_finish();
	PG_RETURN_INT64(count);
}
