-- Hostile input to every function and procedure that billing_user may call: each argument in turn gets each value that its type
-- has in store, from somebody who may, from somebody without a duty and from a role that is nobody's login. A call either is
-- right to succeed, and then the books balance, or is refused with an error of class ZB that has a hint.
BEGIN;
\ir ../lib/persons.sql
SELECT * FROM no_plan();

-- ---------------------------------------------------------------------------------------------------------------------
-- Two entities of which everything called "theirs" is in the other one only

SELECT pg_temp.hire_all(), pg_temp.hire('oth');
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('who')); END $$;
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme');
SELECT billing.grant_duty('other', 'oth', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 100000 WHERE code = 'other';
SELECT billing.grant_duty('acme', 'ada', 'accountant'), billing.make_usage_months('2025-11-01', '2025-11-01');
SELECT pg_temp.must('ada', $$SELECT billing.close_usage('acme', '2025-12-01')$$);

CREATE FUNCTION pg_temp.open_shop(person text, entity text, name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.must(person, format($s$SELECT billing.add_tax_code(%1$L, %2$L, 'S', 'Standard'),
		billing.add_tax_rate(%1$L, %2$L, 19, '2007-01-01'), billing.add_customer(%1$L, %2$L, 'C', 'Street 1', '10115', 'Berlin', 'DE'),
		billing.add_account(%1$L, %2$L, %2$L, 'EUR'), billing.add_product(%1$L, %2$L, 'Seat', tax_code => %2$L),
		billing.add_meter(%1$L, %2$L, 'Calls'), billing.add_price_book(%1$L, %2$L, 'List', 'EUR'),
		billing.set_price(%1$L, %2$L, %2$L, '{"model": "per_unit", "unit": 2}', '2026-01-01'),
		billing.create_contract(%1$L, %2$L, %2$L, '2026-01-01'),
		billing.add_item(%1$L, %2$L, %2$L, %2$L, 'recurring', 10, price_book => %2$L)$s$, entity, name));
END $$;
SELECT pg_temp.open_shop('oth', 'other', 'theirs');
SELECT pg_temp.must('oth', $$SELECT * FROM billing.ingest_usage('other', '[1]')$$);
SELECT pg_temp.must('oth', $$CALL billing.run_billing('other', '2026-02-01')$$),
	pg_temp.must('oth', $$SELECT * FROM billing.validate_invoices('other')$$), pg_temp.must('oth', $$SELECT billing.issue_invoices('other')$$);

-- In acme five accounts, each with an invoice in another state, and k, which waits to be billed
SELECT pg_temp.open_shop('ada', 'acme', 'k');
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'k', 'calls', 'k', 'usage', tariff => '{"model": "per_unit", "unit": "0.01"}', meter => 'k'),
	billing.add_item('acme', 'k', 'own', 'k', 'usage', tariff => '{"model": "per_unit", "unit": "0.01"}', meter => 'k', own_usage => true),
	billing.add_usage_alias('acme', 'old', 'k'), billing.add_tax_code('acme', 'bare', 'S', 'Without a rate'), billing.add_meter('acme', 'k2', 'Calls')$$);
SELECT pg_temp.must('ada', format($$SELECT billing.add_account('acme', %1$L, 'k', 'EUR', purchase_order_required => %2$L),
	billing.create_contract('acme', %1$L, %1$L, '2026-01-01'), billing.add_item('acme', %1$L, 'seat', 'k', 'one_time', 1, '{"model": "per_unit", "unit": 5}')$$,
	s, s = 'held'))
FROM unnest('{draft,held,pending,approved,issued}'::text[]) s;
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-01-01')$$);
CREATE TEMP TABLE place (name text, value text);
INSERT INTO place SELECT account, reference FROM billing.invoice_overview WHERE entity = 'acme' AND account <> 'k';
INSERT INTO place SELECT 'theirs', reference FROM billing.invoice_overview WHERE entity = 'other' ORDER BY invoice_id LIMIT 1;
SELECT pg_temp.must('ada', format('SELECT * FROM billing.validate_invoices(''acme'', %L)', value)) FROM place WHERE name IN ('held', 'pending', 'approved', 'issued');
SELECT pg_temp.must('bob', format('SELECT billing.approve_invoice(''acme'', %L)', value)) FROM place WHERE name IN ('approved', 'issued');
SELECT pg_temp.must('ada', format('SELECT billing.issue_invoice(''acme'', %L)', value)) FROM place WHERE name = 'issued';
SELECT pg_temp.must('ada', $$SELECT * FROM billing.ingest_usage('acme', '[1]')$$);
SELECT pg_temp.must('rea', $$SELECT billing.set_absence('acme', '2025-01-01', '2027-12-31')$$);
INSERT INTO place SELECT 'delegation', pg_temp.must('rea', $$SELECT billing.delegate('acme', 'lim', '2025-01-01', '2027-12-31')$$);
SELECT pg_temp.must('ada', $$SELECT billing.expect_usage('acme', 'k', '1 hour')$$), pg_temp.must('oth', $$SELECT billing.expect_usage('other', 'theirs', '1 hour')$$);
INSERT INTO place
SELECT CASE e.code WHEN 'acme' THEN 'exception' ELSE 'their_exception' END, exception_id
FROM billing.exception x JOIN billing.legal_entity e USING (entity_id) WHERE x.kind = 'usage_malformed';
-- one event to correct, and a correction of another that waits for bob
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id":"stored","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":500}},
	{"id":"waiting","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":500}}]')$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', correction_limit => 1)$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_approval_policy('acme', 'pol', 'invoice', 'amount >= 1000000', '[{"duty": "approver"}]', valid_from => '2026-01-01')$$);
INSERT INTO place SELECT 'correction', pg_temp.must('ada', $$SELECT correction FROM billing.void_usage('acme', 's', '{waiting}', 'because')$$);
INSERT INTO place SELECT 'alert', pg_temp.must('ada', $$SELECT billing.add_usage_alert('acme', 'k', 'calls', 7)$$);
SELECT pg_temp.must('adm', $$SELECT billing.set_transition('acme', 'journal', 'pending_approval', 'own', 'draft', 'accountant')$$);
INSERT INTO place SELECT 'request', pg_temp.must('ada', $$SELECT billing.request_document('acme', 'contract_amendment', 'contract k', 5, 'EUR')$$);
-- one message that can be read, as if an older transaction had written it
SELECT billing.add_outbox_consumer('acme', 'k'), billing.add_outbox_consumer('other', 'theirs');
SET session_replication_role = replica;
INSERT INTO billing.outbox (entity_id, message_id, type, transaction_id, payload) SELECT entity_id, 1, 'exception.raised', '5', '{}' FROM billing.legal_entity WHERE code = 'acme';
SET session_replication_role = origin;
INSERT INTO place VALUES ('role', pg_temp.role_of('who'));
INSERT INTO place SELECT 'run', pg_temp.must('ada', $$SELECT billing_internal.open_run('acme', '2026-02-01', '{}')$$);

-- ---------------------------------------------------------------------------------------------------------------------
-- What to call: who may, and for each argument its kind, a value that is right (- is null), and beyond what its kind takes or
-- refuses, the labels of values that it takes (+) or refuses (-). A kind with ? takes null.
-- anyone: needs no duty; never: not for the likes of them; null: nulls concern nobody; bills: what was accepted is billed.

