-- Roll-ups: whatever is rolled up and whatever is not yet, readers see the same usage; and verify() finds what was tampered with.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(71);

SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin'), billing.create_entity('other', 'Other', 'EUR', 'UTC');
SELECT pg_temp.hire_all();
SELECT pg_temp.staff('acme'), pg_temp.staff('other');
SELECT pg_temp.must('ada', format('SELECT billing.add_customer(%L, ''c'', ''Customer''), billing.add_account(%1$L, ''a1'', ''c'', ''EUR''), billing.add_account(%1$L, ''a2'', ''c'', ''EUR'')', e))
FROM unnest('{acme,other}'::text[]) e;
SELECT pg_temp.must('ada', format('SELECT billing.add_meter(%L, %L, %2$L, %L, ''n'')', e, m, a))
FROM unnest('{acme,other}'::text[]) e, (VALUES ('sum', 'sum'), ('cnt', 'count'), ('max', 'max'), ('min', 'min'), ('lat', 'latest'), ('uni', 'unique_count')) AS v (m, a);
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'twt', 'twt', 'time_weighted', 'n', time_unit => 3600)$$);
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'per', 'per', 'percentile', 'n', percentile => 50)$$);
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'grp', 'grp', 'sum', 'n', filter => '$.ok == true', group_by => '{region}')$$);
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset
SELECT entity_id AS other FROM billing.legal_entity WHERE code = 'other' \gset
SELECT account_id AS a1 FROM billing.billing_account WHERE entity_id = :acme AND code = 'a1' \gset

