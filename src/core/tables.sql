-- Roles, types, and the tables that say who the entities are, who acts in them and with which duties.

-- What this script calls is bound for good: nothing that somebody put into the schema of another extension may come into its way.
-- CREATE EXTENSION sets search_path back when the script ends.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, billing, pg_temp', true);

CREATE SCHEMA billing_internal;
COMMENT ON SCHEMA billing IS
	'What billing_erp offers: tables and views to read, functions to call';
COMMENT ON SCHEMA billing_internal IS
	'Steps of billing_erp that no user calls';

CREATE FUNCTION billing_internal.create_roles() RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_create_roles';
COMMENT ON FUNCTION billing_internal.create_roles() IS
	'Makes the roles billing_owner and billing_user where they are missing; the install script calls it';
SELECT billing_internal.create_roles();

GRANT USAGE ON SCHEMA billing, billing_internal TO billing_user;

CREATE FUNCTION billing_internal.protect(
	table_name regclass, kind text, duty text DEFAULT NULL, dump_filter text DEFAULT '')
	RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_protect';
COMMENT ON FUNCTION billing_internal.protect(regclass, text, text, text) IS
	'Gives a table row-level security, grants, write guards and its mark for pg_dump; install scripts call it';

CREATE FUNCTION billing_internal.adopt() RETURNS void
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_adopt';
COMMENT ON FUNCTION billing_internal.adopt() IS
	'Hands every object of the extension to billing_owner; the last act of an install or upgrade script';

CREATE FUNCTION billing_internal.guard_writes() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_guard_writes';
COMMENT ON FUNCTION billing_internal.guard_writes() IS
	'Statement trigger: refuses writes that no function of the extension does, and deletions';

CREATE FUNCTION billing_internal.guard_row(table_name text) RETURNS boolean
	STABLE STRICT
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_guard_row';
COMMENT ON FUNCTION billing_internal.guard_row(text) IS
	'For CHECK constraints of tables whose triggers a dump makes after their rows: refuses a row that no function of the extension writes, and no restore';
GRANT EXECUTE ON FUNCTION billing_internal.guard_row(text) TO billing_user;

CREATE FUNCTION billing_internal.guard_duty() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_guard_duty';
COMMENT ON FUNCTION billing_internal.guard_duty() IS
	'Row trigger: whoever writes master data holds the duty for it in the row''s entity';

CREATE FUNCTION billing.my_entities() RETURNS integer[]
	STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_core_my_entities';
COMMENT ON FUNCTION billing.my_entities() IS
	'The ids of the entities whose rows the actor may see: every row-level security policy asks it once per query';

-- A domain refuses NaN and infinity because both lie outside a two-sided range.
CREATE DOMAIN billing.amount AS numeric
	CONSTRAINT amount_is_finite CHECK (VALUE > -1e27 AND VALUE < 1e27);
COMMENT ON DOMAIN billing.amount IS
	'An amount of money in the currency beside it: exact, finite, below 10^27 in size';

CREATE DOMAIN billing.quantity AS numeric
	CONSTRAINT quantity_is_finite CHECK (VALUE > -1e36 AND VALUE < 1e36);
COMMENT ON DOMAIN billing.quantity IS
	'A quantity of a product in its unit: exact, finite, below 10^36 in size; negative for a correction';

CREATE DOMAIN billing.code AS text
	CONSTRAINT code_is_printable CHECK (VALUE ~ '^[^[:cntrl:] ]([^[:cntrl:]]*[^[:cntrl:] ])?$' AND octet_length(VALUE) <= 128);
COMMENT ON DOMAIN billing.code IS
	'What people call a thing: printable, at most 128 bytes, no blank at either end';

