-- An entity's own states: put between the built-in ones, taken out, optional ones turned off. What could strand a document, or
-- lead around an approval, is refused with the path that shows it.
BEGIN;
\ir ../lib/persons.sql
SELECT * FROM no_plan();
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.staff('other'), pg_temp.stock('acme'), pg_temp.stock('other');
SELECT billing.grant_duty('acme', 'ada', d, '2020-01-01') FROM unnest('{accountant}'::text[]) d;

-- What the admin is told: the code, the message and the path
CREATE FUNCTION pg_temp.define(statement text, person text DEFAULT 'adm') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	hint text;
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	EXECUTE 'SELECT billing.' || statement;
	RESET SESSION AUTHORIZATION;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE || ' ' || SQLERRM, nullif(detail, '')) || CASE WHEN hint = '' THEN ' (without a hint)' ELSE '' END;
END $$;
-- The same, taken back: what it would be
CREATE FUNCTION pg_temp.would(statement text, person text DEFAULT 'adm') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = pg_temp.define(statement, person);
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
-- The machine of a kind, as text
CREATE FUNCTION pg_temp.machine(of_entity text, of_kind text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s -%s-> %s', from_state, action, to_state) FROM billing.state_machine(of_entity) WHERE kind = of_kind;
$$;
CREATE FUNCTION pg_temp.own(of_entity text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s: %s -%s-> %s', kind, from_state, action, to_state) FROM billing.state_machine(of_entity) WHERE is_own;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The built-in machines are sound, and every entity has them to begin with

SELECT is(billing_internal.machine_problem(entity_id, kind), NULL, 'built in: ' || kind)
FROM billing.legal_entity, (SELECT DISTINCT kind FROM billing.document_state) k WHERE code = 'acme' ORDER BY kind;
SELECT is((SELECT count(*) FROM (SELECT DISTINCT kind FROM billing.document_state) k), 10::bigint, 'ten kinds');
SELECT set_eq($$SELECT kind, from_state, action, to_state FROM billing.state_machine('acme')$$, 'SELECT kind, from_state, action, to_state FROM billing.transition', 'nothing else, nothing less');
SELECT is_empty($$SELECT s.kind, s.state FROM billing.document_state s WHERE s.is_final = EXISTS (SELECT FROM billing.transition t WHERE t.kind = s.kind AND t.from_state = s.state)$$, 'a final state is one out of which nothing leads');

-- ---------------------------------------------------------------------------------------------------------------------
-- A state after an action: who approved is followed by a second look

SELECT is(pg_temp.define($$add_state('acme', 'invoice', 'tax_review', 'pending_approval', 'approved', 'pass_tax', 'accountant', deadline => '2 days', description => 'the tax office wants it')$$), 'done', 'a state between waiting and approved');
SELECT set_eq($$SELECT pg_temp.own('acme')$$, ARRAY['invoice: pending_approval -approve-> tax_review', 'invoice: pending_approval -auto_approve-> tax_review', 'invoice: tax_review -pass_tax-> approved', 'invoice: tax_review -discard-> discarded'], 'approval leads to it, its action on, and it can be dropped as before');
SELECT is_empty($$SELECT pg_temp.own('other')$$, 'another entity does not have it');
SELECT is((SELECT format('%s %s %s %s', duty, guard, function_name, deadline) FROM billing.state_machine('acme') WHERE from_state = 'pending_approval' AND kind = 'invoice' AND action = 'approve'), 'approver independent approve_invoice 5 days', 'the approval needs what it needed');

-- A document goes that way
SELECT pg_temp.must('ada', format($q$SELECT billing.create_contract('%1$s', 'k', 'a1', '2026-01-01'), billing.add_item('%1$s', 'k', 'i', 'seat', 'one_time', 1, pg_temp.each('100'))$q$, e)) FROM unnest('{acme,other}'::text[]) e;
SELECT pg_temp.bill('acme', '2026-01-01'), pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
SELECT reference AS doc FROM billing.invoice_overview WHERE entity = 'acme' \gset
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_invoice(%L, %L)', 'acme', :'doc')), '', 'approved');
SELECT is((SELECT state FROM billing.invoice_overview WHERE reference = :'doc'), 'tax_review', 'it stands in the entity''s own state');
SELECT is(pg_temp.told('ada', $$SELECT billing.issue_invoices('acme')$$), '0', 'and is not issued');
SELECT is(pg_temp.try('ada', format('SELECT billing.issue_invoice(%L, %L)', 'acme', :'doc')), 'ZB007', 'by nobody');
SELECT is(pg_temp.try('bob', format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'doc', 'pass_tax')), 'ZB003', 'an approver is no accountant');
SELECT matches(pg_temp.define(format('drop_state(%L, %L, %L)', 'acme', 'invoice', 'tax_review')), '^ZB013 1 documents of kind invoice are in state tax_review \| One of them is document ' || :'doc', 'the state cannot be dropped while a document stands in it');
SELECT is(pg_temp.told('ada', format('SELECT billing.take_action(%L, %L, %L, 3, %L)', 'acme', :'doc', 'pass_tax', 'looked at')), 'approved', 'an accountant passes it');
SELECT is(pg_temp.told('ada', $$SELECT billing.issue_invoices('acme')$$), '1', 'and it is issued');
SELECT is((SELECT string_agg(format('%s %s', s.action, s.to_state), ', ' ORDER BY s.version) FROM billing.document_step s), 'draft draft, submit pending_approval, approve tax_review, pass_tax approved, issue issued', 'the steps tell');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- ---------------------------------------------------------------------------------------------------------------------
-- A state before an action: what is approved waits for its day

SELECT is(pg_temp.define($$add_state('acme', 'invoice', 'dispatch', 'approved', 'issued', 'hand_over', 'biller')$$), 'done', 'a state between approved and issued');
SELECT set_eq($$SELECT t FROM pg_temp.own('acme') t WHERE t ~ 'dispatch'$$, ARRAY['invoice: approved -hand_over-> dispatch', 'invoice: dispatch -issue-> issued', 'invoice: dispatch -discard-> discarded'], 'its action leads to it, and it is issued from there');
SELECT is_empty($$SELECT FROM billing.state_machine('acme') WHERE kind = 'invoice' AND from_state = 'approved' AND action = 'issue'$$, 'no longer from approved');
SELECT is(pg_temp.define($$add_state('acme', 'invoice', 'envelope', 'dispatch', 'issued', 'print', 'biller')$$), 'done', 'another one behind it');
SELECT is(pg_temp.define($$drop_state('acme', 'invoice', 'dispatch')$$), 'done', 'the first of them is dropped');
SELECT set_eq($$SELECT t FROM pg_temp.own('acme') t WHERE t ~ 'envelope|dispatch'$$, ARRAY['invoice: approved -print-> envelope', 'invoice: envelope -issue-> issued', 'invoice: envelope -discard-> discarded'], 'the second stays');
SELECT is(pg_temp.define($$drop_state('acme', 'invoice', 'envelope')$$), 'done', 'then the other one');
SELECT is(pg_temp.define($$add_state('acme', 'invoice', 'second_look', 'tax_review', 'approved', 'look', 'accountant', 'independent')$$), 'done', 'a state behind an own one');
SELECT is(pg_temp.define($$drop_state('acme', 'invoice', 'tax_review')$$), 'done', 'the first of the two is dropped');
SELECT set_eq($$SELECT pg_temp.own('acme')$$, ARRAY['invoice: pending_approval -approve-> second_look', 'invoice: pending_approval -auto_approve-> second_look', 'invoice: second_look -look-> approved', 'invoice: second_look -discard-> discarded'], 'approval leads to the second');
SELECT is(pg_temp.define($$drop_state('acme', 'invoice', 'second_look')$$), 'done', 'and that one too');
SELECT is_empty($$SELECT pg_temp.own('acme')$$, 'all is as it was');
SELECT is_empty('SELECT pg_temp.broken()', 'and the steps of then are still right');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'entity_state' AND actor = 'adm'), 8::bigint, 'what the admin did is on record: four states added, four dropped');

