-- What is agreed as known now.

CREATE OR REPLACE VIEW billing.contract_term WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	a.code AS account,
	c.code AS contract,
	i.code AS item,
	p.code AS product,
	i.charge,
	i.timing,
	m.code AS meter,
	v.valid_from,
	v.valid_to,
	v.quantity,
	v.tariff,
	b.code AS price_book,
	c.currency,
	v.recorded_at,
	v.entity_id,
	v.version_id,
	i.own_usage
FROM billing.contract_item_version v
JOIN billing.contract_item i USING (entity_id, item_id)
JOIN billing.contract c USING (entity_id, contract_id)
JOIN billing.legal_entity e USING (entity_id)
JOIN billing.billing_account a ON a.entity_id = c.entity_id AND a.account_id = c.account_id
JOIN billing.product p ON p.entity_id = i.entity_id AND p.product_id = i.product_id
LEFT JOIN billing.meter m ON m.entity_id = i.entity_id AND m.meter_id = i.meter_id
LEFT JOIN billing.price_book b ON b.entity_id = v.entity_id AND b.price_book_id = v.price_book_id
WHERE v.superseded_at IS NULL;
COMMENT ON VIEW billing.contract_term IS 'The terms of every contract item as known now, one row per stretch of days';
COMMENT ON COLUMN billing.contract_term.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.contract_term.account IS 'Code of the billing account';
COMMENT ON COLUMN billing.contract_term.contract IS 'Code of the contract';
COMMENT ON COLUMN billing.contract_term.item IS 'Code of the item within the contract';
COMMENT ON COLUMN billing.contract_term.product IS 'Code of the product';
COMMENT ON COLUMN billing.contract_term.charge IS 'recurring, usage or one_time';
COMMENT ON COLUMN billing.contract_term.timing IS 'advance or arrears';
COMMENT ON COLUMN billing.contract_term.meter IS 'Code of the meter of a usage item';
COMMENT ON COLUMN billing.contract_term.valid_from IS 'First day of the terms';
COMMENT ON COLUMN billing.contract_term.valid_to IS 'Day after the last, or null for an open end';
COMMENT ON COLUMN billing.contract_term.quantity IS 'Quantity per period, or once; null for usage';
COMMENT ON COLUMN billing.contract_term.tariff IS 'The price agreed for this item, or null where the price book has it';
COMMENT ON COLUMN billing.contract_term.price_book IS 'Code of the price book';
COMMENT ON COLUMN billing.contract_term.currency IS 'Currency of the price';
COMMENT ON COLUMN billing.contract_term.recorded_at IS 'When these terms were recorded';
COMMENT ON COLUMN billing.contract_term.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.contract_term.version_id IS 'Key of the version';
COMMENT ON COLUMN billing.contract_term.own_usage IS 'Whether the item charges for the events that name it alone';
