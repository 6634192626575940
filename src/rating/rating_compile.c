/*
 * rating_compile.c
 *		Lays a checked draft out as the stored form, and brings the numbers of
 *		its tiers to common scales with cumulative amounts where they fit.
 *
 * Where they do not fit, each number keeps its own scale and the tariff is
 * rated with numeric (rating_exact.c).
 */
#include "pg_compat.h"

#include "lib/stringinfo.h"

#include "rating/rating_private.h"

/* The amounts below a tier stay under this: 10^36, far from int128's 10^38. */
static bool
is_small(int128 amount)
{
	int128 limit = (int128) billing_core_decimal_power[18] * billing_core_decimal_power[18];

	return amount <= limit && amount >= -limit;
}

/* Has a number at most so many digits? */
static bool
fits(int64 value, int digits)
{
	return value < billing_core_decimal_power[digits] &&
		   value > -billing_core_decimal_power[digits];
}

/* Bring one number to a common scale. */
static bool
rescale(int64 *value, uint8 *scale, uint8 common)
{
	int digits = common - *scale;

	if (*value != 0)
	{
		if (digits > BILLING_DECIMAL_DIGITS || !fits(*value, BILLING_DECIMAL_DIGITS - digits))
			return false;
		*value *= billing_core_decimal_power[digits];
	}
	*scale = common;
	return true;
}

/* What a tier costs for all the quantity between its bounds. */
static bool
full_price(const BillingTier *tier, int64 width, int quantity_scale, int128 *amount)
{
	if (tier->block == 0)
	{
		*amount = (int128) width * tier->unit;
		return is_small(*amount);
	}
	*amount = (int128) (width / tier->block + (width % tier->block != 0)) * tier->unit;
	return is_small(*amount) && billing_core_decimal_raise(amount, quantity_scale) &&
		   is_small(*amount);
}

/* Set the base of each tier: what the tiers below cost, and its own flat. */
static bool
set_bases(BillingTier *tiers, int ntiers, bool cumulative, int quantity_scale)
{
	int128 below = 0;
	int64 lower = 0;

	for (int i = 0; i < ntiers; i++)
	{
		int128 amount;
		int128 flat = tiers[i].flat;

		if (!billing_core_decimal_raise(&flat, quantity_scale) || !is_small(flat))
			return false;
		tiers[i].base = below + flat;
		if (!is_small(tiers[i].base))
			return false;
		if (!cumulative || BILLING_TIER_IS_OPEN(&tiers[i]))
			continue;
		if (!full_price(&tiers[i], tiers[i].up_to - lower, quantity_scale, &amount))
			return false;
		below = tiers[i].base + amount;
		if (!is_small(below))
			return false;
		lower = tiers[i].up_to;
	}
	return true;
}

/* Bring all tiers to common scales; false, and nothing changed, if they do not fit. */
static bool
make_fast(BillingTier *tiers, int ntiers, bool cumulative, uint8 *price_scale,
		  uint8 *quantity_scale)
{
	Size size = sizeof(BillingTier) * ntiers;
	BillingTier *fast = palloc(size);
	uint8 prices = 0;
	uint8 quantities = 0;

	memcpy(fast, tiers, size);
	for (int i = 0; i < ntiers; i++)
	{
		prices = Max(prices, Max(tiers[i].unit_scale, tiers[i].flat_scale));
		quantities = Max(quantities, Max(tiers[i].up_to_scale, tiers[i].block_scale));
	}
	for (int i = 0; i < ntiers; i++)
	{
		if (!rescale(&fast[i].unit, &fast[i].unit_scale, prices) ||
			!rescale(&fast[i].flat, &fast[i].flat_scale, prices) ||
			!rescale(&fast[i].block, &fast[i].block_scale, quantities))
			return false;
		if (BILLING_TIER_IS_OPEN(&fast[i]))
			fast[i].up_to_scale = quantities;
		else if (!rescale(&fast[i].up_to, &fast[i].up_to_scale, quantities))
			return false;
	}
	if (!set_bases(fast, ntiers, cumulative, quantities))
		return false;
	memcpy(tiers, fast, size);
	pfree(fast);
	*price_scale = prices;
	*quantity_scale = quantities;
	return true;
}

/* Append zeros up to the next multiple of a power of two. */
static void
pad(StringInfo out, int multiple)
{
	while (out->len % multiple != 0)
		appendStringInfoChar(out, '\0');
}

/* Append a string as its length and bytes; returns its offset. */
static int32
append_string(StringInfo out, const char *string)
{
	int32 length = (int32) strlen(string);
	int32 offset;

	pad(out, sizeof(int32));
	offset = out->len;
	appendBinaryStringInfo(out, (char *) &length, sizeof(length));
	appendBinaryStringInfo(out, string, length);
	return offset;
}

/* Append bytes that are filled in later; returns their offset. */
static int32
reserve(StringInfo out, int size)
{
	int32 offset = out->len;

	enlargeStringInfo(out, size);
	memset(out->data + out->len, 0, size);
	out->len += size;
	return offset;
}

