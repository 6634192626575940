/*
 * rating_validate.c
 *		Turns the tree of a tariff's text into a draft, field by field, and
 *		checks the fields against each other: tiers, limits, matrix cells.
 *
 * Single fields are read by rating_field.c; the draft is compiled by
 * rating_compile.c.
 */
#include "pg_compat.h"

#include "miscadmin.h"

#include "rating/rating_private.h"

#define MODIFIER_KEYS \
	"model", "free_units", "free_amount", "minimum", "maximum", "zero_usage", "free_events"

/* The keys of each model, indexed by BillingModel. */
static const struct
{
	int nkeys;
	const char *keys[11];
} model_keys[] = {
	{ 0, { NULL } },
	{ 8, { MODIFIER_KEYS, "unit" } },
	{ 8, { MODIFIER_KEYS, "tiers" } },
	{ 8, { MODIFIER_KEYS, "tiers" } },
	{ 8, { MODIFIER_KEYS, "tiers" } },
	{ 9, { MODIFIER_KEYS, "package_size", "package_price" } },
	{ 11, { MODIFIER_KEYS, "rate", "fixed", "event_min", "event_max" } },
	{ 8, { MODIFIER_KEYS, "tiers" } },
	{ 7, { MODIFIER_KEYS } },
	{ 10, { MODIFIER_KEYS, "dimensions", "cells", "default" } },
};

/* Read which model it is. */
static BillingModel
read_model(const BillingJson *object)
{
	const char *hint = "The models are per_unit, graduated, volume, stairstep, package, "
					   "percentage, graduated_percentage, dynamic and matrix.";
	const BillingJson *field = billing_rating_require(object, "model", BILLING_JSON_STRING, hint);

	for (int model = BILLING_MODEL_PER_UNIT; model <= BILLING_MODEL_MATRIX; model++)
	{
		if (strcmp(field->text, billing_rating_model_names[model]) == 0)
			return (BillingModel) model;
	}
	billing_rating_refuse(field, "is not a model", hint);
}

/* Read a price that must be there into a tier's unit price. */
static void
read_unit(const BillingJson *object, const char *key, BillingTier *tier)
{
	const BillingJson *field =
		billing_rating_require(object, key, BILLING_JSON_NUMBER,
							   psprintf("This model needs the price \"%s\".", key));
	int scale;

	billing_rating_read_number(field, BILLING_FIELD_SIGNED, &tier->unit, &scale);
	/* a rate is in percent; zero has one form, whether it is written or left out */
	if (strcmp(key, "rate") == 0 && tier->unit != 0)
		scale += 2;
	tier->unit_scale = (uint8) scale;
}

/* Read the bound of a tier and compare it with the bound before it. */
static void
read_bound(const BillingJson *object, BillingTier *tier, const BillingTier *before)
{
	const char *hint = "Tiers are sorted by up_to, and the last one, and only that, has "
					   "\"up_to\": null.";
	const BillingJson *field = billing_rating_json_get(object, "up_to");
	bool last = object->next == NULL;
	int scale;

	if (field == NULL)
		billing_rating_refuse(object, "has no \"up_to\"", hint);
	if (field->kind == BILLING_JSON_NULL)
	{
		if (!last)
			billing_rating_refuse(field, "is null, but more tiers follow", hint);
		tier->up_to = PG_INT64_MAX;
		return;
	}
	billing_rating_read_number(field, BILLING_FIELD_POSITIVE, &tier->up_to, &scale);
	tier->up_to_scale = (uint8) scale;
	if (before != NULL && billing_rating_compare(tier->up_to, tier->up_to_scale, before->up_to,
												 before->up_to_scale) <= 0)
		billing_rating_refuse(field,
							  psprintf("is not above the bound before it, %s",
									   billing_core_decimal_text(before->up_to,
																 before->up_to_scale)),
							  hint);
	if (last)
		billing_rating_refuse(field, "is not null in the last tier", hint);
}

