-- The audit log: who did what, when and why; records are never changed, and a changed one is found.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_shop', 'The shop');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_shop LOGIN IN ROLE billing_user;
SELECT billing.add_login('regress_ada', 'regress_ada'), billing.add_login('regress_shop', 'regress_shop'),
	billing.grant_duty('regress_acme', 'regress_ada', 'contract_manager'),
	billing.grant_duty('regress_acme', 'regress_shop', 'application');

-- Every row of master data that is written leaves a record, by whatever way it was written.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.add_customer('regress_acme', 'c1', 'Customer', 'Street 1', '10115', 'Berlin', 'DE');
UPDATE billing.customer SET city = 'Potsdam' WHERE code = 'c1';
-- What changes nothing leaves none.
UPDATE billing.customer SET city = 'Potsdam' WHERE code = 'c1';

-- Who acted and who was logged in are two things.
SET SESSION AUTHORIZATION regress_shop;
SELECT billing.act_as('regress_ada');
UPDATE billing.customer SET city = 'Berlin' WHERE code = 'c1';
SELECT billing.act_as(NULL);
SET SESSION AUTHORIZATION regress_ada;
SELECT actor, login, action, object_type, before ->> 'city' AS before, after ->> 'city' AS after
	FROM billing.audit_trail WHERE object_type = 'customer' ORDER BY audit_id;
-- The log itself does not have what tells of a person: it has a commitment to it, so that the value can be erased.
SELECT after -> 'code' AS code, after -> 'city' ->> 'personal' ~ '^[0-9a-f]{64}$' AS is_commitment
	FROM billing.audit_log WHERE object_type = 'customer' AND action = 'insert';
RESET SESSION AUTHORIZATION;
-- Entity 0 is the installation: its records are for administrators. A superuser is no person, so the actor is unknown.
SELECT actor, action, object_type, after ->> 'code' AS code
	FROM billing.audit_log WHERE entity_id = 0 AND after ->> 'code' LIKE 'regress%' ORDER BY audit_id;

-- Nobody edits the log: not people, not administrators.
SET SESSION AUTHORIZATION regress_ada;
INSERT INTO billing.audit_log (entity_id, action, object_type) SELECT entity_id, 'nothing', 'customer' FROM billing.legal_entity;
UPDATE billing.audit_log SET actor = 'somebody else';
RESET SESSION AUTHORIZATION;
UPDATE billing.audit_log SET actor = 'somebody else';
DELETE FROM billing.audit_log;
TRUNCATE billing.audit_log;
SET ROLE billing_owner;
UPDATE billing.audit_log SET actor = 'somebody else';
RESET ROLE;

-- Each record has a hash of all it says, so that a change behind the extension's back is found.
SELECT DISTINCT octet_length(hash) FROM billing.audit_log;
SELECT invariant, violations FROM billing.verify('regress_acme') WHERE invariant LIKE 'audit%';
SET session_replication_role = replica;
UPDATE billing.audit_log SET before = '{"city": "Hamburg"}' WHERE object_type = 'customer' AND login = 'regress_shop';
RESET session_replication_role;
SELECT invariant, violations FROM billing.verify('regress_acme') WHERE invariant LIKE 'audit%';
ROLLBACK;
