-- The lives of documents, and the kinds of exceptions.

INSERT INTO billing.document_kind (kind, facts_function, description) VALUES
	('invoice', 'invoice_facts', 'what a customer owes'),
	('credit_note', 'invoice_facts', 'what is taken back of it'),
	('usage_correction', 'usage_correction_facts', 'usage that is taken back, replaced or brought in'),
	('contract_amendment', 'document_facts', 'a change of a contract''s terms'),
	('price_change', 'document_facts', 'a change of a price list'),
	('write_off', 'document_facts', 'an invoice that nobody will pay'),
	('refund', 'document_facts', 'money that is paid back'),
	('milestone', 'document_facts', 'a part of the work that was delivered'),
	('journal', 'document_facts', 'an entry in the books'),
	('period_reopening', 'document_facts', 'a closed month that is opened again');

INSERT INTO billing.document_state (kind, state, stage, is_final, description) VALUES
	('invoice', 'draft', 'start', false, 'made by a billing run, not checked yet'),
	('invoice', 'on_hold', 'open', false, 'something is missing or odd: its exceptions say what'),
	('invoice', 'pending_approval', 'open', false, 'waits for a person other than its maker'),
	('invoice', 'approved', 'approved', false, 'may be issued'),
	('invoice', 'issued', 'effective', false, 'sent under a legal number; its content never changes again'),
	('invoice', 'partially_paid', 'effective', false, 'a part of it is paid'),
	('invoice', 'paid', 'effective', false, 'paid in full'),
	('invoice', 'credited', 'effective', true, 'taken back in full by credit notes'),
	('invoice', 'written_off', 'effective', false, 'given up as a bad debt'),
	('invoice', 'discarded', 'dropped', true, 'never issued; what it billed is billed anew by the next run'),
	('credit_note', 'draft', 'start', false, 'made by a billing run, not checked yet'),
	('credit_note', 'on_hold', 'open', false, 'something is missing or odd: its exceptions say what'),
	('credit_note', 'pending_approval', 'open', false, 'waits for a person other than its maker'),
	('credit_note', 'approved', 'approved', false, 'may be issued'),
	('credit_note', 'issued', 'effective', false, 'sent under a legal number; its content never changes again'),
	('credit_note', 'partially_paid', 'effective', false, 'a part of it is paid out or set off'),
	('credit_note', 'paid', 'effective', false, 'paid out or set off in full'),
	('credit_note', 'discarded', 'dropped', true, 'never issued; what it billed is billed anew by the next run');

UPDATE billing.document_state SET is_optional = true WHERE state IN ('partially_paid', 'written_off');

-- What billing.validate_invoices(), billing runs and the functions named after the actions do
INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, deadline, approves, own_state, function_name, description)
SELECT kind, from_state, action, to_state, duty, guard, deadline::interval, approves, own_state, function_name, description
FROM (VALUES
	('draft', 'hold', 'on_hold', 'biller', 'system', NULL, false, 'none', 'validate_invoices', 'validation found something'),
	('draft', 'submit', 'pending_approval', 'biller', 'system', NULL, false, 'after', 'validate_invoices', 'validation found nothing; the amount needs a person'),
	('draft', 'auto_approve', 'approved', 'biller', 'system', NULL, true, 'after', 'validate_invoices', 'validation found nothing; the amount is within the entity''s limit'),
	('draft', 'discard', 'discarded', 'biller', NULL, NULL, false, 'none', 'discard_invoice', 'dropped before it was issued'),
	('on_hold', 'release', 'draft', 'biller', NULL, NULL, false, 'none', 'release_invoice', 'the cause was mended; validate again'),
	('on_hold', 'discard', 'discarded', 'biller', NULL, NULL, false, 'none', 'discard_invoice', 'dropped before it was issued'),
	('pending_approval', 'approve', 'approved', 'approver', 'independent', '5 days', true, 'after', 'approve_invoice', 'approved by a person other than its maker'),
	('pending_approval', 'reject', 'on_hold', 'approver', 'independent', NULL, false, 'none', 'reject_invoice', 'sent back with a reason'),
	('pending_approval', 'recall', 'draft', 'biller', 'maker', NULL, false, 'none', 'take_action', 'its maker takes it back before it is decided; validate again'),
	('approved', 'issue', 'issued', 'biller', 'system', NULL, false, 'before', 'issue_invoice', 'gets its legal number'),
	('approved', 'discard', 'discarded', 'biller', NULL, NULL, false, 'none', 'discard_invoice', 'dropped before it was issued'),
	('issued', 'pay', 'paid', 'collector', 'system', NULL, false, 'none', NULL, 'what was open is paid'),
	('issued', 'pay_partly', 'partially_paid', 'collector', 'system', NULL, false, 'none', NULL, 'a part of what was open is paid'),
	('partially_paid', 'pay', 'paid', 'collector', 'system', NULL, false, 'none', NULL, 'what was open is paid'),
	('partially_paid', 'pay_partly', 'partially_paid', 'collector', 'system', NULL, false, 'none', NULL, 'another part of what was open is paid'),
	('partially_paid', 'reverse_payment', 'issued', 'collector', 'system', NULL, false, 'none', NULL, 'the payment was returned'),
	('paid', 'reverse_payment', 'issued', 'collector', 'system', NULL, false, 'none', NULL, 'the payment was returned')
) AS t (from_state, action, to_state, duty, guard, deadline, approves, own_state, function_name, description),
(VALUES ('invoice'), ('credit_note')) AS k (kind);

