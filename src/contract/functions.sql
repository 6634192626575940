-- Making and amending contracts.

CREATE OR REPLACE FUNCTION billing.create_contract(
	entity text, contract text, account text, start_date date, end_date date DEFAULT NULL,
	interval_unit text DEFAULT 'month', interval_count integer DEFAULT 1, anchor date DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_create';
COMMENT ON FUNCTION billing.create_contract(text, text, text, date, date, text, integer, date) IS
	'Makes a contract of a billing account; its periods are counted from the anchor (its first day); needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.add_item(
	entity text, contract text, item text, product text, charge text, quantity numeric DEFAULT NULL,
	tariff jsonb DEFAULT NULL, price_book text DEFAULT NULL, timing text DEFAULT NULL, meter text DEFAULT NULL,
	valid_from date DEFAULT NULL, valid_to date DEFAULT NULL, own_usage boolean DEFAULT false) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_add_item';
COMMENT ON FUNCTION billing.add_item(text, text, text, text, text, numeric, jsonb, text, text, text, date, date, boolean) IS
	'Adds an item to a contract: recurring, usage or one_time, priced by a tariff or a price book, from a day (the contract''s first) to the day before another (its end); with own_usage it charges for the events that name it alone; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.change_item(
	entity text, contract text, item text, valid_from date, quantity numeric DEFAULT NULL,
	tariff jsonb DEFAULT NULL, price_book text DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_change_item';
COMMENT ON FUNCTION billing.change_item(text, text, text, date, numeric, jsonb, text, text) IS
	'Changes an item''s quantity or price from a day on, which may be past: the next billing run credits and charges the difference; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.end_item(
	entity text, contract text, item text, day date, reason text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_end_item';
COMMENT ON FUNCTION billing.end_item(text, text, text, date, text) IS
	'Ends an item with the day before the given one, which may be past; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing.end_contract(
	entity text, contract text, day date) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_end';
COMMENT ON FUNCTION billing.end_contract(text, text, date) IS
	'Ends a contract with the day before the given one, which may be past; needs the duty contract_manager';

CREATE OR REPLACE FUNCTION billing_internal.verify_contract(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'contracts, items and versions belong to one billing account', count(*),
		min(format('contract %s, item %s', c.code, i.code))
	FROM billing.contract_item i
	JOIN billing.contract c USING (entity_id, contract_id)
	LEFT JOIN billing.billing_account a ON a.entity_id = i.entity_id AND a.account_id = c.account_id
	LEFT JOIN (
		SELECT DISTINCT v.entity_id, v.item_id
		FROM billing.contract_item_version v
		JOIN billing.contract_item o USING (entity_id, item_id)
		WHERE v.account_id <> o.account_id OR v.meter_id IS DISTINCT FROM o.meter_id OR v.own_usage <> o.own_usage
	) odd ON odd.entity_id = i.entity_id AND odd.item_id = i.item_id
	WHERE (entity IS NULL OR i.entity_id = entity)
		AND (i.account_id <> c.account_id OR a.currency IS DISTINCT FROM c.currency OR odd.item_id IS NOT NULL)
	UNION ALL
	SELECT 'price books have the currency of the contracts that use them', count(*),
		min(format('contract %s, item %s', c.code, i.code))
	FROM billing.contract_item_version v
	JOIN billing.contract_item i USING (entity_id, item_id)
	JOIN billing.contract c USING (entity_id, contract_id)
	JOIN billing.price_book b ON b.entity_id = v.entity_id AND b.price_book_id = v.price_book_id
	WHERE (entity IS NULL OR v.entity_id = entity) AND b.currency <> c.currency;
END;
COMMENT ON FUNCTION billing_internal.verify_contract(integer) IS
	'Checks of the contracts';
