-- What an application asks before it shows a button: which actions are available to whom, and why not the rest; decisions upon an
-- outdated version; deadlines; how long documents stand; and who can do what.
BEGIN;
\ir ../lib/persons.sql
SELECT * FROM no_plan();
SELECT pg_temp.hire_all(), pg_temp.hire('eva');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT billing.grant_duty('other', 'eva', 'biller', '2020-01-01');
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', %2$L, purchase_order_required => %3$L), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
	billing.add_item('acme', %1$L, 'i', 'seat', 'one_time', 1, pg_temp.each(%4$L))$q$, a, c, a = 'held', p)) FROM (VALUES ('small', 'EUR', '100'), ('large', 'EUR', '1000'), ('dollar', 'USD', '1'), ('held', 'EUR', '1'), ('draft', 'EUR', '1')) v (a, c, p);
SELECT pg_temp.bill('acme', '2026-01-01');
CREATE TEMP TABLE doc AS SELECT account::text AS name, reference FROM billing.invoice_overview;
SELECT pg_temp.must('ada', format('SELECT billing.validate_invoices(%L, %L)', 'acme', reference)) FROM doc WHERE name <> 'draft';

-- What a person may do with a document, as text; or why not one action
CREATE FUNCTION pg_temp.may(person text, of_doc text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT string_agg(action, %L ORDER BY action) FROM billing.available_actions(%L, %L) WHERE is_allowed', ' ', 'acme', reference)) FROM doc WHERE name::text = of_doc;
$$;
CREATE FUNCTION pg_temp.why_not(person text, of_doc text, action text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT concat_ws(%L, obstacle, explanation) FROM billing.available_actions(%L, %L) WHERE action = %L', ': ', 'acme', reference, action)) FROM doc WHERE name::text = of_doc;
$$;
SELECT is(pg_temp.may(person, doc), answer, format('%s with the document %s', person, doc))
FROM (VALUES
	('ada', 'draft', 'auto_approve discard hold submit'), ('bob', 'draft', NULL), ('rea', 'draft', NULL), ('aud', 'draft', NULL),
	('ada', 'held', 'discard release'), ('bob', 'held', NULL),
	('ada', 'small', 'recall'), ('bob', 'small', 'approve reject'), ('lim', 'small', 'approve reject'),
	-- 1000 and 19 %: 1190 is beyond a limit of 1000, and a limit in euros says nothing about dollars
	('bob', 'large', 'approve reject'), ('lim', 'large', NULL), ('lim', 'dollar', NULL), ('bob', 'dollar', 'approve reject')
) AS c (person, doc, answer);
SELECT is(pg_temp.why_not(person, doc, action), answer, format('%s, %s: why not %s', person, doc, action))
FROM (VALUES
	('ada', 'small', 'approve', 'duty: needs the duty approver'),
	('lim', 'large', 'approve', 'limit: the amount is beyond your limit'),
	('bob', 'small', 'recall', 'duty: needs the duty biller'),
	('bob', 'small', 'issue', 'state: can be done in state approved'),
	('ada', 'small', 'discard', 'state: can be done in state approved, draft, on_hold'),
	('ada', 'held', 'issue', 'exception: open exceptions stand against the document: missing_purchase_order'),
	('ada', 'small', 'pay', 'state: can be done in state issued, partially_paid')
) AS c (person, doc, action, answer);
-- The maker holds the approver's duty from now on
SELECT billing.revoke_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('acme', 'ada', 'approver');
SELECT is(pg_temp.why_not('ada', 'small', 'approve'), 'own_making: nobody decides about a document of their own making', 'a maker is told why not');
SELECT is(pg_temp.told('app', format('SELECT obstacle FROM billing.act_as(%L), billing.available_actions(%L, %L) WHERE action = %L', 'ada', 'acme', reference, 'approve')), 'own_making', 'through an application too') FROM doc WHERE name = 'small';
SELECT pg_temp.told('app', 'SELECT billing.act_as(NULL)');
SELECT billing.revoke_duty('acme', 'ada', 'approver');
SELECT billing.grant_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
-- Whatever is offered works, and whatever is not is refused: every person, every document, every action
CREATE FUNCTION pg_temp.outcome(person text, ref text, act text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	answer := pg_temp.try(person, CASE act WHEN 'approve' THEN format('SELECT billing.approve_invoice(%L, %L)', 'acme', ref) WHEN 'reject' THEN format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', ref, 'x')
		WHEN 'recall' THEN format('SELECT billing.take_action(%L, %L, %L)', 'acme', ref, act) ELSE format('SELECT billing.%I(%L, %L)', act || '_invoice', 'acme', ref) END);
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = CASE WHEN answer ~ '^ZB' THEN 'refused' ELSE 'done' END;
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT is_empty($$SELECT p, d.name, a.action, a.is_allowed, pg_temp.outcome(p, d.reference, a.action)
	FROM doc d, unnest('{ada,bob,lim,rea,aud,adm}'::text[]) p,
		LATERAL (SELECT * FROM jsonb_to_recordset(pg_temp.must(p, format('SELECT jsonb_agg(a) FROM billing.available_actions(%L, %L) a', 'acme', d.reference))::jsonb) AS r (action text, is_allowed boolean)) a
	WHERE a.action IN ('approve', 'reject', 'recall', 'release', 'discard', 'issue') AND pg_temp.outcome(p, d.reference, a.action) <> CASE WHEN a.is_allowed THEN 'done' ELSE 'refused' END$$, 'what is offered works, and nothing else');
SELECT is(pg_temp.try(p, format('SELECT count(*) FROM billing.available_actions(%L, %L)', 'acme', 'D' || n)), c, format('%s asks about document D%s', p, n)) FROM (VALUES ('ada', 999999, 'ZB002'), ('eva', 1, 'ZB002'), ('nob', 1, 'ZB002')) v (p, n, c);

-- ---------------------------------------------------------------------------------------------------------------------
-- Versions: every deciding function

CREATE FUNCTION pg_temp.version_of(of_doc text) RETURNS integer LANGUAGE sql AS $$
	SELECT d.version FROM billing.document d JOIN billing.invoice i ON i.entity_id = d.entity_id AND i.invoice_id = d.document_id JOIN doc USING (reference) WHERE doc.name::text = of_doc;
$$;
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_invoice(%L, %L, version => 1)', 'acme', reference)), 'ZB015 the document has changed since version 1', 'approving what was a draft') FROM doc WHERE name = 'small';
CREATE TEMP TABLE deciding (person text, call text, doc text);
INSERT INTO deciding VALUES
	('bob', 'approve_invoice(%L, %L, %L, %s)', 'small'), ('bob', 'reject_invoice(%L, %L, %L, %s)', 'small'), ('ada', 'release_invoice(%L, %L, %L, %s)', 'held'),
	('ada', 'discard_invoice(%L, %L, %L, %s)', 'held'), ('ada', 'take_action(%L, %L, ''recall'', reason => %L, version => %s)', 'small');
SELECT is(pg_temp.try(person, format('SELECT billing.' || call, 'acme', reference, 'because', v)), 'ZB015', format('%s with version %s of 2', call, v))
FROM deciding JOIN doc ON doc.name = deciding.doc, unnest('{0,1,3,-1,2147483647}'::int[]) v ORDER BY call, v;
SELECT is(pg_temp.version_of(name), 2, 'nothing has happened to ' || name) FROM doc WHERE name IN ('small', 'held');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'billing'::regnamespace AND p.proname ~ '^(approve|reject|release|discard|issue)_(invoice|usage_correction)$|^take_action$' AND NOT 'version' = ANY (p.proargnames)$$, 'every deciding function takes a version');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_invoice(%L, %L, %L, 2)', 'acme', reference, 'seen')), '', 'the version that it has') FROM doc WHERE name = 'small';
SELECT is(pg_temp.try('ada', format('SELECT billing.issue_invoice(%L, %L, 2)', 'acme', reference)), 'ZB015', 'issuing what has been approved since') FROM doc WHERE name = 'small';
SELECT matches(pg_temp.told('ada', format('SELECT billing.issue_invoice(%L, %L, 3)', 'acme', reference)), '^INV-', 'as it is now') FROM doc WHERE name = 'small';
-- a correction of usage
SELECT billing.set_usage_policy('acme', correction_limit => 0);
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'small', 'u', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls')$$),
	pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id": "1", "source": "s", "type": "calls", "subject": "small", "time": "2026-01-20T12:00:00Z", "data": {"quantity": 8}}]')$$);
SELECT pg_temp.must('ada', $$SELECT correction FROM billing.void_usage('acme', 's', '{1}', 'because')$$) AS correction \gset
SELECT is(pg_temp.try('bob', format('SELECT billing.%s_usage_correction(%L, %L, %L, 7)', a, 'acme', :'correction', 'x')), 'ZB015', a || ' another version of a correction') FROM unnest('{approve,reject}'::text[]) a;
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L, %L, 1)', 'acme', :'correction', 'x')), '', 'its own version');
-- more than a step is the business of the function for it
SELECT is(pg_temp.told('bob', format('SELECT billing.take_action(%L, %L, %L)', 'acme', reference, 'approve')), 'ZB007 action approve has a function of its own', 'an invoice is approved by its function') FROM doc WHERE name = 'large';
SELECT is(pg_temp.told('ada', format('SELECT billing.take_action(%L, %L, %L)', 'acme', reference, 'discard')), 'ZB007 action discard has a function of its own', 'and discarded by its function') FROM doc WHERE name = 'held';

-- ---------------------------------------------------------------------------------------------------------------------
-- Requests

SELECT pg_temp.must('ada', $$SELECT billing.request_document('acme', 'price_change', 'product seat', 120, 'EUR', '{"unit": "11"}', 'inflation')$$) AS r \gset
SELECT is(pg_temp.told(p, format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'r', a)), answer, format('%s: %s', p, a))
FROM (VALUES (1, 'ada', 'submit', 'impact_review'), (2, 'bob', 'pass', 'ZB003 person "bob" does not hold the duty price_manager in entity "acme"'), (3, 'ada', 'approve', 'ZB007 cannot approve a document of kind price_change in state impact_review'),
	(4, 'ada', 'pass', 'pending_approval'), (5, 'ada', 'approve', 'ZB003 person "ada" does not hold the duty approver in entity "acme"'), (6, 'ada', 'apply', 'ZB007 cannot apply a document of kind price_change in state pending_approval'),
	(7, 'bob', 'send_back', 'draft'), (8, 'ada', 'submit', 'impact_review'), (9, 'ada', 'pass', 'pending_approval'), (10, 'bob', 'recall', 'ZB003 person "bob" does not hold the duty price_manager in entity "acme"'),
	(11, 'ada', 'recall', 'draft'), (12, 'ada', 'submit', 'impact_review'), (13, 'ada', 'pass', 'pending_approval'), (14, 'bob', 'approve', 'approved'), (15, 'ada', 'apply', 'applied'), (16, 'ada', 'cancel', 'ZB007 cannot cancel a document of kind price_change in state applied')
) AS v (n, p, a, answer) ORDER BY n;
SELECT is((SELECT string_agg(action, ' ' ORDER BY version) FROM billing.document_step WHERE 'R' || document_id = :'r'), 'request submit pass send_back submit pass recall submit pass approve apply', 'every step is on record');
SELECT is((SELECT reason FROM billing.document_step WHERE 'R' || document_id = :'r' AND version = 1), 'inflation', 'with its reason');
SELECT is(pg_temp.try('ada', s), c, s) FROM (VALUES
	($$SELECT billing.request_document('acme', 'invoice', 'x', 1, 'EUR')$$, 'ZB002'), ($$SELECT billing.request_document('acme', 'letter', 'x', 1, 'EUR')$$, 'ZB002'), ($$SELECT billing.request_document('acme', 'price_change', 'x', 1, 'XYZ')$$, 'ZB002'),
	($$SELECT billing.request_document('acme', 'refund', 'x', 1, 'EUR')$$, 'ZB003'), ($$SELECT billing.request_document('acme', 'price_change', 'x', 1, 'EUR', '[]')$$, 'ZB001'), ($$SELECT billing.request_document('acme', 'price_change', 'x', 1e27, 'EUR')$$, 'ZB001'),
	($$SELECT billing.request_document('other', 'price_change', 'x', 1, 'EUR')$$, 'ZB002'), (format('SELECT billing.take_action(%L, %L, %L)', 'acme', 'D' || substr(:'r', 2), 'submit'), 'ZB002')) AS v (s, c);

