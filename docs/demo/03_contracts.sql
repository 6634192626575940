-- Customers, billing accounts and contracts
CREATE TABLE demo.customer AS
SELECT e.entity, n, lower(e.mark) || '-' || lpad(n::text, 3, '0') AS account,
	(ARRAY['Alder', 'Birch', 'Cedar', 'Dogwood', 'Elm', 'Fir', 'Ginkgo', 'Hazel', 'Iris', 'Juniper'])[1 + n % 10] || ' '
		|| (ARRAY['Analytics', 'Foods', 'Robotics', 'Textiles', 'Health', 'Media', 'Tools', 'Travel'])[1 + demo.pick(e.entity || n, 8)]
		|| (ARRAY[' Ltd', ' SA', ' AG', ' Co.'])[1 + n % 4] AS name,
	CASE e.entity
		WHEN 'nimbus' THEN (ARRAY['US', 'US', 'US', 'CA'])[1 + n % 4]
		WHEN 'quillwerk' THEN (ARRAY['DE', 'DE', 'AT', 'FR'])[1 + n % 4]
		ELSE 'JP' END AS country
FROM (VALUES ('nimbus', 'N', 30), ('quillwerk', 'Q', 40), ('tsubame', 'T', 20)) AS e (entity, mark, customers),
	generate_series(1, e.customers) AS n;
COMMENT ON TABLE demo.customer IS 'The customers of the demonstration';
GRANT SELECT ON demo.customer TO billing_user;

SET SESSION AUTHORIZATION carla;
\o /dev/null
-- Two customers lack what a document must print: q-006 has no tax id for its reverse charge, t-007 no address.
SELECT billing.add_customer(entity, account, name, CASE WHEN account <> 't-007' THEN n || ' Market Street' END,
	lpad((10000 + 37 * n)::text, 5, '0'), 'Springfield', country,
	CASE WHEN country IN ('AT', 'FR') AND account <> 'q-006' THEN country || 'U' || lpad(n::text, 8, '0') END)
FROM demo.customer;
-- Abroad, the account's tax code overrules that of the products. n-011 asks for a purchase order and has none.
SELECT billing.add_account(entity, account, account, e.currency, payment_terms_days => (ARRAY[14, 30, 45])[1 + c.n % 3],
	tax_code => CASE c.country WHEN 'CA' THEN 'abroad' WHEN 'AT' THEN 'reverse' WHEN 'FR' THEN 'reverse' END,
	purchase_order_required => c.n % 10 = 1,
	purchase_order => CASE WHEN c.n % 10 = 1 AND account <> 'n-011' THEN 'PO-' || (4500 + c.n) END)
FROM demo.customer c JOIN billing.legal_entity e ON e.code = c.entity;

-- All began on 1 October or within it; who came later pays the rest of the month by the day.
SELECT billing.create_contract(entity, account || '-c', account,
	CASE WHEN n % 6 = 5 THEN date '2026-10-01' + demo.pick(account, 25) ELSE '2026-10-01' END, anchor => '2026-10-01')
FROM demo.customer;
SELECT billing.add_item('nimbus', account || '-c', 'storage', 'storage', 'usage', price_book => 'public', meter => 'storage.gb_month'),
	billing.add_item('nimbus', account || '-c', 'transfer', 'transfer', 'usage', price_book => 'public', meter => 'transfer.gb')
FROM demo.customer WHERE entity = 'nimbus' AND n < 30;
SELECT billing.add_item('nimbus', account || '-c', 'requests', 'requests', 'usage', price_book => 'public', meter => 'requests')
FROM demo.customer WHERE entity = 'nimbus';
SELECT billing.add_item('nimbus', account || '-c', 'support', 'support', 'recurring', 1, price_book => 'public', timing => 'arrears')
FROM demo.customer WHERE entity = 'nimbus' AND n % 3 = 0 AND n < 30;

-- Every eighth customer of Quillwerk pays a year in advance; partner q-032 has calls that its price book does not price.
SELECT billing.create_contract('quillwerk', account || '-y', account, '2026-10-01', '2027-10-01', interval_unit => 'year'),
	billing.add_item('quillwerk', account || '-y', 'plan', 'plan', 'recurring', 1, price_book => 'list', timing => 'advance')
FROM demo.customer WHERE entity = 'quillwerk' AND n % 8 = 0;
SELECT billing.add_item('quillwerk', account || '-c', 'seats', 'seat', 'recurring', 3 + demo.pick(account, 70),
	price_book => CASE WHEN n % 16 = 0 THEN 'partner' ELSE 'list' END, timing => 'advance'),
	billing.add_item('quillwerk', account || '-c', 'calls', 'calls', 'usage',
		price_book => CASE WHEN account = 'q-032' THEN 'partner' ELSE 'list' END, meter => 'api.calls'),
	billing.add_item('quillwerk', account || '-c', 'exports', 'export', 'usage', price_book => 'list', meter => 'export.done')
FROM demo.customer WHERE entity = 'quillwerk';
SELECT billing.add_item('quillwerk', account || '-c', 'setup', 'setup', 'one_time', 1, price_book => 'list')
FROM demo.customer WHERE entity = 'quillwerk' AND n % 5 = 0;
-- A yearly price agreed for one customer
SELECT billing.change_item('quillwerk', 'q-008-y', 'plan', '2026-10-01', tariff => '{"model":"per_unit","unit":"4320"}', reason => '10 % for a reference');

-- Warehouse space was set up without a tax code: two customers of Tsubame use it.
SELECT billing.add_item('tsubame', account || '-c', 'parcels', 'parcel', 'usage', price_book => 'domestic', meter => 'parcel.delivered'),
	billing.add_item('tsubame', account || '-c', 'weight', 'weight', 'usage', price_book => 'domestic', meter => 'parcel.weight'),
	billing.add_item('tsubame', account || '-c', 'fuel', 'fuel', 'usage', price_book => 'domestic', meter => 'freight.charged')
FROM demo.customer WHERE entity = 'tsubame';
SELECT billing.add_item('tsubame', account || '-c', 'space', 'warehouse', 'recurring', 12 + 3 * n, price_book => 'domestic', timing => 'arrears')
FROM demo.customer WHERE entity = 'tsubame' AND n IN (4, 12);
\o

\pset footer off
SELECT entity, count(DISTINCT account) AS accounts, count(DISTINCT contract) AS contracts, count(*) AS items,
	count(*) FILTER (WHERE charge = 'usage') AS usage, count(*) FILTER (WHERE charge = 'recurring') AS recurring,
	count(*) FILTER (WHERE charge = 'one_time') AS one_time
FROM billing.contract_term GROUP BY entity ORDER BY entity;
\echo 'The terms of one account:'
SELECT contract, item, charge, timing, quantity, coalesce(price_book, tariff::text) AS price, valid_from
FROM billing.contract_term WHERE account = 'q-008' ORDER BY contract, item;
