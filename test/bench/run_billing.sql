-- A billing run to issued invoices: accounts that each have a recurring item in advance and graduated usage in arrears from roll-ups,
-- taxed. In one session, by two background workers and by one. Beside it INSERT ... SELECT of the very rows that the run wrote, from
-- prepared tables into copies of the tables with their indexes, checks and foreign keys, but without triggers and row-level
-- security; in one session, and in two at once that write half each.
--
-- The first month is billed before, so that the measured ones find tables and indexes as a running installation has them.
-- Processor time is that of the processes that did the work. The workers need a server that preloads billing_erp; elsewhere they
-- are left out.
-- Runs alone too: psql [-v accounts=20000] -f test/bench/run_billing.sql   in an empty database, as superuser
\if :{?accounts}
\else
	\set accounts 200000
\endif
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\o /dev/null
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS billing_erp CASCADE;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);
CREATE TABLE public.timing (what text PRIMARY KEY, seconds numeric NOT NULL, cpu numeric);
-- Processor time of a process, on Linux: where others use the machine too, its ratios are steadier than those of the clock
CREATE FUNCTION public.cpu_seconds(pid text DEFAULT 'self') RETURNS numeric LANGUAGE SQL SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
	SELECT ((t.field[14])::numeric + (t.field[15])::numeric) / 100
	FROM string_to_array(regexp_replace(pg_read_file('/proc/' || pid || '/stat', 0, 10000, true), '\(.*\)', '-'), ' ') AS t (field)
$$;
-- The most memory of its own that a process ever had, in MB: without what it shares
CREATE FUNCTION public.peak_memory(pid text DEFAULT 'self') RETURNS numeric LANGUAGE SQL SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
	SELECT round((max(kb) FILTER (WHERE what = 'VmHWM') - sum(kb) FILTER (WHERE what IN ('RssShmem', 'RssFile'))) / 1024.0, 1)
	FROM (SELECT split_part(line, ':', 1) AS what, substring(line FROM '[0-9]+')::numeric AS kb
		FROM string_to_table(pg_read_file('/proc/' || pid || '/status', 0, 10000, true), E'\n') AS line) s
$$;
CREATE PROCEDURE public.note(what text, started timestamptz, cpu numeric) LANGUAGE SQL AS $$
	INSERT INTO public.timing VALUES (what, extract(epoch FROM clock_timestamp() - started), public.cpu_seconds() - cpu)
$$;
GRANT ALL ON public.timing TO PUBLIC;

SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
\ir ../lib/load_accounts.sql
CALL public.note('load accounts', :'started', :cpu);

-- January: what is due in advance; then its usage
SET SESSION AUTHORIZATION bench_biller;
CALL billing.run_billing('bench', '2026-01-01', '{"phase": "issue"}');
RESET SESSION AUTHORIZATION;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL load.usage('2026-01-01');
CALL public.note('load usage', :'started', :cpu);
VACUUM ANALYZE;
CHECKPOINT;

-- What the baseline starts from: copies that hold the same rows as the tables do now
CREATE SCHEMA copy;
CREATE FUNCTION public.tables() RETURNS TABLE (relation text, id text, columns text) LANGUAGE SQL AS $$
	SELECT t.relation, t.id, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
	FROM (VALUES (1, 'document', 'document_id'), (2, 'invoice', 'invoice_id'), (3, 'invoice_line', 'invoice_id'),
		(4, 'invoice_tax', 'invoice_id'), (5, 'document_step', 'document_id'), (6, 'audit_log', 'audit_id')) AS t (no, relation, id)
	JOIN pg_attribute a ON a.attrelid = ('billing.' || t.relation)::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
	GROUP BY t.no, t.relation, t.id ORDER BY t.no
$$;
CREATE PROCEDURE public.make_copies() LANGUAGE plpgsql AS $$
DECLARE
	t record;
	definition text;
