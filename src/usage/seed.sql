-- The life of a correction of usage. One within the entity's limit is made in the state applied.

INSERT INTO billing.document_state (kind, state, is_final, description) VALUES
	('usage_correction', 'pending_approval', false, 'waits for a person other than its maker; no event is changed yet'),
	('usage_correction', 'applied', true, 'its events are taken back, replaced or brought in; the next billing run bills the difference'),
	('usage_correction', 'rejected', true, 'nothing was changed');

INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, description) VALUES
	('usage_correction', 'pending_approval', 'approve', 'applied', 'approver', 'independent', 'approved by a person other than its maker, and carried out'),
	('usage_correction', 'pending_approval', 'reject', 'rejected', 'approver', 'independent', 'refused with a reason');
