"""What waits for a person, put straight into the tables of the schema ``sync``."""

from typing import Self

import psycopg
from psycopg.types.json import Jsonb


class WaitingRoom:
    """Fills the tables, and empties them at the end."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        self.empty()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def empty(self) -> None:
        self.connection.execute(
            """
            TRUNCATE sync.quarantine, sync.retries, sync.reviews, sync.conflicts, sync.overdue_references,
                sync.notification_targets, sync.told
            """
        )

    def quarantine(
        self,
        count: int = 1,
        entity_type: str | None = "price",
        topic: str = "shop.pricing.price",
        reason: str = "sale_amount: 12 must lie between 0 and the list amount, 9",
        connection: psycopg.Connection | None = None,
    ) -> None:
        """So many more changes; the n-th in the table is of the entity with the id ``EUR:SKU-n``."""
        (connection or self.connection).execute(
            """
            INSERT INTO sync.quarantine (
                flow, step, error, reason, entity_type, entity_id, version,
                topic, partition, "offset", headers, fingerprint
            )
            SELECT
                'catalog_search', 'apply', 'Invalid', %(reason)s, %(entity_type)s,
                CASE WHEN %(entity_type)s::text IS NOT NULL THEN 'EUR:SKU-' || number END, '[1, 1, 0, 0]',
                %(topic)s, 0, number, '[]', gen_random_uuid()::text::bytea
            FROM (SELECT count(*) AS there FROM sync.quarantine) AS known,
                generate_series(there + 1, there + %(count)s) AS number
            """,
            {"reason": reason, "entity_type": entity_type, "topic": topic, "count": count},
        )

    def retry(self, entity_id: str, state: str) -> None:
        self.connection.execute(
            """
            INSERT INTO sync.retries (
                flow, step, state, error, reason, entity_type, entity_id, version, turned_back,
                next_attempt_at, topic, partition, "offset", appended_at_us, headers, fingerprint
            ) VALUES (
                'catalog_search', 'apply', %s, 'Postponed', 'lock timeout', 'price', %s, '[1, 1, 0, 0]', 11,
                now(), 'shop.pricing.price', 0, 1, 0, '[]', gen_random_uuid()::text::bytea
            )
            """,
            (state, entity_id),
        )

    def review(self, entity_id: str) -> None:
        self.connection.execute(
            """
            INSERT INTO sync.reviews (
                flow, entity_type, entity_id, field, state, candidates, standing, document_version
            ) VALUES ('customer_profiles', 'customer', %s, 'email', 'open', '{}', 'storefront', 1)
            """,
            (entity_id,),
        )

    def conflict(self, entity_id: str, winner: str, days_ago: int = 0) -> None:
        self.connection.execute(
            """
            INSERT INTO sync.conflicts (
                flow, kind, entity_type, entity_id, field, known_writer, known_version, known_hash,
                arrived_writer, arrived_version, arrived_hash, arrived_event_id, rule, winner, decided_at
            ) VALUES (
                'customer_profiles', 'ownership', 'customer', %s, 'notes', 'support', %s, 'a', 'crm', %s, 'b',
                'event', 'owner', %s, now() - make_interval(days => %s)
            )
            """,
            (entity_id, Jsonb([1]), Jsonb([2]), winner, days_ago),
        )

    def set_state(self, state: str) -> None:
        """Of all that is in quarantine."""
        self.connection.execute("UPDATE sync.quarantine SET state = %s", (state,))
