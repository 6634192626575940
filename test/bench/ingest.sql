-- Usage ingest through its three doors, each beside the same rows written raw into a table with nothing but the unique index
-- (entity, source, id): in one session, in turns, one transaction per batch, random uuid keys as text.
-- What an ingest does beyond that: read and check the events, find account and meter, hash, compare, quarantine, two indexes more.
-- Runs alone too: psql [-v events=5000000] [-v accounts=100000] -f test/bench/ingest.sql in an empty database, as superuser; in a
-- bench of its own: test/bench/run with T=ingest and EVENTS=5000000
\if :{?events}
\else
	\set events `echo "${EVENTS:-1000000}"`
\endif
\if :{?accounts}
\else
	\set accounts 100000
\endif
\set QUIET on
\pset footer off
SET client_min_messages = warning;
SET search_path = pg_catalog, pg_temp;
CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;
SET search_path = public;
CREATE EXTENSION IF NOT EXISTS billing_erp;
CREATE TABLE IF NOT EXISTS public.bench_result (id serial, what text NOT NULL, value numeric, unit text, baseline text,
	base_value numeric, goal numeric);

DO $$
BEGIN
	PERFORM billing.create_entity('bench', 'Bench', 'EUR', 'Europe/Rome');
	PERFORM billing.add_person('bench', 'Bench');
	PERFORM billing.add_login('bench', session_user);
	PERFORM billing.grant_duty('bench', 'bench', d) FROM unnest('{biller,contract_manager,price_manager}'::text[]) d;
END $$;
INSERT INTO billing.customer (entity_id, code, name) VALUES (billing_internal.entity_id('bench'), 'c', 'Customer');
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT c.entity_id, 'account-' || n, c.customer_id, 'EUR'
FROM billing.customer c, generate_series(1, :accounts) n;
SELECT billing.add_meter('bench', 'meter-' || n, 'Meter', 'sum', 'quantity') FROM generate_series(1, 5) n \g /dev/null
ANALYZE billing.billing_account, billing.meter;

-- The same events in every form: a month of them, as rows for the raw tables, JSON texts, arrays, and files for COPY
CREATE UNLOGGED TABLE source_row AS
SELECT n, (n - 1) / 10000 AS batch, gen_random_uuid()::text AS event_key, 1 + (random() * (:accounts - 1))::bigint AS account,
	1 + n % 5 AS meter, timestamptz '2026-07-01 12:00Z' + n * (interval '29 days' / :events) AS occurred_at, (n % 1000) / 8.0 AS quantity
FROM generate_series(1, :events) n;
CREATE UNLOGGED TABLE prepared AS
SELECT a.entity_id, r.batch, r.n AS event_id, '/meters/eu-1'::text AS source, r.event_key, 'meter-' || r.meter AS event_type,
	'account-' || r.account AS subject, a.account_id, m.meter_id, r.occurred_at,
	(r.occurred_at AT TIME ZONE 'Europe/Rome')::date AS usage_date, r.quantity, NULL::numeric AS expected_amount,
	jsonb_build_object('quantity', r.quantity, 'region', 'eu-1') AS data,
	sha256(convert_to(r.event_key, 'UTF8')) AS content_hash, now() AS ingested_at, pg_current_xact_id() AS transaction_id
FROM source_row r
JOIN billing.billing_account a ON a.code = 'account-' || r.account
JOIN billing.meter m ON m.code = 'meter-' || r.meter
ORDER BY r.n;
CREATE INDEX ON prepared (batch);
ANALYZE prepared;
CREATE UNLOGGED TABLE source_batch AS
SELECT batch, jsonb_agg(jsonb_build_object('specversion', '1.0', 'id', event_key, 'source', source, 'type', event_type, 'subject', subject,
		'time', to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'data', data) ORDER BY event_id)::text AS events,
	array_agg(event_key ORDER BY event_id) AS id, array_agg(event_type ORDER BY event_id) AS type,
	array_agg(subject ORDER BY event_id) AS subject, array_agg(occurred_at ORDER BY event_id) AS "time",
	array_agg(data ORDER BY event_id) AS data