-- A credit note is not credited itself: a new invoice corrects it
INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, own_state, description) VALUES
	('invoice', 'issued', 'credit', 'credited', 'biller', 'system', 'none', 'credit notes have taken back all of it'),
	('invoice', 'issued', 'credit_partly', 'issued', 'biller', 'system', 'none', 'a credit note has taken back a part of it'),
	('invoice', 'partially_paid', 'credit', 'credited', 'biller', 'system', 'none', 'credit notes have taken back all of it'),
	('invoice', 'partially_paid', 'credit_partly', 'partially_paid', 'biller', 'system', 'none', 'a credit note has taken back a part of it'),
	('invoice', 'paid', 'credit', 'credited', 'biller', 'system', 'none', 'credit notes have taken back all of it; the payment is owed to the customer'),
	('invoice', 'paid', 'credit_partly', 'paid', 'biller', 'system', 'none', 'a credit note has taken back a part of it'),
	('invoice', 'issued', 'write_off', 'written_off', 'collector', 'system', 'none', 'nobody expects it to be paid'),
	('invoice', 'partially_paid', 'write_off', 'written_off', 'collector', 'system', 'none', 'nobody expects the rest to be paid'),
	('invoice', 'written_off', 'recover', 'paid', 'collector', 'system', 'none', 'it was paid after all');

-- Documents of billing.request_document(): asked for, approved, carried out outside of billing_erp as yet
INSERT INTO billing.document_state (kind, state, stage, is_final, description)
SELECT kind, state, stage, is_final, description
FROM (VALUES
	('draft', 'start', false, 'asked for, not submitted yet'),
	('pending_approval', 'open', false, 'waits for a person other than its maker'),
	('approved', 'approved', false, 'may be carried out'),
	('rejected', 'dropped', true, 'an approver refused it'),
	('cancelled', 'dropped', true, 'given up before it was carried out')
) AS s (state, stage, is_final, description),
(VALUES ('contract_amendment'), ('price_change'), ('write_off'), ('refund'), ('journal'), ('period_reopening')) AS k (kind)
UNION ALL VALUES
	('contract_amendment', 'awaiting_signature', 'approved', false, 'sent to the customer, not signed yet'),
	('contract_amendment', 'applied', 'effective', true, 'the contract has changed'),
	('price_change', 'applied', 'effective', true, 'the price has changed'),
	('write_off', 'posted', 'effective', false, 'the debt is given up'),
	('write_off', 'reversed', 'effective', true, 'it was paid after all'),
	('refund', 'failed', 'approved', false, 'the bank returned it'),
	('refund', 'paid_out', 'effective', true, 'the customer has the money'),
	('journal', 'posted', 'effective', false, 'in the books'),
	('journal', 'reversed', 'effective', true, 'taken back by an entry of its own'),
	('period_reopening', 'reopened', 'effective', false, 'the period takes entries again'),
	('period_reopening', 'closed', 'effective', true, 'the period is closed again'),
	('milestone', 'planned', 'start', false, 'agreed upon'),
	('milestone', 'reached', 'open', false, 'the work is done'),
	('milestone', 'pending_approval', 'open', false, 'waits for a person other than its maker'),
	('milestone', 'approved', 'approved', false, 'may be billed'),
	('milestone', 'billed', 'effective', true, 'on an invoice'),
	('milestone', 'rejected', 'dropped', true, 'an approver refused it'),
	('milestone', 'cancelled', 'dropped', true, 'given up before it was billed');
