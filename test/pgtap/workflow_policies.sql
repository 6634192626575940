-- Approval policies: how they are set, changed and ended, which one a document gets, what groups of entities share, what becomes of
-- amounts in other currencies and without a rate, and how all that is explained.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(104);
SELECT pg_temp.hire_all(), pg_temp.hire('sue');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('sub', 'Sub', 'JPY', 'Asia/Tokyo', 'JP'),
	billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('sub'), pg_temp.stock('sub', 'JPY');
SELECT billing.grant_duty('other', 'sue', 'admin', '2020-01-01');

CREATE FUNCTION pg_temp.set_policy(policy text, condition text, priority int DEFAULT 100, kind text DEFAULT 'invoice', outcome text DEFAULT 'levels', entity text DEFAULT 'acme',
	levels jsonb DEFAULT '[{"duty": "approver"}]', valid_from date DEFAULT '2020-01-01', valid_to date DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('adm', format('SELECT billing.set_approval_policy(%L, %L, %L, %L, %L, %L, %L, %L, %L)', entity, policy, kind, condition,
		CASE outcome WHEN 'levels' THEN levels END, priority, valid_from, valid_to, outcome));
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Who sets policies, and which

SELECT is(pg_temp.try(p, $$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]')$$), 'ZB003', p || ' sets no policy')
FROM unnest('{ada,bob,rea,aud,app}'::text[]) p;
SELECT is(pg_temp.try('sue', $$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]')$$), 'ZB002', 'who administers another entity does not know this one');
SELECT is(pg_temp.try('adm', $$INSERT INTO billing.approval_policy (entity_id, code, kind, valid_from) SELECT entity_id, 'x', 'invoice', '2020-01-01' FROM billing.legal_entity$$), '42501', 'nobody writes one past the function');
SELECT is(pg_temp.try('adm', q), state, label) FROM (VALUES
	($$SELECT billing.set_approval_policy('acme', 'x', 'order', NULL, '[{"duty": "approver"}]')$$, 'ZB002', 'a kind that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', 'amont > 1', '[{"duty": "approver"}]')$$, 'ZB017', 'a field that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]', outcome => 'perhaps')$$, 'ZB001', 'an outcome that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]', outcome => 'forbid')$$, 'ZB001', 'levels where nobody may approve'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, NULL)$$, 'ZB001', 'no levels'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[]')$$, 'ZB001', 'not one level'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '{"duty": "approver"}')$$, 'ZB001', 'no array'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '["approver"]')$$, 'ZB001', 'no objects'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"dutty": "approver"}]')$$, 'ZB001', 'a key that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "boss"}]')$$, 'ZB002', 'a duty that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"person": "nemo"}]')$$, 'ZB002', 'a person that there is not'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "person": "bob"}]')$$, 'ZB001', 'two approvers for one level'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"stage": 1}]')$$, 'ZB001', 'no approver'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"person": "bob", "needed": 2}]')$$, 'ZB001', 'two of one person'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "needed": 0}]')$$, 'ZB001', 'none needed'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "needed": 1.5}]')$$, 'ZB001', 'one and a half'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "deadline": "soon"}]')$$, 'ZB001', 'a deadline that is none'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "deadline": "-1 day"}]')$$, 'ZB001', 'a deadline in the past'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "escalate_to": "admin"}]')$$, 'ZB001', 'an escalation without a deadline'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver", "min_limit": "yes"}]')$$, 'ZB001', 'a limit neither true nor false'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]', valid_from => '2026-02-01', valid_to => '2026-02-01')$$, 'ZB001', 'no days'),
	($$SELECT billing.set_approval_policy('acme', 'x', 'invoice', NULL, '[{"duty": "approver"}]', -1)$$, 'ZB001', 'a priority below 0')
) v (q, state, label);
SELECT is((SELECT count(*) FROM billing.approval_policy), 0::bigint, 'of all those, nothing is there');

-- ---------------------------------------------------------------------------------------------------------------------
-- Versions

