-- What policies ask for documents, and who fulfils it: levels one after the other and at once, any, all, n of m, by duty, limit, name,
-- owner and manager; what a change or a recall leaves of it; many decisions in one call.
BEGIN;
\ir ../lib/persons.sql
\ir ../lib/approvals.sql
SELECT plan(66);

-- Without a policy it is one approver within their limit, as ever
SELECT pg_temp.waiting('plain', 2000) AS doc \gset
SELECT is(pg_temp.asked(:'doc'), NULL, 'without a policy nothing is asked');
SELECT is(pg_temp.approve('lim', :'doc'), 'ZB004 person "lim" cannot approve a document beyond their limit', 'an approver''s limit counts');
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.state(:'doc'), 'approved', 'and one approver is enough');

-- Two levels, one after the other: an approver, then an accountant whatever the limit
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver"}, {"duty": "accountant"}]');
SELECT pg_temp.waiting('below', 999.99) AS doc \gset
SELECT is(pg_temp.asked(:'doc'), NULL, 'below its band the policy asks nothing');
SELECT pg_temp.waiting('two', 1000) AS doc \gset
SELECT is(pg_temp.asked(:'doc'), '1 open 0/1, 2 waiting 0/1', 'the first level is open, the second waits');
SELECT is(pg_temp.approve('acc', :'doc'), 'ZB003 person "acc" is not asked to approve the document', 'the second level is not asked yet');
SELECT is(pg_temp.approve('rea', :'doc'), 'ZB003 person "rea" is not asked to approve the document', 'a reader never');
SELECT is(pg_temp.approve('lim', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'an approver whose limit is just enough approves, and the document waits on');
SELECT is(pg_temp.asked(:'doc'), '1 approved 1/1, 2 open 0/1', 'now the second level is asked');
SELECT is(pg_temp.approve('bob', :'doc'), 'ZB003 person "bob" is not asked to approve the document', 'and no approver any more');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'the last approval takes the step');
SELECT is((SELECT string_agg(action, ' ' ORDER BY version) FROM billing.document_step WHERE document_id = pg_temp.id(:'doc')), 'draft submit approve', 'which is one step');
SELECT is((SELECT string_agg(format('%s by %s', action, actor), ', ' ORDER BY audit_id) FROM billing.audit_log WHERE object_id = pg_temp.id(:'doc')::text AND object_type = 'invoice' AND action LIKE 'approve%'),
	'approve_request by lim, approve_request by acc, approve by acc', 'every decision is in the audit log');
SELECT pg_temp.waiting('limit', 1000.01) AS doc \gset
SELECT is(pg_temp.approve('lim', :'doc'), 'ZB004 person "lim" cannot approve a document beyond their limit', 'a cent beyond the limit');
SELECT is(pg_temp.reject('bob', :'doc') || pg_temp.state(:'doc'), 'on_hold', 'a rejection decides at once');
SELECT is(pg_temp.asked(:'doc'), '1 rejected 1/1, 2 void 0/1', 'and nothing is asked any more');
SELECT is((SELECT count(*) FROM billing.exception WHERE document_id = pg_temp.id(:'doc') AND kind = 'approval_rejected'), 1::bigint, 'the rejection is an exception as ever');

-- Two of m at once with a named person: cat is both an approver and the person, and counts once
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver", "needed": 2, "stage": 1}, {"person": "cat", "stage": 1}]');
SELECT pg_temp.waiting('both', 1500) AS doc \gset
SELECT is(pg_temp.asked(:'doc'), '1 open 0/2, 2 open 0/1', 'levels of one stage are asked at once');
SELECT is(pg_temp.approve('cat', :'doc'), '', 'cat could speak for either');
SELECT is(pg_temp.approve('cat', :'doc'), 'ZB004 person "cat" cannot approve a document that they have decided about already', 'but once');
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'bob is the first of two, or cat is');
SELECT is(pg_temp.approve('dan', :'doc') || pg_temp.state(:'doc'), 'approved', 'with dan there are three persons for three places');
SELECT is(pg_temp.asked(:'doc'), '1 approved 2/2, 2 approved 1/1', 'cat counts where nobody else could');
SELECT is((SELECT count(*) FROM billing.approval_decision s WHERE s.document_id = pg_temp.id(:'doc') AND s.counts), 3::bigint, 'three approvals count');
SELECT pg_temp.waiting('surplus', 1500) AS doc \gset
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.approve('dan', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'two approvers without cat');
SELECT is(pg_temp.approve('eve', :'doc'), 'ZB004 person "eve" cannot approve a document that needs no more of them', 'a third is not needed');
SELECT is(pg_temp.approve('cat', :'doc') || pg_temp.state(:'doc'), 'approved', 'cat is');

