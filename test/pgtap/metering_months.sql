-- The life of a month of usage: its partition is made, protected as the whole table, closed, sealed, opened again, and detached
-- when all is billed; what comes too late is never stored and never lost.
BEGIN;
SELECT plan(97);
\ir ../lib/house_rules.sql
\ir ../lib/persons.sql
SELECT pg_temp.hire_all(), pg_temp.hire('acc'), pg_temp.hire('eve');
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin'), billing.create_entity('other', 'Other', 'EUR', 'UTC');
SELECT pg_temp.staff('acme'), billing.grant_duty('acme', 'acc', 'accountant', '2020-01-01');
SELECT billing.grant_duty('other', 'eve', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager,accountant}'::text[]) d;
SELECT pg_temp.stock('acme');
SELECT pg_temp.must('eve', $$SELECT billing.add_customer('other', 'c', 'C'), billing.add_account('other', 'a1', 'c', 'EUR'), billing.add_meter('other', 'calls', 'Calls')$$);
DO $$ BEGIN EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_owner, billing_user', pg_temp.role_of('dba')); END $$;
SELECT entity_id AS acme FROM billing.legal_entity WHERE code = 'acme' \gset
SELECT entity_id AS other FROM billing.legal_entity WHERE code = 'other' \gset

CREATE FUNCTION pg_temp.event(id text, at text, quantity numeric DEFAULT 1, subject text DEFAULT 'a1') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'source', 's', 'type', 'calls', 'subject', subject, 'time', at, 'data', jsonb_build_object('quantity', quantity));
$$;
CREATE FUNCTION pg_temp.send_to(entity text, VARIADIC events jsonb[]) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must(CASE entity WHEN 'acme' THEN 'ada' ELSE 'eve' END,
		format('SELECT concat_ws('' '', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage(%L, %L)', entity, to_jsonb(events)));
$$;
CREATE FUNCTION pg_temp.send(VARIADIC events jsonb[]) RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.send_to('acme', VARIADIC events) $$;
CREATE FUNCTION pg_temp.replay() RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', 'SELECT concat_ws('' '', accepted, duplicate, conflicting, quarantined) FROM billing.replay_usage(''acme'')');
$$;
CREATE FUNCTION pg_temp.partitions() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(substr(c.relname, 13), ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'billing.usage_event'::regclass;
$$;
CREATE FUNCTION pg_temp.waiting() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(x.kind || ' ' || (x.payload ->> 'id'), ', ' ORDER BY x.exception_id) FROM billing.exception x WHERE x.state = 'open';
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Partitions

SELECT is(pg_temp.partitions(), NULL, 'the extension brings no month');
SELECT is(pg_temp.must('dba', $$SELECT billing.make_usage_months('2024-01-31', '2024-02-01')$$), '2', 'a DBA makes months from day to day');
SELECT is(pg_temp.partitions(), '2024_01 2024_02', 'those that the days lie in');
SELECT is(pg_temp.must('dba', $$SELECT billing.make_usage_months('2023-12-01', '2024-03-31')$$), '2', 'what is there is not made again');
SELECT is(pg_temp.try('dba', $$SELECT billing.make_usage_months('2024-02-01', '2024-01-01')$$), 'ZB001', 'from the first to the last');
SELECT is(pg_temp.try('dba', $$SELECT billing.make_usage_months('1900-01-01', '2100-01-01')$$), 'ZB001', 'not more than a hundred years at once');
SELECT is(pg_temp.try(p, $$SELECT billing.make_usage_months('2024-01-01', '2024-01-01')$$), 'ZB003', 'not by ' || p) FROM unnest('{ada,adm,acc,nob}'::text[]) p;
SELECT billing_internal.make_usage_months();
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'billing.usage_event'::regclass), 8::bigint, 'the task makes this month and three more');
SELECT billing_internal.make_usage_months();
SELECT is((SELECT count(*) FROM pg_inherits WHERE inhparent = 'billing.usage_event'::regclass), 8::bigint, 'once');
SELECT is(to_regclass('billing_internal.usage_event_' || to_char(d, 'YYYY_MM')) IS NOT NULL, true, format('in %s months', n))
FROM generate_series(0, 3) n, LATERAL (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n)) m (d);
SELECT is(pg_temp.send(pg_temp.event('e1', '2024-04-30T22:30:00Z')), '1 0 0 0', 'an event of a month without partition');
SELECT is(to_regclass('billing_internal.usage_event_2024_05') IS NOT NULL AND to_regclass('billing_internal.usage_event_2024_04') IS NULL, true, 'makes that of its day in the entity''s time zone');
SELECT is((SELECT tableoid::regclass::text FROM billing.usage_event WHERE event_key = 'e1'), 'billing_internal.usage_event_2024_05', 'and lies there');

