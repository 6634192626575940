-- What was billed: runs, invoices and credit notes with their lines and taxes, and the numbers they got.
--
-- What is written by the million has foreign keys only to what lies outside of its own statement and could go away, the billing
-- account and a credit's charge; see the head of workflow/tables.sql. billing.verify() looks for orphans.

CREATE TABLE billing.billing_run (
	entity_id     integer     NOT NULL CONSTRAINT billing_run_entity_fkey REFERENCES billing.legal_entity,
	run_id        bigserial,
	through_date  date        NOT NULL,
	phase         text        NOT NULL DEFAULT 'draft',
	is_background boolean     NOT NULL DEFAULT false,
	started_by    integer     NOT NULL CONSTRAINT billing_run_started_by_fkey REFERENCES billing.person,
	started_at    timestamptz NOT NULL DEFAULT now(),
	slices        integer     NOT NULL DEFAULT 0,
	cancelled_at  timestamptz,
	finished_at   timestamptz,
	accounts      bigint      NOT NULL DEFAULT 0,
	documents     bigint      NOT NULL DEFAULT 0,
	issued        bigint      NOT NULL DEFAULT 0,
	held          bigint      NOT NULL DEFAULT 0,
	lines         bigint      NOT NULL DEFAULT 0,
	exceptions    bigint      NOT NULL DEFAULT 0,
	parked        bigint      NOT NULL DEFAULT 0,
	CONSTRAINT billing_run_pkey PRIMARY KEY (entity_id, run_id),
	CONSTRAINT billing_run_through_date_finite CHECK (isfinite(through_date)),
	CONSTRAINT billing_run_phase_known CHECK (phase IN ('draft', 'validate', 'issue'))
);
CREATE INDEX billing_run_open ON billing.billing_run (entity_id, run_id) WHERE finished_at IS NULL AND is_background;
COMMENT ON TABLE billing.billing_run IS 'Every billing run: through which day it billed, and what came of it';
COMMENT ON COLUMN billing.billing_run.entity_id IS 'The entity';
COMMENT ON COLUMN billing.billing_run.run_id IS 'Key within the entity';
COMMENT ON COLUMN billing.billing_run.through_date IS 'What falls due on or before this day was billed';
COMMENT ON COLUMN billing.billing_run.phase IS 'How far it takes its documents: draft; validate: approved, on hold or waiting for an approver; issue: what is approved by limit is issued too';
COMMENT ON COLUMN billing.billing_run.is_background IS 'Whether background workers do it; otherwise the session that called billing.run_billing()';
COMMENT ON COLUMN billing.billing_run.started_by IS 'Who ran it, and is the maker of its documents; 0 is the system';
COMMENT ON COLUMN billing.billing_run.started_at IS 'When it began';
COMMENT ON COLUMN billing.billing_run.slices IS 'Slices of accounts that it was cut into, a transaction each';
COMMENT ON COLUMN billing.billing_run.cancelled_at IS 'When billing.cancel_run() asked it to stop after the slices at work';
COMMENT ON COLUMN billing.billing_run.finished_at IS 'When it ended, or null while it runs or where its session broke off; the next run does what it left';
COMMENT ON COLUMN billing.billing_run.accounts IS 'Accounts looked at';
COMMENT ON COLUMN billing.billing_run.documents IS 'Invoices and credit notes made';
COMMENT ON COLUMN billing.billing_run.issued IS 'of which it issued';
COMMENT ON COLUMN billing.billing_run.held IS 'and put on hold';
COMMENT ON COLUMN billing.billing_run.lines IS 'Lines written';
COMMENT ON COLUMN billing.billing_run.exceptions IS 'Charges that could not be billed, and pricing discrepancies';
COMMENT ON COLUMN billing.billing_run.parked IS 'Accounts put aside with an exception of kind account_parked';

