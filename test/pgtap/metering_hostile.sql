-- Hostile usage: every bad event becomes an exception that names the field, the good ones beside it go on; every bad call is
-- refused with an error of class ZB.
BEGIN;
SELECT plan(114);

SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Rome');
SELECT billing.create_entity('other', 'Other', 'USD', 'America/New_York');
SELECT billing.add_person('ann', 'Ann');
SELECT billing.add_person('bob', 'Bob');
SELECT billing.add_login('ann', session_user);
SELECT billing.grant_duty(e, 'ann', d)
FROM unnest('{acme,other}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.add_customer(e, 'c', 'Customer') FROM unnest('{acme,other}'::text[]) e;
SELECT billing.add_account('acme', 'a1', 'c', 'EUR');
SELECT billing.add_account('other', 'theirs', 'c', 'EUR');
SELECT billing.add_meter('acme', 'storage', 'Storage', 'sum', 'gb');
SELECT billing.add_meter('other', 'their-meter', 'Theirs', 'count');

CREATE FUNCTION pg_temp.ingest(events jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage('acme', events);
$$;
CREATE TEMP TABLE good (event jsonb);
INSERT INTO good VALUES
	('{"specversion": "1.0", "id": "g", "source": "/s", "type": "storage", "subject": "a1", "time": "2026-07-15T12:00:00Z", "data": {"gb": 1}}');

-- Bad calls
SELECT throws_ok(format('SELECT * FROM billing.ingest_usage(%L, %s)', e, a), s, m, m)
FROM (VALUES
	('acme', 'NULL', 'ZB001', 'events must not be null'),
	('acme', $$'null'$$, 'ZB001', 'events must be an array of CloudEvents, or one CloudEvent'),
	('acme', $$'7'$$, 'ZB001', 'events must be an array of CloudEvents, or one CloudEvent'),
	('acme', $$'"text"'$$, 'ZB001', 'events must be an array of CloudEvents, or one CloudEvent'),
	('acme', $$'true'$$, 'ZB001', 'events must be an array of CloudEvents, or one CloudEvent'),
	('acme', $$(SELECT jsonb_agg(n) FROM generate_series(1, 100001) n)$$, 'ZB001', 'events are too many for one call'),
	('', $$'[]'$$, 'ZB001', 'entity must not be empty'),
	(NULL, $$'[]'$$, 'ZB001', 'entity must not be null'),
	('nowhere', $$'[]'$$, 'ZB002', 'entity "nowhere" does not exist'),
	(repeat('x', 1000000), $$'[]'$$, 'ZB001', 'entity is too long'),
	(E'a\tb', $$'[]'$$, 'ZB001', 'entity contains a control character')
) AS c (e, a, s, m);
SELECT throws_ok(format('SELECT * FROM billing.replay_usage(%L)', e), s, m, 'replay: ' || m)
FROM (VALUES
	(NULL, 'ZB001', 'entity must not be null'),
	('', 'ZB001', 'entity must not be empty'),
	('nowhere', 'ZB002', 'entity "nowhere" does not exist')
) AS c (e, s, m);
SELECT is((SELECT count(*) FROM billing.usage_event), 0::bigint, 'a refused call leaves nothing');

-- Bad events: what is changed in the good one, and what the exception says
CREATE TEMP TABLE bad (n serial, change jsonb, detail text);
INSERT INTO bad (change, detail) VALUES
	('{"id": null}', 'id is missing'),
	('{"id": ""}', 'id is empty'),
	('{"id": 5}', 'id is not a text'),
	('{"id": {}}', 'id is not a text'),
	('{"id": "a\u0001b"}', 'id contains a control character'),
	('{"id": "a\nb"}', 'id contains a control character'),
	(jsonb_build_object('id', repeat('x', 257)), 'id has 257 bytes; at most 256 are taken'),
	(jsonb_build_object('id', repeat('x', 1000000)), 'id has 1000000 bytes; at most 256 are taken'),
	(jsonb_build_object('id', repeat('€', 86)), 'id has 258 bytes; at most 256 are taken'),
	('{"source": null}', 'source is missing'),
	('{"source": false}', 'source is not a text'),
	(jsonb_build_object('source', repeat('x', 257)), 'source has 257 bytes; at most 256 are taken'),
	('{"specversion": "0.3"}', 'specversion is not "1.0"'),
	('{"specversion": 1.0}', 'specversion is not "1.0"'),
	('{"type": null}', 'type is missing'),
	('{"type": ["storage"]}', 'type is not a text'),
	('{"type": "\u007f"}', 'type contains a control character'),
	('{"subject": null}', 'subject is missing'),
	('{"subject": ""}', 'subject is empty'),
	(jsonb_build_object('subject', repeat('x', 1000000)), 'subject has 1000000 bytes; at most 256 are taken'),
	('{"time": null}', 'time is missing'),
	('{"time": 1784116800}', 'time is not a text'),
	('{"time": ""}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "infinity"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "-infinity"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "now"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:00"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-02-29T12:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "1900-02-29T12:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-00-10T12:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-13-10T12:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-04-31T12:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T24:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:60:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:61Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:00.Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:00+24:00"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:00+0200"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "2026-07-15T12:00:00Zjunk"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "0000-01-01T00:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	('{"time": "300000-01-01T00:00:00Z"}', 'time is not a moment of RFC 3339 with its offset'),
	(jsonb_build_object('time', repeat('9', 1000000)), 'time is not a moment of RFC 3339 with its offset'),
	('{"data": null}', 'data.gb is missing'),
	('{"data": {}}', 'data.gb is missing'),
	('{"data": {"gb": null}}', 'data.gb is missing'),
	('{"data": [1]}', 'data is not an object'),
	('{"data": "1"}', 'data is not an object'),
	('{"data": 1}', 'data is not an object'),
	('{"data": {"gb": true}}', 'data.gb is not a number in range'),
	('{"data": {"gb": [1]}}', 'data.gb is not a number in range'),
	('{"data": {"gb": {"gb": 1}}}', 'data.gb is not a number in range'),
	('{"data": {"gb": ""}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "NaN"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "Infinity"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "-inf"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "12 GB"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": " 12"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "+12"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "0x10"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "1_000"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "1."}}', 'data.gb is not a number in range'),
	('{"data": {"gb": ".5"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "1e"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "1e9999"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": 1e36}}', 'data.gb is not a number in range'),
	('{"data": {"gb": -1e36}}', 'data.gb is not a number in range'),
	('{"data": {"gb": "1e999"}}', 'data.gb is not a number in range'),
	('{"data": {"gb": 1e-41}}', 'data.gb is not a number in range'),
	('{"data": {"gb": 1e100000}}', 'data.gb is not a number in range'),
	(jsonb_build_object('data', jsonb_build_object('gb', repeat('1', 101))), 'data.gb is not a number in range'),
	-- a header of 4 bytes, two entries of 4, the key and the text
	(jsonb_build_object('data', jsonb_build_object('gb', repeat('1', 1000000))), 'data has 1000014 bytes; at most 65536 are taken'),
	('{"data": {"gb": 1, "expected_amount": "free"}}', 'data.expected_amount is not a number in range'),
	('{"data": {"gb": 1, "expected_amount": {}}}', 'data.expected_amount is not a number in range'),
	('{"data": {"gb": 1, "expected_amount": "NaN"}}', 'data.expected_amount is not a number in range'),
	('{"data": {"gb": 1, "expected_amount": 1e30}}', 'data.expected_amount is not a number in range');
SELECT is(pg_temp.ingest(jsonb_build_array(g.event || jsonb_build_object('id', 'bad-' || b.n) || b.change,
		g.event || jsonb_build_object('id', 'good-' || b.n))),
	'1/0/0/1', 'beside a good one: ' || left(b.change::text, 60))
FROM bad b, good g
ORDER BY b.n;
SELECT is_empty($$
	SELECT b.n, b.detail, x.detail
	FROM bad b
	LEFT JOIN billing.exception x ON x.kind = 'usage_malformed' AND x.payload @> b.change
		AND (x.payload ->> 'id' = 'bad-' || b.n OR b.change ? 'id')
	WHERE x.detail IS DISTINCT FROM b.detail$$,
	'every bad event is kept, with the field that is wrong');

-- What is no event at all
SELECT is(pg_temp.ingest('[null, 1, "x", true, [], [[]], {}]'), '0/0/0/7', 'no objects, or empty ones');
SELECT is(pg_temp.ingest('[null, 1, "x", true, [], [[]], {}]'), '0/0/0/7', 'the same again');
SELECT is((SELECT string_agg(payload::text, ' ' ORDER BY payload::text COLLATE "C") FROM billing.exception WHERE kind = 'usage_malformed' AND detail IN ('event is not an object', 'id is missing')
	AND NOT payload @> '{"source": "/s"}'), '"x" 1 [[]] [] null true {}', 'is raised once');
SELECT is(pg_temp.ingest('[[{"id": "nested"}]]'), '0/0/0/1', 'an array in the array is one bad event');

-- Depth and size
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', 'deep', 'data', (repeat('{"gb":', 3000) || '1' || repeat('}', 3000))::jsonb)) FROM good g)),
	'0/0/0/1', 'deep data');
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', 'deep-2', 'data',
		jsonb_build_object('gb', 1, 'x', (repeat('[', 3000) || repeat(']', 3000))::jsonb))) FROM good g)),
	'1/0/0/0', 'deep data beside the number');
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', 'deep-2', 'data',
		jsonb_build_object('gb', 1, 'x', (repeat('[', 3001) || repeat(']', 3001))::jsonb))) FROM good g)),
	'0/0/1/0', 'one level deeper is other content');
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', 'large', 'data', jsonb_build_object('gb', 1, 'x', repeat('x', 1000000)))) FROM good g)),
	'0/0/0/1', 'a megabyte of data');
