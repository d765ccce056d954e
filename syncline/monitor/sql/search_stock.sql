-- The stock of each search document as the source has it, in the byte order of the SKU:
-- {warehouse: [version, body]}. Without `skus`, of all products.
SELECT
    sku COLLATE "C" AS sku,
    json_object_agg(
        warehouse_id, json_build_array(version, json_build_object('on_hand', on_hand, 'reserved', reserved))
    )::text
FROM warehouse.stock
WHERE %(skus)s::text[] IS NULL OR sku = ANY (%(skus)s)
GROUP BY 1
ORDER BY 1