CREATE TABLE billing.currency (
	currency     text     NOT NULL CONSTRAINT currency_pkey PRIMARY KEY,
	numeric_code text     NOT NULL CONSTRAINT currency_numeric_code_key UNIQUE,
	minor_unit   smallint NOT NULL,
	name         text     NOT NULL,
	CONSTRAINT currency_is_iso_4217 CHECK (currency ~ '^[A-Z]{3}$' AND numeric_code ~ '^[0-9]{3}$'),
	CONSTRAINT currency_minor_unit_in_range CHECK (minor_unit BETWEEN 0 AND 4)
);
COMMENT ON TABLE billing.currency IS 'Currencies of ISO 4217';
COMMENT ON COLUMN billing.currency.currency IS 'Alphabetic code, such as EUR';
COMMENT ON COLUMN billing.currency.numeric_code IS 'Numeric code, such as 978';
COMMENT ON COLUMN billing.currency.minor_unit IS 'Decimals of the minor unit: EUR 2, JPY 0, BHD 3';
COMMENT ON COLUMN billing.currency.name IS 'English name';

CREATE TABLE billing.legal_entity (
	entity_id          serial          CONSTRAINT legal_entity_pkey PRIMARY KEY,
	code               billing.code    NOT NULL CONSTRAINT legal_entity_code_key UNIQUE,
	name               text            NOT NULL,
	currency           text            NOT NULL CONSTRAINT legal_entity_currency_fkey REFERENCES billing.currency,
	time_zone          text            NOT NULL,
	fiscal_year_start  smallint        NOT NULL DEFAULT 1,
	rounding_mode      text            NOT NULL DEFAULT 'half_up',
	auto_approve_limit billing.amount  NOT NULL DEFAULT 0,
	zero_invoices      text            NOT NULL DEFAULT 'hold',
	address            text,
	postal_code        text,
	city               text,
	country            text,
	tax_id             text,
	registration_id    text,
	parent_id          integer         CONSTRAINT legal_entity_parent_fkey REFERENCES billing.legal_entity,
	CONSTRAINT legal_entity_not_own_parent CHECK (parent_id <> entity_id),
	CONSTRAINT legal_entity_fiscal_year_start_is_month CHECK (fiscal_year_start BETWEEN 1 AND 12),
	CONSTRAINT legal_entity_rounding_mode_known CHECK (rounding_mode IN ('half_up', 'half_even')),
	CONSTRAINT legal_entity_auto_approve_limit_not_negative CHECK (auto_approve_limit >= 0),
	CONSTRAINT legal_entity_zero_invoices_known CHECK (zero_invoices IN ('hold', 'issue')),
	CONSTRAINT legal_entity_country_is_iso_3166 CHECK (country ~ '^[A-Z]{2}$'),
	CONSTRAINT legal_entity_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000),
	CONSTRAINT legal_entity_particulars_length CHECK (
		coalesce(octet_length(address), 0) + coalesce(octet_length(postal_code), 0) + coalesce(octet_length(city), 0)
		+ coalesce(octet_length(tax_id), 0) + coalesce(octet_length(registration_id), 0) <= 10000)
);
COMMENT ON TABLE billing.legal_entity IS
	'The companies that bill: every row of business data belongs to one of them';
COMMENT ON COLUMN billing.legal_entity.entity_id IS 'Key; the first column of every key of business data';
COMMENT ON COLUMN billing.legal_entity.code IS 'What API functions call the entity';
COMMENT ON COLUMN billing.legal_entity.name IS 'Legal name, as printed on documents';
COMMENT ON COLUMN billing.legal_entity.currency IS 'Currency of its books; limits are amounts in it';
COMMENT ON COLUMN billing.legal_entity.time_zone IS 'IANA time zone in which its days begin';
COMMENT ON COLUMN billing.legal_entity.fiscal_year_start IS 'Month in which its fiscal year begins; the year is called after the calendar year in which it ends';
COMMENT ON COLUMN billing.legal_entity.rounding_mode IS 'half_up: half away from zero; half_even: half to the even digit';
COMMENT ON COLUMN billing.legal_entity.auto_approve_limit IS 'Documents of at most this size, in the entity''s currency, are approved without a person; 0 sends all to an approver';
COMMENT ON COLUMN billing.legal_entity.zero_invoices IS 'What becomes of an invoice with the total 0: hold puts it on hold, issue lets it pass';
COMMENT ON COLUMN billing.legal_entity.address IS 'Street and number, or several lines';
COMMENT ON COLUMN billing.legal_entity.postal_code IS 'Postal code';
COMMENT ON COLUMN billing.legal_entity.city IS 'City';
COMMENT ON COLUMN billing.legal_entity.country IS 'Country, ISO 3166-1 alpha-2';
COMMENT ON COLUMN billing.legal_entity.tax_id IS 'Tax identifier, such as a VAT number';
COMMENT ON COLUMN billing.legal_entity.registration_id IS 'Identifier in the company register';
COMMENT ON COLUMN billing.legal_entity.parent_id IS 'The entity whose approval policies hold where this one has none of its own for a kind of document; set by billing.set_parent_entity()';

