-- The prices of each search document as the source has them, in the byte order of the SKU:
-- {currency: [version, body]}. Without `skus`, of all products.
SELECT
    sku COLLATE "C" AS sku,
    json_object_agg(
        rpad(currency, 3),  -- as text, char(3) would lose its blanks, which are part of the entity's id
        json_build_array(version, json_build_object(
            'list_e4', trim_scale(list_amount * 10000),
            'sale_e4', trim_scale(sale_amount * 10000),
            'valid_from', CASE
                WHEN valid_from >= '0001-01-01 00:00:00+00' AND valid_from < '10000-01-01 00:00:00+00'
                    THEN to_char(valid_from AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                WHEN isfinite(valid_from) THEN valid_from::text
            END,
            'valid_to', CASE
                WHEN valid_to >= '0001-01-01 00:00:00+00' AND valid_to < '10000-01-01 00:00:00+00'
                    THEN to_char(valid_to AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                WHEN isfinite(valid_to) THEN valid_to::text
            END
        ))
    )::text
FROM pricing.prices
WHERE %(skus)s::text[] IS NULL OR sku = ANY (%(skus)s)
GROUP BY 1
ORDER BY 1