-- Send events: {meter, id, local time, n}
CREATE FUNCTION pg_temp.send(VARIADIC events text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	sent jsonb;
BEGIN
	SELECT jsonb_agg(jsonb_build_object('source', '/s', 'type', f[1], 'id', f[2], 'subject', 'a1',
		'time', to_char(f[3]::timestamp AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
		'data', CASE WHEN f[4] LIKE '{%' THEN f[4]::jsonb ELSE jsonb_build_object('n', f[4]) END) ORDER BY o)
	INTO sent
	FROM unnest(events) WITH ORDINALITY AS e (e, o), regexp_split_to_array(e, '\s*[|]\s*') f;
	RETURN pg_temp.must('app', format('SELECT accepted FROM billing.ingest_usage(''acme'', %L)', sent));
END $$;
CREATE FUNCTION pg_temp.void(VARIADIC ids text[]) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT events FROM billing.void_usage(''acme'', ''/s'', %L, ''wrong'')', ids));
$$;
-- Rolls up everything that is there, also what this transaction wrote
CREATE FUNCTION pg_temp.roll_up() RETURNS void LANGUAGE sql AS 'SELECT billing_internal.restored_usage()';
-- What the meters measure from a day to the day before another
CREATE FUNCTION pg_temp.measured(from_day date DEFAULT '2026-03-10', to_day date DEFAULT '2026-03-12', of_account text DEFAULT 'a1') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s/%s', m.code, trim_scale((v.u).quantity), (v.u).events), ', ' ORDER BY m.code)
	FROM billing.legal_entity l
	JOIN billing.billing_account a USING (entity_id)
	JOIN billing.meter m USING (entity_id)
	CROSS JOIN LATERAL (
		SELECT billing_internal.measure(c.days, c.sample, c.recomputed, m.aggregation, from_day, to_day, l.time_zone, m.percentile,
			m.time_unit, m.quantity_scale, m.quantity_rounding) AS u
		FROM billing_internal.usage_cells(l.entity_id, ARRAY[a.account_id]) c WHERE c.meter_id = m.meter_id) v
	WHERE l.code = 'acme' AND a.code = of_account AND m.code <> 'grp';
$$;
CREATE FUNCTION pg_temp.cells(of_meter text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws(' ', to_char(r.month, 'MM'), nullif(r.dimensions, ''), nullif(r.sample, ''), d.days), '; ' ORDER BY r.month, r.dimensions, r.sample)
	FROM billing.usage_rollup r JOIN billing.meter m USING (entity_id, meter_id)
	CROSS JOIN LATERAL (SELECT string_agg(format('%s:%s/%s', to_char(x.day, 'DD'), trim_scale(x.quantity), x.events), ' ' ORDER BY x.day) AS days
		FROM billing_internal.usage_days_rows(r.days) x) d
	WHERE m.code = of_meter AND d.days IS NOT NULL;
$$;
CREATE FUNCTION pg_temp.tail() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM billing.usage_event e LEFT JOIN billing.usage_watermark w USING (entity_id) WHERE e.event_id > coalesce(w.after_event_id, 0);
$$;
CREATE FUNCTION pg_temp.found() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s: %s, %s', invariant, violations, regexp_replace(example, '^.*: ', '')), '; ')
	FROM billing_internal.verify_usage(NULL) WHERE violations <> 0;
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Every kind of meter, at every stage: nothing rolled up, some, all

SELECT is(pg_temp.measured(), 'cnt 0/0, lat 0/0, max 0/0, min 0/0, per 0/0, sum 0/0, twt 0/0, uni 0/0', 'no usage, no watermark');
SELECT is(pg_temp.send(
	'sum|s1|2026-03-10 09:00|10', 'sum|s2|2026-03-10 10:00|20', 'sum|s3|2026-03-11 11:00|5',
	'cnt|c1|2026-03-10 09:00|1', 'cnt|c2|2026-03-10 09:00|1', 'cnt|c3|2026-03-11 09:00|1',
	'max|x1|2026-03-10 09:00|4', 'max|x2|2026-03-10 09:00|9', 'max|x3|2026-03-11 09:00|7.0',
	'min|m1|2026-03-10 09:00|4', 'min|m2|2026-03-10 09:00|9', 'min|m3|2026-03-11 09:00|7',
	'lat|l1|2026-03-10 10:00|5', 'lat|l2|2026-03-10 12:00|8',
	'uni|u1|2026-03-10 10:00|ann', 'uni|u2|2026-03-10 11:00|bob', 'uni|u3|2026-03-11 12:00|ann',
	'twt|t1|2026-03-10 00:00|2', 'twt|t2|2026-03-11 12:00|4',
	'per|p1|2026-03-10 00:00|1', 'per|p2|2026-03-10 00:00|2', 'per|p3|2026-03-10 00:00|3', 'per|p4|2026-03-11 00:00|4', 'per|p5|2026-03-11 00:00|10'),
	'24', 'events arrive');
-- 2 for 36 hours and 4 for 12; of five the third
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 8/2, max 9/3, min 4/3, per 3/5, sum 35/3, twt 120/2, uni 2/3', 'without a watermark everything is tail');
SELECT is(pg_temp.must('app', $$SELECT billing.roll_up_usage('acme')$$), '0', 'what this transaction wrote is not rolled up: it may yet be taken back');
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 8/2, max 9/3, min 4/3, per 3/5, sum 35/3, twt 120/2, uni 2/3', 'with a watermark at nothing the same');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.tail(), 0::bigint, 'all is rolled up');
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 8/2, max 9/3, min 4/3, per 3/5, sum 35/3, twt 120/2, uni 2/3', 'from the roll-ups the same');
SELECT is(pg_temp.cells('sum'), '03 10:30/2 11:5/1', 'the cell of a sum');
SELECT is(pg_temp.cells('cnt'), '03 10:2/2 11:1/1', 'of a count');
SELECT is(pg_temp.cells('max'), '03 4 10:0/1; 03 7 11:0/1; 03 9 10:0/1', 'of a maximum: the values, counted');
SELECT is(pg_temp.cells('uni'), '03 "ann" 10:0/1 11:0/1; 03 "bob" 10:0/1', 'of a unique count: what is counted once');
-- 2 × 86400; 4 × 43200
SELECT is(pg_temp.cells('twt'), '03 10:172800/1 11:172800/1', 'of a level: the area to the end of the day');
SELECT is(pg_temp.must('app', $$SELECT billing.roll_up_usage('acme')$$), '0', 'there is nothing more to roll up');

-- A dump brings the plans of another cluster, whose transactions mean nothing here
SET ROLE billing_owner;
UPDATE billing.usage_watermark SET next_before = '9000000000000000000', next_event_id = 9000000000000000000;
RESET ROLE;
SELECT pg_temp.roll_up();
SELECT is_empty('SELECT * FROM billing.usage_watermark WHERE next_before IS NOT NULL OR after_event_id > (SELECT last_value FROM billing.usage_event_event_id_seq)', 'after a restore nothing is planned');

-- More arrives, some of it late
SELECT pg_temp.send('sum|s4|2026-03-11 23:59:59|7', 'cnt|c4|2026-03-11 12:00|1', 'max|x4|2026-03-11 00:00|12', 'min|m4|2026-03-10 00:00|1',
	'lat|l3|2026-03-10 11:00|6', 'lat|l4|2026-03-11 09:00|3', 'uni|u4|2026-03-11 12:00|carl', 'twt|t3|2026-03-11 18:00|6',
	'per|p6|2026-03-11 00:00|20', 'per|p7|2026-03-11 00:00|30');
-- 72 + 6 × 4 + 6 × 6; of seven the fourth
SELECT is(pg_temp.measured(), 'cnt 4/4, lat 3/4, max 12/4, min 1/4, per 4/7, sum 42/4, twt 132/3, uni 3/4', 'roll-ups and a tail');
SELECT is(pg_temp.measured('2026-03-11'), 'cnt 2/2, lat 3/1, max 12/2, min 7/1, per 10/4, sum 12/2, twt 84/2, uni 2/2', 'the second day alone: 2 for 12 hours, 4 for 6, 6 for 6');
-- The same through the accounts' index: so many ids lie behind the watermark
SAVEPOINT long;
SELECT setval('billing.usage_event_event_id_seq', last_value + 100000) FROM billing.usage_event_event_id_seq;
SELECT is(pg_temp.measured(), 'cnt 4/4, lat 3/4, max 12/4, min 1/4, per 4/7, sum 42/4, twt 132/3, uni 3/4', 'a long tail is found the other way');
ROLLBACK TO long;

-- What is taken back: events that were rolled up, and events of the tail
SELECT is(pg_temp.void('s2', 'c1', 'x2', 'x4', 'm4', 'l4', 'u2', 't2', 'p7'), '9', 'nine events are taken back');
-- 2 for 42 hours and 6 for 6; of six the third
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 8/3, max 7/2, min 4/3, per 3/6, sum 22/3, twt 120/2, uni 2/3', 'and do not count');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 8/3, max 7/2, min 4/3, per 3/6, sum 22/3, twt 120/2, uni 2/3', 'nor after the roll-up');
SELECT is(pg_temp.cells('sum'), '03 10:10/1 11:12/2', 'the day of a sum has what stands');
SELECT is(pg_temp.cells('max'), '03 4 10:0/1; 03 7 11:0/1', 'values that nobody has are gone');
SELECT is(pg_temp.found(), NULL, 'verify() agrees');

-- A day that loses all its events, first in the tail, then rolled up
SELECT pg_temp.void('t3', 'l2');
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 6/2, max 7/2, min 4/3, per 3/6, sum 22/3, twt 96/1, uni 2/3', 'a level goes on where its change was taken back');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 6/2, max 7/2, min 4/3, per 3/6, sum 22/3, twt 96/1, uni 2/3', 'rolled up the same');
SELECT is(pg_temp.cells('twt'), '03 10:172800/1', 'the day is gone');
SELECT is(pg_temp.cells('lat'), '03 10:298800/2', 'the other is made anew: 5 for an hour, 6 for 13');
-- Taken back before they were ever rolled up
SELECT pg_temp.send('lat|l9|2026-03-20 10:00|1', 'sum|s9|2026-03-20 10:00|1', 'uni|u9|2026-03-20 10:00|zoe');
SELECT pg_temp.void('l9', 's9', 'u9');
SELECT is(pg_temp.measured('2026-03-20', '2026-03-21'), 'cnt 0/0, lat 0/0, max 0/0, min 0/0, per 0/0, sum 0/0, twt 48/0, uni 0/0', 'nothing remains of them');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.measured('2026-03-20', '2026-03-21'), 'cnt 0/0, lat 0/0, max 0/0, min 0/0, per 0/0, sum 0/0, twt 48/0, uni 0/0', 'rolled up neither');
SELECT is(pg_temp.found(), NULL, 'verify() agrees');
-- Replaced: another quantity, another day
SELECT pg_temp.must('ada', $$SELECT events FROM billing.replace_usage('acme', '[{"source": "/s", "type": "sum", "id": "s1", "subject": "a1", "time": "2026-03-11T12:00:00Z", "data": {"n": 100}},
	{"source": "/s", "type": "lat", "id": "l3", "subject": "a1", "time": "2026-03-11T12:00:00Z", "data": {"n": 77}}]', 'wrong')$$);
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 77/2, max 7/2, min 4/3, per 3/6, sum 112/3, twt 96/1, uni 2/3', 'replacements count in their place');
SELECT is(pg_temp.measured('2026-03-10', '2026-03-11'), 'cnt 1/1, lat 5/1, max 4/1, min 4/2, per 2/3, sum 0/0, twt 48/1, uni 1/1', 'on their day');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.measured(), 'cnt 3/3, lat 77/2, max 7/2, min 4/3, per 3/6, sum 112/3, twt 96/1, uni 2/3', 'rolled up the same');

