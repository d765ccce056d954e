-- name: identity
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), database.oid, documents.oid)
FROM pg_database AS database, pg_class AS documents
WHERE database.datname = current_database() AND documents.oid = 'profiles.customer_documents'::regclass

-- name: read
SELECT
    id::text,
    json_build_object(
        'id', id,
        'email', email,
        'phone', phone,
        'full_name', full_name,
        'address', address,
        'marketing_consent', marketing_consent,
        'consent_at', to_char(consent_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'notes', notes,
        '_sync', _sync
    )::text,
    revision,
    tableoid::bigint
FROM profiles.customer_documents
WHERE id = ANY(%s::uuid[])

-- name: locked
-- Which of these rows somebody else holds. The update of nothing waits for the table, as a write does.
WITH table_is_free AS (
    UPDATE profiles.customer_documents SET revision = DEFAULT WHERE false
), free AS MATERIALIZED (
    SELECT id FROM profiles.customer_documents WHERE id = ANY(%s::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
)
SELECT id::text
FROM profiles.customer_documents
WHERE id = ANY(%s::uuid[]) AND id NOT IN (SELECT id FROM free)

-- name: write
-- $1: a JSON array of writes, of distinct ids. Answers those that were taken. A revision that is gone leaves the
-- document as it is, and so does a creation where there is one. All bodies are unpacked, so that one that does not
-- fit is refused whatever was expected.
WITH given AS MATERIALIZED (
    SELECT expected.id, expected.revision, expected.table_oid, body.*
    FROM jsonb_to_recordset(%s::jsonb) AS expected (id uuid, revision bigint, table_oid bigint, body jsonb),
        jsonb_to_record(expected.body) AS body (
            email text, phone text, full_name text, address jsonb, marketing_consent boolean,
            consent_at timestamptz, notes text, _sync jsonb
        )
), replaced AS (
    UPDATE profiles.customer_documents AS standing SET
        email = given.email,
        phone = given.phone,
        full_name = given.full_name,
        address = given.address,
        marketing_consent = given.marketing_consent,
        consent_at = given.consent_at,
        notes = given.notes,
        _sync = given._sync,
        revision = DEFAULT
    FROM given
    WHERE standing.id = given.id
        AND standing.revision = given.revision
        AND standing.tableoid::bigint = given.table_oid
    RETURNING standing.id, standing.revision, standing.tableoid
), created AS (
    INSERT INTO profiles.customer_documents (
        id, email, phone, full_name, address, marketing_consent, consent_at, notes, _sync
    )
    SELECT id, email, phone, full_name, address, marketing_consent, consent_at, notes, _sync
    FROM given
    WHERE revision IS NULL
    ON CONFLICT (id) DO NOTHING
    RETURNING id, revision, tableoid
)
SELECT id::text, revision, tableoid::bigint FROM replaced
UNION ALL
SELECT id::text, revision, tableoid::bigint FROM created
