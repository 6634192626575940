-- The life of a correction of usage. One within the entity's limit is made in the state applied.

INSERT INTO billing.document_state (kind, state, stage, is_final, description) VALUES
	('usage_correction', 'pending_approval', 'start', false, 'waits for a person other than its maker; no event is changed yet'),
	('usage_correction', 'applied', 'effective', true, 'its events are taken back, replaced or brought in; the next billing run bills the difference'),
	('usage_correction', 'rejected', 'dropped', true, 'nothing was changed');

INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, deadline, approves, own_state, function_name, description) VALUES
	('usage_correction', 'pending_approval', 'approve', 'applied', 'approver', 'independent', '5 days', true, 'none', 'approve_usage_correction', 'approved by a person other than its maker, and carried out'),
	('usage_correction', 'pending_approval', 'reject', 'rejected', 'approver', 'independent', NULL, false, 'none', 'reject_usage_correction', 'refused with a reason'),
	('usage_correction', 'pending_approval', 'forbid', 'rejected', 'biller', 'system', NULL, false, 'none', NULL, 'an approval policy forbids it');
