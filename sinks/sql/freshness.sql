-- Each process tells of its own lanes; of each the last word counts, and the lowest of all.
INSERT INTO sync.freshness AS known (flow, owner, lanes, lane_count, as_of)
SELECT
    flow, owner, lanes, lane_count,
    (
        SELECT CASE WHEN count(*) = lane_count THEN to_timestamp(min(value::bigint) / 1e6) END
        FROM jsonb_each_text(lanes)
    )
FROM jsonb_to_recordset(%b::jsonb) AS told (flow text, owner text, lanes jsonb, lane_count integer)
ON CONFLICT (flow, owner) DO UPDATE SET
    lanes = known.lanes || excluded.lanes,
    lane_count = excluded.lane_count,
    as_of = (
        SELECT CASE WHEN count(*) = excluded.lane_count THEN to_timestamp(min(value::bigint) / 1e6) END
        FROM jsonb_each_text(known.lanes || excluded.lanes)
    ),
    updated_at = clock_timestamp()