-- Each is protected as the whole
SELECT is_empty('SELECT offender FROM rule_usage_months', 'months obey the rules of the house');
SELECT isnt_empty($$SELECT FROM pg_class c WHERE c.relname = 'usage_event_2024_05' AND pg_get_userbyid(c.relowner) = 'billing_owner' AND obj_description(c.oid) LIKE '%2024-05%'$$, 'owned by billing_owner, with a comment');
SELECT is(pg_temp.send_to('other', pg_temp.event('o1', '2024-05-03T00:00:00Z')), '1 0 0 0', 'two entities share a month');
SELECT is(pg_temp.try(p, 'SELECT count(*) FROM billing_internal.usage_event_2024_05'), '42501', p || ' does not read a partition') FROM unnest('{ada,eve,adm,aud,nob}'::text[]) p;
SELECT is(pg_temp.try('ada', 'DELETE FROM billing_internal.usage_event_2024_05'), '42501', 'nor writes one');
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON billing_internal.usage_event_2024_05 TO billing_user;
SELECT is(pg_temp.must('eve', 'SELECT string_agg(event_key, '' '') FROM billing_internal.usage_event_2024_05'), 'o1', 'even with a grant eve reads her entity alone');
SELECT is(pg_temp.must('ada', 'SELECT string_agg(event_key, '' '') FROM billing_internal.usage_event_2024_05'), 'e1', 'and ada hers');
SELECT is(pg_temp.must('nob', 'SELECT count(*) FROM billing_internal.usage_event_2024_05'), '0', 'who has no duty reads nothing');
SELECT is(pg_temp.try('eve', 'UPDATE billing_internal.usage_event_2024_05 SET quantity = 0'), 'ZB008', 'and writes nothing');
SELECT is(pg_temp.try('eve', 'INSERT INTO billing_internal.usage_event_2024_05 SELECT * FROM billing_internal.usage_event_2024_05'), 'ZB010', 'nor adds');
SELECT is(pg_temp.try('eve', 'DELETE FROM billing_internal.usage_event_2024_05'), 'ZB008', 'nor deletes');
SELECT is(pg_temp.try('eve', 'TRUNCATE billing_internal.usage_event_2024_05'), 'ZB008', 'nor empties');
SELECT is(pg_temp.try('dba', 'DELETE FROM billing_internal.usage_event_2024_05'), 'ZB008', 'not even the owner');
SELECT isnt_empty('SELECT offender FROM rule_usage_months', 'the rules find the grant');
REVOKE ALL ON billing_internal.usage_event_2024_05 FROM billing_user;
ALTER TABLE billing_internal.usage_event_2024_05 NO FORCE ROW LEVEL SECURITY;
SELECT isnt_empty('SELECT offender FROM rule_usage_months', 'and a month without forced row-level security');
ALTER TABLE billing_internal.usage_event_2024_05 FORCE ROW LEVEL SECURITY;
DROP TRIGGER a_guard_writes ON billing_internal.usage_event_2024_05;
SELECT isnt_empty('SELECT offender FROM rule_usage_months', 'and one without its guard');
SET LOCAL ROLE billing_owner;
CREATE TRIGGER a_guard_writes BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON billing_internal.usage_event_2024_05 FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.guard_writes('append_only');
RESET ROLE;
SELECT is_empty('SELECT offender FROM rule_usage_months', 'put back, it is as it was');

-- ---------------------------------------------------------------------------------------------------------------------
-- Closing

