-- Who may decide in whose place: from a date to a date, up to an amount, for a duty; never the maker, never twice, never by a chain;
-- and who is absent.
BEGIN;
\ir ../lib/persons.sql
\ir ../lib/approvals.sql
SELECT plan(49);
-- A delegation of days around today
CREATE FUNCTION pg_temp.delegates(person text, delegate text, more text DEFAULT '', first integer DEFAULT -1, last integer DEFAULT 30) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT billing.delegate(''acme'', %L, current_date + %s, current_date + %s%s)', delegate, first, last, more));
$$;
CREATE FUNCTION pg_temp.forget() RETURNS void LANGUAGE sql AS $$
	SELECT billing.end_delegation('acme', delegation_id) FROM billing.delegation WHERE valid_to > greatest(valid_from, current_date);
$$;
SELECT pg_temp.policy('one', 'amount >= 1000', '[{"duty": "approver"}]');

-- Alone by being named
SELECT pg_temp.waiting('d1', 1500) AS doc \gset
SELECT is(pg_temp.approve('man', :'doc'), 'ZB003 person "man" is not asked to approve the document', 'a reader approves nothing');
SELECT matches(pg_temp.delegates('bob', 'man', ', reason => ''on leave'''), '^\d+$', 'bob names man');
SELECT is((SELECT format('%s %s', action, after ->> 'reason') FROM billing.audit_log WHERE object_type = 'delegation'), 'insert on leave', 'which is audited');
SELECT is(pg_temp.must('man', format('SELECT on_behalf_of FROM billing.my_approvals WHERE document = %L', :'doc')), 'bob', 'it is on his list, and in whose place');
SELECT is(pg_temp.approve('man', :'doc') || pg_temp.state(:'doc'), 'approved', 'man approves in the place of bob');
SELECT is((SELECT format('%s for %s', p.code, b.code) FROM billing.approval_decision s JOIN billing.person p USING (person_id) JOIN billing.person b ON b.person_id = s.on_behalf_of WHERE s.document_id = pg_temp.id(:'doc')), 'man for bob', 'both are on record');
SELECT is((SELECT after ->> 'on_behalf_of' FROM billing.audit_log WHERE action = 'approve_request' AND object_id = pg_temp.id(:'doc')::text), 'bob', 'and in the audit log');

-- Its days, its duty, its amount, and the limit of whoever gave it
SELECT pg_temp.forget();
SELECT pg_temp.waiting('d2', 1500) AS doc \gset
SELECT is(pg_temp.approve('man', :'doc'), 'ZB003 person "man" is not asked to approve the document', 'not after its end');
SELECT pg_temp.delegates('bob', 'man', first => 2);
SELECT is(pg_temp.approve('man', :'doc'), 'ZB003 person "man" is not asked to approve the document', 'not before its first day');
SELECT pg_temp.delegates('bob', 'man', ', duty => ''accountant''');
SELECT is(pg_temp.approve('man', :'doc'), 'ZB003 person "man" is not asked to approve the document', 'not for another duty');
SELECT pg_temp.forget(), pg_temp.delegates('bob', 'man', ', duty => ''approver'', max_amount => 1499.99');
SELECT is(pg_temp.approve('man', :'doc'), 'ZB004 person "man" cannot approve a document beyond their limit', 'not beyond its amount');
SELECT pg_temp.forget(), pg_temp.delegates('lim', 'man');
SELECT is(pg_temp.approve('man', :'doc'), 'ZB004 person "man" cannot approve a document beyond their limit', 'not beyond the limit of who gave it');
SELECT pg_temp.forget(), pg_temp.delegates('bob', 'man', ', duty => ''approver'', max_amount => 1500');
SELECT is(pg_temp.approve('man', :'doc') || pg_temp.state(:'doc'), 'approved', 'up to it');

-- The delegate's own duties count
SELECT pg_temp.forget(), pg_temp.hire('bil');
SELECT billing.grant_duty('acme', 'bil', 'biller', '2020-01-01');
SELECT pg_temp.waiting('d3', 1500) AS doc \gset
SELECT pg_temp.delegates('bob', 'bil'), pg_temp.delegates('bob', 'ada'), pg_temp.delegates('bob', 'aud'), pg_temp.delegates('bob', 'adm');
SELECT is(pg_temp.approve('bil', :'doc'), 'ZB004 person "bil" cannot approve a document because of another duty that they hold', 'a biller does not approve in another''s place');
SELECT is(pg_temp.approve('aud', :'doc'), 'ZB004 person "aud" cannot approve a document because of another duty that they hold', 'nor an auditor');
SELECT is(pg_temp.approve('adm', :'doc'), 'ZB004 person "adm" cannot approve a document because of another duty that they hold', 'nor an admin');
SELECT is(pg_temp.approve('ada', :'doc'), 'ZB004 person "ada" cannot approve a document of their own making', 'nor the maker');
SELECT is(pg_temp.reject('ada', :'doc'), 'ZB004 person "ada" cannot reject a document of their own making', 'who cannot reject it either');
SELECT is(pg_temp.state(:'doc'), 'pending_approval', 'it waits');
-- the maker is an approver by now, and names somebody
SELECT billing.revoke_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('acme', 'ada', 'approver');
SELECT pg_temp.forget(), pg_temp.delegates('ada', 'man');
SELECT is(pg_temp.approve('man', :'doc'), 'ZB004 person "man" cannot approve a document in place of its maker', 'nobody approves in the place of the maker');
SELECT pg_temp.forget(), billing.revoke_duty('acme', 'ada', 'approver');
SELECT billing.grant_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;

