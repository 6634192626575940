-- Approvals by policy of what the rooms bring: documents of a billing run, of another currency, of a subsidiary; corrections of usage,
-- which the last approval carries out; documents of any kind.
BEGIN;
\ir ../lib/persons.sql
\ir ../lib/approvals.sql
SELECT plan(38);

-- A run that issues what needs nobody asks for what needs somebody, in its own transaction
SELECT pg_temp.policy('two', 'amount >= 1000', '[{"duty": "approver"}, {"duty": "accountant"}]'), pg_temp.policy('rest', NULL, '[]', 'automatic', 200);
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
	billing.add_item('acme', %1$L, 'i', 'free', 'one_time', 1, pg_temp.each(%2$L))$q$, a, p)) FROM (VALUES ('small', '10'), ('large', '2000')) v (a, p);
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-01-01', '{"phase": "issue"}')$$);
SELECT is((SELECT string_agg(format('%s %s', account, state), ', ' ORDER BY account) FROM billing.invoice_overview), 'large pending_approval, small approved', 'one waits, one is approved by a policy');
SELECT is((SELECT pg_temp.asked(reference) FROM billing.invoice_overview WHERE account = 'large'), '1 open 0/1, 2 waiting 0/1', 'two levels are asked');
SELECT is((SELECT format('%s %s %s', amount::numeric, facts ->> 'maker', facts ->> 'categories') FROM billing.approval_request WHERE level_no = 1), '2000.00 ada ["free"]', 'what the policy looked at is kept');
SELECT reference AS doc FROM billing.invoice_overview WHERE account = 'large' \gset
SELECT is(pg_temp.approve('bob', :'doc') || pg_temp.approve('acc', :'doc') || pg_temp.state(:'doc'), 'approved', 'both approve');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '2', 'and both are issued');

-- In another currency limits are compared in the entity's, at the day's rate; without a rate only an approver without a limit does
SELECT billing.end_approval_policy('acme', 'rest');
SELECT pg_temp.waiting('usd', 1500, 'USD') AS doc \gset
SELECT is((SELECT amount::text FROM billing.approval_request WHERE document_id = pg_temp.id(:'doc') AND level_no = 1), NULL, 'without a rate the amount is not known');
SELECT is(pg_temp.approve('lim', :'doc'), 'ZB004 person "lim" cannot approve a document beyond their limit', 'an approver with a limit cannot');
SELECT is(pg_temp.approve('bob', :'doc'), '', 'one without can');
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('acme', 'USD', 0.5, '2026-01-01')$$);
SELECT pg_temp.waiting('usd2', 2001, 'USD') AS doc \gset
SELECT is((SELECT amount::numeric FROM billing.approval_request WHERE document_id = pg_temp.id(:'doc') AND level_no = 1), 1000.50, '2001 USD at 0.5 are 1000.50 EUR');
SELECT is(pg_temp.approve('lim', :'doc'), 'ZB004 person "lim" cannot approve a document beyond their limit', 'half a euro beyond the limit');
SELECT pg_temp.waiting('usd3', 2000, 'USD') AS doc \gset
SELECT is(pg_temp.approve('lim', :'doc') || pg_temp.asked(:'doc'), '1 approved 1/1, 2 open 0/1', 'the limit exactly');

-- A subsidiary has the policies of its parent, which its people do not see
SELECT billing.create_entity('sub', 'Subsidiary', 'EUR', 'Europe/Berlin', 'DE'), pg_temp.hire('sal'), pg_temp.hire('sam'), pg_temp.hire('sue');
SELECT billing.set_parent_entity('sub', 'acme');
SELECT billing.grant_duty('sub', p, d, '2020-01-01') FROM (VALUES ('sal', 'biller'), ('sal', 'contract_manager'), ('sal', 'price_manager'), ('sam', 'approver'), ('sue', 'accountant')) v (p, d);
SELECT pg_temp.must('sal', $$SELECT billing.add_tax_code('sub', 'zero', 'Z', 'Zero'), billing.add_tax_rate('sub', 'zero', 0, '2007-01-01'), billing.add_product('sub', 'free', 'Free', tax_code => 'zero'),
	billing.add_customer('sub', 'c1', 'C', 'Street 1', '10115', 'Berlin', 'DE'), billing.add_account('sub', 'a', 'c1', 'EUR'), billing.create_contract('sub', 'a', 'a', '2026-01-01'),
	billing.add_item('sub', 'a', 'i', 'free', 'one_time', 1, '{"model": "per_unit", "unit": 1200}')$$), pg_temp.must('sal', $$CALL billing.run_billing('sub', '2026-01-01')$$), pg_temp.must('sal', $$SELECT * FROM billing.validate_invoices('sub')$$);
