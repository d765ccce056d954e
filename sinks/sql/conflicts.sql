-- $1: a JSON array of conflicts. A replay tells the same conflict again: it stands already.
INSERT INTO sync.conflicts (
    flow, kind, entity_type, entity_id, field, known_writer, known_version, known_hash, known_value, known_position,
    arrived_writer, arrived_version, arrived_hash, arrived_value, arrived_position, arrived_event_id, rule, winner
)
SELECT
    flow, kind, entity_type, entity_id, field, known_writer, known_version, known_hash, known_value, known_position,
    arrived_writer, arrived_version, arrived_hash, arrived_value, arrived_position, arrived_event_id, rule, winner
FROM jsonb_to_recordset(%b::jsonb) AS conflict (
    flow text, kind text, entity_type text, entity_id text, field text, known_writer text, known_version jsonb,
    known_hash text, known_value jsonb, known_position text, arrived_writer text, arrived_version jsonb,
    arrived_hash text, arrived_value jsonb, arrived_position text, arrived_event_id text, rule text, winner text
)
ON CONFLICT DO NOTHING
