-- What waits in an outbox under a routing key, in the order of its publication.
SELECT id::text, payload ->> 'entity', version, occurred_at
FROM {outbox}
WHERE aggregateid = %(key)s
ORDER BY seq
