-- Four eyes by person, whatever the way in: each attack is refused, and through billing.decide() the refusal is on record.
BEGIN;
\ir ../lib/persons.sql
\ir ../lib/approvals.sql
SELECT plan(54);
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver", "needed": 2}]');
CREATE FUNCTION pg_temp.refusals() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM billing.audit_log WHERE action LIKE 'refused\_%' $$;
-- A decision by somebody who logs in as one role and turns into another
CREATE FUNCTION pg_temp.as_role(person text, role text, doc text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	EXECUTE format('SET LOCAL ROLE %I', pg_temp.role_of(role));
	EXECUTE format('SELECT coalesce(error, outcome) FROM billing.decide(%L, ARRAY[%L], %L)', 'acme', doc, 'approve') INTO answer;
	RESET ROLE;
	RESET SESSION AUTHORIZATION;
	RETURN answer;
END $$;
CREATE FUNCTION pg_temp.as_app(doc text, person text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('app', format('SELECT coalesce(error, outcome) FROM billing.act_as(%L), billing.decide(%L, ARRAY[%L], %L)', person, 'acme', doc, 'approve'));
$$;
CREATE FUNCTION pg_temp.let_app_go() RETURNS void LANGUAGE sql AS $$ SELECT pg_temp.told('app', 'SELECT billing.act_as(NULL)') $$;

-- The maker, by every way in: an approver by now, with a second login, a member of approvers' roles three deep, through an application
SELECT pg_temp.waiting('s1', 1500) AS doc \gset
SELECT billing.revoke_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('acme', 'ada', 'approver');
DO $$ BEGIN
	EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('ada_at_home'));
	EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('bob_at_home'));
	PERFORM billing.add_login('ada', pg_temp.role_of('ada_at_home')), billing.add_login('bob', pg_temp.role_of('bob_at_home'));
	EXECUTE format('CREATE ROLE %I', pg_temp.role_of('inner'));
	EXECUTE format('CREATE ROLE %I', pg_temp.role_of('outer'));
	EXECUTE format('GRANT %I TO %I', pg_temp.role_of('cat'), pg_temp.role_of('inner'));
	EXECUTE format('GRANT %I TO %I', pg_temp.role_of('inner'), pg_temp.role_of('outer'));
	EXECUTE format('GRANT %I TO %I, %I', pg_temp.role_of('outer'), pg_temp.role_of('ada'), pg_temp.role_of('bob'));
END $$;
SELECT is(pg_temp.decide('ada', :'doc'), 'ZB004', 'not the maker');
SELECT is(pg_temp.decide('ada', :'doc', 'reject'), 'ZB004', 'who does not reject it either');
SELECT is(pg_temp.decide('ada_at_home', :'doc'), 'ZB004', 'not by another login of theirs');
SELECT is(pg_temp.as_role('ada', 'cat', :'doc'), 'ZB004', 'not by SET ROLE to an approver, of whose role they are a member three deep');
SELECT is(pg_temp.as_app(:'doc', 'ada'), 'ZB004', 'not through an application');
SELECT pg_temp.let_app_go();
SELECT is(pg_temp.refusals(), 5::bigint, 'each attempt is on record');
SELECT is((SELECT string_agg(DISTINCT after ->> 'message', ', ') FROM billing.audit_log WHERE action = 'refused_approve'), 'person "ada" cannot approve a document of their own making', 'with the reason');
SELECT is((SELECT string_agg(DISTINCT actor, ' ') FROM billing.audit_log WHERE action LIKE 'refused\_%'), 'ada', 'and the person behind all of them');
SELECT billing.revoke_duty('acme', 'ada', 'approver');
SELECT billing.grant_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;

