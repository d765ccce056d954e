-- $ids: the customers, or null for all of them. $policy: who may write which field, by rank, and what decides: the name of
-- the strategy, or that of the rule by which it merges. $window_s: the concurrency window, in seconds.
--
-- The profiles that must result from the three writers' tables as they stand, where no review was resolved: one row a
-- customer that any writer has, with each merged field, and in `open_reviews`, by field, the writer whose value stands.
--
-- Written from the rules alone, so that nothing that the flow gets wrong can be wrong here in the same way. All
-- versions come from one sequence: no two candidates share one, so the rules' later tie-breakers (rank, content hash)
-- have nothing to decide. The triggers refuse times of the future, so every time counts as it is.
WITH policy AS (
    SELECT * FROM jsonb_to_recordset(%(policy)s::jsonb) AS said (field text, strategy text, writer text, rank integer)
), written AS (
    SELECT writer, id, row
    FROM (
        SELECT 'storefront' AS writer, id, to_jsonb(storefront) AS row FROM customers.storefront
        UNION ALL
        SELECT 'crm', id, to_jsonb(crm) FROM customers.crm
        UNION ALL
        SELECT 'support', id, to_jsonb(support) FROM customers.support
    ) AS any_writer
    WHERE %(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])
), candidate AS (
    SELECT
        id,
        field,
        strategy,
        writer,
        rank,
        row -> field AS value,
        (row ->> 'consent_at')::timestamptz AS consent_at,
        (row #>> ARRAY['field_versions', field, 'version'])::bigint AS version,
        (row #>> ARRAY['field_versions', field, 'at'])::timestamptz AS at,
        coalesce(row #> ARRAY['based_on', field], '{}') AS based_on
    FROM written
    JOIN policy USING (writer)
    WHERE row -> 'field_versions' ? field
), seen AS (
    -- Each candidate with each other writer's of the same field that it came after.
    SELECT x.id, x.field, x.writer, x.version, y.writer AS seen_writer, y.version AS seen_version
    FROM candidate AS x
    JOIN candidate AS y ON y.id = x.id AND y.field = x.field AND y.writer <> x.writer
    WHERE CASE
        WHEN x.based_on ? y.writer THEN (x.based_on ->> y.writer)::bigint >= y.version
        ELSE x.at - y.at > make_interval(secs => %(window_s)s)
    END
), head AS (
    SELECT candidate.*
    FROM candidate
    WHERE strategy = 'manual' AND NOT EXISTS (
        SELECT FROM seen AS by_other
        WHERE by_other.id = candidate.id
            AND by_other.field = candidate.field
            AND by_other.seen_writer = candidate.writer
            -- Where each has seen the other, the later one stands.
            AND NOT EXISTS (
                SELECT FROM seen AS by_this
                WHERE by_this.id = candidate.id
                    AND by_this.field = candidate.field
                    AND by_this.writer = candidate.writer
                    AND by_this.seen_writer = by_other.writer
                    AND by_this.version > by_other.version
            )
    )
), headed AS (
    SELECT * FROM head
    UNION ALL
    -- Three that supersede each other in a circle: all are heads.
    SELECT * FROM candidate
    WHERE strategy = 'manual'
        AND NOT EXISTS (SELECT FROM head WHERE head.id = candidate.id AND head.field = candidate.field)
), standing AS (
    (SELECT DISTINCT ON (id, field) * FROM headed ORDER BY id, field, rank)
    UNION ALL
    (
        SELECT DISTINCT ON (id, field) * FROM candidate
        WHERE strategy = 'last_write_wins'
        ORDER BY id, field, version DESC
    )
    UNION ALL
    (
        SELECT DISTINCT ON (id, field) * FROM candidate
        WHERE strategy = 'latest_consent'
        ORDER BY id, field, consent_at DESC NULLS LAST, (value = 'false') DESC, version DESC
    )
), review AS (
    SELECT standing.id, jsonb_object_agg(field, standing.writer) AS open_reviews
    FROM standing
    JOIN (
        SELECT id, field FROM headed GROUP BY id, field HAVING count(DISTINCT value) > 1
    ) AS disputed USING (id, field)
    GROUP BY standing.id
), merged AS (
    SELECT
        id,
        jsonb_object_agg(field, value) AS fields,
        max(consent_at) FILTER (WHERE field = 'marketing_consent') AS consent_at
    FROM standing
    GROUP BY id
)
SELECT
    id,
    fields ->> 'email' AS email,
    fields ->> 'phone' AS phone,
    fields ->> 'full_name' AS full_name,
    NULLIF(fields -> 'address', 'null') AS address,
    (fields ->> 'marketing_consent')::boolean AS marketing_consent,
    consent_at,
    fields ->> 'notes' AS notes,
    coalesce(open_reviews, '{}') AS open_reviews
FROM (SELECT DISTINCT id FROM written) AS customer
LEFT JOIN merged USING (id)
LEFT JOIN review USING (id)
ORDER BY id
