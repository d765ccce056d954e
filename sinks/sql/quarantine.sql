-- $1: a JSON array of failures. A failure at a later place in the log is counted; a place that was passed before is only
-- read again. The row holds the newest change of its entity that failed; one that is older, or that a person has
-- already seen to, leaves it as it stands.
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
    SELECT
        failure.*,
        count(*) OVER (PARTITION BY flow, topic, fingerprint) AS count,
        max(failure."offset") OVER (PARTITION BY flow, topic, fingerprint, failure.partition) AS last_offset
    FROM failure LEFT JOIN sync.quarantine AS known USING (flow, topic, fingerprint)
    WHERE known.id IS NULL OR known.partition <> failure.partition OR known."offset" < failure."offset"
)
INSERT INTO sync.quarantine AS known (
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, "offset", message_key, message_value, headers, fingerprint, count
)
SELECT DISTINCT ON (flow, topic, fingerprint)
    flow, step, error, reason, entity_type, entity_id, version,
    topic, partition, last_offset, message_key, message_value, headers, fingerprint, count
FROM later
ORDER BY flow, topic, fingerprint, version DESC, "offset" DESC
ON CONFLICT (flow, topic, fingerprint) DO UPDATE SET
    partition = excluded.partition,
    "offset" = excluded."offset",
    last_seen = excluded.last_seen,
    count = known.count + excluded.count,
    (
        state, step, error, reason, entity_type, entity_id, version, message_key, message_value, headers,
        corrected_value, handled_by, why, handled_at
    ) = (
        SELECT new.*
        FROM (
            SELECT coalesce(
                excluded.version < known.version
                OR (excluded.version = known.version AND known.state IN ('replayed', 'overtaken')), false
            ) OR (excluded.version IS NOT DISTINCT FROM known.version AND known.state = 'replaying') AS stands
        ) AS row
        CROSS JOIN LATERAL (
            SELECT
                known.state, known.step, known.error, known.reason, known.entity_type, known.entity_id, known.version,
                known.message_key, known.message_value, known.headers,
                known.corrected_value, known.handled_by, known.why, known.handled_at
            WHERE stands
            UNION ALL
            SELECT
                'open', excluded.step, excluded.error, excluded.reason, excluded.entity_type, excluded.entity_id,
                excluded.version, excluded.message_key, excluded.message_value, excluded.headers,
                NULL, NULL, NULL, NULL
            WHERE NOT stands
        ) AS new
    )
