-- Who is billed, for what, and how it is taxed: tax codes, customers, billing accounts, products, meters.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_bob', 'Bob');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_bob LOGIN IN ROLE billing_user;
SELECT billing.add_login('regress_ada', 'regress_ada'), billing.add_login('regress_bob', 'regress_bob'),
	billing.grant_duty('regress_acme', 'regress_ada', 'price_manager'),
	billing.grant_duty('regress_acme', 'regress_ada', 'contract_manager'),
	billing.grant_duty('regress_acme', 'regress_bob', 'reader');
SET SESSION AUTHORIZATION regress_ada;

-- A tax code has a category of UNCL 5305 and a rate over time. Other categories than S and Z say why no tax is charged.
SELECT billing.add_tax_code('regress_acme', 'standard', 'S', 'Standard rate'),
	billing.add_tax_rate('regress_acme', 'standard', 19, '2007-01-01', '2020-07-01'),
	billing.add_tax_rate('regress_acme', 'standard', 16, '2020-07-01', '2021-01-01'),
	billing.add_tax_rate('regress_acme', 'standard', 19, '2021-01-01');
SELECT billing.add_tax_code('regress_acme', 'reverse', 'AE', 'Reverse charge');
SELECT billing.add_tax_code('regress_acme', 'reverse', 'AE', 'Reverse charge', 'VAT is due by the recipient, § 13b UStG');
SELECT billing.add_tax_rate('regress_acme', 'reverse', 0, '2007-01-01');
-- On any day a code has one rate, between 0 and 100 per cent.
SELECT billing.add_tax_rate('regress_acme', 'standard', 20, '2030-01-01');
SELECT billing.add_tax_rate('regress_acme', 'reverse', 100.5, '1990-01-01', '1991-01-01');
SELECT c.code, c.category, r.rate, r.valid_from, r.valid_to
	FROM billing.tax_code c JOIN billing.tax_rate r USING (entity_id, tax_code_id) ORDER BY c.code, r.valid_from;

-- A customer may have several billing accounts, each in a currency, one above the other.
SELECT billing.add_customer('regress_acme', 'c1', 'Customer AG', 'Street 1', '1010', 'Wien', 'AT', 'ATU12345678'),
	billing.add_account('regress_acme', 'group', 'c1', 'EUR'),
	billing.add_account('regress_acme', 'plant', 'c1', 'EUR', 14, parent_account => 'group', tax_code => 'reverse', purchase_order_required => true);
SELECT billing.add_account('regress_acme', 'plant', 'c1', 'EUR');
SELECT billing.add_account('regress_acme', 'other', 'c2', 'EUR');
SELECT billing.add_account('regress_acme', 'other', 'c1', 'QQQ');
SELECT billing.add_account('regress_acme', 'other', 'c1', 'EUR', -1);
SELECT a.code, p.code AS parent, a.currency, a.payment_terms_days, t.code AS tax_code, a.purchase_order_required
	FROM billing.billing_account a
	LEFT JOIN billing.billing_account p ON p.entity_id = a.entity_id AND p.account_id = a.parent_account_id
	LEFT JOIN billing.tax_code t ON t.entity_id = a.entity_id AND t.tax_code_id = a.tax_code_id
	ORDER BY a.code;

-- Products, and meters that turn events of one type into a quantity.
SELECT billing.add_product('regress_acme', 'storage', 'Storage', 'E34', 'standard'),
	billing.add_meter('regress_acme', 'storage.gb', 'Gigabytes stored', 'sum', 'gb');
SELECT billing.add_product('regress_acme', 'hours', 'Hours', 'hours');
SELECT billing.add_meter('regress_acme', 'peak', 'Peak', 'maximum');
SELECT code, name, unit_code FROM billing.product;
-- A meter may look deeper into the events: a path to its value, a filter that is true or not, names to measure apart by.
SELECT billing.add_meter('regress_acme', 'vm.hours', 'Core hours', 'time_weighted', '$.vm.cores', '!exists($.test)', '{region,size=$.vm.size}', 2, time_unit => 3600);
SELECT billing.add_meter('regress_acme', 'answers', 'Calls answered', 'count', filter => '$.status');
SELECT code, aggregation, value_field, filter, group_by FROM billing.meter ORDER BY code;

-- Master data may be edited by plain SQL by whoever has the duty. What carries history stays.
UPDATE billing.billing_account SET purchase_order = 'PO-1' WHERE code = 'plant' RETURNING code, purchase_order;
UPDATE billing.billing_account SET currency = 'USD' WHERE code = 'plant';
DELETE FROM billing.product;
SET SESSION AUTHORIZATION regress_bob;
SELECT code FROM billing.customer;
UPDATE billing.customer SET name = 'Bob AG';
INSERT INTO billing.product (entity_id, code, name) SELECT entity_id, 'mine', 'Mine' FROM billing.legal_entity;
RESET SESSION AUTHORIZATION;

-- Currencies come with the extension.
SELECT currency, numeric_code, minor_unit, name FROM billing.currency WHERE currency IN ('BHD', 'CLF', 'EUR', 'JPY') ORDER BY 1;
SELECT bool_and(violations = 0) AS clean FROM billing.verify('regress_acme');
ROLLBACK;
