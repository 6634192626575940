/*
 * usage_watermark.h
 *		Up to which event the roll-ups are made, and how far they may go.
 */
#ifndef BILLING_USAGE_WATERMARK_H
#define BILLING_USAGE_WATERMARK_H

#include "pg_compat.h"

#include "utils/date.h"

/* What may be rolled up, and what may be later. */
typedef struct BillingUsageHorizon
{
	uint64 xmin;   /* all transactions before have ended */
	int64 last_id; /* the last id drawn */
	uint64 next;   /* no transaction from here on has an event up to last_id */
} BillingUsageHorizon;

typedef struct BillingUsageWatermark
{
	int32 entity_id;
	int64 after;
	bool planned; /* whether next and next_id say when to go on, and how far */
	uint64 next;
	int64 next_id;
	bool billed; /* whether any billing run was opened, and through which day at most */
	DateADT billed_through;
} BillingUsageWatermark;

extern int64 billing_usage_last_event_id(void);
extern void billing_usage_read_horizon(BillingUsageHorizon *horizon);
extern bool billing_usage_lock_watermark(int32 entity_id, bool wait, BillingUsageWatermark *mark);
extern void billing_usage_save_watermark(const BillingUsageWatermark *mark);

/* usage_late.c */
extern void billing_usage_note_late(const BillingUsageWatermark *mark, int64 after, int64 through);

#endif /* BILLING_USAGE_WATERMARK_H */