SELECT pg_temp.must('adm', $$SELECT billing.set_approval_policy('acme', 'big', 'invoice', 'amount>=0100', '[{"duty": "approver", "needed": "all", "min_limit": false},
	{"person": "bob", "stage": 1, "deadline": "2 days", "escalate_to": "admin"}, {"approver": "manager"}]', 10, '2026-01-01', reason => 'since the audit')$$);
SELECT results_eq($$SELECT condition, levels, priority, valid_from::text, valid_to::text, description, recorded_by::text FROM billing.approval_policies$$,
	$$VALUES ('amount >= 100', 'all approver and bob within 2 days, then admin; then the maker''s manager', 10, '2026-01-01', NULL, 'since the audit', 'adm')$$, 'a policy as people read it');
SELECT results_eq('SELECT level_no, stage::int, needed::int, approver, duty, min_limit, deadline, escalate_to FROM billing.approval_level ORDER BY 1',
	$$VALUES (1, 1, NULL::int, 'duty', 'approver', false, NULL::interval, NULL), (2, 1, 1, 'person', NULL, false, '2 days', 'admin'), (3, 3, 1, 'manager', NULL, false, NULL, NULL)$$, 'and its levels');
SELECT is(pg_temp.set_policy('big', 'amount >= 200', 10, valid_from => '2026-07-01'), '', 'a change from a later day');
SELECT is(pg_temp.set_policy('big', 'amount >= 300', 10, valid_from => '2026-07-01'), '', 'another one from the same day takes its place');
SELECT is(left(pg_temp.set_policy('big', 'amount >= 400', 10, valid_from => '2026-03-01'), 5), 'ZB013', 'one before it would cut it');
SELECT is(left(pg_temp.set_policy('big', 'amount >= 400', 10, valid_from => '2026-08-01', valid_to => '2026-09-01'), 5), 'ZB013', 'nor does one for some time leave a gap behind');
SELECT is(left(pg_temp.set_policy('big', NULL, kind => 'refund', valid_from => '2027-01-01'), 5), 'ZB013', 'a policy keeps its kind');
SELECT is(pg_temp.set_policy('big', 'amount >= 50', 10, valid_from => '2025-06-01', valid_to => '2026-01-01'), '', 'one before the first is right');
SELECT results_eq($$SELECT condition, valid_from::text, valid_to::text, superseded_at IS NOT NULL FROM billing.approval_policies ORDER BY policy_id$$,
	$$VALUES ('amount >= 100', '2026-01-01', '2026-07-01', false), ('amount >= 200', '2026-07-01', NULL, true), ('amount >= 300', '2026-07-01', NULL, false), ('amount >= 50', '2025-06-01', '2026-01-01', false)$$,
	'every version stays');
SELECT is(pg_temp.told('adm', $$SELECT billing.end_approval_policy('acme', 'big', '2026-05-01', 'no longer needed')$$), '', 'ended');
SELECT results_eq($$SELECT condition, valid_to::text, superseded_at IS NOT NULL FROM billing.approval_policies ORDER BY policy_id$$,
	$$VALUES ('amount >= 100', '2026-05-01', false), ('amount >= 200', NULL, true), ('amount >= 300', NULL, true), ('amount >= 50', '2026-01-01', false)$$, 'what was to begin later never does');
SELECT is(pg_temp.try('adm', $$SELECT billing.end_approval_policy('acme', 'big', '2026-06-01')$$), 'ZB002', 'it cannot be ended again');
SELECT is(pg_temp.try('bob', $$SELECT billing.end_approval_policy('acme', 'big', '2026-01-01')$$), 'ZB003', 'nor by who may not');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'approval_policy' AND actor = 'adm' AND action IN ('insert', 'update')), 8::bigint, 'every change of a version is in the audit log: 4 inserted, 4 updated');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'approval_level'), 6::bigint, 'so are the levels');
SELECT is((SELECT reason FROM billing.audit_log WHERE action = 'end_policy' AND object_id = 'big'), 'no longer needed', 'and why it ended');
SELECT is(pg_temp.told('sue', 'SELECT count(*) FROM billing.approval_policies'), '0', 'another entity''s policies are not seen');
SELECT is(pg_temp.told('rea', 'SELECT count(*) FROM billing.approval_policies'), '4', 'a reader sees those of their own');

-- ---------------------------------------------------------------------------------------------------------------------
-- Facts: a contract with one item of 100 and one of 20, both with 19 % tax; a customer in dollars; one of 1000 in yen

SELECT pg_temp.must('ada', $$UPDATE billing.customer SET segment = 'public', risk = 'high' WHERE code = 'c1'$$);
SELECT pg_temp.must('ada', $$SELECT billing.add_product('acme', 'box', 'Box', tax_code => 'std'), billing.create_contract('acme', 'k1', 'a1', '2026-01-01'),
	billing.add_item('acme', 'k1', 'i1', 'seat', 'one_time', 1, pg_temp.each('100')), billing.add_item('acme', 'k1', 'i2', 'box', 'one_time', 2, pg_temp.each('10')),
	billing.add_account('acme', 'usd', 'c1', 'USD', 14), billing.create_contract('acme', 'k2', 'usd', '2026-01-01'), billing.add_item('acme', 'k2', 'i', 'seat', 'one_time', 1, pg_temp.each('100')),
	billing.create_contract('sub', 'k3', 'a1', '2026-01-01'), billing.add_item('sub', 'k3', 'i', 'seat', 'one_time', 10, pg_temp.each('1000'))$$);
