-- Every state of every kind of document × every action that the kind has anywhere × every duty: what happens is what
-- billing.transition says, by the function for it; and by plain DML nothing happens at all. No cell is left out.
BEGIN;
\ir ../lib/persons.sql
SELECT * FROM no_plan();

-- A person for each duty and no more, one without any, and the maker, who holds whatever a maker needs
SELECT pg_temp.hire_all(), pg_temp.hire('mak');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.hire('p_' || duty), billing.grant_duty('acme', 'p_' || duty, duty, '2020-01-01') FROM billing.duty;
SELECT billing.grant_duty('acme', 'mak', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager,accountant}'::text[]) d;
SELECT billing.set_usage_policy('acme', correction_limit => 0);

-- One real document of every kind. Its state is set past all guards before a cell and taken back after it.
CREATE TEMP TABLE specimen (kind text PRIMARY KEY, reference text, document_id bigint);
SELECT pg_temp.must('ada', format($q$SELECT billing.add_account('acme', %1$L, 'c1', 'EUR'), billing.create_contract('acme', %1$L, %1$L, '2026-01-01'),
	billing.add_item('acme', %1$L, 'i', 'seat', 'one_time', %2$s, pg_temp.each('100'))$q$, k, n)) FROM (VALUES ('invoice', 1), ('credit_note', -1)) v (k, n);
SELECT pg_temp.must('mak', $$CALL billing.run_billing('acme', '2026-01-01')$$);
INSERT INTO specimen SELECT account, reference, invoice_id FROM billing.invoice_overview WHERE entity = 'acme';
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'invoice', 'u', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls')$$),
	pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[{"id": "1", "source": "s", "type": "calls", "subject": "invoice", "time": "2026-01-20T12:00:00Z", "data": {"quantity": 8}}]')$$);
INSERT INTO specimen SELECT 'usage_correction', c, substr(c, 2)::bigint FROM pg_temp.must('mak', $$SELECT correction FROM billing.void_usage('acme', 's', '{1}', 'because')$$) c;
-- what a collector asks for is asked for by p_collector, and given to the maker
INSERT INTO specimen
SELECT k, r, substr(r, 2)::bigint FROM (
	SELECT k, pg_temp.must(CASE WHEN k IN ('write_off', 'refund') THEN 'p_collector' ELSE 'mak' END,
		format('SELECT billing.request_document(%L, %L, %L, 50, %L)', 'acme', k, 'subject', 'EUR')) AS r
	FROM unnest('{contract_amendment,price_change,write_off,refund,milestone,journal,period_reopening}'::text[]) k) q;
SELECT set_eq('SELECT kind FROM specimen', 'SELECT kind FROM billing.document_state', 'there is a document of every kind');
SET LOCAL session_replication_role = replica;
UPDATE billing.document SET maker_id = (SELECT person_id FROM billing.person WHERE code = 'mak');
SET LOCAL session_replication_role = origin;

