-- The rules of the house hold for every object of the extension. The rules themselves: test/lib/house_rules.sql.
BEGIN;
\ir ../lib/house_rules.sql
SELECT plan(19);

SELECT isnt_empty('SELECT * FROM member_table', 'there is something to look at');
SELECT is_empty('SELECT offender FROM rule_comments', 'every object has a comment');
SELECT is_empty('SELECT offender FROM rule_languages', 'functions are written in C or SQL');
SELECT is_empty('SELECT offender FROM rule_definer_path', 'SECURITY DEFINER functions pin their search_path');
SELECT is_empty('SELECT offender FROM rule_atomic_bodies', 'SQL functions have parsed bodies');
SELECT is_empty('SELECT offender FROM rule_entity_or_reference', 'a table has a legal entity or is a known reference table');
SELECT is_empty('SELECT offender FROM rule_keys_led_by_entity', 'keys of business tables are led by entity_id');
SELECT is_empty('SELECT offender FROM rule_foreign_keys_led_by_entity', 'foreign keys of business tables are led by entity_id');
SELECT is_empty('SELECT offender FROM rule_row_security', 'row-level security is enabled and forced on business tables');
SELECT is_empty('SELECT offender FROM rule_marked_for_dump', 'tables and their sequences are marked for pg_dump');
SELECT is_empty('SELECT offender FROM rule_document_writes', 'nobody but billing_owner writes documents');
SELECT is_empty('SELECT offender FROM rule_public_execute', 'PUBLIC may execute nothing that writes');
SELECT is_empty('SELECT offender FROM rule_security_invoker', 'views show what their reader may see');
SELECT is_empty('SELECT offender FROM rule_ownership', 'every object belongs to billing_owner');
SELECT is_empty('SELECT offender FROM rule_constraint_names', 'constraints have names that say something');
SELECT is_empty('SELECT offender FROM rule_column_types', 'ids are bigserial, amounts exact, moments have a time zone');
SELECT is_empty('SELECT offender FROM rule_symbols', 'C functions have symbols of billing_erp');
SELECT is_empty('SELECT offender FROM rule_usage_months', 'the months of usage are protected as the whole');
SELECT is_empty(
	$$SELECT c.relname FROM pg_catalog.pg_class c
	WHERE c.relnamespace = pg_catalog.pg_my_temp_schema() AND c.relname ~ '^rule_'
	AND c.relname NOT IN (SELECT 'rule_' || x FROM unnest('{comments,languages,definer_path,atomic_bodies,entity_or_reference,keys_led_by_entity,foreign_keys_led_by_entity,row_security,marked_for_dump,document_writes,public_execute,security_invoker,ownership,constraint_names,column_types,symbols,usage_months}'::text[]) x)$$,
	'every rule is asked here');

SELECT * FROM finish();
ROLLBACK;
