-- Who is billed, for what, and how it is taxed.

CREATE TABLE billing.tax_code (
	entity_id        integer      NOT NULL CONSTRAINT tax_code_entity_fkey REFERENCES billing.legal_entity,
	tax_code_id      bigserial,
	code             billing.code NOT NULL,
	category         text         NOT NULL,
	name             text         NOT NULL,
	exemption_reason text,
	CONSTRAINT tax_code_pkey PRIMARY KEY (entity_id, tax_code_id),
	CONSTRAINT tax_code_code_key UNIQUE (entity_id, code),
	CONSTRAINT tax_code_category_is_uncl_5305 CHECK (category IN ('S', 'Z', 'E', 'AE', 'K', 'G', 'O')),
	CONSTRAINT tax_code_exemption_has_reason
		CHECK ((category IN ('E', 'AE', 'K', 'G', 'O')) = (exemption_reason IS NOT NULL)),
	CONSTRAINT tax_code_texts_length CHECK (octet_length(name) BETWEEN 1 AND 10000 AND octet_length(exemption_reason) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.tax_code IS 'How a supply is taxed, by the categories of UNCL 5305 that EN 16931 uses';
COMMENT ON COLUMN billing.tax_code.entity_id IS 'The entity';
COMMENT ON COLUMN billing.tax_code.tax_code_id IS 'Key within the entity';
COMMENT ON COLUMN billing.tax_code.code IS 'What API functions call it';
COMMENT ON COLUMN billing.tax_code.category IS 'S standard or reduced rate, Z zero rated, E exempt, AE reverse charge, K intra-community supply, G export, O not subject to tax';
COMMENT ON COLUMN billing.tax_code.name IS 'Name for people';
COMMENT ON COLUMN billing.tax_code.exemption_reason IS 'Why no tax is charged, as printed on the document; for every category but S and Z';

CREATE TABLE billing.tax_rate (
	entity_id   integer NOT NULL,
	tax_rate_id bigserial,
	tax_code_id bigint  NOT NULL,
	valid_from  date    NOT NULL,
	valid_to    date,
	rate        numeric NOT NULL,
	CONSTRAINT tax_rate_pkey PRIMARY KEY (entity_id, tax_rate_id),
	CONSTRAINT tax_rate_tax_code_fkey FOREIGN KEY (entity_id, tax_code_id) REFERENCES billing.tax_code,
	CONSTRAINT tax_rate_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT tax_rate_not_empty CHECK (valid_from < valid_to),
	CONSTRAINT tax_rate_in_range CHECK (rate >= 0 AND rate <= 100 AND scale(rate) <= 6),
	CONSTRAINT tax_rate_no_overlap EXCLUDE USING gist (
		entity_id WITH =, tax_code_id WITH =, daterange(valid_from, valid_to) WITH &&)
);
COMMENT ON TABLE billing.tax_rate IS 'The rate of a tax code, from a date to a date; only category S has rates above 0';
COMMENT ON COLUMN billing.tax_rate.entity_id IS 'The entity';
COMMENT ON COLUMN billing.tax_rate.tax_rate_id IS 'Key within the entity';
COMMENT ON COLUMN billing.tax_rate.tax_code_id IS 'The tax code';
COMMENT ON COLUMN billing.tax_rate.valid_from IS 'First day of the rate';
COMMENT ON COLUMN billing.tax_rate.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.tax_rate.rate IS 'Per cent of the taxable amount';

CREATE TABLE billing.customer (
	entity_id       integer      NOT NULL CONSTRAINT customer_entity_fkey REFERENCES billing.legal_entity,
	customer_id     bigserial,
	code            billing.code NOT NULL,
	name            text         NOT NULL,
	address         text,
	postal_code     text,
	city            text,
	country         text,
	tax_id          text,
	registration_id text,
	segment         billing.code,
	risk            billing.code,
	CONSTRAINT customer_pkey PRIMARY KEY (entity_id, customer_id),
	CONSTRAINT customer_code_key UNIQUE (entity_id, code),
	CONSTRAINT customer_country_is_iso_3166 CHECK (country ~ '^[A-Z]{2}$'),
	CONSTRAINT customer_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000),
	CONSTRAINT customer_particulars_length CHECK (
		coalesce(octet_length(address), 0) + coalesce(octet_length(postal_code), 0) + coalesce(octet_length(city), 0)
		+ coalesce(octet_length(tax_id), 0) + coalesce(octet_length(registration_id), 0) <= 10000)
);
COMMENT ON TABLE billing.customer IS 'The companies and people that buy';
COMMENT ON COLUMN billing.customer.entity_id IS 'The entity they buy from';
COMMENT ON COLUMN billing.customer.customer_id IS 'Key within the entity';
COMMENT ON COLUMN billing.customer.code IS 'What API functions call the customer';
COMMENT ON COLUMN billing.customer.name IS 'Legal name, as printed on documents';
COMMENT ON COLUMN billing.customer.address IS 'Street and number, or several lines; a document is not issued without it';
COMMENT ON COLUMN billing.customer.postal_code IS 'Postal code';
COMMENT ON COLUMN billing.customer.city IS 'City';
COMMENT ON COLUMN billing.customer.country IS 'Country, ISO 3166-1 alpha-2; a document is not issued without it';
COMMENT ON COLUMN billing.customer.tax_id IS 'Tax identifier; a document under reverse charge or for an intra-community supply is not issued without it';
COMMENT ON COLUMN billing.customer.registration_id IS 'Identifier in the company register';
COMMENT ON COLUMN billing.customer.segment IS 'What kind of customer it is, in the entity''s own words, such as public; conditions of approval policies ask for it';
COMMENT ON COLUMN billing.customer.risk IS 'How risky it is to sell to, in the entity''s own words, such as high; conditions of approval policies ask for it';

CREATE TABLE billing.exchange_rate (
	entity_id        integer NOT NULL CONSTRAINT exchange_rate_entity_fkey REFERENCES billing.legal_entity,
	exchange_rate_id bigserial,
	from_currency    text    NOT NULL CONSTRAINT exchange_rate_from_currency_fkey REFERENCES billing.currency,
	to_currency      text    NOT NULL CONSTRAINT exchange_rate_to_currency_fkey REFERENCES billing.currency,
	valid_from       date    NOT NULL,
	rate             numeric NOT NULL,
	CONSTRAINT exchange_rate_pkey PRIMARY KEY (entity_id, exchange_rate_id),
	CONSTRAINT exchange_rate_once_a_day UNIQUE (entity_id, from_currency, to_currency, valid_from),
	CONSTRAINT exchange_rate_of_two_currencies CHECK (from_currency <> to_currency),
	CONSTRAINT exchange_rate_date_finite CHECK (isfinite(valid_from)),
	CONSTRAINT exchange_rate_in_range CHECK (rate > 0 AND rate < 1e12 AND scale(rate) <= 12)
);
COMMENT ON TABLE billing.exchange_rate IS
	'What a unit of one currency is worth in another, from a day until the day of the next rate; approval compares amounts in the entity''s currency by it';
COMMENT ON COLUMN billing.exchange_rate.entity_id IS 'The entity';
COMMENT ON COLUMN billing.exchange_rate.exchange_rate_id IS 'Key within the entity';
COMMENT ON COLUMN billing.exchange_rate.from_currency IS 'The currency that is converted';
COMMENT ON COLUMN billing.exchange_rate.to_currency IS 'The currency that it is converted to';
COMMENT ON COLUMN billing.exchange_rate.valid_from IS 'First day of the rate';
COMMENT ON COLUMN billing.exchange_rate.rate IS 'How many units of to_currency one unit of from_currency is worth; the inverse is not derived from it';

CREATE TABLE billing.billing_account (
	entity_id               integer      NOT NULL,
	account_id              bigserial,
	code                    billing.code NOT NULL,
	customer_id             bigint       NOT NULL,
	parent_account_id       bigint,
	currency                text         NOT NULL CONSTRAINT billing_account_currency_fkey REFERENCES billing.currency,
	payment_terms_days      integer      NOT NULL DEFAULT 30,
	tax_code_id             bigint,
	purchase_order_required boolean      NOT NULL DEFAULT false,
	purchase_order          text,
	CONSTRAINT billing_account_pkey PRIMARY KEY (entity_id, account_id),
	CONSTRAINT billing_account_code_key UNIQUE (entity_id, code),
	CONSTRAINT billing_account_customer_fkey FOREIGN KEY (entity_id, customer_id) REFERENCES billing.customer,
	CONSTRAINT billing_account_parent_fkey FOREIGN KEY (entity_id, parent_account_id) REFERENCES billing.billing_account,
	CONSTRAINT billing_account_tax_code_fkey FOREIGN KEY (entity_id, tax_code_id) REFERENCES billing.tax_code,
	CONSTRAINT billing_account_not_own_parent CHECK (parent_account_id <> account_id),
	CONSTRAINT billing_account_payment_terms_in_range CHECK (payment_terms_days BETWEEN 0 AND 3650),
	CONSTRAINT billing_account_purchase_order_length CHECK (octet_length(purchase_order) BETWEEN 1 AND 200)
);
CREATE INDEX billing_account_by_customer ON billing.billing_account (entity_id, customer_id);
COMMENT ON TABLE billing.billing_account IS 'What is billed together: one currency, one address, one set of terms; a customer may have several';
COMMENT ON COLUMN billing.billing_account.entity_id IS 'The entity';
COMMENT ON COLUMN billing.billing_account.account_id IS 'Key within the entity';
COMMENT ON COLUMN billing.billing_account.code IS 'What API functions call the account, and a subject of usage events';
COMMENT ON COLUMN billing.billing_account.customer_id IS 'Whose account it is';
COMMENT ON COLUMN billing.billing_account.parent_account_id IS 'The account above it in a group of companies';
COMMENT ON COLUMN billing.billing_account.currency IS 'Currency of its contracts and documents';
COMMENT ON COLUMN billing.billing_account.payment_terms_days IS 'Days from issue to due date';
COMMENT ON COLUMN billing.billing_account.tax_code_id IS 'Tax code of all that is billed here, or null for that of each product';
COMMENT ON COLUMN billing.billing_account.purchase_order_required IS 'Whether a document needs a purchase order number to be issued';
COMMENT ON COLUMN billing.billing_account.purchase_order IS 'Purchase order number in force';

CREATE TABLE billing.product (
	entity_id   integer      NOT NULL CONSTRAINT product_entity_fkey REFERENCES billing.legal_entity,
	product_id  bigserial,
	code        billing.code NOT NULL,
	name        text         NOT NULL,
	unit_code   text         NOT NULL DEFAULT 'C62',
	tax_code_id bigint,
	CONSTRAINT product_pkey PRIMARY KEY (entity_id, product_id),
	CONSTRAINT product_code_key UNIQUE (entity_id, code),
	CONSTRAINT product_tax_code_fkey FOREIGN KEY (entity_id, tax_code_id) REFERENCES billing.tax_code,
	CONSTRAINT product_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000),
	CONSTRAINT product_unit_code_form CHECK (unit_code ~ '^[A-Z0-9]{2,3}$')
);
COMMENT ON TABLE billing.product IS 'What is sold';
COMMENT ON COLUMN billing.product.entity_id IS 'The entity that sells it';
COMMENT ON COLUMN billing.product.product_id IS 'Key within the entity';
COMMENT ON COLUMN billing.product.code IS 'What API functions call it';
COMMENT ON COLUMN billing.product.name IS 'Name, as printed on documents';
COMMENT ON COLUMN billing.product.unit_code IS 'Unit of its quantity, UN/ECE recommendation 20: C62 one, HUR hour, KGM kilogram, MON month';
COMMENT ON COLUMN billing.product.tax_code_id IS 'How it is taxed where the billing account says nothing else';

