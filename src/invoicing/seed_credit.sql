-- Why invoices are credited.

INSERT INTO billing.credit_reason (reason_code, is_concession, rebills, voids, is_built_in, description) VALUES
	('goodwill', true, false, false, true, 'the customer got what was billed, and is treated kindly'),
	('service_failure', true, false, false, true, 'what was delivered was not as good as agreed'),
	('returned', false, false, false, true, 'the customer gave it back'),
	('duplicate', false, false, true, true, 'it was billed in another way already'),
	('cancelled', false, false, true, true, 'what was billed was never delivered'),
	('void', false, false, true, true, 'the invoice should not exist'),
	('pricing_error', false, true, false, true, 'it was billed at a wrong price: mend the price or the contract, too'),
	('wrong_details', false, true, false, true, 'the invoice printed something wrong, such as the address');

INSERT INTO billing.exception_kind (kind, severity, owner_duty, deadline_days, description) VALUES
	('credited_twice', 'warning', 'biller', 5, 'people took back more of a charge than is left of it since a billing run replaced it by a smaller one; agree with the customer, or discard what is still a draft');