-- Another month, groups, a filter
SELECT pg_temp.send('sum|j1|2026-01-31 23:59|3', 'sum|j2|2026-02-01 00:00|4',
	'grp|g1|2026-03-10 01:00|{"n": 1, "ok": true, "region": "eu"}', 'grp|g2|2026-03-10 01:00|{"n": 2, "ok": true, "region": "us"}',
	'grp|g3|2026-03-11 01:00|{"n": 4, "ok": true, "region": "eu"}', 'grp|g4|2026-03-11 01:00|{"n": 8, "ok": false, "region": "eu"}');
SELECT pg_temp.roll_up();
SELECT is(pg_temp.cells('sum'), '01 31:3/1; 02 01:4/1; 03 11:112/3', 'local months');
SELECT is(pg_temp.cells('grp'), '03 {"region": "eu"} 10:1/1 11:4/1; 03 {"region": "us"} 10:2/1', 'groups apart; what the filter leaves out is not there');
SELECT is(pg_temp.measured('2026-03-10', '2026-03-12', 'a2'), 'cnt 0/0, lat 0/0, max 0/0, min 0/0, per 0/0, sum 0/0, twt 0/0, uni 0/0', 'another account has nothing of it');
SELECT is((SELECT count(*) FROM billing_internal.usage_cells(:other, ARRAY[:a1])), 0::bigint, 'nor another entity');