CREATE TEMP TABLE routine (name text, actor text, traits text, arguments text);
INSERT INTO routine VALUES
	('billing.access_report',     'ada',  '',       'entity acme | integer? 90 +zero,negative,least,utmost | integer? 30 +zero,negative,least,utmost'),
	('billing.act_as',            'app',  'null',   'person? ada'),
	('billing.add_account',       'ada',  'bills',  'entity acme | code new | ref k | word EUR | integer 30 +zero | ref? k | ref? k | boolean false | line? PO-1'),
	('billing.add_customer',      'ada',  '',       'entity acme | code new | text New | text? Street | text? 10115 | text? Berlin | word? DE | text? DE123'),
	('billing.add_item',          'ada',  'bills',  'entity acme | ref k | code new | ref k | word recurring | quantity 1 | json? {"model":"per_unit","unit":1} -null | ref? - | word? arrears | ref? - | date? 2026-01-01 -leap day | date? 2027-01-01 | boolean false'),
	('billing.add_item',          'ada',  'bills',  'entity acme | ref k | code new | ref k | word usage | number? - | json? - | ref k | word? arrears | ref k2 | date? 2026-01-01 | date? - | boolean true'),
	('billing.add_login',         'root', '',       'person ada | word <role>'),
	('billing.add_meter',         'ada',  '',       'entity acme | code new | text New | word sum | text quantity -percent | word? $.a==1 | keys? {region,size=$.spec.size} | integer? 2 +zero,negative | word nearest | number 95 | integer 1'),
	('billing.add_outbox_consumer', 'adm', '',      'entity acme | code new | text? why | boolean true | interval PT1H'),
	('billing.add_person',        'root', '',       'code new | text New'),
	('billing.add_price_book',    'ada',  '',       'entity acme | code new | text New | word EUR'),
	('billing.add_product',       'ada',  '',       'entity acme | code new | text New | word C62 | ref? k'),
	('billing.add_state',         'adm',  '',       'entity acme | word invoice | word waiting +theirs,other | word pending_approval | word approved | word go +theirs,other | word biller | word? independent | interval? PT1H +zero | text? because'),
	('billing.add_tax_code',      'ada',  '',       'entity acme | code new | word E | text New | text? why -null'),
	('billing.add_exchange_rate', 'ada',  '',       'entity acme | ref USD | number 0.9 | date 2026-01-01 | ref? EUR'),
	('billing.add_tax_rate',      'ada',  'bills',  'entity acme | ref bare | number 20 +zero | date 2026-01-01 | date? 2099-01-01'),
	('billing.add_usage_alias',   'ada',  'bills',  'entity acme | subject new | ref k | ref? - | ref? - | date? 2026-01-01 -leap day | date? 2027-01-01'),
	('billing.add_usage_alias',   'ada',  'bills',  'entity acme | subject new | ref? - | ref k | ref own | date? 2026-01-01 -leap day | date? 2027-01-01'),
	('billing.add_usage_alert',   'ada',  '',       'entity acme | ref k | ref calls | quantity? 100 -null,zero,negative,minus large | number? -'),
	('billing.add_usage_alert',   'ada',  '',       'entity acme | ref k | ref calls | number? - | quantity? 100 -null,zero,negative,large,minus large'),
	('billing.anomaly_score',     'ada',  'anyone', 'number? 120 +zero,negative,large,minus large,small | amounts? {100,110,120}'),
	('billing.approve_invoice',   'bob',  '',       'entity acme | invoice <pending> | text? because | integer? 2'),
	('billing.approve_usage_correction', 'bob', 'bills', 'entity acme | ref <correction> | text? because | integer? 1'),
	('billing.available_actions', 'ada',  '',       'entity acme | invoice <pending>'),
	('billing.audit_digest',      'root', 'anyone', 'entity? acme +other'),
	('billing.audit_proof',       'ada',  'never',  'entity acme | bigint 1'),
	('billing.backfill_usage',    'ada',  'bills',  'entity acme | json [{"id":"9","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":900}}] | text because'),
	('billing.cancel_run',        'ada',  '',       'entity acme | bigint <run>'),
	('billing.change_item',       'ada',  'bills',  'entity acme | ref k | ref k | date 2026-01-15 | quantity? 5 | json? {"model":"per_unit","unit":1} | ref? - | text? because'),
	('billing.change_item',       'ada',  'bills',  'entity acme | ref k | ref k | date 2026-01-15 | quantity? - | json? - | ref k | text? because'),
	('billing.check_usage_completeness', 'ada', '', 'entity acme | date 2026-02-01'),
	('billing.check_condition',   'ada',  'anyone', 'condition? amount>=10000 | word? invoice'),
	('billing.close_usage',       'ada',  'bills',  'entity acme | date 2026-01-15 -leap day'),
	('billing.confirm_outbox',    'app',  '',       'entity acme | ref k | word 0.5.1'),
	('billing.create_contract',   'ada',  'bills',  'entity acme | code new | ref k | date 2026-01-01 -leap day | date? 2027-01-01 | word month | integer 1 | date? 2026-01-01'),
	('billing.create_entity',     'root', '',       'code new -other | text New | word EUR | word Europe/Rome | word? IT | integer 1 | word half_up'),
	('billing.credit_and_rebill', 'ada',  'bills',  'entity acme | invoice <issued> | word wrong_details | text? because'),
	('billing.credit_invoice',    'ada',  '',       'entity acme | invoice <issued> | word goodwill | json? [{"line":1,"amount":1}] | text? because'),
	('billing.credit_status',     'ada',  '',       'entity acme | invoice <issued>'),
	('billing.current_actor',     'ada',  'anyone', ''),
	('billing.current_correlation', 'ada', 'anyone', ''),
	('billing.current_usage',     'ada',  '',       'entity acme | ref k | ref? k | ref? calls | date? 2026-02-01'),
	('billing.decide',            'bob',  '',       'entity acme | documents {<pending>} | word reject | text because | versions? -'),
	('billing.delegate',          'bob',  '',       'entity acme | person lim | date 2026-01-01 -leap day | date 2027-01-01 | word? approver | number? 1000 +zero,small | text? because | person? -'),
	('billing.cycle_times',       'ada',  '',       'entity acme | date? 2026-01-01'),
	('billing.detach_usage_month', 'root', '',      'date 2025-11-30 -leap day'),
	('billing.discard_invoice',   'ada',  'bills',  'entity acme | invoice <draft> | text? because | integer? 1'),
	('billing.drain_usage_inbox', 'ada',  '',       'entity acme | integer 100 +utmost'),
	('billing.drop_state',        'adm',  '',       'entity acme | word contract_amendment | word legal_review'),
	('billing.drop_transition',   'adm',  '',       'entity acme | word journal | word pending_approval | word own'),
	('billing.dry_run',           'ada',  '',       'entity acme | date 2026-02-01'),
	('billing.end_approval_policy', 'adm', '',      'entity acme | ref pol | date? 2026-02-01 | text? because'),
	('billing.end_absence',       'rea',  '',       'entity acme | date? 2026-06-01 -leap day | person? -'),
	('billing.end_contract',      'ada',  'bills',  'entity acme | ref k | date 2026-01-15'),
	('billing.end_delegation',    'rea',  '',       'entity acme | bigint <delegation> | date? 2027-06-01 -leap day'),
	('billing.end_item',          'ada',  'bills',  'entity acme | ref k | ref k | date 2026-01-15 | text? because'),
	('billing.end_outbox_consumer', 'adm', '',      'entity acme | ref k | text because'),
	('billing.end_usage_alias',   'ada',  '',       'entity acme | ref old | date 2026-01-15'),
	('billing.end_usage_alert',   'ada',  '',       'entity acme | bigint <alert>'),
	('billing.entitlement',       'ada',  '',       'entity acme | ref k | date 2026-02-01'),
	('billing.erase_personal_data', 'adm', '',      'entity acme | ref k | text because'),
	('billing.expect_usage',      'ada',  '',       'entity acme | text new | interval PT1H | interval PT5M +zero | text? because'),
	('billing.explain_invoice',   'ada',  '',       'entity acme | invoice <issued>'),
	('billing.explain_policy',    'ada',  '',       'entity acme | invoice <pending>'),
	('billing.explain_usage',     'ada',  '',       'entity acme | invoice <issued> | integer? 1 +zero,negative,least,utmost'),
	('billing.forget_usage_source', 'ada', '',      'entity acme | ref k'),
	('billing.grant_duty',        'root', '',       'entity acme +other | person nob | word approver | date? 2026-01-01 -leap day | date? 2027-01-01 | number? 1000 +zero,small | integer? 1 | number? 5000 +zero,small'),
	('billing.has_duty',          'ada',  '',       'entity acme | code biller'),
	('billing.ingest_usage',      'ada',  'bills',  'entity acme | events [{"id":"1","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":900}}]'),
	('billing.ingest_usage',      'ada',  'bills',  'entity acme | texts {s} | texts {2} | texts {k} | texts {k} | moments {2026-01-05T10:00:00Z} | jsons? {"{\"quantity\":900}"}'),
	('billing.issue_invoice',     'ada',  '',       'entity acme | invoice <approved> | integer? 3'),
	('billing.issue_invoices',    'ada',  '',       'entity acme | date? 2026-02-01'),
	('billing.my_entities',       'ada',  'anyone', ''),
	('billing.make_usage_months', 'root', '',       'date 2026-01-31 -leap day | date 2026-02-01'),
	('billing.period_index',      'ada',  'anyone', 'date 2026-01-31 | word month | integer 1 | date 2026-03-31'),
	('billing.period_start',      'ada',  'anyone', 'date 2026-01-31 | word month | integer 1 | bigint? 2 +zero,negative'),
	('billing.post_restore',      'ada',  'never',  ''),
	('billing.pre_restore',       'ada',  'never',  ''),
	('billing.preview_invoice',   'ada',  '',       'entity acme | ref k | date 2026-02-01'),
	('billing.prorate',           'ada',  'anyone', 'computed? 10 | integer 3 +zero | integer 31 +utmost'),
	('billing.rate',              'ada',  'anyone', 'tariff? {"model":"per_unit","unit":1} | usage? 3 | bigint? 3 +zero,utmost'),
	('billing.rate',              'ada',  'anyone', 'tariff? {"model":"matrix","dimensions":["r"],"cells":[{"match":{"r":"eu"},"tariff":{"model":"per_unit","unit":1}}]} | usage? 3 | json {"r":"eu"} | bigint? 3 +zero,utmost'),
	('billing.rate_breakdown',    'ada',  'anyone', 'tariff? {"model":"per_unit","unit":1} | usage? 3 | bigint? 3 +zero,utmost'),
	('billing.rate_breakdown',    'ada',  'anyone', 'tariff? {"model":"matrix","dimensions":["r"],"cells":[{"match":{"r":"eu"},"tariff":{"model":"per_unit","unit":1}}]} | usage? 3 | json {"r":"eu"} | bigint? 3 +zero,utmost'),
	('billing.rate_events',       'ada',  'anyone', 'tariff {"model":"per_unit","unit":1} | usage? 3'),
	('billing.read_outbox',       'app',  '',       'entity acme | ref k | integer 10'),
	('billing.rebuild_usage_rollup', 'ada', '',     'entity acme'),
	('billing.raise_usage_alerts', 'app', '',       'entity acme'),
	('billing.record_heartbeat',  'app',  '',       'entity acme | text new | moment 2026-01-05T10:00:00Z'),
	('billing.reject_invoice',    'bob',  '',       'entity acme | invoice <pending> | text because | integer? 2'),
	('billing.reject_usage_correction', 'bob', '', 'entity acme | ref <correction> | text because | integer? 1'),
	('billing.release_invoice',   'ada',  '',       'entity acme | invoice <held> | text? because | integer? 2'),
	('billing.release_usage',     'ada',  '',       'entity acme | text because | text? k | ids? {}'),
	('billing.reopen_usage',      'ada',  '',       'entity acme | date 2025-12-31 -leap day | text because'),
	('billing.replace_usage',     'ada',  'bills',  'entity acme | json [{"id":"stored","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":900}}] | text because'),
	('billing.replay_usage',      'ada',  '',       'entity acme'),
	('billing.request_document',  'ada',  '',       'entity acme | word contract_amendment | text new | number 5 +zero,negative,small | word EUR | json {} +empty object,object,empty key,control,deep object,wide object | text? because'),
	('billing.reset_task',        'root', '',       'word verify'),
	('billing.resolve_exception', 'ada',  '',       'entity acme | bigint <exception> | text done'),
	('billing.retry_parked',      'ada',  '',       'entity acme | ref? k'),
	('billing.revoke_duty',       'root', '',       'entity acme | person lim | word approver | date? 2026-01-01'),
	('billing.round_amount',      'ada',  'anyone', 'computed? 1.005 | integer 2 +zero | word half_up'),
	('billing.roll_up_usage',     'ada',  '',       'entity acme'),
	('billing.run_billing',       'ada',  '',       'entity acme | date 2026-02-01 | options {"phase":"issue"}'),
	('billing.run_due_jobs',      'root', '',       'boolean? true'),
	('billing.run_job',           'root', '',       'word verify | boolean? true'),
	('billing.run_report',        'ada',  '',       'entity acme | bigint <run> | boolean? true'),
	('billing.run_slices',        'root', '',       ''),
	('billing.run_worker_once',   'root', '',       'boolean? true'),
	('billing.schedule_jobs',     'ada',  'never',  ''),
	('billing.set_approval_policy', 'adm', '',      'entity acme | code new | word invoice | condition? amount>=1000000 | json [{"duty":"approver"}] | integer 100 +zero | date? 2026-01-01 | date? 2099-01-01 | word levels | text? because'),
	('billing.seal_audit',        'root', '',       'entity? acme +other'),
	('billing.set_correlation',   'ada',  'anyone', 'code? r1'),
	('billing.set_absence',       'bob',  '',       'entity acme | date 2026-01-01 -leap day | date 2027-01-01 | person? lim | text? because | person? -'),
	('billing.set_billing_policy', 'adm', '',       'entity acme | number? 100000 +zero,small | integer? 100 +utmost | number? 3.5 | integer? 12 | word? draft | time? 06:30 | bounds? {}'),
	('billing.set_contract_owner', 'adm', '',       'entity acme | ref k | person? bob'),
	('billing.set_manager',       'adm',  '',       'entity acme | person ada | person? bob'),
	('billing.set_parent_entity', 'adm', '',        'entity acme | entity? -'),
	('billing.set_price',         'ada',  'bills',  'entity acme | ref k | ref k | json {"model":"per_unit","unit":1} | date 2026-01-15 -leap day | date? 2026-02-01'),
	('billing.set_task',          'root', '',       'word verify | interval? PT1H | boolean? true | integer? 30'),
	('billing.set_transition',    'adm',  '',       'entity acme | word journal | word pending_approval | word new +theirs,other | word draft | word accountant | word? independent | interval? PT1H +zero | text? because'),
	('billing.set_usage_policy',  'adm',  '',       'entity acme | integer? 40 +zero | word? bill | number? 100 +zero,small | number? 0.9 | integer? 12'),
	('billing.start_run',         'ada',  '',       'entity acme | date 2026-02-01 | options {"phase":"validate"}'),
	('billing.state_machine',     'ada',  '',       'entity acme'),
	('billing.suggest_subject',   'ada',  '',       'entity acme | subject K-1'),
	('billing.take_action',       'ada',  '',       'entity acme | ref <request> | word cancel | integer? 1 | text? because'),
	('billing.unschedule_jobs',   'ada',  'never',  ''),
	('billing.validate_invoices', 'ada',  '',       'entity acme | invoice? <draft>'),
	('billing.verify',            'ada',  'anyone', 'entity? acme'),
	('billing.verify_audit',      'ada',  'anyone', 'entity acme | json? {"block":1,"hash":"00"}'),
	('billing.void_invoice',      'ada',  '',       'entity acme | invoice <issued> | word void | text? because'),
	('billing.void_usage',        'ada',  'bills',  'entity acme | word s | keys {stored} | text because'),
	-- the steps that procedures and views take on behalf of their caller
	('billing_internal.entity_id', 'ada', '',       'entity acme'),
	('billing_internal.open_run', 'ada',  '',       'entity acme | date 2026-02-01 | options {"phase":"draft"}'),
	('billing_internal.run_slice', 'ada', 'null',   'entity? acme | bigint? <run> | integer? 1 +zero,negative,least,utmost'),
	('billing_internal.close_run', 'ada', 'null',   'entity? acme | bigint? <run>');
