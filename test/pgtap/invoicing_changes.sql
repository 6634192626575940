-- What is discarded is to be looked at again; and a run through a wrong day, undone, does not make all usage late for ever.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(12);
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.add_account('acme', 'a2', 'c1', 'EUR'), billing.create_contract('acme', 'k1', 'a1', '2026-01-01'), billing.create_contract('acme', 'k2', 'a2', '2026-01-01'),
	billing.add_item('acme', 'k1', 'i', 'seat', 'recurring', 10, pg_temp.each('12.50')), billing.add_item('acme', 'k2', 'i', 'seat', 'recurring', 10, pg_temp.each('12.50'))$$);
CREATE SEQUENCE pg_temp.asked MINVALUE 0;
CREATE FUNCTION pg_temp.changed() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT format('%s %s', a.code, c.reason) FROM billing.account_change c JOIN billing.billing_account a USING (entity_id, account_id)
		WHERE c.change_id > (SELECT last_value FROM pg_temp.asked) ORDER BY c.change_id;
	PERFORM setval('pg_temp.asked', coalesce(max(change_id), 0)) FROM billing.account_change;
END $$;
CREATE FUNCTION pg_temp.through() RETURNS date LANGUAGE sql AS $$
	SELECT w.billed_through FROM billing.usage_watermark w JOIN billing.legal_entity l USING (entity_id) WHERE l.code = 'acme';
$$;
SELECT count(*) FROM pg_temp.changed();
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT is_empty('SELECT pg_temp.changed()', 'a run leaves nothing to look at again');
SELECT is(pg_temp.through(), '2026-01-15', 'it was opened through that day');
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', reference)) FROM billing.invoice_overview WHERE account = 'a1';
SELECT results_eq('SELECT pg_temp.changed()', $$VALUES ('a1 discard')$$, 'a discarded document');
SELECT is(pg_temp.try('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', reference)), 'ZB007', 'not twice') FROM billing.invoice_overview WHERE account = 'a1';
SELECT is_empty('SELECT pg_temp.changed()', 'what failed discarded nothing');
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT is((SELECT string_agg(state, ',' ORDER BY account, invoice_id) FROM billing.invoice_overview), 'discarded,draft,draft', 'it is billed again');

-- A year too far
SELECT pg_temp.bill('acme', '2027-01-15');
SELECT is(pg_temp.through(), '2027-01-15', 'through a wrong day');
SELECT pg_temp.bill('acme', '2026-01-20');
SELECT is(pg_temp.through(), '2027-01-15', 'it was billed so far');
SELECT pg_temp.must('ada', format('SELECT billing.discard_invoice(%L, %L)', 'acme', reference)) FROM billing.invoice_overview WHERE state = 'draft' AND billing_date > '2026-02-01' ORDER BY invoice_id DESC;
SELECT pg_temp.bill('acme', '2026-01-20');
SELECT is(pg_temp.through(), '2026-02-01', 'undone, as far as anything stands: through 1 February');
SELECT set_config('role', 'billing_owner', true);
INSERT INTO billing.billing_run (entity_id, through_date, started_by) SELECT entity_id, '2026-06-01', 0 FROM billing.legal_entity WHERE code = 'acme';
UPDATE billing.usage_watermark SET billed_through = '2027-01-15' WHERE entity_id = (SELECT entity_id FROM billing.legal_entity WHERE code = 'acme');
RESET ROLE;
SELECT pg_temp.bill('acme', '2026-01-20');
SELECT is(pg_temp.through(), '2026-06-01', 'but not behind a run that is not finished');
SELECT pg_temp.bill('acme', '2026-07-01');
SELECT is(pg_temp.through(), '2026-07-01', 'and on it goes');
SELECT is_empty('SELECT pg_temp.broken()', 'nothing is broken');
SELECT * FROM finish();
ROLLBACK;
