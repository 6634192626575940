-- Who may approve: a person other than the maker, however they come in, up to their limit; and what needs nobody.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(52);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
-- No tax, so that totals are what is written here
SELECT pg_temp.must('ada', $$SELECT billing.add_tax_code('acme', 'zero', 'Z', 'Zero'), billing.add_tax_rate('acme', 'zero', 0, '2007-01-01'),
	billing.add_product('acme', 'free', 'Free of tax', tax_code => 'zero')$$);

-- A draft of an amount, made by a person: its reference
CREATE FUNCTION pg_temp.draft(code text, amount numeric, currency text DEFAULT 'EUR', maker text DEFAULT 'ada', before text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', %3$L), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
		billing.add_item('acme', %1$L, 'i', 'free', 'one_time', sign(%2$s::numeric), pg_temp.each(abs(%2$s)::text))$q$, code, amount, currency));
	IF before <> '' THEN
		PERFORM pg_temp.must(maker, before);
	END IF;
	PERFORM pg_temp.must(maker, 'CALL billing.run_billing(''acme'', ''2026-01-01'')');
	RETURN (SELECT reference FROM billing.invoice_overview WHERE account = code);
END $$;
CREATE FUNCTION pg_temp.approve(person text, doc text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT billing.approve_invoice(%L, %L)', 'acme', doc));
$$;
CREATE FUNCTION pg_temp.validated(doc text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT trim(concat_ws('' '', CASE approved WHEN 1 THEN ''approved'' END, CASE pending WHEN 1 THEN ''pending'' END, CASE on_hold WHEN 1 THEN ''on hold'' END)) FROM billing.validate_invoices(%L, %L)', 'acme', doc));
$$;

-- By amount: an entity's limit of 270 for nobody, a person's of 1000, and none
UPDATE billing.legal_entity SET auto_approve_limit = 270 WHERE code = 'acme';
CREATE TEMP TABLE cases (code, amount, currency, validated, by_lim, by_bob) AS VALUES
	('a', 269.99, 'EUR', 'approved', NULL, NULL),
	('b', 270.00, 'EUR', 'approved', NULL, NULL),
	('c', 270.01, 'EUR', 'pending', '', ''),
	('d', 1000.00, 'EUR', 'pending', '', ''),
	('e', 1000.01, 'EUR', 'pending', 'ZB004', ''),
	('f', -270.00, 'EUR', 'approved', NULL, NULL),
	('g', -270.01, 'EUR', 'pending', '', ''),
	('h', -1000.01, 'EUR', 'pending', 'ZB004', ''),
	('i', 1.00, 'USD', 'pending', 'ZB004', ''),
	('j', 5000.00, 'JPY', 'pending', 'ZB004', '');
ALTER TABLE cases ADD COLUMN doc text;
UPDATE cases SET doc = pg_temp.draft(code, amount, currency);
SELECT is(pg_temp.validated(doc), validated, format('%s %s is %s', amount, currency, validated)) FROM cases ORDER BY code;
CREATE FUNCTION pg_temp.could_approve(person text, doc text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	answer := left(pg_temp.approve(person, doc), 5);
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT is(pg_temp.could_approve('lim', doc), by_lim, format('an approver up to 1000 EUR on %s %s', amount, currency)) FROM cases WHERE validated = 'pending' ORDER BY code;
SELECT is(pg_temp.could_approve('bob', doc), by_bob, format('an approver without a limit on %s %s', amount, currency)) FROM cases WHERE validated = 'pending' ORDER BY code;
SELECT is((SELECT string_agg(DISTINCT s.action, ' ') FROM billing.document_step s WHERE s.to_state = 'approved'), 'auto_approve', 'what needed nobody was approved by the entity''s limit');
UPDATE billing.legal_entity SET auto_approve_limit = 0 WHERE code = 'acme';
SELECT is(pg_temp.validated(pg_temp.draft('k', 0.01)), 'pending', 'a limit of 0 sends all to a person');

-- The limit that counts is today's
SELECT billing.revoke_duty('acme', 'lim', 'approver'), billing.grant_duty('acme', 'lim', 'approver', approval_limit => 5000);
SELECT is(pg_temp.could_approve('lim', doc), '', 'a raised limit') FROM cases WHERE code = 'e';
SELECT billing.revoke_duty('acme', 'lim', 'approver'), billing.grant_duty('acme', 'lim', 'approver', approval_limit => 0);
SELECT is(pg_temp.could_approve('lim', doc), 'ZB004', 'a limit of 0 is a limit') FROM cases WHERE code = 'c';

-- The maker is a person, not a login: ada made these, and is an approver from now on
SELECT billing.revoke_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('acme', 'ada', 'approver');
SELECT is(pg_temp.approve('ada', doc), 'ZB004 person "ada" cannot approve a document of their own making', 'not by the login that made it') FROM cases WHERE code = 'c';
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('ada_at_home')); PERFORM billing.add_login('ada', pg_temp.role_of('ada_at_home')); END $$;
SELECT is(pg_temp.approve('ada_at_home', doc), 'ZB004 person "ada" cannot approve a document of their own making', 'not by another login of theirs') FROM cases WHERE code = 'c';
SELECT is(pg_temp.told('app', format('SELECT billing.approve_invoice(%L, %L) FROM billing.act_as(%L)', 'acme', doc, 'ada')), 'ZB004 person "ada" cannot approve a document of their own making', 'not through an application') FROM cases WHERE code = 'c';
DO $$ BEGIN EXECUTE format('GRANT %I TO %I', pg_temp.role_of('bob'), pg_temp.role_of('ada')); END $$;
CREATE FUNCTION pg_temp.approve_as_role(person text, role text, doc text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	EXECUTE format('SET LOCAL ROLE %I', pg_temp.role_of(role));
	PERFORM billing.approve_invoice('acme', doc);
	RETURN 'approved';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.approve_as_role('ada', 'bob', doc), 'ZB004', 'not by SET ROLE to another') FROM cases WHERE code = 'c';
SELECT is(pg_temp.told('ada', format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', doc, 'x')), 'ZB004 person "ada" cannot reject a document of their own making', 'nor may they reject it') FROM cases WHERE code = 'c';
SELECT is(pg_temp.approve('bob', doc), '', 'another person may') FROM cases WHERE code = 'c';

-- What an application made for somebody is made by that person; what it made itself it cannot approve as another
SELECT billing.revoke_duty('acme', 'ada', 'approver');
SELECT billing.grant_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT pg_temp.draft('m', 500, 'EUR', 'app', 'SELECT billing.act_as(''ada'')') AS doc \gset
SELECT pg_temp.told('app', 'SELECT billing.act_as(NULL)');
SELECT is((SELECT maker FROM billing.invoice_overview WHERE account = 'm'), 'ada', 'the person acted for is the maker');
SELECT is(pg_temp.validated(:'doc'), 'pending', 'which waits');
SELECT is(pg_temp.could_approve('bob', :'doc'), '', 'another person may approve it');
SELECT billing.grant_duty('acme', 'app', 'biller');
SELECT pg_temp.draft('n', 500, 'EUR', 'app') AS doc \gset
SELECT is((SELECT maker FROM billing.invoice_overview WHERE account = 'n'), 'app', 'an application may make a document itself');
SELECT is(pg_temp.validated(:'doc'), 'pending', 'which waits too');
SELECT is(pg_temp.told('app', format('SELECT billing.approve_invoice(%L, %L) FROM billing.act_as(%L)', 'acme', :'doc', 'bob')), 'ZB004 person "bob" cannot approve a document of their own making', 'it cannot approve it in another''s name');
SELECT is(pg_temp.could_approve('bob', :'doc'), '', 'that person by themselves may');
SELECT is(pg_temp.told('app', format('SELECT billing.approve_invoice(%L, %L) FROM billing.act_as(%L)', 'acme', doc, 'bob')), '', 'and what others made it approves for them') FROM cases WHERE code = 'd';
SELECT is((SELECT p.code FROM billing.document_step s JOIN billing.person p ON p.person_id = s.actor_id WHERE s.action = 'approve' ORDER BY s.document_id DESC LIMIT 1), 'bob', 'the approver on record is the person acted for');
SELECT pg_temp.told('app', 'SELECT billing.act_as(NULL)');

-- Rejected, mended, checked again, by the same rules
SELECT is(pg_temp.told('bob', format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', doc, 'too much')), '', 'an approver rejects') FROM cases WHERE code = 'e';
SELECT is((SELECT format('%s %s %s', x.kind, x.state, x.detail) FROM billing.exception x JOIN billing.invoice i ON i.entity_id = x.entity_id AND i.invoice_id = x.document_id WHERE i.reference = doc), 'approval_rejected open too much', 'which is an exception with the reason') FROM cases WHERE code = 'e';
SELECT is(pg_temp.told('ada', format('SELECT billing.release_invoice(%L, %L)', 'acme', doc)), '', 'the biller releases') FROM cases WHERE code = 'e';
SELECT is(pg_temp.validated(doc), 'pending', 'validates anew') FROM cases WHERE code = 'e';
SELECT is((SELECT count(*) FROM billing.open_exception WHERE kind = 'approval_rejected'), 0::bigint, 'the exception is settled');
SELECT is(pg_temp.approve('bob', doc), '', 'and it may be approved after all') FROM cases WHERE code = 'e';
SELECT is(pg_temp.told('bob', format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', doc, r)), 'ZB001 ' || m, 'a rejection has a reason') FROM cases, (VALUES (NULL, 'reason must not be null'), ('', 'reason must not be empty')) AS c (r, m) WHERE code = 'g';
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
