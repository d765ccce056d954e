"""Three times as many changes as the flow can take: do critical ones overtake, is memory flat, does all come?

First the rate that the flow sustains is found: a backlog of product edits is drained. Then three times
as many changes a second are appended to Kafka for a while: prices and stock at a tenth of the
sustainable rate, as in ordinary times, and a flood of edits of products. Each is stamped as committed
when it is appended, so the time that counts is from there to the acknowledged write. The flow is the
real process, with recovery on, under observation (see ``observed_catalog_search``); all servers and this
process share the machine.

Three cases: edits spread evenly; half of them of one product; evenly, and one of 5 MB each second besides.

Lag is what was appended and not yet read by the flow, and memory is the flow's resident set, both twice a
second. Afterwards the flow drains the rest, and each entity that was touched must stand in the index in
the version that was appended last.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from random import Random
from statistics import quantiles
from typing import Any, NamedTuple

import psutil
from elasticsearch import Elasticsearch

from bench import indices, machine
from bench.backlog import producer
from bench.documents import Documents
from bench.figures import Figure, below
from bench.goods import Goods
from bench.ledger import Committed, record
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.observed_catalog_search import WATCHED
from bench.observed_flow import FLOW, ObservedFlow
from bench.raw_bulk import DEFAULT, Body, open_client, send
from bench.scratch import elasticsearch_client, scratch
from syncline.clock import system_clock_us
from syncline.model import envelope
from syncline.model.errors import FatalError
from syncline.monitor.latency_report import counts
from syncline.provision import search_index_name
from syncline.settings import Settings

CRITICAL_P95, MEMORY_GROWTH, LOST = "critical P95", "memory growth", "not delivered"
OVERLOAD = 3
"""Times the sustainable rate."""
CRITICAL_SHARE = 0.1
"""Of the sustainable rate: critical changes alone must not be more than the flow can take."""
HOT_SHARE = 0.5
LARGE_BYTES = 5_000_000
LARGE_EVERY_SECONDS = 1.0

_SEED = 17
_EVER = datetime(2026, 1, 1, tzinfo=UTC)
_DRAIN_TIMEOUT_SECONDS = 900
_TICK_SECONDS = 0.005
_MEMORY_INTERVAL_SECONDS = 0.5
_FIRST_VERSION = 1_000_000_000
_IDS_A_REQUEST = 500
_VERSION = b'"version": '


class Template(NamedTuple):
    """A change of one entity, but for its version."""

    document_id: str
    entity: str
    topic: str
    until_version: bytes


class Products(NamedTuple):
    edits: Sequence[Template]
    prices_and_stock: Sequence[Template]
    large: Template


class Case(NamedTuple):
    title: str
    hot_share: float = 0.0
    has_large: bool = False


CASES = (
    Case("spread evenly"),
    Case("half of the edits of one product", hot_share=HOT_SHARE),
    Case("5 MB each second besides", has_large=True),
)


class Appending:
    """Appends changes, and remembers the last version of each entity."""

    def __init__(self, settings: Settings) -> None:
        self.sent = 0
        self.last: dict[tuple[str, str], int] = {}
        """By document and entity."""
        self._producer = producer(settings)
        self._versions = count(_FIRST_VERSION)

    def append(self, template: Template, *, watched: bool = False) -> None:
        version, now_us = next(self._versions), system_clock_us()
        event_id = f"{WATCHED}{now_us}-{version}" if watched else str(version)
        headers = {
            envelope.EVENT_ID: event_id,
            envelope.EVENT_TYPE: "updated",
            envelope.COMMITTED_AT_US: str(now_us),
            envelope.COMMIT_TIME_IS_ESTIMATED: "0",
            envelope.DETECTED_AT_US: str(now_us),
            envelope.GENERATION: "1",
        }
        self._producer.produce(
            template.topic,
            key=template.document_id.encode(),
            value=template.until_version + b"%d}" % version,
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
        self.last[template.document_id, template.entity] = version
        self.sent += 1

    def mark(self, topic: str) -> None:
        """A watermark, as the relay sends them each second: the flow tells of itself when something comes."""
        header = (envelope.WATERMARK_US, str(system_clock_us()).encode())
        self._producer.produce(topic, partition=0, headers=[header])
        self.flush()

    def poll(self) -> None:
        self._producer.poll(0)

    def flush(self) -> None:
        if self._producer.flush(60):
            raise FatalError("Kafka does not take the changes in time")


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    runs: list[Run] = []
    for case in CASES:
        with scratch(settings, index=False) as own, elasticsearch_client(own) as client:
            tell(f"{case.title}: loading {sizes.overload_products:,} products")
            indices.create_for_flow(client, own, None)
            products = _load(own, sizes.overload_products)
            with ObservedFlow(own) as flow:
                appending = Appending(own)
                tell(f"{case.title}: finding the sustainable rate")
                rate = _sustainable_rate(own, flow, appending, products, sizes.overload_drain_changes)
                tell(
                    f"{case.title}: {OVERLOAD} times {rate:,.0f} changes/s for {sizes.overload_seconds:.0f} s"
                )
                run = _overload(own, flow, appending, products, case, rate, sizes.overload_seconds)
            lost = _not_delivered(client, own, appending.last)
            runs.append({"case": case.title, "sustainable_rate": rate, **run, "not_delivered": lost})
    return Outcome(_figures(runs), runs)


def _load(settings: Settings, count_: int) -> Products:
    goods, documents = Goods(_SEED), Documents(settings.topic_prefix)
    edits: list[Template] = []
    others: list[Template] = []
    launched: list[Committed] = []

    def bodies() -> Iterator[Body]:
        for _ in range(count_):
            changes = goods.launch()
            launched.append(changes[0])
            for change in changes:
                (edits if change.policy.type == "product" else others).append(_template(change, settings))
            yield documents.new(changes)

    with open_client(settings.elasticsearch_url.get_secret_value(), DEFAULT) as client:
        send(client, search_index_name(settings), bodies(), "create", DEFAULT)
    words = " ".join(str(number) for number in range(LARGE_BYTES // 7))
    large = launched[-1]._replace(row={**launched[-1].row, "description": words.ljust(LARGE_BYTES, ".")})
    return Products(edits[:-1], others, _template(large, settings))


def _template(change: Committed, settings: Settings) -> Template:
    topic, _, value, *_ = record(change, settings.topic_prefix)
    text = value or b""
    until_version = text[: text.rindex(_VERSION) + len(_VERSION)]
    return Template(change.sku, f"{change.policy.type}:{change.id}", topic, until_version)


def _sustainable_rate(
    settings: Settings, flow: ObservedFlow, appending: Appending, products: Products, changes: int
) -> float:
    """Of product edits, as a backlog is drained; one of each product before that warms up."""
    for template in products.edits:
        appending.append(template)
    appending.flush()
    _wait_until_decided(settings, flow, appending, products.large.topic)
    flow.pause()
    random = Random(_SEED)
    for _ in range(changes):
        appending.append(random.choice(products.edits))
    appending.flush()
    begun_us = system_clock_us()
    flow.go_on()
    _wait_until_decided(settings, flow, appending, products.large.topic)
    return changes / (_last_write_us(flow) - begun_us) * 1e6


def _overload(
    settings: Settings,
    flow: ObservedFlow,
    appending: Appending,
    products: Products,
    case: Case,
    rate: float,
    seconds: float,
) -> Run:
    sent_before, process = appending.sent, psutil.Process(flow.pid)
    memory_before = process.memory_info().rss
    memory: list[tuple[float, float]] = []
    appended: list[tuple[int, int]] = []
    choose = _choice(products, case)
    begun, begun_us = time.monotonic(), system_clock_us()
    next_large = LARGE_EVERY_SECONDS if case.has_large else seconds
    with machine.watch() as load:
        while (elapsed := time.monotonic() - begun) < seconds:
            for _ in range(int(elapsed * OVERLOAD * rate) - (appending.sent - sent_before)):
                template, is_critical = choose()
                appending.append(template, watched=is_critical)
            if elapsed >= next_large:
                next_large += LARGE_EVERY_SECONDS
                appending.append(products.large)
            appending.poll()
            if elapsed >= len(memory) * _MEMORY_INTERVAL_SECONDS:
                memory.append((round(elapsed, 1), process.memory_info().rss / 2**20))
                appended.append((system_clock_us(), appending.sent))
            time.sleep(_TICK_SECONDS)
        appending.flush()
        ended_us = system_clock_us()
        _wait_until_decided(settings, flow, appending, products.large.topic)
    memory.append((time.monotonic() - begun, process.memory_info().rss / 2**20))
    latencies = _critical_latencies_ms(flow.observations)
    percentiles = quantiles(latencies, n=100, method="inclusive")
    return {
        "offered_rate": (appending.sent - sent_before) / (ended_us - begun_us) * 1e6,
        "critical_changes_seen": len(latencies),
        "critical_p50_ms": percentiles[49],
        "critical_p95_ms": percentiles[94],
        "critical_p99_ms": percentiles[98],
        "critical_max_ms": max(latencies),
        "lag": [
            (round((at_us - begun_us) / 1e6, 1), sent - _read_until(flow.observations, at_us))
            for at_us, sent in appended
        ],
        "memory_mib": memory,
        "memory_before_mib": memory_before / 2**20,
        "drained_after_seconds": (_last_write_us(flow) - ended_us) / 1e6,
        "turned_away": sum(seen.get("turned_away", 0) for seen in flow.observations),
        "load": load.to_plain(),
    }


def _wait_until_decided(settings: Settings, flow: ObservedFlow, appending: Appending, topic: str) -> None:
    """A slow machine is quiet at times, too: what counts is what the flow says of itself."""
    changes = appending.sent
    flow.wait_until_drained(changes, _DRAIN_TIMEOUT_SECONDS)
    deadline = time.monotonic() + _DRAIN_TIMEOUT_SECONDS
    while (decided := sum(counts(settings, FLOW, _EVER).values())) < changes:
        if time.monotonic() > deadline:
            raise FatalError(f"the flow decided {decided:,} of {changes:,} changes")
        appending.mark(topic)
        time.sleep(_MEMORY_INTERVAL_SECONDS)
    flow.wait_until_drained(changes, _DRAIN_TIMEOUT_SECONDS)


def _last_write_us(flow: ObservedFlow) -> int:
    return max(int(seen["at_us"]) for seen in flow.observations if "written" in seen)


def _choice(products: Products, case: Case) -> Callable[[], tuple[Template, bool]]:
    """Draws the next change, and whether it is a critical one."""
    random = Random(_SEED + 1)
    hot, *others = products.edits

    def choose() -> tuple[Template, bool]:
        if random.random() < CRITICAL_SHARE / OVERLOAD:
            return random.choice(products.prices_and_stock), True
        return (hot if random.random() < case.hot_share else random.choice(others)), False

    return choose


def _critical_latencies_ms(observations: Iterable[dict[str, Any]]) -> list[float]:
    """Of each critical change, to the first acknowledged write of its document that holds it. One that was
    superseded by a later one of its entity was never written, and is left out."""
    acknowledged: dict[str, int] = {}
    for seen in observations:
        for event in seen.get("watched", ()):
            acknowledged.setdefault(event, seen["at_us"])
    return [(at_us - int(event.split("-")[0])) / 1000 for event, at_us in acknowledged.items()]


def _read_until(observations: Iterable[dict[str, Any]], at_us: int) -> int:
    return sum(seen["messages"] for seen in observations if "messages" in seen and seen["at_us"] <= at_us)


def _not_delivered(client: Elasticsearch, settings: Settings, last: dict[tuple[str, str], int]) -> int:
    """How many entities do not stand in their last version."""
    wanted: dict[str, dict[str, int]] = {}
    for (document_id, entity), version in last.items():
        wanted.setdefault(document_id, {})[entity] = version
    ids, lost = list(wanted), 0
    for start in range(0, len(ids), _IDS_A_REQUEST):
        found = client.mget(
            index=search_index_name(settings),
            ids=ids[start : start + _IDS_A_REQUEST],
            source_includes=["_sync.entities"],
        )
        for document in found["docs"]:
            entities = document["_source"]["_sync"]["entities"]
            lost += sum(
                entities.get(entity, {}).get("version", [0, 0])[1] != version
                for entity, version in wanted[document["_id"]].items()
            )
    return lost


def _figures(runs: Sequence[Run]) -> list[Figure]:
    found = []
    for run in runs:
        case = run["case"]
        most = max(size for _, size in run["memory_mib"])
        found += [
            Figure(case, "sustainable", "/s", (run["sustainable_rate"],)),
            Figure(case, "offered", "/s", (run["offered_rate"],)),
            Figure(case, "critical P50", "ms", (run["critical_p50_ms"],)),
            Figure(case, CRITICAL_P95, "ms", (run["critical_p95_ms"],), below(1_000)),
            Figure(case, "critical P99", "ms", (run["critical_p99_ms"],)),
            Figure(case, "lag at the end", "changes", (run["lag"][-1][1],)),
            Figure(case, MEMORY_GROWTH, "MiB", (most - run["memory_before_mib"],), below(50)),
            Figure(case, "drained after", "s", (run["drained_after_seconds"],)),
            Figure(case, LOST, "entities", (run["not_delivered"],), below(1)),
        ]
    return found
