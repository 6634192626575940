-- Alerts at thresholds: who may add them, when they are raised, once in each period, also when nobody looked for a while.
-- Contracts begin some days before today, in Berlin, so that the running period is known.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(67);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
CREATE FUNCTION pg_temp.today(days integer DEFAULT 0) RETURNS date LANGUAGE sql AS $$ SELECT (now() AT TIME ZONE 'Europe/Berlin')::date + days $$;

CREATE FUNCTION pg_temp.contract(name text, tariff text, starts date DEFAULT pg_temp.today(-5), unit text DEFAULT 'week', meter text DEFAULT 'calls') RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('SELECT billing.add_account(''acme'', %1$L, ''c1'', ''EUR''), billing.create_contract(''acme'', %1$L, %1$L, %2$L, interval_unit => %3$L),
		billing.add_item(''acme'', %1$L, ''use'', ''seat'', ''usage'', tariff => %4$L, meter => %5$L)', name, starts, unit, tariff, meter));
$$;
-- Usage of an account at noon, so many days ago
CREATE SEQUENCE pg_temp.event;
CREATE FUNCTION pg_temp.use(subject text, quantity numeric, days_ago integer DEFAULT 0, region text DEFAULT 'eu', meter text DEFAULT 'calls') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('app', format('SELECT accepted FROM billing.ingest_usage(''acme'', jsonb_build_object(''id'', %L, ''source'', ''s'', ''type'', %L, ''subject'', %L, ''time'', %L, ''data'', jsonb_build_object(''quantity'', %s, ''region'', %L)))',
		nextval('pg_temp.event'), meter, subject, to_char((pg_temp.today(-days_ago) + time '12:00') AT TIME ZONE 'Europe/Berlin' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), quantity, region));
$$;
CREATE FUNCTION pg_temp.alert(contract text, thresholds text, person text DEFAULT 'ada') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told(person, format('SELECT billing.add_usage_alert(''acme'', %L, ''use'', %s)', contract, thresholds));
$$;
CREATE FUNCTION pg_temp.raise(person text DEFAULT 'app') RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.told(person, $q$SELECT billing.raise_usage_alerts('acme')$q$) $$;
-- what was raised for a contract: period from today, threshold, quantity, amount
CREATE FUNCTION pg_temp.raised(of_contract text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s..%s through %s: %s at %s for %s %s', r.period_start - pg_temp.today(), r.period_end - pg_temp.today(), r.through_date - pg_temp.today(),
		concat_ws('/', trim_scale(a.threshold_quantity), trim_scale(a.threshold_amount)), trim_scale(r.quantity), r.amount, r.currency), '; ' ORDER BY r.period_start, r.alert_id)
	FROM billing.usage_alert_raised r
	JOIN billing.usage_alert a USING (entity_id, alert_id)
	JOIN billing.contract_item i USING (entity_id, item_id)
	JOIN billing.contract c USING (entity_id, contract_id)
	WHERE c.code = of_contract;