CREATE TABLE billing.run_slice (
	entity_id   integer  NOT NULL,
	run_id      bigint   NOT NULL,
	slice_no    integer  NOT NULL,
	account_ids bigint[] NOT NULL,
	accounts    bigint   NOT NULL DEFAULT 0,
	state       text     NOT NULL DEFAULT 'pending',
	attempts    integer  NOT NULL DEFAULT 0,
	started_at  timestamptz,
	ended_at    timestamptz,
	worker_pid  integer,
	documents   bigint   NOT NULL DEFAULT 0,
	issued      bigint   NOT NULL DEFAULT 0,
	held        bigint   NOT NULL DEFAULT 0,
	lines       bigint   NOT NULL DEFAULT 0,
	exceptions  bigint   NOT NULL DEFAULT 0,
	parked      bigint   NOT NULL DEFAULT 0,
	amounts     jsonb    NOT NULL DEFAULT '{}',
	error       text,
	CONSTRAINT run_slice_pkey PRIMARY KEY (entity_id, run_id, slice_no),
	CONSTRAINT run_slice_run_fkey FOREIGN KEY (entity_id, run_id) REFERENCES billing.billing_run,
	CONSTRAINT run_slice_state_known CHECK (state IN ('pending', 'done', 'failed'))
) WITH (fillfactor = 80);
CREATE INDEX run_slice_pending ON billing.run_slice (entity_id, run_id, slice_no) WHERE state = 'pending';
COMMENT ON TABLE billing.run_slice IS 'The slices of billing runs: the accounts of one transaction, and what came of them';
COMMENT ON COLUMN billing.run_slice.entity_id IS 'The entity';
COMMENT ON COLUMN billing.run_slice.run_id IS 'The run';
COMMENT ON COLUMN billing.run_slice.slice_no IS 'Position within it, from 1';
COMMENT ON COLUMN billing.run_slice.account_ids IS 'Accounts that were due when the run began; empty once they are done';
COMMENT ON COLUMN billing.run_slice.accounts IS 'Accounts looked at';
COMMENT ON COLUMN billing.run_slice.state IS 'pending; done; failed: given up after three attempts, its accounts stay due for the next run';
COMMENT ON COLUMN billing.run_slice.attempts IS 'How often a background worker began it';
COMMENT ON COLUMN billing.run_slice.started_at IS 'When the last attempt began';
COMMENT ON COLUMN billing.run_slice.ended_at IS 'When it was done, or failed last';
COMMENT ON COLUMN billing.run_slice.worker_pid IS 'Process of the last attempt';
COMMENT ON COLUMN billing.run_slice.documents IS 'Invoices and credit notes made';
COMMENT ON COLUMN billing.run_slice.issued IS 'of which it issued';
COMMENT ON COLUMN billing.run_slice.held IS 'and put on hold';
COMMENT ON COLUMN billing.run_slice.lines IS 'Lines written';
COMMENT ON COLUMN billing.run_slice.exceptions IS 'Charges that could not be billed, and pricing discrepancies';
COMMENT ON COLUMN billing.run_slice.parked IS 'Accounts put aside';
COMMENT ON COLUMN billing.run_slice.amounts IS 'Total of its documents by currency, tax included, such as {"EUR": 119.00}';
COMMENT ON COLUMN billing.run_slice.error IS 'Why the last attempt failed';

CREATE TABLE billing.account_watermark (
	entity_id       integer NOT NULL,
	account_id      bigint  NOT NULL,
	billed_through  date    NOT NULL,
	next_due        date,
	usage_billed_to date,
	parked_at       timestamptz,
	CONSTRAINT account_watermark_pkey PRIMARY KEY (entity_id, account_id),
	CONSTRAINT account_watermark_account_fkey FOREIGN KEY (entity_id, account_id) REFERENCES billing.billing_account
) WITH (fillfactor = 70);
CREATE INDEX account_watermark_due ON billing.account_watermark (entity_id, next_due) WHERE parked_at IS NULL;
COMMENT ON TABLE billing.account_watermark IS
	'Through which day an account was billed, and when it is due again; a run locks the row, so that no two runs bill an account at once';
