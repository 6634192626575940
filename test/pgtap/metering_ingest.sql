-- What becomes of usage events: accepted once, recognised, contradicted, waiting, replayed.
BEGIN;
SELECT plan(63);

SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Rome');
SELECT billing.create_entity('other', 'Other', 'USD', 'America/New_York');
SELECT billing.add_person('ann', 'Ann');
SELECT billing.add_login('ann', session_user);
SELECT billing.grant_duty(e, 'ann', d)
FROM unnest('{acme,other}'::text[]) e, unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.add_customer(e, 'c', 'Customer') FROM unnest('{acme,other}'::text[]) e;
SELECT billing.add_account(e, 'a1', 'c', 'EUR') FROM unnest('{acme,other}'::text[]) e;
SELECT billing.add_meter(e, 'storage', 'Storage', 'sum', 'gb') FROM unnest('{acme,other}'::text[]) e;
SELECT billing.add_meter('acme', 'calls', 'Calls', 'count');

-- An event, from what differs between the cases; null leaves a field out
CREATE FUNCTION pg_temp.event(id text, subject text DEFAULT 'a1', type text DEFAULT 'storage', data jsonb DEFAULT '{"gb": 1}',
	at text DEFAULT '2026-07-15T12:00:00Z', source text DEFAULT '/s') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('id', id, 'source', source, 'type', type, 'subject', subject, 'time', at, 'data', data));
$$;
-- accepted/duplicate/conflicting/quarantined
CREATE FUNCTION pg_temp.ingest(events jsonb, entity text DEFAULT 'acme') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage(entity, events);
$$;
CREATE FUNCTION pg_temp.replay(entity text DEFAULT 'acme') RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.replay_usage(entity);
$$;
-- kind:state of the exceptions about an id, in order
CREATE FUNCTION pg_temp.exceptions(id text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s', kind, state), ' ' ORDER BY kind, exception_id)
	FROM billing.exception x
	WHERE coalesce(x.payload -> 'sent', x.payload) ->> 'id' = id;
$$;
CREATE FUNCTION pg_temp.quantity(id text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(quantity::text, ' ' ORDER BY event_id) FROM billing.usage_event WHERE event_key = id;
$$;

-- Shapes of the argument
SELECT is(pg_temp.ingest('[]'), '0/0/0/0', 'an empty array is nothing');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'usage'), 0::bigint, 'nothing is not audited');
SELECT is(pg_temp.ingest(pg_temp.event('one')), '1/0/0/0', 'one event may come without an array');
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('two'), pg_temp.event('three'))), '2/0/0/0', 'several come in an array');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'usage'), 2::bigint, 'a call is one audit record');
SELECT is((SELECT after - 'quarantined' FROM billing.audit_log WHERE object_type = 'usage' ORDER BY audit_id DESC LIMIT 1),
	'{"accepted": 2, "duplicate": 0, "conflicting": 0}'::jsonb, 'it says what became of the events');

