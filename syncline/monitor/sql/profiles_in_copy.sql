-- $ids: the customers, or null for all of them. Hidden profiles too, with the fields that a person decided.
SELECT
    id, email, phone, full_name, address, marketing_consent, consent_at, notes, hidden,
    ARRAY(SELECT jsonb_object_keys(_sync -> 'resolutions'))
FROM profiles.customer_documents
WHERE %(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])
ORDER BY id
