-- Deadlines of approvals: reminded once half way, escalated once after them, however late the task comes; what nobody can decide.
BEGIN;
\ir ../lib/persons.sql
\ir ../lib/approvals.sql
SELECT plan(29);
-- Let a request have been opened so long ago
CREATE FUNCTION pg_temp.age(doc text, hours integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE billing.approval_request SET opened_at = now() - make_interval(hours => hours), deadline = now() - make_interval(hours => hours) + deadline_after
	WHERE document_id = pg_temp.id(doc) AND state = 'open';
	SET LOCAL session_replication_role = origin;
END $$;
CREATE FUNCTION pg_temp.work() RETURNS void LANGUAGE sql AS $$ SELECT FROM billing.run_worker_once(true) WHERE task = 'escalate_approvals' AND outcome <> 'done' $$;
CREATE FUNCTION pg_temp.log(doc text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(action, ' ' ORDER BY audit_id) FROM billing.audit_log WHERE object_id = pg_temp.id(doc)::text AND action IN ('remind', 'escalate');
$$;
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver", "needed": 2, "deadline": "10 hours", "escalate_to": "accountant"}]');

SELECT pg_temp.waiting('e1', 1500) AS doc \gset
SELECT pg_temp.age(:'doc', 4), pg_temp.work();
SELECT is(pg_temp.log(:'doc'), NULL, 'before half of the time nothing happens');
SELECT pg_temp.age(:'doc', 5), pg_temp.work();
SELECT is(pg_temp.log(:'doc'), 'remind', 'half way it is reminded');
SELECT is((SELECT payload ->> 'duty' FROM billing.outbox WHERE type = 'approval.reminded' AND document_id = pg_temp.id(:'doc')), 'approver', 'by a message to other systems');
SELECT pg_temp.age(:'doc', 9), pg_temp.work();
SELECT is(pg_temp.log(:'doc'), 'remind', 'once');
SELECT is((SELECT format('%s %s', is_overdue, escalated_to) FROM billing.open_approvals WHERE document = :'doc'), 'f ', 'it is not overdue');
SELECT is(pg_temp.approve('acc', :'doc'), 'ZB003 person "acc" is not asked to approve the document', 'an accountant is not asked yet');
SELECT pg_temp.age(:'doc', 10);
SELECT is((SELECT is_overdue::text FROM billing.open_approvals WHERE document = :'doc' AND deadline < now()), NULL, 'at the deadline it is not past');
SELECT pg_temp.work();
SELECT is(pg_temp.log(:'doc'), 'remind escalate', 'at the deadline it is escalated');
SELECT is((SELECT escalated_to FROM billing.open_approvals WHERE document = :'doc'), 'accountant', 'to the accountants');
SELECT is((SELECT format('%s %s', kind, subject) FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 'approval_overdue approver', 'an exception says whose it was');
SELECT pg_temp.age(:'doc', 1000), pg_temp.work(), pg_temp.work();
SELECT is(pg_temp.log(:'doc'), 'remind escalate', 'once');
SELECT is(pg_temp.must('acc', format('SELECT is_escalation FROM billing.my_approvals WHERE document = %L', :'doc')), 'true', 'it is on the accountant''s list');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'who is one of two');
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.state(:'doc'), 'approved', 'an approver is the other');
SELECT is((SELECT string_agg(is_escalation::text, ' ' ORDER BY is_escalation) FROM billing.approval_decision WHERE document_id = pg_temp.id(:'doc')), 'false true', 'it is kept who came by the escalation');
SELECT pg_temp.work();
SELECT is((SELECT state || ': ' || resolution FROM billing.exception WHERE document_id = pg_temp.id(:'doc') AND kind = 'approval_overdue'), 'resolved: decided, or not asked any more', 'the exception closes itself');

-- After downtime: past the deadline at once, one reminder less
SELECT pg_temp.waiting('e2', 1500) AS doc \gset
SELECT pg_temp.age(:'doc', 2000), pg_temp.work(), pg_temp.work();
SELECT matches(pg_temp.log(:'doc'), '^(remind )?escalate$', 'after a long time without a worker it is escalated once');
SELECT is(pg_temp.reject('acc', :'doc') || pg_temp.state(:'doc'), 'on_hold', 'whom it was escalated to may reject as well');

-- All of a duty, of whom one does not answer: an escalation stands in for whoever is missing
SELECT billing.grant_duty('acme', 'man', 'collector', '2020-01-01'), billing.grant_duty('acme', 'rea', 'collector', '2020-01-01');
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "collector", "needed": "all", "deadline": "1 day", "escalate_to": "approver", "min_limit": true}, {"duty": "accountant"}]');
SELECT pg_temp.waiting('e3', 1500) AS doc \gset
SELECT is(pg_temp.approve('man', :'doc') || pg_temp.state(:'doc'), 'pending_approval', 'one of two collectors');
SELECT pg_temp.age(:'doc', 24), pg_temp.work();
SELECT is(pg_temp.approve('lim', :'doc'), 'ZB004 person "lim" cannot approve a document beyond their limit', 'the limit of whom it is escalated to counts');
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.asked(:'doc'), '1 approved 2/2, 2 open 0/1', 'bob stands in for the other');
SELECT is((SELECT deadline FROM billing.open_approvals WHERE document = :'doc'), NULL, 'the next stage has no deadline');
SELECT is(pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'and is decided');

-- Nobody can decide it: neither a manager nor an escalation
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"approver": "manager"}]');
SELECT pg_temp.waiting('e4', 1500) AS doc \gset
SELECT pg_temp.work();
SELECT is((SELECT format('%s %s', kind, owner_duty) FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 'approval_nobody admin', 'an exception says that nobody can');
SELECT pg_temp.must('adm', $$SELECT billing.set_manager('acme', 'ada', 'man')$$);
SELECT pg_temp.must('ada', format('SELECT billing.take_action(''acme'', %L, ''recall'')', :'doc')), pg_temp.must('ada', format('SELECT * FROM billing.validate_invoices(''acme'', %L)', :'doc')), pg_temp.work();
SELECT is((SELECT count(*) FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 0::bigint, 'which closes itself when a manager is named and asked');
SELECT pg_temp.must('man', $$SELECT billing.set_absence('acme', current_date - 1, current_date + 5)$$), pg_temp.work();
SELECT is((SELECT kind FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 'approval_nobody', 'and is raised when he is absent');
SELECT pg_temp.must('man', $$SELECT billing.end_absence('acme')$$), pg_temp.work();
SELECT is((SELECT count(*) FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 0::bigint, 'until he is back');
SELECT pg_temp.must('man', $$SELECT billing.set_absence('acme', current_date, current_date + 5)$$), pg_temp.work();
SELECT is((SELECT kind FROM billing.open_exception WHERE document_id = pg_temp.id(:'doc')), 'approval_nobody', 'it is raised again');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
