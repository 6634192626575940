-- Creating master data by code.

CREATE OR REPLACE FUNCTION billing.add_tax_code(
	entity text, tax_code text, category text, name text, exemption_reason text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_tax_code';
COMMENT ON FUNCTION billing.add_tax_code(text, text, text, text, text) IS
	'Creates a tax code of a UNCL 5305 category; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing.add_tax_rate(
	entity text, tax_code text, rate numeric, valid_from date, valid_to date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_tax_rate';
COMMENT ON FUNCTION billing.add_tax_rate(text, text, numeric, date, date) IS
	'Gives a tax code a rate in per cent from a day to the day before another (open); needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing.add_exchange_rate(
	entity text, from_currency text, rate numeric, valid_from date, to_currency text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_exchange_rate';
COMMENT ON FUNCTION billing.add_exchange_rate(text, text, numeric, date, text) IS
	'Says what a unit of a currency is worth in another (the entity''s own) from a day until the day of the next rate; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing.add_customer(
	entity text, customer text, name text, address text DEFAULT NULL, postal_code text DEFAULT NULL,
	city text DEFAULT NULL, country text DEFAULT NULL, tax_id text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_customer';
COMMENT ON FUNCTION billing.add_customer(text, text, text, text, text, text, text, text) IS
	'Creates a customer; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.add_account(
	entity text, account text, customer text, currency text, payment_terms_days integer DEFAULT 30,
	parent_account text DEFAULT NULL, tax_code text DEFAULT NULL, purchase_order_required boolean DEFAULT false,
	purchase_order text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_account';
COMMENT ON FUNCTION billing.add_account(text, text, text, text, integer, text, text, boolean, text) IS
	'Creates a billing account of a customer; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.add_product(
	entity text, product text, name text, unit_code text DEFAULT 'C62', tax_code text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_product';
COMMENT ON FUNCTION billing.add_product(text, text, text, text, text) IS
	'Creates a product; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing.add_meter(
	entity text, meter text, name text, aggregation text DEFAULT 'sum', value_field text DEFAULT 'quantity',
	filter text DEFAULT NULL, group_by text[] DEFAULT NULL, quantity_scale integer DEFAULT NULL,
	quantity_rounding text DEFAULT 'nearest', percentile numeric DEFAULT 95, time_unit integer DEFAULT 1) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_add_meter';
COMMENT ON FUNCTION billing.add_meter(text, text, text, text, text, text, text[], integer, text, numeric, integer) IS
	'Creates a meter for the events whose type is its code, with the columns of billing.meter as they are to be: how it sums up, what it takes from an event, which events it leaves out, by what it groups; needs the duty price_manager';

CREATE OR REPLACE FUNCTION billing_internal.verify_masterdata(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'only tax codes of category S have a rate above 0', count(*), min(format('tax code %s', c.code))
	FROM billing.tax_rate r
	JOIN billing.tax_code c USING (entity_id, tax_code_id)
	WHERE (entity IS NULL OR r.entity_id = entity) AND r.rate > 0 AND c.category <> 'S';
END;
COMMENT ON FUNCTION billing_internal.verify_masterdata(integer) IS
	'Checks of the master data';

CREATE OR REPLACE FUNCTION billing.erase_personal_data(entity text, customer text, reason text) RETURNS bigint
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_masterdata_erase';
COMMENT ON FUNCTION billing.erase_personal_data(text, text, text) IS
	'Erases what is known of a customer as a person, from the customer and from the audit log, whose proofs go on to hold; issued documents stay; returns how many values of the log were erased; needs the duty admin';
