/*
 * rating_parse.c
 *		From a text to a stored tariff: the one way in, for input, receive and
 *		the cast from jsonb.
 *
 * rating_json.c reads the text, rating_validate.c checks it, rating_compile.c
 * lays it out; this file owns their memory.
 */
#include "pg_compat.h"

#include "utils/memutils.h"

#include "rating/rating_private.h"

/* Parse, validate and compile; palloc'd in the current context. */
BillingTariff *
billing_rating_parse(const char *text, Size length)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "billing tariff parse", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);
	BillingTariff *compiled = billing_rating_read_tariff(billing_rating_json(text, length), false);
	BillingTariff *result;

	MemoryContextSwitchTo(caller);
	result = palloc(VARSIZE(compiled));
	memcpy(result, compiled, VARSIZE(compiled));
	MemoryContextDelete(work);
	return result;
}
