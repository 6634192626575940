/*
 * rating.h
 *		The tariff: how a price is stored compiled, and what it makes of a
 *		quantity.
 *
 * One rating takes a quantity Q, the sum of N events (a period's usage, or one
 * event with N = 1), and gives one exact, unrounded amount, in this order:
 *
 * 1. free_units.  Q' = max(Q - free_units, 0); a negative Q stays as it is.
 *
 * 2. The model, on Q'.  A tier holds the quantities above the bound before it
 *    (0 for the first) up to its own up_to, inclusive; bounds may be fractions.
 *    per_unit              Q' * unit
 *    graduated             every tier that is entered: the part of Q' inside it
 *                          * unit, + flat
 *    volume                the whole Q' * unit of the tier that holds it, + flat
 *    stairstep             the flat of the tier that holds Q'
 *    package               ceil(Q' / package_size) * package_price
 *    percentage            Q' * rate / 100 + fixed per event that is not free
 *    graduated_percentage  as graduated, with rate / 100 as the unit price
 *    dynamic               Q': the events carry their prices, Q is their sum
 *    matrix                the tariff of the first cell that matches the
 *                          dimensions, else of default
 *    A tier with a block prices started blocks: ceil(part / block) * unit.
 *
 * 3. free_amount: A' = max(A - free_amount, 0); a negative A stays.
 * 4. minimum:     A' = max(A, minimum), always, also without usage.
 * 5. maximum:     A' = min(A, maximum).
 *
 * Q' = 0 is rated by zero_usage: "none" (the default) charges neither unit nor
 * flat, "first_tier" the first tier's flat, "one_package" one package.
 *
 * percentage has prices per event.  fixed is paid by N - free_events events
 * (at least 0); where N is not given it is 1, or 0 when Q is 0.  event_min and
 * event_max bound what one event costs (rate and fixed together) unless that
 * event is free, so they need N <= 1; rate_events() rates events one by one.
 *
 * A negative Q is a correction.  per_unit, percentage without event bounds and
 * dynamic are linear and give a negative amount; the others refuse it.
 */
#ifndef BILLING_RATING_H
#define BILLING_RATING_H

#include "pg_compat.h"

#include "core/call.h"
#include "core/decimal.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/snapshot.h"

/* what is stored; another layout gets another number */
#define BILLING_TARIFF_FORMAT 1

/* limits of the text, each named by the error that enforces it */
#define BILLING_TARIFF_MAX_TEXT (1024 * 1024)
#define BILLING_TARIFF_MAX_DEPTH 8
#define BILLING_TARIFF_MAX_ELEMENTS 1000
#define BILLING_TARIFF_MAX_KEYS 64
#define BILLING_TARIFF_MAX_STRING 255
#define BILLING_TARIFF_MAX_DIMENSIONS 16
#define BILLING_TARIFF_MAX_DECIMALS 12

typedef enum BillingModel
{
	BILLING_MODEL_PER_UNIT = 1,
	BILLING_MODEL_GRADUATED,
	BILLING_MODEL_VOLUME,
	BILLING_MODEL_STAIRSTEP,
	BILLING_MODEL_PACKAGE,
	BILLING_MODEL_PERCENTAGE,
	BILLING_MODEL_GRADUATED_PERCENTAGE,
	BILLING_MODEL_DYNAMIC,
	BILLING_MODEL_MATRIX
} BillingModel;

typedef enum BillingZeroUsage
{
	BILLING_ZERO_NONE,
	BILLING_ZERO_FIRST_TIER,
	BILLING_ZERO_ONE_PACKAGE
} BillingZeroUsage;

/* Optional numbers of a tariff, in the order in which they apply. */
typedef enum BillingTermKind
{
	BILLING_TERM_FREE_UNITS,
	BILLING_TERM_FIXED,
	BILLING_TERM_FREE_EVENTS,
	BILLING_TERM_EVENT_MIN,
	BILLING_TERM_EVENT_MAX,
	BILLING_TERM_FREE_AMOUNT,
	BILLING_TERM_MINIMUM,
	BILLING_TERM_MAXIMUM
} BillingTermKind;

#define BILLING_TERM_COUNT (BILLING_TERM_MAXIMUM + 1)

typedef struct BillingTerm
{
	int64 value; /* value * 10^-scale */
	int32 scale;
	int32 kind; /* BillingTermKind */
} BillingTerm;

/*
 * Every model but matrix is compiled to tiers: per_unit and percentage to one
 * open tier, package to one open tier with a block, dynamic to a unit price of
 * 1.  A rate is stored as the unit price rate / 100.
 */
typedef struct BillingTier
{
	int128 base; /* FAST: what the tiers below cost in full + own flat, at
				  * price_scale + quantity_scale; PG aligns int128 to 8 */
	int64 up_to; /* PG_INT64_MAX when open */
	int64 block; /* 0: priced per unit */
	int64 unit;
	int64 flat;
	uint8 up_to_scale;
	uint8 block_scale;
	uint8 unit_scale;
	uint8 flat_scale;
	uint8 padding[4];
} BillingTier;

#define BILLING_TIER_IS_OPEN(tier) ((tier)->up_to == PG_INT64_MAX)