-- ---------------------------------------------------------------------------------------------------------------------
-- Deadlines

SELECT pg_temp.must('ada', $$SELECT billing.request_document('acme', 'price_change', 'another', 120, 'EUR')$$) AS late \gset
SELECT pg_temp.must('ada', format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'late', 'submit'));
CREATE FUNCTION pg_temp.overdue() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s', subject, state, regexp_replace(detail, ' since .*', '')) FROM billing.exception WHERE kind = 'document_overdue' ORDER BY exception_id;
$$;
CREATE FUNCTION pg_temp.watch() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL ROLE billing_owner; PERFORM billing_internal.raise_overdue_documents(); RESET ROLE; END $$;
SELECT pg_temp.watch();
SELECT is_empty('SELECT pg_temp.overdue()', 'nothing is late');
CREATE FUNCTION pg_temp.age(ref text, since interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE billing.document SET state_since = now() - since WHERE document_id = substr(ref, 2)::bigint;
	SET LOCAL session_replication_role = origin;
END $$;
SELECT pg_temp.age(:'late', '5 days'), pg_temp.watch();
SELECT is_empty('SELECT pg_temp.overdue()', 'not before the deadline has passed');
SELECT pg_temp.age(:'late', '5 days 1 second'), pg_temp.watch(), pg_temp.watch();
SELECT results_eq('SELECT pg_temp.overdue()', ARRAY[:'late' || ' open price_change waits in state impact_review for pass by price_manager'], 'then it is told, once');
SELECT is((SELECT deadline <= now() FROM billing.available_actions('acme', :'late') WHERE action = 'pass'), true, 'the action says since when');
SELECT pg_temp.must('ada', format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'late', 'pass')), pg_temp.watch();
SELECT results_eq('SELECT pg_temp.overdue()', ARRAY[:'late' || ' resolved price_change waits in state impact_review for pass by price_manager'], 'and closed when it goes on');
SELECT pg_temp.age(:'late', '6 days'), pg_temp.watch();
SELECT is((SELECT count(*) FROM billing.open_exception WHERE kind = 'document_overdue'), 1::bigint, 'in the next state anew');
SELECT pg_temp.must('adm', $$SELECT billing.set_transition('acme', 'price_change', 'pending_approval', 'approve', deadline => '7 days')$$);
SELECT is((SELECT count(*) FROM billing.task WHERE function_name = 'raise_overdue_documents'), 1::bigint, 'a task looks');

