-- The tenure, where the lock is won: the number of a transaction, since it only ever grows. None is taken
-- while standing by.
SELECT
    CASE WHEN pg_try_advisory_lock(%(lock_class)s, hashtext(%(schema)s))
    THEN pg_current_xact_id()::text::bigint END
