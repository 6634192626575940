-- What was agreed: contracts, their items, and every version of an item's terms.

CREATE TABLE billing.contract (
	entity_id      integer      NOT NULL,
	contract_id    bigserial,
	code           billing.code NOT NULL,
	account_id     bigint       NOT NULL,
	currency       text         NOT NULL CONSTRAINT contract_currency_fkey REFERENCES billing.currency,
	start_date     date         NOT NULL,
	end_date       date,
	anchor         date         NOT NULL,
	interval_unit  text         NOT NULL,
	interval_count integer      NOT NULL,
	owner_id       integer      CONSTRAINT contract_owner_fkey REFERENCES billing.person,
	CONSTRAINT contract_pkey PRIMARY KEY (entity_id, contract_id),
	CONSTRAINT contract_code_key UNIQUE (entity_id, code),
	CONSTRAINT contract_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account,
	CONSTRAINT contract_dates_finite CHECK (isfinite(start_date) AND isfinite(end_date) AND isfinite(anchor)),
	CONSTRAINT contract_ends_after_start CHECK (start_date <= end_date),
	CONSTRAINT contract_interval_unit_known CHECK (interval_unit IN ('day', 'week', 'month', 'quarter', 'year')),
	CONSTRAINT contract_interval_count_in_range CHECK (interval_count BETWEEN 1 AND 1000),
	CONSTRAINT contract_dates_in_range CHECK (
		start_date BETWEEN '1900-01-01' AND '2999-12-31' AND anchor BETWEEN '1900-01-01' AND '2999-12-31'
		AND (end_date IS NULL OR end_date BETWEEN '1900-01-01' AND '2999-12-31'))
);
CREATE INDEX contract_by_account ON billing.contract (entity_id, account_id);
COMMENT ON TABLE billing.contract IS 'What was agreed with a customer: its term, and how its time is cut into billing periods';
COMMENT ON COLUMN billing.contract.entity_id IS 'The entity';
COMMENT ON COLUMN billing.contract.contract_id IS 'Key within the entity';
COMMENT ON COLUMN billing.contract.code IS 'What API functions call it';
COMMENT ON COLUMN billing.contract.account_id IS 'The billing account that it is billed to';
COMMENT ON COLUMN billing.contract.currency IS 'Currency of its prices, that of the account';
COMMENT ON COLUMN billing.contract.start_date IS 'First day';
COMMENT ON COLUMN billing.contract.end_date IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.contract.anchor IS 'Day from which billing periods are counted';
COMMENT ON COLUMN billing.contract.interval_unit IS 'Length of a billing period: day, week, month, quarter or year';
COMMENT ON COLUMN billing.contract.interval_count IS 'times this many';
COMMENT ON COLUMN billing.contract.owner_id IS 'Whom approval policies ask that ask the contract''s owner; null for nobody';

CREATE TABLE billing.contract_item (
	entity_id   integer      NOT NULL,
	item_id     bigserial,
	contract_id bigint       NOT NULL,
	code        billing.code NOT NULL,
	account_id  bigint       NOT NULL,
	product_id  bigint       NOT NULL,
	charge      text         NOT NULL,
	timing      text         NOT NULL,
	meter_id    bigint,
	own_usage   boolean      NOT NULL DEFAULT false,
	CONSTRAINT contract_item_pkey PRIMARY KEY (entity_id, item_id),
	CONSTRAINT contract_item_code_key UNIQUE (entity_id, contract_id, code),
	CONSTRAINT contract_item_contract_fkey FOREIGN KEY (entity_id, contract_id) REFERENCES billing.contract,
	CONSTRAINT contract_item_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account,
	CONSTRAINT contract_item_product_fkey FOREIGN KEY (entity_id, product_id) REFERENCES billing.product,
	CONSTRAINT contract_item_meter_fkey FOREIGN KEY (entity_id, meter_id) REFERENCES billing.meter,
	CONSTRAINT contract_item_charge_known CHECK (charge IN ('recurring', 'usage', 'one_time')),
	CONSTRAINT contract_item_timing_known CHECK (timing IN ('advance', 'arrears')),
	CONSTRAINT contract_item_usage_has_meter CHECK ((charge = 'usage') = (meter_id IS NOT NULL)),
	CONSTRAINT contract_item_usage_in_arrears CHECK (charge <> 'usage' OR timing = 'arrears'),
	CONSTRAINT contract_item_own_usage_is_usage CHECK (charge = 'usage' OR NOT own_usage)
);
CREATE INDEX contract_item_by_account ON billing.contract_item (entity_id, account_id);
CREATE INDEX contract_item_with_own_usage ON billing.contract_item (entity_id) WHERE own_usage;
COMMENT ON TABLE billing.contract_item IS 'One thing that a contract charges for; its terms are in contract_item_version';
COMMENT ON COLUMN billing.contract_item.entity_id IS 'The entity';
COMMENT ON COLUMN billing.contract_item.item_id IS 'Key within the entity';
COMMENT ON COLUMN billing.contract_item.contract_id IS 'The contract';
COMMENT ON COLUMN billing.contract_item.code IS 'What API functions call it within the contract';
COMMENT ON COLUMN billing.contract_item.account_id IS 'The contract''s billing account';
COMMENT ON COLUMN billing.contract_item.product_id IS 'What is charged for';
COMMENT ON COLUMN billing.contract_item.charge IS 'recurring: a quantity per period; usage: what a meter measured in the period; one_time: once, on the first day of its terms';
COMMENT ON COLUMN billing.contract_item.timing IS 'advance: due when the period begins; arrears: due when it has ended';
COMMENT ON COLUMN billing.contract_item.meter_id IS 'What measures the usage';
COMMENT ON COLUMN billing.contract_item.own_usage IS 'Whether it charges for the events that name it alone; otherwise for those that name the account';

