-- The outbox of one service, and the triggers that version its rows and write each change to it.
-- Run as the service's role with the service's schema in front of the search path: nothing here names a
-- schema, and each function keeps the path that it was created with.
--
-- How a row gets its version, and why so:
--   * A version is drawn from the schema's one sequence only while the row's lock is held and after the
--     row's key is proven unique. An insert therefore sets 0 first, and an update made after it draws.
--     Drawn before the insert, a version could lose a race against a delete of the same key: the insert
--     waits for the deleter, whose row may meanwhile have drawn a higher one.
--   * Only an update writes to the outbox ('created' if it draws the row's first version, else 'updated'),
--     so what is published is what is stored, version included. A delete repeats the row's last version;
--     as an operation it ranks above the upsert of that version.
--   * An update of the key is a delete of the old entity and a creation of the new one.
-- Versions have gaps and never restart; don't alter the sequence.

CREATE SEQUENCE IF NOT EXISTS versions AS bigint;

CREATE TABLE IF NOT EXISTS outbox (
    seq            bigint GENERATED ALWAYS AS IDENTITY,
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype  text NOT NULL,
    aggregateid    text NOT NULL,
    type           text NOT NULL,
    payload        jsonb NOT NULL,
    version        bigint NOT NULL,
    occurred_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    -- A queue: each row is dead soon after it was written, however many there are.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

-- Lets the relay start its read at a transaction and so step over rows that are dead but not yet vacuumed.
CREATE INDEX IF NOT EXISTS outbox_transaction_id ON outbox (transaction_id);

-- Lets it read a backlog batch by batch without sorting all of it each time.
CREATE UNIQUE INDEX IF NOT EXISTS outbox_seq ON outbox (seq);


-- Writes one change, called by triggers that pin the search path. `arguments` are those that `outbox_attach` gave
-- them, `image` is the row as JSON. A delete carries the key alone.
CREATE OR REPLACE FUNCTION outbox_append(
    source oid, arguments text[], image jsonb, change_type text, change_version bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    is_delete CONSTANT boolean := change_type = 'deleted';
    entity text := arguments[1];
    fields jsonb := CASE WHEN is_delete THEN '{}' ELSE image - 'version' END;
    column_name text;
    is_time boolean;
BEGIN
    FOREACH column_name IN ARRAY arguments[3:] LOOP
        entity := entity || ':' || (image ->> column_name);
        IF is_delete THEN
            fields := fields || jsonb_build_object(column_name, image -> column_name);
        END IF;
    END LOOP;
    -- Asked at each write: a column may have been added, or changed its type, since.
    FOR column_name, is_time IN
        SELECT attname, atttypid = 'timestamptz'::regtype
        FROM pg_attribute
        WHERE attrelid = source AND attnum > 0 AND NOT attisdropped
            AND atttypid IN ('numeric'::regtype, 'timestamptz'::regtype)
    LOOP
        -- As text: readers of JSON numbers round them to binary floats.
        IF fields ->> column_name IS NOT NULL THEN
            fields := jsonb_set(fields, ARRAY[column_name], to_jsonb(
                CASE WHEN is_time THEN outbox_time((image ->> column_name)::timestamptz)
                ELSE image ->> column_name END
            ));
        END IF;
    END LOOP;
    INSERT INTO outbox (aggregatetype, aggregateid, type, version, payload)
    VALUES (
        arguments[0],
        image ->> arguments[2],
        change_type,
        change_version,
        jsonb_build_object(
            'entity', entity,
            'op', CASE WHEN is_delete THEN 'delete' ELSE 'upsert' END,
            'version', change_version,
            'fields', fields
        )
    );
END
$$;

-- ISO 8601 in UTC with microseconds; what that cannot say (infinity, years before 1 or after 9999) as
-- Postgres writes it, for the reader to refuse.
CREATE OR REPLACE FUNCTION outbox_time(moment timestamptz) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN moment >= '0001-01-01 00:00:00+00' AND moment < '10000-01-01 00:00:00+00'
            THEN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        ELSE moment::text
    END
$$;


-- BEFORE INSERT: no version yet.
CREATE OR REPLACE FUNCTION version_reset() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := 0;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- BEFORE UPDATE: Postgres holds the row's lock from here to the end of the transaction. A new key has no version yet.
-- Keys are compared here and not by a trigger's WHEN, which Postgres parses anew for each statement.
CREATE OR REPLACE FUNCTION version_draw() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    old_row CONSTANT jsonb := to_jsonb(OLD);
    new_row CONSTANT jsonb := to_jsonb(NEW);
    is_rekeyed boolean := false;
    id_column text;
BEGIN
    -- A table that version 0.1 attached gives no arguments, and calls this where the key stays.
    FOREACH id_column IN ARRAY coalesce(TG_ARGV[3:], '{}') LOOP
        -- As text, since that is what names the entity: 1.0 and 1.00 are two.
        is_rekeyed := is_rekeyed OR old_row ->> id_column IS DISTINCT FROM new_row ->> id_column;
    END LOOP;
    NEW.version := CASE WHEN is_rekeyed THEN 0 ELSE nextval('versions') END;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;

-- AFTER INSERT: the key is proven unique, so the row may draw its first version.
CREATE OR REPLACE FUNCTION version_first() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format(
        'UPDATE %s SET version = 0 WHERE version = 0 AND %s',
        TG_RELID::regclass, version_key_predicate(TG_ARGV)
    ) USING NEW;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION version_key_predicate(arguments text[]) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    predicate text := 'true';
    id_column text;
BEGIN
    FOREACH id_column IN ARRAY arguments[3:] LOOP
        predicate := predicate || format(' AND %1$I = ($1).%1$I', id_column);
    END LOOP;
    RETURN predicate;
END
$$;

-- AFTER UPDATE. Without a version the key is new: the old entity is gone, and the new one draws its first.
CREATE OR REPLACE FUNCTION outbox_upsert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.version <> 0 THEN
        PERFORM outbox_append(
            TG_RELID, TG_ARGV, to_jsonb(NEW),
            CASE OLD.version WHEN 0 THEN 'created' ELSE 'updated' END, NEW.version
        );
        RETURN NULL;
    END IF;
    IF OLD.version <> 0 THEN
        PERFORM outbox_append(TG_RELID, TG_ARGV, to_jsonb(OLD), 'deleted', OLD.version);
    END IF;
    EXECUTE format(
        'UPDATE %s SET version = 0 WHERE version = 0 AND %s',
        TG_RELID::regclass, version_key_predicate(TG_ARGV)
    ) USING NEW;
    RETURN NULL;
END
$$;

-- AFTER DELETE. A row that never drew a version was never published, so there is nothing to take back.
CREATE OR REPLACE FUNCTION outbox_delete() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.version <> 0 THEN
        PERFORM outbox_append(TG_RELID, TG_ARGV, to_jsonb(OLD), 'deleted', OLD.version);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION outbox_refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE of %.% is refused: it would empty the table without telling the copies',
        TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'feature_not_supported', HINT = 'Use DELETE, which is synced row by row.';
END
$$;

-- Of version 0.1: with it there, a call with four arguments would still be to it.
DROP PROCEDURE IF EXISTS outbox_attach(regclass, text, text, text[]);

-- Makes a table synced. It needs the columns `version bigint` and `updated_at timestamptz`. `id_columns` are
-- the key, in the order in which the entity's id names them: price:EUR:SKU-1 is {currency, sku}. Changes
-- travel under `routing_column`, so that what belongs together stays in one partition, in order.
-- `aggregate_type` names their topic: the entity's type, but where several writers share one entity, the writer.
CREATE OR REPLACE PROCEDURE outbox_attach(
    source regclass, entity_type text, routing_column text, id_columns text[], aggregate_type text DEFAULT NULL
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    arguments text := (
        SELECT string_agg(quote_literal(argument), ', ' ORDER BY position)
        FROM unnest(
            ARRAY[coalesce(aggregate_type, entity_type), entity_type, routing_column] || id_columns
        ) WITH ORDINALITY AS a (argument, position)
    );
    definition text;
BEGIN
    FOREACH definition IN ARRAY ARRAY[
        'version_reset_on_insert BEFORE INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION version_reset()',
        'version_draw BEFORE UPDATE ON %1$s FOR EACH ROW EXECUTE FUNCTION version_draw(%2$s)',
        'version_first AFTER INSERT ON %1$s FOR EACH ROW EXECUTE FUNCTION version_first(%2$s)',
        'outbox_upsert AFTER UPDATE ON %1$s FOR EACH ROW EXECUTE FUNCTION outbox_upsert(%2$s)',
        'outbox_delete AFTER DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION outbox_delete(%2$s)',
        'outbox_refuse_truncate BEFORE TRUNCATE ON %1$s FOR EACH STATEMENT EXECUTE FUNCTION outbox_refuse_truncate()'
    ] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER ' || definition, source, arguments);
    END LOOP;
    -- Of version 0.1.
    EXECUTE format('DROP TRIGGER IF EXISTS version_reset_on_rekey ON %s', source);
    EXECUTE format('DROP TRIGGER IF EXISTS outbox_rekey ON %s', source);
END
$$;

-- Nobody but the schema's owner makes triggers of these functions; a trigger that fires needs no grant.
REVOKE ALL ON FUNCTION version_draw, version_first, outbox_upsert, outbox_delete FROM PUBLIC;
