-- What was agreed: contracts, their items, and the versions of an item's terms.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'), billing.add_person('regress_ada', 'Ada');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
SELECT billing.add_login('regress_ada', 'regress_ada'),
	billing.grant_duty('regress_acme', 'regress_ada', 'price_manager'),
	billing.grant_duty('regress_acme', 'regress_ada', 'contract_manager');
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.add_customer('regress_acme', 'c1', 'Customer'), billing.add_account('regress_acme', 'a1', 'c1', 'EUR'),
	billing.add_product('regress_acme', 'seat', 'Seat'), billing.add_product('regress_acme', 'api', 'API calls'),
	billing.add_meter('regress_acme', 'api.calls', 'API calls'),
	billing.add_price_book('regress_acme', 'list', 'List prices', 'EUR'),
	billing.add_price_book('regress_acme', 'dollar', 'Dollar prices', 'USD'),
	billing.set_price('regress_acme', 'list', 'api', '{"model": "per_unit", "unit": "0.01"}', '2026-01-01');

-- A contract is billed to an account, in periods counted from its first day unless another anchor is given.
SELECT billing.create_contract('regress_acme', 'k1', 'a1', '2026-01-15', '2027-01-15', anchor => '2026-01-01');
SELECT billing.create_contract('regress_acme', 'k2', 'a1', '2026-01-15', '2026-01-14');
SELECT billing.create_contract('regress_acme', 'k2', 'a1', '2026-01-15', interval_unit => 'fortnight');
SELECT billing.create_contract('regress_acme', 'k1', 'a1', '2026-01-15');
SELECT code, currency, start_date, end_date, anchor, interval_unit, interval_count FROM billing.contract;

-- Its items are recurring, one-time or usage, at a price of their own or that of a price book.
SELECT billing.add_item('regress_acme', 'k1', 'seats', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "12.50"}'),
	billing.add_item('regress_acme', 'k1', 'setup', 'seat', 'one_time', 1, '{"model": "per_unit", "unit": "99"}'),
	billing.add_item('regress_acme', 'k1', 'api', 'api', 'usage', price_book => 'list', meter => 'api.calls');
SELECT item, charge, timing, meter, valid_from, valid_to, quantity, tariff, price_book FROM billing.contract_term ORDER BY item;
-- Terms that contradict each other are refused.
SELECT billing.add_item('regress_acme', 'k1', 'x', 'seat', 'recurring', 10);
SELECT billing.add_item('regress_acme', 'k1', 'x', 'seat', 'recurring', 10, '{"model": "per_unit", "unit": "1"}', price_book => 'list');
SELECT billing.add_item('regress_acme', 'k1', 'x', 'seat', 'recurring', price_book => 'list');
SELECT billing.add_item('regress_acme', 'k1', 'x', 'api', 'usage', price_book => 'list');
SELECT billing.add_item('regress_acme', 'k1', 'x', 'api', 'recurring', 1, price_book => 'dollar');
-- No usage of an account is charged by two items on the same day.
SELECT billing.add_item('regress_acme', 'k1', 'x', 'api', 'usage', price_book => 'list', meter => 'api.calls');

-- An amendment never overwrites: what it touches is superseded, and recorded again beside what is new, also for days past.
SELECT billing.change_item('regress_acme', 'k1', 'seats', '2026-07-01', quantity => 12, reason => 'two more from July');
SELECT billing.change_item('regress_acme', 'k1', 'seats', '2026-03-01', tariff => '{"model": "per_unit", "unit": "11"}', reason => 'discount from March');
SELECT item, valid_from, valid_to, quantity, tariff FROM billing.contract_term WHERE item = 'seats' ORDER BY valid_from;
SELECT v.valid_from, v.valid_to, v.quantity, v.superseded_at IS NOT NULL AS superseded, v.reason
	FROM billing.contract_item_version v JOIN billing.contract_item i USING (entity_id, item_id)
	WHERE i.code = 'seats' ORDER BY v.version_id;
SELECT billing.change_item('regress_acme', 'k1', 'seats', '2026-03-01');
SELECT billing.change_item('regress_acme', 'k1', 'api', '2026-03-01', quantity => 3);
SELECT billing.change_item('regress_acme', 'k1', 'doors', '2026-03-01', quantity => 3);

-- An item ends with the day before; a contract too, and all its items with it.
SELECT billing.end_item('regress_acme', 'k1', 'seats', '2026-10-01', 'closed a floor');
SELECT item, valid_from, valid_to, quantity FROM billing.contract_term WHERE item = 'seats' ORDER BY valid_from;
SELECT billing.end_item('regress_acme', 'k1', 'seats', '2026-10-01');
SELECT billing.end_contract('regress_acme', 'k1', '2026-12-01');
SELECT code, start_date, end_date FROM billing.contract;

-- What was agreed is written by these functions alone.
UPDATE billing.contract_item_version SET quantity = 1;
RESET SESSION AUTHORIZATION;
SELECT bool_and(violations = 0) AS clean FROM billing.verify('regress_acme');
ROLLBACK;
