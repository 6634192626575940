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

#include "core/core.h"
#include "mb/pg_wchar.h"
#include "utils/date.h"
#include "masterdata/masterdata.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/jsonpath.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* How many events one call takes, and how many one set of statements carries. */
#define BILLING_USAGE_MAX_EVENTS 100000
#define BILLING_USAGE_SLICE_EVENTS 10000
#define BILLING_USAGE_SLICE_BYTES (32 * 1024 * 1024)

/* Bytes of an event's id, source, type and subject, and of the data that is stored with it. */
#define BILLING_USAGE_MAX_NAME 256
#define BILLING_USAGE_MAX_DATA (64 * 1024)

/* Bytes of an event's dimensions, and of a value that is counted once, as JSON text. */
#define BILLING_USAGE_MAX_DIMENSIONS 1000
#define BILLING_USAGE_MAX_SAMPLE 256

/* Digits before the decimal point, as the domains billing.quantity and billing.amount bound them. */
#define BILLING_USAGE_QUANTITY_DIGITS 36
#define BILLING_USAGE_AMOUNT_DIGITS 27

/* Bytes of a whole event: what cannot be taken must still fit into the payload of an exception. */
#define BILLING_USAGE_MAX_EVENT (32 * 1024 * 1024)

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
	USAGE_ACCEPTED,	   /* stored by this call */
	USAGE_DUPLICATE,   /* its key is there with the same content */
	USAGE_CONFLICTING, /* its key is there with other content */
	USAGE_UNKNOWN,	   /* quarantined: no such subject, or no such meter */
	USAGE_CLOSED,	   /* quarantined: its month takes nothing in any more */
	USAGE_LATE,		   /* quarantined: it came too late, and the entity holds such events */
	USAGE_MALFORMED,   /* quarantined: cannot be read, or does not fit its meter */
	USAGE_NOT_ALLOWED  /* quarantined: whoever sent it may not */
} BillingUsageOutcome;

/* The attributes of an event that comes in columns; a text without bytes is null. */
typedef struct BillingUsageFields
{
	BillingUsageText id;
	BillingUsageText source;
	BillingUsageText type;
	BillingUsageText subject;
	bool has_time;
	TimestampTz time;
	Jsonb *data; /* or NULL */
} BillingUsageFields;

/* What may be done with the usage of a month. */
typedef enum BillingUsageMonth
{
	USAGE_MONTH_OPEN,	 /* events are taken in */
	USAGE_MONTH_CLOSED,	 /* nothing is, until it is opened again */
	USAGE_MONTH_DETACHED /* nothing ever is; its events are kept elsewhere */
} BillingUsageMonth;

