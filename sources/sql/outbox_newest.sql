-- The newest number that the outbox has drawn; null where it has drawn none, or where that is not for us to see.
SELECT last_value
FROM pg_sequences
WHERE format('%%I.%%I', schemaname, sequencename) = pg_get_serial_sequence(%(outbox)s, 'seq')