-- ---------------------------------------------------------------------------------------------------------------------
-- Optional states

SELECT is(pg_temp.define($$drop_state('acme', 'contract_amendment', 'legal_review')$$), 'done', 'an optional state is turned off');
SELECT set_eq($$SELECT pg_temp.own('acme')$$, ARRAY['contract_amendment: draft -submit-> pending_approval'], 'what led to it skips it');
SELECT is_empty($$SELECT FROM billing.state_machine('acme') WHERE kind = 'contract_amendment' AND 'legal_review' IN (from_state, to_state)$$, 'nothing leads there or from there');
SELECT is(pg_temp.define($$drop_state('acme', 'contract_amendment', 'awaiting_signature')$$), 'done', 'another one');
SELECT is_empty($$SELECT FROM billing.state_machine('acme') WHERE kind = 'contract_amendment' AND action = 'send'$$, 'the action that led there is gone, as nothing follows');
SELECT is(pg_temp.define($$drop_state('acme', 'invoice', 'partially_paid')$$), 'done', 'an entity without payments in part');
SELECT is_empty($$SELECT FROM billing.state_machine('acme') WHERE kind = 'invoice' AND 'partially_paid' IN (from_state, to_state)$$, 'has no such action');
SELECT is(pg_temp.define(format('add_state(%L, %L, %L)', 'acme', k, s)), 'done', s || ' is turned on again') FROM (VALUES ('contract_amendment', 'legal_review'), ('contract_amendment', 'awaiting_signature'), ('invoice', 'partially_paid')) AS v (k, s);
SELECT is_empty($$SELECT pg_temp.own('acme')$$, 'and all is as it was');
SELECT matches(pg_temp.must('ada', $$SELECT billing.request_document('acme', 'contract_amendment', 'contract k', 100, 'EUR')$$), '^R[0-9]+$', 'a document is asked for');
SELECT 'R' || max(document_id) AS doc FROM billing.document \gset
SELECT is(pg_temp.told('ada', format('SELECT billing.take_action(%L, %L, %L)', 'acme', :'doc', 'submit')), 'legal_review', 'it comes to the optional state');
SELECT matches(pg_temp.define($$drop_state('acme', 'contract_amendment', 'legal_review')$$), '^ZB013 1 documents of kind contract_amendment are in state legal_review \| One of them is document D', 'which cannot be turned off now');

