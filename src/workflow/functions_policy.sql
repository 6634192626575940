-- Conditions, and the policies that have them.

CREATE OR REPLACE FUNCTION billing.check_condition(condition text, kind text DEFAULT NULL) RETURNS text
	STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_check_condition';
COMMENT ON FUNCTION billing.check_condition(text, text) IS
	'Checks a condition against the fields of billing.document_facts: gives its canonical text, or raises ZB017 with the position and the nearest field';

CREATE OR REPLACE FUNCTION billing_internal.condition_holds(condition billing.condition, facts billing.document_facts) RETURNS boolean
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_condition_holds';
COMMENT ON FUNCTION billing_internal.condition_holds(billing.condition, billing.document_facts) IS
	'Whether a condition holds for the facts of a document: true, false, or null where what it asks for is not known';

CREATE OR REPLACE FUNCTION billing.set_approval_policy(
	entity text, policy text, kind text, condition text, levels jsonb, priority integer DEFAULT 100,
	valid_from date DEFAULT NULL, valid_to date DEFAULT NULL, outcome text DEFAULT 'levels', reason text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_set_policy';
COMMENT ON FUNCTION billing.set_approval_policy(text, text, text, text, jsonb, integer, date, date, text, text) IS
	'Sets an approval policy, or its new version, from a day (today) to the day before another (open): a condition (null for always), and the levels that approve, such as [{"duty": "approver", "needed": 2}]; needs the duty admin';

CREATE OR REPLACE FUNCTION billing.end_approval_policy(entity text, policy text, day date DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
	SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_end_policy';
COMMENT ON FUNCTION billing.end_approval_policy(text, text, date, text) IS
	'Ends an approval policy with the day before the given one (today); what was to begin later never does; needs the duty admin';

CREATE OR REPLACE FUNCTION billing_internal.policy_set(entity integer, day date DEFAULT NULL) RETURNS bytea
	STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_policy_set';
COMMENT ON FUNCTION billing_internal.policy_set(integer, date) IS
	'The approval policies that hold for documents of an entity on a day (today), inherited ones among them, as one value for first_policy()';

CREATE OR REPLACE FUNCTION billing_internal.first_policy(policies bytea, kind text, facts billing.document_facts) RETURNS integer
	IMMUTABLE PARALLEL SAFE
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_find_policy';
COMMENT ON FUNCTION billing_internal.first_policy(bytea, text, billing.document_facts) IS
	'Which policy of a policy_set() a document gets, from 0: the first of its kind that holds, and where the amount is not known the strictest that could; null where there is none';

-- What is the same for documents of all kinds. The amount is in the entity's currency, at the latest rate up to its today.
CREATE OR REPLACE FUNCTION billing_internal.document_basics(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, kind text, amount numeric, currency text, made_on date, maker text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT d.document_id, d.kind,
		CASE WHEN d.currency = e.currency THEN abs(d.amount)
			ELSE billing.round_amount(abs(d.amount) * r.rate, y.minor_unit::integer, e.rounding_mode) END,
		d.currency, (d.created_at AT TIME ZONE e.time_zone)::date, p.code
	FROM billing.document d
	JOIN billing.legal_entity e ON e.entity_id = d.entity_id
	JOIN billing.currency y ON y.currency = e.currency
	LEFT JOIN (
		SELECT DISTINCT ON (x.from_currency) x.from_currency, x.rate
		FROM billing.exchange_rate x
		JOIN billing.legal_entity l ON l.entity_id = x.entity_id
		WHERE x.entity_id = entity AND x.to_currency = l.currency AND x.valid_from <= (now() AT TIME ZONE l.time_zone)::date
		ORDER BY x.from_currency, x.valid_from DESC
	) r ON r.from_currency = d.currency
	LEFT JOIN billing.person p ON p.person_id = d.maker_id
	WHERE d.entity_id = entity AND d.document_id = ANY (documents);
END;
COMMENT ON FUNCTION billing_internal.document_basics(integer, bigint[]) IS
	'What documents of all kinds have: the size of the amount in the entity''s currency (null without a rate), the day on which they were made, and by whom';

CREATE OR REPLACE FUNCTION billing_internal.document_facts(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, facts billing.document_facts)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT b.document_id,
		ROW(b.kind, b.amount, b.currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, b.maker, NULL)::billing.document_facts
	FROM billing_internal.document_basics(entity, documents) b;
END;
COMMENT ON FUNCTION billing_internal.document_facts(integer, bigint[]) IS
	'Facts of documents of which no room knows more than their header';

CREATE OR REPLACE FUNCTION billing_internal.match_policies(entity integer, documents bigint[])
	RETURNS TABLE (document_id bigint, policy_id bigint, policy_entity_id integer)
	VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_match_policies';
COMMENT ON FUNCTION billing_internal.match_policies(integer, bigint[]) IS
	'The approval policy that each of some documents gets today; documents without one are left out';

CREATE OR REPLACE FUNCTION billing.explain_policy(entity text, document text)
	RETURNS TABLE (
		"position" integer, policy text, policy_entity text, priority integer, condition text, outcome text, holds boolean,
		counts boolean, why text)
	VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	LANGUAGE C AS 'MODULE_PATHNAME', 'billing_workflow_explain_policy';
COMMENT ON FUNCTION billing.explain_policy(text, text) IS
	'The approval policies that are asked about a document today, in their order: whose they are, whether each holds, which one counts, and why the others do not, with the values';

CREATE OR REPLACE FUNCTION billing_internal.verify_policies(entity integer)
	RETURNS TABLE (invariant text, violations bigint, example text)
	LANGUAGE SQL STABLE
BEGIN ATOMIC
	SELECT 'a policy has levels if levels approve, and none otherwise', count(*), min(format('policy %s', p.code))
	FROM billing.approval_policy p
	WHERE (entity IS NULL OR p.entity_id = entity) AND (p.outcome = 'levels') <> EXISTS (
		SELECT FROM billing.approval_level l WHERE l.entity_id = p.entity_id AND l.policy_id = p.policy_id)
	UNION ALL
	SELECT 'no entity stands above itself', count(*), min(format('entity %s', e.code))
	FROM billing.legal_entity e
	WHERE (entity IS NULL OR e.entity_id = entity) AND e.entity_id IN (
		WITH RECURSIVE above AS (
			SELECT e.parent_id AS entity_id, 1 AS n
			UNION ALL
			SELECT x.parent_id, a.n + 1 FROM above a JOIN billing.legal_entity x ON x.entity_id = a.entity_id WHERE a.n < 100
		)
		SELECT a.entity_id FROM above a WHERE a.entity_id IS NOT NULL);
END;
COMMENT ON FUNCTION billing_internal.verify_policies(integer) IS
	'Checks of the approval matrix: levels, and the tree of entities';
