-- What was decided since a time.
SELECT decision.key, sum(decision.value::bigint)::bigint
FROM sync.status
CROSS JOIN LATERAL jsonb_each_text(counts) AS decision
WHERE flow = %(flow)s AND recorded_at >= %(since)s
GROUP BY 1
ORDER BY 2 DESC, 1