-- ---------------------------------------------------------------------------------------------------------------------
-- Refused, with the path

SELECT is(pg_temp.would(statement), answer, statement)
FROM (VALUES
	-- dead ends and loops
	($$set_transition('acme', 'invoice', 'draft', 'park', 'nowhere', 'biller')$$, 'ZB002 documents of kind invoice have no state "nowhere"'),
	-- around an approval
	($$set_transition('acme', 'invoice', 'draft', 'wave', 'approved', 'biller')$$, 'ZB004 a document could come to state approved without an approval | The path is: draft > approved.'),
	($$set_transition('acme', 'invoice', 'on_hold', 'wave', 'approved', 'approver', 'independent')$$, 'ZB004 a document could come to state approved without an approval | The path is: draft > on_hold > approved.'),
	($$set_transition('acme', 'refund', 'pending_approval', 'wave', 'failed', 'accountant')$$, 'ZB004 a document could come to state failed without an approval | The path is: draft > pending_approval > failed.'),
	-- what has taken effect
	($$set_transition('acme', 'invoice', 'approved', 'sneak', 'issued', 'biller')$$, 'ZB013 an entity cannot lead documents from approved to issued by sneak | Only built-in actions lead to or from states in which a document has taken effect, or never will.'),
	($$set_transition('acme', 'invoice', 'issued', 'reopen', 'draft', 'biller')$$, 'ZB013 an entity cannot lead documents from issued to draft by reopen | Only built-in actions lead to or from states in which a document has taken effect, or never will.'),
	($$set_transition('acme', 'invoice', 'discarded', 'revive', 'draft', 'biller')$$, 'ZB013 an entity cannot lead documents from discarded to draft by revive | Only built-in actions lead to or from states in which a document has taken effect, or never will.'),
	($$set_transition('acme', 'invoice', 'pending_approval', 'bin', 'discarded', 'biller')$$, 'ZB013 an entity cannot lead documents from pending_approval to discarded by bin | Only built-in actions lead to or from states in which a document has taken effect, or never will.'),
	-- what is built in stays
	($$drop_transition('acme', 'invoice', 'pending_approval', 'approve')$$, 'ZB004 action approve from state pending_approval is built in | An entity cannot be without it.'),
	($$drop_transition('acme', 'invoice', 'approved', 'issue')$$, 'ZB004 action issue from state approved is built in | An entity cannot be without it.'),
	($$set_transition('acme', 'invoice', 'pending_approval', 'approve', duty => 'biller')$$, 'ZB004 action approve from state pending_approval is built in | It leads to approved, needs the duty approver and has the guard independent.'),
	($$set_transition('acme', 'invoice', 'pending_approval', 'approve', guard => 'maker')$$, 'ZB004 action approve from state pending_approval is built in | It leads to approved, needs the duty approver and has the guard independent.'),
	($$set_transition('acme', 'invoice', 'pending_approval', 'approve', to_state => 'draft')$$, 'ZB004 action approve from state pending_approval is built in | It leads to approved, needs the duty approver and has the guard independent.'),
	($$set_transition('acme', 'invoice', 'draft', 'approve', 'approved', 'biller')$$, 'ZB009 action approve of documents of kind invoice is built in | It leads on from state pending_approval.'),
	($$set_transition('acme', 'invoice', 'on_hold', 'auto_approve', 'approved', 'biller')$$, 'ZB009 action auto_approve of documents of kind invoice is built in | It leads on from state draft.'),
	($$set_transition('acme', 'invoice', 'on_hold', 'pay', 'paid', 'biller')$$, 'ZB009 action pay of documents of kind invoice is built in | It leads on from state issued.'),
	($$drop_state('acme', 'invoice', 'pending_approval')$$, 'ZB013 state pending_approval of documents of kind invoice cannot be turned off | The functions that move such documents rely on it.'),
	($$drop_state('acme', 'invoice', 'draft')$$, 'ZB013 state draft of documents of kind invoice cannot be turned off | The functions that move such documents rely on it.'),
	($$drop_state('acme', 'invoice', 'nonsense')$$, 'ZB002 documents of kind invoice have no state "nonsense"'),
	($$drop_transition('acme', 'invoice', 'draft', 'nonsense')$$, 'ZB002 documents of kind invoice have no action "nonsense" from state "draft"'),
	-- states where none can be
	($$add_state('acme', 'invoice', 'x', 'draft', 'on_hold', 'go', 'biller')$$, 'ZB001 no state can be put between draft and on_hold | No action leads from one to the other that lets an entity do so.'),
	($$add_state('acme', 'invoice', 'x', 'issued', 'paid', 'go', 'biller')$$, 'ZB001 no state can be put between issued and paid | No action leads from one to the other that lets an entity do so.'),
	($$add_state('acme', 'invoice', 'x', 'draft', 'issued', 'go', 'biller')$$, 'ZB001 no state can be put between draft and issued | No action leads from one to the other that lets an entity do so.'),
	($$add_state('acme', 'usage_correction', 'x', 'pending_approval', 'applied', 'go', 'biller')$$, 'ZB001 no state can be put between pending_approval and applied | No action leads from one to the other that lets an entity do so.'),
	($$add_state('acme', 'invoice', 'draft', 'pending_approval', 'approved', 'go', 'biller')$$, 'ZB009 documents of kind invoice have a state "draft" already'),
	($$add_state('acme', 'invoice', 'X y', 'pending_approval', 'approved', 'go', 'biller')$$, 'ZB001 state "X y" is not a plain name'),
	($$add_state('acme', 'invoice', 'x', 'pending_approval', 'approved', 'approve', 'biller')$$, 'ZB009 action approve of documents of kind invoice is built in | It leads on from state pending_approval.'),
	($$add_state('acme', 'invoice', 'x', 'pending_approval', 'approved', 'go', 'biller', 'system')$$, 'ZB001 guard "system" cannot be set'),
	($$add_state('acme', 'invoice', 'x', 'pending_approval', 'approved', 'go', 'biller', deadline => '-1 day')$$, 'ZB001 deadline must be between nothing and a hundred years'),
	($$add_state('acme', 'invoice', 'x')$$, 'ZB001 action must not be null'),
	($$add_state('acme', 'letter', 'x', 'a', 'b', 'go', 'biller')$$, 'ZB002 kind of document "letter" does not exist'),
	($$set_transition('acme', 'invoice', 'draft', 'think', 'on_hold')$$, 'ZB001 duty must not be null')
) AS c (statement, answer);
SELECT matches(pg_temp.would($$add_state('acme', 'invoice', 'x', 'pending_approval', 'approved', 'go', 'nonsense')$$), '^ZB002', 'a duty that does not exist');
SELECT is(pg_temp.would($$add_state('acme', 'invoice', 'x', 'pending_approval', 'approved', 'go', 'biller')$$, p), r, p || ' defines nothing')
FROM (VALUES ('ada', 'ZB003 person "ada" does not hold the duty admin in entity "acme"'), ('bob', 'ZB003 person "bob" does not hold the duty admin in entity "acme"'), ('nob', 'ZB002 entity "acme" does not exist | No entity of that code is visible to the actor.')) AS v (p, r);

