-- Credit notes by hand: what they credit, and why.
--
-- An adjustment takes back a part of a charge, or all of it, as a concession: the charge still counts as billed, so that no run bills
-- it again. What was billed wrongly is credited as a billing run credits it, and the next run charges anew what is entitled.

CREATE TABLE billing.credit_reason (
	reason_code   text    CONSTRAINT credit_reason_pkey PRIMARY KEY,
	is_concession boolean NOT NULL,
	rebills       boolean NOT NULL,
	voids         boolean NOT NULL,
	is_built_in   boolean NOT NULL DEFAULT false,
	description   text    NOT NULL,
	CONSTRAINT credit_reason_code_plain CHECK (reason_code ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT credit_reason_rebills_or_concedes CHECK (NOT (rebills AND (is_concession OR voids)))
);
COMMENT ON TABLE billing.credit_reason IS 'Why invoices are credited and drafts are dropped; members of billing_owner may add rows';
COMMENT ON COLUMN billing.credit_reason.reason_code IS 'Name of the reason';
COMMENT ON COLUMN billing.credit_reason.is_concession IS 'Whether the customer got what was billed, and is treated kindly';
COMMENT ON COLUMN billing.credit_reason.rebills IS 'Whether it was billed wrongly, and what is entitled is to be charged anew: for billing.credit_and_rebill()';
COMMENT ON COLUMN billing.credit_reason.voids IS 'Whether an invoice as a whole can be voided for it';
COMMENT ON COLUMN billing.credit_reason.is_built_in IS 'Whether it came with the extension';
COMMENT ON COLUMN billing.credit_reason.description IS 'When to use it';

CREATE TABLE billing.credit_note (
	entity_id          integer NOT NULL,
	invoice_id         bigint  NOT NULL,
	credits_invoice_id bigint  NOT NULL,
	reason_code        text    NOT NULL CONSTRAINT credit_note_reason_fkey REFERENCES billing.credit_reason,
	is_void            boolean NOT NULL,
	rebills            boolean NOT NULL,
	note               text,
	CONSTRAINT credit_note_pkey PRIMARY KEY (entity_id, invoice_id),
	CONSTRAINT credit_note_invoice_fkey FOREIGN KEY (entity_id, invoice_id) REFERENCES billing.invoice,
	CONSTRAINT credit_note_credits_fkey FOREIGN KEY (entity_id, credits_invoice_id) REFERENCES billing.invoice,
	CONSTRAINT credit_note_void_for_good CHECK (NOT (is_void AND rebills))
);
CREATE INDEX credit_note_by_invoice ON billing.credit_note (entity_id, credits_invoice_id);
COMMENT ON TABLE billing.credit_note IS 'Credit notes made by hand, each for one invoice; those of billing runs have no row';
COMMENT ON COLUMN billing.credit_note.entity_id IS 'The entity';
COMMENT ON COLUMN billing.credit_note.invoice_id IS 'The credit note; a document like any other';
COMMENT ON COLUMN billing.credit_note.credits_invoice_id IS 'The invoice that it credits';
COMMENT ON COLUMN billing.credit_note.reason_code IS 'Why';
COMMENT ON COLUMN billing.credit_note.is_void IS 'Whether it voids the invoice';
COMMENT ON COLUMN billing.credit_note.rebills IS 'Whether the next billing run charges anew what is entitled';
COMMENT ON COLUMN billing.credit_note.note IS 'Why, in the maker''s words';

SELECT billing_internal.protect('billing.credit_reason', 'reference', dump_filter => 'WHERE NOT is_built_in');
SELECT billing_internal.protect('billing.credit_note', 'append_only');
