-- What was billed: runs, invoices and credit notes with their lines and taxes, and the numbers they got.

CREATE TABLE billing.billing_run (
	entity_id    integer     NOT NULL CONSTRAINT billing_run_entity_fkey REFERENCES billing.legal_entity,
	run_id       bigserial,
	through_date date        NOT NULL,
	started_by   integer     NOT NULL CONSTRAINT billing_run_started_by_fkey REFERENCES billing.person,
	started_at   timestamptz NOT NULL DEFAULT now(),
	finished_at  timestamptz,
	accounts     bigint      NOT NULL DEFAULT 0,
	documents    bigint      NOT NULL DEFAULT 0,
	lines        bigint      NOT NULL DEFAULT 0,
	exceptions   bigint      NOT NULL DEFAULT 0,
	CONSTRAINT billing_run_pkey PRIMARY KEY (entity_id, run_id),
	CONSTRAINT billing_run_through_date_finite CHECK (isfinite(through_date))
);
COMMENT ON TABLE billing.billing_run IS 'Every billing run: through which day it billed, and what came of it';
COMMENT ON COLUMN billing.billing_run.entity_id IS 'The entity';
COMMENT ON COLUMN billing.billing_run.run_id IS 'Key within the entity';
COMMENT ON COLUMN billing.billing_run.through_date IS 'What falls due on or before this day was billed';
COMMENT ON COLUMN billing.billing_run.started_by IS 'Who ran it, and is the maker of its documents; 0 is the system';
COMMENT ON COLUMN billing.billing_run.started_at IS 'When it began';
COMMENT ON COLUMN billing.billing_run.finished_at IS 'When it ended, or null while it runs or where it broke off; the next run does what it left';
COMMENT ON COLUMN billing.billing_run.accounts IS 'Accounts looked at';
COMMENT ON COLUMN billing.billing_run.documents IS 'Invoices and credit notes made';
COMMENT ON COLUMN billing.billing_run.lines IS 'Lines written';
COMMENT ON COLUMN billing.billing_run.exceptions IS 'Charges that could not be billed, and pricing discrepancies';

CREATE TABLE billing.account_watermark (
	entity_id      integer NOT NULL,
	account_id     bigint  NOT NULL,
	billed_through date    NOT NULL,
	CONSTRAINT account_watermark_pkey PRIMARY KEY (entity_id, account_id),
	CONSTRAINT account_watermark_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account
);
COMMENT ON TABLE billing.account_watermark IS
	'Through which day an account was billed; a run locks the row, so that no two runs bill an account at once';
COMMENT ON COLUMN billing.account_watermark.entity_id IS 'The entity';
COMMENT ON COLUMN billing.account_watermark.account_id IS 'The account';
COMMENT ON COLUMN billing.account_watermark.billed_through IS 'The latest day; it never goes back';

CREATE TABLE billing.number_series (
	entity_id   integer NOT NULL CONSTRAINT number_series_entity_fkey REFERENCES billing.legal_entity,
	series      text    NOT NULL,
	fiscal_year integer NOT NULL,
	last_number bigint  NOT NULL,
	CONSTRAINT number_series_pkey PRIMARY KEY (entity_id, series, fiscal_year),
	CONSTRAINT number_series_counts_up CHECK (last_number > 0)
);
COMMENT ON TABLE billing.number_series IS 'The last legal number of each series and fiscal year; numbers have no gaps';
COMMENT ON COLUMN billing.number_series.entity_id IS 'The entity';
COMMENT ON COLUMN billing.number_series.series IS 'INV for invoices, CN for credit notes';
COMMENT ON COLUMN billing.number_series.fiscal_year IS 'The fiscal year';
COMMENT ON COLUMN billing.number_series.last_number IS 'The number given last';

