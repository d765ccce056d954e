"""The whole road under load: the shop commits at a rate, relay and flow run, and the status tells how long
changes took."""

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from bench import machine
from bench.measurement import Run
from syncline.flow_processes import FlowProcesses
from syncline.model.steps import END_TO_END
from syncline.monitor.freshness import wait_until_fresh
from syncline.monitor.latency_report import counts, step_latencies
from syncline.services.shop import Shop
from syncline.settings import Settings

FLOW = "catalog_search"
_CATCH_UP = timedelta(seconds=120)
_STATUS_INTERVAL_SECONDS = 1.5
"""A little more than the flow takes from one row of its status to the next."""


def start_relay(settings: Settings, until: ExitStack) -> None:
    until.enter_context(FlowProcesses("outbox_relay", settings, None, log=settings.home / "outbox_relay.log"))


def work(settings: Settings, shop: Shop, rate: int, warm_up_seconds: float, seconds: float) -> Run:
    """Have the shop commit at the rate, and answer how long the changes took that came after the warm-up."""
    wait_until_fresh(FLOW, settings, _CATCH_UP)
    shop.seed_products(0)  # looks at what is there, which takes a while
    # Servers, flows and shop share a machine and so a clock.
    since = datetime.now(UTC) + timedelta(seconds=warm_up_seconds)
    with machine.watch() as load:
        summary = shop.run(rate, seconds=warm_up_seconds + seconds)
    until = datetime.now(UTC)
    wait_until_fresh(FLOW, settings, _CATCH_UP)
    time.sleep(_STATUS_INTERVAL_SECONDS)
    latencies = step_latencies(settings, FLOW, since)
    by_step = {
        latency.step.name: {"p50_ms": latency.p50_ms, "p95_ms": latency.p95_ms, "p99_ms": latency.p99_ms}
        for latency in latencies
    }
    measured = {latency.step.name: latency.changes for latency in latencies}
    return {
        "rate": rate,
        "achieved_rate": summary.rate,
        "seconds": seconds,
        "from_us": round(since.timestamp() * 1e6),
        "to_us": round(until.timestamp() * 1e6),
        "changes": measured.get(END_TO_END.name, 0),
        "decisions": dict(counts(settings, FLOW, since)),
        "latency_ms": by_step,
        "load": load.to_plain(),
    }
