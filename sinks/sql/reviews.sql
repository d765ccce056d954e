-- $1: a JSON array of reviews. The newest telling stands, by the document's clock; the same one again changes nothing.
-- A review that was closed and is open again is a new question, opened now.
INSERT INTO sync.reviews AS known (
    flow, entity_type, entity_id, field, state, candidates, standing, document_version
)
SELECT DISTINCT ON (flow, entity_type, entity_id, field)
    flow, entity_type, entity_id, field, state, candidates, standing, document_version
FROM jsonb_to_recordset(%b::jsonb) AS review (
    flow text, entity_type text, entity_id text, field text, state text, candidates jsonb, standing text,
    document_version bigint
)
ORDER BY flow, entity_type, entity_id, field, document_version DESC
ON CONFLICT (flow, entity_type, entity_id, field) DO UPDATE SET
    state = excluded.state,
    candidates = excluded.candidates,
    standing = excluded.standing,
    document_version = excluded.document_version,
    opened_at = CASE
        WHEN known.state = 'closed' AND excluded.state = 'open' THEN excluded.opened_at
        ELSE known.opened_at
    END,
    told_at = excluded.told_at
WHERE known.document_version < excluded.document_version
