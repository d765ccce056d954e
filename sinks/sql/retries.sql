-- $1: a JSON array of what became of changes that came back. Only the last sending counts, and only once.
UPDATE sync.retries AS entry SET
    state = told.state,
    turned_back = told.turned_back,
    step = coalesce(told.step, entry.step),
    error = coalesce(told.error, entry.error),
    reason = coalesce(told.reason, entry.reason),
    next_attempt_at = clock_timestamp() + make_interval(secs => coalesce(told.wait_seconds, 0)),
    last_seen = CASE WHEN told.state IN ('waiting', 'escalated') THEN clock_timestamp() ELSE entry.last_seen END,
    ended_at = CASE WHEN told.state IN ('waiting', 'escalated') THEN NULL ELSE clock_timestamp() END
FROM jsonb_to_recordset(%b::jsonb) AS told (
    id bigint, attempt bigint, state text, turned_back integer, step text, error text, reason text,
    wait_seconds double precision
)
WHERE entry.id = told.id AND entry.attempt = told.attempt AND entry.state = 'sent'
