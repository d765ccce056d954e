-- The next rows of a round, in the order of `seq`, by the index on it.
SELECT
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS read_at_us,
    seq, id::text, aggregatetype, aggregateid, type, convert_to(payload::text, 'UTF8'),
    (extract(epoch FROM {commit_time}) * 1000000)::bigint,
    (extract(epoch FROM occurred_at) * 1000000)::bigint
FROM {outbox}
WHERE seq > %(after)s AND seq <= %(newest)s
ORDER BY seq
LIMIT %(limit)s