/* all prices have price_scale, all bounds and blocks quantity_scale, base is set */
#define BILLING_TARIFF_FAST 0x01
/* a quantity pays every tier that it enters, not only the one that holds it */
#define BILLING_TARIFF_CUMULATIVE 0x02
/* a negative quantity gives a negative amount */
#define BILLING_TARIFF_LINEAR 0x04

/*
 * The stored form: this header, ntiers BillingTier, a BillingTerm for each bit
 * of terms, and for a matrix a BillingMatrix.  Unused bytes are zero and a
 * canonical text has one compiled form, so equality is memcmp.
 */
typedef struct BillingTariff
{
	int32 vl_len_; /* varlena header, do not touch directly */
	uint8 format;
	uint8 model;
	uint8 zero_usage;
	uint8 terms; /* bit 1 << BillingTermKind */
	uint8 flags;
	uint8 price_scale;
	uint8 quantity_scale;
	uint8 padding;
	int32 ntiers;
	BillingTier tiers[FLEXIBLE_ARRAY_MEMBER];
} BillingTariff;

/*
 * The matrix.  Offsets count from the start of the BillingTariff.  cells holds
 * the offset of each cell's tariff, then for each cell and dimension the number
 * of the value that it matches, or BILLING_MATRIX_ANY.
 */
#define BILLING_MATRIX_ANY (-1)

typedef struct BillingMatrix
{
	int32 ndimensions;
	int32 ncells;
	int32 default_offset;	 /* 0: no default */
	int32 dimensions_offset; /* int32 offsets of BillingDimension */
	int32 cells[FLEXIBLE_ARRAY_MEMBER];
} BillingMatrix;

/* Strings are an int32 length and the bytes; values are sorted by memcmp. */
typedef struct BillingDimension
{
	int32 name_offset;
	int32 nvalues;
	int32 value_offsets[FLEXIBLE_ARRAY_MEMBER];
} BillingDimension;

/* Room for a tariff that is stored with a short header, which is not aligned. */
typedef union BillingTariffBuffer
{
	BillingTariff tariff;
	int128 align;
	char bytes[128];
} BillingTariffBuffer;

/* One step of a rating, for rate_breakdown(); NULL members are SQL nulls. */
typedef struct BillingLine
{
	int32 tier; /* 1 for the first, 0 for a step that is no tier */
	Numeric from_quantity;
	Numeric up_to;
	Numeric quantity;
	Numeric unit_price;
	Numeric flat;
	Numeric amount;
	const char *note;
} BillingLine;

typedef void (*BillingLineSink)(const BillingLine *line, void *context);

/* What is rated.  Without events the number follows from the quantity. */
typedef struct BillingUsage
{
	Datum quantity; /* numeric, as stored */
	bool events_given;
	int64 events;
} BillingUsage;

static inline const BillingTerm *
billing_rating_terms(const BillingTariff *tariff)
{
	return (const BillingTerm *) &tariff->tiers[tariff->ntiers];
}

extern void billing_rating_init(void);

/* rating_type.c */
extern const BillingTariff *billing_rating_fetch(FmgrInfo *flinfo, Datum stored,
												 BillingTariffBuffer *buffer);
/* rating_parse.c, rating_output.c */
extern BillingTariff *billing_rating_parse(const char *text, Size length);
extern char *billing_rating_text(const BillingTariff *tariff);
/* rating_matrix.c */
extern const BillingTariff *billing_rating_pick(const BillingTariff *tariff,
												const Jsonb *dimensions);
/* rating_eval.c: cell is what billing_rating_pick() gave, NULL if not a matrix */
extern Datum billing_rating_rate(const BillingTariff *tariff, const BillingTariff *cell,
								 const BillingUsage *usage);
/* rating_exact.c */
extern Numeric billing_rating_rate_exact(const BillingTariff *tariff, const BillingTariff *cell,
										 const BillingUsage *usage, BillingLineSink sink,
										 void *context);
extern Datum billing_rating_rate_tariff(PG_FUNCTION_ARGS);
extern Datum billing_rating_rate_matrix(PG_FUNCTION_ARGS);
/* rating_events.c */
extern Datum billing_rating_rate_events_step(PG_FUNCTION_ARGS);
extern Datum billing_rating_rate_events_final(PG_FUNCTION_ARGS);
/* rating_try.c */
extern bool billing_rating_try(FmgrInfo *flinfo, Datum tariff, Datum quantity, const int64 *events,
							   Jsonb *dimensions, Datum *amount);
extern bool billing_rating_prices_by_event(FmgrInfo *flinfo, Datum stored);

/* rating_book.c: prices of books, each read once */
typedef struct BillingPrices BillingPrices;

extern BillingPrices *billing_rating_open_prices(int32 entity_id, Snapshot snapshot);
extern Datum billing_rating_price_on(BillingPrices *prices, int64 price_book_id, int64 product_id,
									 DateADT day);
extern void billing_rating_close_prices(BillingPrices *prices);

/* rating_price.c: finds a price book by code */
extern BillingStatement billing_rating_price_book;

#endif /* BILLING_RATING_H */
