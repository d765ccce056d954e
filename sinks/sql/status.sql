WITH record AS (
    SELECT *
    FROM jsonb_to_recordset(%b::jsonb) AS record (
        flow text, run uuid, worker text, state text, counts jsonb, oldest_commit_us bigint, newest_commit_us bigint,
        positions jsonb, watermarks jsonb, latency_ms jsonb, histograms jsonb, error text
    )
),
forgotten AS (
    DELETE FROM sync.status
    WHERE flow = ANY (ARRAY(SELECT DISTINCT flow FROM record))
      AND recorded_at < clock_timestamp() - interval '1 day'
)
INSERT INTO sync.status (
    flow, run, worker, state, counts, oldest_commit, newest_commit, positions, watermarks, latency_ms,
    histograms, error
)
SELECT
    flow, run, worker, state, counts, to_timestamp(oldest_commit_us / 1e6), to_timestamp(newest_commit_us / 1e6),
    positions, watermarks, latency_ms, histograms, error
FROM record