SELECT ok((SELECT detail ~ '^data has 10000[0-9]{2} bytes; at most 65536 are taken$' AND length(payload #>> '{data,x}') = 1000000
	FROM billing.exception WHERE payload ->> 'id' = 'large'), 'is kept in the exception, complete');
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', 'many', 'data', jsonb_build_object('gb', n))) FROM good g, generate_series(1, 20001) n)),
	'1/0/20000/0', 'one key with twenty thousand contents');

-- Names that mean something to a machine
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', i, 'source', s)) FROM good g,
	(VALUES ('a|b', 'c'), ('b|c', 'a'), ('c', 'a|b'), ('a\', 'b'), (''' OR 1=1 --', '"; DROP TABLE'), ('%s%n', '$1'), ('€', '日本')) v (i, s))),
	'7/0/0/0', 'separators, quotes and formats are plain text');
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || jsonb_build_object('id', i, 'source', s, 'subject', 'nobody')) FROM good g,
	(VALUES ('b|x', 'a'), ('x', 'a|b'), ('x', 'a\|b')) v (i, s))),
	'0/0/0/3', 'unknown events whose names could be confused');
SELECT is((SELECT count(*) FROM billing.exception WHERE kind = 'usage_unknown_subject'), 3::bigint, 'are not');

-- Codes of another entity
SELECT is(pg_temp.ingest((SELECT jsonb_agg(g.event || v.change) FROM good g,
	(VALUES ('{"id": "t1", "subject": "theirs"}'::jsonb), ('{"id": "t2", "type": "their-meter"}')) v (change))),
	'0/0/0/2', 'accounts and meters of another entity are unknown here');