-- What the rules of a meter ask of its texts. A cast would raise an error of its own, which does not say which rule is broken.
CREATE FUNCTION billing_internal.is_json_path(path text) RETURNS boolean
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_is_json_path';
COMMENT ON FUNCTION billing_internal.is_json_path(text) IS
	'Whether a text is an SQL/JSON path that a meter may use: at most 1000 bytes, no variables, no methods but type, size, abs, floor, ceiling, keyvalue and number';

CREATE FUNCTION billing_internal.is_json_predicate(path text) RETURNS boolean
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_is_json_predicate';
COMMENT ON FUNCTION billing_internal.is_json_predicate(text) IS
	'Whether a text is an SQL/JSON path that a meter may use and that answers true or false, such as $.status == 200';

CREATE FUNCTION billing_internal.are_group_keys(keys text[]) RETURNS boolean
	IMMUTABLE STRICT PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_are_group_keys';
COMMENT ON FUNCTION billing_internal.are_group_keys(text[]) IS
	'Whether an array holds one to eight group keys with distinct names, each the name of a field or name=path';

-- Whoever writes a row is asked to check it
GRANT EXECUTE ON FUNCTION billing_internal.is_json_path(text), billing_internal.is_json_predicate(text),
	billing_internal.are_group_keys(text[]) TO billing_user;

