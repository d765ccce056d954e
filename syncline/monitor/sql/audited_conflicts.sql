-- Audited conflicts, the newest first. What is null does not narrow the search.
SELECT
    id, flow, kind, entity_type, entity_id, field,
    known_writer, known_version, known_hash, known_value, NULL AS known_position,
    arrived_writer, arrived_version, arrived_hash, arrived_value, arrived_position, arrived_event_id,
    rule, winner, decided_at, resolved_at, resolved_by, why, resolution
FROM sync.conflicts
WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(types)s::text[] IS NULL OR entity_type = ANY (%(types)s))
    AND (%(ids)s::text[] IS NULL OR entity_id = ANY (%(ids)s))
    AND NOT (%(open)s AND (resolved_at IS NOT NULL OR kind <> 'version' OR field <> ''))
ORDER BY id DESC
LIMIT %(limit)s
