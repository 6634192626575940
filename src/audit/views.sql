-- The audit log as people read it.

CREATE OR REPLACE VIEW billing.audit_trail WITH (security_invoker = true) AS
SELECT a.entity_id, a.audit_id, a.recorded_at, a.transaction_id, a.actor, a.login, a.action, a.object_type, a.object_id,
	billing_internal.reveal_personal(a.entity_id, a.before) AS before,
	billing_internal.reveal_personal(a.entity_id, a.after) AS after,
	a.reason, a.client_address, a.application, a.correlation_id
FROM billing.audit_log a;
COMMENT ON VIEW billing.audit_trail IS
	'The audit log with the values that tell of persons in their places, as far as they have not been erased';
COMMENT ON COLUMN billing.audit_trail.entity_id IS 'The entity concerned; 0 is the installation itself';
COMMENT ON COLUMN billing.audit_trail.audit_id IS 'Key within the entity';
COMMENT ON COLUMN billing.audit_trail.recorded_at IS 'When the transaction began';
COMMENT ON COLUMN billing.audit_trail.transaction_id IS 'The transaction';
COMMENT ON COLUMN billing.audit_trail.actor IS 'Code of the person who acted';
COMMENT ON COLUMN billing.audit_trail.login IS 'The session user';
COMMENT ON COLUMN billing.audit_trail.action IS 'What was done, such as insert, update, issue';
COMMENT ON COLUMN billing.audit_trail.object_type IS 'Kind of document, or name of the table';
COMMENT ON COLUMN billing.audit_trail.object_id IS 'Key of the document or row within the entity';
COMMENT ON COLUMN billing.audit_trail.before IS 'The old values; of an update, those of what changed, and the key';
COMMENT ON COLUMN billing.audit_trail.after IS 'The new values; an erased one is shown as the commitment that stands in the log';
COMMENT ON COLUMN billing.audit_trail.reason IS 'Why, as the actor said';
COMMENT ON COLUMN billing.audit_trail.client_address IS 'Network address of the client';
COMMENT ON COLUMN billing.audit_trail.application IS 'The session''s application_name';
COMMENT ON COLUMN billing.audit_trail.correlation_id IS 'The request that the transaction served';
