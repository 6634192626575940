-- Late usage: what comes later than the entity's policy takes in is held with its payload, and let in by a decision, once.
-- "Today" moves, so every day is counted back from the entity's own today.
BEGIN;
SELECT plan(39);
\ir ../lib/persons.sql
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Asia/Tokyo');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- An event of so many local days ago, at noon there
CREATE FUNCTION pg_temp.event(id text, ago int, quantity numeric DEFAULT 1, subject text DEFAULT 'a1', type text DEFAULT 'calls') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'source', 's', 'type', type, 'subject', subject, 'data', jsonb_build_object('quantity', quantity),
		'time', to_char(((now() AT TIME ZONE 'Asia/Tokyo')::date - ago + time '12:00') AT TIME ZONE 'Asia/Tokyo' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
$$;
CREATE FUNCTION pg_temp.send(VARIADIC events jsonb[]) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT concat_ws('' '', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage(''acme'', %L)', to_jsonb(events)));
$$;
CREATE FUNCTION pg_temp.release(arguments text, person text DEFAULT 'ada') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT concat_ws('' '', accepted, duplicate, conflicting, quarantined) FROM billing.release_usage(''acme'', %s)', arguments));
$$;
CREATE FUNCTION pg_temp.replay() RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', 'SELECT concat_ws('' '', accepted, duplicate, conflicting, quarantined) FROM billing.replay_usage(''acme'')');
$$;
CREATE FUNCTION pg_temp.waiting() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(x.kind || ' ' || (x.payload ->> 'id'), ', ' ORDER BY x.kind, x.exception_id) FROM billing.exception x WHERE x.state = 'open';
$$;
CREATE FUNCTION pg_temp.stored() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(event_key, ' ' ORDER BY event_key) FROM billing.usage_event $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The policy

SELECT is(pg_temp.send(pg_temp.event('e0', 60)), '1 0 0 0', 'without a policy nothing is late');
SELECT is(pg_temp.try('ada', $$SELECT billing.set_usage_policy('acme', 3, 'hold')$$), 'ZB003', 'a policy is for admins');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_usage_policy('acme', NULL, 'hold')$$), 'ZB001', 'who holds says from when on');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_usage_policy('acme', 3, 'drop')$$), 'ZB001', 'usage is billed or held, never dropped');
SELECT is(pg_temp.try('adm', $$SELECT billing.set_usage_policy('acme', suggestion_threshold => 0.49)$$), 'ZB001', 'a threshold is at least a half');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', 3, 'bill', retention_months => 12)$$);
SELECT is(pg_temp.send(pg_temp.event('e1', 4)), '1 0 0 0', 'what is late is billed where the policy says so');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', 3, 'hold')$$);
SELECT is((SELECT concat_ws(' ', late_after_days, late_action, retention_months) FROM billing.usage_policy), '3 hold', 'a policy is set as a whole: what is not given is not set');
SELECT is((SELECT string_agg(a.action, ' ' ORDER BY a.audit_id) FROM billing.audit_log a WHERE a.object_type = 'usage_policy'), 'insert update', 'and is audited');

-- ---------------------------------------------------------------------------------------------------------------------
-- Holding

SELECT is(pg_temp.send(pg_temp.event('e2', 3), pg_temp.event('e3', 4), pg_temp.event('e4', 5), pg_temp.event('e5', 40, subject => 'other')), '1 0 0 3',
	'three days after its day an event comes in; four days after it, it is held');
SELECT is(pg_temp.waiting(), 'usage_late e3, usage_late e4, usage_unknown_subject e5', 'unknown before late: what is not known is mended first');
SELECT is((SELECT detail FROM billing.open_exception WHERE payload ->> 'id' = 'e3'), 'came 4 days after the day on which it happened', 'the exception says how late');
SELECT is((SELECT owner_duty FROM billing.open_exception WHERE payload ->> 'id' = 'e3'), 'biller', 'and billers decide');
SELECT is(pg_temp.stored(), 'e0 e1 e2', 'what is held is not stored');
SELECT is(pg_temp.send(pg_temp.event('e3', 4)), '0 0 0 1', 'sent again, it is held still');
SELECT is(pg_temp.waiting(), 'usage_late e3, usage_late e4, usage_unknown_subject e5', 'once');

-- Once-only is asked before lateness
SELECT is(pg_temp.send(pg_temp.event('e1', 4)), '0 1 0 0', 'a late duplicate of a stored event is a duplicate');
SELECT is(pg_temp.send(pg_temp.event('e1', 4, 2)), '0 0 1 0', 'a late event with a stored key and other content is a conflict');
SELECT is((SELECT count(*) FROM billing.open_exception WHERE kind = 'usage_late' AND payload ->> 'id' = 'e1'), 0::bigint, 'neither is held');