ALTER TABLE routine ADD id serial;

-- The values, by type. A megabyte stays an expression, so that no statement is that long.
CREATE TEMP TABLE hostile (type text, label text, value text);
-- CALL takes no subquery
CREATE FUNCTION pg_temp.wide_object() RETURNS jsonb LANGUAGE sql AS 'SELECT jsonb_object_agg(i, i) FROM generate_series(1, 10000) i';
INSERT INTO hostile VALUES
	('text', 'null', 'NULL::text'),
	('text', 'empty', $$''$$),
	('text', 'blank', $$'   '$$),
	('text', 'padded', $$' x '$$),
	('text', 'megabyte', $$repeat('x', 1000000)$$),
	('text', 'megabyte of others', $$repeat('é', 500000)$$),
	('text', 'control', $$'a' || chr(1) || 'b'$$),
	('text', 'escape', $$chr(27) || '[31m'$$),
	('text', 'delete', $$chr(127)$$),
	('text', 'tab', $$E'a\tb'$$),
	('text', 'newline', $$E'a\nb'$$),
	('text', 'quote', $$'O''Brien "x" ''''--'$$),
	('text', 'inject', $$'x''); DROP TABLE billing.person; --'$$),
	('text', 'backslash', $$E'\\x\\'$$),
	('text', 'percent', $$'%s%n%1$s%'$$),
	('text', 'foreign', $$'Ünïcode 日本 🧾'$$),
	('text', 'zero', $$'0'$$),
	('text', 'negative', $$'-1'$$),
	('text', 'huge', $$'1e30'$$),
	('text', 'nan', $$'NaN'$$),
	('text', 'infinity', $$'Infinity'$$),
	('text', '128 bytes', $$repeat('x', 128)$$),
	('text', '129 bytes', $$repeat('x', 129)$$),
	('text', 'json', $$'{"a": [1]}'$$),
	('text', 'unknown', $$'no-such'$$),
	('text', 'theirs', $$'theirs'$$),
	('text', 'other', $$'other'$$),
	('numeric', 'null', 'NULL::numeric'),
	('numeric', 'nan', $$'NaN'::numeric$$),
	('numeric', 'infinity', $$'Infinity'::numeric$$),
	('numeric', 'minus infinity', $$'-Infinity'::numeric$$),
	('numeric', 'zero', '0'),
	('numeric', 'negative', '-1'),
	('numeric', 'large', '1e30'),
	('numeric', 'minus large', '-1e30'),
	('numeric', 'huge', '1e100'),
	('numeric', 'utmost', '1e131071'),
	('numeric', 'small', '1e-30'),
	('numeric', 'tiny', '1e-100'),
	('numeric', 'least', '1e-16383'),
	('numeric', 'text', $$'ten'::numeric$$),
	('numeric[]', 'null', 'NULL::numeric[]'),
	('numeric[]', 'empty array', $$'{}'::numeric[]$$),
	('numeric[]', 'nulls', $$'{NULL,NULL,NULL}'::numeric[]$$),
	('numeric[]', 'one not a number', $$'{1,2,NaN}'::numeric[]$$),
	('numeric[]', 'infinity', $$'{1,2,Infinity}'::numeric[]$$),
	('numeric[]', 'utmost', $$'{1,2,1e131071}'::numeric[]$$),
	('numeric[]', 'large', $$'{-1e38,1e39,1e39}'::numeric[]$$),
	('numeric[]', 'least', $$'{1,2,1e-16383}'::numeric[]$$),
	('numeric[]', 'two dimensions', $$'{{1,2},{3,4}}'::numeric[]$$),
	('numeric[]', 'long', $$(SELECT array_agg(i * 0.01) FROM generate_series(1, 100000) i)$$),
	('numeric[]', 'text', $$'{ten}'::numeric[]$$),
	('integer', 'null', 'NULL::integer'),
	('integer', 'zero', '0'),
	('integer', 'negative', '-1'),
	('integer', 'least', '(-2147483648)'),
	('integer', 'utmost', '2147483647'),
	('integer', 'beyond', $$'2147483648'::integer$$),
	('bigint', 'null', 'NULL::bigint'),
	('bigint', 'zero', '0::bigint'),
	('bigint', 'negative', '-1::bigint'),
	('bigint', 'least', $$'-9223372036854775808'::bigint$$),
	('bigint', 'utmost', '9223372036854775807'),
	('bigint', 'beyond', $$'9223372036854775808'::bigint$$),
	('bigint[]', 'null', 'NULL::bigint[]'),
	('bigint[]', 'empty array', $$'{}'::bigint[]$$),
	('bigint[]', 'null inside', $$'{NULL}'::bigint[]$$),
	('bigint[]', 'unknown', $$'{0,-1,9223372036854775807}'::bigint[]$$),
	('bigint[]', 'square', $$'{{1,2},{3,4}}'::bigint[]$$),
	('boolean', 'null', 'NULL::boolean'),
	('boolean', 'text', $$'perhaps'::boolean$$),
	('date', 'null', 'NULL::date'),
	('date', 'infinity', $$'infinity'::date$$),
	('date', 'minus infinity', $$'-infinity'::date$$),
	('date', 'first of all', $$'4713-01-01 BC'::date$$),
	('date', 'last of all', $$'5874897-12-31'::date$$),
	('date', 'too early', $$'1899-12-31'::date$$),
	('date', 'too late', $$'3000-01-01'::date$$),
	('date', 'leap day', $$'2028-02-29'::date$$),
	('date', 'no leap day', $$'2027-02-29'::date$$),
	('date', 'text', $$'some day'::date$$),
	('timestamptz', 'null', 'NULL::timestamptz'),
	('timestamptz', 'infinity', $$'infinity'::timestamptz$$),
	('timestamptz', 'minus infinity', $$'-infinity'::timestamptz$$),
	('timestamptz', 'first of all', $$'4713-01-01 00:00:00+00 BC'::timestamptz$$),
	('timestamptz', 'last of all', $$'294276-12-31 00:00:00+00'::timestamptz$$),
	('timestamptz', 'text', $$'some time'::timestamptz$$),
	('time', 'null', 'NULL::time'),
	('time', 'last of all', $$'24:00'::time$$),
	('time', 'last but one', $$'23:59:59.999999'::time$$),
	('time', 'text', $$'noon'::time$$),
	('interval', 'null', 'NULL::interval'),
	('interval', 'zero', $$interval '0'$$),
	('interval', 'negative', $$interval '-1 day'$$),
	('interval', 'least', $$interval '-178000000 years'$$),
	('interval', 'utmost', $$interval '178000000 years'$$),
	('interval', 'mixed', $$interval '2147483647 months 2147483647 days -2562047788 hours'$$),
	('interval', 'text', $$'soon'::interval$$),
	('jsonb', 'null', 'NULL::jsonb'),
	('jsonb', 'json null', $$'null'::jsonb$$),
	('jsonb', 'number', $$'7'::jsonb$$),
	('jsonb', 'huge', $$'1e1000'::jsonb$$),
	('jsonb', 'text', $$'"text"'::jsonb$$),
	('jsonb', 'megabyte', $$to_jsonb(repeat('x', 1000000))$$),
	('jsonb', 'boolean', $$'true'::jsonb$$),
	('jsonb', 'empty array', $$'[]'::jsonb$$),
	('jsonb', 'empty object', $$'{}'::jsonb$$),
	('jsonb', 'array', $$'[null, 1, "x", [], {}]'::jsonb$$),
	('jsonb', 'object', $$'{"model": 7, "r": [1]}'::jsonb$$),
	('jsonb', 'empty key', $$'{"": null}'::jsonb$$),
	('jsonb', 'control', $$'{"a\u0001b\n": "\u0001"}'::jsonb$$),
	('jsonb', 'deep array', $$(repeat('[', 5000) || repeat(']', 5000))::jsonb$$),
	('jsonb', 'deep object', $$(repeat('{"model":', 5000) || '1' || repeat('}', 5000))::jsonb$$),
	('jsonb', 'long array', $$('[' || repeat('1,', 100000) || '1]')::jsonb$$),
	('jsonb', 'wide object', $$pg_temp.wide_object()$$),
	('jsonb', 'long key', $$jsonb_build_object(repeat('x', 1000000), 1)$$),
	('jsonb', 'no json', $$'{model: 1}'::jsonb$$),
	('jsonb', 'zero byte', $$'"\u0000"'::jsonb$$),
	('text[]', 'null', 'NULL::text[]'),
	('text[]', 'empty', $$'{}'::text[]$$),
	('text[]', 'of null', $$'{NULL}'::text[]$$),
	('text[]', 'of empty', $$'{""}'::text[]$$),
	('text[]', 'table', $$'{{a},{b}}'::text[]$$),
	('text[]', 'repeated', $$'{a,b,a}'::text[]$$),
	('text[]', 'long', $$array_fill('x'::text, '{100000}')$$),
	('text[]', 'megabyte', $$ARRAY[repeat('x', 1000000)]$$),
	('text[]', 'control', $$ARRAY['a' || chr(1)]$$),
	('text[]', 'half', $$'{a=}'::text[]$$),
	('integer[]', 'null', 'NULL::integer[]'),
	('integer[]', 'empty array', $$'{}'::integer[]$$),
	('integer[]', 'nulls', $$'{NULL}'::integer[]$$),
	('integer[]', 'two', $$'{1,1}'::integer[]$$),
	('integer[]', 'text', $$'{one}'::integer[]$$),
	('timestamptz[]', 'null', 'NULL::timestamptz[]'),
	('timestamptz[]', 'nulls', $$'{NULL}'::timestamptz[]$$),
	('timestamptz[]', 'empty array', $$'{}'::timestamptz[]$$),
	('timestamptz[]', 'infinity', $$'{infinity}'::timestamptz[]$$),
	('timestamptz[]', 'minus infinity', $$'{-infinity}'::timestamptz[]$$),
	('timestamptz[]', 'first of all', $$'{4713-01-01 BC}'::timestamptz[]$$),
	('timestamptz[]', 'last of all', $$'{294276-12-31 23:59:59.999999Z}'::timestamptz[]$$),
	('timestamptz[]', 'two dimensions', $$'{{2026-01-01}}'::timestamptz[]$$),
	('timestamptz[]', 'two', $$'{2026-01-01,2026-01-01}'::timestamptz[]$$),
	('timestamptz[]', 'text', $$'{some day}'::timestamptz[]$$),
	('jsonb[]', 'null', 'NULL::jsonb[]'),
	('jsonb[]', 'nulls', $$'{NULL}'::jsonb[]$$),
	('jsonb[]', 'json null', $$'{null}'::jsonb[]$$),
	('jsonb[]', 'number', $$ARRAY['7'::jsonb]$$),
	('jsonb[]', 'array', $$ARRAY['[null, 1, "x", [], {}]'::jsonb]$$),
	('jsonb[]', 'deep object', $$ARRAY[(repeat('{"model":', 5000) || '1' || repeat('}', 5000))::jsonb]$$),
	('jsonb[]', 'megabyte', $$ARRAY[to_jsonb(repeat('x', 1000000))]$$),
	('jsonb[]', 'two', $$ARRAY['{}'::jsonb, '{}']$$),
	('jsonb[]', 'empty array', $$'{}'::jsonb[]$$),
	('jsonb[]', 'no json', $$ARRAY['{model: 1}'::jsonb]$$),
	('billing.tariff', 'null', 'NULL::billing.tariff'),
	('billing.tariff', 'empty', $$''::billing.tariff$$),
	('billing.tariff', 'text', $$'free of charge'::billing.tariff$$),
	('billing.tariff', 'megabyte', $$repeat('{', 1000000)::billing.tariff$$),
	('billing.tariff', 'control', $$('{"model":' || chr(1) || '}')::billing.tariff$$),
	('billing.tariff', 'array', $$'[]'::jsonb::billing.tariff$$),
	('billing.tariff', 'deep object', $$(repeat('{"model":', 5000) || '1' || repeat('}', 5000))::billing.tariff$$),
	('billing.tariff', 'negative', $$'{"model":"per_unit","unit":-1}'::billing.tariff$$),
	('billing.tariff', 'huge', $$'{"model":"per_unit","unit":1e30}'::billing.tariff$$),
	('billing.tariff', 'infinity', $$'{"model":"per_unit","unit":"Infinity"}'::billing.tariff$$);

-- What a kind of argument is, and what it takes of all that
CREATE TEMP TABLE kind (kind text PRIMARY KEY, type text, takes text);
INSERT INTO kind VALUES
	('entity',   'text', ''),
	('person',   'text', ''),
	('ref',      'text', ''),
	('invoice',  'text', ''),
	('word',     'text', ''),
	('condition', 'text', ''),
	('code',     'text', 'quote,inject,backslash,percent,foreign,zero,negative,huge,nan,infinity,128 bytes,json,unknown,theirs,other'),
	('subject',  'text', 'quote,inject,backslash,percent,foreign,zero,negative,huge,nan,infinity,128 bytes,129 bytes,json,unknown,theirs,other,padded,blank'),
	('line',     'text', 'quote,inject,backslash,percent,foreign,zero,negative,huge,nan,infinity,128 bytes,129 bytes,json,unknown,theirs,other,padded,tab,newline'),
	('text',     'text', 'quote,inject,backslash,percent,foreign,zero,negative,huge,nan,infinity,128 bytes,129 bytes,json,unknown,theirs,other,padded,tab,newline'),
	('number',   'numeric', ''),
	('computed', 'numeric', 'zero,negative,large,minus large,small,tiny,least'),
	('quantity', 'numeric', 'zero,negative,large,minus large,small'),
	('usage',    'numeric', 'zero,negative,large,minus large,small,huge,tiny'),
	('amounts',  'numeric[]', 'empty array,nulls,large,long'),
	('integer',  'integer', ''),
	('bigint',   'bigint', ''),
	('ids',      'bigint[]', 'empty array'),
	('boolean',  'boolean', ''),
	('date',     'date', 'leap day'),
	('moment',   'timestamptz', 'first of all'),
	('interval', 'interval', ''),
	('time',     'time', 'last but one'),
	('options',  'jsonb', 'empty object'),
	('bounds',   'text[]', 'empty'),
	('json',     'jsonb', ''),
	('events',   'jsonb', 'empty array,empty object,array,object,empty key,control,deep array,deep object,wide object,long key'),
	('keys',     'text[]', ''),
	('documents', 'text[]', 'empty,repeated,half'),
	('versions', 'integer[]', ''),
	('texts',    'text[]', 'of null,of empty,megabyte,control,half'),
	('moments',  'timestamptz[]', 'nulls,infinity,minus infinity,first of all,last of all'),
	('jsons',    'jsonb[]', 'nulls,json null,number,array,deep object,megabyte'),
	('tariff',   'billing.tariff', 'negative');

-- Values that are hostile only together, or only there: at which arguments
CREATE TEMP TABLE special (name text, at int[], given text[], label text, accepted boolean);
INSERT INTO special VALUES
	('billing.add_item', '{11,12}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.add_item', '{11,12}', '{2026-02-01,2026-02-01}', 'ends as it starts', false),
	('billing.add_item', '{11,12}', '{2028-02-29,2028-03-01}', 'a leap day long', true),
	('billing.add_usage_alias', '{6,7}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.add_usage_alias', '{2}', '{old}', 'an alias that is there', false),
	('billing.add_login', '{2}', '{postgres}', 'a login that is no role of billing', true),
	('billing.add_tax_rate', '{4,5}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.add_tax_rate', '{4,5}', '{2026-02-01,2026-02-01}', 'ends as it starts', false),
	('billing.add_tax_rate', '{3}', '{100.0000001}', 'beyond a hundred per cent', false),
	('billing.add_tax_rate', '{2}', '{k}', 'a rate that is there', false),
	('billing.start_run', '{3}', '{"{\"phase\": \"everything\"}"}', 'no such phase', false),
	('billing.start_run', '{3}', '{"{\"phase\": [\"issue\"]}"}', 'a list of phases', false),
	('billing.start_run', '{3}', '{"{\"slice\": 0}"}', 'no slice', false),
	('billing.start_run', '{3}', '{"{\"slice\": 1.5}"}', 'half a slice', false),
	('billing.start_run', '{3}', '{"{\"slice\": \"NaN\"}"}', 'a slice that is no number', false),
	('billing.start_run', '{3}', '{"{\"slice\": 99999999999999999999999999}"}', 'a huge slice', false),
	('billing.approve_invoice', '{2}', '{D0}', 'no such document', false),
	('billing.approve_invoice', '{2}', '{D-1}', 'a negative document', false),
	('billing.approve_invoice', '{2}', '{D999999999999999999}', 'the last document', false),
	('billing.approve_invoice', '{2}', '{D9223372036854775808}', 'beyond the last document', false),
	('billing.approve_invoice', '{2}', '{D1 OR 1=1}', 'more than a document', false),
	('billing.approve_invoice', '{2}', '{D١}', 'digits of others', false),
	('billing.approve_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.approve_invoice', '{2}', '{<issued>}', 'what is issued', false),
	('billing.approve_usage_correction', '{2}', '{U0}', 'no such correction', false),
	('billing.approve_usage_correction', '{2}', '{U9223372036854775808}', 'beyond the last correction', false),
	('billing.approve_usage_correction', '{2}', '{<issued>}', 'a document of another kind', false),
	('billing.change_item', '{4}', '{1990-01-01}', 'before it begins', true),
	('billing.create_contract', '{4,5}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.create_contract', '{4,5}', '{2026-02-01,2026-02-01}', 'ends as it starts', true),
	('billing.create_contract', '{4,5,8}', '{2028-02-29,2029-02-28,2028-02-29}', 'a leap year', true),
	('billing.create_contract', '{7}', '{1001}', 'beyond the longest interval', false),
	('billing.discard_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.discard_invoice', '{2}', '{<issued>}', 'what is issued', false),
	('billing.end_contract', '{3}', '{1990-01-01}', 'before it begins', true),
	('billing.end_item', '{4}', '{1990-01-01}', 'before it begins', true),
	('billing.explain_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.explain_invoice', '{2}', '{INV-1999-000001}', 'no such number', false),
	('billing.grant_duty', '{4,5}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.grant_duty', '{4,5}', '{2026-02-01,2026-02-01}', 'ends as it starts', false),
	('billing.grant_duty', '{3}', '{biller}', 'a limit for who has none', false),
	('billing.grant_duty', '{2,3,6,7}', '{ada,approver,NULL,NULL}', 'a conflicting duty', false),
	('billing.issue_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.issue_invoice', '{2}', '{<draft>}', 'what is a draft', false),
	('billing.period_index', '{1,4}', '{2999-12-31,1900-01-01}', 'long before', true),
	('billing.prorate', '{2,3}', '{31,30}', 'more than the whole', false),
	('billing.prorate', '{2,3}', '{0,0}', 'none of nothing', false),
	('billing.reject_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.release_invoice', '{2}', '{<theirs>}', 'their document', false),
	('billing.resolve_exception', '{2}', '{<their_exception>}', 'their exception', false),
	('billing.set_approval_policy', '{7,8}', '{2026-02-01,2026-02-01}', 'ends as it starts', false),
	('billing.set_approval_policy', '{9}', '{forbid}', 'levels where nothing is to be approved', false),
	('billing.set_approval_policy', '{5}', '{"[{\"duty\": \"approver\", \"deadline\": \"soon\"}]"}', 'a deadline that is none', false),
	('billing.set_approval_policy', '{5}', '{"[{\"dutty\": \"approver\"}]"}', 'a slip of the pen', false),
	('billing.set_billing_policy', '{2,8}', '{1,"{max_amount}"}', 'set and taken back', false),
	('billing.set_billing_policy', '{2,8}', '{NULL,"{max_amount}"}', 'taken back', true),
	('billing.set_billing_policy', '{8}', '{"{history}"}', 'what is no bound', false),
	('billing.set_price', '{5,6}', '{2026-02-01,2026-01-01}', 'ends before it starts', false),
	('billing.set_price', '{5,6}', '{2026-02-01,2026-02-01}', 'ends as it starts', false),
	('billing.validate_invoices', '{2}', '{<theirs>}', 'their document', false),
	('billing.validate_invoices', '{2}', '{<issued>}', 'what is issued', false);

-- ---------------------------------------------------------------------------------------------------------------------
-- The calls

CREATE TEMP TABLE argument AS
SELECT r.id AS routine, a.n::int, m[1] AS kind, m[2] = '?' AS optional,
	CASE WHEN m[3] = '-' THEN 'NULL' ELSE quote_literal(coalesce(p.value, m[3])) END || '::' || k.type AS value,
	string_to_array(substring(m[4] FROM ' \+(.*)'), ',') AS takes, string_to_array(substring(m[4] FROM ' -(.*)'), ',') AS refuses
FROM routine r
CROSS JOIN LATERAL unnest(string_to_array(nullif(r.arguments, ''), ' | ')) WITH ORDINALITY a (text, n)
CROSS JOIN LATERAL regexp_match(a.text, '^(\w+)(\??) (\S+)(.*)$') m
JOIN kind k ON k.kind = m[1]
LEFT JOIN place p ON m[3] = '<' || p.name || '>';

-- A call of a routine with some arguments replaced
CREATE FUNCTION pg_temp.statement(of_routine int, at int[], given text[]) RETURNS text LANGUAGE sql AS $$
	SELECT format(CASE p.prokind WHEN 'p' THEN 'CALL %s(%s)' WHEN 'a' THEN 'SELECT %s(%s)' ELSE 'SELECT * FROM %s(%s)' END, r.name,
		(SELECT string_agg(coalesce(given[array_position(at, a.n)], a.value), ', ' ORDER BY a.n) FROM argument a WHERE a.routine = r.id))
	FROM routine r
	JOIN pg_proc p ON p.pronamespace = split_part(r.name, '.', 1)::regnamespace AND p.proname = split_part(r.name, '.', 2)
		AND p.pronargs = (SELECT count(*) FROM argument a WHERE a.routine = r.id)
	WHERE r.id = of_routine;
$$;

CREATE TEMP TABLE call (id serial, routine int, n int, kind text, label text, accepted boolean, statement text);
INSERT INTO call (routine, label, accepted, statement)
SELECT id, 'right', traits <> 'never', pg_temp.statement(id, '{}', '{}') FROM routine;
INSERT INTO call (routine, n, kind, label, accepted, statement)
SELECT a.routine, a.n, a.kind, h.label,
	(h.label = 'null' AND a.optional OR h.label = ANY (string_to_array(k.takes, ',')) OR h.label = ANY (coalesce(a.takes, '{}')))
		AND NOT h.label = ANY (coalesce(a.refuses, '{}')),
	pg_temp.statement(a.routine, ARRAY[a.n], ARRAY[h.value])
FROM argument a JOIN kind k USING (kind) JOIN hostile h USING (type);
INSERT INTO call (routine, kind, label, accepted, statement)
SELECT min(r.id), 'special', s.label, s.accepted, pg_temp.statement(min(r.id), s.at,
	(SELECT array_agg(coalesce(quote_literal(p.value), quote_nullable(nullif(g.value, 'NULL'))) ORDER BY g.n)
	FROM unnest(s.given) WITH ORDINALITY g (value, n) LEFT JOIN place p ON g.value = '<' || p.name || '>'))
FROM special s LEFT JOIN routine r USING (name)
GROUP BY s.name, s.at, s.given, s.label, s.accepted;

-- What a call gives, all of it taken back. What was accepted may be billed, and must leave the books in balance.
CREATE FUNCTION pg_temp.attempt(person text, asked text, bills boolean, checks boolean,
	OUT state text, OUT message text, OUT detail text, OUT hint text, OUT broken text, OUT took interval)
LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
BEGIN
	IF person <> 'root' THEN
		EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	END IF;
	EXECUTE asked;
	state := 'done';
	took := clock_timestamp() - started;
	IF bills THEN
		EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of('ada'));
		CALL billing.run_billing('acme', '2026-02-15');
		PERFORM billing.validate_invoices('acme');
	END IF;
	RESET SESSION AUTHORIZATION;
	IF checks THEN
		SELECT string_agg(format('%s: %s', v.invariant, v.example), '; ') INTO broken FROM billing.verify() v WHERE v.violations <> 0;
	END IF;
	RAISE EXCEPTION 'take it back' USING ERRCODE = 'TB000';
EXCEPTION
	WHEN SQLSTATE 'TB000' THEN
		NULL;
	WHEN OTHERS THEN
		IF state = 'done' THEN
			broken := format('then %s %s', SQLSTATE, left(SQLERRM, 200));
		ELSE
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
			took := clock_timestamp() - started;
		END IF;
END $$;

CREATE FUNCTION pg_temp.rows_now() RETURNS TABLE (name regclass, rows text) LANGUAGE sql AS $$
	SELECT c.oid, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', c.oid::regclass), true, true, '')))[1]::text
	FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('billing'::regnamespace, 'billing_internal'::regnamespace);
$$;
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.rows_now();

CREATE TEMP TABLE told AS
SELECT c.*, r.name, r.traits, w.actor, w.actor = r.actor AS rightful, t.*
FROM call c
JOIN routine r ON r.id = c.routine
CROSS JOIN LATERAL unnest(ARRAY[r.actor, CASE r.actor WHEN 'root' THEN 'ada' ELSE 'nob' END, 'who']) w (actor)
CROSS JOIN LATERAL (SELECT w.actor = r.actor AND (c.kind IS NULL OR c.kind IN ('number', 'quantity', 'integer', 'date', 'json', 'events', 'special'))) q (checks)
CROSS JOIN LATERAL pg_temp.attempt(w.actor, c.statement, r.traits LIKE '%bills%' AND q.checks, r.traits !~ 'anyone' AND q.checks) t;

-- ---------------------------------------------------------------------------------------------------------------------
-- The findings: what is wrong with an answer

CREATE FUNCTION pg_temp.fault(t told) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN t.broken IS NOT NULL THEN t.broken
		WHEN t.state = 'done' AND t.rightful AND NOT t.accepted THEN 'was accepted'
		WHEN t.state <> 'done' AND t.rightful AND t.accepted THEN 'was refused'
		WHEN t.state = 'done' AND NOT t.rightful AND t.traits NOT LIKE '%anyone%' AND NOT (t.traits LIKE '%null%' AND t.label = 'null')
			THEN 'was done by somebody who may not'
		WHEN t.state = 'done' THEN NULL
		-- what the server refuses before there is an argument
		WHEN t.state ~ '^22' AND t.label IN ('text', 'beyond', 'no leap day', 'no json', 'zero byte') THEN NULL
		WHEN t.state !~ '^ZB' THEN 'is no error of the interface'
		WHEN t.state = 'ZB016' THEN 'calls the installation broken'
		WHEN t.hint = '' THEN 'has no hint'
		WHEN t.message !~ '^[a-z]' OR t.message ~ '[[:cntrl:]]|[.]$' THEN 'has no proper message'
		WHEN octet_length(t.message || t.detail || t.hint) > 1000 THEN 'says too much'
		WHEN t.rightful AND t.traits <> 'never' AND t.state IN ('ZB003', 'ZB014') THEN 'was not tried by the right person'
		WHEN t.rightful AND t.kind IN ('entity', 'person', 'invoice') AND t.label IN ('unknown', 'theirs', 'other') AND t.state <> 'ZB002'
			THEN 'is not found to be unknown'
	END;
$$;
CREATE TEMP TABLE finding AS
SELECT t.name, t.actor, left(t.statement, 200) AS statement, t.label, pg_temp.fault(t) AS fault, concat_ws(' ', t.state, left(t.message, 200)) AS told
FROM told t;

SELECT is_empty($$
	SELECT p.oid::regprocedure
	FROM pg_proc p
	WHERE p.pronamespace = 'billing'::regnamespace AND has_function_privilege('billing_user', p.oid, 'EXECUTE')
		AND NOT EXISTS (SELECT FROM routine r WHERE r.name = 'billing.' || p.proname
			AND p.pronargs = (SELECT count(*) FROM argument a WHERE a.routine = r.id))$$,
	'every routine that billing_user may execute is in the list');
SELECT is_empty('SELECT name, label, n FROM told WHERE statement IS NULL', 'the list names nothing else');
SELECT is_empty($$SELECT r.name, r.arguments FROM routine r
	WHERE coalesce(array_length(string_to_array(nullif(r.arguments, ''), ' | '), 1), 0) <> (SELECT count(*) FROM argument a WHERE a.routine = r.id)$$,
	'every argument in it is of a known kind');
SELECT is_empty($$SELECT name FROM place WHERE value IS NULL UNION ALL SELECT value FROM argument WHERE value LIKE '''<%'$$, 'everything that it points at is there');
SELECT is_empty($$SELECT h.label FROM (SELECT unnest(string_to_array(takes, ',')), type FROM kind
		UNION SELECT unnest(a.takes || a.refuses), k.type FROM argument a JOIN kind k USING (kind)) AS h (label, type)
	WHERE (h.label, h.type) NOT IN (SELECT label, type FROM hostile)$$, 'so is every value that it takes or refuses');
SELECT is_empty(format('SELECT fault, actor, label, statement, told FROM finding WHERE name = %L AND fault IS NOT NULL', name), name)
FROM (SELECT name FROM routine GROUP BY name) r ORDER BY name;

-- Whether an entity, or something in it, is of others or of nobody cannot be told apart
SELECT is_empty($$
	SELECT u.name, u.n, u.label, t.label, u.message, t.message
	FROM told u JOIN told t USING (routine, n, actor)
	WHERE u.kind IN ('entity', 'ref', 'invoice') AND u.rightful AND u.actor <> 'root' AND u.label = 'unknown' AND t.label IN ('theirs', 'other')
		AND (u.state, replace(u.message, 'no-such', t.label), u.detail, u.hint) <> (t.state, t.message, t.detail, t.hint)$$,
	'what others have is as unknown as what nobody has');
SELECT is_empty($$SELECT name, label, took FROM told WHERE took > interval '10 seconds'$$, 'nothing takes long');
SELECT is_empty('SELECT * FROM before EXCEPT SELECT * FROM pg_temp.rows_now()', 'what was refused or taken back has left no row, and taken none');

-- ---------------------------------------------------------------------------------------------------------------------
-- All names that were accepted, at once: billed, approved, issued and explained

CREATE TEMP TABLE kept AS
SELECT t.statement, pg_temp.try(nullif(t.actor, 'root'), replace(t.statement, '''new''::text', quote_literal('new ' || t.id) || '::text')) AS answer
FROM told t
WHERE t.rightful AND t.state = 'done' AND t.name ~ '^billing.(add|create)_' AND t.name <> 'billing.add_state' AND t.kind IN ('code', 'text', 'line')
	AND t.routine = (SELECT min(r.id) FROM routine r WHERE r.name = t.name);
SELECT cmp_ok((SELECT count(*) FROM kept), '>', 200::bigint, 'there are many of them');
SELECT is_empty($$SELECT * FROM kept WHERE answer <> ''$$, 'all of them can be side by side');
CREATE TEMP TABLE used AS
SELECT pg_temp.must('ada', format('SELECT billing.add_account(''acme'', %L, %L, ''EUR'')', 'of ' || customer_id, code)) FROM billing.customer
WHERE code NOT IN ('k', 'theirs') OR code = 'theirs' AND entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme');
INSERT INTO used
SELECT pg_temp.must('ada', format('SELECT billing.create_contract(''acme'', %L, %L, ''2026-01-01'')', 'of ' || account_id, a.code))
FROM billing.billing_account a JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'acme' AND a.code <> 'k';
INSERT INTO used
SELECT pg_temp.must('ada', format('SELECT billing.add_item(''acme'', %L, %L, %L, ''recurring'', 3, ''{"model": "per_unit", "unit": 1}'')',
	c.code, 'of ' || product_id, p.code))
FROM billing.contract c JOIN billing.product p USING (entity_id) JOIN billing.legal_entity e USING (entity_id)
WHERE e.code = 'acme' AND (c.code LIKE 'of %' AND p.code = 'k' OR c.code = 'k' AND p.code <> 'k');
INSERT INTO used SELECT pg_temp.bill('acme', '2026-02-15');
-- most of what is in the tables' files by now was taken back
ANALYZE;
SELECT cmp_ok(pg_temp.issue('acme')::int, '>', 30, 'what has such names is billed and issued');
SELECT is(pg_temp.told('ada', $$SELECT count(*) > 300 FROM billing.invoice_overview o, billing.explain_invoice('acme', o.reference) WHERE o.entity = 'acme'$$), 'true', 'and explained');
SELECT is_empty('SELECT pg_temp.broken()', 'and the books balance');

SELECT * FROM finish();
ROLLBACK;