-- How long documents stood: three passes took no time, one six days
SELECT pg_temp.must('bob', format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'late', 'approve'));
SELECT results_eq($$SELECT steps, median, ninth_decile, longest FROM billing.cycle_times('acme') WHERE kind = 'price_change' AND state = 'pending_approval' AND left_by = 'approve'$$,
	$$VALUES (2::bigint, interval '0', interval '6 days', interval '6 days')$$, 'two approvals: one at once, one after six days');
SELECT is_empty($$SELECT FROM billing.cycle_times('acme', (current_date + 2))$$, 'none of the days to come');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- ---------------------------------------------------------------------------------------------------------------------
-- Who can do what

SELECT billing.revoke_duty('acme', 'rea', 'reader'), billing.grant_duty('acme', 'nob', 'collector', current_date + 20, current_date + 40), billing.grant_duty('acme', 'rea', 'accountant', current_date - 200, current_date + 10);
CREATE FUNCTION pg_temp.report() RETURNS TABLE (person text, duty text, source text, valid_from date, valid_to date, approval_limit numeric, logins text[], applications text[], conflicts text[], last_used timestamptz, is_unused boolean, ends_soon boolean) LANGUAGE sql AS $$
	SELECT r.* FROM jsonb_to_recordset(pg_temp.must('aud', 'SELECT jsonb_agg(r) FROM billing.access_report(''acme'') r')::jsonb) AS r (person text, duty text, source text, valid_from date, valid_to date, approval_limit numeric, logins text[], applications text[], conflicts text[], last_used timestamptz, is_unused boolean, ends_soon boolean);