-- A state that is left by nothing, and one that nothing leads to: by taking actions away again
SELECT pg_temp.define($$add_state('acme', 'journal', 'audit', 'pending_approval', 'approved', 'pass_audit', 'accountant')$$);
SELECT pg_temp.define($$set_transition('acme', 'journal', 'audit', 'ask', 'draft', 'accountant')$$);
SELECT is(pg_temp.would($$drop_transition('acme', 'journal', 'audit', 'ask')$$), 'done', 'one way out of two may be dropped');
SELECT pg_temp.define($$add_state('acme', 'journal', 'loop_a', 'audit', 'approved', 'to_b', 'accountant')$$), pg_temp.define($$set_transition('acme', 'journal', 'loop_a', 'back', 'audit', 'accountant')$$);
SELECT is(pg_temp.would($$drop_transition('acme', 'journal', 'loop_a', 'to_b')$$), 'done', 'a loop with another way out is none');
SELECT pg_temp.define($$drop_transition('acme', 'journal', 'audit', 'ask')$$), pg_temp.define($$drop_transition('acme', 'journal', 'audit', 'cancel')$$), pg_temp.define($$drop_transition('acme', 'journal', 'loop_a', 'cancel')$$);
SELECT is(pg_temp.would($$drop_transition('acme', 'journal', 'loop_a', 'to_b')$$), 'ZB013 a document in state audit would never come to an end | The path is: draft > pending_approval > audit.', 'a loop that nothing leaves');
SELECT is(pg_temp.would($$drop_transition('acme', 'journal', 'audit', 'pass_audit')$$), 'ZB013 state loop_a cannot be reached | The path is: loop_a.', 'a state that nothing leads to');
SELECT is(pg_temp.define($$drop_state('acme', 'journal', 'audit')$$), 'done', 'the states are dropped');
SELECT is(pg_temp.define($$drop_state('acme', 'journal', 'loop_a')$$), 'done', 'both');
SELECT is_empty($$SELECT pg_temp.own('acme')$$, 'nothing is left');

