-- A month of usage, rolled up and rated from the roll-ups, beside a scan of its events with GROUP BY, each in one process. The
-- events arrive in the order of their time. Measured twice, when a tenth of them is there and when all are: what grows with the events,
-- and what with the items. The two ways must come to the same amounts.
-- Runs alone too: psql [-v events=1000000] [-v items=10000] -f test/bench/usage_rating.sql   in an empty database, as superuser
\if :{?events}
\else
	\set events 1000000
\endif
\if :{?items}
\else
	\set items 10000
\endif
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\o /dev/null
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS billing_erp CASCADE;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);
CREATE TABLE public.timing (part text, what text, seconds numeric NOT NULL, cpu numeric, PRIMARY KEY (part, what));
-- Processor time of this backend, on Linux
CREATE FUNCTION public.cpu_seconds() RETURNS numeric LANGUAGE SQL AS $$
	SELECT ((t.field[14])::numeric + (t.field[15])::numeric) / 100
	FROM string_to_array(regexp_replace(pg_read_file('/proc/self/stat', 0, 10000, true), '\(.*\)', '-'), ' ') AS t (field)
$$;
-- The most memory of its own that this backend ever had, in MB: without what it shares
CREATE FUNCTION public.peak_memory() RETURNS numeric LANGUAGE SQL AS $$
	SELECT round((max(kb) FILTER (WHERE what = 'VmHWM') - sum(kb) FILTER (WHERE what IN ('RssShmem', 'RssFile'))) / 1024.0, 1)
	FROM (SELECT split_part(line, ':', 1) AS what, substring(line FROM '[0-9]+')::numeric AS kb
		FROM string_to_table(pg_read_file('/proc/self/status', 0, 10000, true), E'\n') AS line) s
$$;

SELECT billing.create_entity('bench', 'Bench', 'EUR', 'Europe/Berlin'), billing.add_person('bench', 'Bench'),
	billing.add_login('bench', session_user);
SELECT billing.grant_duty('bench', 'bench', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
SELECT billing.add_meter('bench', 'calls', 'Calls', 'sum', 'n');
INSERT INTO billing.customer (entity_id, code, name) VALUES (billing_internal.entity_id('bench'), 'c', 'Customer');
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT c.entity_id, 'account-' || n, c.customer_id, 'EUR' FROM billing.customer c, generate_series(1, :items) n;
SELECT entity_id AS entity FROM billing.legal_entity WHERE code = 'bench' \gset
SELECT min(account_id) AS first_account FROM billing.billing_account WHERE entity_id = :entity \gset
-- Fifty prices, each of four graduated tiers
CREATE TABLE public.price AS
SELECT n, format('{"model": "graduated", "tiers": [{"up_to": 100, "unit": "0"}, {"up_to": 1000, "unit": "0.0%s"},
	{"up_to": 5000, "unit": "0.02"}, {"up_to": null, "unit": "0.0125"}]}', 20 + n)::billing.tariff AS tariff
FROM generate_series(0, 49) n;
-- The partition of the month
SELECT * FROM billing.ingest_usage('bench', '{"id": "first", "source": "s", "type": "calls", "subject": "account-1", "time": "2026-06-01T00:00:00Z", "data": {"n": 1}}');
ANALYZE billing.billing_account, billing.meter, public.price;

-- Events of a stretch of the month, past the doors, whose speed is measured elsewhere
CREATE PROCEDURE public.load(entity integer, first_account bigint, items integer, events integer, done integer, upto integer) LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL ROLE billing_owner;
	INSERT INTO billing.usage_event (entity_id, source, event_key, event_type, subject, account_id, item_id, meter_id, occurred_at,
		usage_date, quantity, data, content)
	SELECT entity, '/bench', 'event-' || n, 'calls', 'account', first_account + a, first_account + a, m.meter_id, t,
		(t AT TIME ZONE 'Europe/Berlin')::date, (n % 1000) / 4.0, jsonb_build_object('n', (n % 1000) / 4.0), md5(n::text)::uuid
	FROM billing.meter m, generate_series(done + 1, upto) n,
		LATERAL (SELECT floor(random() * items + n * 0)::integer AS a, timestamptz '2026-06-01 00:00+02' + interval '30 days' * (n::numeric / (events + 1))::float8 AS t) r
	WHERE m.entity_id = load.entity;
END $$;
CREATE PROCEDURE public.measure(part text, what text, statement text) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz := clock_timestamp();
	cpu numeric := public.cpu_seconds();
BEGIN
	EXECUTE statement;
	INSERT INTO public.timing VALUES (part, what, extract(epoch FROM clock_timestamp() - started), public.cpu_seconds() - cpu);