-- ---------------------------------------------------------------------------------------------------------------------
-- For reports

SELECT pg_temp.send('sum|v1|2026-03-11 13:00|0.5', 'grp|v2|2026-03-10 02:00|{"n": 16, "ok": true, "region": "us"}', 'lat|v3|2026-03-12 02:00|1');
SELECT is((SELECT string_agg(concat_ws(' ', meter, nullif(dimensions, ''), to_char(day, 'MM-DD'), events, trim_scale(quantity)), '; ' ORDER BY meter, dimensions, day)
		FROM billing.usage_daily WHERE entity = 'acme' AND account = 'a1' AND item IS NULL AND meter IN ('sum', 'grp', 'lat')),
	'grp {"region": "eu"} 03-10 1 1; grp {"region": "eu"} 03-11 1 4; grp {"region": "us"} 03-10 2 18; '
	'lat 03-10 1; lat 03-11 1; lat 03-12 1; sum 01-31 1 3; sum 02-01 1 4; sum 03-11 4 112.5', 'usage by day, from roll-ups and tail');
SELECT is(pg_temp.must('rea', $$SELECT count(*) FROM billing.usage_daily$$), (SELECT count(*)::text FROM billing.usage_daily), 'a reader may see it');
SELECT is(pg_temp.must('nob', $$SELECT count(*) FROM billing.usage_daily$$), '0', 'nobody else');
SELECT is(pg_temp.must('rea', format('SELECT count(*) FROM billing_internal.usage_cells(%s, %L)', :acme, ARRAY[:a1])),
	(SELECT count(*)::text FROM billing_internal.usage_cells(:acme, ARRAY[:a1])), 'and the cells');
