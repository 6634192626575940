-- Which times of cron a task gets, and what cron and systemd are told where pg_cron is not there.
BEGIN;
SELECT plan(40);
\ir ../lib/persons.sql

-- ---------------------------------------------------------------------------------------------------------------------
-- Times of cron have minutes; 7 minutes do not divide an hour, nor 5 hours a day, nor 2 days a month

SELECT is(billing_internal.cron_schedule(every::interval), schedule, format('%s: %s', every, schedule))
FROM (VALUES
	('1 second', '* * * * *'), ('10 seconds', '* * * * *'), ('59.999 seconds', '* * * * *'), ('1 minute', '* * * * *'), ('90 seconds', '* * * * *'),
	('2 minutes', '*/2 * * * *'), ('5 minutes', '*/5 * * * *'), ('7 minutes', '* * * * *'), ('15 minutes', '*/15 * * * *'), ('30 minutes', '*/30 * * * *'),
	('45 minutes', '* * * * *'), ('59 minutes', '* * * * *'), ('60 minutes', '0 * * * *'), ('1 hour', '0 * * * *'), ('90 minutes', '* * * * *'), ('1 hour 1 second', '* * * * *'),
	('2 hours', '0 */2 * * *'), ('5 hours', '0 * * * *'), ('12 hours', '0 */12 * * *'), ('24 hours', '0 0 * * *'), ('1 day', '0 0 * * *'), ('2 days', '0 0 * * *'),
	('36 hours', '0 * * * *'), ('1 day 12 hours', '0 * * * *'), ('7 days', '0 0 * * *'), ('366 days', '0 0 * * *'), ('1 month', '* * * * *'), ('1 month 5 minutes', '* * * * *')
) v (every, schedule);
SELECT is(billing_internal.cron_schedule(NULL), NULL, 'no interval, no times');

-- The jobs follow the tasks
SELECT results_eq($$SELECT count(*) FROM billing_internal.wanted_job$$, $$SELECT count(*) + 2 FROM billing.task$$, 'a job for each task, one for billing runs, and one for what was missed');
SELECT billing.set_task('verify', run_every => '12 hours'), billing.set_task('usage_alerts', enabled => false);
SELECT results_eq($$SELECT job, schedule, command FROM billing_internal.wanted_job WHERE job ~ 'verify|usage_alerts|billing_erp run' ORDER BY job COLLATE "C"$$,
	$$VALUES ('billing_erp run_due_jobs', '*/10 * * * *', 'CALL billing.run_due_jobs()'),
		('billing_erp run_slices', '* * * * *', 'CALL billing.run_slices()'),
		('billing_erp verify', '0 */12 * * *', 'CALL billing.run_job(''verify'', if_due => true)')$$, 'at the times that were decided; what is disabled has none');

-- ---------------------------------------------------------------------------------------------------------------------
-- Without pg_cron

SET LOCAL client_min_messages = error;
CREATE TEMP TABLE line AS SELECT * FROM billing.schedule_jobs();
SELECT results_eq('SELECT how, schedule FROM line', $$VALUES ('cron', '* * * * *'), ('systemd', NULL), ('systemd', '*-*-* *:*:00')$$, 'cron and systemd are told');
SELECT is((SELECT command FROM line WHERE how = 'cron'), format(
	'* * * * * PGDATABASE=''%s'' PGUSER=''%s'' PGPORT=%s psql -X -q -c "CALL billing.run_due_jobs()"', current_database(), session_user, current_setting('port')), 'a line for a crontab');
SELECT is((SELECT job FROM line WHERE schedule ~ '-'), format('billing_erp-%s.timer', current_database()), 'a timer');
SELECT is((SELECT job FROM line WHERE schedule IS NULL), format('billing_erp-%s.service', current_database()), 'and its service');
SELECT matches((SELECT command FROM line WHERE schedule IS NULL), format(
	E'^\\[Unit\\]\n.*\n\n\\[Service\\]\nType=oneshot\nEnvironment="PGDATABASE=%s" "PGUSER=%s" PGPORT=%s\nExecStart=psql -X -q -c "CALL billing.run_due_jobs\\(\\)"\n$',
	current_database(), session_user, current_setting('port')), 'which calls the same');
SELECT is_empty('SELECT * FROM billing.unschedule_jobs()', 'nothing is taken back, because nothing was scheduled');

-- Who may
SELECT pg_temp.hire('ada');
SELECT is(pg_temp.told('ada', 'SELECT count(*) FROM ' || f), format('ZB003 session user "%s" is not a member of billing_owner', pg_temp.role_of('ada')), f || ' is for administrators')
FROM unnest('{billing.schedule_jobs(),billing.unschedule_jobs()}'::text[]) f;
SELECT is(pg_temp.try('ada', 'SELECT * FROM billing_internal.wanted_job'), '42501', 'and so are the jobs');

SELECT * FROM finish();
ROLLBACK;
