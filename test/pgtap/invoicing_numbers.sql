-- Issuing: legal numbers without gaps, per entity, series and fiscal year; what is kept as of that moment; and that an issued
-- document never changes.
BEGIN;
\ir ../lib/persons.sql
SELECT plan(111);
SELECT pg_temp.hire_all();
-- An entity per month in which a fiscal year may begin, one in a zone where it is another day
SELECT billing.create_entity('acme', 'Acme', 'EUR', 'Europe/Berlin', 'DE'), billing.create_entity('other', 'Other', 'EUR', 'Pacific/Kiritimati', 'KI');
SELECT billing.create_entity('fy' || m, 'FY', 'EUR', 'Europe/Berlin', 'DE', fiscal_year_start => m) FROM generate_series(1, 12) m;
CREATE TEMP TABLE entities AS SELECT code::text AS entity, fiscal_year_start, time_zone FROM billing.legal_entity;
SELECT pg_temp.staff(entity), pg_temp.stock(entity) FROM entities;
UPDATE billing.legal_entity SET auto_approve_limit = 100000;

-- A contract of its own per document: amount on a day
CREATE FUNCTION pg_temp.charge(entity text, code text, amount numeric, day date DEFAULT '2026-01-01') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format($q$SELECT billing.add_account(%1$L, %2$L, 'c1', 'EUR', 7), billing.create_contract(%1$L, %2$L, %2$L, %4$L), billing.add_item(%1$L, %2$L, 'i', 'seat', 'one_time', sign(%3$s::numeric), pg_temp.each(%5$L))$q$,
		entity, code, amount, day, abs(amount)));
$$;
CREATE FUNCTION pg_temp.numbers(of_entity text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s:%s', account, replace(number, '-' || (SELECT max(fiscal_year) FROM billing.invoice n WHERE n.number = o.number) || '-', '-')), ' ' ORDER BY number) FROM billing.invoice_overview o WHERE entity = of_entity AND number IS NOT NULL;
$$;
SELECT pg_temp.charge('acme', 'c', 30, '2026-01-03'), pg_temp.charge('acme', 'b', 20, '2026-01-02'), pg_temp.charge('acme', 'credit', -5), pg_temp.charge('acme', 'a', 10);
SELECT pg_temp.bill('acme', '2026-01-31');
SELECT pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme', '2026-01-01')$$), '2', 'those billed through a day are issued');
SELECT is(pg_temp.numbers('acme'), 'credit:CN-000001 a:INV-000001', 'credit notes have a series of their own');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme', '2025-12-31')$$), '0', 'none was billed before');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '2', 'then the rest');
SELECT is(pg_temp.numbers('acme'), 'credit:CN-000001 a:INV-000001 b:INV-000002 c:INV-000003', 'in the order of their billing dates');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '0', 'nothing is left');
SELECT is((SELECT string_agg(format('%s %s', series, last_number), ', ' ORDER BY series) FROM billing.number_series s JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'acme'), 'CN 1, INV 3', 'the counters know');

