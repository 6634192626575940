-- The registry of background tasks: when a task is due, what is kept over a dump, who may see and decide.
BEGIN;
SELECT plan(34);

-- A worker waits while the library is of another version: both are raised together.
SELECT is(billing_internal.library_version(), (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'billing_erp'),
	'the library says the version of the extension');

-- Every task can run.
SELECT is_empty(
	$$SELECT t.task FROM billing.task t WHERE NOT EXISTS (
		SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'billing_internal'::regnamespace
		AND p.proname = t.function_name AND p.pronargs = 0 AND p.prorettype = 'void'::regtype AND p.prokind = 'f')$$,
	'every task has a function without arguments that returns void');
SELECT is_empty(
	'SELECT t.task FROM billing.task t WHERE NOT EXISTS (SELECT FROM billing.task_state s WHERE s.task = t.task)',
	'every task has a state');

-- When a task is due, by hand: noon is its last start
CREATE FUNCTION pg_temp.due(ended interval, attempts integer, run_every interval) RETURNS interval
LANGUAGE sql AS $$
	SELECT billing_internal.task_due_at('2026-03-01 12:00+00', '2026-03-01 12:00+00'::timestamptz + ended, attempts, run_every)
		- '2026-03-01 12:00+00'::timestamptz
$$;
SELECT is(billing_internal.task_due_at(NULL, NULL, 0, '1 day'), '-infinity', 'what never ran is due');
SELECT is(pg_temp.due('3 s', 0, '1 hour'), interval '1 hour', 'after a success: when its interval has passed since its start');
SELECT is(pg_temp.due('3 hours', 0, '1 hour'), interval '1 hour', 'a run longer than the interval: due when it ends');
SELECT is(pg_temp.due(NULL, 1, '1 hour'), interval '0', 'broken off in its very first run: at once');
SELECT is(pg_temp.due('-1 day', 1, '1 hour'), interval '0', 'broken off: at once');
SELECT is(pg_temp.due('-1 day', 2, '1 hour'), interval '2 minutes', 'broken off twice: after 2 minutes');
SELECT is(pg_temp.due('3 s', 1, '1 hour'), interval '1 minute', 'failed: after a minute');
SELECT is(pg_temp.due('3 s', 4, '1 hour'), interval '8 minutes', 'failed four times: after 8 minutes');
SELECT is(pg_temp.due('3 s', 7, '1 hour'), interval '1 hour', 'failures never delay beyond the interval');
SELECT is(pg_temp.due('3 s', 1, '10 s'), interval '10 s', 'a short interval is not made longer');
SELECT is(pg_temp.due('3 s', 2000000000, '366 days'), interval '1024 minutes', 'the delay has an end');

-- What pg_dump keeps: the decisions of administrators and the findings, not what the extension brings.
SELECT is(
	(SELECT string_agg(format('%s [%s]', c.oid::regclass, e.extcondition[x.n]), ', ' ORDER BY c.relname)
	FROM pg_catalog.pg_extension e, LATERAL generate_subscripts(e.extconfig, 1) AS x(n), pg_catalog.pg_class c
	WHERE e.extname = 'billing_erp' AND c.oid = e.extconfig[x.n]
	AND c.relname IN ('task', 'task_run', 'task_setting', 'task_state', 'verification')),
	'billing.task [WHERE false], billing.task_run [WHERE false], billing.task_setting [], billing.task_state [WHERE false], billing.verification []',
	'a dump holds decisions and findings');

-- Settings
SELECT lives_ok($$SELECT billing.set_task('verify', '2 days')$$, 'an interval is set');
SELECT lives_ok($$SELECT billing.set_task('verify', enabled => false)$$, 'a task is disabled');
SELECT results_eq($$SELECT run_every, enabled FROM billing.task_setting WHERE task = 'verify'$$, $$VALUES (interval '2 days', false)$$,
	'the second decision keeps the first');
SELECT results_eq($$SELECT run_every, enabled, is_due FROM billing.worker_status WHERE task = 'verify'$$,
	$$VALUES (interval '2 days', false, false)$$, 'the status follows; what is disabled is not due');
SELECT is_empty($$SELECT FROM billing.run_worker_once(everything => true) WHERE task = 'verify'$$, 'what is disabled is not run');
SELECT lives_ok($$SELECT billing.set_task('verify', keep_days => 30)$$, 'the days of its log are set');
SELECT results_eq($$SELECT run_every, enabled, keep_days FROM billing.task_setting WHERE task = 'verify'$$,
	$$VALUES (interval '2 days', false, 30)$$, 'which leaves the rest as it is');
SELECT throws_ok($$SELECT billing.set_task('verify', keep_days => 0)$$, 'ZB001', 'number of days must be between 1 and 3660', 'a log of no days is refused');
SELECT lives_ok($$SELECT billing.reset_task('verify')$$, 'decisions are taken back');
SELECT is_empty($$SELECT FROM billing.task_setting WHERE task = 'verify'$$, 'then nothing is decided');
SELECT throws_ok($$SELECT billing.set_task('verify', 'infinity'::text::interval)$$, CASE
	WHEN current_setting('server_version_num')::int >= 170000 THEN 'ZB001' ELSE '22007' END, NULL, 'an endless interval is refused');
SELECT throws_ok($$SELECT billing.set_task('verify', '999 ms')$$, 'ZB001', 'interval of a task must be between 1 second and 366 days',
	'less than a second is refused');
SELECT throws_ok($$SELECT billing.set_task(repeat('x', 1000000), '1 day')$$, 'ZB001', NULL, 'a name of a megabyte is refused');

-- Only functions write, and only for administrators
SELECT throws_ok($$INSERT INTO billing.verification (entity_id, invariant, violations) VALUES (0, 'all is well', 0)$$, 'ZB010', NULL,
	'findings are not written by hand');
SELECT throws_ok($$INSERT INTO billing.task_setting VALUES ('verify', '1 day', true)$$, 'ZB010', NULL, 'settings are not written by hand');

SELECT billing.create_entity('wk_one', 'One', 'EUR', 'UTC'), billing.create_entity('wk_two', 'Two', 'EUR', 'UTC');
CREATE ROLE wk_reader LOGIN IN ROLE billing_user;
SELECT billing.add_person('wk_reader', 'Reader'), billing.add_login('wk_reader', 'wk_reader'),
	billing.grant_duty('wk_one', 'wk_reader', 'reader');
SELECT billing.set_task('verify', enabled => true);
SELECT is((SELECT r.outcome FROM billing.run_worker_once(everything => true) r WHERE r.task = 'verify'), 'done', 'verification runs');
SELECT set_eq($$SELECT DISTINCT e.code::text FROM billing.verification v JOIN billing.legal_entity e USING (entity_id)
	WHERE e.code LIKE 'wk%'$$, ARRAY['wk_one', 'wk_two'], 'every entity is verified');
CREATE TEMP TABLE seen (entities text[], status bigint);
GRANT INSERT ON seen TO wk_reader;
SET SESSION AUTHORIZATION wk_reader;
INSERT INTO seen SELECT (SELECT array_agg(DISTINCT coalesce(e.code, '?')::text)
	FROM billing.verification v LEFT JOIN billing.legal_entity e USING (entity_id)), (SELECT count(*) FROM billing.worker_status);
RESET SESSION AUTHORIZATION;
SELECT is((SELECT entities FROM seen), ARRAY['wk_one'], 'a reader sees the findings of their entities');
SELECT is((SELECT status FROM seen), 0::bigint, 'how tasks went is for administrators');

SELECT * FROM finish();
ROLLBACK;
