-- The life of an invoice and of a credit note, and the kinds of exceptions.

INSERT INTO billing.document_state (kind, state, is_final, description)
SELECT kind, state, is_final, description
FROM (VALUES
	('draft', false, 'made by a billing run, not checked yet'),
	('on_hold', false, 'something is missing or odd: its exceptions say what'),
	('pending_approval', false, 'waits for a person other than its maker'),
	('approved', false, 'may be issued'),
	('issued', true, 'sent under a legal number; never changes again'),
	('discarded', true, 'never issued; what it billed is billed anew by the next run')
) AS s (state, is_final, description),
(VALUES ('invoice'), ('credit_note')) AS k (kind);

INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, description)
SELECT kind, from_state, action, to_state, duty, guard, description
FROM (VALUES
	('draft', 'hold', 'on_hold', 'biller', 'system', 'validation found something'),
	('draft', 'submit', 'pending_approval', 'biller', 'system', 'validation found nothing; the amount needs a person'),
	('draft', 'auto_approve', 'approved', 'biller', 'system', 'validation found nothing; the amount is within the entity''s limit'),
	('draft', 'discard', 'discarded', 'biller', NULL, 'dropped before it was issued'),
	('on_hold', 'release', 'draft', 'biller', NULL, 'the cause was mended; validate again'),
	('on_hold', 'discard', 'discarded', 'biller', NULL, 'dropped before it was issued'),
	('pending_approval', 'approve', 'approved', 'approver', 'independent', 'approved by a person other than its maker'),
	('pending_approval', 'reject', 'on_hold', 'approver', 'independent', 'sent back with a reason'),
	('approved', 'issue', 'issued', 'biller', 'system', 'gets its legal number'),
	('approved', 'discard', 'discarded', 'biller', NULL, 'dropped before it was issued')
) AS t (from_state, action, to_state, duty, guard, description),
(VALUES ('invoice'), ('credit_note')) AS k (kind);

INSERT INTO billing.exception_kind (kind, severity, owner_duty, deadline_days, description) VALUES
	('usage_malformed', 'error', 'biller', 2, 'an event lacks a field or has one of the wrong type; correct it at the source and send it again'),
	('usage_unknown_subject', 'error', 'contract_manager', 2, 'the event''s subject is neither the code of a billing account, nor a contract item with usage of its own, nor an alias; create the account or add an alias, then replay'),
	('usage_unknown_meter', 'error', 'price_manager', 2, 'no meter has the event''s type as its code; create the meter, then replay'),
	('usage_late', 'warning', 'biller', 5, 'an event came later than the entity takes usage in by itself; release it, or resolve the exception to leave it out'),
	('usage_month_closed', 'warning', 'accountant', 5, 'an event came for a month whose usage is closed or detached; open the month again and replay, or resolve the exception to leave it out'),
	('usage_not_allowed', 'error', 'biller', 2, 'an event came through the inbox from somebody without the duty biller or application; if it is right, send it yourself'),
	('usage_conflict', 'error', 'biller', 2, 'an event came again under the same source and id with other content; both are kept, the first counts'),
	('usage_source_silent', 'warning', 'biller', 1, 'an expected source of usage sends nothing, or what it sends is behind; ask its operator, or forget the source; closes itself when it has caught up'),
	('pricing_discrepancy', 'warning', 'price_manager', 5, 'the amount that an event''s source expects differs from its rating'),
	('missing_price', 'error', 'price_manager', 2, 'a contract item has no price on the day it is billed; set one, then run billing again'),
	('rating_failed', 'error', 'price_manager', 2, 'a price cannot rate the quantity; correct the price or the usage, then run billing again'),
	('account_parked', 'error', 'biller', 1, 'an account could not be billed and is left out by billing runs; mend the cause, then billing.retry_parked()'),
	('missing_tax_code', 'error', 'price_manager', 2, 'a line has no tax code, or its tax code has no rate on the day of the charge'),
	('missing_customer_data', 'error', 'contract_manager', 2, 'the customer lacks what a legal document must print'),
	('missing_purchase_order', 'error', 'contract_manager', 5, 'the account requires a purchase order and has none'),
	('not_positive', 'error', 'biller', 2, 'the total of an invoice is not above zero'),
	('amount_bound', 'error', 'biller', 2, 'the total of a document is beyond the largest amount that its entity lets pass; release it, or discard it and mend the cause'),
	('lines_bound', 'error', 'biller', 2, 'a document has more lines than its entity lets pass; release it, or discard it and mend the cause'),
	('amount_anomaly', 'error', 'biller', 2, 'the total of a document is far from what the account was billed before; release it, or discard it and mend the cause'),
	('approval_rejected', 'error', 'biller', 2, 'an approver sent the document back');
