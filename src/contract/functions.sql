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

CREATE OR REPLACE FUNCTION billing.set_contract_owner(entity text, contract text, person text) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_set_owner';
COMMENT ON FUNCTION billing.set_contract_owner(text, text, text) IS
	'Says whose contract it is, for approval policies that ask the contract''s owner; null for nobody; needs the duty admin';

-- Spreads what changed for many over the accounts that may have been billed by it: `through` is the latest day through which any run
-- was opened before this one, null where none was. It is called while a run is opened, and holds the lock of the entity's openings.
--
-- Why no account is missed. A shared change P that is taken off the list here was committed before this statement began. A slice
-- that did not see P has an older snapshot, so its run was opened before, and `through` covers it: no charge that was made without
-- P fell due later. Whose terms this statement does not see, because their amendment A was committed later, has a row of its own
-- from A, and the slice that takes that row away sees A and therefore P as well. And a slice that saw A but not P is older than P,
-- so that this statement sees A. To spread P in its own transaction would be simpler and wrong: it would not see an A that is
-- committed before P is, whose row a slice may take away between the two.
--
-- A price counts on the first day of a stretch of days that is charged (billing_internal.entitlement()), so an account is concerned
-- where such a day lies within the changed days, and the charge fell due by then. Of the stretches of an item's terms, the first one
-- after the change began is the first that falls due.
CREATE OR REPLACE FUNCTION billing_internal.spread_changes(entity integer, through date) RETURNS bigint
	LANGUAGE SQL VOLATILE
BEGIN ATOMIC
	WITH taken AS (
		DELETE FROM billing.shared_change s WHERE s.entity_id = spread_changes.entity RETURNING *
	), concerned AS (
		SELECT DISTINCT b.account_id, 'price' AS reason
		FROM (
			SELECT v.account_id, i.charge, i.timing, c.anchor, c.interval_unit, c.interval_count, c.start_date, c.end_date,
				least(v.valid_to, c.end_date, t.end_day) AS before,
				CASE
					WHEN greatest(v.valid_from, c.start_date) >= t.first_day THEN greatest(v.valid_from, c.start_date)
					-- contracts end before the year 3000; a later day is no mistake of the calendar that could stop a run
					WHEN i.charge <> 'one_time' AND t.first_day <= least(spread_changes.through, '2999-12-31') THEN
						billing.period_start(c.anchor, c.interval_unit, c.interval_count,
							billing.period_index(c.anchor, c.interval_unit, c.interval_count, t.first_day - 1) + 1)
				END AS first_start
			FROM (
				-- set_price() leaves two: of the price that ends, and of the one that begins
				SELECT DISTINCT s.price_book_id, s.product_id, s.first_day, s.end_day FROM taken s WHERE s.reason = 'price'
			) t
			JOIN billing.contract_item_version v ON v.entity_id = spread_changes.entity AND v.price_book_id = t.price_book_id
				AND v.superseded_at IS NULL
			JOIN billing.contract_item i ON i.entity_id = spread_changes.entity AND i.item_id = v.item_id AND i.product_id = t.product_id
			JOIN billing.contract c ON c.entity_id = spread_changes.entity AND c.contract_id = i.contract_id
			WHERE spread_changes.through IS NOT NULL
				-- most prices are set for days to come, and concern nobody but whose terms change in a period that was billed ahead
				AND (t.first_day <= spread_changes.through OR v.valid_from >= t.first_day)
			-- each day is computed once
			OFFSET 0
		) b
		WHERE CASE
				WHEN b.first_start IS NULL OR b.first_start >= b.before THEN NULL
				WHEN b.charge = 'one_time' THEN b.first_start
				WHEN b.timing = 'advance' THEN greatest(b.start_date, billing.period_start(b.anchor, b.interval_unit, b.interval_count,
					billing.period_index(b.anchor, b.interval_unit, b.interval_count, b.first_start)))
				ELSE least(b.end_date, billing.period_start(b.anchor, b.interval_unit, b.interval_count,
					billing.period_index(b.anchor, b.interval_unit, b.interval_count, b.first_start) + 1))
			END <= spread_changes.through
		UNION ALL
		SELECT DISTINCT i.account_id, 'meter'
		FROM billing.contract_item i
		WHERE i.entity_id = spread_changes.entity AND spread_changes.through IS NOT NULL
			AND EXISTS (SELECT FROM taken t WHERE t.reason = 'meter')
			AND i.meter_id IN (SELECT t.meter_id FROM taken t)
		UNION ALL
		SELECT DISTINCT i.account_id, 'entity'
		FROM billing.contract_item i
		WHERE i.entity_id = spread_changes.entity AND spread_changes.through IS NOT NULL
			AND EXISTS (SELECT FROM taken t WHERE t.reason IN ('entity', 'currency'))
	), noted AS (
		INSERT INTO billing.account_change (entity_id, account_id, reason)
		SELECT spread_changes.entity, n.account_id, n.reason FROM concerned n ORDER BY n.account_id
		RETURNING 1
	)
	SELECT count(*) FROM noted;
END;
COMMENT ON FUNCTION billing_internal.spread_changes(integer, date) IS
	'Step of the opening of a billing run: turns the shared changes of an entity into changes of the accounts with charges due through a day that they concern, and returns how many that are';

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
