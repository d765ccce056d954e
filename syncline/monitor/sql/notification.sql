-- name: know_target
INSERT INTO sync.notification_targets (target) VALUES (%(target)s) ON CONFLICT DO NOTHING

-- name: hold_target
-- Held until the transaction ends, so that no other process tells the same at the same time.
SELECT (extract(epoch FROM next_try_at) * 1000000)::bigint, failures, told_at
FROM sync.notification_targets
WHERE target = %(target)s
FOR UPDATE SKIP LOCKED

-- name: note_overdue
INSERT INTO sync.overdue_references AS known (flow, entity_type, entity_id, referenced, since, seen_at)
SELECT %(flow)s, entity_type, entity_id, referenced, since, to_timestamp(%(now_us)s / 1e6)
FROM jsonb_to_recordset(%(found)s::jsonb) AS found (
    entity_type text, entity_id text, referenced text, since timestamptz
)
ON CONFLICT (flow, entity_type, entity_id, referenced) DO UPDATE SET
    since = excluded.since,
    seen_at = greatest(known.seen_at, excluded.seen_at)

-- name: forget_no_longer_overdue
-- What another process saw after this round began stays.
DELETE FROM sync.overdue_references WHERE flow = %(flow)s AND seen_at < to_timestamp(%(now_us)s / 1e6)

-- name: forget_settled
-- What is opened again after this is news. Conflicts stay in the audit for good: see take_news.
WITH unsettled AS (
    SELECT 'quarantine' AS source, id AS row_id FROM sync.quarantine WHERE state = 'open'
    UNION ALL
    SELECT 'retries', id FROM sync.retries WHERE state = 'escalated'
    UNION ALL
    SELECT 'reviews', id FROM sync.reviews WHERE state = 'open'
    UNION ALL
    SELECT 'overdue_references', id FROM sync.overdue_references
    UNION ALL
    SELECT 'conflicts', id FROM sync.conflicts
    WHERE winner = 'known' AND decided_at > now() - interval '8 days'
)
DELETE FROM sync.told
WHERE target = %(target)s AND NOT EXISTS (
    SELECT FROM unsettled WHERE unsettled.source = told.source AND unsettled.row_id = told.row_id
)

-- name: take_news
-- What the target was not told of yet is told now, if this transaction commits. Rows become visible in another order
-- than that of their ids, so each is remembered. Conflicts of the last week only: it bounds what is remembered.
WITH waiting AS (
    SELECT
        'quarantine' AS source, id AS row_id, entity_type, entity_id,
        CASE WHEN entity_type IS NULL THEN topic END AS topic,
        error AS kind, NULL AS field, reason
    FROM sync.quarantine
    WHERE state = 'open'
    UNION ALL
    SELECT 'retries', id, entity_type, entity_id, NULL, error, '', reason
    FROM sync.retries
    WHERE state = 'escalated'
    UNION ALL
    SELECT 'reviews', id, entity_type, entity_id, NULL, 'concurrent values', field, NULL
    FROM sync.reviews
    WHERE state = 'open'
    UNION ALL
    SELECT
        'overdue_references', id, entity_type, entity_id, NULL, split_part(referenced, ':', 1) || ' never came', '',
        'hidden since ' || to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
    FROM sync.overdue_references
    UNION ALL
    SELECT 'conflicts', id, entity_type, entity_id, NULL, kind, field, rule
    FROM sync.conflicts
    WHERE winner = 'known' AND decided_at > now() - interval '7 days'
), untold AS (
    SELECT
        source, row_id, entity_type, entity_id, topic, kind, reason,
        coalesce(field, substring(reason FROM '^([[:alnum:]_ ]{1,60}): '), '') AS field
    FROM waiting
    WHERE
        (%(everything)s OR entity_type = ANY (%(entities)s) OR topic = ANY (%(topics)s))
        AND NOT EXISTS (
            SELECT FROM sync.told
            WHERE told.target = %(target)s AND told.source = waiting.source AND told.row_id = waiting.row_id
        )
), news AS MATERIALIZED (
    SELECT *, row_number() OVER (PARTITION BY source, entity_type, topic, kind, field ORDER BY row_id) AS place
    FROM untold
), remembered AS (
    INSERT INTO sync.told (target, source, row_id) SELECT %(target)s, source, row_id FROM news
)
SELECT
    source, entity_type, topic, kind, field, count(*),
    jsonb_agg(jsonb_build_array(row_id, entity_id, left(reason, 500)) ORDER BY row_id)
        FILTER (WHERE place <= %(examples)s)
FROM news
GROUP BY source, entity_type, topic, kind, field

-- name: remember_try
UPDATE sync.notification_targets SET
    next_try_at = to_timestamp(%(next_try_us)s / 1e6),
    failures = %(failures)s,
    told_at = CASE WHEN %(failures)s = 0 THEN to_timestamp(%(now_us)s / 1e6) ELSE told_at END
WHERE target = %(target)s