-- Stricter is allowed: another deadline, a second person for what needed none
SELECT is(pg_temp.define($$set_transition('acme', 'invoice', 'approved', 'discard', guard => 'independent', deadline => '3 days')$$), 'done', 'a stricter guard');
SELECT is((SELECT format('%s %s %s', guard, deadline, function_name) FROM billing.state_machine('acme') WHERE kind = 'invoice' AND is_own), 'independent 3 days discard_invoice', 'is in force');
SELECT is(pg_temp.would($$set_transition('acme', 'invoice', 'approved', 'discard', guard => 'maker')$$), 'ZB004 action discard from state approved is built in | It leads to discarded, needs the duty biller and has the guard independent.', 'not another one');
SELECT is(pg_temp.define($$set_transition('acme', 'invoice', 'approved', 'discard', deadline => '0')$$), 'done', 'a deadline is removed');
SELECT is((SELECT format('%s %s', guard, deadline) FROM billing.state_machine('acme') WHERE kind = 'invoice' AND is_own), 'independent ', 'the guard stays');
SELECT is(pg_temp.define($$drop_transition('acme', 'invoice', 'approved', 'discard')$$), 'done', 'what was set is dropped');
SELECT is_empty($$SELECT pg_temp.own('acme')$$, 'and what is built in holds again');

