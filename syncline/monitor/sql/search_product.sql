-- The product's part of each search document as the source has it, in the byte order of the SKU:
-- {"": [version, body]}. Without `skus`, of all products.
SELECT
    sku COLLATE "C" AS sku,
    json_build_object('', json_build_array(version, json_build_object(
        'name', name, 'description', description, 'brand', brand, 'category', category,
        'attributes', attributes, 'tags', tags, 'status', status
    )))::text
FROM catalog.products
WHERE %(skus)s::text[] IS NULL OR sku = ANY (%(skus)s)
ORDER BY 1
