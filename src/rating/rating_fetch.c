/*
 * rating_fetch.c
 *		Gets at a stored tariff without copying it: in place where it is
 *		aligned, in a buffer of the caller where it is short, from a cache of
 *		the calling expression where it is compressed or out of line.
 */
#include "pg_compat.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "rating/rating_private.h"

/* Big tariffs kept per calling expression; a power of two. */
#define CACHE_ENTRIES 64
#define CACHE_MAX_BYTES (16 * 1024 * 1024)
/* enough to tell stored tariffs apart; they are compared in full */
#define CACHE_HASHED_BYTES 64

/* A detoasted tariff and the stored bytes that it comes from. */
typedef struct CacheEntry
{
	char *stored;
	Size stored_size;
	BillingTariff *tariff;
} CacheEntry;

typedef struct TariffCache
{
	MemoryContext context;
	Size bytes;
	CacheEntry entries[CACHE_ENTRIES];
} TariffCache;

/* Get the cache of the calling expression, empty when it has grown too big. */
static TariffCache *
get_cache(FmgrInfo *flinfo)
{
	TariffCache *cache = flinfo->fn_extra;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(TariffCache));
		cache->context =
			AllocSetContextCreate(flinfo->fn_mcxt, "billing tariff cache", ALLOCSET_DEFAULT_SIZES);
		flinfo->fn_extra = cache;
	}
	else if (cache->bytes > CACHE_MAX_BYTES)
	{
		MemoryContextReset(cache->context);
		memset(cache->entries, 0, sizeof(cache->entries));
		cache->bytes = 0;
	}
	return cache;
}

/*
 * Detoast through the cache.  The key is what is stored in the row: the
 * compressed bytes, or the pointer to the toast table, whose value cannot
 * change while the row that points to it is visible to the query.
 */
static const BillingTariff *
fetch_cached(FmgrInfo *flinfo, struct varlena *stored)
{
	TariffCache *cache = get_cache(flinfo);
	Size size = VARSIZE_ANY(stored);
	Size tail = Min(size, CACHE_HASHED_BYTES);
	uint32 hash = hash_bytes((const unsigned char *) stored + size - tail, (int) tail);
	CacheEntry *entry = &cache->entries[hash & (CACHE_ENTRIES - 1)];
	MemoryContext caller;

	if (entry->stored != NULL && entry->stored_size == size &&
		memcmp(entry->stored, stored, size) == 0)
		return entry->tariff;

	if (entry->stored != NULL)
	{
		cache->bytes -= entry->stored_size + VARSIZE(entry->tariff);
		pfree(entry->stored);
		pfree(entry->tariff);
		entry->stored = NULL;
	}
	caller = MemoryContextSwitchTo(cache->context);
	entry->tariff = (BillingTariff *) pg_detoast_datum_copy(stored);
	entry->stored_size = size;
	entry->stored = memcpy(palloc(size), stored, size);
	MemoryContextSwitchTo(caller);
	cache->bytes += size + VARSIZE(entry->tariff);
	return entry->tariff;
}

/* Get an aligned tariff of any stored form. */
static const BillingTariff *
fetch_any(FmgrInfo *flinfo, struct varlena *stored, BillingTariffBuffer *buffer)
{
	/* a pointer to the toast table counts as short too */
	if (VARATT_IS_SHORT(stored) && !VARATT_IS_EXTERNAL(stored))
	{
		Size size = VARSIZE_SHORT(stored) - VARHDRSZ_SHORT;

		SET_VARSIZE(buffer->bytes, size + VARHDRSZ);
		memcpy(buffer->bytes + VARHDRSZ, VARDATA_SHORT(stored), size);
		return &buffer->tariff;
	}
	if (flinfo != NULL && (VARATT_IS_EXTERNAL_ONDISK(stored) || VARATT_IS_4B_C(stored)))
		return fetch_cached(flinfo, stored);
	return (const BillingTariff *) pg_detoast_datum_copy(stored);
}

/*
 * Get at a stored tariff, which stays valid as long as the datum and the
 * buffer, or, from the cache, until the next call with this flinfo.
 */
const BillingTariff *
billing_rating_fetch(FmgrInfo *flinfo, Datum stored, BillingTariffBuffer *buffer)
{
	struct varlena *datum = (struct varlena *) DatumGetPointer(stored);
	const BillingTariff *tariff;

	if (likely(VARATT_IS_4B_U(datum) && datum == (struct varlena *) MAXALIGN(datum)))
		tariff = (const BillingTariff *) datum;
	else
		tariff = fetch_any(flinfo, datum, buffer);
	if (unlikely(tariff->format != BILLING_TARIFF_FORMAT))
		ereport(ERROR, errcode(ERRCODE_BILLING_BROKEN_INSTALLATION),
				errmsg("a stored tariff has format %d, this library reads %d", tariff->format,
					   BILLING_TARIFF_FORMAT),
				errdetail("The tariff was written by another version of the extension."),
				errhint("Install the library that belongs to the extension's version."));
	return tariff;
}