COMMENT ON COLUMN billing.account_watermark.entity_id IS 'The entity';
COMMENT ON COLUMN billing.account_watermark.account_id IS 'The account';
COMMENT ON COLUMN billing.account_watermark.billed_through IS 'The latest day; only discarding a document takes it back';
COMMENT ON COLUMN billing.account_watermark.next_due IS 'First day after that on which one of its items can fall due; null for never, unless billing.account_change says that something changed';
COMMENT ON COLUMN billing.account_watermark.usage_billed_to IS 'Usage before this day may have been billed: what comes for such a day makes a correction; null where none was';
COMMENT ON COLUMN billing.account_watermark.parked_at IS 'When a run put the account aside because it could not be billed; runs leave it out until billing.retry_parked()';

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
	run_id       bigint,
	account_id   bigint         NOT NULL,
	currency     text           NOT NULL,
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
	CONSTRAINT invoice_total_is_net_and_tax CHECK (total = net + tax),
	CONSTRAINT invoice_issued_completely CHECK (
		(number IS NULL) = (series IS NULL) AND (number IS NULL) = (fiscal_year IS NULL)
		AND (number IS NULL) = (sequence IS NULL) AND (number IS NULL) = (issue_date IS NULL)
		AND (number IS NULL) = (due_date IS NULL) AND (number IS NULL) = (seller IS NULL)
		AND (number IS NULL) = (buyer IS NULL))
);
CREATE UNIQUE INDEX invoice_number_key ON billing.invoice (entity_id, number) WHERE number IS NOT NULL;
CREATE INDEX invoice_by_account ON billing.invoice (entity_id, account_id, billing_date);
COMMENT ON TABLE billing.invoice IS
	'Invoices and credit notes: one per billing account, currency and billing date of a run; an issued one never changes';
COMMENT ON COLUMN billing.invoice.entity_id IS 'The entity that bills';
COMMENT ON COLUMN billing.invoice.invoice_id IS 'Key within the entity; the document''s id';
COMMENT ON COLUMN billing.invoice.run_id IS 'The run that made it; null for a credit note by hand';
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
	CONSTRAINT invoice_line_kind_known CHECK (kind IN ('charge', 'credit', 'adjustment')),
	CONSTRAINT invoice_line_credit_reverses CHECK (
		(kind <> 'charge') = (reverses_invoice_id IS NOT NULL) AND (kind <> 'charge') = (reverses_line_no IS NOT NULL)),
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
	'What was billed, with all it was derived from: a charge for a stretch of days of a contract item, or what takes such a charge back';
COMMENT ON COLUMN billing.invoice_line.entity_id IS 'The entity';
COMMENT ON COLUMN billing.invoice_line.invoice_id IS 'The invoice';
COMMENT ON COLUMN billing.invoice_line.line_no IS 'Position on it, from 1';
COMMENT ON COLUMN billing.invoice_line.kind IS 'charge; credit of an earlier charge that is no longer entitled as it was, or was billed wrongly; or adjustment: a line that a person takes back, in part or in full, and that no run bills again';
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
COMMENT ON COLUMN billing.invoice_line.reverses_invoice_id IS 'The invoice of the line that is credited';
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
	CONSTRAINT invoice_tax_pkey PRIMARY KEY (entity_id, invoice_id, tax_no)
);
COMMENT ON TABLE billing.invoice_tax IS 'Tax of an invoice by category, rate and reason, on the sum of their lines';
COMMENT ON COLUMN billing.invoice_tax.entity_id IS 'The entity';
COMMENT ON COLUMN billing.invoice_tax.invoice_id IS 'The invoice';
COMMENT ON COLUMN billing.invoice_tax.tax_no IS 'Position on it, from 1';
COMMENT ON COLUMN billing.invoice_tax.category IS 'UNCL 5305 category';
COMMENT ON COLUMN billing.invoice_tax.rate IS 'Per cent';
COMMENT ON COLUMN billing.invoice_tax.exemption_reason IS 'Why no tax is charged, as printed';
COMMENT ON COLUMN billing.invoice_tax.base IS 'Sum of the lines';
COMMENT ON COLUMN billing.invoice_tax.tax IS 'base × rate ÷ 100, rounded once to the currency''s minor unit; of a credit note by hand, so that all credit notes of an invoice add up to its tax';

