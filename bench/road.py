"""The whole road under load: the shop commits at a rate, relay and flow run, and the status tells how long
changes took."""

import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from bench import machine
from bench.compilers import CompilerWatch
from bench.figures import Figure
from bench.measurement import Run, Sizes, Tell
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
_WARM_UP_STEP_SECONDS = 15.0
_COMPILED_PERCENT = 5.0
"""Of a core: below it the compilers make no difference that the noise would show."""


def start_relay(settings: Settings, until: ExitStack) -> None:
    until.enter_context(FlowProcesses("outbox_relay", settings, None, log=settings.home / "outbox_relay.log"))


def warm_up(settings: Settings, shop: Shop, rate: int, sizes: Sizes, tell: Tell) -> list[Figure]:
    """Have the shop commit at the rate until the servers' compilers have little to do, but not for ever: by
    default they are done soon, and with ``stack_compiles_fully`` in minutes. Answers what it came to."""
    seconds, compiling_percent = 0.0, 100.0
    while seconds < sizes.servers_warm_up_seconds and compiling_percent > _COMPILED_PERCENT:
        tell(f"warming up the servers until their compilers are done; {seconds:.0f} s so far")
        step_seconds = min(_WARM_UP_STEP_SECONDS, sizes.servers_warm_up_seconds - seconds)
        compilers = CompilerWatch()
        shop.run(rate, seconds=step_seconds)
        wait_until_fresh(FLOW, settings, _CATCH_UP)
        compiling_percent = compilers.percent_of_a_core()
        seconds += step_seconds
    return [
        Figure("warm-up before all runs", "it took", "s", (seconds,)),
        Figure("warm-up before all runs", "compilers at its end", "% of a core", (compiling_percent,)),
    ]


def work(settings: Settings, shop: Shop, rate: int, warm_up_seconds: float, seconds: float) -> Run:
    """Have the shop commit at the rate, and answer how long the changes took that came after the warm-up."""
    wait_until_fresh(FLOW, settings, _CATCH_UP)
    shop.seed_products(0)  # looks at what is there, which takes a while
    # Servers, flows and shop share a machine and so a clock.
    since = datetime.now(UTC) + timedelta(seconds=warm_up_seconds)
    compilers = CompilerWatch()
    with machine.watch() as load:
        summary = shop.run(rate, seconds=warm_up_seconds + seconds)
    compiling_percent = compilers.percent_of_a_core()
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
        "compilers_percent_of_a_core": compiling_percent,
        "load": load.to_plain(),
    }