/* Read one tier: bound, price and flat as the model has them. */
static void
read_tier(const BillingJson *object, BillingModel model, BillingTier *tier,
		  const BillingTier *before)
{
	static const char *const unit_keys[] = { "up_to", "unit", "flat", "block" };
	static const char *const rate_keys[] = { "up_to", "rate", "flat" };
	static const char *const flat_keys[] = { "up_to", "flat" };
	const char *price = model == BILLING_MODEL_GRADUATED_PERCENTAGE ? "rate" : "unit";
	const BillingJson *flat;
	int scale;

	if (object->kind != BILLING_JSON_OBJECT)
		billing_rating_refuse(object, "is not an object",
							  "A tier is an object such as {\"up_to\": 1000, \"unit\": \"0.10\"}.");
	if (model == BILLING_MODEL_STAIRSTEP)
		billing_rating_check_keys(object, "a stairstep tier", flat_keys, lengthof(flat_keys));
	else if (model == BILLING_MODEL_GRADUATED_PERCENTAGE)
		billing_rating_check_keys(object, "a graduated_percentage tier", rate_keys,
								  lengthof(rate_keys));
	else
		billing_rating_check_keys(object, "a tier", unit_keys, lengthof(unit_keys));
	read_bound(object, tier, before);

	flat = billing_rating_json_get(object, "flat");
	if (flat != NULL)
	{
		billing_rating_read_number(flat, BILLING_FIELD_SIGNED, &tier->flat, &scale);
		tier->flat_scale = (uint8) scale;
	}
	if (model == BILLING_MODEL_STAIRSTEP)
	{
		if (flat == NULL)
			billing_rating_refuse(object, "has no \"flat\"", "A stairstep tier costs its flat.");
		return;
	}
	if (billing_rating_json_get(object, "block") != NULL)
	{
		billing_rating_read_number(billing_rating_json_get(object, "block"), BILLING_FIELD_POSITIVE,
								   &tier->block, &scale);
		tier->block_scale = (uint8) scale;
		read_unit(object, price, tier);
	}
	else if (flat == NULL || billing_rating_json_get(object, price) != NULL)
		read_unit(object, price, tier);
}

/* Read the tiers of a tiered model. */
static void
read_tiers(const BillingJson *object, BillingDraft *draft)
{
	const char *hint = "Give the tiers as an array of objects, sorted by up_to.";
	const BillingJson *tiers = billing_rating_require(object, "tiers", BILLING_JSON_ARRAY, hint);

	if (tiers->nchildren == 0)
		billing_rating_refuse(tiers, "is empty", hint);
	draft->ntiers = tiers->nchildren;
	draft->tiers = palloc0(sizeof(BillingTier) * draft->ntiers);
	for (const BillingJson *tier = tiers->first; tier != NULL; tier = tier->next)
		read_tier(tier, draft->model, &draft->tiers[tier->index],
				  tier->index == 0 ? NULL : &draft->tiers[tier->index - 1]);
}

/* Make the single open tier of a model without tiers. */
static void
read_single_tier(const BillingJson *object, BillingDraft *draft)
{
	BillingTier *tier = palloc0(sizeof(BillingTier));
	const BillingJson *size;
	int scale;

	draft->ntiers = 1;
	draft->tiers = tier;
	tier->up_to = PG_INT64_MAX;
	switch (draft->model)
	{
		case BILLING_MODEL_PER_UNIT:
			read_unit(object, "unit", tier);
			break;
		case BILLING_MODEL_PERCENTAGE:
			read_unit(object, "rate", tier);
			break;
		case BILLING_MODEL_PACKAGE:
			size = billing_rating_require(object, "package_size", BILLING_JSON_NUMBER,
										  "A package needs its size.");
			billing_rating_read_number(size, BILLING_FIELD_POSITIVE, &tier->block, &scale);
			tier->block_scale = (uint8) scale;
			read_unit(object, "package_price", tier);
			break;
		default:
			tier->unit = 1;
			break;
	}
}

/* Read one optional number. */
static void
read_term(const BillingJson *object, BillingDraft *draft, BillingTermKind kind)
{
	const BillingJson *field = billing_rating_json_get(object, billing_rating_term_names[kind]);
	BillingTerm *term = &draft->terms[kind];

	if (field == NULL)
		return;
	billing_rating_read_number(field,
							   kind == BILLING_TERM_FIXED ? BILLING_FIELD_SIGNED
														  : BILLING_FIELD_NOT_NEGATIVE,
							   &term->value, &term->scale);
	if (kind == BILLING_TERM_FREE_EVENTS && term->scale > 0)
		billing_rating_refuse(field, "is not a whole number", "Events are counted.");

	/* nothing free and nothing fixed is the same as not saying so */
	draft->term_given[kind] = term->value != 0 || kind == BILLING_TERM_EVENT_MIN ||
							  kind == BILLING_TERM_EVENT_MAX || kind == BILLING_TERM_MINIMUM ||
							  kind == BILLING_TERM_MAXIMUM;
	term->kind = (int32) kind;
}

