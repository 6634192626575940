-- The audit log: what leaves a record, what the record says, and that nobody can change, forge or leave out one.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(67);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme'), pg_temp.staff('other');
SELECT pg_temp.stock('acme');

-- Every table that is written by people is audited, for every kind of write
SELECT is_empty($$
	SELECT format('%s %s', c.relname, e.event)
	FROM pg_class c, (VALUES ('insert', 4), ('update', 16), ('delete', 8)) AS e (event, bit)
	WHERE c.relnamespace = 'billing'::regnamespace AND c.relkind = 'r'
	AND EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'b_guard_duty')
	AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgfoid = 'billing_internal.audit_rows'::regproc AND (t.tgtype & e.bit) <> 0)
$$, 'whatever table people may write by SQL is audited');
SELECT is_empty($$
	SELECT t FROM unnest('{legal_entity,person,person_login,duty_assignment,contract,contract_item,contract_item_version}'::text[]) t
	WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ('billing.' || t)::regclass AND g.tgfoid = 'billing_internal.audit_rows'::regproc)
$$, 'so are entities, persons, logins, duties and contracts');

CREATE FUNCTION pg_temp.last(what text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s -> %s', action, actor, login = session_user, before -> 'name', after -> 'name')
	FROM billing.audit_trail WHERE object_type = what ORDER BY audit_id DESC LIMIT 1;
$$;
CREATE FUNCTION pg_temp.records() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM billing.audit_log $$;
SELECT is(pg_temp.last('customer'), 'insert ada f  -> "Customer"', 'an insert has no before');
SELECT pg_temp.must('ada', $$UPDATE billing.customer SET name = 'New name'$$);
SELECT is(pg_temp.last('customer'), 'update ada f "Customer" -> "New name"', 'an update has both');
UPDATE billing.legal_entity SET name = 'Acme AG' WHERE code = 'acme';
SELECT is(pg_temp.last('legal_entity'), 'update  t "Acme" -> "Acme AG"', 'an administrator who is no person is known by the login');

SELECT pg_temp.records() AS before \gset
SELECT pg_temp.must('ada', $$UPDATE billing.customer SET name = 'New name'$$);
SELECT is(pg_temp.records(), :before::bigint, 'an update that changes nothing leaves no record');
SELECT pg_temp.must('ada', $$INSERT INTO billing.product (entity_id, code, name) SELECT entity_id, 'p' || n, 'P' FROM billing.legal_entity e, generate_series(1, 100) n WHERE e.code = 'acme'$$);
SELECT is(pg_temp.records(), :before::bigint + 100, 'a statement over a hundred rows leaves a hundred');
SELECT is((SELECT count(*) FROM (SELECT object_id FROM billing.audit_log WHERE object_type = 'product' AND action = 'insert' ORDER BY audit_id DESC LIMIT 100) o
	JOIN billing.product p ON p.product_id::text = o.object_id AND p.code LIKE 'p%'), 100::bigint, 'each names its row');

-- An update has the old and new values of what changed, and the key; nothing else
SELECT pg_temp.must('ada', $$UPDATE billing.product SET name = 'Q', unit_code = 'KGM' WHERE code = 'p7'$$);
SELECT results_eq($$SELECT before, after FROM billing.audit_log WHERE object_type = 'product' AND action = 'update'$$,
	$$SELECT jsonb_build_object('product_id', product_id, 'name', 'P', 'unit_code', 'C62'), jsonb_build_object('product_id', product_id, 'name', 'Q', 'unit_code', 'KGM') FROM billing.product WHERE code = 'p7'$$, 'what changed, and the key');

-- What is refused leaves none, nor does what is rolled back
SELECT pg_temp.records() AS before \gset
SELECT is(pg_temp.try('rea', $$UPDATE billing.customer SET name = 'X'$$), 'ZB003', 'a reader writes nothing');
SELECT is(pg_temp.try('ada', $$SELECT billing.add_product('acme', 'p1', 'P')$$), 'ZB009', 'a code is taken once');
SELECT is(pg_temp.records(), :before::bigint, 'and nothing is recorded');

-- Nobody writes records by hand, whatever they claim; the owner's functions have theirs completed
SELECT is(pg_temp.try(p, $$INSERT INTO billing.audit_log (entity_id, action, object_type) SELECT entity_id, 'x', 'y' FROM billing.legal_entity LIMIT 1$$), code, coalesce(p, 'a superuser') || ' writes no record')
FROM (VALUES ('ada', '42501'), ('aud', '42501'), (NULL, 'ZB010')) AS c (p, code);
SET LOCAL ROLE billing_owner;
INSERT INTO billing.audit_log (entity_id, recorded_at, transaction_id, actor, login, action, object_type, hash)
SELECT entity_id, '2000-01-01', '1', 'bob', 'bob', 'forged', 'nothing', '\x00' FROM billing.legal_entity WHERE code = 'acme';
RESET ROLE;
SELECT is((SELECT format('%s %s %s %s', actor, login = session_user, recorded_at = now(), transaction_id = pg_current_xact_id()) FROM billing.audit_log WHERE action = 'forged'),
	' t t t', 'actor, login, time and transaction are not the statement''s to say');
SELECT is(pg_temp.try(NULL, statement), 'ZB008', statement)
FROM unnest('{"UPDATE billing.audit_log SET actor = NULL","DELETE FROM billing.audit_log","TRUNCATE billing.audit_log"}'::text[]) AS statement;
CREATE FUNCTION pg_temp.as_owner(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	EXECUTE statement;
	RESET ROLE;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.as_owner(statement), 'ZB008', 'not even the owner: ' || statement)
FROM unnest('{"UPDATE billing.audit_log SET actor = NULL","DELETE FROM billing.audit_log","TRUNCATE billing.audit_log"}'::text[]) AS statement;

-- Who may read: a person the records of their entities, an administrator all
SELECT is(pg_temp.told('aud', $$SELECT count(*) FROM billing.audit_log WHERE entity_id = 0$$), '0', 'the installation''s records are not for persons');
SELECT cmp_ok(pg_temp.told('aud', $$SELECT count(*) FROM billing.audit_log WHERE object_type = 'customer'$$), '>', '0', 'an auditor reads those of the entity');
SELECT is(pg_temp.told('nob', $$SELECT count(*) FROM billing.audit_log$$), '0', 'nobody else any');

-- The hash covers every column: changing any one of them behind the extension's back is found
SELECT is_empty('SELECT pg_temp.broken()', 'the log is sound');
CREATE FUNCTION pg_temp.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE format('UPDATE billing.audit_log SET %s WHERE audit_id = (SELECT max(audit_id) FROM billing.audit_log WHERE object_type = ''customer'' AND action = ''update'')', change);
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(b, ', ') INTO answer FROM pg_temp.broken() b;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing found');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT matches(pg_temp.tampered(change), '^audit records match their hashes: 1,', change)
FROM (VALUES
	('entity_id = entity_id + 1'), ('audit_id = 1000000000'), ('recorded_at = recorded_at + interval ''1 microsecond'''), ('transaction_id = ''1'''),
	('actor = ''adb'''), ('actor = NULL'), ('login = ''x'''), ('action = ''insert'''), ('object_type = ''customers'''), ('object_id = ''2'''), ('object_id = NULL'),
	('before = NULL'), ('before = before || ''{"name": "X"}'''), ('after = after - ''name'''), ('reason = '''''), ('client_address = NULL'), ('application = ''psql 2'''), ('correlation_id = ''x'''), ('hash = set_byte(hash, 31, get_byte(hash, 31) # 1)')
) AS c (change);

-- The hash is that of the documented bytes: the leaf's 0, layout 2, each column preceded by its length, worked out here by hand.
-- A number has no trailing zeros: 1.50 is "1.5"; an object has its shorter keys first.
SELECT is(billing_internal.audit_hash(ROW(7, 9, '2000-01-01 00:00:01+00', '3', NULL, 'x', 'do', 'it', NULL, NULL, '{"ab": [null, true, "ü"], "c": 1.50}', 'ü', 'local', NULL, 'r-1', NULL)::billing.audit_log),
	sha256(decode('0002' || '000000080000000000000007' || '000000080000000000000009' || '0000000800000000000f4240' || '000000080000000000000003'
		|| 'ffffffff' || '0000000178' || '00000002646f' || '000000026974' || 'ffffffff' || 'ffffffff'
		|| '00000026' || '7b00000002' || '00000001' || '63' || '23' || '00000003' || '312e35'
			|| '00000002' || '6162' || '5b00000003' || '6e' || '74' || '22' || '00000002' || 'c3bc'
		|| '00000002c3bc' || '000000056c6f63616c' || 'ffffffff' || '00000003722d31', 'hex')), 'the canonical bytes are as documented');
SELECT is(billing_internal.audit_hash(ROW(7, 9, '2000-01-01', '3', NULL, 'x', 'do', 'it', NULL, NULL, after::jsonb, NULL, NULL, NULL, NULL, NULL)::billing.audit_log),
	billing_internal.audit_hash(ROW(7, 9, '2000-01-01', '3', NULL, 'x', 'do', 'it', NULL, NULL, same::jsonb, NULL, NULL, NULL, NULL, NULL)::billing.audit_log), after || ' is ' || same)
FROM (VALUES ('1.000', '1'), ('0.00', '0'), ('-0.0', '0'), ('1e3', '1000'), ('-12.3400', '-12.34'), ('0.0010', '1e-3'),
	('123456789012345678901234567890.1200', '123456789012345678901234567890.12'), ('{"b": 1, "a": 2}', '{"a": 2.0, "b": 1}')) AS v (after, same);
SELECT cmp_ok(strpos(encode(billing_internal.audit_bytes(ROW(7, 9, '2000-01-01', '3', NULL, 'x', '', '', NULL, NULL, after::jsonb, NULL, NULL, NULL, NULL, NULL)::billing.audit_log), 'hex'), '23' || length || encode(text::bytea, 'hex')), '>', 0, after || ' is written ' || text)
FROM (VALUES ('-0.05', '00000005', '-0.05'), ('100', '00000003', '100'), ('100.0', '00000003', '100'), ('12.5', '00000004', '12.5'),
	('0.000000000000000000001', '00000017', '0.000000000000000000001')) AS v (after, length, text);

-- From where, by what, for which request; the request is the transaction's, and a subtransaction's as long as it stands
SET LOCAL application_name = 'till 7';
SELECT billing.set_correlation('order 4711');
SELECT billing.add_person('corr1', 'C');
SAVEPOINT s;
SELECT billing.set_correlation('order 4712');
SELECT is(billing.current_correlation(), 'order 4712', 'a correlation is set');
ROLLBACK TO s;
SELECT is(billing.current_correlation(), 'order 4711', 'and taken back with its subtransaction');
SELECT is((SELECT format('%s %s %s', client_address, application, correlation_id) FROM billing.audit_log WHERE object_type = 'person' AND after ->> 'code' = 'corr1'),
	'local till 7 order 4711', 'the record says from where, by what and for which request');
SELECT billing.set_correlation(NULL);
SELECT billing.add_person('corr2', 'C');
SELECT is((SELECT correlation_id FROM billing.audit_log WHERE object_type = 'person' AND after ->> 'code' = 'corr2'), NULL, 'null ends it');
SELECT is(pg_temp.try(NULL, format('SELECT billing.set_correlation(%L)', id)), 'ZB001', 'a correlation id is a code') FROM unnest(ARRAY['', ' x', repeat('x', 129), E'a\nb']) id;

SELECT * FROM finish();
ROLLBACK;
