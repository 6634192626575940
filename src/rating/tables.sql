-- rating: the type billing.tariff.

CREATE TYPE billing.tariff;

CREATE FUNCTION billing_internal.tariff_in(cstring)
RETURNS billing.tariff
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_in';
COMMENT ON FUNCTION billing_internal.tariff_in(cstring) IS
    'Input of billing.tariff: parses and validates the JSON text once and compiles it.';

CREATE FUNCTION billing_internal.tariff_out(billing.tariff)
RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_out';
COMMENT ON FUNCTION billing_internal.tariff_out(billing.tariff) IS
    'Output of billing.tariff: canonical JSON.';

CREATE FUNCTION billing_internal.tariff_recv(internal)
RETURNS billing.tariff
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_recv';
COMMENT ON FUNCTION billing_internal.tariff_recv(internal) IS
    'Binary input of billing.tariff: a version byte and the JSON text, validated like text input.';

CREATE FUNCTION billing_internal.tariff_send(billing.tariff)
RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_send';
COMMENT ON FUNCTION billing_internal.tariff_send(billing.tariff) IS
    'Binary output of billing.tariff: a version byte and the canonical JSON text.';

CREATE TYPE billing.tariff (
    INPUT = billing_internal.tariff_in,
    OUTPUT = billing_internal.tariff_out,
    RECEIVE = billing_internal.tariff_recv,
    SEND = billing_internal.tariff_send,
    INTERNALLENGTH = VARIABLE,
    ALIGNMENT = double,
    STORAGE = external
);
COMMENT ON TYPE billing.tariff IS
    'A price: written as JSON, validated when it is written, stored compiled; billing.rate() applies it to a quantity.';

CREATE FUNCTION billing_internal.tariff_eq(billing.tariff, billing.tariff)
RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_eq';
COMMENT ON FUNCTION billing_internal.tariff_eq(billing.tariff, billing.tariff) IS
    'Are two tariffs the same in canonical form (0.10 equals 0.1)?';

CREATE FUNCTION billing_internal.tariff_ne(billing.tariff, billing.tariff)
RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_ne';
COMMENT ON FUNCTION billing_internal.tariff_ne(billing.tariff, billing.tariff) IS
    'Do two tariffs differ in canonical form?';

CREATE FUNCTION billing_internal.tariff_hash(billing.tariff)
RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_hash';
COMMENT ON FUNCTION billing_internal.tariff_hash(billing.tariff) IS
    'Hash of a tariff, for GROUP BY, DISTINCT and hash joins.';

CREATE FUNCTION billing_internal.tariff_hash_extended(billing.tariff, bigint)
RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_hash_extended';
COMMENT ON FUNCTION billing_internal.tariff_hash_extended(billing.tariff, bigint) IS
    'Seeded 64-bit hash of a tariff, for hash partitioning.';

CREATE OPERATOR billing.= (
    FUNCTION = billing_internal.tariff_eq,
    LEFTARG = billing.tariff,
    RIGHTARG = billing.tariff,
    COMMUTATOR = OPERATOR(billing.=),
    NEGATOR = OPERATOR(billing.<>),
    RESTRICT = eqsel,
    JOIN = eqjoinsel,
    HASHES
);
COMMENT ON OPERATOR billing.= (billing.tariff, billing.tariff) IS
    'the same tariff in canonical form';

CREATE OPERATOR billing.<> (
    FUNCTION = billing_internal.tariff_ne,
    LEFTARG = billing.tariff,
    RIGHTARG = billing.tariff,
    COMMUTATOR = OPERATOR(billing.<>),
    NEGATOR = OPERATOR(billing.=),
    RESTRICT = neqsel,
    JOIN = neqjoinsel
);
COMMENT ON OPERATOR billing.<> (billing.tariff, billing.tariff) IS
    'different tariffs in canonical form';

CREATE OPERATOR FAMILY billing.tariff_hash_ops USING hash;
COMMENT ON OPERATOR FAMILY billing.tariff_hash_ops USING hash IS
    'Equality of tariffs by hash.';

CREATE OPERATOR CLASS billing.tariff_hash_ops
DEFAULT FOR TYPE billing.tariff USING hash FAMILY billing.tariff_hash_ops AS
    OPERATOR 1 billing.=,
    FUNCTION 1 billing_internal.tariff_hash(billing.tariff),
    FUNCTION 2 billing_internal.tariff_hash_extended(billing.tariff, bigint);
COMMENT ON OPERATOR CLASS billing.tariff_hash_ops USING hash IS
    'Equality of tariffs by hash; tariffs have no order.';

CREATE FUNCTION billing_internal.tariff_from_jsonb(jsonb)
RETURNS billing.tariff
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_from_jsonb';
COMMENT ON FUNCTION billing_internal.tariff_from_jsonb(jsonb) IS
    'Cast from jsonb to billing.tariff, validated like text input.';

