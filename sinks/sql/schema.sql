-- Syncline's own schema: what became of changes. Run again at will.

CREATE SCHEMA IF NOT EXISTS sync;

-- One row for about every second of a flow's worker: what it did since the row before.
CREATE TABLE IF NOT EXISTS sync.status (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow          text NOT NULL,
    run           uuid NOT NULL,
    worker        text NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    state         text NOT NULL CHECK (state IN ('running', 'stopped', 'failed')),
    counts        jsonb NOT NULL DEFAULT '{}',
    oldest_commit timestamptz,
    newest_commit timestamptz,
    positions     jsonb NOT NULL DEFAULT '{}',
    watermarks    jsonb NOT NULL DEFAULT '{}',
    latency_ms    jsonb NOT NULL DEFAULT '{}',
    histograms    jsonb NOT NULL DEFAULT '{}',
    error         text
);
CREATE INDEX IF NOT EXISTS status_by_flow ON sync.status (flow, recorded_at);
CREATE INDEX IF NOT EXISTS status_by_worker ON sync.status (flow, run, worker, id);
CREATE INDEX IF NOT EXISTS status_failed ON sync.status (flow, id) WHERE state = 'failed';
COMMENT ON COLUMN sync.status.counts IS 'changes by decision';
COMMENT ON COLUMN sync.status.positions IS 'highest position confirmed, by partition of the log';
COMMENT ON COLUMN sync.status.watermarks IS
    'by partition of the log: all committed before this time (microseconds since the epoch) is in the copy';
COMMENT ON COLUMN sync.status.latency_ms IS 'percentiles of each step, of this row''s changes';
COMMENT ON COLUMN sync.status.histograms IS 'counts by bucket of each step, to be added up over rows';

-- How each process that runs a flow finds what it depends on; it says so about every second, and takes it back when it
-- ends. A row that is ten seconds old is of a process that is no more.
CREATE TABLE IF NOT EXISTS sync.health (
    flow        text NOT NULL,
    run         uuid NOT NULL,
    target      text NOT NULL,
    state       text NOT NULL CHECK (state IN ('up', 'degraded', 'down')),
    circuit     text NOT NULL,
    since       timestamptz NOT NULL,
    holds_place boolean NOT NULL,
    last_error  text,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (flow, run, target)
);
COMMENT ON COLUMN sync.health.run IS 'the process';
COMMENT ON COLUMN sync.health.since IS 'when the target came to be up, or ceased to be';
COMMENT ON COLUMN sync.health.holds_place IS 'whether the flow reads nothing new until the target is back';

-- Up to when each copy has everything, by the owner of the data.
CREATE TABLE IF NOT EXISTS sync.freshness (
    flow       text NOT NULL,
    owner      text NOT NULL,
    as_of      timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lanes      jsonb NOT NULL,
    lane_count integer NOT NULL,
    PRIMARY KEY (flow, owner)
);
COMMENT ON COLUMN sync.freshness.as_of IS
    'all that the owner committed before is in the copy; null until all lanes have said so';
COMMENT ON COLUMN sync.freshness.lanes IS
    'the last word of each lane, in microseconds since the epoch; a process tells of its own lanes';

-- Changes that could not go on, whole: a row for each entity, with the newest change of it that failed; and for what
-- was never decoded a row for the same bytes.
CREATE TABLE IF NOT EXISTS sync.quarantine (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow          text NOT NULL,
    step          text NOT NULL,
    state         text NOT NULL DEFAULT 'open',
    error         text NOT NULL,
    reason        text NOT NULL,
    entity_type   text,
    entity_id     text,
    version       jsonb,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    "offset"      bigint NOT NULL,
    message_key   bytea,
    message_value bytea,
    headers       jsonb NOT NULL,
    fingerprint   bytea NOT NULL,
    first_seen    timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen     timestamptz NOT NULL DEFAULT clock_timestamp(),
    count         bigint NOT NULL DEFAULT 1
);
ALTER TABLE sync.quarantine
    ADD COLUMN IF NOT EXISTS corrected_value bytea,
    ADD COLUMN IF NOT EXISTS attempt         bigint,
    ADD COLUMN IF NOT EXISTS handled_by      text,
    ADD COLUMN IF NOT EXISTS why             text,
    ADD COLUMN IF NOT EXISTS handled_at      timestamptz,
    ADD COLUMN IF NOT EXISTS ended_at        timestamptz,
    -- Of 0.1.0: a row for the same bytes at the same step, whatever the entity.
    DROP CONSTRAINT IF EXISTS quarantine_flow_step_topic_fingerprint_key,
    DROP CONSTRAINT IF EXISTS quarantine_state_check,
    ADD CONSTRAINT quarantine_state_check
        CHECK (state IN ('open', 'replaying', 'replayed', 'overtaken', 'discarded'));