CREATE TABLE billing.invoice (
	entity_id    integer        NOT NULL,
	invoice_id   bigint         NOT NULL,
	run_id       bigint         NOT NULL,
	account_id   bigint         NOT NULL,
	currency     text           NOT NULL CONSTRAINT invoice_currency_fkey REFERENCES billing.currency,
	billing_date date           NOT NULL,
	net          billing.amount NOT NULL,
	tax          billing.amount NOT NULL,
	total        billing.amount NOT NULL,
	reference    text           NOT NULL GENERATED ALWAYS AS ('D' || invoice_id) STORED,
	series       text,
	fiscal_year  integer,
	sequence     bigint,
	number       text,
	issue_date   date,
	due_date     date,
	seller       jsonb,
	buyer        jsonb,
	CONSTRAINT invoice_pkey PRIMARY KEY (entity_id, invoice_id),
	CONSTRAINT invoice_document_fkey FOREIGN KEY (entity_id, invoice_id) REFERENCES billing.document,
	CONSTRAINT invoice_run_fkey FOREIGN KEY (entity_id, run_id) REFERENCES billing.billing_run,
	CONSTRAINT invoice_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account,
	CONSTRAINT invoice_total_is_net_and_tax CHECK (total = net + tax),
	CONSTRAINT invoice_issued_completely CHECK (
		(number IS NULL) = (series IS NULL) AND (number IS NULL) = (fiscal_year IS NULL)
		AND (number IS NULL) = (sequence IS NULL) AND (number IS NULL) = (issue_date IS NULL)
		AND (number IS NULL) = (due_date IS NULL) AND (number IS NULL) = (seller IS NULL)
		AND (number IS NULL) = (buyer IS NULL))
);
CREATE UNIQUE INDEX invoice_number_key ON billing.invoice (entity_id, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX invoice_sequence_key ON billing.invoice (entity_id, series, fiscal_year, sequence) WHERE number IS NOT NULL;
CREATE INDEX invoice_by_account ON billing.invoice (entity_id, account_id, billing_date);
COMMENT ON TABLE billing.invoice IS
	'Invoices and credit notes: one per billing account, currency and billing date of a run; an issued one never changes';
COMMENT ON COLUMN billing.invoice.entity_id IS 'The entity that bills';
COMMENT ON COLUMN billing.invoice.invoice_id IS 'Key within the entity; the document''s id';
COMMENT ON COLUMN billing.invoice.run_id IS 'The run that made it';
COMMENT ON COLUMN billing.invoice.account_id IS 'The billing account';
COMMENT ON COLUMN billing.invoice.currency IS 'Currency of its amounts';
COMMENT ON COLUMN billing.invoice.billing_date IS 'Day on which its charges fell due; of a correction, the day through which it was billed';
COMMENT ON COLUMN billing.invoice.net IS 'Sum of its lines';
COMMENT ON COLUMN billing.invoice.tax IS 'Sum of its taxes';
COMMENT ON COLUMN billing.invoice.total IS 'Net and tax; below zero for a credit note';
COMMENT ON COLUMN billing.invoice.reference IS 'What API functions call it before it has a number: D and its id';
COMMENT ON COLUMN billing.invoice.series IS 'Series of its number';
COMMENT ON COLUMN billing.invoice.fiscal_year IS 'Fiscal year of its number';
COMMENT ON COLUMN billing.invoice.sequence IS 'Its number within series and year';
COMMENT ON COLUMN billing.invoice.number IS 'Legal number, given when it is issued';
COMMENT ON COLUMN billing.invoice.issue_date IS 'Day of issue in the entity''s time zone';
COMMENT ON COLUMN billing.invoice.due_date IS 'Day by which it is to be paid';
COMMENT ON COLUMN billing.invoice.seller IS 'The entity''s particulars as they were at issue';
COMMENT ON COLUMN billing.invoice.buyer IS 'The customer''s and account''s particulars as they were at issue';

CREATE TABLE billing.invoice_line (
	entity_id             integer          NOT NULL,
	invoice_id            bigint           NOT NULL,
	line_no               integer          NOT NULL,
	kind                  text             NOT NULL,
	item_id               bigint           NOT NULL,
	version_id            bigint           NOT NULL,
	charge_seq            integer          NOT NULL,
	charge_date           date             NOT NULL,
	period_start          date             NOT NULL,
	period_end            date             NOT NULL,
	description           text             NOT NULL,
	quantity              billing.quantity NOT NULL,
	events                bigint,
	dimensions            text             NOT NULL DEFAULT '',
	tariff                billing.tariff   NOT NULL,
	days                  integer          NOT NULL,
	of_days               integer          NOT NULL,
	exact_amount          numeric          NOT NULL,
	amount                billing.amount   NOT NULL,
	tax_code_id           bigint,
	tax_category          text,
	tax_rate              numeric,
	reverses_invoice_id   bigint,
	reverses_line_no      integer,
	discarded             boolean          NOT NULL DEFAULT false,
	CONSTRAINT invoice_line_pkey PRIMARY KEY (entity_id, invoice_id, line_no),
	CONSTRAINT invoice_line_invoice_fkey FOREIGN KEY (entity_id, invoice_id) REFERENCES billing.invoice,
	CONSTRAINT invoice_line_item_fkey FOREIGN KEY (entity_id, item_id) REFERENCES billing.contract_item,
	CONSTRAINT invoice_line_version_fkey FOREIGN KEY (entity_id, version_id) REFERENCES billing.contract_item_version,
	CONSTRAINT invoice_line_reverses_fkey FOREIGN KEY (entity_id, reverses_invoice_id, reverses_line_no) REFERENCES billing.invoice_line,
	CONSTRAINT invoice_line_kind_known CHECK (kind IN ('charge', 'credit')),
	CONSTRAINT invoice_line_credit_reverses CHECK (
		(kind = 'credit') = (reverses_invoice_id IS NOT NULL) AND (kind = 'credit') = (reverses_line_no IS NOT NULL)),
	CONSTRAINT invoice_line_period_not_empty CHECK (period_start < period_end),
	CONSTRAINT invoice_line_share_of_period CHECK (days BETWEEN 1 AND of_days),
	CONSTRAINT invoice_line_tax_complete CHECK ((tax_category IS NULL) = (tax_rate IS NULL))
);
-- No charge twice, and no credit twice, whatever races.
CREATE UNIQUE INDEX invoice_line_charged_once ON billing.invoice_line (entity_id, item_id, period_start, period_end, charge_seq, dimensions)
	WHERE kind = 'charge' AND NOT discarded;
CREATE UNIQUE INDEX invoice_line_credited_once ON billing.invoice_line (entity_id, reverses_invoice_id, reverses_line_no)
	WHERE kind = 'credit' AND NOT discarded;
COMMENT ON TABLE billing.invoice_line IS
	'What was billed, with all it was derived from: a charge for a stretch of days of a contract item, or the credit of such a charge';
COMMENT ON COLUMN billing.invoice_line.entity_id IS 'The entity';
COMMENT ON COLUMN billing.invoice_line.invoice_id IS 'The invoice';
COMMENT ON COLUMN billing.invoice_line.line_no IS 'Position on it, from 1';
COMMENT ON COLUMN billing.invoice_line.kind IS 'charge, or credit of an earlier charge that is no longer entitled as it was';
COMMENT ON COLUMN billing.invoice_line.item_id IS 'The contract item';
COMMENT ON COLUMN billing.invoice_line.version_id IS 'The version of its terms';
COMMENT ON COLUMN billing.invoice_line.charge_seq IS '1 for the first charge of the stretch of days, 2 for the charge after a credit, and so on';
COMMENT ON COLUMN billing.invoice_line.charge_date IS 'Day on which the charge falls due by the contract';
COMMENT ON COLUMN billing.invoice_line.period_start IS 'First day that is charged';
COMMENT ON COLUMN billing.invoice_line.period_end IS 'Day after the last';
COMMENT ON COLUMN billing.invoice_line.description IS 'What is printed';
COMMENT ON COLUMN billing.invoice_line.quantity IS 'Quantity agreed, or measured in the period';
COMMENT ON COLUMN billing.invoice_line.events IS 'Number of usage events behind it; null where nothing was measured';
COMMENT ON COLUMN billing.invoice_line.dimensions IS 'Values of the meter''s group keys that the line is for, as JSON text; empty without group keys';
COMMENT ON COLUMN billing.invoice_line.tariff IS 'The price applied';
COMMENT ON COLUMN billing.invoice_line.days IS 'Days charged';
COMMENT ON COLUMN billing.invoice_line.of_days IS 'of a period of this many days';
COMMENT ON COLUMN billing.invoice_line.exact_amount IS 'Amount before rounding';
COMMENT ON COLUMN billing.invoice_line.amount IS 'Amount in the invoice''s currency, rounded once to its minor unit; without tax';
COMMENT ON COLUMN billing.invoice_line.tax_code_id IS 'How it is taxed; null where no tax code was found';
COMMENT ON COLUMN billing.invoice_line.tax_category IS 'UNCL 5305 category; null where there was no rate on the day of the charge';
COMMENT ON COLUMN billing.invoice_line.tax_rate IS 'Per cent';
COMMENT ON COLUMN billing.invoice_line.reverses_invoice_id IS 'The invoice of the charge that is credited';
COMMENT ON COLUMN billing.invoice_line.reverses_line_no IS 'Its line';
COMMENT ON COLUMN billing.invoice_line.discarded IS 'Whether its document was discarded, so that nothing was billed';

CREATE TABLE billing.invoice_tax (
	entity_id        integer        NOT NULL,
	invoice_id       bigint         NOT NULL,
	tax_no           integer        NOT NULL,
	category         text           NOT NULL,
	rate             numeric        NOT NULL,
	exemption_reason text,
	base             billing.amount NOT NULL,
	tax              billing.amount NOT NULL,
	CONSTRAINT invoice_tax_pkey PRIMARY KEY (entity_id, invoice_id, tax_no),
	CONSTRAINT invoice_tax_invoice_fkey FOREIGN KEY (entity_id, invoice_id) REFERENCES billing.invoice
);
COMMENT ON TABLE billing.invoice_tax IS 'Tax of an invoice by category, rate and reason, on the sum of their lines';
COMMENT ON COLUMN billing.invoice_tax.entity_id IS 'The entity';
COMMENT ON COLUMN billing.invoice_tax.invoice_id IS 'The invoice';
COMMENT ON COLUMN billing.invoice_tax.tax_no IS 'Position on it, from 1';
COMMENT ON COLUMN billing.invoice_tax.category IS 'UNCL 5305 category';
COMMENT ON COLUMN billing.invoice_tax.rate IS 'Per cent';
COMMENT ON COLUMN billing.invoice_tax.exemption_reason IS 'Why no tax is charged, as printed';
COMMENT ON COLUMN billing.invoice_tax.base IS 'Sum of the lines';
COMMENT ON COLUMN billing.invoice_tax.tax IS 'base × rate ÷ 100, rounded once to the currency''s minor unit';

CREATE FUNCTION billing_internal.guard_issued() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_guard_issued';
COMMENT ON FUNCTION billing_internal.guard_issued() IS
	'Row trigger: an issued invoice never changes, and of a line only whether it was discarded';

SELECT billing_internal.protect('billing.billing_run', 'document');
SELECT billing_internal.protect('billing.account_watermark', 'document');
SELECT billing_internal.protect('billing.number_series', 'document');
SELECT billing_internal.protect('billing.invoice', 'document');
SELECT billing_internal.protect('billing.invoice_line', 'document');
SELECT billing_internal.protect('billing.invoice_tax', 'append_only');

CREATE TRIGGER c_guard_issued BEFORE UPDATE ON billing.invoice
	FOR EACH ROW EXECUTE FUNCTION billing_internal.guard_issued('number');
CREATE TRIGGER c_guard_issued BEFORE UPDATE ON billing.invoice_line
	FOR EACH ROW EXECUTE FUNCTION billing_internal.guard_issued('discarded');
