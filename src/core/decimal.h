/*
 * decimal.h
 *		Fast exact decimals: an integer and a power of ten.
 *
 * A numeric of up to 18 digits is decoded into an int64 and a scale, computed
 * with as int128, and encoded again, without numeric's digit arrays.  What
 * does not fit is reported as such: the caller then uses numeric itself.
 */
#ifndef BILLING_DECIMAL_H
#define BILLING_DECIMAL_H

#include "pg_compat.h"

#ifndef HAVE_INT128
#error "billing_erp needs a compiler with a 128-bit integer type"
#endif

/* a decoded mantissa has at most this many digits, and this scale */
#define BILLING_DECIMAL_DIGITS 18

/* value * 10^-scale; operations keep the magnitude of value below 2^126 */
typedef struct BillingDecimal
{
	int128 value;
	int scale;
} BillingDecimal;

/* 10^0 to 10^18 */
extern const int64 billing_core_decimal_power[BILLING_DECIMAL_DIGITS + 1];

extern void billing_core_decimal_init(void);
extern bool billing_core_decimal_decode(Datum numeric, int64 *mantissa, int *scale);
extern Datum billing_core_decimal_encode(int128 value, int scale);
extern bool billing_core_decimal_raise(int128 *value, int digits);
extern bool billing_core_decimal_align(BillingDecimal *a, BillingDecimal *b);
extern bool billing_core_decimal_add(BillingDecimal *a, BillingDecimal b);
extern char *billing_core_decimal_text(int128 value, int scale);

#endif /* BILLING_DECIMAL_H */
