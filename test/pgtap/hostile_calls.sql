-- Hostile input to every function and procedure that billing_user may call: each argument in turn gets each value that its type
-- has in store, from somebody who may, from somebody without a duty and from a role that is nobody's login. A call either is
-- right to succeed, and then the books balance, or is refused with an error of class ZB that has a hint.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(73);

-- ---------------------------------------------------------------------------------------------------------------------
-- Two entities of which everything called "theirs" is in the other one only

SELECT pg_temp.hire_all(), pg_temp.hire('oth');
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of('who')); END $$;
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme');
SELECT billing.grant_duty('other', 'oth', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
UPDATE billing.legal_entity SET auto_approve_limit = 100000 WHERE code = 'other';

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
	billing.add_tax_code('acme', 'bare', 'S', 'Without a rate'), billing.add_product('acme', 'bare', 'Without a price')$$);
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
INSERT INTO place
SELECT CASE e.code WHEN 'acme' THEN 'exception' ELSE 'their_exception' END, exception_id
FROM billing.exception x JOIN billing.legal_entity e USING (entity_id) WHERE x.kind = 'usage_malformed';
INSERT INTO place VALUES ('role', pg_temp.role_of('who')), ('owner', 'billing_owner');
INSERT INTO billing.billing_run (entity_id, through_date, started_by)
SELECT entity_id, '2026-02-01', person_id FROM billing.legal_entity e, billing.person p WHERE e.code = 'acme' AND p.code = 'ada';
INSERT INTO place SELECT 'run', max(run_id) FROM billing.billing_run;

-- ---------------------------------------------------------------------------------------------------------------------
-- What to call: who may, and for each argument its kind, a value that is right, and beyond what its kind takes or refuses, the
-- labels of values that it takes (+) or refuses (-). A kind with ? takes null. "anyone": it is no matter of duties.
-- "bills": what was accepted is billed, to see what becomes of it.

