DELETE FROM {outbox} WHERE seq = ANY (%(published)s::text::bigint[])
