-- One profile a customer, made of what several services say of it. Run again at will.

CREATE SCHEMA IF NOT EXISTS profiles;

-- All documents, hidden ones too. The flow alone writes and reads here; readers use the view profiles.customers.
CREATE TABLE IF NOT EXISTS profiles.customer_documents (
    id                uuid PRIMARY KEY,
    email             text,
    phone             text,
    full_name         text,
    address           jsonb,
    marketing_consent boolean,
    consent_at        timestamptz,
    notes             text,
    _sync             jsonb NOT NULL,
    hidden            boolean NOT NULL GENERATED ALWAYS AS ((_sync -> 'hidden')::boolean) STORED,
    revision          bigint NOT NULL GENERATED ALWAYS AS IDENTITY
);
COMMENT ON COLUMN profiles.customer_documents._sync IS 'where the document''s content comes from';
COMMENT ON COLUMN profiles.customer_documents.hidden IS 'no service has a row of this customer, or none any more';
COMMENT ON COLUMN profiles.customer_documents.revision IS
    'drawn anew by each write, never twice in this table: a write must name the one that it replaces';

CREATE OR REPLACE VIEW profiles.customers AS
SELECT id, email, phone, full_name, address, marketing_consent, consent_at, notes, _sync
FROM profiles.customer_documents
WHERE NOT hidden;
COMMENT ON VIEW profiles.customers IS 'what is to be shown: one row for each customer that some service has';
