/*
 * usage_moment.c
 *		When a local day begins, in a time zone with all its changes of the clock.
 */
#include "pg_compat.h"

#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "usage/usage_private.h"

/* Many cells have the same days: remember some; a power of two. */
#define REMEMBERED 256

/* Find a time zone by its name. */
pg_tz *
billing_usage_zone(const char *name)
{
	pg_tz *zone = name != NULL ? pg_tzset(name) : NULL;

	if (zone == NULL || !pg_tz_acceptable(zone))
		ereport(ERROR, errcode(ERRCODE_BILLING_INVALID_ARGUMENT),
				errmsg("time zone \"%s\" does not exist", name != NULL ? name : ""),
				errhint("Use an IANA name such as Europe/Rome; "
						"SELECT name FROM pg_timezone_names lists them."));
	return zone;
}

/*
 * Work out the first moment of a local day.
 *
 * Where the clock skips midnight, the server reads it with the offset before
 * the change, which is the moment of the change.  Where midnight happens twice,
 * it takes the second; then the moment before is already of that day, and
 * midnight by its offset was the first.
 */
static TimestampTz
find_midnight(DateADT day, pg_tz *zone)
{
	struct pg_tm tm;
	fsec_t fsec;
	int west;
	TimestampTz moment;

	memset(&tm, 0, sizeof(tm));
	j2date(day + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
	tm.tm_isdst = -1;
	moment = day * USECS_PER_DAY + DetermineTimeZoneOffset(&tm, zone) * USECS_PER_SEC;

	if (timestamp2tm(moment - 1, &west, &tm, &fsec, NULL, zone) == 0 &&
		date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE == day)
		moment = Min(moment, day * USECS_PER_DAY + west * USECS_PER_SEC);
	return moment;
}

/* The first moment of a local day. */
TimestampTz
billing_usage_midnight(DateADT day, pg_tz *zone)
{
	static struct
	{
		pg_tz *zone; /* lives as long as the process */
		DateADT day;
		TimestampTz moment;
	} remembered[REMEMBERED];
	uint32 slot = (uint32) day % REMEMBERED;

	if (remembered[slot].zone != zone || remembered[slot].day != day)
	{
		remembered[slot].moment = find_midnight(day, zone);
		remembered[slot].day = day;
		remembered[slot].zone = zone;
	}
	return remembered[slot].moment;
}
