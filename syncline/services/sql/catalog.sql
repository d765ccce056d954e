-- The catalog service: what the shop sells.
CREATE TABLE IF NOT EXISTS products (
    sku         text PRIMARY KEY,
    name        text,
    description text,
    brand       text,
    category    text,
    attributes  jsonb,
    tags        text[],
    status      text,
    version     bigint NOT NULL,
    updated_at  timestamptz NOT NULL
);
CALL outbox_attach('products', 'product', 'sku', '{sku}');

GRANT USAGE ON SCHEMA catalog TO pricing, warehouse;
GRANT SELECT ON products TO pricing, warehouse;
