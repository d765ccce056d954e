"""The flow ``catalog_search`` under observation: the same process, source, steps and store, watched.

Run it as ``python -m bytewax.run bench.observed_catalog_search``, with the file for what is observed in
``SYNCLINE_BENCH_OBSERVATIONS``: a line of JSON for each batch that is read from the log, for each request
to the store, and for each end of an epoch. That is some ten lines for a thousand changes.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflows.catalog_search import NAME, build
from dataflows.copy_flow import kafka_source
from sinks.elasticsearch import ElasticsearchStore
from sinks.status import record_failure
from sources.kafka import State
from syncline.circuit import Circuits
from syncline.clock import system_clock_us
from syncline.model import envelope
from syncline.model.message import Message
from syncline.model.store import Outcome, Store, StoredDocument, Write, WriteResult
from syncline.process import settings_or_exit, start
from syncline.room import Room

OBSERVATIONS = "SYNCLINE_BENCH_OBSERVATIONS"
WATCHED = "watched-"
"""Begins the id of an event whose acknowledged writes are told by name."""
_EVENTS_WATCHED = re.compile(b'"event_id":"%s([^"]+)"' % WATCHED.encode())

Observe = Callable[..., None]
"""Takes what was observed, by name."""


def flow() -> Dataflow:
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(NAME, settings, lambda error: record_failure(NAME, dsn, error))
    circuits = Circuits(stop)
    observe = Observer(Path(os.environ[OBSERVATIONS]))
    room = Room()
    source = ObservedSource(kafka_source(NAME, settings, circuits.kafka, health.progress, room), observe)
    store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
    return build(settings, source, ObservedStore(store, observe), circuits, room)


class Observer:
    """Writes observations down; thread-safe."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def __call__(self, **observed: object) -> None:
        line = orjson.dumps({"at_us": system_clock_us(), **observed}) + b"\n"
        with self._lock:
            self._file.write(line)


class ObservedStore:
    """Counts what is asked of the store."""

    def __init__(self, store: Store, observe: Observe) -> None:
        self._store = store
        self._observe = observe

    def identity(self) -> str:
        return self._store.identity()

    def read(self, document_ids: Sequence[str]) -> Mapping[str, StoredDocument]:
        found = self._store.read(document_ids)
        self._observe(asked=len(document_ids), found=len(found))
        return found

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        results = self._store.write(writes)
        written = sum(result.outcome is Outcome.WRITTEN for result in results)
        size_bytes = sum(len(write.body) for write in writes)
        watched = [
            event.decode()
            for write, result in zip(writes, results, strict=True)
            if result.outcome is Outcome.WRITTEN
            for event in _EVENTS_WATCHED.findall(write.body)
        ]
        observed = {"watched": watched} if watched else {}
        self._observe(written=written, turned_away=len(writes) - written, bytes=size_bytes, **observed)
        return results

    def refresh(self) -> None:
        self._store.refresh()


def _event_of(message: Message) -> str:
    return next(((value or b"").decode() for name, value in message.headers if name == envelope.EVENT_ID), "")


class _EpochWatch:
    """Times the end of an epoch: from the source's first snapshot until the source is asked to go on."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._snapshot_began: float | None = None

    def snapshot(self) -> None:
        if self._snapshot_began is None:
            self._snapshot_began = time.perf_counter()

    def go_on(self) -> None:
        if self._snapshot_began is not None:
            self._observe(epoch_end_ms=(time.perf_counter() - self._snapshot_began) * 1000)
            self._snapshot_began = None


class _ObservedPartition(StatefulSourcePartition[Message, State]):
    def __init__(
        self, partition: StatefulSourcePartition[Message, State], watch: _EpochWatch, observe: Observe
    ) -> None:
        self._partition = partition
        self._watch = watch
        self._observe = observe

    def next_batch(self) -> list[Message]:
        self._watch.go_on()
        messages = list(self._partition.next_batch())
        if messages:
            watched = [
                (event[len(WATCHED) :], message.appended_at_us)
                for message in messages
                if (event := _event_of(message)).startswith(WATCHED)
            ]
            self._observe(messages=len(messages), **({"received": watched} if watched else {}))
        return messages

    def snapshot(self) -> State:
        self._watch.snapshot()
        return self._partition.snapshot()

    def close(self) -> None:
        self._partition.close()


class ObservedSource(FixedPartitionedSource[Message, State]):
    """Counts what is read, and times the ends of epochs. For one worker."""

    def __init__(self, source: FixedPartitionedSource[Message, State], observe: Observe) -> None:
        self._source = source
        self._observe = observe
        self._watch = _EpochWatch(observe)

    def list_parts(self) -> list[str]:
        return self._source.list_parts()

    def build_part(
        self, step_id: str, for_part: str, resume_state: State | None
    ) -> StatefulSourcePartition[Message, State]:
        partition = self._source.build_part(step_id, for_part, resume_state)
        return _ObservedPartition(partition, self._watch, self._observe)
