-- What approval policies can ask about invoices and credit notes.

-- As in invoice_terms(), OFFSET makes each of these a look-up by key for every row.
CREATE OR REPLACE FUNCTION billing_internal.invoice_facts(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, facts billing.document_facts)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	WITH asked AS MATERIALIZED (
		SELECT b.document_id, b.kind, b.amount, b.currency, b.made_on, b.maker, i.account_id, i.total, i.currency AS account_currency
		FROM billing_internal.document_basics(entity, documents) b
		CROSS JOIN LATERAL (SELECT * FROM billing.invoice i WHERE i.entity_id = entity AND i.invoice_id = b.document_id OFFSET 0) i
	), buyer AS MATERIALIZED (
		SELECT q.account_id, a.payment_terms_days, c.segment, c.risk, h.earlier
		FROM (SELECT DISTINCT d.account_id FROM asked d) q
		CROSS JOIN LATERAL (SELECT * FROM billing.billing_account a WHERE a.entity_id = entity AND a.account_id = q.account_id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT * FROM billing.customer c WHERE c.entity_id = entity AND c.customer_id = a.customer_id OFFSET 0) c
		CROSS JOIN LATERAL (
			SELECT array_agg(x.total::numeric) AS earlier
			FROM (
				SELECT i.total
				FROM billing.invoice i
				WHERE i.entity_id = entity AND i.account_id = q.account_id AND i.issue_date IS NOT NULL AND i.total >= 0
				ORDER BY i.billing_date DESC, i.invoice_id DESC
				LIMIT (SELECT coalesce(min(p.history), 12) FROM billing.billing_policy p WHERE p.entity_id = entity)
			) x
		) h
	)
	SELECT d.document_id,
		ROW(d.kind, d.amount, d.currency, NULL, NULL, u.payment_terms_days, u.segment, u.risk, l.categories,
			u.earlier IS NULL, greatest(d.made_on - l.first_charge, 0),
			CASE WHEN d.total >= 0 THEN abs(billing.anomaly_score(d.total, u.earlier)) END, d.maker, l.contract)::billing.document_facts
	FROM asked d
	JOIN buyer u ON u.account_id = d.account_id
	CROSS JOIN LATERAL (
		SELECT array_agg(DISTINCT p.code::text) AS categories, min(l.charge_date) AS first_charge,
			CASE WHEN count(DISTINCT c.contract_id) = 1 THEN min(c.code::text) END AS contract
		FROM (SELECT * FROM billing.invoice_line l WHERE l.entity_id = entity AND l.invoice_id = d.document_id OFFSET 0) l
		LEFT JOIN LATERAL (SELECT * FROM billing.contract_item t WHERE t.entity_id = entity AND t.item_id = l.item_id OFFSET 0) t ON true
		LEFT JOIN LATERAL (SELECT * FROM billing.product p WHERE p.entity_id = entity AND p.product_id = t.product_id OFFSET 0) p ON true
		LEFT JOIN LATERAL (SELECT * FROM billing.contract c WHERE c.entity_id = entity AND c.contract_id = t.contract_id OFFSET 0) c ON true
	) l;
END;
COMMENT ON FUNCTION billing_internal.invoice_facts(integer, bigint[]) IS
	'Facts of invoices and credit notes; the score is the size of billing.anomaly_score() among the last issued invoices of the account';