CREATE UNIQUE INDEX IF NOT EXISTS quarantine_once ON sync.quarantine (flow, topic, fingerprint);
CREATE INDEX IF NOT EXISTS quarantine_by_entity ON sync.quarantine (entity_type, entity_id);
-- By hash, since a key may be longer than what a tree takes.
CREATE INDEX IF NOT EXISTS quarantine_by_key ON sync.quarantine USING hash (message_key);
COMMENT ON COLUMN sync.quarantine.headers IS 'pairs of a name and the value''s bytes in hexadecimal';
COMMENT ON COLUMN sync.quarantine.fingerprint IS
    'digest of the entity, or of key and value where nothing was decoded: what fails again under it is the same row';
COMMENT ON COLUMN sync.quarantine.version IS 'of the change as it is held: a correction raises the last number';
COMMENT ON COLUMN sync.quarantine.corrected_value IS 'what is replayed in place of message_value, which stays';
COMMENT ON COLUMN sync.quarantine.attempt IS 'of the last replay, from sync.versions';
COMMENT ON COLUMN sync.quarantine.handled_by IS 'who corrected, replayed or discarded it last; why stands beside it';
COMMENT ON COLUMN sync.quarantine.ended_at IS 'when the last replay came to its end';

-- Changes that a store turned back while it took others, whole: a row for each, until it has come back.
CREATE TABLE IF NOT EXISTS sync.retries (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow            text NOT NULL,
    step            text NOT NULL,
    state           text NOT NULL CHECK (
        state IN ('waiting', 'sent', 'done', 'overtaken', 'quarantined', 'escalated', 'discarded')
    ),
    error           text NOT NULL,
    reason          text NOT NULL,
    entity_type     text NOT NULL,
    entity_id       text NOT NULL,
    version         jsonb NOT NULL,
    turned_back     integer NOT NULL,
    attempt         bigint,
    next_attempt_at timestamptz NOT NULL,
    topic           text NOT NULL,
    partition       integer NOT NULL,
    "offset"        bigint NOT NULL,
    appended_at_us  bigint NOT NULL,
    message_key     bytea,
    message_value   bytea,
    headers         jsonb NOT NULL,
    fingerprint     bytea NOT NULL,
    first_seen      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen       timestamptz NOT NULL DEFAULT clock_timestamp(),
    handled_by      text,
    why             text,
    handled_at      timestamptz,
    ended_at        timestamptz,
    UNIQUE (flow, topic, fingerprint)
);
CREATE INDEX IF NOT EXISTS retries_due ON sync.retries (next_attempt_at) WHERE state IN ('waiting', 'sent');
CREATE INDEX IF NOT EXISTS retries_open ON sync.retries (state, flow) WHERE state IN ('waiting', 'sent', 'escalated');
CREATE INDEX IF NOT EXISTS retries_by_key ON sync.retries USING hash (message_key);
COMMENT ON COLUMN sync.retries.fingerprint IS 'digest of the entity, the version and what it says';
COMMENT ON COLUMN sync.retries.turned_back IS 'how often a store turned it back, since it came or a person sent it again';
COMMENT ON COLUMN sync.retries.attempt IS 'of the last sending, from sync.versions';
COMMENT ON COLUMN sync.retries.next_attempt_at IS
    'when it is sent; once it was sent: when it is sent again if nothing is heard of it';
COMMENT ON COLUMN sync.retries.handled_by IS 'who sent it again or discarded it last; why stands beside it';

-- What Syncline sends back to its flows, on the road that the services' changes take.
CREATE SEQUENCE IF NOT EXISTS sync.versions AS bigint;
CREATE TABLE IF NOT EXISTS sync.outbox (
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype  text NOT NULL DEFAULT 'reentry',
    aggregateid    text NOT NULL,
    type           text NOT NULL,
    payload        jsonb NOT NULL,
    version        bigint NOT NULL,
    occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outbox_transaction_id ON sync.outbox (transaction_id);
CREATE UNIQUE INDEX IF NOT EXISTS outbox_seq ON sync.outbox (seq);
COMMENT ON COLUMN sync.outbox.aggregateid IS 'the document''s id, the key of its messages';
COMMENT ON COLUMN sync.outbox.type IS 'replay, retry or resolution';

CREATE OR REPLACE FUNCTION sync.outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('syncline_outbox_sync', '');
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER outbox_notify AFTER INSERT ON sync.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION sync.outbox_notify();

-- One row for each pair of changes that could not both stand.
CREATE TABLE IF NOT EXISTS sync.conflicts (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow             text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('timestamp', 'version', 'ownership', 'business_rule')),
    entity_type      text NOT NULL,
    entity_id        text NOT NULL,
    field            text NOT NULL,
    known_writer     text NOT NULL,
    known_version    jsonb NOT NULL,
    known_hash       text NOT NULL,
    known_value      jsonb,
    arrived_writer   text NOT NULL,
    arrived_version  jsonb NOT NULL,
    arrived_hash     text NOT NULL,
    arrived_value    jsonb,
    arrived_position text,
    arrived_event_id text NOT NULL,
    rule             text NOT NULL,
    winner           text NOT NULL CHECK (winner IN ('known', 'arrived')),
    decided_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at      timestamptz,
    resolved_by      text,
    why              text,
    resolution       jsonb
);
-- Where the content that stood is to be found, which the copy keeps no more than the position of.
ALTER TABLE sync.conflicts ADD COLUMN IF NOT EXISTS known_position text;
-- The same two in the other order are the same conflict: after a replay the winner is the one that is known.
CREATE UNIQUE INDEX IF NOT EXISTS conflicts_once ON sync.conflicts (
    flow, kind, entity_type, entity_id, field,
    least(
        known_writer || known_version::text || known_hash, arrived_writer || arrived_version::text || arrived_hash
    ),
    greatest(
        known_writer || known_version::text || known_hash, arrived_writer || arrived_version::text || arrived_hash
    )
);
CREATE INDEX IF NOT EXISTS conflicts_by_entity ON sync.conflicts (entity_id, entity_type);
COMMENT ON COLUMN sync.conflicts.field IS 'empty: the entity as a whole';
COMMENT ON COLUMN sync.conflicts.resolution IS 'what a person decided after the rule had; null: nobody did';

