-- Merkle trees: the vectors of Certificate Transparency, every size up to 70 against the definition of RFC 6962, every path.
-- How blocks, proofs and digests come from records is tested in test/tap/audit_tampering.pl, because a record is sealed when it
-- is committed.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(33);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme');

-- The leaves of the reference tests of Certificate Transparency, and the roots of the first 0 to 8 of them
CREATE TEMP TABLE leaf AS
SELECT n, sha256('\x00'::bytea || decode(content, 'hex')) AS hash
FROM unnest('{"",00,10,2021,3031,40414243,5051525354555657,606162636465666768696a6b6c6d6e6f}'::text[]) WITH ORDINALITY AS l (content, n);
SELECT is(encode(billing_internal.merkle_root(ARRAY(SELECT hash FROM leaf WHERE leaf.n <= v.n ORDER BY n)), 'hex'), root, format('the root of %s leaves', n))
FROM (VALUES
	(0, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'),
	(1, '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'),
	(2, 'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'),
	(3, 'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77'),
	(4, 'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7'),
	(5, '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4'),
	(6, '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef'),
	(7, 'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c'),
	(8, '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328')
) AS v (n, root);

-- The definition, as RFC 6962 has it in 2.1, and the path as in 2.1.1
CREATE FUNCTION pg_temp.mth(leaves bytea[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	n integer := coalesce(cardinality(leaves), 0);
	k integer := 1;
BEGIN
	IF n = 0 THEN RETURN sha256(''); END IF;
	IF n = 1 THEN RETURN leaves[1]; END IF;
	WHILE k * 2 < n LOOP k := k * 2; END LOOP;
	RETURN sha256('\x01'::bytea || pg_temp.mth(leaves[1:k]) || pg_temp.mth(leaves[k + 1:n]));
END $$;
CREATE FUNCTION pg_temp.path(m integer, leaves bytea[]) RETURNS bytea[] LANGUAGE plpgsql AS $$
DECLARE
	n integer := cardinality(leaves);
	k integer := 1;
BEGIN
	IF n = 1 THEN RETURN '{}'; END IF;
	WHILE k * 2 < n LOOP k := k * 2; END LOOP;
	IF m < k THEN RETURN pg_temp.path(m, leaves[1:k]) || pg_temp.mth(leaves[k + 1:n]); END IF;
	RETURN pg_temp.path(m - k, leaves[k + 1:n]) || pg_temp.mth(leaves[1:k]);
END $$;
CREATE TEMP TABLE tree AS
SELECT n, ARRAY(SELECT sha256(int4send(i)) FROM generate_series(1, n) i ORDER BY i) AS leaves FROM generate_series(0, 70) n;
SELECT is_empty('SELECT n FROM tree WHERE billing_internal.merkle_root(leaves) <> pg_temp.mth(leaves)', 'every size up to 70 has the root of the definition');
SELECT is_empty($$SELECT n, m FROM tree, generate_series(0, n - 1) m WHERE n <= 33 AND billing_internal.merkle_path(leaves, m) <> pg_temp.path(m, leaves)$$,
	'every leaf of every size up to 33 has the path of the definition');
SELECT is(billing_internal.merkle_path(leaves, 0), '{}', 'one leaf alone has an empty path') FROM tree WHERE n = 1;
SELECT is(billing_internal.merkle_path(leaves, m), NULL, 'no path to a leaf that is not there') FROM tree, unnest('{-1,5}'::int[]) m WHERE n = 5;
SELECT throws_ok($$SELECT billing_internal.merkle_root(ARRAY['\x00'::bytea])$$, 'ZB001', NULL, 'a leaf is a hash');
SELECT throws_ok($$SELECT billing_internal.merkle_root('{NULL}')$$, 'ZB001', NULL, 'and not null');

-- What is not committed cannot be sealed, so has no proof; who may not see an entity learns nothing of it
SELECT billing.add_person('sealed', 'S');
SELECT is(billing.seal_audit('acme'), 0::bigint, 'records of an open transaction are not sealed');
SELECT is(billing.audit_digest('acme'), NULL, 'there is no digest before the first block');
SELECT is(pg_temp.try(person, call), code, format('%s: %s', person, call))
FROM (VALUES
	('aud', $$SELECT billing.seal_audit('acme')$$, '0'),
	('adm', $$SELECT billing.seal_audit('acme')$$, '0'),
	('ada', $$SELECT billing.seal_audit('acme')$$, 'ZB003'),
	('adm', $$SELECT billing.seal_audit()$$, 'ZB003'),
	('aud', $$SELECT billing.audit_digest('other')$$, 'ZB002'),
	('aud', $$SELECT billing.audit_digest(NULL)$$, 'ZB003'),
	('aud', $$SELECT billing.audit_proof('other', 1)$$, 'ZB002'),
	('aud', $$SELECT billing.audit_proof('acme', 9000000000)$$, 'ZB002'),
	('aud', $$SELECT billing.audit_proof('acme', NULL)$$, 'ZB001'),
	('aud', $$SELECT billing.audit_proof('acme', (SELECT min(audit_id) FROM billing.audit_trail))$$, 'ZB013'),
	('aud', $$SELECT sum(violations) FROM billing.verify_audit('acme')$$, '0'),
	('aud', $$SELECT sum(violations) FROM billing.verify_audit('acme', '{"block": 1, "hash": "00"}')$$, '1'),
	('aud', $$SELECT sum(violations) FROM billing.verify_audit('acme', '{}')$$, 'ZB001'),
	('aud', $$SELECT sum(violations) FROM billing.verify_audit(NULL, '{"block": 1, "hash": "00"}')$$, 'ZB001'),
	('aud', $$SELECT sum(violations) FROM billing.verify_audit('other')$$, 'ZB002')
) AS c (person, call, code);

SELECT * FROM finish();
ROLLBACK;