-- The same key: what makes a duplicate and what a conflict
SELECT is(pg_temp.ingest(pg_temp.event('k', data => '{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}')), '1/0/0/0', 'the first delivery');
SELECT is(pg_temp.ingest(pg_temp.event('k', data => d::jsonb, at => t, subject => s, type => y)), e, n)
FROM (VALUES
	('{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/1/0/0', 'the same again is a duplicate'),
	('{"tags": {"a": "x", "b": [1, null]}, "gb": 1.5}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/1/0/0', 'the order of keys does not count'),
	('{"gb": 1.500, "tags": {"b": [1.0, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/1/0/0', 'trailing zeros do not count'),
	('{"gb": 15e-1, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/1/0/0', 'nor does the exponent'),
	('{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T14:00:00.000+02:00', 'a1', 'storage', '0/1/0/0', 'nor the offset of the same moment'),
	('{"gb": "1.5", "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/0/1/0', 'a text is not a number'),
	('{"gb": 1.6, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/0/1/0', 'another quantity is a conflict'),
	('{"gb": 1.5, "tags": {"b": [null, 1], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/0/1/0', 'another order in an array is a conflict'),
	('{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00.000001Z', 'a1', 'storage', '0/0/1/0', 'another moment is a conflict'),
	('{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'calls', '0/0/1/0', 'another type is a conflict'),
	('{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'nobody', 'storage', '0/0/1/0', 'another subject is a conflict, even an unknown one'),
	('{"gb": 1.6, "tags": {"b": [1, null], "a": "x"}}', '2026-07-15T12:00:00Z', 'a1', 'storage', '0/0/1/0', 'the same conflict again is counted')
) AS c (d, t, s, y, e, n);
SELECT is(pg_temp.quantity('k'), '1.5', 'the first delivery stays');
SELECT is((SELECT count(*) FROM billing.exception WHERE kind = 'usage_conflict' AND payload #>> '{sent,id}' = 'k'), 6::bigint,
	'each other content is raised once');
SELECT is((SELECT payload FROM billing.exception WHERE kind = 'usage_conflict' AND payload #>> '{sent,data,gb}' = '1.6'),
	jsonb_build_object('sent', pg_temp.event('k', data => '{"gb": 1.6, "tags": {"b": [1, null], "a": "x"}}'),
		'stored', pg_temp.event('k', data => '{"gb": 1.5, "tags": {"b": [1, null], "a": "x"}}', at => '2026-07-15T12:00:00.000000Z')
			|| '{"data": {"gb": 1.5, "tags": {"a": "x", "b": [1, null]}}}'),
	'a conflict keeps both contents');
SELECT is(pg_temp.ingest(pg_temp.event('k', source => '/t')), '1/0/0/0', 'the same id of another source is another event');
SELECT is(pg_temp.ingest(pg_temp.event('k'), 'other'), '1/0/0/0', 'and so it is in another entity');

-- Within one call the first wins
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('w', data => '{"gb": 7}'), pg_temp.event('w', data => '{"gb": 3}'),
	pg_temp.event('w', data => '{"gb": 7}'), pg_temp.event('w', data => '{"gb": 3.0}'))), '1/1/2/0', 'repeats within a call');
SELECT is(pg_temp.quantity('w'), '7', 'the first in the call counts');
SELECT is(pg_temp.exceptions('w'), 'usage_conflict:open', 'the same contradiction twice in a call is raised once');
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('v', subject => 'nobody'), pg_temp.event('v'), pg_temp.event('v', data => '{}'))),
	'1/0/2/0', 'the first that can be taken counts, the others contradict it');

-- Quantities, days, amounts
SELECT is(pg_temp.ingest(pg_temp.event(i, data => d::jsonb, type => y)), '1/0/0/0', 'quantity ' || q), is(pg_temp.quantity(i), q, d)
FROM (VALUES
	('q1', 'storage', '{"gb": -2.5}', '-2.5'),
	('q2', 'storage', '{"gb": "0.1234567890123456789012345678901234567890"}', '0.1234567890123456789012345678901234567890'),
	('q3', 'storage', '{"gb": 999999999999999999999999999999999999}', '999999999999999999999999999999999999'),
	('q4', 'storage', '{"gb": "-1e3"}', '-1000'),
	('q5', 'calls', '{"gb": 5}', '1')
) AS c (i, y, d, q);
SELECT is(pg_temp.ingest(pg_temp.event('n', type => 'calls', data => NULL)), '1/0/0/0', 'an event that is counted needs no data');
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('d1', at => '2026-07-31T21:59:59.999999Z'), pg_temp.event('d2', at => '2026-07-31T22:00:00Z'),
	pg_temp.event('d3', at => '2026-12-31T22:59:59Z'), pg_temp.event('d4', at => '2026-12-31T23:59:60+01:00'))), '4/0/0/0', 'at the ends of days');