CREATE FUNCTION billing_internal.guard_issued() RETURNS trigger
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_guard_issued';
COMMENT ON FUNCTION billing_internal.guard_issued() IS
	'Row trigger: an issued invoice never changes, and of a line only whether it was discarded';

SELECT billing_internal.protect('billing.billing_run', 'document');
SELECT billing_internal.protect('billing.run_slice', 'document');
SELECT billing_internal.protect('billing.account_watermark', 'document');
SELECT billing_internal.protect('billing.number_series', 'document');
SELECT billing_internal.protect('billing.invoice', 'document');
SELECT billing_internal.protect('billing.invoice_line', 'document');
SELECT billing_internal.protect('billing.invoice_tax', 'append_only');

CREATE TRIGGER c_guard_issued BEFORE UPDATE ON billing.invoice
	FOR EACH ROW EXECUTE FUNCTION billing_internal.guard_issued('number');
CREATE TRIGGER c_guard_issued BEFORE UPDATE ON billing.invoice_line
	FOR EACH ROW EXECUTE FUNCTION billing_internal.guard_issued('discarded');

-- What an entity decided about its billing runs. Without a row, or with a null in it, nothing was decided.
CREATE TABLE billing.billing_policy (
	entity_id       integer NOT NULL CONSTRAINT billing_policy_entity_fkey REFERENCES billing.legal_entity,
	max_amount      billing.amount,
	max_lines       integer,
	max_score       numeric,
	history         integer NOT NULL DEFAULT 12,
	automatic_phase text,
	automatic_from  time    NOT NULL DEFAULT '00:00',
	CONSTRAINT billing_policy_pkey PRIMARY KEY (entity_id),
	CONSTRAINT billing_policy_max_amount_not_negative CHECK (max_amount >= 0),
	CONSTRAINT billing_policy_max_lines_in_range CHECK (max_lines >= 1),
	CONSTRAINT billing_policy_max_score_in_range CHECK (max_score BETWEEN 0.5 AND 1000000),
	CONSTRAINT billing_policy_history_in_range CHECK (history BETWEEN 3 AND 100),
	CONSTRAINT billing_policy_automatic_phase_known CHECK (automatic_phase IN ('draft', 'validate', 'issue')),
	CONSTRAINT billing_policy_automatic_from_in_range CHECK (automatic_from < '24:00')
);
COMMENT ON TABLE billing.billing_policy IS
	'What an entity decided about its billing runs: what holds a document up for a person, and how far runs go by themselves';
COMMENT ON COLUMN billing.billing_policy.entity_id IS 'The entity';
COMMENT ON COLUMN billing.billing_policy.max_amount IS
	'A document whose total exceeds it, up or down, goes on hold; in the entity''s currency: a document in another one always waits for an approver; null: no bound';
COMMENT ON COLUMN billing.billing_policy.max_lines IS 'A document with more lines goes on hold; null: no bound';
COMMENT ON COLUMN billing.billing_policy.max_score IS
	'A document goes on hold that lies further from the account''s invoices before than so many times their usual deviation, as billing.anomaly_score() says; 3.5 is usual; null: no bound';
COMMENT ON COLUMN billing.billing_policy.history IS 'How many of the account''s issued invoices are compared, the latest ones; an account with fewer than 3 has no score';
COMMENT ON COLUMN billing.billing_policy.automatic_phase IS
	'How far the runs go that start by themselves: draft, validate, or issue; null: none starts by itself';
COMMENT ON COLUMN billing.billing_policy.automatic_from IS 'From which time of the day they start, in the entity''s time zone';

SELECT billing_internal.protect('billing.billing_policy', 'master', 'admin');
SELECT billing_internal.audit_table('billing.billing_policy', 'billing_policy', 'entity_id');

-- What was discarded is to be billed again.
CREATE FUNCTION billing_internal.note_discard() RETURNS trigger
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_invoicing_note_discard';
COMMENT ON FUNCTION billing_internal.note_discard() IS
	'Statement trigger: writes a row of billing.account_change for every account of which a statement discarded lines';

CREATE TRIGGER y_note_change AFTER UPDATE ON billing.invoice_line REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION billing_internal.note_discard();
