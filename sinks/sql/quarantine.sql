-- $1: a JSON array of failures. A message that is seen again at a later place in the log is counted; a place that
-- was passed before is only a replay.
WITH failure AS (
    SELECT
        flow, step, error, reason, entity_type, entity_id, version, topic, partition, "offset",
        decode(message_key, 'hex') AS message_key, decode(message_value, 'hex') AS message_value, headers,
        decode(fingerprint, 'hex') AS fingerprint
    FROM jsonb_to_recordset(%b::jsonb) AS failure (
        flow text, step text, error text, reason text, entity_type text, entity_id text, version jsonb,
        topic text, partition integer, "offset" bigint, message_key text, message_value text, headers jsonb,
        fingerprint text
    )
), later AS (
    SELECT failure.*, count(*) OVER (PARTITION BY flow, step, topic, fingerprint) AS count
    FROM failure LEFT JOIN sync.quarantine AS known USING (flow, step, topic, fingerprint)
    WHERE known.id IS NULL OR known.partition <> failure.partition OR known."offset" < failure."offset"
)
INSERT INTO sync.quarantine AS known (
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, "offset", message_key, message_value, headers, fingerprint, count
)
SELECT DISTINCT ON (flow, step, topic, fingerprint)
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, "offset", message_key, message_value, headers, fingerprint, count
FROM later
ORDER BY flow, step, topic, fingerprint, "offset" DESC
ON CONFLICT (flow, step, topic, fingerprint) DO UPDATE SET
    state = 'open',
    error = excluded.error,
    reason = excluded.reason,
    partition = excluded.partition,
    "offset" = excluded."offset",
    last_seen = excluded.last_seen,
    count = known.count + excluded.count
