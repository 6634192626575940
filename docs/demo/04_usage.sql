-- A month of usage arrives, with all that usually goes wrong
-- What the sources send, a row per event: 40 000 of them, from formulas.
CREATE TABLE demo.event (entity text, day date, event jsonb);
COMMENT ON TABLE demo.event IS 'The events that the sources of the demonstration sent, in CloudEvents form';
GRANT SELECT ON demo.event TO billing_user;

CREATE FUNCTION demo.cloud_event(source text, id text, type text, subject text, "time" timestamp, zone text, data jsonb) RETURNS jsonb
	LANGUAGE SQL STABLE PARALLEL SAFE
	RETURN jsonb_build_object('specversion', '1.0', 'source', source, 'id', id, 'type', type, 'subject', subject,
		'time', to_char("time" AT TIME ZONE zone AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'data', data);
COMMENT ON FUNCTION demo.cloud_event(text, text, text, text, timestamp, text, jsonb) IS 'A CloudEvent, its time given in a zone';

-- Nimbus: storage twice a day, transfer 6 times, requests 12 times; the requests say what their source expects them to cost,
-- and one source in twenty days still has last year's price.
INSERT INTO demo.event
SELECT 'nimbus', d::date, demo.cloud_event('/metering/us-east', format('%s-%s-%s-%s', s.kind, c.account, d::date, i), s.meter, c.account,
	d + make_interval(mins => i * 1439 / s.times), 'America/Chicago',
	CASE s.kind
		WHEN 's' THEN jsonb_build_object('quantity', round((400 + 6000 * (c.n % 9) + demo.pick(c.account || d || i, 900)) / 62.0, 6))
		WHEN 't' THEN jsonb_build_object('quantity', round((c.n % 7 + 1) * (3 + demo.pick(c.account || d || i, 4000) / 100.0), 3))
		ELSE jsonb_build_object('quantity', q.requests, 'expected_amount',
			q.requests * CASE WHEN c.n = 9 AND d = '2026-10-20' THEN 0.0000005 ELSE 0.0000004 END)
	END)
FROM demo.customer c
CROSS JOIN (VALUES ('s', 'storage.gb_month', 2), ('t', 'transfer.gb', 6), ('r', 'requests', 12)) AS s (kind, meter, times)
CROSS JOIN generate_series(timestamp '2026-10-01', '2026-10-31', '1 day') AS d
CROSS JOIN generate_series(1, s.times) AS i
CROSS JOIN LATERAL (SELECT 20000::numeric + 1000 * demo.pick('r' || c.account || d || i, 1800)) AS q (requests)
WHERE c.entity = 'nimbus' AND c.n < 30;
-- Corrections: some transfer was counted twice; customer n-030, who left, gets last year's requests back.
INSERT INTO demo.event
SELECT 'nimbus', date '2026-10-30', demo.cloud_event('/metering/corrections', 'fix-' || account, 'transfer.gb', account,
	'2026-10-30 12:00', 'America/Chicago', jsonb_build_object('quantity', -12.5 * n))
FROM demo.customer WHERE entity = 'nimbus' AND n % 4 = 0 AND n < 30
UNION ALL
SELECT 'nimbus', date '2026-10-30', demo.cloud_event('/metering/corrections', 'refund-n-030', 'requests', 'n-030',
	'2026-10-30 12:00', 'America/Chicago', '{"quantity": -412000000}');

-- Quillwerk: calls and exports
INSERT INTO demo.event
SELECT 'quillwerk', d::date, demo.cloud_event('/gateway', format('c-%s-%s-%s', c.account, d::date, i), 'api.calls', c.account,
	d + make_interval(hours => 3 * i - 2), 'Europe/Berlin', jsonb_build_object('calls', 20 * (1 + c.n % 12) + demo.pick(c.account || d || i, 160)))
FROM demo.customer c, generate_series(timestamp '2026-10-01', '2026-10-31', '1 day') AS d, generate_series(1, 8) AS i
WHERE c.entity = 'quillwerk'
UNION ALL
SELECT 'quillwerk', d::date, demo.cloud_event('/exports', format('x-%s-%s-%s', c.account, d::date, i), 'export.done', c.account,
	d + make_interval(hours => 8 + i), 'Europe/Berlin', jsonb_build_object('rows', 10 + demo.pick(c.account || d, 9000)))
FROM demo.customer c, generate_series(timestamp '2026-10-01', '2026-10-31', '1 day') AS d, generate_series(1, 2) AS i
WHERE c.entity = 'quillwerk' AND demo.pick('x' || c.account || d || i, 10) < c.n % 10;

-- Tsubame: each parcel is an event for the parcel, its weight and its freight
INSERT INTO demo.event
SELECT 'tsubame', d::date, demo.cloud_event('/hub/' || (1 + i % 3), format('%s-%s-%s-%s', k.meter, c.account, d::date, i), k.meter, c.account,
	d + make_interval(mins => 420 + 90 * i), 'Asia/Tokyo', CASE k.meter
		WHEN 'parcel.weight' THEN jsonb_build_object('kg', w.kg)
		WHEN 'freight.charged' THEN jsonb_build_object('yen', 600 + round(w.kg * 33))
		ELSE jsonb_build_object('parcel', format('%s/%s/%s', c.account, to_char(d, 'MMDD'), i)) END)
FROM demo.customer c
CROSS JOIN generate_series(timestamp '2026-10-01', '2026-10-31', '1 day') AS d
CROSS JOIN LATERAL generate_series(1, 2 + c.n % 9) AS i
CROSS JOIN LATERAL (SELECT round((3 + demo.pick(c.account || d || i, 240)) / 10.0, 1)) AS w (kg)
CROSS JOIN (VALUES ('parcel.delivered'), ('parcel.weight'), ('freight.charged')) AS k (meter)
WHERE c.entity = 'tsubame';

-- Nobody's usage, a meter that does not exist, events without a time or with words for a number
INSERT INTO demo.event
SELECT 'nimbus', date '2026-10-28', demo.cloud_event('/metering/us-east', 'new-' || i, 'transfer.gb', 'n-031', timestamp '2026-10-28' + make_interval(hours => i),
	'America/Chicago', jsonb_build_object('quantity', 40 + i))
FROM generate_series(1, 6) AS i
UNION ALL
SELECT 'nimbus', date '2026-10-29', demo.cloud_event('/metering/us-east', 'cold-' || i, 'archive.gb_month', 'n-00' || i, '2026-10-29 10:00',
	'America/Chicago', '{"quantity": 3}')
FROM generate_series(1, 3) AS i
UNION ALL
SELECT 'tsubame', date '2026-10-29', demo.cloud_event('/hub/2', 'scale-broken', 'parcel.weight', 't-005', '2026-10-29 10:00', 'Asia/Tokyo', '{"kg": "n/a"}')
UNION ALL
SELECT 'quillwerk', date '2026-10-29', demo.cloud_event('/gateway', 'no-clock', 'api.calls', 'q-005', '2026-10-29 10:00', 'Europe/Berlin', '{"calls": 10}') - 'time';
-- One day is sent twice, and four events come again with another quantity.
INSERT INTO demo.event SELECT entity, '2026-10-31', event FROM demo.event WHERE entity = 'nimbus' AND day = '2026-10-17';
INSERT INTO demo.event
SELECT entity, '2026-10-31', jsonb_set(event, '{data,quantity}', '7') FROM demo.event
WHERE entity = 'nimbus' AND day = '2026-10-12' AND event ->> 'id' LIKE 't-n-00%-1' AND event ->> 'subject' <= 'n-004';
ANALYZE demo.event;

SET SESSION AUTHORIZATION feed;
\pset footer off
\echo 'One call per company and day:'
SELECT b.entity, count(*) AS calls, sum(b.events) AS events, sum(r.accepted) AS accepted, sum(r.duplicate) AS duplicate,
	sum(r.conflicting) AS conflicting, sum(r.quarantined) AS quarantined
FROM (SELECT entity, day, count(*) AS events, jsonb_agg(event) AS batch FROM demo.event GROUP BY entity, day) b,
	LATERAL billing.ingest_usage(b.entity, b.batch) r
GROUP BY b.entity ORDER BY b.entity;
RESET SESSION AUTHORIZATION;
-- What autovacuum does within a minute: the planner learns how big the tables have become.
ANALYZE;
