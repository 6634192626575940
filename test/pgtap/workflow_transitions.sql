-- The state machine of invoices and credit notes: every action from every state, for every duty. What billing.transition does not
-- have is refused.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(139);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- A document of a kind, taken to a state as people would take it there: its reference
CREATE FUNCTION pg_temp.document_in(kind text, state text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	code text := kind || '-' || state;
	doc text;
BEGIN
	PERFORM pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR', purchase_order_required => %2$L), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
		billing.add_item('acme', %1$L, 'i', 'seat', 'one_time', %3$s, pg_temp.each('100'))$q$, code, state = 'on_hold', CASE kind WHEN 'invoice' THEN 1 ELSE -1 END));
	PERFORM pg_temp.bill('acme', '2026-01-01');
	SELECT reference INTO doc FROM billing.invoice_overview WHERE account = code;
	IF state NOT IN ('draft', 'discarded') THEN
		PERFORM pg_temp.must('ada', format('SELECT billing.validate_invoices(%L, %L)', 'acme', doc));
	END IF;
	IF state IN ('approved', 'issued') THEN
		PERFORM pg_temp.must('bob', format('SELECT billing.approve_invoice(%L, %L)', 'acme', doc));
	END IF;
	IF state = 'issued' THEN
		PERFORM pg_temp.must('ada', format('SELECT billing.issue_invoice(%L, %L)', 'acme', doc));
	ELSIF state = 'discarded' THEN
		PERFORM pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', doc));
	END IF;
	RETURN doc;
END $$;
CREATE TEMP TABLE document_in AS
SELECT s.kind, s.state, pg_temp.document_in(s.kind, s.state) AS reference
FROM (SELECT * FROM billing.document_state WHERE kind IN ('invoice', 'credit_note')
	AND state NOT IN ('partially_paid', 'paid', 'credited', 'written_off') ORDER BY kind, state) s;
SELECT results_eq('SELECT o.kind, o.state FROM document_in d JOIN billing.invoice_overview o USING (reference) ORDER BY d.kind, d.state',
	$$SELECT kind, state FROM billing.document_state WHERE kind IN ('invoice', 'credit_note')
		AND state NOT IN ('partially_paid', 'paid', 'credited', 'written_off') ORDER BY kind, state$$, 'there is a document of every kind in every state before it is paid or credited');

