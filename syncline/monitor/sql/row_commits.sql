-- When the rows of one document were written, by their slot: the commit's time, else the row's own.
SELECT {slot}, version, updated_at, {commit_time}
FROM {source}
WHERE {document} = %(document_id)s