-- An issue that is rolled back takes its numbers back
SELECT pg_temp.charge('acme', 'd', 1), pg_temp.charge('acme', 'e', 2), pg_temp.bill('acme', '2026-01-31'), pg_temp.must('ada', $$SELECT billing.validate_invoices('acme')$$);
CREATE FUNCTION pg_temp.rolled_back(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	answer := pg_temp.must('ada', statement);
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = answer;
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT matches(pg_temp.rolled_back($$SELECT billing.issue_invoice('acme', reference) FROM billing.invoice_overview WHERE account = 'd'$$), '^INV-\d{4}-000004$', 'd is number 4');
SELECT matches(pg_temp.must('ada', $$SELECT billing.issue_invoice('acme', reference) FROM billing.invoice_overview WHERE account = 'e'$$), '^INV-\d{4}-000004$', 'rolled back, e is');
SELECT is(pg_temp.must('ada', $$SELECT billing.issue_invoices('acme')$$), '1', 'and d the next');
SELECT is(pg_temp.numbers('acme'), 'credit:CN-000001 a:INV-000001 b:INV-000002 c:INV-000003 e:INV-000004 d:INV-000005', 'without a gap');
SELECT is(pg_temp.try('ada', format('SELECT billing.issue_invoice(%L, %L)', 'acme', number)), 'ZB007', 'issued once') FROM billing.invoice_overview WHERE account = 'a';

-- Each entity counts for itself, in its own fiscal year, named after the year in which it ends
SELECT pg_temp.charge(entity, 'f', 10), pg_temp.bill(entity, '2026-01-31'), pg_temp.must('ada', format('SELECT billing.validate_invoices(%L)', entity)), pg_temp.must('ada', format('SELECT billing.issue_invoices(%L)', entity))
FROM entities WHERE entity <> 'acme';
SELECT is((SELECT number FROM billing.invoice_overview o WHERE o.entity = e.entity),
	format('INV-%s-000001', extract(year FROM today) + CASE WHEN fiscal_year_start <> 1 AND extract(month FROM today) >= fiscal_year_start THEN 1 ELSE 0 END), format('%s: a fiscal year from month %s', entity, fiscal_year_start))
FROM entities e, LATERAL (SELECT (now() AT TIME ZONE time_zone)::date AS today) t WHERE entity <> 'acme' ORDER BY length(entity), entity;
SELECT is((SELECT array_agg(DISTINCT o.issue_date) FROM billing.invoice_overview o WHERE o.entity = e.entity), ARRAY[(now() AT TIME ZONE time_zone)::date], entity || ': issued on the local day') FROM entities e WHERE entity IN ('acme', 'other');
SELECT is((SELECT array_agg(DISTINCT due_date - issue_date) FROM billing.invoice_overview WHERE number IS NOT NULL), '{7}', 'due after the account''s days');

-- A series goes on beyond a million
SET LOCAL session_replication_role = replica;
UPDATE billing.number_series SET last_number = 999999 FROM billing.legal_entity e WHERE e.entity_id = number_series.entity_id AND e.code = 'fy1';
SET LOCAL session_replication_role = origin;
SELECT pg_temp.charge('fy1', 'g', 1), pg_temp.charge('fy1', 'h', 1), pg_temp.bill('fy1', '2026-01-31'), pg_temp.must('ada', $$SELECT billing.validate_invoices('fy1')$$), pg_temp.must('ada', $$SELECT billing.issue_invoices('fy1')$$);
SELECT is(pg_temp.numbers('fy1'), 'f:INV-000001 g:INV-1000000 h:INV-1000001', 'numbers grow wider');
SELECT is((SELECT string_agg(b, ', ') FROM pg_temp.broken('fy1') b), 'legal numbers have no gaps: 1, such as INV-' || (SELECT max(fiscal_year) FROM billing.number_series s JOIN billing.legal_entity e USING (entity_id) WHERE e.code = 'fy1'), 'and verify() sees the gap that was made here');
SELECT is_empty('SELECT pg_temp.broken(''acme'')', 'while elsewhere nothing is broken');

-- Number or reference name a document, in its entity
SELECT isnt_empty(format('SELECT * FROM billing.explain_invoice(%L, %L)', 'acme', n), 'explained by ' || n) FROM billing.invoice_overview, unnest(ARRAY[number, reference]) n WHERE account = 'a';
SELECT is(pg_temp.try('ada', format('SELECT count(*) FROM billing.explain_invoice(%L, %L)', e, n)), 'ZB002', format('%s names no document in %s', n, e))
FROM (VALUES ('acme', 'INV-1999-000001'), ('acme', 'D0'), ('acme', 'D999999999999999999'), ('acme', 'D9999999999999999999'), ('acme', 'd1'), ('acme', 'D-1'), ('acme', 'D1e1')) AS c (e, n)
UNION ALL SELECT is(pg_temp.try('ada', format('SELECT count(*) FROM billing.explain_invoice(%L, %L)', 'other', reference)), 'ZB002', 'nor does a reference of another entity') FROM billing.invoice_overview WHERE account = 'a';

-- The parties are kept as they were
SELECT pg_temp.must('ada', $$UPDATE billing.customer SET name = 'Renamed', address = 'Elsewhere'$$);
UPDATE billing.legal_entity SET name = 'Renamed too';
SELECT is((SELECT format('%s, %s; %s', buyer ->> 'name', buyer ->> 'address', seller ->> 'name') FROM billing.invoice i JOIN billing.invoice_overview o USING (entity_id, invoice_id) WHERE o.account = 'a'), 'Customer, Street 1; Acme', 'an issued document keeps the parties as they were');

-- Nobody changes what was issued: not by SQL, not as the owner; a draft neither
CREATE FUNCTION pg_temp.as_owner(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	SET LOCAL ROLE billing_owner;
	EXECUTE statement;
	GET DIAGNOSTICS n = ROW_COUNT;
	RESET ROLE;
	RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.try(NULL, statement), CASE WHEN statement ~ '^(DELETE|TRUNCATE)' OR statement ~ 'UPDATE billing.invoice_tax' THEN 'ZB008' ELSE 'ZB010' END, 'a superuser: ' || statement)
FROM unnest('{UPDATE billing.invoice SET total = 0,UPDATE billing.invoice_line SET amount = 0,UPDATE billing.invoice_tax SET tax = 0,UPDATE billing.number_series SET last_number = 0,DELETE FROM billing.invoice,DELETE FROM billing.invoice_line,DELETE FROM billing.number_series,TRUNCATE billing.invoice_line CASCADE,UPDATE billing.billing_run SET lines = 0,UPDATE billing.account_watermark SET billed_through = now(),UPDATE billing.exception SET state = state}'::text[]) statement;
SELECT is(pg_temp.try('ada', statement), '42501', 'a biller: ' || statement)
FROM unnest('{UPDATE billing.invoice SET total = 0,UPDATE billing.invoice_line SET amount = 0,UPDATE billing.invoice_tax SET tax = 0,UPDATE billing.number_series SET last_number = 0,DELETE FROM billing.invoice,DELETE FROM billing.invoice_line,DELETE FROM billing.number_series,TRUNCATE billing.invoice_line CASCADE,UPDATE billing.billing_run SET lines = 0,UPDATE billing.account_watermark SET billed_through = now(),UPDATE billing.exception SET state = state}'::text[]) statement;
SELECT is(pg_temp.as_owner(format('UPDATE billing.invoice SET %s WHERE number IS NOT NULL', change)), 'ZB008', 'the owner on an issued invoice: ' || change)
FROM unnest('{net = net,total = total + 1,number = NULL,issue_date = issue_date + 1,buyer = NULL,billing_date = billing_date - 1}'::text[]) change;
SELECT is(pg_temp.as_owner(format('UPDATE billing.invoice_line SET %s', change)), 'ZB008', 'the owner on a line: ' || change)
FROM (SELECT format('%I = %s', attname, CASE WHEN atttypid = 'date'::regtype THEN attname || ' + 1' WHEN attname = 'tariff' THEN '''{"model": "dynamic"}''' WHEN attname = 'kind' THEN '''credit'', reverses_invoice_id = invoice_id, reverses_line_no = line_no'
		WHEN atttypid = 'text'::regtype THEN quote_literal('Z') ELSE 'coalesce(' || attname || ', 0) + 1' END) AS change
	FROM pg_attribute WHERE attrelid = 'billing.invoice_line'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('discarded', 'reverses_invoice_id', 'reverses_line_no')) AS c;
SELECT is(pg_temp.as_owner('DELETE FROM billing.invoice_line'), 'ZB008', 'the owner deletes no line');
SELECT is(pg_temp.as_owner('UPDATE billing.invoice_tax SET tax = 0'), 'ZB008', 'nor changes a tax');

-- verify() finds every figure that was changed behind the extension's back
CREATE FUNCTION pg_temp.tampered(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	SET LOCAL session_replication_role = replica;
	EXECUTE change;
	SET LOCAL session_replication_role = origin;
	SELECT string_agg(substring(b FROM '^[^:]*'), '; ' ORDER BY b COLLATE "C") INTO answer FROM pg_temp.broken('acme') b;
	RAISE EXCEPTION USING ERRCODE = 'P0001', MESSAGE = coalesce(answer, 'nothing found');
EXCEPTION WHEN SQLSTATE 'P0001' THEN
	RETURN SQLERRM;
END $$;
SELECT matches(pg_temp.tampered(change), found, change)
FROM (VALUES
	('UPDATE billing.invoice SET net = net + 1, total = total + 1', 'lines add up to the invoice; tax adds up'),
	('UPDATE billing.invoice_line SET amount = amount + 0.01', 'a line is its tariff applied.*lines add up to the invoice'),
	('UPDATE billing.invoice_line SET exact_amount = exact_amount + 0.001', 'a line is its tariff applied'),
	('UPDATE billing.invoice_line SET quantity = quantity + 1', 'a line is its tariff applied.*billed = entitled'),
	('UPDATE billing.invoice_line SET tariff = ''{"model": "per_unit", "unit": "0.5"}''', 'a line is its tariff applied'),
	('UPDATE billing.invoice_tax SET tax = tax + 0.01', 'tax adds up; tax is the rate'),
	('UPDATE billing.invoice_tax SET rate = 20', 'tax is the rate'),
	('DELETE FROM billing.invoice_tax', 'tax adds up; tax is the rate'),
	('DELETE FROM billing.invoice_line WHERE line_no = 1', 'billed = entitled.*every document has its content.*lines add up'),
	('DELETE FROM billing.invoice WHERE number LIKE ''%-000002''', 'every document has its content'),
	('UPDATE billing.invoice SET sequence = 9 WHERE sequence = 2', 'legal numbers have no gaps'),
	('UPDATE billing.number_series SET last_number = last_number + 1', 'legal numbers have no gaps'),
	('DELETE FROM billing.number_series', 'legal numbers have no gaps'),
	('UPDATE billing.document SET amount = amount + 1', 'tax adds up'),
	('UPDATE billing.document SET kind = ''credit_note''', 'every document has its content'),
	('UPDATE billing.invoice_line SET discarded = true', 'billed = entitled.*discarded documents bill nothing'),
	('UPDATE billing.account_watermark SET billed_through = ''2027-01-01''', '^nothing found$')
) AS c (change, found);

SELECT * FROM finish();
ROLLBACK;
