"""What readers get while Redis is killed, away, and back again, with the shop at work all the time.

Readers go through ``syncline/reads.py`` to a few hot products, and note the versions in each answer.
Meanwhile the sources and the copy are looked at again and again. An answer is stale where the source (or the
copy) was seen, more than a second before the read began, with a newer version of something in it. Told are
the stale ones from a second after Redis was started again on, what the answers said of their age during the
outage, and how long reads took.

The cache holds nothing after a kill, so nothing stale can be left in it; what could go wrong is what readers
fill while the flow does not invalidate yet. ``tests/sinks/test_redis_outage.py`` has a Redis that keeps what
it had.

Run it as ``syncline bench catalog_search --only redis_outage --seconds 60``.
"""

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Event
from typing import NamedTuple

import orjson
import psutil
from redis import Redis

from bench import machine
from bench.figures import Figure, at_least, below
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.road import FLOW, start_relay
from bench.scratch import scratch
from sinks.elasticsearch import ElasticsearchStore
from syncline.flow_processes import FlowProcesses
from syncline.model.errors import Misconfigured
from syncline.monitor.freshness import wait_until_fresh
from syncline.monitor.latency_report import step_latencies
from syncline.postgres import connect
from syncline.reads import Reads, Source
from syncline.services.shop import Shop
from syncline.settings import Settings
from syncline.stack.stack import Stack
from syncline.stopping import Stop

RATE = 500
_SERVER = "redis"
_SEED = 23
_PRODUCTS = 500
_HOT = 40
_READERS = 4
_READ_PAUSE_SECONDS = 0.01
_LOOK_SECONDS = 0.2
_ALLOWED_SECONDS = 1.0
_BEFORE_SHARE, _AFTER_SHARE = 1 / 3, 2 / 3
_CATCH_UP = timedelta(minutes=3)
_VERSIONS = """
    SELECT 'product:' || sku, version FROM catalog.products WHERE sku = ANY(%(skus)s) UNION ALL SELECT
    'price:' || currency || ':' || sku, version FROM pricing.prices WHERE sku = ANY(%(skus)s) UNION ALL SELECT
    'stock:' || warehouse_id || ':' || sku, version FROM warehouse.stock WHERE sku = ANY(%(skus)s)
"""

Versions = Mapping[str, int]
"""By entity."""


class Read(NamedTuple):
    began_at: float
    """Seconds since the epoch, as all times here."""
    took_seconds: float
    source: Source
    versions: Versions
    age_seconds: float | None
    """Between what the answer says that it is as of, and now; ``None`` where that is unknown."""


@dataclass
class Seen:
    """Which versions had been seen, by when."""

    _at: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _newest: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, versions: Iterable[tuple[str, int]]) -> None:
        now = time.time()
        for entity, version in versions:
            if not self._newest[entity] or version > self._newest[entity][-1]:
                self._at[entity].append(now)
                self._newest[entity].append(version)

    def is_newer(self, versions: Versions, by: float) -> bool:
        """Whether something newer had been seen by then."""
        for entity, version in versions.items():
            before = bisect_right(self._at[entity], by)
            if before and self._newest[entity][before - 1] > version:
                return True
        return False


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    server = _embedded(settings)
    with scratch(settings, services=True) as own, ExitStack() as until:
        start_relay(own, until)
        until.enter_context(
            FlowProcesses(FLOW, own, own.recovery_folder / FLOW, log=own.home / f"{FLOW}.log")
        )
        shop = Shop(own.source_dsns, _SEED)
        shop.seed_products(_PRODUCTS)
        wait_until_fresh(FLOW, own, _CATCH_UP)
        readers = Readers(own)
        until.callback(readers.close)
        stop, times = Stop(), {}

        def take_away() -> None:
            time.sleep(max(5.0, sizes.outage_seconds * _BEFORE_SHARE))
            server.kill(_SERVER)
            times["killed"] = time.time()
            time.sleep(sizes.outage_seconds)
            server.start(_SERVER)
            times["started"] = _started_at(own)
            time.sleep(max(10.0, sizes.outage_seconds * _AFTER_SHARE))

        tell(f"{RATE} changes/s, {_READERS} readers; Redis is away for {sizes.outage_seconds:.0f} s")
        with machine.watch() as load, ThreadPoolExecutor(_READERS + 2) as aside:
            at_work = [aside.submit(readers.read, seed) for seed in range(_READERS)]
            at_work.append(aside.submit(readers.look))
            away = aside.submit(take_away)
            away.add_done_callback(lambda _away: stop.request())
            try:
                summary = shop.run(RATE, stop=stop)
                away.result()
            finally:
                readers.is_over.set()
            for each in at_work:
                each.result()
        run: Run = {
            "rate": RATE,
            "achieved_rate": summary.rate,
            "outage_seconds": sizes.outage_seconds,
            "load": load.to_plain(),
            "invalidate_p95_ms": _invalidate_p95_ms(own, times["started"]),
            **readers.found(times["killed"], times["started"]),
        }
    return Outcome(_figures(run), [run])