SELECT reference AS doc FROM billing.invoice_overview WHERE entity = 'sub' \gset
SELECT is(pg_temp.asked(:'doc'), '1 open 0/1, 2 waiting 0/1', 'the parent''s policy asks');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_invoice(''sub'', %L)', :'doc')), 'ZB002 entity "sub" does not exist', 'not the parent''s people');
SELECT is(pg_temp.must('sam', 'SELECT count(*) FROM billing.approval_policy'), '0', 'people of the subsidiary do not see the policy');
SELECT is(pg_temp.told('sam', format('SELECT billing.approve_invoice(''sub'', %L)', :'doc')) || pg_temp.told('sue', format('SELECT billing.approve_invoice(''sub'', %L)', :'doc')) || pg_temp.state(:'doc'), 'approved', 'but approve by it');

-- A correction of usage is carried out by the last approval, and not if it has become more than was asked about
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k1', 'a1', '2026-01-01'), billing.add_item('acme', 'k1', 'calls', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": "0.5"}', meter => 'calls')$$);
SELECT pg_temp.must('app', $$SELECT accepted FROM billing.ingest_usage('acme', (SELECT jsonb_agg(jsonb_build_object('id', i, 'source', '/s', 'type', 'calls', 'subject', 'a1', 'time', '2026-07-10T10:00:00Z', 'data', '{"quantity": 1000}'::jsonb)) FROM unnest('{u1,u2}'::text[]) i))$$);
SELECT pg_temp.must(NULL, $$SELECT billing.set_approval_policy('acme', 'usage', 'usage_correction', 'amount >= 100', '[{"duty": "approver", "needed": 2}]')$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', correction_limit => 0)$$);
SELECT pg_temp.must('ada', $$SELECT correction FROM billing.void_usage('acme', '/s', '{u1}', 'wrong')$$) AS doc \gset
SELECT is((SELECT amount::numeric FROM billing.approval_request WHERE document_id = pg_temp.id(:'doc')), 500::numeric, 'a thousand calls of 0.50 are 500');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(''acme'', %L)', :'doc')) || pg_temp.state(:'doc'), 'pending_approval', 'after the first approval nothing is done');
SELECT is((SELECT count(*) FROM billing.usage_event WHERE weight < 0), 0::bigint, 'no event is taken back');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(''acme'', %L)', :'doc')), 'ZB004 person "bob" cannot approve a document that they have decided about already', 'bob is not the second');
SELECT is(pg_temp.told('acc', format('SELECT billing.approve_usage_correction(''acme'', %L)', :'doc')), 'ZB003 person "acc" is not asked to approve the document', 'nor an accountant');
SELECT is(pg_temp.told('cat', format('SELECT billing.approve_usage_correction(''acme'', %L)', :'doc')) || pg_temp.state(:'doc'), 'applied', 'the second carries it out');
SELECT is((SELECT count(*) FROM billing.usage_event WHERE weight < 0), 1::bigint, 'an event is taken back');
SELECT pg_temp.must('ada', $$SELECT correction FROM billing.void_usage('acme', '/s', '{u2}', 'wrong')$$) AS doc \gset
SELECT is(pg_temp.must('bob', format('SELECT outcome FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'recorded', 'by the bulk call too');
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k1', 'calls', '2026-01-01', tariff => '{"model": "per_unit", "unit": "0.6"}')$$);
SELECT is(pg_temp.told('cat', format('SELECT message FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'the document is worth more than when its approval was asked for', 'at 0.60 it has become 600');
SELECT is(pg_temp.state(:'doc') || (SELECT count(*) FROM billing.usage_event WHERE weight < 0), 'pending_approval1', 'and nothing is done');
SELECT is(pg_temp.must('cat', format('SELECT outcome FROM billing.decide(''acme'', ARRAY[%L], ''reject'', ''ask anew'')', :'doc')), 'rejected', 'it is rejected');
SELECT pg_temp.must(NULL, $$SELECT billing.set_approval_policy('acme', 'never', 'usage_correction', NULL, '[]', 1, outcome => 'forbid')$$);
SELECT pg_temp.must('ada', $$SELECT correction FROM billing.void_usage('acme', '/s', '{u2}', 'once more')$$) AS doc \gset
SELECT is(pg_temp.state(:'doc'), 'rejected', 'a policy forbids corrections');

-- Documents of any kind: a write-off
SELECT pg_temp.hire('col');
SELECT billing.grant_duty('acme', 'col', 'collector', '2020-01-01');
SELECT pg_temp.must(NULL, $$SELECT billing.set_approval_policy('acme', 'off', 'write_off', 'amount > 100', '[{"duty": "approver", "stage": 1}, {"person": "eve", "stage": 1}]')$$);
SELECT pg_temp.must('col', $$SELECT billing.request_document('acme', 'write_off', 'INV-1', 150, 'EUR')$$) AS doc \gset
SELECT pg_temp.must('col', format('SELECT billing.take_action(''acme'', %L, ''submit'')', :'doc'));
SELECT is(pg_temp.state(:'doc') || ' ' || pg_temp.asked(:'doc'), 'pending_approval 1 open 0/1, 2 open 0/1', 'a write-off is asked for');
SELECT is(pg_temp.must('eve', format('SELECT string_agg(level::text, '' '' ORDER BY level) FROM billing.my_approvals WHERE document = %L', :'doc')), '1 2', 'eve is asked twice');
SELECT is(pg_temp.told('eve', format('SELECT billing.take_action(''acme'', %L, ''approve'')', :'doc')), 'pending_approval', 'and speaks once');
SELECT is(pg_temp.told('col', format('SELECT billing.take_action(''acme'', %L, ''approve'')', :'doc')), 'ZB004 person "col" cannot approve a document of their own making', 'its maker does not');
SELECT is(pg_temp.must('dan', format('SELECT outcome FROM billing.decide(''acme'', ARRAY[%L], ''approve'')', :'doc')), 'approved', 'dan is the other');
SELECT pg_temp.must('col', $$SELECT billing.request_document('acme', 'write_off', 'INV-2', 150, 'EUR')$$) AS doc \gset
SELECT pg_temp.must('col', format('SELECT billing.take_action(''acme'', %L, ''submit'')', :'doc'));
SELECT is(pg_temp.told('rea', format('SELECT billing.take_action(''acme'', %L, ''send_back'', reason => ''more'')', :'doc')), 'ZB003 person "rea" is not asked to send_back the document', 'only who is asked sends it back');
SELECT is(pg_temp.told('dan', format('SELECT billing.take_action(''acme'', %L, ''send_back'', reason => ''more'')', :'doc')), 'draft', 'as dan is');
SELECT is(pg_temp.asked(:'doc'), '1 rejected 1/1, 2 void 0/1', 'which ends what is asked');
SELECT pg_temp.must('col', format('SELECT billing.take_action(''acme'', %L, ''submit'')', :'doc'));
SELECT is(pg_temp.asked(:'doc'), '1 open 0/1, 2 open 0/1', 'until it is asked anew');
SELECT pg_temp.must('col', format('SELECT billing.take_action(''acme'', %L, ''recall'')', :'doc'));
SELECT is(pg_temp.asked(:'doc'), '1 void 0/1, 2 void 0/1', 'or recalled');

SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
