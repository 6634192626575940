-- For pgTAP files about approvals, after persons.sql: entity acme in which ada bills; bob, cat, dan and eve approve without a
-- limit, lim up to 1000 EUR; acc is accountant, man a reader, adm administers. Documents without tax, so that totals are what is
-- written. All of them wait for approval.

SELECT pg_temp.hire_all(), pg_temp.hire('cat'), pg_temp.hire('dan'), pg_temp.hire('eve'), pg_temp.hire('acc'), pg_temp.hire('man');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT billing.grant_duty('acme', p, d, '2020-01-01') FROM (VALUES ('cat', 'approver'), ('dan', 'approver'), ('eve', 'approver'), ('acc', 'accountant'), ('man', 'reader')) AS v (p, d);
SELECT pg_temp.must('ada', $$SELECT billing.add_tax_code('acme', 'zero', 'Z', 'Zero'), billing.add_tax_rate('acme', 'zero', 0, '2007-01-01'),
	billing.add_product('acme', 'free', 'Free of tax', tax_code => 'zero')$$);

-- A document of an amount that ada made and validated: its reference
CREATE FUNCTION pg_temp.waiting(code text, amount numeric, currency text DEFAULT 'EUR', maker text DEFAULT 'ada', before text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	doc text;
BEGIN
	PERFORM pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', %3$L), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
		billing.add_item('acme', %1$L, 'i', 'free', 'one_time', sign(%2$s::numeric), pg_temp.each(abs(%2$s)::text))$q$, code, amount, currency));
	IF before <> '' THEN
		PERFORM pg_temp.must('adm', format(before, code));
	END IF;
	PERFORM pg_temp.must(maker, 'CALL billing.run_billing(''acme'', ''2026-01-01'')');
	SELECT reference INTO doc FROM billing.invoice_overview WHERE account = code;
	PERFORM pg_temp.must(maker, format('SELECT * FROM billing.validate_invoices(''acme'', %L)', doc));
	RETURN doc;
END $$;
CREATE FUNCTION pg_temp.id(doc text) RETURNS bigint LANGUAGE sql AS $$ SELECT substr(doc, 2)::bigint $$;
CREATE FUNCTION pg_temp.state(doc text) RETURNS text LANGUAGE sql AS $$ SELECT state FROM billing.document WHERE document_id = pg_temp.id(doc) $$;
-- The levels of the last version: state, approvals that count, and how many are needed
CREATE FUNCTION pg_temp.asked(doc text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s/%s', r.level_no, r.state, (SELECT count(*) FROM billing.approval_decision s WHERE s.request_id = r.request_id AND s.counts),
		coalesce(r.needed::text, 'all')), ', ' ORDER BY r.level_no)
	FROM billing.approval_request r
	WHERE r.document_id = pg_temp.id(doc) AND r.document_version = (SELECT max(document_version) FROM billing.approval_request WHERE document_id = pg_temp.id(doc));
$$;
CREATE FUNCTION pg_temp.approve(person text, doc text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT billing.approve_invoice(%L, %L)', 'acme', doc));
$$;
CREATE FUNCTION pg_temp.reject(person text, doc text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', doc, 'no'));
$$;
-- Through the bulk call: outcome, or the SQLSTATE of a refusal
CREATE FUNCTION pg_temp.decide(person text, doc text, decision text DEFAULT 'approve') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT coalesce(error, outcome) FROM billing.decide(%L, ARRAY[%L], %L, %L)', 'acme', doc, decision, 'seen'));
$$;
CREATE FUNCTION pg_temp.policy(code text, condition text, levels text, outcome text DEFAULT 'levels', priority integer DEFAULT 100) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must(NULL, format('SELECT billing.set_approval_policy(''acme'', %L, ''invoice'', %L, %L, %s, outcome => %L)', code, condition, levels, priority, outcome));
$$;