$$;
-- Turn a clock back, which nobody can do by the interface: when alerts were added, when they were last looked at
CREATE FUNCTION pg_temp.added(days_ago integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	UPDATE billing.usage_alert SET created_at = now() - make_interval(days => days_ago);
	RESET ROLE;
END $$;
CREATE FUNCTION pg_temp.looked(days_ago integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	UPDATE billing.usage_alert_check SET checked_on = pg_temp.today(-days_ago);
	RESET ROLE;
END $$;

SELECT pg_temp.contract('a', '{"model": "per_unit", "unit": "0.5"}');
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'a', 'seats', 'seat', 'recurring', 1, '{"model": "per_unit", "unit": 1}')$$);
-- Who may
SELECT is(left(pg_temp.alert('a', '100', p), 5), 'ZB003', p || ' may not add an alert') FROM unnest('{app,rea,bob,aud,adm}'::text[]) p;
SELECT is(left(pg_temp.raise(p), 5), 'ZB003', p || ' may not raise them') FROM unnest('{rea,bob,aud,adm}'::text[]) p;
SELECT is(pg_temp.try('nob', $$SELECT billing.add_usage_alert('acme', 'a', 'use', 100)$$), 'ZB002', 'who has no duty does not see the entity');
-- What an alert is
SELECT is(pg_temp.try('ada', format('SELECT billing.add_usage_alert(%s)', a)), e, n)
FROM (VALUES
	($$'acme', 'a', 'use'$$, 'ZB001', 'a threshold is needed'),
	($$'acme', 'a', 'use', 1, 1$$, 'ZB001', 'and not two'),
	($$'acme', 'a', 'use', 0$$, 'ZB001', 'above 0'),
	($$'acme', 'a', 'use', -1$$, 'ZB001', 'never negative'),
	($$'acme', 'a', 'use', 'NaN'$$, 'ZB001', 'a number'),
	($$'acme', 'a', 'use', amount => 0$$, 'ZB001', 'an amount above 0'),
	($$'acme', 'a', 'use', amount => 1e27$$, 'ZB001', 'in the range of amounts'),
	($$'acme', 'a', 'nothing', 1$$, 'ZB002', 'an item must exist'),
	($$'acme', 'nothing', 'use', 1$$, 'ZB002', 'in a contract that exists'),
	($$'acme', 'a', 'seats', 1$$, 'ZB001', 'and charge for usage'),
	($$'acme', 'a', NULL, 1$$, 'ZB001', 'it is named')
) AS c (a, e, n);
CREATE TEMP TABLE first_alert AS SELECT pg_temp.alert('a', '100') AS alert;
SELECT is((SELECT alert FROM first_alert), (SELECT alert_id::text FROM billing.usage_alert), 'an alert at a quantity');
SELECT ok(pg_temp.alert('a', 'amount => 50') ~ '^\d+$', 'and one at an amount');
SELECT is(left(pg_temp.alert('a', '100.0'), 5), 'ZB009', 'the same twice is refused');
SELECT is((SELECT array_agg(action || ' ' || (after ->> 'account_id' = (SELECT account_id::text FROM billing.billing_account WHERE code = 'a'))) FROM billing.audit_log WHERE object_type = 'usage_alert'),
	'{"insert true","insert true"}', 'they are audited');

-- Once in a period, and never taken back. 0.5 each, so 100 are 50.00.
SELECT is(pg_temp.raise(), '0', 'without usage nothing is raised');
SELECT pg_temp.use('a', 99, 1);
SELECT is(pg_temp.raise(), '0', 'nor below the threshold');
SELECT pg_temp.use('a', 0.98);
SELECT is(pg_temp.raise(), '0', '99.98 × 0.5 = 49.99');
SELECT pg_temp.use('a', 0.01);
SELECT is(pg_temp.raise(), '1', '99.99 × 0.5 = 49.995, rounded like a line 50.00');
SELECT is(pg_temp.raised('a'), '-5..2 through 0: 50 at 99.99 for 50.00 EUR', 'it says what it saw');
SELECT is(pg_temp.raise(), '0', 'once');
SELECT pg_temp.use('a', 0.01);
SELECT is(pg_temp.raise('ada'), '1', 'the quantity is reached too');
SELECT pg_temp.use('a', -90);
SELECT is(pg_temp.raise(), '0', 'a correction below the threshold');
SELECT is(pg_temp.raised('a'), '-5..2 through 0: 100 at 100 for 50.00 EUR; -5..2 through 0: 50 at 99.99 for 50.00 EUR', 'takes nothing back');
SELECT pg_temp.use('a', 90);
SELECT is(pg_temp.raise(), '0', 'nor is it raised anew');