END $$;
CREATE PROCEDURE public.measure_all(part text, entity integer) LANGUAGE plpgsql AS $$
BEGIN
	CALL public.measure(part, 'roll-up', $s$ SELECT billing.roll_up_usage('bench') $s$);
	COMMIT;
	DROP TABLE IF EXISTS from_rollups, from_events;
	SET LOCAL max_parallel_workers_per_gather = 0;
	CALL public.measure(part, 'rating', format($s$ CREATE TEMP TABLE from_rollups AS
		SELECT u.item_id, (u.m).quantity AS quantity, billing.rate(p.tariff, (u.m).quantity) AS amount
		FROM (SELECT c.item_id, billing_internal.measure(c.days, c.sample, c.recomputed, 'sum', '2026-06-01', '2026-07-01',
				'Europe/Berlin', 95, 1, NULL, 'nearest') AS m
			FROM (SELECT array_agg(account_id) AS ids FROM billing.billing_account WHERE entity_id = %s) a
			CROSS JOIN LATERAL billing_internal.usage_cells(%1$s, a.ids) c
			GROUP BY c.account_id, c.item_id) u
		JOIN public.price p ON p.n = u.item_id %% 50 $s$, entity));
	CALL public.measure(part, 'raw', format($s$ CREATE TEMP TABLE from_events AS
		SELECT u.item_id, u.quantity, billing.rate(p.tariff, u.quantity) AS amount
		FROM (SELECT e.item_id, sum(e.quantity) AS quantity
			FROM billing.usage_event e
			WHERE e.entity_id = %s AND e.usage_date >= '2026-06-01' AND e.usage_date < '2026-07-01'
			GROUP BY e.account_id, e.item_id) u
		JOIN public.price p ON p.n = u.item_id %% 50 $s$, entity));
	IF EXISTS (SELECT FROM from_rollups r FULL JOIN from_events e USING (item_id)
		WHERE r.quantity IS DISTINCT FROM e.quantity OR r.amount IS DISTINCT FROM e.amount) THEN
		RAISE EXCEPTION 'roll-ups and events differ';
	END IF;
END $$;

-- A tenth, then the rest; each measured in a session of its own
CALL public.load(:entity, :first_account, :items, :events, 0, :events / 10);
VACUUM ANALYZE billing.usage_event;
CHECKPOINT;
\c -
SET client_min_messages = warning;
\o /dev/null
CALL public.measure_all('tenth', :entity);
SELECT public.peak_memory() AS tenth_memory \gset
CALL public.load(:entity, :first_account, :items, :events, :events / 10, :events);
VACUUM ANALYZE billing.usage_event, billing.usage_rollup;
CHECKPOINT;
\c -
SET client_min_messages = warning;
\o /dev/null
CALL public.measure_all('whole', :entity);
SELECT public.peak_memory() AS whole_memory \gset
SELECT count(*) AS in_use FROM from_rollups \gset

INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT format('rating %s items of %s events from roll-ups', :in_use, :events), :in_use / nullif(r.seconds, 0), 'items/s',
	'scan of the events with GROUP BY', :in_use / nullif(b.seconds, 0), 20
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'rating', 'whole', 'raw')
UNION ALL
SELECT 'the same, by processor time', :in_use / nullif(r.cpu, 0), 'items/s', 'scan, by processor time', :in_use / nullif(b.cpu, 0), 20
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'rating', 'whole', 'raw')
UNION ALL
SELECT 'rating from roll-ups, all events', r.seconds, 's', 'a tenth of them', b.seconds, NULL
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'rating', 'tenth', 'rating')
UNION ALL
SELECT 'scan of the events, all', r.seconds, 's', 'a tenth of them', b.seconds, NULL
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'raw', 'tenth', 'raw')
UNION ALL
SELECT format('roll-up of %s events', :events - :events / 10), (:events - :events / 10) / r.seconds, 'events/s',
	format('of the %s before', :events / 10), :events / 10 / b.seconds, NULL
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'roll-up', 'tenth', 'roll-up')
UNION ALL
SELECT 'the same, by processor time', (:events - :events / 10) / r.cpu, 'events/s', format('of the %s before', :events / 10),
	:events / 10 / nullif(b.cpu, 0), NULL
FROM public.timing r, public.timing b WHERE (r.part, r.what, b.part, b.what) = ('whole', 'roll-up', 'tenth', 'roll-up')
UNION ALL
SELECT 'memory of the backend at its most, roll-up and rating', :whole_memory, 'MB', 'with a tenth of the events', :tenth_memory, NULL;
\o
