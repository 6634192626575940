-- What an unknown subject may mean: how names are compared, what each likeness is worth, what earlier aliases teach, what is
-- applied by itself and what never is; first without pg_trgm, then with it.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(98);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme');
SELECT billing.grant_duty('other', 'bob', d) FROM unnest('{contract_manager,price_manager,biller}'::text[]) d;
SELECT pg_temp.stock('acme');
SELECT pg_temp.must('ada', format($$SELECT billing.add_account('acme', %L, 'c1', 'EUR')$$, a))
FROM unnest('{ACME-0042,Globex,initech,AB-1,ab1,"ünïcode-straße",umbrella-east,umbrella-west}'::text[]) a;
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'K1', 'initech', '2026-01-01'),
	billing.add_item('acme', 'K1', 'srv-1', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', own_usage => true),
	billing.add_item('acme', 'K1', 'disk-1', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls'),
	billing.add_usage_alias('acme', 'north/globex', 'Globex'), billing.add_usage_alias('acme', 'old-name', 'initech', valid_to => '2020-01-01'),
	billing.add_usage_alias('acme', 'rack 7', contract => 'K1', item => 'srv-1')$$);

-- What stays of a name
SELECT is(billing_internal.usual_form(name), form, quote_literal(name))
FROM (VALUES
	('ACME-007', 'acme7'), ('Acme 7', 'acme7'), ('acme_000_7', 'acme0 7'), ('1-23', '1 23'), ('12-3', '12 3'), ('123', '123'),
	('000', '0'), ('a0b', 'a0b'), ('A-00-1', 'a0 1'), ('0x00FF', '0x0ff'), ('', ''), ('-/-', ''), ('straße 09', 'straße9'), ('7', '7')
) AS c (name, form);

-- Trigrams in both by trigrams in either, two blanks before a name and one behind
SELECT is(billing_internal.alike(a, b)::text, share, a || ' and ' || b), is(billing_internal.alike(b, a)::text, share, b || ' and ' || a)
FROM (VALUES
	('acme42', 'acme43', '0.5555'),			-- __a _ac acm cme me4, of 7 + 7 - 5
	('night', 'nacht', '0.2000'),			-- __n ht_, of 6 + 6 - 2
	('ACME 7', 'acme-007', '1.0000'),
	('a', 'b', '0.0000'),
	('aaaa', 'aaa', '1.0000'),				-- the same four: __a _aa aaa aa_
	('-', '/', '0.0000')
) AS c (a, b, share);

-- The best suggestion: kind, target, confidence
CREATE FUNCTION pg_temp.best(subject text, nth int DEFAULT 1) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('rea', format($q$SELECT concat_ws(' ', kind, account, contract || '/' || item, confidence)
		FROM billing.suggest_subject('acme', %L) OFFSET %s LIMIT 1$q$, subject, nth - 1));
$$;
CREATE FUNCTION pg_temp.reason(subject text) RETURNS text LANGUAGE sql AS $$
	SELECT reason FROM billing.suggest_subject('acme', subject) LIMIT 1;
$$;
CREATE TEMP TABLE suggestion (subject, best, reason) AS VALUES
	('Globex', 'account Globex 1.0000', 'is the account "Globex"'),
	('acme-0042', 'account ACME-0042 0.9500', 'differs from the account "ACME-0042" only in case'),
	('acme 0042', 'account ACME-0042 0.9200', 'differs from the account "ACME-0042" only in separators or case'),
	('Acme42', 'account ACME-0042 0.9000', 'differs from the account "ACME-0042" only in leading zeros, separators or case'),
	-- 0.5555 x 0.4: another number is another customer
	('ACME-43', 'account ACME-0042 0.2222', 'is similar to the account "ACME-0042": 0.5555, but has other numbers'),
	-- __g _gl glo lob obe bex, of 11 + 7 - 6: 0.5 x 0.8
	('globex corp', 'account Globex 0.4000', 'is similar to the account "Globex": 0.5000'),
	('k1/SRV-1', 'item initech K1/srv-1 0.9500', 'differs from the contract item "K1/srv-1" only in case'),
	('North Globex', 'alias Globex 0.9200', 'differs from the alias "north/globex" only in separators or case'),
	('Rack 07', 'alias initech K1/srv-1 0.9000', 'differs from the alias "rack 7" only in leading zeros, separators or case'),
	-- an alias that has ended is worth half: it was ended for a reason
	('old-name', 'alias initech 0.5000', 'is the alias "old-name", which ended on 2020-01-01'),
	('OLD NAME', 'alias initech 0.4600', 'differs from the alias "old-name" only in separators or case, which ended on 2020-01-01'),
	('ünïcode straße', 'account ünïcode-straße 0.9200', 'differs from the account "ünïcode-straße" only in separators or case'),
	-- two are as good: half of 0.92 for each
	('Ab 1', 'account AB-1 0.4600', 'differs from the account "AB-1" only in separators or case; one of 2 targets that are at least as likely'),
	('umbrella', NULL, NULL),
	('zzz', NULL, NULL), ('///', NULL, NULL), (repeat('x', 256), NULL, NULL);
-- umbrella: __u _um umb mbr bre rel ell lla, of 9 + 13 - 8: 0.5714 x 0.8 = 0.4571; two of them
UPDATE suggestion SET best = 'account umbrella-east 0.2285', reason = 'is similar to the account "umbrella-east": 0.5714; one of 2 targets that are at least as likely'
WHERE subject = 'umbrella';
SELECT is(pg_temp.best(subject), best, subject), is(pg_temp.reason(subject), reason, subject || ': why') FROM suggestion;
SELECT is(pg_temp.best('aB1') || ', ' || pg_temp.best('aB1', 2), 'account ab1 0.9500, account AB-1 0.4600', 'one that is better keeps its confidence, the other loses half');
SELECT is(pg_temp.best('Ab 1', 2), 'account ab1 0.4600', 'of two that are as good both lose half');
SELECT is((SELECT count(*) FROM billing.suggest_subject('acme', 'K1/disk-1') WHERE item = 'disk-1'), 0::bigint, 'an item without usage of its own is none');

-- Refused arguments
SELECT is(pg_temp.try(p, format('SELECT count(*) FROM billing.suggest_subject(%s)', arguments)), answer, p || ': ' || left(arguments, 40))
FROM (VALUES ('rea', $$'acme', ''$$, 'ZB001'), ('rea', $$'acme', NULL$$, 'ZB001'), ('rea', $$'acme', repeat('x', 257)$$, 'ZB001'), ('rea', $$'acme', E'a\nb'$$, 'ZB001'),
	('rea', $$'nowhere', 'x'$$, 'ZB002'), ('nob', $$'acme', 'Globex'$$, 'ZB002'), ('bob', $$'other', 'Globex'$$, '0')) AS c (p, arguments, answer);

-- What waits, and what is thought of it
CREATE FUNCTION pg_temp.send(person text, entity text, VARIADIC subjects text[]) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format($q$SELECT concat_ws('/', accepted, quarantined) FROM billing.ingest_usage(%L, %L)$q$, entity,
		(SELECT jsonb_agg(jsonb_build_object('id', s, 'source', '/s', 'type', 'calls', 'subject', s, 'time', '2026-07-15T12:00:00Z', 'data', '{"quantity": 1}'::jsonb)) FROM unnest(subjects) s)));
