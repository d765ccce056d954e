-- $1: a JSON array of ends of replays. Only the last attempt counts, and only once.
UPDATE sync.quarantine AS entry SET
    state = told.state,
    ended_at = clock_timestamp(),
    step = coalesce(told.step, entry.step),
    error = coalesce(told.error, entry.error),
    reason = coalesce(told.reason, entry.reason),
    entity_type = coalesce(told.entity_type, entry.entity_type),
    entity_id = coalesce(told.entity_id, entry.entity_id),
    version = coalesce(told.version, entry.version),
    last_seen = CASE told.state WHEN 'open' THEN clock_timestamp() ELSE entry.last_seen END,
    count = entry.count + CASE told.state WHEN 'open' THEN 1 ELSE 0 END
FROM jsonb_to_recordset(%b::jsonb) AS told (
    id bigint, attempt bigint, state text, step text, error text, reason text, entity_type text, entity_id text,
    version jsonb
)
WHERE entry.id = told.id AND entry.attempt = told.attempt AND entry.state = 'replaying'
