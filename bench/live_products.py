"""What more live products cost: latency, the end of an epoch, and memory must not grow with them.

The road of ``latency`` at one rate, over more and more products, with the flow under observation (see
``observed_catalog_search``). Every product is as likely to change as any other, so the more there are, the
fewer of the changed ones are in the working set: that is the hard case.

The end of an epoch is the time from the source's first snapshot until the source is asked to go on. It
holds all that an epoch's end makes a change wait for: the batch under way, every step's snapshot, and the
commit to the recovery folder. (Bytewax's own ``snapshot_duration_seconds`` leaves the last out, and to read
it a port must be opened to the world.)

Memory is the flow's resident set at the end of a run. It grows with the working set, which is bounded in
bytes and fills as changes come, and with nothing else.
"""

from contextlib import ExitStack
from statistics import quantiles

import psutil

from bench.figures import Figure, below
from bench.goods import UPDATES
from bench.loading import Loader
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.observed_flow import ObservedFlow
from bench.road import start_relay, warm_up, work
from bench.scratch import scratch
from syncline.model.steps import END_TO_END
from syncline.services.shop import Shop
from syncline.settings import Settings

P99, EPOCH_END, MEMORY = "end to end P99", "end of an epoch P99", "memory"
_SEED = 13
_MOST_GROWTH = 2.0
"""From the fewest products to the most, which are fifty times as many."""


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    runs: list[Run] = []
    with scratch(settings, services=True) as own, ExitStack() as until:
        loader = Loader(own, _SEED)
        start_relay(own, until)
        warmed_up: list[Figure] = []
        for level in sizes.live_products_levels:
            loader.load(level, lambda count, of=level: tell(f"{count:,} of {of:,} products loaded"))  # type: ignore[misc]
            if not warmed_up:
                with ObservedFlow(own):
                    shop = Shop(own.source_dsns, _SEED - 1, UPDATES)
                    warmed_up = warm_up(own, shop, sizes.level_rate, sizes, tell)
            for number in range(sizes.rounds):
                tell(f"{level:,} products, round {number + 1} of {sizes.rounds}")
                runs.append({"live_products": level, "round": number, **_run(own, sizes, number)})
    return Outcome([*warmed_up, *_figures(runs, sizes)], runs)


def _run(settings: Settings, sizes: Sizes, number: int) -> Run:
    """One run, with a fresh process and an empty working set."""
    with ObservedFlow(settings) as flow:
        shop = Shop(settings.source_dsns, _SEED + number, UPDATES)
        run = work(settings, shop, sizes.level_rate, sizes.warm_up_seconds, sizes.seconds)
        memory_bytes = psutil.Process(flow.pid).memory_info().rss
    during = [seen for seen in flow.observations if run["from_us"] <= seen["at_us"] <= run["to_us"]]
    ends = [seen["epoch_end_ms"] for seen in during if "epoch_end_ms" in seen]
    percentiles = quantiles(ends, n=100, method="inclusive")
    return {
        **run,
        "epoch_ends_ms": ends,
        "epoch_end_p50_ms": percentiles[49],
        "epoch_end_p99_ms": percentiles[98],
        "memory_mib": memory_bytes / 2**20,
        "read_first": sum(seen.get("asked", 0) for seen in during),
        "written": sum(seen.get("written", 0) for seen in during),
    }


def _figures(runs: list[Run], sizes: Sizes) -> list[Figure]:
    found = []
    for level in sizes.live_products_levels:
        at_level = [run for run in runs if run["live_products"] == level]
        case = f"{level:,} products"
        p99 = tuple(run["latency_ms"][END_TO_END.name]["p99_ms"] for run in at_level)
        found += [
            Figure(case, P99, "ms", p99, below(200)),
            Figure(case, EPOCH_END, "ms", tuple(run["epoch_end_p99_ms"] for run in at_level)),
            Figure(case, MEMORY, "MiB", tuple(run["memory_mib"] for run in at_level)),
        ]
    return found + [_growth(found, name) for name in (P99, EPOCH_END, MEMORY)]


def _growth(figures: list[Figure], name: str) -> Figure:
    """The last level's median over the first's."""
    of_name = [figure for figure in figures if figure.name == name]
    growth = of_name[-1].median / of_name[0].median
    return Figure("most / fewest", name, "times", (growth,), below(_MOST_GROWTH))


def products_of(case: str) -> int:
    """The number of products in a case's title."""
    return int(case.split(maxsplit=1)[0].replace(",", ""))