$$;
SELECT is(pg_temp.send('app', 'acme', 'acme-0042', 'Acme42', 'ACME-43', 'Ab 1', 'aB1', 'North Globex', 'globeX', 'old-name', 'zzz'), '0/9', 'nine subjects that nobody knows');
SELECT is(pg_temp.must('bob', $$SELECT billing.add_customer('other', 'c', 'C'), billing.add_account('other', 'Globex', 'c', 'EUR'), billing.add_meter('other', 'calls', 'Calls')$$)
	|| pg_temp.send('bob', 'other', 'globex'), '0/1', 'and one in another entity');
SELECT is((SELECT string_agg(format('%s %s %s %s', subject, events, account, confidence), ', ' ORDER BY subject COLLATE "C") FROM billing.unknown_subject WHERE entity = 'acme'),
	'ACME-43 1 ACME-0042 0.2222, Ab 1 1 AB-1 0.4600, Acme42 1 ACME-0042 0.9000, North Globex 1 Globex 0.9200, aB1 1 ab1 0.9500, acme-0042 1 ACME-0042 0.9500, globeX 1 Globex 0.9500, old-name 1 initech 0.5000, zzz 1  ',
	'each with its best suggestion');
SELECT is(pg_temp.told(p, 'SELECT count(*) FROM billing.unknown_subject'), n, p || ' sees what waits in their entities') FROM (VALUES ('rea', '9'), ('bob', '10'), ('nob', '0')) AS c (p, n);

