/*
 * errors.h
 *		The registry of SQLSTATEs that billing_erp raises, all of class ZB.
 *
 * One code per kind of mistake that a caller can tell apart and act upon;
 * docs/errors.md says what each means and what to do.  A code is never reused
 * and never changes its meaning.
 */
#ifndef BILLING_ERRORS_H
#define BILLING_ERRORS_H

#include "utils/elog.h"

#define BILLING_SQLSTATE(a, b, c) MAKE_SQLSTATE('Z', 'B', a, b, c)

/* an argument is null, empty, malformed, infinite or out of its range */
#define ERRCODE_BILLING_INVALID_ARGUMENT BILLING_SQLSTATE('0', '0', '1')
/* a code names nothing that the actor can see */
#define ERRCODE_BILLING_UNKNOWN_CODE BILLING_SQLSTATE('0', '0', '2')
/* the actor lacks the duty that the action needs in that entity */
#define ERRCODE_BILLING_DUTY_REQUIRED BILLING_SQLSTATE('0', '0', '3')
/* the actor has the duty, but segregation of duties forbids this decision */
#define ERRCODE_BILLING_SEGREGATION_OF_DUTIES BILLING_SQLSTATE('0', '0', '4')
/* a tariff's text is not a valid price */
#define ERRCODE_BILLING_INVALID_TARIFF BILLING_SQLSTATE('0', '0', '5')
/* a valid tariff cannot rate this quantity */
#define ERRCODE_BILLING_NOT_RATEABLE BILLING_SQLSTATE('0', '0', '6')
/* the state machine has no such step from the document's state */
#define ERRCODE_BILLING_INVALID_TRANSITION BILLING_SQLSTATE('0', '0', '7')
/* an issued document or an audit record would change */
#define ERRCODE_BILLING_IMMUTABLE BILLING_SQLSTATE('0', '0', '8')
/* the code is taken */
#define ERRCODE_BILLING_DUPLICATE_CODE BILLING_SQLSTATE('0', '0', '9')
/* a document table was written past the functions, or restored without pre_restore() */
#define ERRCODE_BILLING_DIRECT_WRITE BILLING_SQLSTATE('0', '1', '0')
/* pre_restore() or post_restore() was called in the wrong state */
#define ERRCODE_BILLING_RESTORE_STATE BILLING_SQLSTATE('0', '1', '1')
/* an amount or quantity leaves the range of its domain */
#define ERRCODE_BILLING_OUT_OF_RANGE BILLING_SQLSTATE('0', '1', '2')
/* the new row contradicts one that is there (overlapping validity, wrong currency, ...) */
#define ERRCODE_BILLING_CONFLICT BILLING_SQLSTATE('0', '1', '3')
/* the session user is nobody's login, or may not act for that person */
#define ERRCODE_BILLING_UNKNOWN_ACTOR BILLING_SQLSTATE('0', '1', '4')
/* the document changed since the caller read it */
#define ERRCODE_BILLING_STALE_VERSION BILLING_SQLSTATE('0', '1', '5')
/* the extension's own state is not what it must be: installation or configuration is broken */
#define ERRCODE_BILLING_BROKEN_INSTALLATION BILLING_SQLSTATE('0', '1', '6')
/* a condition is malformed, names an unknown field or mixes types */
#define ERRCODE_BILLING_INVALID_CONDITION BILLING_SQLSTATE('0', '1', '7')

#endif /* BILLING_ERRORS_H */
