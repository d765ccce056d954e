"""How fast a backlog in Kafka is brought into Elasticsearch, against the same bulk actions sent raw.

Measured: from the moment that the flow, stopped while the backlog was appended, goes on until Elasticsearch
has acknowledged the last document, in the real process of the flow with recovery on, and all four servers on
this machine. Documents a second are those that the store acknowledged; changes a second differ from them
only where one write carries several changes of one document.

In each round the raw rate is taken too (see ``raw_bulk``): ``create`` actions into an empty index for new
products, plain ``index`` actions over a copy of the same loaded index for updates, with bodies made of the
same changes by the same code. Flow and raw take turns in going first.

Not measured: starting the process and connecting (a warm-up is drained before), and publishing. Each change
is of a product of its own, so that no write carries two. Updates of products that are held are preceded by an
update of each, which puts them in the working set; it is made large enough to hold them all.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from elasticsearch import Elasticsearch

from bench import indices, machine, raw_bulk
from bench.backlog import Backlog, read_records
from bench.drain_goods import DrainGoods, prepare
from bench.figures import Figure, Target, at_least
from bench.measurement import Outcome, Run, Sizes, Tell
from bench.observed_flow import FLOW, ObservedFlow
from bench.raw_bulk import DEFAULT, WAYS, Way
from bench.scratch import PREFIX, delete_indices, elasticsearch_client, scratch
from syncline.clock import system_clock_us
from syncline.model.errors import FatalError
from syncline.monitor.latency_report import counts
from syncline.settings import Settings


class Case(NamedTuple):
    title: str
    op_type: str
    """Of the raw actions."""
    target: Target
    """The flow's rate as a share of the raw one, in per cent."""
    working_set_mib: int | None = None
    """``None`` is as set."""


CASES = {
    "new": Case("new products", "create", at_least(70)),
    "not_held": Case("updates, not held", "index", at_least(55)),
    # 100,000 documents of 2 KiB, and room to spare: they are not evenly spread over the set's parts.
    "held": Case("updates, held", "index", at_least(80), working_set_mib=512),
}

FLOW_RATE, CHANGES_RATE, RAW_RATE, BEST_RATE = "flow", "flow, changes", "raw, default", "raw, best"
SHARE, BEST_SHARE = "flow / raw, default", "flow / raw, best"

_DRAIN_TIMEOUT_SECONDS = 300


def measure(settings: Settings, sizes: Sizes, tell: Tell) -> Outcome:
    figures: list[Figure] = []
    runs: list[Run] = []
    with elasticsearch_client(settings) as client:
        for case in CASES:
            found = _measure_case(case, settings, client, sizes, tell)
            figures += _figures(case, found)
            runs += found
    return Outcome(figures, runs)


def _measure_case(
    case: str, settings: Settings, client: Elasticsearch, sizes: Sizes, tell: Tell
) -> list[Run]:
    title, op_type, _, working_set_mib = CASES[case]
    folder = settings.home / "bench" / f"drain-{case}"
    base = f"{PREFIX}-base-{case.replace('_', '-')}"
    tell(f"{title}: making up {sizes.drain_changes:,} changes")
    goods = prepare(case, sizes.drain_changes, folder)
    loaded: str | None = None
    if op_type == "index":
        tell(f"{title}: loading the index")
        indices.create_empty(client, base, settings)
        raw_bulk.measure(settings, base, goods.base, "create", DEFAULT, warm_up=0)
        indices.seal(client, base)
        loaded = base
    runs = []
    for number in range(sizes.rounds):
        names = ["flow", *map(str, WAYS)] if number % 2 == 0 else [*map(str, WAYS), "flow"]
        for name in names:
            tell(f"{title}: round {number + 1} of {sizes.rounds}, {name}")
            if name == "flow":
                run = _drain(settings, client, goods, loaded, working_set_mib)
            else:
                way = next(way for way in WAYS if str(way) == name)
                run = _send_raw(settings, client, goods, loaded, op_type, way)
            runs.append({"case": case, "round": number, "what": name, **run})
    delete_indices(settings, base)
    shutil.rmtree(folder)
    return runs


def _drain(
    settings: Settings,
    client: Elasticsearch,
    goods: DrainGoods,
    base: str | None,
    working_set_mib: int | None,
) -> Run:
    with scratch(settings, index=False, working_set_mib=working_set_mib) as own:
        indices.create_for_flow(client, own, base)
        backlog = Backlog(own)
        begun = datetime.now(UTC)
        with ObservedFlow(own) as flow:
            _append(backlog, goods.warm_up_records, goods.warm_up)
            flow.wait_until_drained(goods.warm_up, _DRAIN_TIMEOUT_SECONDS)
            flow.pause()
            _append(backlog, goods.measured_records, goods.measured)
            with machine.watch() as load:
                went_on_us = system_clock_us()
                flow.go_on()
                flow.wait_until_drained(goods.warm_up + goods.measured, _DRAIN_TIMEOUT_SECONDS)
        decided = counts(own, FLOW, begun)
        if sum(decided.values()) != goods.warm_up + goods.measured:
            raise FatalError(f"the flow decided {dict(decided)} of {goods.warm_up + goods.measured} changes")
    seen = [observed for observed in flow.observations if observed["at_us"] >= went_on_us]
    done_us = max(observed["at_us"] for observed in seen if "written" in observed)
    return {
        "changes": goods.measured,
        "documents": sum(observed.get("written", 0) for observed in seen),
        "bytes": sum(observed.get("bytes", 0) for observed in seen),
        "turned_away": sum(observed.get("turned_away", 0) for observed in seen),
        "read_first": sum(observed.get("asked", 0) for observed in seen),
        "requests": sum("written" in observed for observed in seen),
        "seconds": (done_us - went_on_us) / 1e6,
        "decisions": dict(decided),
        "load": load.to_plain(),
    }


def _append(backlog: Backlog, records: Path, expected: int) -> None:
    if backlog.append(read_records(records)) != expected:
        raise FatalError(f"{records} does not hold {expected} records")


def _send_raw(
    settings: Settings, client: Elasticsearch, goods: DrainGoods, base: str | None, op_type: str, way: Way
) -> Run:
    name = f"{PREFIX}-raw-{system_clock_us()}"
    if base is None:
        indices.create_empty(client, name, settings)
    else:
        indices.copy(client, base, name)
    try:
        with machine.watch() as load:
            run = raw_bulk.measure(settings, name, goods.bodies, op_type, way, goods.warm_up)
    finally:
        delete_indices(settings, name)
    return {**run, "load": load.to_plain()}


def _figures(case: str, runs: list[Run]) -> list[Figure]:
    title, _, target, _ = CASES[case]
    rates = {
        what: tuple(run["documents"] / run["seconds"] for run in runs if run["what"] == what)
        for what in ("flow", *map(str, WAYS))
    }
    changes = tuple(run["changes"] / run["seconds"] for run in runs if run["what"] == "flow")
    best = max((str(way) for way in WAYS), key=lambda way: median(rates[way]))

    def share(of: str) -> tuple[float, ...]:
        return tuple(100 * flow / raw for flow, raw in zip(rates["flow"], rates[of], strict=True))

    return [
        Figure(title, CHANGES_RATE, "/s", changes),
        Figure(title, FLOW_RATE, "documents/s", rates["flow"]),
        Figure(title, RAW_RATE, "documents/s", rates[str(DEFAULT)]),
        Figure(title, BEST_RATE, f"/s, {best}", rates[best]),
        Figure(title, SHARE, "%", share(str(DEFAULT)), target),
        Figure(title, BEST_SHARE, "%", share(best), target),
    ]