BEGIN
	FOR t IN SELECT * FROM public.tables() LOOP
		EXECUTE format('CREATE TABLE copy.%I (LIKE billing.%1$I INCLUDING ALL)', t.relation);
		EXECUTE format('INSERT INTO copy.%I (%s) SELECT %2$s FROM billing.%1$I', t.relation, t.columns);
	END LOOP;
	FOR definition IN
		SELECT format('ALTER TABLE copy.%I ADD CONSTRAINT %I %s', r.relation, c.conname, regexp_replace(pg_get_constraintdef(c.oid),
			'billing\.(' || (SELECT string_agg(o.relation, '|') FROM public.tables() o) || ')\(', 'copy.\1('))
		FROM public.tables() r
		JOIN pg_constraint c ON c.conrelid = ('billing.' || r.relation)::regclass AND c.contype = 'f'
	LOOP
		EXECUTE definition;
	END LOOP;
END $$;
-- The rows that came after some, as tables of their own
CREATE TABLE public.last_id (relation text PRIMARY KEY, id bigint);
CREATE PROCEDURE public.remember_last() LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	TRUNCATE public.last_id;
	FOR t IN SELECT * FROM public.tables() LOOP
		EXECUTE format('INSERT INTO public.last_id SELECT %1$L, coalesce(max(%2$I), 0) FROM billing.%1$I', t.relation, t.id);
	END LOOP;
END $$;
CREATE PROCEDURE public.prepare(target text) LANGUAGE plpgsql AS $$
DECLARE
	t record;
BEGIN
	EXECUTE format('CREATE SCHEMA %I', target);
	FOR t IN SELECT * FROM public.tables() LOOP
		EXECUTE format('CREATE UNLOGGED TABLE %1$I.%2$I AS SELECT %3$s FROM billing.%2$I WHERE %4$I > (SELECT id FROM public.last_id WHERE relation = %2$L)',
			target, t.relation, t.columns, t.id);
	END LOOP;
END $$;
-- Write one of so many equal parts of them: a document with all that belongs to it, and of the audit log any rows
CREATE PROCEDURE public.write_prepared(source text, part integer, parts integer) LANGUAGE plpgsql AS $$
DECLARE
	t record;
	first bigint;
	past bigint;
BEGIN
	FOR t IN SELECT * FROM public.tables() LOOP
		IF t.relation IN ('document', 'audit_log') THEN
			EXECUTE format('SELECT min(%1$I), max(%1$I) + 1 FROM %2$I.%3$I', t.id, source, t.relation) INTO first, past;
		END IF;
		EXECUTE format('INSERT INTO copy.%1$I (%2$s) SELECT %2$s FROM %3$I.%1$I WHERE %4$I >= $1 AND %4$I < $2', t.relation, t.columns, source, t.id)
		USING first + (past - first) * part / parts, first + (past - first) * (part + 1) / parts;
	END LOOP;
END $$;
CALL public.make_copies();
CALL public.remember_last();
VACUUM ANALYZE;
CHECKPOINT;

-- February in advance, and January's usage in arrears, in one session; then the same rows, prepared
\c -
SET client_min_messages = warning;
\o /dev/null
SET SESSION AUTHORIZATION bench_biller;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL billing.run_billing('bench', '2026-02-01', '{"phase": "issue"}');
CALL public.note('session', :'started', :cpu);
RESET SESSION AUTHORIZATION;
SELECT public.peak_memory() AS session_memory \gset
CALL public.prepare('february');
VACUUM ANALYZE;
CHECKPOINT;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL public.write_prepared('february', 0, 1);
CALL public.note('baseline of one', :'started', :cpu);

-- March by two workers, and its rows written by two sessions at once; April by one
CREATE TABLE public.worker_run (workers integer PRIMARY KEY, run_id bigint);
CREATE TABLE public.worker_sample (workers integer, pid integer, progress numeric, cpu numeric, memory numeric);
GRANT ALL ON public.worker_run TO PUBLIC;
CREATE PROCEDURE public.look_at_workers(workers integer, progress numeric) LANGUAGE SQL AS $$
	INSERT INTO public.worker_sample
	SELECT workers, pid, progress, public.cpu_seconds(pid::text), public.peak_memory(pid::text)
	FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'billing_erp%'
$$;
CREATE PROCEDURE public.set_workers(workers integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..100 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'billing_erp%')
			AND current_setting('billing_erp.run_workers')::integer = workers;
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
	CALL public.look_at_workers(workers, NULL);
END $$;
CREATE PROCEDURE public.wait_for_run(workers integer) LANGUAGE plpgsql AS $$
DECLARE
	run billing.billing_run;
	progress numeric;