/* One event: as it came, as it was read, and what it was resolved to. */
typedef struct BillingUsageEvent
{
	int32 position; /* in the call; of two with the same key, the first counts */
	BillingUsageOutcome outcome;
	const char *problem; /* why it is malformed, or NULL */
	bool in_columns;	 /* it came in columns: its payload is put together when it is needed */
	JsonbValue payload;	 /* the event, complete */
	BillingUsageText key;
	BillingUsageText source;
	BillingUsageText type;
	BillingUsageText subject;
	TimestampTz occurred_at;
	Jsonb *data;							   /* or NULL */
	Numeric expected;						   /* or NULL */
	uint8 hash[BILLING_USAGE_HASH_LENGTH];	   /* of what it says */
	uint8 key_hash[BILLING_USAGE_HASH_LENGTH]; /* of source and id */
	int64 account_id;						   /* 0 while unknown */
	int64 item_id;							   /* 0 where the subject is an account */
	int64 meter_id;							   /* 0 while unknown */
	DateADT usage_date;
	BillingUsageMonth month;	 /* the state of its month */
	TimestampTz arrived_at;		 /* when it came first; 0: by this call */
	bool is_admitted;			 /* somebody decided that it may come in though it is late */
	int32 late_days;			 /* by how many days it is held as late, or 0 */
	Numeric quantity;			 /* or NULL: left out by the meter's filter */
	BillingUsageText dimensions; /* empty without group keys */
	BillingUsageText sample;	 /* empty unless the meter counts values once */
	int64 event_id;				 /* once it is about to be stored */
	int64 correction_id;		 /* of the correction that brings it in, or 0 */
	int64 corrects_id;			 /* of the row in whose place it stands, or 0 */
	int64 stored_id;			 /* of the event that has its key, where they conflict */
	int32 scratch;				 /* index into whatever list is being worked on */
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
	int64 quarantined;
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

extern void billing_metering_hash_key(struct pg_cryptohash_ctx *context, BillingUsageEvent *event);
extern void billing_metering_hash_void_key(struct pg_cryptohash_ctx *context,
										   const BillingUsageEvent *event, int64 event_id,
										   uint8 *hash);
extern void billing_metering_hash_content_key(struct pg_cryptohash_ctx *context,
											  const BillingUsageEvent *event, uint8 *hash);

/* metering_month.c */
extern int32 billing_metering_month_of(DateADT day);
extern DateADT billing_metering_first_day(int32 month);
extern char *billing_metering_month_name(int32 month);
extern char *billing_metering_partition_name(int32 month);
extern Oid billing_metering_partition(int32 month);
extern bool billing_metering_open_month(int32 month, int32 *made);
extern bool billing_metering_is_in_window(DateADT day);

/* metering_detach.c */
extern void billing_metering_lock_month_of_all(int32 month);
extern int64 billing_metering_detach_month(int32 month);

/* metering_admit.c: whoever writes into a month enters it first */
extern void billing_metering_lock_month(int32 entity_id, int32 month, bool alone);
extern BillingUsageMonth billing_metering_enter_month(int32 entity_id, DateADT day);
extern void billing_metering_admit(BillingUsageBatch *batch);

/* metering_parse.c */
extern void billing_metering_parse(BillingUsageBatch *batch, Jsonb *input);
extern void billing_metering_parse_one(BillingUsageEvent *event, const JsonbValue *value,
									   struct pg_cryptohash_ctx *context);
extern const char *billing_metering_problem(const char *field, const char *what);
extern const char *billing_metering_check_name(const char *field, BillingUsageText text);
extern const char *billing_metering_check_data(BillingUsageEvent *event, int length);

/* metering_fields.c: events that come in columns */
extern int64 billing_metering_fields_size(const BillingUsageFields *fields);
extern void billing_metering_read_fields(BillingUsageEvent *event, const BillingUsageFields *fields,
										 struct pg_cryptohash_ctx *context);
extern Jsonb *billing_metering_payload(const BillingUsageEvent *event);
extern void billing_metering_read_columns(FunctionCallInfo fcinfo, int argno,
										  BillingUsageBatch *batch);

/* What a meter takes from an event. */
typedef enum BillingUsageTake
{
	TAKE_ONE,	 /* 1 for each event */
	TAKE_NUMBER, /* a number */
	TAKE_SAMPLE	 /* 1, and a value that counts once */
} BillingUsageTake;

/* Where a value is in an event's data: a field, or a path. */
typedef struct BillingUsagePlace
{
	char *text; /* name of the field, or text of the path */
	int length;
	JsonPath *path; /* NULL for a field */
} BillingUsagePlace;

/* A group key, with the text that stands for it in the dimensions: "name": */
typedef struct BillingUsageKey
{
	char *name;
	char *label;
	BillingUsagePlace place;
} BillingUsageKey;

/* A meter's definition, made ready to read events. */
typedef struct BillingUsageMeter
{
	int64 meter_id; /* 0: there is no such meter */
	BillingUsageTake take;
	BillingUsagePlace value;
	JsonPath *filter; /* or NULL */
	int key_count;
	BillingUsageKey keys[BILLING_METER_MAX_KEYS]; /* in the order that jsonb gives them */
} BillingUsageMeter;

/* What reading needs beside meter and event. */
typedef struct BillingUsageReader
{
	MemoryContext scratch; /* reset after each event */
	Jsonb *nothing;		   /* an empty object */
} BillingUsageReader;

/* metering_meter.c */
extern void billing_metering_compile(BillingUsageMeter *meter, const char *aggregation,
									 const char *value_field, const char *filter,
									 ArrayType *group_by);
extern void billing_metering_resolve_meters(int32 entity_id, BillingUsageEvent **events,
											int32 count);

/* metering_read.c */
extern BillingUsageReader *billing_metering_reader(void);
extern void billing_metering_read(BillingUsageReader *reader, const BillingUsageMeter *meter,
								  BillingUsageEvent *event);

/* metering_resolve.c */
extern void billing_metering_resolve(int32 entity_id, BillingUsageEvent **events, int32 count);

/* metering_subject.c */
extern void billing_metering_resolve_subjects(int32 entity_id, BillingUsageEvent **events,
											  int32 count);

/* metering_alias.c */
extern char *billing_metering_arg_subject(FunctionCallInfo fcinfo, int argno, const char *name);

/* metering_form.c: what stays the same of a name, however it is written */
typedef enum BillingUsageLikeness
{
	LIKE_IDENTICAL,
	LIKE_BUT_CASE,
	LIKE_BUT_SEPARATORS, /* and case */
	LIKE_BUT_ZEROS,		 /* leading ones, and separators and case */
	LIKE_SIMILAR,
	LIKE_OTHER_NUMBERS /* similar, but its numbers are others */
} BillingUsageLikeness;

typedef struct BillingUsageForm
{
	BillingUsageText text;
	BillingUsageText folded;
	pg_wchar *compact;
	int compact_length;
	pg_wchar *usual;
	int usual_length;
	pg_wchar *numbers;
	int numbers_length;
	uint64 *trigrams; /* of the usual form, distinct and in order */
	int trigram_count;
} BillingUsageForm;

extern BillingUsageForm *billing_metering_form(BillingUsageText text);
extern BillingUsageLikeness billing_metering_likeness(const BillingUsageForm *a,
													  const BillingUsageForm *b);
extern int32 billing_metering_similarity(const BillingUsageForm *a, const BillingUsageForm *b,
										 int common);

/* metering_guess.c: what subjects may mean; scores and confidences in ten-thousandths */
#define BILLING_USAGE_GUESSES 5

typedef struct BillingUsageGuess
{
	char kind; /* 'a' account, 'i' contract item, 'x' alias: what the text names */
	BillingUsageText text;
	int64 account_id;
	int64 item_id; /* 0 for an account */
	DateADT ended; /* day after the last of an alias that has ended; DATEVAL_NOEND otherwise */
	BillingUsageLikeness likeness;
	int32 similarity;
	int32 score;
	int32 rivals;	  /* how many targets have at least this score, this one included */
	int32 confidence; /* the score divided by that */
} BillingUsageGuess;

/* The guesses for one subject, the best first. */
typedef struct BillingUsageGuesses
{
	BillingUsageForm *form;
	int32 count;
	BillingUsageGuess *best;
} BillingUsageGuesses;

extern BillingUsageGuesses *billing_metering_guess(int32 entity_id, BillingUsageText *subjects,
												   int32 count);
extern bool billing_metering_is_ambiguous(const BillingUsageGuesses *guesses);

/* metering_suggest.c */
extern Numeric billing_metering_confidence(int32 score);

/* metering_key.c */
extern bool billing_metering_take_keys(int32 entity_id, BillingUsageEvent **events, int32 count,
									   int32 *taken);

/* metering_row.c */
extern bool billing_metering_write_events(int32 entity_id, BillingUsageEvent **events,
										  int32 *count);

/* metering_store.c */
extern Oid billing_metering_event_sequence(void);
extern void billing_metering_number(BillingUsageEvent **events, int32 count);
extern void billing_metering_insert(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_compare(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_store(int32 entity_id, BillingUsageEvent **events, int32 count,
								   BillingUsageCounts *counts);

/* metering_version.c: what stands under an event's key */
typedef struct BillingUsageVersion
{
	int64 event_id;		/* the last row in the event's place; 0 where none was ever accepted */
	DateADT usage_date; /* its day */
	int64 account_id;	/* 0 where its month is detached */
	int64 meter_id;
	uint8 content[16]; /* what it says */
	bool taken_back;   /* it is the row that took the event back, and nothing stands in its place */
} BillingUsageVersion;

extern BillingUsageVersion *billing_metering_versions(int32 entity_id, BillingUsageEvent **events,
													  int32 count);
extern void billing_metering_recognise(int32 entity_id, BillingUsageEvent **events, int32 count);

/* metering_correct.c: new rows in place of stored ones */
typedef enum BillingUsageCorrectionKind
{
	USAGE_VOID,	   /* take events back */
	USAGE_REPLACE, /* put others in their place */
	USAGE_BACKFILL /* bring in events of the past */
} BillingUsageCorrectionKind;

typedef struct BillingUsageCorrection
{
	int32 entity_id;
	int64 correction_id;
	BillingUsageCorrectionKind kind;
	int32 count; /* events that something is to be done about, sorted by key */
	BillingUsageEvent **events;
	BillingUsageVersion *versions; /* what stands in their place; NULL for a backfill */
	int64 already_done;			   /* events that are as they should be */
} BillingUsageCorrection;

extern void billing_metering_prepare(BillingUsageCorrection *correction, BillingUsageBatch *batch);
extern void billing_metering_carry_out(BillingUsageCorrection *correction);

/* metering_exception.c */
extern void billing_metering_raise(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_settle(int32 entity_id, BillingUsageEvent **events, int32 count);
extern void billing_metering_settle_corrected(int32 entity_id);
extern void billing_metering_settle_conflicts(int32 entity_id, BillingUsageEvent **events,
											  int32 count);

/* metering_ingest.c */
extern int billing_metering_by_key(const void *a, const void *b);
extern void billing_metering_ingest(BillingUsageBatch *batch, BillingUsageCounts *counts);
extern void billing_metering_require_sender(int32 entity_id);
extern void billing_metering_audit(int32 entity_id, const char *action,
								   const BillingUsageCounts *counts);
extern Datum billing_metering_return_counts(FunctionCallInfo fcinfo,
											const BillingUsageCounts *counts);

/*
 * Which waiting events are to be taken in again: a statement with the entity as
 * $1, the last exception seen as $2 and the values from $3 on.  It returns the
 * next exceptions by id, with payload, arrival, and whether they come in though
 * they are late, locked, and leaves out those that another session holds.
 */
#define BILLING_USAGE_WAITING_VALUES 2
typedef struct BillingUsageWaiting
{
	BillingStatement *statement;
	Datum values[BILLING_USAGE_WAITING_VALUES];
	const char *nulls;
} BillingUsageWaiting;

extern void billing_metering_take_in(int32 entity_id, const BillingUsageWaiting *waiting,
									 BillingUsageCounts *counts);

/* metering_column.c: columns of a batch as parameters of a statement */
typedef struct BillingUsageColumn
{
	Datum *values;
	bool *nulls;
} BillingUsageColumn;

extern BillingUsageColumn billing_metering_column(int32 count);
extern Datum billing_metering_array(BillingUsageColumn *column, int32 count, Oid element_type);
extern Datum billing_metering_text(BillingUsageText text);
extern int billing_metering_compare_texts(const BillingUsageText *a, const BillingUsageText *b);
extern Datum billing_metering_uuid(const uint8 *hash);

#endif /* BILLING_METERING_H */
