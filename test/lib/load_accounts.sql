-- Accounts to bill, as many as wanted, at the speed of INSERT ... SELECT: an entity "bench" with prices and taxes, and accounts that
-- each have a contract with two items: seats, a recurring charge in advance, and api, graduated usage in arrears. The first account is
-- made by the API functions, and the others are copies of its rows with other ids, codes and quantities, so that they look as the
-- API would have left them, whatever columns the tables have. No triggers run for the copies: they leave no audit records.
--
-- \set accounts 200000
-- \i test/lib/load_accounts.sql        as superuser, in a database with billing_erp and nothing in it
-- CALL load.usage('2026-01-01');       three events of that month for each account, rolled up
--
-- Whoever bills them is bench_biller (SET SESSION AUTHORIZATION).
SET client_min_messages = warning;
SELECT billing.create_entity('bench', 'Bench GmbH', 'EUR', 'Europe/Berlin', 'DE'),
	billing.add_person('bench_biller', 'Bench');
UPDATE billing.legal_entity SET auto_approve_limit = 1000000 WHERE code = 'bench';
DROP ROLE IF EXISTS bench_biller;
CREATE ROLE bench_biller LOGIN IN ROLE billing_user;
SELECT billing.add_login('bench_biller', 'bench_biller'), billing.add_login('bench_biller', session_user);
SELECT billing.grant_duty('bench', 'bench_biller', d)
FROM unnest('{biller,contract_manager,price_manager,application,reader}'::text[]) d;

SET SESSION AUTHORIZATION bench_biller;
SELECT billing.add_tax_code('bench', 'standard', 'S', 'Standard rate'),
	billing.add_tax_rate('bench', 'standard', 19, '2021-01-01'),
	billing.add_product('bench', 'seat', 'Seat', tax_code => 'standard'),
	billing.add_product('bench', 'api', 'API calls', tax_code => 'standard'),
	billing.add_meter('bench', 'api.calls', 'API calls'),
	billing.add_price_book('bench', 'list', 'List prices', 'EUR'),
	billing.set_price('bench', 'list', 'seat', '{"model": "per_unit", "unit": "12.50"}', '2026-01-01'),
	billing.set_price('bench', 'list', 'api', '{"model": "graduated", "tiers": [{"up_to": 100, "unit": "0"},
		{"up_to": 1000, "unit": "0.05"}, {"up_to": 5000, "unit": "0.02"}, {"up_to": null, "unit": "0.0125"}]}', '2026-01-01');
INSERT INTO billing.customer (entity_id, code, name, address, postal_code, city, country)
VALUES (billing_internal.entity_id('bench'), 'customer-1', 'Customer 1', 'Street 1', '10115', 'Berlin', 'DE');
INSERT INTO billing.billing_account (entity_id, code, customer_id, currency)
SELECT c.entity_id, 'account-1', c.customer_id, 'EUR' FROM billing.customer c WHERE c.code = 'customer-1';
SELECT billing.create_contract('bench', 'contract-1', 'account-1', '2026-01-01'),
	billing.add_item('bench', 'contract-1', 'seats', 'seat', 'recurring', 2, price_book => 'list'),
	billing.add_item('bench', 'contract-1', 'api', 'api', 'usage', price_book => 'list', meter => 'api.calls');
RESET SESSION AUTHORIZATION;

CREATE SCHEMA load;
-- Insert rows of a table again for the accounts first + 1 to last + 1: t is a row, n counts from first to last, and changed says how
-- columns come about that are not as they were; null leaves a column to its default.
CREATE PROCEDURE load.copy_rows(relation regclass, condition text, first integer, last integer, changed jsonb) LANGUAGE plpgsql AS $$
DECLARE
	columns text;
	expressions text;
BEGIN
	SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
		string_agg(coalesce(changed ->> attname, 't.' || quote_ident(attname)), ', ' ORDER BY attnum)
	INTO columns, expressions
	FROM pg_attribute
	WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
		AND changed -> attname IS DISTINCT FROM jsonb 'null';
	EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %3$s FROM (SELECT * FROM %1$s WHERE %4$s) t, generate_series(%5$s, %6$s) n',
		relation, columns, expressions, condition, first, last);
END $$;

CREATE PROCEDURE load.accounts(accounts integer) LANGUAGE plpgsql AS $$
DECLARE
	entity integer := billing_internal.entity_id('bench');
	account bigint := (SELECT account_id FROM billing.billing_account WHERE entity_id = entity AND code = 'account-1');
	customer bigint := (SELECT customer_id FROM billing.customer WHERE entity_id = entity AND code = 'customer-1');
	copied record;