INSERT INTO billing.document_state (kind, state, stage, is_final, is_optional, skip_to, description) VALUES
	('contract_amendment', 'legal_review', 'open', false, true, 'pending_approval', 'is being read by a lawyer'),
	('price_change', 'impact_review', 'open', false, true, 'pending_approval', 'what it does to running contracts is being worked out'),
	('milestone', 'customer_acceptance', 'open', false, true, 'pending_approval', 'waits for the customer to accept the work');
UPDATE billing.document_state SET is_optional = true WHERE kind = 'contract_amendment' AND state = 'awaiting_signature';

INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, deadline, approves, own_state, function_name, description)
SELECT k.kind, t.from_state, t.action,
	CASE WHEN t.action = 'submit' AND k.review IS NOT NULL THEN k.review ELSE t.to_state END,
	coalesce(t.duty, k.duty), t.guard, t.deadline::interval, t.approves, t.own_state,
	CASE WHEN t.guard IS DISTINCT FROM 'system' THEN 'take_action' END, t.description
FROM (VALUES
	('draft', 'submit', 'pending_approval', NULL, NULL, NULL, false, 'after', 'ready to be decided'),
	('draft', 'auto_approve', 'approved', NULL, 'system', NULL, true, 'after', 'a policy says that it needs nobody'),
	('draft', 'cancel', 'cancelled', NULL, NULL, NULL, false, 'none', 'given up'),
	('pending_approval', 'approve', 'approved', 'approver', 'independent', '5 days', true, 'after', 'approved by a person other than its maker'),
	('pending_approval', 'reject', 'rejected', 'approver', 'independent', NULL, false, 'none', 'refused with a reason'),
	('pending_approval', 'send_back', 'draft', 'approver', 'independent', NULL, false, 'none', 'sent back to be changed'),
	('pending_approval', 'recall', 'draft', NULL, 'maker', NULL, false, 'none', 'its maker takes it back before it is decided'),
	('approved', 'cancel', 'cancelled', NULL, NULL, NULL, false, 'none', 'given up')
) AS t (from_state, action, to_state, duty, guard, deadline, approves, own_state, description),
(VALUES ('contract_amendment', 'contract_manager', 'legal_review'), ('price_change', 'price_manager', 'impact_review'), ('write_off', 'collector', NULL),
	('refund', 'collector', NULL), ('journal', 'accountant', NULL), ('period_reopening', 'accountant', NULL)) AS k (kind, duty, review);