-- The period before, for usage that comes late; but not one that had ended when the alert was added
SELECT pg_temp.contract('late', '{"model": "per_unit", "unit": "1"}', pg_temp.today(-10));
SELECT pg_temp.use('late', 50, 5), pg_temp.alert('late', '10');
SELECT is(pg_temp.raise(), '0', 'a period that ended before the alert was added is not looked at');
SELECT pg_temp.added(4);
SELECT is(pg_temp.raise() || ' ' || pg_temp.raised('late'), '1 -10..-3 through -4: 10 at 50 for 50.00 EUR', 'one that it saw is, though it is over');
SELECT pg_temp.use('late', 9, 5), pg_temp.use('late', 9, 2);
SELECT is(pg_temp.raise(), '0', 'periods do not add up');
SELECT pg_temp.use('late', 1, 0);
SELECT is(pg_temp.raise(), '1', 'each has its own turn');

-- Nobody looked for a while: a day is a period here. The alert is five days old.
SELECT pg_temp.contract('daily', '{"model": "per_unit", "unit": "1"}', pg_temp.today(-9), 'day');
SELECT pg_temp.use('daily', q, d) FROM (VALUES (20, 6), (5, 5), (30, 4), (40, 2), (50, 1), (60, 0)) AS v (q, d);
SELECT pg_temp.alert('daily', '10'), pg_temp.added(5);
SELECT is(pg_temp.raise() || ' ' || pg_temp.raised('daily'), '2 -1..0 through -1: 10 at 50 for 50.00 EUR; 0..1 through 0: 10 at 60 for 60.00 EUR', 'looked at today: today and the day before');
SELECT pg_temp.looked(3);
SELECT is(pg_temp.raise() || ' ' || pg_temp.raised('daily'), '1 -2..-1 through -2: 10 at 40 for 40.00 EUR; -1..0 through -1: 10 at 50 for 50.00 EUR; 0..1 through 0: 10 at 60 for 60.00 EUR',
	'last looked at three days ago: every day since');
SELECT is((SELECT checked_on FROM billing.usage_alert_check), pg_temp.today(), 'now it was looked at today');
SELECT pg_temp.looked(30);
SELECT is(pg_temp.raise(), '1', 'a month ago: back to the day on which the alert was added');
SELECT is(left(pg_temp.raised('daily'), 44), '-4..-3 through -4: 10 at 30 for 30.00 EUR; -', 'which five of four days ago, 20 of the sixth is not');
SELECT is(pg_temp.raise(), '0', 'and once');

-- Lines of a period together: groups of a matrix, terms that change, lines without a price
SELECT pg_temp.must('ada', $$SELECT billing.add_meter('acme', 'traffic', 'Traffic', group_by => '{region}')$$);
SELECT pg_temp.contract('groups', '{"model": "matrix", "dimensions": ["region"], "cells": [{"match": {"region": "eu"}, "tariff": {"model": "per_unit", "unit": "1"}}, {"match": {"region": "us"}, "tariff": {"model": "per_unit", "unit": "2"}}]}', meter => 'traffic');
SELECT ok(pg_temp.alert('groups', 'amount => 20') ~ '^\d', 'an alert over groups');
SELECT pg_temp.use('groups', 10, 1, 'eu', 'traffic'), pg_temp.use('groups', 4.99, 1, 'us', 'traffic');
SELECT is(pg_temp.raise(), '0', '10 × 1 + 4.99 × 2 = 19.98');
SELECT pg_temp.use('groups', 0.01, 0, 'us', 'traffic'), pg_temp.use('groups', 7, 0, 'mars', 'traffic');
SELECT is(pg_temp.raise() || ' ' || pg_temp.raised('groups'), '1 -5..2 through 0: 20 at 22 for 20.00 EUR', '10 + 5 × 2 = 20; what has no price counts for the quantity only');
SELECT pg_temp.contract('terms', '{"model": "per_unit", "unit": "1"}');
SELECT pg_temp.must('ada', format($$SELECT billing.change_item('acme', 'terms', 'use', %L, tariff => '{"model": "per_unit", "unit": "3"}')$$, pg_temp.today(-1)));
SELECT ok(pg_temp.alert('terms', 'amount => 22') ~ '^\d', 'an alert over terms that change');
SELECT pg_temp.use('terms', 10, 3), pg_temp.use('terms', 4, 0);
SELECT is(pg_temp.raise() || ' ' || pg_temp.raised('terms'), '1 -5..2 through 0: 22 at 14 for 22.00 EUR', '10 × 1 + 4 × 3');
SELECT pg_temp.must('ada', format($$SELECT billing.add_price_book('acme', 'list', 'List', 'EUR'), billing.add_account('acme', 'unpriced', 'c1', 'EUR'), billing.create_contract('acme', 'unpriced', 'unpriced', %L),
	billing.add_item('acme', 'unpriced', 'use', 'seat', 'usage', price_book => 'list', meter => 'calls')$$, pg_temp.today(-5)));
