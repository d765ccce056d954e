-- The newest row of each worker that was at work in the flow's last ten seconds of life, with the first of its run.
SELECT newest.state, newest.id, newest.recorded_at, newest.watermarks, first.id, first.recorded_at
FROM (
    SELECT DISTINCT ON (run, worker) run, worker, state, id, recorded_at, watermarks
    FROM sync.status
    WHERE flow = %(flow)s AND state <> 'failed' AND recorded_at > (
        SELECT max(recorded_at) - interval '10 seconds' FROM sync.status WHERE flow = %(flow)s
    )
    ORDER BY run, worker, id DESC
) AS newest
CROSS JOIN LATERAL (
    SELECT id, recorded_at FROM sync.status AS row
    WHERE row.flow = %(flow)s AND row.run = newest.run AND row.worker = newest.worker
    ORDER BY id LIMIT 1
) AS first
