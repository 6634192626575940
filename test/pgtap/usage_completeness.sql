-- Which feeds of usage are complete: expectations, heartbeats, states, what is missing before a billing date, exceptions.
-- Moments lie so far before now(), which stands still within the test.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(95);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('far', 'Far', 'NZD', 'Pacific/Auckland', 'NZ');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('far'), pg_temp.stock('far', 'NZD');

-- An event of a source that happened some time ago, sent now
CREATE FUNCTION pg_temp.send(source text, id text, ago interval, entity text DEFAULT 'acme') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('app', format('SELECT accepted FROM billing.ingest_usage(%L, jsonb_build_object(''id'', %L, ''source'', %L, ''type'', ''calls'', ''subject'', ''a1'', ''time'', now() - interval %L, ''data'', ''{"quantity": 1}''::jsonb))', entity, id, source, ago));
$$;
CREATE FUNCTION pg_temp.beat(source text, ago interval, person text DEFAULT 'app') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT now() - billing.record_heartbeat(''acme'', %L, now() - interval %L)', source, ago));
$$;
CREATE FUNCTION pg_temp.expect(source text, every text, grace text DEFAULT '0') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('ada', format('SELECT billing.expect_usage(''acme'', %L, %L, %L)', source, every, grace));
$$;
-- state, lag, events of the last day
CREATE FUNCTION pg_temp.state(of_source text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', state, lag, events_last_day) FROM billing.usage_completeness WHERE entity = 'acme' AND source = of_source;
$$;
-- Turn the clock of a source's last signs back, which nobody can do by the interface
CREATE FUNCTION pg_temp.age(of_source text, by interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	UPDATE billing.usage_heartbeat SET recorded_at = recorded_at - by WHERE source = of_source;
	UPDATE billing.usage_source_state SET last_arrival_at = last_arrival_at - by WHERE source = of_source;
	UPDATE billing.usage_source SET expected_since = expected_since - by WHERE source = of_source;
	RESET ROLE;
END $$;
-- Rolls up everything so far, in this transaction too
CREATE FUNCTION pg_temp.roll() RETURNS void LANGUAGE sql AS 'SELECT billing_internal.restored_usage()';
-- subject: state of its exceptions, in order
CREATE FUNCTION pg_temp.silences() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s: %s', subject, state), ', ' ORDER BY subject, exception_id) FROM billing.exception WHERE kind = 'usage_source_silent';
$$;
CREATE FUNCTION pg_temp.watch() RETURNS text LANGUAGE sql AS $$
	SELECT outcome || coalesce(' ' || error, '') FROM billing.run_worker_once(true) WHERE task = 'usage_sources';
$$;

-- Who may say what is expected
SELECT is(pg_temp.expect('switch', '1 hour', '15 minutes'), '', 'a biller expects a source');
SELECT is(pg_temp.try(p, $$SELECT billing.expect_usage('acme', 'switch', '1 hour')$$), 'ZB003', p || ' may not expect a source')
FROM unnest('{app,rea,bob,aud,adm}'::text[]) p;
SELECT is(pg_temp.try(p, $$SELECT billing.forget_usage_source('acme', 'switch')$$), 'ZB003', p || ' may not forget a source')
FROM unnest('{app,rea,bob,aud,adm}'::text[]) p;
SELECT is(pg_temp.try(p, $$SELECT billing.record_heartbeat('acme', 'switch', now())$$), 'ZB003', p || ' may not send a heartbeat')
FROM unnest('{rea,bob,aud,adm}'::text[]) p;
SELECT is(pg_temp.try('nob', $$SELECT billing.expect_usage('acme', 'switch', '1 hour')$$), 'ZB002', 'who has no duty does not see the entity');

-- What cannot be expected
SELECT is(pg_temp.try('ada', format('SELECT billing.expect_usage(%s)', a)), e, n)
FROM (VALUES
	($$'acme', NULL, '1 hour'$$, 'ZB001', 'a source has a name'),
	($$'acme', ' ', '1 hour'$$, 'ZB001', 'which is not blank'),
	($$'acme', repeat('x', 257), '1 hour'$$, 'ZB001', 'of at most 256 bytes, as events have'),
	($$'acme', 'switch', NULL$$, 'ZB001', 'an interval must be there'),
	($$'acme', 'switch', '0'$$, 'ZB001', 'and above nothing'),
	($$'acme', 'switch', '-1 hour'$$, 'ZB001', 'never negative'),
	($$'acme', 'switch', '367 days'$$, 'ZB001', 'and at most a year'),
	($$'acme', 'switch', '1 hour', '-1 second'$$, 'ZB001', 'a grace is not negative'),
	($$'acme', 'switch', '1 hour', NULL$$, 'ZB001', 'a grace must be there'),
	($$'nowhere', 'switch', '1 hour'$$, 'ZB002', 'an entity must exist')
) AS c (a, e, n);
SELECT is(pg_temp.try('ada', $$SELECT billing.forget_usage_source('acme', 'nothing')$$), 'ZB002', 'what is not expected cannot be forgotten');

-- Heartbeats: the latest moment holds
SELECT is(pg_temp.beat('beat', '30 minutes'), '00:30:00', 'an application sends a heartbeat');
SELECT is(pg_temp.beat('beat', '20 minutes', 'ada'), '00:20:00', 'a biller sends a later one');
SELECT is(pg_temp.beat('beat', '40 minutes'), '00:20:00', 'one from before does not go back');
SELECT is(pg_temp.beat('beat', '20 minutes'), '00:20:00', 'the same again changes nothing');
SELECT is(pg_temp.beat('beat', '-4 minutes'), '-00:04:00', 'a clock may be ahead a little');
SELECT is(pg_temp.try('app', format('SELECT billing.record_heartbeat(%s)', a)), e, n)
FROM (VALUES
	($$'acme', 'beat', now() + interval '10 minutes'$$, 'ZB001', 'nobody has sent the future'),
	($$'acme', 'beat', 'infinity'$$, 'ZB001', 'nor everything for ever'),
	($$'acme', 'beat', '-infinity'$$, 'ZB001', 'nor nothing ever'),
	($$'acme', 'beat', NULL$$, 'ZB001', 'a moment must be there'),
	($$'acme', NULL, now()$$, 'ZB001', 'and a source'),
	($$'acme', repeat('x', 257), now()$$, 'ZB001', 'that an event could name')
) AS c (a, e, n);
SELECT is((SELECT count(*) FROM billing.usage_heartbeat), 1::bigint, 'one row per source is kept');

-- States; switch is expected every hour, with 15 minutes of grace
SELECT is(pg_temp.state('switch'), 'never 0', 'nothing came yet');
SELECT is(pg_temp.send('switch', '1', '80 minutes'), '1', 'the first event, an hour and 20 minutes old');
SELECT is(pg_temp.state('switch'), 'lagging 01:20:00 1', 'it came now, but is older than 75 minutes: lagging');
SELECT is(pg_temp.send('switch', '2', '74 minutes'), '1', 'one within 75 minutes');
SELECT is(pg_temp.state('switch'), 'ok 01:14:00 2', 'that is in time');
SELECT is(pg_temp.send('switch', '3', '100 minutes'), '1', 'an older one comes late');
SELECT is(pg_temp.state('switch'), 'ok 01:14:00 3', 'the latest counts');
SELECT is(pg_temp.send('switch', '4', '-2 days'), '1', 'one from the day after tomorrow');
SELECT is(pg_temp.state('switch'), 'ok 00:00:00 4', 'counts as its arrival, so that it does not hide a silence');
SELECT is(pg_temp.state('beat'), 'unexpected 00:00:00 0', 'a heartbeat that nobody expected');
SELECT is(pg_temp.send('stray', '1', '3 hours'), '1', 'an event of a source that nobody expected');
SELECT is(pg_temp.state('stray'), 'unexpected 03:00:00 1', 'it is shown');
-- The same once the roll-up has counted them, and with a tail behind it
SELECT pg_temp.roll();
SELECT is((SELECT array_agg(format('%s %s', source, events) ORDER BY source) FROM billing.usage_source_state), '{stray 1,switch 4}', 'the roll-up counts by source');
SELECT is(pg_temp.state('switch'), 'ok 00:00:00 4', 'counted, nothing changes');
SELECT is(pg_temp.send('stray', '2', '1 hour'), '1', 'one more comes');
SELECT is(pg_temp.state('stray'), 'unexpected 01:00:00 2', 'the tail is added');
SELECT pg_temp.roll();
SELECT is(pg_temp.state('stray'), 'unexpected 01:00:00 2', 'and counted once');
SELECT is((SELECT events FROM billing.usage_source_state WHERE source = 'stray'), 2::bigint, 'nothing is counted twice');
-- Silence
SELECT is(pg_temp.expect('stray', '90 minutes'), '', 'the stray source is expected from now on');
SELECT is(pg_temp.state('stray'), 'ok 01:00:00 2', 'it is in time');
SELECT is(pg_temp.expect('stray', '50 minutes'), '', 'expected more often');
SELECT is(pg_temp.state('stray'), 'lagging 01:00:00 2', 'it lags: it sent now what is an hour old');
SELECT pg_temp.age('stray', '51 minutes');
SELECT is(pg_temp.state('stray'), 'silent 01:00:00 2', 'it is silent: nothing came for 51 minutes');
SELECT is(pg_temp.beat('stray', '55 minutes'), '00:55:00', 'it says that there was nothing until 55 minutes ago');
SELECT is(pg_temp.state('stray'), 'lagging 00:55:00 2', 'so it is alive, and lags');
SELECT is(pg_temp.beat('stray', '10 minutes'), '00:10:00', 'it says that there was nothing since');
SELECT is(pg_temp.state('stray'), 'ok 00:10:00 2', 'a heartbeat is as good as usage');
-- Who sees what
SELECT is(pg_temp.told('rea', 'SELECT count(*) FROM billing.usage_completeness'), '3', 'a reader sees the sources of the entity');
SELECT is(pg_temp.told('nob', 'SELECT count(*) FROM billing.usage_completeness'), '0', 'who has no duty sees none');
SELECT is(pg_temp.send('far away', '1', '2 hours', 'far'), '1', 'another entity has sources of its own');
SELECT is((SELECT entity || ' ' || state FROM billing.usage_completeness WHERE source = 'far away'), 'far unexpected', 'they are apart');

-- Before the billing date. A day ends at midnight in Berlin.
SELECT is(pg_temp.expect('daily', '1 day'), '', 'a daily feed');
CREATE TEMP TABLE day AS SELECT (now() AT TIME ZONE 'Europe/Berlin')::date - 1 AS yesterday;
GRANT SELECT ON day TO PUBLIC;
CREATE FUNCTION pg_temp.incomplete(days_ago integer) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('rea', format('SELECT string_agg(source || '' '' || state, '', '' ORDER BY source) FROM billing.check_usage_completeness(''acme'', (SELECT yesterday FROM day) + 1 - %s)', days_ago));
$$;
SELECT is(pg_temp.incomplete(2), 'daily never', 'through the day before yesterday, only the feed that never sent is missing');
SELECT pg_temp.must('app', $$SELECT billing.record_heartbeat('acme', 'daily', yesterday::timestamp AT TIME ZONE 'Europe/Berlin' - interval '1 second') FROM day$$);
SELECT ok(pg_temp.incomplete(2) ~ '^daily ', 'a second is missing of the day before yesterday');
SELECT pg_temp.must('app', $$SELECT billing.record_heartbeat('acme', 'daily', yesterday::timestamp AT TIME ZONE 'Europe/Berlin') FROM day$$);
SELECT is(pg_temp.incomplete(2), NULL, 'at midnight the day is complete');
SELECT is((SELECT missing FROM billing.check_usage_completeness('acme', (SELECT yesterday FROM day)) WHERE source = 'daily'),
	(SELECT ((yesterday + 1)::timestamp AT TIME ZONE 'Europe/Berlin') - (yesterday::timestamp AT TIME ZONE 'Europe/Berlin') FROM day), 'of yesterday all of it is missing');
SELECT is(pg_temp.incomplete(-1), 'daily lagging, stray ok, switch ok', 'of tomorrow nobody has sent everything');
SELECT is(pg_temp.try('rea', $$SELECT count(*) FROM billing.check_usage_completeness('acme', NULL)$$), 'ZB001', 'a day must be given');
SELECT is(pg_temp.try('nob', $$SELECT count(*) FROM billing.check_usage_completeness('acme', '2026-01-01')$$), 'ZB002', 'by somebody who sees the entity');

-- One exception for every silence
SELECT is(pg_temp.watch(), 'done', 'the task runs');
SELECT is(pg_temp.silences(), NULL, 'nobody is silent');
SELECT is(pg_temp.expect('new', '1 hour'), '', 'a source that has not sent yet');
SELECT is(pg_temp.watch() || coalesce(pg_temp.silences(), ''), 'done', 'has its hour first');
SELECT pg_temp.age('new', '61 minutes'), pg_temp.expect('switch', '1 minute'), pg_temp.expect('stray', '1 minute'), pg_temp.age('stray', '1 day');
SELECT is(pg_temp.watch() || ' ' || pg_temp.silences(), 'done new: open, stray: open', 'what is silent, lags or never came is raised');
SELECT is(pg_temp.watch() || ' ' || pg_temp.silences(), 'done new: open, stray: open', 'once');
SELECT ok(detail ~ '^complete through 20.* UTC; last arrival 20.* UTC; expected every 00:01:00, with a grace of 00:00:00$', 'it says what is known: ' || detail)
FROM billing.exception WHERE kind = 'usage_source_silent' AND subject = 'stray';
SELECT is(detail, 'nothing ever came; expected every 01:00:00, with a grace of 00:00:00', 'and where nothing is')
FROM billing.exception WHERE kind = 'usage_source_silent' AND subject = 'new';
SELECT is(pg_temp.told('ada', $$SELECT billing.resolve_exception('acme', exception_id, 'known') FROM billing.open_exception WHERE kind = 'usage_source_silent' AND subject = 'stray'$$), '', 'a person closes one');
SELECT is(pg_temp.watch() || ' ' || pg_temp.silences(), 'done new: open, stray: resolved', 'the same silence is not raised again');
SELECT is(pg_temp.beat('new', '0'), '00:00:00', 'the new source sends a sign');
SELECT is(pg_temp.watch() || ' ' || pg_temp.silences(), 'done new: resolved, stray: resolved', 'its exception closes by itself');
SELECT is((SELECT resolution || ' ' || resolved_by FROM billing.exception WHERE kind = 'usage_source_silent' AND subject = 'new'), 'the source sends again 0', 'by the system, which says why');
SELECT is(pg_temp.told('ada', $$SELECT billing.forget_usage_source('acme', 'stray')$$), '', 'a source is forgotten');
SELECT is((SELECT count(*) FROM billing.usage_source WHERE source = 'stray'), 0::bigint, 'and not expected any more');
SELECT is((SELECT array_agg(action ORDER BY audit_id) FROM billing.audit_log WHERE object_type = 'usage_source' AND object_id = 'stray'),
	'{insert,update,update,update,update,update,delete}', 'all of it is audited');
SELECT is((SELECT pg_temp.broken() LIMIT 1), NULL, 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