-- Nobody writes past the functions, and nobody without the duty through them
SELECT throws_ok('DELETE FROM billing.usage_event', 'ZB008', NULL, 'events are never deleted');
SELECT throws_ok('UPDATE billing.usage_event SET quantity = 0', 'ZB008', NULL, 'nor changed');
SELECT throws_ok('INSERT INTO billing.usage_event SELECT * FROM billing.usage_event LIMIT 1', 'ZB010', NULL, 'nor written by hand');
SELECT is((SELECT sum(violations) FROM billing.verify()), 0::numeric, 'every invariant holds');
SELECT billing.revoke_duty('acme', 'ann', 'biller');
SELECT throws_ok($$SELECT * FROM billing.ingest_usage('acme', NULL)$$, 'ZB003', 'person "ann" does not hold the duty biller in entity "acme"',
	'the duty is asked for before anything is said about the events');
SELECT throws_ok($$SELECT * FROM billing.replay_usage('acme')$$, 'ZB003', 'person "ann" does not hold the duty biller in entity "acme"', 'a replay needs it too');
SELECT billing.grant_duty('acme', 'ann', 'application');
SELECT is(pg_temp.ingest((SELECT event || '{"id": "app"}' FROM good)), '1/0/0/0', 'the duty application is enough');
SELECT isnt(has_function_privilege('billing_user', 'billing_internal.replay_all_usage()', 'EXECUTE'), true, 'the worker''s task is not for users');

SELECT * FROM finish();
ROLLBACK;
