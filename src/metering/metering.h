/*
 * metering.h
 *		Usage events: read from CloudEvents, resolved to a billing account and a
 *		meter, stored once, and quarantined where that is not possible.
 *
 * Every door for usage fills a batch of events and hands it to
 * billing_metering_ingest(), so that all of them mean the same.
 */
#ifndef BILLING_METERING_H
#define BILLING_METERING_H

#include "pg_compat.h"

#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* How many events one call takes, and how many one set of statements carries. */
#define BILLING_USAGE_MAX_EVENTS 100000
#define BILLING_USAGE_SLICE_EVENTS 10000
#define BILLING_USAGE_SLICE_BYTES (32 * 1024 * 1024)

/* Bytes of an event's id, source, type and subject, and of the data that is stored with it. */
#define BILLING_USAGE_MAX_NAME 256
#define BILLING_USAGE_MAX_DATA (64 * 1024)

/* Digits before the decimal point, as the domains billing.quantity and billing.amount bound them. */
#define BILLING_USAGE_QUANTITY_DIGITS 36
#define BILLING_USAGE_AMOUNT_DIGITS 27

#define BILLING_USAGE_HASH_LENGTH 32

/* A text inside a larger value: not terminated, not owned. */
typedef struct BillingUsageText
{
	const char *bytes;
	int length;
} BillingUsageText;

/* What became of an event. */
typedef enum BillingUsageOutcome
{
	USAGE_PENDING,	   /* well formed; not decided yet */
	USAGE_STORED,	   /* its key and content are in the table: accepted, or a duplicate */
	USAGE_CONFLICTING, /* its key is there with other content */
	USAGE_UNKNOWN,	   /* no such account, or no such meter */
	USAGE_MALFORMED
} BillingUsageOutcome;

/* One event: as it came, as it was read, and what it was resolved to. */
typedef struct BillingUsageEvent
{
	int32 position; /* in the call; of two with the same key, the first counts */
	BillingUsageOutcome outcome;
	const char *problem; /* why it is malformed, or NULL */
	JsonbValue payload;	 /* the event, complete */
	BillingUsageText key;
	BillingUsageText source;
	BillingUsageText type;
	BillingUsageText subject;
	TimestampTz occurred_at;
	Jsonb *data;	  /* or NULL */
	Numeric expected; /* or NULL */
	uint8 hash[BILLING_USAGE_HASH_LENGTH];
	int64 account_id; /* 0 while unknown */
	int64 meter_id;	  /* 0 while unknown */
	DateADT usage_date;
	Numeric quantity;
	int64 stored_id; /* of the event that has its key, where they conflict */
	int32 scratch;	 /* index into whatever list is being worked on */
} BillingUsageEvent;

typedef struct BillingUsageBatch
{
	int32 entity_id;
	int32 count;
	BillingUsageEvent *events;
} BillingUsageBatch;

typedef struct BillingUsageCounts
{
	int64 accepted;
	int64 duplicate;
	int64 conflicting;
	int64 unknown;
	int64 malformed;
} BillingUsageCounts;

/* metering_scan.c: text to moments and numbers, without raising errors */
extern bool billing_metering_scan_time(BillingUsageText text, TimestampTz *moment);
extern bool billing_metering_scan_number(const JsonbValue *value, int whole_digits,
										 Numeric *number);

/* metering_hash.c */
extern struct pg_cryptohash_ctx *billing_metering_hash_begin(void);
extern void billing_metering_hash_content(struct pg_cryptohash_ctx *context,
										  BillingUsageEvent *event);
extern void billing_metering_hash_payload(struct pg_cryptohash_ctx *context,
										  BillingUsageEvent *event);

/* metering_parse.c */
extern void billing_metering_parse(BillingUsageBatch *batch, Jsonb *input);
extern void billing_metering_parse_one(BillingUsageEvent *event, const JsonbValue *value,
									   struct pg_cryptohash_ctx *context);
extern const char *billing_metering_problem(const char *field, const char *what);

/* metering_resolve.c */
extern void billing_metering_resolve(int32 entity_id, BillingUsageEvent **events, int32 count);

/* metering_store.c */
extern void billing_metering_store(int32 entity_id, BillingUsageEvent **events, int32 count,
								   BillingUsageCounts *counts);

/* metering_exception.c */
extern void billing_metering_raise(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_settle(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_settle_corrected(int32 entity_id);

/* metering_ingest.c */
extern void billing_metering_ingest(BillingUsageBatch *batch, BillingUsageCounts *counts);

/* metering_column.c: columns of a batch as parameters of a statement */
typedef struct BillingUsageColumn
{
	Datum *values;
	bool *nulls;
} BillingUsageColumn;

extern BillingUsageColumn billing_metering_column(int32 count);
extern Datum billing_metering_array(BillingUsageColumn *column, int32 count, Oid element_type);
extern Datum billing_metering_text(BillingUsageText text);

#endif /* BILLING_METERING_H */