-- Nobody writes the rows past the functions
SELECT is(pg_temp.try(p, s), '42501', format('%s: %s', p, s)) FROM unnest('{adm,ada}'::text[]) p,
	unnest(ARRAY[$$INSERT INTO billing.entity_state (entity_id, kind, state, description) VALUES (1, 'invoice', 'x', 'x')$$, $$UPDATE billing.entity_transition SET guard = NULL$$, 'DELETE FROM billing.entity_transition', 'UPDATE billing.transition SET guard = NULL', 'UPDATE billing.document_state SET is_optional = true']) s;
SELECT is(pg_temp.try(NULL, s), c, s) FROM (VALUES ('UPDATE billing.entity_transition SET guard = NULL', 'ZB010'), ('DELETE FROM billing.entity_transition', 'ZB008'), ('UPDATE billing.transition SET guard = NULL', 'ZB010')) AS v (s, c);

-- What a superuser smuggles in is found
CREATE FUNCTION pg_temp.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE change;
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(b, '; ' ORDER BY b) INTO answer FROM pg_temp.broken() b;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing found');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT matches(pg_temp.tampered(format($$INSERT INTO billing.entity_transition (entity_id, kind, from_state, action, to_state, duty, description) SELECT entity_id, 'invoice', 'draft', 'wave', 'approved', 'biller', 'x' FROM billing.legal_entity WHERE code = 'other'$$)),
	'^an entity''s own states strand no document and lead around no approval: 1, such as invoice of entity \d+: a document could come to state approved without an approval: draft > approved$', 'verify() searches every entity''s machine');

-- The bounds of the search: a hundred states, of which a journal has seven
SELECT is((SELECT count(*) FROM generate_series(1, 93) n WHERE pg_temp.define(format($$add_state('other', 'journal', 's%s', '%s', 'approved', 'go%1$s', 'accountant')$$, n, CASE n WHEN 1 THEN 'pending_approval' ELSE 's' || n - 1 END)) = 'done'), 93::bigint, 'as many states as anybody wants');
SELECT is(pg_temp.would($$add_state('other', 'journal', 's94', 's93', 'approved', 'go94', 'accountant')$$), 'ZB012 there are too many states | A kind of document has at most 100.', 'but no more');
SELECT * FROM finish();
ROLLBACK;
