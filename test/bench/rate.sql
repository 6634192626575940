-- rate() over 1 M quantities and 50 prices of four graduated tiers, on one core, beside the same work as set-based SQL
-- with LATERAL over a table of tiers, as PL/pgSQL over arrays with the amounts of the tiers below worked out beforehand,
-- and beside the bare scan. All are run in turn, five times, and the best of each counts, in seconds of processor time, so
-- that what else the machine does matters little; all must give the same sum.
-- Runs alone too: psql -f test/bench/rate.sql

SET max_parallel_workers_per_gather = 0;
SET jit = off;
SET work_mem = '64MB';
SET search_path = pg_temp, pg_catalog;

CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
    base_value numeric, goal numeric);

-- The data: prices with bounds, unit prices and flats of their own; quantities of up to three decimals in every tier
CREATE TEMP TABLE price AS
SELECT
    p AS price_id,
    format(
        '{"model": "graduated", "tiers": [{"up_to": %s, "unit": "%s", "flat": "2"}, {"up_to": %s, "unit": "%s"},
          {"up_to": %s, "unit": "%s", "flat": "0.5"}, {"up_to": null, "unit": "%s"}]}',
        1000 + p, 0.1 + p / 1000.0::numeric(10, 3), 5000 + p, 0.05 + p / 10000.0::numeric(10, 4), 20000 + p,
        0.02 + p / 10000.0::numeric(10, 4), 0.01 + p / 10000.0::numeric(10, 4)
    )::billing.tariff AS tariff
FROM generate_series(1, 50) p;

CREATE TEMP TABLE tier AS
SELECT
    price_id,
    n AS tier,
    coalesce(lag((t ->> 'up_to')::numeric) OVER w, 0) AS lower,
    (t ->> 'up_to')::numeric AS up_to,
    (t ->> 'unit')::numeric AS unit,
    coalesce((t ->> 'flat')::numeric, 0) AS flat
FROM price, jsonb_array_elements(tariff::jsonb -> 'tiers') WITH ORDINALITY e (t, n)
WINDOW w AS (PARTITION BY price_id ORDER BY n);
ALTER TABLE tier ADD PRIMARY KEY (price_id, tier);

CREATE TEMP TABLE price_array AS
SELECT
    price_id,
    array_agg(up_to ORDER BY tier) AS up_to,
    array_agg(lower ORDER BY tier) AS lower,
    array_agg(unit ORDER BY tier) AS unit,
    array_agg(base ORDER BY tier) AS base
FROM (
    SELECT *, flat + coalesce(sum((up_to - lower) * unit + flat) OVER (PARTITION BY price_id ORDER BY tier ROWS
        BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS base
    FROM tier
) t
GROUP BY price_id;

CREATE FUNCTION pg_temp.rate_arrays(q numeric, up_to numeric[], lower numeric[], unit numeric[], base numeric[])
RETURNS numeric
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    i int := 1;
BEGIN
    IF q = 0 THEN
        RETURN 0;
    END IF;
    WHILE q > up_to[i] LOOP
        i := i + 1;
    END LOOP;
    RETURN base[i] + (q - lower[i]) * unit[i];
END $$;

CREATE TEMP TABLE usage AS
SELECT 1 + i % 50 AS price_id, (i::bigint * 7919 % 30000000 / 1000.0)::numeric(12, 3) AS quantity
FROM generate_series(1, 1000000) i;

ANALYZE price, tier, price_array, usage;

-- The processor time of this session, where Linux tells it, else the clock
CREATE FUNCTION pg_temp.seconds() RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    field text[];
BEGIN
    field := string_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '^.*\) ', ''), ' ');
    RETURN (field[12]::numeric + field[13]::numeric) / 100;
EXCEPTION WHEN OTHERS THEN
    RETURN extract(epoch FROM clock_timestamp());
END $$;

CREATE TEMP TABLE measured (id serial, what text, query text, by_index boolean DEFAULT false, seconds numeric, result numeric);
INSERT INTO measured (what, query) VALUES
    ('bare scan', 'SELECT sum(quantity) FROM usage'),
    ('scan and join', 'SELECT sum(quantity) FROM usage JOIN price USING (price_id)'),
    ('rate()', 'SELECT sum(billing.rate(tariff, quantity)) FROM usage JOIN price USING (price_id)'),
    ('PL/pgSQL over arrays', '
        SELECT sum(pg_temp.rate_arrays(quantity, up_to, lower, unit, base))
        FROM usage JOIN price_array USING (price_id)'),
    ('rate_exact()',
        'SELECT sum(billing_internal.rate_exact(tariff, quantity, NULL)) FROM usage JOIN price USING (price_id)');
-- By the index is the best plan of the baseline here
INSERT INTO measured (what, by_index, query) VALUES
    ('SQL with LATERAL', true, '
        SELECT sum(r.amount)
        FROM usage u, LATERAL (
            SELECT sum((least(u.quantity, t.up_to) - t.lower) * t.unit + t.flat) AS amount
            FROM tier t
            WHERE t.price_id = u.price_id AND u.quantity > t.lower
        ) r');

DO $$
DECLARE
    m record;
    started numeric;
    taken numeric;
    total numeric;
BEGIN
    FOR round IN 1..5 LOOP
        FOR m IN SELECT id, query, by_index FROM measured ORDER BY id LOOP
            PERFORM set_config('enable_seqscan', (NOT m.by_index)::text, true);
            PERFORM set_config('enable_bitmapscan', (NOT m.by_index)::text, true);
            started := pg_temp.seconds();
            EXECUTE m.query INTO total;
            taken := pg_temp.seconds() - started;
            UPDATE measured SET seconds = least(seconds, taken), result = total WHERE id = m.id;
        END LOOP;
    END LOOP;
END $$;

SELECT what, round(seconds, 3) AS seconds, round(1000000 / seconds) AS "rows/s",
    round(seconds / (SELECT seconds FROM measured WHERE what = 'rate()'), 2) AS "times rate()"
FROM measured ORDER BY seconds;

SELECT CASE WHEN count(DISTINCT result) = 1 THEN 'all sums are equal' ELSE 'THE SUMS DIFFER: ' || string_agg(what || ' = '
    || result, ', ') END AS check
FROM measured
WHERE what NOT IN ('bare scan', 'scan and join');

INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT 'rate(), 4 graduated tiers, 50 prices, 1 M rows', 1000000 / r.seconds, 'rows/s', b.what, 1000000 / b.seconds,
    CASE b.what WHEN 'SQL with LATERAL' THEN 12 WHEN 'PL/pgSQL over arrays' THEN 5 END
FROM measured r, measured b
WHERE r.what = 'rate()' AND b.what <> r.what
ORDER BY b.seconds DESC;
