"""The search flow over a store that dies of some documents: a bug that only real data finds."""

import os
import signal
from collections.abc import Sequence

from bytewax.dataflow import Dataflow

from dataflows.catalog_search import NAME, build
from dataflows.copy_flow import isolating, kafka_source
from sinks.elasticsearch import ElasticsearchStore
from sinks.status import record_failure
from syncline.circuit import Circuits
from syncline.model.store import Write, WriteResult
from syncline.process import settings_or_exit, start
from syncline.room import Room
from syncline.settings import Settings
from syncline.stopping import Stop

RAISES, CRASHES = "dies-by-exception", "dies-by-signal"
"""In the id of the document."""


class DyingStore(ElasticsearchStore):
    def __init__(self, settings: Settings, stop: Stop) -> None:
        super().__init__(settings.elasticsearch_url.get_secret_value(), settings.search_alias, stop)

    def write(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        for write in writes:
            if RAISES in write.document_id:
                raise ZeroDivisionError("a bug that nobody knows of")
            if CRASHES in write.document_id:
                os.kill(os.getpid(), signal.SIGSEGV)
        return super().write(writes)


def flow() -> Dataflow:
    settings = settings_or_exit()
    dsn = settings.postgres_dsn.get_secret_value()
    stop, health = start(NAME, settings, lambda error: record_failure(NAME, dsn, error))
    circuits, room = Circuits(stop), Room()
    source = kafka_source(NAME, settings, circuits.kafka, health.progress, room)
    return build(settings, isolating(source, stop), DyingStore(settings, stop), circuits, room)
