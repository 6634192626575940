-- What the audit log knows of persons: it has commitments, the values stand aside, and can be erased without a trace in the log.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(28);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'UTC', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'UTC');
SELECT pg_temp.staff('acme'), pg_temp.staff('other');
SELECT pg_temp.must('ada', $$SELECT billing.add_customer('acme', 'max', 'Max Muster', 'Weg 1', '10115', 'Berlin', 'DE', 'DE 1'),
	billing.add_customer('acme', 'eva', 'Eva Muster', 'Weg 1', '10115', 'Berlin', 'DE', 'DE 2'), billing.add_customer('other', 'max', 'Max Other', 'Weg 2', '20095', 'Hamburg', 'DE')$$);
SELECT pg_temp.must('ada', $$UPDATE billing.customer SET city = 'Potsdam', postal_code = NULL WHERE code = 'max' AND city = 'Berlin'$$);

-- Nothing of a person is in the log; the trail shows it to whoever may read the entity
CREATE FUNCTION pg_temp.logged(what text) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM billing.audit_log a WHERE a::text LIKE '%' || what || '%' $$;
CREATE FUNCTION pg_temp.kept(what text) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(*) FROM billing.audit_personal p WHERE p::text LIKE '%' || what || '%' $$;
SELECT is(pg_temp.logged(what), 0::bigint, format('the log does not say %s', what)), cmp_ok(pg_temp.kept(what), '>', 0::bigint, 'but what stands aside does')
FROM unnest('{Max Muster,Weg 1,10115,Berlin,Potsdam,DE 1}'::text[]) what;
SELECT is((SELECT format('%s %s -> %s %s', before ->> 'city', before ->> 'postal_code', after ->> 'city', coalesce(after ->> 'postal_code', 'nothing'))
	FROM billing.audit_trail WHERE object_type = 'customer' AND action = 'update'), 'Berlin 10115 -> Potsdam nothing', 'the trail has the values');
SELECT isnt(a.after -> 'city', b.after -> 'city', 'equal values have commitments that differ')
FROM (SELECT after FROM billing.audit_log WHERE object_type = 'customer' AND after ->> 'code' = 'max' LIMIT 1) a, (SELECT after FROM billing.audit_log WHERE after ->> 'code' = 'eva') b;
SELECT is_empty('SELECT pg_temp.broken()', 'each value has its commitment');

-- The commitment is the SHA-256 of salt and canonical bytes, worked out by hand: a string of 6 bytes
SELECT is(billing_internal.audit_commitment(sha256('salt'), '"Berlin"'), sha256(sha256('salt') || '\x22000000064265726c696e'), 'the commitment is as documented');
SELECT is(billing_internal.audit_commitment('\x00', '"Berlin"'), NULL, 'a salt has 32 bytes');

-- Erasing needs the duty admin in that entity, a reason and a customer
SELECT is(pg_temp.try(person, call), code, format('%s: %s', person, call))
FROM (VALUES
	('ada', $$SELECT billing.erase_personal_data('acme', 'max', 'asked')$$, 'ZB003'),
	('aud', $$SELECT billing.erase_personal_data('acme', 'max', 'asked')$$, 'ZB003'),
	('adm', $$SELECT billing.erase_personal_data('acme', 'max', '')$$, 'ZB001'),
	('adm', $$SELECT billing.erase_personal_data('acme', 'nobody', 'asked')$$, 'ZB002')
) AS c (person, call, code);

-- max of acme: name, address, postal code, city, tax id of the insert; two cities and a postal code of the update; and of the erasure's own
-- update name before and after, address, city and tax id before: 5 + 3 + 5
SELECT is(pg_temp.must('adm', $$SELECT billing.erase_personal_data('acme', 'max', 'asked for it by letter')$$), '13', 'all values are erased');
SELECT is(pg_temp.kept(what), 0::bigint, format('nothing says %s', what)) FROM unnest('{Max Muster,Potsdam}'::text[]) what;
SELECT is(pg_temp.kept('Eva Muster') + pg_temp.kept('Max Other'), 2::bigint, 'others are as they were');
SELECT is((SELECT format('%s %s %s', c.name, c.city, c.tax_id) FROM billing.customer c JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'acme' AND c.code = 'max'), 'erased  ', 'the customer too');
SELECT is((SELECT format('%s %s %s', actor, reason, after) FROM billing.audit_log WHERE action = 'erase'), 'adm asked for it by letter {"values": 13}', 'the erasure is recorded');
SELECT is_empty('SELECT pg_temp.broken()', 'and every record still has its hash');

SELECT * FROM finish();
ROLLBACK;
