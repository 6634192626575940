-- Corrections of usage: events taken back, replaced and brought in from the past, each once; what they are worth, and who decides.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(162);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');

-- Account a1 pays 0.50 a call by the month, and for gigabytes 1.00 each up to 100 a month, then 0.50. Account a2 pays 1 USD a
-- call. Nobody pays for pings; what a report costs nobody knows.
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'a2', 'c1', 'USD'), billing.add_meter('acme', 'gb', 'Gigabytes'), billing.add_meter('acme', 'pings', 'Pings', 'count'),
	billing.add_meter('acme', 'reports', 'Reports'), billing.add_price_book('acme', 'list', 'List', 'EUR'),
	billing.create_contract('acme', 'k1', 'a1', '2026-01-01'), billing.create_contract('acme', 'k2', 'a2', '2026-01-01'),
	billing.add_item('acme', 'k1', 'calls', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": "0.5"}', meter => 'calls'),
	billing.add_item('acme', 'k1', 'gb', 'seat', 'usage', meter => 'gb',
		tariff => '{"model": "graduated", "tiers": [{"up_to": 100, "unit": "1"}, {"up_to": null, "unit": "0.5"}]}'),
	billing.add_item('acme', 'k1', 'reports', 'seat', 'usage', price_book => 'list', meter => 'reports'),
	billing.add_item('acme', 'k2', 'calls', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": "1"}', meter => 'calls')$$);

-- An event; null leaves a field out
CREATE FUNCTION pg_temp.event(id text, quantity numeric, at text DEFAULT '2026-07-10T10:00:00Z', type text DEFAULT 'calls', subject text DEFAULT 'a1')
RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(jsonb_build_object('id', id, 'source', '/s', 'type', type, 'subject', subject, 'time', at, 'data', jsonb_build_object('quantity', quantity)));
$$;
-- What somebody is told: state, events, already done, effect, currency; what is null is left out
CREATE FUNCTION pg_temp.void(ids text[], reason text DEFAULT 'mistake', person text DEFAULT 'ada', source text DEFAULT '/s') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT concat_ws('' '', state, events, already_done, effect, currency) FROM billing.void_usage(%L, %L, %L, %L)', 'acme', source, ids, reason));
$$;
CREATE FUNCTION pg_temp.replace(events jsonb, reason text DEFAULT 'mistake', person text DEFAULT 'ada') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT concat_ws('' '', state, events, already_done, effect, currency) FROM billing.replace_usage(%L, %L, %L)', 'acme', events, reason));
$$;
CREATE FUNCTION pg_temp.backfill(events jsonb, reason text DEFAULT 'forgotten', person text DEFAULT 'ada') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT concat_ws('' '', state, events, already_done, effect, currency) FROM billing.backfill_usage(%L, %L, %L)', 'acme', events, reason));
$$;
-- accepted/duplicate/conflicting/quarantined
CREATE FUNCTION pg_temp.ingest(events jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('app', format('SELECT concat_ws(''/'', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage(%L, %L)', 'acme', events));
$$;
-- The rows of an event in the order of their ids: weight × quantity
CREATE FUNCTION pg_temp.rows(id text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s%s', CASE weight WHEN 1 THEN '+' ELSE '-' END, quantity), ' ' ORDER BY event_id) FROM billing.usage_event WHERE event_key = id;
$$;
-- What a meter counts for an account in a month
CREATE FUNCTION pg_temp.net(meter text, month date DEFAULT '2026-07-01', account text DEFAULT 'a1') RETURNS numeric LANGUAGE sql AS $$
	SELECT coalesce(sum(e.weight * e.quantity), 0)
	FROM billing.usage_event e JOIN billing.meter m USING (entity_id, meter_id) JOIN billing.billing_account a USING (entity_id, account_id)
	WHERE m.code = meter AND a.code = account AND e.usage_date >= month AND e.usage_date < month + interval '1 month';
$$;
CREATE FUNCTION pg_temp.last() RETURNS text LANGUAGE sql AS $$ SELECT correction FROM billing.usage_corrections ORDER BY correction_id DESC LIMIT 1 $$;
-- Everything that corrections write
CREATE FUNCTION pg_temp.written() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', (SELECT count(*) FROM billing.usage_event), (SELECT count(*) FROM billing.usage_key), (SELECT count(*) FROM billing.usage_correction),
		(SELECT count(*) FROM billing.document), (SELECT count(*) FROM billing.document_step), (SELECT count(*) FROM billing.audit_log));
$$;

-- Taking back: three calls of 10, 20 and 30 in July cost 30.00
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('e1', 10), pg_temp.event('e2', 20), pg_temp.event('e3', 30))), '3/0/0/0', 'three events arrive');
SELECT is(pg_temp.void('{e1}'), 'applied 1 0 -5.00 EUR', 'one is taken back: 10 calls of 0.50 less');
SELECT is(pg_temp.rows('e1'), '+10 -10', 'by a row that negates it');
SELECT is(pg_temp.net('calls'), 50::numeric, 'which leaves the others');
SELECT is((SELECT count(*) FROM billing.usage_event v JOIN billing.usage_event e ON e.entity_id = v.entity_id AND e.event_id = v.corrects_event_id
		JOIN billing.usage_correction c ON c.entity_id = v.entity_id AND c.correction_id = v.correction_id
	WHERE v.event_key = 'e1' AND v.weight = -1 AND (v.source, v.event_key, v.event_type, v.subject, v.account_id, v.item_id, v.meter_id, v.occurred_at, v.usage_date,
		v.quantity, v.dimensions, v.sample, v.content) = (e.source, e.event_key, e.event_type, e.subject, e.account_id, e.item_id, e.meter_id, e.occurred_at, e.usage_date,
		e.quantity, e.dimensions, e.sample, e.content) AND v.data = e.data AND v.event_id > e.event_id), 1::bigint, 'is like it in everything else, and names it and the correction');
