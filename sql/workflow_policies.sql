-- Who approves what: conditions, the policies that have them, and which one a document gets.
\set ON_ERROR_ROLLBACK on
\set SHOW_CONTEXT never
\pset null -
SET datestyle TO iso;
SET intervalstyle TO postgres;

-- A condition is written in a small language of its own. It is checked against the fields that there are, and kept in one form.
SELECT billing.check_condition('amount>=10000.00 OR (risk=''high'' AND NOT is_first)');
SELECT billing.check_condition('amont >= 10000');
SELECT billing.check_condition('risk > 5');
SELECT billing.check_condition('EXISTS (SELECT FROM billing.invoice)');
-- What is not known is neither true nor false; numbers are exact, and what cannot be computed is not known.
SELECT c AS condition, billing_internal.condition_holds(c::billing.condition, f) AS holds
FROM (SELECT ROW('invoice', 812.50, 'EUR', NULL, NULL, 30, NULL, 'high', '{hardware}', true, 0, NULL, 'ada', NULL)::billing.document_facts) AS d (f),
	unnest(ARRAY['amount between 800 and 900', 'segment = ''public''', 'segment = ''public'' or risk = ''high''', 'segment is null', '''hardware'' in categories',
		'amount / 3 = 270.833333333333', 'amount / 0 > 1', '0.1 + 0.2 = 0.3']) AS c;

BEGIN;
SELECT billing.create_entity('regress_acme', 'Acme GmbH', 'EUR', 'Europe/Berlin', 'DE'), billing.add_person('regress_ada', 'Ada'), billing.add_person('regress_eve', 'Eve');
CREATE ROLE regress_ada LOGIN IN ROLE billing_user;
CREATE ROLE regress_eve LOGIN IN ROLE billing_user;
SELECT billing.add_login(p, p) FROM unnest('{regress_ada,regress_eve}'::text[]) p;
SELECT billing.grant_duty('regress_acme', 'regress_ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('regress_acme', 'regress_eve', 'admin');

-- An admin sets policies. Of those of a kind, the first by priority whose condition holds counts.
SET SESSION AUTHORIZATION regress_eve;
SELECT billing.set_approval_policy('regress_acme', 'large', 'invoice', 'amount >= 10000 or risk = ''high''',
	'[{"duty": "approver", "needed": 2, "deadline": "2 days", "escalate_to": "admin"}, {"person": "regress_eve"}]', 10, '2026-01-01', reason => 'two pairs of eyes');
SELECT billing.set_approval_policy('regress_acme', 'small', 'invoice', 'amount < 100', NULL, 20, '2026-01-01', outcome => 'automatic');
SELECT billing.set_approval_policy('regress_acme', 'rest', 'invoice', NULL, '[{"duty": "approver"}]', 90, '2026-01-01');
SELECT priority, policy, condition, outcome, levels FROM billing.approval_policies;

-- Six documents, without tax. A dollar is worth 0.90 euros; what a pound is worth nobody said.
SET SESSION AUTHORIZATION regress_ada;
SELECT billing.add_exchange_rate('regress_acme', 'USD', 0.90, '2026-01-01');
SELECT billing.add_tax_code('regress_acme', 'zero', 'Z', 'Zero'), billing.add_tax_rate('regress_acme', 'zero', 0, '2021-01-01'), billing.add_product('regress_acme', 'seat', 'Seat', tax_code => 'zero');
SELECT billing.add_customer('regress_acme', a, a), billing.add_account('regress_acme', a, a, c), billing.create_contract('regress_acme', a, a, '2026-01-01'),
	billing.add_item('regress_acme', a, 'i', 'seat', 'one_time', 1, jsonb_build_object('model', 'per_unit', 'unit', p))
FROM (VALUES ('a', 'EUR', 12000), ('b', 'USD', 11000), ('c', 'EUR', 50), ('d', 'EUR', 99.99), ('e', 'EUR', 100), ('f', 'GBP', 80)) AS v (a, c, p);
UPDATE billing.customer SET risk = CASE code WHEN 'c' THEN 'high' ELSE 'low' END;
CALL billing.run_billing('regress_acme', '2026-01-01');
SELECT o.account, o.total, o.currency, p.policy, p.outcome, p.why
FROM billing.invoice_overview o, billing.explain_policy('regress_acme', o.reference) p WHERE p.counts ORDER BY o.account;

-- Why the document in dollars is none of the others
SELECT p."position", p.policy, p.holds, p.counts, p.why
FROM billing.invoice_overview o, billing.explain_policy('regress_acme', o.reference) p WHERE o.account = 'b' ORDER BY 1;

-- A change is a new version; the old one stays for the auditors.
SET SESSION AUTHORIZATION regress_eve;
SELECT billing.set_approval_policy('regress_acme', 'small', 'invoice', 'amount < 50', NULL, 20, '2026-02-01', outcome => 'automatic');
SELECT billing.end_approval_policy('regress_acme', 'rest', '2026-03-01', 'the default will do');
SELECT policy, condition, valid_from, valid_to, description FROM billing.approval_policies ORDER BY policy, valid_from;
RESET SESSION AUTHORIZATION;
ROLLBACK;
