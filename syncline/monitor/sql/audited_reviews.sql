-- Reviews, those that are open first, then the newest. What is null does not narrow the search.
SELECT
    id, flow, entity_type, entity_id, field, state, candidates, standing, opened_at, told_at,
    resolved_at, resolved_by, why, resolution
FROM sync.reviews
WHERE (%(id)s::bigint IS NULL OR id = %(id)s)
    AND (%(flow)s::text IS NULL OR flow = %(flow)s)
    AND (%(types)s::text[] IS NULL OR entity_type = ANY (%(types)s))
    AND (%(ids)s::text[] IS NULL OR entity_id = ANY (%(ids)s))
    AND NOT (%(open)s AND state <> 'open')
ORDER BY state = 'open' DESC, id DESC
LIMIT %(limit)s