SELECT pg_temp.written() AS before \gset
SELECT is(pg_temp.void('{e1}'), 'applied 0 1 -5.00 EUR', 'the same call again finds its correction');
SELECT is(pg_temp.void('{e1}', 'another reason'), '0 1', 'with another reason there is nothing left to do');
SELECT is(pg_temp.written(), :'before', 'neither writes anything');
SELECT is(pg_temp.ingest(pg_temp.event('e1', 10)), '0/1/0/0', 'sent again it is a duplicate');
SELECT is(pg_temp.ingest(pg_temp.event('e1', 11)), '0/0/1/0', 'and with other content a conflict');
SELECT is(pg_temp.net('calls'), 50::numeric, 'it stays taken back');
SELECT is(pg_temp.void('{e2,e2,e1}'), 'applied 1 2 -10.00 EUR', 'what is named twice is taken back once, what was before not again');
SELECT is(pg_temp.void('{p1}'), 'ZB002 usage event "p1" of source "/s" does not exist', 'what never was cannot be taken back');
SELECT is(pg_temp.void('{e3}', source => '/other'), 'ZB002 usage event "e3" of source "/other" does not exist', 'nor what another source sent');
SELECT pg_temp.written() AS before \gset
SELECT is(pg_temp.void('{e3,nope}'), 'ZB002 usage event "nope" of source "/s" does not exist', 'all or nothing');
SELECT is(pg_temp.written(), :'before', 'leaves nothing');

