-- What waits in quarantine on this flow's road. Where a change was never decoded, its bytes say the most.
SELECT
    entity_type || ':' || entity_id,
    (version ->> 1)::bigint,
    (version ->> 2)::int,
    CASE WHEN entity_type IS NULL THEN message_value END
FROM sync.quarantine
WHERE state = 'open' AND flow = ANY (%(flows)s)