FROM prepared GROUP BY batch;
CREATE TABLE raw_unique (
	entity_id integer NOT NULL, event_id bigint NOT NULL, source text NOT NULL, event_key text NOT NULL, event_type text NOT NULL,
	subject text NOT NULL, account_id bigint NOT NULL, meter_id bigint NOT NULL, occurred_at timestamptz NOT NULL, usage_date date NOT NULL,
	quantity numeric NOT NULL, expected_amount numeric, data jsonb, content_hash bytea NOT NULL, ingested_at timestamptz NOT NULL,
	transaction_id xid8 NOT NULL, UNIQUE (entity_id, source, event_key));
CREATE TABLE timing (what text PRIMARY KEY, events bigint DEFAULT 0, seconds numeric DEFAULT 0);

-- The files are in the data directory, a pair for ten batches
CREATE FUNCTION file_of(kind text, part integer) RETURNS text LANGUAGE sql AS
	$$ SELECT format('%s/bench_%s_%s', current_setting('data_directory'), kind, part) $$;
DO $$
BEGIN
	FOR part IN 0 .. (SELECT max(batch) / 10 FROM prepared) LOOP
		EXECUTE format('COPY (SELECT entity_id, event_id, source, event_key, event_type, subject, account_id, meter_id, occurred_at,
			usage_date, quantity, expected_amount, data, content_hash, ingested_at, transaction_id FROM prepared
			WHERE batch BETWEEN %s AND %s ORDER BY event_id) TO %L', part * 10, part * 10 + 9, file_of('raw', part));
		EXECUTE format('COPY (SELECT ''bench'', source, event_key, event_type, subject, occurred_at, data FROM prepared
			WHERE batch BETWEEN %s AND %s ORDER BY event_id) TO %L', part * 10, part * 10 + 9, file_of('inbox', part));
	END LOOP;
END $$;

