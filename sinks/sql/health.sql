-- Of processes that were killed nobody takes back the rows.
WITH forgotten AS (
    DELETE FROM sync.health WHERE updated_at < clock_timestamp() - interval '1 day'
)
INSERT INTO sync.health (flow, run, target, state, circuit, since, holds_place, last_error)
SELECT flow, run, target, state, circuit, since, holds_place, last_error
FROM jsonb_to_recordset(%b::jsonb) AS told (
    flow text, run uuid, target text, state text, circuit text, since timestamptz, holds_place boolean, last_error text
)
ON CONFLICT (flow, run, target) DO UPDATE SET
    state = excluded.state,
    circuit = excluded.circuit,
    since = excluded.since,
    holds_place = excluded.holds_place,
    last_error = excluded.last_error,
    updated_at = clock_timestamp()
