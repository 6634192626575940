-- Three doors with one meaning: the same events, as JSON, in arrays and through the inbox, come to the same end; and who may
-- use the inbox for what.
BEGIN;
SELECT plan(98);
\ir ../lib/persons.sql
SET LOCAL timezone = 'UTC';

SELECT pg_temp.hire_all();
SELECT billing.create_entity(e, e, 'EUR', 'Europe/Rome'), pg_temp.staff(e), pg_temp.stock(e)
FROM unnest('{json,array,inbox}'::text[]) e;
SELECT pg_temp.must('ada', format('SELECT billing.add_meter(%L, %L, %L, %L, %L), billing.add_meter(%1$L, %6$L, %7$L, %8$L)', e, 'storage', 'Storage', 'sum', 'gb', 'hits', 'Hits', 'count'))
FROM unnest('{json,array,inbox}'::text[]) e;

-- The table of cases, in the order in which they are sent: what becomes of each, and why
CREATE TEMP TABLE sent (n serial, source text, id text, type text, subject text, "time" timestamptz, data jsonb, kind text, detail text);
GRANT SELECT ON sent TO billing_user;
INSERT INTO sent (source, id, type, subject, "time", data, kind, detail) VALUES
	('/s', 'plain', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1.5}', NULL, NULL),
	('/s', 'midnight', 'storage', 'a1', '2026-07-31T22:00:00Z', '{"gb": "2.25"}', NULL, NULL),
	('/s', 'counted', 'hits', 'a1', '2026-07-15T12:00:00.000001Z', NULL, NULL, NULL),
	('/s', 'json null', 'hits', 'a1', '2026-07-15T12:00:00Z', 'null', NULL, NULL),
	('/s', 'expected', 'hits', 'a1', '2026-07-15T12:00:00Z', '{"expected_amount": "0.10"}', NULL, NULL),
	('/t', 'plain', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 3}', NULL, NULL),
	('/s', 'negative', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": -0.5}', NULL, NULL),
	('/s', 'twice', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 7, "a": [1, {"b": null}]}', NULL, NULL),
	('/s', 'twice', 'storage', 'a1', '2026-07-15T14:00:00+02', '{"a": [1.0, {"b": null}], "gb": 7.00}', NULL, NULL),
	('/s', 'twice', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 8}', 'usage_conflict', 'event "twice" of source "/s" came again with other content'),
	('/s', 'nobody', 'storage', 'a2', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_unknown_subject', 'no billing account has the code "a2"'),
	('/s', 'nothing', 'traffic', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_unknown_meter', 'no meter has the code "traffic"'),
	('/s', NULL, 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'id is missing'),
	('/s', '', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 2}', 'usage_malformed', 'id is empty'),
	('/s', repeat('x', 257), 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'id has 257 bytes; at most 256 are taken'),
	('/s', repeat('€', 86), 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'id has 258 bytes; at most 256 are taken'),
	('/s', E'a\nb', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'id contains a control character'),
	(NULL, 'no source', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'source is missing'),
	(E'\x7f', 'bad source', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'source contains a control character'),
	('/s', 'no type', NULL, 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'type is missing'),
	('/s', 'long type', repeat('t', 1000000), 'a1', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'type has 1000000 bytes; at most 256 are taken'),
	('/s', 'no subject', 'storage', NULL, '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'subject is missing'),
	('/s', 'empty subject', 'storage', '', '2026-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'subject is empty'),
	('/s', 'no time', 'storage', 'a1', NULL, '{"gb": 1}', 'usage_malformed', 'time is missing'),
	('/s', 'long ago', 'storage', 'a1', '1999-07-15T12:00:00Z', '{"gb": 1}', 'usage_malformed', 'time is more than ten years ago, or two years ahead'),
	('/s', 'no data', 'storage', 'a1', '2026-07-15T12:00:00Z', NULL, 'usage_malformed', 'data.gb is missing'),
	('/s', 'array', 'storage', 'a1', '2026-07-15T12:00:00Z', '[1]', 'usage_malformed', 'data is not an object'),
	('/s', 'scalar', 'storage', 'a1', '2026-07-15T12:00:00Z', '7', 'usage_malformed', 'data is not an object'),
	('/s', 'text', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": "NaN"}', 'usage_malformed', 'data.gb is not a number in range'),
	('/s', 'amount', 'storage', 'a1', '2026-07-15T12:00:00Z', '{"gb": 1, "expected_amount": "free"}', 'usage_malformed', 'data.expected_amount is not a number in range'),
	-- a header of 4 bytes, two entries of 4, the key and the text
	('/s', 'large', 'storage', 'a1', '2026-07-15T12:00:00Z', jsonb_build_object('gb', repeat('1', 1000000)), 'usage_malformed', 'data has 1000014 bytes; at most 65536 are taken');

CREATE FUNCTION pg_temp.answer(statement text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('app', format('SELECT concat_ws(''/'', accepted, duplicate, conflicting, quarantined) FROM %s', statement));
$$;
-- 8 are accepted, 1 is the same again, 1 contradicts, and 21 cannot be taken
SELECT is((SELECT format('%s/%s', count(*) FILTER (WHERE kind = 'usage_conflict'), count(*) FILTER (WHERE kind <> 'usage_conflict')) FROM sent), '1/21', 'the cases');
SELECT is(pg_temp.answer($$billing.ingest_usage('json', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('specversion', '1.0', 'id', id, 'source', source,
	'type', type, 'subject', subject, 'time', "time")) || CASE WHEN data IS NULL THEN '{}' ELSE jsonb_build_object('data', data) END ORDER BY n) FROM sent))$$),
	'8/1/1/21', 'as JSON');
SELECT is(pg_temp.answer($$billing.ingest_usage('array', (SELECT array_agg(source ORDER BY n) FROM sent), (SELECT array_agg(id ORDER BY n) FROM sent),
	(SELECT array_agg(type ORDER BY n) FROM sent), (SELECT array_agg(subject ORDER BY n) FROM sent), (SELECT array_agg("time" ORDER BY n) FROM sent),
	(SELECT array_agg(data ORDER BY n) FROM sent))$$), '8/1/1/21', 'in arrays');
SELECT is(pg_temp.must('app', $$INSERT INTO billing.usage_inbox (entity, source, id, type, subject, "time", data)
	SELECT 'inbox', source, id, type, subject, "time", data FROM sent ORDER BY n$$), '31', 'into the inbox');
SELECT is(pg_temp.answer($$billing.drain_usage_inbox('inbox')$$), '8/1/1/21', 'and out of it');
SELECT is((SELECT count(*) FROM billing.usage_inbox), 0::bigint, 'where nothing is left');

-- What is stored, and what the exceptions say, is the same
CREATE FUNCTION pg_temp.events(of_entity text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s %s %s %s %s %s', source, event_key, event_type, subject, occurred_at, usage_date, quantity, expected_amount, data, content)
	FROM billing.usage_event JOIN billing.legal_entity USING (entity_id) WHERE code = of_entity;
$$;
CREATE FUNCTION pg_temp.exceptions(of_entity text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s %s', kind, dedupe_key, subject, detail, payload - 'stored') FROM billing.exception JOIN billing.legal_entity USING (entity_id)
	WHERE code = of_entity;
$$;
SELECT is((SELECT count(*) FROM pg_temp.events('json')), 8::bigint, 'events are stored');
SELECT set_eq(format('SELECT pg_temp.events(%L)', e), $$SELECT pg_temp.events('json')$$, e || ': the same events') FROM unnest('{array,inbox}'::text[]) e;
SELECT set_eq(format('SELECT pg_temp.exceptions(%L)', e), $$SELECT pg_temp.exceptions('json')$$, e || ': the same exceptions, with the same payloads') FROM unnest('{array,inbox}'::text[]) e;
SELECT is((SELECT string_agg(DISTINCT x.detail, '; ') FROM billing.exception x JOIN billing.legal_entity l USING (entity_id)
	WHERE l.code = 'array' AND x.kind = s.kind AND coalesce(x.payload -> 'sent', x.payload) ->> 'id' IS NOT DISTINCT FROM s.id
	AND coalesce(x.payload -> 'sent', x.payload) ->> 'source' IS NOT DISTINCT FROM s.source), s.detail, format('%s: %s', s.n, left(s.detail, 60)))
FROM sent s WHERE kind IS NOT NULL ORDER BY n;

-- Through another door it is the same event
SELECT is(pg_temp.answer($$billing.ingest_usage('inbox', '{"id": "plain", "source": "/s", "type": "storage", "subject": "a1", "time": "2026-07-15T14:00:00+02:00", "data": {"gb": 1.50}}')$$),
	'0/1/0/0', 'what came through the inbox is a duplicate as JSON');
SELECT is(pg_temp.answer($$billing.ingest_usage('json', '{/s}', '{plain,plain,new}', '{storage,storage,storage}', '{a1,a1,a1}',
	ARRAY[timestamptz '2026-07-15T12:00:00Z', '2026-07-15T12:00:00Z', '2026-07-15T12:00:00Z'], ARRAY['{"gb": 1.5}'::jsonb, '{"gb": 1}', '{"gb": 2}'])$$),
	'1/1/1/0', 'and so it is in arrays, with one source for all');
SELECT is(pg_temp.answer($$billing.ingest_usage('array', '{/s}', '{c}', '{hits}', '{a1}', '{2026-07-15T12:00:00Z}')$$), '1/0/0/0', 'arrays without data');
SELECT is(pg_temp.answer($$billing.ingest_usage('array', '{/s}', '{}', '{}', '{}', '{}', '{}')$$), '0/0/0/0', 'empty arrays are nothing');
SELECT is(pg_temp.answer($$billing.ingest_usage('array', '{/s}', '{f,g}', '{hits,hits}', '{a1,a1}', '{infinity,-infinity}')$$), '0/0/0/2', 'there is no end of time');
SELECT is((SELECT string_agg(format('%s: %s', payload ->> 'time', detail), ', ' ORDER BY payload ->> 'time') FROM billing.exception WHERE payload ->> 'id' IN ('f', 'g')),
	'-infinity: time is infinite, infinity: time is infinite', 'and that is said');
-- What waits is replayed, whichever door it came through
SELECT pg_temp.must('ada', format('SELECT billing.add_account(%L, %L, %L, %L)', e, 'a2', 'c1', 'EUR')) FROM unnest('{json,array,inbox}'::text[]) e;
SELECT is(pg_temp.must('app', format('SELECT accepted FROM billing.replay_usage(%L)', e)), '1', e || ': the account is there') FROM unnest('{json,array,inbox}'::text[]) e;
SELECT is((SELECT string_agg(state, ' ') FROM billing.exception WHERE kind = 'usage_unknown_subject'), 'resolved resolved resolved', 'and the exceptions are resolved');

-- Bad calls
SELECT is(pg_temp.told('app', format('SELECT * FROM billing.ingest_usage(%s)', a)), e, a)
FROM (VALUES
	($$'array', '{s,t}', '{1,2,3}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 arrays must have the same number of elements'),
	($$'array', '{s}', '{1}', '{hits}', '{a1}', '{2026-07-15}', '{}'$$, 'ZB001 arrays must have the same number of elements'),
	($$'array', '{}', '{1}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 arrays must have the same number of elements'),
	($$'array', '{s}', NULL, '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 id must not be null'),
	($$'array', '{s}', '{1}', '{hits}', '{a1}', NULL$$, 'ZB001 time must not be null'),
	($$'array', '{{s}}', '{1}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 source must be an array of one dimension'),
	($$'array', '{s}', array_fill('1'::text, '{100001}'), array_fill('1'::text, '{100001}'), array_fill('1'::text, '{100001}'), array_fill(now(), '{100001}')$$,
		'ZB001 events are too many for one call'),
	($$'array', ARRAY[repeat('x', 34000000)], '{1}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 event is too large'),
	($$NULL, '{s}', '{1}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB001 entity must not be null'),
	($$'nowhere', '{s}', '{1}', '{hits}', '{a1}', '{2026-07-15}'$$, 'ZB002 entity "nowhere" does not exist')
) AS c (a, e);
SELECT is(pg_temp.told('rea', $$SELECT * FROM billing.ingest_usage('array', '{s}', '{1}', '{hits}', '{a1}', NULL)$$),
	'ZB003 person "rea" does not hold the duty biller in entity "array"', 'a reader sends nothing');

-- The inbox: people put in, and look at nothing, whoever they are
SELECT is(pg_temp.try(p, s), '42501', format('%s: %s', p, s))
FROM unnest('{ada,app}'::text[]) p, unnest(ARRAY['SELECT count(*) FROM billing.usage_inbox', 'SELECT count(*) FROM billing.inbox_refused', 'DELETE FROM billing.usage_inbox',
	'INSERT INTO billing.usage_inbox (entity, sent_by) VALUES (''inbox'', ''somebody'')', 'INSERT INTO billing.usage_inbox (received_at) VALUES (now())',
	'INSERT INTO billing.usage_inbox (refused) VALUES (''x'')', 'INSERT INTO billing.usage_inbox (entity) VALUES (''inbox'') RETURNING sent_by']) s;
SELECT is(pg_temp.told('app', $$INSERT INTO billing.usage_inbox (entity, source, id, type, subject, "time") VALUES ('inbox', '/s', 'd', 'hits', 'a1', 'some day')$$),
	'22007 invalid input syntax for type timestamp with time zone: "some day"', 'what is no moment is refused at once');
SELECT throws_ok('DELETE FROM billing.usage_inbox', 'ZB010', NULL, 'nor does a superuser empty it by hand');
SELECT throws_ok('TRUNCATE billing.usage_inbox', 'ZB008', NULL, 'in any way');

-- Who may drain
CREATE FUNCTION pg_temp.post(person text, entity text, id text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must(person, format('INSERT INTO billing.usage_inbox (entity, source, id, type, subject, "time") VALUES (%L, ''/p'', %L, ''hits'', ''a1'', ''2026-07-15T12:00:00Z'')', entity, id));
$$;
SELECT pg_temp.post('app', 'inbox', 'p' || n), pg_temp.post('app', 'array', 'p' || n) FROM generate_series(1, 5) n;
SELECT is(pg_temp.told(p, format('SELECT * FROM billing.drain_usage_inbox(%s)', a)), e, format('%s: drain_usage_inbox(%s)', p, a))
FROM (VALUES
	('rea', $$'inbox'$$, 'ZB003 person "rea" does not hold the duty biller in entity "inbox"'),
	('nob', $$'inbox'$$, 'ZB002 entity "inbox" does not exist'),
	('app', '', 'ZB001 entity must not be null'),
	('adm', '', 'ZB001 entity must not be null'),
	('app', $$'nowhere'$$, 'ZB002 entity "nowhere" does not exist'),
	('app', $$'inbox', 0$$, 'ZB001 most must be between 1 and 2147483647'),
	('app', $$'inbox', NULL$$, 'ZB001 most must not be null')
) AS c (p, a, e);
SELECT is(pg_temp.answer($$billing.drain_usage_inbox('inbox', 2)$$), '2/0/0/0', 'so many at most');
SELECT is(pg_temp.must('ada', $$SELECT accepted FROM billing.drain_usage_inbox('inbox')$$), '3', 'the rest, by a biller');
SELECT is((SELECT string_agg(entity || ' ' || n, ', ') FROM (SELECT entity, count(*) AS n FROM billing.usage_inbox GROUP BY entity) w), 'array 5', 'another entity''s rows wait on');
SELECT is((SELECT accepted FROM billing.drain_usage_inbox()), 5::bigint, 'until somebody drains all');
SELECT is((SELECT string_agg(format('%s: %s', actor, after ->> 'accepted'), ', ' ORDER BY audit_id) FROM billing.audit_log WHERE action = 'drain'
	AND entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'inbox')), 'app: 8, app: 2, ada: 3', 'each drain is on record');

-- Who may send: the sender's duty decides, on the day on which it was sent, whoever drains
SELECT pg_temp.post('rea', 'inbox', 'reader'), pg_temp.post('nob', 'inbox', 'nobody'), pg_temp.post('app', 'nowhere', 'lost'), pg_temp.post('ada', 'inbox', 'right'),
	pg_temp.post('app', NULL, 'homeless'), pg_temp.post('app', repeat('x', 1000000), 'long');
INSERT INTO billing.usage_inbox (entity, source, id) VALUES ('inbox', '/p', 'superuser');
SELECT is((SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.drain_usage_inbox()), '1/0/0/1', 'one may, one may not, the others are not even counted');
SELECT is((SELECT string_agg(format('%s %s: %s', x.kind, x.payload ->> 'id', replace(x.detail, pg_temp.role_of('rea'), 'rea')), ', ') FROM billing.exception x JOIN billing.legal_entity l USING (entity_id)
	WHERE l.code = 'inbox' AND x.kind = 'usage_not_allowed'), 'usage_not_allowed reader: login "rea" sent it without the duty biller or application', 'who belongs to the entity, but may not send, is an exception there');
SELECT bag_eq($$SELECT id, left(regexp_replace(reason, '_\d+', ''), 50) FROM billing.inbox_refused$$, $$VALUES ('nobody', 'login "nob" had no duty in entity "inbox"'), ('lost', 'entity "nowhere" does not exist'),
	('homeless', 'entity is missing'), ('superuser', format('login "%s" is nobody''s login', session_user)), ('long', 'entity "' || repeat('x', 42))$$, 'what belongs nowhere stays, with the reason');
SELECT is((SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.drain_usage_inbox()), '0/0/0/0', 'and stays');
SELECT is((SELECT count(*) FROM billing.inbox_refused), 5::bigint, 'once');
SELECT billing.create_entity('nowhere', 'Now there', 'EUR', 'UTC');
SELECT billing.grant_duty('nowhere', 'app', 'application', '2020-01-01');
SELECT lives_ok('SELECT billing_internal.drain_inboxes()', 'the worker''s task');
SELECT is((SELECT count(*) FROM billing.inbox_refused), 5::bigint, 'leaves it alone');
SELECT is((SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.drain_usage_inbox()), '0/0/0/1', 'a drain by hand looks again');
SELECT is((SELECT string_agg(payload ->> 'id', ' ') FROM billing.exception x JOIN billing.legal_entity l USING (entity_id) WHERE l.code = 'nowhere'), 'lost lost', 'and finds that the entity is there: it lacks account and meter');
SELECT pg_temp.post('ada', 'inbox', 'last');
SELECT billing.revoke_duty('inbox', 'ada', 'biller');
SELECT is((SELECT quarantined FROM billing.drain_usage_inbox()), 1::bigint, 'a duty that was revoked today is none today');
SELECT billing.grant_duty('inbox', 'nob', 'biller', CURRENT_DATE + 1);
SELECT pg_temp.post('nob', 'inbox', 'early');
SELECT is((SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.drain_usage_inbox()), '0/0/0/0', 'nor is tomorrow''s');
SET LOCAL session_replication_role = replica;
UPDATE billing.duty_assignment SET valid_from = CURRENT_DATE - 1 WHERE person_id = (SELECT person_id FROM billing.person WHERE code = 'nob');
SET LOCAL session_replication_role = origin;
SELECT is((SELECT accepted FROM billing.drain_usage_inbox()), 2::bigint, 'but one that turns out to have been there is');

SELECT set_eq($$SELECT column_name::text FROM information_schema.column_privileges WHERE table_name = 'usage_inbox' AND grantee = 'billing_user'$$,
	'{entity,source,id,type,subject,time,data}'::text[], 'people write what they send, and nothing else');
SELECT is((SELECT sum(violations) FROM billing.verify()), 0::numeric, 'every invariant holds');
SELECT isnt(has_function_privilege('billing_user', 'billing_internal.drain_inboxes()', 'EXECUTE'), true, 'the worker''s task is not for users');

SELECT * FROM finish();
ROLLBACK;
