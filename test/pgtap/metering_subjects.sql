-- Whose usage an event is: aliases by day, accounts, contract items with usage of their own; who may give an alias, and who sees it.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(99);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin');
SELECT pg_temp.staff('acme'), billing.grant_duty('other', 'bob', 'contract_manager'), billing.grant_duty('other', 'bob', 'price_manager'), billing.grant_duty('other', 'bob', 'biller');
SELECT pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'a2', 'c1', 'EUR'), billing.add_account('acme', 'a/b', 'c1', 'EUR'), billing.add_meter('acme', 'bytes', 'Bytes'),
	billing.create_contract('acme', 'k1', 'a1', '2026-01-01'), billing.create_contract('acme', 'k/2', 'a2', '2026-01-01'), billing.create_contract('acme', 'k', 'a1', '2026-01-01'),
	billing.create_contract('acme', 'a', 'a2', '2026-01-01')$$);
SELECT pg_temp.must('ada', format($$SELECT billing.add_item('acme', %L, %L, 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls', own_usage => %L)$$, k, i, o))
FROM (VALUES ('k1', 'own', true), ('k1', 'rest', false), ('k/2', 'x', true), ('k', '2/y', true), ('k', '2/x', true), ('a', 'b', true)) AS v (k, i, o);

-- An event at noon of a day, or at a moment
CREATE FUNCTION pg_temp.event(id text, subject text, at text DEFAULT '2026-07-15T12:00:00Z', type text DEFAULT 'calls') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'source', '/s', 'type', type, 'subject', subject, 'time', at, 'data', '{"quantity": 1}'::jsonb);
$$;
-- accepted/duplicate/conflicting/quarantined
CREATE FUNCTION pg_temp.ingest(events jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('app', format($q$SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.ingest_usage('acme', %L)$q$, events));
$$;
CREATE FUNCTION pg_temp.replay() RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('app', $q$SELECT concat_ws('/', accepted, duplicate, conflicting, quarantined) FROM billing.replay_usage('acme')$q$);
$$;
-- Whose an event became: account, or account item; why it waits otherwise
CREATE FUNCTION pg_temp.whose(id text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce((SELECT concat_ws(' ', a.code, c.code || '/' || i.code)
		FROM billing.usage_event e
		JOIN billing.billing_account a USING (entity_id, account_id)
		LEFT JOIN billing.contract_item i USING (entity_id, item_id)
		LEFT JOIN billing.contract c USING (entity_id, contract_id)
		WHERE e.event_key = id),
		(SELECT string_agg(x.kind || ' ' || x.state, ', ' ORDER BY x.kind) FROM billing.exception x WHERE x.payload ->> 'id' = id));
$$;
CREATE FUNCTION pg_temp.alias(person text, arguments text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format($q$SELECT billing.add_usage_alias(%s)$q$, arguments));
$$;

-- Without aliases: the account's code, then contract/item
SELECT is(pg_temp.ingest(pg_temp.event(s, s)), r, s), is(pg_temp.whose(s), w, s || ': ' || w)
FROM (VALUES
	('a1', '1/0/0/0', 'a1'),
	('k1/own', '1/0/0/0', 'a1 k1/own'),
	('k1/rest', '0/0/0/1', 'usage_unknown_subject open'),
	('k/2/y', '1/0/0/0', 'a1 k/2/y'),
	('k/2/x', '0/0/0/1', 'usage_unknown_subject open'),
	('a/b', '1/0/0/0', 'a/b'),
	('A1', '0/0/0/1', 'usage_unknown_subject open'),
	('k1/', '0/0/0/1', 'usage_unknown_subject open'),
	('/own', '0/0/0/1', 'usage_unknown_subject open'),
	('/', '0/0/0/1', 'usage_unknown_subject open'),
	(repeat('/', 256), '0/0/0/1', 'usage_unknown_subject open')
) AS c (s, r, w);
SELECT is(pg_temp.ingest(pg_temp.event('wrong meter', 'k1/own', type => 'bytes')), '0/0/0/1', 'usage that the item cannot charge');
SELECT is(pg_temp.whose('wrong meter'), 'usage_malformed open', 'is nobody''s, and told');
SELECT is((SELECT detail FROM billing.exception WHERE payload ->> 'id' = 'wrong meter'), 'subject names a contract item that another meter measures', 'with the reason');

-- What an alias may be
SELECT is(pg_temp.alias('ada', arguments), answer, arguments)
FROM (VALUES
	($$'acme', 'srv-1', 'a1'$$, ''),
	($$'acme', 'srv-1', 'a2'$$, 'ZB013 conflicting key value violates exclusion constraint "usage_alias_one_target_a_day"'),
	($$'acme', 'srv-1', 'a1', valid_from => '2030-01-01'$$, 'ZB013 conflicting key value violates exclusion constraint "usage_alias_one_target_a_day"'),
	($$'acme', 'srv-2', contract => 'k1', item => 'own'$$, ''),
	($$'acme', 'srv-3', contract => 'k1', item => 'rest'$$, 'ZB013 item "rest" has no usage of its own'),
	($$'acme', 'srv-3', contract => 'k1', item => 'none'$$, 'ZB002 item "none" does not exist in contract "k1"'),
	($$'acme', 'srv-3', contract => 'none', item => 'own'$$, 'ZB002 contract "none" does not exist'),
	($$'acme', 'srv-3', 'none'$$, 'ZB002 account "none" does not exist'),
	($$'acme', 'srv-3'$$, 'ZB001 an alias is of an account, or of an item of a contract'),
	($$'acme', 'srv-3', 'a1', 'k1', 'own'$$, 'ZB001 an alias is of an account, or of an item of a contract'),
	($$'acme', 'srv-3', 'a1', 'k1'$$, 'ZB001 an alias is of an account, or of an item of a contract'),
	($$'acme', 'srv-3', contract => 'k1'$$, 'ZB001 an alias is of an account, or of an item of a contract'),
	($$'acme', '', 'a1'$$, 'ZB001 alias must have 1 to 256 bytes'),
	($$'acme', NULL, 'a1'$$, 'ZB001 alias must not be null'),
	($$'acme', repeat('ä', 128), 'a1'$$, ''),
	($$'acme', repeat('ä', 128) || 'x', 'a1'$$, 'ZB001 alias must have 1 to 256 bytes'),
	($$'acme', E'srv\t3', 'a1'$$, 'ZB001 alias contains a control character'),
	($$'acme', 'srv-3', 'a1', valid_from => '2026-02-01', valid_to => '2026-01-01'$$, 'ZB001 new row for relation "usage_alias" violates check constraint "usage_alias_ends_after_start"'),
	($$'acme', 'srv-3', 'a1', valid_from => 'infinity'$$, 'ZB001 first day must be a finite date'),
	($$'acme', 'srv-3', 'a1', valid_to => '3000-01-01'$$, 'ZB012 day after the last is out of range'),
	($$'nowhere', 'srv-3', 'a1'$$, 'ZB002 entity "nowhere" does not exist')
) AS c (arguments, answer);
SELECT is((SELECT string_agg(format('%s %s %s %s', l.actor, l.action, l.after ->> 'alias', l.after ->> 'origin'), ', ' ORDER BY l.audit_id)
	FROM billing.audit_log l WHERE l.object_type = 'usage_alias' AND l.after ->> 'alias' LIKE 'srv%'), 'ada insert srv-1 person, ada insert srv-2 person', 'what was added is audited');

-- An alias comes first, whatever else has its name
SELECT is(pg_temp.alias('ada', $$'acme', 'a/b', 'a2', valid_from => '2026-08-01', valid_to => '2026-09-01'$$) || pg_temp.alias('ada', $$'acme', 'a/b', 'a1', valid_from => '2026-09-01'$$),
	'', 'one name may have several aliases, one a day');
CREATE TEMP TABLE dated (s, t, w) AS VALUES
	('srv-1', '2020-01-01T00:00:00Z', 'a1'),
	('srv-2', '2026-07-15T12:00:00Z', 'a1 k1/own'),
	('a/b', '2026-07-31T21:59:59.999999Z', 'a/b'),
	('a/b', '2026-07-31T22:00:00Z', 'a2'),
	('a/b', '2026-08-31T21:59:59Z', 'a2'),
	('a/b', '2026-08-31T22:00:00Z', 'a1');
SELECT is(pg_temp.ingest(pg_temp.event(t || s, s, t)), '1/0/0/0', t || ' ' || s) FROM dated;
SELECT is(pg_temp.whose(t || s), w, t || ' ' || s || ': ' || w) FROM dated;
SELECT is(pg_temp.ingest(jsonb_agg(pg_temp.event('batch ' || day, 'a/b', format('2026-%s-15T00:00:00Z', day)))), '3/0/0/0', 'days on both sides in one call')
FROM unnest('{07,08,09}'::text[]) day;
SELECT is((SELECT string_agg(pg_temp.whose('batch ' || day), ' ' ORDER BY day) FROM unnest('{07,08,09}'::text[]) day), 'a/b a2 a1', 'each to its own');

-- Ending one
SELECT is(pg_temp.told('ada', format($$SELECT billing.end_usage_alias('acme', %s)$$, arguments)), answer, arguments)
FROM (VALUES
	($$'srv-1', '2026-07-01'$$, ''),
	($$'srv-1', '2026-07-01'$$, 'ZB013 alias "srv-1" has ended by that day'),
	($$'srv-1', '2026-06-01'$$, ''),
	($$'srv-9', '2026-07-01'$$, 'ZB002 alias "srv-9" does not exist'),
	($$'srv-1', NULL$$, 'ZB001 day must not be null'),
	($$'a/b', '2026-08-11'$$, '')
) AS c (arguments, answer);
SELECT is((SELECT string_agg(format('%s..%s', valid_from, valid_to), ' ' ORDER BY alias_id) FROM billing.usage_alias WHERE alias IN ('srv-1', 'a/b')),
	'..2026-06-01 2026-08-01..2026-08-11 2026-09-01..2026-09-01', 'what began later never was');
SELECT is(pg_temp.alias('ada', $$'acme', 'srv-1', 'a2', valid_from => '2026-06-01', valid_to => '2026-07-01'$$) || pg_temp.alias('ada', $$'acme', 'a/b', 'a2', valid_from => '2026-09-01'$$),
	'', 'its days are free again');
SELECT is(pg_temp.ingest(jsonb_agg(pg_temp.event('ended ' || day, 'srv-1', format('2026-%s-15T12:00:00Z', day)))), '2/0/0/1', 'before, between and after')
FROM unnest('{05,06,07}'::text[]) day;
SELECT is((SELECT string_agg(pg_temp.whose('ended ' || day), ', ' ORDER BY day) FROM unnest('{05,06,07}'::text[]) day), 'a1, a2, usage_unknown_subject open', 'one day, one target');

-- What waited is taken in by a replay once it has an alias
SELECT is(pg_temp.replay(), '0/0/0/9', 'nothing changed yet');
SELECT is(pg_temp.alias('ada', $$'acme', 'A1', 'a1'$$) || pg_temp.alias('ada', $$'acme', 'k/2/x', contract => 'k/2', item => 'x'$$), '', 'two are mended');
SELECT is((SELECT string_agg(s || ' ' || billing_internal.knows_subject(e.entity_id, s), ', ' ORDER BY s) FROM billing.legal_entity e,
	unnest('{a1,A1,k1/own,k1/rest,k/2/x,k/2/y,k1/,/own,none}'::text[]) s WHERE e.code = 'acme'),
	'/own false, A1 true, a1 true, k/2/x true, k/2/y true, k1/ false, k1/own true, k1/rest false, none false', 'the worker knows which are');
SELECT lives_ok('SELECT billing_internal.replay_all_usage()', 'the worker replays them');
SELECT is(pg_temp.whose('A1') || ', ' || pg_temp.whose('k/2/x'), 'a1, a2 k/2/x', 'to what they were given');
SELECT is(pg_temp.replay(), '0/0/0/7', 'the others wait on');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'usage' AND action = 'replay'), 3::bigint, 'a replay that brought something, or that a person asked for, is audited');
SELECT lives_ok('SELECT billing_internal.replay_all_usage()', 'one that the worker makes in vain');
SELECT is((SELECT count(*) FROM billing.audit_log WHERE object_type = 'usage' AND action = 'replay'), 3::bigint, 'is not');

-- Who may
SELECT is(left(pg_temp.alias(p, $$'acme', 'srv-7', 'a1'$$), 5), e, p || ' adds an alias'),
	is(left(pg_temp.told(p, $$SELECT billing.end_usage_alias('acme', 'srv-2', '2029-01-01')$$), 5), CASE p WHEN 'ada' THEN '' ELSE e END, p || ' ends one')
FROM (VALUES ('ada', ''), ('rea', 'ZB003'), ('app', 'ZB003'), ('adm', 'ZB003'), ('nob', 'ZB002')) AS c (p, e);
SELECT is(pg_temp.told(p, 'SELECT count(*) FROM billing.usage_alias'), n, p || ' sees the aliases of their entities')
FROM (VALUES ('rea', (SELECT count(*)::text FROM billing.usage_alias)), ('nob', '0')) AS c (p, n);
SELECT is(pg_temp.try(p, statement), code, coalesce(p, 'a superuser') || ': ' || statement)
FROM (VALUES ('ada', 'UPDATE billing.usage_alias SET valid_to = NULL', '42501'), (NULL, 'UPDATE billing.usage_alias SET valid_to = NULL', 'ZB010'),
	(NULL, 'DELETE FROM billing.usage_alias', 'ZB008')) AS c (p, statement, code);
SELECT is(pg_temp.must('bob', $$SELECT billing.add_customer('other', 'c', 'C'), billing.add_account('other', 'z', 'c', 'EUR'), billing.add_meter('other', 'calls', 'Calls')$$), '', 'in another entity');
SELECT is(pg_temp.told('bob', format($$SELECT accepted FROM billing.ingest_usage('other', %L)$$, pg_temp.event('e', 'srv-1'))), '0', 'an alias means nothing');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
