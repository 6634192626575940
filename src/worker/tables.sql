-- What is done in the background, how often, and how it went; and the history of verification.

CREATE TABLE billing.task (
	task          text     CONSTRAINT task_pkey PRIMARY KEY,
	function_name text     NOT NULL,
	run_every     interval NOT NULL,
	enabled       boolean  NOT NULL DEFAULT true,
	keep_days     integer  NOT NULL DEFAULT 7,
	description   text     NOT NULL,
	CONSTRAINT task_name_is_identifier CHECK (task ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT task_function_is_identifier CHECK (function_name ~ '^[a-z][a-z0-9_]{0,62}$'),
	CONSTRAINT task_run_every_sensible CHECK (run_every BETWEEN interval '1 second' AND interval '366 days'),
	CONSTRAINT task_keep_days_sensible CHECK (keep_days BETWEEN 1 AND 3660)
);
COMMENT ON TABLE billing.task IS
	'What is done in the background, as the extension defines it; each task is idempotent and catches up by itself';
COMMENT ON COLUMN billing.task.task IS 'Name of the task';
COMMENT ON COLUMN billing.task.function_name IS 'Function of billing_internal that does it; it takes no arguments and returns void';
COMMENT ON COLUMN billing.task.run_every IS 'From start to start, unless billing.task_setting says otherwise';
COMMENT ON COLUMN billing.task.enabled IS 'Whether it runs by itself, unless billing.task_setting says otherwise';
COMMENT ON COLUMN billing.task.keep_days IS 'How many days the log of its runs is kept, unless billing.task_setting says otherwise';
COMMENT ON COLUMN billing.task.description IS 'What it does';

-- Apart from billing.task, because a dump keeps what administrators decided, and an upgrade what the extension brings. It
-- has no foreign key: a decision about a task that a later version drops must not stop a restore.
CREATE TABLE billing.task_setting (
	task      text CONSTRAINT task_setting_pkey PRIMARY KEY,
	run_every interval,
	enabled   boolean,
	keep_days integer,
	CONSTRAINT task_setting_run_every_sensible CHECK (run_every BETWEEN interval '1 second' AND interval '366 days'),
	CONSTRAINT task_setting_keep_days_sensible CHECK (keep_days BETWEEN 1 AND 3660),
	CONSTRAINT task_setting_decides_something CHECK (run_every IS NOT NULL OR enabled IS NOT NULL OR keep_days IS NOT NULL)
);
COMMENT ON TABLE billing.task_setting IS
	'What administrators decided about tasks with billing.set_task()';
COMMENT ON COLUMN billing.task_setting.task IS 'Name of the task';
COMMENT ON COLUMN billing.task_setting.run_every IS 'From start to start; null where nothing was decided';
COMMENT ON COLUMN billing.task_setting.enabled IS 'Whether it runs by itself; null where nothing was decided';
COMMENT ON COLUMN billing.task_setting.keep_days IS 'How many days the log of its runs is kept; null where nothing was decided';

-- How it went is not dumped: in a restored database every task is due, and catches up.
CREATE TABLE billing.task_state (
	task          text    CONSTRAINT task_state_pkey PRIMARY KEY CONSTRAINT task_state_task_fkey REFERENCES billing.task,
	last_start    timestamptz,
	last_end      timestamptz,
	last_duration interval,
	last_failure  timestamptz,
	last_error    text,
	attempts      integer NOT NULL DEFAULT 0,
	runs          bigint  NOT NULL DEFAULT 0,
	failures      bigint  NOT NULL DEFAULT 0,
	CONSTRAINT task_state_counts_not_negative CHECK (attempts >= 0 AND failures >= 0 AND runs >= failures)
);
COMMENT ON TABLE billing.task_state IS
	'How each task went; whoever runs a task holds its row locked, so that nobody runs it at the same time';
COMMENT ON COLUMN billing.task_state.task IS 'Name of the task';
COMMENT ON COLUMN billing.task_state.last_start IS 'When it was last started; null for never';
COMMENT ON COLUMN billing.task_state.last_end IS 'When it last ended; before last_start while it runs, and where its process died';
COMMENT ON COLUMN billing.task_state.last_duration IS 'How long the last run that ended took';
COMMENT ON COLUMN billing.task_state.last_failure IS 'When it last failed';
COMMENT ON COLUMN billing.task_state.last_error IS 'Why the last run failed; null where it succeeded';
COMMENT ON COLUMN billing.task_state.attempts IS 'Starts since the last success';
COMMENT ON COLUMN billing.task_state.runs IS 'Runs that ended, well or not';
COMMENT ON COLUMN billing.task_state.failures IS 'Runs that failed';

-- The log. It is not dumped either: it tells of processes of this server, and beside task_state, which starts anew, it would
-- tell of runs that never were. It has no foreign key: it outlives a task that a later version drops.
CREATE TABLE billing.task_run (
	task       text        NOT NULL,
	started_at timestamptz NOT NULL,
	ended_at   timestamptz,
	outcome    text,
	error      text,
	run_by     text        NOT NULL,
	process_id integer     NOT NULL,
	CONSTRAINT task_run_pkey PRIMARY KEY (task, started_at),
	CONSTRAINT task_run_outcome_known CHECK (outcome IN ('done', 'failed')),
	CONSTRAINT task_run_ends_with_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
	CONSTRAINT task_run_failed_with_error CHECK ((error IS NOT NULL) = (outcome IS NOT DISTINCT FROM 'failed'))
);
CREATE INDEX task_run_by_time ON billing.task_run (started_at);
COMMENT ON TABLE billing.task_run IS
	'The log of background tasks, one row per run from its start; without an end it runs, or its process died';
COMMENT ON COLUMN billing.task_run.task IS 'Name of the task';
COMMENT ON COLUMN billing.task_run.started_at IS 'When it started';
COMMENT ON COLUMN billing.task_run.ended_at IS 'When it ended; null while it runs, and where its process died';
COMMENT ON COLUMN billing.task_run.outcome IS 'done or failed';
COMMENT ON COLUMN billing.task_run.error IS 'Why it failed: SQLSTATE, message, detail, hint';
COMMENT ON COLUMN billing.task_run.run_by IS 'worker for a background worker, otherwise the login that ran it: by hand, from cron or through pg_cron';
COMMENT ON COLUMN billing.task_run.process_id IS 'Process of the server that ran it';

CREATE TABLE billing.verification (
	entity_id       integer     NOT NULL,
	verification_id bigserial,
	verified_at     timestamptz NOT NULL DEFAULT now(),
	invariant       text        NOT NULL,
	violations      bigint      NOT NULL,
	example         text,
	CONSTRAINT verification_pkey PRIMARY KEY (entity_id, verification_id),
	CONSTRAINT verification_violations_not_negative CHECK (violations >= 0)
);
CREATE INDEX verification_by_time ON billing.verification (entity_id, verified_at);
COMMENT ON TABLE billing.verification IS
	'What billing.verify() found over time, one row per entity and invariant: the task verify writes it';
COMMENT ON COLUMN billing.verification.entity_id IS 'The entity; 0 is the installation itself';
COMMENT ON COLUMN billing.verification.verification_id IS 'Key within the entity';
COMMENT ON COLUMN billing.verification.verified_at IS 'When; the same for all rows of one verification';
COMMENT ON COLUMN billing.verification.invariant IS 'What must hold';
COMMENT ON COLUMN billing.verification.violations IS 'How often it did not';
COMMENT ON COLUMN billing.verification.example IS 'One of the violations';

SELECT billing_internal.protect('billing.task', 'reference', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.task_setting', 'queue');
SELECT billing_internal.protect('billing.task_state', 'queue', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.task_run', 'queue', dump_filter => 'WHERE false');
SELECT billing_internal.protect('billing.verification', 'append_only');

SELECT billing_internal.audit_table('billing.task_setting', 'task_setting', 'task');

-- An error's text may hold the data of any entity.
ALTER TABLE billing.task_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.task_state FORCE ROW LEVEL SECURITY;
CREATE POLICY administrators ON billing.task_state USING (0 = ANY ((SELECT billing.my_entities())::int[]));
ALTER TABLE billing.task_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.task_run FORCE ROW LEVEL SECURITY;
CREATE POLICY administrators ON billing.task_run USING (0 = ANY ((SELECT billing.my_entities())::int[]));