BEGIN
	LOOP
		COMMIT;
		PERFORM pg_sleep(0.3);
		SELECT r.* INTO run FROM billing.billing_run r JOIN public.worker_run w USING (run_id) WHERE w.workers = wait_for_run.workers;
		progress := (SELECT avg((s.state = 'done')::integer) FROM billing.run_slice s WHERE s.run_id = run.run_id);
		CALL public.look_at_workers(workers, progress);
		EXIT WHEN run.finished_at IS NOT NULL;
		IF clock_timestamp() > run.started_at + interval '30 minutes' THEN
			RAISE EXCEPTION 'the workers did not finish run %', run.run_id;
		END IF;
	END LOOP;
	INSERT INTO public.timing
	SELECT format('%s workers', workers), extract(epoch FROM run.finished_at - run.started_at), sum(p.cpu)
	FROM (SELECT max(s.cpu) - coalesce(max(s.cpu) FILTER (WHERE s.progress IS NULL), 0) AS cpu
		FROM public.worker_sample s WHERE s.workers = wait_for_run.workers GROUP BY s.pid) p;
END $$;
SELECT current_setting('shared_preload_libraries') ~ 'billing_erp' AND current_setting('billing_erp.run_workers', true) IS NOT NULL AS has_workers \gset
\if :has_workers
	-- nothing else in the background: a check of everything is due once a day, from the first moment on
	SELECT billing.set_task(task, enabled => false) FROM billing.worker_status;
	ALTER SYSTEM SET billing_erp.worker_interval = '1s';
	SELECT format('ALTER SYSTEM SET billing_erp.databases = %L', quote_ident(current_database())) \gexec
	ALTER SYSTEM SET billing_erp.run_workers = 2;
	SELECT pg_reload_conf();
	CALL load.usage('2026-02-01');
	CALL public.remember_last();
	VACUUM ANALYZE;
	CHECKPOINT;
	CALL public.set_workers(2);
	SET SESSION AUTHORIZATION bench_biller;
	INSERT INTO public.worker_run SELECT 2, billing.start_run('bench', '2026-03-01', '{"phase": "issue"}');
	RESET SESSION AUTHORIZATION;
	CALL public.wait_for_run(2);

	CALL public.prepare('march');
	VACUUM ANALYZE;
	CHECKPOINT;
	SELECT dblink_connect(n, format('dbname=%s port=%s host=%s', quote_ident(current_database()), current_setting('port'),
		trim(split_part(current_setting('unix_socket_directories'), ',', 1)))) FROM (VALUES ('first'), ('second')) c (n);
	SELECT clock_timestamp() AS started, 0 AS cpu \gset
	SELECT dblink_send_query('first', $$ CALL public.write_prepared('march', 0, 2) $$),
		dblink_send_query('second', $$ CALL public.write_prepared('march', 1, 2) $$);
	SELECT r.done FROM dblink_get_result('first') AS r (done text);
	SELECT r.done FROM dblink_get_result('second') AS r (done text);
	SELECT r.done FROM dblink_get_result('first') AS r (done text);
	SELECT r.done FROM dblink_get_result('second') AS r (done text);
	INSERT INTO public.timing
	SELECT 'baseline of two', extract(epoch FROM clock_timestamp() - :'started'), sum(c.cpu)
	FROM (VALUES ('first'), ('second')) s (n) CROSS JOIN LATERAL dblink(s.n, 'SELECT public.cpu_seconds()') AS c (cpu numeric);
	SELECT dblink_disconnect(n) FROM (VALUES ('first'), ('second')) c (n);

	ALTER SYSTEM SET billing_erp.run_workers = 1;
	SELECT pg_reload_conf();
	CALL load.usage('2026-03-01');
	VACUUM ANALYZE;
	CHECKPOINT;
	CALL public.set_workers(1);
	SET SESSION AUTHORIZATION bench_biller;
	INSERT INTO public.worker_run SELECT 1, billing.start_run('bench', '2026-04-01', '{"phase": "issue"}');
	RESET SESSION AUTHORIZATION;
	CALL public.wait_for_run(1);
	ALTER SYSTEM RESET billing_erp.databases;
	ALTER SYSTEM RESET billing_erp.run_workers;
	ALTER SYSTEM RESET billing_erp.worker_interval;
	SELECT pg_reload_conf();