CREATE TABLE billing.contract_item_version (
	entity_id     integer          NOT NULL,
	version_id    bigserial,
	item_id       bigint           NOT NULL,
	account_id    bigint           NOT NULL,
	meter_id      bigint,
	own_usage     boolean          NOT NULL DEFAULT false,
	valid_from    date             NOT NULL,
	valid_to      date,
	quantity      billing.quantity,
	tariff        billing.tariff,
	price_book_id bigint,
	recorded_at   timestamptz      NOT NULL DEFAULT now(),
	recorded_by   integer          NOT NULL CONSTRAINT contract_item_version_recorded_by_fkey REFERENCES billing.person,
	superseded_at timestamptz,
	reason        text,
	CONSTRAINT contract_item_version_pkey PRIMARY KEY (entity_id, item_id, version_id),
	CONSTRAINT contract_item_version_item_fkey FOREIGN KEY (entity_id, item_id) REFERENCES billing.contract_item,
	CONSTRAINT contract_item_version_price_book_fkey FOREIGN KEY (entity_id, price_book_id) REFERENCES billing.price_book,
	CONSTRAINT contract_item_version_dates_finite CHECK (isfinite(valid_from) AND isfinite(valid_to)),
	CONSTRAINT contract_item_version_dates_in_range CHECK (
		valid_from BETWEEN '1900-01-01' AND '2999-12-31' AND (valid_to IS NULL OR valid_to BETWEEN '1900-01-01' AND '2999-12-31')),
	CONSTRAINT contract_item_version_not_empty CHECK (valid_from < valid_to),
	CONSTRAINT contract_item_version_one_price CHECK ((tariff IS NULL) <> (price_book_id IS NULL)),
	CONSTRAINT contract_item_version_usage_or_quantity CHECK ((meter_id IS NULL) = (quantity IS NOT NULL)),
	CONSTRAINT contract_item_version_no_overlap EXCLUDE USING gist (
		entity_id WITH =, item_id WITH =, daterange(valid_from, valid_to) WITH &&) WHERE (superseded_at IS NULL),
	CONSTRAINT contract_item_version_usage_charged_once EXCLUDE USING gist (
		entity_id WITH =, account_id WITH =, meter_id WITH =, daterange(valid_from, valid_to) WITH &&)
		WHERE (superseded_at IS NULL AND NOT own_usage AND meter_id IS NOT NULL)
);
CREATE INDEX contract_item_version_current ON billing.contract_item_version (entity_id, item_id) WHERE superseded_at IS NULL;
CREATE INDEX contract_item_version_by_price_book ON billing.contract_item_version (entity_id, price_book_id)
	WHERE superseded_at IS NULL AND price_book_id IS NOT NULL;
COMMENT ON TABLE billing.contract_item_version IS
	'The terms of an item from a day to a day, as recorded at a time: an amendment supersedes versions and adds new ones, also for days past';
COMMENT ON COLUMN billing.contract_item_version.entity_id IS 'The entity';
COMMENT ON COLUMN billing.contract_item_version.version_id IS 'Key within the item';
COMMENT ON COLUMN billing.contract_item_version.item_id IS 'The item';
COMMENT ON COLUMN billing.contract_item_version.account_id IS 'The item''s billing account: no usage of an account is charged by two items';
COMMENT ON COLUMN billing.contract_item_version.meter_id IS 'The item''s meter';
COMMENT ON COLUMN billing.contract_item_version.own_usage IS 'The item''s own_usage: the account may have many such items with one meter';
COMMENT ON COLUMN billing.contract_item_version.valid_from IS 'First day of the terms';
COMMENT ON COLUMN billing.contract_item_version.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.contract_item_version.quantity IS 'Quantity per period, or once; null for usage';
COMMENT ON COLUMN billing.contract_item_version.tariff IS 'The price, where it was agreed for this item';
COMMENT ON COLUMN billing.contract_item_version.price_book_id IS 'The price book that has the price otherwise';
COMMENT ON COLUMN billing.contract_item_version.recorded_at IS 'When this version was known from';
COMMENT ON COLUMN billing.contract_item_version.recorded_by IS 'Who recorded it';
COMMENT ON COLUMN billing.contract_item_version.superseded_at IS 'When it ceased to be the last word, or null while it is';
COMMENT ON COLUMN billing.contract_item_version.reason IS 'Why, as the actor said';

SELECT billing_internal.protect('billing.contract', 'document');
SELECT billing_internal.protect('billing.contract_item', 'document');
SELECT billing_internal.protect('billing.contract_item_version', 'document');

SELECT billing_internal.audit_table('billing.contract', 'contract', 'contract_id');
SELECT billing_internal.audit_table('billing.contract_item', 'contract_item', 'item_id');
SELECT billing_internal.audit_table('billing.contract_item_version', 'contract_item_version', 'version_id');

-- Every way in which a contract changes leaves the account on the list of what the next billing run looks at again.
CREATE FUNCTION billing_internal.note_contract_change() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_contract_note_change';
COMMENT ON FUNCTION billing_internal.note_contract_change() IS
	'Statement trigger: writes a row of billing.account_change for every account whose contract or terms a statement wrote';

-- a contract without items owes nothing: making one changes nothing
CREATE TRIGGER y_note_change AFTER UPDATE ON billing.contract REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_contract_change('contract');
CREATE TRIGGER y_note_change_insert AFTER INSERT ON billing.contract_item_version REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_contract_change('terms');
CREATE TRIGGER y_note_change_update AFTER UPDATE ON billing.contract_item_version REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_contract_change('terms');