static void
set_offset(StringInfo out, int32 at, int32 value)
{
	memcpy(out->data + at, &value, sizeof(value));
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/*
 * Append a dimension: its name and the distinct values that cells match.
 * numbers gets each cell's value, as its position among them.
 */
static int32
append_dimension(StringInfo out, const BillingDraft *draft, int dimension, int32 *numbers)
{
	const char **values = palloc(sizeof(char *) * draft->ncells);
	int nvalues = 0;
	int ndistinct = 0;
	int32 offset;

	for (int cell = 0; cell < draft->ncells; cell++)
	{
		const char *value = draft->match[cell * draft->ndimensions + dimension];

		if (value != NULL)
			values[nvalues++] = value;
	}
	qsort(values, nvalues, sizeof(char *), compare_names);
	for (int i = 0; i < nvalues; i++)
	{
		if (ndistinct == 0 || strcmp(values[i], values[ndistinct - 1]) != 0)
			values[ndistinct++] = values[i];
	}
	for (int cell = 0; cell < draft->ncells; cell++)
	{
		int at = cell * draft->ndimensions + dimension;
		const char **found = NULL;

		if (draft->match[at] != NULL)
			found = bsearch(&draft->match[at], values, ndistinct, sizeof(char *), compare_names);
		numbers[at] = found == NULL ? BILLING_MATRIX_ANY : (int32) (found - values);
	}

	pad(out, sizeof(int32));
	offset = reserve(out, offsetof(BillingDimension, value_offsets) + sizeof(int32) * ndistinct);
	set_offset(out, offset + offsetof(BillingDimension, nvalues), ndistinct);
	set_offset(out, offset + offsetof(BillingDimension, name_offset),
			   append_string(out, draft->dimensions[dimension]));
	for (int i = 0; i < ndistinct; i++)
		set_offset(out, offset + offsetof(BillingDimension, value_offsets) + sizeof(int32) * i,
				   append_string(out, values[i]));
	pfree(values);
	return offset;
}

/* Append a tariff inside the tariff; returns its offset. */
static int32
append_tariff(StringInfo out, const BillingTariff *tariff)
{
	int32 offset;

	pad(out, MAXIMUM_ALIGNOF);
	offset = out->len;
	appendBinaryStringInfo(out, (const char *) tariff, VARSIZE(tariff));
	return offset;
}

/* Append the matrix: see BillingMatrix. */
static void
append_matrix(StringInfo out, const BillingDraft *draft)
{
	int ncells = draft->ncells;
	int nmatches = ncells * draft->ndimensions;
	int32 *numbers = palloc(sizeof(int32) * nmatches);
	int32 matrix =
		reserve(out, offsetof(BillingMatrix, cells) + sizeof(int32) * (ncells + nmatches));
	int32 dimensions = reserve(out, sizeof(int32) * draft->ndimensions);
	int32 cells = matrix + offsetof(BillingMatrix, cells);

	set_offset(out, matrix + offsetof(BillingMatrix, ndimensions), draft->ndimensions);
	set_offset(out, matrix + offsetof(BillingMatrix, ncells), ncells);
	set_offset(out, matrix + offsetof(BillingMatrix, dimensions_offset), dimensions);
	for (int i = 0; i < draft->ndimensions; i++)
		set_offset(out, dimensions + sizeof(int32) * i, append_dimension(out, draft, i, numbers));
	for (int i = 0; i < ncells; i++)
		set_offset(out, cells + sizeof(int32) * i, append_tariff(out, draft->cells[i]));
	if (draft->otherwise != NULL)
		set_offset(out, matrix + offsetof(BillingMatrix, default_offset),
				   append_tariff(out, draft->otherwise));
	memcpy(out->data + cells + sizeof(int32) * ncells, numbers, sizeof(int32) * nmatches);
	pfree(numbers);
}

/* The flags that follow from the model. */
static uint8
model_flags(const BillingDraft *draft)
{
	switch (draft->model)
	{
		case BILLING_MODEL_GRADUATED:
		case BILLING_MODEL_GRADUATED_PERCENTAGE:
			return BILLING_TARIFF_CUMULATIVE;
		case BILLING_MODEL_PER_UNIT:
		case BILLING_MODEL_DYNAMIC:
			return BILLING_TARIFF_LINEAR;
		case BILLING_MODEL_PERCENTAGE:
			if (draft->term_given[BILLING_TERM_EVENT_MIN] ||
				draft->term_given[BILLING_TERM_EVENT_MAX])
				return 0;
			return BILLING_TARIFF_LINEAR;
		default:
			return 0;
	}
}

/* Compile a draft to the stored form, palloc'd in the current context. */
BillingTariff *
billing_rating_compile(const BillingDraft *draft)
{
	StringInfoData out;
	BillingTariff header;

	memset(&header, 0, sizeof(header));
	header.format = BILLING_TARIFF_FORMAT;
	header.model = (uint8) draft->model;
	header.zero_usage = (uint8) draft->zero_usage;
	header.flags = model_flags(draft);
	header.ntiers = draft->ntiers;
	for (int kind = 0; kind < BILLING_TERM_COUNT; kind++)
	{
		if (draft->term_given[kind])
			header.terms |= (uint8) (1 << kind);
	}
	if (draft->ntiers > 0 &&
		make_fast(draft->tiers, draft->ntiers, (header.flags & BILLING_TARIFF_CUMULATIVE) != 0,
				  &header.price_scale, &header.quantity_scale))
		header.flags |= BILLING_TARIFF_FAST;

	initStringInfo(&out);
	appendBinaryStringInfo(&out, (char *) &header, offsetof(BillingTariff, tiers));
	appendBinaryStringInfo(&out, (char *) draft->tiers, sizeof(BillingTier) * draft->ntiers);
	for (int kind = 0; kind < BILLING_TERM_COUNT; kind++)
	{
		if (draft->term_given[kind])
			appendBinaryStringInfo(&out, (char *) &draft->terms[kind], sizeof(BillingTerm));
	}
	if (draft->model == BILLING_MODEL_MATRIX)
		append_matrix(&out, draft);
	SET_VARSIZE(out.data, out.len);
	return (BillingTariff *) out.data;
}