CREATE TABLE billing.person (
	person_id serial       CONSTRAINT person_pkey PRIMARY KEY,
	code      billing.code NOT NULL CONSTRAINT person_code_key UNIQUE,
	name      text         NOT NULL,
	CONSTRAINT person_name_length CHECK (octet_length(name) BETWEEN 1 AND 10000)
);
COMMENT ON TABLE billing.person IS
	'The people who act, whatever database role they come in by; person 0 is the system';
COMMENT ON COLUMN billing.person.person_id IS 'Key';
COMMENT ON COLUMN billing.person.code IS 'What API functions call the person';
COMMENT ON COLUMN billing.person.name IS 'Name for people';

CREATE TABLE billing.person_login (
	role_name name    CONSTRAINT person_login_pkey PRIMARY KEY,
	person_id integer NOT NULL CONSTRAINT person_login_person_fkey REFERENCES billing.person
);
COMMENT ON TABLE billing.person_login IS
	'Which database role is whose login: the actor is the person of the session user';
COMMENT ON COLUMN billing.person_login.role_name IS 'The role that logs in';
COMMENT ON COLUMN billing.person_login.person_id IS 'Whose login it is; a person may have several';

CREATE TABLE billing.duty (
	duty        text CONSTRAINT duty_pkey PRIMARY KEY,
	description text NOT NULL
);
COMMENT ON TABLE billing.duty IS 'What a person can be charged with in an entity';
COMMENT ON COLUMN billing.duty.duty IS 'Name of the duty';
COMMENT ON COLUMN billing.duty.description IS 'What it allows';

CREATE TABLE billing.duty_conflict (
	duty          text NOT NULL CONSTRAINT duty_conflict_duty_fkey REFERENCES billing.duty,
	conflict_duty text NOT NULL CONSTRAINT duty_conflict_conflict_duty_fkey REFERENCES billing.duty,
	reason        text NOT NULL,
	CONSTRAINT duty_conflict_pkey PRIMARY KEY (duty, conflict_duty),
	CONSTRAINT duty_conflict_named_once CHECK (duty COLLATE "C" < conflict_duty COLLATE "C")
);
COMMENT ON TABLE billing.duty_conflict IS
	'Segregation of duties: pairs that nobody may hold in the same entity on the same day';
COMMENT ON COLUMN billing.duty_conflict.duty IS 'One duty, the earlier in the alphabet';
COMMENT ON COLUMN billing.duty_conflict.conflict_duty IS 'The other duty';
COMMENT ON COLUMN billing.duty_conflict.reason IS 'What could go wrong';