$$;
SELECT results_eq($$SELECT person, duty, approval_limit, is_unused, ends_soon, cardinality(conflicts) FROM pg_temp.report() WHERE source = 'duty' ORDER BY 1, 2$$,
	$$VALUES ('ada', 'biller', NULL::numeric, false, false, 0), ('ada', 'contract_manager', NULL, false, false, 0), ('ada', 'price_manager', NULL, false, false, 0),
		('adm', 'admin', NULL, false, false, 0), ('app', 'application', NULL, true, false, 0), ('aud', 'auditor', NULL, NULL, false, 0), ('bob', 'approver', NULL, false, false, 0),
		('lim', 'approver', 1000, true, false, 0), ('nob', 'collector', NULL, false, false, 0), ('rea', 'accountant', NULL, true, true, 0)$$, 'duties, what is not used for 90 days, and what ends within 30');
SELECT is((SELECT logins FROM pg_temp.report() WHERE person = 'bob' AND source = 'duty'), ARRAY[pg_temp.role_of('bob')], 'through which login');
SELECT is((SELECT applications FROM pg_temp.report() WHERE person = 'bob' AND source = 'duty'), ARRAY[pg_temp.role_of('app')], 'and through which application');
SELECT is((SELECT count(*) FROM pg_temp.report() WHERE duty = 'superuser' AND session_user::text = ANY (logins)), 1::bigint, 'a superuser is on the list, whom no duty binds');
SET LOCAL session_replication_role = replica;
INSERT INTO billing.duty_assignment (entity_id, person_id, duty, valid_from) SELECT e.entity_id, p.person_id, 'approver', '2026-01-01' FROM billing.legal_entity e, billing.person p WHERE e.code = 'acme' AND p.code = 'ada';
SET LOCAL session_replication_role = origin;
SELECT results_eq($$SELECT duty, conflicts FROM pg_temp.report() WHERE person = 'ada' AND source = 'duty' ORDER BY 1$$,
	$$VALUES ('approver', '{"biller: would approve the invoices of their own runs","contract_manager: would approve the billing of their own contracts","price_manager: would approve the billing of their own prices"}'::text[]),
		('biller', '{"approver: would approve the invoices of their own runs"}'), ('contract_manager', '{"approver: would approve the billing of their own contracts"}'), ('price_manager', '{"approver: would approve the billing of their own prices"}')$$, 'duties that came together past the functions are found');
SELECT is(pg_temp.try(p, $$SELECT count(*) FROM billing.access_report('acme')$$), 'ZB002', p || ' of elsewhere learns nothing') FROM unnest('{eva}'::text[]) p;
SELECT * FROM finish();
ROLLBACK;
