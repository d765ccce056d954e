-- $1: a JSON array of conflicts. A replay tells the same conflict again: it stands already.
INSERT INTO sync.conflicts (
    flow, kind, entity_type, entity_id, known_version, known_hash, arrived_version, arrived_hash,
    arrived_event_id, arrived_fields, arrived_position, rule, winner
)
SELECT
    flow, kind, entity_type, entity_id, known_version, known_hash, arrived_version, arrived_hash,
    arrived_event_id, arrived_fields, arrived_position, rule, winner
FROM jsonb_to_recordset(%b::jsonb) AS conflict (
    flow text, kind text, entity_type text, entity_id text, known_version jsonb, known_hash text,
    arrived_version jsonb, arrived_hash text, arrived_event_id text, arrived_fields jsonb,
    arrived_position text, rule text, winner text
)
ON CONFLICT DO NOTHING