SELECT is((SELECT string_agg(usage_date::text, ' ' ORDER BY event_key) FROM billing.usage_event WHERE event_key ~ '^d[1-4]$'),
	'2026-07-31 2026-08-01 2026-12-31 2027-01-01', 'a day is the entity''s, in summer and in winter, and a leap second begins the next');
SELECT is(pg_temp.ingest(pg_temp.event('x', data => '{"gb": 1, "expected_amount": "0.00001605990"}')), '1/0/0/0', 'an expected amount');
SELECT is((SELECT expected_amount::text FROM billing.usage_event WHERE event_key = 'x'), '0.00001605990', 'is kept exactly');

-- What waits, and what ends the waiting
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('u1', subject => 'a2'), pg_temp.event('u2', type => 'bytes', data => '{"n": 4}'),
	pg_temp.event('u3', subject => 'a2', type => 'bytes', data => '{"n": 5}'), pg_temp.event('u4', subject => 'a9'))), '0/0/0/4', 'unknown account, unknown meter');
SELECT is(pg_temp.exceptions('u3'), 'usage_unknown_meter:open usage_unknown_subject:open', 'both are somebody''s work');
SELECT is(pg_temp.ingest(pg_temp.event('u1', subject => 'a2')), '0/0/0/1', 'sent again it is unknown again');
SELECT is(pg_temp.exceptions('u1'), 'usage_unknown_subject:open', 'and raised once');
SELECT is(pg_temp.replay(), '0/0/0/4', 'a replay before the mend changes nothing');
SELECT billing.add_account('acme', 'a2', 'c', 'EUR');
SELECT is(pg_temp.ingest(pg_temp.event('u1', subject => 'a2')), '1/0/0/0', 'with the account there it is accepted');
SELECT is(pg_temp.exceptions('u1'), 'usage_unknown_subject:resolved', 'and its exception is resolved by that');
SELECT is(pg_temp.replay(), '0/0/0/3', 'the others wait on');
SELECT is(pg_temp.exceptions('u3'), 'usage_unknown_meter:open usage_unknown_subject:resolved', 'one reason less');
SELECT billing.add_meter('acme', 'bytes', 'Bytes', 'sum', 'n');
SELECT is(pg_temp.replay(), '2/0/0/1', 'with the meter there the rest is accepted');
SELECT is(pg_temp.quantity('u2') || ' ' || pg_temp.quantity('u3'), '4 5', 'under the new meter');
SELECT is(pg_temp.replay(), '0/0/0/1', 'once');

-- A meter that did not fit, and an event that was corrected
SELECT billing.add_meter('acme', 'watts', 'Watts', 'sum', 'kw');
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('m1', type => 'watts', data => '{"w": 3}'), pg_temp.event('m2', type => 'watts', data => '{"kw": "x"}'))),
	'0/0/0/2', 'data that do not fit the meter');
UPDATE billing.meter SET value_field = 'w' WHERE code = 'watts';
SELECT is(pg_temp.replay(), '1/0/0/2', 'fit when the meter is corrected');
SELECT is(pg_temp.ingest(pg_temp.event('m2', type => 'watts', data => '{"w": 1}')), '1/0/0/0', 'a corrected event');
SELECT lives_ok('SELECT billing_internal.replay_all_usage()', 'the worker''s task runs over all entities');
SELECT is(pg_temp.exceptions('m1') || ' ' || pg_temp.exceptions('m2'), 'usage_malformed:resolved usage_malformed:resolved',
	'ends what was malformed');

-- Every delivery is somewhere
SELECT is((SELECT sum(violations) FROM billing.verify()), 0::numeric, 'every invariant holds');
SELECT billing.add_account('acme', 'a9', 'c', 'EUR');
SELECT lives_ok('SELECT billing_internal.replay_all_usage()', 'again');
SELECT is((SELECT count(*) FROM billing.exception WHERE state = 'open' AND kind <> 'usage_conflict'), 0::bigint, 'nothing waits in the end');

SELECT * FROM finish();
ROLLBACK;