SELECT pg_temp.bill('acme', '2026-01-01'), pg_temp.bill('sub', '2026-01-01');
CREATE TEMP TABLE doc AS SELECT account, entity, reference, invoice_id, entity_id FROM billing.invoice_overview;
CREATE FUNCTION pg_temp.facts_of(of_entity text, of_account text) RETURNS billing.document_facts LANGUAGE sql AS $$
	SELECT f.facts FROM doc d, billing_internal.invoice_facts(d.entity_id, ARRAY[d.invoice_id]) f WHERE d.entity = of_entity AND d.account = of_account;
$$;
SELECT is(pg_temp.facts_of('acme', 'a1')::text, format('(invoice,142.80,EUR,,,30,public,high,"{box,seat}",t,%s,,ada,k1)', (now() AT TIME ZONE 'Europe/Berlin')::date - '2026-01-01'::date),
	'(100 + 20) × 1.19 = 142.80; two products; the first invoice; backdated since the day it fell due');
SELECT is((pg_temp.facts_of('acme', 'usd')).amount, NULL, 'dollars are worth nobody knows what');
SELECT is((pg_temp.facts_of('acme', 'usd')).payment_days, 14, 'due in 14 days');
SELECT is((pg_temp.facts_of('sub', 'a1')).amount, 11900.0, '10 × 1000 × 1.19 yen');

-- ---------------------------------------------------------------------------------------------------------------------
-- Which policy a document gets

CREATE FUNCTION pg_temp.policy_of(of_entity text, of_account text) RETURNS text LANGUAGE sql AS $$
	SELECT (SELECT e.code || '/' || p.code FROM billing_internal.match_policies(d.entity_id, ARRAY[d.invoice_id]) m
		JOIN billing.approval_policy p ON p.entity_id = m.policy_entity_id AND p.policy_id = m.policy_id JOIN billing.legal_entity e ON e.entity_id = p.entity_id)
	FROM doc d WHERE d.entity = of_entity AND d.account = of_account;
$$;
SELECT is(pg_temp.policy_of('acme', 'a1'), NULL, 'none, where none holds');
SELECT pg_temp.set_policy('c-all', NULL, 50), pg_temp.set_policy('a-mid', 'amount between 100 and 142.80', 40), pg_temp.set_policy('b-mid', 'amount between 100 and 142.80', 40),
	pg_temp.set_policy('top', 'amount > 142.80', 30, levels => '[{"duty": "approver", "needed": 2}, {"duty": "admin"}]'), pg_temp.set_policy('notes', NULL, 1, 'credit_note'),
	pg_temp.set_policy('past', NULL, 1, valid_to => '2021-01-01'), pg_temp.set_policy('far', NULL, 1, valid_from => '2999-01-01');
