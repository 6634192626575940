/*
 * rating_output.c
 *		The canonical text of a stored tariff.
 *
 * Keys in a fixed order, nothing that is a default, numbers without trailing
 * zeros; quantities are JSON numbers, prices and amounts are strings, so that
 * a reader that makes floats of JSON numbers cannot spoil a price.
 */
#include "pg_compat.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "rating/rating_private.h"

/* Append "key": before a value; the first key of an object has no comma. */
static void
append_key(StringInfo out, const char *key)
{
	if (out->data[out->len - 1] != '{')
		appendStringInfoString(out, ", ");
	escape_json(out, key);
	appendStringInfoString(out, ": ");
}

static void
append_quantity(StringInfo out, const char *key, int64 value, int scale)
{
	append_key(out, key);
	appendStringInfoString(out, billing_core_decimal_text(value, scale));
}

static void
append_price(StringInfo out, const char *key, int64 value, int scale)
{
	append_key(out, key);
	appendStringInfo(out, "\"%s\"", billing_core_decimal_text(value, scale));
}

/* Append a stored unit price under its name; a rate is in percent. */
static void
append_unit(StringInfo out, const char *key, const BillingTier *tier)
{
	bool rate = strcmp(key, "rate") == 0;
	int scale = tier->unit == 0 ? 0 : tier->unit_scale - (rate ? 2 : 0);

	append_price(out, key, tier->unit, scale);
}

/* Append the tiers of a tiered model. */
static void
append_tiers(StringInfo out, const BillingTariff *tariff)
{
	append_key(out, "tiers");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < tariff->ntiers; i++)
	{
		const BillingTier *tier = &tariff->tiers[i];

		appendStringInfoString(out, i == 0 ? "{" : ", {");
		if (BILLING_TIER_IS_OPEN(tier))
		{
			append_key(out, "up_to");
			appendStringInfoString(out, "null");
		}
		else
			append_quantity(out, "up_to", tier->up_to, tier->up_to_scale);
		if (tier->block != 0)
			append_quantity(out, "block", tier->block, tier->block_scale);
		if (tariff->model != BILLING_MODEL_STAIRSTEP &&
			(tier->unit != 0 || tier->block != 0 || tier->flat == 0))
			append_unit(out, tariff->model == BILLING_MODEL_GRADUATED_PERCENTAGE ? "rate" : "unit",
						tier);
		if (tier->flat != 0 || tariff->model == BILLING_MODEL_STAIRSTEP)
			append_price(out, "flat", tier->flat, tier->flat_scale);
		appendStringInfoChar(out, '}');
	}
	appendStringInfoChar(out, ']');
}

/* Append a string of a matrix, escaped. */
static void
append_stored_string(StringInfo out, const BillingTariff *tariff, int32 offset, bool as_key)
{
	const int32 *stored = billing_rating_at(tariff, offset);
	char *string = pnstrdup((const char *) (stored + 1), *stored);

	if (as_key)
		append_key(out, string);
	else
		escape_json(out, string);
	pfree(string);
}

static void append_tariff(StringInfo out, const BillingTariff *tariff);

/* Append one cell: what it matches and its tariff. */
static void
append_cell(StringInfo out, const BillingTariff *tariff, int cell)
{
	const BillingMatrix *matrix = billing_rating_matrix(tariff);
	const int32 *dimensions = billing_rating_at(tariff, matrix->dimensions_offset);
	const int32 *match = &matrix->cells[matrix->ncells + cell * matrix->ndimensions];

	appendStringInfoChar(out, '{');
	append_key(out, "match");
	appendStringInfoChar(out, '{');
	for (int i = 0; i < matrix->ndimensions; i++)
	{
		const BillingDimension *dimension = billing_rating_at(tariff, dimensions[i]);

		if (match[i] == BILLING_MATRIX_ANY)
			continue;
		append_stored_string(out, tariff, dimension->name_offset, true);
		append_stored_string(out, tariff, dimension->value_offsets[match[i]], false);
	}
	appendStringInfoChar(out, '}');
	append_key(out, "tariff");
	append_tariff(out, billing_rating_at(tariff, matrix->cells[cell]));
	appendStringInfoChar(out, '}');
}

/* Append the dimensions, cells and default of a matrix. */
static void
append_matrix(StringInfo out, const BillingTariff *tariff)
{
	const BillingMatrix *matrix = billing_rating_matrix(tariff);
	const int32 *dimensions = billing_rating_at(tariff, matrix->dimensions_offset);

	append_key(out, "dimensions");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < matrix->ndimensions; i++)
	{
		const BillingDimension *dimension = billing_rating_at(tariff, dimensions[i]);

		if (i > 0)
			appendStringInfoString(out, ", ");
		append_stored_string(out, tariff, dimension->name_offset, false);
	}
	appendStringInfoChar(out, ']');
	append_key(out, "cells");
	appendStringInfoChar(out, '[');
	for (int i = 0; i < matrix->ncells; i++)
	{
		if (i > 0)
			appendStringInfoString(out, ", ");
		append_cell(out, tariff, i);
	}
	appendStringInfoChar(out, ']');
	if (matrix->default_offset != 0)
	{
		append_key(out, "default");
		append_tariff(out, billing_rating_at(tariff, matrix->default_offset));
	}
}

/* Append the fields that belong to the model. */
static void
append_model(StringInfo out, const BillingTariff *tariff)
{
	const BillingTier *tier = &tariff->tiers[0];

	switch ((BillingModel) tariff->model)
	{
		case BILLING_MODEL_PER_UNIT:
			append_unit(out, "unit", tier);
			break;
		case BILLING_MODEL_PERCENTAGE:
			append_unit(out, "rate", tier);
			break;
		case BILLING_MODEL_PACKAGE:
			append_quantity(out, "package_size", tier->block, tier->block_scale);
			append_unit(out, "package_price", tier);
			break;
		case BILLING_MODEL_GRADUATED:
		case BILLING_MODEL_VOLUME:
		case BILLING_MODEL_STAIRSTEP:
		case BILLING_MODEL_GRADUATED_PERCENTAGE:
			append_tiers(out, tariff);
			break;
		case BILLING_MODEL_DYNAMIC:
			break;
		case BILLING_MODEL_MATRIX:
			append_matrix(out, tariff);
			break;
	}
}

/* Append a tariff as an object; a matrix holds tariffs, but no matrix. */
static void
append_tariff(StringInfo out, const BillingTariff *tariff)
{
	appendStringInfoChar(out, '{');
	append_key(out, "model");
	escape_json(out, billing_rating_model_names[tariff->model]);
	append_model(out, tariff);
	for (int kind = 0; kind < BILLING_TERM_COUNT; kind++)
	{
		const BillingTerm *term = billing_rating_term(tariff, (BillingTermKind) kind);
		const char *name = billing_rating_term_names[kind];

		if (term == NULL)
			continue;
		if (kind == BILLING_TERM_FREE_UNITS || kind == BILLING_TERM_FREE_EVENTS)
			append_quantity(out, name, term->value, term->scale);
		else
			append_price(out, name, term->value, term->scale);
	}
	if (tariff->zero_usage != BILLING_ZERO_NONE)
	{
		append_key(out, "zero_usage");
		escape_json(out, billing_rating_zero_names[tariff->zero_usage]);
	}
	appendStringInfoChar(out, '}');
}

/* Write a tariff's canonical text. */
char *
billing_rating_text(const BillingTariff *tariff)
{
	StringInfoData out;

	initStringInfo(&out);
	append_tariff(&out, tariff);
	return out.data;
}
