"""How many changes a second one core takes through the flow's own steps, without any server.

Measured: decode, route, transform, apply (resolve, validate, merge, over a store in memory), the
collecting of cache keys, and the report of the confirmation, as CPU seconds of a fresh process that runs
them under Bytewax, with the garbage collector as a flow's process sets it. Messages are made beforehand
and come in batches of the size that the Kafka source hands on.

Not measured: what Kafka's, Elasticsearch's, Redis' and PostgreSQL's clients cost, and snapshots.

Two workloads: new products with their prices and stock, in the order in which a shop commits them; and
the shop's updates spread evenly over products that the store holds and the working set does not.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from bench import fresh_process, machine
from bench.documents import Documents
from bench.figures import Figure, at_least
from bench.fresh_process import Parameters
from bench.goods import Goods
from bench.ledger import Committed, as_read, record
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.null_store import NullStore
from operators.apply import WindowLimits, apply
from operators.decode import decode
from operators.route import route
from operators.transform import transform
from sinks.confirmation import report_of
from sinks.index_refresh import IndexRefresh
from sinks.redis_invalidation import Invalidated, RedisInvalidation, invalidate
from sinks.status import Report
from syncline.circuit import Circuits
from syncline.clock import system_clock_us
from syncline.model.decision import Conflict
from syncline.model.errors import FatalError
from syncline.model.failure import Failure
from syncline.model.message import Message
from syncline.policies.cache_keys import PRODUCT_RULES
from syncline.policies.reading import load_policies
from syncline.policies.search_document import SearchDocument
from syncline.process import start
from syncline.settings import Settings

CASES = {"new": "new products", "updates": "updates, shuffled"}
TARGET = at_least(40_000)

X = TypeVar("X")

_TOPIC_PREFIX = "syncline-bench"
_CHANGES_A_PRODUCT = 5


def measure(_settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    runs: list[Run] = []
    for number in range(sizes.rounds):
        for case, title in CASES.items():
            tell(f"round {number + 1} of {sizes.rounds}: {title}")
            with machine.watch() as load:
                parameters = {"case": case, "changes": sizes.alone_changes, "seed": number}
                run = fresh_process.run("bench.dataflow_alone", parameters)
            runs.append({"case": case, **run, "load": load.to_plain()})
    figures = [
        Figure(
            title,
            "changes a core",
            "/s",
            tuple(run["changes"] / run["cpu_seconds"] for run in runs if run["case"] == case),
            TARGET,
        )
        for case, title in CASES.items()
    ]
    return Outcome(figures, runs)


class _NoCache(RedisInvalidation):
    def invalidate(self, names: Iterable[str]) -> None:
        list(names)


@dataclass(slots=True)
class _Ends:
    """What came out of the flow."""

    report: Report = field(default_factory=Report)
    failures: int = 0

    def confirm(self, items: list[Invalidated]) -> None:
        self.report.merge(report_of(items, system_clock_us(), 0))

    def fail(self, items: list[Failure] | list[Conflict]) -> None:
        self.failures += len(items)


class _End(DynamicSink[X]):
    """Hands each batch to a function."""

    def __init__(self, take: Callable[[list[X]], None]) -> None:
        self._take = take

    def build(
        self,
        step_id: str,  # noqa: ARG002 - the signature is Bytewax's
        worker_index: int,  # noqa: ARG002
        worker_count: int,  # noqa: ARG002
    ) -> StatelessSinkPartition[X]:
        return _Taking(self._take)


class _Taking(StatelessSinkPartition[X]):
    def __init__(self, take: Callable[[list[X]], None]) -> None:
        self._take = take

    def write_batch(self, items: list[X]) -> None:
        self._take(items)


def flow(
    settings: Settings, messages: list[Message], store: NullStore, circuits: Circuits, ends: _Ends
) -> Dataflow:
    """The steps of ``dataflows/catalog_search.py``, over ends that cost nothing."""
    limits = WindowLimits(
        max_changes=settings.window_max_changes,
        max_age=timedelta(milliseconds=settings.window_max_age_ms),
        working_set_bytes=settings.working_set_mib * 1024 * 1024,
    )
    policy = load_policies().flow("catalog_search")
    dataflow = Dataflow("dataflow_alone")
    raw = op.input("changes", dataflow, TestingSource(messages, batch_size=settings.source_batch_messages))
    decoded = decode("decode", raw, policy.topics(_TOPIC_PREFIX))
    wanted = route("route", decoded.oks, policy.subscription)
    documents = transform("transform", wanted, policy)
    applied = apply(
        "apply", documents.oks, SearchDocument(), policy.rules, store, limits, circuits.elasticsearch
    )
    cache = _NoCache(settings.redis_url.get_secret_value(), circuits.redis)
    invalidated = invalidate(
        "invalidate", applied.oks, cache, PRODUCT_RULES.stale, IndexRefresh(store.refresh)
    )
    op.output("confirm", op.key_rm("unkey", invalidated), _End(ends.confirm))
    op.output("failed", op.merge("bad", decoded.errs, documents.errs, applied.errs), _End(ends.fail))
    op.output("conflicts", applied.conflicts, _End(ends.fail))
    return dataflow


def _messages(changes: Iterable[Committed]) -> list[Message]:
    return list(as_read((record(change, _TOPIC_PREFIX) for change in changes), system_clock_us()))


def _new(count: int, seed: int) -> list[Message]:
    goods = Goods(seed, keeps_rows=False)
    launches = chain.from_iterable(goods.launch() for _ in range(count))
    return _messages(change for change, _ in zip(launches, range(count), strict=False))


def _updates(count: int, seed: int, store: NullStore) -> list[Message]:
    goods, documents = Goods(seed), Documents(_TOPIC_PREFIX)
    for _ in range(count // _CHANGES_A_PRODUCT):
        document_id, body = documents.new(goods.launch())
        store.bodies[document_id] = body
    return _messages(goods.updates(count))


def _measure(parameters: Parameters) -> Run:
    """In the fresh process: prepare, run, count."""
    count, store, ends = parameters["changes"], NullStore(), _Ends()
    seed = parameters["seed"]
    messages = _new(count, seed) if parameters["case"] == "new" else _updates(count, seed, store)
    settings = Settings(health_port=0, log_level="WARNING")
    stop, _ = start("dataflow_alone", settings, lambda _error: None)
    dataflow = flow(settings, messages, store, Circuits(stop), ends)
    wall, cpu = time.perf_counter(), time.process_time()
    run_main(dataflow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    decided = ends.report.counts.total()
    if ends.failures or decided != count:
        raise FatalError(f"of {count} changes {decided} were decided and {ends.failures} failed")
    return {
        "changes": count,
        "bytes_a_message": sum(len(message.value or b"") for message in messages) / count,
        "documents_written": store.writes,
        "decisions": {str(decision): number for decision, number in ends.report.counts.items()},
        "cpu_seconds": cpu,
        "wall_seconds": wall,
    }


if __name__ == "__main__":
    fresh_process.answer(_measure)
