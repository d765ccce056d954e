-- What waits in an outbox under a routing key, in the order of its publication. An answer to a review names its field
-- in place of an entity.
SELECT
    id::text, aggregatetype, coalesce(payload ->> 'entity', 'resolution:' || (payload ->> 'field')), version, occurred_at
FROM {outbox}
WHERE aggregateid = %(key)s
ORDER BY seq