INSERT INTO billing.transition (kind, from_state, action, to_state, duty, guard, deadline, approves, own_state, function_name, description) VALUES
	('contract_amendment', 'legal_review', 'pass', 'pending_approval', 'contract_manager', NULL, '10 days', false, 'after', 'take_action', 'the lawyer agrees'),
	('contract_amendment', 'legal_review', 'send_back', 'draft', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'the lawyer wants it otherwise'),
	('contract_amendment', 'legal_review', 'cancel', 'cancelled', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'given up'),
	('contract_amendment', 'approved', 'send', 'awaiting_signature', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'sent to the customer'),
	('contract_amendment', 'approved', 'apply', 'applied', 'contract_manager', NULL, NULL, false, 'before', 'take_action', 'carried out'),
	('contract_amendment', 'awaiting_signature', 'apply', 'applied', 'contract_manager', NULL, '30 days', false, 'before', 'take_action', 'signed and carried out'),
	('contract_amendment', 'awaiting_signature', 'cancel', 'cancelled', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'the customer does not sign'),
	('price_change', 'impact_review', 'pass', 'pending_approval', 'price_manager', NULL, '5 days', false, 'after', 'take_action', 'the effect is known'),
	('price_change', 'impact_review', 'send_back', 'draft', 'price_manager', NULL, NULL, false, 'none', 'take_action', 'the effect is not what was meant'),
	('price_change', 'impact_review', 'cancel', 'cancelled', 'price_manager', NULL, NULL, false, 'none', 'take_action', 'given up'),
	('price_change', 'approved', 'apply', 'applied', 'price_manager', NULL, '5 days', false, 'before', 'take_action', 'carried out'),
	('write_off', 'approved', 'post', 'posted', 'accountant', NULL, '5 days', false, 'before', 'take_action', 'booked'),
	('write_off', 'posted', 'reverse', 'reversed', 'accountant', NULL, NULL, false, 'none', 'take_action', 'booked back'),
	('refund', 'approved', 'pay_out', 'paid_out', 'accountant', NULL, '5 days', false, 'before', 'take_action', 'paid to the customer'),
	('refund', 'approved', 'fail', 'failed', 'accountant', NULL, NULL, false, 'none', 'take_action', 'the bank returned it'),
	('refund', 'failed', 'retry', 'approved', 'accountant', NULL, '5 days', false, 'none', 'take_action', 'to be paid again'),
	('refund', 'failed', 'cancel', 'cancelled', 'accountant', NULL, NULL, false, 'none', 'take_action', 'given up'),
	('journal', 'approved', 'post', 'posted', 'accountant', NULL, '5 days', false, 'before', 'take_action', 'booked'),
	('journal', 'posted', 'reverse', 'reversed', 'accountant', NULL, NULL, false, 'none', 'take_action', 'booked back'),
	('period_reopening', 'approved', 'reopen', 'reopened', 'accountant', NULL, NULL, false, 'before', 'take_action', 'the period is opened'),
	('period_reopening', 'reopened', 'close', 'closed', 'accountant', NULL, '5 days', false, 'none', 'take_action', 'the period is closed again'),
	('milestone', 'planned', 'reach', 'reached', 'contract_manager', NULL, NULL, false, 'after', 'take_action', 'the work is done'),
	('milestone', 'planned', 'cancel', 'cancelled', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'given up'),
	('milestone', 'reached', 'submit', 'customer_acceptance', 'contract_manager', NULL, NULL, false, 'after', 'take_action', 'shown to the customer'),
	('milestone', 'reached', 'auto_approve', 'approved', 'contract_manager', 'system', NULL, true, 'after', NULL, 'a policy says that it needs nobody'),
	('milestone', 'reached', 'cancel', 'cancelled', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'given up'),
	('milestone', 'customer_acceptance', 'accept', 'pending_approval', 'contract_manager', NULL, '30 days', false, 'after', 'take_action', 'the customer accepted the work'),
	('milestone', 'customer_acceptance', 'send_back', 'planned', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'the customer refused the work'),
	('milestone', 'pending_approval', 'approve', 'approved', 'approver', 'independent', '5 days', true, 'after', 'take_action', 'approved by a person other than its maker'),
	('milestone', 'pending_approval', 'reject', 'rejected', 'approver', 'independent', NULL, false, 'none', 'take_action', 'refused with a reason'),
	('milestone', 'pending_approval', 'send_back', 'reached', 'approver', 'independent', NULL, false, 'none', 'take_action', 'sent back to be changed'),
	('milestone', 'pending_approval', 'recall', 'reached', 'contract_manager', 'maker', NULL, false, 'none', 'take_action', 'its maker takes it back before it is decided'),
	('milestone', 'approved', 'bill', 'billed', 'biller', NULL, '10 days', false, 'before', 'take_action', 'put on an invoice'),
	('milestone', 'approved', 'cancel', 'cancelled', 'contract_manager', NULL, NULL, false, 'none', 'take_action', 'given up');

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
	('approval_rejected', 'error', 'biller', 2, 'an approver sent the document back'),
	('document_overdue', 'warning', 'approver', 2, 'a document waits longer for an action than its transition''s deadline; take the action or another one, then it closes itself');
