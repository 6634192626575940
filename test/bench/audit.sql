-- The audit log: what a record costs its writer, sealing, and verification, each beside what the database itself needs: records
-- against the same rows without trigger and hash, verification against a plain scan of the log that forms its rows.
-- Processor time, because others may use the machine too.
-- Runs alone too: psql [-v records=50000] -f test/bench/audit.sql   in an empty database, as superuser
\if :{?records}
\else
	\set records 200000
\endif
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\o /dev/null
SET client_min_messages = warning;
SET max_parallel_workers_per_gather = 0;
CREATE EXTENSION IF NOT EXISTS billing_erp CASCADE;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);
CREATE TABLE public.audit_timing (what text PRIMARY KEY, seconds numeric NOT NULL);
CREATE FUNCTION public.audit_cpu() RETURNS numeric LANGUAGE SQL SET search_path = pg_catalog, pg_temp AS $$
	SELECT ((t.field[14])::numeric + (t.field[15])::numeric) / 100
	FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 10000, true), '\(.*\)', '-'), ' ') AS t (field)
$$;
SELECT billing.create_entity('audited', 'Audited', 'EUR', 'UTC');
SELECT entity_id AS entity FROM billing.legal_entity WHERE code = 'audited' \gset

-- The records of a billing run
CREATE TABLE public.record AS
SELECT n::text AS object_id, jsonb_build_object('state', 'issued', 'version', 4, 'run', 7, 'account', n, 'billing_date', date '2026-01-01' + n % 28,
	'currency', 'EUR', 'net', n * 0.25, 'tax', round(n * 0.25 * 0.19, 2), 'total', round(n * 0.25 * 1.19, 2), 'number', 'INV-2026-' || lpad(n::text, 7, '0'),
	'issue_date', date '2026-02-01', 'due_date', date '2026-03-03') AS after
FROM generate_series(1, :records) n;
CREATE TABLE public.plain_log (LIKE billing.audit_log INCLUDING INDEXES);
CREATE SEQUENCE public.plain_id;
VACUUM ANALYZE public.record;
GRANT SELECT ON public.record TO billing_owner;

SELECT public.audit_cpu() AS cpu \gset
INSERT INTO public.plain_log SELECT :entity, nextval('public.plain_id'), now(), pg_current_xact_id(), 'system', session_user, 'issue', 'invoice', object_id, NULL, after,
	NULL, 'local', 'psql', NULL, '\x0000000000000000000000000000000000000000000000000000000000000000' FROM public.record;
INSERT INTO public.audit_timing SELECT 'plain', public.audit_cpu() - :cpu;
SELECT public.audit_cpu() AS cpu \gset
SET ROLE billing_owner;
INSERT INTO billing.audit_log (entity_id, action, object_type, object_id, after) SELECT :entity, 'issue', 'invoice', object_id, after FROM public.record;
RESET ROLE;
INSERT INTO public.audit_timing SELECT 'write', public.audit_cpu() - :cpu;
VACUUM ANALYZE billing.audit_log;
CHECKPOINT;

SELECT public.audit_cpu() AS cpu \gset
SELECT billing.seal_audit('audited');
INSERT INTO public.audit_timing SELECT 'seal', public.audit_cpu() - :cpu;
-- once for the caches
SELECT * FROM billing.verify_audit('audited');
SELECT public.audit_cpu() AS cpu \gset
SELECT * FROM billing.verify_audit('audited');
INSERT INTO public.audit_timing SELECT 'verify', public.audit_cpu() - :cpu;
SELECT public.audit_cpu() AS cpu \gset
SELECT count(a.*) FROM billing.audit_log a WHERE entity_id = :entity;
INSERT INTO public.audit_timing SELECT 'scan', public.audit_cpu() - :cpu;
SELECT public.audit_cpu() AS cpu \gset
SELECT billing.audit_proof('audited', (SELECT max(audit_id) - :records / 2 FROM billing.audit_log));
INSERT INTO public.audit_timing SELECT 'proof', public.audit_cpu() - :cpu;

INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT 'audit: records written by a statement', round(:records / w.seconds), 'records/s of a core', 'the same rows without trigger and hash', round(:records / p.seconds), NULL::numeric
FROM public.audit_timing w, public.audit_timing p WHERE w.what = 'write' AND p.what = 'plain'
UNION ALL
SELECT 'audit: records sealed', round(:records / greatest(s.seconds, 0.01)), 'records/s of a core', NULL, NULL::numeric, NULL::numeric FROM public.audit_timing s WHERE s.what = 'seal'
UNION ALL
SELECT 'audit: records verified', round(:records / greatest(v.seconds, 0.01)), 'records/s of a core', 'a plain scan that forms the rows', round(:records / greatest(s.seconds, 0.01)), NULL::numeric
FROM public.audit_timing v, public.audit_timing s WHERE v.what = 'verify' AND s.what = 'scan';
\o
SELECT what, round(1000000 * seconds / :records, 2) AS "µs of a core per record" FROM public.audit_timing WHERE what <> 'proof'
UNION ALL SELECT what, seconds * 1000 FROM public.audit_timing WHERE what = 'proof' ORDER BY 1;