-- One approver twice
SELECT is(pg_temp.decide('bob', :'doc'), 'recorded', 'bob is the first');
SELECT is(pg_temp.decide('bob', :'doc'), 'ZB004', 'and not the second');
SELECT is(pg_temp.decide('bob_at_home', :'doc'), 'ZB004', 'not by another login');
SELECT is(pg_temp.as_role('bob', 'cat', :'doc'), 'ZB004', 'not by SET ROLE to cat');
SELECT is(pg_temp.as_app(:'doc', 'bob'), 'ZB004', 'not through an application');
SELECT pg_temp.let_app_go();
SELECT is(pg_temp.decide('bob', :'doc', 'reject'), 'ZB004', 'nor changes his mind');
SELECT pg_temp.must('cat', 'SELECT billing.delegate(''acme'', ''bob'', current_date, current_date + 1)');
SELECT is(pg_temp.decide('bob', :'doc'), 'ZB004', 'not in the place of cat');
SELECT is(pg_temp.told('bob', 'SELECT billing.delegate(''acme'', ''cat'', current_date, current_date + 1)'), 'ZB013 person "cat" has delegated to the delegator, themselves or through others', 'there is no back and forth');
SELECT pg_temp.must('bob', 'SELECT billing.delegate(''acme'', ''man'', current_date, current_date + 1)');
SELECT is(pg_temp.decide('man', :'doc'), 'ZB004', 'nor another in the place of bob');
SELECT is(pg_temp.decide('cat', :'doc'), 'approved', 'cat by herself is another person');
SELECT is((SELECT count(DISTINCT person_id) FROM billing.approval_decision WHERE document_id = pg_temp.id(:'doc') AND counts), 2::bigint, 'two persons');
SELECT billing.end_delegation('acme', delegation_id) FROM billing.delegation;

-- A login that acts for others is a person too
SELECT billing.grant_duty('acme', 'app', 'approver');
SELECT pg_temp.waiting('s2', 1500) AS doc \gset
SELECT is(pg_temp.as_app(:'doc', 'bob'), 'recorded', 'an application approves for bob');
SELECT pg_temp.let_app_go();
SELECT is(pg_temp.decide('app', :'doc'), 'ZB004', 'and not in its own name as well');
SELECT is(pg_temp.decide('cat', :'doc'), 'approved', 'cat does');
SELECT pg_temp.waiting('s3', 1500) AS doc \gset
SELECT is(pg_temp.decide('app', :'doc'), 'recorded', 'an application approves in its own name');
SELECT is(pg_temp.as_app(:'doc', 'bob'), 'ZB004', 'and not for bob as well');
SELECT pg_temp.let_app_go();
SELECT is(pg_temp.reject('bob', :'doc') || pg_temp.state(:'doc'), 'on_hold', 'bob rejects');
SELECT billing.revoke_duty('acme', 'app', 'approver');

