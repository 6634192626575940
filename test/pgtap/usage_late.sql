-- Usage that comes for a period which may be billed already puts its account on the list of what the next run looks at again, when it
-- is rolled up, or when the run opens; usage of a period that is not due yet does not.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(37);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('beta', 'Beta', 'EUR', 'UTC', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme'), pg_temp.staff('beta'), pg_temp.stock('beta');
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset
SELECT pg_temp.must('ada', $$SELECT billing.add_price_book('acme', 'list', 'L', 'EUR'), billing.set_price('acme', 'list', 'seat', pg_temp.each('1'), '2026-01-01'),
	billing.add_meter('acme', 'free', 'Free'), billing.add_meter('acme', 'level', 'Level', 'time_weighted', 'n'), billing.add_meter('acme', 'grave', 'Filtered', filter => '$.ok == true')$$);
-- Each account one contract from 1 January 2026 with items that charge for its meters
CREATE TEMP TABLE contracts (account text, unit text, meters text[], change text);
INSERT INTO contracts VALUES
	('month', 'month', '{calls,level,grave}', NULL),
	('year', 'year', '{calls}', NULL),
	('day', 'day', '{calls}', NULL),
	('ended', 'year', '{calls}', $$SELECT billing.end_contract('acme', 'ended', '2026-02-01')$$),
	('own', 'month', '{}', $$SELECT billing.add_item('acme', 'own', 'line-1', 'seat', 'usage', price_book => 'list', meter => 'calls', own_usage => true)$$),
	('none', 'month', '{}', NULL);
SELECT pg_temp.must('ada', format('SELECT billing.add_account(''acme'', %1$L, ''c1'', ''EUR''), billing.create_contract(''acme'', %1$L, %1$L, ''2026-01-01'', interval_unit => %2$L)', account, unit)) FROM contracts;
SELECT pg_temp.must('ada', format('SELECT billing.add_item(''acme'', %1$L, %2$L, ''seat'', ''usage'', price_book => ''list'', meter => %2$L)', account, m)) FROM contracts, unnest(meters) m;
SELECT pg_temp.must('ada', change) FROM contracts WHERE change IS NOT NULL;

-- Send one event an account: subject, meter, local noon of a day
CREATE SEQUENCE pg_temp.sent;
CREATE FUNCTION pg_temp.send(VARIADIC events text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	batch jsonb;
BEGIN
	SELECT jsonb_agg(jsonb_build_object('source', '/s', 'type', f[2], 'id', nextval('pg_temp.sent')::text, 'subject', f[1],
		'time', to_char(f[3]::date + time '12:00' - interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'data', '{"n": 1, "quantity": 1}'::jsonb)) INTO batch
	FROM unnest(events) e, string_to_array(e, ' ') f;
	RETURN pg_temp.must('app', format('SELECT accepted FROM billing.ingest_usage(''acme'', %L)', batch));
END $$;
-- What was written since this was last asked
CREATE SEQUENCE pg_temp.asked MINVALUE 0;
CREATE FUNCTION pg_temp.changed() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	changes text[];
BEGIN
	SELECT coalesce(array_agg(concat_ws(' ', a.code, c.reason, c.usage_from) ORDER BY a.code COLLATE "C", c.reason), '{}') INTO changes
	FROM billing.account_change c JOIN billing.billing_account a USING (entity_id, account_id)
	WHERE c.change_id > (SELECT last_value FROM pg_temp.asked);
	PERFORM setval('pg_temp.asked', coalesce(max(change_id), 0)) FROM billing.account_change;
	RETURN changes;
END $$;
-- Rolls up everything that is there, also what this transaction wrote
CREATE FUNCTION pg_temp.roll_up() RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.changed(), billing_internal.restored_usage();
	RETURN pg_temp.changed();
END $$;
CREATE FUNCTION pg_temp.opened(through date) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.changed(), billing_internal.complete_changes(entity_id, through) FROM billing.legal_entity WHERE code = 'acme';
	RETURN pg_temp.changed();
END $$;
CREATE FUNCTION pg_temp.tail(through date) RETURNS text[] LANGUAGE sql AS $$
	SELECT coalesce(array_agg(concat_ws(' ', a.code, t.usage_from) ORDER BY a.code COLLATE "C"), '{}') FROM billing.legal_entity l CROSS JOIN LATERAL billing_internal.late_tail(l.entity_id, through) t
	JOIN billing.billing_account a USING (entity_id, account_id) WHERE l.code = 'acme';
$$;

-- Before the first run nothing is late
SELECT pg_temp.send('month calls 2026-01-10', 'year calls 2026-01-10', 'day calls 2026-01-10');
SELECT is(pg_temp.tail('2026-02-01'), '{day 2026-01-10,month 2026-01-10}', 'the tail: usage of periods that are due through a day');
SELECT is(pg_temp.tail('2026-01-31'), '{day 2026-01-10}', 'the month is not due on its last day');
SELECT is(pg_temp.tail('2026-01-11'), '{day 2026-01-10}', 'a day is due on the next');
SELECT is(pg_temp.tail('2026-01-10'), '{}', 'and not on the day itself');
SELECT is(pg_temp.tail('2027-01-01'), '{day 2026-01-10,month 2026-01-10,year 2026-01-10}', 'a year');
SELECT is(pg_temp.tail(NULL), '{}', 'through no day');
SELECT is(pg_temp.roll_up(), '{}', 'no run was ever opened: a roll-up notes nothing');
SELECT is(pg_temp.tail('2027-01-01'), '{}', 'what is rolled up is no tail');
SELECT pg_temp.send('month calls 2026-01-11');
SELECT is(pg_temp.opened('2026-02-01'), '{}', 'the first run bills it for the first time');

-- A run went through 1 February
SELECT is(pg_temp.opened('2026-02-01'), '{month usage 2026-01-11}', 'not rolled up, it may have come while that run was at work: the next one looks again');
SELECT is(pg_temp.roll_up(), '{month usage 2026-01-11}', 'so does a roll-up');
SELECT is(pg_temp.opened('2026-02-01'), '{}', 'then it is noted');
SELECT pg_temp.send('month calls 2026-01-20', 'month calls 2026-01-12', 'month calls 2026-02-05', 'year calls 2026-01-12', 'ended calls 2026-01-13', 'day calls 2026-01-31', 'day calls 2026-02-01',
	'own/line-1 calls 2026-01-14', 'none calls 2026-01-14', 'month free 2026-01-14', 'month level 2026-01-02');
SELECT is(pg_temp.tail('2026-02-01'), '{day 2026-01-31,ended 2026-01-13,month 2026-01-02,own 2026-01-14}', 'one row for each account, with the first day; a contract that ended is due when it ended; what no item charges for is not');
SELECT is(pg_temp.opened('2026-02-01'), '{day usage 2026-01-31,ended usage 2026-01-13,month usage 2026-01-02,own usage 2026-01-14}', 'a run that opens notes them');
SELECT is(pg_temp.opened('2026-03-01'), '{day usage 2026-01-31,ended usage 2026-01-13,month usage 2026-01-02,own usage 2026-01-14}', 'also one through a later day: what falls due by that day is no news');
SELECT is(pg_temp.tail('2026-03-01'), '{day 2026-01-31,ended 2026-01-13,month 2026-01-02,own 2026-01-14}', 'the tail of the later day');
SELECT is(pg_temp.roll_up(), '{day usage 2026-01-31,ended usage 2026-01-13,month usage 2026-01-02,own usage 2026-01-14}', 'what is rolled up after that run');

-- Usage that is not late writes nothing
SELECT pg_temp.send('month calls 2026-03-01', 'month calls 2026-03-31', 'year calls 2026-02-28', 'day calls 2026-03-01');
SELECT is(pg_temp.tail('2026-03-01'), '{}', 'periods that were not due');
SELECT is(pg_temp.roll_up(), '{}', 'nor noted');
SELECT pg_temp.send('month grave 2026-01-05');
SELECT is(pg_temp.roll_up(), '{}', 'an event that the meter''s filter leaves out');
SELECT pg_temp.must('app', $$SELECT accepted FROM billing.ingest_usage('beta', '[{"source": "/s", "id": "1", "type": "calls", "subject": "a1", "time": "2026-01-10T10:00:00Z", "data": {"quantity": 1}}]')$$);
SELECT is(pg_temp.roll_up(), '{}', 'an entity that was never billed');
SELECT is(pg_temp.roll_up(), '{}', 'nothing came');

-- Corrections are events too
SELECT pg_temp.must('ada', $$SELECT state FROM billing.void_usage('acme', '/s', '{1}', 'wrong')$$);
SELECT is(pg_temp.tail('2026-03-01'), '{month 2026-01-10}', 'taken back');
SELECT is(pg_temp.roll_up(), '{month usage 2026-01-10}', 'and rolled up');
SELECT pg_temp.must('ada', $$SELECT state FROM billing.replace_usage('acme', '[{"source": "/s", "id": "4", "type": "calls", "subject": "month", "time": "2026-01-11T10:00:00Z", "data": {"quantity": 5}}]', 'wrong')$$);
SELECT is(pg_temp.roll_up(), '{month usage 2026-01-11}', 'replaced');
SELECT pg_temp.must('ada', $$SELECT state FROM billing.backfill_usage('acme', '[{"source": "/s", "id": "old", "type": "calls", "subject": "month", "time": "2026-01-03T10:00:00Z", "data": {"quantity": 5}}]', 'forgotten')$$);
SELECT is(pg_temp.roll_up(), '{month usage 2026-01-03}', 'brought in');

-- A change of terms is noted by itself; a period that is due earlier than it was makes usage late
SELECT pg_temp.send('year calls 2026-02-10');
SELECT pg_temp.changed();
SELECT pg_temp.must('ada', $$SELECT billing.end_contract('acme', 'year', '2026-03-01')$$);
SELECT is(pg_temp.changed(), '{year contract}', 'a contract ends');
SELECT is(pg_temp.roll_up(), '{year usage 2026-02-10}', 'its usage was due by then');

-- Making the roll-ups anew changes nothing
SELECT pg_temp.changed();
SELECT pg_temp.must('ada', $$SELECT billing.rebuild_usage_rollup('acme')$$);
SELECT is(pg_temp.changed(), '{}', 'roll-ups made anew');

-- An opening spreads what changed for many accounts since the last one: by the day that that one went through, not by its own
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'none', 'seats', 'seat', 'recurring', 1, price_book => 'list')$$);
SELECT is_empty($$SELECT FROM billing.shared_change WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme')$$, 'the price that was set before the first run is nobody''s news');
SELECT pg_temp.must('ada', $$SELECT billing.set_price('acme', 'list', 'seat', pg_temp.each('2'), '2026-04-01')$$);
SELECT is(pg_temp.opened('2026-04-01'), '{}', 'the price of a day that falls due by this run');
SELECT pg_temp.must('ada', $$UPDATE billing.price SET tariff = pg_temp.each('3')::billing.tariff WHERE valid_from = '2026-04-01'$$);
SELECT is(pg_temp.opened('2026-01-01'), '{none price}', 'the price of a day that an earlier run went through, however early this one is');
SELECT is(pg_temp.opened('2026-04-01'), '{}', 'once');
SELECT is((SELECT billed_through FROM billing.usage_watermark WHERE entity_id = :acme), '2026-04-01', 'the day that any run went through never goes back');
SELECT pg_temp.must('ada', $$CALL billing.run_billing('acme', '2026-05-01')$$);
SELECT is((SELECT billed_through FROM billing.usage_watermark WHERE entity_id = :acme), '2026-05-01', 'a run says so itself');
SELECT is(pg_temp.told('ada', $$SELECT billing_internal.complete_changes(1, '2026-01-01')$$), '42501 permission denied for function complete_changes', 'nobody else does');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
