-- Metering: usage is delivered as CloudEvents, stored once, and counted by the meter of its type.
\pset format unaligned
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
-- A house that sells storage, and the people who work there
SELECT billing.create_entity('cloud', 'Cloud House', 'EUR', 'Europe/Rome');
SELECT billing.add_person('cloud_mia', 'Mia, price manager');
SELECT billing.add_person('cloud_feed', 'The feed of the data centre');
CREATE ROLE regress_metering_mia LOGIN IN ROLE billing_user;
CREATE ROLE regress_metering_feed LOGIN IN ROLE billing_user;
SELECT billing.add_login('cloud_mia', 'regress_metering_mia');
SELECT billing.add_login('cloud_feed', 'regress_metering_feed');
SELECT billing.grant_duty('cloud', 'cloud_mia', 'price_manager'), billing.grant_duty('cloud', 'cloud_mia', 'contract_manager');
SELECT billing.grant_duty('cloud', 'cloud_feed', 'application');

-- Mia says what is measured: storage adds up a number of the event, requests are counted
SET SESSION AUTHORIZATION regress_metering_mia;
SELECT billing.add_customer('cloud', 'C-1', 'Rossi Srl');
SELECT billing.add_account('cloud', 'A-1', 'C-1', 'EUR');
SELECT billing.add_meter('cloud', 'storage', 'Gigabyte hours', 'sum', 'gb_hours');
SELECT billing.add_meter('cloud', 'request', 'Requests', 'count');
-- She may not send usage herself
SELECT * FROM billing.ingest_usage('cloud', '[]');

-- The feed sends a batch: type is the meter, subject the billing account
SET SESSION AUTHORIZATION regress_metering_feed;
SELECT * FROM billing.ingest_usage('cloud', '[
	{"specversion": "1.0", "id": "e-1", "source": "/rome", "type": "storage", "subject": "A-1",
	 "time": "2026-07-31T21:30:00Z", "data": {"gb_hours": 12.5}},
	{"specversion": "1.0", "id": "e-2", "source": "/rome", "type": "storage", "subject": "A-1",
	 "time": "2026-08-01T00:30:00+02:00", "data": {"gb_hours": "0.25", "expected_amount": "0.01"}},
	{"specversion": "1.0", "id": "e-3", "source": "/rome", "type": "request", "subject": "A-1",
	 "time": "2026-08-01T09:00:00Z"}
]');
-- Half past nine in the evening UTC is half past eleven in Rome, and still July; an hour later it is August there
SELECT event_key, event_type, subject, occurred_at, usage_date, quantity, expected_amount FROM billing.usage_event ORDER BY event_key;

-- Sent again, it counts once; the same event may be written in another way
SELECT * FROM billing.ingest_usage('cloud', '{"source": "/rome", "id": "e-1", "type": "storage", "subject": "A-1",
	"data": {"gb_hours": 12.50}, "time": "2026-07-31T23:30:00+02:00"}');
-- With other content it is a conflict: the first counts, and somebody is told, with both contents
SELECT * FROM billing.ingest_usage('cloud', '{"source": "/rome", "id": "e-1", "type": "storage", "subject": "A-1",
	"data": {"gb_hours": 13}, "time": "2026-07-31T23:30:00+02:00"}');
SELECT kind, state, detail, jsonb_pretty(payload) FROM billing.exception WHERE kind = 'usage_conflict';

-- What cannot be taken is never lost, and never in the way of the rest
SELECT * FROM billing.ingest_usage('cloud', '[
	{"id": "e-4", "source": "/rome", "type": "storage", "subject": "A-2", "time": "2026-08-02T00:00:00Z", "data": {"gb_hours": 1}},
	{"id": "e-5", "source": "/rome", "type": "traffic", "subject": "A-2", "time": "2026-08-02T00:00:00Z", "data": {"gb": 2}},
	{"id": "e-6", "source": "/rome", "type": "storage", "subject": "A-1", "time": "yesterday", "data": {"gb_hours": 1}},
	{"id": "e-7", "source": "/rome", "type": "storage", "subject": "A-1", "time": "2026-08-02T00:00:00Z", "data": {"gb_hours": "NaN"}},
	{"id": "e-8", "source": "/rome", "type": "storage", "subject": "A-1", "time": "2026-08-02T00:00:00Z", "data": {"gb_hours": -0.5}}
]');
SELECT x.payload ->> 'id' AS event, x.kind, x.state, k.owner_duty, x.deadline - x.raised_at AS within, x.detail
FROM billing.exception x JOIN billing.exception_kind k USING (kind)
WHERE x.kind <> 'usage_conflict'
ORDER BY event, kind;

-- Mia mends the causes; the replay takes in what waited, and says what still waits
SET SESSION AUTHORIZATION regress_metering_mia;
SELECT billing.add_account('cloud', 'A-2', 'C-1', 'EUR');
SET SESSION AUTHORIZATION regress_metering_feed;
SELECT * FROM billing.replay_usage('cloud');
SET SESSION AUTHORIZATION regress_metering_mia;
SELECT billing.add_meter('cloud', 'traffic', 'Traffic', 'sum', 'gb');
SET SESSION AUTHORIZATION regress_metering_feed;
SELECT * FROM billing.replay_usage('cloud');
-- The feed corrects e-6 and sends it again; the replay, or the worker, closes its exception
SELECT * FROM billing.ingest_usage('cloud', '{"id": "e-6", "source": "/rome", "type": "storage", "subject": "A-1",
	"time": "2026-08-01T20:00:00Z", "data": {"gb_hours": 1}}');
SELECT * FROM billing.replay_usage('cloud');
SELECT x.payload ->> 'id' AS event, x.kind, x.state, x.resolution
FROM billing.exception x
WHERE x.kind <> 'usage_conflict'
ORDER BY event, kind;

-- What there is to bill
SELECT subject, event_type, usage_date, sum(quantity), count(*)
FROM billing.usage_event
GROUP BY subject, event_type, usage_date
ORDER BY subject, event_type, usage_date;

-- Events are never changed, each call is on record, and everything can be checked
UPDATE billing.usage_event SET quantity = 0;
SELECT actor, action, object_type, after FROM billing.audit_log WHERE object_type = 'usage' ORDER BY audit_id;
SELECT invariant, violations FROM billing.verify('cloud') WHERE invariant LIKE 'usage%';
-- A call that is no batch at all is refused
SELECT * FROM billing.ingest_usage('cloud', '"e-9"');
SELECT * FROM billing.ingest_usage('cloud', NULL);
RESET SESSION AUTHORIZATION;
DROP ROLE regress_metering_mia, regress_metering_feed;