-- The call that takes an action, by the function for it
CREATE FUNCTION pg_temp.call(kind text, action text, reference text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN kind IN ('invoice', 'credit_note') AND action IN ('hold', 'submit', 'auto_approve') THEN format('SELECT billing.validate_invoices(%L, %L)', 'acme', reference)
		WHEN kind IN ('invoice', 'credit_note') AND action = 'reject' THEN format('SELECT billing.reject_invoice(%L, %L, %L)', 'acme', reference, 'because')
		WHEN kind IN ('invoice', 'credit_note') AND action IN ('approve', 'release', 'discard', 'issue') THEN format('SELECT billing.%I(%L, %L)', action || '_invoice', 'acme', reference)
		WHEN kind = 'usage_correction' AND action IN ('approve', 'reject') THEN format('SELECT billing.%I(%L, %L, %L)', action || '_usage_correction', 'acme', reference, 'because')
		ELSE format('SELECT billing.take_action(%L, %L, %L)', 'acme', reference, action) END;
$$;
-- What becomes of a document in a state when a person takes an action: the state after it, or the SQLSTATE
CREATE FUNCTION pg_temp.attempt(s specimen, state text, statement text, person text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	UPDATE billing.document d SET state = attempt.state WHERE d.document_id = s.document_id;
	SET LOCAL session_replication_role = origin;
	answer := pg_temp.try(person, statement);
	IF answer !~ '^([0-9]{5}|ZB0[0-9]{2}|P0001)' THEN
		SELECT d.state INTO answer FROM billing.document d WHERE d.document_id = s.document_id;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;

-- The cells. What is expected follows from the transition alone: none, or one that no function takes: ZB007; the duty is
-- not the one: ZB003; only the maker may, and it is somebody else: ZB004.
CREATE TEMP TABLE cell AS
SELECT s.kind, s.state, a.action, d.duty, t.to_state, t.duty AS needed, t.guard, t.function_name
FROM billing.document_state s
JOIN (SELECT DISTINCT kind, action FROM billing.transition) a ON a.kind = s.kind
CROSS JOIN (SELECT duty FROM billing.duty UNION ALL SELECT NULL) d
LEFT JOIN billing.transition t ON t.kind = s.kind AND t.from_state = s.state AND t.action = a.action;
SELECT is((SELECT count(*) FROM cell), (SELECT sum(s.n * a.n * (SELECT count(*) + 1 FROM billing.duty)) FROM (SELECT kind, count(*) AS n FROM billing.document_state GROUP BY kind) s
	JOIN (SELECT kind, count(DISTINCT action) AS n FROM billing.transition GROUP BY kind) a USING (kind))::bigint, 'as many cells as states times actions times duties, and nobody');
ALTER TABLE cell ADD expected text, ADD got text;
UPDATE cell SET expected = CASE
	WHEN duty IS NULL THEN '^ZB002$'
	WHEN to_state IS NULL OR function_name IS NULL THEN '^ZB00[37]$'
	WHEN duty <> needed THEN '^ZB003$'
	WHEN guard = 'maker' THEN '^ZB004$'
	-- validation finds nothing, and the entity approves nothing by itself
	WHEN action IN ('hold', 'submit', 'auto_approve') AND kind IN ('invoice', 'credit_note') THEN '^pending_approval$'
	WHEN guard = 'system' AND function_name <> 'issue_invoice' THEN '^ZB007$'
	ELSE '^' || to_state || '$' END;
-- by somebody with the duty what is not possible is refused for being impossible, not for lack of a duty
UPDATE cell c SET expected = '^ZB007$' WHERE (to_state IS NULL OR function_name IS NULL)
	AND duty IN (SELECT t.duty FROM billing.transition t WHERE t.kind = c.kind AND t.action = c.action);
UPDATE cell c SET got = pg_temp.attempt(s, c.state, pg_temp.call(c.kind, c.action, s.reference), coalesce('p_' || c.duty, 'nob')) FROM specimen s WHERE s.kind = c.kind;
SELECT is_empty(format('SELECT action, duty, expected, got FROM cell WHERE kind = %L AND state = %L AND coalesce(got, %L) !~ expected', kind, state, 'nothing'), format('%s in state %s: %s cells', kind, state, count(*)))
FROM cell GROUP BY kind, state ORDER BY kind, state;
SELECT is_empty($$SELECT t.kind, t.from_state, t.action FROM billing.transition t WHERE function_name IS NOT NULL AND guard IS DISTINCT FROM 'maker' AND NOT (kind IN ('invoice', 'credit_note') AND action IN ('hold', 'auto_approve'))
	AND NOT EXISTS (SELECT FROM cell c WHERE c.kind = t.kind AND c.state = t.from_state AND c.action = t.action AND c.got = t.to_state)$$, 'every transition for which there is a function was taken by somebody');

-- Whoever holds the duty and made the document: takes nothing that needs another person, and alone what is the maker's
CREATE TEMP TABLE own AS
SELECT t.kind, t.from_state, t.action, t.guard, t.to_state, t.duty
FROM billing.transition t
WHERE t.guard IN ('independent', 'maker');
CREATE FUNCTION pg_temp.as_maker(k text, from_state text, action text, duty text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	-- the maker is whoever holds the duty
	SET LOCAL session_replication_role = replica;
	UPDATE billing.document SET maker_id = (SELECT person_id FROM billing.person WHERE code = 'p_' || duty) WHERE kind = k;
	SET LOCAL session_replication_role = origin;
	SELECT pg_temp.attempt(s, from_state, pg_temp.call(k, action, s.reference), 'p_' || duty) INTO answer FROM specimen s WHERE s.kind = k;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT is(pg_temp.as_maker(kind, from_state, action, duty), CASE guard WHEN 'maker' THEN to_state ELSE 'ZB004' END, format('its maker: %s %s in %s', action, kind, from_state))
FROM own ORDER BY kind, from_state, action;

-- ---------------------------------------------------------------------------------------------------------------------
-- By plain DML: nobody, whatever their duty; not even a superuser who leaves the guards alone

SELECT is_empty(format($q$SELECT d.duty, t.tab, v.verb, pg_temp.try('p_' || d.duty, format(v.verb, t.tab)) FROM billing.duty d, unnest('{document,document_step,document_request,exception,document_state,transition,entity_state,entity_transition}'::text[]) AS t (tab),
	(VALUES (%L), (%L), (%L), (%L)) AS v (verb) WHERE pg_temp.try('p_' || d.duty, format(v.verb, t.tab)) <> '42501'$q$,
	'INSERT INTO billing.%I DEFAULT VALUES', 'DELETE FROM billing.%I', 'TRUNCATE billing.%I', 'SELECT * FROM billing.%I FOR UPDATE'), 'no duty writes, deletes or locks a row of the state machine');
SELECT is_empty($$SELECT t.kind, t.from_state, t.to_state, d.duty FROM billing.transition t CROSS JOIN billing.duty d JOIN specimen s USING (kind)
	WHERE pg_temp.try('p_' || d.duty, format('UPDATE billing.document SET state = %L, version = version + 1 WHERE document_id = %s', t.to_state, s.document_id)) <> '42501'$$, 'no duty takes a transition by an UPDATE');
SELECT is_empty($$SELECT t.kind, t.from_state, t.to_state FROM billing.transition t JOIN specimen s USING (kind)
	WHERE pg_temp.try(NULL, format('UPDATE billing.document SET state = %L, version = version + 1 WHERE document_id = %s', t.to_state, s.document_id)) <> 'ZB010'$$, 'nor does a superuser');
SELECT is(pg_temp.try(NULL, s), c, s) FROM (VALUES ('DELETE FROM billing.document_step', 'ZB008'), ('UPDATE billing.document_request SET payload = ''{}''', 'ZB008'), ('TRUNCATE billing.document_step', 'ZB008'),
	('INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id) SELECT entity_id, document_id, 99, ''approve'', ''approved'', 0 FROM billing.document LIMIT 1', 'ZB010')) AS v (s, c);
SELECT is_empty('SELECT pg_temp.broken()', 'and nothing is broken');
SELECT * FROM finish();
ROLLBACK;
