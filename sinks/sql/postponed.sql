-- $1: a JSON array of changes that a store turned back. One that waits already leaves its row as it stands; one whose
-- row is closed waits anew, since what the copy had when it was closed may be gone.
INSERT INTO sync.retries AS known (
    flow, step, state, error, reason, entity_type, entity_id, version, turned_back, next_attempt_at,
    topic, partition, "offset", appended_at_us, message_key, message_value, headers, fingerprint
)
SELECT DISTINCT ON (flow, topic, fingerprint)
    flow, step, state, error, reason, entity_type, entity_id, version, turned_back,
    clock_timestamp() + make_interval(secs => wait_seconds),
    topic, partition, "offset", appended_at_us,
    decode(message_key, 'hex'), decode(message_value, 'hex'), headers, decode(fingerprint, 'hex')
FROM jsonb_to_recordset(%b::jsonb) AS postponed (
    flow text, step text, state text, error text, reason text, entity_type text, entity_id text, version jsonb,
    turned_back integer, wait_seconds double precision, topic text, partition integer, "offset" bigint,
    appended_at_us bigint, message_key text, message_value text, headers jsonb, fingerprint text
)
ON CONFLICT (flow, topic, fingerprint) DO UPDATE SET
    state = excluded.state,
    error = excluded.error,
    reason = excluded.reason,
    turned_back = excluded.turned_back,
    next_attempt_at = excluded.next_attempt_at,
    last_seen = excluded.last_seen,
    partition = excluded.partition,
    "offset" = excluded."offset",
    appended_at_us = excluded.appended_at_us,
    message_value = excluded.message_value,
    headers = excluded.headers,
    handled_by = NULL,
    why = NULL,
    handled_at = NULL,
    ended_at = NULL
WHERE known.state NOT IN ('waiting', 'sent', 'escalated')
