"""The flows that keep copies, with a log of what their stores acknowledged.

Run one as ``python -m bytewax.run tests.chaos.flows:catalog_search``, with the file for the log in
``SYNCLINE_CHAOS_ACKNOWLEDGED``: a line of JSON for each write that the store said it had taken. Where
``SYNCLINE_CHAOS_ACKNOWLEDGES_FIRST`` is set the flow has a bug: it is told so before the write.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Queue

import orjson
from bytewax.dataflow import Dataflow
from tenacity import retry, retry_if_exception_type, wait_fixed

from dataflows import catalog_search as search
from dataflows import customer_profiles as profiles
from dataflows.copy_flow import kafka_source
from sinks.elasticsearch import ElasticsearchStore
from sinks.postgres_documents import PostgresStore
from sinks.status import record_failure
from syncline.circuit import Circuits
from syncline.model.errors import Unavailable
from syncline.model.store import Outcome, Store, StoredDocument, Write, WriteResult
from syncline.process import settings_or_exit, start
from syncline.room import Room

ACKNOWLEDGED = "SYNCLINE_CHAOS_ACKNOWLEDGED"
ACKNOWLEDGES_FIRST = "SYNCLINE_CHAOS_ACKNOWLEDGES_FIRST"


def catalog_search() -> Dataflow:
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(search.NAME, settings, lambda error: record_failure(search.NAME, dsn, error))
    circuits, room = Circuits(stop), Room()
    source = kafka_source(search.NAME, settings, circuits.kafka, health.progress, room)
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias, stop)
    circuits.elasticsearch.hold_place("asking the store who it is")(store.identity)
    return search.build(settings, source, _observed(store), circuits, room)


def customer_profiles() -> Dataflow:
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(profiles.NAME, settings, lambda error: record_failure(profiles.NAME, dsn, error))
    circuits, room = Circuits(stop), Room()
    source = kafka_source(profiles.NAME, settings, circuits.kafka, health.progress, room)
    store = PostgresStore(dsn, f"syncline-{profiles.NAME}-copy", stop)
    circuits.postgres.hold_place("asking the store who it is")(store.identity)
    return profiles.build(settings, source, _observed(store), circuits, room)


def _observed(store: Store) -> Store:
    if os.environ.get(ACKNOWLEDGES_FIRST):
        store = StoreThatAcknowledgesFirst(store)
    return AcknowledgedStore(store, Path(os.environ[ACKNOWLEDGED]))


class AcknowledgedStore:
    """Notes each acknowledged write, before the flow is told of it."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def identity(self) -> str:
        return self._store.identity()

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        return self._store.read(document_ids)

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        results = self._store.write(writes)
        lines = b"".join(
            _line(write, result)
            for write, result in zip(writes, results, strict=True)
            if result.outcome is Outcome.WRITTEN
        )
        with self._lock:
            self._file.write(lines)
        return results

    def refresh(self) -> None:
        self._store.refresh()


def _line(write: Write, result: WriteResult) -> bytes:
    entities = orjson.loads(write.body)["_sync"]["entities"]
    versions = {entity: record["version"] for entity, record in entities.items()}
    token = result.token and list(result.token)
    return orjson.dumps({"id": write.document_id, "token": token, "versions": versions}) + b"\n"


class StoreThatAcknowledgesFirst:
    """A bug for the suite to find: writes are acknowledged at once, and made in the background.

    Reads see them all, so nothing shows as long as the process lives. The writes ask no circuit: who reads
    has its only turn while the store is away, and waits for them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: Queue[Sequence[Write]] = Queue()
        threading.Thread(target=self._write_in_background, daemon=True).start()

    def identity(self) -> str:
        return self._store.identity()

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        self._waiting.join()
        return self._store.read(document_ids)

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        self._waiting.put(writes)
        return [WriteResult(Outcome.WRITTEN)] * len(writes)

    def refresh(self) -> None:
        self._store.refresh()

    def _write_in_background(self) -> None:
        until_taken = retry(retry=retry_if_exception_type(Unavailable), wait=wait_fixed(0.1))
        while True:
            until_taken(self._store.write)(self._waiting.get())
            self._waiting.task_done()