-- Back and forth, and on and on
SELECT is(pg_temp.delegates('bob', 'bob'), 'ZB001 nobody delegates to themselves', 'not to oneself');
SELECT matches(pg_temp.delegates('bob', 'cat'), '^\d+$', 'bob to cat');
SELECT is(pg_temp.delegates('cat', 'bob'), 'ZB013 person "bob" has delegated to the delegator, themselves or through others', 'not back');
SELECT matches(pg_temp.delegates('cat', 'dan'), '^\d+$', 'cat to dan');
SELECT is(pg_temp.delegates('dan', 'bob'), 'ZB013 person "bob" has delegated to the delegator, themselves or through others', 'not back round a corner');
SELECT matches(pg_temp.delegates('dan', 'bob', '', 30, 40), '^\d+$', 'but when the others have ended');
SELECT pg_temp.forget(), pg_temp.delegates('bob', 'man'), pg_temp.delegates('man', 'rea');
SELECT is(pg_temp.approve('rea', :'doc'), 'ZB003 person "rea" is not asked to approve the document', 'what was delegated is not delegated on');
SELECT is(pg_temp.told('adm', 'SELECT billing.delegate(''acme'', ''adm'', current_date, current_date + 1, from_person => ''bob'')'), 'ZB004 nobody delegates the rights of another to themselves', 'an admin takes nothing for themselves');
SELECT is(pg_temp.told('lim', 'SELECT billing.delegate(''acme'', ''cat'', current_date, current_date + 1, from_person => ''bob'')'), 'ZB003 person "lim" does not hold the duty admin in entity "acme"', 'and nobody else gives what is not theirs');
SELECT is(pg_temp.told('lim', format('SELECT billing.end_delegation(''acme'', %s)', (SELECT max(delegation_id) FROM billing.delegation))), 'ZB003 person "lim" does not hold the duty admin in entity "acme"', 'nor ends it');
SELECT is(pg_temp.told('bob', format('SELECT billing.end_delegation(''acme'', %s, ''2026-01-01'')', (SELECT max(delegation_id) FROM billing.delegation WHERE from_person = (SELECT person_id FROM billing.person WHERE code = 'bob')))), 'ZB001 a delegation does not end in the past', 'and no end is put in the past');
SELECT is(pg_temp.told('adm', 'SELECT billing.delegate(''acme'', ''man'', current_date, current_date)'), 'ZB001 day after the last must be later than the first day', 'at least a day');

-- Once: as oneself or as a delegate, through one or another
SELECT pg_temp.forget();
SELECT pg_temp.policy('one', 'amount >= 1000', '[{"duty": "approver", "needed": 3}]');
SELECT pg_temp.waiting('d4', 1500) AS doc \gset
SELECT pg_temp.delegates('bob', 'man'), pg_temp.delegates('cat', 'man'), pg_temp.delegates('dan', 'eve');
SELECT is(pg_temp.approve('man', :'doc'), '', 'man approves in the place of bob');
SELECT is(pg_temp.approve('man', :'doc'), 'ZB004 person "man" cannot approve a document that they have decided about already', 'and not in the place of cat as well');
SELECT is(pg_temp.approve('bob', :'doc'), 'ZB004 person "bob" cannot approve a document that they have decided about already', 'nor does bob once more');
SELECT is(pg_temp.approve('eve', :'doc'), '', 'eve has a right of her own');
SELECT is((SELECT count(*) FROM billing.approval_decision WHERE document_id = pg_temp.id(:'doc') AND on_behalf_of IS NULL), 1::bigint, 'which comes first');
SELECT is(pg_temp.approve('eve', :'doc'), 'ZB004 person "eve" cannot approve a document that they have decided about already', 'and not that of dan as well');
SELECT is(pg_temp.approve('dan', :'doc') || pg_temp.state(:'doc'), 'approved', 'who can do it himself');

-- Absent: decides nothing, and nobody waits, but for the delegate
SELECT pg_temp.forget();
SELECT billing.grant_duty('acme', 'man', 'accountant', '2020-01-01');
SELECT pg_temp.policy('one', 'amount >= 1000', '[{"duty": "accountant", "needed": "all"}]');
SELECT matches(pg_temp.told('man', 'SELECT billing.set_absence(''acme'', current_date - 1, current_date + 5, reason => ''leave'')'), '^\d+$', 'man is absent');
SELECT is(pg_temp.told('man', 'SELECT billing.set_absence(''acme'', current_date, current_date + 2)'), 'ZB013 conflicting key value violates exclusion constraint "absence_no_overlap"', 'once at a time');
SELECT pg_temp.waiting('d5', 1500) AS doc \gset
SELECT is(pg_temp.approve('man', :'doc'), 'ZB004 person "man" cannot approve a document while they are absent', 'and decides nothing');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'all who are there are one');
SELECT pg_temp.must('man', 'SELECT billing.end_absence(''acme'', current_date - 1)');
SELECT matches(pg_temp.told('adm', 'SELECT billing.set_absence(''acme'', current_date - 1, current_date + 5, ''rea'', person => ''man'')'), '^\d+$', 'an admin says so for him, and names rea');
SELECT pg_temp.waiting('d6', 1500) AS doc \gset
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'now the delegate is waited for');
SELECT is(pg_temp.approve('rea', :'doc') || pg_temp.state(:'doc'), 'approved', 'who decides');
SELECT is(pg_temp.told('rea', 'SELECT billing.set_absence(''acme'', current_date, current_date + 2, person => ''acc'')'), 'ZB003 person "rea" does not hold the duty admin in entity "acme"', 'nobody sends another away');
SELECT is(pg_temp.told('adm', 'SELECT billing.set_absence(''acme'', current_date, current_date + 2, ''adm'', person => ''acc'')'), 'ZB004 nobody delegates the rights of another to themselves', 'nor an admin to stand in for them');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
