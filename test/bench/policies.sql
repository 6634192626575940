-- Documents against 200 approval policies: by billing_internal.first_policy(), on one core and on all, beside a CASE of the same 200
-- conditions in SQL over the same rows; and with their facts, by match_policies(). Half of the documents get none, so that all
-- policies are asked. All ways must find the same policies. In seconds of processor time where one process works, else of the clock.
-- Runs alone too: psql [-v documents=100000] -f test/bench/policies.sql   in an empty database, as superuser
\if :{?documents}
\else
	\set documents 1000000
\endif
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\o /dev/null
SET client_min_messages = warning;
SET jit = off;
CREATE EXTENSION IF NOT EXISTS billing_erp CASCADE;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);
-- Processor time of this backend, on Linux
CREATE FUNCTION pg_temp.cpu_seconds() RETURNS numeric LANGUAGE SQL AS $$
	SELECT ((t.field[14])::numeric + (t.field[15])::numeric) / 100
	FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 10000, true), '\(.*\)', '-'), ' ') AS t (field)
$$;

-- The policies: bands of amounts with segments and risks, terms of payment, products, deviations, back-dating
CREATE TABLE public.wanted AS
SELECT n, CASE n % 5
	WHEN 0 THEN format('amount >= %s and segment = ''s%s''', 1000 + n * 10, n)
	WHEN 1 THEN format('amount between %s and %s and risk in (''r%s'', ''r%s'')', n * 50, n * 60, n, n + 1)
	WHEN 2 THEN format('payment_days > %s and not (amount < %s or is_first)', 30 + n, n * 100)
	WHEN 3 THEN format('''p%s'' in categories or score >= %s', n, 3.5 + n / 10.0)
	ELSE format('backdated_days > %s and (margin_percent < 10 or discount_percent > %s)', 30 + n % 20, n % 40) END AS condition
FROM generate_series(1, 200) n;
SELECT billing.create_entity('bench', 'Bench', 'EUR', 'Europe/Berlin');
SELECT billing.set_approval_policy('bench', k || lpad(n::text, 3, '0'), k, condition, '[{"duty": "approver"}]', n, '2020-01-01')
FROM public.wanted, unnest('{invoice,refund}'::text[]) k;

-- The documents, without a sort: facts as the rooms give them, and the same as columns
CREATE UNLOGGED TABLE public.document_fact AS
SELECT n, ROW('invoice', (n::bigint * 7919 % 2000000) / 100.0, 'EUR', n % 45, CASE WHEN n % 3 = 0 THEN 5 + n % 60 END, 30, 's' || n % 997, 'r' || n % 499,
	ARRAY['p' || n % 1009, 'x'], n % 10 = 0, n % 45, (n::bigint * 31 % 4000) / 1000.0, 'ada', 'k' || n % 1000)::billing.document_facts AS facts
FROM generate_series(1, :documents) n;
ANALYZE public.document_fact;

-- The same 200 conditions in SQL: fields are columns, a product is looked for with ANY
SELECT 'CASE ' || string_agg(format('WHEN %s THEN %s', regexp_replace(regexp_replace(condition, '(''p\d+'') in categories', '\1 = ANY ((facts).categories)'),
		'\m(amount|segment|risk|payment_days|is_first|score|backdated_days|margin_percent|discount_percent)\M', '(facts).\1', 'g'), n), ' ' ORDER BY n) || ' END' AS expression
FROM public.wanted \gset

CREATE TEMP TABLE measured (what text, rows bigint, seconds numeric, found numeric);
-- One core, all policies
SET max_parallel_workers_per_gather = 0;
SELECT pg_temp.cpu_seconds() AS started \gset
SELECT count(*), count(p), sum((p + 1)::bigint * (n % 1000)) AS found
FROM (SELECT n, billing_internal.first_policy((SELECT billing_internal.policy_set(billing_internal.entity_id('bench'))), 'invoice', facts) AS p FROM public.document_fact OFFSET 0) x \gset
INSERT INTO measured SELECT 'one core', :documents, pg_temp.cpu_seconds() - :started, :found;

-- The baseline, on a tenth of them
SELECT pg_temp.cpu_seconds() AS started \gset
SELECT sum(p * (n % 1000)) AS found FROM (SELECT n, :expression AS p FROM public.document_fact WHERE n <= :documents / 10 OFFSET 0) x \gset
INSERT INTO measured SELECT 'CASE', :documents / 10, pg_temp.cpu_seconds() - :started, :found;
SELECT sum((p + 1)::bigint * (n % 1000)) AS found
FROM (SELECT n, billing_internal.first_policy((SELECT billing_internal.policy_set(billing_internal.entity_id('bench'))), 'invoice', facts) AS p FROM public.document_fact WHERE n <= :documents / 10 OFFSET 0) x \gset
INSERT INTO measured SELECT 'the same tenth', :documents / 10, 1, :found;

-- All cores, by the clock
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT extract(epoch FROM clock_timestamp()) AS started \gset
SELECT sum((billing_internal.first_policy((SELECT billing_internal.policy_set(billing_internal.entity_id('bench'))), 'invoice', facts) + 1)::bigint * (n % 1000)) AS found
FROM public.document_fact \gset
INSERT INTO measured SELECT 'all cores', :documents, extract(epoch FROM clock_timestamp()) - :started, :found;
RESET max_parallel_workers_per_gather;

-- With their facts: documents of a kind of which no room knows more than the header, a tenth of them
SET session_replication_role = replica;
INSERT INTO billing.document (entity_id, kind, state, maker_id, amount, currency)
SELECT billing_internal.entity_id('bench'), 'refund', 'draft', 0, (n::bigint * 7919 % 2000000) / 100.0, 'EUR' FROM generate_series(1, :documents / 10) n;
RESET session_replication_role;
ANALYZE billing.document;
SELECT pg_temp.cpu_seconds() AS started \gset
SELECT count(*) AS found FROM billing_internal.match_policies(billing_internal.entity_id('bench'), (SELECT array_agg(document_id) FROM billing.document)) \gset
INSERT INTO measured SELECT 'match_policies()', :documents / 10, pg_temp.cpu_seconds() - :started, :found;
\o
SELECT what, rows AS documents, round(seconds, 2) AS seconds, round(rows / seconds) AS "documents/s" FROM measured WHERE what <> 'the same tenth';
SELECT CASE WHEN (SELECT count(DISTINCT found) FROM measured WHERE what IN ('one core', 'all cores')) = 1
	AND (SELECT count(DISTINCT found) FROM measured WHERE what IN ('CASE', 'the same tenth')) = 1
	THEN 'all ways find the same policies' ELSE 'THE WAYS DIFFER' END AS check;
INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT '200 policies, ' || r.what, r.rows / r.seconds, 'documents/s', b.what, b.rows / b.seconds, b.goal
FROM measured r, (SELECT 'CASE of 200 conditions, one core' AS what, rows, seconds, NULL::numeric AS goal FROM measured WHERE what = 'CASE'
	UNION ALL SELECT '1 M in 5 s', 1000000, 5, 1) b
WHERE r.what IN ('one core', 'all cores', 'match_policies()') AND (b.goal IS NULL OR r.what <> 'match_policies()')
ORDER BY r.what DESC, b.goal NULLS FIRST;