SELECT is(pg_temp.send(pg_temp.event('m1', '2024-01-10T10:00:00Z', 5), pg_temp.event('m2', '2024-01-20T10:00:00Z', 2.50)), '2 0 0 0', 'two events of January 2024');
SELECT is(pg_temp.try(p, $$SELECT billing.close_usage('acme', '2024-01-15')$$), 'ZB003', p || ' does not close') FROM unnest('{ada,adm,aud}'::text[]) p;
SELECT is(pg_temp.try('eve', $$SELECT billing.close_usage('acme', '2024-01-15')$$), 'ZB002', 'nor somebody of another entity');
SELECT is(pg_temp.try('acc', format('SELECT billing.close_usage(''acme'', %L)', (now() AT TIME ZONE 'Europe/Berlin')::date)), 'ZB001', 'a month is closed when it is over');
SELECT is(pg_temp.must('acc', $$SELECT billing.close_usage('acme', '2024-01-15')$$), '2', 'the accountant closes January: two events');
SELECT is(pg_temp.told('acc', $$SELECT billing.close_usage('acme', '2024-01-01')$$), 'ZB007 usage of 2024-01 is closed', 'once');
-- The digest, worked out as the documentation says: a line of JSON for each event, in the order of their ids
SELECT is((SELECT m.digest FROM billing.usage_month m), (SELECT sha256(convert_to(string_agg(jsonb_build_array(event_id, source, event_key, content, account_id, item_id, meter_id, usage_date,
	weight, quantity, dimensions, sample, expected_amount, corrects_event_id, correction_id)::text || E'\n', '' ORDER BY event_id), 'UTF8')) FROM billing.usage_event WHERE entity_id = :acme AND usage_date < '2024-02-01'), 'the digest is the SHA-256 of its events');
SELECT is((SELECT m.events || ' ' || p.code FROM billing.usage_month m JOIN billing.person p ON p.person_id = m.closed_by), '2 acc', 'with their number, and who closed');
SELECT is((SELECT action || ' ' || (after ->> 'events') FROM billing.audit_log WHERE object_type = 'usage_month' AND object_id = '2024-01'), 'close 2', 'it is audited');
SELECT is((SELECT count(*) FROM billing.usage_month WHERE entity_id = :other), 0::bigint, 'the other entity goes on');

SELECT is(pg_temp.send(pg_temp.event('m3', '2024-01-31T22:59:59Z')), '0 0 0 1', 'what comes for it now waits');
SELECT is((SELECT kind || ', ' || owner_duty || ': ' || detail FROM billing.open_exception WHERE payload ->> 'id' = 'm3'), 'usage_month_closed, accountant: usage of 2024-01 is closed', 'and says why');
SELECT is(pg_temp.send(pg_temp.event('f1', '2024-01-31T23:00:00Z')), '1 0 0 0', 'an hour later it is February there');
SELECT is(pg_temp.send(pg_temp.event('m1', '2024-01-10T10:00:00Z', 5)), '0 1 0 0', 'a duplicate is a duplicate');
SELECT is(pg_temp.send(pg_temp.event('m1', '2024-01-10T10:00:00Z', 6)), '0 0 1 0', 'a conflict a conflict');
SELECT is(pg_temp.send_to('other', pg_temp.event('o2', '2024-01-10T10:00:00Z')), '1 0 0 0', 'the other entity''s January is open');
SELECT is(pg_temp.replay(), '0 0 0 0', 'a replay leaves what waits for the month');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');

-- A closed month that changed is found out
SET LOCAL session_replication_role = replica;
UPDATE billing.usage_event SET account_id = account_id + 1 WHERE event_key = 'm2' AND entity_id = :acme;
SET LOCAL session_replication_role = origin;
SELECT is((SELECT violations || ' ' || example FROM billing.verify('acme') WHERE invariant = 'closed months of usage are as they were closed'), format('1 2024-01 of entity %s', :acme), 'a change in a closed month shows');
SET LOCAL session_replication_role = replica;
UPDATE billing.usage_event SET account_id = account_id - 1 WHERE event_key = 'm2' AND entity_id = :acme;
SET LOCAL session_replication_role = origin;

