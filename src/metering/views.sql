-- How usage arrives.

CREATE OR REPLACE VIEW billing.inbox_refused WITH (security_invoker = true) AS
SELECT entity, sent_by, received_at, refused AS reason, source, id, type, subject, "time", data
FROM billing.usage_inbox
WHERE refused IS NOT NULL;
COMMENT ON VIEW billing.inbox_refused IS
	'Rows of billing.usage_inbox that are nobody''s: no such entity, or a sender who does not belong there; for members of billing_owner, who mend the cause and drain again';
COMMENT ON COLUMN billing.inbox_refused.entity IS 'Code of the entity, as it was sent';
COMMENT ON COLUMN billing.inbox_refused.sent_by IS 'The login that sent it';
COMMENT ON COLUMN billing.inbox_refused.received_at IS 'When';
COMMENT ON COLUMN billing.inbox_refused.reason IS 'Why it is refused';
COMMENT ON COLUMN billing.inbox_refused.source IS 'Attribute source of the event';
COMMENT ON COLUMN billing.inbox_refused.id IS 'Attribute id of the event';
COMMENT ON COLUMN billing.inbox_refused.type IS 'Attribute type of the event';
COMMENT ON COLUMN billing.inbox_refused.subject IS 'Attribute subject of the event';
COMMENT ON COLUMN billing.inbox_refused."time" IS 'Attribute time of the event';
COMMENT ON COLUMN billing.inbox_refused.data IS 'Attribute data of the event';


CREATE OR REPLACE VIEW billing.late_usage WITH (security_invoker = true) AS
SELECT
	l.code AS entity,
	u.meter,
	u.month,
	sum(u.accepted)::bigint AS accepted,
	max(u.max_days) AS max_days_late,
	sum(u.days) / nullif(sum(u.accepted), 0) AS avg_days_late,
	sum(u.held)::bigint AS held,
	u.entity_id
FROM (
	SELECT e.entity_id, m.code AS meter, date_trunc('month', e.usage_date)::date AS month,
		count(*) AS accepted, max(e.days_late) AS max_days, sum(e.days_late) AS days, 0 AS held
	FROM (
		SELECT e.entity_id, e.meter_id, e.usage_date,
			(e.ingested_at AT TIME ZONE z.time_zone)::date - e.usage_date AS days_late,
			coalesce(p.late_after_days, 1) AS late_after_days
		FROM billing.usage_event e
		JOIN billing.legal_entity z ON z.entity_id = e.entity_id
		LEFT JOIN billing.usage_policy p ON p.entity_id = e.entity_id
		WHERE e.weight = 1 AND e.correction_id IS NULL
	) e
	JOIN billing.meter m ON m.entity_id = e.entity_id AND m.meter_id = e.meter_id
	WHERE e.days_late > e.late_after_days
	GROUP BY e.entity_id, m.code, date_trunc('month', e.usage_date)
	UNION ALL
	SELECT x.entity_id, x.payload ->> 'type',
		date_trunc('month', billing_internal.usage_moment(x.payload ->> 'time') AT TIME ZONE z.time_zone)::date,
		0, NULL, NULL, count(*)
	FROM billing.exception x
	JOIN billing.legal_entity z ON z.entity_id = x.entity_id
	WHERE x.kind = 'usage_late' AND x.state = 'open'
	GROUP BY 1, 2, 3
) u
JOIN billing.legal_entity l ON l.entity_id = u.entity_id
GROUP BY l.code, u.meter, u.month, u.entity_id;
COMMENT ON VIEW billing.late_usage IS
	'How much usage came late, by meter and month of usage: more days after its own day than the policy of the entity says, or more than one; reads all events';
COMMENT ON COLUMN billing.late_usage.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.late_usage.meter IS 'Code of the meter';
COMMENT ON COLUMN billing.late_usage.month IS 'First day of the month in which it happened';
COMMENT ON COLUMN billing.late_usage.accepted IS 'Late events that were taken in; corrections are not counted';
COMMENT ON COLUMN billing.late_usage.max_days_late IS 'From the day of the latest of them to the day on which it was taken in; null without any';
COMMENT ON COLUMN billing.late_usage.avg_days_late IS 'The same on average';
COMMENT ON COLUMN billing.late_usage.held IS 'Events that wait for billing.release_usage()';
COMMENT ON COLUMN billing.late_usage.entity_id IS 'Key of the entity';

CREATE OR REPLACE VIEW billing.unknown_subject WITH (security_invoker = true) AS
SELECT
	e.code AS entity,
	w.subject,
	w.events,
	w.since,
	s.kind,
	s.account,
	s.contract,
	s.item,
	s.confidence,
	s.reason,
	w.entity_id
FROM (
	SELECT x.entity_id, x.subject, count(*) AS events, min(x.raised_at) AS since
	FROM billing.exception x
	WHERE x.kind = 'usage_unknown_subject' AND x.state = 'open'
	GROUP BY x.entity_id, x.subject
) w
JOIN billing.legal_entity e USING (entity_id)
-- an aggregate of at most one row: the planner leaves it out of queries that do not ask for a suggestion
LEFT JOIN LATERAL (
	SELECT min(b.kind) AS kind, min(b.account) AS account, min(b.contract) AS contract, min(b.item) AS item,
		min(b.confidence) AS confidence, min(b.reason) AS reason
	FROM (SELECT * FROM billing.suggest_subject(e.code, w.subject) LIMIT 1) b
) s ON true;
COMMENT ON VIEW billing.unknown_subject IS
	'Subjects of usage events that nothing is named by, with the best suggestion; the suggestion is worked out only where it is asked for';
COMMENT ON COLUMN billing.unknown_subject.entity IS 'Code of the entity';
COMMENT ON COLUMN billing.unknown_subject.subject IS 'Subject of the events';
COMMENT ON COLUMN billing.unknown_subject.events IS 'How many events wait';
COMMENT ON COLUMN billing.unknown_subject.since IS 'Since when the first of them waits';
COMMENT ON COLUMN billing.unknown_subject.kind IS 'What the suggestion was found by: account, item or alias; null without a suggestion';
COMMENT ON COLUMN billing.unknown_subject.account IS 'Code of the account that is probably meant, or whose item is';
COMMENT ON COLUMN billing.unknown_subject.contract IS 'Code of the contract of the item that is probably meant';
COMMENT ON COLUMN billing.unknown_subject.item IS 'Code of the item that is probably meant';
COMMENT ON COLUMN billing.unknown_subject.confidence IS 'How sure the suggestion is, from 0 to 1';
COMMENT ON COLUMN billing.unknown_subject.reason IS 'Why it may be right';
COMMENT ON COLUMN billing.unknown_subject.entity_id IS 'Key of the entity';