-- Replay leaves them, and a late event that was unknown goes the same way
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'other', 'c1', 'EUR')$$);
SELECT is(pg_temp.replay(), '0 0 0 1', 'a replay takes in nothing that is held');
SELECT is((SELECT string_agg(kind || ' ' || (payload ->> 'id'), ', ' ORDER BY kind, exception_id) FROM billing.open_exception WHERE kind <> 'usage_conflict'),
	'usage_late e3, usage_late e4, usage_late e5', 'and what was unknown is held now, because it came late when it came first');
SELECT billing_internal.replay_all_usage();
SELECT is(pg_temp.stored(), 'e0 e1 e2', 'the worker releases nothing either');

-- An event that came in time and had to wait for its account is not late for that
SELECT is(pg_temp.send(pg_temp.event('e6', 2, subject => 'slow')), '0 0 0 1', 'an event in time, of an unknown subject');
-- as if that were 10 days ago
SET LOCAL session_replication_role = replica;
UPDATE billing.exception SET raised_at = raised_at - interval '10 days', payload = jsonb_set(payload, '{time}', pg_temp.event('e6', 12) -> 'time')
WHERE payload ->> 'id' = 'e6';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'slow', 'c1', 'EUR')$$);
SELECT is(pg_temp.replay(), '1 0 0 0', 'is taken in when its subject is known, however long that took');

-- ---------------------------------------------------------------------------------------------------------------------
-- Letting in

SELECT is(left(pg_temp.release($$'ok'$$, 'rea'), 5), 'ZB003', 'releasing is for billers');
SELECT is(left(pg_temp.release($$' '$$), 5), 'ZB001', 'who say why');
SELECT is(left(pg_temp.release($$'ok', exceptions => '{-1}'$$), 5), 'ZB002', 'and what: an exception that is none is refused');
SELECT is(left(pg_temp.release(format('''ok'', exceptions => ARRAY[%s]', (SELECT exception_id FROM billing.open_exception WHERE kind = 'usage_conflict'))), 5), 'ZB002',
	'so is one of another kind');
SELECT is(pg_temp.release(format('''the switch was down'', exceptions => ARRAY[%s]', (SELECT exception_id FROM billing.open_exception WHERE kind = 'usage_late' AND payload ->> 'id' = 'e4'))), '1 0 0 0',
	'one of them is let in by its exception');
SELECT is(pg_temp.release($$'agreed', subject => 'other'$$), '1 0 0 0', 'those of a subject by that');
SELECT is(pg_temp.stored(), 'e0 e1 e2 e4 e5 e6', 'they are stored');
SELECT is((SELECT string_agg(x.resolution || ' by ' || p.code, ', ') FROM billing.exception x JOIN billing.person p ON p.person_id = x.resolved_by WHERE x.kind = 'usage_late' AND x.state = 'resolved'),
	'the event was accepted by ada, the event was accepted by ada', 'and their exceptions resolved');
SELECT is(pg_temp.send(pg_temp.event('e3', 4, 7)), '0 0 0 1', 'held under the same key with other content');
SELECT is(pg_temp.release($$'all of them'$$), '1 0 1 0', 'of two with one key the first comes in, the other is a conflict: each once');
SELECT is(pg_temp.release($$'again'$$), '0 0 0 0', 'and nothing is left');
SELECT is((SELECT string_agg(reason || ': ' || (after ->> 'accepted') || coalesce(' of ' || (after ->> 'subject'), ''), ', ' ORDER BY audit_id) FROM billing.audit_log WHERE action = 'release'),
	'the switch was down: 1, agreed: 1 of other, all of them: 1, again: 0', 'each release is audited with its reason');

-- ---------------------------------------------------------------------------------------------------------------------
-- What was late, by meter and month: late are e0 (60 days), e1 (4), e3 (4), e4 (5), e5 (40) and e6 (12): 125 days in all

SELECT is((SELECT concat_ws(' ', sum(accepted), max(max_days_late), sum(avg_days_late * accepted)::integer, sum(held)) FROM billing.late_usage WHERE meter = 'calls'), '6 60 125 0', 'the view adds them up');
SELECT pg_temp.send(pg_temp.event('e7', 4), pg_temp.event('e8', 9));
SELECT is((SELECT sum(held) FROM billing.late_usage), 2::numeric, 'and what waits now');
SELECT is(pg_temp.must('nob', 'SELECT count(*) FROM billing.late_usage'), '0', 'for those who may see it');
SELECT is_empty('SELECT pg_temp.broken()', 'and nothing is broken');

SELECT * FROM finish();
ROLLBACK;
