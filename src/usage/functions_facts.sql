-- What approval policies can ask about corrections of usage.

CREATE OR REPLACE FUNCTION billing_internal.usage_correction_facts(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, facts billing.document_facts)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT b.document_id,
		ROW(b.kind, CASE WHEN u.unrated = 0 THEN b.amount END, b.currency, NULL, NULL, a.payment_terms_days, c.segment, c.risk, NULL,
			NULL, greatest(b.made_on - e.first_day, 0), NULL, b.maker, NULL)::billing.document_facts
	FROM billing_internal.document_basics(entity, documents) b
	JOIN billing.usage_correction u ON u.entity_id = entity AND u.correction_id = b.document_id
	CROSS JOIN LATERAL (
		SELECT min(e.usage_date) AS first_day, CASE WHEN count(DISTINCT e.account_id) = 1 THEN min(e.account_id) END AS account_id
		FROM billing.usage_event e
		WHERE e.entity_id = entity AND e.event_id = ANY (u.takes_back)
	) e
	LEFT JOIN billing.billing_account a ON a.entity_id = entity AND a.account_id = e.account_id
	LEFT JOIN billing.customer c ON c.entity_id = entity AND c.customer_id = a.customer_id;
END;
COMMENT ON FUNCTION billing_internal.usage_correction_facts(integer, bigint[]) IS
	'Facts of corrections of usage; the amount is not known while a part of the effect has no price, and who and when only of events that are taken back';