-- One row for each field of an entity that a person was ever asked about: which of the concurrent values is right?
CREATE TABLE IF NOT EXISTS sync.reviews (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow             text NOT NULL,
    entity_type      text NOT NULL,
    entity_id        text NOT NULL,
    field            text NOT NULL,
    state            text NOT NULL CHECK (state IN ('open', 'closed')),
    candidates       jsonb NOT NULL,
    standing         text NOT NULL,
    document_version bigint NOT NULL,
    opened_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    told_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at      timestamptz,
    resolved_by      text,
    why              text,
    resolution       jsonb,
    UNIQUE (flow, entity_type, entity_id, field)
);
COMMENT ON COLUMN sync.reviews.candidates IS 'by writer: its newest value, with the version and time of that';
COMMENT ON COLUMN sync.reviews.standing IS 'the writer whose value the copy shows meanwhile';
COMMENT ON COLUMN sync.reviews.document_version IS 'of two tellings the one with the higher clock is newer';
COMMENT ON COLUMN sync.reviews.resolution IS 'the last one sent; the flow closes the review once the copy has it';

-- People's answers to conflicts and reviews that a flow could not take, by the version that was drawn for each.
CREATE OR REPLACE VIEW sync.failed_answers AS
SELECT
    id, flow, state, entity_type, entity_id, reason,
    -- A resolution is a row of its own; what was chosen of a conflict is a correction of one.
    coalesce(nullif((version ->> 3)::bigint, 0), (version ->> 1)::bigint) AS version
FROM sync.quarantine
WHERE topic LIKE '%.sync.reentry' AND entity_id IS NOT NULL AND state IN ('open', 'discarded');

-- Where people are told of what waits for them. Only `syncline notify` writes this table and the next two.
CREATE TABLE IF NOT EXISTS sync.notification_targets (
    target      text PRIMARY KEY,
    told_at     timestamptz,
    failures    integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT to_timestamp(0)
);
COMMENT ON COLUMN sync.notification_targets.target IS 'the recipient, and the place of the address among its own';
COMMENT ON COLUMN sync.notification_targets.failures IS 'in a row, since it was last told';

-- Entities that a copy hides for longer than their policy allows, since what they refer to never came: as the last round
-- found them.
CREATE TABLE IF NOT EXISTS sync.overdue_references (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flow        text NOT NULL,
    entity_type text NOT NULL,
    entity_id   text NOT NULL,
    referenced  text NOT NULL,
    since       timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    UNIQUE (flow, entity_type, entity_id, referenced)
);
COMMENT ON COLUMN sync.overdue_references.referenced IS 'what is missing, such as product:SKU-1';
COMMENT ON COLUMN sync.overdue_references.since IS 'when the copy first had the entity';
COMMENT ON COLUMN sync.overdue_references.seen_at IS 'the start of the last round that found it so';

-- What each was told of, while it is open.
CREATE TABLE IF NOT EXISTS sync.told (
    target text NOT NULL REFERENCES sync.notification_targets ON DELETE CASCADE,
    source text NOT NULL,
    row_id bigint NOT NULL,
    PRIMARY KEY (target, source, row_id)
);
ALTER TABLE sync.told
    DROP CONSTRAINT IF EXISTS told_source_check,
    ADD CONSTRAINT told_source_check
        CHECK (source IN ('quarantine', 'retries', 'reviews', 'conflicts', 'overdue_references'));
CREATE INDEX IF NOT EXISTS quarantine_open ON sync.quarantine (id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS reviews_open ON sync.reviews (id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS conflicts_rejected ON sync.conflicts (decided_at) WHERE winner = 'known';
