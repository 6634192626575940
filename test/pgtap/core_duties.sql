-- Who acts, and what they may do: persons and logins, duties and their validity, acting for others.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(151);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin'), billing.create_entity('other', 'Other', 'EUR', 'Pacific/Kiritimati');
SELECT pg_temp.staff('acme');
SELECT pg_temp.stock('acme');

-- The actor
SELECT is(billing.current_actor(), NULL, 'a superuser is nobody');
SELECT is(pg_temp.told('ada', 'SELECT billing.current_actor()'), 'ada', 'the person of the login acts');
SELECT is(pg_temp.try(NULL, $$SELECT billing.add_customer('acme', 'x', 'X')$$), 'ZB014', 'a superuser who is nobody''s login has no duty');
SELECT lives_ok($$SELECT billing.add_login('ada', 'pg_monitor')$$, 'a person has several logins');
SELECT is(pg_temp.try(NULL, $$SELECT billing.add_login('bob', 'pg_monitor')$$), 'ZB009', 'a login has one person');
SELECT is(pg_temp.try(NULL, $$SELECT billing.add_login('bob', 'no such role')$$), 'ZB002', 'a login is a role');
SELECT is(pg_temp.try('ada', format($$SELECT billing.add_login('ada', %L)$$, pg_temp.role_of('nob'))), 'ZB003', 'logins are given by administrators');
SELECT is(pg_temp.try('adm', $$SELECT billing.add_person('eve', 'Eve')$$), 'ZB003', 'an admin of an entity makes no persons');

-- The session user counts, not the current role and not a setting
DO $$ BEGIN EXECUTE format('GRANT %I TO %I', pg_temp.role_of('bob'), pg_temp.role_of('ada')); END $$;
CREATE FUNCTION pg_temp.actor_after_set_role() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of('ada'));
	EXECUTE format('SET LOCAL ROLE %I', pg_temp.role_of('bob'));
	answer := current_user || ' ' || billing.current_actor() || ' ' || billing.has_duty('acme', 'approver');
	RESET ROLE;
	RESET SESSION AUTHORIZATION;
	RETURN answer;
END $$;
SELECT is(pg_temp.actor_after_set_role(), pg_temp.role_of('bob') || ' ada false', 'SET ROLE to a member changes neither actor nor duties');
SELECT is(pg_temp.told('ada', $$SELECT set_config('billing.actor', 'bob', true)$$), 'bob', 'anybody may make up a setting');
SELECT is(pg_temp.told('ada', $$SELECT billing.current_actor() FROM set_config('billing.actor', 'bob', true)$$), 'ada', 'it forges nobody');
SELECT is(pg_temp.try('ada', $$SELECT set_config('billing_erp.actor', 'bob', true)$$), '42602', 'nor can one be made up among those of the extension');
SELECT matches(pg_temp.told('ada', $$SELECT set_config('billing_erp.restoring', 'on', true)$$), '^42501', 'restoring is a setting of superusers');
SELECT matches(pg_temp.told('ada', $$SELECT billing.pre_restore()$$), '^ZB003', 'and pre_restore() theirs');

-- A duty is held in an entity
SELECT is(pg_temp.told('ada', $$SELECT billing.has_duty('acme', 'biller')$$), 'true', 'what was granted is held');
SELECT is(pg_temp.told('ada', $$SELECT billing.has_duty('acme', 'approver')$$), 'false', 'what was not is not');
SELECT is(pg_temp.try('ada', $$SELECT billing.has_duty('other', 'biller')$$), 'ZB002', 'an entity without a duty is not there');
SELECT is(pg_temp.try('ada', $$SELECT billing.add_customer('other', 'x', 'X')$$), 'ZB002', 'nor can anything be done in it');
SELECT is(pg_temp.told('rea', $$SELECT billing.add_customer('acme', 'x', 'X')$$),
	'ZB003 person "rea" does not hold the duty contract_manager in entity "acme"', 'who lacks a duty is told which and where');
SELECT is(pg_temp.told('rea', $$UPDATE billing.customer SET name = 'X'$$),
	'ZB003 person "rea" does not hold the duty contract_manager in entity "acme"', 'also for plain SQL');
SELECT is(pg_temp.told('rea', 'SELECT count(*) FROM billing.customer'), '1', 'a reader reads');
SELECT is(pg_temp.told('nob', 'SELECT count(*) FROM billing.customer'), '0', 'a person without a duty sees nothing');

