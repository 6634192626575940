-- rating: what a tariff makes of a quantity.

CREATE OR REPLACE FUNCTION billing.rate(
    tariff billing.tariff,
    quantity numeric,
    events bigint DEFAULT NULL
)
RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_rate_tariff';
COMMENT ON FUNCTION billing.rate(billing.tariff, numeric, bigint) IS
    'The exact, unrounded amount that a tariff makes of a quantity, the sum of so many events (by default one, or none for quantity 0). NULL where tariff or quantity is null. A matrix uses its default.';

CREATE OR REPLACE FUNCTION billing.rate(
    tariff billing.tariff,
    quantity numeric,
    dimensions jsonb,
    events bigint DEFAULT NULL
)
RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_rate_matrix';
COMMENT ON FUNCTION billing.rate(billing.tariff, numeric, jsonb, bigint) IS
    'As billing.rate(tariff, quantity, events); a matrix uses the first cell that matches the dimensions, a JSON object such as {"region": "eu"}. Other models ignore the dimensions.';

CREATE OR REPLACE FUNCTION billing.rate_breakdown(
    tariff billing.tariff,
    quantity numeric,
    events bigint DEFAULT NULL
)
RETURNS TABLE (
    tier integer,
    from_quantity numeric,
    up_to numeric,
    quantity_rated numeric,
    unit_price numeric,
    flat numeric,
    amount numeric,
    note text
)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 4
AS 'MODULE_PATHNAME', 'billing_rating_rate_breakdown';
COMMENT ON FUNCTION billing.rate_breakdown(billing.tariff, numeric, bigint) IS
    'The steps of a rating: a row per tier (1 is the first; it holds quantities above from_quantity up to up_to) and per modifier; the amounts sum to exactly billing.rate(). No rows where tariff or quantity is null.';

CREATE OR REPLACE FUNCTION billing.rate_breakdown(
    tariff billing.tariff,
    quantity numeric,
    dimensions jsonb,
    events bigint DEFAULT NULL
)
RETURNS TABLE (
    tier integer,
    from_quantity numeric,
    up_to numeric,
    quantity_rated numeric,
    unit_price numeric,
    flat numeric,
    amount numeric,
    note text
)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 4
AS 'MODULE_PATHNAME', 'billing_rating_rate_breakdown_matrix';
COMMENT ON FUNCTION billing.rate_breakdown(billing.tariff, numeric, jsonb, bigint) IS
    'As billing.rate_breakdown(tariff, quantity, events), with the dimensions that pick the cell of a matrix.';

CREATE OR REPLACE FUNCTION billing_internal.rate_exact(
    tariff billing.tariff,
    quantity numeric,
    events bigint
)
RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_rate_with_numeric';
COMMENT ON FUNCTION billing_internal.rate_exact(billing.tariff, numeric, bigint) IS
    'billing.rate() by numeric arithmetic alone: the second opinion that the property test compares with.';

CREATE OR REPLACE FUNCTION billing_internal.rate_events_step(
    internal,
    billing.tariff,
    numeric
)
RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_rate_events_step';
COMMENT ON FUNCTION billing_internal.rate_events_step(internal, billing.tariff, numeric) IS
    'Transition of billing.rate_events(): adds one event.';

CREATE OR REPLACE FUNCTION billing_internal.rate_events_final(internal)
RETURNS numeric
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_rate_events_final';
COMMENT ON FUNCTION billing_internal.rate_events_final(internal) IS
    'Result of billing.rate_events(): the amount of the period.';

CREATE OR REPLACE AGGREGATE billing.rate_events(tariff billing.tariff, quantity numeric) (
    SFUNC = billing_internal.rate_events_step,
    STYPE = internal,
    FINALFUNC = billing_internal.rate_events_final,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE billing.rate_events(billing.tariff, numeric) IS
    'The amount of a period, from its events: needed where event_min or event_max bound what an event costs, equal to billing.rate(tariff, sum, count) elsewhere. With free_units or free_events give the events in order: rate_events(tariff, quantity ORDER BY at). NULL without events.';

-- Price books.

CREATE OR REPLACE FUNCTION billing.add_price_book(entity text, price_book text, name text, currency text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_add_price_book';
COMMENT ON FUNCTION billing.add_price_book(text, text, text, text) IS
	'Creates a price book in a currency; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing.set_price(
	entity text, price_book text, product text, tariff jsonb, valid_from date, valid_to date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_set_price';
COMMENT ON FUNCTION billing.set_price(text, text, text, jsonb, date, date) IS
	'Prices a product in a price book from a day to the day before another (open); a price with an open end that began earlier ends there; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing_internal.try_rate(
	tariff billing.tariff, quantity numeric, events bigint, dimensions jsonb DEFAULT NULL) RETURNS numeric
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_try_rate';
COMMENT ON FUNCTION billing_internal.try_rate(billing.tariff, numeric, bigint, jsonb) IS
	'billing.rate(), but null where the tariff cannot rate the quantity: so that one price cannot stop a run';

CREATE OR REPLACE FUNCTION billing_internal.prices_events(tariff billing.tariff) RETURNS boolean
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_prices_events';
COMMENT ON FUNCTION billing_internal.prices_events(billing.tariff) IS
	'Whether a tariff bounds what one event costs, so that a period is rated event by event';

CREATE OR REPLACE FUNCTION billing_internal.try_rate_events_step(internal, billing.tariff, numeric) RETURNS internal
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_try_events_step';
COMMENT ON FUNCTION billing_internal.try_rate_events_step(internal, billing.tariff, numeric) IS
	'Transition of billing_internal.try_rate_events(): adds one event';

CREATE OR REPLACE FUNCTION billing_internal.try_rate_events_final(internal) RETURNS numeric
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_try_events_final';
COMMENT ON FUNCTION billing_internal.try_rate_events_final(internal) IS
	'Result of billing_internal.try_rate_events()';

CREATE OR REPLACE AGGREGATE billing_internal.try_rate_events(tariff billing.tariff, quantity numeric) (
	SFUNC = billing_internal.try_rate_events_step,
	STYPE = internal,
	FINALFUNC = billing_internal.try_rate_events_final,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE billing_internal.try_rate_events(billing.tariff, numeric) IS
	'billing.rate_events(), but null where an event cannot be rated: so that one event cannot stop a run';

CREATE OR REPLACE FUNCTION billing_internal.rating_error(
	tariff billing.tariff, quantity numeric, events bigint, dimensions jsonb DEFAULT NULL) RETURNS text
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_error';
COMMENT ON FUNCTION billing_internal.rating_error(billing.tariff, numeric, bigint, jsonb) IS
	'Why a tariff cannot rate a quantity, or null where it can';

CREATE OR REPLACE FUNCTION billing_internal.verify_rating(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'stored prices read back as the same prices', count(*), min(format('price %s', p.price_id))
	FROM billing.price p
	WHERE (entity IS NULL OR p.entity_id = entity) AND p.tariff IS DISTINCT FROM p.tariff::text::billing.tariff;
END;
COMMENT ON FUNCTION billing_internal.verify_rating(integer) IS
	'Checks of the prices';

-- Casts and comparisons run as whoever uses them.
GRANT EXECUTE ON FUNCTION billing_internal.tariff_in(cstring) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_out(billing.tariff) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_from_jsonb(jsonb) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_to_jsonb(billing.tariff) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_eq(billing.tariff, billing.tariff) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_ne(billing.tariff, billing.tariff) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_hash(billing.tariff) TO billing_user;
GRANT EXECUTE ON FUNCTION billing_internal.tariff_hash_extended(billing.tariff, bigint) TO billing_user;
