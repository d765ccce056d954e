-- The histograms of all rows since a time, added up: step, bucket, count.
SELECT step.key, bucket.key::int, sum(bucket.value::bigint)::bigint
FROM sync.status
CROSS JOIN LATERAL jsonb_each(histograms) AS step
CROSS JOIN LATERAL jsonb_each_text(step.value -> 'counts') AS bucket
WHERE flow = %(flow)s AND recorded_at >= %(since)s
GROUP BY 1, 2
