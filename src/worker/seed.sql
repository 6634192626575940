-- The tasks. Whoever adds one writes its function in billing_internal: no arguments, returns void, idempotent, goes on
-- from where it stopped, and leaves what it cannot process behind as an exception.

INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('drain_usage_inbox', 'drain_inboxes', '10 seconds', 'takes in usage events that were sent with COPY'),
	('detach_usage_months', 'detach_usage_months', '1 day', 'detaches the months of usage events that lie outside of the retention, are closed and billed'),
	('make_usage_months', 'make_usage_months', '1 day', 'makes the partitions of usage events for this month and the next three'),
	('replay_usage', 'replay_all_usage', '5 minutes', 'takes parked usage events again whose cause has been mended'),
	('suggest_subjects', 'apply_suggestions', '5 minutes', 'gives aliases to unknown subjects of usage, where the entity lets it and nothing else is as likely'),
	('usage_alerts', 'raise_usage_alerts', '1 minute', 'raises the alerts of usage items whose threshold is reached'),
	('usage_sources', 'watch_usage_sources', '1 minute', 'raises an exception for every expected source of usage that falls silent'),
	('roll_up_usage', 'roll_up_usage', '30 seconds', 'merges usage events into the roll-ups'),
	('verify', 'record_verification', '1 day', 'runs billing.verify() for every entity and keeps what it found');

INSERT INTO billing.task_state (task) SELECT task FROM billing.task;
