-- $ids: the customers, or null for all of them. Hidden profiles too, with the fields that a person decided, and the
-- versions of the rows that a person corrected.
SELECT
    id, email, phone, full_name, address, marketing_consent, consent_at, notes, hidden,
    ARRAY(SELECT jsonb_object_keys(_sync -> 'resolutions')),
    ARRAY(
        SELECT (entity -> 'version' ->> 1)::bigint
        FROM jsonb_path_query(_sync, '$.entities.*') AS entity
        WHERE (entity -> 'version' ->> 3)::bigint > 0
    )
FROM profiles.customer_documents
WHERE %(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])
ORDER BY id
