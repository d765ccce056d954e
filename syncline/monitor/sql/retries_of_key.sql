-- What waits in retries under a message key, the oldest first.
SELECT
    id, state, flow, reason, entity_type || ':' || entity_id, version,
    topic || '/' || partition || '@' || "offset", first_seen, turned_back, next_attempt_at
FROM sync.retries
WHERE state IN ('waiting', 'sent', 'escalated') AND message_key = %(key)s AND flow = %(flow)s
ORDER BY id
