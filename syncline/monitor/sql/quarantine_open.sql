-- What waits in quarantine or in retries on this flow's road, and what the copy has as a person corrected it, there or by what they chose
-- of a conflict. Where a change was never decoded, its bytes say the most. A person's answer that failed explains nothing.
SELECT
    entity_type || ':' || entity_id,
    (version ->> 1)::bigint,
    (version ->> 2)::int,
    CASE WHEN entity_type IS NULL THEN message_value END,
    state <> 'replayed',
    (version ->> 3)::int > 0
FROM sync.quarantine
WHERE (state IN ('open', 'replaying') OR (state = 'replayed' AND (version ->> 3)::int > 0)) AND flow = ANY (%(flows)s)
    AND topic NOT LIKE '%%.sync.reentry'
UNION ALL
-- What waits for the store to take it is as good as in quarantine.
SELECT
    entity_type || ':' || entity_id, (version ->> 1)::bigint, (version ->> 2)::int, NULL, true, (version ->> 3)::int > 0
FROM sync.retries
WHERE state IN ('waiting', 'sent', 'escalated') AND flow = ANY (%(flows)s) AND topic NOT LIKE '%%.sync.reentry'
UNION ALL
SELECT entity_type || ':' || entity_id, (arrived_version ->> 1)::bigint, NULL, NULL, false, true
FROM sync.conflicts
WHERE field = '' AND resolution ? 'version' AND flow = ANY (%(flows)s)