SELECT is(pg_temp.must('nob', format('SELECT count(*) FROM billing_internal.usage_cells(%s, %L)', :acme, ARRAY[:a1])), '0', 'row-level security holds for the cells too');

-- ---------------------------------------------------------------------------------------------------------------------
-- Who may

SELECT is(pg_temp.try(p, $$SELECT billing.roll_up_usage('acme')$$), 'ZB003', p || ' does not roll up') FROM unnest('{rea,aud,bob,adm}'::text[]) p;
SELECT is(pg_temp.try(p, $$SELECT billing.rebuild_usage_rollup('acme')$$), 'ZB003', p || ' does not rebuild') FROM unnest('{rea,aud,bob,app}'::text[]) p;
SELECT is(pg_temp.try(p, $$SELECT billing.rebuild_usage_rollup('acme')$$), (SELECT count(*)::text FROM billing.usage_rollup WHERE entity_id = :acme AND days::text <> '{}'), p || ' does') FROM unnest('{adm,ada}'::text[]) p;
SELECT is(pg_temp.try('ada', 'DELETE FROM billing.usage_rollup'), '42501', 'nobody writes roll-ups by hand');

-- ---------------------------------------------------------------------------------------------------------------------
-- Making them anew, and finding out that it is necessary

SELECT is(pg_temp.tail(), 3::bigint, 'there is a tail');
CREATE TEMP TABLE before AS SELECT entity_id, account_id, meter_id, item_id, month, dimensions, sample, days FROM billing.usage_rollup WHERE days::text <> '{}';
SELECT is(pg_temp.must('ada', $$SELECT billing.rebuild_usage_rollup('acme')$$), (SELECT count(*)::text FROM before WHERE entity_id = :acme), 'a rebuild says how many cells there are');
SELECT is_empty($$(SELECT entity_id, account_id, meter_id, item_id, month, dimensions, sample, days::text FROM billing.usage_rollup EXCEPT SELECT entity_id, account_id, meter_id, item_id, month, dimensions, sample, days::text FROM before)
	UNION ALL (SELECT entity_id, account_id, meter_id, item_id, month, dimensions, sample, days::text FROM before EXCEPT SELECT entity_id, account_id, meter_id, item_id, month, dimensions, sample, days::text FROM billing.usage_rollup)$$, 'they are the same, without the tail');