CREATE TABLE billing.meter (
	entity_id          integer         NOT NULL CONSTRAINT meter_entity_fkey REFERENCES billing.legal_entity,
	meter_id           bigserial,
	code               billing.code    NOT NULL,
	name               text            NOT NULL,
	aggregation        text            NOT NULL DEFAULT 'sum',
	value_field        text            NOT NULL DEFAULT 'quantity',
	filter             text,
	group_by           text[],
	quantity_scale     smallint,
	quantity_rounding  text            NOT NULL DEFAULT 'nearest',
	percentile         numeric         NOT NULL DEFAULT 95,
	time_unit          integer         NOT NULL DEFAULT 1,
	expected_tolerance numeric         NOT NULL DEFAULT 0.0000000001,
	CONSTRAINT meter_pkey PRIMARY KEY (entity_id, meter_id),
	CONSTRAINT meter_code_key UNIQUE (entity_id, code),
	CONSTRAINT meter_aggregation_known CHECK (aggregation IN (
		'sum', 'count', 'max', 'min', 'latest', 'unique_count', 'time_weighted', 'percentile')),
	CONSTRAINT meter_value_field_length CHECK (octet_length(value_field) BETWEEN 1 AND 1000),
	CONSTRAINT meter_value_field_is_field_or_path CHECK (position('$' IN value_field) = 0 OR billing_internal.is_json_path(value_field)),
	CONSTRAINT meter_filter_is_predicate CHECK (billing_internal.is_json_predicate(filter)),
	CONSTRAINT meter_group_by_has_keys CHECK (billing_internal.are_group_keys(group_by)),
	CONSTRAINT meter_quantity_scale_in_range CHECK (quantity_scale BETWEEN -12 AND 12),
	CONSTRAINT meter_quantity_rounding_known CHECK (quantity_rounding IN ('nearest', 'up', 'down')),
	CONSTRAINT meter_percentile_in_range CHECK (percentile > 0 AND percentile <= 100 AND scale(percentile) <= 6),
	CONSTRAINT meter_time_unit_in_range CHECK (time_unit BETWEEN 1 AND 31622400),
	CONSTRAINT meter_expected_tolerance_in_range CHECK (expected_tolerance >= 0 AND expected_tolerance < 1e27),
	CONSTRAINT meter_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.meter IS 'What is measured: how events of one type become a quantity';
COMMENT ON COLUMN billing.meter.entity_id IS 'The entity';
COMMENT ON COLUMN billing.meter.meter_id IS 'Key within the entity';
COMMENT ON COLUMN billing.meter.code IS 'The type of the events it measures, and what API functions call it';
COMMENT ON COLUMN billing.meter.name IS 'Name for people';
COMMENT ON COLUMN billing.meter.aggregation IS
	'What becomes of the events of a period: count counts them; sum adds up a number of each, max and min take the largest and the smallest, latest the last one, percentile the one below which so many per cent lie, time_weighted each for as long as it holds; unique_count counts distinct values. Never changes';
COMMENT ON COLUMN billing.meter.value_field IS
	'What is taken from an event''s data: the name of a field, or an SQL/JSON path when it contains $; not used by count. A change acts on events that arrive from then on';
COMMENT ON COLUMN billing.meter.filter IS
	'SQL/JSON path predicate over an event''s data, such as $.status == 200; an event for which it is not true is kept and not measured; null measures all. A change acts on events that arrive from then on';
COMMENT ON COLUMN billing.meter.group_by IS
	'What usage is measured apart by: names of fields of the data, or name=$.path; null for all together. Never changes';
COMMENT ON COLUMN billing.meter.quantity_scale IS
	'Decimals to which the measured quantity of a period is rounded, negative for tens, hundreds and so on; null does not round. Never changes';
COMMENT ON COLUMN billing.meter.quantity_rounding IS
	'How it is rounded: nearest (half away from zero), up (away from zero) or down (towards zero). Never changes';
COMMENT ON COLUMN billing.meter.percentile IS
	'For percentile: how many per cent of the events are at or below the measured one. Never changes';
COMMENT ON COLUMN billing.meter.time_unit IS
	'For time_weighted: the seconds by which level × seconds is divided; 3600 gives hours. Never changes';
COMMENT ON COLUMN billing.meter.expected_tolerance IS 'How far the amount that an event''s source expects may be from its own rating before it is a pricing discrepancy';

-- What the next billing run is to look at again. Whatever alters what an account owes for days that it may have been billed for, or
-- gives it something new to bill, leaves a row in its own transaction; a run takes the rows away before it derives what is owed, so
-- that none gets lost. Nothing here is unique and nothing is checked: rows are written by every amendment, which never waits for a
-- run, and by roll-ups of usage. So there are no foreign keys, and a row about an account that does not exist does no harm.
CREATE TABLE billing.account_change (
	entity_id  integer NOT NULL,
	change_id  bigserial,
	account_id bigint  NOT NULL,
	reason     text    NOT NULL,
	usage_from date,
	CONSTRAINT account_change_pkey PRIMARY KEY (entity_id, change_id)
);
CREATE INDEX account_change_by_account ON billing.account_change (entity_id, account_id);
COMMENT ON TABLE billing.account_change IS
	'Accounts that the next billing run looks at again, however far they are billed: something changed that may alter what they owe; empty but for what came since the last run';
COMMENT ON COLUMN billing.account_change.entity_id IS 'The entity';
COMMENT ON COLUMN billing.account_change.change_id IS 'Key within the entity';
COMMENT ON COLUMN billing.account_change.account_id IS 'The account; it may have several rows';
COMMENT ON COLUMN billing.account_change.reason IS 'What changed: contract, terms, price, meter, entity, usage, and others';
COMMENT ON COLUMN billing.account_change.usage_from IS 'First local day of the usage that came; null where anything may have changed';

-- A price in a book may concern a million accounts: whoever sets it writes one row here, and a run spreads it over the accounts when it
-- opens (billing_internal.spread_changes() says why no account is missed).
CREATE TABLE billing.shared_change (
	entity_id     integer NOT NULL,
	change_id     bigserial,
	reason        text    NOT NULL,
	price_book_id bigint,
	product_id    bigint,
	first_day     date,
	end_day       date,
	meter_id      bigint,
	CONSTRAINT shared_change_pkey PRIMARY KEY (entity_id, change_id),
	CONSTRAINT shared_change_reason_known CHECK (reason IN ('price', 'meter', 'entity', 'currency')),
	CONSTRAINT shared_change_says_of_what CHECK (
		(reason = 'price') = (price_book_id IS NOT NULL) AND (reason = 'price') = (product_id IS NOT NULL)
		AND (reason = 'price') = (first_day IS NOT NULL) AND (reason = 'price' OR end_day IS NULL)
		AND (reason = 'meter') = (meter_id IS NOT NULL))
);
COMMENT ON TABLE billing.shared_change IS
	'Changes of what many accounts share since the last billing run was opened: prices, meters, how the entity rounds; the next run to be opened turns them into rows of billing.account_change';
COMMENT ON COLUMN billing.shared_change.entity_id IS 'The entity';
COMMENT ON COLUMN billing.shared_change.change_id IS 'Key within the entity';
COMMENT ON COLUMN billing.shared_change.reason IS 'price: of one product in one book; meter: how a quantity comes from events; entity: how amounts are rounded, or its time zone; currency: its minor unit';
COMMENT ON COLUMN billing.shared_change.price_book_id IS 'The price book';
COMMENT ON COLUMN billing.shared_change.product_id IS 'The product';
COMMENT ON COLUMN billing.shared_change.first_day IS 'First day on which the price is another';
COMMENT ON COLUMN billing.shared_change.end_day IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.shared_change.meter_id IS 'The meter';

SELECT billing_internal.protect('billing.tax_code', 'master', 'price_manager');
SELECT billing_internal.protect('billing.tax_rate', 'master', 'price_manager');
SELECT billing_internal.protect('billing.customer', 'master', 'contract_manager');
SELECT billing_internal.protect('billing.exchange_rate', 'master', 'price_manager');
SELECT billing_internal.protect('billing.billing_account', 'master', 'contract_manager');
SELECT billing_internal.protect('billing.product', 'master', 'price_manager');
SELECT billing_internal.protect('billing.meter', 'master', 'price_manager');
SELECT billing_internal.protect('billing.account_change', 'queue');
SELECT billing_internal.protect('billing.shared_change', 'queue');

-- An account's currency and customer carry its history: only the rest may be edited.
REVOKE UPDATE ON billing.billing_account FROM billing_user;
GRANT UPDATE (code, payment_terms_days, parent_account_id, tax_code_id, purchase_order_required, purchase_order)
	ON billing.billing_account TO billing_user;

-- Usage keeps the meter that it was resolved to, and what was rolled up stays as it is: only the rest may be edited.
REVOKE UPDATE ON billing.meter FROM billing_user;
GRANT UPDATE (code, name, value_field, filter, expected_tolerance) ON billing.meter TO billing_user;

SELECT billing_internal.audit_table('billing.tax_code', 'tax_code', 'tax_code_id');
SELECT billing_internal.audit_table('billing.tax_rate', 'tax_rate', 'tax_rate_id');
SELECT billing_internal.audit_table('billing.customer', 'customer', 'customer_id', 'customer_id',
	'{name,address,postal_code,city,tax_id,registration_id}');
SELECT billing_internal.audit_table('billing.exchange_rate', 'exchange_rate', 'exchange_rate_id');
SELECT billing_internal.audit_table('billing.billing_account', 'billing_account', 'account_id');
SELECT billing_internal.audit_table('billing.product', 'product', 'product_id');
SELECT billing_internal.audit_table('billing.meter', 'meter', 'meter_id');

-- What alters amounts of everybody, if it is changed at all.
CREATE FUNCTION billing_internal.note_shared_change() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_note_shared_change';
COMMENT ON FUNCTION billing_internal.note_shared_change() IS
	'Statement trigger: writes a row of billing.shared_change where a statement changed how quantities or amounts are computed';

CREATE TRIGGER y_note_change AFTER UPDATE ON billing.meter REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_shared_change('meter');
CREATE TRIGGER y_note_change AFTER UPDATE ON billing.legal_entity REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_shared_change('entity');
CREATE TRIGGER y_note_change AFTER UPDATE ON billing.currency REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_shared_change('currency');
