-- The warehouse service: how many of a product lie where.
CREATE TABLE IF NOT EXISTS stock (
    -- A colon would make the entity's id (stock:W1:SKU-1) ambiguous.
    warehouse_id text CHECK (strpos(warehouse_id, ':') = 0),
    sku          text,
    on_hand      integer,
    reserved     integer,
    version      bigint NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (warehouse_id, sku)
);
CALL outbox_attach('stock', 'stock', 'sku', '{warehouse_id,sku}');

GRANT USAGE ON SCHEMA warehouse TO catalog, pricing;
GRANT SELECT ON stock TO catalog, pricing;
