-- What a hostile tester found and what was mended since: keys of master data, delegation to oneself, and a session that outlives
-- the extension. The last part drops the extension, so there is no transaction around this file; its database is its own.
\ir ../lib/persons.sql
SELECT no_plan();
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme');
SELECT pg_temp.stock('acme');

-- A row with another key lost its audit record: update_record joins before and after by key
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'b', 'Book', 'EUR')$$);
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'b', 'seat', '{"model": "per_unit", "unit": "1"}', '2026-01-01')$$);
SELECT is(pg_temp.try('ada', statement), 'ZB008', statement)
FROM (VALUES
	($$UPDATE billing.price SET price_id = price_id + 1000, tariff = '{"model": "per_unit", "unit": "9"}'$$),
	($$UPDATE billing.tax_rate SET tax_rate_id = -tax_rate_id, rate = 1$$),
	($$UPDATE billing.tax_code SET tax_code_id = tax_code_id + 1000$$),
	($$UPDATE billing.product SET product_id = product_id + 1000$$),
	($$UPDATE billing.customer SET customer_id = customer_id + 1000, name = 'Somebody else'$$)
) AS c (statement);
SELECT is(pg_temp.try('ada', $$UPDATE billing.price SET price_id = price_id, tariff = '{"model": "per_unit", "unit": "2"}'$$), '1', 'the same key is no other key');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'price'), 2::bigint, 'and every change of a price is audited');

-- An application does not grant to its own person what it asks for in the name of an admin
SELECT is(pg_temp.try('app', $$WITH a AS MATERIALIZED (SELECT billing.act_as('adm')) SELECT billing.grant_duty('acme', 'app', 'biller', '2026-01-01') FROM a$$),
	'ZB004', 'nobody grants a duty to themselves in the name of another');
SELECT is(pg_temp.try('app', $$WITH a AS MATERIALIZED (SELECT billing.act_as('adm')) SELECT billing.grant_duty('acme', 'nob', 'reader', '2026-01-01') FROM a$$),
	'', 'but to somebody else');

-- The next installation in the same session does not know the persons of the last: persons are numbered anew
SELECT pg_temp.must('ada', $$SELECT billing.add_customer('acme', 'c2', 'Customer')$$);
SET client_min_messages = warning;
DROP EXTENSION billing_erp CASCADE;
DROP SCHEMA IF EXISTS billing;
CREATE EXTENSION billing_erp CASCADE;
RESET client_min_messages;
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT billing.add_person('anna', 'Anna'), billing.add_login('anna', pg_temp.role_of('ada')), billing.grant_duty('acme', 'anna', 'contract_manager', '2020-01-01');
SELECT is(pg_temp.try('ada', $$SELECT billing.current_actor()$$), 'anna', 'the login is another person''s now');
SELECT pg_temp.must('ada', $$SELECT billing.add_customer('acme', 'c1', 'Customer')$$);
SELECT is((SELECT actor FROM billing.audit_log WHERE object_type = 'customer'), 'anna', 'whom the audit names');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

SELECT * FROM finish();
SELECT format('DROP ROLE %I', pg_temp.role_of(p)) FROM unnest('{ada,bob,lim,adm,rea,aud,app,nob}'::text[]) p \gexec
