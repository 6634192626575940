-- Documents, steps, lines and taxes have no foreign keys to what they are written with: billing.verify() finds what would have
-- been refused. Each orphan is made past the functions, as the owner of the tables, and taken back.
BEGIN;
\ir ../lib/persons.sql
SELECT no_plan();
SELECT pg_temp.hire_all();
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE');
SELECT pg_temp.staff('acme'), pg_temp.stock('acme');
SELECT pg_temp.must('ada', $$SELECT billing.create_contract('acme', 'k', 'a1', '2026-01-01'),
	billing.add_item('acme', 'k', 'i', 'seat', 'recurring', 10, pg_temp.each('10'))$$);
SELECT pg_temp.bill('acme', '2026-01-15');
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds');

-- Runs a statement as the owner, and tells which invariants are broken then
CREATE FUNCTION pg_temp.broken_by(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	found text[];
BEGIN
	BEGIN
		SET LOCAL ROLE billing_owner;
		EXECUTE statement;
		RESET ROLE;
		SELECT array_agg(invariant ORDER BY invariant COLLATE "C") INTO found FROM billing.verify('acme') WHERE violations > 0;
		RAISE EXCEPTION 'taken back' USING ERRCODE = 'P0099';
	EXCEPTION WHEN SQLSTATE 'P0099' THEN
		RETURN QUERY SELECT unnest(found);
	END;
END $$;

SELECT ok('steps have their document, and documents a state, a maker and a currency' = ANY (ARRAY(SELECT pg_temp.broken_by(statement))), statement)
FROM unnest(ARRAY[
	'INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id) SELECT entity_id, 999, 1, ''draft'', ''draft'', 0 FROM billing.invoice',
	'INSERT INTO billing.document_step (entity_id, document_id, version, action, to_state, actor_id) SELECT entity_id, invoice_id, 2, ''hold'', ''on_hold'', 999 FROM billing.invoice',
	'INSERT INTO billing.document (entity_id, document_id, kind, state, maker_id, amount, currency) SELECT entity_id, 999, ''invoice'', ''nowhere'', 0, 0, ''EUR'' FROM billing.invoice',
	'UPDATE billing.document SET maker_id = 999',
	'UPDATE billing.document SET currency = ''XXY'''
]) AS statement;
SELECT ok('lines and taxes have their document, lines the terms that they were derived from' = ANY (ARRAY(SELECT pg_temp.broken_by(statement))), statement)
FROM unnest(ARRAY[
	'INSERT INTO billing.invoice_tax (entity_id, invoice_id, tax_no, category, rate, base, tax) SELECT entity_id, 999, 1, ''Z'', 0, 0, 0 FROM billing.invoice',
	'INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id, charge_seq, charge_date, period_start, period_end,
		description, quantity, tariff, days, of_days, exact_amount, amount)
		SELECT entity_id, 999, 1, kind, item_id, version_id, 9, charge_date, period_start, period_end, description, quantity, tariff, days, of_days, exact_amount, amount
		FROM billing.invoice_line',
	'INSERT INTO billing.invoice_line (entity_id, invoice_id, line_no, kind, item_id, version_id, charge_seq, charge_date, period_start, period_end,
		description, quantity, tariff, days, of_days, exact_amount, amount)
		SELECT entity_id, invoice_id, 99, kind, item_id, 999, 9, charge_date, period_start, period_end, description, quantity, tariff, days, of_days, exact_amount, amount
		FROM billing.invoice_line',
	'UPDATE billing.invoice SET run_id = 999',
	'UPDATE billing.invoice SET currency = ''XXY'''
]) AS statement;
SELECT is_empty('SELECT pg_temp.broken()', 'every invariant holds again');

SELECT * FROM finish();
ROLLBACK;
