-- name: choose
-- Those that fit what is given; null fits all. Without a state: those that are not closed.
SELECT
    id, flow, step, state, error, reason, entity_type || ':' || entity_id, version, turned_back, next_attempt_at,
    topic, partition, "offset", coalesce(length(message_value), 0), first_seen, last_seen,
    handled_by, why, handled_at, ended_at
FROM sync.retries
WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
    AND CASE %(state)s::text
        WHEN 'any' THEN true
        ELSE state = %(state)s OR (%(state)s IS NULL AND state IN ('waiting', 'sent', 'escalated'))
    END
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(entity)s::text IS NULL OR %(entity)s IN (entity_type, entity_type || ':' || entity_id))
ORDER BY id
LIMIT %(limit)s

-- name: content
SELECT message_key, message_value, headers FROM sync.retries WHERE id = %(id)s

-- name: retry
-- A sending that is still on its way does not count any more.
UPDATE sync.retries SET
    state = 'waiting',
    turned_back = 0,
    attempt = NULL,
    next_attempt_at = clock_timestamp(),
    handled_by = %(by)s,
    why = NULL,
    handled_at = clock_timestamp(),
    ended_at = NULL
WHERE id = ANY (%(ids)s)

-- name: discard
UPDATE sync.retries SET
    state = 'discarded',
    handled_by = %(by)s,
    why = %(why)s,
    handled_at = clock_timestamp()
WHERE id = %(id)s
