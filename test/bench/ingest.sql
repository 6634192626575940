-- Usage ingest in batches of 10 000 events beside raw INSERT ... SELECT ... ON CONFLICT DO NOTHING of the same rows, in one
-- session, one transaction per batch, random keys; the time of an ingest contains reading the JSON text.
-- Runs alone too: psql [-v events=300000] [-v accounts=20000] -f test/bench/ingest.sql in an empty database, as superuser
\if :{?events}
\else
	\set events 300000
\endif
\if :{?accounts}
\else
	\set accounts 20000
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
SELECT billing.add_meter('bench', 'meter-' || n, 'Meter', 'sum', 'quantity') FROM generate_series(1, 50) n \g /dev/null
ANALYZE billing.billing_account, billing.meter;

-- The same events three times: as JSON batches, as rows for the raw tables
CREATE UNLOGGED TABLE source_row AS
SELECT n, (n - 1) / 10000 AS batch, gen_random_uuid()::text AS event_key, 1 + (random() * (:accounts - 1))::bigint AS account,
	1 + n % 50 AS meter, timestamptz '2026-07-01' + n * interval '1 second' AS occurred_at, (n % 1000) / 8.0 AS quantity
FROM generate_series(1, :events) n;
CREATE UNLOGGED TABLE source_batch AS
SELECT batch, jsonb_agg(jsonb_build_object('specversion', '1.0', 'id', event_key, 'source', '/meters/eu-1', 'type', 'meter-' || meter,
	'subject', 'account-' || account, 'time', to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
	'data', jsonb_build_object('quantity', quantity, 'region', 'eu-1')))::text AS events
FROM source_row GROUP BY batch;
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
-- the same columns and indexes as billing.usage_event, without its checks; and with nothing but the unique index
CREATE TABLE raw_same (LIKE billing.usage_event INCLUDING INDEXES);
CREATE TABLE raw_unique (LIKE billing.usage_event);
ALTER TABLE raw_unique ADD UNIQUE (entity_id, source, event_key);
CREATE TEMP TABLE timing (what text, seconds numeric);
CHECKPOINT;

-- Batch by batch in turns, so that whatever else the machine does hits all alike
CREATE PROCEDURE load_all() LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	batch_events jsonb;
	total bigint := 0;
	taken bigint;
	target text;
BEGIN
	FOR b IN 0 .. (SELECT max(batch) FROM source_batch) LOOP
		FOREACH target IN ARRAY '{raw_unique,raw_same}'::text[] LOOP
			started := clock_timestamp();
			EXECUTE format('INSERT INTO %s SELECT entity_id, event_id, source, event_key, event_type, subject, account_id, meter_id,
				occurred_at, usage_date, quantity, expected_amount, data, content_hash, ingested_at, transaction_id
				FROM prepared WHERE batch = %s ON CONFLICT DO NOTHING', target, b);
			COMMIT;
			UPDATE timing SET seconds = seconds + extract(epoch FROM clock_timestamp() - started) WHERE what = target;
		END LOOP;
		started := clock_timestamp();
		SELECT accepted INTO taken
		FROM billing.ingest_usage('bench', (SELECT events::jsonb FROM source_batch s WHERE s.batch = b));
		COMMIT;
		UPDATE timing SET seconds = seconds + extract(epoch FROM clock_timestamp() - started) WHERE what = 'ingest_usage';
		total := total + taken;
		SELECT events::jsonb INTO batch_events FROM source_batch s WHERE s.batch = b;
		started := clock_timestamp();
		PERFORM billing.ingest_usage('bench', batch_events);
		COMMIT;
		UPDATE timing SET seconds = seconds + extract(epoch FROM clock_timestamp() - started)
		WHERE what = 'ingest_usage, the same again, as jsonb';
	END LOOP;
	IF total <> (SELECT count(*) FROM raw_same) THEN
		RAISE EXCEPTION '% accepted, % stored raw', total, (SELECT count(*) FROM raw_same);
	END IF;
END $$;
INSERT INTO timing VALUES ('raw_unique', 0), ('raw_same', 0), ('ingest_usage', 0), ('ingest_usage, the same again, as jsonb', 0);
CALL load_all();
INSERT INTO public.bench_result (what, value, unit, baseline, base_value, goal)
SELECT i.what || format(', batches of 10 000, %s events', :events), :events / i.seconds, 'events/s', b.baseline, :events / r.seconds,
	CASE WHEN i.what = 'ingest_usage' AND r.what = 'raw_same' THEN 0.6 END
FROM timing i,
	(VALUES ('raw_same', 'raw INSERT ... SELECT ... ON CONFLICT, same indexes'),
		('raw_unique', 'the same with the unique index alone')) b (what, baseline)
JOIN timing r ON r.what = b.what
WHERE i.what LIKE 'ingest%'
ORDER BY i.what, b.what;