\endif

-- Again, with nothing to bill
SELECT max(through_date) AS through FROM billing.billing_run \gset
SELECT max(document_id) AS last_document FROM billing.document \gset
SET SESSION AUTHORIZATION bench_biller;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL billing.run_billing('bench', :'through', '{"phase": "issue"}');
CALL public.note('empty run', :'started', :cpu);
RESET SESSION AUTHORIZATION;
\o

SELECT what, round(seconds, 2) AS seconds, round(cpu, 2) AS processor, round(:accounts / seconds) AS "accounts/s",
	round(cpu * 1000000 / :accounts, 1) AS "processor, us/account"
FROM public.timing;
-- billing.verify() derives every account from its contract on: that of many takes longer than all that is measured here
SELECT :accounts <= 50000 AS verified \gset
SELECT coalesce(string_agg(problem, '; '), 'all were issued' || CASE WHEN :'verified' THEN ', billing.verify() is clean' ELSE '' END) AS check
FROM (
	SELECT format('%s invoices of %s were issued through %s', count(i.number), :accounts, r.through_date) AS problem
	FROM billing.billing_run r
	LEFT JOIN billing.invoice i USING (entity_id, run_id)
	WHERE r.run_id < (SELECT max(run_id) FROM billing.billing_run)
	GROUP BY r.run_id, r.through_date
	HAVING count(i.number) <> :accounts
	UNION ALL
	SELECT 'the numbers have gaps' FROM billing.invoice HAVING count(*) <> max(sequence) OR count(DISTINCT sequence) <> count(*)
	UNION ALL
	SELECT 'lines do not add up to their invoices'
	WHERE (SELECT sum(net) FROM billing.invoice) <> (SELECT sum(amount) FROM billing.invoice_line)
	UNION ALL
	SELECT 'the empty run wrote documents' WHERE (SELECT max(document_id) FROM billing.document) > :last_document
	UNION ALL
	SELECT format('%s: %s', v.invariant, v.violations) FROM billing.verify('bench') v WHERE :'verified' AND v.violations > 0
) p;

-- Invoices per second, by the clock or by processor time: of one thing that was timed, and of another
CREATE PROCEDURE public.report(what text, timed text, baseline text, base_timed text, goal numeric, by_processor boolean, accounts numeric)
LANGUAGE SQL AS $$
	INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
	SELECT report.what, accounts / nullif(CASE WHEN by_processor THEN t.cpu ELSE t.seconds END, 0), 'invoices/s', baseline,
		accounts / nullif(CASE WHEN by_processor THEN b.cpu ELSE b.seconds END, 0), goal
	FROM public.timing t, public.timing b
	WHERE t.what = timed AND b.what = base_timed
$$;
CALL public.report(format('billing run to issued, %s accounts, two workers', :accounts), '2 workers', 'INSERT ... SELECT of its rows, two sessions', 'baseline of two', 0.5, false, :accounts);
CALL public.report('  by processor time', '2 workers', 'INSERT ... SELECT of its rows, two sessions', 'baseline of two', 0.5, true, :accounts);
CALL public.report('  beside one worker', '2 workers', 'one worker', '1 workers', 1.6, false, :accounts);
CALL public.report('  in one session', 'session', 'INSERT ... SELECT of its rows', 'baseline of one', 0.5, false, :accounts);
CALL public.report('  in one session, by processor time', 'session', 'INSERT ... SELECT of its rows', 'baseline of one', 0.5, true, :accounts);
INSERT INTO public.bench_result (what, value, unit, baseline, base_value)
SELECT format('second run over %s accounts, nothing to bill', :accounts), e.seconds, 's', 'the first', s.seconds
FROM public.timing e, public.timing s WHERE e.what = 'empty run' AND s.what = 'session';
INSERT INTO public.bench_result (what, value, unit, baseline, base_value)
SELECT format('memory of a worker at its most, %s accounts', :accounts), max(memory), 'MB', 'when a tenth was billed',
	max(memory) FILTER (WHERE progress <= 0.1)
FROM public.worker_sample
WHERE pid IN (SELECT worker_pid FROM billing.run_slice)
HAVING count(*) > 0;
INSERT INTO public.bench_result (what, value, unit) VALUES ('memory of the session at its most', :session_memory, 'MB');
