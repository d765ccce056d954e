SELECT count(*) FILTER (WHERE state <> 'escalated'), count(*) FILTER (WHERE state = 'escalated')
FROM sync.retries
WHERE flow = %(flow)s AND state IN ('waiting', 'sent', 'escalated')