-- Add what was done since a moment to a timing
CREATE FUNCTION took(measured text, since timestamptz, many bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO timing VALUES (measured, many, extract(epoch FROM clock_timestamp() - since))
	ON CONFLICT (what) DO UPDATE SET events = timing.events + excluded.events, seconds = timing.seconds + excluded.seconds;
$$;
-- Take in one batch through a door
CREATE FUNCTION take_in(door text, b bigint) RETURNS bigint LANGUAGE sql AS $$
	SELECT CASE door
		WHEN 'json' THEN (SELECT (billing.ingest_usage('bench', events::jsonb)).accepted FROM source_batch WHERE batch = b)
		WHEN 'arrays' THEN (SELECT (billing.ingest_usage('bench', '{/meters/eu-1}', id, type, subject, "time", data)).accepted FROM source_batch WHERE batch = b)
		END;
$$;
-- Batches of one door, each beside the same rows raw
CREATE PROCEDURE run_batches(door text) LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	total bigint := 0;
	many bigint;
BEGIN
	FOR b IN 0 .. (SELECT max(batch) FROM source_batch) LOOP
		started := clock_timestamp();
		INSERT INTO raw_unique SELECT entity_id, event_id, source, event_key, event_type, subject, account_id, meter_id,
			occurred_at, usage_date, quantity, expected_amount, data, content_hash, ingested_at, transaction_id
			FROM prepared WHERE batch = b ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS many = ROW_COUNT;
		COMMIT;
		PERFORM took('raw beside ' || door, started, many);
		COMMIT;
		started := clock_timestamp();
		total := total + take_in(door, b);
		COMMIT;
		PERFORM took(door, started, many);
		COMMIT;
	END LOOP;
	IF total <> (SELECT count(*) FROM raw_unique) THEN
		RAISE EXCEPTION '% accepted, % stored raw', total, (SELECT count(*) FROM raw_unique);
	END IF;
END $$;
-- Batches of one door alone
CREATE PROCEDURE run_alone(door text, first bigint, last bigint) LANGUAGE plpgsql AS $$
BEGIN
	FOR b IN first .. last LOOP
		PERFORM take_in(door, b);
		COMMIT;
	END LOOP;
END $$;
-- The inbox: COPY and drain, beside COPY into the raw table
CREATE PROCEDURE run_inbox() LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	total bigint := 0;
	many bigint;
BEGIN
	FOR part IN 0 .. (SELECT max(batch) / 10 FROM source_batch) LOOP
		started := clock_timestamp();
		EXECUTE format('COPY raw_unique FROM %L', file_of('raw', part));
		GET DIAGNOSTICS many = ROW_COUNT;
		COMMIT;
		PERFORM took('raw COPY', started, many);
		COMMIT;
		started := clock_timestamp();
		EXECUTE format('COPY billing.usage_inbox (entity, source, id, type, subject, time, data) FROM %L', file_of('inbox', part));
		COMMIT;
		PERFORM took('inbox: COPY alone', started, many);
		COMMIT;
		total := total + (SELECT accepted FROM billing.drain_usage_inbox('bench'));
		COMMIT;
		PERFORM took('inbox', started, many);
		COMMIT;
	END LOOP;
	IF total <> (SELECT count(*) FROM raw_unique) THEN
		RAISE EXCEPTION '% accepted, % stored raw', total, (SELECT count(*) FROM raw_unique);
	END IF;
END $$;
-- Begin anew
CREATE PROCEDURE forget() LANGUAGE plpgsql AS $$
BEGIN
	SET LOCAL session_replication_role = replica;
	TRUNCATE raw_unique, billing.usage_event, billing.usage_key;
	SET LOCAL session_replication_role = origin;
	COMMIT;
END $$;

-- the partition is there before anything is measured
SELECT take_in('json', 0) \g /dev/null
CALL forget();
CHECKPOINT;
CALL run_batches('arrays');
CALL forget();
CHECKPOINT;
CALL run_inbox();
CALL forget();
CHECKPOINT;
CALL run_batches('json');
-- all of it once more: nothing but duplicates
SELECT clock_timestamp() AS started \gset
CALL run_alone('json', 0, (:events - 1) / 10000);
SELECT took('json, the same again', :'started', :events) \g /dev/null
SELECT sum(pg_table_size(c.oid)) AS event_bytes, sum(pg_indexes_size(c.oid)) AS index_bytes FROM pg_partition_tree('billing.usage_event') p JOIN pg_class c ON c.oid = p.relid \gset
SELECT pg_total_relation_size('billing.usage_key') AS key_bytes, pg_table_size('raw_unique') AS raw_bytes, pg_indexes_size('raw_unique') AS raw_index_bytes \gset

-- One connection over the first half, then two over a quarter each
CALL forget();
CHECKPOINT;
\setenv PGDATABASE :DBNAME
SELECT :events / 20000 - 1 AS half, :events / 40000 + :events / 20000 - 1 AS third, :events / 10000 - 1 AS all \gset
\setenv HALF :half
\setenv THIRD :third
\setenv ALL :all
SELECT clock_timestamp() AS started \gset
CALL run_alone('json', 0, :half);
SELECT took('json, one connection', :'started', (:half + 1) * 10000) \g /dev/null
CHECKPOINT;
SELECT clock_timestamp() AS started \gset
\! psql -Xqc "CALL run_alone('json', $HALF + 1, $THIRD)" & psql -Xqc "CALL run_alone('json', $THIRD + 1, $ALL)"; wait
SELECT took('json, two connections', :'started', (:all - :half) * 10000) \g /dev/null

INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT format('usage ingest, %s, %s events', v.name, i.events), i.events / i.seconds, 'events/s', v.baseline, r.events / r.seconds, v.goal
FROM (VALUES
	(1, 'json', 'JSON batches of 10 000', 'raw beside json', 'raw INSERT ... SELECT ... ON CONFLICT', 0.6),
	(2, 'arrays', 'arrays of 10 000', 'raw beside arrays', 'raw INSERT ... SELECT ... ON CONFLICT', 0.8),
	(3, 'inbox', 'COPY and drain', 'raw COPY', 'raw COPY', 0.5),
	(4, 'inbox: COPY alone', 'COPY into the inbox alone', 'raw COPY', 'raw COPY', NULL),
	(5, 'json, the same again', 'JSON, duplicates only', 'json', 'JSON, the first time', NULL),
	(6, 'json, two connections', 'JSON, two connections', 'json, one connection', 'one connection', 1.6)) v (n, what, name, base, baseline, goal)
JOIN timing i ON i.what = v.what JOIN timing r ON r.what = v.base
ORDER BY v.n;
INSERT INTO public.bench_result (what, value, unit, baseline, base_value)
SELECT 'bytes per stored event, with keys and indexes', (:event_bytes + :index_bytes + :key_bytes)::numeric / :events, 'bytes', 'raw table with its unique index',
	(:raw_bytes + :raw_index_bytes)::numeric / :events;
