-- What the shop's services write, each statement under its name. Rows come as one JSON array.

-- name: put_product
INSERT INTO catalog.products (sku, name, description, brand, category, attributes, tags, status)
SELECT sku, name, description, brand, category, attributes, tags, status
FROM jsonb_to_recordset(%b::jsonb) AS given (
    sku text, name text, description text, brand text, category text, attributes jsonb, tags text[], status text
)
ON CONFLICT (sku) DO UPDATE SET
    name = excluded.name, description = excluded.description, brand = excluded.brand,
    category = excluded.category, attributes = excluded.attributes, tags = excluded.tags,
    status = excluded.status

-- name: edit_product
UPDATE catalog.products AS product SET
    name = coalesce(given.name, product.name),
    description = coalesce(given.description, product.description),
    attributes = coalesce(product.attributes, '{}') || coalesce(given.attributes, '{}'),
    tags = coalesce(given.tags, product.tags),
    status = coalesce(given.status, product.status)
FROM jsonb_to_recordset(%b::jsonb) AS given (
    sku text, name text, description text, attributes jsonb, tags text[], status text
)
WHERE product.sku = given.sku

-- name: delete_product
DELETE FROM catalog.products
WHERE sku IN (SELECT sku FROM jsonb_to_recordset(%b::jsonb) AS given (sku text))

-- name: put_price
INSERT INTO pricing.prices (sku, currency, list_amount, sale_amount, valid_from, valid_to)
SELECT sku, currency, list_amount, sale_amount, valid_from, valid_to
FROM jsonb_to_recordset(%b::jsonb) AS given (
    sku text, currency char(3), list_amount numeric, sale_amount numeric,
    valid_from timestamptz, valid_to timestamptz
)
ON CONFLICT (sku, currency) DO UPDATE SET
    list_amount = excluded.list_amount, sale_amount = excluded.sale_amount,
    valid_from = excluded.valid_from, valid_to = excluded.valid_to

-- name: delete_price
DELETE FROM pricing.prices
WHERE (sku, currency) IN (
    SELECT sku, currency FROM jsonb_to_recordset(%b::jsonb) AS given (sku text, currency char(3))
)

-- name: put_stock
INSERT INTO warehouse.stock (warehouse_id, sku, on_hand, reserved)
SELECT warehouse_id, sku, on_hand, reserved
FROM jsonb_to_recordset(%b::jsonb) AS given (warehouse_id text, sku text, on_hand integer, reserved integer)
ON CONFLICT (warehouse_id, sku) DO UPDATE SET on_hand = excluded.on_hand, reserved = excluded.reserved

-- name: move_stock
-- Adds to both counts (less, if negative); no more is shipped or reserved than there is.
WITH moved AS (
    SELECT
        stock.warehouse_id,
        stock.sku,
        greatest(0, least(2147483647, coalesce(stock.on_hand, 0)::bigint + given.on_hand)) AS on_hand,
        greatest(0, coalesce(stock.reserved, 0)::bigint + given.reserved) AS reserved
    FROM warehouse.stock
    JOIN jsonb_to_recordset(%b::jsonb) AS given (warehouse_id text, sku text, on_hand integer, reserved integer)
        USING (warehouse_id, sku)
    FOR NO KEY UPDATE OF stock
)
UPDATE warehouse.stock SET on_hand = moved.on_hand, reserved = least(moved.reserved, moved.on_hand)
FROM moved
WHERE stock.warehouse_id = moved.warehouse_id AND stock.sku = moved.sku

-- name: delete_stock
DELETE FROM warehouse.stock
WHERE (warehouse_id, sku) IN (
    SELECT warehouse_id, sku FROM jsonb_to_recordset(%b::jsonb) AS given (warehouse_id text, sku text)
)

-- name: products_there_are
SELECT sku FROM catalog.products ORDER BY sku COLLATE "C"

-- name: prices_there_are
SELECT sku, array_agg(currency::text ORDER BY currency) FROM pricing.prices GROUP BY sku

-- name: stock_there_is
SELECT sku, array_agg(warehouse_id ORDER BY warehouse_id COLLATE "C") FROM warehouse.stock GROUP BY sku
