"""A shop whose tables and documents are written by hand: what verification compares."""

from datetime import datetime
from typing import Any

import psycopg
from elasticsearch import Elasticsearch
from psycopg.types.json import Jsonb

from syncline.policies.reentry import topics_read
from syncline.settings import Settings
from tests.changes import NOON_US, SEARCH

Document = dict[str, Any]


class Shop:
    def __init__(self, connection: psycopg.Connection, client: Elasticsearch, alias: str) -> None:
        self.connection = connection
        self.client = client
        self._alias = alias

    def sell(self, sku: str) -> Document:
        """A product with a price and stock in two warehouses, in the tables; its document is returned."""
        self.run(
            "INSERT INTO catalog.products"
            " VALUES (%s, 'Cup', 'Of porcelain', 'Acme', 'kitchen', %s, %s, 'active')",
            sku,
            Jsonb({"colour": "red", "weight": 0.25}),
            ["new", "sale"],
        )
        self.run(
            "INSERT INTO pricing.prices VALUES (%s, 'EUR', 12.90, 9.99, '2024-05-01 12:00+02', 'infinity')",
            sku,
        )
        self.run("INSERT INTO warehouse.stock VALUES ('W1', %s, 7, 2), ('W2', %s, 3, 0)", sku, sku)
        return {
            "sku": sku,
            "name": "Cup",
            "description": "Of porcelain",
            "brand": "Acme",
            "category": "kitchen",
            "attributes": {"colour": "red", "weight": 0.25},
            "tags": ["new", "sale"],
            "status": "active",
            "prices": {
                "EUR": {
                    "list_e4": 129_000,
                    "sale_e4": 99_900,
                    "valid_from": "2024-05-01T10:00:00.000000Z",
                    "valid_to": None,
                }
            },
            "stock": {
                "on_hand": 10,
                "reserved": 2,
                "available": 8,
                "in_stock": True,
                "by_warehouse": {"W1": {"on_hand": 7, "reserved": 2}, "W2": {"on_hand": 3, "reserved": 0}},
            },
            "_sync": {"version": 1, "hidden": False, "entities": self.entities(sku)},
        }

    def entities(self, sku: str) -> Document:
        """On record as they are in the tables now."""
        rows = self.connection.execute(
            """
            SELECT 'product:' || sku, version FROM catalog.products WHERE sku = %(sku)s
            UNION ALL
            SELECT 'price:' || currency || ':' || sku, version FROM pricing.prices WHERE sku = %(sku)s
            UNION ALL
            SELECT 'stock:' || warehouse_id || ':' || sku, version FROM warehouse.stock WHERE sku = %(sku)s
            """,
            {"sku": sku},
        )
        return {
            entity: {
                "version": [1, version, 0, 0],
                "hash": "0",
                "event_id": f"event-{version}",
                "origin": f"topic/0@{version}",
                "committed_at_us": NOON_US,
                "synced_at_us": NOON_US + 5_000,
            }
            for entity, version in rows
        }

    def sell_early(self, sku: str) -> Document:
        """As ``sell``, but of the product itself nobody has heard yet; the document is in the index too."""
        document = self.sell(sku)
        self.run("DELETE FROM catalog.products WHERE sku = %s", sku)
        early = {name: document[name] for name in ("sku", "prices", "stock", "_sync")}
        early["_sync"] |= {"hidden": True, "entities": self.entities(sku)}
        self.index(early)
        return early

    def index(self, document: Document, document_id: str | None = None) -> None:
        document_id = document_id or document["sku"]
        self.client.index(index=self._alias, id=document_id, document=document)

    def document(self, document_id: str) -> Document:
        found: Document = self.client.get(index=self._alias, id=document_id)["_source"]
        return found

    def run(self, statement: str, *values: object) -> None:
        self.connection.execute(statement.encode(), values)

    def quarantine(
        self, entity: str, version: int, op_rank: int = 0, state: str = "open", correction: int = 0
    ) -> None:
        """A change that the flow decoded and then could not use."""
        entity_type, _, entity_id = entity.partition(":")
        self.connection.execute(
            """
            INSERT INTO sync.quarantine (
                flow, step, state, error, reason, entity_type, entity_id, version,
                topic, partition, "offset", message_key, headers, fingerprint
            ) VALUES (
                'catalog_search', 'apply', %s, 'Invalid', 'a rule', %s, %s, %s, 'topic', 0, 0, %s, '[]', %s
            )
            """,
            (
                state,
                entity_type,
                entity_id,
                Jsonb([1, version, op_rank, correction]),
                entity_id.rpartition(":")[2].encode(),
                f"{entity}{version}".encode(),
            ),
        )

    def freshness(self, settings: Settings, reached: datetime) -> None:
        """All that was committed before is in the copy, as a worker of the flow said a moment ago."""
        topics = topics_read(SEARCH, settings.topic_prefix)
        partitions = [f"{topic}/{number}" for topic in topics for number in range(settings.topic_partitions)]
        self.run(
            "INSERT INTO sync.status (flow, run, worker, state, watermarks)"
            " VALUES ('catalog_search', gen_random_uuid(), '0', 'running', %s)",
            Jsonb(dict.fromkeys(partitions, int(reached.timestamp() * 1e6))),
        )

    def empty(self) -> None:
        for table in (
            "catalog.products",
            "pricing.prices",
            "warehouse.stock",
            "sync.quarantine",
            "sync.conflicts",
            "sync.reviews",
            "sync.status",
            "sync.outbox",
            "sync.overdue_references",
        ):
            self.run(f"DELETE FROM {table}")
        # What a flow of a test wrote too, and what the alias hides.
        index = next(iter(self.client.indices.get_alias(name=self._alias)))
        self.client.indices.refresh(index=index)
        found = self.client.search(index=index, query={"match_all": {}}, size=10_000, source=False)
        if ids := [hit["_id"] for hit in found["hits"]["hits"]]:
            self.client.bulk(index=index, operations=[{"delete": {"_id": id_}} for id_ in ids], refresh=True)
