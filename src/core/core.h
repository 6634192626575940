/*
 * core.h
 *		What every room stands on: who acts, what they may do, how SQL is run
 *		from C, how arguments are checked, how money is rounded and how a
 *		calendar is cut into periods.
 */
#ifndef BILLING_CORE_H
#define BILLING_CORE_H

#include "pg_compat.h"

#include "core/errors.h"
#include "executor/spi.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/snapshot.h"

#define BILLING_MAX_STATEMENT_ARGS 20

/* A code is what people call a thing: short, printable, unique in its entity. */
#define BILLING_MAX_CODE_LENGTH 128
/* Names, reasons and descriptions. */
#define BILLING_MAX_TEXT_LENGTH 10000

/* The person that stands for the software itself; a row of billing.person. */
#define BILLING_SYSTEM_PERSON 0

/*
 * A statement of SQL that is prepared at first use and kept for the session.
 * The text is a constant with qualified names; values travel as parameters.
 */
typedef struct BillingStatement
{
	const char *sql;
	int nargs;
	Oid argtypes[BILLING_MAX_STATEMENT_ARGS];
	SPIPlanPtr plan;
} BillingStatement;

/* core_settings.c */
extern void billing_core_init(void);
extern bool billing_core_restoring;

/* core_spi.c: call between SPI_connect() and SPI_finish() */
extern uint64 billing_core_run(BillingStatement *statement, Datum *values, const char *nulls,
							   bool read_only);
extern uint64 billing_core_run_latest(BillingStatement *statement, Datum *values,
									  const char *nulls);
extern uint64 billing_core_run_at(BillingStatement *statement, Datum *values, const char *nulls,
								  Snapshot snapshot);
extern uint64 billing_core_run_privileged(BillingStatement *statement, Datum *values,
										  const char *nulls, bool read_only);
extern uint64 billing_core_run_privileged_latest(BillingStatement *statement, Datum *values,
												 const char *nulls);
extern Portal billing_core_open(BillingStatement *statement, Datum *values, const char *nulls);
extern uint64 billing_core_execute(const char *sql);
extern uint64 billing_core_execute_privileged(const char *sql, int nargs, Oid *types,
											  Datum *values);
extern Datum billing_core_value(uint64 row, int column, bool *isnull);
extern Datum billing_core_value_copy(uint64 row, int column, bool typbyval, int16 typlen,
									 bool *isnull);
extern char *billing_core_text_value(uint64 row, int column);
extern Oid billing_core_owner(void);
extern void billing_core_translate_error(ErrorData *error);

/* core_actor.c */
extern int32 billing_core_login_person(void);
extern int32 billing_core_actor_person(void);
extern const char *billing_core_person_code(int32 person_id);
extern bool billing_core_is_installation_admin(void);
extern void billing_core_become_system(void);
extern int32 billing_core_save_actor(void);
extern void billing_core_restore_actor(int32 person_id);
extern int32 billing_core_enter_system(void);
extern void billing_core_leave_system(int32 person_id);
extern void billing_core_actor_init(void);

/* core_try.c */
extern ErrorData *billing_core_try(void (*step)(void *), void *argument);

/* core_duty.c: a person without the duty gets ERRCODE_BILLING_DUTY_REQUIRED */
extern void billing_core_require_duty(int32 entity_id, const char *duty);
extern void billing_core_require_any_duty(int32 entity_id, const char *const *duties, int nduties);
extern void billing_core_require_admin(int32 entity_id);
extern bool billing_core_sees_entity(int32 entity_id);
extern bool billing_core_has_duty(int32 entity_id, const char *duty);

/* core_arg.c: read an argument or raise ERRCODE_BILLING_INVALID_ARGUMENT, naming it */
extern char *billing_core_arg_code(FunctionCallInfo fcinfo, int argno, const char *name);
extern char *billing_core_arg_optional_code(FunctionCallInfo fcinfo, int argno, const char *name);
extern char *billing_core_arg_text(FunctionCallInfo fcinfo, int argno, const char *name);
extern char *billing_core_arg_optional_text(FunctionCallInfo fcinfo, int argno, const char *name);
extern DateADT billing_core_arg_date(FunctionCallInfo fcinfo, int argno, const char *name);
extern DateADT billing_core_arg_optional_date(FunctionCallInfo fcinfo, int argno, const char *name,
											  bool *isnull);
extern Numeric billing_core_arg_numeric(FunctionCallInfo fcinfo, int argno, const char *name);
extern Numeric billing_core_arg_optional_numeric(FunctionCallInfo fcinfo, int argno,
												 const char *name);
extern Jsonb *billing_core_arg_json(FunctionCallInfo fcinfo, int argno, const char *name);
extern int32 billing_core_arg_int(FunctionCallInfo fcinfo, int argno, const char *name, int32 least,
								  int32 most);
extern void billing_core_check_code(const char *value, const char *name);
extern void billing_core_check_text(const char *value, const char *name);
extern void billing_core_check_date(DateADT value, const char *name);
extern void billing_core_check_numeric(Numeric value, const char *name);

/* core_wake.c */
extern void billing_core_wake_init(void);
extern bool billing_core_become_only_worker(void);
extern bool billing_core_wake_worker(void);

/* core_crash.c */
extern void billing_core_crash_init(void);
extern void billing_core_crash_point(const char *name);

/* core_entity.c */
extern int32 billing_core_entity_id(const char *code);
extern int32 billing_core_arg_entity(FunctionCallInfo fcinfo, int argno);
extern DateADT billing_core_entity_today(int32 entity_id);

/* core_protect.c */
extern void billing_core_protect_partition(Oid partition, const char *kind);

/* core_money.c */
extern void billing_core_check_minor_unit(int32 minor_unit);
extern bool billing_core_is_zero(Numeric value);
extern Numeric billing_core_prorate_by(Numeric amount, int32 days, int32 of_days);
extern Numeric billing_core_round(Numeric amount, int32 minor_unit, bool half_even);

/* core_calendar.c */
extern void billing_core_check_interval(const char *unit, int32 count);
extern DateADT billing_core_period_start(DateADT anchor, const char *unit, int32 count, int64 n);
extern int64 billing_core_period_index(DateADT anchor, const char *unit, int32 count, DateADT date);

#endif /* BILLING_CORE_H */
