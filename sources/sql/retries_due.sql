-- Sends what is due on its road: waiting long enough, or sent so long ago that nobody can still be at it.
WITH due AS (
    SELECT id
    FROM sync.retries
    WHERE state IN ('waiting', 'sent') AND next_attempt_at <= clock_timestamp()
    ORDER BY next_attempt_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), sent AS (
    UPDATE sync.retries AS entry SET
        state = 'sent',
        attempt = nextval('sync.versions'),
        next_attempt_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
    FROM due
    WHERE entry.id = due.id
    RETURNING entry.*
), returned AS (
    INSERT INTO sync.outbox (aggregateid, type, version, payload)
    SELECT
        convert_from(message_key, 'UTF8'),
        'retry',
        attempt,
        jsonb_build_object(
            'kind', 'retry',
            'flow', flow,
            'retry_id', id,
            'turned_back', turned_back,
            'topic', topic,
            'partition', partition,
            'offset', "offset",
            'appended_at_us', appended_at_us,
            'key', encode(message_key, 'hex'),
            'value', encode(message_value, 'hex'),
            'headers', headers,
            'by', 'syncline',
            'version', attempt
        )
    FROM sent
    ORDER BY id
)
SELECT count(*) FROM sync.retries WHERE state = 'escalated'
