-- What waits for somebody.

CREATE OR REPLACE VIEW billing.open_exception WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	x.exception_id,
	x.kind,
	k.severity,
	k.owner_duty,
	x.subject,
	x.detail,
	x.payload,
	x.raised_at,
	x.deadline,
	now() > x.deadline AS is_overdue,
	x.entity_id,
	x.document_id
FROM billing.exception x
JOIN billing.exception_kind k USING (kind)
JOIN billing.legal_entity e USING (entity_id)
WHERE x.state = 'open';
COMMENT ON VIEW billing.open_exception IS 'Exceptions that wait for somebody to mend their cause';
COMMENT ON COLUMN billing.open_exception.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.open_exception.exception_id IS 'What billing.resolve_exception() calls it';
COMMENT ON COLUMN billing.open_exception.kind IS 'Why; billing.exception_kind explains each';
COMMENT ON COLUMN billing.open_exception.severity IS 'error: something waits; warning: billing went on';
COMMENT ON COLUMN billing.open_exception.owner_duty IS 'Who mends it';
COMMENT ON COLUMN billing.open_exception.subject IS 'Whom or what it concerns';
COMMENT ON COLUMN billing.open_exception.detail IS 'What is wrong, with the values';
COMMENT ON COLUMN billing.open_exception.payload IS 'The input that could not be processed';
COMMENT ON COLUMN billing.open_exception.raised_at IS 'When';
COMMENT ON COLUMN billing.open_exception.deadline IS 'By when it should be mended';
COMMENT ON COLUMN billing.open_exception.is_overdue IS 'Whether that has passed';
COMMENT ON COLUMN billing.open_exception.entity_id IS 'Key of the entity';
COMMENT ON COLUMN billing.open_exception.document_id IS 'The document that waits for it, if any';