-- Replacing: 10 calls on 11 July were 12, then 15
SELECT is(pg_temp.ingest(pg_temp.event('r1', 10, '2026-07-11T10:00:00Z')), '1/0/0/0', 'an event arrives');
SELECT is(pg_temp.ingest(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z')), '0/0/1/0', 'and comes again with other content');
SELECT is(pg_temp.replace(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z')), 'applied 1 0 1.00 EUR', 'it is replaced by that: 2 calls more');
SELECT is(pg_temp.rows('r1'), '+10 -10 +12', 'as new rows');
SELECT is((SELECT string_agg(format('%s:%s:%s', kind, state, resolution), ' ') FROM billing.exception WHERE payload -> 'sent' ->> 'id' = 'r1'),
	'usage_conflict:resolved:a correction put it in place of the other', 'the conflict is resolved');
SELECT is((SELECT e.corrects_event_id FROM billing.usage_event e WHERE e.event_key = 'r1' AND quantity = 12),
	(SELECT e.event_id FROM billing.usage_event e WHERE e.event_key = 'r1' AND quantity = 10 AND weight = 1), 'the new one says which one it replaces');
SELECT is(pg_temp.ingest(pg_temp.event('r1', 10, '2026-07-11T10:00:00Z')), '0/1/0/0', 'the old content is a duplicate');
SELECT is(pg_temp.ingest(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z')), '0/1/0/0', 'the new content is a duplicate');
SELECT is(pg_temp.ingest(pg_temp.event('r1', 13, '2026-07-11T10:00:00Z')), '0/0/1/0', 'a third is a conflict');
SELECT is(pg_temp.replace(pg_temp.event('r1', 15, '2026-07-11T10:00:00Z')), 'applied 1 0 1.50 EUR', 'it is replaced again: 3 calls more');
SELECT is(pg_temp.rows('r1'), '+10 -10 +12 -12 +15', 'the first stays taken back');
SELECT pg_temp.written() AS before \gset
SELECT is(pg_temp.replace(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z')), 'applied 0 1 1.00 EUR', 'the first call again finds its correction');
SELECT is(pg_temp.replace(pg_temp.event('r1', 15, '2026-07-11T10:00:00Z')), 'applied 0 1 1.50 EUR', 'and so does the second');
SELECT is(pg_temp.replace(pg_temp.event('r1', 15, '2026-07-11T10:00:00Z'), 'sure'), '0 1', 'what stands there needs no replacement');
SELECT is(pg_temp.written(), :'before', 'none of them writes anything');
SELECT is(pg_temp.ingest(jsonb_build_array(pg_temp.event('r1', 10, '2026-07-11T10:00:00Z'), pg_temp.event('r1', 12, '2026-07-11T10:00:00Z'), pg_temp.event('r1', 15, '2026-07-11T10:00:00Z'))),
	'0/3/0/0', 'all that it ever was is known');
SELECT is(pg_temp.replace(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z'), 'it was 12 after all'), 'applied 1 0 -1.50 EUR', 'another reason leads back: 3 calls less');
SELECT is(pg_temp.rows('r1'), '+10 -10 +12 -12 +15 -15 +12', 'by rows of its own');
SELECT is(pg_temp.void('{r1}'), 'applied 1 0 -6.00 EUR', 'what stands is taken back: 12 calls');
SELECT is(pg_temp.rows('r1'), '+10 -10 +12 -12 +15 -15 +12 -12', 'and nothing else');
SELECT is(pg_temp.ingest(pg_temp.event('r1', 15, '2026-07-11T10:00:00Z')), '0/1/0/0', 'it does not come back by itself');
SELECT is(pg_temp.replace(pg_temp.event('r1', 7, '2026-07-11T10:00:00Z')), 'applied 1 0 3.50 EUR', 'but a person can bring it back, as it should have been');
SELECT is(pg_temp.net('calls'), 37::numeric, 'e3 and r1 are left: 30 and 7');

-- A replacement may have another day, account and meter: 10 calls of July become 8 gigabytes of August
SELECT pg_temp.ingest(pg_temp.event('r2', 10));
SELECT is(pg_temp.replace(pg_temp.event('r2', 8, '2026-08-02T10:00:00Z', 'gb')), 'applied 1 0 3.00 EUR', 'the effect is over both: 8.00 less 5.00');
SELECT is(format('%s %s', pg_temp.net('calls'), pg_temp.net('gb', '2026-08-01')), '37 8', 'each counts where it belongs');

-- What cannot be taken in is refused as a whole
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('w1', 1), pg_temp.event('w2', 1)));
SELECT pg_temp.written() AS before \gset
SELECT is(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w2', 2, subject => 'a9'))),
	'ZB001 event "w2" of source "/s" cannot be taken in: no account, item or alias is called "a9"', 'an unknown subject');
SELECT is(left(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w2', 2, type => 'x'))), 100),
	'ZB001 event "w2" of source "/s" cannot be taken in: no meter has the code "x"', 'an unknown type');
SELECT is(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w2', 2, null))),
	'ZB001 event "w2" of source "/s" cannot be taken in: time is missing', 'a missing field');
SELECT is(pg_temp.replace('[{}]'), 'ZB001 event number 1 cannot be taken in: id is missing', 'a missing name');
SELECT is(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w2', null))),
	'ZB001 event "w2" of source "/s" cannot be taken in: data.quantity is missing', 'data that does not fit the meter');
SELECT is(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w1', 3))),
	'ZB001 event "w1" of source "/s" cannot be taken in: the call has another event with its source and id', 'a call that contradicts itself');
SELECT is(pg_temp.replace(jsonb_build_array(pg_temp.event('w1', 2), pg_temp.event('w9', 2))),
	'ZB002 usage event "w9" of source "/s" does not exist', 'what was never accepted');
SELECT is(pg_temp.backfill(jsonb_build_array(pg_temp.event('b0', 2), pg_temp.event('w1', 2))),
	'ZB013 event "w1" of source "/s" is stored with other content', 'what is there in another form');
SELECT is(pg_temp.try('ada', s), 'ZB001', s) FROM unnest(ARRAY[
	$$SELECT billing.void_usage('acme', '/s', '{}', 'r')$$, $$SELECT billing.void_usage('acme', '/s', NULL, 'r')$$, $$SELECT billing.void_usage('acme', '/s', '{e3,NULL}', 'r')$$,
	$$SELECT billing.void_usage('acme', NULL, '{e3}', 'r')$$, $$SELECT billing.void_usage('acme', '/s', '{e3}', '')$$, $$SELECT billing.void_usage('acme', '/s', '{e3}', NULL)$$,
	$$SELECT billing.void_usage('acme', '/s', ARRAY(SELECT i::text FROM generate_series(1, 10001) i), 'r')$$,
	$$SELECT billing.replace_usage('acme', NULL, 'r')$$, $$SELECT billing.replace_usage('acme', '[]', 'r')$$, $$SELECT billing.replace_usage('acme', '1', 'r')$$,
	$$SELECT billing.backfill_usage('acme', '[]', 'r')$$, $$SELECT billing.backfill_usage('acme', (SELECT jsonb_agg(i) FROM generate_series(1, 10001) i), 'r')$$,
	$$SELECT billing.approve_usage_correction('acme', NULL)$$, $$SELECT billing.approve_usage_correction('acme', '')$$]) s
WHERE s !~ 'approve';
SELECT is(pg_temp.written(), :'before', 'nothing of it is left');

-- Bringing in what was forgotten: 4 and 6 calls of March
SELECT is(pg_temp.backfill(jsonb_build_array(pg_temp.event('b1', 4, '2026-03-05T10:00:00Z'), pg_temp.event('b2', 6, '2026-03-06T10:00:00Z'))), 'applied 2 0 5.00 EUR', 'events of the past');
SELECT is((SELECT count(*) FROM billing.usage_event e JOIN billing.usage_correction c USING (entity_id, correction_id) WHERE e.event_key IN ('b1', 'b2') AND c.kind = 'backfill'
	AND e.weight = 1 AND e.corrects_event_id IS NULL), 2::bigint, 'are events like others that name their correction');
SELECT is(pg_temp.ingest(pg_temp.event('b1', 4, '2026-03-05T10:00:00Z')), '0/1/0/0', 'their source may send them yet');
SELECT pg_temp.written() AS before \gset
SELECT is(pg_temp.backfill(jsonb_build_array(pg_temp.event('b1', 4, '2026-03-05T10:00:00Z'), pg_temp.event('b2', 6, '2026-03-06T10:00:00Z'))), 'applied 0 2 5.00 EUR', 'the same call again');
SELECT is(pg_temp.backfill(pg_temp.event('r1', 12, '2026-07-11T10:00:00Z')), '0 1', 'what an event was replaced by is there');
SELECT is(pg_temp.written(), :'before', 'neither writes anything');
SELECT is(pg_temp.backfill(jsonb_build_array(pg_temp.event('b2', 6, '2026-03-06T10:00:00Z'), pg_temp.event('b3', 1, '2026-03-06T10:00:00Z'))), 'applied 1 1 0.50 EUR', 'what is there is not brought in again');
SELECT is(pg_temp.ingest(pg_temp.event('b4', 2, subject => 'a3')), '0/0/0/1', 'an event waits for its account');
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'a3', 'c1', 'EUR')$$);
SELECT is(pg_temp.backfill(pg_temp.event('b4', 2, subject => 'a3')), 'applied 1 0 0 EUR', 'it may be brought in; without a contract it is worth nothing');
SELECT is((SELECT string_agg(format('%s:%s', kind, state), ' ') FROM billing.exception WHERE payload ->> 'id' = 'b4'), 'usage_unknown_subject:resolved', 'and waits no more');
SELECT is(pg_temp.void('{b1}', 'was wrong'), 'applied 1 0 -2.00 EUR', 'what was brought in can be taken back');

-- Tiers: 80 and 40 gigabytes of June cost 100 + 10; 40 alone 40
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('g1', 80, '2026-06-10T10:00:00Z', 'gb'), pg_temp.event('g2', 40, '2026-06-20T10:00:00Z', 'gb')));
SELECT is(pg_temp.void('{g1}'), 'applied 1 0 -70.00 EUR', 'the effect is the difference of two ratings');
-- the last moment of June in Berlin, and the first of July
SELECT pg_temp.ingest(pg_temp.event('g3', 10, '2026-06-30T21:59:59Z', 'gb'));
SELECT is(pg_temp.replace(pg_temp.event('g3', 10, '2026-06-30T22:00:00Z', 'gb')), 'applied 1 0 0.00 EUR', 'moved over the end of a period: 10.00 less in June, 10.00 more in July');
SELECT is(format('%s %s', pg_temp.net('gb', '2026-06-01'), pg_temp.net('gb')), '40 10', 'to another day');

-- A month that is closed changes no more
SELECT billing.grant_duty('acme', 'ada', 'accountant');
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('c1', 3, '2026-02-10T10:00:00Z'), pg_temp.event('c2', 4, '2026-03-10T10:00:00Z')));
SELECT pg_temp.must('ada', $$SELECT billing.close_usage('acme', '2026-02-01')$$);
SELECT is(pg_temp.void('{c1}'), 'ZB013 event "c1" of source "/s" lies in a month that is closed', 'nothing of it is taken back');
SELECT is(pg_temp.replace(pg_temp.event('c1', 3, '2026-03-10T10:00:00Z')), 'ZB013 event "c1" of source "/s" lies in a month that is closed', 'nothing moved out of it');
SELECT is(pg_temp.replace(pg_temp.event('c2', 4, '2026-02-10T10:00:00Z')), 'ZB013 event "c2" of source "/s" lies in a month that is closed', 'nothing moved into it');
SELECT is(pg_temp.backfill(pg_temp.event('c3', 4, '2026-02-10T10:00:00Z')), 'ZB013 event "c3" of source "/s" lies in a month that is closed', 'nothing brought in');
SELECT is(pg_temp.backfill(pg_temp.event('c1', 3, '2026-02-10T10:00:00Z')), '0 1', 'though what is there is there');
SELECT pg_temp.must('ada', $$SELECT billing.reopen_usage('acme', '2026-02-01', 'a mistake')$$);
SELECT is(pg_temp.void('{c1}'), 'applied 1 0 -1.50 EUR', 'until it is opened again');

-- What the entity holds as late, a person may bring in
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', late_after_days => 5, late_action => 'hold')$$);
SELECT is(pg_temp.ingest(pg_temp.event('t1', 8, '2026-01-10T10:00:00Z')), '0/0/0/1', 'a late event is held');
SELECT is(pg_temp.backfill(pg_temp.event('t1', 8, '2026-01-10T10:00:00Z')), 'applied 1 0 4.00 EUR', 'it is brought in');
SELECT is((SELECT string_agg(format('%s:%s', kind, state), ' ') FROM billing.exception WHERE payload ->> 'id' = 't1'), 'usage_late:resolved', 'and waits no more');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme')$$);

-- Group keys: a gigabyte on disk costs 2.00 in the eu and 1.00 elsewhere. Levels: 1.00 for each unit and day, in January and
-- February; a level of 2 from 31 January on is 2 unit-days of January and 56 of February. Calls that name their item
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'disk', 'Disk', group_by => '{region}'), billing.add_meter('acme', 'seats', 'Seats', 'time_weighted', time_unit => 86400),
	billing.add_item('acme', 'k1', 'disk', 'seat', 'usage', meter => 'disk',
		tariff => '{"model": "matrix", "dimensions": ["region"], "cells": [{"match": {"region": "eu"}, "tariff": {"model": "per_unit", "unit": 2}}], "default": {"model": "per_unit", "unit": 1}}'),
	billing.create_contract('acme', 'k3', 'a3', '2026-01-01', '2026-03-01'),
	billing.add_item('acme', 'k3', 'seats', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": 1}', meter => 'seats'),
	billing.add_item('acme', 'k1', 'line', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": 3}', meter => 'calls', own_usage => true)$$);
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('x1', 10, type => 'disk') || '{"data": {"quantity": 10, "region": "eu"}}',
	pg_temp.event('x2', 10, type => 'disk') || '{"data": {"quantity": 10, "region": "us"}}', pg_temp.event('y1', 2, '2026-01-30T23:00:00Z', 'seats', 'a3'),
	pg_temp.event('z1', 2, subject => 'k1/line')));
SELECT is(pg_temp.replace(pg_temp.event('x1', 10, type => 'disk') || '{"data": {"quantity": 10, "region": "us"}}'), 'applied 1 0 -10.00 EUR', '10 gigabytes of the eu were of the us');
SELECT is(pg_temp.void('{y1}'), 'applied 1 0 -58.00 EUR', 'a level is worth something in the periods after it, too');
SELECT is(pg_temp.void('{z1}'), 'applied 1 0 -6.00 EUR', 'the usage of an item has the price of that item');

-- Duties
SELECT is(pg_temp.void('{e3}', person => p), format('ZB003 person "%s" does not hold the duty biller in entity "acme"', p), p || ' may not take back') FROM unnest('{bob,adm,rea,aud,app}'::text[]) p;
SELECT is(left(pg_temp.replace(pg_temp.event('e3', 1), person => 'bob'), 5), 'ZB003', 'nor replace');
SELECT is(left(pg_temp.backfill(pg_temp.event('b9', 1), person => 'app'), 5), 'ZB003', 'nor bring in');
SELECT is(left(pg_temp.void('{e3}', person => 'nob'), 5), 'ZB002', 'to a stranger there is no such entity');

-- A second person: up to 10.00 nobody is asked
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', correction_limit => 10)$$);
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('l1', 20), pg_temp.event('l2', 21), pg_temp.event('l3', 22), pg_temp.event('l4', 2100), pg_temp.event('l5', 5, type => 'pings'),
	pg_temp.event('l6', 3, type => 'reports'), pg_temp.event('l7', 3, subject => 'a2')));
