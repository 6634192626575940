-- What other systems are told about corrections of usage.

INSERT INTO billing.outbox_type (type, kind, action, description) VALUES
	('usage_correction.applied', 'usage_correction', 'approve', 'was approved by a person and carried out'),
	('usage_correction.rejected', 'usage_correction', 'reject', 'was refused by an approver');
