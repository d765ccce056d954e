-- Reviews, those that are open first, then the newest. What is null does not narrow the search.
SELECT
    review.id, review.flow, review.entity_type, review.entity_id, field, review.state, candidates, standing,
    opened_at, told_at, resolved_at, resolved_by, why, resolution,
    failed.id AS failed_as, failed.reason AS failed_for
FROM sync.reviews AS review
LEFT JOIN sync.failed_answers AS failed
    ON failed.flow = review.flow AND failed.entity_type = review.entity_type
    AND failed.entity_id = review.entity_id AND failed.version = (resolution ->> 'version')::bigint
WHERE (%(id)s::bigint IS NULL OR review.id = %(id)s)
    AND (%(flow)s::text IS NULL OR review.flow = %(flow)s)
    AND (%(types)s::text[] IS NULL OR review.entity_type = ANY (%(types)s))
    AND (%(ids)s::text[] IS NULL OR review.entity_id = ANY (%(ids)s))
    AND NOT (%(open)s AND review.state <> 'open')
ORDER BY review.state = 'open' DESC, review.id DESC
LIMIT %(limit)s
