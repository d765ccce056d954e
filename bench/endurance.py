"""The business's day: 10,000 changes a minute, and every fifth minute a peak of 50,000.

The whole road runs as in ``latency``, with the usual mix. What must hold: nothing is lost, and flow and
relay take as much memory in the last quarter as in the first, but for what the working set may take.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from statistics import mean

import psutil

from bench import machine
from bench.figures import Figure, at_least, below
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.road import FLOW
from bench.sampling import Sample, every
from bench.scratch import scratch
from syncline.flow_processes import FlowProcesses
from syncline.model.steps import END_TO_END
from syncline.monitor.freshness import read_freshness, wait_until_fresh
from syncline.monitor.latency_report import counts, step_latencies
from syncline.monitor.verification import verify
from syncline.postgres import connect
from syncline.services.shop import Shop
from syncline.settings import Settings

USUAL_RATE = 10_000 / 60
PEAK_RATE = 50_000 / 60
RELAY = "outbox_relay"
_PEAK_EVERY = 5
"""Phases: the last of so many is a peak."""
_PHASE_SECONDS = 60.0
_SEED = 19
_PRODUCTS = 2_000
_CATCH_UP = timedelta(minutes=5)
_LOOK_SECONDS = 2.0
_STATUS_INTERVAL_SECONDS = 1.5
_MOST_GROWTH_MIB = 100
"""Of the flow, whose working set may take 64 MiB."""
_MOST_RELAY_GROWTH_MIB = 20


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    with scratch(settings, services=True) as own, ExitStack() as until:
        processes = {
            name: until.enter_context(FlowProcesses(name, own, folder, log=own.home / f"{name}.log"))
            for name, folder in ((RELAY, None), (FLOW, own.recovery_folder / FLOW))
        }
        shop = Shop(own.source_dsns, _SEED)
        shop.seed_products(_PRODUCTS)
        wait_until_fresh(FLOW, own, _CATCH_UP)
        begun = datetime.now(UTC)
        samples = until.enter_context(every(_LOOK_SECONDS, _look(own, processes)))
        with machine.watch() as load:
            phases = _phases(own, shop, sizes.endurance_seconds, tell)
        wait_until_fresh(FLOW, own, _CATCH_UP)
        tell("comparing every document with its sources")
        report = verify(FLOW, own)
        run = {
            "seconds": sizes.endurance_seconds,
            "phases": phases,
            "decisions": dict(counts(own, FLOW, begun)),
            "differing": report.differing,
            "documents": report.documents,
            "samples": list(samples),
            "load": load.to_plain(),
        }
    return Outcome(_figures(run), [run])


def _phases(settings: Settings, shop: Shop, seconds: float, tell: Tell) -> list[Run]:
    """Phase by phase, what was achieved and how long changes took: short ones, where all is short."""
    phase_seconds = min(_PHASE_SECONDS, seconds / (2 * _PEAK_EVERY))
    phases = []
    for number in range(round(seconds / phase_seconds)):
        is_peak = number % _PEAK_EVERY == _PEAK_EVERY - 1
        rate = PEAK_RATE if is_peak else USUAL_RATE
        tell(f"{number * phase_seconds:,.0f} of {seconds:,.0f} s: {rate:,.0f} changes/s")
        since = datetime.now(UTC)
        summary = shop.run(rate, seconds=phase_seconds)
        time.sleep(_STATUS_INTERVAL_SECONDS)
        latencies = step_latencies(settings, FLOW, since)
        end_to_end = [latency for latency in latencies if latency.step is END_TO_END]
        phases.append(
            {
                "is_peak": is_peak,
                "rate": rate,
                "achieved_rate": summary.rate,
                "changes": summary.changes,
                "p50_ms": max(latency.p50_ms or 0.0 for latency in end_to_end),
                "p95_ms": max(latency.p95_ms or 0.0 for latency in end_to_end),
                "p99_ms": max(latency.p99_ms or 0.0 for latency in end_to_end),
            }
        )
    return phases


def _look(settings: Settings, processes: dict[str, FlowProcesses]) -> Callable[[], Sample]:
    looked_at = {name: psutil.Process(each.processes[0].pid) for name, each in processes.items()}
    # Open as long as the bench's process.
    connection = connect(settings.postgres_dsn.get_secret_value())

    def look() -> Sample:
        told = read_freshness(connection, FLOW, settings).values()
        lags = [datetime.now(UTC) - as_of for as_of in told if as_of]
        return {
            "lag_ms": max(lags).total_seconds() * 1_000 if lags else None,
            **{f"memory_bytes_{name}": process.memory_info().rss for name, process in looked_at.items()},
        }

    return look


def _figures(run: Run) -> list[Figure]:
    case = f"{run['seconds'] / 60:.3g} min"
    samples: list[Sample] = run["samples"]
    quarter = max(1, len(samples) // 4)
    found = [Figure(case, "documents unlike their sources", "", (run["differing"],), below(1))]
    for name, most_mib in ((FLOW, _MOST_GROWTH_MIB), (RELAY, _MOST_RELAY_GROWTH_MIB)):
        mib = [seen[f"memory_bytes_{name}"] / 2**20 for seen in samples]
        first, last = mean(mib[:quarter]), mean(mib[-quarter:])
        title = name.replace("_", " ")
        found += [
            Figure(case, f"memory of {title}, first quarter", "MiB", (first,)),
            Figure(case, f"memory of {title}, growth to the last", "MiB", (last - first,), below(most_mib)),
        ]
    lags_ms = tuple(seen["lag_ms"] for seen in samples if seen["lag_ms"] is not None)
    found.append(Figure(case, "freshness, oldest", "ms", (max(lags_ms),)))
    for title, is_peak in (("usual", False), ("peak", True)):
        of_kind = [phase for phase in run["phases"] if phase["is_peak"] is is_peak]
        rates = tuple(phase["achieved_rate"] for phase in of_kind)
        found.append(Figure(title, "achieved", "/s", rates, at_least(0.98 * of_kind[0]["rate"])))
        for percentile, target in (("p50", None), ("p95", below(500)), ("p99", None)):
            values = tuple(phase[f"{percentile}_ms"] for phase in of_kind)
            found.append(Figure(title, f"end to end {percentile.upper()}", "ms", values, target))
    return found
