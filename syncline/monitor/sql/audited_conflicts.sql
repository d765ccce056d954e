-- Audited conflicts, the newest first. What is null does not narrow the search.
SELECT
    conflict.id, conflict.flow, kind, conflict.entity_type, conflict.entity_id, field,
    known_writer, known_version, known_hash, known_value, known_position,
    arrived_writer, arrived_version, arrived_hash, arrived_value, arrived_position, arrived_event_id,
    rule, winner, decided_at, resolved_at, resolved_by, why, resolution,
    failed.id AS failed_as, failed.reason AS failed_for
FROM sync.conflicts AS conflict
LEFT JOIN sync.failed_answers AS failed
    ON failed.flow = conflict.flow AND failed.entity_type = conflict.entity_type
    AND failed.entity_id = conflict.entity_id AND failed.version = (resolution ->> 'version')::bigint
WHERE (%(id)s::bigint IS NULL OR conflict.id = %(id)s)
    AND (%(flow)s::text IS NULL OR conflict.flow = %(flow)s)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(types)s::text[] IS NULL OR conflict.entity_type = ANY (%(types)s))
    AND (%(ids)s::text[] IS NULL OR conflict.entity_id = ANY (%(ids)s))
    AND NOT (
        %(open)s AND ((resolved_at IS NOT NULL AND failed.id IS NULL) OR kind <> 'version' OR field <> '')
    )
ORDER BY conflict.id DESC
LIMIT %(limit)s
