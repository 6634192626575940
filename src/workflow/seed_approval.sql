-- What a policy does by itself, and what goes wrong with approvals.

INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, approves, own_state, description)
SELECT t.kind, t.from_state, 'auto_approve', t.to_state, 'biller', 'system', true, t.own_state,
	'a policy says that it needs nobody, or what was said of the version before holds'
FROM billing.transition t
WHERE t.from_state = 'pending_approval' AND t.action = 'approve'
UNION ALL
SELECT t.kind, t.from_state, 'forbid', t.to_state, 'biller', 'system', false, 'none', 'a policy forbids it'
FROM billing.transition t
WHERE t.from_state = 'pending_approval' AND t.action = 'reject';

INSERT INTO billing.exception_kind (kind, severity, owner_duty, deadline_days, description) VALUES
	('approval_forbidden', 'error', 'biller', 2, 'an approval policy forbids the document; change it or discard it'),
	('approval_overdue', 'warning', 'approver', 1, 'an approval was not given by its deadline; decide it, then the exception closes itself'),
	('approval_nobody', 'error', 'admin', 1, 'an approval is asked of nobody who can give it: no holder of the duty, no owner, no manager, all of them absent, the maker or heard already; grant the duty, name somebody, or have the maker recall the document; closes itself');

INSERT INTO billing.outbox_type (type, kind, action, description) VALUES
	('approval.reminded', 'approval', 'remind', 'half of the time for an approval has passed');
