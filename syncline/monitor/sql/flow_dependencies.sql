-- What each process of the flow that is at work said last of its dependencies.
SELECT run, started_at, updated_at, target, state, since, circuit, holds_place, last_error
FROM sync.health
WHERE flow = %(flow)s AND updated_at > clock_timestamp() - interval '10 seconds'
