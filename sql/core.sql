-- Who may do what, and the arithmetic that everything else relies on: entities, persons, logins, duties, the actor;
-- rounding, proration, billing periods.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
BEGIN;

-- A member of billing_owner, here a superuser, sets an installation up: a legal entity and the people who work in it.
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE');
SELECT billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_bob', 'Bob'), billing.add_person('regress_shop', 'The shop');

-- People come in by database roles. The actor is the person whose login the session user is.
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_bob LOGIN IN ROLE billing_user;
CREATE ROLE regress_shop LOGIN IN ROLE billing_user;
SELECT billing.add_login('regress_ada', 'regress_ada'), billing.add_login('regress_bob', 'regress_bob'),
	billing.add_login('regress_shop', 'regress_shop');
SELECT billing.current_actor();
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.current_actor();

-- Being a person is not enough: without a duty in an entity one does not even see it.
SELECT code FROM billing.legal_entity;
SELECT billing.has_duty('regress_acme', 'biller');
RESET SESSION AUTHORIZATION;

-- Duties are held in an entity, from a day (today) to the day before another (open). Some exclude each other.
SELECT billing.grant_duty('regress_acme', 'regress_ada', 'biller'),
	billing.grant_duty('regress_acme', 'regress_ada', 'contract_manager'),
	billing.grant_duty('regress_acme', 'regress_bob', 'admin');
SELECT billing.grant_duty('regress_acme', 'regress_ada', 'approver');
SELECT billing.grant_duty('regress_acme', 'regress_ada', 'astronaut');

-- An admin of the entity grants its duties, but none to themselves.
SET SESSION AUTHORIZATION regress_bob;
SELECT billing.grant_duty('regress_acme', 'regress_bob', 'reader');
SELECT billing.grant_duty('regress_acme', 'regress_shop', 'application');
SELECT billing.revoke_duty('regress_acme', 'regress_ada', 'contract_manager');
SELECT p.code AS person, a.duty, a.valid_to IS NOT NULL AS has_ended
	FROM billing.duty_assignment a JOIN billing.person p USING (person_id) ORDER BY p.code, a.duty;

-- Whoever lacks a duty is told which, and where.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.has_duty('regress_acme', 'biller'), billing.has_duty('regress_acme', 'contract_manager');
SELECT billing.add_customer('regress_acme', 'c1', 'Customer');
SELECT billing.create_entity('regress_mine', 'Mine', 'EUR', 'Europe/Berlin');

-- A pooled application logs in once and acts for its users until the transaction ends.
SET SESSION AUTHORIZATION regress_shop;
SELECT billing.act_as('regress_ada');
SELECT billing.current_actor(), session_user, billing.has_duty('regress_acme', 'biller');
SELECT billing.act_as(NULL);
SELECT billing.current_actor(), billing.has_duty('regress_acme', 'biller');
-- Nobody else may.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.act_as('regress_bob');
-- Changing the current role changes nothing: the session user counts.
RESET SESSION AUTHORIZATION;
SET ROLE regress_ada;
SELECT current_user, billing.current_actor();
RESET ROLE;

-- Tables are read freely, within one's entities, and written by functions. Some of the master data may be edited.
SET SESSION AUTHORIZATION regress_bob;
UPDATE billing.legal_entity SET city = 'Berlin' RETURNING code, city;
UPDATE billing.legal_entity SET currency = 'USD';
DELETE FROM billing.duty_assignment;
RESET SESSION AUTHORIZATION;
INSERT INTO billing.person (code, name) VALUES ('regress_eve', 'Eve');

-- Amounts are rounded once, to the currency's minor unit: half away from zero, or half to even.
SELECT amount, billing.round_amount(amount, 2) AS half_up, billing.round_amount(amount, 2, 'half_even') AS half_even
	FROM unnest('{2.344,2.345,2.355,-2.345,0.005}'::numeric[]) AS amount;
SELECT y.currency, y.minor_unit, billing.round_amount(1234.5678, y.minor_unit)
	FROM billing.currency y WHERE y.currency IN ('JPY', 'EUR', 'BHD') ORDER BY y.minor_unit;

-- A share of days is computed to 40 decimals and rounded once: 10 of 30 days of 100 are 33.33.
SELECT billing.round_amount(billing.prorate(100, 10, 30), 2) AS third, billing.prorate(90, 10, 30) AS exact;

-- Billing periods are counted from the anchor, never chained: a day that a month lacks becomes its last.
SELECT n, billing.period_start('2024-01-31', 'month', 1, n) AS monthly, billing.period_start('2024-02-29', 'year', 1, n) AS yearly,
	billing.period_start('2024-01-31', 'quarter', 1, n) AS quarterly
	FROM generate_series(-1, 4) AS n;
SELECT billing.period_index('2024-01-31', 'month', 1, '2024-02-28') AS before, billing.period_index('2024-01-31', 'month', 1, '2024-02-29') AS from_then;
SELECT billing.period_start('2024-01-31', 'fortnight', 1, 1);
SELECT billing.period_start('infinity', 'month', 1, 1);

-- Like fsck: every invariant, how often it is violated, and an example.
SELECT bool_and(violations = 0) AS clean FROM billing.verify('regress_acme');
ROLLBACK;
