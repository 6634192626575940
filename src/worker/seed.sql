-- The tasks. Whoever adds one writes its function in billing_internal: no arguments, returns void, idempotent, goes on
-- from where it stopped, and leaves what it cannot process behind as an exception.

INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('drain_usage_inbox', 'drain_inboxes', '10 seconds', 'takes in usage events that were sent with COPY'),
	('detach_usage_months', 'detach_usage_months', '1 day', 'detaches the months of usage events that lie outside of the retention, are closed and billed'),
	('escalate_approvals', 'escalate_approvals', '1 minute', 'reminds of approvals before their deadline, and lets others decide after it'),
	('make_usage_months', 'make_usage_months', '1 day', 'makes the partitions of usage events for this month and the next three'),
	('overdue_documents', 'raise_overdue_documents', '15 minutes', 'raises an exception for every document that waits longer than the deadline of an action'),
	('purge_outbox', 'purge_outbox', '1 hour', 'deletes messages of the outbox that every consumer has confirmed and that are old enough, and raises exceptions about consumers that do not read'),
	('purge_task_runs', 'purge_task_runs', '1 day', 'deletes what is older than its days from the log of tasks, and from the run details of pg_cron'),
	('replay_usage', 'replay_all_usage', '5 minutes', 'takes parked usage events again whose cause has been mended'),
	('seal_audit', 'seal_audits', '1 minute', 'seals the audit records that are final into blocks'),
	('start_due_runs', 'start_due_runs', '1 minute', 'starts the billing runs of entities that let them start by themselves'),
	('suggest_subjects', 'apply_suggestions', '5 minutes', 'gives aliases to unknown subjects of usage, where the entity lets it and nothing else is as likely'),
	('usage_alerts', 'raise_usage_alerts', '1 minute', 'raises the alerts of usage items whose threshold is reached'),
	('usage_sources', 'watch_usage_sources', '1 minute', 'raises an exception for every expected source of usage that falls silent'),
	('roll_up_usage', 'roll_up_usage', '30 seconds', 'merges usage events into the roll-ups'),
	('watch_credits', 'watch_credits', '1 day', 'raises an exception where people took back more of a charge than a billing run left of it'),
	('verify', 'record_verification', '1 day', 'runs billing.verify() for every entity and keeps what it found');

-- The log of what runs seldom is short, and asked for later. That of purge_task_runs goes for the run details of pg_cron too.
UPDATE billing.task SET keep_days = 90 WHERE run_every >= interval '1 day' AND task <> 'purge_task_runs';

INSERT INTO billing.task_state (task) SELECT task FROM billing.task;
