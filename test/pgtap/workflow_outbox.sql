-- The outbox: which steps become messages, who may read them, in which order they come, how a consumer moves forward, and what is
-- deleted. Messages of a transaction can be read when it has ended: what is read here was put in as if by older ones.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(41);

SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'UTC');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k', 'a1', '2026-01-01'),
	billing.add_item('acme', 'k', 'seats', 'seat', 'recurring', 10, pg_temp.each('5'))$$);

CREATE FUNCTION pg_temp.sent() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT o.type || coalesce(' version ' || o.version, '') || CASE WHEN o.payload IS NULL THEN '' ELSE ' ' || (o.payload ->> 'kind') END
	FROM billing.outbox o ORDER BY o.message_id;
$$;

-- Steps -----------------------------------------------------------------------------------------------------------------

SELECT pg_temp.bill('acme', '2026-01-05');
SELECT pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
SELECT pg_temp.must('bob', $$SELECT billing.reject_invoice('acme', reference, 'odd') FROM billing.invoice_overview$$);
SELECT pg_temp.must('ada', $$SELECT billing.release_invoice('acme', reference) FROM billing.invoice_overview$$);
SELECT pg_temp.issue('acme');
SELECT results_eq('SELECT pg_temp.sent()', $$VALUES ('invoice.submitted version 2'), ('invoice.rejected version 3'),
	('exception.raised approval_rejected'), ('invoice.submitted version 5'), ('invoice.approved version 6'), ('invoice.issued version 7')$$,
	'steps that others want to know of become messages, a release does not');
