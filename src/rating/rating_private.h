/*
 * rating_private.h
 *		What the files of this room share: the parsed JSON text, the draft of a
 *		tariff between parsing and compiling, and small readers of the compiled
 *		form.
 */
#ifndef BILLING_RATING_PRIVATE_H
#define BILLING_RATING_PRIVATE_H

#include "core/errors.h"
#include "port/pg_bitutils.h"
#include "rating/rating.h"

typedef enum BillingJsonKind
{
	BILLING_JSON_NULL,
	BILLING_JSON_BOOLEAN,
	BILLING_JSON_NUMBER,
	BILLING_JSON_STRING,
	BILLING_JSON_ARRAY,
	BILLING_JSON_OBJECT
} BillingJsonKind;

/* A value of the text; it knows its place, so that an error can name it. */
typedef struct BillingJson
{
	BillingJsonKind kind;
	int index; /* position in an array */
	int nchildren;
	char *key;	/* name in an object, else NULL */
	char *text; /* a string's characters, or a number as written */
	struct BillingJson *parent;
	struct BillingJson *first;
	struct BillingJson *next;
} BillingJson;

/* A tariff whose fields are checked one by one and against each other. */
typedef struct BillingDraft
{
	BillingModel model;
	BillingZeroUsage zero_usage;
	int ntiers;
	BillingTier *tiers; /* each number with its own scale */
	bool term_given[BILLING_TERM_COUNT];
	BillingTerm terms[BILLING_TERM_COUNT];
	/* matrix */
	int ndimensions;
	const char **dimensions;
	int ncells;
	const char **match; /* ncells * ndimensions, NULL where any value does */
	BillingTariff **cells;
	BillingTariff *otherwise; /* NULL: no default */
} BillingDraft;

/* rating_json.c */
extern BillingJson *billing_rating_json(const char *text, Size length);
extern BillingJson *billing_rating_json_get(const BillingJson *object, const char *key);
extern char *billing_rating_json_path(const BillingJson *value);
BILLING_NORETURN extern void billing_rating_refuse(const BillingJson *where, const char *problem,
												   const char *hint);

/* rating_field.c: read one field or refuse it */
#define BILLING_FIELD_SIGNED 0
#define BILLING_FIELD_NOT_NEGATIVE 1
#define BILLING_FIELD_POSITIVE 2

extern void billing_rating_check_keys(const BillingJson *object, const char *what,
									  const char *const *keys, int nkeys);
extern const BillingJson *billing_rating_require(const BillingJson *object, const char *key,
												 BillingJsonKind kind, const char *hint);
extern const char *billing_rating_read_name(const BillingJson *field);
extern void billing_rating_read_number(const BillingJson *field, int sign, int64 *value,
									   int *scale);
extern int billing_rating_compare(int64 a, int a_scale, int64 b, int b_scale);

/* rating_validate.c, rating_compile.c */
extern BillingTariff *billing_rating_read_tariff(const BillingJson *object, bool nested);
extern BillingTariff *billing_rating_compile(const BillingDraft *draft);

/* rating_field.c: the words of the format, indexed by the enums of rating.h */
extern const char *const billing_rating_model_names[];
extern const char *const billing_rating_term_names[];
extern const char *const billing_rating_zero_names[];

/* The optional number of that kind, or NULL. */
static inline const BillingTerm *
billing_rating_term(const BillingTariff *tariff, BillingTermKind kind)
{
	uint8 below = (uint8) ((1 << kind) - 1);

	if ((tariff->terms & (1 << kind)) == 0)
		return NULL;
	return billing_rating_terms(tariff) + pg_number_of_ones[tariff->terms & below];
}

static inline const BillingMatrix *
billing_rating_matrix(const BillingTariff *tariff)
{
	return (const BillingMatrix *) (billing_rating_terms(tariff) +
									pg_number_of_ones[tariff->terms]);
}

static inline const void *
billing_rating_at(const BillingTariff *tariff, int32 offset)
{
	return (const char *) tariff + offset;
}

#endif /* BILLING_RATING_PRIVATE_H */
