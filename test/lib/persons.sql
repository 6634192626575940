-- For pgTAP files: helpers to do something as somebody. A role of the same name as a person would be seen by every test of
-- the cluster, so the role of person ada is ada_<process>.

CREATE FUNCTION pg_temp.role_of(person text) RETURNS text LANGUAGE sql AS $$ SELECT person || '_' || pg_backend_pid() $$;

-- A person with a login of their own
CREATE FUNCTION pg_temp.hire(person text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE ROLE %I LOGIN IN ROLE billing_user', pg_temp.role_of(person));
	PERFORM billing.add_person(person, 'Person ' || person), billing.add_login(person, pg_temp.role_of(person));
END $$;

-- What a statement gives when a person runs it: the first column of its first row, or how many rows it changed; for an error
-- its SQLSTATE and message. What failed leaves nothing behind. A ZB error without a hint is a fault of its own.
CREATE FUNCTION pg_temp.told(person text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
	hint text;
BEGIN
	IF person IS NOT NULL THEN
		EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of(person));
	END IF;
	IF statement ~* '^\s*(SELECT|WITH)' OR statement ~* '\mRETURNING\M' THEN
		EXECUTE statement INTO answer;
	ELSE
		EXECUTE statement;
		GET DIAGNOSTICS answer = ROW_COUNT;
	END IF;
	RESET SESSION AUTHORIZATION;
	RETURN answer;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || CASE WHEN SQLSTATE LIKE 'ZB%' AND hint = '' THEN ' (without a hint)' ELSE '' END;
END $$;

-- The same, of an error the SQLSTATE alone
CREATE FUNCTION pg_temp.try(person text, statement text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN t ~ 'without a hint' THEN t WHEN t ~ '^[0-9A-Z]{5} ' THEN left(t, 5) ELSE t END FROM pg_temp.told(person, statement) t;
$$;

-- The same, for what must work: an error ends the test
CREATE FUNCTION pg_temp.must(person text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text := pg_temp.told(person, statement);
BEGIN
	IF answer ~ '^[0-9A-Z]{5} ' THEN
		RAISE EXCEPTION '%: %', statement, answer;
	END IF;
	RETURN answer;
END $$;

-- An entity in which ada runs contracts, prices and billing, bob approves without a limit, lim up to 1000, adm administers,
-- rea reads, aud audits and app is an application
CREATE FUNCTION pg_temp.staff(entity text) RETURNS void LANGUAGE sql AS $$
	SELECT billing.grant_duty(entity, person, duty, '2020-01-01', approval_limit => maximum)
	FROM (VALUES ('ada', 'biller', NULL), ('ada', 'contract_manager', NULL), ('ada', 'price_manager', NULL), ('bob', 'approver', NULL),
		('lim', 'approver', 1000), ('adm', 'admin', NULL), ('rea', 'reader', NULL), ('aud', 'auditor', NULL), ('app', 'application', NULL)
	) AS d (person, duty, maximum);
$$;
CREATE FUNCTION pg_temp.hire_all() RETURNS void LANGUAGE sql AS $$
	SELECT pg_temp.hire(p) FROM unnest('{ada,bob,lim,adm,rea,aud,app,nob}'::text[]) p;
$$;

-- Customer c1 with account a1, tax code std of 19 %, product seat: what most contracts need
CREATE FUNCTION pg_temp.stock(entity text, account_currency text DEFAULT 'EUR') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', pg_temp.role_of('ada'));
	PERFORM billing.add_tax_code(entity, 'std', 'S', 'Standard'), billing.add_tax_rate(entity, 'std', 19, '2007-01-01'),
		billing.add_customer(entity, 'c1', 'Customer', 'Street 1', '10115', 'Berlin', 'DE'),
		billing.add_account(entity, 'a1', 'c1', account_currency),
		billing.add_product(entity, 'seat', 'Seat', tax_code => 'std'),
		billing.add_meter(entity, 'calls', 'Calls');
	RESET SESSION AUTHORIZATION;
END $$;

-- A tariff of so much per unit
CREATE FUNCTION pg_temp.each(unit text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('model', 'per_unit', 'unit', unit) $$;

-- Bill an entity through a day, as ada
CREATE FUNCTION pg_temp.bill(entity text, through date) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.must('ada', format('CALL billing.run_billing(%L, %L)', entity, through));
$$;
-- Validate, have bob approve what waits, and issue: how many were issued
CREATE FUNCTION pg_temp.issue(entity text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_temp.must('ada', format('SELECT billing.validate_invoices(%L)', entity));
	PERFORM pg_temp.must('bob', format('SELECT count(billing.approve_invoice(%L, reference)) FROM billing.invoice_overview WHERE entity = %1$L AND state = ''pending_approval''', entity));
	RETURN pg_temp.must('ada', format('SELECT billing.issue_invoices(%L)', entity));
END $$;

-- The documents of an entity in the order in which they were made: kind state date net tax total
CREATE FUNCTION pg_temp.documents(of_entity text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s + %s = %s', kind, state, billing_date, net, tax, total)
	FROM billing.invoice_overview WHERE entity = of_entity ORDER BY billing_date, invoice_id;
$$;
-- The lines of the documents in a state: what for how much
CREATE FUNCTION pg_temp.lines(of_entity text, in_state text DEFAULT 'draft') RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s/%s %s × %s: %s', to_char(l.period_start, 'YYYY-MM-DD'), l.kind, l.days, l.of_days, i.code, l.quantity, l.amount)
	FROM billing.invoice_line l
	JOIN billing.invoice_overview o USING (entity_id, invoice_id)
	JOIN billing.contract_item i USING (entity_id, item_id)
	WHERE o.entity = of_entity AND o.state = in_state ORDER BY o.billing_date, l.invoice_id, l.line_no;
$$;
-- What is broken: nothing
CREATE FUNCTION pg_temp.broken(entity text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s: %s, such as %s', invariant, violations, example) FROM billing.verify(entity) WHERE violations <> 0;
$$;
