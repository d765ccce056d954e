-- What the services write of customers, each statement under its name; `{writer}` is the service's own table. Rows
-- come as one JSON array.

-- name: put
-- Makes the row, or changes those of its columns that `fields` has, at the time `at`. `seen` names, by field, the
-- writers whose value the service had before it; of which version that was, their tables tell.
INSERT INTO customers.{writer} (
    id, email, phone, full_name, address, marketing_consent, consent_at, notes, field_versions, based_on
)
SELECT
    given.id, put.email, put.phone, put.full_name, put.address, put.marketing_consent, put.consent_at, put.notes,
    (
        SELECT jsonb_object_agg(field, jsonb_build_object('at', given.at))
        FROM jsonb_object_keys(given.fields) AS field
        WHERE field <> 'consent_at'
    ),
    (
        SELECT jsonb_object_agg(field, versions)
        FROM (
            SELECT
                seen.field,
                jsonb_object_agg(other.writer, other.field_versions #> ARRAY[seen.field, 'version']) AS versions
            FROM jsonb_each(given.seen) AS seen (field, writers)
            JOIN (
                SELECT 'storefront' AS writer, field_versions FROM customers.storefront WHERE id = given.id
                UNION ALL
                SELECT 'crm', field_versions FROM customers.crm WHERE id = given.id
                UNION ALL
                SELECT 'support', field_versions FROM customers.support WHERE id = given.id
            ) AS other ON seen.writers ? other.writer AND other.field_versions ? seen.field
            GROUP BY seen.field
        ) AS by_field
    )
FROM jsonb_to_recordset(%b::jsonb) AS given (id uuid, fields jsonb, at text, seen jsonb)
LEFT JOIN customers.{writer} AS own ON own.id = given.id
CROSS JOIN LATERAL jsonb_populate_record(own, given.fields) AS put
ON CONFLICT (id) DO UPDATE SET
    email = excluded.email, phone = excluded.phone, full_name = excluded.full_name, address = excluded.address,
    marketing_consent = excluded.marketing_consent, consent_at = excluded.consent_at, notes = excluded.notes,
    field_versions = excluded.field_versions, based_on = excluded.based_on

-- name: delete
DELETE FROM customers.{writer}
WHERE id IN (SELECT id FROM jsonb_to_recordset(%b::jsonb) AS given (id uuid))

-- name: rows_there_are
-- With what the service ever set, and when it last set something.
SELECT
    id::text,
    coalesce(
        (SELECT jsonb_object_agg(field, to_jsonb(own) -> field) FROM jsonb_object_keys(field_versions) AS field),
        '{}'
    ),
    coalesce(
        (SELECT max((entry ->> 'at')::timestamptz) FROM jsonb_each(field_versions) AS entries (field, entry)),
        updated_at
    )
FROM customers.{writer} AS own
ORDER BY id