-- Which function needs which duty: everybody else is refused
SELECT is(pg_temp.try(person, statement), 'ZB003', format('%s may not: %s', person, statement))
FROM (VALUES
	('biller', $$CALL billing.run_billing('acme', '2026-01-01')$$),
	('biller', $$SELECT billing.validate_invoices('acme')$$),
	('biller', $$SELECT billing.issue_invoices('acme')$$),
	('biller', $$SELECT billing.ingest_usage('acme', '[]')$$),
	('biller', $$SELECT billing.replay_usage('acme')$$),
	('price_manager', $$SELECT billing.add_product('acme', 'x', 'X')$$),
	('price_manager', $$SELECT billing.add_meter('acme', 'x', 'X')$$),
	('price_manager', $$SELECT billing.add_tax_code('acme', 'x', 'S', 'X')$$),
	('price_manager', $$SELECT billing.add_tax_rate('acme', 'std', 1, '1990-01-01', '1990-02-01')$$),
	('price_manager', $$SELECT billing.add_price_book('acme', 'x', 'X', 'EUR')$$),
	('contract_manager', $$SELECT billing.add_account('acme', 'x', 'c1', 'EUR')$$),
	('contract_manager', $$SELECT billing.create_contract('acme', 'x', 'a1', '2026-01-01')$$),
	('admin', $$SELECT billing.grant_duty('acme', 'nob', 'reader')$$),
	('admin', $$SELECT billing.revoke_duty('acme', 'ada', 'biller')$$),
	('admin', $$UPDATE billing.legal_entity SET auto_approve_limit = 1000000$$)
) AS c (duty, statement), unnest('{ada,bob,adm,rea,aud,app}'::text[]) AS person
WHERE NOT EXISTS (SELECT FROM billing.duty_assignment a JOIN billing.person p USING (person_id) WHERE p.code = person AND a.duty = c.duty)
	AND NOT (person = 'app' AND statement ~ '_usage');

-- From a day to the day before another, in the entity's time zone
CREATE FUNCTION pg_temp.today(zone text) RETURNS date LANGUAGE sql AS $$ SELECT (now() AT TIME ZONE zone)::date $$;
SELECT billing.grant_duty('other', 'nob', 'reader', valid_from => pg_temp.today('Pacific/Kiritimati'), valid_to => pg_temp.today('Pacific/Kiritimati') + 1);
SELECT is(pg_temp.told('nob', $$SELECT billing.has_duty('other', 'reader')$$), 'true', 'a duty of one day, on that day');
SELECT billing.revoke_duty('other', 'nob', 'reader');
SELECT is(pg_temp.try('nob', $$SELECT billing.has_duty('other', 'reader')$$), 'ZB002', 'what is revoked today ended yesterday');
SELECT billing.grant_duty('other', 'nob', 'biller', valid_from => pg_temp.today('Pacific/Kiritimati') + 1);
SELECT is(pg_temp.try('nob', $$SELECT billing.issue_invoices('other')$$), 'ZB002', 'what begins tomorrow does not count today');
SELECT billing.grant_duty('other', 'nob', 'collector', valid_from => '2020-01-01', valid_to => pg_temp.today('Pacific/Kiritimati'));
SELECT is(pg_temp.try('nob', $$SELECT billing.issue_invoices('other')$$), 'ZB002', 'what ended yesterday neither');
SELECT is(pg_temp.try(NULL, $$SELECT billing.revoke_duty('other', 'nob', 'accountant')$$), 'ZB002', 'what is not held cannot be revoked');
SELECT is(pg_temp.try(NULL, $$SELECT billing.grant_duty('other', 'nob', 'biller', '2030-01-01')$$), 'ZB013', 'the same duty is not granted twice for a day');
SELECT lives_ok($$SELECT billing.revoke_duty('other', 'nob', 'biller')$$, 'a duty can be taken back before it begins');
SELECT is((SELECT count(*) FROM billing.duty_assignment a JOIN billing.person p USING (person_id) WHERE p.code = 'nob' AND duty = 'biller' AND valid_from = valid_to), 1::bigint, 'it stays on record, for no day');
SELECT is(pg_temp.try(NULL, $$SELECT billing.grant_duty('other', 'nob', 'reader', '2026-02-01', '2026-02-01')$$), 'ZB001', 'a duty of no day is not granted');
SELECT is(pg_temp.try(NULL, $$SELECT billing.grant_duty('other', 'nob', 'biller', approval_limit => 5)$$), 'ZB001', 'only an approver has a limit');
SELECT is(pg_temp.try(NULL, $$SELECT billing.grant_duty('other', 'nob', 'approver', approval_limit => -5)$$), 'ZB001', 'no limit is negative');

-- Nobody grants to themselves; an admin grants also to those whom they do not see yet
SELECT is(pg_temp.try('adm', $$SELECT billing.grant_duty('acme', 'adm', 'reader')$$), 'ZB004', 'nobody grants a duty to themselves');
SELECT is(pg_temp.told('adm', $$SELECT billing.grant_duty('acme', 'nob', 'reader')$$), '', 'an admin grants a first duty');
SELECT is(pg_temp.try('adm', $$SELECT billing.grant_duty('other', 'nob', 'admin')$$), 'ZB002', 'not in another entity');

