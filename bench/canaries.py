"""How fresh the copy is in truth, by products that are changed all the time and looked for in the index.

What a flow tells of its freshness is a promise: all that was committed before is in the copy. One canary that
was committed before and is not there breaks it. There are enough of them to be in every partition of the log.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from elasticsearch import Elasticsearch, TransportError

from syncline.settings import Settings

_COUNT = 12
_SECONDS_BETWEEN = 0.25
_CHANGE = """
INSERT INTO catalog.products (sku, name)
SELECT 'CANARY-' || number, %(name)s FROM generate_series(1, %(count)s) AS number
ON CONFLICT (sku) DO UPDATE SET name = excluded.name
"""
_COMMITTED_AT = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Canaries:
    """Rounds of changes, each with a time after its commit, and what the copy has of them."""

    def __init__(self, settings: Settings) -> None:
        self._dsn = settings.postgres_dsn.get_secret_value()
        self._alias = settings.search_alias
        self._client = Elasticsearch(
            settings.elasticsearch_url.get_secret_value(), request_timeout=2, max_retries=0
        )
        self._committed_by_us: list[int] = []
        """By round: its commit was before this time."""
        self._all_have = 0
        """Rounds that every canary in the copy has, when it was last seen."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        over = threading.Event()

        def change() -> None:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                while not over.wait(_SECONDS_BETWEEN):
                    name = str(len(self._committed_by_us))
                    connection.execute(_CHANGE, {"name": name, "count": _COUNT})
                    [(now_us,)] = connection.execute(_COMMITTED_AT).fetchall()
                    self._committed_by_us.append(now_us)

        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._client.close()

    def oldest_missing_us(self) -> int | None:
        """A time before which the oldest change was committed that the copy lacks; ``None``: it lacks none.

        While the copy cannot be read nothing enters it, so what was missing still is.
        """
        rounds = len(self._committed_by_us)
        try:
            ids = [f"CANARY-{number}" for number in range(1, _COUNT + 1)]
            found = self._client.mget(index=self._alias, ids=ids, source_includes=["name"])["docs"]
        except TransportError:
            found = []
        # A server that is just back answers with an error for each document, until its shards are there.
        if found and not any("error" in document for document in found):
            self._all_have = min(
                int(document["_source"]["name"]) + 1 if document["found"] else 0 for document in found
            )
        return self._committed_by_us[self._all_have] if self._all_have < rounds else None