SELECT is(pg_temp.policy_of('acme', 'a1'), 'acme/a-mid', 'the first by priority that holds; of equal ones by the alphabet; bounds are inclusive');
SELECT is(pg_temp.policy_of('sub', 'a1'), NULL, 'not in another entity');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'without a rate, the strictest that could hold');
SELECT is(pg_temp.set_policy('vip', 'contract = ''k2''', 35, levels => '[{"person": "bob"}]'), '', 'a policy that holds whatever the amount');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'comes after one that might');
SELECT is(pg_temp.set_policy('vip', 'contract = ''k2''', 20, levels => '[{"person": "bob"}]'), '', 'before it');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/vip', 'it is the first');
SELECT is(pg_temp.set_policy('vip', 'contract = ''k2'' and margin_percent < 5', 20), '', 'one that asks what is not known');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'does not hold, if it is not for the amount');
SELECT is(pg_temp.set_policy('small', 'amount < 100', 25, outcome => 'automatic'), '', 'what might be approved by itself');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'is not, while the amount is not known');
SELECT is(pg_temp.set_policy('huge', 'amount > 1000000', 60, outcome => 'forbid'), '', 'what might be forbidden, but after one that holds in any case');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'is not');
SELECT is(pg_temp.set_policy('huge', 'amount > 1000000', 5, outcome => 'forbid'), '', 'before it');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/huge', 'it is, until there is a rate');
SELECT is(pg_temp.set_policy('norate', 'amount is null', 4), '', 'an entity may say what is to be done without a rate');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/norate', 'and then that is done');
SELECT pg_temp.must('adm', $$SELECT billing.end_approval_policy('acme', p, '2020-01-01') FROM unnest('{norate,huge}'::text[]) p$$);
-- 119 USD × 0.8 = 95.20, × 0.9 = 107.10, × 1.2345678 = 146.9135682, rounded 146.91
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('acme', 'USD', 0.8, '2020-01-01'), billing.add_exchange_rate('acme', 'EUR', 99, '2020-01-01', 'USD')$$);
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/small', '119 dollars at 0.8 are 95.20');
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('acme', 'USD', 0.9, '2021-01-01'), billing.add_exchange_rate('acme', 'USD', 5, '2999-01-01')$$);
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/a-mid', 'at 0.9, the latest rate up to today, 107.10');
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('acme', 'USD', 1.2345678, '2022-01-01')$$);
SELECT is((pg_temp.facts_of('acme', 'usd')).amount, 146.91, 'at 1.2345678 rounded to cents');
SELECT is(pg_temp.policy_of('acme', 'usd'), 'acme/top', 'which is above the band');
SELECT is(pg_temp.try('ada', $$SELECT billing.add_exchange_rate('acme', 'USD', 2, '2022-01-01')$$), 'ZB009', 'a rate a day');
SELECT is(pg_temp.try('bob', $$SELECT billing.add_exchange_rate('acme', 'USD', 2, '2023-01-01')$$), 'ZB003', 'from who may set prices');
SELECT is(pg_temp.try('ada', $$SELECT billing.add_exchange_rate('acme', 'EUR', 2, '2023-01-01')$$), 'ZB001', 'between two currencies');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'exchange_rate' AND actor = 'ada'), 5::bigint, 'each in the audit log');

-- ---------------------------------------------------------------------------------------------------------------------
-- Explained

SELECT results_eq($$SELECT "position", policy, policy_entity, outcome, holds, counts, why FROM doc d, billing.explain_policy('acme', d.reference) WHERE d.account = 'usd'$$, $$VALUES
	(1, 'vip', 'acme', 'levels', NULL, false, 'margin_percent < 5: margin_percent is not known'),
	(2, 'small', 'acme', 'automatic', false, false, 'amount < 100: amount is 146.91'),
	(3, 'top', 'acme', 'levels', true, true, 'it holds'),
	(4, 'a-mid', 'acme', 'levels', false, false, 'amount between 100 and 142.8: amount is 146.91'),
	(5, 'b-mid', 'acme', 'levels', false, false, 'amount between 100 and 142.8: amount is 146.91'),
	(6, 'c-all', 'acme', 'levels', true, false, 'it holds, but comes after the policy that counts')$$, 'each policy in its order, and why it counts or not');
SELECT pg_temp.set_policy('vip', $$not (risk in ('high', 'low') or is_first) and ('box' in categories or (amount - 10) / 2 > payment_days or segment is null)$$, 20);
SELECT is(why, $$not risk in ('high', 'low'): risk is 'high'; not is_first: is_first is true$$, 'of and the parts that do not hold, under not what does')
FROM doc d, billing.explain_policy('acme', d.reference) p WHERE d.account = 'usd' AND p.policy = 'vip';
SELECT pg_temp.set_policy('vip', $$'box' in categories or (amount - 100) / 2 > payment_days * 2 or segment is null or currency not in ('USD')$$, 20);
SELECT is(why, $$'box' in categories: categories is 'seat'; (amount - 100) / 2 > payment_days * 2: amount is 146.91, payment_days is 14; segment is null: segment is 'public'; $$
	|| $$currency not in ('USD'): currency is 'USD'$$, 'of or all parts, with every value')
FROM doc d, billing.explain_policy('acme', d.reference) p WHERE d.account = 'usd' AND p.policy = 'vip';
SELECT is(pg_temp.try('rea', format('SELECT count(*) FROM billing.explain_policy(''acme'', %L)', reference)), '6', 'who may read it may have it explained') FROM doc WHERE account = 'usd';
SELECT is(pg_temp.try('sue', format('SELECT count(*) FROM billing.explain_policy(''acme'', %L)', reference)), 'ZB002', 'who may not, not') FROM doc WHERE account = 'usd';

