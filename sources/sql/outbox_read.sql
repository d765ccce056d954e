-- All rows that are visible and not yet published, in the order of `seq`; one row of nulls where there are
-- none. `newest` is the highest `seq` that this read saw, told where not all rows fitted.
WITH here AS MATERIALIZED (
    SELECT
        pg_snapshot_xmin(pg_current_snapshot())::text AS floor,
        (extract(epoch FROM statement_timestamp()) * 1000000)::bigint AS started_at_us,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS read_at_us
), row AS MATERIALIZED (
    SELECT
        seq, id::text, aggregatetype, aggregateid, type, convert_to(payload::text, 'UTF8'),
        (extract(epoch FROM {commit_time}) * 1000000)::bigint,
        (extract(epoch FROM occurred_at) * 1000000)::bigint
    FROM {outbox}
    -- A subquery is hashed; `<> ALL` would compare each row with each number.
    WHERE transaction_id >= %(floor)s::text::xid8 AND seq NOT IN (SELECT unnest(%(published)s::text::bigint[]))
    -- By the index on transactions; the sum keeps the planner from walking dead rows in the order of `seq`.
    ORDER BY seq + 0
    LIMIT %(limit)s
)
SELECT
    here.floor, here.started_at_us, here.read_at_us,
    CASE WHEN (SELECT count(*) FROM row) = %(limit)s THEN (SELECT max(seq) FROM {outbox}) END AS newest,
    row.*
FROM here LEFT JOIN row ON true
ORDER BY row.seq