BEGIN
	SET LOCAL session_replication_role = replica;
	SET LOCAL synchronous_commit = off;
	FOR copied IN
		SELECT * FROM (VALUES ('customer', 'customer_id', customer), ('billing_account', 'account_id', account),
			('contract', 'account_id', account), ('contract_item', 'account_id', account), ('contract_item_version', 'account_id', account),
			('account_change', 'account_id', account)) AS c (relation, key, value)
	LOOP
		CALL load.copy_rows(('billing.' || copied.relation)::regclass, format('entity_id = %s AND %I = %s', entity, copied.key, copied.value),
			1, accounts - 1, jsonb_build_object(
				'customer_id', 't.customer_id + n', 'account_id', 't.account_id + n', 'contract_id', 't.contract_id + n',
				'item_id', 't.item_id + 2 * n', 'version_id', 't.version_id + 2 * n', 'change_id', NULL,
				'code', $e$ regexp_replace(t.code, '-1$', '-' || n + 1) $e$,
				'name', $e$ 'Customer ' || n + 1 $e$, 'address', $e$ 'Street ' || n + 1 $e$,
				'quantity', 'CASE WHEN t.quantity IS NOT NULL THEN 1 + (n + 1) % 50 END'));
	END LOOP;
	PERFORM setval('billing.customer_customer_id_seq', (SELECT max(customer_id) FROM billing.customer)),
		setval('billing.billing_account_account_id_seq', (SELECT max(account_id) FROM billing.billing_account)),
		setval('billing.contract_contract_id_seq', (SELECT max(contract_id) FROM billing.contract)),
		setval('billing.contract_item_item_id_seq', (SELECT max(item_id) FROM billing.contract_item)),
		setval('billing.contract_item_version_version_id_seq', (SELECT max(version_id) FROM billing.contract_item_version));
END $$;

-- The events of the first account come in by the door. Then copies, in the order of time, without the rows that recognise an event
-- that arrives again.
CREATE PROCEDURE load.usage(month date) LANGUAGE plpgsql AS $$
DECLARE
	entity integer := billing_internal.entity_id('bench');
	account bigint := (SELECT account_id FROM billing.billing_account WHERE entity_id = entity AND code = 'account-1');
	accounts integer := (SELECT count(*) FROM billing.billing_account WHERE entity_id = entity);
	quantity constant text := '(((n + 1) * 37 + %s * 411) %% 4000 / 4.0)';
	sent jsonb;
	event integer;
BEGIN
	SET LOCAL synchronous_commit = off;
	SELECT jsonb_agg(jsonb_build_object('id', format('1-%s-%s', month, e), 'source', '/bench', 'type', 'api.calls', 'subject', 'account-1',
		'time', to_char(month + 9 + e, 'YYYY-MM-DD') || 'T10:00:00Z', 'data', jsonb_build_object('quantity', (37 + e * 411) % 4000 / 4.0)))
	INTO sent
	FROM generate_series(1, 3) AS e;
	PERFORM * FROM billing.ingest_usage('bench', sent);
	SET LOCAL session_replication_role = replica;
	FOR event IN 1..3 LOOP
		CALL load.copy_rows('billing.usage_event', format('entity_id = %s AND account_id = %s AND event_key = ''1-%s-%s''',
			entity, account, month, event), 1, accounts - 1, jsonb_build_object(
				'event_id', NULL, 'transaction_id', NULL, 'account_id', 't.account_id + n',
				'event_key', format($e$ format('%%s-%s-%s', n + 1) $e$, month, event),
				'subject', $e$ 'account-' || n + 1 $e$,
				'quantity', format(quantity, event),
				'data', format($e$ jsonb_build_object('quantity', %s) $e$, format(quantity, event)),
				'content', format($e$ billing_internal.usage_content(t.event_type, 'account-' || n + 1, t.occurred_at,
					jsonb_build_object('quantity', %s)) $e$, format(quantity, event))));
	END LOOP;
	SET LOCAL session_replication_role = origin;
	COMMIT;
	PERFORM billing.roll_up_usage('bench');
END $$;

CALL load.accounts(:accounts);
ANALYZE billing.customer, billing.billing_account, billing.contract, billing.contract_item, billing.contract_item_version;