SELECT is((SELECT count(*) FROM billing.outbox WHERE transaction_id <> pg_current_xact_id() OR entity_id <> (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme')),
	0::bigint, 'each in the transaction and the entity in which it happened');
SELECT is((SELECT count(*) FROM billing.outbox o JOIN billing.document_step s USING (entity_id, document_id, version)), 5::bigint, 'and with the step''s version');
SELECT is((SELECT payload - 'exception' - 'raised_at' - 'deadline' FROM billing.outbox WHERE type = 'exception.raised'),
	'{"kind": "approval_rejected", "subject": "a1"}', 'a message about an exception says which, not what it is about in words');

SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[1]')$$);
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', '[1]')$$);
SELECT is((SELECT count(*) FROM pg_temp.sent() s WHERE s = 'exception.raised usage_malformed'), (SELECT count(*) FROM billing.exception WHERE kind = 'usage_malformed'),
	'an exception is told once');
SELECT pg_temp.must('ada', $$SELECT billing.resolve_exception('acme', exception_id, 'done') FROM billing.open_exception$$);
SELECT is((SELECT count(*) FROM pg_temp.sent() s WHERE s LIKE 'exception%'), (SELECT count(*) FROM billing.exception), 'a resolved one is no news');
SELECT billing.set_task('verify', enabled => true);
SELECT pg_temp.must('ada', $$SELECT billing.add_item('acme', 'k', 'calls', 'seat', 'usage', tariff => pg_temp.each('1'), meter => 'calls'),
	billing.add_usage_alert('acme', 'k', 'calls', 5)$$);
SELECT pg_temp.must('ada', $$SELECT billing.ingest_usage('acme', jsonb_build_object('id', 'e', 'source', 's', 'type', 'calls', 'subject', 'a1', 'time', now(), 'data', '{"quantity": 9}'::jsonb))$$);
SELECT is(pg_temp.must('ada', $$SELECT billing.raise_usage_alerts('acme')$$), '1', 'an alert is raised');
SELECT is((SELECT payload ->> 'account' || ' ' || (payload ->> 'item') || ' ' || (payload ->> 'quantity') FROM billing.outbox WHERE type = 'usage_alert.raised'),
	'a1 calls 9', 'and told');

-- Who -------------------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.try('ada', $$SELECT billing.add_outbox_consumer('acme', 'erp')$$), 'ZB003', 'a biller adds no consumer');
SELECT is(pg_temp.try('adm', $$SELECT billing.add_outbox_consumer('acme', 'erp', 'the ledger')$$), '', 'an administrator does');
SELECT is(pg_temp.try('adm', $$SELECT billing.add_outbox_consumer('acme', 'erp')$$), 'ZB009', 'once');
SELECT is(pg_temp.try('adm', $$SELECT billing.add_outbox_consumer('acme', 'x', warn_after => '-1 day')$$), 'ZB001', 'a warning comes later, not earlier');
SELECT is(pg_temp.try('adm', $$SELECT billing.add_outbox_consumer('other', 'erp')$$), 'ZB002', 'and in the own entity only');
SELECT is(pg_temp.try('ada', $$SELECT * FROM billing.read_outbox('acme', 'erp')$$), 'ZB003', 'a biller reads none');
SELECT is(pg_temp.try('app', $$SELECT * FROM billing.read_outbox('acme', 'none')$$), 'ZB002', 'nobody reads for a consumer that is not there');
SELECT is(pg_temp.try('app', $$SELECT * FROM billing.read_outbox('acme', 'erp', 0)$$), 'ZB001', 'nor less than one message');
SELECT is(pg_temp.try('app', $$SELECT * FROM billing.read_outbox('other', 'erp')$$), 'ZB002', 'nor of another entity');
SELECT is(pg_temp.try('app', $$SELECT * FROM billing.read_outbox('acme', 'erp')$$), NULL, 'what this transaction did cannot be read before it has ended');

-- Order -----------------------------------------------------------------------------------------------------------------

-- as if transactions 10, 11 and 12 had written them, and key 5001 had been taken before 5002 but committed later
SET session_replication_role = replica;
INSERT INTO billing.outbox (entity_id, message_id, type, document_id, version, transaction_id, created_at, payload)
SELECT e.entity_id, m.id, m.type, (SELECT document_id FROM billing.document), m.version, m.xid::xid8, now() - m.age::interval, m.payload
FROM billing.legal_entity e, (VALUES (5001, 'invoice.issued', 7, '12', '1 day', NULL), (5002, 'invoice.submitted', 2, '10', '40 days', NULL),
	(5003, 'invoice.approved', 6, '11', '35 days', '{"own": true}'::jsonb), (5004, 'invoice.held', 3, '10', '40 days', NULL)) AS m (id, type, version, xid, age, payload)
WHERE e.code = 'acme';
SET session_replication_role = origin;
CREATE FUNCTION pg_temp.read(consumer text, most integer DEFAULT 1000) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.told('app', format('SELECT string_agg(bookmark, '' '') FROM billing.read_outbox(''acme'', %L, %s)', consumer, most));
$$;
SELECT is(pg_temp.read('erp'), '0.10.5002 0.10.5004 0.11.5003 0.12.5001', 'by transaction, then key');
SELECT is(pg_temp.read('erp', 2), '0.10.5002 0.10.5004', 'as many as asked for');
SELECT is(pg_temp.told('app', $$SELECT payload - 'happened_at' - 'due_date' - 'issue_date' - 'number' FROM billing.read_outbox('acme', 'erp', 1)$$)::jsonb,
	format('{"kind": "invoice", "action": "submit", "from_state": "draft", "to_state": "pending_approval", "actor": "ada", "reason": null, "amount": 59.50, "currency": "EUR",
	"account": "a1", "customer": "c1", "billing_date": "2026-01-01", "net": 50.00, "tax": 9.50, "total": 59.50}')::jsonb, 'what it says comes from the document and its step');
SELECT is(pg_temp.told('app', $$SELECT document || ' ' || version || ' ' || payload FROM billing.read_outbox('acme', 'erp') WHERE message_id = 5003$$),
	(SELECT 'D' || document_id FROM billing.document) || ' 6 {"own": true}', 'or was written with it');

-- Forward ---------------------------------------------------------------------------------------------------------------

SELECT is(pg_temp.try('ada', $$SELECT billing.confirm_outbox('acme', 'erp', '0.10.5002')$$), 'ZB003', 'a biller confirms none');
SELECT is(pg_temp.told('app', $$SELECT billing.confirm_outbox('acme', 'erp', '0.10.5004')$$), 'true', 'what was dealt with is confirmed');
SELECT is(pg_temp.read('erp'), '0.11.5003 0.12.5001', 'and does not come again');
SELECT is(pg_temp.told('app', $$SELECT billing.confirm_outbox('acme', 'erp', '0.10.5004')$$), 'false', 'twice is no error');
SELECT is(pg_temp.told('app', $$SELECT billing.confirm_outbox('acme', 'erp', '0.10.5002')$$) || pg_temp.read('erp'), 'false0.11.5003 0.12.5001', 'nor backwards, and it does not go there');
SELECT is(array_agg(pg_temp.try('app', format($$SELECT billing.confirm_outbox('acme', 'erp', %L)$$, b))), '{ZB001,ZB001,ZB001,ZB001,ZB001,ZB002,ZB002,ZB002}',
	'a bookmark is that of a message that can be read')
FROM unnest(ARRAY['x', '1', '0.12.5001 ', '0.-12.5001', '0.12.5001.', '0.12.5002', '1.12.5001', (SELECT format('0.%s.%s', transaction_id, message_id) FROM billing.outbox WHERE type = 'usage_alert.raised')]) b;
SELECT is(pg_temp.told('rea', $$SELECT consumer || ' ' || waiting || ' ' || is_late FROM billing.outbox_lag$$), 'erp 2 true', 'how much waits is seen by everybody');
SELECT is(pg_temp.told('nob', $$SELECT count(*) FROM billing.outbox_lag$$), '0', 'with a duty');

-- A consumer that begins now; and one that is taken back
SELECT pg_temp.must('adm', $$SELECT billing.add_outbox_consumer('acme', 'late', from_start => false, warn_after => '1 hour')$$);
SELECT is(pg_temp.read('late'), NULL, 'who begins now gets nothing from before');
SELECT is(pg_temp.try('adm', $$SELECT billing.end_outbox_consumer('acme', 'late', NULL)$$), 'ZB001', 'a consumer is taken back for a reason');
SELECT pg_temp.must('adm', $$SELECT billing.end_outbox_consumer('acme', 'late', 'a try')$$);
SELECT is(pg_temp.try('app', $$SELECT * FROM billing.read_outbox('acme', 'late')$$), 'ZB002', 'it reads no more');
SELECT pg_temp.must('adm', $$SELECT billing.add_outbox_consumer('acme', 'late')$$);
SELECT is(pg_temp.read('late', 1), '0.10.5002', 'until it is added again');
SELECT pg_temp.must('adm', $$SELECT billing.end_outbox_consumer('acme', 'late', 'a try')$$);

-- What nobody needs -----------------------------------------------------------------------------------------------------

SELECT billing_internal.purge_outbox();
SELECT is((SELECT string_agg(message_id::text, ' ' ORDER BY message_id) FROM billing.outbox WHERE message_id > 5000), '5001 5003',
	'what is confirmed and older than 30 days is deleted; what is not confirmed is kept');
SELECT is((SELECT state || ': ' || regexp_replace(detail, ' since.*', '') FROM billing.exception WHERE kind = 'outbox_not_read'), 'open: 2 messages wait for consumer erp, the oldest',
	'and somebody is told');
SELECT pg_temp.must('app', $$SELECT billing.confirm_outbox('acme', 'erp', '0.12.5001')$$);
SELECT billing_internal.purge_outbox();
SELECT is((SELECT string_agg(message_id::text, ' ' ORDER BY message_id) FROM billing.outbox WHERE message_id > 5000), '5001', 'what is younger is kept too');
SELECT is((SELECT state || ': ' || resolution FROM billing.exception WHERE kind = 'outbox_not_read'), 'resolved: the consumer reads again', 'the exception closes itself');

-- After a restore, transactions begin anew: the older messages come first, whatever their numbers
SELECT setval('billing.outbox_message_id_seq', 6000);
SELECT billing_internal.restored_outbox();
SET session_replication_role = replica;
INSERT INTO billing.outbox (entity_id, message_id, type, transaction_id, payload)
SELECT entity_id, (SELECT first_message_id + 1 FROM billing.outbox_restore), 'invoice.issued', '5', '{}' FROM billing.legal_entity WHERE code = 'acme';
SET session_replication_role = origin;
SELECT ok(pg_temp.read('erp') ~ ('^(0\.' || pg_current_xact_id() || '\.\d+ )+1\.5\.\d+$'), 'messages from before a restore can be read, and come before later ones');

SELECT is(pg_temp.try('app', $$INSERT INTO billing.outbox (entity_id, type) SELECT entity_id, 'x' FROM billing.legal_entity$$), '42501', 'nobody writes messages by hand');
SELECT is_empty('SELECT pg_temp.broken()', 'the books balance');
SELECT * FROM finish();
ROLLBACK;