-- Duties that exclude each other, every pair, either way round; on other days and in other entities they do not
SELECT billing.add_person('pair', 'Pair');
CREATE FUNCTION pg_temp.pair(a text, b text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM billing.grant_duty('acme', 'pair', a, '2030-01-01', '2031-01-01'), billing.grant_duty('acme', 'pair', b, '2031-01-01', '2032-01-01'),
		billing.grant_duty('other', 'pair', b, '2030-01-01', '2031-01-01');
	BEGIN
		PERFORM billing.grant_duty('acme', 'pair', b, '2030-12-31', '2031-01-01');
		RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = 'both were granted';
	EXCEPTION WHEN SQLSTATE 'ZB004' THEN
		-- take all back
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = 'refused';
	END;
EXCEPTION WHEN SQLSTATE 'P0001' OR SQLSTATE 'P0002' THEN
	RETURN SQLERRM;
END $$;
SELECT is(pg_temp.pair(a, b), 'refused', format('%s and then %s', a, b))
FROM (SELECT duty AS a, conflict_duty AS b FROM billing.duty_conflict UNION ALL SELECT conflict_duty, duty FROM billing.duty_conflict) AS c
ORDER BY a, b;
SELECT is(pg_temp.told(NULL, $$SELECT billing.grant_duty('acme', 'ada', 'approver', '2025-01-01', '2025-01-02')$$),
	'ZB004 person "ada" cannot hold the duty approver beside the duty biller', 'also for past days, and the error says which');
-- Who approves what somebody bills: both in the table
SELECT set_has('SELECT duty, conflict_duty FROM billing.duty_conflict',
	$$VALUES ('approver', 'biller'), ('approver', 'contract_manager'), ('approver', 'price_manager'), ('admin', 'approver')$$, 'approving excludes making');

-- An application acts for persons until its transaction ends
SELECT is(pg_temp.told('app', $$SELECT billing.has_duty('acme', 'biller') FROM billing.act_as('ada')$$), 'true', 'an application acts for a person');
SELECT is(pg_temp.try('ada', $$SELECT billing.act_as('bob')$$), 'ZB014', 'nobody else acts for others');
SELECT is(pg_temp.try('app', $$SELECT billing.act_as('nobody at all')$$), 'ZB002', 'not for somebody who does not exist');
SELECT is(pg_temp.try('app', $$SELECT billing.act_as('system')$$), 'ZB014', 'not for the system');
SELECT billing.grant_duty('other', 'ada', 'biller');
SELECT is(pg_temp.try('app', $$SELECT billing.has_duty('other', 'biller') FROM billing.act_as('ada')$$), 'ZB002', 'it reaches only entities where it is an application itself');
SELECT is(pg_temp.told('ada', $$SELECT billing.has_duty('other', 'biller')$$), 'true', 'while the person reaches them');

CREATE FUNCTION pg_temp.acting(what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := '';
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of('app'));
	PERFORM billing.act_as(NULL);
	IF what = 'rollback' THEN
		BEGIN
			PERFORM billing.act_as('ada');
			answer := billing.current_actor();
			RAISE EXCEPTION 'roll back';
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
		answer := answer || ' ' || billing.current_actor();
	ELSIF what = 'nested' THEN
		PERFORM billing.act_as('ada');
		BEGIN
			BEGIN
				PERFORM billing.act_as('bob');
			END;
			BEGIN
				PERFORM billing.act_as('lim');
				RAISE EXCEPTION 'roll back';
			EXCEPTION WHEN raise_exception THEN
				answer := billing.current_actor();
			END;
			RAISE EXCEPTION 'roll back';
		EXCEPTION WHEN raise_exception THEN
			answer := answer || ' ' || billing.current_actor();
		END;
		PERFORM billing.act_as(NULL);
		answer := answer || ' ' || billing.current_actor();
	ELSIF what = 'kept' THEN
		BEGIN
			PERFORM billing.act_as('ada');
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
		answer := billing.current_actor();
		PERFORM billing.act_as(NULL);
	END IF;
	RESET SESSION AUTHORIZATION;
	RETURN answer;
END $$;
SELECT is(pg_temp.acting('rollback'), 'ada app', 'a subtransaction that is rolled back takes its act_as() with it');
SELECT is(pg_temp.acting('nested'), 'bob ada app', 'whoever was acted for before comes back');
SELECT is(pg_temp.acting('kept'), 'ada', 'one that is not hands it on');

-- Taking the application's duty away takes effect at once
SELECT billing.revoke_duty('acme', 'app', 'application');
SELECT is(pg_temp.try('app', $$SELECT billing.act_as('ada')$$), 'ZB014', 'an application no more');

-- Both are on record: who acted, and who was logged in
SELECT billing.grant_duty('other', 'app', 'application');
SELECT billing.grant_duty('other', 'ada', 'contract_manager');
SELECT pg_temp.must('app', $$SELECT billing.add_customer('other', 'x', 'X') FROM billing.act_as('ada')$$);
SELECT is((SELECT actor || ' by ' || login FROM billing.audit_log WHERE object_type = 'customer' ORDER BY audit_id DESC LIMIT 1), 'ada by ' || pg_temp.role_of('app'), 'the audit log has both');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
