/*
 * rating_change.c
 *		Notes which prices changed, and for which days.
 *
 * Whom that concerns is found when the next billing run is opened
 * (billing_internal.spread_changes()): here it costs one row, whether ten accounts
 * use the book or a million.
 */
#include "pg_compat.h"

#include "commands/trigger.h"
#include "core/core.h"
#include "masterdata/masterdata.h"
#include "rating/rating.h"

/* One row for each book and product, from the first day to the last of all its rows that changed. */
#define NOTE_PRICES(changed)                                                           \
	"INSERT INTO billing.shared_change (entity_id, reason, price_book_id, product_id," \
	" first_day, end_day)"                                                             \
	" SELECT c.entity_id, 'price', c.price_book_id, c.product_id, min(c.first_day),"   \
	" CASE WHEN count(c.end_day) = count(*) THEN max(c.end_day) END"                   \
	" FROM (" changed ") c GROUP BY c.entity_id, c.price_book_id, c.product_id",       \
		0, { 0 }, NULL

#define ALL_DAYS(rows)                                                               \
	"SELECT r.entity_id, r.price_book_id, r.product_id, r.valid_from AS first_day, " \
	"r.valid_to AS end_day FROM " rows " r"

static BillingStatement note_new = { NOTE_PRICES(ALL_DAYS("new_rows")) };
static BillingStatement note_old = { NOTE_PRICES(ALL_DAYS("old_rows")) };

/*
 * A price that keeps its tariff has changed for the days alone by which its term
 * grew or shrank: to let it end next year, so that another begins, changes nothing
 * before.  Where both ends moved, the days between are taken as well.  What moved
 * to another book or product has left the days that it had.
 */
static BillingStatement note_changed = { NOTE_PRICES(
	"SELECT p.entity_id, p.price_book_id, p.product_id,"
	" CASE WHEN p.is_same AND p.valid_from = p.old_from THEN least(p.valid_to, p.old_to)"
	"  ELSE least(p.valid_from, p.old_from) END AS first_day,"
	" CASE WHEN p.is_same AND p.valid_to IS NOT DISTINCT FROM p.old_to"
	"  THEN greatest(p.valid_from, p.old_from)"
	"  WHEN p.valid_to IS NOT NULL AND p.old_to IS NOT NULL THEN greatest(p.valid_to, p.old_to)"
	"  END AS end_day"
	" FROM (SELECT n.entity_id, n.price_book_id, n.product_id, n.valid_from, n.valid_to,"
	"   o.valid_from AS old_from, o.valid_to AS old_to,"
	"   NOT n.tariff OPERATOR(billing.<>) o.tariff AND n.price_book_id = o.price_book_id"
	"    AND n.product_id = o.product_id AS is_same"
	"  FROM new_rows n JOIN old_rows o ON o.entity_id = n.entity_id AND o.price_id = n.price_id) p"
	" WHERE NOT p.is_same OR p.valid_from <> p.old_from OR p.valid_to IS DISTINCT FROM p.old_to"
	" UNION ALL "
	"SELECT o.entity_id, o.price_book_id, o.product_id, o.valid_from, o.valid_to"
	" FROM new_rows n JOIN old_rows o ON o.entity_id = n.entity_id AND o.price_id = n.price_id"
	" WHERE (n.price_book_id, n.product_id) <> (o.price_book_id, o.product_id)") };

PG_FUNCTION_INFO_V1(billing_rating_note_price_change);

/*
 * billing_internal.note_price_change() RETURNS trigger, AFTER STATEMENT with the transition tables
 * of its event, old_rows and new_rows
 */
Datum
billing_rating_note_price_change(PG_FUNCTION_ARGS)
{
	TriggerEvent event =
		CALLED_AS_TRIGGER(fcinfo) ? ((TriggerData *) fcinfo->context)->tg_event : 0;

	billing_masterdata_note_change(fcinfo,
								   TRIGGER_FIRED_BY_INSERT(event)	? &note_new
								   : TRIGGER_FIRED_BY_DELETE(event) ? &note_old
																	: &note_changed,
								   NULL);
	PG_RETURN_POINTER(NULL);
}