-- Opening again
SELECT is(pg_temp.try('ada', $$SELECT billing.reopen_usage('acme', '2024-01-01', 'please')$$), 'ZB003', 'opening again is for the accountant too');
SELECT is(pg_temp.try('acc', $$SELECT billing.reopen_usage('acme', '2024-01-01', ' ')$$), 'ZB001', 'who says why');
SELECT is(pg_temp.try('acc', $$SELECT billing.reopen_usage('acme', '2024-02-01', 'why not')$$), 'ZB007', 'a month that is open is not opened');
SELECT pg_temp.must('acc', $$SELECT billing.reopen_usage('acme', '2024-01-01', 'an exchange sent its tape late')$$);
SELECT is((SELECT state || ' ' || (digest IS NULL) FROM billing.usage_month), 'open true', 'open, it has no digest');
SELECT is((SELECT reason FROM billing.audit_log WHERE action = 'reopen'), 'an exchange sent its tape late', 'and the log has the reason');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', 1, 'hold')$$);
SELECT is(pg_temp.replay(), '1 0 0 0', 'what waited comes in, though it is late: opening was the decision');
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme')$$);
SELECT is((SELECT resolution FROM billing.exception WHERE kind = 'usage_month_closed'), 'the event was accepted', 'and is settled');
SELECT is(pg_temp.must('acc', $$SELECT billing.close_usage('acme', '2024-01-31')$$), '3', 'closed again with three');

-- ---------------------------------------------------------------------------------------------------------------------
-- Detaching: January has three events of acme and one of the other entity, which has no contract

CREATE FUNCTION pg_temp.obstacles() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(e.code || ': ' || o.obstacle, '; ' ORDER BY e.code, o.obstacle) FROM billing_internal.usage_month_obstacles('2024-01-01') o JOIN billing.legal_entity e USING (entity_id);
$$;
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k1', 'a1', '2024-01-15'), billing.add_item('acme', 'k1', 'calls', 'seat', 'usage', tariff => '{"model": "percentage", "rate": "1", "event_max": "1"}', meter => 'calls')$$);
SELECT is(pg_temp.obstacles(), 'acme: 1 open exceptions of kind usage_conflict are about it; acme: 3 of its events are not in the roll-ups yet; acme: account a1 is billed through no day, but has a period of usage that ends on 2024-02-15; acme: item calls of account a1 is priced event by event; '
	|| 'other: 1 of its events are not in the roll-ups yet; other: the month is not closed', 'all that stands in the way');
SELECT is(pg_temp.told('dba', $$SELECT billing.detach_usage_month('2024-01-20')$$), 'ZB007 usage of 2024-01 cannot be detached yet', 'it is not detached then');
SELECT pg_temp.must('ada', format('SELECT billing.resolve_exception(''acme'', %s, ''the first is right'')', exception_id)) FROM billing.open_exception WHERE kind = 'usage_conflict';
SELECT billing_internal.restored_usage(), pg_temp.must('eve', $$SELECT billing.close_usage('other', '2024-01-01')$$);
SELECT pg_temp.must('ada', $$SELECT billing.change_item('acme', 'k1', 'calls', '2024-01-15', tariff => '{"model": "per_unit", "unit": "1"}')$$), pg_temp.bill('acme', '2024-02-14');
SELECT is(pg_temp.obstacles(), 'acme: account a1 is billed through 2024-02-14, but has a period of usage that ends on 2024-02-15', 'a period that touches the month is not billed yet');
SELECT pg_temp.bill('acme', '2024-02-15');
SELECT is(pg_temp.send(pg_temp.event('m4', '2024-01-05T10:00:00Z')), '0 0 0 1', 'something comes for the closed month');
SELECT is(pg_temp.obstacles(), 'acme: 1 open exceptions of kind usage_month_closed are about it', 'and must be decided first');
SELECT pg_temp.must('acc', format('SELECT billing.resolve_exception(''acme'', %s, ''left out'')', exception_id)) FROM billing.open_exception WHERE payload ->> 'id' = 'm4';
SELECT is(pg_temp.obstacles(), NULL, 'then nothing is in the way');
SELECT is(pg_temp.try(p, $$SELECT billing.detach_usage_month('2024-01-01')$$), 'ZB003', 'not for ' || p) FROM unnest('{acc,adm,ada}'::text[]) p;

