-- Wakes the relay at each commit. Once a statement is enough; Postgres folds the equal notifications of a
-- transaction into one. A NOTIFY takes a lock of the whole database at commit and cannot be part of a
-- prepared transaction: where that hurts, the trigger is disabled and the relay goes by its poll.
CREATE OR REPLACE FUNCTION outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('syncline_outbox_' || TG_TABLE_SCHEMA, '');
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER outbox_notify AFTER INSERT ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_notify();