/* Refuse a lower limit that is above its upper limit. */
static void
check_limits(const BillingJson *object, const BillingDraft *draft, BillingTermKind low,
			 BillingTermKind high)
{
	const BillingTerm *a = &draft->terms[low];
	const BillingTerm *b = &draft->terms[high];

	if (draft->term_given[low] && draft->term_given[high] &&
		billing_rating_compare(a->value, a->scale, b->value, b->scale) > 0)
		billing_rating_refuse(billing_rating_json_get(object, billing_rating_term_names[low]),
							  psprintf("is above %s, %s", billing_rating_term_names[high],
									   billing_core_decimal_text(b->value, b->scale)),
							  "A lower limit is at most the upper limit.");
}

/* Read the optional numbers and zero_usage, and check that they fit the model. */
static void
read_modifiers(const BillingJson *object, BillingDraft *draft)
{
	const BillingJson *zero = billing_rating_json_get(object, "zero_usage");
	const char *zero_hint = "zero_usage is \"none\", \"first_tier\" in a model with tiers, or "
							"\"one_package\" in model package.";

	for (int kind = 0; kind < BILLING_TERM_COUNT; kind++)
		read_term(object, draft, (BillingTermKind) kind);
	check_limits(object, draft, BILLING_TERM_EVENT_MIN, BILLING_TERM_EVENT_MAX);
	check_limits(object, draft, BILLING_TERM_MINIMUM, BILLING_TERM_MAXIMUM);
	if (draft->term_given[BILLING_TERM_FREE_EVENTS] && !draft->term_given[BILLING_TERM_FIXED] &&
		!draft->term_given[BILLING_TERM_EVENT_MIN] && !draft->term_given[BILLING_TERM_EVENT_MAX])
		billing_rating_refuse(billing_rating_json_get(object, "free_events"),
							  "frees nothing, for no price is per event",
							  "free_events frees events of the fixed, event_min and event_max of "
							  "model percentage; for other models use free_units.");

	if (zero == NULL)
		return;
	if (zero->kind != BILLING_JSON_STRING)
		billing_rating_refuse(zero, "is not a string", zero_hint);
	for (int i = BILLING_ZERO_NONE; i <= BILLING_ZERO_ONE_PACKAGE; i++)
	{
		if (strcmp(zero->text, billing_rating_zero_names[i]) != 0)
			continue;
		if ((i == BILLING_ZERO_FIRST_TIER && billing_rating_json_get(object, "tiers") == NULL) ||
			(i == BILLING_ZERO_ONE_PACKAGE && draft->model != BILLING_MODEL_PACKAGE))
			billing_rating_refuse(zero, "does not go with this model", zero_hint);
		draft->zero_usage = (BillingZeroUsage) i;
		return;
	}
	billing_rating_refuse(zero, "is not a way to price zero usage", zero_hint);
}

/* Read the names of the dimensions of a matrix. */
static void
read_dimensions(const BillingJson *object, BillingDraft *draft)
{
	const char *hint = "Name each dimension once, as in [\"region\", \"size\"].";
	const BillingJson *list =
		billing_rating_require(object, "dimensions", BILLING_JSON_ARRAY, hint);

	if (list->nchildren == 0)
		billing_rating_refuse(list, "is empty", hint);
	if (list->nchildren > BILLING_TARIFF_MAX_DIMENSIONS)
		billing_rating_refuse(list,
							  psprintf("has more than %d elements", BILLING_TARIFF_MAX_DIMENSIONS),
							  hint);
	draft->ndimensions = list->nchildren;
	draft->dimensions = palloc(sizeof(char *) * list->nchildren);
	for (const BillingJson *name = list->first; name != NULL; name = name->next)
	{
		draft->dimensions[name->index] = billing_rating_read_name(name);
		for (int i = 0; i < name->index; i++)
		{
			if (strcmp(draft->dimensions[i], name->text) == 0)
				billing_rating_refuse(name, "is given twice", hint);
		}
	}
}