CREATE FUNCTION billing_internal.tariff_to_jsonb(billing.tariff)
RETURNS jsonb
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'billing_rating_tariff_to_jsonb';
COMMENT ON FUNCTION billing_internal.tariff_to_jsonb(billing.tariff) IS
    'Cast from billing.tariff to jsonb.';

CREATE CAST (jsonb AS billing.tariff)
WITH FUNCTION billing_internal.tariff_from_jsonb(jsonb) AS ASSIGNMENT;
COMMENT ON CAST (jsonb AS billing.tariff) IS
    'Validates and compiles a tariff that is built as jsonb.';

CREATE CAST (billing.tariff AS jsonb)
WITH FUNCTION billing_internal.tariff_to_jsonb(billing.tariff) AS ASSIGNMENT;
COMMENT ON CAST (billing.tariff AS jsonb) IS
    'The canonical form of a tariff as jsonb.';

-- Price books: what a product costs from a day on.

CREATE TABLE billing.price_book (
	entity_id     integer      NOT NULL CONSTRAINT price_book_entity_fkey REFERENCES billing.legal_entity,
	price_book_id bigserial,
	code          billing.code NOT NULL,
	name          text         NOT NULL,
	currency      text         NOT NULL CONSTRAINT price_book_currency_fkey REFERENCES billing.currency,
	CONSTRAINT price_book_pkey PRIMARY KEY (entity_id, price_book_id),
	CONSTRAINT price_book_code_key UNIQUE (entity_id, code),
	CONSTRAINT price_book_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.price_book IS 'A list of prices in one currency';
COMMENT ON COLUMN billing.price_book.entity_id IS 'The entity';
COMMENT ON COLUMN billing.price_book.price_book_id IS 'Key within the entity';
COMMENT ON COLUMN billing.price_book.code IS 'What API functions call it';
COMMENT ON COLUMN billing.price_book.name IS 'Name for people';
COMMENT ON COLUMN billing.price_book.currency IS 'Currency of its prices';

CREATE TABLE billing.price (
	entity_id     integer        NOT NULL,
	price_id      bigserial,
	price_book_id bigint         NOT NULL,
	product_id    bigint         NOT NULL,
	valid_from    date           NOT NULL,
	valid_to      date,
	tariff        billing.tariff NOT NULL,
	CONSTRAINT price_pkey PRIMARY KEY (entity_id, price_id),
	CONSTRAINT price_price_book_fkey FOREIGN KEY (entity_id, price_book_id) REFERENCES billing.price_book,
	CONSTRAINT price_product_fkey FOREIGN KEY (entity_id, product_id) REFERENCES billing.product,
	CONSTRAINT price_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT price_not_empty CHECK (valid_from < valid_to),
	CONSTRAINT price_no_overlap EXCLUDE USING gist (
		entity_id WITH =, price_book_id WITH =, product_id WITH =, daterange(valid_from, valid_to) WITH &&)
);
CREATE INDEX price_by_product ON billing.price (entity_id, price_book_id, product_id, valid_from);
COMMENT ON TABLE billing.price IS 'What a product costs in a price book, from a day to a day; at most one price on any day';
COMMENT ON COLUMN billing.price.entity_id IS 'The entity';
COMMENT ON COLUMN billing.price.price_id IS 'Key within the entity';
COMMENT ON COLUMN billing.price.price_book_id IS 'The price book';
COMMENT ON COLUMN billing.price.product_id IS 'The product';
COMMENT ON COLUMN billing.price.valid_from IS 'First day of the price';
COMMENT ON COLUMN billing.price.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.price.tariff IS 'The price';

SELECT billing_internal.protect('billing.price_book', 'master', 'price_manager');
SELECT billing_internal.protect('billing.price', 'master', 'price_manager');

-- A price book's currency carries its history.
REVOKE UPDATE ON billing.price_book FROM billing_user;
GRANT UPDATE (code, name) ON billing.price_book TO billing_user;

SELECT billing_internal.audit_table('billing.price_book', 'price_book', 'price_book_id');
SELECT billing_internal.audit_table('billing.price', 'price', 'price_id');

-- A price that is corrected, or comes late, concerns everybody who was billed by its book.
CREATE FUNCTION billing_internal.note_price_change() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_rating_note_price_change';
COMMENT ON FUNCTION billing_internal.note_price_change() IS
	'Statement trigger: writes a row of billing.shared_change for every product and book whose price a statement set or changed, with the days that have another price now';

CREATE TRIGGER y_note_change_insert AFTER INSERT ON billing.price REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_price_change();
CREATE TRIGGER y_note_change_update AFTER UPDATE ON billing.price REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_price_change();
CREATE TRIGGER y_note_change_delete AFTER DELETE ON billing.price REFERENCING OLD TABLE AS old_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_price_change();