CREATE TEMP TABLE routine (name text, actor text, traits text, arguments text);
INSERT INTO routine VALUES
	('billing.act_as',            'app',  '',       'person? ada'),
	('billing.add_account',       'ada',  'bills',  'entity acme | code new | ref k | word EUR | integer 30 +zero | ref? k | ref? k | boolean false | line? PO-1'),
	('billing.add_customer',      'ada',  '',       'entity acme | code new | text New | text? Street | text? 10115 | text? Berlin | word? DE | text? DE123'),
	('billing.add_item',          'ada',  'bills',  'entity acme | ref k | code new | ref k | word recurring | quantity 1 | json? {"model":"per_unit","unit":1} -null | ref? - -null | word? arrears | ref? - | date? 2026-01-01 | date? 2027-01-01'),
	('billing.add_login',         'root', '',       'person ada | word {role}'),
	('billing.add_meter',         'ada',  '',       'entity acme | code new | text New | word sum | line quantity -padded,tab,newline'),
	('billing.add_person',        'root', '',       'code new | text New'),
	('billing.add_price_book',    'ada',  '',       'entity acme | code new | text New | word EUR'),
	('billing.add_product',       'ada',  '',       'entity acme | code new | text New | word C62 +unit | ref? k'),
	('billing.add_tax_code',      'ada',  '',       'entity acme | code new | word E | text New | text? why -null'),
	('billing.add_tax_rate',      'ada',  'bills',  'entity acme | ref bare | number 20 +zero | date 2026-01-01 | date? 2099-01-01'),
	('billing.approve_invoice',   'bob',  '',       'entity acme | invoice {pending} | text? because'),
	('billing.change_item',       'ada',  'bills',  'entity acme | ref k | ref k | date 2026-01-15 | quantity? 5 | json? {"model":"per_unit","unit":1} | ref? - | text? because'),
	('billing.create_contract',   'ada',  'bills',  'entity acme | code new | ref k | date 2026-01-01 | date? 2027-01-01 | word month | integer 1 | date? 2026-01-01'),
	('billing.create_entity',     'root', '',       'code new | text New | word EUR | word Europe/Rome +zone | word? IT | integer 1 | word half_up'),
	('billing.current_actor',     'ada',  'anyone', ''),
	('billing.discard_invoice',   'ada',  'bills',  'entity acme | invoice {draft} | text? because'),
	('billing.end_contract',      'ada',  'bills',  'entity acme | ref k | date 2026-01-15'),
	('billing.end_item',          'ada',  'bills',  'entity acme | ref k | ref k | date 2026-01-15 | text? because'),
	('billing.entitlement',       'ada',  '',       'entity acme | ref k | date 2026-02-01'),
	('billing.explain_invoice',   'ada',  '',       'entity acme | invoice {issued}'),
	('billing.grant_duty',        'root', '',       'entity acme | person nob | word approver | date? 2026-01-01 | date? 2027-01-01 | number? 1000 +zero,huge | integer? 1'),
	('billing.has_duty',          'ada',  '',       'entity acme | word biller'),
	('billing.ingest_usage',      'ada',  'bills',  'entity acme | events [{"id":"1","source":"s","type":"k","subject":"k","time":"2026-01-05T10:00:00Z","data":{"quantity":900}}]'),
	('billing.issue_invoice',     'ada',  '',       'entity acme | invoice {approved}'),
	('billing.issue_invoices',    'ada',  '',       'entity acme | date? 2026-02-01'),
	('billing.my_entities',       'ada',  'anyone', ''),
	('billing.period_index',      'ada',  'anyone', 'date 2026-01-31 | word month | integer 1 | date 2026-03-31'),
	('billing.period_start',      'ada',  'anyone', 'date 2026-01-31 | word month | integer 1 | bigint 2'),
	('billing.post_restore',      'ada',  'never',  ''),
	('billing.pre_restore',       'ada',  'never',  ''),
	('billing.preview_invoice',   'ada',  '',       'entity acme | ref k | date 2026-02-01'),
	('billing.prorate',           'ada',  'anyone', 'number 10 | integer 3 | integer 31'),
	('billing.rate',              'ada',  'anyone', 'tariff {"model":"per_unit","unit":1} | quantity? 3 | bigint? 3'),
	('billing.rate',              'ada',  'anyone', 'tariff {"model":"matrix","dimensions":["r"],"cells":[{"match":{"r":"eu"},"tariff":{"model":"per_unit","unit":1}}]} | quantity? 3 | json {"r":"eu"} | bigint? 3'),
	('billing.rate_breakdown',    'ada',  'anyone', 'tariff {"model":"per_unit","unit":1} | quantity? 3 | bigint? 3'),
	('billing.rate_breakdown',    'ada',  'anyone', 'tariff {"model":"matrix","dimensions":["r"],"cells":[{"match":{"r":"eu"},"tariff":{"model":"per_unit","unit":1}}]} | quantity? 3 | json {"r":"eu"} | bigint? 3'),
	('billing.rate_events',       'ada',  'anyone', 'tariff {"model":"per_unit","unit":1} | quantity 3'),
	('billing.reject_invoice',    'bob',  '',       'entity acme | invoice {pending} | text because'),
	('billing.release_invoice',   'ada',  '',       'entity acme | invoice {held} | text? because'),
	('billing.replay_usage',      'ada',  '',       'entity acme'),
	('billing.reset_task',        'root', '',       'word verify'),
	('billing.resolve_exception', 'ada',  '',       'entity acme | bigint {exception} | text done'),
	('billing.revoke_duty',       'root', '',       'entity acme | person lim | word approver | date? 2026-01-01'),
	('billing.round_amount',      'ada',  'anyone', 'number 1.005 | integer 2 | word half_up'),
	('billing.run_billing',       'ada',  '',       'entity acme | date 2026-02-01'),
	('billing.run_worker_once',   'root', '',       'boolean true'),
	('billing.schedule_jobs',     'ada',  'never',  ''),
	('billing.set_price',         'ada',  'bills',  'entity acme | ref k | ref k | json {"model":"per_unit","unit":1} | date 2026-01-15 | date? 2026-02-01'),
	('billing.set_task',          'root', '',       'word verify | interval? 1_hour | boolean? true'),
	('billing.unschedule_jobs',   'ada',  'never',  ''),
	('billing.validate_invoices', 'ada',  '',       'entity acme | invoice? {draft}'),
	('billing.verify',            'ada',  'anyone', 'entity? acme'),
	-- the steps that they take on behalf of their caller
	('billing_internal.entity_id', 'ada', '',       'entity acme'),
	('billing_internal.open_run', 'ada',  '',       'entity acme | date 2026-02-01'),
	('billing_internal.run_slice', 'ada', '',       'entity acme | bigint {run} | bigint 0 | integer 100'),
	('billing_internal.close_run', 'ada', '',       'entity acme | bigint {run}');
