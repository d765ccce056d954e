-- What waits in quarantine on this flow's road, and what the copy has as a person corrected it. Where a change was never
-- decoded, its bytes say the most.
SELECT
    entity_type || ':' || entity_id,
    (version ->> 1)::bigint,
    (version ->> 2)::int,
    CASE WHEN entity_type IS NULL THEN message_value END,
    state <> 'replayed',
    (version ->> 3)::int > 0
FROM sync.quarantine
WHERE (state IN ('open', 'replaying') OR (state = 'replayed' AND (version ->> 3)::int > 0)) AND flow = ANY (%(flows)s)
