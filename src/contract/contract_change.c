/*
 * contract_change.c
 *		Puts accounts on the list of what the next billing run looks at again, when
 *		their contracts change.
 *
 * A run takes an account's rows off billing.account_change, and derives what the
 * account owes in a later statement.  So whoever writes a row in the transaction
 * that changes the contract is seen: a run that sees the row sees the change, and
 * a row that it does not see stays for the next run.
 */
#include "pg_compat.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "contract/contract.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "utils/builtins.h"

#define NOTE_ACCOUNTS                                                       \
	"INSERT INTO billing.account_change (entity_id, account_id, reason)"    \
	" SELECT DISTINCT n.entity_id, n.account_id, $1::text FROM new_rows n", \
		1, { TEXTOID }, NULL

/* $1 the reason */
static BillingStatement note_contracts = { NOTE_ACCOUNTS };
static BillingStatement note_terms = { NOTE_ACCOUNTS };

PG_FUNCTION_INFO_V1(billing_contract_note_change);

/*
 * billing_internal.note_contract_change() RETURNS trigger, AFTER STATEMENT with the
 * transition table new_rows; argument: the reason, contract or terms, as the table
 */
Datum
billing_contract_note_change(PG_FUNCTION_ARGS)
{
	const char *reason =
		CALLED_AS_TRIGGER(fcinfo) ? ((TriggerData *) fcinfo->context)->tg_trigger->tgargs[0] : "";
	Datum values[1] = { CStringGetTextDatum(reason) };

	billing_masterdata_note_change(fcinfo,
								   strcmp(reason, "contract") == 0 ? &note_contracts : &note_terms,
								   values);
	PG_RETURN_POINTER(NULL);
}
