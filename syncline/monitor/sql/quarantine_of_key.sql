-- What waits in quarantine under a message key, the oldest first. Where a change was never decoded, its bytes say
-- the most.
SELECT
    id, state, flow, step, error, reason, entity_type || ':' || entity_id, version,
    topic || '/' || partition || '@' || "offset", first_seen, last_seen, count,
    CASE WHEN entity_type IS NULL THEN message_value END
FROM sync.quarantine
WHERE state IN ('open', 'replaying') AND message_key = %(key)s AND flow = ANY (%(flows)s)
ORDER BY id