-- All holders of a duty; whoever is absent, or loses the duty, is not waited for
SELECT billing.grant_duty('acme', 'man', 'accountant', '2020-01-01');
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "accountant", "needed": "all"}]');
SELECT pg_temp.waiting('all', 1500) AS doc \gset
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'one of two accountants');
SELECT is(pg_temp.approve('man', :'doc') || pg_temp.state(:'doc'), 'approved', 'both');
SELECT is(pg_temp.asked(:'doc'), '1 approved 2/2', 'all were two');
SELECT pg_temp.waiting('fewer', 1500) AS doc \gset
SELECT billing.revoke_duty('acme', 'man', 'accountant');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'who does not hold the duty any more is not waited for');
SELECT is(pg_temp.asked(:'doc'), '1 approved 1/1', 'all was one');

-- The maker's manager, the contract's owner; where there is none, nobody can
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"approver": "manager", "stage": 1}, {"approver": "contract_owner", "stage": 1}]');
SELECT pg_temp.waiting('nobody', 1500) AS doc \gset
SELECT is((SELECT string_agg(waits_for, ', ' ORDER BY level) FROM billing.open_approvals WHERE document = :'doc'), 'nobody (manager), nobody (contract_owner)', 'neither a manager nor an owner');
SELECT is(pg_temp.approve('bob', :'doc'), 'ZB003 person "bob" is not asked to approve the document', 'an approver does not do instead');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_manager('acme', 'ada', 'adm')$$), 'ZB004 nobody makes themselves the manager of another', 'an admin does not make themselves manager');
SELECT pg_temp.must('adm', $$SELECT billing.set_manager('acme', 'ada', 'man')$$);
SELECT is(pg_temp.told('adm', $$SELECT billing.set_contract_owner('acme', 'nobody', 'adm')$$), 'ZB004 nobody makes themselves the owner of a contract', 'nor owner');
SELECT is(pg_temp.told('ada', $$SELECT billing.set_contract_owner('acme', 'nobody', 'eve')$$), 'ZB003 person "ada" does not hold the duty admin in entity "acme"', 'and a contract manager does not choose who approves');
SELECT pg_temp.waiting('owned', 1500, before => 'SELECT billing.set_contract_owner(''acme'', %L, ''eve'')') AS doc \gset
SELECT is((SELECT string_agg(waits_for, ', ' ORDER BY level) FROM billing.open_approvals WHERE document = :'doc'), 'man, eve', 'the manager and the owner are asked');
SELECT is(pg_temp.approve('eve', :'doc') || pg_temp.approve('man', :'doc') || pg_temp.state(:'doc'), 'approved', 'and approve');

-- By itself, and never
SELECT pg_temp.policy('free', 'amount < 10', '[]', 'automatic', 1), pg_temp.policy('ban', 'amount > 90000', '[]', 'forbid', 1);
SELECT pg_temp.waiting('free', 9.99) AS doc \gset
SELECT is(pg_temp.state(:'doc'), 'approved', 'a policy approves by itself');
SELECT is((SELECT format('%s %s', action, reason) FROM billing.document_step WHERE document_id = pg_temp.id(:'doc') ORDER BY version DESC LIMIT 1), 'auto_approve policy "free"', 'which the step says');
SELECT pg_temp.waiting('ban', 90000.01) AS doc \gset
SELECT is(pg_temp.state(:'doc'), 'on_hold', 'a policy forbids');
SELECT is((SELECT detail FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 'policy "ban" forbids it', 'which the exception says');

-- The maker takes it back; what was said holds for the next version, if nothing of weight has changed
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver"}, {"duty": "accountant"}]');
SELECT pg_temp.waiting('recall', 1500) AS doc \gset
SELECT pg_temp.approve('bob', :'doc');
SELECT is(pg_temp.told('bob', format('SELECT billing.take_action(''acme'', %L, ''recall'')', :'doc')), 'ZB003 person "bob" does not hold the duty biller in entity "acme"', 'only a biller recalls');
SELECT is(pg_temp.told('ada', format('SELECT billing.take_action(''acme'', %L, ''recall'')', :'doc')) IS NOT NULL, true, 'the maker recalls it');
SELECT is(pg_temp.state(:'doc') || ': ' || pg_temp.asked(:'doc'), 'draft: 1 approved 1/1, 2 void 0/1', 'nothing is asked any more');
SELECT is(pg_temp.approve('acc', :'doc'), format('ZB007 cannot approve a document of kind invoice in state draft'), 'nor can be approved');
SELECT pg_temp.must('ada', format('SELECT * FROM billing.validate_invoices(''acme'', %L)', :'doc'));
SELECT is(pg_temp.asked(:'doc'), '1 approved 1/1, 2 open 0/1', 'unchanged, what bob said holds');
SELECT is((SELECT format('%s for %s', given_for_version, document_version) FROM billing.approval_decision WHERE document_id = pg_temp.id(:'doc') ORDER BY document_version DESC LIMIT 1), '2 for 4', 'and it is kept which version he saw');
SELECT is(pg_temp.approve('bob', :'doc'), 'ZB003 person "bob" is not asked to approve the document', 'he is not asked again');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'the accountant is');
SELECT pg_temp.waiting('risen', 1500) AS doc \gset
SELECT pg_temp.approve('bob', :'doc');
SELECT pg_temp.must('ada', format('SELECT billing.take_action(''acme'', %L, ''recall'')', :'doc'));
SET LOCAL session_replication_role = replica;
UPDATE billing.document SET amount = 1500.01 WHERE document_id = pg_temp.id(:'doc');
SET LOCAL session_replication_role = origin;
SELECT pg_temp.must('ada', format('SELECT * FROM billing.validate_invoices(''acme'', %L)', :'doc'));
SELECT is(pg_temp.asked(:'doc'), '1 open 0/1, 2 waiting 0/1', 'a cent more, and all are asked anew');
SET LOCAL session_replication_role = replica;
UPDATE billing.document SET amount = 1500 WHERE document_id = pg_temp.id(:'doc');
SET LOCAL session_replication_role = origin;

