-- What other systems are told, and what is raised when they do not listen.

INSERT INTO billing.exception_kind (kind, severity, owner_duty, deadline_days, description) VALUES
	('outbox_not_read', 'warning', 'admin', 1, 'a consumer of the outbox has not confirmed messages for longer than it should, and they are kept for it; mend the consumer, or take it back with billing.end_outbox_consumer(); closes itself when the consumer has caught up');

INSERT INTO billing.outbox_type (type, kind, action, description)
SELECT k.kind || '.' || t.type, k.kind, t.action, t.description
FROM (VALUES
	('issued', 'issue', 'got its legal number and is to be sent'),
	('submitted', 'submit', 'waits for an approver'),
	('approved', 'approve', 'was approved by a person'),
	('rejected', 'reject', 'was sent back by an approver'),
	('held', 'hold', 'went on hold: something is missing or odd'),
	('discarded', 'discard', 'was dropped before it was issued')
) AS t (type, action, description),
(VALUES ('invoice'), ('credit_note')) AS k (kind);

INSERT INTO billing.outbox_type (type, kind, action, description) VALUES
	('exception.raised', 'exception', 'raise', 'something could not be processed, or not go on'),
	('usage_alert.raised', 'usage_alert', 'raise', 'the usage of a contract item reached a threshold');

-- An invoice that credit notes by hand take back; billing runs credit charges without a step of their invoice
INSERT INTO billing.outbox_type (type, kind, action, description) VALUES
	('invoice.credited', 'invoice', 'credit', 'credit notes have taken back all of it'),
	('invoice.partly_credited', 'invoice', 'credit_partly', 'a credit note has taken back a part of it');

-- Documents of other kinds, whatever their way
INSERT INTO billing.outbox_type (type, kind, action, description)
SELECT DISTINCT t.kind || '.' || n.type, t.kind, t.action, n.description
FROM (VALUES
	('submitted', 'submit', 'waits for an approver'),
	('approved', 'approve', 'was approved by a person'),
	('auto_approved', 'auto_approve', 'was approved within the limit'),
	('rejected', 'reject', 'was refused by an approver'),
	('forbidden', 'forbid', 'was refused by an approval policy'),
	('cancelled', 'cancel', 'was given up'),
	('applied', 'apply', 'was carried out'),
	('posted', 'post', 'was booked'),
	('reversed', 'reverse', 'was taken back'),
	('paid_out', 'pay_out', 'was paid'),
	('failed', 'fail', 'could not be paid'),
	('reached', 'reach', 'was reached'),
	('accepted', 'accept', 'was accepted by the customer'),
	('billed', 'bill', 'was billed'),
	('reopened', 'reopen', 'the period is open again'),
	('closed', 'close', 'the period is closed again')
) AS n (type, action, description)
JOIN billing.transition t ON t.action = n.action
WHERE t.kind NOT IN ('invoice', 'credit_note', 'usage_correction');
