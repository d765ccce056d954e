"""How long a change takes from its commit in PostgreSQL to the acknowledged write, step by step.

The whole road as it runs in earnest: the shop's services commit by their own roles, the relay publishes, the
flow keeps the copy, with recovery on; relay and flow are processes of their own, and all four servers and
the shop share this machine. Beforehand the sources and the index hold the live products (see ``loading``).
The shop's usual mix: orders and prices, edits, launches, deletes, the popular products more often.

Percentiles come from the flow's own histograms in ``sync.status``, whose buckets are 6 % apart, and are
those of every change that was decided after the warm-up. Before all runs the servers are warmed up at the
peak until their compilers have little to do; what these still took during a run is told. The rate that the
shop achieved is told, too: where it fell short, the figures are those of less work than was asked for.
"""

from contextlib import ExitStack

from bench.figures import Figure, Target, at_least, below
from bench.loading import Loader
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.road import FLOW, start_relay, warm_up, work
from bench.scratch import scratch
from syncline.flow_processes import FlowProcesses
from syncline.model.steps import END_TO_END, STEPS
from syncline.services.shop import Shop
from syncline.settings import Settings

PEAK_RATE = 833
"""Changes a second: the business's peak."""
PERCENTILES = ("p50", "p95", "p99")
_PEAK_TARGETS = {"p95": below(50), "p99": below(200)}
_SEED = 11


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    runs: list[Run] = []
    with scratch(settings, services=True) as own, ExitStack() as until:
        loader = Loader(own, _SEED)
        loader.load(
            sizes.live_products, lambda count: tell(f"{count:,} of {sizes.live_products:,} products loaded")
        )
        start_relay(own, until)
        until.enter_context(
            FlowProcesses(FLOW, own, own.recovery_folder / FLOW, log=own.home / f"{FLOW}.log")
        )
        shop = Shop(own.source_dsns, _SEED)
        warmed_up = warm_up(own, shop, PEAK_RATE, sizes, tell)
        for number in range(sizes.rounds):
            for rate in sizes.rates:
                tell(f"round {number + 1} of {sizes.rounds}: {rate:,} changes/s")
                run = work(own, shop, rate, sizes.warm_up_seconds, sizes.seconds)
                runs.append({"round": number, "live_products": sizes.live_products, **run})
    return Outcome([*warmed_up, *figures(runs, sizes)], runs)


def figures(runs: list[Run], sizes: Sizes) -> list[Figure]:
    """End to end for each rate, and the steps at the peak, within their budgets."""
    found = []
    for rate in sizes.rates:
        at_rate = [run for run in runs if run["rate"] == rate]
        case = f"{rate:,} changes/s"
        achieved = tuple(run["achieved_rate"] for run in at_rate)
        found.append(Figure(case, "achieved", "/s", achieved, at_least(0.98 * rate)))
        compilers = tuple(run["compilers_percent_of_a_core"] for run in at_rate)
        found.append(Figure(case, "servers' compilers", "% of a core", compilers))
        for percentile in PERCENTILES:
            target = _PEAK_TARGETS.get(percentile) if rate == PEAK_RATE else None
            found.append(_figure(case, END_TO_END.name, percentile, at_rate, target))
        if rate == PEAK_RATE:
            found += [
                _figure(
                    case, step.name, "p95", at_rate, None if step.budget_ms is None else below(step.budget_ms)
                )
                for step in STEPS
            ]
    return found


def _figure(case: str, step: str, percentile: str, runs: list[Run], target: Target | None) -> Figure:
    values = tuple(run["latency_ms"][step][f"{percentile}_ms"] for run in runs)
    return Figure(case, f"{step.replace('_', ' ')} {percentile.upper()}", "ms", values, target)
