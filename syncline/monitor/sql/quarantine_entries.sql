-- name: choose
-- Those that fit what is given; null fits all.
SELECT
    id, flow, step, state, error, reason, entity_type || ':' || entity_id, version, topic, partition, "offset",
    coalesce(length(coalesce(corrected_value, message_value)), 0), first_seen, last_seen, count,
    handled_by, why, handled_at, ended_at,
    (
        SELECT coalesce(
            (
                SELECT 'r' || review.id
                FROM sync.reviews AS review
                WHERE (review.flow, review.entity_type, review.entity_id)
                    = (failed.flow, failed.entity_type, failed.entity_id)
                    AND (review.resolution ->> 'version')::bigint = failed.version
            ),
            (
                SELECT 'c' || conflict.id
                FROM sync.conflicts AS conflict
                WHERE (conflict.flow, conflict.entity_type, conflict.entity_id)
                    = (failed.flow, failed.entity_type, failed.entity_id)
                    AND (conflict.resolution ->> 'version')::bigint = failed.version
                -- A review's answer settles several conflicts.
                LIMIT 1
            )
        )
        FROM sync.failed_answers AS failed
        WHERE failed.id = quarantine.id
    )
FROM sync.quarantine
WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
    AND (%(state)s::text IS NULL OR state = %(state)s)
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(step)s::text IS NULL OR step = %(step)s)
    AND (%(error)s::text IS NULL OR error = %(error)s)
    AND (%(entity)s::text IS NULL OR %(entity)s IN (entity_type, entity_type || ':' || entity_id))
    AND (%(topic)s::text IS NULL OR topic = %(topic)s)
    AND (%(reason)s::text IS NULL OR strpos(lower(reason), lower(%(reason)s)) > 0)
ORDER BY id
LIMIT %(limit)s

-- name: content
SELECT message_key, message_value, corrected_value, headers FROM sync.quarantine WHERE id = %(id)s

-- name: correct
UPDATE sync.quarantine SET
    corrected_value = %(value)s,
    version = jsonb_set(version, '{3}', to_jsonb((version ->> 3)::int + 1))
WHERE id = %(id)s

-- name: replay
WITH due AS (
    UPDATE sync.quarantine SET
        state = 'replaying',
        attempt = nextval('sync.versions'),
        handled_by = %(by)s,
        why = %(why)s,
        handled_at = clock_timestamp(),
        ended_at = NULL
    WHERE id = ANY (%(ids)s)
    RETURNING *
)
INSERT INTO sync.outbox (aggregateid, type, version, payload)
SELECT
    -- The key of a change that was decoded is its document's id.
    CASE WHEN entity_id IS NULL THEN encode(coalesce(message_key, ''), 'hex') ELSE convert_from(message_key, 'UTF8') END,
    'replay',
    attempt,
    jsonb_build_object(
        'kind', 'replay',
        'flow', flow,
        'quarantine_id', id,
        'topic', topic,
        'key', encode(message_key, 'hex'),
        'value', encode(coalesce(corrected_value, message_value), 'hex'),
        'headers', headers,
        'correction', coalesce((version ->> 3)::int, 0),
        'by', handled_by,
        'why', why,
        'version', attempt
    )
FROM due
ORDER BY id

-- name: discard
UPDATE sync.quarantine SET
    state = 'discarded', handled_by = %(by)s, why = %(why)s, handled_at = clock_timestamp()
WHERE id = %(id)s