SELECT is(pg_temp.tail(), 3::bigint, 'which stays tail');
SELECT is((SELECT format('%s %s %s', actor, action, (after ->> 'cells')::bigint = (SELECT count(*) FROM billing.usage_rollup WHERE entity_id = :acme)) FROM billing.audit_log WHERE object_type = 'usage_rollup' ORDER BY audit_id DESC LIMIT 1), 'ada rebuild t', 'it is audited');
SAVEPOINT honest;
SET session_replication_role = replica;
SET ROLE billing_owner;
UPDATE billing.usage_rollup SET days = billing_internal.usage_days_add(days, '{"2026-03-11": {"events": 0, "quantity": "-1"}}')
WHERE meter_id = (SELECT meter_id FROM billing.meter WHERE entity_id = :acme AND code = 'sum') AND month = '2026-03-01';
RESET ROLE;
SELECT is(pg_temp.found(), 'roll-ups are what their events add up to: 1, different', 'a quantity that was changed is found');
SET ROLE billing_owner;
DELETE FROM billing.usage_rollup WHERE sample = '"ann"';
RESET ROLE;
SELECT is((SELECT violations FROM billing_internal.verify_usage(:acme) LIMIT 1), 2::bigint, 'and a cell that was deleted');
SET ROLE billing_owner;
INSERT INTO billing.usage_rollup SELECT entity_id, account_id, meter_id, item_id, month, dimensions, '"eve"', '{"2026-03-11": {"events": 1, "quantity": "0"}}' FROM billing.usage_rollup WHERE sample = '"carl"';
RESET ROLE;
SELECT is((SELECT violations FROM billing_internal.verify_usage(:acme) LIMIT 1), 3::bigint, 'and one that was invented');
SELECT is((SELECT violations FROM billing_internal.verify_usage(:other) LIMIT 1), 0::bigint, 'the other entity is in order');
RESET session_replication_role;
SELECT pg_temp.must('ada', $$SELECT billing.rebuild_usage_rollup('acme')$$);
SELECT is(pg_temp.found(), NULL, 'a rebuild mends it all');
SET session_replication_role = replica;
SET ROLE billing_owner;
UPDATE billing.usage_watermark SET after_event_id = 0 WHERE entity_id = :acme;
RESET ROLE;
RESET session_replication_role;
SELECT is((SELECT violations > 0 FROM billing_internal.verify_usage(:acme) LIMIT 1), true, 'a watermark that was moved is found');
ROLLBACK TO honest;
SELECT is(pg_temp.found(), NULL, 'nothing is broken');

-- A month whose events are gone keeps its roll-ups
ALTER TABLE billing.usage_event DETACH PARTITION billing_internal.usage_event_2026_01;
SELECT pg_temp.must('ada', $$SELECT billing.rebuild_usage_rollup('acme')$$);
SELECT is(pg_temp.cells('sum'), '01 31:3/1; 02 01:4/1; 03 11:112/3', 'the roll-ups of a detached month stay');
SELECT is(pg_temp.found(), NULL, 'and are not compared with events that are elsewhere');

-- One entity that cannot be rolled up stops no other
CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.error IS NULL THEN RAISE EXCEPTION 'not today'; END IF; RETURN NEW; END $$;
SELECT format('CREATE TRIGGER fail BEFORE UPDATE ON billing.usage_watermark FOR EACH ROW WHEN (NEW.entity_id = %s) EXECUTE FUNCTION pg_temp.fail()', :acme) \gexec
SELECT pg_temp.must('app', $$SELECT accepted FROM billing.ingest_usage('other', '{"source": "/s", "type": "sum", "id": "o1", "subject": "a1", "time": "2026-03-11T12:00:00Z", "data": {"n": 1}}')$$);
SET client_min_messages = error;
SELECT is((SELECT outcome FROM billing.run_worker_once(true) WHERE task = 'roll_up_usage'), 'done', 'the task goes on');
RESET client_min_messages;
SELECT is((SELECT string_agg(concat_ws(' ', l.code, w.next_event_id > 0, w.error), ', ' ORDER BY l.code) FROM billing.usage_watermark w JOIN billing.legal_entity l USING (entity_id)),
	'acme P0001: not today, other t', 'and says what was wrong');
SELECT matches(pg_temp.found(), 'usage is rolled up without errors: 1, not today', 'verify() says so too');
DROP TRIGGER fail ON billing.usage_watermark;
SELECT outcome FROM billing.run_worker_once(true) WHERE task = 'roll_up_usage';
SELECT is((SELECT count(*) FROM billing.usage_watermark WHERE error IS NOT NULL), 0::bigint, 'until it goes well again');

SELECT * FROM finish();
ROLLBACK;