SELECT is(pg_temp.void('{l1}'), 'applied 1 0 -10.00 EUR', '10.00 is within the limit');
SELECT is(pg_temp.void('{l5}'), 'applied 1 0 0 EUR', 'what nobody pays for too');
SELECT pg_temp.rows('l2') AS rows, (SELECT count(*) FROM billing.usage_key) AS keys \gset
SELECT is(pg_temp.void('{l2}'), 'pending_approval 1 0 -10.50 EUR', '10.50 is not');
SELECT is((SELECT concat_ws(' ', pg_temp.rows('l2'), count(*)) FROM billing.usage_key), :'rows' || ' ' || :keys, 'no event is changed yet');
SELECT is(pg_temp.void('{l2}'), 'pending_approval 0 1 -10.50 EUR', 'the same call again finds what waits');
SELECT pg_temp.last() AS l2 \gset
SELECT is((SELECT concat_ws(' ', kind, state, reason, events, effect, currency, maker, approver) FROM billing.usage_corrections WHERE correction = :'l2'),
	'void pending_approval mistake 1 -10.50 EUR ada', 'it is listed');
SELECT is(pg_temp.told('ada', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', :'l2')), 'ZB003 person "ada" does not hold the duty approver in entity "acme"', 'a biller cannot approve it');
SELECT is(pg_temp.told('bob', $$SELECT billing.approve_usage_correction('acme', 'U0')$$), 'ZB002 correction "U0" does not exist', 'what is not there cannot be approved');
SELECT is(pg_temp.told('bob', $$SELECT billing.approve_usage_correction('acme', 'U')$$), 'ZB002 correction "U" does not exist', 'nor what has no number');
SELECT is(pg_temp.told('lim', format('SELECT billing.approve_usage_correction(%L, %L, %L)', 'acme', :'l2', 'agreed')), '', 'an approver can');
SELECT is(pg_temp.rows('l2'), '+21 -21', 'then it is carried out');
SELECT is((SELECT concat_ws(' ', state, effect, maker, approver, decision) FROM billing.usage_corrections WHERE correction = :'l2'), 'applied -10.50 ada lim agreed', 'and says by whom');
SELECT is(left(pg_temp.told('lim', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', :'l2')), 5), 'ZB007', 'once');
SELECT is(left(pg_temp.told('lim', format('SELECT billing.reject_usage_correction(%L, %L, %L)', 'acme', :'l2', 'no')), 5), 'ZB007', 'and not taken back');
SELECT is((SELECT string_agg(action, ' ' ORDER BY audit_id) FROM billing.audit_log WHERE object_type = 'usage_correction' AND object_id = substr(:'l2', 2)), 'submit approve', 'the audit log has both steps');

SELECT is(pg_temp.void('{l3}'), 'pending_approval 1 0 -11.00 EUR', 'another one');
SELECT pg_temp.last() AS l3 \gset
SELECT is(pg_temp.try('bob', format('SELECT billing.reject_usage_correction(%L, %L, %L)', 'acme', :'l3', '')), 'ZB001', 'to reject needs a reason');
SELECT is(pg_temp.told('bob', format('SELECT billing.reject_usage_correction(%L, %L, %L)', 'acme', :'l3', 'it was right')), '', 'it is rejected');
SELECT is(pg_temp.rows('l3'), '+22', 'and nothing is changed');
SELECT is(pg_temp.void('{l3}'), 'pending_approval 1 0 -11.00 EUR', 'after that it may be asked for again');
SELECT pg_temp.last() AS l3 \gset
SELECT is(pg_temp.replace(pg_temp.event('l3', 43)), 'pending_approval 1 0 10.50 EUR', 'what is asked for beside it');
SELECT pg_temp.last() AS l3b \gset
SELECT is(pg_temp.replace(pg_temp.event('l3', 22.5)), 'applied 1 0 0.25 EUR', 'a small one comes first');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', x)),
	'ZB013 the events were corrected or brought in otherwise since this was asked for', 'both are about an event that is not there any more')
FROM unnest(ARRAY[:'l3', :'l3b']) x;
SELECT is((SELECT string_agg(state, ' ') FROM billing.usage_corrections WHERE correction IN (:'l3', :'l3b')), 'pending_approval pending_approval', 'and wait on');
SELECT is(pg_temp.rows('l3'), '+22 -22 +22.5', 'nothing of them is done');
SELECT is(pg_temp.told('bob', format('SELECT billing.reject_usage_correction(%L, %L, %L)', 'acme', x, 'outdated')), '', 'until they are rejected') FROM unnest(ARRAY[:'l3', :'l3b']) x;

-- The approver's limit is 1000
SELECT is(pg_temp.void('{l4}'), 'pending_approval 1 0 -1050.00 EUR', 'more than the approver may decide');
SELECT pg_temp.last() AS l4 \gset
SELECT is(pg_temp.told('lim', format('SELECT billing.%s_usage_correction(%L, %L, %L)', a, 'acme', :'l4', 'x')), format('ZB004 person "lim" cannot %s a document beyond their limit', a), 'lim cannot ' || a)
FROM unnest('{approve,reject}'::text[]) a;
SELECT is(pg_temp.rows('l4'), '+2100', 'what was carried out for it is undone');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', :'l4')), '', 'who has no limit can');
SELECT is(pg_temp.rows('l4'), '+2100 -2100', 'and it is done');

-- It is worth what it is worth when it is approved: 70 gigabytes of May beside 30 are worth 70.00, beside 130 only 35.00
SELECT pg_temp.ingest(jsonb_build_array(pg_temp.event('m1', 70, '2026-05-10T10:00:00Z', 'gb'), pg_temp.event('m2', 30, '2026-05-10T10:00:00Z', 'gb')));
SELECT is(pg_temp.void('{m1}'), 'pending_approval 1 0 -70.00 EUR', 'asked for');
SELECT pg_temp.last() AS m1 \gset
SELECT pg_temp.ingest(pg_temp.event('m3', 100, '2026-05-10T10:00:00Z', 'gb'));
SELECT is(pg_temp.told('lim', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', :'m1')), '', 'approved when more has arrived');
SELECT is((SELECT concat_ws(' ', c.effect, d.amount) FROM billing.usage_correction c JOIN billing.document d ON d.entity_id = c.entity_id AND d.document_id = c.correction_id WHERE c.reference = :'m1'),
	'-35.00 -35.00', 'the effect follows');

-- What is waiting when its events come in by themselves
SELECT is(pg_temp.backfill(jsonb_build_array(pg_temp.event('n1', 30), pg_temp.event('n2', 30))), 'pending_approval 2 0 30.00 EUR', 'a backfill waits');
SELECT pg_temp.last() AS n \gset
SELECT is(pg_temp.ingest(pg_temp.event('n1', 30)), '1/0/0/0', 'meanwhile the source sends an event of it');
SELECT is(left(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', :'n')), 5), 'ZB013', 'it is not what was asked for any more');
SELECT is(pg_temp.told('bob', format('SELECT billing.reject_usage_correction(%L, %L, %L)', 'acme', :'n', 'outdated')), '', 'it is rejected');
SELECT is(pg_temp.backfill(pg_temp.event('n2', 30)), 'pending_approval 1 0 15.00 EUR', 'and asked for anew');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', pg_temp.last())), '', 'approved');
SELECT is(pg_temp.rows('n2'), '+30', 'and brought in');

-- What is not known, and other currencies
SELECT is(pg_temp.void('{l6}'), 'pending_approval 1 0 0 EUR', 'what has no price is worth nobody knows what');
SELECT is((SELECT unrated FROM billing.usage_corrections WHERE correction = pg_temp.last()), 1, 'and says so');
SELECT is(pg_temp.void('{e3,l7}'), 'ZB013 the events belong to accounts of different currencies', 'one correction has one currency');
SELECT is(pg_temp.void('{l7}'), 'pending_approval 1 0 -3.00 USD', 'the limit is in the entity''s currency: others wait');
SELECT is(left(pg_temp.told('lim', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', pg_temp.last())), 5), 'ZB004', 'and need an approver without a limit');
SELECT is(pg_temp.told('bob', format('SELECT billing.approve_usage_correction(%L, %L)', 'acme', pg_temp.last())), '', 'who can');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme')$$);
SELECT is(pg_temp.void('{l6}', 'again'), 'applied 1 0 0 EUR', 'without a limit nothing waits');

-- The maker is a person: ada made one, and is an approver from now on
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', correction_limit => 0)$$);
SELECT is(pg_temp.void('{e3}'), 'pending_approval 1 0 -15.00 EUR', 'a limit of 0 is a limit');
SELECT billing.revoke_duty('acme', 'ada', d) FROM unnest('{biller,price_manager,contract_manager}'::text[]) d;
SELECT billing.grant_duty('acme', 'ada', 'approver');
SELECT is(pg_temp.told('ada', format('SELECT billing.%s_usage_correction(%L, %L, %L)', a, 'acme', pg_temp.last(), 'x')), format('ZB004 person "ada" cannot %s a document of their own making', a), 'nobody may ' || a || ' their own')
FROM unnest('{approve,reject}'::text[]) a;
SELECT is(pg_temp.rows('e3'), '+30', 'nothing is done');

-- Who sees them
SELECT isnt(pg_temp.told('rea', 'SELECT count(*) FROM billing.usage_corrections'), '0', 'a reader sees the corrections');
SELECT is(pg_temp.told('nob', 'SELECT count(*) FROM billing.usage_corrections'), '0', 'a stranger sees none');
SELECT is(pg_temp.try('ada', 'UPDATE billing.usage_correction SET reason = ''x'''), '42501', 'nobody writes them');
SELECT is(pg_temp.try('bob', 'SELECT billing_internal.usage_void_key(''/s'', ''e1'', 1)'), '42501', 'or makes their keys');
SELECT is_empty('SELECT pg_temp.broken()', 'and the books are in order');

-- verify() finds what is not so
CREATE FUNCTION pg_temp.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE change;
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(substring(b FROM '^[^:]*: [0-9]+'), '; ' ORDER BY b) INTO answer FROM pg_temp.broken() b;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing found');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT is(pg_temp.tampered(change), found, left(change, 100))
FROM (VALUES
	($$UPDATE billing.usage_event SET quantity = 1 WHERE event_key = 'e1' AND weight = -1$$, 'what takes an event back is like it in all but the sign: 1'),
	($$UPDATE billing.usage_event SET sample = 'x' WHERE event_key = 'e1' AND weight = -1$$, 'what takes an event back is like it in all but the sign: 1'),
	($$DELETE FROM billing.usage_key WHERE key = billing_internal.usage_void_key('/s', 'e1', (SELECT event_id FROM billing.usage_event WHERE event_key = 'e1' AND weight = 1))$$,
		'the key of what was taken back names what stands in its place: 1'),
	($$UPDATE billing.usage_event SET correction_id = 0 WHERE event_key = 'e1' AND weight = -1$$,
		'a correction put something in place of every row that it names: 1; what a correction wrote belongs to one that was carried out: 1'),
	($$UPDATE billing.usage_correction SET effect = 1 WHERE payload ->> 'ids' = '["e1"]'$$, 'a correction is worth what its document says: 1'),
	($$INSERT INTO billing.usage_event (entity_id, source, event_key, event_type, subject, account_id, item_id, meter_id, occurred_at, usage_date, weight, quantity, dimensions,
		sample, data, content, corrects_event_id, correction_id) SELECT entity_id, source, event_key, event_type, subject, account_id, item_id, meter_id, occurred_at, usage_date,
		weight, quantity, dimensions, sample, data, content, corrects_event_id, correction_id FROM billing.usage_event WHERE event_key = 'e1' AND weight = -1$$,
		'no event is taken back twice: 1; the key of what was taken back names what stands in its place: 1')
) AS c (change, found);

SELECT * FROM finish();
ROLLBACK;
