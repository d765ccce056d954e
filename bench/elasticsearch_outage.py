"""Elasticsearch is killed while changes go on, and started again after some minutes.

What must hold: the flow's memory does not grow with what waits, nothing is lost, the copy is soon as quick as
before, and what is told of its freshness is true all the while. That is checked by ``canaries``.

The whole road runs as in ``latency``. The time to recover counts from the moment that Elasticsearch answers
again, to the first second from which on P95 keeps below the business's limit.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import psutil

from bench import machine
from bench.canaries import Canaries
from bench.figures import Figure, at_least, below
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.road import FLOW, start_relay
from bench.sampling import Sample, every
from bench.scratch import scratch
from syncline.flow_processes import FlowProcesses
from syncline.model.errors import Misconfigured
from syncline.model.steps import END_TO_END
from syncline.monitor.freshness import read_freshness, wait_until_fresh
from syncline.monitor.latency_report import read_step_latencies
from syncline.monitor.verification import verify
from syncline.postgres import connect
from syncline.services.shop import Shop
from syncline.settings import Settings
from syncline.stack.stack import Stack
from syncline.stopping import Stop

RATE = 500
P95_LIMIT_MS = 500
_SERVER = "elasticsearch"
_SEED = 17
_PRODUCTS = 1_000
_BEFORE_SHARE, _AFTER_SHARE = 1 / 3, 2 / 3
"""How long it is watched before and after, for each second that Elasticsearch is away."""
_CATCH_UP = timedelta(minutes=10)
_LOOK_SECONDS = 0.5
_MOST_GROWTH_MIB = 50
_MOST_RECOVERY_SECONDS = 60
_NEVER_SECONDS = 86_400.0


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    server = _embedded(settings)
    with scratch(settings, services=True) as own, ExitStack() as until:
        start_relay(own, until)
        flow = until.enter_context(
            FlowProcesses(FLOW, own, own.recovery_folder / FLOW, log=own.home / f"{FLOW}.log")
        )
        shop = Shop(own.source_dsns, _SEED)
        shop.seed_products(_PRODUCTS)
        wait_until_fresh(FLOW, own, _CATCH_UP)
        canaries = Canaries(own)
        until.enter_context(canaries.at_work())
        samples = until.enter_context(every(_LOOK_SECONDS, _look(own, flow, canaries)))
        times: dict[str, datetime] = {}
        stop = Stop()
        after_seconds = sizes.outage_seconds * _AFTER_SHARE

        def take_away() -> None:
            time.sleep(sizes.outage_seconds * _BEFORE_SHARE)
            server.kill(_SERVER)
            times["killed"] = datetime.now(UTC)
            time.sleep(sizes.outage_seconds)
            server.start(_SERVER)
            times["returned"] = datetime.now(UTC)
            time.sleep(after_seconds)

        tell(f"{RATE} changes/s; Elasticsearch is away for {sizes.outage_seconds:.0f} s")
        with machine.watch() as load, ThreadPoolExecutor(1) as aside:
            away = aside.submit(take_away)
            away.add_done_callback(lambda _away: stop.request())
            summary = shop.run(RATE, stop=stop)
            away.result()
            wait_until_fresh(FLOW, own, _CATCH_UP)
        tell("comparing every document with its sources")
        report = verify(FLOW, own)
        run = {
            "rate": RATE,
            "achieved_rate": summary.rate,
            "outage_seconds": (times["returned"] - times["killed"]).total_seconds(),
            "killed_at_us": _us(times["killed"]),
            "returned_at_us": _us(times["returned"]),
            "recovery_seconds": _recovery_seconds(own, times["returned"], after_seconds),
            "differing": report.differing,
            "documents": report.documents,
            "samples": list(samples),
            "load": load.to_plain(),
        }
    return Outcome(_figures(run), [run])


def _embedded(settings: Settings) -> Stack:
    """The stack whose Elasticsearch may be killed."""
    stack = Stack(settings.home)
    if stack.addresses().get("elasticsearch_url") != settings.elasticsearch_url.get_secret_value():
        raise Misconfigured(
            "elasticsearch_url: only an embedded server is killed for a bench; run: syncline stack up"
        )
    return stack


def _look(settings: Settings, flow: FlowProcesses, canaries: Canaries) -> Callable[[], Sample]:
    process = psutil.Process(flow.processes[0].pid)
    # Open as long as the bench's process: it looks twice a second.
    connection = connect(settings.postgres_dsn.get_secret_value())

    def look() -> Sample:
        # What is told first, then what is there: what is missing now was missing then.
        told = read_freshness(connection, FLOW, settings).values()
        return {
            "memory_bytes": process.memory_info().rss,
            "fresh_as_of_us": min((_us(as_of) for as_of in told if as_of), default=None),
            "oldest_missing_us": canaries.oldest_missing_us(),
        }

    return look


def _recovery_seconds(settings: Settings, returned: datetime, within: float) -> float:
    """From the return to the first second from which on P95 keeps below the limit."""
    with connect(settings.postgres_dsn.get_secret_value()) as connection:
        for seconds in range(int(within)):
            since = returned + timedelta(seconds=seconds)
            found = {latency.step: latency.p95_ms for latency in read_step_latencies(connection, FLOW, since)}
            if (p95_ms := found.get(END_TO_END)) is not None and p95_ms < P95_LIMIT_MS:
                return float(seconds)
    return _NEVER_SECONDS


def _figures(run: Run) -> list[Figure]:
    samples: list[Sample] = run["samples"]
    before = [seen["memory_bytes"] for seen in samples if seen["at_us"] < run["killed_at_us"]]
    after = [seen["memory_bytes"] for seen in samples if seen["at_us"] >= run["killed_at_us"]]
    growth_mib = (max(after) - before[-1]) / 2**20
    lies_ms = [
        (seen["fresh_as_of_us"] - seen["oldest_missing_us"]) / 1_000
        for seen in samples
        if seen["fresh_as_of_us"] is not None and seen["oldest_missing_us"] is not None
    ]
    case = f"away for {run['outage_seconds']:.0f} s"
    return [
        Figure(case, "achieved", "/s", (run["achieved_rate"],), at_least(0.98 * RATE)),
        Figure(case, "memory, growth", "MiB", (growth_mib,), below(_MOST_GROWTH_MIB)),
        Figure(case, "documents unlike their sources", "", (run["differing"],), below(1)),
        Figure(
            case, "P95 below 500 ms after", "s", (run["recovery_seconds"],), below(_MOST_RECOVERY_SECONDS)
        ),
        Figure(case, "told fresher than it is, at most", "ms", (max(lies_ms),), below(1)),
        Figure(case, "looks at freshness", "", (len(lies_ms),)),
    ]


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