-- What a person gets for an action, and the state after it; all of it is taken back
CREATE FUNCTION pg_temp.attempt(person text, action text, doc text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	statement text := CASE action
		WHEN 'validate' THEN format('SELECT billing.validate_invoices(%L, %L)', 'acme', doc)
		WHEN 'reject' THEN format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', doc, 'no')
		ELSE format('SELECT billing.%I(%L, %L)', action || '_invoice', 'acme', doc) END;
	answer text;
BEGIN
	answer := pg_temp.try(person, statement);
	IF answer ~ '^[0-9A-Z]{5}( |$)' AND answer !~ '^INV' THEN
		RETURN answer;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = (SELECT d.state FROM billing.invoice i JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id WHERE i.reference = doc);
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;

-- For whoever has the duty: state by action, worked out from the life of an invoice
CREATE TEMP TABLE life (action, person, draft, on_hold, pending_approval, approved, issued, discarded) AS VALUES
	('validate', 'ada', 'pending_approval', 'ZB007', 'ZB007', 'ZB007', 'ZB007', 'ZB007'),
	('approve', 'bob', 'ZB007', 'ZB007', 'approved', 'ZB007', 'ZB007', 'ZB007'),
	('reject', 'bob', 'ZB007', 'ZB007', 'on_hold', 'ZB007', 'ZB007', 'ZB007'),
	('release', 'ada', 'ZB007', 'draft', 'ZB007', 'ZB007', 'ZB007', 'ZB007'),
	('issue', 'ada', 'ZB007', 'ZB007', 'ZB007', 'issued', 'ZB007', 'ZB007'),
	('discard', 'ada', 'discarded', 'discarded', 'ZB007', 'discarded', 'ZB007', 'ZB007');
SELECT is(pg_temp.attempt(l.person, l.action, d.reference), to_jsonb(l) ->> d.state, format('%s of a %s in state %s', l.action, d.kind, d.state))
FROM life l, document_in d ORDER BY d.kind, d.state, l.action;

-- For everybody else: never
SELECT matches(pg_temp.attempt(p, l.action, d.reference), CASE WHEN to_jsonb(l) ->> d.state = 'ZB007' THEN '^ZB00[37]$' ELSE '^ZB003$' END, format('%s may not %s in state %s', p, l.action, d.state))
FROM life l, document_in d, unnest('{ada,bob,adm,rea,aud,app}'::text[]) AS p
WHERE p <> l.person AND d.kind = 'invoice' AND to_jsonb(l) ->> d.state <> 'ZB007';
SELECT is(pg_temp.attempt(p, action, (SELECT reference FROM document_in LIMIT 1)), 'ZB002', format('for a person without a duty in the entity there is nothing to %s', action))
FROM life, unnest('{nob}'::text[]) AS p;

-- The table and the matrix above say the same
SELECT set_eq($$SELECT kind, from_state, CASE WHEN guard = 'system' AND action <> 'issue' THEN 'validate' ELSE action END FROM billing.transition
		WHERE kind IN ('invoice', 'credit_note') AND function_name IS NOT NULL AND action NOT IN ('recall', 'credit', 'credit_partly')$$,
	$$SELECT d.kind, d.state, l.action FROM life l, document_in d WHERE to_jsonb(l) ->> d.state <> 'ZB007'$$, 'there is no other transition');
SELECT is_empty($$SELECT kind, state FROM billing.document_state s WHERE s.is_final = EXISTS (SELECT FROM billing.transition t WHERE t.kind = s.kind AND t.from_state = s.state)$$,
	'nothing leads out of a final state, something out of all others');
SELECT matches(pg_temp.told('bob', format('SELECT billing.approve_invoice(%L, %L)', 'acme', reference)), 'cannot approve a document of kind invoice in state draft', 'the error names action, kind and state')
FROM document_in WHERE kind = 'invoice' AND state = 'draft';

-- Every step is on record, with who and how long
SELECT is((SELECT count(*) FROM billing.document_step), (SELECT sum(version) FROM billing.document), 'as many steps as versions');
SELECT is((SELECT string_agg(s.action, ' ' ORDER BY s.version) FROM billing.document_step s JOIN billing.invoice i ON i.entity_id = s.entity_id AND i.invoice_id = s.document_id
	WHERE i.reference = d.reference), steps, 'the steps to ' || state)
FROM (VALUES ('draft', 'draft'), ('discarded', 'draft discard'), ('on_hold', 'draft hold'), ('pending_approval', 'draft submit'), ('approved', 'draft submit approve'), ('issued', 'draft submit approve issue')) AS s (state, steps)
JOIN document_in d USING (state) WHERE d.kind = 'invoice';
SELECT is_empty($$SELECT * FROM billing.document_step s WHERE NOT EXISTS (SELECT FROM billing.audit_log a WHERE a.entity_id = s.entity_id AND a.object_id = s.document_id::text AND a.action = s.action)$$, 'and in the audit log');
SELECT is(pg_temp.try(NULL, statement), code, statement)
FROM (VALUES
	('UPDATE billing.document SET state = ''issued''', 'ZB010'), ('UPDATE billing.document_step SET actor_id = 0', 'ZB008'), ('DELETE FROM billing.document', 'ZB008'),
	('INSERT INTO billing.transition (kind, from_state, action, to_state, duty, description) SELECT kind, ''issued'', ''reopen'', ''draft'', ''biller'', '''' FROM billing.transition LIMIT 1', 'ZB010')
) AS c (statement, code);
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- verify() finds a state without a step, and a step that no transition allows
CREATE FUNCTION pg_temp.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE change;
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(substring(b FROM '^[^:]*'), '; ' ORDER BY b) INTO answer FROM pg_temp.broken() b;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing found');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT is(pg_temp.tampered(change), found, change)
FROM (VALUES
	('UPDATE billing.document SET state = ''draft'' WHERE state = ''on_hold''', 'a document is in the state that its last step led to'),
	('UPDATE billing.document_step SET to_state = ''approved'' WHERE action = ''hold''', 'a document is in the state that its last step led to; every step is a transition that follows the step before'),
	('DELETE FROM billing.document_step WHERE action = ''submit''', 'a document is in the state that its last step led to; every step is a transition that follows the step before'),
	('UPDATE billing.document d SET maker_id = s.actor_id FROM billing.document_step s WHERE s.action = ''approve'' AND s.document_id = d.document_id', 'nobody approved a document of their own making')
) AS c (change, found);

SELECT * FROM finish();
ROLLBACK;