SELECT ok(pg_temp.alert('unpriced', v) ~ '^\d', 'an alert for ' || v) FROM unnest('{5,amount => 0.01}'::text[]) v;
SELECT pg_temp.use('unpriced', 5);
SELECT is(pg_temp.raise(), '1', 'without a price a quantity can be reached, an amount cannot');
SELECT is((SELECT r.amount FROM billing.usage_alert_raised r JOIN billing.usage_alert a USING (entity_id, alert_id) WHERE a.threshold_quantity = 5), NULL, 'which stays unknown');

-- Ended alerts
SELECT pg_temp.contract('ended', '{"model": "per_unit", "unit": "1"}');
CREATE TEMP TABLE ended AS SELECT pg_temp.alert('ended', '5') AS alert;
SELECT is(pg_temp.try('rea', format($$SELECT billing.end_usage_alert('acme', %s)$$, alert)), 'ZB003', 'a reader may not end one') FROM ended;
SELECT is(pg_temp.try('ada', format($$SELECT billing.end_usage_alert('acme', %s)$$, alert)), '', 'a biller may') FROM ended;
SELECT is(pg_temp.try('ada', format($$SELECT billing.end_usage_alert('acme', %s)$$, alert)), 'ZB002', 'once') FROM ended;
SELECT is(pg_temp.try('ada', format('SELECT billing.end_usage_alert(''acme'', %s)', a)), e, n) FROM (VALUES ('NULL', 'ZB001', 'it is named'), ('0', 'ZB002', 'and exists')) AS v (a, e, n);
SELECT pg_temp.use('ended', 10);
SELECT is(pg_temp.raise(), '0', 'what has ended is not raised');
SELECT ok(pg_temp.alert('ended', '5') ~ '^\d', 'the same threshold can be watched again');
SELECT is((SELECT outcome || coalesce(' ' || error, '') FROM billing.run_worker_once(true) WHERE task = 'usage_alerts'), 'done', 'the worker raises them');
SELECT is(pg_temp.raised('ended'), '-5..2 through 0: 5 at 10 for 10.00 EUR', 'as by hand');

-- More accounts than one statement takes: the first and the last of 501
SELECT pg_temp.must('ada', $$SELECT count(*) FROM (SELECT billing.add_account('acme', 'n' || n, 'c1', 'EUR'), billing.create_contract('acme', 'n' || n, 'n' || n, pg_temp.today(-5), interval_unit => 'week'),
	billing.add_item('acme', 'n' || n, 'use', 'seat', 'usage', tariff => '{"model": "per_unit", "unit": 1}', meter => 'calls'), billing.add_usage_alert('acme', 'n' || n, 'use', 1)
	FROM generate_series(1, 501) n OFFSET 0) x$$);
SELECT pg_temp.use('n1', 1), pg_temp.use('n501', 1);
SELECT is(pg_temp.raise(), '2', 'all accounts are looked at');
SELECT is(pg_temp.told('rea', 'SELECT count(*) FROM billing.usage_alert_raised'), (SELECT count(*)::text FROM billing.usage_alert_raised), 'a reader sees what was raised');
SELECT is(pg_temp.told('nob', 'SELECT count(*) FROM billing.usage_alert_raised'), '0', 'who has no duty does not');
SELECT is((SELECT pg_temp.broken() LIMIT 1), NULL, 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
