-- The customers, whom three services write: each in a table and on a topic of its own, with one outbox and one
-- sequence of versions for all, so that the versions of one customer are comparable across the writers.
--
-- A row restates old values beside the new one. Two columns, kept by the triggers below, tell them apart:
--   * `field_versions`: {"email": {"version": 12, "at": "2026-01-01T12:00:00.000000Z"}, ...}, for each field that the
--     writer ever set: the row's version at which its value last changed, and when. A writer may give the time of a
--     field that it changes, of an edit made offline, and nothing else of it:
--         UPDATE customers.crm SET email = ..., field_versions = '{"email": {"at": "2026-01-01T12:00:00Z"}}'
--   * `based_on`: {"email": {"storefront": 12}}: which version of the other writers' values the writer had seen when
--     it made the field's current value. A statement that names the column says so for all fields that it changes;
--     whatever else changes loses its entry.
-- `marketing_consent` and `consent_at` are one value with one entry, `marketing_consent`; `address` is one value.

CREATE TABLE IF NOT EXISTS storefront (
    id                uuid PRIMARY KEY,
    email             text,
    phone             text,
    full_name         text,
    address           jsonb,
    marketing_consent boolean,
    consent_at        timestamptz,
    notes             text,
    field_versions    jsonb,
    based_on          jsonb,
    version           bigint NOT NULL,
    updated_at        timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS crm (LIKE storefront INCLUDING ALL);
CREATE TABLE IF NOT EXISTS support (LIKE storefront INCLUDING ALL);


-- BEFORE UPDATE OF based_on: marks what the statement gives, since the entry that a field has and a new one for its
-- new value may well be equal.
CREATE OR REPLACE FUNCTION version_based_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.based_on := jsonb_build_object('given', NEW.based_on);
    RETURN NEW;
END
$$;

-- BEFORE UPDATE, after `version_draw`, whose name sorts before it. The row's first version, which an update draws
-- after the insert, sets every field that is not null.
CREATE OR REPLACE FUNCTION version_fields() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    fields CONSTANT text[] := ARRAY['email', 'phone', 'full_name', 'address', 'marketing_consent', 'notes'];
    is_first CONSTANT boolean := OLD.version = 0;
    old_row CONSTANT jsonb := CASE WHEN is_first THEN '{}' ELSE to_jsonb(OLD) END;
    new_row CONSTANT jsonb := to_jsonb(NEW);
    given_times CONSTANT jsonb := NEW.field_versions;
    given_based_on CONSTANT jsonb := CASE
        WHEN is_first THEN NEW.based_on
        WHEN NEW.based_on IS DISTINCT FROM OLD.based_on THEN NEW.based_on -> 'given'
    END;
    field text;
    old_entry jsonb;
    new_entry jsonb;
BEGIN
    NEW.field_versions := '{}';
    NEW.based_on := '{}';
    IF OLD.id <> NEW.id THEN
        -- From here on another customer, of whom nothing is set yet and nothing was seen.
        RETURN NEW;
    END IF;
    PERFORM version_fields_check('field_versions', given_times, fields);
    PERFORM version_fields_check('based_on', given_based_on, fields);
    FOREACH field IN ARRAY fields LOOP
        old_entry := old_row #> ARRAY['field_versions', field];
        IF old_row ->> field IS DISTINCT FROM new_row ->> field
            OR field = 'marketing_consent' AND old_row ->> 'consent_at' IS DISTINCT FROM new_row ->> 'consent_at'
        THEN
            -- An entry that is only restated gives no time.
            new_entry := NULLIF(given_times -> field, old_entry);
            NEW.field_versions := NEW.field_versions || jsonb_build_object(field, jsonb_build_object(
                'version', NEW.version,
                'at', version_field_time(field, new_entry ->> 'at', NEW.updated_at)
            ));
            new_entry := version_based_on_check(field, given_based_on -> field, NEW.version);
        ELSE
            NEW.field_versions := NEW.field_versions || jsonb_strip_nulls(jsonb_build_object(field, old_entry));
            new_entry := old_row #> ARRAY['based_on', field];
        END IF;
        NEW.based_on := NEW.based_on || jsonb_strip_nulls(jsonb_build_object(field, new_entry));
    END LOOP;
    RETURN NEW;
END
$$;

-- Refuses what is no object of objects by field: a name that is written wrong would be ignored otherwise.
CREATE OR REPLACE FUNCTION version_fields_check(column_name text, given jsonb, fields text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    field text;
    entry jsonb;
BEGIN
    IF jsonb_typeof(given) NOT IN ('object', 'null') THEN
        RAISE EXCEPTION '%: % is no object of entries by field', column_name, given
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR field, entry IN SELECT * FROM jsonb_each(NULLIF(given, 'null')) LOOP
        IF field <> ALL (fields) OR jsonb_typeof(entry) <> 'object' THEN
            RAISE EXCEPTION '%: %: % is no entry of a field', column_name, field, entry
                USING ERRCODE = 'invalid_parameter_value',
                    HINT = format('Fields are %s.', array_to_string(fields, ', '));
        END IF;
    END LOOP;
END
$$;

-- When a field changed: as given, else when the row did.
CREATE OR REPLACE FUNCTION version_field_time(field text, given text, row_time timestamptz) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    moment CONSTANT timestamptz := coalesce(given::timestamptz, row_time);
BEGIN
    IF moment > row_time + interval '5 minutes' THEN
        RAISE EXCEPTION 'field_versions: %: "%" lies more than 5 minutes in the future', field, given
            USING ERRCODE = 'invalid_parameter_value', HINT = 'The clock that it was taken from is wrong.';
    END IF;
    IF moment < '0001-01-01 00:00:00+00' THEN
        RAISE EXCEPTION 'field_versions: %: "%" lies before the year 1', field, given
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN outbox_time(moment);
END
$$;

-- What was seen of the other writers: versions that were drawn before the one that is drawn now.
CREATE OR REPLACE FUNCTION version_based_on_check(field text, given jsonb, row_version bigint) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    writer text;
    seen jsonb;
BEGIN
    FOR writer, seen IN SELECT * FROM jsonb_each(given) LOOP
        IF jsonb_typeof(seen) <> 'number' OR seen >= to_jsonb(row_version) OR seen::text !~ '^[0-9]+$' THEN
            RAISE EXCEPTION 'based_on: %: %: % is no version that was seen', field, writer, seen
                USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'Give the "version" of the field in the other writer''s "field_versions".';
        END IF;
    END LOOP;
    RETURN given;
END
$$;


DO $$
DECLARE
    writer text;
BEGIN
    FOREACH writer IN ARRAY ARRAY['storefront', 'crm', 'support'] LOOP
        CALL outbox_attach(writer::regclass, 'customer', 'id', '{id}', writer);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER version_based_on BEFORE UPDATE OF based_on ON %I '
            'FOR EACH ROW EXECUTE FUNCTION version_based_on()', writer
        );
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER version_fields BEFORE UPDATE ON %I '
            'FOR EACH ROW EXECUTE FUNCTION version_fields()', writer
        );
        EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %1$I TO %1$I', writer);
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA customers TO storefront, crm, support;
GRANT SELECT ON storefront, crm, support TO storefront, crm, support;
