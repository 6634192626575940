-- The tasks. Whoever adds one writes its function in billing_internal: no arguments, returns void, idempotent, goes on
-- from where it stopped, and leaves what it cannot process behind as an exception.

INSERT INTO billing.task (task, function_name, run_every, description) VALUES
	('replay_usage', 'replay_all_usage', '5 minutes', 'takes parked usage events again whose cause has been mended'),
	('verify', 'record_verification', '1 day', 'runs billing.verify() for every entity and keeps what it found');

INSERT INTO billing.task_state (task) SELECT task FROM billing.task;