-- The duty that counts is today's
SELECT pg_temp.waiting('s4', 1500) AS doc \gset
SELECT billing.revoke_duty('acme', 'bob', 'approver');
SELECT is(pg_temp.told('bob', format('SELECT * FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'ZB002 entity "acme" does not exist', 'who holds no duty any more does not see the entity');
SELECT billing.grant_duty('acme', 'bob', 'approver', '2027-06-01');
SELECT is(pg_temp.try('bob', format('SELECT * FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'ZB002', 'nor who holds one from some day on');
SELECT billing.revoke_duty('acme', 'bob', 'approver'), billing.grant_duty('acme', 'bob', 'approver');

-- Past the functions
SELECT is(pg_temp.try('bob', s), c, s) FROM (VALUES
	('INSERT INTO billing.approval_decision (entity_id, request_id, person_id, document_id, document_version, given_for_version, decision, counts, login_person_id) SELECT entity_id, request_id, 1, document_id, document_version, 1, ''approve'', true, 1 FROM billing.approval_request LIMIT 1', '42501'),
	('UPDATE billing.approval_request SET needed = 1', '42501'), ('UPDATE billing.approval_request SET state = ''approved'', closed_at = now()', '42501'), ('DELETE FROM billing.approval_request', '42501'),
	('UPDATE billing.duty_assignment SET approval_limit = NULL', '42501'), ('INSERT INTO billing.delegation SELECT * FROM billing.delegation', '42501'),
	('UPDATE billing.approved_on_day SET amount = 0', '42501'), ('TRUNCATE billing.approval_decision', '42501'), ('SELECT billing_internal.escalate_approvals()', '42501'),
	('UPDATE billing.document SET state = ''approved''', '42501')) AS v (s, c);

-- Whoever sets a policy does not approve alone by it
SELECT pg_temp.must('adm', $$SELECT billing.set_approval_policy('acme', 'mine', 'invoice', 'amount >= 5000', '[{"person": "adm"}]', 1)$$);
SELECT pg_temp.waiting('s5', 6000) AS doc \gset
SELECT is(pg_temp.told('adm', format('SELECT message FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'person "adm" cannot approve alone under a policy that they set', 'an admin does not name themselves as the only approver');
SELECT is(pg_temp.state(:'doc'), 'pending_approval', 'the document waits');

-- The limit of a day: by themselves, through delegates, with and without a policy
SELECT billing.revoke_duty('acme', 'lim', 'approver'), billing.grant_duty('acme', 'lim', 'approver', approval_limit => 1600, daily_limit => 2500);
SELECT pg_temp.waiting('l1', 1500) AS one \gset
SELECT pg_temp.waiting('l2', 1000.01) AS two \gset
SELECT pg_temp.waiting('l3', 600) AS three \gset
SELECT pg_temp.waiting('l4', 400) AS four \gset
SELECT pg_temp.waiting('l5', 0.01) AS five \gset
SELECT is(pg_temp.decide('lim', :'one'), 'recorded', '1500 of 2500');
SELECT is(pg_temp.told('lim', format('SELECT message FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'two')), 'person "lim" cannot approve a document beyond the limit of a day', '1000.01 more are a cent too many');
SELECT is(pg_temp.decide('lim', :'three'), 'approved', '600 without a policy');
SELECT pg_temp.must('lim', 'SELECT billing.delegate(''acme'', ''man'', current_date, current_date + 1)');
SELECT is(pg_temp.decide('man', :'two'), 'ZB004', 'a delegate has no other limit');
SELECT is(pg_temp.decide('lim', :'four'), 'approved', '400 more are the last');
SELECT is((SELECT amount::numeric FROM billing.approved_on_day), 2500::numeric, 'the day is full');
SELECT is(pg_temp.decide('lim', :'five'), 'ZB004', 'for a cent');
SELECT is(pg_temp.decide('lim', :'two', 'reject'), 'on_hold', 'a rejection needs no limit');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- What somebody changes past all that, billing.verify() finds
CREATE FUNCTION pg_temp.found(damage text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE damage;
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(invariant, '; ') INTO answer FROM billing.verify('acme') WHERE violations > 0 AND invariant ~ 'approv|decided|delegat';
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT matches(pg_temp.found(d), w, w) FROM (VALUES
	('DELETE FROM billing.approval_decision WHERE person_id = (SELECT person_id FROM billing.person WHERE code = ''cat'')', 'has the approvals that it needed'),
	('UPDATE billing.approval_decision SET counts = false', 'has the approvals that it needed'),
	('UPDATE billing.approval_request SET state = ''open'', closed_at = NULL WHERE state = ''approved''', 'was approved with all of them'),
	('UPDATE billing.approval_decision SET person_id = (SELECT person_id FROM billing.person WHERE code = ''ada'') WHERE person_id = (SELECT person_id FROM billing.person WHERE code = ''cat'')', 'nobody approved a document that they made'),
	('UPDATE billing.document SET version = version + 1 WHERE state = ''pending_approval''', 'of the version that waits'),
	('UPDATE billing.approval_decision SET on_behalf_of = (SELECT person_id FROM billing.person WHERE code = ''dan'') WHERE person_id = (SELECT person_id FROM billing.person WHERE code = ''cat'')', 'was delegated to them')) AS v (d, w);
SELECT * FROM finish();
ROLLBACK;