-- Changed under the approvers' eyes: a new version is asked anew before anybody can approve it
SELECT pg_temp.waiting('changed', 1500) AS doc \gset
SELECT pg_temp.approve('bob', :'doc');
SELECT is(pg_temp.asked(:'doc'), '1 approved 1/1, 2 open 0/1', 'one has approved');
SET LOCAL session_replication_role = replica;
UPDATE billing.document SET amount = 1800, version = version + 1 WHERE document_id = pg_temp.id(:'doc');
SET LOCAL session_replication_role = origin;
SELECT is(pg_temp.approve('acc', :'doc'), 'ZB003 person "acc" is not asked to approve the document', 'the first level is asked again');
SELECT is(pg_temp.approve('bob', :'doc'), '', 'of bob as well');
SELECT is(pg_temp.asked(:'doc'), '1 approved 1/1, 2 open 0/1', 'for the new version');
SET LOCAL session_replication_role = replica;
UPDATE billing.document SET amount = 1500, version = version - 1 WHERE document_id = pg_temp.id(:'doc');
DELETE FROM billing.approval_decision WHERE document_id = pg_temp.id(:'doc');
DELETE FROM billing.approval_request WHERE document_id = pg_temp.id(:'doc');
SET LOCAL session_replication_role = origin;

-- Many in one call: each is checked, one that is refused stops none
SELECT pg_temp.waiting('m1', 1100) AS one \gset
SELECT pg_temp.waiting('m2', 1200) AS two \gset
SELECT pg_temp.waiting('m3', 50) AS three \gset
CREATE TEMP TABLE bulk (n serial, answer text);
INSERT INTO bulk (answer) SELECT unnest(string_to_array(pg_temp.must('bob', format(
	$q$SELECT string_agg(concat_ws(' ', outcome, error, message), '; ') FROM billing.decide('acme', ARRAY[%L, 'D0', %L, 'nothing', %L, %1$L], 'approve', 'fine', ARRAY[2, 1, 7, 1, 2, 2])$q$, :'one', :'two', :'three')), '; '));
SELECT results_eq('SELECT answer FROM bulk ORDER BY n', ARRAY['recorded', 'refused ZB002 document "D0" does not exist',
	'refused ZB015 the document has changed since version 7', 'refused ZB002 document "nothing" does not exist', 'approved',
	'refused ZB003 person "bob" is not asked to approve the document'], 'recorded, approved or refused with the reason');
SELECT is(pg_temp.state(:'one') || pg_temp.state(:'two') || pg_temp.state(:'three'), 'pending_approvalpending_approvalapproved', 'which is what happened');
SELECT is((SELECT string_agg(format('%s %s', object_id = pg_temp.id(:'two')::text, after ->> 'sqlstate'), ', ' ORDER BY audit_id) FROM billing.audit_log WHERE action = 'refused_approve' AND object_type = 'invoice'),
	'f ZB003, t ZB015', 'refusals are kept, in the order of the documents');
SELECT is(pg_temp.told('bob', format('SELECT * FROM billing.decide(''acme'', ARRAY[%L], ''approve'', NULL, ARRAY[1, 2])', :'one')), 'ZB001 there must be as many versions as documents', 'a version for each');
SELECT is(pg_temp.told('bob', format('SELECT * FROM billing.decide(''acme'', ARRAY[%L], ''reject'')', :'one')), 'ZB001 reason must not be null', 'a rejection needs a reason');
SELECT is(pg_temp.told('bob', format('SELECT * FROM billing.decide(''acme'', ARRAY[%L], ''maybe'')', :'one')), 'ZB001 decision "maybe" is not known', 'yes or no');
SELECT is(pg_temp.decide('bob', :'two', 'reject'), 'on_hold', 'and a rejection by the same call');
SELECT is(pg_temp.must('acc', 'SELECT string_agg(document, '' '' ORDER BY document_id) FROM billing.my_approvals'), :'one', 'what waits for the accountant');
SELECT is(pg_temp.must('bob', format('SELECT count(*) FROM billing.my_approvals WHERE document = %L', :'one')), '0', 'and not for bob');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