-- Applied by itself
SELECT lives_ok('SELECT billing_internal.apply_suggestions()', 'without a threshold');
SELECT is((SELECT count(*) FROM billing.usage_alias WHERE origin = 'suggestion'), 0::bigint, 'nothing is applied');
SELECT is(pg_temp.told('adm', $$SELECT billing.set_usage_policy('acme', suggestion_threshold => 0.92)$$), '', 'with one of 0.92');
SELECT is(pg_temp.must('ada', $$SELECT billing.add_usage_alias('acme', 'globeX', 'initech', valid_from => '2026-09-01')$$), '', 'and a subject that somebody has decided upon');
SELECT is((SELECT outcome FROM billing.run_worker_once(true) WHERE task = 'suggest_subjects'), 'done', 'the worker');
SELECT is((SELECT string_agg(format('%s %s %s', u.alias, a.code, u.confidence), ', ' ORDER BY u.alias) FROM billing.usage_alias u JOIN billing.billing_account a USING (entity_id, account_id) WHERE u.origin = 'suggestion'),
	'North Globex Globex 0.9200, acme-0042 ACME-0042 0.9500', 'applies what reaches it and has no rival');
SELECT is((SELECT string_agg(format('%s: %s, %s', actor, after, reason), '; ' ORDER BY after ->> 'alias' COLLATE "C") FROM billing.audit_log WHERE action = 'suggest'),
	'system: {"alias": "North Globex", "confidence": 0.9200}, differs from the alias "north/globex" only in separators or case; system: {"alias": "acme-0042", "confidence": 0.9500}, differs from the account "ACME-0042" only in case',
	'and says so, and why');
SELECT lives_ok('SELECT billing_internal.apply_suggestions()', 'once more');
SELECT is((SELECT count(*) FROM billing.usage_alias WHERE origin = 'suggestion'), 2::bigint, 'adds nothing');
SELECT lives_ok('SELECT billing_internal.replay_all_usage()', 'a replay');
SELECT is((SELECT string_agg(e.subject || ' ' || a.code, ', ' ORDER BY e.subject COLLATE "C") FROM billing.usage_event e JOIN billing.billing_account a USING (entity_id, account_id)),
	'North Globex Globex, acme-0042 ACME-0042', 'takes in what waited');
SELECT is(pg_temp.best('NORTH-GLOBEX'), 'alias Globex 0.9200', 'what was only suggested teaches nothing: this is like what a person said');
SELECT is(pg_temp.best('acme 42'), 'account ACME-0042 0.9000', 'nor this');

SELECT is(pg_temp.best('globex corp'), 'account Globex 0.2000', 'the alias globeX of initech halves what is thought of Globex')
	, is(pg_temp.told('ada', $$SELECT billing.end_usage_alias('acme', 'globeX', '2026-09-01')$$), '', 'until it is taken back before it began');

-- With pg_trgm, wherever it is: its words instead of ours
CREATE SCHEMA "Odd ""Place";
CREATE EXTENSION pg_trgm SCHEMA "Odd ""Place";
-- __g _gl glo lob obe bex ex_ and __c _co cor orp rp_, 7 of 12: 0.5833 x 0.8
SELECT is(pg_temp.best('globex corp'), 'account Globex 0.4666', 'similarity is that of pg_trgm');
SELECT is(pg_temp.best(subject), best, subject || ' as before') FROM suggestion WHERE subject IN ('acme-0042', 'Acme42', 'k1/SRV-1', 'OLD NAME', 'zzz');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
