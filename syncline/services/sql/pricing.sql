-- The pricing service: what a product costs, by currency.
CREATE TABLE IF NOT EXISTS prices (
    sku         text,
    -- A colon would make the entity's id (price:EUR:SKU-1) ambiguous.
    currency    char(3) CHECK (strpos(currency::text, ':') = 0),
    list_amount numeric(12, 4),
    sale_amount numeric(12, 4),
    valid_from  timestamptz,
    valid_to    timestamptz,
    version     bigint NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (sku, currency)
);
CALL outbox_attach('prices', 'price', 'sku', '{currency,sku}');

GRANT USAGE ON SCHEMA pricing TO catalog, warehouse;
GRANT SELECT ON prices TO catalog, warehouse;