CREATE TABLE billing.duty_assignment (
	entity_id      integer  NOT NULL CONSTRAINT duty_assignment_entity_fkey REFERENCES billing.legal_entity,
	assignment_id  bigserial,
	person_id      integer  NOT NULL CONSTRAINT duty_assignment_person_fkey REFERENCES billing.person,
	duty           text     NOT NULL CONSTRAINT duty_assignment_duty_fkey REFERENCES billing.duty,
	valid_from     date     NOT NULL,
	valid_to       date,
	approval_level smallint,
	approval_limit billing.amount,
	daily_limit    billing.amount,
	CONSTRAINT duty_assignment_pkey PRIMARY KEY (entity_id, assignment_id),
	CONSTRAINT duty_assignment_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT duty_assignment_ends_after_start CHECK (valid_from <= valid_to),
	CONSTRAINT duty_assignment_limit_of_approver
		CHECK (duty = 'approver' OR (approval_level IS NULL AND approval_limit IS NULL AND daily_limit IS NULL)),
	CONSTRAINT duty_assignment_limit_not_negative CHECK (approval_limit >= 0 AND daily_limit >= 0),
	CONSTRAINT duty_assignment_level_positive CHECK (approval_level > 0),
	CONSTRAINT duty_assignment_no_overlap EXCLUDE USING gist (
		entity_id WITH =, person_id WITH =, duty WITH =, daterange(valid_from, valid_to) WITH &&)
);
CREATE INDEX duty_assignment_by_person ON billing.duty_assignment (entity_id, person_id, duty);
COMMENT ON TABLE billing.duty_assignment IS
	'Who holds which duty in which entity, from a date to a date';
COMMENT ON COLUMN billing.duty_assignment.entity_id IS 'The entity in which the duty is held';
COMMENT ON COLUMN billing.duty_assignment.assignment_id IS 'Key within the entity';
COMMENT ON COLUMN billing.duty_assignment.person_id IS 'Who holds it';
COMMENT ON COLUMN billing.duty_assignment.duty IS 'The duty';
COMMENT ON COLUMN billing.duty_assignment.valid_from IS 'First day, in the entity''s time zone';
COMMENT ON COLUMN billing.duty_assignment.valid_to IS 'Day after the last, or null for an open end; equal to valid_from where it was taken back before it began';
COMMENT ON COLUMN billing.duty_assignment.approval_level IS 'Level of an approver; 1 is the lowest';
COMMENT ON COLUMN billing.duty_assignment.approval_limit IS 'Largest amount that the approver may approve, in the entity''s currency; null is without limit';
COMMENT ON COLUMN billing.duty_assignment.daily_limit IS 'Largest sum that the approver may approve in a day, by themselves and through delegates; null is without limit';

SELECT billing_internal.protect('billing.currency', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.legal_entity', 'master', 'admin');
SELECT billing_internal.protect('billing.person', 'document', dump_filter => 'WHERE person_id <> 0');
SELECT billing_internal.protect('billing.person_login', 'queue');
SELECT billing_internal.protect('billing.duty', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.duty_conflict', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.duty_assignment', 'document');

-- An entity's code, currency, time zone, fiscal year and rounding carry its history: only the rest may be edited.
REVOKE INSERT, UPDATE ON billing.legal_entity FROM billing_user;
REVOKE USAGE ON SEQUENCE billing.legal_entity_entity_id_seq FROM billing_user;
GRANT UPDATE (name, auto_approve_limit, zero_invoices, address, postal_code, city, country, tax_id, registration_id)
	ON billing.legal_entity TO billing_user;

-- An entity being created is in nobody's list yet: 0, the installation, stands for it.
ALTER POLICY entity_isolation ON billing.legal_entity
	USING (entity_id = ANY ((SELECT billing.my_entities())::int[]) OR 0 = ANY ((SELECT billing.my_entities())::int[]));

-- A person is visible to those who share an entity with them.
ALTER TABLE billing.person ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.person FORCE ROW LEVEL SECURITY;
CREATE POLICY shared_entity ON billing.person USING (
	0 = ANY ((SELECT billing.my_entities())::int[])
	OR person_id = 0
	OR person_id IN (SELECT a.person_id FROM billing.duty_assignment a)
);
ALTER TABLE billing.person_login ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.person_login FORCE ROW LEVEL SECURITY;
CREATE POLICY shared_entity ON billing.person_login USING (
	0 = ANY ((SELECT billing.my_entities())::int[])
	OR person_id IN (SELECT a.person_id FROM billing.duty_assignment a)
);