class Readers:
    def __init__(self, settings: Settings) -> None:
        self.is_over = Event()
        self._dsn = settings.postgres_dsn.get_secret_value()
        self._store = ElasticsearchStore(settings.elasticsearch_url.get_secret_value(), settings.search_alias)
        self._reads = Reads(
            settings.redis_url.get_secret_value(),
            flow=FLOW,
            owners=("catalog", "pricing", "warehouse"),
            freshness_dsn=self._dsn,
        )
        self._in_source, self._in_copy = Seen(), Seen()
        self._done: list[Read] = []
        with connect(self._dsn) as connection:
            rows = connection.execute("SELECT sku FROM catalog.products ORDER BY sku LIMIT %s", (_HOT,))
            self._skus: list[str] = [sku for (sku,) in rows]

    def close(self) -> None:
        self._reads.close()
        self._store.close()

    def read(self, seed: int) -> None:
        draw = Random(seed)
        while not self.is_over.wait(_READ_PAUSE_SECONDS):
            sku, began_at = draw.choice(self._skus), time.time()
            answer = self._reads.get(f"product:{sku}", lambda sku=sku: self._stored(sku))  # type: ignore[misc]
            now = time.time()
            age_seconds = None if answer.as_of is None else now - answer.as_of.timestamp()
            self._done.append(
                Read(began_at, now - began_at, answer.source, _versions(answer.value), age_seconds)
            )

    def look(self) -> None:
        with connect(self._dsn) as connection:
            while not self.is_over.wait(_LOOK_SECONDS):
                self._in_source.add(connection.execute(_VERSIONS, {"skus": self._skus}).fetchall())
                for stored in self._store.read(self._skus).values():
                    self._in_copy.add(_versions(stored.body).items())

    def _stored(self, sku: str) -> bytes | None:
        found = self._store.read([sku]).get(sku)
        return None if found is None else found.body

    def found(self, killed_at: float, started_at: float) -> Run:
        """What came of it; complete when the readers have ended."""
        reads = {
            "before": [read for read in self._done if read.began_at < killed_at],
            "away": [read for read in self._done if killed_at <= read.began_at < started_at],
            "after": [read for read in self._done if read.began_at >= started_at + _ALLOWED_SECONDS],
        }
        return {
            phase: {
                "reads": len(done),
                "from_cache": sum(read.source is Source.CACHE for read in done),
                "older_than_source": sum(self._is_older(read, self._in_source) for read in done),
                "older_than_copy": sum(self._is_older(read, self._in_copy) for read in done),
                "last_older_than_copy_at": max(
                    (read.began_at - started_at for read in done if self._is_older(read, self._in_copy)),
                    default=None,
                ),
                "with_known_age": sum(read.age_seconds is not None for read in done),
                "age_p95_seconds": _p95([read.age_seconds for read in done if read.age_seconds is not None]),
                "p95_ms": 1_000 * _p95([read.took_seconds for read in done]),
            }
            for phase, done in reads.items()
        }

    def _is_older(self, read: Read, seen: Seen) -> bool:
        return seen.is_newer(read.versions, read.began_at - _ALLOWED_SECONDS)


def _started_at(settings: Settings) -> float:
    """When the process of this Redis was started, which is a little before it answers."""
    with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        return psutil.Process(redis.info("server")["process_id"]).create_time()


def _invalidate_p95_ms(settings: Settings, since: float) -> float:
    """From the acknowledged write to its invalidation: where that takes a second, hits are older than that
    too."""
    found = step_latencies(settings, FLOW, datetime.fromtimestamp(since, UTC))
    return next((each.p95_ms or 0.0 for each in found if each.step.name == "invalidate"), 0.0)


def _versions(body: bytes | None) -> dict[str, int]:
    if body is None:
        return {}
    return {entity: said["version"][1] for entity, said in orjson.loads(body)["_sync"]["entities"].items()}


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))] if values else 0.0


def _embedded(settings: Settings) -> Stack:
    """The stack whose Redis may be killed."""
    stack = Stack(settings.home)
    if stack.addresses().get("redis_url") != settings.redis_url.get_secret_value():
        raise Misconfigured(
            "redis_url: only an embedded server is killed for a bench; run: syncline stack up"
        )
    return stack


def _figures(run: Run) -> list[Figure]:
    case = f"away for {run['outage_seconds']:.0f} s"
    away, after = run["away"], run["after"]
    known = 100 * away["with_known_age"] / max(1, away["reads"])
    return [
        Figure(case, "achieved", "/s", (run["achieved_rate"],), at_least(0.98 * RATE)),
        Figure(
            case, "stale after return + 1 s, by the sources", "reads", (after["older_than_source"],), below(1)
        ),
        Figure(case, "stale after return + 1 s, by the copy", "reads", (after["older_than_copy"],), below(1)),
        Figure(case, "reads after return + 1 s", "", (after["reads"],), at_least(100)),
        Figure(case, "of these from the cache", "", (after["from_cache"],), at_least(1)),
        Figure(case, "answers during the outage", "", (away["reads"],), at_least(100)),
        Figure(case, "of these that say how old they are", "%", (known,), at_least(100)),
        Figure(case, "how old they say, P95", "s", (away["age_p95_seconds"],)),
        Figure(case, "from the write to its invalidation, P95", "ms", (run["invalidate_p95_ms"],)),
        *(
            Figure(case, f"read {phase}, P95", "ms", (run[phase]["p95_ms"],))
            for phase in ("before", "away", "after")
        ),
    ]
