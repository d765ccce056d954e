-- name: lock_review
SELECT FROM sync.reviews WHERE id = %(id)s FOR UPDATE

-- name: lock_conflict
SELECT FROM sync.conflicts WHERE id = %(id)s FOR UPDATE

-- name: next_version
SELECT nextval('sync.versions')

-- name: send
INSERT INTO sync.outbox (aggregatetype, aggregateid, type, payload, version)
VALUES ('reentry', %(document_id)s, %(kind)s, %(payload)s, %(version)s)

-- name: resolve_review
UPDATE sync.reviews
SET resolved_at = clock_timestamp(), resolved_by = %(by)s, why = %(why)s, resolution = %(how)s
WHERE id = %(id)s

-- name: resolve_conflicts
UPDATE sync.conflicts
SET resolved_at = clock_timestamp(), resolved_by = %(by)s, why = %(why)s, resolution = %(how)s
WHERE id = ANY (%(ids)s)

-- name: withdraw
-- An answer that failed on its way: a new one takes its place.
UPDATE sync.quarantine
SET state = 'discarded', handled_by = %(by)s, why = %(why)s, handled_at = clock_timestamp()
WHERE id = %(id)s AND state = 'open'