-- ---------------------------------------------------------------------------------------------------------------------
-- A group: sub stands below acme

SELECT pg_temp.must('adm', $$SELECT billing.end_approval_policy('acme', 'vip', '2020-01-01')$$);
SELECT is(pg_temp.try('sue', $$SELECT billing.set_parent_entity('sub', 'acme')$$), 'ZB002', 'not by who administers neither');
SELECT is(pg_temp.try('ada', $$SELECT billing.set_parent_entity('sub', 'acme')$$), 'ZB003', 'nor by who is no admin');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_parent_entity('sub', 'acme')$$), '', 'by the admin of both');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_parent_entity('acme', 'sub')$$), 'ZB013', 'no circle');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_parent_entity('acme', 'acme')$$), 'ZB013', 'nor a loop');
-- 11900 yen: not known in euros; at 0.006 they are 71.40, at 0.012 142.80
SELECT is(pg_temp.policy_of('sub', 'a1'), 'acme/top', 'the parent''s policies hold, in its currency: without a rate the strictest');
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('sub', 'JPY', 0.006, '2020-01-01', 'EUR')$$);
SELECT is(pg_temp.policy_of('sub', 'a1'), 'acme/small', '71.40 euros');
SELECT pg_temp.must('ada', $$SELECT billing.add_exchange_rate('sub', 'JPY', 0.012, '2021-01-01', 'EUR')$$);
SELECT is(pg_temp.policy_of('sub', 'a1'), 'acme/a-mid', '142.80 euros');
SELECT is(why, 'amount < 100: amount is 142.8', 'explained with the amount in the parent''s currency')
FROM doc d, billing.explain_policy('sub', d.reference) p WHERE d.entity = 'sub' AND p.policy = 'small' AND p.policy_entity = 'acme';
SELECT pg_temp.set_policy('own', 'amount > 11899.99', entity => 'sub', kind => 'credit_note');
SELECT is(pg_temp.policy_of('sub', 'a1'), 'acme/a-mid', 'a policy of its own for another kind changes nothing');
SELECT pg_temp.set_policy('ours', 'amount > 11899.99', entity => 'sub', kind => 'invoice');
SELECT is(pg_temp.policy_of('sub', 'a1'), 'sub/ours', 'one for this kind takes the place of all of the parent''s, in its own currency');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_parent_entity('sub', NULL)$$), '', 'it stands alone again');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_parent_entity('sub', 'acme')$$), '', 'and below again');
SELECT billing.revoke_duty('acme', 'adm', 'admin', '2020-01-02');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_parent_entity('sub', NULL)$$), 'ZB003', 'nobody leaves a group who does not administer its head');

-- ---------------------------------------------------------------------------------------------------------------------
-- The functions that know the kinds

SELECT is_empty($$SELECT kind FROM billing.document_kind WHERE to_regprocedure('billing_internal.' || facts_function || '(integer, bigint[])') IS NULL$$, 'every kind has a function for its facts');
SELECT is_empty($$SELECT DISTINCT kind FROM billing.document_state EXCEPT SELECT kind FROM billing.document_kind$$, 'every kind that has states is one');
SELECT is((SELECT count(*) FROM billing_internal.match_policies((SELECT entity_id FROM billing.legal_entity WHERE code = 'acme'), (SELECT array_agg(invoice_id) FROM doc))), 2::bigint, 'documents of others are not matched');
SELECT is((SELECT count(*) FROM billing_internal.match_policies(NULL, NULL)), 0::bigint, 'nothing is matched with nothing');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');

-- What a superuser breaks is found
SET LOCAL session_replication_role = replica;
INSERT INTO billing.approval_policy (entity_id, code, kind, valid_from) SELECT entity_id, 'empty', 'invoice', '2020-01-01' FROM billing.legal_entity WHERE code = 'acme';
UPDATE billing.legal_entity e SET parent_id = (SELECT s.entity_id FROM billing.legal_entity s WHERE s.code = 'sub') WHERE code = 'acme';
SET LOCAL session_replication_role = origin;
SELECT set_eq('SELECT pg_temp.broken()', ARRAY['a policy has levels if levels approve, and none otherwise: 1, such as policy empty', 'no entity stands above itself: 2, such as entity acme'], 'policies without levels, and entities in a circle');
SELECT lives_ok($$SELECT billing_internal.policy_set(entity_id) FROM billing.legal_entity$$, 'which do not hold anybody up for ever');

SELECT * FROM finish();
ROLLBACK;
