-- The last failure of a flow.
SELECT id, recorded_at, error
FROM sync.status
WHERE flow = %(flow)s AND state = 'failed'
ORDER BY recorded_at DESC, id DESC
LIMIT 1