-- By the task: only what every entity with events in it keeps no longer
SELECT pg_temp.must('adm', $$SELECT billing.set_usage_policy('acme', retention_months => 1)$$);
SELECT billing_internal.detach_usage_months();
SELECT ok(to_regclass('billing_internal.usage_event_2024_01') IS NOT NULL, 'the other entity keeps its events for ever');
SELECT billing.set_usage_policy('other', retention_months => 1200);
SELECT billing_internal.detach_usage_months();
SELECT ok(to_regclass('billing_internal.usage_event_2024_01') IS NOT NULL, 'or for a hundred years');
SELECT billing.set_usage_policy('other', retention_months => 1);
SELECT billing_internal.detach_usage_months();
SELECT ok(to_regclass('billing_internal.usage_event_2024_01') IS NULL, 'when none keeps it, it goes');
SELECT is((SELECT string_agg(event_key, ' ' ORDER BY event_key) FROM billing.usage_event), 'e1 f1 o1', 'its events are no longer among the others; February, which is not closed, stays');
SELECT is((SELECT string_agg(event_key, ' ' ORDER BY event_key) FROM billing_internal.usage_event_2024_01_detached), 'm1 m2 m3 o2', 'but in a table of their own');
SELECT is_empty('SELECT offender FROM rule_usage_months', 'which is protected as before');
SELECT is((SELECT string_agg(e.code || ' ' || state || ' ' || events, ', ' ORDER BY e.code) FROM billing.usage_month m JOIN billing.legal_entity e USING (entity_id) WHERE month = '2024-01-01'), 'acme detached 3, other detached 1', 'the month is marked for all');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE action = 'detach'), 2::bigint, 'and audited');

-- What was detached is still known
SELECT is(pg_temp.send(pg_temp.event('m1', '2024-01-10T10:00:00Z', 5)), '0 1 0 0', 'a duplicate of it is a duplicate');
SELECT is(pg_temp.send(pg_temp.event('m1', '2024-01-10T10:00:00Z', 7)), '0 0 1 0', 'other content under its key is a conflict');
SELECT is(pg_temp.send(pg_temp.event('m5', '2024-01-10T10:00:00Z', 7)), '0 0 0 1', 'a new event of the month waits');
SELECT is((SELECT kind || ': ' || detail FROM billing.open_exception WHERE payload ->> 'id' = 'm5'), 'usage_month_closed: usage of 2024-01 is detached', 'for ever');
SELECT is(pg_temp.replay(), '0 0 0 0', 'no replay takes it in');
SELECT is(pg_temp.told('acc', $$SELECT billing.reopen_usage('acme', '2024-01-01', 'please')$$), 'ZB007 usage of 2024-01 is detached', 'nor is the month opened again');
SELECT is(pg_temp.try('dba', $$SELECT billing.detach_usage_month('2024-01-01')$$), 'ZB007', 'or detached');
SELECT is(pg_temp.must('dba', $$SELECT billing.make_usage_months('2023-12-01', '2024-02-01')$$), '0', 'or made');
-- also for an entity that came later
SELECT billing.create_entity('late', 'Late', 'EUR', 'UTC');
SELECT billing.grant_duty('late', 'eve', d, '2020-01-01') FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT pg_temp.must('eve', $$SELECT billing.add_customer('late', 'c', 'C'), billing.add_account('late', 'a1', 'c', 'EUR'), billing.add_meter('late', 'calls', 'Calls')$$);
SELECT is(pg_temp.send_to('late', pg_temp.event('n1', '2024-01-10T10:00:00Z')), '0 0 0 1', 'for an entity that came later it is detached as well');
-- Billed usage of the month is derived from the roll-ups now: billed = entitled, and the next run has nothing to correct
SELECT is_empty('SELECT pg_temp.broken()', 'and nobody misses its events');
SELECT pg_temp.bill('acme', '2024-02-15');
SELECT is((SELECT count(*) FROM billing.invoice_line WHERE entity_id = :acme AND kind = 'credit'), 0::bigint, 'nor does a run');

SELECT * FROM finish();
ROLLBACK;
