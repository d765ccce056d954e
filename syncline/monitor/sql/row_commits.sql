-- The rows of one document in an owner's table, by their slot; when they were written: the commit's time, and the
-- row's own.
SELECT {slot}, version, {commit_time}, updated_at, to_jsonb(source)
FROM {table} AS source
WHERE {document} = %(document_id)s