/* Read what a cell matches; a dimension that it does not name may be anything. */
static void
read_match(const BillingJson *cell, BillingDraft *draft, const char **match)
{
	const char *hint = "match names at least one dimension and its value, as in "
					   "{\"region\": \"eu\"}.";
	const BillingJson *object = billing_rating_require(cell, "match", BILLING_JSON_OBJECT, hint);

	billing_rating_check_keys(object, "dimensions", draft->dimensions, draft->ndimensions);
	if (object->nchildren == 0)
		billing_rating_refuse(object, "is empty", hint);
	for (int i = 0; i < draft->ndimensions; i++)
	{
		const BillingJson *value = billing_rating_json_get(object, draft->dimensions[i]);

		match[i] = value == NULL ? NULL : billing_rating_read_name(value);
	}
}

/* Does each value that b matches match a too? */
static bool
covers(const char **a, const char **b, int ndimensions)
{
	for (int i = 0; i < ndimensions; i++)
	{
		if (a[i] != NULL && (b[i] == NULL || strcmp(a[i], b[i]) != 0))
			return false;
	}
	return true;
}

/* Read the cells of a matrix and refuse a cell that can never be reached. */
static void
read_matrix(const BillingJson *object, BillingDraft *draft)
{
	static const char *const cell_keys[] = { "match", "tariff" };
	const char *hint = "A cell is {\"match\": {\"region\": \"eu\"}, \"tariff\": {...}}.";
	const BillingJson *cells = billing_rating_require(object, "cells", BILLING_JSON_ARRAY, hint);
	const BillingJson *otherwise = billing_rating_json_get(object, "default");

	read_dimensions(object, draft);
	if (cells->nchildren == 0)
		billing_rating_refuse(cells, "is empty", hint);
	draft->ncells = cells->nchildren;
	draft->cells = palloc(sizeof(BillingTariff *) * draft->ncells);
	draft->match = palloc(sizeof(char *) * draft->ncells * draft->ndimensions);
	for (const BillingJson *cell = cells->first; cell != NULL; cell = cell->next)
	{
		const char **match = &draft->match[cell->index * draft->ndimensions];

		CHECK_FOR_INTERRUPTS();
		if (cell->kind != BILLING_JSON_OBJECT)
			billing_rating_refuse(cell, "is not an object", hint);
		billing_rating_check_keys(cell, "a cell", cell_keys, lengthof(cell_keys));
		read_match(cell, draft, match);
		for (int i = 0; i < cell->index; i++)
		{
			if (covers(&draft->match[i * draft->ndimensions], match, draft->ndimensions))
				billing_rating_refuse(billing_rating_json_get(cell, "match"),
									  psprintf("can never be reached, for cells[%d] matches all "
											   "that it matches",
											   i),
									  "The first cell that matches is used: put the more special "
									  "cell first, or remove one.");
		}
		draft->cells[cell->index] =
			billing_rating_read_tariff(billing_rating_require(cell, "tariff", BILLING_JSON_OBJECT,
															  hint),
									   true);
	}
	if (otherwise == NULL)
		return;
	if (otherwise->kind != BILLING_JSON_OBJECT)
		billing_rating_refuse(otherwise, "is not an object",
							  "default is a tariff; leave it out where there is none.");
	draft->otherwise = billing_rating_read_tariff(otherwise, true);
}

/* Validate a tariff object and compile it; a nested one is a matrix's. */
BillingTariff *
billing_rating_read_tariff(const BillingJson *object, bool nested)
{
	BillingDraft draft;

	memset(&draft, 0, sizeof(draft));
	draft.model = read_model(object);
	billing_rating_check_keys(object, psprintf("model %s", billing_rating_model_names[draft.model]),
							  model_keys[draft.model].keys, model_keys[draft.model].nkeys);
	switch (draft.model)
	{
		case BILLING_MODEL_GRADUATED:
		case BILLING_MODEL_VOLUME:
		case BILLING_MODEL_STAIRSTEP:
		case BILLING_MODEL_GRADUATED_PERCENTAGE:
			read_tiers(object, &draft);
			break;
		case BILLING_MODEL_MATRIX:
			if (nested)
				billing_rating_refuse(billing_rating_json_get(object, "model"),
									  "is a matrix inside a matrix",
									  "Give one matrix more dimensions instead.");
			read_matrix(object, &draft);
			break;
		default:
			read_single_tier(object, &draft);
			break;
	}
	read_modifiers(object, &draft);
	return billing_rating_compile(&draft);
}
