-- Three companies, and who may do what
CREATE EXTENSION billing_erp CASCADE;

\o /dev/null
-- A cloud provider, a software firm and a carrier; the yen has no minor unit, and the software firm rounds half to even.
SELECT billing.create_entity('nimbus', 'Nimbus Cloud, Inc.', 'USD', 'America/Chicago', 'US');
SELECT billing.create_entity('quillwerk', 'Quillwerk GmbH', 'EUR', 'Europe/Berlin', 'DE', rounding_mode => 'half_even');
SELECT billing.create_entity('tsubame', 'Tsubame Logistics K.K.', 'JPY', 'Asia/Tokyo', 'JP', fiscal_year_start => 4);

UPDATE billing.legal_entity SET address = '410 Congress Avenue', postal_code = '78701', city = 'Austin', tax_id = '74-0000001',
	auto_approve_limit = 1000 WHERE code = 'nimbus';
UPDATE billing.legal_entity SET address = 'Torstraße 49', postal_code = '10119', city = 'Berlin', tax_id = 'DE000000001',
	auto_approve_limit = 1000 WHERE code = 'quillwerk';
UPDATE billing.legal_entity SET address = '3-8-1 Kaigan', postal_code = '108-0022', city = 'Tokyo', tax_id = 'T0000000000001',
	auto_approve_limit = 150000 WHERE code = 'tsubame';

-- Persons, their logins, their duties. Who bills does not approve, and who approves has a limit.
CREATE ROLE piet LOGIN IN ROLE billing_user;
CREATE ROLE carla LOGIN IN ROLE billing_user;
CREATE ROLE bea LOGIN IN ROLE billing_user;
CREATE ROLE amir LOGIN IN ROLE billing_user;
CREATE ROLE dana LOGIN IN ROLE billing_user;
CREATE ROLE ruth LOGIN IN ROLE billing_user;
CREATE ROLE feed LOGIN IN ROLE billing_user;

SELECT billing.add_person(role, name), billing.add_login(role, role)
FROM (VALUES ('piet', 'Piet, pricing'), ('carla', 'Carla, contracts'), ('bea', 'Bea, billing'), ('amir', 'Amir, team lead'),
	('dana', 'Dana, finance director'), ('ruth', 'Ruth, internal audit'), ('feed', 'Usage feed')) AS p (role, name);

SELECT billing.grant_duty(e.code, d.person, d.duty, '2026-10-01',
	approval_limit => CASE WHEN d.person = 'amir' THEN CASE e.currency WHEN 'JPY' THEN 250000 ELSE 3000 END END)
FROM billing.legal_entity e,
	(VALUES ('piet', 'price_manager'), ('carla', 'contract_manager'), ('bea', 'biller'), ('amir', 'approver'),
		('dana', 'approver'), ('ruth', 'auditor'), ('feed', 'application')) AS d (person, duty);
\o

\pset footer off
SELECT e.code, e.name, currency, y.minor_unit AS decimals, time_zone, rounding_mode AS rounding, auto_approve_limit AS approved_up_to
FROM billing.legal_entity e JOIN billing.currency y USING (currency) ORDER BY code;
\echo Nobody approves what they bill:
\set ON_ERROR_STOP off
SELECT billing.grant_duty('nimbus', 'bea', 'approver', '2026-10-01');
\set ON_ERROR_STOP on

-- What the next steps make their data from: fixed formulas, so that every demonstration is the same.
CREATE SCHEMA demo;
GRANT USAGE ON SCHEMA demo TO billing_user;
CREATE FUNCTION demo.pick(key text, below integer) RETURNS integer LANGUAGE SQL IMMUTABLE PARALLEL SAFE
	RETURN ('x' || substr(md5(key), 1, 7))::bit(28)::integer % below;
COMMENT ON FUNCTION demo.pick(text, integer) IS 'A number from 0 that looks random and depends on the key alone';
