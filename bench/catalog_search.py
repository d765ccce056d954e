"""What is measured of ``catalog_search``, and in which sizes."""

from bench import (
    dataflow_alone,
    drain,
    elasticsearch_outage,
    endurance,
    latency,
    live_products,
    overload,
    redis_outage,
)
from bench.measurement import Measurement, Sizes, Suite

_LOADED_A_MINUTE = 60_000
"""Live products; see ``loading``."""

FULL = Sizes(
    rounds=3,
    alone_changes=100_000,
    drain_changes=100_000,
    rates=(100, latency.PEAK_RATE, 2_000),
    seconds=30,
    warm_up_seconds=10,
    servers_warm_up_seconds=300,
    live_products=200_000,
    live_products_levels=(10_000, 100_000, 500_000),
    level_rate=latency.PEAK_RATE,
    outage_seconds=180,
    endurance_seconds=1_200,
    overload_products=20_000,
    overload_drain_changes=50_000,
    overload_seconds=60,
)
QUICK = Sizes(
    rounds=1,
    alone_changes=5_000,
    drain_changes=2_000,
    rates=(100, latency.PEAK_RATE),
    seconds=5,
    warm_up_seconds=2,
    servers_warm_up_seconds=3,
    live_products=1_000,
    live_products_levels=(500, 2_000),
    level_rate=300,
    outage_seconds=20,
    endurance_seconds=60,
    overload_products=500,
    overload_drain_changes=2_000,
    overload_seconds=3,
)


def _run_seconds(sizes: Sizes) -> float:
    """One run of the road: waiting for fresh flows, warm-up, and the time that counts."""
    return 5 + sizes.warm_up_seconds + sizes.seconds


_MEASUREMENTS = (
    Measurement(
        "dataflow_alone",
        "the dataflow alone, into a store in memory",
        dataflow_alone.measure,
        lambda sizes: 0.2 + sizes.rounds * sizes.alone_changes / 200_000,
    ),
    Measurement(
        "drain",
        "draining a backlog, against the same bulk actions sent raw",
        drain.measure,
        lambda sizes: 0.5 + sizes.drain_changes / 100_000 * (3 + sizes.rounds * 4.5),
    ),
    Measurement(
        "latency",
        "from the commit to the acknowledged write, step by step",
        latency.measure,
        lambda sizes: (
            0.3
            + sizes.live_products / _LOADED_A_MINUTE
            + sizes.servers_warm_up_seconds / 60
            + sizes.rounds * len(sizes.rates) * _run_seconds(sizes) / 60
        ),
    ),
    Measurement(
        "live_products",
        "what more live products cost",
        live_products.measure,
        lambda sizes: (
            0.3
            + sizes.live_products_levels[-1] / _LOADED_A_MINUTE
            + sizes.servers_warm_up_seconds / 60
            + sizes.rounds * len(sizes.live_products_levels) * _run_seconds(sizes) / 60
        ),
    ),
    Measurement(
        "elasticsearch_outage",
        "Elasticsearch killed while changes go on",
        elasticsearch_outage.measure,
        lambda sizes: 1 + 2 * sizes.outage_seconds / 60,
        is_scenario=True,
    ),
    Measurement(
        "redis_outage",
        "Redis killed while changes go on, and what readers get",
        redis_outage.measure,
        lambda sizes: 1 + 2 * sizes.outage_seconds / 60,
        is_scenario=True,
    ),
    Measurement(
        "endurance",
        "the business's day, with its peaks, for a while",
        endurance.measure,
        lambda sizes: 1 + sizes.endurance_seconds / 60,
        is_scenario=True,
    ),
    Measurement(
        "overload",
        "three times as much as the flow can take",
        overload.measure,
        # The backlog takes as long again as it was offered, and twice that; and so do the servers.
        lambda sizes: len(overload.CASES) * (0.7 + 4 * sizes.overload_seconds / 60),
        is_scenario=True,
    ),
)
CATALOG_SEARCH = Suite(
    "catalog_search", {measurement.name: measurement for measurement in _MEASUREMENTS}, FULL, QUICK
)
