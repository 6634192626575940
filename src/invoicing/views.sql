-- Invoices as people ask for them.

CREATE OR REPLACE VIEW billing.invoice_overview WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	i.reference,
	i.number,
	d.kind,
	d.state,
	a.code AS account,
	c.code AS customer,
	c.name AS customer_name,
	i.billing_date,
	i.issue_date,
	i.due_date,
	i.currency,
	i.net,
	i.tax,
	i.total,
	p.code AS maker,
	d.created_at,
	d.state_since,
	(SELECT count(*) FROM billing.exception x
		WHERE x.entity_id = i.entity_id AND x.document_id = i.invoice_id AND x.state = 'open') AS open_exceptions,
	i.entity_id,
	i.invoice_id
FROM billing.invoice i
JOIN billing.document d ON d.entity_id = i.entity_id AND d.document_id = i.invoice_id
JOIN billing.legal_entity e ON e.entity_id = i.entity_id
JOIN billing.billing_account a ON a.entity_id = i.entity_id AND a.account_id = i.account_id
JOIN billing.customer c ON c.entity_id = a.entity_id AND c.customer_id = a.customer_id
LEFT JOIN billing.person p ON p.person_id = d.maker_id;
COMMENT ON VIEW billing.invoice_overview IS 'Invoices and credit notes with their state and parties';
COMMENT ON COLUMN billing.invoice_overview.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.invoice_overview.reference IS 'What API functions call it before it has a number';
COMMENT ON COLUMN billing.invoice_overview.number IS 'Legal number, null until it is issued';
COMMENT ON COLUMN billing.invoice_overview.kind IS 'invoice or credit_note';
COMMENT ON COLUMN billing.invoice_overview.state IS 'State now; billing.document_state explains each';
COMMENT ON COLUMN billing.invoice_overview.account IS 'Code of the billing account';
COMMENT ON COLUMN billing.invoice_overview.customer IS 'Code of the customer';
COMMENT ON COLUMN billing.invoice_overview.customer_name IS 'Name of the customer as it is now';
COMMENT ON COLUMN billing.invoice_overview.billing_date IS 'Day on which its charges fell due';
COMMENT ON COLUMN billing.invoice_overview.issue_date IS 'Day of issue';
COMMENT ON COLUMN billing.invoice_overview.due_date IS 'Day by which it is to be paid';
COMMENT ON COLUMN billing.invoice_overview.currency IS 'Currency of the amounts';
COMMENT ON COLUMN billing.invoice_overview.net IS 'Sum of the lines';
COMMENT ON COLUMN billing.invoice_overview.tax IS 'Sum of the taxes';
COMMENT ON COLUMN billing.invoice_overview.total IS 'Net and tax';
COMMENT ON COLUMN billing.invoice_overview.maker IS 'Code of the person who made it';
COMMENT ON COLUMN billing.invoice_overview.created_at IS 'When it was made';
COMMENT ON COLUMN billing.invoice_overview.state_since IS 'When it came into its state';
COMMENT ON COLUMN billing.invoice_overview.open_exceptions IS 'How many exceptions it waits for';
COMMENT ON COLUMN billing.invoice_overview.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.invoice_overview.invoice_id IS 'Key of the document within the entity';
