-- $1: a JSON array of failures. A message that is seen again at a later place in the log is counted; the same place again is
-- only a replay.
INSERT INTO sync.quarantine AS known (
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, "offset", message_key, message_value, headers, fingerprint
)
SELECT DISTINCT ON (flow, step, topic, fingerprint)
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, "offset", decode(message_key, 'hex'), decode(message_value, 'hex'), headers,
    decode(fingerprint, 'hex')
FROM jsonb_to_recordset(%b::jsonb) AS failure (
    flow text, step text, error text, reason text, entity_type text, entity_id text, version jsonb,
    topic text, partition integer, "offset" bigint, message_key text, message_value text, headers jsonb,
    fingerprint text
)
ORDER BY flow, step, topic, fingerprint, "offset" DESC
ON CONFLICT (flow, step, topic, fingerprint) DO UPDATE SET
    state = 'open',
    error = excluded.error,
    reason = excluded.reason,
    partition = excluded.partition,
    "offset" = excluded."offset",
    last_seen = excluded.last_seen,
    count = known.count + 1
WHERE (known.partition, known."offset") <> (excluded.partition, excluded."offset")
