-- A billing run to issued invoices, in one session: 20 000 accounts, each with a recurring item in advance and graduated
-- usage in arrears, taxed. Beside it INSERT ... SELECT of the very rows that it wrote, from prepared tables into copies of
-- the tables with their indexes, checks and foreign keys, but without triggers and row-level security.
--
-- The first month is billed before, so that the measured one finds tables and indexes as a running installation has them.
-- The processor time beside the clock is that of the backend.
-- Runs alone too: psql [-v accounts=200000] -f test/bench/run_billing.sql   in an empty database, as superuser
\if :{?accounts}
\else
	\set accounts 20000
\endif
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\o /dev/null
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS billing_erp CASCADE;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);
CREATE TABLE public.timing (what text PRIMARY KEY, seconds numeric NOT NULL, cpu numeric);
-- Processor time of this backend, on Linux: where others use the machine too, its ratios are steadier than those of the clock
CREATE FUNCTION public.cpu_seconds() RETURNS numeric LANGUAGE SQL SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT ((t.field[14])::numeric + (t.field[15])::numeric) / 100
	FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 10000, true), '\(.*\)', '-'), ' ') AS t (field)
$$;

-- Who, what and for whom, through the public interface
SELECT billing.create_entity('bench', 'Bench GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('bench_biller', 'Bench');
UPDATE billing.legal_entity SET auto_approve_limit = 1000000 WHERE code = 'bench';
DROP ROLE IF EXISTS bench_biller;
CREATE ROLE bench_biller LOGIN IN ROLE billing_user;
GRANT ALL ON public.timing TO bench_biller;
SELECT billing.add_login('bench_biller', 'bench_biller');
SELECT billing.grant_duty('bench', 'bench_biller', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;

SET SESSION AUTHORIZATION bench_biller;
SELECT billing.add_tax_code('bench', 'standard', 'S', 'Standard rate'),
	billing.add_tax_rate('bench', 'standard', 19, '2021-01-01'),
	billing.add_product('bench', 'seat', 'Seat', tax_code => 'standard'),
	billing.add_product('bench', 'api', 'API calls', tax_code => 'standard'),
	billing.add_meter('bench', 'api.calls', 'API calls'),
	billing.add_price_book('bench', 'list', 'List prices', 'EUR'),
	billing.set_price('bench', 'list', 'seat', '{"model": "per_unit", "unit": "12.50"}', '2026-01-01'),
	billing.set_price('bench', 'list', 'api', '{"model": "graduated", "tiers": [{"up_to": 100, "unit": "0"},
		{"up_to": 1000, "unit": "0.05"}, {"up_to": 5000, "unit": "0.02"}, {"up_to": null, "unit": "0.0125"}]}', '2026-01-01');
INSERT INTO billing.customer (entity_id, code, name, address, postal_code, city, country)
SELECT billing_internal.entity_id('bench'), 'customer-' || n, 'Customer ' || n, 'Street ' || n, '10115', 'Berlin', 'DE'
FROM generate_series(1, :accounts) n;
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT c.entity_id, replace(c.code, 'customer', 'account'), c.customer_id, 'EUR' FROM billing.customer c;
RESET SESSION AUTHORIZATION;
ANALYZE billing.customer, billing.billing_account;
SET SESSION AUTHORIZATION bench_biller;
-- In two steps: plans that were made while a table was empty would read too much of it when it has grown
CREATE FUNCTION pg_temp.add_contracts(first integer, last integer) RETURNS void LANGUAGE SQL AS $$
	SELECT billing.create_contract('bench', 'contract-' || n, 'account-' || n, '2026-01-01') FROM generate_series(first, last) n;
	SELECT billing.add_item('bench', 'contract-' || n, 'seats', 'seat', 'recurring', 1 + n % 50, price_book => 'list'),
		billing.add_item('bench', 'contract-' || n, 'api', 'api', 'usage', price_book => 'list', meter => 'api.calls')
	FROM generate_series(first, last) n;
$$;
SELECT pg_temp.add_contracts(1, 500);
RESET SESSION AUTHORIZATION;
ANALYZE billing.contract, billing.contract_item, billing.contract_item_version, billing.price, billing.product, billing.price_book;
SET SESSION AUTHORIZATION bench_biller;
SELECT pg_temp.add_contracts(501, :accounts);

-- Three events for each account
SELECT sum(i.accepted)
FROM generate_series(0, :accounts - 1, 3000) AS first
CROSS JOIN LATERAL (
	SELECT jsonb_agg(jsonb_build_object('id', n || '-' || e, 'source', '/bench', 'type', 'api.calls',
		'subject', 'account-' || n, 'time', format('2026-01-%sT10:00:00Z', 10 + e),
		'data', jsonb_build_object('quantity', (n * 37 + e * 411) % 4000 / 4.0))) AS events
	FROM generate_series(first + 1, least(first + 3000, :accounts)) n, generate_series(1, 3) e
) b
CROSS JOIN LATERAL billing.ingest_usage('bench', b.events) i;

-- January: what is due in advance
CALL billing.run_billing('bench', '2026-01-01');
SELECT * FROM billing.validate_invoices('bench');
SELECT billing.issue_invoices('bench');
RESET SESSION AUTHORIZATION;
VACUUM ANALYZE;
CHECKPOINT;
SELECT coalesce(max(document_id), 0) AS last_document FROM billing.document \gset
SELECT coalesce(max(audit_id), 0) AS last_audit FROM billing.audit_log \gset

-- What the baseline starts from: copies that hold the same rows as the tables do now
CREATE SCHEMA copy;
CREATE SCHEMA prepared;
CREATE PROCEDURE public.make_copies() LANGUAGE plpgsql AS $$
DECLARE
	relation text;
	definition text;
BEGIN
	FOREACH relation IN ARRAY '{document,invoice,invoice_line,invoice_tax,document_step,audit_log}'::text[] LOOP
		EXECUTE format('CREATE TABLE copy.%I (LIKE billing.%1$I INCLUDING ALL)', relation);
	END LOOP;
	FOREACH relation IN ARRAY '{document,invoice,invoice_line,invoice_tax,document_step}'::text[] LOOP
		FOR definition IN
			SELECT format('ALTER TABLE copy.%I ADD CONSTRAINT %I %s', relation, conname,
				regexp_replace(pg_get_constraintdef(oid), 'billing\.(document|invoice|invoice_line)\(', 'copy.\1('))
			FROM pg_constraint
			WHERE conrelid = ('billing.' || relation)::regclass AND contype = 'f'
		LOOP
			EXECUTE definition;
		END LOOP;
	END LOOP;
END $$;
CREATE PROCEDURE public.copy_rows(source text, target text, condition text) LANGUAGE plpgsql AS $$
DECLARE
	relation text;
	columns text;
BEGIN
	FOREACH relation IN ARRAY '{document,invoice,invoice_line,invoice_tax,document_step,audit_log}'::text[] LOOP
		SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns
		FROM pg_attribute
		WHERE attrelid = ('billing.' || relation)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
		EXECUTE format(CASE target WHEN 'prepared' THEN 'CREATE UNLOGGED TABLE %1$s.%2$I AS SELECT %3$s FROM %4$s.%2$I WHERE %5$s'
			ELSE 'INSERT INTO %1$s.%2$I (%3$s) SELECT %3$s FROM %4$s.%2$I WHERE %5$s' END, target, relation, columns, source,
			replace(condition, '<id>', CASE relation WHEN 'document' THEN 'document_id' WHEN 'document_step' THEN 'document_id'
				WHEN 'audit_log' THEN 'audit_id' ELSE 'invoice_id' END));
	END LOOP;
END $$;
CALL public.make_copies();
CALL public.copy_rows('billing', 'copy', 'true');
VACUUM ANALYZE;
CHECKPOINT;

-- February in advance, and January's usage in arrears: measured
SET SESSION AUTHORIZATION bench_biller;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL billing.run_billing('bench', '2026-02-01');
INSERT INTO public.timing VALUES ('run', extract(epoch FROM clock_timestamp() - :'started'), public.cpu_seconds() - nullif(:'cpu', '')::numeric);
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
SELECT * FROM billing.validate_invoices('bench');
INSERT INTO public.timing VALUES ('validate', extract(epoch FROM clock_timestamp() - :'started'), public.cpu_seconds() - nullif(:'cpu', '')::numeric);
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
SELECT billing.issue_invoices('bench');
INSERT INTO public.timing VALUES ('issue', extract(epoch FROM clock_timestamp() - :'started'), public.cpu_seconds() - nullif(:'cpu', '')::numeric);
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL billing.run_billing('bench', '2026-02-01');
INSERT INTO public.timing VALUES ('second run', extract(epoch FROM clock_timestamp() - :'started'), public.cpu_seconds() - nullif(:'cpu', '')::numeric);
RESET SESSION AUTHORIZATION;

-- The same rows, prepared; then written
CALL public.copy_rows('billing', 'prepared', '<id> > CASE ''<id>'' WHEN ''audit_id'' THEN ' || :last_audit || ' ELSE ' || :last_document || ' END');
VACUUM ANALYZE;
CHECKPOINT;
SELECT clock_timestamp() AS started, public.cpu_seconds() AS cpu \gset
CALL public.copy_rows('prepared', 'copy', 'true');
INSERT INTO public.timing VALUES ('baseline', extract(epoch FROM clock_timestamp() - :'started'), public.cpu_seconds() - nullif(:'cpu', '')::numeric);
\o

SELECT what, round(seconds, 2) AS seconds, round(cpu, 2) AS processor, round(:accounts / seconds) AS "accounts/s"
FROM (SELECT * FROM public.timing UNION ALL
	SELECT 'to issued', sum(seconds), sum(cpu) FROM public.timing WHERE what IN ('run', 'validate', 'issue')) t;
SELECT CASE
		WHEN (SELECT count(*) FROM prepared.invoice WHERE number IS NOT NULL) <> :accounts THEN 'NOT ALL INVOICES WERE ISSUED'
		WHEN (SELECT count(*) FROM prepared.invoice_line) <> 2 * :accounts THEN 'LINES ARE MISSING'
		WHEN EXISTS (SELECT FROM billing.verify('bench') WHERE violations > 0)
			THEN (SELECT string_agg(invariant, ', ') FROM billing.verify('bench') WHERE violations > 0)
		ELSE 'all were issued, billing.verify() is clean'
	END AS check;

INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT format('billing run to issued, %s accounts, one session', :accounts), :accounts / sum(r.seconds), 'invoices/s',
	'INSERT ... SELECT of its rows', :accounts / b.seconds, 0.5
FROM public.timing r, public.timing b
WHERE r.what IN ('run', 'validate', 'issue') AND b.what = 'baseline'
GROUP BY b.seconds;
INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT '  by processor time', :accounts / sum(r.cpu), 'invoices/s', 'INSERT ... SELECT of its rows', :accounts / b.cpu, 0.5
FROM public.timing r, public.timing b
WHERE r.what IN ('run', 'validate', 'issue') AND b.what = 'baseline'
GROUP BY b.cpu
HAVING sum(r.cpu) > 0 AND b.cpu > 0;
INSERT INTO public.bench_result (what, value, unit, baseline, base_value)
SELECT format('  of which %s', r.what), :accounts / r.seconds, 'invoices/s', 'INSERT ... SELECT of its rows', :accounts / b.seconds
FROM public.timing r, public.timing b
WHERE r.what IN ('run', 'validate', 'issue') AND b.what = 'baseline';
INSERT INTO public.bench_result (what, value, unit, baseline, base_value)
SELECT 'second run, nothing to bill', :accounts / r.seconds, 'accounts/s', 'the first run', :accounts / b.seconds
FROM public.timing r, public.timing b
WHERE r.what = 'second run' AND b.what = 'run';
